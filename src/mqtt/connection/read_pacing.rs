//! How long a connection sleeps after a read that emptied the socket, so that the next read brings many messages.
//!
//! A broker writes each message by itself, and at real rates a wake-up per message costs most of the time. So the thread
//! sleeps if `coalesceMs` would gather more than two messages, judged by the last read or by the smoothed distance between
//! arrivals: a thread that wakes up quickly enough would otherwise find one message at a time for ever.
//!
//! A wake-up with cold caches costs as much as about a hundred messages. So the pause doubles from read to read, up to
//! [`MAX_PAUSE`], until a read brings about [`ENOUGH_BYTES`] bytes. Where a longer pause brings no more messages, the broker waits
//! for acknowledgements: the pause is halved, and may grow again after [`GROWTH_DELAY`]. A stream that thins out ends it at once.

use std::time::{Duration, Instant};

/// Longer pauses save little more. A longer `coalesceMs` is kept.
const MAX_PAUSE: Duration = Duration::from_millis(10);
/// A read of this many bytes is worth its wake-up. Waiting for more would fill the socket's buffer, where small segments take
/// several times their bytes: the kernel then merges them, which costs more than all wake-ups.
const ENOUGH_BYTES: usize = 64 << 10;
/// This many messages are not worth a pause.
const FEW_MESSAGES: usize = 2;
/// A longer distance between messages counts as this one.
const MAX_DISTANCE: Duration = Duration::from_secs(1);
/// How long the pause does not grow after a longer one brought nothing.
const GROWTH_DELAY: Duration = Duration::from_secs(1);
/// Reads that are more pauses apart do not show how closely messages follow one another.
const MAX_PAUSES_BETWEEN_READS: u32 = 4;

#[derive(Debug)]
pub struct ReadPacer {
    min: Duration,
    max: Duration,
    pause: Duration,
    last_read: Option<Instant>,
    /// The smoothed distance between two messages.
    distance: Duration,
    /// The distance within the last read, if the pause has grown since.
    distance_before_growth: Option<Duration>,
    grows_from: Option<Instant>,
}

impl ReadPacer {
    /// Pauses last at least `min`, and none is made if that is zero. They grow up to `max_delay`, the time that a batch may
    /// wait.
    pub fn new(min: Duration, max_delay: Duration) -> ReadPacer {
        ReadPacer {
            min,
            max: if min.is_zero() { min } else { min.max(MAX_PAUSE.min(max_delay)) },
            pause: min,
            last_read: None,
            distance: Duration::MAX,
            distance_before_growth: None,
            grows_from: None,
        }
    }

    /// The pause after a read that brought this and emptied the socket; zero: wait for the next bytes.
    pub fn after(&mut self, messages: usize, bytes: usize, at: Instant) -> Duration {
        let since = self
            .last_read
            .replace(at)
            .map_or(MAX_DISTANCE, |last| at.saturating_duration_since(last))
            .min(MAX_DISTANCE);
        let distance = u32::try_from(messages).ok().and_then(|messages| since.checked_div(messages));
        if let Some(distance) = distance {
            self.distance = (3 * self.distance.min(MAX_DISTANCE) + distance) / 4;
        }
        self.adapt(messages, bytes, since, distance.unwrap_or(MAX_DISTANCE), at);
        let is_worth_it =
            messages > FEW_MESSAGES || (messages > 0 && self.distance * FEW_MESSAGES as u32 <= self.min);
        if is_worth_it { self.pause } else { Duration::ZERO }
    }

