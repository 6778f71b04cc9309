//! Reports what a spool directory holds. A pipeline may have it in use.

use std::io;
use std::time::SystemTime;

use crate::core::error::{Error, Result};
use crate::spool::wal::chain::Missing;
use crate::spool::wal::corruption::{ChainBreak, CorruptRange, DAMAGED};
use crate::spool::wal::entry::HEADER;
use crate::spool::wal::record::StreamKey;
use crate::spool::wal::scan::{Scan, TruncatedTail};
use crate::spool::wal::storage::Disk;

#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub struct Inspection {
    pub segments: usize,
    pub bytes: u64,
    /// Records that are not done, by stream.
    pub streams: Vec<Backlog>,
    /// Ranges of the present segments that cannot be read.
    pub damages: Vec<CorruptRange>,
    /// The files with quarantined bytes, of these segments or earlier ones.
    pub quarantined: Vec<String>,
    pub torn: Vec<TruncatedTail>,
    /// Bytes that had been synced and are gone.
    pub breaks: Vec<ChainBreak>,
    /// How much is missing, if anything is damaged and it is known.
    pub missing: Option<Missing>,
    /// Files in the directory that no spool creates.
    pub foreign: Vec<String>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Backlog {
    pub stream: StreamKey,
    pub records: u64,
    pub rows: u64,
    pub messages: u64,
    /// Bytes of blocks and messages, compressed.
    pub bytes: u64,
    pub oldest: SystemTime,
}

const ATTEMPTS: usize = 10;

pub fn inspect<D: Disk>(disk: &D) -> Result<Inspection> {
    // The owner of the lock may write and delete segments while they are read here. So what is missing must be missing twice.
    let mut breaks = None;
    for _ in 1..ATTEMPTS {
        match read(disk) {
            Err(Error::SpoolIo { source, .. }) if source.kind() == io::ErrorKind::NotFound => {}
            Ok(found) if found.breaks.is_empty() || breaks.as_ref() == Some(&found.breaks) => {
                return Ok(found);
            }
            Ok(found) => breaks = Some(found.breaks),
            Err(error) => return Err(error),
        }
    }
    read(disk)
}

fn read<D: Disk>(disk: &D) -> Result<Inspection> {
    let scan = Scan::of(disk)?;
    let mut streams = Vec::<Backlog>::new();
    for found in scan.open.values() {
        let (stream, oldest) = (&found.kind.stream, found.received_at);
        let at = streams.iter().position(|backlog| backlog.stream == *stream).unwrap_or_else(|| {
            streams.push(Backlog {
                stream: stream.clone(),
                records: 0,
                rows: 0,
                messages: 0,
                bytes: 0,
                oldest,
            });
            streams.len() - 1
        });
        let backlog = &mut streams[at];
        backlog.records += 1;
        backlog.rows += u64::from(found.rows);
        backlog.messages += u64::from(found.messages);
        backlog.bytes += u64::from(found.location.len) - HEADER as u64;
        backlog.oldest = backlog.oldest.min(oldest);
    }
    let names = disk.names().map_err(|source| Error::spool_io(disk.path(), source))?;
    Ok(Inspection {
        segments: scan.segments.len(),
        bytes: scan.segments.iter().map(|segment| segment.bytes).sum(),
        streams,
        damages: scan.damages,
        quarantined: names.into_iter().filter(|name| name.ends_with(DAMAGED)).collect(),
        torn: scan.torn,
        breaks: scan.breaks,
        missing: scan.missing,
        foreign: scan.foreign,
    })
}
