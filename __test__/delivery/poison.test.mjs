// Rows that only ClickHouse can reject: the bad ones become dead letters with ClickHouse's reason, and the good ones of the
// same batch are in the table, each once.

import assert from 'node:assert/strict'
import { test } from 'node:test'
import { externalClickHouse, waitFor } from '../../tools/servers/index.mjs'
import { watchLedger } from '../support/ledger.mjs'
import { startProxy } from '../support/proxy.mjs'
import { collect, heard, received, settled, unique, useServers } from '../support/servers.mjs'

const servers = useServers()
const timeout = 60_000
const ONE_BATCH = 5_000
// The server behind the proxy must be reached as http://127.0.0.1:<port>.
const skip = externalClickHouse

const DEDUPLICATES = 'SETTINGS non_replicated_deduplication_window = 10000'
const CHECKED = 'seq UInt32, lat Float64, CONSTRAINT on_earth CHECK abs(lat) <= 90'

/**
 * A pipeline whose INSERTs are counted, and all its events.
 *
 * @param {import('node:test').TestContext} t
 * @param {any} config
 */
async function counted(t, { batch, clickhouse, ...config }) {
  const proxy = await startProxy(t, servers.clickhouse.port)
  const pipeline = await servers.started(t, {
    clickhouse: { url: `http://127.0.0.1:${proxy.port}`, retry: { minMs: 20, maxMs: 200 }, ...clickhouse },
    batch: { maxRows: ONE_BATCH, maxDelayMs: 2_000, ...batch },
    ...config,
  })
  const letters = collect(pipeline, 'deadLetters')
  const warnings = collect(pipeline, 'warning')
  const ledger = watchLedger(pipeline)
  const publisher = await servers.publisher(t)
  return { proxy, pipeline, letters, warnings, ledger, publisher }
}

/** Publishes `count` messages so that one read finds them all. */
async function together(pipeline, publisher, count, message) {
  pipeline.pause()
  await publisher.flood(count, message)
  pipeline.resume()
}

const sequences = (letters) => letters.map(({ payload }) => JSON.parse(payload).seq).sort((a, b) => a - b)
const range = (count) => Array.from({ length: count }, (_, i) => i)

/** All is acknowledged and nothing is held any more. */
async function atRest(pipeline) {
  await waitFor(() => pipeline.metrics().mqtt.unacknowledged === 0, { message: 'all messages acknowledged' })
  await waitFor(() => pipeline.metrics().memoryBytes === 0, {
    message: () => `no memory held: ${pipeline.metrics().memoryBytes} bytes`,
  })
}

/** Each row of `table` once, and all of them but the `bad` ones. */
async function assertRows(table, total, bad) {
  const rows = await servers.rows(`SELECT seq, count() AS times FROM ${table} GROUP BY seq ORDER BY seq`)
  assert.deepEqual(
    rows.filter(({ times }) => times !== '1'),
    [],
    'rows that are there twice',
  )
  assert.deepEqual(
    rows.map(({ seq }) => seq),
    range(total).filter((seq) => !bad.includes(seq)),
  )
}

