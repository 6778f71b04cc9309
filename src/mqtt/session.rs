//! The state machine of a subscriber, for MQTT 3.1.1 and 5, without sockets and without a clock.
//!
//! [`Session::connect`] begins a connection; from then on [`Session::receive`] is given the bytes that were read and
//! gives back one event at a time, [`Session::outgoing`] holds what must be written, and [`Session::tick`] is called
//! when [`Session::deadline`] has passed. The state that MQTT calls the session (what is not acknowledged) survives
//! from one connection to the next.

use std::collections::VecDeque;
use std::fmt;
use std::ops::Range;
use std::time::{Duration, Instant};

use bytes::BytesMut;

use super::codec::{self, ConnAck, SubAck};
use super::publish::{Head, Publish};
use super::receipts::{Owed, Receipt, Receipts};
use super::subscriptions::subscription_id;
use crate::config::{Mqtt, ProtocolVersion};

/// Why a connection cannot go on. All of them end it; the session may be taken up again by the next.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum SessionError {
    /// The broker sent what the specification forbids.
    Malformed(&'static str),
    /// The codec refused a packet.
    Codec(String),
    /// CONNACK with a refusal.
    Refused(String),
    SubscriptionRefused {
        filter: String,
        reason: String,
    },
    /// The broker sent DISCONNECT.
    Disconnected(String),
    /// It did so because another client has connected under our client id.
    TakenOver,
    /// Nothing came for one and a half keep-alive intervals, or no answer to CONNECT or SUBSCRIBE in time.
    Silent,
}

impl fmt::Display for SessionError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            SessionError::Malformed(what) => write!(f, "the broker sent {what}"),
            SessionError::Codec(what) => write!(f, "the broker sent a packet that cannot be read: {what}"),
            SessionError::Refused(reason) => write!(f, "the connection was refused: {reason}"),
            SessionError::SubscriptionRefused { filter, reason } => {
                write!(f, "the subscription to {filter} was refused: {reason}")
            }
            SessionError::Disconnected(reason) => write!(f, "the broker disconnected: {reason}"),
            SessionError::TakenOver => write!(f, "another client has taken over the client id"),
            SessionError::Silent => write!(f, "the broker does not answer"),
        }
    }
}

/// What a piece of input meant.
#[derive(Debug)]
pub enum Event<'a> {
    /// A message; `sequence` is what its acknowledgement is settled under, none at QoS 0.
    Message {
        publish: Publish<'a>,
        sequence: Option<u64>,
    },
    /// A message that came before, on this connection or an earlier one, and is still being worked on.
    Again,
    /// A PUBLISH over the limit, of which only the head was kept.
    TooLarge {
        topic: &'a [u8],
        qos: u8,
        packet_bytes: usize,
        sequence: Option<u64>,
    },
    /// Every subscription was granted. `lowered` names the filters that got a lower QoS than asked for.
    Subscribed {
        lowered: Vec<String>,
    },
    Unsubscribed,
    /// A packet that needs no attention, or a part of one that is passed over.
    Nothing,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Phase {
    Closed,
    /// CONNECT is sent, CONNACK awaited.
    Connecting,
    /// Each SUBSCRIBE is sent, and a SUBACK for each awaited.
    Subscribing,
    Subscribed,
    Unsubscribing(u16),
    Unsubscribed,
}

/// A run of acknowledgements side by side.
#[derive(Debug)]
struct Leaving {
    /// Its place in the bytes of this connection.
    begin: u64,
    /// The sequence number of the first.
    first: u64,
    count: u64,
}

const PUBACK_BYTES: u64 = 4;

#[derive(Debug)]
pub struct Session {
    /// What we say of ourselves.
    ours: codec::Connect,
    qos: u8,
    skip_retained: bool,
    /// As MQTT knows them, `$share/…` included.
    filters: Vec<String>,

