//! The thread of a route with a transform: hands its batches to the host, and sends on what becomes of them.

// Batches go through channels, which take them boxed: moving one is moving a pointer.
#![allow(clippy::vec_box)]

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::{Duration, Instant};

use crossbeam_channel::{Receiver, Sender, after, never, select};

use crate::core::error::Result;
use crate::core::lock::lock;
use crate::core::reason::{Code, Reason};
use crate::decode::RowDecoder;
use crate::ingest::batch::Batch;
use crate::ingest::dead_letter_batch::DeadLetterBatch;
use crate::ingest::table_plan::{TablePlan, TablePlans};
use crate::telemetry::context::PipelineContext;
use crate::telemetry::events::Warning;
use crate::telemetry::faults::OpenFault;
use crate::telemetry::metrics::{TransformCounters, add};
use crate::transform::TransformHost;
use crate::transform::call::{Ended, TransformCall};
use crate::transform::columns::ColumnLayout;
use crate::transform::outcome::{Outcome, OutcomeCounts};
use crate::transform::outgoing::Outgoing;

/// Batches of a route that may wait for its transform.
pub const QUEUE: usize = 2;

/// How often to see whether a thread of a module is there.
const THREAD_INTERVAL: Duration = Duration::from_millis(20);

/// A call that was lost so often fails: its messages may be what ends the threads.
const MAX_LOSSES: u32 = 2;

/// Warnings of calls that fail are at least so far apart.
const WARN_INTERVAL: Duration = Duration::from_secs(1);

/// A table that a transform may put rows into.
pub struct EmitTable {
    pub table: String,
    /// The place of its own route, behind those of the user.
    pub route: usize,
    path: String,
    pub plan: Arc<TablePlan>,
    decoders: Mutex<Vec<RowDecoder>>,
}

impl EmitTable {
    pub fn new(table: &str, route: usize, path: &str, plan: Arc<TablePlan>) -> EmitTable {
        EmitTable { table: table.into(), route, path: path.into(), plan, decoders: Mutex::default() }
    }

    /// One that an earlier call gave back, or a new one: making it takes longer than all the rest of a row.
    pub fn decoder(&self) -> Result<RowDecoder> {
        match self.free_decoders().pop() {
            Some(decoder) => Ok(decoder),
            None => RowDecoder::new(&self.path, &self.table, &self.plan.table.columns),
        }
    }

    pub fn give_back(&self, decoder: RowDecoder) {
        self.free_decoders().push(decoder);
    }

    fn free_decoders(&self) -> MutexGuard<'_, Vec<RowDecoder>> {
        lock(&self.decoders)
    }
}

pub struct TransformStage {
    pub context: Arc<PipelineContext>,
    pub plans: Arc<TablePlans>,
    /// The place of the route.
    pub at: usize,
    pub host: Arc<dyn TransformHost>,
    pub batches: Receiver<Box<Batch>>,
    /// To the sinks, or with a spool to it or to the next transform of the unit.
    pub next: Sender<Box<Batch>>,
    pub dead_letters: Sender<DeadLetterBatch>,
    pub signals: Receiver<Signal>,
    /// Whether batches may depend on time: not in a replay.
    pub gathers: bool,
}

/// A signal to a stage.
#[derive(Debug, Clone, Copy)]
pub enum Signal {
    Cancelled,
    /// Somebody waits for what is under way.
    Awaited,
}

/// A call that the host has.
struct Running {
    id: u64,
    since: Instant,
    emit_tables: Arc<Vec<EmitTable>>,
    /// Reported once it takes too long.
    slow: OpenFault,
    is_slow: bool,
    /// How often the call was lost before.
    losses: u32,
    others: Others,
}

/// The other batches of a unit, and the place of the batch among them.
#[derive(Default)]
struct Others {
    batches: Vec<Box<Batch>>,
    place: usize,
}

/// The state of a stage between calls.
struct Work {
    running: Vec<Running>,
    layout: Option<Arc<ColumnLayout>>,
    emit_tables: Option<Arc<Vec<EmitTable>>>,
    last_id: u64,
    /// Calls that are to be made again.
    lost: VecDeque<(Box<Batch>, Others, u32)>,
    warned_at: Option<Instant>,
    ended: Sender<(u64, Ended)>,
    /// `None`: the spool gathers.
    outgoing: Option<Outgoing>,
}

