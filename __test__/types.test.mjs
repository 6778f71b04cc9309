// What a value becomes in its column: the same as ClickHouse's own JSONEachRow makes of it, or refused, for every
// supported type. Where the two differ, the difference stands in a list below, with its reason.

import assert from 'node:assert/strict'
import { test } from 'node:test'
import { COLUMNS, document, TYPES } from './support/documents.mjs'
import { Random } from './support/random.mjs'
import { collect, heard, settled, unique, useServers } from './support/servers.mjs'

const servers = useServers()
const timeout = 60_000

// JSONEachRow as a user would set it to get what was written: floats to the last bit, and RFC 3339.
const JSON_EACH_ROW = {
  date_time_input_format: 'best_effort',
  precise_float_parsing: 1,
  input_format_null_as_default: 1,
  input_format_skip_unknown_fields: 1,
}

test('random documents give the rows that JSONEachRow gives', { timeout }, async (t) => {
  const seed = Random.seed()
  const random = new Random(seed)
  const documents = Array.from({ length: 1_000 }, (_, i) => document(random, i))

  const columns = `id UInt32, ${COLUMNS.map(({ name, type }) => `${name} ${type}`).join(', ')}`
  const [ours, theirs] = [await servers.table(columns), await servers.table(columns)]
  const letters = await send(t, ours, documents)
  await servers.command(`INSERT INTO ${theirs} FORMAT JSONEachRow\n${documents.join('\n')}`, JSON_EACH_ROW)

  const told = (id) => `SEED=${seed} gives this document:\n${documents[id]}`
  const [letter] = letters
  assert.deepEqual(letter && [letter.code, letter.message], undefined, letter && told(JSON.parse(letter.payload).id))
  const rows = (table) => servers.rows(`SELECT * FROM ${table} ORDER BY id`, { output_format_json_quote_denormals: 1 })
  const [ourRows, theirRows] = [await rows(ours), await rows(theirs)]
  assert.equal(ourRows.length, documents.length)
  for (const [id, row] of theirRows.entries()) {
    for (const { name, type } of COLUMNS) {
      if (!Object.is(ourRows[id][name], row[name])) {
        const [got, expected] = [ourRows[id][name], row[name]]
        assert.equal(got, expected, `column ${name} ${type}; ${told(id)}`)
      }
    }
  }
  assert.deepEqual(ourRows, theirRows)
})

test('fields that are missing give what JSONEachRow gives, where that is asked for', { timeout }, async (t) => {
  const types = Object.keys(TYPES).concat("Enum8('first' = -5, 'second' = 5)", "Enum16('least' = 1000, 'most' = 2000)")
  const columns = `id UInt32, ${types.map((type, i) => `c${i} ${type}`).join(', ')}, d Int8 DEFAULT 7, n Nullable(Int8)`
  const [ours, theirs] = [await servers.table(columns), await servers.table(columns)]
  const letters = await send(t, ours, ['{"id":1}'], { missingFields: 'zero' })
  assert.deepEqual(letters, [])
  await servers.command(`INSERT INTO ${theirs} FORMAT JSONEachRow {"id":1}`, JSON_EACH_ROW)
  assert.deepEqual(await servers.rows(`SELECT * FROM ${ours}`), await servers.rows(`SELECT * FROM ${theirs}`))
})

const REFUSED = Symbol('refused')
const SAME = Symbol('same')

/**
 * By reason: the type, the JSON, what millrace makes of it (the text that ClickHouse shows, or the code of a dead
 * letter), and what JSONEachRow makes of it.
 *
 * @type {Record<string, any[][]>}
 */
