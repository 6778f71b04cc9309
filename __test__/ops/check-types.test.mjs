// checkPipeline() and start() against one table of every type that the decoder fills: ClickHouse takes the INSERT of no rows.

import assert from 'node:assert/strict'
import { test } from 'node:test'
import { checkPipeline } from '../../index.js'
import { unique, useServers } from '../support/servers.mjs'

const servers = useServers()
const timeout = 60_000

const SCALARS = [
  ...[8, 16, 32, 64, 128, 256].flatMap((bits) => [`Int${bits}`, `UInt${bits}`]),
  ...['Float32', 'Float64', 'BFloat16', 'Bool', 'String', 'FixedString(4)', 'UUID', 'IPv4', 'IPv6', 'Date', 'Date32', 'DateTime'],
  ...['DateTime64(3)', "DateTime64(6, 'Europe/Berlin')", 'Decimal(9, 2)', 'Decimal(18, 4)', 'Decimal(38, 6)', 'Decimal(76, 8)'],
  ...["Enum8('a' = 1)", "Enum16('a' = 1000)", 'Time', 'Time64(3)'],
]
const OTHERS = [
  ...['Array(String)', 'Array(Array(Float64))', 'Tuple(Float64, String)', 'Tuple(a Float64, b Nullable(String))', 'Map(String, UInt8)'],
  ...['Point', 'Ring', 'Polygon', 'MultiPolygon', 'LineString', 'MultiLineString', 'LowCardinality(String)'],
  ...['LowCardinality(Nullable(String))', 'Nested(a UInt8, b String)', 'Variant(String, UInt64)', 'Dynamic', 'JSON', 'Array(JSON)'],
  ...['JSON(a UInt8)', 'Tuple(a JSON, b String)', 'Map(String, JSON)', 'Array(Dynamic)', 'Array(Variant(String, UInt64))', 'Nullable(JSON)'],
  ...['SimpleAggregateFunction(max, Float64)', 'SimpleAggregateFunction(anyLast, JSON)'],
]
const SETTINGS = { enable_time_time64_type: 1, allow_suspicious_low_cardinality_types: 1, allow_experimental_qbit_type: 1 }

/** The errors of a check, and the error of a start. */
async function faults(t, table) {
  const config = { deadLetters: { dir: '.' }, routes: [{ topic: unique('topic'), table, missingFields: 'zero' }] }
  const { findings, routes } = await checkPipeline(servers.config(config))
  const started = await servers.pipeline(t, config).start().then(() => null, (error) => error)
  return { errors: findings.filter(({ level }) => level === 'error'), insert: routes[0].insert, started }
}

test('a table with a column of every type', { timeout }, async (t) => {
  const types = [...SCALARS, ...SCALARS.map((type) => `Nullable(${type})`), ...SCALARS.map((type) => `Array(${type})`), ...OTHERS]
  const table = await servers.table(types.map((type, i) => `c${i} ${type}`).join(', '), { settings: SETTINGS })
  assert.deepEqual(await faults(t, table), { errors: [], insert: true, started: null })
})

test('a table with one column of a type with parts', { timeout }, async (t) => {
  for (const type of ['JSON', 'Array(JSON)', 'Dynamic', 'Variant(String, UInt64)', 'Map(String, JSON)', 'Tuple(a JSON)']) {
    const table = await servers.table(`c ${type}`, { settings: SETTINGS })
    assert.deepEqual(await faults(t, table), { errors: [], insert: true, started: null }, type)
  }
})
