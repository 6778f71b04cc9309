//! Which messages still owe the broker an acknowledgement.
//!
//! - Acknowledgements leave in the order of receipt (MQTT 5, 4.6), so a settled message waits for those before it.
//! - They never cross a reconnect: an entry of an earlier connection is only acknowledged after the broker has sent
//!   its message again.
//! - A broker that kept the session sends again what was not acknowledged, under the same packet id and with DUP
//!   (MQTT 5, 4.4). Such a message is already in a batch of ours: it is recognised, not taken twice.

use std::collections::{HashMap, VecDeque};

/// The messages of one batch, by sequence number, as runs of consecutive ones.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub struct Owed {
    runs: Vec<(u64, u64)>,
}

impl Owed {
    #[inline]
    pub fn add(&mut self, sequence: u64) {
        match self.runs.last_mut() {
            Some((first, count)) if *first + *count == sequence => *count += 1,
            _ => self.runs.push((sequence, 1)),
        }
    }

    pub fn is_empty(&self) -> bool {
        self.runs.is_empty()
    }
}

#[derive(Debug)]
pub struct Receipts {
    /// In the order of receipt on this connection; the first has the sequence number `first`.
    entries: VecDeque<Entry>,
    first: u64,
    /// How many of the first entries have their acknowledgement written into the buffer, but perhaps not sent.
    leaving: usize,
    /// The packet ids of `entries`, a bit for each.
    in_use: Box<[u64; 1024]>,
    /// Entries of earlier connections that the broker has not sent again yet, by packet id.
    carried: HashMap<u16, Carried>,
    /// Where an entry of an earlier connection is now, by its first sequence number.
    moved: HashMap<u64, Place>,
}

#[derive(Debug)]
struct Entry {
    packet_id: u16,
    fingerprint: u32,
    settled: bool,
    /// The sequence number under which a batch knows the message: its own, unless it was sent again.
    origin: u64,
}

#[derive(Debug)]
struct Carried {
    fingerprint: u32,
    settled: bool,
    origin: u64,
}

#[derive(Debug, Clone, Copy)]
enum Place {
    Carried(u16),
    Again(u64),
}

#[derive(Debug, PartialEq, Eq)]
pub enum Receipt {
    /// To be settled under this sequence number.
    New(u64),
    /// Sent again, on this connection or after an earlier one: it is in a batch already.
    Again,
    /// Another message under a packet id that is still in use.
    InUse,
}

impl Default for Receipts {
    fn default() -> Self {
        Receipts {
            entries: VecDeque::new(),
            first: 0,
            leaving: 0,
            in_use: Box::new([0; 1024]),
            carried: HashMap::new(),
            moved: HashMap::new(),
        }
    }
}

impl Receipts {
    /// Messages received on this connection and not acknowledged.
    pub fn unacknowledged(&self) -> usize {
        self.entries.len() - self.leaving
    }

    /// Records a message. The fingerprint tells a message that is sent again from another one that was given the
    /// same packet id by a broker that lost its memory in between.
    pub fn receive(&mut self, packet_id: u16, duplicate: bool, fingerprint: u32) -> Receipt {
        if self.is_in_use(packet_id) {
            let known = self.entries.iter().position(|entry| entry.packet_id == packet_id);
            let Some(at) = known else { return Receipt::InUse };
            if duplicate && self.entries[at].fingerprint == fingerprint {
                return Receipt::Again;
            }
            if at >= self.leaving {
                return Receipt::InUse;
            }
            // A broker that uses an id again has had our acknowledgement for it, and those before.
            self.left(self.first + at as u64 + 1);
        }
        self.in_use[packet_id as usize / 64] |= 1 << (packet_id % 64);
        let sequence = self.first + self.entries.len() as u64;
        let mut entry = Entry { packet_id, fingerprint, settled: false, origin: sequence };
        let mut receipt = Receipt::New(sequence);
        if !self.carried.is_empty()
            && let Some(carried) = self.carried.remove(&packet_id)
        {
            if duplicate && carried.fingerprint == fingerprint {
                entry.settled = carried.settled;
                entry.origin = carried.origin;
                receipt = Receipt::Again;
                self.moved.insert(carried.origin, Place::Again(sequence));
            } else {
                self.moved.remove(&carried.origin);
            }
        }
        self.entries.push_back(entry);
        receipt
    }

    /// What was owed for these messages may now be paid.
    pub fn settle(&mut self, owed: &Owed) {
        for (first, count) in &owed.runs {
            for sequence in *first..first + count {
                let sequence = match self.moved.get(&sequence) {
                    Some(Place::Carried(packet_id)) => {
                        if let Some(carried) = self.carried.get_mut(packet_id) {
                            carried.settled = true;
                        }
                        continue;
                    }
                    Some(Place::Again(now)) => *now,
                    None => sequence,
                };
                if let Some(entry) =
                    sequence.checked_sub(self.first).and_then(|at| self.entries.get_mut(at as usize))
                {
                    entry.settled = true;
                }
            }
        }
    }

    fn is_in_use(&self, packet_id: u16) -> bool {
        self.in_use[packet_id as usize / 64] >> (packet_id % 64) & 1 == 1
    }

