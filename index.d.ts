import { EventEmitter } from 'node:events'
import { IncomingMessage, ServerResponse } from 'node:http'

/** Any value that JSON can hold. */
export type JsonValue = null | boolean | number | string | readonly JsonValue[] | { readonly [name: string]: JsonValue }

/** One of several objects: the options of two of them together are none. */
type Exclusive<Forms, Names extends PropertyKey = Forms extends unknown ? keyof Forms : never> = Forms extends unknown
  ? Forms & { readonly [Name in Exclude<Names, keyof Forms>]?: undefined }
  : never

// Generated from src/config/schema.rs by `npm run generate`: PipelineConfig

/**
 * The configuration of a pipeline. The constructor checks all of it, and `start()` checks what depends on the tables
 * and on the routes together; an unknown or wrong option is `CONFIG_INVALID`.
 */
export interface PipelineConfig {
  /**
   * The pipeline's name in metrics, deduplication tokens and the names of dead letter files: `A` to `Z`, `a` to `z`,
   * `0` to `9`, `.`, `_`, `-`.
   * @default 'millrace'
   */
  name?: string | undefined
  /** Where messages come from. */
  mqtt: MqttConfig
  /** Where rows go. */
  clickhouse: ClickHouseConfig
  /** At least one; the first whose topic matches takes the message. */
  routes: readonly Route[]
  /**
   * Tables that `pipeline.insert()` may put rows into: `table` or `database.table`. `start()` checks them as those of
   * the routes.
   */
  tables?: readonly string[] | undefined
  /**
   * Maps that columns with the source `{ lookup }` are filled from, by name. `pipeline.lookup()` replaces them while
   * the pipeline runs.
   */
  lookups?: Readonly<Record<string, { file: string | Buffer } | { entries: Readonly<Record<string, JsonValue>> }>> | undefined
  /** When rows are inserted. */
  batch?: BatchConfig | undefined
  /**
   * A durable log on disk between the broker and ClickHouse: messages are acknowledged as soon as they lie there.
   * @default off
   */
  spool?: SpoolConfig | undefined
  /** Where messages go that cannot become rows. @default only the `deadLetters` event, the counter and one warning */
  deadLetters?: DeadLetterConfig | undefined
  /** Limits of what all buffers together hold. */
  memory?: {
    /**
     * The size of all buffers together; reaching it applies back-pressure to the broker. One read (256 KiB) may
     * overshoot it. In bytes, 1048576 (1 MiB) to 1125899906842624 (1 PiB).
     * @default 268435456 (256 MiB)
     */
    maxBytes?: number | undefined
  } | undefined
  /** The time between two `metrics` events; 0 turns the event off. In milliseconds, 0 to 86400000. @default 1000 */
  metricsIntervalMs?: number | undefined
  /**
   * How long `start()` waits for a ClickHouse that accepts connections and does not answer yet. In milliseconds, 1 to
   * 86400000.
   * @default 60000
   */
  startTimeoutMs?: number | undefined
  /**
   * Receives what the events `state`, `warning` and `error` report. Nothing is ever printed otherwise.
   * @default none
   */
  logger?: Logger | undefined
  /** Spans of OpenTelemetry for some of the batches. Needs `@opentelemetry/api`. @default off */
  tracing?: TracingConfig | undefined
}

/** Where messages come from. */
export type MqttConfig = {
  /**
   * `mqtt://host:1883`, `mqtts://host:8883` (TLS), `ws://host:80/path` or `wss://host:443/path` (WebSocket); several
   * are tried in order.
   */
  url: string | readonly string[]
  /**
   * The name of the session, which no other client uses. With several `connections` each adds its number:
   * `<clientId>-1` and so on.
   * @default random, and the session ends with the connection
   */
  clientId?: string | undefined
  /** The user to connect as: a text, a file, or a function that gives it. */
  username?: string | CredentialFile | CredentialFunction | undefined
  /** The user's password: a text, a file, or a function that gives it; needs a `username`. */
  password?: string | CredentialFile | CredentialFunction | undefined
  /** 4 is MQTT 3.1.1, 5 is MQTT 5; `'auto'` is MQTT 5, and 3.1.1 where the broker has no 5. @default 'auto' */
  protocolVersion?: 4 | 5 | 'auto' | undefined
  /**
   * The quality of service asked for. At 2 a message is a row once, as long as this process and the session live.
   * @default 1
   */
  qos?: 0 | 1 | 2 | undefined
  /** Subscribe as `$share/<group>/<filter>`: the broker spreads the messages over the members of the group. */
  sharedGroup?: string | undefined
  /**
   * Parallel connections, each on a thread of its own with its own session; more than 1 needs `sharedGroup`. From 1 to
   * 1024.
   * @default 1
   */
  connections?: number | undefined
  /**
   * How long the broker keeps the session without a connection; needs a `clientId`. In seconds, 0 to 4294967295.
   * @default 86400 with a `clientId`, else 0
   */
  sessionExpirySeconds?: number | undefined
  /**
   * The keep-alive interval. A broker that is silent for one and a half of it is given up. In seconds, 1 to 65535.
   * @default 30
   */
  keepAliveSeconds?: number | undefined
  /**
   * Unacknowledged messages the broker may have in flight to us. The broker's own limit is often lower (mosquitto 20
   * with MQTT 3.1.1, EMQX 32). From 1 to 65535.
   * @default 65535
   */
  receiveMaximum?: number | undefined
  /**
   * Topics that a broker of MQTT 5 may replace by numbers on a connection; each takes up to 64 KiB of memory. 0 allows
   * none, because rumqttd 0.20 gives all topics of a filter one number. From 0 to 65535.
   * @default 0
   */
  topicAliasMaximum?: number | undefined
  /**
   * The largest message. A larger one is passed over and becomes a dead letter, `PACKET_TOO_LARGE`; with MQTT 5 the
   * broker learns the limit and does not send it. In bytes, 1024 (1 KiB) to 268435455.
   * @default 1048576 (1 MiB)
   */
  maxPacketBytes?: number | undefined
  /**
   * The longest rest between two reads of a steady stream, so that one read brings many messages; `'auto'` is a
   * twentieth of `batch.maxDelayMs`; 0 is off. In milliseconds, 0 to 1000.
   * @default 'auto'
   */
  coalesceMs?: number | 'auto' | undefined
  /**
   * When a message of QoS 1 or 2 is acknowledged: at once, when it is synced in the spool, or when its rows are
   * confirmed by ClickHouse.
   * @default `'spool'` with a spool, else `'insert'`
   */
  ackAfter?: 'receive' | 'spool' | 'insert' | undefined
  /** Whether retained messages, which a broker sends on subscribing, become rows. @default 'accept' */
  retained?: 'accept' | 'skip' | undefined
  /**
   * How the broker changes topics. `'rabbitmq'`: a dot comes back as a slash, so the topics of the routes are read with
   * slashes for dots.
   * @default 'none'
   */
  topicRewrite?: 'none' | 'rabbitmq' | undefined
  /** Waits between attempts to connect: exponential, with jitter. */
  reconnect?: {
    /** The wait before the second attempt; it doubles from there. In milliseconds, 1 to 86400000. @default 100 */
    minMs?: number | undefined
    /** The longest wait; not less than `minMs`. In milliseconds, 1 to 86400000. @default 30000 */
    maxMs?: number | undefined
  } | undefined
  /** Filters to unsubscribe from, such as `['old/#']`: a persistent session keeps those of earlier configurations. */
  unsubscribe?: readonly string[] | undefined
  /**
   * How many filters a SUBSCRIBE or an UNSUBSCRIBE holds at most, such as 8 for AWS IoT Core. From 1 to 65535.
   * @default all of them
   */
  filtersPerSubscribe?: number | undefined
  /** TLS of `mqtts://` and `wss://`. */
  tls?: TlsConfig & {
    /** The name that the broker's certificate must be valid for. @default the host of the URL */
    serverName?: string | undefined
    /**
     * Takes any certificate: an attacker in between can read and change everything. Warns, `TLS_INSECURE`.
     * @default false
     */
    insecure?: boolean | undefined
    /** The protocols to offer within TLS (ALPN), such as `['x-amzn-mqtt-ca']` for AWS IoT Core on port 443. */
    alpn?: readonly string[] | undefined
  } | undefined
} & ({ password?: undefined } | { username: string | CredentialFile | CredentialFunction })

/** Where rows go. */
export interface ClickHouseConfig {
  /** `http://host:8123` or `https://host:8443`; several share the load, one that cannot be reached is passed over. */
  url: string | readonly string[]
  /** Makes each URL a shard: a row goes to the one that `cityHash64` of its key says, as into a `Distributed` table. */
  shards?: ShardsConfig | undefined
  /** The database of tables that are named without one. @default 'default' */
  database?: string | undefined
  /** The user to connect as. @default 'default' */
  username?: string | undefined
  /** The user's password: a text, a file, or a function that gives it. */
  password?: string | CredentialFile | CredentialFunction | undefined
  /** How rows are compressed on their way. @default 'lz4' */
  compression?: 'lz4' | 'zstd' | 'none' | undefined
  /**
   * ClickHouse settings for every INSERT. Settings that the guarantees depend on (such as `async_insert`) cannot be
   * set.
   */
  settings?: Readonly<Record<string, string | number | boolean>> | undefined
  /** INSERTs under way at once, each on a thread of its own. From 1 to 64. @default 2 */
  maxInFlight?: number | undefined
  /** How long opening a connection may take. In milliseconds, 1 to 86400000. @default 5000 */
  connectTimeoutMs?: number | undefined
  /**
   * How long sending a request may take, and again waiting for its answer. In milliseconds, 1 to 86400000.
   * @default 30000
   */
  requestTimeoutMs?: number | undefined
  /**
   * Waits between attempts: exponential, with jitter. A batch that can succeed later is retried for ever, or for
   * `maxAgeMs`.
   */
  retry?: {
    /** The wait before the second attempt; it doubles from there. In milliseconds, 1 to 86400000. @default 100 */
    minMs?: number | undefined
    /** The longest wait; not less than `minMs`. In milliseconds, 1 to 86400000. @default 30000 */
    maxMs?: number | undefined
    /**
     * The age of a batch from which a failed attempt is its last: its messages become dead letters. In milliseconds, 1
     * to 315360000000.
     */
    maxAgeMs?: number | undefined
  } | undefined
  /** TLS of `https://`. */
  tls?: TlsConfig | undefined
}

