//! Columns that a running pipeline adds to its tables: `schema: 'add-columns'`.
//!
//! Columns are added by `ADD COLUMN IF NOT EXISTS` and with a comment by which all processes count them. Workers notice the new
//! column as any other change of the table.

use serde::Serialize;

use crate::clickhouse::quote;
use crate::config::Config;
use crate::core::error::{Error, Result};
use crate::core::thread::{run_on, runtime};
use crate::pipeline::Pipeline;
use crate::pipeline::stages::{inspect, no_answer};

/// The comment of columns that were added.
const COMMENT: &str = "added by millrace";

/// The result for one column.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Addition {
    Added,
    /// Somebody else was quicker.
    Exists,
    /// The table has as many added columns as the route allows.
    Full,
}

impl Pipeline {
    /// Adds a column to the table of a route that grows. `definition` is its type, and its DEFAULT if it has one.
    pub fn add_column(&self, route: usize, name: &str, definition: &str) -> Result<Addition> {
        add_column(self.config(), route, name, definition)
    }

    /// Has the table of a route get no more columns.
    pub fn end_growth(&self, route: usize) {
        if let Some(growth) = &self.config().route(route).growth {
            growth.end();
        }
    }
}

/// Adds a column to the table of a route. `definition` is its type, and its DEFAULT if it has one.
fn add_column(config: &Config, route: usize, name: &str, definition: &str) -> Result<Addition> {
    let route = config.route(route);
    let Some(growth) = &route.growth else {
        return Err(Error::config(format!("{}.schema", route.path), "is 'fixed'"));
    };
    let ask = async {
        let schema = inspect(&config.clickhouse).await?;
        let columns = schema.columns(&route.table).await?;
        if columns.iter().any(|column| column.name == name) {
            return Ok(Addition::Exists);
        }
        if columns.iter().filter(|column| column.comment == COMMENT).count() >= growth.max_columns as usize {
            return Ok(Addition::Full);
        }
        let (database, table) = schema.split(&route.table);
        let sql = format!(
            "ALTER TABLE {}.{} ADD COLUMN IF NOT EXISTS {} {definition} COMMENT '{COMMENT}'",
            quote(database),
            quote(table),
            quote(name)
        );
        schema.execute(&sql).await?;
        Ok(Addition::Added)
    };
    within_timeout(config, ask)
}

/// Makes tables in the database of a configuration.
pub fn create_tables(config: &Config, statements: &[String]) -> Result<()> {
    within_timeout(config, async {
        let schema = inspect(&config.clickhouse).await?;
        for statement in statements {
            schema.execute(statement).await?;
        }
        Ok(())
    })
}

fn within_timeout<T>(config: &Config, ask: impl Future<Output = Result<T>>) -> Result<T> {
    run_on(runtime()?, async {
        tokio::time::timeout(config.clickhouse.request_timeout, ask)
            .await
            .unwrap_or_else(|_| Err(no_answer(&config.clickhouse)))
    })
}
