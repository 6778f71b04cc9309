//! The packets that come a few times per connection, in both versions of the protocol: where rumqttc's codec is used.
//!
//! What the versions say differently becomes one thing here; the session does not know them apart.

use std::fmt;

use bytes::BytesMut;
use rumqttc::mqttbytes as v4codec;
use rumqttc::mqttbytes::v4;
use rumqttc::v5::mqttbytes as v5codec;
use rumqttc::v5::mqttbytes::v5;

use super::SessionError;
use crate::config::ProtocolVersion;

/// What CONNECT says of us.
#[derive(Debug)]
pub struct Connect {
    pub version: ProtocolVersion,
    pub client_id: String,
    pub login: Option<(String, String)>,
    pub keep_alive_seconds: u16,
    pub persistent: bool,
    pub expiry_seconds: u32,
    pub receive_maximum: u16,
    pub max_packet_bytes: u32,
}

impl Connect {
    pub fn write(&self, out: &mut BytesMut) {
        match self.version {
            ProtocolVersion::V4 => {
                let mut connect = v4::Connect::new(&self.client_id);
                connect.keep_alive = self.keep_alive_seconds;
                connect.clean_session = !self.persistent;
                if let Some((name, password)) = &self.login {
                    connect.set_login(name, password);
                }
                write_v4(out, v4::Packet::Connect(connect));
            }
            ProtocolVersion::V5 => {
                let mut properties = v5::ConnectProperties::new();
                properties.session_expiry_interval = Some(self.expiry_seconds).filter(|_| self.persistent);
                properties.receive_maximum = Some(self.receive_maximum);
                properties.max_packet_size = Some(self.max_packet_bytes);
                let connect = v5::Connect {
                    keep_alive: self.keep_alive_seconds,
                    client_id: self.client_id.clone(),
                    clean_start: !self.persistent,
                    properties: Some(properties),
                };
                let login = self.login.clone().map(|(name, password)| v5::Login::new(name, password));
                write_v5(out, v5::Packet::Connect(connect, None, login));
            }
        }
    }
}

/// What SUBSCRIBE asks for.
#[derive(Debug)]
pub struct Subscribe<'a> {
    pub version: ProtocolVersion,
    pub packet_id: u16,
    pub filters: &'a [String],
    pub qos: u8,
    pub skip_retained: bool,
    /// Only MQTT 5 has one.
    pub subscription_id: Option<usize>,
}

