// Several processes of one configuration: `millrace run --processes`, with real processes and servers.

import assert from 'node:assert/strict'
import { readdirSync } from 'node:fs'
import { join } from 'node:path'
import { test } from 'node:test'
import { waitFor } from '../../tools/servers/index.mjs'
import { configFile, directory } from '../support/config-file.mjs'
import { assertPositions, COLUMNS, position, route } from '../support/positions.mjs'
import { startCommand } from '../support/program.mjs'
import { unique, useServers } from '../support/servers.mjs'

const servers = useServers()
const timeout = 120_000

const said = (program) => program.lines.map((line) => JSON.parse(line))
const told = (program) => `${program.lines.slice(-12).join('\n')}\n${program.errors.join('\n')}`

/** How often each process has reached the state `running`. */
function runs(program) {
  const counts = {}
  for (const { process, state, previous } of said(program)) if (state === 'running' && previous) counts[process] = (counts[process] ?? 0) + 1
  return counts
}

const pidOf = (program, number) => said(program).findLast(({ process, pid }) => process === number && pid)?.pid

function isAlive(pid) {
  try {
    return process.kill(pid, 0)
  } catch {
    return false
  }
}

/** A shared configuration with a spool, and a program that runs it in processes. */
async function started(t, processes, { config = {}, options = [] } = {}) {
  const table = await servers.table(COLUMNS)
  const prefix = unique('topic')
  const dir = join(directory(t), 'spool')
  const clientId = unique('client')
  const file = configFile(t, {
    ...servers.config({ mqtt: { clientId, sharedGroup: unique('group') }, routes: [route(prefix, table)], spool: { dir } }),
    ...config,
  })
  const program = startCommand(t, ['run', file, '--processes', String(processes), '--log-interval', '200ms', ...options])
  await waitFor(() => Object.keys(runs(program)).length === processes || !program.running(), {
    timeoutMs: 60_000,
    message: () => `${processes} processes run: ${told(program)}`,
  })
  return { program, table, prefix, dir, file, clientId }
}

const get = async (url, path) => {
  const response = await fetch(new URL(path, url), { headers: { connection: 'close' } })
  return { status: response.status, text: await response.text() }
}

test('processes share the messages, one that dies is started again, and nothing is lost or doubled', { timeout }, async (t) => {
  const { program, table, prefix, dir } = await started(t, 2, { options: ['--http', '0'] })
  assert.deepEqual(readdirSync(dir).sort(), ['1', '2'])
  const { url } = said(program).find((line) => line.url)

  const publisher = await servers.publisher(t)
  const count = 20_000
  const publishing = publisher.flood(count, (i) => position(prefix, i))
  await waitFor(async () => (await servers.count(table)) > 0, { timeoutMs: 30_000, message: () => told(program) })
  process.kill(pidOf(program, 1), 'SIGKILL')
  await waitFor(() => runs(program)[1] === 2, { timeoutMs: 60_000, message: () => `process 1 runs again: ${told(program)}` })
  const ended = said(program).find(({ code }) => code === 'PROCESS_ENDED')
  assert.deepEqual([ended.process, ended.signal, ended.restartInMs], [1, 'SIGKILL', 500])
  await publishing
  await waitFor(async () => (await servers.counted(table)).different >= count, {
    timeoutMs: 60_000,
    message: () => `all rows: ${told(program)}`,
  })
  await assertPositions(servers, table, count)

  // One port has all: each sample says of which process it is.
  await waitFor(async () => (await get(url, 'readyz')).status === 200, { timeoutMs: 30_000, message: () => told(program) })
  const { text } = await get(url, 'metrics')
  const lines = text.split('\n')
  assert.equal(lines.filter((line) => line.startsWith('# TYPE millrace_up ')).length, 1, 'a family stands once')
  for (const number of [1, 2]) {
    assert.ok(lines.some((line) => line.startsWith(`millrace_messages_received_total{process="${number}",`)), text)
    assert.equal((await get(url, `processes/${number}/`)).status, 200)
    const status = JSON.parse((await get(url, `processes/${number}/status.json`)).text)
    assert.equal(status.labels.process, String(number))
  }
  assert.match(text, /^millrace_process_restarts_total\{process="1",pipeline="\w+"\} 1$/m)
  assert.equal((await get(url, 'processes/3/')).status, 404)
  assert.equal((await get(url, '')).status, 200)
  let sums
  await waitFor(
    async () => {
      sums = JSON.parse((await get(url, 'status.json')).text)
      return Object.keys(sums.connections).length === 2 && sums.metrics.messages.pending === 0
    },
    { timeoutMs: 30_000, message: () => JSON.stringify(sums) },
  )
  assert.equal(sums.metrics.mqtt.connections, 2)
  assert.equal(sums.metrics.state, '2 of 2 running')
  assert.deepEqual(sums.processes, [1, 2].map((number) => ({ number, state: 'running' })))

  program.signal('SIGTERM')
  const { code, stderr } = await program.end()
  assert.equal(code, 0, `${stderr} ${told(program)}`)
  for (const number of [1, 2]) {
    const last = said(program).findLast(({ process, metrics }) => process === number && metrics).metrics
    assert.deepEqual([last.state, last.messages.pending], ['stopped', 0])
  }
})

