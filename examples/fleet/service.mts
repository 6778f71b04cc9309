// The fleet with its business logic: positions from MQTT into ClickHouse, speed alerts, and a page on which the drivers move.
//
//   node service.mts   (Node.js 22.18 or newer)   or   bun service.mts
//
// The tables are in tables.sql and business.sql. Settings come from the environment. Every line of output is a JSON object.

import { createServer } from 'node:http'
import type { AddressInfo } from 'node:net'
import { createClient } from '@clickhouse/client'
import { Pipeline, serveHttp } from 'millrace'
import { WebSocketServer } from 'ws'
import { FleetLogic, positionsOf, type PositionsBatch } from './logic.mts'
import { PAGE } from './page.mts'

const {
  MQTT_URL = 'mqtt://localhost:1883',
  MQTT_VERSION = '5',
  MQTT_QOS = '1',
  CLICKHOUSE_URL = 'http://localhost:8123',
  CLICKHOUSE_DATABASE = 'fleet',
  HTTP_PORT = '0',
  PAGE_PORT = '0',
  MQTT_CLIENT_ID = 'fleet-1',
} = process.env

const DRIVERS_MS = 60_000
/** The page gets a sample of what is inserted so often. */
const PAGE_MS = 250
/** A browser that does not keep up is sent nothing more until it has. */
const MAX_BUFFERED_BYTES = 1 << 20

const log = (event: string, fields: object): void => console.log(JSON.stringify({ event, ...fields }))

const logic = new FleetLogic()
const clickhouse = createClient({ url: CLICKHOUSE_URL, database: CLICKHOUSE_DATABASE })

/** Reads who drives. While ClickHouse is away, what was read last still counts. */
async function readDrivers(): Promise<void> {
  try {
    const result = await clickhouse.query({ query: 'SELECT driver_id, team, speed_limit_kmh FROM drivers FINAL', format: 'JSONEachRow' })
    const rows = await result.json<{ driver_id: string; team: string; speed_limit_kmh: number }>()
    logic.drivers = new Map(rows.map(({ driver_id, team, speed_limit_kmh }) => [driver_id, { team, limitKmh: speed_limit_kmh }]))
  } catch (error) {
    log('warning', { code: 'DRIVERS_UNREAD', message: String(error) })
  }
}

const pipeline = new Pipeline({
  mqtt: {
    url: MQTT_URL,
    clientId: MQTT_CLIENT_ID,
    protocolVersion: MQTT_VERSION === '4' ? 4 : 5,
    qos: MQTT_QOS === '0' ? 0 : 1,
  },
  clickhouse: { url: CLICKHOUSE_URL, database: CLICKHOUSE_DATABASE },
  routes: [
    {
      topic: 'drivers/{driver_id}/position',
      table: 'positions',
      columns: { speed_kmh: { computed: true }, zone: { computed: true }, team: { computed: true } },
      emits: ['alerts'],
      transform: logic.transform,
    },
  ],
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

// The page with the positions, for this machine alone.
const server = createServer((_request, response) => response.setHeader('Content-Type', 'text/html; charset=utf-8').end(PAGE))
const sockets = new WebSocketServer({ server })
const show = (positions: string): void => {
  for (const socket of sockets.clients) if (socket.bufferedAmount < MAX_BUFFERED_BYTES) socket.send(positions)
}
pipeline.tap<PositionsBatch>(0, (batch) => show(JSON.stringify(positionsOf(batch))), { everyMs: PAGE_MS })

await readDrivers()
const reading = setInterval(readDrivers, DRIVERS_MS)
await new Promise<void>((resolve) => server.listen(Number(PAGE_PORT), '127.0.0.1', resolve))
// The dashboard, the probes and the metrics.
const http = await serveHttp(pipeline, { port: Number(HTTP_PORT) })

for (const signal of ['SIGINT', 'SIGTERM'] as const) {
  process.once(signal, async () => {
    log('stopped', await pipeline.stop())
    clearInterval(reading)
    for (const socket of sockets.clients) socket.terminate()
    server.close()
    await Promise.all([http.close(), clickhouse.close()])
  })
}

await pipeline.start()
log('started', { dashboard: http.url, page: `http://127.0.0.1:${(server.address() as AddressInfo).port}/` })
