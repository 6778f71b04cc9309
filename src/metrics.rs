//! What happened so far: counters that the stages add to, and the snapshots that JavaScript sees.

use std::collections::BTreeMap;
use std::fmt::Write;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant, SystemTime};

use serde::Serialize;

use crate::histogram::{Histogram, Quantiles};
use crate::ledger::Counts;

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
    pub connected: AtomicU64,
    pub connections: u64,
    pub reconnects: AtomicU64,
    pub unacknowledged: AtomicU64,
    pub mqtt_writes: AtomicU64,
    /// `None`: there is no spool.
    pub spool: Option<SpoolGauges>,
    /// By table, in the order of their first route.
    tables: Vec<(String, Table)>,
}

/// What lies in the spool.
#[derive(Debug, Default)]
pub struct SpoolGauges {
    pub bytes: AtomicU64,
    pub segments: AtomicU64,
    /// When the oldest message came, in microseconds since 1970; 0: there is none.
    pub oldest_micros: AtomicU64,
    /// What was left there at the end.
    pub left: AtomicU64,
}

#[derive(Debug, Default)]
pub struct Table {
    pub rows: AtomicU64,
    pub inserts: AtomicU64,
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
    pub tables: BTreeMap<String, TableMetrics>,
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
pub struct Mqtt {
    pub connected: u64,
    pub connections: u64,
    pub reconnects: u64,
    pub unacknowledged: u64,
    pub writes: u64,
}

#[derive(Debug, Clone, Copy, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Spool {
    pub bytes: u64,
    pub segments: u64,
    pub oldest_ms: u64,
}

#[derive(Debug, Clone, Copy, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct TableMetrics {
    pub rows: u64,
    pub inserts: u64,
    pub dead_lettered: u64,
}

impl Recorder {
    pub fn new(tables: impl IntoIterator<Item = String>, connections: u64) -> Recorder {
        let mut named: Vec<(String, Table)> = Vec::new();
        for table in tables {
            if !named.iter().any(|(name, _)| *name == table) {
                named.push((table, Table::default()));
            }
        }
        Recorder {
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
            connected: AtomicU64::new(0),
            connections,
            reconnects: AtomicU64::new(0),
            unacknowledged: AtomicU64::new(0),
            mqtt_writes: AtomicU64::new(0),
            spool: None,
            tables: named,
        }
    }

    pub fn table(&self, name: &str) -> Option<&Table> {
        self.tables.iter().find(|(n, _)| n == name).map(|(_, table)| table)
    }

    pub fn snapshot(
        &self,
        state: &'static str,
        messages: Counts,
        rates: Rates,
        memory_bytes: usize,
    ) -> Metrics {
        let tables = self.tables.iter().map(|(name, table)| {
            let metrics = TableMetrics {
                rows: get(&table.rows),
                inserts: get(&table.inserts),
                dead_lettered: get(&table.dead_lettered),
            };
            (name.clone(), metrics)
        });
        Metrics {
            state,
            uptime_ms: self.started_at.elapsed().as_millis() as u64,
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
                connected: get(&self.connected),
                connections: self.connections,
                reconnects: get(&self.reconnects),
                unacknowledged: get(&self.unacknowledged),
                writes: get(&self.mqtt_writes),
            },
            spool: self.spool.as_ref().map(SpoolGauges::snapshot),
            memory_bytes: memory_bytes as u64,
            tables: tables.collect(),
        }
    }
}

impl SpoolGauges {
    fn snapshot(&self) -> Spool {
        let oldest = SystemTime::UNIX_EPOCH + Duration::from_micros(get(&self.oldest_micros));
        let age = SystemTime::now().duration_since(oldest).unwrap_or_default();
        Spool {
            bytes: get(&self.bytes),
            segments: get(&self.segments),
            oldest_ms: if oldest == SystemTime::UNIX_EPOCH { 0 } else { age.as_millis() as u64 },
        }
    }
}

fn get(counter: &AtomicU64) -> u64 {
    counter.load(Ordering::Relaxed)
}

pub fn add(counter: &AtomicU64, value: u64) {
    counter.fetch_add(value, Ordering::Relaxed);
}

