// Every supported column type: a value becomes what ClickHouse's JSONEachRow makes of it, or is refused. A list below has
// the differences, each with its reason.

import assert from 'node:assert/strict'
import { test } from 'node:test'
import { isDeepStrictEqual } from 'node:util'
import { columnsOf, document, FAMILIES } from '../support/documents.mjs'
import { full } from '../support/full.mjs'
import { Random } from '../support/random.mjs'
import { collect, heard, settled, unique, useServers } from '../support/servers.mjs'

const servers = useServers()
const timeout = 60_000
/** Random documents of each family, with one value for each of its types. */
const DOCUMENTS = full ? 10_000 : 1_500

// JSONEachRow as a user would set it to get what was written: floats to the last bit, and RFC 3339.
const JSON_EACH_ROW = {
  date_time_input_format: 'best_effort',
  precise_float_parsing: 1,
  input_format_null_as_default: 1,
  input_format_skip_unknown_fields: 1,
  input_format_parallel_parsing: 0,
  // A text in a JSON column stays one.
  input_format_try_infer_dates: 0,
  input_format_try_infer_datetimes: 0,
  // Data within it is read at once: ClickHouse 26.7 misreads a Time64 where one buffer ends and the
  // next begins.
  max_query_size: 2 ** 28,
}

// At QoS 0 nothing is sealed for the sake of acknowledgements: all rows are in one INSERT.
const ONE_BLOCK = { batch: { maxRows: 100_000, maxBytes: 2 ** 27, maxDelayMs: 60_000 }, memory: { maxBytes: 2 ** 30 } }

const TABLE = {
  // A Nested is a column of its own then, and not several.
  settings: { flatten_nested: 0 },
  // One file, where each path of a JSON column would have several.
  storage: { min_bytes_for_wide_part: 1_000_000_000 },
}

for (const family of Object.keys(FAMILIES)) {
  test(`random documents give the rows that JSONEachRow gives: ${family}`, { timeout: full ? 600_000 : timeout }, async (t) => {
    const seed = Random.seed()
    const random = new Random(seed)
    const columns = columnsOf(family)
    const documents = Array.from({ length: DOCUMENTS }, (_, i) => document(random, i, columns))

    const structure = `id UInt32, ${columns.map(({ name, type }) => `${name} ${type}`).join(', ')}`
    const ours = await servers.table(structure, TABLE)
    const theirs = unique('table')
    await servers.command(`CREATE TABLE ${theirs} (${structure}) ENGINE = Memory`, TABLE.settings)
    const letters = await send(t, ours, documents)
    // Each document alone: what ClickHouse finds in a JSON column depends on the rows before it in a block. That takes its time.
    const [settings, most] = family === 'free' ? [{ ...JSON_EACH_ROW, max_insert_block_size: 1 }, 250] : [JSON_EACH_ROW, DOCUMENTS]
    const theirRows = []
    for (let at = 0; at < documents.length; at += most) {
      await servers.command(`INSERT INTO ${theirs} FORMAT JSONEachRow\n${documents.slice(at, at + most).join('\n')}`, settings)
      theirRows.push(...(await exactRows(theirs, columns)))
      await servers.command(`TRUNCATE TABLE ${theirs}`)
    }

    const told = (id) => `SEED=${seed} gives this document:\n${documents[id]}`
    for (const { code, message, payload } of letters) {
      assert.fail(`${letters.length} dead letters, such as ${code}: ${message}; ${told(JSON.parse(payload).id)}`)
    }
    const ourRows = await exactRows(ours, columns)
    assert.equal(ourRows.length, documents.length)
    for (const [id, row] of theirRows.entries()) {
      for (const [name, expected] of Object.entries(row)) {
        const got = ourRows[id][name]
        if (isDeepStrictEqual(got, expected)) continue
        const column = columns.find((one) => name === one.name || name === `${one.name}_type`)
        if (column?.type.includes('Variant(') && isKeptWhole(got, expected)) {
          ourRows[id][name] = expected
          continue
        }
        assert.deepEqual(got, expected, `${name} ${column?.type}; ${told(id)}`)
      }
    }
    assert.deepEqual(ourRows, theirRows)
  })
}

test('missing fields are filled as by JSONEachRow, where that is configured', { timeout }, async (t) => {
  const all = Object.values(FAMILIES).flatMap((family) => Object.keys(family))
  const types = all.concat("Enum8('first' = -5, 'second' = 5)", "Enum16('least' = 1000, 'most' = 2000)")
  const columns = `id UInt32, ${types.map((type, i) => `c${i} ${type}`).join(', ')}, d Int8 DEFAULT 7, n Nullable(Int8),
    j Nullable(JSON)`
  const [ours, theirs] = [await servers.table(columns, TABLE), await servers.table(columns, TABLE)]
  const letters = await send(t, ours, ['{"id":1}'], { missingFields: 'zero' })
  assert.deepEqual(letters, [])
  await servers.command(`INSERT INTO ${theirs} FORMAT JSONEachRow {"id":1}`, JSON_EACH_ROW)
  const [[ourRow], [theirRow]] = [await exactRows(ours), await exactRows(theirs)]
  for (const [i, type] of types.entries()) assert.deepEqual(ourRow[`c${i}`], theirRow[`c${i}`], type)
  assert.deepEqual(ourRow, theirRow)
})

/**
 * Whether they differ only where a Variant of ours has a text, because the numbers in it would lose digits as floats.
 *
 * @param {any} got
 * @param {any} expected
 * @returns {boolean}
 */
function isKeptWhole(got, expected) {
  if (isDeepStrictEqual(got, expected)) return true
  if (typeof got === 'string') {
    if (got === 'String') return typeof expected === 'string'
    try {
      return isDeepStrictEqual(JSON.parse(got), expected)
    } catch {
      return false
    }
  }
  if (typeof got !== 'object' || typeof expected !== 'object' || !got || !expected) return false
  const keys = Object.keys(expected)
  return keys.length === Object.keys(got).length && keys.every((key) => isKeptWhole(got[key], expected[key]))
}

const REFUSED = Symbol('refused')
const SAME = Symbol('same')
// Types that ClickHouse has doubts about.
const LENIENT = { settings: { allow_suspicious_variant_types: 1, allow_experimental_qbit_type: 1 } }

const MISMATCH = { code: 'TYPE_MISMATCH' }
const TOO_LARGE = { code: 'OUT_OF_RANGE' }
const MISSING = { code: 'FIELD_MISSING' }
const INVALID = { code: 'JSON_INVALID' }

