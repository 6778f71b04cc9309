//! Messages of a batch as the block of one INSERT: the rows of a batch as they are first encoded, and as they are decoded
//! again when the table has changed or when a part of the batch is inserted alone.

use std::collections::HashSet;
use std::ops::Range;
use std::sync::Arc;

use crate::clickhouse::{BlockEncoder, Column, CompressedBlock};
use crate::config::Route;
use crate::core::reason::Reason;
use crate::core::topic_filter::Captures;
use crate::decode;
use crate::ingest::batch::Batch;
use crate::ingest::table_plan::TablePlan;

pub struct EncodedRows {
    pub plan: Arc<TablePlan>,
    pub block: CompressedBlock,
    pub rows: usize,
    /// Messages that do not fit the table as it is now, by their place in the batch.
    pub rejected: Vec<(usize, Reason)>,
}

/// Messages as the columns of a block.
pub struct DecodedRows {
    pub columns: Vec<Column>,
    /// As [`EncodedRows::rejected`].
    pub rejected: Vec<(usize, Reason)>,
    /// How many rows each of the chosen messages has.
    pub counts: Vec<u32>,
}

impl EncodedRows {
    pub fn new(
        plan: Arc<TablePlan>,
        columns: &[Column],
        rejected: Vec<(usize, Reason)>,
        packer: &mut BlockEncoder,
    ) -> EncodedRows {
        let rows = columns.first().map_or(0, Column::rows);
        EncodedRows {
            block: packer.encode(&plan.column_headers, columns, &plan.resistance),
            plan,
            rows,
            rejected,
        }
    }

    /// Decodes the chosen messages of a batch once more, for the table as it is now. Rows that a transform changed are taken
    /// as they are.
    pub fn decode(
        batch: &Batch,
        chosen: &[Range<usize>],
        plan: Arc<TablePlan>,
        route: &Route,
        packer: &mut BlockEncoder,
    ) -> EncodedRows {
        let DecodedRows { columns, rejected, .. } = DecodedRows::of(batch, chosen, &plan, route);
        EncodedRows::new(plan, &columns, rejected, packer)
    }
}

impl DecodedRows {
    /// Decodes the chosen messages of a batch.
    pub fn of(batch: &Batch, chosen: &[Range<usize>], plan: &TablePlan, route: &Route) -> DecodedRows {
        if let Some(kept) = &batch.kept {
            let (columns, rejected) = kept.select(chosen, plan, route);
            let is_rejected: HashSet<usize> = rejected.iter().map(|(at, _)| *at).collect();
            let rows = |at: usize| match is_rejected.contains(&at) {
                true => 0,
                false => kept.message_rows.of(at..at + 1).len() as u32,
            };
            let counts = chosen.iter().cloned().flatten().map(rows).collect();
            return DecodedRows { columns, rejected, counts };
        }
        let mut decoder = plan.decoder(route);
        let mut columns = decoder.columns();
        let (mut rejected, mut counts) = (Vec::new(), Vec::new());
        let mut captures = Captures::default();
        let messages = chosen
            .iter()
            .flat_map(|range| batch.messages.iter().enumerate().skip(range.start).take(range.len()));
        for (at, message) in messages {
            // It matched when it came.
            let topic = std::str::from_utf8(message.topic).unwrap_or_default();
            route.topic.matches(topic, &mut captures);
            let message = decode::Message {
                topic,
                captures: &captures,
                payload: message.payload,
                qos: message.qos,
                retain: message.retain,
                received_at: message.received.system,
                client_id: &batch.client_id,
                properties: message.properties,
            };
            let before = columns.first().map_or(0, Column::rows);
            if let Err(reason) = decoder.append(&message, &mut columns) {
                rejected.push((at, reason));
            }
            counts.push((columns.first().map_or(0, Column::rows) - before) as u32);
        }
        columns.drain(decoder.inputs());
        DecodedRows { columns, rejected, counts }
    }
}