test('a process that is drained is started again at once: a rolling restart is a signal to each', { timeout }, async (t) => {
  const { program } = await started(t, 2)
  process.kill(pidOf(program, 2), 'SIGTERM')
  await waitFor(() => runs(program)[2] === 2, { timeoutMs: 60_000, message: () => told(program) })
  const ended = said(program).find(({ exitCode }) => exitCode === 0)
  assert.deepEqual([ended.process, ended.level, ended.restartInMs], [2, 'info', 0])
  assert.equal(runs(program)[1], 1)
  program.signal('SIGINT')
  assert.equal((await program.end()).code, 0, told(program))
})

test('a second signal ends all processes at once', { timeout }, async (t) => {
  const { program } = await started(t, 2, { options: ['--drain-timeout', '10m'] })
  const pids = [1, 2].map((number) => pidOf(program, number))
  // They cannot drain while they stand still.
  for (const pid of pids) process.kill(pid, 'SIGSTOP')
  program.signal('SIGTERM')
  await waitFor(() => said(program).some(({ signal }) => signal === 'SIGTERM'), { message: () => told(program) })
  program.signal('SIGTERM')
  assert.equal((await program.end()).code, 143)
  await waitFor(() => !pids.some(isAlive), { message: () => 'the end of all processes' })
})

test('no process outlives the one that watches them', { timeout }, async (t) => {
  const { program, file } = await started(t, 2)
  const pids = [1, 2].map((number) => pidOf(program, number))
  program.kill()
  await program.end()
  await waitFor(() => !pids.some(isAlive), { timeoutMs: 30_000, message: () => 'the end of all processes' })
  // Their spools and client ids are free again.
  const next = startCommand(t, ['run', file, '--processes', '2'])
  await waitFor(() => Object.keys(runs(next)).length === 2, { timeoutMs: 60_000, message: () => told(next) })
  next.signal('SIGTERM')
  assert.equal((await next.end()).code, 0)
})

test('a spool, a client id or a subscription that several processes cannot share is refused at the start', { timeout }, async (t) => {
  const { program, file, dir } = await started(t, 1)
  const ended = async (args) => {
    const other = startCommand(t, args)
    const { code, stderr } = await other.end()
    return { code, stderr, codes: said(other).filter(({ level }) => level === 'error').map(({ code }) => code) }
  }
  // The same again, with processes and as one of them.
  for (const args of [['run', file, '--processes', '2'], ['run', file, '--process', '1']]) {
    const { code, codes, stderr } = await ended(args)
    assert.equal(code, 1, stderr)
    assert.ok(codes.includes('CLIENT_ID_IN_USE'), `${codes}`)
  }
  const table = await servers.table(COLUMNS)
  const base = servers.config({ routes: [route(unique('topic'), table)] })
  // Another client id, and the directory of process 1.
  const sharing = configFile(t, { ...base, mqtt: { ...base.mqtt, clientId: unique('client'), sharedGroup: 'g' }, spool: { dir } })
  const { code, codes } = await ended(['run', sharing, '--processes', '2'])
  assert.equal(code, 1)
  assert.ok(codes.includes('SPOOL_LOCKED'), `${codes}`)

  const alone = configFile(t, base)
  const unshared = await ended(['run', alone, '--processes', '2'])
  assert.equal(unshared.code, 2)
  assert.match(unshared.stderr, /millrace\.json:\d+:\d+: mqtt\.sharedGroup: is required with 2 processes/)
  for (const number of ['0', '65', 'two', '-1', '1.5']) {
    const { code, stderr } = await ended(['run', alone, '--processes', number])
    assert.equal(code, 2, stderr)
    assert.match(stderr, /--processes/)
  }
  const both = await ended(['run', alone, '--processes', '2', '--process', '1'])
  assert.equal(both.code, 2)
  assert.match(both.stderr, /--processes.*--process/)
  program.signal('SIGTERM')
  assert.equal((await program.end()).code, 0, told(program))

  // A process that cannot start ends all of them.
  const nowhere = configFile(t, { ...base, mqtt: { ...base.mqtt, sharedGroup: 'g' }, routes: [{ topic: 'a', table: 'nowhere' }] })
  const missing = await ended(['run', nowhere, '--processes', '2'])
  assert.equal(missing.code, 1)
  assert.ok(missing.codes.includes('TABLE_NOT_FOUND'), `${missing.codes}`)
})
