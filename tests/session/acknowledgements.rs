//! Each message is acknowledged once it is settled, in the order of receipt, on the connection it came on.

use std::collections::{HashMap, HashSet, VecDeque};

use proptest::prelude::*;
use serde_json::json;

use crate::broker::{at_least_once, connack, next_id, puback, publish, sized, subacks};
use crate::client::{Client, Message, Seen, options, owed};
use crate::no_files;

#[test]
fn acknowledgements_leave_in_the_order_of_receipt_and_together() {
    for version in [4, 5] {
        let mut client = Client::subscribed(&options(version, json!({})), version);
        for packet_id in [7, 9, 8] {
            client.feed(&publish(version, &at_least_once(packet_id, "x"))).unwrap();
        }
        assert_eq!(client.sequences(), [Some(0), Some(1), Some(2)]);
        client.session.settle(&owed(&[1, 2]));
        assert_eq!(client.session.acknowledge(), 0);
        assert_eq!(client.session.unacknowledged(), 3);
        client.session.settle(&owed(&[0]));
        assert_eq!(client.session.acknowledge(), 3);
        assert_eq!(client.session.unacknowledged(), 0);
        assert_eq!(client.written(), [puback(7), puback(9), puback(8)].concat()); // [MQTT-4.6.0-2]
    }
}

#[test]
fn messages_before_suback_are_acknowledged_at_once_and_none_after_a_reconnect() {
    for version in [4, 5] {
        let mut client = Client::new(&options(version, json!({})));
        client.feed(&connack(version, false)).unwrap();
        client.written();
        client.feed(&publish(version, &at_least_once(1, "x"))).unwrap();
        client.session.settle(&owed(&[0]));
        // Some brokers send no SUBACK while their window is full.
        assert_eq!(client.session.acknowledge(), 1);
        client.feed(&subacks(version, 1, &[1, 1])).unwrap();

        client.feed(&publish(version, &at_least_once(2, "y"))).unwrap();
        client.session.settle(&owed(&[1]));
        client.reconnect(version, false);
        client.feed(&subacks(version, next_id(version), &[1, 1])).unwrap();
        client.written();
        assert_eq!((client.session.acknowledge(), client.session.unacknowledged()), (0, 0));
    }
}

#[test]
fn redeliveries_of_a_resumed_session_are_recognised() {
    for version in [4, 5] {
        let again = |message: Message| publish(version, &Message { duplicate: true, ..message });
        let mut client = Client::subscribed(&options(version, json!({})), version);
        client.feed(&publish(version, &at_least_once(1, "one"))).unwrap();
        client.feed(&publish(version, &at_least_once(2, "two"))).unwrap();
        client.feed(&sized(version, 1, 3, 2000)).unwrap();
        client.session.settle(&owed(&[0]));

        client.reconnect(version, true);
        assert_eq!(client.seen, [Seen::Subscribed { downgraded: Vec::new() }], "no SUBSCRIBE is needed");
        assert_eq!(client.session.acknowledge(), 0);
        client.feed(&again(at_least_once(1, "one"))).unwrap();
        client.feed(&again(at_least_once(2, "another"))).unwrap();
        assert_eq!(client.seen[1], Seen::Duplicate);
        assert_eq!(client.seen[2].sequence(), Some(4), "another message under the same packet id is new");
        client.session.acknowledge();
        assert_eq!(client.written(), puback(1));
        client.session.settle(&owed(&[1, 4]));
        client.session.acknowledge();
        assert_eq!(client.written(), puback(2));
    }
}

#[test]
fn redeliveries_on_the_same_connection_are_taken_once() {
    for version in [4, 5] {
        let mut client = Client::subscribed(&options(version, json!({})), version);
        let message = at_least_once(1, "one");
        client.feed(&publish(version, &message)).unwrap();
        client.feed(&publish(version, &Message { duplicate: true, ..message })).unwrap();
        assert_eq!(client.seen[1..], [Seen::Duplicate]);
        client.session.settle(&owed(&[0]));
        client.session.acknowledge();
        assert_eq!(client.written(), puback(1));
    }
}

#[test]
fn a_message_over_the_limit_that_is_sent_again_is_recognised() {
    for version in [4, 5] {
        let mut client = Client::subscribed(&options(version, json!({})), version);
        let mut large = sized(version, 1, 3, 2000);
        client.feed(&large).unwrap();
        client.reconnect(version, true);
        large[0] |= 8;
        client.feed(&large).unwrap();
        assert_eq!(client.seen[1..], [Seen::Duplicate]);
        client.session.settle(&owed(&[0]));
        client.session.acknowledge();
        assert_eq!(client.written(), puback(3));
    }
}

