//! Which messages still owe the broker an acknowledgement.
//!
//! - Acknowledgements leave in the order of receipt (MQTT 5, 4.6), so a settled message waits for those before it.
//! - They never cross a reconnect: an entry of an earlier connection is only acknowledged after the broker has sent
//!   its message again.
//! - A broker that kept the session sends again what was not acknowledged, under the same packet id and with DUP
//!   (MQTT 5, 4.4). Such a message is already in a batch of ours: it is recognised, not taken twice.
//! - At QoS 2 the acknowledgement is PUBREC, and the packet id is remembered until PUBREL, over reconnects too
//!   (MQTT 5, 4.3.3). It is remembered a little longer, until something shows that our PUBCOMP has arrived: a mosquitto
//!   that restarts before sends the message again, though it had sent PUBREL.
//! - At QoS 1 an acknowledgement that has left may not have arrived. What comes again then is recognised by [`Acknowledged`],
//!   until the broker has something new to say.

use std::collections::{HashMap, VecDeque};

use crate::core::ack_history::{self, Acknowledged};
use crate::core::ack_set::AckSet;

#[derive(Debug)]
pub struct Receipts {
    /// In the order of receipt on this connection; the first has the sequence number `first`.
    entries: VecDeque<Entry>,
    first: u64,
    /// How many of the first entries have their acknowledgement written into the buffer, but perhaps not sent.
    leaving: usize,
    /// Messages of QoS 2 whose PUBREC has left on this connection, and whose PUBREL has not come.
    unreleased: HashMap<u16, Unreleased>,
    /// Messages of QoS 2 whose PUBCOMP is written and may not have arrived, in the order of the PUBCOMPs.
    released: VecDeque<Released>,
    /// The packet ids of `entries` and `unreleased`, a bit for each.
    in_use: Box<[u64; 1024]>,
    /// Entries of earlier connections that the broker has not sent again yet, by packet id.
    carried: HashMap<u16, Carried>,
    /// Whether some of `carried` are finished: they only matter until the broker has something new to say.
    carries_finished: bool,
    /// Where an entry of an earlier connection that is not settled is now, by its first sequence number.
    moved: HashMap<u64, Place>,
    acknowledged: Acknowledged,
}

#[derive(Debug)]
struct Entry {
    packet_id: u16,
    qos: u8,
    fingerprint: u32,
    settled: bool,
    /// It stands among the acknowledged ones already.
    is_acknowledged: bool,
    /// The sequence number under which a batch knows the message: its own, unless it was sent again.
    origin: u64,
}

#[derive(Debug)]
struct Unreleased {
    fingerprint: u32,
    sequence: u64,
}

#[derive(Debug)]
struct Released {
    packet_id: u16,
    fingerprint: u32,
    /// The acknowledgements from this sequence number on were written later than the PUBCOMP.
    before: u64,
}

#[derive(Debug)]
struct Carried {
    qos: u8,
    fingerprint: u32,
    stage: Stage,
}

#[derive(Debug, Clone, Copy, PartialEq)]
enum Stage {
    /// In a batch, which knows it under this sequence number.
    Open(u64),
    Settled,
    /// At QoS 2: released, or about to be.
    Released,
    /// Released by a broker to which we never said PUBREC; a batch knows the message under this sequence number.
    ReleasedOpen(u64),
    /// Its acknowledgement left, on an earlier connection or in an earlier process.
    Acknowledged,
    /// The same, but another message may look like it.
    Doubtful,
}

impl Stage {
    /// The broker has no reason to send it again, unless it missed our last word.
    fn is_finished(self) -> bool {
        matches!(self, Stage::Released | Stage::ReleasedOpen(_) | Stage::Acknowledged | Stage::Doubtful)
    }
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
    /// Sent again although its PUBREC has left: it wants another at once.
    Unreleased,
    /// Another message under a packet id that is still in use.
    InUse,
}

/// An acknowledgement that may leave: PUBACK at QoS 1, PUBREC at QoS 2.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Acknowledgement {
    pub sequence: u64,
    pub packet_id: u16,
    pub qos: u8,
}

