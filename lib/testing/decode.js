'use strict'

// decode(): what becomes of one message, without a broker and without ClickHouse. Router, decoder and transform are the engine's;
// this file gives the values of rows the form that they have in `rows()` of the test servers.

const { NativeDryRun, callNative, configError, configToJson, schemaTexts, unwrap } = require('../native.js')
const { Transforms } = require('../transform/transforms.js')
const { converter } = require('../transform/type-name.js')
const { bytes, serviceConfig } = require('./service-config.js')

/** Nothing connects to them. */
const MQTT_URL = 'mqtt://localhost'
const CLICKHOUSE_URL = 'http://localhost'

const MESSAGE = ['topic', 'payload', 'qos', 'retain', 'userProperties', 'receivedAt', 'clientId']

/**
 * @param {any} config of the service
 * @param {string | readonly string[]} schema texts with CREATE TABLE statements
 * @param {any} message
 * @param {{ timezone?: string }} [options]
 */
async function decode(config, schema, message, { timezone = 'UTC' } = {}) {
  if (typeof config !== 'object' || config === null) throw configError('', 'the configuration must be an object')
  if (typeof timezone !== 'string') throw configError('options.timezone', 'must be the name of a time zone')
  const { mqtt, clickhouse, ...rest } = serviceConfig(config)
  const text = configToJson({ ...rest, mqtt: { ...mqtt, url: MQTT_URL }, clickhouse: { ...clickhouse, url: CLICKHOUSE_URL } })
  const { head, payload } = checked(message, mqtt.clientId)
  const native = callNative(() => new NativeDryRun(text, schemaTexts('schema', schema), timezone))
  const warnings = []
  const transforms = new Transforms(config.routes, native, (warning) => warnings.push(warning))
  let result
  try {
    await transforms.start()
    result = unwrap(await native.run(JSON.stringify(head), payload))
  } finally {
    await transforms.stop()
  }
  const { outcome, rows, deadLetters } = result
  return {
    outcome,
    rows: Object.fromEntries(Object.entries(rows).map(([table, batches]) => [table, batches.flatMap(toRows)])),
    deadLetters: deadLetters.map((letter) => ({ ...letter, receivedAt: new Date(letter.receivedAt), topic: head.topic, payload })),
    warnings: [...result.warnings, ...warnings],
  }
}

/** The message as the engine takes it. */
function checked(message, clientId = '') {
  if (typeof message !== 'object' || message === null) throw configError('message', 'must be an object with topic and payload')
  const unknown = Object.keys(message).find((name) => !MESSAGE.includes(name))
  if (unknown !== undefined) throw configError(`message.${unknown}`, `is not a field of a message; there are ${MESSAGE.join(', ')}`)
  const { topic, payload, qos = 1, retain = false, userProperties = {}, receivedAt = new Date() } = message
  if (typeof topic !== 'string' || topic === '' || /[+#\0]/.test(topic)) throw configError('message.topic', 'must be a topic without wildcards')
  if (payload === undefined) throw configError('message.payload', 'is required')
  if (![0, 1, 2].includes(qos)) throw configError('message.qos', 'must be 0, 1 or 2')
  const millis = receivedAt instanceof Date ? receivedAt.getTime() : Number.NaN
  if (!(millis >= 0)) throw configError('message.receivedAt', 'must be a Date since 1970')
  const pairs = Object.entries(userProperties).flatMap(([name, values]) => [values].flat().map((value) => [name, String(value)]))
  return {
    head: { topic, qos, retain: Boolean(retain), userProperties: pairs, receivedAt: millis, clientId: String(message.clientId ?? clientId) },
    payload: bytes(payload),
  }
}

/** Rows as objects, of columns; a column that is left to its DEFAULT is absent. */
function toRows({ rows: count, columns }) {
  const rows = Array.from({ length: count }, () => ({}))
  for (const { name, type, values, absent } of columns) {
    const convert = converter(type, exact) ?? ((value) => value)
    const left = new Set(absent)
    for (const [i, value] of values.entries()) if (!left.has(i)) rows[i][name] = convert(value)
  }
  return rows
}

/** An integer as a number where that is exact. @param {string} digits */
function exact(digits) {
  const number = Number(digits)
  return Number.isSafeInteger(number) ? number : BigInt(digits)
}

module.exports = { decode }