/**
 * A batch, which is one INSERT, is sealed by whichever limit comes first. While ClickHouse is busy it takes more rows,
 * up to `maxBytes`.
 */
export interface BatchConfig {
  /** Rows of a batch. From 1 to 1048449. @default 5000 */
  maxRows?: number | undefined
  /**
   * Size of the columns, before compression. At most an eighth of `memory.maxBytes`, by default too. In bytes, 1 to
   * 1073741824 (1 GiB).
   * @default 8388608 (8 MiB)
   */
  maxBytes?: number | undefined
  /** Age of the batch, from its first message on. In milliseconds, 1 to 86400000. @default 1000 */
  maxDelayMs?: number | undefined
}

/** A durable log on disk between the broker and ClickHouse. */
export interface SpoolConfig {
  /** A directory for this spool alone; made if it is not there. One pipeline at a time: locked. */
  dir: string
  /**
   * Size of all files together, soft: what is committed together may pass it. When full, back-pressure to the broker,
   * never loss. In bytes, 1048576 (1 MiB) to 1125899906842624 (1 PiB).
   * @default 4294967296 (4 GiB)
   */
  maxBytes?: number | undefined
  /**
   * The longest that a message waits before it is written and synced with all that came since; `'auto'` is 30, or a
   * quarter of `batch.maxDelayMs` where that is less. In milliseconds, 1 to 1000.
   * @default 'auto'
   */
  commitMs?: number | 'auto' | undefined
  /**
   * Size of a file, soft; the spool shrinks by deleting files. At most `maxBytes`, by default too. In bytes, 65536 (64
   * KiB) to 1073741824 (1 GiB).
   * @default 67108864 (64 MiB)
   */
  segmentBytes?: number | undefined
}

/** Where messages go that cannot become rows: one of the two. */
export type DeadLetterConfig = {
  /**
   * `table` or `database.table`. Created if absent: `received_at`, `route`, `topic`, `payload`, `error_code`, `error`.
   */
  table?: string | undefined
  /** A directory of JSON Lines, one file a day: `<name>-<YYYY-MM-DD>.jsonl`. */
  dir?: string | undefined
} & ({ dir?: undefined } | { table?: undefined })

/** The tracer, and the share of batches that it traces. */
export interface TracingConfig {
  /** A `Tracer` of `@opentelemetry/api`. */
  tracer: OpenTelemetryTracer
  /** The share of the batches that is traced; the tracer's own sampler comes after it. From 0 to 1. @default 0.1 */
  sampleRatio?: number | undefined
}

/** Which row goes to which URL. */
export interface ShardsConfig {
  /** The columns whose values choose the shard of a row. */
  key: readonly string[]
  /** By table, the key of one that has another. */
  tables?: Readonly<Record<string, readonly string[]>> | undefined
}

/**
 * Each in PEM: a Buffer, a text (one with `-----BEGIN ` in it), or the path of a file, which `start()` reads, and which
 * is read again when a connection is made after it changed.
 */
export type TlsConfig = {
  /** The authorities to trust, instead of the system's. @default the system's */
  ca?: string | Buffer | undefined
  /** The client certificate, followed by those between it and its authority. Needs `key`. */
  cert?: string | Buffer | undefined
  /** The private key of `cert`, not encrypted. */
  key?: string | Buffer | undefined
} & ({ cert?: undefined } | { key: string | Buffer }) & ({ key?: undefined } | { cert: string | Buffer })

/** A topic and the table that it fills. */
export interface Route {
  /** An MQTT filter; `{name}` is a `+` that is kept, `{name#}` a `#` that is kept. */
  topic: string
  /** The quality of service asked for, for the topics of this route. Without it, that of `mqtt.qos`. */
  qos?: 0 | 1 | 2 | undefined
  /** `table` or `database.table`. */
  table: string
  /** The tables that messages may choose, with a `table` such as `'telemetry_{plant}'`. */
  tables?: {
    /**
     * Names of tables, as `table` gives them; `*` stands for any of A to Z, a to z, 0 to 9, `_` and `-`:
     * `['telemetry_north', 'test_*']`. Other messages are dead letters, `TABLE_NOT_ALLOWED`.
     */
    allow: string | readonly string[]
    /**
     * The most tables that are filled until the next start; messages for further ones are dead letters,
     * `TABLES_TOO_MANY`. From 1 to 1000.
     * @default 100
     */
    max?: number | undefined
  } | undefined
  /**
   * Lets `start()` accept a table of the engine `Null` that no materialized view reads, which discards every row.
   * @default false
   */
  allowNullTable?: boolean | undefined
  /** By column, only what differs from "the JSON field of the same name" or "the `{name}` of the topic". */
  columns?: Readonly<Record<string, ColumnSource>> | undefined
  /**
   * A condition on fields of the payload and levels of the topic, looked at before any column is read. A message that
   * it excludes is acknowledged and counts as `dropped`.
   * @default all messages
   */
  where?: Condition | undefined
  /**
   * Later routes take the messages of this route too. Each makes rows, a dead letter or nothing of a message, as if it
   * were alone; the message is acknowledged when all of that is settled.
   * @default false
   */
  continue?: boolean | undefined
  /**
   * The format of payloads: JSON; one bare value, `'text'`, which is `$`; lines of values, `'csv'`; MessagePack; CBOR;
   * Protocol Buffers; or Sparkplug B.
   * @default 'json'
   */
  format?: 'json' | 'text' | 'csv' | 'msgpack' | 'cbor' | 'sparkplug' | {
    /** Lines of values. */
    type: 'csv'
    /** The names of the values of a line, in their order; without them they come from the header. */
    columns?: string | readonly string[] | undefined
    /** The text between two values. @default ',' */
    delimiter?: string | undefined
    /** Whether the first line of each payload has the names. @default false */
    header?: boolean | undefined
    /** The character before the decimals of a number. @default '.' */
    decimal?: '.' | ',' | undefined
    /** The text between a name and its value, `=` in `k=v;k=v`: such lines need neither names nor a header. */
    pairs?: string | undefined
  } | {
    /** Messages of Protocol Buffers. */
    type: 'protobuf'
    /** A FileDescriptorSet, as `protoc --descriptor_set_out --include_imports` writes it. */
    schema: string | Buffer
    /** The full name of the message: `package.Message`. */
    message: string
  } | undefined
  /** Conduct towards the edge nodes of `format: 'sparkplug'`. */
  sparkplug?: {
    /**
     * Whether an edge node is asked for its BIRTH messages, by the command `Node Control/Rebirth`, where one of them is
     * not known or a message is missing. The broker must allow the user to publish to `spBv1.0/+/NCMD/+`.
     * @default false
     */
    rebirth?: boolean | undefined
  } | undefined
  /** How payloads are compressed; `'auto'` looks at the first bytes of each. @default 'none' */
  compression?: 'none' | 'gzip' | 'zlib' | 'zstd' | 'auto' | undefined
  /**
   * The most that a payload may unpack to; a larger one is a dead letter, `PAYLOAD_TOO_LARGE`. At most an eighth of
   * `memory.maxBytes`, by default too. In bytes, 1024 (1 KiB) to 1073741824 (1 GiB).
   * @default 16777216 (16 MiB)
   */
  maxPayloadBytes?: number | undefined
  /**
   * The path of a list in the payload, `devices[*].readings[*]`: one row per item; or of the members of an object,
   * `sensors.*`; or lists side by side, `{ zip: { at: 'series.at', v: 'series.v' } }`: one row per index. A column's
   * path is looked for in the item first, then in the items around it, then in the document.
   * @default one row per object
   */
  rows?: string | { zip: Readonly<Record<string, string>> } | undefined
  /**
   * How to treat a field that no column takes: ignore it, or make the message a dead letter (`UNKNOWN_FIELD`).
   * @default 'ignore'
   */
  unknownFields?: 'ignore' | 'reject' | undefined
  /**
   * Whether the table gets a column for a field that no column takes, beside `unknownFields`. No column is ever changed
   * or dropped.
   * @default 'fixed'
   */
  schema?: 'fixed' | 'add-columns' | undefined
  /** When a table gets a column, and how many, with `schema: 'add-columns'`. */
  addColumns?: {
    /**
     * The number of messages with a field after which it becomes a column, of those that are looked at: 20 a second at
     * most on each connection. From 1 to 100000.
     * @default 20
     */
    afterMessages?: number | undefined
    /** The most columns that are added to the table, over all starts. From 1 to 1000. @default 100 */
    maxColumns?: number | undefined
  } | undefined
  /** Gathers messages of one key into one row, for devices that send each value on a topic of its own. */
  pivot?: {
    /** The columns whose values together say which messages belong together, such as `['device']`. */
    key: string | readonly string[]
    /**
     * How long a row waits for values, from the receipt of its first message on. It is inserted sooner when all columns
     * without a DEFAULT have one. In milliseconds, 1 to 3600000.
     * @default 1000
     */
    windowMs?: number | undefined
    /**
     * The `{name}` of the topic that says which field the payload is: `21.5` at `…/temperature` is read as `{
     * temperature: 21.5 }`. Without it the payload has fields of its own.
     */
    name?: string | undefined
    /**
     * How to treat a value for a column that has one in the open row: it ends the row and opens the next one, or it
     * takes the place of the value before it.
     * @default 'next'
     */
    repeated?: 'next' | 'last' | undefined
  } | undefined
  /** Drops rows whose key a row before them had, within a time. */
  dedupe?: {
    /**
     * The columns whose values together are the key, such as `['event_id']`. A row with NULL in one of them is kept.
     */
    by: string | readonly string[]
    /**
     * How long a key counts, from the receipt of the row on that was kept. In milliseconds, 1 to 604800000.
     * @default 60000
     */
    windowMs?: number | undefined
    /**
     * The most keys that are remembered; beyond it the oldest is forgotten. A key takes about 100 bytes, which count
     * towards `memory.maxBytes`. From 1 to 10000000.
     * @default 100000
     */
    maxKeys?: number | undefined
  } | undefined
  /** Drops rows whose value has changed by `delta` at most since the last row that was kept. */
  deadband?: {
    /** The column whose values are compared: a number. A row with NULL or NaN in it is kept, and so is the next one. */
    column: string
    /**
     * The largest change, up or down, that counts as none, in the unit of the column. With 0 equal values are dropped.
     */
    delta: number
    /**
     * Columns whose values together are the key: a value is compared with the last one of its key. Without it, with the
     * last one of the route. A row with NULL in one of them is kept.
     */
    by?: string | readonly string[] | undefined
    /**
     * A row is kept, whatever its value, so long after the last one of its key that was. In milliseconds, 1 to
     * 604800000.
     */
    everyMs?: number | undefined
    /**
     * The most keys that are remembered; beyond it the oldest is forgotten. A key takes about 100 bytes, which count
     * towards `memory.maxBytes`. From 1 to 10000000.
     * @default 100000
     */
    maxKeys?: number | undefined
  } | undefined
  /**
   * How to treat a missing field for a column that is neither Nullable nor has a DEFAULT: a dead letter
   * (`FIELD_MISSING`), or the type's zero.
   * @default 'reject'
   */
  missingFields?: 'reject' | 'zero' | undefined
  /** Texts that are a missing value, in any column. */
  nulls?: string | readonly string[] | undefined
  /**
   * How to read the tokens `NaN`, `Infinity` and `-Infinity` in JSON: invalid, a missing value, or that float.
   * @default 'reject'
   */
  nan?: 'reject' | 'null' | 'value' | undefined
  /**
   * Business logic in JavaScript, called with each batch of the route: a function, or a module that threads of the
   * pipeline's own load.
   */
  transform?: Transform | string | TransformModule | undefined
  /** By name, fields that are read for `transform` alone: a source, as of a column, and a ClickHouse type. */
  inputs?: Readonly<Record<string, InputSource>> | undefined
  /** The tables that `batch.emit` of `transform` may put rows into. */
  emits?: readonly string[] | undefined
  /**
   * A call of `transform` that takes longer causes the warning `TRANSFORM_SLOW`. It is not aborted. In milliseconds, 1
   * to 86400000.
   * @default 10000
   */
  transformTimeoutMs?: number | undefined
}

