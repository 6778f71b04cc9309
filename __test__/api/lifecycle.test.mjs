// States, flush, pause, stop and events of a pipeline, and when it keeps the process alive.

import assert from 'node:assert/strict'
import { execFileSync } from 'node:child_process'
import { EventEmitter, once } from 'node:events'
import { connect, createServer } from 'node:net'
import { test } from 'node:test'
import { Worker } from 'node:worker_threads'
import { externalClickHouse, waitFor } from '../../tools/servers/index.mjs'
import { assertLedger, watchLedger } from '../support/ledger.mjs'
import { assertPositions, COLUMNS, position, route } from '../support/positions.mjs'
import { startProgram } from '../support/program.mjs'
import { received, settled, unique, useServers } from '../support/servers.mjs'

const servers = useServers({ ownClickHouse: true })
const timeout = 60_000

test('states, and their event', { timeout }, async (t) => {
  const table = await servers.table(COLUMNS)
  const pipeline = servers.pipeline(t, { routes: [route(unique('topic'), table)] })
  assert.ok(pipeline instanceof EventEmitter)
  const seen = []
  pipeline.on('state', (state, previous) => seen.push(`${previous} > ${state}`))
  assert.equal(pipeline.state, 'idle')
  const starting = pipeline.start()
  assert.equal(pipeline.state, 'starting')
  assert.equal(await starting, undefined)
  assert.equal(pipeline.state, 'running')
  assert.equal(pipeline.metrics().state, 'running')
  pipeline.pause()
  assert.equal(pipeline.state, 'paused')
  pipeline.resume()
  assert.equal(pipeline.state, 'running')
  const stopping = pipeline.stop()
  assert.equal(pipeline.state, 'stopping')
  await stopping
  assert.equal(pipeline.state, 'stopped')
  assert.deepEqual(seen, [
    'idle > starting',
    'starting > running',
    'running > paused',
    'paused > running',
    'running > stopping',
    'stopping > stopped',
  ])
})

test('metrics before start() and after stop()', { timeout }, async (t) => {
  const table = await servers.table(COLUMNS)
  const pipeline = servers.pipeline(t, { routes: [route(unique('topic'), table)] })
  const idle = pipeline.metrics()
  assert.equal(idle.state, 'idle')
  assertLedger(idle)
  await pipeline.start()
  const last = await pipeline.stop()
  assert.equal(last.state, 'stopped')
  assert.equal(pipeline.metrics().state, 'stopped')
  assert.deepEqual(pipeline.metrics().messages, last.messages)
})

test('metrics count messages, rows and dead letters', { timeout }, async (t) => {
  const table = await servers.table(COLUMNS)
  const prefix = unique('topic')
  const pipeline = await servers.started(t, { routes: [route(prefix, table)] })
  const heard = []
  pipeline.on('metrics', (metrics) => heard.push(metrics))
  const publisher = await servers.publisher(t)
  let payloads = 0
  await publisher.flood(3_000, (i) => {
    const message = position(prefix, i)
    payloads += Buffer.byteLength(message.payload)
    return message
  })
  await settled(pipeline, 3_000)
  await waitFor(() => heard.at(-1)?.messages.inserted === 3_000, { message: 'the event after the last row' })

  const metrics = pipeline.metrics()
  assert.deepEqual(
    Object.keys(metrics.tables).map((name) => name.split('.').at(-1)),
    [table],
  )
  const [{ lastInsertMs, ...counts }] = Object.values(metrics.tables)
  assert.deepEqual(counts, {
    rows: 3_000,
    inserts: metrics.inserts.succeeded,
    deadLettered: 0,
    retried: 0,
    failed: 0,
    failing: false,
  })
  assert.ok(lastInsertMs >= 0)
  assert.equal(metrics.bytes.received, payloads)
  assert.ok(metrics.bytes.inserted > 3_000 * 50)
  assert.ok(metrics.uptimeMs > 0)
  assert.equal(metrics.spool, null)
  assert.equal(metrics.mqtt.connected, 1)
  assert.equal(metrics.mqtt.connections, 1)
  assert.equal(metrics.latencyMs.insert.count, metrics.inserts.succeeded)
  assert.ok(metrics.latencyMs.endToEnd.count > 0)
  for (const { count, p50, p90, p99, max } of Object.values(metrics.latencyMs)) {
    assert.ok(count > 0 && p50 > 0 && p50 <= p90 && p90 <= p99 && p99 <= max, JSON.stringify(metrics.latencyMs))
  }
  assert.ok(heard.some(({ rates }) => rates.messagesPerSecond > 0))
  assert.ok(heard.some(({ rates }) => rates.rowsPerSecond > 0))
  await waitFor(() => pipeline.metrics().memoryBytes === 0, {
    message: () => `${pipeline.metrics().memoryBytes} bytes left`,
  })
})

