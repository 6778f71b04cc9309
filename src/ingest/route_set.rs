//! The routes that take messages at present, and what follows from all of them together.
//!
//! A route has a place for ever ([`Config::route`]): batches, plans and records of the spool name it by its place, also after it was
//! removed. A set lists the places that take messages, in the order in which they are asked. When routes change, a new set is
//! published, and each connection adopts it between two messages.

use std::sync::{Arc, Mutex};

use crate::config::{Config, Route};
use crate::core::lock::lock;
use crate::core::topic_filter::TopicFilter;
use crate::ingest::batch::RouteSenders;
use crate::ingest::router::joined::JoinedRoutes;
use crate::mqtt::{Filters, Subscription, filters_of, offers_of, subscriptions_of, wider_filters_of};

/// Removed routes that still take what the broker had queued for them. Messages of those before them become dead letters.
const MAX_REMOVED: usize = 1000;

#[derive(Clone)]
pub struct RouteSet {
    /// The places of the routes of messages, in order.
    pub places: Vec<usize>,
    /// The places of routes that were removed, the last one first.
    pub removed: Vec<usize>,
    /// The routes that share messages, by their position in `places`.
    pub joined: JoinedRoutes,
    /// Distinguishes the copies of a message; empty where there can be none.
    pub subscriptions: Vec<Subscription>,
    /// The filters that cover several routes.
    pub covers: Vec<TopicFilter>,
    /// Filters of routes that take a part of what they bring.
    pub wider: Vec<TopicFilter>,
    pub filters: Filters,
    pub batches: RouteSenders,
}

impl RouteSet {
    pub fn new(config: &Config, places: Vec<usize>, removed: Vec<usize>, batches: RouteSenders) -> RouteSet {
        let routes: Vec<&Route> = places.iter().map(|place| config.route(*place)).collect();
        let topics: Vec<&TopicFilter> = routes.iter().map(|route| &route.topic).collect();
        let mut subscriptions = subscriptions_of(&config.mqtt, &topics);
        if subscriptions.len() == 1 {
            subscriptions.clear();
        }
        let covers = offers_of(&config.mqtt, &topics).into_iter().filter(|offer| !offer.parts.is_empty());
        RouteSet {
            joined: JoinedRoutes::of(&routes, config.spool.is_some()),
            subscriptions,
            covers: covers.map(|offer| offer.topic).collect(),
            wider: wider_filters_of(&topics),
            filters: filters_of(&config.mqtt, &routes),
            places,
            removed,
            batches,
        }
    }

    /// The routes of the configuration.
    pub fn initial(config: &Config, batches: RouteSenders) -> RouteSet {
        RouteSet::new(config, (0..config.routes.len()).collect(), Vec::new(), batches)
    }

    /// The same with these routes; those that are left out are removed.
    pub fn changed(&self, config: &Config, places: Vec<usize>, batches: RouteSenders) -> RouteSet {
        let gone = self.places.iter().rev().filter(|place| !places.contains(place));
        let topic = |place: usize| config.route(place).topic.as_str();
        let mut removed: Vec<usize> = Vec::new();
        for place in gone.chain(&self.removed).copied() {
            // One that took the same topics as another one would never see a message.
            if !places.iter().chain(&removed).any(|other| topic(*other) == topic(place)) {
                removed.push(place);
            }
        }
        removed.truncate(MAX_REMOVED);
        RouteSet::new(config, places, removed, batches)
    }
}

/// The set that is published.
#[derive(Clone)]
pub struct LiveRoutes(Arc<Mutex<Arc<RouteSet>>>);

impl LiveRoutes {
    pub fn new(set: RouteSet) -> LiveRoutes {
        LiveRoutes(Arc::new(Mutex::new(Arc::new(set))))
    }

    pub fn current(&self) -> Arc<RouteSet> {
        lock(&self.0).clone()
    }

    pub fn publish(&self, set: RouteSet) {
        *lock(&self.0) = Arc::new(set);
    }
}