for (const [what, bad] of /** @type {[string, number[]][]} */ ([
  ['one', [3_217]],
  ['several', [0, 2_499, 2_500, 4_999]],
])) {
  test(`a constraint, and ${what} of 5,000 that violate it`, { timeout, skip }, async (t) => {
    const table = await servers.table(CHECKED)
    const topic = unique('topic')
    const { proxy, pipeline, letters, warnings, ledger, publisher } = await counted(t, { routes: [{ topic, table }] })
    await together(pipeline, publisher, ONE_BATCH, (seq) => ({
      topic,
      payload: JSON.stringify({ seq, lat: bad.includes(seq) ? 91 : 45 }),
    }))
    await settled(pipeline, ONE_BATCH)
    await heard(pipeline, letters)

    await assertRows(table, ONE_BATCH, bad)
    assert.deepEqual(sequences(letters), bad)
    for (const letter of letters) {
      assert.equal(letter.code, 'REJECTED_BY_CLICKHOUSE')
      assert.match(letter.message, /Code: 469\b.*on_earth/)
      assert.equal(letter.topic, topic)
      assert.equal(letter.route, 0)
    }
    // Messages come in an order of their own: the bad ones may be neighbours or not.
    assert.ok(proxy.inserts <= 3 + bad.length * 26, `${proxy.inserts} INSERTs`)
    const { messages, inserts } = pipeline.metrics()
    assert.deepEqual([messages.inserted, messages.deadLettered], [ONE_BATCH - bad.length, bad.length])
    assert.equal(inserts.succeeded + inserts.failed, proxy.inserts)
    const refused = warnings.filter(({ code }) => code === 'CLICKHOUSE_REFUSED')
    assert.ok(refused.length >= 1 && refused.length <= bad.length, JSON.stringify(refused))
    assert.match(refused[0].message, new RegExp(`refused \\d of \\d+ messages for ${table}: .*469`))
    await atRest(pipeline)
    ledger.close()
  })
}

test('batches that are bad throughout are soon given up, and ever sooner', { timeout, skip }, async (t) => {
  const table = await servers.table(CHECKED)
  const topic = unique('topic')
  const { proxy, pipeline, letters, warnings, ledger, publisher } = await counted(t, { routes: [{ topic, table }] })
  const refused = () => warnings.filter(({ code }) => code === 'CLICKHOUSE_REFUSED')
  const attempts = []
  for (let batch = 0; batch < 8; batch++) {
    const [before, refusedBefore] = [proxy.inserts, refused().length]
    const { failed } = pipeline.metrics().inserts
    await together(pipeline, publisher, ONE_BATCH, (i) => ({
      topic,
      payload: JSON.stringify({ seq: batch * ONE_BATCH + i, lat: 91 }),
    }))
    await settled(pipeline, (batch + 1) * ONE_BATCH)
    // On a busy machine the messages may come in several reads, and become several batches.
    await waitFor(() => refused().length > refusedBefore, { message: 'a warning for each batch' })
    attempts.push((proxy.inserts - before) / (refused().length - refusedBefore))
    assert.equal(pipeline.metrics().inserts.failed - failed, proxy.inserts - before)
  }
  assert.ok(attempts[0] <= 60, `${attempts[0]} INSERTs for each batch of the first`)
  assert.ok(attempts.at(-1) <= 4, `${attempts.at(-1)} INSERTs for each batch of the last, after ${attempts}`)
  await heard(pipeline, letters)
  assert.deepEqual(sequences(letters), range(8 * ONE_BATCH))
  assert.equal(await servers.count(table), 0)
  assert.ok(refused().some(({ message }) => /were not told apart/.test(message)))
  for (const warning of refused()) {
    assert.deepEqual([warning.table, warning.route], [table, 0])
    assert.ok(warning.messages > 0 && warning.messages <= ONE_BATCH)
    assert.match(warning.reason, /VIOLATED_CONSTRAINT/)
  }
  for (const { code, message } of letters) {
    assert.equal(code, 'REJECTED_BY_CLICKHOUSE')
    assert.match(message, /Code: 469\b/)
  }
  assert.ok(letters.some(({ message }) => /was not tried alone/.test(message)))

  // Good ones are still inserted.
  await together(pipeline, publisher, 100, (i) => ({ topic, payload: JSON.stringify({ seq: i, lat: 45 }) }))
  await settled(pipeline, 8 * ONE_BATCH + 100)
  assert.equal(await servers.count(table), 100)
  await atRest(pipeline)
  ledger.close()
})

test('answers that are lost meanwhile double nothing', { timeout, skip }, async (t) => {
  const table = await servers.table(CHECKED)
  const topic = unique('topic')
  const { proxy, pipeline, letters, ledger, publisher } = await counted(t, { routes: [{ topic, table }] })
  proxy.loseAnswers(9)
  await together(pipeline, publisher, ONE_BATCH, (seq) => ({
    topic,
    payload: JSON.stringify({ seq, lat: seq === 1_234 ? 91 : 45 }),
  }))
  await settled(pipeline, ONE_BATCH)
  await heard(pipeline, letters)
  assert.equal(proxy.lost, 9)
  await assertRows(table, ONE_BATCH, [1_234])
  assert.deepEqual(sequences(letters), [1_234])
  ledger.close()
})

