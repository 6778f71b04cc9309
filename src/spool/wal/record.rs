//! A record: rows of one route that arrived together, and what else is needed to insert them.

use std::time::{Duration, SystemTime};

use bytes::{Buf, Bytes};

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Record {
    pub lane: Lane,
    /// The INSERT statement that the block was made for.
    pub statement: String,
    /// When the oldest of its messages came.
    pub received_at: SystemTime,
    pub rows: u32,
    pub messages: u32,
    /// Bytes of the Native block before it was compressed.
    pub block_bytes: u32,
    /// The compressed Native block, as the body of an INSERT carries it.
    pub block: Bytes,
    /// The messages that the rows came from, as [`super::messages`] writes them.
    pub raw: Bytes,
    /// The receipts of these messages, as [`super::receipts`] writes them.
    pub receipts: Bytes,
}

/// What is inserted in the order received: the messages of one connection for one route.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Lane {
    pub connection: u32,
    /// The topic of the route: its place in the list changes with the configuration.
    pub route: String,
    pub table: String,
}

/// A record and the INSERT it belongs to: the body of an entry.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Assigned {
    /// The sequence of the INSERT's first record.
    pub insert: u64,
    /// The INSERT's deduplication token.
    pub token: String,
    pub record: Record,
}

impl Record {
    /// What it holds in memory.
    pub fn bytes(&self) -> usize {
        size_of::<Record>() + self.block.len() + self.raw.len() + self.receipts.len() + self.statement.len()
    }

    /// Appends the body of an entry.
    pub fn encode(&self, insert: u64, token: &str, out: &mut Vec<u8>) {
        let received = self.received_at.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
        out.extend(insert.to_le_bytes());
        out.extend((received.as_micros() as u64).to_le_bytes());
        for number in [self.rows, self.messages, self.block_bytes, self.lane.connection] {
            out.extend(number.to_le_bytes());
        }
        let Lane { route, table, .. } = &self.lane;
        let texts = [token, route, table, &self.statement].map(str::as_bytes);
        for bytes in texts.into_iter().chain([&self.raw[..], &self.receipts[..], &self.block[..]]) {
            // Each is far smaller than 4 GiB: see `Header::new`.
            out.extend((bytes.len() as u32).to_le_bytes());
            out.extend(bytes);
        }
    }
}

impl Assigned {
    /// `None`: not what [`Record::encode`] writes.
    pub fn decode(mut body: Bytes) -> Option<Assigned> {
        let body = &mut body;
        let insert = body.try_get_u64_le().ok()?;
        let received_at =
            SystemTime::UNIX_EPOCH.checked_add(Duration::from_micros(body.try_get_u64_le().ok()?))?;
        let rows = body.try_get_u32_le().ok()?;
        let messages = body.try_get_u32_le().ok()?;
        let block_bytes = body.try_get_u32_le().ok()?;
        let connection = body.try_get_u32_le().ok()?;
        let (token, route, table, statement) = (text(body)?, text(body)?, text(body)?, text(body)?);
        let (raw, receipts, block) = (bytes(body)?, bytes(body)?, bytes(body)?);
        let lane = Lane { connection, route, table };
        let record =
            Record { lane, statement, received_at, rows, messages, block_bytes, block, raw, receipts };
        body.is_empty().then_some(Assigned { insert, token, record })
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
    fn a_record_comes_back_as_it_went_in() {
        let record = Record {
            lane: Lane { connection: 3, route: "drivers/{id}".into(), table: "fleet.positions".into() },
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
        let assigned = Assigned::decode(Bytes::from(body.clone())).unwrap();
        assert_eq!(assigned, Assigned { insert: 41, token: "fleet-1f-29".into(), record });
        for len in 0..body.len() {
            assert!(Assigned::decode(Bytes::copy_from_slice(&body[..len])).is_none());
        }
    }
}
