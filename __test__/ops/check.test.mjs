// checkPipeline() against real servers with one prepared mistake each: the finding names it and how to fix it. The check
// consumes and writes nothing.

import assert from 'node:assert/strict'
import { readFileSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { test } from 'node:test'
import { checkPipeline } from '../../index.js'
import { externalBroker, externalClickHouse, startAedes, startBroker, startClickHouse, waitFor } from '../../tools/servers/index.mjs'
import { asFiles, Authority } from '../support/certificates.mjs'
import { configFile, directory } from '../support/config-file.mjs'
import { startTransportProxy } from '../support/transport-proxy.mjs'
import { COLUMNS, position, route, topicFilter } from '../support/positions.mjs'
import { startCommand } from '../support/program.mjs'
import { startScriptedBroker } from '../support/scripted-broker.mjs'
import { collect, received, settled, unique, useServers } from '../support/servers.mjs'

const servers = useServers()
const timeout = 60_000
const skip = externalBroker || externalClickHouse

/** The findings of a check, with what a configuration of a test always has. */
async function findings(config, options) {
  const report = await checkPipeline(servers.config({ deadLetters: { dir: '.' }, ...config }), options)
  for (const { level, code, message } of report.findings) {
    assert.ok(['error', 'warning', 'note'].includes(level) && /^[A-Z_]+$/.test(code) && message.length > 0)
  }
  assert.equal(report.ok, report.findings.every(({ level }) => level !== 'error'))
  return report.findings
}

/** Asserts that there is such a finding, by parts of its message and its advice. */
function assertFound(all, { level = 'error', code, path, message = /./, advice = /./ }) {
  const told = JSON.stringify(all, null, 1)
  const found = all.filter((finding) => finding.code === code && finding.path === path)
  const isIt = (finding) => finding.level === level && message.test(finding.message) && advice.test(finding.advice ?? '')
  assert.ok(found.some(isIt), `${level} ${code} at ${path}, ${message}, ${advice}: ${told}`)
}

const errors = (all) => all.filter(({ level }) => level === 'error')

test('a right configuration is listed column by column, without an error', { timeout }, async (t) => {
  const table = await servers.table(`
    driver_id LowCardinality(String),
    lat Float64,
    speed Float32 DEFAULT 7,
    note Nullable(String),
    at DateTime64(3),
    place String,
    source String,
    trace String,
    doc JSON,
    any Array(Variant(String, UInt64)),
    hash UInt64 MATERIALIZED cityHash64(lat)`)
  const view = unique('view')
  const target = await servers.table('driver_id String, n UInt64', { engine: 'SummingMergeTree', order: 'driver_id' })
  await servers.command(`CREATE MATERIALIZED VIEW ${view} TO ${target} AS SELECT driver_id, count() AS n FROM ${table} GROUP BY driver_id`)
  const prefix = unique('topic')
  const columns = {
    lat: 'position.lat',
    at: { meta: 'receivedAt' },
    place: { path: "['a.b'][0]", default: 'nowhere' },
    source: { value: 'mqtt' },
    trace: { userProperty: 'trace' },
  }
  const config = servers.config({
    mqtt: { clientId: unique('client') },
    deadLetters: { dir: '.' },
    routes: [{ topic: topicFilter(prefix), table, columns }],
  })
  const report = await checkPipeline(config)
  assert.equal(report.ok, true, JSON.stringify(report.findings))

  const [{ columns: seen, deduplication, ...rest }] = report.routes
  assert.deepEqual({ ...rest, insertMs: 0 }, { topic: topicFilter(prefix), table, engine: 'MergeTree', rules: [], insert: true, insertMs: 0 })
  const told = seen.map(({ name, source, required, missing }) => [name, source, required, missing])
  assert.deepEqual(told, [
    ['driver_id', 'topic {driver_id}', false, null],
    ['lat', 'field position.lat', true, 'a dead letter'],
    ['speed', 'field speed', false, 'DEFAULT 7'],
    ['note', 'field note', false, 'NULL'],
    ['at', 'when it was received', false, null],
    ['place', "field ['a.b'][0]", false, '"nowhere"'],
    ['source', 'always "mqtt"', false, null],
    ['trace', 'user property trace', true, 'a dead letter'],
    ['doc', 'field doc', true, 'a dead letter'],
    ['any', 'field any', true, 'a dead letter'],
    ['hash', null, false, null],
  ])
  assert.deepEqual(
    deduplication.map(({ table, view, on, window }) => [table, view, on, window]),
    [
      [`${servers.database}.${table}`, null, true, 10_000],
      [`${servers.database}.${target}`, `${servers.database}.${view}`, true, 10_000],
    ],
  )
  const [broker] = report.brokers
  assert.equal(broker.reachable, true)
  assert.equal(broker.limits.maxQos, 2)
  assert.equal(broker.limits.sessionExpirySeconds, 86_400)
  assert.equal(broker.tls, null)
  assert.equal(broker.granted.length, 1)
  if (!externalBroker) assert.match(broker.version, /^mosquitto version 2/)
  assert.match(report.clickhouse[0].version, /^\d+\./)
  assert.equal(report.clickhouse[0].user, config.clickhouse.username ?? 'default')
  assertFound(report.findings, { level: 'note', code: 'WINDOW_UNKNOWN', path: 'mqtt.qos', message: /20 allow \d+/, advice: /10000 or more.*max_inflight_messages/ })
  assert.equal(await servers.count(table), 0)
})

test('broker and ClickHouse that cannot be reached', { timeout }, async () => {
  const table = await servers.table(COLUMNS)
  const routes = [route(unique('topic'), table)]
  assertFound(await findings({ routes, mqtt: { url: 'mqtt://127.0.0.1:1' } }), {
    code: 'MQTT_UNREACHABLE',
    path: 'mqtt.url',
    message: /127\.0\.0\.1:1 cannot be reached/,
    advice: /is the broker running/,
  })
  assertFound(await findings({ routes, clickhouse: { url: 'http://127.0.0.1:1' } }), {
    code: 'CLICKHOUSE_UNREACHABLE',
    path: 'clickhouse.url',
    advice: /is ClickHouse running/,
  })
  // One of two will do.
  const some = await findings({
    routes,
    mqtt: { url: ['mqtt://127.0.0.1:1', servers.broker.url] },
    clickhouse: { url: [servers.clickhouse.url, 'http://127.0.0.1:1'] },
  })
  assert.deepEqual(errors(some), [])
  assertFound(some, { level: 'warning', code: 'MQTT_UNREACHABLE', path: 'mqtt.url[0]' })
  assertFound(some, { level: 'warning', code: 'CLICKHOUSE_UNREACHABLE', path: 'clickhouse.url[1]' })
})

test('users who are refused', { timeout, skip }, async (t) => {
  const broker = await startBroker({ allowAnonymous: false, users: { fleet: 'right' } })
  t.after(() => broker.remove())
  const table = await servers.table(COLUMNS)
  const routes = [route(unique('topic'), table)]
  const login = { url: broker.url, username: 'fleet' }
  for (const protocolVersion of [4, 5]) {
    const refused = await findings({ routes, mqtt: { ...login, password: 'wrong', protocolVersion } })
    assertFound(refused, { code: 'MQTT_REFUSED', path: 'mqtt', advice: /mqtt\.username and mqtt\.password/ })
    assert.deepEqual(errors(await findings({ routes, mqtt: { ...login, password: 'right', protocolVersion } })), [])
  }
  assertFound(await findings({ routes, clickhouse: { password: 'wrong' } }), {
    code: 'CLICKHOUSE_REJECTED',
    path: 'clickhouse.url',
    message: /Code: (194|516)\./,
    advice: /clickhouse\.username and clickhouse\.password/,
  })
})

test('every table and column that does not exist', { timeout }, async () => {
  const table = await servers.table('seq UInt64, half UInt64 ALIAS seq / 2, kept String')
  const routes = [
    { topic: 'a', table: `${table}s` },
    { topic: 'b', table: 'nothing_like_any_other_table' },
    { topic: 'c/{seq}/{unused}', table, columns: { speeed: 'speed', half: 'half', seq: { topic: 'seq' } } },
    { topic: 'd', table: 'no_such_database.t' },
  ]
  const all = await findings({ routes })
  const code = 'TABLE_NOT_FOUND'
  assertFound(all, { code, path: 'routes[0].table', advice: new RegExp(`did you mean ${table}\\?`) })
  assertFound(all, { code, path: 'routes[1].table', advice: /create it/ })
  assertFound(all, { code, path: 'routes[3].table', advice: /there is no database no_such_database/ })
  assertFound(all, { code: 'COLUMN_NOT_FOUND', path: 'routes[2].columns.speeed', advice: /correct the name/ })
  assertFound(all, { code: 'COLUMN_NOT_FOUND', path: 'routes[2].columns.half', advice: /ALIAS/ })
  assertFound(all, { level: 'warning', code: 'TOPIC_NAME_UNUSED', path: 'routes[2].topic', message: /\{unused\} fills nothing/ })
  assert.equal(errors(all).length, 5)
})

test('a user with exactly the grants of docs/cli.md fills the tables of examples/fleet', { timeout, skip }, async (t) => {
  const root = new URL('../../', import.meta.url)
  const [, block] = /```sql\n(GRANT[^`]*)```/.exec(readFileSync(new URL('docs/cli.md', root), 'utf8'))
  const documented = Array.from(block.matchAll(/^(GRANT .*) TO fleet;$/gm), ([, grant]) => grant)
  assert.equal(documented.length, 4)
  const user = (query) => ({ password: 'p', grants: { query } })
  const withoutView = documented.filter((grant) => !grant.includes('SELECT'))
  const clickhouse = await startClickHouse({
    users: {
      fleet: user(documented),
      blind: user(withoutView),
      sees: user([...withoutView, 'GRANT SHOW TABLES ON fleet.positions_to_last_positions']),
      engineless: user(documented.filter((grant) => !grant.includes('ENGINE'))),
    },
  })
  t.after(() => clickhouse.remove())
  await clickhouse.command('CREATE DATABASE fleet')
  const tables = readFileSync(new URL('examples/fleet/tables.sql', root), 'utf8').replaceAll(/^--.*$/gm, '')
  for (const statement of tables.split(';')) {
    if (statement.trim()) await clickhouse.command(statement, { database: 'fleet' })
  }
  const prefix = unique('topic')
  const config = (username) => ({
    clickhouse: { url: clickhouse.url, database: 'fleet', username, password: 'p' },
    routes: [{ topic: `${prefix}/{driver_id}/position`, table: 'positions' }],
    deadLetters: { table: 'dead_letters' },
  })
  const findings = async (username) => (await checkPipeline(servers.config(config(username)))).findings
  const grant = /GRANT SELECT ON `fleet`.`positions` TO `blind`/
  assertFound(await findings('blind'), { level: 'warning', code: 'VIEW_RIGHTS_UNKNOWN', path: 'routes[0].table', advice: grant })
  const exact = /^GRANT SELECT\(.*driver_id.*\) ON fleet.positions TO `sees`$/
  assertFound(await findings('sees'), { level: 'error', code: 'GRANT_MISSING', path: 'clickhouse.username', advice: exact })
  assertFound(await findings('engineless'), { code: 'GRANT_MISSING', path: 'deadLetters.table', advice: /^GRANT TABLE ENGINE ON MergeTree TO `engineless`$/ })
  const refused = (username, statement) =>
    assert.rejects(servers.pipeline(t, config(username)).start(), ({ code, message }) => {
      assert.equal(code, 'CLICKHOUSE_REJECTED')
      assert.match(message, statement)
      return true
    })
  await refused('sees', /; run: GRANT SELECT\(.*\) ON fleet.positions TO `sees`$/)
  await refused('engineless', /; run: GRANT TABLE ENGINE ON MergeTree TO `engineless`$/)

  const found = await findings('fleet')
  assert.deepEqual(errors(found), [])
  assert.ok(!found.some(({ code }) => code === 'VIEW_RIGHTS_UNKNOWN'))
  const pipeline = await servers.started(t, config('fleet'))
  const publisher = await servers.publisher(t)
  await publisher.publish(`${prefix}/driver-1/position`, { lat: 1, lng: 2, speed: 3, heading: 4, ts: 1_730_000_000_000 })
  await publisher.publish(`${prefix}/driver-1/position`, 'no position')
  await settled(pipeline, 2)
  const count = async (table) => Number((await clickhouse.query(`SELECT count() AS n FROM fleet.${table}`))[0].n)
  assert.deepEqual([await count('positions'), await count('last_positions'), await count('dead_letters')], [1, 1, 1])

  // The right is asked for by the first row; the warning has said so at the start.
  const warned = servers.pipeline(t, config('blind'))
  const warnings = collect(warned, 'warning')
  await warned.start()
  assert.ok(warnings.some(({ code, message }) => code === 'VIEW_RIGHTS_UNKNOWN' && message.includes('run: GRANT SELECT')))
})

test('missing grants, and unknown settings', { timeout, skip }, async (t) => {
  const SYSTEM = ['merge_tree_settings', 'replicated_merge_tree_settings'].map((name) => `GRANT SELECT ON system.${name}`)
  const grants = (...query) => ({ password: 'p', grants: { query } })
  const clickhouse = await startClickHouse({
    users: {
      blind: grants('GRANT SELECT ON other.*'),
      reader: grants('GRANT SELECT ON default.*', ...SYSTEM),
      writer: grants('GRANT INSERT ON default.positions'),
      keeper: grants('GRANT INSERT ON default.*', ...SYSTEM),
      enough: grants('GRANT INSERT ON default.positions', ...SYSTEM),
    },
  })
  t.after(() => clickhouse.remove())
  await clickhouse.command(`CREATE TABLE positions (${COLUMNS}) ENGINE MergeTree ORDER BY seq
    SETTINGS non_replicated_deduplication_window = 1000`)
  const as = (username, more = {}) =>
    findings({
      clickhouse: { url: clickhouse.url, database: 'default', username, password: 'p' },
      routes: [route(unique('topic'), 'positions')],
      ...more,
    })
  assertFound(await as('blind'), { code: 'TABLE_NOT_FOUND', path: 'routes[0].table', advice: /GRANT INSERT ON .*positions.* TO `blind`/ })
  const [code, path] = ['GRANT_MISSING', 'clickhouse.username']
  assertFound(await as('reader'), { code, path, message: /reader may not insert/, advice: /^GRANT INSERT ON `default`.`positions` TO `reader`$/ })
  for (const username of ['writer', 'enough']) {
    const found = await as(username)
    assert.deepEqual(errors(found), [])
    assert.ok(!found.some(({ code }) => code === 'DEDUPLICATION_OFF'), 'the table itself says that it remembers')
  }
  const letters = await as('enough', { deadLetters: { table: 'letters' } })
  assertFound(letters, { code, path: 'deadLetters.table', message: /lacks CREATE TABLE/, advice: /GRANT CREATE TABLE/ })
  assertFound(letters, { code, path: 'deadLetters.table', message: /lacks INSERT/, advice: /GRANT INSERT/ })
  // Where the table exists, the user needs no right to create it.
  await clickhouse.command(`CREATE TABLE kept (received_at DateTime64(3, 'UTC'), route Int32, topic String, payload String,
    error_code LowCardinality(String), error String) ENGINE = MergeTree ORDER BY received_at`)
  const kept = await as('keeper', { deadLetters: { table: 'kept' } })
  assert.deepEqual(errors(kept), [])
  assertFound(kept, { level: 'warning', code: 'DEDUPLICATION_OFF', path: 'deadLetters.table', advice: /ALTER TABLE .*kept/ })
  const keeper = { url: clickhouse.url, database: 'default', username: 'keeper', password: 'p' }
  const routed = { deadLetters: { table: 'kept' }, routes: [route(unique('topic'), 'positions')] }
  await (await servers.started(t, { clickhouse: keeper, ...routed })).stop()
  const settings = { url: clickhouse.url, database: 'default', settings: { max_threds: 2 } }
  const unknown = await findings({ clickhouse: settings, routes: [route(unique('topic'), 'positions')] })
  assertFound(unknown, { code: 'CLICKHOUSE_REJECTED', path: 'clickhouse.settings', message: /max_threds/, advice: /correct its name/ })
})

test('tables without a deduplication window, those behind views as well', { timeout }, async () => {
  const none = { storage: { non_replicated_deduplication_window: 0 } }
  const table = await servers.table('seq UInt64', none)
  const [first, second] = [await servers.table('seq UInt64'), await servers.table('n UInt64', none)]
  for (const [from, to, sql] of [
    [table, first, 'SELECT seq'],
    [first, second, 'SELECT count() AS n'],
  ]) {
    await servers.command(`CREATE MATERIALIZED VIEW ${unique('view')} TO ${to} AS ${sql} FROM ${from}`)
  }
  const all = await findings({ routes: [{ topic: 'a', table }] })
  const expected = { level: 'warning', code: 'DEDUPLICATION_OFF', path: 'routes[0].table' }
  assertFound(all, { ...expected, message: new RegExp(`\`${table}\` does not`), advice: new RegExp(`ALTER TABLE .*${table}.* = 1000`) })
  assertFound(all, { ...expected, message: new RegExp(`\`${second}\`, which the view .*view.* fills,`), advice: new RegExp(`ALTER TABLE .*${second}`) })
  assert.equal(all.filter(({ code }) => code === expected.code).length, 2)
})

