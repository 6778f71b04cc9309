//! Divides a batch that a transform has finished into the batch that goes on, dead letters, and batches of emitted rows.
//!
//! A message of which a row was rejected becomes a dead letter, with all its rows. A message of which no row is left was
//! dropped. All others go on with the rows that are left.

use std::ops::Range;
use std::sync::Arc;

use crate::clickhouse::Column;
use crate::core::ack_history::AckHistory;
use crate::core::dead_letter::DeadLetter;
use crate::core::reason::{Code, Reason};
use crate::ingest::batch::Batch;
use crate::ingest::dead_letter_batch::DeadLetterBatch;
use crate::ingest::kept_rows::MessageRows;
use crate::ingest::raw_messages::{Message, RawMessages};
use crate::ingest::rejected_messages::RejectedMessages;
use crate::telemetry::context::PipelineContext;
use crate::transform::call::{Emitted, Finished, Verdict};
use crate::transform::stage::EmitTable;

/// The results of one call.
pub struct Outcome {
    /// The batch, with the rows that are left, and those of emitted rows.
    pub batches: Vec<Box<Batch>>,
    /// Without a spool, the messages that were rejected: with one they go on with the batch.
    pub dead_letters: Option<DeadLetterBatch>,
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

/// The result of a message that does not go on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Fate {
    Dropped,
    Rejected,
}

impl Outcome {
    pub fn of(context: &Arc<PipelineContext>, finished: Finished, emit_tables: &[EmitTable]) -> Outcome {
        let Finished { mut batch, layout, verdicts, reasons, emitted } = finished;
        let mut counts = OutcomeCounts { rows: batch.rows() as u64, ..OutcomeCounts::default() };
        batch.take_inputs(layout.inputs.clone());
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
            let gone = gone(&message_rows, &verdicts);
            counts.dropped = verdicts.iter().filter(|verdict| **verdict == Verdict::Drop).count() as u64;
            counts.rejected = gone.iter().filter(|(_, fate)| *fate == Fate::Rejected).count() as u64;
            if counts.rejected > 0 {
                let mut rejected = gone.iter().filter(|(_, fate)| *fate == Fate::Rejected).peekable();
                dead_letters = reject(context, &mut batch, |at| {
                    rejected.next_if(|(place, _)| *place == at)?;
                    Some(reason(&reasons, message_rows.of(at..at + 1)))
                });
            }
            batch.completion.dropped_in_part(gone.len() as u64 - counts.rejected);
            keep(&mut batch, &message_rows, &gone, &verdicts);
        }
        batch.reserve(context.config.spool.is_some());
        let mut batches = vec![batch];
        batches.append(&mut emitted);
        Outcome { batches, dead_letters, counts }
    }

    /// Each message of a batch becomes a dead letter, and nothing else comes of it.
    pub fn of_failed(context: &Arc<PipelineContext>, mut batch: Box<Batch>, reason: &Reason) -> Outcome {
        let counts = OutcomeCounts { rows: batch.rows() as u64, ..OutcomeCounts::default() };
        let messages = batch.messages.len();
        let dead_letters = reject(context, &mut batch, |_| Some(reason.clone()));
        batch.messages.remove(0..messages);
        batch.columns.iter_mut().for_each(Column::clear);
        batch.message_rows = Some(MessageRows::default());
        batch.reserve(context.config.spool.is_some());
        Outcome { batches: vec![batch], dead_letters, counts }
    }
}

fn reason(reasons: &[(usize, String)], rows: Range<usize>) -> Reason {
    let text = reasons.iter().find(|(row, _)| rows.contains(row)).map_or("", |(_, reason)| reason);
    Reason::new(Code::RejectedByTransform, text)
}

