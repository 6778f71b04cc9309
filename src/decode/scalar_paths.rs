//! Columns whose paths lead through a text, a number or a boolean, and so find nothing: mostly a mistake in the configuration,
//! or a device that sends another shape. Each is reported once, where its column has no other value.

use crate::core::json_path::{Path, Segment};
use crate::decode::fill::Filled;
use crate::decode::tape::{Tape, Value};
use crate::decode::value_source::ValueSource;
use crate::decode::{Decoder, lookup};

#[derive(Debug, Clone, Default)]
pub struct ScalarPaths {
    /// Met in the row under construction.
    met: Vec<usize>,
    /// Not reported yet.
    fresh: Vec<usize>,
    /// By column.
    was_found: Vec<bool>,
}

impl ScalarPaths {
    pub fn new(columns: usize) -> ScalarPaths {
        ScalarPaths { was_found: vec![false; columns], ..ScalarPaths::default() }
    }

    #[inline]
    pub fn has_met(&self) -> bool {
        !self.met.is_empty()
    }

    #[inline]
    pub fn has_fresh(&self) -> bool {
        !self.fresh.is_empty()
    }

    /// Whether it is not known of the column yet.
    #[inline]
    pub fn wants(&self, column: usize) -> bool {
        self.was_found.get(column) == Some(&false)
    }

    #[cold]
    pub fn meet(&mut self, column: usize) {
        if self.wants(column) {
            self.met.push(column);
        }
    }

    /// At the end of a row: what was met matters where the column has no value from elsewhere.
    #[cold]
    pub fn settle(&mut self, filled: &Filled) {
        for column in self.met.drain(..) {
            if !filled.has(column) && !std::mem::replace(&mut self.was_found[column], true) {
                self.fresh.push(column);
            }
        }
    }

    /// Forgets the paths of a message that was refused.
    pub fn forget(&mut self) {
        self.met.clear();
    }
}

impl Decoder {
    /// The columns, each with its path, that since the last call had no value for the first time because their path led
    /// through a value that is neither an object nor a list.
    pub fn take_scalar_paths(&mut self) -> Vec<(&str, String)> {
        let fresh = self.row.scalars.fresh.drain(..);
        let bindings = &self.bindings;
        fresh.map(|at| (bindings[at].name(), path_of(bindings[at].name(), bindings[at].source()))).collect()
    }
}

pub fn path_of(column: &str, source: &ValueSource) -> String {
    match source {
        ValueSource::Payload { path, list: Some(list), .. } => format!("{list}.{path}"),
        ValueSource::Payload { path, .. } => path.to_string(),
        _ => column.into(),
    }
}

/// Whether one of `paths` leads from `at` through a scalar below it. The value at `at` itself does not count: it is the
/// document, or the item that is a row, and may be anything.
pub fn lead_through_scalar(tape: &Tape<'_>, at: usize, paths: &[Path]) -> bool {
    paths.iter().any(|path| leads_through_scalar(tape, at, &path.segments))
}

fn leads_through_scalar(tape: &Tape<'_>, at: usize, segments: &[Segment]) -> bool {
    // Any key, and the end of a list, may lead elsewhere the next time.
    let simple =
        segments.iter().take_while(|segment| matches!(segment, Segment::Field(_) | Segment::Item(_)));
    (1..segments.len().min(simple.count() + 1)).any(|passed| {
        lookup::find(tape, at, &segments[..passed]).is_some_and(|place| is_scalar(tape.value(place.value)))
    })
}

fn is_scalar(value: &Value<'_>) -> bool {
    !matches!(value, Value::Null | Value::List { .. } | Value::Object { .. })
}
