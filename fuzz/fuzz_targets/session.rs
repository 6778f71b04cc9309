//! The MQTT session under a broker that sends anything, in reads of any size, while messages are
//! settled, acknowledgements leave in parts, time passes and connections break.
//!
//! The input is a byte of configuration and then steps, each a byte and what it takes: see [`Broker::step`]. Whatever
//! they are, the session must not panic, must take bytes or ask for more, must hold no more than it says, and must
//! acknowledge each message as often as it came, and only once it is settled.

#![no_main]

use std::collections::{HashMap, HashSet};
use std::time::{Duration, Instant};

use libfuzzer_sys::fuzz_target;
use millrace::config::{Config, Mqtt};
use millrace::core::ack_set::AckSet;
use millrace::mqtt::session::{Event, Session, SessionError};

/// Bytes that a session may hold back: the head of a packet over the limit.
const MAX_UNREAD: usize = 128 << 10;
/// Bytes that it may have to send, while nothing is read that it would have to answer.
const MAX_UNSENT: usize = 600 << 10;

fuzz_target!(|data: &[u8]| {
    let Some((first, steps)) = data.split_first() else { return };
    let mut broker = Broker::new(*first, steps);
    while broker.step().is_some() {}
});

struct Broker<'d> {
    steps: &'d [u8],
    version: u8,
    session: Session,
    now: Instant,
    unread: Vec<u8>,
    /// Bytes of the session that end before the end of a packet.
    said: Vec<u8>,
    /// How often each packet id came on this connection and was not acknowledged.
    received: HashMap<u16, usize>,
    released: HashMap<u16, usize>,
    /// The messages under a packet id, by their sequence numbers: the last one, and those before it whose
    /// acknowledgement is still on its way; with each, how many acknowledgements are on their way that are not its own.
    /// `None`: a redelivery of a message that came under another packet id, where several may be the one.
    messages: HashMap<u16, Vec<(Option<u64>, usize)>>,
    /// The sequence numbers of messages by what follows their packet id.
    contents: HashMap<Vec<u8>, HashSet<u64>>,
    open: Vec<u64>,
    settled: HashSet<u64>,
    is_closed: bool,
}

impl<'d> Broker<'d> {
    fn new(first: u8, steps: &'d [u8]) -> Self {
        let version = if first & 1 == 0 { 5 } else { 4 };
        let now = Instant::now();
        let filters = vec!["a/+".to_string(), "$share/g/b/#".to_string()];
        let mut session = Session::new(&config(version, first), "fuzz".into(), filters, now);
        session.connect(now);
        Broker {
            steps,
            version,
            session,
            now,
            unread: Vec::new(),
            said: Vec::new(),
            received: HashMap::new(),
            released: HashMap::new(),
            messages: HashMap::new(),
            contents: HashMap::new(),
            open: Vec::new(),
            settled: HashSet::new(),
            is_closed: false,
        }
    }

    fn byte(&mut self) -> Option<u8> {
        let (byte, rest) = self.steps.split_first()?;
        self.steps = rest;
        Some(*byte)
    }