/// What a PUBREL was for.
#[derive(Debug, PartialEq, Eq)]
pub enum Release {
    Known,
    /// A message that was never there, or was released before.
    Unknown,
    /// A message whose PUBREC has not left.
    Early,
}

impl Default for Receipts {
    fn default() -> Self {
        Receipts {
            entries: VecDeque::new(),
            first: 0,
            leaving: 0,
            unreleased: HashMap::new(),
            released: VecDeque::new(),
            in_use: Box::new([0; 1024]),
            carried: HashMap::new(),
            carries_finished: false,
            moved: HashMap::new(),
            acknowledged: Acknowledged::default(),
        }
    }
}

impl Receipts {
    pub fn remember(&mut self, acknowledged: Acknowledged) {
        self.acknowledged = acknowledged;
    }

    pub fn session(&self) -> u64 {
        self.acknowledged.session()
    }

    /// Messages received on this connection and not acknowledged.
    pub fn unacknowledged(&self) -> usize {
        self.entries.len() - self.leaving
    }

    /// Records a message. The fingerprint tells a message that is sent again from another one that was given the
    /// same packet id by a broker that lost its memory in between.
    pub fn receive(&mut self, packet_id: u16, qos: u8, duplicate: bool, fingerprint: u32) -> Receipt {
        if self.is_in_use(packet_id)
            && let Some(receipt) = self.receive_again(packet_id, qos, duplicate, fingerprint)
        {
            return receipt;
        }
        self.in_use[packet_id as usize / 64] |= 1 << (packet_id % 64);
        let sequence = self.first + self.entries.len() as u64;
        let mut entry =
            Entry { packet_id, qos, fingerprint, settled: false, is_acknowledged: false, origin: sequence };
        let mut receipt = Receipt::New(sequence);
        if !self.carried.is_empty()
            && let Some(carried) = self.carried.remove(&packet_id)
        {
            let is_again = duplicate || (qos == 2 && !carried.stage.is_finished());
            if is_again && (carried.qos, carried.fingerprint) == (qos, fingerprint) {
                receipt = Receipt::Again;
                entry.is_acknowledged = matches!(carried.stage, Stage::Acknowledged | Stage::Doubtful);
                match carried.stage {
                    Stage::Open(origin) | Stage::ReleasedOpen(origin) => {
                        entry.origin = origin;
                        self.moved.insert(origin, Place::Again(sequence));
                    }
                    Stage::Settled | Stage::Released | Stage::Acknowledged => entry.settled = true,
                    Stage::Doubtful => receipt = Receipt::New(sequence),
                }
            } else if let Stage::Open(origin) | Stage::ReleasedOpen(origin) = carried.stage {
                self.moved.remove(&origin);
            }
        }
        if self.carries_finished && !duplicate && receipt != Receipt::Again {
            // What is sent again comes first: MQTT 5, 4.6.
            let moved = &mut self.moved;
            self.carried.retain(|_, carried| {
                if let Stage::ReleasedOpen(origin) = carried.stage {
                    moved.remove(&origin);
                }
                !carried.stage.is_finished()
            });
            self.carries_finished = false;
        }
        self.entries.push_back(entry);
        receipt
    }

    /// A message under a packet id that is in use on this connection; `None` if it is not any more.
    #[cold]
    fn receive_again(
        &mut self,
        packet_id: u16,
        qos: u8,
        duplicate: bool,
        fingerprint: u32,
    ) -> Option<Receipt> {
        if let Some(at) = self.entries.iter().position(|entry| entry.packet_id == packet_id) {
            let entry = &self.entries[at];
            // At QoS 2 the packet id alone says it, [MQTT-4.3.3-10]; at QoS 1 it takes DUP, [MQTT-3.3.1-1].
            if (duplicate || qos == 2) && (entry.qos, entry.fingerprint) == (qos, fingerprint) {
                return Some(Receipt::Again);
            }
            if at >= self.leaving {
                return Some(Receipt::InUse);
            }
            // A broker that uses an id again has had our acknowledgement for it, and those before.
            self.left(self.first + at as u64 + 1);
        }
        let unreleased = self.unreleased.get(&packet_id)?;
        Some(match qos == 2 && unreleased.fingerprint == fingerprint {
            true => Receipt::Unreleased,
            false => Receipt::InUse,
        })
    }

