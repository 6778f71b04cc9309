//! Detects that the broker has stopped sending because it waits for acknowledgements.
//!
//! A broker keeps a limited number of unacknowledged messages in flight to a client (mosquitto 20, EMQX 32 unless
//! configured), and no packet states that number. If a batch were only sealed by its age, a window of
//! 20 would allow 20 messages a second. So, while messages are unacknowledged, a batch is sealed when
//! arrivals stop: for at least [`MIN_SILENCE`], and for at least four times their average distance, so
//! that a fleet which sends 30 messages a second is not inserted one by one.
//!
//! Where the stream stalls again and again at the same number of messages, and our acknowledgements restart it each time,
//! that number is the broker's window. It is reported once, since a setting of the broker raises it. If it is enough for an
//! INSERT, a batch is from then on sealed as soon as the window is full: waiting for the silence would cost most of a fast
//! stream.
//!
//! Where a spool acknowledges, a batch that is sealed early costs a commit and no INSERT: a shorter silence counts, and any
//! window is enough.

use std::time::{Duration, Instant};

/// The shortest silence after which a batch is sealed.
pub const MIN_SILENCE: Duration = Duration::from_millis(20);

/// The same where a spool acknowledges and commits often.
const MIN_SILENCE_FOR_COMMIT: Duration = Duration::from_millis(2);

/// Stalls that are further apart are the publishers' own pauses.
const MAX_STALL_DISTANCE: Duration = Duration::from_millis(500);
/// This many stalls at the same number prove a window.
const STALLS_TO_PROVE: u32 = 5;
/// This many make one likely.
const STALLS_TO_SUSPECT: u32 = 2;
/// No broker's window is smaller by default.
const MIN_WINDOW: usize = 10;
/// This many prompt stalls are proof enough to speak of.
const SURE: u32 = 10;
/// A message that comes so soon after an acknowledgement was waiting for it.
const PROMPT: Duration = Duration::from_millis(10);
/// A window of this many messages is enough for an INSERT. With a smaller one the silence keeps INSERTs apart.
const ENOUGH_FOR_INSERT: usize = 500;

/// A window that limits the stream.
#[derive(Debug, PartialEq)]
pub struct WindowLimit {
    pub messages: usize,
    pub messages_per_second: f64,
}

#[derive(Debug)]
pub struct InflightWindowDetector {
    /// The shortest silence after which a batch is sealed.
    min_silence: Duration,
    /// A known window of at least this many messages is full at once: no silence is awaited.
    enough: usize,
    last: Option<Instant>,
    /// The smoothed distance between messages; `None` until there were two.
    distance: Option<Duration>,
    /// Whether we acknowledged since `last`: then our acknowledgement ended the silence, and it says nothing about the senders.
    acknowledged: bool,
    /// The last stall: how many messages were unacknowledged, and when.
    stall: Option<(usize, Instant)>,
    /// Stalls in a row at that number of messages.
    matching_stalls: u32,
    /// Stalls in a row at that number after which the stream went on at once when we acknowledged.
    prompt_stalls: u32,
    /// When we acknowledged last.
    acknowledged_at: Option<Instant>,
    /// The most messages that were unacknowledged at a stall.
    max_unacknowledged: usize,
    /// The broker's window, once it is proved.
    known: Option<usize>,
    was_reported: bool,
}

impl Default for InflightWindowDetector {
    fn default() -> InflightWindowDetector {
        InflightWindowDetector::new(MIN_SILENCE, ENOUGH_FOR_INSERT)
    }
}

impl InflightWindowDetector {
    fn new(min_silence: Duration, enough: usize) -> InflightWindowDetector {
        InflightWindowDetector {
            min_silence,
            enough,
            last: None,
            distance: None,
            acknowledged: false,
            stall: None,
            matching_stalls: 0,
            prompt_stalls: 0,
            acknowledged_at: None,
            max_unacknowledged: 0,
            known: None,
            was_reported: false,
        }
    }

    /// For a spool that commits after `commit` at the latest. Half of that is the silence: on a busy machine any stream stops
    /// for some milliseconds, and each commit that is made for it costs a sync.
    pub fn for_commits(commit: Duration) -> InflightWindowDetector {
        InflightWindowDetector::new((commit / 2).clamp(MIN_SILENCE_FOR_COMMIT, MIN_SILENCE), 1)
    }

