// Columns of the type AggregateFunction: plain values are sent, the INSERT makes states of them, and ClickHouse's own functions
// read the right results from those, each message once.

import assert from 'node:assert/strict'
import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { test } from 'node:test'
import { checkPipeline, describeTables, Pipeline, replayDeadLetters } from '../../index.js'
import { startTestPipeline } from '../../testing.js'
import { externalClickHouse } from '../../tools/servers/index.mjs'
import { startFaultProxy } from '../support/fault-proxy.mjs'
import { Random } from '../support/random.mjs'
import { collect, endPipeline, heard, settled, unique, useServers } from '../support/servers.mjs'

const servers = useServers()
const timeout = 60_000
const AGGREGATING = { engine: 'AggregatingMergeTree', order: 'k', settings: { allow_suspicious_low_cardinality_types: 1 } }

function temporary(t) {
  const dir = mkdtempSync(join(tmpdir(), 'millrace-'))
  t.after(() => rmSync(dir, { recursive: true, force: true }))
  return dir
}

/** Publishes documents through a route to a new table; gives the table and the dead letters. */
async function arrive(t, columns, documents, { pipeline: more = {}, ...route } = /** @type {any} */ ({})) {
  const table = await servers.table(columns, AGGREGATING)
  const topic = unique('topic')
  const pipeline = await servers.started(t, { routes: [{ topic, table, ...route }], ...more })
  const letters = collect(pipeline, 'deadLetters')
  const publisher = await servers.publisher(t, { clients: 1 })
  for (const document of documents) await publisher.publish(topic, document)
  await settled(pipeline, documents.length)
  await heard(pipeline, letters)
  return { table, topic, letters }
}

const FUNCTIONS = `k UInt8, avg AggregateFunction(avg, Float64), seen AggregateFunction(uniq, LowCardinality(String)),
  q AggregateFunction(quantiles(0.5, 0.9), Float32), latest AggregateFunction(argMax, Float64, DateTime), n AggregateFunction(count),
  total AggregateFunction(sum, Nullable(UInt8)), sums AggregateFunction(sumMap, Array(UInt8), Array(UInt64)),
  some AggregateFunction(sumIf, UInt64, UInt8), words AggregateFunction(groupArray(10), String), big AggregateFunction(max, Decimal(38, 6)),
  ids AggregateFunction(uniqExact, UUID), lists AggregateFunction(groupArrayArray, Array(UInt16)), plain SimpleAggregateFunction(max, Float64)`
const RESULTS = `SELECT k, avgMerge(avg), uniqMerge(seen), quantilesMerge(0.5, 0.9)(q), argMaxMerge(latest), toUInt8(countMerge(n)),
  toUInt8(sumMerge(total)), toString(sumMapMerge(sums)), toUInt8(sumIfMerge(some)), arraySort(groupArrayMerge(10)(words)),
  toString(maxMerge(big)), toUInt8(uniqExactMerge(ids)), arraySort(groupArrayArrayMerge(lists)), max(plain)`
const DOCUMENTS = [
  {
    k: 1, avg: 2.5, seen: 'a', q: 1.5, latest: [7.5, '2026-01-01 00:00:00'], total: null, sums: [[1, 2], [10, 20]], some: [5, 1], words: 'x',
    big: '12345678901234567890.123456', ids: '3ac7e3c4-4401-4b8d-9386-a5c902f9202d', lists: [1, 2], plain: 1,
  },
  {
    k: 1, avg: '3.5', seen: 'b', q: 2.5, latest: [8.5, '2025-01-01 00:00:00'], n: true, total: 3, sums: [[2], [5]], some: [6, 0], words: 'y',
    big: 1, ids: '3ac7e3c4-4401-4b8d-9386-a5c902f9202d', lists: [], plain: 5,
  },
  {
    k: 2, avg: 1, seen: 'c', q: 9.5, latest: [1, 1_767_225_600], n: false, total: 4, sums: [[], []], some: [6, 1], words: 'z',
    big: 0, ids: '00000000-0000-0000-0000-000000000001', lists: [65_535], plain: 2,
  },
]
const EXPECTED = [
  [1, 3, '2', [2, 2.4], 7.5, 2, 3, '([1,2],[10,25])', 5, ['x', 'y'], '12345678901234567890.123456', 1, [1, 2], 5],
  [2, 1, '1', [9.5, 9.5], 1, 0, 4, '([],[])', 6, ['z'], '0', 1, [65_535], 2],
]

