//! All that these tests use of the engine, by its path.

pub use millrace::clickhouse::schema::Table;
pub use millrace::clickhouse::schema::TableColumn;
pub use millrace::clickhouse::token::Tokens;
pub use millrace::clickhouse::{
    BlockEncoder, Column, ColumnType, CompressionHints, compression as frame, native as block,
};
pub use millrace::config::{Compression, Config};
pub use millrace::core::ack_history::{AckHistory, AckRecord, fingerprint};
pub use millrace::core::clock::ReceiveTime;
pub use millrace::core::dead_letter::DeadLetter;
pub use millrace::core::memory_budget::{MemoryBudget, MemoryReservation};
pub use millrace::core::mqtt_property::Properties;
pub use millrace::core::reason::{Code, Reason};
pub use millrace::core::topic_filter::Captures;
pub use millrace::dead_letter::jsonl as line;
pub use millrace::decode::{Decoder, Message};
pub use millrace::ingest::raw_messages::{Message as RawMessage, RawMessages};
pub use millrace::ingest::router::Router;
pub use millrace::ingest::table_plan::TablePlans;
pub use millrace::mqtt::{AckSender, Command, MessageSink, Publish};
pub use millrace::spool::ack_receipts as receipts;
pub use millrace::spool::wal::storage::{Directory, Disk};
pub use millrace::spool::{
    Channels, Insert, InsertLimits, Inspection, Log, Opened, Options, Record, SpoolThread, StreamKey,
    inspect, messages,
};
pub use millrace::telemetry::context::PipelineContext;
pub use millrace::telemetry::ledger::{Ledger, Settled};
pub use millrace::telemetry::metrics::{Metrics, Recorder, Spool as SpoolMetrics};
pub use millrace::telemetry::prometheus;
