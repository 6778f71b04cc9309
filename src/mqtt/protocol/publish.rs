//! PUBLISH, the packet that comes for every message: parsed in place, everything borrowed from the read buffer.
//!
//! Layout: MQTT 5, section 3.3; MQTT 3.1.1 is the same without properties.

use crate::core::mqtt_property::{Properties, SUBSCRIPTION_ID};
use crate::core::reason::Code;
use crate::core::swar::{splat, zero_byte_mask};
use crate::mqtt::protocol::property::{self, PropertySet, Value, property_set};
use crate::mqtt::session::SessionError;

#[derive(Debug, Clone, Copy)]
pub struct Publish<'a> {
    pub topic: &'a [u8],
    pub payload: &'a [u8],
    pub qos: u8,
    pub retain: bool,
    pub duplicate: bool,
    /// 0 at QoS 0.
    pub packet_id: u16,
    /// The [`fingerprint`](crate::core::ack_history::fingerprint) of topic and payload; 0 at QoS 0.
    pub fingerprint: u64,
    pub properties: Properties<'a>,
}

/// The part of a PUBLISH in front of the payload.
#[derive(Debug, Clone, Copy)]
pub struct Head<'a> {
    /// Empty where an alias stands for it.
    pub topic: &'a [u8],
    pub alias: Option<u16>,
    pub qos: u8,
    pub retain: bool,
    pub duplicate: bool,
    pub packet_id: u16,
    pub properties: Properties<'a>,
    /// The length of the head in bytes.
    pub len: usize,
    /// Why the message becomes a dead letter, though its packet can be framed.
    pub fault: Option<&'static Fault>,
}

/// A statement of MQTT that a message breaks. The publisher or the broker is to blame; the messages behind it are not.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Fault {
    pub code: Code,
    pub text: &'static str,
}

impl Fault {
    pub const ALIAS_OUT_OF_RANGE: &Fault =
        &Fault::topic("the topic alias is not between 1 and topicAliasMaximum");
    pub const ALIAS_UNKNOWN: &Fault = &Fault::topic("the topic alias stands for no topic");
    const PROPERTIES: &Fault = &Fault::topic("the properties are not what MQTT allows");
    const TOPIC_EMPTY: &Fault = &Fault::topic("the topic is empty"); // [MQTT-4.7.3-1]
    const TOPIC_WITH_NUL: &Fault = &Fault::topic("the topic has a NUL character"); // [MQTT-1.5.4-2]
    const TOPIC_WITH_WILDCARD: &Fault = &Fault::topic("the topic has a wildcard"); // [MQTT-3.3.2-2]

    const fn topic(text: &'static str) -> Fault {
        Fault { code: Code::TopicInvalid, text }
    }
}

impl<'a> Head<'a> {
    /// Reads flags, topic, packet id and properties; `Ok(None)` if `body` does not reach that far.
    #[inline(always)]
    pub fn parse(flags: u8, body: &'a [u8], has_properties: bool) -> Result<Option<Head<'a>>, SessionError> {
        let qos = flags >> 1 & 3;
        if qos == 3 {
            return Err(SessionError::malformed("a PUBLISH with QoS 3")); // [MQTT-3.3.1-4]
        }
        let duplicate = flags & 8 != 0;
        if duplicate && qos == 0 {
            return Err(SessionError::protocol("a PUBLISH with DUP at QoS 0")); // [MQTT-3.3.1-2]
        }
        let mut rest = body;
        let Some(topic) = property::binary(&mut rest) else { return Ok(None) };
        let mut fault = topic_fault(topic);
        let mut packet_id = 0;
        if qos > 0 {
            let Some(id) = property::number::<2>(&mut rest) else { return Ok(None) };
            if id == 0 {
                return Err(SessionError::protocol("a PUBLISH with packet id 0")); // [MQTT-2.2.1-4]
            }
            packet_id = id as u16;
        }
        let mut alias = None;
        let mut properties = Properties::NONE;
        if has_properties {
            let Some(bytes) = property::properties(&mut rest) else { return Ok(None) };
            match check_properties(bytes) {
                Ok(checked) => (properties, alias) = checked,
                Err(_) => fault = fault.or(Some(Fault::PROPERTIES)),
            }
        }
        if topic.is_empty() && alias.is_none() {
            fault = fault.or(Some(Fault::TOPIC_EMPTY));
        }
        let len = body.len() - rest.len();
        Ok(Some(Head {
            topic,
            alias,
            qos,
            retain: flags & 1 != 0,
            duplicate,
            packet_id,
            properties,
            len,
            fault,
        }))
    }
}

/// Whether the topic is UTF-8 is checked by the sink: a broker that does not check may pass on anything, and the message then
/// becomes a dead letter.
#[inline]
fn topic_fault(topic: &[u8]) -> Option<&'static Fault> {
    if !may_be_illegal(topic) { None } else { find_illegal(topic) }
}