/**
 * A file whose text is a user name or a password, such as a mounted secret. It is read again whenever it is needed;
 * line breaks at its end do not count.
 */
export interface CredentialFile {
  /** The path of the file, in UTF-8. */
  file: string
}

/**
 * Selects the messages of a route: `{ path: 'speed', ge: 10, lt: 90 }`, `{ topic: 'driver_id', in: ['a', 'b'] }`.
 * Several comparisons of one value must all hold; `and`, `or` and `not` join conditions.
 *
 * A missing field is the same as `null`: no comparison holds for it but `ne` and `exists: false`. Values of different
 * types are never equal: `5` is not `'5'`.
 */
export type Condition =
  | Exclusive<
    /** A field of the payload. */
    | {
        /** A path into the payload, as columns have it. The first path of a list that has a value counts. */
        path: string | readonly string[]
        /** It is equal. */
        eq?: string | number | boolean | undefined
        /** It is not equal, of another type, or missing: the opposite of `eq`. */
        ne?: string | number | boolean | undefined
        /** It is less. Texts are compared byte by byte. */
        lt?: string | number | undefined
        /** It is less or equal. */
        le?: string | number | undefined
        /** It is greater. */
        gt?: string | number | undefined
        /** It is greater or equal. */
        ge?: string | number | undefined
        /** It is equal to one of these: a list of at least one. */
        in?: readonly (string | number | boolean)[] | undefined
        /** Whether it is there, and not `null`. A level of the topic always is. */
        exists?: boolean | undefined
      }
    /** A `{name}` of the topic. */
    | {
        /** A `{name}` of the topic. */
        topic: string
        /** It is equal. */
        eq?: string | number | boolean | undefined
        /** It is not equal, of another type, or missing: the opposite of `eq`. */
        ne?: string | number | boolean | undefined
        /** It is less. Texts are compared byte by byte. */
        lt?: string | number | undefined
        /** It is less or equal. */
        le?: string | number | undefined
        /** It is greater. */
        gt?: string | number | undefined
        /** It is greater or equal. */
        ge?: string | number | undefined
        /** It is equal to one of these: a list of at least one. */
        in?: readonly (string | number | boolean)[] | undefined
        /** Whether it is there, and not `null`. A level of the topic always is. */
        exists?: boolean | undefined
      }
    /** All of several conditions. */
    | { and: readonly Condition[] }
    /** At least one of several conditions. */
    | { or: readonly Condition[] }
    /** The opposite of a condition. */
    | { not: Condition }
  >

/**
 * Where a column's value comes from. A string is a path into the payload: `lat`, `position.lat`, `axes[0]`,
 * `['a.b'].c`. `$` is the document and `@` the item that a row is made of: `$.ts`, `@[0]`.
 *
 * A missing field, or `null`, takes in this order: the source's `default`; the column's own DEFAULT, computed by
 * ClickHouse for that row; `NULL` where the column is Nullable. A column with none of these is required.
 */
export type ColumnSource =
  | string
  | readonly string[]
  | Exclusive<
    /** A path, with what to make of the value. */
    | {
        /**
         * A path into the payload: `lat`, `position.lat`, `axes[0]`, `axes[-1]` for the last, `*.lat` below any one
         * key. The first path of a list that has a value counts.
         */
        path: string | readonly string[]
        /** The value where it is missing, or `null`. */
        default?: JsonValue | undefined
        /**
         * The unit of a number in a column of a time type, since 1970. `'auto'` reads the magnitude: below 1e11
         * seconds, below 1e14 milliseconds, below 1e17 microseconds, else nanoseconds.
         * @default 'auto'
         */
        unit?: 's' | 'ms' | 'us' | 'ns' | 'auto' | undefined
        /**
         * The names of an object's fields that fill the elements of a Tuple, or of a Point: `['lng', 'lat']`. Without
         * it a Tuple takes the names that it has.
         */
        fields?: string | readonly string[] | undefined
        /** Texts that are a missing value. */
        nulls?: string | readonly string[] | undefined
        /** Values that replace a text or number: `{ ON: true, OFF: false }`; under `'*'` for all others. */
        map?: Readonly<Record<string, JsonValue>> | undefined
        /**
         * The format that the text there is parsed as first. Paths may go on through a text that is JSON. `'number'`
         * takes a decimal comma, and drops a unit behind the number.
         */
        parse?: 'json' | 'base64' | 'hex' | 'number' | undefined
        /** A factor for a number. */
        scale?: number | undefined
        /** A number that is added, after `scale`. */
        offset?: number | undefined
      }
    /** A map of the program's, by a key of the message: set by `pipeline.lookup()`, or by `lookups`. */
    | {
        /** The name of the map. */
        lookup: string
        /**
         * Where the message has the key: a text is a `{name}` of the topic if it has that name, else a path into the
         * payload.
         */
        key: string | { path: string } | { topic: string } | { meta: 'topic' | 'clientId' } | { userProperty: string }
        /** The field of the entry. @default the value of the entry itself */
        field?: string | undefined
        /** The value where the message has no key, the map has no entry for it, or the entry no such field. */
        default?: JsonValue | undefined
      }
    /** The name of a key that a path with `*` leads to. */
    | { key: string }
    /** A `{name}` of the topic. */
    | { topic: string }
    /** A property of the message itself. `receivedAt` fits time columns, and 64-bit integers as milliseconds. */
    | { meta: 'topic' | 'receivedAt' | 'payload' | 'qos' | 'retain' | 'clientId' }
    /** A user property of MQTT 5; missing where the message has none of that name. */
    | { userProperty: string }
    /** A constant. */
    | { value: JsonValue }
    /** A column that the route's `transform` fills. */
    | { computed: boolean }
  >

/** A module whose export is the transform. Worker threads of the pipeline's own load it. */
export interface TransformModule {
  /**
   * The module's path, from the working directory, or its URL: ESM, CommonJS, or TypeScript where the runtime takes it.
   */
  module: string | URL
  /** The name of the export. @default 'default' */
  export?: string | undefined
  /**
   * The number of threads that load it. As many batches are worked on at once, and are inserted in the order in which
   * they are done. From 1 to 64.
   * @default 1
   */
  threads?: number | undefined
  /** The module finds it as `workerData` of `node:worker_threads`. */
  data?: JsonValue | undefined
}

/** A field that is read for a transform alone. Without a source it is the field of that name. */
export interface InputSource {
  /** The ClickHouse type that it is read as. */
  type: string
  /** A path into the payload, or several. */
  path?: string | readonly string[] | undefined
  /** The value where it is missing, or `null`. */
  default?: JsonValue | undefined
  /** The unit of a number that is a time. @default 'auto' */
  unit?: 's' | 'ms' | 'us' | 'ns' | 'auto' | undefined
  /** Texts that are a missing value. */
  nulls?: string | readonly string[] | undefined
  /** Values that replace a text or number. */
  map?: Readonly<Record<string, JsonValue>> | undefined
  /** The format that the text there is parsed as first. */
  parse?: 'json' | 'base64' | 'hex' | 'number' | undefined
  /** A factor for a number. */
  scale?: number | undefined
  /** A number that is added, after `scale`. */
  offset?: number | undefined
  /** The name of a map of the program's; needs `key`, which is the key in it. */
  lookup?: string | undefined
  /** The field of the entry of `lookup`. */
  field?: string | undefined
  /** The name of the key that a path with `*` leads to; with `lookup` the key there. */
  key?: string | { path: string } | { topic: string } | { meta: 'topic' | 'clientId' } | { userProperty: string } | undefined
  /** A `{name}` of the topic. */
  topic?: string | undefined
  /** A property of the message itself. */
  meta?: 'topic' | 'receivedAt' | 'payload' | 'qos' | 'retain' | 'clientId' | undefined
  /** The first user property of that name. */
  userProperty?: string | undefined
  /** A constant. */
  value?: JsonValue | undefined
}

// End of the generated part

/**
 * Gives a user name or a password: before each attempt to connect to the broker, and for ClickHouse at start and whenever it
 * refuses the last one. It has 10 s. An error that it throws, and a value that is not a text, is `CREDENTIALS_FAILED`; it is called
 * again after a wait.
 */
export type CredentialFunction = () => string | PromiseLike<string>

