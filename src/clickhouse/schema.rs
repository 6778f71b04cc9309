//! Reads the columns and engines of tables, at start and now and then again.

use serde::{Deserialize, Serialize};

use crate::clickhouse::ColumnType;
use crate::clickhouse::client::Server;
use crate::clickhouse::dedup::TableRow;
use crate::clickhouse::query::{Answer, MAX_ANSWER, Query};
use crate::clickhouse::shard_key;
use crate::config::Route;
use crate::core::error::{Error, Result};

mod insert_sql;
pub mod remembered;

pub use insert_sql::RepairSql;
pub(super) use insert_sql::escaped;

/// The expression by which ClickHouse describes an EPHEMERAL column that was declared without one.
pub(super) const NO_EXPRESSION: &str = "defaultValueOfTypeName(";

/// A column of a table as ClickHouse describes it.
#[derive(Debug, Clone)]
pub struct TableColumn {
    pub name: String,
    pub column_type: ColumnType,
    /// The expression ClickHouse computes when no value is given.
    pub default: Option<String>,
    /// Given to the DEFAULTs of other columns, and not stored.
    pub is_ephemeral: bool,
    /// Added to the table while the pipeline ran, and not mapped: messages without it get the type's zero, as those of
    /// other clients that do not name the column.
    pub is_added: bool,
}

/// A table that a route fills.
#[derive(Debug, Clone)]
pub struct Table {
    database: String,
    name: String,
    /// The server's time zone.
    zone: String,
    /// All columns, as ClickHouse describes them.
    described: Vec<ColumnRow>,
    /// The columns that are filled.
    pub columns: Vec<TableColumn>,
    /// Whether rows that a view refused can be isolated without storing any twice.
    pub supports_bisect: bool,
    /// Whether a crash can leave a token whose rows are gone: see [`RepairSql`].
    may_lose_rows: bool,
    /// Whether it has the engine Null, and if so, whether no view reads it.
    discards: Option<bool>,
    /// `None`: the user may not see it, or no server was asked.
    row: Option<TableRow>,
}

/// The description of a table by ClickHouse, from which [`Table`] follows.
#[derive(Debug, Clone, Deserialize, Serialize)]
pub struct TableFacts {
    database: String,
    name: String,
    /// The server's time zone.
    zone: String,
    columns: Vec<ColumnRow>,
    row: Option<TableRow>,
}

/// A row of `system.columns`.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, Serialize)]
pub struct ColumnRow {
    pub name: String,
    #[serde(rename = "type")]
    pub column_type: String,
    pub default_kind: String,
    pub default_expression: String,
    /// Only [`SchemaClient::columns`] asks for it: another comment does not make it another column.
    #[serde(default)]
    pub comment: String,
}

#[derive(Deserialize)]
struct ZoneRow {
    zone: String,
}

/// A connection to ask questions over: the first server that answers.
pub struct SchemaClient {
    pub server: Server,
    zone: String,
    database: String,
}

impl SchemaClient {
    /// Tries the servers in order. The error is that of the first: it is what the user meant.
    pub async fn connect(servers: &[Server], database: &str) -> Result<SchemaClient> {
        let mut first_error = None;
        for server in servers {
            match rows::<ZoneRow>(server, "SELECT timezone() AS zone", &[]).await {
                Ok(zones) => {
                    let zone = zones.into_iter().next().map_or_else(|| "UTC".into(), |row| row.zone);
                    return Ok(SchemaClient { server: server.clone(), zone, database: database.into() });
                }
                Err(error) => first_error = first_error.or(Some(error)),
            }
        }
        Err(first_error.unwrap_or_else(|| Error::config("clickhouse.url", "is required")))
    }

    /// Asks a server that has answered before about a table that is known.
    pub fn again(server: &Server, database: &str, table: &Table) -> SchemaClient {
        SchemaClient { server: server.clone(), zone: table.zone.clone(), database: database.into() }
    }

    /// Reads the columns that a route can fill. `path` is the route's, such as `routes[0]`.
    pub async fn table(&self, path: &str, route: &Route) -> Result<Table> {
        let described = self.describe(&route.table).await?;
        self.complete(path, route, described, None).await
    }

    /// The table, if it is not any more as it was.
    pub async fn changed_table(&self, path: &str, route: &Route, before: &Table) -> Result<Option<Table>> {
        let described = self.describe(&route.table).await?;
        if described == before.described {
            return Ok(None);
        }
        self.complete(path, route, described, Some(before)).await.map(Some)
    }

