// The command line with real servers: configuration files, signals, output and exit codes.

import assert from 'node:assert/strict'
import { once } from 'node:events'
import { readFileSync, readdirSync } from 'node:fs'
import { createServer } from 'node:net'
import { join } from 'node:path'
import { test } from 'node:test'
import { describeTables, Pipeline } from '../../index.js'
import { Output, statusLine } from '../../lib/cli/output.js'
import { externalBroker, externalClickHouse, startClickHouse, waitFor } from '../../tools/servers/index.mjs'
import { configFile, directory } from '../support/config-file.mjs'
import { assertLedger } from '../support/ledger.mjs'
import { assertPositions, COLUMNS, position, route } from '../support/positions.mjs'
import { startCommand } from '../support/program.mjs'
import { unique, useServers } from '../support/servers.mjs'

const servers = useServers()
const timeout = 120_000
const skip = externalBroker || externalClickHouse

/** The output and the exit code of a command. */
async function millrace(t, args, env = {}) {
  const program = startCommand(t, args, env)
  const { code, stderr } = await program.end()
  return { code, stderr, stdout: program.lines.join('\n'), lines: program.lines }
}

/** The output of a running command so far, as objects. */
const said = (program) => program.lines.map((line) => JSON.parse(line))

/** A running `millrace run`. */
async function running(t, file, options = [], env = {}) {
  const program = startCommand(t, ['run', file, ...options], env)
  await waitFor(() => said(program).some(({ msg }) => msg === 'running') || !program.running(), {
    timeoutMs: 30_000,
    message: () => `running: ${program.lines.join('\n')} ${program.errors.join('\n')}`,
  })
  return program
}

test('a run that is ended by SIGTERM under load loses nothing', { timeout }, async (t) => {
  const table = await servers.table(COLUMNS)
  const prefix = unique('topic')
  const clientId = unique('client')
  const config = servers.config({ mqtt: { clientId }, routes: [route(prefix, table)] })
  const file = configFile(t, {
    $schema: '../millrace.schema.json',
    ...config,
    mqtt: { ...config.mqtt, url: '${TEST_BROKER}' },
    clickhouse: { ...config.clickhouse, username: '${TEST_USER:-default}' },
  })
  const env = { TEST_BROKER: servers.broker.url, TEST_USER: config.clickhouse.username }
  const first = await running(t, file, [], env)

  const publisher = await servers.publisher(t)
  const count = 60_000
  let acknowledged = 0
  const publishing = publisher.flood(count, (i) => position(prefix, i), { acknowledged: () => acknowledged++ })
  await waitFor(async () => (await servers.count(table)) > 0, { timeoutMs: 30_000, message: () => 'rows' })
  assert.ok(acknowledged < count, 'it is under load')
  first.signal('SIGTERM')
  const { code, stderr } = await first.end()
  assert.equal(code, 0, `${stderr} ${first.lines.at(-1)}`)
  const last = said(first).findLast(({ msg }) => msg === 'metrics').metrics
  assert.equal(last.state, 'stopped')
  assert.equal(last.messages.pending, 0)
  assertLedger(last)
  await publishing

  const second = await running(t, file, [], env)
  await waitFor(async () => (await servers.count(table)) >= count, {
    timeoutMs: 60_000,
    message: () => `all rows: ${second.lines.at(-1)}`,
  })
  second.signal('SIGINT')
  assert.equal((await second.end()).code, 0)
  await assertPositions(servers, table, count)
  assert.ok(said(second).some(({ msg, signal }) => signal === 'SIGINT' && /draining/.test(msg)))
})

