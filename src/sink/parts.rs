//! A batch that one INSERT cannot take is inserted in parts: too many partitions for one block, a
//! memory limit, or a proxy's limit on the size of a request.
//!
//! - If it has too many partitions, the messages of one partition are in one part, and each part has as many partitions as
//!   ClickHouse takes: 252 partitions at a limit of 100 are three parts, however their rows alternate. ClickHouse computes
//!   the partition of each row ([`partitions`]). If it cannot, and for all other limits, a batch is halved until its parts
//!   are inserted.
//! - Each part has a token of its own, made of the batch's token and the places of the part's messages. The division of an
//!   INSERT of the spool is synced there before the first part is sent, so that a later process makes the same one.
//! - The size that succeeded is remembered for later batches of the route. The number of messages grows again while they
//!   succeed; the number of partitions, which ClickHouse itself named, is forgotten after 16 batches.

use std::ops::Range;
use std::sync::PoisonError;

use crate::clickhouse::error_class::partition_limit;
use crate::clickhouse::insert_request::ViewMode;
use crate::clickhouse::retry::SLOW;
use crate::clickhouse::{native, partitions};
use crate::core::error::Error;
use crate::core::reason::{Code, Reason};
use crate::ingest::batch::Batch;
use crate::ingest::encoded_rows::DecodedRows;
use crate::sink::batch_insert::InsertOutcome;
use crate::sink::partition_parts::{PartitionedMessages, pack};
use crate::sink::worker::{RejectedRows, Worker};
use crate::spool::Part;
use crate::telemetry::events::Warning;

/// The parts that are sent in place of an INSERT. They are noted in the spool if the messages come from there, and a later
/// process sends the same ones. Each may have been sent; the larger parts before them were refused, and are never sent again.
pub(super) struct Division {
    /// The token of the INSERT.
    pub token: String,
    pub parts: Vec<Part>,
}

impl Division {
    /// An INSERT that is not divided.
    pub fn none(token: &str, messages: usize) -> Division {
        Division { token: token.into(), parts: vec![vec![0..messages]] }
    }

    /// The parts that lie within these messages.
    pub fn within(&self, part: &[Range<usize>]) -> Vec<Part> {
        let is_within = |known: &&Part| part.iter().any(|run| run.contains(&known[0].start));
        self.parts.iter().filter(is_within).cloned().collect()
    }
}

/// The parts of messages that one INSERT cannot take.
pub(super) struct SmallerParts {
    pub parts: Vec<Part>,
    /// How many messages a half has; `None`: they were divided by partition.
    pub halved: Option<usize>,
}

impl Worker {
    /// The parts in which a batch of the spool was sent before.
    pub(super) fn kept_parts(&self, batch: &Batch, token: &str) -> Option<Vec<Part>> {
        let (insert, cuts) = self.spooled.as_ref()?;
        cuts.parts(*insert, token, batch.messages.len())
    }

    /// The parts in which a batch is sent, by the limits that earlier ones met. `None`: as one. `Some(None)`: cancelled.
    pub(super) async fn known_parts(&mut self, batch: &mut Batch) -> Option<Option<Vec<Part>>> {
        let (all, limit) = (0..batch.messages.len(), self.plans.part_limit(batch.route));
        let mut parts = vec![vec![all.clone()]];
        if let Some(partitions) = self.plans.partition_limit(batch.route)
            && let Some(divided) = self.divide_by_partition(batch, &parts[0], partitions).await?
        {
            parts = divided;
        }
        let parts: Vec<Part> = parts.iter().flat_map(|part| divide(part, limit)).collect();
        Some((parts.len() > 1).then_some(parts))
    }

    /// The parts of messages whose INSERT was refused as too large, for this reason. `None`: cancelled.
    pub(super) async fn smaller_parts(
        &mut self,
        batch: &mut Batch,
        part: &[Range<usize>],
        reason: &str,
    ) -> Option<SmallerParts> {
        if let Some(limit) = partition_limit(reason)
            && let Some(parts) = self.divide_by_partition(batch, part, limit).await?
            && parts.len() > 1
        {
            self.plans.record_partition_limit(batch.route, limit);
            return Some(SmallerParts { parts, halved: None });
        }
        let half = count(part).div_ceil(2);
        Some(SmallerParts { parts: divide(part, half).collect(), halved: Some(half) })
    }

