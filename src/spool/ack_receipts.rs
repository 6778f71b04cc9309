//! Which messages of a broker's session are in the log, or were: when the broker sends one of them to the next process, because
//! the acknowledgement was lost with this one, it is known (`mqtt/acknowledged.rs`).
//!
//! A record holds the receipts of its messages, so that both are on disk or neither. Each segment begins with the newest of
//! what was synced before: no segment is kept for its receipts but the last.

use std::collections::BTreeMap;

use bytes::{Buf, Bytes};

use crate::core::ack_history::{AckHistory, AckRecord};
use crate::spool::wal::entry::{HEADER, Header, Kind};

/// The receipts of a record; empty where there are none. Layout: see the header of [`super`].
pub fn encode(acknowledged: &AckHistory, client_id: &str) -> Bytes {
    newest(acknowledged, client_id, usize::MAX)
}

/// The newest ones, in no more than so many bytes.
fn newest(acknowledged: &AckHistory, client_id: &str, bytes: usize) -> Bytes {
    let most = bytes.saturating_sub(HEAD + client_id.len()) / RECEIPT;
    let receipts = acknowledged.iter();
    let older = receipts.len().saturating_sub(most);
    let receipts = receipts.skip(older);
    // MQTT knows no longer client id than this.
    let (Ok(id_bytes), 1..) = (u16::try_from(client_id.len()), receipts.len()) else { return Bytes::new() };
    let mut out = Vec::with_capacity(HEAD + client_id.len() + receipts.len() * RECEIPT);
    out.extend(acknowledged.session().to_le_bytes());
    out.extend(id_bytes.to_le_bytes());
    out.extend(client_id.as_bytes());
    for AckRecord { packet_id, qos, fingerprint } in receipts {
        out.extend(packet_id.to_le_bytes());
        out.push(qos);
        out.extend(fingerprint.to_le_bytes());
    }
    out.into()
}

const HEAD: usize = 10;
const RECEIPT: usize = 7;

/// What is known of each connection.
#[derive(Debug, Default)]
pub struct Remembered {
    sessions: BTreeMap<u32, Session>,
    /// Of records that are not synced, and of those behind them, in the order of their sequences.
    waiting: Vec<Waiting>,
}

/// The receipts of a record that are not among those of its session yet.
#[derive(Debug)]
struct Waiting {
    sequence: u64,
    connection: u32,
    receipts: Bytes,
    /// It is synced itself.
    is_synced: bool,
}

#[derive(Debug)]
pub struct Session {
    pub client_id: String,
    pub acknowledged: AckHistory,
}

impl Remembered {
    /// Takes in the receipts of a record that is not synced.
    pub fn append(&mut self, sequence: u64, connection: u32, receipts: &Bytes) {
        self.wait(sequence, connection, receipts, false);
    }

    /// Takes in the receipts of a record that was found in a log, after those of the records before it. What is remembered
    /// reaches up to one sequence: behind a record that is not synced also those wait that are.
    pub fn found(&mut self, sequence: u64, connection: u32, receipts: &Bytes, is_synced: bool) {
        if is_synced && self.waiting.is_empty() {
            self.add(connection, receipts);
        } else {
            self.wait(sequence, connection, receipts, is_synced);
        }
    }

    fn wait(&mut self, sequence: u64, connection: u32, receipts: &Bytes, is_synced: bool) {
        if !receipts.is_empty() {
            self.waiting.push(Waiting { sequence, connection, receipts: receipts.clone(), is_synced });
        }
    }

    /// All that was taken in is synced.
    pub fn synced(&mut self) {
        for Waiting { connection, receipts, .. } in std::mem::take(&mut self.waiting) {
            self.add(connection, &receipts);
        }
    }

    /// Takes in the receipts of a record that is synced.
    pub fn add(&mut self, connection: u32, receipts: &[u8]) {
        let Some((id, client_id, mut receipts)) = head(receipts) else { return };
        let session = self.sessions.entry(connection).or_insert_with(|| Session::new(client_id, id));
        if (session.client_id.as_str(), session.acknowledged.session()) != (client_id, id) {
            *session = Session::new(client_id, id);
        }
        while receipts.len() >= RECEIPT {
            session.acknowledged.push(AckRecord {
                packet_id: receipts.get_u16_le(),
                qos: receipts.get_u8(),
                fingerprint: receipts.get_u32_le(),
            });
        }
    }

    pub fn is_empty(&self) -> bool {
        self.sessions.is_empty()
    }

    pub fn session(&self, connection: u32) -> Option<&Session> {
        self.sessions.get(&connection)
    }

