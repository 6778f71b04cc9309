// pipeline.insert(): rows of a program go the way of messages, and its promise says when they are safe.

import assert from 'node:assert/strict'
import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { test } from 'node:test'
import { fileURLToPath } from 'node:url'
import { MillraceError, Pipeline, checkPipeline, replayDeadLetters } from '../../index.js'
import { waitFor } from '../../tools/servers/index.mjs'
import { collect, endPipeline, unique, useServers } from '../support/servers.mjs'

const PROGRAM = fileURLToPath(new URL('../support/programs/inserts.mjs', import.meta.url))
const servers = useServers()
const timeout = 60_000

function directory(t) {
  const dir = mkdtempSync(join(tmpdir(), 'millrace-insert-'))
  t.after(() => rmSync(dir, { recursive: true, force: true }))
  return dir
}

const COLUMNS = "seq UInt32, at DateTime64(3, 'UTC'), big UInt64, raw String, tags Array(String), note Nullable(String), kind String DEFAULT 'none'"

/**
 * A started pipeline with one declared table, whose route takes nothing.
 *
 * @param {any} [config] with the `columns` of the table
 */
async function started(t, config = {}) {
  const { columns = COLUMNS, ...rest } = config
  const table = await servers.table(columns)
  const unused = await servers.table('seq UInt32')
  const pipeline = await servers.started(t, { tables: [table], routes: [{ topic: unique('topic'), table: unused }], ...rest })
  return { table, pipeline }
}

const row = (seq) => ({
  seq,
  at: new Date(1_730_000_000_000 + seq),
  big: 2n ** 64n - 1n,
  raw: new Uint8Array([1, 0xff]),
  tags: ['a', 'é'],
  ...(seq % 2 && { note: 'odd', kind: 'given' }),
})

for (const spool of [false, true]) {
  test(`rows of every kind of value, ${spool ? 'synced in the spool' : 'confirmed by ClickHouse'}`, { timeout }, async (t) => {
    const { table, pipeline } = await started(t, spool ? { spool: { dir: directory(t) } } : {})
    assert.equal(await pipeline.insert(table, row(1)), undefined)
    if (!spool) assert.equal(await servers.count(table), 1)
    await Promise.all([pipeline.insert(table, [row(2), row(3)]), pipeline.insert(table, [row(4)]), pipeline.insert(table, [])])
    await pipeline.flush()
    const rows = await servers.rows(`SELECT seq, toString(at) AS at, big, hex(raw) AS raw, tags, note, kind FROM ${table} ORDER BY seq`)
    assert.deepEqual(
      rows,
      [1, 2, 3, 4].map((seq) => ({
        seq,
        at: `2024-10-27 03:33:20.00${seq}`,
        big: '18446744073709551615',
        raw: '01FF',
        tags: ['a', 'é'],
        note: seq % 2 ? 'odd' : null,
        kind: seq % 2 ? 'given' : 'none',
      })),
    )
    const { messages, rows: counts, tables } = pipeline.metrics()
    assert.deepEqual([messages.received, messages.inserted, messages.pending], [0, 0, 0])
    assert.deepEqual([counts.decoded, counts.inserted, tables[table].rows], [4, 4, 4])
  })
}

test('a row at fault is named, and nothing of its call is inserted', { timeout }, async (t) => {
  const { table, pipeline } = await started(t)
  for (const [rows, code, at, column] of [
    [[row(1), { ...row(2), seq: -1 }], 'OUT_OF_RANGE', 1, 'seq'],
    [[row(1), row(2), { ...row(3), seq: 'x' }], 'TYPE_MISMATCH', 2, 'seq'],
    [[row(1), { ...row(2), seq: 1.5 }], 'TYPE_MISMATCH', 1, 'seq'],
    [{ ...row(1), at: new Date(NaN) }, 'TYPE_MISMATCH', 0, 'at'],
    [{ ...row(1), at: 'soon' }, 'TYPE_MISMATCH', 0, 'at'],
    [{ ...row(1), big: 2n ** 64n }, 'OUT_OF_RANGE', 0, 'big'],
    [{ ...row(1), tags: 'a' }, 'TYPE_MISMATCH', 0, 'tags'],
    [{ ...row(1), tags: [() => {}] }, 'TYPE_MISMATCH', 0, 'tags'],
    [[row(1), { ...row(2), note: Symbol('x') }], 'TYPE_MISMATCH', 1, 'note'],
    [[row(1), { ...row(2), extra: 1 }], 'UNKNOWN_FIELD', 1, 'extra'],
    [[row(1), { ...row(2), seq: undefined }], 'FIELD_MISSING', 1, 'seq'],
    [[row(1), 5], 'NOT_AN_OBJECT', 1, undefined],
    [undefined, 'NOT_AN_OBJECT', 0, undefined],
    [[[row(1)]], 'NOT_AN_OBJECT', 0, undefined],
  ]) {
    await assert.rejects(pipeline.insert(table, /** @type {any} */ (rows)), (error) => {
      assert.ok(error instanceof MillraceError, String(error))
      assert.deepEqual([error.code, error.row, error.column], [code, at, column], error.message)
      assert.ok(error.message.startsWith(`row ${at}: `), error.message)
      return true
    })
  }
  await pipeline.insert(table, row(9))
  assert.deepEqual(await servers.rows(`SELECT seq FROM ${table}`), [{ seq: 9 }])
  assert.equal(pipeline.metrics().messages.deadLettered, 0)
})

