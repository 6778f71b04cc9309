// User names and passwords that change while a pipeline runs: functions that are asked, files that are read again.

import assert from 'node:assert/strict'
import { writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { test } from 'node:test'
import { checkPipeline, describeTables, Pipeline } from '../../index.js'
import { externalBroker, externalClickHouse, startBroker, startClickHouse, waitFor } from '../../tools/servers/index.mjs'
import { configFile, directory } from '../support/config-file.mjs'
import { startCommand } from '../support/program.mjs'
import { startScriptedBroker } from '../support/scripted-broker.mjs'
import { collect, settled, unique, useServers } from '../support/servers.mjs'

const servers = useServers()
const timeout = 60_000
const reconnect = { minMs: 10, maxMs: 50 }

/** A mosquitto with one user; another one takes its place where the password changes. */
async function startGuardedBroker(t, password) {
  const options = (miller) => ({ allowAnonymous: false, users: { miller } })
  let current = await startBroker(options(password))
  const { port, url } = current
  t.after(() => current.remove())
  const change = async (next) => {
    await current.remove()
    current = await startBroker({ port, ...options(next) })
  }
  return { broker: { url }, change }
}

for (const protocolVersion of [4, 5]) {
  test(`a password of a function is asked for at each CONNECT, MQTT ${protocolVersion}`, { timeout, skip: externalBroker }, async (t) => {
    const { broker, change } = await startGuardedBroker(t, 'one')
    const table = await servers.table('seq UInt32')
    const topic = unique('topic')
    const asked = []
    let password = 'one'
    const pipeline = servers.pipeline(t, {
      mqtt: {
        url: broker.url,
        clientId: unique('client'),
        protocolVersion,
        username: () => 'miller',
        password: async () => {
          asked.push(password)
          return password
        },
        reconnect,
      },
      routes: [{ topic, table }],
    })
    const warnings = collect(pipeline, 'warning')
    await pipeline.start()
    assert.deepEqual(asked, ['one'])
    await change('two')
    const refusal = () => warnings.find(({ code }) => code === 'MQTT_REFUSED')
    await waitFor(refusal, { message: () => `a refusal: ${JSON.stringify(warnings)}` })
    const { reason, errorCode, reasonCode, url, retryInMs, message } = refusal()
    assert.equal(errorCode, 'MQTT_REFUSED')
    assert.equal(url, broker.url)
    assert.equal(reasonCode, protocolVersion === 5 ? 0x87 : 5)
    assert.match(reason, /not authorized/i)
    assert.match(message, new RegExp(`\\(code ${reasonCode}\\); connecting again in \\d+ ms`))
    assert.ok(retryInMs >= 0)
    await waitFor(() => pipeline.metrics().faults.some(({ code }) => code === 'MQTT_REFUSED'), { message: () => 'the fault' })
    password = 'two'
    await waitFor(() => pipeline.metrics().mqtt.connected === 1, { message: () => JSON.stringify(warnings.at(-1)) })
    assert.ok(asked.length >= 3 && asked.at(-1) === 'two', `${asked}`)
    assert.deepEqual(pipeline.metrics().faults, [])
    const publisher = await servers.publisher(t, { url: broker.url, username: 'miller', password: 'two' })
    await publisher.publish(topic, { seq: 1 })
    await settled(pipeline, 1)
    assert.equal(await servers.count(table), 1)
  })
}

test('a password of a file is read at each CONNECT, also by the command line', { timeout, skip: externalBroker }, async (t) => {
  const { broker, change } = await startGuardedBroker(t, 'one')
  const table = await servers.table('seq UInt32')
  const topic = unique('topic')
  const file = join(directory(t), 'password')
  writeFileSync(file, 'one\n')
  const config = servers.config({
    mqtt: { url: broker.url, clientId: unique('client'), username: 'miller', password: { file }, reconnect },
    routes: [{ topic, table }],
  })
  const check = startCommand(t, ['check', configFile(t, config), '--json'])
  const { code } = await check.end()
  assert.equal(code, 0, check.lines.join('\n'))
  const program = startCommand(t, ['run', configFile(t, config)])
  await waitFor(() => program.errors.concat(program.lines).some((line) => /running/.test(line)), { message: () => program.errors.join('\n') })
  writeFileSync(file, 'two\n')
  await change('two')
  const publisher = await servers.publisher(t, { url: broker.url, username: 'miller', password: 'two' })
  // The broker was restarted and keeps no session: a message before the program is back is lost.
  const arrives = async () => {
    await publisher.publish(topic, { seq: 1 })
    return (await servers.count(table)) > 0
  }
  await waitFor(arrives, { timeoutMs: 30_000, message: () => program.errors.join('\n') })
  program.signal('SIGTERM')
  assert.equal((await program.end()).code, 0)
})

for (const kind of ['function', 'file']) {
  test(`a password of ClickHouse that changes, from a ${kind}`, { timeout, skip: externalClickHouse }, async (t) => {
    const dir = directory(t)
    let clickhouse = await startClickHouse({ dir, users: { fleet: 'one' } })
    const { port, url } = clickhouse
    t.after(() => clickhouse.remove())
    const restart = async (fleet) => {
      await clickhouse.remove()
      clickhouse = await startClickHouse({ dir, port, users: { fleet } })
    }
    await clickhouse.command('CREATE TABLE t (seq UInt32) ENGINE = MergeTree ORDER BY seq SETTINGS non_replicated_deduplication_window = 100')
    const topic = unique('topic')
    const file = join(directory(t), 'password')
    let current = 'one'
    let asked = 0
    const change = (next) => {
      current = next
      writeFileSync(file, next)
    }
    change('one')
    const give = () => {
      asked++
      return { then: (resolve) => resolve(current) }
    }
    const config = servers.config({
      clickhouse: {
        url,
        database: 'default',
        username: 'fleet',
        password: kind === 'file' ? { file } : give,
        retry: { minMs: 10, maxMs: 50 },
      },
      routes: [{ topic, table: 't' }],
    })
    const pipeline = new Pipeline(config)
    t.after(() => pipeline.stop())
    const warnings = collect(pipeline, 'warning')
    await pipeline.start()
    const publisher = await servers.publisher(t)
    for (let seq = 0; seq < 5; seq++) {
      await publisher.publish(topic, { seq })
      await settled(pipeline, seq + 1)
    }
    if (kind === 'function') assert.equal(asked, 1)
    change('two')
    await restart('two')
    await publisher.publish(topic, { seq: 5 })
    await settled(pipeline, 6)
    if (kind === 'function') assert.equal(asked, 2)
    assert.deepEqual(warnings.filter(({ clickhouseName }) => clickhouseName === 'AUTHENTICATION_FAILED'), [])
    // One that stays wrong is a warning, and asked for again with each attempt.
    await restart('three')
    await publisher.publish(topic, { seq: 6 })
    const isRefused = () => warnings.some(({ code, clickhouseCode }) => code === 'CLICKHOUSE_RETRYING' && clickhouseCode === 516)
    await waitFor(isRefused, { message: () => JSON.stringify(warnings.at(-1)) })
    change('three')
    await settled(pipeline, 7)
    const [{ rows }] = await clickhouse.query('SELECT count() AS rows FROM t')
    assert.equal(Number(rows), 7)
    assert.equal((await checkPipeline(config)).ok, true)
    assert.match(await describeTables(config), /interface TRow/)
  })
}

test('a function that gives no text is an error of start()', { timeout }, async () => {
  const table = await servers.table('seq UInt32')
  const faults = [
    [() => 5, /the function gave a number, not a string/],
    [() => undefined, /gave undefined/],
    [async () => ({ password: 'x' }), /gave an object/],
    [() => Promise.reject(new Error('the vault is shut')), /the function failed: the vault is shut/],
    [() => { throw 'no' }, /the function failed: no/],
    [() => '', /it is empty/],
    [() => 'a\0b', /NUL/],
    [{ file: join('no', 'such', 'file') }, /no.such.file cannot be read/],
  ]
  for (const [password, message] of faults) {
    for (const change of [{ mqtt: { username: 'miller', password } }, { clickhouse: { password } }]) {
      const path = `${Object.keys(change)[0]}.password`
      const pipeline = new Pipeline(servers.config({ ...change, routes: [{ topic: 'a', table }] }))
      await assert.rejects(pipeline.start(), (/** @type {any} */ error) => {
        assert.deepEqual([error.code, error.path], ['CREDENTIALS_FAILED', path], error.message)
        assert.match(error.message, /** @type {RegExp} */ (message))
        return true
      })
      assert.equal(pipeline.state, 'idle')
      const { findings } = await checkPipeline(servers.config({ ...change, routes: [{ topic: 'a', table }] }))
      assert.ok(findings.some(({ code, path: at }) => code === 'CREDENTIALS_FAILED' && at === path), JSON.stringify(findings))
    }
  }
  const broken = servers.config({ clickhouse: { password: () => 'a\nb' }, routes: [{ topic: 'a', table }] })
  await assert.rejects(new Pipeline(broken).start(), { code: 'CREDENTIALS_FAILED', path: 'clickhouse.password' })
})

test('a function that fails while the pipeline runs is asked again', { timeout }, async (t) => {
  const broker = await startScriptedBroker(t)
  const table = await servers.table('seq UInt32')
  let fails = false
  const password = () => (fails ? Promise.reject(new Error('the vault is shut')) : 'grist')
  const mqtt = { url: broker.url, username: 'miller', password, reconnect }
  const pipeline = await servers.pipeline(t, { mqtt, routes: [{ topic: 'a', table }] })
  const warnings = collect(pipeline, 'warning')
  await pipeline.start()
  fails = true
  broker.hangUp()
  await waitFor(() => warnings.filter(({ code }) => code === 'CREDENTIALS_FAILED').length >= 2, { message: () => JSON.stringify(warnings) })
  const { errorCode, reason, retryInMs } = warnings.find(({ code }) => code === 'CREDENTIALS_FAILED')
  assert.deepEqual([errorCode, reason], ['CREDENTIALS_FAILED', 'mqtt.password: the function failed: the vault is shut'])
  assert.ok(retryInMs >= 0)
  assert.equal(broker.connections, 1)
  fails = false
  await waitFor(() => pipeline.metrics().mqtt.connected === 1, { message: () => 'the connection' })
})

test('a promise that never settles holds up no stop', { timeout }, async (t) => {
  const broker = await startScriptedBroker(t)
  const table = await servers.table('seq UInt32')
  let asked = 0
  const never = () => {
    asked++
    return new Promise(() => {})
  }
  for (const change of [{ mqtt: { url: broker.url, username: 'miller', password: never } }, { clickhouse: { password: never } }]) {
    const before = asked
    const starting = new Pipeline(servers.config({ ...change, routes: [{ topic: 'a', table }] }))
    const started = assert.rejects(starting.start(), { code: 'ABORTED' })
    await waitFor(() => asked > before, { message: () => 'the call' })
    await starting.stop()
    await started
  }
  let isFirst = true
  const password = () => {
    if (!isFirst) return never()
    isFirst = false
    return 'grist'
  }
  const mqtt = { url: broker.url, username: 'miller', password, reconnect }
  const pipeline = await servers.started(t, { mqtt, routes: [{ topic: 'a', table }] })
  const before = asked
  broker.hangUp()
  await waitFor(() => asked > before, { message: () => 'the call' })
  await pipeline.stop()
  assert.equal(pipeline.state, 'stopped')
})

test('wrong credentials are CONFIG_INVALID', () => {
  const plain = { routes: [{ topic: 'a', table: 't' }] }
  const wrong = [
    [5, '', /must be a string, { file } or a function, not a number/],
    [['a'], '', /not a list/],
    [true, '', /not a boolean/],
    [{}, '.file', /is required/],
    [{ file: '' }, '.file', /must not be empty/],
    [{ file: 5 }, '.file', /must be a string/],
    [{ file: 'a', path: 'b' }, '.path', /is not an option/],
    [{ function: true }, '.function', /is not an option/],
    [Symbol('a'), '', /must not be a symbol/],
  ]
  for (const [value, suffix, message] of wrong) {
    for (const [section, name] of [['mqtt', 'username'], ['mqtt', 'password'], ['clickhouse', 'password']]) {
      const config = /** @type {any} */ ({
        mqtt: { url: 'mqtt://one.invalid', username: 'a' },
        clickhouse: { url: 'http://one.invalid' },
        ...plain,
      })
      config[section][name] = value
      assert.throws(() => new Pipeline(config), (/** @type {any} */ error) => {
        assert.deepEqual([error.code, error.path], ['CONFIG_INVALID', `${section}.${name}${String(suffix)}`], error.message)
        assert.match(error.message, /** @type {RegExp} */ (message))
        return true
      })
    }
  }
  const needsName = /** @type {any} */ ({ mqtt: { url: 'mqtt://one.invalid', password: () => 'a' }, clickhouse: { url: 'http://one.invalid' }, ...plain })
  assert.throws(() => new Pipeline(needsName), { code: 'CONFIG_INVALID', path: 'mqtt.password' })
})
