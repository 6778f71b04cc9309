// Errors of wrong configurations: those of the constructor, which opens nothing, and those of start().

import assert from 'node:assert/strict'
import { once } from 'node:events'
import { createServer } from 'node:net'
import { createRequire } from 'node:module'
import { test } from 'node:test'
import { fileURLToPath } from 'node:url'
import * as millrace from '../../index.js'
import { externalBroker, freePort, startBroker, waitFor } from '../../tools/servers/index.mjs'
import { startProgram } from '../support/program.mjs'
import { startScriptedBroker } from '../support/scripted-broker.mjs'
import { endPipeline, settled, unique, useServers } from '../support/servers.mjs'

const { MillraceError, Pipeline } = millrace
const servers = useServers()
const timeout = 30_000

const mqtt = { url: 'mqtt://localhost:1883' }
const clickhouse = { url: 'http://localhost:8123' }
const routes = [{ topic: 'drivers/{driver_id}/position', table: 'positions' }]
const minimal = { mqtt, clickhouse, routes }

/** A configuration that is right but for what is given. */
const but = (rest) => ({ ...minimal, ...rest })
const mqttBut = (rest) => but({ mqtt: { ...mqtt, ...rest } })
const clickhouseBut = (rest) => but({ clickhouse: { ...clickhouse, ...rest } })
const routeBut = (rest) => but({ routes: [{ ...routes[0], ...rest }] })
const columnsBut = (columns) => routeBut({ columns })