impl Metrics {
    /// The snapshot in the Prometheus text format, version 0.0.4:
    /// <https://prometheus.io/docs/instrumenting/exposition_formats/>.
    pub fn prometheus(&self, pipeline: &str) -> String {
        let mut out = String::new();
        let mut metric = |kind: &str, name: &str, help: &str, samples: &[(String, f64)]| {
            // Writing into a String cannot fail.
            let _ = writeln!(out, "# HELP millrace_{name} {help}\n# TYPE millrace_{name} {kind}");
            for (labels, value) in samples {
                let _ = writeln!(out, "millrace_{name}{{pipeline=\"{pipeline}\"{labels}}} {value}");
            }
        };
        let one = |value: u64| [(String::new(), value as f64)];
        let m = &self.messages;
        metric("counter", "messages_received_total", "Messages received from the broker.", &one(m.received));
        metric(
            "counter",
            "messages_inserted_total",
            "Messages whose rows ClickHouse confirmed.",
            &one(m.inserted),
        );
        metric(
            "counter",
            "messages_dead_lettered_total",
            "Messages that became dead letters.",
            &one(m.dead_lettered),
        );
        metric(
            "counter",
            "messages_dropped_total",
            "Messages the configuration asked to drop.",
            &one(m.dropped),
        );
        metric(
            "counter",
            "messages_skipped_total",
            "Messages passed over: retained or sent again.",
            &one(m.skipped),
        );
        metric("gauge", "messages_pending", "Messages received and not settled.", &one(m.pending));
        metric("counter", "rows_decoded_total", "Rows decoded.", &one(self.rows.decoded));
        metric("counter", "rows_inserted_total", "Rows ClickHouse confirmed.", &one(self.rows.inserted));
        metric("counter", "received_bytes_total", "MQTT payload bytes received.", &one(self.bytes.received));
        metric(
            "counter",
            "inserted_bytes_total",
            "Uncompressed block bytes inserted.",
            &one(self.bytes.inserted),
        );
        metric(
            "counter",
            "inserts_succeeded_total",
            "INSERTs that ClickHouse confirmed.",
            &one(self.inserts.succeeded),
        );
        metric(
            "counter",
            "inserts_retried_total",
            "Attempts of INSERTs beyond the first.",
            &one(self.inserts.retried),
        );
        metric(
            "counter",
            "inserts_failed_total",
            "INSERTs that ClickHouse refused for good.",
            &one(self.inserts.failed),
        );
        metric("gauge", "inserts_in_flight", "INSERTs under way.", &one(self.inserts.in_flight));
        metric("gauge", "mqtt_connected", "Connections that are up.", &one(self.mqtt.connected));
        metric(
            "counter",
            "mqtt_reconnects_total",
            "Connections made after the first.",
            &one(self.mqtt.reconnects),
        );
        metric(
            "gauge",
            "mqtt_unacknowledged",
            "Messages the broker waits for us to acknowledge.",
            &one(self.mqtt.unacknowledged),
        );
        metric(
            "counter",
            "mqtt_writes_total",
            "Writes to the sockets of the connections.",
            &one(self.mqtt.writes),
        );
        metric("gauge", "memory_bytes", "Bytes that the buffers hold.", &one(self.memory_bytes));
        metric(
            "gauge",
            "uptime_seconds",
            "Seconds since the pipeline started.",
            &[(String::new(), self.uptime_ms as f64 / 1000.0)],
        );
        let by_table = |value: fn(&TableMetrics) -> u64| -> Vec<(String, f64)> {
            self.tables
                .iter()
                .map(|(name, t)| (format!(",table=\"{}\"", escape(name)), value(t) as f64))
                .collect()
        };
        metric("counter", "table_rows_total", "Rows inserted into a table.", &by_table(|t| t.rows));
        metric("counter", "table_inserts_total", "INSERTs into a table.", &by_table(|t| t.inserts));
        metric(
            "counter",
            "table_dead_lettered_total",
            "Messages for a table that became dead letters.",
            &by_table(|t| t.dead_lettered),
        );
        out
    }
}

fn escape(label: &str) -> String {
    label.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n")
}