test('subscriptions that a broker refuses or lowers', { timeout, skip }, async (t) => {
  const [one, other] = [await servers.table('seq UInt64'), await servers.table('seq UInt64')]
  const routes = [
    { topic: 'open/{x}', table: one },
    { topic: 'secret/#', table: other },
  ]
  for (const [protocolVersion, code] of [
    [4, 0x80],
    [5, 0x87],
  ]) {
    const strict = await startScriptedBroker(t, { subscribe: code })
    const all = await findings({ mqtt: { url: strict.url, protocolVersion }, routes })
    for (const i of [0, 1]) {
      const advice = /access rules/
      assertFound(all, { code: 'SUBSCRIPTION_REFUSED', path: `routes[${i}].topic`, advice })
    }
    assert.equal(strict.acknowledged.length, 0)
  }
  const modest = await startBroker({ config: ['max_qos 0'] })
  t.after(() => modest.remove())
  assertFound(await findings({ mqtt: { url: modest.url, qos: 2 }, routes }), {
    level: 'warning',
    code: 'QOS_LOWERED',
    path: 'mqtt.qos',
    message: /less QoS was granted.*open\/\+, secret\/#/,
    advice: /max_qos/,
  })
  const shared = await findings({ mqtt: { sharedGroup: 'g', connections: 2 }, routes })
  assertFound(shared, { level: 'note', code: 'SHARED_GROUP_NOT_TRIED', path: 'mqtt.sharedGroup', advice: /^/ })
})

