//! The log: records in, INSERTs out. See the header of [`super`].

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::io;
use std::sync::Arc;
use std::time::{Instant, SystemTime};

use bytes::Bytes;

use crate::spool::ack_receipts::{Remembered, Session};
use crate::spool::insert_queue::{InsertLimits, Queue};
use crate::spool::wal::corruption::{self, Damage};
use crate::spool::wal::entry::{HEADER, Header, Kind};
use crate::spool::wal::record::{Assigned, Record};
use crate::spool::wal::segment::{Name, Segment};
use crate::spool::wal::storage::{Disk, DiskFile};
use crate::spool::wal::write_batch::Group;

#[derive(Debug, Clone)]
pub struct Options {
    /// The pipeline's name, for tokens.
    pub name: String,
    /// Random, and another one each time a log is opened: for tokens and markers.
    pub life: u64,
    /// Of all segments. Soft: what was appended together may pass it.
    pub max_bytes: u64,
    /// A segment that has so many takes no more. Soft in the same way.
    pub segment_bytes: u64,
    /// How much of what is on disk is also kept in memory, so that it need not be read back.
    pub keep_bytes: usize,
    pub insert: InsertLimits,
}

pub struct Log<D: Disk> {
    pub(in crate::spool) disk: D,
    pub(in crate::spool) options: Options,
    /// In the order in which they were begun.
    pub(in crate::spool) segments: VecDeque<Segment>,
    /// The file of the last segment. Without one, the next commit begins a segment.
    pub(in crate::spool) file: Option<D::File>,
    pub(in crate::spool) next_segment: u64,
    pub(in crate::spool) next_sequence: u64,
    /// How many have succeeded.
    pub(in crate::spool) commits: u64,
    pub(in crate::spool) records: BTreeMap<u64, Slot>,
    /// The records of INSERTs that are done, until that is synced as well.
    pub(in crate::spool) settled: BTreeMap<u64, Vec<Place>>,
    pub(in crate::spool) queue: Queue,
    pub(in crate::spool) group: Group,
    pub(in crate::spool) remembered: Remembered,
    /// The segment that has all that is remembered: its first entry and the records behind it. `None`: those that were found
    /// have it together.
    pub(in crate::spool) receipts_in: Option<Name>,
    pub(in crate::spool) kept_bytes: usize,
    /// What was read last: a segment, where in it, the bytes.
    pub(in crate::spool) ahead: Option<(Name, u64, Vec<u8>)>,
    /// The last commit failed: nothing more is taken until one succeeds.
    pub(in crate::spool) is_failing: bool,
    pub(in crate::spool) damages: Vec<Damage>,
}

/// Small records, one by one, would cost more in opening files than in reading them.
const READ_AHEAD: usize = 256 * 1024;
/// What the maps take for a record, measured.
const RECORD_BYTES: usize = 136;

/// A record that is not done.
#[derive(Debug)]
pub(in crate::spool) struct Slot {
    /// `None`: only in the group.
    pub place: Option<Place>,
    pub insert: u64,
    /// Not only on disk. What was taken is not kept.
    pub kept: Option<Arc<Record>>,
}

#[derive(Debug, Clone, Copy)]
pub(in crate::spool) struct Place {
    pub segment: Name,
    pub at: u64,
    pub len: u32,
}

/// The records of one INSERT: their blocks, one after the other, are its body.
#[derive(Debug, Clone)]
pub struct Insert {
    pub id: u64,
    pub token: String,
    pub records: Vec<Arc<Record>>,
}

impl<D: Disk> Log<D> {
    /// Takes a record; it is on disk once [`Log::commit`] has succeeded. Returns the id of the INSERT that it will be in. To
    /// be called only while there is room: see [`Log::is_full`].
    pub fn append(&mut self, record: Record, now: Instant) -> u64 {
        let sequence = self.next_sequence;
        self.next_sequence += 1;
        let Log { queue, options, group, .. } = self;
        let insert = queue
            .assign(sequence, &record, now, || format!("{}-{:016x}-{sequence}", options.name, options.life));
        let token = queue.get(insert).map_or("", |waiting| &waiting.token);
        group.push(Kind::Record, sequence, |body| record.encode(insert, token, body));
        self.remembered.append(sequence, record.lane.connection, &record.receipts);
        let bytes = record.bytes();
        let is_kept = self.kept_bytes + bytes <= self.options.keep_bytes;
        self.kept_bytes += if is_kept { bytes } else { 0 };
        let kept = is_kept.then(|| Arc::new(record));
        self.records.insert(sequence, Slot { place: None, insert, kept });
        insert
    }

