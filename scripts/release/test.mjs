// npm run test:package: the package in empty projects, as its users install, bundle, type-check and test with it.
//
//   npm run test:package                       all of it
//   npm run test:package -- managers types     some of it: the names of the files in __test__/package
//
// It uses the addon of `npm run package` where that was made, and makes it otherwise. The tools come from tools/package.

import { spawnSync } from 'node:child_process'
import { existsSync, readdirSync, statSync } from 'node:fs'
import { join } from 'node:path'
import { build } from './build.mjs'
import { hostTarget, ROOT } from './targets.mjs'

const FOLDER = join(ROOT, '__test__', 'package')
const TOOLS = join(ROOT, 'tools', 'package')
const LIMIT_MS = 30 * 60_000

const all = readdirSync(FOLDER).filter((name) => name.endsWith('.suite.mjs')).sort()
const wanted = process.argv.slice(2).map((name) => `${name}.suite.mjs`)
const unknown = wanted.filter((name) => !all.includes(name))
if (unknown.length > 0) {
  console.error(`there are ${all.map((name) => name.replace('.suite.mjs', '')).join(', ')}`)
  process.exit(2)
}

const host = hostTarget()
const installed = join(TOOLS, 'node_modules', '.package-lock.json')
if (!existsSync(installed) || statSync(installed).mtimeMs < statSync(join(TOOLS, 'package-lock.json')).mtimeMs) {
  // `npm ci` refuses the lock file: pnpm names optional packages for systems of which the registry has none.
  run('npm', ['install', '--no-save', '--no-audit', '--no-fund'], TOOLS)
}
if (!existsSync(join(host.folder, host.addon))) build(host)

const files = (wanted.length > 0 ? wanted : all).map((name) => join(FOLDER, name))
// One file at a time: each starts servers, and package managers take all the cores there are.
run(process.execPath, ['--test', '--test-reporter=spec', '--test-concurrency=1', `--test-timeout=${LIMIT_MS}`, ...files], ROOT)

/** @param {string} command @param {string[]} args @param {string} cwd */
function run(command, args, cwd) {
  const { status, error } = spawnSync(command, args, { cwd, stdio: 'inherit', shell: process.platform === 'win32' && command === 'npm' })
  if (error) throw error
  if (status !== 0) process.exit(status ?? 1)
}
