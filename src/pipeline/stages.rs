//! What lies behind the intake: the threads of the workers that insert, and of the writer that keeps dead letters.
//!
//! ```text
//!            ──batches──▶  workers  ──▶ ClickHouse
//!   intake                    │ letters
//!            ──letters──▶  writer   ──▶ dead letters
//! ```
//!
//! With a spool its thread stands between intake and workers: see [`spool::Committer`].
//!
//! A pipeline and a replay have the same: [`prepare`] asks ClickHouse about the tables, [`Downstream::start`] starts the
//! threads. They end by themselves when the senders they were started with are gone, or when all is cancelled.

use std::path::PathBuf;
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Instant;

use crossbeam_channel::Sender;

use crate::clickhouse::Packer;
use crate::clickhouse::client::clients;
use crate::clickhouse::schema::Inspector;
use crate::clickhouse::servers::Servers;
use crate::clickhouse::token::Tokens;
use crate::config::{Config, Route};
use crate::core::error::{Error, Result};
use crate::core::thread::spawn;
use crate::dead_letter::Letters;
use crate::dead_letter::store::{self, Store, Writer};
use crate::ingest::batch::Batch;
use crate::ingest::context::Shared;
use crate::ingest::table_plan::{self, Plans};
use crate::sink::worker::{Source, Worker};
use crate::spool::{self, Committer, Ends};

/// Sealed batches that may wait for a worker. The memory ceiling is what bounds them; this only keeps tiny batches
/// from piling up without end.
const QUEUE: usize = 1024;

/// What is known once ClickHouse has been asked.
pub struct Prepared {
    pub plans: Arc<Plans>,
    pub store: Store,
}

/// Asks ClickHouse what it must be asked before anything flows.
pub async fn prepare(shared: &Shared) -> Result<Prepared> {
    let Config { clickhouse, routes, dead_letters, .. } = &shared.config;
    check_reachable(routes)?;
    let inspector = inspect(clickhouse).await?;
    let (tables, store) = tokio::time::timeout(clickhouse.request_timeout, async {
        let mut tables = Vec::new();
        for (i, route) in routes.iter().enumerate() {
            tables.push(inspector.table(&table_plan::path(i), route).await?);
        }
        let store = match (&dead_letters.table, &dead_letters.dir) {
            (Some(table), _) => {
                // Even with IF NOT EXISTS the statement needs a right, which many do well without.
                if inspector.columns(table).await?.is_empty() {
                    inspector.execute(&store::create_sql(table)).await?;
                }
                inspector.check("deadLetters.table", table, store::column_names()).await?;
                let servers = Servers::new(clients(clickhouse)?, &clickhouse.urls, 0);
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
        let filled = routes.iter().map(|route| route.table.as_str()).chain(dead_letters.table.as_deref());
        for doubt in inspector.doubts(filled).await? {
            shared.warn("DEDUPLICATION_OFF", doubt);
        }
        Ok((tables, store))
    })
    .await
    .unwrap_or_else(|_| Err(no_answer(clickhouse)))?;
    let plans = Arc::new(Plans::new(routes, tables, Instant::now())?);
    Ok(Prepared { plans, store })
}

/// The first server that answers.
pub async fn inspect(clickhouse: &crate::config::ClickHouse) -> Result<Inspector> {
    let all = clients(clickhouse)?;
    let within = clickhouse.connect_timeout * clickhouse.urls.len() as u32;
    tokio::time::timeout(within, Inspector::connect(&all, &clickhouse.urls, &clickhouse.database))
        .await
        .unwrap_or_else(|_| Err(no_answer(clickhouse)))
}

/// The threads behind the intake.
pub struct Downstream {
    spool: Option<JoinHandle<()>>,
    workers: Vec<JoinHandle<()>>,
    writer: JoinHandle<()>,
}

/// Where the intake puts what it makes.
pub struct Outlets {
    pub batches: Sender<Box<Batch>>,
    pub letters: Sender<Letters>,
}

impl Downstream {
    pub fn start(
        shared: &Arc<Shared>,
        plans: Arc<Plans>,
        store: Store,
        tokens: Tokens,
        spool: Option<spool::Opened>,
    ) -> Result<(Downstream, Outlets)> {
        let tokens = Arc::new(tokens);
        let (batch_sender, batches) = crossbeam_channel::bounded(QUEUE);
        let (letter_sender, letters) = crossbeam_channel::unbounded();
        let (spool, source) = match spool {
            None => (None, Source::Intake(batches)),
            Some(opened) => {
                let (calls_sender, calls) = crossbeam_channel::unbounded();
                // Bounded by the workers: each that is free gets one.
                let (handovers, source) = crossbeam_channel::unbounded();
                let committer = Committer::new(shared.clone(), opened, Ends { batches, calls, handovers });
                shared.set_spool(calls_sender);
                (Some(spawn(shared, "spool", async move || committer.run())?), Source::Spool(source))
            }
        };
        let mut workers = Vec::new();
        for i in 0..shared.config.clickhouse.max_in_flight {
            let (plans, source) = (plans.clone(), source.clone());
            let (letters, tokens) = (letter_sender.clone(), tokens.clone());
            let own = shared.clone();
            let clickhouse = &shared.config.clickhouse;
            let servers = Servers::new(clients(clickhouse)?, &clickhouse.urls, i);
            workers.push(spawn(shared, "insert", async move || {
                let packer = Packer::new(own.config.clickhouse.compression);
                let worker = Worker {
                    shared: own,
                    plans,
                    servers,
                    source,
                    letters,
                    tokens,
                    packer,
                    squashes_itself: false,
                };
                worker.run().await;
            })?);
        }
        let writer = Writer { shared: shared.clone(), store, letters, tokens };
        let writer = spawn(shared, "letters", async move || writer.run().await)?;
        Ok((Downstream { spool, workers, writer }, Outlets { batches: batch_sender, letters: letter_sender }))
    }

    /// Waits for all of them, in the order in which they end.
    pub fn join(self) {
        // A panic was caught and told by the thread itself.
        for thread in self.spool.into_iter().chain(self.workers) {
            let _ = thread.join();
        }
        let _ = self.writer.join();
    }
}

/// A route below one that takes all its topics would never see a message.
pub fn check_reachable(routes: &[Route]) -> Result<()> {
    for (i, route) in routes.iter().enumerate() {
        if let Some(earlier) = routes[..i].iter().position(|earlier| earlier.topic.covers(&route.topic)) {
            let message = format!("can never match: routes[{earlier}] takes all its topics first");
            return Err(Error::config(format!("routes[{i}].topic"), message));
        }
    }
    Ok(())
}

pub fn no_answer(config: &crate::config::ClickHouse) -> Error {
    Error::ClickHouseUnreachable { url: config.urls.join(", "), message: "no answer in time".into() }
}