/** @type {Record<string, any[]>} by the path that the error names */
const WRONG = {
  mqtt: [{ clickhouse, routes }, but({ mqtt: null }), but({ mqtt: 'mqtt://localhost' }), but({ mqtt: [] })],
  'mqtt.url': [
    but({ mqtt: {} }),
    ...[
      undefined,
      null,
      1883,
      '',
      'localhost',
      'localhost:1883',
      'http://localhost',
      'tcp://localhost',
      'mqtt://',
      [],
      {},
    ].map((url) => mqttBut({ url })),
    ...['mqtt://localhost:0', 'mqtt://localhost:65536', 'mqtt://localhost:x', 'mqtt://localhost/path', 'ws://a/#b'].map((url) =>
      mqttBut({ url }),
    ),
    mqttBut({ url: 'mqtt://user:password@localhost' }),
  ],
  'mqtt.url[1]': [mqttBut({ url: ['mqtt://localhost', 'nonsense'] }), mqttBut({ url: ['mqtt://localhost', 7] })],
  'mqtt.clientId': [mqttBut({ clientId: '' }), mqttBut({ clientId: 5 }), mqttBut({ clientId: 'a\0b' })],
  'mqtt.username': [mqttBut({ username: 5 })],
  'mqtt.password': [mqttBut({ username: 'u', password: 5 }), mqttBut({ password: 'without a user name' })],
  'mqtt.protocolVersion': [3, 6, 4.5, '5', null, true].map((protocolVersion) => mqttBut({ protocolVersion })),
  'mqtt.qos': [-1, 3, 0.5, '1', NaN].map((qos) => mqttBut({ qos })),
  'mqtt.sharedGroup': ['', 'a/b', 'a+', '#', 3].map((sharedGroup) => mqttBut({ sharedGroup })),
  'mqtt.connections': [0, -1, 1.5, '2', 2].map((connections) => mqttBut({ connections })),
  'mqtt.sessionExpirySeconds': [
    ...[-1, 1.5, 2 ** 32, '60'].map((sessionExpirySeconds) => mqttBut({ clientId: 'c', sessionExpirySeconds })),
    mqttBut({ sessionExpirySeconds: 60 }),
  ],
  'mqtt.keepAliveSeconds': [0, -1, 1.5, 65_536, Infinity, '30'].map((keepAliveSeconds) =>
    mqttBut({ keepAliveSeconds }),
  ),
  'mqtt.receiveMaximum': [0, 65_536, -5, 1.5].map((receiveMaximum) => mqttBut({ receiveMaximum })),
  'mqtt.maxPacketBytes': [
    ...[0, 10, -1, 2 ** 28, 1e6 + 0.5].map((maxPacketBytes) => mqttBut({ maxPacketBytes })),
    mqttBut({ maxPacketBytes: 2 ** 25 + 1 }),
    // 1 MiB, the default, is too much for it.
    but({ memory: { maxBytes: 2 ** 20 } }),
  ],
  'mqtt.coalesceMs': [-1, 0.5, 1_001, NaN, '1', 'often', null].map((coalesceMs) => mqttBut({ coalesceMs })),
  'mqtt.ackAfter': ['never', 'spool', 1, ''].map((ackAfter) => mqttBut({ ackAfter })),
  spool: [but({ spool: 'dir' }), but({ spool: [] })],
  'spool.dir': [{}, { dir: '' }, { dir: 3 }, { dir: 'a\0b' }].map((spool) => but({ spool })),
  'spool.maxBytes': [0, 1_000_000, 1.5, '4 GiB'].map((maxBytes) => but({ spool: { dir: 'd', maxBytes } })),
  'spool.commitMs': [0, 1_001, -1, 0.5, 'seldom', null].map((commitMs) => but({ spool: { dir: 'd', commitMs } })),
  'spool.segmentBytes': [0, 2 ** 31, 2 ** 21].map((segmentBytes) =>
    but({ spool: { dir: 'd', maxBytes: 2 ** 20, segmentBytes } }),
  ),
  'spool.path': [but({ spool: { dir: 'd', path: 'd' } })],
  'mqtt.retained': ['drop', true].map((retained) => mqttBut({ retained })),
  'mqtt.topicRewrite': ['emqx', true].map((topicRewrite) => mqttBut({ topicRewrite })),
  'mqtt.reconnect': [mqttBut({ reconnect: 100 })],
  'mqtt.reconnect.minMs': [mqttBut({ reconnect: { minMs: -1 } }), mqttBut({ reconnect: { minMs: 0.5 } })],
  'mqtt.reconnect.maxMs': [mqttBut({ reconnect: { maxMs: '1' } }), mqttBut({ reconnect: { minMs: 100, maxMs: 99 } })],
  'mqtt.reconnect.max': [mqttBut({ reconnect: { max: 5 } })],
  'mqtt.tls': [mqttBut({ tls: {} }), mqttBut({ url: ['mqtt://one', 'ws://two'], tls: { insecure: true } })],
  'mqtt.tls.insecure': ['yes', 1, null].map((insecure) => mqttBut({ url: 'wss://one', tls: { insecure } })),
  'mqtt.tls.serverName': ['', 'a b', 5].map((serverName) => mqttBut({ url: 'mqtts://one', tls: { serverName } })),
  'mqtt.ulr': [mqttBut({ ulr: 'mqtt://localhost' })],
  clickhouse: [{ mqtt, routes }, but({ clickhouse: 'http://localhost' })],
  'clickhouse.tls': [clickhouseBut({ tls: {} })],
  'clickhouse.tls.insecure': [clickhouseBut({ url: 'https://one', tls: { insecure: true } })],
  'clickhouse.url': [
    but({ clickhouse: {} }),
    ...[null, 8123, '', 'localhost:8123', 'mqtt://localhost', 'http://', []].map((url) => clickhouseBut({ url })),
    clickhouseBut({ url: 'http://user:password@localhost' }),
    clickhouseBut({ url: 'http://localhost:8123?database=x' }),
    ...['http://:8123', 'http://localhost:', 'http://localhost:0', 'http://localhost:99999'].map((url) => clickhouseBut({ url })),
  ],
  'clickhouse.url[0]': [clickhouseBut({ url: ['localhost'] })],
  'clickhouse.database': [clickhouseBut({ database: 5 })],
  'clickhouse.username': [clickhouseBut({ username: 5 })],
  'clickhouse.password': [clickhouseBut({ password: 5 })],
  'clickhouse.compression': ['gzip', true, null].map((compression) => clickhouseBut({ compression })),
  'clickhouse.settings': [clickhouseBut({ settings: 'async_insert=1' })],
  'clickhouse.settings.max_threads': [null, [1], {}].map((max_threads) => clickhouseBut({ settings: { max_threads } })),
  'clickhouse.settings.async_insert': [clickhouseBut({ settings: { async_insert: 1 } })],
  'clickhouse.settings.insert_deduplication_token': [clickhouseBut({ settings: { insert_deduplication_token: 'x' } })],
  'clickhouse.maxInFlight': [0, -1, 1.5].map((maxInFlight) => clickhouseBut({ maxInFlight })),
  'clickhouse.connectTimeoutMs': [0, -1, 1.5, '5s'].map((connectTimeoutMs) => clickhouseBut({ connectTimeoutMs })),
  'clickhouse.requestTimeoutMs': [0, -1, Infinity].map((requestTimeoutMs) => clickhouseBut({ requestTimeoutMs })),
  'clickhouse.retry.maxMs': [clickhouseBut({ retry: { minMs: 10, maxMs: 1 } })],
  'clickhouse.retry.maxAgeMs': [0, -1, 1.5, '1d', Infinity].map((maxAgeMs) => clickhouseBut({ retry: { maxAgeMs } })),
  'clickhouse.retry.retries': [clickhouseBut({ retry: { retries: 3 } })],
  'clickhouse.user': [clickhouseBut({ user: 'default' })],
  routes: [{ mqtt, clickhouse }, but({ routes: [] }), but({ routes: {} }), but({ routes: null })],
  'routes[0]': [but({ routes: [null] }), but({ routes: ['drivers/#'] })],
  'routes[0].topic': [
    but({ routes: [{ table: 't' }] }),
    ...[
      '',
      5,
      'a/#/b',
      'a+/b',
      'a/b#',
      'a/{',
      'a/{x',
      'a/x}',
      'a/{}',
      'a/{x}{y}',
      'a{x}',
      'a/{x}/{x}',
      'a/{x#}/{y#}',
      '$share/g/a',
    ].map((topic) => routeBut({ topic })),
    routeBut({ topic: 'x'.repeat(65_536) }),
  ],
  'routes[0].table': [but({ routes: [{ topic: 'a' }] }), routeBut({ table: '' }), routeBut({ table: 5 })],
  'routes[1].table': [but({ routes: [routes[0], { topic: 'a' }] })],
  'routes[0].tabel': [routeBut({ tabel: 'positions' })],
  'routes[0].unknownFields': [routeBut({ unknownFields: 'drop' }), routeBut({ unknownFields: true })],
  'routes[0].missingFields': [routeBut({ missingFields: 'null' })],
  'routes[0].rows': [routeBut({ rows: 5 })],
  'routes[0].columns': [routeBut({ columns: [] }), routeBut({ columns: 'lat' })],
  'routes[0].columns.lat': [
    ...['', '.', 'a.', '.a', 'a..b', 'a[', 'a[x]', 'a[*]', 'a[1.5]', "['a", 'a]'].map((lat) => columnsBut({ lat })),
    ...[null, 5, true, []].map((lat) => columnsBut({ lat })),
    columnsBut({ lat: {} }),
  ],
  'routes[0].columns.lat.path': [columnsBut({ lat: { path: '' } }), columnsBut({ lat: { path: 5 } })],
  'routes[0].columns.lat.unit': [columnsBut({ lat: { path: 'lat', unit: 'minutes' } })],
  'routes[0].columns.lat.topic': [columnsBut({ lat: { topic: 'nobody' } }), columnsBut({ lat: { topic: 5 } })],
  'routes[0].columns.lat.meta': [columnsBut({ lat: { meta: 'everything' } }), columnsBut({ lat: { meta: 5 } })],
  'routes[0].columns.lat.userProperty': [columnsBut({ lat: { userProperty: 5 } })],
  'routes[0].columns.lat.defualt': [columnsBut({ lat: { path: 'lat', defualt: 0 } })],
  'routes[0].columns.lat.value': [columnsBut({ lat: { path: 'lat', value: 0 } })],
  'routes[0].continue': ['yes', 1, null].map((value) => routeBut({ continue: value })),
  'routes[0].where': [true, 'speed > 5', [], {}, { eq: 5 }, { path: 'a' }, { topic: 'driver_id' }].map((where) => routeBut({ where })),
  'routes[0].where.path': ['', 'a..b', 'a[*]', [], 5].map((path) => routeBut({ where: { path, eq: 1 } })),
  'routes[0].where.topic': ['nobody', 5].map((topic) => routeBut({ where: { topic, eq: 1 } })),
  'routes[0].where.eq': [null, [1], {}, NaN].map((eq) => routeBut({ where: { path: 'a', eq } })),
  'routes[0].where.lt': [true, null, []].map((lt) => routeBut({ where: { path: 'a', lt } })),
  'routes[0].where.in': [[], 'a', 1].map((value) => routeBut({ where: { path: 'a', in: value } })),
  'routes[0].where.in[1]': [[1, null], ['a', {}]].map((value) => routeBut({ where: { path: 'a', in: value } })),
  'routes[0].where.exists': [1, 'yes', null].map((exists) => routeBut({ where: { path: 'a', exists } })),
  'routes[0].where.equals': [routeBut({ where: { path: 'a', eq: 1, equals: 1 } })],
  'routes[0].where.and': [[], {}, null].map((and) => routeBut({ where: { and } })),
  'routes[0].where.or[1].not.gt': [routeBut({ where: { or: [{ path: 'a', eq: 1 }, { not: { path: 'a', gt: true } }] } })],
  tables: [[], 'audit', 5, null].map((tables) => but({ tables })),
  'tables[1]': [['a', ''], ['a', 5], ['a', 'a']].map((tables) => but({ tables })),
  batch: [but({ batch: 5000 })],
  'batch.maxRows': [0, -1, 1.5, NaN, Infinity, '5000', null, 2 ** 53].map((maxRows) => but({ batch: { maxRows } })),
  'batch.maxBytes': [
    ...[0, -1, 0.5, '8MiB'].map((maxBytes) => but({ batch: { maxBytes } })),
    but({ batch: { maxBytes: 2 ** 25 + 1 } }),
    but({ batch: { maxBytes: 2 ** 20 + 1 }, memory: { maxBytes: 2 ** 23 } }),
  ],
  'batch.maxDelayMs': [0, -1, 0.5, NaN].map((maxDelayMs) => but({ batch: { maxDelayMs } })),
  'batch.maxRow': [but({ batch: { maxRow: 5000 } })],
  'deadLetters.table': [but({ deadLetters: { table: 5 } })],
  'deadLetters.dir': [but({ deadLetters: { dir: 5 } }), but({ deadLetters: { dir: '/tmp', table: 't' } })],
  'memory.maxBytes': [0, -1, 1.5, NaN, '1GiB'].map((maxBytes) => but({ memory: { maxBytes } })),
  'memory.max': [but({ memory: { max: 1 } })],
  metricsIntervalMs: [-1, 0.5, NaN, '1s'].map((metricsIntervalMs) => but({ metricsIntervalMs })),
  name: [but({ name: '' }), but({ name: 5 }), but({ name: 'with "quotes"' })],
  mqqt: [but({ mqqt: {} })],
}

