//! The acknowledgement history of each connection, on disk. If acknowledgements are lost with the process, the broker sends
//! their messages again to the next process, which recognises them by this history (`core/ack_history.rs`).
//!
//! A record holds the ack records of its messages, its receipts, so that both are on disk or neither. Each segment begins with
//! the newest receipts of all records synced before, so that only the last segment is kept for its receipts.

use std::collections::BTreeMap;

use bytes::{Buf, Bytes};

use crate::core::ack_history::{AckHistory, AckRecord};
use crate::spool::wal::entry::{EntryKind, HEADER, Header};

/// The receipts of a record. Empty if there are none. The layout stands in the header of [`super`].
pub fn encode(acknowledged: &AckHistory, client_id: &str) -> Bytes {
    newest(acknowledged, client_id, usize::MAX)
}

/// The newest receipts that fit in `bytes`.
fn newest(acknowledged: &AckHistory, client_id: &str, bytes: usize) -> Bytes {
    let most = bytes.saturating_sub(HEAD + client_id.len()) / RECEIPT;
    let receipts = acknowledged.iter();
    let older = receipts.len().saturating_sub(most);
    let receipts = receipts.skip(older);
    // MQTT allows no longer client id.
    let (Ok(id_bytes), 1..) = (u16::try_from(client_id.len()), receipts.len()) else { return Bytes::new() };
    let mut out = Vec::with_capacity(HEAD + client_id.len() + receipts.len() * RECEIPT);
    out.extend(acknowledged.session().to_le_bytes());
    out.extend(id_bytes.to_le_bytes());
    out.extend(client_id.as_bytes());
    for AckRecord { packet_id, qos, fingerprint } in receipts {
        out.extend(packet_id.to_le_bytes());
        out.push(qos | WIDE);
        out.extend(fingerprint.to_le_bytes());
    }
    out.into()
}

const HEAD: usize = 10;
const RECEIPT: usize = 11;
/// A bit of the QoS, of receipts with a fingerprint of 64 bits. Earlier ones have the CRC32C of topic and payload, which equals no
/// fingerprint of today.
const WIDE: u8 = 0x80;

/// The acknowledgement history of each connection.
#[derive(Debug, Default)]
pub struct AckHistoryStore {
    sessions: BTreeMap<u32, SessionHistory>,
    /// Receipts of records that are not synced, and of the records behind these, in the order of their sequences.
    unmerged: Vec<UnmergedReceipts>,
}

/// Receipts of a record that are not part of its session's history yet.
#[derive(Debug)]
struct UnmergedReceipts {
    sequence: u64,
    connection: u32,
    receipts: Bytes,
    /// The record is synced, but one in front of it is not.
    is_synced: bool,
}

#[derive(Debug)]
pub struct SessionHistory {
    pub client_id: String,
    pub acknowledged: AckHistory,
}

impl AckHistoryStore {
    /// Adds the receipts of a record that is not synced.
    pub fn append(&mut self, sequence: u64, connection: u32, receipts: &Bytes) {
        self.add_later(sequence, connection, receipts, false);
    }

    /// Adds the receipts of a record that was found in a log, in the order of sequences. The history has no gaps: behind a
    /// record that is not synced, the receipts of synced records wait as well.
    pub fn found(&mut self, sequence: u64, connection: u32, receipts: &Bytes, is_synced: bool) {
        if is_synced && self.unmerged.is_empty() {
            self.add(connection, receipts);
        } else {
            self.add_later(sequence, connection, receipts, is_synced);
        }
    }

    fn add_later(&mut self, sequence: u64, connection: u32, receipts: &Bytes, is_synced: bool) {
        if !receipts.is_empty() {
            self.unmerged.push(UnmergedReceipts {
                sequence,
                connection,
                receipts: receipts.clone(),
                is_synced,
            });
        }
    }

