// The spool: acknowledged messages are on disk and reach ClickHouse once, over outages and killed processes.

import assert from 'node:assert/strict'
import { execFileSync } from 'node:child_process'
import {
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  renameSync,
  rmSync,
  statSync,
  truncateSync,
  writeFileSync,
} from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { test } from 'node:test'
import { inspectSpool } from '../../index.js'
import { externalBroker, externalClickHouse, waitFor } from '../../tools/servers/index.mjs'
import { assertLedger, watchLedger } from '../support/ledger.mjs'
import { assertPositions, COLUMNS, position, route } from '../support/positions.mjs'
import { startProxy } from '../support/proxy.mjs'
import { publishPacket, startScriptedBroker } from '../support/scripted-broker.mjs'
import { collect, heard, received, settled, unique, useServers } from '../support/servers.mjs'

const servers = useServers({ ownClickHouse: true })
const timeout = 60_000
// Servers that the test did not start cannot be stopped.
const skip = externalBroker || externalClickHouse
const retry = { minMs: 20, maxMs: 200 }
const range = (count) => Array.from({ length: count }, (_, i) => i)

/** A directory for one spool, gone with the test. */
function spoolDir(t) {
  const parent = mkdtempSync(join(tmpdir(), 'millrace-spool-'))
  t.after(() => rmSync(parent, { recursive: true, force: true }))
  return join(parent, 'made', 'by', 'start')
}

/**
 * A configuration that a test starts more than once.
 *
 * @param {import('node:test').TestContext} t
 * @param {any} config
 */
function resumable(t, { spool, clickhouse, ...config }) {
  return {
    mqtt: { clientId: unique('client') },
    clickhouse: { retry, connectTimeoutMs: 300, requestTimeoutMs: 5_000, ...clickhouse },
    spool: { dir: spoolDir(t), ...spool },
    ...config,
  }
}

/** Ends ClickHouse for as long as `work` takes. */
async function withoutClickHouse(work) {
  await servers.clickhouse.stop()
  try {
    await work()
  } finally {
    await servers.clickhouse.start()
  }
}

async function acknowledged(pipeline) {
  await waitFor(() => pipeline.metrics().mqtt.unacknowledged === 0, { message: 'all messages acknowledged' })
}

/** Nothing is held any more, in memory and in the spool. */
async function atRest(pipeline) {
  await acknowledged(pipeline)
  await waitFor(() => pipeline.metrics().memoryBytes === 0, {
    message: () => `no memory held: ${pipeline.metrics().memoryBytes} bytes`,
  })
  assert.equal(pipeline.metrics().spool.oldestMs, 0)
}

/** Starts, has `count` messages acknowledged while ClickHouse is away, and stops: they lie in the spool then. */
async function leaveInSpool(t, config, count, message) {
  const pipeline = await servers.started(t, config)
  const publisher = await servers.publisher(t)
  await withoutClickHouse(async () => {
    await publisher.flood(count, message)
    await received(pipeline, count)
    await acknowledged(pipeline)
    // ClickHouse is away: nothing is waited for.
    const { messages } = await pipeline.stop({ timeoutMs: timeout })
    assert.equal(messages.pending, count)
  })
}

/** A text of about 150 digits that compresses badly. */
const digits = (seq) => range(40).map((i) => ((seq * 7919 + i * 104_729) ** 2 % 1_000_003).toString(36)).join('')

const segments = (dir) => readdirSync(dir).filter((file) => /^segment-.*\.v2$/.test(file))

for (const qos of [0, 1, 2]) {
  for (const compression of qos === 1 ? ['lz4', 'zstd', 'none'] : ['lz4']) {
    test(`QoS ${qos} through a spool, compression ${compression}`, { timeout }, async (t) => {
      const table = await servers.table(COLUMNS)
      const prefix = unique('topic')
      const pipeline = await servers.started(t, {
        mqtt: { qos, clientId: unique('client') },
        clickhouse: { compression },
        routes: [route(prefix, table)],
        spool: { dir: spoolDir(t) },
      })
      const ledger = watchLedger(pipeline)
      const publisher = await servers.publisher(t)
      await publisher.flood(20_000, (i) => position(prefix, i), { qos })
      await settled(pipeline, 20_000)
      await assertPositions(servers, table, 20_000)
      ledger.close()
      await atRest(pipeline)
      const { memoryBytes, latencyMs, tables, messages } = await pipeline.stop()
      assert.equal(memoryBytes, 0)
      assert.equal(latencyMs.endToEnd.count, 20_000)
      assert.equal(tables[table].rows, 20_000)
      assert.deepEqual([messages.inserted, messages.pending], [20_000, 0])
    })
  }
}

