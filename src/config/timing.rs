//! Times that follow from several options.

use std::time::Duration;

use crate::config::{AckAfter, Config};

/// `mqtt.coalesceMs: 'auto'`: the rest is this part of the time that rows wait for their INSERT.
const RESTS_PER_BATCH: u32 = 20;
/// Longer pauses save nothing that could be measured.
const MAX_REST: Duration = Duration::from_millis(250);
/// `'auto'`: nobody waits longer for an acknowledgement than for this and a sync.
const MAX_ACK_DELAY: Duration = Duration::from_millis(30);
/// `spool.commitMs: 'auto'`: a batch that waits for less than this many times [`MAX_ACK_DELAY`] has shorter ones.
const COMMITS_PER_BATCH: u32 = 4;
/// The same for rows that a program gives. It may wait for each before it makes the next.
const PROGRAM_COMMIT: Duration = Duration::from_millis(5);

impl Config {
    /// How long a message may wait in a batch. With a spool it is acknowledged soon after; `batch.maxDelayMs` is then for the
    /// INSERTs that are made of what is in the spool.
    pub fn seal_delay(&self) -> Duration {
        self.seal_delay_unless_set(MAX_ACK_DELAY.min(self.batch.delay / COMMITS_PER_BATCH))
    }

    /// The same for rows that a program gives.
    pub fn program_seal_delay(&self) -> Duration {
        self.seal_delay_unless_set(PROGRAM_COMMIT.min(self.seal_delay()))
    }

    fn seal_delay_unless_set(&self, auto: Duration) -> Duration {
        match &self.spool {
            Some(spool) if self.mqtt.ack_after != AckAfter::Insert => spool.commit.unwrap_or(auto),
            _ => self.batch.delay,
        }
    }

    /// The longest rest between two reads of a connection; zero: none.
    pub fn max_rest(&self) -> Duration {
        let auto = match self.mqtt.ack_after {
            AckAfter::Receive => MAX_ACK_DELAY,
            AckAfter::Spool | AckAfter::Insert => MAX_REST,
        };
        let auto = auto.min(self.batch.delay / RESTS_PER_BATCH);
        self.mqtt.coalesce.unwrap_or(auto).min(self.seal_delay())
    }
}
