//! Batches into ClickHouse.
//!
//! A [`worker`] inserts batch after batch, one thread per INSERT in flight: [`batch_insert`] makes and sends the INSERT of a
//! batch, [`spool_insert`] sends what the spool kept. [`rejected`] finds the messages that ClickHouse refuses, by [`bisect`].

mod batch_insert;
mod bisect;
mod rejected;
mod spool_insert;
pub mod worker;
