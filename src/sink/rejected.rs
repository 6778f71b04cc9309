//! Inserts the good rows of a batch that ClickHouse refused, and finds the bad ones.
//!
//! - **The table refused it**, as for a constraint. Then nothing of it is stored, and its halves are
//!   INSERTs of their own, under tokens of their own.
//! - **A materialized view refused it.** Then the table may have stored all of it, and so may other views: ClickHouse
//!   does not take back what it has written. Under another token it would be there twice. So the table is made to have
//!   all of it, halves are only tried on the views, and what they would take is sent under the first token: the table
//!   recognises it, and a view stores it unless it has done so before. This needs a table that remembers tokens.

use std::ops::Range;
use std::sync::Arc;

use crate::clickhouse::insert_request::ViewMode;
use crate::core::reason::{Code, Reason};
use crate::ingest::batch::Batch;
use crate::sink::batch_insert::{InsertOutcome, Rejection};
use crate::sink::bisect::{AttemptOutcome, Budget, Refused, halve};
use crate::sink::parts::{Division, count, part_token, select};
use crate::sink::worker::{RejectedRows, Worker};
use crate::spool::Part;
use crate::telemetry::events::Warning;

impl Worker {
    /// Inserts the good rows of messages that were refused together under `token`. Each half becomes a part of the division
    /// before it is sent. `Some(None)`: no row is at fault, and the INSERT is to be made again, in the parts that the division
    /// has by then. `None`: cancelled.
    pub(super) async fn isolate_bad_rows(
        &mut self,
        batch: &mut Batch,
        division: &mut Division,
        part: &[Range<usize>],
        token: &str,
        rejection: Rejection,
    ) -> Option<Option<RejectedRows>> {
        let plans = self.plans.clone();
        // Places within the part: its messages need not stand side by side.
        let all = 0..count(part);
        let budget = Budget::new(all.len(), plans.bisects_exhausted(batch.route));
        let mut rejected_rows = Vec::new();
        let refused = if rejection.by_view {
            self.isolate_view_failures(batch, part, token, rejection.reason, &budget, &mut rejected_rows)
                .await?
        } else {
            let first = rejection.reason;
            let mut behind = Vec::new();
            // Places that are parts of the division by now.
            let mut divided = vec![all.clone()];
            let mut refused = halve(all.clone(), first, &budget, async |half| {
                // The batch was refused, so the halves are INSERTs of their own.
                let places = half.clone();
                let (held, ranges) = stand_alone(&mut divided, &places);
                let ranges: Vec<Part> = ranges.into_iter().map(|range| select(part, range)).collect();
                if ranges.len() > 1 {
                    self.divide_further(batch, division, &select(part, held), &ranges).await?;
                }
                let half = select(part, half);
                let token = part_token(&division.token, &half);
                match self.insert_until_settled(batch, None, &half, &token, ViewMode::Normal).await? {
                    InsertOutcome::Inserted(rejected) => {
                        rejected_rows.extend(rejected);
                        Some(AttemptOutcome::Taken)
                    }
                    InsertOutcome::Rejected(Rejection { reason, by_view: false }) => {
                        Some(AttemptOutcome::Refused(reason))
                    }
                    InsertOutcome::Rejected(Rejection { reason, by_view: true }) => {
                        let refused = self
                            .isolate_view_failures(batch, &half, &token, reason, &budget, &mut rejected_rows)
                            .await?;
                        behind.extend(refused.into_iter().map(|refused| refused.behind(places.start)));
                        Some(AttemptOutcome::Settled)
                    }
                    InsertOutcome::Expired(reason) => {
                        rejected_rows.extend(self.expire(batch, &half, reason));
                        Some(AttemptOutcome::Settled)
                    }
                    InsertOutcome::TooLarge(reason) => {
                        let parts = self.smaller_parts(batch, &half, &reason).await?.parts;
                        self.divide_further(batch, division, &half, &parts).await?;
                        // Boxed, because parts are isolated in the same way.
                        let more = Box::pin(self.insert_parts(batch, division, parts)).await?;
                        rejected_rows.extend(more);
                        Some(AttemptOutcome::Settled)
                    }
                }
            })
            .await?;
            refused.extend(behind);
            refused
        };
        // Where some rows were inserted, the statement is right and the others are at fault. Where none
        // was, an INSERT of no rows decides.
        // Messages without a row show nothing.
        let rows = |messages: &Range<usize>| match &batch.kept {
            Some(kept) => {
                select(part, messages.clone()).into_iter().map(|run| kept.message_rows.of(run).len()).sum()
            }
            None => messages.len(),
        };
        let none_went_in = refused.iter().map(|refused| rows(&refused.messages)).sum::<usize>() == rows(&all);
        if none_went_in && !self.control_insert(batch).await? {
            return Some(None);
        }
        self.warn_refused(batch, &refused);
        if refused.iter().any(Refused::is_given_up) {
            plans.record_bisect_exhausted(batch.route);
        } else {
            plans.record_bisect_ok(batch.route);
        }
        for refused in refused {
            let is_given_up = refused.is_given_up();
            let Refused { messages, mut reason } = refused;
            if is_given_up {
                reason = format!("{reason}; this message was not tried alone and may be good").into();
            }
            let reason = Reason::new(Code::RejectedByClickHouse, reason);
            let messages = select(part, messages).into_iter().flatten();
            rejected_rows.extend(messages.map(|at| (at, reason.clone())));
        }
        rejected_rows.sort_by_key(|(at, _)| *at);
        Some(Some(rejected_rows))
    }

