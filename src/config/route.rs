//! `routes[]`: topics, the tables that they fill, and where each column's value comes from.

use std::sync::Arc;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde_json::Value;

use crate::config::ceiling::Ceiling;
use crate::config::condition::{Condition, condition};
use crate::config::object_reader::ObjectReader;
use crate::config::schema::COLUMN_SOURCES;
use crate::config::taken::Taken;
use crate::config::transform::{Transform, transform};
use crate::core::edge_nodes::EdgeNodes;
use crate::core::error::{Error, Result};
use crate::core::json_path::{Path, Root, Segment};
use crate::core::topic_filter::TopicFilter;

/// The prefix of the table in the topic of rows that a program inserts.
pub const ROWS_TOPIC: &str = "$rows/";

#[derive(Debug, Clone)]
pub struct Route {
    /// The path of its option: `routes[0]`.
    pub path: String,
    pub topic: TopicFilter,
    /// `None`: `mqtt.qos`.
    pub qos: Option<u8>,
    /// As the user wrote it: `table` or `database.table`.
    pub table: String,
    /// Whether the table may discard its rows.
    pub allow_null_table: bool,
    pub columns: Vec<(String, ColumnSource)>,
    /// Whether later routes take its messages too.
    pub continues: bool,
    /// Selects its messages. `None`: all.
    pub condition: Option<Condition>,
    /// Where the list is of which each item becomes a row.
    pub rows: Option<Path>,
    /// Lists that lie side by side, by name: a row per index.
    pub zip: Vec<(String, Path)>,
    pub format: Format,
    pub compression: PayloadCompression,
    /// The most that a payload may unpack to.
    pub max_payload_bytes: usize,
    /// The most that the values of a payload may take, and the rows of a message.
    pub max_decoded_bytes: usize,
    /// Texts that are a missing value.
    pub nulls: Vec<String>,
    pub nan: Nan,
    /// Names and types from birth messages of Sparkplug, shared by all decoders of this route.
    pub edge_nodes: EdgeNodes,
    pub reject_unknown_fields: bool,
    pub zero_missing_fields: bool,
    /// `None`: rows are inserted as they were decoded.
    pub transform: Option<Transform>,
}

impl AsRef<Route> for Route {
    fn as_ref(&self) -> &Route {
        self
    }
}

impl Route {
    /// The route of rows that a program inserts, by the names of columns and without a message. A field
    /// without a column is refused.
    pub fn of_rows(table: &str) -> Route {
        Route {
            path: String::new(),
            topic: TopicFilter::literal(&format!("{ROWS_TOPIC}{table}")),
            qos: None,
            table: table.into(),
            allow_null_table: false,
            columns: Vec::new(),
            continues: false,
            condition: None,
            rows: None,
            zip: Vec::new(),
            format: Format::Rows,
            compression: PayloadCompression::None,
            max_payload_bytes: usize::MAX,
            max_decoded_bytes: usize::MAX,
            nulls: Vec::new(),
            nan: Nan::Value,
            edge_nodes: EdgeNodes::default(),
            reject_unknown_fields: true,
            zero_missing_fields: false,
            transform: None,
        }
    }

    /// The option that names the table of the route at `path`: an entry of a list where rows are not of messages.
    pub fn table_option(&self, path: &str) -> String {
        if self.format == Format::Rows { path.into() } else { format!("{path}.table") }
    }

    /// Where the configuration says that a column, or an input of the transform, comes from.
    pub fn source_of(&self, column: &str) -> Option<&ColumnSource> {
        let inputs = self.transform.iter().flat_map(|transform| &transform.inputs);
        let inputs = inputs.map(|input| (&input.name, &input.source));
        let mut columns = self.columns.iter().map(|(name, source)| (name, source)).chain(inputs);
        columns.find(|(name, _)| *name == column).map(|(_, source)| source)
    }

    /// The names of the topic that fill no column, if `is_column` knows the columns, and that nothing else asks for.
    pub fn unused_names(&self, is_column: impl Fn(&str) -> bool) -> Vec<&str> {
        let inputs = self.transform.iter().flat_map(|transform| &transform.inputs);
        let inputs = inputs.map(|input| (&input.name, &input.source));
        let sources: Vec<_> =
            self.columns.iter().map(|(name, source)| (name, source)).chain(inputs).collect();
        let is_used = |name: &&str| {
            let asks = |(_, source): &(&String, &ColumnSource)| matches!(source, ColumnSource::Topic(used) if used == *name);
            is_column(name)
                || sources.iter().any(asks)
                || self.condition.as_ref().is_some_and(|condition| condition.reads_level(name, &self.topic))
        };
        self.topic.names().filter(|name| !is_used(name)).collect()
    }

