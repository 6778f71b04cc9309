//! The `spool` section.

use std::path::PathBuf;
use std::time::Duration;

use crate::config::ceiling::Ceiling;
use crate::config::object_reader::ObjectReader;
use crate::core::error::Result;

#[derive(Debug, Clone)]
pub struct Spool {
    pub dir: PathBuf,
    /// The limit of all segments together. Soft: what is committed together may pass it.
    pub max_bytes: u64,
    /// The longest that a message waits before it is committed. `None`: it follows from other options.
    pub commit: Option<Duration>,
    /// A segment of this size takes no more records. Soft in the same way.
    pub segment_bytes: u64,
}

pub fn spool(o: ObjectReader<'_>, memory: Ceiling) -> Result<Spool> {
    let dir = o.required_text("dir")?;
    let max_bytes = o.integer_or_default("maxBytes")?;
    let commit = o.integer_unless_word("commitMs")?.map(Duration::from_millis);
    let segment_bytes = memory.within_segment(&o, "segmentBytes")?;
    if o.has("segmentBytes") && segment_bytes > max_bytes {
        return Err(o.wrong("segmentBytes", "must not be more than maxBytes"));
    }
    o.finish()?;
    Ok(Spool { dir: dir.into(), max_bytes, commit, segment_bytes: segment_bytes.min(max_bytes) })
}
