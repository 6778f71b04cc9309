//! `retry.maxAgeMs`: a batch that has failed for too long ends as dead letters, with the last words of ClickHouse.

use std::ops::Range;
use std::sync::Arc;
use std::time::{Instant, SystemTime};

use crate::core::error::Error;
use crate::core::reason::{Code, Reason};
use crate::ingest::batch::Batch;
use crate::sink::parts::count;
use crate::sink::worker::{RejectedRows, Worker};
use crate::spool;
use crate::telemetry::events::Warning;
use crate::telemetry::metrics::add;

/// The last error of an INSERT that is given up.
pub(super) fn final_reason(error: &Error, may_be_in: bool) -> Arc<str> {
    match may_be_in {
        true => format!("{error}; the table may have its rows all the same").into(),
        false => error.to_string().into(),
    }
}

impl Worker {
    /// From when on a failure of this batch is its last. `None`: never.
    pub(super) fn expires_at(&self, batch: &Batch) -> Option<Instant> {
        batch.opened_at.checked_add(self.context.config.clickhouse.retry_max_age?)
    }

    pub(super) fn is_expired(&self, batch: &Batch) -> bool {
        self.expires_at(batch).is_some_and(|at| at <= Instant::now())
    }

    /// The same of an INSERT that lies in the spool: by the clock of the system, since it may be older than the process.
    pub(super) fn spooled_expires_at(&self, insert: &spool::Insert) -> Option<Instant> {
        opened_at(insert).checked_add(self.context.config.clickhouse.retry_max_age?)
    }

    /// The messages of a batch that become dead letters because their INSERT failed for too long.
    pub(super) fn expire(&self, batch: &Batch, part: &[Range<usize>], reason: Arc<str>) -> RejectedRows {
        let table = &self.context.config.route(batch.route).table;
        let reason = self.expiry(table, Some(batch.route), count(part), &reason);
        part.iter().cloned().flatten().map(|at| (at, reason.clone())).collect()
    }

    /// Warns of it, and gives the reason for the dead letters.
    pub(super) fn expiry(&self, table: &str, route: Option<usize>, messages: usize, reason: &str) -> Reason {
        add(&self.context.metrics.inserts_failed, 1);
        let text = format!(
            "{table}: {messages} messages become dead letters, because their INSERT failed for longer than \
             clickhouse.retry.maxAgeMs: {reason}"
        );
        let mut warning = Warning::new("RETRY_EXPIRED", text).table(table).reason(reason).messages(messages);
        if let Some(route) = route {
            warning = warning.route(route);
        }
        self.context.warn(warning);
        let text = format!("its INSERT failed for longer than clickhouse.retry.maxAgeMs: {reason}");
        Reason::new(Code::RetryExpired, text)
    }
}

/// When the first message of an INSERT came, as this process would have noted it.
pub(super) fn opened_at(insert: &spool::Insert) -> Instant {
    let first = insert.records.iter().map(|record| record.received_at).min();
    let ago = first.and_then(|first| SystemTime::now().duration_since(first).ok()).unwrap_or_default();
    let now = Instant::now();
    now.checked_sub(ago).unwrap_or(now)
}
