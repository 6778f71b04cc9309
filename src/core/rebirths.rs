//! Requests for the BIRTH messages of Sparkplug B: which edge nodes are to be asked for them, and when.
//!
//! A decoder notes each message that it cannot fully understand. The connection takes what is due, and publishes it. A node is asked
//! once, and again after 10 s, 20 s and so on up to 10 minutes while its messages cannot be understood; all nodes together at
//! most 50 times a second, since each answers with all of its metrics. All routes and connections of a pipeline share the limits.

use std::collections::HashMap;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use crate::core::lock::lock;

/// The wait before a node is asked again; it doubles.
const FIRST_WAIT: Duration = Duration::from_secs(10);
const LONGEST_WAIT: Duration = Duration::from_secs(600);
/// Requests to all nodes in a second.
const PER_SECOND: u32 = 50;
/// More nodes than this are not asked, and more requests not noted at a time: the next message of the node notes it again.
const MAX_NODES: usize = 1 << 16;
const MAX_NOTED: usize = 1024;

/// A node that is to be asked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RebirthRequest {
    /// The topic of commands to it.
    pub topic: String,
    /// Why its messages are not understood.
    pub reason: String,
}

/// Notes of the decoder of a route on one connection.
#[derive(Debug, Clone, Default)]
pub struct NotedRebirths(Arc<Mutex<Vec<RebirthRequest>>>);

impl NotedRebirths {
    pub fn note(&self, topic: String, reason: impl FnOnce() -> String) {
        let mut noted = lock(&self.0);
        if noted.len() < MAX_NOTED && !noted.iter().any(|request| request.topic == topic) {
            noted.push(RebirthRequest { topic, reason: reason() });
        }
    }

    pub fn take(&self) -> Vec<RebirthRequest> {
        std::mem::take(&mut *lock(&self.0))
    }
}

/// The limits of a pipeline.
#[derive(Debug, Default)]
pub struct RebirthLimits(Mutex<Limits>);

#[derive(Debug, Default)]
struct Limits {
    /// By topic: when the node was asked last, and how long it is left alone.
    asked: HashMap<String, (Instant, Duration)>,
    /// The second that is counted, and its requests.
    second: Option<Instant>,
    count: u32,
}

impl RebirthLimits {
    /// Whether a node may be asked now; it counts as asked then.
    pub fn allow(&self, topic: &str, now: Instant) -> bool {
        let limits = &mut *lock(&self.0);
        if limits.second.is_none_or(|since| now.saturating_duration_since(since) >= Duration::from_secs(1)) {
            (limits.second, limits.count) = (Some(now), 0);
        }
        let known = limits.asked.get(topic).copied();
        let wait = match known {
            Some((at, wait)) if now.saturating_duration_since(at) < wait => return false,
            // It was understood for as long as the longest wait since.
            Some((at, wait)) if now.saturating_duration_since(at) > wait + LONGEST_WAIT => FIRST_WAIT,
            Some((_, wait)) => (wait * 2).min(LONGEST_WAIT),
            None => FIRST_WAIT,
        };
        if limits.count >= PER_SECOND || (known.is_none() && limits.asked.len() >= MAX_NODES) {
            return false;
        }
        limits.count += 1;
        limits.asked.insert(topic.into(), (now, wait));
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_node_is_asked_again_after_waits_that_double() {
        let limits = RebirthLimits::default();
        let start = Instant::now();
        let asked: Vec<u64> =
            (0..3000).filter(|second| limits.allow("n", start + Duration::from_secs(*second))).collect();
        assert_eq!(asked, [0, 10, 30, 70, 150, 310, 630, 1230, 1830, 2430]);
        // Long after the last request it begins anew.
        let later = start + Duration::from_secs(10_000);
        assert!(limits.allow("n", later) && !limits.allow("n", later + Duration::from_secs(9)));
        assert!(limits.allow("n", later + Duration::from_secs(10)));
    }

    #[test]
    fn all_nodes_together_are_asked_fifty_times_a_second() {
        let limits = RebirthLimits::default();
        let start = Instant::now();
        let asked = |from: usize, at| (from..from + 200).filter(|n| limits.allow(&n.to_string(), at)).count();
        assert_eq!((asked(0, start), asked(200, start)), (50, 0));
        // A node that was not asked need not wait for it.
        let next = start + Duration::from_secs(1);
        assert_eq!((50..100).filter(|n| limits.allow(&n.to_string(), next)).count(), 50);
    }

    #[test]
    fn a_node_is_noted_once_until_it_is_taken() {
        let noted = NotedRebirths::default();
        noted.note("a".into(), || "first".into());
        noted.note("a".into(), || "second".into());
        noted.note("b".into(), || "third".into());
        let taken = noted.take();
        assert_eq!(taken.iter().map(|request| &*request.reason).collect::<Vec<_>>(), ["first", "third"]);
        assert_eq!(noted.take(), []);
    }
}