/**
 * The business logic of a route: called with each batch between decoding and inserting, one batch at a
 * time. The values that it writes into the columns are inserted. If it throws, or its promise rejects,
 * nothing it did to the batch counts, and the messages become dead letters (`TRANSFORM_FAILED`). See
 * docs/transform.md.
 */
export type Transform<B extends Batch<any> = Batch> = {
  // As a method, a transform of a batch with certain columns is one of batches.
  call(batch: B): void | Promise<void>
}['call']

/**
 * The rows of one batch, until the transform returns or its promise is settled. After that all of it throws `INVALID_STATE`. A row is
 * a number from 0, or a row view of this batch.
 */
export interface Batch<Columns = Record<string, AnyColumn>> {
  /** How many rows there are. */
  readonly length: number
  /** The table of the route, as the configuration names it. */
  readonly table: string
  /** Position in `routes`. */
  readonly route: number
  /** The filter of the subscription, such as `drivers/+/position`. */
  readonly topicFilter: string
  /** The columns by name: those that the route fills, the computed ones, and `inputs`. */
  readonly columns: Columns

  /** The row is not wanted. A message of which no row is left counts as `dropped`. */
  drop(row: number | RowView<Columns>): void

  /**
   * The row's message becomes a dead letter, `REJECTED_BY_TRANSFORM`, and none of its rows is inserted. It wins over `drop`; the first
   * reason counts.
   */
  reject(row: number | RowView<Columns>, reason: string): void

  /**
   * Inserts one more row, into a table of `emits`, by names of columns. It is settled together with the batch.
   *
   * @throws {MillraceError} `TYPE_MISMATCH`, `OUT_OF_RANGE` and others, with the `column` that does not take its value
   */
  emit(table: string, row: object): void

  /** The message that the row was made of. */
  message(row: number | RowView<Columns>): TransformMessage

  /** The batch row by row: one view, with a property for each column, that is used again for each row. */
  rows(): IterableIterator<RowView<Columns>>

  /** Aborted when the pipeline has stopped and the batch is not done: `stop()` has taken longer than its `timeoutMs`. */
  readonly signal: AbortSignal
}

/**
 * Rows of a route as they are inserted, for `pipeline.tap()`: a copy of the newest rows of one batch, until the function returns or its
 * promise is settled. After that all of it throws `INVALID_STATE`, and so does `set` at any time. It has no `inputs`; `null` is in
 * place of what ClickHouse computes as a DEFAULT. `B` is the type that `millrace types` writes for the batch of a transform.
 */
export interface TapBatch<B extends Batch<any> = Batch> {
  /** How many rows there are: at most `batch.maxRows`. */
  readonly length: number
  /** The table of the route, as the configuration names it. */
  readonly table: string
  /** Position in `routes`. */
  readonly route: number
  /** The filter of the subscription, such as `drivers/+/position`. */
  readonly topicFilter: string
  /** The columns by name. */
  readonly columns: { readonly [Name in keyof B['columns']]: Omit<B['columns'][Name], 'set'> }
  /** The rows one by one: one view, with a property for each column, that is used again for each row. */
  rows(): IterableIterator<Readonly<RowView<B['columns']>>>
}

/** Ends a tap. `using` ends it with its block. */
export interface Untap {
  (): void
  [Symbol.dispose](): void
}

/** A row of a batch: a property for each column, with what its `get` gives and its `set` takes. */
export type RowView<Columns = Record<string, AnyColumn>> = {
  [Name in keyof Columns]: Columns[Name] extends { get(row: number): infer Value } ? Value : any
}

export interface TransformMessage {
  topic: string
  /** Valid during the call. */
  payload: Buffer
  receivedAt: Date
  qos: 0 | 1 | 2
  retain: boolean
  /** In the order of the message; MQTT 5. */
  userProperties: [name: string, value: string][]
}

/**
 * A column of a batch. It is copied to JavaScript when it is first touched; one that is not touched costs nothing. `get` and `set`
 * throw `OUT_OF_RANGE` for a row that is not there, and `set` throws `TYPE_MISMATCH` or `OUT_OF_RANGE` for a value that the type has
 * not, with `row` and `column`.
 *
 * `get` gives `number`; `bigint` for integers of 64 bits and more; `boolean`; the name of an enum; `Date` for `Date*` and `DateTime*`
 * (milliseconds, UTC); `string` for texts, `Time*`, `Decimal`, `UUID` and addresses; lists and objects for others; and `null`.
 */
export interface Column<Get = any, Set = Get> {
  readonly name: string
  /** As ClickHouse writes it. */
  readonly type: string
  readonly length: number
  get(row: number): Get
  set(row: number, value: Set): void
}

/** A column of fixed width. `Null` is `null` where the type is `Nullable`. */
export interface ArrayColumn<Values, Get, Set = Get, Null extends null = never> extends Column<Get | Null, Set | Null> {
  /**
   * All values, of exactly `length` rows: what is written here is inserted. Times are ticks since 1970, enums their numbers. The
   * memory is used again for the next batch: copy what is to be kept. In computed columns and in those with a DEFAULT, rows
   * without a value hold a mark: NaN, 255 and so on; those that still hold it at the end are NULL, or get the DEFAULT.
   */
  readonly values: Values
  /** 1 where the value is NULL. */
  readonly nulls: [Null] extends [never] ? undefined : Uint8Array
}

/** A column of a time. `set` takes a `Date`, whose rest below a tick is cut, or ticks. */
export interface TimeColumn<Values, Get = Date, Set = Date | bigint, Null extends null = never> extends ArrayColumn<Values, Get, Set, Null> {
  /** The exact value, which may exceed a `Date`: days, seconds, or 10^-precision seconds since 1970. */
  ticks(row: number): bigint | Null
}

/** A column of `String` or `LowCardinality(String)`. */
export interface TextColumn<Null extends null = never> extends Column<string | Null, string | Uint8Array | Null> {
  /** The text undecoded, as UTF-8 or whatever came: a view that is valid during the call. */
  bytes(row: number): Uint8Array | Null
}

/** A column of which nothing is known. `millrace types` writes the type of each. */
export interface AnyColumn extends Column {
  readonly values?: any
  readonly nulls?: any
  readonly ticks?: any
  readonly bytes?: any
}

/** The part of a `Tracer` of `@opentelemetry/api` that millrace uses. */
export interface OpenTelemetryTracer {
  startSpan(name: string, options?: any, context?: any): any
}

/** The methods of a logger, in the shape of pino's. */
export interface Logger {
  info(fields: object, message: string): void
  warn(fields: object, message: string): void
  error(fields: object, message: string): void
}

export type State = 'idle' | 'starting' | 'running' | 'paused' | 'stopping' | 'stopped'

/** The names of a topic's levels: `'a' | 'b'` for `x/{a}/{b#}`. */
type TopicNames<Topic extends string> = Topic extends `${string}{${infer Name}}${infer Rest}`
  ? (Name extends `${infer Kept}#` ? Kept : Name) | TopicNames<Rest>
  : never

/** A source of a column, or of an input; one of the topic must name a level that the topic has. */
type NamedSource<Source, Topic extends string> = Source extends { topic: string } ? { topic: TopicNames<Topic> } : Source

type NamedSources<Sources, Topic extends string> = { [Name in keyof Sources]: NamedSource<Sources[Name], Topic> }

type NamedRoute<R> = R extends { topic: infer Topic extends string; columns: infer Columns }
  ? string extends Topic
    ? R
    : Omit<R, 'columns'> & { columns: NamedSources<Columns, Topic> }
  : R

/**
 * Gives a configuration back as it is, with its own type: `{ topic: 'driver' }` in `columns` does not compile where the topic of
 * the route has no `{driver}`.
 */
export function definePipeline<const Config extends PipelineConfig>(
  config: Config & { readonly routes: { readonly [At in keyof Config['routes']]: NamedRoute<Config['routes'][At]> } },
): Config

/**
 * Gives a configuration back. `Tables` has the columns of each table, as `millrace types --tables` writes them: a table, a column or
 * a table of `emits` that is not there does not compile.
 */
export function definePipeline<Tables extends { [Table in keyof Tables]: object } = {}>(config: PipelineConfigOf<NoInfer<Tables>>): PipelineConfig

/** The same in two calls, `definePipeline<Tables>()({ … })`: names of topics are checked too. */
export function definePipeline<Tables extends { [Table in keyof Tables]: object }>(): <const Config extends PipelineConfigOf<Tables>>(
  config: Config & { readonly routes: { readonly [At in keyof Config['routes']]: NamedRoute<Config['routes'][At]> } },
) => Config

/** A configuration that only names tables and columns of `Tables`. */
export type PipelineConfigOf<Tables> = Omit<PipelineConfig, 'routes' | 'tables'> & {
  readonly routes: readonly RouteOf<Tables>[]
  readonly tables?: readonly (keyof Tables & string)[] | undefined
}

/** A route to one of these tables. */
export type RouteOf<Tables> = {
  [Table in keyof Tables & string]: Omit<Route, 'table' | 'columns' | 'emits'> & {
    readonly table: Table
    readonly columns?: { readonly [Column in keyof Tables[Table]]?: ColumnSource | undefined } | undefined
    readonly emits?: readonly (keyof Tables & string)[] | undefined
  }
}[keyof Tables & string] | (Omit<Route, 'table'> & { readonly table: `${string}{${string}}${string}` })

/** The events of a pipeline, with the arguments of their listeners. */
export interface PipelineEvents {
  metrics: [metrics: Metrics]
  deadLetters: [letters: DeadLetter[]]
  state: [state: State, previous: State]
  /** A problem that ends by itself or needs a change: reconnects, retries, a table without deduplication, … */
  warning: [warning: Warning]
  /** The pipeline has failed for good: call `stop()` and create a new one. */
  error: [error: MillraceError]
}

/** A value of a lookup's map: what a field of JSON may be, and `bigint` and `Date`. `null` and `undefined` are missing. */
export type LookupValue = string | number | bigint | boolean | Date | null | undefined

/** The entries of a lookup by key. */
export type LookupMap =
  | ReadonlyMap<string | number | bigint | boolean, LookupValue | Readonly<Record<string, LookupValue>>>
  | Readonly<Record<string, LookupValue | Readonly<Record<string, LookupValue>>>>

export class Pipeline extends EventEmitter {
  /** Checks the configuration and opens nothing. @throws {MillraceError} `CONFIG_INVALID` with the option's `path` */
  constructor(config: PipelineConfig)

