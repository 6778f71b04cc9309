//! The `memory` section, and the options that must fit under its ceiling.
//!
//! A message is in memory more than once: as it was read, as columns, as a block, and with a spool as a
//! record. So one message or batch may take an eighth of the ceiling. Larger ones could not be taken
//! while anything else is there, or not at all.

use crate::config::object_reader::ObjectReader;
use crate::config::schema;
use crate::core::error::{Error, Result};
use crate::core::memory_budget::MemoryBudget;

/// `memory.maxBytes`.
#[derive(Debug, Clone, Copy)]
pub struct Ceiling {
    pub bytes: u64,
}

/// A segment of the spool is read as one when it is found at start, and nothing else is in memory then.
const SEGMENT_SHARE: u64 = 2;

impl Ceiling {
    pub fn read(root: &ObjectReader<'_>) -> Result<Ceiling> {
        let memory = root.section("memory")?.unwrap_or_else(|| ObjectReader::empty(&schema::MEMORY));
        let bytes = memory.integer_or_default("maxBytes")?;
        memory.finish()?;
        Ok(Ceiling { bytes })
    }

    /// The most that one message or batch may take.
    pub fn share(self) -> u64 {
        MemoryBudget::share_of(self.bytes as usize) as u64
    }

    /// A size that must be at most a share. One that was left out is smaller where the ceiling asks for that.
    pub fn within_share(self, o: &ObjectReader<'_>, name: &str) -> Result<u64> {
        self.within(o, name, self.share())
    }

    /// A size of a segment.
    pub fn within_segment(self, o: &ObjectReader<'_>, name: &str) -> Result<u64> {
        self.within(o, name, self.bytes / SEGMENT_SHARE)
    }

    /// The same for a size that is not made smaller silently, because messages are refused by it.
    pub fn within_share_always(self, o: &ObjectReader<'_>, name: &str) -> Result<u64> {
        let bytes = o.integer_or_default(name)?;
        if bytes > self.share() { Err(self.too_large(o, name, bytes, self.share())) } else { Ok(bytes) }
    }

    fn within(self, o: &ObjectReader<'_>, name: &str, limit: u64) -> Result<u64> {
        let bytes = o.integer_or_default(name)?;
        if o.has(name) && bytes > limit {
            return Err(self.too_large(o, name, bytes, limit));
        }
        Ok(bytes.min(limit))
    }

    /// Names both options, and what to set.
    fn too_large(self, o: &ObjectReader<'_>, name: &str, bytes: u64, limit: u64) -> Error {
        let times = self.bytes / limit.max(1);
        let path = o.path_of(name);
        let message = format!(
            "{bytes} bytes are too many for memory.maxBytes, {}: set memory.maxBytes to {} or more, or {path} to {limit} or \
             less",
            self.bytes,
            bytes * times
        );
        o.wrong(name, message)
    }
}
