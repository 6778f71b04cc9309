//! Leaf types and tools that every layer may use: errors, time, memory, topics, paths, TLS. Nothing here knows a stage.

pub mod backoff;
pub mod chunk_pool;
pub mod error;
pub mod json_path;
pub mod memory_budget;
pub(crate) mod swar;
pub mod thread;
pub mod tls;
pub mod topic_filter;
