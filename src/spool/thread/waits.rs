//! How the thread of the spool waits, and its clock. A model of its threads has its own: it tries in which orders they can run.

use std::time::Instant;

use crossbeam_channel::{Receiver, after, select};

use crate::ingest::batch::Batch;
use crate::spool::job::Control;

pub trait Waits {
    fn now(&self) -> Instant;

    /// Waits for one of the sources, until `alarm` at the latest, or until the directory is to be checked.
    fn wait(&self, sources: &Sources<'_>, alarm: Option<Instant>, check_at: Instant) -> Woken;
}

pub struct Sources<'a> {
    pub batches: &'a Receiver<Box<Batch>>,
    pub settled: &'a Receiver<u64>,
    pub freed: &'a Receiver<()>,
    pub controls: &'a Receiver<Control>,
}

/// The end of a wait.
pub enum Woken {
    Batch(Box<Batch>),
    Settled(u64),
    Freed,
    Control(Control),
    Alarm,
    /// No more batches can come.
    Ended,
}

/// The clock of the system, and channels that block the thread.
pub struct SystemWaits;

impl Waits for SystemWaits {
    fn now(&self) -> Instant {
        Instant::now()
    }

    fn wait(&self, sources: &Sources<'_>, alarm: Option<Instant>, check_at: Instant) -> Woken {
        let at = alarm.map_or(check_at, |alarm| alarm.min(check_at));
        let alarm = after(at.saturating_duration_since(Instant::now()));
        select! {
            recv(sources.batches) -> batch => batch.map_or(Woken::Ended, Woken::Batch),
            recv(sources.settled) -> id => id.map_or(Woken::Ended, Woken::Settled),
            recv(sources.freed) -> _ => Woken::Freed,
            recv(sources.controls) -> control => control.map_or(Woken::Ended, Woken::Control),
            recv(alarm) -> _ => Woken::Alarm,
        }
    }
}
