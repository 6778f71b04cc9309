//! Columns that are filled from maps of the program's: the source `{ lookup, key, field }`, and the maps that a
//! configuration brings along.

use std::sync::Arc;

use serde_json::Value;

use crate::config::ceiling::Ceiling;
use crate::config::column_source::paths;
use crate::config::object_reader::ObjectReader;
use crate::config::route::file;
use crate::config::schema::CONFIGURED_LOOKUPS;
use crate::config::taken::Taken;
use crate::core::error::{Error, Result};
use crate::core::json_path::Path;
use crate::core::lookups::{Lookup, Lookups};
use crate::core::topic_filter::TopicFilter;

#[derive(Debug, Clone)]
pub struct LookupSource {
    pub lookup: Arc<Lookup>,
    /// `None`: the value of the entry itself.
    pub field: Option<String>,
    /// Its place in the maps.
    pub place: usize,
    pub key: LookupKey,
    pub default: Option<Value>,
}

/// Where a message has the key.
#[derive(Debug, Clone, PartialEq)]
pub enum LookupKey {
    Path(Path),
    /// A named level of the topic.
    Level(String),
    Topic,
    ClientId,
    UserProperty(String),
}

impl PartialEq for LookupSource {
    fn eq(&self, other: &LookupSource) -> bool {
        self.lookup.name() == other.lookup.name()
            && (&self.field, &self.key, &self.default) == (&other.field, &other.key, &other.default)
    }
}

pub fn lookup_source(o: &ObjectReader<'_>, topic: &TopicFilter, lookups: &Lookups) -> Result<LookupSource> {
    let name = o.required_text("lookup")?;
    let key = key(o, topic)?;
    let field = o.text("field")?;
    let (lookup, place) = lookups.ask(&name, field.as_deref());
    Ok(LookupSource { lookup, place, field, key, default: o.value("default").cloned() })
}

/// A text is read as a column of that name is filled: from the topic if it has the name, else from the payload.
fn key(o: &ObjectReader<'_>, topic: &TopicFilter) -> Result<LookupKey> {
    match o.take("key")? {
        None => Err(o.wrong("key", "is required")),
        Some(Taken::Text(name)) if topic.names().any(|level| level == name) => Ok(LookupKey::Level(name)),
        Some(Taken::Text(text)) => Ok(LookupKey::Path(paths(&Value::String(text), &o.path_of("key"))?.0)),
        Some(Taken::Object(form, k)) => {
            let key = match form {
                "path" => {
                    let text = k.required_text("path")?;
                    LookupKey::Path(paths(&Value::String(text), &k.path_of("path"))?.0)
                }
                "topic" => {
                    let name = k.required_text("topic")?;
                    if !topic.names().any(|level| level == name) {
                        return Err(k.wrong("topic", format!("the route's topic has no {{{name}}}")));
                    }
                    LookupKey::Level(name)
                }
                "meta" => match k.word("meta")? {
                    Some("topic") => LookupKey::Topic,
                    _ => LookupKey::ClientId,
                },
                _ => LookupKey::UserProperty(k.required_text("userProperty")?),
            };
            k.finish()?;
            Ok(key)
        }
        Some(_) => Err(o.wrong("key", "must be a path, or have one of path, topic, meta, userProperty")),
    }
}

/// Reads `lookups`: the maps that are there from the beginning.
pub fn lookups(root: &ObjectReader<'_>, lookups: &Lookups, memory: Ceiling) -> Result<()> {
    for (path, name, value) in root.record("lookups")? {
        let Some(lookup) = lookups.get(name) else {
            return Err(Error::config(path, "no column is filled from it"));
        };
        let Some(Taken::Object(form, o)) = Taken::of(&path, value, &CONFIGURED_LOOKUPS)? else {
            return Err(Error::config(path, "must have one of file, entries"));
        };
        let (at, text) = match form {
            "file" => {
                let text = o.required_text("file")?;
                // A Buffer of the program's comes as the text that it holds.
                let text = match text.trim_start().starts_with('{') {
                    true => text,
                    false => String::from_utf8(file(&o, "file")?.to_vec())
                        .map_err(|_| o.wrong("file", "is not UTF-8"))?,
                };
                (o.path_of("file"), text)
            }
            _ => {
                let entries = o.value("entries").map_or_else(String::new, Value::to_string);
                (o.path_of("entries"), entries)
            }
        };
        o.finish()?;
        let set = lookups.set_configured(&lookup, &at, &text, memory.bytes as usize);
        set.map_err(|error| match error {
            Error::LookupTooLarge { .. } => Error::config(&at, error.to_string()),
            error => error,
        })?;
    }
    Ok(())
}
