//! A session with what stands in for its socket, and what it saw.

use std::time::{Duration, Instant};

use millrace::config::{Config, Mqtt};
use millrace::core::ack_set::AckSet;
use millrace::mqtt::session::{Event, Session, SessionError};
use serde_json::{Value, json};

use crate::broker::{connack, subacks};

pub const FILTERS: [&str; 2] = ["drivers/+/position", "$share/fleet/logs/#"];
pub const MAX_PACKET_BYTES: usize = 1024;

/// An event, without its borrows.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Seen {
    Message {
        message: Message,
        sequence: Option<u64>,
    },
    Duplicate,
    /// The code of the dead letter.
    Invalid {
        topic: String,
        code: &'static str,
        sequence: Option<u64>,
    },
    TooLarge {
        topic: String,
        qos: u8,
        packet_bytes: usize,
        sequence: Option<u64>,
    },
    ShortSession {
        seconds: u32,
    },
    Subscribed {
        downgraded: Vec<String>,
    },
    Unsubscribed,
}

#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Message {
    pub topic: String,
    pub payload: Vec<u8>,
    pub qos: u8,
    pub retain: bool,
    pub duplicate: bool,
    pub packet_id: u16,
    /// The user property `colour`; with one, the PUBLISH has every other property too.
    pub colour: Option<String>,
}

impl Seen {
    pub fn of(event: &Event<'_>) -> Option<Seen> {
        Some(match event {
            Event::Ignored => return None,
            Event::Message { publish, sequence, .. } => Seen::Message {
                message: Message {
                    topic: String::from_utf8_lossy(publish.topic).into(),
                    payload: publish.payload.into(),
                    qos: publish.qos,
                    retain: publish.retain,
                    duplicate: publish.duplicate,
                    packet_id: publish.packet_id,
                    colour: publish.properties.user("colour").map(str::to_string),
                },
                sequence: *sequence,
            },
            Event::Duplicate => Seen::Duplicate,
            Event::Invalid { topic, fault, sequence, .. } => Seen::Invalid {
                topic: String::from_utf8_lossy(topic).into(),
                code: fault.code.as_str(),
                sequence: *sequence,
            },
            Event::TooLarge { topic, qos, packet_bytes, sequence } => Seen::TooLarge {
                topic: String::from_utf8_lossy(topic).into(),
                qos: *qos,
                packet_bytes: *packet_bytes,
                sequence: *sequence,
            },
            Event::SessionExpiryReduced { seconds } => Seen::ShortSession { seconds: *seconds },
            Event::Subscribed { downgraded } => Seen::Subscribed { downgraded: downgraded.clone() },
            Event::Unsubscribed => Seen::Unsubscribed,
        })
    }

    pub fn sequence(&self) -> Option<u64> {
        match self {
            Seen::Message { sequence, .. }
            | Seen::Invalid { sequence, .. }
            | Seen::TooLarge { sequence, .. } => *sequence,
            _ => None,
        }
    }
}

/// A session with what stands in for its socket.
pub struct Client {
    pub session: Session,
    pub now: Instant,
    pub unread: Vec<u8>,
    pub seen: Vec<Seen>,
    /// Acknowledges each message as it comes, and unsubscribes after the topic `last`.
    pub is_eager: bool,
}

impl Client {
    /// CONNECT lies in the outgoing bytes.
    pub fn new(config: &Mqtt) -> Client {
        let now = Instant::now();
        let client_id = config.client_id.clone().unwrap_or_else(|| "random".into());
        let mut session = Session::new(config, client_id, FILTERS.map(String::from).to_vec(), now);
        session.connect(now);
        Client { session, now, unread: Vec::new(), seen: Vec::new(), is_eager: false }
    }

    /// Connected and subscribed; everything said so far is written.
    pub fn subscribed(config: &Mqtt, version: u8) -> Client {
        let mut client = Client::new(config);
        client.feed(&connack(version, false)).unwrap();
        client.feed(&subacks(version, 1, &[config.qos; 2])).unwrap();
        client.written();
        client.seen.clear();
        client
    }

