//! Acknowledgements that left and never arrived: the broker sends their messages again.

use std::collections::VecDeque;

use proptest::prelude::*;
use serde_json::json;

use crate::broker::{at_least_once, publish};
use crate::client::{Client, Message, Seen, options, owed};
use crate::no_files;

/// So many messages come before all else, one at a time: from these it is known how the broker gives packet ids.
const BEFORE: usize = 2_000;

#[derive(Debug, Clone)]
enum Step {
    /// The broker sends messages.
    Send(u8),
    /// What came is settled, and the acknowledgements leave and arrive.
    Acknowledge,
    /// The connection ends: so many of the messages that the broker has sent never came, and so many of the
    /// acknowledgements that left never arrived.
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

struct Broker {
    counts_up: bool,
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
    fn new(counts_up: bool, repeats: usize) -> Broker {
        let client = Client::subscribed(&options(5, json!({})), 5);
        let (in_flight, taken, unsettled) = (VecDeque::new(), Vec::new(), Vec::new());
        let mut broker = Broker { counts_up, repeats, last_id: 0, in_flight, taken, client, unsettled };
        for _ in 0..BEFORE {
            broker.step(&Step::Send(1));
            broker.step(&Step::Acknowledge);
        }
        broker
    }

    fn next_id(&mut self) -> u16 {
        if self.counts_up {
            self.last_id = self.last_id.checked_add(1).unwrap_or(1);
            return self.last_id;
        }
        (1..).find(|id| !self.in_flight.iter().any(|(used, _)| used == id)).unwrap()
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
        if seen != Seen::Again {
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
                for message in self.in_flight.clone() {
                    self.deliver(message, true);
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

fn some_steps() -> impl Strategy<Value = Vec<Step>> {
    prop::collection::vec(some_step(), 1..60)
}

proptest! {
    #![proptest_config(no_files(256))]

    #[test]
    fn where_ids_count_up_each_message_is_taken_once(steps in some_steps()) {
        let mut broker = Broker::new(true, 1);
        steps.iter().for_each(|step| broker.step(step));
        assert!(broker.taken.iter().all(|times| *times == 1));
    }

    #[test]
    fn whatever_the_broker_and_the_devices_do_nothing_is_lost(
        steps in some_steps(), counts_up: bool, repeats in 1..4usize,
    ) {
        let mut broker = Broker::new(counts_up, repeats);
        steps.iter().for_each(|step| broker.step(step));
        assert!(broker.taken.iter().all(|times| *times >= 1));
    }
}