    pub fn reads_user_properties(&self) -> bool {
        let inputs = self.transform.iter().flat_map(|transform| &transform.inputs);
        let sources = self.columns.iter().map(|(_, source)| source).chain(inputs.map(|input| &input.source));
        sources.into_iter().any(|source| matches!(source, ColumnSource::UserProperty(_)))
    }
}

/// The format of payloads.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub enum Format {
    #[default]
    Json,
    Text,
    Csv(Csv),
    MessagePack,
    Cbor,
    Protobuf(Protobuf),
    Sparkplug,
    /// Rows of a program: objects in CBOR, one behind the other. No option names it.
    Rows,
}

/// The message type of the payloads.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Protobuf {
    /// A FileDescriptorSet.
    pub schema: Arc<[u8]>,
    pub message: String,
}

/// How lines of values are written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Csv {
    pub columns: Vec<String>,
    pub delimiter: String,
    pub has_header: bool,
    pub has_decimal_comma: bool,
    /// The text between a name and its value, where each value has its name.
    pub pairs: Option<String>,
}

#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub enum PayloadCompression {
    #[default]
    None,
    Gzip,
    Zlib,
    Zstd,
    /// By the first bytes.
    Auto,
}

/// How `NaN` and the infinities are read.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub enum Nan {
    #[default]
    Reject,
    Null,
    Value,
}

/// Conversions of a value before it is checked against its column.
#[derive(Debug, Default, Clone, PartialEq)]
pub struct Reading {
    /// Where it is looked for if it is not at the path.
    pub other_paths: Vec<Path>,
    /// The name of a key is meant, not its value.
    pub is_key: bool,
    pub nulls: Vec<String>,
    pub map: Vec<(String, Value)>,
    pub parse: Option<Parse>,
    /// In digits, so that decimals stay what they are.
    pub scale: Option<String>,
    pub offset: Option<String>,
}

/// The format of a text that is parsed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Parse {
    Json,
    Base64,
    Hex,
    Number,
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

#[derive(Debug, Clone, PartialEq)]
pub enum ColumnSource {
    Path {
        path: Path,
        default: Option<serde_json::Value>,
        unit: Unit,
        /// The names under which an object has the elements of a Tuple or a Point.
        fields: Vec<String>,
        reading: Reading,
    },
    Topic(String),
    Meta(Meta),
    UserProperty(String),
    Value(serde_json::Value),
    /// The transform of the route fills it.
    Computed,
}

pub fn route(o: ObjectReader<'_>, memory: Ceiling) -> Result<Route> {
    let topic =
        TopicFilter::parse(&o.required_text("topic")?).map_err(|message| o.wrong("topic", message))?;
    let (rows, zip) = rows(&o)?;
    let route = Route {
        path: o.path_of("topic").trim_end_matches(".topic").into(),
        table: o.required_text("table")?,
        qos: o.integer("qos")?.map(|qos| qos as u8),
        allow_null_table: o.flag_or_default("allowNullTable")?,
        columns: columns(&o, &topic)?,
        continues: o.flag_or_default("continue")?,
        condition: o.value("where").map(|value| condition(&o.path_of("where"), value, &topic)).transpose()?,
        rows,
        zip,
        format: format(&o)?,
        compression: match o.word_or_default("compression")? {
            "gzip" => PayloadCompression::Gzip,
            "zlib" => PayloadCompression::Zlib,
            "zstd" => PayloadCompression::Zstd,
            "auto" => PayloadCompression::Auto,
            _ => PayloadCompression::None,
        },
        edge_nodes: EdgeNodes::within(memory.share() as usize),
        max_payload_bytes: memory.within_share(&o, "maxPayloadBytes")? as usize,
        max_decoded_bytes: memory.share() as usize,
        nulls: o.texts("nulls")?.into_iter().map(|(_, text)| text).collect(),
        nan: match o.word_or_default("nan")? {
            "null" => Nan::Null,
            "value" => Nan::Value,
            _ => Nan::Reject,
        },
        reject_unknown_fields: o.word_or_default("unknownFields")? == "reject",
        zero_missing_fields: o.word_or_default("missingFields")? == "zero",
        transform: transform(&o, &topic)?,
        topic,
    };
    if route.transform.is_none()
        && let Some((name, _)) = route.columns.iter().find(|(_, source)| *source == ColumnSource::Computed)
    {
        let message = "is for a transform, and the route has none";
        return Err(Error::config(format!("{}.{name}.computed", o.path_of("columns")), message));
    }
    o.finish()?;
    Ok(route)
}

