// TLS to a real mosquitto, and to a real ClickHouse behind a proxy that ends TLS: which certificates are accepted, and the
// errors for the others.

import assert from 'node:assert/strict'
import { once } from 'node:events'
import { connect } from 'node:net'
import { createServer as createTlsServer } from 'node:tls'
import { test } from 'node:test'
import { writeFileSync } from 'node:fs'
import { Pipeline } from '../../index.js'
import { externalBroker, externalClickHouse, startBroker, waitFor } from '../../tools/servers/index.mjs'
import { asFiles, Authority } from '../support/certificates.mjs'
import { startTransportProxy } from '../support/transport-proxy.mjs'
import { assertLedger } from '../support/ledger.mjs'
import { assertPositions, COLUMNS, position, route } from '../support/positions.mjs'
import { startProgram } from '../support/program.mjs'
import { collect, OPEN_BROKER, settled, unique, useServers } from '../support/servers.mjs'

const servers = useServers()
const timeout = 60_000
const skip = externalBroker || externalClickHouse

const authority = new Authority('the authority of the tests')
const stranger = new Authority('somebody else')
const { ca } = authority
const here = authority.issue({ hosts: ['localhost', '127.0.0.1'] })
const client = authority.issue({ name: 'fleet' })

/** A mosquitto that speaks nothing but TLS, and its URL. */
async function startTlsBroker(t, certificate, config = []) {
  const files = asFiles(t, { ca, ...certificate })
  const lines = [`cafile ${files.ca}`, `certfile ${files.cert}`, `keyfile ${files.key}`, ...config]
  const broker = await startBroker({ config: [...OPEN_BROKER, ...lines] })
  t.after(() => broker.remove())
  return { broker, files, url: broker.url.replace('mqtt://', 'mqtts://') }
}

/** Rows arrive, each once, through whatever `mqtt` and `clickhouse` say. */
async function assertStream(t, { mqtt = {}, clickhouse = {}, publisher = {}, count = 5_000 }) {
  const table = await servers.table(COLUMNS)
  const prefix = unique('topic')
  const pipeline = servers.pipeline(t, { mqtt, clickhouse, routes: [route(prefix, table)] })
  const warnings = collect(pipeline, 'warning')
  await pipeline.start()
  const publishing = await servers.publisher(t, publisher)
  await publishing.flood(count, (i) => position(prefix, i))
  await settled(pipeline, count, { warnings })
  await assertPositions(servers, table, count)
  await pipeline.stop()
  assertLedger(pipeline.metrics())
  return warnings
}

/** The error of a `start()` that must fail. */
async function refused(t, code, config) {
  const table = await servers.table(COLUMNS)
  const pipeline = servers.pipeline(t, { routes: [route(unique('topic'), table)], ...config })
  try {
    await pipeline.start()
  } catch (error) {
    assert.equal(error.code, code, error.message)
    return error
  }
  assert.fail('it started')
}

for (const version of ['tlsv1.2', 'tlsv1.3']) {
  test(`mqtts:// with an authority of our own, ${version}`, { timeout, skip }, async (t) => {
    const { url } = await startTlsBroker(t, here, [`tls_version ${version}`])
    await assertStream(t, { mqtt: { url, tls: { ca } }, publisher: { url, ca } })
  })
}

test('packets larger than a record, and MQTT 3.1.1', { timeout, skip }, async (t) => {
  const { url } = await startTlsBroker(t, here)
  const table = await servers.table('seq UInt32, text String')
  const prefix = unique('topic')
  const pipeline = await servers.started(t, {
    mqtt: { url, tls: { ca }, protocolVersion: 4 },
    routes: [{ topic: prefix, table }],
  })
  const publisher = await servers.publisher(t, { url, ca })
  const length = (seq) => (seq * 7_919) % 200_000
  await publisher.flood(100, (seq) => ({
    topic: prefix,
    payload: JSON.stringify({ seq, text: String.fromCharCode(97 + (seq % 26)).repeat(length(seq)) }),
  }))
  await settled(pipeline, 100)
  assert.deepEqual(await servers.counted(table), { rows: 100, different: 100 })
  const other = await servers.rows(`SELECT seq FROM ${table}
    WHERE text != repeat(char(97 + seq % 26), (seq * 7919) % 200000)`)
  assert.deepEqual(other, [])
})

