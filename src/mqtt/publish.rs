//! PUBLISH, the packet that matters: parsed in place, everything borrowed from the read buffer.
//!
//! All other packets go through rumqttc's codec; this one would cost an allocation per message there. Layout: MQTT 5,
//! section 3.3; MQTT 3.1.1 is the same without properties.

use super::SessionError;

#[derive(Debug, Clone, Copy)]
pub struct Publish<'a> {
    pub topic: &'a [u8],
    pub payload: &'a [u8],
    pub qos: u8,
    pub retain: bool,
    pub duplicate: bool,
    /// 0 at QoS 0.
    pub packet_id: u16,
    pub properties: Properties<'a>,
}

/// What comes before the payload.
#[derive(Debug, Clone, Copy)]
pub struct Head<'a> {
    pub topic: &'a [u8],
    pub qos: u8,
    pub retain: bool,
    pub duplicate: bool,
    pub packet_id: u16,
    /// Bytes of topic and packet id.
    len: usize,
}

impl<'a> Head<'a> {
    /// Reads flags, topic and packet id; `Ok(None)` if `body` does not reach that far yet.
    pub fn parse(flags: u8, body: &'a [u8]) -> Result<Option<Head<'a>>, SessionError> {
        let qos = flags >> 1 & 3;
        if qos == 3 {
            return Err(SessionError::Malformed("a PUBLISH with QoS 3")); // [MQTT-3.3.1-4]
        }
        let duplicate = flags & 8 != 0;
        if duplicate && qos == 0 {
            return Err(SessionError::Malformed("a PUBLISH with DUP at QoS 0")); // [MQTT-3.3.1-2]
        }
        let mut rest = body;
        let Some(topic) = binary(&mut rest) else { return Ok(None) };
        let mut packet_id = 0;
        if qos > 0 {
            let Some(id) = number::<2>(&mut rest) else { return Ok(None) };
            if id == 0 {
                return Err(SessionError::Malformed("a PUBLISH with packet id 0")); // [MQTT-2.2.1-4]
            }
            packet_id = id as u16;
        }
        let len = body.len() - rest.len();
        Ok(Some(Head { topic, qos, retain: flags & 1 != 0, duplicate, packet_id, len }))
    }
}

impl<'a> Publish<'a> {
    /// Reads a whole PUBLISH from the low bits of its first byte and what follows the fixed header.
    pub fn parse(flags: u8, body: &'a [u8], has_properties: bool) -> Result<Publish<'a>, SessionError> {
        let head =
            Head::parse(flags, body)?.ok_or(SessionError::Malformed("a PUBLISH that ends in its head"))?;
        let mut payload = &body[head.len..];
        let mut properties = Properties::NONE;
        if has_properties {
            let split = varint(&mut payload)
                .and_then(|len| payload.split_at_checked(len))
                .ok_or(SessionError::Malformed("a PUBLISH that ends in its properties"))?;
            payload = split.1;
            properties = Properties::check(split.0)?;
        }
        if head.topic.is_empty() {
            // We announce no topic alias maximum, so there is no alias that could stand in: [MQTT-3.3.2-8].
            return Err(SessionError::Malformed("a PUBLISH with an empty topic"));
        }
        Ok(Publish {
            topic: head.topic,
            payload,
            qos: head.qos,
            retain: head.retain,
            duplicate: head.duplicate,
            packet_id: head.packet_id,
            properties,
        })
    }
}

/// The properties of a PUBLISH, of which the user's own and the subscription identifiers are looked at.
#[derive(Debug, Clone, Copy)]
pub struct Properties<'a>(&'a [u8]);

enum Property<'a> {
    User(&'a [u8], &'a [u8]),
    SubscriptionId(usize),
    Other,
}

impl<'a> Properties<'a> {
    pub const NONE: Properties<'static> = Properties(&[]);

    /// Walks all properties once, so that what is malformed is found before the message is taken.
    fn check(bytes: &'a [u8]) -> Result<Self, SessionError> {
        let mut rest = bytes;
        while !rest.is_empty() {
            next_property(&mut rest)
                .ok_or(SessionError::Malformed("a PUBLISH with malformed properties"))??;
        }
        Ok(Properties(bytes))
    }

    /// Bytes that were checked before.
    pub fn checked(bytes: &'a [u8]) -> Self {
        Properties(bytes)
    }

