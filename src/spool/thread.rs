//! The thread of the spool: a sealed batch is on disk before it is acknowledged, and goes from there to the workers.
//!
//! ```text
//! ingest ──batches──▶ append, commit ──jobs──▶ workers
//!    ▲                    │   ▲                   │
//!    └─────── acks ───────┘   └── settled, freed ─┘
//! ```
//!
//! It commits whenever a batch has come: ingest seals one every `commitMs`, and sooner when the broker waits. Batches that come
//! during a sync are in the next one.

mod hand_over;
mod reports;
pub mod waits;

use std::collections::HashMap;
use std::mem;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Weak};
use std::time::{Duration, Instant};

use crossbeam_channel::{Receiver, Sender, never};

use crate::clickhouse::BlockEncoder;
use crate::config::{self, AckAfter, Compression};
use crate::core::backoff::Backoff;
use crate::core::error::Error;
use crate::core::memory_budget::MemoryReservation;
use crate::ingest::batch::Batch;
use crate::ingest::completion::{Completion, PendingAcks};
use crate::ingest::shards;
use crate::ingest::taps::Taps;
use crate::spool::batch_record::{self, Appended};
use crate::spool::cuts::Cuts;
use crate::spool::job::{Control, InsertJob};
use crate::spool::open::Opened;
use crate::spool::thread::waits::{Sources, SystemWaits, Waits, Woken};
use crate::spool::wal::log::Log;
use crate::spool::wal::storage::Disk;
use crate::telemetry::context::PipelineContext;
use crate::telemetry::events::Warning;
use crate::telemetry::faults::OpenFault;
use crate::telemetry::metrics::now_millis;
use crate::telemetry::trace::Trace;

/// The channels of the thread's channels.
pub struct Channels {
    pub batches: Receiver<Box<Batch>>,
    pub controls: Receiver<Control>,
    pub jobs: Sender<InsertJob>,
}

pub struct SpoolThread<D: Disk, W = SystemWaits> {
    waits: W,
    context: Arc<PipelineContext>,
    log: Log<D>,
    cuts: Arc<Cuts>,
    /// From this number of bytes in the log on, messages are compressed.
    compress_from: u64,
    channels: Channels,
    /// The ids of INSERTs of which every message is settled.
    settled_tx: Sender<u64>,
    settled: Receiver<u64>,
    /// One for each worker that can take another job.
    freed_tx: Sender<()>,
    freed: Receiver<()>,
    /// How many more jobs the workers may get.
    free: usize,
    /// Jobs that are not settled.
    out: usize,
    /// Bytes of their records.
    out_bytes: usize,
    /// Batches that are not settled.
    inserts: HashMap<u64, PendingInsert>,
    /// Messages that are acknowledged when the next commit has succeeded.
    uncommitted: Vec<Uncommitted>,
    /// A batch that came while the log was full.
    blocked_batch: Option<Box<Batch>>,
    flush_requests: Vec<Weak<()>>,
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
    /// When to see whether the directory is still there.
    check_at: Instant,
    health: Option<Health>,
    /// The fault of `health`.
    fault: OpenFault,
    /// Reads fail.
    read_fault: OpenFault,
    /// Segments cannot be deleted.
    delete_fault: OpenFault,
    memory: MemoryReservation,
    packer: BlockEncoder,
    taps: Arc<Taps>,
}

/// An INSERT that is not settled.
struct PendingInsert {
    /// `None` while a worker has it.
    completion: Option<Completion>,
    messages: u64,
    /// The memory of its records, while a worker has them.
    bytes: usize,
    /// Set if some of its batches are sampled.
    trace: Option<Box<Trace>>,
}

/// A batch that was appended and is not synced.
struct Uncommitted {
    /// `None`: acknowledged when its INSERT is confirmed.
    acks: Option<PendingAcks>,
    messages: u64,
}

/// Why nothing more is taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Health {
    Full,
    Failing,
}

const RETRY: config::Backoff =
    config::Backoff { min: Duration::from_millis(50), max: Duration::from_secs(2) };
