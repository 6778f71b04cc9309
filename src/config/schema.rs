//! The table of options: name, kind, range, default and meaning of each, once.
//!
//! The files beside this one read the options by it, and `npm run generate` writes millrace.schema.json, the types of
//! the configuration in index.d.ts and the tables of docs/configuration.md from it. `option` says what a row can hold.
//!
//! Sentences say what an option means, without its range, unit and default, which the generated documents add.

use crate::config::batch::MAX_BLOCK_ROWS;
use crate::config::option::DefaultValue::{Absent, Described, Flag, Integer, Number, Required, Text};
use crate::config::option::Unit::{Bytes, Milliseconds, Seconds};
use crate::config::option::{
    Empty, Kind, NUMBER, Object, READ_TEXT, REQUIRED, Row, TEXT, choice, filled_text, integer, level, object,
    pattern, row,
};

/// The longest that any span of time in milliseconds may be: a typo is likelier than a longer wish.
const DAY_MS: u64 = 24 * 3600 * 1000;

const NO_RULES: &str = "{}";

/// The objects that files are generated from, each with the types that it uses.
pub static ROOTS: [&Kind; 3] = [&Kind::Object { object: &PIPELINE }, &REPLAY_SOURCE, &object(&CHECK)];

pub static PIPELINE: Object = Object {
    name: Some("PipelineConfig"),
    about: "The configuration of a pipeline. The constructor checks all of it, and `start()` checks what depends on \
            the tables and on the routes together; an unknown or wrong option is `CONFIG_INVALID`.",
    includes: &[],
    rows: &[
        row(
            "name",
            pattern("^[A-Za-z0-9._-]+$"),
            Text("millrace"),
            "The pipeline's name in metrics, deduplication tokens and the names of dead letter files: `A` to `Z`, \
             `a` to `z`, `0` to `9`, `.`, `_`, `-`.",
        ),
        row("mqtt", object(&MQTT), REQUIRED, "Where messages come from."),
        row("clickhouse", object(&CLICKHOUSE), REQUIRED, "Where rows go."),
        row(
            "routes",
            Kind::List { item: &object(&ROUTE) },
            Required(": a list of { topic, table }"),
            "At least one; the first whose topic matches takes the message.",
        ),
        row(
            "tables",
            Kind::List { item: &READ_TEXT },
            Absent,
            "Tables that `pipeline.insert()` may put rows into: `table` or `database.table`. `start()` checks them as those of \
             the routes.",
        )
        .note("See [Rows of your own](delivery.md#rows-of-your-own)."),
        row(
            "lookups",
            Kind::Record { value: &Kind::Union { of: &CONFIGURED_LOOKUPS }, refused: &[] },
            Absent,
            "Maps that columns with the source `{ lookup }` are filled from, by name. `pipeline.lookup()` replaces them while \
             the pipeline runs.",
        )
        .note("See [Lookups](#lookups)."),
        row("batch", object(&BATCH), Absent, "When rows are inserted."),
        row(
            "spool",
            object(&SPOOL),
            Described("off"),
            "A durable log on disk between the broker and ClickHouse: messages are acknowledged as soon as they \
             lie there.",
        ),
        row(
            "deadLetters",
            object(&DEAD_LETTERS),
            Described("only the `deadLetters` event, the counter and one warning"),
            "Where messages go that cannot become rows.",
        ),
        row("memory", object(&MEMORY), Absent, "Limits of what all buffers together hold."),
        row(
            "metricsIntervalMs",
            integer(0, DAY_MS),
            Integer(1000),
            "The time between two `metrics` events; 0 turns the event off.",
        )
        .unit(Milliseconds),
        row(
            "startTimeoutMs",
            integer(1, DAY_MS),
            Integer(60000),
            "How long `start()` waits for a ClickHouse that accepts connections and does not answer yet.",
        )
        .unit(Milliseconds)
        .note(
            "An idle service of ClickHouse Cloud answers after 20 to 60 s. Each `connectTimeoutMs` without an answer is the \
             warning `CLICKHOUSE_SILENT`. A connection that is refused fails `start()` at once.",
        ),
        row(
            "logger",
            Kind::Code { typescript: "Logger", phrase: "a logger" },
            Described("none"),
            "Receives what the events `state`, `warning` and `error` report. Nothing is ever printed otherwise.",
        )
        .note("A logger has the shape of pino's: see [metrics](metrics.md#logs)."),
        row(
            "tracing",
            object(&TRACING),
            Described("off"),
            "Spans of OpenTelemetry for some of the batches. Needs `@opentelemetry/api`.",
        )
        .note("See [metrics](metrics.md#traces)."),
    ],
    // With `ackAfter: 'spool'` there must be a spool.
    rules: r#"{
        "if": {
            "type": "object",
            "properties": {
                "mqtt": {
                    "type": "object",
                    "properties": { "ackAfter": { "const": "spool" } },
                    "required": ["ackAfter"]
                }
            },
            "required": ["mqtt"]
        },
        "then": { "required": ["spool"] }
    }"#,
};

/// Where a map is that a configuration brings along.
pub static CONFIGURED_LOOKUPS: [Kind; 2] = [
    object(&Object {
        name: None,
        about: "A file of JSON.",
        includes: &[],
        rows: &[row(
            "file",
            Kind::File,
            REQUIRED,
            "A file of JSON: an object that has under each key a scalar, or an object of scalars. It is read once.",
        )],
        rules: NO_RULES,
    }),
    object(&Object {
        name: None,
        about: "The entries themselves.",
        includes: &[],
        rows: &[row(
            "entries",
            Kind::Record { value: &Kind::Any, refused: &[] },
            REQUIRED,
            "The entries themselves: under each key a scalar, or an object of scalars.",
        )],
        rules: NO_RULES,
    }),
];

/// Where a message has the key of a lookup.
pub static LOOKUP_KEYS: [Kind; 5] = [
    READ_TEXT,
    object(&Object {
        name: None,
        about: "A field of the payload.",
        includes: &[],
        rows: &[row(
            "path",
            READ_TEXT,
            REQUIRED,
            "A path into the payload, where the topic has a `{name}` of that text too.",
        )],
        rules: NO_RULES,
    }),
    object(&Object {
        name: None,
        about: "A `{name}` of the topic.",
        includes: &[],
        rows: &[row("topic", TEXT, REQUIRED, "A `{name}` of the topic.")],
        rules: NO_RULES,
    }),
    object(&Object {
        name: None,
        about: "A property of the message itself.",
        includes: &[],
        rows: &[row("meta", choice(&["topic", "clientId"]), REQUIRED, "A property of the message itself.")],
        rules: NO_RULES,
    }),
    object(&Object {
        name: None,
        about: "A user property of MQTT 5.",
        includes: &[],
        rows: &[row("userProperty", TEXT, REQUIRED, "The first user property of that name.")],
        rules: NO_RULES,
    }),
];

pub static MEMORY: Object = Object {
    name: None,
    about: "Limits of what all buffers together hold.",
    includes: &[],
    rows: &[row(
        "maxBytes",
        integer(1 << 20, 1 << 50),
        Integer(256 << 20),
        "The size of all buffers together; reaching it applies back-pressure to the broker. One read (256 KiB) may \
         overshoot it.",
    )
    .unit(Bytes)
    .note(
        "At the limit nothing more is read from the broker. One message, one batch and one INSERT of the spool take \
         an eighth of it at most: see [below](#memory).",
    )],
    rules: NO_RULES,
};

