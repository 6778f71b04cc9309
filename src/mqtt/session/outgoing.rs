//! Messages to the broker, which are few and small, at QoS 0, which needs no answer; and DISCONNECT.

use super::{Phase, Session, SessionError};
use crate::mqtt::message_sink::Outgoing;
use crate::mqtt::protocol::packet;

impl Session {
    /// Writes a PUBLISH, if the broker takes messages now: it has accepted the connection, reads what we send, and allows packets as
    /// large. Says whether it was written.
    pub fn send(&mut self, message: &Outgoing) -> bool {
        // Flags, length, topic with its length, no properties, payload.
        let most = 1 + 4 + 2 + message.topic.len() + 1 + message.payload.len();
        let is_open = !matches!(self.phase, Phase::Closed | Phase::Connecting);
        if !is_open || self.is_congested() || most > self.broker_max_packet_bytes {
            return false;
        }
        let version = self.version();
        packet::write_publish(&mut self.out, version, &message.topic, &message.payload);
        true
    }

    /// `ends_session`: with MQTT 5 the broker keeps nothing for us. MQTT 3.1.1 has no words for it.
    pub fn disconnect(&mut self, ends_session: bool) {
        match ends_session && self.is_v5() {
            // Reason 0, and the property Session Expiry Interval 0: 3.14.2.2.2.
            true => self.out.extend_from_slice(&[0xe0, 7, 0, 5, 0x11, 0, 0, 0, 0]),
            // The same two bytes in both versions: in MQTT 5 the reason code 0 may be left out, 3.14.2.1.
            false => self.out.extend_from_slice(&[0xe0, 0]),
        }
        self.phase = Phase::Closed;
    }

    /// The connection ends because of an error. If the broker caused it, MQTT 5 wants the reason code sent: 4.13.
    pub fn abort(&mut self, error: &SessionError) {
        if let SessionError::ProtocolViolation { reason, .. } = error
            && self.is_v5()
            && self.phase != Phase::Closed
        {
            self.out.extend_from_slice(&[0xe0, 2, *reason, 0]);
        }
        self.phase = Phase::Closed;
    }
}

#[cfg(test)]
mod tests {
    use bytes::BytesMut;

    use super::packet;
    use crate::config::ProtocolVersion;
    use crate::mqtt::protocol::publish::Head;

    #[test]
    fn a_message_is_a_publish_at_qos_0_of_either_version() {
        for (version, is_v5) in [(ProtocolVersion::V4, false), (ProtocolVersion::V5, true)] {
            let mut out = BytesMut::new();
            packet::write_publish(&mut out, version, "a/b", &[b'x'; 200]);
            // No flags; a length of two bytes.
            assert_eq!(out[0], 0x30);
            let body = &out[3..];
            assert_eq!(
                (usize::from(out[1] & 0x7f) | usize::from(out[2]) << 7, body.len()),
                (body.len(), out.len() - 3)
            );
            let head = Head::parse(out[0] & 0x0f, body, is_v5).unwrap().unwrap();
            assert_eq!((head.qos, head.retain), (0, false));
            assert_eq!(body[head.len..], [b'x'; 200]);
        }
    }
}