/// From this part of `maxBytes` on messages are compressed.
const COMPRESS_FROM: u64 = 16;
/// How long it is kept in memory alone that an INSERT is done. After a crash in between it is made again under its token.
const TIDY: Duration = Duration::from_millis(100);
/// A directory that is removed or replaced is noticed after this time, or before the next acknowledgement.
const CHECK_INTERVAL: Duration = Duration::from_millis(500);
/// While this number of traced INSERTs is not settled, nothing more is traced.
const MAX_TRACED: usize = 64;

impl<D: Disk> SpoolThread<D> {
    /// Counts the messages that were found as received; they are pending until they are settled.
    pub fn new(context: Arc<PipelineContext>, opened: Opened<D>, channels: Channels) -> SpoolThread<D> {
        SpoolThread::waiting_by(SystemWaits, context, opened, channels)
    }
}

impl<D: Disk, W: Waits> SpoolThread<D, W> {
    /// The same, with other waits than those of the system.
    pub fn waiting_by(
        waits: W,
        context: Arc<PipelineContext>,
        opened: Opened<D>,
        channels: Channels,
    ) -> SpoolThread<D, W> {
        let now = waits.now();
        let Opened { log, recovered } = opened;
        let memory = MemoryReservation::new(&context.memory);
        let is_of_rows = |insert: &u64| recovered.row_inserts.contains(insert);
        let messages =
            recovered.inserts.iter().filter(|(insert, _)| !is_of_rows(insert)).map(|(_, messages)| messages);
        context.ledger.receive(messages.sum(), 0);
        context.metrics.rows_decoded.fetch_add(recovered.rows, Ordering::Relaxed);
        let pending = |id: &u64, messages: &u64| {
            let mut completion = Completion::recovered(&context, now);
            if is_of_rows(id) {
                completion.is_of_rows();
            }
            (*id, PendingInsert { completion: Some(completion), messages: *messages, bytes: 0, trace: None })
        };
        let inserts = recovered.inserts.iter().map(|(id, messages)| pending(id, messages)).collect();
        let dir = context.config.spool.as_ref().map_or_else(Default::default, |spool| spool.dir.clone());
        let cuts = Arc::new(Cuts::open(&dir, |insert| recovered.inserts.contains_key(&insert)));
        let (settled_tx, settled) = crossbeam_channel::unbounded();
        let (freed_tx, freed) = crossbeam_channel::unbounded();
        let [fault, read_fault, delete_fault] = [(); 3].map(|()| context.no_fault());
        SpoolThread {
            waits,
            packer: BlockEncoder::within(&context.memory, context.config.clickhouse.compression),
            commit_every: context.config.seal_delay(),
            compress_from: context.config.spool.as_ref().map_or(0, |spool| spool.max_bytes / COMPRESS_FROM),
            free: context.config.clickhouse.max_in_flight,
            out: 0,
            out_bytes: 0,
            context,
            log,
            cuts,
            channels,
            settled_tx,
            settled,
            freed_tx,
            freed,
            inserts,
            uncommitted: Vec::new(),
            blocked_batch: None,
            flush_requests: Vec::new(),
            waiting: Vec::new(),
            backoff: Backoff::new(RETRY),
            retry_at: None,
            read_backoff: Backoff::new(RETRY),
            read_at: None,
            cannot_delete: false,
            tidy_at: None,
            check_at: now + CHECK_INTERVAL,
            health: None,
            fault,
            read_fault,
            delete_fault,
            memory,
            taps: Arc::default(),
        }
    }

    /// Shows these what is stored.
    pub fn with_taps(self, taps: &Arc<Taps>) -> SpoolThread<D, W> {
        SpoolThread { taps: taps.clone(), ..self }
    }

    /// Runs until the connections are gone and their batches settled, or all is cancelled.
    pub fn run(mut self) {
        // DONE entries that may not have been synced before a crash.
        let mut is_due = true;
        loop {
            let now = self.waits.now();
            if is_due || [self.retry_at, self.tidy_at].into_iter().flatten().any(|at| at <= now) {
                self.commit(now);
            }
            if self.check_at <= now {
                self.check_directory(now);
            }
            // A commit may take longer than an INSERT is still to wait.
            let now = self.waits.now();
            if self.read_at.is_none_or(|at| at <= now) {
                self.send_due_inserts(now);
            }
            if self.uncommitted.is_empty() && self.blocked_batch.is_none() && self.channels.batches.is_empty()
            {
                self.waiting.clear();
            }
            self.update_metrics();
            match self.wait(now) {
                Some(due) => is_due = due,
                None => break,
            }
        }
        self.end();
    }