#[derive(Debug, Clone)]
enum Step {
    Send,
    SendAgain,
    Settle(prop::sample::Index),
    /// Acknowledges all that may be, and a part of the outgoing bytes is written.
    Acknowledge(prop::sample::Index),
    Reconnect {
        session_present: bool,
    },
}

fn some_step() -> impl Strategy<Value = Step> {
    prop_oneof![
        4 => Just(Step::Send),
        4 => Just(Step::SendAgain),
        4 => any::<prop::sample::Index>().prop_map(Step::Settle),
        2 => any::<prop::sample::Index>().prop_map(Step::Acknowledge),
        1 => prop::bool::weighted(0.8).prop_map(|session_present| Step::Reconnect { session_present }),
    ]
}

/// A broker and what it is owed: messages are numbered, and the number is the payload.
#[derive(Default)]
struct Broker {
    /// Sent on this connection and not acknowledged: packet id and number, in order.
    sent: VecDeque<(u16, u32)>,
    /// To be sent again on this connection.
    waiting: VecDeque<(u16, u32)>,
    numbers: u32,
    /// Sequence numbers of what the client took.
    taken: HashMap<u32, u64>,
    settled: HashSet<u32>,
    /// Bytes of the client that arrived and end before the end of an acknowledgement.
    arrived: Vec<u8>,
}

impl Broker {
    fn step(&mut self, step: &Step, client: &mut Client) {
        match step {
            Step::Send => {
                let is_used = |id| self.sent.iter().chain(&self.waiting).any(|(used, _)| *used == id);
                let packet_id = (1..).find(|id| !is_used(*id)).unwrap();
                let number = self.numbers;
                self.numbers += 1;
                client.feed(&publish(5, &at_least_once(packet_id, &number.to_string()))).unwrap();
                let sequence = client.seen.pop().unwrap().sequence().expect("a new message is to be settled");
                self.taken.insert(number, sequence);
                self.sent.push_back((packet_id, number));
            }
            Step::SendAgain => {
                let Some((packet_id, number)) = self.waiting.pop_front() else { return };
                let message = Message { duplicate: true, ..at_least_once(packet_id, &number.to_string()) };
                client.feed(&publish(5, &message)).unwrap();
                assert_eq!(client.seen.pop(), Some(Seen::Duplicate), "message {number} is taken once");
                self.sent.push_back((packet_id, number));
            }
            Step::Settle(index) => {
                let mut open: Vec<u32> =
                    self.taken.keys().copied().filter(|n| !self.settled.contains(n)).collect();
                open.sort_unstable();
                if !open.is_empty() {
                    let number = *index.get(&open);
                    client.session.settle(&owed(&[self.taken[&number]]));
                    self.settled.insert(number);
                }
            }
            Step::Acknowledge(index) => {
                client.session.acknowledge();
                let bytes = client.session.outgoing();
                let len = index.index(bytes.len() + 1);
                self.arrived.extend(&bytes[..len]);
                client.session.sent(len, client.now);
                self.read_acknowledgements();
            }
            Step::Reconnect { session_present } => {
                self.arrived.clear();
                client.reconnect(5, *session_present);
                self.sent.append(&mut self.waiting);
                self.waiting = std::mem::take(&mut self.sent);
                if !session_present {
                    self.waiting.clear();
                    let [.., high, low] = client.session.outgoing()[..4] else { unreachable!() };
                    client.feed(&subacks(5, u16::from_be_bytes([high, low]), &[1, 1])).unwrap();
                    client.written();
                }
                client.seen.clear();
            }
        }
    }

    fn read_acknowledgements(&mut self) {
        let whole = self.arrived.len() / 4 * 4;
        for ack in self.arrived.drain(..whole).as_slice().chunks(4) {
            let (packet_id, number) = self.sent.pop_front().expect("nothing is acknowledged twice");
            assert_eq!(ack, puback(packet_id), "in the order of receipt");
            assert!(self.settled.contains(&number), "message {number} is acknowledged once settled");
        }
    }
}

proptest! {
    #![proptest_config(no_files(512))]

    #[test]
    fn each_message_is_taken_once_and_acknowledged_once_settled(
        steps in prop::collection::vec(some_step(), 1..80),
    ) {
        let mut client = Client::subscribed(&options(5, json!({})), 5);
        let mut broker = Broker::default();
        for step in &steps {
            broker.step(step, &mut client);
            assert!(client.session.unacknowledged() <= broker.sent.len());
        }
        while !broker.waiting.is_empty() {
            broker.step(&Step::SendAgain, &mut client);
        }
        let all: Vec<u64> = broker.taken.values().copied().collect();
        client.session.settle(&owed(&all));
        broker.settled.extend(broker.taken.keys());
        client.session.acknowledge();
        broker.arrived.extend(client.written());
        broker.read_acknowledgements();
        assert_eq!(broker.sent.len(), 0, "everything is acknowledged in the end");
    }
}