test('an option beyond memory.maxBytes is refused with both options and the value to set', () => {
  const message = (config) => {
    try {
      return new Pipeline(config) && 'taken'
    } catch (error) {
      return error.message
    }
  }
  assert.equal(
    message(but({ memory: { maxBytes: 2 ** 20 } })),
    'mqtt.maxPacketBytes: 1048576 bytes are too many for memory.maxBytes, 1048576: set memory.maxBytes to 8388608 or more, or ' +
      'mqtt.maxPacketBytes to 131072 or less',
  )
  assert.equal(
    message(but({ batch: { maxBytes: 2 ** 27 } })),
    'batch.maxBytes: 134217728 bytes are too many for memory.maxBytes, 268435456: set memory.maxBytes to 1073741824 or more, or ' +
      'batch.maxBytes to 33554432 or less',
  )
  assert.equal(message(but({ mqtt: { ...minimal.mqtt, maxPacketBytes: 2 ** 17 }, memory: { maxBytes: 2 ** 20 } })), 'taken')
  assert.equal(message(but({ batch: { maxBytes: 2 ** 27 }, memory: { maxBytes: 2 ** 30 } })), 'taken')
})

for (const [path, configs] of Object.entries(WRONG)) {
  test(`the constructor refuses a wrong ${path}`, () => {
    for (const config of configs) {
      assert.throws(
        () => new Pipeline(config),
        (error) => {
          assert.ok(error instanceof MillraceError && error instanceof Error, String(error))
          assert.equal(error.name, 'MillraceError')
          assert.equal(error.code, 'CONFIG_INVALID')
          assert.equal(error.path, path, `${error.message} for ${JSON.stringify(config)}`)
          assert.ok(error.message.length > 0)
          return true
        },
        JSON.stringify(config),
      )
    }
  })
}

