// millrace init: the tables of a configuration, from live messages.

import assert from 'node:assert/strict'
import { readFileSync } from 'node:fs'
import { join } from 'node:path'
import { test } from 'node:test'
import { proposeForRoute } from '../../lib/generate/route-table.js'
import { waitFor } from '../../tools/servers/index.mjs'
import { configFile, directory } from '../support/config-file.mjs'
import { startCommand } from '../support/program.mjs'
import { settled, unique, useServers } from '../support/servers.mjs'

const servers = useServers()
const timeout = 120_000

/** The output and the exit code of a command, while messages come. */
async function init(t, args, publish) {
  const program = startCommand(t, ['init', ...args])
  const publishing = setInterval(publish, 50)
  const { code, stderr } = await program.end()
  clearInterval(publishing)
  return { code, stderr, stdout: program.lines.join('\n') }
}

test('tables are written from live messages, and made on request', { timeout }, async (t) => {
  const prefix = unique('topic')
  const [positions, states, quiet] = ['positions', 'states', 'quiet'].map(unique)
  const there = await servers.table('v UInt8')
  const config = servers.config({
    routes: [
      { topic: `${prefix}/{driver_id}/position`, table: positions, columns: { lat: 'gps.lat', lng: 'gps.lng', at: { meta: 'receivedAt' }, client: { meta: 'clientId' } } },
      { topic: `${prefix}/{machine}/state`, table: states, rows: 'readings', columns: { on: { path: 'power', map: { ON: true, OFF: false } } } },
      { topic: `${prefix}/quiet`, table: quiet },
      { topic: `${prefix}/there`, table: there },
    ],
  })
  const file = configFile(t, config)
  const publisher = await servers.publisher(t, { clients: 1 })
  let i = 0
  const publish = () => {
    const machine = { gateway: 'g', readings: [{ power: ['ON', 'OFF'][i % 2], level: i / 4 }] }
    publisher.publish(`${prefix}/d${i % 3}/position`, JSON.stringify({ gps: { lat: i, lng: 1.5 }, speed: i, ts: 1_796_040_000_000 + i }), { qos: 0 })
    publisher.publish(`${prefix}/m/state`, JSON.stringify(machine), { qos: 0 })
    publisher.publish(`${prefix}/there`, '{"v":1}', { qos: 0 })
    i++
  }
  const out = join(directory(t), 'tables.sql')
  const written = await init(t, [file, '--sample', '60', '--out', out], publish)
  // No message came for one route.
  assert.equal(written.code, 1, written.stderr)
  const text = readFileSync(out, 'utf8')
  assert.match(text, new RegExp(`routes\\[2\\], ${prefix}/quiet: no message came`))
  assert.match(text, new RegExp(`routes\\[3\\].*: the table ${there} is there`))
  assert.match(text, /`driver_id` LowCardinality\(String\),\n {4}`lat` Int64,\n {4}`lng` Float64,\n {4}`at` DateTime64\(3, 'UTC'\),\n {4}`client` LowCardinality\(String\),\n {4}`speed` Int64,\n {4}`ts` DateTime64\(3, 'UTC'\)\n/)
  assert.match(text, /`machine` LowCardinality\(String\),\n {4}`on` Bool,\n {4}`level` Float64,\n {4}`gateway` LowCardinality\(String\)\n/)
  assert.doesNotMatch(text, /gps|power/)
  assert.deepEqual(await servers.rows(`SELECT name FROM system.tables WHERE name IN ('${positions}', '${states}')`), [])

  config.routes.splice(2, 1)
  const made = await init(t, [configFile(t, config), '--sample', '60', '--execute'], publish)
  assert.equal(made.code, 0, made.stderr)
  const pipeline = await servers.started(t, config)
  for (let n = 0; n < 5; n++) {
    await publisher.publish(`${prefix}/d/position`, JSON.stringify({ gps: { lat: 1, lng: 2 }, speed: 3, ts: 1_796_040_000_000 }), { qos: 1 })
    await publisher.publish(`${prefix}/m/state`, '{"gateway":"g","readings":[{"power":"ON","level":1}]}', { qos: 1 })
  }
  await settled(pipeline, 10)
  assert.equal(pipeline.metrics().messages.deadLettered, 0)
  assert.deepEqual(await servers.rows(`SELECT machine, on, level, gateway FROM ${states} LIMIT 1`), [{ machine: 'm', on: true, level: 1, gateway: 'g' }])
})

