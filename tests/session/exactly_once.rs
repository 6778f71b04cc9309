//! QoS 2: PUBREC once settled, PUBCOMP for each PUBREL, and each message taken once, over reconnects too.

use serde_json::json;

use crate::broker::{at_least_once, exactly_once, puback, pubcomp, publish, pubrec, pubrel, sized, subacks};
use crate::client::{Client, Message, Seen, options};

/// A client for which the broker has answered two PUBRECs in their order, so that any number may leave together. The next message has the
/// sequence number 2.
fn client(version: u8) -> Client {
    let mut client = Client::subscribed(&options(version, json!({ "qos": 2 })), version);
    for packet_id in [101, 102] {
        client.feed(&publish(version, &exactly_once(packet_id, "before"))).unwrap();
    }
    assert_eq!(client.settle(&[0, 1]), [pubrec(101), pubrec(102)].concat());
    for packet_id in [101, 102] {
        client.feed(&pubrel(packet_id)).unwrap();
    }
    client.written();
    client.seen.clear();
    client
}

fn again(version: u8, message: Message) -> Vec<u8> {
    publish(version, &Message { duplicate: true, ..message })
}

/// The answer to a PUBREL that is for nothing (any more).
fn unknown(version: u8, packet_id: u16) -> Vec<u8> {
    match version {
        4 => pubcomp(packet_id),
        _ => vec![0x70, 3, (packet_id >> 8) as u8, packet_id as u8, 0x92],
    }
}

#[test]
fn pubrec_leaves_once_settled_and_in_the_order_of_receipt() {
    for version in [4, 5] {
        let mut client = client(version);
        client.feed(&publish(version, &exactly_once(7, "x"))).unwrap();
        client.feed(&publish(version, &at_least_once(8, "x"))).unwrap();
        client.feed(&publish(version, &exactly_once(9, "x"))).unwrap();
        assert_eq!(client.settle(&[3, 4]), [0; 0]);
        assert_eq!(client.settle(&[2]), [pubrec(7), puback(8), pubrec(9)].concat()); // [MQTT-4.6.0-2], [MQTT-4.6.0-3]
        assert_eq!(client.session.unacknowledged(), 0);
        client.feed(&pubrel(7)).unwrap();
        client.feed(&pubrel(9)).unwrap();
        assert_eq!(client.written(), [pubcomp(7), pubcomp(9)].concat()); // [MQTT-4.3.3-11]
        client.feed(&pubrel(7)).unwrap();
        assert_eq!(client.written(), unknown(version, 7), "a repeated PUBREL is answered");
        client.feed(&publish(version, &exactly_once(7, "x"))).unwrap();
        assert_eq!(client.seen.last().and_then(Seen::sequence), Some(5), "[MQTT-4.3.3-12]");
    }
}

#[test]
fn a_message_is_taken_once_until_it_is_released() {
    for version in [4, 5] {
        let mut client = client(version);
        let message = exactly_once(1, "once");
        client.feed(&publish(version, &message)).unwrap();
        client.feed(&again(version, message.clone())).unwrap();
        assert_eq!(client.seen[1..], [Seen::Duplicate]);
        assert_eq!(client.settle(&[2]), pubrec(1));
        for bytes in [again(version, message.clone()), publish(version, &message)] {
            client.feed(&bytes).unwrap();
            assert_eq!(client.seen.last(), Some(&Seen::Duplicate));
            assert_eq!(client.written(), pubrec(1)); // [MQTT-4.3.3-10]
        }
    }
}

#[test]
fn a_resumed_session_goes_on_where_it_was() {
    for version in [4, 5] {
        let mut client = client(version);
        let message = |packet_id| exactly_once(packet_id, &packet_id.to_string());
        for packet_id in 1..=4 {
            client.feed(&publish(version, &message(packet_id))).unwrap();
        }
        assert_eq!(client.settle(&[2, 3]), [pubrec(1), pubrec(2)].concat());

        client.reconnect(version, true);
        // The broker had the PUBREC for 1, and not that for 2.
        client.feed(&pubrel(1)).unwrap();
        assert_eq!(client.written(), pubcomp(1));
        for packet_id in 2..=4 {
            client.feed(&again(version, message(packet_id))).unwrap();
        }
        assert_eq!(client.seen[1..], [Seen::Duplicate, Seen::Duplicate, Seen::Duplicate]);
        assert_eq!(client.settle(&[5]), pubrec(2));
        assert_eq!(client.settle(&[4]), [pubrec(3), pubrec(4)].concat());

        client.reconnect(version, true);
        client.reconnect(version, true);
        for packet_id in 2..=4 {
            client.feed(&pubrel(packet_id)).unwrap();
            assert_eq!(client.written(), pubcomp(packet_id));
        }
        client.feed(&pubrel(2)).unwrap();
        assert_eq!(client.written(), unknown(version, 2));
    }
}

#[test]
fn a_broker_that_forgot_the_session_begins_anew() {
    for version in [4, 5] {
        let mut client = client(version);
        client.feed(&publish(version, &exactly_once(1, "x"))).unwrap();
        client.settle(&[2]);
        client.reconnect(version, false);
        let packet_id = if version == 4 { 2 } else { 3 };
        client.feed(&subacks(version, packet_id, &[2, 2])).unwrap();
        client.written();
        client.feed(&pubrel(1)).unwrap();
        assert_eq!(client.written(), unknown(version, 1));
        client.feed(&publish(version, &exactly_once(1, "x"))).unwrap();
        assert_eq!(client.seen.last().and_then(Seen::sequence), Some(3));
    }
}

#[test]
fn a_message_over_the_limit_is_acknowledged_like_any_other() {
    for version in [4, 5] {
        let mut client = client(version);
        let mut large = sized(version, 2, 3, 5000);
        client.feed(&large).unwrap();
        assert_eq!(client.seen.last().and_then(Seen::sequence), Some(2));
        client.reconnect(version, true);
        large[0] |= 8;
        client.feed(&large).unwrap();
        assert_eq!(client.seen[1..], [Seen::Duplicate]);
        assert_eq!(client.settle(&[2]), pubrec(3));
        client.feed(&large).unwrap();
        assert_eq!(client.written(), pubrec(3));
        client.feed(&pubrel(3)).unwrap();
        assert_eq!(client.written(), pubcomp(3));
    }
}

#[test]
fn a_pubrel_says_that_the_pubrec_arrived() {
    for version in [4, 5] {
        let mut client = client(version);
        client.feed(&publish(version, &exactly_once(1, "x"))).unwrap();
        client.session.settle(&crate::client::owed(&[2]));
        client.session.acknowledge();
        client.feed(&pubrel(1)).unwrap();
        assert_eq!(client.written(), [pubrec(1), pubcomp(1)].concat());
        // A PUBREC that may have left before the connection broke.
        client.feed(&publish(version, &exactly_once(2, "y"))).unwrap();
        client.reconnect(version, true);
        client.feed(&pubrel(2)).unwrap();
        assert_eq!(client.written(), pubcomp(2));
        assert_eq!(client.settle(&[3]), [0; 0]);
    }
}
