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
    /// The broker refused the connection in CONNACK.
    Refused(String),
    /// The broker refused the version of the protocol, or answered in another one.
    VersionRefused,
    /// The connection ended, or nothing came, before the broker answered CONNECT.
    Unanswered(String),
    SubscriptionRefused {
        filter: String,
        reason: String,
    },
    /// The broker sent DISCONNECT.
    Disconnected(String),
    /// The broker sent DISCONNECT because another client has connected with our client id.
    TakenOver,
    /// The broker was silent for one and a half keep-alive intervals, or did not answer CONNECT or SUBSCRIBE in time.
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

    /// The error as the pipeline reports it.
    pub fn at(self, url: &BrokerUrl) -> Error {
        let url = url.to_string();
        match self {
            SessionError::Refused(reason) => Error::MqttRefused { url, reason },
            SessionError::VersionRefused => {
                Error::MqttRefused { url, reason: "unacceptable protocol version".into() }
            }
            SessionError::SubscriptionRefused { filter, reason } => {
                Error::SubscriptionRefused { filter, reason }
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
            SessionError::Unanswered(reason) => f.write_str(reason),
            SessionError::Refused(reason) => write!(f, "the connection was refused: {reason}"),
            SessionError::SubscriptionRefused { filter, reason } => {
                write!(f, "the subscription to {filter} was refused: {reason}")
            }
            SessionError::Disconnected(reason) => write!(f, "the broker disconnected: {reason}"),
            SessionError::TakenOver => write!(f, "another client has taken over the client id"),
            SessionError::Timeout => write!(f, "the broker does not answer"),
        }
    }
}
