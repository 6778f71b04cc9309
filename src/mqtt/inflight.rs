//! Tracks the messages that the broker has in flight to us: which of them still lack an acknowledgement.
//!
//! - Acknowledgements leave in the order of receipt (MQTT 5, 4.6), so a settled message waits for those before it.
//! - No acknowledgement crosses a reconnect: a message of an earlier connection is only acknowledged after the broker has
//!   delivered it again.
//! - A broker that kept the session redelivers what was not acknowledged (MQTT 5, 4.4). Such a message already is in a
//!   batch: it is recognised, not taken twice. MQTT wants the same packet id and DUP. Brokers that number anew (RabbitMQ) are
//!   recognised by topic and payload; brokers that leave out DUP as well (aedes), if the redeliveries come before the first
//!   new message of the connection, or by packet id and content where each connection counts from a random id.
//! - At QoS 2 the acknowledgement is PUBREC, and the packet id is kept until PUBREL, over reconnects too
//!   (MQTT 5, 4.3.3). It is kept a little longer, until the broker's packets show that our PUBCOMP arrived: a mosquitto that
//!   restarts before that delivers the message again, though it had sent PUBREL.
//! - At QoS 1 an acknowledgement that was sent may be lost, and some brokers redeliver long after the reconnect (NATS after
//!   30 s). [`RedeliveryIndex`] recognises the message in the history.

mod exactly_once;
mod pubrec_pacing;
mod resumed;

use std::collections::{HashMap, HashSet, VecDeque};

use crate::core::ack_history::{AckHistory, AckRecord};
use crate::core::ack_set::AckSet;
use crate::mqtt::inflight::exactly_once::{AwaitingPubrel, UnconfirmedPubcomp};
use crate::mqtt::inflight::pubrec_pacing::PubrecPacing;
use crate::mqtt::inflight::resumed::{Resumed, ResumedMessages, ResumedState};
use crate::mqtt::redelivery_index::{Evidence, Match, RedeliveryIndex, ascends, follows};

pub use crate::mqtt::inflight::exactly_once::PubrelOutcome;

/// How many messages of a connection may be redeliveries without DUP.
const MAX_UNMARKED: usize = 4_096;
/// Brokers that do not begin at a random id begin a session with 1, or close to it.
const MAX_FIRST_ID: u16 = 256;

#[derive(Debug)]
pub struct InflightTracker {
    /// In the order of outcome on this connection; the first has the sequence number `first`.
    entries: VecDeque<Entry>,
    first: u64,
    /// The first `unsent_acks` entries have their acknowledgement in the output buffer; it may not be sent yet.
    unsent_acks: usize,
    /// Messages of QoS 2 whose PUBREC was sent on this connection and whose PUBREL has not come.
    awaiting_pubrel: HashMap<u16, AwaitingPubrel>,
    /// Messages of QoS 2 whose PUBCOMP is written and may not have arrived, in the order of the PUBCOMPs.
    unconfirmed_pubcomps: VecDeque<UnconfirmedPubcomp>,
    pacing: PubrecPacing,
    /// Two messages whose PUBRECs had left together when the last connection ended.
    interrupted_pair: Option<(u16, u16)>,
    /// PUBRECs below this sequence number left before a ping.
    pinged_below: u64,
    /// The packet ids of `entries` and `awaiting_pubrel`, a bit for each.
    in_use: Box<[u64; 1024]>,
    /// Entries of earlier connections that the broker has not delivered again yet.
    resumed: ResumedMessages,
    /// Whether the broker has sent no new message since a resumed session began: what comes may be redeliveries without DUP.
    is_leading: bool,
    /// Whether the broker has set DUP in this session: then only such messages are redeliveries, once it has sent a new one.
    sets_dup: bool,
    /// Whether the broker has delivered again without DUP in this session.
    omits_dup: bool,
    /// How many more messages may be redeliveries among new ones, for a broker that does not set DUP.
    unmarked_left: usize,
    /// Whether the session began on this connection, with no message yet.
    is_session_new: bool,
    /// Whether the session's first packet id was a high one: the broker counts from a random id on each connection (aedes).
    has_random_ids: bool,
    /// The contents of the messages that came since then: aedes delivers queued ones twice.
    unmarked_contents: HashSet<u64>,
    /// Where an unsettled entry of an earlier connection is now, by its first sequence number.
    redelivered_as: HashMap<u64, Redelivery>,
    history: AckHistory,
    /// How many records `history` has had, those included that it has dropped.
    history_end: u64,
    index: RedeliveryIndex,
    /// The packet id of the newest message that was not a redelivery, and the position in `history`
    /// from which on such ids ascend.
    last_new_id: u16,
    ids_ascend_from: u64,
    /// The most messages without an acknowledgement at any time.
    max_in_flight: usize,
}

