// Publishes the nine tarballs of a release: the eight platform packages, then, when each of them can be fetched, the main one.
//
//   node scripts/release/publish.mjs [--dry-run] [--provenance] [<folder>]      target/package when none is named
//
// It can be run again after it has failed half way: what is published already is passed over if it has the same bits, and
// if it has others nothing is published at all, since a version must not be a mixture of two builds.

import { execFileSync, spawnSync } from 'node:child_process'
import { createHash } from 'node:crypto'
import { readdirSync, readFileSync } from 'node:fs'
import { join } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import { parseArgs } from 'node:util'
import { manifestIn } from './tarballs.mjs'
import { manifest, ROOT, targets } from './targets.mjs'

const FETCHABLE_WITHIN_MS = 5 * 60_000
const npm = { encoding: /** @type {'utf8'} */ ('utf8'), shell: process.platform === 'win32' }

/**
 * @typedef {object} Tarball
 * @property {string} path
 * @property {string} name
 * @property {string} version
 * @property {string} integrity as the registry gives it
 * @property {any} manifest
 */

const { values, positionals } = parseArgs({
  allowPositionals: true,
  options: { 'dry-run': { type: 'boolean' }, provenance: { type: 'boolean' } },
})

try {
  await publishAll(positionals[0] ?? join(ROOT, 'target', 'package'))
} catch (error) {
  console.error(/** @type {Error} */ (error).message)
  process.exitCode = 1
}

/** @param {string} folder */
async function publishAll(folder) {
  const { name: main, version } = manifest()
  const all = readdirSync(folder).filter((file) => file.endsWith('.tgz')).map((file) => readTarball(join(folder, file)))
  const names = [...targets().map((target) => target.package), main]
  const release = names.map((name) => all.find((tarball) => tarball.name === name && tarball.version === version))
  const missing = names.filter((_, i) => !release[i])
  if (missing.length > 0) throw new Error(`not published: ${folder} has no tarball of ${version} of ${missing.join(', ')}`)
  const tarballs = /** @type {Tarball[]} */ (release)
  checkPins(/** @type {Tarball} */ (tarballs.at(-1)), version)

  const published = tarballs.map((tarball) => registryIntegrity(tarball))
  const others = tarballs.filter(({ integrity }, i) => published[i] !== undefined && published[i] !== integrity)
  if (others.length > 0) {
    const text = others.map(({ name }) => name).join(', ')
    throw new Error(`not published: the registry has other bits of ${version} of ${text}. Publish a new version`)
  }

  for (const [i, tarball] of tarballs.entries()) {
    if (tarball.name === main && !values['dry-run']) await allFetchable(tarballs.slice(0, i))
    if (published[i] === undefined) publish(tarball)
    else console.log(`${tarball.name}@${version} is published already, with the same bits`)
  }
}

/** @param {Tarball} main @param {string} version */
function checkPins({ manifest: { optionalDependencies = {} } }, version) {
  const wrong = targets().filter((target) => optionalDependencies[target.package] !== version)
  if (wrong.length > 0) {
    const text = wrong.map((target) => target.package).join(', ')
    throw new Error(`not published: the main package does not depend on exactly ${version} of ${text}`)
  }
}

/** @param {string} path @returns {Tarball} */
function readTarball(path) {
  const bytes = readFileSync(path)
  const own = manifestIn(bytes)
  const integrity = `sha512-${createHash('sha512').update(bytes).digest('base64')}`
  return { path, name: own.name, version: own.version, integrity, manifest: own }
}

/** @param {Tarball} tarball @returns {string | undefined} undefined: this version is not published */
function registryIntegrity({ name, version }) {
  const { status, stdout, stderr } = spawnSync('npm', ['view', `${name}@${version}`, 'dist.integrity', '--json'], npm)
  if (status === 0) return stdout.trim() === '' ? undefined : JSON.parse(stdout)
  if (/E404/.test(stdout + stderr)) return undefined
  throw new Error(`the registry cannot be asked for ${name}: ${stderr}`)
}

/** @param {Tarball} tarball */
function publish({ path, name, version }) {
  const args = ['publish', path, '--access', 'public', '--tag', version.includes('-') ? 'next' : 'latest']
  if (values.provenance) args.push('--provenance')
  if (values['dry-run']) args.push('--dry-run')
  console.log(`> npm ${args.join(' ')}`)
  execFileSync('npm', args, { ...npm, stdio: ['ignore', 'inherit', 'inherit'] })
  console.log(`${name}@${version} is ${values['dry-run'] ? 'not published: a dry run' : 'published'}`)
}

/**
 * A registry may show a version some time after it has taken it.
 *
 * @param {Tarball[]} tarballs
 */
async function allFetchable(tarballs) {
  const deadline = Date.now() + FETCHABLE_WITHIN_MS
  for (const tarball of tarballs) {
    while (!(await isFetchable(tarball))) {
      if (Date.now() > deadline) {
        throw new Error(`${tarball.name}@${tarball.version} cannot be fetched: the main package is not published. Run this again`)
      }
      await sleep(2_000)
    }
  }
}

/** @param {Tarball} tarball */
async function isFetchable({ name, version, integrity }) {
  const { status, stdout } = spawnSync('npm', ['view', `${name}@${version}`, 'dist', '--json', '--prefer-online'], npm)
  if (status !== 0 || stdout.trim() === '') return false
  const dist = JSON.parse(stdout)
  const answer = await fetch(dist.tarball, { method: 'HEAD' })
  return answer.ok && dist.integrity === integrity
}
