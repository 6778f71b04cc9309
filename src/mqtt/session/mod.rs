//! The state machine of a subscriber, for MQTT 3.1.1 and 5, without sockets and without a clock.
//!
//! [`Session::connect`] begins a connection. From then on [`Session::receive`] takes the bytes that were read and returns one
//! event at a time, [`Session::outgoing`] holds the bytes to write, and [`Session::tick`] is called when
//! [`Session::deadline`] has passed. The state that MQTT calls the session (messages that are not acknowledged) survives
//! from one connection to the next. A packet that the specification forbids is an error; [`Session::abort`] then sends the
//! broker the reason code, if the protocol is MQTT 5.
//!
//! [`mod@publish`] takes messages in, [`mod@outgoing`] sends some, [`mod@subscribe`] asks for them and checks the answers, `change`
//! changes what is asked for,
//! `keep_alive` notices a broker that is gone.

mod change;
mod error;
mod keep_alive;
mod outgoing;
mod publish;
mod subscribe;

use std::collections::VecDeque;
use std::ops::Range;
use std::time::{Duration, Instant};

use bytes::BytesMut;

use crate::config::{Login, Mqtt, ProtocolVersion};
use crate::core::ack_history::AckHistory;
use crate::core::ack_set::AckSet;
use crate::core::varint::{self, VarintError};
use crate::mqtt::inflight::InflightTracker;
use crate::mqtt::protocol::foreign;
use crate::mqtt::protocol::packet::{self, ConnAck};
use crate::mqtt::protocol::publish::{Fault, Publish};
use crate::mqtt::protocol::reason;
use crate::mqtt::protocol::topic_alias::Aliases;
use crate::mqtt::subscriptions::Filters;

pub use change::ChangeOutcome;
pub use error::SessionError;
pub use subscribe::fewer_filters;

/// The meaning of a packet.
#[derive(Debug)]
pub enum Event<'a> {
    /// A message. Its acknowledgement is settled under `sequence`, which is `None` at QoS 0.
    Message {
        publish: Publish<'a>,
        sequence: Option<u64>,
        /// The client id of this connection, which the broker may have assigned.
        client_id: &'a str,
    },
    /// A message that came before, on this connection or an earlier one, and that a batch already has.
    Duplicate,
    /// A message that MQTT does not allow and that can be framed: it becomes a dead letter.
    Invalid {
        topic: &'a [u8],
        payload: &'a [u8],
        fault: &'static Fault,
        sequence: Option<u64>,
    },
    /// A PUBLISH over `maxPacketBytes`: only its head was kept.
    TooLarge {
        topic: &'a [u8],
        qos: u8,
        packet_bytes: usize,
        sequence: Option<u64>,
    },
    /// The broker keeps the session for a shorter time than we asked for.
    SessionExpiryReduced {
        seconds: u32,
    },
    /// Every subscription was granted. `downgraded` names the filters with a lower QoS than we asked for.
    Subscribed {
        downgraded: Vec<String>,
    },
    Unsubscribed,
    /// A packet that the caller need not handle, or a part of a packet that is skipped.
    Ignored,
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

/// A run of acknowledgements, one behind the other in the output.
#[derive(Debug)]
struct PendingAcks {
    /// The offset of the first in the bytes of this connection.
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
/// While more output than this waits for a broker that does not read, nothing is read from it either.
const MAX_UNSENT_BYTES: usize = 512 << 10;
/// A message over the limit is kept up to its head: topic, packet id and properties. At most this much is held for it.
const MAX_HEAD_BYTES: usize = 128 << 10;

#[derive(Debug)]
pub struct Session {
    connect_options: packet::Connect,
    qos: u8,
    /// The QoS of filters that have none of their own.
    default_qos: u8,
    skip_retained: bool,
    /// The filters that the routes need.
    wanted: Filters,
    /// The filters that this connection subscribes to, as SUBSCRIBE sends them, `$share/…` included.
    filters: Vec<String>,
    /// The filters of `wanted.offers` that the broker refused though it may grant their parts.
    refused_covers: Vec<String>,
    /// The most filters of a SUBSCRIBE or an UNSUBSCRIBE, as it is configured and as the broker's refusals showed.
    filters_per_subscribe: usize,