static TRACING: Object = Object {
    name: Some("TracingConfig"),
    about: "The tracer, and the share of batches that it traces.",
    includes: &[],
    rows: &[
        row(
            "tracer",
            Kind::Code { typescript: "OpenTelemetryTracer", phrase: "a Tracer of OpenTelemetry" },
            REQUIRED,
            "A `Tracer` of `@opentelemetry/api`.",
        ),
        row(
            "sampleRatio",
            Kind::Number { min: 0.0, max: 1.0 },
            Number(0.1),
            "The share of the batches that is traced; the tracer's own sampler comes after it.",
        ),
    ],
    rules: NO_RULES,
};

const BROKER_URL: Kind = pattern("^(mqtts?|wss?)://[^@]+$");

static MQTT: Object = Object {
    name: Some("MqttConfig"),
    about: "Where messages come from.",
    includes: &[],
    rows: &[
        row(
            "url",
            Kind::OneOrMore { item: &BROKER_URL },
            REQUIRED,
            "`mqtt://host:1883`, `mqtts://host:8883` (TLS), `ws://host:80/path` or `wss://host:443/path` \
             (WebSocket); several are tried in order.",
        )
        .note(
            "A port may be left out: these are the defaults. Many brokers want the path `/mqtt` for a WebSocket. \
             User and password do not belong into it. The query string is left out of messages.",
        ),
        row(
            "clientId",
            Kind::Text {
                empty: Empty::Refused(": leave it out for a random one"),
                max_bytes: Some(65530),
                pattern: None,
            },
            Described("random, and the session ends with the connection"),
            "The name of the session, which no other client uses. With several `connections` each adds its number: \
             `<clientId>-1` and so on.",
        )
        .note(
            "Without one the session ends with the connection, see [delivery](delivery.md). Two clients with one \
             name disconnect each other. The name with its number is also what `{ meta: 'clientId' }` gives. It \
             has at most 65530 bytes.",
        ),
        row(
            "username",
            Kind::Union {
                of: &[
                    Kind::Text {
                        empty: Empty::Refused(": leave it out for none"),
                        max_bytes: Some(65535),
                        pattern: None,
                    },
                    object(&CREDENTIAL_FILE),
                    CREDENTIAL_FUNCTION,
                ],
            },
            Absent,
            "The user to connect as: a text, a file, or a function that gives it.",
        ),
        row(
            "password",
            Kind::Union {
                of: &[
                    Kind::Text { empty: Empty::Allowed, max_bytes: Some(65535), pattern: None },
                    object(&CREDENTIAL_FILE),
                    CREDENTIAL_FUNCTION,
                ],
            },
            Absent,
            "The user's password: a text, a file, or a function that gives it; needs a `username`.",
        )
        .note(
            "A file is read, and a function called, before each attempt to connect: see \
             [credentials](#credentials-that-change).",
        ),
        row(
            "protocolVersion",
            Kind::Union { of: &[level(4, 5), choice(&["auto"])] },
            Text("auto"),
            "4 is MQTT 3.1.1, 5 is MQTT 5; `'auto'` is MQTT 5, and 3.1.1 where the broker has no 5.",
        )
        .note(
            "With `'auto'` a broker that refuses MQTT 5, or does not answer to it, is asked again with 3.1.1 at once. The \
             warning `MQTT_FALLBACK` reports it once.",
        ),
        row(
            "qos",
            level(0, 2),
            Integer(1),
            "The quality of service asked for. At 2 a message is a row once, as long as this process and the session \
             live.",
        )
        .note("[Delivery](delivery.md) says what each gives."),
        row(
            "sharedGroup",
            pattern("^[^/+#]+$"),
            Absent,
            "Subscribe as `$share/<group>/<filter>`: the broker spreads the messages over the members of the group.",
        )
        .note("The name is without `/`, `+`, `#`."),
        row(
            "connections",
            integer(1, 1024),
            Integer(1),
            "Parallel connections, each on a thread of its own with its own session; more than 1 needs \
             `sharedGroup`.",
        )
        .note(
            "They are for streams that one core cannot decode, or a broker that limits each client. With a \
             `clientId` and fewer connections than before, the sessions that are left over go on collecting \
             messages at the broker until they expire.",
        ),
        row(
            "sessionExpirySeconds",
            integer(0, u32::MAX as u64),
            Described("86400 with a `clientId`, else 0"),
            "How long the broker keeps the session without a connection; needs a `clientId`.",
        )
        .unit(Seconds)
        .note("MQTT 3.1.1 knows no time: 0 asks for a clean session, anything else for one that is kept."),
        row(
            "keepAliveSeconds",
            integer(1, 65535),
            Integer(30),
            "The keep-alive interval. A broker that is silent for one and a half of it is given up.",
        )
        .unit(Seconds)
        .note(
            "A ping goes out when nothing was sent or nothing came for half of it. A broker of MQTT 5 may set its \
             own.",
        ),
        row(
            "receiveMaximum",
            integer(1, 65535),
            Integer(65535),
            "Unacknowledged messages the broker may have in flight to us. The broker's own limit is often lower \
             (mosquitto 20 with MQTT 3.1.1, EMQX 32).",
        )
        .note(
            "At QoS 2 a message counts until PUBCOMP. Only MQTT 5 sends the limit to the broker, see \
             [MQTT](mqtt.md).",
        ),
        row(
            "topicAliasMaximum",
            integer(0, 65535),
            Integer(0),
            "Topics that a broker of MQTT 5 may replace by numbers on a connection; each takes up to 64 KiB of \
             memory. 0 allows none, because rumqttd 0.20 gives all topics of a filter one number.",
        )
        .note(
            "It saves bytes where topics are long. With rumqttd 0.20 messages would arrive under the topic of \
             another.",
        ),
        // The fixed header can announce at most 256 MiB: MQTT 5, 2.1.4.
        row(
            "maxPacketBytes",
            integer(1024, 268_435_455),
            Integer(1 << 20),
            "The largest message. A larger one is passed over and becomes a dead letter, `PACKET_TOO_LARGE`; with \
             MQTT 5 the broker learns the limit and does not send it.",
        )
        .unit(Bytes)
        .note(
            "The dead letter is without its payload. A message that a broker of MQTT 5 does not send is never \
             seen here. At most \
             an eighth of `memory.maxBytes`.",
        ),
        row(
            "coalesceMs",
            Kind::Union { of: &[integer(0, 1000), choice(&["auto"])] },
            Text("auto"),
            "The longest rest between two reads of a steady stream, so that one read brings many messages; `'auto'` is \
             a twentieth of `batch.maxDelayMs`; 0 is off.",
        )
        .unit(Milliseconds)
        .note(
            "It pauses after a read that emptied the socket, where the rest will bring more than two messages: most of \
             what a message costs is waking up for it. The rest counts towards `batch.maxDelayMs`. It is shorter where the socket's \
             buffer would fill, where the broker's window would, and where `flush()`, a command, a ping or a \
             stop is due; it is never longer than `spool.commitMs`, and `'auto'` never longer than 250 ms, or 30 ms \
             with `ackAfter: 'receive'`. A slow stream does not notice it.",
        ),
        row(
            "ackAfter",
            choice(&["receive", "spool", "insert"]),
            Described("`'spool'` with a spool, else `'insert'`"),
            "When a message of QoS 1 or 2 is acknowledged: at once, when it is synced in the spool, or when its \
             rows are confirmed by ClickHouse.",
        )
        .note("`'spool'` needs a [spool](#spool)."),
        row(
            "retained",
            choice(&["accept", "skip"]),
            Text("accept"),
            "Whether retained messages, which a broker sends on subscribing, become rows.",
        )
        .note(
            "With `'skip'` a broker of MQTT 5 does not send them; with 3.1.1 they come, and count as \
             `skipped`.",
        ),
        row(
            "topicRewrite",
            choice(&["none", "rabbitmq"]),
            Text("none"),
            "How the broker changes topics. `'rabbitmq'`: a dot comes back as a slash, so the topics of the routes are \
             read with slashes for dots.",
        )
        .note("[Brokers](brokers.md#topics-that-come-back-changed) says what RabbitMQ does."),
        row(
            "reconnect",
            object(&RECONNECT),
            Absent,
            "Waits between attempts to connect: exponential, with jitter.",
        )
        .note("Each wait is shortened by up to a half at random."),
        row(
            "unsubscribe",
            Kind::List { item: &READ_TEXT },
            Absent,
            "Filters to unsubscribe from, such as `['old/#']`: a persistent session keeps those of earlier configurations.",
        )
        .note(
            "They are unsubscribed from whenever the broker has kept the session from before this process, and those of the routes \
             are not among them. Messages that the broker has already queued for them still come, and are dead letters, `NO_ROUTE`.",
        ),
        row(
            "filtersPerSubscribe",
            integer(1, 65535),
            Described("all of them"),
            "How many filters a SUBSCRIBE or an UNSUBSCRIBE holds at most, such as 8 for AWS IoT Core.",
        )
        .note(
            "A broker that refuses a SUBSCRIBE of several filters, or closes the connection on it, is asked again with 8, and \
             then with one in each; the warning `SUBSCRIBE_SPLIT` reports it once. A packet is also kept below the broker's \
             Maximum Packet Size. With subscription identifiers each filter has a SUBSCRIBE of its own.",
        ),
        row("tls", object(&BROKER_TLS), Absent, "TLS of `mqtts://` and `wss://`."),
    ],
    // A password needs a username, and more than one connection needs a group.
    rules: r#"{
        "dependencies": { "password": ["username"] },
        "if": {
            "type": "object",
            "properties": { "connections": { "type": "integer", "minimum": 2 } },
            "required": ["connections"]
        },
        "then": { "required": ["sharedGroup"] }
    }"#,
};