    /// One read brought `count` messages.
    pub fn arrived(&mut self, count: usize, now: Instant) {
        if count == 0 {
            return;
        }
        let since = self.last.map(|last| now.saturating_duration_since(last));
        let sample = match (count, since) {
            // They were sent together, however long the silence before them was.
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
        if self.acknowledged {
            let is_prompt = self.acknowledged_at.is_some_and(|at| now < at + PROMPT);
            self.prompt_stalls = if is_prompt { self.prompt_stalls + 1 } else { 0 };
        }
        self.last = Some(now);
        self.acknowledged = false;
    }

    /// Arrivals have stopped while this many messages are unacknowledged. Returns the broker's window once it is proved, the
    /// first time only.
    pub fn stalled(&mut self, unacknowledged: usize, now: Instant) -> Option<WindowLimit> {
        let before = self.stall.replace((unacknowledged, now));
        self.max_unacknowledged = self.max_unacknowledged.max(unacknowledged);
        match before {
            Some((messages, at)) if messages == unacknowledged && now < at + MAX_STALL_DISTANCE => {
                self.matching_stalls += 1;
                if self.matching_stalls < STALLS_TO_PROVE {
                    return None;
                }
                self.known = Some(messages);
                if !self.is_sure(messages) || std::mem::replace(&mut self.was_reported, true) {
                    return None;
                }
                let messages_per_second = messages as f64 / (now - at).as_secs_f64();
                Some(WindowLimit { messages, messages_per_second })
            }
            _ => {
                self.matching_stalls = 0;
                None
            }
        }
    }

    /// Publishers that send a few messages at a time stall as a window does. A window never has more in flight, and goes on
    /// at once when we acknowledge.
    fn is_sure(&self, messages: usize) -> bool {
        messages >= MIN_WINDOW && messages == self.max_unacknowledged && self.prompt_stalls >= SURE
    }

    pub fn acknowledged(&mut self, now: Instant) {
        self.acknowledged = true;
        self.acknowledged_at = Some(now);
    }

    /// The number of messages that several stalls make the likely window of the broker.
    pub fn suspected(&self) -> Option<usize> {
        let stall = self.stall.filter(|_| self.matching_stalls >= STALLS_TO_SUSPECT)?;
        Some(self.known.map_or(stall.0, |known| known.max(stall.0)))
    }

    /// When arrivals count as stopped, if no further message comes.
    pub fn idle_deadline(&self, unacknowledged: usize) -> Option<Instant> {
        if unacknowledged >= self.enough && self.known == Some(unacknowledged) {
            return self.last;
        }
        Some(self.last? + self.min_silence.max(self.distance? * 4))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: Duration = Duration::from_millis(1);

    #[test]
    fn a_burst_that_stops_is_noticed() {
        let start = Instant::now();
        let mut detector = InflightWindowDetector::default();
        detector.arrived(20, start);
        assert_eq!(detector.idle_deadline(1), Some(start + MIN_SILENCE));
        detector.acknowledged(start);
        detector.arrived(1, start + 30 * MS);
        assert_eq!(
            detector.idle_deadline(1),
            Some(start + 30 * MS + MIN_SILENCE),
            "a silence that our acknowledgement ended says nothing"
        );
    }

    /// The reports of a stream that stalls at each of these numbers, 50 ms apart, and goes on this long after we acknowledge.
    fn reports(stalls: impl Iterator<Item = usize>, apart: Duration, goes_on: Duration) -> Vec<WindowLimit> {
        let mut now = Instant::now();
        let mut detector = InflightWindowDetector::default();
        let mut reports = Vec::new();
        for messages in stalls {
            detector.arrived(messages, now);
            reports.extend(detector.stalled(messages, now + apart / 2));
            detector.acknowledged(now + apart - goes_on);
            now += apart;
        }
        reports
    }

    #[test]
    fn a_window_is_reported_once_when_it_is_proved() {
        let twenty = || std::iter::repeat_n(20, 40);
        let found = reports(twenty(), 50 * MS, MS);
        assert_eq!(found, [WindowLimit { messages: 20, messages_per_second: 400.0 }]);
        assert_eq!(reports(0..40, 50 * MS, MS), [], "never the same");
        assert_eq!(reports(twenty(), 1000 * MS, MS), [], "a fleet that reports each second");
        assert_eq!(reports(twenty(), 50 * MS, 20 * MS), [], "publishers that do not wait for us");
        assert_eq!(
            reports(std::iter::repeat_n(1, 40), 50 * MS, MS),
            [],
            "a publisher that sends one at a time"
        );
        assert_eq!(
            reports([50].into_iter().chain(twenty()), 50 * MS, MS),
            [],
            "there were more in flight before"
        );
    }

    #[test]
    fn a_window_that_is_known_is_not_waited_for() {
        let start = Instant::now();
        for (messages, waits) in [(1000, false), (20, true)] {
            let mut detector = InflightWindowDetector::default();
            for i in 0..6 {
                detector.arrived(messages, start);
                assert_eq!(detector.idle_deadline(messages), Some(start + MIN_SILENCE));
                detector.stalled(messages, start + i * 30 * MS);
            }
            detector.arrived(messages, start);
            let idle_deadline = if waits { start + MIN_SILENCE } else { start };
            assert_eq!(detector.idle_deadline(messages), Some(idle_deadline));
            assert_eq!(detector.idle_deadline(messages - 1), Some(start + MIN_SILENCE));
        }
    }

    #[test]
    fn a_commit_does_not_wait_for_any_window_that_is_known() {
        let start = Instant::now();
        let mut detector = InflightWindowDetector::for_commits(4 * MS);
        for i in 0..6 {
            detector.arrived(20, start);
            assert_eq!(detector.idle_deadline(20), Some(start + 2 * MS));
            detector.stalled(20, start + i * 5 * MS);
        }
        detector.arrived(20, start);
        assert_eq!(detector.idle_deadline(20), Some(start));
    }

    #[test]
    fn a_slow_stream_is_left_to_its_batches() {
        let start = Instant::now();
        let mut detector = InflightWindowDetector::default();
        for i in 0..10 {
            detector.arrived(1, start + i * 30 * MS);
        }
        assert_eq!(detector.idle_deadline(1), Some(start + 9 * 30 * MS + 120 * MS));
    }
}
