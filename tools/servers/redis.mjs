import { spawnSync } from 'node:child_process'
import { existsSync, mkdirSync, readdirSync, rmSync } from 'node:fs'
import { connect } from 'node:net'
import { delimiter, join, resolve } from 'node:path'
import { fileURLToPath } from 'node:url'
import { ManagedProcess } from './managed-process.mjs'
import { Server, startServer } from './server.mjs'

const ROOT = fileURLToPath(new URL('../..', import.meta.url))
const UNPACKED = resolve(ROOT, process.env.CARGO_TARGET_DIR ?? 'target', 'tools', 'redis')
/** Debian's, with the libraries that a machine without Redis has no other use for. */
const PACKAGES = ['redis-server', 'redis-tools', 'libatomic1', 'libjemalloc2', 'liblzf1']
/** Jobs that wait are kept in memory. */
const MAX_MEMORY = '2gb'

/**
 * Starts a Redis that appends what it is given to a file, and waits until it accepts connections. It ends when this process
 * ends, at the latest.
 *
 * @returns {Promise<Server>}
 */
export async function startRedis() {
  const redis = findRedis() ?? installRedis()
  return startServer(undefined, (port) => {
    const settings = {
      port,
      bind: '127.0.0.1',
      save: '',
      appendonly: 'yes',
      maxmemory: MAX_MEMORY,
      // A queue that drops jobs when memory is short is none.
      'maxmemory-policy': 'noeviction',
    }
    const server = new ManagedProcess('redis', (directory) => {
      const args = Object.entries({ ...settings, dir: directory }).flatMap(([name, value]) => [`--${name}`, String(value)])
      if (!redis.libraries) return { command: redis.program, args }
      return { command: 'env', args: [`LD_LIBRARY_PATH=${redis.libraries}`, redis.program, ...args] }
    })
    return new Redis(new URL(`redis://127.0.0.1:${port}`), server)
  })
}

class Redis extends Server {
  async isReady() {
    return this.log.includes('Ready to accept connections') && (await accepts(this.port))
  }
}

/** @param {number} port */
function accepts(port) {
  return new Promise((resolve) => {
    const socket = connect(port, '127.0.0.1')
    socket.once('connect', () => resolve(true)).once('error', () => resolve(false))
    socket.once('connect', () => socket.destroy())
  })
}

/** @returns {{ program: string, libraries?: string } | undefined} the one that is installed, or was unpacked earlier */
function findRedis() {
  const program = (process.env.PATH ?? '')
    .split(delimiter)
    .filter(Boolean)
    .map((directory) => join(directory, 'redis-server'))
    .find((path) => existsSync(path))
  return program ? { program } : unpacked()
}

function unpacked() {
  const program = join(UNPACKED, 'usr', 'bin', 'redis-server')
  if (!existsSync(program)) return undefined
  const folder = join(UNPACKED, 'usr', 'lib')
  const libraries = readdirSync(folder, { withFileTypes: true })
    .filter((entry) => entry.isDirectory() && entry.name.includes('-linux-'))
    .map(({ name }) => join(folder, name))
  return { program, libraries: libraries.join(':') }
}

/**
 * Unpacks Debian's packages into a folder of the build: nothing is installed, and no service is started.
 *
 * @returns {{ program: string, libraries?: string }}
 */
function installRedis() {
  const downloads = join(UNPACKED, 'packages')
  mkdirSync(downloads, { recursive: true })
  const download = () => run('apt-get', ['download', ...PACKAGES], downloads)
  // A first attempt often fails because the list of packages is absent or old.
  if (download() || (process.getuid?.() === 0 && run('apt-get', ['update'], downloads) && download())) {
    for (const file of readdirSync(downloads)) run('dpkg-deb', ['--extract', join(downloads, file), UNPACKED], downloads)
  }
  rmSync(downloads, { recursive: true, force: true })
  const redis = unpacked()
  if (!redis) throw new Error('redis-server is not installed: sudo apt-get install redis-server, or brew install redis')
  return redis
}

/**
 * @param {string} command
 * @param {string[]} args
 * @param {string} cwd
 * @returns {boolean} whether it succeeded
 */
function run(command, args, cwd) {
  return spawnSync(command, args, { cwd, stdio: 'ignore' }).status === 0
}
