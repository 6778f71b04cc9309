// start() while ClickHouse accepts connections and does not answer yet, as an idle service of ClickHouse Cloud does.

import assert from 'node:assert/strict'
import { connect, createServer } from 'node:net'
import { test } from 'node:test'
import { Pipeline } from '../../index.js'
import { collect, unique, useServers } from '../support/servers.mjs'

const servers = useServers()
const timeout = 60_000

/** A server before ClickHouse that holds all connections back until it is woken. */
async function sleeping(t) {
  const held = new Set()
  let isAwake = false
  const pass = (socket) => {
    const behind = connect(Number(servers.clickhouse.port), '127.0.0.1')
    socket.pipe(behind).pipe(socket)
    for (const end of [socket, behind]) end.on('error', () => [socket, behind].forEach((each) => each.destroy()))
  }
  const server = createServer((socket) => {
    socket.on('error', () => {})
    if (isAwake) pass(socket)
    else held.add(socket)
  })
  await new Promise((resolve) => server.listen(0, '127.0.0.1', () => resolve(undefined)))
  t.after(() => {
    server.close()
    held.forEach((socket) => socket.destroy())
  })
  return {
    url: `http://127.0.0.1:${/** @type {import('node:net').AddressInfo} */ (server.address()).port}`,
    wake() {
      isAwake = true
      held.forEach((socket) => socket.destroy())
    },
  }
}

const config = (url, table, more) => ({
  mqtt: { url: servers.broker.url },
  clickhouse: { url, database: servers.database, connectTimeoutMs: 200 },
  routes: [{ topic: unique('topic'), table }],
  ...more,
})

test('start() waits for a ClickHouse that does not answer yet', { timeout }, async (t) => {
  const table = await servers.table('seq UInt32')
  const asleep = await sleeping(t)
  const pipeline = new Pipeline(config(asleep.url, table))
  t.after(() => pipeline.stop())
  const warnings = collect(pipeline, 'warning')
  pipeline.on('warning', ({ code }) => code === 'CLICKHOUSE_SILENT' && warnings.length >= 2 && asleep.wake())
  await pipeline.start()
  const silent = warnings.filter(({ code }) => code === 'CLICKHOUSE_SILENT')
  assert.ok(silent.length >= 2)
  for (const { message, timeLeftMs } of silent) assert.ok(message.endsWith(` ${timeLeftMs} ms`), message)
  assert.equal(pipeline.state, 'running')
})

test('start() gives up after startTimeoutMs', { timeout }, async (t) => {
  const table = await servers.table('seq UInt32')
  const asleep = await sleeping(t)
  const pipeline = new Pipeline(config(asleep.url, table, { startTimeoutMs: 300 }))
  await assert.rejects(pipeline.start(), { code: 'CLICKHOUSE_UNREACHABLE', message: /no answer in time/ })
  assert.equal(pipeline.state, 'idle')
})
