//! Messages that cannot become rows: why, and where they go.
//!
//! Connections (what cannot be decoded) and sinks (what ClickHouse refuses) send [`Letters`] to the one [`store`]
//! of the pipeline, which stores them, acknowledges them and tells JavaScript. A `replay` reads them again.

pub mod jsonl;
pub mod store;

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use crate::core::ack_set::Owed;
pub use crate::core::dead_letter::DeadLetter;
use crate::core::reason::{Code, Reason};
use crate::spool::Ticket;
use crate::telemetry::ledger::Group;

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
