//! Reports of a pipeline: counters, latencies, the ledger of messages, events, sampled traces.

pub mod context;
pub mod events;
pub mod faults;
pub mod histogram;
pub mod ledger;
pub mod metrics;
pub mod prometheus;
pub mod route_metrics;
pub mod state;
pub mod trace;