    /// The same for messages that a view refused under this token; places count within the part.
    async fn isolate_view_failures(
        &mut self,
        batch: &mut Batch,
        part: &[Range<usize>],
        token: &str,
        reason: Arc<str>,
        budget: &Budget,
        rejected_rows: &mut RejectedRows,
    ) -> Option<Vec<Refused>> {
        let all = 0..count(part);
        let given_up =
            |reason: &str| Some(vec![Refused { messages: all.clone(), reason: kept(reason).into() }]);
        if all.len() == 1 || !self.plans.latest(batch.route).table.supports_bisect || !budget.spend() {
            return given_up(&reason);
        }
        match self.insert_until_settled(batch, None, part, token, ViewMode::Suppress).await? {
            InsertOutcome::Inserted(_) => {}
            InsertOutcome::Rejected(Rejection { reason, .. })
            | InsertOutcome::TooLarge(reason)
            | InsertOutcome::Expired(reason) => return given_up(&reason),
        }
        let mut refused = halve(all.clone(), reason, budget, async |half| {
            let half = select(part, half);
            match self.insert_until_settled(batch, None, &half, token, ViewMode::DryRun).await? {
                InsertOutcome::Inserted(_) => Some(AttemptOutcome::Taken),
                InsertOutcome::Rejected(Rejection { reason, .. })
                | InsertOutcome::TooLarge(reason)
                | InsertOutcome::Expired(reason) => Some(AttemptOutcome::Refused(reason)),
            }
        })
        .await?;
        let good = between(&all, &refused);
        if !good.is_empty() {
            let chosen: Part = good.iter().flat_map(|places| select(part, places.clone())).collect();
            match self.insert_until_settled(batch, None, &chosen, token, ViewMode::Normal).await? {
                InsertOutcome::Inserted(rejected) => rejected_rows.extend(rejected),
                InsertOutcome::Rejected(Rejection { reason, .. })
                | InsertOutcome::TooLarge(reason)
                | InsertOutcome::Expired(reason) => {
                    refused.extend(
                        good.into_iter().map(|messages| Refused { messages, reason: reason.clone() }),
                    );
                }
            }
        }
        for refused in &mut refused {
            refused.reason = kept(&refused.reason).into();
        }
        Some(refused)
    }

    fn warn_refused(&self, batch: &Batch, refused: &[Refused]) {
        let Some(first) = refused.first() else { return };
        let total = |refused: &mut dyn Iterator<Item = &Refused>| {
            refused.map(|refused| refused.messages.len()).sum::<usize>()
        };
        let bad = total(&mut refused.iter());
        let given_up = total(&mut refused.iter().filter(|refused| refused.is_given_up()));
        let mut message = format!(
            "ClickHouse refused {bad} of {} messages for {}: {}",
            batch.messages.len(),
            &self.context.config.route(batch.route).table,
            first.reason
        );
        if given_up > 0 {
            message += &format!("; {given_up} of them were not told apart");
        }
        let table = &self.context.config.route(batch.route).table;
        let warning = Warning::new("CLICKHOUSE_REFUSED", message).table(table).route(batch.route);
        self.context.warn(warning.messages(bad).reason(&first.reason));
    }
}

/// Makes these places a range of their own. Gives the range that held them before, and the ranges that replace it.
fn stand_alone(divided: &mut Vec<Range<usize>>, places: &Range<usize>) -> (Range<usize>, Vec<Range<usize>>) {
    let Some(at) = divided.iter().position(|range| range.contains(&places.start)) else {
        return (places.clone(), Vec::new());
    };
    let held = divided[at].clone();
    let ranges = [held.start..places.start, places.clone(), places.end..held.end];
    let ranges: Vec<_> = ranges.into_iter().filter(|range| !range.is_empty()).collect();
    divided.splice(at..=at, ranges.iter().cloned());
    (held, ranges)
}

/// The reason of a view, for a dead letter.
fn kept(reason: &str) -> String {
    format!("{reason}; the table itself may have stored it")
}

/// The messages of `all` that are not in `refused`, which is in order.
fn between(all: &Range<usize>, refused: &[Refused]) -> Vec<Range<usize>> {
    let mut good = Vec::new();
    let mut at = all.start;
    for Refused { messages, .. } in refused {
        good.push(at..messages.start);
        at = messages.end;
    }
    good.push(at..all.end);
    good.retain(|range| !range.is_empty());
    good
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_half_that_is_tried_stands_alone() {
        let mut divided = vec![0..8; 1];
        assert_eq!(stand_alone(&mut divided, &(0..4)), (0..8, vec![0..4, 4..8]));
        assert_eq!(stand_alone(&mut divided, &(4..8)), (4..8, vec![4..8; 1]));
        assert_eq!(stand_alone(&mut divided, &(6..7)), (4..8, vec![4..6, 6..7, 7..8]));
        assert_eq!(divided, [0..4, 4..6, 6..7, 7..8]);
    }

    #[test]
    fn accepted_messages_lie_between_refused_ones() {
        let good = |refused: &[(usize, usize)]| -> Vec<(usize, usize)> {
            let refused =
                refused.iter().map(|&(start, end)| Refused { messages: start..end, reason: "".into() });
            let good = between(&(2..9), &refused.collect::<Vec<_>>());
            good.into_iter().map(|range| (range.start, range.end)).collect()
        };
        assert_eq!(good(&[(2, 3), (5, 7)]), [(3, 5), (7, 9)]);
        assert_eq!(good(&[(4, 9)]), [(2, 4)]);
        assert_eq!(good(&[]), [(2, 9)]);
        assert_eq!(good(&[(2, 9)]), []);
    }
}