/// Whether the topic may have a NUL or a wildcard: compares eight bytes at once, the last eight perhaps twice.
#[inline(always)]
fn may_be_illegal(topic: &[u8]) -> bool {
    let illegal_bytes = |word: [u8; 8]| {
        let word = u64::from_ne_bytes(word);
        // # and + differ in one bit.
        zero_byte_mask(word) | zero_byte_mask((word | splat(8)) ^ splat(b'+'))
    };
    let Some(last) = topic.last_chunk() else { return topic.iter().any(|b| matches!(b, 0 | b'#' | b'+')) };
    topic.as_chunks().0.iter().fold(illegal_bytes(*last), |seen, word| seen | illegal_bytes(*word)) != 0
}

#[cold]
fn find_illegal(topic: &[u8]) -> Option<&'static Fault> {
    let at = memchr::memchr3(0, b'#', b'+', topic)?;
    Some(if topic[at] == 0 { Fault::TOPIC_WITH_NUL } else { Fault::TOPIC_WITH_WILDCARD })
}

const ALLOWED: PropertySet = property_set(&[0x01, 0x02, 0x03, 0x08, 0x09, 0x0b, 0x23, 0x26]);
const TOPIC_ALIAS: u8 = 0x23;

/// Walks all properties once, so that forbidden ones are found before the message is taken, and finds the topic alias.
/// Contents that are the publisher's fault are not checked: a broker that passes them on must remain usable.
#[inline]
fn check_properties(bytes: &[u8]) -> Result<(Properties<'_>, Option<u16>), SessionError> {
    let mut alias = None;
    property::walk(bytes, ALLOWED, |id, value| {
        match (id, value) {
            (TOPIC_ALIAS, Value::Number(number)) => alias = Some(number as u16),
            (SUBSCRIPTION_ID, Value::Number(0)) => {
                return Err(SessionError::protocol("a subscription identifier of 0")); // 3.3.2.3.8
            }
            _ => {}
        }
        Ok(())
    })?;
    Ok((Properties::checked(bytes), alias))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_publish_is_read_in_place() {
        let body = b"\x00\x03a/b\x00\x07payload";
        let head = Head::parse(0b1011, body, false).unwrap().unwrap();
        assert_eq!((head.topic, &body[head.len..]), (&b"a/b"[..], &b"payload"[..]));
        assert_eq!((head.qos, head.packet_id, head.duplicate, head.retain), (1, 7, true, true));
        let head = Head::parse(0, b"\x00\x01t", false).unwrap().unwrap();
        assert_eq!((head.topic, head.len, head.qos), (&b"t"[..], 3, 0));
    }

    #[test]
    fn user_properties_are_found_among_the_others() {
        let properties = b"\x01\x01\x0b\x80\x01\x26\x00\x01k\x00\x01v\x26\x00\x01k\x00\x01w";
        let mut body = b"\x00\x01t".to_vec();
        body.push(properties.len() as u8);
        body.extend_from_slice(properties);
        body.extend_from_slice(b"{}");
        let head = Head::parse(0, &body, true).unwrap().unwrap();
        assert_eq!(&body[head.len..], b"{}");
        assert_eq!(head.properties.user("k"), Some("v"));
        assert_eq!(head.properties.user("x"), None);
        assert_eq!(head.properties.subscription_ids().collect::<Vec<_>>(), [128]);
    }
}
