//! The fields of a document that columns take, for routes that refuse all others.

use crate::core::json_path::Segment;
use crate::decode::tape::{Tape, Value};
use crate::decode::value::unknown_field;
use crate::decode::value_reader::Result;

#[derive(Debug, Default)]
pub struct KnownFields {
    /// A column takes all that is here.
    is_whole: bool,
    fields: Vec<(String, KnownFields)>,
    /// Fields below any key.
    any: Option<Box<KnownFields>>,
    /// Fields of the items of a list.
    items: Option<Box<KnownFields>>,
}

impl KnownFields {
    /// Makes a path known that begins where `levels` lead.
    pub fn add(&mut self, levels: &[Segment], path: &[Segment]) {
        let mut at = self;
        for segment in levels.iter().chain(path) {
            at = at.below(segment);
        }
        at.is_whole = true;
    }

    /// Makes the way to the rows known, and nothing in them.
    pub fn add_way(&mut self, levels: &[Segment]) {
        levels.iter().fold(self, |at, segment| at.below(segment));
    }

    /// The same for a path that begins in an item: of the list that `levels` lead to, or of one on the way there.
    pub fn add_within(&mut self, levels: &[Segment], path: &[Segment]) {
        let has_items = |segment: &Segment| matches!(segment, Segment::EachItem | Segment::AnyField);
        let mut ends: Vec<usize> = levels
            .iter()
            .enumerate()
            .filter(|(_, segment)| has_items(segment))
            .map(|(at, _)| at + 1)
            .collect();
        ends.push(levels.len());
        for end in ends {
            let mut within = levels[..end].to_vec();
            if !levels[..end].last().is_some_and(has_items) && end > 0 {
                within.push(Segment::EachItem);
            }
            self.add(&within, path);
        }
    }

    fn below(&mut self, segment: &Segment) -> &mut KnownFields {
        match segment {
            Segment::Field(name) => {
                let at = self.fields.iter().position(|(field, _)| field == name).unwrap_or_else(|| {
                    self.fields.push((name.clone(), KnownFields::default()));
                    self.fields.len() - 1
                });
                &mut self.fields[at].1
            }
            Segment::AnyField => self.any.get_or_insert_default(),
            Segment::Item(_) | Segment::FromEnd(_) | Segment::EachItem => self.items.get_or_insert_default(),
        }
    }

    fn has_parts(&self) -> bool {
        !self.fields.is_empty() || self.any.is_some() || self.items.is_some()
    }

    /// Refuses a document with a field that is not known. A value that a column takes as a document may
    /// hold any fields.
    pub fn check(&self, tape: &Tape<'_>, at: usize) -> Result<()> {
        if self.is_whole && !self.has_parts() {
            return Ok(());
        }
        match tape.value(at) {
            Value::Object { .. } => {
                for key in tape.keys(at) {
                    let name = tape.text(key).unwrap_or_default();
                    let field = self.fields.iter().find(|(field, _)| field == name).map(|(_, known)| known);
                    match field.or(self.any.as_deref()) {
                        Some(known) => known.check(tape, key + 1)?,
                        None if self.is_whole => {}
                        None => return Err(unknown_field(name)),
                    }
                }
                Ok(())
            }
            Value::List { .. } => match &self.items {
                Some(items) => tape.items(at).try_for_each(|item| items.check(tape, item)),
                None => Ok(()),
            },
            _ => Ok(()),
        }
    }
}
