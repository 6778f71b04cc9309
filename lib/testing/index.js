'use strict'

// For the tests of a service: a pipeline of its own configuration between a broker and a ClickHouse that are in this process, and
// the way of a single message without either.

const { configError } = require('../native.js')
const { Pipeline } = require('../pipeline.js')
const { Broker } = require('./broker.js')
const { ClickHouse } = require('./clickhouse.js')
const { decode } = require('./decode.js')
const { bytes, serviceConfig } = require('./service-config.js')

/** So that a test does not wait for a batch to fill. */
const MAX_DELAY_MS = 5
const HOLD_MS = 60_000

async function startServers({ tables } = /** @type {any} */ ({})) {
  if ((typeof tables !== 'object' || tables === null) && typeof tables !== 'string') {
    throw configError('tables', 'must be an object with the columns of each table, or CREATE TABLE statements')
  }
  const broker = new Broker()
  const clickhouse = new ClickHouse(tables)
  await Promise.all([broker.listen(), clickhouse.listen()])
  const servers = {
    mqtt: { url: broker.url },
    clickhouse: { url: clickhouse.url, compression: 'none' },
    rows: (table) => clickhouse.rows(table),
    clear: () => clickhouse.clear(),
    async publish(topic, payload, { qos = 1, retain = false, userProperties = {} } = {}) {
      const pairs = /** @type {[string, string][]} */ (Object.entries(userProperties).flatMap(([name, values]) => [values].flat().map((value) => [name, value])))
      const subscribers = await held(broker.publish({ topic, payload: bytes(payload), qos, retain, userProperties: pairs }))
      if (subscribers === 0) throw new Error(`nobody subscribes to ${topic}`)
    },
    async stop() {
      await Promise.all([broker.close(), clickhouse.close()])
    },
    [Symbol.asyncDispose ?? Symbol.for('Symbol.asyncDispose')]: () => servers.stop(),
  }
  return servers
}

async function startTestPipeline(config, { tables }) {
  const servers = await startServers({ tables })
  try {
    const pipeline = new Pipeline(forTests(config, servers))
    const deadLetters = []
    pipeline.on('deadLetters', (letters) => deadLetters.push(...letters))
    // The next call of a test reports errors; without a listener they would end the test's process.
    const errors = []
    pipeline.on('error', (error) => errors.push(error))
    pipeline.unref()
    await held(pipeline.start())
    const stop = async () => {
      try {
        await held(pipeline.stop())
      } finally {
        await servers.stop()
      }
    }
    return { ...servers, pipeline, deadLetters, errors, stop, [Symbol.asyncDispose ?? Symbol.for('Symbol.asyncDispose')]: stop }
  } catch (error) {
    await servers.stop()
    throw error
  }
}

/**
 * @param {any} config of the service
 * @param {any} servers
 */
function forTests(config, servers) {
  const { batch, mqtt, clickhouse, ...rest } = serviceConfig(config)
  return {
    metricsIntervalMs: 0,
    ...rest,
    mqtt: { ...mqtt, ...servers.mqtt },
    clickhouse: { ...clickhouse, ...servers.clickhouse },
    batch: { ...batch, maxDelayMs: MAX_DELAY_MS },
  }
}

/**
 * Servers and pipeline keep no process alive: a test that forgets to stop them ends. The timer
 * keeps it alive while the test waits for them.
 */
async function held(promise) {
  const timer = setInterval(() => {}, HOLD_MS)
  try {
    return await promise
  } finally {
    clearInterval(timer)
  }
}

module.exports = { decode, startServers, startTestPipeline }
