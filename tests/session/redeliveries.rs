//! A broker that delivers again, at random: with each cut what was on its way in both directions is lost, a cut comes before all
//! was delivered again after the last one, and batches are settled at any time and in any order.
//!
//! Whatever happens: nothing is acknowledged that was not settled, and nothing is taken for a redelivery that is none. Where no
//! content comes twice, nothing is taken twice either.
//!
//! `SEED=<seed> cargo test --test session redeliveries` repeats a run. `cargo test --test session redeliveries -- --ignored` makes
//! 20,000.

use std::collections::{HashMap, HashSet, VecDeque};
use std::panic::{AssertUnwindSafe, catch_unwind};

use serde_json::json;

use crate::broker::{at_least_once, publish, pubrel};
use crate::client::{Client, Message, Seen, options, owed};
use crate::random::Random;

/// This many messages show that no content comes twice, and how ids are given.
const BEFORE: usize = 1_100;
/// More than there is.
const LARGE: usize = 1 << 40;

#[test]
fn nothing_is_lost_and_nothing_doubled() {
    match std::env::var("SEED").ok().and_then(|seed| seed.parse().ok()) {
        Some(seed) => run(seed),
        None => runs(0..200),
    }
}

#[test]
#[ignore = "takes minutes: npm run test:full"]
fn nothing_is_lost_and_nothing_doubled_in_many_runs() {
    runs(200..20_200);
}

fn runs(seeds: std::ops::Range<u64>) {
    for seed in seeds {
        if let Err(panic) = catch_unwind(AssertUnwindSafe(|| run(seed))) {
            let text = panic.downcast_ref::<String>().map(String::as_str);
            let text = text.or(panic.downcast_ref::<&str>().copied()).unwrap_or("a panic without words");
            panic!("SEED={seed} repeats it: {text}");
        }
    }
}

fn run(seed: u64) {
    let mut world = World::new(seed);
    if world.is_exact {
        world.publish(BEFORE);
        world.finish();
    }
    for _ in 0..20 + world.random.below(180) {
        world.step();
    }
    world.finish();
    for (content, times) in world.taken.iter().enumerate() {
        let sent = world.sent(content);
        let is_right = if world.is_exact { *times == sent } else { *times >= sent };
        assert!(is_right, "{content} was sent {sent} times and taken {times} times by {:?}", world.ids);
    }
}

/// How a broker gives packet ids, and when it delivers again.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Ids {
    /// They count up, and are kept: mosquitto.
    Kept,
    /// They count from 1 on each connection: RabbitMQ.
    Anew,
    /// They count up, and are kept. Redeliveries come at any time, also on a connection that lives: NATS.
    Late,
    LowestFree,
}

#[derive(Debug)]
struct InFlight {
    packet_id: u16,
    number: usize,
    /// Delivered before, so that it has DUP next time.
    is_again: bool,
    /// Delivered on this connection.
    is_sent: bool,
    /// May be delivered on this connection.
    is_due: bool,
    /// Its PUBREC came.
    is_released: bool,
}

enum Packet {
    Publish { number: usize, bytes: Vec<u8> },
    Pubrel(u16),
}

struct World {
    random: Random,
    ids: Ids,
    qos: u8,
    window: usize,
    /// How many messages in a row have the same content.
    repeats: usize,
    /// Whether each message must be taken once.
    is_exact: bool,
    published: usize,
    queue: VecDeque<usize>,
    in_flight: Vec<InFlight>,
    last_id: u16,
    to_client: VecDeque<Packet>,
    to_broker: VecDeque<u8>,
    client: Client,
    /// The message of each sequence number that is not settled.
    unsettled: Vec<(u64, usize)>,
    /// For each content, how many of its messages were taken, settled and acknowledged.
    taken: Vec<usize>,
    settled: HashMap<usize, usize>,
    acknowledged: HashMap<usize, usize>,
}