test('certificates as texts, Buffers and files', { timeout, skip }, async (t) => {
  const { url } = await startTlsBroker(t, here, ['require_certificate true'])
  const files = asFiles(t, { ca, ...client })
  const buffers = { ca: Buffer.from(ca), cert: Buffer.from(client.cert), key: Buffer.from(client.key) }
  // Other text may stand before what is PEM.
  const texts = { ca: `# the authority\n${ca}`, cert: `Bag Attributes\n${client.cert}`, key: `\n${client.key}` }
  for (const tls of [texts, buffers, files]) {
    await assertStream(t, { mqtt: { url, tls }, publisher: { url, ...texts }, count: 100 })
  }
})

test('authenticated clients, and the errors of others', { timeout, skip }, async (t) => {
  const { url } = await startTlsBroker(t, here)
  const config = (tls) => ({ mqtt: { url, tls } })
  const { message } = await refused(t, 'MQTT_UNREACHABLE', config({ ca: stranger.ca }))
  assert.match(message, /mqtts:\/\/127\.0\.0\.1:\d+ cannot be reached: its certificate was not issued by an authority/)
  // The system's authorities know nothing of a test.
  assert.match((await refused(t, 'MQTT_UNREACHABLE', { mqtt: { url } })).message, /was not issued by an authority/)

  const wrongName = await refused(t, 'MQTT_UNREACHABLE', config({ ca, serverName: 'broker.example' }))
  assert.match(wrongName.message, /its certificate is not valid for broker\.example, but for .*localhost/)

  const expired = await startTlsBroker(t, authority.issue({ hosts: ['127.0.0.1'], expired: true }))
  const late = await refused(t, 'MQTT_UNREACHABLE', { mqtt: { url: expired.url, tls: { ca } } })
  assert.match(late.message, /its certificate expired at \d{4}-\d\d-\d\dT/)

  const elsewhere = await startTlsBroker(t, authority.issue({ hosts: ['broker.example'] }))
  const other = await refused(t, 'MQTT_UNREACHABLE', { mqtt: { url: elsewhere.url, tls: { ca } } })
  assert.match(other.message, /its certificate is not valid for 127\.0\.0\.1, but for .*broker\.example/)
  await assertStream(t, {
    mqtt: { url: elsewhere.url, tls: { ca, serverName: 'broker.example' } },
    publisher: { url: elsewhere.url, ca, checkServerIdentity: () => undefined },
    count: 100,
  })

  const own = await startTlsBroker(t, authority.issue({ hosts: ['127.0.0.1'], isAuthority: true }))
  const exalted = await refused(t, 'MQTT_UNREACHABLE', { mqtt: { url: own.url, tls: { ca } } })
  assert.match(exalted.message, /its certificate is that of an authority \(CA:TRUE\)/)
  const nameless = await startTlsBroker(t, authority.issue())
  const anyone = await refused(t, 'MQTT_UNREACHABLE', { mqtt: { url: nameless.url, tls: { ca } } })
  assert.match(anyone.message, /is not valid for 127\.0\.0\.1: it names no host/)

  const plain = await refused(t, 'MQTT_UNREACHABLE', {
    mqtt: { url: servers.broker.url.replace('mqtt', 'mqtts'), tls: { ca } },
  })
  assert.match(plain.message, /during the TLS handshake/)
  const encrypted = await refused(t, 'MQTT_UNREACHABLE', { mqtt: { url: url.replace('mqtts', 'mqtt') } })
  assert.match(encrypted.message, /the connection was closed|reset/)
})

