//! How long acknowledgements take, by packet id.

use std::sync::atomic::{AtomicU32, AtomicU64, Ordering::Relaxed};
use std::time::Instant;

/// Ten buckets a millisecond, up to ten seconds.
const BUCKETS: usize = 100_000;
const BUCKET_NS: u64 = 100_000;

pub struct Latency {
    began: Instant,
    /// When the message of each packet id left, in nanoseconds.
    sent_at: Vec<AtomicU64>,
    counts: Vec<AtomicU32>,
}

impl Latency {
    pub fn new() -> Self {
        Self {
            began: Instant::now(),
            sent_at: (0..=u16::MAX).map(|_| AtomicU64::default()).collect(),
            counts: (0..BUCKETS).map(|_| AtomicU32::default()).collect(),
        }
    }

    fn now(&self) -> u64 {
        self.began.elapsed().as_nanos() as u64
    }

    /// `count` messages leave, the last of them with this id. 0 is none.
    pub fn sent(&self, last_id: u16, count: usize) {
        let now = self.now();
        let mut id = last_id;
        for _ in 0..count {
            self.sent_at[usize::from(id)].store(now, Relaxed);
            id = if id == 1 { u16::MAX } else { id - 1 };
        }
    }

    pub fn acknowledged(&self, id: u16) {
        let took = self.now().saturating_sub(self.sent_at[usize::from(id)].load(Relaxed));
        self.counts[BUCKETS.min((took / BUCKET_NS) as usize + 1) - 1].fetch_add(1, Relaxed);
    }

    /// A member of a JSON object; empty if nothing was acknowledged.
    pub fn report(&self) -> String {
        let counts: Vec<u64> = self.counts.iter().map(|count| u64::from(count.load(Relaxed))).collect();
        let total: u64 = counts.iter().sum();
        let quantile = |part: f64| {
            let wanted = (part * total as f64).ceil() as u64;
            let mut seen = 0;
            let bucket = counts.iter().position(|count| {
                seen += count;
                seen >= wanted
            });
            (bucket.unwrap_or(0) + 1) as f64 * BUCKET_NS as f64 / 1e6
        };
        match total {
            0 => String::new(),
            _ => format!(
                ",\"acknowledgedMs\":{{\"p50\":{:.1},\"p99\":{:.1},\"max\":{:.1}}}",
                quantile(0.5),
                quantile(0.99),
                quantile(1.0)
            ),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_id_has_its_own_time() {
        let latency = Latency::new();
        assert_eq!(latency.report(), "");
        latency.sent(2, 4);
        for id in [u16::MAX - 1, u16::MAX, 1, 2] {
            assert!(latency.sent_at[usize::from(id)].load(Relaxed) > 0);
            latency.acknowledged(id);
        }
        assert_eq!(latency.sent_at[3].load(Relaxed), 0);
        assert!(latency.report().starts_with(",\"acknowledgedMs\":{\"p50\":"), "{}", latency.report());
    }
}
