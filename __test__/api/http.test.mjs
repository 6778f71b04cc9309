// serveHttp() and httpHandler(): paths, accepted hosts, probes with real servers, and each problem that the probes report,
// on a fake pipeline.

import assert from 'node:assert/strict'
import { once } from 'node:events'
import { createServer, request } from 'node:http'
import { connect } from 'node:net'
import { join } from 'node:path'
import { test } from 'node:test'
import { httpHandler, MillraceError, Pipeline, serveHttp } from '../../index.js'
import { Monitor } from '../../lib/observe/monitor.js'
import { externalBroker, externalClickHouse, startBroker, waitFor } from '../../tools/servers/index.mjs'
import { directory } from '../support/config-file.mjs'
import { FakePipeline } from '../support/fake-pipeline.mjs'
import { COLUMNS, position, route } from '../support/positions.mjs'
import { collect, OPEN_BROKER, settled, unique, useServers } from '../support/servers.mjs'

const servers = useServers({ ownClickHouse: true })
const timeout = 60_000

const PATHS = ['/', '/metrics', '/startupz', '/healthz', '/readyz', '/status.json']
const CONFIG = {
  mqtt: { url: 'mqtt://localhost' },
  clickhouse: { url: 'http://localhost:8123' },
  routes: [{ topic: 'a', table: 't' }],
}

/** `fetch` sets a Host header of its own. */
function ask(url, { host, method = 'GET' }) {
  return new Promise((resolve, reject) => {
    const asked = request(url, { method, headers: { host } }, (response) => {
      response.resume().once('end', () => resolve(response.statusCode))
    })
    asked.once('error', reject)
    asked.end()
  })
}

/** The answer to a request whose Host is empty, which no client of HTTP sends. */
async function askWithout(url) {
  const socket = connect(Number(new URL(url).port), '127.0.0.1')
  socket.write('GET /healthz HTTP/1.1\r\nHost:\r\nConnection: close\r\n\r\n')
  let answer = ''
  for await (const data of socket) answer += data
  return answer
}