/// A user name or a password that may change.
static CREDENTIAL_FILE: Object = Object {
    name: Some("CredentialFile"),
    about: "A file whose text is a user name or a password, such as a mounted secret. It is read again whenever it is needed; \
            line breaks at its end do not count.",
    includes: &[],
    rows: &[row("file", filled_text(": the path of a file"), REQUIRED, "The path of the file, in UTF-8.")],
    rules: NO_RULES,
};

const CREDENTIAL_FUNCTION: Kind = Kind::Code { typescript: "CredentialFunction", phrase: "a function" };

static RECONNECT: Object = Object {
    name: None,
    about: "Waits between attempts to connect: exponential, with jitter.",
    includes: &[&WAITS],
    rows: &[],
    rules: NO_RULES,
};

static RETRY: Object = Object {
    name: None,
    about: "Waits between attempts: exponential, with jitter. A batch that can succeed later is retried for \
            ever, or for `maxAgeMs`.",
    includes: &[&WAITS],
    rows: &[row(
        "maxAgeMs",
        integer(1, 3650 * DAY_MS),
        Absent,
        "The age of a batch from which a failed attempt is its last: its messages become dead letters.",
    )
    .unit(Milliseconds)
    .note(
        "Without it a batch is tried for ever. The age counts from the receipt of the batch's first message, with a spool \
         over restarts too; what waited longer is tried once at least. The dead letters have the code `RETRY_EXPIRED` and \
         ClickHouse's last words. Dead letters themselves are tried for ever.",
    )],
    rules: NO_RULES,
};

/// The options of `reconnect` and `retry`.
pub static WAITS: Object = Object {
    name: None,
    about: "",
    includes: &[],
    rows: &[
        row(
            "minMs",
            integer(1, DAY_MS),
            Integer(100),
            "The wait before the second attempt; it doubles from there.",
        )
        .unit(Milliseconds),
        row("maxMs", integer(1, DAY_MS), Integer(30000), "The longest wait; not less than `minMs`.")
            .unit(Milliseconds),
    ],
    rules: NO_RULES,
};

const SERVER_URL: Kind = pattern("^https?://[^@?#]+$");

static SHARDS: Object = Object {
    name: Some("ShardsConfig"),
    about: "Which row goes to which URL.",
    includes: &[],
    rows: &[
        row("key", Kind::List { item: &filled_text("") }, REQUIRED, "The columns whose values choose the shard of a row.")
            .note(
                "Those of the sharding key `cityHash64(a, b)` in the same order. Each table needs them, not `Nullable` and \
                 without a DEFAULT.",
            )
            .example("['driver_id']"),
        row(
            "tables",
            Kind::Record { value: &Kind::List { item: &filled_text("") }, refused: &[] },
            Absent,
            "By table, the key of one that has another.",
        )
        .example("{ alerts: ['team', 'driver_id'] }"),
    ],
    rules: NO_RULES,
};

static CLICKHOUSE: Object = Object {
    name: Some("ClickHouseConfig"),
    about: "Where rows go.",
    includes: &[],
    rows: &[
        row(
            "url",
            Kind::OneOrMore { item: &SERVER_URL },
            REQUIRED,
            "`http://host:8123` or `https://host:8443`; several share the load, one that cannot be reached is \
             passed over.",
        )
        .note(
            "Several take turns. One that cannot be reached is passed over for 10 s. User and password do not belong \
             into it. Without a port `https://` is 443.",
        ),
        row(
            "shards",
            object(&SHARDS),
            Absent,
            "Makes each URL a shard: a row goes to the one that `cityHash64` of its key says, as into a `Distributed` \
             table.",
        )
        .note("See [Shards](#shards)."),
        row("database", TEXT, Text("default"), "The database of tables that are named without one."),
        row("username", TEXT, Text("default"), "The user to connect as."),
        row(
            "password",
            Kind::Union { of: &[TEXT, object(&CREDENTIAL_FILE), CREDENTIAL_FUNCTION] },
            Absent,
            "The user's password: a text, a file, or a function that gives it.",
        )
        .note(
            "A file is read for each request. A function is called once, and again when ClickHouse refuses the password: see \
             [credentials](#credentials-that-change).",
        ),
        row(
            "compression",
            choice(&["lz4", "zstd", "none"]),
            Text("lz4"),
            "How rows are compressed on their way.",
        )
        .note(
            "With LZ4 a column that loses less than an eighth of its bytes is sent as it is, and tried again 32 \
             INSERTs later.",
        ),
        row(
            "settings",
            Kind::Record {
                value: &Kind::Union { of: &[TEXT, NUMBER, Kind::Flag] },
                refused: &MANAGED_SETTINGS,
            },
            Absent,
            "ClickHouse settings for every INSERT. Settings that the guarantees depend on (such as \
             `async_insert`) cannot be set.",
        )
        .note(
            "`start()` checks names and values with an INSERT of no rows, and fails with `CLICKHOUSE_REJECTED`.",
        ),
        row(
            "maxInFlight",
            integer(1, 64),
            Integer(2),
            "INSERTs under way at once, each on a thread of its own.",
        ),
        row(
            "connectTimeoutMs",
            integer(1, DAY_MS),
            Integer(5000),
            "How long opening a connection may take.",
        )
        .unit(Milliseconds)
        .note(
            "The handshake of TLS counts as part of the request. At `start()` it also limits, per URL, the first \
             answer.",
        ),
        row(
            "requestTimeoutMs",
            integer(1, DAY_MS),
            Integer(30000),
            "How long sending a request may take, and again waiting for its answer.",
        )
        .unit(Milliseconds),
        row(
            "retry",
            object(&RETRY),
            Absent,
            "Waits between attempts: exponential, with jitter. A batch that can succeed later is retried for \
             ever, or for `maxAgeMs`.",
        )
        .note(
            "Each wait is shortened by up to a half at random. A mistake of an operator (a table, column or user \
             that is not there, a wrong password, a right or quota that is missing, an unknown setting) waits at least 1 s each time, or `maxMs` if \
             that is less. The waits hold for dead letter files too.",
        ),
        row("tls", object(&TLS), Absent, "TLS of `https://`."),
    ],
    rules: NO_RULES,
};

