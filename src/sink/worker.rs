//! Batches into ClickHouse, one INSERT at a time, on a thread of its own.
//!
//! What can succeed later is tried again for ever, under the same token and with the same bytes. Only where the table has
//! changed meanwhile are the messages decoded again: the same rows under the same token. Of a batch that ClickHouse
//! refuses because of its data the good rows go in and the bad ones become dead letters. When all of that is known, the
//! batch is settled: acknowledged, booked, and its memory given back.

use std::ops::Range;
use std::slice;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use crossbeam_channel::{Receiver, Sender};

use crate::clickhouse::error_class::{Failure, Verdict};
use crate::clickhouse::insert_request::{Body, Insert, Views};
use crate::clickhouse::retry::{Attempts, SLOW};
use crate::clickhouse::schema::Inspector;
use crate::clickhouse::servers::Servers;
use crate::clickhouse::token::Tokens;
use crate::clickhouse::{Packer, native};
use crate::core::backoff::Backoff;
use crate::core::dead_letter::DeadLetter;
use crate::core::reason::Reason;
use crate::dead_letter::Letters;
use crate::ingest::batch::Batch;
use crate::ingest::context::Shared;
use crate::ingest::encoded_rows::Part;
use crate::ingest::table_plan::{self, Plan, Plans};
use crate::spool::Handover;
use crate::telemetry::events::Event;
use crate::telemetry::metrics::add;
use crate::telemetry::trace::Trace;

pub struct Worker {
    pub shared: Arc<Shared>,
    pub plans: Arc<Plans>,
    pub servers: Servers,
    pub source: Source,
    pub letters: Sender<Letters>,
    pub tokens: Arc<Tokens>,
    pub packer: Packer,
    /// ClickHouse is too old to make one block of those of several records: they are decoded again as one.
    pub squashes_itself: bool,
}

/// Where a worker gets what it inserts.
#[derive(Clone)]
pub enum Source {
    Intake(Receiver<Box<Batch>>),
    Spool(Receiver<Handover>),
}

/// Messages that do not become rows, by their place in the batch; all others do.
pub(super) type Unfit = Vec<(usize, Reason)>;

/// The end of an INSERT.
pub(super) enum Put {
    /// All are in but these.
    In(Unfit),
    Refused(Refusal),
}

pub(super) struct Refusal {
    pub reason: Arc<str>,
    pub by_view: bool,
}

/// How long a look may hold up an INSERT of which nothing says that the table has changed.
const GLANCE: Duration = Duration::from_secs(1);

impl Worker {
    /// Until the connections are gone and their batches are in, or all is cancelled.
    pub async fn run(mut self) {
        match self.source.clone() {
            Source::Intake(batches) => {
                while let Ok(batch) = batches.recv()
                    && !self.shared.is_cancelled()
                {
                    self.insert(batch).await;
                }
            }
            Source::Spool(handovers) => {
                while let Ok(handover) = handovers.recv()
                    && !self.shared.is_cancelled()
                {
                    self.insert_stored(handover).await;
                }
            }
        }
    }

    async fn insert(&mut self, mut batch: Box<Batch>) {
        batch.place = None;
        let rows = batch.rows();
        if let Some(trace) = &mut batch.trace {
            trace.gather(&batch.messages, rows);
        }
        add(&self.shared.metrics.inserts_in_flight, 1);
        let columns = std::mem::take(&mut batch.columns);
        let plan = batch.plan.clone();
        let token = self.tokens.token(batch.group, &plan.sql, || native::whole(&plan.heads, &columns));
        // The block takes the place of the columns it is copied from.
        let part = Part::new(plan, &columns, Vec::new(), &mut self.packer);
        part.plan.spares.give_columns(columns);
        let end = self.bring_in(&mut batch, Some(part), &token).await;
        self.shared.metrics.inserts_in_flight.fetch_sub(1, Ordering::Relaxed);
        self.end(batch, end);
    }

