//! The log on disk: records in, INSERTs out.
//!
//! [`log`] appends, commits and hands out records; [`entry`], [`segment`] and [`record`] are its bytes, [`write_batch`] what
//! is written and synced together. [`scan`] and [`recovery`] read a directory again, [`corruption`] keeps what cannot be read.
//! [`storage`] is the file system as the log sees it.

pub(super) mod corruption;
pub(super) mod entry;
pub(super) mod log;
pub(super) mod record;
pub(super) mod recovery;
pub(super) mod scan;
mod segment;
pub mod storage;
pub mod write_batch;
