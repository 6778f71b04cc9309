//! From a message to a row of a batch: the part of the way that each connection runs on its own thread.
//!
//! ```text
//! accept ── route ── decode ── batch ──▶ sealed, to the sinks
//!    │         └────────┴──▶ dead letters
//!    └──▶ skipped
//! ```
//!
//! Each route has a [`RouteState`]: its decoder and the open batch, made for the table as it is known then.

mod adopt;
mod arrival;
mod by_table;
mod gather;
mod growth;
pub mod joined;
mod left_out;
mod program_rows;
mod rebirths;
pub mod route_order;
mod sealing;

use std::sync::Arc;
use std::time::{Duration, Instant};

use crossbeam_channel::Sender;

use crate::config::{AckAfter, PayloadCompression, Route};
use crate::core::ack_history::AckRecord;
use crate::core::ack_set::AckSet;
use crate::core::clock::ReceiveTime;
use crate::core::mqtt_property::Properties;
use crate::core::reason::{Code, Reason};
use crate::core::topic_filter::{Captures, TopicFilter};
use crate::decode;
use crate::ingest::batch::{Batch, RouteSenders};
use crate::ingest::column_warnings;
use crate::ingest::completion::Completion;
use crate::ingest::dead_letter_batch::DeadLetterBatch;
use crate::ingest::raw_messages;
use crate::ingest::route_set::{LiveRoutes, RouteSet};
use crate::ingest::route_state::{MAX_ROWS, Origin, RouteState, is_large};
use crate::ingest::router::arrival::{Arrival, ReadStats, Taken};
use crate::ingest::router::joined::{Holder, JoinedRoutes};
use crate::ingest::router::rebirths::Rebirths;
use crate::ingest::router::route_order::{NO_ROUTE, NO_TEXT, Selection, select};
use crate::ingest::table_plan::TablePlans;
use crate::ingest::topic_tables::TableRequests;
use crate::mqtt::{AckSender, Fault, MessageSink, Outgoing, Publish, Subscription};
use crate::telemetry::context::PipelineContext;
use crate::telemetry::ledger::Settled;
use crate::telemetry::metrics::add;

pub struct Router {
    context: Arc<PipelineContext>,
    plans: Arc<TablePlans>,
    /// The number of the connection.
    connection: usize,
    ack_sender: AckSender,
    /// `None`: no table is asked for.
    table_requests: Option<TableRequests>,
    /// How old a batch may get.
    delay: Duration,
    /// How many batches of a route may wait for workers before the next one grows beyond its limits instead.
    max_waiting: usize,
    /// The session of the broker that messages come from.
    session: u64,
    keeps_receipts: bool,
    /// In the order in which they are asked: those of messages, those of rows, and from `removed_from` on those that were removed.
    routes: Vec<RouteState>,
    removed_from: usize,
    /// `None`: they never change.
    live: Option<LiveRoutes>,
    joined: JoinedRoutes,
    /// The holders of the message that several routes take, while they take it.
    holders: Vec<Holder>,
    /// Distinguishes the copies of a message; empty where there can be none.
    subscriptions: Vec<Subscription>,
    /// The filters that cover several routes, and whether this connection subscribed to them.
    covers: Vec<TopicFilter>,
    has_covers: bool,
    /// Filters of routes that take a part of what they bring.
    wider: Vec<TopicFilter>,
    rewritten: Vec<TopicFilter>,
    captures: Captures,
    batches: RouteSenders,
    dead_letters: Sender<DeadLetterBatch>,
    open_dead_letters: Option<DeadLetterBatch>,
    /// Messages that need no confirmation before they are acknowledged.
    ready_acks: AckSet,
    stats: ReadStats,
    rebirths: Vec<Rebirths>,
    /// Whether the warning of [`Router::skip_unrequested`] was given.
    unrequested_reported: bool,
    left_over_reported: bool,
}

/// Adding up the bytes of all columns takes longer than decoding many a message. It is done once per
/// this number of messages, and for each large one.
const SIZE_CHECK_INTERVAL: usize = 16;
const LARGE_PAYLOAD: usize = 4096;

/// Delay before a batch that found the queue full is tried again, where other connections may have
/// filled it.
const SEAL_RETRY_DELAY: Duration = Duration::from_millis(20);