/**
 * By reason: the type, the JSON, what millrace makes of it (the text that ClickHouse shows, with its type where the
 * column leaves it open, or the code of a dead letter), and what JSONEachRow makes of it.
 *
 * @type {Record<string, any[][]>}
 */
const REASONS = {
  'a number that does not fit is a dead letter; JSONEachRow wraps it around, or makes it infinite': [
    ['UInt8', '256', TOO_LARGE, '0'],
    ['Int8', '128', TOO_LARGE, '-128'],
    ['Int8', '-129', TOO_LARGE, '127'],
    ['UInt16', '65536', TOO_LARGE, '0'],
    ['Int16', '32768', TOO_LARGE, '-32768'],
    ['UInt32', '4294967296', TOO_LARGE, '0'],
    ['Int32', '-2147483649', TOO_LARGE, '2147483647'],
    ['Int64', '9223372036854775808', TOO_LARGE, '-9223372036854775808'],
    ['Int64', '-9223372036854775809', TOO_LARGE, '9223372036854775807'],
    ['UInt64', '18446744073709551616', TOO_LARGE, '0'],
    ['UInt64', '"18446744073709551616"', TOO_LARGE, '0'],
    ['UInt8', '-1', TOO_LARGE, REFUSED],
    ['UInt64', '-1', TOO_LARGE, REFUSED],
    ['Int128', String(2n ** 127n), TOO_LARGE, String(-(2n ** 127n))],
    ['Int128', String(-(2n ** 127n) - 1n), TOO_LARGE, String(2n ** 127n - 1n)],
    ['UInt128', String(2n ** 128n), TOO_LARGE, '0'],
    ['UInt128', '1e39', TOO_LARGE, REFUSED],
    ['Int256', String(2n ** 255n), TOO_LARGE, String(-(2n ** 255n))],
    ['UInt256', String(2n ** 256n), TOO_LARGE, '0'],
    ['UInt256', '1e400', TOO_LARGE, REFUSED],
    ['UInt256', '-1', TOO_LARGE, REFUSED],
    ['Float32', '1e39', TOO_LARGE, 'inf'],
    ['Float32', '-1e60', TOO_LARGE, '-inf'],
    ['Float32', '3.4028236e38', TOO_LARGE, 'inf'],
    ['Float32', '1e400', TOO_LARGE, 'inf'],
    ['Float64', '1e400', TOO_LARGE, 'inf'],
    ['Float64', '"1e400"', TOO_LARGE, 'inf'],
    ['Float64', '-1.8e308', TOO_LARGE, '-inf'],
    ['BFloat16', '1e39', TOO_LARGE, 'inf'],
    ['Decimal(9, 2)', '10000000', TOO_LARGE, REFUSED],
    ['Decimal(9, 2)', '-10000000', TOO_LARGE, REFUSED],
    ['Decimal(9, 2)', '1e7', TOO_LARGE, REFUSED],
    ['Decimal(9, 2)', '1e400', TOO_LARGE, REFUSED],
    ['Decimal(9, 9)', '1', TOO_LARGE, REFUSED],
    ['Decimal(76, 0)', `1${'0'.repeat(76)}`, TOO_LARGE, REFUSED],
    ['Array(UInt8)', '[1,300]', TOO_LARGE, '[1,44]'],
    ['Array(Array(Int8))', '[[1],[128]]', TOO_LARGE, '[[1],[-128]]'],
    ['Map(String, UInt8)', '{"a":300}', TOO_LARGE, "{'a':44}"],
    ['Map(UInt8, String)', '{"300":"a"}', TOO_LARGE, "{44:'a'}"],
    ['Tuple(a UInt8)', '{"a":256}', TOO_LARGE, '(0)'],
    ['Point', '[1,1e400]', TOO_LARGE, '(1,inf)'],
  ],
  'digits behind the point that a Decimal does not keep are never cut, unless they are zeros': [
    ['Decimal(9, 2)', '1.255', TOO_LARGE, '1.25'],
    ['Decimal(9, 2)', '-1.259', TOO_LARGE, '-1.25'],
    ['Decimal(9, 2)', '"1.255"', TOO_LARGE, '1.25'],
    ['Decimal(9, 2)', '1e-3', TOO_LARGE, '0'],
    ['Decimal(9, 2)', '1e-400', TOO_LARGE, '0'],
    ['Decimal(18, 0)', '123e-1', TOO_LARGE, '12'],
    ['Decimal(38, 10)', '0.00000000001', TOO_LARGE, '0'],
    ['Decimal(38, 10)', '123456789012345678901234567.12345678901', TOO_LARGE, '123456789012345678901234567.123456789'],
    ['Decimal(9, 2)', '1.2500000000000', '1.25', SAME],
    ['Decimal(9, 2)', '9999999.990000', '9999999.99', SAME],
    ['Decimal(18, 0)', '120e-1', '12', SAME],
    ['Decimal(9, 2)', '1000000000e-5', '10000', REFUSED],
    ['Decimal(9, 2)', '0e500', '0', REFUSED],
  ],
  'decimals from texts': [
    ['Decimal(9, 2)', '"+1.5"', '1.5', SAME],
    ['Decimal(9, 2)', '"1e2"', '100', SAME],
    ['Decimal(9, 2)', '".5"', '0.5', SAME],
    ['Decimal(9, 2)', '""', MISMATCH, '0'],
    ['Decimal(9, 2)', '"1,5"', MISMATCH, REFUSED],
    ['Decimal(9, 2)', '" 1"', MISMATCH, REFUSED],
    ['Decimal(9, 2)', '"nan"', MISMATCH, REFUSED],
    ['Decimal(9, 2)', 'true', MISMATCH, REFUSED],
  ],
  'a Float32 is read from its digits, not from a Float64; of a BFloat16 the lower half of a Float32 is cut off': [
    ['Float32', '1.00000017881393421514957253748434595763683319091797', '1.0000001', SAME],
    ['Float32', '7.038531e-26', '7.038531e-26', SAME],
    ['BFloat16', '1.00390625', '1', SAME],
    ['BFloat16', '1.01171875', '1.0078125', SAME],
    ['BFloat16', '0.1', '0.099609375', SAME],
    ['BFloat16', '3.4e38', '3.3895314e38', SAME],
    ['BFloat16', '"nan"', 'nan', SAME],
  ],
  'an integer may be written with a point or an exponent: JSON has one kind of number': [
    ['UInt8', '1.0', '1', REFUSED],
    ['UInt8', '1e2', '100', REFUSED],
    ['UInt16', '1e3', '1000', REFUSED],
    ['UInt8', '1e3', TOO_LARGE, REFUSED],
    ['UInt8', '1000e-1', '100', REFUSED],
    ['Int64', '-2.5e3', '-2500', REFUSED],
    ['Int64', '9007199254740993.0', '9007199254740993', REFUSED],
    ['UInt64', '1.8446744073709551615e19', '18446744073709551615', REFUSED],
    ['UInt64', '18446744073709551.616e3', TOO_LARGE, REFUSED],
    ['Int128', '1e30', `1${'0'.repeat(30)}`, REFUSED],
    ['UInt256', '1.15e77', `115${'0'.repeat(75)}`, REFUSED],
    ['UInt8', '0e400', '0', REFUSED],
    ['UInt8', '-0', '0', REFUSED],
    ['UInt8', '"1e2"', '100', REFUSED],
    ['Array(Nullable(Int128))', '[1e2, null]', '[100,NULL]', REFUSED],
  ],
  'NaN and the infinities are no JSON, and come only as texts': [
    ['Float64', 'NaN', INVALID, 'nan'],
    ['Float64', 'nan', INVALID, REFUSED],
    ['Float64', 'Infinity', INVALID, 'inf'],
    ['Float64', '-inf', INVALID, '-inf'],
    ['Nullable(Float64)', 'NaN', INVALID, 'nan'],
    ['Float32', '"NaN"', 'nan', SAME],
    ['Float32', '"-inf"', '-inf', SAME],
    ['Int8', '"nan"', MISMATCH, REFUSED],
    ['Int64', '"inf"', MISMATCH, REFUSED],
  ],
  'a fraction is never cut off': [
    ['UInt8', '1.5', MISMATCH, REFUSED],
    ['Int64', '0.1', MISMATCH, REFUSED],
    ['Int128', '0.5', MISMATCH, REFUSED],
    ['UInt8', '1e-400', MISMATCH, REFUSED],
    ['Int64', '9007199254740993.5', MISMATCH, REFUSED],
  ],
  'a text that is no number is refused by both, an empty one too; JSONEachRow reads an empty one as 0, and booleans': [
    ['UInt8', '"fast"', MISMATCH, REFUSED],
    ['UInt8', '""', MISMATCH, '0'],
    ['UInt8', '"true"', MISMATCH, '1'],
    ['UInt8', '" 12"', MISMATCH, REFUSED],
    ['Int256', '""', MISMATCH, '0'],
    ['Nullable(UInt8)', '""', MISMATCH, '0'],
    ['Nullable(UInt8)', '"null"', MISMATCH, REFUSED],
    ['Float64', '"fast"', MISMATCH, REFUSED],
    ['BFloat16', '""', MISMATCH, REFUSED],
    ['Map(UInt8, String)', '{"":"a"}', MISMATCH, "{0:'a'}"],
  ],
  'numbers in texts, booleans as numbers: as lenient as JSONEachRow': [
    ['UInt8', '"12"', '12', SAME],
    ['UInt8', '"+5"', '5', SAME],
    ['UInt64', '"18446744073709551615"', '18446744073709551615', SAME],
    ['Int64', '"-9223372036854775808"', '-9223372036854775808', SAME],
    ['UInt256', `"${2n ** 256n - 1n}"`, String(2n ** 256n - 1n), SAME],
    ['Int8', '-0', '0', SAME],
    ['UInt8', 'true', '1', SAME],
    ['UInt128', 'true', '1', SAME],
    ['Float64', '"1.5"', '1.5', SAME],
    ['Float64', '"nan"', 'nan', SAME],
    ['Float64', '"inf"', 'inf', SAME],
    ['Float64', '"-Infinity"', '-inf', SAME],
    ['Float64', 'true', '1', SAME],
    ['Bool', '1', 'true', SAME],
    ['Bool', '0', 'false', SAME],
  ],
  'what has no place in a column is refused by both': [
    ['UInt8', '[]', MISMATCH, REFUSED],
    ['Float64', '{}', MISMATCH, REFUSED],
    ['Decimal(9, 2)', '[1]', MISMATCH, REFUSED],
    ['Bool', '2', TOO_LARGE, REFUSED],
    ['UUID', '"01234567-89ab-cdef-0123-456789abcde"', MISMATCH, REFUSED],
    ['UUID', '""', MISMATCH, REFUSED],
    ['UUID', '1', MISMATCH, REFUSED],
    ['IPv4', '"1.2.3"', MISMATCH, REFUSED],
    ['IPv4', '"1.2.3.256"', MISMATCH, REFUSED],
    ['IPv4', '"1.2.3.4:80"', MISMATCH, REFUSED],
    ['IPv4', '"::ffff:1.2.3.4"', MISMATCH, REFUSED],
    ['IPv4', '16909060', MISMATCH, REFUSED],
    ['IPv6', '"fe80::1%eth0"', MISMATCH, REFUSED],
    ['IPv6', '"[::1]"', MISMATCH, REFUSED],
    ['IPv6', '"2001:db8::1/64"', MISMATCH, REFUSED],
    ['IPv6', '"1::2::3"', MISMATCH, REFUSED],
    ['IPv6', '""', MISMATCH, REFUSED],
    ["Enum8('a' = 1, 'b' = 2)", '"c"', MISMATCH, REFUSED],
    ["Enum8('a' = 1, 'b' = 2)", '""', MISMATCH, REFUSED],
    ["Enum8('a' = 1, 'b' = 2)", '3', MISMATCH, REFUSED],
    ["Enum8('a' = 1, 'b' = 2)", '257', MISMATCH, 'a'],
    ["Enum8('a' = 1, 'b' = 2)", 'true', MISMATCH, REFUSED],
    ['DateTime', '""', MISMATCH, REFUSED],
    ['DateTime', '"soon"', MISMATCH, REFUSED],
    ['DateTime', 'true', MISMATCH, REFUSED],
    ['DateTime', '"2024-02-30 00:00:00"', MISMATCH, REFUSED],
    ["DateTime64(9, 'UTC')", '"2262-04-11T23:47:17Z"', TOO_LARGE, REFUSED],
    ['Array(UInt8)', '{}', MISMATCH, REFUSED],
    ['Array(UInt8)', '1', MISMATCH, REFUSED],
    ['Array(UInt8)', '"[1,2]"', MISMATCH, REFUSED],
    ['Array(UInt8)', '[[1]]', MISMATCH, REFUSED],
    ['Array(Array(String))', '["a"]', MISMATCH, REFUSED],
    ['Map(String, UInt8)', '[]', MISMATCH, REFUSED],
    ['Map(String, UInt8)', '[["a",1]]', MISMATCH, REFUSED],
    ['Map(UUID, UInt8)', '{"x":1}', MISMATCH, REFUSED],
    ['Tuple(a UInt8, b String)', '1', MISMATCH, REFUSED],
    ['Tuple(UInt8, String)', '[1]', MISMATCH, REFUSED],
    ['Tuple(UInt8, String)', '[1,"x",2]', MISMATCH, REFUSED],
    ['Tuple(UInt8, String)', '{"1":1,"2":"x"}', MISMATCH, REFUSED],
    ['Point', '[1]', MISMATCH, REFUSED],
    ['Point', '{"x":1,"y":2}', MISMATCH, REFUSED],
    ['Point', '"(1,2)"', MISMATCH, REFUSED],
    ['Ring', '[1,2]', MISMATCH, REFUSED],
    ['JSON', '[1]', MISMATCH, REFUSED],
    ['JSON', '1', MISMATCH, REFUSED],
    ['JSON', '"{}"', MISMATCH, REFUSED],
    ['Variant(Float64, UInt64)', '"1"', MISMATCH, '1 UInt64'],
    ['Variant(Float64, UInt64)', '"x"', MISMATCH, REFUSED],
    ['Variant(Float64, UInt64)', '[]', MISMATCH, REFUSED],
  ],
  'a Bool may be a text, or a number that is written with a point or an exponent': [
    ['Bool', '"true"', 'true', REFUSED],
    ['Bool', '"yes"', 'true', REFUSED],
    ['Bool', '"OFF"', 'false', REFUSED],
    ['Bool', '"Enabled"', 'true', REFUSED],
    ['Bool', '1.0', 'true', REFUSED],
    ['Bool', '1e0', 'true', REFUSED],
    ['Bool', '0.0', 'false', REFUSED],
    ['Bool', '0.5', TOO_LARGE, REFUSED],
    ['Bool', '"0"', 'false', REFUSED],
    ['Map(Bool, UInt8)', '{"true":1}', '{true:1}', REFUSED],
  ],
  'the name or the number of an enum': [["Enum8('a' = 1, 'b' = 2)", '2', 'b', SAME]],
  'a text is always the name of an enum: a number in it could be both': [
    ["Enum8('a' = 1, 'b' = 2)", '"2"', MISMATCH, 'b'],
  ],
  'anything as it was written, in a String': [
    ['String', '1.50', '1.50', SAME],
    ['String', '1e2', '1e2', SAME],
    ['String', '-0', '-0', SAME],
    ['String', '1e400', '1e400', SAME],
    ['String', 'true', 'true', SAME],
    ['String', '{"a": [1, 2], "b":null}', '{"a": [1, 2], "b":null}', SAME],
    ['String', '[1, "x"]', '[1, "x"]', SAME],
    ['LowCardinality(String)', '12345678901234567890123', '12345678901234567890123', SAME],
    ['Array(String)', '[1.50, "a", true, [1], {"a":1}]', "['1.50','a','true','[1]','{\"a\":1}']", SAME],
  ],
  'a FixedString is as long as it is, in bytes; it takes what a String takes, if that is no object or list': [
    ['FixedString(4)', '"abc"', 'abc', SAME],
    ['FixedString(4)', '"abcde"', TOO_LARGE, REFUSED],
    ['FixedString(4)', '"ééé"', TOO_LARGE, REFUSED],
    ['FixedString(4)', '1.50', '1.50', REFUSED],
    ['FixedString(4)', 'true', 'true', REFUSED],
    ['FixedString(4)', '{}', MISMATCH, REFUSED],
  ],
  'half of a surrogate pair is no character': [
    ['String', '"\\ud800"', INVALID, REFUSED],
    ['String', '"a\\ud83dz"', INVALID, REFUSED],
    ['String', '"\\udc00"', INVALID, '\ufffd\ufffd\ufffd'],
    ['JSON', '{"a":"\\ud800"}', INVALID, REFUSED],
    ['Map(String, UInt8)', '{"\\ud800":1}', INVALID, REFUSED],
  ],
  'a UUID without hyphens': [
    ['UUID', '"0123456789abcdef0123456789ABCDEF"', '01234567-89ab-cdef-0123-456789abcdef', SAME],
  ],
  'an address with leading zeros is octal to some and decimal to others': [
    ['IPv6', '"::ffff:010.1.2.3"', MISMATCH, '::ffff:10.1.2.3'],
  ],
  'an IPv4 address in an IPv6 column': [['IPv6', '"1.2.3.4"', '::ffff:1.2.3.4', SAME]],
  'a time outside of what its type holds is a dead letter; JSONEachRow takes the nearest that it holds, or keeps it': [
    ["DateTime('UTC')", '"1969-12-31T23:59:59Z"', TOO_LARGE, '1970-01-01 00:00:00'],
    ["DateTime('UTC')", '"2106-02-07T06:28:16Z"', TOO_LARGE, '2106-02-07 06:28:15'],
    ['Date', '"1969-12-31"', TOO_LARGE, '1970-01-01'],
    ['Date', '"2149-06-07"', TOO_LARGE, '2149-06-06'],
    ['Date32', '"1899-12-31"', TOO_LARGE, '1900-01-01'],
    ['Date32', '"2300-01-01"', TOO_LARGE, '2299-12-31'],
    ['Time', '3600000', TOO_LARGE, '999:59:59'],
    ['Time', '"1000:00:00"', MISMATCH, REFUSED],
    ['Time64(3)', '-3600000000', TOO_LARGE, '-999:59:59.000'],
  ],
  'a day or a minute that does not exist is not another one': [
    ['Date', '"2024-02-30"', MISMATCH, '2024-03-01'],
    ['Date32', '"2024-02-30"', MISMATCH, '2024-03-01'],
    ['Time', '"01:60:00"', MISMATCH, '02:00:00'],
    ['Time', '"01:02:60"', MISMATCH, '01:03:00'],
  ],
  'digits of a second that a column does not keep are cut, towards the past': [
    ["DateTime('UTC')", '"2024-10-27T03:33:20.999Z"', '2024-10-27 03:33:20', SAME],
    ["DateTime64(3, 'UTC')", '"2024-10-27T03:33:20.1239Z"', '2024-10-27 03:33:20.123', SAME],
    ["DateTime64(3, 'UTC')", '"1969-12-31T23:59:59.5Z"', '1969-12-31 23:59:59.500', SAME],
    ["DateTime64(3, 'UTC')", '"1969-12-31T23:59:59.9999Z"', '1969-12-31 23:59:59.999', SAME],
    ["DateTime64(9, 'UTC')", '"2024-10-27T03:33:20.9999999999Z"', '2024-10-27 03:33:20.999999999', SAME],
    ["DateTime64(3, 'UTC')", '1730000000123.9', '2024-10-27 03:33:20.123', REFUSED],
    ["DateTime64(3, 'UTC')", '-0.0001', '1969-12-31 23:59:59.999', REFUSED],
    ['Time', '"01:02:03.9"', '01:02:03', REFUSED],
    ['Time64(3)', '"01:02:03.1239"', '01:02:03.123', SAME],
    ['Time64(3)', '"-01:02:03.1231"', '-01:02:03.124', '-01:02:03.123'],
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
    ['Date32', '-86400', '1969-12-31', '1733-06-12'],
    ['Date32', '19782', '1970-01-01', '2024-02-29'],
  ],
  'a number in a time of day counts seconds; JSONEachRow takes it in the unit of the column': [
    ['Time', '3723', '01:02:03', SAME],
    ['Time', '-5', '-00:00:05', SAME],
    ['Time', '"3723"', '01:02:03', REFUSED],
    ['Time', '1e3', '00:16:40', REFUSED],
    ['Time64(3)', '3723', '01:02:03.000', '00:00:03.723'],
    ['Time64(3)', '-1.5', '-00:00:01.500', REFUSED],
    ['Time64(3)', '"1.5"', '00:00:01.500', SAME],
  ],
  'two parts of a time of day could be hours and minutes, or minutes and seconds': [
    ['Time', '"01:02"', MISMATCH, '00:01:02'],
  ],
  'a time of day is no point in time': [
    ['Time', '"2024-10-27 01:02:03"', MISMATCH, REFUSED],
    ['Time', '"01:02:03Z"', MISMATCH, REFUSED],
    ['Time', '""', MISMATCH, REFUSED],
    ['Time', 'true', MISMATCH, REFUSED],
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
    ['Date32', '"1924-10-27T03:33:20Z"', '1924-10-27', REFUSED],
  ],
  'texts are RFC 3339 or ClickHouse’s own form; no guessing which number is the month': [
    ["DateTime('UTC')", '"27.10.2024 03:33:20"', MISMATCH, '2024-10-27 03:33:20'],
    ["DateTime('UTC')", '"Oct 27 2024 03:33:20"', MISMATCH, '2024-10-27 03:33:20'],
    ['Date32', 'true', MISMATCH, '1970-01-02'],
  ],
  'a week or a day of the year is no date': [
    ["DateTime('UTC')", '"2024-W43-7"', MISMATCH, REFUSED],
    ["DateTime('UTC')", '"2024-W43-7T03:33:20Z"', MISMATCH, REFUSED],
    ["DateTime64(3, 'UTC')", '"2024W437"', MISMATCH, REFUSED],
    ["DateTime64(3, 'UTC')", '"2024-301"', MISMATCH, REFUSED],
    ["DateTime64(3, 'UTC')", '"2024-301T03:33:20Z"', MISMATCH, REFUSED],
    ['Date', '"2024-W43-7"', MISMATCH, REFUSED],
    ['Date', '"2024-301"', MISMATCH, REFUSED],
    ['Date32', '"2024-W43"', MISMATCH, REFUSED],
    ['Date32', '"2024-301"', MISMATCH, REFUSED],
  ],
  'digits alone are a number since 1970': [
    ["DateTime('UTC')", '"1730000000"', '2024-10-27 03:33:20', SAME],
    ['Map(Date, UInt8)', '{"1730000000":1}', "{'2024-10-27':1}", REFUSED],
  ],
  'where clocks are put forward an hour does not exist, and where they are put back one is there twice': [
    ["DateTime('Europe/Berlin')", '"2024-03-31 02:30:00"', '2024-03-31 00:30:00', SAME],
    ["DateTime('Europe/Berlin')", '"2024-10-27 02:30:00"', '2024-10-27 00:30:00', SAME],
  ],
  'null is the same as missing: NULL where the column holds it, else the message is a dead letter': [
    ['Array(UInt8)', 'null', MISSING, '[]'],
    ['Map(String, UInt8)', 'null', MISSING, '{}'],
    ['Tuple(a UInt8)', 'null', MISSING, '(0)'],
    ['Point', 'null', MISSING, '(0,0)'],
    ['JSON', 'null', MISSING, '{}'],
    ['Int128', 'null', MISSING, '0'],
    ['Decimal(9, 2)', 'null', MISSING, '0'],
    ['Nullable(JSON)', 'null', null, SAME],
    ['Nullable(Decimal(38, 10))', 'null', null, SAME],
    ['SimpleAggregateFunction(anyLast, Nullable(String))', 'null', null, SAME],
    ['Variant(String, UInt64)', 'null', ' None', SAME],
    ['Dynamic', 'null', ' None', SAME],
  ],
  'null within a value is NULL where the type holds it, and else refused; JSONEachRow puts zeros': [
    ['Array(UInt8)', '[1,null]', MISMATCH, '[1,0]'],
    ['Array(String)', '[null]', MISMATCH, "['']"],
    ['Array(Array(String))', '[["a"],null]', MISMATCH, "[['a'],[]]"],
    ['Array(JSON)', '[{},null]', MISMATCH, "['{}','{}']"],
    ['Map(String, UInt8)', '{"a":null}', MISMATCH, "{'a':0}"],
    ['Tuple(UInt8, String)', '[null,"x"]', MISMATCH, "(0,'x')"],
    ['Point', '[null,1]', MISMATCH, '(0,1)'],
    ['Ring', '[[1,2],null]', MISMATCH, '[(1,2),(0,0)]'],
    ['Array(Nullable(UInt8))', '[1,null]', '[1,NULL]', SAME],
    ['Array(Variant(String, UInt64))', '["a",null]', "['a',NULL]", SAME],
    ['Tuple(a UInt8, b Nullable(String))', '{"a":1,"b":null}', '(1,NULL)', SAME],
  ],
  'a member of a named Tuple is required unless it is Nullable; JSONEachRow puts zeros': [
    ['Tuple(a UInt8, b String)', '{"a":1}', MISSING, "(1,'')"],
    ['Tuple(a UInt8, b String)', '{}', MISSING, "(0,'')"],
    ['Tuple(a UInt8, b String)', '{"A":1,"b":"x"}', MISSING, "(0,'x')"],
    ['Tuple(a Tuple(b UInt8, c Array(UInt8)))', '{"a":{"b":1}}', MISSING, '((1,[]))'],
    ['Array(Tuple(lat Float64, lng Float64))', '[{"lat":1,"lng":2},{"lat":3}]', MISSING, '[(1,2),(3,0)]'],
    ['Tuple(a UInt8, b Nullable(String))', '{"a":1}', '(1,NULL)', SAME],
    ['Tuple(a UInt8, b String)', '{"c":[{"d":1}],"b":"x","a":1}', "(1,'x')", SAME],
  ],
  'a named Tuple may be a list': [
    ['Tuple(a UInt8, b String)', '[1,"x"]', "(1,'x')", REFUSED],
    ['Array(Tuple(lat Float64, lng Float64))', '[[1,2]]', '[(1,2)]', REFUSED],
    ['Tuple(a UInt8, b String)', '[1]', MISMATCH, REFUSED],
  ],
  'a key that is there twice: the last one counts in a Tuple, a Map keeps both, a JSON column would refuse the batch': [
    ['Tuple(a UInt8, b String)', '{"a":1,"b":"x","a":2}', "(2,'x')", REFUSED],
    ['Map(String, UInt8)', '{"a":1,"a":2}', "{'a':1,'a':2}", SAME],
    ['JSON', '{"a":1,"a":2}', MISMATCH, REFUSED],
    ['JSON', '{"b":[{"a":1,"a":2}]}', MISMATCH, REFUSED],
    ['JSON', '{"a":{"b":1},"a.b":2}', MISMATCH, REFUSED],
  ],
  'of a field that is there twice the last one counts, and each must fit; JSONEachRow refuses it, or takes the first': [
    ['UInt8', '1,"v":2', '2', '1'],
    ['UInt8', '"x","v":2', MISMATCH, REFUSED],
    ['UInt8', '1,"v":null,"v":3', '3', '1'],
  ],
  'a number that no JSON column holds would have ClickHouse refuse the whole batch': [
    ['JSON', '{"a":18446744073709551615}', '{"a":18446744073709551615}', SAME],
    ['JSON', '{"a.b":1}', '{"a":{"b":1}}', SAME],
    ['JSON', '{"a":null,"b":{}}', '{}', SAME],
  ],
  'in a Variant a text is no number and no boolean, and neither is the other; the narrowest type that fits is taken': [
    ['Variant(Bool, Float64, Int64, String)', '1', '1 Int64', 'true Bool'],
    ['Variant(Bool, Float64, Int64, String)', '"1"', '1 String', '1 Int64'],
    ['Variant(Bool, Float64, Int64, String)', '"true"', 'true String', '1 Int64'],
    ['Variant(Bool, Float64, Int64, String)', 'true', 'true Bool', SAME],
    ['Variant(Bool, Float64, Int64, String)', '1.0', '1 Float64', SAME],
    ['Variant(Bool, Float64, Int64, String)', '1e30', '1e30 Float64', SAME],
    ['Variant(Bool, Float64, Int64, String)', '[1, 2]', '[1, 2] String', SAME],
    ['Variant(Bool, Float64, Int64, String)', '{"a":1}', '{"a":1} String', SAME],
    ['Variant(String, UInt8)', '300', '300 String', SAME],
    ['Variant(String, UInt8)', 'true', 'true String', '1 UInt8'],
    ['Variant(Float64, UInt64)', '-1', '-1 Float64', SAME],
    ['Variant(DateTime, IPv4, String, UInt64, UUID)', '"2024-01-01T00:00:00Z"', '2024-01-01 00:00:00 DateTime', SAME],
    ['Variant(DateTime, IPv4, String, UInt64, UUID)', '"1.2.3.4"', '1.2.3.4 IPv4', SAME],
    [
      'Variant(DateTime, IPv4, String, UInt64, UUID)', '"01234567-89ab-cdef-0123-456789abcdef"',
      '01234567-89ab-cdef-0123-456789abcdef UUID', SAME,
    ],
    ['Variant(Array(Float64), JSON)', '[]', '[] Array(Float64)', SAME],
    ['Variant(Array(Float64), JSON)', '{}', '{} JSON', SAME],
    ['Variant(JSON, String)', '{"a":"b"}', '{"a":"b"} JSON', '{"a":"b"} String'],
    ['Variant(Array(Float64), JSON)', '[1,"a"]', MISMATCH, REFUSED],
    ['Variant(Float64, Tuple(a Int64, b String))', '{"a":1,"b":"x"}', "(1,'x') Tuple(a Int64, b String)", SAME],
    ['Variant(Float64, Map(String, Int64), String)', '{"a":1}', "{'a':1} Map(String, Int64)", SAME],
    ['Variant(Float64, Map(String, Int64), String)', '{"a":"b"}', '{"a":"b"} String', SAME],
    ['Variant(Array(Float64), JSON, String)', '{}', '{} JSON', '{} String'],
    ['Variant(Point, String)', '[1,2]', '(1,2) Point', SAME],
  ],
  'an integer beyond 64 bits and a float beyond all floats are texts in a JSON column; JSONEachRow refuses them': [
    ['JSON', '{"a":18446744073709551616}', '{"a":"18446744073709551616"}', REFUSED],
    ['JSON', '{"a":-9223372036854775809}', '{"a":"-9223372036854775809"}', REFUSED],
    ['JSON', '{"a":[1e400]}', '{"a":["1e400"]}', REFUSED],
    ['Array(JSON)', '[{"a":18446744073709551616}]', '[\'{"a":"18446744073709551616"}\']', REFUSED],
  ],
  'a list in a JSON column keeps each item; JSONEachRow makes one type of them': [
    ['JSON', '{"a":[9007199254740993,1.5]}', '{"a":[9007199254740993,1.5]}', '{"a":[9007199254740992,1.5]}'],
    ['JSON', '{"a":[true,1]}', '{"a":[true,1]}', '{"a":[1,1]}'],
    ['JSON', '{"a":["a",true]}', '{"a":["a",true]}', '{"a":["a","true"]}'],
    ['JSON', '{"a":[1,"a",[2,"b"],{"c":3}]}', '{"a":[1,"a",[2,"b"],{"c":3}]}', SAME],
    ['JSON', '{"a":[[1],[2.5]]}', '{"a":[[1],[2.5]]}', SAME],
  ],
  'typed paths of a JSON column are as strict as columns, and take times as they do': [
    ['JSON(p UInt8)', '{"p":7}', '{"p":7}', SAME],
    ['JSON(p UInt8)', '{"p":1.5}', MISMATCH, '{"p":1}'],
    ['JSON(p UInt8)', '{"p":300}', TOO_LARGE, REFUSED],
    ['JSON(d Decimal(9, 2))', '{"d":1.259}', TOO_LARGE, '{"d":1.25}'],
    ["JSON(at DateTime('UTC'))", '{"at":1764504000123}', '{"at":"2025-11-30 12:00:00"}', '{"at":"2106-02-07 06:28:15"}'],
    ["JSON(at DateTime('UTC'))", '{"at":"2300-01-01 00:00:00"}', TOO_LARGE, '{"at":"2106-02-07 06:28:15"}'],
    ["JSON(a.at DateTime64(3, 'UTC'))", '{"a":{"at":"2026-11-30T12:00:00.5Z"}}', '{"a":{"at":"2026-11-30 12:00:00.500"}}', SAME],
    ['JSON(p LowCardinality(String))', '{"p":"x"}', '{"p":"x"}', SAME],
    ['JSON(p Nullable(UInt8))', '{"p":null,"q":1}', '{"p":null,"q":1}', SAME],
    ['JSON(SKIP a.b)', '{"a":{"b":1,"c":2}}', '{"a":{"c":2}}', SAME],
    ["JSON(SKIP REGEXP 'k.c')", '{"k":{"c":1},"kc":2}', '{"kc":2}', SAME],
  ],
  'in a Variant nothing is lost: a text is another type only if it is unmistakably of it, in full': [
    ['Variant(Date, String)', '"12345"', '12345 String', SAME],
    ['Variant(Date, String)', '"2026-11-30T12:34:56Z"', '2026-11-30T12:34:56Z String', SAME],
    ['Variant(Date, String)', '"2026-11-30"', '2026-11-30 Date', SAME],
    ["Variant(DateTime64(3), String)", '"356938035643809"', '356938035643809 String', SAME],
    ['Variant(String, Time)', '"100"', '100 String', SAME],
    ['Variant(Date, DateTime)', '"2026-11-30 12:34:56"', '2026-11-30 12:34:56 DateTime', SAME],
    ['Variant(Date, DateTime)', '"2026-11-30"', '2026-11-30 Date', SAME],
    ['Variant(Map(String, UInt8), Tuple(a UInt8))', '{"a":1,"b":2}', "{'a':1,'b':2} Map(String, UInt8)", SAME],
    ['Variant(Float32, String)', '16777217', '16777217 String', '16777216 Float32'],
    ['Variant(Float64, String)', '0.1234567890123456789', '0.1234567890123456789 String', '0.12345678901234568 Float64'],
    ['Variant(String, UUID)', '"0123456789abcdef0123456789abcdef"', '0123456789abcdef0123456789abcdef String', '01234567-89ab-cdef-0123-456789abcdef UUID'],
  ],
  'a Dynamic keeps all digits': [
    ['Dynamic', '18446744073709551617', '18446744073709551617 String', SAME],
    ['Dynamic', '[9007199254740993,1.5]', '[9007199254740993,1.5] Array(Dynamic)', '[9007199254740992,1.5] Array(Float64)'],
    ['Dynamic', '[1,"a"]', "[1,'a'] Array(Dynamic)", SAME],
    ['Dynamic', '[18446744073709551615,-1]', '[18446744073709551615,-1] Array(Dynamic)', SAME],
  ],
  'times as ClickHouse reads them by its best effort': [
    ["DateTime('UTC')", '"2026-11-30 13:00:00 +0100"', '2026-11-30 12:00:00', SAME],
    ["DateTime('UTC')", '"2026-11-30 12:00:00 UTC"', '2026-11-30 12:00:00', SAME],
    ["DateTime('UTC')", '"2026-11-30 12:00:00 Z"', '2026-11-30 12:00:00', SAME],
    ["DateTime('UTC')", '"20261130T120000Z"', '2026-11-30 12:00:00', SAME],
    ["DateTime('UTC')", '"20261130120000"', '2026-11-30 12:00:00', SAME],
    ["DateTime('UTC')", '"20261130"', '2026-11-30 00:00:00', SAME],
    ['Date', '"20261130"', '2026-11-30', SAME],
    ["DateTime('UTC')", '"Mon, 30 Nov 2026 12:00:00 GMT"', '2026-11-30 12:00:00', SAME],
    ["DateTime('UTC')", '"2026/11/30 12:00:00"', '2026-11-30 12:00:00', SAME],
    ["DateTime('UTC')", '"2026-11-30T24:00:00"', '2026-12-01 00:00:00', SAME],
    ["DateTime('UTC')", '"2026-1-5T2:3:4Z"', '2026-01-05 02:03:04', SAME],
    ["DateTime64(3, 'UTC')", '"9999-12-31"', '9999-12-31 00:00:00.000', SAME],
    ["DateTime64(3, 'UTC')", '"1899-12-31T23:59:59Z"', '1899-12-31 23:59:59.000', SAME],
    ['Date', '"2024-1-5"', '2024-01-05', SAME],
    ["DateTime('Fixed/UTC+05:30:00')", '"2026-11-30 12:00:00"', '2026-11-30 12:00:00', SAME],
  ],
  'types that few tables have': [
    ['Tuple()', '[]', '()', SAME],
    ['IntervalSecond', '5', '5', SAME],
    ['QBit(Float32, 3)', '[1.5,2.5,-3]', '[1.5,2.5,-3]', SAME],
    ['QBit(BFloat16, 9)', '[1,2,3,4,5,6,7,8,9]', '[1,2,3,4,5,6,7,8,9]', SAME],
    ['QBit(Float32, 3)', '[1,2]', MISMATCH, REFUSED],
    ['Map(Dynamic, UInt8)', '{"a":1}', "{'a':1}", SAME],
  ],
  'a Point takes the first two numbers of a longer list: GeoJSON has altitudes': [
    ['Point', '[1,2,3]', '(1,2)', REFUSED],
    ['Ring', '[[1,2,3],[4,5]]', '[(1,2),(4,5)]', REFUSED],
  ],
  'an IPv4 address may have leading zeros': [['IPv4', '"010.001.2.003"', '10.1.2.3', SAME]],
  'a Dynamic has the type that the JSON says; JSONEachRow makes Tuples of objects': [
    ['Dynamic', '1', '1 Int64', SAME],
    ['Dynamic', '-1', '-1 Int64', SAME],
    ['Dynamic', '18446744073709551615', '18446744073709551615 UInt64', SAME],
    ['Dynamic', '1.0', '1 Float64', SAME],
    ['Dynamic', '1e30', '1e30 Float64', SAME],
    ['Dynamic', 'true', 'true Bool', SAME],
    ['Dynamic', '"x"', 'x String', SAME],
    ['Dynamic', '"1"', '1 String', SAME],
    ['Dynamic', '"2024-01-01"', '2024-01-01 String', SAME],
    ['Dynamic', '"2024-01-01 00:00:00"', '2024-01-01 00:00:00 String', SAME],
    ['Dynamic', '["a",null]', "['a',NULL] Array(Nullable(String))", SAME],
    ['Dynamic', '["1","0"]', "['1','0'] Array(Nullable(String))", "['1','0'] Array(String)"],
    ['Dynamic', '[1,2]', '[1,2] Array(Nullable(Int64))', '[1,2] Array(Int64)'],
    ['Dynamic', '[1,0]', '[1,0] Array(Nullable(Int64))', '[1,0] Array(Int64)'],
    ['Dynamic', '[1,1.5]', '[1,1.5] Array(Nullable(Float64))', '[1,1.5] Array(Float64)'],
    ['Dynamic', '[true,false]', '[true,false] Array(Nullable(Bool))', '[true,false] Array(Bool)'],
    ['Dynamic', '{"a":1}', '{"a":1} JSON', '(1) Tuple(a Int64)'],
  ],
}