for (const mode of ['without a spool', 'with a spool']) {
  test(`states of many functions are made of plain values, ${mode}`, { timeout }, async (t) => {
    const more = mode === 'with a spool' ? { spool: { dir: temporary(t), commitMs: 1 }, batch: { maxDelayMs: 500 } } : {}
    const { table, letters } = await arrive(t, FUNCTIONS, DOCUMENTS, { pipeline: more })
    assert.deepEqual(letters.map(({ message }) => message), [])
    const rows = await servers.rows(`${RESULTS} FROM ${table} GROUP BY k ORDER BY k`)
    assert.deepEqual(rows.map((row) => Object.values(row)), EXPECTED)
    const [one] = await servers.rows(`SELECT finalizeAggregation(avg) AS avg FROM ${table} WHERE k = 2`)
    assert.deepEqual(one, { avg: 1 })
  })
}

test('several arguments are a list, or an object whose names `fields` gives', { timeout }, async (t) => {
  const { table, letters } = await arrive(
    t,
    'k UInt8, latest AggregateFunction(argMax, Float64, DateTime64(3))',
    [{ k: 1, v: 1, at: 1_767_225_600_500 }, { k: 1, v: 2, at: '2026-01-01T00:00:00.250Z' }, { k: 1, v: 'high', at: 1 }],
    { columns: { latest: { path: '$', fields: ['v', 'at'] } } },
  )
  assert.deepEqual(letters.map(({ code }) => code), ['TYPE_MISMATCH'])
  assert.deepEqual(await servers.rows(`SELECT argMaxMerge(latest) AS v FROM ${table}`), [{ v: 1 }])
})

const MISSING = `k UInt8, avg AggregateFunction(avg, Float64), latest AggregateFunction(argMax, Float64, DateTime)`
const MERGED = 'avgMerge(avg) AS avg, argMaxMerge(latest) AS latest'

test('a missing value makes a dead letter, a DEFAULT, or the state of no value', { timeout }, async (t) => {
  const documents = [{ k: 1, avg: 4, latest: [3, 1] }, { k: 1, latest: [9, 0] }, { k: 1, avg: 8 }, { k: 1, avg: null, latest: null }]
  const refused = await arrive(t, MISSING, documents)
  assert.deepEqual(refused.letters.map(({ code }) => code), ['FIELD_MISSING', 'FIELD_MISSING', 'FIELD_MISSING'])
  const zero = await arrive(t, MISSING, documents, { missingFields: 'zero' })
  assert.deepEqual(zero.letters, [])
  assert.deepEqual(await servers.rows(`SELECT ${MERGED} FROM ${zero.table} GROUP BY k`), [{ avg: 6, latest: 3 }])
  const given = await arrive(t, MISSING, documents, {
    columns: { avg: { path: 'avg', default: 6 }, latest: { path: 'latest', default: [5, 7] } },
  })
  assert.deepEqual(given.letters, [])
  assert.deepEqual(await servers.rows(`SELECT ${MERGED} FROM ${given.table} GROUP BY k`), [{ avg: 6, latest: 5 }])
  const withDefaults = MISSING.replace('Float64)', "Float64) DEFAULT initializeAggregation('avgState', toFloat64(k))").replace(
    'DateTime)',
    "DateTime) DEFAULT initializeAggregation('argMaxState', toFloat64(k), toDateTime(2))",
  )
  const computed = await arrive(t, withDefaults, documents)
  assert.deepEqual(computed.letters, [])
  assert.deepEqual(await servers.rows(`SELECT ${MERGED} FROM ${computed.table} GROUP BY k`), [{ avg: 3.5, latest: 1 }])
})

test('a column with a DEFAULT and a default of the route, where the type has no NULL', { timeout }, async (t) => {
  const { table, letters } = await arrive(t, 'k UInt8, list Array(UInt8) DEFAULT [1]', [{ k: 1 }, { k: 2, list: [7] }], {
    columns: { list: { path: 'list', default: [5] } },
  })
  assert.deepEqual(letters, [])
  assert.deepEqual(await servers.rows(`SELECT k, list FROM ${table} ORDER BY k`), [{ k: 1, list: [5] }, { k: 2, list: [7] }])
})