    /// All records that were added are synced.
    pub fn synced(&mut self) {
        for UnmergedReceipts { connection, receipts, .. } in std::mem::take(&mut self.unmerged) {
            self.add(connection, &receipts);
        }
    }

    /// Adds the receipts of a record that is synced.
    pub fn add(&mut self, connection: u32, receipts: &[u8]) {
        let Some((id, client_id, mut receipts)) = parse_head(receipts) else { return };
        let session = self.sessions.entry(connection).or_insert_with(|| SessionHistory::new(client_id, id));
        if (session.client_id.as_str(), session.acknowledged.session()) != (client_id, id) {
            *session = SessionHistory::new(client_id, id);
        }
        while let Some(record) = parse(&mut receipts) {
            session.acknowledged.push(record);
        }
    }

    pub fn is_empty(&self) -> bool {
        self.sessions.is_empty()
    }

    pub fn session(&self, connection: u32) -> Option<&SessionHistory> {
        self.sessions.get(&connection)
    }

    /// The entry for the beginning of a segment, of about `bytes` at most. `next_sequence` is that of the next record.
    pub fn entry(&self, marker: u64, next_sequence: u64, bytes: usize) -> Vec<u8> {
        let mut further = self.unmerged.iter().filter(|unmerged| unmerged.is_synced).peekable();
        if self.is_empty() && further.peek().is_none() {
            return Vec::new();
        }
        let mut entry = vec![0; HEADER];
        entry.extend((self.sessions.len() as u32).to_le_bytes());
        for (connection, SessionHistory { client_id, acknowledged }) in &self.sessions {
            let receipts = newest(acknowledged, client_id, bytes / self.sessions.len());
            entry.extend(connection.to_le_bytes());
            entry.extend((receipts.len() as u32).to_le_bytes());
            entry.extend(receipts);
        }
        for UnmergedReceipts { sequence, connection, receipts, .. } in further {
            entry.extend(sequence.to_le_bytes());
            entry.extend(connection.to_le_bytes());
            entry.extend((receipts.len() as u32).to_le_bytes());
            entry.extend_from_slice(receipts);
        }
        let first_unsynced = self.unmerged.first().map_or(next_sequence, |unmerged| unmerged.sequence);
        let header = Header::new(EntryKind::Receipts, first_unsynced, &entry[HEADER..]);
        entry[..HEADER].copy_from_slice(&header.to_bytes(marker));
        entry
    }

    /// Reads the body of such an entry. Also returns the receipts of synced records behind one that was not synced: sequence,
    /// connection and receipts.
    pub fn of_entry(mut body: Bytes) -> (AckHistoryStore, Vec<(u64, u32, Bytes)>) {
        let mut store = AckHistoryStore::default();
        let take = |body: &mut Bytes| {
            let connection = body.try_get_u32_le().ok()?;
            let len = body.try_get_u32_le().ok()? as usize;
            (len <= body.len()).then(|| (connection, body.split_to(len)))
        };
        for _ in 0..body.try_get_u32_le().unwrap_or(0) {
            let Some((connection, receipts)) = take(&mut body) else { break };
            store.add(connection, &receipts);
        }
        let mut further = Vec::new();
        while let Ok(sequence) = body.try_get_u64_le()
            && let Some((connection, receipts)) = take(&mut body)
        {
            further.push((sequence, connection, receipts));
        }
        (store, further)
    }
}

impl SessionHistory {
    fn new(client_id: &str, id: u64) -> SessionHistory {
        SessionHistory { client_id: client_id.into(), acknowledged: AckHistory::of_session(id) }
    }
}

/// The next receipt.
fn parse(receipts: &mut &[u8]) -> Option<AckRecord> {
    let packet_id = receipts.try_get_u16_le().ok()?;
    let qos = receipts.try_get_u8().ok()?;
    let fingerprint = match qos & WIDE {
        0 => receipts.try_get_u32_le().ok()?.into(),
        _ => receipts.try_get_u64_le().ok()?,
    };
    Some(AckRecord { packet_id, qos: qos & !WIDE, fingerprint })
}

