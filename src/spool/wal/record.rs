//! A record: rows of one route that arrived together, with all that an INSERT of them needs.

use std::time::{Duration, SystemTime};

use bytes::{Buf, Bytes};

use crate::clickhouse::compression::decompressed_len;
use crate::spool::wal::write_batch::BodySink;

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Record {
    pub stream: StreamKey,
    /// The INSERT statement for which the block was encoded.
    pub statement: String,
    /// Receive time of its oldest message.
    pub received_at: SystemTime,
    pub rows: u32,
    pub messages: u32,
    /// Bytes of the Native block before compression.
    pub block_bytes: u32,
    /// The compressed Native block, as the body of an INSERT carries it.
    pub block: Bytes,
    /// The messages from which the rows were decoded, as [`crate::spool::messages`] encodes them.
    pub raw: Bytes,
    /// The receipts that identify these messages if the broker sends them again, as [`crate::spool::ack_receipts`] encodes it.
    pub receipts: Bytes,
}

/// Messages of one connection for one route and table. They are inserted in the order received.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StreamKey {
    pub connection: u32,
    /// The topic of the route. Its index would change with the configuration.
    pub route: String,
    pub table: String,
}

/// The body of a record's entry: the record and the INSERT that it belongs to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StoredRecord {
    /// The id of the INSERT: the sequence of its first record.
    pub insert: u64,
    /// The INSERT's deduplication token.
    pub token: String,
    pub record: Record,
}

impl Record {
    /// Bytes in memory.
    pub fn bytes(&self) -> usize {
        let StreamKey { route, table, .. } = &self.stream;
        let texts = self.statement.len() + route.len() + table.len();
        size_of::<Record>() + self.block.len() + self.raw.len() + self.receipts.len() + texts
    }

    /// Bytes of block and messages when they are decompressed.
    pub fn decoded_bytes(&self) -> u64 {
        u64::from(self.block_bytes) + decompressed_len(&self.raw) as u64
    }

    /// The same without the bytes of the entry around it.
    pub fn detached(self) -> Record {
        let copy = |bytes: &Bytes| Bytes::copy_from_slice(bytes);
        let (block, raw, receipts) = (copy(&self.block), copy(&self.raw), copy(&self.receipts));
        Record { block, raw, receipts, ..self }
    }

    /// Appends the body of an entry, or to the body of one that has several records.
    pub fn encode(&self, insert: u64, token: &str, out: &mut impl BodySink) {
        let received = self.received_at.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
        out.put(&insert.to_le_bytes());
        out.put(&(received.as_micros() as u64).to_le_bytes());
        for number in [self.rows, self.messages, self.block_bytes, self.stream.connection] {
            out.put(&number.to_le_bytes());
        }
        // Each is far smaller than 4 GiB: see `Header::of_body`.
        let length = |bytes: &[u8]| (bytes.len() as u32).to_le_bytes();
        let StreamKey { route, table, .. } = &self.stream;
        for text in [token, route, table, &self.statement].map(str::as_bytes) {
            out.put(&length(text));
            out.put(text);
        }
        for bytes in [&self.raw, &self.receipts, &self.block] {
            out.put(&length(bytes));
            out.put_shared(bytes);
        }
    }
}

impl StoredRecord {
    /// The records of an entry: one, or those that are on disk together or not at all. The sequence of the entry is that of
    /// the first, and the others have the next ones. `None`: [`Record::encode`] did not write this.
    pub fn decode(mut body: Bytes) -> Option<Vec<StoredRecord>> {
        let mut records = vec![StoredRecord::take(&mut body)?];
        while !body.is_empty() {
            records.push(StoredRecord::take(&mut body)?);
        }
        Some(records)
    }

    /// Takes a record off the front of the body of an entry.
    fn take(body: &mut Bytes) -> Option<StoredRecord> {
        let insert = body.try_get_u64_le().ok()?;
        let received_at =
            SystemTime::UNIX_EPOCH.checked_add(Duration::from_micros(body.try_get_u64_le().ok()?))?;
        let rows = body.try_get_u32_le().ok()?;
        let messages = body.try_get_u32_le().ok()?;
        let block_bytes = body.try_get_u32_le().ok()?;
        let connection = body.try_get_u32_le().ok()?;
        let (token, route, table, statement) = (text(body)?, text(body)?, text(body)?, text(body)?);
        let (raw, receipts, block) = (bytes(body)?, bytes(body)?, bytes(body)?);
        let stream = StreamKey { connection, route, table };
        let record =
            Record { stream, statement, received_at, rows, messages, block_bytes, block, raw, receipts };
        Some(StoredRecord { insert, token, record })
    }
}

fn bytes(body: &mut Bytes) -> Option<Bytes> {
    let len = body.try_get_u32_le().ok()? as usize;
    (len <= body.len()).then(|| body.split_to(len))
}

fn text(body: &mut Bytes) -> Option<String> {
    String::from_utf8(bytes(body)?.into()).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_record_comes_back_unchanged() {
        let record = Record {
            stream: StreamKey {
                connection: 3,
                route: "drivers/{id}".into(),
                table: "fleet.positions".into(),
            },
            statement: "INSERT INTO fleet.positions (id) FORMAT Native".into(),
            received_at: SystemTime::UNIX_EPOCH + Duration::from_micros(1_730_000_000_123_456),
            rows: 2,
            messages: 1,
            block_bytes: 99,
            block: Bytes::from_static(b"block"),
            raw: Bytes::new(),
            receipts: Bytes::from_static(b"receipts"),
        };
        let mut body = Vec::new();
        record.encode(41, "fleet-1f-29", &mut body);
        let assigned = StoredRecord::decode(Bytes::from(body.clone())).unwrap();
        let stored = StoredRecord { insert: 41, token: "fleet-1f-29".into(), record };
        assert_eq!(assigned, std::slice::from_ref(&stored));
        for len in 0..body.len() {
            assert!(StoredRecord::decode(Bytes::copy_from_slice(&body[..len])).is_none());
        }
        let first = body.len();
        stored.record.encode(42, "fleet-1f-2a", &mut body);
        let both = StoredRecord::decode(Bytes::from(body.clone())).unwrap();
        let second = StoredRecord { insert: 42, token: "fleet-1f-2a".into(), ..stored.clone() };
        assert_eq!(both, [stored, second]);
        for len in first + 1..body.len() {
            assert!(StoredRecord::decode(Bytes::copy_from_slice(&body[..len])).is_none());
        }
    }
}