/// Settings that the promises depend on, or that name the request itself.
pub const MANAGED_SETTINGS: [&str; 33] = [
    "async_insert",
    "async_insert_deduplicate",
    "database",
    "decompress",
    "deduplicate_blocks_in_dependent_materialized_views",
    "deduplicate_insert",
    "deduplicate_insert_select",
    "distributed_foreground_insert",
    "ignore_materialized_views_with_dropped_target_table",
    "input_format_native_allow_types_conversion",
    "input_format_native_decode_types_in_binary_format",
    "input_format_null_as_default",
    "input_format_skip_unknown_fields",
    "insert_deduplicate",
    "insert_deduplication_token",
    "insert_distributed_one_random_shard",
    "insert_distributed_sync",
    "insert_null_as_default",
    "limit",
    "materialized_views_ignore_errors",
    "materialized_views_squash_parallel_inserts",
    "max_insert_block_size",
    "max_insert_block_size_bytes",
    "max_insert_block_size_rows",
    "min_insert_block_size_bytes",
    "min_insert_block_size_bytes_for_materialized_views",
    "min_insert_block_size_rows",
    "min_insert_block_size_rows_for_materialized_views",
    "offset",
    "query",
    "query_id",
    "timeout_overflow_mode",
    "use_strict_insert_block_limits",
];

static TLS: Object = Object {
    name: Some("TlsConfig"),
    about: "Each in PEM: a Buffer, a text (one with `-----BEGIN ` in it), or the path of a file, which `start()` \
            reads, and which is read again when a connection is made after it changed.",
    includes: &[],
    rows: &[
        row("ca", Kind::Pem, Described("the system's"), "The authorities to trust, instead of the system's.")
            .note("A server's own certificate can stand here if it is none of an authority (`CA:FALSE`)."),
        row(
            "cert",
            Kind::Pem,
            Absent,
            "The client certificate, followed by those between it and its authority. Needs `key`.",
        ),
        row("key", Kind::Pem, Absent, "The private key of `cert`, not encrypted."),
    ],
    rules: r#"{ "dependencies": { "cert": ["key"], "key": ["cert"] } }"#,
};

static BROKER_TLS: Object = Object {
    name: None,
    about: "TLS of `mqtts://` and `wss://`.",
    includes: &[&TLS],
    rows: &[
        row(
            "serverName",
            READ_TEXT,
            Described("the host of the URL"),
            "The name that the broker's certificate must be valid for.",
        )
        .note("Only `mqtt.tls` has it."),
        row(
            "insecure",
            Kind::Flag,
            Flag(false),
            "Takes any certificate: an attacker in between can read and change everything. Warns, `TLS_INSECURE`.",
        )
        .note("Only `mqtt.tls` has it."),
        row(
            "alpn",
            Kind::List { item: &filled_text("") },
            Absent,
            "The protocols to offer within TLS (ALPN), such as `['x-amzn-mqtt-ca']` for AWS IoT Core on port 443.",
        )
        .note("Only `mqtt.tls` has it. Each has 1 to 255 bytes."),
    ],
    rules: NO_RULES,
};

