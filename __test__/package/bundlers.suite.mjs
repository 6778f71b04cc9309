// Bundlers, each in the way that docs/install.md says; and what happens in the way that it warns of.

import assert from 'node:assert/strict'
import { spawn } from 'node:child_process'
import { existsSync, mkdirSync, cpSync } from 'node:fs'
import { join } from 'node:path'
import { before, test } from 'node:test'
import { freePort, waitFor } from '../../tools/servers/index.mjs'
import { MESSAGES, NODE, tool, TOOLS, usePackage } from './setup.mjs'

const timeout = 300_000
const world = usePackage({ upstream: true })
const npm = [join(NODE, 'node'), join(TOOLS, 'npm-11', 'bin', 'npm-cli.js')]
const node = join(NODE, 'node')
const NEXT = ['next@16.4.6', 'react@19.3.1', 'react-dom@19.3.1']
/** The main job as a route of Next.js, once a request. */
const ROUTE = `
import { Pipeline } from 'millrace'
export const dynamic = 'force-dynamic'
export async function GET() {
  const { MQTT_URL, CLICKHOUSE_URL, DATABASE, TABLE } = process.env
  const pipeline = new Pipeline({
    mqtt: { url: MQTT_URL },
    clickhouse: { url: CLICKHOUSE_URL, database: DATABASE },
    routes: [{ topic: 'package/{driver_id}/position', table: TABLE }],
    batch: { maxDelayMs: 20 },
    metricsIntervalMs: 20,
  })
  const done = new Promise((resolve) => pipeline.on('metrics', ({ messages }) => messages.inserted >= ${MESSAGES} && resolve()))
  await pipeline.start()
  await done
  const { messages } = await pipeline.stop()
  return Response.json({ inserted: messages.inserted })
}
`
/** @type {string} */
let project

before(
  async () => {
    await waitFor(() => world.registry, { timeoutMs: 120_000 })
    await waitFor(() => world.servers.broker?.url, { timeoutMs: 120_000 })
    project = world.project({
      'vite.config.mjs': `export default { logLevel: 'warn', build: { ssr: 'job.mjs', outDir: 'vite', emptyOutDir: true, rollupOptions: { output: { entryFileNames: 'job.mjs' } } } }\n`,
    })
    await world.succeeds(project, [...npm, 'install', 'millrace'])
  },
  { timeout },
)

test('esbuild with --external:millrace, to an ES module and to CommonJS', { timeout }, async () => {
  const bundle = (/** @type {string} */ format, /** @type {string} */ out, /** @type {string} */ entry) =>
    world.succeeds(project, [tool('esbuild'), entry, '--bundle', '--platform=node', `--format=${format}`, '--external:millrace', `--outfile=${out}`])
  await bundle('esm', 'esbuild/job.mjs', 'job.mjs')
  await bundle('cjs', 'esbuild/job.cjs', 'job.cjs')
  await world.works(project, [node, 'esbuild/job.mjs'])
  await world.works(project, [node, 'esbuild/job.cjs'])
})

test('esbuild without it prints the error that docs/install.md quotes', { timeout }, async () => {
  const { status, stderr } = await world.run(project, [tool('esbuild'), 'job.cjs', '--bundle', '--platform=node', '--outfile=esbuild/inside.cjs'])
  assert.equal(status, 1)
  assert.match(stderr, /No loader is configured for "\.node" files/)
})

test('Vite for a server leaves it outside by itself', { timeout }, async () => {
  await world.succeeds(project, [tool('vite'), 'build'])
  await world.works(project, [node, 'vite/job.mjs'])
})

test('bun build with --external', { timeout }, async () => {
  await world.succeeds(project, [tool('bun'), 'build', 'job.mjs', '--target=node', '--external=millrace', '--outfile=bun/job.mjs'])
  await world.works(project, [node, 'bun/job.mjs'])
  await world.works(project, [tool('bun'), 'bun/job.mjs'])
})

test('bun build --compile puts the addon into the program', { timeout }, async () => {
  await world.succeeds(project, [tool('bun'), 'build', 'job.mjs', '--compile', '--outfile=compiled/job'])
  // Alone in a folder: no node_modules is anywhere above it.
  const alone = join(world.folder, 'alone')
  mkdirSync(alone)
  cpSync(join(project, 'compiled', 'job'), join(alone, 'job'))
  assert.ok(!existsSync(join(alone, 'node_modules')))
  await world.works(alone, [join(alone, 'job')])
})

test('Next.js with serverExternalPackages runs the main job in a route, and without it prints the error that docs/install.md quotes', { timeout }, async (t) => {
  const app = world.project({
    'next.config.mjs': `export default process.env.INSIDE ? {} : { serverExternalPackages: ['millrace'] }\n`,
    'app/layout.js': 'export default function Layout({ children }) { return <html><body>{children}</body></html> }\n',
    'app/page.js': 'export default function Page() { return <p>page</p> }\n',
    'app/job/route.js': ROUTE,
  })
  await world.succeeds(app, [...npm, 'install', 'millrace', ...NEXT])
  const next = [node, join(app, 'node_modules', 'next', 'dist', 'bin', 'next')]
  const quiet = { NEXT_TELEMETRY_DISABLED: '1' }
  const inside = await world.run(app, [...next, 'build'], { env: { ...quiet, INSIDE: '1' } })
  assert.notEqual(inside.status, 0)
  assert.match(inside.stdout + inside.stderr, /non-ecmascript placeable asset/)
  await world.succeeds(app, [...next, 'build'], { env: quiet })

  const port = await freePort()
  const table = await world.servers.table('driver_id String, lat Float64')
  const { servers } = world
  const urls = { MQTT_URL: servers.broker.url, CLICKHOUSE_URL: servers.clickhouse.url, DATABASE: servers.database, TABLE: table }
  const [command, ...args] = [...next, 'start', '--hostname', '127.0.0.1', '--port', String(port)]
  const server = spawn(command, args, { cwd: app, env: { ...process.env, ...world.env(), ...quiet, ...urls }, stdio: 'ignore' })
  t.after(() => server.kill('SIGKILL'))
  const answer = async () => (await fetch(`http://127.0.0.1:${port}/job`)).text()
  let text = ''
  await waitFor(async () => (text = await answer().catch(() => '')) !== '', { timeoutMs: 60_000, message: 'an answer' })
  assert.equal(text, JSON.stringify({ inserted: MESSAGES }))
  const [{ count }] = await servers.rows(`SELECT count() AS count FROM ${table}`)
  assert.equal(Number(count), MESSAGES)
})
