// The service of bench:spool: the fleet's positions at QoS 1, with a spool where SPOOL_DIR says where.

import { Pipeline } from '../../index.js'

const { MQTT_URL, MQTT_VERSION, CLICKHOUSE_URL, CLICKHOUSE_DATABASE, SPOOL_DIR, METRICS_MS = '250' } = process.env
const log = (event, fields) => console.log(JSON.stringify({ event, ...fields }))

const pipeline = new Pipeline({
  mqtt: { url: MQTT_URL, clientId: 'fleet-1', protocolVersion: MQTT_VERSION === '4' ? 4 : 5 },
  clickhouse: { url: CLICKHOUSE_URL, database: CLICKHOUSE_DATABASE },
  routes: [{ topic: 'drivers/{driver_id}/position', table: 'positions' }],
  batch: { maxRows: 5000, maxDelayMs: 1000 },
  metricsIntervalMs: Number(METRICS_MS),
  ...(SPOOL_DIR && { spool: { dir: SPOOL_DIR, maxBytes: 64 * 2 ** 30 } }),
})
pipeline.on('metrics', (metrics) => log('metrics', metrics))
pipeline.on('warning', (warning) => log('warning', warning))
pipeline.on('error', ({ code, message }) => log('error', { code, message }))
process.once('SIGTERM', async () => log('stopped', await pipeline.stop({ timeoutMs: 120_000 })))

const began = performance.now()
const insertBegan = async () => {
  for (;;) {
    const { inFlight, succeeded } = pipeline.metrics().inserts
    if (inFlight + succeeded > 0) return performance.now()
    await new Promise((resolve) => setTimeout(resolve, 2))
  }
}
insertBegan().then((at) => log('inserting', { afterMs: at - began }))
await pipeline.start()
log('started', { afterMs: performance.now() - began })