for (const ackAfter of ['receive', 'insert']) {
  test(`a spool with ackAfter: '${ackAfter}'`, { timeout }, async (t) => {
    const table = await servers.table(COLUMNS)
    const prefix = unique('topic')
    const pipeline = await servers.started(t, {
      mqtt: { ackAfter, clientId: unique('client') },
      routes: [route(prefix, table)],
      spool: { dir: spoolDir(t) },
    })
    const publisher = await servers.publisher(t)
    await publisher.flood(5_000, (i) => position(prefix, i))
    await settled(pipeline, 5_000)
    await assertPositions(servers, table, 5_000)
    await atRest(pipeline)
  })
}

test('ClickHouse is down: all is acknowledged, and the next start sends it, once', { timeout, skip }, async (t) => {
  const table = await servers.table(COLUMNS)
  const prefix = unique('topic')
  const config = resumable(t, { routes: [route(prefix, table)] })
  const first = await servers.started(t, config)
  const ledger = watchLedger(first)
  const publisher = await servers.publisher(t)
  await publisher.flood(1_000, (i) => position(prefix, i))
  await settled(first, 1_000)
  await withoutClickHouse(async () => {
    await publisher.flood(9_000, (i) => position(prefix, 1_000 + i))
    await received(first, 10_000)
    await acknowledged(first)
    const { messages, spool } = first.metrics()
    assert.deepEqual([messages.inserted, messages.pending], [1_000, 9_000])
    assert.ok(spool.bytes > 0 && spool.segments > 0 && spool.oldestMs > 0, JSON.stringify(spool))

    const inspection = await inspectSpool(config.spool.dir)
    assert.deepEqual([inspection.messages, inspection.rows], [9_000, 9_000])
    assert.equal(inspection.tables[table].messages, 9_000)
    assert.ok(inspection.records > 1 && inspection.bytes > inspection.tables[table].bytes)
    assert.ok(Date.now() - inspection.oldest.getTime() < timeout)

    // Everything is in the spool, so that nothing is waited for.
    const stopped = await first.stop({ timeoutMs: timeout })
    assert.deepEqual([stopped.state, stopped.messages.pending], ['stopped', 9_000])
    ledger.close()
  })
  const left = await inspectSpool(config.spool.dir)
  assert.deepEqual([left.messages, left.damaged, left.setAside, left.torn], [9_000, [], [], []])

  const second = await servers.started(t, config)
  assertLedger(second.metrics())
  await second.flush()
  assert.equal(second.metrics().messages.inserted, 9_000)
  await publisher.flood(100, (i) => position(prefix, 10_000 + i))
  await settled(second, 9_100)
  await assertPositions(servers, table, 10_100)
  await atRest(second)
  const metrics = await second.stop()
  assertLedger(metrics)
  assert.equal(metrics.messages.received, 9_100)
  assert.deepEqual(await inspectSpool(config.spool.dir).then(({ messages, oldest }) => [messages, oldest]), [0, null])
})

test('answers that are lost double nothing, before a restart and after it', { timeout, skip }, async (t) => {
  const table = await servers.table(COLUMNS)
  const behind = unique('behind')
  await servers.command(`CREATE MATERIALIZED VIEW ${behind} ENGINE = MergeTree ORDER BY seq
    SETTINGS non_replicated_deduplication_window = 10000 AS SELECT seq FROM ${table}`)
  const prefix = unique('topic')
  const proxy = await startProxy(t, servers.clickhouse.port)
  const url = `http://127.0.0.1:${proxy.port}`
  const config = resumable(t, { clickhouse: { url }, routes: [route(prefix, table)], batch: { maxRows: 500 } })
  const first = await servers.started(t, config)
  const publisher = await servers.publisher(t)
  proxy.loseAnswers(7)
  await publisher.flood(5_000, (i) => position(prefix, i))
  await settled(first, 5_000)
  assert.equal(proxy.lost, 7)

  // All of these are inserted, but the answers were lost.
  proxy.loseAnswers(Infinity)
  await publisher.flood(1_000, (i) => position(prefix, 5_000 + i))
  await received(first, 6_000)
  await acknowledged(first)
  await waitFor(async () => (await servers.count(table)) > 5_000, { message: 'rows of which nobody hears' })
  await first.stop({ timeoutMs: 100 })
  proxy.loseAnswers(0)
  const second = await servers.started(t, config)
  await second.flush()
  await assertPositions(servers, table, 6_000)
  assert.deepEqual(await servers.counted(behind), { rows: 6_000, different: 6_000 })
})