  readonly state: State

  /**
   * Resolves when the tables are checked, the broker is connected and every subscription is granted. After a rejection
   * nothing is left running, and it may be called again. `stop()` ends it: it rejects with `ABORTED`.
   *
   * With `wait` (`false` by default) it does not reject while ClickHouse or the broker cannot be reached: it tries again after
   * 250 ms, then after twice the wait each time up to 5 s, and warns each time (`START_WAITING`).
   *
   * While it runs, a pipeline keeps the process alive if it has a listener for any event, as a `MessagePort` does;
   * `ref()` and `unref()` override that. If a program ends without `stop()`, the pipeline stops itself on `beforeExit`.
   */
  start(options?: { signal?: AbortSignal | undefined; wait?: boolean | undefined }): Promise<void>

  /**
   * Resolves when every message received before the call is in ClickHouse or stored as a dead letter, and listeners have been
   * called with the warnings and dead letters that came of it. The promises of `start()` and `stop()` resolve after their events
   * in the same way.
   */
  flush(): Promise<void>

  /**
   * Inserts rows of the program's own into a table that `tables` of the configuration declares: in the same batches as
   * messages, with the same retries, and through the spool if there is one. Values are taken as those of JSON are, and
   * `bigint`, `Date` and `Uint8Array` as well. At most 100,000 rows at once.
   *
   * Resolves when ClickHouse has confirmed the rows or, with a spool, when they are synced there. Waits while memory is full.
   *
   * @param rows one row or several: values by the names of columns
   * @throws {MillraceError} with `row` and `column`, and then no row of this call is inserted: `TYPE_MISMATCH`, `OUT_OF_RANGE`,
   *   `FIELD_MISSING`, `UNKNOWN_FIELD`, `NOT_AN_OBJECT`, `REJECTED_BY_CLICKHOUSE`; `TABLE_NOT_DECLARED`; `INVALID_STATE` while it is
   *   not running; `ROWS_UNCONFIRMED` if it stopped before. See docs/delivery.md.
   */
  insert(table: string, rows: object | readonly object[]): Promise<void>

  /**
   * Sets the map that columns with the source `{ lookup: name, … }` are filled from, in place of the one before: rows that are
   * decoded after this call are filled from it. At any time, also before `start()`. The map is copied; what the program changes
   * in it later has no effect until the next call.
   *
   * @param map by key, which is compared as a text, a scalar or an object of scalars
   * @throws {MillraceError} `CONFIG_INVALID` with the `path` `name`, `map` or the entry's, such as `map["d1"].tenant`;
   *   `LOOKUP_TOO_LARGE` where all maps together would take more than a quarter of `memory.maxBytes`. The map is then as before.
   */
  lookup(name: string, map: LookupMap): void

  /**
   * Shows what a route inserts, live: calls a function with a sample of its rows, behind a transform if there is one. It never slows
   * what it shows: there is one sample at most in each interval, the next one only when the function or its promise is done, and none
   * where memory is short. An error of the function is an uncaught exception, as of a listener. May be called before `start()`;
   * `stop()` ends all taps. A tap keeps the process alive as a listener does.
   *
   * @param route its position in `routes`, or its topic as the configuration has it
   * @param options `everyMs`: milliseconds between two samples at least, 1 to 2147483647. @default 1000
   * @returns a function that ends the tap
   * @throws {MillraceError} `CONFIG_INVALID` with the `path` `route`, `fn` or `everyMs`; `INVALID_STATE` once `stop()` was called
   */
  tap<B extends Batch<any> = Batch>(
    route: number | string,
    fn: (batch: TapBatch<B>) => unknown,
    options?: { everyMs?: number | undefined },
  ): Untap

  /**
   * Adds a route behind all others, checked as those of the configuration are, and resolves when the broker has granted its
   * subscription on every connection. After an error the pipeline is as it was. Added routes are not remembered: after a restart the
   * program adds them again.
   *
   * @returns the number of the route, as warnings, dead letters and batches have it; a number is not used twice
   * @throws {MillraceError} `ROUTE_EXISTS` if a route has its topic; `CONFIG_INVALID`, `TABLE_NOT_FOUND` and the other errors of
   *   `start()`, with a `path` that begins with `route`; `SUBSCRIPTION_REFUSED`; `INVALID_STATE` unless the pipeline runs;
   *   `ABORTED` if it is stopped meanwhile
   */
  addRoute(route: Route): Promise<number>

  /**
   * Replaces the route of the same topic: from here on messages are taken by the new one, in the same place among the routes. Rows
   * that the old one has made are inserted.
   *
   * @returns the number of the new route
   * @throws {MillraceError} as `addRoute()`, and `ROUTE_NOT_FOUND` if no route has the topic
   */
  updateRoute(route: Route): Promise<number>

  /**
   * Removes a route, and resolves when the broker has ended its subscription. Rows in hand are inserted, and what the broker had
   * queued before still becomes rows.
   *
   * @param topic as the route has it
   * @throws {MillraceError} `ROUTE_NOT_FOUND`; `CONFIG_INVALID` for the last route; `INVALID_STATE`; `ABORTED`
   */
  removeRoute(topic: string): Promise<void>

  /** Stops reading from the broker, which keeps messages as its queue allows. Received messages are still inserted. */
  pause(): void

  resume(): void

  /**
   * Receives no further messages, inserts and acknowledges those it has, and disconnects. A session with a `clientId`
   * keeps its subscriptions, so that the broker queues messages until the next start; without one it unsubscribes. With a spool
   * it disconnects as soon as all messages are synced, and then waits for the INSERTs.
   *
   * `leave` (false by default) is for a member of a `sharedGroup` that does not come back: it unsubscribes first, so that the
   * broker gives all that comes to the other members, takes what the broker has given it already, and ends the session.
   *
   * With a spool it does not wait for a ClickHouse that takes nothing: the messages that are left there count as
   * `messages.pending`, and are inserted after the next start.
   *
   * Idempotent: later calls return the same promise. Rejects with `STOP_TIMEOUT` if `timeoutMs` (30000 by default) was not
   * enough for messages that are not in the spool. The pipeline is stopped then too; these messages were not acknowledged. The
   * error's message has their number.
   */
  stop(options?: { timeoutMs?: number | undefined; leave?: boolean | undefined }): Promise<Metrics>

  /** A snapshot. The call is cheap. */
  metrics(): Metrics

  /** The same in the Prometheus text format 0.0.4, with histograms: see docs/metrics.md. */
  prometheus(): string

  /** While it runs, the pipeline keeps the process alive, with or without listeners. */
  ref(): this

  /** The pipeline does not keep the process alive, with or without listeners. */
  unref(): this

  /** `stop()`, for `await using`. */
  [Symbol.asyncDispose](): Promise<void>

  on<E extends keyof PipelineEvents>(event: E, listener: (...args: PipelineEvents[E]) => void): this
  once<E extends keyof PipelineEvents>(event: E, listener: (...args: PipelineEvents[E]) => void): this
  off<E extends keyof PipelineEvents>(event: E, listener: (...args: PipelineEvents[E]) => void): this
  addListener<E extends keyof PipelineEvents>(event: E, listener: (...args: PipelineEvents[E]) => void): this
  removeListener<E extends keyof PipelineEvents>(event: E, listener: (...args: PipelineEvents[E]) => void): this
  prependListener<E extends keyof PipelineEvents>(event: E, listener: (...args: PipelineEvents[E]) => void): this
  prependOnceListener<E extends keyof PipelineEvents>(event: E, listener: (...args: PipelineEvents[E]) => void): this
}

/**
 * A warning of the event 'warning' or of `onWarning`. `code` is stable and `message` is for people. The
 * other fields hold the values of the message, for programs; a field is there only where it applies.
 * docs/metrics.md lists the codes and their fields.
 */
export interface Warning {
  code: WarningCode
  message: string
  /** As the configuration names it; of `DEDUPLICATION_OFF` with its database. */
  table?: string
  /** Position in `routes`. */
  route?: number
  column?: string
  /** The path in the payload that `column` is filled from; of a lookup the field of its entries. */
  path?: string
  /** The fault alone, without its place and what is done about it. */
  reason?: string
  /** The code of the `MillraceError` that `reason` is the message of. */
  errorCode?: ErrorCode | DeadLetterCode
  /** The server that `reason` is about: ClickHouse or broker. */
  url?: string
  /** The broker's number for its refusal: a reason code of MQTT 5, such as 134, or a return code of MQTT 3.1.1, such as 4. */
  reasonCode?: number
  /** ClickHouse's own number of its exception, such as 252. */
  clickhouseCode?: number
  /** ClickHouse's own name of its exception, such as `TOO_MANY_PARTS`. */
  clickhouseName?: string
  /** Milliseconds until the next attempt. */
  retryInMs?: number
  /** Attempts that failed before one succeeded. */
  failures?: number
  /** The MQTT client id of the connection. */
  clientId?: string
  /** The version of MQTT that the broker speaks: 4 is 3.1.1. */
  protocolVersion?: number
  /** The topic of a message. */
  topic?: string
  /** The name of a lookup. */
  lookup?: string
  /** Filters of subscriptions. */
  filters?: string[]
  /** How many filters a SUBSCRIBE holds from now on. */
  filtersPerSubscribe?: number
  /** Seconds for which the broker keeps the session. */
  sessionExpirySeconds?: number
  /** The broker's window: unacknowledged messages in flight. */
  inflightMessages?: number
  /** The rate that this window allows. */
  messagesPerSecond?: number
  /** Messages of a batch that ClickHouse refused. */
  messages?: number
  /** Rows that were inserted again. */
  rows?: number
  /** Milliseconds that a call has taken so far. */
  elapsedMs?: number
  /** Milliseconds until it is given up. */
  timeLeftMs?: number
  /** When tables were read, by RFC 3339. */
  readAt?: string
  /** Where a transform threw. */
  stack?: string
  /** Events that were dropped. */
  events?: number
  /** A directory: of the spool, or of dead letters. */
  dir?: string
  /** Names of files in `dir`. */
  files?: string[]
  /** A file of the spool, with the position of `bytes` bytes in it. */
  segment?: string
  at?: number
  bytes?: number
  /** The file that has the bytes, or the malformed dead letter. */
  file?: string
  /** Line of `file`, or number of the dead letter; from 1. */
  line?: number
}

