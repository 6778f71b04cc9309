//! Divides a batch that a transform has finished into the batch that goes on, dead letters, and batches of emitted rows.
//!
//! A message of which a row was rejected becomes a dead letter, with all its rows. A message of which no row is left was
//! dropped. All others go on with the rows that are left.

use std::ops::Range;
use std::sync::Arc;

use crate::core::ack_history::AckHistory;
use crate::core::dead_letter::DeadLetter;
use crate::core::reason::{Code, Reason};
use crate::ingest::batch::Batch;
use crate::ingest::dead_letter_batch::DeadLetterBatch;
use crate::ingest::kept_rows::MessageRows;
use crate::ingest::raw_messages::{Message, RawMessages};
use crate::telemetry::context::PipelineContext;
use crate::transform::call::{Emitted, Finished, Verdict};
use crate::transform::stage::EmitTable;

/// The results of one call.
pub struct Outcome {
    /// `None`: nothing of it is left to insert.
    pub batch: Option<Box<Batch>>,
    pub dead_letters: Option<DeadLetterBatch>,
    pub emitted: Vec<Box<Batch>>,
    pub counts: OutcomeCounts,
}

#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub struct OutcomeCounts {
    /// Rows that the transform was given.
    pub rows: u64,
    /// Rows.
    pub dropped: u64,
    /// Messages.
    pub rejected: u64,
    /// Rows.
    pub emitted: u64,
}

/// The result of a message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Fate {
    Kept,
    Dropped,
    Rejected,
}

impl Outcome {
    /// With a spool, emitted rows become companions of the batch that goes on.
    pub fn of(context: &Arc<PipelineContext>, finished: Finished, emit_tables: &[EmitTable]) -> Outcome {
        let Finished { mut batch, layout, verdicts, reasons, emitted } = finished;
        let mut counts = OutcomeCounts { rows: batch.rows() as u64, ..OutcomeCounts::default() };
        batch.columns.drain(layout.inputs.clone());
        let mut emitted: Vec<_> = emitted
            .into_iter()
            .map(|emitted| {
                counts.emitted += emitted.rows.len() as u64;
                emitted_batch(context, &mut batch, emitted, emit_tables)
            })
            .collect();
        let mut dead_letters = None;
        if verdicts.iter().any(|verdict| *verdict != Verdict::Keep) {
            let message_rows = batch.message_rows.take().unwrap_or_default();
            let fates = fates(&message_rows, &verdicts);
            counts.dropped = verdicts.iter().filter(|verdict| **verdict == Verdict::Drop).count() as u64;
            counts.rejected = fates.iter().filter(|fate| **fate == Fate::Rejected).count() as u64;
            let dropped = fates.iter().filter(|fate| **fate == Fate::Dropped).count() as u64;
            if counts.rejected > 0 {
                dead_letters = Some(rejected(&mut batch, &message_rows, &fates, &reasons));
            }
            batch.completion.dropped_in_part(dropped);
            keep(&mut batch, &message_rows, &fates, &verdicts, &context.chunk_pool);
        }
        if let Some(dead_letters) = &mut dead_letters {
            dead_letters.reserve();
        }
        batch.reserve(context.config.spool.is_some());
        if context.config.spool.is_some() && !emitted.is_empty() {
            if batch.rows() > 0 {
                batch.companions = emitted;
            } else {
                // The messages that were dropped are recognised by what is in the spool of them.
                let mut first = emitted.swap_remove(0);
                first.receipts = std::mem::take(&mut batch.receipts);
                first.companions = emitted;
                return Outcome {
                    batch: complete(batch).or(Some(first)),
                    dead_letters,
                    emitted: Vec::new(),
                    counts,
                };
            }
            emitted = Vec::new();
        }
        Outcome { batch: complete(batch), dead_letters, emitted, counts }
    }
}

/// Settles a batch of which nothing is left to insert; gives any other back. Messages that hold an empty list stay, and count as
/// inserted.
fn complete(batch: Box<Batch>) -> Option<Box<Batch>> {
    if batch.rows() > 0 {
        return Some(batch);
    }
    let messages = batch.messages.len() as u64;
    batch.completion.inserted(messages);
    None
}