test('where millrace and JSONEachRow differ, and where they might', { timeout }, async (t) => {
  const cases = Object.values(REASONS).flat()
  const types = [...new Set(cases.map(([type]) => type))]
  const payload = (id) => `{"id":${id},"v":${cases[id][1]}}`
  const prefix = unique('topic')
  const tables = []
  for (const type of types) {
    const columns = `id UInt32, v ${type}`
    tables.push({ type, ours: await servers.table(columns, LENIENT), theirs: await servers.table(columns, LENIENT) })
  }
  const pipeline = await servers.started(t, {
    routes: tables.map(({ ours }, i) => ({ topic: `${prefix}/${i}`, table: ours })),
  })
  const [letters, warnings] = [collect(pipeline, 'deadLetters'), collect(pipeline, 'warning')]
  const publisher = await servers.publisher(t, { clients: 1 })
  await publisher.flood(cases.length, (id) => {
    return { topic: `${prefix}/${types.indexOf(cases[id][0])}`, payload: payload(id) }
  })
  await settled(pipeline, cases.length, { warnings })
  await heard(pipeline, letters)
  const [ours, theirs] = [new Map(), new Map()]
  for (const letter of letters) ours.set(Number(/"id":(\d+)/.exec(letter.payload)[1]), letter.code)
  for (const [id, [type]] of cases.entries()) {
    const { theirs: table } = tables[types.indexOf(type)]
    try {
      await servers.command(`INSERT INTO ${table} FORMAT JSONEachRow ${payload(id)}`, JSON_EACH_ROW)
    } catch {
      theirs.set(id, REFUSED)
    }
  }
  for (const table of tables) {
    for (const { id, text } of await shownRows(table.type, table.ours)) ours.set(id, text)
    for (const { id, text } of await shownRows(table.type, table.theirs)) theirs.set(id, text)
  }

  const wrong = []
  for (const [id, [type, json, expected, expectedTheirs]] of cases.entries()) {
    const check = (who, got, wanted) => {
      if (got !== wanted) wrong.push(`${type} of ${json}: ${who} gives ${String(got)}, not ${String(wanted)}`)
    }
    check('millrace', ours.get(id), expected?.code ?? expected)
    check('JSONEachRow', theirs.get(id), expectedTheirs === SAME ? expected : expectedTheirs)
  }
  assert.ok(wrong.length === 0, `\n${wrong.join('\n')}`)
})