/** In every snapshot `received = inserted + deadLettered + dropped + skipped + pending`. */
export interface Metrics {
  state: State
  /** Since the pipeline was constructed. */
  uptimeMs: number
  messages: {
    received: number
    /** Messages whose rows ClickHouse has confirmed. */
    inserted: number
    deadLettered: number
    /** Messages of which a transform left no row. */
    dropped: number
    /** Retained messages with `retained: 'skip'`, and redeliveries of messages that the pipeline has already. */
    skipped: number
    pending: number
  }
  rows: { decoded: number; inserted: number }
  /** MQTT payload bytes; uncompressed block bytes. */
  bytes: { received: number; inserted: number }
  /** Over the last interval. */
  rates: { messagesPerSecond: number; rowsPerSecond: number }
  /** `retried` counts attempts beyond the first, `failed` INSERTs that ClickHouse refused for good. */
  inserts: { succeeded: number; retried: number; failed: number; inFlight: number }
  /** Since construction. `insert`: one confirmed INSERT; `endToEnd`: from the receipt of a message to its confirmation. */
  latencyMs: { insert: Quantiles; endToEnd: Quantiles }
  /** Over all connections. `writes` counts writes to sockets: one write carries many acknowledgements. */
  mqtt: {
    connected: number
    connections: number
    reconnects: number
    /** Requests to edge nodes of Sparkplug B for their BIRTH messages: `routes[].sparkplug.rebirth`. */
    rebirthRequests: number
    unacknowledged: number
    writes: number
    /** 4 is MQTT 3.1.1, 5 is MQTT 5; 0 until a broker has answered. */
    protocolVersion: 0 | 4 | 5
  }
  /** Bytes and segments on disk, and the age of the oldest unsettled message in milliseconds, or 0. `null` without a spool. */
  spool: SpoolMetrics | null
  /** Bytes that the buffers hold now. */
  memoryBytes: number
  /** The option `memory.maxBytes`: at this size the pipeline stops reading. */
  memoryMaxBytes: number
  /** How long ago ClickHouse last confirmed an INSERT, in milliseconds; null if it never has. */
  lastInsertMs: number | null
  /** How long the oldest message has been here that is not in ClickHouse, in milliseconds; 0 if none is pending. */
  oldestPendingMs: number
  /** Dead letters by code. Codes with a count of 0 are omitted. */
  deadLetters: Record<string, number>
  /** By table, under the name that routes use. */
  tables: Record<string, TableMetrics>
  /**
   * By the topic of the route as it is subscribed, such as `drivers/+/position`; only of routes with a `transform`. Where
   * routes share a topic the first has it alone, and the others have their place behind it: `drivers/+/position (routes[2])`.
   */
  transforms: Record<string, TransformMetrics>
  /** Rows that `pivot` made of messages; by the name of the route, as in `transforms`. */
  pivot: Record<string, PivotMetrics>
  /** Rows that `dedupe` dropped, and its keys; by the name of the route, as in `transforms`. */
  dedupe: Record<string, RepeatMetrics>
  /** The same of `deadband`. */
  deadband: Record<string, RepeatMetrics>
  /** The maps that columns are filled from, by name. */
  lookups: Record<string, LookupMetrics>
  /** Warnings by code. Codes with a count of 0 are omitted. */
  warnings: Record<string, number>
  /** The faults at present: one for each code and table, directory or client. Empty: nothing. */
  faults: Fault[]
}

/** A condition that a warning has reported and that lasts. docs/metrics.md says what ends each. */
export interface Fault extends Warning {
  /** Milliseconds since 1970. */
  since: number
  /** Warnings so far. */
  failures: number
}

/** Counters of the INSERTs into a table. */
export interface TableMetrics {
  rows: number
  inserts: number
  deadLettered: number
  /** Attempts that failed and were made again. */
  retried: number
  /** INSERTs that ClickHouse refused for good. */
  failed: number
  /** Whether an INSERT has failed and waits to be made again. */
  failing: boolean
  /** How long ago ClickHouse last confirmed an INSERT, in milliseconds; null if it never has. */
  lastInsertMs: number | null
}

/** The rows that a route makes of several messages each. */
export interface PivotMetrics {
  /** Rows that wait for values. */
  open: number
  /** Rows that went into batches. */
  rows: number
  /** Rows that had all columns. */
  complete: number
}

/** The rows that a route drops for those before them. */
export interface RepeatMetrics {
  /** Rows that were dropped. */
  dropped: number
  /** Keys that are remembered. */
  keys: number
  /** Keys that were forgotten for newer ones, because there were `maxKeys` of them or no memory. */
  evicted: number
}

/** A map that columns are filled from. */
export interface LookupMetrics {
  entries: number
  /** The memory that it takes, which counts towards `memory.maxBytes`. */
  bytes: number
  /** Rows whose key was not in the map. */
  misses: number
}

/** The contents and the health of the spool. */
export interface SpoolMetrics {
  /** On disk. */
  bytes: number
  maxBytes: number
  segments: number
  /** Age of the oldest unsettled message in milliseconds, or 0. */
  oldestMs: number
  /** Ranges of bytes that cannot be read or are gone. */
  damages: number
  /** Messages in these, as far as it is known. */
  lostMessages: number
  /** Writes, reads and deletions that failed. */
  errors: number
  /** How long ago it was last written and synced, or else opened, in milliseconds. */
  lastSyncMs: number
  /** Whether it takes messages: it is not full, and its disk works. */
  writable: boolean
}

/** Counters of a route's transform. */
export interface TransformMetrics {
  /** Calls: one per batch. */
  calls: number
  /** Rows that it was given. */
  rows: number
  /** Rows that it dropped. */
  dropped: number
  /** Messages that it rejected. */
  rejected: number
  /** Rows that it emitted. */
  emitted: number
  /** Calls that failed: all messages of their batches became dead letters. */
  failed: number
  /** Batches that wait for a call, at most 2. */
  waiting: number
  /** Time of a call, to the end of its promise. */
  durationMs: Quantiles
}

/** Milliseconds, at most 3 % above the true ones. */
export interface Quantiles {
  count: number
  p50: number
  p90: number
  p99: number
  max: number
}

/** A dead letter as a program gives it to `replayDeadLetters()`: its code may be one of another version. */
export type StoredDeadLetter = Omit<DeadLetter, 'code'> & { code: string }

/** A message that cannot become a row. */
export interface DeadLetter {
  receivedAt: Date
  /** The index in `routes`, or -1 if no route matches the topic. */
  route: number
  topic: string
  /** The bytes of a topic that is not UTF-8; `topic` then has `\ufffd` for invalid bytes. */
  topicBytes?: Buffer
  payload: Buffer
  code: DeadLetterCode
  /** Names the column and the value at fault. */
  message: string
}

/**
 * Feeds dead letters to the pipeline again, each as if it had just arrived: route, decode, batch, INSERT. It takes and checks the
 * configuration of a pipeline, and connects only to ClickHouse. Resolves when every dead letter is
 * inserted or has become one again. It removes nothing from the source.
 *
 * A dead letter keeps the time at which its message came first, to the millisecond, for `{ meta:
 * 'receivedAt' }`. Its QoS is 0 and it is not retained; it has no user properties, since dead letters
 * do not keep them; `{ meta: 'clientId' }` is `mqtt.clientId`, or empty. A dead letter of
 * `PACKET_TOO_LARGE` has no payload, and is a dead letter again.
 *
 * Dead letters that fail again are stored where `deadLetters` says; if they were read from there, they
 * stay and are not written again.
 *
 * The same source with the same configuration makes the same INSERTs under the same deduplication tokens. A repeated
 * replay therefore duplicates nothing within the window of the table. Within that window a replay
 * cannot insert the same dead letters twice on purpose either. See docs/delivery.md.
 *
 * @throws {MillraceError} `CONFIG_INVALID`, what `start()` throws about ClickHouse and its tables, and `SOURCE_UNREADABLE`;
 *   the `reason` of `options.signal`; and what the iterable throws. Rows inserted until then are
 *   recognised next time.
 */
export function replayDeadLetters(
  config: PipelineConfig,
  source: ReplaySource,
  options?: ReplayOptions,
): Promise<ReplayReport>

// Generated from src/config/schema.rs by `npm run generate`: ReplaySource

/**
 * Where dead letters are read. An iterable gives them as the `deadLetters` event does, and is pulled as fast as the
 * engine has memory.
 */
export type ReplaySource =
  | Iterable<StoredDeadLetter>
  | AsyncIterable<StoredDeadLetter>
  | Exclusive<
    /** All `*.jsonl` of a directory, by name, each to the length it has at the beginning. */
    | { dir: string }
    /** One file of JSON Lines. */
    | { file: string }
    /** A table of dead letters in the ClickHouse of the configuration. */
    | {
        /** `table` or `database.table`. */
        table: string
        /**
         * A condition in ClickHouse's SQL for the dead letters to read, such as `error_code = 'FIELD_MISSING'`.
         * @default all
         */
        where?: string | undefined
      }
  >

// End of the generated part

export interface ReplayOptions {
  /** Ends the replay: it rejects with the signal's `reason`. */
  signal?: AbortSignal | undefined
  /** Called with the counts so far every `metricsIntervalMs` of the configuration, or every second if that is 0. */
  onProgress?: ((report: ReplayReport) => void) | undefined
  /** Called with dead letters that failed again, once they are stored. */
  onDeadLetters?: ((letters: DeadLetter[]) => void) | undefined
  /** Called for the warnings of a pipeline, and for each malformed dead letter (`LETTER_MALFORMED`). */
  onWarning?: ((warning: Warning) => void) | undefined
}

/** Once a replay has ended, `read = inserted + deadLettered + dropped`. */
export interface ReplayReport {
  /** Dead letters read, without the malformed ones. */
  read: number
  /**
   * Dead letters whose rows ClickHouse has confirmed. It does not report whether it had them from an
   * earlier replay.
   */
  inserted: number
  /** Dead letters that failed again. */
  deadLettered: number
  /** Dead letters that `where` of their route excludes. */
  dropped: number
  /** Lines or objects that are not dead letters. They were skipped. */
  malformed: number
  /** Rows that ClickHouse confirmed. */
  rows: number
  /** The first 100 of the malformed ones. */
  malformedLetters: MalformedLetter[]
}

