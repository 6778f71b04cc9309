//! Walks the properties of a packet once, so that forbidden ones are found before the packet is taken. MQTT 5, section 2.2.2.

pub use crate::core::mqtt_property::*;
use crate::mqtt::session::SessionError;

/// Passes each property to `each`; fails on one that is not in `allowed`, and on a second one where one is allowed.
#[inline(always)]
pub fn walk<'a>(
    mut rest: &'a [u8],
    allowed: PropertySet,
    mut each: impl FnMut(u8, Value<'a>) -> Result<(), SessionError>,
) -> Result<(), SessionError> {
    let mut seen = 0;
    while !rest.is_empty() {
        let Some((id, value)) = property(&mut rest) else {
            return Err(SessionError::malformed("properties that cannot be read"));
        };
        if allowed >> id & 1 == 0 {
            return Err(SessionError::malformed("a property that does not belong to its packet"));
        }
        if (seen & !REPEATABLE) >> id & 1 == 1 {
            return Err(SessionError::protocol("a property twice that may be there once"));
        }
        seen |= 1 << id;
        each(id, value)?;
    }
    Ok(())
}
