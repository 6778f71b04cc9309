//! `routes[]`: topics, the tables that they fill, and where each column's value comes from.

use serde_json::Value;

use crate::config::object_reader::ObjectReader;
use crate::config::schema::COLUMN_SOURCES;
use crate::config::taken::Taken;
use crate::core::error::{Error, Result};
use crate::core::json_path::{Path, Root};
use crate::core::topic_filter::TopicFilter;

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

pub fn route(o: ObjectReader<'_>) -> Result<Route> {
    let topic =
        TopicFilter::parse(&o.required_text("topic")?).map_err(|message| o.wrong("topic", message))?;
    let route = Route {
        table: o.required_text("table")?,
        columns: columns(&o, &topic)?,
        rows: rows(&o)?,
        reject_unknown_fields: o.word_or_default("unknownFields")? == "reject",
        zero_missing_fields: o.word_or_default("missingFields")? == "zero",
        topic,
    };
    o.finish()?;
    Ok(route)
}

fn columns(o: &ObjectReader<'_>, topic: &TopicFilter) -> Result<Vec<(String, ColumnSource)>> {
    let source = |(path, name, value): (String, &str, &Value)| {
        Ok((name.to_string(), column_source(&path, value, topic)?))
    };
    o.record("columns")?.into_iter().map(source).collect()
}

fn rows(o: &ObjectReader<'_>) -> Result<Option<Path>> {
    let Some(text) = o.text("rows")? else { return Ok(None) };
    let rows = json_path(&text, o.path_of("rows"))?;
    if rows.root == Root::Element {
        return Err(o.wrong("rows", "must begin at the document: @ is the item that it leads to"));
    }
    Ok(Some(rows))
}

/// `at` is the option that has the path.
fn json_path(text: &str, at: String) -> Result<Path> {
    Path::parse(text).map_err(|message| Error::config(at, format!("{message}, in the path {text:?}")))
}

fn column_source(path: &str, value: &Value, topic: &TopicFilter) -> Result<ColumnSource> {
    if let Some(text) = value.as_str() {
        let path = json_path(text, path.into())?;
        return Ok(ColumnSource::Path { path, default: None, unit: Unit::Auto, fields: Vec::new() });
    }
    if !value.is_object() {
        return Err(Error::config(path, "must be an object"));
    }
    let Some(Taken::Object(form, o)) = Taken::of(path, value, &COLUMN_SOURCES)? else {
        let message = "must be a path, or have one of path, topic, meta, userProperty, value";
        return Err(Error::config(path, message));
    };
    let source = match form {
        "path" => path_source(&o)?,
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
        "userProperty" => ColumnSource::UserProperty(o.required_text("userProperty")?),
        _ => ColumnSource::Value(o.value("value").cloned().unwrap_or_default()),
    };
    o.finish()?;
    Ok(source)
}

fn path_source(o: &ObjectReader<'_>) -> Result<ColumnSource> {
    let text = o.required_text("path")?;
    let unit = match o.word_or_default("unit")? {
        "s" => Unit::Seconds,
        "ms" => Unit::Milliseconds,
        "us" => Unit::Microseconds,
        "ns" => Unit::Nanoseconds,
        _ => Unit::Auto,
    };
    let default = o.value("default").cloned();
    let fields = o.texts("fields")?.into_iter().map(|(_, name)| name).collect();
    Ok(ColumnSource::Path { path: json_path(&text, o.path_of("path"))?, default, unit, fields })
}
