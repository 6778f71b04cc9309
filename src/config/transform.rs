//! `routes[].transform`, and the options that are for it alone.

use std::time::Duration;

use serde_json::{Value, json};

use crate::config::column_source::{ColumnSource, column_source};
use crate::config::object_reader::ObjectReader;
use crate::config::taken::Taken;
use crate::core::error::{Error, Result};
use crate::core::lookups::Lookups;
use crate::core::topic_filter::TopicFilter;

/// Business logic that a program brings, called with each batch of a route.
#[derive(Debug, Clone, PartialEq)]
pub struct Transform {
    pub code: TransformCode,
    /// Fields that are read for it alone.
    pub inputs: Vec<Input>,
    /// The tables that it may put rows into.
    pub emits: Vec<String>,
    /// A call that takes longer causes a warning.
    pub timeout: Duration,
}

#[derive(Debug, Clone, PartialEq)]
pub enum TransformCode {
    /// A function that the program gave.
    Function,
    /// A module that threads of the pipeline's own load.
    Module { threads: usize },
}

impl Transform {
    /// How many batches it works on at once.
    pub fn threads(&self) -> usize {
        match self.code {
            TransformCode::Function => 1,
            TransformCode::Module { threads } => threads,
        }
    }
}

/// A field that only a transform reads.
#[derive(Debug, Clone, PartialEq)]
pub struct Input {
    pub name: String,
    /// A type of ClickHouse.
    pub type_name: String,
    pub source: ColumnSource,
}

pub fn transform(o: &ObjectReader<'_>, topic: &TopicFilter, lookups: &Lookups) -> Result<Option<Transform>> {
    let threads = match o.value("transform") {
        None => return no_transform(o),
        // JavaScript keeps the function, and says that there is one.
        Some(value) if *value == json!({ "function": true }) => None,
        Some(_) => match o.take("transform")? {
            Some(Taken::Object(_, m)) => {
                m.required_text("module")?;
                m.text("export")?;
                m.value("data");
                let threads = m.integer_or_default("threads")? as usize;
                m.finish()?;
                Some(threads)
            }
            _ => Some(1),
        },
    };
    let mut inputs = Vec::new();
    for (path, name, value) in o.record("inputs")? {
        inputs.push(input(&path, name, value, topic, lookups)?);
    }
    Ok(Some(Transform {
        code: threads.map_or(TransformCode::Function, |threads| TransformCode::Module { threads }),
        inputs,
        emits: o.texts("emits")?.into_iter().map(|(_, table)| table).collect(),
        timeout: o.duration_or_default("transformTimeoutMs")?,
    }))
}

/// Options of a transform say nothing without one.
fn no_transform(o: &ObjectReader<'_>) -> Result<Option<Transform>> {
    for name in ["inputs", "emits", "transformTimeoutMs"] {
        if o.value(name).is_some() {
            return Err(o.wrong(name, "is for a transform, and the route has none"));
        }
    }
    Ok(None)
}

/// `{ path: 'gps.acc', type: 'Float32' }`: a source, and the type that it is read as.
fn input(path: &str, name: &str, value: &Value, topic: &TopicFilter, lookups: &Lookups) -> Result<Input> {
    let mut source = value.clone();
    let type_name = source.as_object_mut().and_then(|source| source.remove("type"));
    let Some(Value::String(type_name)) = type_name else {
        return Err(Error::config(
            path,
            "must be an object with a type, such as { path: 'gps.acc', type: 'Float32' }",
        ));
    };
    let source = match source.as_object() {
        // Nothing but a type: the field of that name.
        Some(source) if source.is_empty() => {
            column_source(path, &Value::String(quoted(name)), topic, lookups)?
        }
        _ => column_source(path, &source, topic, lookups)?,
    };
    if source == ColumnSource::Computed {
        return Err(Error::config(path, "must have a source: a transform reads it"));
    }
    Ok(Input { name: name.into(), type_name, source })
}

/// A name as a path of one field.
fn quoted(name: &str) -> String {
    format!("['{}']", name.replace('\\', "\\\\").replace('\'', "\\'"))
}
