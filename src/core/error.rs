//! All errors, as one enum.
//!
//! Every error a user can meet has a stable `code()` to match on and, where an option caused it, the `path()`
//! of that option. A fault of a single message is not an `Error` but a dead letter: see `dead_letter`.

use std::path::Path;
use std::{fmt, io};

use serde::Serialize;

use crate::core::reason::Reason;

pub type Result<T, E = Error> = std::result::Result<T, E>;

#[derive(Debug)]
#[non_exhaustive]
pub enum Error {
    /// An option is unknown, of the wrong kind or out of range.
    ConfigInvalid {
        path: String,
        message: String,
    },
    /// No ClickHouse answered.
    ClickHouseUnreachable {
        url: String,
        message: String,
    },
    /// Something answered in ClickHouse's place, or ClickHouse answered what cannot be understood.
    ClickHouseAnswer {
        url: String,
        message: String,
    },
    /// ClickHouse answered with an exception. `exception` is its own code, such as 516, and `name` its own name for it,
    /// such as `AUTHENTICATION_FAILED`. `status` is that of HTTP: 200 where the answer had begun before the exception.
    ClickHouseRejected {
        exception: Option<u32>,
        name: Option<String>,
        status: u16,
        message: String,
    },
    TableNotFound {
        path: String,
        table: String,
    },
    /// A table of the engine Null that no view reads.
    TableDiscards {
        path: String,
        table: String,
    },
    /// The tables of two shards are not the same.
    ShardsDiffer {
        path: String,
        table: String,
        url: String,
        message: String,
    },
    /// A spool has rows that were divided by another number of shards.
    ShardsChanged {
        dir: String,
        /// `None`: they were not divided.
        stored: Option<u32>,
        configured: Option<u32>,
    },
    ColumnNotFound {
        path: String,
        column: String,
        table: String,
    },
    ColumnUnsupported {
        path: String,
        column: String,
        column_type: String,
        advice: String,
    },
    /// No broker answered, or the connection broke.
    MqttUnreachable {
        url: String,
        message: String,
    },
    /// The broker answered CONNECT with a refusal. `code` is its number in CONNACK, if it sent one: a reason code of MQTT 5,
    /// or a return code of 3.1.1.
    MqttRefused {
        url: String,
        reason: String,
        code: Option<u8>,
    },
    /// A user name or a password cannot be had: from a file, or from a function of the program.
    CredentialsFailed {
        path: String,
        message: String,
    },
    SubscriptionRefused {
        filter: String,
        reason: String,
    },
    /// The text of a CREATE TABLE. `line` and `column` begin with 1.
    SchemaInvalid {
        path: String,
        line: usize,
        column: usize,
        message: String,
    },
    /// A place from which dead letters are to be read again.
    SourceUnreadable {
        path: String,
        message: String,
    },
    /// Another pipeline has the directory.
    SpoolLocked {
        dir: String,
    },
    /// Files in the directory cannot be read, and must not be skipped.
    SpoolCorrupt {
        dir: String,
        message: String,
    },
    /// The file system failed.
    SpoolIo {
        dir: String,
        source: io::Error,
    },
    /// Draining took longer than it was allowed to.
    StopTimeout {
        pending: u64,
        /// How many of them lie in the spool, if there is one.
        spooled: Option<u64>,
    },
    InvalidState {
        operation: &'static str,
        state: &'static str,
    },
    /// `start()` was ended by `stop()` or by a signal.
    Aborted,
    /// The JavaScript of a transform cannot be run.
    TransformInvalid {
        path: String,
        message: String,
    },
    /// Rows of a program that its table does not take.
    RowsRefused {
        /// The place of the row at fault, from 0, if it is known.
        row: Option<usize>,
        reason: Reason,
    },
    /// `tables` of the configuration does not name it.
    TableNotDeclared {
        table: String,
    },
    /// A map of the program's for which there is no room below the ceiling.
    LookupTooLarge {
        lookup: String,
        /// The size of all maps together.
        bytes: usize,
        limit: usize,
    },
    /// Rows of a program were under way when the pipeline ended.
    RowsUnconfirmed,
    /// A thread of millrace panicked: a fault in millrace, reported instead of hidden.
    Internal {
        thread: String,
        message: String,
    },
}

/// The error of another program. `code` is its own number for it.
#[derive(Debug, Serialize)]
pub struct Cause {
    pub code: Option<i64>,
    pub message: String,
}

