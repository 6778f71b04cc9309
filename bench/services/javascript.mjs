// The job of the benchmark with mqtt.js and @clickhouse/client, on Node.js and on Bun, without millrace.

import { performance } from 'node:perf_hooks'
import { createClient } from '@clickhouse/client'
import mqtt from 'mqtt'
import { Counter, Gauge, Histogram, register } from 'prom-client'
import { serve } from './endpoint.mjs'
import { ofMessage } from './fleet-logic.mjs'

const { MQTT_URL, MQTT_VERSION, MQTT_QOS, CLICKHOUSE_URL, CLICKHOUSE_DATABASE, BATCH_ROWS, FLUSH_BUCKETS } = process.env
const { CLICKHOUSE_USER = 'default', CLICKHOUSE_PASSWORD = '' } = process.env
const MAX_ROWS = Number(BATCH_ROWS)
const MAX_DELAY_MS = 1000

const received = new Counter({ name: 'messages_received_total', help: 'Messages that came from the broker' })
const refused = new Counter({ name: 'messages_refused_total', help: 'Messages that are no JSON' })
const inserted = new Counter({ name: 'rows_inserted_total', help: 'Rows that ClickHouse has confirmed' })
const flushSeconds = new Histogram({
  name: 'flush_seconds',
  help: 'From a complete batch to its confirmation',
  buckets: FLUSH_BUCKETS.split(',').map(Number),
})
const memory = new Gauge({
  name: 'process_resident_memory_bytes',
  help: 'Resident memory',
  collect: () => memory.set(process.memoryUsage.rss()),
})

const clickhouse = createClient({
  url: CLICKHOUSE_URL,
  username: CLICKHOUSE_USER,
  password: CLICKHOUSE_PASSWORD,
  database: CLICKHOUSE_DATABASE,
})

/** With the logic of `npm run bench:transform`. */
const isTransforming = Boolean(process.env.TRANSFORM)

let alerts = []
let rows = []
let timer
const underWay = new Set()

function flush() {
  clearTimeout(timer)
  timer = undefined
  if (rows.length === 0) return
  const batch = rows
  rows = []
  const emitted = alerts
  alerts = []
  received.inc(batch.length)
  const inserting = insert(batch, emitted).finally(() => underWay.delete(inserting))
  underWay.add(inserting)
}

async function insert(batch, emitted) {
  const begun = performance.now()
  try {
    await clickhouse.insert({ table: 'positions', values: batch, format: 'JSONEachRow' })
    if (emitted.length > 0) await clickhouse.insert({ table: 'alerts', values: emitted, format: 'JSONEachRow' })
    inserted.inc(batch.length)
    flushSeconds.observe((performance.now() - begun) / 1000)
  } catch (error) {
    console.error(`${batch.length} rows are lost: ${error.message}`)
  }
}

const port = await serve(() => register.metrics())
const client = mqtt.connect(MQTT_URL, { clientId: 'fleet-1', protocolVersion: MQTT_VERSION === '4' ? 4 : 5 })
client.on('error', (error) => console.error(error.message))
client.on('message', (topic, payload) => {
  try {
    const row = JSON.parse(payload.toString())
    if (isTransforming && !ofMessage(row, (alert) => alerts.push(alert))) return
    rows.push(row)
  } catch {
    refused.inc()
    return
  }
  if (rows.length >= MAX_ROWS) flush()
  else timer ??= setTimeout(flush, MAX_DELAY_MS)
})
await client.subscribeAsync('drivers/+/position', { qos: MQTT_QOS === '0' ? 0 : 1 })
console.log(JSON.stringify({ event: 'started', port }))

for (const signal of ['SIGINT', 'SIGTERM']) {
  process.once(signal, async () => {
    await client.endAsync()
    flush()
    await Promise.all(underWay)
    process.exit()
  })
}
