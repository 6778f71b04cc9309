// replayDeadLetters(): each dead letter becomes its row once, or stays a dead letter.

import assert from 'node:assert/strict'
import { mkdir, mkdtemp, readdir, readFile, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { test } from 'node:test'
import { MillraceError, replayDeadLetters } from '../../index.js'
import { COLUMNS, assertPositions, position, route } from '../support/positions.mjs'
import { startProgram } from '../support/program.mjs'
import { startProxy } from '../support/proxy.mjs'
import { publishPacket, startScriptedBroker } from '../support/scripted-broker.mjs'
import { collect, heard, settled, unique, useServers } from '../support/servers.mjs'

const servers = useServers()
const timeout = 120_000

/** No broker is asked: this one is not there. */
const NO_BROKER = { url: 'mqtt://127.0.0.1:1' }
const config = (more) => servers.config({ mqtt: NO_BROKER, ...more })

/** A small ceiling, with messages that fit under it. */
const SMALL_MEMORY = { mqtt: { ...NO_BROKER, maxPacketBytes: 1 << 17 }, memory: { maxBytes: 1 << 20 } }

const RECEIVED_AT = Date.UTC(2024, 9, 27, 3, 33, 20, 123)
/** A dead letter as a line of a file. */
const line = (topic, payload, more = {}) =>
  `${JSON.stringify({
    receivedAt: new Date(RECEIVED_AT).toISOString(),
    route: 0,
    topic,
    payload: typeof payload === 'string' ? payload : JSON.stringify(payload),
    code: 'TYPE_MISMATCH',
    message: 'why',
    ...more,
  })}\n`

async function directory(t) {
  const dir = await mkdtemp(join(tmpdir(), 'millrace-'))
  t.after(() => rm(dir, { recursive: true }))
  return dir
}

/** A directory with one file of these lines. */
async function written(t, lines, name = 'letters.jsonl') {
  const dir = await directory(t)
  const file = join(dir, name)
  await writeFile(file, lines.join(''))
  return { dir, file }
}

async function lettersIn(dir) {
  const files = (await readdir(dir)).filter((name) => name.endsWith('.jsonl')).sort()
  const texts = await Promise.all(files.map((file) => readFile(join(dir, file), 'utf8')))
  return texts.flatMap((text) => text.split('\n').filter(Boolean)).map((text) => JSON.parse(text))
}

const counts = ({ malformedLetters, ...report }) => report
const all = (count) => ({ read: count, inserted: count, deadLettered: 0, dropped: 0, malformed: 0, rows: count })

for (const place of ['dir', 'file', 'table', 'event']) {
  test(`a wrong mapping, corrected: dead letters from ${place}`, { timeout }, async (t) => {
    const count = 2_500
    const table = await servers.table(`${COLUMNS}, received DateTime64(3, 'UTC')`)
    const prefix = unique('topic')
    const dir = await directory(t)
    const deadLetters = { dir: { dir }, file: { dir }, table: { table: unique('letters') } }[place]
    const wrong = { lat: 'latitude', received: { meta: 'receivedAt' } }
    const mended = { received: { meta: 'receivedAt' } }
    const pipeline = await servers.started(t, { routes: [{ ...route(prefix, table), columns: wrong }], deadLetters })
    const letters = collect(pipeline, 'deadLetters')
    const publisher = await servers.publisher(t)
    await publisher.flood(count, (i) => position(prefix, i))
    await settled(pipeline, count)
    await heard(pipeline, letters)
    await pipeline.stop()
    assert.equal(await servers.count(table), 0)

    const files = await readdir(dir)
    const source = {
      dir: { dir },
      file: { file: join(dir, files[0] ?? '') },
      table: { table: `${servers.database}.${deadLetters?.table}` },
      event: letters,
    }[place]
    const report = await replayDeadLetters(
      config({ routes: [{ ...route(prefix, table), columns: mended }], deadLetters, batch: { maxRows: 1_000 } }),
      source,
    )
    assert.deepEqual(report, { ...all(count), malformedLetters: [] })
    await servers.command(`CREATE TABLE ${table}_times (seq UInt64, received DateTime64(3, 'UTC')) ENGINE = Memory`)
    const times = letters.map((letter) => `(${JSON.parse(String(letter.payload)).seq}, ${letter.receivedAt.getTime()})`)
    await servers.command(`INSERT INTO ${table}_times VALUES ${times.join()}`)
    const [{ same }] = await servers.rows(
      `SELECT count() AS same FROM ${table} INNER JOIN ${table}_times USING (seq, received)`,
    )
    assert.equal(Number(same), count, 'each has the time at which it came first')
    await servers.command(`ALTER TABLE ${table} DROP COLUMN received`)
    await assertPositions(servers, table, count)
    assert.deepEqual(await readdir(dir), files, 'nothing is taken from the source, and nothing added')
  })
}

test('rows that a constraint refused, once it is gone', { timeout }, async (t) => {
  const table = await servers.table('seq UInt32, lat Float64, CONSTRAINT on_earth CHECK abs(lat) <= 90')
  const topic = unique('topic')
  const dir = await directory(t)
  const routes = [{ topic, table }]
  const pipeline = await servers.started(t, { routes, deadLetters: { dir } })
  const publisher = await servers.publisher(t)
  await publisher.flood(50, (i) => ({ topic, payload: JSON.stringify({ seq: i, lat: 400 }) }))
  await settled(pipeline, 50)
  await pipeline.stop()
  assert.equal(await servers.count(table), 0)

  const again = join(dir, 'again')
  const first = await replayDeadLetters(config({ routes, deadLetters: { dir: again } }), { dir })
  assert.deepEqual(counts(first), { read: 50, inserted: 0, deadLettered: 50, dropped: 0, malformed: 0, rows: 0 })
  const letters = await lettersIn(again)
  assert.equal(letters.length, 50)
  const times = (list) => list.map(({ receivedAt, payload }) => receivedAt + payload).sort()
  assert.deepEqual(times(letters), times(await lettersIn(dir)), 'they keep the time at which they came first')

  await servers.command(`ALTER TABLE ${table} DROP CONSTRAINT on_earth`)
  assert.deepEqual(counts(await replayDeadLetters(config({ routes }), { dir: again })), all(50))
  assert.deepEqual(await servers.counted(table), { rows: 50, different: 50 })
})

for (const place of ['dir', 'table', 'event']) {
  test(`bytes that are not text survive: dead letters from ${place}`, { timeout }, async (t) => {
    const everyByte = Buffer.from(Array.from({ length: 256 }, (_, i) => i))
    const payloads = [everyByte, Buffer.from([0xff]), Buffer.from('"\\\n\u2028é\0'), Buffer.alloc(0), Buffer.alloc(3)]
    const table = await servers.table('payload String, topic String')
    const dir = await directory(t)
    const deadLetters = { dir: { dir }, table: { table: unique('letters') } }[place]
    const broker = await startScriptedBroker(t)
    const pipeline = await servers.started(t, {
      mqtt: { url: broker.url, protocolVersion: 4, clientId: unique('client') },
      routes: [{ topic: 'a/#', table }],
      deadLetters,
    })
    const letters = collect(pipeline, 'deadLetters')
    const unreadable = Buffer.from([0x61, 0x2f, 0xff, 0xfe])
    for (const [i, payload] of payloads.entries()) broker.send(publishPacket('a/ü', payload, { id: i + 1 }))
    broker.send(publishPacket(unreadable, 'x', { id: payloads.length + 1 }))
    await settled(pipeline, payloads.length + 1)
    await heard(pipeline, letters)
    await pipeline.stop()
    assert.deepEqual(letters.at(-1).topicBytes, unreadable)
    assert.equal(letters[0].topicBytes, undefined)

    const again = []
    const columns = { payload: { meta: 'payload' }, topic: { meta: 'topic' } }
    const source = { dir: { dir }, table: deadLetters, event: letters }[place]
    const report = await replayDeadLetters(config({ routes: [{ topic: 'a/#', table, columns }] }), source, {
      onDeadLetters: (more) => again.push(...more),
    })
    assert.deepEqual(counts(report), { read: 6, inserted: 5, deadLettered: 1, dropped: 0, malformed: 0, rows: 5 })
    const rows = await servers.rows(`SELECT hex(payload) AS payload, topic FROM ${table} ORDER BY payload`)
    const expected = payloads.map((payload) => ({ payload: payload.toString('hex').toUpperCase(), topic: 'a/ü' }))
    assert.deepEqual(
      rows,
      expected.sort((a, b) => (a.payload < b.payload ? -1 : 1)),
    )
    const [{ topicBytes, code, payload }] = again
    assert.deepEqual([topicBytes, code, payload], [unreadable, 'TOPIC_INVALID', Buffer.from('x')])
  })
}

test('a replay that is made twice inserts once, whatever is in flight', { timeout }, async (t) => {
  const count = 3_333
  const tables = [await servers.table('seq UInt64'), await servers.table('seq UInt64')]
  const topics = [unique('topic'), unique('topic')]
  const routes = tables.map((table, i) => ({ topic: topics[i], table }))
  const lines = Array.from({ length: count }, (_, i) =>
    line(topics[i % 3 === 0 ? 0 : 1], i % 100 === 99 ? 'bad' : { seq: i }),
  )
  const { dir, file } = await written(t, lines)
  await writeFile(join(dir, 'more.jsonl'), line(topics[0], { seq: count }))
  const letters = unique('letters')
  for (const maxInFlight of [1, 4]) {
    const report = await replayDeadLetters(
      config({ routes, batch: { maxRows: 100 }, clickhouse: { maxInFlight }, deadLetters: { table: letters } }),
      { dir },
    )
    assert.deepEqual(counts(report), { read: 3_334, inserted: 3_301, deadLettered: 33, dropped: 0, malformed: 0, rows: 3_301 })
    assert.equal((await servers.count(tables[0])) + (await servers.count(tables[1])), 3_301)
    assert.equal(await servers.count(letters), 33, 'what fails again is not kept twice either')
  }
  // The same dead letters from another source are recognised.
  const more = await replayDeadLetters(config({ routes, batch: { maxRows: 100 } }), { file })
  assert.equal(more.inserted, 3_300)
  assert.equal((await servers.count(tables[0])) + (await servers.count(tables[1])), 3_301)
})

test('equal dead letters become a row each', { timeout }, async (t) => {
  const table = await servers.table('ok Bool')
  const topic = unique('topic')
  const { file } = await written(t, Array(500).fill(line(topic, { ok: true })))
  const replay = () => replayDeadLetters(config({ routes: [{ topic, table }], batch: { maxRows: 100 } }), { file })
  for (let run = 0; run < 2; run++) {
    assert.deepEqual(counts(await replay()), all(500))
    assert.equal(await servers.count(table), 500)
  }
})

test('lines that are not dead letters are reported, and the others are replayed', { timeout }, async (t) => {
  const table = await servers.table('seq UInt32')
  const topic = unique('topic')
  const good = (seq) => line(topic, { seq })
  const bad = ['nonsense\n', '{}\n', '[]\n', 'null\n', '\xff\n', line(topic, '', { payload: undefined })]
  const { dir, file } = await written(t, [good(1), ...bad, '\n', good(2), good(3).slice(0, -20)], 'a.jsonl')
  await writeFile(join(dir, 'b.jsonl'), good(4).trimEnd())
  await writeFile(join(dir, 'c.txt'), 'not asked for\n')
  await mkdir(join(dir, 'd.jsonl'))
  const warnings = []
  const report = await replayDeadLetters(config({ routes: [{ topic, table }] }), { dir }, {
    onWarning: (warning) => warnings.push(warning),
  })
  assert.deepEqual(counts(report), { read: 3, inserted: 3, deadLettered: 0, dropped: 0, malformed: 7, rows: 3 })
  assert.deepEqual(
    report.malformedLetters.map(({ line }) => line),
    [2, 3, 4, 5, 6, 7, 10],
  )
  assert.ok(report.malformedLetters.every((malformed) => malformed.file === file && malformed.message))
  assert.match(report.malformedLetters.at(-1).message, /ends in this line/)
  const told = warnings.filter(({ code }) => code === 'LETTER_MALFORMED')
  assert.equal(told.length, 7)
  assert.ok(told[0].message.startsWith(`${file}:2: `), told[0].message)
  assert.deepEqual(await servers.rows(`SELECT seq FROM ${table} ORDER BY seq`), [{ seq: 1 }, { seq: 2 }, { seq: 4 }])
})

test('more is wrong than a report holds', { timeout }, async (t) => {
  const table = await servers.table('seq UInt32')
  const { file } = await written(t, Array(5_000).fill('?\n'))
  const report = await replayDeadLetters(config({ routes: [{ topic: 'a', table }] }), { file })
  assert.equal(report.malformed, 5_000)
  assert.equal(report.malformedLetters.length, 100)
})

test('items of an iterable that are not dead letters', { timeout }, async (t) => {
  const table = await servers.table('seq UInt32')
  const topic = unique('topic')
  const payload = Buffer.from('{"seq":1}')
  const receivedAt = new Date(RECEIVED_AT)
  /** @type {any[]} */
  const letters = [
    null,
    'text',
    {},
    { receivedAt: new Date('soon'), topic, payload },
    { receivedAt, topic: 7, payload },
    { receivedAt, topic, payload: { seq: 1 } },
    { receivedAt, topic, payload },
    { receivedAt: receivedAt.toISOString(), topic, payload: '{"seq":2}' },
  ]
  const report = await replayDeadLetters(config({ routes: [{ topic, table }] }), letters)
  assert.deepEqual(counts(report), { read: 2, inserted: 2, deadLettered: 0, dropped: 0, malformed: 6, rows: 2 })
  assert.deepEqual(report.malformedLetters[0], { file: null, line: 1, message: 'is not an object' })
  assert.deepEqual(
    report.malformedLetters.map(({ line }) => line),
    [1, 2, 3, 4, 5, 6],
  )
})

test('a packet that was too large has no payload to replay', { timeout }, async (t) => {
  const table = await servers.table('payload String')
  const topic = unique('topic')
  const columns = { payload: { meta: 'payload' } }
  const message = 'a packet of 99 bytes is over maxPacketBytes, 9'
  const { file } = await written(t, [line(topic, '', { code: 'PACKET_TOO_LARGE', message }), line(topic, '')])
  const letters = []
  const report = await replayDeadLetters(config({ routes: [{ topic, table, columns }] }), { file }, {
    onDeadLetters: (more) => letters.push(...more),
  })
  assert.deepEqual(counts(report), { read: 2, inserted: 1, deadLettered: 1, dropped: 0, malformed: 0, rows: 1 })
  assert.deepEqual(
    letters.map(({ code, message, receivedAt }) => ({ code, message, receivedAt })),
    [{ code: 'PACKET_TOO_LARGE', message, receivedAt: new Date(RECEIVED_AT) }],
  )
})

test('dead letters that fail again stay where they are, or go where the configuration says', { timeout }, async (t) => {
  const table = await servers.table('seq UInt32')
  const topic = unique('topic')
  const routes = [{ topic, table }]
  const lines = [line(topic, { seq: 1 }), line(topic, 'bad'), line('elsewhere', { seq: 2 })]
  const { dir, file } = await written(t, lines)
  const expected = { read: 3, inserted: 1, deadLettered: 2, dropped: 0, malformed: 0, rows: 1 }

  for (const source of [{ dir }, { file }]) {
    const report = await replayDeadLetters(config({ routes, deadLetters: { dir: join(dir, '.') } }), source)
    assert.deepEqual(counts(report), expected)
    assert.equal((await lettersIn(dir)).length, 3, 'they are there already')
  }
  const elsewhere = join(dir, 'elsewhere')
  const report = await replayDeadLetters(config({ routes, deadLetters: { dir: elsewhere } }), { dir })
  assert.deepEqual(counts(report), expected)
  const letters = await lettersIn(elsewhere)
  assert.deepEqual(
    letters.map(({ message, ...letter }) => letter),
    [
      { receivedAt: new Date(RECEIVED_AT).toISOString(), route: 0, topic, payload: 'bad', code: 'JSON_INVALID' },
      {
        receivedAt: new Date(RECEIVED_AT).toISOString(),
        route: -1,
        topic: 'elsewhere',
        payload: '{"seq":2}',
        code: 'NO_ROUTE',
      },
    ],
  )
  const kept = unique('letters')
  const deadLetters = { table: kept }
  assert.deepEqual(counts(await replayDeadLetters(config({ routes, deadLetters }), { dir })), expected)
  assert.equal(await servers.count(kept), 2)
  const replay = (source) => replayDeadLetters(config({ routes, deadLetters }), source)
  assert.equal((await replay({ table: kept })).deadLettered, 2)
  const some = { table: `${servers.database}.${kept}`, where: "error_code = 'NO_ROUTE' OR topic = '?'" }
  assert.equal((await replay(some)).read, 1)
  assert.equal(await servers.count(kept), 2)
  assert.deepEqual(await servers.counted(table), { rows: 1, different: 1 })
})

test('nothing to replay', { timeout }, async (t) => {
  const table = await servers.table('seq UInt32')
  const replay = async (source) => counts(await replayDeadLetters(config({ routes: [{ topic: 'a', table }] }), source))
  const { file } = await written(t, [])
  for (const source of [{ file }, { dir: await directory(t) }, [], new Set(), (async function* () {})()]) {
    assert.deepEqual(await replay(source), all(0))
  }
})

test('an impossible replay is refused before anything is inserted', { timeout }, async (t) => {
  const table = await servers.table('seq UInt32')
  const routes = [{ topic: 'a', table }]
  const { dir, file } = await written(t, [line('a', { seq: 1 })])
  const good = config({ routes })
  /** @type {any[]} the code, the path, and the arguments */
  const wrong = [
    ['CONFIG_INVALID', 'routes', { ...good, routes: [] }, { dir }],
    ['CONFIG_INVALID', 'routs', { ...good, routs: [] }, { dir }],
    ['CONFIG_INVALID', 'source', good, {}],
    ['CONFIG_INVALID', '', good, undefined],
    ['CONFIG_INVALID', '', good, 'text'],
    ['CONFIG_INVALID', 'source', good, { dir, file }],
    ['CONFIG_INVALID', 'source.dri', good, { dri: dir }],
    ['CONFIG_INVALID', 'source.where', good, { file, where: '1' }],
    ['CONFIG_INVALID', 'options.onprogress', good, { dir }, { onprogress() {} }],
    ['CONFIG_INVALID', 'options.onProgress', good, { dir }, { onProgress: 1 }],
    ['SOURCE_UNREADABLE', 'source.dir', good, { dir: join(dir, 'absent') }],
    ['SOURCE_UNREADABLE', 'source.file', good, { file: join(dir, 'absent.jsonl') }],
    ['TABLE_NOT_FOUND', 'source.table', good, { table: 'absent' }],
    ['COLUMN_NOT_FOUND', 'source.table', good, { table }],
    ['TABLE_NOT_FOUND', 'routes[0].table', { ...good, routes: [{ topic: 'a', table: 'absent' }] }, { dir }],
    ['CLICKHOUSE_UNREACHABLE', undefined, { ...good, clickhouse: { url: 'http://127.0.0.1:1' } }, { dir }],
  ]
  for (const [code, path, ...args] of wrong) {
    const about = JSON.stringify([code, path, args[1], args[2]])
    // @ts-ignore
    const error = await replayDeadLetters(...args).then(
      () => assert.fail(about),
      (error) => error,
    )
    assert.ok(error instanceof MillraceError, `${about}: ${error}`)
    assert.equal(error.code, code, `${about}: ${error.message}`)
    assert.equal(error.path, path, `${about}: ${error.message}`)
  }
  const letters = unique('letters')
  await replayDeadLetters(config({ routes, deadLetters: { table: letters } }), [])
  await assert.rejects(replayDeadLetters(good, { table: letters, where: 'nonsense(' }), { code: 'CLICKHOUSE_REJECTED' })
  assert.equal(await servers.count(table), 0)
})

test('an iterable is pulled only as fast as the engine has memory', { timeout }, async (t) => {
  const table = await servers.table('seq UInt64, text String')
  const topic = unique('topic')
  const count = 3_000
  let pulled = 0
  let ended = false
  async function* letters() {
    try {
      for (; pulled < count; pulled++) {
        const payload = Buffer.from(JSON.stringify({ seq: pulled, text: 'x'.repeat(5_000) }))
        yield { receivedAt: new Date(RECEIVED_AT), route: 0, topic, payload, code: '', message: '' }
      }
    } finally {
      ended = true
    }
  }
  const reports = []
  const report = await replayDeadLetters(
    config({
      routes: [{ topic, table }],
      ...SMALL_MEMORY,
      batch: { maxRows: 1_000_000 },
      metricsIntervalMs: 5,
    }),
    letters(),
    { onProgress: (report) => reports.push({ pulled, ...counts(report) }) },
  )
  assert.deepEqual(counts(report), all(count))
  assert.deepEqual(await servers.counted(table), { rows: count, different: count })
  assert.ok(ended)
  // One chunk at the engine, one that waits, one that is being filled; and what the ceiling holds.
  for (const { pulled, inserted } of reports) {
    assert.ok(pulled - inserted < 1_500, `${pulled} pulled, ${inserted} inserted`)
  }
})

test('a file far larger than the memory, for several tables', { timeout }, async (t) => {
  const count = 12_000
  const tables = await Promise.all([0, 1, 2].map(() => servers.table('seq UInt64, text String')))
  const topic = unique('topic')
  const routes = tables.map((table, i) => ({ topic: `${topic}/${i}`, table }))
  const text = 'x'.repeat(1_000)
  const lines = Array.from({ length: count }, (_, i) => line(`${topic}/${i % 3}`, { seq: i, text }))
  const { file } = await written(t, lines)
  for (let run = 0; run < 2; run++) {
    const report = await replayDeadLetters(
      config({ routes, ...SMALL_MEMORY, batch: { maxRows: 1_000_000 } }),
      { file },
    )
    assert.deepEqual(counts(report), all(count))
    for (const table of tables) assert.deepEqual(await servers.counted(table), { rows: 4_000, different: 4_000 })
  }
})

test('a replay that is aborted, and made again', { timeout }, async (t) => {
  const count = 20_000
  const table = await servers.table('seq UInt64')
  const topic = unique('topic')
  const { file } = await written(
    t,
    Array.from({ length: count }, (_, i) => line(topic, { seq: i })),
  )
  const options = { routes: [{ topic, table }], batch: { maxRows: 200 }, metricsIntervalMs: 5 }
  const reason = new Error('enough')
  await assert.rejects(replayDeadLetters(config(options), { file }, { signal: AbortSignal.abort(reason) }), reason)
  const controller = new AbortController()
  const aborted = replayDeadLetters(config(options), { file }, {
    signal: controller.signal,
    onProgress: ({ inserted }) => inserted > 0 && controller.abort(reason),
  })
  await assert.rejects(aborted, reason)
  const before = await servers.count(table)
  assert.ok(before > 0 && before < count, `${before} rows before the abort`)
  assert.deepEqual(counts(await replayDeadLetters(config(options), { file })), all(count))
  assert.deepEqual(await servers.counted(table), { rows: count, different: count })
})

test('a replay that is killed, and made again', { timeout }, async (t) => {
  const count = 20_000
  const table = await servers.table('seq UInt64')
  const topic = unique('topic')
  const { dir } = await written(
    t,
    Array.from({ length: count }, (_, i) => line(topic, { seq: i })),
  )
  const options = config({ routes: [{ topic, table }], batch: { maxRows: 200 }, metricsIntervalMs: 5 })
  const killed = startProgram(t, 'replays.mjs', { config: options, source: { dir } })
  await killed.line('begun')
  killed.kill()
  await killed.end()
  const again = startProgram(t, 'replays.mjs', { config: options, source: { dir } })
  assert.equal((await again.end()).code, 0)
  assert.deepEqual(counts(JSON.parse(again.lines.at(-1))), all(count))
  assert.deepEqual(await servers.counted(table), { rows: count, different: count })
})

test('an iterable that throws, and one that never ends', { timeout }, async (t) => {
  const table = await servers.table('seq UInt32')
  const routes = [{ topic: 'a', table }]
  const broken = new Error('the disk is gone')
  async function* throws() {
    const payload = Buffer.from('{"seq":1}')
    yield { receivedAt: new Date(RECEIVED_AT), route: 0, topic: 'a', payload, code: '', message: '' }
    throw broken
  }
  await assert.rejects(replayDeadLetters(config({ routes }), throws()), broken)
  const forever = { [Symbol.asyncIterator]: () => ({ next: () => new Promise(() => {}) }) }
  const controller = new AbortController()
  const waiting = replayDeadLetters(config({ routes, metricsIntervalMs: 5 }), forever, {
    signal: controller.signal,
    onProgress: () => controller.abort(),
  })
  await assert.rejects(waiting, { name: 'AbortError' })
  await assert.rejects(replayDeadLetters(config({ routes: [{ topic: 'a', table: 'absent' }] }), forever), {
    code: 'TABLE_NOT_FOUND',
  })
})

test('an answer that breaks off is gone on with', { timeout }, async (t) => {
  const count = 30_000
  const table = await servers.table('seq UInt64, text String')
  const topic = unique('topic')
  const letters = unique('letters')
  await replayDeadLetters(config({ routes: [{ topic, table }], deadLetters: { table: letters } }), [])
  // Many of one millisecond, and some that are the same.
  await servers.command(`INSERT INTO ${letters}
    SELECT fromUnixTimestamp64Milli(toInt64(1730000000000 + intDiv(number, 700))), 0, '${topic}',
      concat('{"seq":', toString(intDiv(number, 2)), ',"text":"', hex(randomString(200)), '"}'), 'TYPE_MISMATCH', ''
    FROM numbers(${count})`)
  await servers.command(`INSERT INTO ${letters}
    SELECT * FROM ${letters} WHERE received_at < '2024-10-27 03:33:20.005'`)
  const { rows } = await servers.counted(letters, 'payload')
  const proxy = await startProxy(t, Number(new URL(servers.clickhouse.url).port))
  const warnings = []
  const replay = (url) =>
    replayDeadLetters(
      config({
        routes: [{ topic, table }],
        clickhouse: { url, retry: { minMs: 10, maxMs: 50 } },
        batch: { maxRows: 500 },
        ...SMALL_MEMORY,
        metricsIntervalMs: 5,
      }),
      { table: letters },
      {
        onWarning: (warning) => warnings.push(warning.code),
        onProgress: ({ inserted }) => inserted > 0 && proxy.lost < 12 && proxy.loseAnswers(1),
      },
    )
  assert.deepEqual(counts(await replay(`http://127.0.0.1:${proxy.port}`)), all(rows))
  assert.ok(warnings.includes('REPLAY_INTERRUPTED'), [...new Set(warnings)].join())
  const same = async () =>
    assert.deepEqual(
      await servers.rows(`SELECT count() AS rows, sum(cityHash64(seq, text)) AS sum FROM ${table}`),
      await servers.rows(`SELECT count() AS rows,
        sum(cityHash64(JSONExtractUInt(payload, 'seq'), JSONExtractString(payload, 'text'))) AS sum FROM ${letters}`),
    )
  await same()
  assert.deepEqual(counts(await replay(servers.clickhouse.url)), all(rows))
  await same()
})

test('a file that grows is read to the length it had', { timeout }, async (t) => {
  const table = await servers.table('seq UInt32')
  const topic = unique('topic')
  const dir = await directory(t)
  const options = { routes: [{ topic, table, columns: { seq: 'number' } }], deadLetters: { dir } }
  const pipeline = await servers.started(t, options)
  const publisher = await servers.publisher(t)
  await publisher.flood(5_000, (i) => ({ topic, payload: JSON.stringify({ seq: i }) }))
  await settled(pipeline, 5_000)
  const growing = publisher.flood(5_000, (i) => ({ topic, payload: JSON.stringify({ seq: 5_000 + i }) }))
  const report = await replayDeadLetters(config({ routes: [{ topic, table }] }), { dir })
  await growing
  await settled(pipeline, 10_000)
  assert.equal(report.read, report.inserted)
  assert.ok(report.read >= 5_000 && report.read <= 10_000 && report.malformed <= 1, JSON.stringify(report))
  assert.deepEqual(await servers.counted(table), { rows: report.read, different: report.read })
  assert.equal((await lettersIn(dir)).length, 10_000)
})
