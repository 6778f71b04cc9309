//! INSERTs from the spool: blocks that are sent as they lie there, under the token that was decided when they were written.
//!
//! If the table has changed since, the rows are decoded again from the messages beside the blocks; if ClickHouse refuses
//! rows, the good ones are found as those of any batch. Both happen under the same token.

use std::ops::ControlFlow;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use bytes::Bytes;

use crate::clickhouse::error_class::{ErrorClass, Failure};
use crate::clickhouse::insert_request::{Insert, ViewMode};
use crate::clickhouse::retry::{Next, RetriedInsert, RetryLoop};
use crate::clickhouse::servers::Servers;
use crate::core::ack_history::AckHistory;
use crate::core::chunk_pool::ChunkPool;
use crate::core::clock::ReceiveTime;
use crate::core::dead_letter::DeadLetter;
use crate::core::error::Error;
use crate::core::reason::{Code, Reason};
use crate::core::shard::Shard;
use crate::ingest::batch::Batch;
use crate::ingest::completion::Completion;
use crate::ingest::dead_letter_batch::DeadLetterBatch;
use crate::ingest::kept_rows::KeptRows;
use crate::ingest::raw_messages::RawMessages;
use crate::ingest::table_plan::TablePlan;
use crate::sink::batch_insert::{Rejection, SIZE_PATIENCE};
use crate::sink::expiry::{final_reason, opened_at};
use crate::sink::parts::Division;
use crate::sink::worker::Worker;
use crate::spool::{self, InsertJob, Record, messages, stored_dead_letters, stored_rows};
use crate::telemetry::faults::OpenFault;
use crate::telemetry::trace::Trace;

/// The end of an INSERT that was sent as it was stored.
enum SpoolInsertOutcome {
    Inserted,
    /// The messages are to be decoded again, for this route.
    Redecode(usize, Decoded),
    /// Refused for its rows. Without a route nothing says how they are decoded.
    Rejected(Option<usize>, Decoded, Rejection),
    /// Failed for too long, the last time for this reason.
    Expired(Option<usize>, Decoded, Arc<str>),
}

struct Decoded {
    client_id: String,
    messages: RawMessages,
    /// Rows that a transform changed.
    kept: Option<Box<KeptRows>>,
}

struct SpoolInsert<'a> {
    worker: &'a mut Worker,
    insert: &'a spool::Insert,
    frames: Vec<Bytes>,
    route: Option<usize>,
    /// The route's plan at the last attempt.
    plan: Option<Arc<TablePlan>>,
    trace: Option<&'a mut Trace>,
    size_failures: u32,
    /// In a row.
    refusals: u32,
}

/// ClickHouse's code where it does not know a setting that makes one block of many.
const UNKNOWN_SETTING: u32 = 115;

impl Worker {
    pub(super) async fn insert_from_spool(&mut self, job: InsertJob) {
        let InsertJob { insert, cuts, completion, permit, mut trace } = job;
        self.spool_permit = Some(permit);
        if stored_dead_letters::is_of_dead_letters(&insert.records[0]) {
            self.dead_letter_stored(&insert, completion);
            self.spool_permit = None;
            return;
        }
        self.set_in_flight(true);
        self.attempted_since = insert.may_be_attempted.then(|| opened_at(&insert));
        let is_divided = cuts.has(insert.id);
        self.spooled = Some((insert.id, cuts));
        let outcome = match is_divided.then(|| self.divided(&insert)).flatten() {
            Some(divided) => Some(divided),
            None => self.send_stored(&insert, trace.as_deref_mut()).await,
        };
        match outcome {
            // Cancelled: the completion is dropped unsettled.
            None => {}
            Some(SpoolInsertOutcome::Inserted) => {
                self.set_in_flight(false);
                self.settle_stored(&insert, completion, trace);
            }
            Some(SpoolInsertOutcome::Redecode(route, decoded)) => {
                let mut batch = self.batch(&insert, route, completion, decoded, trace);
                let token = into_token(insert);
                let rejected = self.insert_with_isolation(&mut batch, None, &token).await;
                self.set_in_flight(false);
                self.settle(batch, rejected, &token);
            }
            Some(SpoolInsertOutcome::Rejected(Some(route), decoded, rejection)) => {
                let mut batch = self.batch(&insert, route, completion, decoded, trace);
                let token = into_token(insert);
                let division = Division::none(&token, batch.messages.len());
                let rejected = self.insert_good_rows(&mut batch, division, rejection).await;
                self.set_in_flight(false);
                self.settle(batch, rejected, &token);
            }
            Some(SpoolInsertOutcome::Rejected(None, decoded, rejection)) => {
                let reason = format!("{}; no route is left to tell its messages apart", rejection.reason);
                let reason = Reason::new(Code::RejectedByClickHouse, reason);
                self.dead_letter_all(&insert, completion, &decoded.messages, None, reason, trace);
            }
            Some(SpoolInsertOutcome::Expired(route, decoded, reason)) => {
                self.set_in_flight(false);
                let table = &insert.records[0].stream.table;
                let reason = self.expiry(table, route, decoded.messages.len(), &reason);
                self.dead_letter_all(&insert, completion, &decoded.messages, route, reason, trace);
            }
        }
        (self.spool_permit, self.spooled) = (None, None);
        (self.attempted_since, self.may_be_in) = (None, false);
    }

