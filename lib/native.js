'use strict'

// The only file that calls the native addon, which binding.js loads. JSON text crosses in either
// direction, and payloads as Buffers: this file turns objects into that text, and answers, errors and
// events of the engine back into objects.

const { NativeCheck, NativeCredentials, NativeDryRun, NativePipeline, NativeReplay, NativeSamples, NativeTransformWorker } = /** @type {any} */ (
  require('../binding.js')
)
const { MillraceError } = require('./error.js')

/**
 * The error of a wrong option or argument.
 *
 * @param {string} path names it; '' is the argument itself
 * @param {string} message what it must be
 * @param {unknown} [cause]
 */
function configError(path, message, cause) {
  const text = path ? `${path}: ${message}` : message
  return new MillraceError({ code: 'CONFIG_INVALID', message: text, path }, cause === undefined ? undefined : { cause })
}

/** The text that a Buffer holds; bytes that are not text as base64, as the engine reads them. */
function bufferText(buffer) {
  const text = buffer.toString('utf8')
  return /[\0-\x08\x0e-\x1f\ufffd]/.test(text) ? `data:;base64,${buffer.toString('base64')}` : text
}

/** Buffers become the text they hold. Throws for a value that JSON would drop or change, and names its path. */
function toJson(config, what = 'the configuration') {
  const refuse = (path, message) => {
    throw configError(path, message)
  }
  const plain = (value, path) => {
    switch (typeof value) {
      case 'function':
      case 'symbol':
      case 'bigint':
        return refuse(path, `must not be a ${typeof value}`)
      case 'number':
        return Number.isFinite(value) ? value : refuse(path, `must not be ${value}`)
      case 'object':
        break
      default:
        return value
    }
    if (value === null) return null
    if (value instanceof Uint8Array) return bufferText(Buffer.from(value))
    if (Array.isArray(value)) return value.map((item, i) => plain(item, `${path}[${i}]`))
    const object = {}
    for (const [name, item] of Object.entries(value)) {
      if (item !== undefined) object[name] = plain(item, path ? `${path}.${name}` : name)
    }
    return object
  }
  if (typeof config !== 'object' || config === null) refuse('', `${what} must be an object`)
  return JSON.stringify(plain(config, ''))
}

/**
 * A configuration as the engine takes it: without `logger`, `tracing.tracer` and the functions of transforms and credentials, which
 * only JavaScript can use.
 */
function configToJson(config) {
  if (!isObject(config)) return toJson(config)
  const { tracing, routes, mqtt, clickhouse } = config
  return toJson({
    ...config,
    mqtt: withMarks(mqtt, 'mqtt', ['username', 'password']),
    clickhouse: withMarks(clickhouse, 'clickhouse', ['password']),
    logger: undefined,
    routes: Array.isArray(routes) ? routes.map((route, i) => withoutFunction(route, `routes[${i}]`)) : routes,
    tracing: isObject(tracing) ? { ...tracing, tracer: undefined } : tracing,
  })
}

const isObject = (value) => typeof value === 'object' && value !== null && !Array.isArray(value)

/** A route that is added, as the engine takes it. */
function routeToJson(route) {
  if (!isObject(route)) throw configError('route', 'must be an object')
  return toJson({ route: withoutFunction(route, 'route') })
}

/** A section in which functions are `{ function: true }`. */
function withMarks(section, path, names) {
  if (!isObject(section)) return section
  const marked = { ...section }
  for (const name of names) {
    const value = section[name]
    if (typeof value === 'function') marked[name] = { function: true }
    else if (isObject(value) && 'function' in value) throw configError(`${path}.${name}.function`, 'is not an option')
  }
  return marked
}

/** A route as the engine takes it: a function as transform is `{ function: true }`. */
function withoutFunction(route, path) {
  if (!isObject(route)) return route
  const { transform } = route
  if (typeof transform === 'function') return { ...route, transform: { function: true } }
  if (!isObject(transform)) return route
  if ('function' in transform) throw configError(`${path}.transform.function`, 'is not an option')
  return transform.module instanceof URL ? { ...route, transform: { ...transform, module: transform.module.href } } : route
}

/**
 * The tables of CREATE TABLE statements.
 *
 * @param {string} path names the texts in errors
 * @param {string | readonly string[]} schema
 * @returns {{ database: string | null, name: string, columns: any[] }[]}
 * @throws {MillraceError} `SCHEMA_INVALID`
 */
function createdTables(path, schema) {
  return unwrap(NativeDryRun.tables(path, schemaTexts(path, schema)))
}

/** @param {string} path @param {any} schema @returns {string[]} */
function schemaTexts(path, schema) {
  const texts = typeof schema === 'string' ? [schema] : schema
  if (!Array.isArray(texts) || texts.some((text) => typeof text !== 'string')) {
    throw configError(path, 'must be a text with CREATE TABLE statements, or a list of such texts')
  }
  return texts
}

/** Returns the value of an answer `{"ok": …}` of the engine; throws the error of an answer `{"error": …}`. */
function unwrap(text) {
  const { ok, error } = JSON.parse(text)
  if (error) throw new MillraceError(error)
  return ok
}

/**
 * Calls the engine. It throws errors whose message is JSON: they become a MillraceError.
 *
 * @template T
 * @param {() => T} call
 * @returns {T}
 */
function callNative(call) {
  try {
    return call()
  } catch (error) {
    throw fromNative(error)
  }
}

function fromNative(error) {
  try {
    return new MillraceError(JSON.parse(error.message))
  } catch {
    return error
  }
}

/** The value of an event, from its JSON text and its Buffers: payloads first, then topics that are not UTF-8. */
function fromEvent(kind, content, bytes) {
  const value = JSON.parse(content)
  if (kind === 'error') return new MillraceError(value)
  if (kind !== 'deadLetters') return value
  return value.map(({ topicBytes, ...letter }, i) => ({
    ...letter,
    receivedAt: new Date(letter.receivedAt),
    ...(topicBytes !== undefined && { topicBytes: bytes[topicBytes] }),
    payload: bytes[i],
  }))
}

/** The method of a pipeline that returns what `prometheus()` prints, as objects; `src/telemetry/prometheus.rs` makes them. */
const FAMILIES = Symbol('families')

module.exports = {
  FAMILIES,
  MillraceError,
  NativeCheck,
  NativeCredentials,
  NativeDryRun,
  NativePipeline,
  NativeReplay,
  NativeSamples,
  NativeTransformWorker,
  callNative,
  configError,
  configToJson,
  createdTables,
  fromEvent,
  routeToJson,
  schemaTexts,
  toJson,
  unwrap,
}