test('metricsIntervalMs: 0 turns the event off', { timeout }, async (t) => {
  const table = await servers.table(COLUMNS)
  const prefix = unique('topic')
  const pipeline = await servers.started(t, { metricsIntervalMs: 0, routes: [route(prefix, table)] })
  let events = 0
  pipeline.on('metrics', () => events++)
  const publisher = await servers.publisher(t)
  await publisher.flood(100, (i) => position(prefix, i))
  await settled(pipeline, 100)
  await pipeline.stop()
  assert.equal(events, 0)
})

test('events come before the promise of flush() and stop() that they belong to', { timeout }, async (t) => {
  const table = await servers.table('seq UInt32')
  const topic = unique('topic')
  const publisher = await servers.publisher(t)
  const pipeline = await servers.started(t, { routes: [{ topic, table }] })
  const deadLetters = []
  pipeline.on('deadLetters', (letters) => deadLetters.push(...letters))
  for (let round = 1; round <= 40; round++) {
    await publisher.flood(5, (seq) => ({ topic, payload: JSON.stringify({ seq: seq === 0 ? 'no number' : seq }) }))
    await received(pipeline, 5 * round)
    await pipeline.flush()
    assert.equal(deadLetters.length, round)
  }
  const seen = []
  pipeline.on('state', (state) => seen.push(state))
  await pipeline.stop()
  assert.deepEqual(seen, ['stopping', 'stopped'])
})

test('flush(): messages received before the call are in the table', { timeout }, async (t) => {
  const table = await servers.table(COLUMNS)
  const prefix = unique('topic')
  const pipeline = await servers.started(t, {
    mqtt: { qos: 0 },
    routes: [route(prefix, table)],
    batch: { maxDelayMs: 3_600_000, maxRows: 100_000 },
  })
  await pipeline.flush()
  const publisher = await servers.publisher(t)
  for (let round = 1; round <= 5; round++) {
    await publisher.flood(100, (i) => position(prefix, (round - 1) * 100 + i))
    await received(pipeline, round * 100)
    await Promise.all([pipeline.flush(), pipeline.flush()])
    assert.equal(await servers.count(table), round * 100)
  }
  assert.equal(pipeline.metrics().inserts.succeeded, 5)

  // Under way, too.
  const flood = publisher.flood(20_000, (i) => position(prefix, 500 + i))
  for (let round = 0; round < 5; round++) {
    const before = pipeline.metrics().messages.received
    await pipeline.flush()
    assert.ok((await servers.count(table)) >= before)
  }
  await flood
  await received(pipeline, 20_500)
  await pipeline.flush()
  await assertPositions(servers, table, 20_500)
})

test('pause() leaves the messages with the broker, resume() takes them', { timeout }, async (t) => {
  const table = await servers.table(COLUMNS)
  const prefix = unique('topic')
  const pipeline = await servers.started(t, {
    mqtt: { clientId: unique('client'), keepAliveSeconds: 1, receiveMaximum: 100 },
    routes: [route(prefix, table)],
  })
  const publisher = await servers.publisher(t)
  await publisher.flood(1_000, (i) => position(prefix, i))
  await settled(pipeline, 1_000)

  pipeline.pause()
  pipeline.pause()
  await publisher.flood(5_000, (i) => position(prefix, 1_000 + i))
  // Longer than a broker waits for a client that says nothing.
  await new Promise((resolve) => setTimeout(resolve, 3_000))
  const paused = pipeline.metrics()
  assert.equal(paused.state, 'paused')
  assert.ok(paused.messages.received < 6_000, `${paused.messages.received} messages were taken`)
  assert.equal(paused.mqtt.reconnects, 0)
  pipeline.resume()
  await settled(pipeline, 6_000)
  await assertPositions(servers, table, 6_000)
  assert.equal(pipeline.metrics().mqtt.reconnects, 0)

  // Stopped while paused: nothing is lost either.
  pipeline.pause()
  await publisher.flood(1_000, (i) => position(prefix, 6_000 + i))
  const last = await pipeline.stop()
  assertLedger(last)
  assert.equal(last.messages.pending, 0)
  assert.equal(await servers.count(table), last.messages.inserted)
})

