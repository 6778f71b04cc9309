//! Whether ClickHouse takes an INSERT of no rows with the same statement and settings.
//!
//! A row is at fault only if it is refused where such an INSERT is not: what fails for every row is the fault of the
//! statement, a setting, the server or the network. Then no row is condemned, and the INSERT is made again.

use std::ops::ControlFlow;
use std::slice;
use std::time::{Duration, Instant};

use crate::clickhouse::error_class::Failure;
use crate::clickhouse::insert_request::{Insert, ViewMode};
use crate::clickhouse::retry::{Next, RetriedInsert, RetryLoop};
use crate::clickhouse::servers::Servers;
use crate::core::backoff::random_bits;
use crate::ingest::batch::Batch;
use crate::ingest::encoded_rows::EncodedRows;
use crate::sink::worker::Worker;
use crate::telemetry::faults::OpenFault;

struct ControlInsert<'a> {
    worker: &'a mut Worker,
    route: usize,
    token: String,
    encoded: Option<EncodedRows>,
    failures: u32,
    expires_at: Option<Instant>,
}

impl Worker {
    /// Inserts no rows, again and again until ClickHouse takes that, or the batch is too old to be waited for. `true`: it did
    /// at once, so that rows which it refused are at fault. `None`: cancelled.
    pub(super) async fn control_insert(&mut self, batch: &Batch) -> Option<bool> {
        let (context, route, expires_at) = (self.context.clone(), batch.route, self.expires_at(batch));
        let table = &context.config.route(route).table;
        let token = format!("control-{:016x}", random_bits());
        let mut insert = ControlInsert { worker: self, route, token, encoded: None, failures: 0, expires_at };
        RetryLoop::new(&context, table).run(&mut insert).await
    }
}

impl RetriedInsert for ControlInsert<'_> {
    type End = bool;

    async fn prepare(&mut self) -> Option<ControlFlow<bool>> {
        let Ok(plan) = self.worker.plan(self.route, self.expires_at).await? else {
            return Some(ControlFlow::Break(false));
        };
        let columns = plan.block_columns(self.worker.context.config.route(self.route));
        self.encoded = Some(EncodedRows::new(plan, &columns, Vec::new(), &mut self.worker.packer));
        Some(ControlFlow::Continue(()))
    }

    fn insert(&self) -> Insert<'_> {
        let EncodedRows { plan, block, .. } =
            self.encoded.as_ref().expect("prepare() made it before the attempt");
        Insert {
            sql: &plan.sql,
            frames: slice::from_ref(&block.frames),
            rows: 0,
            block_bytes: block.block_bytes,
            token: &self.token,
            views: ViewMode::Normal,
        }
    }

    fn rows(&self) -> usize {
        0
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
        self.worker.wait(&context.config.route(self.route).table, wait).await
    }

    fn confirmed(&mut self) -> bool {
        self.failures == 0
    }

    async fn failed(&mut self, _: &Failure, _: bool) -> Next<bool> {
        self.failures += 1;
        Next::Wait
    }

    fn give_up(&mut self, _: &Failure, _: bool) -> Option<bool> {
        self.expires_at.is_some_and(|at| at <= Instant::now()).then_some(false)
    }
}
