//! From a message to a row of a batch: the part of the way that each connection walks by itself.
//!
//! ```text
//! accept ── route ── decode ── batch ──▶ sealed, to the sinks
//!    │         └────────┴──▶ dead letters
//!    └──▶ skipped
//! ```
//!
//! Each route has a lane: its decoder and the batch that is open. A batch is opened for the table as it is known then.
//! What one read brought is booked once, by [`Intake::book`].

use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use crossbeam_channel::{Sender, TrySendError};

use crate::clickhouse::Column;
use crate::config::{AckAfter, Limits, Route};
use crate::core::ack_history::{Acknowledged, Receipt};
use crate::core::ack_set::Owed;
use crate::core::clock::Now;
use crate::core::dead_letter::DeadLetter;
use crate::core::mqtt_property::Properties;
use crate::core::reason::{Code, Reason};
use crate::core::topic_filter::Captures;
use crate::dead_letter::Letters;
use crate::decode::{self, Decoder};
use crate::ingest::batch::Batch;
use crate::ingest::context::Shared;
use crate::ingest::raw_messages::{self, Messages};
use crate::ingest::table_plan::{Plan, Plans};
use crate::mqtt::{Publish, Subscription, is_chosen, subscriptions};
use crate::telemetry::metrics::add;
use crate::telemetry::trace::{Trace, millis};

pub struct Intake {
    shared: Arc<Shared>,
    plans: Arc<Plans>,
    connection: usize,
    /// How old a batch may get.
    delay: Duration,
    /// How many batches of a route may wait while it takes no more than its limits.
    most_waiting: usize,
    /// The session of the broker that messages come from.
    session: u64,
    keeps_receipts: bool,
    lanes: Vec<Lane>,
    /// To tell the copies of a message apart; empty where there can be none.
    subscriptions: Vec<Subscription>,
    captures: Captures,
    batches: Sender<Box<Batch>>,
    letters: Sender<Letters>,
    open_letters: Option<Letters>,
    /// Messages that need no confirmation before they are acknowledged.
    paid: Owed,
    tally: Tally,
}

struct Lane {
    route: Route,
    /// In the batch that is open.
    keeps_properties: bool,
    /// What the decoder and the columns are made for.
    plan: Arc<Plan>,
    decoder: Decoder,
    batch: Option<Box<Batch>>,
    /// One more for each batch that is open or waits for a worker.
    places: Arc<()>,
    /// To be sealed whatever its size and age.
    due: bool,
}

/// What a read brought.
#[derive(Default)]
struct Tally {
    received: u64,
    skipped: u64,
    bytes: u64,
    rows: u64,
}

/// ClickHouse squashes the blocks of one INSERT up to 1,048,449 rows: beyond it an INSERT is not atomic. A batch that may
/// not take one message more, whatever it brings, is full.
const MOST_ROWS: usize = 1_048_449 - decode::MOST_ROWS;

/// Adding up what the columns hold takes longer than many a message. It is done once for so many of them, and for each
/// that is large.
const BETWEEN_LOOKS: usize = 16;
const LARGE: usize = 4096;

/// Room for so many rows is made at once.
const MOST_RESERVED: usize = 8192;

/// How soon a batch that found no room is tried again, where other connections may have taken it.
const AGAIN: Duration = Duration::from_millis(20);

impl Intake {
    pub fn new(
        shared: Arc<Shared>,
        connection: usize,
        plans: Arc<Plans>,
        batches: Sender<Box<Batch>>,
        letters: Sender<Letters>,
    ) -> Intake {
        let lanes = shared
            .config
            .routes
            .iter()
            .enumerate()
            .map(|(at, route)| Lane::new(route.clone(), plans.latest(at)))
            .collect();
        let mut subscriptions = subscriptions(&shared.config);
        if subscriptions.len() == 1 {
            subscriptions.clear();
        }
        Intake {
            delay: shared.config.seal_delay(),
            most_waiting: match &shared.config.spool {
                // It takes all that comes, and makes INSERTs itself.
                Some(_) => usize::MAX,
                None => shared.config.clickhouse.max_in_flight,
            },
            session: 0,
            keeps_receipts: shared.config.spool.is_some() && shared.config.mqtt.is_persistent(),
            shared,
            plans,
            connection,
            lanes,
            subscriptions,
            captures: Captures::default(),
            batches,
            letters,
            open_letters: None,
            paid: Owed::default(),
            tally: Tally::default(),
        }
    }