test('stop() gives the last metrics, as often as it is called', { timeout }, async (t) => {
  const table = await servers.table(COLUMNS)
  const prefix = unique('topic')
  const pipeline = await servers.started(t, {
    mqtt: { qos: 0 },
    routes: [route(prefix, table)],
    batch: { maxDelayMs: 3_600_000 },
  })
  const publisher = await servers.publisher(t)
  await publisher.flood(1_000, (i) => position(prefix, i))
  await received(pipeline, 1_000)
  const [first, second] = await Promise.all([pipeline.stop(), pipeline.stop()])
  assert.deepEqual(first.messages, {
    received: 1_000,
    inserted: 1_000,
    deadLettered: 0,
    dropped: 0,
    skipped: 0,
    pending: 0,
  })
  assert.deepEqual(second.messages, first.messages)
  assert.deepEqual((await pipeline.stop()).messages, first.messages)
  assert.equal(first.mqtt.connected, 0)
  assert.equal(first.memoryBytes, 0)
  await assertPositions(servers, table, 1_000)
})

test('stop() without start()', { timeout }, async (t) => {
  const pipeline = servers.pipeline(t, { routes: [{ topic: 'a', table: 'nowhere' }] })
  const { messages } = await pipeline.stop()
  assert.equal(messages.received, 0)
  assert.equal(pipeline.state, 'stopped')
})

test('stop() while starting', { timeout }, async (t) => {
  const table = await servers.table(COLUMNS)
  const pipeline = servers.pipeline(t, { routes: [route(unique('topic'), table)] })
  const starting = assert.rejects(pipeline.start(), { code: 'ABORTED' })
  await pipeline.stop()
  assert.equal(pipeline.state, 'stopped')
  await starting
})

/** A server that passes connections on to the broker; its port is free until `listen()`. */
async function laterBroker(t) {
  const server = createServer((socket) => {
    const broker = connect(Number(new URL(servers.broker.url).port), '127.0.0.1')
    socket.pipe(broker).pipe(socket)
    for (const end of [socket, broker]) end.on('error', () => [socket, broker].forEach((each) => each.destroy()))
  })
  const listen = async (port = 0) => {
    server.listen(port, '127.0.0.1')
    await once(server, 'listening')
    return /** @type {import('node:net').AddressInfo} */ (server.address()).port
  }
  const port = await listen()
  await new Promise((resolve) => server.close(resolve))
  t.after(() => server.close())
  return { url: `mqtt://127.0.0.1:${port}`, listen: () => listen(port) }
}

test('start({ wait: true }) waits until the broker is there', { timeout }, async (t) => {
  const table = await servers.table(COLUMNS)
  const broker = await laterBroker(t)
  const pipeline = servers.pipeline(t, { mqtt: { url: broker.url }, routes: [route(unique('topic'), table)] })
  const waits = []
  pipeline.on('warning', (warning) => warning.code === 'START_WAITING' && waits.push(warning))
  const starting = pipeline.start({ wait: true })
  await waitFor(() => waits.length >= 2, { message: 'two warnings' })
  await assert.rejects(pipeline.start(), { code: 'INVALID_STATE' })
  await broker.listen()
  await starting
  assert.equal(pipeline.state, 'running')
  for (const { errorCode, retryInMs, message } of waits) {
    assert.equal(errorCode, 'MQTT_UNREACHABLE')
    assert.ok(retryInMs >= 250 && message.endsWith(`in ${retryInMs} ms`), message)
  }
})

test('stop() and a signal end a start() that waits', { timeout }, async (t) => {
  const table = await servers.table(COLUMNS)
  const { url } = await laterBroker(t)
  for (const by of ['stop', 'signal']) {
    const pipeline = servers.pipeline(t, { mqtt: { url }, routes: [route(unique('topic'), table)] })
    const controller = new AbortController()
    const starting = pipeline.start({ wait: true, signal: controller.signal }).catch((error) => error)
    await new Promise((resolve) => pipeline.on('warning', ({ code }) => code === 'START_WAITING' && resolve(undefined)))
    if (by === 'stop') await pipeline.stop()
    else controller.abort()
    const error = await starting
    assert.equal(by === 'stop' ? error.code : error.name, by === 'stop' ? 'ABORTED' : 'AbortError')
    assert.equal(pipeline.state, by === 'stop' ? 'stopped' : 'idle')
  }
})

