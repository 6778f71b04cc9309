//! How long the connection rests after a read that emptied the socket, so that the next read carries many messages.
//!
//! A broker writes each message by itself, and waking up for each is what costs most at real rates. It rests where
//! `coalesceMs` brings more than two messages, be it that the last read had so many or that they come one by one and
//! closely: whoever wakes up quickly enough would otherwise find one message at a time for ever. In a dense stream it grows, up to [`LONGEST`], until a read brings about [`ENOUGH`]
//! bytes: a thousand wake-ups a second for 60 messages each would still cost as much as the messages do. It doubles
//! from read to read and falls at once, so a stream that thins out does not wait.

use std::time::{Duration, Instant};

/// Longer rests save little more. One that is asked for may be longer.
const LONGEST: Duration = Duration::from_millis(5);
/// A read of so many bytes is worth its system call many times over; waiting for more would fill the socket's buffer.
const ENOUGH: usize = 64 << 10;
/// Fewer messages than these in one rest are no dense stream: a broker's window may be all of them.
const DENSE: usize = 48;
/// What is not worth a rest.
const FEW: usize = 2;
/// A distance of so much is as good as none.
const IDLE: Duration = Duration::from_secs(1);

#[derive(Debug)]
pub struct Rest {
    least: Duration,
    longest: Duration,
    now: Duration,
    last_read: Option<Instant>,
    /// Between two messages, smoothed.
    distance: Duration,
}

impl Rest {
    pub fn new(least: Duration) -> Rest {
        Rest {
            least,
            longest: if least.is_zero() { least } else { least.max(LONGEST) },
            now: least,
            last_read: None,
            distance: Duration::MAX,
        }
    }

    /// The rest after a read that brought this and emptied the socket; zero is to wait for what comes next.
    pub fn after(&mut self, messages: usize, bytes: usize, at: Instant) -> Duration {
        self.measure(messages, at);
        self.now = match messages {
            _ if messages < DENSE => self.least,
            _ if bytes < ENOUGH => (2 * self.now).min(self.longest),
            _ if bytes > 3 * ENOUGH => (self.now / 2).max(self.least),
            _ => self.now,
        };
        let is_worth_it = messages > FEW || (messages > 0 && self.distance * FEW as u32 <= self.least);
        if is_worth_it { self.now } else { Duration::ZERO }
    }

    fn measure(&mut self, messages: usize, at: Instant) {
        let since = self.last_read.replace(at).map_or(IDLE, |last| at.saturating_duration_since(last));
        if let Ok(messages @ 1..) = u32::try_from(messages) {
            self.distance = (3 * self.distance.min(IDLE) + since.min(IDLE) / messages) / 4;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LEAST: Duration = Duration::from_millis(1);
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
        let rests = steady(&mut Rest::new(LEAST), 60_000);
        assert_eq!(rests[..4], [2, 4, 5, 5]);
        assert_eq!(rests[19], 5);
    }

    #[test]
    fn a_fast_stream_rests_until_a_read_has_enough() {
        let longest = steady(&mut Rest::new(LEAST), 200_000)[19];
        assert_eq!(longest, 4);
        assert_eq!(steady(&mut Rest::new(LEAST), 1_500_000)[19], 1);
    }

    #[test]
    fn a_stream_that_thins_out_does_not_wait() {
        let mut rest = Rest::new(LEAST);
        steady(&mut rest, 60_000);
        assert_eq!(after(&mut rest, 20, 5), LEAST);
        assert_eq!(after(&mut rest, 2, 5000), Duration::ZERO);
    }

    #[test]
    fn messages_that_come_closely_one_by_one_are_rested_for() {
        let mut rest = Rest::new(LEAST);
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
        assert_eq!(after(&mut Rest::new(asked), 100, 20), asked);
    }

    #[test]
    fn it_can_be_off() {
        assert_eq!(after(&mut Rest::new(Duration::ZERO), 1000, 1), Duration::ZERO);
    }
}
