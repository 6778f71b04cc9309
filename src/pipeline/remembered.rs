//! A start while ClickHouse is away: with a spool, and with the tables of an earlier start beside it, the pipeline takes messages,
//! and their INSERTs begin when ClickHouse is there.

use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::clickhouse::client::servers;
use crate::clickhouse::schema::Table;
use crate::clickhouse::schema::remembered::RememberedTables;
use crate::clickhouse::servers::Servers;
use crate::config::Config;
use crate::core::error::{Error, Result};
use crate::dead_letter::store::Store;
use crate::ingest::table_plan::TablePlans;
use crate::pipeline::stages::{self, Prepared};
use crate::telemetry::context::PipelineContext;
use crate::telemetry::events::Warning;

/// Longer than a look at a table counts.
const LONG_AGO: Duration = Duration::from_secs(3600);

/// [`stages::prepare`], or where ClickHouse is away what it said last.
pub async fn prepare(context: &PipelineContext) -> Result<Prepared> {
    let Config { clickhouse, spool, start_timeout, .. } = &context.config;
    let last = spool.as_ref().and_then(|spool| RememberedTables::read(&spool.dir));
    let last = last.and_then(|tables| Some((recall(context, &tables)?, tables)));
    // With the tables at hand one round of attempts is enough.
    let patience = match &last {
        Some(_) => clickhouse.connect_timeout * clickhouse.urls.len() as u32,
        None => *start_timeout,
    };
    match (stages::prepare(context, patience).await, last) {
        (Ok(prepared), _) => {
            prepared.plans.remember(&context.config);
            Ok(prepared)
        }
        (Err(error), Some((prepared, tables))) if is_outage(&error) => {
            let message = format!(
                "{error}; messages are taken into the spool for the tables as they were at {}, and INSERTs begin when \
                 ClickHouse answers",
                tables.read_at
            );
            let warning = Warning::new("SCHEMA_REMEMBERED", message).error(&error);
            context.warn(warning.read_at(&tables.read_at));
            Ok(prepared)
        }
        (Err(error), _) => Err(error),
    }
}

/// Whether ClickHouse is away, or a proxy answers in its place.
fn is_outage(error: &Error) -> bool {
    matches!(error, Error::ClickHouseUnreachable { .. } | Error::ClickHouseAnswer { .. })
}

/// `None`: the tables of the configuration are not all among them, or cannot be filled.
fn recall(context: &PipelineContext, tables: &RememberedTables) -> Option<Prepared> {
    let Config { clickhouse, dead_letters, .. } = &context.config;
    let store = match &dead_letters.table {
        None => stages::local_store(dead_letters).ok()?,
        Some(name) if tables.dead_letters_table.as_ref() == Some(name) => {
            let mut all = servers(clickhouse).ok()?;
            if clickhouse.shards.is_some() {
                // As at a start with ClickHouse: all are on the first shard.
                all.truncate(1);
            }
            Store::Table { name: name.clone(), servers: Servers::new(all, 0) }
        }
        Some(_) => return None,
    };
    let routes = || context.config.all_routes();
    let tables = routes()
        .map(|route| match route.table_choice {
            Some(_) => Some(Table::unknown(&route.table)),
            None => tables.table(route, &clickhouse.database)?.ok(),
        })
        .collect::<Option<_>>()?;
    // Checked long ago: the first INSERT of each table looks at it again.
    let checked_at = Instant::now().checked_sub(LONG_AGO).unwrap_or_else(Instant::now);
    let plans = TablePlans::within(&context.memory, routes(), tables, checked_at).ok()?;
    Some(Prepared { plans: Arc::new(plans), store })
}
