//! The packets that come a few times per connection, in both versions of the protocol. rumqttc's codec writes ours. The
//! broker's packets are read here, because that codec accepts much that the specification forbids.
//!
//! Both versions become the same types here; the session does not distinguish them.

use bytes::BytesMut;
use rumqttc::mqttbytes as v4codec;
use rumqttc::mqttbytes::v4;
use rumqttc::v5::mqttbytes as v5codec;
use rumqttc::v5::mqttbytes::v5;

use crate::config::{Login, ProtocolVersion};
use crate::mqtt::protocol::property::{self, PropertySet, Value, property_set};
use crate::mqtt::protocol::reason;
use crate::mqtt::session::SessionError;

/// The contents of CONNECT.
#[derive(Debug)]
pub struct Connect {
    pub version: ProtocolVersion,
    pub client_id: String,
    pub login: Option<Login>,
    pub keep_alive_seconds: u16,
    pub persistent: bool,
    pub expiry_seconds: u32,
    pub receive_maximum: u16,
    pub topic_alias_maximum: u16,
    pub max_packet_bytes: u32,
}

impl Connect {
    pub fn write(&self, out: &mut BytesMut) {
        match self.version {
            ProtocolVersion::V4 => {
                let mut connect = v4::Connect::new(&self.client_id);
                connect.keep_alive = self.keep_alive_seconds;
                connect.clean_session = !self.persistent;
                if let Some(Login { username, password }) = &self.login {
                    connect.set_login(username, password.expose());
                }
                write_v4(out, v4::Packet::Connect(connect));
            }
            ProtocolVersion::V5 => {
                let mut properties = v5::ConnectProperties::new();
                properties.session_expiry_interval = Some(self.expiry_seconds).filter(|_| self.persistent);
                properties.receive_maximum = Some(self.receive_maximum);
                properties.max_packet_size = Some(self.max_packet_bytes);
                // An absent property means 0: 3.1.2.11.5.
                properties.topic_alias_max = Some(self.topic_alias_maximum).filter(|most| *most > 0);
                let connect = v5::Connect {
                    keep_alive: self.keep_alive_seconds,
                    client_id: self.client_id.clone(),
                    clean_start: !self.persistent,
                    properties: Some(properties),
                };
                let login =
                    self.login.as_ref().map(|login| v5::Login::new(&login.username, login.password.expose()));
                write_v5(out, v5::Packet::Connect(connect, None, login));
            }
        }
    }
}

/// The contents of SUBSCRIBE.
#[derive(Debug)]
pub struct Subscribe<'a> {
    pub version: ProtocolVersion,
    pub packet_id: u16,
    pub filters: &'a [String],
    /// One for each filter.
    pub qos: &'a [u8],
    pub skip_retained: bool,
    /// Only MQTT 5 has one.
    pub subscription_id: Option<usize>,
}

impl Subscribe<'_> {
    pub fn write(&self, out: &mut BytesMut) {
        match self.version {
            ProtocolVersion::V4 => {
                let filters = self.filters.iter().zip(self.qos).map(|(path, qos)| v4::SubscribeFilter {
                    path: path.clone(),
                    qos: v4codec::qos(*qos).unwrap_or(v4codec::QoS::AtMostOnce),
                });
                let mut subscribe = v4::Subscribe::new_many(filters);
                subscribe.pkid = self.packet_id;
                write_v4(out, v4::Packet::Subscribe(subscribe));
            }
            ProtocolVersion::V5 => {
                let id = self.subscription_id;
                let properties = id.map(|_| v5::SubscribeProperties { id, user_properties: Vec::new() });
                let rule = match self.skip_retained {
                    true => v5::RetainForwardRule::Never,
                    // Not again for a subscription that the session already has.
                    false => v5::RetainForwardRule::OnNewSubscribe,
                };
                let filters = self.filters.iter().zip(self.qos).map(|(path, qos)| {
                    let mut filter = v5::Filter::new(path, v5codec::qos(*qos).unwrap_or_default());
                    filter.retain_forward_rule = rule.clone();
                    filter
                });
                let mut subscribe = v5::Subscribe::new_many(filters, properties);
                subscribe.pkid = self.packet_id;
                write_v5(out, v5::Packet::Subscribe(subscribe));
            }
        }
    }
}

