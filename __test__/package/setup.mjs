// Shared by the suites of `npm run test:package`: a registry with two versions of the package, a broker
// that holds three messages for any subscriber, ClickHouse, and the tools of tools/package.

import assert from 'node:assert/strict'
import { execFileSync } from 'node:child_process'
import { existsSync, mkdirSync, readdirSync } from 'node:fs'
import { join } from 'node:path'
import { after, before } from 'node:test'
import { ROOT } from '../../scripts/release/targets.mjs'
import { waitFor } from '../../tools/servers/index.mjs'
import { makeProject, makeTarballs, run, scratch, startRegistry, version } from '../support/package.mjs'
import { unique, useServers } from '../support/servers.mjs'
import { Publisher } from '../support/publisher.mjs'

export const OLDER = '0.0.1'
export const TOOLS = join(ROOT, 'tools', 'package', 'node_modules')
export const MESSAGES = 3
const STARTING_MS = 180_000

export const tool = (/** @type {string} */ name) => join(TOOLS, '.bin', name)

/** @type {Record<string, string>} the Node.js of each major version that npm has for this machine */
export const NODES = Object.fromEntries(
  ['20', '22', '24', '26'].map((major) => [major, join(TOOLS, `node-${major}`, 'bin')]).filter(([, path]) => existsSync(path)),
)
/** The folder of the Node.js that package managers run with. */
export const NODE = NODES['24'] ?? join(process.execPath, '..')

const JOB = `
const { MQTT_URL, CLICKHOUSE_URL, DATABASE, TABLE } = process.env
const pipeline = new Pipeline({
  mqtt: { url: MQTT_URL ?? '' },
  clickhouse: { url: CLICKHOUSE_URL ?? '', database: DATABASE },
  routes: [{ topic: 'package/{driver_id}/position', table: TABLE ?? '' }],
  batch: { maxDelayMs: 20 },
  metricsIntervalMs: 20,
})
const done = new Promise((resolve) => pipeline.on('metrics', ({ messages }) => messages.inserted >= ${MESSAGES} && resolve(undefined)))
async function main() {
  await pipeline.start()
  await done
  const { messages } = await pipeline.stop()
  console.log(messages.inserted)
}
main().catch((error) => { console.error(error); process.exit(1) })
`
/** The main job with a transform: a function, or with MODULE the same in a thread of the pipeline's own. */
const TRANSFORMED = JOB.replace(
  "table: TABLE ?? ''",
  "table: TABLE ?? '', columns: { double: { computed: true } }, transform: process.env.MODULE ? { module: new URL('double.mjs', import.meta.url) } : double",
)
const DOUBLE = `
export default async function double(batch) {
  const lat = batch.columns.lat.values
  const double = batch.columns.double.values
  for (let row = 0; row < batch.length; row++) double[row] = 2 * lat[row]
}
`

/** The main job in the three ways it is written. */
export const JOBS = {
  'job.mjs': `import { Pipeline } from 'millrace'\n${JOB}`,
  'job.cjs': `const { Pipeline } = require('millrace')\n${JOB}`,
  'job.ts': `import { Pipeline, type Metrics } from 'millrace'\nlet last: Metrics | undefined\n${JOB}\npipeline.on('metrics', (metrics: Metrics) => { last = metrics })\n`,
  'job.mts': `import { Pipeline, type Metrics } from 'millrace'\nlet last: Metrics | undefined\n${JOB}\npipeline.on('metrics', (metrics: Metrics) => { last = metrics })\n`,
  'transform.mjs': `import process from 'node:process'\nimport { Pipeline } from 'millrace'\nimport double from './double.mjs'\n${TRANSFORMED}`,
  'double.mjs': DOUBLE,
  'error.cjs': `try { require('millrace') } catch (error) { console.log(JSON.stringify({ code: error.code, message: error.message })) }\n`,
}

/**
 * Starts everything before the tests of this file and ends it afterwards.
 *
 * @param {{ upstream?: boolean, jobs?: boolean }} [options] `upstream`: packages of others can be installed as well.
 *   `jobs: false`: the main job is not run, and its servers are not needed
 */
