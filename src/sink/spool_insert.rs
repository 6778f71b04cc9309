//! INSERTs from the spool: blocks that are sent as they lie there, under the token that was decided when they were written.
//!
//! What was made for a table that has changed since is decoded again from the messages beside the blocks, and of what
//! ClickHouse refuses the good rows are found in the same way as of any batch, under the same token.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Instant, SystemTime};

use crate::clickhouse::error_class::{Failure, Verdict};
use crate::clickhouse::insert_request::{Body, Insert, Views};
use crate::clickhouse::retry::Attempts;
use crate::core::ack_history::Acknowledged;
use crate::core::chunk_pool::Pieces;
use crate::core::clock::Now;
use crate::core::dead_letter::DeadLetter;
use crate::core::error::Error;
use crate::core::reason::{Code, Reason};
use crate::dead_letter::Letters;
use crate::ingest::batch::Batch;
use crate::ingest::raw_messages::Messages;
use crate::sink::worker::{Refusal, Worker};
use crate::spool::{self, Handover, Record, Told, messages};
use crate::telemetry::metrics::add;
use crate::telemetry::trace::Trace;

/// The end of what was sent as it was stored.
enum Stored {
    In,
    /// It is to be decoded again, for this route.
    Anew(usize, Decoded),
    /// Refused for its rows. Without a route nothing says how they are decoded.
    Refused(Option<usize>, Decoded, Refusal),
}

struct Decoded {
    client_id: String,
    messages: Messages,
}

/// What a ClickHouse says that cannot make one block of many.
const UNKNOWN_SETTING: u32 = 115;

impl Worker {
    pub(super) async fn insert_stored(&mut self, handover: Handover) {
        let teller = handover.ticket.teller.clone();
        add(&self.shared.metrics.inserts_in_flight, 1);
        self.bring_in_stored(handover).await;
        self.shared.metrics.inserts_in_flight.fetch_sub(1, Ordering::Relaxed);
        // The spool's thread waits for all tickets; it is only gone if it panicked.
        let _ = teller.send(Told::Free);
    }

    async fn bring_in_stored(&mut self, mut handover: Handover) {
        match self.put_stored(&handover.insert, &mut handover.trace).await {
            None => self.shared.memory.subtract(handover.counted_bytes),
            Some(Stored::In) => self.confirmed_stored(handover),
            Some(Stored::Anew(route, decoded)) => {
                let (token, mut batch) = self.batch(handover, route, decoded);
                let end = self.bring_in(&mut batch, None, &token).await;
                self.end(batch, end);
            }
            Some(Stored::Refused(Some(route), decoded, refusal)) => {
                let (token, mut batch) = self.batch(handover, route, decoded);
                let all = 0..batch.messages.len();
                let end = self.tell_apart(&mut batch, all, &token, refusal).await;
                self.end(batch, end);
            }
            Some(Stored::Refused(None, decoded, refusal)) => {
                self.dead_letter_all(handover, &decoded.messages, &refusal);
            }
        }
    }

    /// Sends the blocks again and again until ClickHouse has them or something else must be done. `None`: cancelled.
    async fn put_stored(&mut self, insert: &spool::Insert, trace: &mut Option<Box<Trace>>) -> Option<Stored> {
        let shared = self.shared.clone();
        let Record { lane, statement, .. } = &*insert.records[0];
        let mut routes = shared.config.routes.iter();
        let route = routes.position(|route| route.topic.as_str() == lane.route && route.table == lane.table);
        let mut attempts = Attempts::new(&shared, &lane.table);
        let rows = insert.records.iter().map(|record| record.rows as usize).sum();
        loop {
            let mut generation = 0;
            if let Some(route) = route {
                let plan = self.plan(route).await?;
                generation = plan.generation;
                if (plan.sql != *statement || (self.squashes_itself && insert.records.len() > 1))
                    && let Some(decoded) = Decoded::from(insert, &self.shared.pieces)
                {
                    return Some(Stored::Anew(route, decoded));
                }
            }
            let body = Body::Stored(&insert.records);
            let attempt = Insert { sql: statement, body, token: &insert.token, views: Views::Filled };
            let Err(failure) = attempts.make(&self.servers, &attempt).await? else {
                attempts.note(trace.as_deref_mut(), &self.servers, &attempt, rows, None);
                self.put_is_in(insert, route);
                return Some(Stored::In);
            };
            if let Some(stored) = self.judge(insert, route, generation, &failure).await {
                attempts.note(trace.as_deref_mut(), &self.servers, &attempt, rows, Some(&failure.error));
                return Some(stored);
            }
            attempts.wait(&mut self.servers, &failure).await?;
        }
    }

