// Golden bytes of what JavaScript and the command line show: reports as JSON, events, errors, generated types. Each is compared
// with a file in tests/golden/expected/js/, character for character, after names and times that differ from run to run have
// given way to words in angle brackets.
//
// To write them anew: `MILLRACE_GOLDEN=write node --test __test__/api/golden.test.mjs`, then read every line of `git diff`.
// That is allowed when a change of what users see is the purpose of the commit, and CHANGELOG.md says so; see
// tests/golden/main.rs.

import assert from 'node:assert/strict'
import { cpSync, mkdirSync, readFileSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { test } from 'node:test'
import { fileURLToPath } from 'node:url'
import { describeTables, inspectSpool, Pipeline } from '../../index.js'
import { externalBroker, externalClickHouse } from '../../tools/servers/index.mjs'
import { configFile, directory } from '../support/config-file.mjs'
import { startCommand } from '../support/program.mjs'
import { collect, heard, settled, unique, useServers } from '../support/servers.mjs'

const servers = useServers()
const timeout = 60_000
// The reports quote the servers that npm ci brings, and the errors quote Linux.
const skip = externalBroker || externalClickHouse || process.platform !== 'linux'
const GOLDEN = fileURLToPath(new URL('../../tests/golden/', import.meta.url))
const SPOOL = join(GOLDEN, 'spool-f83bdce')

/** Fails unless `actual` is the content of the file. `names` are those of this run, with what stands for each. */
function assertGolden(file, actual, names = {}) {
  const named = Object.entries(names).reduce((text, [name, word]) => text.replaceAll(name, `<${word}>`), actual)
  // The rate that a window allows depends on the duration of an INSERT, and the version of mosquitto on the system.
  const text = named.replace(/(\d+ allow) \d+/g, '$1 <n>').replace(/(mosquitto version) [\d.]+/g, '$1 <version>')
  const path = join(GOLDEN, 'expected', 'js', file)
  if (process.env.MILLRACE_GOLDEN === 'write') {
    mkdirSync(join(path, '..'), { recursive: true })
    writeFileSync(path, text)
  } else {
    assert.equal(text, readFileSync(path, 'utf8'), `${file}; see the header of this test`)
  }
}

const pretty = (value) => `${JSON.stringify(value, null, 2)}\n`

/** With 0 in place of the numbers of these names: they differ from run to run. */
function still(value, names) {
  if (Array.isArray(value)) return value.map((item) => still(item, names))
  if (value === null || typeof value !== 'object' || Buffer.isBuffer(value)) return value
  const isMoving = (name, item) => typeof item === 'number' && names.includes(name)
  const all = Object.entries(value).map(([name, item]) => [name, isMoving(name, item) ? 0 : still(item, names)])
  return Object.fromEntries(all)
}

/** Output of a command that succeeds, or that ends with `code`. */
async function millrace(t, args, code = 0) {
  const program = startCommand(t, args)
  const end = await program.end()
  assert.equal(end.code, code, `${end.stderr} ${program.lines.join('\n')}`)
  return `${program.lines.join('\n')}\n`
}

const COLUMNS = `
  driver LowCardinality(String),
  lat Float64 COMMENT 'degrees north',
  speed Float32 DEFAULT 7,
  note Nullable(String),
  state Enum8('off' = 0, 'on' = 1),
  big UInt64,
  at DateTime64(3, 'UTC'),
  came DateTime64(6, 'UTC'),
  parts Array(Tuple(a UInt8, b String)),
  pairs Map(String, Float64),
  any Variant(String, UInt64),
  doc JSON,
  hash UInt64 MATERIALIZED cityHash64(lat)`

/** A configuration of two routes, a topic's name for each and a spool, and the names of it that differ from run to run. */
async function fleet(t) {
  const [table, alarms, prefix] = [await servers.table(COLUMNS), await servers.table('text String, level UInt8'), unique('topic')]
  const spool = directory(t)
  cpSync(SPOOL, spool, { recursive: true })
  const config = servers.config({
    name: 'golden',
    mqtt: { clientId: unique('client') },
    routes: [
      { topic: `${prefix}/{driver}/position`, table, columns: { lat: 'position.lat', came: { meta: 'receivedAt' } } },
      { topic: `${prefix}/alarms/#`, table: alarms, columns: { level: { path: 'level', default: 1 } } },
    ],
  })
  const names = {
    [config.mqtt.clientId]: 'client',
    [config.mqtt.url]: 'broker',
    [config.clickhouse.url]: 'clickhouse',
    [servers.database]: 'database',
    [table]: 'positions',
    [alarms]: 'alarms',
    [prefix]: 'topic',
    [spool]: 'spool',
  }
  return { config, names, table, alarms, prefix, spool }
}

test('a spool is shown', { timeout }, async (t) => {
  assertGolden('spool.json', await millrace(t, ['spool', SPOOL, '--json']))
  assertGolden('spool.txt', await millrace(t, ['spool', SPOOL]), { [SPOOL]: 'spool' })
  assert.deepEqual(JSON.parse(JSON.stringify(await inspectSpool(SPOOL))), JSON.parse(await millrace(t, ['spool', SPOOL, '--json'])))
})

test('a configuration is checked', { timeout, skip }, async (t) => {
  const { config, names, spool } = await fleet(t)
  const [{ version }] = await servers.rows('SELECT version() AS version')
  const all = { ...names, [version]: 'version' }
  // The spool is not one of this pipeline, which a check does not mind; nor is there anything that keeps dead letters.
  const file = configFile(t, { ...config, spool: { dir: spool } })
  const report = JSON.parse(await millrace(t, ['check', file, '--json']))
  assertGolden('check.json', pretty(still(report, ['insertMs', 'connectMs'])), all)
  assertGolden('check.txt', await millrace(t, ['check', file]), { ...all, [file]: 'file' })

  const mistaken = structuredClone(config)
  mistaken.routes[0].columns.nothing = 'nothing'
  mistaken.routes[1].table = 'not_there'
  const wrong = await millrace(t, ['check', configFile(t, mistaken), '--json'], 1)
  assertGolden('check-mistaken.json', pretty(still(JSON.parse(wrong), ['insertMs', 'connectMs'])), all)
})

test('types are generated', { timeout }, async (t) => {
  const { config, names } = await fleet(t)
  const text = await describeTables(config)
  assert.equal(await millrace(t, ['types', configFile(t, config)]), text.endsWith('\n') ? text : `${text}\n`)
  const camel = (name) => name.replace(/(?:^|_)(.)/g, (_, first) => first.toUpperCase())
  const classes = Object.fromEntries(Object.entries(names).map(([name, word]) => [camel(name), camel(word)]))
  assertGolden('types.txt', text, { ...names, ...classes })
})

test('events are emitted', { timeout, skip }, async (t) => {
  const { config, names, prefix } = await fleet(t)
  const pipeline = servers.pipeline(t, config)
  const warnings = collect(pipeline, 'warning')
  const letters = collect(pipeline, 'deadLetters')
  const metrics = collect(pipeline, 'metrics')
  const states = []
  pipeline.on('state', (state, previous) => states.push([state, previous]))
  await pipeline.start()
  const publisher = await servers.publisher(t)
  const position = JSON.stringify({ position: { lat: 52.5 }, state: 'on', big: '18446744073709551615', at: 1_730_000_000_123, parts: [], pairs: {}, any: 1, doc: {} })
  for (const [topic, payload] of [
    [`${prefix}/7/position`, position],
    [`${prefix}/7/position`, '{"position":'],
    [`${prefix}/7/position`, '7'],
    [`${prefix}/7/position`, '{"position":{}}'],
    [`${prefix}/7/position`, '{"position":{"lat":"north"}}'],
    [`${prefix}/7/position`, position.replace('"on"', '7')],
    [`${prefix}/alarms/fire`, Buffer.from('{"text":"zu heiß","level":256}')],
    [`${prefix}/alarms/fire`, Buffer.from([0xff, 0x00])],
    [`${prefix}/alarms/fire`, '[{"text":"a"},{"text":"b","level":2}]'],
  ]) {
    await publisher.publish(topic, payload)
  }
  await settled(pipeline, 9, { warnings })
  await heard(pipeline, letters)
  pipeline.pause()
  pipeline.resume()
  const last = await pipeline.stop()

  const told = letters.map(({ receivedAt, payload, ...letter }) => {
    assert.ok(receivedAt instanceof Date && Buffer.isBuffer(payload))
    return { ...letter, payload: payload.toString('base64') }
  })
  assertGolden('dead-letters.json', pretty(told), names)
  assertGolden('states.json', pretty(states))
  // Warnings may get further fields beside code and message.
  assertGolden('warnings.json', pretty(warnings.map(({ code, message }) => ({ code, message }))), names)
  // How many INSERTs there are, and so the bytes of their blocks, follows from when the messages come.
  const moving = ['uptimeMs', 'messagesPerSecond', 'rowsPerSecond', 'p50', 'p90', 'p99', 'max', 'count', 'lastInsertMs', 'writes', 'succeeded', 'inserts']
  last.bytes.inserted = 0
  assertGolden('metrics.json', pretty(still(last, moving)), names)
  assert.deepEqual(Object.keys(metrics[0]), Object.keys(last))
})

test('errors have a code, a message, a path and a cause', { timeout, skip }, async (t) => {
  const { config, names } = await fleet(t)
  const told = []
  const note = ({ name, code, message, path, cause }) => {
    told.push({ name, code, message, path, cause: cause && { code: cause.code, message: cause.message.replace(/\(version .*/s, '') } })
  }
  const start = async (change) => {
    const changed = structuredClone(config)
    change(changed)
    let pipeline
    try {
      pipeline = new Pipeline(changed)
      await pipeline.start()
      assert.fail('it starts')
    } catch (error) {
      note(error)
    } finally {
      await pipeline?.stop()
    }
  }
  await start((config) => (config.mqtt.keepAlive = 7))
  await start((config) => (config.mqtt.qos = 3))
  await start((config) => delete config.clickhouse.url)
  await start((config) => (config.routes[0].topic = 'a/#/b'))
  await start((config) => (config.routes[0].table = 'not_there'))
  await start((config) => (config.routes[0].columns.nothing = 'nothing'))
  await start((config) => (config.routes[1].topic = config.routes[0].topic))
  await start((config) => (config.clickhouse.password = 'wrong'))
  await start((config) => (config.clickhouse.url = 'http://127.0.0.1:1'))
  await start((config) => (config.mqtt.url = 'mqtt://127.0.0.1:1'))
  await start((config) => (config.spool = { dir: '/proc/nothing' }))
  const stopped = servers.pipeline(t, config)
  for (const call of [() => stopped.flush(), () => stopped.pause(), () => stopped.stop({ timeoutMs: -1 })]) {
    try {
      await call()
    } catch (error) {
      note(error)
    }
  }
  assertGolden('errors.json', pretty(told), names)
})
