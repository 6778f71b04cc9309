//! Topic aliases: resolved before the message is seen, and forgotten with the connection.

use serde_json::json;

use crate::broker::{packet, puback, publish, publish_with};
use crate::client::{Client, Message, Seen, options};

fn topics(client: &Client) -> Vec<&str> {
    let topic = |seen: &Seen| match seen {
        Seen::Message { message, .. } => Some(message.topic.clone()),
        Seen::TooLarge { topic, .. } => Some(topic.clone()),
        _ => None,
    };
    client.seen.iter().filter_map(topic).map(|topic| &*topic.leak()).collect()
}

fn alias(topic: &str, alias: u8) -> Vec<u8> {
    publish_with(0x30, topic, b"", &[0x23, 0, alias], "x")
}

#[test]
fn an_alias_stands_for_the_topic_it_came_with_last() {
    let mut client = Client::subscribed(&options(5, json!({})), 5);
    for bytes in
        [alias("a/1", 1), alias("a/2", 64), alias("", 1), alias("", 64), alias("a/3", 1), alias("", 1)]
    {
        client.feed(&bytes).unwrap();
    }
    assert_eq!(topics(&client), ["a/1", "a/2", "a/1", "a/2", "a/3", "a/3"]);
}

#[test]
fn no_alias_outlives_its_connection() {
    let mut client = Client::subscribed(&options(5, json!({})), 5);
    client.feed(&alias("a/1", 1)).unwrap();
    client.reconnect(5, true);
    client.feed(&alias("", 1)).unwrap(); // [MQTT-3.3.2-7]
    assert!(
        matches!(client.seen.last(), Some(Seen::Invalid { code: "TOPIC_INVALID", .. })),
        "{:?}",
        client.seen
    );
}

#[test]
fn a_message_over_the_limit_has_its_topic_and_may_give_an_alias() {
    let mut client = Client::subscribed(&options(5, json!({})), 5);
    let large = |topic: &str| {
        let len = [0, topic.len() as u8];
        packet(0x30, &[&len, topic.as_bytes(), &[3, 0x23, 0, 5], &[0; 3000]])
    };
    client.feed(&large("a/large")).unwrap();
    client.feed(&large("")).unwrap();
    client.feed(&alias("", 5)).unwrap();
    assert_eq!(topics(&client), ["a/large"; 3]);
}

#[test]
fn a_message_sent_again_under_its_full_topic_is_recognised() {
    let mut client = Client::subscribed(&options(5, json!({})), 5);
    client.feed(&alias("a/1", 1)).unwrap();
    client.feed(&publish_with(0x32, "", b"\x00\x09", &[0x23, 0, 1], "x")).unwrap();
    client.reconnect(5, true);
    let message = Message {
        topic: "a/1".into(),
        payload: b"x".into(),
        qos: 1,
        packet_id: 9,
        duplicate: true,
        ..Message::default()
    };
    client.feed(&publish(5, &message)).unwrap();
    assert_eq!(client.seen[1..], [Seen::Duplicate]);
    assert_eq!(client.settle(&[0]), puback(9));
}
