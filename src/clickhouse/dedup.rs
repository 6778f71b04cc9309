//! Whether ClickHouse recognises an INSERT that is made again: the table itself, and each table that a materialized view
//! behind it fills, since every one of them remembers INSERTs for itself or not at all.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};

use crate::clickhouse::error_class::ACCESS_DENIED;
use crate::clickhouse::quote;
use crate::clickhouse::schema::SchemaClient;
use crate::core::error::{Error, Result};

/// A table as `system.tables` has it.
#[derive(Debug, Clone, Deserialize, Serialize)]
pub struct TableRow {
    engine: String,
    engine_full: String,
    /// Views that are fed by what is inserted here.
    dependencies_database: Vec<String>,
    dependencies_table: Vec<String>,
    /// The target of a materialized view. Older servers do not report it.
    #[serde(default)]
    target_database: String,
    #[serde(default)]
    target_table: String,
    /// The server's default for tables without the setting. `None`: the user may not read it.
    #[serde(default)]
    plain_window: Option<String>,
    #[serde(default)]
    replicated_window: Option<String>,
}

/// A table that rows of an INSERT reach: the one it names, or one that a materialized view behind that fills.
#[derive(Debug)]
pub struct InsertTarget {
    database: String,
    name: String,
    pub engine: String,
    /// The database and the name of the view.
    view: Option<(String, String)>,
    /// How many INSERTs it remembers; `None` where that is not ours to judge.
    pub window: Option<u64>,
    /// The setting that says so.
    setting: &'static str,
}

const PLAIN: &str = "non_replicated_deduplication_window";
const REPLICATED: &str = "replicated_deduplication_window";
/// ClickHouse's default for a plain table.
const PLAIN_DEFAULT: &str = "0";

impl SchemaClient {
    pub(super) async fn table_row(&self, database: &str, name: &str) -> Result<Option<TableRow>> {
        let windows = format!(
            ", (SELECT value FROM system.merge_tree_settings WHERE name = '{PLAIN}') AS plain_window, \
             (SELECT value FROM system.replicated_merge_tree_settings WHERE name = '{REPLICATED}') AS replicated_window"
        );
        let rows = async |windows: &str| {
            let sql = format!(
                "SELECT engine, engine_full, dependencies_database, dependencies_table, \
                 COLUMNS('^target_(database|table)$'){windows} FROM system.tables WHERE database = ? AND name = ?"
            );
            self.rows::<TableRow>(&sql, &[database, name]).await
        };
        let found = match rows(&windows).await {
            // A user that may insert and nothing else.
            Err(Error::ClickHouseRejected { exception: Some(ACCESS_DENIED), .. }) => rows("").await?,
            found => found?,
        };
        Ok(found.into_iter().next())
    }

    /// The tables that can get rows twice when an INSERT into one of `tables` is made again, each with a message that says so.
    pub async fn warnings(&self, tables: impl Iterator<Item = &str>) -> Result<Vec<(String, String)>> {
        let mut found = BTreeMap::new();
        for table in tables {
            for reached in self.reached(table).await? {
                if reached.lacks_window() {
                    found.entry(reached.quoted()).or_insert(reached);
                }
            }
        }
        let warnings = found
            .values()
            .map(|reached| (reached.table(), format!("{}: {}", reached.doubt(), reached.remedy())));
        Ok(warnings.collect())
    }

    /// All tables that an INSERT into `table` reaches, itself first.
    pub async fn reached(&self, table: &str) -> Result<Vec<InsertTarget>> {
        let (database, name) = self.split(table);
        let mut reached = Vec::new();
        let mut seen = BTreeSet::new();
        let mut next = vec![(database.to_owned(), name.to_owned(), None)];
        while let Some((database, name, view)) = next.pop() {
            // Views may lead back to where they came from. A table that the user may not see does not
            // appear.
            if !seen.insert((database.clone(), name.clone())) {
                continue;
            }
            let Some(row) = self.table_row(&database, &name).await? else { continue };
            let (setting, window) = row.window().unzip();
            let setting = setting.unwrap_or(PLAIN);
            let engine = row.engine.clone();
            for (database, view) in row.dependencies_database.into_iter().zip(row.dependencies_table) {
                if let Some(row) = self.table_row(&database, &view).await?
                    && !row.target_table.is_empty()
                {
                    next.push((row.target_database, row.target_table, Some((database, view))));
                }
            }
            reached.push(InsertTarget { database, name, engine, view, window, setting });
        }
        Ok(reached)
    }
}

