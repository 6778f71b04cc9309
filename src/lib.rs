//! The engine of millrace: MQTT messages into ClickHouse.
//!
//! The life of one message:
//!
//! 1. `mqtt::connection` reads it from the socket, together with all that the socket has, and `mqtt::session` frames
//!    it; topic and payload stay in the read buffer.
//! 2. `intake` finds the first route whose filter matches its topic.
//! 3. `decode` walks its JSON and appends each value to a column of that route's open `batch`. A message that does not
//!    fit becomes a dead letter (`dead_letters`) with the reason.
//! 4. The batch is sealed by rows, bytes or age and goes to a worker of `sink`.
//! 5. `sink::worker` encodes it as a Native block (`columns::block`), and `sink::request` sends it, again and again with
//!    the same token until ClickHouse has answered. What it refuses is divided (`sink::isolation`).
//! 6. Then the connection acknowledges it to the broker (`mqtt::receipts`), and the `ledger` books it.
//!
//! With a `spool`, a log on disk stands between 4 and 5: its thread encodes the block, writes and syncs it, and then the
//! connection acknowledges. A `replay` feeds dead letters in at 2, without a broker.
//!
//! `pipeline` owns the threads and channels between these, `downstream` those behind the intake; `shared` is what they all
//! see, and `plans` what the tables are like now. `config` checks the options before anything opens. `describe` says what
//! the tables want, for generated types; `check` looks at both ends before a start. `node` is the only module that knows JavaScript.

pub mod check;
pub mod clickhouse;
pub mod config;
pub mod core;
pub mod dead_letter;
pub mod decode;
pub mod ingest;
pub mod mqtt;
mod napi;
pub mod pipeline;
pub mod replay;
pub mod sink;
pub mod spool;
pub mod telemetry;