for (const version of ['tlsv1.2', 'tlsv1.3']) {
  test(`a client certificate that is required, ${version}`, { timeout, skip }, async (t) => {
    const { url } = await startTlsBroker(t, here, ['require_certificate true', `tls_version ${version}`])
    const missing = await refused(t, 'MQTT_UNREACHABLE', { mqtt: { url, tls: { ca } } })
    assert.match(missing.message, /it requires a client certificate/)
    const { cert, key } = stranger.issue()
    const unknown = await refused(t, 'MQTT_UNREACHABLE', { mqtt: { url, tls: { ca, cert, key } } })
    assert.match(unknown.message, /it does not know the authority that issued our client certificate/)
    const expired = authority.issue({ expired: true })
    const late = await refused(t, 'MQTT_UNREACHABLE', { mqtt: { url, tls: { ca, ...expired } } })
    assert.match(late.message, /our client certificate has expired/)
    await assertStream(t, { mqtt: { url, tls: { ca, ...client } }, publisher: { url, ca, ...client } })
  })
}

test('insecure takes any certificate, and says so', { timeout, skip }, async (t) => {
  const { url } = await startTlsBroker(t, stranger.issue({ hosts: ['elsewhere'], expired: true }))
  const warnings = await assertStream(t, {
    mqtt: { url, tls: { insecure: true } },
    publisher: { url, rejectUnauthorized: false },
  })
  assert.deepEqual(
    warnings.map(({ code }) => code).filter((code) => code === 'TLS_INSECURE'),
    ['TLS_INSECURE'],
  )
})

test("the system's authorities, where none is named", { timeout, skip }, async (t) => {
  const { url } = await startTlsBroker(t, here)
  const table = await servers.table(COLUMNS)
  const config = servers.config({ mqtt: { url }, routes: [route(unique('topic'), table)] })
  const files = asFiles(t, { ca, none: '' })
  for (const [file, said] of [
    [files.ca, ['started']],
    [files.none, ['CONFIG_INVALID']],
  ]) {
    const program = startProgram(t, 'fails-to-start.mjs', [config], { SSL_CERT_FILE: file, SSL_CERT_DIR: '' })
    assert.equal((await program.end()).code, 0)
    assert.deepEqual(program.lines, said)
  }
})

test('a certificate that expires is worth a warning, until it is renewed', { timeout, skip }, async (t) => {
  const { broker, files, url } = await startTlsBroker(t, here)
  const table = await servers.table(COLUMNS)
  const prefix = unique('topic')
  const pipeline = await servers.started(t, {
    mqtt: { url, tls: { ca }, reconnect: { minMs: 20, maxMs: 100 } },
    routes: [route(prefix, table)],
  })
  const warnings = collect(pipeline, 'warning')
  const renew = async (certificate) => {
    await broker.stop()
    writeFileSync(files.cert, certificate.cert)
    writeFileSync(files.key, certificate.key)
    await broker.start()
  }
  await renew(authority.issue({ hosts: ['127.0.0.1'], expired: true }))
  await waitFor(() => warnings.some(({ message }) => /its certificate expired at/.test(message)), {
    message: () => `the warning, among ${JSON.stringify(warnings)}`,
  })
  assert.equal(pipeline.state, 'running')
  await renew(authority.issue({ hosts: ['127.0.0.1'] }))
  await waitFor(() => pipeline.metrics().mqtt.connected === 1, { timeoutMs: 30_000, message: 'connected again' })
  const publisher = await servers.publisher(t, { url, ca })
  await publisher.flood(1_000, (i) => position(prefix, i))
  await settled(pipeline, 1_000)
  await assertPositions(servers, table, 1_000)
})

test('wss://', { timeout, skip }, async (t) => {
  const proxy = await startTransportProxy(t, servers.broker.port, { tls: here, webSocket: {} })
  const url = `wss://127.0.0.1:${proxy.port}/mqtt`
  await assertStream(t, { mqtt: { url, tls: { ca } } })
  const { message } = await refused(t, 'MQTT_UNREACHABLE', { mqtt: { url, tls: { ca: stranger.ca } } })
  assert.match(message, /wss:\/\/127\.0\.0\.1:\d+\/mqtt cannot be reached: its certificate was not issued by/)
})

