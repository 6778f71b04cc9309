//! The `deadLetters` section.

use crate::config::object_reader::ObjectReader;
use crate::core::error::{Error, Result};

#[derive(Debug, Clone, Default)]
pub struct DeadLetters {
    pub table: Option<String>,
    pub dir: Option<String>,
}

/// `section`: `None` where it was left out.
pub fn dead_letters(section: Option<ObjectReader<'_>>) -> Result<DeadLetters> {
    let Some(o) = section else { return Ok(DeadLetters::default()) };
    let dead_letters = DeadLetters { table: o.text("table")?, dir: o.text("dir")? };
    if dead_letters.table.is_some() && dead_letters.dir.is_some() {
        return Err(o.wrong("dir", "cannot be combined with table: choose one place"));
    }
    if dead_letters.table.as_deref() == Some("") || dead_letters.dir.as_deref() == Some("") {
        return Err(Error::config("deadLetters", "table and dir must not be empty"));
    }
    o.finish()?;
    Ok(dead_letters)
}