    /// Waits for something to do, and takes in what has come. Says whether it is to be committed. `None`: the batches have
    /// come to their end. `offered_at` is when INSERTs were last sent to workers: those due since then
    /// are still there.
    fn wait(&mut self, offered_at: Instant) -> Option<bool> {
        let now = self.waits.now();
        let due_at = if self.free > 0 { self.log.due_at(offered_at) } else { None };
        // There is space again for the blocked batch.
        let at_once = (self.blocked_batch.is_some() && !self.log.is_full()).then_some(now);
        let alarms = [at_once, due_at, self.retry_at, self.tidy_at, self.read_at];
        let alarm = alarms.into_iter().flatten().min();
        // One batch may be blocked: otherwise a full log would not notice the end of the channel.
        let batches = if self.blocked_batch.is_none() { self.channels.batches.clone() } else { never() };
        let mut is_due = false;
        let sources = Sources {
            batches: &batches,
            settled: &self.settled,
            freed: &self.freed,
            controls: &self.channels.controls,
        };
        match self.waits.wait(&sources, alarm, self.check_at) {
            Woken::Batch(batch) => self.blocked_batch = Some(batch),
            Woken::Settled(id) => is_due |= self.on_job_settled(id),
            Woken::Freed => self.free += 1,
            Woken::Control(control) => is_due |= self.on_control(control)?,
            Woken::Alarm => {}
            Woken::Ended => return None,
        }
        while let Ok(id) = self.settled.try_recv() {
            is_due |= self.on_job_settled(id);
        }
        while self.freed.try_recv().is_ok() {
            self.free += 1;
        }
        let until = self.waits.now() + self.commit_every;
        while !self.log.is_full() {
            let Some(batch) = self.blocked_batch.take().or_else(|| batches.try_recv().ok()) else { break };
            self.append(batch);
            is_due = true;
            if self.waits.now() >= until {
                break;
            }
        }
        Some(is_due)
    }

    fn on_control(&mut self, control: Control) -> Option<bool> {
        match control {
            Control::FlushNow(until) => self.flush_requests.push(until),
            Control::Commit(done) => self.waiting.push(done),
            // The one who asked may have waited long enough.
            Control::Count(answer) => {
                _ = answer.send(self.inserts.values().map(|pending| pending.messages).sum());
            }
            Control::Cancel => return None,
        }
        Some(false)
    }

    fn on_job_settled(&mut self, id: u64) -> bool {
        self.out -= 1;
        self.on_settled(id)
    }

    /// Notes that an INSERT is done; says whether that is to be committed at once.
    fn on_settled(&mut self, id: u64) -> bool {
        self.log.done(id);
        self.cuts.done(id);
        self.out_bytes -= self.inserts.remove(&id).map_or(0, |pending| pending.bytes);
        self.tidy_at.get_or_insert(self.waits.now() + TIDY);
        // The space of settled records is needed at once.
        self.health.is_some()
    }

    /// Takes a batch into the log, with its companions.
    fn append(&mut self, batch: Box<Batch>) {
        let (mut records, mut appended) = (Vec::new(), Vec::new());
        let divided = batch.apart().into_iter().flat_map(|batch| shards::divide(batch, &self.context));
        for mut batch in divided.collect::<Vec<_>>() {
            // While ClickHouse is away the INSERTs that wait can be very many.
            if self.inserts.len() >= MAX_TRACED {
                batch.trace = None;
            }
            batch.without_inputs();
            self.taps.offer(&self.context, batch.route, &batch.plan, &batch.columns);
            let compression = self.compression_of_messages();
            let of_batch = batch_record::of(*batch, &self.context.config, &mut self.packer, compression);
            for (record, settles) in of_batch {
                records.push(record);
                appended.push(settles);
            }
        }
        let inserts = self.log.append_together(records, self.waits.now());
        // The log counts its records itself. Until here the batches counted what was made of them.
        self.count_memory();
        for (id, appended) in inserts.into_iter().zip(appended) {
            self.appended(id, appended);
        }
    }

