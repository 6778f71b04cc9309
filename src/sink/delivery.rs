//! One INSERT, again and again until it is confirmed, refused for good, or the pipeline is cancelled.

use std::time::{Duration, Instant};

use super::answer::{Failure, Verdict};
use super::request::Insert;
use super::worker::Servers;
use crate::backoff::Backoff;
use crate::error::Error;
use crate::metrics::add;
use crate::shared::Shared;

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
        Attempts { shared, table, backoff, made: 0, patience: PATIENCE, ambiguous: false }
    }

    pub fn made(&self) -> u32 {
        self.made
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
