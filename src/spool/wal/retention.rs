//! Deletes segments whose records are all done, where that is synced.

use std::collections::BTreeSet;
use std::io;

use crate::spool::wal::entry::EntryKind;
use crate::spool::wal::log::Log;
use crate::spool::wal::segment::{Segment, SegmentId};
use crate::spool::wal::storage::Disk;

impl<D: Disk> Log<D> {
    /// Deletes segments that are no longer needed. To be called after [`Log::commit`], and again when
    /// the disk is full.
    pub fn delete_obsolete(&mut self) -> io::Result<()> {
        if self.is_gone {
            return Ok(());
        }
        if self.is_failing {
            self.settle_without_room();
        }
        self.delete_front()?;
        self.delete_behind()
    }

    /// A full disk does not take DONE entries: the state file takes them. If even that fails and a crash comes, INSERTs that
    /// reach beyond a deleted segment are sent again, under their tokens, without the records that were in it.
    pub(super) fn settle_without_room(&mut self) {
        let done: Vec<u64> = self.batch.done().collect();
        if self.is_gone || done.len() == self.snapshot.done.len() {
            return;
        }
        self.snapshot.done = done;
        for settled in self.records.all_done_are_synced() {
            self.snapshot.open.remove(&settled);
            settled.locations.into_iter().for_each(|location| self.segments.close_record(location));
        }
        let written = self.state.write_durably(&self.disk, &mut self.snapshot);
        if written.is_ok_and(|is_written| is_written) && self.snapshot.is_complete() {
            // As good as a commit for DONE entries that were rewritten.
            self.commits += 1;
        }
    }

    /// Deletes from the front. The last segment stays for its acknowledgement history unless the space
    /// is needed: the next one begins with it.
    fn delete_front(&mut self) -> io::Result<()> {
        while let Some(segment) = self.segments.all.front() {
            let is_last = self.segments.all.len() == 1;
            let takes_more = is_last && self.segments.file.is_some() && segment.bytes < self.segment_bytes;
            let is_wanted = takes_more || self.has_ack_history(segment.id);
            if segment.open > 0 || (is_wanted && !self.is_out_of_room() && !self.is_disk_full) {
                break;
            }
            if !self.delete(0)? {
                break;
            }
            if is_last {
                self.segments.file = None;
            }
        }
        Ok(())
    }

    /// Deletes behind a segment that is still needed, except the last. Such a segment may hold the DONE entries of records in
    /// front of it: these are rewritten, and it is deleted after the next commit.
    fn delete_behind(&mut self) -> io::Result<()> {
        let last = self.segments.all.len().saturating_sub(1);
        for at in (1..last).rev() {
            let Segment { id, open, rewritten_at, .. } = self.segments.all[at];
            let is_rewritten = rewritten_at.is_some_and(|commit| commit < self.commits);
            if open == 0 && is_rewritten && !self.has_ack_history(id) {
                self.delete(at)?;
            }
        }
        let segments = &self.segments.all;
        let is_new = |at: &usize| segments[*at].open == 0 && segments[*at].rewritten_at.is_none();
        let Some(newest) = (1..segments.len().saturating_sub(1)).rev().find(is_new) else { return Ok(()) };
        let in_front: BTreeSet<u64> =
            segments.range(..newest).flat_map(|segment| &segment.inserts).copied().collect();
        for insert in in_front.into_iter().filter(|insert| self.queue.get(*insert).is_none()) {
            self.batch.push(EntryKind::Done, insert, |_| ());
        }
        for segment in self.segments.all.range_mut(1..=newest).filter(|segment| segment.open == 0) {
            segment.rewritten_at.get_or_insert(self.commits);
        }
        Ok(())
    }

    /// Whether the acknowledgement history would be lost with this segment.
    fn has_ack_history(&self, id: SegmentId) -> bool {
        !self.ack_history.is_empty() && self.ack_history_in.is_none_or(|segment| segment == id)
    }

    /// `false`: it is kept, because the state file has no place to note that it is deleted.
    fn delete(&mut self, at: usize) -> io::Result<bool> {
        // Otherwise the next start would take it for one that a user removed.
        self.snapshot.known = self.segments.differences(Some(at), self.snapshot.last.number);
        match self.state.write_durably(&self.disk, &mut self.snapshot) {
            Ok(true) => {}
            Ok(false) => return Ok(false),
            // There is no state file yet, and space for it only after a segment is deleted.
            Err(error) if is_storage_full(&error) => {}
            Err(error) => return Err(error),
        }
        match self.disk.remove(&self.segments.all[at].id.to_string()) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
        // If the names were not synced, a crash could bring this segment back without one that was deleted after it and
        // held its DONE entries.
        self.disk.sync_names()?;
        self.segments.all.remove(at);
        Ok(true)
    }
}

/// Whether an operation failed for want of room.
pub(super) fn is_storage_full(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded)
}
