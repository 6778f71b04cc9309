//! What the tables of a configuration look like, for whoever writes code against them.
//!
//! The checks are those of a start: what a pipeline could not fill is an error here too.

use serde::Serialize;

use crate::config::Config;
use crate::decode::Decoder;
use crate::downstream::{inspect, no_answer};
use crate::error::Result;
use crate::sink::tables::ColumnRow;
use crate::threads::{run_on, runtime};

/// The table of a route.
#[derive(Debug, Serialize)]
pub struct Description {
    /// All of them, also those that are not ours to send, in the order of the table.
    pub columns: Vec<ColumnRow>,
}

/// Asks ClickHouse about the table of each route, in their order.
pub fn describe(config: &Config) -> Result<Vec<Description>> {
    let ask = async {
        let inspector = inspect(&config.clickhouse).await?;
        let mut descriptions = Vec::new();
        for (i, route) in config.routes.iter().enumerate() {
            let path = format!("routes[{i}]");
            let table = inspector.table(&path, route).await?;
            Decoder::new(&path, route, &table.columns)?;
            descriptions.push(Description { columns: inspector.columns(&route.table).await? });
        }
        Ok(descriptions)
    };
    run_on(runtime()?, async {
        tokio::time::timeout(config.clickhouse.request_timeout, ask)
            .await
            .unwrap_or_else(|_| Err(no_answer(&config.clickhouse)))
    })
}
