'use strict'

// Makes OpenTelemetry spans of sampled batches: one from the receipt of the first message until the batch is settled, with links
// to the traces of its messages, and below it one for each INSERT. The engine reports a batch when it is settled
// (`src/telemetry/trace.rs`).

const { configError } = require('../native.js')

/** An optional peer dependency of this package. */
const API = '@opentelemetry/api'

class Tracing {
  #tracer
  #pipeline
  #database
  #api

  constructor({ name = 'millrace', clickhouse, tracing: { tracer } }) {
    if (typeof tracer?.startSpan !== 'function') throw configError('tracing.tracer', 'must be a Tracer of OpenTelemetry')
    try {
      this.#api = require(API)
    } catch (cause) {
      throw configError('tracing', `needs the package ${API}`, cause)
    }
    this.#tracer = tracer
    this.#pipeline = name
    this.#database = clickhouse.database ?? 'default'
  }

  /** Makes the spans of a batch. */
  record({ table, messages, rows, deadLetters, began, sealed, ended, inserts, contexts }) {
    const { ROOT_CONTEXT, SpanKind, trace } = this.#api
    const batch = this.#tracer.startSpan(
      `batch ${table}`,
      {
        kind: SpanKind.CONSUMER,
        root: true,
        startTime: began,
        links: contexts.map((context) => this.#link(context)),
        attributes: {
          'messaging.system': 'mqtt',
          'messaging.operation.type': 'process',
          'messaging.batch.message_count': messages,
          'millrace.pipeline': this.#pipeline,
          'millrace.table': table,
          'millrace.rows': rows,
          'millrace.dead_letters': deadLetters,
        },
      },
      ROOT_CONTEXT,
    )
    batch.addEvent('sealed', sealed)
    const inside = trace.setSpan(ROOT_CONTEXT, batch)
    for (const insert of inserts) this.#recordInsert(table, insert, inside)
    batch.end(ended)
  }

  #recordInsert(table, { token, url, rows, bytes, attempts, began, ended, refused }, inside) {
    const { SpanKind, SpanStatusCode } = this.#api
    const { hostname, port, protocol } = new URL(url)
    const span = this.#tracer.startSpan(
      `INSERT ${table}`,
      {
        kind: SpanKind.CLIENT,
        startTime: began,
        attributes: {
          'db.system.name': 'clickhouse',
          'db.operation.name': 'INSERT',
          'db.collection.name': table,
          'db.namespace': this.#database,
          'server.address': hostname,
          'server.port': Number(port) || (protocol === 'https:' ? 443 : 80),
          'millrace.pipeline': this.#pipeline,
          'millrace.rows': rows,
          'millrace.bytes': bytes,
          'millrace.token': token,
          'millrace.attempts': attempts,
        },
      },
      inside,
    )
    if (refused !== null) span.setStatus({ code: SpanStatusCode.ERROR, message: refused })
    span.end(ended)
  }

  #link({ traceId, spanId, flags, state }) {
    const traceState = state === null ? undefined : this.#api.createTraceState(state)
    return { context: { traceId, spanId, traceFlags: flags, isRemote: true, ...(traceState && { traceState }) } }
  }
}

module.exports = { Tracing }