test('the constructor refuses a value that is not a configuration', () => {
  /** @type {any[]} */
  const nothing = [undefined, null, 5, 'mqtt://localhost', [], () => {}]
  for (const config of nothing) {
    assert.throws(() => new Pipeline(config), { name: 'MillraceError', code: 'CONFIG_INVALID' })
  }
})

test('an option with a misspelt name is refused with the right name', () => {
  assert.throws(() => new Pipeline(but({ batch: { maxRow: 1 } })), /maxRows/)
  assert.throws(() => new Pipeline(mqttBut({ clientID: 'x' })), /clientId/)
})

test('right configurations open nothing by themselves', () => {
  /** @type {any[]} */
  const right = [
    minimal,
    but({ batch: undefined, spool: undefined, memory: {}, deadLetters: {}, metricsIntervalMs: 0 }),
    but({ spool: { dir: 'd' } }),
    but({ spool: { dir: 'd', commitMs: 'auto' }, mqtt: { ...minimal.mqtt, coalesceMs: 'auto' } }),
    but({ spool: { dir: 'd', maxBytes: 2 ** 20, commitMs: 1, segmentBytes: 2 ** 16 }, mqtt: { ...minimal.mqtt, ackAfter: 'spool' } }),
    mqttBut({ url: ['mqtt://localhost', 'mqtt://[::1]:1884', 'mqtt://127.0.0.1/'], clientId: undefined }),
    mqttBut({ qos: 0, protocolVersion: 4, keepAliveSeconds: 1, coalesceMs: 0, receiveMaximum: 1, retained: 'skip' }),
    mqttBut({ clientId: 'c', sessionExpirySeconds: 0, username: 'u', password: '', reconnect: { minMs: 1, maxMs: 1 } }),
    clickhouseBut({
      url: ['http://localhost:8123/', 'http://[::1]:8123'],
      settings: { max_threads: 1, a: 'b', c: true },
    }),
    clickhouseBut({ compression: 'none', maxInFlight: 1, retry: { minMs: 1 }, password: '' }),
    routeBut({
      topic: '{a}/+/{b#}',
      table: 'db.t',
      columns: { lat: { path: "['a.b'][0].c", default: [1], unit: 'ms' } },
    }),
    columnsBut({
      lat: { topic: 'driver_id' },
      lng: { meta: 'qos' },
      'odd name': { value: null },
      x: { userProperty: 'p' },
    }),
    routeBut({
      continue: true,
      where: {
        or: [
          { path: ['speed', '*.v', 'a[-1]'], exists: true, ge: 0, lt: 300, ne: 'x' },
          { not: { and: [{ topic: 'driver_id', in: ['a', 5, true] }, { path: '$.test', eq: true }] } },
        ],
      },
    }),
    but({ tables: ['audit', 'db.log', 'positions'] }),
    but({ batch: { maxRows: 1, maxBytes: 1, maxDelayMs: 1 }, deadLetters: { table: 'db.dead' } }),
  ]
  for (const config of right) assert.equal(new Pipeline(config).state, 'idle')
})