test('each path, of a pipeline that is not started', { timeout }, async (t) => {
  const pipeline = new Pipeline({ ...CONFIG, name: 'fleet' })
  const http = await serveHttp(pipeline)
  t.after(() => http.close())
  assert.match(http.url, /^http:\/\/127\.0\.0\.1:\d+\/$/)
  const get = async (path, options) => {
    const response = await fetch(new URL(path, http.url), options)
    return { status: response.status, headers: response.headers, text: await response.text() }
  }

  const page = await get('/')
  assert.equal(page.status, 200)
  assert.equal(page.headers.get('content-type'), 'text/html; charset=utf-8')
  const policy = page.headers.get('content-security-policy')
  assert.match(policy, /^default-src 'none'; style-src 'sha256-/)
  assert.doesNotMatch(policy, /unsafe/)
  // Nothing of the page comes from elsewhere: no address in an attribute but those of this server.
  const addresses = Array.from(page.text.matchAll(/(?:src|href)="(?!#|data:)([^"]*)"/g), ([, address]) => address)
  assert.deepEqual(addresses, ['metrics', 'startupz', 'healthz', 'readyz'])

  const metrics = await get('/metrics')
  assert.equal(metrics.headers.get('content-type'), 'text/plain; version=0.0.4; charset=utf-8')
  assert.match(metrics.text, /^millrace_messages_received_total\{pipeline="fleet"\} 0$/m)

  const health = await get('/healthz')
  assert.deepEqual([health.status, health.text], [200, 'alive\n'])
  const ready = await get('/readyz')
  assert.deepEqual([ready.status, ready.text], [503, 'not ready\nNot started.\n'])
  const started = await get('/startupz')
  assert.deepEqual([started.status, started.text], [503, 'not started\nNot started.\n'])

  const status = JSON.parse((await get('/status.json?from=nonsense')).text)
  assert.equal(status.name, 'fleet')
  assert.deepEqual(status.metrics.messages, pipeline.metrics().messages)
  assert.equal((await get('/else')).status, 404)
  assert.equal((await get('/constructor')).status, 404)

  for (const path of PATHS) {
    const { status, headers } = await get(path)
    assert.equal(headers.get('cache-control'), 'no-store')
    assert.equal(headers.get('x-content-type-options'), 'nosniff')
    const head = await get(path, { method: 'HEAD' })
    assert.deepEqual([head.status, head.text], [status, ''])
    assert.ok(Number(head.headers.get('content-length')) > 0)
    for (const method of ['POST', 'PUT', 'DELETE', 'PATCH', 'OPTIONS']) {
      const refused = await get(path, { method })
      assert.deepEqual([refused.status, refused.headers.get('allow')], [405, 'GET, HEAD'])
    }
  }
})

test('on the loopback only requests to loopback names are answered', { timeout }, async (t) => {
  const pipeline = new Pipeline(CONFIG)
  const http = await serveHttp(pipeline)
  t.after(() => http.close())
  const { port } = new URL(http.url)
  for (const host of [`127.0.0.1:${port}`, `localhost:${port}`, 'LOCALHOST', '[::1]:80']) {
    assert.equal(await ask(http.url, { host }), 200, host)
  }
  for (const host of ['evil.example', `evil.example:${port}`, '127.0.0.1.evil.example', `:${port}`]) {
    for (const path of PATHS) assert.equal(await ask(new URL(path, http.url), { host }), 421, host)
  }

  const named = await serveHttp(pipeline, { hosts: ['fleet.example'] })
  t.after(() => named.close())
  assert.equal(await ask(named.url, { host: 'fleet.example:80' }), 200)
  assert.equal(await ask(named.url, { host: '127.0.0.1' }), 421)
  // An empty one is as foreign.
  for (const url of [http.url, named.url]) assert.match(await askWithout(url), /^HTTP\/1\.1 421 /)

  const open = await serveHttp(pipeline, { host: '0.0.0.0' })
  t.after(() => open.close())
  const { port: openPort } = new URL(open.url)
  assert.equal(await ask(`http://127.0.0.1:${openPort}/`, { host: 'fleet.example' }), 200)
})

test('a handler in a server that has pages of its own', { timeout }, async (t) => {
  const pipeline = new Pipeline(CONFIG)
  const handle = httpHandler(pipeline)
  const server = createServer((request, response) => {
    if (!handle(request, response)) response.end('mine')
  })
  server.listen(0, '127.0.0.1')
  await once(server, 'listening')
  t.after(() => server.close())
  const { port } = /** @type {import('node:net').AddressInfo} */ (server.address())
  const text = async (path) => (await fetch(`http://127.0.0.1:${port}${path}`)).text()
  assert.equal(await text('/orders'), 'mine')
  assert.equal(await text('/healthz'), 'alive\n')
  assert.ok(pipeline.eventNames().length > 0)
  handle.close()
  assert.deepEqual(pipeline.eventNames(), [])
})

test('a server that is closed, and options that are wrong', { timeout }, async () => {
  const pipeline = new Pipeline(CONFIG)
  const http = await serveHttp(pipeline)
  assert.equal((await fetch(`${http.url}healthz`)).status, 200)
  const port = Number(new URL(http.url).port)
  await assert.rejects(serveHttp(pipeline, { port }), { code: 'EADDRINUSE' })
  await Promise.all([http.close(), http.close()])
  await assert.rejects(fetch(http.url))
  assert.deepEqual(pipeline.eventNames(), [])

  for (const [path, options] of [
    ['port', { port: -1 }],
    ['port', { port: 65_536 }],
    ['port', { port: /** @type {any} */ ('80') }],
    ['host', { host: '' }],
  ]) {
    await assert.rejects(serveHttp(pipeline, /** @type {any} */ (options)), (error) => {
      assert.ok(error instanceof MillraceError)
      assert.deepEqual([error.code, error.path], ['CONFIG_INVALID', path])
      return true
    })
  }
})

test('ready, with servers that go and come', { timeout, skip: externalClickHouse || externalBroker }, async (t) => {
  const broker = await startBroker({ config: OPEN_BROKER })
  t.after(() => broker.remove())
  const table = await servers.table(COLUMNS)
  const prefix = unique('topic')
  const pipeline = servers.pipeline(t, {
    mqtt: { url: broker.url, reconnect: { minMs: 20, maxMs: 200 } },
    clickhouse: { retry: { minMs: 20, maxMs: 200 } },
    routes: [route(prefix, table)],
  })
  const http = await serveHttp(pipeline)
  t.after(() => http.close())
  const ready = async (status, reason) => {
    let text
    const isSo = async () => {
      const response = await fetch(`${http.url}readyz`)
      text = await response.text()
      return response.status === status && reason.test(text)
    }
    await waitFor(isSo, { timeoutMs: 20_000, message: () => `${status} ${reason}, it is ${text};` })
  }
  await pipeline.start()
  await ready(200, /^ready$/m)

  const publisher = await servers.publisher(t, { url: broker.url })
  await servers.clickhouse.stop()
  await publisher.flood(10, (i) => position(prefix, i))
  await ready(503, /^not ready\nClickHouse cannot be reached\. Retrying\. .*Connection refused/)
  await servers.clickhouse.start()
  await ready(200, /^ready$/m)
  await settled(pipeline, 10)

  await broker.stop()
  await ready(503, /^There is no connection to the broker/m)
  await broker.start()
  await ready(200, /^ready$/m)
  pipeline.pause()
  await ready(503, /^Paused/m)
  pipeline.resume()
  await ready(200, /^ready$/m)
  await pipeline.stop()
  await ready(503, /^Stopped\.$/m)
  assert.equal((await fetch(`${http.url}healthz`)).status, 200)
})

test('a refusal of ClickHouse is reported with its own reason', { timeout }, async (t) => {
  const table = await servers.table('seq UInt64', { storage: { parts_to_throw_insert: 1, parts_to_delay_insert: 1 } })
  await servers.command(`SYSTEM STOP MERGES ${table}`)
  const topic = unique('topic')
  const pipeline = servers.pipeline(t, {
    clickhouse: { retry: { minMs: 20, maxMs: 200 } },
    routes: [{ topic, table }],
    batch: { maxRows: 1 },
  })
  const http = await serveHttp(pipeline)
  t.after(() => http.close())
  await pipeline.start()
  const publisher = await servers.publisher(t)
  await publisher.flood(5, (i) => ({ topic, payload: `{"seq":${i}}` }))
  let text
  const isTold = async () => {
    text = await (await fetch(`${http.url}readyz`)).text()
    return text.includes('ClickHouse refuses: too many parts. Retrying.')
  }
  await waitFor(isTold, { timeoutMs: 20_000, message: () => `too many parts, it is ${text};` })
  await servers.command(`ALTER TABLE ${table} RESET SETTING parts_to_throw_insert, parts_to_delay_insert`)
  await settled(pipeline, 5)
  await waitFor(async () => (await fetch(`${http.url}readyz`)).ok, { message: 'ready again' })
})

for (const spool of [false, true]) {
  const where = spool ? 'with a spool' : 'without a spool'
  test(`a table that was renamed away and back under load is ready again while messages flow, ${where}`, { timeout }, async (t) => {
    const [away, other] = [await servers.table('seq UInt64'), await servers.table('seq UInt64')]
    const [topic, otherTopic] = [unique('topic'), unique('topic')]
    const pipeline = servers.pipeline(t, {
      clickhouse: { retry: { minMs: 20, maxMs: 200 } },
      routes: [{ topic, table: away }, { topic: otherTopic, table: other }],
      batch: { maxRows: 20, maxDelayMs: 20 },
      ...(spool && { spool: { dir: join(directory(t), 'spool') } }),
    })
    const http = await serveHttp(pipeline)
    t.after(() => http.close())
    const warnings = collect(pipeline, 'warning')
    await pipeline.start()
    const publisher = await servers.publisher(t)
    let sent = 0
    let go = true
    const load = (async () => {
      while (go) {
        const from = sent
        sent += 20
        await publisher.flood(20, (i) => ({ topic: i % 2 ? topic : otherTopic, payload: `{"seq":${from + i}}` }))
      }
    })()
    try {
      await waitFor(() => pipeline.metrics().tables[away].rows > 0, { message: 'rows of the first table' })
      await servers.command(`RENAME TABLE ${away} TO ${away}_gone`)
      await waitFor(async () => (await fetch(`${http.url}readyz`)).status === 503, { timeoutMs: 20_000, message: 'not ready' })
      const failing = pipeline.metrics()
      assert.deepEqual([failing.tables[away].failing, failing.tables[other].failing], [true, false])
      assert.equal(failing.faults.filter(({ table }) => table === away).length, 1)
      assert.match(pipeline.prometheus(), new RegExp(`^millrace_table_failing\\{pipeline="[^"]+",table="${away}"\\} 1$`, 'm'))
      await servers.command(`RENAME TABLE ${away}_gone TO ${away}`)
      await waitFor(async () => (await fetch(`${http.url}readyz`)).ok, { timeoutMs: 20_000, message: 'ready again under load' })
    } finally {
      go = false
      await load
    }
    assert.ok(warnings.some(({ code, table }) => code === 'CLICKHOUSE_RECOVERED' && table === away))
    await settled(pipeline, sent)
    const { faults, tables, inserts, warnings: counts } = pipeline.metrics()
    assert.deepEqual(faults, [])
    assert.equal(tables[away].retried + tables[other].retried, inserts.retried)
    assert.ok(tables[away].retried > 0 && tables[away].lastInsertMs !== null)
    assert.equal(counts.CLICKHOUSE_RETRYING, warnings.filter(({ code }) => code === 'CLICKHOUSE_RETRYING').length)
    await pipeline.stop()
  })
}

// ── A fake pipeline on a clock that the test sets ──

/** @param {import('node:test').TestContext} t */
function play(t) {
  const pipeline = new FakePipeline()
  const monitor = new Monitor(pipeline, () => pipeline.now)
  t.after(() => monitor.close())
  /** @param {number} [seconds] that pass @param {any} [change] of the metrics */
  const after = (seconds = 1, change = {}) => {
    pipeline.now += seconds * 1000
    for (const [name, value] of Object.entries(change)) {
      pipeline.content[name] = value && typeof value === 'object' ? { ...pipeline.content[name], ...value } : value
    }
    monitor.sample()
    return monitor.status().situation
  }
  const warn = (code, message, fields = {}) => pipeline.emit('warning', { code, message, ...fields })
  return { pipeline, monitor, after, warn, begin: pipeline.now }
}

test('messages that wait for 30 seconds while nothing is inserted are a stall', (t) => {
  const { monitor, after, begin } = play(t)
  assert.deepEqual(after(1, { messages: { received: 9, pending: 9 }, oldestPendingMs: 29_000 }), [
    { level: 'good', text: 'Messages flow into ClickHouse.' },
  ])
  assert.deepEqual(monitor.readiness(), { ready: true, reasons: [] })
  const text = 'Messages wait, and nothing gets into ClickHouse.'
  assert.deepEqual(after(1, { oldestPendingMs: 30_000 }), [{ level: 'bad', text, since: begin - 28_000, blocks: true }])
  assert.deepEqual(monitor.readiness(), { ready: false, reasons: [text] })
  // As long as something is inserted it is late, and not stalled.
  assert.deepEqual(after(1, { lastInsertMs: 500 }), [{ level: 'warn', text: 'ClickHouse is behind.' }])
  assert.equal(monitor.readiness().ready, true)
})

test('INSERTs that fail: one problem for all tables, until each has recovered', (t) => {
  const { pipeline, monitor, after, begin } = play(t)
  const parts = 'ClickHouse refused: Code: 252. DB::Exception: Too many parts (3000). (TOO_MANY_PARTS) (version 26.7)'
  after(0, { messages: { received: 2, pending: 2 } })
  const refused = { reason: parts, errorCode: 'CLICKHOUSE_REJECTED', clickhouseCode: 252, clickhouseName: 'TOO_MANY_PARTS' }
  pipeline.fail('CLICKHOUSE_RETRYING', `fleet.a: ${parts}; trying again in 100 ms`, { table: 'fleet.a', ...refused })
  after(40)
  pipeline.fail('CLICKHOUSE_RETRYING', `b: ${parts}; trying again in 400 ms`, { table: 'b', ...refused })
  const problem = { level: 'bad', text: 'ClickHouse refuses: too many parts. Retrying.', since: begin, blocks: true }
  assert.deepEqual(after(), [{ ...problem, detail: `fleet.a, b: ${parts}` }])
  pipeline.mend('CLICKHOUSE_RETRYING', { table: 'fleet.a' })
  assert.deepEqual(after(), [{ ...problem, detail: `b: ${parts}`, since: begin + 40_000 }])
  assert.equal(monitor.readiness().ready, false)
  // The probe does not wait for the next sample, and messages go on coming.
  pipeline.mend('CLICKHOUSE_RETRYING', { table: 'b' })
  assert.deepEqual(monitor.readiness(), { ready: true, reasons: [] })
  assert.deepEqual(after(1, { messages: { pending: 500 } }).map(({ level }) => level), ['good'])

  pipeline.fail('CLICKHOUSE_RETRYING', 'a: something else; trying again in 100 ms', { table: 'a', reason: 'something else' })
  assert.equal(after()[0].text, 'INSERTs into ClickHouse fail. Retrying.')
  const away = { table: 'a', reason: 'no answer', errorCode: 'CLICKHOUSE_UNREACHABLE' }
  pipeline.fail('CLICKHOUSE_RETRYING', 'a: no answer; trying again in 100 ms', away)
  assert.equal(after()[0].text, 'ClickHouse cannot be reached. Retrying.')
})

/**
 * For each warning the problem that it opens, as /readyz and the dashboard say it; null: it opens none, what it reports is
 * over, or holds as long as the process. `in` is the state that the pipeline is in meanwhile.
 *
 * @type {Record<string, null | { text: RegExp, blocks: boolean, in?: string, change?: any }>}
 */
const OPENED_BY_WARNINGS = {
  BATCH_SPLIT: null,
  CLICKHOUSE_RECOVERED: null,
  CLICKHOUSE_REFUSED: null,
  CLICKHOUSE_RETRYING: { text: /^INSERTs into ClickHouse fail/, blocks: true },
  CLICKHOUSE_SILENT: { text: /^Starting/, blocks: true, in: 'starting' },
  COLUMN_ADDED: null,
  CREDENTIALS_FAILED: { text: /^There is no connection to the broker/, blocks: true, change: { mqtt: { connected: 0 } } },
  DEAD_LETTERS_REFUSED: null,
  DEAD_LETTERS_RETRYING: { text: /^Dead letters cannot be kept/, blocks: false },
  DEAD_LETTERS_UNSTORED: null,
  DEDUPLICATION_OFF: null,
  EVENTS_DROPPED: null,
  FILTERS_OVERLAP: null,
  INSERT_UNCONFIRMED: { text: /^INSERTs into ClickHouse fail/, blocks: true },
  INSERT_UNVERIFIED: null,
  LETTER_MALFORMED: null,
  LOOKUP_FIELD_UNKNOWN: null,
  LOOKUP_UNSET: null,
  MQTT_FALLBACK: null,
  MQTT_RECONNECTING: { text: /^There is no connection to the broker/, blocks: true, change: { mqtt: { connected: 0 } } },
  MQTT_REFUSED: { text: /^There is no connection to the broker/, blocks: true, change: { mqtt: { connected: 0 } } },
  PATH_NEVER_FOUND: null,
  PATH_THROUGH_SCALAR: null,
  QOS_LOWERED: null,
  REPLAY_INTERRUPTED: null,
  RETAINED_SKIPPED: null,
  RETRY_EXPIRED: null,
  ROWS_RESTORED: null,
  SCHEMA_EXTENDED: null,
  SCHEMA_FULL: null,
  SCHEMA_REFUSED: null,
  SCHEMA_REMEMBERED: null,
  SESSION_SHORTENED: null,
  SESSION_TAKEN_OVER: { text: /^There is no connection to the broker/, blocks: true, change: { mqtt: { connected: 0 } } },
  SHARD_UNREACHABLE: null,
  SHARED_GROUP_SILENT: null,
  SPARKPLUG_REBIRTH: null,
  SPOOL_CORRUPT: null,
  SPOOL_FOREIGN_FILES: null,
  SPOOL_FULL: { text: /^The spool is full/, blocks: true },
  SPOOL_IO: { text: /^The disk of the spool fails/, blocks: true },
  SPOOL_RECOVERED: null,
  SPOOL_TORN: null,
  START_WAITING: null,
  STOP_TIMEOUT: null,
  SUBSCRIBE_SPLIT: null,
  SUBSCRIPTION_LEFT_OVER: null,
  TABLE_CHANGED: null,
  TABLE_DISCARDS: null,
  TIME_PRECISION_CUT: null,
  TLS_INSECURE: null,
  TOPIC_NAME_UNUSED: null,
  TOPIC_REWRITTEN: null,
  TRANSFORM_FAILED: null,
  TRANSFORM_SLOW: { text: /^A transform takes long/, blocks: false },
  TRANSFORM_WORKER_ENDED: null,
  VIEW_RIGHTS_UNKNOWN: null,
  WINDOW_NARROW: null,
}

test('each warning opens a problem or none, and what closes the fault closes the problem at once', (t) => {
  const counted = new Pipeline(CONFIG).prometheus().matchAll(/^millrace_warnings_total\{pipeline="millrace",code="(\w+)"\} 0$/gm)
  assert.deepEqual(Array.from(counted, ([, code]) => code), Object.keys(OPENED_BY_WARNINGS))
  for (const [code, opened] of Object.entries(OPENED_BY_WARNINGS)) {
    const { pipeline, monitor, after, warn } = play(t)
    if (opened === null) {
      warn(code, 'as the engine says it', { table: 'a' })
      assert.deepEqual(after().map(({ text }) => text), ['Connected. No messages are coming.'], code)
      assert.deepEqual(monitor.readiness(), { ready: true, reasons: [] }, code)
      continue
    }
    pipeline.state = opened.in ?? 'running'
    pipeline.fail(code, 'as the engine says it', { table: 'a' })
    const [first] = after(1, opened.change)
    assert.match(first.text, opened.text, code)
    assert.equal(monitor.readiness().ready, !opened.blocks, code)
    // Hours later it is still so, whatever else came and went meanwhile.
    warn('CLICKHOUSE_RECOVERED', 'another table', { table: 'b', failures: 1 })
    assert.match(after(7_200)[0].text, opened.text, code)
    pipeline.state = 'running'
    if (opened.change) pipeline.content.mqtt.connected = 1
    pipeline.mend(code, { table: 'a' })
    assert.deepEqual(monitor.readiness(), { ready: true, reasons: [] }, code)
    assert.deepEqual(after().map(({ level }) => level), ['good'], code)
  }
})

test('with a spool an outage of ClickHouse leaves it ready until the spool is full, and a refusal does not', (t) => {
  const { pipeline, monitor, after } = play(t)
  const away = { table: 'a', reason: 'no answer', errorCode: 'CLICKHOUSE_UNREACHABLE' }
  pipeline.fail('CLICKHOUSE_RETRYING', 'a: no answer; trying again in 100 ms', away)
  after(1)
  assert.equal(monitor.readiness().ready, false)
  const [first] = after(40, { spool: { bytes: 10, maxBytes: 100 }, oldestPendingMs: 40_000, lastInsertMs: null })
  assert.equal(first.text, 'ClickHouse cannot be reached. Retrying.')
  assert.deepEqual(monitor.readiness(), { ready: true, reasons: [] })
  after(1, { spool: { bytes: 99 } })
  assert.deepEqual(monitor.readiness().reasons, ['The spool is full: the broker has to keep what comes.'])
  after(1, { spool: { bytes: 10 } })
  pipeline.fail('CLICKHOUSE_RETRYING', 'a: gone; trying again in 100 ms', { table: 'a', reason: 'gone', errorCode: 'CLICKHOUSE_REJECTED' })
  assert.equal(monitor.readiness().ready, false)
  // Started is started, also when it has stopped.
  assert.equal(monitor.startup().isStarted, true)
  pipeline.state = 'stopped'
  assert.equal(monitor.startup().isStarted, true)
})

test('everything else that can be wrong, the worst first', (t) => {
  const { pipeline, monitor, after } = play(t)
  const texts = (situation) => situation.map(({ text }) => text)
  assert.deepEqual(texts(after(1, { memoryBytes: 990 })), ['The buffers are full: the broker has to keep what comes.'])
  assert.deepEqual(texts(after(1, { spool: { bytes: 85, maxBytes: 100 }, memoryBytes: 0 })), ['The spool fills up.'])
  assert.deepEqual(texts(after(1, { spool: { bytes: 99 } })), ['The spool is full: the broker has to keep what comes.'])
  after(1, { spool: null, mqtt: { connected: 1, connections: 2 } })
  const closed = 'the broker closed the connection'
  pipeline.fail('MQTT_RECONNECTING', `${closed}; connecting again in 100 ms`, { reason: closed, retryInMs: 100 })
  const letter = { receivedAt: new Date(pipeline.now), topic: 't', code: 'JSON_INVALID', message: 'no' }
  pipeline.emit('deadLetters', [letter, letter])
  const [first, second] = after()
  assert.equal(first.text, 'Only 1 of 2 connections to the broker are up. Reconnecting.')
  assert.equal(first.detail, 'the broker closed the connection')
  assert.equal(second.text, 'Messages became dead letters within the last minute: JSON_INVALID.')
  assert.equal(monitor.readiness().reasons.length, 1)
  pipeline.mend('MQTT_RECONNECTING')
  after(1, { mqtt: { connected: 2 } })
  assert.deepEqual(texts(after(60)), ['Connected. No messages are coming.'])

  // 'error' has no listener, so that it is thrown; the monitor has noted it nevertheless.
  const error = Object.assign(new Error('a fault in millrace'), { code: 'INTERNAL' })
  assert.throws(() => pipeline.emit('error', error), error)
  assert.equal(monitor.failure, 'a fault in millrace')
  assert.deepEqual(texts(after()), ['millrace has failed and takes no more messages. Start it anew.'])
})

test('the kept state is bounded', (t) => {
  const { pipeline, monitor, after, warn } = play(t)
  for (let i = 0; i < 1_000; i++) {
    warn(`CODE_${i}`, 'x'.repeat(10_000))
    const letter = { receivedAt: new Date(), topic: `t/${i}`, code: 'JSON_INVALID', message: 'm'.repeat(10_000) }
    pipeline.emit('deadLetters', [letter, letter])
    after()
  }
  const { events, letters, samples } = monitor.status()
  assert.deepEqual([events.length, letters.length, samples.rows.length, samples.next], [50, 50, 900, 1_001])
  assert.deepEqual([letters[0].topic, letters[0].count], ['t/999', 2])
  assert.ok(JSON.stringify(events).length < 50_000)
  assert.deepEqual(monitor.status(samples.next).samples.rows, [])
  assert.equal(monitor.status(samples.next - 3).samples.rows.length, 3)
})

test('rates and recent latencies', (t) => {
  const { pipeline, monitor, after } = play(t)
  const observed = (...counts) => {
    const name = 'millrace_insert_duration_seconds'
    const limits = ['0.1', '0.2', '+Inf']
    const samples = counts.map((value, i) => ({ name: `${name}_bucket`, labels: [['le', limits[i]]], value }))
    pipeline.families = [{ name, kind: 'histogram', samples }]
  }
  const latest = () => {
    const { fields, rows } = monitor.status().samples
    return Object.fromEntries(fields.map((field, i) => [field, rows.at(-1)[i]]))
  }
  assert.equal(latest().insertP50, null)
  observed(0, 100, 100)
  after(2, { messages: { received: 400 }, rows: { inserted: 300 } })
  const { messagesPerSecond, rowsPerSecond, insertP50, insertP99, endToEndP50 } = latest()
  assert.deepEqual([messagesPerSecond, rowsPerSecond, insertP50, insertP99, endToEndP50], [200, 150, 150, 199, null])
  // Old observations do not count as recent.
  for (let i = 0; i < 11; i++) after(1)
  assert.deepEqual([latest().insertP50, latest().messagesPerSecond], [null, 0])
  observed(0, 100, 110)
  after()
  assert.equal(latest().insertP50, 200)
})
