//! Describes the tables of a configuration for programs that use them.
//!
//! The checks are those of a start: what a pipeline could not fill is an error here too. The decoder
//! itself says which fields a message needs.

use std::collections::BTreeSet;

use serde::{Deserialize, Serialize};

use crate::clickhouse::aggregate::Aggregate;
use crate::clickhouse::schema::ColumnRow;
use crate::clickhouse::{ColumnType, Kind};
use crate::config::{Config, Route};
use crate::core::error::{Error, Result};
use crate::core::json_path::Path;
use crate::core::thread::{run_on, runtime};
use crate::decode::{ColumnBinding, Decoder, ValueSource};
use crate::pipeline::stages::{check_reachable, inspect, no_answer};

/// A route and its table.
#[derive(Debug, Serialize)]
pub struct Description {
    /// Where the payload has the list of rows, if the route has `rows`.
    pub rows: Option<Path>,
    /// All of them, also those that are not ours to send, in the order of the table.
    pub columns: Vec<Described>,
}

#[derive(Debug, Serialize)]
pub struct Described {
    #[serde(flatten)]
    pub column: ColumnRow,
    /// The type in the table; `None` for what cannot be filled from JSON.
    pub stored: Option<JsonType>,
    /// The type of the values that states are made of, as ClickHouse writes it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub values: Option<String>,
    /// The type in a message; `None` if it is not ours to send.
    pub input: Option<JsonType>,
    /// Whether a message must have it.
    pub required: bool,
    /// Where its value comes from; `None` if it is not ours to send.
    pub source: Option<ValueSource>,
}

/// A type, as far as JSON shows it.
#[derive(Debug, PartialEq, Serialize)]
pub struct JsonType {
    pub kind: &'static str,
    pub nullable: bool,
    /// The items of an array, the values of a map, the elements of a tuple, the alternatives of a
    /// variant.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub parts: Vec<JsonType>,
    /// The names of an enum, in the order of their numbers, or of the elements of a tuple.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub names: Vec<String>,
}

/// Asks ClickHouse about the table of each route, in their order.
pub fn describe(config: &Config) -> Result<Vec<Description>> {
    check_reachable(&config.routes)?;
    let ask = async {
        let schema = inspect(&config.clickhouse).await?;
        let mut descriptions = Vec::new();
        for route in &config.routes {
            let path = route.path.clone();
            let named = first_named(route)?;
            let route = named.as_ref().unwrap_or(route);
            let table = schema.table(&path, route).await?;
            let decoder = Decoder::new(&path, route, &table.columns)?;
            let columns = schema.columns(&route.table).await?;
            let mut columns: Vec<_> = columns.into_iter().map(|column| described(column, &decoder)).collect();
            if route.pivot.is_some() {
                // A message is a part of a row.
                columns.iter_mut().for_each(|column| column.required = false);
            }
            descriptions.push(Description { rows: route.rows.clone(), columns });
        }
        Ok(descriptions)
    };
    run_on(runtime()?, async {
        tokio::time::timeout(config.clickhouse.request_timeout, ask)
            .await
            .unwrap_or_else(|_| Err(no_answer(&config.clickhouse)))
    })
}

/// The route for the first table that its messages may choose by name. `None`: they choose none.
fn first_named(route: &Route) -> Result<Option<Route>> {
    let Some(choice) = &route.table_choice else { return Ok(None) };
    match choice.named().next() {
        Some(table) => Ok(Some(route.for_table(table))),
        None => {
            let message = "names no table that could be described: add one without a *";
            Err(Error::config(format!("{}.tables.allow", route.path), message))
        }
    }
}

/// A table and the columns that rows of it fill.
#[derive(Debug, Serialize)]
pub struct TakenTable {
    /// As a route names it.
    table: String,
    columns: Vec<TakenColumn>,
}

#[derive(Debug, Serialize)]
struct TakenColumn {
    #[serde(flatten)]
    column: ColumnRow,
    /// The type in a message; `None` for a type that cannot be filled from JSON.
    input: Option<JsonType>,
}

#[derive(Deserialize)]
struct TableColumnRow {
    table: String,
    #[serde(flatten)]
    column: ColumnRow,
}

