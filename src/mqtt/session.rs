//! The state machine of a subscriber, for MQTT 3.1.1 and 5, without sockets and without a clock.
//!
//! [`Session::connect`] begins a connection; from then on [`Session::receive`] is given the bytes that were read and
//! gives back one event at a time, [`Session::outgoing`] holds what must be written, and [`Session::tick`] is called
//! when [`Session::deadline`] has passed. The state that MQTT calls the session (what is not acknowledged) survives
//! from one connection to the next. What is illegal is an error; [`Session::abort`] then tells the broker, where MQTT 5
//! has a way to.

use std::collections::VecDeque;
use std::fmt;
use std::ops::Range;
use std::time::{Duration, Instant};

use bytes::BytesMut;

use crate::config::{BrokerUrl, Mqtt, ProtocolVersion};
use crate::core::ack_history::Acknowledged;
use crate::core::ack_set::AckSet;
use crate::core::error::Error;
use crate::mqtt::inflight::{Receipt, Receipts, Release};
use crate::mqtt::protocol::packet::{self, ConnAck, SubAck};
use crate::mqtt::protocol::publish::{Head, Publish};
use crate::mqtt::protocol::reason;
use crate::mqtt::protocol::topic_alias::Aliases;
use crate::mqtt::subscriptions::subscription_id;

/// Why a connection cannot go on. All of them end it; the session may be taken up again by the next.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum SessionError {
    /// The broker sent what the specification forbids; the reason code is MQTT 5's for it.
    Illegal {
        what: &'static str,
        reason: u8,
    },
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

impl SessionError {
    pub(super) const fn illegal(what: &'static str, reason: u8) -> SessionError {
        SessionError::Illegal { what, reason }
    }

    /// What cannot be read.
    pub(super) const fn malformed(what: &'static str) -> SessionError {
        SessionError::illegal(what, reason::MALFORMED_PACKET)
    }

    /// What can be read and must not be.
    pub(super) const fn protocol(what: &'static str) -> SessionError {
        SessionError::illegal(what, reason::PROTOCOL_ERROR)
    }
}

impl SessionError {
    /// As the owner of the pipeline is told.
    pub fn at(self, url: &BrokerUrl) -> Error {
        let url = url.to_string();
        match self {
            SessionError::Refused(reason) => Error::MqttRefused { url, reason },
            SessionError::SubscriptionRefused { filter, reason } => {
                Error::SubscriptionRefused { filter, reason }
            }
            other => Error::MqttUnreachable { url, message: other.to_string() },
        }
    }
}