fn fates(rows: &MessageRows, verdicts: &[Verdict]) -> Vec<Fate> {
    let fate = |message: usize| {
        let verdicts = &verdicts[rows.of(message..message + 1)];
        if verdicts.contains(&Verdict::Reject) {
            Fate::Rejected
        } else if !verdicts.is_empty() && verdicts.iter().all(|verdict| *verdict == Verdict::Drop) {
            Fate::Dropped
        } else {
            Fate::Kept
        }
    };
    (0..rows.messages()).map(fate).collect()
}

/// The dead letters of the rejected messages.
fn rejected(
    batch: &mut Batch,
    rows: &MessageRows,
    fates: &[Fate],
    reasons: &[(usize, String)],
) -> DeadLetterBatch {
    let mut dead_letters = DeadLetterBatch::new(batch.completion.fork());
    let messages = batch.messages.iter().enumerate();
    for (at, message) in messages.filter(|(at, _)| fates[*at] == Fate::Rejected) {
        let of_message = rows.of(at..at + 1);
        let reason =
            reasons.iter().find(|(row, _)| of_message.contains(row)).map_or("", |(_, reason)| reason);
        dead_letters.push(DeadLetter {
            received_at: message.received.system,
            route: Some(batch.route),
            topic: message.topic.into(),
            payload: message.payload.into(),
            reason: Reason::new(Code::RejectedByTransform, reason),
        });
    }
    dead_letters
}

/// Takes out of the batch what does not go on.
fn keep(
    batch: &mut Batch,
    rows: &MessageRows,
    fates: &[Fate],
    verdicts: &[Verdict],
    pool: &Arc<crate::core::chunk_pool::ChunkPool>,
) {
    let mut kept_rows: Vec<Range<usize>> = Vec::new();
    let mut message_rows = MessageRows::default();
    let mut messages = RawMessages::new(pool.clone());
    // There is one for each message of QoS 1 and 2, or there are none.
    let session = batch.receipts.session();
    let before = std::mem::replace(&mut batch.receipts, AckHistory::of_session(session));
    let mut given = before.iter();
    let has_receipts = given.len() > 0;
    for (at, message) in batch.messages.iter().enumerate() {
        let receipt = if has_receipts && message.qos > 0 { given.next() } else { None };
        // A rejected message is not in the spool: after a crash it has to come again. A dropped one has not.
        if fates[at] != Fate::Rejected {
            receipt.into_iter().for_each(|receipt| batch.receipts.push(receipt));
        }
        if fates[at] != Fate::Kept {
            continue;
        }
        let mut count = 0;
        for row in rows.of(at..at + 1).filter(|row| verdicts[*row] == Verdict::Keep) {
            count += 1;
            match kept_rows.last_mut() {
                Some(last) if last.end == row => last.end += 1,
                _ => kept_rows.push(row..row + 1),
            }
        }
        messages.push(&message);
        message_rows.push(count);
    }
    for column in &mut batch.columns {
        let mut kept = column.clone_empty();
        kept.append_rows(column, &kept_rows);
        *column = kept;
    }
    batch.messages = messages;
    batch.message_rows = Some(message_rows);
}

/// A batch of rows that were emitted into one table.
fn emitted_batch(
    context: &Arc<PipelineContext>,
    batch: &mut Batch,
    emitted: Emitted,
    emit_tables: &[EmitTable],
) -> Box<Batch> {
    let EmitTable { route, plan, .. } = &emit_tables[emitted.table];
    let mut messages = RawMessages::new(context.chunk_pool.clone());
    let received = batch.messages.receive_times().first().map(|(at, _)| *at);
    let topic = context.config.route(*route).topic.as_str().as_bytes();
    for row in &emitted.rows {
        messages.push(&Message {
            received: received.unwrap_or_else(crate::core::clock::ReceiveTime::read),
            topic,
            payload: row,
            qos: 0,
            retain: false,
            properties: crate::core::mqtt_property::Properties::NONE,
        });
    }
    let mut completion = batch.completion.fork();
    completion.is_of_rows();
    let mut made = Batch {
        completion,
        route: *route,
        connection: batch.connection,
        client_id: batch.client_id.clone(),
        plan: plan.clone(),
        columns: emitted.columns,
        reused_bytes: 0,
        messages,
        receipts: AckHistory::of_session(batch.receipts.session()),
        opened_at: batch.opened_at,
        queue_permit: None,
        trace: None,
        companions: Vec::new(),
        calls: None,
        message_rows: None,
        kept: None,
    };
    made.reserve(context.config.spool.is_some());
    Box::new(made)
}