pub static ROUTE: Object = Object {
    name: Some("Route"),
    about: "A topic and the table that it fills.",
    includes: &[],
    rows: &[
        row(
            "topic",
            READ_TEXT,
            REQUIRED,
            "An MQTT filter; `{name}` is a `+` that is kept, `{name#}` a `#` that is kept.",
        )
        .example("drivers/{driver_id}/position")
        .note(
            "A name takes a full level and occurs once. `{name#}` may have levels behind it. A shared subscription \
             (`$share/…`) is `mqtt.sharedGroup`. See [Topics](#topics).",
        ),
        row(
            "qos",
            level(0, 2),
            Absent,
            "The quality of service asked for, for the topics of this route. Without it, that of `mqtt.qos`.",
        )
        .note(
            "Where the topics of routes overlap, the highest QoS among them counts. See [Topics](#topics).",
        ),
        row("table", filled_text(""), REQUIRED, "`table` or `database.table`.")
            .note(
                "Everything behind the first dot is the table's name. With a `{name}` of the topic messages choose their table: see \
                 [Tables by topic](#tables-by-topic).",
            ),
        row(
            "tables",
            object(&TABLES),
            Absent,
            "The tables that messages may choose, with a `table` such as `'telemetry_{plant}'`.",
        ),
        row(
            "allowNullTable",
            Kind::Flag,
            Flag(false),
            "Lets `start()` accept a table of the engine `Null` that no materialized view reads, which discards every row.",
        )
        .note("See [Tables of the engine Null](delivery.md#tables-of-the-engine-null)."),
        row(
            "columns",
            Kind::Record { value: &COLUMN_SOURCE, refused: &[] },
            Absent,
            "By column, only what differs from \"the JSON field of the same name\" or \"the `{name}` of the topic\".",
        ),
        row(
            "where",
            CONDITION,
            Described("all messages"),
            "A condition on fields of the payload and levels of the topic, looked at before any column is read. \
             A message that it excludes is acknowledged and counts as `dropped`.",
        )
        .note("See [Conditions](#conditions)."),
        row(
            "continue",
            Kind::Flag,
            Flag(false),
            "Later routes take the messages of this route too. Each makes rows, a dead letter or nothing of a message, as if it \
             were alone; the message is acknowledged when all of that is settled.",
        )
        .note("See [Several routes for a message](#several-routes-for-a-message)."),
        row(
            "format",
            Kind::Union { of: &FORMATS },
            Text("json"),
            "The format of payloads: JSON; one bare value, `'text'`, which is `$`; lines of values, `'csv'`; \
             MessagePack; \
             CBOR; Protocol Buffers; or Sparkplug B.",
        )
        .note("See [Formats](#formats)."),
        row("sparkplug", object(&SPARKPLUG), Absent, "Conduct towards the edge nodes of `format: 'sparkplug'`."),
        row(
            "compression",
            choice(&["none", "gzip", "zlib", "zstd", "auto"]),
            Text("none"),
            "How payloads are compressed; `'auto'` looks at the first bytes of each.",
        ),
        row(
            "maxPayloadBytes",
            integer(1024, 1 << 30),
            Integer(16 << 20),
            "The most that a payload may unpack to; a larger one is a dead letter, `PAYLOAD_TOO_LARGE`. At most an \
             eighth of `memory.maxBytes`, by default too.",
        )
        .unit(Bytes),
        row(
            "rows",
            Kind::Union { of: &ROWS },
            Described("one row per object"),
            "The path of a list in the payload, `devices[*].readings[*]`: one row per item; or of the members of an \
             object, `sensors.*`; or lists side by side, `{ zip: { at: 'series.at', v: 'series.v' } }`: one row per \
             index. A column's path is looked for in the item first, then in the items around it, then in the \
             document.",
        )
        .note("See [Rows](#rows)."),
        row(
            "unknownFields",
            choice(&["ignore", "reject"]),
            Text("ignore"),
            "How to treat a field that no column takes: ignore it, or make the message a dead letter \
             (`UNKNOWN_FIELD`).",
        )
        .note(
            "It looks at fields of the payload and of every object that a path leads through. A field that bears a \
             column's name is known, even if the column is filled from elsewhere.",
        ),
        row(
            "schema",
            choice(&["fixed", "add-columns"]),
            Text("fixed"),
            "Whether the table gets a column for a field that no column takes, beside `unknownFields`. No \
             column is ever changed or dropped.",
        )
        .note("See [A schema that grows](#a-schema-that-grows)."),
        row(
            "addColumns",
            object(&ADD_COLUMNS),
            Absent,
            "When a table gets a column, and how many, with `schema: 'add-columns'`.",
        ),
        row(
            "pivot",
            object(&PIVOT),
            Absent,
            "Gathers messages of one key into one row, for devices that send each value on a topic of its own.",
        )
        .note("See [One row of several messages](#one-row-of-several-messages)."),
        row(
            "dedupe",
            object(&DEDUPE),
            Absent,
            "Drops rows whose key a row before them had, within a time.",
        )
        .note("See [Repetitions](#repetitions)."),
        row(
            "deadband",
            object(&DEADBAND),
            Absent,
            "Drops rows whose value has changed by `delta` at most since the last row that was kept.",
        )
        .note("See [Repetitions](#repetitions)."),
        row(
            "missingFields",
            choice(&["reject", "zero"]),
            Text("reject"),
            "How to treat a missing field for a column that is neither Nullable nor has a DEFAULT: a dead letter \
             (`FIELD_MISSING`), or the type's zero.",
        )
        .note("The zero is 0, the empty string, 1970, or the smallest number of an enum."),
        row(
            "nulls",
            Kind::OneOrMore { item: &TEXT },
            Absent,
            "Texts that are a missing value, in any column.",
        ),
        row(
            "nan",
            choice(&["reject", "null", "value"]),
            Text("reject"),
            "How to read the tokens `NaN`, `Infinity` and `-Infinity` in JSON: invalid, a missing value, or that \
             float.",
        ),
        row(
            "transform",
            Kind::Union { of: &TRANSFORMS },
            Absent,
            "Business logic in JavaScript, called with each batch of the route: a function, or a module that threads \
             of the pipeline's own load.",
        )
        .note("In a configuration file it is the path of a module, relative to the file. See [transform.md](transform.md)."),
        row(
            "inputs",
            Kind::Record { value: &object(&INPUT), refused: &[] },
            Absent,
            "By name, fields that are read for `transform` alone: a source, as of a column, and a ClickHouse type.",
        ),
        row(
            "emits",
            Kind::List { item: &filled_text("") },
            Absent,
            "The tables that `batch.emit` of `transform` may put rows into.",
        )
        .note("`start()` looks at them as at the routes' own."),
        row(
            "transformTimeoutMs",
            integer(1, DAY_MS),
            Integer(10_000),
            "A call of `transform` that takes longer causes the warning `TRANSFORM_SLOW`. It is not aborted.",
        )
        .unit(Milliseconds),
    ],
    rules: NO_RULES,
};

pub static SPARKPLUG: Object = Object {
    name: None,
    about: "Conduct towards the edge nodes of `format: 'sparkplug'`.",
    includes: &[],
    rows: &[row(
        "rebirth",
        Kind::Flag,
        Flag(false),
        "Whether an edge node is asked for its BIRTH messages, by the command `Node Control/Rebirth`, where one of them is not \
         known or a message is missing. The broker must allow the user to publish to `spBv1.0/+/NCMD/+`.",
    )
    .note("See [Formats](#formats).")],
    rules: NO_RULES,
};

/// When a table gets columns.
pub static ADD_COLUMNS: Object = Object {
    name: None,
    about: "When a table gets a column, and how many.",
    includes: &[],
    rows: &[
        row(
            "afterMessages",
            integer(1, 100_000),
            Integer(20),
            "The number of messages with a field after which it becomes a column, of those that are looked at: 20 a second at most \
             on each connection.",
        ),
        row(
            "maxColumns",
            integer(1, 1000),
            Integer(100),
            "The most columns that are added to the table, over all starts.",
        ),
    ],
    rules: NO_RULES,
};

static TABLES: Object = Object {
    name: None,
    about: "The tables that messages may choose by their topics.",
    includes: &[],
    rows: &[
        row(
            "allow",
            Kind::OneOrMore { item: &filled_text("") },
            Required(": the names of the tables that messages may choose"),
            "Names of tables, as `table` gives them; `*` stands for any of A to Z, a to z, 0 to 9, `_` and `-`: `['telemetry_north', 'test_*']`. \
             Other messages are dead letters, `TABLE_NOT_ALLOWED`.",
        ),
        row(
            "max",
            integer(1, 1000),
            Integer(100),
            "The most tables that are filled until the next start; messages for further ones are dead letters, `TABLES_TOO_MANY`.",
        ),
    ],
    rules: NO_RULES,
};

static PIVOT: Object = Object {
    name: None,
    about: "Messages of one key become one row.",
    includes: &[],
    rows: &[
        row(
            "key",
            Kind::OneOrMore { item: &filled_text("") },
            Required(": the columns of the key"),
            "The columns whose values together say which messages belong together, such as `['device']`.",
        ),
        row(
            "windowMs",
            integer(1, 3600 * 1000),
            Integer(1000),
            "How long a row waits for values, from the receipt of its first message on. It is inserted sooner when all columns \
             without a DEFAULT have one.",
        )
        .unit(Milliseconds),
        row(
            "name",
            filled_text(""),
            Absent,
            "The `{name}` of the topic that says which field the payload is: `21.5` at `…/temperature` is read as \
             `{ temperature: 21.5 }`. Without it the payload has fields of its own.",
        ),
        row(
            "repeated",
            choice(&["next", "last"]),
            Text("next"),
            "How to treat a value for a column that has one in the open row: it ends the row and opens the next one, or it \
             takes the place of the value before it.",
        ),
    ],
    rules: NO_RULES,
};

const MAX_KEYS: Row = row(
    "maxKeys",
    integer(1, 10_000_000),
    Integer(100_000),
    "The most keys that are remembered; beyond it the oldest is forgotten. A key takes about 100 bytes, which count towards \
     `memory.maxBytes`.",
);

static DEDUPE: Object = Object {
    name: None,
    about: "Rows that repeat a key are dropped.",
    includes: &[],
    rows: &[
        row(
            "by",
            Kind::OneOrMore { item: &filled_text("") },
            Required(": the columns of the key"),
            "The columns whose values together are the key, such as `['event_id']`. A row with NULL in one of them is kept.",
        ),
        row(
            "windowMs",
            integer(1, 7 * DAY_MS),
            Integer(60_000),
            "How long a key counts, from the receipt of the row on that was kept.",
        )
        .unit(Milliseconds),
        MAX_KEYS,
    ],
    rules: NO_RULES,
};

