//! The memory that a broker can make us hold, and how many messages it may have in flight.

use std::time::Duration;

use millrace::mqtt::session::SessionError;
use serde_json::json;

use crate::broker::{at_least_once, exactly_once, packet, publish, pubrel};
use crate::client::{Client, Message, Seen, options};

#[test]
fn the_receive_maximum_is_kept_to_until_something_is_acknowledged() {
    let config = options(5, json!({ "qos": 2, "receiveMaximum": 2 }));
    let mut client = Client::subscribed(&config, 5);
    client.feed(&publish(5, &exactly_once(1, "x"))).unwrap();
    client.feed(&publish(5, &exactly_once(2, "x"))).unwrap();
    client.settle(&[0, 1]);
    // PUBREC does not end it, PUBCOMP would.
    let (_, sent) = client.refuse(&publish(5, &at_least_once(3, "x")));
    assert_eq!(sent, [0xe0, 2, 0x93, 0]);

    // A connection begins with none: 4.9. Redeliveries are the broker's own affair.
    client.reconnect(5, true);
    client.feed(&pubrel(1)).unwrap();
    client.written();
    for packet_id in 3..=7 {
        client.feed(&publish(5, &Message { duplicate: true, ..at_least_once(packet_id, "x") })).unwrap();
    }
}

#[test]
fn each_acknowledgement_allows_for_as_many_again() {
    for qos in [1, 2] {
        let config = options(5, json!({ "qos": 2, "receiveMaximum": 2 }));
        let mut client = Client::subscribed(&config, 5);
        let message = |packet_id| publish(5, &Message { qos, ..at_least_once(packet_id, "x") });
        client.feed(&message(1)).unwrap();
        client.settle(&[0]);
        if qos == 2 {
            client.feed(&pubrel(1)).unwrap();
        }
        for packet_id in 2..=4 {
            client.feed(&message(packet_id)).unwrap();
        }
        let (_, sent) = client.refuse(&message(5));
        assert_eq!(sent, [0xe0, 2, 0x93, 0]);
    }
}

#[test]
fn a_message_over_the_limit_is_not_held() {
    for version in [4, 5] {
        let mut client = Client::subscribed(&options(version, json!({})), version);
        let properties: &[u8] = if version == 5 { &[0] } else { &[] };
        let large = packet(0x30, &[b"\x00\x01t", properties, &vec![b'x'; 5_000_000]]);
        for piece in large.chunks(1000) {
            client.feed(piece).unwrap();
            assert!(client.unread.len() < 1100, "{} bytes held", client.unread.len());
        }
        let seen = Seen::TooLarge { topic: "t".into(), qos: 0, packet_bytes: large.len(), sequence: None };
        assert_eq!(client.seen, [seen]);
    }
}

#[test]
fn properties_without_end_are_not_held_either() {
    let mut client = Client::subscribed(&options(5, json!({ "qos": 2 })), 5);
    let user_property = [b"\x26\x00\x01k\xff\xff".as_slice(), &[b'v'; 0xffff]].concat();
    let properties = user_property.repeat(50);
    assert_eq!(properties.len(), 3_277_050);
    let large = packet(0x34, &[b"\x00\x01t\x00\x01", b"\xfa\x81\xc8\x01", &properties]);
    for piece in large.chunks(1000) {
        client.feed(piece).unwrap();
        assert!(client.unread.len() < 130 << 10, "{} bytes held", client.unread.len());
    }
    let seen = Seen::TooLarge { topic: "t".into(), qos: 2, packet_bytes: large.len(), sequence: Some(0) };
    assert_eq!(client.seen, [seen]);

    let nameless = packet(0x30, &[b"\x00\x00", b"\xfa\x81\xc8\x01", &properties]);
    for piece in nameless.chunks(1000) {
        client.feed(piece).unwrap();
    }
    assert!(matches!(client.seen.last(), Some(Seen::TooLarge { topic, .. }) if topic.is_empty()));
}

#[test]
fn a_broker_that_asks_and_does_not_read_is_given_up() {
    for version in [4, 5] {
        let config = options(version, json!({ "qos": 2, "keepAliveSeconds": 10 }));
        let mut client = Client::subscribed(&config, version);
        while !client.session.is_congested() {
            client.feed(&pubrel(1).repeat(1000)).unwrap();
        }
        assert!(client.session.outgoing().len() < 600 << 10);
        let after = |seconds| client.now + Duration::from_secs(seconds);
        assert!(client.session.tick(after(5), false).is_ok());
        assert_eq!(client.session.tick(after(15), false), Err(SessionError::Timeout));
    }
}