test('where rows cannot go there is a code', { timeout }, async (t) => {
  const table = await servers.table('seq UInt32')
  const config = servers.config({ tables: [table], routes: [{ topic: unique('topic'), table }] })
  const pipeline = new Pipeline(config)
  t.after(() => endPipeline(pipeline))
  await assert.rejects(pipeline.insert(table, { seq: 1 }), { code: 'INVALID_STATE', message: /insert\(\)/ })
  await pipeline.start()
  await assert.rejects(pipeline.insert('elsewhere', { seq: 1 }), { code: 'TABLE_NOT_DECLARED', message: /elsewhere/ })
  await assert.rejects(pipeline.insert(/** @type {any} */ (5), { seq: 1 }), { code: 'CONFIG_INVALID', path: 'table' })
  pipeline.pause()
  await pipeline.insert(table, { seq: 1 })
  await pipeline.stop()
  await assert.rejects(pipeline.insert(table, { seq: 2 }), { code: 'INVALID_STATE' })
  assert.deepEqual(await servers.rows(`SELECT seq FROM ${table}`), [{ seq: 1 }])

  // A route's table is not declared by that.
  const { pipeline: other } = await started(t)
  await assert.rejects(other.insert(table, { seq: 1 }), { code: 'TABLE_NOT_DECLARED' })
  const none = await servers.started(t, { routes: [{ topic: unique('topic'), table }] })
  await assert.rejects(none.insert(table, { seq: 1 }), { code: 'TABLE_NOT_DECLARED' })
  const missing = servers.pipeline(t, { tables: [table, 'nowhere'], routes: [{ topic: unique('topic'), table }] })
  await assert.rejects(missing.start(), { code: 'TABLE_NOT_FOUND', path: 'tables[1]' })
})

test('rows that ClickHouse refuses reject their call alone, and are dead letters', { timeout }, async (t) => {
  const { table, pipeline } = await started(t, { columns: 'seq UInt32, CONSTRAINT small CHECK seq < 100', batch: { maxDelayMs: 300 } })
  const letters = collect(pipeline, 'deadLetters')
  const calls = [[{ seq: 1 }], [{ seq: 2 }, { seq: 100 }], [{ seq: 3 }]].map((rows) => pipeline.insert(table, rows))
  const ended = await Promise.allSettled(calls)
  assert.deepEqual(ended.map(({ status }) => status), ['fulfilled', 'rejected', 'fulfilled'])
  assert.equal(/** @type {any} */ (ended[1]).reason.code, 'REJECTED_BY_CLICKHOUSE')
  assert.deepEqual(await servers.rows(`SELECT seq FROM ${table} ORDER BY seq`), [{ seq: 1 }, { seq: 3 }])
  await waitFor(() => letters.length === 1, { message: () => 'a dead letter' })
  assert.deepEqual([letters[0].code, letters[0].topic], ['REJECTED_BY_CLICKHOUSE', `$rows/${table}`])
})

test('a dead letter of rows is replayed into its table', { timeout }, async (t) => {
  const { table, pipeline } = await started(t, { columns: 'seq UInt32, CONSTRAINT small CHECK seq < 100' })
  const letters = collect(pipeline, 'deadLetters')
  await assert.rejects(pipeline.insert(table, [{ seq: 100 }, { seq: 101 }]), { code: 'REJECTED_BY_CLICKHOUSE' })
  await waitFor(() => letters.length === 1, { message: () => 'a dead letter' })
  await servers.command(`ALTER TABLE ${table} DROP CONSTRAINT small`)
  const config = servers.config({ tables: [table], routes: [{ topic: unique('topic'), table }] })
  const { read, inserted, rows } = await replayDeadLetters(config, letters)
  assert.deepEqual({ read, inserted, rows }, { read: 1, inserted: 1, rows: 2 })
  assert.deepEqual(await servers.rows(`SELECT seq FROM ${table} ORDER BY seq`), [{ seq: 100 }, { seq: 101 }])
})

test('a check looks at declared tables', { timeout }, async () => {
  const table = await servers.table('seq UInt32')
  const { findings } = await checkPipeline(servers.config({ tables: [table, 'nowhere'], routes: [{ topic: unique('topic'), table }] }))
  assert.ok(findings.some(({ code, path }) => code === 'TABLE_NOT_FOUND' && path === 'tables[1]'), JSON.stringify(findings))
  assert.ok(!findings.some(({ path }) => path?.startsWith('tables[0]')), JSON.stringify(findings))
})

