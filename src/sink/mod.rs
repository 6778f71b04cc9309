//! Batches into ClickHouse.
//!
//! [`worker`] inserts batch after batch, one thread per INSERT in flight. A [`part`] of a batch is what one INSERT carries,
//! [`stored`] sends what the spool kept. [`isolation`] finds the messages that ClickHouse refuses, by [`halving`].

mod halving;
mod isolation;
mod part;
mod stored;
pub mod worker;