test('rows come in the order of their messages, also when they had to wait', { timeout, skip }, async (t) => {
  const table = await servers.table('seq UInt32')
  const topic = unique('topic')
  const config = resumable(t, { routes: [{ topic, table }], batch: { maxRows: 300 } })
  const message = (from) => (i) => ({ topic, payload: JSON.stringify({ seq: from + i }) })
  // One client, so that the broker has them in their order.
  const publisher = await servers.publisher(t, { clients: 1 })
  const first = await servers.started(t, config)
  await withoutClickHouse(async () => {
    await publisher.flood(5_000, message(0))
    await received(first, 5_000)
    await acknowledged(first)
    await first.stop({ timeoutMs: 100 })
  })
  await servers.command(`SYSTEM STOP MERGES ${table}`)
  const second = await servers.started(t, config)
  // An INSERT that waits takes what comes behind it, and all 5,000 could be one part.
  for (let from = 5_000; from < 10_000; from += 500) {
    await publisher.flood(500, message(from))
    await settled(second, from + 500)
  }
  const parts = await servers.rows(`SELECT toUInt32(min(seq)) AS first, toUInt32(max(seq)) AS last,
    toUInt32(count()) AS rows FROM ${table} GROUP BY _part ORDER BY toUInt32(splitByChar('_', _part)[2])`)
  assert.ok(parts.length > 10, `${parts.length} parts`)
  let next = 0
  for (const { first, last, rows } of parts) {
    assert.deepEqual([first, last], [next, next + rows - 1])
    next += rows
  }
  assert.equal(next, 10_000)
})

test('a spool that is full holds the broker back, and goes on by itself', { timeout, skip }, async (t) => {
  const table = await servers.table('seq UInt32, text String')
  const topic = unique('topic')
  const maxBytes = 1024 * 1024
  const config = resumable(t, {
    routes: [{ topic, table }],
    spool: { maxBytes, segmentBytes: 128 * 1024 },
    mqtt: { clientId: unique('client'), maxPacketBytes: maxBytes / 8 },
    memory: { maxBytes },
    batch: { maxRows: 500 },
  })
  const pipeline = await servers.started(t, config)
  const ledger = watchLedger(pipeline)
  const warnings = collect(pipeline, 'warning')
  const codes = () => warnings.map(({ code }) => code).filter((code) => code.startsWith('SPOOL'))
  const publisher = await servers.publisher(t)
  const total = 8_000
  await withoutClickHouse(async () => {
    await publisher.flood(total, (seq) => ({ topic, payload: JSON.stringify({ seq, text: digits(seq) }) }))
    await waitFor(() => codes().includes('SPOOL_FULL'), { message: 'the warning' })
    await waitFor(() => pipeline.metrics().memoryBytes >= maxBytes, { message: 'memory is full too' })
    const { messages, mqtt, spool } = pipeline.metrics()
    assert.ok(messages.received < total, `${messages.received} were taken`)
    assert.ok(mqtt.unacknowledged > 0)
    assert.ok(spool.bytes < 2 * maxBytes, `${spool.bytes} bytes`)
  })
  await settled(pipeline, total)
  assert.deepEqual(await servers.counted(table), { rows: total, different: total })
  assert.equal(codes()[0], 'SPOOL_FULL')
  // Full again and again while ClickHouse catches up, perhaps, but never twice without free space in
  // between.
  assert.ok(codes().every((code, i) => code === (i % 2 === 0 ? 'SPOOL_FULL' : 'SPOOL_RECOVERED')), codes().join())
  await atRest(pipeline)
  assert.ok(segments(config.spool.dir).length <= 2, `${segments(config.spool.dir)}`)
  ledger.close()
})

test('a table that takes nothing does not block the spool space of another', { timeout }, async (t) => {
  const [stuck, table] = [await servers.table('seq UInt32'), await servers.table('seq UInt32, text String')]
  const [one, two] = [unique('topic'), unique('topic')]
  const config = resumable(t, {
    routes: [
      { topic: one, table: stuck },
      { topic: two, table },
    ],
    spool: { maxBytes: 1024 * 1024, segmentBytes: 64 * 1024 },
  })
  const pipeline = await servers.started(t, config)
  const publisher = await servers.publisher(t)
  await servers.command(`DROP TABLE ${stuck} SYNC`)
  await publisher.publish(one, { seq: 0 })
  await waitFor(() => pipeline.metrics().inserts.retried > 0, { message: 'a retry' })
  const total = 20_000
  await publisher.flood(total, (seq) => ({ topic: two, payload: JSON.stringify({ seq, text: 'x'.repeat(seq % 500) }) }))
  await waitFor(() => pipeline.metrics().messages.inserted === total, { timeoutMs: 30_000, message: 'the other rows' })
  await waitFor(() => pipeline.metrics().spool.segments <= 3, {
    message: () => `segments that nobody needs are deleted: ${JSON.stringify(pipeline.metrics().spool)}`,
  })
  await servers.command(`CREATE TABLE ${stuck} (seq UInt32) ENGINE = MergeTree ORDER BY seq`)
  await pipeline.flush()
  assert.equal(await servers.count(stuck), 1)
  assert.deepEqual(await servers.counted(table), { rows: total, different: total })
  await acknowledged(pipeline)
})

