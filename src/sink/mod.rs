//! Batches into ClickHouse.
//!
//! A [`worker`] inserts batch after batch; a [`schedule`] runs workers on a thread, one attempt at a time, and lets no table
//! wait for another one ([`waiting_tables`]): [`batch_insert`] makes and sends the INSERT of a
//! batch, [`spool_insert`] sends what the spool kept. [`parts`] inserts a batch that is too large for
//! one INSERT. [`rejected`] finds the messages that ClickHouse refuses, by [`bisect`];
//! [`control_insert`] shows that it is them, and not the statement.

mod batch_insert;
mod bisect;
mod control_insert;
mod expiry;
mod parts;
mod rejected;
pub mod schedule;
mod spool_insert;
pub mod waiting_tables;
pub mod worker;