    pub(super) fn end(&self, mut batch: Box<Batch>, end: Option<Unfit>) {
        if let (Some(unfit), Some(trace)) = (&end, batch.trace.take()) {
            self.tell(trace, &self.shared.config.routes[batch.route].table, unfit.len());
        }
        match end {
            Some(unfit) if unfit.is_empty() => self.confirmed(batch),
            Some(unfit) => self.dead_letter(batch, unfit),
            None => self.shared.memory.subtract(batch.counted_bytes),
        }
    }

    pub(super) fn tell(&self, mut trace: Box<Trace>, table: &str, dead_letters: usize) {
        trace.finish(table, dead_letters);
        self.shared.emit(Event::Trace(trace));
    }

    /// Brings a batch to its end. `part` is what it is already. `None`: cancelled.
    pub(super) async fn bring_in(
        &mut self,
        batch: &mut Batch,
        part: Option<Part>,
        token: &str,
    ) -> Option<Unfit> {
        let all = 0..batch.messages.len();
        match self.put(batch, part, slice::from_ref(&all), token, Views::Filled).await? {
            Put::In(misfits) => {
                self.servers.advance(Instant::now());
                self.plans.relieve(batch.route);
                Some(misfits)
            }
            Put::Refused(refusal) => self.tell_apart(batch, all, token, refusal).await,
        }
    }

    /// Inserts the chosen messages, again and again until ClickHouse has them or refuses them. `made` is what they are
    /// already. `None`: cancelled.
    pub(super) async fn put(
        &mut self,
        batch: &mut Batch,
        mut made: Option<Part>,
        chosen: &[Range<usize>],
        token: &str,
        views: Views,
    ) -> Option<Put> {
        let shared = self.shared.clone();
        let route = &shared.config.routes[batch.route];
        let mut attempts = Attempts::new(&shared, &route.table);
        loop {
            let plan = self.plan(batch.route).await?;
            let part = match &mut made {
                Some(part) if part.plan.generation == plan.generation => part,
                stale => {
                    *stale = None;
                    stale.insert(Part::decode(batch, chosen, plan.clone(), route, &mut self.packer))
                }
            };
            self.recount(batch, part.block.frames.len());
            if part.rows == 0 {
                return Some(Put::In(std::mem::take(&mut part.misfits)));
            }
            let insert = Insert { sql: &plan.sql, body: Body::Block(&part.block), token, views };
            let attempt = attempts.make(&self.servers, &insert).await?;
            let Err(failure) = attempt else {
                attempts.note(batch.trace.as_deref_mut(), &self.servers, &insert, part.rows, None);
                self.servers.found();
                if views == Views::Filled {
                    shared.metrics.count_insert(
                        &route.table,
                        part.rows as u64,
                        part.block.block_bytes as u64,
                    );
                }
                let misfits = std::mem::take(&mut part.misfits);
                if let Some(part) = made {
                    self.packer.reuse(part.block);
                }
                return Some(Put::In(misfits));
            };
            if matches!(failure.verdict, Verdict::Refused | Verdict::RefusedByView | Verdict::RetrySlowly) {
                // It may be the table that is different, not the rows that are bad.
                self.look(batch.route, shared.config.clickhouse.connect_timeout).await;
                if self.plans.current(batch.route).map_or(true, |now| now.generation != plan.generation) {
                    add(&shared.metrics.inserts_retried, 1);
                    continue;
                }
            }
            match failure {
                Failure { error, verdict: verdict @ (Verdict::Refused | Verdict::RefusedByView) } => {
                    add(&shared.metrics.inserts_failed, 1);
                    attempts.note(
                        batch.trace.as_deref_mut(),
                        &self.servers,
                        &insert,
                        part.rows,
                        Some(&error),
                    );
                    let by_view = verdict == Verdict::RefusedByView;
                    return Some(Put::Refused(Refusal { reason: error.to_string().into(), by_view }));
                }
                failure => attempts.wait(&mut self.servers, &failure).await?,
            }
        }
    }

