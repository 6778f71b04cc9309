//! Why a connection ends.

use std::fmt;

use crate::config::BrokerUrl;
use crate::core::error::Error;
use crate::mqtt::protocol::reason;

/// Why a connection ends. The next connection may resume the session.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum SessionError {
    /// The broker sent a packet that the specification forbids; `reason` is the reason code of MQTT 5 for it.
    ProtocolViolation {
        what: &'static str,
        reason: u8,
    },
    /// The broker refused the connection in CONNACK, with this code.
    Refused {
        reason: String,
        code: u8,
    },
    /// The broker refused the version of the protocol, or answered in another one.
    VersionRefused,
    /// The connection ended, or nothing came in time (`is_timeout`), before the broker answered CONNECT.
    Unanswered {
        reason: String,
        is_timeout: bool,
    },
    /// The broker did not answer CONNECT in time.
    NoConnAck,
    /// The broker did not answer SUBSCRIBE in time.
    NoSubAck {
        filter: String,
    },
    SubscriptionRefused {
        filter: String,
        reason: String,
    },
    /// The broker sent DISCONNECT.
    Disconnected(String),
    /// The broker sent DISCONNECT because another client has connected with our client id.
    TakenOver,
    /// The broker was silent for one and a half keep-alive intervals.
    Timeout,
}

impl SessionError {
    pub(in crate::mqtt) const fn violation(what: &'static str, reason: u8) -> SessionError {
        SessionError::ProtocolViolation { what, reason }
    }

    /// A packet that cannot be read.
    pub(in crate::mqtt) const fn malformed(what: &'static str) -> SessionError {
        SessionError::violation(what, reason::MALFORMED_PACKET)
    }

    /// A packet that can be read and is not allowed.
    pub(in crate::mqtt) const fn protocol(what: &'static str) -> SessionError {
        SessionError::violation(what, reason::PROTOCOL_ERROR)
    }

    /// The end of a connection before the broker answered CONNECT: a TLS server does not answer a
    /// client without TLS.
    pub fn closed_unanswered(self, url: &BrokerUrl) -> SessionError {
        match self {
            SessionError::Disconnected(reason) if !url.transport.is_encrypted() => {
                let reason = format!(
                    "{reason} before it answered CONNECT; perhaps it is encrypted here, which mqtts:// or wss:// is for"
                );
                SessionError::Unanswered { reason, is_timeout: false }
            }
            other => other,
        }
    }

    /// The error as the pipeline reports it.
    pub fn at(self, url: &BrokerUrl) -> Error {
        let url = url.to_string();
        match self {
            SessionError::Refused { reason, code } => Error::MqttRefused { url, reason, code: Some(code) },
            SessionError::VersionRefused => {
                Error::MqttRefused { url, reason: "unacceptable protocol version".into(), code: None }
            }
            SessionError::NoConnAck => Error::MqttRefused { url, reason: NO_CONNACK.into(), code: None },
            SessionError::Unanswered { reason, is_timeout: true } => {
                Error::MqttRefused { url, reason, code: None }
            }
            SessionError::SubscriptionRefused { filter, reason } => {
                Error::SubscriptionRefused { filter, reason }
            }
            SessionError::NoSubAck { filter } => {
                Error::SubscriptionRefused { filter, reason: NO_SUBACK.into() }
            }
            other => Error::MqttUnreachable { url, message: other.to_string() },
        }
    }
}

impl fmt::Display for SessionError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            SessionError::ProtocolViolation { what, .. } => write!(f, "the broker sent {what}"),
            SessionError::VersionRefused => {
                write!(f, "the connection was refused: unacceptable protocol version")
            }
            SessionError::Unanswered { reason, .. } => f.write_str(reason),
            SessionError::NoConnAck => f.write_str(NO_CONNACK),
            SessionError::NoSubAck { filter } => write!(f, "the subscription to {filter}: {NO_SUBACK}"),
            SessionError::Refused { reason, .. } => write!(f, "the connection was refused: {reason}"),
            SessionError::SubscriptionRefused { filter, reason } => {
                write!(f, "the subscription to {filter} was refused: {reason}")
            }
            SessionError::Disconnected(reason) => write!(f, "the broker disconnected: {reason}"),
            SessionError::TakenOver => write!(f, "another client has taken over the client id"),
            SessionError::Timeout => write!(f, "the broker does not answer"),
        }
    }
}

const NO_CONNACK: &str = "it did not answer CONNECT in time";
const NO_SUBACK: &str = "the broker did not answer SUBSCRIBE in time";