test('https:// to ClickHouse', { timeout, skip }, async (t) => {
  const { cert, key } = here
  const proxy = await startTransportProxy(t, servers.clickhouse.port, { tls: { cert, key } })
  const url = `https://127.0.0.1:${proxy.port}`
  await assertStream(t, { clickhouse: { url, tls: { ca } } })
  const { message } = await refused(t, 'CLICKHOUSE_UNREACHABLE', { clickhouse: { url, tls: { ca: stranger.ca } } })
  assert.match(message, /https:\/\/127\.0\.0\.1:\d+ cannot be reached: its certificate was not issued by an authority/)
  const elsewhere = await refused(t, 'CLICKHOUSE_UNREACHABLE', {
    clickhouse: { url: url.replace('127.0.0.1', 'localhost'), tls: { ca: stranger.ca } },
  })
  assert.match(elsewhere.message, /its certificate was not issued by an authority/)
  const plain = await refused(t, 'CLICKHOUSE_UNREACHABLE', {
    clickhouse: { url: servers.clickhouse.url.replace('http', 'https'), tls: { ca } },
  })
  assert.match(plain.message, /what it sent is not TLS/)
})

test('a client certificate that ClickHouse requires', { timeout, skip }, async (t) => {
  const tls = { cert: here.cert, key: here.key, ca, requestCert: true, rejectUnauthorized: true }
  const proxy = await startTransportProxy(t, servers.clickhouse.port, { tls })
  const url = `https://127.0.0.1:${proxy.port}`
  const { message } = await refused(t, 'CLICKHOUSE_UNREACHABLE', { clickhouse: { url, tls: { ca } } })
  assert.match(message, /it requires a client certificate/)
  await assertStream(t, { clickhouse: { url, tls: { ca, ...client } } })
})

test('a wrong option is an error with its path', { timeout, skip }, async (t) => {
  const { cert, key } = client
  const files = asFiles(t, { ca, cert, key })
  const encrypted = '-----BEGIN ENCRYPTED PRIVATE KEY-----\nAAAA\n-----END ENCRYPTED PRIVATE KEY-----\n'
  /** @type {[string, RegExp, any, boolean?][]} what the constructor says, or else start() */
  const wrong = [
    ['ca', /must be a text in PEM, or the path/, { ca: Buffer.from([0x30, 0x82, 0x01, 0xff]) }, true],
    ['ca', /must be a text in PEM, or the path/, { ca: '' }, true],
    ['key', /is needed: the key of cert/, { cert }, true],
    ['cert', /is needed: the certificate of key/, { key }, true],
    ['ca', /absent\.pem cannot be read: /, { ca: `${files.ca}.absent.pem` }],
    ['ca', /holds no certificate/, { ca: files.key }],
    ['ca', /is not PEM|holds no certificate/, { ca: ca.slice(0, 200) }],
    ['cert', /holds no certificate/, { cert: key, key }],
    ['key', /holds no private key/, { cert, key: cert }],
    ['key', /is encrypted/, { cert, key: encrypted }],
    ['key', /is encrypted/, { cert, key: key.replace('\n', '\nProc-Type: 4,ENCRYPTED\n') }],
    ['key', /is not the key of cert/, { cert, key: here.key }],
  ]
  const table = await servers.table(COLUMNS)
  const routes = [route(unique('topic'), table)]
  for (const [option, said, tls, isEarly = false] of wrong) {
    for (const side of ['mqtt', 'clickhouse']) {
      const url = side === 'mqtt' ? 'mqtts://127.0.0.1:1' : 'https://127.0.0.1:1'
      const config = servers.config({ routes, [side]: { url, tls } })
      const error = await failure(async () => {
        const pipeline = new Pipeline(config)
        assert.equal(isEarly, false, `${option} was not refused`)
        await pipeline.start()
      })
      assert.equal(error.code, 'CONFIG_INVALID', error.message)
      assert.equal(error.path, `${side}.tls.${option}`)
      assert.match(error.message, said)
    }
  }
})

async function failure(action) {
  try {
    await action()
  } catch (error) {
    return error
  }
  assert.fail('it did not fail')
}