#[derive(Debug)]
struct Entry {
    packet_id: u16,
    qos: u8,
    fingerprint: u64,
    settled: bool,
    /// `history` already has it.
    is_in_history: bool,
    /// The sequence number under which a batch knows the message: its own, unless it is a redelivery.
    origin: u64,
}

#[derive(Debug, Clone, Copy)]
enum Redelivery {
    /// Not delivered again yet: the place in `resumed`.
    Awaited(usize),
    /// Delivered again under this sequence number.
    As(u64),
}

#[derive(Debug, PartialEq, Eq)]
pub enum ReceiveOutcome {
    /// To be settled under this sequence number.
    New(u64),
    /// Delivered before, on this connection or an earlier one: a batch already has it.
    Duplicate,
    /// Delivered again although its PUBREC was sent: the caller sends PUBREC again at once.
    AwaitingPubrel,
    /// Another message under a packet id that is still in use.
    InUse,
}

/// An acknowledgement that may be sent: PUBACK at QoS 1, PUBREC at QoS 2.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Acknowledgement {
    pub sequence: u64,
    pub packet_id: u16,
    pub qos: u8,
}

impl Default for InflightTracker {
    fn default() -> Self {
        InflightTracker {
            entries: VecDeque::new(),
            first: 0,
            unsent_acks: 0,
            awaiting_pubrel: HashMap::new(),
            unconfirmed_pubcomps: VecDeque::new(),
            pacing: PubrecPacing::default(),
            interrupted_pair: None,
            pinged_below: 0,
            in_use: Box::new([0; 1024]),
            resumed: ResumedMessages::default(),
            is_leading: false,
            sets_dup: false,
            omits_dup: false,
            unmarked_left: 0,
            is_session_new: false,
            has_random_ids: false,
            unmarked_contents: HashSet::new(),
            redelivered_as: HashMap::new(),
            history: AckHistory::default(),
            history_end: 0,
            index: RedeliveryIndex::default(),
            last_new_id: 0,
            ids_ascend_from: 0,
            max_in_flight: 0,
        }
    }
}

impl InflightTracker {
    /// Takes what an earlier process acknowledged.
    pub fn restore_ack_history(&mut self, history: AckHistory) {
        self.history_end = history.iter().len() as u64;
        for (at, record) in (0..).zip(history.iter()) {
            if !ascends(self.last_new_id, record.packet_id) {
                self.ids_ascend_from = at;
            }
            self.last_new_id = record.packet_id;
        }
        self.history = history;
        self.index = RedeliveryIndex::default();
    }

    pub fn session(&self) -> u64 {
        self.history.session()
    }

    /// Messages received on this connection and not acknowledged.
    pub fn unacknowledged(&self) -> usize {
        self.entries.len() - self.unsent_acks
    }

    /// Records a message. `fingerprint` is that of [`fingerprint`](crate::core::ack_history::fingerprint).
    #[inline]
    pub fn receive(&mut self, packet_id: u16, qos: u8, duplicate: bool, fingerprint: u64) -> ReceiveOutcome {
        if self.is_in_use(packet_id)
            && let Some(outcome) = self.receive_again(packet_id, qos, duplicate, fingerprint)
        {
            return outcome;
        }
        if std::mem::take(&mut self.is_session_new) {
            self.has_random_ids = packet_id > MAX_FIRST_ID;
        }
        self.in_use[packet_id as usize / 64] |= 1 << (packet_id % 64);
        let sequence = self.first + self.entries.len() as u64;
        let mut entry =
            Entry { packet_id, qos, fingerprint, settled: false, is_in_history: false, origin: sequence };
        let may_be_known = duplicate
            || self.is_leading
            || self.unmarked_left > 0
            || self.resumed.has_finished()
            || (qos == 2 && !self.resumed.is_empty());
        // A message with DUP may come late, under an old id; but not when ids begin anew.
        let shows_order = !duplicate || self.is_leading;
        let is_known = may_be_known && self.recognise(&mut entry, duplicate);
        if shows_order && !is_known {
            if !ascends(self.last_new_id, packet_id) {
                self.ids_ascend_from = self.history_end + self.entries.len() as u64;
            }
            self.last_new_id = packet_id;
        }
        self.entries.push_back(entry);
        self.max_in_flight = self.max_in_flight.max(self.entries.len());
        if is_known { ReceiveOutcome::Duplicate } else { ReceiveOutcome::New(sequence) }
    }

