//! A batch that one INSERT cannot take is inserted in parts: too many partitions for one block, a
//! memory limit, or a proxy's limit on the size of a request.
//!
//! Each part has a token of its own, made of the batch's token and the part's place, and is inserted
//! completely or not at all. The size that succeeded is remembered for later batches of the route, and
//! grows again while they succeed.

use std::ops::Range;
use std::slice;

use crate::clickhouse::insert_request::ViewMode;
use crate::clickhouse::retry::SLOW;
use crate::core::error::Error;
use crate::core::reason::{Code, Reason};
use crate::ingest::batch::Batch;
use crate::sink::batch_insert::InsertOutcome;
use crate::sink::worker::{RejectedRows, Worker};
use crate::telemetry::events::Warning;

/// Whether a division is noted in the spool, where the messages come from there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Division {
    /// A part of an undivided batch: a later process must make it in the same way.
    Kept,
    /// A part of a part that was refused for its rows: it is found again in the same way.
    Found,
}

impl Worker {
    /// Inserts a batch in parts of at most `limit` messages. `None`: cancelled.
    pub(super) async fn insert_divided(
        &mut self,
        batch: &mut Batch,
        limit: usize,
        token: &str,
    ) -> Option<RejectedRows> {
        let parts: Vec<_> = divide(0..batch.messages.len(), limit).collect();
        self.keep_parts(batch, token, &parts).await?;
        self.insert_parts(batch, parts, token, Division::Kept).await
    }

    /// The parts in which a batch of the spool was sent before.
    pub(super) fn kept_parts(&self, batch: &Batch, token: &str) -> Option<Vec<Range<usize>>> {
        let (insert, cuts) = self.spooled.as_ref()?;
        cuts.parts(*insert, token, batch.messages.len())
    }

    /// Notes the parts before any of them is attempted. Parts that cannot be noted are not attempted.
    /// `None`: cancelled.
    async fn keep_parts(&mut self, batch: &Batch, token: &str, parts: &[Range<usize>]) -> Option<()> {
        let Some((insert, cuts)) = self.spooled.clone() else { return Some(()) };
        let context = self.context.clone();
        let mut fault = context.no_fault();
        while let Err(source) = cuts.record(insert, token, batch.messages.len(), parts) {
            let dir = context.config.spool.as_ref().map_or_else(Default::default, |spool| spool.dir.clone());
            let error = Error::spool_io(&dir, source);
            let message =
                format!("{error}; an INSERT that must be divided waits until its parts can be noted there");
            let warning = Warning::new("SPOOL_IO", message).dir(&dir).error(&error).retry_in(SLOW);
            context.warn_of_fault(&mut fault, warning);
            self.wait(&context.config.route(batch.route).table, SLOW).await?;
        }
        Some(())
    }

    /// Inserts some messages of a batch in parts of at most `limit` messages. `None`: cancelled.
    pub(super) async fn insert_in_parts(
        &mut self,
        batch: &mut Batch,
        all: Range<usize>,
        limit: usize,
        token: &str,
    ) -> Option<RejectedRows> {
        self.insert_parts(batch, divide(all, limit).collect(), token, Division::Found).await
    }

    /// Inserts these parts, and parts of them. `None`: cancelled.
    pub(super) async fn insert_parts(
        &mut self,
        batch: &mut Batch,
        mut all: Vec<Range<usize>>,
        token: &str,
        division: Division,
    ) -> Option<RejectedRows> {
        let mut rejected = Vec::new();
        let limit = all.iter().map(Range::len).max().unwrap_or(usize::MAX);
        // The next part is the last one, so that they are inserted in order.
        let mut parts: Vec<_> = all.iter().cloned().rev().collect();
        let mut smallest = usize::MAX;
        while let Some(part) = parts.pop() {
            let part_token = format!("{token}-{}-{}", part.start, part.len());
            let chosen = slice::from_ref(&part);
            match self.insert_until_settled(batch, None, chosen, &part_token, ViewMode::Normal).await? {
                InsertOutcome::Inserted(more) => rejected.extend(more),
                InsertOutcome::Rejected(rejection) => {
                    let reason = rejection.reason.clone();
                    match self.isolate_bad_rows(batch, part.clone(), &part_token, rejection).await? {
                        Some(more) => rejected.extend(more),
                        None if self.is_expired(batch) => rejected.extend(self.expire(batch, part, reason)),
                        None => parts.push(part),
                    }
                }
                InsertOutcome::TooLarge(reason) if part.len() == 1 => {
                    // Nothing smaller can be sent. An INSERT of no rows shows that the message is at fault.
                    if self.control_insert(batch).await? {
                        rejected.push((part.start, Reason::new(Code::RejectedByClickHouse, reason)));
                    } else if self.is_expired(batch) {
                        rejected.extend(self.expire(batch, part, reason));
                    } else {
                        parts.push(part);
                    }
                }
                InsertOutcome::Expired(reason) => rejected.extend(self.expire(batch, part, reason)),
                InsertOutcome::TooLarge(_) => {
                    smallest = smallest.min(part.len().div_ceil(2));
                    let halves: Vec<_> = divide(part.clone(), part.len().div_ceil(2)).collect();
                    if division == Division::Kept
                        && let Some(at) = all.iter().position(|known| *known == part)
                    {
                        all.splice(at..=at, halves.clone());
                        self.keep_parts(batch, token, &all).await?;
                    }
                    parts.extend(halves.into_iter().rev());
                }
            }
        }
        self.plans.record_part_limit(batch.route, smallest.min(limit));
        rejected.sort_by_key(|(at, _)| *at);
        Some(rejected)
    }

    pub(super) fn warn_split(&self, batch: &Batch, reason: &str) {
        let table = &self.context.config.route(batch.route).table;
        let messages = batch.messages.len();
        let message =
            format!("{table}: {messages} messages do not go in as one INSERT and go in in parts: {reason}");
        let warning = Warning::new("BATCH_SPLIT", message).table(table).route(batch.route).reason(reason);
        self.context.warn(warning.messages(messages));
    }
}

/// Consecutive ranges of at most `limit` messages.
fn divide(all: Range<usize>, limit: usize) -> impl DoubleEndedIterator<Item = Range<usize>> {
    let limit = limit.max(1);
    let count = all.len().div_ceil(limit);
    (0..count).map(move |at| {
        let start = all.start + at * limit;
        start..all.end.min(start + limit)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_cover_all_messages_in_order() {
        let parts = |all: Range<usize>, limit| divide(all, limit).collect::<Vec<_>>();
        assert_eq!(parts(2..9, 3), [2..5, 5..8, 8..9]);
        assert_eq!(parts(0..4, 2), [0..2, 2..4]);
        assert_eq!(parts(0..2, 0), [0..1, 1..2]);
        assert_eq!(parts(3..3, 5), [0usize..0; 0]);
    }
}