    pub fn reconnect(&mut self, version: u8, session_present: bool) {
        self.unread.clear();
        self.seen.clear();
        self.session.connect(self.now);
        self.written();
        self.feed(&connack(version, session_present)).unwrap();
    }

    pub fn feed(&mut self, bytes: &[u8]) -> Result<(), SessionError> {
        self.unread.extend_from_slice(bytes);
        while let Some((taken, event)) = self.session.receive(&self.unread, self.now)? {
            assert!(taken > 0 && taken <= self.unread.len(), "{taken} of {} bytes taken", self.unread.len());
            let seen = Seen::of(&event);
            self.unread.drain(..taken);
            if self.is_eager {
                self.react(seen.as_ref());
            }
            self.seen.extend(seen);
        }
        let head = &self.unread[..self.unread.len().min(16)];
        assert!(
            !begins_with_a_complete_packet(&self.unread),
            "a complete packet is left unread: {head:02x?}…"
        );
        Ok(())
    }

    fn react(&mut self, seen: Option<&Seen>) {
        if let Some(sequence) = seen.and_then(Seen::sequence) {
            self.session.settle(&owed(&[sequence]));
        }
        self.session.acknowledge();
        if matches!(seen, Some(Seen::Message { message, .. }) if message.topic == "last") {
            self.session.unsubscribe();
        }
    }

    /// Takes the outgoing bytes as written.
    pub fn written(&mut self) -> Vec<u8> {
        let bytes = self.session.outgoing().to_vec();
        self.session.sent(bytes.len(), self.now);
        bytes
    }

    /// Feeds forbidden bytes, and returns why the connection ended and the bytes that the broker got.
    pub fn refuse(&mut self, bytes: &[u8]) -> (SessionError, Vec<u8>) {
        let error = self.feed(bytes).expect_err("it is illegal");
        self.written();
        self.session.abort(&error);
        assert_eq!(self.session.deadline(), None);
        (error, self.written())
    }

    pub fn settle(&mut self, sequences: &[u64]) -> Vec<u8> {
        self.session.settle(&owed(sequences));
        self.session.acknowledge();
        self.written()
    }

    pub fn sequences(&self) -> Vec<Option<u64>> {
        self.seen.iter().map(Seen::sequence).collect()
    }

    /// Ticks `after` the client's beginning; what was written, or that the broker is silent.
    pub fn tick(&mut self, after: Duration, reading: bool) -> Result<Vec<u8>, SessionError> {
        let now = self.now + after;
        self.session.tick(now, reading)?;
        let bytes = self.session.outgoing().to_vec();
        if !bytes.is_empty() {
            self.session.sent(bytes.len(), now);
        }
        Ok(bytes)
    }
}

fn begins_with_a_complete_packet(bytes: &[u8]) -> bool {
    let mut len = 0;
    for i in 0..4 {
        let Some(byte) = bytes.get(1 + i) else { return false };
        len |= ((byte & 0x7f) as usize) << (7 * i);
        if byte & 0x80 == 0 {
            return bytes.len() >= 2 + i + len;
        }
    }
    true
}

pub fn options(version: u8, more: Value) -> Mqtt {
    let mut mqtt = json!({
        "url": "mqtt://broker",
        "clientId": "fleet-1",
        "protocolVersion": version,
        "maxPacketBytes": MAX_PACKET_BYTES,
        "topicAliasMaximum": 64,
    });
    mqtt.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    let config = json!({
        "mqtt": mqtt,
        "clickhouse": { "url": "http://clickhouse" },
        "routes": [{ "topic": "#", "table": "t" }],
    });
    Config::parse(&config.to_string()).unwrap().mqtt
}

pub fn owed(sequences: &[u64]) -> AckSet {
    let mut owed = AckSet::default();
    sequences.iter().for_each(|sequence| owed.add(*sequence));
    owed
}
