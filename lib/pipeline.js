'use strict'

// class Pipeline: a native pipeline as a JavaScript object. It is an EventEmitter, its errors have codes, its calls return
// promises, and it decides whether the process stays alive.

const { EventEmitter } = require('node:events')
const { FAMILIES, MillraceError, NativePipeline, callNative, configError, configToJson, fromEvent, unwrap } = require('./native.js')

/** Running pipelines. Without this, one that is reachable only from its own events would be garbage-collected. */
const running = new Set()

const STOP_TIMEOUT_MS = 30_000
const TAP_MS = 1_000
/** Between two attempts of `start({ wait: true })`: the first wait, which doubles, and the longest. */
const WAIT_MS = { min: 250, max: 5_000 }
/** The errors that `start({ wait: true })` waits out: the servers are not there yet. */
const UNREACHABLE = new Set(['CLICKHOUSE_UNREACHABLE', 'MQTT_UNREACHABLE'])
const RUNTIME = process.versions.bun ? `bun ${process.versions.bun}` : `node ${process.versions.node}`
/** The longest delay of a timer: 2^31 - 1 ms. */
const FOREVER_MS = 2 ** 31 - 1

class Pipeline extends EventEmitter {
  #native
  #name
  #logger
  #tracing
  /** @type {any} */
  #transforms
  /** @type {InstanceType<typeof import('./schema-growth.js').SchemaGrowth> | undefined} */
  #growth
  /** The process stays alive while this timer is referenced. */
  #keepAliveTimer
  /** Set by `ref()` and `unref()`; while it is undefined, the process is kept alive if the pipeline has a listener. */
  #refOverride
  #rowEncoder
  #stopping
  /** @type {InstanceType<typeof import('./routes.js').RouteList>} */
  #routes
  /** @type {Set<InstanceType<typeof import('./transform/tap.js').Tap>>} */
  #taps = new Set()
  /** Ends the wait between two attempts of `start({ wait: true })`; set while one waits. */
  #waiting
  /** Nothing else keeps the process alive, and stop() was not called: what was received is inserted first. */
  #onBeforeExit = () => {
    this.stop().catch(({ code, message }) => this.#warn({ code, message }))
  }

  constructor(config) {
    super()
    const text = configToJson(config)
    // Not when the package is imported: each file takes time.
    const { RouteList } = require('./routes.js')
    const { credentialsOf } = require('./credentials.js')
    this.#native = callNative(
      () => new NativePipeline(text, credentialsOf(config), (kind, content, bytes) => this.#emit(kind, content, bytes)),
    )
    const { name = 'millrace', logger, tracing } = config
    this.#name = name
    this.#routes = new RouteList(this.#native, config.routes, () => (this.#transforms ??= this.#newTransforms([])), (place, route) => this.#watchGrowth(place, route))
    // Like tracing, it is loaded for those who use it.
    if (logger !== undefined) require('./observe/log.js').checkLogger(logger)
    this.#logger = logger
    // @opentelemetry/api is optional: it is loaded only where tracing is configured.
    if (tracing !== undefined) this.#tracing = new (require('./observe/tracing.js').Tracing)(config)
    config.routes.forEach((route, place) => this.#watchGrowth(place, route))
    if (config.routes.some(({ transform }) => transform !== undefined)) {
      this.#transforms = this.#newTransforms(config.routes)
    }
  }

  #watchGrowth(place, route) {
    if (route.schema !== 'add-columns') return
    // Loaded for those who use it.
    const { SchemaGrowth } = require('./schema-growth.js')
    this.#growth ??= new SchemaGrowth(this.#native, (warning) => this.#warn(warning))
    this.#growth.watch(place, route)
  }

  #newTransforms(routes) {
    const { Transforms } = require('./transform/transforms.js')
    return new Transforms(routes, this.#native, (warning) => this.#warn(warning))
  }

  get state() {
    return this.#native.state
  }

