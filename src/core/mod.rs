//! Leaf types and tools that every layer may use: errors, time, memory, topics, paths, TLS. Nothing here knows a stage.

pub mod ack_history;
pub mod ack_set;
// A fuzz target has an allocator of its own, which counts, and the sanitizer watches its allocations.
#[cfg(not(fuzzing))]
mod allocator;
pub mod append_only;
pub mod backoff;
pub mod chunk_pool;
pub mod clock;
pub mod codes;
pub mod credential;
pub mod dead_letter;
pub mod edge_nodes;
pub mod error;
pub mod free_list;
pub mod fs;
pub mod json_path;
pub mod lock;
pub mod lookups;
pub mod memory_budget;
pub mod mqtt_property;
pub mod reason;
pub mod rebirths;
pub mod recent_keys;
pub mod secret;
pub mod shard;
pub(crate) mod swar;
pub mod thread;
pub mod tls;
pub mod topic_filter;
pub mod topic_tables;
pub mod varint;
