// Builds what a run needs. Each step prints one line; its output is printed only if it fails.

import { spawn } from 'node:child_process'
import { join } from 'node:path'
import { performance } from 'node:perf_hooks'
import { fileURLToPath } from 'node:url'
import { forHost } from '../../tools/servers/cargo.mjs'

const ROOT = fileURLToPath(new URL('../..', import.meta.url))

/** Lines printed of a failed step's output; the cause is at the end. */
const SHOWN_LINES = 40

/**
 * Runs a command of the repository as one step.
 *
 * @param {import('./scope.mjs').Scope} scope
 * @param {string} title
 * @param {string} command
 * @param {string[]} args
 * @returns {Promise<string>} its standard output
 */
export async function step(scope, title, command, args) {
  const started = performance.now()
  process.stdout.write(`${title} … `)
  // npm is a batch file on Windows, which only a shell can start.
  const child = spawn(command, args, { cwd: ROOT, shell: process.platform === 'win32' })
  scope.defer(() => child.kill())
  let output = ''
  let everything = ''
  child.stdout.on('data', (text) => {
    output += text
    everything += text
  })
  child.stderr.on('data', (text) => (everything += text))
  const failure = await new Promise((resolve) => {
    child.once('error', () => resolve(`${command} is not installed`))
    child.once('close', (code) => resolve(code === 0 ? undefined : `${command} ${args.join(' ')} failed`))
  })
  console.log(failure ? 'failed' : `${((performance.now() - started) / 1000).toFixed(1)} s`)
  if (failure) {
    const words = everything.split('\n').filter((line) => line.trim() && !line.startsWith('{'))
    console.error(words.slice(-SHOWN_LINES).join('\n'))
    throw new Error(failure)
  }
  return output
}

/**
 * @param {import('./scope.mjs').Scope} scope
 * @param {string} [profile] of cargo
 */
export async function buildAddon(scope, profile = 'release') {
  const script = {
    release: ['build'],
    dev: ['build:debug'],
  }[profile] ?? ['build:debug', '--', '--profile', profile]
  await step(scope, 'Building the addon (at first this takes minutes)', 'npm', ['run', ...script])
}

/**
 * @param {import('./scope.mjs').Scope} scope
 * @param {string} [profile]
 * @returns {Promise<string>} the path of the program
 */
export async function buildLoad(scope, profile = 'quick') {
  return cargo(scope, 'Building the load generator', ['--profile', profile, '--package', 'load'])
}

/**
 * The service in Rust, built as the addon is.
 *
 * @param {import('./scope.mjs').Scope} scope
 * @param {string} profile
 * @returns {Promise<string>} the path of the program
 */
export async function buildRustService(scope, profile) {
  return cargo(scope, 'Building the service in Rust', ['--profile', profile, '--package', 'rust-service'])
}

/**
 * `examples/fleet/service.mts` as JavaScript, for a runtime that does not take TypeScript.
 *
 * @param {import('./scope.mjs').Scope} scope
 * @returns {Promise<string>} the path of the program
 */
export async function buildFleetService(scope) {
  const compiler = join(ROOT, 'node_modules', 'typescript', 'bin', 'tsc')
  await step(scope, 'Compiling the fleet service', process.execPath, [compiler, '-p', join(ROOT, 'examples', 'fleet', 'tsconfig.json')])
  return join(ROOT, 'target', 'fleet', 'service.mjs')
}

/** @param {import('./scope.mjs').Scope} scope */
export async function buildClickHouseServer(scope) {
  if (process.env.CLICKHOUSE_URL) return
  await cargo(scope, 'Building the ClickHouse server', ['--package', 'clickhouse-server'])
}

/**
 * @param {import('./scope.mjs').Scope} scope
 * @param {string} title
 * @param {string[]} args
 */
async function cargo(scope, title, args) {
  const output = await step(scope, title, 'cargo', ['build', '--message-format', 'json-render-diagnostics', ...forHost(), ...args])
  const messages = output.split('\n').filter((line) => line.startsWith('{')).map((line) => JSON.parse(line))
  return messages.filter((message) => message.executable).at(-1).executable
}