test('start({ wait: true }) rejects for what does not end by itself', { timeout }, async (t) => {
  const pipeline = servers.pipeline(t, { routes: [{ topic: 'a', table: 'nowhere' }] })
  await assert.rejects(pipeline.start({ wait: true }), { code: 'TABLE_NOT_FOUND' })
  await assert.rejects(pipeline.start({ wait: /** @type {any} */ (5) }), { code: 'CONFIG_INVALID', path: 'wait' })
})

test(
  'STOP_TIMEOUT: what could not be inserted was never acknowledged',
  { timeout, skip: externalClickHouse },
  async (t) => {
    const table = await servers.table(COLUMNS)
    const prefix = unique('topic')
    const config = { mqtt: { clientId: unique('client') }, routes: [route(prefix, table)] }
    const pipeline = await servers.started(t, config)
    const publisher = await servers.publisher(t)
    await publisher.flood(500, (i) => position(prefix, i))
    await settled(pipeline, 500)
    await servers.clickhouse.stop()
    try {
      await publisher.flood(500, (i) => position(prefix, 500 + i))
      await received(pipeline, 1_000)
      await assert.rejects(pipeline.stop({ timeoutMs: 500 }), {
        name: 'MillraceError',
        code: 'STOP_TIMEOUT',
        message: /500/,
      })
      assert.equal(pipeline.state, 'stopped')
      assert.equal(pipeline.metrics().messages.pending, 500)
      assertLedger(pipeline.metrics())
    } finally {
      await servers.clickhouse.start()
    }
    const next = await servers.started(t, config)
    await settled(next, 500)
    await assertPositions(servers, table, 1_000)
  },
)

test('Symbol.asyncDispose is stop()', { timeout }, async (t) => {
  const table = await servers.table(COLUMNS)
  const prefix = unique('topic')
  const pipeline = await servers.started(t, { routes: [route(prefix, table)] })
  const publisher = await servers.publisher(t)
  await publisher.flood(100, (i) => position(prefix, i))
  await received(pipeline, 100)
  assert.equal(await pipeline[Symbol.asyncDispose](), undefined)
  assert.equal(pipeline.state, 'stopped')
  await assertPositions(servers, table, 100)
})

test('two pipelines in one process', { timeout }, async (t) => {
  const [one, two] = [await servers.table(COLUMNS), await servers.table(COLUMNS)]
  const [a, b] = [unique('topic'), unique('topic')]
  const first = await servers.started(t, { routes: [route(a, one)] })
  const second = await servers.started(t, { routes: [route(b, two)] })
  const ledgers = [watchLedger(first), watchLedger(second)]
  const publisher = await servers.publisher(t)
  await publisher.flood(20_000, (i) => position(i % 2 ? a : b, i >> 1))
  await Promise.all([settled(first, 10_000), settled(second, 10_000)])
  await assertPositions(servers, one, 10_000)
  await assertPositions(servers, two, 10_000)
  for (const ledger of ledgers) ledger.close()

  // One ends, the other goes on.
  await first.stop()
  await publisher.flood(100, (i) => position(b, 10_000 + i))
  await settled(second, 10_100)
  await assertPositions(servers, two, 10_100)
})

