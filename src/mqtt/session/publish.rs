//! Takes the messages in: PUBLISH and PUBREL.

use super::{Event, MAX_HEAD_BYTES, PUBCOMP, PUBREC, Phase, Session, SessionError};
use crate::core::ack_history::fingerprint;
use crate::mqtt::inflight::{PubrelOutcome, ReceiveOutcome};
use crate::mqtt::protocol::publish::{Head, Publish};
use crate::mqtt::protocol::reason;

/// A message with a payload over the limit is recognised by this number of bytes of it.
const RECOGNISED_BYTES: usize = 1 << 10;

impl Session {
    /// Takes the PUBLISH with these flags and this body.
    #[inline(always)]
    pub(super) fn publish<'a>(&'a mut self, flags: u8, body: &'a [u8]) -> Result<Event<'a>, SessionError> {
        let Some(head) = Head::parse(flags, body, self.is_v5())? else {
            return Err(SessionError::malformed("a PUBLISH that ends in its head"));
        };
        let payload = &body[head.len..];
        let mut head = head;
        let Some((sequence, fingerprint)) = self.record(&mut head, |topic| {
            // Topic and payload alone: properties such as the message expiry may change between deliveries.
            fingerprint(topic, payload)
        })?
        else {
            return Ok(Event::Duplicate);
        };
        if let Some(fault) = head.fault {
            return Ok(Event::Invalid { topic: self.topic(&head), payload, fault, sequence });
        }
        let publish = Publish {
            topic: self.topic(&head),
            payload,
            qos: head.qos,
            retain: head.retain,
            duplicate: head.duplicate,
            packet_id: head.packet_id,
            fingerprint,
            properties: head.properties,
        };
        Ok(Event::Message { publish, sequence, client_id: &self.connect_options.client_id })
    }

    /// Keeps the head of a message over the limit, and the first bytes of its payload, by which it is recognised if it is delivered
    /// again. Skips the rest without holding it.
    #[cold]
    pub(super) fn too_large<'a>(
        &'a mut self,
        input: &'a [u8],
        header: usize,
        packet_bytes: usize,
    ) -> Result<Option<(usize, Event<'a>)>, SessionError> {
        let taken = input.len().min(packet_bytes);
        let seen = taken.min(MAX_HEAD_BYTES);
        let (flags, body) = (input[0] & 15, &input[header..seen]);
        let mut known: &[u8] = &[];
        let mut head = match Head::parse(flags, body, self.is_v5())? {
            Some(head) => {
                let payload = header + head.len;
                let end = packet_bytes.min(payload + RECOGNISED_BYTES);
                let Some(bytes) = input.get(payload..end) else { return Ok(None) };
                known = bytes;
                head
            }
            None if seen == packet_bytes => {
                return Err(SessionError::malformed("a PUBLISH that ends in its head"));
            }
            None if seen < MAX_HEAD_BYTES => return Ok(None),
            // Properties that do not end within the limit are skipped too.
            None => Head::parse(flags, body, false)?
                .ok_or(SessionError::violation("a packet over maxPacketBytes", reason::PACKET_TOO_LARGE))?,
        };
        // The payload's size and not the packet's, which changes when an alias replaces the topic.
        let payload_bytes = packet_bytes - header - head.len;
        let recorded = self
            .record(&mut head, |topic| fingerprint(topic, known) ^ (payload_bytes as u64).rotate_left(32))?;
        self.skip = packet_bytes - taken;
        let event = match recorded {
            Some((sequence, _)) => {
                Event::TooLarge { topic: self.topic(&head), qos: head.qos, packet_bytes, sequence }
            }
            None => Event::Duplicate,
        };
        Ok(Some((taken, event)))
    }

    #[inline]
    fn topic<'a>(&'a self, head: &Head<'a>) -> &'a [u8] {
        match head.alias {
            Some(alias) if head.topic.is_empty() => self.aliases.topic(alias),
            _ => head.topic,
        }
    }

    /// Records a message that must be acknowledged and returns its sequence number, `None` at QoS 0, and its fingerprint.
    /// Returns `None` for a duplicate.
    #[inline]
    fn record(
        &mut self,
        head: &mut Head<'_>,
        fingerprint_with: impl Fn(&[u8]) -> u64,
    ) -> Result<Option<(Option<u64>, u64)>, SessionError> {
        // A broker may deliver before it grants (3.8.4), but not before CONNACK.
        if matches!(self.phase, Phase::Connecting | Phase::Closed) {
            return Err(SessionError::protocol("a PUBLISH before CONNACK"));
        }
        if head.qos > self.qos && !self.is_inherited {
            return Err(SessionError::protocol("a PUBLISH with a QoS that was not granted"));
        }
        if let Some(alias) = head.alias {
            let fault = self.aliases.learn(head.topic, alias);
            head.fault = head.fault.or(fault);
        }
        if head.qos == 0 {
            return Ok(Some((None, 0)));
        }
        let fingerprint = fingerprint_with(self.topic(head));
        // Redeliveries do not count: mosquitto sends all of them at once, whatever the quota.
        if self.is_v5() && !head.duplicate {
            let what = "more unacknowledged messages than receiveMaximum"; // [MQTT-3.3.4-9]
            self.receive_quota = self
                .receive_quota
                .checked_sub(1)
                .ok_or(SessionError::violation(what, reason::RECEIVE_MAXIMUM_EXCEEDED))?;
        }
        match self.inflight.receive(head.packet_id, head.qos, head.duplicate, fingerprint) {
            ReceiveOutcome::New(sequence) => Ok(Some((Some(sequence), fingerprint))),
            ReceiveOutcome::Duplicate => Ok(None),
            ReceiveOutcome::AwaitingPubrel => {
                self.answer(PUBREC, head.packet_id);
                Ok(None)
            }
            ReceiveOutcome::InUse => Err(SessionError::protocol("a packet id that is in use")), // [MQTT-2.2.1-4]
        }
    }

    pub(super) fn pubrel<'a>(&mut self, packet_id: u16) -> Result<Event<'a>, SessionError> {
        match self.inflight.release(packet_id) {
            PubrelOutcome::Early => {
                return Err(SessionError::protocol("a PUBREL for what was not acknowledged"));
            }
            PubrelOutcome::Unknown if self.is_v5() => {
                let [high, low] = packet_id.to_be_bytes();
                self.out.extend_from_slice(&[PUBCOMP, 3, high, low, reason::PACKET_ID_NOT_FOUND]);
            }
            PubrelOutcome::Known | PubrelOutcome::Unknown => self.answer(PUBCOMP, packet_id),
        }
        self.add_receive_quota();
        Ok(Event::Ignored)
    }
}