    /// Filters that a session from before may have and nothing wants, as `mqtt.unsubscribe` names them.
    leftovers: Vec<String>,
    /// Filters of which it is not known whether the broker has them.
    uncertain: Vec<String>,
    /// The packet ids of requests whose answers nothing waits for.
    unheeded: Vec<u16>,
    change: Option<change::Change>,
    change_outcome: Option<ChangeOutcome>,
    /// Filters that the broker refused in a change.
    refused_filters: Vec<String>,

    phase: Phase,
    /// The packet id and the filters of each SUBSCRIBE or UNSUBSCRIBE without an answer.
    pending_requests: Vec<(u16, Range<usize>)>,
    /// Filters that were granted a lower QoS than we asked for.
    downgraded: Vec<String>,
    /// Our keep-alive interval, or the one that a broker of MQTT 5 sets for a connection.
    keep_alive: Duration,
    /// The largest packet that the broker takes.
    broker_max_packet_bytes: usize,
    /// The last CONNACK.
    broker: Option<ConnAck>,
    was_unanswered: bool,
    /// Whether the session is older than this process: its messages may have been subscribed to at a higher QoS.
    is_inherited: bool,
    /// Whether SUBSCRIBE was granted since this process began: a session that is present then has our subscriptions.
    subscribed_before: bool,
    inflight: InflightTracker,
    /// How many more messages above QoS 0 the broker may send on this connection: see [`Session::add_receive_quota`].
    receive_quota: u64,
    aliases: Aliases,
    out: BytesMut,
    /// Bytes sent on this connection.
    sent_bytes: u64,
    /// The acknowledgements in the output that are not sent.
    pending_acks: VecDeque<PendingAcks>,
    /// Bytes of a packet over the limit that are still to be skipped.
    skip: usize,
    last_packet_id: u16,
    last_sent: Instant,
    last_received: Instant,
    /// When the first unanswered ping was sent.
    pinged_at: Option<Instant>,
}

impl Session {
    pub fn new(config: &Mqtt, client_id: String, filters: impl Into<Filters>, now: Instant) -> Session {
        let wanted = filters.into();
        Session {
            connect_options: packet::Connect {
                version: config.version.unwrap_or(ProtocolVersion::V5),
                client_id,
                login: config.fixed_login(),
                keep_alive_seconds: config.keep_alive.as_secs() as u16,
                persistent: config.is_persistent(),
                expiry_seconds: config.session_expiry_seconds,
                receive_maximum: config.receive_maximum,
                topic_alias_maximum: config.topic_alias_maximum,
                max_packet_bytes: config.max_packet_bytes as u32,
            },
            qos: wanted.highest_qos(config.qos),
            default_qos: config.qos,
            skip_retained: config.skip_retained,
            filters: wanted.separate.clone(),
            wanted,
            refused_covers: Vec::new(),
            filters_per_subscribe: config.filters_per_subscribe,
            leftovers: config.unsubscribe.clone(),
            uncertain: Vec::new(),
            unheeded: Vec::new(),
            change: None,
            change_outcome: None,
            refused_filters: Vec::new(),
            phase: Phase::Closed,
            pending_requests: Vec::new(),
            downgraded: Vec::new(),
            keep_alive: config.keep_alive,
            broker_max_packet_bytes: usize::MAX,
            broker: None,
            was_unanswered: false,
            is_inherited: false,
            subscribed_before: false,
            inflight: InflightTracker::default(),
            receive_quota: 0,
            aliases: Aliases::new(config.topic_alias_maximum),
            out: BytesMut::new(),
            sent_bytes: 0,
            pending_acks: VecDeque::new(),
            skip: 0,
            last_packet_id: 0,
            last_sent: now,
            last_received: now,
            pinged_at: None,
        }
    }

