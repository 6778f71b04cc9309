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
  #consumer
  /** The topics of the routes to a table, by its name. */
  #topics
  #api

  constructor({ name = 'millrace', mqtt, clickhouse, routes, tracing: { tracer } }) {
    if (typeof tracer?.startSpan !== 'function') throw configError('tracing.tracer', 'must be a Tracer of OpenTelemetry')
    try {
      this.#api = require(API)
    } catch (cause) {
      throw configError('tracing', `needs the package ${API}`, cause)
    }
    this.#tracer = tracer
    this.#pipeline = name
    this.#database = clickhouse.database ?? 'default'
    this.#consumer = {
      ...brokerAddress(mqtt.url),
      ...(mqtt.sharedGroup !== undefined && { 'messaging.consumer.group.name': mqtt.sharedGroup }),
    }
    this.#topics = new Map()
    for (const { topic, table } of routes) this.#topics.set(table, [...(this.#topics.get(table) ?? []), topic])
  }

  /** Makes the spans of a batch. */
  record({ table, messages, rows, deadLetters, began, sealed, ended, inserts, contexts }) {
    const { ROOT_CONTEXT, SpanKind, trace } = this.#api
    const template = this.#template(table)
    const batch = this.#tracer.startSpan(
      // <https://opentelemetry.io/docs/specs/semconv/messaging/messaging-spans/#span-name>
      template === undefined ? 'process' : `process ${template}`,
      {
        kind: SpanKind.CONSUMER,
        root: true,
        startTime: began,
        links: contexts.map((context) => this.#link(context)),
        attributes: {
          'messaging.system': 'mqtt',
          'messaging.operation.type': 'process',
          'messaging.operation.name': 'process',
          ...this.#consumer,
          ...(template !== undefined && { 'messaging.destination.template': template }),
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

  /** The topic of a table that one route fills, which is a name of few values; undefined where several fill it. */
  #template(table) {
    const topics = this.#topics.get(table) ?? []
    return topics.length === 1 ? topics[0] : undefined
  }

  #recordInsert(table, { token, url, rows, bytes, attempts, began, ended, refused }, inside) {
    const { SpanKind, SpanStatusCode } = this.#api
    const { hostname, port, protocol } = new URL(url)
    const [database, name] = table.includes('.') ? table.split(/\.(.*)/s) : [this.#database, table]
    const fault = refused === null ? undefined : refusal(refused)
    const span = this.#tracer.startSpan(
      `INSERT ${table}`,
      {
        kind: SpanKind.CLIENT,
        startTime: began,
        attributes: {
          'db.system.name': 'clickhouse',
          'db.operation.name': 'INSERT',
          'db.collection.name': name,
          'db.namespace': database,
          'server.address': hostname,
          'server.port': Number(port) || (protocol === 'https:' ? 443 : 80),
          'millrace.pipeline': this.#pipeline,
          'millrace.rows': rows,
          'millrace.bytes': bytes,
          'millrace.token': token,
          'millrace.attempts': attempts,
          ...fault?.attributes,
        },
      },
      inside,
    )
    if (fault) span.setStatus({ code: SpanStatusCode.ERROR, message: fault.type })
    span.end(ended)
  }

  #link({ traceId, spanId, flags, state }) {
    const traceState = state === null ? undefined : this.#api.createTraceState(state)
    return { context: { traceId, spanId, traceFlags: flags, isRemote: true, ...(traceState && { traceState }) } }
  }
}

/** Where the broker is; nothing where there are several. */
function brokerAddress(url) {
  if (typeof url !== 'string') return {}
  const { hostname, port, protocol } = new URL(url)
  const usual = { 'mqtt:': 1883, 'mqtts:': 8883, 'ws:': 80, 'wss:': 443 }
  return { 'server.address': hostname, 'server.port': Number(port) || usual[protocol] }
}

/** The code and the name of ClickHouse's exception. Its text may quote values of rows, and is left out. */
function refusal(text) {
  const code = /\bCode: (\d+)/.exec(text)?.[1]
  const type = /\(([A-Z][A-Z_0-9]+)\)/.exec(text)?.[1] ?? code ?? '_OTHER'
  return { type, attributes: { 'error.type': type, ...(code !== undefined && { 'db.response.status_code': code }) } }
}

module.exports = { Tracing }
