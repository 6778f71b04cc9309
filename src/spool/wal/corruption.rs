//! Bytes of a segment that had been synced and can no longer be read. They are copied to a file of their own: quarantined.

use std::fmt;
use std::io;

use crate::spool::wal::retention::is_storage_full;
use crate::spool::wal::storage::{Disk, DiskFile};

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CorruptRange {
    pub segment: String,
    pub at: u64,
    pub len: usize,
    /// The record, if its header can be read.
    pub sequence: Option<u64>,
    /// The name of the file with the bytes. `None`: the bytes are gone.
    pub file: Option<String>,
}

/// The end of the names of such files.
pub(in crate::spool) const DAMAGED: &str = ".damaged";

impl CorruptRange {
    pub fn new(segment: String, at: u64, len: usize, sequence: Option<u64>) -> CorruptRange {
        let file = Some(format!("{segment}-{at}{DAMAGED}"));
        CorruptRange { segment, at, len, sequence, file }
    }

    /// A record whose bytes are not in its file any more, or the file is not there.
    pub fn gone(segment: String, at: u64, len: usize, sequence: u64) -> CorruptRange {
        CorruptRange { segment, at, len, sequence: Some(sequence), file: None }
    }
}

/// Bytes that had been synced and are not there: a segment was deleted, emptied, cut off or replaced.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ChainBreak {
    /// The file, or the beginning of its name if it is not there.
    pub segment: String,
    pub at: u64,
    /// 0: the file has other content than was synced.
    pub len: u64,
}

/// Stands for the state file.
pub(super) const STATE: &str = "state";

impl fmt::Display for ChainBreak {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let ChainBreak { segment, at, len } = self;
        match (at, len) {
            (0, 0) if segment == STATE => {
                write!(
                    f,
                    "the state file was removed or cannot be read: whether segments are missing is not known"
                )
            }
            (0, 0) => write!(f, "{segment} holds something else than was synced"),
            (0, len) => {
                write!(f, "{len} bytes of {segment} had been synced: the file was removed or emptied")
            }
            (at, len) => write!(f, "{segment} ends at {at}, although {len} more bytes had been synced"),
        }
    }
}

impl fmt::Display for CorruptRange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let CorruptRange { segment, at, len, file, .. } = self;
        write!(f, "{len} bytes of {segment} at {at} cannot be read")?;
        if let Some(sequence) = self.sequence {
            write!(f, " (record {sequence})")?;
        }
        match file {
            Some(file) => write!(f, "; they were put aside in {file}"),
            None => write!(f, "; they could not be put aside"),
        }
    }
}

/// Copies the bytes of a corrupt range to its file. `false`: an earlier process did it. On a full disk it has no file then.
pub(in crate::spool) fn quarantine<D: Disk>(
    disk: &D,
    damage: &mut CorruptRange,
    bytes: &[u8],
) -> io::Result<bool> {
    let Some(file) = &damage.file else { return Ok(true) };
    match disk.read(file) {
        Ok(before) if before == bytes => return Ok(false),
        // A crash interrupted the copy.
        Ok(_) => disk.remove(file)?,
        Err(error) if error.kind() == io::ErrorKind::NotFound => {}
        Err(error) => return Err(error),
    }
    let mut copy = disk.create(file)?;
    match copy.write(bytes).and_then(|()| copy.sync()) {
        Err(error) if is_storage_full(&error) => {
            disk.remove(file)?;
            damage.file = None;
        }
        written => written?,
    }
    disk.sync_names()?;
    Ok(true)
}
