//! Checks broker and tables before a start: the findings name each fault and its remedy.
//!
//! Nothing is consumed and nothing is written. ClickHouse is asked about its tables and given an INSERT of no rows, which it
//! judges like any other ([`tables`]). The broker is visited under a client id of our own, outside of the shared group
//! ([`broker`]); on request messages are decoded as they come, which are copies ([`sample`]), transforms are called with their
//! rows ([`transforms`]), examples show how their times were understood ([`times`]) and which numbers lose digits
//! ([`precision`]), [`rules`] says which rows a route drops, and ClickHouse says of which partitions they are ([`stored`]). Each fault
//! becomes a [`Finding`] and the check continues, so that a user sees all faults at once.

mod advice;
mod broker;
mod columns;
pub mod generate_types;
mod precision;
mod rules;
mod sample;
mod stored;
mod tables;
mod times;
mod tls_probe;
mod transforms;

/// The rows of sample payloads, for tables that do not exist yet.
pub use crate::decode::sample_rows;

use serde::Serialize;

use crate::config::{CheckOptions, Config, DeadLetters, Spool};
use crate::core::error::{Error, Result};
use crate::core::thread::{run_on, runtime};
use crate::pipeline::stages::check_reachable;
use crate::spool::inspect;
use crate::spool::wal::storage::Directory;
use crate::transform::TransformHosts;
use broker::Broker;
use sample::Sample;
use tables::{RouteReport, Server};

/// The findings of a check.
#[derive(Debug, Default, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Report {
    pub findings: Vec<Finding>,
    /// By URL.
    pub brokers: Vec<Broker>,
    pub clickhouse: Vec<Server>,
    pub routes: Vec<RouteReport>,
    /// If one was asked for.
    pub sample: Option<Sample>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub enum Level {
    /// A pipeline would not start, or would lose or refuse what it is given.
    Error,
    /// It would start, and something is not as it should be.
    Warning,
    /// A fact that the check cannot determine, or that the user should know.
    Note,
}

#[derive(Debug, Serialize)]
pub struct Finding {
    pub level: Level,
    pub code: &'static str,
    /// The option that it is about.
    pub path: Option<String>,
    pub message: String,
    /// How to fix it.
    pub advice: Option<String>,
}

impl Report {
    fn add_finding(
        &mut self,
        level: Level,
        code: &'static str,
        path: impl Into<String>,
        message: impl Into<String>,
        advice: impl Into<String>,
    ) {
        let some = |text: String| Some(text).filter(|text| !text.is_empty());
        self.findings.push(Finding {
            level,
            code,
            path: some(path.into()),
            message: message.into(),
            advice: some(advice.into()),
        });
    }

    /// Adds an error with which `start()` would fail. `path` counts where the error names none.
    fn fail(&mut self, error: &Error, path: &str, advice: impl Into<String>) {
        let path = error.path().unwrap_or(path);
        self.add_finding(Level::Error, error.code(), path, error.to_string(), advice);
    }
}

/// Checks everything. An error is one of the configuration itself.
pub fn check(config: &Config, options: &CheckOptions, hosts: &TransformHosts) -> Result<Report> {
    let is_taken = |at| options.client_id.is_some() && config.mqtt.client_id_of(at) == options.client_id;
    if (0..config.mqtt.connections).any(is_taken) {
        let message = "must not be the pipeline's own: the visit would end its connection and its session";
        return Err(Error::config("options.clientId", message));
    }
    run_on(runtime()?, async {
        let mut report = Report::default();
        check_configuration(config, &mut report);
        if let Some(spool) = &config.spool {
            check_spool(spool, &mut report);
        }
        let tables = tables::check(config, &mut report).await;
        let is_there = broker::check_brokers(config, options, &mut report).await;
        if let (Some(limits), Some(url)) = (&options.sample, is_there) {
            report.sample = sample::take(config, options, limits, &url, tables, hosts, &mut report).await;
        }
        report.findings.sort_by_key(|finding| finding.level as u8);
        Ok(report)
    })
}

/// Checks the options alone.
fn check_configuration(config: &Config, report: &mut Report) {
    if let Err(error) = check_reachable(&config.routes) {
        report.fail(&error, "routes", "put the narrower route first, or leave one of them out");
    }
    if config.mqtt.client_id.is_none() && config.highest_qos() > 0 {
        report.add_finding(
            Level::Note,
            "SESSION_CLEAN",
            "mqtt.clientId",
            "without a clientId the session ends with the connection: what is published while the pipeline is away never \
             comes",
            "give it a clientId that nobody else uses",
        );
    } else if config.highest_qos() > 0 {
        report.add_finding(
            Level::Note,
            "QUEUE_UNKNOWN",
            "mqtt.clientId",
            "no broker states how many messages it keeps for a client that is away: mosquitto keeps 1000 by default and drops \
             what comes after them",
            "set the broker's limit to what comes in the longest outage, such as max_queued_messages of mosquitto",
        );
    }
    if config.mqtt.tls.insecure {
        report.add_finding(
            Level::Warning,
            "TLS_INSECURE",
            "mqtt.tls.insecure",
            "any certificate is taken: whoever is on the way to the broker can read and change everything, the password \
             included",
            "name the authority of the broker's certificate in mqtt.tls.ca instead",
        );
    }
    if let DeadLetters { table: None, dir: None } = config.dead_letters {
        report.add_finding(
            Level::Warning,
            "DEAD_LETTERS_NOT_KEPT",
            "deadLetters",
            "messages that cannot become rows are told by an event and kept nowhere",
            "set deadLetters.table or deadLetters.dir",
        );
    }
}

/// Reports messages from an earlier run; a directory that does not exist is made at start.
fn check_spool(spool: &Spool, report: &mut Report) {
    const PATH: &str = "spool.dir";
    if !spool.dir.exists() {
        return;
    }
    let found = match inspect(&Directory::open_read_only(&spool.dir)) {
        Ok(found) => found,
        Err(error) => return report.fail(&error, PATH, "give it a directory of its own, which we may write"),
    };
    let waiting: u64 = found.streams.iter().map(|backlog| backlog.messages).sum();
    if waiting > 0 {
        let message = format!("{waiting} messages wait there: of a pipeline at work, or for the next start");
        report.add_finding(Level::Note, "SPOOL_NOT_EMPTY", PATH, message, "");
    }
    let places = found.damages.len() + found.breaks.len();
    if places > 0 {
        report.add_finding(
            Level::Warning,
            "SPOOL_DAMAGED",
            PATH,
            format!("{places} places there cannot be read, or are gone, although they were synced"),
            "look at the disk; the next start puts aside what is left, `millrace spool` says where",
        );
    }
    if let Some(first) = found.foreign.first() {
        let message = format!("{} files there are not the spool's, such as {first}", found.foreign.len());
        report.add_finding(
            Level::Warning,
            "SPOOL_FOREIGN_FILES",
            PATH,
            message,
            "give it a directory of its own",
        );
    }
}
