//! Counters of transforms and lookups, which only some routes have, and their snapshots.

use std::sync::atomic::AtomicU64;

use serde::Serialize;

use crate::core::append_only::AppendOnly;
use crate::core::lookups::Lookup;
use crate::telemetry::histogram::{Histogram, Quantiles};
use crate::telemetry::metrics::get;

#[derive(Debug, Default)]
pub struct TransformCounters {
    /// The topic of the route, and where routes share it the place of the route behind it.
    pub name: String,
    pub calls: AtomicU64,
    pub rows: AtomicU64,
    pub dropped: AtomicU64,
    pub rejected: AtomicU64,
    pub emitted: AtomicU64,
    pub failed: AtomicU64,
    pub waiting: AtomicU64,
    pub duration: Histogram,
}

#[derive(Debug, Clone, Copy, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct TransformMetrics {
    pub calls: u64,
    pub rows: u64,
    pub dropped: u64,
    pub rejected: u64,
    pub emitted: u64,
    pub failed: u64,
    /// Batches that wait for a call.
    pub waiting: u64,
    pub duration_ms: Quantiles,
}

#[derive(Debug, Clone, Copy, Serialize)]
pub struct LookupMetrics {
    pub entries: u64,
    pub bytes: u64,
    /// Rows whose key was not in the map.
    pub misses: u64,
}

impl TransformCounters {
    /// Counters of routes by their places and topics. Each has a name of its own: of routes with one topic the first has the topic
    /// alone, as it would by itself.
    pub fn of_routes<'a>(
        routes: impl Iterator<Item = (usize, &'a str)>,
    ) -> AppendOnly<(usize, TransformCounters)> {
        let all = AppendOnly::default();
        for (at, topic) in routes {
            TransformCounters::add(&all, at, topic);
        }
        all
    }

    /// Adds the counters of a route.
    pub fn add(all: &AppendOnly<(usize, TransformCounters)>, at: usize, topic: &str) {
        let is_taken = all.iter().any(|(_, counters)| counters.name == topic);
        let name = if is_taken { format!("{topic} (routes[{at}])") } else { topic.into() };
        all.push((at, TransformCounters { name, ..TransformCounters::default() }));
    }

    pub fn snapshot(&self) -> TransformMetrics {
        TransformMetrics {
            calls: get(&self.calls),
            rows: get(&self.rows),
            dropped: get(&self.dropped),
            rejected: get(&self.rejected),
            emitted: get(&self.emitted),
            failed: get(&self.failed),
            waiting: get(&self.waiting),
            duration_ms: self.duration.quantiles(),
        }
    }
}

impl LookupMetrics {
    pub fn of(lookup: &Lookup) -> LookupMetrics {
        let map = lookup.map();
        LookupMetrics { entries: map.len() as u64, bytes: map.bytes() as u64, misses: lookup.misses() }
    }
}