for (const mode of ['without a spool', 'with a spool']) {
  // The server behind the proxy must be reached as http://127.0.0.1:<port>.
  test(`lost and wrong answers count nothing twice, ${mode}`, { timeout, skip: externalClickHouse }, async (t) => {
    const seed = Random.seed()
    const proxy = await startFaultProxy(servers.clickhouse.url, new Random(seed))
    t.after(() => proxy.close())
    const table = await servers.table('k UInt8, total AggregateFunction(sum, UInt64), n AggregateFunction(count)', AGGREGATING)
    const sums = await servers.table('k UInt8, total AggregateFunction(sum, UInt64)', AGGREGATING)
    await servers.command(`CREATE MATERIALIZED VIEW ${unique('view')} TO ${sums} AS SELECT k, total FROM ${table}`)
    const topic = unique('topic')
    const pipeline = await servers.started(t, {
      clickhouse: { url: proxy.url, retry: { minMs: 1, maxMs: 20 } },
      batch: { maxRows: 50, maxDelayMs: 20 },
      ...(mode === 'with a spool' && { spool: { dir: temporary(t), commitMs: 1 } }),
      routes: [{ topic, table }],
    })
    Object.assign(proxy, { faults: ['lost answer', 'reset', 'bad gateway', 'empty', 'page'], probability: 0.5 })
    const publisher = await servers.publisher(t)
    const rounds = 20
    for (let round = 0; round < rounds || proxy.played['lost answer'] === 0; round++) {
      assert.ok(round < 10 * rounds, `no answer was lost; SEED=${seed}`)
      await publisher.flood(100, (i) => ({ topic, payload: JSON.stringify({ k: i % 3, total: round * 100 + i }) }))
      await settled(pipeline, (round + 1) * 100, { timeoutMs: 50_000 })
    }
    const count = pipeline.metrics().messages.inserted
    const sum = String((count * (count - 1)) / 2)
    const [of] = await servers.rows(`SELECT sumMerge(total) AS total, toString(countMerge(n)) AS n FROM ${table}`)
    assert.deepEqual(of, { total: sum, n: String(count) }, `SEED=${seed}`)
    assert.deepEqual(await servers.rows(`SELECT sumMerge(total) AS total FROM ${sums}`), [{ total: sum }], `SEED=${seed}`)
  })
}

test('a batch of more partitions than ClickHouse takes is divided', { timeout }, async (t) => {
  const table = unique('table')
  await servers.command(`CREATE TABLE ${table} (day Date, total AggregateFunction(sum, UInt64)) ENGINE = AggregatingMergeTree ORDER BY day
    PARTITION BY day SETTINGS non_replicated_deduplication_window = 1000`)
  const topic = unique('topic')
  const pipeline = await servers.started(t, { batch: { maxRows: 150, maxDelayMs: 1_000 }, routes: [{ topic, table }] })
  const warnings = collect(pipeline, 'warning')
  const publisher = await servers.publisher(t, { clients: 1 })
  await publisher.flood(150, (i) => ({ topic, payload: JSON.stringify({ day: 86_400 * (i + 1), total: i }) }), { qos: 0 })
  await settled(pipeline, 150)
  assert.deepEqual(await servers.rows(`SELECT sumMerge(total) AS total FROM ${table}`), [{ total: '11175' }])
  assert.ok(warnings.some(({ code }) => code === 'BATCH_SPLIT'), JSON.stringify(warnings))
  await servers.command(`DROP TABLE ${table} SYNC`)
})

test('dead letters are replayed once', { timeout }, async (t) => {
  const dir = temporary(t)
  const table = await servers.table('k UInt8, total AggregateFunction(sum, UInt64)', AGGREGATING)
  const topic = unique('topic')
  const pipeline = await servers.started(t, { routes: [{ topic, table }], deadLetters: { dir } })
  const publisher = await servers.publisher(t, { clients: 1 })
  for (const total of ['one', 'two']) await publisher.publish(topic, { k: 1, total })
  await settled(pipeline, 2)
  await pipeline.stop()
  const routes = [{ topic, table, columns: { total: { path: 'total', map: { one: 1, two: 2 } } } }]
  for (let i = 0; i < 2; i++) {
    const { inserted } = await replayDeadLetters(servers.config({ name: 'replay', routes }), { dir })
    assert.equal(inserted, 2)
  }
  assert.deepEqual(await servers.rows(`SELECT sumMerge(total) AS total FROM ${table}`), [{ total: '3' }])
})