/// The messages of which no row goes on, in order.
fn gone(rows: &MessageRows, verdicts: &[Verdict]) -> Vec<(usize, Fate)> {
    let fate = |message: usize| {
        let verdicts = &verdicts[rows.of(message..message + 1)];
        if verdicts.contains(&Verdict::Reject) {
            Some((message, Fate::Rejected))
        } else {
            let is_dropped = !verdicts.is_empty() && verdicts.iter().all(|verdict| *verdict == Verdict::Drop);
            is_dropped.then_some((message, Fate::Dropped))
        }
    };
    if rows.has_one_each() {
        // The messages are the rows, and few are gone.
        let not_kept = verdicts.iter().enumerate().filter(|(_, verdict)| **verdict != Verdict::Keep);
        return not_kept.filter_map(|(message, _)| fate(message)).collect();
    }
    (0..rows.messages()).filter_map(fate).collect()
}

/// Makes dead letters of messages, by their places. With a spool they stay in the batch, and are stored with all that comes of it.
fn reject(
    context: &Arc<PipelineContext>,
    batch: &mut Batch,
    mut reason: impl FnMut(usize) -> Option<Reason>,
) -> Option<DeadLetterBatch> {
    if context.config.spool.is_some() {
        let Batch { messages, rejected, .. } = batch;
        let rejected = rejected.get_or_insert_with(|| Box::new(RejectedMessages::new(&context.chunk_pool)));
        for (at, message) in messages.iter().enumerate() {
            reason(at).into_iter().for_each(|reason| rejected.push(&message, reason));
        }
        return None;
    }
    let mut dead_letters = DeadLetterBatch::new(batch.completion.fork());
    for (at, message) in batch.messages.iter().enumerate() {
        let Some(reason) = reason(at) else { continue };
        dead_letters.push(DeadLetter {
            received_at: message.received.system,
            route: Some(batch.route),
            topic: message.topic.into(),
            payload: message.payload.into(),
            reason,
        });
    }
    dead_letters.reserve();
    Some(dead_letters)
}

/// Takes out of the batch what does not go on.
fn keep(batch: &mut Batch, rows: &MessageRows, gone: &[(usize, Fate)], verdicts: &[Verdict]) {
    // Rows of rejected messages go, whatever is said of themselves.
    let mut goes: Vec<Range<usize>> = Vec::new();
    let mut message_rows = MessageRows::default();
    if rows.has_one_each() {
        goes.extend(gone.iter().map(|(message, _)| *message..message + 1));
        message_rows = MessageRows::one_each(rows.messages() - gone.len());
    } else {
        let mut gone = gone.iter().peekable();
        for message in 0..rows.messages() {
            let of_message = rows.of(message..message + 1);
            if gone.next_if(|(place, _)| *place == message).is_some() {
                goes.push(of_message);
                continue;
            }
            let dropped = of_message.clone().filter(|row| verdicts[*row] != Verdict::Keep);
            let before = goes.len();
            goes.extend(dropped.map(|row| row..row + 1));
            message_rows.push(of_message.len() - (goes.len() - before));
        }
    }
    let kept = between(&goes, batch.rows());
    batch.columns.iter_mut().for_each(|column| column.keep_rows(&kept));
    batch.messages.remove(gone.iter().map(|(message, _)| *message));
    batch.message_rows = Some(message_rows);
}

/// The rows that lie between others, which are in order.
fn between(goes: &[Range<usize>], rows: usize) -> Vec<Range<usize>> {
    let mut kept = Vec::with_capacity(goes.len() + 1);
    let mut at = 0;
    for gone in goes {
        kept.push(at..gone.start);
        at = gone.end;
    }
    kept.push(at..rows);
    kept.retain(|range| !range.is_empty());
    kept
}

/// A batch of rows that were emitted into one table.
fn emitted_batch(
    context: &Arc<PipelineContext>,
    batch: &mut Batch,
    emitted: Emitted,
    emit_tables: &[EmitTable],
) -> Box<Batch> {
    let emit_table = &emit_tables[emitted.table];
    let EmitTable { route, plan, .. } = emit_table;
    emit_table.give_back(emitted.decoder);
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
        shard: None,
        rejected: None,
        inputs: None,
        calls: None,
        message_rows: None,
        kept: None,
    };
    made.reserve(context.config.spool.is_some());
    Box::new(made)
}
