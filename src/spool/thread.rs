//! The thread of the spool: what the intake sealed is on disk before it is acknowledged, and goes from there to the workers.
//!
//! ```text
//! intake ──batches──▶ append, commit ──handovers──▶ workers
//!    ▲                    │   ▲                       │
//!    └─────── owed ───────┘   └───────── told ────────┘
//! ```
//!
//! It commits whenever a batch has come: the intake seals one every `commitMs`, and sooner when the broker waits. What comes
//! during a sync is in the next one.

use std::collections::HashMap;
use std::mem;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Weak};
use std::time::{Duration, Instant, SystemTime};

use crossbeam_channel::{Receiver, Sender, after, never, select};

use crate::clickhouse::Packer;
use crate::config::{self, AckAfter, Compression, Config};
use crate::core::ack_history::Acknowledged;
use crate::core::ack_set::Owed;
use crate::core::backoff::{Backoff, random_bits};
use crate::core::error::{Error, Result};
use crate::ingest::batch::Batch;
use crate::ingest::context::Shared;
use crate::spool::insert_queue::InsertLimits;
use crate::spool::job::{Call, Handover, Ticket, Told};
use crate::spool::wal::log::{Insert, Log, Options};
use crate::spool::wal::record::{Lane, Record};
use crate::spool::wal::recovery::Recovered;
use crate::spool::wal::storage::{Directory, Disk};
use crate::spool::{Damage, ack_receipts, messages};
use crate::telemetry::ledger::Group;
use crate::telemetry::trace::Trace;

/// A log that was opened, and what was found in it.
pub struct Opened<D: Disk = Directory> {
    pub log: Log<D>,
    pub recovered: Recovered,
}

/// The ends of the thread's channels.
pub struct Ends {
    pub batches: Receiver<Box<Batch>>,
    pub calls: Receiver<Call>,
    pub handovers: Sender<Handover>,
}

pub struct Committer<D: Disk> {
    shared: Arc<Shared>,
    log: Log<D>,
    /// With so many bytes in the log, messages are compressed.
    compress_from: u64,
    ends: Ends,
    teller: Sender<Told>,
    told: Receiver<Told>,
    /// Workers that wait for an INSERT.
    free: usize,
    /// What is not settled.
    inserts: HashMap<u64, Pending>,
    /// What is acknowledged when the next commit has succeeded, by connection.
    uncommitted: Vec<Uncommitted>,
    /// A batch that came while the log was full.
    held: Option<Box<Batch>>,
    hurries: Vec<Weak<()>>,
    /// They wait for all to be committed.
    waiting: Vec<Sender<()>>,
    /// How long batches are gathered for a commit.
    commit_every: Duration,
    backoff: Backoff,
    /// When a commit that failed is tried again.
    retry_at: Option<Instant>,
    read_backoff: Backoff,
    /// When a read that failed is tried again.
    read_at: Option<Instant>,
    cannot_delete: bool,
    /// When what is done is written if nothing else is.
    tidy_at: Option<Instant>,
    trouble: Option<Trouble>,
    memory_bytes: usize,
    packer: Packer,
}

/// What the books know of an INSERT.
struct Pending {
    group: Group,
    messages: u64,
    owed: Owed,
    /// Of what is sampled of it.
    trace: Option<Box<Trace>>,
}

struct Uncommitted {
    connection: usize,
    owed: Owed,
    messages: u64,
}

/// Why nothing more is taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Trouble {
    Full,
    Failing,
}

/// ClickHouse squashes the blocks of an INSERT into one as long as they have no more rows and bytes than this.
const MOST_ROWS: u64 = 1_048_449;
const MOST_BYTES: u64 = 128 << 20;
const RETRY: config::Backoff =
    config::Backoff { min: Duration::from_millis(50), max: Duration::from_secs(2) };
/// From this part of `maxBytes` on messages are compressed.
const COMPRESS_FROM: u64 = 16;
/// How long it is kept in memory alone that an INSERT is done. After a crash in between it is made again under its token.
const TIDY: Duration = Duration::from_millis(100);
/// While so many INSERTs are not settled, nothing more is traced.
const MOST_TRACED: usize = 64;

