//! The metrics of the spool, and the warnings about its disk and its space.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::SystemTime;

use crate::core::error::Error;
use crate::spool::thread::waits::Waits;
use crate::spool::thread::{Health, SpoolThread};
use crate::spool::wal::storage::Disk;
use crate::telemetry::events::Warning;
use crate::telemetry::metrics::{SpoolGauges, add};

impl<D: Disk, W: Waits> SpoolThread<D, W> {
    /// Brings memory and metrics up to date.
    pub(super) fn update_metrics(&mut self) {
        self.count_memory();
        let Some(gauges) = &self.context.metrics.spool else { return };
        let set = |gauge: &AtomicU64, value: u64| gauge.store(value, Ordering::Relaxed);
        let since = self.log.oldest().and_then(|at| at.duration_since(SystemTime::UNIX_EPOCH).ok());
        set(&gauges.blocked, u64::from(self.health.is_some()));
        set(&gauges.bytes, self.log.bytes());
        set(&gauges.segments, self.log.segments() as u64);
        set(&gauges.oldest_micros, since.map_or(0, |since| since.as_micros() as u64));
    }

    pub(super) fn count(&self, count: impl FnOnce(&SpoolGauges)) {
        if let Some(gauges) = &self.context.metrics.spool {
            count(gauges);
        }
    }

    pub(super) fn count_error(&self) {
        self.count(|gauges| add(&gauges.errors, 1));
    }

    pub(super) fn warn_of_failure(&mut self, source: std::io::Error) {
        if self.health.replace(Health::Failing) != Some(Health::Failing) {
            let error = Error::spool_io(self.dir(), source);
            let message = format!("{error}; nothing is acknowledged until it works again");
            self.context.warn_of_fault(&mut self.fault, Warning::new("SPOOL_IO", message).error(&error));
        }
    }

    /// Warns that `maxBytes` is reached, and reports when there is space again.
    pub(super) fn warn_of_room(&mut self) {
        if self.log.is_full() {
            if self.health.replace(Health::Full) != Some(Health::Full) {
                let message = format!(
                    "the spool {} has reached maxBytes: nothing is taken from the broker until ClickHouse has taken some of it",
                    self.dir().display()
                );
                let warning = Warning::new("SPOOL_FULL", message).dir(self.dir());
                self.context.warn_of_fault(&mut self.fault, warning);
            }
        } else if self.health.take().is_some() {
            self.fault.close();
            let message = format!("the spool {} has room again", self.dir().display());
            self.context.warn(Warning::new("SPOOL_RECOVERED", message).dir(self.dir()));
        }
    }

    pub(super) fn dir(&self) -> &std::path::Path {
        // There is no thread without the section.
        self.context.config.spool.as_ref().map_or_else(|| "".as_ref(), |spool| &*spool.dir)
    }
}