    /// The broker will not send this message of QoS 2 again.
    pub fn release(&mut self, packet_id: u16) -> Release {
        if self.is_in_use(packet_id)
            && let Some(at) = self.entries.iter().position(|entry| entry.packet_id == packet_id)
        {
            if at >= self.leaving || self.entries[at].qos != 2 {
                return Release::Early;
            }
            // It has had our PUBREC, and what was written before.
            self.left(self.first + at as u64 + 1);
        }
        if let Some(Unreleased { fingerprint, sequence }) = self.unreleased.remove(&packet_id) {
            self.forget(packet_id);
            // It answers our PUBREC, so that all we wrote before that has arrived.
            while self.released.front().is_some_and(|released| released.before <= sequence) {
                self.released.pop_front();
            }
            let before = self.first + self.leaving as u64;
            self.released.push_back(Released { packet_id, fingerprint, before });
            return Release::Known;
        }
        match self.carried.get_mut(&packet_id) {
            // Also one that is not settled: on the earlier connection the broker may have had a PUBREC of which we do
            // not know that it left.
            Some(carried) if carried.qos == 2 && !carried.stage.is_finished() => {
                carried.stage = match carried.stage {
                    Stage::Open(origin) => Stage::ReleasedOpen(origin),
                    _ => Stage::Released,
                };
                self.carries_finished = true;
                Release::Known
            }
            _ => Release::Unknown,
        }
    }

