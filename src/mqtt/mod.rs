//! A subscriber's MQTT: from the broker's bytes to messages, and acknowledgements back.
//!
//! [`session`] is the protocol's state machine: bytes and the time in, events and bytes out, no sockets and no clock.
//! A [`MessageSink`] takes the messages. [`connection`] is the I/O and the time around it, one thread each, over a stream of [`transport`]. [`protocol`] reads
//! and writes the packets of both versions. [`subscriptions`] says what to subscribe to, [`inflight`] remembers what must
//! be acknowledged. [`probe`] is a connection for a check: it takes no messages from anybody.

mod command;
pub mod connection;
mod inflight;
mod message_sink;
pub mod probe;
mod protocol;
pub mod session;
mod subscriptions;
pub mod transport;

pub use command::{AckSender, Command};
pub use message_sink::MessageSink;
pub use protocol::packet::ConnAck;
pub use protocol::publish::Publish;
pub use session::SessionError;
pub use subscriptions::{Subscription, is_ambiguous, is_chosen, subscription_id, subscriptions};