test('a shared group with MQTT 3.1.1, by what the broker is', { timeout, skip: externalBroker }, async (t) => {
  const table = await servers.table('seq UInt64')
  const routes = [{ topic: 'a/{x}', table }]
  const check = async (url) => {
    const mqtt = { url, protocolVersion: 4, sharedGroup: 'g' }
    const { brokers, findings: all } = await checkPipeline(servers.config({ mqtt, routes }))
    const about = all.filter(({ code, path }) => path === 'mqtt.sharedGroup' && code !== 'SHARED_GROUP_NOT_TRIED')
    return { name: brokers[0].name, found: about.map(({ level, code }) => ({ level, code })) }
  }
  assert.deepEqual(await check(servers.broker.url), { name: 'mosquitto', found: [] })
  const aedes = await startAedes()
  t.after(() => aedes.remove())
  assert.deepEqual(await check(aedes.url), {
    name: 'aedes',
    found: [{ level: 'error', code: 'SUBSCRIPTION_REFUSED' }],
  })
  const unknown = await startScriptedBroker(t)
  assert.deepEqual(await check(unknown.url), {
    name: null,
    found: [{ level: 'warning', code: 'SHARED_GROUP_SILENT' }],
  })
})

test('limits that a broker states', { timeout }, async (t) => {
  const table = await servers.table('seq UInt64')
  const limited = await startScriptedBroker(t, {
    properties: [
      ...[0x11, 0, 0, 0, 60], // session expiry
      ...[0x13, 0, 10], // keep-alive
      ...[0x21, 0, 7], // receive maximum
      ...[0x24, 1], // QoS
      ...[0x27, 0, 0, 16, 0], // packet size
      ...[0x28, 0, 0x29, 0, 0x2a, 0], // no wildcards, subscription identifiers, shared subscriptions
    ],
  })
  const config = servers.config({
    mqtt: { url: limited.url, clientId: 'own', sharedGroup: 'g' },
    deadLetters: { dir: '.' },
    routes: [
      { topic: 'a/{x}', table },
      { topic: 'b', table },
    ],
  })
  const { brokers, findings: all } = await checkPipeline(config)
  assert.deepEqual(brokers[0].limits, {
    maxQos: 1,
    receiveMaximum: 7,
    maxPacketBytes: 4096,
    sessionExpirySeconds: 60,
    keepAliveSeconds: 10,
    topicAliasMaximum: 0,
    retained: true,
    wildcardSubscriptions: false,
    sharedSubscriptions: false,
    subscriptionIds: false,
  })
  assert.deepEqual(brokers[0].granted, ['b'])
  assertFound(all, { code: 'SUBSCRIPTION_REFUSED', path: 'mqtt.sharedGroup', message: /no shared subscriptions/ })
  assertFound(all, { code: 'SUBSCRIPTION_REFUSED', path: 'routes[0].topic', message: /wildcard/ })
  assertFound(all, { level: 'warning', code: 'SESSION_SHORTENED', path: 'mqtt.sessionExpirySeconds', message: /60 s/ })
  assertFound(all, { level: 'note', code: 'KEEP_ALIVE_CHANGED', path: 'mqtt.keepAliveSeconds', message: /10 s/, advice: /^$/ })
})

