//! Messages that choose their table by their topic. Each table has a route of its own, behind those that messages are compared with;
//! the first message of a table waits until it is known.

use std::mem;

use crate::core::clock::ReceiveTime;
use crate::core::reason::{Code, Reason};
use crate::core::topic_tables::{Asked, TableState};
use crate::ingest::completion::Completion;
use crate::ingest::raw_messages::{self, RawMessages};
use crate::ingest::route_state::{Origin, RouteState};
use crate::ingest::router::Router;
use crate::ingest::router::arrival::Arrival;
use crate::ingest::topic_tables::{TableRequest, TableRequests, WaitingArrival, WaitingMessages};
use crate::mqtt::{MessageSink, Publish};
use crate::telemetry::ledger::Settled;

impl Router {
    /// Asks here for tables that messages choose.
    pub fn asking(mut self, tables: Option<TableRequests>) -> Router {
        self.table_requests = tables;
        self
    }

    /// Takes a message of a route whose messages choose their table; `captures` are those of its topic.
    pub(super) fn append_by_table(&mut self, at: usize, topic: &str, arrival: Arrival<'_>) {
        let Router { routes, captures, .. } = self;
        let RouteState { tables: Some(tables), route, .. } = &mut routes[at] else { return };
        let Some(choice) = &route.table_choice else { return };
        let is_allowed = choice.choose(|place| captures.get(place, topic), &mut tables.name);
        if let Some(position) = tables.positions.get(&tables.name) {
            let position = *position;
            return self.append(position, topic, arrival);
        }
        if tables.waiting.contains_key(&tables.name) {
            return self.wait_for_table(at, arrival);
        }
        let reason = match is_allowed {
            false => Some(Reason::new(
                Code::TableNotAllowed,
                format!("the topic chooses the table {}, which tables.allow does not allow", tables.name),
            )),
            true => match choice.known.ask(&tables.name, choice.max, arrival.now.instant) {
                Asked::Known(TableState::Failed(reason, _)) => Some(reason),
                Asked::Full => Some(Reason::new(
                    Code::TablesTooMany,
                    format!("{} would be one table more than tables.max, {}", tables.name, choice.max),
                )),
                Asked::New | Asked::Known(_) => None,
            },
        };
        match reason {
            None => {
                self.wait_for_table(at, arrival);
                self.request_table(at);
            }
            Some(reason) => {
                let (place, Arrival { publish, sequence, now, .. }) = (self.routes[at].place, arrival);
                self.dead_letter(Some(place), publish.topic, publish.payload, reason, sequence, now);
            }
        }
    }

    /// Keeps a message until its table is known.
    #[cold]
    fn wait_for_table(&mut self, at: usize, arrival: Arrival<'_>) {
        let Arrival { publish, sequence, now, client_id } = arrival;
        let Router { routes, context, ack_sender, .. } = self;
        let Some(tables) = &mut routes[at].tables else { return };
        if !tables.waiting.contains_key(&tables.name) {
            let messages = RawMessages::new(context.chunk_pool.clone());
            let completion = Completion::open(context, ack_sender, now.instant);
            let waiting = WaitingMessages::new(messages, completion, client_id, &context.memory);
            tables.waiting.insert(tables.name.clone(), waiting);
        }
        let Some(waiting) = tables.waiting.get_mut(&tables.name) else { return };
        waiting.messages.push(&raw_messages::Message {
            received: now,
            topic: publish.topic,
            payload: publish.payload,
            qos: publish.qos,
            retain: publish.retain,
            properties: publish.properties,
        });
        let Publish { packet_id, fingerprint, .. } = *publish;
        waiting.arrivals.push(WaitingArrival { sequence, packet_id, fingerprint });
        waiting.reserve();
    }

    #[cold]
    fn request_table(&mut self, at: usize) {
        let RouteState { tables: Some(tables), place, .. } = &self.routes[at] else { return };
        if let Some(requests) = &self.table_requests {
            let (table, asker) = (tables.name.clone(), self.ack_sender.clone());
            // A pipeline that ends answers nothing any more: the broker keeps the messages.
            let _ = requests.send(TableRequest { route: *place, table, asker });
        }
    }

    /// Takes the messages whose tables are known by now.
    pub(super) fn take_waiting(&mut self) {
        for at in 0..self.routes.len() {
            while let Some((name, state)) = self.found_table(at) {
                let Some(tables) = &mut self.routes[at].tables else { break };
                let Some(waiting) = tables.waiting.remove(&name) else { break };
                match state {
                    TableState::Ready(place) => {
                        let position = self.position_of(at, place);
                        if let Some(tables) = &mut self.routes[at].tables {
                            tables.positions.insert(name, position);
                        }
                        self.feed(position, waiting);
                    }
                    TableState::Failed(reason, _) => self.reject_waiting(at, waiting, &reason),
                    TableState::Asked => {}
                }
            }
        }
    }

