// A fake pipeline for states that are hard to reach with a real one.

import { EventEmitter } from 'node:events'
import { FAMILIES } from '../../lib/native.js'

/** The parts of a pipeline that a monitor uses; `content` is returned by `metrics()`. */
export class FakePipeline extends EventEmitter {
  state = 'running'
  now = 1_700_000_000_000
  content = {
    messages: { received: 0, inserted: 0, deadLettered: 0, dropped: 0, skipped: 0, pending: 0 },
    rows: { decoded: 0, inserted: 0 },
    mqtt: { connected: 1, connections: 1, reconnects: 0, unacknowledged: 0, writes: 0, protocolVersion: 5 },
    spool: null,
    memoryBytes: 0,
    memoryMaxBytes: 1_000,
    lastInsertMs: null,
    oldestPendingMs: 0,
    deadLetters: {},
    uptimeMs: 0,
    bytes: { received: 0, inserted: 0 },
    inserts: { succeeded: 0, retried: 0, failed: 0, inFlight: 0 },
    tables: { a: { rows: 0, inserts: 0, deadLettered: 0, retried: 0, failed: 0, failing: false, lastInsertMs: null } },
    warnings: {},
    faults: /** @type {any[]} */ ([]),
  }
  families = []

  /** A warning, and the fault that the engine keeps beside it until `mend()`. */
  fail(code, message, fields = {}) {
    const before = this.#faultOf(code, fields)
    const fault = { code, message, ...fields, since: before?.since ?? this.now, failures: (before?.failures ?? 0) + 1 }
    this.content.faults = [...this.content.faults.filter((other) => other !== before), fault]
    this.emit('warning', { code, message, ...fields })
  }

  mend(code, fields = {}) {
    const before = this.#faultOf(code, fields)
    this.content.faults = this.content.faults.filter((fault) => fault !== before)
  }

  #faultOf(code, /** @type {{ table?: string }} */ { table }) {
    return this.content.faults.find((fault) => fault.code === code && fault.table === table)
  }

  metrics() {
    return structuredClone({ state: this.state, ...this.content })
  }

  [FAMILIES]() {
    return this.families
  }
}