test('a check leaves nothing behind, and takes no messages of others', { timeout }, async (t) => {
  const table = await servers.table('seq UInt64')
  const broker = await startScriptedBroker(t)
  const mqtt = { url: broker.url, clientId: 'own', sharedGroup: 'g', qos: 2 }
  await checkPipeline(servers.config({ mqtt, routes: [{ topic: 'a/{x}', table }] }), { sample: 1, sampleTimeoutMs: 50 })

  const text = (type) => broker.bodies(type).map((body) => body.toString('latin1'))
  assert.ok(text('CONNECT').length >= 3)
  assert.ok(text('CONNECT').every((body) => !body.includes('own')), 'under names of its own')
  assert.ok(text('SUBSCRIBE').every((body) => !body.includes('$share')), 'outside of the shared group')
  // The only session that outlives its connection is asked to end, and has no subscription.
  const isClean = (body) => (body[7] & 2) !== 0
  const lasting = broker.packets.filter(({ type, body }) => type === 'CONNECT' && !isClean(body)).map(({ connection }) => connection)
  assert.equal(lasting.length, 1)
  const [{ type, body }, ...more] = broker.packets.filter(({ connection, type }) => connection === lasting[0] && type !== 'CONNECT')
  assert.deepEqual([type, [...body], more], ['DISCONNECT', [0, 5, 0x11, 0, 0, 0, 0], []])
  for (const answer of ['PUBACK', 'PUBREC', 'PUBCOMP']) assert.equal(broker.bodies(answer).length, 0)
})

