//! Batches into ClickHouse.
//!
//! [`worker`] inserts batch after batch, one thread per INSERT in flight; [`spool_insert`] sends what the spool kept.
//! [`rejected`] finds the messages that ClickHouse refuses, by [`bisect`].

mod bisect;
mod rejected;
mod spool_insert;
pub mod worker;
