//! What a pipeline tells its owner. The binding turns these into JavaScript events.

use crate::core::dead_letter::DeadLetter;
use crate::core::error::Error;
use crate::core::memory_budget::MemoryReservation;
use crate::telemetry::metrics::Metrics;
use crate::telemetry::trace::Trace;

#[derive(Debug)]
pub enum Event {
    Metrics(Box<Metrics>),
    /// They count as memory until they are handed over.
    DeadLetters(Vec<DeadLetter>, MemoryReservation),
    State {
        state: &'static str,
        previous: &'static str,
    },
    Warning {
        code: &'static str,
        message: String,
    },
    /// Of a sampled batch that has been settled.
    Trace(Box<Trace>),
    /// It cannot go on by itself.
    Error(Error),
}

/// Called from any thread; must not block.
pub type Listener = Box<dyn Fn(Event) + Send + Sync>;