impl Subscribe<'_> {
    pub fn write(&self, out: &mut BytesMut) {
        match self.version {
            ProtocolVersion::V4 => {
                let qos = v4codec::qos(self.qos).unwrap_or(v4codec::QoS::AtMostOnce);
                let filters = self.filters.iter().map(|path| v4::SubscribeFilter { path: path.clone(), qos });
                let mut subscribe = v4::Subscribe::new_many(filters);
                subscribe.pkid = self.packet_id;
                write_v4(out, v4::Packet::Subscribe(subscribe));
            }
            ProtocolVersion::V5 => {
                let qos = v5codec::qos(self.qos).unwrap_or_default();
                let id = self.subscription_id;
                let properties = id.map(|_| v5::SubscribeProperties { id, user_properties: Vec::new() });
                let rule = match self.skip_retained {
                    true => v5::RetainForwardRule::Never,
                    // Not again to a subscription that a session of ours brought along.
                    false => v5::RetainForwardRule::OnNewSubscribe,
                };
                let filters = self.filters.iter().map(|path| {
                    let mut filter = v5::Filter::new(path, qos);
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

/// A CONNACK that lets us in.
#[derive(Debug, Default)]
pub struct ConnAck {
    pub session_present: bool,
    pub keep_alive_seconds: Option<u16>,
    pub client_id: Option<String>,
    pub has_subscription_ids: bool,
}

/// The error is the refusal, with its reason.
pub fn read_connack(version: ProtocolVersion, packet: &[u8]) -> Result<ConnAck, SessionError> {
    match version {
        ProtocolVersion::V4 => {
            let v4::Packet::ConnAck(ack) = read_v4(packet)? else { return Err(NOT_WHAT_IT_SAYS) };
            if ack.code != v4::ConnectReturnCode::Success {
                return Err(SessionError::Refused(words(&ack.code)));
            }
            Ok(ConnAck { session_present: ack.session_present, ..ConnAck::default() })
        }
        ProtocolVersion::V5 => {
            let v5::Packet::ConnAck(ack) = read_v5(packet)? else { return Err(NOT_WHAT_IT_SAYS) };
            let properties = ack.properties.as_ref();
            if ack.code != v5::ConnectReturnCode::Success {
                let reason = properties.and_then(|p| p.reason_string.as_deref());
                return Err(SessionError::Refused(with_reason(words(&ack.code), reason)));
            }
            Ok(ConnAck {
                session_present: ack.session_present,
                keep_alive_seconds: properties
                    .and_then(|p| p.server_keep_alive)
                    .filter(|seconds| *seconds > 0),
                client_id: properties.and_then(|p| p.assigned_client_identifier.clone()),
                // Absent means available: 3.2.2.3.12.
                has_subscription_ids: properties.and_then(|p| p.subscription_identifiers_available)
                    != Some(0),
            })
        }
    }
}

/// A SUBACK: for each filter the QoS that was granted, or why none was.
#[derive(Debug)]
pub struct SubAck {
    pub packet_id: u16,
    pub grants: Vec<Result<u8, String>>,
}

pub fn read_suback(version: ProtocolVersion, packet: &[u8]) -> Result<SubAck, SessionError> {
    match version {
        ProtocolVersion::V4 => {
            let v4::Packet::SubAck(ack) = read_v4(packet)? else { return Err(NOT_WHAT_IT_SAYS) };
            let grants = ack.return_codes.iter().map(|code| match code {
                v4::SubscribeReasonCode::Success(qos) => Ok(*qos as u8),
                v4::SubscribeReasonCode::Failure => Err("no reason given".to_string()),
            });
            Ok(SubAck { packet_id: ack.pkid, grants: grants.collect() })
        }
        ProtocolVersion::V5 => {
            let v5::Packet::SubAck(ack) = read_v5(packet)? else { return Err(NOT_WHAT_IT_SAYS) };
            let reason = ack.properties.as_ref().and_then(|p| p.reason_string.as_deref());
            let grants = ack.return_codes.iter().map(|code| match code {
                v5::SubscribeReasonCode::Success(qos) => Ok(*qos as u8),
                other => Err(with_reason(words(other), reason)),
            });
            Ok(SubAck { packet_id: ack.pkid, grants: grants.collect() })
        }
    }
}

/// The reason of a DISCONNECT of MQTT 5, which may be left out when it is a normal one: 3.14.2.1.
pub fn read_disconnect(packet: &[u8]) -> SessionError {
    if packet.len() == 2 {
        return SessionError::Disconnected("normally".into());
    }
    // The codec wants the length of the properties, which may be left out too: 3.14.2.2.1.
    let with_properties = [packet[0], 2, packet[2], 0];
    match read_v5(if packet.len() == 3 { &with_properties } else { packet }) {
        Ok(v5::Packet::Disconnect(packet))
            if packet.reason_code == v5::DisconnectReasonCode::SessionTakenOver =>
        {
            SessionError::TakenOver
        }
        Ok(v5::Packet::Disconnect(packet)) => {
            let reason = packet.properties.as_ref().and_then(|p| p.reason_string.as_deref());
            SessionError::Disconnected(with_reason(words(&packet.reason_code), reason))
        }
        Ok(_) => NOT_WHAT_IT_SAYS,
        Err(error) => error,
    }
}

const NOT_WHAT_IT_SAYS: SessionError =
    SessionError::Malformed("a packet that is not what its first byte says");

fn write_v4(out: &mut BytesMut, packet: v4::Packet) {
    let written = packet.write(out, usize::MAX);
    debug_assert!(written.is_ok(), "what we build is within MQTT's limits: config.rs saw to that");
}

fn write_v5(out: &mut BytesMut, packet: v5::Packet) {
    let written = packet.write(out, None);
    debug_assert!(written.is_ok(), "what we build is within MQTT's limits: config.rs saw to that");
}

fn read_v4(packet: &[u8]) -> Result<v4::Packet, SessionError> {
    v4::Packet::read(&mut BytesMut::from(packet), usize::MAX).map_err(|e| SessionError::Codec(e.to_string()))
}

fn read_v5(packet: &[u8]) -> Result<v5::Packet, SessionError> {
    v5::Packet::read(&mut BytesMut::from(packet), None).map_err(|e| SessionError::Codec(e.to_string()))
}

/// `BadUserNamePassword` as "bad user name password".
fn words(code: &impl fmt::Debug) -> String {
    let mut words = String::new();
    for c in format!("{code:?}").replace("QoS", "Qos").chars() {
        if c.is_uppercase() && !words.is_empty() {
            words.push(' ');
        }
        words.extend(c.to_lowercase());
    }
    words
}

fn with_reason(code: String, reason: Option<&str>) -> String {
    match reason {
        Some(reason) => format!("{code} ({reason})"),
        None => code,
    }
}
