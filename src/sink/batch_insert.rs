//! The messages of a batch, or a part of them, as one INSERT: made anew whenever the table has changed.

use std::ops::{ControlFlow, Range};
use std::slice;
use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::clickhouse::error_class::{ErrorClass, Failure};
use crate::clickhouse::insert_request::{Insert, ViewMode};
use crate::clickhouse::retry::{Next, RetriedInsert, RetryLoop};
use crate::clickhouse::servers::Servers;
use crate::core::lock::lock;
use crate::ingest::batch::Batch;
use crate::ingest::encoded_rows::EncodedRows;
use crate::sink::expiry::final_reason;
use crate::sink::parts::{Division, SmallerParts};
use crate::sink::worker::{RejectedRows, Worker};
use crate::telemetry::faults::OpenFault;
use crate::telemetry::trace::Trace;

/// The end of an INSERT.
pub(super) enum InsertOutcome {
    /// All messages are in but these.
    Inserted(RejectedRows),
    Rejected(Rejection),
    /// The messages cannot be inserted together, for this reason. None of them is in.
    TooLarge(Arc<str>),
    /// They failed for too long, the last time for this reason.
    Expired(Arc<str>),
}

/// After this number of failures in a row that its size may cause, an INSERT counts as too large.
pub(super) const SIZE_PATIENCE: u32 = 3;

/// ClickHouse refuses rows because of their data.
pub(super) struct Rejection {
    pub reason: Arc<str>,
    pub by_view: bool,
}

struct BatchInsert<'a> {
    worker: &'a mut Worker,
    batch: &'a mut Batch,
    chosen: &'a [Range<usize>],
    token: &'a str,
    views: ViewMode,
    encoded: Option<EncodedRows>,
    size_failures: u32,
    /// In a row.
    refusals: u32,
}

impl Worker {
    /// Inserts a batch; if ClickHouse refuses it, inserts its good rows. `encoded` is what the batch is already. `None`:
    /// cancelled.
    pub(super) async fn insert_with_isolation(
        &mut self,
        batch: &mut Batch,
        encoded: Option<EncodedRows>,
        token: &str,
    ) -> Option<RejectedRows> {
        let all = 0..batch.messages.len();
        let chosen = slice::from_ref(&all);
        let mut division = Division::none(token, all.len());
        if let Some(parts) = self.kept_parts(batch, token) {
            division.parts.clone_from(&parts);
            return self.insert_parts(batch, &mut division, parts).await;
        }
        // An INSERT that was sent undivided may be in.
        let is_new = self.attempted_since.is_none() && !self.may_be_in;
        if is_new && let Some(parts) = self.known_parts(batch).await? {
            self.divide_further(batch, &mut division, chosen, &parts).await?;
            return self.insert_parts(batch, &mut division, parts).await;
        }
        match self.insert_until_settled(batch, encoded, chosen, token, ViewMode::Normal).await? {
            InsertOutcome::Inserted(rejected) => {
                self.servers.advance(Instant::now());
                self.plans.record_bisect_ok(batch.route);
                self.plans.record_part_ok(batch.route);
                Some(rejected)
            }
            InsertOutcome::Rejected(rejection) => self.insert_good_rows(batch, division, rejection).await,
            InsertOutcome::Expired(reason) => Some(self.expire(batch, chosen, reason)),
            InsertOutcome::TooLarge(reason) => {
                let SmallerParts { parts, halved } = self.smaller_parts(batch, chosen, &reason).await?;
                self.warn_split(batch, parts.len(), &reason);
                if let Some(half) = halved {
                    self.plans.record_part_limit(batch.route, half);
                }
                self.divide_further(batch, &mut division, chosen, &parts).await?;
                self.insert_parts(batch, &mut division, parts).await
            }
        }
    }

    /// Inserts the good rows of an INSERT that was refused undivided. `None`: cancelled.
    pub(super) async fn insert_good_rows(
        &mut self,
        batch: &mut Batch,
        mut division: Division,
        rejection: Rejection,
    ) -> Option<RejectedRows> {
        let all = 0..batch.messages.len();
        let (chosen, token, reason) =
            (slice::from_ref(&all), division.token.clone(), rejection.reason.clone());
        match self.isolate_bad_rows(batch, &mut division, chosen, &token, rejection).await? {
            Some(rejected) => Some(rejected),
            None if self.is_expired(batch) => Some(self.expire(batch, chosen, reason)),
            // Its parts are noted, and the undivided INSERT is not sent again.
            None if division.parts.len() > 1 => {
                let parts = division.parts.clone();
                self.insert_parts(batch, &mut division, parts).await
            }
            None => Box::pin(self.insert_with_isolation(batch, None, &token)).await,
        }
    }

    /// Inserts the chosen messages, again and again until ClickHouse has them or refuses them. `encoded` is what they are
    /// already. `None`: cancelled.
    pub(super) async fn insert_until_settled(
        &mut self,
        batch: &mut Batch,
        encoded: Option<EncodedRows>,
        chosen: &[Range<usize>],
        token: &str,
        views: ViewMode,
    ) -> Option<InsertOutcome> {
        let context = self.context.clone();
        let table = &context.config.route(batch.route).table;
        let mut insert =
            BatchInsert { worker: self, batch, chosen, token, views, encoded, size_failures: 0, refusals: 0 };
        RetryLoop::new(&context, table).run(&mut insert).await
    }
}

