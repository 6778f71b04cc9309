// Tables that change during a stream: rows that fit the changed table are inserted, others become dead letters, and none is
// lost.

import assert from 'node:assert/strict'
import { test } from 'node:test'
import { waitFor } from '../../tools/servers/index.mjs'
import { assertLedger, watchLedger } from '../support/ledger.mjs'
import { collect, heard, received, settled, unique, useServers } from '../support/servers.mjs'

const servers = useServers()
const timeout = 60_000
const lasting = (ms) => new Promise((resolve) => setTimeout(resolve, ms))

/** A pipeline into a new table, its warnings, and functions to send it messages one by one or as a stream. */
async function under(t, columns, { batch, ...route } = /** @type {any} */ ({})) {
  const table = await servers.table(columns)
  const topic = unique('topic')
  const pipeline = await servers.started(t, {
    clickhouse: { retry: { minMs: 20, maxMs: 200 } },
    routes: [{ topic, table, ...route }],
    batch,
  })
  const letters = collect(pipeline, 'deadLetters')
  const warnings = collect(pipeline, 'warning')
  const publisher = await servers.publisher(t)
  const ledger = watchLedger(pipeline)
  let sent = 0

  const send = async (count, message, options = {}) => {
    const from = sent
    sent += count
    await publisher.flood(count, (i) => ({ topic, payload: JSON.stringify(message(from + i)) }), options)
  }
  return {
    table,
    pipeline,
    letters,
    warnings,
    ledger,
    send,
    get sent() {
      return sent
    },
    changes: () => warnings.filter(({ code }) => code === 'TABLE_CHANGED').map(({ message }) => message),
    /** Sends until a warning reports a change. */
    async noticed(pattern, message) {
      const tells = (warning) => warning.code === 'TABLE_CHANGED' && pattern.test(warning.message)
      await waitFor(
        async () => {
          await send(1, message)
          return warnings.some(tells)
        },
        { message: () => `${pattern} among ${JSON.stringify(warnings)}` },
      )
    },
    /** Sends without a pause while `work` is under way. */
    async streaming(message, work) {
      let go = true
      const stream = (async () => {
        while (go) {
          await send(200, message)
          await lasting(5)
        }
      })()
      try {
        await waitFor(() => pipeline.metrics().messages.inserted > 0, { message: 'a stream under way' })
        await work()
      } finally {
        go = false
        await stream
      }
    },
    /** Waits for the end of all that was sent, and checks that each message is a row or a dead letter, once. */
    async complete() {
      await settled(pipeline, sent)
      await heard(pipeline, letters)
      ledger.close()
      const rows = await servers.rows(`SELECT seq FROM ${table}`)
      const all = [...rows.map(({ seq }) => Number(seq)), ...letters.map(({ payload }) => JSON.parse(payload).seq)]
      assert.deepEqual(
        all.sort((a, b) => a - b),
        Array.from({ length: sent }, (_, i) => i),
      )
      await waitFor(() => pipeline.metrics().mqtt.unacknowledged === 0, { message: 'all messages acknowledged' })
      await waitFor(() => pipeline.metrics().memoryBytes === 0, { message: 'no memory held' })
      assertLedger(pipeline.metrics())
    },
  }
}

/** Changes a table under load. */
async function alter(table, change) {
  await servers.command(`ALTER TABLE ${table} ${change}`).catch((error) => {
    // Seen of 26.7.2: the mutation that rewrites older parts fails on a part that was inserted during the change before
    // (UNFINISHED, "may be retryable"). The table has its new column by then, and the mutation is tried again.
    if (!/^Code: 341\b/.test(error.message)) throw error
  })
}

test('a column that is added with a DEFAULT', { timeout }, async (t) => {
  const stream = await under(t, 'seq UInt32')
  const message = (seq) => (seq % 2 === 0 ? { seq, speed: seq } : { seq })
  await stream.streaming(message, async () => {
    await alter(stream.table, 'ADD COLUMN speed UInt32 DEFAULT seq + 7')
    await waitFor(() => stream.changes().length > 0, { message: 'the warning' })
  })
  assert.match(stream.changes()[0], /speed is new, UInt32 DEFAULT seq \+ 7$/)
  const from = stream.sent
  await stream.send(100, message)
  await stream.complete()
  assert.equal(stream.letters.length, 0)
  const wrong = await servers.rows(
    `SELECT seq, speed FROM ${stream.table} WHERE seq >= ${from} AND speed != if(seq % 2 = 0, seq, seq + 7)`,
  )
  assert.deepEqual(wrong, [])
})

