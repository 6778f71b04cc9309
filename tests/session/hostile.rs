//! A broker that sends what the specification forbids: each normative statement that a client can see broken, and what
//! we do about it.
//!
//! The statements are those of MQTT 5 unless they say 3.1.1; sections stand where a rule has no number. Each runs in
//! both versions that have it, at once and byte by byte; after the end of the connection the next one
//! works. Not here are statements that bind servers in what no client can see, and those on what
//! clients send.
//!
//! A message that can be framed does not end a connection, even where a broker should not have passed it on ([`Taken`],
//! [`DeadLetter`]): the session would deliver it again after each reconnect, and nothing behind it would ever come.

use millrace::mqtt::session::SessionError;
use serde_json::json;

use crate::broker::{
    PINGRESP, connack, next_id, packet, puback, publish, publish_with, pubrel, suback, unsuback,
};
use crate::client::{Client, Message, Seen, options};

/// When the broker says it.
#[derive(Debug, Clone, Copy, PartialEq)]
enum When {
    AfterConnect,
    AfterConnack,
    Subscribed,
    Unsubscribing,
}
use When::*;

#[derive(Debug, Clone, PartialEq)]
enum Reaction {
    /// The connection ends; with MQTT 5 this reason code says why.
    Closed(u8),
    /// The connection ends with what the broker says as the reason.
    Says(&'static str),
    /// The message is taken as any other.
    Taken,
    /// The message becomes a dead letter with this code.
    DeadLetter(&'static str),
    /// The message is too large, and its head alone is kept.
    TooLarge,
    /// The connection ends, because the broker speaks another version.
    WrongVersion,
    /// Passed over.
    Ignored,
    Answered(&'static [u8]),
}
use Reaction::*;

const MALFORMED: Reaction = Closed(0x81);
const PROTOCOL_ERROR: Reaction = Closed(0x82);
const TOPIC_INVALID: Reaction = DeadLetter("TOPIC_INVALID");
const RECEIVE_MAXIMUM_EXCEEDED: Reaction = Closed(0x93);

const TOO_LARGE: Reaction = Closed(0x95);

/// A statement, the version that has it (0: both), when the broker breaks it, with which bytes, and what we do.
type Case = (&'static str, u8, When, Vec<u8>, Reaction);

#[rustfmt::skip]
fn representation() -> Vec<Case> {
    vec![
        ("MQTT-1.5.4-1: a topic that is not UTF-8 (a dead letter)", 0, Subscribed, b"\x30\x05\x00\x02\xff\xfe\x00".into(), Taken),
        ("MQTT-1.5.4-1: a surrogate in a topic (a dead letter)", 0, Subscribed, b"\x30\x06\x00\x03\xed\xa0\x80\x00".into(), Taken),
        ("MQTT-1.5.4-1: a reason string", 5, AfterConnect, b"\x20\x07\x00\x87\x04\x1f\x00\x01\xff".into(), MALFORMED),
        ("MQTT-1.5.4-1: a client identifier", 5, AfterConnect, b"\x20\x07\x00\x00\x04\x12\x00\x01\xff".into(), MALFORMED),
        ("MQTT-1.5.4-2: U+0000 in a topic", 0, Subscribed, b"\x30\x06\x00\x03a\x00b\x00".into(), TOPIC_INVALID),
        ("MQTT-1.5.4-2: U+0000 in a client identifier", 5, AfterConnect, b"\x20\x07\x00\x00\x04\x12\x00\x01\x00".into(), MALFORMED),
        ("MQTT-1.5.4-2: U+0000 in the reason of a DISCONNECT", 5, Subscribed, b"\xe0\x06\x8b\x04\x1f\x00\x01\x00".into(), MALFORMED),
        ("MQTT-1.5.4-3: U+FEFF in a topic", 0, Subscribed, b"\x30\x06\x00\x03\xef\xbb\xbf\x00".into(), Taken),
        ("MQTT-1.5.5-1: a length in more bytes than it needs", 5, Subscribed, b"\xd0\x80\x00".into(), MALFORMED),
        ("MQTT-1.5.5-1: MQTT 3.1.1 does not forbid it", 4, Subscribed, b"\xd0\x80\x00".into(), Ignored),
        ("MQTT-1.5.5-1: a property length", 5, Subscribed, b"\x30\x05\x00\x01t\x80\x00".into(), MALFORMED),
        ("MQTT-1.5.5-1: a subscription identifier", 5, Subscribed, publish_with(0x30, "t", b"", b"\x0b\x81\x00", ""), TOPIC_INVALID),
        ("1.5.5: a length of five bytes", 0, Subscribed, b"\x30\x80\x80\x80\x80\x01".into(), MALFORMED),
        ("1.5.5: a property length of five bytes", 5, Subscribed, b"\x30\x08\x00\x01t\x80\x80\x80\x80\x01".into(), MALFORMED),
        ("MQTT-1.5.7-1: a user property that is not UTF-8", 5, Subscribed, publish_with(0x30, "t", b"", b"\x26\x00\x01k\x00\x01\xff", ""), Taken),
        ("1.5.7: a user property that ends early", 5, Subscribed, publish_with(0x30, "t", b"", b"\x26\x00\x01k\x00\x02v", ""), TOPIC_INVALID),
    ]
}

#[rustfmt::skip]
fn packets() -> Vec<Case> {
    let mut cases: Vec<Case> = vec![
        ("2.1.2: packet type 0", 0, Subscribed, b"\x00\x00".into(), MALFORMED),
        ("2.1.2: CONNECT from a broker", 0, Subscribed, b"\x10\x00".into(), PROTOCOL_ERROR),
        ("2.1.2: SUBSCRIBE from a broker", 0, Subscribed, b"\x82\x00".into(), MALFORMED),
        ("2.1.2: UNSUBSCRIBE from a broker", 0, Subscribed, b"\xa2\x00".into(), MALFORMED),
        ("2.1.2: PINGREQ from a broker", 0, Subscribed, b"\xc0\x00".into(), PROTOCOL_ERROR),
        ("2.1.2: packet type 15 in MQTT 3.1.1", 4, Subscribed, b"\xf0\x00".into(), PROTOCOL_ERROR),
        ("3.14 (3.1.1): DISCONNECT from a broker", 4, Subscribed, b"\xe0\x00".into(), PROTOCOL_ERROR),
        ("MQTT-2.2.1-4: packet id 0", 0, Subscribed, b"\x32\x06\x00\x01t\x00\x00\x00".into(), PROTOCOL_ERROR),
        ("MQTT-2.2.1-4: packet id 0, over the limit", 0, Subscribed, large(0x32, b"\x00\x01t\x00\x00"), PROTOCOL_ERROR),
        ("MQTT-2.2.1-4: a packet id in use", 0, Subscribed, b"\x32\x06\x00\x01t\x00\x01\x00".repeat(2), PROTOCOL_ERROR),
        ("MQTT-2.2.1-4: in use at QoS 2", 0, Subscribed, [&b"\x34\x06\x00\x01t\x00\x01\x00"[..], b"\x34\x06\x00\x01u\x00\x01\x00"].concat(), PROTOCOL_ERROR),
        ("MQTT-2.2.1-4: in use at another QoS", 0, Subscribed, [&b"\x34\x06\x00\x01t\x00\x01\x00"[..], b"\x32\x06\x00\x01t\x00\x01\x00"].concat(), PROTOCOL_ERROR),
        ("MQTT-2.2.1-5: PUBREL for nothing", 5, Subscribed, pubrel(9), Answered(b"\x70\x03\x00\x09\x92")),
        ("MQTT-2.2.1-5: PUBREL for nothing", 4, Subscribed, pubrel(9), Answered(b"\x70\x02\x00\x09")),
        ("MQTT-2.2.1-6: the same SUBACK twice", 5, AfterConnack, suback(5, 1, &[2]).repeat(2), PROTOCOL_ERROR),
        ("MQTT-2.2.1-6: SUBACK with another id", 5, AfterConnack, suback(5, 9, &[1]), PROTOCOL_ERROR),
        ("MQTT-2.2.1-6: SUBACK with another id", 4, AfterConnack, suback(4, 9, &[1, 1]), PROTOCOL_ERROR),
        ("MQTT-2.2.1-6: SUBACK with id 0", 0, AfterConnack, b"\x90\x05\x00\x00\x00\x01\x01".into(), PROTOCOL_ERROR),
        ("MQTT-2.2.1-6: UNSUBACK with another id", 5, Unsubscribing, unsuback(5, 99), PROTOCOL_ERROR),
        ("MQTT-2.2.1-6: UNSUBACK with another id", 4, Unsubscribing, unsuback(4, 99), PROTOCOL_ERROR),
        ("MQTT-2.2.2-1: no property length in PUBLISH", 5, Subscribed, b"\x30\x03\x00\x01t".into(), MALFORMED),
        ("MQTT-2.2.2-1: no property length in CONNACK", 5, AfterConnect, b"\x20\x02\x00\x00".into(), WrongVersion),
        ("MQTT-2.2.2-1: no property length in SUBACK", 5, AfterConnack, b"\x90\x02\x00\x01".into(), MALFORMED),
        ("2.2.2: properties that end early", 5, Subscribed, b"\x30\x05\x00\x01t\x05\x01".into(), MALFORMED),
        ("2.2.2: a property that ends early", 5, Subscribed, publish_with(0x30, "t", b"", b"\x02\x00\x00", ""), TOPIC_INVALID),
        ("2.2.2.2: an unknown property", 5, Subscribed, publish_with(0x30, "t", b"", b"\x7f\x00", ""), TOPIC_INVALID),
        ("2.2.2.2: a property of CONNACK in PUBLISH", 5, Subscribed, publish_with(0x30, "t", b"", b"\x13\x00\x01", ""), TOPIC_INVALID),
        ("2.2.2.2: a property of PUBLISH in CONNACK", 5, AfterConnect, connack_with(b"\x02\x00\x00\x00\x01"), MALFORMED),
        ("2.2.2.2: a property of CONNACK in SUBACK", 5, AfterConnack, b"\x90\x07\x00\x01\x03\x13\x00\x01\x01".into(), MALFORMED),
        ("2.2.2.2: a property of CONNACK in UNSUBACK", 5, Unsubscribing, b"\xb0\x08\x00\x03\x03\x13\x00\x01\x00\x00".into(), MALFORMED),
        ("2.2.2.2: a property of CONNACK in PUBREL", 5, Subscribed, b"\x62\x07\x00\x01\x00\x03\x13\x00\x01".into(), MALFORMED),
        ("2.2.2.2: a property of CONNACK in DISCONNECT", 5, Subscribed, b"\xe0\x05\x8b\x03\x13\x00\x01".into(), MALFORMED),
    ];
    // MQTT-2.1.3-1, MQTT-3.6.1-1, MQTT-3.14.1-1, MQTT-3.15.1-1: every flag of every packet that has none.
    for kind in [2u8, 4, 5, 6, 7, 9, 11, 13, 14, 15] {
        let right = if kind == 6 { 2 } else { 0 };
        for flags in (0..16).filter(|flags| *flags != right) {
            cases.push(("MQTT-2.1.3-1: reserved flags", 0, Subscribed, packet(kind << 4 | flags, &[&[0, 1]]), MALFORMED));
        }
    }
    // 3.2.2.3, 3.3.2.3, 3.6.2.2, 3.9.2.1, 3.11.2.1, 3.14.2.2: what may be there once is there twice.
    const TWICE: &str = "2.2.2.2: a property twice";
    for property in [
        &b"\x11\x00\x00\x00\x01"[..], b"\x21\x00\x01", b"\x24\x01", b"\x25\x01", b"\x27\x00\x00\x04\x00", b"\x12\x00\x01c",
        b"\x22\x00\x01", b"\x1f\x00\x01r", b"\x28\x01", b"\x29\x01", b"\x2a\x01", b"\x13\x00\x01", b"\x1a\x00\x01i", b"\x1c\x00\x01s",
    ] {
        cases.push((TWICE, 5, AfterConnect, connack_with(&property.repeat(2)), PROTOCOL_ERROR));
    }
    for property in [
        &b"\x01\x00"[..], b"\x02\x00\x00\x00\x01", b"\x03\x00\x01c", b"\x08\x00\x01r", b"\x09\x00\x01c", b"\x23\x00\x01",
    ] {
        cases.push((TWICE, 5, Subscribed, publish_with(0x30, "t", b"", &property.repeat(2), ""), TOPIC_INVALID));
    }
    let reason = b"\x1f\x00\x01r".repeat(2);
    cases.push((TWICE, 5, AfterConnack, packet(0x90, &[&[0, 1, 8], &reason, &[2]]), PROTOCOL_ERROR));
    cases.push((TWICE, 5, Unsubscribing, packet(0xb0, &[&[0, 3, 8], &reason, &[0, 0]]), PROTOCOL_ERROR));
    cases.push((TWICE, 5, Subscribed, packet(0x62, &[&[0, 1, 0, 8], &reason]), PROTOCOL_ERROR));
    cases.push((TWICE, 5, Subscribed, packet(0xe0, &[&[0x8b, 8], &reason]), PROTOCOL_ERROR));
    let twice_allowed = b"\x0b\x01\x0b\x02\x26\x00\x01k\x00\x01v\x26\x00\x01k\x00\x01w";
    cases.push(("3.3.2.3: what may be there twice", 5, Subscribed, publish_with(0x30, "t", b"", twice_allowed, ""), Taken));
    cases
}

#[rustfmt::skip]
fn connecting() -> Vec<Case> {
    vec![
        ("MQTT-3.1.2-24: not a PUBLISH, over the limit", 0, AfterConnack, large(0x90, b"\x00\x01"), TOO_LARGE),
        ("MQTT-3.1.2-24: CONNACK over the limit", 0, AfterConnect, large(0x20, b"\x00\x00"), TOO_LARGE),
        ("MQTT-3.1.2-28: response information that nobody asked for", 5, AfterConnect, connack_with(b"\x1a\x00\x01i"), Ignored),
        ("MQTT-3.1.4-3: a session taken over", 5, Subscribed, b"\xe0\x01\x8e".into(), Says("session taken over")),
        ("MQTT-3.2.0-1: PUBLISH before CONNACK", 0, AfterConnect, publish_any(0), PROTOCOL_ERROR),
        ("MQTT-3.2.0-1: a large one before CONNACK", 0, AfterConnect, large(0x30, b"\x00\x01t\x00"), PROTOCOL_ERROR),
        ("MQTT-3.2.0-1: SUBACK before CONNACK", 0, AfterConnect, suback(4, 1, &[1, 1]), PROTOCOL_ERROR),
        ("MQTT-3.2.0-1: PUBREL before CONNACK", 0, AfterConnect, pubrel(1), PROTOCOL_ERROR),
        ("MQTT-3.2.0-1: PINGRESP before CONNACK", 0, AfterConnect, PINGRESP.into(), PROTOCOL_ERROR),
        ("MQTT-3.2.0-1: AUTH before CONNACK", 5, AfterConnect, b"\xf0\x02\x18\x00".into(), PROTOCOL_ERROR),
        ("MQTT-3.2.0-2: a second CONNACK", 5, Subscribed, connack(5, false), PROTOCOL_ERROR),
        ("MQTT-3.2.0-2: a second CONNACK", 4, AfterConnack, connack(4, false), PROTOCOL_ERROR),
        ("MQTT-3.2.2-1: reserved flags of CONNACK", 4, AfterConnect, b"\x20\x02\x02\x00".into(), MALFORMED),
        ("MQTT-3.2.2-1: reserved flags of CONNACK", 5, AfterConnect, b"\x20\x03\x80\x00\x00".into(), MALFORMED),
        ("MQTT-3.2.2-6: a refusal with a session", 4, AfterConnect, b"\x20\x02\x01\x05".into(), Says("not authorized")),
        ("MQTT-3.2.2-6: a refusal with a session", 5, AfterConnect, b"\x20\x03\x01\x87\x00".into(), Says("not authorized")),
        ("MQTT-3.2.2-7: a refusal", 5, AfterConnect, b"\x20\x03\x00\x97\x00".into(), Says("quota exceeded")),
        ("MQTT-3.2.2-8: an unknown reason code", 4, AfterConnect, b"\x20\x02\x00\x06".into(), MALFORMED),
        ("MQTT-3.2.2-8: an unknown reason code", 5, AfterConnect, b"\x20\x03\x00\x05\x00".into(), MALFORMED),
        ("MQTT-3.2.2-8: a reason code of DISCONNECT", 5, AfterConnect, b"\x20\x03\x00\x8e\x00".into(), MALFORMED),
        ("3.2: CONNACK without a reason code", 0, AfterConnect, b"\x20\x01\x00".into(), MALFORMED),
        ("3.2: CONNACK without a body", 0, AfterConnect, b"\x20\x00".into(), MALFORMED),
        ("3.2: CONNACK with something behind it", 4, AfterConnect, b"\x20\x03\x00\x00\x00".into(), MALFORMED),
        ("3.2: CONNACK with something behind it", 5, AfterConnect, b"\x20\x04\x00\x00\x00\x00".into(), MALFORMED),
        ("3.2.2.3: properties that end early", 5, AfterConnect, b"\x20\x05\x00\x00\x09\x21\x00".into(), MALFORMED),
        ("3.2.2.3.3: a receive maximum of 0", 5, AfterConnect, connack_with(b"\x21\x00\x00"), PROTOCOL_ERROR),
        ("3.2.2.3.4: a maximum QoS of 2", 5, AfterConnect, connack_with(b"\x24\x02"), PROTOCOL_ERROR),
        ("3.2.2.3.5: retain available 2", 5, AfterConnect, connack_with(b"\x25\x02"), PROTOCOL_ERROR),
        ("3.2.2.3.6: a maximum packet size of 0", 5, AfterConnect, connack_with(b"\x27\x00\x00\x00\x00"), PROTOCOL_ERROR),
        ("3.2.2.3.11: wildcards available 2", 5, AfterConnect, connack_with(b"\x28\x02"), PROTOCOL_ERROR),
        ("3.2.2.3.12: identifiers available 2", 5, AfterConnect, connack_with(b"\x29\x02"), PROTOCOL_ERROR),
        ("3.2.2.3.13: shared available 2", 5, AfterConnect, connack_with(b"\x2a\x02"), PROTOCOL_ERROR),
        ("MQTT-4.12.0-6: an authentication method in CONNACK", 5, AfterConnect, connack_with(b"\x15\x00\x01m"), PROTOCOL_ERROR),
        ("4.12: authentication data in CONNACK", 5, AfterConnect, connack_with(b"\x16\x00\x01d"), PROTOCOL_ERROR),
        ("MQTT-4.12.0-6: AUTH without an exchange", 5, Subscribed, b"\xf0\x02\x18\x00".into(), PROTOCOL_ERROR),
        ("MQTT-3.14.0-1: DISCONNECT before CONNACK", 5, AfterConnect, b"\xe0\x02\x89\x00".into(), Says("server busy")),
        ("MQTT-3.14.0-1: DISCONNECT before CONNACK", 4, AfterConnect, b"\xe0\x00".into(), PROTOCOL_ERROR),
    ]
}

#[rustfmt::skip]
fn publishing() -> Vec<Case> {
    vec![
        ("MQTT-3.3.1-2: DUP at QoS 0", 0, Subscribed, publish_any(8), PROTOCOL_ERROR),
        ("MQTT-3.3.1-4: QoS 3", 0, Subscribed, b"\x36\x06\x00\x01t\x00\x01\x00".into(), MALFORMED),
        ("MQTT-3.3.2-1: PUBLISH without a body", 0, Subscribed, b"\x30\x00".into(), MALFORMED),
        ("MQTT-3.3.2-1: a packet without a topic", 0, Subscribed, b"\x30\x01\x00".into(), MALFORMED),
        ("MQTT-3.3.2-1: a topic that reaches beyond the packet", 0, Subscribed, b"\x30\x04\x00\x05t\x00".into(), MALFORMED),
        ("MQTT-3.3.2-1: the same, over the limit", 0, Subscribed, large(0x30, b"\xff\xff"), MALFORMED),
        ("3.3.2.2: a packet that ends in its id", 0, Subscribed, b"\x32\x04\x00\x01t\x00".into(), MALFORMED),
        ("MQTT-3.3.2-2: # in a topic", 0, Subscribed, b"\x30\x06\x00\x03a/#\x00".into(), TOPIC_INVALID),
        ("MQTT-3.3.2-2: + in a topic", 0, Subscribed, b"\x30\x06\x00\x03+/a\x00".into(), TOPIC_INVALID),
        ("MQTT-3.3.2-2: + in a topic, over the limit", 0, Subscribed, large(0x30, b"\x00\x03a/+\x00"), TooLarge),
        ("MQTT-3.3.2-3: a topic that no subscription matches (a dead letter)", 0, Subscribed, publish_any(0), Taken),
        ("3.3.2.3.2: a payload that is not the UTF-8 it says", 5, Subscribed, publish_with(0x30, "t", b"", b"\x01\x01", "\u{0}"), Taken),
        ("3.3.2.3.2: payload format 2", 5, Subscribed, publish_with(0x30, "t", b"", b"\x01\x02", ""), Taken),
        ("3.3.2.3.3: a message that has expired", 5, Subscribed, publish_with(0x30, "t", b"", b"\x02\x00\x00\x00\x00", ""), Taken),
        ("MQTT-3.3.2-8: topic alias 0", 5, Subscribed, publish_with(0x30, "t", b"", b"\x23\x00\x00", ""), TOPIC_INVALID),
        ("MQTT-3.3.2-10: the highest topic alias", 5, Subscribed, publish_with(0x30, "t", b"", b"\x23\x00\x40", ""), Taken),
        ("MQTT-3.3.2-11: a topic alias above the maximum", 5, Subscribed, publish_with(0x30, "t", b"", b"\x23\x00\x41", ""), TOPIC_INVALID),
        ("MQTT-3.1.2-26: the highest number there is", 5, Subscribed, publish_with(0x30, "t", b"", b"\x23\xff\xff", ""), TOPIC_INVALID),
        ("3.3.2.3.4: a topic alias that stands for nothing", 5, Subscribed, publish_with(0x30, "", b"", b"\x23\x00\x01", ""), TOPIC_INVALID),
        ("3.3.2.3.4: the same, over the limit", 5, Subscribed, large(0x30, b"\x00\x00\x03\x23\x00\x01"), TooLarge),
        ("MQTT-3.3.2-13: a response topic that is not UTF-8", 5, Subscribed, publish_with(0x30, "t", b"", b"\x08\x00\x01\xff", ""), Taken),
        ("MQTT-3.3.2-14: a response topic with a wildcard", 5, Subscribed, publish_with(0x30, "t", b"", b"\x08\x00\x01#", ""), Taken),
        ("MQTT-3.3.2-19: a content type that is not UTF-8", 5, Subscribed, publish_with(0x30, "t", b"", b"\x03\x00\x01\xff", ""), Taken),
        ("3.3.2.3.8: subscription identifier 0", 5, Subscribed, publish_with(0x30, "t", b"", b"\x0b\x00", ""), TOPIC_INVALID),
        ("MQTT-3.3.4-9: more than the receive maximum", 5, Subscribed, [1u8, 2, 3].map(|id| publish_with(0x32, "t", &[0, id], b"", "")).concat(), RECEIVE_MAXIMUM_EXCEEDED),
        ("MQTT-3.3.4-9: at QoS 2", 5, Subscribed, [1u8, 2, 3].map(|id| publish_with(0x34, "t", &[0, id], b"", "")).concat(), RECEIVE_MAXIMUM_EXCEEDED),
        ("MQTT-3.3.4-9: MQTT 3.1.1 has none", 4, Subscribed, b"\x32\x05\x00\x01t\x00\x01\x32\x05\x00\x01t\x00\x02\x32\x05\x00\x01t\x00\x03".into(), Taken),
        ("MQTT-4.7.3-1: an empty topic", 4, Subscribed, b"\x30\x03\x00\x00\x00".into(), TOPIC_INVALID),
        ("MQTT-4.7.3-1: an empty topic without an alias", 5, Subscribed, publish_with(0x30, "", b"", b"", ""), TOPIC_INVALID),
        ("MQTT-4.7.3-1: an empty topic, over the limit", 0, Subscribed, large(0x30, b"\x00\x00\x00"), TooLarge),
        ("4.3.2: PUBACK for nothing of ours", 0, Subscribed, puback(1), PROTOCOL_ERROR),
        ("4.3.3: PUBREC for nothing of ours", 0, Subscribed, b"\x50\x02\x00\x01".into(), PROTOCOL_ERROR),
        ("4.3.3: PUBCOMP for nothing of ours", 0, Subscribed, b"\x70\x02\x00\x01".into(), PROTOCOL_ERROR),
        ("MQTT-4.3.3-4: PUBREL for what was not acknowledged", 4, Subscribed, [&b"\x34\x05\x00\x01t\x00\x01"[..], &pubrel(1)].concat(), PROTOCOL_ERROR),
        ("MQTT-4.3.3-4: PUBREL for what was not acknowledged", 5, Subscribed, [publish_with(0x34, "t", b"\x00\x01", b"", ""), pubrel(1)].concat(), PROTOCOL_ERROR),
        ("MQTT-4.3.3-4: PUBREL for a message of QoS 1", 5, Subscribed, [publish_with(0x32, "t", b"\x00\x01", b"", ""), pubrel(1)].concat(), PROTOCOL_ERROR),
        ("MQTT-3.6.2-1: an unknown reason code in PUBREL", 5, Subscribed, b"\x62\x03\x00\x01\x10".into(), MALFORMED),
        ("3.6.2: PUBREL with id 0", 0, Subscribed, b"\x62\x02\x00\x00".into(), PROTOCOL_ERROR),
        ("3.6.2: PUBREL without an id", 0, Subscribed, b"\x62\x01\x00".into(), MALFORMED),
        ("3.6.2: PUBREL with something behind it", 4, Subscribed, b"\x62\x03\x00\x01\x00".into(), MALFORMED),
        ("3.6.2: PUBREL with something behind it", 5, Subscribed, b"\x62\x05\x00\x01\x00\x00\x00".into(), MALFORMED),
    ]
}

#[rustfmt::skip]
fn subscribing() -> Vec<Case> {
    vec![
        ("MQTT-3.8.4-6: too few grants", 4, AfterConnack, suback(4, 1, &[1]), PROTOCOL_ERROR),
        ("MQTT-3.8.4-6: too many grants", 5, AfterConnack, suback(5, 1, &[1, 1]), PROTOCOL_ERROR),
        ("MQTT-3.8.4-6: no grants", 5, AfterConnack, b"\x90\x03\x00\x01\x00".into(), PROTOCOL_ERROR),
        ("MQTT-3.9.3-2: an unknown reason code", 4, AfterConnack, suback(4, 1, &[1, 3]), MALFORMED),
        ("MQTT-3.9.3-2: an unknown reason code", 5, AfterConnack, suback(5, 1, &[0x81]), MALFORMED),
        ("3.9.2.1: properties that end early", 5, AfterConnack, b"\x90\x05\x00\x01\x09\x1f\x00".into(), MALFORMED),
        ("3.9: SUBACK without SUBSCRIBE", 0, Subscribed, suback(4, 1, &[1, 1]), PROTOCOL_ERROR),
        ("3.11: UNSUBACK without UNSUBSCRIBE", 0, Subscribed, unsuback(4, 1), PROTOCOL_ERROR),
        ("3.11: UNSUBACK without a packet id", 0, Unsubscribing, b"\xb0\x00".into(), MALFORMED),
        ("3.11: UNSUBACK with something behind it", 4, Unsubscribing, b"\xb0\x03\x00\x02\x00".into(), MALFORMED),
        ("MQTT-3.11.3-1: too few answers", 5, Unsubscribing, b"\xb0\x04\x00\x03\x00\x00".into(), PROTOCOL_ERROR),
        ("MQTT-3.11.3-2: an unknown reason code", 5, Unsubscribing, b"\xb0\x05\x00\x03\x00\x00\x01".into(), MALFORMED),
        ("3.13: PINGRESP with a body", 0, Subscribed, b"\xd0\x01\x00".into(), MALFORMED),
        ("3.13: PINGRESP without a PINGREQ", 0, Subscribed, PINGRESP.into(), Ignored),
        ("MQTT-3.14.2-1: an unknown reason code", 5, Subscribed, b"\xe0\x01\x03".into(), MALFORMED),
        ("MQTT-3.14.2-1: a reason code of clients", 5, Subscribed, b"\xe0\x01\x04".into(), MALFORMED),
        ("MQTT-3.14.2-2: a session expiry in DISCONNECT", 5, Subscribed, b"\xe0\x07\x8b\x05\x11\x00\x00\x00\x01".into(), MALFORMED),
        ("3.14: DISCONNECT with something behind it", 5, Subscribed, b"\xe0\x03\x8b\x00\x00".into(), MALFORMED),
        ("3.14.2.2.1: properties that end early", 5, Subscribed, b"\xe0\x03\x8b\x04\x1f".into(), MALFORMED),
        ("3.14.2.1: DISCONNECT without a reason", 5, Subscribed, b"\xe0\x00".into(), Says("normally")),
    ]
}

/// A packet over the limit that begins so.
fn large(first: u8, body: &[u8]) -> Vec<u8> {
    packet(first, &[body, &[0; 2000]])
}

fn connack_with(properties: &[u8]) -> Vec<u8> {
    packet(0x20, &[&[0, 0, properties.len() as u8], properties])
}

/// A PUBLISH to the topic `t`, in either version.
fn publish_any(flags: u8) -> Vec<u8> {
    packet(0x30 | flags, &[b"\x00\x01t\x00"])
}

fn client_at(when: When, version: u8) -> Client {
    let config = options(version, json!({ "qos": 2, "receiveMaximum": 2 }));
    let mut client = match when {
        AfterConnect | AfterConnack => Client::new(&config),
        Subscribed | Unsubscribing => Client::subscribed(&config, version),
    };
    if when == AfterConnack {
        client.feed(&connack(version, false)).unwrap();
    }
    if when == Unsubscribing {
        client.session.unsubscribe();
    }
    client.written();
    client
}

/// The error, and the bytes that the broker got.
fn react(client: &mut Client, pieces: &[&[u8]]) -> (Option<SessionError>, Vec<u8>) {
    match pieces.iter().try_for_each(|piece| client.feed(piece)) {
        Ok(()) => (None, client.written()),
        Err(error) => {
            client.written();
            client.session.abort(&error);
            (Some(error), client.written())
        }
    }
}

fn is_as_expected(
    version: u8,
    expected: &Reaction,
    seen: &[Seen],
    error: Option<&SessionError>,
    sent: &[u8],
) -> bool {
    match (expected, error) {
        (Closed(code), Some(SessionError::ProtocolViolation { reason, .. })) => {
            let farewell: &[u8] = if version == 5 { &[0xe0, 2, *code, 0] } else { &[] };
            reason == code && sent == farewell
        }
        (Says(what), Some(SessionError::Refused { reason, .. } | SessionError::Disconnected(reason))) => {
            reason == what && sent.is_empty()
        }
        (Says(what), Some(SessionError::TakenOver)) => *what == "session taken over" && sent.is_empty(),
        (Taken, None) => matches!(seen.last(), Some(Seen::Message { .. })) && sent.is_empty(),
        (DeadLetter(expected), None) => {
            matches!(seen.last(), Some(Seen::Invalid { code, .. }) if code == expected) && sent.is_empty()
        }
        (TooLarge, None) => matches!(seen.last(), Some(Seen::TooLarge { .. })) && sent.is_empty(),
        (WrongVersion, Some(SessionError::VersionRefused)) => sent.is_empty(),
        (Ignored, None) => seen.is_empty(),
        (Answered(answer), None) => seen.is_empty() && sent == *answer,
        _ => false,
    }
}

#[test]
fn each_breach_of_the_specification_has_the_right_reaction() {
    let mut wrong = Vec::new();
    let all = [representation(), packets(), connecting(), publishing(), subscribing()].concat();
    for (rule, only, when, bytes, expected) in all {
        for version in [4, 5].into_iter().filter(|version| only == 0 || only == *version) {
            let mut whole = client_at(when, version);
            let (error, sent) = react(&mut whole, &[&bytes]);
            if !is_as_expected(version, &expected, &whole.seen, error.as_ref(), &sent) {
                wrong.push(format!(
                    "version {version}, {rule}: {error:?}, sent {sent:02x?}, not {expected:?}"
                ));
            }
            let mut bit_by_bit = client_at(when, version);
            let pieces: Vec<&[u8]> = bytes.chunks(1).collect();
            let again = react(&mut bit_by_bit, &pieces);
            assert_eq!(again, (error, sent), "version {version}, {rule}");
            assert_eq!(bit_by_bit.seen, whole.seen, "version {version}, {rule}");
            goes_on(&mut whole, version);
        }
    }
    assert_eq!(wrong, [""; 0]);
}

/// Whatever happened, the next connection is like any other.
fn goes_on(client: &mut Client, version: u8) {
    client.reconnect(version, false);
    let first = client.session.outgoing();
    let packet_id = u16::from_be_bytes([first[2], first[3]]);
    client.feed(&crate::broker::subacks(version, packet_id, &[2, 2])).unwrap();
    client.written();
    let message = Message { topic: "good".into(), qos: 1, packet_id: 7, ..Message::default() };
    client.feed(&publish(version, &message)).unwrap();
    let sequence = client.seen.last().and_then(Seen::sequence).expect("a good message is taken");
    assert_eq!(client.settle(&[sequence]), puback(7));
}

#[test]
fn a_session_after_a_clean_start_is_an_error() {
    for version in [4, 5] {
        // [MQTT-3.2.2-2], [MQTT-3.2.2-4]
        let mut client = Client::new(&options(version, json!({ "sessionExpirySeconds": 0 })));
        let (error, _) = client.refuse(&connack(version, true));
        assert!(matches!(error, SessionError::ProtocolViolation { reason: 0x82, .. }), "{error:?}");
    }
}

#[test]
fn more_than_the_qos_granted_is_an_error_in_a_session_of_our_own() {
    for version in [4, 5] {
        // [MQTT-3.8.4-8]
        let message = Message { topic: "t".into(), qos: 2, packet_id: 1, ..Message::default() };
        let large = if version == 5 {
            large(0x34, b"\x00\x01t\x00\x01\x00")
        } else {
            large(0x34, b"\x00\x01t\x00\x01")
        };
        for bytes in [publish(version, &message), large] {
            let mut client = Client::subscribed(&options(version, json!({})), version);
            let (error, _) = client.refuse(&bytes);
            assert!(matches!(error, SessionError::ProtocolViolation { reason: 0x82, .. }), "{error:?}");
        }
        // A session of an earlier process may hold what was asked for then.
        let mut client = Client::new(&options(version, json!({})));
        client.feed(&connack(version, true)).unwrap();
        client.feed(&publish(version, &message)).unwrap();
        assert_eq!(client.seen.len(), 1);
    }
}

#[test]
fn a_grant_above_what_was_asked_for_is_an_error() {
    for version in [4, 5] {
        let mut client = Client::new(&options(version, json!({})));
        client.feed(&connack(version, false)).unwrap();
        let (error, _) = client.refuse(&suback(version, 1, if version == 4 { &[1, 2] } else { &[2] }));
        assert!(matches!(error, SessionError::ProtocolViolation { reason: 0x82, .. }), "{error:?}");
        assert_eq!(next_id(version), if version == 4 { 2 } else { 3 });
    }
}
