//! Warnings about columns that a decoder raises while it reads messages.

use crate::decode::Decoder;
use crate::telemetry::context::PipelineContext;
use crate::telemetry::events::Warning;

/// Warns of what the decoder of the route at `at` has found since the last call.
#[cold]
pub fn warn(context: &PipelineContext, at: usize, table: &str, decoder: &mut Decoder) {
    for column in decoder.take_truncated_times() {
        let message = format!(
            "{table}: times for the column {column} have more digits than it keeps; they are cut towards the past"
        );
        let warning = Warning::new("TIME_PRECISION_CUT", message).table(table).route(at);
        context.warn(warning.column(column));
    }
    for (column, path) in decoder.take_paths_never_found() {
        let message = format!(
            "{table}: none of the first thousand messages has the path {path}, which the column {column} requires; all of them \
             are dead letters"
        );
        let warning = Warning::new("PATH_NEVER_FOUND", message).table(table).route(at);
        context.warn_once(format!("never {at} {column} {path}"), warning.column(column).path(&path));
    }
    for (column, path) in decoder.take_scalar_paths() {
        let message = format!(
            "{table}: the path {path} of the column {column} leads through a text, a number or a boolean; the column counts as \
             missing"
        );
        let warning = Warning::new("PATH_THROUGH_SCALAR", message).table(table).route(at);
        context.warn_once(format!("{at} {column} {path}"), warning.column(column).path(&path));
    }
}
