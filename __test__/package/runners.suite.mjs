// Test runners with the addon loaded: they end by themselves, as docs/install.md says, and millrace/testing works in each.

import assert from 'node:assert/strict'
import { join } from 'node:path'
import { before, test } from 'node:test'
import { waitFor } from '../../tools/servers/index.mjs'
import { NODE, tool, TOOLS, usePackage } from './setup.mjs'

const timeout = 300_000
const world = usePackage({ upstream: true, jobs: false })
const npm = [join(NODE, 'node'), join(TOOLS, 'npm-11', 'bin', 'npm-cli.js')]
const node = join(NODE, 'node')
/** @type {string} */
let project

/** A service's own test: stopped, by `await using`, and forgotten. */
const BODY = `
const tables = { t: { id: 'String', a: 'UInt8' } }
const config = { routes: [{ topic: 'things/{id}', table: 't' }] }
async function stopped() {
  const service = await startTestPipeline(config, { tables })
  await service.publish('things/x', { a: 1 })
  const rows = service.rows('t')
  await service.stop()
  if (JSON.stringify(rows) !== '[{"id":"x","a":1}]') throw new Error(JSON.stringify(rows))
}
async function forgotten() {
  const service = await startTestPipeline(config, { tables })
  await service.publish('things/y', { a: 2 })
  if (service.rows('t').length !== 1) throw new Error('no row')
}
async function forgottenWithListener() {
  const { mqtt, clickhouse } = await startServers({ tables })
  const pipeline = new Pipeline({ mqtt, clickhouse, ...config })
  pipeline.on('metrics', () => {})
  pipeline.unref()
  await pipeline.start()
}
test('stopped', stopped)
test('forgotten', forgotten)
test('forgotten, with a listener and unref()', forgottenWithListener)
`
const CJS = `const { Pipeline } = require('millrace')\nconst { startServers, startTestPipeline } = require('millrace/testing')\n`
const ESM = `import { Pipeline } from 'millrace'\nimport { startServers, startTestPipeline } from 'millrace/testing'\n`

before(
  async () => {
    await waitFor(() => world.registry, { timeoutMs: 120_000 })
    project = world.project({
      'jest/service.test.cjs': CJS + BODY,
      'jest.config.cjs': `module.exports = { testMatch: ['**/jest/*.test.cjs'] }\n`,
      'vitest/service.spec.mjs': `import { test } from 'vitest'\n${ESM}${BODY}`,
      'node/service.test.mjs': `import { test } from 'node:test'\n${ESM}${BODY}`,
      'bun/service.test.mjs': `import { test } from 'bun:test'\n${ESM}${BODY}`,
      // The one that docs/install.md warns of: it is neither stopped nor unreferenced.
      'open/service.test.cjs': `${CJS}
test('left open', async () => {
  const { mqtt, clickhouse } = await startServers({ tables: { t: { id: 'String' } } })
  const pipeline = new Pipeline({ mqtt, clickhouse, routes: [{ topic: 'things/{id}', table: 't' }] })
  pipeline.on('metrics', () => {})
  await pipeline.start()
})
`,
      'open.config.cjs': `module.exports = { testMatch: ['**/open/*.test.cjs'] }\n`,
    })
    await world.succeeds(project, [...npm, 'install', 'millrace', 'vitest@5.1.2'])
  },
  { timeout },
)

test('Jest ends', { timeout }, async () => {
  await world.succeeds(project, [node, join(TOOLS, 'jest', 'bin', 'jest.js'), '--config', 'jest.config.cjs'])
})

test('Jest does not end while a pipeline with a listener is open, and ends with --forceExit', { timeout }, async () => {
  const jest = [node, join(TOOLS, 'jest', 'bin', 'jest.js'), '--config', 'open.config.cjs', '--runInBand']
  // Ended by `timeout`, which answers 124 then: what it would take for ever is not waited for.
  const { status, stderr } = await world.run(project, ['timeout', '20', ...jest])
  assert.equal(status, 124, stderr)
  assert.match(stderr, /1 passed/)
  await world.succeeds(project, [...jest, '--forceExit'])
})

for (const pool of ['threads', 'forks', 'vmThreads']) {
  test(`vitest with ${pool} ends`, { timeout }, async () => {
    await world.succeeds(project, [node, 'node_modules/vitest/vitest.mjs', 'run', '--pool', pool, 'vitest/'])
  })
}

test('node:test ends', { timeout }, async () => {
  await world.succeeds(project, [node, '--test', 'node/service.test.mjs'])
})

test('bun test ends', { timeout }, async () => {
  await world.succeeds(project, [tool('bun'), 'test', './bun/service.test.mjs'])
})
