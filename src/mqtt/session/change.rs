//! Subscriptions that change on a living session.
//!
//! New filters are subscribed to first. Only when all of them are granted, the others are unsubscribed from, so that a topic that
//! both bring misses no message. A filter that is refused ends the change there; the caller then asks for what was before.

use std::ops::Range;

use super::{Phase, Session, SessionError};
use crate::mqtt::protocol::packet;
use crate::mqtt::subscriptions::{Filters, subscription_id};

/// A change that waits for answers of the broker.
#[derive(Debug)]
pub(super) struct Change {
    /// The filters to unsubscribe from, by their place in `Session::filters`.
    gone: Range<usize>,
    is_unsubscribing: bool,
    /// The first filter that was refused, and why.
    refused: Option<(String, String)>,
}

/// The end of a change: granted, or the filter that was refused, and why.
pub type ChangeOutcome = Result<(), (String, String)>;

impl Session {
    pub fn wanted(&self) -> &Filters {
        &self.wanted
    }

    /// Subscribes to these filters instead: with the next CONNECT, or when [`Session::update_filters`] is called.
    pub fn set_wanted(&mut self, wanted: Filters) {
        let before: Vec<u8> = self.filters.iter().map(|filter| self.wanted_qos(filter)).collect();
        self.wanted = wanted;
        // Messages of earlier subscriptions are still on their way.
        self.qos = self.qos.max(self.wanted.highest_qos(self.default_qos));
        // A filter with another QoS is subscribed to again, which replaces its subscription.
        let filters = std::mem::take(&mut self.filters).into_iter().zip(before);
        let is_kept =
            |(filter, qos): &(String, u8)| !self.wanted.has(filter) || self.wanted_qos(filter) == *qos;
        self.filters = filters.filter(is_kept).map(|(filter, _)| filter).collect();
    }

    /// Asks the broker for what is wanted and not subscribed to, and takes back the rest; [`Session::take_change_outcome`] then
    /// gives the end of it.
    pub fn update_filters(&mut self) {
        if self.phase != Phase::Subscribed || self.change.is_some() {
            return;
        }
        let has_ids = self.broker.as_ref().is_some_and(|ack| ack.has_subscription_ids);
        let wanted = self.chosen_filters(has_ids);
        let (kept, gone): (Vec<_>, Vec<_>) =
            std::mem::take(&mut self.filters).into_iter().partition(|filter| wanted.contains(filter));
        let new: Vec<String> = wanted.into_iter().filter(|filter| !kept.contains(filter)).collect();
        let gone_range = kept.len()..kept.len() + gone.len();
        let new_range = gone_range.end..gone_range.end + new.len();
        self.filters = [kept, gone, new].concat();
        if gone_range.is_empty() && new_range.is_empty() {
            self.change_outcome = Some(Ok(()));
            return;
        }
        self.change = Some(Change { gone: gone_range, is_unsubscribing: false, refused: None });
        self.pending_requests.clear();
        self.downgraded.clear();
        if let Err(error) = self.ask_for(new_range, has_ids) {
            self.note_refused(error);
        }
        self.go_on_with_change();
    }

    /// The filters of the change that were granted a lower QoS than we asked for.
    pub fn take_downgraded(&mut self) -> Vec<String> {
        std::mem::take(&mut self.downgraded)
    }

    /// The end of the change, once.
    pub fn take_change_outcome(&mut self) -> Option<ChangeOutcome> {
        self.change_outcome.take()
    }

    /// With identifiers each filter has a SUBSCRIBE of its own: an identifier belongs to all filters of one.
    pub(super) fn ask_for(&mut self, range: Range<usize>, has_ids: bool) -> Result<(), SessionError> {
        if has_ids && self.filters.len() > 1 {
            for i in range {
                self.subscribe(i..i + 1, Some(subscription_id(&self.filters[i])))?;
            }
            return Ok(());
        }
        self.subscribe_within_limit(range)
    }

    /// A filter of a change is refused; `false`: there is no change.
    pub(super) fn refuse_change(&mut self, filter: &str, reason: &str) -> bool {
        let Some(change) = &mut self.change else { return false };
        change.refused.get_or_insert_with(|| (filter.into(), reason.into()));
        self.refused_filters.push(filter.into());
        true
    }

    fn note_refused(&mut self, error: SessionError) {
        if let SessionError::SubscriptionRefused { filter, reason } = error {
            self.refuse_change(&filter, &reason);
        }
    }

    /// Takes the next step once all that was asked is answered.
    pub(super) fn go_on_with_change(&mut self) {
        if !self.pending_requests.is_empty() {
            return;
        }
        let Some(change) = &mut self.change else { return };
        if let Some(refused) = change.refused.take() {
            self.change = None;
            let refused_filters = std::mem::take(&mut self.refused_filters);
            self.filters.retain(|filter| !refused_filters.contains(filter));
            self.change_outcome = Some(Err(refused));
            return;
        }
        let gone = change.gone.clone();
        if !change.is_unsubscribing && !gone.is_empty() {
            change.is_unsubscribing = true;
            self.unsubscribe_from(gone);
            return;
        }
        self.change = None;
        self.filters.drain(gone);
        self.change_outcome = Some(Ok(()));
    }

    /// The connection ends within a change: what the broker has of it is not known.
    pub(super) fn break_off_change(&mut self) {
        if self.change.take().is_some() {
            self.pending_requests.clear();
            self.refused_filters.clear();
            self.uncertain.append(&mut self.filters.clone());
            self.subscribed_before = false;
        }
    }

    /// A session that the broker kept may have subscriptions that nothing wants: those that `mqtt.unsubscribe` names, and those of a
    /// change that was broken off. Nothing waits for the answer.
    pub(super) fn unsubscribe_leftovers(&mut self) {
        let leftovers: Vec<String> = std::mem::take(&mut self.uncertain)
            .into_iter()
            .chain(self.leftovers.iter().cloned())
            .filter(|filter| !self.filters.contains(filter))
            .collect();
        let most = self.filters_per_subscribe.min(leftovers.len().max(1));
        for filters in leftovers.chunks(most) {
            let begin = self.out.len();
            let packet_id = self.next_packet_id();
            packet::write_unsubscribe(&mut self.out, self.connect_options.version, packet_id, filters);
            self.unheeded.push(packet_id);
            if self.out.len() - begin <= self.broker_max_packet_bytes {
                continue;
            }
            self.out.truncate(begin);
            for filter in filters {
                let begin = self.out.len();
                let packet_id = self.next_packet_id();
                let one = std::slice::from_ref(filter);
                packet::write_unsubscribe(&mut self.out, self.connect_options.version, packet_id, one);
                if self.out.len() - begin > self.broker_max_packet_bytes {
                    self.out.truncate(begin);
                }
                self.unheeded.push(packet_id);
            }
        }
    }

    /// Whether a SUBACK or an UNSUBACK is one that nothing waits for.
    pub(super) fn is_unheeded(&mut self, body: &[u8]) -> bool {
        let Some(id) = body.first_chunk().map(|id| u16::from_be_bytes(*id)) else { return false };
        let at = self.unheeded.iter().position(|unheeded| *unheeded == id);
        at.map(|at| self.unheeded.swap_remove(at)).is_some()
    }
}
