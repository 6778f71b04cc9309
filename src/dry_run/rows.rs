//! The rows of a batch as JSON, by the rules of [`crate::clickhouse::column_json`].

use serde::Serialize;
use serde_json::Value;

use crate::clickhouse::Column;
use crate::config::Route;
use crate::ingest::batch::Batch;
use crate::transform::columns::{BatchColumns, ColumnLayout};

/// Rows of one table.
#[derive(Debug, Serialize)]
pub struct TableRows {
    rows: usize,
    columns: Vec<ColumnValues>,
}

#[derive(Debug, Serialize)]
struct ColumnValues {
    name: String,
    /// ClickHouse's name of the type.
    #[serde(rename = "type")]
    type_name: String,
    values: Value,
    /// The rows for which ClickHouse computes the DEFAULT.
    absent: Vec<usize>,
}

impl TableRows {
    pub fn of(batch: &Batch, route: &Route) -> TableRows {
        let plan = &batch.plan;
        let layout = ColumnLayout::of_block(plan, route);
        let mut columns = batch.columns.clone();
        let (mut overrides, mut is_changed) = (Vec::new(), false);
        let read = BatchColumns {
            layout: &layout,
            columns: &mut columns,
            overrides: &mut overrides,
            is_changed: &mut is_changed,
        };
        let flags: Vec<_> = plan.flagged_columns().collect();
        let values = layout.columns.iter().enumerate().map(|(at, info)| {
            let has_default = plan.table.columns.get(at).is_some_and(|column| column.default.is_some());
            let values = read.values(at).unwrap_or_default();
            let flag = flags.iter().find(|(flagged, _)| *flagged == at).and_then(|(_, name)| {
                let place = plan.column_headers.iter().position(|(header, _)| header == name)?;
                batch.columns.get(place)
            });
            let is_absent = |row: &usize| has_default && (values[*row].is_null() || is_set(flag, *row));
            ColumnValues {
                name: info.name.clone(),
                type_name: info.type_name.clone(),
                absent: (0..batch.rows()).filter(is_absent).collect(),
                values,
            }
        });
        TableRows { rows: batch.rows(), columns: values.collect() }
    }
}

/// Whether a column of flags says that a row is missing.
fn is_set(flags: Option<&Column>, row: usize) -> bool {
    matches!(flags, Some(Column::Fixed { data, .. }) if data.get(row) == Some(&1))
}