test('a spool is for one pipeline at a time', { timeout }, async (t) => {
  const table = await servers.table('seq UInt32')
  const config = { routes: [{ topic: unique('topic'), table }], spool: { dir: spoolDir(t) } }
  const first = await servers.started(t, config)
  const second = servers.pipeline(t, config)
  await assert.rejects(second.start(), { code: 'SPOOL_LOCKED' })
  await first.stop()
  await second.start()
  await second.stop()
})

test('a start that fails releases the spool', { timeout }, async (t) => {
  const table = await servers.table('seq UInt32')
  const config = { routes: [{ topic: unique('topic'), table }], spool: { dir: spoolDir(t) } }
  const nowhere = servers.pipeline(t, { ...config, mqtt: { url: 'mqtt://127.0.0.1:1' } })
  await assert.rejects(nowhere.start(), { code: 'MQTT_UNREACHABLE' })
  await servers.started(t, config)
})

test('a path that cannot be a directory', { timeout }, async (t) => {
  const table = await servers.table('seq UInt32')
  const dir = spoolDir(t)
  const file = join(dir, '..', '..', '..', 'file')
  writeFileSync(file, '')
  const pipeline = servers.pipeline(t, { routes: [{ topic: unique('topic'), table }], spool: { dir: file } })
  await assert.rejects(pipeline.start(), { code: 'SPOOL_IO' })
  await assert.rejects(inspectSpool(join(dir, 'nowhere')), { code: 'SPOOL_IO' })
  await assert.rejects(inspectSpool(/** @type {any} */ (undefined)), { code: 'CONFIG_INVALID', path: 'dir' })
})

test('a spool of another version is refused', { timeout }, async (t) => {
  const table = await servers.table('seq UInt32')
  const dir = mkdtempSync(join(tmpdir(), 'millrace-spool-'))
  t.after(() => rmSync(dir, { recursive: true, force: true }))
  writeFileSync(join(dir, 'segment-0000000001-00000000000000aa.v3'), 'new')
  const pipeline = servers.pipeline(t, { routes: [{ topic: unique('topic'), table }], spool: { dir } })
  await assert.rejects(pipeline.start(), { code: 'SPOOL_CORRUPT', message: /another version of millrace/ })
  await assert.rejects(inspectSpool(dir), { code: 'SPOOL_CORRUPT' })
})

test('a damaged record is quarantined and reported, and the others are inserted', { timeout, skip }, async (t) => {
  const table = await servers.table('seq UInt32')
  const topic = unique('topic')
  const config = resumable(t, { routes: [{ topic, table }] })
  const { dir } = config.spool
  const first = await servers.started(t, config)
  const publisher = await servers.publisher(t)
  await withoutClickHouse(async () => {
    // Each in a record of its own.
    for (let seq = 0; seq < 10; seq++) {
      await publisher.publish(topic, { seq })
      await waitFor(() => first.metrics().messages.received > seq, { message: 'the message' })
      await acknowledged(first)
    }
    await first.stop({ timeoutMs: 100 })
  })
  const [file] = segments(dir)
  const bytes = readFileSync(join(dir, file))
  bytes[Math.floor(bytes.length / 2)] ^= 0xff
  writeFileSync(join(dir, file), bytes)
  const { damaged, messages } = await inspectSpool(dir)
  assert.deepEqual([damaged.length, messages], [1, 9])

  const second = servers.pipeline(t, config)
  const warnings = collect(second, 'warning')
  await second.start()
  await second.flush()
  assert.deepEqual(await servers.counted(table), { rows: 9, different: 9 })
  const reports = () => warnings.filter(({ code }) => code === 'SPOOL_CORRUPT')
  await waitFor(() => reports().length === 2, { message: () => JSON.stringify(warnings) })
  const [record, sum] = reports()
  assert.ok(record.message.includes(damaged[0].file), record.message)
  assert.equal(sum.messages, 1)
  assert.match(sum.message, /1 acknowledged messages in 1 records are missing/)
  const fields = ({ segment, at, bytes, file }) => ({ segment, at, bytes, file })
  assert.deepEqual(fields(record), fields(damaged[0]))
  assertLedger(second.metrics())
  assert.equal(second.metrics().messages.received, 9)
  await second.stop()
  assert.deepEqual((await inspectSpool(dir)).setAside, [damaged[0].file])
  assert.equal(readFileSync(join(dir, damaged[0].file)).length, damaged[0].bytes)
})