/// A message at QoS 0 that is not retained.
pub fn write_publish(out: &mut BytesMut, version: ProtocolVersion, topic: &str, payload: &[u8]) {
    match version {
        ProtocolVersion::V4 => {
            write_v4(out, v4::Packet::Publish(v4::Publish::new(topic, v4codec::QoS::AtMostOnce, payload)));
        }
        ProtocolVersion::V5 => {
            let publish = v5::Publish::new(topic, v5codec::QoS::AtMostOnce, payload.to_vec(), None);
            write_v5(out, v5::Packet::Publish(publish));
        }
    }
}

pub fn write_unsubscribe(out: &mut BytesMut, version: ProtocolVersion, packet_id: u16, filters: &[String]) {
    let filters = filters.to_vec();
    match version {
        ProtocolVersion::V4 => {
            write_v4(out, v4::Packet::Unsubscribe(v4::Unsubscribe { pkid: packet_id, topics: filters }));
        }
        ProtocolVersion::V5 => {
            let packet = v5::Unsubscribe { pkid: packet_id, filters, properties: None };
            write_v5(out, v5::Packet::Unsubscribe(packet));
        }
    }
}

/// A CONNACK that accepts the connection.
#[derive(Debug, Clone)]
pub struct ConnAck {
    pub session_present: bool,
    pub session_expiry_seconds: Option<u32>,
    pub keep_alive_seconds: Option<u16>,
    pub client_id: Option<String>,
    /// The largest packet that the broker accepts.
    pub max_packet_bytes: usize,
    pub has_wildcards: bool,
    pub has_shared: bool,
    pub has_subscription_ids: bool,
    pub has_retained: bool,
    /// The highest QoS that we may publish with. Brokers grant subscriptions no higher one either.
    pub max_qos: u8,
    /// How many messages we may have in flight to the broker. No packet states how many it has in
    /// flight to us.
    pub receive_maximum: u16,
    pub topic_alias_maximum: u16,
}

const CONNACK_PROPERTIES: PropertySet = property_set(&[
    0x11, 0x12, 0x13, 0x15, 0x16, 0x1a, 0x1c, 0x1f, 0x21, 0x22, 0x24, 0x25, 0x26, 0x27, 0x28, 0x29, 0x2a,
]);
const CUT_SHORT: SessionError = SessionError::malformed("a packet that ends too early");
const TOO_LONG: SessionError = SessionError::malformed("a packet with something behind its end");
const UNKNOWN_CODE: SessionError = SessionError::malformed("a reason code that its packet cannot have");