test('messages of an earlier run in the spool', { timeout, skip }, async (t) => {
  const clickhouse = await startClickHouse()
  t.after(() => clickhouse.remove())
  await clickhouse.command('CREATE TABLE t (seq UInt64) ENGINE MergeTree ORDER BY seq SETTINGS non_replicated_deduplication_window = 9')
  const [dir, topic] = [join(directory(t), 'spool'), unique('topic')]
  const config = { clickhouse: { url: clickhouse.url, database: 'default' }, spool: { dir }, routes: [{ topic, table: 't' }] }
  const code = 'SPOOL_NOT_EMPTY'
  assert.ok(!(await findings(config)).some((finding) => finding.code === code))
  const pipeline = await servers.started(t, { ...config, mqtt: { clientId: unique('client') } })
  await clickhouse.stop()
  await (await servers.publisher(t)).publish(topic, { seq: 1 })
  await received(pipeline, 1)
  await waitFor(() => pipeline.metrics().mqtt.unacknowledged === 0, { message: 'acknowledged by the spool' })
  const all = await findings(config)
  assertFound(all, { code: 'CLICKHOUSE_UNREACHABLE', path: 'clickhouse.url' })
  assertFound(all, { level: 'note', code, path: 'spool.dir', message: /1 messages wait/, advice: /^$/ })
  writeFileSync(join(dir, '..', 'file'), '')
  assertFound(await findings({ ...config, spool: { dir: join(dir, '..', 'file') } }), { code: 'SPOOL_IO', path: 'spool.dir' })
})

test('findings about options alone', { timeout }, async () => {
  const table = await servers.table('seq UInt64')
  const all = await findings({
    mqtt: { protocolVersion: 4 },
    deadLetters: {},
    routes: [
      { topic: 'a/+/c', table },
      { topic: 'a/b/+', table },
      { topic: 'a/b/c', table },
    ],
  })
  assertFound(all, { code: 'CONFIG_INVALID', path: 'routes[2].topic', message: /can never match/, advice: /narrower route first/ })
  assertFound(all, { level: 'note', code: 'FILTERS_COVERED', path: 'routes', message: /subscribes to a\/\+\/\+, and skips/, advice: /^$/ })
  assertFound(all, { level: 'warning', code: 'DEAD_LETTERS_NOT_KEPT', path: 'deadLetters' })
  assertFound(all, { level: 'note', code: 'SESSION_CLEAN', path: 'mqtt.clientId' })
  const queue = { level: 'note', code: 'QUEUE_UNKNOWN', path: 'mqtt.clientId', message: /mosquitto keeps 1000/, advice: /max_queued_messages/ }
  assertFound(await findings({ mqtt: { clientId: unique('client') }, routes: [{ topic: unique('topic'), table }] }), queue)
  assert.ok(!all.some(({ code }) => code === queue.code))

  const own = { mqtt: { url: 'mqtt://x', clientId: 'own' }, clickhouse: { url: 'http://x' }, routes: [{ topic: 'a', table }] }
  for (const options of [{ sample: -1 }, { sampel: 5 }, { sampleTimeoutMs: 0 }, { clientId: 'own' }]) {
    await assert.rejects(checkPipeline(own, /** @type {any} */ (options)), { code: 'CONFIG_INVALID', path: /^options\./ })
  }
})

test('TLS is reported, and certificates that expire soon', { timeout, skip }, async (t) => {
  const authority = new Authority('the authority of the tests')
  const here = authority.issue({ hosts: ['localhost', '127.0.0.1'] })
  const files = asFiles(t, { ca: authority.ca, ...here })
  const broker = await startBroker({ config: [`cafile ${files.ca}`, `certfile ${files.cert}`, `keyfile ${files.key}`] })
  t.after(() => broker.remove())
  const proxy = await startTransportProxy(t, servers.clickhouse.port, { tls: here })
  const table = await servers.table(COLUMNS)
  const tls = { ca: authority.ca }
  const config = servers.config({
    mqtt: { url: broker.url.replace('mqtt:', 'mqtts:'), tls },
    clickhouse: { url: `https://127.0.0.1:${proxy.port}`, tls },
    routes: [route(unique('topic'), table)],
  })
  const report = await checkPipeline(config)
  assert.ok(report.ok, JSON.stringify(report.findings))
  for (const { tls } of [...report.brokers, ...report.clickhouse]) {
    assert.match(tls.version, /^TLSv1_[23]$/)
    assert.match(tls.certificate.names, /localhost/)
    assert.ok(new Date(tls.certificate.validUntil).getTime() > Date.now())
  }
  // The certificates of the tests are valid for a day.
  for (const path of ['mqtt.tls', 'clickhouse.tls']) {
    assertFound(report.findings, { level: 'warning', code: 'CERTIFICATE_EXPIRES', path, advice: /renew/ })
  }
  const stranger = new Authority('somebody else').ca
  const all = await findings({ ...config, mqtt: { ...config.mqtt, tls: { ca: stranger } } })
  assertFound(all, { code: 'MQTT_UNREACHABLE', path: 'mqtt.url', message: /not issued by an authority that we trust/ })
})

