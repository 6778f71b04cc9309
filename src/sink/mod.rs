//! Batches into ClickHouse.
//!
//! [`tables`] asks what the tables are like, [`deduplication`] whether they recognise an INSERT that is made again;
//! [`worker`] then inserts batch after batch, one thread per INSERT in flight. A [`part`] of a batch is what one INSERT carries, [`delivery`] attempts it, [`request`] is one attempt and [`answer`]
//! says what its outcome means. [`isolation`] finds the messages that ClickHouse refuses, by [`halving`]. [`tokens`] tell
//! ClickHouse that two attempts are the same INSERT.

pub mod answer;
pub mod client;
pub mod deduplication;
pub mod delivery;
mod halving;
mod isolation;
mod part;
pub mod request;
mod stored;
pub mod tables;
pub mod tokens;
pub mod worker;
