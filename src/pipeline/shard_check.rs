//! Looks at the tables of all shards at start: each must take the rows that its share of the blocks has.

use std::slice;

use crate::clickhouse::client::{Server, servers};
use crate::clickhouse::schema::{SchemaClient, Table};
use crate::config::{Config, Route};
use crate::core::error::{Error, Result};
use crate::telemetry::context::PipelineContext;
use crate::telemetry::events::Warning;

/// Compares the tables of each shard with those that were found on the first that answered. A shard that is away is looked at when
/// it is there again: its rows wait meanwhile, and those of the others do not.
pub(super) async fn check(
    context: &PipelineContext,
    routes: impl Iterator<Item = &Route>,
    tables: &[&Table],
) -> Result<()> {
    let routes: Vec<&Route> = routes.collect();
    let Config { clickhouse, dead_letters, .. } = &context.config;
    if clickhouse.shards.is_none() {
        return Ok(());
    }
    for server in servers(clickhouse)? {
        let Some(schema) = connected(context, &server).await? else { continue };
        for (route, table) in routes.iter().zip(tables.iter().copied()) {
            let (database, name) = table.full_name();
            let differs = |message: String| Error::ShardsDiffer {
                path: route.table_option(&route.path),
                table: format!("{database}.{name}"),
                url: server.url.clone(),
                message,
            };
            match schema.changed_table(&route.path, route, table).await {
                Ok(None) => {}
                Ok(Some(own)) => return Err(differs(own.changes_since(table))),
                Err(Error::TableNotFound { .. }) => return Err(differs("there is no such table".into())),
                Err(error @ (Error::ClickHouseRejected { .. } | Error::ClickHouseUnreachable { .. })) => {
                    return Err(error);
                }
                Err(error) => return Err(differs(error.to_string())),
            }
        }
        let filled = routes.iter().map(|route| route.table.as_str());
        for (table, message) in schema.warnings(filled.chain(dead_letters.table.as_deref())).await? {
            context.warn_once(message.clone(), Warning::new("DEDUPLICATION_OFF", message).table(&table));
        }
    }
    Ok(())
}

/// `None`: the shard cannot be reached.
async fn connected(context: &PipelineContext, server: &Server) -> Result<Option<SchemaClient>> {
    let clickhouse = &context.config.clickhouse;
    let connecting = SchemaClient::connect(slice::from_ref(server), &clickhouse.database);
    let error = match tokio::time::timeout(clickhouse.connect_timeout, connecting).await {
        Ok(Ok(schema)) => return Ok(Some(schema)),
        Ok(Err(error @ Error::ClickHouseUnreachable { .. })) => error,
        Ok(Err(error)) => return Err(error),
        Err(_) => {
            Error::ClickHouseUnreachable { url: server.url.clone(), message: "no answer in time".into() }
        }
    };
    let message = format!(
        "{error}; the rows of this shard wait, and its tables were not compared with those of the others"
    );
    context.warn(Warning::new("SHARD_UNREACHABLE", message).error(&error));
    Ok(None)
}