for (const damage of ['removed', 'emptied', 'cut in half']) {
  test(`a segment that was ${damage} is reported, with the number of messages`, { timeout, skip }, async (t) => {
    const table = await servers.table('seq UInt32, text String')
    const topic = unique('topic')
    // Small records of texts that compress badly: several segments, however many messages one commit has.
    const config = resumable(t, {
      routes: [{ topic, table }],
      batch: { maxRows: 200 },
      spool: { segmentBytes: 64 * 1024 },
    })
    const { dir } = config.spool
    const total = 3_000
    await leaveInSpool(t, config, total, (seq) => ({ topic, payload: JSON.stringify({ seq, text: digits(seq) }) }))
    writeFileSync(join(dir, 'notes.txt'), 'not the spool\'s')
    const files = segments(dir).sort()
    assert.ok(files.length >= 3, `${files.length} segments`)
    const file = join(dir, files[1])
    const { size } = statSync(file)
    if (damage === 'removed') rmSync(file)
    else truncateSync(file, damage === 'emptied' ? 0 : Math.floor(size / 2))

    const { missing, missingMessages, messages, foreign } = await inspectSpool(dir)
    assert.equal(missing.length, 1)
    assert.ok(files[1].startsWith(missing[0].segment), missing[0].segment)
    assert.equal(missing[0].at + missing[0].bytes, size)
    assert.deepEqual(foreign, ['notes.txt'])
    assert.ok(missingMessages > 0)
    assert.equal(messages + missingMessages, total)

    const second = servers.pipeline(t, config)
    const warnings = collect(second, 'warning')
    await second.start()
    await second.flush()
    const left = total - missingMessages
    assert.deepEqual(await servers.counted(table), { rows: left, different: left })
    const reports = () => warnings.filter(({ code }) => code === 'SPOOL_CORRUPT')
    await waitFor(() => reports().at(-1)?.messages === missingMessages, { message: () => JSON.stringify(warnings) })
    assert.ok(reports().some(({ segment, at, bytes }) => segment === missing[0].segment && at === missing[0].at && bytes > 0))
    const unknown = warnings.find(({ code }) => code === 'SPOOL_FOREIGN_FILES')
    assert.match(unknown.message, /notes\.txt/)
    assert.ok(unknown.files.includes('notes.txt'), unknown.files)
    assertLedger(second.metrics())
    await second.stop()

    const third = servers.pipeline(t, config)
    const later = collect(third, 'warning')
    await third.start()
    await third.stop()
    assert.deepEqual(later.filter(({ code }) => code === 'SPOOL_CORRUPT'), [], 'reported once')
  })
}

for (const how of ['removed', 'replaced by another']) {
  const unix = skip || process.platform === 'win32'
  test(`a directory that is ${how} acknowledges nothing until it is back`, { timeout, skip: unix }, async (t) => {
    const table = await servers.table('seq UInt32')
    const topic = unique('topic')
    const config = resumable(t, { routes: [{ topic, table }] })
    const { dir } = config.spool
    const pipeline = servers.pipeline(t, config)
    const warnings = collect(pipeline, 'warning')
    await pipeline.start()
    const publisher = await servers.publisher(t)
    await publisher.publish(topic, { seq: 0 })
    await waitFor(() => pipeline.metrics().messages.received === 1, { message: 'the message' })
    await acknowledged(pipeline)

    renameSync(dir, `${dir}-away`)
    if (how !== 'removed') mkdirSync(dir)
    // Also without a message.
    const warned = (code) => warnings.some((warning) => warning.code === code)
    await waitFor(() => warned('SPOOL_IO'), { message: 'the warning' })
    const warning = warnings.find(({ code }) => code === 'SPOOL_IO')
    assert.match(warning.message, /removed or replaced.*nothing is acknowledged/)
    assert.equal(warning.dir, dir)
    await publisher.publish(topic, { seq: 1 })
    await waitFor(() => pipeline.metrics().messages.received === 2, { message: 'the second message' })
    assert.equal(pipeline.metrics().mqtt.unacknowledged, 1)
    if (how !== 'removed') {
      assert.deepEqual(readdirSync(dir), [], 'nothing is written into a directory of somebody else')
      rmSync(dir, { recursive: true })
    }

    renameSync(`${dir}-away`, dir)
    await waitFor(() => warned('SPOOL_RECOVERED'), { message: 'the spool is back' })
    await acknowledged(pipeline)
    await pipeline.flush()
    assert.deepEqual(await servers.counted(table), { rows: 2, different: 2 })
    await pipeline.stop()
  })
}

/** A tmpfs, unmounted with the test; `undefined` where that is not allowed. */
function smallDisk(t, mebibytes) {
  const dir = mkdtempSync(join(tmpdir(), 'millrace-disk-'))
  try {
    execFileSync('mount', ['-t', 'tmpfs', '-o', `size=${mebibytes}m`, 'tmpfs', dir], { stdio: 'ignore' })
  } catch {
    return undefined
  }
  t.after(() => execFileSync('umount', ['-l', dir]))
  return dir
}