    /// An INSERT that was divided once keeps its parts: some of them may be inserted.
    fn divided(&self, insert: &spool::Insert) -> Option<SpoolInsertOutcome> {
        let route = self.route_of(insert)?;
        let decoded = Decoded::from(insert, &self.context.chunk_pool)?;
        Some(SpoolInsertOutcome::Redecode(route, decoded))
    }

    fn route_of(&self, insert: &spool::Insert) -> Option<usize> {
        let key = &insert.records[0].stream;
        self.route_named(Shard::split_name(&key.route).0, &key.table)
    }

    fn route_named(&self, name: &str, table: &str) -> Option<usize> {
        let config = &self.context.config;
        // Where a route was replaced, the last one with its name counts, as after a restart.
        let mut places = (0..config.places()).rev();
        let is_it = |at: &usize| config.route(*at).table == table && config.stream_name(*at) == name;
        places.find(is_it).or_else(|| config.topic_table(name, table))
    }

    /// Sends the blocks again and again until ClickHouse has them or something else must be done. `None`: cancelled.
    async fn send_stored(
        &mut self,
        insert: &spool::Insert,
        trace: Option<&mut Trace>,
    ) -> Option<SpoolInsertOutcome> {
        let context = self.context.clone();
        let key = &insert.records[0].stream;
        let route = self.route_of(insert);
        let frames = insert.records.iter().map(|record| record.block.clone()).collect();
        let mut attempt = SpoolInsert {
            worker: self,
            insert,
            frames,
            route,
            plan: None,
            trace,
            size_failures: 0,
            refusals: 0,
        };
        RetryLoop::new(&context, &key.table).run(&mut attempt).await
    }

    /// The messages of an INSERT as a batch.
    fn batch(
        &self,
        insert: &spool::Insert,
        route: usize,
        mut completion: Completion,
        decoded: Decoded,
        trace: Option<Box<Trace>>,
    ) -> Box<Batch> {
        completion.reserve(decoded.messages.memory_bytes());
        Box::new(Batch {
            completion,
            route,
            shard: Shard::split_name(&insert.records[0].stream.route).1,
            connection: insert.records[0].stream.connection as usize,
            client_id: decoded.client_id,
            plan: self.plans.latest(route),
            columns: Vec::new(),
            reused_bytes: 0,
            messages: decoded.messages,
            receipts: AckHistory::of_session(0),
            opened_at: opened_at(insert),
            queue_permit: None,
            trace,
            companions: Vec::new(),
            rejected: None,
            inputs: None,
            calls: None,
            message_rows: None,
            kept: decoded.kept,
        })
    }

    fn settle_stored(&self, insert: &spool::Insert, completion: Completion, trace: Option<Box<Trace>>) {
        if let Some(trace) = trace {
            self.report_trace(trace, &insert.records[0].stream.table, 0);
        }
        let now = SystemTime::now();
        for record in &insert.records {
            let latency = now.duration_since(record.received_at).unwrap_or_default();
            self.context.metrics.end_to_end_latency.record(latency, u64::from(record.messages));
        }
        completion.inserted(insert.records.iter().map(|record| u64::from(record.messages)).sum());
    }

    /// Sends the dead letters of an INSERT without rows to the store.
    fn dead_letter_stored(&self, insert: &spool::Insert, completion: Completion) {
        let (name, table) = stored_dead_letters::route_and_table(&insert.records[0].stream);
        let route = self.route_named(name, table);
        let mut dead_letters = DeadLetterBatch::new(completion);
        for record in &insert.records {
            let mut messages = RawMessages::new(self.context.chunk_pool.clone());
            let reasons = messages::decode(&record.raw, ReceiveTime::read(), &mut messages)
                .and_then(|(_, stored)| stored_dead_letters::reasons(stored, messages.len()));
            // One that cannot be read was written by another version: its messages say so.
            let unreadable = Reason::new(Code::RejectedByTransform, "the spool does not say why");
            for (at, message) in messages.iter().enumerate() {
                let reason =
                    reasons.as_ref().map_or_else(|| unreadable.clone(), |reasons| reasons[at].clone());
                dead_letters.push(DeadLetter {
                    received_at: message.received.system,
                    route,
                    topic: message.topic.into(),
                    payload: message.payload.into(),
                    reason,
                });
            }
        }
        let unreadable = insert.records.iter().map(|record| u64::from(record.messages)).sum::<u64>()
            - dead_letters.dead_letters.len() as u64;
        dead_letters.completion.unreadable_in_part(unreadable);
        self.send_dead_letters(dead_letters, 0, Some(&insert.token));
    }

