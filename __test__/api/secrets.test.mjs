// A secret that is planted in a configuration appears in no text: not in errors, reports, warnings, events, traces, metrics,
// pages, logs, nor on the command line, wherever it stands and whatever goes wrong.

import assert from 'node:assert/strict'
import { once } from 'node:events'
import { createServer as createHttpServer, request } from 'node:http'
import { createServer } from 'node:net'
import { inspect } from 'node:util'
import { test } from 'node:test'
import { BasicTracerProvider, InMemorySpanExporter, SimpleSpanProcessor } from '@opentelemetry/sdk-trace-base'
import { checkPipeline, describeTables, Pipeline, replayDeadLetters, serveHttp } from '../../index.js'
import { externalBroker, startBroker, waitFor } from '../../tools/servers/index.mjs'
import { configFile, directory } from '../support/config-file.mjs'
import { startCommand } from '../support/program.mjs'
import { startScriptedBroker } from '../support/scripted-broker.mjs'
import { settled, unique, useServers } from '../support/servers.mjs'

const servers = useServers()
const timeout = 60_000

const SECRET = 'grist-4711-secret'
/** As it may be spelled in a URL, a header or an escape. */
const SPELLINGS = [SECRET, Buffer.from(SECRET).toString('base64'), encodeURIComponent(SECRET)]

/** Everything that a value says, also what is not enumerable. */
function textOf(value) {
  const parts = [typeof value === 'string' ? value : inspect(value, { depth: 20, showHidden: true, maxStringLength: null })]
  for (let error = value; error instanceof Error; error = error.cause) parts.push(error.message, error.stack ?? '')
  try {
    parts.push(JSON.stringify(value) ?? '')
  } catch {
    // Not everything can be JSON.
  }
  return parts.join('\n')
}

function assertSilent(value, about) {
  const text = textOf(value)
  for (const spelling of SPELLINGS) {
    const at = text.indexOf(spelling)
    assert.equal(at, -1, `${about}: …${text.slice(Math.max(0, at - 80), at + 80)}…`)
  }
}

/** The error of a call, or its result. */
async function outcome(call) {
  try {
    return await call()
  } catch (error) {
    return error
  }
}

const inUrl = (scheme, host) => [
  `${scheme}://user:${SECRET}@${host}`,
  `${scheme}://${SECRET}@${host}`,
  `${scheme}://user:a@b?c#d/${SECRET}@${host}`,
  `${scheme}://user:${SECRET}`,
  `${scheme}:/user:${SECRET}@${host}`,
  `user:${SECRET}@${host}`,
  `${scheme}://${host}/?user=${SECRET}&password=${SECRET}`,
  `${scheme}://${host}?${SECRET}`,
  `${scheme}://${host}/a b?token=${SECRET}`,
  `${scheme}://${host}/mqtt?token=${SECRET}#a`,
  `${scheme}://${host}/#${SECRET}`,
  `${scheme}://${host}/password=${SECRET}`,
  `${scheme}://${host}:${SECRET}`,
  `${scheme}://[::1?${SECRET}`,
  ` ${scheme}://user:${SECRET}@${host}`,
]

const wrongUrls = ['mqtt', 'mqtts', 'ws', 'wss', 'http', 'https', 'redis'].flatMap((scheme) => inUrl(scheme, 'one.invalid'))
const plain = { mqtt: { url: 'mqtt://one.invalid' }, clickhouse: { url: 'http://one.invalid:1' }, routes: [{ topic: 'a', table: 't' }] }
/** @param {any} change */
const but = ({ mqtt, clickhouse }) => ({ ...plain, mqtt: { ...plain.mqtt, ...mqtt }, clickhouse: { ...plain.clickhouse, ...clickhouse } })

