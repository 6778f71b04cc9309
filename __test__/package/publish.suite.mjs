// A release, against a registry on the loopback: half of it, the rest with the same bits, other bits; the repository, which must
// stay installable and clean; and the scripts and workflows around it.

import assert from 'node:assert/strict'
import { execFileSync } from 'node:child_process'
import { existsSync, mkdirSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { basename, join } from 'node:path'
import { after, before, test } from 'node:test'
import { describe as describeBinary, faults } from '../../scripts/release/binary.mjs'
import { manifestIn, packMain } from '../../scripts/release/tarballs.mjs'
import { GLIBC_FLOOR, ROOT, targets } from '../../scripts/release/targets.mjs'
import { Registry } from '../../tools/servers/registry.mjs'
import { addon, host, makeTarballs, run, scratch, version } from '../support/package.mjs'
import { NODE } from './setup.mjs'

const timeout = 300_000
const { folder, remove } = scratch()
const release = join(folder, 'release')
const names = [...targets().map((target) => target.package), 'millrace']
/** @type {Registry} */
let registry

before(
  async () => {
    mkdirSync(release)
    for (const path of makeTarballs(folder)) writeFileSync(join(release, basename(path)), readFileSync(path))
    registry = await Registry.start()
    const { port } = new URL(registry.url)
    writeFileSync(join(folder, '.npmrc'), `registry=${registry.url}\n//127.0.0.1:${port}/:_authToken=any\n`)
    writeFileSync(join(folder, 'package.json'), '{ "private": true }')
  },
  { timeout },
)
after(async () => {
  await registry.stop()
  remove()
})

const publish = (/** @type {string[]} */ ...args) =>
  run(folder, [join(NODE, 'node'), join(ROOT, 'scripts', 'release', 'publish.mjs'), ...args], { env: { npm_config_cache: join(folder, 'cache') } })

test('nothing is published while a tarball is missing', { timeout }, async () => {
  const path = join(release, /** @type {string} */ (readdirSync(release).find((name) => name.includes('darwin-arm64'))))
  const bytes = readFileSync(path)
  rmSync(path)
  const { status, stderr } = await publish(release)
  writeFileSync(path, bytes)
  assert.equal(status, 1)
  assert.match(stderr, /has no tarball of .* of @millrace\/binding-darwin-arm64/)
  assert.deepEqual(registry.published, [])
})

test('a dry run publishes nothing', { timeout }, async () => {
  const { status, stderr } = await publish('--dry-run', release)
  assert.equal(status, 0, stderr)
  assert.deepEqual(registry.published, [])
})

test('a release that fails half way goes on with the same bits, the main package last', { timeout }, async () => {
  registry.refuses = names[4]
  const half = await publish(release)
  assert.equal(half.status, 1)
  assert.deepEqual(registry.published, names.slice(0, 4))

  registry.refuses = undefined
  const { status, stdout, stderr } = await publish(release)
  assert.equal(status, 0, stderr)
  assert.deepEqual(registry.published, names)
  assert.equal(stdout.match(/is published already, with the same bits/g)?.length, 4)

  const again = await publish(release)
  assert.equal(again.status, 0, again.stderr)
  assert.deepEqual(registry.published, names)
})

test('other bits under the same version are refused before anything is published', { timeout }, async () => {
  const others = join(folder, 'others')
  mkdirSync(others)
  for (const name of readdirSync(release)) writeFileSync(join(others, name), readFileSync(join(release, name)))
  const rebuilt = targets()[0]
  const path = join(others, /** @type {string} */ (readdirSync(others).find((name) => name.includes(rebuilt.name))))
  // A gzip of the same files with another header: the same package, in other bits.
  const bytes = readFileSync(path)
  bytes[4] ^= 1
  writeFileSync(path, bytes)
  assert.equal(manifestIn(bytes).name, rebuilt.package)
  const { status, stderr } = await publish(others)
  assert.equal(status, 1)
  assert.match(stderr, new RegExp(`other bits of ${version} of ${rebuilt.package}`))
})

test('the main package is not published with other pins than its own version', { timeout }, async () => {
  const path = packMain(join(folder, 'pins'), { version: '9.9.9' })
  assert.deepEqual([...new Set(Object.values(manifestIn(readFileSync(path)).optionalDependencies))], ['9.9.9'])
})

test('npm ci works in a clone of the repository, and leaves it clean', { timeout }, async () => {
  const clone = join(folder, 'clone')
  execFileSync('git', ['clone', '--quiet', '--shared', ROOT, clone])
  const npm = (/** @type {string[]} */ ...args) => run(clone, ['npm', ...args, '--no-audit', '--no-fund', '--ignore-scripts', '--prefer-offline'])
  for (const more of [[], ['--workspaces=false']]) {
    const { status, stderr } = await npm('ci', ...more)
    assert.equal(status, 0, stderr)
    assert.equal(execFileSync('git', ['status', '--porcelain'], { cwd: clone, encoding: 'utf8' }), '')
  }
  const { status, stderr } = await npm('install')
  assert.equal(status, 0, stderr)
  assert.equal(execFileSync('git', ['status', '--porcelain'], { cwd: clone, encoding: 'utf8' }), '')
})

const script = (/** @type {string} */ name, /** @type {string[]} */ args = [], /** @type {Record<string, string>} */ env = {}) =>
  run(ROOT, [join(NODE, 'node'), join(ROOT, 'scripts', 'release', name), ...args], { env })

test('npm pack --dry-run names the files that may be published', { timeout }, async () => {
  assert.deepEqual(await script('files.mjs'), { status: 0, stdout: '', stderr: '' })
})

test('the workflows have no fault that actionlint knows, and one with a fault is found', { timeout }, async () => {
  assert.deepEqual(await script('lint.mjs'), { status: 0, stdout: '', stderr: '' })
  const wrong = join(folder, 'wrong.yml')
  writeFileSync(wrong, 'on: push\njobs:\n  a:\n    runs-on: ubuntu-24.04\n    needs: b\n    steps:\n      - run: echo\n')
  const { status, stderr } = await script('lint.mjs', [wrong])
  assert.equal(status, 1)
  assert.match(stderr, /needs job "b" which does not exist/)
})

test('the workflows run scripts of the repository', () => {
  for (const name of ['ci.yml', 'release.yml']) {
    const text = readFileSync(join(ROOT, '.github', 'workflows', name), 'utf8')
    for (const [, path] of text.matchAll(/\b(scripts\/[\w/-]+\.mjs)/g)) assert.ok(readFileSync(join(ROOT, path)).length > 0)
    const { scripts } = JSON.parse(readFileSync(join(ROOT, 'package.json'), 'utf8'))
    for (const [, command] of text.matchAll(/npm run ([\w:]+)/g)) assert.ok(scripts[command], command)
    // Every target once.
    if (name === 'release.yml') for (const { triple } of targets()) assert.equal(text.split(`target: ${triple},`).length, 2, triple)
  }
})

test('a release is checked against tag, repository and changelog', { timeout }, async () => {
  assert.equal((await script('check.mjs')).status, 0)
  const { status, stderr } = await script('check.mjs', [], { GITHUB_REF_TYPE: 'tag', GITHUB_REF_NAME: 'v9.9.9', GITHUB_REPOSITORY: 'some/fork' })
  assert.equal(status, 1)
  assert.match(stderr, /the tag is v9\.9\.9/)
  assert.match(stderr, /this is some\/fork/)
})

test('the addon that ships needs no newer glibc than it says', { timeout }, (t) => {
  if (host.libc !== 'glibc') return t.skip('this system has none')
  const { glibc } = describeBinary(readFileSync(addon()))
  assert.ok(glibc)
  const [major, minor] = glibc.split('.').map(Number)
  const [most, floor] = GLIBC_FLOOR.split('.').map(Number)
  assert.ok(major < most || (major === most && minor <= floor), `it needs glibc ${glibc}`)
})

test('the addon for musl wants nothing that musl and Node.js do not have', { timeout }, async (t) => {
  const loader = { x64: '/lib/ld-musl-x86_64.so.1', arm64: '/lib/ld-musl-aarch64.so.1' }[process.arch]
  const target = targets().find(({ libc, cpu }) => libc === 'musl' && cpu === process.arch)
  const path = target && join(target.folder, target.addon)
  if (!path || !loader || !existsSync(path) || !existsSync(loader)) return t.skip('needs musl, and npm run package -- <target>')
  assert.deepEqual(faults(readFileSync(path), target, GLIBC_FLOOR), [])
  // The loader of musl resolves every name as it would to load the file.
  const { status, stdout, stderr } = await run(folder, [loader, '--list', path])
  assert.equal(status, 0, stdout + stderr)
  assert.doesNotMatch(stdout + stderr, /not found|Error/)
})

test('the tarballs install and work with nothing but Node.js', { timeout }, async () => {
  for (const command of [join(NODE, 'node'), process.execPath]) {
    const { status, stdout, stderr } = await run(ROOT, [command, join(ROOT, 'scripts', 'release', 'smoke.mjs'), release])
    assert.equal(status, 0, stderr)
    assert.match(stdout, /100 rows/)
  }
})
