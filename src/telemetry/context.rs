//! State that all threads of one pipeline share: the configuration, the ledger, the memory budget,
//! metrics, and the way to report to the owner.

use std::collections::HashSet;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::Instant;

use tokio::sync::watch;

use crate::config::Config;
use crate::core::chunk_pool::ChunkPool;
use crate::core::error::{Error, Result};
use crate::core::lock::lock;
use crate::core::memory_budget::MemoryBudget;
use crate::core::rebirths::RebirthLimits;
use crate::core::thread::{panic_message, run_on, runtime, thread};
use crate::telemetry::events::{Event, Listener, Warning};
use crate::telemetry::faults::OpenFault;
use crate::telemetry::ledger::{Ledger, PendingGroupId};
use crate::telemetry::metrics::{
    GatheringCounters, Recorder, RepeatCounters, SpoolGauges, TransformCounters,
};

pub struct PipelineContext {
    pub config: Config,
    pub ledger: Ledger,
    pub memory: Arc<MemoryBudget>,
    /// Held while messages are decoded again: what that takes for a moment is taken once.
    pub decoding_again: Mutex<()>,
    /// Memory for the messages of all batches.
    pub chunk_pool: Arc<ChunkPool>,
    pub metrics: Recorder,
    /// When edge nodes may be asked for their BIRTH messages.
    pub rebirth_limits: RebirthLimits,
    listener: Listener,
    cancelled: watch::Sender<bool>,
    wakers: Mutex<Vec<Waker>>,
    /// How many wait in [`PipelineContext::wait_below`].
    waiting: AtomicUsize,
    /// Called when a caller begins to wait there.
    wait_wakers: Mutex<Vec<Waker>>,
    /// Keys of the warnings of [`PipelineContext::warn_once`].
    warned: Mutex<HashSet<String>>,
}

/// Wakes a thread that waits for something else than [`PipelineContext::cancelled`].
type Waker = Box<dyn Fn() + Send>;

impl PipelineContext {
    pub fn new(config: Config, listener: Listener) -> PipelineContext {
        let tables =
            config.all_routes().filter(|route| route.table_choice.is_none()).map(|route| route.table.clone());
        let mut metrics = Recorder::new(tables, config.mqtt.connections);
        let transforms = config.routes.iter().enumerate().filter(|(_, route)| route.transform.is_some());
        metrics.transforms =
            TransformCounters::of_routes(transforms.map(|(at, route)| (at, route.topic.as_str())));
        for (at, route) in config.routes.iter().enumerate() {
            GatheringCounters::add(&metrics.gatherings, at, route);
            RepeatCounters::add(&metrics.repeats, at, route);
        }
        metrics.spool = config.spool.as_ref().map(|spool| SpoolGauges::new(spool.max_bytes));
        let memory = Arc::new(MemoryBudget::new(config.memory_max_bytes));
        config.lookups.reserve(&memory);
        metrics.lookups = config.lookups.clone();
        PipelineContext {
            metrics,
            chunk_pool: ChunkPool::of(&memory),
            memory,
            rebirth_limits: RebirthLimits::default(),
            decoding_again: Mutex::default(),
            ledger: Ledger::default(),
            cancelled: watch::Sender::new(false),
            wakers: Mutex::default(),
            waiting: AtomicUsize::new(0),
            wait_wakers: Mutex::default(),
            warned: Mutex::default(),
            config,
            listener,
        }
    }

    /// Has counters for a route that was added.
    pub fn count_route(&self, at: usize) {
        let route = self.config.route(at);
        if route.table_choice.is_none() {
            self.metrics.add_table(route.table.clone());
        }
        GatheringCounters::add(&self.metrics.gatherings, at, route);
        RepeatCounters::add(&self.metrics.repeats, at, route);
        if route.transform.is_some() {
            TransformCounters::add(&self.metrics.transforms, at, route.topic.as_str());
        }
    }

    pub fn emit(&self, event: Event) {
        (self.listener)(event);
    }

    pub fn warn(&self, warning: Warning) {
        self.metrics.count_warning(warning.code);
        self.emit(Event::Warning(Box::new(warning)));
    }

    /// Warns of a fault that lasts until its holder closes it.
    pub fn warn_of_fault(&self, fault: &mut OpenFault, warning: Warning) {
        fault.report(&warning);
        self.warn(warning);
    }

    /// No fault yet.
    pub fn no_fault(&self) -> OpenFault {
        OpenFault::none(&self.metrics.faults)
    }

    /// Warns once, whichever thread comes first, of what is the same for all of them: `about`.
    pub fn warn_once(&self, about: String, warning: Warning) {
        let is_new = lock(&self.warned).insert(about);
        if is_new {
            self.warn(warning);
        }
    }

    /// Starts a thread with a runtime of its own. A panic in it is reported as an error, and ends everything without
    /// another acknowledgement.
    pub fn spawn<F: Future<Output = ()>>(
        self: &Arc<Self>,
        name: &'static str,
        work: impl FnOnce() -> F + Send + 'static,
    ) -> Result<JoinHandle<()>> {
        let context = self.clone();
        thread(name, move || {
            let run = AssertUnwindSafe(|| runtime().map(|runtime| run_on(runtime, work())));
            let error = match catch_unwind(run) {
                Ok(Ok(())) => return,
                Ok(Err(error)) => error,
                Err(panic) => Error::Internal { thread: name.into(), message: panic_message(panic.as_ref()) },
            };
            context.cancel();
            context.emit(Event::Error(error));
        })
    }

    /// Calls `waker` whenever all is cancelled.
    pub fn on_cancel(&self, waker: impl Fn() + Send + 'static) {
        lock(&self.wakers).push(Box::new(waker));
    }

    /// [`Ledger::wait_below`], while which no thread holds back what is waited for.
    pub fn wait_below(&self, watermark: PendingGroupId, deadline: Option<Instant>) -> bool {
        self.waiting.fetch_add(1, Ordering::SeqCst);
        lock(&self.wait_wakers).iter().for_each(|wake| wake());
        let is_done = self.ledger.wait_below(watermark, deadline);
        self.waiting.fetch_sub(1, Ordering::SeqCst);
        is_done
    }

    /// Whether somebody waits for what is under way.
    pub fn is_awaited(&self) -> bool {
        self.waiting.load(Ordering::SeqCst) > 0
    }

    /// Calls `waker` whenever somebody begins to wait for what is under way.
    pub fn on_awaited(&self, waker: impl Fn() + Send + 'static) {
        lock(&self.wait_wakers).push(Box::new(waker));
    }

    /// Makes every thread end as soon as it can, whatever is left.
    pub fn cancel(&self) {
        self.cancelled.send_replace(true);
        self.ledger.abandon();
        lock(&self.wakers).iter().for_each(|wake| wake());
    }

    /// Before a start: forgets what an earlier one that failed left behind. All its threads have ended.
    pub fn reset(&self) {
        self.cancelled.send_replace(false);
        lock(&self.wakers).clear();
        lock(&self.wait_wakers).clear();
        self.ledger.reset();
    }

    pub fn is_cancelled(&self) -> bool {
        *self.cancelled.borrow()
    }

    /// Ends when the pipeline is cancelled.
    pub async fn cancelled(&self) {
        let mut cancelled = self.cancelled.subscribe();
        // `self` holds the sender, so it still exists.
        let _ = cancelled.wait_for(|cancelled| *cancelled).await;
    }
}
