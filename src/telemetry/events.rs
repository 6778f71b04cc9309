//! Events of a pipeline for its owner. The binding turns them into JavaScript events.

use std::fmt::{self, Debug, Display, Formatter};
use std::path::Path;
use std::time::Duration;

use serde::{Serialize, Serializer};
use serde_json::{Map, Value};

use crate::core::dead_letter::DeadLetter;
use crate::core::error::Error;
use crate::core::memory_budget::MemoryReservation;
use crate::core::topic_tables::route_place;
use crate::telemetry::metrics::Metrics;
use crate::telemetry::trace::Trace;

#[derive(Debug)]
pub enum Event {
    Metrics(Box<Metrics>),
    /// They count as memory until JavaScript has them.
    DeadLetters(Vec<DeadLetter>, MemoryReservation),
    State {
        state: &'static str,
        previous: &'static str,
    },
    Warning(Box<Warning>),
    /// Fields of a message that no column takes, as JSON for each of its rows: for a table that grows.
    UnknownFields {
        route: usize,
        rows: Vec<String>,
    },
    /// The trace of a sampled batch that has been settled.
    Trace(Box<Trace>),
    /// It cannot go on by itself.
    Error(Error),
    /// All events that were emitted before it have been delivered.
    Delivered(Delivered),
}

/// Calls a function when it is dropped: when the owner has received it, or at once where the owner takes no more events.
pub struct Delivered(Option<Box<dyn FnOnce() + Send>>);

impl Delivered {
    pub fn new(call: impl FnOnce() + Send + 'static) -> Delivered {
        Delivered(Some(Box::new(call)))
    }
}

impl Drop for Delivered {
    fn drop(&mut self) {
        if let Some(call) = self.0.take() {
            call();
        }
    }
}

impl Debug for Delivered {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        f.write_str("Delivered")
    }
}

/// Called from any thread; must not block.
pub type Listener = Box<dyn Fn(Event) + Send + Sync>;

/// A condition that ends by itself or that an operator should change.
///
/// `message` is for people. Its numbers and names are also fields, under the names of `Warning` in
/// `index.d.ts`, so that no program has to read the text. A field is there only where it applies.
#[derive(Debug)]
pub struct Warning {
    pub code: &'static str,
    pub message: String,
    fields: Map<String, Value>,
}

impl Warning {
    pub fn new(code: &'static str, message: impl Into<String>) -> Warning {
        Warning { code, message: message.into(), fields: Map::new() }
    }

    /// The values of the text, as fields.
    pub fn fields(&self) -> &Map<String, Value> {
        &self.fields
    }

    fn field(mut self, name: &str, value: impl Into<Value>) -> Warning {
        self.fields.insert(name.into(), value.into());
        self
    }

    /// As the configuration names it.
    pub fn table(self, table: &str) -> Warning {
        self.field("table", table)
    }

    /// Its position in `routes`.
    pub fn route(self, route: usize) -> Warning {
        self.field("route", route_place(route))
    }

    pub fn column(self, column: &str) -> Warning {
        self.field("column", column)
    }

    /// The path of a value in the payload.
    pub fn path(self, path: &str) -> Warning {
        self.field("path", path)
    }

    pub fn client_id(self, client_id: &str) -> Warning {
        self.field("clientId", client_id)
    }

    /// The fault alone, without its place and what is done about it.
    pub fn reason(self, reason: impl Display) -> Warning {
        self.field("reason", reason.to_string())
    }

    /// The reason, with its code, its server, and ClickHouse's own code and name for it.
    pub fn error(self, error: &Error) -> Warning {
        let warning = self.reason(error).field("errorCode", error.code());
        match error {
            Error::ClickHouseUnreachable { url, .. }
            | Error::ClickHouseAnswer { url, .. }
            | Error::MqttUnreachable { url, .. }
            | Error::MqttRefused { url, code: None, .. } => warning.field("url", url.as_str()),
            Error::MqttRefused { url, code: Some(code), .. } => {
                warning.field("url", url.as_str()).field("reasonCode", *code)
            }
            Error::ClickHouseRejected { exception, name, .. } => {
                let warning = match exception {
                    Some(code) => warning.field("clickhouseCode", *code),
                    None => warning,
                };
                match name {
                    Some(name) => warning.field("clickhouseName", name.as_str()),
                    None => warning,
                }
            }
            Error::SpoolIo { dir, .. } => warning.field("dir", dir.as_str()),
            _ => warning,
        }
    }

