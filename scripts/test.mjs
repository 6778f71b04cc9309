// npm test: everything that a change must pass, in order, and a summary.
//
//   npm test                  all of it
//   npm test -- node types    some of it: rust, deny, types, node, bun
//
// When a build fails nothing after it can be trusted, and the rest is not run; when a check fails the others are run
// nevertheless.

import { execFileSync, spawn } from 'node:child_process'
import { readdirSync } from 'node:fs'
import { availableParallelism } from 'node:os'
import { join, relative } from 'node:path'
import { fileURLToPath } from 'node:url'
import { findBun } from '../tools/servers/bun.mjs'
import { setup } from './setup.mjs'

/**
 * @typedef {object} Step
 * @property {string} name
 * @property {string[]} groups which arguments of `npm test` select it
 * @property {() => string[]} command
 * @property {boolean} [isBuild] the steps after it need what it makes
 */

const ROOT = fileURLToPath(new URL('..', import.meta.url))
const GROUPS = ['rust', 'deny', 'types', 'node', 'bun']

// Tests carry time limits of their own. These are for what hangs outside of them: in Node.js the limit is one for a
// whole file as well, and Bun kills the servers of a file together with a test that exceeds it.
const LIMIT_MS = 15 * 60_000

/** @type {Step[]} */
const STEPS = [
  { name: 'format', groups: ['rust'], command: () => ['cargo', 'fmt', '--all', '--check'] },
  {
    name: 'lint',
    groups: ['rust'],
    command: () => ['cargo', 'clippy', '--workspace', '--all-targets', ...forHost(), '--', '-D', 'warnings'],
  },
  { name: 'dependencies', groups: ['rust', 'deny'], command: () => [process.execPath, join(ROOT, 'scripts', 'deny.mjs')] },
  {
    name: 'servers',
    groups: ['rust', 'node', 'bun'],
    command: () => ['cargo', 'build', '--package', 'clickhouse-server', '--package', 'load'],
    isBuild: true,
  },
  { name: 'rust tests', groups: ['rust'], command: () => ['cargo', 'test', '--workspace', ...forHost()] },
  { name: 'addon', groups: ['types', 'node', 'bun'], command: () => ['npm', 'run', 'build:debug'], isBuild: true },
  { name: 'types', groups: ['types'], command: () => ['npm', 'run', 'types'] },
  {
    name: 'tests in Node.js',
    groups: ['node'],
    command: () => [
      process.execPath,
      '--test',
      '--test-reporter=spec',
      // Each file is a process and starts servers, which need a core as well; but most of its time it waits for them.
      `--test-concurrency=${Math.max(2, Math.floor(availableParallelism() / 4))}`,
      `--test-timeout=${LIMIT_MS}`,
      ...testFiles(),
    ],
  },
  {
    name: 'tests in Bun',
    groups: ['bun'],
    command: () => {
      const bun = findBun()
      if (!bun) throw new Error('Bun is not in node_modules: npm ci has none for this platform')
      return [bun, 'test', `--timeout=${LIMIT_MS}`, ...testFiles()]
    },
  },
]

process.exitCode = await main(process.argv.slice(2))

/**
 * @param {string[]} groups
 * @returns {Promise<number>} the exit code
 */
async function main(groups) {
  const unknown = groups.filter((group) => !GROUPS.includes(group))
  if (unknown.length > 0) {
    console.error(`unknown: ${unknown.join(', ')}; there are ${GROUPS.join(', ')}`)
    return 2
  }

  heading('setup')
  try {
    setup({ forTests: true })
  } catch (error) {
    console.error(/** @type {Error} */ (error).message)
    return 1
  }

  const steps = STEPS.filter((step) => groups.length === 0 || step.groups.some((group) => groups.includes(group)))
  const results = []
  let isBroken = false
  for (const step of steps) {
    if (isBroken) {
      results.push({ name: step.name, outcome: 'not run', seconds: 0 })
      continue
    }
    const start = performance.now()
    const succeeded = await run(step)
    results.push({
      name: step.name,
      outcome: succeeded ? 'ok' : 'FAILED',
      seconds: (performance.now() - start) / 1_000,
    })
    isBroken = !succeeded && step.isBuild === true
  }
  return summary(results)
}

/**
 * @param {Step} step
 * @returns {Promise<boolean>} whether it succeeded
 */
async function run(step) {
  heading(step.name)
  let command
  let args
  try {
    ;[command, ...args] = step.command()
  } catch (error) {
    console.error(/** @type {Error} */ (error).message)
    return false
  }
  console.log(`> ${[command, ...args].map((part) => relativeTo(ROOT, part)).join(' ')}\n`)
  const child = spawn(command, args, {
    cwd: ROOT,
    stdio: ['ignore', 'inherit', 'inherit'],
    // On Windows npm is a script.
    shell: process.platform === 'win32' && command === 'npm',
  })
  return new Promise((resolve) => {
    child.once('error', (error) => {
      console.error(error.message)
      resolve(false)
    })
    child.once('exit', (code) => resolve(code === 0))
  })
}

/** @param {string} name */
function heading(name) {
  console.log(`\n── ${name} ${'─'.repeat(Math.max(3, 76 - name.length))}\n`)
}

/**
 * @param {{ name: string, outcome: string, seconds: number }[]} results
 * @returns {number} the exit code
 */
function summary(results) {
  heading('summary')
  for (const { name, outcome, seconds } of results) {
    console.log(`${name.padEnd(20)} ${outcome.padEnd(8)} ${seconds.toFixed(1).padStart(8)} s`)
  }
  const count = (/** @type {string} */ outcome) => results.filter((result) => result.outcome === outcome).length
  const [passed, failed, notRun] = [count('ok'), count('FAILED'), count('not run')]
  if (notRun > 0) console.log(`\n${notRun} not run, because what they need could not be built`)
  console.log(`\n${passed} passed, ${failed} failed`)
  return failed > 0 ? 1 : 0
}

/**
 * The napi CLI builds with `--target`, which makes cargo keep a directory of its own for what it builds. With the same
 * option here the dependencies are compiled once.
 *
 * @returns {string[]}
 */
function forHost() {
  const rustc = execFileSync('rustc', ['--version', '--verbose'], { encoding: 'utf8' })
  const host = /^host: (.+)$/m.exec(rustc)?.[1]
  return host ? ['--target', host] : []
}

/** @returns {string[]} as paths that no test runner takes for a pattern */
function testFiles() {
  const directory = join(ROOT, '__test__')
  return readdirSync(directory, { recursive: true, encoding: 'utf8' })
    .filter((file) => file.endsWith('.test.mjs'))
    .sort()
    .map((file) => `./${join('__test__', file)}`)
}

/**
 * @param {string} root
 * @param {string} part
 */
function relativeTo(root, part) {
  return part.startsWith(root) ? relative(root, part) : part
}
