//! Bytes of a segment that had been synced and can no longer be read. They are copied to a file of their own: quarantined.

use std::fmt;
use std::io;

use crate::spool::wal::storage::{Disk, DiskFile};

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CorruptRange {
    pub segment: String,
    pub at: u64,
    pub len: usize,
    /// The record, if its header can be read.
    pub sequence: Option<u64>,
    /// The name of the file with the bytes.
    pub file: String,
}

/// The end of the names of such files.
pub(in crate::spool) const DAMAGED: &str = ".damaged";

impl CorruptRange {
    pub fn new(segment: String, at: u64, len: usize, sequence: Option<u64>) -> CorruptRange {
        let file = format!("{segment}-{at}{DAMAGED}");
        CorruptRange { segment, at, len, sequence, file }
    }
}

impl fmt::Display for CorruptRange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let CorruptRange { segment, at, len, file, .. } = self;
        write!(f, "{len} bytes of {segment} at {at} cannot be read")?;
        if let Some(sequence) = self.sequence {
            write!(f, " (record {sequence})")?;
        }
        write!(f, "; they were put aside in {file}")
    }
}

/// Copies the bytes of a corrupt range to its file. `false`: an earlier process did it.
pub(in crate::spool) fn quarantine<D: Disk>(
    disk: &D,
    damage: &CorruptRange,
    bytes: &[u8],
) -> io::Result<bool> {
    match disk.read(&damage.file) {
        Ok(before) if before == bytes => return Ok(false),
        // A crash interrupted the copy.
        Ok(_) => disk.remove(&damage.file)?,
        Err(error) if error.kind() == io::ErrorKind::NotFound => {}
        Err(error) => return Err(error),
    }
    let mut file = disk.create(&damage.file)?;
    file.write(bytes)?;
    file.sync()?;
    disk.sync_names()?;
    Ok(true)
}