static DEADBAND: Object = Object {
    name: None,
    about: "Rows whose value has hardly changed are dropped.",
    includes: &[],
    rows: &[
        row(
            "column",
            filled_text(""),
            Required(": the column whose values are compared"),
            "The column whose values are compared: a number. A row with NULL or NaN in it is kept, and so is the next one.",
        ),
        row(
            "delta",
            Kind::Number { min: 0.0, max: f64::INFINITY },
            Required(": the largest change that counts as none"),
            "The largest change, up or down, that counts as none, in the unit of the column. With 0 equal values are dropped.",
        ),
        row(
            "by",
            Kind::OneOrMore { item: &filled_text("") },
            Absent,
            "Columns whose values together are the key: a value is compared with the last one of its key. Without it, with the \
             last one of the route. A row with NULL in one of them is kept.",
        ),
        row(
            "everyMs",
            integer(1, 7 * DAY_MS),
            Absent,
            "A row is kept, whatever its value, so long after the last one of its key that was.",
        )
        .unit(Milliseconds),
        MAX_KEYS,
    ],
    rules: NO_RULES,
};

/// The kinds of a module's name.
static MODULES: [Kind; 2] = [filled_text(""), Kind::Code { typescript: "URL", phrase: "a URL" }];

/// The kinds of a transform.
pub static TRANSFORMS: [Kind; 3] = [
    Kind::Code { typescript: "Transform", phrase: "a function" },
    filled_text(": the path of a module"),
    object(&Object {
        name: Some("TransformModule"),
        about: "A module whose export is the transform. Worker threads of the pipeline's own load it.",
        includes: &[],
        rows: &[
            row(
                "module",
                Kind::Union { of: &MODULES },
                REQUIRED,
                "The module's path, from the working directory, or its URL: ESM, CommonJS, or TypeScript where the runtime \
                 takes it.",
            ),
            row("export", filled_text(""), Text("default"), "The name of the export."),
            row(
                "threads",
                integer(1, 64),
                Integer(1),
                "The number of threads that load it. As many batches are worked on at once, and are inserted in \
                 the order in which they are done.",
            ),
            row("data", Kind::Any, Absent, "The module finds it as `workerData` of `node:worker_threads`."),
        ],
        rules: NO_RULES,
    }),
];

static INPUT: Object = Object {
    name: Some("InputSource"),
    about: "A field that is read for a transform alone. Without a source it is the field of that name.",
    includes: &[],
    rows: &[
        row("type", filled_text(""), REQUIRED, "The ClickHouse type that it is read as."),
        row("path", Kind::OneOrMore { item: &READ_TEXT }, Absent, "A path into the payload, or several."),
        row("default", Kind::Any, Absent, "The value where it is missing, or `null`."),
        row(
            "unit",
            choice(&["s", "ms", "us", "ns", "auto"]),
            Text("auto"),
            "The unit of a number that is a time.",
        ),
        row("nulls", Kind::OneOrMore { item: &TEXT }, Absent, "Texts that are a missing value."),
        row(
            "map",
            Kind::Record { value: &Kind::Any, refused: &[] },
            Absent,
            "Values that replace a text or number.",
        ),
        row(
            "parse",
            choice(&["json", "base64", "hex", "number"]),
            Absent,
            "The format that the text there is parsed as first.",
        ),
        row("scale", NUMBER, Absent, "A factor for a number."),
        row("offset", NUMBER, Absent, "A number that is added, after `scale`."),
        row(
            "lookup",
            filled_text(""),
            Absent,
            "The name of a map of the program's; needs `key`, which is the key in it.",
        ),
        row("field", filled_text(""), Absent, "The field of the entry of `lookup`."),
        row(
            "key",
            Kind::Union { of: &LOOKUP_KEYS },
            Absent,
            "The name of the key that a path with `*` leads to; with `lookup` the key there.",
        ),
        row("topic", TEXT, Absent, "A `{name}` of the topic."),
        row(
            "meta",
            choice(&["topic", "receivedAt", "payload", "qos", "retain", "clientId"]),
            Absent,
            "A property of the message itself.",
        ),
        row("userProperty", TEXT, Absent, "The first user property of that name."),
        row("value", Kind::Any, Absent, "A constant."),
    ],
    rules: NO_RULES,
};

/// The formats of a route's payloads.
pub static FORMATS: [Kind; 3] = [
    choice(&["json", "text", "csv", "msgpack", "cbor", "sparkplug"]),
    object(&Object {
        name: None,
        about: "Lines of values.",
        includes: &[],
        rows: &[
            row("type", choice(&["csv"]), REQUIRED, "Lines of values."),
            row(
                "columns",
                Kind::OneOrMore { item: &TEXT },
                Absent,
                "The names of the values of a line, in their order; without them they come from the header.",
            ),
            row("delimiter", filled_text(""), Text(","), "The text between two values."),
            row("header", Kind::Flag, Flag(false), "Whether the first line of each payload has the names."),
            row("decimal", choice(&[".", ","]), Text("."), "The character before the decimals of a number."),
            row(
                "pairs",
                filled_text(""),
                Absent,
                "The text between a name and its value, `=` in `k=v;k=v`: such lines need neither names nor a \
                 header.",
            ),
        ],
        rules: NO_RULES,
    }),
    object(&Object {
        name: None,
        about: "Messages of Protocol Buffers.",
        includes: &[],
        rows: &[
            row("type", choice(&["protobuf"]), REQUIRED, "Messages of Protocol Buffers."),
            row(
                "schema",
                Kind::File,
                REQUIRED,
                "A FileDescriptorSet, as `protoc --descriptor_set_out --include_imports` writes it.",
            ),
            row("message", filled_text(""), REQUIRED, "The full name of the message: `package.Message`."),
        ],
        rules: NO_RULES,
    }),
];

/// Where the rows of a payload are.
pub static ROWS: [Kind; 2] = [
    READ_TEXT,
    object(&Object {
        name: None,
        about: "Lists that lie side by side.",
        includes: &[],
        rows: &[row(
            "zip",
            Kind::Record { value: &READ_TEXT, refused: &[] },
            REQUIRED,
            "By name, the paths of lists of one length: a row per index. Columns find the items under these names.",
        )],
        rules: NO_RULES,
    }),
];

pub const COLUMN_SOURCE: Kind = Kind::Named {
    name: "ColumnSource",
    about: "Where a column's value comes from. A string is a path into the payload: `lat`, `position.lat`, `axes[0]`, \
            `['a.b'].c`. `$` is the document and `@` the item that a row is made of: `$.ts`, `@[0]`.\n\n\
            A missing field, or `null`, takes in this order: the source's `default`; the column's own DEFAULT, computed \
            by ClickHouse for that row; `NULL` where the column is Nullable. A column with none of these is required.",
    of: &Kind::Union { of: &COLUMN_SOURCES },
};

