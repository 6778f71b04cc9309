//! Replays dead letters: they take the way of a message, without a broker.
//!
//! ```text
//!  files ┐
//!  table ├─▶ feed ─▶ router ──batches──▶ workers  ──▶ ClickHouse
//!  calls ┘             └─dead letters─▶ writer  ──▶ table, file, event
//! ```
//!
//! - The same dead letters make the same batches each time: sealed by rows and bytes, at the end of a
//!   file, and when all that are open hold a quarter of the memory ceiling, never
//!   by time. As the tokens are made of the bytes, ClickHouse recognises rows that an earlier replay has
//!   inserted.
//! - Nothing is taken from the source: a replay that ends early is begun anew.

mod files;
mod table;

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use serde::Serialize;
use tokio::sync::mpsc;

use crate::clickhouse::token::Tokens;
use crate::config::{Config, ReplaySource};
use crate::core::clock::ReceiveTime;
use crate::core::error::{Error, Result};
use crate::core::lock::lock;
use crate::core::mqtt_property::Properties;
use crate::core::reason::{Code, Reason};
use crate::core::thread::{run_on, runtime};
pub use crate::dead_letter::StoredDeadLetter;
use crate::dead_letter::store::{self, Store};
use crate::ingest::router::Router;
use crate::mqtt::{AckSender, Command, MessageSink, Publish};
use crate::pipeline::stages::{OutputStages, Prepared, StageInputs, inspect, prepare};
use crate::telemetry::context::PipelineContext;
use crate::telemetry::events::{Event, Listener, Warning};
use crate::telemetry::metrics::add;
use crate::transform::TransformHosts;
use files::Files;
use table::TableReader;

/// The report lists this number of unreadable dead letters, and counts the others.
const MAX_REPORTED: usize = 100;
/// After this number of bytes the size of the open batches is checked; it equals one read from a
/// broker.
const SIZE_CHECK_BYTES: usize = 256 << 10;
/// No batch gets so old.
const NEVER: Duration = Duration::from_secs(10 * 365 * 86400);

/// The progress of a replay. Messages of `read` that are neither inserted, nor a dead letter again, nor
/// dropped are on their way.
#[derive(Debug, Clone, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Report {
    pub read: u64,
    pub inserted: u64,
    pub dead_lettered: u64,
    /// A transform, or a condition, did not want them.
    pub dropped: u64,
    pub malformed: u64,
    pub rows: u64,
    #[serde(rename = "malformedLetters")]
    pub malformed_records: Vec<Malformed>,
}

/// Something in the place of a dead letter.
#[derive(Debug, Clone, Serialize)]
pub struct Malformed {
    /// `None`: JavaScript supplied it.
    pub file: Option<String>,
    /// The line of the file, or the number of the dead letter; from 1.
    pub line: u64,
    pub message: String,
}

/// An item of a source.
#[derive(Debug)]
pub enum Item {
    DeadLetter(StoredDeadLetter),
    Malformed(Malformed),
    EndOfFile,
}

/// A dead letter that the caller supplies; the error says why it is not one.
pub type Supplied = std::result::Result<StoredDeadLetter, String>;

pub struct Replay {
    context: Arc<PipelineContext>,
    source: ReplaySource,
    progress: Arc<Progress>,
    /// The panic of the first thread that had one.
    failure: Arc<Mutex<Option<Error>>>,
    /// `None` after the last dead letter.
    tx: Mutex<Option<mpsc::Sender<Vec<Supplied>>>>,
    supplied: Mutex<Option<mpsc::Receiver<Vec<Supplied>>>>,
    hosts: TransformHosts,
    /// Locked while it runs.
    running: Mutex<()>,
}

#[derive(Debug, Default)]
struct Progress {
    malformed: AtomicU64,
    malformed_records: Mutex<Vec<Malformed>>,
}

impl Replay {
    pub fn new(mut config: Config, source: ReplaySource, listener: Listener) -> Replay {
        config.batch.delay = NEVER;
        // Replayed messages belong to no trace.
        config.trace_sample_ratio = 0.0;
        // The dead letters are stored already, and the spool is the pipeline's.
        config.spool = None;
        config.routes.iter_mut().for_each(|route| route.growth = None);
        let failure: Arc<Mutex<Option<Error>>> = Arc::default();
        let failed = failure.clone();
        let listener: Listener = Box::new(move |event| match event {
            Event::Error(error) => {
                lock(&failed).get_or_insert(error);
            }
            event => listener(event),
        });
        let (tx, supplied) = mpsc::channel(1);
        Replay {
            context: Arc::new(PipelineContext::new(config, listener)),
            source,
            progress: Arc::default(),
            failure,
            tx: Mutex::new(Some(tx)),
            supplied: Mutex::new(Some(supplied)),
            hosts: TransformHosts::default(),
            running: Mutex::default(),
        }
    }

    pub fn config(&self) -> &Config {
        &self.context.config
    }

