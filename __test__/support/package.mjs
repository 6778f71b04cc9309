// The package as it is published, from what was built here: its tarballs, a registry that has them, and empty projects to
// install it into.

import { execFileSync, spawn, spawnSync } from 'node:child_process'
import { copyFileSync, existsSync, mkdirSync, mkdtempSync, readdirSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { delimiter, dirname, join } from 'node:path'
import { packMain, packPlatform } from '../../scripts/release/tarballs.mjs'
import { hostTarget, manifest, ROOT, targets } from '../../scripts/release/targets.mjs'
import { Registry } from '../../tools/servers/registry.mjs'

export const host = hostTarget()
export const { version } = manifest()

/** An existing addon of this machine: the one that ships, where it was built, else that of the tests. */
export function addon() {
  const shipped = join(host.folder, host.addon)
  return existsSync(shipped) ? shipped : join(ROOT, host.addon)
}

/**
 * A directory that is there until `remove()`.
 */
export function scratch() {
  const folder = mkdtempSync(join(tmpdir(), 'millrace-test-'))
  return { folder, remove: () => rmSync(folder, { recursive: true, force: true, maxRetries: 5 }) }
}

/**
 * The tarballs of the main package, of this platform, and, so that each lock file can name them, of the others, whose addon
 * is a text.
 *
 * @param {string} folder
 * @param {{ version?: string, others?: boolean }} [options]
 * @returns {string[]} their paths
 */
export function makeTarballs(folder, { version: other, others = true } = {}) {
  const stripped = join(folder, host.addon)
  // Most bytes of the debug addon are for debuggers.
  const { error, status } = spawnSync('strip', ['-o', stripped, addon()])
  if (error || status !== 0) copyFileSync(addon(), stripped)
  const text = join(folder, 'other.node')
  writeFileSync(text, 'the addon of another platform\n')
  const options = { version: other, check: false }
  const tarballs = targets()
    .filter((target) => others || target.name === host.name)
    .map((target) => packPlatform(target, folder, { ...options, addon: target.name === host.name ? stripped : text }))
  return [...tarballs, packMain(folder, { version: other })]
}

/**
 * A registry with these tarballs and with what the package depends on, from node_modules.
 *
 * @param {string[]} tarballs
 * @param {{ upstream?: string }} [options]
 */
export async function startRegistry(tarballs, options) {
  const registry = await Registry.start(options)
  for (const tarball of tarballs) registry.add(tarball)
  const { folder, remove } = scratch()
  try {
    const names = Object.keys(manifest().dependencies)
    const paths = names.map((name) => join(ROOT, 'node_modules', name))
    execFileSync('npm', ['pack', ...paths, '--json', '--ignore-scripts', '--pack-destination', folder], {
      cwd: folder,
      stdio: ['ignore', 'pipe', 'inherit'],
    })
    for (const file of readdirSync(folder)) registry.add(join(folder, file))
  } finally {
    remove()
  }
  return registry
}

/** Everything that a shell has but Rust. */
export function pathWithoutCargo(/** @type {string[]} */ ...first) {
  const folders = (process.env.PATH ?? '').split(delimiter)
  return [...first, ...folders.filter((folder) => !existsSync(join(folder, 'cargo')))].join(delimiter)
}

/**
 * An empty project.
 *
 * @param {string} folder
 * @param {string} registry its address
 * @param {Record<string, string>} [files]
 */
export function makeProject(folder, registry, files = {}) {
  mkdirSync(folder, { recursive: true })
  const own = {
    'package.json': JSON.stringify({ name: 'service', version: '1.0.0', private: true }, null, 2),
    '.npmrc': `registry=${registry}\naudit=false\nfund=false\nupdate-notifier=false\n`,
    ...files,
  }
  for (const [name, text] of Object.entries(own)) {
    mkdirSync(dirname(join(folder, name)), { recursive: true })
    writeFileSync(join(folder, name), text)
  }
  return folder
}

/**
 * Runs a program in a folder, with neither cargo nor the environment of npm.
 *
 * @param {string} folder
 * @param {string[]} command
 * @param {{ env?: Record<string, string | undefined>, path?: string[], timeoutMs?: number }} [options]
 * @returns {Promise<{ status: number | null, stdout: string, stderr: string }>}
 */
export function run(folder, [program, ...args], { env = {}, path = [], timeoutMs = 120_000 } = {}) {
  const inherited = Object.entries(process.env).filter(([name]) => !/^(npm_|NODE_(OPTIONS|PATH|TEST|V8)|CARGO|RUST|INIT_CWD)/i.test(name))
  const child = spawn(program, args, {
    cwd: folder,
    env: { ...Object.fromEntries(inherited), PATH: pathWithoutCargo(...path), ...env },
    stdio: ['ignore', 'pipe', 'pipe'],
    timeout: timeoutMs,
    killSignal: 'SIGKILL',
  })
  let [stdout, stderr] = ['', '']
  child.stdout.setEncoding('utf8').on('data', (text) => (stdout += text))
  child.stderr.setEncoding('utf8').on('data', (text) => (stderr += text))
  return new Promise((resolve, reject) => {
    child.once('error', reject)
    child.once('close', (status) => resolve({ status, stdout, stderr }))
  })
}
