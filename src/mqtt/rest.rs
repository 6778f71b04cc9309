//! How long the connection rests after a read that emptied the socket, so that the next read carries many messages.
//!
//! A broker writes each message by itself, and waking up for each is what costs most at real rates. A rest of
//! `coalesceMs` is the least; in a dense stream it grows, up to [`LONGEST`], until a read brings about [`ENOUGH`]
//! bytes: a thousand wake-ups a second for 60 messages each would still cost as much as the messages do. It doubles
//! from read to read and falls at once, so a stream that thins out does not wait.

use std::time::Duration;

/// Longer rests save little more. One that is asked for may be longer.
const LONGEST: Duration = Duration::from_millis(5);
/// A read of so many bytes is worth its system call many times over; waiting for more would fill the socket's buffer.
const ENOUGH: usize = 64 << 10;
/// Fewer messages than these in one rest are no dense stream: a broker's window may be all of them.
const DENSE: usize = 48;

#[derive(Debug)]
pub struct Rest {
    least: Duration,
    longest: Duration,
    now: Duration,
}

impl Rest {
    pub fn new(least: Duration) -> Rest {
        Rest { least, longest: if least.is_zero() { least } else { least.max(LONGEST) }, now: least }
    }

    /// The rest after a read that brought this and emptied the socket; zero is to wait for what comes next.
    pub fn after(&mut self, messages: usize, bytes: usize) -> Duration {
        self.now = match messages {
            _ if messages < DENSE => self.least,
            _ if bytes < ENOUGH => (2 * self.now).min(self.longest),
            _ if bytes > 3 * ENOUGH => (self.now / 2).max(self.least),
            _ => self.now,
        };
        if messages > 2 { self.now } else { Duration::ZERO }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LEAST: Duration = Duration::from_millis(1);
    const MESSAGE: usize = 138;

    /// The rests of a steady stream, each as long as what the one before it let gather.
    fn steady(rest: &mut Rest, messages_per_second: usize) -> Vec<u128> {
        let mut rested = LEAST;
        let rests = (0..20).map(|_| {
            let messages = messages_per_second * rested.as_millis() as usize / 1000;
            rested = rest.after(messages, messages * MESSAGE);
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
        assert_eq!(rest.after(20, 20 * MESSAGE), LEAST);
        assert_eq!(rest.after(2, 2 * MESSAGE), Duration::ZERO);
    }

    #[test]
    fn a_longer_rest_that_is_asked_for_is_kept() {
        let asked = Duration::from_millis(20);
        assert_eq!(Rest::new(asked).after(100, 100 * MESSAGE), asked);
    }

    #[test]
    fn it_can_be_off() {
        assert_eq!(Rest::new(Duration::ZERO).after(1000, 1000 * MESSAGE), Duration::ZERO);
    }
}
