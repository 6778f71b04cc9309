//! Notices when the broker has stopped sending because it waits for acknowledgements.
//!
//! A broker keeps a limited number of unacknowledged messages in flight to a client (mosquitto 20, EMQX 32 unless
//! configured), and tells it nowhere. If a batch were only sealed by its age, a window of 20 would mean 20 messages a
//! second. So, while acknowledgements are owed, arrivals that have stopped for longer than their usual distance
//! are a reason to seal: at least [`STILL`], and at least four times the distance, so that a fleet which sends 30
//! messages a second is not inserted one by one.

use std::time::{Duration, Instant};

/// The shortest silence that counts.
const STILL: Duration = Duration::from_millis(20);

#[derive(Debug, Default)]
pub struct Window {
    last: Option<Instant>,
    /// Smoothed distance between messages; `None` until one was seen.
    distance: Option<Duration>,
    /// Whether we acknowledged since `last`: then the silence before the next message was ours to end.
    acknowledged: bool,
}

impl Window {
    /// `count` messages came with one read.
    pub fn arrived(&mut self, count: usize, now: Instant) {
        if count == 0 {
            return;
        }
        let since = self.last.map(|last| now.saturating_duration_since(last));
        let sample = match (count, since) {
            // They were sent closely, however long the silence before them was.
            (2.., _) => Some(Duration::ZERO),
            (_, Some(since)) if !self.acknowledged => Some(since),
            _ => None,
        };
        if let Some(sample) = sample {
            self.distance = Some(match self.distance {
                Some(distance) => (distance * 7 + sample) / 8,
                None => sample,
            });
        }
        self.last = Some(now);
        self.acknowledged = false;
    }

    pub fn acknowledged(&mut self) {
        self.acknowledged = true;
    }

    /// When the arrivals count as stopped, if no further message comes.
    pub fn still_at(&self) -> Option<Instant> {
        Some(self.last? + STILL.max(self.distance? * 4))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: Duration = Duration::from_millis(1);

    #[test]
    fn a_burst_that_stops_is_noticed() {
        let start = Instant::now();
        let mut window = Window::default();
        window.arrived(20, start);
        assert_eq!(window.still_at(), Some(start + STILL));
        window.acknowledged();
        window.arrived(1, start + 30 * MS);
        assert_eq!(window.still_at(), Some(start + 30 * MS + STILL), "our own silence is not the sender's");
    }

    #[test]
    fn a_slow_stream_is_left_to_its_batches() {
        let start = Instant::now();
        let mut window = Window::default();
        for i in 0..10 {
            window.arrived(1, start + i * 30 * MS);
        }
        assert_eq!(window.still_at(), Some(start + 9 * 30 * MS + 120 * MS));
    }
}
