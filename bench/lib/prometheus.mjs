// Reads durations from a service's Prometheus text.

/**
 * Upper limits in seconds, and how many durations were at most as long.
 *
 * @typedef {{ buckets: [limit: number, count: number][] }} Histogram
 */

/**
 * A histogram, its samples added up over all labels; a summary's quantiles where there is none.
 *
 * @param {string} text
 * @param {string[]} names the first one that is there
 * @returns {Histogram | { p50: number, p99: number } | undefined} in seconds
 */
export function readDurations(text, names) {
  for (const name of names) {
    const buckets = new Map()
    for (const [value, labels] of samples(text, `${name}_bucket`)) {
      const limit = Number(labels.le.replace('+Inf', 'Infinity'))
      buckets.set(limit, (buckets.get(limit) ?? 0) + value)
    }
    if (buckets.size > 0) return { buckets: [...buckets].sort(([a], [b]) => a - b) }
    const quantiles = new Map([...samples(text, name)].map(([value, { quantile }]) => [quantile, value]))
    if (quantiles.size > 0) return { p50: quantiles.get('0.5'), p99: quantiles.get('0.99') }
  }
  return undefined
}

/**
 * The quantile of what was counted between two readings: the true one lies in the same bucket, and is taken to lie as far
 * into it as the rank does.
 *
 * @param {Histogram} before
 * @param {Histogram} after
 * @param {number} q 0 to 1
 * @returns {number | undefined} nothing where nothing was counted, or where it lies beyond the last limit
 */
export function quantileBetween(before, after, q) {
  const earlier = new Map(before.buckets)
  const buckets = after.buckets.map(([limit, count]) => [limit, count - (earlier.get(limit) ?? 0)])
  const total = buckets.at(-1)?.[1] ?? 0
  if (total === 0) return undefined
  let [lower, below] = [0, 0]
  for (const [limit, count] of buckets) {
    if (count >= q * total && count > below) {
      if (limit === Infinity) return undefined
      return lower + (limit - lower) * ((q * total - below) / (count - below))
    }
    ;[lower, below] = [limit, count]
  }
  return undefined
}

/**
 * The samples of one name: value and labels.
 *
 * @param {string} text
 * @param {string} name
 * @returns {Generator<[number, Record<string, string>]>}
 */
function* samples(text, name) {
  for (const line of text.split('\n')) {
    const [, itsName, labels = '', value] = /^([\w:]+)(?:\{(.*)\})? (\S+)/.exec(line) ?? []
    if (itsName !== name) continue
    const pairs = [...labels.matchAll(/(\w+)="((?:[^"\\]|\\.)*)"/g)].map(([, key, label]) => [key, label])
    yield [Number(value), Object.fromEntries(pairs)]
  }
}
