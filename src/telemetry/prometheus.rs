//! Metrics as other collectors take them: families of samples, and the Prometheus text format of these, version 0.0.4,
//! <https://prometheus.io/docs/instrumenting/exposition_formats/>.
//!
//! A family is there with all its labels from the beginning, so that the first increase is one. `docs/metrics.md` has a
//! row for each.

mod by_route;

use std::fmt::Write;
use std::sync::atomic::AtomicU64;
use std::time::Duration;

use serde::Serialize;

use crate::core::codes::WARNING_CODES;
use crate::core::reason::Code;
use crate::telemetry::histogram::Histogram;
use crate::telemetry::metrics::{ConnectionCounters, Metrics, Recorder, TableMetrics, get};
use crate::telemetry::state::State;

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Kind {
    Counter,
    Gauge,
    Histogram,
}

#[derive(Debug, Serialize)]
pub struct Family {
    pub name: String,
    pub help: &'static str,
    pub kind: Kind,
    pub samples: Vec<Sample>,
}

#[derive(Debug, Serialize)]
pub struct Sample {
    /// The name of its family, and in a histogram the suffix of the part.
    pub name: String,
    pub labels: Vec<(&'static str, String)>,
    pub value: f64,
}

/// The limits of both histograms, in milliseconds.
const LIMITS_MS: [f64; 32] = [
    1.0, 1.5, 2.0, 3.0, 4.0, 5.0, 7.5, 10.0, 15.0, 20.0, 30.0, 40.0, 50.0, 75.0, 100.0, 150.0, 200.0, 300.0,
    400.0, 500.0, 750.0, 1e3, 1.5e3, 2e3, 3e3, 5e3, 10e3, 30e3, 60e3, 300e3, 900e3, 3600e3,
];

/// All families of a pipeline. `metrics` is a snapshot of `recorder`, which knows more.
pub fn families(pipeline: &str, runtime: &str, metrics: &Metrics, recorder: &Recorder) -> Vec<Family> {
    let mut all = Families { pipeline, families: Vec::new() };
    process(&mut all, runtime, metrics);
    messages(&mut all, metrics);
    inserts(&mut all, metrics, recorder);
    mqtt(&mut all, recorder);
    buffers(&mut all, metrics, recorder);
    by_table(&mut all, metrics, recorder);
    by_route::add(&mut all, metrics, recorder);
    all.families
}

fn process(all: &mut Families<'_>, runtime: &str, metrics: &Metrics) {
    let build = [("version", env!("CARGO_PKG_VERSION").into()), ("runtime", runtime.into())];
    all.add(
        Kind::Gauge,
        "build_info",
        "Always 1; the labels say which version runs where.",
        [(build.to_vec(), 1.0)],
    );
    let is = |state: State| f64::from(u8::from(metrics.state == state.as_str()));
    all.gauge("up", "1 while the pipeline is running, 0 in any other state.", is(State::Running));
    let states = State::ALL.map(|state| (vec![("state", state.as_str().into())], is(state)));
    all.add(Kind::Gauge, "state", "1 for the state that the pipeline is in, 0 for the others.", states);
    all.gauge("uptime_seconds", "Seconds since the pipeline was constructed.", seconds(metrics.uptime_ms));
}

fn messages(all: &mut Families<'_>, metrics: &Metrics) {
    let messages = &metrics.messages;
    all.counter("messages_received_total", "Messages received from the broker.", messages.received);
    all.counter(
        "messages_inserted_total",
        "Messages whose rows ClickHouse has confirmed.",
        messages.inserted,
    );
    all.counter("messages_dead_lettered_total", "Messages that became dead letters.", messages.dead_lettered);
    all.counter("messages_dropped_total", "Messages that the configuration asked to drop.", messages.dropped);
    all.counter(
        "messages_skipped_total",
        "Messages passed over: retained ones that are not wanted, and copies.",
        messages.skipped,
    );
    all.gauge(
        "messages_pending",
        "Messages received and not settled: in a batch, waiting, or under way.",
        messages.pending as f64,
    );
    all.gauge(
        "oldest_pending_seconds",
        "Age of the oldest message that is not in ClickHouse yet; 0 if there is none.",
        seconds(metrics.oldest_pending_ms),
    );
    let dead_letters = Code::ALL.map(|code| {
        let count = metrics.dead_letters.get(code.as_str()).copied().unwrap_or(0);
        (vec![("code", code.as_str().into())], count as f64)
    });
    all.add(Kind::Counter, "dead_letters_total", "Dead letters, by the code of their reason.", dead_letters);
    all.counter("rows_decoded_total", "Rows appended to batches.", metrics.rows.decoded);
    all.counter("rows_inserted_total", "Rows that ClickHouse has confirmed.", metrics.rows.inserted);
    all.counter("received_bytes_total", "Bytes of MQTT payloads received.", metrics.bytes.received);
    all.counter(
        "inserted_bytes_total",
        "Bytes of confirmed blocks, before compression.",
        metrics.bytes.inserted,
    );
}

fn inserts(all: &mut Families<'_>, metrics: &Metrics, recorder: &Recorder) {
    let inserts = &metrics.inserts;
    let results = [("succeeded", inserts.succeeded), ("failed", inserts.failed)];
    all.add(
        Kind::Counter,
        "inserts_total",
        "INSERTs that have ended: confirmed by ClickHouse, or refused for good.",
        results.map(|(result, count)| (vec![("result", result.into())], count as f64)),
    );
    all.counter("insert_retries_total", "Attempts that failed and were made again.", inserts.retried);
    all.gauge(
        "inserts_in_flight",
        "INSERTs under way, or waiting for their next attempt.",
        inserts.in_flight as f64,
    );
    all.gauge(
        "last_insert_timestamp_seconds",
        "When ClickHouse last confirmed an INSERT, since 1970; 0 if it never has.",
        seconds(get(&recorder.last_insert_time)),
    );
    all.histogram(
        "insert_duration_seconds",
        "Time from the beginning of an attempt to its confirmation.",
        &recorder.insert_latency,
    );
    all.histogram(
        "end_to_end_duration_seconds",
        "Time from the receipt of a message to the confirmation of its rows.",
        &recorder.end_to_end_latency,
    );
}

fn mqtt(all: &mut Families<'_>, recorder: &Recorder) {
    let connections = &recorder.connections;
    all.gauge("mqtt_connections", "Connections that there should be.", connections.len() as f64);
    let mut each = |kind, name, help, counter: fn(&ConnectionCounters) -> &AtomicU64| {
        let samples = connections.iter().enumerate().map(|(at, counters)| {
            (vec![("connection", (at + 1).to_string())], get(counter(counters)) as f64)
        });
        all.add(kind, name, help, samples);
    };
    each(Kind::Gauge, "mqtt_connected", "1 while a connection is up and subscribed.", |c| &c.connected);
    each(Kind::Counter, "mqtt_reconnects_total", "Connections made after the first.", |c| &c.reconnects);
    let rebirths = "Requests to edge nodes of Sparkplug for their BIRTH messages.";
    each(Kind::Counter, "mqtt_rebirth_requests_total", rebirths, |c| &c.rebirth_requests);
    each(Kind::Gauge, "mqtt_unacknowledged", "Messages that the broker waits for us to acknowledge.", |c| {
        &c.unacknowledged
    });
    let version = "The version of MQTT: 4 is 3.1.1, 5 is 5, 0 until a broker has answered.";
    each(Kind::Gauge, "mqtt_protocol_version", version, |c| &c.protocol_version);
    each(Kind::Counter, "mqtt_writes_total", "Writes to the socket.", |c| &c.writes);
}

fn buffers(all: &mut Families<'_>, metrics: &Metrics, recorder: &Recorder) {
    all.gauge("memory_bytes", "What the buffers hold.", metrics.memory_bytes as f64);
    all.gauge(
        "memory_max_bytes",
        "What the buffers may hold: beyond it nothing is read.",
        metrics.memory_max_bytes as f64,
    );
    if let Some(spool) = &metrics.spool {
        all.gauge("spool_bytes", "What the spool holds on disk.", spool.bytes as f64);
        all.gauge(
            "spool_max_bytes",
            "What the spool may hold: beyond it nothing is read.",
            spool.max_bytes as f64,
        );
        all.gauge("spool_segments", "Files of the spool.", spool.segments as f64);
        all.gauge("spool_oldest_seconds", "Age of the oldest record in the spool.", seconds(spool.oldest_ms));
        all.gauge(
            "spool_last_sync_seconds",
            "Seconds since the spool was last written and synced.",
            seconds(spool.last_sync_ms),
        );
        all.counter(
            "spool_errors_total",
            "Writes, reads and deletions of the spool that failed.",
            spool.errors,
        );
        all.counter("spool_damages_total", "Ranges of bytes that cannot be read or are gone.", spool.damages);
        all.counter(
            "spool_lost_messages_total",
            "Messages in these, as far as it is known.",
            spool.lost_messages,
        );
        all.gauge("spool_writable", "1 while the spool takes messages.", f64::from(u8::from(spool.writable)));
    }
    let failing = get(&recorder.dead_letters_failing) as f64;
    all.gauge("dead_letters_failing", "1 while dead letters cannot be stored, and wait.", failing);
    let warnings = WARNING_CODES.map(|code| {
        let count = metrics.warnings.get(code).copied().unwrap_or(0);
        (vec![("code", code.into())], count as f64)
    });
    all.add(Kind::Counter, "warnings_total", "Warnings, by their code.", warnings);
}

fn by_table(all: &mut Families<'_>, metrics: &Metrics, recorder: &Recorder) {
    let mut each = |kind, name, help, value: fn(&TableMetrics) -> u64| {
        let samples =
            metrics.tables.iter().map(|(name, table)| (vec![("table", name.clone())], value(table) as f64));
        all.add(kind, name, help, samples);
    };
    let counter = Kind::Counter;
    each(counter, "table_rows_total", "Rows inserted into a table.", |table| table.rows);
    each(counter, "table_inserts_total", "INSERTs into a table.", |table| table.inserts);
    each(counter, "table_dead_lettered_total", "Dead letters of the routes to a table.", |table| {
        table.dead_lettered
    });
    each(counter, "table_insert_retries_total", "Attempts that failed and were made again.", |table| {
        table.retried
    });
    each(counter, "table_inserts_failed_total", "INSERTs that ClickHouse refused for good.", |table| {
        table.failed
    });
    let failing = "1 while an INSERT into a table has failed and waits to be made again.";
    each(Kind::Gauge, "table_failing", failing, |table| u64::from(table.failing));
    let last = recorder.last_inserts().map(|(name, at)| (vec![("table", name.into())], seconds(at)));
    all.add(
        Kind::Gauge,
        "table_last_insert_timestamp_seconds",
        "When ClickHouse last confirmed an INSERT into a table, since 1970; 0 if it never has.",
        last,
    );
}

type Labels = Vec<(&'static str, String)>;

struct Families<'a> {
    pipeline: &'a str,
    families: Vec<Family>,
}

impl Families<'_> {
    fn counter(&mut self, name: &str, help: &'static str, value: u64) {
        self.add(Kind::Counter, name, help, [(Vec::new(), value as f64)]);
    }

