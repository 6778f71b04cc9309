//! The options as a user gave them, checked whole and turned into a [`Config`] before anything opens.
//!
//! The façade hands over one JSON text. [`Config::parse`] walks it with [`object_reader::Options`], which knows the
//! path of each option and refuses what nobody asked for; no I/O happens here.

mod broker_url;
mod check;
mod object_reader;
mod replay;
mod spool;
mod tls;

use std::time::Duration;

pub use crate::core::backoff::Limits as Backoff;
use crate::core::error::{Error, Result};
use crate::core::json_path::{Path, Root};
use crate::core::tls::Tls;
use crate::core::topic_filter::TopicFilter;
pub use broker_url::{BrokerUrl, Transport};
pub use check::{CheckOptions, SampleLimits};
use object_reader::Options;
pub use replay::ReplaySource;
pub use spool::Spool;

#[derive(Debug, Clone)]
pub struct Config {
    pub name: String,
    pub mqtt: Mqtt,
    pub clickhouse: ClickHouse,
    pub routes: Vec<Route>,
    pub batch: Limits,
    /// `None`: batches go to ClickHouse at once.
    pub spool: Option<Spool>,
    pub dead_letters: DeadLetters,
    /// All buffers together, in bytes.
    pub memory_max_bytes: usize,
    /// `None`: no metrics event.
    pub metrics_interval: Option<Duration>,
    /// How many of the batches are traced, from 0 to 1.
    pub trace_sample_ratio: f64,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ProtocolVersion {
    V4,
    V5,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AckAfter {
    Receive,
    Spool,
    Insert,
}

#[derive(Debug, Clone)]
pub struct Mqtt {
    pub urls: Vec<BrokerUrl>,
    /// `None`: a random one, and the session ends with the connection.
    pub client_id: Option<String>,
    pub username: Option<String>,
    pub password: Option<String>,
    pub version: ProtocolVersion,
    pub qos: u8,
    pub shared_group: Option<String>,
    pub connections: usize,
    pub session_expiry_seconds: u32,
    pub keep_alive: Duration,
    pub receive_maximum: u16,
    pub topic_alias_maximum: u16,
    pub max_packet_bytes: usize,
    /// Zero: no rest.
    pub coalesce: Duration,
    pub ack_after: AckAfter,
    pub skip_retained: bool,
    pub reconnect: Backoff,
    pub tls: Tls,
}

impl Mqtt {
    /// Whether the broker keeps the subscriptions and undelivered messages when the connection ends.
    pub fn is_persistent(&self) -> bool {
        self.client_id.is_some() && self.session_expiry_seconds > 0
    }

    /// What a connection, counted from 0, calls itself. `None`: a random name.
    pub fn client_id_of(&self, connection: usize) -> Option<String> {
        let client_id = self.client_id.as_ref()?;
        Some(match self.connections {
            1 => client_id.clone(),
            _ => format!("{client_id}-{}", connection + 1),
        })
    }

    pub fn is_encrypted(&self) -> bool {
        self.urls.iter().any(|url| url.transport.is_encrypted())
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Compression {
    Lz4,
    Zstd,
    None,
}

#[derive(Debug, Clone)]
pub struct ClickHouse {
    pub urls: Vec<String>,
    pub database: String,
    pub username: String,
    pub password: Option<String>,
    pub compression: Compression,
    pub settings: Vec<(String, String)>,
    pub max_in_flight: usize,
    pub connect_timeout: Duration,
    pub request_timeout: Duration,
    pub retry: Backoff,
    pub tls: Tls,
}

#[derive(Debug, Clone)]
pub struct Route {
    pub topic: TopicFilter,
    /// As the user wrote it: `table` or `database.table`.
    pub table: String,
    pub columns: Vec<(String, ColumnSource)>,
    /// Where the list is of which each item becomes a row.
    pub rows: Option<Path>,
    pub reject_unknown_fields: bool,
    pub zero_missing_fields: bool,
}

impl Route {
    pub fn reads_user_properties(&self) -> bool {
        self.columns.iter().any(|(_, source)| matches!(source, ColumnSource::UserProperty(_)))
    }
}

#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub enum Unit {
    #[default]
    Auto,
    Seconds,
    Milliseconds,
    Microseconds,
    Nanoseconds,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Meta {
    Topic,
    ReceivedAt,
    Payload,
    Qos,
    Retain,
    ClientId,
}

#[derive(Debug, Clone)]
pub enum ColumnSource {
    Path {
        path: Path,
        default: Option<serde_json::Value>,
        unit: Unit,
        /// The names under which an object has the elements of a Tuple or a Point.
        fields: Vec<String>,
    },
    Topic(String),
    Meta(Meta),
    UserProperty(String),
    Value(serde_json::Value),
}

/// When a batch is sealed.
#[derive(Debug, Clone, Copy)]
pub struct Limits {
    pub rows: usize,
    pub bytes: usize,
    /// Age of the oldest row.
    pub delay: Duration,
}

#[derive(Debug, Clone, Default)]
pub struct DeadLetters {
    pub table: Option<String>,
    pub dir: Option<String>,
}

impl Config {
    /// How long a message may wait in a batch. With a spool it is acknowledged soon after; `batch.maxDelayMs` is then for the
    /// INSERTs that are made of what is in the spool.
    pub fn seal_delay(&self) -> Duration {
        match &self.spool {
            Some(spool) if self.mqtt.ack_after != AckAfter::Insert => spool.commit,
            _ => self.batch.delay,
        }
    }

    /// Reads the JSON text that the façade hands over. Every error is `CONFIG_INVALID` with the option's path.
    pub fn parse(text: &str) -> Result<Config> {
        let value: serde_json::Value = serde_json::from_str(text)
            .map_err(|e| Error::config("", format!("the configuration is not valid JSON: {e}")))?;
        let mut root = Options::root(&value)?;

        let name = root.string("name")?.unwrap_or_else(|| "millrace".into());
        if name.is_empty() || !name.chars().all(|c| c.is_ascii_alphanumeric() || "._-".contains(c)) {
            return Err(root
                .wrong("name", "must be letters, digits, '.', '_' or '-': it goes into metrics and tokens"));
        }
        let spool = root.section("spool")?.map(spool::spool).transpose()?;
        let mqtt = mqtt(root.required("mqtt")?, spool.is_some())?;
        let clickhouse = clickhouse(root.required("clickhouse")?)?;
        let routes = root
            .list("routes")?
            .ok_or_else(|| root.wrong("routes", "is required: a list of { topic, table }"))?
            .into_iter()
            .map(route)
            .collect::<Result<Vec<_>>>()?;
        if routes.is_empty() {
            return Err(root.wrong("routes", "must name at least one route"));
        }
        let batch = batch(root.section("batch")?)?;
        let dead_letters = dead_letters(root.section("deadLetters")?)?;
        let memory_max_bytes = match root.section("memory")? {
            Some(mut memory) => {
                let bytes = memory.integer("maxBytes", 1 << 20, 1 << 50)?;
                memory.finish()?;
                bytes
            }
            None => None,
        };
        let trace_sample_ratio = match root.section("tracing")? {
            Some(mut tracing) => {
                let ratio = tracing.fraction("sampleRatio")?.unwrap_or(0.1);
                tracing.finish()?;
                ratio
            }
            None => 0.0,
        };
        let metrics_interval = root.integer("metricsIntervalMs", 0, DAY_MS)?.unwrap_or(1000);
        root.finish()?;

        Ok(Config {
            name,
            mqtt,
            clickhouse,
            routes,
            batch,
            spool,
            dead_letters,
            memory_max_bytes: memory_max_bytes.unwrap_or(256 << 20) as usize,
            metrics_interval: (metrics_interval > 0).then(|| Duration::from_millis(metrics_interval)),
            trace_sample_ratio,
        })
    }
}

/// The longest that any span of time in milliseconds may be: a typo is likelier than a longer wish.
const DAY_MS: u64 = 24 * 3600 * 1000;

fn mqtt(mut o: Options<'_>, has_spool: bool) -> Result<Mqtt> {
    let mut urls = Vec::new();
    for (path, url) in o.strings("url")? {
        urls.push(BrokerUrl::parse(&path, &url)?);
    }
    let client_id = o.string("clientId")?;
    if client_id.as_deref() == Some("") {
        return Err(o.wrong("clientId", "must not be empty: leave it out for a random one"));
    }
    let username = o.string("username")?;
    if username.as_deref() == Some("") {
        return Err(o.wrong("username", "must not be empty: leave it out for none"));
    }
    let password = o.string("password")?;
    if password.is_some() && username.is_none() {
        return Err(o.wrong("password", "needs a username"));
    }
    // MQTT 5, 1.5.4: a string has at most 65,535 bytes. Several connections add a number, up to -1024, to the client id.
    for (name, text, most) in
        [("clientId", &client_id, 65530), ("username", &username, 65535), ("password", &password, 65535)]
    {
        if text.as_ref().is_some_and(|text| text.len() > most) {
            return Err(o.wrong(name, format!("must not have more than {most} bytes")));
        }
    }
    let version = match o.integer("protocolVersion", 4, 5)? {
        Some(4) => ProtocolVersion::V4,
        _ => ProtocolVersion::V5,
    };
    let qos = o.integer("qos", 0, 2)?.unwrap_or(1) as u8;
    let shared_group = o.string("sharedGroup")?;
    if shared_group.as_ref().is_some_and(|g| g.is_empty() || g.len() > 1024 || g.contains(['/', '+', '#'])) {
        return Err(o.wrong("sharedGroup", "must be a name of at most 1024 bytes without '/', '+' and '#'"));
    }
    let connections = o.integer("connections", 1, 1024)?.unwrap_or(1) as usize;
    if connections > 1 && shared_group.is_none() {
        return Err(
            o.wrong("connections", "more than 1 needs a sharedGroup: else each would get every message")
        );
    }
    let expiry = o.integer("sessionExpirySeconds", 0, u32::MAX as u64)?;
    if client_id.is_none() && expiry.is_some_and(|s| s > 0) {
        return Err(o.wrong(
            "sessionExpirySeconds",
            "needs a clientId: a session without a name cannot be found again",
        ));
    }
    let keep_alive = o.integer("keepAliveSeconds", 1, 65535)?.unwrap_or(30);
    let receive_maximum = o.integer("receiveMaximum", 1, 65535)?.unwrap_or(65535) as u16;
    let topic_alias_maximum = o.integer("topicAliasMaximum", 0, 65535)?.unwrap_or(0) as u16;
    // The fixed header can announce at most 256 MiB: MQTT 5, 2.1.4.
    let max_packet_bytes = o.integer("maxPacketBytes", 1024, 268_435_455)?.unwrap_or(1 << 20) as usize;
    let coalesce = o.integer("coalesceMs", 0, 1000)?.unwrap_or(1);
    let ack_after = match o.choice("ackAfter", &["receive", "spool", "insert"])? {
        Some("receive") => AckAfter::Receive,
        Some("spool") if !has_spool => return Err(o.wrong("ackAfter", "'spool' needs a spool")),
        Some("insert") => AckAfter::Insert,
        _ if has_spool => AckAfter::Spool,
        _ => AckAfter::Insert,
    };
    let skip_retained = o.choice("retained", &["accept", "skip"])? == Some("skip");
    let reconnect = backoff(o.section("reconnect")?)?;
    let is_encrypted = urls.iter().any(|url| url.transport.is_encrypted());
    let tls = tls::tls(o.section("tls")?, "mqtt.tls", is_encrypted, true)?;
    o.finish()?;
    Ok(Mqtt {
        session_expiry_seconds: expiry.unwrap_or(if client_id.is_some() { 86400 } else { 0 }) as u32,
        urls,
        client_id,
        username,
        password,
        version,
        qos,
        shared_group,
        connections,
        keep_alive: Duration::from_secs(keep_alive),
        receive_maximum,
        topic_alias_maximum,
        max_packet_bytes,
        coalesce: Duration::from_millis(coalesce),
        ack_after,
        skip_retained,
        reconnect,
        tls,
    })
}

fn clickhouse(mut o: Options<'_>) -> Result<ClickHouse> {
    let mut urls = Vec::new();
    for (path, url) in o.strings("url")? {
        let wrong = |message: &str| Error::config(&path, format!("{message}, not {url:?}"));
        let rest = match url.split_once("://") {
            Some(("http" | "https", rest)) => rest,
            _ => return Err(wrong("must be like http://host:8123 or https://host:8443")),
        };
        if rest.contains('@') {
            return Err(wrong("must not hold a password: use username and password"));
        }
        if rest.is_empty() || url.parse::<http::Uri>().is_err() || rest.contains(['?', '#']) {
            return Err(wrong("must be like http://host:8123"));
        }
        urls.push(url);
    }
    let database = o.string("database")?.unwrap_or_else(|| "default".into());
    let username = o.string("username")?.unwrap_or_else(|| "default".into());
    let password = o.string("password")?;
    let compression = match o.choice("compression", &["lz4", "zstd", "none"])? {
        Some("zstd") => Compression::Zstd,
        Some("none") => Compression::None,
        _ => Compression::Lz4,
    };
    let mut settings = Vec::new();
    if let Some(mut given) = o.section("settings")? {
        for (name, value) in given.rest() {
            let path = given.path_of(&name);
            if OURS.contains(&name.as_str()) {
                return Err(Error::config(path, "is set by millrace itself: its promises depend on it"));
            }
            settings.push((
                name,
                match value {
                    serde_json::Value::String(s) => s.clone(),
                    serde_json::Value::Bool(b) => (*b as u8).to_string(),
                    serde_json::Value::Number(n) => n.to_string(),
                    _ => return Err(Error::config(path, "must be a string, a number or a boolean")),
                },
            ));
        }
    }
    let max_in_flight = o.integer("maxInFlight", 1, 64)?.unwrap_or(2) as usize;
    let connect_timeout = o.integer("connectTimeoutMs", 1, DAY_MS)?.unwrap_or(5000);
    let request_timeout = o.integer("requestTimeoutMs", 1, DAY_MS)?.unwrap_or(30000);
    let retry = backoff(o.section("retry")?)?;
    let is_encrypted = urls.iter().any(|url| url.starts_with("https://"));
    let tls = tls::tls(o.section("tls")?, "clickhouse.tls", is_encrypted, false)?;
    o.finish()?;
    Ok(ClickHouse {
        urls,
        database,
        username,
        password,
        compression,
        settings,
        max_in_flight,
        connect_timeout: Duration::from_millis(connect_timeout),
        request_timeout: Duration::from_millis(request_timeout),
        retry,
        tls,
    })
}

/// Settings that the promises depend on, or that name the request itself.
const OURS: [&str; 17] = [
    "async_insert",
    "database",
    "decompress",
    "deduplicate_blocks_in_dependent_materialized_views",
    "distributed_foreground_insert",
    "input_format_native_allow_types_conversion",
    "input_format_null_as_default",
    "insert_deduplicate",
    "insert_deduplication_token",
    "insert_distributed_sync",
    "insert_null_as_default",
    "limit",
    "max_insert_block_size",
    "offset",
    "query",
    "query_id",
    "use_strict_insert_block_limits",
];

fn backoff(options: Option<Options<'_>>) -> Result<Backoff> {
    let (mut min, mut max) = (None, None);
    if let Some(mut o) = options {
        min = o.integer("minMs", 1, DAY_MS)?;
        max = o.integer("maxMs", 1, DAY_MS)?;
        if let (min, Some(max)) = (min.unwrap_or(100), max)
            && max < min
        {
            return Err(o.wrong("maxMs", "must not be less than minMs"));
        }
        o.finish()?;
    }
    let min = min.unwrap_or(100);
    Ok(Backoff { min: Duration::from_millis(min), max: Duration::from_millis(max.unwrap_or(30000).max(min)) })
}

fn route(mut o: Options<'_>) -> Result<Route> {
    let topic = o.string("topic")?.ok_or_else(|| o.wrong("topic", "is required"))?;
    let topic = TopicFilter::parse(&topic).map_err(|message| o.wrong("topic", message))?;
    let table = o.string("table")?.ok_or_else(|| o.wrong("table", "is required"))?;
    if table.is_empty() {
        return Err(o.wrong("table", "must not be empty"));
    }
    let mut columns = Vec::new();
    if let Some(mut given) = o.section("columns")? {
        for (name, value) in given.rest() {
            let source = column_source(&given.path_of(&name), value, &topic)?;
            columns.push((name, source));
        }
    }
    let rows = match o.string("rows")? {
        Some(text) => Some(json_path(&text, o.path_of("rows"))?),
        None => None,
    };
    if rows.as_ref().is_some_and(|rows| rows.root == Root::Element) {
        return Err(o.wrong("rows", "must begin at the document: @ is the item that it leads to"));
    }
    let reject_unknown_fields = o.choice("unknownFields", &["ignore", "reject"])? == Some("reject");
    let zero_missing_fields = o.choice("missingFields", &["reject", "zero"])? == Some("zero");
    o.finish()?;
    Ok(Route { topic, table, columns, rows, reject_unknown_fields, zero_missing_fields })
}

/// `at` is the option that has the path.
fn json_path(text: &str, at: String) -> Result<Path> {
    Path::parse(text).map_err(|message| Error::config(at, format!("{message}, in the path {text:?}")))
}

fn column_source(path: &str, value: &serde_json::Value, topic: &TopicFilter) -> Result<ColumnSource> {
    if let Some(text) = value.as_str() {
        let path = json_path(text, path.into())?;
        return Ok(ColumnSource::Path { path, default: None, unit: Unit::Auto, fields: Vec::new() });
    }
    let mut o = Options::at(path, value)?;
    let source = if o.has("path") {
        let text = o.string("path")?.unwrap_or_default();
        let unit = match o.choice("unit", &["s", "ms", "us", "ns", "auto"])? {
            Some("s") => Unit::Seconds,
            Some("ms") => Unit::Milliseconds,
            Some("us") => Unit::Microseconds,
            Some("ns") => Unit::Nanoseconds,
            _ => Unit::Auto,
        };
        let default = o.value("default").cloned();
        let fields = if o.has("fields") { o.strings("fields")? } else { Vec::new() };
        let fields = fields.into_iter().map(|(_, name)| name).collect();
        ColumnSource::Path { path: json_path(&text, o.path_of("path"))?, default, unit, fields }
    } else if o.has("topic") {
        let name = o.string("topic")?.unwrap_or_default();
        if !topic.names().any(|n| n == name) {
            return Err(o.wrong("topic", format!("the route's topic has no {{{name}}}")));
        }
        ColumnSource::Topic(name)
    } else if o.has("meta") {
        const METAS: [&str; 6] = ["topic", "receivedAt", "payload", "qos", "retain", "clientId"];
        ColumnSource::Meta(match o.choice("meta", &METAS)? {
            Some("topic") => Meta::Topic,
            Some("receivedAt") => Meta::ReceivedAt,
            Some("payload") => Meta::Payload,
            Some("qos") => Meta::Qos,
            Some("retain") => Meta::Retain,
            _ => Meta::ClientId,
        })
    } else if o.has("userProperty") {
        ColumnSource::UserProperty(o.string("userProperty")?.unwrap_or_default())
    } else if let Some(value) = o.value("value") {
        ColumnSource::Value(value.clone())
    } else {
        return Err(Error::config(
            path,
            "must be a path, or have one of path, topic, meta, userProperty, value",
        ));
    };
    o.finish()?;
    Ok(source)
}

fn batch(options: Option<Options<'_>>) -> Result<Limits> {
    let mut limits = Limits { rows: 5000, bytes: 8 << 20, delay: Duration::from_millis(1000) };
    if let Some(mut o) = options {
        // ClickHouse squashes the blocks of one INSERT up to 1,048,449 rows: beyond it an INSERT is not atomic.
        if let Some(rows) = o.integer("maxRows", 1, 1_048_449)? {
            limits.rows = rows as usize;
        }
        if let Some(bytes) = o.integer("maxBytes", 1, 1 << 30)? {
            limits.bytes = bytes as usize;
        }
        if let Some(ms) = o.integer("maxDelayMs", 1, DAY_MS)? {
            limits.delay = Duration::from_millis(ms);
        }
        o.finish()?;
    }
    Ok(limits)
}

fn dead_letters(options: Option<Options<'_>>) -> Result<DeadLetters> {
    let Some(mut o) = options else { return Ok(DeadLetters::default()) };
    let letters = DeadLetters { table: o.string("table")?, dir: o.string("dir")? };
    if letters.table.is_some() && letters.dir.is_some() {
        return Err(o.wrong("dir", "cannot be combined with table: choose one place"));
    }
    if letters.table.as_deref() == Some("") || letters.dir.as_deref() == Some("") {
        return Err(Error::config("deadLetters", "table and dir must not be empty"));
    }
    o.finish()?;
    Ok(letters)
}
