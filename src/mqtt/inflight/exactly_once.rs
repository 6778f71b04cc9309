//! QoS 2 behind PUBREC: which messages wait for their PUBREL, and which PUBRECs may leave.

use super::InflightTracker;
use super::pubrec_pacing::PubrecPacing;
use super::resumed::ResumedState;

/// A message of QoS 2 whose PUBREC was sent on this connection.
#[derive(Debug)]
pub(super) struct AwaitingPubrel {
    pub fingerprint: u64,
    pub sequence: u64,
    /// Its PUBREL will not come: the broker has answered later PUBRECs, or a ping.
    pub is_skipped: bool,
}

impl AwaitingPubrel {
    /// Its state on the next connection.
    pub fn resumed_state(&self) -> ResumedState {
        if self.is_skipped { ResumedState::Released } else { ResumedState::Settled }
    }
}

#[derive(Debug)]
pub(super) struct UnconfirmedPubcomp {
    pub packet_id: u16,
    pub fingerprint: u64,
    /// The acknowledgements from this sequence number on were written later than the PUBCOMP.
    pub before: u64,
}

/// The message that a PUBREL names.
#[derive(Debug, PartialEq, Eq)]
pub enum PubrelOutcome {
    Known,
    /// A message that never came, or whose PUBREL came before.
    Unknown,
    /// A message whose PUBREC was not sent.
    Early,
}

impl InflightTracker {
    /// The session is one of MQTT 3.1.1 that outlives its connection, perhaps with a broker that mixes PUBRELs up; see
    /// [`PubrecPacing`].
    pub fn pace_pubrecs(&mut self, is_paced: bool) {
        match (is_paced, self.pacing) {
            (true, PubrecPacing::Free) => self.pacing = PubrecPacing::Unproved,
            (false, _) => self.pacing = PubrecPacing::Free,
            _ => {}
        }
    }

    /// The next connection goes to another broker.
    pub fn change_broker(&mut self) {
        self.pacing = PubrecPacing::Free;
    }

    /// Whether settled messages wait for the PUBREL of another one.
    pub fn has_paced_acks(&self) -> bool {
        self.entries.get(self.unsent_acks).is_some_and(|entry| entry.settled)
    }

    pub(super) fn may_send_pubrec(&mut self, packet_id: u16) -> bool {
        if self.pacing.is_free() {
            return true;
        }
        let unsent = self.entries.iter().take(self.unsent_acks).filter(|entry| entry.qos == 2).count();
        let awaiting = self.awaiting_pubrel.values().filter(|message| !message.is_skipped).count();
        let next = self.entries.get(self.unsent_acks + 1).filter(|entry| entry.settled && entry.qos == 2);
        self.pacing.may_leave(packet_id, unsent + awaiting, next.map(|entry| entry.packet_id))
    }

    /// A ping leaves. The broker answers it behind the PUBRECs of before.
    pub fn pinged(&mut self) {
        self.pinged_below = self.first + self.unsent_acks as u64;
    }

    /// The broker answers a ping: a PUBREL for a PUBREC that left before would have come.
    pub fn ponged(&mut self) {
        if !self.pacing.is_free() {
            let below = std::mem::take(&mut self.pinged_below);
            for message in self.awaiting_pubrel.values_mut() {
                message.is_skipped |= message.sequence < below;
            }
        }
    }

    /// The broker will not send this message of QoS 2 again.
    pub fn release(&mut self, packet_id: u16) -> PubrelOutcome {
        if self.is_in_use(packet_id)
            && let Some(at) = self.entries.iter().position(|entry| entry.packet_id == packet_id)
        {
            if at >= self.unsent_acks || self.entries[at].qos != 2 {
                return PubrelOutcome::Early;
            }
            // It has had our PUBREC, and what was written before.
            self.acks_sent(self.first + at as u64 + 1);
        }
        if let Some(first) = self.pacing.released(packet_id)
            && let Some(message) = self.awaiting_pubrel.get_mut(&first)
        {
            message.is_skipped = true;
        }
        if let Some(AwaitingPubrel { fingerprint, sequence, .. }) = self.awaiting_pubrel.remove(&packet_id) {
            self.forget(packet_id);
            // It answers our PUBREC, so that all we wrote before that has arrived.
            while self.unconfirmed_pubcomps.front().is_some_and(|pubcomp| pubcomp.before <= sequence) {
                self.unconfirmed_pubcomps.pop_front();
            }
            let before = self.first + self.unsent_acks as u64;
            self.unconfirmed_pubcomps.push_back(UnconfirmedPubcomp { packet_id, fingerprint, before });
            return PubrelOutcome::Known;
        }
        // Redeliveries come in their order: the first of the pair would have come before.
        if let Some((first, second)) = self.interrupted_pair
            && packet_id == second
            && self.resumed.release(first)
        {
            self.pacing = PubrecPacing::OneAtATime;
            self.interrupted_pair = None;
        }
        // Also one that is not settled: the broker may have had a PUBREC of the earlier connection of which we do not know
        // that it was sent.
        if self.resumed.release(packet_id) { PubrelOutcome::Known } else { PubrelOutcome::Unknown }
    }
}