test('the configuration is read once: later changes have no effect', { timeout }, async (t) => {
  const table = await servers.table('seq UInt32')
  const config = servers.config({ routes: [{ topic: unique('topic'), table }] })
  const pipeline = new Pipeline(config)
  t.after(() => endPipeline(pipeline))
  const topic = config.routes[0].topic
  config.routes[0].topic = 'elsewhere'
  config.mqtt.url = 'mqtt://127.0.0.1:1'
  await pipeline.start()
  const publisher = await servers.publisher(t, { clients: 1 })
  await publisher.publish(topic, { seq: 1 })
  await settled(pipeline, 1)
})

test('both kinds of module', () => {
  const required = createRequire(import.meta.url)('../../index.js')
  assert.equal(required.Pipeline, Pipeline)
  assert.equal(required.MillraceError, MillraceError)
  assert.equal(millrace.default.Pipeline, Pipeline)
})

/** A server on a port that is neither broker nor ClickHouse, until the test ends. */
async function startStranger(t, serve) {
  const sockets = new Set()
  const server = createServer((socket) => {
    sockets.add(socket)
    socket.on('error', () => {})
    serve(socket)
  })
  server.listen(0, '127.0.0.1')
  await once(server, 'listening')
  t.after(() => {
    for (const socket of sockets) socket.destroy()
    server.close()
  })
  return /** @type {import('node:net').AddressInfo} */ (server.address()).port
}

