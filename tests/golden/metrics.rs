//! Metrics as JSON and in Prometheus' text format, with every name and help line.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use super::engine::{
    Code, Ledger, MemoryBudget, MemoryReservation, Metrics, Recorder, Settled, SpoolMetrics, prometheus,
};
use super::expected::assert_golden;

fn recorder() -> Recorder {
    let recorder = Recorder::new(["fleet.positions", "a\"b", "fleet.positions"].map(String::from), 2);
    recorder.bytes_received.store(1_234_567, Ordering::Relaxed);
    recorder.rows_decoded.store(1_000, Ordering::Relaxed);
    recorder.inserts_retried.store(3, Ordering::Relaxed);
    recorder.inserts_failed.store(2, Ordering::Relaxed);
    recorder.inserts_in_flight.store(1, Ordering::Relaxed);
    recorder.count_insert("fleet.positions", 900, 90_000);
    recorder.count_insert("a\"b", 99, 990);
    // In place of when that was.
    recorder.last_insert_time.store(1_730_000_000_123, Ordering::Relaxed);
    for (millis, count) in [(1, 5), (7, 90), (40, 4), (2_000, 1)] {
        recorder.insert_latency.record(Duration::from_millis(millis), count);
        recorder.end_to_end_latency.record(Duration::from_millis(10 * millis), 10 * count);
    }
    for (at, connection) in recorder.connections.iter().enumerate() {
        connection.connected.store(1 - at as u64, Ordering::Relaxed);
        connection.reconnects.store(3 + at as u64, Ordering::Relaxed);
        connection.rebirth_requests.store(5 + at as u64, Ordering::Relaxed);
        connection.unacknowledged.store(20, Ordering::Relaxed);
        connection.writes.store(500, Ordering::Relaxed);
    }
    for code in [Code::JsonInvalid, Code::NoRoute, Code::RejectedByClickHouse] {
        recorder.dead_letters(code).store(1 + code as u64, Ordering::Relaxed);
    }
    for (table, time) in [("fleet.positions", 1_730_000_000_123), ("a\"b", 0)] {
        recorder.table(table).unwrap().last_insert_time.store(time, Ordering::Relaxed);
    }
    recorder.count_retry("fleet.positions");
    recorder.count_failed("a\"b");
    recorder.count_warning("CLICKHOUSE_RETRYING");
    recorder.table("fleet.positions").unwrap().dead_lettered.store(4, Ordering::Relaxed);
    recorder
}

/// A snapshot, with numbers in place of those that depend on when it is taken.
fn metrics(recorder: &Recorder, state: &'static str) -> Metrics {
    let ledger = Ledger::default();
    let group = ledger.open(Instant::now());
    ledger.receive(1_050, 20);
    ledger.close(group, Settled { inserted: 1_000, dead_lettered: 10, dropped: 0 });
    let memory = Arc::new(MemoryBudget::new(256 << 20));
    let mut reservation = MemoryReservation::new(&memory);
    reservation.resize(4_096);
    let mut metrics = recorder.snapshot(state, Default::default(), &ledger, &memory);
    for table in metrics.tables.values_mut().filter(|table| table.last_insert_ms.is_some()) {
        table.last_insert_ms = Some(12);
    }
    Metrics { uptime_ms: 60_500, last_insert_ms: Some(12), oldest_pending_ms: 250, ..metrics }
}

/// With the version in its place: a release changes it.
fn without_version(text: &str) -> String {
    text.replace(concat!("\"", env!("CARGO_PKG_VERSION"), "\""), "\"<version>\"")
}

fn with_spool(metrics: Metrics) -> Metrics {
    let spool = SpoolMetrics {
        bytes: 65_536,
        max_bytes: 4 << 30,
        segments: 2,
        oldest_ms: 1_500,
        damages: 1,
        lost_messages: 7,
        errors: 3,
        last_sync_ms: 250,
        writable: true,
    };
    Metrics { spool: Some(spool), ..metrics }
}

#[test]
fn as_json() {
    let recorder = recorder();
    let mut text = String::new();
    for metrics in [metrics(&recorder, "idle"), with_spool(metrics(&recorder, "running"))] {
        text += &serde_json::to_string_pretty(&metrics).unwrap();
        text.push('\n');
    }
    assert_golden("metrics.json", &text);
}

#[test]
fn as_prometheus_text() {
    let recorder = recorder();
    let metrics = with_spool(metrics(&recorder, "running"));
    let families = prometheus::families("fleet \"1\"", "node", &metrics, &recorder);
    assert_golden("prometheus.txt", &without_version(&prometheus::text(&families)));
}

/// Without a spool, and as other collectors take them.
#[test]
fn as_families() {
    let recorder = recorder();
    let families = prometheus::families("fleet", "bun", &metrics(&recorder, "stopped"), &recorder);
    let lines = families.iter().map(|family| serde_json::to_string(family).unwrap() + "\n");
    assert_golden("families.jsonl", &without_version(&lines.collect::<String>()));
}
