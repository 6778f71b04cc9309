// pipeline.tap(): samples of what a route inserts, for live views.

import assert from 'node:assert/strict'
import { AsyncLocalStorage } from 'node:async_hooks'
import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { test } from 'node:test'
import { MillraceError, Pipeline } from '../../index.js'
import { waitFor } from '../../tools/servers/index.mjs'
import { startProgram } from '../support/program.mjs'
import { settled, unique, useServers } from '../support/servers.mjs'

const servers = useServers()
const timeout = 120_000

const COLUMNS = `seq UInt32, name LowCardinality(String), big Int64, at DateTime64(3, 'UTC'), maybe Nullable(Float64), level Float64 DEFAULT 7, list Array(UInt8),
  kind Enum8('a' = 1, 'b' = 2)`
const payload = (seq) =>
  JSON.stringify({ seq, name: `n${seq % 3}`, big: '9007199254740993', at: 1_730_000_000_000 + seq, list: [seq % 7], kind: 'b', ...(seq % 2 ? { maybe: seq } : { level: seq }) })

/** A pipeline that has not started, with what publishes to it. */
async function setUp(t, /** @type {any} */ { columns = COLUMNS, route = {}, ...more } = {}) {
  const table = await servers.table(columns)
  const topic = unique('topic')
  const pipeline = servers.pipeline(t, { routes: [{ topic, table, ...route }], ...more })
  const publisher = await servers.publisher(t, { clients: 1 })
  let sent = 0
  const send = async (count) => {
    const from = sent
    sent += count
    await publisher.flood(count, (i) => ({ topic, payload: payload(from + i) }))
    await settled(pipeline, sent)
  }
  return { pipeline, table, topic, send }
}

function spoolDirectory(t) {
  const dir = mkdtempSync(join(tmpdir(), 'millrace-tap-'))
  t.after(() => rmSync(dir, { recursive: true, force: true }))
  return dir
}

/** The rows of a batch as plain values. */
const read = ({ columns, length }) =>
  Array.from({ length }, (_, row) => Object.fromEntries(Object.entries(columns).map(([name, column]) => [name, column.get(row)])))

const asInserted = (seq) => ({
  seq,
  name: `n${seq % 3}`,
  big: 9_007_199_254_740_993n,
  at: new Date(1_730_000_000_000 + seq),
  maybe: seq % 2 ? seq : null,
  // ClickHouse computes the DEFAULT.
  level: seq % 2 ? null : seq,
  list: [seq % 7],
  kind: 'b',
})

for (const spool of [false, true]) {
  test(`rows as they are inserted, of every type, ${spool ? 'with' : 'without'} a spool`, { timeout }, async (t) => {
    const { pipeline, table, topic, send } = await setUp(t, spool ? { spool: { dir: spoolDirectory(t) } } : {})
    const seen = new Map()
    /** @type {any} */
    let about
    pipeline.tap(0, (batch) => {
      for (const row of read(batch)) seen.set(row.seq, row)
      about = { table: batch.table, route: batch.route, topicFilter: batch.topicFilter, values: batch.columns.seq.values.constructor, length: batch.columns.seq.values.length === batch.length }
    }, { everyMs: 1 })
    await pipeline.start()
    await send(200)
    await waitFor(() => seen.size > 0, { message: 'a sample' })
    for (const [seq, row] of seen) assert.deepEqual(row, asInserted(seq))
    assert.deepEqual(about, { table, route: 0, topicFilter: topic, values: Uint32Array, length: true })
    assert.equal(await servers.count(table), 200)
  })

  test(`behind a transform: what it dropped is not there, what it computed is, ${spool ? 'with' : 'without'} a spool`, { timeout }, async (t) => {
    const route = {
      columns: { doubled: { computed: true }, note: { computed: true } },
      inputs: { list: { type: 'Array(UInt8)' } },
      transform(batch) {
        for (let row = 0; row < batch.length; row++) {
          const seq = batch.columns.seq.values[row]
          if (seq % 2) batch.drop(row)
          else if (seq % 10 === 8) batch.reject(row, 'no')
          batch.columns.doubled.values[row] = BigInt(2 * seq + batch.columns.list.get(row)[0])
        }
      },
    }
    const config = spool ? { spool: { dir: spoolDirectory(t) } } : {}
    const { pipeline, topic, send } = await setUp(t, { columns: 'seq UInt32, doubled UInt64, note Nullable(String)', route, ...config })
    const seen = new Map()
    pipeline.tap(topic, (batch) => {
      assert.deepEqual(Object.keys(batch.columns), ['seq', 'doubled', 'note'], 'inputs are not inserted')
      for (const { seq, doubled, note } of batch.rows()) seen.set(seq, [doubled, note])
    }, { everyMs: 1 })
    await pipeline.start()
    await send(100)
    await waitFor(() => seen.size > 0, { message: 'a sample' })
    for (const [seq, values] of seen) {
      assert.ok(seq % 2 === 0 && seq % 10 !== 8)
      assert.deepEqual(values, [BigInt(2 * seq + (seq % 7)), null])
    }
  })
}