test('metrics, probes and the dashboard are served while it runs', { timeout }, async (t) => {
  const table = await servers.table(COLUMNS)
  const file = configFile(t, servers.config({ name: 'served', routes: [route(unique('topic'), table)] }))
  const program = await running(t, file, ['--http', '0'])
  const { url } = said(program).find(({ url }) => url)
  assert.match(url, /^http:\/\/127\.0\.0\.1:\d+\/$/)
  const get = async (path) => {
    const response = await fetch(new URL(path, url), { headers: { connection: 'close' } })
    return { status: response.status, text: await response.text() }
  }
  const metrics = await get('metrics')
  assert.equal(metrics.status, 200)
  assert.match(metrics.text, /pipeline="served"/)
  for (const path of ['healthz', 'readyz', '']) assert.equal((await get(path)).status, 200, path)

  const taken = await millrace(t, ['run', file, '--http', new URL(url).host])
  assert.equal(taken.code, 1)
  assert.match(taken.stderr, /^millrace: --http: .*EADDRINUSE|in use/)
  program.signal('SIGTERM')
  assert.equal((await program.end()).code, 0)
  await assert.rejects(get('healthz'))
})

test('a drain that takes too long ends by its timeout, a second signal at once; both lose nothing', { timeout, skip }, async (t) => {
  const clickhouse = await startClickHouse()
  t.after(() => clickhouse.remove())
  await clickhouse.command(`CREATE TABLE positions (${COLUMNS}) ENGINE MergeTree ORDER BY seq
    SETTINGS non_replicated_deduplication_window = 1000`)
  const prefix = unique('topic')
  const file = configFile(t, {
    mqtt: { url: servers.broker.url, clientId: unique('client') },
    clickhouse: { url: clickhouse.url, retry: { minMs: 10, maxMs: 50 } },
    routes: [route(prefix, 'positions')],
    batch: { maxDelayMs: 50 },
  })
  const publisher = await servers.publisher(t)
  const pending = async (program) => {
    await waitFor(() => said(program).findLast(({ msg }) => msg === 'metrics')?.metrics.messages.pending > 0, {
      message: () => `pending messages: ${program.lines.at(-1)}`,
    })
  }

  const slow = await running(t, file, ['--drain-timeout', '200ms', '--log-interval', '50ms'])
  await clickhouse.stop()
  await publisher.flood(1_000, (i) => position(prefix, i))
  await pending(slow)
  slow.signal('SIGTERM')
  assert.equal((await slow.end()).code, 3)
  assert.ok(said(slow).some(({ level, code }) => level === 'error' && code === 'STOP_TIMEOUT'))

  await clickhouse.start()
  const patient = await running(t, file, ['--drain-timeout', '10m', '--log-interval', '50ms'])
  await waitFor(async () => (await clickhouse.query('SELECT count() AS n FROM positions'))[0].n === 1_000, {
    timeoutMs: 30_000,
    message: () => `the rows of before: ${patient.lines.at(-1)}`,
  })
  await clickhouse.stop()
  await publisher.flood(1_000, (i) => position(prefix, 1_000 + i))
  await pending(patient)
  patient.signal('SIGINT')
  await waitFor(() => said(patient).some(({ signal }) => signal === 'SIGINT'), { message: () => 'draining' })
  patient.signal('SIGINT')
  assert.equal((await patient.end()).code, 130)

  await clickhouse.start()
  const last = await running(t, file)
  await waitFor(async () => (await clickhouse.query('SELECT uniqExact(seq) AS n FROM positions'))[0].n === 2_000, {
    timeoutMs: 30_000,
    message: () => `all rows: ${last.lines.at(-1)}`,
  })
  last.signal('SIGTERM')
  assert.equal((await last.end()).code, 0)
})

test('a program whose output is not read goes on, and drains', { timeout }, async (t) => {
  const table = await servers.table(COLUMNS)
  const prefix = unique('topic')
  const config = servers.config({ mqtt: { clientId: unique('client') }, routes: [route(prefix, table)] })
  const program = await running(t, configFile(t, config), ['--log-interval', '10ms'])
  program.deafen()
  const publisher = await servers.publisher(t)
  await publisher.flood(5_000, (i) => position(prefix, i))
  await waitFor(async () => (await servers.count(table)) > 0, { message: () => program.errors.join('\n') })
  program.signal('SIGTERM')
  const { code, stderr } = await program.end()
  assert.equal(code, 0, stderr)
})

