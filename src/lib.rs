//! The engine of millrace: MQTT messages into ClickHouse.
//!
//! The path of one message:
//!
//! 1. `mqtt` reads it from the socket, together with all that the socket has; topic and payload stay in the read buffer.
//! 2. `ingest` finds the first route whose filter matches the topic, and `decode` appends each value of the payload to a
//!    column of the route's open batch. A message that does not fit becomes a dead letter with the reason.
//! 3. A batch is sealed by rows, bytes or age and goes to a worker of `sink`. The worker encodes it as a Native block and
//!    sends the INSERT (`clickhouse`) with the same token until ClickHouse answers. Refused rows are isolated and become
//!    dead letters, which `dead_letter` stores.
//! 4. The completion of the batch then acknowledges its messages to the broker and closes its group in the ledger
//!    (`telemetry`).
//!
//! A route with a `transform` has its stage between 2 and 3: it calls JavaScript with each batch.
//!
//! With a `spool`, a log on disk stands between 2 and 3: its thread encodes the block, writes and syncs it, and the
//! connection acknowledges. A `replay` feeds dead letters to the router without a broker, a `dry_run` a message without
//! ClickHouse.
//!
//! `pipeline` starts and stops the threads. `config` checks the options before anything opens. `check` examines broker and
//! tables before a start. Only `napi` knows JavaScript. ARCHITECTURE.md has a table that says which folder may import which
//! (tests/architecture.rs).

pub mod check;
pub mod clickhouse;
pub mod config;
pub mod core;
pub mod dead_letter;
pub mod decode;
pub mod dry_run;
pub mod ingest;
pub mod mqtt;
mod napi;
pub mod pipeline;
pub mod replay;
pub mod sink;
pub mod spool;
pub mod telemetry;
pub mod transform;
