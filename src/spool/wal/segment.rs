//! A segment: one file of the log.

use std::collections::BTreeSet;
use std::fmt;

/// The name of a segment. It carries what must be known before a byte is read.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Name {
    /// Segments are numbered in the order in which they were begun.
    pub number: u64,
    /// What every entry begins with. Random, so that a payload cannot look like an entry.
    pub marker: u64,
}

/// The version of the layout.
pub const VERSION: u32 = 1;
const PREFIX: &str = "segment-";

impl fmt::Display for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{PREFIX}{:010}-{:016x}.v{VERSION}", self.number, self.marker)
    }
}

/// What the name of a file in the directory says.
#[derive(Debug, PartialEq, Eq)]
pub enum Said {
    Segment(Name),
    /// A segment of a version that we do not know.
    OtherVersion,
    /// No segment: the lock, damaged bytes, or none of ours.
    Other,
}

impl Name {
    pub fn parse(file: &str) -> Said {
        let Some((stem, version)) = file.strip_prefix(PREFIX).and_then(|rest| rest.rsplit_once(".v")) else {
            return Said::Other;
        };
        if !version.bytes().all(|byte| byte.is_ascii_digit()) {
            return Said::Other;
        }
        let name = stem.split_once('-').and_then(|(number, marker)| {
            Some(Name { number: number.parse().ok()?, marker: u64::from_str_radix(marker, 16).ok()? })
        });
        match name {
            Some(name) if name.to_string() == file => Said::Segment(name),
            _ => Said::OtherVersion,
        }
    }
}

/// What the log knows of one of its segments.
#[derive(Debug)]
pub struct Segment {
    pub name: Name,
    pub bytes: u64,
    /// Records in it that are not done, by what was synced.
    pub open: usize,
    /// The INSERTs of all records that it may hold, copies that were written again elsewhere included.
    pub inserts: BTreeSet<u64>,
    /// What it may say of those in front of it was said again, for the commit after so many.
    pub said_again: Option<u64>,
}

impl Segment {
    pub fn new(name: Name, bytes: u64) -> Segment {
        Segment { name, bytes, open: 0, inserts: BTreeSet::new(), said_again: None }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_come_back() {
        let name = Name { number: 7, marker: 0xfeed };
        assert_eq!(name.to_string(), "segment-0000000007-000000000000feed.v1");
        assert_eq!(Name::parse(&name.to_string()), Said::Segment(name));
        assert_eq!(Name::parse("segment-0000000007-000000000000feed.v2"), Said::OtherVersion);
        assert_eq!(Name::parse("segment-7.v12"), Said::OtherVersion);
        for other in ["lock", "segment-0000000007-000000000000feed.v1-40.damaged", "notes.v1"] {
            assert_eq!(Name::parse(other), Said::Other, "{other}");
        }
    }
}
