//! `routes[].dedupe` and `routes[].deadband`: rows that are dropped for those before them.

use std::collections::HashSet;
use std::sync::Arc;
use std::time::Duration;

use crate::config::object_reader::ObjectReader;
use crate::core::error::{Error, Result};
use crate::core::recent_keys::RecentKeys;

/// Drops rows whose key was there already.
#[derive(Debug, Clone)]
pub struct Dedupe {
    /// The columns of the key.
    pub by: Vec<String>,
    /// How long a key counts, from the row on that was kept.
    pub window: Duration,
    pub keys: Arc<RecentKeys<()>>,
}

/// Drops rows whose value has not changed enough.
#[derive(Debug, Clone)]
pub struct Deadband {
    pub column: String,
    /// The largest change that counts as none.
    pub delta: f64,
    /// The columns of the key: values are compared with those of the same key. Empty: with all of the route.
    pub by: Vec<String>,
    /// After so long a row is kept whatever its value. `None`: never for that reason.
    pub every: Option<Duration>,
    pub keys: Arc<RecentKeys<Quantity>>,
}

/// A value as rows are compared by it.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Quantity {
    /// An integer, or the digits of a Decimal.
    Integer(i128),
    Float(f64),
}

pub fn dedupe(route: &ObjectReader<'_>) -> Result<Option<Dedupe>> {
    let Some(o) = route.section("dedupe")? else { return Ok(None) };
    let dedupe = Dedupe {
        by: columns(&o, "by")?,
        window: o.duration_or_default("windowMs")?,
        keys: RecentKeys::new(o.integer_or_default("maxKeys")? as usize),
    };
    o.finish()?;
    Ok(Some(dedupe))
}

pub fn deadband(route: &ObjectReader<'_>) -> Result<Option<Deadband>> {
    let Some(o) = route.section("deadband")? else { return Ok(None) };
    let deadband = Deadband {
        column: o.required_text("column")?,
        delta: o.required_number("delta")?,
        by: columns(&o, "by")?,
        every: o.integer("everyMs")?.map(Duration::from_millis),
        keys: RecentKeys::new(o.integer_or_default("maxKeys")? as usize),
    };
    if let Some(at) = deadband.by.iter().position(|column| *column == deadband.column) {
        let message =
            format!("is the column that is compared: each value of {} would be a key", deadband.column);
        return Err(Error::config(format!("{}[{at}]", o.path_of("by")), message));
    }
    o.finish()?;
    Ok(Some(deadband))
}

/// The columns of a key, each once.
pub fn columns(o: &ObjectReader<'_>, option: &str) -> Result<Vec<String>> {
    let by = o.texts(option)?;
    let mut known = HashSet::new();
    for (path, column) in &by {
        if column.is_empty() {
            return Err(Error::config(path, "must not be empty: the name of a column"));
        }
        if !known.insert(column) {
            return Err(Error::config(path, format!("names {column} a second time")));
        }
    }
    Ok(by.into_iter().map(|(_, column)| column).collect())
}
