//! Divides a batch by shard.
//!
//! The batches that it is divided into go on as any others: each has its INSERT, its token and its retries, and with a spool its
//! stream, so that a shard that is away holds up no other. Their completions are forks of one: the messages are acknowledged when the
//! rows of all shards are in, or lie in one entry of the spool.

use std::mem;
use std::ops::Range;
use std::sync::Arc;

use crate::clickhouse::Column;
use crate::clickhouse::shard_key::hashes;
use crate::config::Config;
use crate::core::ack_history::AckHistory;
use crate::core::chunk_pool::ChunkPool;
use crate::core::shard::Shard;
use crate::ingest::batch::{Batch, RowCalls};
use crate::ingest::column_pool::capacity;
use crate::ingest::kept_rows::MessageRows;
use crate::ingest::raw_messages::RawMessages;
use crate::telemetry::context::PipelineContext;

/// A batch of which rows were not divided yet becomes one for each shard that has rows of it. Without shards it stays as it is.
pub fn divide(batch: Box<Batch>, context: &PipelineContext) -> Vec<Box<Batch>> {
    let Config { clickhouse, spool, .. } = &context.config;
    let route = context.config.route(batch.route);
    if route.shard_key.is_empty() || batch.shard.is_some() || batch.rows() == 0 {
        return vec![batch];
    }
    let count = clickhouse.urls.len() as u32;
    let shards: Vec<Shard> = row_hashes(&batch, context).map(|hash| Shard::of_hash(hash, count)).collect();
    // With a spool the records of an INSERT have their rows all or none: it may be decoded again as one.
    let keeps_rows =
        route.transform.is_some() || route.drops_repeats() || route.pivot.is_some() || spool.is_some();
    Division::of(&batch, &shards).apply(batch, keeps_rows, &context.chunk_pool, spool.is_some())
}

fn row_hashes(batch: &Batch, context: &PipelineContext) -> impl Iterator<Item = u64> {
    let plan = &batch.plan;
    let place = |name: &str| plan.column_headers.iter().position(|(header, _)| header == name);
    let key: Vec<_> = context
        .config
        .route(batch.route)
        .shard_key
        .iter()
        .filter_map(|column| {
            let kind = &plan.table.columns.iter().find(|own| own.name == column.name)?.column_type.kind;
            Some((kind, batch.columns.get(place(&column.name)?)?))
        })
        .collect();
    // A plan is made only of a table that has the columns of the key.
    debug_assert_eq!(key.len(), context.config.route(batch.route).shard_key.len());
    hashes(&key).into_iter()
}

/// The rows and messages of one shard.
struct Part {
    shard: Shard,
    rows: Vec<Range<usize>>,
    /// Places in the batch, in order.
    messages: Vec<usize>,
    message_rows: MessageRows,
    /// How many of the messages an earlier part has as well: they count there.
    copies: u64,
    /// Whether all rows of its messages are in it.
    is_complete: bool,
}

struct Division(Vec<Part>);

impl Division {
    /// `shards` is by row.
    fn of(batch: &Batch, shards: &[Shard]) -> Division {
        let mut parts: Vec<Part> = Vec::new();
        let one_each = MessageRows::one_each(batch.messages.len());
        let message_rows = batch.message_rows.as_ref().unwrap_or(&one_each);
        for message in 0..batch.messages.len() {
            let rows = message_rows.of(message..message + 1);
            let next_row = rows.start;
            let mut own: Vec<(usize, usize)> = Vec::new();
            for row in rows {
                let at = part_of(&mut parts, shards[row]);
                push_row(&mut parts[at].rows, row);
                match own.iter_mut().find(|(part, _)| *part == at) {
                    Some((_, count)) => *count += 1,
                    None => own.push((at, 1)),
                }
            }
            if own.is_empty() {
                // It holds an empty list, or is a part of the next row, and counts with that.
                own.push((part_of(&mut parts, shards[next_row.min(shards.len() - 1)]), 0));
            }
            let is_complete = own.len() == 1;
            for (place, (at, count)) in own.into_iter().enumerate() {
                let part = &mut parts[at];
                part.messages.push(message);
                part.message_rows.push(count);
                part.copies += u64::from(place > 0);
                part.is_complete &= is_complete;
            }
        }
        Division(parts)
    }