test('a sample is decoded as a pipeline would, and takes nothing from one that runs', { timeout }, async (t) => {
  const table = await servers.table(`${COLUMNS}, extra UInt8`)
  const prefix = unique('topic')
  const other = unique('topic')
  const columns = { extra: { path: 'extra', default: 0 } }
  const routes = [
    { ...route(prefix, table), columns },
    { ...route(other, table), columns },
  ]
  const config = { mqtt: { clientId: unique('client'), sharedGroup: 'g' }, routes }
  const pipeline = await servers.started(t, config)
  const publisher = await servers.publisher(t)
  const { heading, ...headless } = JSON.parse(position(prefix, 7).payload)
  const bad = { [`${prefix}/1/position`]: headless, [`${prefix}/2/position`]: { ...headless, heading: 70_000 }, [`${prefix}/3/position`]: 'no JSON' }

  let count = 0
  let isOver = false
  const checking = checkPipeline(servers.config(config), { sample: 200 }).finally(() => (isOver = true))
  while (!isOver) {
    const [topic, payload] = Object.entries(bad)[count % 10] ?? []
    if (topic) await publisher.publish(topic, payload)
    else await publisher.publish(position(prefix, count).topic, position(prefix, count).payload)
    count++
  }
  const { sample, findings: all } = await checking
  assert.equal(sample.messages, 200)
  assert.equal(sample.rows + sample.deadLetters, 200)
  const [{ times, ...seen }, unseen] = sample.routes
  assert.deepEqual([seen, unseen], [{ messages: 200, rows: sample.rows, dropped: 0 }, { messages: 0, rows: 0, dropped: 0, times: [] }])
  for (const { text, time } of times) assert.equal(new Date(/^\d+$/.test(text) ? Number(text) : text).getTime(), Date.parse(time))
  assert.equal(sample.reasons.reduce((sum, { count }) => sum + count, 0), sample.deadLetters)
  const codes = sample.reasons.map(({ code, route, message }) => [code, route, /^column \w+/.exec(message)?.[0]]).sort()
  assert.deepEqual(codes, [
    ['FIELD_MISSING', 0, 'column heading'],
    ['JSON_INVALID', 0, undefined],
    ['OUT_OF_RANGE', 0, 'column heading'],
  ])
  const wrong = { level: 'warning', code: 'SAMPLE_DEAD_LETTERS', path: 'routes[0]' }
  assertFound(all, { ...wrong, message: /\d+ of 200 messages .*FIELD_MISSING: column heading/, advice: /missingFields/ })
  assertFound(all, { ...wrong, message: /JSON_INVALID/, advice: /narrow the topic/ })
  assertFound(all, { level: 'note', code: 'ROUTE_NOT_SEEN', path: 'routes[1].topic', advice: /^/ })

  await settled(pipeline, count)
  assert.equal(pipeline.metrics().messages.received, count)
  assert.equal(pipeline.metrics().mqtt.reconnects, 0)
  assert.equal(heading, 7)
})

test('a sample shows how times were understood', { timeout }, async (t) => {
  const table = await servers.table(`n UInt8, digits DateTime('UTC'), text DateTime64(3, 'UTC'), local DateTime('Europe/Berlin'),
    mail Nullable(DateTime('UTC')), day Date, far Date32, none Nullable(DateTime('UTC')), given DateTime('UTC'), meta DateTime64(3, 'UTC')`)
  const topic = unique('topic')
  const columns = {
    digits: { path: '$.t.ms', unit: 'ms' },
    given: { path: 'given', default: 0 },
    meta: { meta: 'receivedAt' },
  }
  const config = { routes: [{ topic, table, rows: 'list', columns }], mqtt: { clientId: unique('client') } }
  const message = {
    t: { ms: 1796040000123 },
    text: '2026-11-30T13:00:00.250+01:00',
    local: '2026-11-30 13:00:00',
    day: '20261130',
    far: '2200-01-02',
    // Where the first row has nothing, the second is the example.
    list: [{ n: 1 }, { n: 2, mail: 'Mon, 30 Nov 2026 12:00:00 GMT' }],
  }
  const publisher = await servers.publisher(t)
  const payloads = [JSON.stringify({ list: [] }), JSON.stringify(message)]
  let isOver = false
  const checking = checkPipeline(servers.config(config), { sample: 20 }).finally(() => (isOver = true))
  for (let i = 0; !isOver; i++) await publisher.publish(topic, payloads[i % 2])
  const { sample } = await checking
  assert.equal(sample.deadLetters, 0, JSON.stringify(sample.reasons))
  const times = Object.fromEntries(sample.routes[0].times.map(({ column, text, time }) => [column, `${text} is ${time}`]))
  assert.deepEqual(times, {
    digits: '1796040000123 is 2026-11-30T12:00:00Z',
    text: '2026-11-30T13:00:00.250+01:00 is 2026-11-30T12:00:00.25Z',
    local: '2026-11-30 13:00:00 is 2026-11-30T12:00:00Z',
    mail: 'Mon, 30 Nov 2026 12:00:00 GMT is 2026-11-30T12:00:00Z',
    day: '20261130 is 2026-11-30',
    far: '2200-01-02 is 2200-01-02',
  })
})