for (const [mebibytes, segmentBytes] of [
  [3, 256 * 1024],
  [12, undefined],
  [48, undefined],
  [48, 256 * 1024],
]) {
  const name = `a disk of ${mebibytes} MiB fills up and is emptied, segments of ${segmentBytes ?? 'the default size'}`
  test(name, { timeout, skip }, async (t) => {
    const disk = smallDisk(t, mebibytes)
    if (disk === undefined) return t.skip('to mount a tmpfs takes root and Linux')
    const table = await servers.table('seq UInt32, text String')
    const topic = unique('topic')
    const spool = { dir: join(disk, 'spool'), ...(segmentBytes && { segmentBytes }) }
    const config = resumable(t, { routes: [{ topic, table }], spool, memory: { maxBytes: 128 << 20 } })
    const pipeline = servers.pipeline(t, config)
    const warnings = collect(pipeline, 'warning')
    await pipeline.start()
    const publisher = await servers.publisher(t)
    const total = mebibytes * 1_000
    // Random, so that it cannot be compressed.
    const text = () => Array.from({ length: 60 }, () => Math.random().toString(36).slice(2)).join('')
    let flood
    await withoutClickHouse(async () => {
      flood = publisher.flood(total, (seq) => ({ topic, payload: JSON.stringify({ seq, text: text() }) }))
      const isFull = ({ code, message }) => code === 'SPOOL_IO' && /space|storage/i.test(message)
      await waitFor(() => warnings.some(isFull), { timeoutMs: 30_000, message: 'the disk is full' })
    })
    await flood
    await waitFor(() => pipeline.metrics().messages.received === total, { timeoutMs: 30_000, message: 'all messages' })
    await pipeline.flush()
    await acknowledged(pipeline)
    assert.deepEqual(await servers.counted(table), { rows: total, different: total })
    await waitFor(() => warnings.some(({ code }) => code === 'SPOOL_RECOVERED'), { message: 'SPOOL_RECOVERED' })
    await pipeline.stop()
  })
}

for (const [what, columns, view] of [
  ['the table', 'seq UInt32, lat Float64, CONSTRAINT on_earth CHECK abs(lat) <= 90', false],
  ['a view behind it', 'seq UInt32, lat Float64', true],
]) {
  test(`bad rows of an earlier life that ${what} refuses are dead letters, one by one`, { timeout, skip }, async (t) => {
    const table = await servers.table(columns)
    const behind = unique('behind')
    if (view) {
      await servers.command(`CREATE MATERIALIZED VIEW ${behind} ENGINE = MergeTree ORDER BY seq
        SETTINGS non_replicated_deduplication_window = 10000
        AS SELECT seq, throwIf(abs(lat) > 90, 'not on earth') AS bad FROM ${table}`)
    }
    const topic = unique('topic')
    const letters = unique('letters')
    const config = resumable(t, { routes: [{ topic, table }], deadLetters: { table: letters } })
    const bad = [17, 800, 801, 1_999]
    const message = (seq) => ({ topic, payload: JSON.stringify({ seq, lat: bad.includes(seq) ? 91 : 45 }) })
    await leaveInSpool(t, config, 2_000, message)

    const pipeline = servers.pipeline(t, config)
    const ledger = watchLedger(pipeline)
    const told = collect(pipeline, 'deadLetters')
    await pipeline.start()
    await pipeline.flush()
    await heard(pipeline, told)
    const good = range(2_000).filter((seq) => !bad.includes(seq))
    const rows = await servers.rows(`SELECT seq FROM ${view ? behind : table} ORDER BY seq`)
    assert.deepEqual(
      rows.map(({ seq }) => seq),
      good,
    )
    if (view) assert.deepEqual(await servers.counted(table), { rows: 2_000, different: 2_000 })
    assert.deepEqual(told.map(({ payload }) => JSON.parse(payload).seq).sort((a, b) => a - b), bad)
    assert.ok(told.every(({ code, route }) => code === 'REJECTED_BY_CLICKHOUSE' && route === 0))
    assert.equal(await servers.count(letters), bad.length)
    const { messages } = pipeline.metrics()
    assert.deepEqual([messages.received, messages.inserted, messages.deadLettered], [2_000, 1_996, 4])
    await atRest(pipeline)
    ledger.close()
  })
}

test('a table that changes while rows for it lie in the spool', { timeout, skip }, async (t) => {
  const table = await servers.table('seq UInt32, speed UInt16')
  const topic = unique('topic')
  const config = resumable(t, { routes: [{ topic, table }] })
  const message = (seq) => ({ topic, payload: JSON.stringify({ seq, speed: seq, note: `n${seq}` }) })
  await leaveInSpool(t, config, 1_000, message)
  await servers.command(`ALTER TABLE ${table} ADD COLUMN note String`)
  await servers.command(`ALTER TABLE ${table} MODIFY COLUMN speed UInt8`)

  const pipeline = servers.pipeline(t, config)
  const letters = collect(pipeline, 'deadLetters')
  await pipeline.start()
  await pipeline.flush()
  await heard(pipeline, letters)
  const rows = await servers.rows(`SELECT seq, speed, note FROM ${table} ORDER BY seq`)
  assert.deepEqual(
    rows,
    range(256).map((seq) => ({ seq, speed: seq, note: `n${seq}` })),
  )
  assert.equal(letters.length, 744)
  assert.ok(letters.every(({ code }) => code === 'OUT_OF_RANGE'))
  await atRest(pipeline)
})

