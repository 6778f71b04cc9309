//! Asks for messages: the broker's CONNACK, SUBSCRIBE and UNSUBSCRIBE, and the answers to them.

use std::ops::Range;
use std::time::Duration;

use super::{Event, Phase, Session, SessionError};
use crate::mqtt::protocol::packet::{self, SubAck};
use crate::mqtt::protocol::reason;
use crate::mqtt::subscriptions::Filters;

/// AWS IoT Core takes this many filters in one SUBSCRIBE, and no broker that is known takes fewer, but one.
const FEW_FILTERS: usize = 8;

/// How many filters to put into one SUBSCRIBE where `together` were too many; `None`: there are no fewer.
pub fn fewer_filters(together: usize) -> Option<usize> {
    match together {
        0 | 1 => None,
        2..=FEW_FILTERS => Some(1),
        _ => Some(FEW_FILTERS),
    }
}

/// A range, in ranges of at most `most`.
fn limited(range: Range<usize>, most: usize) -> impl Iterator<Item = Range<usize>> {
    let end = range.end;
    range.step_by(most).map(move |begin| begin..begin.saturating_add(most).min(end))
}

fn halves(range: Range<usize>) -> [Range<usize>; 2] {
    let middle = range.start + range.len() / 2;
    [range.start..middle, middle..range.end]
}

impl Session {
    /// The error of a broker that did not answer CONNECT or SUBSCRIBE in time.
    pub fn unanswered(&self) -> SessionError {
        match self.phase {
            Phase::Subscribing | Phase::Subscribed => {
                let open =
                    self.pending_requests.iter().flat_map(|(_, filters)| &self.filters[filters.clone()]);
                SessionError::NoSubAck { filter: open.map(String::as_str).collect::<Vec<_>>().join(", ") }
            }
            _ => SessionError::NoConnAck,
        }
    }

    /// Whether a filter of this connection covers several that overlap: messages come that no route takes.
    pub fn has_covers(&self) -> bool {
        self.wanted.offers.iter().any(|offer| !offer.parts.is_empty() && self.filters.contains(&offer.filter))
    }

    /// Filters that cover several of the routes, which the broker refused: a message may come once for each of these.
    pub fn refused_covers(&self) -> &[String] {
        &self.refused_covers
    }

    /// From the next connection on, filters that overlap are asked for one by one (`true`), or by one that covers them.
    pub fn refuse_covers(&mut self, refused: bool) {
        self.refused_covers.clear();
        if refused {
            let covers = self.wanted.offers.iter().filter(|offer| !offer.parts.is_empty());
            self.refused_covers.extend(covers.map(|offer| offer.filter.clone()));
        }
    }

    pub fn unsubscribe(&mut self) {
        self.phase = Phase::Unsubscribing;
        // A change that is under way is given up; its answers may still come.
        self.change = None;
        self.unheeded.extend(self.pending_requests.drain(..).map(|(packet_id, _)| packet_id));
        self.unsubscribe_from(0..self.filters.len());
    }

    pub(super) fn unsubscribe_from(&mut self, range: Range<usize>) {
        for range in limited(range, self.filters_per_subscribe) {
            self.write_unsubscribe(range);
        }
    }

    fn write_unsubscribe(&mut self, range: Range<usize>) {
        let packet_id = self.next_packet_id();
        let begin = self.out.len();
        packet::write_unsubscribe(
            &mut self.out,
            self.connect_options.version,
            packet_id,
            &self.filters[range.clone()],
        );
        if self.out.len() - begin > self.broker_max_packet_bytes && range.len() > 1 {
            self.out.truncate(begin);
            return halves(range).into_iter().for_each(|half| self.write_unsubscribe(half));
        }
        self.pending_requests.push((packet_id, range));
    }

