// Transforms on real servers: ClickHouse has the rows that they write and emit, without those that they
// drop and reject; an error affects no other batch.

import assert from 'node:assert/strict'
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { after, test } from 'node:test'
import { setFlagsFromString } from 'node:v8'
import { runInNewContext } from 'node:vm'
import { replayDeadLetters } from '../../index.js'
import { waitFor } from '../../tools/servers/index.mjs'
import { assertLedger, watchLedger } from '../support/ledger.mjs'
import { collect, heard, received, settled, unique, useServers } from '../support/servers.mjs'

const servers = useServers()
const timeout = 120_000

const folder = mkdtempSync(join(tmpdir(), 'millrace-transform-'))
after(() => rmSync(folder, { recursive: true, force: true }))

const POSITIONS = `seq UInt32, driver_id LowCardinality(String), lat Float64, lng Float64, speed Float64,
  speed_kmh Float64, zone Nullable(String), ts DateTime64(3, 'UTC')`
const ALERTS = `driver_id String, kind LowCardinality(String), value Float64, ts DateTime64(3, 'UTC')`

function collectGarbage() {
  const { Bun } = /** @type {any} */ (globalThis)
  if (Bun) return Bun.gc(true)
  setFlagsFromString('--expose-gc')
  runInNewContext('gc')()
}

/** A table of a number, for transforms that do not look at the rest. */
const SEQ = 'seq UInt32, note Nullable(String)'

/** A module in a file of its own. */
function module(text) {
  const file = join(folder, `${unique('module')}.mjs`)
  writeFileSync(file, text)
  return file
}

/** The number-th message of the contract's example. */
function message(prefix, number) {
  const payload = {
    seq: number,
    lat: number / 1000,
    lng: -number / 1000,
    // m/s: 0 to 80, which is up to 288 km/h.
    speed: number % 81,
    // One in ten is too inaccurate, one in ten does not say.
    gps: number % 10 === 9 ? undefined : { acc: number % 10 === 0 ? 150 : 5.5 },
    ts: 1_730_000_000_000 + number,
  }
  return { topic: `${prefix}/driver-${number % 7}/position`, payload: JSON.stringify(payload) }
}

const zoneOf = (lat) => (lat < 1 ? 'south' : null)

/** The example of docs/transform.md. */
const example = (prefix, table, alerts) => ({
  topic: `${prefix}/{driver_id}/position`,
  table,
  columns: { speed_kmh: { computed: true }, zone: { computed: true } },
  inputs: { accuracy: { path: 'gps.acc', type: 'Float32', default: 0 } },
  emits: [alerts],
  transform(batch) {
    const speed = batch.columns.speed.values
    const kmh = batch.columns.speed_kmh.values
    const { accuracy, zone, driver_id } = batch.columns
    for (let row = 0; row < batch.length; row++) {
      if (accuracy.values[row] > 100) {
        batch.drop(row)
        continue
      }
      kmh[row] = speed[row] * 3.6
      if (kmh[row] > 250) {
        batch.reject(row, 'faster than any truck')
        continue
      }
      zone.set(row, zoneOf(batch.columns.lat.values[row]))
      if (kmh[row] > 90) {
        batch.emit(alerts, { driver_id: driver_id.get(row), kind: 'speeding', value: kmh[row], ts: batch.columns.ts.get(row) })
      }
    }
  },
})

/** The rows that the example makes of messages 0 to count - 1. */
function expected(count) {
  const all = Array.from({ length: count }, (_, seq) => ({ seq, kmh: (seq % 81) * 3.6, isInaccurate: seq % 10 === 0 }))
  const accurate = all.filter(({ isInaccurate }) => !isInaccurate)
  const good = accurate.filter(({ kmh }) => kmh <= 250)
  return { dropped: count - accurate.length, rejected: accurate.length - good.length, good, alerts: good.filter(({ kmh }) => kmh > 90) }
}

