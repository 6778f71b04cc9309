//! Packets of a broker, as bytes.

use bytes::{Bytes, BytesMut};
use rumqttc::mqttbytes::{self as v4codec, v4};
use rumqttc::v5::mqttbytes::{self as v5codec, v5};

use crate::client::{MAX_PACKET_BYTES, Message, Seen};

/// A packet of the broker from its first byte and what follows its length.
pub fn packet(first: u8, body: &[&[u8]]) -> Vec<u8> {
    let body = body.concat();
    let mut packet = vec![first];
    let mut len = body.len();
    while len >= 0x80 {
        packet.push(len as u8 | 0x80);
        len >>= 7;
    }
    packet.push(len as u8);
    packet.extend(body);
    packet
}

pub fn connack(version: u8, session_present: bool) -> Vec<u8> {
    let properties: &[u8] = if version == 5 { &[0] } else { &[] };
    packet(0x20, &[&[session_present as u8, 0], properties])
}

pub fn suback(version: u8, packet_id: u16, codes: &[u8]) -> Vec<u8> {
    let properties: &[u8] = if version == 5 { &[0] } else { &[] };
    packet(0x90, &[&packet_id.to_be_bytes(), properties, codes])
}

/// The answers to all SUBSCRIBEs: with MQTT 5 there is one for each filter, from `packet_id` on.
pub fn subacks(version: u8, packet_id: u16, codes: &[u8]) -> Vec<u8> {
    match version {
        4 => suback(4, packet_id, codes),
        _ => (packet_id..).zip(codes).flat_map(|(packet_id, code)| suback(5, packet_id, &[*code])).collect(),
    }
}

/// The packet id of what follows the first SUBSCRIBEs.
pub fn next_id(version: u8) -> u16 {
    if version == 4 { 2 } else { 3 }
}

pub fn unsuback(version: u8, packet_id: u16) -> Vec<u8> {
    packet(0xb0, &[&packet_id.to_be_bytes(), if version == 5 { &[0, 0, 0] } else { &[] }])
}

pub fn puback(packet_id: u16) -> Vec<u8> {
    packet(0x40, &[&packet_id.to_be_bytes()])
}

pub fn pubrec(packet_id: u16) -> Vec<u8> {
    packet(0x50, &[&packet_id.to_be_bytes()])
}

pub fn pubrel(packet_id: u16) -> Vec<u8> {
    packet(0x62, &[&packet_id.to_be_bytes()])
}

pub fn pubcomp(packet_id: u16) -> Vec<u8> {
    packet(0x70, &[&packet_id.to_be_bytes()])
}

/// A PUBLISH of MQTT 5 with these properties, whose topic may be empty.
pub fn publish_with(first: u8, topic: &str, packet_id: &[u8], properties: &[u8], payload: &str) -> Vec<u8> {
    let topic_bytes = (topic.len() as u16).to_be_bytes();
    let properties_bytes = [properties.len() as u8];
    packet(
        first,
        &[&topic_bytes, topic.as_bytes(), packet_id, &properties_bytes, properties, payload.as_bytes()],
    )
}

pub const PINGREQ: [u8; 2] = [0xc0, 0];
pub const PINGRESP: [u8; 2] = [0xd0, 0];

fn encode_v5(packet: v5::Packet) -> Vec<u8> {
    let mut bytes = BytesMut::new();
    packet.write(&mut bytes, None).unwrap();
    bytes.to_vec()
}

/// A CONNACK with every property it may have; authentication is only begun by who refuses.
pub fn full_connack(code: v5::ConnectReturnCode) -> Vec<u8> {
    let refused = code != v5::ConnectReturnCode::Success;
    encode_v5(v5::Packet::ConnAck(v5::ConnAck {
        session_present: false,
        code,
        properties: Some(v5::ConnAckProperties {
            session_expiry_interval: Some(86400),
            receive_max: Some(20),
            max_qos: Some(1),
            retain_available: Some(1),
            max_packet_size: Some(1 << 20),
            assigned_client_identifier: Some("assigned".into()),
            topic_alias_max: Some(10),
            reason_string: Some("the reason".into()),
            user_properties: vec![("k".into(), "v".into())],
            wildcard_subscription_available: Some(1),
            subscription_identifiers_available: Some(1),
            shared_subscription_available: Some(1),
            server_keep_alive: Some(4),
            response_information: Some("response".into()),
            server_reference: Some("elsewhere".into()),
            authentication_method: refused.then(|| "method".into()),
            authentication_data: refused.then(|| Bytes::from_static(b"data")),
        }),
    }))
}

pub fn suback_with_reason(packet_id: u16, code: v5::SubscribeReasonCode) -> Vec<u8> {
    encode_v5(v5::Packet::SubAck(v5::SubAck {
        pkid: packet_id,
        return_codes: vec![code],
        properties: Some(v5::SubAckProperties {
            reason_string: Some("the reason".into()),
            user_properties: vec![("k".into(), "v".into())],
        }),
    }))
}

