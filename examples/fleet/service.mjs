// The positions of a fleet of drivers, from MQTT into ClickHouse; the tables are in tables.sql.
//
//   node service.mjs   or   bun service.mjs
//
// Settings come from the environment. Every line of output is a JSON object, as log collectors like it.

import { Pipeline, serveHttp } from 'millrace'

const {
  MQTT_URL = 'mqtt://localhost:1883',
  MQTT_VERSION = '5',
  MQTT_QOS = '1',
  CLICKHOUSE_URL = 'http://localhost:8123',
  CLICKHOUSE_DATABASE = 'fleet',
  HTTP_PORT,
} = process.env

const log = (event, fields) => console.log(JSON.stringify({ event, ...fields }))

const pipeline = new Pipeline({
  mqtt: {
    url: MQTT_URL,
    clientId: 'fleet-1',
    protocolVersion: MQTT_VERSION === '4' ? 4 : 5,
    qos: MQTT_QOS === '0' ? 0 : 1,
  },
  clickhouse: { url: CLICKHOUSE_URL, database: CLICKHOUSE_DATABASE },
  routes: [{ topic: 'drivers/{driver_id}/position', table: 'positions' }],
  batch: { maxRows: 5000, maxDelayMs: 1000 },
})

pipeline.on('metrics', (metrics) => log('metrics', metrics))
pipeline.on('warning', (warning) => log('warning', warning))
pipeline.on('deadLetters', (letters) => {
  for (const { topic, code, message } of letters) log('deadLetter', { topic, code, message })
})
pipeline.on('error', ({ code, message }) => {
  log('error', { code, message })
  process.exitCode = 1
})

for (const signal of ['SIGINT', 'SIGTERM']) {
  process.once(signal, async () => {
    log('stopped', await pipeline.stop())
    await http?.close()
  })
}

// The dashboard, the probes and the metrics, for this machine alone.
const http = HTTP_PORT ? await serveHttp(pipeline, { port: Number(HTTP_PORT) }) : undefined
await pipeline.start()
log('started', { dashboard: http?.url })
