// describeTables() and proposeTable(): generated types compile against matching payloads and rows and against no others;
// proposed tables are created and filled.

import assert from 'node:assert/strict'
import { execFile } from 'node:child_process'
import { mkdtemp, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { test } from 'node:test'
import { fileURLToPath } from 'node:url'
import { describeTables, MillraceError, proposeTable } from '../../index.js'
import { Random } from '../support/random.mjs'
import { collect, endPipeline, settled, unique, useServers } from '../support/servers.mjs'

const servers = useServers()
const timeout = 120_000
const NODE_TYPES = fileURLToPath(new URL('../../node_modules/@types', import.meta.url))
const TSC = fileURLToPath(new URL('../../node_modules/typescript/bin/tsc', import.meta.url))

/** The compiler's errors in a program that imports `generated`; empty if there are none. */
async function compile(t, generated, program, more = ['--types', '']) {
  const dir = await mkdtemp(join(tmpdir(), 'millrace-'))
  t.after(() => rm(dir, { recursive: true }))
  await writeFile(join(dir, 'generated.ts'), generated)
  await writeFile(join(dir, 'program.ts'), `import type * as it from './generated'\n${program}`)
  const options = ['--noEmit', '--strict', '--exactOptionalPropertyTypes', '--target', 'es2022', ...more]
  return new Promise((resolve) => {
    execFile(process.execPath, [TSC, ...options, 'program.ts'], { cwd: dir }, (error, stdout, stderr) => {
      resolve(`${stdout}${stderr}${error && !stdout ? error.message : ''}`)
    })
  })
}

/** A program in which each of `good` is of the type, and none of `bad`. */
function cases(type, good, bad) {
  const line = (value, i, name) => `const ${name}${i}: it.${type} = ${typeof value === 'string' ? value : JSON.stringify(value)}`
  const refused = bad.map((value, i) => `// @ts-expect-error\n${line(value, i, `bad${type}`)}`)
  return [...good.map((value, i) => line(value, i, `good${type}`)), ...refused, ''].join('\n')
}

async function assertCompiles(t, generated, ...programs) {
  assert.equal(await compile(t, generated, programs.join('\n')), '', generated)
}

/** The same for a text that imports types of this package. */
async function assertCompilesWithPackage(t, generated, program) {
  const own = JSON.stringify(fileURLToPath(new URL('../../index.js', import.meta.url)))
  assert.equal(await compile(t, generated.replace('"millrace"', own), program.replace("'millrace'", own), ['--skipLibCheck', '--types', 'node', '--typeRoots', NODE_TYPES]), '', generated)
}

/** The generated text for a table with these columns, and the names of its interfaces. */
async function described(columns, route = {}, settings = {}) {
  const table = await servers.table(columns, { settings })
  const text = await describeTables(servers.config({ routes: [{ topic: 'a', table, ...route }] }))
  return { table, text, name: /interface (\w+)Row /.exec(text)?.[1] }
}

test('a payload that fits compiles, another does not', { timeout }, async (t) => {
  const table = await servers.table(`
    driver_id LowCardinality(String),
    lat Float64 COMMENT 'degrees north */ of the equator',
    lng Float64,
    zone Enum8('city' = 1, 'it''s \\'a\\' road' = 2),
    trip UUID,
    big UInt64,
    live Bool DEFAULT true,
    note Nullable(String),
    speed Float32,
    seen DateTime64(3, 'UTC'),
    ts DateTime64(3, 'UTC'),
    hash UInt64 MATERIALIZED cityHash64(trip),
    short String ALIAS substring(driver_id, 1, 3)`)
  const name = `${servers.database}.${table}`
  const routes = [
    {
      topic: 'drivers/{driver_id}/position',
      table: name,
      columns: {
        lng: 'position.lng',
        lat: "position['lat']",
        speed: { path: 'axes[1]', default: 0 },
        ts: { path: 'ts', unit: 's' },
        seen: { meta: 'receivedAt' },
      },
    },
    { topic: 'other/#', table: name, missingFields: 'zero', unknownFields: 'reject', columns: { note: { userProperty: 'n' } } },
  ]
  const text = await describeTables(servers.config({ mqtt: { url: 'mqtt://127.0.0.1:1' }, routes }))

  const good = {
    position: { lat: 25.76, lng: -80.19 },
    zone: 'city',
    trip: '01234567-89ab-cdef-0123-456789abcdef',
    big: 1,
    ts: 1_730_000_000,
  }
  const pascal = name.replace(/(^|[^a-z0-9]+)([a-z0-9])/g, (_, __, c) => c.toUpperCase())
  await assertCompiles(
    t,
    text,
    cases(
      `${pascal}Payload`,
      [
        good,
        { ...good, zone: "it's 'a' road", big: '18446744073709551615', ts: '2024-10-27T03:33:20Z' },
        { ...good, live: null, note: null, axes: ['anything', null] },
        { ...good, live: false, note: 'x', axes: [0, 1.5, 'more'] },
        { ...good, axes: [0] },
      ],
      [
        {},
        { ...good, ts: undefined },
        { ...good, ts: null },
        { ...good, ts: true },
        { ...good, zone: 'village' },
        { ...good, position: { lat: 1 } },
        { ...good, position: { lat: 1, lng: 'east' } },
        { ...good, lat: 1 },
        { ...good, driver_id: 'from the topic' },
        { ...good, live: 1 },
        { ...good, axes: [0, 'fast'] },
        { ...good, hash: 1 },
      ],
    ),
    cases(`${pascal}Payload2`, [{}, { lat: 1, driver_id: 'd', seen: 1 }], [{ note: 'x' }, { lat: 'x' }]),
    cases('Payloads["drivers/{driver_id}/position"]', [], []),
    `const byTopic: it.Payloads['other/#'] = {}\nconst byTable: it.Rows['${name}']['live'] = true`,
  )
  assert.match(text, /\/\*\* `Float64`; degrees north \*\\\/ of the equator \*\//)
  assert.match(text, /RFC 3339, or seconds since 1970/)
  assert.match(text, /Not from the payload: driver_id \(the topic\), seen \(receivedAt\)\./)

  await servers.command(`INSERT INTO ${table} (driver_id, lat, lng, zone, trip, big, note, speed, seen, ts) VALUES
    ('d', 1, 2, 'city', '01234567-89ab-cdef-0123-456789abcdef', 7, NULL, 3, now(), now()),
    ('d', 1, 2, 2, '01234567-89ab-cdef-0123-456789abcdef', 7, 'x', 3, now(), now())`)
  const rows = [
    ...(await servers.rows(`SELECT * FROM ${table}`)),
    ...(await servers.rows(`SELECT *, hash, short FROM ${table}`, { output_format_json_quote_64bit_integers: 0 })),
  ]
  const { lat, ...without } = rows[0]
  await assertCompiles(t, text, cases(`${pascal}Row`, rows, [without, { ...rows[0], note: 1 }, { ...rows[0], live: null }]))
})

test('columns that have parts', { timeout }, async (t) => {
  const { table, text, name } = await described(
    `a Array(Nullable(Float64)), t Tuple(x UInt8, \`y z\` Nullable(String)), u Tuple(UInt8, Array(String)),
    m Map(String, Array(UInt64)), j JSON, v Variant(String, UInt8), d Dynamic, p Point, g MultiPolygon,
    n Nested(a UInt8, b Nullable(String)), f FixedString(3), ip Nullable(IPv4), dec Decimal(18, 6), day Date32,
    e Array(LowCardinality(Nullable(String))), nt Array(Tuple(at DateTime('UTC'), q Enum16('a' = 1))) DEFAULT [],
    k Point DEFAULT (0, 0)`,
    { columns: { k: { path: 'place', fields: ['lng', 'lat'] } } },
    { allow_suspicious_low_cardinality_types: 1 },
  )
  const good = {
    a: [1, null],
    t: { x: 1, 'y z': 'x' },
    u: [1, ['a']],
    m: { k: [1, '2'] },
    j: { any: { thing: [1] } },
    v: 'text',
    d: [{}],
    p: [1, 2],
    g: [[[[1, 2]]]],
    n: [{ a: 1, b: null }, { a: 2 }],
    f: 'abc',
    dec: '1.5',
    day: '2024-01-01',
    e: ['x', null],
  }
  await assertCompiles(
    t,
    text,
    cases(
      `${name}Payload`,
      [good, { ...good, v: null, d: null }, { ...good, v: 7, t: { x: 1 }, ip: '1.2.3.4', nt: [{ at: 1, q: 'a' }], place: { lng: 1, lat: 2 } }],
      [
        { ...good, a: ['x'] },
        { ...good, t: { 'y z': 'x' } },
        { ...good, u: [1] },
        { ...good, m: { k: 1 } },
        { ...good, j: 'text' },
        { ...good, v: true },
        { ...good, p: [1] },
        { ...good, g: [[[1, 2]]] },
        { ...good, n: [{ b: 'x' }] },
        { ...good, n: undefined },
        { ...good, n: { a: [1] } },
        { ...good, f: undefined },
        { ...good, ip: 1 },
        { ...good, nt: [{ at: 1, q: 'b' }] },
        { ...good, place: [1, 2] },
      ],
    ),
  )
  await servers.command(`INSERT INTO ${table} FORMAT JSONEachRow ${JSON.stringify({ ...good, n: undefined, d: 'x' })}`)
  await servers.command(`INSERT INTO ${table} (a) VALUES ([])`)
  const rows = await servers.rows(`SELECT * FROM ${table}`)
  const [row] = rows
  await assertCompiles(t, text, cases(`${name}Row`, rows, [{ ...row, a: [true] }, { ...row, p: [1] }, { ...row, e: 'x' }]))
})

test('the batch of a transform, down to the type of each array', { timeout }, async (t) => {
  const table = await servers.table(`
    driver_id LowCardinality(String), lat Float64, n Nullable(Float32), d UInt16 DEFAULT 7, ok Bool,
    state Enum8('idle' = 1, 'it''s "moving"' = 2), big UInt64, small Nullable(Int8), wide Int128, ts DateTime64(3), day Nullable(Date),
    tod Time64(3) DEFAULT '00:00:00', note LowCardinality(Nullable(String)), trip UUID, tags Array(Nullable(UInt64)), dec Decimal(9, 2),
    t Tuple(id UInt64, \`a b\` Nullable(String)), m Map(String, Array(Float64)), shown UInt8 MATERIALIZED 1`)
  const text = await describeTables(
    servers.config({
      routes: [
        {
          topic: 'drivers/{driver_id}/position',
          table,
          columns: { lat: { computed: true } },
          inputs: { accuracy: { path: 'gps.acc', type: 'Float32' } },
          transform() {},
        },
        { topic: 'other/{driver_id}', table, transform: { module: './other.mjs' } },
      ],
    }),
  )
  const name = /type (\w+Batch) /.exec(text)?.[1]
  assert.match(text, new RegExp(`type ${name}2 = `), 'one for each route')
  assert.match(text, /Not from the payload: driver_id \(the topic\), lat \(the transform\)\./)
  await assertCompilesWithPackage(
    t,
    text,
    `import type { Transform } from 'millrace'
    type Same<A, B> = (<T>() => T extends A ? 1 : 2) extends <T>() => T extends B ? 1 : 2 ? true : false
    const same = <A, B>(_: Same<A, B>) => {}
    export const transform: Transform<it.${name}> = ({ columns: c }) => {
      same<typeof c.lat.values, Float64Array>(true)
      same<typeof c.lat.nulls, undefined>(true)
      same<typeof c.n.values, Float32Array>(true)
      same<typeof c.n.nulls, Uint8Array>(true)
      same<ReturnType<typeof c.n.get>, number | null>(true)
      same<typeof c.d.nulls, Uint8Array>(true)
      same<ReturnType<typeof c.ok.get>, boolean>(true)
      same<ReturnType<typeof c.state.get>, 'idle' | 'it\\'s "moving"'>(true)
      same<typeof c.big.values, BigUint64Array>(true)
      same<ReturnType<typeof c.small.get>, number | null>(true)
      same<ReturnType<typeof c.wide.get>, bigint>(true)
      same<typeof c.ts.values, BigInt64Array>(true)
      same<ReturnType<typeof c.ts.get>, Date>(true)
      same<ReturnType<typeof c.day.get>, Date | null>(true)
      same<ReturnType<typeof c.tod.get>, string | null>(true)
      same<ReturnType<typeof c.driver_id.get>, string>(true)
      same<ReturnType<typeof c.note.get>, string | null>(true)
      same<ReturnType<typeof c.trip.get>, string>(true)
      same<ReturnType<typeof c.tags.get>, (bigint | null)[]>(true)
      same<ReturnType<typeof c.dec.get>, string>(true)
      same<ReturnType<typeof c.t.get>, { id: bigint; 'a b': string | null }>(true)
      same<ReturnType<typeof c.m.get>, Record<string, number[]>>(true)
      same<typeof c.accuracy.values, Float32Array>(true)
      // @ts-expect-error: ClickHouse computes it
      c.shown
      // @ts-expect-error: no number
      c.lat.set(0, 'x')
    }`,
  )
})

test('rows of a list in the payload', { timeout }, async (t) => {
  const { text, name } = await described('device String, t Float64, sent DateTime, taken DateTime', {
    rows: 'data.readings',
    columns: { t: '@.value.t', sent: '$.ts', taken: 'ts' },
  })
  const good = { ts: 1, data: { readings: [{ value: { t: 1.5 } }, { value: { t: 2 }, ts: 5, device: 'd' }] }, device: 'd' }
  await assertCompiles(
    t,
    text,
    cases(
      `${name}Payload`,
      [good, { ...good, data: { readings: [] } }],
      [
        { ...good, ts: undefined },
        { ...good, data: {} },
        { ...good, data: { readings: [{}] } },
        { ...good, data: { readings: [{ value: { t: 'x' } }] } },
        { ...good, data: { readings: { value: { t: 1 } } } },
      ],
    ),
  )
  const lists = await described('x Float64, y Nullable(Float64)', { rows: 'track', columns: { x: '@[0]', y: '@[1]' } })
  await assertCompiles(
    t,
    lists.text,
    cases(`${lists.name}Payload`, [{ track: [[1, 2], [3], [4, null, 'more']] }], [{ track: [[]] }, { track: [1] }, {}]),
  )
})

test('lists of objects, and fields that a message may omit', { timeout }, async (t) => {
  const columns = 'n Nested(a UInt8, b Nullable(String)), p Point, o Nested(c UInt8), tod Time64(3), g Geometry'
  const needed = await described(columns)
  const good = { n: [{ a: 1 }], p: [1, 2], o: [], tod: '12:00:00' }
  await assertCompiles(
    t,
    needed.text,
    cases(
      `${needed.name}Payload`,
      [good, { ...good, g: [[1, 2]], tod: 43_200 }],
      [{ ...good, n: null }, { ...good, o: undefined }, { ...good, n: [{ b: 'x' }] }, { ...good, g: 'x' }],
    ),
  )
  const zero = await described(columns, { missingFields: 'zero' })
  await assertCompiles(t, zero.text, cases(`${zero.name}Payload`, [{}, { n: [{}], p: null }], [{ n: [{ a: 'x' }] }]))
  const inRows = await described(columns, { rows: 'list' })
  await assertCompiles(
    t,
    inRows.text,
    cases(
      `${inRows.name}Payload`,
      [{ list: [good] }, { list: [{ n: good.n }], ...good }],
      [good, { list: [{ ...good, n: [{ a: 'x' }] }] }],
    ),
  )
})

test('columns that a message does not fill', { timeout }, async (t) => {
  const { table, text, name } = await described(`
    id UInt8,
    state AggregateFunction(sum, UInt64) DEFAULT initializeAggregation('sumState', toUInt64(id)),
    total SimpleAggregateFunction(sum, UInt64),
    given UInt8 EPHEMERAL 1,
    shown UInt8 MATERIALIZED given,
    same UInt8 ALIAS id`)
  await assertCompiles(t, text, cases(`${name}Payload`, [{ id: 1, total: '2' }, { id: 1, total: 2, given: 1 }], [{ id: 1 }, { id: 1, total: 2, given: 'x' }]))
  await servers.command(`INSERT INTO ${table} (id, total) VALUES (1, 2)`)
  const rows = await servers.rows(`SELECT *, same FROM ${table}`)
  await assertCompiles(t, text, cases(`${name}Row`, rows, [{ ...rows[0], given: 1 }]))
})

test('several columns from one field, and payloads that are not read', { timeout }, async (t) => {
  const shared = await described('temp Float64, temp_text String, at DateTime, ms UInt64, pos JSON, lat Float64, raw String', {
    columns: { temp_text: 'temp', ms: 'at', lat: 'pos.lat', raw: '$' },
  })
  const good = { temp: 1, at: 1, pos: { lat: 1, more: true } }
  await assertCompiles(
    t,
    shared.text,
    cases(`${shared.name}Payload`, [good], [{ ...good, temp: 'x' }, { ...good, pos: {} }, { ...good, pos: 'x' }]),
  )
  const metas = { columns: { raw: { meta: 'payload' }, at: { meta: 'receivedAt' } } }
  const unread = await described('raw String, at DateTime', metas)
  await assertCompiles(t, unread.text, cases(`${unread.name}Payload`, [{}, 1, null, '"text"'], []))
  const whole = await described('raw String', { columns: { raw: '$' } })
  await assertCompiles(t, whole.text, cases(`${whole.name}Payload`, [{ a: 1 }, 1], []))
  const document = await described('raw JSON, at DateTime', metas)
  await assertCompiles(t, document.text, cases(`${document.name}Payload`, [{}, { any: 1 }], [1, null]))
  const odd = await described('`a b` UInt8, `ключ` UInt8, `1st` UInt8, `a"\\`\\n` UInt8, `constructor` UInt8, `class` UInt8, `a.b` UInt8', {
    columns: {},
  })
  const columns = { 'a b': 1, ключ: 1, '1st': 1, 'a"`\n': 1, constructor: 1, class: 1, 'a.b': 1 }
  await assertCompiles(t, odd.text, cases(`${odd.name}Payload`, [columns], [{ ...columns, ключ: 'x' }]))
})

test('a table that cannot be described is refused as by start()', { timeout }, async () => {
  const table = await servers.table('seq UInt32')
  const describe = (more) => describeTables(servers.config({ routes: [{ topic: 'a', table }], ...more }))
  assert.match(await describe({}), /seq: number/)
  for (const [code, path, more] of [
    ['CONFIG_INVALID', 'routes', { routes: [] }],
    ['CONFIG_INVALID', 'routes[1].topic', { routes: [{ topic: '#', table }, { topic: 'a', table }] }],
    ['TABLE_NOT_FOUND', 'routes[0].table', { routes: [{ topic: 'a', table: 'absent' }] }],
    ['COLUMN_NOT_FOUND', 'routes[0].columns.x', { routes: [{ topic: 'a', table, columns: { x: 'x' } }] }],
    ['CLICKHOUSE_UNREACHABLE', undefined, { clickhouse: { url: 'http://127.0.0.1:1' } }],
  ]) {
    await assert.rejects(describe(more), (error) => {
      assert.ok(error instanceof MillraceError)
      assert.deepEqual([error.code, error.path], [code, path])
      return true
    })
  }
})

/** The columns of a proposal, by name. */
function columnsOf(proposal) {
  const lines = proposal.split('\n').filter((line) => line.startsWith('    '))
  return Object.fromEntries(lines.map((line) => /^ {4}`(.*?)` (.*?),?$/.exec(line)?.slice(1) ?? []))
}

/** Creates what is proposed and sends the samples there through a pipeline. */
async function fill(t, samples, { topic = unique('topic'), publishTo = topic } = {}) {
  const table = unique('proposed')
  const proposal = proposeTable(samples, { table, topic })
  await servers.command(proposal)
  const pipeline = servers.pipeline(t, { routes: [{ topic, table, unknownFields: 'reject' }] })
  const letters = collect(pipeline, 'deadLetters')
  const warnings = collect(pipeline, 'warning')
  await pipeline.start()
  const publisher = await servers.publisher(t, { clients: 1 })
  for (const sample of samples) await publisher.publish(publishTo, sample)
  await settled(pipeline, samples.length)
  assert.deepEqual(letters.map(({ code, message }) => `${code} ${message}`), [], proposal)
  assert.deepEqual(warnings, [])
  assert.equal(await servers.count(table), samples.length)
  await endPipeline(pipeline)
  return { proposal, table, columns: columnsOf(proposal) }
}

test('a proposal is created and filled by its samples', { timeout }, async (t) => {
  const prefix = unique('topic')
  const samples = Array.from({ length: 20 }, (_, i) => ({
    driver_id: `driver-${i % 3}`,
    seq: i,
    lat: 25.76 + i / 7,
    speed: i,
    heading: 270,
    moving: i % 2 === 0,
    trip: `01234567-89ab-cdef-0123-4567${String(10_000_000 + i)}`,
    state: i % 2 ? 'driving' : 'idle',
    text: `something else each time ${i}`,
    day: '2024-10-27',
    seen_at: '2024-10-27T03:33:20.123456Z',
    ts: 1_730_000_000_000 + i,
    ...(i % 3 === 0 ? {} : { note: i % 3 === 1 ? null : 'x', rare: 1.5, flag: true, last_seen: 1_730_000_000 }),
    nothing: null,
    mixed: i % 2 ? 1 : 'one',
    response_time: 35,
    'odd `name\\': 1,
  }))
  const texts = samples.map((sample) => JSON.stringify(sample).replace('"speed":12', '"speed":12.0'))
  const { table, columns, proposal } = await fill(t, texts, { topic: `${prefix}/{site}`, publishTo: `${prefix}/north` })
  assert.deepEqual(columns, {
    site: 'LowCardinality(String)',
    driver_id: 'LowCardinality(String)',
    seq: 'Int64',
    lat: 'Float64',
    speed: 'Float64',
    heading: 'Int64',
    moving: 'Bool',
    trip: 'UUID',
    state: 'LowCardinality(String)',
    text: 'String',
    day: 'Date',
    seen_at: "DateTime64(6, 'UTC')",
    ts: "DateTime64(3, 'UTC')",
    note: 'LowCardinality(Nullable(String))',
    rare: 'Nullable(Float64)',
    flag: 'Nullable(Bool)',
    last_seen: "Nullable(DateTime64(3, 'UTC'))",
    nothing: "Nullable(String) COMMENT 'null in every sample'",
    mixed: 'String',
    response_time: 'Int64',
    'odd \\`name\\\\': 'Int64',
  })
  assert.match(proposal, /ORDER BY \(`site`, `ts`\)\nSETTINGS non_replicated_deduplication_window = 1000$/)

  const written = await describeTables(servers.config({ routes: [{ topic: `${prefix}/{site}`, table }] }))
  const name = /export interface (\w+)Payload/.exec(written)?.[1]
  // A String column also accepts other values; the interface does not say so.
  const typed = samples.slice(0, 4).map((sample) => ({ ...sample, mixed: String(sample.mixed) }))
  const { seq, ...without } = typed[0]
  await assertCompiles(t, written, cases(`${name}Payload`, typed, [without, { ...typed[0], lat: 'x' }]))
})

test('types that are proposed for values', () => {
  /** @type {any[]} the type, and values of which each is a sample */
  const expected = [
    ['Int64', 1, -1],
    ['Int64', '9223372036854775807', '-9223372036854775808'],
    ['UInt64', '9223372036854775808', '1'],
    ['UInt64', '18446744073709551615'],
    ['Int128', '18446744073709551616'],
    ['Int128', '18446744073709551615', '-1'],
    ['Float64', '1.0', '2'],
    ['Float64', '1e3'],
    ['Float64', '123456789012345678901234567890123456789012'],
    ['Bool', true, false],
    ['Int64', true, 2],
    ['String', true, '"x"'],
    ['UUID', '"01234567-89AB-cdef-0123-456789abcdef"'],
    ['String', '"01234567-89AB-cdef-0123-456789abcdef"', '""'],
    ['IPv4', '"10.0.0.1"'],
    ['IPv6', '"::1"', '"2001:db8::1"'],
    ['String', '"10.0.0.1"', '"::1"'],
    ['String', '"fe80::1%eth0"'],
    ["DateTime64(3, 'UTC')", '"2024-10-27T03:33:20Z"', '"2024-10-27 03:33:20.123+02:00"'],
    ["DateTime64(9, 'UTC')", '"2024-10-27T03:33:20.123456789Z"'],
    ["DateTime64(6, 'UTC')", '"2290-10-27T03:33:20.123456789Z"'],
    ['Date', '"2024-02-29"'],
    ['Date32', '"1969-12-31"', '"2024-02-29"'],
    ['String', '"2024-02-30"'],
    ['String', '"0001-01-01T00:00:00Z"'],
    ['String', '"2024-10-27T25:00:00Z"'],
    ['LowCardinality(String)', '"a"', '"b"', '"a"', '"b"'],
    ['String', '"a"', '"b"'],
    ['String', ...Array(4).fill(JSON.stringify('x'.repeat(100)))],
    ['Int64', 1_730_000_000_000],
    ['Array(Int64)', '[1]', '[]'],
    ['Array(String)', '[]'],
    ['Array(Nullable(Float64))', '[1.5, null]'],
    ['Array(Array(Float64))', '[[1.5], []]', '[]'],
    ['Array(Tuple(`a` Int64, `b` Nullable(Bool)))', '[{"a":1,"b":true},{"a":2}]'],
    ['String', '[1, "x", {}]', '{}'],
    ['String', '[[1], null]'],
    ['Tuple(`x` Float64, `at` DateTime64(3, \'UTC\'))', '{"x":1.5,"at":1730000000}'],
    ['Tuple(`x` Tuple(`y` Nullable(String)))', '{"x":{"y":null}}'],
    ['Map(String, Float64)', '{"a":1}', '{"b":1.5}'],
    ['Map(String, Nullable(String))', '{"a":"x"}', '{"b":null}'],
    ['JSON', '{"a":"x"}', '{"b":1}'],
    ['JSON', '{"a":1,"b":[1]}', '{"a":1}'],
    ['JSON', '{}'],
    ['String', '{"a.b":1,"a":{"b":2}}'],
    ['Map(String, Int64)', '{"a.b":1,"null":2}'],
    ['JSON', '{"null":1,"a":"x"}'],
    ['String', '{"a":18446744073709551616}', '{"b":"x"}'],
    ['Array(Nullable(String))', '[null]'],
    ['String', '1e999'],
    ['Map(String, Int64)', JSON.stringify(Object.fromEntries(Array.from({ length: 200 }, (_, i) => [`k${i}`, i])))],
  ]
  for (const [type, ...values] of expected) {
    const samples = values.map((value) => `{"v":${value}}`)
    assert.equal(columnsOf(proposeTable(samples)).v, type, samples.join())
  }
  const dotted = { 'a.b': [1], 'a.c': { x: 1 }, 'a.d': 1, a: [1] }
  assert.deepEqual(Object.values(columnsOf(proposeTable([dotted, { ...dotted, 'a.c': { y: 1 } }]))), [
    'String',
    'String',
    'Int64',
    'Array(Int64)',
  ])
  const times = { ts: 1_730_000_000, lastSeen: 1_730_000_000_123, created_on: 1_730_000_000.5, at: 1_730_000_000_000_000 }
  assert.deepEqual(Object.values(columnsOf(proposeTable([{ ...times, t: 1_730_000_000_000_000_000 }]))), [
    "DateTime64(3, 'UTC')",
    "DateTime64(3, 'UTC')",
    "DateTime64(3, 'UTC')",
    "DateTime64(6, 'UTC')",
    "DateTime64(9, 'UTC')",
  ])
  const none = { ts: 5, uptime: 1_730_000_000, time: -1, at: 1_730_000_000_000 }
  const types = columnsOf(proposeTable([none, { ...none, at: 1 }]))
  assert.deepEqual([...new Set(Object.values(types))], ['Int64'])
})

test('samples in every form', () => {
  const expected = proposeTable(['{"a":1}', '{"a":2,"b":"x"}'])
  assert.equal(proposeTable([{ a: 1 }, { a: 2, b: 'x' }]), expected)
  assert.equal(proposeTable([Buffer.from('{"a":1}'), new Uint8Array(Buffer.from('{"a":2,"b":"x"}'))]), expected)
  assert.equal(proposeTable(['{"a":1}\n{"a":2,"b":"x"}\n']), expected)
  assert.equal(proposeTable(new Set(['[{"a":1},{"a":2,"b":"x"}]'])), expected)
  assert.match(expected, /^CREATE TABLE `messages`\n/)
  assert.match(proposeTable([{ a: 1 }], { table: 'my db.t`1' }), /^CREATE TABLE `my db`\.`t\\`1`\n/)
  for (const [order, ...samples] of [
    ['tuple()', { a: 1 }],
    ['(`ts`)', { a: 1, ts: 1_730_000_000 }],
    ['(`deviceId`, `ts`)', { messageId: 'a', ts: 1_730_000_000, deviceId: 'x' }, { messageId: 'b', ts: 1_730_000_000, deviceId: 'x' }],
    ['tuple()', { id: 'a' }, { id: null }],
  ]) {
    assert.ok(proposeTable(/** @type {object[]} */ (samples)).includes(`ORDER BY ${order}\n`), String(order))
  }
  /** @type {any[]} */
  const wrong = [
    ['samples', 'text'],
    ['samples', undefined],
    ['samples', []],
    ['samples', ['{}']],
    ['samples[1]', ['{"a":1}', '{"a":']],
    ['samples[0]', ['1']],
    ['samples[0]', [null]],
    ['samples[0]', ['[1]']],
    ['samples[0]', [undefined]],
    ['samples[0]', [{ a: 1n }]],
    ['samples[0]', ['{"a":01}']],
    ['samples[0]', ['{"a":1}\n{"a":']],
    ['options.tabel', [{ a: 1 }], { tabel: 'x' }],
    ['options.table', [{ a: 1 }], { table: '' }],
  ]
  for (const [path, ...args] of wrong) {
    // @ts-ignore
    assert.throws(() => proposeTable(...args), (error) => {
      assert.ok(error instanceof MillraceError, String(error))
      assert.deepEqual([error.code, error.path], ['CONFIG_INVALID', path])
      return true
    })
  }
})

const NESTED = [
  { seq: 1, tags: ['a', 'b'], pos: { x: 1.5, y: -2 }, counts: { a: 1, b: 2 }, free: { a: 1 }, ip: '10.0.0.1', v6: '::1' },
  { seq: 2, tags: [], pos: { x: 2.5, y: -2, z: 1 }, counts: { c: 3 }, free: { b: 'x' }, ip: '10.0.0.2', v6: '::2' },
  { seq: 3, pos: { x: 3.5, y: -2, z: null }, counts: {}, free: {}, ip: '10.0.0.3', v6: '::3', track: [{ at: [1.5], n: 1 }] },
]

test('a proposal for payloads with parts holds them, says ClickHouse', { timeout }, async () => {
  const table = unique('nested')
  const proposal = proposeTable(NESTED, { table })
  await servers.command(proposal)
  await servers.command(`INSERT INTO ${table} FORMAT JSONEachRow ${NESTED.map((row) => JSON.stringify(row)).join('\n')}`)
  const rows = await servers.rows(`SELECT pos, tags, counts, ip, track FROM ${table} ORDER BY seq`, {
    output_format_json_quote_64bit_integers: 0,
  })
  const expected = NESTED.map(({ pos, tags = [], counts, ip, track = [] }) => {
    return { pos: { z: null, ...pos }, tags, counts, ip, track }
  })
  assert.deepEqual(rows, expected)
})

test('a proposal for payloads with parts is filled by them', { timeout }, async (t) => {
  const { table } = await fill(t, NESTED.map((sample) => JSON.stringify(sample)))
  const rows = await servers.rows(`SELECT pos, counts, track FROM ${table} ORDER BY seq`, {
    output_format_json_quote_64bit_integers: 0,
  })
  assert.deepEqual(rows, NESTED.map(({ pos, counts, track = [] }) => ({ pos: { z: null, ...pos }, counts, track })))
})

/** Values that are easily taken for something they are not. */
const ODD = [
  'null', 'true', 'false', '0', '-0', '1', '-1', '1.0', '1e3', '1e999', '-1e-400', '9223372036854775807', '18446744073709551616',
  '-9223372036854775809', '340282366920938463463374607431768211456', '1730000000', '1730000000000', '1730000000000.5',
  '""', '"x"', '"1"', '"true"', '"null"', '"\\u0000"', '"2024-10-27"', '"2024-13-27"', '"1969-12-31"', '"2024-10-27T03:33Z"',
  '"2024-10-27 03:33:20,5"', '"2024-10-27T03:33:20.123456789+02"', '"2263-01-01T00:00:00.1234567Z"', '"2024-10-27T24:00:00Z"',
  '"10.0.0.1"', '"::ffff:10.0.0.1"', '"01234567-89ab-cdef-0123-456789abcdef"', '[]', '{}', '[null]', '[[]]', '[{}]', '[[],null]',
  '{"":1}', '{"a.b":1,"a":{"b":2}}', '{"a":18446744073709551616}', '{"a":[1,"x",{"b":null}]}',
]
const NAMES = ['a', 'ts', 'a.b', 'a.c', 'at', 'it`s', "it's", 'b"', 'null', '1', 'ключ', 'select', 'x y', 'time', 'id', '$', '@']

/** @returns {string} */
function oddValue(random, depth = 2) {
  if (depth === 0 || random.chance(0.5)) return random.pick(ODD)
  const parts = Array.from({ length: random.below(4) }, () => oddValue(random, depth - 1))
  return random.chance(0.5) ? `[${parts}]` : oddObject(random, depth - 1)
}

function oddObject(random, depth = 2) {
  const names = new Set(Array.from({ length: 1 + random.below(4) }, () => random.pick(NAMES)))
  return `{${[...names].map((name) => `${JSON.stringify(name)}:${oddValue(random, depth)}`)}}`
}

test('a proposal takes its samples, whatever they are', { timeout }, async (t) => {
  const seed = Random.seed()
  const random = new Random(seed)
  const proposals = Array.from({ length: 60 }, (_, i) => {
    // Few objects of one form, so that some are alike and some are not.
    const forms = Array.from({ length: 1 + random.below(3) }, () => oddObject(random))
    const samples = Array.from({ length: 3 }, () => random.pick(forms))
    const table = unique('odd')
    return { topic: `${unique('topic')}/${i}`, table, samples, sql: proposeTable(samples, { table }) }
  })
  for (const { sql, samples } of proposals) {
    await assert.doesNotReject(servers.command(sql), `SEED=${seed}\n${samples.join('\n')}\n${sql}`)
  }
  const routes = proposals.map(({ topic, table }) => ({ topic, table }))
  const pipeline = servers.pipeline(t, { routes })
  const letters = collect(pipeline, 'deadLetters')
  await pipeline.start()
  const publisher = await servers.publisher(t, { clients: 1 })
  for (const { topic, samples } of proposals) for (const sample of samples) await publisher.publish(topic, sample)
  await settled(pipeline, proposals.length * 3)
  const [letter] = letters
  const told = letter && `SEED=${seed}: ${letter.message}\n${letter.payload}\n${proposals[letter.route].sql}`
  assert.equal(letters.length, 0, told)
  const text = await describeTables(servers.config({ routes }))
  const programs = []
  for (const [i, { topic, table, sql, samples }] of proposals.entries()) {
    const rows = await servers.rows(`SELECT * FROM ${table}`)
    assert.equal(rows.length, 3)
    programs.push(`const rows${i}: it.Rows['${table}'][] = ${JSON.stringify(rows)}`)
    // A String column also accepts other values, which the interface does not say; a field without a name has no column.
    const isExact = !sql.includes('String') && !samples.some((sample) => sample.includes('""'))
    if (isExact) programs.push(`const samples${i}: it.Payloads['${topic}'][] = [${samples}]`)
  }
  await assertCompiles(t, text, ...programs)
})

test('a configuration is compared with generated tables', { timeout }, async (t) => {
  const positions = unique('positions')
  const other = unique('other')
  await servers.command(`CREATE DATABASE ${other}`)
  t.after(() => servers.command(`DROP DATABASE ${other}`))
  const columns = "driver_id String, lat Float64 COMMENT 'degrees', at DateTime DEFAULT now(), hidden UInt8 EPHEMERAL, day Date MATERIALIZED toDate(at)"
  await servers.command(`CREATE TABLE ${positions} (${columns}) ENGINE = MergeTree ORDER BY at`)
  await servers.command(`CREATE TABLE ${other}.alerts (kind String) ENGINE = Memory`)
  await servers.command(`CREATE VIEW ${positions}_view AS SELECT 1 AS one`)
  const config = servers.config({ routes: [{ topic: 'a/{b}', table: positions, columns: { driver_id: { topic: 'b' } } }], tables: [`${other}.alerts`] })
  const generated = await describeTables(config, { tables: true })
  const start = generated.indexOf(`  ${positions}: {`)
  assert.equal(
    generated.slice(start, generated.indexOf('  }', start)),
    `  ${positions}: {
    /** \`String\` */
    driver_id: string
    /** \`Float64\`; degrees */
    lat: number
    /** \`DateTime\`; \`now()\` if missing */
    at: number | string
    /** \`UInt8\` */
    hidden: number
`,
  )
  assert.ok(generated.includes(`"${other}.alerts": {`) && !generated.includes('_view'), generated)
  const index = JSON.stringify(fileURLToPath(new URL('../../index.js', import.meta.url)))
  const program = `import { definePipeline } from ${index}
const ends = { mqtt: { url: 'mqtt://h' }, clickhouse: { url: 'http://h' } }
definePipeline<it.Tables>({ ...ends, routes: [{ topic: 'a', table: '${positions}', columns: { lat: 'x' } }, { topic: 'b', table: '${other}.alerts' }] })
// @ts-expect-error there is no such column
definePipeline<it.Tables>({ ...ends, routes: [{ topic: 'a', table: '${positions}', columns: { day: 'x' } }] })
// @ts-expect-error there is no such table
definePipeline<it.Tables>({ ...ends, routes: [{ topic: 'a', table: 'alerts' }] })
`
  const modules = ['--module', 'node16', '--moduleResolution', 'node16', '--skipLibCheck', '--typeRoots', NODE_TYPES, '--types', 'node']
  assert.equal(await compile(t, generated, program, modules), '')
  await assert.rejects(describeTables(config, /** @type {any} */ ({ table: true })), { code: 'CONFIG_INVALID', path: 'options.table' })
})
