//! The retry loop of one INSERT: attempts until it is confirmed, until something else must be done, or until the pipeline is
//! cancelled. INSERTs of batches, of the spool and of dead letters go through it.

use std::mem;
use std::ops::ControlFlow;
use std::time::{Duration, Instant, SystemTime};

use crate::clickhouse::error_class::{ErrorClass, Failure};
use crate::clickhouse::insert_request::{Insert, ViewMode};
use crate::clickhouse::servers::Servers;
use crate::core::backoff::Backoff;
use crate::core::error::Error;
use crate::telemetry::context::PipelineContext;
use crate::telemetry::events::Warning;
use crate::telemetry::faults::OpenFault;
use crate::telemetry::trace::{self, Trace, millis};

/// An INSERT that the retry loop makes.
pub(crate) trait RetriedInsert {
    /// How the loop ends.
    type End;

    /// Gets ready for the next attempt. `Break` ends the loop without one; `None` means that all is cancelled.
    async fn prepare(&mut self) -> Option<ControlFlow<Self::End>> {
        Some(ControlFlow::Continue(()))
    }

    /// The next attempt. Its bytes are those of the last one, unless [`RetriedInsert::prepare`] made other ones.
    fn insert(&self) -> Insert<'_>;

    fn rows(&self) -> usize;

    fn trace(&mut self) -> Option<&mut Trace> {
        None
    }

    /// The fault that fails the attempts. It may have been met before this loop.
    fn fault(&mut self) -> &mut OpenFault;

    fn servers(&self) -> &Servers;

    fn servers_mut(&mut self) -> &mut Servers;

    /// Waits before the next attempt. `None`: cancelled.
    async fn wait(&mut self, wait: Duration) -> Option<()>;

    /// Since when an earlier attempt may have been made that the loop knows nothing of.
    fn attempted_since(&self) -> Option<Instant> {
        None
    }

    /// The statement that inserts the rows that the table lacks, of those sent at most `seconds` ago.
    fn repair(&self, _seconds: u64) -> Option<String> {
        None
    }

    /// ClickHouse has the rows.
    fn confirmed(&mut self) -> Self::End;

    /// Decides what to do after a failure. `may_be_in`: an earlier attempt may have brought the rows
    /// in, so that they must not be sent under another token.
    async fn failed(&mut self, failure: &Failure, may_be_in: bool) -> Next<Self::End>;

    /// The end where a failure would be waited for and has been for too long. `None`: it is not too long yet.
    fn give_up(&mut self, _: &Failure, _may_be_in: bool) -> Option<Self::End> {
        None
    }
}

/// The step after a failed attempt.
pub(crate) enum Next<End> {
    /// The same attempt after a wait.
    Wait,
    /// Another attempt at once: what is sent has changed.
    Retry,
    End(End),
}

/// The attempts at one INSERT, and the waits between them.
pub(crate) struct RetryLoop<'a> {
    pub(super) context: &'a PipelineContext,
    pub(super) table: &'a str,
    backoff: Backoff,
    began: SystemTime,
    attempts: u32,
    /// Ambiguous failures until another server is tried.
    patience: u32,
    /// An attempt may have succeeded: another server may not know its token and is not asked at once.
    ambiguous: bool,
    /// The same, where ClickHouse itself did not say no: when the first of these attempts began.
    may_be_in_since: Option<Instant>,
    /// The next attempt is made over a new connection.
    is_fresh: bool,
}

/// After this number of ambiguous failures in a row at one server another one is tried.
const PATIENCE: u32 = 3;
/// The shortest wait before a mistake of an operator is tried again.
pub const SLOW: Duration = Duration::from_secs(1);

