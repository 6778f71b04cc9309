//! Acknowledgements that left and never arrived: the broker sends their messages again.

use std::collections::VecDeque;

use proptest::prelude::*;
use serde_json::json;

use crate::broker::{at_least_once, puback, publish};
use crate::client::{Client, Message, Seen, options, owed};
use crate::no_files;

/// This number of messages comes first, one at a time: they show how the broker gives packet ids.
const BEFORE: usize = 2_000;

#[derive(Debug, Clone)]
enum Step {
    /// The broker sends messages.
    Send(u8),
    /// The received messages are settled, and the acknowledgements leave and arrive.
    Acknowledge,
    /// The connection ends: `unseen` messages that the broker sent never came, and `acknowledgements`
    /// that left never arrived.
    Lose { unseen: u8, acknowledgements: u8 },
}

fn some_step() -> impl Strategy<Value = Step> {
    prop_oneof![
        3 => (1..4u8).prop_map(Step::Send),
        2 => Just(Step::Acknowledge),
        1 => (0..4u8, 0..4u8)
            .prop_map(|(unseen, acknowledgements)| Step::Lose { unseen, acknowledgements }),
    ]
}

/// How a broker gives packet ids, and how it delivers again.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Ids {
    CountUp,
    LowestFree,
    /// They count from 1 on each connection, as those of RabbitMQ.
    Renumbered,
    /// They count from any number on each connection, and nothing has DUP.
    Unmarked,
    /// The same, but that a message keeps its id, as with aedes. The first number is a high one.
    Random,
}

struct Broker {
    ids: Ids,
    /// How many messages in a row have the same content.
    repeats: usize,
    last_id: u16,
    /// Packet id and number, in order.
    in_flight: VecDeque<(u16, usize)>,
    /// How often each number was taken.
    taken: Vec<usize>,
    client: Client,
    unsettled: Vec<u64>,
}

impl Broker {
    fn new(ids: Ids, repeats: usize) -> Broker {
        let client = Client::subscribed(&options(5, json!({})), 5);
        let (in_flight, taken, unsettled) = (VecDeque::new(), Vec::new(), Vec::new());
        let last_id = if ids == Ids::Random { 40_000 } else { 0 };
        let mut broker = Broker { ids, repeats, last_id, in_flight, taken, client, unsettled };
        for _ in 0..BEFORE {
            broker.step(&Step::Send(1));
            broker.step(&Step::Acknowledge);
        }
        broker
    }

    fn next_id(&mut self) -> u16 {
        if self.ids == Ids::LowestFree {
            return (1..).find(|id| !self.in_flight.iter().any(|(used, _)| used == id)).unwrap();
        }
        self.last_id = self.last_id.checked_add(1).unwrap_or(1);
        self.last_id
    }

    fn send(&mut self) -> (u16, usize) {
        let message = (self.next_id(), self.taken.len());
        self.taken.push(0);
        self.in_flight.push_back(message);
        message
    }

    fn deliver(&mut self, (packet_id, number): (u16, usize), duplicate: bool) {
        let content = number / self.repeats;
        let message = Message { duplicate, ..at_least_once(packet_id, &content.to_string()) };
        self.client.feed(&publish(5, &message)).unwrap();
        let seen = self.client.seen.pop().unwrap();
        if seen != Seen::Duplicate {
            self.taken[number] += 1;
            self.unsettled.extend(seen.sequence());
        }
    }

    fn step(&mut self, step: &Step) {
        match step {
            Step::Send(count) => {
                for _ in 0..*count {
                    let message = self.send();
                    self.deliver(message, false);
                }
            }
            Step::Acknowledge => self.acknowledge(0),
            Step::Lose { unseen, acknowledgements } => {
                self.acknowledge(*acknowledgements as usize);
                for _ in 0..*unseen {
                    self.send();
                }
                self.client.reconnect(5, true);
                self.client.seen.clear();
                match self.ids {
                    Ids::Renumbered => self.last_id = 0,
                    Ids::Unmarked => self.last_id = self.last_id.wrapping_mul(31),
                    Ids::Random => self.last_id = self.last_id.wrapping_add(20_000),
                    _ => {}
                }
                if matches!(self.ids, Ids::Renumbered | Ids::Unmarked) {
                    for at in 0..self.in_flight.len() {
                        self.in_flight[at].0 = self.next_id();
                    }
                }
                for message in self.in_flight.clone() {
                    self.deliver(message, !matches!(self.ids, Ids::Unmarked | Ids::Random));
                }
            }
        }
    }

    /// All but the last few arrive.
    fn acknowledge(&mut self, lost: usize) {
        self.client.session.settle(&owed(&self.unsettled));
        self.unsettled.clear();
        self.client.session.acknowledge();
        let arrived = (self.client.written().len() / 4).saturating_sub(lost);
        self.in_flight.drain(..arrived);
    }
}

/// Two messages with the same CRC-32C of topic and payload, of which the second is delivered again and never came before.
#[test]
fn messages_with_the_same_checksum_are_not_taken_for_one() {
    let [first, second] = [r#"{"seq":17153,"v":489953}"#, r#"{"seq":76322,"v":680499}"#];
    let checksum = |payload: &str| crc32c::crc32c(format!("a/b{payload}").as_bytes());
    assert_eq!(checksum(first), checksum(second));
    for is_acknowledged in [false, true] {
        let mut broker = Broker::new(Ids::CountUp, 1);
        let id = broker.next_id();
        broker.client.feed(&publish(5, &at_least_once(id, first))).unwrap();
        if is_acknowledged {
            let sequence = broker.client.seen.pop().unwrap().sequence().unwrap();
            assert_eq!(broker.client.settle(&[sequence]), puback(id));
        }
        broker.client.reconnect(5, true);
        broker.client.seen.clear();
        let again = Message { duplicate: true, ..at_least_once(broker.next_id(), second) };
        broker.client.feed(&publish(5, &again)).unwrap();
        assert!(matches!(broker.client.seen[..], [Seen::Message { .. }]), "{:?}", broker.client.seen);
    }
}

fn some_steps() -> impl Strategy<Value = Vec<Step>> {
    prop::collection::vec(some_step(), 1..60)
}

proptest! {
    #![proptest_config(no_files(256))]

    #[test]
    fn where_ids_count_up_or_begin_at_random_each_message_is_taken_once(
        steps in some_steps(), ids in prop::sample::select(vec![Ids::CountUp, Ids::Random]),
    ) {
        let mut broker = Broker::new(ids, 1);
        steps.iter().for_each(|step| broker.step(step));
        assert!(broker.taken.iter().all(|times| *times == 1));
    }

    #[test]
    fn whatever_the_broker_and_the_devices_do_nothing_is_lost(
        steps in some_steps(),
        ids in prop::sample::select(vec![
            Ids::CountUp, Ids::LowestFree, Ids::Renumbered, Ids::Unmarked, Ids::Random,
        ]),
        repeats in 1..4usize,
    ) {
        let mut broker = Broker::new(ids, repeats);
        steps.iter().for_each(|step| broker.step(step));
        assert!(broker.taken.iter().all(|times| *times >= 1));
    }
}