    pub(super) fn connack<'a>(&mut self, body: &[u8]) -> Result<Event<'a>, SessionError> {
        let ack = packet::read_connack(self.connect_options.version, body);
        self.was_unanswered = matches!(ack, Err(SessionError::VersionRefused));
        let ack = ack?;
        if let Some(seconds) = ack.keep_alive_seconds {
            self.keep_alive = Duration::from_secs(seconds as u64); // [MQTT-3.2.2-21]
        }
        if let Some(client_id) = &ack.client_id {
            self.connect_options.client_id = client_id.clone();
        }
        self.broker_max_packet_bytes = ack.max_packet_bytes;
        self.broker = Some(ack.clone());
        if ack.session_present && !self.connect_options.persistent {
            return Err(SessionError::protocol("a session after a clean start")); // [MQTT-3.2.2-4]
        }
        self.inflight.reconnect(ack.session_present);
        self.inflight.pace_pubrecs(!self.is_v5() && self.connect_options.persistent);
        self.is_inherited = ack.session_present && (self.is_inherited || !self.subscribed_before);
        if ack.session_present && self.subscribed_before {
            self.phase = Phase::Subscribed;
            return Ok(Event::Subscribed { downgraded: Vec::new() });
        }
        self.filters = self.chosen_filters(ack.has_subscription_ids);
        for (filter, lacks, reason) in self.filters.iter().flat_map(|filter| {
            let shared = filter.starts_with("$share/") && !ack.has_shared;
            let wildcard = filter.contains(['+', '#']) && !ack.has_wildcards;
            [(filter, shared, 0x9e), (filter, wildcard, 0xa2)]
        }) {
            if lacks {
                let reason = reason::name(reason).into();
                return Err(SessionError::SubscriptionRefused { filter: filter.clone(), reason });
            }
        }
        self.phase = Phase::Subscribing;
        self.pending_requests.clear();
        self.downgraded.clear();
        self.ask_for(0..self.filters.len(), ack.has_subscription_ids)?;
        if ack.session_present {
            self.unsubscribe_leftovers();
        } else {
            self.uncertain.clear();
        }
        Ok(match ack.session_expiry_seconds {
            Some(seconds)
                if self.connect_options.persistent && seconds < self.connect_options.expiry_seconds =>
            {
                Event::SessionExpiryReduced { seconds }
            }
            _ => Event::Ignored,
        })
    }

    /// Without subscription identifiers no two filters may overlap: see [`crate::mqtt::subscriptions`].
    pub(super) fn chosen_filters(&self, has_subscription_ids: bool) -> Vec<String> {
        if has_subscription_ids {
            return self.wanted.separate.clone();
        }
        let mut filters = Vec::new();
        for offer in &self.wanted.offers {
            if self.refused_covers.contains(&offer.filter) {
                filters.extend(offer.parts.iter().cloned());
            } else {
                filters.push(offer.filter.clone());
            }
        }
        filters
    }

    /// Subscribes to the parts of a filter that the broker refused, if it has any. Returns whether it has.
    fn subscribe_to_parts(&mut self, filter: &str) -> Result<bool, SessionError> {
        let offers = &self.wanted.offers;
        let Some(offer) = offers.iter().find(|offer| offer.filter == filter && !offer.parts.is_empty())
        else {
            return Ok(false);
        };
        let begin = self.filters.len();
        self.filters.extend(offer.parts.iter().cloned());
        self.refused_covers.push(filter.into());
        self.subscribe_within_limit(begin..self.filters.len())?;
        Ok(true)
    }

    /// The most filters of a SUBSCRIBE that waits for its answer, or waited when the connection ended.
    pub fn filters_together(&self) -> usize {
        self.pending_requests.iter().map(|(_, range)| range.len()).max().unwrap_or(0)
    }

    /// The most filters of a SUBSCRIBE from now on.
    pub fn filters_per_subscribe(&self) -> usize {
        self.filters_per_subscribe
    }

    pub fn set_filters_per_subscribe(&mut self, most: usize) {
        self.filters_per_subscribe = most;
    }

    pub(super) fn subscribe_within_limit(&mut self, range: Range<usize>) -> Result<(), SessionError> {
        limited(range, self.filters_per_subscribe).try_for_each(|range| self.subscribe(range, None))
    }

    /// A broker that takes fewer filters in one packet may refuse all of them. Asks again in smaller packets, and returns
    /// whether it does.
    fn subscribe_split(
        &mut self,
        range: Range<usize>,
        grants: &[Result<u8, String>],
    ) -> Result<bool, SessionError> {
        let is_cover = |filter: &String| {
            self.wanted.offers.iter().any(|offer| offer.filter == *filter && !offer.parts.is_empty())
        };
        let Some(fewer) = fewer_filters(range.len()).filter(|_| grants.iter().all(Result::is_err)) else {
            return Ok(false);
        };
        if self.filters[range.clone()].iter().any(is_cover) {
            return Ok(false);
        }
        self.filters_per_subscribe = self.filters_per_subscribe.min(fewer);
        self.subscribe_within_limit(range)?;
        Ok(true)
    }