    phase: Phase,
    /// What was asked for and not granted yet: the packet id and the filters of each SUBSCRIBE.
    asked: Vec<(u16, Range<usize>)>,
    /// Filters that got a lower QoS than asked for.
    lowered: Vec<String>,
    /// What we ask for, or what a broker of MQTT 5 decides for a connection.
    keep_alive: Duration,
    /// Whether SUBSCRIBE was granted since this process began: then a session that is present has it.
    subscribed_before: bool,
    receipts: Receipts,
    out: BytesMut,
    /// Bytes sent on this connection.
    sent_bytes: u64,
    /// Where in the bytes of this connection the acknowledgements are that have not left.
    leaving: VecDeque<Leaving>,
    /// Bytes of a packet over the limit that are still to be passed over.
    skip: usize,
    last_packet_id: u16,
    last_sent: Instant,
    last_received: Instant,
    /// When the first ping was sent of those that are not answered.
    pinged_at: Option<Instant>,
}

impl Session {
    pub fn new(config: &Mqtt, client_id: String, filters: Vec<String>, now: Instant) -> Session {
        Session {
            ours: codec::Connect {
                version: config.version,
                client_id,
                login: config
                    .username
                    .clone()
                    .map(|name| (name, config.password.clone().unwrap_or_default())),
                keep_alive_seconds: config.keep_alive.as_secs() as u16,
                persistent: config.is_persistent(),
                expiry_seconds: config.session_expiry_seconds,
                receive_maximum: config.receive_maximum,
                max_packet_bytes: config.max_packet_bytes as u32,
            },
            qos: config.qos,
            skip_retained: config.skip_retained,
            filters,
            phase: Phase::Closed,
            asked: Vec::new(),
            lowered: Vec::new(),
            keep_alive: config.keep_alive,
            subscribed_before: false,
            receipts: Receipts::default(),
            out: BytesMut::new(),
            sent_bytes: 0,
            leaving: VecDeque::new(),
            skip: 0,
            last_packet_id: 0,
            last_sent: now,
            last_received: now,
            pinged_at: None,
        }
    }

    /// Begins a connection: CONNECT is ready to be written.
    pub fn connect(&mut self, now: Instant) {
        self.phase = Phase::Connecting;
        self.out.clear();
        self.sent_bytes = 0;
        self.leaving.clear();
        self.skip = 0;
        self.keep_alive = Duration::from_secs(self.ours.keep_alive_seconds as u64);
        self.last_sent = now;
        self.last_received = now;
        self.pinged_at = None;
        self.ours.write(&mut self.out);
    }

    /// The next connection goes to another broker: what it knows of us is not what the last one knew.
    pub fn change_broker(&mut self) {
        self.subscribed_before = false;
    }

    pub fn client_id(&self) -> &str {
        &self.ours.client_id
    }

    /// Whether the broker's answers to CONNECT and SUBSCRIBE are still to come.
    pub fn is_opening(&self) -> bool {
        matches!(self.phase, Phase::Connecting | Phase::Subscribing)
    }

    pub fn is_subscribed(&self) -> bool {
        self.phase == Phase::Subscribed
    }

    pub fn is_unsubscribed(&self) -> bool {
        self.phase == Phase::Unsubscribed
    }

    /// Messages of this connection that the broker waits for us to acknowledge.
    pub fn unacknowledged(&self) -> usize {
        self.receipts.unacknowledged()
    }

    /// The bytes to be written.
    pub fn outgoing(&self) -> &[u8] {
        &self.out
    }

    /// So many bytes of [`Session::outgoing`] were written.
    pub fn sent(&mut self, bytes: usize, now: Instant) {
        bytes::Buf::advance(&mut self.out, bytes);
        self.sent_bytes += bytes as u64;
        while let Some(acks) = self.leaving.front_mut() {
            let left = (self.sent_bytes.saturating_sub(acks.begin) / PUBACK_BYTES).min(acks.count);
            self.receipts.left(acks.first + left);
            if left < acks.count {
                break;
            }
            self.leaving.pop_front();
        }
        self.last_sent = now;
    }

    /// What was owed for these messages is settled; the acknowledgements leave with [`Session::acknowledge`].
    pub fn settle(&mut self, owed: &Owed) {
        self.receipts.settle(owed);
    }