impl fmt::Display for SessionError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            SessionError::Illegal { what, .. } => write!(f, "the broker sent {what}"),
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
        /// As whom the broker knows us.
        client_id: &'a str,
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
    /// The broker keeps the session for a shorter time than was asked for.
    ShortSession {
        seconds: u32,
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
    /// The same with UNSUBSCRIBE and UNSUBACK.
    Unsubscribing,
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

const PUBACK: u8 = 0x40;
const PUBREC: u8 = 0x50;
const PUBCOMP: u8 = 0x70;
/// PUBACK and PUBREC; without a reason code they mean success in MQTT 5 too: 3.4.2.1, 3.5.2.1.
const ACKNOWLEDGEMENT_BYTES: u64 = 4;
/// A broker that reads none of this, and goes on asking for answers, is not listened to meanwhile.
const MOST_UNSENT: usize = 512 << 10;
/// Of a message over the limit we need the head: topic, packet id and properties. More than this is not held for it.
const MOST_HEAD_BYTES: usize = 128 << 10;

#[derive(Debug)]
pub struct Session {
    /// What we say of ourselves.
    ours: packet::Connect,
    qos: u8,
    skip_retained: bool,
    /// As MQTT knows them, `$share/…` included.
    filters: Vec<String>,

    phase: Phase,
    /// What was not answered yet: the packet id and the filters of each SUBSCRIBE or UNSUBSCRIBE.
    asked: Vec<(u16, Range<usize>)>,
    /// Filters that got a lower QoS than asked for.
    lowered: Vec<String>,
    /// What we ask for, or what a broker of MQTT 5 decides for a connection.
    keep_alive: Duration,
    /// The largest packet that the broker takes.
    broker_max_packet_bytes: usize,
    /// What it said of itself when it let us in.
    broker: Option<ConnAck>,
    /// Whether the session is older than this process: what it then holds may have been asked for at a higher QoS.
    is_inherited: bool,
    /// Whether SUBSCRIBE was granted since this process began: then a session that is present has it.
    subscribed_before: bool,
    receipts: Receipts,
    /// How many more messages above QoS 0 the broker may send on this connection: see [`Session::acknowledged`].
    allowance: u64,
    aliases: Aliases,
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
            ours: packet::Connect {
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
                topic_alias_maximum: config.topic_alias_maximum,
                max_packet_bytes: config.max_packet_bytes as u32,
            },
            qos: config.qos,
            skip_retained: config.skip_retained,
            filters,
            phase: Phase::Closed,
            asked: Vec::new(),
            lowered: Vec::new(),
            keep_alive: config.keep_alive,
            broker_max_packet_bytes: usize::MAX,
            broker: None,
            is_inherited: false,
            subscribed_before: false,
            receipts: Receipts::default(),
            allowance: 0,
            aliases: Aliases::new(config.topic_alias_maximum),
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
        self.allowance = self.ours.receive_maximum as u64;
        self.aliases.clear();
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

    /// What an earlier process acknowledged, should the broker have kept the session.
    pub fn remember(&mut self, acknowledged: Acknowledged) {
        self.receipts.remember(acknowledged);
    }

    /// Another one for each session that the broker began for us.
    pub fn broker_session(&self) -> u64 {
        self.receipts.session()
    }

    pub fn client_id(&self) -> &str {
        &self.ours.client_id
    }

    /// What the broker said of itself when it last let us in.
    pub fn broker(&self) -> Option<&ConnAck> {
        self.broker.as_ref()
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

    /// Whether the broker does not take what we have to say: then nothing more should be read.
    pub fn is_congested(&self) -> bool {
        self.out.len() > MOST_UNSENT
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
            let left = (self.sent_bytes.saturating_sub(acks.begin) / ACKNOWLEDGEMENT_BYTES).min(acks.count);
            self.receipts.left(acks.first + left);
            if left < acks.count {
                break;
            }
            self.leaving.pop_front();
        }
        self.last_sent = now;
    }

    /// What was owed for these messages is settled; the acknowledgements leave with [`Session::acknowledge`].
    pub fn settle(&mut self, owed: &AckSet) {
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
        while let Some(ack) = self.receipts.next_acknowledgement() {
            first.get_or_insert(ack.sequence);
            if ack.qos == 2 {
                self.answer(PUBREC, ack.packet_id);
            } else {
                self.answer(PUBACK, ack.packet_id);
                self.acknowledged();
            }
            count += 1;
        }
        if let Some(first) = first {
            self.leaving.push_back(Leaving { begin, first, count });
        }
        count as usize
    }

    /// A message left the broker's window. By MQTT 5, 3.3.4, it may now send one more. Mosquitto 2.0.11 sends as many
    /// as the window holds each time, and would be cut off again and again: so each acknowledgement allows for that.
    fn acknowledged(&mut self) {
        self.allowance = self.allowance.saturating_add(self.ours.receive_maximum as u64);
    }

    fn answer(&mut self, kind: u8, packet_id: u16) {
        let [high, low] = packet_id.to_be_bytes();
        self.out.extend_from_slice(&[kind, 2, high, low]);
    }

    pub fn unsubscribe(&mut self) {
        self.phase = Phase::Unsubscribing;
        self.asked.clear();
        let begin = self.out.len();
        self.write_unsubscribe(0..self.filters.len());
        if self.out.len() - begin > self.broker_max_packet_bytes {
            self.out.truncate(begin);
            self.asked.clear();
            (0..self.filters.len()).for_each(|i| self.write_unsubscribe(i..i + 1));
        }
    }

    fn write_unsubscribe(&mut self, range: Range<usize>) {
        let packet_id = self.next_packet_id();
        packet::write_unsubscribe(&mut self.out, self.ours.version, packet_id, &self.filters[range.clone()]);
        self.asked.push((packet_id, range));
    }

    pub fn disconnect(&mut self) {
        // The same two bytes in both versions: in MQTT 5 the reason code 0 may be left out, 3.14.2.1.
        self.out.extend_from_slice(&[0xe0, 0]);
        self.phase = Phase::Closed;
    }

    /// The connection ends because of an error. With MQTT 5 the broker is told if it is to blame: 4.13.
    pub fn abort(&mut self, error: &SessionError) {
        if let SessionError::Illegal { reason, .. } = error
            && self.is_v5()
            && self.phase != Phase::Closed
        {
            self.out.extend_from_slice(&[0xe0, 2, *reason, 0]);
        }
        self.phase = Phase::Closed;
    }

    fn is_v5(&self) -> bool {
        self.ours.version == ProtocolVersion::V5
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
    /// one and a half. While we do not read (`reading` is false) its silence is our own doing, unless it does not read
    /// either.
    pub fn tick(&mut self, now: Instant, reading: bool) -> Result<(), SessionError> {
        if !reading && !self.is_congested() {
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
    // An event is too large for registers. Written by a call and read at once behind it, it would stall the processor.
    #[inline(always)]
    pub fn receive<'a>(
        &'a mut self,
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
        let Some((header, body_bytes)) = fixed_header(input, self.is_v5())? else { return Ok(None) };
        let packet_bytes = header + body_bytes;
        let is_publish = input[0] >> 4 == 3;
        if packet_bytes > self.ours.max_packet_bytes as usize {
            if !is_publish {
                return Err(SessionError::illegal("a packet over maxPacketBytes", reason::PACKET_TOO_LARGE));
            }
            return self.too_large(input, header, packet_bytes);
        }
        if input.len() < packet_bytes {
            return Ok(None);
        }
        let body = &input[header..packet_bytes];
        let event =
            if is_publish { self.publish(input[0] & 15, body)? } else { self.control(input[0], body)? };
        Ok(Some((packet_bytes, event)))
    }

    #[inline(always)]
    fn publish<'a>(&'a mut self, flags: u8, body: &'a [u8]) -> Result<Event<'a>, SessionError> {
        let Some(head) = Head::parse(flags, body, self.is_v5())? else {
            return Err(SessionError::malformed("a PUBLISH that ends in its head"));
        };
        let payload = &body[head.len..];
        let Some((sequence, fingerprint)) = self.record(&head, |topic| {
            // Topic and payload alone: a broker may send properties such as the message expiry changed.
            crc32c::crc32c_append(crc32c::crc32c(topic), payload)
        })?
        else {
            return Ok(Event::Again);
        };
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
        Ok(Event::Message { publish, sequence, client_id: &self.ours.client_id })
    }

    /// Keeps the head of a message over the limit and passes over the rest without holding it.
    #[cold]
    fn too_large<'a>(
        &'a mut self,
        input: &'a [u8],
        header: usize,
        packet_bytes: usize,
    ) -> Result<Option<(usize, Event<'a>)>, SessionError> {
        let taken = input.len().min(packet_bytes);
        let seen = taken.min(MOST_HEAD_BYTES);
        let (flags, body) = (input[0] & 15, &input[header..seen]);
        let head = match Head::parse(flags, body, self.is_v5())? {
            Some(head) => head,
            None if seen == packet_bytes => {
                return Err(SessionError::malformed("a PUBLISH that ends in its head"));
            }
            None if seen < MOST_HEAD_BYTES => return Ok(None),
            // Properties without end are passed over too.
            None => Head::parse(flags, body, false)?
                .ok_or(SessionError::illegal("a packet over maxPacketBytes", reason::PACKET_TOO_LARGE))?,
        };
        // The size alone would not do: it changes when an alias stands for the topic.
        let payload_bytes = packet_bytes - header - head.len;
        let recorded = self.record(&head, |topic| crc32c::crc32c_append(payload_bytes as u32, topic))?;
        self.skip = packet_bytes - taken;
        let event = match recorded {
            Some((sequence, _)) => {
                Event::TooLarge { topic: self.topic(&head), qos: head.qos, packet_bytes, sequence }
            }
            None => Event::Again,
        };
        Ok(Some((taken, event)))
    }

    #[inline]
    fn topic<'a>(&'a self, head: &Head<'a>) -> &'a [u8] {
        match head.alias {
            Some(alias) => self.aliases.topic(alias),
            None => head.topic,
        }
    }

    /// Records what must be acknowledged: its sequence number, with none at QoS 0, and its fingerprint; or `None` if the
    /// message is known.
    #[inline]
    fn record(
        &mut self,
        head: &Head<'_>,
        fingerprint: impl Fn(&[u8]) -> u32,
    ) -> Result<Option<(Option<u64>, u32)>, SessionError> {
        // A broker may deliver before it grants (3.8.4), but not before CONNACK.
        if matches!(self.phase, Phase::Connecting | Phase::Closed) {
            return Err(SessionError::protocol("a PUBLISH before CONNACK"));
        }
        if head.qos > self.qos && !self.is_inherited {
            return Err(SessionError::protocol("a PUBLISH with a QoS that was not granted"));
        }
        if let Some(alias) = head.alias {
            self.aliases.learn(head.topic, alias)?;
        }
        if head.qos == 0 {
            return Ok(Some((None, 0)));
        }
        let fingerprint = fingerprint(self.topic(head));
        // What is sent again does not count: mosquitto does so at once with all it has, whatever we allow.
        if self.is_v5() && !head.duplicate {
            let what = "more unacknowledged messages than receiveMaximum"; // [MQTT-3.3.4-9]
            self.allowance = self
                .allowance
                .checked_sub(1)
                .ok_or(SessionError::illegal(what, reason::RECEIVE_MAXIMUM_EXCEEDED))?;
        }
        match self.receipts.receive(head.packet_id, head.qos, head.duplicate, fingerprint) {
            Receipt::New(sequence) => Ok(Some((Some(sequence), fingerprint))),
            Receipt::Again => Ok(None),
            Receipt::Unreleased => {
                self.answer(PUBREC, head.packet_id);
                Ok(None)
            }
            Receipt::InUse => Err(SessionError::protocol("a packet id that is in use")), // [MQTT-2.2.1-4]
        }
    }

    #[cold]
    fn control<'a>(&mut self, first: u8, body: &[u8]) -> Result<Event<'a>, SessionError> {
        let version = self.ours.version;
        let kind = first >> 4;
        // [MQTT-2.1.3-1]: the flags of all these are reserved. [MQTT-3.6.1-1]: those of PUBREL are not all zero.
        if first & 15 != if kind == 6 { 2 } else { 0 } {
            return Err(SessionError::malformed("a packet with reserved flags"));
        }
        match (kind, self.phase) {
            (2, Phase::Connecting) => self.connack(body),
            (2, _) => Err(SessionError::protocol("a second CONNACK")),
            (14, _) if self.is_v5() => Err(packet::read_disconnect(body)?),
            (_, Phase::Connecting | Phase::Closed) => Err(SessionError::protocol("a packet before CONNACK")),
            (6, _) => self.pubrel(packet::read_pubrel(version, body)?),
            (9, Phase::Subscribing) => self.suback(body),
            (11, Phase::Unsubscribing) => self.unsuback(body),
            (13, _) if body.is_empty() => {
                self.pinged_at = None;
                Ok(Event::Nothing)
            }
            (13, _) => Err(SessionError::malformed("a PINGRESP with a body")),
            (0, _) => Err(SessionError::malformed("a packet of no type")),
            _ => Err(SessionError::protocol("a packet that a subscriber does not expect")),
        }
    }

    fn pubrel<'a>(&mut self, packet_id: u16) -> Result<Event<'a>, SessionError> {
        match self.receipts.release(packet_id) {
            Release::Early => return Err(SessionError::protocol("a PUBREL for what was not acknowledged")),
            Release::Unknown if self.is_v5() => {
                let [high, low] = packet_id.to_be_bytes();
                self.out.extend_from_slice(&[PUBCOMP, 3, high, low, reason::PACKET_ID_NOT_FOUND]);
            }
            Release::Known | Release::Unknown => self.answer(PUBCOMP, packet_id),
        }
        self.acknowledged();
        Ok(Event::Nothing)
    }

    fn connack<'a>(&mut self, body: &[u8]) -> Result<Event<'a>, SessionError> {
        let ack = packet::read_connack(self.ours.version, body)?;
        if let Some(seconds) = ack.keep_alive_seconds {
            self.keep_alive = Duration::from_secs(seconds as u64); // [MQTT-3.2.2-21]
        }
        if let Some(client_id) = &ack.client_id {
            self.ours.client_id = client_id.clone();
        }
        self.broker_max_packet_bytes = ack.max_packet_bytes;
        self.broker = Some(ack.clone());
        if ack.session_present && !self.ours.persistent {
            return Err(SessionError::protocol("a session after a clean start")); // [MQTT-3.2.2-4]
        }
        self.receipts.reconnect(ack.session_present);
        self.is_inherited = ack.session_present && (self.is_inherited || !self.subscribed_before);
        if ack.session_present && self.subscribed_before {
            self.phase = Phase::Subscribed;
            return Ok(Event::Subscribed { lowered: Vec::new() });
        }
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
        self.asked.clear();
        self.lowered.clear();
        let filters = 0..self.filters.len();
        if ack.has_subscription_ids && filters.len() > 1 {
            // An identifier belongs to a whole SUBSCRIBE.
            for i in filters {
                self.subscribe(i..i + 1, Some(subscription_id(&self.filters[i])))?;
            }
        } else {
            self.subscribe(filters, None)?;
        }
        Ok(match ack.session_expiry_seconds {
            Some(seconds) if self.ours.persistent && seconds < self.ours.expiry_seconds => {
                Event::ShortSession { seconds }
            }
            _ => Event::Nothing,
        })
    }

    fn subscribe(&mut self, range: Range<usize>, subscription_id: Option<usize>) -> Result<(), SessionError> {
        let packet_id = self.next_packet_id();
        let begin = self.out.len();
        packet::Subscribe {
            version: self.ours.version,
            packet_id,
            filters: &self.filters[range.clone()],
            qos: self.qos,
            skip_retained: self.skip_retained,
            subscription_id,
        }
        .write(&mut self.out);
        // [MQTT-3.2.2-15]
        if self.out.len() - begin > self.broker_max_packet_bytes {
            self.out.truncate(begin);
            if range.len() > 1 {
                return range.into_iter().try_for_each(|i| self.subscribe(i..i + 1, subscription_id));
            }
            let reason =
                format!("the broker takes packets of {} bytes at most", self.broker_max_packet_bytes);
            return Err(SessionError::SubscriptionRefused {
                filter: self.filters[range.start].clone(),
                reason,
            });
        }
        self.asked.push((packet_id, range));
        Ok(())
    }

    /// The filters that the broker answers to.
    fn answered(&mut self, packet_id: u16) -> Result<Range<usize>, SessionError> {
        match self.asked.iter().position(|(asked, _)| *asked == packet_id) {
            Some(at) => Ok(self.asked.swap_remove(at).1),
            None => Err(SessionError::protocol("an answer to nothing that was asked")), // [MQTT-2.2.1-6]
        }
    }

    fn suback<'a>(&mut self, body: &[u8]) -> Result<Event<'a>, SessionError> {
        let SubAck { packet_id, grants } = packet::read_suback(self.ours.version, body)?;
        let range = self.answered(packet_id)?;
        if grants.len() != range.len() {
            return Err(SessionError::protocol("a SUBACK with a wrong number of grants")); // [MQTT-3.8.4-6]
        }
        for (filter, grant) in self.filters[range].iter().zip(grants) {
            match grant {
                Ok(qos) if qos < self.qos => self.lowered.push(filter.clone()),
                Ok(qos) if qos > self.qos => {
                    return Err(SessionError::protocol("a SUBACK that grants more than was asked for"));
                }
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

    fn unsuback<'a>(&mut self, body: &[u8]) -> Result<Event<'a>, SessionError> {
        let (packet_id, answers) = packet::read_unsuback(self.ours.version, body)?;
        let range = self.answered(packet_id)?;
        if answers.is_some_and(|answers| answers != range.len()) {
            return Err(SessionError::protocol("an UNSUBACK with a wrong number of answers")); // [MQTT-3.11.3-1]
        }
        if !self.asked.is_empty() {
            return Ok(Event::Nothing);
        }
        self.phase = Phase::Unsubscribed;
        Ok(Event::Unsubscribed)
    }

    /// Ours are only for SUBSCRIBE and UNSUBSCRIBE, of which few are under way at a time.
    fn next_packet_id(&mut self) -> u16 {
        self.last_packet_id = self.last_packet_id.checked_add(1).unwrap_or(1);
        self.last_packet_id
    }
}

/// The bytes of the fixed header and of what follows it: MQTT 5, 2.1.1. MQTT 3.1.1 does not ask for the shortest length.
fn fixed_header(input: &[u8], is_v5: bool) -> Result<Option<(usize, usize)>, SessionError> {
    let mut len = 0;
    for i in 0..4 {
        let Some(byte) = input.get(1 + i) else { return Ok(None) };
        len |= ((byte & 0x7f) as usize) << (7 * i);
        if byte & 0x80 == 0 {
            if is_v5 && i > 0 && *byte == 0 {
                return Err(SessionError::malformed("a length in more bytes than it needs")); // [MQTT-1.5.5-1]
            }
            return Ok(Some((2 + i, len)));
        }
    }
    Err(SessionError::malformed("a length of more than four bytes"))
}
