//! Messages that several routes take: those of a route with `continue`.
//!
//! Every route makes rows, a dead letter or nothing of such a message, as if it were alone. Only when all have, it is known who
//! holds it: then it is entered with all of them, so that it is acknowledged and counted once, with the last of them, and then
//! batches may be sealed.
//!
//! With a spool, the batches of routes that take the same messages are sealed together and lie in one entry of its log: after
//! a crash all rows of a message are there or none, and its receipt stands with the first of them. Two kinds of messages
//! have no receipt, since a part of what they became is not in that entry: those that a route made a dead letter, and those of
//! routes of which one has a transform. If their acknowledgement is lost with the process, they are taken again.

use crossbeam_channel::TrySendError;

use crate::config::{AckAfter, Route};
use crate::core::ack_history::AckRecord;
use crate::core::clock::ReceiveTime;
use crate::ingest::batch::Batch;
use crate::ingest::completion::Completion;
use crate::ingest::router::route_order::next_route;
use crate::ingest::router::{Arrival, Router, Taken};
use crate::mqtt::{MessageSink, Publish};

/// The routes that take the same messages.
#[derive(Debug, Default)]
pub struct JoinedRoutes {
    /// By route: the others and itself, in order. Empty for a route that shares no message.
    groups: Vec<Vec<usize>>,
    /// By route, with a spool: whether the batches of its group are sealed together.
    is_unit: Vec<bool>,
}

/// The place that holds a message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Holder {
    /// The open batch of a route.
    Batch(usize),
    DeadLetters,
}

impl JoinedRoutes {
    pub fn of(routes: &[Route], has_spool: bool) -> JoinedRoutes {
        if !routes.iter().any(|route| route.continues) {
            return JoinedRoutes::default();
        }
        let mut group: Vec<usize> = (0..routes.len()).collect();
        for (at, route) in routes.iter().enumerate().filter(|(_, route)| route.continues) {
            for later in at + 1..routes.len() {
                if route.topic.overlaps(&routes[later].topic) {
                    let (one, other) = (group[at], group[later]);
                    group.iter_mut().filter(|group| **group == other).for_each(|group| *group = one);
                }
            }
        }
        let members = |at: usize| -> Vec<usize> {
            let all: Vec<usize> = (0..routes.len()).filter(|other| group[*other] == group[at]).collect();
            if all.len() > 1 { all } else { Vec::new() }
        };
        let groups: Vec<Vec<usize>> = (0..routes.len()).map(members).collect();
        let has_transform = |members: &Vec<usize>| members.iter().any(|at| routes[*at].transform.is_some());
        let is_unit = groups
            .iter()
            .map(|members| has_spool && !members.is_empty() && !has_transform(members))
            .collect();
        JoinedRoutes { groups, is_unit }
    }

    fn group(&self, at: usize) -> &[usize] {
        self.groups.get(at).map_or(&[], Vec::as_slice)
    }

    pub fn is_unit(&self, at: usize) -> bool {
        self.is_unit.get(at) == Some(&true)
    }
}

impl Router {
    /// Takes a message that goes on to later routes; `captures` are those of its topic for the first.
    #[cold]
    pub(super) fn append_joined(&mut self, first: usize, topic: &str, arrival: Arrival<'_>) {
        // Once a route has the message, no batch may be sealed before all have it: what was decoded for a table as it was
        // goes first.
        for place in 0..self.joined.group(first).len() {
            let at = self.joined.group(first)[place];
            let state = &self.routes[at];
            if state.batch.is_some() && self.plans.generation(at) != state.plan.generation {
                self.seal(at);
            }
        }
        let mut holders = std::mem::take(&mut self.holders);
        let mut next = Some(first);
        while let Some(at) = next {
            match self.take_in(at, topic, arrival) {
                Ok(Taken::Rows) => holders.push(Holder::Batch(at)),
                Ok(Taken::Dropped) => {}
                Err(reason) => {
                    let Arrival { publish, now, .. } = arrival;
                    self.push_dead_letter(Some(at), publish.topic, publish.payload, reason, now);
                    holders.push(Holder::DeadLetters);
                }
            }
            let Router { routes, captures, .. } = self;
            next = next_route(routes, at, topic, captures);
        }
        self.hold(&holders, arrival);
        for holder in holders.drain(..) {
            if let Holder::Batch(at) = holder {
                self.seal_if_large(at, arrival.publish.payload.len());
            }
        }
        self.holders = holders;
    }