test('a column that is added without a DEFAULT stops nothing', { timeout }, async (t) => {
  const stream = await under(t, 'seq UInt32')
  await stream.streaming((seq) => ({ seq }), async () => {
    await alter(stream.table, 'ADD COLUMN speed UInt32')
    await waitFor(() => stream.changes().length > 0, { message: 'the warning' })
    assert.match(stream.changes()[0], /speed is new, UInt32$/)
    await waitFor(() => stream.warnings.some(({ code }) => code === 'COLUMN_ADDED'), { message: 'COLUMN_ADDED' })
  })
  const { table, route, column } = stream.warnings.find(({ code }) => code === 'COLUMN_ADDED')
  assert.deepEqual({ table, route, column }, { table: stream.table, route: 0, column: 'speed' })
  const from = stream.sent
  await stream.send(100, (seq) => (seq % 2 === 0 ? { seq, speed: seq } : { seq }))
  await stream.complete()
  assert.deepEqual(stream.letters, [])
  const rows = await servers.rows(`SELECT count() AS rows FROM ${stream.table}
    WHERE seq >= ${from} AND speed = if(seq % 2 = 0, seq, 0)`)
  assert.deepEqual(rows, [{ rows: '100' }])
})

test('a column that is added and may be NULL', { timeout }, async (t) => {
  const stream = await under(t, 'seq UInt32')
  await stream.send(10, (seq) => ({ seq, note: 'early' }))
  await alter(stream.table, 'ADD COLUMN note Nullable(String)')
  await stream.noticed(/note is new, Nullable\(String\)$/, (seq) => ({ seq, note: 'early' }))
  const from = stream.sent
  await stream.send(100, (seq) => (seq % 2 === 0 ? { seq, note: `note ${seq}` } : { seq }))
  await stream.complete()
  assert.equal(stream.letters.length, 0)
  const wrong = await servers.rows(`SELECT seq, note FROM ${stream.table}
    WHERE seq >= ${from} AND note IS DISTINCT FROM if(seq % 2 = 0, concat('note ', toString(seq)), NULL)`)
  assert.deepEqual(wrong, [])
})

test('a column that is added with a type that is not supported is left to ClickHouse', { timeout }, async (t) => {
  const stream = await under(t, 'seq UInt32')
  await alter(stream.table, 'ADD COLUMN state Array(AggregateFunction(sum, UInt64))')
  await stream.noticed(/state is new, .*not supported/, (seq) => ({ seq, state: 1 }))
  await stream.send(100, (seq) => ({ seq, state: 1 }))
  await stream.complete()
  assert.equal(stream.letters.length, 0)
})

test('a column that is dropped', { timeout }, async (t) => {
  const stream = await under(t, 'seq UInt32, speed UInt32')
  await stream.streaming((seq) => ({ seq, speed: seq }), async () => {
    await alter(stream.table, 'DROP COLUMN speed')
    await waitFor(() => stream.changes().length > 0, { message: 'the warning' })
    const { inserted } = stream.pipeline.metrics().messages
    await waitFor(() => stream.pipeline.metrics().messages.inserted > inserted, { message: 'the stream goes on' })
  })
  assert.match(stream.changes()[0], /speed is gone/)
  assert.equal(stream.changes().length, 1)
  await stream.complete()
  assert.equal(stream.letters.length, 0)
})

test('a column that is dropped though the configuration names it: its rows wait', { timeout }, async (t) => {
  const stream = await under(t, 'seq UInt32, speed UInt32', { columns: { speed: 'v' } })
  await stream.streaming((seq) => ({ seq, v: seq }), async () => {
    await alter(stream.table, 'DROP COLUMN speed')
    await waitFor(() => stream.changes().length > 0, { message: 'the warning' })
    assert.match(stream.changes()[0], /cannot be filled: routes\[0\]\.columns\.speed: .* no column speed .*; its rows wait/)
    const retrying = ({ code, message }) => code === 'CLICKHOUSE_RETRYING' && /no column speed/.test(message)
    await waitFor(() => stream.warnings.filter(retrying).length >= 3, { message: 'warnings while rows wait' })
  })
  assert.ok(stream.pipeline.metrics().messages.pending > 0)
  assert.equal(stream.changes().length, 1)
  await alter(stream.table, 'ADD COLUMN speed UInt32')
  await stream.complete()
  assert.equal(stream.letters.length, 0)
  assert.match(stream.changes()[1], /is again as it was/)
  const [{ rows }] = await servers.rows(`SELECT countIf(speed = seq) AS rows FROM ${stream.table}`)
  assert.ok(Number(rows) > 0)
})

