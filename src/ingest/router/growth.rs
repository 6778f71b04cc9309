//! Reports of fields that no column takes.

use crate::config::Growth;
use crate::ingest::router::Router;
use crate::telemetry::events::Event;

impl Router {
    /// Hands fields that no column takes to the program's side, which decides on columns.
    #[cold]
    pub(super) fn report_unknown(&mut self, at: usize, rows: Vec<String>) {
        let state = &mut self.routes[at];
        match state.route.growth.as_ref().is_some_and(Growth::is_over) {
            true => state.unknown_fields = None,
            false => self.context.emit(Event::UnknownFields { route: at, rows }),
        }
    }
}
