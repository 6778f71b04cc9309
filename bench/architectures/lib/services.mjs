// The five services, and how one is started with all that belongs to it.

import { join } from 'node:path'
import { Program } from '../../lib/program.mjs'
import { findBun } from '../../../tools/servers/bun.mjs'
import { startRedis } from '../../../tools/servers/redis.mjs'
import { BULLMQ_COMMANDS, HERE, program } from './setup.mjs'

/**
 * @typedef {object} Service
 * @property {string} title
 * @property {string} script what Node.js or Bun runs
 * @property {boolean} [accepts] it answers before the work is done
 * @property {(scope: import('../../lib/scope.mjs').Scope, env: Record<string, string>) => Promise<Others>} [start] starts what
 *   stands behind the gateway
 */

/**
 * @typedef {object} Others
 * @property {Record<string, string>} env for the gateway
 * @property {Record<string, { pid: number | undefined }>} processes by the names that the report gives them
 */

/** @type {Record<string, Service>} */
export const SERVICES = {
  '01-unpooled-workers': { title: '1 unpooled workers', script: 'service.mjs' },
  '02-thread-pool': { title: '2 thread pool (Piscina)', script: 'service.mjs' },
  '03-microservice': { title: '3 microservice in Rust', script: 'gateway.mjs', start: startMicroservice },
  '04-queue': { title: '4 queue, worker in Rust', script: 'gateway.mjs', accepts: true, start: startQueue },
  '05-addon': { title: '5 addon in Rust', script: 'gateway.mjs' },
}

export const RUNTIMES = { node: 'Node.js', bun: 'Bun' }

/**
 * Starts a service and all that belongs to it; the scope ends them.
 *
 * @param {import('../../lib/scope.mjs').Scope} scope
 * @param {string} name
 * @param {{ runtime?: 'node' | 'bun', env?: Record<string, string> }} [options]
 */
export async function startService(scope, name, { runtime = 'node', env = {} } = {}) {
  const { script, start } = SERVICES[name]
  const others = (await start?.(scope, env)) ?? { env: {}, processes: {} }
  const command = runtime === 'bun' ? findBun() : process.execPath
  if (!command) throw new Error('Bun is not installed: run npm ci')
  const settings = { NODE_ENV: 'production', ...env, ...others.env }
  const gateway = scope.own(new Program(`${name} on ${RUNTIMES[runtime]}`, command, [join(HERE, name, script)], settings), 'kill')
  const { port } = await gateway.next('started')
  /** @type {Record<string, any>} */
  const processes = { gateway, ...others.processes }
  return { url: `http://127.0.0.1:${port}`, env: others.env, processes }
}

/** @type {NonNullable<Service['start']>} */
async function startMicroservice(scope) {
  const service = scope.own(new Program('the microservice', program('microservice'), []), 'kill')
  const { port } = await service.next('started')
  return { env: { SERVICE_URL: `http://127.0.0.1:${port}` }, processes: { service } }
}

/** @type {NonNullable<Service['start']>} */
async function startQueue(scope, env) {
  const redis = scope.own(await startRedis(), 'remove')
  const settings = { REDIS_PORT: String(redis.port), QUEUE: 'counts' }
  const worker = await startWorker(scope, { ...settings, ...env })
  return { env: settings, processes: { redis, worker } }
}

/**
 * A worker of the queue; `env` has REDIS_PORT and QUEUE.
 *
 * @param {import('../../lib/scope.mjs').Scope} scope
 * @param {Record<string, string>} env
 */
export async function startWorker(scope, env) {
  const settings = { REDIS_URL: `redis://127.0.0.1:${env.REDIS_PORT}`, BULLMQ_COMMANDS, ...env }
  const worker = scope.own(new Program('the worker', program('queue-worker'), [], settings), 'kill')
  await worker.next('started')
  return worker
}
