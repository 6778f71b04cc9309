// Payloads in every format and compression, paths and rows of every kind: published to a broker, found in a table.

import assert from 'node:assert/strict'
import { test } from 'node:test'
import * as zlib from 'node:zlib'
import { Random } from '../support/random.mjs'
import { collect, heard, settled, unique, useServers } from '../support/servers.mjs'

const servers = useServers()
const timeout = 60_000

/**
 * Publishes payloads through one route to a new table with the columns `table`; gives the rows of `select` and the dead
 * letters. The remaining options are the route's.
 *
 * @param {any} options
 */
async function arrive(t, options) {
  const { table: columns, payloads, select = '*', order = 'tuple()', batch, settings, ...route } = options
  const table = await servers.table(columns)
  const topic = unique('topic')
  const pipeline = await servers.started(t, { batch, routes: [{ topic, table, ...route }] })
  const letters = collect(pipeline, 'deadLetters')
  const warnings = collect(pipeline, 'warning')
  const publisher = await servers.publisher(t, { clients: 1 })
  for (const payload of payloads) await publisher.publish(topic, payload)
  await settled(pipeline, payloads.length, { timeoutMs: 30_000, warnings })
  await heard(pipeline, letters)
  const rows = await servers.rows(`SELECT ${select} FROM ${table} ORDER BY ${order}`, settings)
  return { rows: rows.map((row) => Object.values(row)), letters }
}

/** Everything arrived, and these rows came of it. */
async function assertRows(t, options, expected) {
  const { rows, letters } = await arrive(t, options)
  assert.deepEqual(letters.map(({ code, message, payload }) => `${code}: ${message}: ${payload}`), [])
  assert.deepEqual(rows, expected)
}

// Several rows in one INSERT.
const ONE_BATCH = { maxRows: 100_000, maxDelayMs: 1_000 }

test('a text in a JSON column keeps its type, whatever the other values are', { timeout }, async (t) => {
  const values = ['2026-11-30 08:00:00', '1970-01-01', '1', '1.5', '2262-04-11 23:47:16.854775807', 'ok']
  await assertRows(
    t,
    {
      table: 'n UInt32, j JSON',
      batch: ONE_BATCH,
      payloads: values.map((p, n) => JSON.stringify({ n, j: { p } })),
      select: 'n, j.p::String, dynamicType(j.p)',
      order: 'n',
    },
    values.map((p, n) => [n, p, 'String']),
  )
})

test('typed paths of a JSON column are as strict as columns', { timeout }, async (t) => {
  const documents = [
    { p: 1.5 },
    { d: 1.259 },
    { at: 1764504000123 },
    { at: '2300-01-01 00:00:00' },
    { p: 7, d: 1.25, at: 1764504000 },
  ]
  const { rows, letters } = await arrive(t, {
    table: "n UInt32, j JSON(p UInt8, d Decimal(9, 2), at DateTime('UTC'))",
    payloads: documents.map((j, i) => JSON.stringify({ n: i + 1, j })),
    select: 'n, j.p, j.d, j.at',
    order: 'n',
  })
  assert.deepEqual(
    letters.map(({ code, payload }) => [JSON.parse(payload.toString()).n, code]),
    [
      [1, 'TYPE_MISMATCH'],
      [2, 'OUT_OF_RANGE'],
      [4, 'OUT_OF_RANGE'],
    ],
  )
  assert.deepEqual(rows, [
    [3, 0, 0, '2025-11-30 12:00:00'],
    [5, 7, 1.25, '2025-11-30 12:00:00'],
  ])
})

for (const type of ['JSON', 'JSON(max_dynamic_paths=2, max_dynamic_types=2)', 'Dynamic']) {
  test(`every value of a ${type} column reads back as it was sent`, { timeout }, async (t) => {
    const seed = Random.seed()
    const random = new Random(seed)
    const values = Array.from({ length: 5_000 }, () => value(random, 3))
    const inner = (at) => (type === 'Dynamic' ? values[at] : `{"p${at % 7}":${values[at]}}`)
    const { rows, letters } = await arrive(t, {
      table: `n UInt32, j ${type}`,
      batch: ONE_BATCH,
      payloads: values.map((_, n) => `{"n":${n},"j":${inner(n)}}`),
      select: 'n, toJSONString(j)',
      order: 'n',
      settings: { output_format_json_quote_64bit_integers: 0 },
    })
    assert.deepEqual(letters.map(({ message, payload }) => `${message}: ${payload}`), [], `SEED=${seed}`)
    for (const [n, text] of rows) {
      assert.equal(text.replaceAll('\\/', '/'), inner(n), `SEED=${seed}`)
    }
    assert.equal(rows.length, values.length)
  })
}