test('prometheus() has the basic counters', { timeout }, async (t) => {
  const table = await servers.table('seq UInt32')
  const topic = unique('topic')
  const pipeline = await servers.started(t, { name: 'mill-1', routes: [{ topic, table }] })
  const publisher = await servers.publisher(t)
  await publisher.flood(100, (seq) => ({ topic, payload: seq % 4 ? JSON.stringify({ seq }) : 'bad' }))
  await settled(pipeline, 100)
  const text = pipeline.prometheus()
  assert.ok(text.endsWith('\n'))
  const samples = new Map()
  const described = new Set()
  for (const line of text.trimEnd().split('\n')) {
    const comment = /^# (HELP|TYPE) ([a-z_]+) (.+)$/.exec(line)
    if (comment) {
      described.add(`${comment[1]} ${comment[2]}`)
      if (comment[1] === 'TYPE') assert.match(comment[3], /^(counter|gauge|summary|histogram)$/)
    } else {
      const sample = /^([a-z_]+)(\{(?:[a-z_]+="(?:[^"\\]|\\.)*",?)*\})? (-?[0-9.e+-]+|NaN|\+Inf)$/.exec(line)
      assert.ok(sample, line)
      const family = sample[1].replace(/_(sum|count|bucket)$/, '')
      for (const what of ['HELP', 'TYPE']) {
        assert.ok(described.has(`${what} ${sample[1]}`) || described.has(`${what} ${family}`), `${what} of ${line}`)
      }
      assert.ok(!samples.has(sample[1] + sample[2]), `twice: ${line}`)
      samples.set(sample[1] + (sample[2] ?? ''), Number(sample[3]))
    }
  }
  assert.match(text, /^millrace_/m)
  assert.match(text, /mill-1/)
  const value = (name) => [...samples].filter(([key]) => key.startsWith(name)).reduce((sum, [, n]) => sum + n, 0)
  assert.equal(value('millrace_messages_received_total'), 100)
  assert.equal(value('millrace_messages_inserted_total'), 75)
  assert.equal(value('millrace_messages_dead_lettered_total'), 25)
  assert.equal(value('millrace_rows_inserted_total'), 75)
})

test('a pipeline in a worker thread that is terminated', { timeout }, async (t) => {
  const table = await servers.table(COLUMNS)
  const prefix = unique('topic')
  const config = servers.config({ mqtt: { clientId: unique('client') }, routes: [route(prefix, table)] })
  const publisher = await servers.publisher(t)
  for (let round = 0; round < 3; round++) {
    const worker = new Worker(new URL('../support/programs/in-a-worker.mjs', import.meta.url), { workerData: config })
    t.after(() => worker.terminate())
    let running = false
    worker.on('message', () => (running = true))
    worker.on('error', (error) => assert.fail(String(error)))
    await waitFor(() => running, { timeoutMs: 20_000, message: 'the pipeline of the worker' })
    const flood = publisher.flood(5_000, (i) => position(prefix, round * 5_000 + i))
    await waitFor(async () => (await servers.count(table)) > round * 4_000, {
      timeoutMs: 20_000,
      message: 'rows of the worker',
    })
    await worker.terminate()
    await flood
  }
  // This process goes on, and nothing that was not in the table yet is lost.
  const next = await servers.started(t, config)
  await waitFor(
    async () => {
      await next.flush()
      const { different } = await servers.counted(table)
      return different === 15_000
    },
    { timeoutMs: 20_000, message: 'every row' },
  )
  assertLedger(next.metrics())
})

test('a program whose worker is terminated ends by itself', { timeout }, async (t) => {
  const table = await servers.table(COLUMNS)
  const program = startProgram(
    t,
    'terminates-a-worker.mjs',
    servers.config({ routes: [route(unique('topic'), table)] }),
  )
  const end = await program.end()
  assert.deepEqual([end.code, end.signal, end.stderr], [0, null, ''])
  assert.deepEqual(program.lines, ['running', 'terminated'])
})

test('a program that forgets stop() ends by itself, with its rows in the table', { timeout }, async (t) => {
  const table = await servers.table(COLUMNS)
  const prefix = unique('topic')
  const config = servers.config({
    mqtt: { qos: 0 },
    routes: [route(prefix, table)],
    batch: { maxDelayMs: 3_600_000 },
  })
  const program = startProgram(t, 'forgets-stop.mjs', { config, messages: 1_000 })
  await program.line('running')
  const publisher = await servers.publisher(t)
  await publisher.flood(1_000, (i) => position(prefix, i))
  await program.line('reached its end')
  const end = await program.end()
  assert.deepEqual([end.code, end.signal, end.stderr], [0, null, ''])
  await assertPositions(servers, table, 1_000)
})

test('a program whose pipeline has listeners runs on, until unref()', { timeout }, async (t) => {
  const table = await servers.table(COLUMNS)
  const prefix = unique('topic')
  const config = servers.config({ routes: [route(prefix, table)] })
  const publisher = await servers.publisher(t)

  const listening = startProgram(t, 'listens.mjs', { config, how: 'listens' })
  await listening.line('running')
  await publisher.flood(100, (i) => position(prefix, i))
  await waitFor(async () => (await servers.count(table)) === 100, { message: 'its rows' })
  assert.ok(listening.running())
  listening.say('remove the listeners')
  assert.equal((await listening.end()).code, 0)

  const unreferenced = startProgram(t, 'listens.mjs', { config, how: 'listens, then unref()' })
  assert.equal((await unreferenced.end()).code, 0)

  const referenced = startProgram(t, 'listens.mjs', { config, how: 'ref()' })
  await referenced.line('running')
  await publisher.flood(100, (i) => position(prefix, 100 + i))
  await waitFor(async () => (await servers.count(table)) === 200, { message: 'its rows' })
  assert.ok(referenced.running())
  referenced.say('unref')
  assert.equal((await referenced.end()).code, 0)
})

test('process.exit() ends at once; messages that were not in the table come again', { timeout }, async (t) => {
  const table = await servers.table(COLUMNS)
  const prefix = unique('topic')
  const config = servers.config({
    mqtt: { clientId: unique('client') },
    routes: [route(prefix, table)],
    batch: { maxRows: 500, maxDelayMs: 50 },
  })
  const program = startProgram(t, 'exits.mjs', { config, messages: 3_000 })
  await program.line('running')
  const publisher = await servers.publisher(t)
  await publisher.flood(10_000, (i) => position(prefix, i))
  const end = await program.end()
  assert.deepEqual([end.code, end.signal, end.stderr], [7, null, ''])

  const next = servers.pipeline(t, config)
  await next.start()
  await waitFor(
    async () => {
      await next.flush()
      const { different } = await servers.counted(table)
      return different === 10_000
    },
    { timeoutMs: 20_000, message: 'every row' },
  )
})

test('a program that is killed loses nothing that was acknowledged', { timeout }, async (t) => {
  const table = await servers.table(COLUMNS)
  const prefix = unique('topic')
  const config = servers.config({
    mqtt: { clientId: unique('client') },
    routes: [route(prefix, table)],
    batch: { maxRows: 500, maxDelayMs: 50 },
  })
  const program = startProgram(t, 'listens.mjs', { config, how: 'listens' })
  await program.line('running')
  const publisher = await servers.publisher(t)
  const flood = publisher.flood(20_000, (i) => position(prefix, i))
  await waitFor(async () => (await servers.count(table)) > 0, { message: 'the first rows' })
  program.kill()
  await flood
  assert.equal((await program.end()).signal, 'SIGKILL')

  const next = servers.pipeline(t, config)
  await next.start()
  await waitFor(
    async () => {
      await next.flush()
      const { different } = await servers.counted(table)
      return different === 20_000
    },
    { timeoutMs: 20_000, message: 'every row' },
  )
})

test('a listener that throws is an uncaughtException, and the pipeline goes on', { timeout }, async (t) => {
  const table = await servers.table(COLUMNS)
  const prefix = unique('topic')
  const config = servers.config({ routes: [route(prefix, table)] })
  const caught = startProgram(t, 'throws.mjs', { config, catches: true })
  await caught.line('caught: thrown on purpose')
  const publisher = await servers.publisher(t)
  await publisher.flood(100, (i) => position(prefix, i))
  await waitFor(async () => (await servers.count(table)) === 100, { message: 'its rows' })
  caught.say('stop')
  assert.equal((await caught.end()).code, 0)

  const uncaught = startProgram(t, 'throws.mjs', { config, catches: false })
  const end = await uncaught.end()
  assert.notEqual(end.code, 0)
  assert.match(end.stderr, /thrown on purpose/)
})

// Bun has its modules built in and does not list them.
test('rarely used modules are loaded when they are called', { skip: process.versions.bun && 'Node.js alone' }, () => {
  const index = JSON.stringify(new URL('../../index.js', import.meta.url).href)
  const program = `
    import { Pipeline, serveHttp } from ${index}
    const isLoaded = () => process.moduleLoadList.includes('NativeModule http')
    const before = isLoaded()
    const pipeline = new Pipeline({
      mqtt: { url: 'mqtt://localhost:1' },
      clickhouse: { url: 'http://localhost:1' },
      routes: [{ topic: 't', table: 't' }],
    })
    const server = await serveHttp(pipeline)
    await server.close()
    console.log(JSON.stringify([before, isLoaded()]))
  `
  const printed = execFileSync(process.execPath, ['--input-type=module', '--eval', program], { encoding: 'utf8' })
  assert.deepEqual(JSON.parse(printed), [false, true])
})
