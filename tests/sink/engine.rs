//! All that these tests use of the engine, by its path.

pub use millrace::clickhouse::client::{Server as ClickHouseServer, servers};
pub use millrace::clickhouse::schema::SchemaClient;
pub use millrace::clickhouse::servers::Servers;
pub use millrace::clickhouse::token::Tokens;
pub use millrace::config::{Config, ReplaySource};
pub use millrace::core::ack_history::fingerprint;
pub use millrace::core::clock::ReceiveTime;
pub use millrace::core::mqtt_property::Properties;
pub use millrace::core::thread::{run_on, runtime};
pub use millrace::dead_letter::StoredDeadLetter;
pub use millrace::ingest::router::Router;
pub use millrace::ingest::table_plan::TablePlans;
pub use millrace::mqtt::{AckSender, Command, MessageSink, Publish};
pub use millrace::pipeline::stages::{OutputStages, StageInputs, prepare};
pub use millrace::replay::{Replay, Report, Supplied};
pub use millrace::sink::worker::{Source, Worker, WorkerParts};
pub use millrace::spool;
pub use millrace::telemetry::context::PipelineContext;
pub use millrace::telemetry::events::Event;
pub use millrace::transform::call::{TransformCall, Verdict};
pub use millrace::transform::{TransformHost, TransformHosts};