impl World {
    fn new(seed: u64) -> World {
        let mut random = Random::new(seed);
        let ids = [Ids::Kept, Ids::Kept, Ids::Anew, Ids::Late, Ids::LowestFree][random.below(5)];
        let qos = if ids == Ids::Kept && random.one_in(3) { 2 } else { 1 };
        let window = match ids {
            Ids::Anew => 10,
            _ => [3, 20, 1_000][random.below(3)],
        };
        let is_exact = random.below(3) > 0;
        let repeats = if is_exact { 1 } else { 1 + random.below(3) };
        World {
            random,
            ids,
            qos,
            window,
            repeats,
            is_exact,
            published: 0,
            queue: VecDeque::new(),
            in_flight: Vec::new(),
            last_id: 0,
            to_client: VecDeque::new(),
            to_broker: VecDeque::new(),
            client: Client::subscribed(&options(5, json!({ "qos": qos })), 5),
            unsettled: Vec::new(),
            taken: Vec::new(),
            settled: HashMap::new(),
            acknowledged: HashMap::new(),
        }
    }

    /// How many messages of this content were published.
    fn sent(&self, content: usize) -> usize {
        (self.published - content * self.repeats).min(self.repeats)
    }

    fn step(&mut self) {
        let many = self.random.below(30);
        match self.random.below(13) {
            0 | 1 => self.publish(many),
            2..=4 => self.send(many),
            5 | 6 => self.read(many),
            7 | 8 => self.settle(many),
            9 => self.write(many * 4),
            10 => self.arrive(many),
            11 if self.ids == Ids::Late => self.send_late(),
            _ => {
                if self.random.one_in(3) {
                    self.cut();
                }
            }
        }
    }

    fn publish(&mut self, count: usize) {
        for _ in 0..count {
            self.queue.push_back(self.published);
            self.published += 1;
        }
        self.taken.resize(self.published.div_ceil(self.repeats), 0);
    }

    fn next_id(&mut self) -> u16 {
        if self.ids == Ids::LowestFree {
            let used: HashSet<u16> = self.in_flight.iter().map(|message| message.packet_id).collect();
            return (1..).find(|id| !used.contains(id)).unwrap();
        }
        self.last_id = self.last_id.checked_add(1).unwrap_or(1);
        self.last_id
    }

    /// Up to `count` messages leave: first those of earlier connections, in order.
    fn send(&mut self, count: usize) {
        for _ in 0..count {
            let mut at = self.in_flight.iter().position(|message| message.is_due && !message.is_sent);
            if at.is_none() && self.in_flight.len() < self.window {
                let Some(number) = self.queue.pop_front() else { return };
                let packet_id = self.next_id();
                let [is_again, is_sent, is_released] = [false; 3];
                self.in_flight.push(InFlight {
                    packet_id,
                    number,
                    is_again,
                    is_sent,
                    is_due: true,
                    is_released,
                });
                at = Some(self.in_flight.len() - 1);
                // A broker may count a message as in flight that it has not sent when the connection ends.
                if self.random.one_in(10) {
                    continue;
                }
            }
            let Some(at) = at else { return };
            self.send_one(at);
        }
    }

    fn send_one(&mut self, at: usize) {
        let InFlight { packet_id, number, is_again, is_sent, is_released, .. } = &mut self.in_flight[at];
        let packet = if *is_released {
            Packet::Pubrel(*packet_id)
        } else {
            let payload = (*number / self.repeats).to_string();
            let message =
                Message { duplicate: *is_again, qos: self.qos, ..at_least_once(*packet_id, &payload) };
            Packet::Publish { number: *number, bytes: publish(5, &message) }
        };
        (*is_again, *is_sent) = (true, true);
        self.to_client.push_back(packet);
    }

    /// A message was not acknowledged for so long that it is delivered again.
    fn send_late(&mut self) {
        if !self.in_flight.is_empty() {
            let at = self.random.below(self.in_flight.len());
            self.in_flight[at].is_due = true;
            self.send_one(at);
        }
    }