    /// What was owed for these messages may now be paid.
    pub fn settle(&mut self, owed: &AckSet) {
        for (first, count) in owed.runs() {
            for sequence in *first..first + count {
                let sequence = match self.moved.get(&sequence) {
                    Some(Place::Carried(packet_id)) => {
                        if let Some(carried) = self.carried.get_mut(packet_id) {
                            carried.stage = match carried.stage {
                                Stage::ReleasedOpen(_) => Stage::Released,
                                _ => Stage::Settled,
                            };
                        }
                        self.moved.remove(&sequence);
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

    fn forget(&mut self, packet_id: u16) {
        self.in_use[packet_id as usize / 64] &= !(1 << (packet_id % 64));
    }

    /// The next acknowledgement that may be written. It counts as unsent until [`Receipts::left`]: should the connection
    /// end before, the message is known when it comes again.
    pub fn next_acknowledgement(&mut self) -> Option<Acknowledgement> {
        let Entry { packet_id, qos, .. } = *self.entries.get(self.leaving).filter(|entry| entry.settled)?;
        self.leaving += 1;
        Some(Acknowledgement { sequence: self.first + self.leaving as u64 - 1, packet_id, qos })
    }

    /// The written acknowledgements below this sequence number have left.
    pub fn left(&mut self, below: u64) {
        let count = below.saturating_sub(self.first).min(self.leaving as u64) as usize;
        for _ in 0..count {
            let Some(entry) = self.entries.pop_front() else { break };
            let Entry { packet_id, qos, fingerprint, origin, is_acknowledged, .. } = entry;
            if qos == 2 {
                self.unreleased.insert(packet_id, Unreleased { fingerprint, sequence: self.first });
            } else {
                self.forget(packet_id);
                if !is_acknowledged {
                    self.acknowledged.push(ack_history::Receipt { packet_id, qos, fingerprint });
                }
            }
            if origin != self.first {
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
            self.carried.retain(|_, carried| !matches!(carried.stage, Stage::Acknowledged | Stage::Doubtful));
            for (ack_history::Receipt { packet_id, qos, fingerprint }, is_sure) in
                self.acknowledged.to_recognise()
            {
                let stage = if is_sure { Stage::Acknowledged } else { Stage::Doubtful };
                // What the last connection left behind under this packet id is younger.
                self.carried.entry(packet_id).or_insert(Carried { qos, fingerprint, stage });
                self.carries_finished = true;
            }
            self.carries_finished |= !self.released.is_empty();
            for Released { packet_id, fingerprint, .. } in self.released.drain(..) {
                self.carried.insert(packet_id, Carried { qos: 2, fingerprint, stage: Stage::Released });
            }
            for (packet_id, Unreleased { fingerprint, .. }) in self.unreleased.drain() {
                self.carried.insert(packet_id, Carried { qos: 2, fingerprint, stage: Stage::Settled });
            }
            for Entry { packet_id, qos, fingerprint, settled, is_acknowledged, origin } in
                self.entries.drain(..)
            {
                self.first += 1;
                let stage = if settled {
                    self.moved.remove(&origin);
                    if is_acknowledged { Stage::Acknowledged } else { Stage::Settled }
                } else {
                    self.moved.insert(origin, Place::Carried(packet_id));
                    Stage::Open(origin)
                };
                self.carried.insert(packet_id, Carried { qos, fingerprint, stage });
            }
        } else {
            self.first += self.entries.len() as u64;
            self.entries.clear();
            self.unreleased.clear();
            self.released.clear();
            self.carries_finished = false;
            self.carried.clear();
            self.moved.clear();
            self.acknowledged = Acknowledged::default();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn owed(sequences: &[u64]) -> AckSet {
        let mut owed = AckSet::default();
        sequences.iter().for_each(|s| owed.add(*s));
        owed
    }

    fn popped(receipts: &mut Receipts) -> Vec<u16> {
        let popped: Vec<_> = std::iter::from_fn(|| receipts.next_acknowledgement()).collect();
        receipts.left(u64::MAX);
        popped.into_iter().map(|ack| ack.packet_id).collect()
    }

    #[test]
    fn acknowledgements_leave_in_order_of_receipt() {
        let mut receipts = Receipts::default();
        for id in [11, 12, 13] {
            receipts.receive(id, 1, false, 0);
        }
        receipts.settle(&owed(&[1, 2]));
        assert_eq!(popped(&mut receipts), [0u16; 0]);
        receipts.settle(&owed(&[0]));
        assert_eq!(popped(&mut receipts), [11, 12, 13]);
        assert_eq!(receipts.receive(14, 1, false, 0), Receipt::New(3));
        receipts.settle(&owed(&[0, 3]));
        assert_eq!(popped(&mut receipts), [14]);
    }

    #[test]
    fn what_is_sent_again_is_recognised_and_acknowledged_once_settled() {
        let mut receipts = Receipts::default();
        receipts.receive(1, 1, false, 10);
        receipts.receive(2, 1, false, 20);
        receipts.reconnect(true);
        assert_eq!(popped(&mut receipts), [0u16; 0], "nothing is acknowledged across a reconnect");
        receipts.settle(&owed(&[0]));
        assert_eq!(receipts.receive(1, 1, true, 10), Receipt::Again);
        assert_eq!(receipts.receive(2, 1, true, 20), Receipt::Again);
        assert_eq!(popped(&mut receipts), [1]);
        receipts.reconnect(true);
        assert_eq!(receipts.receive(2, 1, true, 20), Receipt::Again);
        receipts.settle(&owed(&[1]));
        assert_eq!(popped(&mut receipts), [2]);
        assert!(receipts.carried.values().all(|carried| carried.stage.is_finished()));
        assert_eq!(receipts.moved.len(), 0);
    }

    #[test]
    fn what_is_sent_again_on_the_same_connection_is_recognised() {
        let mut receipts = Receipts::default();
        receipts.receive(1, 1, false, 10);
        assert_eq!(receipts.receive(1, 1, true, 10), Receipt::Again);
        assert_eq!(receipts.receive(1, 1, false, 10), Receipt::InUse);
        assert_eq!(receipts.receive(1, 1, true, 99), Receipt::InUse);
        receipts.settle(&owed(&[0]));
        assert_eq!(popped(&mut receipts), [1]);
        assert_eq!(receipts.receive(1, 1, false, 10), Receipt::New(1));
    }

    #[test]
    fn an_acknowledgement_that_did_not_leave_is_made_again() {
        let mut receipts = Receipts::default();
        receipts.receive(1, 1, false, 10);
        receipts.settle(&owed(&[0]));
        let ack = Acknowledgement { sequence: 0, packet_id: 1, qos: 1 };
        assert_eq!(receipts.next_acknowledgement(), Some(ack));
        receipts.reconnect(true);
        assert_eq!(receipts.receive(1, 1, true, 10), Receipt::Again);
        assert_eq!(popped(&mut receipts), [1]);
    }

    #[test]
    fn an_acknowledgement_that_left_and_was_lost_is_made_again() {
        let lost = || {
            let mut receipts = Receipts::default();
            for id in 1..=2000 {
                let fingerprint = if id == 1999 { 1998 } else { id as u32 };
                assert_eq!(receipts.receive(id, 1, false, fingerprint), Receipt::New(id as u64 - 1));
            }
            receipts.settle(&owed(&(0..2000).collect::<Vec<_>>()));
            assert_eq!(popped(&mut receipts).len(), 2000);
            receipts
        };
        let mut receipts = lost();
        for _ in 0..2 {
            receipts.reconnect(true);
            assert_eq!(receipts.receive(1500, 1, true, 1500), Receipt::Again);
            assert_eq!(receipts.receive(2000, 1, true, 2000), Receipt::Again);
            assert_eq!(popped(&mut receipts), [1500, 2000]);
        }
        receipts.reconnect(true);
        assert_eq!(receipts.receive(1997, 1, true, 0), Receipt::New(2004), "other content");
        assert_eq!(receipts.receive(1998, 1, true, 1998), Receipt::New(2005), "content that came twice");

        let mut receipts = lost();
        receipts.reconnect(true);
        assert_eq!(receipts.receive(2001, 1, false, 2001), Receipt::New(2000));
        assert_eq!(
            receipts.receive(2000, 1, true, 2000),
            Receipt::New(2001),
            "what is sent again comes first"
        );

        let mut receipts = lost();
        receipts.reconnect(false);
        receipts.reconnect(true);
        assert_eq!(receipts.receive(2000, 1, true, 2000), Receipt::New(2000), "of another session");
    }

    #[test]
    fn another_message_under_a_known_packet_id_is_new() {
        let mut receipts = Receipts::default();
        receipts.receive(1, 1, false, 10);
        receipts.reconnect(true);
        assert_eq!(receipts.receive(1, 1, true, 99), Receipt::New(1));
        receipts.settle(&owed(&[0]));
        assert_eq!(popped(&mut receipts), [0u16; 0], "the old batch does not pay for the new message");
        receipts.settle(&owed(&[1]));
        assert_eq!(popped(&mut receipts), [1]);
    }

    #[test]
    fn a_broker_without_the_session_is_owed_nothing() {
        let mut receipts = Receipts::default();
        receipts.receive(1, 1, false, 10);
        receipts.reconnect(false);
        assert_eq!(receipts.receive(1, 1, true, 10), Receipt::New(1));
        receipts.settle(&owed(&[0]));
        assert_eq!(popped(&mut receipts), [0u16; 0]);
    }

    #[test]
    fn a_packet_id_of_qos_2_is_remembered_until_it_is_released() {
        let mut receipts = Receipts::default();
        receipts.receive(1, 2, false, 10);
        assert_eq!(receipts.release(1), Release::Early);
        receipts.settle(&owed(&[0]));
        assert_eq!(popped(&mut receipts), [1]);
        assert_eq!((receipts.unacknowledged(), receipts.unreleased.len()), (0, 1));
        assert_eq!(receipts.receive(1, 2, true, 10), Receipt::Unreleased);
        assert_eq!(receipts.receive(1, 2, true, 99), Receipt::InUse);
        assert_eq!(receipts.receive(1, 1, false, 10), Receipt::InUse);
        assert_eq!(receipts.release(1), Release::Known);
        assert_eq!((receipts.release(1), receipts.unreleased.len()), (Release::Unknown, 0));
        assert_eq!(receipts.receive(1, 2, true, 10), Receipt::New(1), "[MQTT-4.3.3-12]");
    }

    #[test]
    fn a_packet_id_of_qos_2_is_remembered_over_reconnects() {
        let mut receipts = Receipts::default();
        for id in [1, 2, 3] {
            receipts.receive(id, 2, false, 10);
        }
        receipts.settle(&owed(&[0, 1]));
        assert_eq!(popped(&mut receipts), [1, 2]);
        receipts.reconnect(true);
        receipts.reconnect(true);
        assert_eq!(receipts.release(1), Release::Known);
        assert_eq!(receipts.release(1), Release::Unknown);
        assert_eq!(receipts.receive(2, 2, true, 10), Receipt::Again);
        assert_eq!(receipts.receive(3, 2, true, 10), Receipt::Again);
        assert_eq!(popped(&mut receipts), [2], "its PUBREC was lost; the other is not settled");
        assert_eq!(receipts.release(2), Release::Known);
        receipts.settle(&owed(&[2]));
        assert_eq!(popped(&mut receipts), [3]);
        receipts.reconnect(false);
        assert_eq!(receipts.release(3), Release::Unknown, "a broker that has forgotten the session");
        assert_eq!((receipts.carried.len(), receipts.moved.len(), receipts.released.len()), (0, 0, 0));
    }

    #[test]
    fn a_packet_id_is_remembered_until_our_pubcomp_has_arrived() {
        let resumed = |releases: &[u16]| {
            let mut receipts = Receipts::default();
            receipts.receive(1, 2, false, 10);
            receipts.settle(&owed(&[0]));
            assert_eq!(popped(&mut receipts), [1]);
            assert_eq!(receipts.release(1), Release::Known);
            receipts.receive(2, 2, false, 20);
            receipts.settle(&owed(&[1]));
            assert_eq!(popped(&mut receipts), [2]);
            for id in releases {
                assert_eq!(receipts.release(*id), Release::Known);
            }
            receipts.reconnect(true);
            receipts
        };
        let mut receipts = resumed(&[]);
        assert_eq!(receipts.receive(1, 2, true, 10), Receipt::Again);
        assert_eq!(popped(&mut receipts), [1]);
        assert_eq!(receipts.release(1), Release::Known);

        let mut receipts = resumed(&[]);
        assert_eq!(receipts.release(1), Release::Unknown);
        assert_eq!(receipts.receive(1, 2, false, 10), Receipt::New(2), "[MQTT-4.3.3-12]");

        let mut receipts = resumed(&[]);
        assert_eq!(receipts.receive(3, 2, false, 10), Receipt::New(2));
        assert_eq!(receipts.receive(1, 2, true, 10), Receipt::New(3), "the broker has gone on");

        let mut receipts = resumed(&[2]);
        assert_eq!(receipts.receive(1, 2, true, 10), Receipt::New(2), "the other PUBREL came after it");
        assert_eq!(receipts.receive(2, 2, true, 20), Receipt::Again);
    }

    #[test]
    fn a_release_says_that_the_acknowledgement_arrived() {
        let mut receipts = Receipts::default();
        receipts.receive(1, 2, false, 10);
        receipts.settle(&owed(&[0]));
        assert!(receipts.next_acknowledgement().is_some());
        assert_eq!(receipts.release(1), Release::Known);
        receipts.left(u64::MAX);
        assert_eq!((receipts.unacknowledged(), receipts.unreleased.len()), (0, 0));
    }

    #[test]
    fn what_was_released_before_its_time_still_waits_for_its_batch() {
        for is_settled_early in [false, true] {
            let mut receipts = Receipts::default();
            assert_eq!(receipts.receive(1, 2, false, 7), Receipt::New(0));
            receipts.reconnect(true);
            assert_eq!(receipts.release(1), Release::Known);
            if is_settled_early {
                receipts.settle(&owed(&[0]));
            }
            assert_eq!(receipts.receive(1, 2, true, 7), Receipt::Again);
            assert_eq!(receipts.next_acknowledgement().is_some(), is_settled_early);
            if !is_settled_early {
                receipts.settle(&owed(&[0]));
                assert!(receipts.next_acknowledgement().is_some());
            }
        }
    }
}