test('a signal while it starts ends it', { timeout }, async (t) => {
  // It listens and never answers.
  const silent = createServer().listen(0, '127.0.0.1')
  t.after(() => silent.close())
  await once(silent, 'listening')
  const { port } = /** @type {import('node:net').AddressInfo} */ (silent.address())
  const clickhouse = { url: `http://127.0.0.1:${port}`, connectTimeoutMs: 3_600_000 }
  const file = configFile(t, servers.config({ clickhouse, routes: [{ topic: 'a', table: 't' }] }))
  const program = startCommand(t, ['run', file])
  await waitFor(() => said(program).some(({ msg }) => msg === 'starting'), { message: () => program.errors.join('\n') })
  program.signal('SIGTERM')
  const { code, stderr } = await program.end()
  assert.equal(code, 0, stderr)
})

test('with --wait a start waits for a ClickHouse that is away', { timeout, skip }, async (t) => {
  const clickhouse = await startClickHouse()
  t.after(() => clickhouse.remove())
  await clickhouse.command(`CREATE TABLE positions (${COLUMNS}) ENGINE MergeTree ORDER BY seq
    SETTINGS non_replicated_deduplication_window = 1000`)
  await clickhouse.stop()
  const file = configFile(t, {
    mqtt: { url: servers.broker.url },
    clickhouse: { url: clickhouse.url },
    routes: [route(unique('topic'), 'positions')],
  })
  const program = startCommand(t, ['run', file, '--wait', '--http', '0'])
  const isWaiting = () => said(program).some(({ code, retryInMs }) => code === 'CLICKHOUSE_UNREACHABLE' && retryInMs > 0)
  await waitFor(isWaiting, { timeoutMs: 30_000, message: () => `waiting: ${program.lines.join('\n')} ${program.errors.join('\n')}` })
  const { url } = said(program).find((line) => line.url)
  const status = async (path) => (await fetch(new URL(path, url), { headers: { connection: 'close' } })).status
  assert.deepEqual([await status('healthz'), await status('readyz')], [200, 503])
  await clickhouse.start()
  await waitFor(async () => (await status('readyz')) === 200, { timeoutMs: 30_000, message: 'ready' })
  await clickhouse.stop()
  program.signal('SIGTERM')
  assert.equal((await program.end()).code, 0)

  const ended = startCommand(t, ['run', file, '--wait'])
  await waitFor(() => said(ended).some(({ retryInMs }) => retryInMs > 0), { timeoutMs: 30_000, message: 'waiting' })
  ended.signal('SIGTERM')
  assert.equal((await ended.end()).code, 0)
})

test('a pipeline that cannot start says why, by the place in the file, and exits with 1', { timeout }, async (t) => {
  const file = configFile(
    t,
    `{
  // no such table
  "mqtt": { "url": "${servers.broker.url}" },
  "clickhouse": ${JSON.stringify(servers.config({}).clickhouse)},
  "routes": [
    { "topic": "a", "table": "nowhere" },
  ],
}`,
  )
  const { code, lines } = await millrace(t, ['run', file])
  assert.equal(code, 1)
  const error = lines.map((line) => JSON.parse(line)).find(({ level }) => level === 'error')
  assert.equal(error.code, 'TABLE_NOT_FOUND')
  assert.ok(error.msg.startsWith(`${file}:6:21: `), error.msg)
})

