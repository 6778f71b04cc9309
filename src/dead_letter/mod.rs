//! Messages that cannot become rows: why, and where they go.
//!
//! Connections (messages that cannot be decoded) and sinks (rows that ClickHouse refuses) send them to the one [`store`] of
//! the pipeline, which stores them, settles them and reports them to JavaScript. A `replay` reads them again.

pub mod jsonl;
pub mod store;

use std::time::{Duration, SystemTime};

use crate::core::reason::{Code, Reason};

/// A dead letter that is read again.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StoredDeadLetter {
    pub received_at: SystemTime,
    /// The place of the route that made it.
    pub route: Option<usize>,
    pub topic: Vec<u8>,
    pub payload: Vec<u8>,
    /// Why there is no payload, where there never was one.
    pub lost: Option<Reason>,
}

impl StoredDeadLetter {
    /// The time `millis` milliseconds after 1970.
    pub fn time(millis: i64) -> SystemTime {
        let (epoch, since) = (SystemTime::UNIX_EPOCH, Duration::from_millis(millis.unsigned_abs()));
        let time = if millis < 0 { epoch.checked_sub(since) } else { epoch.checked_add(since) };
        // A time that the system's clock cannot express is not from a clock.
        time.unwrap_or(epoch)
    }

    /// The reason that a dead letter has no payload, by its code and message: the payload of a packet
    /// that was too large was skipped.
    pub fn lost(code: &str, message: &str) -> Option<Reason> {
        (code == Code::PacketTooLarge.as_str()).then(|| Reason::new(Code::PacketTooLarge, message))
    }
}