/// Session, client id, and the rest.
fn parse_head(mut receipts: &[u8]) -> Option<(u64, &str, &[u8])> {
    let session = receipts.try_get_u64_le().ok()?;
    let len = receipts.try_get_u16_le().ok()? as usize;
    let (client_id, rest) = receipts.split_at_checked(len)?;
    Some((session, std::str::from_utf8(client_id).ok()?, rest))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn receipts(session: u64, client_id: &str, ids: &[u16]) -> Bytes {
        let mut acknowledged = AckHistory::of_session(session);
        for id in ids {
            acknowledged.push(AckRecord {
                packet_id: *id,
                qos: 1 + (id % 2) as u8,
                fingerprint: u64::from(*id) * 0x1234_5678_9abc,
            });
        }
        encode(&acknowledged, client_id)
    }

    fn ids(store: &AckHistoryStore, connection: u32) -> Vec<u16> {
        let session = store.session(connection);
        session.map_or_else(Vec::new, |session| session.acknowledged.iter().map(|r| r.packet_id).collect())
    }

    #[test]
    fn synced_receipts_come_back_from_an_entry() {
        let mut store = AckHistoryStore::default();
        store.append(1, 0, &receipts(5, "a", &[1, 2]));
        store.append(2, 1, &receipts(6, "b", &[1]));
        assert!(store.is_empty() && store.entry(9, 3, 100).is_empty(), "nothing is synced");
        store.synced();
        store.append(3, 0, &receipts(5, "a", &[3]));
        let entry = store.entry(9, 4, 100);
        let header = Header::parse(&entry, 9).unwrap();
        assert_eq!((header.kind, header.sequence, header.len()), (EntryKind::Receipts, 3, entry.len()));
        let (back, further) = AckHistoryStore::of_entry(Bytes::from(entry).slice(HEADER..));
        assert_eq!(further, []);
        assert_eq!((ids(&back, 0), ids(&back, 1)), (vec![1, 2], vec![1]));
        assert_eq!(back.session(0).unwrap().acknowledged, store.session(0).unwrap().acknowledged);
        assert_eq!(back.session(1).unwrap().client_id, "b");

        let small = store.entry(9, 4, 2 * (HEAD + "a".len() + RECEIPT));
        let (back, _) = AckHistoryStore::of_entry(Bytes::from(small).slice(HEADER..));
        assert_eq!((ids(&back, 0), ids(&back, 1)), (vec![2], vec![1]), "the newest");
    }

    #[test]
    fn receipts_synced_behind_unsynced_ones_come_back_once() {
        let mut store = AckHistoryStore::default();
        store.found(1, 0, &receipts(5, "a", &[1]), true);
        store.found(2, 0, &receipts(5, "a", &[2]), false);
        store.found(3, 0, &receipts(5, "a", &[3]), true);
        assert_eq!(ids(&store, 0), [1]);
        let entry = store.entry(9, 4, 100);
        assert_eq!(Header::parse(&entry, 9).unwrap().sequence, 2);
        let (back, further) = AckHistoryStore::of_entry(Bytes::from(entry).slice(HEADER..));
        assert_eq!((ids(&back, 0), further), (vec![1], vec![(3, 0, receipts(5, "a", &[3]))]));
        store.synced();
        assert_eq!(ids(&store, 0), [1, 2, 3]);
    }

    #[test]
    fn a_new_session_forgets_the_last() {
        let mut store = AckHistoryStore::default();
        store.add(0, &receipts(5, "a", &[1, 2]));
        store.add(0, &receipts(7, "a", &[1]));
        assert_eq!(ids(&store, 0), [1]);
        store.add(0, &receipts(7, "other", &[4]));
        assert_eq!(ids(&store, 0), [4]);
    }
}