test('messages reach a table, or dead letters and from there the table by replay', { timeout }, async (t) => {
  const table = await servers.table('seq UInt8')
  const topic = unique('topic')
  const dir = directory(t)
  const config = servers.config({ deadLetters: { dir }, routes: [{ topic, table }] })
  const file = configFile(t, config)
  const program = await running(t, file)
  const publisher = await servers.publisher(t)
  for (const seq of [1, 256, 'x', 2]) await publisher.publish(topic, { seq })
  await waitFor(() => said(program).filter(({ letters }) => letters).length > 0, { message: () => program.lines.join('\n') })
  await waitFor(async () => (await servers.count(table)) === 2, { message: () => program.lines.join('\n') })
  program.signal('SIGTERM')
  assert.equal((await program.end()).code, 0)
  const codes = said(program).flatMap(({ letters = [] }) => letters.map(({ code }) => code))
  assert.deepEqual(codes.sort(), ['OUT_OF_RANGE', 'TYPE_MISMATCH'])
  assert.equal(readdirSync(dir).length, 1)

  // Still the same faults: they fail again.
  const again = await millrace(t, ['replay', file])
  assert.equal(again.code, 1, again.stderr)
  assert.equal(JSON.parse(again.lines.at(-1)).report.deadLettered, 2)
  await servers.command(`ALTER TABLE ${table} MODIFY COLUMN seq String`)
  const mended = await millrace(t, ['replay', file, '--dir', dir])
  assert.equal(mended.code, 0, mended.stdout + mended.stderr)
  assert.deepEqual(await servers.rows(`SELECT seq FROM ${table} ORDER BY seq`), ['1', '2', '256', 'x'].map((seq) => ({ seq })))

  const usage = await millrace(t, ['replay', file, '--dir', dir, '--table', 'letters'])
  assert.equal(usage.code, 2)
  assert.match(usage.stderr, /--dir, --file and --table: only one of them/)
})

test('types are written to standard output or to a file', { timeout }, async (t) => {
  const table = await servers.table(COLUMNS)
  const config = servers.config({ routes: [route(unique('topic'), table)] })
  const file = configFile(t, config)
  const expected = await describeTables(config)
  const printed = await millrace(t, ['types', file])
  assert.equal(printed.code, 0)
  assert.equal(`${printed.stdout}\n`, expected)
  const out = join(directory(t), 'tables.ts')
  assert.equal((await millrace(t, ['types', file, '--out', out])).code, 0)
  assert.equal(readFileSync(out, 'utf8'), expected)
})

test('mistakes of the command line and of the file end with 2 and name what is wrong', { timeout }, async (t) => {
  const config = { mqtt: { url: 'mqtt://127.0.0.1:1' }, clickhouse: { url: 'http://127.0.0.1:1' }, routes: [{ topic: 'a', table: 't' }] }
  const right = configFile(t, config)
  const wrong = configFile(t, { ...config, batch: { maxRow: 5 } })
  const unset = configFile(t, { ...config, mqtt: { ...config.mqtt, username: 'me', password: '${NO_SUCH_VARIABLE}' } })
  /** @type {[string[], RegExp][]} */
  const mistakes = [
    [[], /Usage: millrace/],
    [['rnu', right], /unknown command 'rnu'/],
    [['run'], /missing required argument 'config'/],
    [['run', right, '--htpp', '1'], /unknown option '--htpp'/],
    [['run', right, '--http', 'here'], /--http.*host:port/],
    [['run', right, '--drain-timeout', '30'], /--drain-timeout.*unit/],
    [['check', right, '--sample', 'many'], /--sample.*whole number/],
    [['check', right, '--sample', '100000000'], /options\.sample: /],
    [['run', 'nowhere.json'], /nowhere\.json: cannot be read/],
    [['run', wrong], /millrace\.json:15:5: batch\.maxRow: is not an option; did you mean maxRows/],
    [['check', wrong], /millrace\.json:15:5: batch\.maxRow/],
    [['types', wrong], /millrace\.json:15:5: batch\.maxRow/],
    [['replay', wrong, '--dir', '.'], /millrace\.json:15:5: batch\.maxRow/],
    [['replay', right], /no deadLetters: say --dir, --file or --table/],
    [['run', unset], /mqtt\.password: the environment variable NO_SUCH_VARIABLE is not set/],
  ]
  for (const [args, told] of mistakes) {
    const { code, stderr } = await millrace(t, args)
    assert.equal(code, 2, `${args}: ${stderr}`)
    assert.match(stderr, told)
  }
})

test('help has examples', { timeout }, async (t) => {
  const { code, stdout } = await millrace(t, ['--help'])
  assert.equal(code, 0)
  assert.match(stdout, /Exit codes:/)
  for (const command of ['run', 'check', 'types', 'spool', 'replay']) {
    assert.match(stdout, new RegExp(`^  ${command} `, 'm'))
    const its = await millrace(t, [command, '--help'])
    assert.equal(its.code, 0)
    assert.match(its.stdout, new RegExp(`Examples:\n  \\$ millrace ${command} `))
  }
  const { version } = JSON.parse(readFileSync(new URL('../../package.json', import.meta.url), 'utf8'))
  assert.equal((await millrace(t, ['--version'])).stdout, version)
})