fn columns(o: &ObjectReader<'_>, topic: &TopicFilter) -> Result<Vec<(String, ColumnSource)>> {
    let source = |(path, name, value): (String, &str, &Value)| {
        Ok((name.to_string(), column_source(&path, value, topic)?))
    };
    o.record("columns")?.into_iter().map(source).collect()
}

/// The list or members that are rows, or the lists that are zipped.
type RowsOption = (Option<Path>, Vec<(String, Path)>);

fn rows(o: &ObjectReader<'_>) -> Result<RowsOption> {
    let beginning = "must begin at the document: @ is the item that it leads to";
    match o.take("rows")? {
        None => Ok((None, Vec::new())),
        Some(Taken::Text(text)) => {
            let rows = json_path(&text, o.path_of("rows"))?;
            if rows.root == Root::Element {
                return Err(o.wrong("rows", beginning));
            }
            Ok((Some(rows), Vec::new()))
        }
        Some(Taken::Object(_, zip)) => {
            let mut lists = Vec::new();
            for (path, name, value) in zip.record("zip")? {
                let text = value.as_str().ok_or_else(|| Error::config(&path, "must be a path"))?;
                let list = json_path(text, path.clone())?;
                if list.root == Root::Element || !list.is_simple() {
                    return Err(Error::config(path, "must be the path of one list in the document"));
                }
                lists.push((name.to_string(), list));
            }
            zip.finish()?;
            if lists.is_empty() {
                return Err(o.wrong("rows", "needs at least one list to zip"));
            }
            Ok((None, lists))
        }
        Some(_) => Err(o.wrong("rows", "must be a path, or { zip }")),
    }
}

fn format(o: &ObjectReader<'_>) -> Result<Format> {
    let csv = || Csv {
        columns: Vec::new(),
        delimiter: ",".into(),
        has_header: true,
        has_decimal_comma: false,
        pairs: None,
    };
    Ok(match o.take("format")? {
        None | Some(Taken::Word("json")) => Format::Json,
        Some(Taken::Word("text")) => Format::Text,
        Some(Taken::Word("msgpack")) => Format::MessagePack,
        Some(Taken::Word("cbor")) => Format::Cbor,
        Some(Taken::Word("sparkplug")) => Format::Sparkplug,
        Some(Taken::Word(_)) => Format::Csv(csv()),
        Some(Taken::Object(_, p)) if p.has("schema") || p.has("message") => {
            let schema = schema(&p)?;
            let message = p.required_text("message")?;
            p.word("type")?;
            p.finish()?;
            Format::Protobuf(Protobuf { schema, message })
        }
        Some(Taken::Object(_, c)) => {
            let format = Csv {
                columns: c.texts("columns")?.into_iter().map(|(_, name)| name).collect(),
                delimiter: c.text_or_default("delimiter")?,
                has_header: c.flag_or_default("header")?,
                has_decimal_comma: c.word_or_default("decimal")? == ",",
                pairs: c.text("pairs")?,
            };
            c.word("type")?;
            c.finish()?;
            let is_named = !format.columns.is_empty() || format.has_header || format.pairs.is_some();
            if !is_named {
                return Err(o.wrong("format", "needs the names of the values: columns, header or pairs"));
            }
            Format::Csv(format)
        }
        Some(_) => return Err(o.wrong("format", "must be the name of a format")),
    })
}

/// The bytes of a file, or those that a program gave as a Buffer.
fn schema(o: &ObjectReader<'_>) -> Result<Arc<[u8]>> {
    let text = o.required_text("schema")?;
    let bytes = match text.strip_prefix("data:;base64,") {
        Some(encoded) => STANDARD.decode(encoded).map_err(|_| o.wrong("schema", "is not base64"))?,
        None => std::fs::read(&text)
            .map_err(|error| o.wrong("schema", format!("{text} cannot be read: {error}")))?,
    };
    Ok(bytes.into())
}

/// `at` is the option that has the path.
fn json_path(text: &str, at: String) -> Result<Path> {
    Path::parse(text).map_err(|message| Error::config(at, format!("{message}, in the path {text:?}")))
}

