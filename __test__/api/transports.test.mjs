// A pipeline over each transport of MQTT. Bun runs these too; __test__/delivery/ tests the transports
// in depth.

import { test } from 'node:test'
import { externalBroker, startBroker } from '../../tools/servers/index.mjs'
import { asFiles, Authority } from '../support/certificates.mjs'
import { assertLedger } from '../support/ledger.mjs'
import { assertPositions, COLUMNS, position, route } from '../support/positions.mjs'
import { OPEN_BROKER, settled, unique, useServers } from '../support/servers.mjs'
import { startTransportProxy } from '../support/transport-proxy.mjs'

const servers = useServers()
const timeout = 60_000
const skip = externalBroker
const COUNT = 5_000

const authority = new Authority('the authority of the tests')
const { ca } = authority
const certificate = authority.issue({ hosts: ['localhost', '127.0.0.1'] })

/** Publishes, and finds each message as one row. `publisher` connects elsewhere where `mqtt.url` is behind a proxy. */
async function assertStream(t, mqtt, publisher = {}) {
  const table = await servers.table(COLUMNS)
  const prefix = unique('topic')
  const pipeline = await servers.started(t, { mqtt, routes: [route(prefix, table)] })
  const publishing = await servers.publisher(t, publisher)
  await publishing.flood(COUNT, (i) => position(prefix, i))
  await settled(pipeline, COUNT)
  await assertPositions(servers, table, COUNT)
  await pipeline.stop()
  assertLedger(pipeline.metrics())
}

test('mqtt:// over TCP', { timeout }, (t) => assertStream(t, { url: servers.broker.url }))

test('mqtts:// over TLS', { timeout, skip }, async (t) => {
  const files = asFiles(t, { ca, ...certificate })
  const config = [`cafile ${files.ca}`, `certfile ${files.cert}`, `keyfile ${files.key}`]
  const broker = await startBroker({ config: [...OPEN_BROKER, ...config] })
  t.after(() => broker.remove())
  const url = broker.url.replace('mqtt://', 'mqtts://')
  await assertStream(t, { url, tls: { ca } }, { url, ca })
})

test('ws:// over a WebSocket', { timeout, skip }, async (t) => {
  const proxy = await startTransportProxy(t, servers.broker.port, { webSocket: {} })
  await assertStream(t, { url: `ws://127.0.0.1:${proxy.port}/mqtt` })
})

test('wss:// over a WebSocket within TLS', { timeout, skip }, async (t) => {
  const proxy = await startTransportProxy(t, servers.broker.port, { tls: certificate, webSocket: {} })
  await assertStream(t, { url: `wss://127.0.0.1:${proxy.port}/mqtt`, tls: { ca } })
})