/// Asks ClickHouse about all tables of the databases that the configuration names, but for views.
pub fn tables(config: &Config) -> Result<Vec<TakenTable>> {
    let own = &config.clickhouse.database;
    let named = config.all_routes().filter_map(|route| route.table.split_once('.'));
    let databases: BTreeSet<&str> = named.map(|(database, _)| database).chain([own.as_str()]).collect();
    let ask = async {
        let schema = inspect(&config.clickhouse).await?;
        let mut tables: Vec<TakenTable> = Vec::new();
        for database in databases {
            let sql = "SELECT table, name, type, default_kind, default_expression, comment FROM system.columns \
                       WHERE database = ? AND default_kind IN ('', 'DEFAULT', 'EPHEMERAL') AND table IN \
                       (SELECT name FROM system.tables WHERE database = ? AND engine NOT LIKE '%View' \
                       AND engine != 'Dictionary' AND NOT startsWith(name, '.')) ORDER BY table, position";
            for TableColumnRow { table, column } in
                schema.rows::<TableColumnRow>(sql, &[database, database]).await?
            {
                let name = if database == own { table } else { format!("{database}.{table}") };
                let input = ColumnType::parse_column(&column.column_type, "UTC").ok().map(|own| shape(&own));
                let taken = TakenColumn { input, column };
                match tables.last_mut().filter(|last| last.table == name) {
                    Some(last) => last.columns.push(taken),
                    None => tables.push(TakenTable { table: name, columns: vec![taken] }),
                }
            }
        }
        Ok(tables)
    };
    run_on(runtime()?, async {
        tokio::time::timeout(config.clickhouse.request_timeout, ask)
            .await
            .unwrap_or_else(|_| Err(no_answer(&config.clickhouse)))
    })
}

fn described(column: ColumnRow, decoder: &Decoder) -> Described {
    let binding = decoder.binding(&column.name);
    Described {
        stored: ColumnType::parse(&column.column_type, "UTC").ok().map(|stored| shape(&stored)),
        input: binding.map(|binding| {
            let mut input = shape(binding.column_type());
            // A block may carry as Nullable what a message must have.
            input.nullable &= !binding.is_required();
            input
        }),
        values: Aggregate::parse(&column.column_type).map(|aggregate| aggregate.value_type()),
        required: binding.is_some_and(ColumnBinding::is_required),
        source: binding.map(|binding| binding.source().clone()),
        column,
    }
}

fn shape(column_type: &ColumnType) -> JsonType {
    let mut names = Vec::new();
    let mut parts = Vec::new();
    let kind = match &column_type.kind {
        Kind::Bool => "Bool",
        // Types that a number of JavaScript holds exactly.
        Kind::Int { bytes: 1..=4, .. } | Kind::Float32 | Kind::Float64 | Kind::BFloat16 => "Number",
        Kind::Int { .. } | Kind::Decimal { .. } => "Wide",
        Kind::String => "String",
        Kind::FixedString(_) | Kind::Uuid | Kind::Ipv4 | Kind::Ipv6 => "Text",
        Kind::Date | Kind::Date32 | Kind::DateTime { .. } | Kind::DateTime64 { .. } => "Time",
        Kind::Time { .. } => "TimeOfDay",
        Kind::Enum8(all) | Kind::Enum16(all) => {
            names = all.names();
            "Enum"
        }
        Kind::Json(_) => "Json",
        Kind::Dynamic { .. } => "Dynamic",
        Kind::QBit { .. } => {
            parts.push(JsonType { kind: "Number", nullable: false, parts: Vec::new(), names: Vec::new() });
            "Array"
        }
        Kind::Array(items) => {
            parts.push(shape(items));
            "Array"
        }
        Kind::Map(sides) => {
            parts.push(shape(&sides[1]));
            "Map"
        }
        Kind::Tuple(elements) => {
            parts.extend(elements.iter().map(|element| shape(&element.column_type)));
            let all: Option<_> = elements.iter().map(|element| element.name.clone()).collect();
            names = all.unwrap_or_default();
            "Tuple"
        }
        Kind::Variant(types) => {
            parts.extend(types.iter().map(shape));
            "Variant"
        }
    };
    // A Variant and a Dynamic know NULL by themselves.
    let nullable = column_type.nullable || column_type.kind.holds_null();
    JsonType { kind, nullable, parts, names }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_shape_has_what_json_shows() {
        let of = |name: &str| shape(&ColumnType::parse(name, "UTC").unwrap());
        let plain =
            |kind: &'static str| JsonType { kind, nullable: false, parts: Vec::new(), names: Vec::new() };
        assert_eq!(of("LowCardinality(Nullable(String))"), JsonType { nullable: true, ..plain("String") });
        assert_eq!(of("Decimal(9, 2)"), plain("Wide"));
        assert_eq!(of("Dynamic"), JsonType { nullable: true, ..plain("Dynamic") });
        assert_eq!(
            of("Enum8('b' = 1, 'it\\'s' = -1)"),
            JsonType { names: vec!["it's".into(), "b".into()], ..plain("Enum") }
        );
        let named = JsonType {
            parts: vec![plain("Number"), plain("Time")],
            names: vec!["a".into(), "b c".into()],
            ..plain("Tuple")
        };
        assert_eq!(of("Nested(a UInt8, `b c` Date)"), JsonType { parts: vec![named], ..plain("Array") });
        let point = JsonType { parts: vec![plain("Number"), plain("Number")], ..plain("Tuple") };
        assert_eq!(of("Map(String, Point)"), JsonType { parts: vec![point], ..plain("Map") });
    }
}