/** Asserts that the tables have the example's rows of `count` messages, each once. */
async function assertExample(table, alerts, count) {
  const { good, alerts: fast } = expected(count)
  const rows = await servers.rows(`SELECT seq, driver_id, speed_kmh, zone, toUnixTimestamp64Milli(ts) AS ms FROM ${table} ORDER BY seq`)
  assert.deepEqual(
    rows,
    good.map(({ seq, kmh }) => ({ seq, driver_id: `driver-${seq % 7}`, speed_kmh: kmh, zone: zoneOf(seq / 1000), ms: String(1_730_000_000_000 + seq) })),
  )
  const emitted = await servers.rows(`SELECT driver_id, kind, value, toUnixTimestamp64Milli(ts) AS ms FROM ${alerts} ORDER BY ts`)
  assert.deepEqual(
    emitted,
    fast.map(({ seq, kmh }) => ({ driver_id: `driver-${seq % 7}`, kind: 'speeding', value: kmh, ms: String(1_730_000_000_000 + seq) })),
  )
}

for (const spool of [false, true]) {
  test(`the complete example${spool ? ', with a spool' : ''}`, { timeout }, async (t) => {
    const count = 20_000
    const table = await servers.table(POSITIONS)
    const alerts = await servers.table(ALERTS)
    const prefix = unique('topic')
    const dir = spool ? mkdtempSync(join(folder, 'spool-')) : undefined
    const pipeline = servers.pipeline(t, { routes: [example(prefix, table, alerts)], ...(dir && { spool: { dir } }) })
    const letters = collect(pipeline, 'deadLetters')
    const warnings = collect(pipeline, 'warning')
    const ledger = watchLedger(pipeline)
    await pipeline.start()
    const publisher = await servers.publisher(t)
    await publisher.flood(count, (i) => message(prefix, i))
    await settled(pipeline, count, { warnings })
    await heard(pipeline, letters)
    ledger.close()

    const { dropped, rejected, good, alerts: fast } = expected(count)
    await assertExample(table, alerts, count)
    const { messages, tables, transforms } = pipeline.metrics()
    assert.deepEqual(
      { inserted: messages.inserted, deadLettered: messages.deadLettered, dropped: messages.dropped, pending: messages.pending },
      { inserted: good.length, deadLettered: rejected, dropped, pending: 0 },
    )
    const rowsOf = (name) => Object.entries(tables).find(([full]) => full.endsWith(name))?.[1].rows
    assert.equal(rowsOf(table), good.length)
    assert.equal(rowsOf(alerts), fast.length)
    assert.equal(letters.length, rejected)
    for (const letter of letters) {
      assert.equal(letter.code, 'REJECTED_BY_TRANSFORM')
      assert.match(letter.message, /faster than any truck/)
      assert.ok(JSON.parse(letter.payload).speed * 3.6 > 250)
    }
    const [its] = Object.values(transforms)
    assert.equal(its.rows, count)
    assert.equal(its.dropped, dropped)
    assert.equal(its.rejected, rejected)
    assert.equal(its.emitted, fast.length)
    assert.equal(its.failed, 0)
    assert.ok(its.calls > 0)
    assert.deepEqual(warnings.filter(({ code }) => code.startsWith('TRANSFORM')), [])
  })
}

test('a batch whose transform throws becomes dead letters, and those before and after are inserted', { timeout }, async (t) => {
  const table = await servers.table(SEQ)
  const topic = unique('topic')
  const pipeline = servers.pipeline(t, {
    routes: [
      {
        topic,
        table,
        transform({ columns: { seq, note } }) {
          note.set(0, 'written before it failed')
          if ([...seq.values].some((its) => its >= 100 && its < 200)) throw new Error('not the second hundred')
        },
      },
    ],
  })
  const letters = collect(pipeline, 'deadLetters')
  const warnings = collect(pipeline, 'warning')
  await pipeline.start()
  const publisher = await servers.publisher(t)
  for (const part of [0, 1, 2]) {
    await publisher.flood(100, (i) => ({ topic, payload: JSON.stringify({ seq: 100 * part + i }) }))
    await settled(pipeline, 100 * (part + 1), { warnings })
  }
  await heard(pipeline, letters)
  const rows = await servers.rows(`SELECT seq FROM ${table} ORDER BY seq`)
  assert.deepEqual(rows.map(({ seq }) => seq), Array.from({ length: 200 }, (_, i) => (i < 100 ? i : i + 100)))
  assert.equal(letters.length, 100)
  for (const { code, message: text, topic: its } of letters) {
    assert.equal(code, 'TRANSFORM_FAILED')
    assert.match(text, /not the second hundred/)
    assert.equal(its, topic)
  }
  const failures = warnings.filter(({ code }) => code === 'TRANSFORM_FAILED')
  assert.ok(failures.length >= 1, JSON.stringify(warnings))
  assert.match(failures[0].stack, /not the second hundred.*transform\.test/s)
  assertLedger(pipeline.metrics())
})

