//! The packets of MQTT 3.1.1 and 5 as bytes.
//!
//! [`publish`] reads the packet that matters in place, [`packet`] reads and writes all others, both by the rules of
//! [`property`]. [`topic_alias`] keeps the aliases of a connection, [`reason`] names the reason codes, [`foreign`] knows
//! other protocols.

pub(super) mod foreign;
pub(super) mod packet;
pub(super) mod property;
pub(super) mod publish;
pub(super) mod reason;
pub(super) mod topic_alias;