test('a column that becomes narrower: a value that does not fit makes a dead letter, and never wraps around', { timeout }, async (t) => {
  const stream = await under(t, 'seq UInt32, speed UInt32', { batch: { maxDelayMs: 20_000, maxRows: 1_000_000 } })
  await stream.send(1_000, (seq) => ({ seq, speed: seq % 256 }))
  await settled(stream.pipeline, 1_000)
  const message = (seq) => ({ seq, speed: seq % 3 === 0 ? 300 : seq % 256 })
  // At QoS 0 nothing seals the batch before its age: these are decoded when the table changes.
  await stream.send(1_000, message, { qos: 0 })
  await received(stream.pipeline, 2_000)
  assert.equal(stream.pipeline.metrics().messages.pending, 1_000)
  await alter(stream.table, 'MODIFY COLUMN speed UInt8')
  await settled(stream.pipeline, 2_000)
  await stream.send(1_000, message)
  await stream.complete()

  assert.match(stream.changes()[0], /speed was UInt32 and is UInt8/)
  for (const { code, message, payload } of stream.letters) {
    assert.equal(code, 'OUT_OF_RANGE')
    assert.match(message, /speed/)
    assert.equal(JSON.parse(payload).speed, 300)
  }
  const tooFast = Array.from({ length: 2_000 }, (_, i) => 1_000 + i).filter((seq) => seq % 3 === 0)
  assert.equal(stream.letters.length, tooFast.length)
  const wrong = await servers.rows(`SELECT seq, speed FROM ${stream.table} WHERE speed != seq % 256`)
  assert.deepEqual(wrong, [])
})

test('a column that becomes narrower under a stream', { timeout }, async (t) => {
  const stream = await under(t, 'seq UInt32, speed UInt32')
  let isFast = false
  const message = (seq) => ({ seq, speed: isFast && seq % 3 === 0 ? 300 : seq % 256 })
  await stream.streaming(message, async () => {
    await alter(stream.table, 'MODIFY COLUMN speed UInt8')
    isFast = true
    await waitFor(() => stream.letters.length >= 500, { message: 'messages that do not fit' })
  })
  await stream.complete()
  for (const { code, payload } of stream.letters) {
    assert.deepEqual([code, JSON.parse(payload).speed], ['OUT_OF_RANGE', 300])
  }
  const wrong = await servers.rows(`SELECT seq, speed FROM ${stream.table} WHERE speed != seq % 256`)
  assert.deepEqual(wrong, [])
})

for (const [from, to, value] of [
  ['UInt32', 'String', "toString(seq)"],
  ['UInt32', 'Nullable(UInt32)', 'seq'],
  ['String', 'LowCardinality(String)', 'toString(seq)'],
  ['UInt32', 'Float64', 'toFloat64(seq)'],
  ['String', 'UInt64', 'toUInt64(seq)'],
]) {
  test(`a column that becomes ${to}, from ${from}`, { timeout }, async (t) => {
    const stream = await under(t, `seq UInt32, speed ${from}`)
    await stream.streaming((seq) => ({ seq, speed: from === 'String' ? String(seq) : seq }), async () => {
      await alter(stream.table, `MODIFY COLUMN speed ${to}`)
      await waitFor(() => stream.changes().length > 0, { message: 'the warning' })
    })
    await stream.complete()
    assert.equal(stream.letters.length, 0)
    assert.deepEqual(await servers.rows(`SELECT seq, speed FROM ${stream.table} WHERE speed != ${value}`), [])
  })
}

test('a column that ClickHouse computes from now on', { timeout }, async (t) => {
  const stream = await under(t, 'seq UInt32, speed UInt32')
  await stream.streaming((seq) => ({ seq, speed: 1 }), async () => {
    await alter(stream.table, 'MODIFY COLUMN speed UInt32 MATERIALIZED seq * 2')
    await waitFor(() => stream.changes().length > 0, { message: 'the warning' })
  })
  await stream.complete()
  assert.equal(stream.letters.length, 0)
})