test('warnings about failures come at most once a second', { timeout }, async (t) => {
  const table = await servers.table(SEQ)
  const topic = unique('topic')
  const pipeline = servers.pipeline(t, {
    batch: { maxRows: 10, maxDelayMs: 10 },
    routes: [{ topic, table, transform: () => assert.fail('each of them') }],
  })
  const warnings = collect(pipeline, 'warning')
  await pipeline.start()
  const start = performance.now()
  const publisher = await servers.publisher(t)
  await publisher.flood(2_000, (i) => ({ topic, payload: JSON.stringify({ seq: i }) }))
  await settled(pipeline, 2_000, { warnings })
  const seconds = (performance.now() - start) / 1_000
  const count = warnings.filter(({ code }) => code === 'TRANSFORM_FAILED').length
  assert.ok(count >= 1 && count <= Math.floor(seconds) + 1, `${count} warnings in ${seconds} s`)
  assert.equal(pipeline.metrics().messages.deadLettered, 2_000)
})

test('a value that ClickHouse does not have fails the batch: a number outside of the enum', { timeout }, async (t) => {
  const table = await servers.table(`seq UInt32, state Enum8('idle' = 1, 'moving' = 2)`)
  const topic = unique('topic')
  const pipeline = await servers.started(t, {
    routes: [{ topic, table, columns: { state: { computed: true } }, transform: ({ columns: { state } }) => void state.values.fill(9) }],
  })
  const letters = collect(pipeline, 'deadLetters')
  const publisher = await servers.publisher(t)
  await publisher.publish(topic, { seq: 1 })
  await settled(pipeline, 1)
  await heard(pipeline, letters)
  assert.equal(letters[0].code, 'TRANSFORM_FAILED')
  assert.match(letters[0].message, /state/)
})

test('dead letters are replayed through a corrected transform', { timeout }, async (t) => {
  const table = await servers.table(SEQ)
  const topic = unique('topic')
  let isMended = false
  const routes = [
    {
      topic,
      table,
      transform({ columns: { note }, length }) {
        if (!isMended) throw new Error('not mended yet')
        for (let row = 0; row < length; row++) note.set(row, 'mended')
      },
    },
  ]
  const pipeline = servers.pipeline(t, { routes })
  const letters = collect(pipeline, 'deadLetters')
  await pipeline.start()
  const publisher = await servers.publisher(t)
  await publisher.flood(500, (i) => ({ topic, payload: JSON.stringify({ seq: i }) }))
  await settled(pipeline, 500)
  await heard(pipeline, letters)
  assert.equal(letters.length, 500)
  isMended = true
  const report = await replayDeadLetters(servers.config({ routes }), letters)
  assert.equal(report.inserted, 500)
  assert.deepEqual(await servers.rows(`SELECT count() AS rows, uniqExact(seq) AS different, uniqExact(note) AS notes, any(note) AS text FROM ${table}`), [
    { rows: '500', different: '500', notes: '1', text: 'mended' },
  ])
})