    /// What comes from now on is of this session of the broker.
    pub fn of_session(&mut self, session: u64) {
        if std::mem::replace(&mut self.session, session) != session {
            for batch in self.lanes.iter_mut().filter_map(|lane| lane.batch.as_mut()) {
                batch.receipts = Acknowledged::of_session(session);
            }
        }
    }

    /// Takes one message: into the batch of the first route that matches its topic, or to the dead letters.
    pub fn accept(&mut self, publish: &Publish<'_>, sequence: Option<u64>, now: Now, client_id: &str) {
        self.tally.received += 1;
        self.tally.bytes += publish.payload.len() as u64;
        if publish.retain && self.shared.config.mqtt.skip_retained {
            self.tally.skipped += 1;
            self.pay(sequence);
            return;
        }
        let Some(topic) = text(publish.topic) else {
            let reason = Reason::new(Code::NoRoute, "the topic is not UTF-8");
            return self.refuse(None, publish.topic, publish.payload, reason, sequence, now);
        };
        let Intake { captures, subscriptions, .. } = self;
        if !subscriptions.is_empty()
            && !is_chosen(subscriptions, topic, publish.properties.subscription_ids(), captures)
        {
            self.tally.skipped += 1;
            self.pay(sequence);
            return;
        }
        let Intake { lanes, captures, .. } = self;
        let Some(at) = lanes.iter().position(|lane| lane.route.topic.matches(topic, captures)) else {
            let reason = Reason::new(Code::NoRoute, "no route takes this topic");
            return self.refuse(None, publish.topic, publish.payload, reason, sequence, now);
        };
        self.append(at, topic, publish, sequence, now, client_id);
    }

    /// Appends a message to the open batch of its route; `captures` are those of its topic.
    fn append(
        &mut self,
        at: usize,
        topic: &str,
        publish: &Publish<'_>,
        sequence: Option<u64>,
        now: Now,
        client_id: &str,
    ) {
        if self.lanes[at].batch.is_none() {
            self.open(at, now, client_id);
        }
        let lane = &mut self.lanes[at];
        let Some(batch) = &mut lane.batch else { return };
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
        match lane.decoder.append(&message, &mut batch.columns) {
            Ok(rows) => {
                self.tally.rows += rows as u64;
                if lane.decoder.has_cut() {
                    warn_of_cut(&self.shared, &lane.route.table, lane.decoder.take_cut());
                }
                batch.messages.push(&raw_messages::Message {
                    received: now,
                    topic: publish.topic,
                    payload: publish.payload,
                    qos: publish.qos,
                    retain: publish.retain,
                    properties: if lane.keeps_properties { publish.properties } else { Properties::NONE },
                });
                if let Some(sequence) = sequence {
                    match self.shared.config.mqtt.ack_after {
                        AckAfter::Receive => self.paid.add(sequence),
                        AckAfter::Spool | AckAfter::Insert => batch.owed.add(sequence),
                    }
                    if self.keeps_receipts {
                        let Publish { packet_id, qos, fingerprint, .. } = *publish;
                        batch.receipts.push(Receipt { packet_id, qos, fingerprint });
                    }
                }
                let limits = &self.shared.config.batch;
                let may_be_large = batch.rows() >= limits.rows.min(MOST_ROWS)
                    || publish.payload.len() >= LARGE
                    || batch.messages.len().is_multiple_of(BETWEEN_LOOKS);
                if may_be_large && !lane.due && is_large(batch, limits) {
                    self.seal(at);
                }
            }
            Err(reason) => {
                // It may fit the table as it is now: only the batch was opened before.
                if self.plans.generation(at) != self.lanes[at].plan.generation {
                    self.seal(at);
                    if self.lanes[at].batch.is_none() {
                        return self.append(at, topic, publish, sequence, now, client_id);
                    }
                }
                self.refuse(Some(at), publish.topic, publish.payload, reason, sequence, now);
            }
        }
    }

    /// Opens a batch, for the table as it is known now.
    #[cold]
    fn open(&mut self, at: usize, now: Now, client_id: &str) {
        let lane = &mut self.lanes[at];
        if self.plans.generation(at) != lane.plan.generation {
            lane.adopt(self.plans.latest(at));
        }
        let rows = self.shared.config.batch.rows.min(MOST_RESERVED);
        let trace = Trace::sample(self.shared.config.trace_sample_ratio);
        lane.keeps_properties = trace.is_some() || lane.route.reads_user_properties();
        lane.batch = Some(Box::new(Batch {
            group: self.shared.ledger.open(now.instant),
            route: at,
            connection: self.connection,
            client_id: client_id.into(),
            plan: lane.plan.clone(),
            columns: lane.plan.spares.take_columns().unwrap_or_else(|| lane.fresh_columns(rows)),
            messages: Messages::new(self.shared.pieces.clone()),
            owed: Owed::default(),
            receipts: Acknowledged::of_session(self.session),
            opened_at: now.instant,
            counted_bytes: 0,
            ticket: None,
            place: Some(lane.places.clone()),
            trace,
        }));
    }

