'use strict'

// What crosses between JavaScript and the engine, in both directions: JSON texts, and payloads as Buffers.

/** An error of millrace: `code` is stable, `path` names the option that caused it, `cause` is what another program said. */
class MillraceError extends Error {
  /**
   * @param {{ code: string, message: string, path?: string, cause?: { code: number | null, message: string } }} description
   * @param {ErrorOptions} [options]
   */
  constructor({ code, message, path, cause }, options) {
    super(message, cause ? { cause: Object.assign(new Error(cause.message), { code: cause.code }) } : options)
    this.name = 'MillraceError'
    this.code = code
    if (path != null) this.path = path
  }
}

/** Buffers become the text they hold; what JSON would lose in silence is refused with its path. */
function toJson(config, what = 'the configuration') {
  const refuse = (path, message) => {
    throw new MillraceError({ code: 'CONFIG_INVALID', message: path ? `${path}: ${message}` : message, path })
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
    if (value instanceof Uint8Array) return Buffer.from(value).toString('utf8')
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

/** A configuration as the engine takes it: without what only JavaScript can use. */
function configToJson(config) {
  const isObject = typeof config === 'object' && config !== null && !Array.isArray(config)
  if (!isObject) return toJson(config)
  const { logger, tracing, ...rest } = config
  const hasTracer = typeof tracing === 'object' && tracing !== null
  return toJson({ ...rest, tracing: hasTracer ? { ...tracing, tracer: undefined } : tracing })
}

/** The engine answers `{"ok": …}` or `{"error": …}`. */
function unwrap(text) {
  const { ok, error } = JSON.parse(text)
  if (error) throw new MillraceError(error)
  return ok
}

/** The engine throws errors whose message is JSON. */
function fromNative(error) {
  try {
    return new MillraceError(JSON.parse(error.message))
  } catch {
    return error
  }
}

/** The content of an event, from its JSON text and the bytes that came beside it. */
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

module.exports = { MillraceError, configToJson, fromEvent, fromNative, toJson, unwrap }