test('only a type is another one while rows lie in the spool', { timeout, skip }, async (t) => {
  const table = await servers.table('seq UInt32, value UInt32')
  const topic = unique('topic')
  const config = resumable(t, { routes: [{ topic, table }] })
  await leaveInSpool(t, config, 500, (seq) => ({ topic, payload: JSON.stringify({ seq, value: seq }) }))
  await servers.command(`ALTER TABLE ${table} MODIFY COLUMN value String`)
  const pipeline = await servers.started(t, config)
  await pipeline.flush()
  const rows = await servers.rows(`SELECT seq, value FROM ${table} ORDER BY seq`)
  assert.deepEqual(
    rows,
    range(500).map((seq) => ({ seq, value: String(seq) })),
  )
})

test('rows for a route that is no longer configured are still inserted', { timeout, skip }, async (t) => {
  const [table, other] = [await servers.table('seq UInt32'), await servers.table('seq UInt32')]
  const topic = unique('topic')
  const config = resumable(t, { routes: [{ topic, table }] })
  await leaveInSpool(t, config, 200, (seq) => ({ topic, payload: JSON.stringify({ seq }) }))
  const pipeline = await servers.started(t, { ...config, routes: [{ topic: unique('topic'), table: other }] })
  await pipeline.flush()
  assert.deepEqual(await servers.counted(table), { rows: 200, different: 200 })
  await atRest(pipeline)
})

test('a message that cannot be decoded is acknowledged when its dead letter is stored', { timeout, skip }, async (t) => {
  const table = await servers.table('seq UInt32')
  const topic = unique('topic')
  const letters = unique('letters')
  const config = resumable(t, { routes: [{ topic, table }], deadLetters: { table: letters } })
  const pipeline = await servers.started(t, config)
  const publisher = await servers.publisher(t)
  await withoutClickHouse(async () => {
    await publisher.publish(topic, { seq: 1 })
    await received(pipeline, 1)
    await acknowledged(pipeline)
    await publisher.publish(topic, 'no JSON')
    await publisher.publish(topic, { seq: 2 })
    await received(pipeline, 3)
    await waitFor(() => pipeline.metrics().inserts.retried > 3, { message: 'attempts' })
    assert.equal(pipeline.metrics().mqtt.unacknowledged, 2, 'the one behind it waits for it')
  })
  await settled(pipeline, 3)
  await acknowledged(pipeline)
  assert.deepEqual(await servers.counted(table), { rows: 2, different: 2 })
  assert.equal(await servers.count(letters), 1)
})

test('a broker with a small window that waits for it is answered from the spool', { timeout, skip }, async (t) => {
  const table = await servers.table('seq UInt32')
  const broker = await startScriptedBroker(t)
  const config = resumable(t, {
    mqtt: { url: broker.url, protocolVersion: 4 },
    routes: [{ topic: 'a', table }],
    spool: { commitMs: 1_000 },
  })
  const pipeline = await servers.started(t, config)
  let round = 0
  await withoutClickHouse(async () => {
    // When the warning WINDOW_NARROW comes is a matter of time: `mqtt/connection/inflight_window` tests it.
    while (round < 40) {
      round++
      const ids = Array.from({ length: 20 }, (_, i) => (round - 1) * 20 + i + 1)
      broker.send(Buffer.concat(ids.map((id) => publishPacket('a', JSON.stringify({ seq: id }), { id }))), broker.members[0])
      await waitFor(() => broker.acknowledged.length === round * 20, { message: `the acknowledgements of round ${round}` })
    }
  })
  await settled(pipeline, round * 20)
  assert.deepEqual(await servers.counted(table), { rows: round * 20, different: round * 20 })
})

test('flush() means ClickHouse, not the spool', { timeout }, async (t) => {
  const table = await servers.table('seq UInt32')
  const topic = unique('topic')
  const pipeline = await servers.started(t, {
    routes: [{ topic, table }],
    batch: { maxDelayMs: 3_600_000 },
    spool: { dir: spoolDir(t) },
  })
  const publisher = await servers.publisher(t)
  for (let seq = 0; seq < 3; seq++) {
    await publisher.publish(topic, { seq })
    await received(pipeline, seq + 1)
    await acknowledged(pipeline)
    assert.equal(await servers.count(table), seq, 'the INSERT is not due for an hour')
    await pipeline.flush()
    assert.equal(await servers.count(table), seq + 1)
  }
})