impl InsertTarget {
    pub fn table(&self) -> String {
        format!("{}.{}", self.database, self.name)
    }

    /// The view that fills it.
    pub fn view(&self) -> Option<String> {
        self.view.as_ref().map(|(database, name)| format!("{database}.{name}"))
    }

    /// Whether it does not recognise an INSERT that is made again.
    pub fn lacks_window(&self) -> bool {
        self.window == Some(0)
    }

    pub fn doubt(&self) -> String {
        let view = self.view.as_ref().map(|(database, name)| quoted(database, name));
        let filled = view.map(|view| format!(", which the view {view} fills,")).unwrap_or_default();
        format!(
            "{}{filled} does not recognise an INSERT that is made again, so a lost answer can double rows",
            self.quoted()
        )
    }

    /// The statement that makes it remember.
    pub fn remedy(&self) -> String {
        format!("ALTER TABLE {} MODIFY SETTING {} = 1000", self.quoted(), self.setting)
    }

    fn quoted(&self) -> String {
        quoted(&self.database, &self.name)
    }
}

fn quoted(database: &str, name: &str) -> String {
    format!("{}.{}", quote(database), quote(name))
}

impl TableRow {
    /// Whether it stores nothing, and feeds whatever views there are.
    pub fn is_null(&self) -> bool {
        self.engine == "Null"
    }

    pub fn has_views(&self) -> bool {
        !self.dependencies_table.is_empty()
    }

    /// Whether rows under the token of an earlier INSERT are certainly not stored again. Where that is
    /// not known, as behind a `Distributed` table, it is not relied on.
    pub fn keeps_once(&self) -> bool {
        self.engine == "Null" || self.window().is_some_and(|(_, window)| window > 0)
    }

    /// Whether a crash of the server can leave a token behind whose rows are gone. A replicated table notes both at once in
    /// Keeper; an engine that joins or replaces rows does not have them as they were sent.
    pub fn may_lose_rows(&self) -> bool {
        self.engine == "MergeTree" && self.keeps_once()
    }

    /// How many INSERTs it remembers, and what says so. A plain MergeTree recognises no INSERT unless
    /// the setting is given, a replicated one does unless the setting is 0. Other engines are not
    /// judged.
    fn window(&self) -> Option<(&'static str, u64)> {
        if !self.engine.ends_with("MergeTree") || !self.engine_full.contains("MergeTree") {
            return None;
        }
        let is_replicated = self.engine.starts_with("Replicated") || self.engine.starts_with("Shared");
        let (setting, of_server) = match is_replicated {
            true => (REPLICATED, self.replicated_window.as_deref().unwrap_or_default()),
            false => (PLAIN, self.plain_window.as_deref().unwrap_or(PLAIN_DEFAULT)),
        };
        // With the space before it, neither name is part of the other.
        let window = match self.engine_full.split_once(&format!(" {setting} = ")) {
            Some((_, rest)) => rest.chars().take_while(char::is_ascii_digit).collect(),
            None => of_server.to_owned(),
        };
        window.parse().ok().map(|window| (setting, window))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_merge_tree_deduplicates_only_with_a_window() {
        let row = |engine: &str, settings: &str, plain: Option<&str>, replicated: Option<&str>| TableRow {
            engine: engine.into(),
            engine_full: format!("{engine} ORDER BY a SETTINGS {settings}, index_granularity = 8192"),
            dependencies_database: Vec::new(),
            dependencies_table: Vec::new(),
            target_database: String::new(),
            target_table: String::new(),
            plain_window: plain.map(Into::into),
            replicated_window: replicated.map(Into::into),
        };
        let missing = |engine: &str, settings: &str, plain: &str, replicated: &str| {
            let row = row(engine, settings, Some(plain), Some(replicated));
            row.window().filter(|(_, window)| *window == 0).map(|(setting, _)| setting)
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
        // The tables of ClickHouse Cloud are replicated.
        assert_eq!(missing("SharedMergeTree", "a = 1", "0", "10000"), None);
        assert_eq!(missing("Distributed", "a = 1", "0", "0"), None);
        assert_eq!(missing("Null", "a = 1", "0", "0"), None);

        // Where we may not ask the server.
        let own = row("MergeTree", "non_replicated_deduplication_window = 9", None, None);
        assert!(own.keeps_once());
        assert_eq!(row("MergeTree", "a = 1", None, None).window(), Some((PLAIN, 0)));
        let unknown = row(replicated, "a = 1", None, None);
        assert_eq!((unknown.window(), unknown.keeps_once()), (None, false));
    }
}
