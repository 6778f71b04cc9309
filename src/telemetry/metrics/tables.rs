//! Counters by table.

use super::{Recorder, Table, get};

/// Tables with counters of their own: each is three time series. The others are counted together.
pub const MAX_TABLES: usize = 1000;
/// How the others are called. No table of ClickHouse's that needs no quotes has this name.
pub const OTHER_TABLES: &str = "(other)";

impl Recorder {
    /// Has counters for a table, if it has none yet.
    pub fn add_table(&self, table: String) {
        let is_known = self.tables.iter().any(|(name, _)| *name == table);
        match self.tables.len() {
            _ if is_known => {}
            0..MAX_TABLES => _ = self.tables.push((table, Table::default())),
            MAX_TABLES => _ = self.tables.push((OTHER_TABLES.into(), Table::default())),
            _ => {}
        }
    }

    /// The counters of a table; of tables beyond [`MAX_TABLES`] they are the same.
    pub fn table(&self, name: &str) -> Option<&Table> {
        let others = || self.tables.get(MAX_TABLES);
        self.tables.iter().find(|(n, _)| n == name).or_else(others).map(|(_, table)| table)
    }

    /// When ClickHouse last confirmed an INSERT into each table, in milliseconds since 1970.
    pub fn last_inserts(&self) -> impl Iterator<Item = (&str, u64)> {
        self.tables.iter().map(|(name, table)| (name.as_str(), get(&table.last_insert_time)))
    }

    pub(super) fn is_other(&self, name: &str) -> bool {
        !self.tables.iter().take(MAX_TABLES).any(|(known, _)| known == name)
    }
}
