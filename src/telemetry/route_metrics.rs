//! Counters of what only some routes have, and their snapshots: transforms, lookups, `pivot`, `dedupe` and `deadband`.

use std::sync::Arc;
use std::sync::atomic::AtomicU64;

use serde::Serialize;

use crate::config::{PivotCounters, Quantity, Route};
use crate::core::append_only::AppendOnly;
use crate::core::lookups::Lookup;
use crate::core::recent_keys::{KeyCounts, RecentKeys};
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
        let name = free_name(all.iter().map(|(_, counters)| counters.name.as_str()), at, topic);
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

/// The name of a route's counters: its topic, and its place where another route has that name.
fn free_name<'a>(mut names: impl Iterator<Item = &'a str>, at: usize, topic: &str) -> String {
    if names.any(|name| name == topic) { format!("{topic} (routes[{at}])") } else { topic.into() }
}

/// The counters of a route that drops rows for those before them.
#[derive(Debug)]
pub struct RepeatCounters {
    /// As [`TransformCounters::name`].
    pub name: String,
    dedupe: Option<Arc<RecentKeys<()>>>,
    deadband: Option<Arc<RecentKeys<Quantity>>>,
}

#[derive(Debug, Clone, Copy, Serialize)]
pub struct RepeatMetrics {
    /// Rows that were dropped.
    pub dropped: u64,
    /// Keys that are remembered.
    pub keys: u64,
    /// Keys that were forgotten for newer ones.
    pub evicted: u64,
}

impl RepeatCounters {
    /// Adds the counters of a route, if it drops rows.
    pub fn add(all: &AppendOnly<RepeatCounters>, at: usize, route: &Route) {
        if route.drops_repeats() {
            all.push(RepeatCounters {
                name: free_name(all.iter().map(|counters| counters.name.as_str()), at, route.topic.as_str()),
                dedupe: route.dedupe.as_ref().map(|dedupe| dedupe.keys.clone()),
                deadband: route.deadband.as_ref().map(|deadband| deadband.keys.clone()),
            });
        }
    }

    pub fn dedupe(&self) -> Option<RepeatMetrics> {
        self.dedupe.as_ref().map(|keys| keys.counts().into())
    }

    pub fn deadband(&self) -> Option<RepeatMetrics> {
        self.deadband.as_ref().map(|keys| keys.counts().into())
    }
}

/// The counters of a route that gathers messages into rows, by its name.
#[derive(Debug)]
pub struct GatheringCounters {
    /// As [`TransformCounters::name`].
    pub name: String,
    counters: Arc<PivotCounters>,
}

#[derive(Debug, Clone, Copy, Serialize)]
pub struct PivotMetrics {
    /// Rows that wait for values.
    pub open: u64,
    /// Rows that went into batches.
    pub rows: u64,
    /// Rows that had all columns.
    pub complete: u64,
}

impl GatheringCounters {
    /// Adds the counters of a route, if it gathers messages.
    pub fn add(all: &AppendOnly<GatheringCounters>, at: usize, route: &Route) {
        if let Some(pivot) = &route.pivot {
            let name = free_name(all.iter().map(|counters| counters.name.as_str()), at, route.topic.as_str());
            all.push(GatheringCounters { name, counters: pivot.counters.clone() });
        }
    }

    pub fn snapshot(&self) -> PivotMetrics {
        let PivotCounters { open, rows, complete } = &*self.counters;
        PivotMetrics { open: get(open), rows: get(rows), complete: get(complete) }
    }
}

impl From<KeyCounts> for RepeatMetrics {
    fn from(KeyCounts { dropped, keys, evicted }: KeyCounts) -> RepeatMetrics {
        RepeatMetrics { dropped, keys, evicted }
    }
}

impl LookupMetrics {
    pub fn of(lookup: &Lookup) -> LookupMetrics {
        let map = lookup.map();
        LookupMetrics { entries: map.len() as u64, bytes: map.bytes() as u64, misses: lookup.misses() }
    }
}