export interface MalformedLetter {
  /** The path of the file; null for a dead letter of an iterable. */
  file: string | null
  /** The line in the file, or the place in the iterable; from 1. */
  line: number
  /** The fault. */
  message: string
}

/**
 * Checks a configuration against its broker and ClickHouse without consuming messages: whether both accept the connection, where
 * each column gets its value, what is missing or not allowed, and how to fix it.
 *
 * ClickHouse gets an INSERT of no rows for each route, to learn whether it would take one. It connects to the
 * broker under another client id, with a clean session, outside the shared group: a running pipeline loses nothing.
 * With `sample`, it decodes that many live messages at QoS 0 and reports the result. See docs/cli.md.
 *
 * @throws {MillraceError} `CONFIG_INVALID`; all other problems are findings
 */
export function checkPipeline(config: PipelineConfig, options?: CheckOptions): Promise<CheckReport>

// Generated from src/config/schema.rs by `npm run generate`: CheckOptions

/** Options of a check beside the configuration. */
export interface CheckOptions {
  /** Messages to decode; 0 is none. From 0 to 1000000. @default 0 */
  sample?: number | undefined
  /** How long to wait for them. In milliseconds, 1 to 86400000. @default 30000 */
  sampleTimeoutMs?: number | undefined
  /**
   * How many payloads of each route the report has, as they came: `proposeTable` takes them. From 0 to 1000.
   * @default 0
   */
  payloads?: number | undefined
  /**
   * The name to visit the broker under, where it lets only certain names in; not the pipeline's own.
   * @default random
   */
  clientId?: string | undefined
}

// End of the generated part

export interface CheckReport {
  /** No finding is an error: a pipeline would start. */
  ok: boolean
  /** Errors first. */
  findings: Finding[]
  /** By URL. */
  brokers: BrokerReport[]
  /** By URL. */
  clickhouse: ServerReport[]
  /** In the order of the configuration; empty if no ClickHouse could be reached. */
  routes: RouteReport[]
  /** The result of `sample`; null without it. */
  sample: SampleReport | null
}

export interface Finding {
  /** 'error': a pipeline would not start, or could insert nothing. 'warning': it would start with a problem. */
  level: 'error' | 'warning' | 'note'
  /** Stable: the code of the pipeline's error or warning, or one of docs/cli.md. */
  code: string
  /** The option at fault, such as `routes[0].columns.lat`. */
  path: string | null
  message: string
  /** How to fix it. */
  advice: string | null
}

export interface BrokerReport {
  url: string
  /** Whether it accepted the connection. */
  reachable: boolean
  /** Its software, such as `mosquitto` or `NATS`; null where it is not recognised. */
  name: string | null
  /** From its `$SYS` topics; null if it publishes none. */
  version: string | null
  protocolVersion: 4 | 5
  /** The limits of its CONNACK; null with MQTT 3.1.1, which has none. */
  limits: {
    maxQos: number
    /** Messages that may be in flight to the broker. No broker reports how many it keeps in flight to a subscriber. */
    receiveMaximum: number
    /** Null: no limit. */
    maxPacketBytes: number | null
    /** Seconds for which it would keep the pipeline's session. */
    sessionExpirySeconds: number
    keepAliveSeconds: number
    topicAliasMaximum: number
    retained: boolean
    wildcardSubscriptions: boolean
    sharedSubscriptions: boolean
    subscriptionIds: boolean
  } | null
  tls: TlsReport | null
  /** The filters whose subscriptions it granted. */
  granted: string[]
}

export interface ServerReport {
  url: string
  /** Whether it answered a query. */
  reachable: boolean
  version: string | null
  /** The user of the connection, as ClickHouse reports it. */
  user: string | null
  tls: TlsReport | null
}

export interface TlsReport {
  /** Such as `TLSv1_3`. */
  version: string
  cipher: string
  /** The server's certificate. */
  certificate: { subject: string; issuer: string; names: string; validUntil: string }
}

export interface RouteReport {
  topic: string
  table: string
  /** Null if the table could not be read; the same below. */
  engine: string | null
  /** All columns, in the order of the table. */
  columns: ColumnReport[]
  /** The rules by which the route does more than insert rows, as text: `tables`, `schema`, `pivot`, `dedupe`, `deadband`. */
  rules: string[]
  /** Whether ClickHouse accepted an INSERT of no rows; null if none was attempted. */
  insert: boolean | null
  /** How long that took, in milliseconds. */
  insertMs: number | null
  /**
   * For the table and each table that its materialized views fill: whether a repeated INSERT is recognised, and how many
   * INSERTs are remembered; null if unknown.
   */
  deduplication: { table: string; engine: string; view: string | null; on: boolean; window: number | null }[]
}

export interface ColumnReport {
  name: string
  /** As ClickHouse writes it. */
  type: string
  defaultKind: '' | 'DEFAULT' | 'MATERIALIZED' | 'ALIAS' | 'EPHEMERAL'
  defaultExpression: string
  /** Where its value comes from, as text; null if ClickHouse computes it. */
  source: string | null
  /** A message without it is a dead letter. */
  required: boolean
  /** Its value if a message has none, as text; null if a message always has one. */
  missing: string | null
}

/** The result of a transform on the sampled rows of its route. Nothing of it is inserted. */
export interface SampledTransform {
  /** Rows that it was given, in one batch. */
  rows: number
  dropped: number
  /** Rows that it rejected. */
  rejected: number
  emitted: number
  /** Why it failed; null if it did not. */
  error: string | null
  /** The first different reasons of rejected rows, at most 10. */
  reasons: string[]
}

export interface SampleReport {
  /** Messages received. */
  messages: number
  /** Rows that they would have become. */
  rows: number
  /** Messages that would have been dead letters. */
  deadLetters: number
  /** Messages that `where` excludes. */
  dropped: number
  seconds: number
  /** In the order of the configuration. */
  routes: {
    messages: number
    rows: number
    dropped: number
    /** How many partitions the rows are of; absent where the table has none. */
    partitions?: number
    /** How many of the rows are past a TTL of the table; absent where it has none. */
    expired?: number
    /**
     * One example for each column of a time type that the payload fills: the text of the payload, and
     * the time of the row in UTC.
     */
    times: { column: string; text: string; time: string }[]
    transform?: SampledTransform
    /** The first ones with the option `payloads`, in base64: those that came for the route's topic. */
    payloads?: { topic: string; payload: string }[]
  }[]
  /** Dead letters by reason, the most frequent first, each with an example. */
  reasons: { count: number; code: string; route: number | null; message: string; topic: string; payload: string }[]
}

/**
 * Generates TypeScript for the tables of a configuration: an interface of the payload per route, with the fields that its columns
 * read, and an interface of a row per table, as `FORMAT JSONEachRow` writes it. Connects only to ClickHouse. Fields are
 * optional if a message may omit them; comments have ClickHouse's type, the units of times, and the comments of
 * the columns. See docs/types.md.
 *
 * @param options `tables`: in place of that, the columns of all tables of the databases that the configuration names, for
 *   `definePipeline<Tables>()`
 * @returns the text of a TypeScript file
 * @throws {MillraceError} what `start()` throws about the configuration, ClickHouse and its tables
 */
export function describeTables(config: PipelineConfig, options?: { tables?: boolean | undefined }): Promise<string>

/**
 * Proposes a table for sample payloads: a `CREATE TABLE` whose columns accept every sample through a route without `columns`. It
 * is a proposal: samples do not show later messages. docs/types.md has the type mapping.
 *
 * @param samples payloads as strings, bytes or objects. Prefer strings or bytes: they show how numbers are written (`12.0` is not
 *   an integer). A payload may be a list of documents, or have one document per line.
 *   With `format`, `compression` or `rows` they are read as a route with these options reads them; `{ topic, payload }` is then a
 *   sample with its topic, which Sparkplug needs.
 * @throws {MillraceError} `CONFIG_INVALID`: a sample cannot be read or is not an object, or there is no field in them
 */
export function proposeTable(samples: Iterable<string | Uint8Array | object>, options?: ProposalOptions): string

/** How the route reads payloads is how samples are read. */
export interface ProposalOptions extends Pick<Route, 'format' | 'compression' | 'rows' | 'nulls' | 'nan' | 'maxPayloadBytes'> {
  /** `table` or `database.table`. @default 'messages' */
  table?: string | undefined
  /** The topic of the route: each `{name}` becomes a column. @default none */
  topic?: string | undefined
}

/**
 * Serves a pipeline's metrics, probes and dashboard over HTTP. It is read-only and has no password.
 *
 * - `/` is the dashboard: rates, waiting messages, and problems as text
 * - `/metrics` is `pipeline.prometheus()`
 * - `/healthz` is 200 while the pipeline can work, and 503 once it has failed for good (its 'error' event)
 * - `/startupz` is 200 once a start has succeeded, and from then on; before that 503 with the reasons
 * - `/readyz` is 200 while it runs, all its connections to the broker are up, no INSERT is being retried (with a
 *   spool: but for a ClickHouse that cannot be reached), the spool works and has room, and no message has waited for
 *   30 seconds in which nothing was inserted; else 503 with the reasons
 * - `/status.json` is the data of the dashboard; it may change with any version
 *
 * The dashboard shows topics and reasons of dead letters, but no payloads. See docs/http.md.
 *
 * @throws {MillraceError} `CONFIG_INVALID` for a wrong option; and what Node.js throws when it cannot listen
 */
export function serveHttp(pipeline: Pipeline, options?: HttpServerOptions): Promise<HttpServer>

/** The same for your own server: answers a request for one of these paths, and returns whether it did. */
export function httpHandler(pipeline: Pipeline, options?: HttpOptions): HttpHandler

export interface HttpOptions {
  /**
   * Accepted host names of the `Host` header, without the port. Others get 421, so that no web page can reach a server on the
   * loopback under its own name.
   * @default loopback names for `serveHttp` on the loopback, else all
   */
  hosts?: readonly string[] | undefined
  /**
   * Labels that each metric of `/metrics` gets, such as `{ process: '1' }` for one of several processes.
   * @default none
   */
  labels?: Readonly<Record<string, string>> | undefined
}