test('an asynchronous transform: one call at a time, in order, and meanwhile other routes go on', { timeout }, async (t) => {
  const table = await servers.table(SEQ)
  const other = await servers.table(SEQ)
  const topic = unique('topic')
  const otherTopic = unique('topic')
  let [open, most] = [0, 0]
  const seen = []
  let release = () => {}
  const released = new Promise((resolve) => (release = () => resolve(undefined)))
  const pipeline = await servers.started(t, {
    batch: { maxRows: 100 },
    routes: [
      {
        topic,
        table,
        async transform(batch) {
          open += 1
          most = Math.max(most, open)
          seen.push(...batch.columns.seq.values)
          await released
          for (let row = 0; row < batch.length; row++) batch.columns.note.set(row, `${batch.columns.seq.get(row)}`)
          open -= 1
        },
      },
      { topic: otherTopic, table: other },
    ],
  })
  const publisher = await servers.publisher(t, { clients: 1 })
  const flood = (to, from, count) => publisher.flood(count, (i) => ({ topic: to, payload: JSON.stringify({ seq: from + i }) }), { qos: 0 })
  await flood(topic, 0, 10)
  await waitFor(() => open === 1, { message: 'a call' })
  await flood(otherTopic, 0, 100)
  await waitFor(async () => (await servers.count(other)) === 100, { message: 'the other route, while the transform waits' })
  assert.equal(await servers.count(table), 0)
  const flooding = flood(topic, 10, 990)
  release()
  await flooding
  await settled(pipeline, 1_100)
  assert.equal(most, 1)
  assert.deepEqual(seen, Array.from({ length: 1_000 }, (_, i) => i))
  assert.deepEqual(await servers.rows(`SELECT count() AS rows, countIf(note = toString(seq)) AS right FROM ${table}`), [{ rows: '1000', right: '1000' }])
})

test('a slow transform is back-pressure, with the warning TRANSFORM_SLOW, and nothing is lost', { timeout }, async (t) => {
  const table = await servers.table(SEQ)
  const topic = unique('topic')
  let release = () => {}
  const released = new Promise((resolve) => (release = () => resolve(undefined)))
  const pipeline = servers.pipeline(t, {
    mqtt: { clientId: unique('client') },
    batch: { maxRows: 50, maxDelayMs: 20 },
    routes: [{ topic, table, transformTimeoutMs: 100, transform: () => released }],
  })
  const warnings = collect(pipeline, 'warning')
  await pipeline.start()
  const publisher = await servers.publisher(t)
  const flooded = publisher.flood(5_000, (i) => ({ topic, payload: JSON.stringify({ seq: i }) }))
  await waitFor(() => warnings.some(({ code }) => code === 'TRANSFORM_SLOW'), { message: () => JSON.stringify(warnings) })
  const [slow] = warnings.filter(({ code }) => code === 'TRANSFORM_SLOW')
  assert.equal(slow.route, 0)
  assert.ok(slow.message.includes(` ${slow.elapsedMs} ms`), slow.message)
  const [its] = Object.values(pipeline.metrics().transforms)
  assert.ok(its.waiting <= 2, `${its.waiting} batches wait`)
  assert.equal(its.calls - its.failed, 1, 'one call is under way')
  release()
  await flooded
  await settled(pipeline, 5_000)
  assert.deepEqual(await servers.counted(table), { rows: 5_000, different: 5_000 })
  assert.equal(warnings.filter(({ code }) => code === 'TRANSFORM_SLOW').length, 1, 'once for a call')
})

test('a promise that never settles does not hold up stop(), and its messages come again', { timeout }, async (t) => {
  const table = await servers.table(SEQ)
  const topic = unique('topic')
  const clientId = unique('client')
  let signal
  const stuck = servers.pipeline(t, {
    mqtt: { clientId },
    routes: [
      {
        topic,
        table,
        transform(batch) {
          signal = batch.signal
          return new Promise(() => {})
        },
      },
    ],
  })
  await stuck.start()
  const publisher = await servers.publisher(t)
  await publisher.flood(100, (i) => ({ topic, payload: JSON.stringify({ seq: i }) }))
  await waitFor(() => signal, { message: 'a call' })
  assert.equal(signal.aborted, false)
  // Nothing else holds the promise: it must not be collected with the batch in it.
  for (let i = 0; i < 5; i++) {
    collectGarbage()
    await new Promise((resolve) => setTimeout(resolve, 10))
  }
  await assert.rejects(stuck.stop({ timeoutMs: 200 }), { code: 'STOP_TIMEOUT' })
  assert.equal(signal.aborted, true)
  assert.equal(signal.reason.code, 'STOP_TIMEOUT')
  assert.equal(stuck.state, 'stopped')
  const next = await servers.started(t, { mqtt: { clientId }, routes: [{ topic, table }] })
  await received(next, 100)
  await settled(next, 100)
  assert.deepEqual(await servers.counted(table), { rows: 100, different: 100 })
})

