//! Rows whose values come in several messages: `pivot`.
//!
//! A decoder of parts takes a message as a row of which most columns may have no value; [`Decoder::append_gathered`] then makes a
//! row of the values that several such messages had.

use std::borrow::Cow;

use crate::clickhouse::Column;
use crate::config::Route;
use crate::core::reason::{Code, Reason};
use crate::decode::format::Documents;
use crate::decode::non_payload::MissingPolicy;
use crate::decode::tape::{Tape, Value};
use crate::decode::value_reader;
use crate::decode::{Decoder, ValueSource};

/// The place among the names of the topic of the one that says which field the payload is.
pub fn name_of(route: &Route) -> Option<usize> {
    route.pivot.as_ref()?.name
}

/// A payload as the one field of an object.
pub fn named<'a>(documents: Documents<'a>, name: &'a str) -> value_reader::Result<Documents<'a>> {
    let Documents { tape: value, roots } = documents;
    if roots.len() != 1 {
        let message = "a route with pivot takes one value per message, and this has several";
        return Err(Box::new(Reason::new(Code::NotAnObject, message)));
    }
    let mut tape = Tape::default();
    let object = tape.begin_object()?;
    tape.push(Value::Text(Cow::Borrowed(name)))?;
    tape.append(value)?;
    tape.end(object);
    Ok(Documents { tape, roots: vec![object] })
}

impl Decoder {
    /// From now on a row is a part of one: columns without a value are placeholders, also those that are required.
    pub fn read_parts(&mut self) {
        self.reads_parts = true;
        // These do not say which columns have a value.
        self.row_completions.clear();
    }

    /// Whether the last row had a value for a column.
    pub fn has_value(&self, binding: usize) -> bool {
        self.row.filled.has(binding)
    }

    /// The columns that the payload fills.
    pub fn payload_columns(&self) -> impl Iterator<Item = usize> {
        let is_payload =
            |source: &ValueSource| matches!(source, ValueSource::Payload { .. } | ValueSource::Document);
        let all = self.bindings.iter().enumerate();
        all.filter(move |(_, binding)| is_payload(&binding.source)).map(|(at, _)| at)
    }

    /// Appends a row of these values, by binding; each is a column of one row. After an error the columns are as before.
    pub fn append_gathered(&self, values: &[Option<Column>], columns: &mut [Column]) -> Result<(), Reason> {
        let missing =
            |at: usize| values[at].is_none() && matches!(self.bindings[at].missing, MissingPolicy::Refused);
        if let Some(at) = (0..self.bindings.len()).find(|at| missing(*at)) {
            // Nothing is appended.
            return self.bindings[at].fill_missing(&mut columns[at]).map_err(|reason| *reason);
        }
        for (at, binding) in self.bindings.iter().enumerate() {
            match &values[at] {
                Some(value) => columns[at].append(value),
                None => binding.fill_missing(&mut columns[at]).map_err(|reason| *reason)?,
            }
            if let Some(flag) = binding.flag {
                let is_missing = values[at].is_none() && matches!(binding.missing, MissingPolicy::Flagged);
                columns[flag].push_fixed([is_missing as u8]);
            }
        }
        Ok(())
    }
}
