//! Batches that a transform has made, on their way to the sinks. Without a spool they are gathered here, as the router gathers rows
//! in front of a transform: fewer and larger INSERTs are what ClickHouse needs.
//!
//! - **While as many batches of a route wait as workers can take,** further ones join an open one, as far as the limits of an INSERT
//!   allow. The calls of the transform stay as small as `batch` asks.
//! - **Rows that were emitted** are few: they wait until they are as old as `batch.maxDelayMs` allows. Not where acknowledgements
//!   wait for them, because the broker may wait for these.
//!
//! Nothing is held back while somebody waits for what was received. In a replay nothing is gathered at all: its batches must not
//! depend on time.

// Batches go through channels, which take them boxed: moving one is moving a pointer.
#![allow(clippy::vec_box)]

use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use crossbeam_channel::Sender;

use crate::config::Config;
use crate::ingest::batch::{Batch, QueueDepth};
use crate::ingest::route_state::{is_large, may_grow};
use crate::telemetry::context::PipelineContext;

/// How often to see whether a worker has taken a batch.
const WORKER_INTERVAL: Duration = Duration::from_millis(20);

pub struct Outgoing {
    context: Arc<PipelineContext>,
    sinks: Sender<Box<Batch>>,
    gathers: bool,
    /// By route, how many batches wait for a worker.
    queued: HashMap<usize, QueueDepth>,
    /// At most one for each route and connection.
    open: Vec<Box<Batch>>,
}

impl Outgoing {
    /// `gathers`: batches may depend on time.
    pub fn new(context: Arc<PipelineContext>, sinks: Sender<Box<Batch>>, gathers: bool) -> Outgoing {
        Outgoing { context, sinks, gathers, queued: HashMap::new(), open: Vec::new() }
    }

    /// Takes a batch with rows.
    pub fn push(&mut self, batch: Box<Batch>, now: Instant) {
        let is_same = |open: &Batch| open.route == batch.route && open.connection == batch.connection;
        match self.open.iter().position(|open| is_same(open)) {
            Some(at) if self.open[at].can_join(&batch) => self.open[at].join(*batch),
            Some(at) => {
                let earlier = std::mem::replace(&mut self.open[at], batch);
                self.send(earlier);
            }
            None => self.open.push(batch),
        }
        self.send_due(now);
    }

    /// Sends what is not to be held any longer.
    pub fn send_due(&mut self, now: Instant) {
        let mut at = 0;
        while let Some(batch) = self.open.get(at) {
            if self.holds(batch, now) {
                at += 1;
            } else {
                let batch = self.open.remove(at);
                self.send(batch);
            }
        }
    }

    /// When to look at them again. `None`: there are none.
    pub fn due_at(&self, now: Instant) -> Option<Instant> {
        let due = |batch: &Batch| match self.waits_for_worker(batch) {
            true => now + WORKER_INTERVAL,
            false => self.due_by_age(batch),
        };
        self.open.iter().map(|batch| due(batch)).min()
    }

    pub fn send_all(&mut self) {
        for batch in std::mem::take(&mut self.open) {
            self.send(batch);
        }
    }

    fn holds(&self, batch: &Batch, now: Instant) -> bool {
        let Config { batch: limits, .. } = &self.context.config;
        if !self.gathers || self.context.is_awaited() || !may_grow(batch, limits) {
            return false;
        }
        let is_emitted = self.context.config.is_of_rows(batch.route);
        let may_wait = is_emitted && !batch.completion.has_acks() && !is_large(batch, limits);
        self.waits_for_worker(batch) || (may_wait && now < self.due_by_age(batch))
    }

    fn waits_for_worker(&self, batch: &Batch) -> bool {
        let waiting = self.queued.get(&batch.route).map_or(0, QueueDepth::get);
        waiting >= self.context.config.clickhouse.max_in_flight
    }

    fn due_by_age(&self, batch: &Batch) -> Instant {
        batch.opened_at + self.context.config.batch.delay
    }

    fn send(&mut self, mut batch: Box<Batch>) {
        batch.queue_permit = Some(self.queued.entry(batch.route).or_default().enter());
        // The receivers end after this thread, or everything is cancelled.
        let _ = self.sinks.send(batch);
    }
}
