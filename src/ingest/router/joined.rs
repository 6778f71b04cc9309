//! Messages that several routes take: those of a route with `continue`.
//!
//! Every route makes rows, a dead letter or nothing of such a message, as if it were alone. Only when all have, it is known who
//! holds it: then it is entered with all of them, so that it is acknowledged and counted once, with the last of them, and then
//! batches may be sealed.
//!
//! With a spool, the batches of routes that take the same messages are a unit: they are sealed together, go through the
//! transforms of these routes one after the other, and lie in one entry of the log. So do the messages that a route made dead
//! letters. After a crash all that a message became is there or nothing, and its receipt stands with the first of it.

use crossbeam_channel::TrySendError;

use crate::config::{AckAfter, Route};
use crate::core::ack_history::AckRecord;
use crate::core::clock::ReceiveTime;
use crate::core::mqtt_property::Properties;
use crate::core::reason::Reason;
use crate::ingest::batch::Batch;
use crate::ingest::completion::Completion;
use crate::ingest::raw_messages::Message;
use crate::ingest::rejected_messages::RejectedMessages;
use crate::ingest::router::Router;
use crate::ingest::router::arrival::{Arrival, Taken};
use crate::ingest::router::route_order::next_route;
use crate::mqtt::{MessageSink, Publish};

/// The routes that take the same messages.
#[derive(Debug, Default, Clone)]
pub struct JoinedRoutes {
    /// By route: the others and itself, in order. Empty for a route that shares no message.
    groups: Vec<Vec<usize>>,
    /// There is a spool: the batches of a group are sealed together.
    has_units: bool,
    /// Which routes have a transform.
    has_transform: Vec<bool>,
}

/// The place that holds a message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Holder {
    /// The open batch of a route.
    Batch(usize),
    DeadLetters,
}

impl JoinedRoutes {
    /// The places are those in the list.
    pub fn of<R: AsRef<Route>>(routes: &[R], has_spool: bool) -> JoinedRoutes {
        let routes: Vec<&Route> = routes.iter().map(AsRef::as_ref).collect();
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
        let has_transform = routes.iter().map(|route| route.transform.is_some()).collect();
        JoinedRoutes { groups, has_units: has_spool, has_transform }
    }

    fn group(&self, at: usize) -> &[usize] {
        self.groups.get(at).map_or(&[], Vec::as_slice)
    }

    /// Whether the batches of any routes are sealed together.
    pub fn has_units(&self) -> bool {
        self.has_units && self.groups.iter().any(|group| !group.is_empty())
    }

    /// The routes of a unit that have a transform.
    pub fn transforms(&self, at: usize) -> usize {
        match self.is_unit(at) {
            true => self.group(at).iter().filter(|member| self.has_transform[**member]).count(),
            false => 0,
        }
    }

    pub fn is_unit(&self, at: usize) -> bool {
        self.has_units && !self.group(at).is_empty()
    }

    /// The route to whose place the batches of a route go when they are sealed: its own, and for a unit that of the first
    /// transform.
    pub fn entry(&self, at: usize) -> usize {
        let first = || self.group(at).iter().copied().find(|member| self.has_transform[*member]);
        self.is_unit(at).then(first).flatten().unwrap_or(at)
    }

    /// The route whose transform a unit goes to from the transform of this one.
    pub fn next_transform(&self, at: usize) -> Option<usize> {
        let later = |member: &&usize| **member > at && self.has_transform[**member];
        self.is_unit(at).then(|| self.group(at).iter().find(later).copied()).flatten()
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
            if state.batch.is_some() && self.plans.generation(state.place) != state.plan.generation {
                self.seal(at);
            }
        }
        let mut holders = std::mem::take(&mut self.holders);
        let mut next = Some(first);
        while let Some(at) = next {
            match self.take_in(at, topic, arrival) {
                Ok(Taken::Rows) => holders.push(Holder::Batch(at)),
                Ok(Taken::Dropped) => {}
                Err(reason) => holders.push(self.reject_joined(at, arrival, reason)),
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

    /// One of the routes that take a message makes a dead letter of it.
    fn reject_joined(&mut self, at: usize, arrival: Arrival<'_>, reason: Reason) -> Holder {
        let Arrival { publish, now, .. } = arrival;
        if self.joined.is_unit(at)
            && let Some(batch) = &mut self.routes[at].batch
        {
            let message = Message {
                received: now,
                topic: publish.topic,
                payload: publish.payload,
                qos: publish.qos,
                retain: publish.retain,
                properties: Properties::NONE,
            };
            batch
                .rejected
                .get_or_insert_with(|| Box::new(RejectedMessages::new(&self.context.chunk_pool)))
                .push(&message, reason);
            return Holder::Batch(at);
        }
        let place = self.routes[at].place;
        self.push_dead_letter(Some(place), publish.topic, publish.payload, reason, now);
        Holder::DeadLetters
    }

    /// Takes a dead letter that a route made: its place in the configuration. Where others took the message too, it is this route's alone.
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
        // With a spool all of them are one unit.
        if let (Holder::Batch(at), true) = (*first, self.keeps_receipts && publish.qos > 0)
            && let Some(batch) = &mut self.routes[at].batch
        {
            let Publish { packet_id, qos, fingerprint, .. } = *publish;
            batch.receipts.push(AckRecord { packet_id, qos, fingerprint });
        }
    }

    fn completion(&mut self, holder: Holder) -> Option<&mut Completion> {
        match holder {
            Holder::Batch(at) => self.routes[at].batch.as_mut().map(|batch| &mut batch.completion),
            Holder::DeadLetters => {
                self.open_dead_letters.as_mut().map(|dead_letters| &mut dead_letters.completion)
            }
        }
    }

    /// Hands the batches of all routes that share messages with this one on, as one.
    pub(super) fn seal_unit(&mut self, at: usize) {
        let members = self.joined.group(at).to_vec();
        let entry = self.routes[self.joined.entry(at)].place;
        if self.batches.of(entry).is_full() {
            for at in members {
                self.routes[at].seal_pending |= self.routes[at].batch.is_some();
            }
            return;
        }
        self.commit_read_stats();
        let sealed = members.iter().filter_map(|at| self.routes[*at].take_sealed()).collect();
        let Some(unit) = Batch::together(sealed) else { return };
        if let Err(TrySendError::Full(unit) | TrySendError::Disconnected(unit)) =
            self.batches.of(entry).try_send(unit)
        {
            // Another connection was quicker.
            for batch in unit.apart() {
                let Some(state) = self.routes.iter_mut().find(|state| state.place == batch.route) else {
                    continue;
                };
                state.batch = Some(batch);
                state.seal_pending = true;
            }
        }
    }
}