pub fn publish(version: u8, message: &Message) -> Vec<u8> {
    let Message { topic, payload, qos, retain, duplicate, packet_id, colour } = message.clone();
    if version == 4 {
        let mut publish = v4::Publish::new(topic, v4codec::qos(qos).unwrap(), payload);
        (publish.retain, publish.dup, publish.pkid) = (retain, duplicate, packet_id);
        let mut bytes = BytesMut::new();
        publish.write(&mut bytes).unwrap();
        return bytes.to_vec();
    }
    let properties = colour.map(|colour| v5::PublishProperties {
        payload_format_indicator: Some(1),
        message_expiry_interval: Some(3600),
        topic_alias: None,
        response_topic: Some("response/topic".into()),
        correlation_data: Some(Bytes::from_static(b"\x00\xffcorrelation")),
        user_properties: vec![("size".into(), "1".into()), ("colour".into(), colour)],
        subscription_identifiers: vec![1, 268_435_455],
        content_type: Some("application/json".into()),
    });
    let mut publish = v5::Publish::new(topic, v5codec::qos(qos).unwrap(), payload, properties);
    (publish.retain, publish.dup, publish.pkid) = (retain, duplicate, packet_id);
    encode_v5(v5::Packet::Publish(publish))
}

pub fn at_least_once(packet_id: u16, payload: &str) -> Message {
    Message { topic: "a/b".into(), payload: payload.into(), qos: 1, packet_id, ..Message::default() }
}

pub fn exactly_once(packet_id: u16, payload: &str) -> Message {
    Message { qos: 2, ..at_least_once(packet_id, payload) }
}

/// A PUBLISH whose packet has `packet_bytes` bytes.
pub fn sized(version: u8, qos: u8, packet_id: u16, packet_bytes: usize) -> Vec<u8> {
    let mut message = Message { topic: "large".into(), qos, packet_id, ..Message::default() };
    message.payload = vec![b'x'; packet_bytes - publish(version, &message).len() - 1];
    publish(version, &message)
}

/// All a broker may say in one connection to a client that asks for QoS 2, and what it means.
pub fn stream(version: u8) -> (Vec<u8>, Vec<Seen>) {
    let position = |payload: &str| Message {
        topic: "drivers/1/position".into(),
        payload: payload.into(),
        ..Message::default()
    };
    let message =
        |message: Message, sequence| (publish(version, &message), Seen::Message { message, sequence });
    let too_large = |packet_bytes, qos, packet_id, sequence| {
        let seen = Seen::TooLarge { topic: "large".into(), qos, packet_bytes, sequence };
        (sized(version, qos, packet_id, packet_bytes), seen)
    };
    let colour = (version == 5).then(|| "blue".to_string());
    let (connack, subacks) = match version {
        4 => (connack(4, false), suback(4, 1, &[2, 2])),
        _ => {
            let granted = v5::SubscribeReasonCode::Success(v5codec::QoS::ExactlyOnce);
            let subacks = [suback(5, 2, &[2]), suback_with_reason(1, granted)].concat();
            (full_connack(v5::ConnectReturnCode::Success), subacks)
        }
    };

    let mut bytes = connack;
    let mut seen = Vec::new();
    let mut say = |(packet, event): (Vec<u8>, Seen)| {
        bytes.extend(packet);
        seen.push(event);
    };
    say(message(Message { retain: true, ..position("before SUBACK") }, None));
    say((subacks, Seen::Subscribed { downgraded: Vec::new() }));
    say(message(position(r#"{"lat":1}"#), None));
    say(message(Message { qos: 1, packet_id: 10, ..position("") }, Some(0)));
    say(message(Message { qos: 1, packet_id: 11, duplicate: true, retain: true, ..position("x") }, Some(1)));
    say(message(Message { colour: colour.clone(), ..position("with properties") }, None));
    say(message(Message { qos: 1, packet_id: 65535, colour, ..position("with properties") }, Some(2)));
    say(too_large(MAX_PACKET_BYTES + 1, 0, 0, None));
    say(too_large(2000, 1, 12, Some(3)));
    let mut large = Message { topic: "large".into(), ..Message::default() };
    large.payload = vec![b'x'; MAX_PACKET_BYTES - publish(version, &large).len() - 1];
    assert_eq!(publish(version, &large).len(), MAX_PACKET_BYTES);
    say(message(large, None));
    say(message(Message { topic: "last".into(), qos: 1, packet_id: 13, ..Message::default() }, Some(4)));
    let once = Message { qos: 2, packet_id: 20, ..position("once") };
    say(message(once.clone(), Some(5)));
    say((publish(version, &Message { duplicate: true, ..once.clone() }), Seen::Duplicate));
    say(too_large(2000, 2, 21, Some(6)));
    say((
        [pubrel(20), pubrel(20), pubrel(21), publish(version, &once)].concat(),
        Seen::Message { message: once, sequence: Some(7) },
    ));
    if version == 5 {
        for topic in ["drivers/1/position", ""] {
            let message = Message { qos: 1, packet_id: topic.len() as u16 + 30, ..position("aliased") };
            let sequence = if topic.is_empty() { Some(9) } else { Some(8) };
            let packet_id = message.packet_id.to_be_bytes();
            let bytes = publish_with(0x32, topic, &packet_id, b"\x23\x00\x01", "aliased");
            say((bytes, Seen::Message { message, sequence }));
        }
    }
    let last = if version == 5 { 10 } else { 8 };
    say(message(Message { qos: 1, packet_id: 10, ..position("on the way") }, Some(last)));
    say((PINGRESP.iter().copied().chain(unsuback(version, next_id(version))).collect(), Seen::Unsubscribed));
    (bytes, seen)
}
