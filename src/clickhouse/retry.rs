//! One INSERT, again and again until it is confirmed, refused for good, or the pipeline is cancelled.

use std::time::{Duration, Instant, SystemTime};

use crate::clickhouse::error_class::{Failure, Verdict};
use crate::clickhouse::insert_request::{Insert, Views};
use crate::clickhouse::servers::Servers;
use crate::core::backoff::Backoff;
use crate::core::error::Error;
use crate::ingest::context::Shared;
use crate::telemetry::metrics::add;
use crate::telemetry::trace::{self, Trace, millis};

pub enum Outcome {
    Confirmed,
    Refused(Error),
    Cancelled,
}

/// Attempts an INSERT until its end.
pub async fn deliver(shared: &Shared, servers: &mut Servers, insert: &Insert<'_>, table: &str) -> Outcome {
    let mut attempts = Attempts::new(shared, table);
    loop {
        let Some(attempt) = attempts.make(servers, insert).await else { return Outcome::Cancelled };
        match attempt {
            Ok(()) => return Outcome::Confirmed,
            Err(Failure { error, verdict: Verdict::Refused | Verdict::RefusedByView }) => {
                return Outcome::Refused(error);
            }
            Err(failure) => {
                if attempts.wait(servers, &failure).await.is_none() {
                    return Outcome::Cancelled;
                }
            }
        }
    }
}

/// The attempts at one INSERT, and the waits between them.
pub struct Attempts<'a> {
    shared: &'a Shared,
    table: &'a str,
    backoff: Backoff,
    began: SystemTime,
    /// How many there were.
    made: u32,
    patience: u32,
    /// Once an attempt may have succeeded, another server is not asked lightly: it may not know of the token.
    ambiguous: bool,
}

/// So many ambiguous failures in a row at one server are enough to try another.
const PATIENCE: u32 = 3;
/// The shortest wait before a mistake of an operator is tried again.
pub const SLOW: Duration = Duration::from_secs(1);

impl<'a> Attempts<'a> {
    pub fn new(shared: &'a Shared, table: &'a str) -> Attempts<'a> {
        let backoff = Backoff::new(shared.config.clickhouse.retry);
        Attempts {
            shared,
            table,
            backoff,
            began: SystemTime::now(),
            made: 0,
            patience: PATIENCE,
            ambiguous: false,
        }
    }

    /// `None`: cancelled.
    pub async fn make(&mut self, servers: &Servers, insert: &Insert<'_>) -> Option<Result<(), Failure>> {
        let began = Instant::now();
        self.made += 1;
        let (client, url) = servers.current();
        let attempt = tokio::select! {
            biased;
            () = self.shared.cancelled() => return None,
            attempt = insert.attempt(client, url, &self.shared.config.clickhouse) => attempt,
        };
        if attempt.is_ok() {
            self.shared.metrics.insert_latency.record(began.elapsed(), 1);
            let failures = self.backoff.failures();
            if failures > 0 {
                let message = format!("{}: inserted after {failures} failures", self.table);
                self.shared.warn("CLICKHOUSE_RECOVERED", message);
            }
        }
        Some(attempt)
    }

    /// Notes how they ended. A trial brings nothing in, and is no INSERT.
    pub fn note(
        &self,
        trace: Option<&mut Trace>,
        servers: &Servers,
        insert: &Insert<'_>,
        rows: usize,
        refused: Option<&Error>,
    ) {
        let Some(trace) = trace.filter(|_| insert.views != Views::Tried) else { return };
        trace.insert(trace::Insert {
            token: insert.token.into(),
            url: servers.current().1.into(),
            rows,
            bytes: insert.body.bytes(),
            attempts: self.made,
            began: millis(self.began),
            ended: millis(SystemTime::now()),
            refused: refused.map(Error::to_string),
        });
    }

    /// Chooses the server for the next attempt, and waits for its time. `None`: cancelled.
    pub async fn wait(&mut self, servers: &mut Servers, failure: &Failure) -> Option<()> {
        let mut wait = self.backoff.failed();
        match failure.verdict {
            // Nothing was sent, so no harm is in asking another server at once.
            Verdict::NotSent if !self.ambiguous => {
                if servers.lose(Instant::now()) {
                    wait = Duration::ZERO;
                }
            }
            Verdict::NotSent | Verdict::Retry => {
                self.ambiguous = true;
                self.patience -= 1;
                if self.patience == 0 {
                    self.patience = PATIENCE;
                    servers.advance(Instant::now());
                }
            }
            Verdict::RetrySlowly | Verdict::Refused | Verdict::RefusedByView => {
                wait = wait.max(SLOW.min(self.shared.config.clickhouse.retry.max));
            }
        }
        add(&self.shared.metrics.inserts_retried, 1);
        self.shared.warn(
            "CLICKHOUSE_RETRYING",
            format!("{}: {}; trying again in {} ms", self.table, failure.error, wait.as_millis()),
        );
        tokio::select! {
            biased;
            () = self.shared.cancelled() => None,
            () = tokio::time::sleep(wait) => Some(()),
        }
    }
}
