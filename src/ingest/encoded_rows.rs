//! Messages of a batch as the block of one INSERT.

use std::ops::Range;
use std::sync::Arc;

use crate::clickhouse::{Column, Packed, Packer};
use crate::config::Route;
use crate::core::reason::Reason;
use crate::core::topic_filter::Captures;
use crate::decode;
use crate::ingest::batch::Batch;
use crate::ingest::table_plan::Plan;

pub struct Part {
    pub plan: Arc<Plan>,
    pub block: Packed,
    pub rows: usize,
    /// Messages that do not fit the table as it is now, by their place in the batch.
    pub misfits: Vec<(usize, Reason)>,
}

impl Part {
    pub fn new(
        plan: Arc<Plan>,
        columns: &[Column],
        misfits: Vec<(usize, Reason)>,
        packer: &mut Packer,
    ) -> Part {
        let rows = columns.first().map_or(0, Column::rows);
        Part { block: packer.pack(&plan.heads, columns, &plan.resistance), plan, rows, misfits }
    }

    /// Decodes the chosen messages of a batch once more, for the table as it is now.
    pub fn decode(
        batch: &Batch,
        chosen: &[Range<usize>],
        plan: Arc<Plan>,
        route: &Route,
        packer: &mut Packer,
    ) -> Part {
        let mut decoder = plan.decoder(route);
        let mut columns = decoder.columns();
        let mut misfits = Vec::new();
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
            if let Err(reason) = decoder.append(&message, &mut columns) {
                misfits.push((at, reason));
            }
        }
        Part::new(plan, &columns, misfits, packer)
    }
}
