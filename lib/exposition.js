'use strict'

// The numbers of `pipeline.prometheus()`, for those that `metrics()` does not have: limits, ages, histograms.

/** One pipeline's samples, by their names without `millrace_`. */
function readMetrics(text) {
  /** @type {Map<string, { labels: Record<string, string>, value: number }[]>} */
  const samples = new Map()
  for (const [, name, labels, value] of text.matchAll(/^millrace_(\w+)\{(.*)\} (\S+)$/gm)) {
    if (!samples.has(name)) samples.set(name, [])
    samples.get(name).push({ labels: readLabels(labels), value: value === '+Inf' ? Infinity : Number(value) })
  }
  const all = (name) => samples.get(name) ?? []
  return {
    name: all('messages_pending')[0]?.labels.pipeline,
    /** undefined: the pipeline has no such metric. */
    value: (name) => all(name)[0]?.value,
    byLabel: (name, label) => Object.fromEntries(all(name).map(({ labels, value }) => [labels[label], value])),
    /** The upper bounds of a histogram's buckets in seconds, and how many observations lie below each. */
    buckets: (name) =>
      all(`${name}_bucket`).map(({ labels, value }) => ({
        le: labels.le === '+Inf' ? Infinity : Number(labels.le),
        count: value,
      })),
  }
}

function readLabels(text) {
  const pairs = text.matchAll(/(\w+)="((?:[^"\\]|\\.)*)"/g)
  return Object.fromEntries(Array.from(pairs, ([, name, value]) => [name, unescape(value)]))
}

function unescape(value) {
  return value.replace(/\\(.)/g, (_, character) => (character === 'n' ? '\n' : character))
}

/**
 * The quantile `q` of what a histogram has observed since it looked like `before`, in milliseconds; null for nothing.
 * Within a bucket it is interpolated, as Prometheus does.
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

module.exports = { quantile, readMetrics }