    fn put_is_in(&mut self, insert: &spool::Insert, route: Option<usize>) {
        self.servers.found();
        self.servers.advance(Instant::now());
        if let Some(route) = route {
            self.plans.relieve(route);
        }
        let rows = insert.records.iter().map(|record| u64::from(record.rows)).sum();
        let bytes = insert.records.iter().map(|record| u64::from(record.block_bytes)).sum();
        self.shared.metrics.count_insert(&insert.records[0].lane.table, rows, bytes);
    }

    /// What follows from a failure. `None`: the same is tried again; so is what cannot be decoded, rather than given up.
    async fn judge(
        &mut self,
        insert: &spool::Insert,
        route: Option<usize>,
        generation: u64,
        failure: &Failure,
    ) -> Option<Stored> {
        if matches!(failure.error, Error::ClickHouseRejected { exception: Some(UNKNOWN_SETTING), .. }) {
            self.squashes_itself = true;
        }
        let is_refused = matches!(failure.verdict, Verdict::Refused | Verdict::RefusedByView);
        if !is_refused && (failure.verdict != Verdict::RetrySlowly || route.is_none()) {
            return None;
        }
        let decoded = Decoded::from(insert, &self.shared.pieces)?;
        if let Some(route) = route {
            // The blocks may have been made before this process knew the table.
            self.look(route, self.shared.config.clickhouse.connect_timeout).await;
            if !is_refused || self.plans.current(route).map_or(true, |now| now.generation != generation) {
                add(&self.shared.metrics.inserts_retried, 1);
                return Some(Stored::Anew(route, decoded));
            }
        }
        add(&self.shared.metrics.inserts_failed, 1);
        let by_view = failure.verdict == Verdict::RefusedByView;
        Some(Stored::Refused(route, decoded, Refusal { reason: failure.error.to_string().into(), by_view }))
    }

    /// The messages of an INSERT as a batch, and its token.
    fn batch(&self, handover: Handover, route: usize, decoded: Decoded) -> (String, Box<Batch>) {
        let Handover { insert, group, owed, counted_bytes, ticket, trace } = handover;
        let batch = Box::new(Batch {
            group,
            route,
            connection: insert.records[0].lane.connection as usize,
            client_id: decoded.client_id,
            plan: self.plans.latest(route),
            columns: Vec::new(),
            messages: decoded.messages,
            owed,
            receipts: Acknowledged::of_session(0),
            opened_at: Instant::now(),
            counted_bytes,
            ticket: Some(ticket),
            place: None,
            trace,
        });
        (insert.token, batch)
    }

    fn confirmed_stored(&self, handover: Handover) {
        let Handover { insert, group, owed, counted_bytes, ticket, trace } = handover;
        if let Some(trace) = trace {
            self.tell(trace, &insert.records[0].lane.table, 0);
        }
        let now = SystemTime::now();
        for record in &insert.records {
            let latency = now.duration_since(record.received_at).unwrap_or_default();
            self.shared.metrics.end_to_end_latency.record(latency, u64::from(record.messages));
        }
        self.shared.memory.subtract(counted_bytes);
        self.shared.settle(insert.records[0].lane.connection as usize, owed);
        let messages = insert.records.iter().map(|record| u64::from(record.messages)).sum();
        self.shared.ledger.close(group, messages, 0);
        ticket.settled();
    }

    fn dead_letter_all(&self, handover: Handover, messages: &Messages, refusal: &Refusal) {
        let Handover { insert, group, owed, counted_bytes, ticket, trace } = handover;
        if let Some(trace) = trace {
            self.tell(trace, &insert.records[0].lane.table, messages.len());
        }
        let reason = format!("{}; no route is left to tell its messages apart", refusal.reason);
        let reason = Reason::new(Code::RejectedByClickHouse, reason);
        let mut letters = Letters::new(group, insert.records[0].lane.connection as usize);
        for message in messages.iter() {
            letters.push(DeadLetter {
                received_at: message.received.system,
                route: None,
                topic: message.topic.into(),
                payload: message.payload.into(),
                reason: reason.clone(),
            });
        }
        letters.owed = owed;
        letters.ticket = Some(ticket);
        self.shared.memory.add(letters.bytes);
        self.shared.memory.subtract(counted_bytes);
        // The writer ends after all workers.
        let _ = self.letters.send(letters);
    }
}

impl Decoded {
    /// `None`: they cannot be read.
    fn from(insert: &spool::Insert, pieces: &Arc<Pieces>) -> Option<Decoded> {
        let mut decoded = Decoded { client_id: String::new(), messages: Messages::new(pieces.clone()) };
        let now = Now::read();
        for record in &insert.records {
            decoded.client_id = messages::decode(&record.raw, now, &mut decoded.messages)?;
        }
        Some(decoded)
    }
}
