//! Inserts batches into ClickHouse, one INSERT at a time, on a thread of its own.
//!
//! A worker repeats an INSERT that can succeed later for ever, under the same token and with the same bytes. Only where the
//! table has changed meanwhile are the messages decoded again: the same rows under the same token. If ClickHouse refuses a batch
//! because of its data, the good rows are inserted and the bad ones become dead letters. When all of
//! that is known, the batch is settled by its completion.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use crossbeam_channel::{Receiver, Sender};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::clickhouse::retry::SLOW;
use crate::clickhouse::schema::SchemaClient;
use crate::clickhouse::servers::Servers;
use crate::clickhouse::token::Tokens;
use crate::clickhouse::{BlockEncoder, native};
use crate::core::backoff::Backoff;
use crate::core::dead_letter::DeadLetter;
use crate::core::reason::Reason;
use crate::core::shard::Shard;
use crate::ingest::batch::Batch;
use crate::ingest::dead_letter_batch::DeadLetterBatch;
use crate::ingest::encoded_rows::EncodedRows;
use crate::ingest::kept_rows::KeptRows;
use crate::ingest::table_plan::{SchemaChange, TablePlan, TablePlans};
use crate::ingest::taps::Taps;
use crate::sink::schedule::Job;
use crate::sink::waiting_tables::WaitingTables;
use crate::spool::{Cuts, InsertJob, WorkerPermit};
use crate::telemetry::context::PipelineContext;
use crate::telemetry::events::{Event, Warning};
use crate::telemetry::faults::OpenFault;
use crate::telemetry::metrics::add;
use crate::telemetry::trace::Trace;

/// The state that all workers of a pipeline share.
#[derive(Clone)]
pub struct WorkerParts {
    pub context: Arc<PipelineContext>,
    pub plans: Arc<TablePlans>,
    pub source: Source,
    pub dead_letters: Sender<DeadLetterBatch>,
    pub tokens: Arc<Tokens>,
    /// Tables of which an INSERT waits to be tried again.
    pub waiting: Arc<WaitingTables<Job>>,
    pub taps: Arc<Taps>,
}

pub struct Worker {
    pub(super) context: Arc<PipelineContext>,
    pub(super) plans: Arc<TablePlans>,
    pub(super) source: Source,
    pub(super) dead_letters: Sender<DeadLetterBatch>,
    pub(super) tokens: Arc<Tokens>,
    pub(super) waiting: Arc<WaitingTables<Job>>,
    taps: Arc<Taps>,
    pub(super) servers: Servers,
    /// The server of each shard; empty without shards.
    shards: Vec<Servers>,
    /// The shard of the INSERT under way.
    shard: Option<Shard>,
    pub(super) packer: BlockEncoder,
    /// ClickHouse is too old to squash the blocks of several records into one: they are decoded again as one block.
    pub(super) lacks_block_squashing: bool,
    slot: Option<(Arc<Semaphore>, Option<OwnedSemaphorePermit>)>,
    /// Counted in `inserts.inFlight`.
    is_in_flight: bool,
    /// Held for an INSERT of the spool until it waits or ends.
    pub(super) spool_permit: Option<WorkerPermit>,
    /// The INSERT of the spool that is under way, and where its division is noted.
    pub(super) spooled: Option<(u64, Arc<Cuts>)>,
    /// Since when an earlier attempt at the INSERT under way may have been made, by this process or an earlier one.
    pub(super) attempted_since: Option<Instant>,
    /// One of this process may have brought it in.
    pub(super) may_be_in: bool,
    /// The fault that fails the INSERT under way.
    pub(super) fault: OpenFault,
    /// The INSERT under way has waited, so that others of its table may be behind it.
    pub(super) has_waited: bool,
}

/// Where a worker gets what it inserts.
#[derive(Clone)]
pub enum Source {
    Ingest(Receiver<Box<Batch>>),
    Spool(Receiver<InsertJob>),
}

/// Messages that do not become rows, by their place in the batch; all others do.
pub(super) type RejectedRows = Vec<(usize, Reason)>;