    /// Writes and syncs what was appended and settled since the last time. Only when this has succeeded may any of it be
    /// acknowledged. After an error all of it is still there: the next call writes it to a new segment, since a file whose
    /// sync has failed may lose what it holds and yet be synced the next time.
    pub fn commit(&mut self) -> io::Result<()> {
        if self.group.is_empty() {
            return Ok(());
        }
        let written = self.write_group();
        self.is_failing = written.is_err();
        if written.is_err() {
            self.abandon();
        }
        written
    }

    fn write_group(&mut self) -> io::Result<()> {
        if self.segments.back().is_some_and(|segment| segment.bytes >= self.options.segment_bytes) {
            // If this is lost, a damaged end of the segment would look like one that was cut off, and nothing else.
            let _ = self.end_segment();
            // So an INSERT reaches over two segments at most. On a full disk it may wait for a record that does not fit, and
            // must not hold up the room of all the others.
            self.queue.close();
        }
        if self.file.is_none() {
            self.begin_segment()?;
        }
        let (Some(file), Some(segment)) = (&mut self.file, self.segments.back_mut()) else { return Ok(()) };
        segment
            .inserts
            .extend(self.group.records().filter_map(|sequence| Some(self.records.get(&sequence)?.insert)));
        let mut begin = segment.bytes;
        if begin == 0 {
            let most = self.options.segment_bytes as usize / 8;
            let entry = self.remembered.entry(segment.name.marker, self.next_sequence, most);
            begin += entry.len() as u64;
            file.write(&entry)?;
        }
        file.write(self.group.seal(segment.name.marker, segment.bytes))?;
        file.sync()?;

        let name = segment.name;
        segment.bytes = begin + self.group.len() as u64;
        self.remembered.synced();
        self.receipts_in = Some(name);
        self.commits += 1;
        for (at, header) in self.group.drain() {
            if header.kind == Kind::Done {
                for place in self.settled.remove(&header.sequence).unwrap_or_default() {
                    close_record(&mut self.segments, place);
                }
                continue;
            }
            let Some(slot) = self.records.get_mut(&header.sequence) else { continue };
            let place = Place { segment: name, at: begin + at as u64, len: header.len() as u32 };
            if let Some(before) = slot.place.replace(place) {
                close_record(&mut self.segments, before);
            }
            open_record(&mut self.segments, place);
            self.queue.synced(slot.insert);
        }
        Ok(())
    }

    fn begin_segment(&mut self) -> io::Result<()> {
        let number = self.next_segment;
        self.next_segment += 1;
        let name = Name { number, marker: marker(self.options.life, number) };
        self.file = Some(self.disk.create(&name.to_string())?);
        self.segments.push_back(Segment::new(name, 0));
        // A synced file whose name is not synced can still be lost.
        self.disk.sync_names()
    }

    /// Says in the last segment that all of it was synced, and leaves it.
    fn end_segment(&mut self) -> io::Result<()> {
        let (Some(mut file), Some(segment)) = (self.file.take(), self.segments.back_mut()) else {
            return Ok(());
        };
        let end = Header { synced: segment.bytes, ..Header::new(Kind::End, 0, &[]) };
        segment.bytes += HEADER as u64;
        file.write(&end.to_bytes(segment.name.marker))?;
        file.sync()
    }

    /// Leaves the last segment as it is. What was synced in it stays good.
    fn abandon(&mut self) {
        if self.file.take().is_none() {
            return;
        }
        // One that never had anything is in the way of nobody, but it may take up the last room.
        if let Some(segment) = self.segments.back()
            && segment.bytes == 0
            && self.disk.remove(&segment.name.to_string()).is_ok()
        {
            self.segments.pop_back();
        }
    }

