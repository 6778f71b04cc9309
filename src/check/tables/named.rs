//! Tables that messages choose, as far as the configuration names them.

use std::sync::Arc;

use crate::check::Report;
use crate::check::tables::TableChecker;
use crate::config::{Route, TableChoice};
use crate::decode::Decoder;
use crate::ingest::table_plan::TablePlan;

impl TableChecker<'_> {
    /// Checks the tables that messages of a route may choose, as far as they are named; the report shows the first.
    pub(super) async fn named_tables(
        &self,
        choice: &TableChoice,
        route: &Route,
        report: &mut Report,
    ) -> Option<(Decoder, Arc<TablePlan>)> {
        let mut first = None;
        for table in choice.named().collect::<Vec<_>>().into_iter().rev() {
            first = self.route(&route.path, &route.for_table(table), report).await;
        }
        first
    }
}