    async fn describe(&self, table: &str) -> Result<Vec<ColumnRow>> {
        let (database, name) = self.split(table);
        let sql = "SELECT name, type, default_kind, default_expression FROM system.columns WHERE database = ? AND table = ? ORDER BY position";
        self.rows(sql, &[database, name]).await
    }

    async fn complete(
        &self,
        path: &str,
        route: &Route,
        described: Vec<ColumnRow>,
        before: Option<&Table>,
    ) -> Result<Table> {
        let (database, name) = self.split(&route.table);
        if described.is_empty() {
            return Err(Error::TableNotFound {
                path: route.table_option(path),
                table: format!("{database}.{name}"),
            });
        }
        let facts = TableFacts {
            database: database.into(),
            name: name.into(),
            zone: self.zone.clone(),
            columns: described,
            row: self.table_row(database, name).await?,
        };
        Table::of_facts(path, route, facts, before)
    }

    /// Whether a table of the engine Null has lost its last view, or has one again. `None`: it has another engine.
    pub async fn discards(&self, table: &Table) -> Result<Option<bool>> {
        if table.discards.is_none() {
            return Ok(None);
        }
        let row = self.table_row(&table.database, &table.name).await?;
        Ok(row.filter(TableRow::is_null).map(|row| !row.has_views()))
    }

    /// All columns of a table, with the comments that people wrote.
    pub async fn columns(&self, table: &str) -> Result<Vec<ColumnRow>> {
        let (database, name) = self.split(table);
        let sql = "SELECT name, type, default_kind, default_expression, comment FROM system.columns \
                   WHERE database = ? AND table = ? ORDER BY position";
        self.rows(sql, &[database, name]).await
    }

    /// Checks that a table has these columns. `path` is that of the option which names the table.
    pub async fn check(&self, path: &str, table: &str, columns: impl Iterator<Item = &str>) -> Result<()> {
        let (database, name) = self.split(table);
        let there = self.describe(table).await?;
        if there.is_empty() {
            return Err(Error::TableNotFound { path: path.into(), table: format!("{database}.{name}") });
        }
        for column in columns {
            if !there.iter().any(|c| c.name == column) {
                return Err(Error::ColumnNotFound {
                    path: path.into(),
                    column: column.into(),
                    table: format!("{database}.{name}"),
                });
            }
        }
        Ok(())
    }

    /// The database and the name of `table` or `database.table`.
    pub fn split<'t>(&'t self, table: &'t str) -> (&'t str, &'t str) {
        table.split_once('.').unwrap_or((&self.database, table))
    }

    /// Begins to read what a SELECT gives, in a binary format.
    pub async fn read(&self, sql: &str) -> Result<Answer> {
        let params = [("database", &*self.database), ("default_format", "RowBinary")];
        Query { sql, params: &params }.send(&self.server).await
    }

    /// Runs a statement that gives no rows.
    pub async fn execute(&self, sql: &str) -> Result<()> {
        let params = [("database", &*self.database)];
        Query { sql, params: &params }.read(&self.server, MAX_ANSWER).await.map(drop)
    }

    /// The rows of a SELECT; each `?` stands for a value.
    pub async fn rows<T: for<'de> Deserialize<'de>>(&self, sql: &str, values: &[&str]) -> Result<Vec<T>> {
        rows(&self.server, sql, values).await
    }
}