impl Router {
    pub fn new(
        context: Arc<PipelineContext>,
        connection: usize,
        ack_sender: AckSender,
        plans: Arc<TablePlans>,
        batches: impl Into<RouteSenders>,
        dead_letters: Sender<DeadLetterBatch>,
    ) -> Router {
        let config = &context.config;
        let (observed, rebirths) = Rebirths::of_routes(config);
        let routes = observed.into_iter().enumerate();
        let routes: Vec<RouteState> =
            routes.map(|(at, route)| RouteState::new(at, route, plans.latest(at))).collect();
        let set = RouteSet::initial(config, batches.into());
        Router {
            removed_from: routes.len(),
            live: None,
            rewritten: left_out::rewritten_filters(&config.routes),
            delay: match connection < config.mqtt.connections {
                true => config.seal_delay(),
                false => config.program_seal_delay(),
            },
            max_waiting: match &config.spool {
                // It takes all that comes, and makes INSERTs itself.
                Some(_) => usize::MAX,
                None => config.clickhouse.max_in_flight,
            },
            session: 0,
            joined: set.joined,
            holders: Vec::new(),
            keeps_receipts: config.spool.is_some() && config.mqtt.is_persistent(),
            context,
            plans,
            connection,
            ack_sender,
            table_requests: None,
            routes,
            subscriptions: set.subscriptions,
            covers: set.covers,
            has_covers: false,
            wider: set.wider,
            captures: Captures::default(),
            batches: set.batches,
            dead_letters,
            open_dead_letters: None,
            ready_acks: AckSet::default(),
            stats: ReadStats::default(),
            rebirths,
            unrequested_reported: false,
            left_over_reported: false,
        }
    }

    /// Appends a message to the open batch of its route; `captures` are those of its topic.
    fn append(&mut self, at: usize, topic: &str, arrival: Arrival<'_>) {
        if self.routes[at].gatherer.is_some() {
            return self.gather(at, topic, arrival);
        }
        if self.routes[at].tables.is_some() {
            return self.append_by_table(at, topic, arrival);
        }
        let Arrival { publish, sequence, now, .. } = arrival;
        match self.take_in(at, topic, arrival) {
            Ok(Taken::Rows) => {}
            Ok(Taken::Dropped) => return self.drop(sequence),
            Err(reason) => {
                // The message may fit the table as it is now: only the batch was opened before.
                if self.plans.generation(self.routes[at].place) != self.routes[at].plan.generation {
                    self.seal(at);
                    if self.routes[at].batch.is_none() {
                        return self.append(at, topic, arrival);
                    }
                }
                let place = self.routes[at].place;
                return self.dead_letter(Some(place), publish.topic, publish.payload, reason, sequence, now);
            }
        }
        let Some(batch) = &mut self.routes[at].batch else { return };
        if let Some(sequence) = sequence {
            match self.context.config.mqtt.ack_after {
                AckAfter::Receive => self.ready_acks.add(sequence),
                AckAfter::Spool | AckAfter::Insert => batch.completion.acknowledge(sequence),
            }
            if self.keeps_receipts {
                let Publish { packet_id, qos, fingerprint, .. } = *publish;
                batch.receipts.push(AckRecord { packet_id, qos, fingerprint });
            }
        }
        self.seal_if_large(at, publish.payload.len());
    }

    /// Appends the rows of a message to the open batch of a route. The caller acknowledges it.
    // Left to itself the compiler makes two more calls for each message.
    #[inline(always)]
    fn take_in(&mut self, at: usize, topic: &str, arrival: Arrival<'_>) -> Result<Taken, Reason> {
        if self.routes[at].batch.is_none() {
            self.open(at, arrival);
        }
        let Arrival { publish, now, client_id, .. } = arrival;
        let state = &mut self.routes[at];
        let Some(batch) = &mut state.batch else { return Ok(Taken::Dropped) };
        let message = decode::Message {
            topic,
            captures: &self.captures,
            payload: publish.payload,
            qos: publish.qos,
            retain: publish.retain,
            received_at: now.system,
            client_id,
            properties: publish.properties,
        };
        let rows = state.decoder.append(&message, &mut batch.columns);
        if state.decoder.has_findings() {
            column_warnings::warn(&self.context, state.place, &state.route.table, &mut state.decoder);
        }
        let mut rows = rows?;
        if rows == 0 && state.decoder.has_excluded() {
            return Ok(Taken::Dropped);
        }
        if state.filter.is_some() && rows > 0 {
            rows = state.filter_rows(rows, now.instant, &self.context.memory);
            if rows == 0 {
                return Ok(Taken::Dropped);
            }
        }
        let Some(batch) = &mut state.batch else { return Ok(Taken::Dropped) };
        self.stats.rows += rows as u64;
        if let Some(message_rows) = &mut batch.message_rows {
            message_rows.push(rows);
        }
        batch.messages.push(&raw_messages::Message {
            received: now,
            topic: publish.topic,
            payload: publish.payload,
            qos: publish.qos,
            retain: publish.retain,
            properties: if state.keeps_properties { publish.properties } else { Properties::NONE },
        });
        if let Some(unknown) = &mut state.unknown_fields
            && let Some(rows) = unknown.of_message(topic, publish.payload, now.instant)
        {
            self.report_unknown(at, rows);
        }
        Ok(Taken::Rows)
    }