    fn adapt(&mut self, messages: usize, bytes: usize, since: Duration, distance: Duration, at: Instant) {
        let half = (self.pause / 2).max(self.min);
        // Twice the pause for as many messages is twice the distance.
        let brought_nothing =
            self.distance_before_growth.take().is_some_and(|before| distance * 2 > before * 3);
        if messages <= FEW_MESSAGES {
            self.pause = self.min;
        } else if brought_nothing {
            self.pause = half;
            self.grows_from = Some(at + GROWTH_DELAY);
        } else if bytes > 3 * ENOUGH_BYTES {
            self.pause = half;
        } else if bytes < ENOUGH_BYTES
            && self.pause < self.max
            && since <= MAX_PAUSES_BETWEEN_READS * self.pause
            && self.grows_from.is_none_or(|from| at >= from)
        {
            self.pause = (2 * self.pause).min(self.max);
            self.distance_before_growth = Some(distance);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LEAST: Duration = Duration::from_millis(1);
    const MOST: Duration = Duration::from_secs(1);
    const MESSAGE: usize = 138;

    /// The pause after a read of this many messages, this long after the read before it.
    fn after(pacer: &mut ReadPacer, messages: usize, millis: u64) -> Duration {
        let last = pacer.last_read.unwrap_or_else(Instant::now);
        pacer.after(messages, messages * MESSAGE, last + Duration::from_millis(millis))
    }

    /// The pauses of a steady stream, in ms; each read brings what the pause before it let gather.
    fn steady(pacer: &mut ReadPacer, messages_per_second: usize) -> Vec<u128> {
        let mut paused = LEAST;
        let pauses = (0..20).map(|_| {
            let messages = messages_per_second * paused.as_millis() as usize / 1000;
            paused = after(pacer, messages, paused.as_millis() as u64);
            paused.as_millis()
        });
        pauses.collect()
    }

    #[test]
    fn a_dense_stream_is_read_in_larger_reads() {
        let pauses = steady(&mut ReadPacer::new(LEAST, MOST), 60_000);
        assert_eq!(pauses[..5], [1, 2, 4, 8, 8]);
        assert_eq!(pauses[19], 8);
        assert_eq!(steady(&mut ReadPacer::new(LEAST, MOST), 4_000)[19], 10);
    }

    #[test]
    fn a_fast_stream_pauses_until_a_read_has_enough() {
        let longest = steady(&mut ReadPacer::new(LEAST, MOST), 200_000)[19];
        assert_eq!(longest, 4);
        assert_eq!(steady(&mut ReadPacer::new(LEAST, MOST), 1_500_000)[19], 1);
    }

    #[test]
    fn a_stream_that_thins_out_does_not_wait() {
        let mut pacer = ReadPacer::new(LEAST, MOST);
        steady(&mut pacer, 60_000);
        assert_eq!(after(&mut pacer, 2, 8), Duration::ZERO);
        assert_eq!(after(&mut pacer, 3, 8), LEAST);
    }

    #[test]
    fn a_broker_that_waits_for_acknowledgements_is_not_kept_waiting() {
        let mut pacer = ReadPacer::new(LEAST, MOST);
        let mut paused = LEAST;
        let pauses: Vec<Duration> = (0..400)
            .map(|_| {
                paused = after(&mut pacer, 20, paused.as_millis() as u64);
                paused
            })
            .collect();
        let long = pauses.iter().filter(|pause| **pause > LEAST).count();
        assert!(long == 1 && pauses.iter().all(|pause| *pause <= 2 * LEAST), "{pauses:?}");
    }

    #[test]
    fn no_pause_is_longer_than_a_batch_may_wait() {
        let commit = Duration::from_millis(5);
        assert_eq!(steady(&mut ReadPacer::new(LEAST, commit), 60_000)[19], 5);
    }

    #[test]
    fn messages_that_come_closely_one_by_one_are_gathered() {
        let mut pacer = ReadPacer::new(LEAST, MOST);
        let mut at = Instant::now();
        let mut one_after = |micros| {
            at += Duration::from_micros(micros);
            pacer.after(1, MESSAGE, at)
        };
        // 500 a second are not; 15,000 are, once it is seen that they go on.
        assert!((0..100).all(|_| one_after(2000).is_zero()));
        assert!(one_after(66).is_zero());
        let first = (0..30).position(|_| one_after(66) == LEAST);
        assert!(first.is_some_and(|first| first > 2), "{first:?}");
        assert!(one_after(1_000_000).is_zero());
    }

    #[test]
    fn a_longer_pause_that_is_configured_is_kept() {
        let asked = Duration::from_millis(20);
        assert_eq!(after(&mut ReadPacer::new(asked, MOST), 100, 20), asked);
    }

    #[test]
    fn it_can_be_off() {
        assert_eq!(after(&mut ReadPacer::new(Duration::ZERO, MOST), 1000, 1), Duration::ZERO);
    }
}
