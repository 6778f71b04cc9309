// Transforms and the engine: what start() refuses, what keeps the process alive, and each rule for calling JavaScript from other
// threads.

import assert from 'node:assert/strict'
import { AsyncLocalStorage } from 'node:async_hooks'
import { join } from 'node:path'
import { test } from 'node:test'
import { pathToFileURL } from 'node:url'
import { writeFileSync } from 'node:fs'
import { MillraceError, Pipeline } from '../../index.js'
import { waitFor } from '../../tools/servers/index.mjs'
import { configFile, directory } from '../support/config-file.mjs'
import { startCommand, startProgram } from '../support/program.mjs'
import { collect, heard, settled, unique, useServers } from '../support/servers.mjs'

const servers = useServers()
const timeout = 120_000

const COLUMNS = 'seq UInt32, doubled UInt32 DEFAULT 0, note Nullable(String)'
const DOUBLE = '({ columns: { seq, doubled }, length }) => { for (let row = 0; row < length; row++) doubled.values[row] = 2 * seq.values[row] }'
const doubling = ({ columns: { seq, doubled }, length }) => {
  for (let row = 0; row < length; row++) doubled.values[row] = 2 * seq.values[row]
}

function module(t, text, name = 'transform.mjs') {
  const file = join(directory(t), name)
  writeFileSync(file, text)
  return file
}

/** A started pipeline with this transform, its topic and its table. */
async function started(t, transform, /** @type {any} */ { columns = COLUMNS, route = {}, ...more } = {}) {
  const table = await servers.table(columns)
  const topic = unique('topic')
  const pipeline = servers.pipeline(t, { routes: [{ topic, table, transform, ...route }], ...more })
  const letters = collect(pipeline, 'deadLetters')
  const warnings = collect(pipeline, 'warning')
  await pipeline.start()
  const publisher = await servers.publisher(t, { clients: 1 })
  let sent = 0
  /** Publishes `count` more messages, and waits until all are settled. */
  const send = async (count) => {
    const from = sent
    sent += count
    await publisher.flood(count, (i) => ({ topic, payload: JSON.stringify({ seq: from + i }) }))
    await settled(pipeline, sent, { warnings })
    await heard(pipeline, letters)
  }
  return { pipeline, table, topic, publisher, letters, warnings, send }
}

const assertDoubled = async (table, count) =>
  assert.deepEqual(await servers.rows(`SELECT count() AS rows, countIf(doubled = 2 * seq) AS right FROM ${table}`), [
    { rows: `${count}`, right: `${count}` },
  ])

test('a value that is not a transform is refused by the constructor, with its path', { timeout }, () => {
  const config = (route) => ({ mqtt: { url: 'mqtt://localhost' }, clickhouse: { url: 'http://localhost' }, routes: [{ topic: 't', table: 't', ...route }] })
  for (const [route, path] of /** @type {any[]} */ ([
    [{ transform: 5 }, 'routes[0].transform'],
    [{ transform: null }, 'routes[0].transform'],
    [{ transform: true }, 'routes[0].transform'],
    [{ transform: [() => {}] }, 'routes[0].transform[0]'],
    [{ transform: '' }, 'routes[0].transform'],
    [{ transform: {} }, 'routes[0].transform.module'],
    [{ transform: { function: true } }, 'routes[0].transform.function'],
    [{ transform: { module: 5 } }, 'routes[0].transform.module'],
    [{ transform: { module: './a.mjs', exports: 'x' } }, 'routes[0].transform.exports'],
    [{ transform: { module: './a.mjs', threads: 0 } }, 'routes[0].transform.threads'],
    [{ transform: { module: './a.mjs', threads: 1.5 } }, 'routes[0].transform.threads'],
    [{ transform: { module: './a.mjs', data: () => {} } }, 'routes[0].transform.data'],
    [{ transform() {}, transformTimeoutMs: 0 }, 'routes[0].transformTimeoutMs'],
    [{ transform() {}, emits: [5] }, 'routes[0].emits[0]'],
    [{ transform() {}, inputs: { a: 'path' } }, 'routes[0].inputs.a'],
    [{ emits: ['a'] }, 'routes[0].emits'],
    [{ inputs: { a: { type: 'UInt8' } } }, 'routes[0].inputs'],
    [{ transformTimeoutMs: 5 }, 'routes[0].transformTimeoutMs'],
    [{ columns: { note: { computed: true } } }, 'routes[0].columns.note.computed'],
  ])) {
    assert.throws(() => new Pipeline(config(route)), (/** @type {any} */ error) => {
      assert.ok(error instanceof MillraceError, `${JSON.stringify(route)}: ${error.stack}`)
      assert.equal(error.code, 'CONFIG_INVALID')
      assert.equal(error.path, path, error.message)
      return true
    })
  }
})