/// Opens the spool of a configuration, if it has one, and tells what was found to be damaged.
pub fn open(shared: &Shared) -> Result<Option<Opened>> {
    let Config { spool, batch, name, memory_max_bytes, .. } = &shared.config;
    let Some(spool) = spool else { return Ok(None) };
    let options = Options {
        name: name.clone(),
        life: random_bits(),
        max_bytes: spool.max_bytes,
        segment_bytes: spool.segment_bytes,
        keep_bytes: memory_max_bytes / 4,
        insert: InsertLimits {
            rows: (batch.rows as u64).min(MOST_ROWS),
            rows_behind: MOST_ROWS,
            bytes: (batch.bytes as u64).min(MOST_BYTES),
            delay: batch.delay,
        },
    };
    let (mut log, recovered) = Log::open(Directory::lock(&spool.dir)?, options, Instant::now())?;
    // What may not have been synced before a crash is known to a connection only after this. Where it fails it is tried
    // again, and what the broker sends again is taken again.
    let _ = log.commit();
    warn_of_damages(shared, &recovered.damages);
    for torn in &recovered.torn {
        shared.warn(
            "SPOOL_TORN",
            format!(
                "{}: {} at {} ends in {} bytes that were not synced before a crash; they are left out",
                spool.dir.display(),
                torn.segment,
                torn.at,
                torn.len
            ),
        );
    }
    Ok(Some(Opened { log, recovered }))
}

fn warn_of_damages(shared: &Shared, damages: &[Damage]) {
    for damage in damages {
        shared.warn("SPOOL_CORRUPT", damage.to_string());
    }
}

impl Opened {
    /// What an earlier process acknowledged on this connection.
    pub fn acknowledged(&self, connection: usize, client_id: &str) -> Option<Acknowledged> {
        let session = self.log.session(connection as u32)?;
        (session.client_id == client_id).then(|| session.acknowledged.clone())
    }
}

impl<D: Disk> Committer<D> {
    /// What was found counts as received, and is pending until it is settled.
    pub fn new(shared: Arc<Shared>, opened: Opened<D>, ends: Ends) -> Committer<D> {
        let Opened { log, recovered } = opened;
        shared.ledger.receive(recovered.messages, 0);
        shared.metrics.rows_decoded.fetch_add(recovered.rows, Ordering::Relaxed);
        let pending = |messages| Pending {
            group: shared.ledger.open(Instant::now()),
            messages,
            owed: Owed::default(),
            trace: None,
        };
        let inserts = recovered.inserts.iter().map(|(id, messages)| (*id, pending(*messages))).collect();
        let (teller, told) = crossbeam_channel::unbounded();
        Committer {
            packer: Packer::new(shared.config.clickhouse.compression),
            commit_every: shared.config.seal_delay(),
            compress_from: shared.config.spool.as_ref().map_or(0, |spool| spool.max_bytes / COMPRESS_FROM),
            free: shared.config.clickhouse.max_in_flight,
            shared,
            log,
            ends,
            teller,
            told,
            inserts,
            uncommitted: Vec::new(),
            held: None,
            hurries: Vec::new(),
            waiting: Vec::new(),
            backoff: Backoff::new(RETRY),
            retry_at: None,
            read_backoff: Backoff::new(RETRY),
            read_at: None,
            cannot_delete: false,
            tidy_at: None,
            trouble: None,
            memory_bytes: 0,
        }
    }

    /// Until the connections are gone and their batches settled, or all is cancelled.
    pub fn run(mut self) {
        // What may not have been synced before a crash.
        let mut is_due = true;
        loop {
            let now = Instant::now();
            if is_due || [self.retry_at, self.tidy_at].into_iter().flatten().any(|at| at <= now) {
                self.commit(now);
            }
            if self.read_at.is_none_or(|at| at <= now) {
                self.hand_over(now);
            }
            if self.uncommitted.is_empty() && self.held.is_none() && self.ends.batches.is_empty() {
                self.waiting.clear();
            }
            self.take_stock();
            match self.wait() {
                Some(due) => is_due = due,
                None => break,
            }
        }
        self.end();
    }

    /// Waits for something to do, and takes in what has come. Says whether it is to be committed. `None`: the batches have
    /// come to their end.
    fn wait(&mut self) -> Option<bool> {
        let now = Instant::now();
        let due_at = if self.free > 0 { self.log.due_at(now) } else { None };
        // There is room again for what waits in hand.
        let at_once = (self.held.is_some() && !self.log.is_full()).then_some(now);
        let alarm = [at_once, due_at, self.retry_at, self.tidy_at, self.read_at].into_iter().flatten().min();
        let alarm = alarm.map_or_else(never, |at| after(at.saturating_duration_since(now)));
        // One may wait in hand: how else would a full log hear that no more will come?
        let batches = if self.held.is_none() { self.ends.batches.clone() } else { never() };
        let mut is_due = false;
        select! {
            recv(batches) -> batch => self.held = Some(batch.ok()?),
            recv(self.told) -> told => is_due |= self.hear(told.ok()?),
            recv(self.ends.calls) -> call => is_due |= self.called(call.ok()?)?,
            recv(alarm) -> _ => {}
        }
        while let Ok(told) = self.told.try_recv() {
            is_due |= self.hear(told);
        }
        let until = Instant::now() + self.commit_every;
        while !self.log.is_full() {
            let Some(batch) = self.held.take().or_else(|| batches.try_recv().ok()) else { break };
            self.append(batch);
            is_due = true;
            if Instant::now() >= until {
                break;
            }
        }
        Some(is_due)
    }

