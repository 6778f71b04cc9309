//! Durations counted in buckets, without locks: 32 buckets for each power of two of microseconds, so that a quantile
//! is at most 3 % above the true one.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use serde::Serialize;

const SUB_BITS: u32 = 5;
const SUB: usize = 1 << SUB_BITS;
/// Up to 2^36 µs, 19 hours; longer ones count there.
const BUCKETS: usize = (36 - SUB_BITS as usize + 1) * SUB;

#[derive(Debug)]
pub struct Histogram {
    buckets: Box<[AtomicU64]>,
    sum: AtomicU64,
    max: AtomicU64,
}

/// In milliseconds.
#[derive(Debug, Default, Clone, Copy, PartialEq, Serialize)]
pub struct Quantiles {
    pub count: u64,
    pub p50: f64,
    pub p90: f64,
    pub p99: f64,
    pub max: f64,
}

/// How many durations were at most as long as each of some limits. An original bucket that has a limit inside it counts as
/// longer.
#[derive(Debug, Clone, PartialEq)]
pub struct Cumulative {
    pub counts: Vec<u64>,
    pub count: u64,
    pub sum: Duration,
}

impl Default for Histogram {
    fn default() -> Self {
        Histogram {
            buckets: (0..BUCKETS).map(|_| AtomicU64::new(0)).collect(),
            sum: AtomicU64::new(0),
            max: AtomicU64::new(0),
        }
    }
}

impl Histogram {
    pub fn record(&self, duration: Duration, count: u64) {
        let micros = duration.as_micros().min(u64::MAX as u128) as u64;
        self.buckets[bucket(micros)].fetch_add(count, Ordering::Relaxed);
        self.sum.fetch_add(micros.saturating_mul(count), Ordering::Relaxed);
        self.max.fetch_max(micros, Ordering::Relaxed);
    }

    fn counts(&self) -> Vec<u64> {
        self.buckets.iter().map(|b| b.load(Ordering::Relaxed)).collect()
    }

    /// `limits` rise.
    pub fn cumulative(&self, limits: &[Duration]) -> Cumulative {
        let counts = self.counts();
        let count = counts.iter().sum();
        let mut buckets = counts.into_iter().enumerate().peekable();
        let mut below = 0;
        let counts = limits.iter().map(|limit| {
            while let Some((_, in_bucket)) =
                buckets.next_if(|(index, _)| u128::from(last_of(*index)) <= limit.as_micros())
            {
                below += in_bucket;
            }
            below
        });
        Cumulative {
            counts: counts.collect(),
            count,
            sum: Duration::from_micros(self.sum.load(Ordering::Relaxed)),
        }
    }

    pub fn quantiles(&self) -> Quantiles {
        let counts = self.counts();
        let count: u64 = counts.iter().sum();
        let max = self.max.load(Ordering::Relaxed);
        let quantile = |q: f64| {
            let rank = ((count as f64 * q).ceil() as u64).max(1);
            let mut below = 0;
            for (index, in_bucket) in counts.iter().enumerate() {
                below += in_bucket;
                if below >= rank {
                    return last_of(index).min(max) as f64 / 1000.0;
                }
            }
            0.0
        };
        Quantiles {
            count,
            p50: quantile(0.5),
            p90: quantile(0.9),
            p99: quantile(0.99),
            max: max as f64 / 1000.0,
        }
    }
}

fn bucket(micros: u64) -> usize {
    if micros < SUB as u64 {
        return micros as usize;
    }
    let shift = 63 - micros.leading_zeros() - SUB_BITS;
    let index = (shift as usize + 1) * SUB + (micros >> shift) as usize - SUB;
    index.min(BUCKETS - 1)
}

/// The greatest number of microseconds that falls into a bucket.
fn last_of(bucket: usize) -> u64 {
    if bucket < SUB {
        return bucket as u64;
    }
    let shift = bucket / SUB - 1;
    (((bucket % SUB + SUB + 1) as u64) << shift) - 1
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn buckets_follow_one_another() {
        let mut last = 0;
        for micros in 0..1_000_000u64 {
            let index = bucket(micros);
            assert!(index == last || index == last + 1, "{micros}");
            assert!(last_of(index) >= micros && last_of(index) as f64 <= micros as f64 * 1.04 + 1.0);
            last = index;
        }
        assert_eq!(bucket(u64::MAX), BUCKETS - 1);
    }

    #[test]
    fn quantiles_are_close() {
        let histogram = Histogram::default();
        for millis in 1..=1000 {
            histogram.record(Duration::from_millis(millis), 1);
        }
        let q = histogram.quantiles();
        assert_eq!((q.count, q.max), (1000, 1000.0));
        for (got, expected) in [(q.p50, 500.0), (q.p90, 900.0), (q.p99, 990.0)] {
            assert!((got - expected).abs() / expected < 0.04, "{got} {expected}");
        }
        assert_eq!(Histogram::default().quantiles(), Quantiles::default());
    }

    #[test]
    fn durations_up_to_a_limit_are_counted_below_it() {
        let histogram = Histogram::default();
        for millis in 1..=1000 {
            histogram.record(Duration::from_millis(millis), 2);
        }
        let limits = [0, 10, 100, 5000].map(Duration::from_millis);
        let Cumulative { counts, count, sum } = histogram.cumulative(&limits);
        assert_eq!((count, sum), (2000, Duration::from_millis(1_001_000)));
        for (got, expected) in counts.into_iter().zip([0u64, 20, 200, 2000]) {
            assert!(got <= expected && got as f64 >= expected as f64 * 0.9, "{got} {expected}");
        }
        // A duration in full milliseconds a little below a limit is below it.
        let one = Histogram::default();
        one.record(Duration::from_micros(970), 1);
        assert_eq!(one.cumulative(&[Duration::from_millis(1)]).counts, [1]);
    }
}