/** A JSON value as JSON.stringify and ClickHouse both write it. */
function value(random, depth) {
  const kind = random.below(depth > 0 ? 9 : 7)
  if (kind === 0) return String(random.below(2 ** 31) - 2 ** 30)
  if (kind === 1) return ['9223372036854775807', '-9223372036854775808', '18446744073709551615', '9007199254740993'][random.below(4)]
  if (kind === 2) return String(random.below(1_000_000) / 64 + 0.5)
  if (kind === 3) return ['true', 'false'][random.below(2)]
  if (kind === 4) return JSON.stringify(['1', '1.5', 'true', '2026-11-30', '2026-11-30 08:00:00', 'null', ''][random.below(7)])
  if (kind === 5) return JSON.stringify(`word ${random.below(100)}`)
  if (kind === 6) return '[]'
  if (kind === 7) return `[${Array.from({ length: 1 + random.below(4) }, () => value(random, depth - 1)).join(',')}]`
  return `[${Array.from({ length: 1 + random.below(3) }, (_, i) => `{"k":${value(random, 0)},"l${i}":${value(random, 0)}}`).join(',')}]`
}

test('a JSON column takes more paths than it has columns for', { timeout }, async (t) => {
  const documents = Array.from({ length: 300 }, (_, n) => {
    return Object.fromEntries(Array.from({ length: 10 }, (_, i) => [`path ${n * 10 + i}`, n * 10 + i]))
  })
  await assertRows(
    t,
    {
      table: 'n UInt32, j JSON',
      batch: ONE_BATCH,
      payloads: documents.map((j, n) => JSON.stringify({ n, j })),
      select: 'n, toJSONString(j)',
      order: 'n',
      settings: { output_format_json_quote_64bit_integers: 0 },
    },
    documents.map((j, n) => [n, JSON.stringify(Object.fromEntries(Object.entries(j).sort(([a], [b]) => (a < b ? -1 : 1))))]),
  )
})

test('compressed payloads', { timeout }, async (t) => {
  const payload = Buffer.from('{"n":1}')
  // From Node.js 22.15 on.
  const zstd = 'zstdCompressSync' in zlib ? [zlib.zstdCompressSync(payload)] : [Buffer.from('28b52ffd2007390000' + '7b226e223a317d', 'hex')]
  for (const [compression, payloads] of Object.entries({
    gzip: [zlib.gzipSync(payload), Buffer.from('H4sIAAAAAAAAA6tWylOyMqwFAH47S9QHAAAA', 'base64')],
    zlib: [zlib.deflateSync(payload)],
    zstd,
    auto: [zlib.gzipSync(payload), zlib.deflateSync(payload), ...zstd, payload],
  })) {
    await assertRows(t, { table: 'n UInt32', compression, payloads }, payloads.map(() => [1]))
  }
  const bomb = zlib.gzipSync(Buffer.alloc(1 << 20, ' '))
  const { letters } = await arrive(t, {
    table: 'n UInt32',
    compression: 'gzip',
    maxPayloadBytes: 65_536,
    payloads: [bomb, payload],
  })
  assert.deepEqual(letters.map(({ code }) => code), ['PAYLOAD_TOO_LARGE', 'PAYLOAD_INVALID'])
  const plain = await arrive(t, { table: 'n UInt32', payloads: [zlib.gzipSync(payload)] })
  assert.match(plain.letters[0].message, /compression: 'gzip'/)
})

