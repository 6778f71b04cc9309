//! Pings, and the silence of a broker that is gone.

use std::time::Instant;

use super::{Phase, Session, SessionError};

impl Session {
    /// Bytes of the broker came at this time, perhaps less than a packet.
    pub fn note_received(&mut self, at: Instant) {
        self.last_received = self.last_received.max(at);
    }

    /// When [`Session::tick`] is due.
    pub fn deadline(&self) -> Option<Instant> {
        match (self.phase, self.timeout_at()) {
            (Phase::Closed, _) => None,
            (_, Some(timeout_at)) => Some(timeout_at.min(self.last_sent + self.keep_alive / 2)),
            (_, None) => Some(self.last_sent.min(self.last_received) + self.keep_alive / 2),
        }
    }

    /// When the broker counts as dead if nothing comes. A ping has a full interval for its answer: it
    /// may have been sent late, when this thread was held up.
    fn timeout_at(&self) -> Option<Instant> {
        let pinged_at = self.pinged_at?;
        Some((self.last_received + self.keep_alive * 3 / 2).max(pinged_at + self.keep_alive))
    }

    /// Pings when nothing was sent or nothing came for half a keep-alive interval, and fails when a broker was silent for one
    /// and a half. (Brokers count in full seconds, so a ping after a full short interval would come too
    /// late.) While we do not read (`reading` is false), silence says nothing about the broker, unless
    /// it does not read either.
    pub fn tick(&mut self, now: Instant, reading: bool) -> Result<(), SessionError> {
        if !reading && !self.is_congested() {
            self.last_received = now;
        }
        if self.phase == Phase::Closed || self.deadline().is_some_and(|at| now < at) {
            return Ok(());
        }
        if self.timeout_at().is_some_and(|at| now >= at) {
            return Err(SessionError::Timeout);
        }
        if self.pinged_at.is_none() || now >= self.last_sent + self.keep_alive / 2 {
            self.out.extend_from_slice(&[0xc0, 0]); // PINGREQ
            self.pinged_at.get_or_insert(now);
            self.inflight.pinged();
            self.last_sent = now;
        }
        Ok(())
    }
}