    /// Divides messages so that those of one partition are together, and no part has more than `limit` partitions.
    /// `Some(None)`: ClickHouse does not say which partition they are of. `None`: cancelled.
    async fn divide_by_partition(
        &mut self,
        batch: &mut Batch,
        part: &[Range<usize>],
        limit: usize,
    ) -> Option<Option<Vec<Part>>> {
        let context = self.context.clone();
        let plan = self.plans.latest(batch.route);
        let (block, counts) = {
            let _alone = context.decoding_again.lock().unwrap_or_else(PoisonError::into_inner);
            let rows = DecodedRows::of(batch, part, &plan, context.config.route(batch.route));
            // Not compressed: a form cannot name a compression of its files.
            (native::encode_to_vec(&plan.column_headers, &rows.columns), rows.counts)
        };
        let rows = counts.iter().map(|rows| *rows as usize).sum();
        let kept = batch.messages.memory_bytes() + batch.kept_bytes();
        batch.completion.reserve(kept + block.capacity());
        let server = self.servers.current();
        let database = &context.config.clickhouse.database;
        let asked =
            partitions::of_rows(server, database, &plan.table, &plan.column_headers, block.into(), rows);
        let asked = tokio::time::timeout(context.config.clickhouse.request_timeout, asked);
        let asked = tokio::select! {
            biased;
            () = context.cancelled() => return None,
            asked = asked => asked,
        };
        batch.completion.reserve(kept);
        let Ok(Ok(Some(partitions))) = asked else { return Some(None) };
        let messages = PartitionedMessages::new(part, &counts, &partitions);
        Some(messages.map(|messages| pack(messages, limit)))
    }

