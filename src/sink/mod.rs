//! Batches into ClickHouse.
//!
//! A [`worker`] inserts batch after batch; a [`schedule`] runs workers on a thread, one attempt at a time, and lets no table
//! wait for another one ([`waiting_tables`]): [`batch_insert`] makes and sends the INSERT of a
//! batch, [`spool_insert`] sends what the spool kept. A batch that is too large for one INSERT is inserted in
//! [`parts`]: by partition ([`partition_parts`]) where it has too many partitions. [`rejected`] finds the messages that
//! ClickHouse refuses, by [`bisect`]; [`control_insert`] shows that it is them, and not the statement.

mod batch_insert;
mod bisect;
mod control_insert;
mod expiry;
mod partition_parts;
mod parts;
mod rejected;
pub mod schedule;
mod spool_insert;
pub mod waiting_tables;
pub mod worker;
