//! The files of a spool directory, by their names.

use crate::clickhouse::schema::remembered;
use crate::core::error::{Error, Result};
use crate::spool::cuts;
use crate::spool::wal::corruption::DAMAGED;
use crate::spool::wal::segment::{ParsedName, SegmentId};
use crate::spool::wal::state;
use crate::spool::wal::storage::{Disk, LOCK};

#[derive(Debug, Default)]
pub struct Listing {
    /// In the order of their numbers.
    pub segments: Vec<SegmentId>,
    /// The numbers of the state files.
    pub state_files: Vec<u64>,
    /// Files that no spool creates.
    pub foreign: Vec<String>,
}

/// Names that file systems themselves put into their uppermost directory.
const OF_THE_SYSTEM: &str = "lost+found";

impl Listing {
    /// Fails if a segment has a version that this code does not know.
    pub fn of<D: Disk>(disk: &D) -> Result<Listing> {
        let names = disk.names().map_err(|source| Error::spool_io(disk.path(), source))?;
        let mut listing = Listing::default();
        for file in names {
            match SegmentId::parse(&file) {
                ParsedName::Segment(id) => listing.segments.push(id),
                ParsedName::OtherVersion => return Err(Error::spool_version(disk.path(), &file)),
                ParsedName::Other => match state::number_of(&file) {
                    Some(number) => listing.state_files.push(number),
                    None if [LOCK, OF_THE_SYSTEM].contains(&&*file) || file.ends_with(DAMAGED) => {}
                    None if cuts::is_file_name(&file) || remembered::is_file_name(&file) => {}
                    None => listing.foreign.push(file),
                },
            }
        }
        listing.segments.sort();
        listing.foreign.sort();
        Ok(listing)
    }
}
