// npm run bench:import: what importing millrace costs, beside an addon that does nothing, installed in the same way; and how large
// the packages are.
//
// Each measurement is a process of its own, by turns. The report gives the least time of all runs,
// since other work of the machine only adds to it. `in the program` is from before `import` to after
// it, by the clock; `of the program` is the processor time that a process has taken from its start to
// there, and which doing something else on the machine does not change.

import { execFileSync, spawnSync } from 'node:child_process'
import { cpSync, existsSync, mkdirSync, mkdtempSync, readdirSync, rmSync, statSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { parseArgs } from 'node:util'
import { packMain, packPlatform } from '../scripts/release/tarballs.mjs'
import { hostTarget, manifest, ROOT } from '../scripts/release/targets.mjs'

const PACKED_LIMIT = 3_500_000
const RATIO_LIMIT = 1.5

const { values } = parseArgs({ options: { runs: { type: 'string', default: '40' } } })
const runs = Number(values.runs)
const host = hostTarget()
const folder = mkdtempSync(join(tmpdir(), 'millrace-import-'))
try {
  if (!existsSync(join(host.folder, host.addon))) throw new Error('there is no addon that ships: npm run package')
  const [main, platform] = [packMain(folder), packPlatform(host, folder)]
  const millrace = install('millrace', main, platform)
  const empty = makeEmpty()
  sizes(main, platform, millrace)
  const passed = times(millrace, empty)
  process.exitCode = passed && statSync(main).size + statSync(platform).size <= PACKED_LIMIT ? 0 : 1
} finally {
  rmSync(folder, { recursive: true, force: true })
}

/** @param {string} name @param {string[]} tarballs @returns {string} a project with the package */
function install(name, ...tarballs) {
  const project = join(folder, name)
  const places = [join(project, 'node_modules', 'millrace'), join(project, 'node_modules', ...host.package.split('/'))]
  for (const [i, tarball] of tarballs.entries()) {
    mkdirSync(places[i], { recursive: true })
    execFileSync('tar', ['-xzf', tarball, '-C', places[i], '--strip-components=1'])
  }
  return project
}

/** A package of the same two parts, whose addon exports nothing. @returns {string} */
function makeEmpty() {
  const project = join(folder, 'empty')
  const source = join(folder, 'empty.c')
  writeFileSync(source, 'void *napi_register_module_v1(void *env, void *exports) { (void)env; return exports; }\n')
  const place = join(project, 'node_modules', ...host.package.split('/'))
  mkdirSync(place, { recursive: true })
  cpSync(join(host.folder, 'package.json'), join(place, 'package.json'))
  execFileSync('cc', ['-shared', '-fPIC', '-o', join(place, host.addon), source])
  const own = join(project, 'node_modules', 'millrace')
  mkdirSync(own)
  writeFileSync(join(own, 'package.json'), '{ "name": "millrace", "version": "1.0.0", "main": "index.js" }\n')
  writeFileSync(join(own, 'index.js'), `module.exports = require('${host.package}')\n`)
  return project
}

/** @param {string} main @param {string} platform @param {string} project */
function sizes(main, platform, project) {
  const megabytes = (/** @type {number} */ bytes) => `${(bytes / 1e6).toFixed(2)} MB`
  const unpacked = (/** @type {string} */ path) =>
    readdirSync(path, { recursive: true, withFileTypes: true })
      .filter((entry) => entry.isFile())
      .reduce((sum, entry) => sum + statSync(join(entry.parentPath, entry.name)).size, 0)
  const rows = [
    ['millrace', main, join(project, 'node_modules', 'millrace')],
    [host.package, platform, join(project, 'node_modules', ...host.package.split('/'))],
  ]
  console.log(`${manifest().version}, Node.js ${process.versions.node}, ${host.name}\n\n| package | packed | unpacked |\n| --- | --- | --- |`)
  for (const [name, tarball, path] of rows) console.log(`| \`${name}\` | ${megabytes(statSync(tarball).size)} | ${megabytes(unpacked(path))} |`)
}

/** @param {string} millrace @param {string} empty @returns {boolean} whether the limit is kept */
function times(millrace, empty) {
  const READ = `const end = performance.now(); const { user, system } = process.cpuUsage(); console.log(JSON.stringify([end - start, (user + system) / 1000, process.memoryUsage().rss]))`
  /** @type {Record<string, string[]>} */
  const programs = {
    import: ['--input-type=module', '--eval', `const start = performance.now(); await import('millrace'); ${READ}`],
    require: ['--eval', `const start = performance.now(); require('millrace'); ${READ}`],
  }
  const nothing = ['--eval', `const start = performance.now(); ${READ}`]
  console.log('\n| | in the program: millrace | an empty addon | of the program: millrace | an empty addon | ratio of that | memory after it (without) |')
  console.log('| --- | --- | --- | --- | --- | --- | --- |')
  let passed = true
  for (const [name, program] of Object.entries(programs)) {
    const found = { millrace: least(), empty: least(), nothing: least() }
    for (let i = 0; i < runs; i++) {
      found.millrace.add(measure(millrace, program))
      found.empty.add(measure(empty, program))
      found.nothing.add(measure(empty, nothing))
    }
    const ms = (/** @type {number} */ value) => `${value.toFixed(1)} ms`
    const mb = (/** @type {number} */ value) => `${(value / 1e6).toFixed(0)} MB`
    const [own, other] = [found.millrace, found.empty]
    const ratio = own.total / other.total
    passed &&= ratio <= RATIO_LIMIT
    console.log(
      `| \`${name}\` | ${ms(own.inside)} | ${ms(other.inside)} | ${ms(own.total)} | ${ms(other.total)} | ${ratio.toFixed(2)} | ${mb(own.memory)} (${mb(found.nothing.memory)}) |`,
    )
  }
  return passed
}

function least() {
  const found = { inside: Infinity, total: Infinity, memory: Infinity, add }
  /** @param {{ inside: number, total: number, memory: number }} measured */
  function add({ inside, total, memory }) {
    found.inside = Math.min(found.inside, inside)
    found.total = Math.min(found.total, total)
    found.memory = Math.min(found.memory, memory)
  }
  return found
}

/** @param {string} cwd @param {string[]} program */
function measure(cwd, program) {
  const { status, stdout, stderr } = spawnSync(process.execPath, program, { cwd, encoding: 'utf8' })
  if (status !== 0) throw new Error(stderr)
  const [inside, total, memory] = JSON.parse(stdout)
  return { inside, total, memory }
}
