//! One INSERT at a time, from the first attempt to the last, on a thread of its own.
//!
//! What can succeed later is tried again for ever, with the same bytes under the same token; what ClickHouse refuses
//! for good becomes dead letters. Only then is the batch settled: acknowledged, booked, and its memory given back.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use bytes::Bytes;
use clickhouse::Client;
use crossbeam_channel::{Receiver, Sender};

use super::answer::{Failure, Verdict};
use super::request::Insert;
use super::tokens::Tokens;
use crate::backoff::Backoff;
use crate::batch::Batch;
use crate::columns::block;
use crate::dead_letters::{Code, DeadLetter, Letters, Reason};
use crate::metrics::add;
use crate::shared::Shared;

/// Where the batches of a route go.
#[derive(Debug, Clone)]
pub struct Target {
    /// As the user wrote it: what metrics call it.
    pub table: String,
    pub sql: String,
    /// The names and types that its blocks declare.
    pub heads: Vec<(String, String)>,
}

pub struct Worker {
    pub shared: Arc<Shared>,
    /// By route.
    pub targets: Arc<Vec<Target>>,
    pub servers: Servers,
    pub batches: Receiver<Batch>,
    pub letters: Sender<Letters>,
    pub tokens: Arc<Tokens>,
}

/// The servers and which of them to ask next. They share the load in turn; one that cannot be reached is passed over
/// for a while.
pub struct Servers {
    all: Vec<(Client, String, Option<Instant>)>,
    at: usize,
}

impl Servers {
    /// `first` spreads the workers over the servers.
    pub fn new(clients: Vec<Client>, urls: &[String], first: usize) -> Servers {
        let all: Vec<_> =
            clients.into_iter().zip(urls).map(|(client, url)| (client, url.clone(), None)).collect();
        Servers { at: first % all.len().max(1), all }
    }

    pub fn current(&self) -> (&Client, &str) {
        let (client, url, _) = &self.all[self.at];
        (client, url)
    }

    /// The current one cannot be reached. Moves on to one that is not known to be away; `false` if there is none.
    pub fn lose(&mut self, now: Instant) -> bool {
        self.all[self.at].2 = Some(now + AWAY);
        self.advance(now)
    }

    /// Moves on to the next one that is not known to be away.
    pub fn advance(&mut self, now: Instant) -> bool {
        for step in 1..=self.all.len() {
            let at = (self.at + step) % self.all.len();
            if self.all[at].2.is_none_or(|until| until <= now) {
                self.at = at;
                return true;
            }
        }
        false
    }

    fn found(&mut self) {
        self.all[self.at].2 = None;
    }
}

/// How long a server that could not be reached is passed over while another one can.
const AWAY: Duration = Duration::from_secs(10);
/// So many ambiguous failures in a row at one server are enough to try another.
const PATIENCE: u32 = 3;
/// The shortest wait before a mistake of an operator is tried again.
const SLOW: Duration = Duration::from_secs(1);

impl Worker {
    /// Until the connections are gone and their batches are in, or all is cancelled.
    pub async fn run(mut self) {
        while let Ok(batch) = self.batches.recv() {
            if self.shared.is_cancelled() {
                return;
            }
            self.insert(batch).await;
        }
    }

    async fn insert(&mut self, mut batch: Batch) {
        let shared = self.shared.clone();
        let target = &self.targets.clone()[batch.route];
        let rows = batch.rows();
        let mut block = Vec::new();
        block::encode(&mut block, &target.heads, &batch.columns, rows);
        batch.columns = Vec::new();
        // The block takes the place of the columns it was copied from.
        let bytes = batch.messages.bytes() + block.len();
        shared.memory.add(bytes);
        shared.memory.subtract(std::mem::replace(&mut batch.counted_bytes, bytes));

        let block_bytes = block.len() as u64;
        let token = self.tokens.token(batch.group, &target.sql, &block);
        let insert = Insert { sql: &target.sql, block: Bytes::from(block), token: &token };
        add(&shared.metrics.inserts_in_flight, 1);
        let outcome = deliver(&shared, &mut self.servers, &insert, &target.table).await;
        shared.metrics.inserts_in_flight.fetch_sub(1, Ordering::Relaxed);
        drop(insert);
        match outcome {
            Outcome::Confirmed => {
                self.servers.found();
                self.servers.advance(Instant::now());
                self.confirmed(batch, rows as u64, block_bytes);
            }
            Outcome::Refused(reason) => self.refused(batch, &reason),
            Outcome::Cancelled => shared.memory.subtract(batch.counted_bytes),
        }
    }