/// After this number of refusals in a row an INSERT that may be in counts as refused.
const REFUSALS: u32 = 3;
/// How long a check of the table may delay an INSERT while nothing says that the table has changed.
const SCHEMA_CHECK_TIMEOUT: Duration = Duration::from_secs(1);

impl Worker {
    pub fn new(parts: WorkerParts, servers: Servers) -> Worker {
        let WorkerParts { context, plans, source, dead_letters, tokens, waiting, taps } = parts;
        let has_shards = context.config.clickhouse.shards.is_some();
        Worker {
            fault: context.no_fault(),
            packer: BlockEncoder::within(&context.memory, context.config.clickhouse.compression),
            context,
            plans,
            source,
            dead_letters,
            tokens,
            waiting,
            taps,
            shards: if has_shards { servers.each() } else { Vec::new() },
            servers,
            shard: None,
            lacks_block_squashing: false,
            slot: None,
            is_in_flight: false,
            spool_permit: None,
            spooled: None,
            attempted_since: None,
            may_be_in: false,
            has_waited: false,
        }
    }

    pub(super) fn parts(&self) -> WorkerParts {
        WorkerParts {
            context: self.context.clone(),
            plans: self.plans.clone(),
            source: self.source.clone(),
            dead_letters: self.dead_letters.clone(),
            tokens: self.tokens.clone(),
            waiting: self.waiting.clone(),
            taps: self.taps.clone(),
        }
    }

    /// Takes the slot of the thread.
    pub(super) fn hold(&mut self, slot: Arc<Semaphore>, permit: OwnedSemaphorePermit) {
        self.slot = Some((slot, Some(permit)));
    }

    /// Counts the INSERT as under way, or no longer. The flag ends before its messages are settled: a
    /// thread that waits for these must not see it.
    pub(super) fn set_in_flight(&mut self, is_in_flight: bool) {
        let count = &self.context.metrics.inserts_in_flight;
        match (std::mem::replace(&mut self.is_in_flight, is_in_flight), is_in_flight) {
            (false, true) => add(count, 1),
            (true, false) => _ = count.fetch_sub(1, Ordering::Relaxed),
            _ => {}
        }
    }

    /// Gives the slot up for good.
    pub(super) fn release(&mut self) {
        self.set_in_flight(false);
        self.slot = None;
        self.spool_permit = None;
    }

    /// Whether a refusal is believed that leads to other tokens. Where the rows may be in, one is not enough: a body that was cut
    /// on its way is refused like bad rows, and what is in must stay under its token. `refusals`: how many in a row.
    pub(super) fn believes_refusal(&self, may_be_in: bool, refusals: u32) -> bool {
        let is_doubtful = may_be_in || self.attempted_since.is_some();
        !is_doubtful || refusals >= REFUSALS
    }

    /// The INSERTs that wait for each other: those into a table, and of the same shard.
    pub(super) fn lane(&self, table: &str) -> String {
        self.shard.map_or_else(|| table.into(), |shard| shard.name(table))
    }

    /// Sends what follows to the server of this shard.
    pub(super) fn select_shard(&mut self, shard: Option<Shard>) {
        self.shard = shard;
        if let Some(servers) = shard.and_then(|shard| self.shards.get(shard.at as usize)) {
            self.servers = servers.clone();
        }
    }

    /// Waits before an INSERT into this table is tried again. Others go on meanwhile. `None`: cancelled.
    pub(super) async fn wait(&mut self, table: &str, wait: Duration) -> Option<()> {
        let context = self.context.clone();
        if !std::mem::replace(&mut self.has_waited, true) {
            self.waiting.enter(&self.lane(table));
        }
        self.spool_permit = None;
        self.set_in_flight(false);
        if let Some((_, permit)) = &mut self.slot {
            *permit = None;
        }
        tokio::select! {
            biased;
            () = context.cancelled() => return None,
            () = tokio::time::sleep(wait) => {}
        }
        if let Some((slot, permit)) = &mut self.slot {
            tokio::select! {
                biased;
                () = context.cancelled() => return None,
                acquired = slot.clone().acquire_owned() => {
                    *permit = Some(acquired.expect("nobody closes it"));
                }
            }
        }
        self.set_in_flight(true);
        Some(())
    }

