//! A batch that does not go in as one INSERT goes in in parts: too many partitions for one block, a memory limit, or a
//! proxy's limit on the size of a request.
//!
//! Each part has a token of its own, made of the batch's token and the part's place, and goes in whole or not at all. The
//! size that went in is remembered for later batches of the route, and grows again while they go in.

use std::ops::Range;
use std::slice;

use crate::clickhouse::insert_request::ViewMode;
use crate::core::reason::{Code, Reason};
use crate::ingest::batch::Batch;
use crate::sink::batch_insert::InsertOutcome;
use crate::sink::worker::{RejectedRows, Worker};
use crate::telemetry::events::Warning;

impl Worker {
    /// Inserts the messages in parts of at most `limit` messages. `None`: cancelled.
    pub(super) async fn insert_in_parts(
        &mut self,
        batch: &mut Batch,
        all: Range<usize>,
        limit: usize,
        token: &str,
    ) -> Option<RejectedRows> {
        let mut rejected = Vec::new();
        // The next part is the last one, so that they go in in order.
        let mut parts: Vec<_> = divide(all, limit).rev().collect();
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
                    parts.extend(divide(part.clone(), part.len().div_ceil(2)).rev());
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