    pub(super) fn subscribe(
        &mut self,
        range: Range<usize>,
        subscription_id: Option<usize>,
    ) -> Result<(), SessionError> {
        let packet_id = self.next_packet_id();
        let begin = self.out.len();
        // Brokers with a Maximum QoS, such as AWS IoT Core, refuse subscriptions above it.
        let max_qos = self.broker.as_ref().map_or(2, |ack| ack.max_qos);
        let asked = |filter: &String| self.wanted_qos(filter).min(max_qos);
        let qos: Vec<u8> = self.filters[range.clone()].iter().map(asked).collect();
        packet::Subscribe {
            version: self.connect_options.version,
            packet_id,
            filters: &self.filters[range.clone()],
            qos: &qos,
            skip_retained: self.skip_retained,
            subscription_id,
        }
        .write(&mut self.out);
        // [MQTT-3.2.2-15]
        if self.out.len() - begin > self.broker_max_packet_bytes {
            self.out.truncate(begin);
            if range.len() > 1 {
                return halves(range).into_iter().try_for_each(|half| self.subscribe(half, subscription_id));
            }
            let reason =
                format!("the broker takes packets of {} bytes at most", self.broker_max_packet_bytes);
            return Err(SessionError::SubscriptionRefused {
                filter: self.filters[range.start].clone(),
                reason,
            });
        }
        self.pending_requests.push((packet_id, range));
        Ok(())
    }

    /// The QoS that the routes want of a filter. The parts of a cover that was refused have its QoS.
    pub(super) fn wanted_qos(&self, filter: &str) -> u8 {
        let Filters { qos, offers, .. } = &self.wanted;
        let of_cover = || {
            let cover = offers.iter().find(|offer| offer.parts.iter().any(|part| part == filter))?;
            qos.get(&cover.filter)
        };
        qos.get(filter).or_else(of_cover).copied().unwrap_or(self.default_qos)
    }

    /// Removes the request that the broker answers, and returns its filters.
    fn take_pending_request(&mut self, packet_id: u16) -> Result<Range<usize>, SessionError> {
        match self.pending_requests.iter().position(|(asked, _)| *asked == packet_id) {
            Some(at) => Ok(self.pending_requests.swap_remove(at).1),
            None => Err(SessionError::protocol("an answer to nothing that was asked")), // [MQTT-2.2.1-6]
        }
    }

    pub(super) fn suback<'a>(&mut self, body: &[u8]) -> Result<Event<'a>, SessionError> {
        let SubAck { packet_id, grants } = packet::read_suback(self.connect_options.version, body)?;
        let range = self.take_pending_request(packet_id)?;
        if grants.len() != range.len() {
            return Err(SessionError::protocol("a SUBACK with a wrong number of grants")); // [MQTT-3.8.4-6]
        }
        if self.subscribe_split(range.clone(), &grants)? {
            return Ok(Event::Ignored);
        }
        let asked = self.filters[range].to_vec();
        for (filter, grant) in asked.into_iter().zip(grants) {
            match grant {
                Ok(qos) if qos < self.wanted_qos(&filter) => self.downgraded.push(filter),
                Ok(qos) if qos > self.wanted_qos(&filter) => {
                    return Err(SessionError::protocol("a SUBACK that grants more than was asked for"));
                }
                Ok(_) => {}
                Err(reason) => {
                    if !self.subscribe_to_parts(&filter)? && !self.refuse_change(&filter, &reason) {
                        return Err(SessionError::SubscriptionRefused { filter, reason });
                    }
                }
            }
        }
        // Refused filters are not unsubscribed from.
        let refused = &self.refused_covers;
        if self.pending_requests.is_empty() {
            self.filters.retain(|filter| !refused.contains(filter));
        }
        if !self.pending_requests.is_empty() {
            return Ok(Event::Ignored);
        }
        if self.change.is_some() {
            self.go_on_with_change();
            return Ok(Event::Ignored);
        }
        self.phase = Phase::Subscribed;
        self.subscribed_before = true;
        Ok(Event::Subscribed { downgraded: std::mem::take(&mut self.downgraded) })
    }

    pub(super) fn unsuback<'a>(&mut self, body: &[u8]) -> Result<Event<'a>, SessionError> {
        let (packet_id, answers) = packet::read_unsuback(self.connect_options.version, body)?;
        let range = self.take_pending_request(packet_id)?;
        if answers.is_some_and(|answers| answers != range.len()) {
            return Err(SessionError::protocol("an UNSUBACK with a wrong number of answers")); // [MQTT-3.11.3-1]
        }
        if !self.pending_requests.is_empty() {
            return Ok(Event::Ignored);
        }
        if self.change.is_some() {
            self.go_on_with_change();
            return Ok(Event::Ignored);
        }
        self.phase = Phase::Unsubscribed;
        Ok(Event::Unsubscribed)
    }

    /// We only number SUBSCRIBE and UNSUBSCRIBE, and few of them are pending at a time.
    pub(super) fn next_packet_id(&mut self) -> u16 {
        self.last_packet_id = self.last_packet_id.checked_add(1).unwrap_or(1);
        self.last_packet_id
    }
}
