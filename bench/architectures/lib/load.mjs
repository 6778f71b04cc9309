// The load, in a process of its own: autocannon with requests of different seeds, each answer of which is checked.
//
//   load.mjs '{ "url": …, "connections": 100, "duration": 10, "expected": [[seed, count], …], "accepts": false }'
//
// It reports when it begins, and ends with an event `done`, which has the figures.

import autocannon from 'autocannon'

const { url, connections, duration, expected, accepts } = JSON.parse(process.argv[2])

/** @type {Record<number, number>} answers by status */
const statuses = {}
/** @type {[id: string, seed: number][]} jobs that were accepted */
const accepted = []
let right = 0
let wrong = 0

const requests = expected.map(([seed, count]) => ({
  path: `/heavy?seed=${seed}`,
  onResponse(status, body) {
    statuses[status] = (statuses[status] ?? 0) + 1
    if (accepts && status === 202) accepted.push([JSON.parse(body).id, seed])
    if (accepts || status !== 200) return
    if (body === JSON.stringify({ seed, count })) right += 1
    else wrong += 1
  },
}))

console.log('{"event":"began"}')
const result = await autocannon({ url, connections, duration, requests })
const { errors, timeouts, latency, duration: seconds } = result
const { p50, p99, average, max } = latency
const line = { event: 'done', statuses, right, wrong, accepted, errors, timeouts, seconds, latencyMs: { p50, p99, average, max } }
console.log(JSON.stringify(line))
