//! Notices when the broker has stopped sending because it waits for acknowledgements.
//!
//! A broker keeps a limited number of unacknowledged messages in flight to a client (mosquitto 20, EMQX 32 unless
//! configured), and tells it nowhere. If a batch were only sealed by its age, a window of 20 would mean 20 messages a
//! second. So, while acknowledgements are owed, arrivals that have stopped for longer than their usual distance
//! are a reason to seal: at least [`STILL`], and at least four times the distance, so that a fleet which sends 30
//! messages a second is not inserted one by one.
//!
//! Where the same number of messages stalls again and again, and our acknowledgements set it going each time, that number
//! is the broker's window: worth telling once, since a setting of the broker raises it. If it holds enough for an INSERT,
//! a batch is from then on sealed as soon as it is full: waiting for the silence would cost most of a fast stream.
//!
//! Where a spool acknowledges, a batch that is sealed early costs a commit and no INSERT: a shorter silence counts, and any
//! window is enough.

use std::time::{Duration, Instant};

/// The shortest silence that counts.
const STILL: Duration = Duration::from_millis(20);

/// The same where a spool acknowledges and commits often, beside the rest between two reads.
const STILL_FOR_COMMIT: Duration = Duration::from_millis(2);

/// Stalls that are further apart are the stream's own pauses.
const APART: Duration = Duration::from_millis(500);
/// So many stalls at the same number are proof.
const PROOF: u32 = 5;
/// A window that holds so many is enough for an INSERT. With a smaller one the silence keeps INSERTs apart.
const ENOUGH: usize = 500;

/// A window that limits the stream.
#[derive(Debug, PartialEq)]
pub struct Narrow {
    pub messages: usize,
    pub messages_per_second: f64,
}

#[derive(Debug)]
pub struct Window {
    /// The shortest silence that counts.
    still: Duration,
    /// A known window of so many is not waited for.
    enough: usize,
    last: Option<Instant>,
    /// Smoothed distance between messages; `None` until one was seen.
    distance: Option<Duration>,
    /// Whether we acknowledged since `last`: then the silence before the next message was ours to end.
    acknowledged: bool,
    /// The last stall: how many messages were unacknowledged, and when.
    stall: Option<(usize, Instant)>,
    /// Stalls in a row at that number, each ended by our acknowledgements.
    alike: u32,
    /// The broker's window, once it is proved.
    known: Option<usize>,
    told: bool,
}

impl Default for Window {
    fn default() -> Window {
        Window::new(STILL, ENOUGH)
    }
}

impl Window {
    fn new(still: Duration, enough: usize) -> Window {
        Window {
            still,
            enough,
            last: None,
            distance: None,
            acknowledged: false,
            stall: None,
            alike: 0,
            known: None,
            told: false,
        }
    }

    /// Where a spool acknowledges, after `commit` at the latest. Half of that is silence enough: on a busy machine any stream
    /// stops for some milliseconds, and each commit that is made for it costs a sync.
    pub fn for_commits(commit: Duration, coalesce: Duration) -> Window {
        Window::new((commit / 2).clamp(STILL_FOR_COMMIT, STILL) + coalesce, 1)
    }

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

    /// Arrivals have stopped while so many messages are unacknowledged. Tells once that this is the broker's window.
    pub fn stalled(&mut self, unacknowledged: usize, now: Instant) -> Option<Narrow> {
        let before = self.stall.replace((unacknowledged, now));
        match before {
            Some((messages, at)) if messages == unacknowledged && now < at + APART => {
                self.alike += 1;
                if self.alike < PROOF {
                    return None;
                }
                self.known = Some(messages);
                if std::mem::replace(&mut self.told, true) {
                    return None;
                }
                let messages_per_second = messages as f64 / (now - at).as_secs_f64();
                Some(Narrow { messages, messages_per_second })
            }
            _ => {
                self.alike = 0;
                None
            }
        }
    }

    pub fn acknowledged(&mut self) {
        self.acknowledged = true;
    }

    /// When the arrivals count as stopped, if no further message comes.
    pub fn still_at(&self, unacknowledged: usize) -> Option<Instant> {
        if unacknowledged >= self.enough && self.known == Some(unacknowledged) {
            return self.last;
        }
        Some(self.last? + self.still.max(self.distance? * 4))
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
        assert_eq!(window.still_at(1), Some(start + STILL));
        window.acknowledged();
        window.arrived(1, start + 30 * MS);
        assert_eq!(window.still_at(1), Some(start + 30 * MS + STILL), "our own silence is not the sender's");
    }

    #[test]
    fn a_window_is_told_once_when_it_is_proved() {
        let start = Instant::now();
        let mut window = Window::default();
        let told: Vec<_> = (0..20).filter_map(|i| window.stalled(20, start + i * 50 * MS)).collect();
        assert_eq!(told, [Narrow { messages: 20, messages_per_second: 400.0 }]);
        let mut window = Window::default();
        assert!((0..20).all(|i| window.stalled(i as usize, start + i * 50 * MS).is_none()), "never the same");
        let mut window = Window::default();
        assert!(
            (0..20).all(|i| window.stalled(3, start + i * 1000 * MS).is_none()),
            "a fleet that reports each second"
        );
    }

    #[test]
    fn a_window_that_is_known_is_not_waited_for() {
        let start = Instant::now();
        for (messages, waits) in [(1000, false), (20, true)] {
            let mut window = Window::default();
            for i in 0..6 {
                window.arrived(messages, start);
                assert_eq!(window.still_at(messages), Some(start + STILL));
                window.stalled(messages, start + i * 30 * MS);
            }
            window.arrived(messages, start);
            let still_at = if waits { start + STILL } else { start };
            assert_eq!(window.still_at(messages), Some(still_at));
            assert_eq!(window.still_at(messages - 1), Some(start + STILL));
        }
    }

    #[test]
    fn a_commit_does_not_wait_for_any_window_that_is_known() {
        let start = Instant::now();
        let mut window = Window::for_commits(4 * MS, MS);
        for i in 0..6 {
            window.arrived(20, start);
            assert_eq!(window.still_at(20), Some(start + 3 * MS));
            window.stalled(20, start + i * 5 * MS);
        }
        window.arrived(20, start);
        assert_eq!(window.still_at(20), Some(start));
    }

    #[test]
    fn a_slow_stream_is_left_to_its_batches() {
        let start = Instant::now();
        let mut window = Window::default();
        for i in 0..10 {
            window.arrived(1, start + i * 30 * MS);
        }
        assert_eq!(window.still_at(1), Some(start + 9 * 30 * MS + 120 * MS));
    }
}