    pub(super) async fn insert(&mut self, mut batch: Box<Batch>) {
        self.set_in_flight(true);
        batch.queue_permit = None;
        let rows = batch.rows();
        batch.describe_trace(rows);
        batch.without_inputs();
        let columns = std::mem::take(&mut batch.columns);
        let plan = batch.plan.clone();
        let token = self.tokens.token(batch.completion.id(), &plan.sql, || {
            native::encode_to_vec(&plan.column_headers, &columns)
        });
        // The block takes the place of the columns it is copied from.
        let encoded = EncodedRows::new(plan, &columns, Vec::new(), &mut self.packer);
        self.taps.offer(&self.context, batch.route, &batch.plan, &columns);
        match batch.message_rows.take() {
            None => batch.release_columns(columns),
            Some(message_rows) => {
                let headers = encoded.plan.column_headers.clone();
                batch.kept = Some(Box::new(KeptRows { headers, columns, message_rows }));
            }
        }
        let rejected = self.insert_with_isolation(&mut batch, Some(encoded), &token).await;
        self.set_in_flight(false);
        self.settle(batch, rejected, &token);
    }

    /// A row that was gathered from several messages stands at the last of them: with it all are rejected.
    fn with_parts_of_rows(&self, batch: &Batch, rejected: RejectedRows) -> RejectedRows {
        match &batch.kept {
            Some(kept) if self.context.config.route(batch.route).pivot.is_some() => {
                let parts = |(last, reason): (usize, Reason)| {
                    kept.message_rows.gathered(last).map(move |at| (at, reason.clone()))
                };
                rejected.into_iter().flat_map(parts).collect()
            }
            _ => rejected,
        }
    }

    /// Settles a batch of which all messages but the rejected ones are in. `None`: cancelled, nothing is settled.
    pub(super) fn settle(&self, mut batch: Box<Batch>, rejected: Option<RejectedRows>, token: &str) {
        let Some(rejected) = rejected else { return };
        let rejected = self.with_parts_of_rows(&batch, rejected);
        // Columns from the spool may have the types of an earlier table.
        if let Some(kept) = batch.kept.take_if(|_| !batch.completion.is_spooled()) {
            batch.release_columns(kept.columns);
        }
        if let Some(trace) = batch.trace.take() {
            self.report_trace(trace, &self.context.config.route(batch.route).table, rejected.len());
        }
        let now = Instant::now();
        if rejected.is_empty() {
            for (at, count) in batch.messages.receive_times() {
                self.record_latency(now, at.instant, *count);
            }
            return batch.completion.inserted(batch.messages.len() as u64);
        }
        self.dead_letter(batch, rejected, token, now);
    }

    /// All messages are in but these, which become dead letters. The completion of the batch goes with
    /// them: it settles when they are stored.
    fn dead_letter(&self, batch: Box<Batch>, rejected: RejectedRows, token: &str, now: Instant) {
        let Batch { completion, messages, route, calls, .. } = *batch;
        for (place, reason) in &rejected {
            if let Some(calls) = &calls {
                calls.refuse(*place, reason);
            }
        }
        let is_spooled = completion.is_spooled();
        let mut dead_letters = DeadLetterBatch::new(completion);
        let mut rejected = rejected.into_iter().peekable();
        for (at, message) in messages.iter().enumerate() {
            match rejected.next_if(|(place, _)| *place == at) {
                None => self.record_latency(now, message.received.instant, 1),
                Some((_, reason)) => dead_letters.push(DeadLetter {
                    received_at: message.received.system,
                    route: Some(route),
                    topic: message.topic.into(),
                    payload: message.payload.into(),
                    reason,
                }),
            }
        }
        let inserted = (messages.len() - dead_letters.dead_letters.len()) as u64;
        drop(messages);
        self.send_dead_letters(dead_letters, inserted, is_spooled.then_some(token));
    }

