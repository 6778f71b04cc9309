//! Counters that the stages add to, and the snapshots that JavaScript sees.

mod tables;

use std::collections::{BTreeMap, HashSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant, SystemTime};

use serde::Serialize;

pub use tables::{MAX_TABLES, OTHER_TABLES};

use crate::core::append_only::AppendOnly;
use crate::core::codes::WARNING_CODES;
use crate::core::lookups::Lookups;
use crate::core::memory_budget::MemoryBudget;
use crate::core::reason::Code;
use crate::telemetry::faults::{Fault, Faults};
use crate::telemetry::histogram::{Histogram, Quantiles};
use crate::telemetry::ledger::{Counts, Ledger};
pub use crate::telemetry::route_metrics::{
    GatheringCounters, LookupMetrics, PivotMetrics, RepeatCounters, RepeatMetrics, TransformCounters,
    TransformMetrics,
};

/// Shared by all threads of a pipeline.
#[derive(Debug)]
pub struct Recorder {
    started_at: Instant,
    pub bytes_received: AtomicU64,
    pub bytes_inserted: AtomicU64,
    pub rows_decoded: AtomicU64,
    pub rows_inserted: AtomicU64,
    pub inserts_succeeded: AtomicU64,
    pub inserts_retried: AtomicU64,
    pub inserts_failed: AtomicU64,
    pub inserts_in_flight: AtomicU64,
    pub insert_latency: Histogram,
    pub end_to_end_latency: Histogram,
    /// When ClickHouse last confirmed an INSERT: microseconds since `started_at`, 0 if it never has.
    last_insert: AtomicU64,
    /// The same in milliseconds since 1970: the difference of two clocks would not keep still.
    pub last_insert_time: AtomicU64,
    /// By their number.
    pub connections: Vec<ConnectionCounters>,
    /// By their place in [`Code::ALL`].
    dead_letters: [AtomicU64; Code::ALL.len()],
    /// By their place in [`WARNING_CODES`].
    warnings: [AtomicU64; WARNING_CODES.len()],
    /// The faults at present.
    pub faults: Arc<Faults>,
    /// 1 while dead letters cannot be stored.
    pub dead_letters_failing: AtomicU64,
    /// `None`: there is no spool.
    pub spool: Option<SpoolGauges>,
    /// By table, in the order of their first route.
    tables: AppendOnly<(String, Table)>,
    /// The maps that columns are filled from.
    pub lookups: Lookups,
    /// Counters of the routes with a transform, by the position of the route.
    pub transforms: AppendOnly<(usize, TransformCounters)>,
    /// Counters of the routes that gather messages into rows.
    pub gatherings: AppendOnly<GatheringCounters>,
    /// Counters of the routes that drop rows for those before them.
    pub repeats: AppendOnly<RepeatCounters>,
}

/// Each on cache lines of its own: every connection counts on its own thread.
#[derive(Debug, Default)]
#[repr(align(128))]
pub struct ConnectionCounters {
    /// 1 while it is up.
    pub connected: AtomicU64,
    pub reconnects: AtomicU64,
    pub rebirth_requests: AtomicU64,
    pub unacknowledged: AtomicU64,
    pub writes: AtomicU64,
    /// 4 or 5, once a broker has answered.
    pub protocol_version: AtomicU64,
}

/// The contents of the spool.
#[derive(Debug, Default)]
pub struct SpoolGauges {
    max_bytes: u64,
    pub bytes: AtomicU64,
    pub segments: AtomicU64,
    /// When the oldest message came, in microseconds since 1970; 0: there is none.
    pub oldest_micros: AtomicU64,
    /// Messages left there at the end.
    pub left: AtomicU64,
    /// Ranges of bytes that cannot be read, or are gone.
    pub damages: AtomicU64,
    /// Messages of records that cannot be read.
    pub lost_messages: AtomicU64,
    /// Writes, syncs, reads and deletions that failed.
    pub errors: AtomicU64,
    /// 1 while it takes no messages.
    pub blocked: AtomicU64,
    /// When the last sync succeeded, in milliseconds since 1970.
    pub last_sync: AtomicU64,
}

#[derive(Debug, Default)]
pub struct Table {
    pub rows: AtomicU64,
    pub inserts: AtomicU64,
    pub retried: AtomicU64,
    pub failed: AtomicU64,
    /// When ClickHouse last confirmed an INSERT into it, in milliseconds since 1970; 0 if it never has.
    pub last_insert_time: AtomicU64,
    pub dead_lettered: AtomicU64,
}