    fn dead_letter_all(
        &self,
        insert: &spool::Insert,
        completion: Completion,
        messages: &RawMessages,
        route: Option<usize>,
        reason: Reason,
        trace: Option<Box<Trace>>,
    ) {
        if let Some(trace) = trace {
            self.report_trace(trace, &insert.records[0].stream.table, messages.len());
        }
        let mut dead_letters = DeadLetterBatch::new(completion);
        for message in messages.iter() {
            dead_letters.push(DeadLetter {
                received_at: message.received.system,
                route,
                topic: message.topic.into(),
                payload: message.payload.into(),
                reason: reason.clone(),
            });
        }
        self.send_dead_letters(dead_letters, 0, Some(&insert.token));
    }
}

impl RetriedInsert for SpoolInsert<'_> {
    type End = SpoolInsertOutcome;

    async fn prepare(&mut self) -> Option<ControlFlow<SpoolInsertOutcome>> {
        let SpoolInsert { worker, insert, route, plan: last_plan, .. } = self;
        let Some(route) = *route else { return Some(ControlFlow::Continue(())) };
        let plan = match worker.plan(route, worker.spooled_expires_at(insert)).await? {
            Ok(plan) => plan,
            Err(fault) => match Decoded::from(insert, &worker.context.chunk_pool) {
                Some(decoded) => {
                    let end = SpoolInsertOutcome::Expired(Some(route), decoded, fault);
                    return Some(ControlFlow::Break(end));
                }
                // A record that cannot be decoded is sent as it is in the spool.
                None => return Some(ControlFlow::Continue(())),
            },
        };
        *last_plan = Some(plan.clone());
        let is_stale = plan.sql != insert.records[0].statement;
        if (is_stale || (worker.lacks_block_squashing && insert.records.len() > 1))
            && let Some(decoded) = Decoded::from(insert, &worker.context.chunk_pool)
        {
            return Some(ControlFlow::Break(SpoolInsertOutcome::Redecode(route, decoded)));
        }
        Some(ControlFlow::Continue(()))
    }

    fn insert(&self) -> Insert<'_> {
        let SpoolInsert { insert, frames, .. } = self;
        Insert {
            sql: &insert.records[0].statement,
            frames,
            rows: self.rows() as u64,
            block_bytes: insert.records.iter().map(|record| record.block_bytes as usize).sum(),
            token: &insert.token,
            views: ViewMode::Normal,
        }
    }

    fn rows(&self) -> usize {
        self.insert.records.iter().map(|record| record.rows as usize).sum()
    }

    fn attempted_since(&self) -> Option<Instant> {
        self.worker.attempted_since
    }

    fn repair(&self, seconds: u64) -> Option<String> {
        // It is for blocks of the plan's columns.
        let plan = self.plan.as_ref().filter(|plan| plan.sql == self.insert.records[0].statement)?;
        Some(plan.repair.as_ref()?.statement(seconds))
    }

    fn trace(&mut self) -> Option<&mut Trace> {
        self.trace.as_deref_mut()
    }

    fn fault(&mut self) -> &mut OpenFault {
        &mut self.worker.fault
    }

    fn servers(&self) -> &Servers {
        &self.worker.servers
    }

    fn servers_mut(&mut self) -> &mut Servers {
        &mut self.worker.servers
    }

    async fn wait(&mut self, wait: Duration) -> Option<()> {
        let table = self.insert.records[0].stream.table.clone();
        self.worker.wait(&table, wait).await
    }

    fn confirmed(&mut self) -> SpoolInsertOutcome {
        let Worker { servers, plans, context, .. } = &mut *self.worker;
        servers.advance(Instant::now());
        if let Some(route) = self.route {
            plans.record_bisect_ok(route);
        }
        let Record { stream, .. } = &*self.insert.records[0];
        let records = self.insert.records.iter();
        let (rows, bytes) = records.fold((0, 0), |(rows, bytes), record| {
            (rows + u64::from(record.rows), bytes + u64::from(record.block_bytes))
        });
        context.metrics.count_insert(&stream.table, rows, bytes);
        SpoolInsertOutcome::Inserted
    }

    /// Tries the records again that cannot be decoded again; none is given up.
    async fn failed(&mut self, failure: &Failure, may_be_in: bool) -> Next<SpoolInsertOutcome> {
        let Failure { error, class } = failure;
        if may_be_in {
            self.worker.may_be_in = true;
            self.worker.attempted_since.get_or_insert_with(|| opened_at(self.insert));
        }
        if matches!(error, Error::ClickHouseRejected { exception: Some(UNKNOWN_SETTING), .. }) {
            self.worker.lacks_block_squashing = true;
        }
        if !matches!(class, ErrorClass::TooLarge | ErrorClass::Refused) {
            self.refusals = 0;
        } else {
            self.refusals += 1;
            if !self.worker.believes_refusal(may_be_in, self.refusals) {
                return Next::Wait;
            }
        }
        if matches!(class, ErrorClass::TooLarge | ErrorClass::MaybeTooLarge) {
            return self.too_large(*class, may_be_in);
        }
        let is_refused = matches!(class, ErrorClass::Refused | ErrorClass::RefusedByView);
        if !is_refused && (*class != ErrorClass::RetrySlowly || self.route.is_none()) {
            return Next::Wait;
        }
        let Worker { context, plans, .. } = &*self.worker;
        let Some(decoded) = Decoded::from(self.insert, &context.chunk_pool) else { return Next::Wait };
        if let Some(route) = self.route {
            // The blocks may have been made before this process knew the table.
            self.worker.refresh_schema(route, context.config.clickhouse.connect_timeout).await;
            if !is_refused || plans.current(route).map_or(true, |now| now.generation != self.generation()) {
                context.metrics.count_retry(&self.insert.records[0].stream.table);
                return Next::End(SpoolInsertOutcome::Redecode(route, decoded));
            }
        }
        context.metrics.count_failed(&self.insert.records[0].stream.table);
        let by_view = *class == ErrorClass::RefusedByView;
        let rejection = Rejection { reason: error.to_string().into(), by_view };
        Next::End(SpoolInsertOutcome::Rejected(self.route, decoded, rejection))
    }

    fn give_up(&mut self, failure: &Failure, may_be_in: bool) -> Option<SpoolInsertOutcome> {
        let expires_at = self.worker.spooled_expires_at(self.insert)?;
        if expires_at > Instant::now() {
            return None;
        }
        let decoded = Decoded::from(self.insert, &self.worker.context.chunk_pool)?;
        let reason = final_reason(&failure.error, may_be_in);
        Some(SpoolInsertOutcome::Expired(self.route, decoded, reason))
    }
}

