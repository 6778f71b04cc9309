import { ClickHouseConfig, DeadLetter, JsonValue, MillraceError, MqttConfig, Pipeline, PipelineConfig, Warning } from './index.js'

/**
 * The columns of each table with their types as ClickHouse writes them, where it matters with what follows:
 * `{ positions: { driver_id: 'String', lat: 'Float64', source: "String DEFAULT 'gps'" } }`. A table may be named with its database.
 */
export type TestTables = Record<string, Record<string, string>>

/**
 * Tables as `CREATE TABLE` statements: a text, or several. Statements that create no table are passed over; one that changes the
 * columns of a table, or its name, is refused.
 */
export type Schema = string | readonly string[]

/** The configuration of a service. Addresses and passwords may be left out. */
export type TestConfig = Omit<PipelineConfig, 'mqtt' | 'clickhouse'> & {
  mqtt?: Partial<MqttConfig> | undefined
  clickhouse?: Partial<ClickHouseConfig> | undefined
}

/**
 * A row in memory. Integers are numbers, and bigints where a number would not be exact; dates and times are texts of ISO 8601 in UTC,
 * decimals are texts, a `Map` is an object, a `Tuple` with names too, a `Float32` has the digits that it is printed with. A column that ClickHouse would compute (DEFAULT) is absent.
 */
export type TestRow = Record<string, any>

export interface PublishOptions {
  /** @default 1 */
  qos?: 0 | 1 | 2 | undefined
  /** Whether it comes marked as retained; nothing is retained. @default false */
  retain?: boolean | undefined
  /** User properties of MQTT 5. @default none */
  userProperties?: Record<string, string | readonly string[]> | undefined
}

/** A broker (MQTT 3.1.1 and 5, without TLS) and a ClickHouse on free ports of the loopback, both in this process. */
export interface TestServers {
  /** The `mqtt` section of a configuration for this broker. */
  readonly mqtt: { url: string }
  /** The `clickhouse` section of a configuration for this ClickHouse, which does not know compression. */
  readonly clickhouse: { url: string; compression: 'none' }
  /**
   * Sends a message: an object is sent as JSON. With QoS 1 and 2 it resolves when every subscriber has acknowledged, so the rows are there, or the
   * message is a dead letter. Rejects when no client subscribes to the topic.
   */
  publish(topic: string, payload: string | Uint8Array | JsonValue, options?: PublishOptions): Promise<void>
  /**
   * Rows inserted into a table, in order: the list itself, which grows. Throws for a table that there
   * is not.
   */
  rows(table: string): TestRow[]
  /** Forgets all rows. */
  clear(): void
  /** Ends both servers. A pipeline that is still connected loses them: stop it first. */
  stop(): Promise<void>
  [Symbol.asyncDispose](): Promise<void>
}

/** A pipeline that runs between a broker and a ClickHouse in this process. */
export interface TestPipeline extends TestServers {
  readonly pipeline: Pipeline
  /** Dead letters, in order: the list itself, which grows a moment after the message is acknowledged. */
  readonly deadLetters: DeadLetter[]
  /** Errors of its event 'error'. */
  readonly errors: MillraceError[]
  /** Stops the pipeline, then the servers. */
  stop(): Promise<void>
}

/** Starts a broker and a ClickHouse for a service that makes its pipeline itself. */
export function startServers(options: { tables: TestTables | Schema }): Promise<TestServers>

/**
 * Starts a pipeline with the configuration of a service, in which addresses, passwords, TLS, the spool and the places of dead letters are
 * replaced or left out, and batches are inserted after 5 ms. It does not keep the process alive.
 * Rejects as `start()` does: a route whose table or columns are not in `tables` is an error here.
 */
export function startTestPipeline(config: TestConfig, options: { tables: TestTables | Schema }): Promise<TestPipeline>

/** A message as a broker would deliver it. */
export interface TestMessage {
  topic: string
  /** A text or bytes as they are; anything else is sent as JSON. */
  payload: string | Uint8Array | JsonValue
  /** @default 1 */
  qos?: 0 | 1 | 2 | undefined
  /** @default false */
  retain?: boolean | undefined
  /** User properties of MQTT 5. @default none */
  userProperties?: Record<string, string | readonly string[]> | undefined
  /** @default now */
  receivedAt?: Date | undefined
  /** The client that received it. @default `mqtt.clientId` */
  clientId?: string | undefined
}

/** The result of a message. */
export interface DecodedMessage {
  /** How `metrics().messages` would count it. */
  outcome: 'inserted' | 'deadLettered' | 'dropped' | 'skipped'
  /** By table, as the configuration names it; a table without rows is absent. */
  rows: Record<string, TestRow[]>
  /** Several if several routes take the message. */
  deadLetters: DeadLetter[]
  /** Such as `TRANSFORM_FAILED`, with the stack of what the transform threw. */
  warnings: Warning[]
}

/**
 * Says what becomes of a message, without a broker and without ClickHouse: after `where`, the mapping and the transform of its route.
 * A column that ClickHouse would compute is absent from its row.
 *
 * Rejects as `start()` does, and with `SCHEMA_INVALID` where a statement is not understood.
 */
export function decode(
  config: TestConfig,
  schema: Schema,
  message: TestMessage,
  options?: {
    /** The time zone of columns that have none of their own: the server's. @default 'UTC' */
    timezone?: string | undefined
  },
): Promise<DecodedMessage>