    /// The next INSERT that is due, or with `all` the next one whatever its age. It is the caller's until [`Log::done`], also
    /// where no record of it can be read any more. Each one taken is to be attempted only with these blocks in this order
    /// under this token.
    pub fn take(&mut self, now: Instant, all: bool) -> io::Result<Option<Insert>> {
        let Some(id) = self.queue.next(now, all) else { return Ok(None) };
        let Some(waiting) = self.queue.get(id) else { return Ok(None) };
        let (token, sequences) = (waiting.token.clone(), waiting.records.clone());
        let mut records = Vec::with_capacity(sequences.len());
        for sequence in &sequences {
            records.extend(self.record(*sequence)?);
        }
        self.queue.take(id);
        for sequence in &sequences {
            let kept = self.records.get_mut(sequence).and_then(|slot| slot.kept.take());
            self.kept_bytes -= kept.map_or(0, |record| record.bytes());
        }
        Ok(Some(Insert { id, token, records }))
    }

    /// A record, from memory or from disk. `None`: what is on disk can no longer be read, and was put aside.
    fn record(&mut self, sequence: u64) -> io::Result<Option<Arc<Record>>> {
        let Some(slot) = self.records.get(&sequence) else { return Ok(None) };
        if let Some(record) = &slot.kept {
            return Ok(Some(record.clone()));
        }
        let Some(place) = slot.place else { return Ok(None) };
        let bytes = self.read(place)?;
        let is_whole = Header::parse(&bytes, place.segment.marker)
            .is_some_and(|header| header.sequence == sequence && header.fits(&bytes[HEADER..]));
        if is_whole && let Some(assigned) = Assigned::decode(bytes.slice(HEADER..)) {
            return Ok(Some(Arc::new(assigned.record)));
        }
        let damage = Damage::new(place.segment.to_string(), place.at, bytes.len(), Some(sequence));
        if corruption::put_aside(&self.disk, &damage, &bytes)? {
            self.damages.push(damage);
        }
        Ok(None)
    }

    /// The bytes of an entry. Some of those behind it are read as well: the next records mostly lie there.
    fn read(&mut self, place: Place) -> io::Result<Bytes> {
        let len = place.len as usize;
        if let Some((segment, at, bytes)) = &self.ahead
            && *segment == place.segment
            && let Some(from) = place.at.checked_sub(*at)
            && let Some(found) = bytes.get(from as usize..from as usize + len)
        {
            return Ok(Bytes::copy_from_slice(found));
        }
        let file = place.segment.to_string();
        let end = find(&mut self.segments, place).map_or(0, |segment| segment.bytes);
        let ahead = (end.saturating_sub(place.at) as usize).min(READ_AHEAD);
        if ahead > len
            && let Ok(bytes) = self.disk.read_at(&file, place.at, ahead)
        {
            let found = Bytes::copy_from_slice(&bytes[..len]);
            self.ahead = Some((place.segment, place.at, bytes));
            return Ok(found);
        }
        self.disk.read_at(&file, place.at, len).map(Bytes::from)
    }

    /// All rows of an INSERT are in ClickHouse or kept as dead letters.
    pub fn done(&mut self, id: u64) {
        let Some(settled) = self.queue.settle(id) else { return };
        let places = settled.records.iter().filter_map(|sequence| self.records.remove(sequence)?.place);
        self.settled.insert(id, places.collect());
        self.group.push(Kind::Done, id, |_| ());
    }

    /// Deletes segments of which all records are done, where that is synced. To be called after [`Log::commit`], and again
    /// when there is no room.
    pub fn sweep(&mut self) -> io::Result<()> {
        // A full disk may not even take the entries that say what is done. If a crash comes before they are written, the
        // INSERTs that reach beyond a deleted segment are sent again, under their tokens, without what was in it.
        if self.is_failing {
            for place in std::mem::take(&mut self.settled).into_values().flatten() {
                close_record(&mut self.segments, place);
            }
        }
        self.sweep_front()?;
        self.sweep_behind()
    }

    fn sweep_front(&mut self) -> io::Result<()> {
        while let Some(segment) = self.segments.front() {
            let is_last = self.segments.len() == 1;
            let is_written = is_last && self.file.is_some() && segment.bytes < self.options.segment_bytes;
            let is_wanted = is_written || self.has_receipts(segment.name);
            if segment.open > 0 || (is_wanted && !self.is_out_of_room()) {
                break;
            }
            self.delete(0)?;
            if is_last {
                self.file = None;
            }
        }
        Ok(())
    }

