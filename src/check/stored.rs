//! Asks ClickHouse about sampled rows: how many partitions they are of, and how many are past a TTL.
//!
//! The rows are sent as an external table of a query, which computes the expressions of the table. Nothing is inserted.

use bytes::Bytes;
use serde::Deserialize;

use crate::check::{Level, Report};
use crate::clickhouse::schema::SchemaClient;
use crate::clickhouse::ttl::row_ttls;
use crate::clickhouse::{Column, native, partitions};
use crate::config::Config;
use crate::decode::Decoder;
use crate::ingest::table_plan::TablePlan;

/// Counts of sampled rows; `None` where the table has none of it, or cannot say.
#[derive(Debug, Default, Clone, Copy)]
pub struct StoredRows {
    pub partitions: Option<usize>,
    pub expired: Option<usize>,
}

#[derive(Deserialize)]
struct Storage {
    #[serde(default)]
    partition_key: String,
    #[serde(default)]
    engine_full: String,
}

#[derive(Deserialize)]
struct Setting {
    value: String,
}

const PARTITIONS: &str = "max_partitions_per_insert_block";
/// ClickHouse's default.
const MAX_PARTITIONS: usize = 100;

/// Asks about the rows of a route. `columns` are those of its decoder.
pub async fn ask(
    schema: &SchemaClient,
    config: &Config,
    at: usize,
    (plan, decoder, columns): (&TablePlan, &Decoder, &[Column]),
    report: &mut Report,
) -> StoredRows {
    let rows = columns.first().map_or(0, Column::rows);
    let (database, name) = plan.table.full_name();
    let sql = "SELECT partition_key, engine_full FROM system.tables WHERE database = ? AND name = ?";
    let storage = schema.rows::<Storage>(sql, &[database, name]).await.unwrap_or_default();
    let Some(Storage { partition_key, engine_full }) = storage.into_iter().next() else {
        return StoredRows::default();
    };
    let ttls = row_ttls(&engine_full);
    if rows == 0 || (partition_key.is_empty() && ttls.is_empty()) {
        return StoredRows::default();
    }
    let inputs = decoder.inputs();
    let own = columns.iter().enumerate().filter(|(place, _)| !inputs.contains(place));
    let own: Vec<Column> = own.map(|(_, column)| column.clone()).collect();
    let block = Bytes::from(native::encode_to_vec(&plan.column_headers, &own));
    let computed = async |expression: &str| {
        let sql = plan.table.sent_sql(expression);
        let database = &config.clickhouse.database;
        partitions::computed(&schema.server, database, &plan.column_headers, block.clone(), rows, &sql).await
    };
    let path = format!("{}.table", config.route(at).path);
    let mut stored = StoredRows::default();
    if !partition_key.is_empty()
        && let Ok(Some(mut keys)) = computed(&partitions::expression(&partition_key)).await
    {
        keys.sort_unstable();
        keys.dedup();
        stored.partitions = Some(keys.len());
        let limit = partition_limit(schema, config).await;
        if limit > 0 && keys.len() > limit {
            report.add_finding(
                Level::Warning,
                "PARTITIONS_MANY",
                &path,
                format!(
                    "{rows} rows of the sample are of {} partitions (PARTITION BY {partition_key}), and {PARTITIONS} is {limit}: \
                     INSERTs of such rows are refused and divided, and each partition becomes a part of its own",
                    keys.len()
                ),
                "partition by longer spans of time, such as toYYYYMM, or not at all; ORDER BY is what makes queries fast",
            );
        }
    }
    for ttl in ttls {
        let expression = format!("toUInt64(ifNull({}, 0))", ttl.is_past());
        let Ok(Some(past)) = computed(&expression).await else { continue };
        let past = past.iter().filter(|is_past| **is_past > 0).count();
        stored.expired = Some(stored.expired.unwrap_or(0).max(past));
        if past > 0 {
            report.add_finding(
                Level::Warning,
                "ROWS_EXPIRED",
                &path,
                format!(
                    "{past} of {rows} rows of the sample are past the TTL {}: ClickHouse confirms them, and deletes them with \
                     the next merge",
                    ttl.time
                ),
                "look at how the times of the sample were understood (unit), or lengthen the TTL",
            );
        }
    }
    stored
}

/// The limit of a block of an INSERT; 0 is none.
async fn partition_limit(schema: &SchemaClient, config: &Config) -> usize {
    let own = config.clickhouse.settings.iter().find(|(name, _)| name == PARTITIONS);
    if let Some(limit) = own.and_then(|(_, value)| value.parse().ok()) {
        return limit;
    }
    let sql = "SELECT value FROM system.settings WHERE name = ?";
    let found = schema.rows::<Setting>(sql, &[PARTITIONS]).await.unwrap_or_default();
    found.first().and_then(|setting| setting.value.parse().ok()).unwrap_or(MAX_PARTITIONS)
}