    /// Writes the acknowledgements that may leave, in the order of receipt, and says how many they are.
    pub fn acknowledge(&mut self) -> usize {
        // Not only once SUBACK has come: rumqttd sends none while its window is full of what an earlier connection left.
        if matches!(self.phase, Phase::Closed | Phase::Connecting) {
            return 0;
        }
        let begin = self.sent_bytes + self.out.len() as u64;
        let mut first = None;
        let mut count = 0;
        while let Some((sequence, packet_id)) = self.receipts.next_acknowledgement() {
            first.get_or_insert(sequence);
            let [high, low] = packet_id.to_be_bytes();
            // PUBACK; without a reason code it means success in MQTT 5 too: 3.4.2.1.
            self.out.extend_from_slice(&[0x40, 2, high, low]);
            count += 1;
        }
        if let Some(first) = first {
            self.leaving.push_back(Leaving { begin, first, count });
        }
        count as usize
    }

    pub fn unsubscribe(&mut self) {
        let packet_id = self.next_packet_id();
        codec::write_unsubscribe(&mut self.out, self.ours.version, packet_id, &self.filters);
        self.phase = Phase::Unsubscribing(packet_id);
    }

    pub fn disconnect(&mut self) {
        // The same two bytes in both versions: in MQTT 5 the reason code 0 may be left out, 3.14.2.1.
        self.out.extend_from_slice(&[0xe0, 0]);
        self.phase = Phase::Closed;
    }

    /// When [`Session::tick`] wants to be called next.
    pub fn deadline(&self) -> Option<Instant> {
        match (self.phase, self.silent_at()) {
            (Phase::Closed, _) => None,
            (_, Some(silent_at)) => Some(silent_at.min(self.last_sent + self.keep_alive / 2)),
            (_, None) => Some(self.last_sent.min(self.last_received) + self.keep_alive / 2),
        }
    }

    /// When we give up on the broker if nothing comes. A ping is given a whole interval: it may have left late, when we
    /// were held up ourselves.
    fn silent_at(&self) -> Option<Instant> {
        let pinged_at = self.pinged_at?;
        Some((self.last_received + self.keep_alive * 3 / 2).max(pinged_at + self.keep_alive))
    }

    /// Pings when nothing was sent or nothing came for half a keep-alive interval (brokers count in whole seconds, so
    /// that with a whole interval a short one would end before our ping), and gives up on a broker that was silent for
    /// one and a half. While we do not read (`reading` is false) its silence is our own doing.
    pub fn tick(&mut self, now: Instant, reading: bool) -> Result<(), SessionError> {
        if !reading {
            self.last_received = now;
        }
        if self.phase == Phase::Closed || self.deadline().is_some_and(|at| now < at) {
            return Ok(());
        }
        if self.silent_at().is_some_and(|at| now >= at) {
            return Err(SessionError::Silent);
        }
        if self.pinged_at.is_none() || now >= self.last_sent + self.keep_alive / 2 {
            self.out.extend_from_slice(&[0xc0, 0]); // PINGREQ
            self.pinged_at.get_or_insert(now);
            self.last_sent = now;
        }
        Ok(())
    }

