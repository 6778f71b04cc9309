//! Messages that cannot become rows: why, and where they go.
//!
//! Connections (what cannot be decoded) and sinks (what ClickHouse refuses) send [`Letters`] to the one [`store`]
//! of the pipeline, which stores them, acknowledges them and tells JavaScript. A `replay` reads them again.

pub mod jsonl;
pub mod store;

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use crate::mqtt::Owed;
use crate::spool::Ticket;
use crate::telemetry::ledger::Group;

/// The stable codes of dead letters.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Code {
    JsonInvalid,
    NotAnObject,
    FieldMissing,
    TypeMismatch,
    OutOfRange,
    UnknownField,
    NoRoute,
    RejectedByClickHouse,
    PacketTooLarge,
}

impl Code {
    pub const ALL: [Code; 9] = [
        Code::JsonInvalid,
        Code::NotAnObject,
        Code::FieldMissing,
        Code::TypeMismatch,
        Code::OutOfRange,
        Code::UnknownField,
        Code::NoRoute,
        Code::RejectedByClickHouse,
        Code::PacketTooLarge,
    ];

    pub fn as_str(self) -> &'static str {
        match self {
            Code::JsonInvalid => "JSON_INVALID",
            Code::NotAnObject => "NOT_AN_OBJECT",
            Code::FieldMissing => "FIELD_MISSING",
            Code::TypeMismatch => "TYPE_MISMATCH",
            Code::OutOfRange => "OUT_OF_RANGE",
            Code::UnknownField => "UNKNOWN_FIELD",
            Code::NoRoute => "NO_ROUTE",
            Code::RejectedByClickHouse => "REJECTED_BY_CLICKHOUSE",
            Code::PacketTooLarge => "PACKET_TOO_LARGE",
        }
    }
}

/// Why a message cannot become a row.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reason {
    pub code: Code,
    /// Shared by all messages of a batch that ClickHouse refused.
    pub message: Arc<str>,
}

impl Reason {
    #[cold]
    pub fn new(code: Code, message: impl Into<Arc<str>>) -> Reason {
        Reason { code, message: message.into() }
    }

    /// Names the column it is about.
    #[cold]
    pub fn about(self, column: &str) -> Reason {
        Reason { message: format!("column {column}: {}", self.message).into(), ..self }
    }
}

#[derive(Debug, Clone)]
pub struct DeadLetter {
    pub received_at: SystemTime,
    /// The place in `routes`; `None` where no route takes the topic.
    pub route: Option<usize>,
    /// As bytes: a topic that is not UTF-8 is itself a reason.
    pub topic: Vec<u8>,
    pub payload: Vec<u8>,
    pub reason: Reason,
}

impl DeadLetter {
    /// As it is written down: -1 where no route takes the topic.
    pub fn route_number(&self) -> i32 {
        self.route.map_or(-1, |route| route as i32)
    }
}

/// A dead letter that is read again.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Kept {
    pub received_at: SystemTime,
    pub topic: Vec<u8>,
    pub payload: Vec<u8>,
    /// Why there is no payload, where there never was one.
    pub lost: Option<Reason>,
}

impl Kept {
    /// Of milliseconds since 1970.
    pub fn time(millis: i64) -> SystemTime {
        let (epoch, since) = (SystemTime::UNIX_EPOCH, Duration::from_millis(millis.unsigned_abs()));
        let time = if millis < 0 { epoch.checked_sub(since) } else { epoch.checked_add(since) };
        // What the system's clock cannot express, no clock has told.
        time.unwrap_or(epoch)
    }

    /// Of the code and the message of a letter: the payload of a packet that was too large was passed over.
    pub fn lost(code: &str, message: &str) -> Option<Reason> {
        (code == Code::PacketTooLarge.as_str()).then(|| Reason::new(Code::PacketTooLarge, message))
    }
}

/// Dead letters that are settled together.
#[derive(Debug)]
pub struct Letters {
    pub group: Group,
    /// The connection to which acknowledgements are owed.
    pub connection: usize,
    pub letters: Vec<DeadLetter>,
    pub owed: Owed,
    /// What the memory ceiling knows of.
    pub bytes: usize,
    /// Of the spool's INSERT that they were in.
    pub ticket: Option<Ticket>,
}

impl Letters {
    pub fn new(group: Group, connection: usize) -> Letters {
        Letters { group, connection, letters: Vec::new(), owed: Owed::default(), bytes: 0, ticket: None }
    }

    pub fn push(&mut self, letter: DeadLetter) {
        self.bytes += size_of::<DeadLetter>() + letter.topic.len() + letter.payload.len();
        if Arc::strong_count(&letter.reason.message) == 1 {
            self.bytes += letter.reason.message.len();
        }
        self.letters.push(letter);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_codes_are_in_their_places() {
        for (place, code) in Code::ALL.into_iter().enumerate() {
            assert_eq!(code as usize, place);
        }
    }
}
