import { ClickHouseConfig, DeadLetter, JsonValue, MillraceError, MqttConfig, Pipeline, PipelineConfig } from './index.js'

/**
 * The columns of each table with their types as ClickHouse writes them, where it matters with what follows:
 * `{ positions: { driver_id: 'String', lat: 'Float64', source: "String DEFAULT 'gps'" } }`. A table may be named with its database.
 */
export type TestTables = Record<string, Record<string, string>>

/**
 * A row in memory. Integers are numbers, and bigints where a number would not be exact; dates and times are texts of ISO 8601 in UTC,
 * decimals are texts, a `Map` is an object, a `Tuple` with names too. A column that ClickHouse would compute (DEFAULT) is absent.
 */
export type TestRow = Record<string, any>

export interface PublishOptions {
  /** @default 1 */
  qos?: 0 | 1 | 2
  /** Whether it comes marked as retained; nothing is retained. @default false */
  retain?: boolean
  /** User properties of MQTT 5. @default none */
  userProperties?: Record<string, string | string[]>
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
export function startServers(options: { tables: TestTables }): Promise<TestServers>

/**
 * Starts a pipeline with the configuration of a service, in which addresses, passwords, TLS, the spool and the places of dead letters are
 * replaced or left out, and batches are inserted after 5 ms. It does not keep the process alive.
 * Rejects as `start()` does: a route whose table or columns are not in `tables` is an error here.
 */
export function startTestPipeline(
  config: Omit<PipelineConfig, 'mqtt' | 'clickhouse'> & { mqtt?: Partial<MqttConfig>; clickhouse?: Partial<ClickHouseConfig> },
  options: { tables: TestTables },
): Promise<TestPipeline>
