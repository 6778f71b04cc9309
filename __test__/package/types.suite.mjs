// The declarations as users have them: each way in which TypeScript finds modules, two compilers, publint, attw, and programs
// that must not compile.

import assert from 'node:assert/strict'
import { join } from 'node:path'
import { before, test } from 'node:test'
import { ROOT } from '../../scripts/release/targets.mjs'
import { waitFor } from '../../tools/servers/index.mjs'
import { NODE, tool, TOOLS, usePackage } from './setup.mjs'

const timeout = 300_000
/** Compilers of users that have not updated: from the oldest that is supported. */
const OLDER = ['5.4', '5.6', '5.8']
const world = usePackage({ upstream: true, jobs: false })
const npm = [join(NODE, 'node'), join(TOOLS, 'npm-11', 'bin', 'npm-cli.js')]
/** @type {string} */
let project

const RIGHT = `
import { Pipeline, MillraceError, checkPipeline, describeTables, serveHttp, type DeadLetter, type Metrics, type PipelineConfig } from 'millrace'
import { definePipeline } from 'millrace'
import { decode, startTestPipeline, type TestRow } from 'millrace/testing'
interface Tables { positions: { driver_id: string; lat: number }; alerts: { kind: string } }
const mqtt = { url: 'mqtt://h', username: undefined }
const typed: PipelineConfig = definePipeline<Tables>({ mqtt, clickhouse: { url: 'http://h' }, routes: [
  { topic: 'a/{b}', table: 'positions', columns: { driver_id: { topic: 'b' }, lat: undefined }, emits: ['alerts'], where: { path: 'x', gt: 1 } },
  { topic: 'c', table: 'alerts', qos: 2 },
], tables: ['alerts'] })
const both = definePipeline<Tables>()({ mqtt, clickhouse: { url: 'http://h' }, routes: [{ topic: 'a/{b}', table: 'positions', columns: { driver_id: { topic: 'b' } } }] })
async function decoded(): Promise<void> {
  const { rows, deadLetters, outcome } = await decode({ routes: typed.routes }, ['CREATE TABLE t (a UInt8)'], { topic: 'a', payload: { lat: 1 }, qos: undefined })
  const [row] = rows['positions'] ?? []
  void [row?.['lat'], deadLetters[0]?.code, outcome === 'dropped', both.routes[0].table]
}
void decoded
const config: PipelineConfig = { mqtt: { url: 'mqtt://h' }, clickhouse: { url: 'http://h' }, routes: [{ topic: 'a/{b}', table: 't' }] }
async function main(): Promise<Metrics> {
  await using pipeline = new Pipeline(config)
  pipeline.on('metrics', (metrics) => { const rows: number = metrics.rows.inserted; rows.toFixed() })
  pipeline.on('deadLetters', (letters) => { const [first]: DeadLetter[] = letters; first?.payload.toString('utf8') })
  pipeline.on('state', (state, previous) => { const both: [string, string] = [state, previous]; both.join() })
  await pipeline.start({ signal: AbortSignal.timeout(1) })
  try { await pipeline.flush() } catch (error) { if (error instanceof MillraceError) { const code: string = error.code; code.trim() } }
  const service = await startTestPipeline({ routes: config.routes }, { tables: { t: { b: 'String' } } })
  const rows: TestRow[] = service.rows('t')
  rows.length
  return pipeline.stop({ timeoutMs: 1 })
}
void [main, checkPipeline, describeTables, serveHttp]
`
const WRONG = `
import { Pipeline, definePipeline } from 'millrace'
import { startServers } from 'millrace/testing'
const mqtt = { url: 'mqtt://h' }
const clickhouse = { url: 'http://h' }
const routes = [{ topic: 'a', table: 't' }]
// @ts-expect-error a configuration has routes
new Pipeline({ mqtt, clickhouse })
// @ts-expect-error there is no such option
new Pipeline({ mqtt, clickhouse, routes, wrong: 1 })
// @ts-expect-error it is 0, 1 or 2
new Pipeline({ mqtt: { ...mqtt, qos: 3 }, clickhouse, routes })
const pipeline = new Pipeline({ mqtt, clickhouse, routes })
// @ts-expect-error there is no such event
pipeline.on('rows', () => {})
// @ts-expect-error a password needs a user name
new Pipeline({ mqtt: { ...mqtt, password: 'p' }, clickhouse, routes })
// @ts-expect-error two sources are none
new Pipeline({ mqtt, clickhouse, routes: [{ topic: 'a', table: 't', columns: { b: { topic: 'c', meta: 'qos' } } }] })
interface Tables { positions: { driver_id: string; lat: number }; alerts: { kind: string } }
// @ts-expect-error there is no such table
definePipeline<Tables>({ mqtt, clickhouse, routes: [{ topic: 'a', table: 'position' }] })
// @ts-expect-error there is no such column
definePipeline<Tables>({ mqtt, clickhouse, routes: [{ topic: 'a', table: 'positions', columns: { lng: 'x' } }] })
// @ts-expect-error it is a column of another table
definePipeline<Tables>({ mqtt, clickhouse, routes: [{ topic: 'a', table: 'alerts', columns: { lat: 'x' } }] })
// @ts-expect-error there is no such table
definePipeline<Tables>({ mqtt, clickhouse, routes: [{ topic: 'a', table: 'alerts', emits: ['none'] }] })
// @ts-expect-error the topic has no {c}
definePipeline<Tables>()({ mqtt, clickhouse, routes: [{ topic: 'a/{b}', table: 'positions', columns: { driver_id: { topic: 'c' } } }] })
// @ts-expect-error there is no such column, in two calls
definePipeline<Tables>()({ mqtt, clickhouse, routes: [{ topic: 'a/{b}', table: 'positions', columns: { lng: { topic: 'b' } } }] })
// @ts-expect-error it cannot be set
pipeline.state = 'running'
// @ts-expect-error the columns of each table are needed
startServers({})
`

