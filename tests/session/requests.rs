//! CONNECT, SUBSCRIBE and UNSUBSCRIBE, as another decoder reads them.

use bytes::BytesMut;
use rumqttc::mqttbytes::{self as v4codec, v4};
use rumqttc::v5::mqttbytes::{self as v5codec, v5};
use serde_json::{Value, json};

use millrace::config::Config;
use millrace::mqtt::session::Session;
use millrace::mqtt::{SessionError, filters};

use crate::broker::{connack, next_id, packet, suback, subacks};
use crate::client::{Client, FILTERS, MAX_PACKET_BYTES, options};

fn connect_v4(more: Value) -> v4::Connect {
    let mut bytes = Client::new(&options(4, more)).written().as_slice().into();
    let Ok(v4::Packet::Connect(connect)) = v4::Packet::read(&mut bytes, usize::MAX) else {
        panic!("no CONNECT")
    };
    assert!(bytes.is_empty());
    connect
}

fn connect_v5(more: Value) -> (v5::Connect, Option<v5::Login>) {
    let mut bytes = Client::new(&options(5, more)).written().as_slice().into();
    let Ok(v5::Packet::Connect(connect, None, login)) = v5::Packet::read(&mut bytes, None) else {
        panic!("no CONNECT")
    };
    assert!(bytes.is_empty());
    (connect, login)
}

#[test]
fn connect_carries_what_is_configured() {
    let login = json!({ "username": "zoë", "password": "s3cret", "keepAliveSeconds": 77 });

    let connect = connect_v4(login.clone());
    let expected = v4::Login { username: "zoë".into(), password: "s3cret".into() };
    assert_eq!((connect.client_id.as_str(), connect.keep_alive), ("fleet-1", 77));
    assert_eq!((connect.login, connect.clean_session), (Some(expected), false));
    let connect = connect_v4(json!({ "sessionExpirySeconds": 0 }));
    assert_eq!((connect.login, connect.last_will, connect.clean_session), (None, None, true));

    let (connect, sent) = connect_v5(login);
    assert_eq!((connect.client_id.as_str(), connect.keep_alive, connect.clean_start), ("fleet-1", 77, false));
    assert_eq!(sent, Some(v5::Login { username: "zoë".into(), password: "s3cret".into() }));
    let mut properties = v5::ConnectProperties::new();
    properties.session_expiry_interval = Some(86400);
    properties.receive_maximum = Some(65535);
    properties.max_packet_size = Some(MAX_PACKET_BYTES as u32);
    properties.topic_alias_max = Some(64);
    assert_eq!(connect.properties, Some(properties.clone()));

    let more = json!({
        "sessionExpirySeconds": 0, "receiveMaximum": 20, "maxPacketBytes": 2048, "topicAliasMaximum": 0,
    });
    let (connect, sent) = connect_v5(more);
    properties.session_expiry_interval = None;
    properties.topic_alias_max = None;
    properties.receive_maximum = Some(20);
    properties.max_packet_size = Some(2048);
    assert_eq!((connect.properties, connect.clean_start, sent), (Some(properties), true, None));
}

/// The packet id, the filters and the identifier of each SUBSCRIBE that answers a CONNACK.
fn subscribes(more: Value, connack: &[u8]) -> Vec<(u16, Vec<v5::Filter>, Option<usize>)> {
    let mut client = Client::new(&options(5, more));
    client.written();
    client.feed(connack).unwrap();
    let mut bytes: BytesMut = client.written().as_slice().into();
    let mut subscribes = Vec::new();
    while !bytes.is_empty() {
        let Ok(v5::Packet::Subscribe(subscribe)) = v5::Packet::read(&mut bytes, None) else { panic!() };
        subscribes.push((subscribe.pkid, subscribe.filters, subscribe.properties.and_then(|p| p.id)));
    }
    subscribes
}

#[test]
fn subscribe_asks_for_every_filter() {
    let mut client = Client::new(&options(4, json!({})));
    client.written();
    client.feed(&connack(4, false)).unwrap();
    let mut bytes = client.written().as_slice().into();
    let Ok(v4::Packet::Subscribe(subscribe)) = v4::Packet::read(&mut bytes, usize::MAX) else { panic!() };
    let filters = FILTERS.map(|path| v4::SubscribeFilter::new(path.into(), v4codec::QoS::AtLeastOnce));
    assert_eq!((subscribe.pkid, subscribe.filters), (1, filters.to_vec()));

    for (retained, rule) in
        [("accept", v5::RetainForwardRule::OnNewSubscribe), ("skip", v5::RetainForwardRule::Never)]
    {
        let filter = |path: &str| {
            let mut filter = v5::Filter::new(path, v5codec::QoS::AtMostOnce);
            filter.retain_forward_rule = rule.clone();
            filter
        };
        let more = json!({ "retained": retained, "qos": 0 });
        let [(1, first, Some(a)), (2, second, Some(b))] = &subscribes(more.clone(), &connack(5, false))[..]
        else {
            panic!("one with an identifier for each filter");
        };
        assert_ne!(a, b);
        assert_eq!([&first[..], &second[..]], [&[filter(FILTERS[0])], &[filter(FILTERS[1])]]);

        let without_identifiers = b"\x20\x05\x00\x00\x02\x29\x00";
        assert_eq!(subscribes(more.clone(), without_identifiers), [(1, FILTERS.map(filter).to_vec(), None)]);
        // [MQTT-3.2.2-15]: both together would be a packet of 48 bytes.
        let and_small_packets = b"\x20\x0a\x00\x00\x07\x29\x00\x27\x00\x00\x00\x28";
        let apart = [(2, vec![filter(FILTERS[0])], None), (3, vec![filter(FILTERS[1])], None)];
        assert_eq!(subscribes(more, and_small_packets), apart);
    }
}

