//! The log on disk: records in, INSERTs out.
//!
//! | module | what it does |
//! | --- | --- |
//! | [`log`], `write_batch` | appends records and commits them |
//! | `record_index`, `read` | knows where the records are, and gives INSERTs out |
//! | `retention` | deletes segments |
//! | [`entry`], `segment`, [`record`] | the bytes on disk |
//! | `directory`, [`scan`], `chain`, [`recovery`] | read a directory that another process left |
//! | `state` | says what was synced last, in place |
//! | [`corruption`] | names damage, and quarantines bytes that cannot be read |
//! | [`storage`] | the file system |

pub(super) mod chain;
pub(super) mod corruption;
mod directory;
pub(super) mod entry;
pub(super) mod log;
pub(super) mod read;
pub(super) mod record;
mod record_index;
pub(super) mod recovery;
mod retention;
pub(super) mod scan;
mod segment;
mod state;
pub mod storage;
pub mod write_batch;