test('rows wait for a table that takes nothing, and stop() settles or rejects them', { timeout }, async (t) => {
  const { table, pipeline } = await started(t, { clickhouse: { retry: { minMs: 20, maxMs: 100 } } })
  const structure = (await servers.rows(`SHOW CREATE TABLE ${table}`))[0].statement
  await servers.command(`DROP TABLE ${table} SYNC`)
  let isSettled = false
  const call = pipeline.insert(table, row(1)).finally(() => (isSettled = true))
  await waitFor(() => pipeline.metrics().inserts.retried > 0, { message: () => 'an attempt' })
  assert.equal(isSettled, false)
  await servers.command(structure)
  await call
  assert.equal(await servers.count(table), 1)
  // Rows under way when it stops are inserted.
  const last = pipeline.insert(table, [row(2), row(3)])
  await pipeline.stop()
  await last
  assert.equal(await servers.count(table), 3)

  const { table: gone, pipeline: hurried } = await started(t, { clickhouse: { retry: { minMs: 20, maxMs: 100 } } })
  await servers.command(`DROP TABLE ${gone} SYNC`)
  const left = assert.rejects(hurried.insert(gone, row(1)), { code: 'ROWS_UNCONFIRMED' })
  await waitFor(() => hurried.metrics().inserts.retried > 0, { message: () => 'an attempt' })
  await hurried.stop({ timeoutMs: 200 }).catch(({ code }) => assert.equal(code, 'STOP_TIMEOUT'))
  await left
})

test('synced rows are inserted after the process is gone', { timeout }, async (t) => {
  const dir = directory(t)
  const { table, pipeline } = await started(t, { spool: { dir }, clickhouse: { retry: { minMs: 20, maxMs: 100 } } })
  const structure = (await servers.rows(`SHOW CREATE TABLE ${table}`))[0].statement
  await servers.command(`DROP TABLE ${table} SYNC`)
  for (let seq = 1; seq <= 5; seq++) await pipeline.insert(table, row(seq))
  assert.equal((await pipeline.stop()).state, 'stopped')
  await servers.command(structure)
  const again = await servers.started(t, {
    spool: { dir },
    tables: [table],
    routes: [{ topic: unique('topic'), table: await servers.table('seq UInt32') }],
  })
  await again.flush()
  assert.deepEqual(await servers.counted(table), { rows: 5, different: 5 })
})

test('more than memory holds waits for room', { timeout }, async (t) => {
  const { table, pipeline } = await started(t, { columns: 'seq UInt32, text String', memory: { maxBytes: 8 << 20 } })
  const text = 'x'.repeat(100_000)
  const calls = Array.from({ length: 200 }, (_, seq) => pipeline.insert(table, { seq, text }))
  let most = 0
  const timer = setInterval(() => (most = Math.max(most, pipeline.metrics().memoryBytes)), 2)
  await Promise.all(calls)
  clearInterval(timer)
  assert.deepEqual(await servers.counted(table), { rows: 200, different: 200 })
  assert.ok(most > 0 && most < 12 << 20, `${most} bytes`)
})

test('a call has at most 100,000 rows', { timeout }, async (t) => {
  const { table, pipeline } = await started(t, { columns: 'seq UInt32' })
  const rows = Array.from({ length: 100_001 }, (_, seq) => ({ seq }))
  await assert.rejects(pipeline.insert(table, rows), { code: 'OUT_OF_RANGE', row: 100_000 })
  await pipeline.insert(table, rows.slice(1))
  assert.equal(await servers.count(table), 100_000)
})

test('kill -9: with a spool, what had resolved is in the table, once', { timeout }, async (t) => {
  const table = await servers.table('number UInt64')
  const config = servers.config({
    tables: [table],
    routes: [{ topic: unique('topic'), table }],
    spool: { dir: directory(t), commitMs: 1 },
    batch: { maxDelayMs: 30 },
  })
  const safe = []
  for (let life = 0; life < 8; life++) {
    const child = spawn(process.execPath, [PROGRAM, JSON.stringify(config), String(life * 1_000_000)], { stdio: ['ignore', 'pipe', 'inherit'] })
    let text = ''
    child.stdout.on('data', (bytes) => (text += bytes))
    const ended = once(child, 'close')
    // Each life does a little more before it ends.
    await waitFor(() => text.length > 200 * (life + 1), { message: () => `numbers of life ${life}` })
    child.kill('SIGKILL')
    await ended
    // A line may have been torn.
    safe.push(...text.slice(0, text.lastIndexOf('\n')).split('\n').map(Number))
  }
  const last = await servers.started(t, config)
  await last.flush()
  const rows = await servers.rows(`SELECT number, count() AS times FROM ${table} GROUP BY number`)
  const times = new Map(rows.map(({ number, times }) => [Number(number), Number(times)]))
  assert.ok(safe.length > 100)
  assert.deepEqual(safe.filter((number) => !times.has(number)), [], 'lost')
  assert.deepEqual([...times].filter(([, count]) => count > 1), [], 'doubled')
})