/// The forms of a `ColumnSource`. The first option of an object says which it is.
pub static COLUMN_SOURCES: [Kind; 10] = [
    READ_TEXT,
    Kind::List { item: &READ_TEXT },
    object(&Object {
        name: None,
        about: "A path, with what to make of the value.",
        includes: &[],
        rows: &[
            row(
                "path",
                Kind::OneOrMore { item: &READ_TEXT },
                REQUIRED,
                "A path into the payload: `lat`, `position.lat`, `axes[0]`, `axes[-1]` for the last, `*.lat` below any \
                 one key. The first path of a list that has a value counts.",
            ),
            row("default", Kind::Any, Absent, "The value where it is missing, or `null`."),
            row(
                "unit",
                choice(&["s", "ms", "us", "ns", "auto"]),
                Text("auto"),
                "The unit of a number in a column of a time type, since 1970. `'auto'` reads the \
                 magnitude: below 1e11 seconds, below 1e14 milliseconds, below 1e17 microseconds, else \
                 nanoseconds.",
            ),
            row(
                "fields",
                Kind::OneOrMore { item: &TEXT },
                Absent,
                "The names of an object's fields that fill the elements of a Tuple, or of a Point: `['lng', 'lat']`. \
                 Without it a Tuple takes the names that it has.",
            ),
            row("nulls", Kind::OneOrMore { item: &TEXT }, Absent, "Texts that are a missing value."),
            row(
                "map",
                Kind::Record { value: &Kind::Any, refused: &[] },
                Absent,
                "Values that replace a text or number: `{ ON: true, OFF: false }`; under `'*'` for all others.",
            ),
            row(
                "parse",
                choice(&["json", "base64", "hex", "number"]),
                Absent,
                "The format that the text there is parsed as first. Paths may go on through a text that is JSON. \
                 `'number'` takes a \
                 decimal comma, and drops a unit behind the number.",
            ),
            row("scale", NUMBER, Absent, "A factor for a number."),
            row("offset", NUMBER, Absent, "A number that is added, after `scale`."),
        ],
        rules: NO_RULES,
    }),
    // Before the other one with a `key`, which would be taken for it.
    object(&Object {
        name: None,
        about: "A map of the program's, by a key of the message: set by `pipeline.lookup()`, or by `lookups`.",
        includes: &[],
        rows: &[
            row("lookup", filled_text(""), REQUIRED, "The name of the map."),
            row(
                "key",
                Kind::Union { of: &LOOKUP_KEYS },
                REQUIRED,
                "Where the message has the key: a text is a `{name}` of the topic if it has that name, else a path into the \
                 payload.",
            ),
            row(
                "field",
                filled_text(": leave it out for the value of the entry itself"),
                Described("the value of the entry itself"),
                "The field of the entry.",
            ),
            row(
                "default",
                Kind::Any,
                Absent,
                "The value where the message has no key, the map has no entry for it, or the entry no such field.",
            ),
        ],
        rules: NO_RULES,
    }),
    object(&Object {
        name: None,
        about: "The name of a key that a path with `*` leads to.",
        includes: &[],
        rows: &[row(
            "key",
            READ_TEXT,
            REQUIRED,
            "A path that ends with `*`: the name of the key there. `@` is that of a member that is a row.",
        )],
        rules: NO_RULES,
    }),
    object(&Object {
        name: None,
        about: "A `{name}` of the topic.",
        includes: &[],
        rows: &[row("topic", TEXT, REQUIRED, "A `{name}` of the topic, as a text.")],
        rules: NO_RULES,
    }),
    object(&Object {
        name: None,
        about: "A property of the message itself. `receivedAt` fits time columns, and 64-bit integers as \
                milliseconds.",
        includes: &[],
        rows: &[row(
            "meta",
            choice(&["topic", "receivedAt", "payload", "qos", "retain", "clientId"]),
            REQUIRED,
            "A property of the message itself, see below.",
        )],
        rules: NO_RULES,
    }),
    object(&Object {
        name: None,
        about: "A user property of MQTT 5; missing where the message has none of that name.",
        includes: &[],
        rows: &[row(
            "userProperty",
            TEXT,
            REQUIRED,
            "The first user property of that name, as a text; missing with MQTT 3.1.1.",
        )],
        rules: NO_RULES,
    }),
    object(&Object {
        name: None,
        about: "A constant.",
        includes: &[],
        rows: &[row("value", Kind::Any, REQUIRED, "A constant.")],
        rules: NO_RULES,
    }),
    object(&Object {
        name: None,
        about: "A column that the route's `transform` fills.",
        includes: &[],
        rows: &[row(
            "computed",
            Kind::Flag,
            REQUIRED,
            "`true`: the route's `transform` fills it. Where it does not, the row has NULL, else the column's DEFAULT, \
             else the type's zero.",
        )],
        rules: NO_RULES,
    }),
];

pub const CONDITION: Kind = Kind::Named {
    name: "Condition",
    about: "Selects the messages of a route: `{ path: 'speed', ge: 10, lt: 90 }`, `{ topic: 'driver_id', in: \
            ['a', 'b'] }`. \
            Several comparisons of one value must all hold; `and`, `or` and `not` join conditions.\n\n\
            A missing field is the same as `null`: no comparison holds for it but `ne` and `exists: false`. Values of \
            different types are never equal: `5` is not `'5'`.",
    of: &Kind::Union { of: &CONDITIONS },
};

const CONDITION_AGAIN: Kind = Kind::Again { name: "Condition" };

/// The kinds of values in comparisons, and those that have an order.
pub static COMPARED: Kind = Kind::Union { of: &[TEXT, NUMBER, Kind::Flag] };
pub static ORDERED: Kind = Kind::Union { of: &[TEXT, NUMBER] };

const EQ: Row = row("eq", Kind::Union { of: &[TEXT, NUMBER, Kind::Flag] }, Absent, "It is equal.");
const NE: Row = row(
    "ne",
    Kind::Union { of: &[TEXT, NUMBER, Kind::Flag] },
    Absent,
    "It is not equal, of another type, or missing: the opposite of `eq`.",
);
const LT: Row =
    row("lt", Kind::Union { of: &[TEXT, NUMBER] }, Absent, "It is less. Texts are compared byte by byte.");
const LE: Row = row("le", Kind::Union { of: &[TEXT, NUMBER] }, Absent, "It is less or equal.");
const GT: Row = row("gt", Kind::Union { of: &[TEXT, NUMBER] }, Absent, "It is greater.");
const GE: Row = row("ge", Kind::Union { of: &[TEXT, NUMBER] }, Absent, "It is greater or equal.");
const IN: Row =
    row("in", Kind::List { item: &COMPARED }, Absent, "It is equal to one of these: a list of at least one.");
const EXISTS: Row =
    row("exists", Kind::Flag, Absent, "Whether it is there, and not `null`. A level of the topic always is.");

/// The forms of a `Condition`. The first option of each says which it is.
pub static CONDITIONS: [Kind; 5] = [
    object(&Object {
        name: None,
        about: "A field of the payload.",
        includes: &[],
        rows: &[
            row(
                "path",
                Kind::OneOrMore { item: &READ_TEXT },
                REQUIRED,
                "A path into the payload, as columns have it. The first path of a list that has a value counts.",
            ),
            EQ,
            NE,
            LT,
            LE,
            GT,
            GE,
            IN,
            EXISTS,
        ],
        rules: r#"{ "minProperties": 2 }"#,
    }),
    object(&Object {
        name: None,
        about: "A `{name}` of the topic.",
        includes: &[],
        rows: &[row("topic", TEXT, REQUIRED, "A `{name}` of the topic."), EQ, NE, LT, LE, GT, GE, IN, EXISTS],
        rules: r#"{ "minProperties": 2 }"#,
    }),
    object(&Object {
        name: None,
        about: "All of several conditions.",
        includes: &[],
        rows: &[row("and", Kind::List { item: &CONDITION_AGAIN }, REQUIRED, "All of these conditions hold.")],
        rules: NO_RULES,
    }),
    object(&Object {
        name: None,
        about: "At least one of several conditions.",
        includes: &[],
        rows: &[row(
            "or",
            Kind::List { item: &CONDITION_AGAIN },
            REQUIRED,
            "At least one of these conditions holds.",
        )],
        rules: NO_RULES,
    }),
    object(&Object {
        name: None,
        about: "The opposite of a condition.",
        includes: &[],
        rows: &[row("not", CONDITION_AGAIN, REQUIRED, "This condition does not hold.")],
        rules: NO_RULES,
    }),
];

