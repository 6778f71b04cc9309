// The message of most tests, and the row that it must become: both follow from its number.

import assert from 'node:assert/strict'
import { unique } from './servers.mjs'

export const COLUMNS = `
  seq UInt64,
  driver_id LowCardinality(String),
  lat Float64,
  lng Float64,
  speed Float32,
  heading UInt16,
  moving Bool,
  zone Enum8('city' = 1, 'road' = 2, 'depot' = -3),
  trip UUID,
  note Nullable(String),
  day Date,
  ts DateTime64(3, 'UTC')`

const ZONES = ['city', 'road', 'depot']

/** The number-th message below the topic `prefix`. */
export function position(prefix, number) {
  const message = {
    seq: number,
    driver_id: 'overridden by the topic',
    lat: (number % 180_000) / 1000 - 90,
    lng: -(number % 360_000) / 1000,
    speed: (number % 4_000) / 100,
    heading: number % 360,
    moving: number % 2 === 0,
    zone: ZONES[number % 3],
    trip: `00000000-0000-4000-8000-${number.toString(16).padStart(12, '0')}`,
    day: `2024-0${1 + (number % 9)}-15`,
    ts: 1_730_000_000_000 + number * 7,
  }
  if (number % 4 === 1) message.note = `note ${number} "é" 🚚\n`
  if (number % 4 === 2) message.note = null
  return { topic: `${prefix}/driver-${number % 500}/position`, payload: JSON.stringify(message) }
}

export const topicFilter = (prefix) => `${prefix}/{driver_id}/position`

export const route = (prefix, table) => ({ topic: topicFilter(prefix), table })

const EXPECTED = `
  number,
  concat('driver-', toString(number % 500)),
  (number % 180000) / 1000 - 90,
  -(number % 360000) / 1000,
  toFloat32((number % 4000) / 100),
  number % 360,
  number % 2 = 0,
  ['city', 'road', 'depot'][number % 3 + 1],
  toUUID(concat('00000000-0000-4000-8000-', leftPad(lower(hex(number)), 12, '0'))),
  if(number % 4 = 1, concat('note ', toString(number), ' "é" 🚚\\n'), NULL),
  toDate(concat('2024-0', toString(1 + number % 9), '-15')),
  fromUnixTimestamp64Milli(1730000000000 + number * 7, 'UTC')`

/** The table holds exactly the rows of messages `from` to `to - 1`, each once, every column as it was sent. */
export async function assertPositions(servers, table, to, { from = 0 } = {}) {
  assert.deepEqual(await servers.counted(table), { rows: to - from, different: to - from })
  const expected = unique('expected')
  await servers.command(`DROP TABLE IF EXISTS ${expected} SYNC`)
  await servers.command(`CREATE TABLE ${expected} AS ${table}`)
  await servers.command(`INSERT INTO ${expected} SELECT ${EXPECTED} FROM numbers(${from}, ${to - from})`)
  for (const [these, those, what] of [
    [table, expected, 'rows that were not sent'],
    [expected, table, 'rows that were sent and are not there'],
  ]) {
    const difference = await servers.rows(`SELECT * FROM (SELECT * FROM ${these} EXCEPT SELECT * FROM ${those})
      ORDER BY seq LIMIT 3`)
    assert.deepEqual(difference, [], what)
  }
}
