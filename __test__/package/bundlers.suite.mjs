// Bundlers, each in the way that docs/install.md says; and what happens in the way that it warns of.

import assert from 'node:assert/strict'
import { existsSync, mkdirSync, cpSync } from 'node:fs'
import { join } from 'node:path'
import { before, test } from 'node:test'
import { waitFor } from '../../tools/servers/index.mjs'
import { NODE, tool, TOOLS, usePackage } from './setup.mjs'

const timeout = 300_000
const world = usePackage({ upstream: true })
const npm = [join(NODE, 'node'), join(TOOLS, 'npm-11', 'bin', 'npm-cli.js')]
const node = join(NODE, 'node')
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
