// The services that are compared. Each inserts rows of the fleet into `positions`, at a number of rows or each second, and
// serves its metrics.

import { existsSync, readFileSync } from 'node:fs'
import { delimiter, join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { findBun } from '../../tools/servers/bun.mjs'

/**
 * @typedef {object} Service
 * @property {string} title
 * @property {'node' | 'bun'} [runtime] of a service in JavaScript
 * @property {string} [script] in bench/services
 * @property {'addon' | 'rust'} [needs] what is built for it
 * @property {Record<string, string>} [env] beside what all get
 * @property {boolean} [spool] it has a spool, and QoS 1
 * @property {string[]} flush names of its flush histogram; the first one that is there
 * @property {Record<string, unknown>} configuration what is not the same for all, for the reader of a result
 * @property {() => string | undefined} [missing] why it cannot run here
 */

const DIRECTORY = fileURLToPath(new URL('../services/', import.meta.url))

/** A service in JavaScript without its job. */
export const EMPTY = join(DIRECTORY, 'empty.mjs')

const MILLRACE = {
  script: 'millrace.mjs',
  needs: /** @type {const} */ ('addon'),
  flush: ['millrace_insert_duration_seconds'],
}
const JAVASCRIPT = { script: 'javascript.mjs', flush: ['flush_seconds'] }

/** Upper limits of the buckets of flush histograms, in seconds, for all services that let them be chosen. */
export const FLUSH_BUCKETS = [
  0.001, 0.0015, 0.002, 0.003, 0.004, 0.005, 0.0075, 0.01, 0.015, 0.02, 0.03, 0.04, 0.05, 0.075, 0.1, 0.15, 0.2, 0.3, 0.4,
  0.5, 0.75, 1, 1.5, 2, 3, 5, 10,
]

/** @type {Record<string, Service>} */
export const SERVICES = {
  millrace: { ...MILLRACE, title: 'millrace, Node.js', runtime: 'node', configuration: {} },
  'millrace-bun': { ...MILLRACE, title: 'millrace, Bun', runtime: 'bun', missing: noBun, configuration: {} },
  'millrace-spool': {
    ...MILLRACE,
    title: 'millrace with spool, Node.js',
    runtime: 'node',
    spool: true,
    configuration: { spool: 'in a temporary directory' },
  },
  'millrace-bun-spool': {
    ...MILLRACE,
    title: 'millrace with spool, Bun',
    runtime: 'bun',
    spool: true,
    missing: noBun,
    configuration: { spool: 'in a temporary directory' },
  },
  node: { ...JAVASCRIPT, title: 'mqtt.js, Node.js', runtime: 'node', configuration: libraries() },
  bun: { ...JAVASCRIPT, title: 'mqtt.js, Bun', runtime: 'bun', missing: noBun, configuration: libraries() },
  rust: {
    title: 'Rust',
    needs: 'rust',
    flush: ['flush_seconds'],
    configuration: { rumqttc: locked('rumqttc'), clickhouse: locked('clickhouse'), tokio: locked('tokio'), mqtt: '3.1.1' },
  },
  vector: {
    title: 'Vector',
    flush: ['vector_http_client_rtt_seconds'],
    missing: () => (findVector() ? undefined : 'vector is not on the PATH'),
    configuration: { mqtt: '3.1.1', acknowledgements: 'off' },
  },
}

/**
 * How a service is started.
 *
 * @param {Service} service
 * @param {{ rust?: string }} programs
 * @returns {{ command: string, args: string[] }}
 */
export function commandOf(service, programs) {
  if (service.script) return { command: runtimeOf(service), args: [join(DIRECTORY, service.script)] }
  if (service.needs === 'rust') return { command: /** @type {string} */ (programs.rust), args: [] }
  return { command: /** @type {string} */ (findVector()), args: ['--quiet', '--config', join(DIRECTORY, 'vector.yaml')] }
}

/**
 * @param {Service} service in JavaScript
 * @returns {string}
 */
export function runtimeOf(service) {
  return service.runtime === 'bun' ? /** @type {string} */ (findBun()) : process.execPath
}

function noBun() {
  return findBun() ? undefined : 'Bun is not installed: run npm ci'
}

function findVector() {
  const name = process.platform === 'win32' ? 'vector.exe' : 'vector'
  return (process.env.PATH ?? '')
    .split(delimiter)
    .map((directory) => join(directory, name))
    .find((path) => existsSync(path))
}

function libraries() {
  const names = ['mqtt', '@clickhouse/client']
  return Object.fromEntries(names.map((name) => [name, JSON.parse(text(`node_modules/${name}/package.json`)).version]))
}

/** @param {string} crate */
function locked(crate) {
  return new RegExp(`name = "${crate}"\nversion = "(.+)"`).exec(text('Cargo.lock'))?.[1]
}

/** @param {string} file of the repository */
function text(file) {
  return readFileSync(new URL(`../../${file}`, import.meta.url), 'utf8')
}