test('checks, generated types and the ClickHouse of millrace/testing know the values', { timeout }, async (t) => {
  const table = await servers.table(FUNCTIONS.replace('k UInt8', 'k UInt8, spare AggregateFunction(max, Int8)'), AGGREGATING)
  const routes = [{ topic: unique('topic'), table, missingFields: 'zero' }]
  const report = await checkPipeline(servers.config({ deadLetters: { dir: '.' }, routes }))
  assert.deepEqual(report.findings.filter(({ level }) => level === 'error'), [])
  assert.equal(report.routes[0].insert, true)
  const spare = report.routes[0].columns.find(({ name }) => name === 'spare')
  assert.deepEqual(
    { ...spare },
    { name: 'spare', type: 'AggregateFunction(max, Int8)', defaultKind: '', defaultExpression: '', source: 'field spare', required: false, missing: 'the state of no value' },
  )
  const types = await describeTables(servers.config({ routes: [{ ...routes[0], missingFields: 'reject', transform: (batch) => batch }] }))
  for (const line of [/^  avg: number$/m, /^  latest: \[number, number \| string\]$/m, /^  n\?: boolean \| null$/m, /^  total\?: number \| null$/m, /^  sums: \[number\[\], \(number \| string\)\[\]\]$/m]) {
    assert.match(types, line)
  }
  assert.match(types, /^  avg: ArrayColumn<Float64Array, number, number, null>$/m)

  const columns = { k: 'UInt8', avg: 'AggregateFunction(avg, Float64)', latest: 'AggregateFunction(argMax, Float64, DateTime)', n: 'AggregateFunction(count)' }
  const service = await startTestPipeline({ routes: [{ topic: 'a', table: 't', missingFields: 'zero' }] }, { tables: { t: columns } })
  t.after(() => service.stop())
  await service.publish('a', { k: 1, avg: 2.5, latest: [7.5, '2026-01-01 00:00:00'] })
  await service.publish('a', { k: 2 })
  assert.deepEqual(service.rows('t'), [{ k: 1, avg: 2.5, latest: [7.5, '2026-01-01T00:00:00Z'] }, { k: 2 }])
})

test('a transform reads and writes the values', { timeout }, async (t) => {
  const transform = (batch) => {
    const { avg, total } = batch.columns
    for (let row = 0; row < batch.length; row++) {
      if (avg.get(row) !== null) avg.set(row, avg.get(row) * 2)
      total.set(row, 5)
    }
  }
  const { table, letters } = await arrive(t, 'k UInt8, avg AggregateFunction(avg, Float64), total AggregateFunction(sum, UInt8)', [{ k: 1, avg: 4 }, { k: 1 }, { k: 1, avg: 6 }], {
    missingFields: 'zero',
    columns: { total: { computed: true } },
    transform,
  })
  assert.deepEqual(letters, [])
  assert.deepEqual(await servers.rows(`SELECT avgMerge(avg) AS avg, toUInt8(sumMerge(total)) AS total FROM ${table}`), [{ avg: 10, total: 15 }])
})

test('rows of a program are aggregated', { timeout }, async (t) => {
  const table = await servers.table('k UInt8, avg AggregateFunction(avg, Float64), latest AggregateFunction(argMax, String, UInt64)', AGGREGATING)
  const pipeline = new Pipeline(servers.config({ routes: [{ topic: unique('topic'), table }], tables: [table] }))
  t.after(() => endPipeline(pipeline))
  await pipeline.start()
  await pipeline.insert(table, [{ k: 1, avg: 1, latest: ['a', 1n] }, { k: 1, avg: 2, latest: ['b', 2n ** 63n] }])
  assert.deepEqual(await servers.rows(`SELECT avgMerge(avg) AS avg, argMaxMerge(latest) AS latest FROM ${table}`), [{ avg: 1.5, latest: 'b' }])
})