/** start() is rejected with `code`, perhaps at `path`, and the pipeline is as it was before. */
async function refused(t, config, { code, path = undefined, message = /./ }) {
  const pipeline = servers.pipeline(t, config)
  const states = []
  pipeline.on('state', (state) => states.push(state))
  await assert.rejects(pipeline.start(), (error) => {
    assert.ok(error instanceof MillraceError, String(error))
    assert.equal(error.code, code, error.message)
    assert.equal(error.path, path, error.message)
    assert.match(error.message, message)
    if (code === 'CLICKHOUSE_REJECTED') {
      assert.ok(error.cause instanceof Error)
      assert.match(error.cause.message, new RegExp(`^Code: ${/** @type {any} */ (error.cause).code}\\. `))
    }
    return true
  })
  assert.equal(pipeline.state, 'idle')
  await waitFor(() => states.length >= 2, { message: () => `states: ${states}` })
  assert.deepEqual(states, ['starting', 'idle'])
}

test('TABLE_NOT_FOUND', { timeout }, async (t) => {
  const table = await servers.table('seq UInt32')
  const there = { topic: 'a', table }
  await refused(
    t,
    { routes: [{ topic: 'a', table: 'nowhere' }] },
    { code: 'TABLE_NOT_FOUND', path: 'routes[0].table', message: /nowhere/ },
  )
  await refused(
    t,
    { routes: [there, { topic: 'b', table: `nobody.${table}` }] },
    { code: 'TABLE_NOT_FOUND', path: 'routes[1].table' },
  )
  await refused(
    t,
    { routes: [{ topic: 'a', table: "it's \\ `odd`" }] },
    { code: 'TABLE_NOT_FOUND', path: 'routes[0].table' },
  )
})

test('COLUMN_NOT_FOUND', { timeout }, async (t) => {
  const table = await servers.table('seq UInt32, made UInt32 MATERIALIZED seq, other UInt32 ALIAS seq')
  const columns = { seq: 'a.b', latitude: 'lat' }
  const path = 'routes[0].columns.latitude'
  await refused(
    t,
    { routes: [{ topic: 'a', table, columns }] },
    { code: 'COLUMN_NOT_FOUND', path, message: /latitude/ },
  )
  for (const own of ['made', 'other']) {
    const route = { topic: 'a', table, columns: { [own]: 'x' } }
    await refused(t, { routes: [route] }, { code: 'COLUMN_NOT_FOUND', path: `routes[0].columns.${own}` })
  }
})

test('COLUMN_UNSUPPORTED', { timeout }, async (t) => {
  for (const type of ['Array(AggregateFunction(max, UInt8))', 'Variant(LowCardinality(String), UInt8)']) {
    const table = await servers.table(`seq UInt32, odd ${type}`)
    const expected = { code: 'COLUMN_UNSUPPORTED', path: 'routes[0].columns.odd', message: /odd/ }
    await refused(t, { routes: [{ topic: 'a', table }] }, expected)
  }
})

test('a directory for dead letters that cannot be made', { timeout }, async (t) => {
  const table = await servers.table('seq UInt32')
  const deadLetters = { dir: fileURLToPath(import.meta.url) }
  await refused(
    t,
    { routes: [{ topic: 'a', table }], deadLetters },
    { code: 'CONFIG_INVALID', path: 'deadLetters.dir' },
  )
})

test('a table for dead letters that has other columns', { timeout }, async (t) => {
  const [table, other] = [await servers.table('seq UInt32'), await servers.table('payload String')]
  await refused(
    t,
    { routes: [{ topic: 'a', table }], deadLetters: { table: other } },
    { code: 'COLUMN_NOT_FOUND', path: 'deadLetters.table' },
  )
})

