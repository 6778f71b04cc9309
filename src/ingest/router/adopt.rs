//! Routes that change while messages come: a connection adopts the set that was published, between two messages.
//!
//! Open batches leave first. A route that stays keeps its decoder, and its batch where the queue has no room for it. A route that
//! was removed stays behind all others: a broker may have queued messages for it before it took UNSUBSCRIBE (MQTT 5, 3.10.4), and
//! those are rows like the ones before them.

use std::collections::HashMap;

use crate::core::topic_tables::table_number;
use crate::ingest::route_set::{LiveRoutes, RouteSet};
use crate::ingest::route_state::RouteState;
use crate::ingest::router::arrival::Arrival;
use crate::ingest::router::rebirths::Rebirths;
use crate::ingest::router::{Router, left_out};
use crate::mqtt::{MessageSink, wider_filters_of};

impl Router {
    /// Takes messages by these routes, as they are whenever [`Router::adopt`] is called.
    pub fn following(mut self, live: LiveRoutes) -> Router {
        self.live = Some(live);
        self
    }

    /// `false`: not yet. Batches of routes that share messages go together, and one of them cannot leave.
    pub(super) fn adopt(&mut self) -> bool {
        let Some(live) = &self.live else { return true };
        let set = live.current();
        self.seal_batches();
        if self.has_open_batch() && (self.joined.has_units() || set.joined.has_units()) {
            return false;
        }
        let mut before: HashMap<usize, RouteState> =
            self.routes.drain(..).map(|state| (state.place, state)).collect();
        let config = &self.context.config;
        let rows: Vec<usize> = (0..config.places()).filter(|place| config.is_of_rows(*place)).collect();
        let RouteSet { places, removed, joined, covers, batches, .. } = &*set;
        self.removed_from = places.len() + rows.len();
        for place in places.iter().chain(&rows).chain(removed) {
            let state = before.remove(place).unwrap_or_else(|| {
                let mut route = config.route(*place).clone();
                self.rebirths.extend(Rebirths::of(config, *place, &mut route));
                RouteState::new(*place, route, self.plans.latest(*place))
            });
            self.routes.push(state);
        }
        // Routes that are too old to take messages may have batches that are still to leave. Routes of tables that messages have chosen
        // stand behind all others.
        let is_busy = |state: &RouteState| {
            table_number(state.place).is_some()
                || state.batch.is_some()
                || state.tables.as_ref().is_some_and(|tables| !tables.waiting.is_empty())
                || state.gatherer.as_ref().is_some_and(|gatherer| gatherer.has_open_rows())
        };
        self.routes.extend(before.into_values().filter(is_busy));
        self.routes
            .iter_mut()
            .filter_map(|state| state.tables.as_mut())
            .for_each(|tables| tables.positions.clear());
        self.joined = joined.clone();
        self.covers.clone_from(covers);
        // The filter of a removed route may still bring messages that it did not take.
        let topics: Vec<_> = places.iter().chain(removed).map(|place| &config.route(*place).topic).collect();
        self.wider = wider_filters_of(&topics);
        self.batches = batches.clone();
        let routes: Vec<_> = places.iter().map(|place| config.route(*place)).collect();
        self.rewritten = left_out::rewritten_filters(&routes);
        // Copies may come for subscriptions of both sets, and one that comes alone must not be passed over.
        self.subscriptions.clear();
        true
    }

    pub(super) fn settle(&mut self) {
        if let Some(live) = &self.live {
            self.subscriptions.clone_from(&live.current().subscriptions);
        }
    }

    /// A message that only a route takes that was removed.
    #[cold]
    pub(super) fn append_removed(&mut self, at: usize, topic: &str, arrival: Arrival<'_>) {
        // A subscription that covers several routes goes on bringing its topic.
        let wider = self.live.as_ref().map(|live| live.current().wider.clone()).unwrap_or_default();
        let Router { covers, has_covers, captures, .. } = self;
        let covers = covers.iter().filter(|_| *has_covers);
        // The captures are those of the removed route.
        let kept = captures.clone();
        if covers.chain(&wider).any(|filter| filter.matches(topic, captures)) {
            return self.skip(arrival.sequence);
        }
        self.captures = kept;
        self.append(at, topic, arrival);
    }
}