impl TransformStage {
    /// Until the connections are gone and all calls have ended, or all is cancelled.
    pub fn run(self) {
        let (ended_sender, ended) = crossbeam_channel::unbounded::<(u64, Ended)>();
        let has_spool = self.context.config.spool.is_some();
        let mut work = Work {
            running: Vec::new(),
            layout: None,
            emit_tables: None,
            last_id: 0,
            lost: VecDeque::new(),
            warned_at: None,
            ended: ended_sender,
            outgoing: (!has_spool)
                .then(|| Outgoing::new(self.context.clone(), self.next.clone(), self.gathers)),
        };
        let mut open = true;
        while open || !work.running.is_empty() || !work.lost.is_empty() {
            self.counters().waiting.store(self.batches.len() as u64, std::sync::atomic::Ordering::Relaxed);
            let has_room = work.running.len() < self.host.threads();
            if has_room && let Some((batch, others, losses)) = work.lost.pop_front() {
                self.call(&mut work, batch, others, losses);
                continue;
            }
            let takes = open && has_room;
            let batches = if takes { self.batches.clone() } else { never() };
            let alarm = self.next_alarm(&work);
            select! {
                recv(self.signals) -> signal => match signal {
                    Ok(Signal::Awaited) => {}
                    Ok(Signal::Cancelled) | Err(_) => return,
                },
                recv(ended) -> end => {
                    // The sender is here: something always comes.
                    let Ok((id, end)) = end else { return };
                    self.on_end(&mut work, id, end);
                }
                recv(batches) -> batch => match batch {
                    Ok(batch) => {
                        // There is capacity for another one.
                        batch.completion.wake();
                        self.take(&mut work, batch);
                    }
                    Err(_) => open = false,
                },
                recv(alarm) -> _ => self.warn_of_slow(&mut work.running),
            }
            if let Some(outgoing) = &mut work.outgoing {
                outgoing.send_due(Instant::now());
            }
        }
        if let Some(outgoing) = &mut work.outgoing {
            outgoing.send_all();
        }
    }

    /// Calls the transform with a batch, or with that of its route in a unit.
    fn take(&self, work: &mut Work, batch: Box<Batch>) {
        let mut batches = batch.apart();
        match batches.iter().position(|batch| batch.route == self.at && batch.rows() > 0) {
            Some(place) => {
                let batch = batches.remove(place);
                self.call(work, batch, Others { batches, place }, 0);
            }
            None => self.hand_on(work, batches),
        }
    }

    fn on_end(&self, work: &mut Work, id: u64, end: Ended) {
        let Some(place) = work.running.iter().position(|call| call.id == id) else { return };
        let Running { since, losses, others, emit_tables, .. } = work.running.swap_remove(place);
        self.counters().duration.record(since.elapsed(), 1);
        let outcome = match end {
            Ended::Lost { batch, is_changed: false } if losses < MAX_LOSSES => {
                return work.lost.push_back((batch, others, losses + 1));
            }
            Ended::Finished(finished) => Outcome::of(&self.context, *finished, &emit_tables),
            Ended::Failed { batch, message, stack } => self.fail(work, batch, &message, &stack),
            Ended::Lost { batch, .. } => {
                let message = "the JavaScript that had the batch ended before its transform did";
                self.fail(work, batch, message, "")
            }
        };
        let Outcome { batches, dead_letters, counts } = outcome;
        self.count(counts);
        // The receivers end after this thread, or everything is cancelled.
        if let Some(dead_letters) = dead_letters {
            let _ = self.dead_letters.send(dead_letters);
        }
        let Others { batches: mut unit, place } = others;
        unit.splice(place..place, batches);
        self.hand_on(work, unit);
    }

    /// Sends batches on: with a spool as one.
    fn hand_on(&self, work: &mut Work, batches: Vec<Box<Batch>>) {
        let Some(outgoing) = &mut work.outgoing else {
            // The receivers end after this thread, or everything is cancelled.
            Batch::together(batches).into_iter().for_each(|unit| _ = self.next.send(unit));
            return;
        };
        for batch in batches {
            if batch.is_empty() {
                batch.complete();
            } else {
                outgoing.push(batch, Instant::now());
            }
        }
    }

    fn counters(&self) -> &TransformCounters {
        self.context.metrics.transform(self.at).expect("each route with a transform has counters")
    }