pub static BATCH: Object = Object {
    name: Some("BatchConfig"),
    about: "A batch, which is one INSERT, is sealed by whichever limit comes first. While ClickHouse is busy it \
            takes more rows, up to `maxBytes`.",
    includes: &[],
    rows: &[
        row("maxRows", integer(1, MAX_BLOCK_ROWS as u64), Integer(5000), "Rows of a batch."),
        row(
            "maxBytes",
            integer(1, 1 << 30),
            Integer(8 << 20),
            "Size of the columns, before compression. At most an eighth of `memory.maxBytes`, by default too.",
        )
        .unit(Bytes),
        row("maxDelayMs", integer(1, DAY_MS), Integer(1000), "Age of the batch, from its first message on.")
            .unit(Milliseconds),
    ],
    rules: NO_RULES,
};

static SPOOL: Object = Object {
    name: Some("SpoolConfig"),
    about: "A durable log on disk between the broker and ClickHouse.",
    includes: &[],
    rows: &[
        row(
            "dir",
            filled_text(""),
            Required(": a directory for this spool alone"),
            "A directory for this spool alone; made if it is not there. One pipeline at a time: locked.",
        )
        .note(
            "It is on a disk of this machine, and made with those above it. While a pipeline runs, a second one \
             gets `SPOOL_LOCKED`.",
        ),
        row(
            "maxBytes",
            integer(1 << 20, 1 << 50),
            Integer(4 << 30),
            "Size of all files together, soft: what is committed together may pass it. When full, back-pressure \
             to the broker, never loss.",
        )
        .unit(Bytes)
        .note(
            "When it is reached nothing more is taken from the broker until ClickHouse has taken enough.",
        ),
        row(
            "commitMs",
            Kind::Union { of: &[integer(1, 1000), choice(&["auto"])] },
            Text("auto"),
            "The longest that a message waits before it is written and synced with all that came since; `'auto'` is 30, \
             or a quarter of `batch.maxDelayMs` where that is less.",
        )
        .unit(Milliseconds)
        .note(
            "It goes sooner when the broker's window is nearly full, and when the stream pauses. Each sync costs CPU time \
             and wear of the disk. With `'auto'`, rows of `pipeline.insert()` are synced within 5 ms.",
        ),
        row(
            "segmentBytes",
            integer(64 << 10, 1 << 30),
            Integer(64 << 20),
            "Size of a file, soft; the spool shrinks by deleting files. At most `maxBytes`, by default too.",
        )
        .unit(Bytes)
        .note("At start one file at a time is read into memory: at most half of `memory.maxBytes`, by default too."),
    ],
    rules: NO_RULES,
};

static DEAD_LETTERS: Object = Object {
    name: Some("DeadLetterConfig"),
    about: "Where messages go that cannot become rows: one of the two.",
    includes: &[],
    rows: &[
        row(
            "table",
            READ_TEXT,
            Absent,
            "`table` or `database.table`. Created if absent: `received_at`, `route`, `topic`, `payload`, \
             `error_code`, `error`.",
        )
        .note(
            "`start()` creates it with `received_at DateTime64(3, 'UTC')`, `route Int32`, `topic String`, \
             `payload String`, `error_code LowCardinality(String)`, `error String`: a `MergeTree` ordered by \
             `received_at` that deduplicates. Nothing is ever deleted from it: add a TTL.",
        ),
        row(
            "dir",
            READ_TEXT,
            Absent,
            "A directory of JSON Lines, one file a day: `<name>-<YYYY-MM-DD>.jsonl`.",
        )
        .note(
            "`start()` creates it. The day is in UTC. Each line is a JSON object: `receivedAt`, `route`, `topic`, \
             `payload`, `code`, `message`. A payload that is not UTF-8 is base64, and the line then has \
             `\"encoding\":\"base64\"`; a topic that is not, `\"topicEncoding\":\"base64\"`.",
        ),
    ],
    rules: r#"{ "maxProperties": 1 }"#,
};

pub static REPLAY_SOURCE: Kind = Kind::Named {
    name: "ReplaySource",
    about: "Where dead letters are read. An iterable gives them as the `deadLetters` event does, and is pulled \
            as fast as the engine has memory.",
    of: &Kind::Union {
        of: &[
            object(&REPLAY_DIR),
            object(&REPLAY_FILE),
            object(&REPLAY_TABLE),
            Kind::Code { typescript: "Iterable<StoredDeadLetter>", phrase: "an iterable of dead letters" },
            Kind::Code { typescript: "AsyncIterable<StoredDeadLetter>", phrase: "an async iterable of them" },
        ],
    },
};

/// As it is read: all of them together, for the sake of its error messages.
pub static ANY_REPLAY_SOURCE: Object = Object {
    name: None,
    about: "",
    includes: &[&REPLAY_DIR, &REPLAY_FILE, &REPLAY_TABLE],
    rows: &[],
    rules: NO_RULES,
};

static REPLAY_DIR: Object = Object {
    name: None,
    about: "All `*.jsonl` of a directory, by name, each to the length it has at the beginning.",
    includes: &[],
    rows: &[row("dir", READ_TEXT, REQUIRED, "The directory.")],
    rules: NO_RULES,
};

static REPLAY_FILE: Object = Object {
    name: None,
    about: "One file of JSON Lines.",
    includes: &[],
    rows: &[row("file", READ_TEXT, REQUIRED, "The path of the file.")],
    rules: NO_RULES,
};

static REPLAY_TABLE: Object = Object {
    name: None,
    about: "A table of dead letters in the ClickHouse of the configuration.",
    includes: &[],
    rows: &[
        row("table", READ_TEXT, REQUIRED, "`table` or `database.table`."),
        row(
            "where",
            READ_TEXT,
            Described("all"),
            "A condition in ClickHouse's SQL for the dead letters to read, such as `error_code = 'FIELD_MISSING'`.",
        ),
    ],
    rules: NO_RULES,
};

pub static CHECK: Object = Object {
    name: Some("CheckOptions"),
    about: "Options of a check beside the configuration.",
    includes: &[],
    rows: &[
        row("sample", integer(0, 1_000_000), Integer(0), "Messages to decode; 0 is none."),
        row("sampleTimeoutMs", integer(1, DAY_MS), Integer(30_000), "How long to wait for them.")
            .unit(Milliseconds),
        row(
            "payloads",
            integer(0, 1000),
            Integer(0),
            "How many payloads of each route the report has, as they came: `proposeTable` takes them.",
        ),
        row(
            "clientId",
            filled_text(": leave it out for a random one"),
            Described("random"),
            "The name to visit the broker under, where it lets only certain names in; not the pipeline's own.",
        ),
    ],
    rules: NO_RULES,
};
