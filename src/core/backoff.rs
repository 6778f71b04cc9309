//! Waiting longer after each failure: exponential, with jitter so that a fleet of clients does not come back as one.

use std::hash::{BuildHasher, Hasher, RandomState};
use std::time::Duration;

#[derive(Debug, Clone, Copy)]
pub struct Limits {
    pub min: Duration,
    pub max: Duration,
}

#[derive(Debug)]
pub struct Backoff {
    limits: Limits,
    failures: u32,
}

impl Backoff {
    pub fn new(limits: Limits) -> Backoff {
        Backoff { limits, failures: 0 }
    }

    /// How long to wait after one more failure: between half of the step and all of it.
    pub fn failed(&mut self) -> Duration {
        let step = self.limits.min.saturating_mul(1 << self.failures.min(20)).min(self.limits.max);
        self.failures = self.failures.saturating_add(1);
        step.mul_f64(0.5 + 0.5 * random())
    }

    pub fn succeeded(&mut self) {
        self.failures = 0;
    }

    pub fn failures(&self) -> u32 {
        self.failures
    }
}

/// From 0 to 1. The standard library's hash keys are random; jitter, names and samples need no more than that.
pub fn random() -> f64 {
    (random_bits() >> 11) as f64 / (1u64 << 53) as f64
}

pub fn random_bits() -> u64 {
    RandomState::new().build_hasher().finish()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_grow_to_the_limit() {
        let limits = Limits { min: Duration::from_millis(100), max: Duration::from_secs(30) };
        let mut backoff = Backoff::new(limits);
        for step in [100, 200, 400, 800] {
            let wait = backoff.failed().as_millis();
            assert!((step / 2..=step).contains(&wait), "{wait} of {step}");
        }
        for _ in 0..100 {
            assert!(backoff.failed() <= limits.max);
        }
        backoff.succeeded();
        assert!(backoff.failed() <= limits.min);
    }
}