test('messages that choose a table, or are a part of a row, have tables too', { timeout }, async (t) => {
  const [prefix, base] = [unique('topic'), unique('rooms')]
  const route = {
    topic: `${prefix}/{house}/{device}/{property}`,
    table: `${base}_{house}`,
    tables: { allow: [`${base}_a`, `${base}_b`, `${base}_c-*`] },
    format: 'text',
    pivot: { key: ['device'], name: 'property', windowMs: 3_600_000 },
  }
  const config = servers.config({ routes: [/** @type {any} */ (route)] })
  const publisher = await servers.publisher(t, { clients: 1 })
  const values = { temperature: '21.5', humidity: '48', state: 'open' }
  let i = 0
  const publish = () => {
    const [property, value] = Object.entries(values)[i++ % 3]
    publisher.publish(`${prefix}/a/kitchen/${property}`, value, { qos: 0 })
  }
  const made = await init(t, [configFile(t, config), '--sample', '30', '--execute'], publish)
  assert.equal(made.code, 0, made.stderr)
  const columns = await servers.rows(`SELECT name, type FROM system.columns WHERE database = currentDatabase() AND table = '${base}_b' ORDER BY position`)
  const [house, device, ...properties] = columns.map(({ name, type }) => `${name} ${type}`)
  assert.deepEqual([house, device], ['house LowCardinality(String)', 'device LowCardinality(String)'])
  // In the order in which the sample met them: it may begin with any of them.
  assert.deepEqual(properties.sort(), ['humidity Nullable(Int64)', 'state LowCardinality(Nullable(String))', 'temperature Nullable(Float64)'])
  const again = await init(t, [configFile(t, config), '--sample', '6'], publish)
  assert.match(again.stdout, new RegExp(`the table ${base}_a is there`))
  const pipeline = await servers.started(t, config)
  for (const [property, value] of Object.entries(values)) await publisher.publish(`${prefix}/b/kitchen/${property}`, value, { qos: 1 })
  // Messages of before may still come: they are none of this row.
  const rows = () => servers.rows(`SELECT * FROM ${base}_b`)
  await waitFor(async () => (await rows()).length > 0, { timeoutMs: 15_000, message: 'the row' })
  await pipeline.flush()
  assert.deepEqual(await rows(), [{ house: 'b', device: 'kitchen', temperature: 21.5, humidity: '48', state: 'open' }])
  const unnamed = servers.config({ routes: [/** @type {any} */ ({ ...route, tables: { allow: `${base}_*` } })] })
  assert.match((await init(t, [configFile(t, unnamed), '--sample', '3'], publish)).stdout, /no table is named/)
})

test('a column of every source has a type', () => {
  const columns = {
    a: ['x', 'y.z[1]'],
    b: { path: "['a.b']", scale: 0.1 },
    c: { topic: 'id' },
    d: { meta: 'qos' },
    e: { userProperty: 'p' },
    f: { value: 5 },
    g: { computed: true },
    h: { lookup: 'l', key: 'x' },
    i: { path: 'text', parse: 'number' },
    j: { path: 'nowhere', default: 1.5 },
    k: { key: '*' },
  }
  const payload = (i) => Buffer.from(JSON.stringify({ y: { z: [0, `t${i}`] }, 'a.b': i, text: '5 V', rest: true, maybe: i % 2 ? 1 : null })).toString('base64')
  const payloads = Array.from({ length: 8 }, (_, i) => ({ topic: 'a/b', payload: payload(i) }))
  const statement = proposeForRoute({ topic: 'a/{id}', table: 'db.t', columns }, payloads)
  const types = Object.fromEntries([...statement.matchAll(/^ {4}`(.+)` (.*?),?$/gm)].map(([, name, type]) => [name, type]))
  assert.deepEqual(types, {
    a: 'String',
    b: 'Float64',
    c: 'LowCardinality(String)',
    d: 'UInt8',
    e: 'Nullable(String)',
    f: 'Int64',
    g: 'Nullable(String)',
    h: 'Nullable(String)',
    i: 'Float64',
    j: 'Float64',
    k: 'LowCardinality(String)',
    rest: 'Bool',
    maybe: 'Nullable(Int64)',
  })
  assert.match(statement, /^CREATE TABLE `db`\.`t`\n/)
})