test('stop() waits until the bad rows are alone', { timeout, skip }, async (t) => {
  const table = await servers.table(CHECKED)
  const topic = unique('topic')
  const { pipeline, letters, ledger, publisher } = await counted(t, { routes: [{ topic, table }] })
  await together(pipeline, publisher, ONE_BATCH, (seq) => ({
    topic,
    payload: JSON.stringify({ seq, lat: seq % 1_000 === 7 ? 91 : 45 }),
  }))
  await received(pipeline, ONE_BATCH)
  const { messages } = await pipeline.stop()
  assert.deepEqual([messages.pending, messages.inserted, messages.deadLettered], [0, ONE_BATCH - 5, 5])
  await assertRows(table, ONE_BATCH, [7, 1_007, 2_007, 3_007, 4_007])
  await heard(pipeline, letters)
  ledger.close()
})

test('rows that are inserted again have all of the message', { timeout, skip }, async (t) => {
  const table = await servers.table(`seq UInt32, lat Float64, driver String, qos UInt8, retain Bool, client String,
    trace String, kept String, came DateTime64(3, 'UTC'), asked DateTime64(3, 'UTC') DEFAULT now64(3),
    CONSTRAINT on_earth CHECK abs(lat) <= 90`)
  const prefix = unique('topic')
  const clientId = unique('client')
  const { pipeline, letters, publisher } = await counted(t, {
    mqtt: { clientId, sessionExpirySeconds: 0 },
    routes: [
      {
        topic: `${prefix}/{driver}`,
        table,
        columns: {
          qos: { meta: 'qos' },
          retain: { meta: 'retain' },
          client: { meta: 'clientId' },
          kept: { meta: 'payload' },
          came: { meta: 'receivedAt' },
          trace: { userProperty: 'trace' },
        },
      },
    ],
  })
  const modern = await servers.publisher(t, { clients: 1, protocolVersion: 5 })
  pipeline.pause()
  const from = Date.now()
  for (let seq = 0; seq < 40; seq++) {
    await modern.publish(`${prefix}/driver-${seq}`, JSON.stringify({ seq, lat: seq === 23 ? 91 : 45 }), {
      qos: seq % 2,
      properties: { userProperties: { trace: `trace ${seq}` } },
    })
  }
  pipeline.resume()
  await received(pipeline, 40)
  const until = Date.now()
  await settled(pipeline, 40)
  await heard(pipeline, letters)
  assert.deepEqual(sequences(letters), [23])
  assert.ok(letters[0].receivedAt.getTime() >= from && letters[0].receivedAt.getTime() <= until)
  await assertRows(table, 40, [23])
  const wrong = await servers.rows(`SELECT * FROM ${table} WHERE driver != concat('driver-', toString(seq))
    OR qos != seq % 2 OR retain OR client != '${clientId}' OR trace != concat('trace ', toString(seq))
    OR kept != concat('{"seq":', toString(seq), ',"lat":45}')
    OR toUnixTimestamp64Milli(came) < ${from} OR toUnixTimestamp64Milli(came) > ${until}`)
  assert.deepEqual(wrong, [])
})

/** A table with three views behind it: one that takes all, one that counts, and one that fails for some rows. */
async function viewedTable({
  select = "seq, throwIf(lat > 90, 'beyond the pole') AS ok",
  rest = '',
  partition = 'tuple()',
} = {}) {
  const table = unique('table')
  await servers.command(`CREATE TABLE ${table} (seq UInt32, lat Float64) ENGINE = MergeTree PARTITION BY ${partition}
    ORDER BY seq ${DEDUPLICATES}`)
  await servers.command(`CREATE MATERIALIZED VIEW ${table}_all ENGINE = MergeTree ORDER BY seq ${DEDUPLICATES}
    AS SELECT seq FROM ${table}`)
  await servers.command(`CREATE MATERIALIZED VIEW ${table}_sum ENGINE = SummingMergeTree ORDER BY half ${DEDUPLICATES}
    AS SELECT seq % 2 AS half, count() AS rows FROM ${table} GROUP BY half`)
  await servers.command(`CREATE MATERIALIZED VIEW ${table}_fails ENGINE = MergeTree ORDER BY seq ${DEDUPLICATES}
    AS SELECT ${select} FROM ${table} ${rest}`)
  return table
}