/// The error is the refusal with its reason. `body` is the packet without its fixed header, here and below.
pub fn read_connack(version: ProtocolVersion, mut body: &[u8]) -> Result<ConnAck, SessionError> {
    // A broker that does not know our version answers in its own: that of 3.1.1 has two bytes, that of 5 has more.
    match (version, body) {
        (ProtocolVersion::V5, [_, _]) | (ProtocolVersion::V4, [_, 0x84, ..]) => {
            return Err(SessionError::VersionRefused);
        }
        _ => {}
    }
    let flags = property::number::<1>(&mut body).ok_or(CUT_SHORT)?;
    let code = property::number::<1>(&mut body).ok_or(CUT_SHORT)? as u8;
    if flags & 0xfe != 0 {
        return Err(SessionError::malformed("a CONNACK with reserved flags")); // [MQTT-3.2.2-1]
    }
    // In MQTT 5 a feature is available unless a property says otherwise: 3.2.2.3.
    let mut ack = ConnAck {
        session_present: flags == 1,
        session_expiry_seconds: None,
        keep_alive_seconds: None,
        client_id: None,
        max_packet_bytes: usize::MAX,
        has_wildcards: true,
        has_shared: true,
        has_subscription_ids: version == ProtocolVersion::V5,
        has_retained: true,
        max_qos: 2,
        receive_maximum: u16::MAX,
        topic_alias_maximum: 0,
    };
    if version == ProtocolVersion::V4 {
        return match code {
            _ if !body.is_empty() => Err(TOO_LONG),
            0 => Ok(ack),
            1 => Err(SessionError::VersionRefused),
            _ => {
                let reason = reason::return_code(code).ok_or(UNKNOWN_CODE)?.into();
                Err(SessionError::Refused { reason, code })
            }
        };
    }
    let properties = rest_is_properties(body)?;
    if code == reason::UNSUPPORTED_VERSION {
        return Err(SessionError::VersionRefused);
    }
    if code != 0 {
        if !reason::CONNACK.contains(&code) {
            return Err(UNKNOWN_CODE);
        }
        let reason = reason_text(code, properties, CONNACK_PROPERTIES)?;
        return Err(SessionError::Refused { reason, code });
    }
    property::walk(properties, CONNACK_PROPERTIES, |id, value| {
        match (id, value) {
            (0x11, Value::Number(seconds)) => ack.session_expiry_seconds = Some(seconds),
            (0x12, Value::Bytes(id)) => ack.client_id = Some(text(id)?.into()),
            // With 0 the broker expects no pings; ours do no harm.
            (0x13, Value::Number(seconds @ 1..)) => ack.keep_alive_seconds = Some(seconds as u16),
            // [MQTT-4.12.0-6]
            (0x15 | 0x16, _) => return Err(SessionError::protocol("an authentication that nobody began")),
            (0x21, Value::Number(0)) => return Err(SessionError::protocol("a receive maximum of 0")),
            (0x24 | 0x25 | 0x28..=0x2a, Value::Number(2..)) => {
                return Err(SessionError::protocol("a property of CONNACK that is neither 0 nor 1"));
            }
            (0x27, Value::Number(0)) => return Err(SessionError::protocol("a maximum packet size of 0")),
            (0x21, Value::Number(most)) => ack.receive_maximum = most as u16,
            (0x22, Value::Number(most)) => ack.topic_alias_maximum = most as u16,
            (0x24, Value::Number(most)) => ack.max_qos = most as u8,
            (0x25, Value::Number(0)) => ack.has_retained = false,
            (0x27, Value::Number(bytes)) => ack.max_packet_bytes = bytes as usize,
            (0x28, Value::Number(0)) => ack.has_wildcards = false,
            (0x29, Value::Number(0)) => ack.has_subscription_ids = false,
            (0x2a, Value::Number(0)) => ack.has_shared = false,
            _ => {}
        }
        Ok(())
    })?;
    Ok(ack)
}

/// A SUBACK: for each filter the granted QoS, or the reason of the refusal.
#[derive(Debug)]
pub struct SubAck {
    pub packet_id: u16,
    pub grants: Vec<Result<u8, String>>,
}

const REASON_STRING: u8 = 0x1f;
const SERVER_REFERENCE: u8 = 0x1c;
const ACK_PROPERTIES: PropertySet = property_set(&[REASON_STRING, 0x26]);

pub fn read_suback(version: ProtocolVersion, mut body: &[u8]) -> Result<SubAck, SessionError> {
    let packet_id = packet_id(&mut body)?;
    let mut properties: &[u8] = &[];
    if version == ProtocolVersion::V5 {
        properties = property::properties(&mut body).ok_or(CUT_SHORT)?;
        property::walk(properties, ACK_PROPERTIES, |_, _| Ok(()))?;
    }
    let grants = body.iter().map(|code| match (version, code) {
        (_, 0..=2) => Ok(Ok(*code)),
        (ProtocolVersion::V4, 0x80) => Ok(Err("no reason given".to_string())),
        (ProtocolVersion::V5, code) if reason::SUBACK.contains(code) => {
            Ok(Err(reason_text(*code, properties, ACK_PROPERTIES)?))
        }
        _ => Err(UNKNOWN_CODE), // [MQTT-3.9.3-2]
    });
    Ok(SubAck { packet_id, grants: grants.collect::<Result<_, SessionError>>()? })
}