test('values of the configuration that do not fit their columns', { timeout }, async (t) => {
  const table = await servers.table('seq UInt32, small UInt8, text String, at DateTime')
  for (const [columns, path] of [
    [{ small: { value: 256 } }, 'routes[0].columns.small.value'],
    [{ small: { value: 'x' } }, 'routes[0].columns.small.value'],
    [{ small: { value: null } }, 'routes[0].columns.small.value'],
    [{ small: { path: 'x', default: -1 } }, 'routes[0].columns.small.default'],
    [{ at: { path: 'x', default: 'soon' } }, 'routes[0].columns.at.default'],
    [{ small: { meta: 'payload' } }, 'routes[0].columns.small'],
    [{ at: { meta: 'topic' } }, 'routes[0].columns.at'],
  ]) {
    await refused(t, { routes: [{ topic: 'a', table, columns }] }, { code: 'CONFIG_INVALID', path })
  }
})

test('a route that can never match', { timeout }, async (t) => {
  const table = await servers.table('seq UInt32')
  for (const [first, second] of [
    ['#', 'a/b'],
    ['a/{x}', 'a/b'],
    ['a/{x}', 'a/{y}'],
    ['a/{rest#}', 'a/+/c'],
    ['a/#', 'a'],
  ]) {
    const routes = [first, second].map((topic) => ({ topic, table }))
    await refused(t, { routes }, { code: 'CONFIG_INVALID', path: 'routes[1].topic' })
  }
})

test('MQTT_UNREACHABLE', { timeout }, async (t) => {
  const table = await servers.table('seq UInt32')
  const routes = [{ topic: 'a', table }]
  const url = `mqtt://127.0.0.1:${await freePort()}`
  await refused(t, { mqtt: { url }, routes }, { code: 'MQTT_UNREACHABLE', message: new RegExp(url) })
  await refused(t, { mqtt: { url: 'mqtt://no.such.host.invalid' }, routes }, { code: 'MQTT_UNREACHABLE' })

  // A server that accepts connections and hangs up, and one that speaks another protocol.
  for (const answer of ['', 'HTTP/1.1 400 Bad Request\r\n\r\n']) {
    const port = await startStranger(t, (socket) => socket.end(answer))
    await refused(t, { mqtt: { url: `mqtt://127.0.0.1:${port}` }, routes }, { code: 'MQTT_UNREACHABLE' })
  }
})

test('MQTT_REFUSED', { timeout, skip: externalBroker }, async (t) => {
  const table = await servers.table('seq UInt32')
  const routes = [{ topic: 'a', table }]
  const broker = await startBroker({ allowAnonymous: false, users: { miller: 'grist' } })
  t.after(() => broker.remove())
  for (const protocolVersion of [4, 5]) {
    const mqtt = { url: broker.url, protocolVersion }
    await refused(t, { mqtt, routes }, { code: 'MQTT_REFUSED', message: /authori/i })
    await refused(
      t,
      { mqtt: { ...mqtt, username: 'miller', password: 'chaff' }, routes },
      { code: 'MQTT_REFUSED', message: /authori/i },
    )
  }
})

test('SUBSCRIPTION_REFUSED', { timeout }, async (t) => {
  const table = await servers.table('seq UInt32')
  const broker = await startScriptedBroker(t, { subscribe: 0x80 })
  const mqtt = { url: broker.url, protocolVersion: 4 }
  await refused(t, { mqtt, routes: [{ topic: 'a/{b}', table }] }, { code: 'SUBSCRIPTION_REFUSED', message: /a\/\+/ })
})

test('CLICKHOUSE_UNREACHABLE', { timeout }, async (t) => {
  const url = `http://127.0.0.1:${await freePort()}`
  const routes = [{ topic: 'a', table: 't' }]
  await refused(t, { clickhouse: { url }, routes }, { code: 'CLICKHOUSE_UNREACHABLE', message: new RegExp(url) })

  // A server that accepts the connection and does not answer.
  const port = await startStranger(t, () => {})
  const clickhouse = { url: `http://127.0.0.1:${port}`, connectTimeoutMs: 200, requestTimeoutMs: 200 }
  await refused(t, { clickhouse, routes, startTimeoutMs: 500 }, { code: 'CLICKHOUSE_UNREACHABLE' })
})