    /// Divides a part further, and notes that before any of the new parts is attempted. Parts that cannot be noted are not
    /// attempted.
    /// `None`: cancelled.
    pub(super) async fn divide_further(
        &mut self,
        batch: &Batch,
        division: &mut Division,
        part: &[Range<usize>],
        smaller: &[Part],
    ) -> Option<()> {
        let Some(at) = division.parts.iter().position(|known| *known == part) else { return Some(()) };
        division.parts.splice(at..=at, smaller.iter().cloned());
        let Some((insert, cuts)) = self.spooled.clone() else { return Some(()) };
        let context = self.context.clone();
        let mut fault = context.no_fault();
        while let Err(source) = cuts.record(insert, &division.token, batch.messages.len(), &division.parts) {
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

    /// Inserts these parts of a division, and parts of them. `None`: cancelled.
    pub(super) async fn insert_parts(
        &mut self,
        batch: &mut Batch,
        division: &mut Division,
        parts: Vec<Part>,
    ) -> Option<RejectedRows> {
        let mut rejected = Vec::new();
        let largest = parts.iter().map(|part| count(part)).max();
        // The next part is the last one, so that they are inserted in order.
        let mut parts: Vec<_> = parts.into_iter().rev().collect();
        // The messages of the smallest half that was made because a part was too large.
        let mut halved: Option<usize> = None;
        while let Some(part) = parts.pop() {
            let part_token = part_token(&division.token, &part);
            match self.insert_until_settled(batch, None, &part, &part_token, ViewMode::Normal).await? {
                InsertOutcome::Inserted(more) => rejected.extend(more),
                InsertOutcome::Rejected(rejection) => {
                    let reason = rejection.reason.clone();
                    match self.isolate_bad_rows(batch, division, &part, &part_token, rejection).await? {
                        Some(more) => rejected.extend(more),
                        None if self.is_expired(batch) => rejected.extend(self.expire(batch, &part, reason)),
                        None => parts.extend(division.within(&part).into_iter().rev()),
                    }
                }
                InsertOutcome::TooLarge(reason) if count(&part) == 1 => {
                    // Nothing smaller can be sent. An INSERT of no rows shows that the message is at fault.
                    if self.control_insert(batch).await? {
                        rejected.push((part[0].start, Reason::new(Code::RejectedByClickHouse, reason)));
                    } else if self.is_expired(batch) {
                        rejected.extend(self.expire(batch, &part, reason));
                    } else {
                        parts.push(part);
                    }
                }
                InsertOutcome::Expired(reason) => rejected.extend(self.expire(batch, &part, reason)),
                InsertOutcome::TooLarge(reason) => {
                    let SmallerParts { parts: smaller, halved: half } =
                        self.smaller_parts(batch, &part, &reason).await?;
                    halved = halved.into_iter().chain(half).min();
                    self.divide_further(batch, division, &part, &smaller).await?;
                    parts.extend(smaller.into_iter().rev());
                }
            }
        }
        self.record_parts(batch, halved, largest);
        rejected.sort_by_key(|(at, _)| *at);
        Some(rejected)
    }

    /// Remembers for later batches the size that succeeded.
    fn record_parts(&self, batch: &Batch, halved: Option<usize>, largest: Option<usize>) {
        let known = self.plans.part_limit(batch.route);
        match halved {
            Some(halved) => {
                self.plans
                    .record_part_limit(batch.route, largest.map_or(halved, |largest| halved.min(largest)));
            }
            // The parts had at most the known size, and all were inserted.
            None if known != usize::MAX => self.plans.record_part_limit(batch.route, known),
            None => {}
        }
    }

    pub(super) fn warn_split(&self, batch: &Batch, parts: usize, reason: &str) {
        let table = &self.context.config.route(batch.route).table;
        let messages = batch.messages.len();
        let message = format!(
            "{table}: {messages} messages do not go in as one INSERT and go in in parts, at first {parts}: {reason}"
        );
        let warning = Warning::new("BATCH_SPLIT", message).table(table).route(batch.route).reason(reason);
        self.context.warn(warning.messages(messages));
    }
}

/// How many messages a part has.
pub(super) fn count(part: &[Range<usize>]) -> usize {
    part.iter().map(Range::len).sum()
}

/// The messages of a part at these places within it.
pub(super) fn select(part: &[Range<usize>], places: Range<usize>) -> Part {
    let (mut selected, mut before) = (Part::new(), 0);
    for run in part {
        let [start, end] =
            [places.start, places.end].map(|place| run.start + place.saturating_sub(before).min(run.len()));
        if start < end {
            selected.push(start..end);
        }
        before += run.len();
    }
    selected
}

/// Parts of at most `limit` messages.
pub(super) fn divide(part: &[Range<usize>], limit: usize) -> impl DoubleEndedIterator<Item = Part> {
    let (limit, len) = (limit.max(1), count(part));
    (0..len.div_ceil(limit)).map(move |at| select(part, at * limit..len.min(at.saturating_add(1) * limit)))
}

/// The token of some messages of an INSERT. It has their first place and their number and, if they do not stand side by side,
/// a checksum of their places.
pub(super) fn part_token(token: &str, part: &[Range<usize>]) -> String {
    let (first, len) = (part.first().map_or(0, |run| run.start), count(part));
    if part.len() < 2 {
        return format!("{token}-{first}-{len}");
    }
    let places = part.iter().flat_map(|run| [run.start as u64, run.len() as u64]).flat_map(u64::to_le_bytes);
    format!("{token}-{first}-{len}-{:08x}", crc32c::crc32c(&places.collect::<Vec<_>>()))
}

#[cfg(test)]
#[expect(clippy::single_range_in_vec_init, reason = "parts of one run")]
mod tests {
    use super::*;

    #[test]
    fn parts_cover_all_messages_in_order() {
        let parts = |all: Range<usize>, limit| divide(&[all], limit).flatten().collect::<Vec<_>>();
        assert_eq!(parts(2..9, 3), [2..5, 5..8, 8..9]);
        assert_eq!(parts(0..4, 2), [0..2, 2..4]);
        assert_eq!(parts(0..2, 0), [0..1, 1..2]);
        assert_eq!(parts(0..2, usize::MAX), [0usize..2; 1]);
        assert_eq!(parts(3..3, 5), [0usize..0; 0]);
        let apart = divide(&[0..2, 5..6, 9..13], 3).collect::<Vec<_>>();
        assert_eq!(apart, [vec![0..2, 5..6], vec![9..12], vec![12..13]]);
    }

    #[test]
    fn parts_of_a_batch_have_tokens_of_their_own() {
        assert_eq!(part_token("t", &[3..8]), "t-3-5");
        let apart =
            [part_token("t", &[0..2, 4..6]), part_token("t", &[0..3, 5..6]), part_token("t", &[0..4])];
        assert!(apart[0] != apart[1] && apart.iter().all(|token| token.starts_with("t-0-4")));
        assert!(apart[0].len() > apart[2].len());
    }
}