const REASONS = {
  'a number that does not fit is a dead letter; JSONEachRow wraps it around, or makes it infinite': [
    ['UInt8', '256', { code: 'OUT_OF_RANGE' }, '0'],
    ['Int8', '128', { code: 'OUT_OF_RANGE' }, '-128'],
    ['Int8', '-129', { code: 'OUT_OF_RANGE' }, '127'],
    ['UInt16', '65536', { code: 'OUT_OF_RANGE' }, '0'],
    ['Int16', '32768', { code: 'OUT_OF_RANGE' }, '-32768'],
    ['UInt32', '4294967296', { code: 'OUT_OF_RANGE' }, '0'],
    ['Int32', '-2147483649', { code: 'OUT_OF_RANGE' }, '2147483647'],
    ['Int64', '9223372036854775808', { code: 'OUT_OF_RANGE' }, '-9223372036854775808'],
    ['Int64', '-9223372036854775809', { code: 'OUT_OF_RANGE' }, '9223372036854775807'],
    ['UInt64', '18446744073709551616', { code: 'OUT_OF_RANGE' }, '0'],
    ['UInt8', '-1', { code: 'OUT_OF_RANGE' }, REFUSED],
    ['UInt64', '-1', { code: 'OUT_OF_RANGE' }, REFUSED],
    ['Float32', '1e39', { code: 'OUT_OF_RANGE' }, 'inf'],
    ['Float32', '-1e60', { code: 'OUT_OF_RANGE' }, '-inf'],
  ],
  'a number beyond the largest float is a dead letter; JSONEachRow makes it infinite': [
    ['Float64', '1e400', { code: 'OUT_OF_RANGE' }, 'inf'],
    ['Float32', '1e400', { code: 'OUT_OF_RANGE' }, 'inf'],
  ],
  'an integer may be written with a point or an exponent: JSON has one kind of number': [
    ['UInt8', '1.0', '1', REFUSED],
    ['UInt8', '1e2', '100', REFUSED],
    ['Int64', '-2.5e3', '-2500', REFUSED],
    ['UInt8', '-0', '0', REFUSED],
    ['UInt8', '"1e2"', '100', REFUSED],
  ],
  'a fraction is never cut off': [
    ['UInt8', '1.5', { code: 'TYPE_MISMATCH' }, REFUSED],
    ['Int64', '0.1', { code: 'TYPE_MISMATCH' }, REFUSED],
  ],
  'a text that is no number is refused by both, an empty one too; JSONEachRow reads an empty one as 0': [
    ['UInt8', '"fast"', { code: 'TYPE_MISMATCH' }, REFUSED],
    ['UInt8', '""', { code: 'TYPE_MISMATCH' }, '0'],
    ['UInt8', '" 12"', { code: 'TYPE_MISMATCH' }, REFUSED],
    ['Nullable(UInt8)', '""', { code: 'TYPE_MISMATCH' }, '0'],
    ['Nullable(UInt8)', '"null"', { code: 'TYPE_MISMATCH' }, REFUSED],
    ['Float64', '"fast"', { code: 'TYPE_MISMATCH' }, REFUSED],
  ],
  'numbers in texts, booleans as numbers: as lenient as JSONEachRow': [
    ['UInt8', '"12"', '12', SAME],
    ['UInt8', '"+5"', '5', SAME],
    ['UInt64', '"18446744073709551615"', '18446744073709551615', SAME],
    ['Int64', '"-9223372036854775808"', '-9223372036854775808', SAME],
    ['Int8', '-0', '0', SAME],
    ['UInt8', 'true', '1', SAME],
    ['Float64', '"1.5"', '1.5', SAME],
    ['Float64', '"nan"', 'nan', SAME],
    ['Float64', '"inf"', 'inf', SAME],
    ['Float64', '"-Infinity"', '-inf', SAME],
    ['Float64', 'true', '1', SAME],
    ['Bool', '1', 'true', SAME],
    ['Bool', '0', 'false', SAME],
  ],
  'what has no place in a column is refused by both': [
    ['UInt8', '[]', { code: 'TYPE_MISMATCH' }, REFUSED],
    ['Float64', '{}', { code: 'TYPE_MISMATCH' }, REFUSED],
    ['Bool', '2', { code: 'OUT_OF_RANGE' }, REFUSED],
    ['Bool', '"yes"', { code: 'TYPE_MISMATCH' }, REFUSED],
    ['UUID', '"01234567-89ab-cdef-0123-456789abcde"', { code: 'TYPE_MISMATCH' }, REFUSED],
    ['UUID', '""', { code: 'TYPE_MISMATCH' }, REFUSED],
    ['UUID', '1', { code: 'TYPE_MISMATCH' }, REFUSED],
    ["Enum8('a' = 1, 'b' = 2)", '"c"', { code: 'TYPE_MISMATCH' }, REFUSED],
    ["Enum8('a' = 1, 'b' = 2)", '""', { code: 'TYPE_MISMATCH' }, REFUSED],
    ["Enum8('a' = 1, 'b' = 2)", '3', { code: 'TYPE_MISMATCH' }, REFUSED],
    ['DateTime', '""', { code: 'TYPE_MISMATCH' }, REFUSED],
    ['DateTime', '"soon"', { code: 'TYPE_MISMATCH' }, REFUSED],
    ['DateTime', 'true', { code: 'TYPE_MISMATCH' }, REFUSED],
    ['DateTime', '"2024-02-30 00:00:00"', { code: 'TYPE_MISMATCH' }, REFUSED],
    ["DateTime64(9, 'UTC')", '"2262-04-11T23:47:17Z"', { code: 'OUT_OF_RANGE' }, REFUSED],
  ],
  'a Bool may be a text': [
    ['Bool', '"true"', 'true', REFUSED],
    ['Bool', '"0"', 'false', REFUSED],
  ],
  'the name or the number of an enum': [["Enum8('a' = 1, 'b' = 2)", '2', 'b', SAME]],
  'a text is always the name of an enum: a number in it could be both': [
    ["Enum8('a' = 1, 'b' = 2)", '"2"', { code: 'TYPE_MISMATCH' }, 'b'],
  ],
  'anything as it was written, in a String': [
    ['String', '1.50', '1.50', SAME],
    ['String', '1e2', '1e2', SAME],
    ['String', '-0', '-0', SAME],
    ['String', 'true', 'true', SAME],
    ['String', '{"a": [1, 2], "b":null}', '{"a": [1, 2], "b":null}', SAME],
    ['String', '[1, "x"]', '[1, "x"]', SAME],
    ['LowCardinality(String)', '12345678901234567890123', '12345678901234567890123', SAME],
  ],
  'half of a surrogate pair is no character': [
    ['String', '"\\ud800"', { code: 'JSON_INVALID' }, REFUSED],
    ['String', '"a\\ud83dz"', { code: 'JSON_INVALID' }, REFUSED],
    ['String', '"\\udc00"', { code: 'JSON_INVALID' }, '\ufffd\ufffd\ufffd'],
  ],
  'a UUID without hyphens': [
    ['UUID', '"0123456789abcdef0123456789ABCDEF"', '01234567-89ab-cdef-0123-456789abcdef', SAME],
  ],
  'a time outside of what its type holds is a dead letter; JSONEachRow takes the nearest that it holds, or keeps it': [
    ["DateTime('UTC')", '"1969-12-31T23:59:59Z"', { code: 'OUT_OF_RANGE' }, '1970-01-01 00:00:00'],
    ["DateTime('UTC')", '"2106-02-07T06:28:16Z"', { code: 'OUT_OF_RANGE' }, '2106-02-07 06:28:15'],
    ["DateTime64(3, 'UTC')", '"1899-12-31T23:59:59Z"', { code: 'OUT_OF_RANGE' }, '1899-12-31 23:59:59.000'],
    ["DateTime64(3, 'UTC')", '"2300-01-01T00:00:00Z"', { code: 'OUT_OF_RANGE' }, '2300-01-01 00:00:00.000'],
    ['Date', '"1969-12-31"', { code: 'OUT_OF_RANGE' }, '1970-01-01'],
    ['Date', '"2149-06-07"', { code: 'OUT_OF_RANGE' }, '2149-06-06'],
  ],
  'a day that does not exist is not another day': [['Date', '"2024-02-30"', { code: 'TYPE_MISMATCH' }, '2024-03-01']],
  'digits of a second that a column does not keep are cut by both': [
    ["DateTime('UTC')", '"2024-10-27T03:33:20.999Z"', '2024-10-27 03:33:20', SAME],
    ["DateTime64(3, 'UTC')", '"2024-10-27T03:33:20.1239Z"', '2024-10-27 03:33:20.123', SAME],
    ["DateTime64(3, 'UTC')", '"1969-12-31T23:59:59.5Z"', '1969-12-31 23:59:59.500', SAME],
  ],
  'numbers since 1970 are read by their magnitude; JSONEachRow takes them in the unit of the column': [
    ["DateTime('UTC')", '1730000000123', '2024-10-27 03:33:20', '2106-02-07 06:28:15'],
    ["DateTime64(3, 'UTC')", '1730000000', '2024-10-27 03:33:20.000', '1970-01-21 00:33:20.000'],
    ["DateTime64(3, 'UTC')", '1730000000123456', '2024-10-27 03:33:20.123', '9999-12-31 23:59:59.456'],
    ["DateTime64(6, 'UTC')", '1730000000123', '2024-10-27 03:33:20.123000', '1970-01-21 00:33:20.000123'],
    ["DateTime64(3, 'UTC')", '-1', '1969-12-31 23:59:59.000', '1969-12-31 23:59:59.999'],
    ['Date', '1730000000', '2024-10-27', '2096-07-06'],
    ['Date', '1730000000123', '2024-10-27', '1984-05-10'],
    ['Date', '86400', '1970-01-02', '2027-02-15'],
    ['Date', '19782', '1970-01-01', '2024-02-29'],
  ],
  'numbers since 1970 may have a fraction or an exponent': [
    ["DateTime('UTC')", '1730000000.75', '2024-10-27 03:33:20', REFUSED],
    ["DateTime('UTC')", '1.73e9', '2024-10-27 03:33:20', REFUSED],
    ["DateTime64(3, 'UTC')", '1730000000.123', '2024-10-27 03:33:20.123', REFUSED],
    ["DateTime64(6, 'UTC')", '1730000000123.456', '2024-10-27 03:33:20.123456', REFUSED],
  ],
  'a Date takes the day of a time': [
    ['Date', '"2024-10-27T03:33:20Z"', '2024-10-27', REFUSED],
    ['Date', '"2024-10-27 03:33:20"', '2024-10-27', REFUSED],
  ],
  'texts are RFC 3339 or ClickHouse’s own form; no guessing which number is the month': [
    ["DateTime('UTC')", '"27.10.2024 03:33:20"', { code: 'TYPE_MISMATCH' }, '2024-10-27 03:33:20'],
    ["DateTime('UTC')", '"Oct 27 2024 03:33:20"', { code: 'TYPE_MISMATCH' }, '2024-10-27 03:33:20'],
    ['Date', '"2024-1-5"', { code: 'TYPE_MISMATCH' }, '2024-01-05'],
  ],
  'digits alone are a number since 1970': [
    ["DateTime('UTC')", '"1730000000"', '2024-10-27 03:33:20', SAME],
    ["DateTime('UTC')", '"20241027033320"', { code: 'OUT_OF_RANGE' }, '2024-10-27 03:33:20'],
  ],
  'where clocks are put forward an hour does not exist, and where they are put back one is there twice': [
    ["DateTime('Europe/Berlin')", '"2024-03-31 02:30:00"', '2024-03-31 00:30:00', SAME],
    ["DateTime('Europe/Berlin')", '"2024-10-27 02:30:00"', '2024-10-27 00:30:00', SAME],
  ],
}