    pub fn as_bytes(self) -> &'a [u8] {
        self.0
    }

    /// The first user property of that name, if its value is UTF-8.
    pub fn user(self, key: &str) -> Option<&'a str> {
        let value = self.iter().find_map(|property| match property {
            Property::User(name, value) if name == key.as_bytes() => Some(value),
            _ => None,
        });
        std::str::from_utf8(value?).ok()
    }

    /// The identifiers of the subscriptions that brought the message.
    pub fn subscription_ids(self) -> impl Iterator<Item = usize> + Clone {
        self.iter().filter_map(|property| match property {
            Property::SubscriptionId(id) => Some(id),
            _ => None,
        })
    }

    fn iter(self) -> impl Iterator<Item = Property<'a>> + Clone {
        let mut rest = self.0;
        std::iter::from_fn(move || next_property(&mut rest)?.ok())
    }
}

/// Takes one property off. `None`: there is none, or the bytes end inside it.
fn next_property<'a>(rest: &mut &'a [u8]) -> Option<Result<Property<'a>, SessionError>> {
    let (id, tail) = rest.split_first()?;
    *rest = tail;
    // MQTT 5, table 2-4: the properties a PUBLISH may have.
    match id {
        0x01 => drop(number::<1>(rest)?),
        0x02 => drop(number::<4>(rest)?),
        0x03 | 0x08 | 0x09 => drop(binary(rest)?),
        0x0b => return Some(Ok(Property::SubscriptionId(varint(rest)?))),
        0x23 => return Some(Err(SessionError::Malformed("a topic alias, though none was allowed"))), // [MQTT-3.3.2-11]
        0x26 => return Some(Ok(Property::User(binary(rest)?, binary(rest)?))),
        _ => {
            return Some(Err(SessionError::Malformed(
                "a PUBLISH with a property that does not belong there",
            )));
        }
    }
    Some(Ok(Property::Other))
}

/// Big-endian.
fn number<const N: usize>(rest: &mut &[u8]) -> Option<u32> {
    let (head, tail) = rest.split_first_chunk::<N>()?;
    *rest = tail;
    Some(head.iter().fold(0, |value, byte| value << 8 | *byte as u32))
}

/// Bytes behind their length of two bytes; strings are the same.
fn binary<'a>(rest: &mut &'a [u8]) -> Option<&'a [u8]> {
    let len = number::<2>(rest)? as usize;
    let (head, tail) = rest.split_at_checked(len)?;
    *rest = tail;
    Some(head)
}

/// MQTT 5, section 1.5.5.
fn varint(rest: &mut &[u8]) -> Option<usize> {
    let mut value = 0;
    for shift in [0, 7, 14, 21] {
        let (byte, tail) = rest.split_first()?;
        *rest = tail;
        value |= ((byte & 0x7f) as usize) << shift;
        if byte & 0x80 == 0 {
            return Some(value);
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_publish_is_read_in_place() {
        let body = b"\x00\x03a/b\x00\x07payload";
        let publish = Publish::parse(0b1011, body, false).unwrap();
        assert_eq!((publish.topic, publish.payload), (&b"a/b"[..], &b"payload"[..]));
        assert_eq!((publish.qos, publish.packet_id, publish.duplicate, publish.retain), (1, 7, true, true));
        let publish = Publish::parse(0, b"\x00\x01t", false).unwrap();
        assert_eq!((publish.topic, publish.payload, publish.qos), (&b"t"[..], &b""[..], 0));
    }

    #[test]
    fn user_properties_are_found_among_the_others() {
        let properties = b"\x01\x01\x0b\x80\x01\x26\x00\x01k\x00\x01v\x26\x00\x01k\x00\x01w";
        let mut body = b"\x00\x01t".to_vec();
        body.push(properties.len() as u8);
        body.extend_from_slice(properties);
        body.extend_from_slice(b"{}");
        let publish = Publish::parse(0, &body, true).unwrap();
        assert_eq!(publish.payload, b"{}");
        assert_eq!(publish.properties.user("k"), Some("v"));
        assert_eq!(publish.properties.user("x"), None);
        assert_eq!(publish.properties.subscription_ids().collect::<Vec<_>>(), [128]);
    }

    #[test]
    fn malformed_ones_are_errors() {
        for (flags, body, properties) in [
            (0b0110, &b"\x00\x01t\x00\x01"[..], false),
            (0b1000, b"\x00\x01t", false),
            (0b0010, b"\x00\x01t\x00\x00", false),
            (0b0010, b"\x00\x01t\x00", false),
            (0, b"\x00\x05t", false),
            (0, b"\x00", false),
            (0, b"\x00\x00x", false),
            (0, b"\x00\x01t", true),
            (0, b"\x00\x01t\x05\x01", true),
            (0, b"\x00\x01t\x01\x01", true),
            (0, b"\x00\x01t\x02\x7f\x00", true),
            (0, b"\x00\x01t\x03\x23\x00\x01", true),
            (0, b"\x00\x01t\xff\xff\xff\xff\x01", true),
        ] {
            assert!(Publish::parse(flags, body, properties).is_err(), "{flags:b} {body:?}");
        }
    }
}
