// The option `logger` receives the events 'state', 'warning' and 'error'; the library prints nothing itself.

import assert from 'node:assert/strict'
import { Writable } from 'node:stream'
import { test } from 'node:test'
import pino from 'pino'
import { MillraceError, Pipeline } from '../../index.js'
import { log } from '../../lib/observe/log.js'
import { waitFor } from '../../tools/servers/index.mjs'
import { startProgram } from '../support/program.mjs'
import { settled, unique, useServers } from '../support/servers.mjs'

const servers = useServers()
const timeout = 60_000

/** A pino whose lines are collected. */
function recorder() {
  const lines = []
  const destination = new Writable({
    write(chunk, _encoding, done) {
      for (const line of String(chunk).trim().split('\n')) lines.push(JSON.parse(line))
      done()
    },
  })
  return { logger: pino(destination), lines }
}

test('pino logs states and warnings', { timeout }, async (t) => {
  const table = await servers.table('seq UInt32', { storage: { non_replicated_deduplication_window: 0 } })
  const topic = unique('topic')
  const name = unique('mill')
  const { logger, lines } = recorder()
  const pipeline = await servers.started(t, { name, logger, routes: [{ topic, table }] })
  const publisher = await servers.publisher(t)
  await publisher.publish(topic, 'bad')
  await settled(pipeline, 1)
  await pipeline.stop()
  await waitFor(() => lines.at(-1)?.state === 'stopped', { message: () => JSON.stringify(lines) })
  const of = (level) => lines.filter((line) => line.level === logger.levels.values[level])
  assert.deepEqual(
    of('info').map(({ pipeline: from, previous, state, msg }) => [from, previous, state, msg]),
    [
      [name, 'idle', 'starting', 'the pipeline is starting'],
      [name, 'starting', 'running', 'the pipeline is running'],
      [name, 'running', 'stopping', 'the pipeline is stopping'],
      [name, 'stopping', 'stopped', 'the pipeline is stopped'],
    ],
  )
  assert.deepEqual(
    of('warn').map(({ pipeline: from, code }) => [from, code]),
    [
      [name, 'DEDUPLICATION_OFF'],
      [name, 'DEAD_LETTERS_UNSTORED'],
    ],
  )
  assert.match(of('warn')[0].msg, /non_replicated_deduplication_window/)
  assert.equal(lines.length, 6)
})

test('an error is logged with its code', () => {
  const { logger, lines } = recorder()
  log(logger, 'fleet', 'error', new MillraceError(/** @type {any} */ ({ code: 'INTERNAL', message: 'a fault in millrace' })))
  const [{ level, pipeline, code, err, msg }] = lines
  assert.equal(level, logger.levels.values.error)
  assert.deepEqual([pipeline, code, msg], ['fleet', 'INTERNAL', 'a fault in millrace'])
  assert.equal(err.code, 'INTERNAL')
})

test('a value that cannot log is refused', () => {
  const config = (logger) => servers.config({ logger, routes: [{ topic: 'a', table: 'b' }] })
  for (const { logger, path } of [
    { logger: null, path: 'logger' },
    { logger: 'info', path: 'logger' },
    { logger: { info() {}, warn() {} }, path: 'logger.error' },
    { logger: { info: 'no', warn() {}, error() {} }, path: 'logger.info' },
  ]) {
    assert.throws(() => new Pipeline(config(logger)), { name: 'MillraceError', code: 'CONFIG_INVALID', path })
  }
  new Pipeline(config(console))
})

test('nothing is printed', { timeout }, async (t) => {
  const table = await servers.table('seq UInt32', { storage: { non_replicated_deduplication_window: 0 } })
  const topic = unique('topic')
  const config = servers.config({ routes: [{ topic, table }] })
  const program = startProgram(t, 'forgets-stop.mjs', { config, messages: 2 })
  await program.line('running')
  const publisher = await servers.publisher(t)
  await publisher.publish(topic, 'bad')
  await publisher.publish(topic, { seq: 1 })
  const { code, stderr } = await program.end()
  assert.deepEqual([code, stderr, program.lines], [0, '', ['running', 'reached its end']])
})
