//! Fields that no column takes, in samples of a route's messages: what a table that grows (`schema: 'add-columns'`) gets
//! columns for. `lib/schema-growth.js` decides on the columns, by the rules of `proposeTable`.
//!
//! A message is looked at when the last look is 50 ms old: so what it costs does not depend on the rate of messages.

use std::time::{Duration, Instant};

use crate::clickhouse::Kind;
use crate::config::{ColumnSource, LookupKey, LookupSource, Meta, Route};
use crate::core::json_path::{Path, Segment};
use crate::decode::sample_rows::SampleRows;
use crate::ingest::table_plan::TablePlan;

const INTERVAL: Duration = Duration::from_millis(50);
/// Larger payloads, and more rows of a message, are not looked at.
const MAX_PAYLOAD: usize = 64 * 1024;
const MAX_ROWS: usize = 100;

/// Looks at messages of a route on one connection.
pub struct UnknownFields {
    rows: SampleRows,
    known: Vec<String>,
    last: Option<Instant>,
}

impl UnknownFields {
    /// `None`: nothing is looked for, because the table does not grow, or because a column takes the document itself.
    pub fn of(route: &Route, plan: &TablePlan) -> Option<Box<UnknownFields>> {
        route.growth.as_ref().filter(|growth| !growth.is_over())?;
        let mut known: Vec<String> = plan.table.column_names().map(String::from).collect();
        // A list of a Nested fills the columns of its name.
        for column in &plan.table.columns {
            if let (Some((list, _)), Kind::Array(_)) = (column.name.split_once('.'), &column.column_type.kind)
            {
                known.push(list.into());
            }
        }
        known.extend(route.topic.names().map(String::from));
        for path in paths(route)? {
            match path.segments.first() {
                Some(Segment::Field(name)) => known.push(name.clone()),
                // The document, or any key of it.
                None | Some(Segment::AnyField) => return None,
                Some(_) => {}
            }
        }
        let rows = SampleRows::new(&route.path, route).ok()?;
        Some(Box::new(UnknownFields { rows, known, last: None }))
    }

    /// The unknown fields of the rows of a message, as a JSON object for each row that has some. `None`: there are none, or it
    /// is not looked at.
    #[inline]
    pub fn of_message(&mut self, topic: &str, payload: &[u8], now: Instant) -> Option<Vec<String>> {
        let is_due = self.last.is_none_or(|last| now.saturating_duration_since(last) >= INTERVAL);
        if !is_due || payload.len() > MAX_PAYLOAD {
            return None;
        }
        self.last = Some(now);
        self.look(topic, payload)
    }

    #[cold]
    fn look(&self, topic: &str, payload: &[u8]) -> Option<Vec<String>> {
        let is_known = |name: &str| self.known.iter().any(|known| known == name);
        let mut rows = self.rows.read_without(topic, payload, &is_known).ok()?;
        rows.truncate(MAX_ROWS);
        Some(rows).filter(|rows| !rows.is_empty())
    }
}

/// The paths into the payload that a route reads. `None`: a column takes all of it.
fn paths(route: &Route) -> Option<Vec<&Path>> {
    let mut paths: Vec<&Path> = route.rows.iter().chain(route.zip.iter().map(|(_, path)| path)).collect();
    for (_, source) in route.sources() {
        match source {
            ColumnSource::Path { path, reading, .. } => {
                paths.push(path);
                paths.extend(&reading.other_paths);
            }
            ColumnSource::Lookup(LookupSource { key: LookupKey::Path(path), .. }) => paths.push(path),
            ColumnSource::Meta(Meta::Payload) => return None,
            _ => {}
        }
    }
    if let Some(condition) = &route.condition {
        condition.each_path(&mut |path| paths.push(path));
    }
    Some(paths)
}