test('at most one sample in each interval, of at most maxRows rows, and none after untap', { timeout }, async (t) => {
  const { pipeline, table, send } = await setUp(t, { batch: { maxRows: 10, maxDelayMs: 1 } })
  const calls = []
  const rare = []
  const untap = pipeline.tap(0, (batch) => calls.push(batch.length), { everyMs: 1 })
  const other = pipeline.tap(0, (batch) => rare.push(batch.length), { everyMs: 3_600_000 })
  await pipeline.start()
  await send(500)
  await waitFor(() => calls.length > 0 && rare.length > 0, { message: 'samples' })
  assert.ok(calls.every((length) => length >= 1 && length <= 10), String(calls))
  untap()
  untap()
  const before = calls.length
  await send(100)
  await pipeline.flush()
  assert.equal(calls.length, before)
  assert.equal(rare.length, 1)
  other[Symbol.dispose ?? Symbol.for('Symbol.dispose')]()
  assert.equal(await servers.count(table), 600)
})

test('the next sample waits for the promise, and holds memory of the pipeline until then', { timeout }, async (t) => {
  const { pipeline, send } = await setUp(t, { batch: { maxRows: 10, maxDelayMs: 1 } })
  let calls = 0
  /** @type {() => void} */
  let done = () => {}
  pipeline.tap(0, async (batch) => {
    calls++
    await new Promise((resolve) => (done = () => resolve(undefined)))
    // The batch is open until the promise is settled.
    assert.equal(typeof batch.columns.seq.get(0), 'number')
  }, { everyMs: 1 })
  await pipeline.start()
  await send(50)
  await waitFor(() => calls === 1, { message: 'the first call' })
  await send(50)
  assert.equal(calls, 1)
  assert.ok(pipeline.metrics().memoryBytes > 0)
  done()
  await waitFor(async () => {
    await send(10)
    return calls === 2
  }, { message: 'the second call' })
  done()
})

test('a batch is to be read alone, and closed after its call', { timeout }, async (t) => {
  const { pipeline, send } = await setUp(t)
  /** @type {any} */
  let kept
  const refused = []
  const attempt = (name, work) => {
    try {
      work()
      refused.push([name, undefined])
    } catch (error) {
      refused.push([name, error.code, error instanceof MillraceError])
    }
  }
  pipeline.tap(0, (batch) => {
    kept ??= { batch, columns: batch.columns, rows: batch.rows() }
    for (const name of ['seq', 'name', 'list']) attempt(name, () => /** @type {any} */ (batch.columns[name]).set(0, 1))
    const [row] = batch.rows()
    for (const name of ['seq', 'name', 'list']) attempt(name, () => (/** @type {any} */ (row)[name] = 1))
    attempt('a row', () => batch.columns.seq.get(batch.length))
    for (const name of ['drop', 'reject', 'emit', 'message']) assert.ok(!(name in batch))
  }, { everyMs: 3_600_000 })
  await pipeline.start()
  await send(20)
  await waitFor(() => refused.length === 7, { message: 'a sample' })
  const readOnly = ['seq', 'name', 'list', 'seq', 'name', 'list'].map((name) => [name, 'INVALID_STATE', true])
  assert.deepEqual(refused, [...readOnly, ['a row', 'OUT_OF_RANGE', true]])
  refused.length = 0
  for (const name of Object.keys(kept.columns)) attempt(name, () => kept.columns[name].get(0))
  attempt('rows', () => kept.batch.rows())
  attempt('next', () => kept.rows.next())
  assert.ok(refused.length === 10 && refused.every(([, code]) => code === 'INVALID_STATE'), JSON.stringify(refused))
})

