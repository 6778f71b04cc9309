//! `routes[]`: topics, the tables that they fill, and where each column's value comes from.

use std::sync::Arc;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;

use crate::config::ceiling::Ceiling;
use crate::config::column_source::{ColumnSource, column_source, json_path};
use crate::config::condition::{Condition, condition};
use crate::config::growth::{Growth, growth};
use crate::config::lookup::{LookupKey, LookupSource};
use crate::config::object_reader::ObjectReader;
use crate::config::pivot::{Pivot, pivot};
use crate::config::repeats::{Deadband, Dedupe, deadband, dedupe};
use crate::config::shards::ShardColumn;
use crate::config::sparkplug::asks_rebirth;
use crate::config::table_choice::{TableChoice, table_choice};
use crate::config::taken::Taken;
use crate::config::transform::{Transform, transform};
use crate::core::edge_nodes::EdgeNodes;
use crate::core::error::{Error, Result};
use crate::core::json_path::{Path, Root};
use crate::core::lookups::Lookups;
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
    /// How messages choose their table, whose name `table` is then a template of. `None`: it is `table`.
    pub table_choice: Option<TableChoice>,
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
    /// Whether edge nodes are asked for their BIRTH messages.
    pub asks_rebirth: bool,
    pub reject_unknown_fields: bool,
    pub zero_missing_fields: bool,
    /// Whether the table gets columns for unknown fields.
    pub growth: Option<Growth>,
    /// `None`: a message is a row, or several.
    pub pivot: Option<Pivot>,
    pub dedupe: Option<Dedupe>,
    pub deadband: Option<Deadband>,
    /// `None`: rows are inserted as they were decoded.
    pub transform: Option<Transform>,
    /// The columns that say to which shard a row goes. Empty: there are no shards.
    pub shard_key: Vec<ShardColumn>,
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
            table_choice: None,
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
            asks_rebirth: false,
            reject_unknown_fields: true,
            zero_missing_fields: false,
            growth: None,
            pivot: None,
            dedupe: None,
            deadband: None,
            transform: None,
            shard_key: Vec::new(),
        }
    }

    /// The same for a table that a message has chosen.
    pub fn for_table(&self, table: &str) -> Route {
        Route { table: table.into(), table_choice: None, ..self.clone() }
    }

    /// Whether no other route may take its messages.
    pub fn is_alone(&self) -> bool {
        self.pivot.is_some() || self.table_choice.is_some()
    }

    /// The option for which that is so.
    pub fn alone_option(&self) -> &'static str {
        if self.pivot.is_some() { "pivot" } else { "table" }
    }

    /// Whether rows are dropped for those before them.
    pub fn drops_repeats(&self) -> bool {
        self.dedupe.is_some() || self.deadband.is_some()
    }

    /// Whether both fill the same table from the same topic.
    pub fn is_alike(&self, other: &Route) -> bool {
        self.topic.as_str() == other.topic.as_str() && self.table == other.table
    }

    /// The option that names the table of the route at `path`: an entry of a list where rows are not of messages.
    pub fn table_option(&self, path: &str) -> String {
        if self.format == Format::Rows { path.into() } else { format!("{path}.table") }
    }

    /// The sources that the configuration gives for columns, and for inputs of the transform.
    pub fn sources(&self) -> impl Iterator<Item = (&str, &ColumnSource)> {
        let inputs = self.transform.iter().flat_map(|transform| &transform.inputs);
        let inputs = inputs.map(|input| (input.name.as_str(), &input.source));
        self.columns.iter().map(|(name, source)| (name.as_str(), source)).chain(inputs)
    }

    /// Where the configuration says that a column, or an input of the transform, comes from.
    pub fn source_of(&self, column: &str) -> Option<&ColumnSource> {
        self.sources().find(|(name, _)| *name == column).map(|(_, source)| source)
    }

    /// The names of the topic that fill no column, if `is_column` knows the columns, and that nothing else asks for.
    pub fn unused_names(&self, is_column: impl Fn(&str) -> bool) -> Vec<&str> {
        let is_used = |name: &&str| {
            let asks = |source: &ColumnSource| match source {
                ColumnSource::Topic(used) => used == *name,
                ColumnSource::Lookup(LookupSource { key: LookupKey::Level(used), .. }) => used == *name,
                _ => false,
            };
            let names_column = || self.pivot.as_ref()?.name.and_then(|place| self.topic.names().nth(place));
            let place = self.topic.names().position(|level| level == *name);
            let names_table = || Some(self.table_choice.as_ref()?.reads(place?));
            is_column(name)
                || names_table() == Some(true)
                || names_column() == Some(*name)
                || self.sources().any(|(_, source)| asks(source))
                || self.condition.as_ref().is_some_and(|condition| condition.reads_level(name, &self.topic))
        };
        self.topic.names().filter(|name| !is_used(name)).collect()
    }

    pub fn reads_user_properties(&self) -> bool {
        self.sources().any(|(_, source)| match source {
            ColumnSource::UserProperty(_) => true,
            ColumnSource::Lookup(lookup) => matches!(lookup.key, LookupKey::UserProperty(_)),
            _ => false,
        })
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

/// `lookups` are those of the configuration.
pub fn route(o: ObjectReader<'_>, memory: Ceiling, lookups: &Lookups) -> Result<Route> {
    let topic =
        TopicFilter::parse(&o.required_text("topic")?).map_err(|message| o.wrong("topic", message))?;
    let (rows, zip) = rows(&o)?;
    let route = Route {
        path: o.path_of("topic").trim_end_matches(".topic").into(),
        table_choice: table_choice(&o, &o.required_text("table")?, &topic)?,
        table: o.required_text("table")?,
        qos: o.integer("qos")?.map(|qos| qos as u8),
        allow_null_table: o.flag_or_default("allowNullTable")?,
        columns: columns(&o, &topic, lookups)?,
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
        asks_rebirth: asks_rebirth(&o)?,
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
        growth: growth(&o)?,
        pivot: pivot(&o, &topic)?,
        dedupe: dedupe(&o)?,
        deadband: deadband(&o)?,
        transform: transform(&o, &topic, lookups)?,
        shard_key: Vec::new(),
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

fn columns(
    o: &ObjectReader<'_>,
    topic: &TopicFilter,
    lookups: &Lookups,
) -> Result<Vec<(String, ColumnSource)>> {
    let source = |(path, name, value): (String, &str, &serde_json::Value)| {
        Ok((name.to_string(), column_source(&path, value, topic, lookups)?))
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
            let schema = file(&p, "schema")?;
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

/// The bytes of the file that an option names, or those that a program gave as a Buffer.
pub fn file(o: &ObjectReader<'_>, name: &str) -> Result<Arc<[u8]>> {
    let text = o.required_text(name)?;
    let bytes = match text.strip_prefix("data:;base64,") {
        Some(encoded) => STANDARD.decode(encoded).map_err(|_| o.wrong(name, "is not base64"))?,
        None => {
            std::fs::read(&text).map_err(|error| o.wrong(name, format!("{text} cannot be read: {error}")))?
        }
    };
    Ok(bytes.into())
}
