//! `clickhouse.shards`: which columns say to which server a row goes.

use serde_json::Value;

use crate::config::object_reader::ObjectReader;
use crate::config::route::Route;
use crate::core::error::{Error, Result};

/// A column of a sharding key, with the path of the option that names it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ShardColumn {
    pub path: String,
    pub name: String,
}

/// Each URL is a shard.
#[derive(Debug, Clone)]
pub struct Shards {
    key: Vec<ShardColumn>,
    /// Tables with a key of their own, each with the path of its option.
    tables: Vec<(String, String, Vec<ShardColumn>)>,
}

impl Shards {
    /// Gives a route the key of its table.
    pub fn give_key(&self, database: &str, route: &mut Route) {
        let own = self.tables.iter().find(|(_, table, _)| is_same(database, table, &route.table));
        route.shard_key = own.map_or(&self.key, |(_, _, key)| key).clone();
    }

    /// Gives each route the key of its table; each table that is named must be one of theirs.
    pub fn assign<'r>(&self, database: &str, routes: impl Iterator<Item = &'r mut Route>) -> Result<()> {
        let mut unused: Vec<_> = self.tables.iter().collect();
        for route in routes {
            unused.retain(|(_, table, _)| !is_same(database, table, &route.table));
            self.give_key(database, route);
        }
        match unused.first() {
            Some((path, table, _)) => Err(Error::config(path, format!("no route fills the table {table}"))),
            None => Ok(()),
        }
    }
}

/// Whether two names are of one table.
fn is_same(database: &str, one: &str, other: &str) -> bool {
    let full_name = |table: &str| match table.split_once('.') {
        Some(_) => table.to_owned(),
        None => format!("{database}.{table}"),
    };
    full_name(one) == full_name(other)
}

/// `servers` is how many URLs there are.
pub fn shards(o: ObjectReader<'_>, servers: usize) -> Result<Shards> {
    if servers < 2 {
        return Err(Error::config(
            "clickhouse.shards",
            "needs a clickhouse.url for each shard, and there is one",
        ));
    }
    let key = key(o.texts("key")?)?;
    let mut tables = Vec::new();
    for (path, table, value) in o.record("tables")? {
        let names = match value {
            Value::Array(names) if !names.is_empty() => names,
            _ => return Err(Error::config(path, "must be a list of columns")),
        };
        let named = names.iter().enumerate().map(|(at, name)| match name {
            Value::String(name) => Ok((format!("{path}[{at}]"), name.clone())),
            _ => Err(Error::config(format!("{path}[{at}]"), "must be a string")),
        });
        let own = self::key(named.collect::<Result<_>>()?)?;
        tables.push((path, table.to_owned(), own));
    }
    o.finish()?;
    Ok(Shards { key, tables })
}

fn key(names: Vec<(String, String)>) -> Result<Vec<ShardColumn>> {
    let mut key: Vec<ShardColumn> = Vec::new();
    for (path, name) in names {
        if name.is_empty() {
            return Err(Error::config(path, "must not be empty"));
        }
        if key.iter().any(|column| column.name == name) {
            return Err(Error::config(path, format!("names the column {name} a second time")));
        }
        key.push(ShardColumn { path, name });
    }
    Ok(key)
}
