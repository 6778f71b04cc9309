//! Where a column's value comes from: one source of `routes[].columns`, or of the inputs of a transform.

use serde_json::Value;

use crate::config::lookup::{LookupSource, lookup_source};
use crate::config::object_reader::ObjectReader;
use crate::config::schema::COLUMN_SOURCES;
use crate::config::taken::Taken;
use crate::core::error::{Error, Result};
use crate::core::json_path::{Path, Root, Segment};
use crate::core::lookups::Lookups;
use crate::core::topic_filter::TopicFilter;

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
    Lookup(LookupSource),
    /// The transform of the route fills it.
    Computed,
}

/// `at` is the option that has the path.
pub fn json_path(text: &str, at: String) -> Result<Path> {
    Path::parse(text).map_err(|message| Error::config(at, format!("{message}, in the path {text:?}")))
}

/// `lookups` are those of the configuration: one that the source names is noted there.
pub fn column_source(
    path: &str,
    value: &Value,
    topic: &TopicFilter,
    lookups: &Lookups,
) -> Result<ColumnSource> {
    if value.is_string() || value.is_array() {
        let (path, other_paths) = paths(value, path)?;
        let reading = Reading { other_paths, ..Reading::default() };
        return Ok(ColumnSource::Path { path, default: None, unit: Unit::Auto, fields: Vec::new(), reading });
    }
    if !value.is_object() {
        return Err(Error::config(path, "must be an object"));
    }
    let Some(Taken::Object(form, o)) = Taken::of(path, value, &COLUMN_SOURCES)? else {
        let message =
            "must be a path, or have one of path, lookup, key, topic, meta, userProperty, value, computed";
        return Err(Error::config(path, message));
    };
    let source = match form {
        "path" => path_source(&o)?,
        "lookup" => ColumnSource::Lookup(lookup_source(&o, topic, lookups)?),
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