    /// Whether the message was received on an earlier connection, or acknowledged before.
    #[cold]
    fn recognise(&mut self, entry: &mut Entry, duplicate: bool) -> bool {
        let Entry { packet_id, qos, fingerprint, .. } = *entry;
        // With random ids DUP is that of the publisher, which aedes passes on.
        self.sets_dup |= duplicate && !self.has_random_ids;
        if self.sets_dup {
            self.unmarked_left = 0;
        }
        // A broker that mixes PUBRELs up delivers again what it has released, and without DUP.
        let may_be_again = duplicate || self.is_leading || self.unmarked_left > 0;
        if let Some(resumed) = self.resumed.take(entry, duplicate || self.pacing.mixes(), may_be_again) {
            entry.is_in_history = resumed.is_in_history;
            if !duplicate && qos == 1 {
                self.omits_dup = true;
                self.unmarked_contents.insert(fingerprint);
            }
            match resumed.state {
                ResumedState::Open(origin) | ResumedState::ReleasedOpen(origin) => {
                    let sequence = std::mem::replace(&mut entry.origin, origin);
                    self.redelivered_as.insert(origin, Redelivery::As(sequence));
                }
                ResumedState::Settled | ResumedState::Released => entry.settled = true,
            }
            return true;
        }
        let record = AckRecord { packet_id, qos, fingerprint };
        // Without DUP an acknowledged message that looks the same may be an earlier one: to drop it would lose it.
        // It cannot if its id is of another run than the new ones of this connection.
        let is_of_another_run =
            self.has_random_ids && (self.is_leading || !follows(self.last_new_id, packet_id));
        if (duplicate || is_of_another_run) && qos == 1 {
            let evidence = self.evidence(duplicate, is_of_another_run);
            match self.index.find(&self.history, record, evidence) {
                Some(Match::Sure) => {
                    (entry.is_in_history, entry.settled) = (true, true);
                    if self.unmarked_left > 0 {
                        self.unmarked_contents.insert(fingerprint);
                    }
                    return true;
                }
                Some(Match::Ambiguous) => entry.is_in_history |= duplicate,
                None => {}
            }
        }
        if duplicate {
            return false;
        }
        if self.unmarked_left == 0 {
            self.end_leading();
            return false;
        }
        // It may stand between redeliveries.
        self.end_leading();
        self.unmarked_left -= 1;
        let omits_dup = self.omits_dup || self.has_random_ids;
        let is_known = qos == 1 && omits_dup && self.recognise_unmarked(record);
        // The message itself is in the history or will be: a second record would say that contents repeat.
        entry.settled |= is_known;
        entry.is_in_history |= is_known;
        is_known
    }

    fn evidence(&self, duplicate: bool, is_of_another_run: bool) -> Evidence {
        Evidence {
            end: self.history_end,
            ids_ascend_from: self.ids_ascend_from,
            max_in_flight: self.max_in_flight,
            duplicate,
            is_of_another_run,
        }
    }

    /// Whether a broker that does not set DUP delivers again a message that was acknowledged, or one of this connection. An
    /// equal message may be a new one: only where no content has ever repeated it is not. The acknowledgement of a copy leaves
    /// behind that of the message itself.
    fn recognise_unmarked(&mut self, record: AckRecord) -> bool {
        if !self.index.contents_differ(&self.history, self.history_end) {
            return false;
        }
        let evidence = self.evidence(false, false);
        let is_acknowledged = self.index.find(&self.history, record, evidence) == Some(Match::Sure);
        !self.unmarked_contents.insert(record.fingerprint) || is_acknowledged
    }

    /// The broker sent a new message. Redeliveries come first (MQTT 5, 4.6), so it has our last packets for all messages
    /// that were finished before.
    fn end_leading(&mut self) {
        self.is_leading = false;
        for origin in self.resumed.drop_finished() {
            self.redelivered_as.remove(&origin);
        }
    }

    /// A message under a packet id that is in use on this connection; `None` if it is not any more.
    #[cold]
    fn receive_again(
        &mut self,
        packet_id: u16,
        qos: u8,
        duplicate: bool,
        fingerprint: u64,
    ) -> Option<ReceiveOutcome> {
        if let Some(at) = self.entries.iter().position(|entry| entry.packet_id == packet_id) {
            let entry = &self.entries[at];
            // At QoS 2 the packet id alone says it, [MQTT-4.3.3-10]; at QoS 1 it takes DUP, [MQTT-3.3.1-1], which aedes omits.
            if (duplicate || qos == 2 || self.has_random_ids)
                && (entry.qos, entry.fingerprint) == (qos, fingerprint)
            {
                return Some(ReceiveOutcome::Duplicate);
            }
            if at >= self.unsent_acks {
                return Some(ReceiveOutcome::InUse);
            }
            // A broker that uses an id again has had our acknowledgement for it, and those before.
            self.acks_sent(self.first + at as u64 + 1);
        }
        let awaiting_pubrel = self.awaiting_pubrel.get(&packet_id)?;
        if awaiting_pubrel.is_skipped && !duplicate {
            self.awaiting_pubrel.remove(&packet_id);
            return None;
        }
        Some(match qos == 2 && awaiting_pubrel.fingerprint == fingerprint {
            true => ReceiveOutcome::AwaitingPubrel,
            false => ReceiveOutcome::InUse,
        })
    }

