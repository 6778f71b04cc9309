//! An MQTT subscriber: from the broker's bytes to messages, and acknowledgements back.
//!
//! [`session`] is the protocol's state machine: bytes and the time in, events and bytes out, without sockets and without a
//! clock. [`connection`] does the I/O, one thread each, over a stream of [`transport`], and hands the messages to a
//! [`MessageSink`]. [`protocol`] reads and writes the packets of both versions, [`subscriptions`] chooses the filters,
//! [`inflight`] tracks what must be acknowledged. [`probe`] is the connection of a check, and of [`identify`], which finds out
//! which software a broker is.

pub mod broker_kind;
mod command;
pub mod connection;
pub mod identify;
mod inflight;
mod message_sink;
pub mod probe;
mod protocol;
mod redelivery_index;
pub mod session;
mod subscriptions;
pub mod transport;

pub use command::{AckSender, Command};
pub use message_sink::{MessageSink, Outgoing};
pub use protocol::packet::ConnAck;
pub use protocol::publish::{Fault, Publish};
pub use session::SessionError;
pub use subscriptions::{
    Filters, Offer, Subscription, filters, filters_of, is_primary_copy, offers, offers_of, subscription_id,
    subscriptions, subscriptions_of, wider_filters, wider_filters_of,
};
