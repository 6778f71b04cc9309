// The package as its users get it: what is in it, that it installs from a registry and loads, and what its errors say where
// the addon is missing or must not be loaded. `npm run test:package` does the same with every package manager.

import assert from 'node:assert/strict'
import { execFileSync, spawnSync } from 'node:child_process'
import { copyFileSync, cpSync, existsSync, mkdirSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { after, before, describe, test } from 'node:test'
import { describe as describeBinary, faults } from '../../scripts/release/binary.mjs'
import { problems } from '../../scripts/release/files.mjs'
import { filesIn, publishedManifest } from '../../scripts/release/tarballs.mjs'
import { manifest, ROOT, targets } from '../../scripts/release/targets.mjs'
import { findBun } from '../../tools/servers/index.mjs'
import { addon, host, makeProject, makeTarballs, run, scratch, startRegistry, version } from '../support/package.mjs'

const timeout = 120_000
// Under `bun test` process.execPath is Bun.
const node = process.versions.bun ? 'node' : process.execPath
const { folder, remove } = scratch()
after(remove)

const json = (/** @type {string} */ path) => JSON.parse(readFileSync(join(ROOT, path), 'utf8'))

describe('the manifests', () => {
  test('all packages and the crate have one version', () => {
    const cargo = /^\[workspace\.package\]\nversion = "(.+)"$/m.exec(readFileSync(join(ROOT, 'Cargo.toml'), 'utf8'))?.[1]
    assert.equal(cargo, version)
    for (const target of targets()) assert.equal(json(`npm/${target.name}/package.json`).version, version, target.name)
  })

  test('the platform packages are those that napi makes of package.json', () => {
    const copy = join(folder, 'napi')
    mkdirSync(copy)
    copyFileSync(join(ROOT, 'package.json'), join(copy, 'package.json'))
    execFileSync(node, [join(ROOT, 'node_modules/@napi-rs/cli/dist/cli.js'), 'create-npm-dirs'], { cwd: copy, stdio: 'pipe' })
    assert.deepEqual(readdirSync(join(copy, 'npm')).sort(), readdirSync(join(ROOT, 'npm')).sort())
    for (const { name, os, cpu, libc } of targets()) {
      const own = json(`npm/${name}/package.json`)
      assert.deepEqual(own, JSON.parse(readFileSync(join(copy, 'npm', name, 'package.json'), 'utf8')), name)
      assert.deepEqual([own.os, own.cpu, own.libc], [[os], [cpu], libc && [libc]], name)
      assert.ok(own.repository && own.publishConfig, name)
    }
  })

  test('the main package depends on exactly its own version of each, and the repository on none', () => {
    const wanted = Object.fromEntries(targets().map((target) => [target.package, version]))
    assert.deepEqual(publishedManifest().optionalDependencies, wanted)
    assert.equal(targets().length, 8)
    // `npm ci` of the repository would fail while a version is not published.
    assert.equal(manifest().optionalDependencies, undefined)
    assert.doesNotMatch(readFileSync(join(ROOT, 'package-lock.json'), 'utf8'), /@millrace\/binding/)
  })

  test('nothing runs when they are installed', () => {
    for (const own of [publishedManifest(), ...targets().map(({ name }) => json(`npm/${name}/package.json`))]) {
      assert.equal(own.scripts, undefined, own.name)
    }
    for (const script of ['preinstall', 'install', 'postinstall', 'prepare']) assert.equal(manifest().scripts[script], undefined)
  })
})

describe('publishing', () => {
  const prepublish = (/** @type {Record<string, string>} */ env) =>
    spawnSync(node, [join(ROOT, 'scripts/release/prepublish.mjs')], { encoding: 'utf8', env: { ...process.env, ...env } })

  test('is refused from the repository, and every artifact that is missing is named', () => {
    const missing = targets().filter((target) => !existsSync(join(target.folder, target.addon)))
    const { status, stderr } = prepublish({ npm_config_dry_run: '' })
    assert.equal(status, 1)
    assert.match(stderr, /^not published/)
    for (const target of missing) assert.ok(stderr.includes(`${target.package}: ${target.addon} is missing`), stderr)
  })

  test('does nothing in a dry run', () => {
    const { status, stdout, stderr } = prepublish({ npm_config_dry_run: 'true' })
    assert.deepEqual([status, stderr], [0, ''])
    assert.match(stdout, /nothing is checked/)
  })

  test('an addon for another system, or for a newer glibc, is not taken for one of a target', () => {
    const bytes = readFileSync(addon())
    const { os, cpu, libc, glibc } = describeBinary(bytes)
    assert.deepEqual([os, cpu, libc], [host.os, host.cpu, host.libc])
    assert.deepEqual(faults(bytes, host, '99.0'), [])
    if (libc === 'glibc') assert.deepEqual(faults(bytes, host, '2.1'), [`it needs glibc ${glibc}, and must run with 2.1`])
    for (const target of targets().filter(({ name }) => name !== host.name)) {
      assert.notDeepEqual(faults(bytes, target, '99.0'), [], target.name)
    }
    assert.deepEqual(faults(Buffer.from('#!/bin/sh\n'), host, '99.0'), ['it is neither ELF nor Mach-O nor PE of 64 bits'])
  })

  test('headers of macOS and Windows are known', () => {
    const mach = Buffer.alloc(64)
    mach.writeUInt32LE(0xfeedfacf, 0)
    mach.writeUInt32LE(0x0100000c, 4)
    assert.deepEqual(describeBinary(mach), { os: 'darwin', cpu: 'arm64', libc: undefined, glibc: undefined })
    const pe = Buffer.alloc(128)
    pe.write('MZ', 0)
    pe.writeUInt32LE(64, 0x3c)
    pe.write('PE\0\0', 64)
    pe.writeUInt16LE(0x8664, 68)
    assert.deepEqual(describeBinary(pe), { os: 'win32', cpu: 'x64', libc: undefined, glibc: undefined })
  })
})

describe('installed from a registry', () => {
  const project = join(folder, 'project')
  /** @type {string[]} */
  let tarballs
  /** @type {Awaited<ReturnType<typeof startRegistry>>} */
  let registry
  before(
    async () => {
      tarballs = makeTarballs(folder, { others: false })
      registry = await startRegistry(tarballs)
      makeProject(project, registry.url, {
        'import.mjs': `import { Pipeline, MillraceError } from 'millrace'\nconst { mqtt, clickhouse } = { mqtt: { url: 'mqtt://h' }, clickhouse: { url: 'http://h' } }\nconst routes = [{ topic: 'a', table: 't' }]\nconsole.log(new Pipeline({ mqtt, clickhouse, routes }).state)\ntry { new Pipeline({}) } catch (error) { console.log(error instanceof MillraceError, error.code) }\n`,
        'require.cjs': `const { Pipeline } = require('millrace')\nconsole.log(typeof Pipeline)\n`,
        'error.cjs': `try { require('millrace') } catch (error) { console.log(JSON.stringify({ name: error.name, code: error.code, message: error.message, cause: error.cause && String(error.cause) })) }\n`,
      })
      const installed = await run(project, ['npm', 'install', 'millrace', '--cache', join(folder, 'cache')])
      assert.equal(installed.status, 0, installed.stderr)
    },
    { timeout },
  )
  after(() => registry?.stop())

  /** @param {string[]} command @param {Record<string, string>} [env] */
  const output = async (command, env) => {
    const { status, stdout, stderr } = await run(project, command, { env })
    assert.equal(status, 0, stderr)
    return stdout.trim()
  }
  const failure = async (/** @type {string[]} */ command, /** @type {Record<string, string>} */ env = {}) => JSON.parse(await output(command, env))

  test('the main package holds the files of scripts/release/files.txt and no others', () => {
    const files = filesIn(/** @type {string} */ (tarballs.at(-1)))
    assert.deepEqual(problems(files), [])
    assert.deepEqual(problems([...files, '.npmrc']), ['.npmrc is not in files.txt'])
    assert.deepEqual(problems(files.filter((file) => file !== 'binding.js')), ['binding.js is missing'])
  })

  test('a platform package holds the addon, the licences and a description', () => {
    const tarball = /** @type {string} */ (tarballs.find((path) => path.includes(host.name)))
    assert.deepEqual(filesIn(tarball), ['LICENSE-APACHE', 'LICENSE-MIT', 'README.md', host.addon, 'package.json'].sort())
  })

  test('it loads in Node.js and in Bun, as an ES module and as CommonJS', { timeout }, async () => {
    const there = readdirSync(join(project, 'node_modules', '@millrace'))
    assert.ok(there.includes(`binding-${host.name}`), String(there))
    for (const program of [node, findBun()].filter((path) => path !== undefined)) {
      assert.equal(await output([program, 'import.mjs']), 'idle\ntrue CONFIG_INVALID', program)
      assert.equal(await output([program, 'require.cjs']), 'function', program)
    }
    assert.match(await output([node, 'node_modules/millrace/bin/millrace.js', '--version']), new RegExp(version))
  })

  test('Node.js with --permission refuses it, and the error says what allows it', { timeout }, async () => {
    const isOld = spawnSync(node, ['--permission', '--version']).status !== 0
    const permission = [isOld ? '--experimental-permission' : '--permission', `--allow-fs-read=${folder}`]
    const allowed = await run(project, [node, ...permission, '--allow-addons', 'require.cjs'])
    assert.equal(allowed.stdout.trim(), 'function', allowed.stderr)
    const error = await failure([node, ...permission, 'error.cjs'])
    assert.deepEqual([error.name, error.code], ['MillraceError', 'BINDING_REFUSED'])
    assert.match(error.message, /--allow-addons/)
    assert.match(error.cause, /Cannot load native addon/)
  })

  test('NAPI_RS_NATIVE_LIBRARY_PATH names another file', { timeout }, async () => {
    const aside = join(folder, 'aside.node')
    cpSync(join(project, 'node_modules/@millrace', `binding-${host.name}`, host.addon), aside)
    const kept = join(folder, 'kept')
    cpSync(join(project, 'node_modules/@millrace'), kept, { recursive: true })
    rmSync(join(project, 'node_modules/@millrace'), { recursive: true })
    try {
      assert.equal(await output([node, 'require.cjs'], { NAPI_RS_NATIVE_LIBRARY_PATH: aside }), 'function')
    } finally {
      cpSync(kept, join(project, 'node_modules/@millrace'), { recursive: true })
    }
    const error = await failure([node, 'error.cjs'], { NAPI_RS_NATIVE_LIBRARY_PATH: join(folder, 'nowhere.node') })
    assert.equal(error.code, 'BINDING_NOT_FOUND')
    assert.match(error.message, /NAPI_RS_NATIVE_LIBRARY_PATH names .*nowhere\.node/)
    assert.match(error.cause, /Cannot find module/)
  })

  test('an addon of another version is not used', { timeout }, async () => {
    const path = join(project, 'node_modules/millrace/package.json')
    const text = readFileSync(path, 'utf8')
    writeFileSync(path, text.replace(`"version": "${version}"`, '"version": "99.0.0"'))
    try {
      const error = await failure([node, 'error.cjs'])
      assert.equal(error.code, 'BINDING_NOT_FOUND')
      assert.match(error.message, new RegExp(`millrace 99\\.0\\.0 has found the addon of millrace ${version.replaceAll('.', '\\.')}`))
    } finally {
      writeFileSync(path, text)
    }
  })

  test("a file that is not an addon of this system is an error with the system's reason", { timeout }, async () => {
    const path = join(project, 'node_modules/@millrace', `binding-${host.name}`, host.addon)
    const bytes = readFileSync(path)
    rmSync(path)
    writeFileSync(path, 'no addon')
    try {
      const error = await failure([node, 'error.cjs'])
      assert.equal(error.code, 'BINDING_NOT_FOUND')
      assert.match(error.message, new RegExp(`cannot load ${host.package} on ${host.os} ${host.cpu}`))
      assert.ok(error.cause.length > 0)
    } finally {
      writeFileSync(path, bytes)
    }
  })

  test('without the platform package the error names the system, the package and the command that fixes it', { timeout }, async () => {
    rmSync(join(project, 'node_modules/@millrace'), { recursive: true })
    const libc = host.libc === 'glibc' ? ' \\(glibc \\d[^)]*\\)' : host.libc === 'musl' ? ' \\(musl\\)' : ''
    for (const [program, name] of [[node, 'Node\\.js'], [findBun(), 'Bun']]) {
      if (!program) continue
      const error = await failure([program, 'error.cjs'])
      assert.deepEqual([error.name, error.code], ['MillraceError', 'BINDING_NOT_FOUND'])
      assert.match(error.message, new RegExp(`needs the package ${host.package} on ${host.os} ${host.cpu}${libc} under ${name} \\d`))
      assert.doesNotMatch(error.message + error.cause, /wasm|wasi|npm has a bug|issues\/4828/i)
      assert.match(error.cause, /@millrace\/binding/)
      const command = /installed with: (.+?)\. See docs/.exec(error.message)?.[1]
      assert.equal(command, `npm install millrace@${version} --include=optional`)
    }
    const mended = await run(project, ['npm', 'install', `millrace@${version}`, '--include=optional', '--cache', join(folder, 'cache')])
    assert.equal(mended.status, 0, mended.stderr)
    assert.equal(await output([node, 'require.cjs']), 'function')
  })
})
