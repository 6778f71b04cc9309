//! Pings, and giving up on a broker that is silent.

use std::time::Duration;

use millrace::mqtt::session::SessionError;
use rumqttc::v5::mqttbytes::v5;
use serde_json::json;

use crate::broker::{PINGREQ, PINGRESP, full_connack, publish};
use crate::client::{Client, Message, options};

const SECOND: Duration = Duration::from_secs(1);

#[test]
fn an_idle_connection_is_pinged_and_a_silent_one_given_up() {
    for version in [4, 5] {
        let mut client = Client::subscribed(&options(version, json!({ "keepAliveSeconds": 10 })), version);
        assert_eq!(client.session.deadline(), Some(client.now + 5 * SECOND));
        assert_eq!(client.tick(5 * SECOND - Duration::from_millis(1), true), Ok(vec![]));
        assert_eq!(client.tick(5 * SECOND, true), Ok(PINGREQ.into()));
        assert_eq!(client.tick(9 * SECOND, true), Ok(vec![]));
        assert_eq!(client.tick(10 * SECOND, true), Ok(PINGREQ.into()), "the first may be lost");
        assert_eq!(client.session.deadline(), Some(client.now + 15 * SECOND));
        assert_eq!(client.tick(15 * SECOND - Duration::from_millis(1), true), Ok(vec![]));
        assert_eq!(client.tick(15 * SECOND, true), Err(SessionError::Timeout));
    }
}

#[test]
fn an_answer_keeps_the_connection() {
    for version in [4, 5] {
        let mut client = Client::subscribed(&options(version, json!({ "keepAliveSeconds": 10 })), version);
        for _ in 0..10 {
            assert_eq!(client.tick(5 * SECOND, true), Ok(PINGREQ.into()));
            client.now += 6 * SECOND;
            client.feed(&PINGRESP).unwrap();
        }
        assert_eq!(client.tick(4 * SECOND - Duration::from_millis(1), true), Ok(vec![]));
    }
}

#[test]
fn one_who_only_listens_is_pinged_and_so_is_one_who_only_speaks() {
    let config = options(5, json!({ "keepAliveSeconds": 10 }));
    let mut listener = Client::subscribed(&config, 5);
    let start = listener.now;
    for second in 1..=4 {
        listener.now = start + second * SECOND;
        listener.feed(&publish(5, &Message { topic: "t".into(), ..Message::default() })).unwrap();
        assert_eq!(listener.tick(Duration::ZERO, true), Ok(vec![]));
    }
    assert_eq!(listener.tick(SECOND, true), Ok(PINGREQ.into()), "the broker must hear from us");

    let mut speaker = Client::subscribed(&config, 5);
    speaker.session.sent(0, speaker.now + 4 * SECOND);
    assert_eq!(speaker.tick(5 * SECOND, true), Ok(PINGREQ.into()), "we must hear from the broker");
}

#[test]
fn silence_does_not_count_while_we_do_not_read() {
    let mut client = Client::subscribed(&options(5, json!({ "keepAliveSeconds": 10 })), 5);
    let mut pings = 0;
    for second in 1..=100 {
        pings += usize::from(client.tick(second * SECOND, false).unwrap() == PINGREQ);
    }
    assert_eq!(pings, 20, "the broker goes on hearing from us");
    assert!(client.tick(114 * SECOND, true).is_ok());
    assert_eq!(client.tick(115 * SECOND, true), Err(SessionError::Timeout));
}

#[test]
fn a_ping_that_left_late_is_given_its_time() {
    let mut client = Client::subscribed(&options(5, json!({ "keepAliveSeconds": 10 })), 5);
    assert_eq!(client.tick(1000 * SECOND, true), Ok(PINGREQ.into()));
    assert_eq!(client.tick(1005 * SECOND, true), Ok(PINGREQ.into()));
    assert_eq!(client.tick(1010 * SECOND, true), Err(SessionError::Timeout));
}

#[test]
fn the_keep_alive_of_the_server_counts_for_its_connection() {
    let mut client = Client::new(&options(5, json!({ "keepAliveSeconds": 10 })));
    client.feed(&full_connack(v5::ConnectReturnCode::Success)).unwrap();
    client.written();
    assert_eq!(client.session.client_id(), "assigned");
    assert_eq!(client.session.deadline(), Some(client.now + 2 * SECOND)); // [MQTT-3.2.2-21]
    assert_eq!(client.tick(2 * SECOND, true), Ok(PINGREQ.into()));
    assert_eq!(client.tick(6 * SECOND, true), Err(SessionError::Timeout));
    client.reconnect(5, false);
    assert_eq!(client.session.deadline(), Some(client.now + 5 * SECOND));
}

#[test]
fn a_closed_session_has_no_deadline() {
    let mut client = Client::subscribed(&options(5, json!({})), 5);
    client.session.disconnect(false);
    assert_eq!(client.session.outgoing(), [0xe0, 0]);
    assert_eq!(client.session.deadline(), None);
    assert_eq!(client.session.tick(client.now + 1000 * SECOND, true), Ok(()));
}
