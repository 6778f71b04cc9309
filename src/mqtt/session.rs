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
use rumqttc::mqttbytes as v4codec;
use rumqttc::mqttbytes::v4;
use rumqttc::v5::mqttbytes as v5codec;
use rumqttc::v5::mqttbytes::v5;

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
    version: ProtocolVersion,
    client_id: String,
    login: Option<(String, String)>,
    persistent: bool,
    expiry_seconds: u32,
    receive_maximum: u16,
    max_packet_bytes: usize,
    qos: u8,
    skip_retained: bool,
    /// As MQTT knows them, `$share/…` included.
    filters: Vec<String>,

    phase: Phase,
    /// What was asked for and not granted yet: the packet id and the filters of each SUBSCRIBE.
    asked: Vec<(u16, Range<usize>)>,
    /// Filters that got a lower QoS than asked for.
    lowered: Vec<String>,
    /// What we ask for; a broker of MQTT 5 may decide otherwise for a connection.
    asked_keep_alive: Duration,
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
    ping_sent: bool,
}

impl Session {
    pub fn new(config: &Mqtt, client_id: String, filters: Vec<String>, now: Instant) -> Session {
        Session {
            version: config.version,
            client_id,
            login: config.username.clone().map(|name| (name, config.password.clone().unwrap_or_default())),
            persistent: config.is_persistent(),
            expiry_seconds: config.session_expiry_seconds,
            receive_maximum: config.receive_maximum,
            max_packet_bytes: config.max_packet_bytes,
            qos: config.qos,
            skip_retained: config.skip_retained,
            filters,
            phase: Phase::Closed,
            asked: Vec::new(),
            lowered: Vec::new(),
            asked_keep_alive: config.keep_alive,
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
            ping_sent: false,
        }
    }

    /// Begins a connection: CONNECT is ready to be written.
    pub fn connect(&mut self, now: Instant) {
        self.phase = Phase::Connecting;
        self.out.clear();
        self.sent_bytes = 0;
        self.leaving.clear();
        self.skip = 0;
        self.keep_alive = self.asked_keep_alive;
        self.last_sent = now;
        self.last_received = now;
        self.ping_sent = false;
        let keep_alive = self.asked_keep_alive.as_secs() as u16;
        match self.version {
            ProtocolVersion::V4 => {
                let mut connect = v4::Connect::new(&self.client_id);
                connect.keep_alive = keep_alive;
                connect.clean_session = !self.persistent;
                if let Some((name, password)) = &self.login {
                    connect.set_login(name, password);
                }
                self.write_v4(v4::Packet::Connect(connect));
            }
            ProtocolVersion::V5 => {
                let mut properties = v5::ConnectProperties::new();
                properties.session_expiry_interval = Some(self.expiry_seconds).filter(|_| self.persistent);
                properties.receive_maximum = Some(self.receive_maximum);
                properties.max_packet_size = Some(self.max_packet_bytes as u32);
                let connect = v5::Connect {
                    keep_alive,
                    client_id: self.client_id.clone(),
                    clean_start: !self.persistent,
                    properties: Some(properties),
                };
                let login = self.login.clone().map(|(name, password)| v5::Login::new(name, password));
                self.write_v5(v5::Packet::Connect(connect, None, login));
            }
        }
    }

    /// The next connection goes to another broker: what it knows of us is not what the last one knew.
    pub fn change_broker(&mut self) {
        self.subscribed_before = false;
    }