test('the constructor names no secret, wherever it stands', { timeout }, () => {
  const changes = [
    ...wrongUrls.flatMap((url) => [
      { mqtt: { url } },
      { mqtt: { url: ['mqtt://one.invalid', url] } },
      { clickhouse: { url } },
      { clickhouse: { url: [url] } },
    ]),
    { mqtt: { password: SECRET } },
    { mqtt: { username: 'user', password: [SECRET] } },
    { mqtt: { username: 'user', password: `a\0${SECRET}` } },
    { mqtt: { username: 'user', password: { file: [SECRET] } } },
    { mqtt: { username: 'user', password: { secret: SECRET } } },
    { mqtt: { pasword: SECRET } },
    { clickhouse: { password: { a: SECRET } } },
    { clickhouse: { password: `a\r\n${SECRET}` } },
    { clickhouse: { username: `a\r\n${SECRET}` } },
    { clickhouse: { settings: SECRET } },
    { clickhouse: { settings: { s3_secret: [SECRET] } } },
    { mqtt: { url: 'mqtts://one.invalid', tls: SECRET } },
    { mqtt: { url: 'mqtts://one.invalid', tls: { key: SECRET } } },
    { mqtt: { url: 'mqtts://one.invalid', tls: { cert: 'a', key: { pem: SECRET } } } },
  ]
  let refused = 0
  for (const change of changes) {
    try {
      assertSilent(new Pipeline(/** @type {any} */ (but(change))), 'a pipeline')
    } catch (error) {
      refused++
      assert.equal(error.code, 'CONFIG_INVALID', error.message)
      assertSilent(error, JSON.stringify(change))
    }
  }
  assert.ok(refused > changes.length * 0.8, `${refused} of ${changes.length} were refused`)
})

test('line breaks in credentials are CONFIG_INVALID', () => {
  for (const option of ['username', 'password']) {
    for (const value of ['a\r\nx: y', 'a\n', '\u007f']) {
      assert.throws(() => new Pipeline(/** @type {any} */ (but({ clickhouse: { [option]: value } }))), {
        code: 'CONFIG_INVALID',
        path: `clickhouse.${option}`,
      })
    }
  }
})

test('reports and replays name no secret', { timeout }, async () => {
  for (const url of wrongUrls.slice(0, 15)) {
    for (const change of [{ mqtt: { url } }, { clickhouse: { url } }]) {
      const config = /** @type {any} */ (but(change))
      for (const call of [
        () => checkPipeline(config),
        () => describeTables(config),
        () => replayDeadLetters(config, { dir: 'nowhere' }),
      ]) {
        assertSilent(await outcome(call), url)
      }
    }
  }
})

/** Answers every connection with these bytes and ends it. */
async function startStranger(t, bytes) {
  const server = createServer((socket) => {
    socket.on('error', () => {})
    socket.once('data', () => socket.end(bytes))
  })
  server.listen(0, '127.0.0.1')
  await once(server, 'listening')
  t.after(() => server.close())
  return /** @type {import('node:net').AddressInfo} */ (server.address()).port
}

/** A ClickHouse that knows one user and a password. */
async function startGate(t, target) {
  const gate = { url: '', refuses: false }
  const server = createHttpServer((incoming, answer) => {
    const { 'x-clickhouse-key': key, 'x-clickhouse-user': user, authorization, host, ...headers } = incoming.headers
    const basic = Buffer.from(authorization?.replace('Basic ', '') ?? '', 'base64').toString()
    const isKnown = (user === 'miller' && key === SECRET) || basic === `miller:${SECRET}`
    if (gate.refuses || !isKnown) {
      incoming.resume()
      answer.writeHead(403, { 'x-clickhouse-exception-code': '516' })
      answer.end('Code: 516. DB::Exception: miller: Authentication failed: password is incorrect. (AUTHENTICATION_FAILED)')
      return
    }
    const url = new URL(incoming.url ?? '', target)
    incoming.pipe(
      request(url, { method: incoming.method, headers }, (response) => {
        answer.writeHead(response.statusCode ?? 500, response.headers)
        response.pipe(answer)
      }),
    )
  })
  server.listen(0, '127.0.0.1')
  await once(server, 'listening')
  t.after(() => server.close())
  gate.url = `http://127.0.0.1:${/** @type {import('node:net').AddressInfo} */ (server.address()).port}`
  return gate
}