impl BatchInsert<'_> {
    fn encoded(&self) -> &EncodedRows {
        self.encoded.as_ref().expect("prepare() made it before the attempt")
    }
}

impl RetriedInsert for BatchInsert<'_> {
    type End = InsertOutcome;

    async fn prepare(&mut self) -> Option<ControlFlow<InsertOutcome>> {
        let BatchInsert { worker, batch, chosen, encoded, .. } = self;
        let expires_at = worker.expires_at(batch);
        let plan = match worker.plan(batch.route, expires_at).await? {
            Ok(plan) => plan,
            Err(fault) => return Some(ControlFlow::Break(InsertOutcome::Expired(fault))),
        };
        let encoded = match encoded {
            Some(encoded) if encoded.plan.generation == plan.generation => encoded,
            stale => {
                *stale = None;
                let context = worker.context.clone();
                let _alone = lock(&context.decoding_again);
                let route = context.config.route(batch.route);
                stale.insert(EncodedRows::decode(batch, chosen, plan, route, &mut worker.packer))
            }
        };
        let kept = batch.messages.memory_bytes() + batch.kept_bytes();
        batch.completion.reserve(kept + encoded.block.memory_bytes);
        if encoded.rows == 0 {
            let rejected = std::mem::take(&mut encoded.rejected);
            return Some(ControlFlow::Break(InsertOutcome::Inserted(rejected)));
        }
        Some(ControlFlow::Continue(()))
    }

    fn insert(&self) -> Insert<'_> {
        let EncodedRows { plan, block, rows, .. } = self.encoded();
        Insert {
            sql: &plan.sql,
            frames: slice::from_ref(&block.frames),
            rows: *rows as u64,
            block_bytes: block.block_bytes,
            token: self.token,
            views: self.views,
        }
    }

    fn rows(&self) -> usize {
        self.encoded().rows
    }

    fn attempted_since(&self) -> Option<Instant> {
        self.worker.attempted_since
    }

    fn repair(&self, seconds: u64) -> Option<String> {
        // Tries on views store nothing, and rows that views do not get are not all there is.
        let repair = self.encoded().plan.repair.as_ref().filter(|_| self.views == ViewMode::Normal)?;
        Some(repair.statement(seconds))
    }

    fn trace(&mut self) -> Option<&mut Trace> {
        self.batch.trace.as_deref_mut()
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
        let context = self.worker.context.clone();
        self.worker.wait(&context.config.route(self.batch.route).table, wait).await
    }

    fn confirmed(&mut self) -> InsertOutcome {
        let BatchInsert { worker, batch, views, encoded, .. } = self;
        let encoded = encoded.take().expect("prepare() made it before the attempt");
        if *views == ViewMode::Normal {
            let table = &worker.context.config.route(batch.route).table;
            let (rows, bytes) = (encoded.rows as u64, encoded.block.block_bytes as u64);
            worker.context.metrics.count_insert(table, rows, bytes);
        }
        worker.packer.reuse(encoded.block);
        InsertOutcome::Inserted(encoded.rejected)
    }

    async fn failed(&mut self, failure: &Failure, may_be_in: bool) -> Next<InsertOutcome> {
        let may_be_in = may_be_in || self.worker.may_be_in;
        let Failure { error, class } = failure;
        if !matches!(class, ErrorClass::TooLarge | ErrorClass::Refused) {
            self.refusals = 0;
        } else {
            self.refusals += 1;
            if !self.worker.believes_refusal(may_be_in, self.refusals) {
                return Next::Wait;
            }
        }
        let is_refused = match class {
            ErrorClass::Refused | ErrorClass::RefusedByView => true,
            ErrorClass::RetrySlowly => false,
            ErrorClass::TooLarge | ErrorClass::MaybeTooLarge => {
                self.size_failures += 1;
                let is_sure = *class == ErrorClass::TooLarge || self.size_failures >= SIZE_PATIENCE;
                let is_one = self.chosen.iter().map(Range::len).sum::<usize>() == 1;
                // A single message that exceeds today's limits may be accepted after they change.
                if !is_sure || may_be_in || (is_one && *class == ErrorClass::MaybeTooLarge) {
                    return Next::Wait;
                }
                return Next::End(InsertOutcome::TooLarge(error.to_string().into()));
            }
            _ => return Next::Wait,
        };
        // The table may have changed, and the rows may be good.
        let Worker { context, plans, .. } = &*self.worker;
        let (route, generation) = (self.batch.route, self.encoded().plan.generation);
        self.worker.refresh_schema(route, context.config.clickhouse.connect_timeout).await;
        if plans.current(route).map_or(true, |now| now.generation != generation) {
            return Next::Retry;
        }
        if !is_refused {
            return Next::Wait;
        }
        context.metrics.count_failed(&context.config.route(route).table);
        let by_view = *class == ErrorClass::RefusedByView;
        Next::End(InsertOutcome::Rejected(Rejection { reason: error.to_string().into(), by_view }))
    }

    fn give_up(&mut self, failure: &Failure, may_be_in: bool) -> Option<InsertOutcome> {
        let is_expired = self.worker.is_expired(self.batch);
        is_expired.then(|| InsertOutcome::Expired(final_reason(&failure.error, may_be_in)))
    }
}
