//! What the specification forbids ends the connection.

use millrace::mqtt::session::SessionError;
use serde_json::json;

use crate::broker::{PINGRESP, connack, packet, puback, suback, unsuback};
use crate::client::{Client, options};

/// When the broker says it.
#[derive(Debug, Clone, Copy, PartialEq)]
enum When {
    AfterConnect,
    AfterConnack,
    Subscribed,
    Unsubscribing,
}
use When::*;

/// The statements are those of MQTT 5; sections stand where a rule has no number. A version of 0 means both.
#[test]
fn what_the_specification_forbids_is_an_error() {
    let large = |first: u8, body: &[u8]| packet(first, &[body, &[0; 2000]]);
    let cases: Vec<(&str, u8, When, Vec<u8>)> = vec![
        ("1.5.5: a length of five bytes", 0, Subscribed, b"\x30\x80\x80\x80\x80\x01".into()),
        ("MQTT-2.1.3-1: reserved flags of CONNACK", 4, AfterConnect, b"\x21\x02\x00\x00".into()),
        ("MQTT-2.1.3-1: reserved flags of SUBACK", 4, AfterConnack, b"\x92\x04\x00\x01\x01\x01".into()),
        ("MQTT-2.1.3-1: reserved flags of PINGRESP", 0, Subscribed, b"\xd1\x00".into()),
        ("MQTT-2.1.3-1: reserved flags of UNSUBACK", 4, Unsubscribing, b"\xb2\x02\x00\x02".into()),
        ("2.1.2: packet type 0", 0, Subscribed, b"\x00\x00".into()),
        ("2.1.2: packet type 15 in MQTT 3.1.1", 4, Subscribed, b"\xf0\x00".into()),
        ("4.12: AUTH without an exchange", 5, Subscribed, b"\xf0\x02\x18\x00".into()),
        ("2.1.2: CONNECT from a broker", 0, Subscribed, b"\x10\x00".into()),
        ("2.1.2: SUBSCRIBE from a broker", 0, Subscribed, b"\x82\x00".into()),
        ("2.1.2: PINGREQ from a broker", 0, Subscribed, b"\xc0\x00".into()),
        ("2.1.2: DISCONNECT from a broker of MQTT 3.1.1", 4, Subscribed, b"\xe0\x00".into()),
        ("MQTT-2.2.1-4: packet id 0", 0, Subscribed, b"\x32\x06\x00\x01t\x00\x00\x00".into()),
        ("MQTT-2.2.1-4: packet id 0, over the limit", 0, Subscribed, large(0x32, b"\x00\x01t\x00\x00")),
        ("MQTT-2.2.1-4: a packet id in use", 0, Subscribed, b"\x32\x06\x00\x01t\x00\x01\x00".repeat(2)),
        ("MQTT-2.2.1-6: the same SUBACK twice", 5, AfterConnack, suback(5, 1, &[1]).repeat(2)),
        ("MQTT-2.2.1-6: SUBACK with another id", 0, AfterConnack, b"\x90\x05\x00\x09\x00\x01\x01".into()),
        ("MQTT-2.2.1-6: UNSUBACK with another id", 0, Unsubscribing, b"\xb0\x04\x00\x09\x00\x00".into()),
        ("MQTT-3.2.0-1: PUBLISH before CONNACK", 0, AfterConnect, b"\x30\x04\x00\x01t\x00".into()),
        ("MQTT-3.2.0-1: a large one before CONNACK", 0, AfterConnect, large(0x30, b"\x00\x01t\x00")),
        ("MQTT-3.2.0-1: SUBACK before CONNACK", 0, AfterConnect, suback(4, 1, &[1, 1])),
        ("MQTT-3.2.0-1: PINGRESP before CONNACK", 0, AfterConnect, PINGRESP.into()),
        ("MQTT-3.2.0-2: a second CONNACK", 5, Subscribed, connack(5, false)),
        ("MQTT-3.2.0-2: a second CONNACK", 4, AfterConnack, connack(4, false)),
        ("MQTT-3.2.2-8: an unknown reason code", 4, AfterConnect, b"\x20\x02\x00\x06".into()),
        ("MQTT-3.2.2-8: an unknown reason code", 5, AfterConnect, b"\x20\x03\x00\x05\x00".into()),
        ("3.2: CONNACK without a reason code", 0, AfterConnect, b"\x20\x01\x00".into()),
        ("3.2: CONNACK without a body", 0, AfterConnect, b"\x20\x00".into()),
        ("3.2.2.3: a property of another packet", 5, AfterConnect, b"\x20\x05\x00\x00\x02\x01\x01".into()),
        ("3.2.2.3: properties that end early", 5, AfterConnect, b"\x20\x05\x00\x00\x09\x21\x00".into()),
        ("MQTT-3.3.1-2: DUP at QoS 0", 0, Subscribed, b"\x38\x04\x00\x01t\x00".into()),
        ("MQTT-3.3.1-4: QoS 3", 0, Subscribed, b"\x36\x06\x00\x01t\x00\x01\x00".into()),
        ("MQTT-3.8.4-8: more than the QoS granted", 0, Subscribed, b"\x34\x06\x00\x01t\x00\x01\x00".into()),
        ("MQTT-3.8.4-8: more, over the limit", 0, Subscribed, large(0x34, b"\x00\x01t\x00\x01\x00")),
        ("3.3.2.1: a topic that reaches beyond the packet", 0, Subscribed, b"\x30\x04\x00\x05t\x00".into()),
        ("3.3.2.1: the same, over the limit", 0, Subscribed, large(0x30, b"\xff\xff")),
        ("3.3.2.1: a packet without a topic", 0, Subscribed, b"\x30\x01\x00".into()),
        ("3.3.2.2: a packet that ends in its id", 0, Subscribed, b"\x32\x04\x00\x01t\x00".into()),
        ("3.3: PUBLISH without a body", 0, Subscribed, b"\x30\x00".into()),
        ("MQTT-3.3.2-11: a topic alias", 5, Subscribed, b"\x30\x07\x00\x01t\x03\x23\x00\x01".into()),
        ("MQTT-3.3.2-11: an alias alone", 5, Subscribed, b"\x30\x06\x00\x00\x03\x23\x00\x01".into()),
        ("MQTT-4.7.3-1: an empty topic", 0, Subscribed, b"\x30\x03\x00\x00\x00".into()),
        ("MQTT-4.7.3-1: an empty topic, over the limit", 0, Subscribed, large(0x30, b"\x00\x00\x00")),
        ("MQTT-2.2.2-1: no property length", 5, Subscribed, b"\x30\x03\x00\x01t".into()),
        ("2.2.2: properties that end early", 5, Subscribed, b"\x30\x05\x00\x01t\x05\x01".into()),
        ("2.2.2.2: an unknown property", 5, Subscribed, b"\x30\x06\x00\x01t\x02\x7f\x00".into()),
        ("2.2.2.2: a property of CONNACK", 5, Subscribed, b"\x30\x07\x00\x01t\x03\x13\x00\x01".into()),
        ("MQTT-3.8.4-6: too few grants", 4, AfterConnack, suback(4, 1, &[1])),
        ("MQTT-3.8.4-6: too many grants", 5, AfterConnack, suback(5, 1, &[1, 1])),
        ("MQTT-3.8.4-6: no grants", 0, AfterConnack, b"\x90\x03\x00\x01\x00".into()),
        ("MQTT-3.9.3-2: an unknown reason code", 4, AfterConnack, suback(4, 1, &[1, 3])),
        ("MQTT-3.9.3-2: an unknown reason code", 5, AfterConnack, suback(5, 1, &[0x81])),
        ("3.8: SUBACK without SUBSCRIBE", 0, Subscribed, suback(4, 1, &[1, 1])),
        ("3.11: UNSUBACK without UNSUBSCRIBE", 0, Subscribed, unsuback(4, 1)),
        ("3.11: UNSUBACK without a packet id", 0, Unsubscribing, b"\xb0\x00".into()),
        ("3.13: PINGRESP with a body", 0, Subscribed, b"\xd0\x01\x00".into()),
        ("MQTT-3.1.2-24: not a PUBLISH, over the limit", 0, AfterConnack, large(0x90, b"\x00\x01")),
        ("4.3.2: PUBACK for nothing of ours", 0, Subscribed, puback(1)),
    ];
    let mut accepted = Vec::new();
    for (rule, only, when, bytes) in cases {
        for version in [4, 5].into_iter().filter(|version| only == 0 || only == *version) {
            let config = options(version, json!({}));
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
            let fed = client.feed(&bytes);
            if !matches!(fed, Err(SessionError::Malformed(_) | SessionError::Codec(_))) {
                accepted.push(format!("version {version}, {rule}: {fed:?}"));
            }
        }
    }
    assert_eq!(accepted, [""; 0]);
}

#[test]
fn a_session_after_a_clean_start_is_an_error() {
    for version in [4, 5] {
        // [MQTT-3.2.2-4]
        let mut client = Client::new(&options(version, json!({ "sessionExpirySeconds": 0 })));
        assert!(matches!(client.feed(&connack(version, true)), Err(SessionError::Malformed(_))));
    }
}
