//! The broker's answers, and above all its refusals, are reported in its own words.

use std::time::Instant;

use millrace::mqtt::session::{Event, Session, SessionError};
use rumqttc::v5::mqttbytes::v5;
use serde_json::json;

use crate::broker::{connack, full_connack, packet, suback, suback_with_reason, subacks};
use crate::client::{Client, FILTERS, Seen, options};

#[test]
fn a_broker_of_another_version_is_recognised_by_its_answer() {
    for (version, answer) in [
        (5, &b"\x20\x02\x00\x01"[..]), // NATS, aedes
        (5, b"\x20\x02\x00\x00"),
        (5, b"\x20\x03\x00\x84\x00"),
        (4, b"\x20\x02\x00\x01"),
        (4, b"\x20\x03\x00\x84\x00"),
    ] {
        let mut client = Client::new(&options(version, json!({})));
        assert_eq!(client.feed(answer), Err(SessionError::VersionRefused), "{answer:x?}");
        assert!(client.session.is_connecting());
    }
}

#[test]
fn a_maximum_qos_of_the_broker_is_what_is_asked_for() {
    let mut client = Client::new(&options(5, json!({ "qos": 2 })));
    client.written();
    client.feed(b"\x20\x05\x00\x00\x02\x24\x01").unwrap();
    let subscribe = client.written();
    assert_eq!(subscribe.last().map(|options| options & 3), Some(1), "{subscribe:x?}");
    client.feed(&subacks(5, 1, &[1, 1])).unwrap();
    let downgraded = FILTERS.map(String::from).to_vec();
    assert_eq!(client.seen, [Seen::Subscribed { downgraded }]);
}

#[test]
fn a_refusal_says_why() {
    let refused = |version, bytes: &[u8]| match Client::new(&options(version, json!({}))).feed(bytes) {
        Err(SessionError::Refused { reason, .. }) => reason,
        other => panic!("{other:?}"),
    };
    assert_eq!(refused(4, b"\x20\x02\x00\x02"), "identifier rejected");
    assert_eq!(refused(4, b"\x20\x02\x00\x03"), "server unavailable");
    assert_eq!(refused(4, b"\x20\x02\x00\x04"), "bad user name or password");
    assert_eq!(refused(4, b"\x20\x02\x00\x05"), "not authorized");
    assert_eq!(refused(5, b"\x20\x03\x00\x87\x00"), "not authorized");
    assert_eq!(refused(5, b"\x20\x03\x00\x9f\x00"), "connection rate exceeded");
    let banned = full_connack(v5::ConnectReturnCode::Banned);
    assert_eq!(refused(5, &banned), "banned (the reason), see elsewhere");
    for code in 0x80..0xa0 {
        let fed = Client::new(&options(5, json!({}))).feed(&[0x20, 3, 0, code, 0]);
        if let Err(SessionError::Refused { reason, .. }) = fed {
            assert!(code == 0x80 || reason != "unspecified error", "{code:#x}");
        }
    }
}

#[test]
fn a_refused_subscription_says_which_and_why() {
    let refused = |version, bytes: &[u8]| {
        let mut client = Client::new(&options(version, json!({})));
        client.feed(&connack(version, false)).unwrap();
        match client.feed(bytes) {
            Err(SessionError::SubscriptionRefused { filter, reason }) => (filter, reason),
            other => panic!("{other:?}"),
        }
    };
    let expected = |filter: &str, reason: &str| (filter.to_string(), reason.to_string());
    assert_eq!(refused(4, &suback(4, 1, &[1, 0x80])), expected(FILTERS[1], "no reason given"));
    assert_eq!(refused(5, &suback(5, 1, &[0x87])), expected(FILTERS[0], "not authorized"));
    let packet = suback_with_reason(2, v5::SubscribeReasonCode::SharedSubscriptionsNotSupported);
    let reason = "shared subscriptions not supported (the reason)";
    assert_eq!(refused(5, &packet), expected(FILTERS[1], reason));
}