/**
 * Ends TLS before a server of this machine, requires a client certificate, and says who came: the name in the certificate, and the
 * protocol that was agreed on.
 */
async function startDoor(t, target, options = {}) {
  const door = { port: 0, visitors: [], sockets: new Set() }
  const server = createTlsServer({ ...here, ca, requestCert: true, rejectUnauthorized: true, ...options }, (client) => {
    door.visitors.push({ name: client.getPeerCertificate().subject?.CN, protocol: client.alpnProtocol })
    const upstream = connect(target, '127.0.0.1')
    for (const socket of [client, upstream]) {
      socket.on('error', () => {})
      door.sockets.add(socket)
    }
    client.pipe(upstream).pipe(client)
  })
  server.on('tlsClientError', () => {})
  server.listen(0, '127.0.0.1')
  await once(server, 'listening')
  t.after(() => {
    for (const socket of door.sockets) socket.destroy()
    server.close()
  })
  door.port = /** @type {import('node:net').AddressInfo} */ (server.address()).port
  return door
}

test('files of certificates are read again when a connection is made after they changed', { timeout, skip }, async (t) => {
  const doors = { mqtt: await startDoor(t, servers.broker.port), clickhouse: await startDoor(t, servers.clickhouse.port) }
  const files = asFiles(t, { ca, ...authority.issue({ name: 'first' }) })
  const table = await servers.table(COLUMNS)
  const prefix = unique('topic')
  const pipeline = await servers.started(t, {
    mqtt: { url: `mqtts://127.0.0.1:${doors.mqtt.port}`, tls: files, reconnect: { minMs: 20, maxMs: 100 } },
    clickhouse: { url: `https://127.0.0.1:${doors.clickhouse.port}`, tls: files, retry: { minMs: 20, maxMs: 100 } },
    routes: [route(prefix, table)],
  })
  const warnings = collect(pipeline, 'warning')
  const publisher = await servers.publisher(t)
  const names = (door) => new Set(door.visitors.map(({ name }) => name))
  for (const door of Object.values(doors)) assert.deepEqual(names(door), new Set(['first']))

  // A wrong file is reported, and read again.
  writeFileSync(files.cert, 'nothing')
  for (const socket of doors.mqtt.sockets) socket.destroy()
  const isSaid = () => warnings.some(({ reason }) => /mqtt\.tls\.cert: holds no certificate in PEM/.test(reason))
  await waitFor(isSaid, { message: () => JSON.stringify(warnings.at(-1)) })
  const next = authority.issue({ name: 'second' })
  writeFileSync(files.key, next.key)
  writeFileSync(files.cert, next.cert)
  await waitFor(() => names(doors.mqtt).has('second'), { message: () => JSON.stringify(warnings.at(-1)) })
  await waitFor(() => pipeline.metrics().mqtt.connected === 1, { message: () => 'the connection' })
  for (const socket of doors.clickhouse.sockets) socket.destroy()
  await publisher.flood(100, (i) => position(prefix, i))
  await settled(pipeline, 100, { warnings })
  await assertPositions(servers, table, 100)
  assert.deepEqual(names(doors.clickhouse), new Set(['first', 'second']))
})

test('protocols within TLS are offered, and one that no server speaks is said', { timeout, skip }, async (t) => {
  const door = await startDoor(t, servers.broker.port, { ALPNProtocols: ['x-amzn-mqtt-ca'] })
  const tls = { ca, ...client }
  const url = `mqtts://127.0.0.1:${door.port}`
  await assertStream(t, { mqtt: { url, tls: { ...tls, alpn: ['mqtt', 'x-amzn-mqtt-ca'] } }, count: 100 })
  assert.deepEqual(door.visitors.at(-1), { name: 'fleet', protocol: 'x-amzn-mqtt-ca' })
  const other = await refused(t, 'MQTT_UNREACHABLE', { mqtt: { url, tls: { ...tls, alpn: ['mqtt'] } } })
  assert.match(other.message, /it speaks none of the protocols in tls\.alpn/)
})