#[derive(Debug, Clone, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Metrics {
    pub state: &'static str,
    pub uptime_ms: u64,
    pub messages: Counts,
    pub rows: Rows,
    pub bytes: Bytes,
    pub rates: Rates,
    pub inserts: Inserts,
    pub latency_ms: Latency,
    pub mqtt: Mqtt,
    pub spool: Option<Spool>,
    pub memory_bytes: u64,
    pub memory_max_bytes: u64,
    /// How long ago ClickHouse confirmed an INSERT.
    pub last_insert_ms: Option<u64>,
    /// How long the oldest message has been here that is not in ClickHouse; 0 if there is none.
    pub oldest_pending_ms: u64,
    /// By code; only those that there are.
    pub dead_letters: BTreeMap<&'static str, u64>,
    pub tables: BTreeMap<String, TableMetrics>,
    /// By [`TransformCounters::name`]; only of routes with a transform.
    pub transforms: BTreeMap<String, TransformMetrics>,
    /// By the name of the route, as `transforms`; only of routes with `pivot`.
    pub pivot: BTreeMap<String, PivotMetrics>,
    /// The same of routes with `dedupe`.
    pub dedupe: BTreeMap<String, RepeatMetrics>,
    /// The same of routes with `deadband`.
    pub deadband: BTreeMap<String, RepeatMetrics>,
    /// By name; only those that columns are filled from.
    pub lookups: BTreeMap<String, LookupMetrics>,
    /// By code; only those that there were.
    pub warnings: BTreeMap<&'static str, u64>,
    /// The faults at present.
    pub faults: Vec<Fault>,
}

#[derive(Debug, Clone, Copy, Serialize)]
pub struct Rows {
    pub decoded: u64,
    pub inserted: u64,
}

#[derive(Debug, Clone, Copy, Serialize)]
pub struct Bytes {
    pub received: u64,
    pub inserted: u64,
}

#[derive(Debug, Default, Clone, Copy, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Rates {
    pub messages_per_second: f64,
    pub rows_per_second: f64,
}

#[derive(Debug, Clone, Copy, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Inserts {
    pub succeeded: u64,
    pub retried: u64,
    pub failed: u64,
    pub in_flight: u64,
}

#[derive(Debug, Clone, Copy, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Latency {
    pub insert: Quantiles,
    pub end_to_end: Quantiles,
}

#[derive(Debug, Clone, Copy, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Mqtt {
    pub connected: u64,
    pub connections: u64,
    pub reconnects: u64,
    pub rebirth_requests: u64,
    pub unacknowledged: u64,
    pub writes: u64,
    /// 4 or 5; 0 until a broker has answered.
    pub protocol_version: u64,
}

#[derive(Debug, Default, Clone, Copy, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Spool {
    pub bytes: u64,
    pub max_bytes: u64,
    pub segments: u64,
    pub oldest_ms: u64,
    pub damages: u64,
    pub lost_messages: u64,
    pub errors: u64,
    pub last_sync_ms: u64,
    /// Whether it takes messages: it is not full, and its disk works.
    pub writable: bool,
}

#[derive(Debug, Clone, Copy, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct TableMetrics {
    pub rows: u64,
    pub inserts: u64,
    pub retried: u64,
    pub failed: u64,
    /// How long ago ClickHouse confirmed an INSERT into it.
    pub last_insert_ms: Option<u64>,
    /// Whether an INSERT into it has failed and waits to be made again.
    pub failing: bool,
    pub dead_lettered: u64,
}

impl Recorder {
    pub fn new(tables: impl IntoIterator<Item = String>, connections: usize) -> Recorder {
        let recorder = Recorder {
            started_at: Instant::now(),
            bytes_received: AtomicU64::new(0),
            bytes_inserted: AtomicU64::new(0),
            rows_decoded: AtomicU64::new(0),
            rows_inserted: AtomicU64::new(0),
            inserts_succeeded: AtomicU64::new(0),
            inserts_retried: AtomicU64::new(0),
            inserts_failed: AtomicU64::new(0),
            inserts_in_flight: AtomicU64::new(0),
            insert_latency: Histogram::default(),
            end_to_end_latency: Histogram::default(),
            last_insert: AtomicU64::new(0),
            last_insert_time: AtomicU64::new(0),
            connections: (0..connections).map(|_| ConnectionCounters::default()).collect(),
            dead_letters: Default::default(),
            warnings: [const { AtomicU64::new(0) }; WARNING_CODES.len()],
            faults: Arc::default(),
            dead_letters_failing: AtomicU64::new(0),
            spool: None,
            tables: AppendOnly::default(),
            transforms: AppendOnly::default(),
            gatherings: AppendOnly::default(),
            repeats: AppendOnly::default(),
            lookups: Lookups::default(),
        };
        tables.into_iter().for_each(|table| recorder.add_table(table));
        recorder
    }