    fn bytes(&mut self, count: usize) -> &'d [u8] {
        let (bytes, rest) = self.steps.split_at(count.min(self.steps.len()));
        self.steps = rest;
        bytes
    }

    /// `None` at the end of the input.
    fn step(&mut self) -> Option<()> {
        match self.byte()? % 16 {
            // The broker sends anything, or the packets that lead further.
            0..=2 => {
                let count = self.byte()? as usize;
                let bytes = self.bytes(count);
                self.feed(bytes);
            }
            3 => {
                let session_present = self.byte()? & 1;
                self.packet(0x20, &[&[session_present, 0]], &[]);
            }
            4 => {
                let (packet_id, qos) = (self.byte()?, self.byte()?);
                let codes = if self.version == 5 { vec![qos] } else { vec![qos; 2] };
                let properties: &[u8] = if self.version == 5 { &[0] } else { &[] };
                self.complete(0x90, &[&[0, packet_id], properties, &codes]);
            }
            5 | 6 => {
                let (flags, packet_id, payload) = (self.byte()? & 15, self.byte()?, self.byte()?);
                let packet_id: &[u8] = if flags & 6 == 0 { &[] } else { &[0, packet_id] };
                self.packet(0x30 | flags, &[b"\x00\x03a/b", packet_id], &[payload]);
            }
            7 => {
                let (flags, packet_id, alias) = (self.byte()? & 15, self.byte()?, self.byte()?);
                let packet_id: &[u8] = if flags & 6 == 0 { &[] } else { &[0, packet_id] };
                let topic: &[u8] = if alias & 1 == 0 { b"\x00\x00" } else { b"\x00\x03a/c" };
                self.complete(0x30 | flags, &[topic, packet_id, &[3, 0x23, 0, alias / 2]]);
            }
            8 => {
                let packet_id = self.byte()?;
                self.complete(0x62, &[&[0, packet_id]]);
            }
            9 => {
                // Over the limit, and perhaps not all of it.
                let (flags, packet_id, count) = (self.byte()? & 15, self.byte()?, self.byte()? as usize);
                let packet_id: &[u8] = if flags & 6 == 0 { &[] } else { &[0, packet_id] };
                self.packet(0x30 | flags, &[b"\x00\x03a/b", packet_id], &vec![b'x'; 1000 + count * 16]);
            }
            // The client acts.
            10 | 11 => {
                let at = self.byte()? as usize;
                if !self.open.is_empty() {
                    let sequence = self.open.swap_remove(at % self.open.len());
                    let mut owed = AckSet::default();
                    owed.add(sequence);
                    self.session.settle(&owed);
                    self.settled.insert(sequence);
                }
            }
            12 => drop(self.session.acknowledge()),
            13 => {
                let count = self.byte()? as usize;
                self.sent(count * 3);
            }
            14 => {
                let (seconds, reading) = (self.byte()?, self.byte()? & 1 == 1);
                self.now += Duration::from_secs(seconds as u64);
                if let Err(error) = self.session.tick(self.now, reading) {
                    self.end(&error);
                }
            }
            _ => match self.byte()? % 4 {
                0 if self.session.is_subscribed() => self.session.unsubscribe(),
                1 => self.session.change_broker(),
                _ => self.connect(),
            },
        }
        assert!(self.unread.len() <= MAX_UNREAD, "{} bytes held", self.unread.len());
        assert!(
            self.session.outgoing().len() <= MAX_UNSENT,
            "{} bytes to say",
            self.session.outgoing().len()
        );
        // Before CONNACK what is not acknowledged is that of the last connection.
        if self.session.is_subscribed() {
            assert!(self.session.unacknowledged() <= self.received.values().sum());
        }
        Some(())
    }

    /// A packet that in MQTT 5 has properties between its head and its payload: none here.
    fn packet(&mut self, first: u8, head: &[&[u8]], payload: &[u8]) {
        let properties: &[u8] = if self.version == 5 { &[0] } else { &[] };
        self.complete(first, &[&head.concat(), properties, payload]);
    }

    fn complete(&mut self, first: u8, body: &[&[u8]]) {
        let body = body.concat();
        let mut packet = vec![first];
        let mut len = body.len();
        while len >= 0x80 {
            packet.push(len as u8 | 0x80);
            len >>= 7;
        }
        packet.push(len as u8);
        packet.extend(body);
        self.feed(&packet);
    }

    fn feed(&mut self, bytes: &[u8]) {
        if self.is_closed || self.session.is_congested() {
            return;
        }
        self.unread.extend_from_slice(bytes);
        let unread = std::mem::take(&mut self.unread);
        let mut rest = unread.as_slice();
        loop {
            let (taken, is_again, sequence) = match self.session.receive(rest, self.now) {
                Ok(None) => break,
                Ok(Some((taken, event))) => match event {
                    Event::Message { sequence, .. }
                    | Event::Invalid { sequence, .. }
                    | Event::TooLarge { sequence, .. } => (taken, false, sequence),
                    Event::Duplicate => (taken, true, None),
                    _ => (taken, false, None),
                },
                Err(error) => return self.end(&error),
            };
            assert!(taken > 0 && taken <= rest.len(), "{taken} of {} bytes taken", rest.len());
            if let Some(packet_id) = packet_id(rest).filter(|_| is_again || sequence.is_some()) {
                let content = content(&rest[..taken]);
                let earlier = self.on_their_way(packet_id);
                let messages = self.messages.entry(packet_id).or_default();
                if let Some(sequence) = sequence {
                    if earlier == 0 {
                        messages.clear();
                    }
                    messages.push((Some(sequence), earlier));
                    self.contents.entry(content).or_default().insert(sequence);
                    self.open.push(sequence);
                } else {
                    let same = self.contents.get(&content);
                    let is_it = |last: u64| same.is_some_and(|same| same.contains(&last));
                    if !messages.last().is_some_and(|(last, _)| last.is_none_or(is_it)) {
                        if earlier == 0 {
                            messages.clear();
                        }
                        messages.push((None, earlier));
                    }
                }
                *self.received.entry(packet_id).or_default() += 1;
            } else if rest[0] == 0x62 && rest.len() >= 4 {
                *self.released.entry(u16::from_be_bytes([rest[2], rest[3]])).or_default() += 1;
            }
            rest = &rest[taken..];
        }
        self.unread = rest.to_vec();
    }

    /// The acknowledgements of a packet id that are written and have not reached the broker.
    fn on_their_way(&self, packet_id: u16) -> usize {
        let bytes = [&self.said, self.session.outgoing()].concat();
        let mut rest = bytes.as_slice();
        let mut count = 0;
        while let Some((header, len)) = frame(rest) {
            let is_it = matches!(rest[0] >> 4, 4 | 5) && rest[header..header + 2] == packet_id.to_be_bytes();
            count += is_it as usize;
            rest = &rest[header + len..];
        }
        count
    }

    /// The first `count` outgoing bytes reach the broker.
    fn sent(&mut self, count: usize) {
        let count = count.min(self.session.outgoing().len());
        self.said.extend_from_slice(&self.session.outgoing()[..count]);
        self.session.sent(count, self.now);
        let mut rest = self.said.as_slice();
        while let Some((header, len)) = frame(rest).filter(|(header, len)| rest.len() >= header + len) {
            let id = || u16::from_be_bytes([rest[header], rest[header + 1]]);
            match rest[0] >> 4 {
                4 | 5 => {
                    let owed = self.received.get_mut(&id()).filter(|owed| **owed > 0);
                    *owed.expect("nothing is acknowledged more often than it came") -= 1;
                    let messages = self.messages.get_mut(&id()).expect("it came");
                    match messages[0].0 {
                        Some(sequence) => {
                            assert!(self.settled.contains(&sequence), "acknowledged before it was settled");
                        }
                        None => assert!(!self.settled.is_empty(), "acknowledged, and nothing was settled"),
                    }
                    messages[1..].iter_mut().for_each(|(_, earlier)| *earlier -= 1);
                    while messages.get(1).is_some_and(|(_, earlier)| *earlier == 0) {
                        messages.remove(0);
                    }
                }
                7 => {
                    let owed = self.released.get_mut(&id()).filter(|owed| **owed > 0);
                    *owed.expect("no PUBCOMP without a PUBREL") -= 1;
                }
                1 | 8 | 10 | 12 | 14 => {}
                kind => panic!("a subscriber does not say packets of type {kind}"),
            }
            rest = &rest[header + len..];
        }
        self.said = rest.to_vec();
    }

    fn end(&mut self, error: &SessionError) {
        self.session.abort(error);
        self.sent(usize::MAX);
        assert_eq!(self.session.deadline(), None);
        self.is_closed = true;
    }

    fn connect(&mut self) {
        self.is_closed = false;
        self.unread.clear();
        self.said.clear();
        self.received.clear();
        self.released.clear();
        self.messages.values_mut().for_each(|messages| drop(messages.drain(..messages.len() - 1)));
        self.session.connect(self.now);
    }
}