test('start() refuses faulty transforms', { timeout }, async (t) => {
  const table = await servers.table(COLUMNS)
  const refused = async (route, code, path) => {
    const pipeline = servers.pipeline(t, { routes: [{ topic: unique('topic'), table, ...route }] })
    await assert.rejects(pipeline.start(), (/** @type {any} */ error) => {
      assert.deepEqual([error.code, error.path], [code, path], String(error))
      return true
    })
    assert.equal(pipeline.state, 'idle')
  }
  const of = (name) => `routes[0].${name}`
  await refused({ transform: function* () {} }, 'TRANSFORM_INVALID', of('transform'))
  await refused({ transform: async function* () {} }, 'TRANSFORM_INVALID', of('transform'))
  await refused({ transform: class {} }, 'TRANSFORM_INVALID', of('transform'))
  await refused({ transform: { module: join(directory(t), 'missing.mjs') } }, 'TRANSFORM_INVALID', of('transform.module'))
  await refused({ transform: { module: module(t, 'throw new Error("on import")') } }, 'TRANSFORM_INVALID', of('transform.module'))
  await refused({ transform: { module: module(t, 'export default 5') } }, 'TRANSFORM_INVALID', of('transform.export'))
  await refused({ transform: { module: module(t, 'export default 5'), export: 'x', threads: 3 } }, 'TRANSFORM_INVALID', of('transform.export'))
  await refused({ transform() {}, emits: [unique('nowhere')] }, 'TABLE_NOT_FOUND', of('emits[0]'))
  await refused({ transform() {}, columns: { nothing: { computed: true } } }, 'COLUMN_NOT_FOUND', of('columns.nothing'))
  await refused({ transform() {}, inputs: { a: { type: 'Uint8' } } }, 'CONFIG_INVALID', of('inputs.a.type'))
  await refused({ transform() {}, inputs: { seq: { type: 'UInt8' } } }, 'CONFIG_INVALID', of('inputs.seq'))
})

test('a start that failed can be tried again, also twice at once', { timeout }, async (t) => {
  const table = await servers.table(COLUMNS)
  const topic = unique('topic')
  const file = join(directory(t), 'later.mjs')
  const pipeline = servers.pipeline(t, { routes: [{ topic, table, transform: { module: file, threads: 2 } }] })
  await assert.rejects(pipeline.start(), { code: 'TRANSFORM_INVALID' })
  const other = join(directory(t), 'later.mjs')
  writeFileSync(other, `export default ${DOUBLE}`)
  const mended = servers.pipeline(t, { routes: [{ topic, table, transform: { module: other, threads: 2 } }] })
  const first = mended.start()
  await assert.rejects(mended.start(), { code: 'INVALID_STATE' })
  await first
  assert.equal(mended.state, 'running')
  const publisher = await servers.publisher(t)
  await publisher.publish(topic, { seq: 1 })
  await settled(mended, 1)
  await assertDoubled(table, 1)
})

