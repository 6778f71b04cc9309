//! Sends INSERTs to the workers, as many as fit in memory.

use std::time::Instant;

use crate::config::AckAfter;
use crate::core::error::Error;
use crate::ingest::completion::SpooledInsert;
use crate::spool::job::{InsertJob, WorkerPermit};
use crate::spool::open::warn_of_damages;
use crate::spool::thread::waits::Waits;
use crate::spool::thread::{PendingInsert, SpoolThread};
use crate::spool::wal::read::Insert;
use crate::spool::wal::storage::Disk;
use crate::telemetry::events::Warning;
use crate::telemetry::metrics::add;

impl<D: Disk, W: Waits> SpoolThread<D, W> {
    /// Hands INSERTs to the workers that are free.
    pub(super) fn send_due_inserts(&mut self, now: Instant) {
        self.flush_requests.retain(|until| until.strong_count() > 0);
        self.read_at = None;
        let all = !self.flush_requests.is_empty() || self.context.config.mqtt.ack_after == AckAfter::Insert;
        while self.free > 0 && self.may_hand_out(now, all) {
            match self.log.take(now, all) {
                Ok(Some(insert)) => {
                    self.read_backoff.succeeded();
                    self.read_fault.close();
                    self.send(insert);
                }
                Ok(None) => break,
                Err(source) => {
                    let (wait, error) = (self.read_backoff.failed(), Error::spool_io(self.dir(), source));
                    self.read_at = Some(now + wait);
                    let message = format!("{error}; reading again in {} ms", wait.as_millis());
                    self.count_error();
                    let warning = Warning::new("SPOOL_IO", message).error(&error).retry_in(wait);
                    self.context.warn_of_fault(&mut self.read_fault, warning);
                    break;
                }
            }
        }
        warn_of_damages(&self.context, &self.log.take_damages());
    }

    /// One INSERT may always go out. More may while their records fit into the share of the memory that is there for them, or
    /// below the ceiling; INSERTs that wait to be tried again count as well.
    fn may_hand_out(&mut self, now: Instant, all: bool) -> bool {
        let Some(bytes) = self.log.next_bytes(now, all) else { return false };
        let memory = &self.context.memory;
        self.out == 0 || self.out_bytes + bytes <= memory.share() || memory.has_room(bytes)
    }

    fn send(&mut self, insert: Insert) {
        let Some(pending) = self.inserts.get_mut(&insert.id) else { return };
        let Some(mut completion) = pending.completion.take() else { return };
        let readable: u64 = insert.records.iter().map(|record| u64::from(record.messages)).sum();
        let unreadable = pending.messages.saturating_sub(readable);
        self.context.metrics.spool.iter().for_each(|gauges| add(&gauges.lost_messages, unreadable));
        completion.unreadable_in_part(unreadable);
        pending.messages = readable;
        let trace = pending.trace.take();
        if insert.records.is_empty() {
            completion.inserted(0);
            self.on_settled(insert.id);
            return;
        }
        pending.bytes = insert.records.iter().map(|record| record.bytes()).sum();
        completion.reserve(pending.bytes);
        self.out_bytes += pending.bytes;
        completion.belongs_to(SpooledInsert { id: insert.id, settled: self.settled_tx.clone() });
        self.free -= 1;
        self.out += 1;
        let permit = WorkerPermit::new(&self.freed_tx);
        // The workers end after this thread.
        let _ =
            self.channels.jobs.send(InsertJob { insert, cuts: self.cuts.clone(), completion, permit, trace });
    }

    /// Counts what the log has in memory. Records to be read back have a share of the memory, so that
    /// new batches do not take all of it.
    pub(super) fn count_memory(&mut self) {
        let for_reading = self.context.memory.share().saturating_sub(self.out_bytes);
        let to_read = self.log.stored_bytes().min(for_reading);
        let inserts = self.inserts.len() * size_of::<(u64, PendingInsert)>();
        self.memory.resize(self.log.memory_bytes() + to_read + inserts);
    }
}