impl Table {
    /// The columns that a route can fill. `path` is the route's, such as `routes[0]`; `before` is the table as it was while the
    /// pipeline ran.
    pub fn of_facts(path: &str, route: &Route, facts: TableFacts, before: Option<&Table>) -> Result<Table> {
        let TableFacts { database, name, zone, columns: described, row } = facts;
        // Where a filled column is gone, another one may be its new name: rows without their values would be worse than
        // messages that say so.
        let is_widened = before.is_some_and(|table| {
            table.columns.iter().all(|known| described.iter().any(|column| column.name == known.name))
        });
        let mut known = Vec::new();
        for column in described.clone() {
            // MATERIALIZED and ALIAS columns are computed: they are not ours to send.
            let is_ephemeral = column.default_kind == "EPHEMERAL";
            let default = match column.default_kind.as_str() {
                "" => None,
                "EPHEMERAL" if column.default_expression.starts_with(NO_EXPRESSION) => None,
                "DEFAULT" | "EPHEMERAL" => Some(column.default_expression),
                _ => continue,
            };
            match ColumnType::parse_column(&column.column_type, &zone) {
                Ok(column_type) => {
                    let is_added = is_widened
                        && before.is_some_and(|table| !table.had(&column.name))
                        && !route.columns.iter().any(|(name, _)| *name == column.name);
                    known.push(TableColumn {
                        name: column.name,
                        column_type,
                        default,
                        is_ephemeral,
                        is_added,
                    });
                }
                // A column with a DEFAULT that no option maps need not be sent. When a table changes, a
                // filled column must not get lost, and a new one must not stop the stream.
                Err(_)
                    if before.map_or(default.is_some(), |table| !table.fills(&column.name))
                        && !route.columns.iter().any(|(name, _)| *name == column.name) => {}
                Err(advice) => {
                    return Err(Error::ColumnUnsupported {
                        path: format!("{path}.columns.{}", column.name),
                        column: column.name,
                        column_type: column.column_type,
                        advice,
                    });
                }
            }
        }
        if known.is_empty() {
            return Err(Error::config(
                route.table_option(path),
                format!("{database}.{name} has no column to fill"),
            ));
        }
        check_shard_key(route, &known, &format!("{database}.{name}"))?;
        let supports_bisect = row.as_ref().is_some_and(TableRow::keeps_once);
        let mut table = Table {
            database,
            name,
            zone,
            described,
            columns: known,
            supports_bisect: false,
            may_lose_rows: row.as_ref().is_some_and(TableRow::may_lose_rows),
            discards: row.as_ref().filter(|row| row.is_null()).map(|row| !row.has_views()),
            row,
        };
        table.supports_bisect = supports_bisect && !table.is_filled_by_select();
        Ok(table)
    }

    /// A table that a CREATE TABLE describes: no server is asked, and times without a zone are in `zone`.
    pub fn created(
        path: &str,
        route: &Route,
        (database, name): (&str, &str),
        zone: &str,
        described: &[ColumnRow],
    ) -> Result<Table> {
        let columns = described.to_vec();
        let facts = TableFacts {
            database: database.into(),
            name: name.into(),
            zone: zone.into(),
            columns,
            row: None,
        };
        Table::of_facts(path, route, facts, None)
    }

    /// The description it was made of.
    pub fn facts(&self) -> TableFacts {
        TableFacts {
            database: self.database.clone(),
            name: self.name.clone(),
            zone: self.zone.clone(),
            columns: self.described.clone(),
            row: self.row.clone(),
        }
    }

    /// Refuses a table that would confirm and discard each row, unless the route allows it.
    pub fn check_keeps_rows(&self, path: &str, route: &Route) -> Result<()> {
        if self.discards != Some(true) || route.allow_null_table {
            return Ok(());
        }
        let table = format!("{}.{}", self.database, self.name);
        Err(Error::TableDiscards { path: route.table_option(path), table })
    }

    /// Whether it has a column of this name, also one that is not filled.
    pub fn has_column(&self, name: &str) -> bool {
        self.described.iter().any(|described| described.name == name)
    }

    /// The names of all its columns, also of those that are not filled.
    pub fn column_names(&self) -> impl Iterator<Item = &str> {
        self.described.iter().map(|described| described.name.as_str())
    }

    /// Whether a column was there when the pipeline started.
    fn had(&self, column: &str) -> bool {
        self.described.iter().any(|described| described.name == column)
            && !self.columns.iter().any(|known| known.name == column && known.is_added)
    }

