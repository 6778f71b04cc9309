//! The records of a batch.

use std::mem;
use std::time::SystemTime;

use crate::clickhouse::BlockEncoder;
use crate::config::{Compression, Config};
use crate::core::ack_history::AckHistory;
use crate::ingest::batch::Batch;
use crate::ingest::completion::Completion;
use crate::spool::wal::record::{Record, StreamKey};
use crate::spool::{ack_receipts, messages, stored_dead_letters, stored_rows};
use crate::telemetry::trace::Trace;

/// The values that go with the record of a batch.
pub struct Appended {
    /// Counts the memory of the batch, of which a record was made.
    pub completion: Completion,
    pub messages: u64,
    pub trace: Option<Box<Trace>>,
}

/// Encodes what is to be stored of a batch: the block of its rows, and the messages that become dead letters, with this compression
/// of messages. One of the two there is.
pub fn of(
    mut batch: Batch,
    config: &Config,
    packer: &mut BlockEncoder,
    compression: Compression,
) -> Vec<(Record, Appended)> {
    let mut records = Vec::new();
    if let Some(rejected) = batch.rejected.take() {
        let messages = rejected.messages.len() as u64;
        // Its receipts stand with its rows, if it has any.
        let (completion, receipts) = match batch.rows() {
            0 => (None, mem::take(&mut batch.receipts)),
            _ => (Some(batch.completion.fork()), AckHistory::of_session(batch.receipts.session())),
        };
        let stream = stored_dead_letters::stream(stream(&batch, config));
        let record = stored_dead_letters::record(*rejected, stream, &batch.client_id, &receipts, compression);
        let Some(completion) = completion else {
            return vec![(record, Appended { completion: batch.completion, messages, trace: None })];
        };
        records.push((record, Appended { completion, messages, trace: None }));
    }
    records.push(of_rows(batch, config, packer, compression));
    records
}

fn of_rows(
    mut batch: Batch,
    config: &Config,
    packer: &mut BlockEncoder,
    compression: Compression,
) -> (Record, Appended) {
    let row_count = batch.rows();
    batch.describe_trace(row_count);
    let columns = mem::take(&mut batch.columns);
    let block = packer.encode(&batch.plan.column_headers, &columns, &batch.plan.resistance);
    let rows = match &batch.message_rows {
        None => Vec::new(),
        Some(rows) => stored_rows::encode(rows, &batch.plan.column_headers, &columns),
    };
    batch.release_columns(columns);
    let stream = match batch.shard {
        Some(shard) => {
            StreamKey { route: shard.name(&config.stream_name(batch.route)), ..stream(&batch, config) }
        }
        None => stream(&batch, config),
    };
    let Batch { completion, client_id, plan, messages, receipts, trace, .. } = batch;
    let first = messages.receive_times().first().map_or_else(SystemTime::now, |(at, _)| at.system);
    let count = messages.len() as u64;
    let record = Record {
        stream,
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

fn stream(batch: &Batch, config: &Config) -> StreamKey {
    StreamKey {
        connection: batch.connection as u32,
        route: config.stream_name(batch.route),
        table: config.route(batch.route).table.clone(),
    }
}
