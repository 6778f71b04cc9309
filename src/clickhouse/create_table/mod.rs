//! Tables from the statements that create them, where no ClickHouse is asked: for the tests of a service.
//!
//! - A text may hold a migration: statements that create no table are passed over. One that changes the columns of a table is an
//!   error, since the columns would be others.
//! - Types are given the names that `system.columns` has for them, so that they are read by the same code.
//! - Expressions are kept as they are written: only ClickHouse computes them.

mod parser;
pub(super) mod tokens;
mod types;

use serde::Serialize;

use crate::clickhouse::schema::ColumnRow;
use crate::core::error::{Error, Result};

/// The table of one statement.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct CreatedTable {
    pub database: Option<String>,
    pub name: String,
    pub columns: Vec<ColumnRow>,
    /// Where the statement begins, in bytes.
    #[serde(skip)]
    at: usize,
}

/// A mistake in a text, and its place in bytes.
#[derive(Debug, PartialEq, Eq)]
pub struct Fault {
    at: usize,
    message: String,
}

impl Fault {
    fn new(at: usize, message: impl Into<String>) -> Fault {
        Fault { at, message: message.into() }
    }
}

/// The tables of texts. `path` names the texts in errors: `schema`, or `schema[1]` of several.
pub fn created_tables(path: &str, texts: &[String]) -> Result<Vec<CreatedTable>> {
    let mut all: Vec<CreatedTable> = Vec::new();
    for (place, text) in texts.iter().enumerate() {
        let path = if texts.len() > 1 { format!("{path}[{place}]") } else { path.into() };
        let located = |fault: Fault| {
            let (line, column) = line_and_column(text, fault.at);
            Error::SchemaInvalid { path: path.clone(), line, column, message: fault.message }
        };
        let tables = parser::Parser::new(text).and_then(parser::Parser::statements).map_err(located)?;
        for table in tables {
            if all.iter().any(|other| other.database == table.database && other.name == table.name) {
                return Err(located(Fault::new(
                    table.at,
                    format!("the table {} is created twice", table.name),
                )));
            }
            all.push(table);
        }
    }
    Ok(all)
}

/// The table that a route names, which may stand without its database. One that is created without a database is in any.
pub fn find<'t>(tables: &'t [CreatedTable], database: &str, name: &str) -> Option<&'t CreatedTable> {
    let named = |own: Option<&str>| {
        tables.iter().find(|table| table.name == name && table.database.as_deref() == own)
    };
    named(Some(database)).or_else(|| named(None))
}

/// Both from 1; a column is a character.
fn line_and_column(text: &str, at: usize) -> (usize, usize) {
    let before = &text[..at.min(text.len())];
    let line_start = before.rfind('\n').map_or(0, |newline| newline + 1);
    (before.matches('\n').count() + 1, before[line_start..].chars().count() + 1)
}

#[cfg(test)]
mod tests;
