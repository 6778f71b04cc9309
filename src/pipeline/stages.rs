//! The stages behind ingest: the threads of the workers that insert, and the thread that stores dead letters.
//!
//! ```text
//!            ──batches──────▶  workers  ──▶ ClickHouse
//!   ingest                        │ dead letters
//!            ──dead letters──▶  store   ──▶ table, directory or event
//! ```
//!
//! With a spool its thread stands between ingest and workers: see [`SpoolThread`].
//!
//! A pipeline and a replay have the same: [`prepare`] asks ClickHouse about the tables, [`OutputStages::start`] starts the
//! threads. They end by themselves when the senders they were started with are gone, or when all is cancelled.

use std::path::PathBuf;
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use crossbeam_channel::{Receiver, Sender};

use crate::clickhouse::BlockEncoder;
use crate::clickhouse::client::servers;
use crate::clickhouse::error_class::{ACCESS_DENIED, ErrorClass, Failure};
use crate::clickhouse::insert_request::{Insert, ViewMode};
use crate::clickhouse::schema::{SchemaClient, Table};
use crate::clickhouse::servers::Servers;
use crate::clickhouse::token::Tokens;
use crate::clickhouse::view_rights::with_grant;
use crate::config::{self, Config, Route};
use crate::core::backoff::random_bits;
use crate::core::error::{Error, Result};
use crate::dead_letter::store::{self, DeadLetterThread, Store};
use crate::ingest::batch::{Batch, RouteSenders};
use crate::ingest::dead_letter_batch::DeadLetterBatch;
use crate::ingest::router::joined::JoinedRoutes;
use crate::ingest::table_plan::{TablePlan, TablePlans};
use crate::sink::worker::{Source, Worker, WorkerParts};
use crate::spool::{self, Channels, InsertJob, SpoolThread};
use crate::telemetry::context::PipelineContext;
use crate::telemetry::events::Warning;
use crate::transform::stage::{Signal, TransformStage};
use crate::transform::{self, TransformHosts};

/// Sealed batches that may wait for a worker. The memory ceiling is what bounds them; this only keeps tiny batches
/// from piling up without end.
const QUEUE: usize = 1024;

/// Facts about the tables from ClickHouse.
pub struct Prepared {
    pub plans: Arc<TablePlans>,
    pub store: Store,
}

/// Asks ClickHouse what it must be asked before anything flows.
pub async fn prepare(context: &PipelineContext) -> Result<Prepared> {
    let Config { clickhouse, routes, dead_letters, .. } = &context.config;
    check_reachable(routes)?;
    let schema = first_answer(context).await?;
    let (tables, store) = tokio::time::timeout(clickhouse.request_timeout, async {
        let mut tables = Vec::new();
        for route in context.config.all_routes() {
            let table = schema.table(&route.path, route).await?;
            table.check_keeps_rows(&route.path, route)?;
            warn_of_unused_names(context, route, &table);
            tables.push(table);
        }
        for route in context.config.all_routes() {
            check_views(context, &schema, &route.table).await?;
        }
        let store = match (&dead_letters.table, &dead_letters.dir) {
            (Some(table), _) => {
                // Even with IF NOT EXISTS the statement needs a right, which many do well without.
                if schema.columns(table).await?.is_empty() {
                    let created = schema.execute(&store::create_sql(table)).await;
                    created.map_err(|error| with_grant(error, &clickhouse.username))?;
                }
                schema.check("deadLetters.table", table, store::column_names()).await?;
                let servers = Servers::new(servers(clickhouse)?, 0);
                Store::Table { name: table.clone(), servers }
            }
            (None, Some(dir)) => {
                let dir = PathBuf::from(dir);
                std::fs::create_dir_all(&dir).map_err(|error| {
                    Error::config("deadLetters.dir", format!("cannot be created: {error}"))
                })?;
                Store::Directory(dir)
            }
            (None, None) => Store::Event,
        };
        let filled = context
            .config
            .all_routes()
            .map(|route| route.table.as_str())
            .chain(dead_letters.table.as_deref());
        for (table, message) in schema.warnings(filled).await? {
            context.warn(Warning::new("DEDUPLICATION_OFF", message).table(&table));
        }
        Ok((tables, store))
    })
    .await
    .unwrap_or_else(|_| Err(no_answer(clickhouse)))?;
    let routes = context.config.all_routes();
    let plans = Arc::new(TablePlans::within(&context.memory, routes, tables, Instant::now())?);
    for (i, route) in context.config.all_routes().enumerate() {
        probe_insert(&schema, &plans.latest(i), route, clickhouse).await?;
    }
    Ok(Prepared { plans, store })
}

pub fn warn_of_unused_names(context: &PipelineContext, route: &Route, table: &Table) {
    for name in route.unused_names(|name| table.has_column(name)) {
        let message =
            format!("{}: {{{name}}} of the topic fills nothing: there is no column {name}", route.table);
        let warning = Warning::new("TOPIC_NAME_UNUSED", message);
        context.warn(warning.table(&route.table).topic(route.topic.as_str()));
    }
}