    /// Notes what is to be settled when a record of an INSERT is synced, and when the INSERT is done.
    fn appended(&mut self, id: u64, appended: Appended) {
        let Appended { completion: mut settle, messages: count, trace } = appended;
        settle.reserve(0);
        let acks = match self.context.config.mqtt.ack_after {
            AckAfter::Insert => None,
            AckAfter::Receive | AckAfter::Spool => settle.take_acks(),
        };
        self.uncommitted.push(Uncommitted { acks, messages: count });
        let Some(pending) = self.inserts.get_mut(&id) else {
            let pending = PendingInsert { completion: Some(settle), messages: count, bytes: 0, trace };
            self.inserts.insert(id, pending);
            return;
        };
        pending.messages += count;
        match (&mut pending.trace, trace) {
            (Some(pending), Some(trace)) => pending.join(*trace),
            (pending, trace) => *pending = pending.take().or(trace),
        }
        match &mut pending.completion {
            Some(completion) => completion.join(settle),
            completion => *completion = Some(settle),
        }
    }

    /// A record that will be deleted again in a moment is not worth the time that compressing takes, a third of the cost of the
    /// spool. Where ClickHouse does not keep up, disk space counts.
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
                self.count(|gauges| gauges.last_sync.store(now_millis(), Ordering::Relaxed));
                self.cuts.committed();
                mem::take(&mut self.uncommitted)
                    .into_iter()
                    .filter_map(|batch| batch.acks)
                    .for_each(PendingAcks::send);
            }
            Err(error) => {
                self.count_error();
                self.retry_at = Some(now + self.backoff.failed());
                self.warn_of_failure(error);
            }
        }
        let swept = self.log.delete_obsolete();
        let could_delete = !mem::replace(&mut self.cannot_delete, swept.is_err());
        match swept {
            Ok(()) => _ = self.delete_fault.close(),
            Err(_) => self.count_error(),
        }
        if could_delete && let Err(source) = swept {
            let error = Error::spool_io(self.dir(), source);
            let message = format!("{error}; segments that are done stay until it works again");
            self.context
                .warn_of_fault(&mut self.delete_fault, Warning::new("SPOOL_IO", message).error(&error));
        }
        if self.retry_at.is_none() {
            // DONE entries are rewritten before their segment can go.
            self.tidy_at = self.log.has_uncommitted().then(|| now + TIDY);
            self.warn_of_room();
        }
    }

    /// Takes nothing more if the directory is not there; the commits that are then tried see whether it is back.
    fn check_directory(&mut self, now: Instant) {
        self.check_at = now + CHECK_INTERVAL;
        if let Err(error) = self.log.check() {
            self.count_error();
            self.retry_at.get_or_insert(now + CHECK_INTERVAL);
            self.warn_of_failure(error);
        }
    }

    /// No batch comes any more: waits for the INSERTs that are out, and leaves the rest for the next start.
    fn end(self) {
        let SpoolThread {
            context,
            mut log,
            cuts,
            channels,
            settled_tx,
            settled,
            freed_tx,
            freed,
            mut inserts,
            uncommitted,
            memory,
            blocked_batch,
            ..
        } = self;
        // A batch in hand was neither written nor acknowledged: its completion is dropped unsettled.
        drop((channels, settled_tx, freed_tx, blocked_batch, memory));
        // INSERTs that no worker has are left to the next start.
        inserts.values_mut().for_each(|pending| pending.completion = None);
        for id in settled {
            log.done(id);
            cuts.done(id);
            inserts.remove(&id);
        }
        for () in freed {}
        let mut left: u64 = inserts.values().map(|pending| pending.messages).sum();
        // The broker sends a message that was not acknowledged again: it must not be found here as well.
        let is_whole = uncommitted.iter().filter_map(|batch| batch.acks.as_ref()).all(PendingAcks::is_empty);
        // An error loses nothing that was synced before.
        let closed = if is_whole { log.close() } else { log.close_without_batch() };
        if is_whole && closed.is_ok() {
            cuts.committed();
        }
        if !is_whole || closed.is_err() {
            let unsynced = uncommitted.iter().map(|uncommitted| uncommitted.messages).sum();
            left = left.saturating_sub(unsynced);
        }
        if let Some(gauges) = &context.metrics.spool {
            gauges.left.store(left, Ordering::Relaxed);
        }
    }
}
