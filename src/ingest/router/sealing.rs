//! Hands batches over to the sinks, or lets them grow while the queue is full.

use crossbeam_channel::TrySendError;

use crate::ingest::router::Router;
use crate::mqtt::MessageSink;

impl Router {
    /// Sends a batch to the sinks, or leaves it open where their queue is full.
    pub(super) fn seal(&mut self, at: usize) {
        if self.joined.is_unit(at) {
            return self.seal_unit(at);
        }
        // Batches grow behind a transform (`transform/outgoing`), so that a call has no more rows than `batch` allows.
        let limits = &self.context.config.batch;
        let grows = !self.goes_to_transform(at) && self.routes[at].is_better_grown(self.max_waiting, limits);
        let place = self.routes[at].sends_as;
        if grows || self.batches.of(place).is_full() {
            self.routes[at].seal_pending = true;
            return;
        }
        self.commit_read_stats();
        let state = &mut self.routes[at];
        let Some(batch) = state.take_sealed() else { return };
        if batch.is_empty() {
            return batch.complete();
        }
        if let Err(TrySendError::Full(batch) | TrySendError::Disconnected(batch)) =
            self.batches.of(place).try_send(batch)
        {
            // Another connection was quicker.
            state.batch = Some(batch);
            state.seal_pending = true;
        }
    }

    pub(super) fn goes_to_transform(&self, at: usize) -> bool {
        self.routes[self.joined.entry(at)].route.transform.is_some()
    }

    /// Seals the batches that found the queue full, and no others: for callers whose timing must not
    /// decide the contents of a batch.
    pub fn seal_waiting(&mut self) {
        self.take_waiting();
        for at in 0..self.routes.len() {
            if self.routes[at].seal_pending {
                self.seal(at);
            }
        }
    }
}
