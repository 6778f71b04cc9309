//! How long to wait between attempts: `mqtt.reconnect` and `clickhouse.retry`.

use crate::config::object_reader::ObjectReader;
use crate::config::schema::WAITS;
use crate::core::backoff::Limits;
use crate::core::error::Result;

/// `section`: `None` where it was left out.
pub fn backoff(section: Option<ObjectReader<'_>>) -> Result<Limits> {
    let o = section.unwrap_or_else(|| ObjectReader::empty(&WAITS));
    let min = o.duration_or_default("minMs")?;
    let max = o.duration_or_default("maxMs")?;
    if o.has("maxMs") && max < min {
        return Err(o.wrong("maxMs", "must not be less than minMs"));
    }
    o.finish()?;
    Ok(Limits { min, max: max.max(min) })
}
