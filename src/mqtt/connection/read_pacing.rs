//! How long the connection rests after a read that emptied the socket, so that the next read carries many messages.
//!
//! A broker writes each message by itself, and waking up for each is what costs most at real rates. It rests where
//! `coalesceMs` brings more than two messages, be it that the last read had so many or that they come one by one and
//! closely: whoever wakes up quickly enough would otherwise find one message at a time for ever.
//!
//! A wake-up with cold caches still costs as much as some hundred messages. So the rest doubles from read to read, up to
//! [`LONGEST`], until a read brings about [`ENOUGH`] bytes. Where messages come no more closely than before although it
//! rests longer, the broker waits for acknowledgements: the rest goes back, and is tried again after [`HOLD`]. It falls at
//! once where a stream thins out.

use std::time::{Duration, Instant};

/// Longer rests save little more. One that is asked for may be longer.
const LONGEST: Duration = Duration::from_millis(10);
/// A read of so many bytes is worth its wake-up. Waiting for more would fill the socket's buffer, where small segments take
/// several times their bytes: the kernel then moves them together, which costs more than all wake-ups.
const ENOUGH: usize = 64 << 10;
/// What is not worth a rest.
const FEW: usize = 2;
/// A distance of so much is as good as none.
const IDLE: Duration = Duration::from_secs(1);
/// How long a rest stays as it is after a longer one brought nothing.
const HOLD: Duration = Duration::from_secs(1);
/// A read that comes so many rests after the last one does not say how closely messages follow each other.
const FLOWING: u32 = 4;

#[derive(Debug)]
pub struct Rest {
    least: Duration,
    longest: Duration,
    now: Duration,
    last_read: Option<Instant>,
    /// Between two messages, smoothed.
    distance: Duration,
    /// The distance within the last read, if the rest has grown since.
    before: Option<Duration>,
    grows_from: Option<Instant>,
}

impl Rest {
    /// At least `least`, zero for none; longer ones not beyond `most`, which is what a batch may wait.
    pub fn new(least: Duration, most: Duration) -> Rest {
        Rest {
            least,
            longest: if least.is_zero() { least } else { least.max(LONGEST.min(most)) },
            now: least,
            last_read: None,
            distance: Duration::MAX,
            before: None,
            grows_from: None,
        }
    }

    /// The rest after a read that brought this and emptied the socket; zero is to wait for what comes next.
    pub fn after(&mut self, messages: usize, bytes: usize, at: Instant) -> Duration {
        let since =
            self.last_read.replace(at).map_or(IDLE, |last| at.saturating_duration_since(last)).min(IDLE);
        let distance = u32::try_from(messages).ok().and_then(|messages| since.checked_div(messages));
        if let Some(distance) = distance {
            self.distance = (3 * self.distance.min(IDLE) + distance) / 4;
        }
        self.adapt(messages, bytes, since, distance.unwrap_or(IDLE), at);
        let is_worth_it = messages > FEW || (messages > 0 && self.distance * FEW as u32 <= self.least);
        if is_worth_it { self.now } else { Duration::ZERO }
    }

    fn adapt(&mut self, messages: usize, bytes: usize, since: Duration, distance: Duration, at: Instant) {
        let half = (self.now / 2).max(self.least);
        // Twice the rest for as many messages is twice the distance.
        let brought_nothing = self.before.take().is_some_and(|before| distance * 2 > before * 3);
        if messages <= FEW {
            self.now = self.least;
        } else if brought_nothing {
            self.now = half;
            self.grows_from = Some(at + HOLD);
        } else if bytes > 3 * ENOUGH {
            self.now = half;
        } else if bytes < ENOUGH
            && self.now < self.longest
            && since <= FLOWING * self.now
            && self.grows_from.is_none_or(|from| at >= from)
        {
            self.now = (2 * self.now).min(self.longest);
            self.before = Some(distance);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LEAST: Duration = Duration::from_millis(1);
    const MOST: Duration = Duration::from_secs(1);
    const MESSAGE: usize = 138;

    /// What a read that brings this at a time leads to.
    fn after(rest: &mut Rest, messages: usize, millis: u64) -> Duration {
        let last = rest.last_read.unwrap_or_else(Instant::now);
        rest.after(messages, messages * MESSAGE, last + Duration::from_millis(millis))
    }

    /// The rests of a steady stream, each as long as what the one before it let gather.
    fn steady(rest: &mut Rest, messages_per_second: usize) -> Vec<u128> {
        let mut rested = LEAST;
        let rests = (0..20).map(|_| {
            let messages = messages_per_second * rested.as_millis() as usize / 1000;
            rested = after(rest, messages, rested.as_millis() as u64);
            rested.as_millis()
        });
        rests.collect()
    }

    #[test]
    fn a_dense_stream_is_read_in_larger_pieces() {
        let rests = steady(&mut Rest::new(LEAST, MOST), 60_000);
        assert_eq!(rests[..5], [1, 2, 4, 8, 8]);
        assert_eq!(rests[19], 8);
        assert_eq!(steady(&mut Rest::new(LEAST, MOST), 4_000)[19], 10);
    }

    #[test]
    fn a_fast_stream_rests_until_a_read_has_enough() {
        let longest = steady(&mut Rest::new(LEAST, MOST), 200_000)[19];
        assert_eq!(longest, 4);
        assert_eq!(steady(&mut Rest::new(LEAST, MOST), 1_500_000)[19], 1);
    }

    #[test]
    fn a_stream_that_thins_out_does_not_wait() {
        let mut rest = Rest::new(LEAST, MOST);
        steady(&mut rest, 60_000);
        assert_eq!(after(&mut rest, 2, 8), Duration::ZERO);
        assert_eq!(after(&mut rest, 3, 8), LEAST);
    }

    #[test]
    fn a_broker_that_waits_for_acknowledgements_is_not_kept_waiting() {
        let mut rest = Rest::new(LEAST, MOST);
        let mut rested = LEAST;
        let rests: Vec<Duration> = (0..400)
            .map(|_| {
                rested = after(&mut rest, 20, rested.as_millis() as u64);
                rested
            })
            .collect();
        let long = rests.iter().filter(|rest| **rest > LEAST).count();
        assert!(long == 1 && rests.iter().all(|rest| *rest <= 2 * LEAST), "{rests:?}");
    }

    #[test]
    fn no_rest_is_longer_than_a_batch_may_wait() {
        let commit = Duration::from_millis(5);
        assert_eq!(steady(&mut Rest::new(LEAST, commit), 60_000)[19], 5);
    }

    #[test]
    fn messages_that_come_closely_one_by_one_are_rested_for() {
        let mut rest = Rest::new(LEAST, MOST);
        let mut at = Instant::now();
        let mut one_after = |micros| {
            at += Duration::from_micros(micros);
            rest.after(1, MESSAGE, at)
        };
        // 500 a second are not; 15,000 are, once it is seen that they go on.
        assert!((0..100).all(|_| one_after(2000).is_zero()));
        assert!(one_after(66).is_zero());
        let first = (0..30).position(|_| one_after(66) == LEAST);
        assert!(first.is_some_and(|first| first > 2), "{first:?}");
        assert!(one_after(1_000_000).is_zero());
    }

    #[test]
    fn a_longer_rest_that_is_asked_for_is_kept() {
        let asked = Duration::from_millis(20);
        assert_eq!(after(&mut Rest::new(asked, MOST), 100, 20), asked);
    }

    #[test]
    fn it_can_be_off() {
        assert_eq!(after(&mut Rest::new(Duration::ZERO, MOST), 1000, 1), Duration::ZERO);
    }
}