/** Each good row once in the table and once in each view; the bad ones may have stayed where they were taken. */
async function assertViewed(table, total, bad) {
  await assertRows(`${table}_fails`, total, bad)
  const outside = bad.length > 0 ? `WHERE seq NOT IN (${bad})` : ''
  await assertRows(`(SELECT seq FROM ${table} ${outside})`, total, bad)
  await assertRows(`(SELECT seq FROM ${table}_all ${outside})`, total, bad)
  for (const name of [table, `${table}_all`]) {
    const { rows, different } = await servers.counted(name)
    assert.equal(rows, different, name)
  }
  const [{ rows }] = await servers.rows(`SELECT sum(rows) AS rows FROM ${table}_sum`)
  assert.ok(Number(rows) >= total - bad.length && Number(rows) <= total, `${rows} rows counted of ${total}`)
}

for (const [what, bad, options] of /** @type {[string, number[], any][]} */ ([
  ['one bad row', [3_217], {}],
  ['several bad rows', [0, 2_499, 2_500, 4_999], {}],
  ['a table of several partitions', [17, 4_000], { partition: 'seq % 3' }],
  ['a view that groups', [123], { select: 'seq, sum(throwIf(lat > 90)) AS ok', rest: 'GROUP BY seq' }],
  ['a view that casts', [123], { select: "seq, accurateCast(lat, 'UInt8') AS ok" }],
])) {
  test(`a materialized view that fails: ${what}`, { timeout, skip }, async (t) => {
    const table = await viewedTable(options)
    const topic = unique('topic')
    const { proxy, pipeline, letters, warnings, ledger, publisher } = await counted(t, { routes: [{ topic, table }] })
    await together(pipeline, publisher, ONE_BATCH, (seq) => ({
      topic,
      payload: JSON.stringify({ seq, lat: bad.includes(seq) ? 500 : 45 }),
    }))
    await settled(pipeline, ONE_BATCH)
    await heard(pipeline, letters)

    await assertViewed(table, ONE_BATCH, bad)
    assert.deepEqual(sequences(letters), bad)
    for (const { code, message } of letters) {
      assert.equal(code, 'REJECTED_BY_CLICKHOUSE')
      assert.match(message, /Code: (395|70)\b.*while pushing to view .*_fails.*the table itself may have stored it/)
    }
    assert.ok(proxy.inserts <= 5 + bad.length * 26, `${proxy.inserts} INSERTs`)
    assert.ok(warnings.some(({ code }) => code === 'CLICKHOUSE_REFUSED'))
    const { messages } = pipeline.metrics()
    assert.deepEqual([messages.inserted, messages.deadLettered], [ONE_BATCH - bad.length, bad.length])

    // The stream goes on.
    await together(pipeline, publisher, 100, (i) => ({ topic, payload: JSON.stringify({ seq: ONE_BATCH + i, lat: 1 }) }))
    await settled(pipeline, ONE_BATCH + 100)
    await assertViewed(table, ONE_BATCH + 100, bad)
    await atRest(pipeline)
    ledger.close()
  })
}

test('a materialized view that fails, and answers that are lost meanwhile', { timeout, skip }, async (t) => {
  const table = await viewedTable()
  const topic = unique('topic')
  const { proxy, pipeline, letters, ledger, publisher } = await counted(t, { routes: [{ topic, table }] })
  proxy.loseAnswers(9)
  await together(pipeline, publisher, ONE_BATCH, (seq) => ({
    topic,
    payload: JSON.stringify({ seq, lat: seq === 1_234 ? 500 : 45 }),
  }))
  await settled(pipeline, ONE_BATCH)
  await heard(pipeline, letters)
  assert.equal(proxy.lost, 9)
  await assertViewed(table, ONE_BATCH, [1_234])
  assert.deepEqual(sequences(letters), [1_234])
  ledger.close()
})

