'use strict'

// registerMetrics() and observeMetrics(): adds a pipeline's metrics to a registry of prom-client or a meter of OpenTelemetry.
// Both read the metrics when they collect; there is no cost in between.

const { configError } = require('../native.js')
const { FAMILIES } = require('../native.js')

/** @type {WeakMap<object, RegistryBinding>} */
const registries = new WeakMap()

function registerMetrics(pipeline, registry) {
  const binding = registries.get(registry) ?? new RegistryBinding(registry)
  registries.set(registry, binding)
  binding.add(pipeline)
  return () => binding.remove(pipeline)
}

/** Our metrics in one registry of prom-client: one per family, shared by all pipelines. */
class RegistryBinding {
  #registry
  #pipelines = new Map()
  #metrics = new Map()
  #read

  constructor(registry) {
    this.#registry = registry
  }

  add(pipeline) {
    const families = pipeline[FAMILIES]()
    const name = Object.fromEntries(families[0].samples[0].labels).pipeline
    const other = this.#pipelines.get(name)
    if (other && other !== pipeline) {
      throw configError('name', `there is a pipeline ${name} in this registry already`)
    }
    this.#pipelines.set(name, pipeline)
    for (const family of families) this.#register(family)
  }

  remove(pipeline) {
    for (const [name, its] of this.#pipelines) if (its === pipeline) this.#pipelines.delete(name)
    if (this.#pipelines.size > 0) return
    for (const name of this.#metrics.keys()) this.#registry.removeSingleMetric(name)
    this.#metrics.clear()
  }

  #register({ name, help, kind }) {
    if (!this.#metrics.has(name)) this.#metrics.set(name, this.#metric(name, help, kind))
    // Registering the same metric twice has no effect.
    this.#registry.registerMetric(this.#metrics.get(name))
  }

  #metric(name, help, type) {
    const values = () => this.#values(name)
    return {
      name,
      help,
      type,
      aggregator: 'sum',
      async get() {
        // `this.name`, because a registry of OpenMetrics removes `_total` from it.
        return { name: this.name, help, type, aggregator: 'sum', values: values() }
      },
      reset() {},
    }
  }

  #values(name) {
    // A registry reads all its metrics in one turn: they get the same snapshot.
    if (!this.#read) {
      this.#read = [...this.#pipelines.values()].flatMap((pipeline) => pipeline[FAMILIES]())
      queueMicrotask(() => (this.#read = undefined))
    }
    const samples = this.#read.filter((family) => family.name === name).flatMap((family) => family.samples)
    return samples.map(({ name: metricName, labels, value }) => {
      const isPart = metricName !== name
      return { labels: Object.fromEntries(labels), value, ...(isPart && { metricName }) }
    })
  }
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

/**
 * The words of names, and the annotations of UCUM for what they count: the first that fits.
 *
 * @type {[RegExp, string][]}
 */
const COUNTED = [
  [/dead_letter|messages|unacknowledged/, '{message}'],
  [/rows|emitted|dropped/, '{row}'],
  [/rejected/, '{message}'],
  [/insert/, '{insert}'],
  [/reconnects|connect/, '{connection}'],
  [/warnings/, '{warning}'],
  [/errors/, '{error}'],
  [/damages/, '{range}'],
  [/segments/, '{segment}'],
  [/writes/, '{write}'],
  [/requests/, '{request}'],
  [/calls|failed/, '{call}'],
  [/waiting/, '{batch}'],
  [/failing|table/, '{table}'],
  [/version/, '{version}'],
]

/** The unit by UCUM, <https://ucum.org/ucum>. A bridge to Prometheus adds `_ratio` to a gauge whose unit is 1. */
function unitOf(name) {
  if (name.endsWith('_seconds')) return 's'
  if (name.endsWith('_bytes')) return 'By'
  return COUNTED.find(([word]) => word.test(name))?.[1] ?? '{pipeline}'
}

/** The samples of a family as OpenTelemetry names them. */
function readingsOf({ name: familyName, kind, help, samples }, pipeline) {
  const name = familyName.replace(/^millrace_/, 'millrace.').replace(/_total$/, '')
  const unit = unitOf(name)
  if (kind !== 'histogram') {
    return samples.map(({ labels, value }) => ({ name, kind, help, unit, value, attributes: Object.fromEntries(labels) }))
  }
  // OpenTelemetry has no observable histogram.
  const metrics = pipeline.metrics()
  return samples.filter((sample) => sample.name.endsWith('_count')).flatMap((count) => {
    const attributes = Object.fromEntries(count.labels)
    const isOf = ({ labels }) => labels.every(([label, value]) => attributes[label] === value)
    const sum = samples.find((sample) => sample.name.endsWith('_sum') && isOf(sample))
    const durations = DURATIONS[familyName](metrics, attributes)
    return [
      { name: `${name}.count`, kind: 'counter', help, unit: '{observation}', value: count.value, attributes },
      { name: `${name}.sum`, kind: 'counter', help, unit, value: sum.value, attributes },
      ...Object.entries(QUANTILES).map(([quantile, field]) => ({
        name: `${name}.quantile`,
        kind: 'gauge',
        help,
        unit,
        value: durations[field] / 1000,
        attributes: { ...attributes, quantile },
      })),
    ]
  })
}

module.exports = { observeMetrics, registerMetrics }
