//! The end of a pipeline: what it waits for before its threads end.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use crossbeam_channel::RecvTimeoutError;

use crate::config::AckAfter;
use crate::core::error::{Error, Result};
use crate::core::lock::lock;
use crate::mqtt::Command;
use crate::pipeline::{Pipeline, Threads};
use crate::spool::Control;
use crate::telemetry::faults::Fault;
use crate::telemetry::metrics::Metrics;

/// How often to see whether the rest can be left to the next start.
const LOOK_INTERVAL: Duration = Duration::from_millis(50);

impl Pipeline {
    /// Takes nothing more, settles what is in hand, and ends the threads. `leaves`: the broker is to keep nothing for us.
    pub(super) fn drain(&self, threads: Threads, deadline: Instant, leaves: bool) {
        drop(lock(&self.changer).take());
        let hurry = Arc::new(());
        self.links().control(Control::FlushNow(Arc::downgrade(&hurry)));
        if leaves {
            self.links().command(|| Command::Leave);
        }
        let (done, ready) = crossbeam_channel::unbounded();
        self.links().command(|| Command::Drain(done.clone()));
        drop(done);
        let mut drained = loop {
            match ready.recv_deadline(deadline) {
                Ok(()) => {}
                Err(RecvTimeoutError::Disconnected) => break true,
                Err(RecvTimeoutError::Timeout) => break false,
            }
        };
        drained = drained && self.commit_spool(deadline);
        let is_acknowledged = self.context.config.mqtt.ack_after != AckAfter::Insert;
        if drained && is_acknowledged {
            // All that was taken is acknowledged. INSERTs may still take long, and the broker would go on giving us messages.
            self.links().command(|| Command::Disconnect);
        }
        drained = drained && self.wait_for_inserts(deadline);
        self.links().command(|| Command::Close);
        threads.finish(|| {
            if !drained {
                self.context.cancel();
            }
        });
    }

    /// The metrics of a pipeline that has stopped, unless it leaves messages that are not in the spool.
    pub(super) fn drained(&self, metrics: Metrics) -> Result<Metrics> {
        let pending = metrics.messages.pending;
        let spooled = self.context.metrics.spool.as_ref().map(|spool| spool.left.load(Ordering::Relaxed));
        if pending > spooled.unwrap_or(0) {
            return Err(Error::StopTimeout { pending, spooled });
        }
        Ok(metrics)
    }

    /// Waits until everything is settled. `false`: the deadline passed first, or ClickHouse takes nothing and all that is left
    /// is in the spool, where the next start finds it.
    fn wait_for_inserts(&self, deadline: Instant) -> bool {
        loop {
            let until = deadline.min(Instant::now() + LOOK_INTERVAL);
            if self.context.wait_below(u64::MAX, Some(until)) {
                return true;
            }
            let inserts_fail = self.context.metrics.faults.snapshot().iter().any(Fault::stops_inserts);
            let is_over = Instant::now() >= deadline || self.context.is_cancelled();
            if is_over || (inserts_fail && self.spooled() >= self.context.ledger.counts().pending.max(1)) {
                return false;
            }
        }
    }

    /// How many messages the spool has that are not settled.
    fn spooled(&self) -> u64 {
        let (answer, count) = crossbeam_channel::bounded(1);
        self.links().control(Control::Count(answer));
        // A spool that has ended, or none, has no answer; one that waits for its disk has none yet.
        count.recv_timeout(LOOK_INTERVAL).unwrap_or(0)
    }

    /// Waits until all sealed batches are committed, so that the connections acknowledge them before they close: the broker must
    /// not send messages again that the next start finds in the spool. `false`: the deadline passed
    /// first.
    fn commit_spool(&self, deadline: Instant) -> bool {
        let (done, committed) = crossbeam_channel::bounded(0);
        self.links().control(Control::Commit(done));
        committed.recv_deadline(deadline) != Err(RecvTimeoutError::Timeout)
    }
}
