//! Routes that change while the connection lives: the sink adopts them, the session subscribes to their filters.

use std::time::Instant;

use crossbeam_channel::Sender;

use super::Connection;
use crate::core::error::{Error, Result};
use crate::mqtt::MessageSink;
use crate::mqtt::subscriptions::Filters;
use crate::mqtt::transport::CONNECT_TIMEOUT;

/// A change that is not answered yet. Without a connection it waits for the next one, which subscribes to the new filters.
pub(super) struct RouteChange {
    filters: Filters,
    /// The filters to return to when the broker refuses.
    before: Filters,
    done: Sender<Result<()>>,
    is_adopted: bool,
    /// When the broker was asked on this connection.
    asked_at: Option<Instant>,
}

impl<S: MessageSink> Connection<S> {
    pub(super) fn begin_change(&mut self, filters: Filters, done: Sender<Result<()>>) {
        let before = self.session.wanted().clone();
        self.change = Some(RouteChange { filters, before, done, is_adopted: false, asked_at: None });
    }

    /// Takes the next step of a change that is under way.
    pub(super) fn continue_change(&mut self, now: Instant) {
        let Some(change) = &mut self.change else { return };
        if !change.is_adopted {
            if !self.sink.adopt_routes() {
                return;
            }
            change.is_adopted = true;
            self.session.set_wanted(change.filters.clone());
        }
        if self.session.is_subscribed() && change.asked_at.is_none() && self.drain.is_none() {
            change.asked_at = Some(now);
            self.session.update_filters();
        }
        let outcome = match self.session.take_change_outcome() {
            Some(outcome) => {
                outcome.map_err(|(filter, reason)| Error::SubscriptionRefused { filter, reason })
            }
            None => return,
        };
        let Some(change) = self.change.take() else { return };
        match &outcome {
            Ok(()) => {
                self.sink.settle_routes();
                let downgraded = self.session.take_downgraded();
                self.warn_of_lowered_qos(&downgraded);
            }
            Err(_) => self.session.set_wanted(change.before),
        }
        // Who asked may have gone.
        let _ = change.done.send(outcome);
    }

    /// When the broker must have answered: if it has not, the connection ends, and the next one asks anew.
    pub(super) fn change_deadline(&self) -> Option<Instant> {
        Some(self.change.as_ref()?.asked_at? + CONNECT_TIMEOUT)
    }

    /// The answer cannot come yet.
    pub(super) fn delay_change(&mut self, now: Instant) {
        if let Some(asked_at) = self.change.as_mut().and_then(|change| change.asked_at.as_mut()) {
            *asked_at = now;
        }
    }

    /// The connection ended. A subscription that the broker refused on connecting is that of the change.
    pub(super) fn break_off_change(&mut self, error: &Error) {
        let Some(change) = &mut self.change else { return };
        change.asked_at = None;
        if let Error::SubscriptionRefused { filter, reason } = error
            && let Some(change) = self.change.take()
        {
            self.session.set_wanted(change.before);
            let (filter, reason) = (filter.clone(), reason.clone());
            let _ = change.done.send(Err(Error::SubscriptionRefused { filter, reason }));
        }
    }
}
