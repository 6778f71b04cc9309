// The tarballs that are published: of the main package with its optional dependencies, and of platform packages.
//
// package.json of the repository names no optional dependencies: before the first release, and between raising the version
// and publishing it, they would be packages that no registry has, and `npm ci` would fail. They are written into the
// copy that is packed, from which the keys that only the repository needs are absent.

import { execFileSync } from 'node:child_process'
import { cpSync, existsSync, mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { gunzipSync } from 'node:zlib'
import { faults } from './binary.mjs'
import { GLIBC_FLOOR, manifest, ROOT, targets } from './targets.mjs'

const LICENCES = ['LICENSE-APACHE', 'LICENSE-MIT']
const NOT_PUBLISHED = ['devDependencies', 'scripts', 'workspaces', 'napi']

/**
 * @param {string} [version] another one than that of the repository, for tests
 * @returns {any} the package.json that is published
 */
export function publishedManifest(version) {
  const all = manifest()
  const own = Object.fromEntries(Object.entries(all).filter(([key]) => !NOT_PUBLISHED.includes(key)))
  const pinned = version ?? all.version
  return {
    ...own,
    version: pinned,
    optionalDependencies: Object.fromEntries(targets().map((target) => [target.package, pinned])),
  }
}

/**
 * @param {string} destination a folder
 * @param {{ version?: string }} [options]
 * @returns {string} the path of the tarball
 */
export function packMain(destination, { version } = {}) {
  return inFolder((folder) => {
    const published = publishedManifest(version)
    for (const file of [...published.files, 'README.md']) {
      if (!existsSync(join(ROOT, file))) throw new Error(`${file} is missing`)
      cpSync(join(ROOT, file), join(folder, file), { recursive: true })
    }
    writeJson(join(folder, 'package.json'), published)
    return pack(folder, destination)
  })
}

/**
 * @param {import('./targets.mjs').Target} target
 * @param {string} destination a folder
 * @param {{ addon?: string, version?: string, check?: boolean }} [options] `addon`: the file, else the one that lies in the
 *   platform package. `check: false`: also one that was built for development
 * @returns {string} the path of the tarball
 */
export function packPlatform(target, destination, { addon = join(target.folder, target.addon), version, check = true } = {}) {
  if (!existsSync(addon)) throw new Error(`${target.package}: ${addon} is missing`)
  const wrong = check ? faults(readFileSync(addon), target, GLIBC_FLOOR) : []
  if (wrong.length > 0) throw new Error(`${target.package}: ${wrong.join('; ')}`)
  return inFolder((folder) => {
    const own = JSON.parse(readFileSync(join(target.folder, 'package.json'), 'utf8'))
    writeJson(join(folder, 'package.json'), { ...own, version: version ?? own.version, files: [...own.files, ...LICENCES] })
    cpSync(join(target.folder, 'README.md'), join(folder, 'README.md'))
    for (const name of LICENCES) cpSync(join(ROOT, name), join(folder, name))
    cpSync(addon, join(folder, target.addon))
    return pack(folder, destination)
  })
}

/** @param {string} folder @param {string} destination */
function pack(folder, destination) {
  mkdirSync(destination, { recursive: true })
  const answer = execFileSync('npm', ['pack', folder, '--json', '--ignore-scripts', '--pack-destination', destination], {
    cwd: folder,
    encoding: 'utf8',
    stdio: ['ignore', 'pipe', 'inherit'],
    shell: process.platform === 'win32',
  })
  // A list up to npm 11, afterwards an object by names.
  const [{ filename }] = /** @type {any[]} */ (Object.values(JSON.parse(answer)))
  return join(destination, filename.replace('@', '').replace('/', '-'))
}

/** @template T @param {(folder: string) => T} work @returns {T} */
function inFolder(work) {
  const folder = mkdtempSync(join(tmpdir(), 'millrace-package-'))
  try {
    return work(folder)
  } finally {
    rmSync(folder, { recursive: true, force: true })
  }
}

/** @param {string} path @param {any} value */
function writeJson(path, value) {
  writeFileSync(path, `${JSON.stringify(value, null, 2)}\n`)
}

/**
 * @param {string} tarball
 * @returns {string[]} the files in it, sorted
 */
export function filesIn(tarball) {
  const names = execFileSync('tar', ['-tzf', tarball], { encoding: 'utf8' }).trim().split('\n')
  return names.map((name) => name.replace(/^package\//, '')).sort()
}

/**
 * The package.json of a tarball. ustar: blocks of 512 bytes; a header has the name in its first 100 bytes, and the size in
 * octal from byte 124; the content follows.
 *
 * @param {Buffer} tarball
 * @returns {any}
 */
export function manifestIn(tarball) {
  const tar = gunzipSync(tarball)
  for (let at = 0; at + 512 <= tar.length; ) {
    const name = tar.toString('utf8', at, at + 100).replace(/\0.*$/s, '')
    const size = Number.parseInt(tar.toString('latin1', at + 124, at + 136), 8) || 0
    // The first folder is mostly, but not always, `package`.
    if (/^[^/]+\/package\.json$/.test(name)) return JSON.parse(tar.toString('utf8', at + 512, at + 512 + size))
    at += 512 + Math.ceil(size / 512) * 512
  }
  throw new Error('there is no package.json in it')
}