/// Inserts no rows: settings and constraints that make every INSERT fail are the answer to `start()`, not rows that wait
/// for ever. A fault that may end by itself does not fail the start: the first batch is retried until
/// it does.
async fn probe_insert(
    schema: &SchemaClient,
    plan: &TablePlan,
    route: &Route,
    clickhouse: &config::ClickHouse,
) -> Result<()> {
    let columns = plan.block_columns(route);
    let mut packer = BlockEncoder::new(clickhouse.compression);
    let block = packer.encode(&plan.column_headers, &columns, &plan.resistance);
    let insert = Insert {
        sql: &plan.sql,
        frames: std::slice::from_ref(&block.frames),
        rows: 0,
        block_bytes: block.block_bytes,
        token: &format!("start-{:016x}", random_bits()),
        views: ViewMode::Normal,
    };
    match insert.attempt(&schema.server, clickhouse, true).await {
        Err(Failure {
            error,
            class: ErrorClass::Refused | ErrorClass::RefusedByView | ErrorClass::RetrySlowly,
        }) => Err(with_grant(error, &clickhouse.username)),
        _ => Ok(()),
    }
}

/// Views behind a table that fail every INSERT of rows are the answer to `start()`; those that may, and cannot be seen, are a
/// warning.
async fn check_views(context: &PipelineContext, schema: &SchemaClient, table: &str) -> Result<()> {
    for right in schema.view_rights(table, &context.config.clickhouse.username).await? {
        if right.is_missing {
            return Err(Error::ClickHouseRejected {
                exception: Some(ACCESS_DENIED),
                name: Some("ACCESS_DENIED".into()),
                // ClickHouse answers 403 to every INSERT that fails for this reason.
                status: 403,
                message: right.explain(table),
            });
        }
        let message = right.explain(table);
        context.warn_once(message.clone(), Warning::new("VIEW_RIGHTS_UNKNOWN", message).table(table));
    }
    Ok(())
}

/// The first server that answers.
pub async fn inspect(clickhouse: &config::ClickHouse) -> Result<SchemaClient> {
    let all = servers(clickhouse)?;
    clickhouse.ask_password().await?;
    let within = clickhouse.connect_timeout * clickhouse.urls.len() as u32;
    tokio::time::timeout(within, SchemaClient::connect(&all, &clickhouse.database))
        .await
        .unwrap_or_else(|_| Err(no_answer(clickhouse)))
}

/// The first server that answers, within `startTimeoutMs`: a server that sleeps accepts connections long before it answers.
async fn first_answer(context: &PipelineContext) -> Result<SchemaClient> {
    let Config { clickhouse, start_timeout, .. } = &context.config;
    let deadline = tokio::time::Instant::now() + *start_timeout;
    let all = servers(clickhouse)?;
    clickhouse.ask_password().await?;
    let within = clickhouse.connect_timeout * clickhouse.urls.len() as u32;
    let mut fault = context.no_fault();
    loop {
        let until = deadline.min(tokio::time::Instant::now() + within);
        if let Ok(answer) =
            tokio::time::timeout_at(until, SchemaClient::connect(&all, &clickhouse.database)).await
        {
            return answer;
        }
        let now = tokio::time::Instant::now();
        if now >= deadline {
            return Err(no_answer(clickhouse));
        }
        let left = deadline - now;
        let message = format!(
            "ClickHouse at {} accepts connections and does not answer; start() waits for it for another {} ms",
            clickhouse.places(),
            left.as_millis()
        );
        let warning = Warning::new("CLICKHOUSE_SILENT", message).time_left(left);
        context.warn_of_fault(&mut fault, warning.retry_in(Duration::ZERO));
    }
}

/// The threads behind ingest.
pub struct OutputStages {
    transforms: Vec<JoinHandle<()>>,
    spool: Option<JoinHandle<()>>,
    workers: Vec<JoinHandle<()>>,
    dead_letters: JoinHandle<()>,
}

/// Where ingest puts what it makes.
pub struct StageInputs {
    pub batches: RouteSenders,
    pub dead_letters: Sender<DeadLetterBatch>,
    /// `None`: there is no spool.
    pub spool: Option<Sender<spool::Control>>,
}