    /// These messages may be acknowledged.
    pub fn settle(&mut self, acks: &AckSet) {
        for (first, count) in acks.runs() {
            for sequence in *first..first + count {
                let sequence = match self.redelivered_as.get(&sequence) {
                    Some(Redelivery::Awaited(place)) => {
                        self.resumed.settle(*place);
                        self.redelivered_as.remove(&sequence);
                        continue;
                    }
                    Some(Redelivery::As(now)) => *now,
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

    /// The next acknowledgement that may be written. It counts as unsent until [`InflightTracker::acks_sent`]: should the connection
    /// end before, the message is known when it comes again.
    pub fn next_acknowledgement(&mut self) -> Option<Acknowledgement> {
        let Entry { packet_id, qos, .. } =
            *self.entries.get(self.unsent_acks).filter(|entry| entry.settled)?;
        if qos == 2 && !self.may_send_pubrec(packet_id) {
            return None;
        }
        self.unsent_acks += 1;
        Some(Acknowledgement { sequence: self.first + self.unsent_acks as u64 - 1, packet_id, qos })
    }

    /// The written acknowledgements below this sequence number have left.
    pub fn acks_sent(&mut self, below: u64) {
        let count = below.saturating_sub(self.first).min(self.unsent_acks as u64) as usize;
        for _ in 0..count {
            let Some(entry) = self.entries.pop_front() else { break };
            let Entry { packet_id, qos, fingerprint, origin, is_in_history, .. } = entry;
            if qos == 2 {
                let awaiting = AwaitingPubrel { fingerprint, sequence: self.first, is_skipped: false };
                self.awaiting_pubrel.insert(packet_id, awaiting);
            } else {
                self.forget(packet_id);
                if !is_in_history {
                    self.history.push(AckRecord { packet_id, qos, fingerprint });
                    self.history_end += 1;
                }
            }
            if origin != self.first {
                self.redelivered_as.remove(&entry.origin);
            }
            self.first += 1;
        }
        self.unsent_acks -= count;
    }

    /// A new connection begins. Only a broker that kept the session delivers again what is not acknowledged.
    pub fn reconnect(&mut self, session_present: bool) {
        self.unsent_acks = 0;
        self.pinged_below = 0;
        self.is_session_new = !session_present;
        self.interrupted_pair = self.pacing.interrupt().filter(|_| session_present);
        self.in_use.fill(0);
        self.first += self.entries.len() as u64;
        if !session_present {
            self.entries.clear();
            self.awaiting_pubrel.clear();
            self.unconfirmed_pubcomps.clear();
            self.resumed = ResumedMessages::default();
            self.is_leading = false;
            self.redelivered_as.clear();
            self.history = AckHistory::default();
            self.history_end = 0;
            self.index = RedeliveryIndex::default();
            (self.last_new_id, self.ids_ascend_from) = (0, 0);
            (self.sets_dup, self.omits_dup, self.unmarked_left) = (false, false, 0);
            self.has_random_ids = false;
            return;
        }
        let resumed = |packet_id, qos, fingerprint, state| Resumed {
            packet_id,
            qos,
            fingerprint,
            state,
            is_in_history: false,
        };
        let mut messages = self.resumed.take_all();
        let pubcomps = self.unconfirmed_pubcomps.drain(..);
        messages.extend(
            pubcomps
                .map(|pubcomp| resumed(pubcomp.packet_id, 2, pubcomp.fingerprint, ResumedState::Released)),
        );
        let mut awaiting: Vec<_> = self.awaiting_pubrel.drain().collect();
        awaiting.sort_unstable_by_key(|(_, message)| message.sequence);
        messages.extend(
            awaiting
                .into_iter()
                .map(|(id, message)| resumed(id, 2, message.fingerprint, message.resumed_state())),
        );
        messages.extend(self.entries.drain(..).map(|entry| Resumed {
            state: if entry.settled { ResumedState::Settled } else { ResumedState::Open(entry.origin) },
            is_in_history: entry.is_in_history,
            ..resumed(entry.packet_id, entry.qos, entry.fingerprint, ResumedState::Settled)
        }));
        self.redelivered_as.clear();
        self.resumed = ResumedMessages::new(messages);
        for (place, origin) in self.resumed.open() {
            self.redelivered_as.insert(origin, Redelivery::Awaited(place));
        }
        self.is_leading = !self.resumed.is_empty() || self.history_end > 0;
        self.unmarked_contents.clear();
        // As many as a queue may hold that the broker empties among new messages.
        let may_omit_dup = self.is_leading && !self.sets_dup;
        self.unmarked_left = if may_omit_dup { MAX_UNMARKED.max(4 * self.max_in_flight) } else { 0 };
    }
}

#[cfg(test)]
mod tests;
