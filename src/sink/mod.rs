//! Batches into ClickHouse.
//!
//! [`tables`] asks at start what the tables are like; [`worker`] then inserts batch after batch, one thread per INSERT
//! in flight; [`request`] is one attempt and [`answer`] says what its outcome means. [`tokens`] tell ClickHouse that two
//! attempts are the same INSERT.

pub mod answer;
pub mod client;
pub mod request;
pub mod tables;
pub mod tokens;
pub mod worker;
