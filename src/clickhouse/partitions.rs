//! The partition of each row of a block: ClickHouse computes the partition key of the table, as it does for an INSERT.
//!
//! The block is sent once more, as an external table of the query
//! (<https://clickhouse.com/docs/engines/table-engines/special/external-data>). The answer decides only which rows are in one
//! part: if it is wrong, there are more parts than needed, and no row is lost or doubled.

use bytes::{Buf, Bytes};
use serde::Deserialize;

use crate::clickhouse::client::Server;
use crate::clickhouse::query::Query;
use crate::clickhouse::schema::{SchemaClient, Table};
use crate::core::error::Result;

/// The name of the table in [`Table::sent_sql`].
const NAME: &str = "sent";

#[derive(Deserialize)]
struct KeyRow {
    #[serde(default)]
    partition_key: String,
}

/// A number for each row of a block: two rows with the same one are of one partition. The block is not compressed, and
/// `heads` are its names and types. `None`: the table has no partitions, or the answer has not one number for each row.
pub async fn of_rows(
    server: &Server,
    database: &str,
    table: &Table,
    heads: &[(String, String)],
    block: Bytes,
    rows: usize,
) -> Result<Option<Vec<u64>>> {
    let (of, name) = table.full_name();
    let sql = "SELECT partition_key FROM system.tables WHERE database = ? AND name = ?";
    let found = SchemaClient::again(server, database, table).rows::<KeyRow>(sql, &[of, name]).await?;
    let Some(KeyRow { partition_key }) = found.into_iter().next() else { return Ok(None) };
    if partition_key.is_empty() {
        return Ok(None);
    }
    let sql = table.sent_sql(&expression(&partition_key));
    computed(server, database, heads, block, rows, &sql).await
}

/// A number that is the same for rows of one partition, and differs else.
pub fn expression(partition_key: &str) -> String {
    format!("cityHash64(formatRowNoNewline('RowBinary', {partition_key}))")
}

/// The numbers of a query of [`Table::sent_sql`], which are UInt64: one for each row. `None`: the answer has not that many.
pub async fn computed(
    server: &Server,
    database: &str,
    heads: &[(String, String)],
    block: Bytes,
    rows: usize,
    sql: &str,
) -> Result<Option<Vec<u64>>> {
    let (structure, allowed) = Table::sent_structure(heads);
    // In the order of the block: one thread reads it. Columns keep their names, and an expression for one may use what was sent.
    let mut params = vec![("database", database), ("max_threads", "1"), ("prefer_column_name_to_alias", "1")];
    params.extend([("sent_format", "Native"), ("sent_structure", &*structure)]);
    params.extend(allowed);
    let answer = Query { sql, params: &params }.send_with(server, NAME, block).await?;
    let bytes = answer.read(8 * rows).await?;
    Ok((bytes.len() == 8 * rows).then(|| bytes.chunks_exact(8).map(|mut bytes| bytes.get_u64_le()).collect()))
}
