//! Takes a message the way of a pipeline, without a broker and without ClickHouse: for the tests of a service.
//!
//! ```text
//! message ─▶ router ──batch──▶ transform ──▶ rows
//!               └──dead letter──┴─▶ dead letters
//! ```
//!
//! - Router, decoder and transform are the pipeline's; nothing is behind them.
//! - Tables come from CREATE TABLE statements. A DEFAULT or a constraint, which only ClickHouse can compute or refuse, is not seen: a column that is left to ClickHouse is absent from its row.

mod rows;

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant, SystemTime};

use serde::Serialize;

use crate::clickhouse::create_table::{self, created_tables};
use crate::clickhouse::schema::Table;
use crate::config::Config;
use crate::core::clock::{ReceiveTime, unix_millis};
use crate::core::error::{Error, Result};
use crate::core::lock::lock;
use crate::core::mqtt_property::Properties;
use crate::ingest::router::Router;
use crate::ingest::table_plan::TablePlans;
use crate::mqtt::{AckSender, MessageSink, Publish};
use crate::pipeline::stages::{TransformStages, check_reachable, warn_of_unused_names};
use crate::telemetry::context::PipelineContext;
use crate::telemetry::events::{Event, Listener, Warning};
use crate::transform::TransformHosts;
use rows::TableRows;

/// No batch gets so old.
const NEVER: Duration = Duration::from_secs(10 * 365 * 86400);

/// A message as a broker would deliver it.
#[derive(Debug, Clone)]
pub struct Message {
    pub topic: Vec<u8>,
    pub payload: Vec<u8>,
    pub qos: u8,
    pub retain: bool,
    pub user_properties: Vec<(String, String)>,
    pub received_at: SystemTime,
    pub client_id: String,
}

/// The result of a message.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Outcome {
    /// How a pipeline would count it.
    pub outcome: &'static str,
    /// By table, as the configuration names it.
    pub rows: BTreeMap<String, Vec<TableRows>>,
    pub dead_letters: Vec<DeadLetterSummary>,
    pub warnings: Vec<Warning>,
}

/// A dead letter, without the topic and the payload that the caller has.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct DeadLetterSummary {
    pub received_at: i64,
    pub route: i32,
    pub code: &'static str,
    pub message: String,
}

pub struct DryRun {
    context: Arc<PipelineContext>,
    plans: Arc<TablePlans>,
    hosts: TransformHosts,
    seen: Arc<Mutex<Seen>>,
}

/// Events of the threads.
#[derive(Default)]
struct Seen {
    warnings: Vec<Warning>,
    failure: Option<Error>,
}

impl DryRun {
    /// `schema` has CREATE TABLE statements; times of columns without a zone are in `zone`.
    pub fn new(mut config: Config, schema: &[String], zone: &str) -> Result<DryRun> {
        config.batch.delay = NEVER;
        config.trace_sample_ratio = 0.0;
        config.spool = None;
        // Nothing waits for workers.
        config.clickhouse.max_in_flight = usize::MAX;
        let created = created_tables("schema", schema)?;
        let seen: Arc<Mutex<Seen>> = Arc::default();
        let emitted = seen.clone();
        let listener: Listener = Box::new(move |event| match event {
            Event::Warning(warning) => lock(&emitted).warnings.push(*warning),
            Event::Error(error) => _ = lock(&emitted).failure.get_or_insert(error),
            _ => {}
        });
        let context = Arc::new(PipelineContext::new(config, listener));
        let config = &context.config;
        check_reachable(&config.routes)?;
        let mut tables = Vec::new();
        for route in config.all_routes() {
            if route.table_choice.is_some() {
                let message = "is chosen by the topic, which decode() does not follow: give it the route with one of the tables";
                return Err(Error::config(format!("{}.table", route.path), message));
            }
            let (database, name) =
                route.table.split_once('.').unwrap_or((&config.clickhouse.database, &route.table));
            let table = create_table::find(&created, database, name).ok_or_else(|| Error::TableNotFound {
                path: route.table_option(&route.path),
                table: format!("{database}.{name}"),
            })?;
            let table = Table::created(&route.path, route, (database, name), zone, &table.columns)?;
            warn_of_unused_names(&context, route, &table);
            tables.push(table);
        }
        let plans = TablePlans::within(&context.memory, config.all_routes(), tables, Instant::now())?;
        Ok(DryRun { plans: Arc::new(plans), context, hosts: TransformHosts::default(), seen })
    }