test('a module in threads: several batches at once, each complete', { timeout }, async (t) => {
  const table = await servers.table('seq UInt32, thread UInt32, doubled UInt32, word String')
  const topic = unique('topic')
  const transform = {
    // Each thread waits in its first call until all three are in one.
    module: module(`import { readdirSync, writeFileSync } from 'node:fs'
      import { threadId, workerData } from 'node:worker_threads'
      export function double({ columns: { seq, thread, doubled, word }, length }) {
        writeFileSync(workerData.folder + '/' + threadId, '')
        const until = Date.now() + 20_000
        while (readdirSync(workerData.folder).length < 3 && Date.now() < until);
        thread.values.fill(threadId)
        for (let row = 0; row < length; row++) {
          doubled.values[row] = seq.values[row] * workerData.factor
          word.set(row, 'Ключ ' + seq.get(row))
        }
      }`),
    export: 'double',
    threads: 3,
    data: { factor: 2, folder: mkdtempSync(join(folder, 'threads-')) },
  }
  const computed = { computed: true }
  const pipeline = await servers.started(t, {
    batch: { maxRows: 100 },
    routes: [{ topic, table, columns: { thread: computed, doubled: computed, word: computed }, transform }],
  })
  const publisher = await servers.publisher(t)
  await publisher.flood(5_000, (i) => ({ topic, payload: JSON.stringify({ seq: i }) }), { qos: 0 })
  await settled(pipeline, 5_000)
  assert.deepEqual(
    await servers.rows(`SELECT count() AS rows, uniqExact(seq) AS different, uniqExact(thread) AS threads, countIf(doubled != 2 * seq) AS wrong,
      countIf(word != concat('Ключ ', toString(seq))) AS wrongWords FROM ${table}`),
    [{ rows: '5000', different: '5000', threads: '3', wrong: '0', wrongWords: '0' }],
  )
})

test('a thread that dies in a call is started again, and nothing is lost', { timeout }, async (t) => {
  const table = await servers.table(SEQ)
  const topic = unique('topic')
  const flag = join(folder, unique('flag'))
  const pipeline = servers.pipeline(t, {
    batch: { maxRows: 100 },
    routes: [
      {
        topic,
        table,
        transform: {
          module: module(`import { existsSync, writeFileSync } from 'node:fs'
            export default ({ columns: { note }, length }) => {
              if (!existsSync(${JSON.stringify(flag)})) {
                writeFileSync(${JSON.stringify(flag)}, '')
                process.exit(3)
              }
              for (let row = 0; row < length; row++) note.set(row, 'the second thread')
            }`),
        },
      },
    ],
  })
  const warnings = collect(pipeline, 'warning')
  await pipeline.start()
  const publisher = await servers.publisher(t)
  await publisher.flood(1_000, (i) => ({ topic, payload: JSON.stringify({ seq: i }) }))
  await settled(pipeline, 1_000, { warnings })
  assert.deepEqual(await servers.counted(table), { rows: 1_000, different: 1_000 })
  assert.deepEqual(await servers.rows(`SELECT DISTINCT note FROM ${table}`), [{ note: 'the second thread' }])
  const [ended] = warnings.filter(({ code }) => code === 'TRANSFORM_WORKER_ENDED')
  assert.equal(ended?.route, 0, JSON.stringify(warnings))
  const counted = warnings.filter(({ code }) => code === 'TRANSFORM_WORKER_ENDED').length
  assert.equal(pipeline.metrics().warnings.TRANSFORM_WORKER_ENDED, counted, 'a warning of JavaScript counts as well')
})

test('a message that ends every thread becomes a dead letter', { timeout }, async (t) => {
  const table = await servers.table(SEQ)
  const topic = unique('topic')
  const pipeline = servers.pipeline(t, {
    batch: { maxRows: 1 },
    routes: [
      {
        topic,
        table,
        transform: { module: module(`export default ({ columns: { seq } }) => { if (seq.values.includes(13)) process.exit(1) }`) },
      },
    ],
  })
  const letters = collect(pipeline, 'deadLetters')
  const warnings = collect(pipeline, 'warning')
  await pipeline.start()
  const publisher = await servers.publisher(t, { clients: 1 })
  await publisher.flood(20, (i) => ({ topic, payload: JSON.stringify({ seq: i }) }))
  await settled(pipeline, 20, { warnings })
  await heard(pipeline, letters)
  assert.ok(letters.some(({ payload }) => String(payload) === '{"seq":13}'), JSON.stringify(letters))
  for (const { code } of letters) assert.equal(code, 'TRANSFORM_FAILED')
  assert.equal(await servers.count(table), 20 - letters.length)
})