test('payloads that unpack to 1 GiB are dead letters, and take no more memory than the limit', { timeout }, async (t) => {
  const group = unique('group')
  const topic = `spBv1.0/${group}/NDATA/node`
  // Members of 1 MiB, of about 1 KiB each: as gzip allows, one behind the other.
  const packed = Buffer.concat(Array.from({ length: 1_024 }, () => MEBIBYTE))
  const table = await servers.table('n UInt32')
  const routes = [
    { topic: `${group}/gzip`, table, compression: 'gzip' },
    { topic: `${group}/zstd`, table, compression: 'auto' },
    { topic, table, format: 'sparkplug', compression: 'gzip', columns: { n: 'value' } },
  ]
  const pipeline = await servers.started(t, { routes, memory: { maxBytes: 2 ** 26 }, mqtt: { maxPacketBytes: 2 ** 21 } })
  const letters = collect(pipeline, 'deadLetters')
  const publisher = await servers.publisher(t, { clients: 1 })
  const sparkplug = Buffer.concat([field(4, Buffer.from('SPBV1.0_COMPRESSED')), field(5, packed)])
  const nested = zlib.gzipSync(sparkplug, { level: 9 })
  assert.ok(nested.length < 16_384, `${nested.length} bytes`)
  const before = process.memoryUsage().rss
  for (let i = 0; i < 5; i++) {
    await publisher.publish(`${group}/gzip`, packed)
    await publisher.publish(`${group}/zstd`, zstdOf(8_192))
    await publisher.publish(topic, nested)
  }
  await settled(pipeline, 15)
  const grown = process.memoryUsage().rss - before
  await heard(pipeline, letters)
  assert.deepEqual(new Set(letters.map(({ code }) => code)), new Set(['PAYLOAD_TOO_LARGE']))
  assert.equal(letters.length, 15)
  for (const { message } of letters) assert.match(message, /more than maxPayloadBytes, 8388608, at byte \d+$/)
  assert.ok(grown < 2 ** 27, `${grown} bytes`)
})

/** 1 MiB of blanks in gzip. */
const MEBIBYTE = zlib.gzipSync(Buffer.alloc(2 ** 20, ' '), { level: 9 })

/** A field of Protocol Buffers that has bytes. */
function field(number, content) {
  const length = []
  for (let rest = content.length; ; rest >>>= 7) {
    length.push((rest & 0x7f) | (rest > 0x7f ? 0x80 : 0))
    if (rest <= 0x7f) break
  }
  return Buffer.concat([Buffer.from([(number << 3) | 2, ...length]), content])
}

/** A frame of Zstandard (RFC 8878) whose blocks each repeat one byte 131,072 times. */
function zstdOf(blocks) {
  const frame = Buffer.alloc(6 + 4 * blocks)
  // The magic number, no content size, a window of 128 KiB.
  frame.set([0x28, 0xb5, 0x2f, 0xfd, 0, 7 << 3])
  for (let i = 0; i < blocks; i++) {
    frame.writeUIntLE((131_072 << 3) | (1 << 1) | (i === blocks - 1 ? 1 : 0), 6 + 4 * i, 3)
    frame[9 + 4 * i] = 0x20
  }
  return frame
}

test('rows of every kind', { timeout }, async (t) => {
  const devices = '{"gw":"g1","devices":[{"dev":"a","readings":[{"v":1},{"v":2}]},{"dev":"b","readings":[{"v":3}]}]}'
  const table = 'gw String, dev String, v Float64'
  const rows = [
    ['g1', 'a', 1],
    ['g1', 'a', 2],
    ['g1', 'b', 3],
  ]
  await assertRows(t, { table, order: 'v', rows: 'devices[*].readings[*]', payloads: [devices] }, rows)
  await assertRows(t, { table, order: 'v', rows: '$.devices[*].readings', payloads: [devices] }, rows)
  await assertRows(
    t,
    {
      table: "at DateTime64(3, 'UTC'), v Float64",
      order: 'at',
      rows: { zip: { at: 'series.at', v: 'series.v' } },
      payloads: ['{"series":{"at":[1760000000000,1760000060000],"v":[1.5,2.5]}}'],
    },
    [
      ['2025-10-09 08:53:20.000', 1.5],
      ['2025-10-09 08:54:20.000', 2.5],
    ],
  )
  await assertRows(
    t,
    {
      table: 'name String, v Float64',
      order: 'name',
      rows: 'sensors.*',
      columns: { name: { key: '@' }, v: '@' },
      payloads: ['{"sensors":{"t":21.5,"h":40}}'],
    },
    [
      ['h', 40],
      ['t', 21.5],
    ],
  )
})

