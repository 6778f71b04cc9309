//! The `spool` section.

use std::path::PathBuf;
use std::time::Duration;

use crate::config::object_reader::Options;
use crate::core::error::Result;

#[derive(Debug, Clone)]
pub struct Spool {
    pub dir: PathBuf,
    /// Of all segments. Soft: what is committed together may pass it.
    pub max_bytes: u64,
    /// The longest that a message waits before it is committed.
    pub commit: Duration,
    /// A segment that has so many takes no more. Soft in the same way.
    pub segment_bytes: u64,
}

pub fn spool(mut o: Options<'_>) -> Result<Spool> {
    let dir =
        o.string("dir")?.ok_or_else(|| o.wrong("dir", "is required: a directory for this spool alone"))?;
    if dir.is_empty() {
        return Err(o.wrong("dir", "must not be empty"));
    }
    let max_bytes = o.integer("maxBytes", 1 << 20, 1 << 50)?.unwrap_or(4 << 30);
    let commit = o.integer("commitMs", 1, 1000)?.unwrap_or(5);
    let segment_bytes = o.integer("segmentBytes", 64 << 10, 1 << 30)?;
    if segment_bytes.is_some_and(|bytes| bytes > max_bytes) {
        return Err(o.wrong("segmentBytes", "must not be more than maxBytes"));
    }
    o.finish()?;
    Ok(Spool {
        dir: dir.into(),
        max_bytes,
        commit: Duration::from_millis(commit),
        segment_bytes: segment_bytes.unwrap_or(64 << 20).min(max_bytes),
    })
}