pub fn column_source(path: &str, value: &Value, topic: &TopicFilter) -> Result<ColumnSource> {
    if value.is_string() || value.is_array() {
        let (path, other_paths) = paths(value, path)?;
        let reading = Reading { other_paths, ..Reading::default() };
        return Ok(ColumnSource::Path { path, default: None, unit: Unit::Auto, fields: Vec::new(), reading });
    }
    if !value.is_object() {
        return Err(Error::config(path, "must be an object"));
    }
    let Some(Taken::Object(form, o)) = Taken::of(path, value, &COLUMN_SOURCES)? else {
        let message = "must be a path, or have one of path, key, topic, meta, userProperty, value, computed";
        return Err(Error::config(path, message));
    };
    let source = match form {
        "path" => path_source(&o)?,
        "key" => {
            let path = json_path(&o.required_text("key")?, o.path_of("key"))?;
            let is_member = path.root == Root::Element && path.segments.is_empty();
            if path.segments.last() != Some(&Segment::AnyField) && !is_member {
                return Err(o.wrong("key", "must end with *, or be @"));
            }
            let reading = Reading { is_key: true, ..Reading::default() };
            ColumnSource::Path { path, default: None, unit: Unit::Auto, fields: Vec::new(), reading }
        }
        "topic" => {
            let name = o.required_text("topic")?;
            if !topic.names().any(|n| n == name) {
                return Err(o.wrong("topic", format!("the route's topic has no {{{name}}}")));
            }
            ColumnSource::Topic(name)
        }
        "meta" => ColumnSource::Meta(match o.word("meta")? {
            Some("topic") => Meta::Topic,
            Some("receivedAt") => Meta::ReceivedAt,
            Some("payload") => Meta::Payload,
            Some("qos") => Meta::Qos,
            Some("retain") => Meta::Retain,
            _ => Meta::ClientId,
        }),
        "computed" => match o.flag_or_default("computed")? {
            true => ColumnSource::Computed,
            false => return Err(o.wrong("computed", "must be true, or left out")),
        },
        "userProperty" => ColumnSource::UserProperty(o.required_text("userProperty")?),
        _ => ColumnSource::Value(o.value("value").cloned().unwrap_or_default()),
    };
    o.finish()?;
    Ok(source)
}

fn path_source(o: &ObjectReader<'_>) -> Result<ColumnSource> {
    let (path, other_paths) = match o.value("path") {
        Some(value) => paths(value, &o.path_of("path"))?,
        None => return Err(o.wrong("path", "is required")),
    };
    let unit = match o.word_or_default("unit")? {
        "s" => Unit::Seconds,
        "ms" => Unit::Milliseconds,
        "us" => Unit::Microseconds,
        "ns" => Unit::Nanoseconds,
        _ => Unit::Auto,
    };
    let default = o.value("default").cloned();
    let fields = o.texts("fields")?.into_iter().map(|(_, name)| name).collect();
    let number = |name: &str| -> Result<Option<String>> {
        match o.take(name)? {
            Some(Taken::Number(number)) => Ok(Some(number.to_string())),
            _ => Ok(None),
        }
    };
    let reading = Reading {
        other_paths,
        is_key: false,
        nulls: o.texts("nulls")?.into_iter().map(|(_, text)| text).collect(),
        map: o.record("map")?.into_iter().map(|(_, name, value)| (name.to_string(), value.clone())).collect(),
        parse: o.word("parse")?.map(|word| match word {
            "json" => Parse::Json,
            "base64" => Parse::Base64,
            "hex" => Parse::Hex,
            _ => Parse::Number,
        }),
        scale: number("scale")?,
        offset: number("offset")?,
    };
    Ok(ColumnSource::Path { path, default, unit, fields, reading })
}

/// One path, or a list of them of which the first counts that is there.
pub fn paths(value: &Value, at: &str) -> Result<(Path, Vec<Path>)> {
    let one = |value: &Value, at: String| {
        let text = value.as_str().ok_or_else(|| Error::config(&at, "must be a path"))?;
        let path = json_path(text, at.clone())?;
        if path.segments.contains(&Segment::EachItem) {
            return Err(Error::config(at, "[*] is for rows: a column takes one value, or a whole list"));
        }
        Ok(path)
    };
    let Some(list) = value.as_array() else { return Ok((one(value, at.into())?, Vec::new())) };
    let mut paths = Vec::new();
    for (place, value) in list.iter().enumerate() {
        paths.push(one(value, format!("{at}[{place}]"))?);
    }
    if paths.is_empty() {
        return Err(Error::config(at, "must not be an empty list"));
    }
    let first = paths.remove(0);
    Ok((first, paths))
}