test('a sample shows the partitions and the TTL of its rows, and numbers that lose digits', { timeout }, async (t) => {
  const columns = `n UInt32, at DateTime('UTC'), day Date MATERIALIZED toDate(at), kept Nullable(Float32), lat Float32,
    total Float64, scaled Float32, source String DEFAULT 'x'`
  const fine = await servers.table('n UInt32, lat Float64')
  const topic = unique('topic')
  const table = unique('partitioned')
  await servers.command(`CREATE TABLE ${table} (${columns}) ENGINE = MergeTree PARTITION BY (day, source) ORDER BY n
    TTL at + INTERVAL 30 DAY DELETE WHERE n < 1000, at + INTERVAL 1 DAY RECOMPRESS CODEC(ZSTD(3)) SETTINGS non_replicated_deduplication_window = 100`)
  const config = {
    clickhouse: { settings: { max_partitions_per_insert_block: 3 } },
    routes: [
      { topic, table, continue: true, columns: { scaled: { path: 'lat', scale: 3.6 } } },
      { topic, table: fine },
    ],
  }
  // Five days, the last of them in the future; n of 1000 and more is not deleted.
  const days = ['2020-01-01', '2020-01-02', '2020-01-03', '2020-01-04', '2090-01-01']
  const payloads = days.map((day, i) =>
    `{"n":${i === 0 ? 1000 : i},"at":"${day}T12:00:00Z","kept":21.5,"lat":52.520008123,"total":9007199254740993}`)
  const publisher = await servers.publisher(t)
  let isOver = false
  const checking = checkPipeline(servers.config(config), { sample: 20 }).finally(() => (isOver = true))
  for (let i = 0; !isOver; i++) await publisher.publish(topic, payloads[i % 5])
  const { sample, findings: all } = await checking
  const [partitioned, plain] = sample.routes
  assert.deepEqual([partitioned.rows, partitioned.partitions, partitioned.expired], [20, 5, 12])
  assert.deepEqual([plain.rows, plain.partitions, plain.expired], [20, undefined, undefined])
  const of = (/** @type {string} */ wanted) => all.filter(({ code }) => code === wanted).map(({ level, path, message }) => [level, path, message])
  const [[level, path, message], ...more] = of('PARTITIONS_MANY')
  assert.deepEqual([level, path, more], ['warning', 'routes[0].table', []])
  assert.match(message, /^20 rows of the sample are of 5 partitions \(PARTITION BY \(day, source\)\), and max_partitions_per_insert_block is 3: /)
  const [[, , expired], ...others] = of('ROWS_EXPIRED')
  assert.deepEqual(others, [])
  assert.match(expired, /^12 of 20 rows of the sample are past the TTL at \+ toIntervalDay\(30\): /)
  assert.deepEqual(
    of('VALUE_PRECISION_CUT').map(([, path, message]) => [path, message.replace(/^.*: of/, 'of')]),
    [
      ['routes[0].columns.lat', 'of 52.520008123 it keeps 52.520008'],
      ['routes[0].columns.total', 'of 9007199254740993 it keeps 9007199254740992'],
    ],
  )
})

test('a sample warns of paths that lead through texts', { timeout }, async (t) => {
  const table = await servers.table('lat Nullable(Float64)')
  const topic = unique('topic')
  const config = { routes: [{ topic, table, columns: { lat: 'position.lat' } }] }
  const publisher = await servers.publisher(t)
  let isOver = false
  const checking = checkPipeline(servers.config(config), { sample: 5 }).finally(() => (isOver = true))
  while (!isOver) await publisher.publish(topic, '{"position":"52.5,13.4"}')
  const { findings: all } = await checking
  const wrong = { level: 'warning', code: 'PATH_THROUGH_SCALAR', path: 'routes[0].columns.lat' }
  assertFound(all, { ...wrong, message: /position\.lat/, advice: /parse: 'json'/ })
})

test('a sample shows what conditions exclude', { timeout }, async (t) => {
  const table = await servers.table('id LowCardinality(String), v UInt32')
  const [prefix, other] = [unique('topic'), unique('topic')]
  const config = {
    routes: [
      { topic: `${prefix}/{kind}/{id}`, table, where: { and: [{ topic: 'kind', eq: 'gps' }, { path: 'v', lt: 5 }] } },
      { topic: `${other}/{id}`, table, where: { path: 'v', eq: '1' } },
    ],
  }
  const publisher = await servers.publisher(t)
  let isOver = false
  const checking = checkPipeline(servers.config(config), { sample: 60 }).finally(() => (isOver = true))
  for (let i = 0; !isOver; i++) {
    if (i % 3 === 0) await publisher.publish(`${other}/a`, { v: 1 })
    else await publisher.publish(`${prefix}/${i % 3 === 1 ? 'gps' : 'state'}/a`, { v: i % 10 })
  }
  const { sample, findings: all } = await checking
  assert.deepEqual([sample.messages, sample.deadLetters, sample.rows + sample.dropped], [60, 0, 60])
  const [first, second] = sample.routes
  assert.deepEqual(second, { messages: second.messages, rows: 0, dropped: second.messages, times: [] })
  assert.ok(second.messages > 0 && first.rows > 0 && first.dropped > first.rows, JSON.stringify(sample.routes))
  assertFound(all, { level: 'warning', code: 'SAMPLE_DROPPED', path: 'routes[1].where', message: /all \d+ messages/, advice: /never equal/ })
  assert.ok(!all.some(({ code, path }) => code === 'SAMPLE_DROPPED' && path !== 'routes[1].where'))
  // The condition asks for {kind}, which fills no column.
  assert.ok(!all.some(({ code }) => code === 'TOPIC_NAME_UNUSED'), JSON.stringify(all))
})

