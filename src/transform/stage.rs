//! The thread of a route with a transform: hands its batches to the host, and sends on what becomes of them.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::{Duration, Instant};

use crossbeam_channel::{Receiver, Sender, after, never, select};

use crate::core::dead_letter::DeadLetter;
use crate::core::error::Result;
use crate::core::reason::{Code, Reason};
use crate::decode::RowDecoder;
use crate::ingest::batch::Batch;
use crate::ingest::dead_letter_batch::DeadLetterBatch;
use crate::ingest::table_plan::{TablePlan, TablePlans};
use crate::telemetry::context::PipelineContext;
use crate::telemetry::events::Warning;
use crate::telemetry::metrics::{TransformCounters, add};
use crate::transform::TransformHost;
use crate::transform::call::{Ended, TransformCall};
use crate::transform::columns::ColumnLayout;
use crate::transform::outcome::{Outcome, OutcomeCounts};

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
    pub path: String,
    pub plan: Arc<TablePlan>,
}

impl EmitTable {
    pub fn decoder(&self) -> Result<RowDecoder> {
        RowDecoder::new(&self.path, &self.table, &self.plan.table.columns)
    }
}

pub struct TransformStage {
    pub context: Arc<PipelineContext>,
    pub plans: Arc<TablePlans>,
    /// The place of the route.
    pub at: usize,
    pub host: Arc<dyn TransformHost>,
    pub batches: Receiver<Box<Batch>>,
    /// To the sinks or the spool.
    pub transformed: Sender<Box<Batch>>,
    pub dead_letters: Sender<DeadLetterBatch>,
    /// Something comes when all is cancelled.
    pub cancelled: Receiver<()>,
}

/// A call that the host has.
struct Running {
    id: u64,
    since: Instant,
    emit_tables: Arc<Vec<EmitTable>>,
    is_slow: bool,
    /// How often the call was lost before.
    losses: u32,
}

impl TransformStage {
    /// Until the connections are gone and all calls have ended, or all is cancelled.
    pub fn run(self) {
        let (ended_sender, ended) = crossbeam_channel::unbounded::<(u64, Ended)>();
        let mut running: Vec<Running> = Vec::new();
        let mut layout: Option<Arc<ColumnLayout>> = None;
        let mut next_id = 0;
        let mut open = true;
        // Calls that are to be made again.
        let mut lost: VecDeque<(Box<Batch>, u32)> = VecDeque::new();
        let mut warned_at: Option<Instant> = None;
        while open || !running.is_empty() || !lost.is_empty() {
            self.counters().waiting.store(self.batches.len() as u64, std::sync::atomic::Ordering::Relaxed);
            let has_room = running.len() < self.host.threads();
            if has_room && let Some((batch, losses)) = lost.pop_front() {
                next_id += 1;
                running.push(self.call(next_id, losses, batch, &mut layout, &ended_sender));
                continue;
            }
            let takes = open && has_room;
            let batches = if takes { self.batches.clone() } else { never() };
            let alarm = self.next_alarm(&running);
            select! {
                recv(self.cancelled) -> _ => return,
                recv(ended) -> end => {
                    // The sender is here: something always comes.
                    let Ok((id, end)) = end else { return };
                    let Some(place) = running.iter().position(|call| call.id == id) else { continue };
                    let call = running.swap_remove(place);
                    self.counters().duration.record(call.since.elapsed(), 1);
                    match end {
                        Ended::Lost { batch, is_changed: false } if call.losses < MAX_LOSSES => {
                            lost.push_back((batch, call.losses + 1));
                        }
                        end => self.end(end, &call.emit_tables, &mut warned_at),
                    }
                }
                recv(batches) -> batch => match batch {
                    Ok(batch) => {
                        // There is capacity for another one.
                        batch.completion.wake();
                        next_id += 1;
                        running.push(self.call(next_id, 0, batch, &mut layout, &ended_sender));
                    }
                    Err(_) => open = false,
                },
                recv(alarm) -> _ => self.warn_of_slow(&mut running),
            }
        }
    }

    fn counters(&self) -> &TransformCounters {
        self.context.metrics.transform(self.at).expect("each route with a transform has counters")
    }