fn config(version: u8, first: u8) -> Mqtt {
    let qos = (first >> 1 & 3) % 3;
    let receive_maximum = if first & 0x40 == 0 { 65535 } else { 3 };
    let text = format!(
        r##"{{"mqtt":{{"url":"mqtt://broker","clientId":"fuzz","protocolVersion":{version},"qos":{qos},"topicAliasMaximum":64,
        "receiveMaximum":{receive_maximum},"maxPacketBytes":1024,"keepAliveSeconds":10}},
        "clickhouse":{{"url":"http://clickhouse"}},"routes":[{{"topic":"#","table":"t"}}]}}"##
    );
    Config::parse(&text).expect("the options are right").mqtt
}

/// The bytes of a fixed header and of what follows it.
fn frame(bytes: &[u8]) -> Option<(usize, usize)> {
    let mut len = 0;
    for i in 0..4 {
        let byte = *bytes.get(1 + i)?;
        len |= ((byte & 0x7f) as usize) << (7 * i);
        if byte & 0x80 == 0 {
            return Some((2 + i, len));
        }
    }
    None
}

/// The bytes of a PUBLISH above QoS 0 behind its packet id.
fn content(bytes: &[u8]) -> Vec<u8> {
    let Some((header, _)) = frame(bytes) else { return Vec::new() };
    let topic_bytes =
        bytes.get(header..header + 2).map_or(0, |len| u16::from_be_bytes([len[0], len[1]]).into());
    bytes.get(header + 4 + topic_bytes..).unwrap_or_default().to_vec()
}

/// The packet id of a PUBLISH above QoS 0.
fn packet_id(bytes: &[u8]) -> Option<u16> {
    if bytes[0] >> 4 != 3 || bytes[0] & 6 == 0 {
        return None;
    }
    let (header, _) = frame(bytes)?;
    let topic_bytes = u16::from_be_bytes([*bytes.get(header)?, *bytes.get(header + 1)?]) as usize;
    let at = header + 2 + topic_bytes;
    Some(u16::from_be_bytes([*bytes.get(at)?, *bytes.get(at + 1)?]))
}
