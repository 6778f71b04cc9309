//! Messages that a route or its transform made dead letters, in a record: with the rows that others made of them they are on disk
//! or nothing is. The record has no rows and no statement, and belongs to a stream of its own ([`stream`]). Behind its messages
//! stands why, little-endian, for each:
//!
//! ```text
//! u32 + bytes  code
//! u32 + bytes  text
//! ```

use std::time::SystemTime;

use bytes::{Buf, Bytes};

use crate::config::Compression;
use crate::core::ack_history::AckHistory;
use crate::core::reason::{Code, Reason};
use crate::ingest::rejected_messages::RejectedMessages;
use crate::spool::wal::record::{Record, StreamKey};
use crate::spool::{ack_receipts, messages};

/// No topic has a NUL.
const SUFFIX: &str = "\0letters";

/// The stream of the dead letters of a route and its table: they close no INSERT of rows.
pub fn stream(rows: StreamKey) -> StreamKey {
    StreamKey { route: rows.route + SUFFIX, ..rows }
}

/// The route and the table that a stream of dead letters is of.
pub fn route_and_table(stream: &StreamKey) -> (&str, &str) {
    (stream.route.strip_suffix(SUFFIX).unwrap_or(&stream.route), &stream.table)
}

/// Whether a stream is one of dead letters.
pub fn is_stream_of_dead_letters(stream: &StreamKey) -> bool {
    stream.route.ends_with(SUFFIX)
}

/// Whether a record is of dead letters.
pub fn is_of_dead_letters(record: &Record) -> bool {
    record.statement.is_empty()
}

pub fn record(
    rejected: RejectedMessages,
    stream: StreamKey,
    client_id: &str,
    receipts: &AckHistory,
    compression: Compression,
) -> Record {
    let RejectedMessages { messages, reasons } = rejected;
    let mut out = Vec::new();
    for reason in &reasons {
        for text in [reason.code.as_str(), &reason.message] {
            out.extend((text.len() as u32).to_le_bytes());
            out.extend(text.as_bytes());
        }
    }
    let first = messages.receive_times().first().map_or_else(SystemTime::now, |(at, _)| at.system);
    Record {
        stream,
        statement: String::new(),
        received_at: first,
        rows: 0,
        messages: messages.len() as u32,
        block_bytes: 0,
        block: Bytes::new(),
        raw: messages::encode(messages, client_id, &out, compression)
            .expect("a batch is far smaller than 4 GiB"),
        receipts: ack_receipts::encode(receipts, client_id),
    }
}

/// The reasons that [`record`] wrote behind this number of messages. `None`: it did not write this.
pub fn reasons(mut stored: Bytes, messages: usize) -> Option<Vec<Reason>> {
    let reasons: Option<Vec<Reason>> = (0..messages)
        .map(|_| {
            let code = text(&mut stored)?;
            let code = Code::ALL.into_iter().find(|own| own.as_str() == code)?;
            Some(Reason::new(code, text(&mut stored)?))
        })
        .collect();
    reasons.filter(|_| stored.is_empty())
}

fn text(stored: &mut Bytes) -> Option<String> {
    let len = stored.try_get_u32_le().ok()? as usize;
    let bytes = (len <= stored.len()).then(|| stored.split_to(len))?;
    String::from_utf8(bytes.into()).ok()
}