    /// The plan for the table as it is now; waits while there is none. `None`: cancelled.
    pub(super) async fn plan(&mut self, at: usize) -> Option<Arc<Plan>> {
        let shared = self.shared.clone();
        let limits = shared.config.clickhouse.retry;
        let mut backoff = Backoff::new(limits);
        loop {
            if self.plans.is_due(at, Instant::now()) {
                self.look(at, GLANCE).await;
            }
            let fault = match self.plans.current(at) {
                Ok(plan) => return Some(plan),
                Err(fault) => fault,
            };
            let wait = backoff.failed().max(SLOW.min(limits.max));
            add(&shared.metrics.inserts_retried, 1);
            let table = &shared.config.routes[at].table;
            let message = format!("{table}: {fault}; looking at it again in {} ms", wait.as_millis());
            shared.warn("CLICKHOUSE_RETRYING", message);
            tokio::select! {
                biased;
                () = shared.cancelled() => return None,
                () = tokio::time::sleep(wait) => {}
            }
        }
    }

    /// Looks whether the table of a route has changed. A look that fails changes nothing.
    pub(super) async fn look(&self, at: usize, within: Duration) {
        let config = &self.shared.config;
        let route = &config.routes[at];
        let plan = self.plans.latest(at);
        let (client, url) = self.servers.current();
        let inspector = Inspector::again(client, url, &config.clickhouse.database, &plan.table);
        let path = table_plan::path(at);
        let look = inspector.changed_table(&path, route, &plan.table);
        let looked = tokio::select! {
            biased;
            () = self.shared.cancelled() => return,
            looked = tokio::time::timeout(within, look) => looked,
        };
        let Ok(looked) = looked else { return };
        if let Some(message) = self.plans.learn(at, route, looked) {
            self.shared.warn("TABLE_CHANGED", message);
        }
    }

    /// Counts a batch anew: its messages, and the block that they are now.
    fn recount(&self, batch: &mut Batch, block_bytes: usize) {
        let bytes = batch.messages.bytes() + block_bytes;
        self.shared.memory.add(bytes);
        self.shared.memory.subtract(std::mem::replace(&mut batch.counted_bytes, bytes));
    }

    /// All messages are in.
    fn confirmed(&self, batch: Box<Batch>) {
        let now = Instant::now();
        for (at, count) in batch.messages.arrivals() {
            self.record_latency(now, at.instant, *count);
        }
        // Freed before the connection is told: it may be waiting for the room.
        self.shared.memory.subtract(batch.counted_bytes);
        // Told before the books are closed: whoever waits for them then closes a connection that knows all.
        self.shared.settle(batch.connection, batch.owed);
        self.shared.ledger.close(batch.group, batch.messages.len() as u64, 0);
        if let Some(ticket) = batch.ticket {
            ticket.settled();
        }
    }

    /// All messages are in but these, which become dead letters. With them go the acknowledgements of the whole batch:
    /// they leave when the letters are kept.
    fn dead_letter(&self, batch: Box<Batch>, unfit: Unfit) {
        let now = Instant::now();
        let mut letters = Letters::new(batch.group, batch.connection);
        let mut unfit = unfit.into_iter().peekable();
        for (at, message) in batch.messages.iter().enumerate() {
            match unfit.next_if(|(unfit, _)| *unfit == at) {
                None => self.record_latency(now, message.received.instant, 1),
                Some((_, reason)) => letters.push(DeadLetter {
                    received_at: message.received.system,
                    route: Some(batch.route),
                    topic: message.topic.into(),
                    payload: message.payload.into(),
                    reason,
                }),
            }
        }
        letters.owed = batch.owed;
        letters.ticket = batch.ticket;
        self.shared.memory.add(letters.bytes);
        self.shared.memory.subtract(batch.counted_bytes);
        self.shared.ledger.insert((batch.messages.len() - letters.letters.len()) as u64);
        // The writer ends after all workers.
        let _ = self.letters.send(letters);
    }

    pub(super) fn record_latency(&self, now: Instant, received: Instant, count: u32) {
        let latency = now.saturating_duration_since(received);
        self.shared.metrics.end_to_end_latency.record(latency, count as u64);
    }
}