    /// Hands dead letters to the thread that stores them. With a spool their token is derived from the
    /// INSERT's: after a crash the same dead letters come again, and must be recognised.
    pub(super) fn send_dead_letters(
        &self,
        mut dead_letters: DeadLetterBatch,
        inserted: u64,
        token: Option<&str>,
    ) {
        dead_letters.token = token.map(|token| format!("{token}-letters"));
        dead_letters.reserve();
        dead_letters.completion.inserted_in_part(inserted);
        // The thread that stores them ends after all workers.
        let _ = self.dead_letters.send(dead_letters);
    }

    pub(super) fn report_trace(&self, mut trace: Box<Trace>, table: &str, dead_letters: usize) {
        trace.finish(table, dead_letters);
        self.context.emit(Event::Trace(trace));
    }

    pub(super) fn record_latency(&self, now: Instant, received: Instant, count: u32) {
        let latency = now.saturating_duration_since(received);
        self.context.metrics.end_to_end_latency.record(latency, count as u64);
    }

    /// The plan for the table as it is now; waits while there is none, until `expires_at`, and then says why there is none.
    /// `None`: cancelled.
    pub(super) async fn plan(
        &mut self,
        at: usize,
        expires_at: Option<Instant>,
    ) -> Option<Result<Arc<TablePlan>, Arc<str>>> {
        let context = self.context.clone();
        let limits = context.config.clickhouse.retry;
        let mut backoff = Backoff::new(limits);
        loop {
            if self.plans.is_due(at, Instant::now()) {
                self.refresh_schema(at, SCHEMA_CHECK_TIMEOUT).await;
            }
            let fault = match self.plans.current(at) {
                Ok(plan) => return Some(Ok(plan)),
                Err(fault) if expires_at.is_some_and(|at| at <= Instant::now()) => return Some(Err(fault)),
                Err(fault) => fault,
            };
            let wait = backoff.failed().max(SLOW.min(limits.max));
            let table = &context.config.route(at).table;
            context.metrics.count_retry(table);
            let message = format!("{table}: {fault}; looking at it again in {} ms", wait.as_millis());
            let warning = Warning::new("CLICKHOUSE_RETRYING", message).table(table).route(at);
            context.warn_of_fault(&mut self.fault, warning.reason(&fault).retry_in(wait));
            self.wait(table, wait).await?;
        }
    }

    /// Asks ClickHouse whether the table of a route has changed. A query that fails changes nothing.
    pub(super) async fn refresh_schema(&self, at: usize, within: Duration) {
        let config = &self.context.config;
        let route = config.route(at);
        let plan = self.plans.latest(at);
        let server = self.servers.current();
        let schema = SchemaClient::again(server, &config.clickhouse.database, &plan.table);
        let query = async {
            if !route.allow_null_table
                && let Ok(Some(discards)) = schema.discards(&plan.table).await
                && self.plans.set_discarding(at, discards)
            {
                let message = format!(
                    "{}: its last materialized view was dropped, and it has the engine Null: rows are confirmed and discarded \
                     until there is a view again",
                    route.table
                );
                self.context.warn(Warning::new("TABLE_DISCARDS", message).table(&route.table).route(at));
            }
            schema.changed_table(&route.path, route, &plan.table).await
        };
        let table = tokio::select! {
            biased;
            () = self.context.cancelled() => return,
            table = tokio::time::timeout(within, query) => table,
        };
        let Ok(table) = table else { return };
        let Some(SchemaChange { message, added }) = self.plans.apply_schema(at, route, table) else { return };
        self.plans.remember(config);
        self.context.warn(Warning::new("TABLE_CHANGED", message).table(&route.table).route(at));
        for column in added {
            let message = format!(
                "{}: the column {column} was added while running: messages without it are inserted as if it were not \
                 there; after the next start missingFields applies to it",
                route.table
            );
            let warning = Warning::new("COLUMN_ADDED", message).table(&route.table).route(at);
            self.context.warn(warning.column(&column));
        }
    }
}
