// Installs what `npm test` and `npm run demo` need: the npm packages and, on Debian as root, mosquitto and, for the tests,
// Chromium and yamllint. It runs before the packages are installed, so it imports only Node.js modules and files that import
// only those.

import { spawnSync } from 'node:child_process'
import { existsSync, readFileSync, statSync, utimesSync } from 'node:fs'
import { join } from 'node:path'
import { fileURLToPath, pathToFileURL } from 'node:url'
import { findChromium, findYamllint } from '../tools/servers/programs.mjs'
import { findMosquitto } from '../tools/servers/mosquitto.mjs'

const ROOT = fileURLToPath(new URL('..', import.meta.url))

/**
 * Checks Node.js and Rust, installs what is missing, and says in one line what cannot be installed.
 *
 * @param {{ forTests?: boolean }} [options] `forTests`: what only tests need as well
 * @returns {{ mosquitto: string | undefined }} the path of mosquitto, if it is there
 * @throws {Error} in one line, where nothing can go on
 */
export function setup({ forTests = false } = {}) {
  checkNode()
  checkRust()
  installPackages()
  if (forTests) installTestTools()
  return { mosquitto: findMosquitto() ?? installMosquitto() }
}

function checkNode() {
  const { engines } = JSON.parse(readFileSync(join(ROOT, 'package.json'), 'utf8'))
  const wanted = version(engines.node)
  if (isOlder(version(process.versions.node), wanted)) {
    const { node } = process.versions
    throw new Error(`Node.js ${node} is too old: ${wanted.join('.')} or newer is needed, see https://nodejs.org`)
  }
}

function checkRust() {
  const wanted = version(/^rust-version = "(.+)"$/m.exec(readFileSync(join(ROOT, 'Cargo.toml'), 'utf8'))?.[1] ?? '')
  const cargo = spawnSync('cargo', ['--version'], { cwd: ROOT, encoding: 'utf8' })
  if (cargo.error || cargo.status !== 0) {
    throw new Error(`cargo cannot be started: Rust ${wanted.join('.')} or newer is needed, see https://rustup.rs`)
  }
  if (isOlder(version(cargo.stdout), wanted)) {
    throw new Error(`${cargo.stdout.trim()} is too old: Rust ${wanted.join('.')} or newer is needed, run rustup update`)
  }
}

function installPackages() {
  const lock = join(ROOT, 'package-lock.json')
  // npm writes this file at the end of an installation.
  const installed = join(ROOT, 'node_modules', '.package-lock.json')
  if (existsSync(installed) && statSync(installed).mtimeMs >= statSync(lock).mtimeMs) return

  // `npm ci` installs exactly what the lock file says and never rewrites it.
  if (!run('npm', ['ci', '--no-audit', '--no-fund'])) {
    throw new Error('npm ci failed: see above; after a change of package.json run npm install, which updates the lock file')
  }
  const now = new Date()
  utimesSync(installed, now, now)
}

/** @returns {string | undefined} */
function installMosquitto() {
  const byHand = process.platform === 'darwin' ? 'brew install mosquitto' : 'sudo apt-get install mosquitto'
  installOnDebian('mosquitto')
  const mosquitto = findMosquitto()
  if (!mosquitto) console.log(`mosquitto is not installed: ${byHand}, or see https://mosquitto.org/download`)
  return mosquitto
}

function installTestTools() {
  if (!findChromium()) installOnDebian('chromium')
  if (!findChromium()) console.log('Chromium is not installed: the dashboard will not be tested in a browser')
  if (!findYamllint()) installOnDebian('yamllint')
}

/**
 * Where it is Debian, and we are root.
 *
 * @param {string} name
 */
function installOnDebian(name) {
  if (process.getuid?.() !== 0 || !existsSync('/etc/debian_version')) return
  const install = ['install', '--yes', '--no-install-recommends', name]
  // A first attempt mostly fails because the list of packages is absent or old.
  if (!run('apt-get', install) && run('apt-get', ['update'])) run('apt-get', install)
}

/**
 * @param {string} command
 * @param {string[]} args
 * @returns {boolean} whether it succeeded
 */
function run(command, args) {
  console.log(`> ${command} ${args.join(' ')}`)
  const { status } = spawnSync(command, args, {
    cwd: ROOT,
    env: { ...process.env, DEBIAN_FRONTEND: 'noninteractive' },
    stdio: ['ignore', 'inherit', 'inherit'],
    // On Windows npm is a script.
    shell: process.platform === 'win32',
  })
  return status === 0
}

/**
 * @param {string} text that holds a version: `>=20`, `cargo 1.95.0 (…)`
 * @returns {number[]}
 */
function version(text) {
  return (/\d+(\.\d+)*/.exec(text)?.[0] ?? '0').split('.').map(Number)
}

/**
 * @param {number[]} one
 * @param {number[]} other
 */
function isOlder(one, other) {
  for (const [i, part] of other.entries()) {
    if ((one[i] ?? 0) !== part) return (one[i] ?? 0) < part
  }
  return false
}

if (process.argv[1] && import.meta.url === pathToFileURL(process.argv[1]).href) {
  try {
    setup({ forTests: true })
  } catch (error) {
    console.error(/** @type {Error} */ (error).message)
    process.exitCode = 1
  }
}
