//! Looking inside a directory, for whoever wonders what lies there. It may be in use.

use std::io;
use std::time::SystemTime;

use crate::core::error::{Error, Result};
use crate::spool::wal::corruption::{DAMAGED, Damage};
use crate::spool::wal::entry::HEADER;
use crate::spool::wal::record::Lane;
use crate::spool::wal::scan::{Scan, Torn};
use crate::spool::wal::storage::Disk;

#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub struct Inspection {
    pub segments: usize,
    pub bytes: u64,
    /// What is not done, by lane.
    pub lanes: Vec<Backlog>,
    /// What cannot be read in the segments that are there.
    pub damages: Vec<Damage>,
    /// The files with what was put aside, from these segments or earlier ones.
    pub aside: Vec<String>,
    pub torn: Vec<Torn>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Backlog {
    pub lane: Lane,
    pub records: u64,
    pub rows: u64,
    pub messages: u64,
    /// Of blocks and messages, compressed.
    pub bytes: u64,
    pub oldest: SystemTime,
}

const ATTEMPTS: usize = 10;

pub fn inspect<D: Disk>(disk: &D) -> Result<Inspection> {
    // Whoever has the lock may delete a segment that is just being looked at.
    for _ in 1..ATTEMPTS {
        match look(disk) {
            Err(Error::SpoolIo { source, .. }) if source.kind() == io::ErrorKind::NotFound => {}
            done => return done,
        }
    }
    look(disk)
}

fn look<D: Disk>(disk: &D) -> Result<Inspection> {
    let scan = Scan::of(disk)?;
    let mut lanes = Vec::<Backlog>::new();
    for found in scan.open.values() {
        let (lane, oldest) = (&found.kind.lane, found.received_at);
        let at = lanes.iter().position(|backlog| backlog.lane == *lane).unwrap_or_else(|| {
            lanes.push(Backlog { lane: lane.clone(), records: 0, rows: 0, messages: 0, bytes: 0, oldest });
            lanes.len() - 1
        });
        let backlog = &mut lanes[at];
        backlog.records += 1;
        backlog.rows += u64::from(found.rows);
        backlog.messages += u64::from(found.messages);
        backlog.bytes += u64::from(found.place.len) - HEADER as u64;
        backlog.oldest = backlog.oldest.min(oldest);
    }
    let names = disk.names().map_err(|source| Error::spool_io(disk.path(), source))?;
    Ok(Inspection {
        segments: scan.segments.len(),
        bytes: scan.segments.iter().map(|(_, bytes, _)| bytes).sum(),
        lanes,
        damages: scan.damages,
        aside: names.into_iter().filter(|name| name.ends_with(DAMAGED)).collect(),
        torn: scan.torn,
    })
}