test('stop() while threads import their modules', { timeout }, async (t) => {
  const table = await servers.table(COLUMNS)
  const slow = module(t, `await new Promise((resolve) => setTimeout(resolve, 200)); export default ${DOUBLE}`)
  const pipeline = servers.pipeline(t, { routes: [{ topic: unique('topic'), table, transform: { module: slow } }] })
  const starting = pipeline.start()
  await pipeline.stop()
  await assert.rejects(starting, { code: 'ABORTED' })
  assert.equal(pipeline.state, 'stopped')
})

test('a start that is aborted ends the threads', { timeout }, async (t) => {
  const table = await servers.table(COLUMNS)
  const slow = module(t, `await new Promise((resolve) => setTimeout(resolve, 200)); export default ${DOUBLE}`)
  const pipeline = servers.pipeline(t, { routes: [{ topic: unique('topic'), table, transform: { module: slow } }] })
  const abort = new AbortController()
  const starting = pipeline.start({ signal: abort.signal })
  abort.abort(new Error('not wanted any more'))
  await assert.rejects(starting, /not wanted any more/)
  assert.equal(pipeline.state, 'idle')
})

for (const [what, transform] of /** @type {[string, (t: any) => any][]} */ ([
  ['a function', () => doubling],
  ['a path', (t) => module(t, `export default ${DOUBLE}`)],
  ['a module by its URL', (t) => ({ module: pathToFileURL(module(t, `export default ${DOUBLE}`)) })],
  ['a module in two threads', (t) => ({ module: module(t, `export const double = ${DOUBLE}`), export: 'double', threads: 2 })],
])) {
  test(`a transform can be ${what}`, { timeout }, async (t) => {
    const { table, send } = await started(t, transform(t), { route: { columns: { doubled: { computed: true } } } })
    await send(500)
    await assertDoubled(table, 500)
  })
}

test('in a configuration file it is a path that counts from the file', { timeout }, async (t) => {
  for (const transform of ['./double.mjs', { module: 'double.mjs', export: 'default' }]) {
    const table = await servers.table(COLUMNS)
    const topic = unique('topic')
    const file = configFile(t, servers.config({ routes: [{ topic, table, columns: { doubled: { computed: true } }, transform }] }))
    writeFileSync(join(file, '..', 'double.mjs'), `export default ${DOUBLE}`)
    const program = startCommand(t, ['run', file])
    await waitFor(() => program.lines.some((line) => JSON.parse(line).msg === 'running') || !program.running(), { timeoutMs: 30_000, message: () => program.errors.join() })
    const publisher = await servers.publisher(t)
    await publisher.flood(10, (i) => ({ topic, payload: JSON.stringify({ seq: i }) }))
    await waitFor(async () => (await servers.count(table)) === 10, { message: '10 rows' })
    program.signal('SIGTERM')
    assert.equal((await program.end()).code, 0)
    await assertDoubled(table, 10)
  }
})

test('a configuration file whose module is missing names the line', { timeout }, async (t) => {
  const table = await servers.table(COLUMNS)
  const file = configFile(t, servers.config({ routes: [{ topic: unique('topic'), table, transform: './none.mjs' }] }))
  const program = startCommand(t, ['run', file])
  const { code } = await program.end()
  assert.notEqual(code, 0)
  const [failure] = program.lines.map((line) => JSON.parse(line)).filter(({ code: its }) => its === 'TRANSFORM_INVALID')
  assert.match(failure?.msg ?? program.lines.join(), /millrace\.json:\d+:\d+: .*none\.mjs/)
})

// The rules for calling JavaScript from other threads.

