// The servers of all other tests: they answer, keep their data over restarts, and end with the process that started them.

import assert from 'node:assert/strict'
import { spawn } from 'node:child_process'
import { existsSync } from 'node:fs'
import { createInterface } from 'node:readline'
import { test } from 'node:test'
import mqtt from 'mqtt'
import {
  externalBroker,
  externalClickHouse,
  startAedes,
  startBroker,
  startClickHouse,
  waitFor,
} from '../../tools/servers/index.mjs'

const SERVERS = new URL('../../tools/servers/index.mjs', import.meta.url).href

const clickHouseTest = { skip: externalClickHouse && 'CLICKHOUSE_URL names the server', timeout: 60_000 }
const brokerTest = { skip: externalBroker && 'MQTT_URL names the broker', timeout: 60_000 }

test('ClickHouse comes back with its data, whether it was stopped or killed', clickHouseTest, async (t) => {
  const clickHouse = await startClickHouse()
  t.after(() => clickHouse.remove())
  await clickHouse.command('CREATE TABLE t (a UInt32, b String) ENGINE = MergeTree ORDER BY a')
  const rows = [
    { a: 1, b: 'one' },
    { a: 2, b: 'two' },
  ]
  await clickHouse.command(`INSERT INTO t FORMAT JSONEachRow ${rows.map((row) => JSON.stringify(row)).join('\n')}`)
  const { pid } = clickHouse

  for (const end of ['stop', 'kill']) {
    await clickHouse[end]()
    assert.equal(clickHouse.pid, undefined)
    await assert.rejects(clickHouse.query('SELECT 1'))
    await clickHouse.start()
    assert.deepEqual(await clickHouse.query('SELECT * FROM t ORDER BY a'), rows)
  }
  assert.notEqual(clickHouse.pid, pid)
})

test("ClickHouse's errors are its own words", clickHouseTest, async (t) => {
  const clickHouse = await startClickHouse({ users: { writer: 'a <secret>' } })
  t.after(() => clickHouse.remove())
  await assert.rejects(clickHouse.query('SELECT nothing'), /^Error: Code: 47\./)
  const late = 'SELECT throwIf(number = 5000000) FROM numbers(6000000)'
  await assert.rejects(clickHouse.query(late), /^Error: Code: 395\./)

  const whoAmI = async (password) => {
    const headers = { 'x-clickhouse-user': 'writer', 'x-clickhouse-key': password }
    const response = await fetch(`${clickHouse.url}/?query=SELECT+currentUser()`, { headers })
    return (await response.text()).trim()
  }
  assert.equal(await whoAmI('a <secret>'), 'writer')
  assert.match(await whoAmI('wrong'), /^Code: 516\./)
})

test('a server that cannot start says why', clickHouseTest, async (t) => {
  const clickHouse = await startClickHouse()
  t.after(() => clickHouse.remove())
  await assert.rejects(startClickHouse({ dir: clickHouse.dir }), /Another server instance in same directory/)
  await assert.rejects(clickHouse.start(), /is running already/)
})

test('mosquitto keeps its sessions over a restart', brokerTest, async (t) => {
  const broker = await startBroker({ persistence: true, users: { driver: 'secret' }, allowAnonymous: false })
  t.after(() => broker.remove())
  const anonymous = mqtt.connectAsync(broker.url, { reconnectPeriod: 0 })
  await assert.rejects(anonymous, /Not authorized/)

  const driver = { username: 'driver', password: 'secret' }
  const subscriber = { ...driver, clientId: 'subscriber', clean: false }
  const first = await mqtt.connectAsync(broker.url, subscriber)
  await first.subscribeAsync('position', { qos: 1 })
  await first.endAsync()
  const publisher = await mqtt.connectAsync(broker.url, driver)
  const sent = Array.from({ length: 2_000 }, (_, i) => String(i))
  await Promise.all(sent.map((payload) => publisher.publishAsync('position', payload, { qos: 1 })))
  await publisher.endAsync()

  await broker.stop()
  await broker.start()

  const received = []
  const second = mqtt.connect(broker.url, subscriber)
  second.on('message', (_, payload) => received.push(String(payload)))
  t.after(() => second.endAsync(true))
  await waitFor(() => received.length >= sent.length, { message: () => `2,000 messages (${received.length} so far)` })
  assert.deepEqual(received, sent)
})

test('aedes takes and gives messages', { timeout: 60_000 }, async (t) => {
  const broker = await startAedes()
  t.after(() => broker.remove())
  const client = await mqtt.connectAsync(broker.url)
  t.after(() => client.endAsync(true))
  await client.subscribeAsync('position')
  let received
  client.on('message', (_, payload) => (received = String(payload)))
  await client.publishAsync('position', 'here', { qos: 1 })
  await waitFor(() => received === 'here')
})

test('servers and their directories end with a process that is killed', clickHouseTest, async (t) => {
  const program = `
    import { startAedes, startBroker, startClickHouse } from ${JSON.stringify(SERVERS)}
    const servers = await Promise.all([startClickHouse(), startAedes()${externalBroker ? '' : ', startBroker()'}])
    console.log(JSON.stringify({ pids: servers.map((server) => server.pid), dir: servers[0].dir }))
    setInterval(() => {}, 1000)`
  const process = spawn(globalThis.process.execPath, ['--input-type=module', '--eval', program], {
    stdio: ['ignore', 'pipe', 'inherit'],
  })
  t.after(() => process.kill('SIGKILL'))
  let line
  createInterface({ input: process.stdout }).once('line', (first) => (line = first))
  await waitFor(() => line, { timeoutMs: 30_000, message: 'the servers being started' })
  const { pids, dir } = JSON.parse(line)
  assert.ok(existsSync(dir))
  assert.ok(pids.every(isAlive))

  process.kill('SIGKILL')
  await waitFor(() => !pids.some(isAlive) && !existsSync(dir), { message: 'everything being gone' })
})

function isAlive(pid) {
  try {
    return process.kill(pid, 0)
  } catch {
    return false
  }
}