    /// Segments behind one that is still wanted, but for the last. Such a segment may say what is done in front of it: that
    /// is said again, and it goes after the next commit.
    fn sweep_behind(&mut self) -> io::Result<()> {
        for at in (1..self.segments.len().saturating_sub(1)).rev() {
            let Segment { name, open, said_again, .. } = self.segments[at];
            if open == 0 && said_again.is_some_and(|commit| commit < self.commits) && !self.has_receipts(name)
            {
                self.delete(at)?;
            }
        }
        let is_new = |at: &usize| self.segments[*at].open == 0 && self.segments[*at].said_again.is_none();
        let Some(last) = (1..self.segments.len().saturating_sub(1)).rev().find(is_new) else { return Ok(()) };
        let in_front: BTreeSet<u64> =
            self.segments.range(..last).flat_map(|segment| &segment.inserts).copied().collect();
        for insert in in_front.into_iter().filter(|insert| self.queue.get(*insert).is_none()) {
            self.group.push(Kind::Done, insert, |_| ());
        }
        for segment in self.segments.range_mut(1..=last).filter(|segment| segment.open == 0) {
            segment.said_again.get_or_insert(self.commits);
        }
        Ok(())
    }

    /// Whether what is remembered would be forgotten with this segment.
    fn has_receipts(&self, name: Name) -> bool {
        !self.remembered.is_empty() && self.receipts_in.is_none_or(|segment| segment == name)
    }

    fn delete(&mut self, at: usize) -> io::Result<()> {
        match self.disk.remove(&self.segments[at].name.to_string()) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
        // Otherwise a crash could bring it back without another one, deleted after it, that says that it is done.
        self.disk.sync_names()?;
        self.segments.remove(at);
        Ok(())
    }

    /// Ends the log where it can be told from one that was cut off. What is not settled is found at the next start.
    pub fn close(mut self) -> io::Result<()> {
        self.commit()?;
        self.end_segment()
    }

    /// Whether nothing more is to be appended: `maxBytes` are reached, or the disk does not take what came before.
    pub fn is_full(&self) -> bool {
        self.is_failing || self.is_out_of_room()
    }

    fn is_out_of_room(&self) -> bool {
        self.bytes() + self.group.len() as u64 >= self.options.max_bytes
    }

    /// Whether [`Log::commit`] has anything to do.
    pub fn has_uncommitted(&self) -> bool {
        !self.group.is_empty()
    }

    /// What is known of the broker's session of a connection: only of what is synced.
    pub fn session(&self, connection: u32) -> Option<&Session> {
        self.remembered.session(connection)
    }

    /// Bytes on disk.
    pub fn bytes(&self) -> u64 {
        self.segments.iter().map(|segment| segment.bytes).sum()
    }

    pub fn segments(&self) -> usize {
        self.segments.len()
    }

    /// When the oldest message came that is not settled.
    pub fn oldest(&self) -> Option<SystemTime> {
        self.queue.oldest()
    }

    /// Records that are not done.
    pub fn open_records(&self) -> usize {
        self.records.len()
    }

    /// What it holds in memory: what is kept, what is not written yet, and a place for each record.
    pub fn memory_bytes(&self) -> usize {
        self.kept_bytes + self.group.len() + self.records.len() * RECORD_BYTES
    }

    /// When [`Log::take`] may have something that it has not now, if nothing else happens.
    pub fn due_at(&self, now: Instant) -> Option<Instant> {
        self.queue.due_at(now)
    }

    /// What was put aside since the last call.
    pub fn take_damages(&mut self) -> Vec<Damage> {
        std::mem::take(&mut self.damages)
    }
}

/// The segments are few, and the one sought is mostly the first or the last.
fn find(segments: &mut VecDeque<Segment>, place: Place) -> Option<&mut Segment> {
    segments.iter_mut().find(|segment| segment.name == place.segment)
}

pub(in crate::spool) fn open_record(segments: &mut VecDeque<Segment>, place: Place) {
    if let Some(segment) = find(segments, place) {
        segment.open += 1;
    }
}

pub(in crate::spool) fn close_record(segments: &mut VecDeque<Segment>, place: Place) {
    if let Some(segment) = find(segments, place) {
        segment.open -= 1;
    }
}

/// Another one for each segment of each life, by the SplitMix64 of both.
fn marker(life: u64, number: u64) -> u64 {
    let mut z = life.wrapping_add(number.wrapping_mul(0x9e37_79b9_7f4a_7c15));
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}