test('CLICKHOUSE_REJECTED', { timeout }, async (t) => {
  const table = await servers.table('seq UInt32')
  const routes = [{ topic: 'a', table }]
  for (const username of ['default', 'nobody']) {
    const clickhouse = { username, password: 'wrong' }
    await refused(t, { clickhouse, routes }, { code: 'CLICKHOUSE_REJECTED', message: /194|516/ })
  }
})

test('a start() that failed can be tried again', { timeout }, async (t) => {
  const table = unique('later')
  const topic = unique('topic')
  const pipeline = servers.pipeline(t, { routes: [{ topic, table }] })
  await assert.rejects(pipeline.start(), { code: 'TABLE_NOT_FOUND' })
  await servers.command(`CREATE TABLE ${table} (seq UInt32) ENGINE = MergeTree ORDER BY seq`)
  await pipeline.start()
  const publisher = await servers.publisher(t, { clients: 1 })
  await publisher.publish(topic, { seq: 1 })
  await settled(pipeline, 1)
  assert.equal(await servers.count(table), 1)
})

test('nothing is left running after a start() that failed', { timeout }, async (t) => {
  const table = await servers.table('seq UInt32')
  const route = { topic: unique('topic'), table }
  const unreachable = await freePort()
  const program = startProgram(t, 'fails-to-start.mjs', [
    servers.config({ routes: [{ ...route, table: 'nowhere' }] }),
    servers.config({ routes: [{ ...route, columns: { x: 'x' } }] }),
    servers.config({ mqtt: { url: `mqtt://127.0.0.1:${unreachable}` }, routes: [route] }),
    servers.config({ clickhouse: { url: `http://127.0.0.1:${unreachable}` }, routes: [route] }),
    servers.config({ clickhouse: { password: 'wrong' }, routes: [route] }),
  ])
  const end = await program.end()
  assert.deepEqual([end.code, end.stderr], [0, ''])
  assert.deepEqual(program.lines, [
    'TABLE_NOT_FOUND',
    'COLUMN_NOT_FOUND',
    'MQTT_UNREACHABLE',
    'CLICKHOUSE_UNREACHABLE',
    'CLICKHOUSE_REJECTED',
  ])
})

test('start() can be given up', { timeout }, async (t) => {
  const table = await servers.table('seq UInt32')
  const routes = [{ topic: 'a', table }]

  const before = servers.pipeline(t, { routes })
  const reason = new Error('changed my mind')
  await assert.rejects(before.start({ signal: AbortSignal.abort(reason) }), (error) => error === reason)
  assert.equal(before.state, 'idle')

  // A broker that never answers would hold start() for long.
  const broker = await startScriptedBroker(t, { connect: null })
  const during = servers.pipeline(t, { mqtt: { url: broker.url }, routes })
  const controller = new AbortController()
  const started = during.start({ signal: controller.signal })
  setTimeout(() => controller.abort(), 50)
  await assert.rejects(started, { name: 'AbortError' })
  assert.equal(during.state, 'idle')

  const after = servers.pipeline(t, { routes })
  const late = new AbortController()
  await after.start({ signal: late.signal })
  late.abort()
  assert.equal(after.state, 'running')
})

test('definePipeline() gives the configuration back', () => {
  const config = servers.config({ routes: [{ topic: 'a', table: 't' }] })
  assert.equal(millrace.definePipeline(config), config)
})

test('INVALID_STATE', { timeout }, async (t) => {
  const table = await servers.table('seq UInt32')
  const pipeline = servers.pipeline(t, { routes: [{ topic: unique('topic'), table }] })
  const invalid = { name: 'MillraceError', code: 'INVALID_STATE' }
  assert.throws(() => pipeline.pause(), invalid)
  assert.throws(() => pipeline.resume(), invalid)
  await assert.rejects(pipeline.flush(), invalid)
  const starting = pipeline.start()
  await assert.rejects(pipeline.start(), invalid)
  await starting
  await assert.rejects(pipeline.start(), invalid)
  await pipeline.stop()
  await assert.rejects(pipeline.start(), invalid)
  await assert.rejects(pipeline.flush(), invalid)
  assert.throws(() => pipeline.pause(), invalid)
  assert.equal(pipeline.state, 'stopped')
})
