// npm test: everything that a change must pass, in order, and a summary. npm run test:full runs more of it, for hours
// rather than minutes; CONTRIBUTING.md says what and when.
//
//   npm test                      all steps
//   npm test -- node types        some of them: rust, deny, types, node, bun, soak, deploy, package
//   npm run test:full -- bun      the same of the full run
//   npm run test:full -- soak --minutes 120
//
// When a build fails nothing after it can be trusted, and the rest is not run; when a check fails the others are run
// nevertheless.

import { spawn } from 'node:child_process'
import { readdirSync } from 'node:fs'
import { availableParallelism, constants, setPriority } from 'node:os'
import { join, relative } from 'node:path'
import { fileURLToPath } from 'node:url'
import { findBun } from '../tools/servers/bun.mjs'
import { forHost } from '../tools/servers/cargo.mjs'
import { setup } from './setup.mjs'

/**
 * @typedef {object} Step
 * @property {string} name
 * @property {string[]} groups which arguments of `npm test` select it
 * @property {() => string[]} command
 * @property {boolean} [isBuild] the steps after it need what it makes
 * @property {boolean} [needsServers] its test files share a ClickHouse and a broker, which this program starts
 * @property {boolean} [isFull] only the full run has it
 * @property {boolean} [isBeside] it runs beside the tests with servers, which wait for almost half of their time
 */

const ROOT = fileURLToPath(new URL('..', import.meta.url))
const GROUPS = ['rust', 'deny', 'types', 'node', 'bun', 'soak', 'deploy', 'package']
/** The folder whose tests are about the binding: what differs between Node.js and Bun. */
const BINDING_TESTS = 'api'
const FULL = '--full'
/** Programs of one benchmark, in a workspace of their own. */
const ARCHITECTURES = ['--manifest-path', join(ROOT, 'bench', 'architectures', 'Cargo.toml')]
const args = process.argv.slice(2)
const isFull = args.includes(FULL)
const MINUTES = '--minutes'
/** How long the soak takes. */
const soakMinutes = args.includes(MINUTES) ? Number(args[args.indexOf(MINUTES) + 1]) : 30

// Tests carry time limits of their own. These are for what hangs outside of them: in Node.js the limit
// also applies to a file, and Bun kills the servers of a file together with a test that exceeds it.
const LIMIT_MS = 15 * 60_000

/** @typedef {{ name: string, outcome: string, seconds: number }} Result */