    /// Emits an event behind all that were emitted before.
    pub fn emitter(&self) -> impl FnOnce(Event) + Send + 'static {
        let context = self.context.clone();
        move |event| context.emit(event)
    }

    /// The hosts that make the calls of transforms.
    pub fn hosts(&self) -> &TransformHosts {
        &self.hosts
    }

    /// Feeds all of the source, and returns when every dead letter is inserted or a dead letter again.
    /// To be called once.
    pub fn run(&self) -> Result<Report> {
        let _running = lock(&self.running);
        let context = &self.context;
        let supplied = lock(&self.supplied).take().ok_or_else(aborted)?;
        let Ready { prepared, reader } = run_on(runtime()?, async {
            tokio::select! {
                biased;
                () = context.cancelled() => Err(aborted()),
                ready = self.prepare(supplied) => ready,
            }
        })?;
        let Prepared { plans, store } = prepared;
        let (acks, settled) = AckSender::channel();
        let (stages, StageInputs { batches, dead_letters, tables, .. }) =
            OutputStages::start(context, plans.clone(), store, Tokens::content(), None, &self.hosts)?;

        let outcome: Arc<Mutex<Result<()>>> = Arc::new(Mutex::new(Ok(())));
        let feeder = Feeder {
            router: Router::new(context.clone(), 0, acks, plans, batches, dead_letters).asking(tables),
            client_id: context.config.mqtt.client_id.clone().unwrap_or_default(),
            context: context.clone(),
            progress: self.progress.clone(),
            settled,
            bytes_since_check: 0,
        };
        let result = outcome.clone();
        let source = context.spawn("replay", async move || *lock(&result) = feeder.run(reader).await)?;
        // The thread itself caught and reported a panic.
        let _ = source.join();
        stages.join();

        if let Some(error) = lock(&self.failure).take() {
            return Err(error);
        }
        std::mem::replace(&mut *lock(&outcome), Ok(()))?;
        let report = self.report();
        if report.read == report.inserted + report.dead_lettered + report.dropped {
            Ok(report)
        } else {
            Err(aborted())
        }
    }

    /// Asks ClickHouse about the tables, and opens the source.
    async fn prepare(&self, supplied: mpsc::Receiver<Vec<Supplied>>) -> Result<Ready> {
        let config = &self.context.config;
        let mut prepared = prepare(&self.context, self.context.config.start_timeout).await?;
        let reader = match &self.source {
            ReplaySource::Dir(dir) => Reader::Files(Files::of_directory(dir, config.mqtt.max_packet_bytes)?),
            ReplaySource::File(file) => Reader::Files(Files::one(file, config.mqtt.max_packet_bytes)?),
            ReplaySource::Table { name, condition } => {
                let schema = inspect(&config.clickhouse).await?;
                schema.check("source.table", name, store::column_names()).await?;
                if let Some(dead_letters) = &config.dead_letters.table
                    && schema.split(dead_letters) == schema.split(name)
                {
                    prepared.store = Store::Source;
                }
                let reader = TableReader::open(self.context.clone(), schema, name, condition.as_deref());
                Reader::Table(Box::new(reader.await?))
            }
            ReplaySource::Supplied => {
                Reader::Supplied { dead_letters: supplied, chunk: Vec::new().into_iter(), number: 0 }
            }
        };
        if let (Reader::Files(files), Store::Directory(dir)) = (&reader, &prepared.store)
            && files.lie_in(dir)
        {
            prepared.store = Store::Source;
        }
        Ok(Ready { prepared, reader })
    }

    /// Supplies dead letters, and waits until they are taken. `false`: no more are wanted.
    pub fn supply(&self, dead_letters: Vec<Supplied>) -> bool {
        let tx = lock(&self.tx).clone();
        tx.is_some_and(|tx| tx.blocking_send(dead_letters).is_ok())
    }

    /// No more dead letters will be supplied.
    pub fn end(&self) {
        lock(&self.tx).take();
    }

    /// Ends it as soon as it can. Rows under way may be inserted or not; the source has them all.
    pub fn cancel(&self) {
        self.context.cancel();
        self.end();
    }

    /// The same for a runtime that goes away under us: waits until it has ended.
    pub fn abort(&self) {
        self.cancel();
        drop(lock(&self.running));
    }

    pub fn report(&self) -> Report {
        let counts = self.context.ledger.counts();
        Report {
            read: counts.received,
            inserted: counts.inserted,
            dead_lettered: counts.dead_lettered,
            dropped: counts.dropped,
            malformed: self.progress.malformed.load(Ordering::Relaxed),
            rows: self.context.metrics.rows_inserted.load(Ordering::Relaxed),
            malformed_records: lock(&self.progress.malformed_records).clone(),
        }
    }
}

struct Ready {
    prepared: Prepared,
    reader: Reader,
}

enum Reader {
    Files(Files),
    Table(Box<TableReader>),
    Supplied { dead_letters: mpsc::Receiver<Vec<Supplied>>, chunk: std::vec::IntoIter<Supplied>, number: u64 },
}

