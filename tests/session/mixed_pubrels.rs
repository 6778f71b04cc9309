//! QoS 2 with a broker that mixes the PUBRELs of a persistent session up, as aedes 1.2.0 does: `findings/` shows it.

use std::cell::Cell;
use std::rc::Rc;

use proptest::prelude::*;
use serde_json::json;

use crate::broker::{exactly_once, pubcomp, publish, pubrec, pubrel};
use crate::client::{Client, Seen, options, owed};
use crate::no_files;

/// A message in the queue of the session, or the PUBREL that has taken its place.
#[derive(Clone)]
enum Queued {
    Message {
        id: u16,
        number: usize,
    },
    /// The next PUBREC, whatever its id, takes this place again and changes its id, until the connection ends.
    Pubrel {
        id: Rc<Cell<u16>>,
        is_fresh: bool,
    },
}

impl Queued {
    fn id(&self) -> u16 {
        match self {
            Queued::Message { id, .. } => *id,
            Queued::Pubrel { id, .. } => id.get(),
        }
    }
}

struct Aedes {
    queue: Vec<Queued>,
    last_id: u16,
    taken: Vec<usize>,
    connections: usize,
    client: Client,
    unsettled: Vec<u64>,
}

impl Aedes {
    fn new() -> Aedes {
        let client = Client::subscribed(&options(4, json!({ "qos": 2 })), 4);
        let (queue, taken, unsettled) = (Vec::new(), Vec::new(), Vec::new());
        Aedes { queue, last_id: 30_000, taken, connections: 1, client, unsettled }
    }

    fn publish(&mut self) -> bool {
        self.last_id = self.last_id.checked_add(1).unwrap_or(1);
        let (id, number) = (self.last_id, self.taken.len());
        self.taken.push(0);
        self.queue.push(Queued::Message { id, number });
        self.deliver(id, number)
    }

    fn deliver(&mut self, id: u16, number: usize) -> bool {
        if self.client.feed(&publish(4, &exactly_once(id, &number.to_string()))).is_err() {
            return false;
        }
        if let Some(seen) = self.client.seen.pop()
            && seen != Seen::Duplicate
        {
            self.taken[number] += 1;
            self.unsettled.extend(seen.sequence());
        }
        true
    }

    fn settle(&mut self) {
        self.client.session.settle(&owed(&self.unsettled));
        self.unsettled.clear();
    }

    /// The client's packets arrive together, and so do the answers, until there are none: at most `rounds` times.
    fn exchange(&mut self, rounds: usize) -> bool {
        for _ in 0..rounds {
            self.client.session.acknowledge();
            let bytes = self.client.written();
            if bytes.is_empty() {
                return true;
            }
            let answers: Vec<_> = bytes.chunks(4).filter_map(|packet| self.receive(packet)).collect();
            let answers: Vec<_> = answers.into_iter().flat_map(|id| pubrel(id.get())).collect();
            if self.client.feed(&answers).is_err() {
                return false;
            }
        }
        true
    }

    fn receive(&mut self, packet: &[u8]) -> Option<Rc<Cell<u16>>> {
        let id = u16::from_be_bytes([packet[2], packet[3]]);
        if packet == pubcomp(id) {
            if let Some(at) = self.queue.iter().position(|queued| queued.id() == id) {
                self.queue.remove(at);
            }
            return None;
        }
        assert_eq!(packet, pubrec(id));
        let released = Rc::new(Cell::new(id));
        for queued in &mut self.queue {
            match queued {
                Queued::Pubrel { id: other, is_fresh: true } => {
                    other.set(id);
                    return Some(released);
                }
                other if other.id() == id => {
                    *other = Queued::Pubrel { id: released.clone(), is_fresh: true };
                    return Some(released);
                }
                _ => {}
            }
        }
        Some(released)
    }