test('rules 1 and 2: one call at a time, and its arrays are its own until the answer', { timeout }, async (t) => {
  let open = 0
  const faults = []
  const { table, send } = await started(
    t,
    async ({ columns: { seq, doubled }, length }) => {
      open += 1
      if (open > 1) faults.push(`${open} calls at once`)
      const { values } = seq
      const before = values.slice()
      for (let turn = 0; turn < 3; turn++) await new Promise((resolve) => setImmediate(resolve))
      if (String(values) !== String(before)) faults.push('the values changed during the call')
      for (let row = 0; row < length; row++) doubled.values[row] = 2 * values[row]
      open -= 1
    },
    { batch: { maxRows: 20, maxDelayMs: 5 }, route: { columns: { doubled: { computed: true } } } },
  )
  await send(2_000)
  assert.deepEqual(faults, [])
  await assertDoubled(table, 2_000)
})

test('rule 3: whatever is thrown, however late, has a handler', { timeout }, async (t) => {
  const unheard = []
  const listener = (error) => unheard.push(error)
  process.on('unhandledRejection', listener)
  process.on('uncaughtException', listener)
  t.after(() => {
    process.off('unhandledRejection', listener)
    process.off('uncaughtException', listener)
  })
  const ways = [
    () => assert.fail('thrown'),
    () => Promise.reject(new Error('rejected')),
    async () => {
      await new Promise((resolve) => setTimeout(resolve, 5))
      throw new Error('later')
    },
    () => {
      throw null
    },
    () => ({ then: (_, reject) => reject('a text') }),
  ]
  let next = 0
  const { letters, table, send } = await started(t, () => ways[next++ % ways.length]())
  for (let i = 0; i < ways.length; i++) await send(1)
  assert.deepEqual(letters.map(({ code }) => code), ways.map(() => 'TRANSFORM_FAILED'))
  assert.deepEqual(letters.map(({ message }) => message.split(/[:\n]/).at(-1).trim()), ['thrown', 'rejected', 'later', 'null', 'a text'])
  assert.deepEqual(unheard, [])
  assert.equal(await servers.count(table), 0)
})

test('rules 4 and 5: JavaScript that ends during a call does not count as a failure, and the messages come again', { timeout }, async (t) => {
  const table = await servers.table(COLUMNS)
  const topic = unique('topic')
  const config = servers.config({ mqtt: { clientId: unique('client') }, routes: [{ topic, table }] })
  const dead = unique('dead')
  const withLetters = { ...config, deadLetters: { table: dead } }
  const program = startProgram(t, 'transforms.mjs', { config: withLetters, transform: 'never settles', inWorker: true, listens: true })
  await program.line('running')
  const publisher = await servers.publisher(t)
  await publisher.flood(10, (i) => ({ topic, payload: JSON.stringify({ seq: i }) }))
  await program.line('terminated')
  const end = await program.end()
  assert.deepEqual([end.code, end.stderr], [0, ''])
  const next = await servers.started(t, withLetters)
  await settled(next, 10)
  assert.deepEqual(await servers.counted(table), { rows: 10, different: 10 })
  assert.equal(await servers.count(dead), 0)
})

test('rule 6: a transform runs in the context of start()', { timeout }, async (t) => {
  const storage = new AsyncLocalStorage()
  const seen = new Set()
  const { send } = await storage.run('start', () =>
    started(t, async () => {
      seen.add(storage.getStore())
      await null
      seen.add(storage.getStore())
      storage.enterWith('of one call')
    }),
  )
  for (let i = 0; i < 3; i++) await send(1)
  assert.deepEqual([...seen], ['start'])
})

test('rule 7: a pending promise keeps no process alive, and a pipeline with a listener does', { timeout }, async (t) => {
  const table = await servers.table(COLUMNS)
  const topic = unique('topic')
  const config = servers.config({ mqtt: { qos: 0 }, routes: [{ topic, table, columns: { doubled: { computed: true } } }], batch: { maxDelayMs: 3_600_000 } })
  const program = startProgram(t, 'transforms.mjs', { config, transform: 'doubles', messages: 100 })
  await program.line('running')
  const publisher = await servers.publisher(t)
  await publisher.flood(100, (i) => ({ topic, payload: JSON.stringify({ seq: i }) }))
  await program.line('reached its end')
  const end = await program.end()
  assert.deepEqual([end.code, end.stderr], [0, ''])
  await assertDoubled(table, 100)
})