export function usePackage({ upstream = false, jobs = true } = {}) {
  const servers = /** @type {ReturnType<typeof useServers>} */ (jobs ? useServers() : undefined)
  const { folder, remove } = scratch()
  let serial = 0
  const world = {
    folder,
    servers,
    version,
    /** @type {Awaited<ReturnType<typeof startRegistry>>} */
    registry: /** @type {any} */ (undefined),
    /** @type {string[]} */
    tarballs: [],

    /** An empty project with these files, in a folder of its own. @param {Record<string, string>} [files] */
    project(files = {}) {
      return makeProject(join(folder, `project-${++serial}`), world.registry.url, { ...JOBS, ...files })
    },

    /** Caches and configurations of package managers are empty and ours. */
    env() {
      const home = join(folder, 'home')
      mkdirSync(home, { recursive: true })
      return {
        HOME: home,
        XDG_CACHE_HOME: join(home, '.cache'),
        XDG_DATA_HOME: join(home, '.local/share'),
        XDG_CONFIG_HOME: join(home, '.config'),
        npm_config_cache: join(home, 'npm'),
        npm_config_registry: world.registry.url,
        YARN_CACHE_FOLDER: join(home, 'yarn'),
        YARN_GLOBAL_FOLDER: join(home, 'yarn-global'),
        BUN_INSTALL_CACHE_DIR: join(home, 'bun'),
        DENO_DIR: join(home, 'deno'),
        NO_COLOR: '1',
        CI: undefined,
      }
    },

    /**
     * @param {string} project
     * @param {string[]} command
     * @param {{ env?: Record<string, string | undefined>, path?: string[] }} [options]
     */
    run(project, command, { env = {}, path = [NODE] } = {}) {
      return run(project, command, { env: { ...world.env(), ...env }, path })
    },

    /** @param {string} project @param {string[]} command @param {{ env?: Record<string, string | undefined>, path?: string[] }} [options] */
    async succeeds(project, command, options) {
      const result = await world.run(project, command, options)
      assert.equal(result.status, 0, `${command.join(' ')}\n${result.stdout}${result.stderr}`)
      return result.stdout
    },

    /** The main job, end to end. @param {string} project @param {string[]} command @param {{ env?: Record<string, string>, path?: string[] }} [options] */
    async works(project, command, { env = {}, path } = {}) {
      const table = await servers.table('driver_id String, lat Float64')
      const urls = { MQTT_URL: servers.broker.url, CLICKHOUSE_URL: servers.clickhouse.url, DATABASE: servers.database, TABLE: table }
      const { status, stdout, stderr } = await world.run(project, command, { env: { ...urls, ...env }, path })
      assert.equal(status, 0, `${command.join(' ')}\n${stdout}${stderr}`)
      assert.match(stdout, new RegExp(`^${MESSAGES}$`, 'm'))
      const [{ count }] = await servers.rows(`SELECT count() AS count FROM ${table}`)
      assert.equal(Number(count), MESSAGES)
    },

    /** The main job with a transform, end to end. @param {string} project @param {string[]} command @param {{ env?: Record<string, string> }} options */
    async transforms(project, command, { env = {} }) {
      const table = await servers.table('driver_id String, lat Float64, double Float64')
      const urls = { MQTT_URL: servers.broker.url, CLICKHOUSE_URL: servers.clickhouse.url, DATABASE: servers.database, TABLE: table }
      const { status, stdout, stderr } = await world.run(project, command, { env: { ...urls, ...env } })
      assert.equal(status, 0, `${command.join(' ')}\n${stdout}${stderr}`)
      const [{ count }] = await servers.rows(`SELECT countIf(double = 2 * lat) AS count FROM ${table}`)
      assert.equal(Number(count), MESSAGES)
    },
  }

  before(
    async () => {
      const older = join(folder, 'older')
      mkdirSync(older)
      world.tarballs = makeTarballs(folder)
      world.registry = await startRegistry([...makeTarballs(older, { version: OLDER }), ...world.tarballs], {
        upstream: upstream ? execFileSync('npm', ['config', 'get', 'registry'], { cwd: folder, encoding: 'utf8' }).trim() : undefined,
      })
      if (!jobs) return
      // Node.js 20 does not wait for one hook before it runs the next.
      await waitFor(() => servers.broker?.url, { timeoutMs: STARTING_MS, message: 'the broker' })
      const publisher = await Publisher.open({ url: servers.broker.url, clients: 1 })
      for (let i = 0; i < MESSAGES; i++) {
        await publisher.publish(`package/${unique('driver')}/position`, { lat: i }, { retain: true })
      }
      await publisher.close()
    },
    { timeout: STARTING_MS },
  )
  after(async () => {
    await world.registry?.stop()
    remove()
  })
  return world
}

/** @param {string} project @returns {string[]} the platform packages that were placed in node_modules */
export function placed(project) {
  const folder = join(project, 'node_modules', '@millrace')
  return existsSync(folder) ? readdirSync(folder).sort() : []
}
