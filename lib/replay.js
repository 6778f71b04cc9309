'use strict'

// replayDeadLetters(): feeds dead letters to the pipeline again. The engine reads files and tables;
// this file reads an iterable and sends its dead letters to the engine in chunks, each when the engine
// has memory for it.

const { credentialsOf } = require('./credentials.js')
const { NativeReplay, callNative, configError, configToJson, fromEvent, toJson, unwrap } = require('./native.js')

const PROGRESS_MS = 1_000
/**
 * A chunk has at most 1,000 dead letters. It is sent once it has 1 MiB, so one large dead letter may
 * exceed that.
 */
const CHUNK_LETTERS = 1_000
const CHUNK_BYTES = 1 << 20

async function replayDeadLetters(config, source, options = {}) {
  const { signal, onProgress, onDeadLetters, onWarning } = checked(options)
  signal?.throwIfAborted()
  const isIterated = isIterable(source)
  const sourceText = isIterated ? undefined : toJson(source ?? null, 'source')
  const configText = configToJson(config)
  const onEvent = (kind, content, bytes) => {
    if (kind === 'deadLetters') onDeadLetters?.(fromEvent(kind, content, bytes))
    if (kind === 'warning') onWarning?.(fromEvent(kind, content, bytes))
  }
  const native = callNative(() => new NativeReplay(configText, credentialsOf(config), sourceText, onEvent))
  const transforms = transformsOf(config, native, (warning) => onWarning?.(warning))
  const report = () => JSON.parse(native.report())

  // This timer also keeps the process alive until the replay ends.
  const timer = setInterval(() => onProgress?.(report()), config.metricsIntervalMs || PROGRESS_MS)
  const onAbort = () => native.cancel()
  signal?.addEventListener('abort', onAbort, { once: true })
  let pumping
  try {
    await transforms?.start()
    pumping = isIterated ? pump(source, native) : undefined
    const result = unwrap(await native.run())
    await pumping?.done
    return result
  } catch (error) {
    signal?.throwIfAborted()
    if (pumping?.failed) throw pumping.error
    throw error
  } finally {
    if (pumping) pumping.stopped = true
    signal?.removeEventListener('abort', onAbort)
    clearInterval(timer)
    await transforms?.stop()
  }
}

/** The transforms of the routes, if there are any. */
function transformsOf({ routes }, native, warn) {
  if (routes.every(({ transform }) => transform === undefined)) return undefined
  const { Transforms } = require('./transform/transforms.js')
  return new Transforms(routes, native, warn)
}

const OPTIONS = ['signal', 'onProgress', 'onDeadLetters', 'onWarning']

function checked(options) {
  if (typeof options !== 'object' || options === null) throw configError('options', 'must be an object')
  for (const [name, value] of Object.entries(options)) {
    if (!OPTIONS.includes(name)) throw configError(`options.${name}`, `is not an option; there are ${OPTIONS.join(', ')}`)
    if (name !== 'signal' && value !== undefined && typeof value !== 'function') {
      throw configError(`options.${name}`, 'must be a function')
    }
  }
  return options
}

function isIterable(source) {
  return (
    typeof source === 'object' &&
    source !== null &&
    (typeof source[Symbol.asyncIterator] === 'function' || typeof source[Symbol.iterator] === 'function')
  )
}

/** Starts to read the iterable. If it throws, the replay is cancelled and `error` is what it threw. */
function pump(letters, native) {
  const pumping = { stopped: false, failed: false, error: undefined, done: undefined }
  const pull = async () => {
    let chunk = new Chunk()
    for await (const letter of letters) {
      if (pumping.stopped) return
      chunk.add(letter)
      if (!chunk.isFull) continue
      if (!(await chunk.send(native))) return
      chunk = new Chunk()
    }
    await chunk.send(native)
    native.end()
  }
  pumping.done = pull().catch((error) => {
    Object.assign(pumping, { failed: true, error })
    native.cancel()
  })
  return pumping
}

/**
 * Dead letters for one call of the engine: JSON text, in which payloads are indices into a list of
 * Buffers.
 */
class Chunk {
  #letters = []
  #bytes = []
  #size = 0

  get isFull() {
    return this.#letters.length >= CHUNK_LETTERS || this.#size >= CHUNK_BYTES
  }

  add(letter) {
    this.#letters.push(this.#plain(letter))
  }

  async send(native) {
    return unwrap(await native.supply(JSON.stringify(this.#letters), this.#bytes))
  }

  #plain(letter) {
    if (typeof letter !== 'object' || letter === null) return { malformed: 'is not an object' }
    const { receivedAt, route, topic, topicBytes, payload, code, message } = letter
    const time = new Date(receivedAt ?? Number.NaN).getTime()
    if (Number.isNaN(time)) return { malformed: 'receivedAt is not a time' }
    if (typeof topic !== 'string') return { malformed: 'topic is not a string' }
    if (!isBytes(payload) && typeof payload !== 'string') return { malformed: 'payload is not a Buffer' }
    return {
      receivedAt: time,
      ...(Number.isInteger(route) && { route }),
      topic,
      ...(isBytes(topicBytes) && { topicBytes: this.#place(topicBytes) }),
      payload: this.#place(payload),
      code: String(code ?? ''),
      message: String(message ?? ''),
    }
  }

  #place(bytes) {
    const isText = typeof bytes === 'string'
    const buffer = isText ? Buffer.from(bytes) : Buffer.from(bytes.buffer, bytes.byteOffset, bytes.length)
    this.#size += buffer.length
    return this.#bytes.push(buffer) - 1
  }
}

function isBytes(value) {
  return value instanceof Uint8Array
}

module.exports = { replayDeadLetters }
