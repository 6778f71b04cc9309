//! What the tables are like: asked once, at start.

use clickhouse::Client;
use clickhouse::query::BytesCursor;
use serde::Deserialize;

use super::answer;
use crate::columns::ColumnType;
use crate::config::Route;
use crate::decode::TableColumn;
use crate::error::{Error, Result};

/// A table that a route fills.
#[derive(Debug, Clone)]
pub struct Table {
    database: String,
    name: String,
    pub columns: Vec<TableColumn>,
    /// Whether ClickHouse recognises an INSERT that is made again.
    pub deduplicates: bool,
}

#[derive(Deserialize)]
struct ColumnRow {
    name: String,
    #[serde(rename = "type")]
    column_type: String,
    default_kind: String,
    default_expression: String,
}

#[derive(Deserialize)]
struct EngineRow {
    engine: String,
    engine_full: String,
    server_window: String,
}

#[derive(Deserialize)]
struct ZoneRow {
    zone: String,
}

/// A connection to ask questions over: the first server that answers.
pub struct Inspector {
    client: Client,
    url: String,
    zone: String,
    database: String,
}

impl Inspector {
    /// Tries the servers in order. The error is that of the first: it is what the user meant.
    pub async fn connect(clients: &[Client], urls: &[String], database: &str) -> Result<Inspector> {
        let mut first_error = None;
        for (client, url) in clients.iter().zip(urls) {
            match rows::<ZoneRow>(client, url, "SELECT timezone() AS zone", &[]).await {
                Ok(zones) => {
                    let zone = zones.into_iter().next().map_or_else(|| "UTC".into(), |row| row.zone);
                    return Ok(Inspector {
                        client: client.clone(),
                        url: url.clone(),
                        zone,
                        database: database.into(),
                    });
                }
                Err(error) => first_error = first_error.or(Some(error)),
            }
        }
        Err(first_error.unwrap_or_else(|| Error::config("clickhouse.url", "is required")))
    }

    /// Reads the columns that a route can fill. `path` is the route's, such as `routes[0]`.
    pub async fn table(&self, path: &str, route: &Route) -> Result<Table> {
        let (database, name) = self.split(&route.table);
        let columns: Vec<ColumnRow> = self
            .rows(
                "SELECT name, type, default_kind, default_expression FROM system.columns WHERE database = ? AND table = ? ORDER BY position",
                &[database, name],
            )
            .await?;
        if columns.is_empty() {
            return Err(Error::TableNotFound {
                path: format!("{path}.table"),
                table: format!("{database}.{name}"),
            });
        }
        let mut known = Vec::new();
        for column in columns {
            // MATERIALIZED and ALIAS columns are computed, EPHEMERAL ones are not kept: none is ours to send.
            let default = match column.default_kind.as_str() {
                "" => None,
                "DEFAULT" => Some(column.default_expression),
                _ => continue,
            };
            match ColumnType::parse(&column.column_type, &self.zone) {
                Ok(column_type) => known.push(TableColumn { name: column.name, column_type, default }),
                // Nothing has to be sent for a column with a DEFAULT that nobody mapped.
                Err(_)
                    if default.is_some() && !route.columns.iter().any(|(name, _)| *name == column.name) => {}
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
                format!("{path}.table"),
                format!("{database}.{name} has no column to fill"),
            ));
        }
        let engines: Vec<EngineRow> = self
            .rows(
                "SELECT engine, engine_full, (SELECT value FROM system.merge_tree_settings WHERE name = \
                 'non_replicated_deduplication_window') AS server_window FROM system.tables WHERE database = ? AND name = ?",
                &[database, name],
            )
            .await?;
        Ok(Table {
            database: database.into(),
            name: name.into(),
            columns: known,
            deduplicates: engines.first().is_none_or(deduplicates),
        })
    }

    /// Checks that a table has these columns. `path` is that of the option which names the table.
    pub async fn check(&self, path: &str, table: &str, columns: impl Iterator<Item = &str>) -> Result<()> {
        let (database, name) = self.split(table);
        let sql = "SELECT name, type, default_kind, default_expression FROM system.columns WHERE database = ? AND table = ?";
        let there: Vec<ColumnRow> = self.rows(sql, &[database, name]).await?;
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
    pub fn read(&self, sql: &str) -> Result<BytesCursor> {
        self.client
            .query(&sql.replace('?', "??"))
            .with_setting("database", &self.database)
            .fetch_bytes("RowBinary")
            .map_err(|error| answer::error(&self.url, error))
    }

    /// What went wrong while reading.
    pub fn error(&self, error: clickhouse::error::Error) -> Error {
        answer::error(&self.url, error)
    }

    /// Runs a statement that gives no rows.
    pub async fn execute(&self, sql: &str) -> Result<()> {
        self.client
            .query(&sql.replace('?', "??"))
            .with_setting("database", &self.database)
            .execute()
            .await
            .map_err(|error| answer::error(&self.url, error))
    }

    async fn rows<T: for<'de> Deserialize<'de>>(&self, sql: &str, values: &[&str]) -> Result<Vec<T>> {
        rows(&self.client, &self.url, sql, values).await
    }
}

