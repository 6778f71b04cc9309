'use strict'

// Reads the metric families of a pipeline for what `metrics()` does not have: its name, each connection, the histograms.

const { FAMILIES } = require('../native.js')

/** One snapshot of the families, by name without `millrace_`. */
function readFamilies(pipeline) {
  const families = new Map(pipeline[FAMILIES]().map(({ name, samples }) => [name.replace('millrace_', ''), samples]))
  const samples = (name) =>
    (families.get(name) ?? []).map(({ name, labels, value }) => ({ name, labels: Object.fromEntries(labels), value }))
  return {
    name: samples('up')[0]?.labels.pipeline,
    byLabel: (name, label) => Object.fromEntries(samples(name).map(({ labels, value }) => [labels[label], value])),
    /** The upper bounds of a histogram's buckets in seconds, and how many observations lie below each. */
    buckets: (name) =>
      samples(name)
        .filter((sample) => sample.name.endsWith('_bucket'))
        .map(({ labels: { le }, value }) => ({ le: le === '+Inf' ? Infinity : Number(le), count: value })),
  }
}

/**
 * The quantile `q`, in milliseconds, of the observations since `before`; null if there is none. It is interpolated within a
 * bucket, as Prometheus does.
 */
function quantile(buckets, before, q) {
  const counts = buckets.map(({ count }, i) => count - (before[i]?.count ?? 0))
  const rank = q * (counts.at(-1) ?? 0)
  if (rank === 0) return null
  const i = counts.findIndex((count) => count >= rank)
  const lower = i > 0 ? buckets[i - 1].le : 0
  const upper = buckets[i].le
  if (upper === Infinity) return lower * 1000
  const below = i > 0 ? counts[i - 1] : 0
  const seconds = lower + (upper - lower) * ((rank - below) / (counts[i] - below))
  return Math.round(seconds * 10_000) / 10
}

module.exports = { quantile, readFamilies }