test('a type that is not supported any more: rows wait', { timeout }, async (t) => {
  const stream = await under(t, 'seq UInt32, speed UInt32')
  await stream.streaming((seq) => ({ seq, speed: seq }), async () => {
    await alter(stream.table, 'DROP COLUMN speed, ADD COLUMN speed Array(AggregateFunction(sum, UInt64))')
    await waitFor(() => stream.changes().some((change) => /cannot be filled/.test(change)), { message: 'the warning' })
  })
  await alter(stream.table, 'DROP COLUMN speed, ADD COLUMN speed UInt64')
  await stream.complete()
  assert.equal(stream.letters.length, 0)
})

test('a column that is renamed', { timeout }, async (t) => {
  const stream = await under(t, 'seq UInt32, speed UInt32')
  await stream.streaming((seq) => ({ seq, speed: seq }), async () => {
    await alter(stream.table, 'RENAME COLUMN speed TO velocity')
    await waitFor(() => stream.letters.length > 0, { message: 'messages without the new name' })
  })
  assert.match(stream.changes()[0], /speed is gone; velocity is new, UInt32, and is required/)
  const from = stream.sent
  await stream.send(100, (seq) => ({ seq, velocity: seq }))
  await stream.complete()
  for (const { code, message } of stream.letters) {
    assert.equal(code, 'FIELD_MISSING')
    assert.match(message, /velocity/)
  }
  const rows = await servers.rows(`SELECT count() AS rows FROM ${stream.table} WHERE seq >= ${from} AND velocity = seq`)
  assert.deepEqual(rows, [{ rows: '100' }])
})

test('a table that is dropped and created again with other columns', { timeout }, async (t) => {
  const stream = await under(t, 'seq UInt32, speed UInt32')
  const first = unique('first')
  await stream.streaming((seq) => ({ seq, speed: seq, note: `note ${seq}` }), async () => {
    // Inserted rows still count.
    await servers.command(`RENAME TABLE ${stream.table} TO ${first}`)
    await waitFor(() => stream.changes().some((change) => /there is no table/.test(change)), { message: 'the warning' })
    await servers.command(`CREATE TABLE ${stream.table} (note String, seq UInt64) ENGINE = MergeTree ORDER BY seq
      SETTINGS non_replicated_deduplication_window = 10000`)
    await waitFor(async () => (await servers.count(stream.table)) > 0, { message: 'rows in the new table' })
  })
  await settled(stream.pipeline, stream.sent)
  await servers.command(`INSERT INTO ${stream.table} (seq) SELECT seq FROM ${first}`)
  assert.deepEqual(
    await servers.rows(`SELECT seq FROM ${stream.table} WHERE note NOT IN ('', concat('note ', toString(seq)))`),
    [],
  )
  await stream.complete()
  assert.equal(stream.letters.length, 0)
})

test('one change after another', { timeout }, async (t) => {
  const stream = await under(t, 'seq UInt32, speed UInt32, note String')
  await stream.streaming((seq) => ({ seq, speed: seq % 1_000, note: `note ${seq}`, lat: 1.5 }), async () => {
    for (const change of [
      'ADD COLUMN lat Float64',
      'DROP COLUMN note',
      'MODIFY COLUMN speed UInt8',
      'ADD COLUMN note LowCardinality(String)',
      'MODIFY COLUMN speed UInt16',
      'DROP COLUMN lat',
      'ADD COLUMN heading UInt16 DEFAULT 7',
    ]) {
      const { inserted } = stream.pipeline.metrics().messages
      await alter(stream.table, change)
      await waitFor(() => stream.pipeline.metrics().messages.inserted > inserted + 200, { message: change })
    }
  })
  await stream.complete()
  for (const { code } of stream.letters) assert.equal(code, 'OUT_OF_RANGE')
})

test('changes that make nothing fail are noticed', { timeout }, async (t) => {
  const stream = await under(t, 'seq UInt32')
  await stream.send(10, (seq) => ({ seq }))
  await received(stream.pipeline, 10)
  await alter(stream.table, "ADD COLUMN zone Enum8('city' = 1) DEFAULT 'city'")
  await stream.noticed(/zone is new/, (seq) => ({ seq }))
  await alter(stream.table, "MODIFY COLUMN zone Enum8('city' = 1, 'road' = 2) DEFAULT 'road'")
  await stream.noticed(/zone was .* and is /, (seq) => ({ seq }))
  const from = stream.sent
  await stream.send(10, (seq) => ({ seq, zone: 'road' }))
  await stream.complete()
  const rows = await servers.rows(`SELECT count() AS rows FROM ${stream.table} WHERE seq >= ${from} AND zone = 'road'`)
  assert.deepEqual(rows, [{ rows: '10' }])
})
