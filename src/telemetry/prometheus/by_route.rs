//! Families of what only some pipelines have: transforms, `pivot`, `dedupe`, `deadband`, lookups.

use std::collections::BTreeMap;
use std::sync::atomic::AtomicU64;

use super::{Families, Kind};
use crate::telemetry::metrics::{
    LookupMetrics, Metrics, PivotMetrics, Recorder, RepeatMetrics, TransformCounters, get,
};

pub(super) fn add(all: &mut Families<'_>, metrics: &Metrics, recorder: &Recorder) {
    transforms(all, recorder);
    gathered(all, metrics);
    repeats(all, metrics);
    lookups(all, metrics);
}

/// Only of a pipeline that has transforms.
fn transforms(all: &mut Families<'_>, recorder: &Recorder) {
    let transforms: Vec<&TransformCounters> =
        recorder.transforms.iter().map(|(_, counters)| counters).collect();
    if transforms.is_empty() {
        return;
    }
    let labels = |counters: &TransformCounters| vec![("route", counters.name.clone())];
    let mut each = |kind, name, help, counter: fn(&TransformCounters) -> &AtomicU64| {
        let samples = transforms.iter().map(|counters| (labels(counters), get(counter(counters)) as f64));
        all.add(kind, name, help, samples);
    };
    each(Kind::Counter, "transform_calls_total", "Calls of a route's transform.", |t| &t.calls);
    each(Kind::Counter, "transform_rows_total", "Rows that a transform was given.", |t| &t.rows);
    each(Kind::Counter, "transform_dropped_total", "Rows that a transform dropped.", |t| &t.dropped);
    each(Kind::Counter, "transform_rejected_total", "Messages that a transform rejected.", |t| &t.rejected);
    each(Kind::Counter, "transform_emitted_total", "Rows that a transform emitted.", |t| &t.emitted);
    each(Kind::Counter, "transform_failed_total", "Calls that failed.", |t| &t.failed);
    each(Kind::Gauge, "transform_waiting", "Batches that wait for a transform.", |t| &t.waiting);
    let durations = transforms.iter().map(|counters| (labels(counters), &counters.duration));
    all.histograms("transform_duration_seconds", "Time of a call, to the end of its promise.", durations);
}

/// Only of a pipeline that has routes with `pivot`.
fn gathered(all: &mut Families<'_>, metrics: &Metrics) {
    if metrics.pivot.is_empty() {
        return;
    }
    let mut each = |kind, name, help, value: fn(&PivotMetrics) -> u64| {
        let samples = metrics.pivot.iter();
        let samples = samples.map(|(route, its)| (vec![("route", route.clone())], value(its) as f64));
        all.add(kind, name, help, samples);
    };
    each(Kind::Gauge, "pivot_open", "Rows of pivot that wait for values.", |its| its.open);
    each(Kind::Counter, "pivot_rows_total", "Rows that pivot made of messages.", |its| its.rows);
    let help = "Rows of pivot that had all columns.";
    each(Kind::Counter, "pivot_complete_total", help, |its| its.complete);
}

/// Only of a pipeline that has routes with `dedupe` or `deadband`.
fn repeats(all: &mut Families<'_>, metrics: &Metrics) {
    let mut each = |routes: &BTreeMap<String, RepeatMetrics>, names: [(&str, &'static str); 3]| {
        let values: [fn(&RepeatMetrics) -> u64; 3] = [|its| its.dropped, |its| its.keys, |its| its.evicted];
        let kinds = [Kind::Counter, Kind::Gauge, Kind::Counter];
        for (((name, help), value), kind) in names.into_iter().zip(values).zip(kinds) {
            let samples = routes.iter();
            all.add(
                kind,
                name,
                help,
                samples.map(|(route, its)| (vec![("route", route.clone())], value(its) as f64)),
            );
        }
    };
    if !metrics.dedupe.is_empty() {
        let names = [
            ("dedupe_dropped_total", "Rows that dedupe dropped."),
            ("dedupe_keys", "Keys that dedupe remembers."),
            ("dedupe_evicted_total", "Keys that dedupe forgot for newer ones."),
        ];
        each(&metrics.dedupe, names);
    }
    if !metrics.deadband.is_empty() {
        let names = [
            ("deadband_dropped_total", "Rows that deadband dropped."),
            ("deadband_keys", "Keys whose last value deadband remembers."),
            ("deadband_evicted_total", "Keys that deadband forgot for newer ones."),
        ];
        each(&metrics.deadband, names);
    }
}

/// Only of a pipeline that has lookups.
fn lookups(all: &mut Families<'_>, metrics: &Metrics) {
    if metrics.lookups.is_empty() {
        return;
    }
    let mut each = |kind, name, help, value: fn(&LookupMetrics) -> u64| {
        let samples = metrics.lookups.iter();
        let samples = samples.map(|(name, lookup)| (vec![("lookup", name.clone())], value(lookup) as f64));
        all.add(kind, name, help, samples);
    };
    each(Kind::Gauge, "lookup_entries", "Entries of a lookup's map.", |lookup| lookup.entries);
    each(Kind::Gauge, "lookup_bytes", "Memory of a lookup's map.", |lookup| lookup.bytes);
    each(Kind::Counter, "lookup_misses_total", "Rows whose key was not in the map.", |lookup| lookup.misses);
}
