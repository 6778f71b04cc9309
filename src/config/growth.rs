//! `routes[].schema`: whether a table gets a column for a field that no column takes.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use crate::config::object_reader::ObjectReader;
use crate::config::schema::ADD_COLUMNS;
use crate::core::error::Result;

/// When a table gets a column, and how many.
#[derive(Debug, Clone)]
pub struct Growth {
    /// A field becomes a column when this number of sampled messages had it.
    pub after_messages: u32,
    /// The most columns that are added to the table.
    pub max_columns: u32,
    /// Set when the table gets no more: for all that decode for the route.
    is_over: Arc<AtomicBool>,
}

impl Growth {
    pub fn is_over(&self) -> bool {
        self.is_over.load(Ordering::Relaxed)
    }

    pub fn end(&self) {
        self.is_over.store(true, Ordering::Relaxed);
    }
}

/// `None`: the table stays as it is.
pub fn growth(o: &ObjectReader<'_>) -> Result<Option<Growth>> {
    let grows = o.word_or_default("schema")? == "add-columns";
    if !grows && o.has("addColumns") {
        return Err(o.wrong("addColumns", "is for schema: 'add-columns'"));
    }
    let section = o.section("addColumns")?.unwrap_or_else(|| ObjectReader::empty(&ADD_COLUMNS));
    let growth = Growth {
        after_messages: section.integer_or_default("afterMessages")? as u32,
        max_columns: section.integer_or_default("maxColumns")? as u32,
        is_over: Arc::default(),
    };
    section.finish()?;
    if grows && o.word_or_default("unknownFields")? == "reject" {
        let message = "'add-columns' and unknownFields: 'reject' exclude each other: a message with a field that no column \
                       takes would be a dead letter";
        return Err(o.wrong("schema", message));
    }
    Ok(grows.then_some(growth))
}