    fn gauge(&mut self, name: &str, help: &'static str, value: f64) {
        self.add(Kind::Gauge, name, help, [(Vec::new(), value)]);
    }

    fn histogram(&mut self, name: &str, help: &'static str, histogram: &Histogram) {
        self.histograms(name, help, [(Vec::new(), histogram)].into_iter());
    }

    fn histograms<'h>(
        &mut self,
        name: &str,
        help: &'static str,
        histograms: impl Iterator<Item = (Labels, &'h Histogram)>,
    ) {
        let samples = histograms.flat_map(|(labels, histogram)| {
            let cumulative = histogram.cumulative(&LIMITS_MS.map(|ms| Duration::from_secs_f64(ms / 1e3)));
            let limits = LIMITS_MS.iter().map(|ms| (ms / 1e3).to_string()).chain(["+Inf".into()]);
            let counts = cumulative.counts.into_iter().chain([cumulative.count]);
            let of_bucket = labels.clone();
            let buckets = limits.zip(counts).map(move |(limit, count)| {
                let labels = of_bucket.iter().cloned().chain([("le", limit)]).collect();
                ("_bucket", labels, count as f64)
            });
            let totals = [
                ("_sum", labels.clone(), cumulative.sum.as_secs_f64()),
                ("_count", labels, cumulative.count as f64),
            ];
            buckets.chain(totals).collect::<Vec<_>>()
        });
        self.add_suffixed(Kind::Histogram, name, help, samples);
    }