impl Reader {
    async fn next(&mut self) -> Result<Option<Item>> {
        match self {
            Reader::Files(files) => files.next(),
            Reader::Table(table) => Ok(table.next().await?.map(Item::DeadLetter)),
            Reader::Supplied { dead_letters, chunk, number } => {
                let dead_letter = loop {
                    if let Some(dead_letter) = chunk.next() {
                        break dead_letter;
                    }
                    match dead_letters.recv().await {
                        Some(dead_letters) => *chunk = dead_letters.into_iter(),
                        None => return Ok(None),
                    }
                };
                *number += 1;
                Ok(Some(match dead_letter {
                    Ok(kept) => Item::DeadLetter(kept),
                    Err(message) => Item::Malformed(Malformed { file: None, line: *number, message }),
                }))
            }
        }
    }
}

/// Moves dead letters from a reader to the router, as fast as the router takes them.
struct Feeder {
    context: Arc<PipelineContext>,
    router: Router,
    client_id: String,
    progress: Arc<Progress>,
    /// Wakes us when a batch is settled.
    settled: mpsc::UnboundedReceiver<Command>,
    /// Bytes of dead letters since the size of the open batches was last checked.
    bytes_since_check: usize,
}

impl Feeder {
    /// Dead letters read before an error are still inserted.
    async fn run(mut self, mut reader: Reader) -> Result<()> {
        let outcome = self.feed(&mut reader).await;
        self.router.commit_read_stats();
        self.router.seal_all();
        self.wait_for_memory().await;
        outcome
    }

    async fn feed(&mut self, reader: &mut Reader) -> Result<()> {
        loop {
            let context = self.context.clone();
            let item = tokio::select! {
                biased;
                () = context.cancelled() => return Err(aborted()),
                item = reader.next() => item?,
            };
            match item {
                None => return Ok(()),
                Some(Item::DeadLetter(dead_letter)) => self.take(&dead_letter),
                Some(Item::Malformed(malformed)) => self.report_malformed(malformed),
                Some(Item::EndOfFile) => self.router.seal_all(),
            }
            self.wait_for_memory().await;
        }
    }

    fn take(&mut self, dead_letter: &StoredDeadLetter) {
        let now = ReceiveTime { instant: Instant::now(), system: dead_letter.received_at };
        match dead_letter.lost.clone().or_else(|| oversized(dead_letter)) {
            Some(reason) => self.router.reject(&dead_letter.topic, &dead_letter.payload, reason, None, now),
            None => {
                let publish = Publish {
                    topic: &dead_letter.topic,
                    payload: &dead_letter.payload,
                    qos: 0,
                    retain: false,
                    duplicate: false,
                    packet_id: 0,
                    fingerprint: 0,
                    properties: Properties::NONE,
                };
                self.router.accept_again(dead_letter.route, &publish, now, &self.client_id);
            }
        }
        self.bytes_since_check +=
            size_of::<StoredDeadLetter>() + dead_letter.topic.len() + dead_letter.payload.len();
        if self.bytes_since_check >= SIZE_CHECK_BYTES {
            self.bytes_since_check = 0;
            self.router.commit_read_stats();
            // Otherwise the open batches alone could fill the memory, and nothing would ever empty it.
            // They count their blocks too, so a part of the ceiling is all of it.
            if self.router.open_bytes() >= self.context.config.memory_max_bytes / 4 {
                self.router.seal_all();
            }
        }
    }

    fn report_malformed(&self, malformed: Malformed) {
        let place = malformed.file.as_deref().unwrap_or("letter");
        let message = format!("{place}:{}: {}", malformed.line, malformed.message);
        let warning =
            Warning::new("LETTER_MALFORMED", message).line(malformed.line).reason(&malformed.message);
        self.context.warn(match &malformed.file {
            Some(file) => warning.file(file),
            None => warning,
        });
        add(&self.progress.malformed, 1);
        let mut malformed_records = lock(&self.progress.malformed_records);
        if malformed_records.len() < MAX_REPORTED {
            malformed_records.push(malformed);
        }
    }

    /// Waits until the sinks have taken what is sealed and there is memory, or all is cancelled. Nothing is accepted
    /// before: a batch that waits would grow, and differ from that of another replay.
    async fn wait_for_memory(&mut self) {
        let PipelineContext { memory, .. } = &*self.context;
        while (self.router.is_sealing() || memory.is_full()) && !self.context.is_cancelled() {
            tokio::select! {
                biased;
                () = self.context.cancelled() => {}
                _ = self.settled.recv() => {}
                () = memory.wait_for_capacity(), if memory.is_full() => {}
            }
            self.router.seal_waiting();
        }
        while self.settled.try_recv().is_ok() {}
    }
}

/// Lengths that MQTT cannot express: MQTT 5, 1.5.4 and 2.1.4.
fn oversized(dead_letter: &StoredDeadLetter) -> Option<Reason> {
    let is_oversized = dead_letter.topic.len() > 65535 || dead_letter.payload.len() > 268_435_455;
    is_oversized.then(|| Reason::new(Code::PacketTooLarge, "larger than an MQTT packet can be"))
}

fn aborted() -> Error {
    Error::InvalidState { operation: "replayDeadLetters", state: "stopping" }
}
