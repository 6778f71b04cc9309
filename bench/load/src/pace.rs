//! How many messages are due now, so that a target rate comes out smooth.
//!
//! The clock is passed in. A pacer keeps a debt: what the rate asked for up to now, minus what was sent. It is paid
//! in slices of bounded size, so a generator that was kept from running catches up without a burst that no fleet
//! would send. A debt of more than a second is forgiven: the report then shows the lower rate.

use std::time::Duration;

/// The rhythm of the generator: due messages are sent once per slice.
pub const SLICE: Duration = Duration::from_millis(1);

/// The most that one slice may send, in slices of the target rate.
const MAX_BURST_SLICES: u64 = 5;

/// The messages of one slice when there is no target rate.
const FLAT_OUT: u64 = 2_000;

pub struct Pacer {
    rate: u64,
    settled: u64,
    burst: u64,
}

impl Pacer {
    /// `rate` is in messages per second; 0 is as fast as the broker takes them.
    pub fn new(rate: u64) -> Self {
        let slices_per_second = (Duration::from_secs(1).as_nanos() / SLICE.as_nanos()) as u64;
        Self { rate, settled: 0, burst: (rate * MAX_BURST_SLICES).div_ceil(slices_per_second) }
    }

    /// How many messages may be sent `elapsed` after the start.
    pub fn due(&mut self, elapsed: Duration) -> u64 {
        if self.rate == 0 {
            return FLAT_OUT;
        }
        let asked = (elapsed.as_nanos() * u128::from(self.rate) / 1_000_000_000) as u64;
        self.settled = self.settled.max(asked.saturating_sub(self.rate));
        asked.saturating_sub(self.settled).min(self.burst)
    }

    pub fn sent(&mut self, messages: u64) {
        self.settled += messages;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn run(pacer: &mut Pacer, slices: impl Iterator<Item = u64>) -> (u64, u64) {
        let (mut total, mut largest) = (0, 0);
        for millis in slices {
            let due = pacer.due(Duration::from_millis(millis));
            pacer.sent(due);
            total += due;
            largest = largest.max(due);
        }
        (total, largest)
    }

    #[test]
    fn a_second_of_slices_sends_the_rate_evenly() {
        for rate in [1, 999, 10_000, 60_000, 1_000_000] {
            let (total, largest) = run(&mut Pacer::new(rate), 1..=1_000);
            assert_eq!(total, rate);
            assert!(largest <= rate.div_ceil(1_000), "{largest} at {rate}");
        }
    }

    #[test]
    fn a_pause_is_caught_up_without_a_burst() {
        let mut pacer = Pacer::new(60_000);
        let (total, largest) = run(&mut pacer, (1..=100).chain(200..=1_000));
        assert_eq!((total, largest), (60_000, 300));
    }

    #[test]
    fn a_debt_of_more_than_a_second_is_forgiven() {
        let mut pacer = Pacer::new(1_000);
        let (total, _) = run(&mut pacer, 10_000..=12_000);
        assert_eq!(total, 3_000);
    }

    #[test]
    fn unsent_messages_stay_due() {
        let mut pacer = Pacer::new(1_000);
        assert_eq!(pacer.due(Duration::from_millis(3)), 3);
        pacer.sent(1);
        assert_eq!(pacer.due(Duration::from_millis(3)), 2);
    }

    #[test]
    fn without_a_rate_something_is_always_due() {
        let mut pacer = Pacer::new(0);
        assert_eq!(pacer.due(Duration::ZERO), FLAT_OUT);
        pacer.sent(FLAT_OUT);
        assert_eq!(pacer.due(Duration::ZERO), FLAT_OUT);
    }
}
