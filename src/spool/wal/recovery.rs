//! Opens a log and restores what an earlier process left.
//!
//! Every segment is read once to find the records that are not done. A segment that was found is never written to again.
//! Records that may not have been synced are written again to a new segment, and are only taken after that.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Instant;

use crate::config::ROWS_TOPIC;
use crate::core::error::{Error, Result};
use crate::spool::ack_receipts::AckHistoryStore;
use crate::spool::insert_queue::InsertQueue;
use crate::spool::wal::chain::Missing;
use crate::spool::wal::corruption::{self, ChainBreak, CorruptRange};
use crate::spool::wal::entry::{EntryKind, HEADER};
use crate::spool::wal::log::{Log, Options};
use crate::spool::wal::read::Reader;
use crate::spool::wal::record_index::RecordIndex;
use crate::spool::wal::scan::{FoundSegment, Scan, TruncatedTail};
use crate::spool::wal::segment::{Location, Segment, Segments};
use crate::spool::wal::state::{Open, Snapshot, StateFile};
use crate::spool::wal::storage::Disk;
use crate::spool::wal::write_batch::{BodySink, WriteBatch};

/// The contents of the log as they were found.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub struct Recovered {
    /// Records that are not done. All of them will be taken, in order, before anything new of the same stream.
    pub records: u64,
    pub rows: u64,
    pub messages: u64,
    /// The number of messages of each INSERT, by its id.
    pub inserts: BTreeMap<u64, u64>,
    /// INSERTs of rows that a program gave. Their rows count as messages.
    pub row_inserts: BTreeSet<u64>,
    /// Damage that was found for the first time.
    pub damages: Vec<CorruptRange>,
    pub torn: Vec<TruncatedTail>,
    /// Bytes that had been synced and are gone, found for the first time.
    pub breaks: Vec<ChainBreak>,
    /// How much is missing because of these and of `damages`. `None`: there are none, or it is not known.
    pub missing: Option<Missing>,
    /// Files in the directory that no spool creates.
    pub foreign: Vec<String>,
}

impl<D: Disk> Log<D> {
    pub fn open(disk: D, options: Options, now: Instant) -> Result<(Log<D>, Recovered)> {
        let path = disk.path().to_owned();
        let io = |source| Error::spool_io(&path, source);
        let scan = Scan::of(&disk)?;
        let mut recovered = Recovered {
            torn: scan.torn.clone(),
            breaks: scan.breaks.clone(),
            foreign: scan.foreign.clone(),
            ..Recovered::default()
        };
        for mut corrupt in scan.damages {
            let bytes = disk.read_at(&corrupt.segment, corrupt.at, corrupt.len).map_err(io)?;
            if corruption::quarantine(&disk, &mut corrupt, &bytes).map_err(io)? {
                recovered.damages.push(corrupt);
            }
        }
        let is_damaged = !(recovered.damages.is_empty() && recovered.breaks.is_empty());
        recovered.missing = scan.missing.filter(|_| is_damaged);

        let mut segments = Segments::new();
        for FoundSegment { id, bytes, extent, previous, inserts } in scan.segments {
            segments.restore(Segment { extent, previous, inserts, ..Segment::new(id, bytes) });
        }
        segments.next_number = scan.next_segment;
        let mut open = Open::default();
        let (mut queue, mut batch) = (InsertQueue::new(options.insert), WriteBatch::default());
        let mut records = RecordIndex::default();
        let mut rewritten = None;
        for (sequence, found) in &scan.open {
            let (sequence, insert, record) = (*sequence, found.insert, found.record());
            recovered.records += 1;
            recovered.rows += u64::from(record.rows);
            recovered.messages += u64::from(record.messages);
            *recovered.inserts.entry(insert).or_default() += u64::from(record.messages);
            if record.stream.route.starts_with(ROWS_TOPIC) {
                recovered.row_inserts.insert(insert);
            }
            queue.restore(insert, sequence, &found.token, &record, now, found.is_synced);
            let (first, count) = found.group;
            // The entry is written again with all its records, also those that are done.
            if !found.is_synced && rewritten != Some(first) {
                let Location { segment, at, len } = found.location;
                let body = disk.read_at(&segment.to_string(), at + HEADER as u64, len as usize - HEADER);
                let body = body.map_err(io)?;
                batch.push_records(first, count, |out| out.put(&body));
                rewritten = Some(first);
            }
            segments.open_record(found.location);
            open.add(found.messages);
            records.restore(sequence, insert, found.messages, found.location);
        }
        // The segment with their DONE entry may be deleted before the one with the new entry.
        for insert in scan.settled_in_groups.difference(&scan.settled.keys().copied().collect()) {
            batch.push(EntryKind::Done, *insert, |_| ());
        }
        let (mut ack_history, _) = AckHistoryStore::of_entry(scan.receipts.clone());
        for (sequence, (connection, receipts)) in &scan.further_receipts {
            let is_synced = scan.open.get(sequence).is_none_or(|found| found.is_synced);
            ack_history.found(*sequence, *connection, receipts, is_synced);
        }
        for (insert, settled) in scan.settled {
            batch.push(EntryKind::Done, insert, |_| ());
            settled.locations.iter().for_each(|location| segments.open_record(*location));
            open.records += settled.locations.len() as u64;
            open.messages += settled.messages;
            records.restore_settled(insert, settled);
        }
        let found = scan.state.as_ref();
        let mut snapshot = Snapshot { next_sequence: scan.next_sequence, open, ..Snapshot::default() };
        match segments.all.back() {
            Some(last) => (snapshot.last, snapshot.extent) = (last.id, last.extent),
            None => snapshot.last = found.map(|found| found.snapshot.last).unwrap_or_default(),
        }
        snapshot.known = segments.differences(None, snapshot.last.number);
        // It says what was found, so that damage is reported once.
        let state = StateFile::open(&disk, &mut snapshot, found, &scan.state_files).map_err(io)?;

        let mut log = Log {
            disk,
            segments,
            segment_bytes: options.segment_bytes,
            state,
            snapshot,
            next_sequence: scan.next_sequence,
            records,
            queue,
            batch,
            commits: 0,
            is_failing: false,
            ack_history,
            ack_history_in: None,
            reader: Reader::default(),
            is_disk_full: false,
            is_gone: false,
            options,
        };
        log.delete_obsolete().map_err(io)?;
        // Old segments may survive only for their acknowledgement history. A DONE entry that changes nothing makes the next
        // commit gather that in one new segment.
        let is_history_alone = log.segments() > 1 && log.batch.is_empty() && log.records.is_empty();
        if is_history_alone && log.next_sequence > 0 {
            log.batch.push(EntryKind::Done, log.next_sequence - 1, |_| ());
        }
        Ok((log, recovered))
    }
}
