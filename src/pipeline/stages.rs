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
use crate::ingest::batch::Batch;
use crate::ingest::dead_letter_batch::DeadLetterBatch;
use crate::ingest::router::joined::JoinedRoutes;
use crate::ingest::table_plan::{TablePlan, TablePlans};
use crate::ingest::topic_tables::TableRequests;
use crate::pipeline::{shard_check, topic_tables};
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

/// Asks ClickHouse what it must be asked before anything flows. A server that accepts connections and does not answer is waited
/// for, `patience` at most.
pub async fn prepare(context: &PipelineContext, patience: Duration) -> Result<Prepared> {
    let Config { clickhouse, routes, dead_letters, .. } = &context.config;
    check_reachable(routes)?;
    let schema = first_answer(context, patience).await?;
    let (tables, store) = tokio::time::timeout(clickhouse.request_timeout, async {
        let mut tables = Vec::new();
        for route in context.config.all_routes() {
            tables.push(match route.table_choice {
                Some(_) => Table::unknown(&route.table),
                None => read_table(context, &schema, route).await?,
            });
        }
        for route in known_tables(&context.config) {
            check_views(context, &schema, &route.table).await?;
        }
        let known =
            context.config.all_routes().zip(&tables).filter(|(route, _)| route.table_choice.is_none());
        let (known_routes, known): (Vec<&Route>, Vec<&Table>) = known.unzip();
        shard_check::check(context, known_routes.into_iter(), &known).await?;
        let store = match &dead_letters.table {
            Some(table) => {
                let mut all = servers(clickhouse)?;
                let mut on_first = None;
                if clickhouse.shards.is_some() {
                    // Dead letters have no key: all are on the first shard.
                    all.truncate(1);
                    on_first = Some(SchemaClient::connect(&all, &clickhouse.database).await?);
                }
                let schema = on_first.as_ref().unwrap_or(&schema);
                // Even with IF NOT EXISTS the statement needs a right, which many do well without.
                if schema.columns(table).await?.is_empty() {
                    let created = schema.execute(&store::create_sql(table)).await;
                    created.map_err(|error| with_grant(error, &clickhouse.username))?;
                }
                schema.check("deadLetters.table", table, store::column_names()).await?;
                Store::Table { name: table.clone(), servers: Servers::new(all, 0) }
            }
            None => local_store(dead_letters)?,
        };
        let filled = known_tables(&context.config)
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
        if route.table_choice.is_none() {
            probe_insert(&schema, &plans.latest(i), route, clickhouse).await?;
        }
    }
    Ok(Prepared { plans, store })
}

/// The routes whose tables are known before the first message.
fn known_tables(config: &Config) -> impl Iterator<Item = &Route> {
    config.all_routes().filter(|route| route.table_choice.is_none())
}

/// The place of dead letters that needs no ClickHouse.
pub fn local_store(dead_letters: &config::DeadLetters) -> Result<Store> {
    let Some(dir) = &dead_letters.dir else { return Ok(Store::Event) };
    let dir = PathBuf::from(dir);
    std::fs::create_dir_all(&dir)
        .map_err(|error| Error::config("deadLetters.dir", format!("cannot be created: {error}")))?;
    Ok(Store::Directory(dir))
}

async fn read_table(context: &PipelineContext, schema: &SchemaClient, route: &Route) -> Result<Table> {
    let table = schema.table(&route.path, route).await?;
    table.check_keeps_rows(&route.path, route)?;
    warn_of_unused_names(context, route, &table);
    Ok(table)
}

pub fn warn_of_unused_names(context: &PipelineContext, route: &Route, table: &Table) {
    for name in route.unused_names(|name| table.has_column(name)) {
        let message =
            format!("{}: {{{name}}} of the topic fills nothing: there is no column {name}", route.table);
        let warning = Warning::new("TOPIC_NAME_UNUSED", message);
        context.warn(warning.table(&route.table).topic(route.topic.as_str()));
    }
}

/// Asks ClickHouse about the tables of routes that are added while the pipeline runs.
pub async fn prepare_added(
    context: &PipelineContext,
    plans: &TablePlans,
    routes: &[Route],
) -> Result<Vec<Arc<TablePlan>>> {
    let clickhouse = &context.config.clickhouse;
    let schema = inspect(clickhouse).await?;
    let ask = async {
        let (mut added, mut tables) = (Vec::new(), Vec::new());
        for route in routes {
            if route.table_choice.is_some() {
                added.push(plans.plan(route, Table::unknown(&route.table))?);
                continue;
            }
            let table = read_table(context, &schema, route).await?;
            let looked_at = table.clone();
            check_views(context, &schema, &route.table).await?;
            let plan = plans.plan(route, table)?;
            probe_insert(&schema, &plan, route, clickhouse).await?;
            added.push(plan);
            tables.push(looked_at);
        }
        let known = || routes.iter().filter(|route| route.table_choice.is_none());
        shard_check::check(context, known(), &tables.iter().collect::<Vec<_>>()).await?;
        for (table, message) in schema.warnings(known().map(|route| route.table.as_str())).await? {
            context.warn(Warning::new("DEDUPLICATION_OFF", message).table(&table));
        }
        Ok(added)
    };
    tokio::time::timeout(clickhouse.request_timeout, ask).await.unwrap_or_else(|_| Err(no_answer(clickhouse)))
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

/// The first server that answers, within `patience`: a server that sleeps accepts connections long before it answers.
async fn first_answer(context: &PipelineContext, patience: Duration) -> Result<SchemaClient> {
    let clickhouse = &context.config.clickhouse;
    let deadline = tokio::time::Instant::now() + patience;
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
    tables: Option<JoinHandle<()>>,
    spool: Option<JoinHandle<()>>,
    workers: Vec<JoinHandle<()>>,
    dead_letters: JoinHandle<()>,
}

/// Where ingest puts what it makes.
pub struct StageInputs {
    /// By route.
    pub batches: Vec<Sender<Box<Batch>>>,
    /// Where batches go from there.
    pub sink: Sender<Box<Batch>>,
    pub dead_letters: Sender<DeadLetterBatch>,
    /// Where connections ask for tables that messages choose. `None`: there were no such routes at start.
    pub tables: Option<TableRequests>,
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
        let (dead_dead_letter_sender, dead_letters) = crossbeam_channel::unbounded();
        let (spool, control, source) = match spool {
            None => (None, None, Source::Ingest(batches)),
            Some(opened) => {
                let (thread, control, jobs) = start_spool(context, opened, batches, hosts)?;
                (Some(thread), Some(control), Source::Spool(jobs))
            }
        };
        let next = (&batch_sender, &dead_dead_letter_sender);
        let transforms = TransformStages::start(context, &plans, hosts, next, tokens.are_random())?;
        let mut workers = Vec::new();
        let (tables_thread, tables) = topic_tables::start(context, &plans)?.unzip();
        let parts = WorkerParts {
            context: context.clone(),
            plans,
            source,
            dead_letters: dead_dead_letter_sender.clone(),
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
        let inputs = StageInputs {
            batches: senders,
            sink: batch_sender,
            dead_letters: dead_dead_letter_sender,
            tables,
            spool: control,
        };
        Ok((OutputStages { transforms, tables: tables_thread, spool, workers, dead_letters }, inputs))
    }

    /// A thread of a route that was added.
    pub fn add_transform(&mut self, thread: JoinHandle<()>) {
        self.transforms.push(thread);
    }

    /// Waits for all of them, in the order in which they end.
    pub fn join(self) {
        // A panic was caught and reported by the thread itself.
        for thread in self.tables.into_iter().chain(self.transforms).chain(self.spool).chain(self.workers) {
            let _ = thread.join();
        }
        let _ = self.dead_letters.join();
    }
}

/// The threads of the routes with a transform, and where the batches of each route go.
pub struct TransformStages {
    pub threads: Vec<JoinHandle<()>>,
    pub senders: Vec<Sender<Box<Batch>>>,
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
        for (at, _) in routes.iter().enumerate().rev().filter(|(_, route)| route.transform.is_some()) {
            let next = joined.next_transform(at).map_or(batches, |next| &senders[next]).clone();
            let (thread, sender) = start_transform(context, plans, hosts, at, (next, dead_letters), gathers)?;
            threads.push(thread);
            senders[at] = sender;
        }
        Ok(TransformStages { threads, senders })
    }
}

/// Starts the thread of a route with a transform, and gives where its batches go. `next` is where they go on from there.
pub fn start_transform(
    context: &Arc<PipelineContext>,
    plans: &Arc<TablePlans>,
    hosts: &TransformHosts,
    at: usize,
    (next, dead_letters): (Sender<Box<Batch>>, &Sender<DeadLetterBatch>),
    gathers: bool,
) -> Result<(JoinHandle<()>, Sender<Box<Batch>>)> {
    let host = hosts.of(at).ok_or_else(|| Error::TransformInvalid {
        path: format!("{}.transform", context.config.route(at).path),
        message: "no JavaScript runs it".into(),
    })?;
    let (sender, waiting) = crossbeam_channel::bounded(transform::stage::QUEUE);
    let (signaller, signals) = crossbeam_channel::unbounded();
    let (canceller, awaiter) = (signaller.clone(), signaller);
    // A thread that has ended needs no signal.
    context.on_cancel(move || _ = canceller.send(Signal::Cancelled));
    context.on_awaited(move || _ = awaiter.send(Signal::Awaited));
    let stage = TransformStage {
        context: context.clone(),
        plans: plans.clone(),
        at,
        host,
        batches: waiting,
        next,
        dead_letters: dead_letters.clone(),
        signals,
        gathers,
    };
    Ok((context.spawn("transform", async move || stage.run())?, sender))
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
    let routes: Vec<&Route> = routes.iter().collect();
    match unreachable(&routes) {
        None => Ok(()),
        Some((i, earlier)) => {
            let message = format!("can never match: routes[{earlier}] takes all its topics first");
            Err(Error::config(format!("routes[{i}].topic"), message))
        }
    }
}

/// The first route that no message can reach, and the one that takes all of its topics.
pub fn unreachable(routes: &[&Route]) -> Option<(usize, usize)> {
    (0..routes.len()).find_map(|i| {
        let takes = |earlier: &&Route| !earlier.continues && earlier.topic.covers(&routes[i].topic);
        Some((i, routes[..i].iter().position(takes)?))
    })
}

pub fn no_answer(config: &config::ClickHouse) -> Error {
    Error::ClickHouseUnreachable { url: config.places(), message: "no answer in time".into() }
}