    /// The counters of a route with a transform.
    pub fn transform(&self, route: usize) -> Option<&TransformCounters> {
        self.transforms.iter().find(|(at, _)| *at == route).map(|(_, counters)| counters)
    }

    pub fn dead_letters(&self, code: Code) -> &AtomicU64 {
        &self.dead_letters[code as usize]
    }

    /// The number of warnings with this code; of one that is not in the list it is not counted.
    pub fn warnings(&self, code: &str) -> Option<&AtomicU64> {
        let at = WARNING_CODES.iter().position(|known| *known == code)?;
        Some(&self.warnings[at])
    }

    pub fn count_warning(&self, code: &str) {
        let counter = self.warnings(code);
        debug_assert!(counter.is_some(), "{code} is not in WARNING_CODES");
        counter.inspect(|counter| add(counter, 1));
    }

    /// An attempt at an INSERT into a table failed, and is made again.
    pub fn count_retry(&self, table: &str) {
        add(&self.inserts_retried, 1);
        if let Some(table) = self.table(table) {
            add(&table.retried, 1);
        }
    }

    /// ClickHouse refused an INSERT into a table for good.
    pub fn count_failed(&self, table: &str) {
        add(&self.inserts_failed, 1);
        if let Some(table) = self.table(table) {
            add(&table.failed, 1);
        }
    }

    /// ClickHouse has just confirmed an INSERT into a table.
    pub fn count_insert(&self, table: &str, rows: u64, bytes: u64) {
        add(&self.inserts_succeeded, 1);
        add(&self.rows_inserted, rows);
        add(&self.bytes_inserted, bytes);
        let since = self.started_at.elapsed().as_micros() as u64;
        self.last_insert.fetch_max(since.max(1), Ordering::Relaxed);
        let time = now_millis();
        self.last_insert_time.store(time, Ordering::Relaxed);
        if let Some(table) = self.table(table) {
            add(&table.rows, rows);
            add(&table.inserts, 1);
            table.last_insert_time.store(time, Ordering::Relaxed);
        }
    }

    /// How long before `now` ClickHouse last confirmed an INSERT.
    fn last_insert(&self, now: Instant) -> Option<Duration> {
        let last = Some(get(&self.last_insert)).filter(|last| *last > 0)?;
        Some(now.saturating_duration_since(self.started_at + Duration::from_micros(last)))
    }

