//! The messages between the spool's thread and the others.

use std::sync::{Arc, Weak};

use crossbeam_channel::Sender;

use crate::ingest::completion::Completion;
use crate::spool::cuts::Cuts;
use crate::spool::wal::read::Insert;
use crate::telemetry::trace::Trace;

/// A request of the pipeline to the spool.
#[derive(Debug)]
pub enum Control {
    /// Until this is dropped, INSERTs go out whatever their age.
    FlushNow(Weak<()>),
    /// The sender is dropped once all that was sealed before is committed.
    Commit(Sender<()>),
    /// Is answered with the number of messages that are not settled.
    Count(Sender<u64>),
    /// All is cancelled.
    Cancel,
}

/// An INSERT on its way to a worker.
#[derive(Debug)]
pub struct InsertJob {
    pub insert: Insert,
    /// How it is divided, or where that is to be noted.
    pub cuts: Arc<Cuts>,
    /// Settles the messages of all its records.
    pub completion: Completion,
    /// Dropped when the worker can take another job.
    pub permit: WorkerPermit,
    /// Set if some of its batches are sampled.
    pub trace: Option<Box<Trace>>,
}

/// One INSERT under way, until it is dropped: then the spool's thread may hand out another one. The dead letters of the
/// first may still wait to be stored.
#[derive(Debug)]
pub struct WorkerPermit(Sender<()>);

impl WorkerPermit {
    pub fn new(freed: &Sender<()>) -> WorkerPermit {
        WorkerPermit(freed.clone())
    }
}

impl Drop for WorkerPermit {
    fn drop(&mut self) {
        // The spool's thread waits for all permits; it is only gone if it panicked.
        let _ = self.0.send(());
    }
}