const ALL = {
  bool: ['Bool', true, false],
  i8: ['Int8', -5, -128],
  u8: ['UInt8', 5, 255],
  i16: ['Int16', -300, 300],
  u16: ['UInt16', 300, 65_535],
  i32: ['Int32', -70_000, 70_000],
  u32: ['UInt32', 70_000, 4_294_967_295],
  i64: ['Int64', '-9007199254740993', 9007199254740993n],
  u64: ['UInt64', '18446744073709551615', 1n],
  i128: ['Int128', '-170141183460469231731687303715884105728', 99999999999999999999n],
  f32: ['Float32', 1.5, -2.25],
  f64: ['Float64', 0.1, -1e300],
  decimal: ['Decimal(18, 4)', '1.25', '99999999.9999'],
  text: ['String', 'Ключ', '𝄞'],
  low: ['LowCardinality(String)', 'a', 'b'],
  fixed: ['FixedString(3)', 'abc', 'xyz'],
  uuid: ['UUID', '01234567-89ab-cdef-0123-456789abcdef', 'ffffffff-89ab-cdef-0123-456789abcdef'],
  ip4: ['IPv4', '10.0.0.1', '255.255.255.255'],
  ip6: ['IPv6', '::1', '2001:db8::1'],
  name: ["Enum8('idle' = -1, 'moving' = 5)", 'idle', 'moving'],
  wide: ["Enum16('idle' = -1000, 'moving' = 5)", 'idle', 'moving'],
  day: ['Date', '2024-02-29', new Date('2026-11-30')],
  day32: ['Date32', '1950-02-28', new Date('2299-12-31')],
  second: ["DateTime('UTC')", '2024-02-29T12:00:01Z', new Date('2026-11-30T01:02:03Z')],
  milli: ["DateTime64(3, 'UTC')", '2024-02-29T12:00:01.123Z', new Date('2026-11-30T01:02:03.004Z')],
  nano: ["DateTime64(9, 'UTC')", '2024-02-29T12:00:01.123456789Z', new Date('2026-11-30T01:02:03.004Z')],
  list: ['Array(UInt64)', [1, 2], [18446744073709551615n]],
  map: ['Map(String, Int64)', { a: 1 }, { b: -5n }],
  tuple: ['Tuple(id UInt64, name String)', { id: 1, name: 'x' }, { id: 2n, name: 'y' }],
}