    /// The client reads up to `count` packets.
    fn read(&mut self, count: usize) {
        for _ in 0..count {
            match self.to_client.pop_front() {
                None => return,
                Some(Packet::Pubrel(packet_id)) => self.client.feed(&pubrel(packet_id)).unwrap(),
                Some(Packet::Publish { number, bytes }) => {
                    self.client.feed(&bytes).unwrap();
                    let seen = self.client.seen.pop().unwrap();
                    if let Seen::Message { sequence, .. } = seen {
                        self.taken[number / self.repeats] += 1;
                        self.unsettled.push((sequence.unwrap(), number));
                    }
                }
            }
        }
    }

    /// A batch of up to `count` messages is settled; batches overtake one another.
    fn settle(&mut self, count: usize) {
        let from = if self.unsettled.is_empty() { 0 } else { self.random.below(self.unsettled.len()) };
        let end = from + count.min(self.unsettled.len() - from);
        let (sequences, numbers): (Vec<u64>, Vec<usize>) = self.unsettled.drain(from..end).unzip();
        for number in numbers {
            *self.settled.entry(number / self.repeats).or_default() += 1;
        }
        self.client.session.settle(&owed(&sequences));
    }

    /// The client writes up to `bytes` bytes.
    fn write(&mut self, bytes: usize) {
        self.client.session.acknowledge();
        let outgoing = self.client.session.outgoing();
        let written = outgoing[..bytes.min(outgoing.len())].to_vec();
        self.client.session.sent(written.len(), self.client.now);
        self.to_broker.extend(written);
    }

    /// The broker reads up to `count` packets.
    fn arrive(&mut self, count: usize) {
        for _ in 0..count {
            let Some(len) = self.to_broker.get(1).map(|len| 2 + usize::from(*len)) else { return };
            if self.to_broker.len() < len {
                return;
            }
            let packet: Vec<u8> = self.to_broker.drain(..len).collect();
            // SUBSCRIBE of a connection, and pings, are longer or shorter.
            if !matches!(packet[0], 0x40 | 0x50 | 0x70) {
                continue;
            }
            let packet_id = u16::from_be_bytes([packet[2], packet[3]]);
            let Some(at) = self.in_flight.iter().position(|message| message.packet_id == packet_id) else {
                continue;
            };
            if packet[0] != 0x70 && !self.in_flight[at].is_released {
                self.count_acknowledged(self.in_flight[at].number);
            }
            match packet[0] {
                0x50 => {
                    self.in_flight[at].is_released = true;
                    self.to_client.push_back(Packet::Pubrel(packet_id));
                }
                _ => drop(self.in_flight.remove(at)),
            }
        }
    }

    fn count_acknowledged(&mut self, number: usize) {
        let content = number / self.repeats;
        let acknowledged = self.acknowledged.entry(content).or_default();
        *acknowledged += 1;
        let settled = self.settled.get(&content).copied().unwrap_or(0);
        assert!(
            *acknowledged <= settled,
            "{content} is acknowledged and was settled {settled} times by {:?}",
            self.ids
        );
    }

    fn cut(&mut self) {
        self.to_client.clear();
        self.to_broker.clear();
        if self.ids == Ids::Anew {
            self.last_id = 0;
            for at in 0..self.in_flight.len() {
                self.in_flight[at].packet_id = self.next_id();
            }
        }
        for message in &mut self.in_flight {
            (message.is_sent, message.is_due) = (false, self.ids != Ids::Late);
        }
        self.client.reconnect(5, true);
        self.client.seen.clear();
    }

    /// Nothing is lost any more, until everything is acknowledged.
    fn finish(&mut self) {
        for _ in 0..self.published + 10 {
            self.in_flight.iter_mut().for_each(|message| message.is_due = true);
            self.send(LARGE);
            self.read(LARGE);
            while !self.unsettled.is_empty() {
                self.settle(LARGE);
            }
            self.write(LARGE);
            self.arrive(LARGE);
            if self.queue.is_empty() && self.in_flight.is_empty() {
                return;
            }
        }
        panic!("{} messages are not acknowledged by {:?}", self.in_flight.len(), self.ids);
    }
}