    /// The columns without NULL and DEFAULT that were added while the pipeline ran, and were not there in `before`.
    pub fn added_since<'t>(&'t self, before: &Table) -> impl Iterator<Item = &'t str> {
        let is_required = |column: &&TableColumn| {
            column.is_added && column.default.is_none() && !column.column_type.nullable
        };
        let added = self.columns.iter().filter(is_required);
        added
            .map(|column| column.name.as_str())
            .filter(|name| !before.columns.iter().any(|column| column.name == *name))
            .collect::<Vec<_>>()
            .into_iter()
    }

    /// A table that no server was asked about: for benchmarks of what comes before one.
    #[doc(hidden)]
    pub fn assumed(columns: Vec<TableColumn>) -> Table {
        Table {
            database: String::new(),
            name: String::new(),
            zone: "UTC".into(),
            described: Vec::new(),
            columns,
            supports_bisect: true,
            may_lose_rows: true,
            discards: None,
            row: None,
        }
    }

    /// Its database and its name.
    pub fn full_name(&self) -> (&str, &str) {
        (&self.database, &self.name)
    }

    fn fills(&self, column: &str) -> bool {
        self.columns.iter().any(|c| c.name == column)
    }

    pub fn is_like(&self, other: &Table) -> bool {
        self.described == other.described
    }

    /// The differences from `before`, for people to read.
    pub fn changes_since(&self, before: &Table) -> String {
        let mut changes = Vec::new();
        for old in &before.described {
            let ColumnRow { name, .. } = old;
            match self.described.iter().find(|new| new.name == *name) {
                None => changes.push(format!("{name} is gone")),
                Some(new) if new != old => changes.push(format!("{name} was {old} and is {new}")),
                Some(_) => {}
            }
        }
        for new in
            self.described.iter().filter(|new| !before.described.iter().any(|old| old.name == new.name))
        {
            let ColumnRow { name, default_kind, .. } = new;
            let consequence = match self.columns.iter().find(|column| column.name == *name) {
                Some(column)
                    if column.default.is_none() && !column.column_type.nullable && !column.is_added =>
                {
                    ", and is required: messages without it become dead letters unless missingFields says otherwise"
                }
                None if matches!(default_kind.as_str(), "" | "DEFAULT" | "EPHEMERAL") => {
                    ", a type that is not supported: it is left to ClickHouse"
                }
                _ => "",
            };
            changes.push(format!("{name} is new, {new}{consequence}"));
        }
        if changes.is_empty() { "the order of its columns".into() } else { changes.join("; ") }
    }
}

impl std::fmt::Display for ColumnRow {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.column_type)?;
        match self.default_kind.as_str() {
            "" => Ok(()),
            kind => write!(f, " {kind} {}", self.default_expression),
        }
    }
}

/// Refuses a table whose rows cannot be divided by shard.
fn check_shard_key(route: &Route, columns: &[TableColumn], table: &str) -> Result<()> {
    for key in &route.shard_key {
        let Some(column) = columns.iter().find(|column| column.name == key.name) else {
            let (path, column) = (key.path.clone(), key.name.clone());
            return Err(Error::ColumnNotFound { path, column, table: table.into() });
        };
        if let Some(advice) = shard_key::refusal(&column.column_type, column.default.is_some()) {
            return Err(Error::ColumnUnsupported {
                path: key.path.clone(),
                column: format!("{table}.{}", key.name),
                column_type: column.column_type.inner_name.clone(),
                advice: advice.into(),
            });
        }
    }
    Ok(())
}

/// The rows of a SELECT; each `?` stands for a value.
pub(super) async fn rows<T: for<'de> Deserialize<'de>>(
    server: &Server,
    sql: &str,
    values: &[&str],
) -> Result<Vec<T>> {
    let mut texts = values.iter();
    let parts = sql.split('?').map(String::from);
    let sql = parts
        .reduce(|sql, part| format!("{sql}'{}'{part}", escaped(texts.next().copied().unwrap_or_default())))
        .unwrap_or_default();
    let params = [("default_format", "JSONEachRow")];
    let text = Query { sql: &sql, params: &params }.read(server, MAX_ANSWER).await?;
    serde_json::Deserializer::from_slice(&text).into_iter().collect::<Result<_, _>>().map_err(|error| {
        Error::ClickHouseAnswer { url: server.url.clone(), message: format!("no JSON came back: {error}") }
    })
}

#[cfg(test)]
impl Table {
    /// The table `d.t` with these columns, their types and defaults; no server was asked.
    pub fn of(columns: &[(&str, &str, Option<&str>)]) -> Table {
        let described = columns.iter().map(|(name, column_type, default)| ColumnRow {
            name: name.to_string(),
            column_type: column_type.to_string(),
            default_kind: if default.is_some() { "DEFAULT".into() } else { String::new() },
            default_expression: default.unwrap_or_default().into(),
            comment: String::new(),
        });
        let known = columns.iter().map(|(name, column_type, default)| TableColumn {
            name: name.to_string(),
            column_type: ColumnType::parse_column(column_type, "UTC").unwrap(),
            default: default.map(String::from),
            is_ephemeral: false,
            is_added: false,
        });
        Table {
            database: "d".into(),
            name: "t".into(),
            zone: "UTC".into(),
            described: described.collect(),
            columns: known.collect(),
            supports_bisect: true,
            may_lose_rows: true,
            discards: None,
            row: None,
        }
    }
}