  /** @param {{ signal?: AbortSignal, wait?: boolean }} [options] */
  async start({ signal, wait = false } = {}) {
    if (typeof wait !== 'boolean') throw configError('wait', 'must be a boolean')
    if (this.#waiting) throw invalidState('start() is not possible while another start() waits')
    for (let waitMs = WAIT_MS.min; ; waitMs = Math.min(2 * waitMs, WAIT_MS.max)) {
      try {
        return await this.#startOnce(signal)
      } catch (error) {
        if (!wait || !UNREACHABLE.has(error.code)) throw error
        await this.#wait(error, waitMs, signal)
      }
    }
  }

  /** Waits until the servers may be there; rejects if `stop()` or the signal ends the wait. */
  async #wait(error, waitMs, signal) {
    const message = `start() waits: ${error.message}; trying again in ${waitMs} ms`
    const { code: errorCode, message: reason } = error
    if (this.#stopping) throw aborted()
    const ended = new AbortController()
    this.#waiting = ended
    try {
      this.#warn({ code: 'START_WAITING', message, reason, errorCode, retryInMs: waitMs })
      const { setTimeout: delay } = require('node:timers/promises')
      await delay(waitMs, undefined, { signal: AbortSignal.any([ended.signal, ...(signal ? [signal] : [])]) })
    } catch {
      signal?.throwIfAborted()
      throw aborted()
    } finally {
      this.#waiting = undefined
    }
  }

  async #startOnce(signal) {
    signal?.throwIfAborted()
    const isStopped = this.#stopping !== undefined
    const onAbort = () => this.#native.cancelStart()
    signal?.addEventListener('abort', onAbort, { once: true })
    let hasTransforms = false
    try {
      if (this.#transforms !== undefined && this.state === 'idle') {
        const threads = this.#transforms.start()
        // Until all threads have imported their modules the pipeline is idle.
        if (threads !== undefined) await threads
        hasTransforms = true
        signal?.throwIfAborted()
        if (this.#stopping) throw aborted()
      }
      unwrap(await this.#native.start())
    } catch (error) {
      if (hasTransforms) await this.#transforms.stop()
      signal?.throwIfAborted()
      // Whatever failed, it was stop() that ended the start.
      if (!isStopped && this.#stopping !== undefined) throw aborted()
      throw error
    } finally {
      signal?.removeEventListener('abort', onAbort)
    }
    if (signal?.aborted) {
      await this.stop()
      signal.throwIfAborted()
    }
    if (this.#stopping) throw aborted()
    running.add(this)
    process.on('beforeExit', this.#onBeforeExit)
    this.#keepAliveTimer = setInterval(() => {}, FOREVER_MS)
    this.#updateKeepAlive()
  }

  async flush() {
    unwrap(await this.#native.flush())
  }

  /**
   * @param {string} table
   * @param {object | object[]} rows
   */
  async insert(table, rows) {
    if (typeof table !== 'string') throw configError('table', 'must be a string')
    const encoder = (this.#rowEncoder ??= new (require('./row-encoder.js').RowEncoder)())
    let answer
    try {
      // Nothing is awaited until the engine has copied the bytes.
      for (const row of Array.isArray(rows) ? rows : [rows]) encoder.add(row)
      answer = this.#native.insert(table, encoder.bytes)
    } finally {
      encoder.clear()
    }
    unwrap(await answer)
  }

  /**
   * @param {number | string} route
   * @param {(batch: any) => unknown} fn
   * @param {{ everyMs?: number }} [options]
   */
  tap(route, fn, { everyMs = TAP_MS } = {}) {
    const at = this.#routes.placeOf(route)
    if (typeof fn !== 'function') throw configError('fn', 'must be a function')
    if (typeof everyMs !== 'number' || !(everyMs >= 1) || everyMs > FOREVER_MS) {
      throw configError('everyMs', `must be a number of milliseconds from 1 to ${FOREVER_MS}`)
    }
    if (this.state === 'stopping' || this.state === 'stopped') {
      throw new MillraceError({ code: 'INVALID_STATE', message: `tap() is not possible in the state '${this.state}'` })
    }
    const { Tap } = require('./transform/tap.js')
    const tap = new Tap(this.#native, this.#routes.where(at), everyMs, fn)
    this.#taps.add(tap)
    this.#updateKeepAlive()
    const untap = () => {
      tap.close()
      this.#taps.delete(tap)
      this.#updateKeepAlive()
    }
    return Object.assign(untap, { [Symbol.dispose ?? Symbol.for('Symbol.dispose')]: untap })
  }

  /** @param {any} route */
  async addRoute(route) {
    return this.#routes.add(route)
  }

  /** @param {any} route */
  async updateRoute(route) {
    return this.#routes.update(route)
  }

  /** @param {string} topic */
  async removeRoute(topic) {
    await this.#routes.remove(topic)
  }

  /**
   * @param {string} name
   * @param {ReadonlyMap<any, any> | object} map
   */
  lookup(name, map) {
    if (typeof name !== 'string') throw configError('name', 'must be a string')
    // Loaded for those who use it.
    unwrap(this.#native.setLookup(name, require('./lookup-map.js').lookupToJson(map)))
  }

  pause() {
    unwrap(this.#native.pause())
  }

  resume() {
    unwrap(this.#native.resume())
  }

  stop({ timeoutMs = STOP_TIMEOUT_MS, leave = false } = {}) {
    if (typeof timeoutMs !== 'number' || !(timeoutMs >= 0) || timeoutMs > FOREVER_MS) {
      return Promise.reject(configError('timeoutMs', `must be a number of milliseconds from 0 to ${FOREVER_MS}`))
    }
    if (typeof leave !== 'boolean') return Promise.reject(configError('leave', 'must be a boolean'))
    this.#waiting?.abort()
    this.#stopping ??= this.#stop(timeoutMs, leave)
    return this.#stopping
  }

  async #stop(timeoutMs, leave) {
    try {
      return unwrap(await this.#native.stop(timeoutMs, leave))
    } catch (error) {
      if (error.code === 'STOP_TIMEOUT') await this.#transforms?.abort(error)
      // start() was under way and the pipeline is not stopped, so a later call may succeed.
      if (error.code === 'INVALID_STATE') this.#stopping = undefined
      throw error
    } finally {
      if (this.state === 'stopped') {
        this.#release()
        await this.#transforms?.stop()
      }
    }
  }

  metrics() {
    return JSON.parse(this.#native.metrics())
  }

  prometheus() {
    return this.#native.prometheus(RUNTIME)
  }

  [FAMILIES]() {
    return JSON.parse(this.#native.families(RUNTIME))
  }

  ref() {
    this.#refOverride = true
    this.#updateKeepAlive()
    return this
  }

  unref() {
    this.#refOverride = false
    this.#updateKeepAlive()
    return this
  }

  async [Symbol.asyncDispose ?? Symbol.for('Symbol.asyncDispose')]() {
    await this.stop()
  }

  #emit(kind, content, bytes) {
    const value = fromEvent(kind, content, bytes)
    if (kind === 'delivered') return
    if (kind === 'trace') this.#tracing?.record(value)
    else if (kind === 'unknownFields') this.#growth?.take(value)
    // The binding reports it, which has no counters.
    else if (kind === 'warning' && value.code === 'EVENTS_DROPPED') this.#warn(value)
    else this.#dispatch(kind, value)
  }

  /** A warning that the engine has not counted. */
  #warn(warning) {
    this.#native.countWarning(warning.code)
    this.#dispatch('warning', warning)
  }

  #dispatch(kind, value) {
    if (this.#logger) require('./observe/log.js').log(this.#logger, this.#name, kind, value)
    if (kind === 'state') this.emit(kind, value[0], value[1])
    else this.emit(kind, value)
  }

  /** Like a MessagePort, a pipeline with a listener, or a tap, keeps the process alive. */
  #updateKeepAlive() {
    if (!this.#keepAliveTimer) return
    const wanted = this.#refOverride ?? this.eventNames().length + this.#taps.size > 0
    if (wanted) this.#keepAliveTimer.ref()
    else this.#keepAliveTimer.unref()
  }

  #release() {
    running.delete(this)
    for (const tap of this.#taps) tap.close()
    this.#taps.clear()
    process.off('beforeExit', this.#onBeforeExit)
    clearInterval(this.#keepAliveTimer)
    this.#keepAliveTimer = undefined
  }

  static {
    for (const name of [
      'on',
      'addListener',
      'prependListener',
      'once',
      'prependOnceListener',
      'off',
      'removeListener',
      'removeAllListeners',
    ]) {
      const method = EventEmitter.prototype[name]
      Pipeline.prototype[name] = function (...args) {
        method.apply(this, args)
        this.#updateKeepAlive()
        return this
      }
    }
  }
}

const invalidState = (message) => new MillraceError({ code: 'INVALID_STATE', message })

const aborted = () => new MillraceError({ code: 'ABORTED', message: 'the pipeline was stopped while it was starting' })

module.exports = { Pipeline }