    fn called(&mut self, call: Call) -> Option<bool> {
        match call {
            Call::Hurry(until) => self.hurries.push(until),
            Call::Commit(done) => self.waiting.push(done),
            Call::Cancel => return None,
        }
        Some(false)
    }

    fn hear(&mut self, told: Told) -> bool {
        match told {
            Told::Free => self.free += 1,
            Told::Settled(id) => {
                self.log.done(id);
                self.inserts.remove(&id);
                self.tidy_at.get_or_insert(Instant::now() + TIDY);
            }
        }
        // The room of what is done is wanted at once.
        self.trouble == Some(Trouble::Full)
    }

    /// Takes a batch into the log.
    fn append(&mut self, batch: Box<Batch>) {
        let Batch {
            group,
            connection,
            client_id,
            plan,
            columns,
            messages,
            owed,
            receipts,
            counted_bytes,
            trace,
            ..
        } = *batch;
        let rows = columns.first().map_or(0, |column| column.rows());
        let block = self.packer.pack(&plan.heads, &columns, &plan.resistance);
        plan.spares.give_columns(columns);
        let route = &self.shared.config.routes[batch.route];
        let first = messages.arrivals().first().map_or_else(SystemTime::now, |(at, _)| at.system);
        let record = Record {
            lane: Lane {
                connection: connection as u32,
                route: route.topic.as_str().into(),
                table: route.table.clone(),
            },
            statement: plan.sql.clone(),
            received_at: first,
            rows: rows as u32,
            messages: messages.len() as u32,
            block_bytes: block.block_bytes as u32,
            block: block.frames,
            raw: messages::encode(&messages, &client_id, self.compression_of_messages())
                .expect("a batch is far smaller than 4 GiB"),
            receipts: ack_receipts::encode(&receipts, &client_id),
        };
        let id = self.log.append(record, Instant::now());
        // While ClickHouse is away the INSERTs that wait can be very many.
        let trace = trace.filter(|_| self.inserts.len() < MOST_TRACED).map(|mut trace| {
            trace.gather(&messages, rows);
            trace
        });
        self.shared.memory.subtract(counted_bytes);
        let (now, later) = match self.shared.config.mqtt.ack_after {
            AckAfter::Insert => (Owed::default(), owed),
            AckAfter::Receive | AckAfter::Spool => (owed, Owed::default()),
        };
        let count = messages.len() as u64;
        self.uncommitted.push(Uncommitted { connection, owed: now, messages: count });
        match self.inserts.get_mut(&id) {
            Some(pending) => {
                pending.messages += count;
                pending.owed.append(later);
                match (&mut pending.trace, trace) {
                    (Some(pending), Some(trace)) => pending.join(*trace),
                    (pending, trace) => *pending = pending.take().or(trace),
                }
                // The group of the INSERT is older: whoever waits for this one waits for that one too.
                self.shared.ledger.hand_over(group);
            }
            None => {
                self.inserts.insert(id, Pending { group, messages: count, owed: later, trace });
            }
        }
    }

    /// What will be deleted again in a moment is not worth the time that compressing takes, a third of all that the spool
    /// costs. Where ClickHouse does not keep up, its room counts.
    fn compression_of_messages(&self) -> Compression {
        match self.log.bytes() < self.compress_from {
            true => Compression::None,
            false => Compression::Lz4,
        }
    }

    /// Writes and syncs what was appended and what is done; only then acknowledges.
    fn commit(&mut self, now: Instant) {
        (self.retry_at, self.tidy_at) = (None, None);
        match self.log.commit() {
            Ok(()) => {
                self.backoff.succeeded();
                for Uncommitted { connection, owed, .. } in mem::take(&mut self.uncommitted) {
                    self.shared.settle(connection, owed);
                }
            }
            Err(error) => {
                self.retry_at = Some(now + self.backoff.failed());
                self.warn_of_failure(error);
            }
        }
        let swept = self.log.sweep();
        let could_delete = !mem::replace(&mut self.cannot_delete, swept.is_err());
        if could_delete && let Err(source) = swept {
            let error = Error::spool_io(self.dir(), source);
            self.shared
                .warn("SPOOL_IO", format!("{error}; segments that are done stay until it works again"));
        }
        if self.retry_at.is_none() {
            // What was said again before a segment can go.
            self.tidy_at = self.log.has_uncommitted().then(|| now + TIDY);
            self.warn_of_room();
        }
    }