test('a sample goes through transforms: what they drop, reject, emit and throw', { timeout }, async (t) => {
  const table = await servers.table('v UInt32, double UInt32')
  const alerts = await servers.table('v UInt32')
  const [good, bad] = [unique('topic'), unique('topic')]
  const columns = { double: { computed: /** @type {const} */ (true) } }
  const route = {
    topic: good,
    table,
    columns,
    emits: [alerts],
    transform(batch) {
      for (const row of batch.rows()) {
        row.double = 2 * row.v
        if (row.v === 1) batch.drop(row)
        if (row.v === 2) batch.reject(row, 'two')
        if (row.v === 3) batch.emit(alerts, { v: row.v })
      }
    },
  }
  const failing = { topic: bad, table, columns, transform: () => { throw new Error('no such zone') } }
  const publisher = await servers.publisher(t)
  let isOver = false
  const config = servers.config({ routes: [route, failing] })
  const checking = checkPipeline(config, { sample: 100 }).finally(() => (isOver = true))
  for (let i = 0; !isOver; i++) await publisher.publish(i % 5 === 4 ? bad : good, { v: i % 5 })
  const { sample, findings: all } = await checking
  const [first, second] = sample.routes
  const { rows, dropped, rejected, emitted, error, reasons } = first.transform
  assert.deepEqual([rows, error, reasons], [first.rows, null, ['two']])
  assert.ok(dropped > 0 && rejected > 0 && emitted > 0 && dropped + rejected + emitted < rows, JSON.stringify(first))
  assert.equal(second.transform.error, 'no such zone')
  assertFound(all, { level: 'warning', code: 'SAMPLE_TRANSFORM_FAILED', path: 'routes[1].transform', message: /no such zone/ })
  assert.deepEqual(await servers.rows(`SELECT * FROM ${table}`), [])
  // The table of emitted rows is looked at as those of routes are.
  const missing = await checkPipeline(servers.config({ routes: [{ ...route, emits: ['nowhere'] }] }))
  assertFound(missing.findings, { code: 'TABLE_NOT_FOUND', path: 'routes[0].emits[0]' })
})

test('a sample of a silent topic ends by its time', { timeout }, async () => {
  const table = await servers.table('seq UInt64')
  const all = await findings({ routes: [{ topic: unique('topic'), table }] }, { sample: 1, sampleTimeoutMs: 100 })
  assertFound(all, { level: 'warning', code: 'SAMPLE_EMPTY', path: 'routes', advice: /does anybody publish/ })
})

test('on the command line: a report to read, or as JSON, and an exit code', { timeout }, async (t) => {
  const table = await servers.table(COLUMNS)
  const config = servers.config({ mqtt: { clientId: 'c' }, deadLetters: { dir: directory(t) }, routes: [{ topic: 'a', table }] })
  const run = async (...args) => {
    const program = startCommand(t, ['check', ...args])
    const { code, stderr } = await program.end()
    return { code, stdout: program.lines.join('\n'), stderr }
  }
  const file = configFile(t, config)
  const good = await run(file, '--strict')
  assert.equal(good.code, 0, good.stdout + good.stderr)
  assert.match(good.stdout, /^broker mqtt:.*\n {2}limits: QoS 2/)
  assert.match(good.stdout, /\n {4}lat +Float64 +field lat +required: a dead letter\n/)
  assert.match(good.stdout, /\n0 errors, 0 warnings, 2 notes$/)
  assert.equal((await run(file, '--client-id', 'c')).code, 2)

  const publisher = await servers.publisher(t)
  await publisher.publish('a', 'no JSON \u001b[2J', { retain: true })
  const sampled = await run(file, '--sample', '1', '--strict')
  await publisher.publish('a', '', { retain: true })
  assert.equal(sampled.code, 1)
  assert.match(sampled.stdout, /\nsample: 1 message in .* s, 0 rows, 1 dead letter\n.*\n {2}1 JSON_INVALID: .*\n {4}such as a no JSON \ufffd\[2J\n/)
  assert.ok(!sampled.stdout.includes('\u001b'))

  await publisher.publish('a', JSON.stringify({ ...JSON.parse(position('a', 1).payload), ts: '2026-11-30T13:00:00+01:00' }), { retain: true })
  const timed = await run(file, '--sample', '1')
  await publisher.publish('a', '', { retain: true })
  assert.match(timed.stdout, /\n {2}routes\[0\] a: 1 message, 1 row\n {4}day: 2024-02-15 is 2024-02-15\n {4}ts: 2026-11-30T13:00:00\+01:00 is 2026-11-30T12:00:00Z\n/)

  writeFileSync(file, JSON.stringify({ ...config, deadLetters: {}, routes: [{ topic: 'a', table: 'none' }] }, null, 2))
  const bad = await run(file)
  assert.equal(bad.code, 1)
  assert.match(bad.stdout, /\nerror: TABLE_NOT_FOUND routes\[0\]\.table \(.*millrace\.json:\d+:7\)\n {2}there is no table .*\n {2}→ /)
  const { ok, findings } = JSON.parse((await run(file, '--json')).stdout)
  assert.equal(ok, false)
  assertFound(findings, { code: 'TABLE_NOT_FOUND', path: 'routes[0].table' })
})