before(
  async () => {
    await waitFor(() => world.registry, { timeoutMs: 120_000 })
    project = world.project({ 'right.ts': RIGHT, 'right.mts': RIGHT, 'right.cts': RIGHT, 'wrong.ts': WRONG })
    const compilers = OLDER.map((version) => `typescript-${version}@npm:typescript@${version}`)
    await world.succeeds(project, [...npm, 'install', 'millrace', '@types/node@24', ...compilers])
  },
  { timeout },
)

const COMPILERS = { 'TypeScript 5': () => tool('tsc'), 'TypeScript 7': () => join(ROOT, 'node_modules', '.bin', 'tsc') }
for (const version of OLDER) {
  COMPILERS[`TypeScript ${version}`] = () => join(project, 'node_modules', `typescript-${version}`, 'bin', 'tsc')
}
for (const [name, tsc] of Object.entries(COMPILERS)) {
  for (const [resolution, module] of [['node16', 'node16'], ['nodenext', 'nodenext'], ['bundler', 'esnext']]) {
    test(`${name}, moduleResolution ${resolution}`, { timeout }, async () => {
      const options = ['--strict', '--exactOptionalPropertyTypes', '--noEmit', '--target', 'es2022', '--lib', 'es2023,esnext.disposable', '--types', 'node']
      // Without skipLibCheck: the declarations themselves are checked as well.
      const files = ['right.ts', 'right.mts', 'right.cts', 'wrong.ts']
      await world.succeeds(project, [tsc(), ...options, '--module', module, '--moduleResolution', resolution, ...files])
    })
  }
}

test('publint reports nothing', { timeout }, async () => {
  const text = await world.succeeds(project, [tool('publint'), 'run', '--strict', 'node_modules/millrace'])
  assert.match(text, /All good/)
})

test('attw reports nothing', { timeout }, async () => {
  const tarball = /** @type {string} */ (world.tarballs.at(-1))
  await world.succeeds(project, [tool('attw'), tarball, '--no-emoji', '--format', 'table', '--exclude-entrypoints', './millrace.schema.json', './package.json'])
})