    /// The connection ends, and the next one begins. All of the queue comes again, without DUP.
    fn reconnect(&mut self) -> bool {
        self.connections += 1;
        self.last_id = self.last_id.wrapping_add(20_000).max(1);
        self.client.reconnect(4, true);
        self.client.seen.clear();
        for at in 0..self.queue.len() {
            let is_taken = match &mut self.queue[at] {
                Queued::Message { id, number } => {
                    let (id, number) = (*id, *number);
                    self.deliver(id, number)
                }
                Queued::Pubrel { id, is_fresh } => {
                    *is_fresh = false;
                    let id = id.get();
                    self.client.feed(&pubrel(id)).is_ok()
                }
            };
            if !is_taken {
                return false;
            }
        }
        true
    }
}

#[test]
fn more_messages_than_there_are_packet_ids_need_one_connection() {
    let mut aedes = Aedes::new();
    for number in 0..70_000 {
        assert!(aedes.publish(), "message {number}");
        if number % 7 == 0 {
            aedes.settle();
            assert!(aedes.exchange(usize::MAX), "the answers to message {number}");
        }
    }
    aedes.settle();
    assert!(aedes.exchange(usize::MAX));
    assert!(aedes.queue.is_empty());
    assert_eq!(aedes.connections, 1);
    assert!(aedes.taken.iter().all(|times| *times == 1));
}

#[test]
fn a_broker_that_keeps_the_order_is_answered_at_once_after_two_messages() {
    let mut client = Client::subscribed(&options(4, json!({ "qos": 2 })), 4);
    for id in 1..=6 {
        client.feed(&publish(4, &exactly_once(id, &id.to_string()))).unwrap();
    }
    assert_eq!(client.settle(&[0, 1, 2, 3, 4]), [pubrec(1), pubrec(2)].concat());
    client.feed(&pubrel(1)).unwrap();
    assert_eq!(client.settle(&[5]), pubcomp(1));
    client.feed(&pubrel(2)).unwrap();
    assert_eq!(client.settle(&[]), [pubcomp(2), pubrec(3), pubrec(4), pubrec(5), pubrec(6)].concat());
}

#[test]
fn a_pubrel_that_never_comes_holds_the_others_until_a_ping_is_answered() {
    let mut client = Client::subscribed(&options(4, json!({ "qos": 2, "keepAliveSeconds": 60 })), 4);
    client.feed(&publish(4, &exactly_once(1, "a"))).unwrap();
    assert_eq!(client.settle(&[0]), pubrec(1));
    client.feed(&publish(4, &exactly_once(2, "b"))).unwrap();
    assert_eq!(client.settle(&[1]), [0; 0]);
    client.feed(&[0xd0, 0]).unwrap();
    assert_eq!(client.settle(&[]), [0; 0], "no ping was sent");
    assert_eq!(client.tick(std::time::Duration::from_secs(40), true), Ok(vec![0xc0, 0]));
    client.feed(&[0xd0, 0]).unwrap();
    assert_eq!(client.settle(&[]), pubrec(2));
    // The id is free for another message.
    client.feed(&publish(4, &exactly_once(1, "c"))).unwrap();
    assert_eq!(client.seen.last().and_then(Seen::sequence), Some(2));
}

#[derive(Debug, Clone)]
enum Step {
    Publish(u8),
    Settle,
    /// This number of round trips.
    Exchange(u8),
    Cut,
}

fn some_step() -> impl Strategy<Value = Step> {
    prop_oneof![
        4 => (1..4u8).prop_map(Step::Publish),
        3 => Just(Step::Settle),
        3 => (1..6u8).prop_map(Step::Exchange),
        1 => Just(Step::Cut),
    ]
}

proptest! {
    #![proptest_config(no_files(512))]

    #[test]
    fn whenever_the_connection_ends_each_message_is_taken_once(steps in prop::collection::vec(some_step(), 1..60)) {
        let mut aedes = Aedes::new();
        for step in &steps {
            let is_up = match step {
                Step::Publish(count) => (0..*count).all(|_| aedes.publish()),
                Step::Settle => {
                    aedes.settle();
                    true
                }
                Step::Exchange(rounds) => aedes.exchange(*rounds as usize),
                Step::Cut => aedes.reconnect(),
            };
            prop_assert!(is_up, "the session broke the connection off");
        }
        aedes.settle();
        prop_assert!(aedes.exchange(usize::MAX));
        prop_assert!(aedes.queue.is_empty());
        prop_assert!(aedes.taken.iter().all(|times| *times == 1));
    }
}
