//! Time as messages carry it.

use std::time::{Instant, SystemTime};

/// When a read was made, on both clocks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ReceiveTime {
    pub instant: Instant,
    pub system: SystemTime,
}

impl ReceiveTime {
    pub fn read() -> ReceiveTime {
        // The runtime's clock, which a test can hold.
        ReceiveTime { instant: tokio::time::Instant::now().into_std(), system: SystemTime::now() }
    }
}

/// Milliseconds since 1970, negative before.
pub fn unix_millis(at: SystemTime) -> i64 {
    match at.duration_since(SystemTime::UNIX_EPOCH) {
        Ok(since) => since.as_millis() as i64,
        Err(before) => -(before.duration().as_millis() as i64),
    }
}