    pub fn client_id(&self) -> &str {
        &self.client_id
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
        if !matches!(self.phase, Phase::Subscribed | Phase::Unsubscribing(_) | Phase::Unsubscribed) {
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
        match self.version {
            ProtocolVersion::V4 => {
                self.write_v4(v4::Packet::Unsubscribe(v4::Unsubscribe {
                    pkid: packet_id,
                    topics: self.filters.clone(),
                }));
            }
            ProtocolVersion::V5 => {
                let packet =
                    v5::Unsubscribe { pkid: packet_id, filters: self.filters.clone(), properties: None };
                self.write_v5(v5::Packet::Unsubscribe(packet));
            }
        }
        self.phase = Phase::Unsubscribing(packet_id);
    }

    pub fn disconnect(&mut self) {
        // The same two bytes in both versions: in MQTT 5 the reason code 0 may be left out, 3.14.2.1.
        self.out.extend_from_slice(&[0xe0, 0]);
        self.phase = Phase::Closed;
    }

    /// When [`Session::tick`] wants to be called next.
    pub fn deadline(&self) -> Option<Instant> {
        match self.phase {
            Phase::Closed => None,
            _ if self.ping_sent => {
                Some((self.last_received + self.keep_alive * 3 / 2).min(self.last_sent + self.keep_alive / 2))
            }
            _ => Some(self.last_sent.min(self.last_received) + self.keep_alive / 2),
        }
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
        if self.ping_sent && now >= self.last_received + self.keep_alive * 3 / 2 {
            return Err(SessionError::Silent);
        }
        if !self.ping_sent || now >= self.last_sent + self.keep_alive / 2 {
            self.out.extend_from_slice(&[0xc0, 0]); // PINGREQ
            self.ping_sent = true;
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
        if packet_bytes > self.max_packet_bytes {
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
        let publish = Publish::parse(flags, body, self.version == ProtocolVersion::V5)?;
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
        // A broker may deliver before it grants: [MQTT-3.8.4-2]. But not before CONNACK.
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
            (14, _) if self.version == ProtocolVersion::V5 => Err(disconnected(packet)),
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
                self.ping_sent = false;
                Ok(Event::Nothing)
            }
            _ => Err(SessionError::Malformed("a packet that a subscriber does not expect")),
        }
    }

    fn connack<'a>(&mut self, packet: &[u8]) -> Result<Event<'a>, SessionError> {
        let mut has_subscription_ids = false;
        let session_present = match self.version {
            ProtocolVersion::V4 => {
                let v4::Packet::ConnAck(ack) = read_v4(packet)? else { return Err(NOT_WHAT_IT_SAYS) };
                if ack.code != v4::ConnectReturnCode::Success {
                    return Err(SessionError::Refused(words(&ack.code)));
                }
                ack.session_present
            }
            ProtocolVersion::V5 => {
                let v5::Packet::ConnAck(ack) = read_v5(packet)? else { return Err(NOT_WHAT_IT_SAYS) };
                let properties = ack.properties.as_ref();
                if ack.code != v5::ConnectReturnCode::Success {
                    let reason = properties.and_then(|p| p.reason_string.as_deref());
                    return Err(SessionError::Refused(with_reason(words(&ack.code), reason)));
                }
                if let Some(seconds) = properties.and_then(|p| p.server_keep_alive).filter(|s| *s > 0) {
                    self.keep_alive = Duration::from_secs(seconds as u64); // [MQTT-3.2.2-21]
                }
                if let Some(id) = properties.and_then(|p| p.assigned_client_identifier.as_ref()) {
                    self.client_id.clone_from(id);
                }
                // Absent means available: MQTT 5, 3.2.2.3.12.
                has_subscription_ids =
                    properties.and_then(|p| p.subscription_identifiers_available) != Some(0);
                ack.session_present
            }
        };
        if session_present && !self.persistent {
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

    fn subscribe(&mut self, range: Range<usize>, id: Option<usize>) {
        let packet_id = self.next_packet_id();
        match self.version {
            ProtocolVersion::V4 => {
                let qos = v4codec::qos(self.qos).unwrap_or(v4codec::QoS::AtMostOnce);
                let filters = self.filters[range.clone()]
                    .iter()
                    .map(|path| v4::SubscribeFilter { path: path.clone(), qos });
                let mut subscribe = v4::Subscribe::new_many(filters);
                subscribe.pkid = packet_id;
                self.write_v4(v4::Packet::Subscribe(subscribe));
            }
            ProtocolVersion::V5 => {
                let qos = v5codec::qos(self.qos).unwrap_or_default();
                let properties =
                    id.map(|id| v5::SubscribeProperties { id: Some(id), user_properties: Vec::new() });
                let rule = match self.skip_retained {
                    true => v5::RetainForwardRule::Never,
                    // Not again to a subscription that a session of ours brought along.
                    false => v5::RetainForwardRule::OnNewSubscribe,
                };
                let filters = self.filters[range.clone()].iter().map(|path| {
                    let mut filter = v5::Filter::new(path, qos);
                    filter.retain_forward_rule = rule.clone();
                    filter
                });
                let mut subscribe = v5::Subscribe::new_many(filters, properties);
                subscribe.pkid = packet_id;
                self.write_v5(v5::Packet::Subscribe(subscribe));
            }
        }
        self.asked.push((packet_id, range));
    }

    fn suback<'a>(&mut self, packet: &[u8]) -> Result<Event<'a>, SessionError> {
        /// What the broker granted: a QoS, or the reason why not.
        type Grant = Result<u8, String>;
        let (id, grants, reason): (u16, Vec<Grant>, Option<String>) = match self.version {
            ProtocolVersion::V4 => {
                let v4::Packet::SubAck(ack) = read_v4(packet)? else { return Err(NOT_WHAT_IT_SAYS) };
                let grants = ack.return_codes.iter().map(|code| match code {
                    v4::SubscribeReasonCode::Success(qos) => Ok(*qos as u8),
                    v4::SubscribeReasonCode::Failure => Err("no reason given".to_string()),
                });
                (ack.pkid, grants.collect(), None)
            }
            ProtocolVersion::V5 => {
                let v5::Packet::SubAck(ack) = read_v5(packet)? else { return Err(NOT_WHAT_IT_SAYS) };
                let grants = ack.return_codes.iter().map(|code| match code {
                    v5::SubscribeReasonCode::Success(qos) => Ok(*qos as u8),
                    other => Err(words(other)),
                });
                (ack.pkid, grants.collect(), ack.properties.and_then(|p| p.reason_string))
            }
        };
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
                Err(code) => {
                    let reason = with_reason(code, reason.as_deref());
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

    fn write_v4(&mut self, packet: v4::Packet) {
        let written = packet.write(&mut self.out, usize::MAX);
        debug_assert!(written.is_ok(), "what we build is within MQTT's limits: config.rs saw to that");
    }

    fn write_v5(&mut self, packet: v5::Packet) {
        let written = packet.write(&mut self.out, None);
        debug_assert!(written.is_ok(), "what we build is within MQTT's limits: config.rs saw to that");
    }
}

const NOT_WHAT_IT_SAYS: SessionError =
    SessionError::Malformed("a packet that is not what its first byte says");

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

fn read_v4(packet: &[u8]) -> Result<v4::Packet, SessionError> {
    v4::Packet::read(&mut BytesMut::from(packet), usize::MAX).map_err(|e| SessionError::Codec(e.to_string()))
}

fn read_v5(packet: &[u8]) -> Result<v5::Packet, SessionError> {
    v5::Packet::read(&mut BytesMut::from(packet), None).map_err(|e| SessionError::Codec(e.to_string()))
}

/// The reason of a DISCONNECT, which may be left out when it is a normal one: MQTT 5, 3.14.2.1.
fn disconnected(packet: &[u8]) -> SessionError {
    if packet.len() == 2 {
        return SessionError::Disconnected("normally".into());
    }
    // The codec wants the length of the properties, which may be left out too: 3.14.2.2.1.
    let with_properties = [packet[0], 2, packet[2], 0];
    match read_v5(if packet.len() == 3 { &with_properties } else { packet }) {
        Ok(v5::Packet::Disconnect(packet)) => {
            let reason = packet.properties.as_ref().and_then(|p| p.reason_string.as_deref());
            SessionError::Disconnected(with_reason(words(&packet.reason_code), reason))
        }
        Ok(_) => NOT_WHAT_IT_SAYS,
        Err(error) => error,
    }
}

/// `BadUserNamePassword` as "bad user name password".
fn words(code: &impl fmt::Debug) -> String {
    let mut words = String::new();
    for c in format!("{code:?}").replace("QoS", "Qos").chars() {
        if c.is_uppercase() && !words.is_empty() {
            words.push(' ');
        }
        words.extend(c.to_lowercase());
    }
    words
}

fn with_reason(code: String, reason: Option<&str>) -> String {
    match reason {
        Some(reason) => format!("{code} ({reason})"),
        None => code,
    }
}
