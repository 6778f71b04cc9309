//! Computes how long to wait before the next connection.
//!
//! - Waits grow with each failure, and start again from the shortest after a connection that lived long enough.
//! - Two clients with the same client id take the session from each other for ever, each ending the other's connection
//!   as soon as it connects. A rival with our configuration waits about as long as we do, so "long enough" is measured
//!   by our own last wait: both clients then wait longer and longer, and stay at the longest wait.
//! - MQTT 5 reports a takeover (3.14.2.1, 0x8e). The waits after it start at the longest of the others: the client that
//!   came later should keep the session, such as the new process of a deployment while the old one still runs. MQTT 3.1.1
//!   reports nothing: connections that end several times soon after they were granted are taken for a takeover.

use std::time::Duration;

use crate::config;
use crate::core::backoff::Backoff;

/// Why a granted connection ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DisconnectCause {
    /// Another client has connected under our client id.
    TakenOver,
    /// The broker or the network ended it.
    Closed,
    /// We gave it up.
    GivenUp,
}

/// A connection that lived shorter counts as failed, however short the waits are.
const MIN_LIFETIME: Duration = Duration::from_secs(5);
/// A rival's wait may be this many times ours: it may be a step ahead, with the most jitter where we had the least.
const RIVAL_FACTOR: u32 = 4;
/// This many short-lived connections in a row are taken for a takeover.
const CONTESTED_AFTER: u32 = 3;
/// The longest wait after a takeover, in multiples of `reconnect.maxMs`.
const MAX_TAKEOVER_FACTOR: u32 = 32;

#[derive(Debug)]
pub struct Reconnection {
    waits: Backoff,
    takeovers: Backoff,
    /// The wait after the last connection that was lost.
    last_wait: Duration,
    /// Short-lived connections in a row.
    short_lived: u32,
}

impl Reconnection {
    pub fn new(limits: config::Backoff) -> Reconnection {
        let takeovers =
            config::Backoff { min: limits.max, max: limits.max.saturating_mul(MAX_TAKEOVER_FACTOR) };
        Reconnection {
            waits: Backoff::new(limits),
            takeovers: Backoff::new(takeovers),
            last_wait: Duration::ZERO,
            short_lived: 0,
        }
    }

    /// The wait after a granted connection that lived this long.
    pub fn lost(&mut self, lived: Duration, cause: DisconnectCause) -> Duration {
        let lived_long = lived >= MIN_LIFETIME.max(self.last_wait.saturating_mul(RIVAL_FACTOR));
        if lived_long {
            self.waits.succeeded();
            self.takeovers.succeeded();
        }
        self.short_lived =
            if cause == DisconnectCause::Closed && !lived_long { self.short_lived + 1 } else { 0 };
        self.last_wait = match cause {
            DisconnectCause::TakenOver => self.takeovers.failed(),
            DisconnectCause::Closed | DisconnectCause::GivenUp => self.waits.failed(),
        };
        self.last_wait
    }

    /// The wait after a round of all URLs without a connection.
    pub fn failed(&mut self) -> Duration {
        self.waits.failed()
    }

    /// Whether connections end as if a rival ended them: true once per series of short-lived connections.
    pub fn is_contested(&self) -> bool {
        self.short_lived == CONTESTED_AFTER
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIMITS: config::Backoff =
        config::Backoff { min: Duration::from_millis(100), max: Duration::from_secs(30) };
    const HOUR: Duration = Duration::from_secs(3600);

    /// Two clients with one client id, each of which ends the other's connection when it connects: the number of takeovers in
    /// each hour of a day.
    fn rivalry(cause: DisconnectCause) -> Vec<u32> {
        let mut rivals = [Reconnection::new(LIMITS), Reconnection::new(LIMITS)];
        let (mut now, mut holder, mut held_since) = (HOUR, 0, Duration::ZERO);
        let mut takeovers = vec![0; 25];
        while now < 25 * HOUR {
            takeovers[now.as_secs() as usize / 3600] += 1;
            let wait = rivals[holder].lost(now - held_since, cause);
            held_since = now;
            holder = 1 - holder;
            now += wait;
        }
        takeovers.split_off(1)
    }

    #[test]
    fn rivals_leave_each_other_alone_for_longer_and_longer() {
        let reported = rivalry(DisconnectCause::TakenOver);
        assert!(reported[0] <= 18, "{reported:?}");
        assert!(reported[1..].iter().all(|count| *count <= 8), "{reported:?}");
        let unreported = rivalry(DisconnectCause::Closed);
        assert!(unreported.iter().all(|count| *count <= 3600 / 15 + 12), "{unreported:?}");
    }

    #[test]
    fn the_one_who_came_later_keeps_the_session_for_a_while() {
        let mut reconnection = Reconnection::new(LIMITS);
        assert!(reconnection.lost(24 * HOUR, DisconnectCause::TakenOver) >= LIMITS.max / 2);
    }

    #[test]
    fn a_network_that_fails_now_and_then_is_reconnected_at_once() {
        let mut reconnection = Reconnection::new(LIMITS);
        for _ in 0..100 {
            assert!(reconnection.lost(Duration::from_secs(20), DisconnectCause::Closed) <= LIMITS.min);
            assert!(!reconnection.is_contested());
        }
    }

    #[test]
    fn short_lived_connections_are_reported_once() {
        let mut reconnection = Reconnection::new(LIMITS);
        let reported = (0..20).filter(|_| {
            reconnection.lost(Duration::from_secs(1), DisconnectCause::Closed);
            reconnection.is_contested()
        });
        assert_eq!(reported.count(), 1);
    }
}