    fn add(
        &mut self,
        kind: Kind,
        name: &str,
        help: &'static str,
        samples: impl IntoIterator<Item = (Labels, f64)>,
    ) {
        self.add_suffixed(kind, name, help, samples.into_iter().map(|(labels, value)| ("", labels, value)));
    }

    fn add_suffixed(
        &mut self,
        kind: Kind,
        name: &str,
        help: &'static str,
        samples: impl Iterator<Item = (&'static str, Labels, f64)>,
    ) {
        let name = format!("millrace_{name}");
        let samples = samples.map(|(suffix, labels, value)| Sample {
            name: format!("{name}{suffix}"),
            labels: [("pipeline", self.pipeline.into())].into_iter().chain(labels).collect(),
            value,
        });
        let samples = samples.collect();
        self.families.push(Family { name, help, kind, samples });
    }
}

pub fn text(families: &[Family]) -> String {
    let mut out = String::new();
    for Family { name, help, kind, samples } in families {
        let kind = match kind {
            Kind::Counter => "counter",
            Kind::Gauge => "gauge",
            Kind::Histogram => "histogram",
        };
        // Writing into a String cannot fail.
        let _ = writeln!(out, "# HELP {name} {help}\n# TYPE {name} {kind}");
        for Sample { name, labels, value } in samples {
            let labels: Vec<_> =
                labels.iter().map(|(key, label)| format!("{key}=\"{}\"", escape(label))).collect();
            let _ = writeln!(out, "{name}{{{}}} {value}", labels.join(","));
        }
    }
    out
}

fn escape(label: &str) -> String {
    label.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n")
}

fn seconds(millis: u64) -> f64 {
    millis as f64 / 1e3
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::core::memory_budget::MemoryBudget;
    use crate::telemetry::ledger::Ledger;
    use crate::telemetry::metrics::Spool;
    use crate::telemetry::metrics::{GatheringCounters, RepeatCounters, TransformCounters};

    /// Each row of the table in `docs/metrics.md`: name, kind, and labels beside `pipeline`.
    fn documented() -> Vec<(String, String, Vec<String>)> {
        let rows =
            include_str!("../../docs/metrics.md").lines().filter(|line| line.starts_with("| `millrace_"));
        // The table of alerts has two columns.
        let rows =
            rows.map(|row| row.split('|').map(str::trim).collect::<Vec<_>>()).filter(|row| row.len() == 6);
        let words = |cell: &str| {
            cell.split(", ")
                .map(|word| word.trim_matches('`').to_string())
                .filter(|word| !word.is_empty())
                .collect()
        };
        rows.map(|row| (row[1].trim_matches('`').into(), row[2].into(), words(row[3]))).collect()
    }

    #[test]
    fn every_family_is_documented_as_it_is() {
        let mut recorder = Recorder::new(["t".to_string()], 2);
        recorder.transforms = TransformCounters::of_routes([(0, "t/#")].into_iter());
        recorder.lookups.ask("l", None);
        let config = r#"{
            "mqtt": { "url": "mqtt://x" }, "clickhouse": { "url": "http://x" },
            "routes": [{ "topic": "p/#", "table": "t", "pivot": { "key": "id" } }, {
                "topic": "t/#", "table": "t", "dedupe": { "by": "id" }, "deadband": { "column": "v", "delta": 1 }
            }]
        }"#;
        let config = crate::config::Config::parse(config).unwrap();
        GatheringCounters::add(&recorder.gatherings, 0, &config.routes[0]);
        RepeatCounters::add(&recorder.repeats, 1, &config.routes[1]);
        let metrics =
            recorder.snapshot("idle", Default::default(), &Ledger::default(), &MemoryBudget::new(1));
        let spool = Spool { bytes: 1, max_bytes: 2, segments: 1, oldest_ms: 3, ..Spool::default() };
        let metrics = Metrics { spool: Some(spool), ..metrics };
        let families = families("p", "node", &metrics, &recorder).into_iter().map(|family| {
            let labels = family.samples[0].labels.iter().map(|(label, _)| label.to_string());
            let labels = labels.filter(|label| label != "pipeline" && label != "le").collect();
            (family.name, format!("{:?}", family.kind).to_lowercase(), labels)
        });
        assert_eq!(families.collect::<Vec<_>>(), documented());
    }