impl Table {
    /// The INSERT statement for blocks that declare `heads`: the names and types of this table's columns, in order.
    ///
    /// ClickHouse computes the DEFAULT of a column that gets NULL, unless the column can hold NULL itself. A table with
    /// such a column is filled through a SELECT that puts the expression in place of NULL.
    pub fn insert_sql(&self, heads: &[(String, String)]) -> String {
        let names = heads.iter().map(|(name, _)| quote(name)).collect::<Vec<_>>().join(", ");
        let into = format!("INSERT INTO {}.{} ({names})", quote(&self.database), quote(&self.name));
        if !self.columns.iter().any(|column| column.column_type.nullable && column.default.is_some()) {
            return format!("{into} FORMAT Native");
        }
        let values = self.columns.iter().map(|column| match &column.default {
            Some(default) if column.column_type.nullable => {
                format!("ifNull({}, {default})", quote(&column.name))
            }
            _ => quote(&column.name),
        });
        let values = values.collect::<Vec<_>>().join(", ");
        let structure = heads.iter().map(|(name, column_type)| format!("{} {column_type}", quote(name)));
        let structure = structure.collect::<Vec<_>>().join(", ").replace('\\', "\\\\").replace('\'', "\\'");
        format!("{into} SELECT {values} FROM input('{structure}') FORMAT Native")
    }
}

/// An identifier in backticks: <https://clickhouse.com/docs/sql-reference/syntax#identifiers>.
pub fn quote(name: &str) -> String {
    format!("`{}`", name.replace('\\', "\\\\").replace('`', "\\`"))
}

/// A plain MergeTree forgets what it inserted unless it is told to remember; a Replicated one remembers; other
/// engines are not ours to judge.
fn deduplicates(engine: &EngineRow) -> bool {
    if !engine.engine.ends_with("MergeTree") || !engine.engine_full.contains("MergeTree") {
        return true;
    }
    if engine.engine.starts_with("Replicated") || engine.engine.starts_with("Shared") {
        return true;
    }
    let window = match engine.engine_full.split_once("non_replicated_deduplication_window = ") {
        Some((_, rest)) => rest.chars().take_while(char::is_ascii_digit).collect(),
        None => engine.server_window.clone(),
    };
    window.parse::<u64>().is_ok_and(|window| window > 0)
}

async fn rows<T: for<'de> Deserialize<'de>>(
    client: &Client,
    url: &str,
    sql: &str,
    values: &[&str],
) -> Result<Vec<T>> {
    let query = values.iter().fold(client.query(sql), |query, value| query.bind(*value));
    let mut cursor = query.fetch_bytes("JSONEachRow").map_err(|error| answer::error(url, error))?;
    let mut text = Vec::new();
    while let Some(bytes) = cursor.next().await.map_err(|error| answer::error(url, error))? {
        text.extend_from_slice(&bytes);
    }
    serde_json::Deserializer::from_slice(&text).into_iter().collect::<Result<_, _>>().map_err(|error| {
        Error::ClickHouseUnreachable { url: url.into(), message: format!("no JSON came back: {error}") }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_plain_merge_tree_deduplicates_only_with_a_window() {
        let engine = |engine: &str, full: &str, server: &str| {
            deduplicates(&EngineRow {
                engine: engine.into(),
                engine_full: full.into(),
                server_window: server.into(),
            })
        };
        assert!(!engine("MergeTree", "MergeTree ORDER BY a SETTINGS index_granularity = 8192", "0"));
        assert!(engine(
            "MergeTree",
            "MergeTree ORDER BY a SETTINGS non_replicated_deduplication_window = 100",
            "0"
        ));
        assert!(!engine(
            "MergeTree",
            "MergeTree ORDER BY a SETTINGS non_replicated_deduplication_window = 0",
            "5"
        ));
        assert!(engine("SummingMergeTree", "SummingMergeTree ORDER BY a", "100"));
        assert!(engine("ReplicatedMergeTree", "ReplicatedMergeTree('/a', 'b') ORDER BY a", "0"));
        assert!(engine("Distributed", "Distributed(c, d, t)", "0"));
    }

    #[test]
    fn a_default_of_a_nullable_column_is_put_in_place_of_null() {
        let column = |name: &str, column_type: &str, default: Option<&str>| TableColumn {
            name: name.into(),
            column_type: ColumnType::parse(column_type, "UTC").unwrap(),
            default: default.map(String::from),
        };
        let heads = [("a".to_string(), "DateTime('UTC')".to_string()), ("b".into(), "Nullable(Int8)".into())];
        let mut table = Table {
            database: "d".into(),
            name: "t".into(),
            columns: vec![column("a", "DateTime('UTC')", None), column("b", "Int8", Some("7"))],
            deduplicates: true,
        };
        assert_eq!(table.insert_sql(&heads), "INSERT INTO `d`.`t` (`a`, `b`) FORMAT Native");
        table.columns[1] = column("b", "Nullable(Int8)", Some("7"));
        assert_eq!(
            table.insert_sql(&heads),
            "INSERT INTO `d`.`t` (`a`, `b`) SELECT `a`, ifNull(`b`, 7) FROM \
             input('`a` DateTime(\\'UTC\\'), `b` Nullable(Int8)') FORMAT Native"
        );
    }

    #[test]
    fn identifiers_are_quoted() {
        assert_eq!(quote("a`b\\c"), "`a\\`b\\\\c`");
    }
}
