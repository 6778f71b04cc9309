//! A subscriber's MQTT: from the broker's bytes to messages, and acknowledgements back.
//!
//! [`session`] is the protocol's state machine: bytes and the time in, events and bytes out, no sockets and no clock.
//! [`connection`] is the I/O and the time around it, one thread each. [`publish`] reads the packet that matters, [`codec`]
//! all others in both versions of the protocol; both by the rules of [`wire`]. [`subscriptions`] says what to subscribe
//! to, [`receipts`] remembers what must be acknowledged and [`acknowledged`] what was, [`window`] notices a broker that waits
//! for that, [`reconnection`] knows when to connect again. [`visit`] is a connection that takes nothing from anybody: for a
//! check.

mod acknowledged;
mod aliases;
mod codec;
pub mod connection;
mod inbox;
mod publish;
mod reason;
mod receipts;
mod reconnection;
mod rest;
pub mod session;
mod subscriptions;
pub mod transport;
pub mod visit;
mod websocket;
mod whole;
mod window;
mod wire;

pub use acknowledged::{Acknowledged, Receipt};
pub use codec::ConnAck;
pub use publish::{Properties, Publish};
pub use receipts::Owed;
pub use session::SessionError;
pub use subscriptions::{Subscription, is_ambiguous, is_chosen, subscription_id, subscriptions};
