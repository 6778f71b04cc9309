//! INSERTs from the spool: blocks that are sent as they lie there, under the token that was decided when they were written.
//!
//! What ClickHouse does not take so, and what was made for a table that has changed since, becomes a batch again, decoded
//! from its messages, and goes the way of every batch, under the same token.

use std::sync::atomic::Ordering;
use std::time::SystemTime;

use super::answer::{Failure, Verdict};
use super::delivery::Attempts;
use super::request::{Body, Insert, Views};
use super::worker::Worker;
use crate::batch::{Batch, Messages};
use crate::dead_letters::{Code, DeadLetter, Letters, Reason};
use crate::intake::Now;
use crate::metrics::add;
use crate::spool::{self, Handover, Told, messages};
use crate::trace::Trace;

enum Stored {
    In,
    /// It is to be decoded again from these messages, for this route.
    Anew(usize, String, Messages),
    /// Refused, and no route of the configuration says how its messages are decoded.
    Refused(Reason, Messages),
}

impl Worker {
    pub(super) async fn insert_stored(&mut self, mut handover: Handover) {
        let teller = handover.ticket.teller.clone();
        add(&self.shared.metrics.inserts_in_flight, 1);
        let stored = self.put_stored(&handover.insert, &mut handover.trace).await;
        let Handover { insert, group, owed, counted_bytes, ticket, trace } = handover;
        match stored {
            None => self.shared.memory.subtract(counted_bytes),
            Some(Stored::In) => {
                if let Some(trace) = trace {
                    self.tell(trace, &insert.records[0].lane.table, 0);
                }
                let now = SystemTime::now();
                for record in &insert.records {
                    let latency = now.duration_since(record.received_at).unwrap_or_default();
                    self.shared.metrics.end_to_end_latency.record(latency, u64::from(record.messages));
                }
                let messages = insert.records.iter().map(|record| u64::from(record.messages)).sum();
                self.shared.memory.subtract(counted_bytes);
                self.shared.settle(insert.records[0].lane.connection as usize, owed);
                self.shared.ledger.close(group, messages, 0);
                ticket.settled();
            }
            Some(Stored::Anew(route, client_id, messages)) => {
                let mut batch = Batch {
                    group,
                    route,
                    connection: insert.records[0].lane.connection as usize,
                    client_id,
                    plan: self.plans.latest(route),
                    columns: Vec::new(),
                    messages,
                    owed,
                    opened_at: std::time::Instant::now(),
                    counted_bytes,
                    ticket: Some(ticket),
                    trace,
                };
                drop(insert.records);
                let end = self.bring_in(&mut batch, None, &insert.token).await;
                self.end(batch, end);
            }
            Some(Stored::Refused(reason, messages)) => {
                if let Some(trace) = trace {
                    self.tell(trace, &insert.records[0].lane.table, messages.len());
                }
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
                (letters.owed, letters.ticket) = (owed, Some(ticket));
                self.shared.memory.add(letters.bytes);
                self.shared.memory.subtract(counted_bytes);
                let _ = self.letters.send(letters);
            }
        }
        self.shared.metrics.inserts_in_flight.fetch_sub(1, Ordering::Relaxed);
        // Gone only where the spool's thread has panicked.
        let _ = teller.send(Told::Free);
    }

    /// `None`: cancelled.
    async fn put_stored(&mut self, insert: &spool::Insert, trace: &mut Option<Box<Trace>>) -> Option<Stored> {
        let shared = self.shared.clone();
        let spool::Record { lane, statement, .. } = &*insert.records[0];
        let route = shared
            .config
            .routes
            .iter()
            .position(|route| route.topic.as_str() == lane.route && route.table == lane.table);
        let mut attempts = Attempts::new(&shared, &lane.table);
        loop {
            if let Some(at) = route
                && self.plan(at).await?.sql != *statement
                && let Some((client_id, messages)) = decoded(insert)
            {
                return Some(Stored::Anew(at, client_id, messages));
            }
            let attempt = Insert {
                sql: statement,
                body: Body::Framed(&insert.records),
                token: &insert.token,
                views: Views::Filled,
            };
            let rows: u64 = insert.records.iter().map(|record| u64::from(record.rows)).sum();
            let Err(failure) = attempts.make(&self.servers, &attempt).await? else {
                attempts.note(trace.as_deref_mut(), &self.servers, &attempt, rows as usize, None);
                self.servers.found();
                self.servers.advance(std::time::Instant::now());
                if let Some(at) = route {
                    self.plans.relieve(at);
                }
                let bytes = insert.records.iter().map(|record| u64::from(record.block_bytes)).sum();
                shared.metrics.count_insert(&lane.table, rows, bytes);
                return Some(Stored::In);
            };
            // Perhaps the table is another one than when the blocks were made, perhaps rows are bad. Where the messages can
            // not be read, all that is left is to try again.
            let is_about_rows = matches!(failure.verdict, Verdict::Refused | Verdict::RefusedByView);
            if (is_about_rows || (failure.verdict == Verdict::RetrySlowly && route.is_some()))
                && let Some((client_id, messages)) = decoded(insert)
            {
                let trace = trace.as_deref_mut();
                attempts.note(trace, &self.servers, &attempt, rows as usize, Some(&failure.error));
                add(&shared.metrics.inserts_retried, 1);
                return Some(match route {
                    Some(at) => Stored::Anew(at, client_id, messages),
                    None => Stored::Refused(refused(&failure), messages),
                });
            }
            attempts.wait(&mut self.servers, &failure).await?;
        }
    }
}

fn refused(failure: &Failure) -> Reason {
    let message =
        format!("{}; no route decodes it again, so it was not tried alone and may be good", failure.error);
    Reason::new(Code::RejectedByClickHouse, message)
}

/// The messages of all its records, and the client id under which they came.
fn decoded(insert: &spool::Insert) -> Option<(String, Messages)> {
    let (now, mut messages) = (Now::read(), Messages::default());
    let mut client_id = String::new();
    for record in &insert.records {
        client_id = messages::decode(&record.raw, now, &mut messages)?;
    }
    Some((client_id, messages))
}