    #[test]
    fn labels_are_escaped() {
        let mut all = Families { pipeline: "p", families: Vec::new() };
        let labels = vec![("table", "a\"b\\c\nd".to_string())];
        all.add(Kind::Counter, "x_total", "Help.", [(labels, 2.0)]);
        assert_eq!(
            text(&all.families),
            "# HELP millrace_x_total Help.\n# TYPE millrace_x_total counter\n\
             millrace_x_total{pipeline=\"p\",table=\"a\\\"b\\\\c\\nd\"} 2\n"
        );
    }

    #[test]
    fn a_histogram_ends_with_all() {
        let histogram = Histogram::default();
        histogram.record(Duration::from_micros(1400), 3);
        histogram.record(Duration::from_secs(7200), 1);
        let mut all = Families { pipeline: "p", families: Vec::new() };
        all.histogram("d_seconds", "Help.", &histogram);
        let text = text(&all.families);
        for line in [
            "millrace_d_seconds_bucket{pipeline=\"p\",le=\"0.001\"} 0",
            "millrace_d_seconds_bucket{pipeline=\"p\",le=\"0.0015\"} 3",
            "millrace_d_seconds_bucket{pipeline=\"p\",le=\"3600\"} 3",
            "millrace_d_seconds_bucket{pipeline=\"p\",le=\"+Inf\"} 4",
            "millrace_d_seconds_sum{pipeline=\"p\"} 7200.0042",
            "millrace_d_seconds_count{pipeline=\"p\"} 4",
        ] {
            assert!(text.lines().any(|l| l == line), "{line} in {text}");
        }
    }
}