#[test]
fn a_lowered_qos_is_reported() {
    for version in [4, 5] {
        let mut client = Client::new(&options(version, json!({})));
        client.feed(&connack(version, false)).unwrap();
        client.feed(&subacks(version, 1, &[1, 0])).unwrap();
        assert_eq!(client.seen, [Seen::Subscribed { downgraded: vec![FILTERS[1].into()] }]);
    }
}

#[test]
fn a_disconnect_says_why() {
    let reason = |bytes: &[u8]| match Client::subscribed(&options(5, json!({})), 5).feed(bytes) {
        Err(SessionError::Disconnected(reason)) => reason,
        other => format!("{other:?}"),
    };
    assert_eq!(reason(b"\xe0\x00"), "normally");
    assert_eq!(reason(b"\xe0\x02\x8b\x00"), "server shutting down");
    assert_eq!(reason(b"\xe0\x07\x89\x05\x1f\x00\x02me"), "server busy (me)");
    assert_eq!(reason(b"\xe0\x07\x9c\x05\x1c\x00\x02me"), "use another server, see me");
    assert_eq!(reason(b"\xe0\x01\x89"), "server busy", "properties may be left out: MQTT 5, 3.14.2.2.1");
    for taken_over in [&b"\xe0\x07\x8e\x05\x1f\x00\x02me"[..], b"\xe0\x01\x8e"] {
        assert_eq!(reason(taken_over), "Err(TakenOver)");
    }
}

#[test]
fn a_session_that_is_kept_for_less_is_reported() {
    let mut client = Client::new(&options(5, json!({ "sessionExpirySeconds": 3600 })));
    client.feed(b"\x20\x08\x00\x00\x05\x11\x00\x00\x00\x3c").unwrap();
    assert_eq!(client.seen, [Seen::ShortSession { seconds: 60 }]);
}

#[test]
fn features_that_the_broker_lacks_are_not_requested() {
    let refused = |properties: &[u8]| {
        let mut client = Client::new(&options(5, json!({})));
        client.written();
        let fed = client.feed(&packet(0x20, &[&[0, 0, properties.len() as u8], properties]));
        assert_eq!(client.written(), [0; 0]);
        match fed {
            Err(SessionError::SubscriptionRefused { filter, reason }) => (filter, reason),
            other => panic!("{other:?}"),
        }
    };
    let expected = |filter: &str, reason: &str| (filter.to_string(), reason.to_string());
    assert_eq!(refused(b"\x28\x00"), expected(FILTERS[0], "wildcard subscriptions not supported"));
    assert_eq!(refused(b"\x2a\x00"), expected(FILTERS[1], "shared subscriptions not supported"));
    let too_small = "the broker takes packets of 20 bytes at most";
    assert_eq!(refused(b"\x27\x00\x00\x00\x14"), expected(FILTERS[0], too_small));
}

#[test]
fn an_unsuback_may_be_long() {
    let mut client = Client::subscribed(&options(5, json!({})), 5);
    client.session.unsubscribe();
    let mut properties = b"\x1f\x00\xc8".to_vec();
    properties.resize(3 + 200, b'x');
    client.feed(&packet(0xb0, &[&[0, 3], &[0xcb, 1], &properties, &[0, 0]])).unwrap();
    assert_eq!(client.seen, [Seen::Unsubscribed]);
}

#[test]
fn a_topic_that_is_not_utf8_passes_as_it_is() {
    let config = options(4, json!({}));
    let mut session = Session::new(&config, "c".into(), vec!["#".to_string()], Instant::now());
    session.connect(Instant::now());
    session.receive(&connack(4, false), Instant::now()).unwrap();
    let bytes = b"\x30\x05\x00\x02\xff\xfex";
    let received = session.receive(bytes, Instant::now()).unwrap();
    let Some((7, Event::Message { publish, .. })) = received else { panic!("{received:?}") };
    assert_eq!((publish.topic, publish.payload), (&b"\xff\xfe"[..], &b"x"[..]));
}
