// A real data set through a pipeline: the borders of the world as GeoJSON, from the npm package
// @rapideditor/country-coder. ClickHouse also reads the file itself, and both tables must be equal.

import assert from 'node:assert/strict'
import { readFile } from 'node:fs/promises'
import { test } from 'node:test'
import { collect, heard, settled, unique, useServers } from '../support/servers.mjs'

const FILE = new URL('../../node_modules/@rapideditor/country-coder/src/data/borders.json', import.meta.url)

const servers = useServers()
const timeout = 60_000

test('one message with all features: a row for each', { timeout }, async (t) => {
  const file = await readFile(FILE, 'utf8')
  const columns = `wikidata String, name String, country LowCardinality(Nullable(String)), iso Nullable(FixedString(2)),
    number Nullable(UInt16), side Nullable(Enum8('left' = 1, 'right' = 2)), unit LowCardinality(Nullable(String)),
    aliases Array(String) DEFAULT [], groups Array(LowCardinality(String)) DEFAULT [],
    codes Array(String) DEFAULT [], kind Nullable(String), area MultiPolygon DEFAULT [], collection String`
  const [ours, theirs] = [await servers.table(columns), await servers.table(columns)]
  const property = (name) => `properties.${name}`
  const { metrics, letters } = await send(t, [file], {
    table: ours,
    rows: 'features',
    columns: {
      wikidata: property('wikidata'),
      name: property('nameEn'),
      country: property('country'),
      iso: property('iso1A2'),
      number: property('iso1N3'),
      side: property('driveSide'),
      unit: property('roadSpeedUnit'),
      aliases: property('aliases'),
      groups: property('groups'),
      codes: property('callingCodes'),
      kind: 'geometry.type',
      area: 'geometry.coordinates',
      collection: '$.type',
    },
  })
  assert.deepEqual(letters, [])

  const raw = await servers.table('file String')
  await servers.command(`INSERT INTO ${raw} FORMAT JSONAsString ${file}`)
  const text = (name) => `JSONExtract(p, '${name}', 'Nullable(String)')`
  const list = (name) => `JSONExtract(p, '${name}', 'Array(String)')`
  await servers.command(`INSERT INTO ${theirs}
    WITH arrayJoin(JSONExtractArrayRaw(file, 'features')) AS f, JSONExtractRaw(f, 'properties') AS p
    SELECT ${text('wikidata')}, ${text('nameEn')}, ${text('country')}, ${text('iso1A2')},
      toUInt16OrNull(${text('iso1N3')}), ${text('driveSide')}, ${text('roadSpeedUnit')},
      ${list('aliases')}, ${list('groups')}, ${list('callingCodes')},
      JSONExtract(f, 'geometry', 'type', 'Nullable(String)'),
      JSONExtract(f, 'geometry', 'coordinates', 'Array(Array(Array(Tuple(Float64, Float64))))'),
      JSONExtractString(file, 'type') FROM ${raw}`)

  const count = JSON.parse(file).features.length
  await assertSame(ours, theirs, 'wikidata', count)
  assert.deepEqual([metrics.messages.inserted, metrics.rows.inserted], [1, count])
})

test('a message for each feature, into columns shaped like the document', { timeout }, async (t) => {
  const features = await lines()
  const columns = `type LowCardinality(String),
    properties Tuple(wikidata String, nameEn String, country Nullable(String), aliases Array(String),
      groups Array(LowCardinality(String)), driveSide LowCardinality(Nullable(String)), callingCodes Array(String),
      iso1N3 Nullable(UInt16)),
    geometry Tuple(type LowCardinality(String), coordinates MultiPolygon)`
  const [ours, theirs] = [await servers.table(columns), await servers.table(columns)]
  // Most properties, and some geometries, are not there.
  const { metrics, letters } = await send(t, features, { table: ours, missingFields: 'zero' })
  assert.deepEqual(letters, [])
  await servers.command(`INSERT INTO ${theirs} FORMAT JSONEachRow\n${features.join('\n')}`, { precise_float_parsing: 1 })
  await assertSame(ours, theirs, 'properties.wikidata', features.length)
  assert.equal(metrics.messages.inserted, features.length)
})

test('a message for each feature, as JSON, as a Map and as text', { timeout }, async (t) => {
  const features = await lines()
  const ours = await servers.table('document JSON, properties Map(String, Dynamic), geometry Nullable(String)')
  const { letters } = await send(t, features, { table: ours, columns: { document: '$' } })
  assert.deepEqual(letters, [])
  const objects = await servers.table('document JSON')
  await servers.command(`INSERT INTO ${objects} FORMAT JSONAsObject\n${features.join('\n')}`)
  const sorted = 'ORDER BY document.properties.wikidata::String'
  // Coordinates without decimals are integers, and floats where ClickHouse found some in the rows
  // before.
  const documents = (table) =>
    servers.rows(`SELECT document FROM ${table} ${sorted}`, { output_format_json_quote_64bit_integers: 0 })
  assert.deepEqual(await documents(ours), await documents(objects))

  const rows = await servers.rows(`SELECT properties, geometry FROM ${ours}`)
  const byId = new Map(features.map((line) => JSON.parse(line)).map((feature) => [feature.properties.wikidata, feature]))
  for (const { properties, geometry } of rows) {
    const feature = byId.get(properties.wikidata)
    assert.deepEqual(properties, feature.properties)
    assert.equal(geometry, feature.geometry && JSON.stringify(feature.geometry))
  }
  assert.equal(rows.length, features.length)
})

/** The features of the file, each as a JSON text. */
async function lines() {
  return JSON.parse(await readFile(FILE, 'utf8')).features.map((feature) => JSON.stringify(feature))
}

async function send(t, payloads, route) {
  const topic = unique('topic')
  const pipeline = await servers.started(t, { routes: [{ topic, ...route }] })
  const [letters, warnings] = [collect(pipeline, 'deadLetters'), collect(pipeline, 'warning')]
  const publisher = await servers.publisher(t, { clients: 1 })
  await publisher.flood(payloads.length, (i) => ({ topic, payload: payloads[i] }))
  await settled(pipeline, payloads.length, { warnings })
  await heard(pipeline, letters)
  const told = letters.map(({ code, message, payload }) => `${code}: ${message}: ${payload.subarray(0, 300)}`)
  return { letters: told, metrics: pipeline.metrics() }
}

/** Both tables have the same `count` rows, to the last bit. */
async function assertSame(ours, theirs, order, count) {
  const rows = (table) => servers.rows(`SELECT * FROM ${table} ORDER BY ${order}`)
  const [ourRows, theirRows] = [await rows(ours), await rows(theirs)]
  assert.equal(theirRows.length, count)
  // One by one: a difference is shown with its row, and not with all of them.
  for (const [i, row] of theirRows.entries()) assert.deepEqual(ourRows[i], row)
  assert.equal(ourRows.length, count)
}