    fn call(
        &self,
        id: u64,
        losses: u32,
        batch: Box<Batch>,
        layout: &mut Option<Arc<ColumnLayout>>,
        ended: &Sender<(u64, Ended)>,
    ) -> Running {
        let route = self.context.config.route(self.at);
        let layout = match layout {
            Some(layout) if layout.generation == batch.plan.generation => layout.clone(),
            stale => stale.insert(Arc::new(ColumnLayout::new(&batch.plan, route))).clone(),
        };
        let emit_tables = Arc::new(self.emit_tables());
        add(&self.counters().calls, 1);
        let running =
            Running { id, since: Instant::now(), emit_tables: emit_tables.clone(), is_slow: false, losses };
        self.host.call(TransformCall::new(id, batch, layout, emit_tables, ended.clone()));
        running
    }

    /// The tables of `emits`, as they are now.
    fn emit_tables(&self) -> Vec<EmitTable> {
        let config = &self.context.config;
        let emits = config.route(self.at).transform.iter().flat_map(|transform| &transform.emits);
        emits
            .filter_map(|table| {
                let route = config.row_route(table)?;
                let path = config.route(route).path.clone();
                Some(EmitTable { table: table.clone(), route, path, plan: self.plans.latest(route) })
            })
            .collect()
    }

    fn end(&self, end: Ended, emit_tables: &[EmitTable], warned_at: &mut Option<Instant>) {
        match end {
            Ended::Finished(finished) => {
                let Outcome { batch, dead_letters, emitted, counts } =
                    Outcome::of(&self.context, *finished, emit_tables);
                self.count(counts);
                // The receivers end after this thread, or everything is cancelled.
                if let Some(dead_letters) = dead_letters {
                    let _ = self.dead_letters.send(dead_letters);
                }
                for batch in emitted.into_iter().chain(batch) {
                    let _ = self.transformed.send(batch);
                }
            }
            Ended::Failed { batch, message, stack } => self.fail(*batch, &message, &stack, warned_at),
            Ended::Lost { batch, .. } => {
                let message = "the JavaScript that had the batch ended before its transform did";
                self.fail(*batch, message, "", warned_at);
            }
        }
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
    fn fail(&self, batch: Batch, message: &str, stack: &str, warned_at: &mut Option<Instant>) {
        add(&self.counters().failed, 1);
        add(&self.counters().rows, batch.rows() as u64);
        let Batch { completion, messages, route, .. } = batch;
        let now = Instant::now();
        if warned_at.is_none_or(|at| now >= at + WARN_INTERVAL) {
            *warned_at = Some(now);
            let table = &self.context.config.route(route).table;
            let text = format!(
                "{table}: the transform failed, and {} messages become dead letters: {message}",
                messages.len()
            );
            let warning = Warning::new("TRANSFORM_FAILED", text).table(table).route(route).reason(message);
            self.context.warn(warning.messages(messages.len()).stack(stack));
        }
        let reason = Reason::new(Code::TransformFailed, message);
        let mut dead_letters = DeadLetterBatch::new(completion);
        for message in messages.iter() {
            dead_letters.push(DeadLetter {
                received_at: message.received.system,
                route: Some(route),
                topic: message.topic.into(),
                payload: message.payload.into(),
                reason: reason.clone(),
            });
        }
        drop(messages);
        dead_letters.reserve();
        let _ = self.dead_letters.send(dead_letters);
    }

    fn timeout(&self) -> Duration {
        let transform = self.context.config.route(self.at).transform.as_ref();
        transform.map_or(Duration::MAX, |transform| transform.timeout)
    }

    /// When the next warning of a slow call is due; soon, if no thread is there to take one.
    fn next_alarm(&self, running: &[Running]) -> Receiver<Instant> {
        if self.host.threads() == 0 {
            return after(THREAD_INTERVAL);
        }
        let first = running.iter().filter(|call| !call.is_slow).map(|call| call.since + self.timeout()).min();
        first.map_or_else(never, |at| after(at.saturating_duration_since(Instant::now())))
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
            self.context.warn(warning.elapsed(elapsed));
        }
    }
}
