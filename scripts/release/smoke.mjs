// On the system it is for: installs the tarballs into an empty project with this system's npm, without a compiler, and brings
// messages into a table of millrace/testing, which needs neither broker nor ClickHouse. It needs nothing but Node.js.
//
//   node scripts/release/smoke.mjs [<folder of tarballs>]      target/package when none is named

import { execFileSync, spawn } from 'node:child_process'
import { mkdtempSync, readdirSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join, resolve } from 'node:path'
import { Registry } from '../../tools/servers/registry.mjs'
import { hostTarget, manifest, ROOT } from './targets.mjs'

const PROGRAM = `
import { createRequire } from 'node:module'
import { startTestPipeline } from 'millrace/testing'
const tables = { positions: { driver_id: 'String', lat: 'Float64', at: 'DateTime64(3)' } }
const routes = [{ topic: 'drivers/{driver_id}/position', table: 'positions' }]
const service = await startTestPipeline({ routes }, { tables })
for (let i = 0; i < 100; i++) await service.publish('drivers/' + i + '/position', { lat: i / 2, at: 1_700_000_000_000 + i }, { qos: i % 2 + 1 })
const rows = service.rows('positions')
await service.stop()
if (rows.length !== 100 || rows[99].lat !== 49.5 || rows[99].at !== '2023-11-14T22:13:20.099Z') throw new Error(JSON.stringify(rows.at(-1)))
if (typeof createRequire(import.meta.url)('millrace').Pipeline !== 'function') throw new Error('require')
console.log('100 rows')
`

const tarballs = resolve(process.argv[2] ?? join(ROOT, 'target', 'package'))
const host = hostTarget()
const shell = process.platform === 'win32'
const folder = mkdtempSync(join(tmpdir(), 'millrace-smoke-'))
const npm = (/** @type {string[]} */ ...args) => execFileSync('npm', args, { cwd: folder, encoding: 'utf8', shell })
const registry = await Registry.start({ upstream: npm('config', 'get', 'registry').trim() })
try {
  for (const name of readdirSync(tarballs)) registry.add(join(tarballs, name))
  writeFileSync(join(folder, 'package.json'), '{ "name": "service", "private": true }\n')
  writeFileSync(join(folder, 'program.mjs'), PROGRAM)
  // The registry is in this process, so npm must not block it.
  const run = (/** @type {string} */ command, /** @type {string[]} */ args) =>
    new Promise((resolve, reject) => {
      const child = spawn(command, args, { cwd: folder, stdio: 'inherit', shell: shell && command === 'npm' })
      child.once('error', reject)
      child.once('exit', (code) => (code === 0 ? resolve(undefined) : reject(new Error(`${command} ${args.join(' ')} ended with ${code}`))))
    })
  await run('npm', ['install', `millrace@${manifest().version}`, '--registry', registry.url, '--no-audit', '--no-fund'])
  await run(process.execPath, ['program.mjs'])
  await run(process.execPath, ['node_modules/millrace/bin/millrace.js', '--version'])
  console.log(`${host.name}, Node.js ${process.version}: ok`)
} finally {
  await registry.stop()
  rmSync(folder, { recursive: true, force: true, maxRetries: 5 })
}