    fn call(&self, work: &mut Work, batch: Box<Batch>, others: Others, losses: u32) {
        let route = self.context.config.route(self.at);
        let layout = match &mut work.layout {
            Some(layout) if layout.generation == batch.plan.generation => layout.clone(),
            stale => stale.insert(Arc::new(ColumnLayout::new(&batch.plan, route))).clone(),
        };
        let emit_tables = self.emit_tables(work);
        add(&self.counters().calls, 1);
        work.last_id += 1;
        let id = work.last_id;
        work.running.push(Running {
            id,
            since: Instant::now(),
            emit_tables: emit_tables.clone(),
            slow: self.context.no_fault(),
            is_slow: false,
            losses,
            others,
        });
        self.host.call(TransformCall::new(id, batch, layout, emit_tables, work.ended.clone()));
    }

    /// The tables of `emits`, as they are now.
    fn emit_tables(&self, work: &mut Work) -> Arc<Vec<EmitTable>> {
        let is_current = |emit: &EmitTable| self.plans.generation(emit.route) == emit.plan.generation;
        if let Some(emit_tables) = work.emit_tables.as_ref().filter(|tables| tables.iter().all(is_current)) {
            return emit_tables.clone();
        }
        let config = &self.context.config;
        let emits = config.route(self.at).transform.iter().flat_map(|transform| &transform.emits);
        let emit_tables = emits.filter_map(|table| {
            let route = config.row_route(table)?;
            Some(EmitTable::new(table, route, &config.route(route).path, self.plans.latest(route)))
        });
        work.emit_tables.insert(Arc::new(emit_tables.collect())).clone()
    }

    fn count(&self, counts: OutcomeCounts) {
        let OutcomeCounts { rows, dropped, rejected, emitted } = counts;
        let counters = self.counters();
        add(&counters.rows, rows);
        add(&counters.dropped, dropped);
        add(&counters.rejected, rejected);
        add(&counters.emitted, emitted);
    }

    /// Each message of the batch becomes a dead letter.
    fn fail(&self, work: &mut Work, batch: Box<Batch>, message: &str, stack: &str) -> Outcome {
        add(&self.counters().failed, 1);
        let (now, messages) = (Instant::now(), batch.messages.len());
        if work.warned_at.is_none_or(|at| now >= at + WARN_INTERVAL) {
            work.warned_at = Some(now);
            let table = &self.context.config.route(self.at).table;
            let text = format!(
                "{table}: the transform failed, and {messages} messages become dead letters: {message}"
            );
            let warning = Warning::new("TRANSFORM_FAILED", text).table(table).route(self.at).reason(message);
            self.context.warn(warning.messages(messages).stack(stack));
        }
        Outcome::of_failed(&self.context, batch, &Reason::new(Code::TransformFailed, message))
    }

    fn timeout(&self) -> Duration {
        let transform = self.context.config.route(self.at).transform.as_ref();
        transform.map_or(Duration::MAX, |transform| transform.timeout)
    }

    /// When the next warning of a slow call, or a batch to send, is due; soon, if no thread is there
    /// to take one.
    fn next_alarm(&self, work: &Work) -> Receiver<Instant> {
        let now = Instant::now();
        let no_thread = (self.host.threads() == 0).then(|| now + THREAD_INTERVAL);
        let calls = work.running.iter().filter(|call| !call.is_slow).map(|call| call.since + self.timeout());
        let due = work.outgoing.as_ref().and_then(|outgoing| outgoing.due_at(now));
        let first = calls.chain(no_thread).chain(due).min();
        first.map_or_else(never, |at| after(at.saturating_duration_since(now)))
    }

    fn warn_of_slow(&self, running: &mut [Running]) {
        let timeout = self.timeout();
        for call in running.iter_mut().filter(|call| !call.is_slow && call.since.elapsed() >= timeout) {
            call.is_slow = true;
            let table = &self.context.config.route(self.at).table;
            let elapsed = call.since.elapsed();
            let text = format!(
                "{table}: a call of the transform has taken {} ms and is not aborted; the broker waits for it",
                elapsed.as_millis()
            );
            let warning = Warning::new("TRANSFORM_SLOW", text).table(table).route(self.at);
            self.context.warn_of_fault(&mut call.slow, warning.elapsed(elapsed));
        }
    }
}