test('several connections and routes through one spool', { timeout }, async (t) => {
  const tables = [await servers.table(COLUMNS), await servers.table(COLUMNS)]
  const prefixes = [unique('topic'), unique('topic')]
  const pipeline = await servers.started(t, {
    mqtt: { connections: 3, sharedGroup: unique('group'), clientId: unique('client') },
    routes: prefixes.map((prefix, i) => route(prefix, tables[i])),
    spool: { dir: spoolDir(t) },
  })
  const publisher = await servers.publisher(t)
  await publisher.flood(10_000, (i) => position(prefixes[i % 2], Math.floor(i / 2)))
  await settled(pipeline, 10_000)
  for (const table of tables) await assertPositions(servers, table, 5_000)
  await atRest(pipeline)
})

test('a start while ClickHouse is away takes messages for the tables of the last start', { timeout, skip }, async (t) => {
  const table = await servers.table(COLUMNS)
  const prefix = unique('topic')
  const deadLetters = { table: unique('letters') }
  const config = resumable(t, { routes: [route(prefix, table)], deadLetters })
  const publisher = await servers.publisher(t)
  const first = await servers.started(t, config)
  await publisher.flood(100, (i) => position(prefix, i))
  await settled(first, 100)
  await first.stop()
  // A change before ClickHouse goes away is not known to the next start.
  await servers.command(`ALTER TABLE ${table} ADD COLUMN added String`)

  const second = servers.pipeline(t, config)
  const warnings = collect(second, 'warning')
  await withoutClickHouse(async () => {
    await second.start()
    const [{ readAt, errorCode, message }] = warnings.filter(({ code }) => code === 'SCHEMA_REMEMBERED')
    assert.equal(errorCode, 'CLICKHOUSE_UNREACHABLE')
    assert.ok(message.includes(readAt), message)
    assert.ok(Date.now() - Date.parse(readAt) < timeout)
    await publisher.flood(1_000, (i) => position(prefix, 100 + i))
    await publisher.publish(`${prefix}/driver-1/position`, { seq: 'none' })
    await received(second, 1_001)
    await waitFor(() => second.metrics().mqtt.unacknowledged === 1, { message: 'all but the dead letter acknowledged' })
  })
  await settled(second, 1_001)
  assert.equal(await servers.count(deadLetters.table), 1)
  // The table is looked at once a second at most.
  let sent = 1_100
  const isAdded = () => warnings.some(({ code, column }) => code === 'COLUMN_ADDED' && column === 'added')
  while (!isAdded() && sent < 2_000) {
    await publisher.flood(1, () => position(prefix, sent++))
    await settled(second, sent - 99)
  }
  assert.ok(isAdded())
  assert.deepEqual(await servers.counted(table), { rows: sent, different: sent })
  await second.stop()

  // The change that the second one met is known to the third: missingFields applies to the column.
  const third = servers.pipeline(t, config)
  await withoutClickHouse(async () => {
    await third.start()
    await publisher.flood(1, () => position(prefix, sent))
    await received(third, 1)
    await waitFor(() => third.metrics().mqtt.unacknowledged === 1, { message: 'it is no row for the spool' })
  })
  await settled(third, 1)
  assert.equal(await servers.count(deadLetters.table), 2)
})

test('without the tables of an earlier start, or with other tables, a start needs ClickHouse', { timeout, skip }, async (t) => {
  const table = await servers.table('seq UInt32')
  const other = await servers.table('seq UInt32')
  const config = resumable(t, { routes: [{ topic: unique('topic'), table }] })
  const refused = (more) => assert.rejects(servers.pipeline(t, { ...config, ...more }).start(), { code: 'CLICKHOUSE_UNREACHABLE' })
  const tables = join(config.spool.dir, 'tables.json')
  await withoutClickHouse(() => refused())
  await (await servers.started(t, config)).stop()
  const text = readFileSync(tables, 'utf8')
  await withoutClickHouse(async () => {
    await refused({ routes: [...config.routes, { topic: unique('topic'), table: other }] })
    await refused({ deadLetters: { table: unique('letters') } })
    for (const broken of [text.slice(0, -10), text.replace('"version": 1', '"version": 2'), '']) {
      writeFileSync(tables, broken)
      await refused()
    }
    writeFileSync(tables, text)
    await (await servers.started(t, config)).stop()
  })
  // A new table is asked about, and the file does not count as foreign.
  const pipeline = servers.pipeline(t, { ...config, routes: [{ topic: unique('topic'), table: other }] })
  const warnings = collect(pipeline, 'warning')
  await pipeline.start()
  assert.deepEqual(warnings.filter(({ code }) => code === 'SPOOL_FOREIGN_FILES'), [])
  assert.ok(readFileSync(tables, 'utf8').includes(other))
})