impl Error {
    pub fn config(path: impl Into<String>, message: impl Into<String>) -> Error {
        Error::ConfigInvalid { path: path.into(), message: message.into() }
    }

    pub fn spool_io(dir: &Path, source: io::Error) -> Error {
        Error::SpoolIo { dir: dir.display().to_string(), source }
    }

    /// A segment of a layout that this version does not know.
    pub fn spool_version(dir: &Path, segment: &str) -> Error {
        let message = format!(
            "{segment} was written by another version of millrace: let that version empty the spool, or give this one \
             another directory"
        );
        Error::SpoolCorrupt { dir: dir.display().to_string(), message }
    }

    /// The stable code that users match on.
    pub fn code(&self) -> &'static str {
        match self {
            Error::ConfigInvalid { .. } => "CONFIG_INVALID",
            Error::ClickHouseUnreachable { .. } | Error::ClickHouseAnswer { .. } => "CLICKHOUSE_UNREACHABLE",
            Error::ClickHouseRejected { .. } => "CLICKHOUSE_REJECTED",
            Error::TableNotFound { .. } => "TABLE_NOT_FOUND",
            Error::TableDiscards { .. } => "TABLE_DISCARDS",
            Error::ShardsDiffer { .. } => "SHARDS_DIFFER",
            Error::ShardsChanged { .. } => "SHARDS_CHANGED",
            Error::ColumnNotFound { .. } => "COLUMN_NOT_FOUND",
            Error::ColumnUnsupported { .. } => "COLUMN_UNSUPPORTED",
            Error::MqttUnreachable { .. } => "MQTT_UNREACHABLE",
            Error::MqttRefused { .. } => "MQTT_REFUSED",
            Error::CredentialsFailed { .. } => "CREDENTIALS_FAILED",
            Error::SubscriptionRefused { .. } => "SUBSCRIPTION_REFUSED",
            Error::SchemaInvalid { .. } => "SCHEMA_INVALID",
            Error::SourceUnreadable { .. } => "SOURCE_UNREADABLE",
            Error::SpoolLocked { .. } => "SPOOL_LOCKED",
            Error::SpoolCorrupt { .. } => "SPOOL_CORRUPT",
            Error::SpoolIo { .. } => "SPOOL_IO",
            Error::StopTimeout { .. } => "STOP_TIMEOUT",
            Error::InvalidState { .. } => "INVALID_STATE",
            Error::Aborted => "ABORTED",
            Error::TransformInvalid { .. } => "TRANSFORM_INVALID",
            Error::RowsRefused { reason, .. } => reason.code.as_str(),
            Error::TableNotDeclared { .. } => "TABLE_NOT_DECLARED",
            Error::LookupTooLarge { .. } => "LOOKUP_TOO_LARGE",
            Error::RowsUnconfirmed => "ROWS_UNCONFIRMED",
            Error::Internal { .. } => "INTERNAL",
        }
    }

    /// The error of ClickHouse or the file system, where one of them caused it.
    pub fn cause(&self) -> Option<Cause> {
        match self {
            Error::ClickHouseRejected { exception, message, .. } => {
                Some(Cause { code: exception.map(i64::from), message: message.clone() })
            }
            Error::SpoolIo { source, .. } => {
                Some(Cause { code: source.raw_os_error().map(i64::from), message: source.to_string() })
            }
            _ => None,
        }
    }

    /// The row and the column at fault, where rows of a program are.
    pub fn row(&self) -> Option<usize> {
        match self {
            Error::RowsRefused { row, .. } => *row,
            _ => None,
        }
    }

    pub fn column(&self) -> Option<&str> {
        match self {
            Error::RowsRefused { reason, .. } => reason.column.as_deref(),
            _ => None,
        }
    }

    /// The option that caused it, such as `routes[0].columns.lat`.
    pub fn path(&self) -> Option<&str> {
        match self {
            Error::ConfigInvalid { path, .. }
            | Error::CredentialsFailed { path, .. }
            | Error::TransformInvalid { path, .. }
            | Error::SourceUnreadable { path, .. }
            | Error::SchemaInvalid { path, .. }
            | Error::TableNotFound { path, .. }
            | Error::TableDiscards { path, .. }
            | Error::ShardsDiffer { path, .. }
            | Error::ColumnNotFound { path, .. }
            | Error::ColumnUnsupported { path, .. } => Some(path),
            Error::ShardsChanged { .. } => Some("clickhouse.shards"),
            _ => None,
        }
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Error::ConfigInvalid { path, message } if path.is_empty() => f.write_str(message),
            Error::ConfigInvalid { path, message }
            | Error::CredentialsFailed { path, message }
            | Error::SourceUnreadable { path, message }
            | Error::TransformInvalid { path, message } => {
                write!(f, "{path}: {message}")
            }
            Error::SchemaInvalid { path, line, column, message } => {
                write!(f, "{path}: line {line}, column {column}: {message}")
            }
            Error::ClickHouseUnreachable { url, message } => {
                write!(f, "ClickHouse at {url} cannot be reached: {message}")
            }
            Error::ClickHouseAnswer { url, message } => write!(f, "ClickHouse at {url}: {message}"),
            Error::ClickHouseRejected { status, message, .. } => {
                write!(f, "ClickHouse refused with HTTP {status}: {message}")
            }
            Error::TableNotFound { path, table } => write!(f, "{path}: there is no table {table}"),
            Error::TableDiscards { path, table } => write!(
                f,
                "{path}: {table} has the engine Null and no materialized view reads it: every row would be confirmed and \
                 discarded; allowNullTable of the route lets it be"
            ),
            Error::ShardsDiffer { path, table, url, message } => {
                write!(f, "{path}: {table} is not the same on the shard at {url}: {message}")
            }
            Error::ShardsChanged { dir, stored, configured } => {
                let named = |shards: &Option<u32>| match shards {
                    Some(count) => format!("{count} shards"),
                    None => "no shards".into(),
                };
                write!(
                    f,
                    "clickhouse.shards: the spool {dir} has rows for {}, and the configuration has {}: empty the spool with the \
                     configuration that filled it",
                    named(stored),
                    named(configured)
                )
            }
            Error::ColumnNotFound { path, column, table } => {
                write!(f, "{path}: table {table} has no column {column} that can be inserted into")
            }
            Error::ColumnUnsupported { path, column, column_type, advice } => {
                write!(f, "{path}: column {column} has the type {column_type}, {advice}")
            }
            Error::MqttUnreachable { url, message } => {
                write!(f, "the broker at {url} cannot be reached: {message}")
            }
            Error::MqttRefused { url, reason, .. } => {
                write!(f, "the broker at {url} refused the connection: {reason}")
            }
            Error::SubscriptionRefused { filter, reason } => {
                write!(f, "the broker refused the subscription to {filter}: {reason}")
            }
            Error::SpoolLocked { dir } => write!(f, "the spool {dir} is in use by another pipeline"),
            Error::SpoolCorrupt { dir, message } => write!(f, "the spool {dir}: {message}"),
            Error::SpoolIo { dir, source } => write!(f, "the spool {dir}: {source}"),
            Error::StopTimeout { pending, spooled: Some(spooled) } => write!(
                f,
                "stopped before everything was inserted: {spooled} of {pending} messages that were left lie in the spool and \
                 are sent after the next start; the others were not acknowledged unless the configuration asked for it"
            ),
            Error::StopTimeout { pending, spooled: None } => write!(
                f,
                "stopped before everything was inserted: {pending} messages were left, none of them \
                 acknowledged unless the configuration asked for it"
            ),
            Error::InvalidState { operation, state } => {
                write!(f, "{operation}() is not possible while the pipeline is {state}")
            }
            Error::Aborted => f.write_str("the pipeline was stopped while it was starting"),
            Error::RowsRefused { row: Some(row), reason } => write!(f, "row {row}: {}", reason.message),
            Error::RowsRefused { row: None, reason } => f.write_str(&reason.message),
            Error::TableNotDeclared { table } => {
                write!(f, "the table {table:?} is not declared: name it in `tables` of the configuration")
            }
            Error::LookupTooLarge { lookup, bytes, limit } => write!(
                f,
                "with the lookup {lookup:?} all lookups take {bytes} bytes, and a quarter of memory.maxBytes is {limit}: set \
                 memory.maxBytes to {} or more",
                bytes.saturating_mul(4)
            ),
            Error::RowsUnconfirmed => f.write_str(
                "the pipeline ended before the rows were confirmed; whether ClickHouse has them is not known",
            ),
            Error::Internal { thread, message } => {
                write!(f, "a fault in millrace, thread {thread}: {message}")
            }
        }
    }
}

impl std::error::Error for Error {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Error::SpoolIo { source, .. } => Some(source),
            _ => None,
        }
    }
}