impl OutputStages {
    pub fn start(
        context: &Arc<PipelineContext>,
        plans: Arc<TablePlans>,
        store: Store,
        tokens: Tokens,
        spool: Option<spool::Opened>,
        hosts: &TransformHosts,
    ) -> Result<(OutputStages, StageInputs)> {
        let tokens = Arc::new(tokens);
        let (batch_sender, batches) = crossbeam_channel::bounded(QUEUE);
        let (dead_letter_sender, dead_letters) = crossbeam_channel::unbounded();
        let (spool, control, source) = match spool {
            None => (None, None, Source::Ingest(batches)),
            Some(opened) => {
                let (thread, control, jobs) = start_spool(context, opened, batches, hosts)?;
                (Some(thread), Some(control), Source::Spool(jobs))
            }
        };
        let next = (&batch_sender, &dead_letter_sender);
        let transforms = TransformStages::start(context, &plans, hosts, next, tokens.are_random())?;
        let mut workers = Vec::new();
        let parts = WorkerParts {
            context: context.clone(),
            plans,
            source,
            dead_letters: dead_letter_sender.clone(),
            tokens: tokens.clone(),
            waiting: Arc::default(),
            taps: hosts.taps.clone(),
        };
        let clickhouse = &context.config.clickhouse;
        for i in 0..clickhouse.max_in_flight {
            let worker = Worker::new(parts.clone(), Servers::new(servers(clickhouse)?, i));
            workers.push(context.spawn("insert", async move || worker.run().await)?);
        }
        drop(parts);
        let thread = DeadLetterThread { context: context.clone(), store, batches: dead_letters, tokens };
        let dead_letters = context.spawn("letters", async move || thread.run().await)?;
        let TransformStages { threads: transforms, senders } = transforms;
        let inputs = StageInputs { batches: senders, dead_letters: dead_letter_sender, spool: control };
        Ok((OutputStages { transforms, spool, workers, dead_letters }, inputs))
    }

    /// Waits for all of them, in the order in which they end.
    pub fn join(self) {
        // A panic was caught and reported by the thread itself.
        for thread in self.transforms.into_iter().chain(self.spool).chain(self.workers) {
            let _ = thread.join();
        }
        let _ = self.dead_letters.join();
    }
}

/// The threads of the routes with a transform, and where the batches of each route go.
pub struct TransformStages {
    pub threads: Vec<JoinHandle<()>>,
    pub senders: RouteSenders,
}

impl TransformStages {
    /// `batches` is where they go on from there. `gathers`: they may depend on time.
    pub fn start(
        context: &Arc<PipelineContext>,
        plans: &Arc<TablePlans>,
        hosts: &TransformHosts,
        (batches, dead_letters): (&Sender<Box<Batch>>, &Sender<DeadLetterBatch>),
        gathers: bool,
    ) -> Result<TransformStages> {
        let Config { routes, spool, .. } = &context.config;
        let joined = JoinedRoutes::of(routes, spool.is_some());
        let mut senders = vec![batches.clone(); context.config.all_routes().count()];
        let mut threads = Vec::new();
        // From the last one on: a unit goes from one transform to the next.
        for (at, route) in routes.iter().enumerate().rev().filter(|(_, route)| route.transform.is_some()) {
            let host = hosts.of(at).ok_or_else(|| Error::TransformInvalid {
                path: format!("{}.transform", route.path),
                message: "no JavaScript runs it".into(),
            })?;
            let (sender, waiting) = crossbeam_channel::bounded(transform::stage::QUEUE);
            let (signaller, signals) = crossbeam_channel::unbounded();
            let (canceller, awaiter) = (signaller.clone(), signaller);
            // A thread that has ended needs no signal.
            context.on_cancel(move || _ = canceller.send(Signal::Cancelled));
            context.on_awaited(move || _ = awaiter.send(Signal::Awaited));
            let next = joined.next_transform(at).map_or(batches, |next| &senders[next]).clone();
            let (context, plans) = (context.clone(), plans.clone());
            let dead_letters = dead_letters.clone();
            let stage = TransformStage {
                context: context.clone(),
                plans,
                at,
                host,
                batches: waiting,
                next,
                dead_letters,
                signals,
                gathers,
            };
            threads.push(context.spawn("transform", async move || stage.run())?);
            senders[at] = sender;
        }
        Ok(TransformStages { threads, senders: RouteSenders::ByRoute(senders.into()) })
    }
}

type SpoolStage = (JoinHandle<()>, Sender<spool::Control>, Receiver<InsertJob>);

fn start_spool(
    context: &Arc<PipelineContext>,
    opened: spool::Opened,
    batches: Receiver<Box<Batch>>,
    hosts: &TransformHosts,
) -> Result<SpoolStage> {
    let (control, controls) = crossbeam_channel::unbounded();
    // Bounded by the workers: each that is free gets one.
    let (job_sender, jobs) = crossbeam_channel::unbounded();
    let channels = Channels { batches, controls, jobs: job_sender };
    let thread = SpoolThread::new(context.clone(), opened, channels).with_taps(&hosts.taps);
    let canceller = control.clone();
    context.on_cancel(move || {
        // A spool's thread that has ended needs no end.
        let _ = canceller.send(spool::Control::Cancel);
    });
    Ok((context.spawn("spool", async move || thread.run())?, control, jobs))
}

/// A route below one that takes all its topics would never see a message.
pub fn check_reachable(routes: &[Route]) -> Result<()> {
    for (i, route) in routes.iter().enumerate() {
        if let Some(earlier) =
            routes[..i].iter().position(|earlier| !earlier.continues && earlier.topic.covers(&route.topic))
        {
            let message = format!("can never match: routes[{earlier}] takes all its topics first");
            return Err(Error::config(format!("routes[{i}].topic"), message));
        }
    }
    Ok(())
}

pub fn no_answer(config: &config::ClickHouse) -> Error {
    Error::ClickHouseUnreachable { url: config.places(), message: "no answer in time".into() }
}