#[test]
fn unsubscribe_names_every_filter() {
    let mut client = Client::subscribed(&options(4, json!({})), 4);
    client.session.unsubscribe();
    let mut bytes = client.written().as_slice().into();
    let Ok(v4::Packet::Unsubscribe(unsubscribe)) = v4::Packet::read(&mut bytes, usize::MAX) else { panic!() };
    assert_eq!((unsubscribe.pkid, unsubscribe.topics), (next_id(4), FILTERS.map(String::from).to_vec()));

    let mut client = Client::subscribed(&options(5, json!({})), 5);
    client.session.unsubscribe();
    let mut bytes = client.written().as_slice().into();
    let Ok(v5::Packet::Unsubscribe(unsubscribe)) = v5::Packet::read(&mut bytes, None) else { panic!() };
    assert_eq!((unsubscribe.pkid, unsubscribe.filters), (next_id(5), FILTERS.map(String::from).to_vec()));

    let mut client = Client::new(&options(5, json!({})));
    client.feed(b"\x20\x08\x00\x00\x05\x27\x00\x00\x00\x28").unwrap();
    client.feed(&subacks(5, 1, &[1, 1])).unwrap();
    client.written();
    client.session.unsubscribe();
    assert!(client.session.outgoing().len() > 40, "two packets of at most 40 bytes");
    client.feed(&packet(0xb0, &[&[0, 4, 0, 0]])).unwrap();
    assert!(!client.session.is_unsubscribed());
    client.feed(&packet(0xb0, &[&[0, 5, 0, 0]])).unwrap();
    assert!(client.session.is_unsubscribed());
}

/// Two routes whose filters overlap, and a third one.
fn overlapping(version: u8) -> Client {
    let config = Config::parse(&format!(
        r#"{{"mqtt":{{"url":"mqtt://x","clientId":"c","qos":1,"protocolVersion":{version}}},"clickhouse":{{"url":"http://x"}},
            "routes":[{{"topic":"o/{{dev}}/c","table":"t"}},{{"topic":"o/b/{{dev}}","table":"t"}},{{"topic":"u/#","table":"t"}}]}}"#
    ))
    .unwrap();
    let mut client = Client::new(&options(version, json!({})));
    client.session = Session::new(&config.mqtt, "c".into(), filters(&config), client.now);
    client.session.connect(client.now);
    client.written();
    client
}

/// The filters of the SUBSCRIBE packets that the client wrote.
fn subscribed_v4(client: &mut Client) -> Vec<String> {
    let mut bytes: BytesMut = client.written().as_slice().into();
    let mut paths = Vec::new();
    while !bytes.is_empty() {
        let Ok(v4::Packet::Subscribe(subscribe)) = v4::Packet::read(&mut bytes, usize::MAX) else { panic!() };
        paths.extend(subscribe.filters.into_iter().map(|filter| filter.path));
    }
    paths
}

#[test]
fn without_subscription_identifiers_no_two_filters_overlap() {
    let mut client = overlapping(4);
    client.feed(&connack(4, false)).unwrap();
    assert_eq!(subscribed_v4(&mut client), ["o/+/+", "u/#"]);
    client.feed(&subacks(4, 1, &[1, 1])).unwrap();
    assert!(client.session.is_subscribed() && client.session.has_covers());

    let mut client = overlapping(5);
    client.feed(&connack(5, false)).unwrap();
    client.feed(&subacks(5, 1, &[1, 1, 1])).unwrap();
    assert!(client.session.is_subscribed() && !client.session.has_covers());
}

#[test]
fn a_refused_cover_is_replaced_by_what_it_covers() {
    let mut client = overlapping(4);
    client.feed(&connack(4, false)).unwrap();
    client.written();
    client.feed(&subacks(4, 1, &[0x80, 1])).unwrap();
    assert!(!client.session.is_subscribed());
    assert_eq!(subscribed_v4(&mut client), ["o/+/c", "o/b/+"]);
    client.feed(&subacks(4, 2, &[1, 1])).unwrap();
    assert!(client.session.is_subscribed() && !client.session.has_covers());
    assert_eq!(client.session.refused_covers(), ["o/+/+"]);

    // The next connection knows it.
    client.session.connect(client.now);
    client.written();
    client.unread.clear();
    client.session.change_broker();
    client.feed(&connack(4, false)).unwrap();
    assert_eq!(subscribed_v4(&mut client), ["o/+/c", "o/b/+", "u/#"]);
    // A filter of a route is not replaced.
    let error = client.feed(&suback(4, 3, &[1, 1, 0x80])).unwrap_err();
    assert!(matches!(error, SessionError::SubscriptionRefused { filter, .. } if filter == "u/#"));
}

#[test]
fn a_broker_that_hangs_up_is_asked_for_the_filters_themselves() {
    let mut client = overlapping(4);
    client.session.refuse_covers(true);
    client.feed(&connack(4, false)).unwrap();
    assert_eq!(subscribed_v4(&mut client), ["o/+/c", "o/b/+", "u/#"]);
    client.session.refuse_covers(false);
    client.session.connect(client.now);
    client.written();
    client.unread.clear();
    client.feed(&connack(4, false)).unwrap();
    assert_eq!(subscribed_v4(&mut client), ["o/+/+", "u/#"]);
}
