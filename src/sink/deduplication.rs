//! Whether ClickHouse recognises an INSERT that is made again: the table itself, and each table that a materialized view
//! behind it fills, since every one of them remembers INSERTs for itself or not at all.

use std::collections::{BTreeMap, BTreeSet};

use serde::Deserialize;

use super::tables::Inspector;
use crate::columns::quote;
use crate::error::Result;

/// A table as `system.tables` has it.
#[derive(Debug, Deserialize)]
pub(super) struct TableRow {
    engine: String,
    engine_full: String,
    /// Views that are fed by what is inserted here.
    dependencies_database: Vec<String>,
    dependencies_table: Vec<String>,
    /// Of a materialized view, where it puts its rows. Older servers do not say.
    #[serde(default)]
    target_database: String,
    #[serde(default)]
    target_table: String,
    /// What the server has for tables that say nothing.
    plain_window: String,
    replicated_window: String,
}

/// Why a table does not recognise an INSERT.
struct Forgetful {
    /// The view that fills it, where that is not a route.
    view: Option<String>,
    setting: &'static str,
}

const PLAIN: &str = "non_replicated_deduplication_window";
const REPLICATED: &str = "replicated_deduplication_window";

impl Inspector {
    pub(super) async fn table_row(&self, database: &str, name: &str) -> Result<Option<TableRow>> {
        let sql = "SELECT engine, engine_full, dependencies_database, dependencies_table, \
                   COLUMNS('^target_(database|table)$'), \
                   (SELECT value FROM system.merge_tree_settings WHERE name = \
                   'non_replicated_deduplication_window') AS plain_window, \
                   (SELECT value FROM system.replicated_merge_tree_settings WHERE name = \
                   'replicated_deduplication_window') AS replicated_window \
                   FROM system.tables WHERE database = ? AND name = ?";
        Ok(self.rows(sql, &[database, name]).await?.into_iter().next())
    }

    /// What to tell of tables that can get rows twice when an INSERT into one of `tables` is made again.
    pub async fn doubts(&self, tables: impl Iterator<Item = &str>) -> Result<Vec<String>> {
        let mut found = BTreeMap::new();
        for table in tables {
            self.collect_forgetful(table, &mut found).await?;
        }
        Ok(found.iter().map(|(table, forgetful)| forgetful.advice(table)).collect())
    }

    async fn collect_forgetful(&self, table: &str, found: &mut BTreeMap<String, Forgetful>) -> Result<()> {
        let (database, name) = self.split(table);
        let mut seen = BTreeSet::new();
        let mut next = vec![(database.to_owned(), name.to_owned(), None)];
        while let Some((database, name, view)) = next.pop() {
            // Views may lead back to where they came from. What we are not allowed to see is not there.
            if !seen.insert((database.clone(), name.clone())) {
                continue;
            }
            let Some(row) = self.table_row(&database, &name).await? else { continue };
            if let Some(setting) = row.missing_setting() {
                let table = format!("{}.{}", quote(&database), quote(&name));
                found.entry(table).or_insert(Forgetful { view, setting });
            }
            for (database, view) in row.dependencies_database.into_iter().zip(row.dependencies_table) {
                if let Some(row) = self.table_row(&database, &view).await?
                    && !row.target_table.is_empty()
                {
                    let view = format!("{}.{}", quote(&database), quote(&view));
                    next.push((row.target_database, row.target_table, Some(view)));
                }
            }
        }
        Ok(())
    }
}

impl Forgetful {
    fn advice(&self, table: &str) -> String {
        let Forgetful { view, setting } = self;
        let filled = view.as_ref().map(|view| format!(", which the view {view} fills,")).unwrap_or_default();
        format!(
            "{table}{filled} does not recognise an INSERT that is made again, so a lost answer can double rows: \
             ALTER TABLE {table} MODIFY SETTING {setting} = 1000"
        )
    }
}

impl TableRow {
    pub fn deduplicates(&self) -> bool {
        self.missing_setting().is_none()
    }

    /// Whether what is sent under the token of an earlier INSERT is certainly not stored again. Where that is not known, as
    /// behind a `Distributed` table, it is not relied on.
    pub fn keeps_once(&self) -> bool {
        self.engine == "Null" || (self.engine.ends_with("MergeTree") && self.deduplicates())
    }

    /// The window that is 0. A plain MergeTree forgets what it inserted unless it is told to remember, a replicated one
    /// remembers unless it is told to forget; other engines are not ours to judge.
    fn missing_setting(&self) -> Option<&'static str> {
        if !self.engine.ends_with("MergeTree") || !self.engine_full.contains("MergeTree") {
            return None;
        }
        let is_replicated = self.engine.starts_with("Replicated") || self.engine.starts_with("Shared");
        let (setting, of_server) = match is_replicated {
            true => (REPLICATED, &self.replicated_window),
            false => (PLAIN, &self.plain_window),
        };
        // With the space before it, one name is no part of the other.
        let window = match self.engine_full.split_once(&format!(" {setting} = ")) {
            Some((_, rest)) => rest.chars().take_while(char::is_ascii_digit).collect(),
            None => of_server.clone(),
        };
        (window.parse() == Ok(0)).then_some(setting)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_merge_tree_deduplicates_only_with_a_window() {
        let missing = |engine: &str, settings: &str, plain: &str, replicated: &str| {
            let row = TableRow {
                engine: engine.into(),
                engine_full: format!("{engine} ORDER BY a SETTINGS {settings}, index_granularity = 8192"),
                dependencies_database: Vec::new(),
                dependencies_table: Vec::new(),
                target_database: String::new(),
                target_table: String::new(),
                plain_window: plain.into(),
                replicated_window: replicated.into(),
            };
            row.missing_setting()
        };
        assert_eq!(missing("MergeTree", "a = 1", "0", "10000"), Some(PLAIN));
        assert_eq!(missing("MergeTree", "non_replicated_deduplication_window = 100", "0", "0"), None);
        assert_eq!(missing("MergeTree", "non_replicated_deduplication_window = 0", "5", "0"), Some(PLAIN));
        assert_eq!(missing("SummingMergeTree", "a = 1", "100", "0"), None);
        let replicated = "ReplicatedMergeTree";
        assert_eq!(missing(replicated, "a = 1", "0", "10000"), None);
        assert_eq!(missing(replicated, "non_replicated_deduplication_window = 0", "0", "10000"), None);
        assert_eq!(
            missing(replicated, "replicated_deduplication_window = 0", "0", "10000"),
            Some(REPLICATED)
        );
        assert_eq!(missing("Distributed", "a = 1", "0", "0"), None);
        assert_eq!(missing("Null", "a = 1", "0", "0"), None);
    }
}