    /// The entry that a segment begins with, of about so many bytes at most; `next_sequence` is that of the next record.
    pub fn entry(&self, marker: u64, next_sequence: u64, bytes: usize) -> Vec<u8> {
        let mut further = self.waiting.iter().filter(|waiting| waiting.is_synced).peekable();
        if self.is_empty() && further.peek().is_none() {
            return Vec::new();
        }
        let mut entry = vec![0; HEADER];
        entry.extend((self.sessions.len() as u32).to_le_bytes());
        for (connection, Session { client_id, acknowledged }) in &self.sessions {
            let receipts = newest(acknowledged, client_id, bytes / self.sessions.len());
            entry.extend(connection.to_le_bytes());
            entry.extend((receipts.len() as u32).to_le_bytes());
            entry.extend(receipts);
        }
        for Waiting { sequence, connection, receipts, .. } in further {
            entry.extend(sequence.to_le_bytes());
            entry.extend(connection.to_le_bytes());
            entry.extend((receipts.len() as u32).to_le_bytes());
            entry.extend_from_slice(receipts);
        }
        let first_unsynced = self.waiting.first().map_or(next_sequence, |waiting| waiting.sequence);
        let header = Header::new(Kind::Receipts, first_unsynced, &entry[HEADER..]);
        entry[..HEADER].copy_from_slice(&header.to_bytes(marker));
        entry
    }

    /// From the body of such an entry; also the receipts of records behind those it is about, by their sequences.
    pub fn of_entry(mut body: Bytes) -> (Remembered, Vec<(u64, u32, Bytes)>) {
        let mut remembered = Remembered::default();
        let take = |body: &mut Bytes| {
            let connection = body.try_get_u32_le().ok()?;
            let len = body.try_get_u32_le().ok()? as usize;
            (len <= body.len()).then(|| (connection, body.split_to(len)))
        };
        for _ in 0..body.try_get_u32_le().unwrap_or(0) {
            let Some((connection, receipts)) = take(&mut body) else { break };
            remembered.add(connection, &receipts);
        }
        let mut further = Vec::new();
        while let Ok(sequence) = body.try_get_u64_le()
            && let Some((connection, receipts)) = take(&mut body)
        {
            further.push((sequence, connection, receipts));
        }
        (remembered, further)
    }
}

impl Session {
    fn new(client_id: &str, id: u64) -> Session {
        Session { client_id: client_id.into(), acknowledged: AckHistory::of_session(id) }
    }
}

/// The session, the client id, and what follows.
fn head(mut receipts: &[u8]) -> Option<(u64, &str, &[u8])> {
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
                fingerprint: *id as u32 * 7,
            });
        }
        encode(&acknowledged, client_id)
    }

    fn ids(remembered: &Remembered, connection: u32) -> Vec<u16> {
        let session = remembered.session(connection);
        session.map_or_else(Vec::new, |session| session.acknowledged.iter().map(|r| r.packet_id).collect())
    }

    #[test]
    fn what_is_synced_comes_back_from_an_entry() {
        let mut remembered = Remembered::default();
        remembered.append(1, 0, &receipts(5, "a", &[1, 2]));
        remembered.append(2, 1, &receipts(6, "b", &[1]));
        assert!(remembered.is_empty() && remembered.entry(9, 3, 100).is_empty(), "nothing is synced");
        remembered.synced();
        remembered.append(3, 0, &receipts(5, "a", &[3]));
        let entry = remembered.entry(9, 4, 100);
        let header = Header::parse(&entry, 9).unwrap();
        assert_eq!((header.kind, header.sequence, header.len()), (Kind::Receipts, 3, entry.len()));
        let (back, further) = Remembered::of_entry(Bytes::from(entry).slice(HEADER..));
        assert_eq!(further, []);
        assert_eq!((ids(&back, 0), ids(&back, 1)), (vec![1, 2], vec![1]));
        assert_eq!(back.session(0).unwrap().acknowledged, remembered.session(0).unwrap().acknowledged);
        assert_eq!(back.session(1).unwrap().client_id, "b");

        let small = remembered.entry(9, 4, 2 * (HEAD + "a".len() + RECEIPT));
        let (back, _) = Remembered::of_entry(Bytes::from(small).slice(HEADER..));
        assert_eq!((ids(&back, 0), ids(&back, 1)), (vec![2], vec![1]), "the newest");
    }

    #[test]
    fn what_is_synced_behind_what_is_not_comes_back_once() {
        let mut remembered = Remembered::default();
        remembered.found(1, 0, &receipts(5, "a", &[1]), true);
        remembered.found(2, 0, &receipts(5, "a", &[2]), false);
        remembered.found(3, 0, &receipts(5, "a", &[3]), true);
        assert_eq!(ids(&remembered, 0), [1]);
        let entry = remembered.entry(9, 4, 100);
        assert_eq!(Header::parse(&entry, 9).unwrap().sequence, 2);
        let (back, further) = Remembered::of_entry(Bytes::from(entry).slice(HEADER..));
        assert_eq!((ids(&back, 0), further), (vec![1], vec![(3, 0, receipts(5, "a", &[3]))]));
        remembered.synced();
        assert_eq!(ids(&remembered, 0), [1, 2, 3]);
    }

    #[test]
    fn a_new_session_forgets_the_last() {
        let mut remembered = Remembered::default();
        remembered.add(0, &receipts(5, "a", &[1, 2]));
        remembered.add(0, &receipts(7, "a", &[1]));
        assert_eq!(ids(&remembered, 0), [1]);
        remembered.add(0, &receipts(7, "other", &[4]));
        assert_eq!(ids(&remembered, 0), [4]);
    }
}
