//! Bytes of a segment that had been synced and can no longer be read. They are kept in a file of their own.

use std::fmt;
use std::io;

use crate::spool::wal::storage::{Disk, DiskFile};

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Damage {
    pub segment: String,
    pub at: u64,
    pub len: usize,
    /// Where it is known which record it was.
    pub sequence: Option<u64>,
    /// Where the bytes are now.
    pub file: String,
}

/// What the names of such files end in.
pub(in crate::spool) const DAMAGED: &str = ".damaged";

impl Damage {
    pub fn new(segment: String, at: u64, len: usize, sequence: Option<u64>) -> Damage {
        let file = format!("{segment}-{at}{DAMAGED}");
        Damage { segment, at, len, sequence, file }
    }
}

impl fmt::Display for Damage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Damage { segment, at, len, file, .. } = self;
        write!(f, "{len} bytes of {segment} at {at} cannot be read")?;
        if let Some(sequence) = self.sequence {
            write!(f, " (record {sequence})")?;
        }
        write!(f, "; they were put aside in {file}")
    }
}

/// `false`: they had been put aside before.
pub(in crate::spool) fn put_aside<D: Disk>(disk: &D, damage: &Damage, bytes: &[u8]) -> io::Result<bool> {
    match disk.read(&damage.file) {
        Ok(before) if before == bytes => return Ok(false),
        // A crash left a part of it.
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