impl<'a> RetryLoop<'a> {
    pub fn new(context: &'a PipelineContext, table: &'a str) -> RetryLoop<'a> {
        let backoff = Backoff::new(context.config.clickhouse.retry);
        RetryLoop {
            context,
            table,
            backoff,
            began: SystemTime::now(),
            attempts: 0,
            patience: PATIENCE,
            ambiguous: false,
            may_be_in_since: None,
            is_fresh: false,
        }
    }

    /// Attempts the INSERT until its end. `None`: cancelled.
    pub async fn run<I: RetriedInsert>(mut self, retried: &mut I) -> Option<I::End> {
        loop {
            if let ControlFlow::Break(end) = retried.prepare().await? {
                return Some(end);
            }
            let began = Instant::now();
            let Err(failure) = self.attempt(retried).await? else {
                let since = [self.may_be_in_since, retried.attempted_since()].into_iter().flatten().min();
                if let Some(since) = since {
                    self.verify(retried, since).await?;
                }
                self.close_fault(retried);
                self.record(retried, None);
                retried.servers_mut().found();
                return Some(retried.confirmed());
            };
            if failure.may_be_in() {
                self.may_be_in_since.get_or_insert(began);
            }
            let may_be_in = self.may_be_in_since.is_some();
            if failure.class == ErrorClass::KeptConnectionEnded {
                (self.ambiguous, self.is_fresh) = (true, true);
                self.context.metrics.count_retry(self.table);
                continue;
            }
            match retried.failed(&failure, may_be_in).await {
                Next::Wait => {
                    if let Some(end) = retried.give_up(&failure, may_be_in) {
                        self.record(retried, Some(&failure.error));
                        return Some(end);
                    }
                    let wait = self.choose_wait(retried, &failure);
                    retried.wait(wait).await?;
                }
                Next::Retry => self.context.metrics.count_retry(self.table),
                Next::End(end) => {
                    self.record(retried, Some(&failure.error));
                    return Some(end);
                }
            }
        }
    }

    /// One attempt. `None`: cancelled meanwhile.
    async fn attempt(&mut self, retried: &impl RetriedInsert) -> Option<Result<Option<u64>, Failure>> {
        let began = Instant::now();
        let is_fresh = mem::take(&mut self.is_fresh);
        self.attempts += 1;
        let server = retried.servers().current();
        let insert = retried.insert();
        let attempt = tokio::select! {
            biased;
            () = self.context.cancelled() => return None,
            attempt = insert.attempt(server, &self.context.config.clickhouse, is_fresh) => attempt,
        };
        if attempt.is_ok() && retried.rows() > 0 {
            self.context.metrics.insert_latency.record(began.elapsed(), 1);
        }
        Some(attempt)
    }

    /// Rows are in: what failed INSERTs into the table has ended.
    fn close_fault(&self, retried: &mut impl RetriedInsert) {
        if retried.rows() == 0 {
            return;
        }
        let failures = retried.fault().close();
        if failures > 0 {
            let message = format!("{}: inserted after {failures} failures", self.table);
            let warning = Warning::new("CLICKHOUSE_RECOVERED", message).table(self.table);
            self.context.warn(warning.failures(failures));
        }
    }

    /// Records how the attempts ended, for a sampled batch. A dry run inserts nothing, and does not
    /// count as an INSERT.
    fn record(&self, retried: &mut impl RetriedInsert, refused: Option<&Error>) {
        let insert = retried.insert();
        if insert.views == ViewMode::DryRun {
            return;
        }
        let record = trace::Insert {
            token: insert.token.into(),
            url: retried.servers().current().url.clone(),
            rows: retried.rows(),
            bytes: insert.block_bytes,
            attempts: self.attempts,
            began: millis(self.began),
            ended: millis(SystemTime::now()),
            refused: refused.map(Error::to_string),
        };
        if let Some(trace) = retried.trace() {
            trace.insert(record);
        }
    }

    /// Chooses the server for the next attempt, and its time.
    fn choose_wait(&mut self, retried: &mut impl RetriedInsert, failure: &Failure) -> Duration {
        let servers = retried.servers_mut();
        let mut wait = self.backoff.failed();
        match failure.class {
            // Nothing was sent, so asking another server at once does no harm.
            ErrorClass::NotSent if !self.ambiguous => {
                if servers.lose(Instant::now()) {
                    wait = Duration::ZERO;
                }
            }
            ErrorClass::NotSent
            | ErrorClass::Retry
            | ErrorClass::TimedOut
            | ErrorClass::KeptConnectionEnded
            | ErrorClass::Unconfirmed => {
                self.ambiguous = true;
                self.patience -= 1;
                if self.patience == 0 {
                    self.patience = PATIENCE;
                    servers.advance(Instant::now());
                }
            }
            // ClickHouse said no: nothing of it is in.
            ErrorClass::TooLarge | ErrorClass::MaybeTooLarge => {}
            ErrorClass::RetrySlowly
            | ErrorClass::ViewLimit
            | ErrorClass::Refused
            | ErrorClass::RefusedByView => {
                wait = wait.max(SLOW.min(self.context.config.clickhouse.retry.max));
            }
        }
        self.context.metrics.count_retry(self.table);
        let code = match failure.class {
            ErrorClass::Unconfirmed => "INSERT_UNCONFIRMED",
            _ => "CLICKHOUSE_RETRYING",
        };
        let message = format!("{}: {}; trying again in {} ms", self.table, failure.error, wait.as_millis());
        let warning = Warning::new(code, message).table(self.table).error(&failure.error);
        self.context.warn_of_fault(retried.fault(), warning.retry_in(wait));
        wait
    }
}
