//! How long to wait before the next connection.
//!
//! - Waits grow with each failure, and begin anew after a connection that lived long enough.
//! - Two clients with the same client id take the session from each other for ever, each ending the other's connection
//!   as soon as it connects. A rival with our configuration waits about as long as we do, so "long enough" is measured
//!   by our own last wait: both then wait longer and longer, and stay there.
//! - MQTT 5 tells that another client has taken over (3.14.2.1, 0x8e). There the waits begin where others end: whoever
//!   came later is meant to have the session, such as the new process of a deployment while the old one still runs.
//!   MQTT 3.1.1 tells nothing: there, connections that end again and again soon after they were granted are a sign.

use std::time::Duration;

use crate::config;
use crate::core::backoff::Backoff;

/// How a connection ended that had been granted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Loss {
    /// Another client has connected under our client id.
    TakenOver,
    /// The broker or the network ended it.
    Closed,
    /// We gave it up.
    GivenUp,
}

/// A connection that lived shorter was no good one, however short the waits are.
const GOOD: Duration = Duration::from_secs(5);
/// By how much the wait of a rival may exceed ours: a step ahead, and with all of the jitter where we had least.
const RIVAL: u32 = 4;
/// So many connections in a row that ended soon are a sign.
const SIGN: u32 = 3;
/// How far the waits after a takeover may grow, in `reconnect.maxMs`.
const MOST_TAKEN_OVER: u32 = 32;

#[derive(Debug)]
pub struct Reconnection {
    waits: Backoff,
    takeovers: Backoff,
    /// After the last connection that was lost.
    last_wait: Duration,
    /// How many connections in a row were closed soon.
    soon: u32,
}

impl Reconnection {
    pub fn new(limits: config::Backoff) -> Reconnection {
        let takeovers = config::Backoff { min: limits.max, max: limits.max.saturating_mul(MOST_TAKEN_OVER) };
        Reconnection {
            waits: Backoff::new(limits),
            takeovers: Backoff::new(takeovers),
            last_wait: Duration::ZERO,
            soon: 0,
        }
    }

    /// The wait after a connection that had been granted and lived so long.
    pub fn lost(&mut self, lived: Duration, loss: Loss) -> Duration {
        let was_good = lived >= GOOD.max(self.last_wait.saturating_mul(RIVAL));
        if was_good {
            self.waits.succeeded();
            self.takeovers.succeeded();
        }
        self.soon = if loss == Loss::Closed && !was_good { self.soon + 1 } else { 0 };
        self.last_wait = match loss {
            Loss::TakenOver => self.takeovers.failed(),
            Loss::Closed | Loss::GivenUp => self.waits.failed(),
        };
        self.last_wait
    }

    /// The wait after a round of all URLs without a connection.
    pub fn failed(&mut self) -> Duration {
        self.waits.failed()
    }

    /// Whether connections end as if a rival ended them. True once for each time that it begins.
    pub fn is_contested(&self) -> bool {
        self.soon == SIGN
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIMITS: config::Backoff =
        config::Backoff { min: Duration::from_millis(100), max: Duration::from_secs(30) };
    const HOUR: Duration = Duration::from_secs(3600);

    /// Two with one client id, each of which ends the other's connection by its own. How often that happens in a day,
    /// by the hour.
    fn rivalry(loss: Loss) -> Vec<u32> {
        let mut rivals = [Reconnection::new(LIMITS), Reconnection::new(LIMITS)];
        let (mut now, mut holder, mut held_since) = (HOUR, 0, Duration::ZERO);
        let mut takeovers = vec![0; 25];
        while now < 25 * HOUR {
            takeovers[now.as_secs() as usize / 3600] += 1;
            let wait = rivals[holder].lost(now - held_since, loss);
            held_since = now;
            holder = 1 - holder;
            now += wait;
        }
        takeovers.split_off(1)
    }

    #[test]
    fn rivals_leave_each_other_alone_for_longer_and_longer() {
        let told = rivalry(Loss::TakenOver);
        assert!(told[0] <= 18, "{told:?}");
        assert!(told[1..].iter().all(|count| *count <= 8), "{told:?}");
        let untold = rivalry(Loss::Closed);
        assert!(untold.iter().all(|count| *count <= 3600 / 15 + 12), "{untold:?}");
    }

    #[test]
    fn the_one_who_came_later_keeps_the_session_for_a_while() {
        let mut reconnection = Reconnection::new(LIMITS);
        assert!(reconnection.lost(24 * HOUR, Loss::TakenOver) >= LIMITS.max / 2);
    }

    #[test]
    fn a_network_that_fails_now_and_then_is_taken_up_again_at_once() {
        let mut reconnection = Reconnection::new(LIMITS);
        for _ in 0..100 {
            assert!(reconnection.lost(Duration::from_secs(20), Loss::Closed) <= LIMITS.min);
            assert!(!reconnection.is_contested());
        }
    }

    #[test]
    fn connections_that_end_at_once_are_a_sign_told_once() {
        let mut reconnection = Reconnection::new(LIMITS);
        let told = (0..20).filter(|_| {
            reconnection.lost(Duration::from_secs(1), Loss::Closed);
            reconnection.is_contested()
        });
        assert_eq!(told.count(), 1);
    }
}