test('paths of every kind', { timeout }, async (t) => {
  await assertRows(
    t,
    {
      table: 'event String, lat Float64',
      order: 'lat',
      columns: { event: { key: '$.*' }, lat: '*.lat' },
      payloads: ['{"VP":{"lat":60.1}}', '{"DEP":{"lat":60.2}}'],
    },
    [
      ['VP', 60.1],
      ['DEP', 60.2],
    ],
  )
  await assertRows(
    t,
    {
      table: 'n UInt32, who Nested(name String, kind String)',
      columns: { who: 'unit.who' },
      select: 'n, who.name, who.kind',
      payloads: ['{"n":1,"unit":{"who":[{"name":"a","kind":"k"},{"name":"b","kind":"l"}]}}'],
    },
    [[1, ['a', 'b'], ['k', 'l']]],
  )
  await assertRows(
    t,
    {
      table: 'n UInt32, t Nullable(Float64), body String',
      columns: { body: { path: 'payload', parse: 'json' }, t: 'payload.t' },
      payloads: [JSON.stringify({ n: 1, payload: JSON.stringify({ t: 1.5 }) })],
    },
    [[1, 1.5, '{"t":1.5}']],
  )
  await assertRows(
    t,
    {
      table: 'n UInt32, pos Point',
      columns: { pos: 'geometry.coordinates' },
      payloads: ['{"n":1,"geometry":{"type":"Point","coordinates":[13.4,52.5,34.1]}}'],
    },
    [[1, [13.4, 52.5]]],
  )
})

test('formats other than JSON', { timeout }, async (t) => {
  await assertRows(
    t,
    {
      table: 'v Nullable(Float64)',
      order: 'v',
      format: 'text',
      columns: { v: { path: '$', nulls: ['unavailable', 'nan'] } },
      payloads: ['21.5', 'unavailable', ' 7\n'],
    },
    [[7], [21.5], [null]],
  )
  await assertRows(
    t,
    {
      table: 't Float64, h Float64',
      order: 't',
      format: { type: 'csv', columns: ['t', 'h'], delimiter: ';', decimal: ',' },
      payloads: ['21,5;40\n22,5;41\n'],
    },
    [
      [21.5, 40],
      [22.5, 41],
    ],
  )
  const table = "n UInt64, t Float64, name String, at DateTime64(3, 'UTC')"
  const row = [['18446744073709551615', 21.5, 'a', '2024-10-27 03:33:20.000']]
  // { n: 2^64 - 1, t: 21.5, name: 'a', at: a time }
  const msgpack = '84a16ecfffffffffffffffffa174cb4035800000000000a46e616d65a161a26174d6ff671db480'
  await assertRows(t, { table, format: 'msgpack', payloads: [Buffer.from(msgpack, 'hex')] }, row)
  const cbor = 'a4616e1bffffffffffffffff6174f94d60646e616d656161626174c11a671db480'
  await assertRows(t, { table, format: 'cbor', payloads: [Buffer.from(cbor, 'hex')] }, row)
  const { letters } = await arrive(t, { table, format: 'cbor', payloads: [Buffer.from(cbor, 'hex').subarray(0, 20)] })
  assert.deepEqual(letters.map(({ code }) => code), ['PAYLOAD_INVALID'])
})

for (const [format, payload] of Object.entries({ json: '{"position":"52.5,13.4","lat":1}', cbor: Buffer.from('a168706f736974696f6e6135', 'hex') })) {
  test(`${format}: a path that leads through a text warns once per route and path`, { timeout }, async (t) => {
    const [topic, other] = [unique('topic'), unique('topic')]
    const columns = { lat: 'position.lat', lon: 'position.lon' }
    const table = await servers.table('lat Nullable(Float64), lon Nullable(Float64), at Nullable(Float64)')
    const pipeline = await servers.started(t, {
      mqtt: { sharedGroup: unique('group'), connections: 2 },
      routes: [
        { topic, table, format, columns: { ...columns, at: 'at.x' } },
        { topic: other, table, format, columns: { lat: ['position.lat', 'lat'] } },
      ],
    })
    const warnings = collect(pipeline, 'warning')
    const publisher = await servers.publisher(t, { clients: 1 })
    for (let i = 0; i < 20; i++) await publisher.publish(i % 2 ? topic : other, payload)
    await settled(pipeline, 20)
    const told = warnings.filter(({ code }) => code === 'PATH_THROUGH_SCALAR')
    const fields = told.map(({ route, column, path }) => `${route} ${column} ${path}`)
    // In the JSON of the other route the value is at its second path.
    const expected = ['0 lat position.lat', '0 lon position.lon', ...(format === 'json' ? [] : ['1 lat position.lat'])]
    assert.deepEqual(fields.sort(), expected)
    for (const { table: name, message, column } of told) assert.ok(name === table && message.includes(`column ${column} `), message)
  })
}