    fn confirmed(&self, batch: Batch, rows: u64, block_bytes: u64) {
        let metrics = &self.shared.metrics;
        add(&metrics.inserts_succeeded, 1);
        add(&metrics.rows_inserted, rows);
        add(&metrics.bytes_inserted, block_bytes);
        if let Some(table) = metrics.table(&self.targets[batch.route].table) {
            add(&table.rows, rows);
            add(&table.inserts, 1);
        }
        let now = Instant::now();
        for (at, count) in batch.messages.arrivals() {
            metrics.end_to_end_latency.record(now.saturating_duration_since(at.instant), *count as u64);
        }
        // Freed before the connection is told: it may be waiting for the room.
        self.shared.memory.subtract(batch.counted_bytes);
        // Told before the books are closed: whoever waits for them then closes a connection that knows all.
        self.shared.settle(batch.connection, batch.owed);
        self.shared.ledger.close(batch.group, batch.messages.len() as u64, 0);
    }

    fn refused(&self, batch: Batch, reason: &str) {
        add(&self.shared.metrics.inserts_failed, 1);
        let message = format!(
            "ClickHouse refused {} rows for {}: {reason}",
            batch.messages.len(),
            self.targets[batch.route].table
        );
        self.shared.warn("CLICKHOUSE_REFUSED", message);
        let mut letters = Letters::new(batch.group, batch.connection);
        let reason: Arc<str> = reason.into();
        letters.bytes += reason.len();
        for message in batch.messages.iter() {
            letters.push(DeadLetter {
                received_at: message.received_at,
                route: Some(batch.route),
                topic: message.topic.into(),
                payload: message.payload.into(),
                reason: Reason::new(Code::RejectedByClickHouse, reason.clone()),
            });
        }
        letters.owed = batch.owed;
        self.shared.memory.add(letters.bytes);
        self.shared.memory.subtract(batch.counted_bytes);
        // The writer ends after all workers.
        let _ = self.letters.send(letters);
    }
}

pub enum Outcome {
    Confirmed,
    Refused(String),
    Cancelled,
}

/// Attempts an INSERT until it is confirmed, refused for good, or the pipeline is cancelled.
pub async fn deliver(shared: &Shared, servers: &mut Servers, insert: &Insert<'_>, table: &str) -> Outcome {
    let config = &shared.config.clickhouse;
    let mut backoff = Backoff::new(config.retry);
    let mut patience = PATIENCE;
    // Once an attempt may have succeeded, another server is not asked lightly: it may not know of the token.
    let mut ambiguous = false;
    loop {
        let began = Instant::now();
        let (client, url) = servers.current();
        let attempt = tokio::select! {
            biased;
            () = shared.cancelled() => return Outcome::Cancelled,
            attempt = insert.attempt(client, url, config) => attempt,
        };
        let Err(Failure { error, verdict }) = attempt else {
            shared.metrics.insert_latency.record(began.elapsed(), 1);
            if backoff.failures() > 0 {
                shared.warn(
                    "CLICKHOUSE_RECOVERED",
                    format!("{table}: inserted after {} failures", backoff.failures()),
                );
            }
            return Outcome::Confirmed;
        };
        let mut wait = backoff.failed();
        match verdict {
            Verdict::Refused => return Outcome::Refused(error.to_string()),
            // Nothing was sent, so no harm is in asking another server at once.
            Verdict::NotSent if !ambiguous => {
                if servers.lose(Instant::now()) {
                    wait = Duration::ZERO;
                }
            }
            Verdict::NotSent | Verdict::Retry => {
                ambiguous = true;
                patience -= 1;
                if patience == 0 {
                    patience = PATIENCE;
                    servers.advance(Instant::now());
                }
            }
            Verdict::RetrySlowly => wait = wait.max(SLOW.min(config.retry.max)),
        }
        add(&shared.metrics.inserts_retried, 1);
        shared.warn(
            "CLICKHOUSE_RETRYING",
            format!("{table}: {error}; trying again in {} ms", wait.as_millis()),
        );
        tokio::select! {
            biased;
            () = shared.cancelled() => return Outcome::Cancelled,
            () = tokio::time::sleep(wait) => {}
        }
    }
}
