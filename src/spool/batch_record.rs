//! The record of a batch.

use std::time::SystemTime;

use crate::clickhouse::BlockEncoder;
use crate::config::{Compression, Config};
use crate::ingest::batch::Batch;
use crate::ingest::completion::Completion;
use crate::spool::wal::record::{Record, StreamKey};
use crate::spool::{ack_receipts, messages, stored_rows};
use crate::telemetry::trace::Trace;

/// The values that go with the record of a batch.
pub struct Appended {
    /// Counts the memory of the batch, of which a record was made.
    pub completion: Completion,
    pub messages: u64,
    pub trace: Option<Box<Trace>>,
}

/// Encodes the block of a batch, and its messages with this compression.
pub fn of(
    mut batch: Batch,
    config: &Config,
    packer: &mut BlockEncoder,
    compression: Compression,
) -> (Record, Appended) {
    let row_count = batch.rows();
    batch.describe_trace(row_count);
    let Batch {
        completion,
        connection,
        client_id,
        plan,
        columns,
        messages,
        receipts,
        trace,
        message_rows,
        ..
    } = batch;
    let block = packer.encode(&plan.column_headers, &columns, &plan.resistance);
    let rows = match &message_rows {
        None => Vec::new(),
        Some(rows) => stored_rows::encode(rows, &plan.column_headers, &columns),
    };
    if message_rows.is_none() {
        plan.column_pool.release(columns);
    }
    let route = config.route(batch.route);
    let first = messages.receive_times().first().map_or_else(SystemTime::now, |(at, _)| at.system);
    let count = messages.len() as u64;
    let record = Record {
        stream: StreamKey {
            connection: connection as u32,
            route: config.stream_name(batch.route),
            table: route.table.clone(),
        },
        statement: plan.sql.clone(),
        received_at: first,
        rows: row_count as u32,
        messages: count as u32,
        block_bytes: block.block_bytes as u32,
        block: block.frames,
        raw: messages::encode(messages, &client_id, &rows, compression)
            .expect("a batch is far smaller than 4 GiB"),
        receipts: ack_receipts::encode(&receipts, &client_id),
    };
    (record, Appended { completion, messages: count, trace })
}