export interface HttpServerOptions extends HttpOptions {
  /** The address to listen on. `0.0.0.0` and `::` are all addresses: everybody who reaches the machine has access. @default '127.0.0.1' */
  host?: string | undefined
  /** 0 is any free port. @default 0 */
  port?: number | undefined
}

export interface HttpServer {
  /** The address of the dashboard. */
  readonly url: string
  /** Ends the server and all its connections. Until then it keeps the process alive. */
  close(): Promise<void>
}

export interface HttpHandler {
  (request: IncomingMessage, response: ServerResponse): boolean
  /** Unsubscribes from the pipeline. Until then a handler is a listener, and keeps the process alive while the pipeline runs. */
  close(): void
}

/**
 * Registers the metrics of a pipeline with a registry of prom-client: those of `prometheus()`, under the same names, read when
 * the registry is read. Several pipelines can share a registry if their names differ.
 *
 * @returns a function that removes them
 * @throws {MillraceError} `CONFIG_INVALID`: another pipeline of this name is in the registry
 */
export function registerMetrics(pipeline: Pipeline, registry: PrometheusRegistry): () => void

/** The part of a `Registry` of prom-client that millrace uses. */
export interface PrometheusRegistry {
  registerMetric(metric: any): void
  removeSingleMetric(name: string): void
}

/**
 * The metrics of a pipeline for a reader of OpenTelemetry's SDK, with histograms as histograms:
 * `new PeriodicExportingMetricReader({ exporter, metricProducers: [metricProducer(pipeline)] })`. They are read when the reader
 * collects, all at one instant. docs/metrics.md has their names.
 */
export function metricProducer(pipeline: Pipeline): OpenTelemetryMetricProducer

/** A `MetricProducer` of `@opentelemetry/sdk-metrics`. */
export interface OpenTelemetryMetricProducer {
  collect(): Promise<{ resourceMetrics: { resource: any; scopeMetrics: any[] }; errors: unknown[] }>
}

/**
 * Creates instruments for the metrics of a pipeline on a meter of OpenTelemetry, for code that has no reader: with quantiles
 * instead of histograms, which a meter cannot read. They are read when the meter's reader collects. docs/metrics.md has their
 * names.
 *
 * @returns a function that removes them
 */
export function observeMetrics(pipeline: Pipeline, meter: OpenTelemetryMeter): () => void

/** The part of a `Meter` of `@opentelemetry/api` that millrace uses. */
export interface OpenTelemetryMeter {
  createObservableCounter(name: string, options?: { description?: string; unit?: string }): any
  createObservableGauge(name: string, options?: { description?: string; unit?: string }): any
  addBatchObservableCallback(callback: (result: any) => void, observables: any[]): void
  removeBatchObservableCallback(callback: (result: any) => void, observables: any[]): void
}

/**
 * Reports the contents of a spool's directory without changing it, also while a pipeline uses it. The last file may then end in
 * an incomplete write, which is reported as `torn`.
 *
 * @throws {MillraceError} `SPOOL_IO`: it cannot be read; `SPOOL_CORRUPT`: it is of another version of millrace
 */
export function inspectSpool(dir: string): Promise<SpoolInspection>

/** Messages that are not settled yet. */
export interface SpoolBacklog {
  records: number
  messages: number
  rows: number
  /** Compressed: rows and messages. */
  bytes: number
  /** When the oldest message was received. */
  oldest: Date | null
}

export interface SpoolInspection extends SpoolBacklog {
  /** Files of the log. */
  segments: number
  /** Bytes of all segments, including settled records. */
  bytes: number
  /** By table, as the routes named it. */
  tables: Record<string, SpoolBacklog>
  /** Synced bytes that cannot be read. The next start copies them to `file`. */
  damaged: { segment: string; at: number; bytes: number; record: number | null; file: string }[]
  /** Files of damaged bytes that were moved so far. */
  setAside: string[]
  /** Incomplete writes at the end of a segment; they had not been acknowledged. */
  torn: { segment: string; at: number; bytes: number }[]
  /**
   * Synced bytes that are gone: the segment was removed (then only the beginning of its name is known), emptied or cut off; 0
   * bytes: it has other content than was synced. `segment: 'state'`: the state file is gone.
   */
  missing: { segment: string; at: number; bytes: number }[]
  /** Acknowledged messages that are missing because of `damaged` and `missing`. `null`: not known. */
  missingMessages: number | null
  /** Files that are not the spool's. */
  foreign: string[]
}

/** Codes of a `MillraceError`. */
// Generated from src/core/codes.rs by `npm run generate`: ErrorCode
export type ErrorCode =
  | 'ABORTED'
  | 'BINDING_NOT_FOUND'
  | 'BINDING_REFUSED'
  | 'CLICKHOUSE_REJECTED'
  | 'CLICKHOUSE_UNREACHABLE'
  | 'COLUMN_NOT_FOUND'
  | 'COLUMN_UNSUPPORTED'
  | 'CONFIG_INVALID'
  | 'CREDENTIALS_FAILED'
  | 'INTERNAL'
  | 'INVALID_STATE'
  | 'LOOKUP_TOO_LARGE'
  | 'MQTT_REFUSED'
  | 'MQTT_UNREACHABLE'
  | 'ROUTE_EXISTS'
  | 'ROUTE_NOT_FOUND'
  | 'ROWS_UNCONFIRMED'
  | 'SCHEMA_INVALID'
  | 'SHARDS_CHANGED'
  | 'SHARDS_DIFFER'
  | 'SOURCE_UNREADABLE'
  | 'SPOOL_CORRUPT'
  | 'SPOOL_IO'
  | 'SPOOL_LOCKED'
  | 'STOP_TIMEOUT'
  | 'SUBSCRIPTION_REFUSED'
  | 'TABLE_DISCARDS'
  | 'TABLE_NOT_DECLARED'
  | 'TABLE_NOT_FOUND'
  | 'TRANSFORM_INVALID'
// End of the generated part

/** Codes of dead letters. */
// Generated from src/core/codes.rs by `npm run generate`: DeadLetterCode
export type DeadLetterCode =
  | 'JSON_INVALID'
  | 'NOT_AN_OBJECT'
  | 'FIELD_MISSING'
  | 'TYPE_MISMATCH'
  | 'OUT_OF_RANGE'
  | 'UNKNOWN_FIELD'
  | 'NO_ROUTE'
  | 'REJECTED_BY_CLICKHOUSE'
  | 'PACKET_TOO_LARGE'
  | 'PAYLOAD_INVALID'
  | 'PAYLOAD_TOO_LARGE'
  | 'ALIAS_UNKNOWN'
  | 'TOPIC_INVALID'
  | 'REJECTED_BY_TRANSFORM'
  | 'TRANSFORM_FAILED'
  | 'RETRY_EXPIRED'
  | 'TABLE_NOT_ALLOWED'
  | 'TABLES_TOO_MANY'
  | 'TABLE_UNUSABLE'
// End of the generated part

/** Codes of warnings; docs/metrics.md says what each means. */
// Generated from src/core/codes.rs by `npm run generate`: WarningCode
export type WarningCode =
  | 'BATCH_SPLIT'
  | 'CLICKHOUSE_RECOVERED'
  | 'CLICKHOUSE_REFUSED'
  | 'CLICKHOUSE_RETRYING'
  | 'CLICKHOUSE_SILENT'
  | 'COLUMN_ADDED'
  | 'CREDENTIALS_FAILED'
  | 'DEAD_LETTERS_REFUSED'
  | 'DEAD_LETTERS_RETRYING'
  | 'DEAD_LETTERS_UNSTORED'
  | 'DEDUPLICATION_OFF'
  | 'EVENTS_DROPPED'
  | 'FILTERS_OVERLAP'
  | 'INSERT_UNCONFIRMED'
  | 'INSERT_UNVERIFIED'
  | 'LETTER_MALFORMED'
  | 'LOOKUP_FIELD_UNKNOWN'
  | 'LOOKUP_UNSET'
  | 'MQTT_FALLBACK'
  | 'MQTT_RECONNECTING'
  | 'MQTT_REFUSED'
  | 'PATH_NEVER_FOUND'
  | 'PATH_THROUGH_SCALAR'
  | 'QOS_LOWERED'
  | 'REPLAY_INTERRUPTED'
  | 'RETAINED_SKIPPED'
  | 'RETRY_EXPIRED'
  | 'ROWS_RESTORED'
  | 'SCHEMA_EXTENDED'
  | 'SCHEMA_FULL'
  | 'SCHEMA_REFUSED'
  | 'SCHEMA_REMEMBERED'
  | 'SESSION_SHORTENED'
  | 'SESSION_TAKEN_OVER'
  | 'SHARD_UNREACHABLE'
  | 'SHARED_GROUP_SILENT'
  | 'SPARKPLUG_REBIRTH'
  | 'SPOOL_CORRUPT'
  | 'SPOOL_FOREIGN_FILES'
  | 'SPOOL_FULL'
  | 'SPOOL_IO'
  | 'SPOOL_RECOVERED'
  | 'SPOOL_TORN'
  | 'START_WAITING'
  | 'STOP_TIMEOUT'
  | 'SUBSCRIBE_SPLIT'
  | 'SUBSCRIPTION_LEFT_OVER'
  | 'TABLE_CHANGED'
  | 'TABLE_DISCARDS'
  | 'TIME_PRECISION_CUT'
  | 'TLS_INSECURE'
  | 'TOPIC_NAME_UNUSED'
  | 'TOPIC_REWRITTEN'
  | 'TRANSFORM_FAILED'
  | 'TRANSFORM_SLOW'
  | 'TRANSFORM_WORKER_ENDED'
  | 'VIEW_RIGHTS_UNKNOWN'
  | 'WINDOW_NARROW'
// End of the generated part

export class MillraceError extends Error {
  /** Stable. `INTERNAL` is a fault in millrace itself; an error about rows of a program has the code of a dead letter. */
  readonly code: ErrorCode | DeadLetterCode
  /** The option that caused it, such as `routes[0].columns.lat`. */
  readonly path?: string
  /** The place of the row at fault, from 0, where rows of a program are. */
  readonly row?: number
  /** The column at fault, or the key of a row that no column takes. */
  readonly column?: string
  /**
   * For `CLICKHOUSE_REJECTED`, an `Error` with ClickHouse's own text and its number as `code` (such as
   * 516); for `SPOOL_IO`, the error of the file system.
   */
  cause?: unknown
}