    pub fn config(&self) -> &Config {
        &self.context.config
    }

    /// The hosts that make the calls of transforms.
    pub fn hosts(&self) -> &TransformHosts {
        &self.hosts
    }

    /// Waits until the transforms are done with the message. To be called once.
    pub fn run(&self, message: &Message) -> Result<Outcome> {
        let context = &self.context;
        let (batch_sender, batches) = crossbeam_channel::unbounded();
        let (dead_letter_sender, rejected) = crossbeam_channel::unbounded();
        let next = (&batch_sender, &dead_letter_sender);
        let TransformStages { threads, senders } =
            TransformStages::start(context, &self.plans, &self.hosts, next, false)?;
        let (acks, _settled) = AckSender::channel();
        let mut router =
            Router::new(context.clone(), 0, acks, self.plans.clone(), senders, dead_letter_sender);
        let properties = property_bytes(&message.user_properties);
        let publish = Publish {
            topic: &message.topic,
            payload: &message.payload,
            qos: message.qos,
            retain: message.retain,
            duplicate: false,
            packet_id: 0,
            fingerprint: 0,
            properties: Properties::checked(&properties),
        };
        let now = ReceiveTime { instant: Instant::now(), system: message.received_at };
        router.accept(&publish, None, now, &message.client_id);
        router.commit_read_stats();
        router.seal_all();
        // The stages end when nothing sends to them any more.
        drop((router, batch_sender));
        for thread in threads {
            // A panic was caught and reported by the thread itself.
            let _ = thread.join();
        }
        let mut rows: BTreeMap<String, Vec<TableRows>> = BTreeMap::new();
        for batch in batches.try_iter().flat_map(|batch| batch.apart()) {
            if batch.rows() > 0 {
                let route = context.config.route(batch.route);
                rows.entry(route.table.clone()).or_default().push(TableRows::of(&batch, route));
            }
            batch.complete();
        }
        let mut dead_letters = Vec::new();
        for batch in rejected.try_iter() {
            let count = batch.dead_letters.len() as u64;
            dead_letters.extend(batch.dead_letters.iter().map(|dead_letter| DeadLetterSummary {
                received_at: unix_millis(dead_letter.received_at),
                route: dead_letter.route_number(),
                code: dead_letter.reason.code.as_str(),
                message: dead_letter.reason.message.to_string(),
            }));
            batch.completion.rejected(count);
        }
        let seen = std::mem::take(&mut *lock(&self.seen));
        if let Some(error) = seen.failure {
            return Err(error);
        }
        Ok(Outcome { outcome: self.outcome(), rows, dead_letters, warnings: seen.warnings })
    }

    fn outcome(&self) -> &'static str {
        let counts = self.context.ledger.counts();
        match () {
            () if counts.dead_lettered > 0 => "deadLettered",
            () if counts.dropped > 0 => "dropped",
            () if counts.skipped > 0 => "skipped",
            () => "inserted",
        }
    }
}

/// User properties as a PUBLISH has them: MQTT 5, 3.3.2.3.7.
fn property_bytes(pairs: &[(String, String)]) -> Vec<u8> {
    const USER: u8 = 0x26;
    let mut bytes = Vec::new();
    for (name, value) in pairs {
        bytes.push(USER);
        for text in [name, value] {
            // A longer one cannot be sent.
            let text = &text.as_bytes()[..text.len().min(usize::from(u16::MAX))];
            bytes.extend((text.len() as u16).to_be_bytes());
            bytes.extend(text);
        }
    }
    bytes
}