test('wrong arguments are refused with a code and a path', { timeout }, async (t) => {
  const { pipeline, topic } = await setUp(t)
  const fails = (args, path, text) =>
    assert.throws(() => /** @type {any} */ (pipeline).tap(...args), (error) => {
      assert.ok(error instanceof MillraceError)
      assert.deepEqual([error.code, error.path], ['CONFIG_INVALID', path])
      assert.match(error.message, text)
      return true
    })
  const fn = () => {}
  for (const route of [1, -1, 0.5, Number.NaN]) fails([route, fn], 'route', /from 0 to 0/)
  for (const route of [undefined, null, {}, true]) fails([route, fn], 'route', /its topic/)
  fails(['nowhere', fn], 'route', /no route has the topic "nowhere"/)
  for (const bad of [undefined, null, 'fn', {}]) fails([0, bad], 'fn', /function/)
  for (const everyMs of [0, -1, Number.NaN, Infinity, '5', null, 2 ** 31]) fails([0, fn, { everyMs }], 'everyMs', /milliseconds/)

  const routes = [{ topic, table: 't', continue: true }, { topic, table: 'u' }]
  const twice = new Pipeline({ mqtt: { url: 'mqtt://localhost' }, clickhouse: { url: 'http://localhost' }, routes })
  assert.throws(() => twice.tap(topic, fn), { code: 'CONFIG_INVALID', path: 'route', message: /routes 0 and 1/ })
  assert.equal(typeof twice.tap(1, fn), 'function')

  await pipeline.start()
  assert.equal(typeof pipeline.tap(topic, fn), 'function')
  const stopping = pipeline.stop()
  assert.throws(() => pipeline.tap(0, fn), { code: 'INVALID_STATE' })
  await stopping
  assert.throws(() => pipeline.tap(0, fn), { code: 'INVALID_STATE' })
})

test('a tap runs in the context in which it was made', { timeout }, async (t) => {
  const { pipeline, send } = await setUp(t)
  const storage = new AsyncLocalStorage()
  const seen = []
  storage.run('tap', () => pipeline.tap(0, () => seen.push(storage.getStore()), { everyMs: 1 }))
  await storage.run('start', () => pipeline.start())
  await send(10)
  await waitFor(() => seen.length > 0, { message: 'a sample' })
  assert.deepEqual([...new Set(seen)], ['tap'])
})

for (const how of ['throws', 'rejects']) {
  test(`a function that ${how} is an uncaught exception of the program, and the next sample comes`, { timeout }, async (t) => {
    const table = await servers.table(COLUMNS)
    const topic = unique('topic')
    const config = servers.config({ routes: [{ topic, table }], batch: { maxRows: 10, maxDelayMs: 1 } })
    const program = startProgram(t, 'taps.mjs', { config, how, catches: true })
    await program.line('running')
    const publisher = await servers.publisher(t, { clients: 1 })
    await waitFor(async () => {
      await publisher.flood(10, (seq) => ({ topic, payload: payload(seq) }))
      return program.lines.filter((line) => line === 'uncaught: no').length >= 2
    }, { message: () => `two errors: ${program.lines}` })
  })

  test(`a function that ${how} ends a program that does not catch it`, { timeout }, async (t) => {
    const table = await servers.table(COLUMNS)
    const topic = unique('topic')
    const config = servers.config({ routes: [{ topic, table }], batch: { maxRows: 10, maxDelayMs: 1 } })
    const program = startProgram(t, 'taps.mjs', { config, how })
    await program.line('running')
    const publisher = await servers.publisher(t, { clients: 1 })
    await publisher.flood(10, (seq) => ({ topic, payload: payload(seq) }))
    await waitFor(() => !program.running(), { message: 'its end' })
    assert.match(program.errors.join('\n'), /no/)
  })
}

test('a tap keeps the process alive until it is ended, as a listener does', { timeout }, async (t) => {
  const table = await servers.table(COLUMNS)
  const topic = unique('topic')
  const config = servers.config({ routes: [{ topic, table }], batch: { maxDelayMs: 1 } })
  const program = startProgram(t, 'taps.mjs', { config, how: 'counts' })
  await program.line('running')
  const publisher = await servers.publisher(t, { clients: 1 })
  await publisher.flood(10, (seq) => ({ topic, payload: payload(seq) }))
  await program.line('sample')
  program.say('untap')
  await waitFor(() => !program.running(), { message: 'its end' })
})
