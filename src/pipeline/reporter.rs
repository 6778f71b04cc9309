//! The thread of the metrics.

use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use crossbeam_channel::{Receiver, RecvTimeoutError};

use crate::core::error::Result;
use crate::core::lock::lock;
use crate::core::thread::thread;
use crate::pipeline::Pipeline;
use crate::telemetry::events::Event;
use crate::telemetry::metrics::{Metrics, Rates};

impl Pipeline {
    /// Starts the thread that computes the rates and emits the `metrics` event, until the sender is dropped.
    pub(super) fn spawn_reporter(self: &Arc<Self>, until: Receiver<()>) -> Result<JoinHandle<()>> {
        let (context, rates) = (self.context.clone(), self.rates.clone());
        // Weak: a pipeline that is dropped ends its threads, this one among them.
        let pipeline = Arc::downgrade(self);
        thread("metrics", move || {
            let interval = context.config.metrics_interval.unwrap_or(Duration::from_secs(1));
            let mut last = (Instant::now(), context.ledger.counts().received, 0);
            while let Err(RecvTimeoutError::Timeout) = until.recv_timeout(interval) {
                let Some(pipeline) = pipeline.upgrade() else { return };
                let now = Instant::now();
                let metrics = pipeline.metrics();
                let seconds = (now - last.0).as_secs_f64();
                let rate = |now: u64, before: u64| (now - before) as f64 / seconds;
                *lock(&rates) = Rates {
                    messages_per_second: rate(metrics.messages.received, last.1),
                    rows_per_second: rate(metrics.rows.inserted, last.2),
                };
                last = (now, metrics.messages.received, metrics.rows.inserted);
                if context.config.metrics_interval.is_some() {
                    context.emit(Event::Metrics(Box::new(Metrics { rates: *lock(&rates), ..metrics })));
                }
            }
        })
    }
}
