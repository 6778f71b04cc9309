// Every package manager: plain, from its lock file, from a lock file that was made on another platform, without optional
// packages and with the command of the error that puts them back, and over an older version. Each ends with the main job.

import assert from 'node:assert/strict'
import { existsSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { describe, test } from 'node:test'
import { OLDER, NODE, placed, tool, TOOLS, usePackage } from './setup.mjs'
import { host } from '../support/package.mjs'

const timeout = 300_000
const world = usePackage()
const { version } = world

/**
 * @typedef {object} Manager
 * @property {string} name
 * @property {string[]} command
 * @property {string[]} add and the package's name, with a version where one is wanted
 * @property {string[]} frozen installs what the lock file says or fails
 * @property {string[]} [foreign] makes a lock file, or installs, as if on macOS with an ARM processor. Absent: its lock files
 *   are the same everywhere
 * @property {string[]} [omit] and the package's name: without optional packages
 * @property {(folder: string, add: () => Promise<string>) => Promise<(() => void) | undefined>} [lose] where it has no such option: makes an
 *   installation without the package of this platform; what it answers undoes the cause
 * @property {string[]} [node] runs Node.js with the packages of a project
 * @property {Record<string, string>} [files]
 */
const node = join(NODE, 'node')
const npm = (/** @type {number} */ major) => ({
  name: `npm ${major}`,
  command: [node, join(TOOLS, `npm-${major}`, 'bin', 'npm-cli.js')],
  add: ['install'],
  frozen: ['ci'],
  foreign: ['install', '--package-lock-only', '--os=darwin', '--cpu=arm64'],
  omit: ['install', '--omit=optional'],
})
const yarn4 = (/** @type {string} */ linker) => ({
  name: `yarn 4 ${linker}`,
  command: [node, join(TOOLS, '@yarnpkg', 'cli-dist', 'bin', 'yarn.js')],
  add: ['add'],
  frozen: ['install', '--immutable'],
  node: ['node'],
  files: { '.yarnrc.yml': `nodeLinker: ${linker}\npnpEnableEsmLoader: true\nenableTelemetry: false\nenableGlobalCache: false\n` },
  // Installed as if for another system.
  lose: async (/** @type {string} */ folder, /** @type {() => Promise<string>} */ add) => {
    const path = join(folder, '.yarnrc.yml')
    const text = readFileSync(path, 'utf8')
    writeFileSync(path, `${text}supportedArchitectures:\n  os: [darwin]\n  cpu: [arm64]\n`)
    await add()
    return () => writeFileSync(path, text)
  },
})
/** @type {Manager[]} */
const MANAGERS = [
  npm(10),
  npm(11),
  npm(12),
  {
    name: 'pnpm',
    command: [tool('pnpm')],
    add: ['add', '--ignore-scripts'],
    frozen: ['install', '--frozen-lockfile'],
    foreign: ['add', '--os=darwin', '--cpu=arm64'],
    omit: ['add', '--no-optional'],
  },
  {
    name: 'yarn 1',
    command: [node, join(TOOLS, 'yarn-1', 'bin', 'yarn.js'), '--non-interactive'],
    add: ['add'],
    frozen: ['install', '--frozen-lockfile'],
    omit: ['add', '--ignore-optional'],
  },
  yarn4('node-modules'),
  yarn4('pnp'),
  {
    name: 'bun',
    command: [tool('bun')],
    add: ['add'],
    frozen: ['install', '--frozen-lockfile'],
    foreign: ['add', '--os=darwin', '--cpu=arm64'],
    omit: ['add', '--omit=optional'],
  },
  {
    name: 'deno',
    command: [tool('deno')],
    add: ['add'],
    frozen: ['install', '--frozen'],
    lose: async (folder, add) => {
      await add()
      for (const place of ['node_modules', 'node_modules/.deno']) {
        for (const name of readdirSync(join(folder, place)).filter((name) => name.startsWith('@millrace'))) {
          rmSync(join(folder, place, name), { recursive: true })
        }
      }
      return undefined
    },
    files: { 'deno.json': '{ "nodeModulesDir": "auto" }' },
  },
]

for (const manager of MANAGERS) {
  describe(manager.name, () => {
    const isDeno = manager.name === 'deno'
    const named = (/** @type {string} */ wanted = '') => `${isDeno ? 'npm:' : ''}millrace${wanted}`
    const project = () =>
      world.project({
        ...manager.files,
        ...(manager.name.startsWith('yarn 4') && {
          '.yarnrc.yml': `${manager.files?.['.yarnrc.yml']}npmRegistryServer: "${world.registry.url}"\nunsafeHttpWhitelist: ["127.0.0.1"]\n`,
        }),
      })
    const command = (/** @type {string[]} */ ...args) => [...manager.command, ...args]
    const program = (/** @type {string} */ file) => (manager.node ? command(...manager.node, file) : [node, file])
    const add = (/** @type {string} */ folder, wanted = '') => world.succeeds(folder, command(...manager.add, named(wanted)))
    const clean = (/** @type {string} */ folder) => {
      for (const name of ['node_modules', '.pnp.cjs', '.yarn/unplugged', '.yarn/install-state.gz']) {
        rmSync(join(folder, name), { recursive: true, force: true })
      }
    }

    test('plain, then from its own lock file', { timeout }, async () => {
      const folder = project()
      await add(folder)
      // yarn's loader for PnP cannot start a TypeScript file in Node.js 24.
      const typed = manager.name.includes('pnp') ? [] : ['job.mts']
      for (const file of ['job.mjs', 'job.cjs', ...typed]) await world.works(folder, program(file))
      if (!manager.name.includes('pnp')) assert.ok(isDeno || manager.name === 'pnpm' || placed(folder).includes(`binding-${host.name}`))
      clean(folder)
      await world.succeeds(folder, command(...manager.frozen))
      await world.works(folder, program('job.mjs'))
    })

    test('from a lock file that was made on another platform', { timeout }, async () => {
      const folder = project()
      if (manager.foreign) await world.succeeds(folder, command(...manager.foreign, named()))
      else await makeForeign(folder)
      clean(folder)
      await world.succeeds(folder, command(...manager.frozen))
      await world.works(folder, program('job.mjs'))
    })

    /** Where a manager has no option for it, its lock file says the same on every platform: that is what is compared. */
    async function makeForeign(/** @type {string} */ folder) {
      await add(folder)
      const name = /** @type {string} */ (['yarn.lock', 'deno.lock'].find((file) => existsSync(join(folder, file))))
      const text = readFileSync(join(folder, name), 'utf8')
      for (const other of ['darwin-arm64', 'linux-x64-musl', 'win32-x64-msvc']) assert.ok(text.includes(`@millrace/binding-${other}`), other)
    }

    test('without its platform package, and with the command of the error', { timeout }, async () => {
      const folder = project()
      const restore = await (manager.omit ? world.succeeds(folder, command(...manager.omit, named())) : manager.lose?.(folder, () => add(folder)))
      const { code, message } = JSON.parse(await world.succeeds(folder, program('error.cjs')))
      assert.equal(code, 'BINDING_NOT_FOUND')
      const advice = /installed with: (.+?)\. See docs/.exec(message)?.[1]
      assert.ok(advice, message)
      if (typeof restore === 'function') restore()
      // The managers are not on the PATH: their names become functions of the shell.
      const [name, ...first] = [manager.name.split(' ')[0], ...manager.command]
      await world.succeeds(folder, ['bash', '-c', `${name}() { ${first.map((part) => `'${part}'`).join(' ')} "$@"; }; ${advice}`])
      await world.works(folder, program('job.mjs'))
    })

    test('over an older version', { timeout }, async () => {
      const folder = project()
      await add(folder, `@${OLDER}`)
      // The older package finds the addon of this build, which says another version than its own.
      assert.equal(JSON.parse(await world.succeeds(folder, program('error.cjs'))).code, 'BINDING_NOT_FOUND')
      await add(folder, `@${version}`)
      await world.works(folder, program('job.mjs'))
    })
  })
}
