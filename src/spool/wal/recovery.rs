//! Opening a log: what an earlier life left is taken in.
//!
//! Every segment is read once to see which records are not done. A segment that was found is never written to again. What
//! may not have been synced in it is written again to a new one, and is only taken after that.

use std::collections::{BTreeMap, VecDeque};
use std::time::Instant;

use crate::core::error::{Error, Result};
use crate::spool::ack_receipts::Remembered;
use crate::spool::insert_queue::Queue;
use crate::spool::wal::corruption::{self, Damage};
use crate::spool::wal::entry::{HEADER, Kind};
use crate::spool::wal::log::{Log, Options, Place, Slot, open_record};
use crate::spool::wal::scan::{Scan, Torn};
use crate::spool::wal::segment::Segment;
use crate::spool::wal::storage::Disk;
use crate::spool::wal::write_batch::Group;

/// What was found.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub struct Recovered {
    /// All of this will be taken, in order, before anything new of the same lane.
    pub records: u64,
    pub rows: u64,
    pub messages: u64,
    /// The INSERTs that all of this is in, by id, with their messages.
    pub inserts: BTreeMap<u64, u64>,
    /// Found to be damaged for the first time.
    pub damages: Vec<Damage>,
    pub torn: Vec<Torn>,
}

impl<D: Disk> Log<D> {
    pub fn open(disk: D, options: Options, now: Instant) -> Result<(Log<D>, Recovered)> {
        let path = disk.path().to_owned();
        let io = |source| Error::spool_io(&path, source);
        let scan = Scan::of(&disk)?;
        let mut recovered = Recovered { torn: scan.torn.clone(), ..Recovered::default() };
        for damage in &scan.damages {
            let bytes = disk.read_at(&damage.segment, damage.at, damage.len).map_err(io)?;
            if corruption::put_aside(&disk, damage, &bytes).map_err(io)? {
                recovered.damages.push(damage.clone());
            }
        }

        let mut segments = VecDeque::new();
        for (name, bytes, inserts) in scan.segments.clone() {
            segments.push_back(Segment { inserts, ..Segment::new(name, bytes) });
        }
        let (mut queue, mut group) = (Queue::new(options.insert), Group::default());
        let mut records = BTreeMap::new();
        for (sequence, found) in &scan.open {
            let (sequence, insert, record) = (*sequence, found.insert, found.record());
            recovered.records += 1;
            recovered.rows += u64::from(record.rows);
            recovered.messages += u64::from(record.messages);
            *recovered.inserts.entry(insert).or_default() += u64::from(record.messages);
            queue.restore(insert, sequence, &found.token, &record, now, found.is_synced);
            if !found.is_synced {
                let Place { segment, at, len } = found.place;
                let body = disk.read_at(&segment.to_string(), at + HEADER as u64, len as usize - HEADER);
                let body = body.map_err(io)?;
                group.push(Kind::Record, sequence, |out| out.extend(body));
            }
            open_record(&mut segments, found.place);
            records.insert(sequence, Slot { place: Some(found.place), insert, kept: None });
        }
        let (mut remembered, _) = Remembered::of_entry(scan.receipts.clone());
        for (sequence, (connection, receipts)) in &scan.further_receipts {
            let is_synced = scan.open.get(sequence).is_none_or(|found| found.is_synced);
            remembered.found(*sequence, *connection, receipts, is_synced);
        }
        for (insert, places) in &scan.settled {
            group.push(Kind::Done, *insert, |_| ());
            places.iter().for_each(|place| open_record(&mut segments, *place));
        }

        let mut log = Log {
            next_segment: scan.segments.last().map_or(1, |(name, ..)| name.number + 1),
            next_sequence: scan.next_sequence,
            commits: 0,
            segments,
            file: None,
            records,
            settled: scan.settled,
            queue,
            group,
            remembered,
            receipts_in: None,
            kept_bytes: 0,
            ahead: None,
            is_failing: false,
            damages: Vec::new(),
            disk,
            options,
        };
        log.sweep().map_err(io)?;
        // Several segments may be left for what is remembered alone. Whatever is said next brings that together in a new one:
        // be it that the last INSERT is done, as all are.
        if log.segments.len() > 1 && log.group.is_empty() && log.records.is_empty() && log.next_sequence > 0 {
            log.group.push(Kind::Done, log.next_sequence - 1, |_| ());
        }
        Ok((log, recovered))
    }
}
