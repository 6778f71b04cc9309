'use strict'

// A pipeline's metrics for OpenTelemetry, read when a reader collects; there is no cost in between.
//
// metricProducer() gives all of them to a MetricReader of the SDK, with histograms as histograms. observeMetrics() is for code
// that has a Meter and no reader: the API has no histogram that is read, so that quantiles take its place there.

const { FAMILIES } = require('../native.js')

// Values of the enums DataPointType, AggregationTemporality and ValueType of `@opentelemetry/sdk-metrics` and
// `@opentelemetry/api`. A test compares them.
const HISTOGRAM = 0
const GAUGE = 2
const SUM = 3
const CUMULATIVE = 1
const DOUBLE = 1

/**
 * A MetricProducer: <https://opentelemetry.io/docs/specs/otel/metrics/sdk/#metricproducer>. All figures of one collection are of
 * one snapshot.
 */
function metricProducer(pipeline) {
  /** @type {[number, number] | undefined} */
  let startTime
  const collect = () => {
    const families = pipeline[FAMILIES]()
    const now = Date.now()
    // Counters began with the pipeline. It stays the same, or a receiver would take it for a restart.
    startTime ??= hrTime(now - sampleOf(families, 'millrace_uptime_seconds').value * 1e3)
    const interval = { startTime, endTime: hrTime(now) }
    const scope = { name: 'millrace', version: Object.fromEntries(sampleOf(families, 'millrace_build_info').labels).version }
    const metrics = families.map((family) => metricOf(family, interval))
    return { resourceMetrics: { resource: NO_RESOURCE, scopeMetrics: [{ scope, metrics }] }, errors: [] }
  }
  return { collect: async () => collect() }
}

/** A reader leaves it out, and takes the resource of the SDK. */
const NO_RESOURCE = {
  attributes: {},
  merge: (other) => other ?? NO_RESOURCE,
  getRawAttributes: () => [],
}

/** The first sample of a family. */
function sampleOf(families, name) {
  return families.find((family) => family.name === name).samples[0]
}

/** @returns {[number, number]} seconds since 1970, and nanoseconds */
function hrTime(ms) {
  const seconds = Math.floor(ms / 1e3)
  return [seconds, Math.round((ms - seconds * 1e3) * 1e6)]
}

/** A family as MetricData of the SDK. */
function metricOf({ name: familyName, kind, help, samples }, interval) {
  const name = instrumentName(familyName)
  const descriptor = { name, description: help, unit: unitOf(name), valueType: DOUBLE }
  const common = { descriptor, aggregationTemporality: CUMULATIVE }
  if (kind === 'histogram') {
    return { ...common, dataPointType: HISTOGRAM, dataPoints: histogramsOf(samples).map((point) => ({ ...interval, ...point })) }
  }
  const dataPoints = samples.map(({ labels, value }) => ({ ...interval, attributes: Object.fromEntries(labels), value }))
  return kind === 'counter'
    ? { ...common, dataPointType: SUM, isMonotonic: true, dataPoints }
    : { ...common, dataPointType: GAUGE, dataPoints }
}

/**
 * Histograms from the samples of the Prometheus format, which count all that is below a limit, and come in the order of their
 * limits. Here each bucket counts what is above the limit before.
 */
function histogramsOf(samples) {
  const histograms = new Map()
  for (const { name, labels, value } of samples) {
    const { le, ...attributes } = Object.fromEntries(labels)
    const key = JSON.stringify(attributes)
    const histogram = histograms.get(key) ?? { attributes, boundaries: [], below: [], sum: 0, count: 0 }
    histograms.set(key, histogram)
    if (name.endsWith('_sum')) histogram.sum = value
    else if (name.endsWith('_count')) histogram.count = value
    else {
      histogram.below.push(value)
      if (le !== '+Inf') histogram.boundaries.push(Number(le))
    }
  }
  return [...histograms.values()].map(({ attributes, boundaries, below, sum, count }) => {
    const counts = below.map((value, i) => value - (below[i - 1] ?? 0))
    return { attributes, value: { buckets: { boundaries, counts }, sum, count } }
  })
}

function observeMetrics(pipeline, meter) {
  const instruments = new Map()
  const instrument = (name, kind, description, unit) => {
    const create = kind === 'counter' ? 'createObservableCounter' : 'createObservableGauge'
    instruments.set(name, meter[create](name, { description, unit }))
  }
  const readings = () => pipeline[FAMILIES]().flatMap((family) => readingsOf(family, pipeline))
  for (const { name, kind, help, unit } of readings()) if (!instruments.has(name)) instrument(name, kind, help, unit)
  const callback = (result) => {
    for (const { name, value, attributes } of readings()) result.observe(instruments.get(name), value, attributes)
  }
  const all = [...instruments.values()]
  meter.addBatchObservableCallback(callback, all)
  return () => meter.removeBatchObservableCallback(callback, all)
}

/** The names of quantiles in `metrics()`; 1 is the maximum. */
const QUANTILES = { 0.5: 'p50', 0.9: 'p90', 0.99: 'p99', 1: 'max' }
/** The quantiles of a histogram, by the labels of its samples. */
const DURATIONS = {
  millrace_insert_duration_seconds: ({ latencyMs }) => latencyMs.insert,
  millrace_end_to_end_duration_seconds: ({ latencyMs }) => latencyMs.endToEnd,
  millrace_transform_duration_seconds: ({ transforms }, { route }) => transforms[route].durationMs,
}

/** The samples of a family as instruments that are read. */
function readingsOf({ name: familyName, kind, help, samples }, pipeline) {
  const name = instrumentName(familyName)
  const unit = unitOf(name)
  if (kind !== 'histogram') {
    return samples.map(({ labels, value }) => ({ name, kind, help, unit, value, attributes: Object.fromEntries(labels) }))
  }
  const metrics = pipeline.metrics()
  return histogramsOf(samples).flatMap(({ attributes }) => {
    const durations = DURATIONS[familyName](metrics, attributes)
    return Object.entries(QUANTILES).map(([quantile, field]) => ({
      name: `${name}.quantile`,
      kind: 'gauge',
      help,
      unit,
      value: durations[field] / 1000,
      attributes: { ...attributes, quantile },
    }))
  })
}

function instrumentName(familyName) {
  return familyName.replace(/^millrace_/, 'millrace.').replace(/_total$/, '')
}

/**
 * Units by UCUM, <https://ucum.org/ucum>, by the ends and words of names: the first that fits. Annotations say what is counted.
 * A bridge to Prometheus adds `_ratio` to a gauge whose unit is 1, and nothing for an annotation.
 *
 * @type {[RegExp, string][]}
 */
const UNITS = [
  [/_seconds$/, 's'],
  [/_bytes$/, 'By'],
  [/table_failing$/, '{table}'],
  [/_failing$|_writable$/, '{pipeline}'],
  [/messages|dead_letter|unacknowledged$|rejected$/, '{message}'],
  [/rows|emitted|dropped$|misses$/, '{row}'],
  [/insert/, '{insert}'],
  [/connect/, '{connection}'],
  [/warnings$/, '{warning}'],
  [/errors$/, '{error}'],
  [/damages$/, '{range}'],
  [/segments$/, '{segment}'],
  [/writes$/, '{write}'],
  [/requests$/, '{request}'],
  [/calls$|failed$/, '{call}'],
  [/waiting$/, '{batch}'],
  [/entries$/, '{entry}'],
  [/version$/, '{version}'],
]

function unitOf(name) {
  return UNITS.find(([word]) => word.test(name))?.[1] ?? '{pipeline}'
}

module.exports = { metricProducer, observeMetrics }