test('each type is read as it came, and written as it was set', { timeout }, async (t) => {
  const names = Object.keys(ALL)
  const own = names.filter((name) => !/^(list|map|tuple)$/.test(name))
  const columns = [
    ...names.map((name) => `${name} ${ALL[name][0]}`),
    ...own.map((name) => `${name}_n ${name === 'low' ? 'LowCardinality(Nullable(String))' : `Nullable(${ALL[name][0]})`}`),
  ]
  const table = await servers.table(`seq UInt32, ${columns.join(', ')}`)
  const topic = unique('topic')
  const seen = []
  const faults = []
  const pipeline = await servers.started(t, {
    routes: [
      {
        topic,
        table,
        transform({ columns, length }) {
          for (let row = 0; row < length; row++) {
            const seq = columns.seq.get(row)
            const kept = {}
            for (const [name, column] of Object.entries(columns)) {
              if (name === 'seq') continue
              kept[name] = column.get(row)
              const value = ALL[name.replace(/_n$/, '')][2]
              if (seq === 1) column.set(row, value)
              if (seq === 2 && name.endsWith('_n')) column.set(row, null)
              if (seq === 1) {
                try {
                  assert.deepEqual(column.get(row), value, `${name} after it was set`)
                } catch (error) {
                  faults.push(error)
                }
              }
            }
            seen[seq] = kept
          }
        },
      },
    ],
  })
  const letters = collect(pipeline, 'deadLetters')
  const publisher = await servers.publisher(t, { clients: 1 })
  const given = Object.fromEntries(names.flatMap((name) => [[name, ALL[name][1]], ...(own.includes(name) ? [[`${name}_n`, ALL[name][1]]] : [])]))
  for (const seq of [0, 1, 2]) await publisher.publish(topic, { seq, ...given })
  await settled(pipeline, 3)
  assert.deepEqual(letters.map(({ message: text }) => text), [])
  assert.deepEqual(faults, [])
  const got = {
    ...Object.fromEntries(names.map((name) => [name, ALL[name][1]])),
    decimal: '1.2500',
    i64: -9007199254740993n,
    u64: 18446744073709551615n,
    i128: -170141183460469231731687303715884105728n,
    day: new Date('2024-02-29'),
    day32: new Date('1950-02-28'),
    second: new Date('2024-02-29T12:00:01Z'),
    milli: new Date('2024-02-29T12:00:01.123Z'),
    nano: new Date('2024-02-29T12:00:01.123Z'),
    list: [1n, 2n],
    map: { a: 1n },
    tuple: { id: 1n, name: 'x' },
  }
  for (const [name, value] of Object.entries(seen[0])) assert.deepEqual(value, got[name.replace(/_n$/, '')], name)
  const rows = await servers.rows(`SELECT * FROM ${table} ORDER BY seq`, { output_format_json_quote_decimals: 1, date_time_output_format: 'iso' })
  const text = (value) => JSON.stringify(value, (_, its) => (typeof its === 'bigint' ? `${its}` : its))
  for (const name of Object.keys(rows[0])) {
    if (name === 'seq') continue
    const [type, before, set] = ALL[name.replace(/_n$/, '')]
    const [untouched, written, nulled] = rows.map((row) => row[name])
    const asRow = (value) => {
      if (!(value instanceof Date)) return text(value)
      if (type.startsWith('Date3') || type === 'Date') return text(value.toISOString().slice(0, 10))
      return text(value.toISOString().replace(/\.\d+Z$/, type.includes('(9') ? '.004000000Z' : type.includes('(3') ? '.004Z' : 'Z'))
    }
    const expectedBefore = name.startsWith('list') ? '["1","2"]' : name.startsWith('map') ? '{"a":"1"}' : name.startsWith('tuple') ? '{"id":"1","name":"x"}' : text(before)
    assert.equal(text(untouched), expectedBefore, `${name}, untouched`)
    assert.equal(text(written), asRow(set), `${name}, set`)
    if (name.endsWith('_n')) assert.equal(nulled, null, `${name}, set to null`)
  }
})

test('computed columns that are not filled: NULL, else the DEFAULT, else zero', { timeout }, async (t) => {
  const table = await servers.table(`seq UInt32, n Nullable(Float64), d Float64 DEFAULT seq + 0.5, z Float64, ns Nullable(String),
    ds String DEFAULT concat('d', toString(seq)), zs String, missing UInt16 DEFAULT 7`)
  const topic = unique('topic')
  const computed = { computed: true }
  const pipeline = await servers.started(t, {
    routes: [
      {
        topic,
        table,
        columns: { n: computed, d: computed, z: computed, ns: computed, ds: computed, zs: computed },
        transform({ columns, length }) {
          for (let row = 0; row < length; row++) {
            const seq = columns.seq.values[row]
            // Through the arrays, through set, and not at all.
            if (seq % 3 === 0) for (const name of ['n', 'd', 'z']) columns[name].values[row] = seq
            if (seq % 3 === 1) for (const name of ['n', 'd', 'z']) columns[name].set(row, seq)
            if (seq % 3 !== 2) for (const name of ['ns', 'ds', 'zs']) columns[name].set(row, `t${seq}`)
            if (seq % 3 === 0) columns.missing.values[row] = seq
          }
        },
      },
    ],
  })
  const publisher = await servers.publisher(t)
  await publisher.flood(30, (i) => ({ topic, payload: JSON.stringify({ seq: i }) }))
  await settled(pipeline, 30)
  const rows = await servers.rows(`SELECT * FROM ${table} ORDER BY seq`)
  assert.deepEqual(
    rows,
    Array.from({ length: 30 }, (_, seq) =>
      seq % 3 === 2
        ? { seq, n: null, d: seq + 0.5, z: 0, ns: null, ds: `d${seq}`, zs: '', missing: 7 }
        : { seq, n: seq, d: seq, z: seq, ns: `t${seq}`, ds: `t${seq}`, zs: `t${seq}`, missing: seq % 3 === 0 ? seq : 7 },
    ),
  )
})

