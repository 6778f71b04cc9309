//! Records to put into a log, each with a key of its own.

use std::time::{Duration, SystemTime};

use bytes::Bytes;
use millrace::core::ack_history::{AckHistory, AckRecord};
use millrace::spool::{InsertLimits, Options, Record, StreamKey, ack_receipts};

/// The key stands in `messages`; everything else follows from it.
pub fn record(key: u32, stream: u32, block_len: usize) -> Record {
    let mut block = key.to_le_bytes().repeat(block_len / 4);
    block.resize(block_len, 7);
    Record {
        stream: StreamKey { connection: stream, route: "t/+".into(), table: "t".into() },
        statement: "INSERT INTO t FORMAT Native".into(),
        received_at: SystemTime::UNIX_EPOCH + Duration::from_secs(u64::from(key)),
        rows: 1 + key % 3,
        messages: key,
        block_bytes: 2 * block_len as u32,
        block: Bytes::from(block),
        raw: Bytes::copy_from_slice(&key.to_be_bytes()),
        receipts: receipts(key),
    }
}

/// One message, with the key as its checksum.
fn receipts(key: u32) -> Bytes {
    let mut acknowledged = AckHistory::of_session(1);
    acknowledged.push(AckRecord { packet_id: key as u16, qos: 1, fingerprint: key.into() });
    ack_receipts::encode(&acknowledged, "c")
}

pub fn key(record: &Record) -> u32 {
    record.messages
}

/// Segments of a few records, INSERTs of fewer.
pub fn options(life: u64) -> Options {
    Options {
        name: "test".into(),
        open_id: life,
        max_bytes: 16 * 1024,
        segment_bytes: 1024,
        keep_bytes: 600,
        insert: InsertLimits {
            rows: 8,
            rows_behind: 16,
            bytes: 1 << 20,
            decoded_bytes: 1 << 30,
            delay: Duration::from_secs(1),
        },
    }
}