    #[expect(clippy::vec_box, reason = "batches go on in the boxes")]
    fn apply(
        self,
        mut batch: Box<Batch>,
        keeps_rows: bool,
        pool: &Arc<ChunkPool>,
        is_spooled: bool,
    ) -> Vec<Box<Batch>> {
        let Division(mut parts) = self;
        if let [part] = &mut parts[..] {
            batch.shard = Some(part.shard);
            if !keeps_rows {
                batch.message_rows = None;
            }
            return vec![batch];
        }
        let columns = mem::take(&mut batch.columns);
        let session = batch.receipts.session();
        let mut messages: Vec<RawMessages> = parts.iter().map(|_| RawMessages::new(pool.clone())).collect();
        let mut next: Vec<_> = parts.iter().map(|part| part.messages.iter().peekable()).collect();
        for (place, message) in batch.messages.iter().enumerate() {
            for (own, next) in messages.iter_mut().zip(&mut next) {
                if next.next_if(|at| **at == place).is_some() {
                    own.push(&message);
                }
            }
        }
        drop(next);
        let mut divided = Vec::with_capacity(parts.len());
        for (at, (part, messages)) in parts.into_iter().zip(messages).enumerate() {
            let select = |column: &Column| {
                let mut own = column.clone_empty();
                own.append_rows(column, &part.rows);
                own
            };
            let columns: Vec<_> = columns.iter().map(select).collect();
            let mut completion = batch.completion.fork();
            completion.counts_elsewhere(part.copies);
            let calls = batch.calls.as_ref().map(|calls| {
                let sequences = part.messages.iter().filter_map(|at| calls.sequences.get(*at).copied());
                Box::new(RowCalls { sender: calls.sender.clone(), sequences: sequences.collect() })
            });
            let is_first = at == 0;
            divided.push(Box::new(Batch {
                completion,
                shard: Some(part.shard),
                reused_bytes: capacity(&columns),
                columns,
                messages,
                // All receipts are in one entry of the spool.
                receipts: match is_first {
                    true => mem::replace(&mut batch.receipts, AckHistory::of_session(session)),
                    false => AckHistory::of_session(session),
                },
                route: batch.route,
                connection: batch.connection,
                client_id: batch.client_id.clone(),
                plan: batch.plan.clone(),
                opened_at: batch.opened_at,
                queue_permit: batch.queue_permit.take(),
                trace: batch.trace.take(),
                message_rows: (keeps_rows || !part.is_complete).then_some(part.message_rows),
                rejected: batch.rejected.take(),
                inputs: None,
                companions: Vec::new(),
                calls,
                kept: None,
            }));
        }
        batch.release_columns(columns);
        for part in &mut divided {
            part.reserve(is_spooled);
        }
        // The parts count its messages, and hold its acknowledgements.
        batch.completion.inserted(0);
        divided
    }
}

/// The place of the part of a shard.
fn part_of(parts: &mut Vec<Part>, shard: Shard) -> usize {
    parts.iter().position(|part| part.shard == shard).unwrap_or_else(|| {
        parts.push(Part {
            shard,
            rows: Vec::new(),
            messages: Vec::new(),
            message_rows: MessageRows::default(),
            copies: 0,
            is_complete: true,
        });
        parts.len() - 1
    })
}

/// Rows that stand side by side are one range.
fn push_row(ranges: &mut Vec<Range<usize>>, row: usize) {
    match ranges.last_mut() {
        Some(range) if range.end == row => range.end += 1,
        _ => ranges.push(row..row + 1),
    }
}