test('servers that refuse, fail or are something else', { timeout, skip: externalBroker }, async (t) => {
  const table = await servers.table('seq UInt32')
  const routes = [{ topic: unique('topic'), table }]
  const guarded = await startBroker({ allowAnonymous: false, users: { miller: 'other' } })
  t.after(() => guarded.remove())
  const silent = await startScriptedBroker(t, { subscribe: 0x80 })
  const http = await startStranger(t, 'HTTP/1.1 500 Internal Server Error\r\nContent-Length: 4\r\n\r\noops')
  const garbage = await startStranger(t, 'nothing that anybody knows\r\n\r\n')
  const login = { username: 'miller', password: SECRET }
  const broker = servers.broker.url
  const changes = [
    { mqtt: { url: guarded.url, ...login } },
    { mqtt: { url: silent.url, ...login, protocolVersion: 4 } },
    { mqtt: { url: `mqtt://127.0.0.1:${http}`, ...login } },
    { mqtt: { url: `ws://127.0.0.1:${http}/mqtt?token=${SECRET}`, ...login } },
    { mqtt: { url: `ws://127.0.0.1:${http}/token=${SECRET}/mqtt`, ...login } },
    { mqtt: { url: `wss://127.0.0.1:${garbage}/mqtt?token=${SECRET}`, ...login } },
    { mqtt: { url: `ws://one.invalid/?token=${SECRET}`, ...login } },
    { mqtt: { url: broker }, clickhouse: { ...login, username: 'default' } },
    { mqtt: { url: guarded.url, username: 'miller', password: () => SECRET } },
    { mqtt: { url: guarded.url, username: 'miller', password: () => [SECRET] } },
    { mqtt: { url: guarded.url, username: 'miller', password: () => `a\0${SECRET}` } },
    { mqtt: { url: broker }, clickhouse: { username: 'default', password: async () => SECRET } },
    { mqtt: { url: broker }, clickhouse: { username: 'default', password: () => `a\n${SECRET}` } },
    { mqtt: { url: broker }, clickhouse: { url: `http://127.0.0.1:${http}`, ...login } },
    { mqtt: { url: broker }, clickhouse: { url: `http://127.0.0.1:${garbage}/password=${SECRET}`, ...login } },
    { mqtt: { url: broker }, clickhouse: { url: `https://127.0.0.1:${garbage}`, ...login } },
    { mqtt: { url: broker }, clickhouse: { settings: { no_such_setting: SECRET } } },
  ]
  for (const change of changes) {
    const config = servers.config({ ...change, routes, startTimeoutMs: 300 })
    const told = []
    const logger = Object.fromEntries(['debug', 'info', 'warn', 'error'].map((level) => [level, (...said) => told.push(said)]))
    const pipeline = new Pipeline({ ...config, logger: /** @type {any} */ (logger) })
    for (const event of ['state', 'warning', 'error']) pipeline.on(/** @type {any} */ (event), (said) => told.push(said))
    told.push(await outcome(() => pipeline.start()))
    told.push(await outcome(() => checkPipeline(config)), await outcome(() => describeTables(config)))
    await outcome(() => pipeline.stop())
    assert.ok(told.some((said) => said instanceof Error), JSON.stringify(change.mqtt ?? change.clickhouse))
    // ClickHouse's own text about a setting may hold its value; that is not a password.
    const isEchoed = change.clickhouse && 'settings' in change.clickhouse
    if (!isEchoed) assertSilent(told, JSON.stringify(Object.keys(change)))
  }
})