    /// Begins a connection: writes CONNECT.
    pub fn connect(&mut self, now: Instant) {
        self.break_off_change();
        self.change_outcome = None;
        self.unheeded.clear();
        self.phase = Phase::Connecting;
        self.was_unanswered = true;
        self.out.clear();
        self.sent_bytes = 0;
        self.pending_acks.clear();
        self.receive_quota = self.connect_options.receive_maximum as u64;
        self.aliases.clear();
        self.skip = 0;
        self.keep_alive = Duration::from_secs(self.connect_options.keep_alive_seconds as u64);
        self.last_sent = now;
        self.last_received = now;
        self.pinged_at = None;
        self.connect_options.write(&mut self.out);
    }

    /// The user and the password of the next connection.
    pub fn set_login(&mut self, login: Option<Login>) {
        self.connect_options.login = login;
    }

    /// The next connection goes to another broker, which may lack our subscriptions.
    pub fn change_broker(&mut self) {
        self.subscribed_before = false;
        self.inflight.change_broker();
    }

    /// The next connection speaks this version.
    pub fn set_version(&mut self, version: ProtocolVersion) {
        self.connect_options.version = version;
    }

    pub fn version(&self) -> ProtocolVersion {
        self.connect_options.version
    }

    /// Whether the last connection ended before the broker had accepted it.
    pub fn was_unanswered(&self) -> bool {
        self.was_unanswered
    }

    /// Whether the broker's answer to CONNECT is still to come.
    pub fn is_connecting(&self) -> bool {
        self.phase == Phase::Connecting
    }

    /// Takes what an earlier process acknowledged, for a broker that kept the session.
    pub fn restore_ack_history(&mut self, history: AckHistory) {
        self.inflight.restore_ack_history(history);
    }

    /// A number that changes whenever the broker starts a new session.
    pub fn broker_session(&self) -> u64 {
        self.inflight.session()
    }

    /// Bytes of topics that aliases stand for.
    pub fn memory_bytes(&self) -> usize {
        self.aliases.memory_bytes()
    }

    pub fn client_id(&self) -> &str {
        &self.connect_options.client_id
    }

    /// The last CONNACK.
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
        self.inflight.unacknowledged()
    }

    /// Whether the broker does not read our output; the caller then reads nothing more from it.
    pub fn is_congested(&self) -> bool {
        self.out.len() > MAX_UNSENT_BYTES
    }

    /// The bytes to write.
    pub fn outgoing(&self) -> &[u8] {
        &self.out
    }

    /// `bytes` bytes of [`Session::outgoing`] were written.
    pub fn sent(&mut self, bytes: usize, now: Instant) {
        bytes::Buf::advance(&mut self.out, bytes);
        self.sent_bytes += bytes as u64;
        while let Some(acks) = self.pending_acks.front_mut() {
            let sent = (self.sent_bytes.saturating_sub(acks.begin) / ACKNOWLEDGEMENT_BYTES).min(acks.count);
            self.inflight.acks_sent(acks.first + sent);
            if sent < acks.count {
                break;
            }
            self.pending_acks.pop_front();
        }
        self.last_sent = now;
    }

    /// These messages may be acknowledged; [`Session::acknowledge`] writes the acknowledgements.
    pub fn settle(&mut self, acks: &AckSet) {
        self.inflight.settle(acks);
    }

    /// Whether PUBRECs wait until the broker has answered another one.
    pub fn has_paced_acks(&self) -> bool {
        self.inflight.has_paced_acks()
    }

    /// Writes the acknowledgements that may be sent, in the order of receipt, and returns their number.
    pub fn acknowledge(&mut self) -> usize {
        // Before SUBACK too: rumqttd sends none while its window is full of messages of an earlier connection.
        if matches!(self.phase, Phase::Closed | Phase::Connecting) {
            return 0;
        }
        let begin = self.sent_bytes + self.out.len() as u64;
        let mut first = None;
        let mut count = 0;
        while let Some(ack) = self.inflight.next_acknowledgement() {
            first.get_or_insert(ack.sequence);
            if ack.qos == 2 {
                self.answer(PUBREC, ack.packet_id);
            } else {
                self.answer(PUBACK, ack.packet_id);
                self.add_receive_quota();
            }
            count += 1;
        }
        if let Some(first) = first {
            self.pending_acks.push_back(PendingAcks { begin, first, count });
        }
        count as usize
    }

