// The fleet example in TypeScript: compiled as its README says, its logic on a fake call of the engine,
// and the complete service.

import assert from 'node:assert/strict'
import { execFileSync } from 'node:child_process'
import { readFileSync } from 'node:fs'
import { join } from 'node:path'
import { before, test } from 'node:test'
import { fileURLToPath } from 'node:url'
import { WebSocket } from 'ws'
import { Program } from '../../bench/lib/program.mjs'
import { Runner } from '../../lib/transform/runner.js'
import { waitFor } from '../../tools/servers/index.mjs'
import { FakeCall, column, runOn } from '../support/fake-transform-call.mjs'
import { unique, useServers } from '../support/servers.mjs'

const ROOT = fileURLToPath(new URL('../..', import.meta.url))
const EXAMPLE = join(ROOT, 'examples', 'fleet')
const COMPILED = join(ROOT, 'target', 'fleet')
const servers = useServers()
const timeout = 120_000

before(
  () => {
    const compiler = join(ROOT, 'node_modules', 'typescript', 'bin', 'tsc')
    execFileSync(process.execPath, [compiler, '-p', join(EXAMPLE, 'tsconfig.json')], { stdio: 'inherit' })
  },
  { timeout },
)

/** Statements of a file of the example. */
const statements = (file) =>
  readFileSync(join(EXAMPLE, file), 'utf8')
    .replaceAll(/^\s*--.*$/gm, '')
    .split(';')
    .filter((statement) => statement.trim())

test('the logic: units, zones, teams, and an alert when it begins and when it is over', { timeout }, async () => {
  const { FleetLogic } = await import(join(COMPILED, 'logic.mjs'))
  const logic = new FleetLogic()
  logic.drivers = new Map([['a', { team: 'north', limitKmh: 90 }]])
  const runner = new Runner({ table: 'positions', route: 0, topicFilter: 'drivers/+/position' }, logic.transform)
  /** The alerts of one batch. */
  const drive = async (rows) => {
    const of = (name) => rows.map((row) => row[name])
    const call = new FakeCall([
      column('driver_id', 'String', of('driver')),
      column('lat', 'Float64', of('lat')),
      column('lng', 'Float64', of('lng')),
      column('speed', 'Float32', of('speed')),
      column('ts', "DateTime64(3, 'UTC')", rows.map((_, i) => BigInt(i))),
      column('speed_kmh', 'Float32', rows.map(() => 0), { computed: true }),
      column('zone', 'LowCardinality(String)', rows.map(() => ''), { computed: true }),
      column('team', 'LowCardinality(String)', rows.map(() => ''), { computed: true }),
    ])
    await runOn(runner, call)
    assert.equal(call.failed, undefined, call.failed?.stack)
    return call
  }
  const road = { lat: 25.9, lng: -80.4 }
  const downtown = { lat: 25.774, lng: -80.193 }
  const kinds = ({ emitted }) => emitted.map(([, bytes]) => /slowed down|speeding/.exec(Buffer.from(bytes, 'hex').toString('latin1'))?.[0])

  const first = await drive([
    { driver: 'a', ...road, speed: 20 },
    { driver: 'a', ...road, speed: 26 },
    // Above the limit, and just below it: no second alert.
    { driver: 'a', ...road, speed: 24.5 },
    { driver: 'a', ...road, speed: 25.5 },
    { driver: 'b', ...road, speed: 26 },
    { driver: 'b', ...downtown, speed: 20 },
    { driver: 'c', lat: 91, lng: 0, speed: 1 },
  ])
  assert.deepEqual(kinds(first), ['speeding', 'speeding'])
  assert.deepEqual(first.written.zone, ['', '', '', '', '', 'downtown', ''])
  assert.deepEqual(first.written.team, ['north', 'north', 'north', 'north', '', '', ''])
  assert.equal(first.written.speed_kmh[0], 72)
  assert.deepEqual(first.finished.reasons, [[6, 'not on this planet']])

  const second = await drive([
    { driver: 'a', ...road, speed: 10 },
    { driver: 'a', ...road, speed: 26 },
  ])
  assert.deepEqual(kinds(second), ['slowed down', 'speeding'], 'what a driver does is kept from batch to batch')
})

test('the page gets the last position of each driver', { timeout }, async () => {
  const { positionsOf } = await import(join(COMPILED, 'logic.mjs'))
  const row = (driver_id, lat) => ({ driver_id, lat, lng: 2, speed_kmh: 3, zone: 'z' })
  const position = (driver, lat) => ({ driver, lat, lng: 2, kmh: 3, zone: 'z' })
  assert.deepEqual(positionsOf({ rows: () => [row('a', 1), row('b', 5), row('a', 7)] }), [position('a', 7), position('b', 5)])
})

test('the service: rows, alerts, teams from ClickHouse, and positions over the WebSocket', { timeout }, async (t) => {
  const database = unique('fleet')
  await servers.command(`CREATE DATABASE ${database}`)
  t.after(() => servers.command(`DROP DATABASE ${database}`))
  for (const statement of [...statements('tables.sql'), ...statements('business.sql')]) await servers.command(statement, { database })
  await servers.command(`INSERT INTO drivers VALUES ('a', 'north', 90)`, { database })
  const { url, username, password } = servers.clickhouse
  const access = new URL(url)
  if (username) access.username = username
  if (password) access.password = password
  const service = new Program('the fleet service', process.execPath, [join(COMPILED, 'service.mjs')], {
    MQTT_URL: servers.broker.url,
    MQTT_CLIENT_ID: unique('fleet'),
    CLICKHOUSE_URL: access.href,
    CLICKHOUSE_DATABASE: database,
  })
  t.after(() => service.stop())
  await service.next('started')
  const socket = new WebSocket(service.latest.started.page.replace('http', 'ws'))
  t.after(() => socket.terminate())
  const positions = new Map()
  socket.on('message', (data) => {
    for (const position of JSON.parse(String(data))) positions.set(position.driver, position)
  })
  await new Promise((resolve) => socket.once('open', resolve))
  assert.match(await (await fetch(service.latest.started.page)).text(), /<title>Fleet/)

  const publisher = await servers.publisher(t)
  for (const [i, speed] of [20, 26, 10].entries()) {
    await publisher.publish('drivers/a/position', { driver_id: 'a', lat: 25.774, lng: -80.193, speed, heading: 1, ts: 1_730_000_000_000 + i })
  }
  await waitFor(() => positions.get('a')?.kmh === 36, { message: () => `a position: ${JSON.stringify([...positions])} ${JSON.stringify(service.latest)}` })
  await service.stop()
  const rows = await servers.rows('SELECT speed, speed_kmh, zone, team FROM positions ORDER BY ts', { database })
  assert.deepEqual(
    rows,
    [20, 26, 10].map((speed) => ({ speed, speed_kmh: Math.fround(speed * 3.6), zone: 'downtown', team: 'north' })).map((row) => ({ ...row, speed_kmh: Number(row.speed_kmh.toFixed(1)) })),
  )
  const alerts = await servers.rows('SELECT driver_id, kind, limit_kmh, zone, team FROM alerts ORDER BY ts', { database })
  const alert = { driver_id: 'a', limit_kmh: 60, zone: 'downtown', team: 'north' }
  assert.deepEqual(alerts, [{ ...alert, kind: 'speeding' }, { ...alert, kind: 'slowed down' }])
})
