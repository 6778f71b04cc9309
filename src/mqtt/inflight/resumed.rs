//! Messages of earlier connections that a broker may deliver again.

use std::collections::{HashMap, VecDeque};

use super::Entry;

/// As many as a broker can have in flight.
const MAX_MESSAGES: usize = 65_535;

#[derive(Debug)]
pub struct Resumed {
    pub packet_id: u16,
    pub qos: u8,
    pub fingerprint: u64,
    pub state: ResumedState,
    /// The history of acknowledged messages already has it.
    pub is_in_history: bool,
}

#[derive(Debug, Clone, Copy, PartialEq)]
pub enum ResumedState {
    /// In a batch, which knows it under this sequence number.
    Open(u64),
    Settled,
    /// At QoS 2: the broker sent PUBREL, or would have with its next packets.
    Released,
    /// The broker sent PUBREL though we know of no PUBREC; a batch knows the message under this sequence number.
    ReleasedOpen(u64),
}

impl ResumedState {
    /// The broker only delivers such a message again if our last packet for it was lost.
    fn is_finished(self) -> bool {
        matches!(self, ResumedState::Released | ResumedState::ReleasedOpen(_))
    }
}

/// In the order of receipt, with two ways to find one.
#[derive(Debug, Default)]
pub struct ResumedMessages {
    messages: Vec<Option<Resumed>>,
    /// How many of them are left.
    len: usize,
    /// Whether some may be finished.
    has_finished: bool,
    /// The youngest message of each packet id.
    by_id: HashMap<u16, usize>,
    /// The messages of each content, the oldest first.
    by_content: HashMap<u64, VecDeque<usize>>,
}

impl ResumedMessages {
    /// Keeps the youngest, if they are more than a broker can have in flight.
    pub fn new(mut messages: Vec<Resumed>) -> ResumedMessages {
        messages.drain(..messages.len().saturating_sub(MAX_MESSAGES));
        let mut resumed = ResumedMessages { len: messages.len(), ..ResumedMessages::default() };
        for (place, message) in messages.into_iter().enumerate() {
            resumed.has_finished |= message.state.is_finished();
            resumed.by_id.insert(message.packet_id, place);
            resumed.by_content.entry(message.fingerprint).or_default().push_back(place);
            resumed.messages.push(Some(message));
        }
        resumed
    }

    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    pub fn has_finished(&self) -> bool {
        self.has_finished
    }

    pub fn take_all(&mut self) -> Vec<Resumed> {
        std::mem::take(self).messages.into_iter().flatten().collect()
    }

    /// The place and the sequence number of each message that a batch has.
    pub fn open(&self) -> impl Iterator<Item = (usize, u64)> + '_ {
        self.messages.iter().enumerate().filter_map(|(place, message)| match message.as_ref()?.state {
            ResumedState::Open(origin) | ResumedState::ReleasedOpen(origin) => Some((place, origin)),
            _ => None,
        })
    }

    /// Takes the message that the broker delivers again: the one with this packet id and content, or the oldest with this
    /// content if `may_be_renumbered`. One that is finished is only delivered again with DUP (`may_be_finished`).
    pub(super) fn take(
        &mut self,
        entry: &Entry,
        may_be_finished: bool,
        may_be_renumbered: bool,
    ) -> Option<Resumed> {
        let Entry { packet_id, qos, fingerprint, .. } = *entry;
        let is_same = |message: &Resumed| {
            (message.qos, message.fingerprint) == (qos, fingerprint)
                // At QoS 2 the packet id alone says it, [MQTT-4.3.3-10].
                && (may_be_finished || !message.state.is_finished())
        };
        let by_id = self.by_id.get(&packet_id).copied().filter(|place| {
            self.messages[*place]
                .as_ref()
                .is_some_and(|message| is_same(message) && (may_be_renumbered || qos == 2))
        });
        let place = by_id.or_else(|| {
            let places = self.by_content.get(&fingerprint).filter(|_| may_be_renumbered)?;
            places.iter().copied().find(|place| {
                self.messages[*place]
                    .as_ref()
                    .is_some_and(|message| is_same(message) && !message.state.is_finished())
            })
        })?;
        self.remove(place)
    }

    fn remove(&mut self, place: usize) -> Option<Resumed> {
        let message = self.messages[place].take()?;
        self.len -= 1;
        if self.by_id.get(&message.packet_id) == Some(&place) {
            self.by_id.remove(&message.packet_id);
        }
        if let Some(places) = self.by_content.get_mut(&message.fingerprint) {
            places.retain(|other| *other != place);
        }
        if self.len == 0 {
            *self = ResumedMessages::default();
        }
        Some(message)
    }

    /// The broker sent PUBREL. Returns whether it is for one of these messages.
    pub fn release(&mut self, packet_id: u16) -> bool {
        let Some(message) = self.by_id.get(&packet_id).and_then(|place| self.messages[*place].as_mut())
        else {
            return false;
        };
        if message.qos != 2 || message.state.is_finished() {
            return false;
        }
        message.state = match message.state {
            ResumedState::Open(origin) => ResumedState::ReleasedOpen(origin),
            _ => ResumedState::Released,
        };
        self.has_finished = true;
        true
    }

    /// A batch has settled the message at this place.
    pub fn settle(&mut self, place: usize) {
        if let Some(message) = self.messages.get_mut(place).and_then(Option::as_mut) {
            message.state = match message.state {
                ResumedState::ReleasedOpen(_) => ResumedState::Released,
                _ => ResumedState::Settled,
            };
        }
    }

    /// Forgets the messages that the broker has finished. Returns the sequence numbers of those that a batch has.
    pub fn drop_finished(&mut self) -> Vec<u64> {
        if !std::mem::take(&mut self.has_finished) {
            return Vec::new();
        }
        let is_finished = |message: &Option<Resumed>| message.as_ref().is_some_and(|m| m.state.is_finished());
        let finished: Vec<_> =
            (0..self.messages.len()).filter(|place| is_finished(&self.messages[*place])).collect();
        let messages = finished
            .into_iter()
            .filter_map(|place| if self.messages.is_empty() { None } else { self.remove(place) });
        messages
            .filter_map(|message| match message.state {
                ResumedState::ReleasedOpen(origin) => Some(origin),
                _ => None,
            })
            .collect()
    }
}