    /// A message left the broker's window: by MQTT 5, 3.3.4, the broker may send one more. Mosquitto 2.0.11 sends as many as
    /// the window holds each time, and we would disconnect it again and again: so each acknowledgement allows that many.
    fn add_receive_quota(&mut self) {
        self.receive_quota = self.receive_quota.saturating_add(self.connect_options.receive_maximum as u64);
    }

    fn answer(&mut self, kind: u8, packet_id: u16) {
        let [high, low] = packet_id.to_be_bytes();
        self.out.extend_from_slice(&[kind, 2, high, low]);
    }

    fn is_v5(&self) -> bool {
        self.connect_options.version == ProtocolVersion::V5
    }

    /// Reads the next packet of `input` and returns its length and its meaning; `None` if it is not complete.
    // An event is too large for registers: written by a call and read right after it, it would stall the processor.
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
            return Ok(Some((passed, Event::Ignored)));
        }
        let Some((header, body_bytes)) = fixed_header(input, self.is_v5())? else { return Ok(None) };
        let packet_bytes = header + body_bytes;
        let is_publish = input[0] >> 4 == 3;
        if packet_bytes > self.connect_options.max_packet_bytes as usize {
            if !is_publish {
                return Err(SessionError::violation(
                    "a packet over maxPacketBytes",
                    reason::PACKET_TOO_LARGE,
                ));
            }
            return self.too_large(input, header, packet_bytes);
        }
        if !is_publish && self.phase == Phase::Connecting {
            foreign::refuse(input)?;
        }
        if input.len() < packet_bytes {
            return Ok(None);
        }
        let body = &input[header..packet_bytes];
        let event =
            if is_publish { self.publish(input[0] & 15, body)? } else { self.control(input[0], body)? };
        Ok(Some((packet_bytes, event)))
    }

    #[cold]
    fn control<'a>(&mut self, first: u8, body: &[u8]) -> Result<Event<'a>, SessionError> {
        let version = self.connect_options.version;
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
            (9 | 11, _) if self.is_unheeded(body) => Ok(Event::Ignored),
            (9, Phase::Subscribing) => self.suback(body),
            (9, Phase::Subscribed) if self.change.is_some() => self.suback(body),
            (11, Phase::Unsubscribing) => self.unsuback(body),
            (11, Phase::Subscribed) if self.change.is_some() => self.unsuback(body),
            (13, _) if body.is_empty() => {
                self.pinged_at = None;
                self.inflight.ponged();
                Ok(Event::Ignored)
            }
            (13, _) => Err(SessionError::malformed("a PINGRESP with a body")),
            (0, _) => Err(SessionError::malformed("a packet of no type")),
            _ => Err(SessionError::protocol("a packet that a subscriber does not expect")),
        }
    }
}

/// The length of the fixed header and of the rest of the packet: MQTT 5, 2.1.1. MQTT 3.1.1 allows a length in more bytes than
/// it needs.
#[inline(always)]
fn fixed_header(input: &[u8], is_v5: bool) -> Result<Option<(usize, usize)>, SessionError> {
    let mut rest = &input[1..];
    let len = match varint::read::<4>(&mut rest) {
        Ok(len) => len,
        Err(VarintError::Incomplete) => return Ok(None),
        Err(VarintError::TooLong) => {
            return Err(SessionError::malformed("a length of more than four bytes"));
        }
    };
    let header = input.len() - rest.len();
    if is_v5 && varint::is_overlong(&input[1..header]) {
        return Err(SessionError::malformed("a length in more bytes than it needs")); // [MQTT-1.5.5-1]
    }
    Ok(Some((header, len as usize)))
}