    /// Takes the next packet off `input`: how many bytes it had, and what it meant. `None` if it is not complete.
    pub fn receive<'a>(
        &mut self,
        input: &'a [u8],
        now: Instant,
    ) -> Result<Option<(usize, Event<'a>)>, SessionError> {
        if input.is_empty() {
            return Ok(None);
        }
        self.last_received = now;
        if self.skip > 0 {
            let passed = self.skip.min(input.len());
            self.skip -= passed;
            return Ok(Some((passed, Event::Nothing)));
        }
        let Some((header, body_bytes)) = fixed_header(input)? else { return Ok(None) };
        let packet_bytes = header + body_bytes;
        let is_publish = input[0] >> 4 == 3;
        if packet_bytes > self.ours.max_packet_bytes as usize {
            if !is_publish {
                return Err(SessionError::Malformed("a packet over maxPacketBytes"));
            }
            return self.too_large(input, header, packet_bytes);
        }
        if input.len() < packet_bytes {
            return Ok(None);
        }
        let event = if is_publish {
            self.publish(input[0] & 15, &input[header..packet_bytes])?
        } else {
            self.control(&input[..packet_bytes])?
        };
        Ok(Some((packet_bytes, event)))
    }

    fn publish<'a>(&mut self, flags: u8, body: &'a [u8]) -> Result<Event<'a>, SessionError> {
        let publish = Publish::parse(flags, body, self.ours.version == ProtocolVersion::V5)?;
        // Topic and payload alone: a broker may send properties such as the message expiry changed.
        let fingerprint = || crc32c::crc32c_append(crc32c::crc32c(publish.topic), publish.payload);
        Ok(match self.record(publish.qos, publish.packet_id, publish.duplicate, fingerprint)? {
            Some(sequence) => Event::Message { publish, sequence },
            None => Event::Again,
        })
    }

    /// Keeps the head of a message over the limit and passes over the rest without holding it.
    fn too_large<'a>(
        &mut self,
        input: &'a [u8],
        header: usize,
        packet_bytes: usize,
    ) -> Result<Option<(usize, Event<'a>)>, SessionError> {
        let taken = input.len().min(packet_bytes);
        let Some(head) = Head::parse(input[0] & 15, &input[header..taken])? else {
            return match taken == packet_bytes {
                true => Err(SessionError::Malformed("a PUBLISH that ends in its head")),
                false => Ok(None),
            };
        };
        if head.topic.is_empty() {
            return Err(SessionError::Malformed("a PUBLISH with an empty topic"));
        }
        let fingerprint = || crc32c::crc32c_append(packet_bytes as u32, head.topic);
        let event = match self.record(head.qos, head.packet_id, head.duplicate, fingerprint)? {
            Some(sequence) => Event::TooLarge { topic: head.topic, qos: head.qos, packet_bytes, sequence },
            None => Event::Again,
        };
        self.skip = packet_bytes - taken;
        Ok(Some((taken, event)))
    }

    /// Records what must be acknowledged: `Some(sequence)`, with none at QoS 0, or `None` if the message is known.
    fn record(
        &mut self,
        qos: u8,
        packet_id: u16,
        duplicate: bool,
        fingerprint: impl Fn() -> u32,
    ) -> Result<Option<Option<u64>>, SessionError> {
        // A broker may deliver before it grants (3.8.4), but not before CONNACK.
        if matches!(self.phase, Phase::Connecting | Phase::Closed) {
            return Err(SessionError::Malformed("a PUBLISH before CONNACK"));
        }
        match qos {
            0 => Ok(Some(None)),
            1 => match self.receipts.receive(packet_id, duplicate, fingerprint()) {
                Receipt::New(sequence) => Ok(Some(Some(sequence))),
                Receipt::Again => Ok(None),
                Receipt::InUse => Err(SessionError::Malformed("a packet id that is in use")), // [MQTT-2.2.1-4]
            },
            _ => Err(SessionError::Malformed("a PUBLISH with a QoS that was not granted")),
        }
    }

    fn control<'a>(&mut self, packet: &[u8]) -> Result<Event<'a>, SessionError> {
        let kind = packet[0] >> 4;
        // [MQTT-2.1.3-1]: the flags of all these are reserved and zero.
        if packet[0] & 15 != 0 {
            return Err(SessionError::Malformed("a packet with reserved flags"));
        }
        match (kind, self.phase) {
            (2, Phase::Connecting) => self.connack(packet),
            (2, _) => Err(SessionError::Malformed("a second CONNACK")),
            (14, _) if self.ours.version == ProtocolVersion::V5 => Err(codec::read_disconnect(packet)),
            (_, Phase::Connecting) => Err(SessionError::Malformed("a packet before CONNACK")),
            (9, Phase::Subscribing) => self.suback(packet),
            (11, Phase::Unsubscribing(packet_id)) => {
                // Whatever it says: that no subscription existed is as good.
                let header = fixed_header(packet)?.map_or(0, |(header, _)| header);
                if packet.get(header..header + 2) != Some(&packet_id.to_be_bytes()) {
                    return Err(SessionError::Malformed("an UNSUBACK with an unknown packet id"));
                }
                self.phase = Phase::Unsubscribed;
                Ok(Event::Unsubscribed)
            }
            (13, _) if packet.len() == 2 => {
                self.pinged_at = None;
                Ok(Event::Nothing)
            }
            _ => Err(SessionError::Malformed("a packet that a subscriber does not expect")),
        }
    }

    fn connack<'a>(&mut self, packet: &[u8]) -> Result<Event<'a>, SessionError> {
        let ConnAck { session_present, keep_alive_seconds, client_id, has_subscription_ids } =
            codec::read_connack(self.ours.version, packet)?;
        if let Some(seconds) = keep_alive_seconds {
            self.keep_alive = Duration::from_secs(seconds as u64); // [MQTT-3.2.2-21]
        }
        if let Some(client_id) = client_id {
            self.ours.client_id = client_id;
        }
        if session_present && !self.ours.persistent {
            return Err(SessionError::Malformed("a session after a clean start")); // [MQTT-3.2.2-4]
        }
        self.receipts.reconnect(session_present);
        if session_present && self.subscribed_before {
            self.phase = Phase::Subscribed;
            return Ok(Event::Subscribed { lowered: Vec::new() });
        }
        self.phase = Phase::Subscribing;
        self.asked.clear();
        self.lowered.clear();
        let filters = 0..self.filters.len();
        if has_subscription_ids && filters.len() > 1 {
            // An identifier belongs to a whole SUBSCRIBE.
            for i in filters {
                self.subscribe(i..i + 1, Some(subscription_id(&self.filters[i])));
            }
        } else {
            self.subscribe(filters, None);
        }
        Ok(Event::Nothing)
    }

    fn subscribe(&mut self, range: Range<usize>, subscription_id: Option<usize>) {
        let packet_id = self.next_packet_id();
        codec::Subscribe {
            version: self.ours.version,
            packet_id,
            filters: &self.filters[range.clone()],
            qos: self.qos,
            skip_retained: self.skip_retained,
            subscription_id,
        }
        .write(&mut self.out);
        self.asked.push((packet_id, range));
    }

    fn suback<'a>(&mut self, packet: &[u8]) -> Result<Event<'a>, SessionError> {
        let SubAck { packet_id: id, grants } = codec::read_suback(self.ours.version, packet)?;
        let Some(at) = self.asked.iter().position(|(packet_id, _)| *packet_id == id) else {
            return Err(SessionError::Malformed("a SUBACK with an unknown packet id"));
        };
        let (_, range) = self.asked.swap_remove(at);
        if grants.len() != range.len() {
            return Err(SessionError::Malformed("a SUBACK with a wrong number of grants")); // [MQTT-3.8.4-6]
        }
        for (filter, grant) in self.filters[range].iter().zip(grants) {
            match grant {
                Ok(qos) if qos < self.qos => self.lowered.push(filter.clone()),
                Ok(_) => {}
                Err(reason) => {
                    return Err(SessionError::SubscriptionRefused { filter: filter.clone(), reason });
                }
            }
        }
        if !self.asked.is_empty() {
            return Ok(Event::Nothing);
        }
        self.phase = Phase::Subscribed;
        self.subscribed_before = true;
        Ok(Event::Subscribed { lowered: std::mem::take(&mut self.lowered) })
    }

    /// Ours are only for SUBSCRIBE and UNSUBSCRIBE, of which one at a time is under way.
    fn next_packet_id(&mut self) -> u16 {
        self.last_packet_id = self.last_packet_id.checked_add(1).unwrap_or(1);
        self.last_packet_id
    }
}

/// The bytes of the fixed header and of what follows it: MQTT 5, 2.1.1.
fn fixed_header(input: &[u8]) -> Result<Option<(usize, usize)>, SessionError> {
    let mut len = 0;
    for i in 0..4 {
        let Some(byte) = input.get(1 + i) else { return Ok(None) };
        len |= ((byte & 0x7f) as usize) << (7 * i);
        if byte & 0x80 == 0 {
            return Ok(Some((2 + i, len)));
        }
    }
    Err(SessionError::Malformed("a length of more than four bytes"))
}