/// The packet id of an UNSUBACK and the number of filters that it answers. The answers themselves do not matter: a filter
/// without a subscription is as good.
pub fn read_unsuback(
    version: ProtocolVersion,
    mut body: &[u8],
) -> Result<(u16, Option<usize>), SessionError> {
    let packet_id = packet_id(&mut body)?;
    if version == ProtocolVersion::V4 {
        return if body.is_empty() { Ok((packet_id, None)) } else { Err(TOO_LONG) };
    }
    let properties = property::properties(&mut body).ok_or(CUT_SHORT)?;
    property::walk(properties, ACK_PROPERTIES, |_, _| Ok(()))?;
    match body.iter().all(|code| matches!(code, 0 | 0x11) || reason::UNSUBACK.contains(code)) {
        true => Ok((packet_id, Some(body.len()))),
        false => Err(UNKNOWN_CODE), // [MQTT-3.11.3-2]
    }
}

/// The packet id of a PUBREL. A reason code that says "not found" makes no difference.
pub fn read_pubrel(version: ProtocolVersion, mut body: &[u8]) -> Result<u16, SessionError> {
    let packet_id = packet_id(&mut body)?;
    if version == ProtocolVersion::V4 {
        return if body.is_empty() { Ok(packet_id) } else { Err(TOO_LONG) };
    }
    // The reason code and the properties may be left out: 3.6.2.
    if let Some(code) = property::number::<1>(&mut body)
        && !matches!(code as u8, 0 | reason::PACKET_ID_NOT_FOUND)
    {
        return Err(UNKNOWN_CODE); // [MQTT-3.6.2-1]
    }
    if !body.is_empty() {
        property::walk(rest_is_properties(body)?, ACK_PROPERTIES, |_, _| Ok(()))?;
    }
    Ok(packet_id)
}

const DISCONNECT_PROPERTIES: PropertySet = property_set(&[SERVER_REFERENCE, REASON_STRING, 0x26]);

/// The reason of a DISCONNECT of MQTT 5; it may be left out when it is a normal one, and so may the properties: 3.14.2.
pub fn read_disconnect(mut body: &[u8]) -> Result<SessionError, SessionError> {
    let code = property::number::<1>(&mut body).unwrap_or(0) as u8;
    let properties = if body.is_empty() { body } else { rest_is_properties(body)? };
    if code != 0 && !reason::DISCONNECT.contains(&code) {
        return Err(UNKNOWN_CODE);
    }
    let said = reason_text(code, properties, DISCONNECT_PROPERTIES)?;
    Ok(match code {
        reason::SESSION_TAKEN_OVER => SessionError::TakenOver,
        _ => SessionError::Disconnected(said),
    })
}

fn packet_id(body: &mut &[u8]) -> Result<u16, SessionError> {
    match property::number::<2>(body).ok_or(CUT_SHORT)? as u16 {
        0 => Err(SessionError::protocol("a packet id of 0")),
        packet_id => Ok(packet_id),
    }
}

fn rest_is_properties(mut body: &[u8]) -> Result<&[u8], SessionError> {
    let properties = property::properties(&mut body).ok_or(CUT_SHORT)?;
    if body.is_empty() { Ok(properties) } else { Err(TOO_LONG) }
}

/// A reason code in words, with the reason string and the server reference of the broker.
fn reason_text(code: u8, properties: &[u8], allowed: PropertySet) -> Result<String, SessionError> {
    let mut words = if code == 0 { "normally".to_string() } else { reason::name(code).to_string() };
    property::walk(properties, allowed, |id, value| {
        match (id, value) {
            (REASON_STRING, Value::Bytes(reason)) => words += &format!(" ({})", text(reason)?),
            (SERVER_REFERENCE, Value::Bytes(server)) => words += &format!(", see {}", text(server)?),
            _ => {}
        }
        Ok(())
    })?;
    Ok(words)
}

/// [MQTT-1.5.4-1], [MQTT-1.5.4-2].
fn text(bytes: &[u8]) -> Result<&str, SessionError> {
    match std::str::from_utf8(bytes) {
        Ok(text) if !text.contains('\0') => Ok(text),
        _ => Err(SessionError::malformed("a string that is not UTF-8")),
    }
}

fn write_v4(out: &mut BytesMut, packet: v4::Packet) {
    let written = packet.write(out, usize::MAX);
    debug_assert!(written.is_ok(), "src/config keeps our packets within MQTT's limits");
}

fn write_v5(out: &mut BytesMut, packet: v5::Packet) {
    let written = packet.write(out, None);
    debug_assert!(written.is_ok(), "src/config keeps our packets within MQTT's limits");
}