/** @type {Step[]} */
const STEPS = [
  { name: 'format', groups: ['rust'], command: () => ['cargo', 'fmt', '--all', '--check'] },
  {
    name: 'lint',
    groups: ['rust'],
    isBeside: true,
    command: () => ['cargo', 'clippy', ...packages(), '--all-targets', ...forHost(), '--', '-D', 'warnings'],
  },
  { name: 'dependencies', groups: ['rust', 'deny'], command: () => [process.execPath, join(ROOT, 'scripts', 'deny.mjs'), ...(isFull ? [FULL] : [])] },
  {
    name: 'format of bench/architectures',
    groups: ['rust'],
    isFull: true,
    command: () => ['cargo', 'fmt', '--all', '--check', ...ARCHITECTURES],
  },
  {
    name: 'lint of bench/architectures',
    groups: ['rust'],
    isFull: true,
    command: () => ['cargo', 'clippy', '--locked', '--all-targets', ...ARCHITECTURES, '--', '-D', 'warnings'],
  },
  {
    name: 'tests of bench/architectures',
    groups: ['rust'],
    isFull: true,
    command: () => ['cargo', 'test', '--locked', '--workspace', ...ARCHITECTURES],
  },
  {
    name: 'servers',
    groups: ['rust', 'node', 'bun'],
    command: () => ['cargo', 'build', '--package', 'clickhouse-server', ...(isFull ? ['--package', 'load'] : []), ...forHost()],
    isBuild: true,
  },
  { name: 'rust tests', groups: ['rust'], command: () => ['cargo', 'test', '--no-fail-fast', ...packages(), ...forHost()] },
  {
    name: 'generated files',
    groups: ['rust'],
    command: () => [process.execPath, join(ROOT, 'scripts', 'generate.mjs'), '--check'],
  },
  {
    name: 'a million crashes',
    groups: ['rust'],
    isFull: true,
    command: () => ['cargo', 'test', '--test', 'spool', ...forHost(), '--', '--ignored', 'crashes'],
  },
  {
    name: 'thousands of orders of the threads of the spool',
    groups: ['rust'],
    isFull: true,
    command: () => ['cargo', 'test', '--test', 'spool', ...forHost(), '--', '--ignored', 'hand_over'],
  },
  {
    name: 'thousands of sessions with cuts',
    groups: ['rust'],
    isFull: true,
    command: () => ['cargo', 'test', '--test', 'session', ...forHost(), '--', '--ignored', 'redeliveries'],
  },
  {
    name: 'thousands of lives of the sinks',
    groups: ['rust'],
    isFull: true,
    command: () => ['cargo', 'test', '--test', 'sink', ...forHost(), '--', '--ignored', 'lives'],
  },
  { name: 'addon', groups: ['types', 'node', 'bun'], command: () => ['npm', 'run', 'build:debug'], isBuild: true },
  { name: 'types', groups: ['types'], command: () => ['npm', 'run', 'types'] },
  {
    name: 'tests in Node.js',
    groups: ['node'],
    needsServers: true,
    command: () => [
      process.execPath,
      '--test',
      '--test-reporter=spec',
      // Each file is a process that waits most of its time, for servers and for what must not happen.
      `--test-concurrency=${Math.max(5, Math.floor(availableParallelism() / 2))}`,
      `--test-timeout=${LIMIT_MS}`,
      ...testFiles(),
    ],
  },
  {
    name: 'tests in Bun',
    groups: ['bun'],
    needsServers: true,
    command: () => {
      const bun = findBun()
      if (!bun) throw new Error('Bun is not in node_modules: npm ci has none for this platform')
      return [bun, 'test', `--timeout=${LIMIT_MS}`, ...testFiles(isFull ? '' : BINDING_TESTS)]
    },
  },
  {
    name: 'soak',
    groups: ['soak'],
    isFull: true,
    command: () => [process.execPath, join(ROOT, 'scripts', 'soak.mjs'), '--minutes', String(soakMinutes)],
  },
  { name: 'deployment', groups: ['deploy'], isFull: true, command: () => ['npm', 'run', 'test:deploy'] },
  { name: 'package', groups: ['package'], isFull: true, command: () => ['npm', 'run', 'test:package'] },
]

/** @type {Record<string, string> | undefined} the addresses of the servers that test files share, once they are started */
let servers

process.exitCode = await main(args.filter((arg, at) => arg !== FULL && arg !== MINUTES && args[at - 1] !== MINUTES))

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

  const steps = STEPS.filter(
    (step) => (isFull || !step.isFull) && (groups.length === 0 || step.groups.some((group) => groups.includes(group))),
  )
  const hasServers = steps.some((step) => step.needsServers)
  const beside = steps.filter((step) => step.isBeside && hasServers)
  /** @type {Promise<Result>[]} */
  let running = []
  /** @type {Result[]} */
  const results = []
  let isBroken = false
  for (const step of steps.filter((step) => !beside.includes(step))) {
    if (isBroken) {
      results.push({ name: step.name, outcome: 'not run', seconds: 0 })
      continue
    }
    if (step.needsServers && running.length === 0) running = beside.map((other) => timed(other, { isBeside: true }))
    const result = await timed(step)
    results.push(result)
    isBroken = result.outcome === 'FAILED' && step.isBuild === true
  }
  if (running.length === 0) results.push(...beside.map(({ name }) => ({ name, outcome: 'not run', seconds: 0 })))
  results.push(...(await Promise.all(running)))
  return summary(results)
}

/**
 * @param {Step} step
 * @param {{ isBeside?: boolean }} [options]
 * @returns {Promise<Result>}
 */
async function timed(step, options) {
  const start = performance.now()
  const succeeded = await run(step, options)
  return { name: step.name, outcome: succeeded ? 'ok' : 'FAILED', seconds: (performance.now() - start) / 1_000 }
}

/**
 * @param {Step} step
 * @param {{ isBeside?: boolean }} [options] `isBeside`: another step runs, so this one has less priority, and its output is
 *   printed when it ends
 * @returns {Promise<boolean>} whether it succeeded
 */
