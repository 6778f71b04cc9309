//! After a restart of ClickHouse between two attempts: whether the rows that it confirms are there.
//!
//! A plain MergeTree notes the token of an INSERT before the part is in its place. If the server ends in between, the next
//! attempt is taken for a repetition: it is confirmed, and nothing is there. The answer is the same as
//! that of an INSERT that succeeded. So a confirmation is verified where three things come together: an
//! earlier attempt of which the outcome is not known, a server that has been started since, and a table
//! that can lose rows so. Then the rows are sent again as an INSERT of those that the table lacks
//! ([`RepairSql`](crate::clickhouse::schema::RepairSql)), under a token of its own.

use std::time::{Duration, Instant};

use serde::Deserialize;

use crate::clickhouse::client::Server;
use crate::clickhouse::error_class::{ACCESS_DENIED, ErrorClass, Failure};
use crate::clickhouse::insert_request::Insert;
use crate::clickhouse::retry::{RetriedInsert, RetryLoop};
use crate::clickhouse::schema;
use crate::core::backoff::Backoff;
use crate::core::error::Error;
use crate::telemetry::events::Warning;

/// Clocks of a machine that was restarted, and the second in which parts are dated, are off by less.
const SLACK: Duration = Duration::from_secs(60);
/// After this number of failures in a row that the amount of data causes, the rows are settled
/// unverified.
const PATIENCE: u32 = 5;
/// Exceptions that the next look will get too.
const BLIND: [u32; 4] = [
    46,  // UNKNOWN_FUNCTION
    115, // UNKNOWN_SETTING
    164, // READONLY
    ACCESS_DENIED,
];

#[derive(Deserialize)]
struct UptimeRow {
    seconds: u64,
}

/// How long the server has been running, to the second.
async fn uptime(server: &Server) -> Result<Duration, Error> {
    let rows: Vec<UptimeRow> = schema::rows(server, "SELECT toUInt32(uptime()) AS seconds", &[]).await?;
    Ok(Duration::from_secs(rows.first().map_or(0, |row| row.seconds)))
}

/// The INSERT that brings back what is lost. Its own token can be left behind in a crash as well: after a restart it takes
/// another one. Before that it keeps it, since an attempt without an answer may still be at work.
#[derive(Default)]
struct Repair {
    restarts: u32,
    /// When it was sent first under the token of now.
    sent_at: Option<Instant>,
}

/// The result of a verification.
enum Verified {
    /// The rows are there; this number of them was inserted again.
    There(u64),
    /// It cannot be determined.
    Unknown(Error),
}

impl RetryLoop<'_> {
    /// Makes sure that confirmed rows are there, which were sent before at `since`. `None`: cancelled.
    pub(super) async fn verify(&self, retried: &mut impl RetriedInsert, since: Instant) -> Option<()> {
        let mut backoff = Backoff::new(self.context.config.clickhouse.retry);
        let (mut repair, mut too_large) = (Repair::default(), 0);
        loop {
            let failure = tokio::select! {
                biased;
                () = self.context.cancelled() => return None,
                looked = self.verify_once(retried, since, &mut repair) => match looked {
                    Ok(Verified::There(0)) => return Some(()),
                    Ok(Verified::There(rows)) => {
                        self.warn_of_lost_rows(rows);
                        return Some(());
                    }
                    Ok(Verified::Unknown(error)) => {
                        self.warn_of_doubt(&error);
                        return Some(());
                    }
                    Err(failure) => failure,
                },
            };
            let is_too_large = matches!(failure.class, ErrorClass::TimedOut | ErrorClass::MaybeTooLarge);
            too_large = if is_too_large { too_large + 1 } else { 0 };
            if too_large == PATIENCE {
                self.warn_of_doubt(&failure.error);
                return Some(());
            }
            let wait = backoff.failed();
            self.context.metrics.count_retry(self.table);
            let (table, error) = (self.table, &failure.error);
            let message = format!(
                "{table}: whether rows are there that ClickHouse has confirmed: {error}; looking again in {} ms",
                wait.as_millis()
            );
            let warning = Warning::new("CLICKHOUSE_RETRYING", message).table(table).error(error);
            self.context.warn_of_fault(retried.fault(), warning.retry_in(wait));
            retried.wait(wait).await?;
        }
    }

    async fn verify_once(
        &self,
        retried: &impl RetriedInsert,
        since: Instant,
        repair: &mut Repair,
    ) -> Result<Verified, Failure> {
        let server = retried.servers().current();
        match uptime(server).await {
            Ok(uptime) if uptime > since.elapsed() => return Ok(Verified::There(0)),
            Ok(uptime) => {
                if repair.sent_at.is_some_and(|at| uptime <= at.elapsed()) {
                    *repair = Repair { restarts: repair.restarts + 1, sent_at: None };
                }
            }
            Err(error @ Error::ClickHouseUnreachable { .. }) => {
                return Err(Failure { error, class: ErrorClass::NotSent });
            }
            Err(error) => return Err(Failure { error, class: ErrorClass::Retry }),
        }
        let age = (since.elapsed() + SLACK).as_secs();
        let Some(sql) = retried.repair(age) else { return Ok(Verified::There(0)) };
        let insert = retried.insert();
        repair.sent_at.get_or_insert_with(Instant::now);
        let token = match repair.restarts {
            0 => format!("{}-again", insert.token),
            restarts => format!("{}-again-{restarts}", insert.token),
        };
        let lacking = Insert { sql: &sql, rows: 0, token: &token, ..insert };
        match lacking.attempt(server, &self.context.config.clickhouse, true).await {
            Ok(written) => Ok(Verified::There(written.unwrap_or(0))),
            Err(Failure {
                error: error @ Error::ClickHouseRejected { exception: Some(code), .. }, ..
            }) if BLIND.contains(&code) => Ok(Verified::Unknown(error)),
            Err(failure) => Err(failure),
        }
    }

    fn warn_of_lost_rows(&self, rows: u64) {
        let message = format!(
            "{}: ClickHouse was restarted between two attempts and confirmed an INSERT of which {rows} rows were not there: \
             they are inserted again",
            self.table
        );
        self.context.warn(Warning::new("ROWS_RESTORED", message).table(self.table).rows(rows));
    }

    fn warn_of_doubt(&self, error: &Error) {
        let message = format!(
            "{}: ClickHouse was restarted between two attempts and confirms an INSERT of which the rows may be lost, and \
             whether they are there cannot be seen: {error}",
            self.table
        );
        self.context.warn(Warning::new("INSERT_UNVERIFIED", message).table(self.table).error(error));
    }
}