    /// A message that came on an earlier connection and is in a batch already.
    pub fn accept_again(&mut self) {
        self.tally.received += 1;
        self.tally.skipped += 1;
    }

    /// A message whose payload was passed over.
    pub fn accept_too_large(&mut self, topic: &[u8], packet_bytes: usize, sequence: Option<u64>, now: Now) {
        let limit = self.shared.config.mqtt.max_packet_bytes;
        let reason = Reason::new(
            Code::PacketTooLarge,
            format!("a packet of {packet_bytes} bytes is over maxPacketBytes, {limit}"),
        );
        self.accept_unfit(topic, &[], reason, sequence, now);
    }

    /// A message of which nothing but a dead letter can come.
    pub fn accept_unfit(
        &mut self,
        topic: &[u8],
        payload: &[u8],
        reason: Reason,
        sequence: Option<u64>,
        now: Now,
    ) {
        self.tally.received += 1;
        let route = std::str::from_utf8(topic)
            .ok()
            .and_then(|t| self.lanes.iter().position(|lane| lane.route.topic.matches(t, &mut self.captures)));
        self.refuse(route, topic, payload, reason, sequence, now);
    }

    #[cold]
    fn refuse(
        &mut self,
        route: Option<usize>,
        topic: &[u8],
        payload: &[u8],
        reason: Reason,
        sequence: Option<u64>,
        now: Now,
    ) {
        let letters = self
            .open_letters
            .get_or_insert_with(|| Letters::new(self.shared.ledger.open(now.instant), self.connection));
        letters.push(DeadLetter {
            received_at: now.system,
            route,
            topic: topic.into(),
            payload: payload.into(),
            reason,
        });
        if let Some(sequence) = sequence {
            match self.shared.config.mqtt.ack_after {
                AckAfter::Receive => self.paid.add(sequence),
                AckAfter::Spool | AckAfter::Insert => letters.owed.add(sequence),
            }
        }
    }

    fn pay(&mut self, sequence: Option<u64>) {
        if let Some(sequence) = sequence {
            self.paid.add(sequence);
        }
    }

    /// Books what was accepted since the last call and sends dead letters on. To be called after each read.
    pub fn book(&mut self) {
        let tally = std::mem::take(&mut self.tally);
        let Shared { ledger, metrics, memory, .. } = &*self.shared;
        if tally.received > 0 {
            ledger.receive(tally.received, tally.skipped);
            add(&metrics.bytes_received, tally.bytes);
            add(&metrics.rows_decoded, tally.rows);
        }
        for batch in self.lanes.iter_mut().filter_map(|lane| lane.batch.as_mut()) {
            let bytes = batch.bytes();
            memory.add(bytes - batch.counted_bytes);
            batch.counted_bytes = bytes;
        }
        if let Some(letters) = self.open_letters.take() {
            memory.add(letters.bytes);
            // The receiver lives as long as the pipeline: it ends after all connections.
            let _ = self.letters.send(letters);
        }
    }

    /// What may be acknowledged without waiting.
    pub fn take_paid(&mut self) -> Owed {
        std::mem::take(&mut self.paid)
    }

    /// Seals what has reached its age, and what could not be handed over before.
    pub fn seal_due(&mut self, now: Instant) {
        let (limits, delay) = (self.shared.config.batch, self.delay);
        let opened = |lane: &Lane| lane.batch.as_ref().map(|batch| batch.opened_at);
        if self.shared.config.spool.is_some()
            && self.lanes.iter().filter_map(opened).any(|at| now >= at + delay)
        {
            // What is sealed together is synced together.
            return self.seal_all();
        }
        for at in 0..self.lanes.len() {
            let lane = &self.lanes[at];
            let Some(batch) = &lane.batch else { continue };
            if lane.due || now >= batch.opened_at + delay || is_large(batch, &limits) {
                self.seal(at);
            }
        }
    }

    /// Seals everything, as soon as the sinks take it.
    pub fn seal_all(&mut self) {
        for at in 0..self.lanes.len() {
            if self.lanes[at].batch.is_some() {
                self.lanes[at].due = true;
                self.seal(at);
            }
        }
    }