test('a message of several rows: one that is rejected takes all, one that is dropped only itself', { timeout }, async (t) => {
  const table = await servers.table('id UInt32, seq UInt32')
  const topic = unique('topic')
  const pipeline = await servers.started(t, {
    routes: [
      {
        topic,
        table,
        rows: 'items[*]',
        transform(batch) {
          for (const row of batch.rows()) {
            if (row.seq % 3 === 1) batch.drop(row)
            if (row.id === 5 && row.seq === 2) batch.reject(row, `item ${row.seq} of ${JSON.parse(String(batch.message(row).payload)).id}`)
            if (row.id === 6) batch.drop(row)
          }
        },
      },
    ],
  })
  const letters = collect(pipeline, 'deadLetters')
  const publisher = await servers.publisher(t)
  await publisher.flood(10, (id) => ({ topic, payload: JSON.stringify({ id, items: [{ seq: 0 }, { seq: 1 }, { seq: 2 }] }) }))
  await settled(pipeline, 10)
  await heard(pipeline, letters)
  const rows = await servers.rows(`SELECT id, seq FROM ${table} ORDER BY id, seq`)
  const ids = [0, 1, 2, 3, 4, 7, 8, 9]
  assert.deepEqual(rows, ids.flatMap((id) => [{ id, seq: 0 }, { id, seq: 2 }]))
  assert.deepEqual(letters.map(({ code, message: text }) => [code, text]), [['REJECTED_BY_TRANSFORM', 'item 2 of 5']])
  const { inserted, dropped, deadLettered } = pipeline.metrics().messages
  assert.deepEqual({ inserted, dropped, deadLettered }, { inserted: 8, dropped: 1, deadLettered: 1 })
})

test('emit takes rows that fit, or throws an error with the column, and the batch goes on', { timeout }, async (t) => {
  const table = await servers.table(SEQ)
  const events = await servers.table(`small UInt8, big UInt64, at DateTime64(3, 'UTC'), bytes String, tags Array(String), n Nullable(Float64), d String DEFAULT 'none'`)
  const topic = unique('topic')
  const errors = []
  const pipeline = await servers.started(t, {
    routes: [
      {
        topic,
        table,
        emits: [events],
        transform(batch) {
          const good = { small: 1, big: 2n ** 64n - 1n, at: new Date(1_700_000_000_123), bytes: new Uint8Array([0x41]), tags: ['a'] }
          batch.emit(events, good)
          for (const [to, row] of [
            [events, { ...good, small: 256 }],
            [events, { ...good, at: {} }],
            [events, { ...good, unknown: 1 }],
            [events, {}],
            ['nowhere', good],
            [events, 5],
          ]) {
            try {
              batch.emit(to, row)
              errors.push('taken')
            } catch ({ code, column }) {
              errors.push(`${code} ${column}`)
            }
          }
          batch.emit(events, { ...good, n: 1.5, d: 'own' })
        },
      },
    ],
  })
  const publisher = await servers.publisher(t)
  await publisher.publish(topic, { seq: 1 })
  await settled(pipeline, 1)
  const rows = await servers.rows(`SELECT small, big, toUnixTimestamp64Milli(at) AS at, bytes, tags, n, d FROM ${events} ORDER BY d DESC`)
  const good = { small: 1, big: '18446744073709551615', at: '1700000000123', bytes: 'A', tags: ['a'] }
  assert.deepEqual(rows, [{ ...good, n: 1.5, d: 'own' }, { ...good, n: null, d: 'none' }])
  assert.equal(errors[0], 'OUT_OF_RANGE small')
  assert.equal(errors[1], 'TYPE_MISMATCH at')
  assert.match(errors[2], /unknown/)
  assert.match(errors[3], /FIELD_MISSING/)
  assert.ok(errors.every((its) => its !== 'taken'), JSON.stringify(errors))
  assert.match(errors[5], /NOT_AN_OBJECT/)
})