    /// The next acknowledgement that may be written: its sequence number and packet id. It counts as unsent until
    /// [`Receipts::left`]: should the connection end before, the message is known when it comes again.
    pub fn next_acknowledgement(&mut self) -> Option<(u64, u16)> {
        let entry = self.entries.get(self.leaving).filter(|entry| entry.settled)?;
        self.leaving += 1;
        Some((self.first + self.leaving as u64 - 1, entry.packet_id))
    }

    /// The written acknowledgements below this sequence number have left.
    pub fn left(&mut self, below: u64) {
        let count = below.saturating_sub(self.first).min(self.leaving as u64) as usize;
        for entry in self.entries.drain(..count) {
            self.in_use[entry.packet_id as usize / 64] &= !(1 << (entry.packet_id % 64));
            if entry.origin != self.first {
                self.moved.remove(&entry.origin);
            }
            self.first += 1;
        }
        self.leaving -= count;
    }

    /// A new connection begins. Only a broker that kept the session will send again what is not acknowledged.
    pub fn reconnect(&mut self, session_present: bool) {
        self.leaving = 0;
        self.in_use.fill(0);
        if session_present {
            for entry in self.entries.drain(..) {
                self.first += 1;
                self.moved.insert(entry.origin, Place::Carried(entry.packet_id));
                let Entry { packet_id, fingerprint, settled, origin } = entry;
                self.carried.insert(packet_id, Carried { fingerprint, settled, origin });
            }
        } else {
            self.first += self.entries.len() as u64;
            self.entries.clear();
            self.carried.clear();
            self.moved.clear();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn owed(sequences: &[u64]) -> Owed {
        let mut owed = Owed::default();
        sequences.iter().for_each(|s| owed.add(*s));
        owed
    }

    fn popped(receipts: &mut Receipts) -> Vec<u16> {
        let popped: Vec<(u64, u16)> = std::iter::from_fn(|| receipts.next_acknowledgement()).collect();
        receipts.left(u64::MAX);
        popped.into_iter().map(|(_, packet_id)| packet_id).collect()
    }

    #[test]
    fn acknowledgements_leave_in_order_of_receipt() {
        let mut receipts = Receipts::default();
        for id in [11, 12, 13] {
            receipts.receive(id, false, 0);
        }
        receipts.settle(&owed(&[1, 2]));
        assert_eq!(popped(&mut receipts), [0u16; 0]);
        receipts.settle(&owed(&[0]));
        assert_eq!(popped(&mut receipts), [11, 12, 13]);
        assert_eq!(receipts.receive(14, false, 0), Receipt::New(3));
        receipts.settle(&owed(&[0, 3]));
        assert_eq!(popped(&mut receipts), [14]);
    }

    #[test]
    fn what_is_sent_again_is_recognised_and_acknowledged_once_settled() {
        let mut receipts = Receipts::default();
        receipts.receive(1, false, 10);
        receipts.receive(2, false, 20);
        receipts.reconnect(true);
        assert_eq!(popped(&mut receipts), [0u16; 0], "nothing is acknowledged across a reconnect");
        receipts.settle(&owed(&[0]));
        assert_eq!(receipts.receive(1, true, 10), Receipt::Again);
        assert_eq!(receipts.receive(2, true, 20), Receipt::Again);
        assert_eq!(popped(&mut receipts), [1]);
        receipts.reconnect(true);
        assert_eq!(receipts.receive(2, true, 20), Receipt::Again);
        receipts.settle(&owed(&[1]));
        assert_eq!(popped(&mut receipts), [2]);
        assert_eq!((receipts.carried.len(), receipts.moved.len()), (0, 0));
    }

    #[test]
    fn what_is_sent_again_on_the_same_connection_is_recognised() {
        let mut receipts = Receipts::default();
        receipts.receive(1, false, 10);
        assert_eq!(receipts.receive(1, true, 10), Receipt::Again);
        assert_eq!(receipts.receive(1, false, 10), Receipt::InUse);
        assert_eq!(receipts.receive(1, true, 99), Receipt::InUse);
        receipts.settle(&owed(&[0]));
        assert_eq!(popped(&mut receipts), [1]);
        assert_eq!(receipts.receive(1, false, 10), Receipt::New(1));
    }

    #[test]
    fn an_acknowledgement_that_did_not_leave_is_made_again() {
        let mut receipts = Receipts::default();
        receipts.receive(1, false, 10);
        receipts.settle(&owed(&[0]));
        assert_eq!(receipts.next_acknowledgement(), Some((0, 1)));
        receipts.reconnect(true);
        assert_eq!(receipts.receive(1, true, 10), Receipt::Again);
        assert_eq!(popped(&mut receipts), [1]);
    }

    #[test]
    fn another_message_under_a_known_packet_id_is_new() {
        let mut receipts = Receipts::default();
        receipts.receive(1, false, 10);
        receipts.reconnect(true);
        assert_eq!(receipts.receive(1, true, 99), Receipt::New(1));
        receipts.settle(&owed(&[0]));
        assert_eq!(popped(&mut receipts), [0u16; 0], "the old batch does not pay for the new message");
        receipts.settle(&owed(&[1]));
        assert_eq!(popped(&mut receipts), [1]);
    }

    #[test]
    fn a_broker_without_the_session_is_owed_nothing() {
        let mut receipts = Receipts::default();
        receipts.receive(1, false, 10);
        receipts.reconnect(false);
        assert_eq!(receipts.receive(1, true, 10), Receipt::New(1));
        receipts.settle(&owed(&[0]));
        assert_eq!(popped(&mut receipts), [0u16; 0]);
    }
}