test('where millrace and JSONEachRow differ, and where they might', { timeout }, async (t) => {
  const cases = Object.values(REASONS).flat()
  const types = [...new Set(cases.map(([type]) => type))]
  const prefix = unique('topic')
  const tables = new Map()
  for (const type of types) tables.set(type, await servers.table(`id UInt32, v ${type}`))
  const routes = types.map((type, i) => ({ topic: `${prefix}/${i}`, table: tables.get(type) }))
  const pipeline = await servers.started(t, { routes })
  const letters = collect(pipeline, 'deadLetters')
  const publisher = await servers.publisher(t, { clients: 1 })
  await publisher.flood(cases.length, (id) => {
    const [type, json] = cases[id]
    return { topic: `${prefix}/${types.indexOf(type)}`, payload: `{"id":${id},"v":${json}}` }
  })
  await settled(pipeline, cases.length)
  await heard(pipeline, letters)

  const ours = new Map()
  for (const letter of letters) ours.set(Number(/"id":(\d+)/.exec(letter.payload)[1]), letter.code)
  for (const [type, table] of tables) {
    for (const { id, text } of await servers.rows(`SELECT id, ${shown(type)} AS text FROM ${table}`)) ours.set(id, text)
  }

  const wrong = []
  for (const [id, [type, json, expected, theirs]] of cases.entries()) {
    const expectedOurs = expected.code ?? expected
    const expectedTheirs = theirs === SAME ? expectedOurs : theirs
    const gotTheirs = await jsonEachRow(type, json)
    if (ours.get(id) !== expectedOurs) wrong.push([type, json, 'millrace', ours.get(id), expectedOurs])
    if (gotTheirs !== expectedTheirs) wrong.push([type, json, 'JSONEachRow', gotTheirs, expectedTheirs])
  }
  assert.deepEqual(wrong, [])
})

/** Publishes the documents to a route into `table` and gives the dead letters. */
async function send(t, table, documents, route = {}) {
  const topic = unique('topic')
  const pipeline = await servers.started(t, { routes: [{ topic, table, ...route }] })
  const letters = collect(pipeline, 'deadLetters')
  const publisher = await servers.publisher(t, { clients: 1 })
  await publisher.flood(documents.length, (i) => ({ topic, payload: documents[i] }))
  await settled(pipeline, documents.length)
  await heard(pipeline, letters)
  return letters
}

/** What ClickHouse makes of a JSON value by itself. */
async function jsonEachRow(type, json) {
  const table = await servers.table(`v ${type}`)
  try {
    await servers.command(`INSERT INTO ${table} FORMAT JSONEachRow {"v":${json}}`, JSON_EACH_ROW)
  } catch {
    return REFUSED
  }
  return (await servers.rows(`SELECT ${shown(type)} AS text FROM ${table}`))[0].text
}

/** A column `v` as text; where clocks are changed only UTC tells which hour it is. */
function shown(type) {
  return type.includes('Europe') ? "toString(v, 'UTC')" : 'toString(v)'
}