    /// Hands INSERTs to the workers that are free.
    fn hand_over(&mut self, now: Instant) {
        self.hurries.retain(|until| until.strong_count() > 0);
        self.read_at = None;
        let all = !self.hurries.is_empty() || self.shared.config.mqtt.ack_after == AckAfter::Insert;
        while self.free > 0 {
            match self.log.take(now, all) {
                Ok(Some(insert)) => {
                    self.read_backoff.succeeded();
                    self.send(insert);
                }
                Ok(None) => break,
                Err(source) => {
                    let (wait, error) = (self.read_backoff.failed(), Error::spool_io(self.dir(), source));
                    self.read_at = Some(now + wait);
                    self.shared
                        .warn("SPOOL_IO", format!("{error}; reading again in {} ms", wait.as_millis()));
                    break;
                }
            }
        }
        warn_of_damages(&self.shared, &self.log.take_damages());
    }

    fn send(&mut self, insert: Insert) {
        let Some(pending) = self.inserts.get_mut(&insert.id) else { return };
        let Shared { ledger, memory, .. } = &*self.shared;
        let readable: u64 = insert.records.iter().map(|record| u64::from(record.messages)).sum();
        ledger.put_aside(pending.messages.saturating_sub(readable));
        pending.messages = readable;
        let group = pending.group;
        let owed = mem::take(&mut pending.owed);
        let trace = pending.trace.take();
        if insert.records.is_empty() {
            ledger.close(group, 0, 0);
            self.hear(Told::Settled(insert.id));
            return;
        }
        let counted_bytes = insert.records.iter().map(|record| record.bytes()).sum();
        memory.add(counted_bytes);
        let ticket = Ticket { id: insert.id, token: insert.token.clone(), teller: self.teller.clone() };
        self.free -= 1;
        // The workers end after this thread.
        let _ = self.ends.handovers.send(Handover { insert, group, owed, counted_bytes, ticket, trace });
    }

    /// Brings memory and metrics up to date.
    fn take_stock(&mut self) {
        let bytes = self.log.memory_bytes() + self.inserts.len() * size_of::<(u64, Pending)>();
        self.shared.memory.add(bytes);
        self.shared.memory.subtract(mem::replace(&mut self.memory_bytes, bytes));
        let Some(gauges) = &self.shared.metrics.spool else { return };
        let set = |gauge: &AtomicU64, value: u64| gauge.store(value, Ordering::Relaxed);
        let since = self.log.oldest().and_then(|at| at.duration_since(SystemTime::UNIX_EPOCH).ok());
        set(&gauges.bytes, self.log.bytes());
        set(&gauges.segments, self.log.segments() as u64);
        set(&gauges.oldest_micros, since.map_or(0, |since| since.as_micros() as u64));
    }

    fn warn_of_failure(&mut self, source: std::io::Error) {
        if self.trouble.replace(Trouble::Failing) != Some(Trouble::Failing) {
            let error = Error::spool_io(self.dir(), source);
            self.shared.warn("SPOOL_IO", format!("{error}; nothing is acknowledged until it works again"));
        }
    }

    /// Of `maxBytes` that are reached, and of room again.
    fn warn_of_room(&mut self) {
        if self.log.is_full() {
            if self.trouble.replace(Trouble::Full) != Some(Trouble::Full) {
                let message = format!(
                    "the spool {} has reached maxBytes: nothing is taken from the broker until ClickHouse has taken some of it",
                    self.dir().display()
                );
                self.shared.warn("SPOOL_FULL", message);
            }
        } else if self.trouble.take().is_some() {
            self.shared.warn("SPOOL_RECOVERED", format!("the spool {} has room again", self.dir().display()));
        }
    }

    fn dir(&self) -> &std::path::Path {
        // There is no thread without the section.
        self.shared.config.spool.as_ref().map_or_else(|| "".as_ref(), |spool| &*spool.dir)
    }

    /// No batch comes any more: waits for the INSERTs that are out, and leaves the rest for the next start.
    fn end(self) {
        let Committer { shared, mut log, ends, teller, told, mut inserts, uncommitted, .. } = self;
        drop((ends, teller));
        let held = self.held.map_or(0, |batch| batch.counted_bytes);
        shared.memory.subtract(self.memory_bytes + held);
        for told in told {
            if let Told::Settled(id) = told {
                log.done(id);
                inserts.remove(&id);
            }
        }
        let mut left: u64 = inserts.values().map(|pending| pending.messages).sum();
        // What was not acknowledged comes again from the broker: it must not be found here as well.
        let is_whole = uncommitted.iter().all(|uncommitted| uncommitted.owed.is_empty());
        // An error loses nothing that was synced before.
        if !is_whole || log.close().is_err() {
            let unsynced = uncommitted.iter().map(|uncommitted| uncommitted.messages).sum();
            left = left.saturating_sub(unsynced);
        }
        if let Some(gauges) = &shared.metrics.spool {
            gauges.left.store(left, Ordering::Relaxed);
        }
    }
}