/** Publishes the documents to a route into `table` and gives the dead letters. */
async function send(t, table, documents, route = {}) {
  const topic = unique('topic')
  const pipeline = await servers.started(t, { routes: [{ topic, table, ...route }], ...ONE_BLOCK })
  const [letters, warnings] = [collect(pipeline, 'deadLetters'), collect(pipeline, 'warning')]
  const publisher = await servers.publisher(t, { clients: 1 })
  await publisher.flood(documents.length, (i) => ({ topic, payload: documents[i] }), { qos: 0 })
  await settled(pipeline, documents.length, { timeoutMs: full ? 300_000 : 30_000, warnings })
  await heard(pipeline, letters)
  return letters
}

/** Rows in which nothing is lost on the way to JavaScript; where a column leaves the type open, the values' types too. */
function exactRows(table, columns = []) {
  const types = columns.flatMap(({ name, type }) => {
    const asked = Object.entries(TYPE_OF).find(([start]) => type.startsWith(start))
    return asked ? [`${asked[1]}(${name}) AS ${name}_type`] : []
  })
  return servers.rows(`SELECT ${['*', ...types].join(', ')} FROM ${table} ORDER BY id`, {
    output_format_json_quote_denormals: 1,
    output_format_json_quote_decimals: 1,
    output_format_json_map_as_array_of_tuples: 1,
  })
}

const TYPE_OF = { Variant: 'variantType', Dynamic: 'dynamicType', JSON: 'JSONAllPathsWithTypes' }

/**
 * A column `v` as text, with its type where the column leaves it open; where clocks are changed only
 * UTC is unambiguous.
 */
function shownRows(type, table) {
  const [open] = /^(Variant|Dynamic)/.exec(type) ?? []
  const zone = type.includes('Europe') ? ", 'UTC'" : ''
  const text = open ? `concat(toString(v), ' ', toString(${TYPE_OF[open]}(v)))` : `toString(v${zone})`
  // The setting holds for the integers in a JSON column as well.
  const settings = { output_format_json_quote_64bit_integers: 0 }
  return servers.rows(`SELECT id, ${text} AS text FROM ${table}`, settings)
}
