// The service of bench:rates: the fleet's positions, by the build of millrace in the folder MILLRACE. OPTIONS has parts of its
// configuration as JSON.

import { createRequire } from 'node:module'
import { join } from 'node:path'

const { MILLRACE = '', MQTT_URL, MQTT_VERSION, MQTT_QOS, MQTT_CA, CLICKHOUSE_URL, CLICKHOUSE_DATABASE, SPOOL_DIR, OPTIONS = '{}' } = process.env
const { Pipeline } = createRequire(import.meta.url)(join(MILLRACE, 'index.js'))
const { mqtt, spool, ...others } = JSON.parse(OPTIONS)
const log = (event, fields) => console.log(JSON.stringify({ event, ...fields }))

const pipeline = new Pipeline({
  mqtt: {
    url: MQTT_URL,
    clientId: 'fleet-1',
    protocolVersion: MQTT_VERSION === '4' ? 4 : 5,
    qos: Number(MQTT_QOS),
    ...(MQTT_CA && { tls: { ca: MQTT_CA } }),
    ...mqtt,
  },
  clickhouse: { url: CLICKHOUSE_URL, database: CLICKHOUSE_DATABASE },
  routes: [{ topic: 'drivers/{driver_id}/position', table: 'positions' }],
  batch: { maxRows: 5000, maxDelayMs: 1000 },
  ...(SPOOL_DIR && { spool: { dir: SPOOL_DIR, ...spool } }),
  ...others,
})
pipeline.on('metrics', (metrics) => log('metrics', metrics))
pipeline.on('warning', (warning) => log('warning', warning))
pipeline.on('error', ({ code, message }) => log('error', { code, message }))
process.once('SIGTERM', async () => log('stopped', await pipeline.stop()))
await pipeline.start()
log('started', {})