    /// Seals the batch of a route if it has reached a limit, perhaps by a message of `payload_bytes`.
    #[inline(always)]
    fn seal_if_large(&mut self, at: usize, payload_bytes: usize) {
        let state = &mut self.routes[at];
        let Some(batch) = &mut state.batch else { return };
        let limits = &self.context.config.batch;
        // The rows of a message that was compressed, or that has many, may be far larger than its payload.
        let Route { compression, rows, zip, .. } = &state.route;
        let expands = *compression != PayloadCompression::None || rows.is_some() || !zip.is_empty();
        let may_be_large = batch.rows() >= limits.rows.min(MAX_ROWS)
            || expands
            || payload_bytes >= LARGE_PAYLOAD
            || batch.messages.len().is_multiple_of(SIZE_CHECK_INTERVAL);
        if expands {
            batch.reserve(self.context.config.spool.is_some());
        }
        if may_be_large && !state.seal_pending && is_large(batch, limits) {
            self.seal(at);
        }
    }

    /// Opens a batch, for the table as it is known now.
    #[cold]
    fn open(&mut self, at: usize, arrival: Arrival<'_>) {
        let state = &mut self.routes[at];
        let place = state.place;
        if self.plans.generation(place) != state.plan.generation {
            state.switch_plan(self.plans.latest(place));
        }
        let Arrival { now, client_id, .. } = arrival;
        let completion = Completion::open(&self.context, &self.ack_sender, now.instant);
        let origin = Origin { route: place, connection: self.connection, client_id, session: self.session };
        state.open(&self.context, completion, origin, now);
    }

    /// Bytes of the open batches.
    pub fn open_bytes(&self) -> usize {
        self.open_batches().map(Batch::bytes).sum()
    }

    fn open_batches(&self) -> impl Iterator<Item = &Batch> {
        self.routes.iter().filter_map(|state| state.batch.as_deref())
    }
}

impl MessageSink for Router {
    fn connection(&self) -> usize {
        self.connection
    }

    fn begin_session(&mut self, session: u64, has_covers: bool) {
        self.has_covers = has_covers;
        if std::mem::replace(&mut self.session, session) != session {
            for state in &mut self.routes {
                if let Some(batch) = &mut state.batch {
                    batch.receipts = crate::core::ack_history::AckHistory::of_session(session);
                }
                state.forget_receipts();
            }
        }
    }

    fn adopt_routes(&mut self) -> bool {
        self.adopt()
    }

    fn settle_routes(&mut self) {
        self.settle();
    }

    fn accept(&mut self, publish: &Publish<'_>, sequence: Option<u64>, now: ReceiveTime, client_id: &str) {
        self.stats.received += 1;
        self.stats.bytes += publish.payload.len() as u64;
        let Router { routes, subscriptions, captures, context, .. } = self;
        let skip_retained = context.config.mqtt.skip_retained;
        let (at, topic) = match select(routes, subscriptions, skip_retained, publish, captures) {
            Selection::Route(at, topic) => (at, topic),
            Selection::Skipped => return self.skip(sequence),
            Selection::Unrouted(topic) if self.is_unasked(topic) => return self.skip(sequence),
            Selection::Unrouted(topic) if publish.retain => return self.skip_unrequested(topic, sequence),
            Selection::Unrouted(topic) => {
                self.warn_of_rewritten(topic);
                self.warn_of_left_over(topic);
                let reason = Reason::new(Code::NoRoute, NO_ROUTE);
                return self.dead_letter(None, publish.topic, publish.payload, reason, sequence, now);
            }
            Selection::NoText => {
                let reason = Reason::new(Code::TopicInvalid, NO_TEXT);
                return self.dead_letter(None, publish.topic, publish.payload, reason, sequence, now);
            }
        };
        let arrival = Arrival { publish, sequence, now, client_id };
        if at >= self.removed_from {
            return self.append_removed(at, topic, arrival);
        }
        match self.routes[at].route.continues {
            false => self.append(at, topic, arrival),
            true => self.append_joined(at, topic, arrival),
        }
    }

    fn count_duplicate(&mut self) {
        self.stats.received += 1;
        self.stats.skipped += 1;
    }

    fn accept_invalid(
        &mut self,
        topic: &[u8],
        payload: &[u8],
        fault: &Fault,
        sequence: Option<u64>,
        now: ReceiveTime,
    ) {
        self.stats.received += 1;
        self.stats.bytes += payload.len() as u64;
        self.dead_letter(None, topic, payload, Reason::new(fault.code, fault.text), sequence, now);
    }