test('a constraint and a view that each refuse a row of the same batch', { timeout, skip }, async (t) => {
  const table = unique('table')
  await servers.command(`CREATE TABLE ${table} (seq UInt32, lat Float64, CONSTRAINT on_earth CHECK abs(lat) <= 90)
    ENGINE = MergeTree ORDER BY seq ${DEDUPLICATES}`)
  await servers.command(`CREATE MATERIALIZED VIEW ${table}_fails ENGINE = MergeTree ORDER BY seq ${DEDUPLICATES}
    AS SELECT seq, throwIf(lat = 13) AS ok FROM ${table}`)
  const topic = unique('topic')
  const { pipeline, letters, ledger, publisher } = await counted(t, { routes: [{ topic, table }] })
  await together(pipeline, publisher, ONE_BATCH, (seq) => ({
    topic,
    payload: JSON.stringify({ seq, lat: seq === 1_000 ? 91 : seq === 4_000 ? 13 : 45 }),
  }))
  await settled(pipeline, ONE_BATCH)
  await heard(pipeline, letters)
  assert.deepEqual(sequences(letters), [1_000, 4_000])
  await assertRows(`${table}_fails`, ONE_BATCH, [1_000, 4_000])
  const { rows, different } = await servers.counted(table)
  assert.equal(rows, different)
  await assertRows(`(SELECT seq FROM ${table} WHERE seq != 4000)`, ONE_BATCH, [1_000, 4_000])
  await atRest(pipeline)
  ledger.close()
})

for (const [what, prepare] of /** @type {[string, (table: string) => Promise<void>][]} */ ([
  [
    'the table of a view refuses',
    async (table) => {
      await servers.command(`CREATE TABLE ${table} (seq UInt32, lat Float64) ENGINE = MergeTree ORDER BY seq ${DEDUPLICATES}`)
      await servers.command(`CREATE TABLE ${table}_fails (seq UInt32, CONSTRAINT few CHECK seq != 5) ENGINE = MergeTree
        ORDER BY seq ${DEDUPLICATES}`)
      await servers.command(`CREATE MATERIALIZED VIEW ${table}_view TO ${table}_fails AS SELECT seq FROM ${table}`)
    },
  ],
  [
    'a view behind a table refuses that does not deduplicate',
    async (table) => {
      await servers.command(`CREATE TABLE ${table} (seq UInt32, lat Float64) ENGINE = MergeTree ORDER BY seq`)
      await servers.command(`CREATE MATERIALIZED VIEW ${table}_fails ENGINE = MergeTree ORDER BY seq
        AS SELECT seq, throwIf(seq = 5) AS ok FROM ${table}`)
    },
  ],
])) {
  test(`rows that ${what} are not isolated: all become dead letters`, { timeout, skip }, async (t) => {
    const table = unique('table')
    await prepare(table)
    const topic = unique('topic')
    const { proxy, pipeline, letters, ledger, publisher } = await counted(t, { routes: [{ topic, table }] })
    await together(pipeline, publisher, 100, (seq) => ({ topic, payload: JSON.stringify({ seq, lat: 1 }) }))
    await settled(pipeline, 100)
    await heard(pipeline, letters)
    const { messages } = pipeline.metrics()
    assert.equal(messages.inserted + messages.deadLettered, 100)
    const dead = sequences(letters)
    assert.ok(dead.includes(5))
    // Each message is in the view or a dead letter, and no row is anywhere twice.
    await assertRows(`${table}_fails`, 100, dead)
    const { rows, different } = await servers.counted(table)
    assert.equal(rows, different)
    assert.ok(proxy.inserts <= 30, `${proxy.inserts} INSERTs`)
    await atRest(pipeline)
    ledger.close()
  })
}