    /// Hands a batch to the sinks. While they are all busy, and as many of the route wait as they can take, it stays open and
    /// grows on: fewer and larger INSERTs are what a busy ClickHouse needs.
    fn seal(&mut self, at: usize) {
        let Limits { bytes, .. } = self.shared.config.batch;
        let lane = &mut self.lanes[at];
        let may_grow = |batch: &Batch| batch.rows() < MOST_ROWS && batch.column_bytes() < bytes;
        let is_busy = lane.waiting() >= self.most_waiting;
        if self.batches.is_full() || (is_busy && lane.batch.as_deref().is_some_and(may_grow)) {
            lane.due = true;
            return;
        }
        self.book();
        let lane = &mut self.lanes[at];
        let Some(mut batch) = lane.batch.take() else { return };
        if batch.messages.is_empty() {
            // Opened for a message that became a dead letter.
            self.shared.ledger.hand_over(batch.group);
            lane.plan.spares.give_columns(batch.columns);
            lane.due = false;
            return;
        }
        if batch.rows() == 0 {
            // Messages that hold an empty list: nothing has to be inserted for them.
            lane.plan.spares.give_columns(batch.columns);
            lane.due = false;
            self.shared.memory.subtract(batch.counted_bytes);
            self.shared.settle(batch.connection, batch.owed);
            self.shared.ledger.close(batch.group, batch.messages.len() as u64, 0);
            return;
        }
        if let Some(trace) = &mut batch.trace {
            trace.sealed = millis(SystemTime::now());
        }
        match self.batches.try_send(batch) {
            Ok(()) => lane.due = false,
            // Another connection was quicker.
            Err(TrySendError::Full(batch) | TrySendError::Disconnected(batch)) => {
                lane.batch = Some(batch);
                lane.due = true;
            }
        }
    }

    /// Whether a batch has grown as large as one may: then nothing more must be read.
    pub fn is_stuck(&self) -> bool {
        self.lanes.iter().filter_map(|lane| lane.batch.as_ref()).any(|batch| batch.rows() >= MOST_ROWS)
    }

    /// When [`Intake::seal_due`] has something to do. What waits for the sinks waits for their word, not for a time; but
    /// with several connections, what they work on may all be of others.
    pub fn deadline(&self, now: Instant) -> Option<Instant> {
        let due = self
            .lanes
            .iter()
            .filter_map(|lane| lane.batch.as_ref())
            .map(|batch| batch.opened_at + self.delay);
        let again = (self.shared.config.mqtt.connections > 1 && self.is_sealing()).then(|| now + AGAIN);
        due.filter(|at| *at > now).chain(again).min()
    }

    /// The number of the connection.
    pub fn connection(&self) -> usize {
        self.connection
    }

    /// What the open batches hold.
    pub fn open_bytes(&self) -> usize {
        self.lanes.iter().filter_map(|lane| lane.batch.as_ref()).map(|batch| batch.bytes()).sum()
    }

    pub fn has_open_batch(&self) -> bool {
        self.lanes.iter().any(|lane| lane.batch.is_some())
    }

    /// Whether a batch that is due waits for the sinks to have room.
    pub fn is_sealing(&self) -> bool {
        self.lanes.iter().any(|lane| lane.due)
    }
}

impl Lane {
    fn new(route: Route, plan: Arc<Plan>) -> Lane {
        let decoder = plan.decoder(&route);
        Lane {
            keeps_properties: false,
            batch: None,
            places: Arc::default(),
            due: false,
            route,
            plan,
            decoder,
        }
    }

    /// Columns that need not grow: what they would leave behind is not used again.
    fn fresh_columns(&self, rows: usize) -> Vec<Column> {
        let mut columns = self.decoder.columns();
        columns.iter_mut().for_each(|column| column.reserve(rows));
        columns
    }

    /// How many of its batches no worker has taken yet.
    fn waiting(&self) -> usize {
        // Beside the lane's own: that of the batch which is open.
        Arc::strong_count(&self.places) - 1 - usize::from(self.batch.is_some())
    }

    /// Decodes for another plan from now on.
    #[cold]
    fn adopt(&mut self, plan: Arc<Plan>) {
        self.decoder = plan.decoder(&self.route);
        self.plan = plan;
    }
}

impl Drop for Intake {
    /// What is still open when a connection ends for good is given up: the broker has not been told otherwise.
    fn drop(&mut self) {
        for batch in self.lanes.iter_mut().filter_map(|lane| lane.batch.take()) {
            self.shared.memory.subtract(batch.counted_bytes);
        }
    }
}

