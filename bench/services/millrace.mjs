// The job of the benchmark with millrace, on Node.js and on Bun.

import { Pipeline } from '../../index.js'
import { serve } from './endpoint.mjs'
import { byColumns, byRows, ROUTE } from './fleet-logic.mjs'

const { MQTT_URL, MQTT_VERSION, MQTT_QOS, CLICKHOUSE_URL, CLICKHOUSE_DATABASE, BATCH_ROWS, SPOOL_DIR } = process.env
/** By the name in TRANSFORM: what `npm run bench:transform` compares. */
const TRANSFORMS = { columns: byColumns, rows: byRows }
const transform = TRANSFORMS[process.env.TRANSFORM ?? '']
/** Milliseconds between two samples of a live view. */
const TAP_MS = Number(process.env.TAP_MS ?? 0)
const { CLICKHOUSE_USER = 'default', CLICKHOUSE_PASSWORD = '' } = process.env

const log = (event, fields) => console.log(JSON.stringify({ event, ...fields }))

const pipeline = new Pipeline({
  mqtt: {
    url: MQTT_URL,
    clientId: 'fleet-1',
    protocolVersion: MQTT_VERSION === '4' ? 4 : 5,
    qos: MQTT_QOS === '0' ? 0 : 1,
  },
  clickhouse: {
    url: CLICKHOUSE_URL,
    username: CLICKHOUSE_USER,
    password: CLICKHOUSE_PASSWORD,
    database: CLICKHOUSE_DATABASE,
  },
  routes: [{ topic: 'drivers/{driver_id}/position', table: 'positions', ...(transform && { ...ROUTE, transform }) }],
  batch: { maxRows: Number(BATCH_ROWS), maxDelayMs: 1000 },
  ...(SPOOL_DIR && { spool: { dir: SPOOL_DIR } }),
})
pipeline.on('warning', ({ code, message }) => log('warning', { code, message }))
pipeline.on('error', ({ code, message }) => {
  log('error', { code, message })
  process.exitCode = 1
})

for (const signal of ['SIGINT', 'SIGTERM']) {
  process.once(signal, async () => {
    await pipeline.stop()
    process.exit()
  })
}

/** The last position of each driver in the samples, as a page would show them. */
const last = new Map()
if (TAP_MS > 0) {
  pipeline.tap(0, (batch) => {
    const { driver_id, lat, lng } = batch.columns
    for (let row = 0; row < batch.length; row++) last.set(driver_id.get(row), [lat.values[row], lng.values[row]])
  }, { everyMs: TAP_MS })
}

const port = await serve(metrics)
await pipeline.start()
log('started', { port })

/** The text of the engine, and resident memory. */
function metrics() {
  return `${pipeline.prometheus()}
# TYPE process_resident_memory_bytes gauge
process_resident_memory_bytes ${process.memoryUsage.rss()}
`
}