impl SpoolInsert<'_> {
    fn generation(&self) -> u64 {
        self.plan.as_ref().map_or(0, |plan| plan.generation)
    }

    /// Decodes records that may be too large as they are in the spool, and inserts them in parts.
    fn too_large(&mut self, class: ErrorClass, may_be_in: bool) -> Next<SpoolInsertOutcome> {
        self.size_failures += 1;
        let is_sure = class == ErrorClass::TooLarge || self.size_failures >= SIZE_PATIENCE;
        let (Some(route), true, false) = (self.route, is_sure, may_be_in) else { return Next::Wait };
        match Decoded::from(self.insert, &self.worker.context.chunk_pool) {
            Some(decoded) => Next::End(SpoolInsertOutcome::Redecode(route, decoded)),
            None => Next::Wait,
        }
    }
}

/// The token, without the records: their messages were decoded.
fn into_token(insert: spool::Insert) -> String {
    insert.token
}

impl Decoded {
    /// The messages of all records. `None`: they cannot be read.
    fn from(insert: &spool::Insert, pool: &Arc<ChunkPool>) -> Option<Decoded> {
        let mut decoded =
            Decoded { client_id: String::new(), messages: RawMessages::new(pool.clone()), kept: None };
        let now = ReceiveTime::read();
        for record in &insert.records {
            let (client_id, rows) = messages::decode(&record.raw, now, &mut decoded.messages)?;
            decoded.client_id = client_id;
            if rows.is_empty() {
                continue;
            }
            let [messages, count] = [record.messages, record.rows].map(|count| count as usize);
            let kept = stored_rows::decode(rows, &record.block, messages, count)?;
            match &mut decoded.kept {
                // Records of one INSERT have one statement, and so the same columns.
                Some(before) => before.append(&kept).then_some(())?,
                before => *before = Some(Box::new(kept)),
            }
        }
        Some(decoded)
    }
}