#[cold]
fn warn_of_cut(shared: &Shared, table: &str, columns: Vec<&str>) {
    for column in columns {
        let message = format!(
            "{table}: times for the column {column} have more digits than it keeps; they are cut towards the past"
        );
        shared.warn("TIME_PRECISION_CUT", message);
    }
}

/// Topics are mostly ASCII, which is seen faster than UTF-8.
#[inline]
fn text(bytes: &[u8]) -> Option<&str> {
    if bytes.is_ascii() {
        // SAFETY: ASCII is UTF-8.
        return Some(unsafe { std::str::from_utf8_unchecked(bytes) });
    }
    std::str::from_utf8(bytes).ok()
}

fn is_large(batch: &Batch, limits: &Limits) -> bool {
    batch.rows() >= limits.rows.min(MOST_ROWS) || batch.column_bytes() >= limits.bytes
}

#[cfg(test)]
mod tests {
    use crossbeam_channel::Receiver;

    use super::*;
    use crate::clickhouse::schema::Table;
    use crate::config::Config;

    /// The intakes of connections to a broker, and what the sinks get of them: so many batches at most.
    fn intakes(connections: usize, batch: &str, queue: usize) -> (Vec<Intake>, Receiver<Box<Batch>>) {
        let config = format!(
            r#"{{
                "mqtt": {{ "url": "mqtt://x", "sharedGroup": "g", "connections": {connections} }},
                "clickhouse": {{ "url": "http://x", "maxInFlight": 2 }},
                "routes": [{{ "topic": "t", "table": "t" }}],
                "batch": {batch}
            }}"#
        );
        let shared = Arc::new(Shared::new(Config::parse(&config).unwrap(), Box::new(|_| {})));
        let table = Table::of(&[("seq", "UInt32", None)]);
        let plans = Plans::new(&shared.config.routes, vec![table], Instant::now()).unwrap();
        let plans = Arc::new(plans);
        let (batch_sender, batches) = crossbeam_channel::bounded(queue);
        let letters = crossbeam_channel::unbounded().0;
        let intake = |connection| {
            Intake::new(shared.clone(), connection, plans.clone(), batch_sender.clone(), letters.clone())
        };
        ((0..connections).map(intake).collect(), batches)
    }

    fn accept(intake: &mut Intake, now: Now) {
        let publish = Publish {
            topic: b"t",
            payload: br#"{"seq":1}"#,
            qos: 0,
            retain: false,
            duplicate: false,
            packet_id: 0,
            fingerprint: 0,
            properties: Properties::NONE,
        };
        intake.accept(&publish, None, now, "c");
    }

    #[test]
    fn a_batch_finds_the_room_that_only_another_connection_hears_of() {
        let now = Now::read();
        let (mut intakes, batches) = intakes(2, "{}", 1);
        for intake in &mut intakes {
            accept(intake, now);
            intake.seal_all();
        }
        let [one, other] = &mut intakes[..] else { unreachable!() };
        assert_eq!((one.is_sealing(), other.is_sealing()), (false, true));
        let again = other.deadline(now.instant).unwrap();
        assert!(again <= now.instant + AGAIN);
        assert_eq!(batches.try_recv().unwrap().connection, 0);
        other.seal_due(again);
        assert_eq!(batches.try_recv().unwrap().connection, 1);
    }

    #[test]
    fn a_batch_that_would_have_to_wait_grows() {
        let now = Now::read();
        let (mut intakes, batches) = intakes(1, r#"{ "maxRows": 10, "maxBytes": 400 }"#, 1024);
        let intake = &mut intakes[0];
        (0..50).for_each(|_| accept(intake, now));
        let mut taken = batches.try_recv().unwrap();
        assert_eq!((taken.rows(), batches.len(), intake.is_sealing()), (10, 1, true));
        intake.seal_due(now.instant);
        assert!(intake.is_sealing(), "as long as no worker takes one");
        taken.place = None;
        intake.seal_due(now.instant);
        assert_eq!((batches.len(), intake.is_sealing()), (2, false));
        // 100 numbers of 32 bits are as many bytes as a batch may have, however many wait.
        (0..100).for_each(|_| accept(intake, now));
        assert!(intake.is_sealing());
        intake.seal_due(now.instant);
        let rows: Vec<usize> = batches.try_iter().map(|batch| batch.rows()).collect();
        assert_eq!(rows, [10, 30, 100]);
    }
}