    /// Takes a dead letter that a route made. Where others took the message too, it is this route's alone.
    pub fn accept_again(
        &mut self,
        route: Option<usize>,
        publish: &Publish<'_>,
        now: ReceiveTime,
        client_id: &str,
    ) {
        let topic = std::str::from_utf8(publish.topic).unwrap_or_default();
        let Router { joined, routes, captures, .. } = self;
        match route
            .filter(|at| !joined.group(*at).is_empty() && routes[*at].route.topic.matches(topic, captures))
        {
            None => self.accept(publish, None, now, client_id),
            Some(at) => {
                self.stats.received += 1;
                self.stats.bytes += publish.payload.len() as u64;
                self.append(at, topic, Arrival { publish, sequence: None, now, client_id });
            }
        }
    }

    /// Enters a message with all that hold it.
    fn hold(&mut self, holders: &[Holder], arrival: Arrival<'_>) {
        let Arrival { publish, sequence, .. } = arrival;
        let Some((first, others)) = holders.split_first() else { return self.drop(sequence) };
        let is_acknowledged_at_once = self.context.config.mqtt.ack_after == AckAfter::Receive;
        if let Some(sequence) = sequence.filter(|_| is_acknowledged_at_once) {
            self.ready_acks.add(sequence);
        }
        let sequence = sequence.filter(|_| !is_acknowledged_at_once);
        let Some(completion) = self.completion(*first) else { return };
        match (others, sequence) {
            ([], Some(sequence)) => completion.acknowledge(sequence),
            ([], None) => {}
            (others, sequence) => {
                let shared = completion.first();
                if let Some(sequence) = sequence {
                    shared.acknowledge(sequence);
                }
                for other in others {
                    if let Some(completion) = self.completion(*other) {
                        completion.share(&shared);
                    }
                }
            }
        }
        let is_whole =
            others.is_empty() || (!holders.contains(&Holder::DeadLetters) && self.is_together(holders));
        if let (Holder::Batch(at), true) = (*first, self.keeps_receipts && publish.qos > 0 && is_whole)
            && let Some(batch) = &mut self.routes[at].batch
        {
            let Publish { packet_id, qos, fingerprint, .. } = *publish;
            batch.receipts.push(AckRecord { packet_id, qos, fingerprint });
        }
    }

    fn is_together(&self, holders: &[Holder]) -> bool {
        holders.iter().all(|holder| matches!(holder, Holder::Batch(at) if self.joined.is_unit(*at)))
    }

    fn completion(&mut self, holder: Holder) -> Option<&mut Completion> {
        match holder {
            Holder::Batch(at) => self.routes[at].batch.as_mut().map(|batch| &mut batch.completion),
            Holder::DeadLetters => self.open_dead_letters.as_mut().map(|letters| &mut letters.completion),
        }
    }

    /// Hands the batches of all routes that share messages with this one to the spool, as one.
    pub(super) fn seal_unit(&mut self, at: usize) {
        let members = self.joined.group(at).to_vec();
        if self.batches.of(at).is_full() {
            for at in members {
                self.routes[at].seal_pending |= self.routes[at].batch.is_some();
            }
            return;
        }
        self.commit_read_stats();
        let mut sealed: Vec<Box<Batch>> =
            members.iter().filter_map(|at| self.routes[*at].take_sealed()).collect();
        if sealed.is_empty() {
            return;
        }
        let mut batch = sealed.remove(0);
        batch.companions = sealed;
        if let Err(TrySendError::Full(mut batch) | TrySendError::Disconnected(mut batch)) =
            self.batches.of(at).try_send(batch)
        {
            // Another connection was quicker.
            let companions = std::mem::take(&mut batch.companions);
            for batch in std::iter::once(batch).chain(companions) {
                let state = &mut self.routes[batch.route];
                state.batch = Some(batch);
                state.seal_pending = true;
            }
        }
    }
}
