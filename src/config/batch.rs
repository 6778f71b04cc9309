//! The `batch` section.

use std::time::Duration;

use crate::config::ceiling::Ceiling;
use crate::config::object_reader::ObjectReader;
use crate::config::schema::BATCH;
use crate::core::error::Result;

/// ClickHouse squashes the blocks of one INSERT up to this number of rows: beyond it an INSERT is not atomic.
/// Source: `DEFAULT_INSERT_BLOCK_SIZE` in ClickHouse's `src/Core/Defines.h`.
pub const MAX_BLOCK_ROWS: usize = 1_048_449;

/// When a batch is sealed.
#[derive(Debug, Clone, Copy)]
pub struct Limits {
    pub rows: usize,
    pub bytes: usize,
    /// The limit of columns and messages together: a share of `memory.maxBytes`.
    pub total_bytes: usize,
    /// Age of the oldest row.
    pub delay: Duration,
}

/// `section`: `None` where it was left out.
pub fn batch(section: Option<ObjectReader<'_>>, memory: Ceiling) -> Result<Limits> {
    let o = section.unwrap_or_else(|| ObjectReader::empty(&BATCH));
    let limits = Limits {
        rows: o.integer_or_default("maxRows")? as usize,
        bytes: memory.within_share(&o, "maxBytes")? as usize,
        total_bytes: memory.share() as usize,
        delay: o.duration_or_default("maxDelayMs")?,
    };
    o.finish()?;
    Ok(limits)
}