test('rules 8 to 10: a batch whose memory was given away fails, and the next one has other memory', { timeout }, async (t) => {
  let taken
  const { table, letters, send } = await started(
    t,
    ({ columns: { seq, doubled }, length }) => {
      if (taken === undefined) taken = structuredClone(seq.values, { transfer: [seq.values.buffer] })
      else for (let row = 0; row < length; row++) doubled.values[row] = 2 * seq.values[row]
    },
    { route: { columns: { doubled: { computed: true } } } },
  )
  await send(1)
  assert.equal(letters.length, 1)
  assert.match(letters[0].message, /column seq was transferred/)
  await send(100)
  assert.equal(letters.length, 1)
  await assertDoubled(table, 100)
  assert.deepEqual([...taken], [0], 'what was taken is the taker’s')
})

test('rule 11: NULL has a bitmap of its own, and values beyond an array stay outside', { timeout }, async (t) => {
  const { table, send } = await started(
    t,
    ({ columns: { seq, n, f }, length }) => {
      for (let row = 0; row < length; row++) {
        n.values[row] = null
        if (seq.values[row] % 2) n.nulls[row] = 1
        else n.nulls[row] = 0
        f.values[row] = undefined
        f.values[length + row] = 5
      }
    },
    { columns: 'seq UInt32, n Nullable(Float64), f Float64', route: { columns: { n: { computed: true }, f: { computed: true } } } },
  )
  await send(10)
  assert.deepEqual(
    await servers.rows(`SELECT seq, n, isNaN(f) AS nan FROM ${table} ORDER BY seq`),
    Array.from({ length: 10 }, (_, seq) => ({ seq, n: seq % 2 ? null : 0, nan: 1 })),
  )
})

test('rule 12: texts keep their bytes, a BOM too', { timeout }, async (t) => {
  const texts = ['\ufeffBOM', 'Ключ', '', 'plain', '𝄞', 'x'.repeat(10_000), 'a\0b']
  const seen = []
  const { table, topic, publisher, pipeline } = await started(
    t,
    ({ columns: { seq, note }, length }) => {
      for (let row = 0; row < length; row++) {
        seen[seq.get(row)] = note.get(row)
        note.set(row, note.get(row))
      }
    },
    {},
  )
  for (const [seq, note] of texts.entries()) await publisher.publish(topic, { seq, note })
  await settled(pipeline, texts.length)
  assert.deepEqual(seen, texts)
  assert.deepEqual((await servers.rows(`SELECT note FROM ${table} ORDER BY seq`)).map(({ note }) => note), texts)
})

test('a batch is closed after its call, and the metrics show its result', { timeout }, async (t) => {
  let kept
  const { pipeline, send } = await started(t, (batch) => {
    kept = { batch, column: batch.columns.seq, values: batch.columns.seq.values }
    batch.drop(0)
  })
  await send(1)
  assert.throws(() => kept.batch.drop(0), { code: 'INVALID_STATE' })
  assert.throws(() => kept.column.values, { code: 'INVALID_STATE' })
  assert.deepEqual([...kept.values], process.env.NODE_ENV === 'production' ? [0] : [0xa5a5a5a5])
  // The message is settled a moment before its row is counted.
  await waitFor(() => Object.values(pipeline.metrics().transforms)[0].rows === 1, { message: 'one row' })
  const [{ durationMs, ...counts }] = Object.values(pipeline.metrics().transforms)
  assert.deepEqual(counts, { calls: 1, rows: 1, dropped: 1, rejected: 0, emitted: 0, failed: 0, waiting: 0 })
  assert.ok(durationMs.p50 >= 0 && durationMs.max >= durationMs.p50, JSON.stringify(durationMs))
})
