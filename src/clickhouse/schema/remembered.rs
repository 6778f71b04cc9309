//! The tables of a pipeline as ClickHouse described them last, in a file of the spool's directory: with them a start
//! needs no ClickHouse.
//!
//! ```text
//! tables.json   { "version": 1, "readAt": "2026-11-30T12:00:00Z",
//!                 "tables": [ { "database", "name", "zone", "columns", "row" } ],
//!                 "deadLettersTable": "dead_letters" | null }
//! ```
//!
//! Each start that ClickHouse answers writes it anew, and so does each change of a table while a pipeline runs. It is only read:
//! no acknowledgement depends on it. A file that cannot be read or is of another version counts as none.

use std::fs;
use std::io::{self, Write};
use std::path::Path;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::clickhouse::schema::{Table, TableFacts};
use crate::config::Route;
use crate::core::error::Result;
use crate::core::fs::sync_directory;

pub const FILE: &str = "tables.json";
const NEW_FILE: &str = "tables.json.new";
const VERSION: u32 = 1;

/// Whether a file of the directory is one of these.
pub fn is_file_name(name: &str) -> bool {
    [FILE, NEW_FILE].contains(&name)
}

#[derive(Debug, Deserialize, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct RememberedTables {
    version: u32,
    /// When ClickHouse was asked, by RFC 3339.
    pub read_at: String,
    tables: Vec<TableFacts>,
    /// The table of the dead letters, which was there and had its columns.
    pub dead_letters_table: Option<String>,
}

impl RememberedTables {
    /// As ClickHouse describes them now.
    pub fn new(tables: Vec<TableFacts>, dead_letters_table: Option<String>) -> RememberedTables {
        RememberedTables {
            version: VERSION,
            read_at: Timestamp::now().to_string(),
            tables,
            dead_letters_table,
        }
    }

    pub fn read(dir: &Path) -> Option<RememberedTables> {
        let text = fs::read(dir.join(FILE)).ok()?;
        let remembered: RememberedTables = serde_json::from_slice(&text).ok()?;
        (remembered.version == VERSION).then_some(remembered)
    }

    /// Replaces the file of the directory: after a crash the former one is there, or this one.
    pub fn write(&self, dir: &Path) -> io::Result<()> {
        let new = dir.join(NEW_FILE);
        let mut file = fs::File::create(&new)?;
        file.write_all(&serde_json::to_vec_pretty(self)?)?;
        file.sync_all()?;
        fs::rename(new, dir.join(FILE))?;
        sync_directory(dir)
    }

    /// The table of a route; `database` is that of tables without one. `None`: it is not among these.
    pub fn table(&self, route: &Route, database: &str) -> Option<Result<Table>> {
        let (database, name) = route.table.split_once('.').unwrap_or((database, &route.table));
        let facts = self.tables.iter().find(|facts| facts.database == database && facts.name == name)?;
        Some(Table::of_facts(&route.path, route, facts.clone(), None))
    }
}

impl Table {
    /// In the place of a table that messages choose: without columns.
    pub fn unknown(name: &str) -> Table {
        Table {
            database: String::new(),
            name: name.into(),
            zone: "UTC".into(),
            described: Vec::new(),
            columns: Vec::new(),
            supports_bisect: false,
            may_lose_rows: false,
            discards: None,
            row: None,
        }
    }
}