    fn accept_too_large(
        &mut self,
        topic: &[u8],
        packet_bytes: usize,
        sequence: Option<u64>,
        now: ReceiveTime,
    ) {
        let limit = self.context.config.mqtt.max_packet_bytes;
        let reason = Reason::new(
            Code::PacketTooLarge,
            format!("a packet of {packet_bytes} bytes is over maxPacketBytes, {limit}"),
        );
        self.reject(topic, &[], reason, sequence, now);
    }

    fn commit_read_stats(&mut self) {
        let stats = std::mem::take(&mut self.stats);
        let PipelineContext { ledger, metrics, .. } = &*self.context;
        if stats.received > 0 || stats.rows > 0 {
            ledger.receive(stats.received, stats.skipped);
            if stats.dropped > 0 {
                ledger.settle(Settled { dropped: stats.dropped, ..Settled::default() });
            }
            add(&metrics.bytes_received, stats.bytes);
            add(&metrics.rows_decoded, stats.rows);
        }
        self.count_memory();
        if let Some(dead_letters) = self.open_dead_letters.take() {
            // The receiver exists as long as the pipeline: it ends after all connections.
            let _ = self.dead_letters.send(dead_letters);
        }
    }

    fn count_memory(&mut self) {
        let is_spooled = self.context.config.spool.is_some();
        let batches = self.routes.iter_mut().filter_map(|state| state.batch.as_mut());
        batches.for_each(|batch| batch.reserve(is_spooled));
        let gatherers = self.routes.iter_mut().filter_map(|state| state.gatherer.as_mut());
        gatherers.for_each(|gatherer| gatherer.reserve(&self.context.memory));
        if let Some(dead_letters) = &mut self.open_dead_letters {
            dead_letters.reserve();
        }
    }

    fn take_outgoing(&mut self, now: ReceiveTime) -> Vec<Outgoing> {
        let context = &self.context;
        self.rebirths.iter_mut().flat_map(|rebirths| rebirths.due(context, now)).collect()
    }

    fn take_ready_acks(&mut self) -> AckSet {
        std::mem::take(&mut self.ready_acks)
    }

    fn seal_due(&mut self, now: Instant) {
        self.take_waiting();
        self.seal_all_rows(Some(now));
        let (limits, delay) = (self.context.config.batch, self.delay);
        if self.context.config.spool.is_some()
            && self.open_batches().any(|batch| now >= batch.opened_at + delay)
        {
            // Batches that are sealed together are synced together.
            return self.seal_batches();
        }
        for at in 0..self.routes.len() {
            let state = &self.routes[at];
            let Some(batch) = &state.batch else { continue };
            if state.seal_pending || now >= batch.opened_at + delay || is_large(batch, &limits) {
                self.seal(at);
            }
        }
    }

    fn seal_all(&mut self) {
        self.take_waiting();
        self.hurry_waiting();
        self.seal_all_rows(None);
        self.seal_batches();
    }

    fn seal_batches(&mut self) {
        for at in 0..self.routes.len() {
            if self.routes[at].batch.is_some() {
                self.routes[at].seal_pending = true;
                self.seal(at);
            }
        }
    }

    fn is_batch_full(&self) -> bool {
        let limits = &self.context.config.batch;
        self.routes.iter().enumerate().any(|(at, state)| match &state.batch {
            // Messages that a transform does not keep up with stay with the broker.
            Some(batch) if self.goes_to_transform(at) => {
                state.seal_pending
                    && is_large(batch, limits)
                    && self.batches.of(self.routes[self.joined.entry(at)].sends_as).is_full()
            }
            Some(batch) => batch.rows() >= MAX_ROWS,
            None => false,
        })
    }

    /// A batch that waits for the sinks waits for their answer, not for a time; but with several connections, the batches
    /// that they work on may all be of other connections.
    fn deadline(&self, now: Instant) -> Option<Instant> {
        let due = self.open_batches().map(|batch| batch.opened_at + self.delay);
        let retry = self.context.config.mqtt.connections > 1 && self.is_sealing();
        let due = due.chain(self.row_deadline());
        due.filter(|at| *at > now).chain(retry.then(|| now + SEAL_RETRY_DELAY)).min()
    }

    fn has_open_batch(&self) -> bool {
        self.routes.iter().any(|state| state.batch.is_some()) || self.has_waiting()
    }

    fn is_sealing(&self) -> bool {
        self.routes.iter().any(|state| state.seal_pending) || self.has_waiting()
    }
}

#[cfg(test)]
mod tests;