    /// A table that messages wait for and that was looked at.
    fn found_table(&self, at: usize) -> Option<(String, TableState)> {
        let RouteState { tables: Some(tables), route, .. } = &self.routes[at] else { return None };
        let known = &route.table_choice.as_ref()?.known;
        let found = |name: &String| Some((name.clone(), known.state(name)?));
        tables.waiting.keys().filter_map(found).find(|(_, state)| *state != TableState::Asked)
    }

    /// The position of a table's route, which is made if this connection has none yet.
    fn position_of(&mut self, template: usize, place: usize) -> usize {
        if let Some(position) = self.routes.iter().position(|state| state.place == place) {
            return position;
        }
        // The route as this connection has it, of which the configuration's has the table.
        let known = self.context.config.route(place);
        let mut route = self.routes[template].route.for_table(&known.table);
        route.shard_key.clone_from(&known.shard_key);
        let mut state = RouteState::new(place, route, self.plans.latest(place));
        state.sends_as = self.routes[template].sends_as;
        self.routes.push(state);
        self.routes.len() - 1
    }

    /// Appends messages that waited. Whoever waits for them waits for their batches from now on.
    fn feed(&mut self, position: usize, waiting: WaitingMessages) {
        let WaitingMessages { messages, arrivals, client_id, mut completion, is_hurried, .. } = waiting;
        for (message, arrival) in messages.iter().zip(arrivals) {
            let WaitingArrival { sequence, packet_id, fingerprint } = arrival;
            let now = message.received;
            if self.routes[position].batch.is_none() && self.routes[position].gatherer.is_none() {
                self.open_for(position, completion.fork(), &client_id, now);
            }
            let topic = std::str::from_utf8(message.topic).unwrap_or_default();
            // It matched when it came.
            self.routes[position].route.topic.matches(topic, &mut self.captures);
            let publish = Publish {
                topic: message.topic,
                payload: message.payload,
                qos: message.qos,
                retain: message.retain,
                duplicate: false,
                packet_id,
                fingerprint,
                properties: message.properties,
            };
            self.append(position, topic, Arrival { publish: &publish, sequence, now, client_id: &client_id });
        }
        if let Some(letters) = &mut self.open_dead_letters {
            let mut fork = completion.fork();
            if fork.is_before(&letters.completion) {
                mem::swap(&mut fork, &mut letters.completion);
            }
            letters.completion.join(fork);
        }
        completion.settle(Settled::default());
        if is_hurried {
            self.seal_rows(position, None);
            if self.routes[position].batch.is_some() {
                self.routes[position].seal_pending = true;
                self.seal(position);
            }
        }
    }

    fn open_for(&mut self, position: usize, completion: Completion, client_id: &str, now: ReceiveTime) {
        let Router { routes, context, connection, session, plans, .. } = self;
        let state = &mut routes[position];
        if plans.generation(state.place) != state.plan.generation {
            state.switch_plan(plans.latest(state.place));
        }
        let origin = Origin { route: state.place, connection: *connection, client_id, session: *session };
        state.open(context, completion, origin, now);
    }

    #[cold]
    fn reject_waiting(&mut self, at: usize, waiting: WaitingMessages, reason: &Reason) {
        let WaitingMessages { messages, arrivals, mut completion, .. } = waiting;
        let place = self.routes[at].place;
        for (message, arrival) in messages.iter().zip(arrivals) {
            let (topic, payload, received) = (message.topic, message.payload, message.received);
            self.dead_letter(Some(place), topic, payload, reason.clone(), arrival.sequence, received);
        }
        if let Some(letters) = &mut self.open_dead_letters {
            let mut fork = completion.fork();
            if fork.is_before(&letters.completion) {
                mem::swap(&mut fork, &mut letters.completion);
            }
            letters.completion.join(fork);
        }
        completion.settle(Settled::default());
        self.commit_read_stats();
    }

    pub(super) fn has_waiting(&self) -> bool {
        self.routes.iter().any(|state| state.tables.as_ref().is_some_and(|tables| !tables.waiting.is_empty()))
    }

    /// Has the batches of messages that wait leave as soon as their tables are known.
    pub(super) fn hurry_waiting(&mut self) {
        let tables = self.routes.iter_mut().filter_map(|state| state.tables.as_mut());
        tables.flat_map(|tables| tables.waiting.values_mut()).for_each(|waiting| waiting.is_hurried = true);
    }
}
