// Every runtime, with the main job as an ES module, as CommonJS and in TypeScript; the command line through npx and bunx; what
// each says when it must not load addons; and the musl package, where a musl can be had.

import assert from 'node:assert/strict'
import { spawn } from 'node:child_process'
import { copyFileSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { before, describe, test } from 'node:test'
import { waitFor } from '../../tools/servers/index.mjs'
import { MESSAGES, NODE, NODES, tool, TOOLS, usePackage } from './setup.mjs'

const timeout = 300_000
const world = usePackage({ upstream: true })
const npm = [join(NODE, 'node'), join(TOOLS, 'npm-11', 'bin', 'npm-cli.js')]
const npx = [join(NODE, 'node'), join(TOOLS, 'npm-11', 'bin', 'npx-cli.js')]
/** @type {string} */
let project

before(
  async () => {
    await waitFor(() => world.registry, { timeoutMs: 120_000 })
    await waitFor(() => world.servers.broker?.url, { timeoutMs: 120_000 })
    project = world.project({
      'compiled/tsconfig.json': JSON.stringify({
        compilerOptions: { module: 'nodenext', target: 'es2022', lib: ['es2023', 'esnext.disposable'], types: ['node'], strict: true },
        include: ['*.ts', '*.mts'],
      }),
    })
    await world.succeeds(project, [...npm, 'install', 'millrace', '@types/node@24'])
    copyFileSync(join(project, 'job.ts'), join(project, 'compiled', 'job.ts'))
    copyFileSync(join(project, 'job.mts'), join(project, 'compiled', 'job.mts'))
    await world.succeeds(project, [tool('tsc'), '-p', 'compiled'])
  },
  { timeout },
)

const permissions = ['--allow-ffi', '--allow-env', '--allow-read']
/** @type {[string, string[], boolean][]} a name, the command, and whether it runs TypeScript */
const RUNTIMES = [
  ...Object.entries(NODES).map(([major, path]) => /** @type {[string, string[], boolean]} */ ([`Node.js ${major}`, [join(path, 'node')], Number(major) >= 24])),
  ['Bun', [tool('bun')], true],
  ['Deno', [tool('deno'), 'run', ...permissions], true],
]

for (const [name, command, hasTypes] of RUNTIMES) {
  test(`${name}: ES module, CommonJS, TypeScript`, { timeout }, async () => {
    // For Deno a .js file is CommonJS only where a package.json says so.
    const compiled = name === 'Deno' ? ['compiled/job.mjs'] : ['compiled/job.js', 'compiled/job.mjs']
    for (const file of ['job.mjs', 'job.cjs', ...compiled, ...(hasTypes ? ['job.mts'] : [])]) {
      await world.works(project, [...command, file])
    }
  })
}

for (const [name, command] of RUNTIMES) {
  test(`${name}: a transform, a function and a module in a thread`, { timeout }, async () => {
    await world.transforms(project, [...command, 'transform.mjs'], {})
    await world.transforms(project, [...command, 'transform.mjs'], { env: { MODULE: '1' } })
  })
}

test('Deno imports the package by its path as well', { timeout }, async () => {
  const folder = world.project({
    'by-path.mjs': `import millrace from '${join(project, 'node_modules', 'millrace', 'index.js')}'\nconsole.log(typeof millrace.Pipeline)\n`,
  })
  assert.equal((await world.succeeds(folder, [tool('deno'), 'run', ...permissions, 'by-path.mjs'])).trim(), 'function')
})

test('Deno that must not load addons is an error that names its flag', { timeout }, async () => {
  const { code, message } = JSON.parse(await world.succeeds(project, [tool('deno'), 'run', '--allow-env', '--allow-read', '--no-prompt', 'error.cjs']))
  assert.equal(code, 'BINDING_REFUSED')
  assert.match(message, /--allow-ffi --allow-env --allow-read/)
})

for (const [major, path] of Object.entries(NODES)) {
  test(`Node.js ${major} that must not load addons is an error that names --allow-addons`, { timeout }, async () => {
    const permission = Number(major) < 22 ? '--experimental-permission' : '--permission'
    const node = [join(path, 'node'), permission, `--allow-fs-read=${world.folder}`]
    const { code, message } = JSON.parse(await world.succeeds(project, [...node, 'error.cjs']))
    assert.equal(code, 'BINDING_REFUSED')
    assert.match(message, /start it with --allow-addons/)
    assert.equal((await world.succeeds(project, [...node, '--allow-addons', 'error.cjs'])).trim(), '')
    const none = JSON.parse(await world.succeeds(project, [join(path, 'node'), '--no-addons', 'error.cjs']))
    assert.deepEqual([none.code, /leave out --no-addons/.test(none.message)], ['BINDING_REFUSED', true], none.message)
  })
}

describe('the command line', () => {
  const config = (/** @type {string} */ table) => ({
    mqtt: { url: world.servers.broker.url },
    clickhouse: { url: world.servers.clickhouse.url, database: world.servers.database },
    routes: [{ topic: 'package/{driver_id}/position', table }],
    batch: { maxDelayMs: 20 },
  })

  for (const [name, command, path] of /** @type {[string, string[], string[]][]} */ ([
    ['npx', [...npx, '--no-install', 'millrace'], [NODE]],
    ['bunx', [tool('bunx'), '--no-install', 'millrace'], [NODE]],
    ['bunx --bun', [tool('bunx'), '--bun', '--no-install', 'millrace'], [NODE]],
  ])) {
    test(`${name}: check, types, run`, { timeout }, async () => {
      const table = await world.servers.table('driver_id String, lat Float64')
      writeFileSync(join(project, 'millrace.json'), JSON.stringify(config(table)))
      assert.match(await world.succeeds(project, [...command, 'check', 'millrace.json'], { path }), /positions|driver_id/)
      assert.match(await world.succeeds(project, [...command, 'types', 'millrace.json'], { path }), /lat: number/)

      const [program, ...args] = [...command, 'run', 'millrace.json']
      const child = spawn(program, args, { cwd: project, env: { ...process.env, ...world.env(), PATH: `${NODE}:/usr/bin:/bin` }, stdio: 'ignore', detached: true })
      const ended = new Promise((resolve) => child.once('exit', resolve))
      try {
        await waitFor(async () => (await world.servers.count(table)) === MESSAGES, { timeoutMs: 60_000, message: 'the rows' })
      } finally {
        // To the process group: npx and bunx are parents of the program.
        process.kill(-(/** @type {number} */ (child.pid)), 'SIGTERM')
        await ended
      }
    })
  }
})