test('a terminal has a status line below the messages', () => {
  const written = []
  const stream = { isTTY: true, columns: 40, write: (text) => written.push(text) }
  const output = new Output({ stream: /** @type {any} */ (stream) })
  output.status('x'.repeat(100))
  assert.equal(written.at(-1), `\r\u001b[2K${'x'.repeat(39)}`)
  output.warn('careful', { code: 'CODE' })
  assert.match(written.at(-1), /^\r\u001b\[2K\d\d:\d\d:\d\d warning: careful\nx{39}$/)
  output.info('from a topic: \u001b[2J\r\n  cleared')
  assert.match(written.at(-1), / from a topic: \ufffd\[2J cleared\nx{39}$/, 'a terminal obeys nobody who publishes')
  output.end()
  assert.equal(written.at(-1), '\n')

  const metrics = new Pipeline(servers.config({ routes: [{ topic: 'a', table: 't' }] })).metrics()
  assert.match(statusLine(metrics), /^idle {2}0 msg\/s /)
  assert.match(statusLine({ ...metrics, state: 'running' }), /^running, 0 of 1 connected {2}0 msg\/s /)
})

test('messages that wait in a spool can be listed, and are not lost', { timeout, skip }, async (t) => {
  const clickhouse = await startClickHouse()
  t.after(() => clickhouse.remove())
  await clickhouse.command(`CREATE TABLE positions (${COLUMNS}) ENGINE MergeTree ORDER BY seq
    SETTINGS non_replicated_deduplication_window = 1000`)
  const [prefix, dir] = [unique('topic'), join(directory(t), 'spool')]
  const file = configFile(t, {
    mqtt: { url: servers.broker.url, clientId: unique('client') },
    clickhouse: { url: clickhouse.url, retry: { minMs: 10, maxMs: 50 }, connectTimeoutMs: 300 },
    spool: { dir },
    routes: [route(prefix, 'positions')],
    batch: { maxDelayMs: 50 },
  })
  const nowhere = await millrace(t, ['spool', dir])
  assert.equal(nowhere.code, 1)
  assert.match(nowhere.stderr, /^millrace: the spool .*spool: /)

  // Nobody waits for so long: a test that hangs here would fail by its own limit.
  const first = await running(t, file, ['--drain-timeout', '1h'])
  await clickhouse.stop()
  const publisher = await servers.publisher(t)
  await publisher.flood(1_000, (i) => position(prefix, i))
  const inspected = async () => JSON.parse((await millrace(t, ['spool', dir, '--json'])).stdout)
  await waitFor(async () => (await inspected()).messages === 1_000, { message: () => `a spool: ${first.lines.at(-1)}` })
  first.signal('SIGTERM')
  assert.equal((await first.end()).code, 0, first.lines.at(-1))
  assert.ok(said(first).some(({ pending, msg }) => pending === 1_000 && /in the spool, for the next start/.test(msg)))
  const { messages, rows, tables } = await inspected()
  assert.deepEqual([messages, rows, tables.positions.messages], [1_000, 1_000, 1_000])
  const { code, stdout } = await millrace(t, ['spool', dir])
  assert.equal(code, 0)
  assert.match(stdout, /\nwaiting: 1,000 messages, 1,000 rows in [\d,]+ records, the oldest from 20/)

  await clickhouse.start()
  const second = await running(t, file)
  await waitFor(async () => (await clickhouse.query('SELECT count() AS n FROM positions'))[0].n === 1_000, {
    timeoutMs: 30_000,
    message: () => `all rows: ${second.lines.at(-1)}`,
  })
  second.signal('SIGTERM')
  assert.equal((await second.end()).code, 0)
  assert.match((await millrace(t, ['spool', dir])).stdout, /nothing waits/)
})