    pub fn snapshot(
        &self,
        state: &'static str,
        rates: Rates,
        ledger: &Ledger,
        memory: &MemoryBudget,
    ) -> Metrics {
        let now = Instant::now();
        let messages = ledger.counts();
        let spool = self.spool.as_ref().map(SpoolGauges::snapshot);
        let sum = |counter: fn(&ConnectionCounters) -> &AtomicU64| {
            self.connections.iter().map(|connection| get(counter(connection))).sum()
        };
        let dead_letters = Code::ALL.map(|code| (code.as_str(), get(self.dead_letters(code)))).into_iter();
        let faults = self.faults.snapshot();
        let failing: HashSet<&str> =
            faults.iter().filter(|fault| fault.stops_inserts()).filter_map(Fault::table).collect();
        let warnings = WARNING_CODES.iter().zip(&self.warnings).map(|(code, count)| (*code, get(count)));
        let tables = self.tables.iter().enumerate().map(|(at, (name, table))| {
            let last = Some(get(&table.last_insert_time)).filter(|last| *last > 0);
            let metrics = TableMetrics {
                retried: get(&table.retried),
                failed: get(&table.failed),
                last_insert_ms: last.map(|last| now_millis().saturating_sub(last)),
                failing: match at {
                    MAX_TABLES => failing.iter().any(|table| self.is_other(table)),
                    _ => failing.contains(name.as_str()),
                },
                rows: get(&table.rows),
                inserts: get(&table.inserts),
                dead_lettered: get(&table.dead_lettered),
            };
            (name.clone(), metrics)
        });
        Metrics {
            state,
            uptime_ms: now.saturating_duration_since(self.started_at).as_millis() as u64,
            messages,
            rows: Rows { decoded: get(&self.rows_decoded), inserted: get(&self.rows_inserted) },
            bytes: Bytes { received: get(&self.bytes_received), inserted: get(&self.bytes_inserted) },
            rates,
            inserts: Inserts {
                succeeded: get(&self.inserts_succeeded),
                retried: get(&self.inserts_retried),
                failed: get(&self.inserts_failed),
                in_flight: get(&self.inserts_in_flight),
            },
            latency_ms: Latency {
                insert: self.insert_latency.quantiles(),
                end_to_end: self.end_to_end_latency.quantiles(),
            },
            mqtt: Mqtt {
                connected: sum(|connection| &connection.connected),
                connections: self.connections.len() as u64,
                reconnects: sum(|connection| &connection.reconnects),
                rebirth_requests: sum(|connection| &connection.rebirth_requests),
                unacknowledged: sum(|connection| &connection.unacknowledged),
                writes: sum(|connection| &connection.writes),
                protocol_version: self
                    .connections
                    .iter()
                    .map(|connection| connection.protocol_version.load(Ordering::Relaxed))
                    .max()
                    .unwrap_or(0),
            },
            spool,
            memory_bytes: memory.used() as u64,
            memory_max_bytes: memory.limit() as u64,
            last_insert_ms: self.last_insert(now).map(|since| since.as_millis() as u64),
            // Messages from before this start are older than their group in the ledger.
            oldest_pending_ms: spool
                .filter(|_| messages.pending > 0)
                .map_or(0, |spool| spool.oldest_ms)
                .max(ledger.oldest(now).as_millis() as u64),
            dead_letters: dead_letters.filter(|(_, count)| *count > 0).collect(),
            warnings: warnings.filter(|(_, count)| *count > 0).collect(),
            tables: tables.collect(),
            transforms: self
                .transforms
                .iter()
                .map(|(_, counters)| (counters.name.clone(), counters.snapshot()))
                .collect(),
            pivot: self
                .gatherings
                .iter()
                .map(|counters| (counters.name.clone(), counters.snapshot()))
                .collect(),
            dedupe: self.repeats_of(RepeatCounters::dedupe),
            deadband: self.repeats_of(RepeatCounters::deadband),
            lookups: self
                .lookups
                .all()
                .iter()
                .map(|lookup| (lookup.name().into(), LookupMetrics::of(lookup)))
                .collect(),
            faults,
        }
    }
}

impl Recorder {
    fn repeats_of(
        &self,
        counts: impl Fn(&RepeatCounters) -> Option<RepeatMetrics>,
    ) -> BTreeMap<String, RepeatMetrics> {
        let named = |counters: &RepeatCounters| Some((counters.name.clone(), counts(counters)?));
        self.repeats.iter().filter_map(named).collect()
    }
}

impl SpoolGauges {
    pub fn new(max_bytes: u64) -> SpoolGauges {
        SpoolGauges { max_bytes, last_sync: AtomicU64::new(now_millis()), ..Default::default() }
    }

    fn snapshot(&self) -> Spool {
        let oldest = SystemTime::UNIX_EPOCH + Duration::from_micros(get(&self.oldest_micros));
        let age = SystemTime::now().duration_since(oldest).unwrap_or_default();
        Spool {
            bytes: get(&self.bytes),
            max_bytes: self.max_bytes,
            segments: get(&self.segments),
            oldest_ms: if oldest == SystemTime::UNIX_EPOCH { 0 } else { age.as_millis() as u64 },
            damages: get(&self.damages),
            lost_messages: get(&self.lost_messages),
            errors: get(&self.errors),
            writable: get(&self.blocked) == 0,
            last_sync_ms: now_millis().saturating_sub(get(&self.last_sync)),
        }
    }
}

/// Milliseconds since 1970.
pub fn now_millis() -> u64 {
    SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default().as_millis() as u64
}

pub fn get(counter: &AtomicU64) -> u64 {
    counter.load(Ordering::Relaxed)
}

pub fn add(counter: &AtomicU64, value: u64) {
    counter.fetch_add(value, Ordering::Relaxed);
}

#[cfg(test)]
mod tests;