async function run(step, { isBeside = false } = {}) {
  if (!isBeside) heading(step.name)
  let command
  let args
  const env = { ...process.env, ...(isFull && { MILLRACE_TEST_FULL: '1' }) }
  try {
    ;[command, ...args] = step.command()
    if (step.needsServers) Object.assign(env, (servers ??= await startServers()))
  } catch (error) {
    console.error(/** @type {Error} */ (error).message)
    return false
  }
  const line = `> ${[command, ...args].map((part) => relativeTo(ROOT, part)).join(' ')}\n`
  if (!isBeside) console.log(line)
  const child = spawn(command, args, {
    cwd: ROOT,
    env,
    stdio: ['ignore', isBeside ? 'pipe' : 'inherit', isBeside ? 'pipe' : 'inherit'],
    // On Windows npm is a script.
    shell: process.platform === 'win32' && command === 'npm',
  })
  /** @type {Buffer[]} */
  const output = []
  child.stdout?.on('data', (data) => output.push(data))
  child.stderr?.on('data', (data) => output.push(data))
  if (isBeside && child.pid !== undefined) setPriority(child.pid, constants.priority.PRIORITY_BELOW_NORMAL)
  return new Promise((resolve) => {
    child.once('error', (error) => {
      console.error(error.message)
      resolve(false)
    })
    child.once('close', (code) => {
      if (isBeside) {
        heading(step.name)
        console.log(`${line}\n${Buffer.concat(output)}`)
      }
      resolve(code === 0)
    })
  })
}

/** @param {string} name */
function heading(name) {
  console.log(`\n── ${name} ${'─'.repeat(Math.max(3, 76 - name.length))}\n`)
}

/**
 * @param {Result[]} results
 * @returns {number} the exit code
 */
function summary(results) {
  heading('summary')
  for (const { name, outcome, seconds } of results) {
    console.log(`${name.padEnd(32)} ${outcome.padEnd(8)} ${seconds.toFixed(1).padStart(8)} s`)
  }
  const count = (/** @type {string} */ outcome) => results.filter((result) => result.outcome === outcome).length
  const [passed, failed, notRun] = [count('ok'), count('FAILED'), count('not run')]
  if (notRun > 0) console.log(`\n${notRun} not run, because what they need could not be built`)
  console.log(`\n${passed} passed, ${failed} failed`)
  return failed > 0 ? 1 : 0
}

/**
 * Starts the servers that the test files share; `__test__/support/servers.mjs` reads their addresses. They end with this
 * process, which does not wait until ClickHouse's files are removed.
 *
 * @returns {Promise<Record<string, string>>}
 */
async function startServers() {
  // Loaded only now: they need packages that the setup installs.
  const { OPEN_BROKER, startBroker, startClickHouse } = await import('../tools/servers/index.mjs')
  // By default the files of a dropped table are kept for eight minutes.
  const clickhouse = await startClickHouse({ config: { database_atomic_delay_before_drop_table_sec: 0 } })
  const broker = await startBroker({ config: OPEN_BROKER })
  return { MILLRACE_TEST_CLICKHOUSE_URL: clickhouse.address, MILLRACE_TEST_MQTT_URL: broker.address }
}

/**
 * The programs of the benchmarks share no code with the engine: only the full run checks them.
 *
 * @returns {string[]}
 */
function packages() {
  return ['--workspace', ...(isFull ? [] : ['--exclude', 'load', '--exclude', 'rust-service'])]
}

/**
 * @param {string} [folder] of __test__
 * @returns {string[]} as paths that no test runner takes for a pattern
 */
function testFiles(folder = '') {
  const directory = join(ROOT, '__test__', folder)
  return readdirSync(directory, { recursive: true, encoding: 'utf8' })
    .filter((file) => file.endsWith('.test.mjs'))
    // Reversed: the long files, of `resilience` and `schema`, begin first, and short ones fill the end.
    .sort()
    .reverse()
    .map((file) => `./${join('__test__', folder, file)}`)
}

/**
 * @param {string} root
 * @param {string} part
 */
function relativeTo(root, part) {
  return part.startsWith(root) ? relative(root, part) : part
}