    /// How long until it is tried again.
    pub fn retry_in(self, wait: Duration) -> Warning {
        self.field("retryInMs", millis(wait))
    }

    pub fn topic(self, topic: &str) -> Warning {
        self.field("topic", topic)
    }

    /// The name of a lookup.
    pub fn lookup(self, lookup: &str) -> Warning {
        self.field("lookup", lookup)
    }

    pub fn url(self, url: &str) -> Warning {
        self.field("url", url)
    }

    pub fn protocol_version(self, version: u8) -> Warning {
        self.field("protocolVersion", version)
    }

    /// How many attempts failed before one succeeded.
    pub fn failures(self, failures: u32) -> Warning {
        self.field("failures", failures)
    }

    pub fn messages(self, messages: usize) -> Warning {
        self.field("messages", messages)
    }

    pub fn rows(self, rows: u64) -> Warning {
        self.field("rows", rows)
    }

    /// How long an operation has taken so far.
    pub fn elapsed(self, elapsed: Duration) -> Warning {
        self.field("elapsedMs", millis(elapsed))
    }

    /// How long it is waited for before it fails.
    pub fn time_left(self, left: Duration) -> Warning {
        self.field("timeLeftMs", millis(left))
    }

    /// When something was read, by RFC 3339.
    pub fn read_at(self, time: &str) -> Warning {
        self.field("readAt", time)
    }

    /// Names of files in a directory.
    pub fn files(self, files: &[String]) -> Warning {
        self.field("files", files)
    }

    pub fn events(self, events: u64) -> Warning {
        self.field("events", events)
    }

    /// The broker's window: messages in flight, and messages a second that this allows.
    pub fn window(self, messages: usize, per_second: f64) -> Warning {
        self.field("inflightMessages", messages).field("messagesPerSecond", per_second.round())
    }

    pub fn filters(self, filters: &[String]) -> Warning {
        self.field("filters", filters)
    }

    /// How many filters a SUBSCRIBE holds from now on.
    pub fn filters_per_subscribe(self, filters: usize) -> Warning {
        self.field("filtersPerSubscribe", filters)
    }

    pub fn session_expiry(self, seconds: u32) -> Warning {
        self.field("sessionExpirySeconds", seconds)
    }

    /// Where a program threw.
    pub fn stack(self, stack: &str) -> Warning {
        self.field("stack", stack)
    }

    pub fn dir(self, dir: &Path) -> Warning {
        self.field("dir", dir.display().to_string())
    }

    /// Bytes of a segment of the spool.
    pub fn segment(self, segment: &str, at: u64, bytes: u64) -> Warning {
        self.field("segment", segment).field("at", at).field("bytes", bytes)
    }

    pub fn file(self, file: &str) -> Warning {
        self.field("file", file)
    }

    /// From 1.
    pub fn line(self, line: u64) -> Warning {
        self.field("line", line)
    }
}

/// One object: code, message, and the fields.
impl Serialize for Warning {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut all = Map::new();
        all.insert("code".into(), self.code.into());
        all.insert("message".into(), self.message.as_str().into());
        all.extend(self.fields.clone());
        all.serialize(serializer)
    }
}

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn a_warning_says_in_fields_what_its_text_says() {
        let error = Error::ClickHouseRejected {
            exception: Some(252),
            name: Some("TOO_MANY_PARTS".into()),
            status: 500,
            message: "Code: 252".into(),
        };
        let warning = Warning::new("CLICKHOUSE_RETRYING", "t: …; trying again in 100 ms")
            .table("t")
            .error(&error)
            .retry_in(Duration::from_millis(100));
        assert_eq!(
            serde_json::to_value(&warning).unwrap(),
            json!({
                "code": "CLICKHOUSE_RETRYING",
                "message": "t: …; trying again in 100 ms",
                "table": "t",
                "reason": "ClickHouse refused with HTTP 500: Code: 252",
                "errorCode": "CLICKHOUSE_REJECTED",
                "clickhouseCode": 252,
                "clickhouseName": "TOO_MANY_PARTS",
                "retryInMs": 100,
            })
        );
    }

    #[test]
    fn a_field_is_there_only_where_it_applies() {
        let warning = Warning::new("TLS_INSECURE", "…");
        assert_eq!(
            serde_json::to_value(&warning).unwrap(),
            json!({ "code": "TLS_INSECURE", "message": "…" })
        );
    }
}