test('a running pipeline, with all its events', { timeout, skip: externalBroker }, async (t) => {
  const gate = await startGate(t, servers.clickhouse.url)
  const broker = await startBroker({ allowAnonymous: false, users: { miller: SECRET } })
  t.after(() => broker.remove())
  const table = await servers.table('seq UInt32')
  const topic = unique('topic')
  const told = []
  const logger = Object.fromEntries(['debug', 'info', 'warn', 'error'].map((level) => [level, (...said) => told.push(said)]))
  const exporter = new InMemorySpanExporter()
  const provider = new BasicTracerProvider({ spanProcessors: [new SimpleSpanProcessor(exporter)] })
  const tracer = provider.getTracer('test')
  const pipeline = new Pipeline(
    /** @type {any} */ (
      servers.config({
        mqtt: { url: broker.url, username: 'miller', password: SECRET, reconnect: { minMs: 10, maxMs: 50 } },
        clickhouse: { url: gate.url, username: 'miller', password: SECRET, retry: { minMs: 10, maxMs: 50 } },
        routes: [{ topic, table }],
        tracing: { tracer, sampleRatio: 1 },
        metricsIntervalMs: 50,
        logger,
      })
    ),
  )
  for (const event of ['state', 'warning', 'error', 'deadLetters', 'metrics', 'trace']) {
    pipeline.on(/** @type {any} */ (event), (said) => told.push(said))
  }
  const page = await serveHttp(pipeline)
  t.after(() => page.close())
  await pipeline.start()
  t.after(() => outcome(() => pipeline.stop()))
  const publisher = await servers.publisher(t, { url: broker.url, username: 'miller', password: SECRET })
  await publisher.publish(topic, { seq: 1 })
  await publisher.publish(topic, 'no row')
  await settled(pipeline, 2)
  gate.refuses = true
  await publisher.publish(topic, { seq: 2 })
  await waitFor(() => told.some(({ code }) => code === 'CLICKHOUSE_RETRYING'), { message: () => 'the warning' })
  gate.refuses = false
  await settled(pipeline, 3)
  await broker.stop()
  await waitFor(() => told.some(({ code }) => code === 'MQTT_RECONNECTING'), { message: () => 'the warning' })
  for (const path of ['', 'metrics', 'status.json', 'healthz', 'readyz']) {
    told.push(await (await fetch(`${page.url}${path}`)).text())
  }
  const spans = exporter.getFinishedSpans().map(({ name, attributes, status, events }) => ({ name, attributes, status, events }))
  assert.ok(spans.length > 1)
  told.push(spans, pipeline.metrics(), pipeline.prometheus(), pipeline)
  assert.ok(told.length > 10)
  assertSilent(told, 'the pipeline')
})

test('the command line', { timeout }, async (t) => {
  const table = await servers.table('seq UInt32')
  const routes = [{ topic: unique('topic'), table }]
  const dir = directory(t)
  const wrong = [
    { mqtt: { url: `mqtt://user:${SECRET}@one.invalid` } },
    { clickhouse: { url: `http://one.invalid/?password=${SECRET}` } },
    { mqtt: { url: 'mqtt://127.0.0.1:1', username: 'miller', password: SECRET } },
    { clickhouse: { url: 'http://127.0.0.1:1', password: SECRET } },
    { clickhouse: { username: 'default', password: SECRET } },
  ]
  for (const change of wrong) {
    const file = configFile(t, servers.config({ ...change, routes, startTimeoutMs: 300 }))
    for (const args of [
      ['check', file],
      ['check', file, '--json'],
      ['run', file],
      ['types', file],
      ['replay', file, '--dir', dir],
    ]) {
      const program = startCommand(t, args)
      const { stderr } = await program.end()
      assertSilent([program.lines, stderr].flat().join('\n'), args.join(' '))
    }
  }
  // The text around a place where the file is not JSON is not quoted.
  const broken = configFile(t, `{ "mqtt": { "password": "${SECRET}" "x" } }`)
  const program = startCommand(t, ['run', broken])
  const { stderr } = await program.end()
  assert.match(stderr, /this is not JSON/)
  assertSilent(stderr, 'a broken file')
})
