//! The walk over one payload: `serde_json` drives it, and each value goes into its column as it is met.
//!
//! A [`Node`] is a place in the document that some column wants, or that lies on the way to one. Telemetry repeats
//! the order of its keys, so each object first compares a key with the one that stood there in the last message.

use std::fmt;

use serde::de::{self, Deserialize, DeserializeSeed, IgnoredAny, MapAccess, SeqAccess, Visitor};
use serde_json::value::RawValue;

use crate::columns::{Column, Kind};
use crate::dead_letters::{Code, Reason};

use super::Slot;
use super::coerce::{self, Scalar};
use super::path::Segment;

#[derive(Debug, Default)]
pub struct Node {
    /// The columns that take the value here: indices into the slots.
    slots: Vec<usize>,
    fields: Vec<(String, Node)>,
    items: Vec<(usize, Node)>,
    /// Which of `fields` stood at each position of the last object.
    order: Vec<usize>,
}

impl Node {
    pub fn insert(&mut self, path: &[Segment], slot: usize) {
        self.at(path).slots.push(slot);
    }

    /// Makes a place known without a column that wants it.
    pub fn mention(&mut self, path: &[Segment]) {
        self.at(path);
    }

    fn at(&mut self, path: &[Segment]) -> &mut Node {
        let Some((first, rest)) = path.split_first() else { return self };
        let child = match first {
            Segment::Field(name) => {
                let at = self.fields.iter().position(|(n, _)| n == name).unwrap_or_else(|| {
                    self.fields.push((name.clone(), Node::default()));
                    self.fields.len() - 1
                });
                &mut self.fields[at].1
            }
            Segment::Item(index) => {
                let at = self.items.iter().position(|(i, _)| i == index).unwrap_or_else(|| {
                    self.items.push((*index, Node::default()));
                    self.items.len() - 1
                });
                &mut self.items[at].1
            }
        };
        child.at(rest)
    }

    fn has_children(&self) -> bool {
        !self.fields.is_empty() || !self.items.is_empty()
    }
}

/// The row under construction.
pub struct Row<'r> {
    pub slots: &'r [Slot],
    pub columns: &'r mut [Column],
    /// Which columns have their value for this row.
    pub filled: &'r mut [bool],
    /// The number of rows before this one.
    pub rows: usize,
    pub reject_unknown: bool,
    /// Why the row cannot be, where the fault is ours to name and not the JSON's.
    pub reason: Option<Reason>,
}

impl Row<'_> {
    /// Appends a value, in place of an earlier one for the same column: the last of duplicate keys wins.
    fn put(&mut self, slot: usize, value: Scalar<'_>) -> Result<(), Reason> {
        self.take_back(slot);
        let Slot { name, kind, unit, .. } = &self.slots[slot];
        coerce::put(&mut self.columns[slot], kind, *unit, value).map_err(|reason| reason.about(name))?;
        self.filled[slot] = true;
        Ok(())
    }

    fn put_text(&mut self, slot: usize, text: &[u8]) {
        self.take_back(slot);
        self.columns[slot].push_string(text);
        self.filled[slot] = true;
    }

    fn take_back(&mut self, slot: usize) {
        if self.filled[slot] {
            self.columns[slot].truncate(self.rows);
            self.filled[slot] = false;
        }
    }

    /// Remembers the reason and stops the walk.
    #[cold]
    fn refuse<E: de::Error>(&mut self, reason: Reason) -> E {
        self.reason = Some(reason);
        E::custom("refused")
    }
}

/// Reads a whole payload into `row`.
pub fn read(root: &mut Node, payload: &[u8], row: &mut Row<'_>) -> Result<(), Reason> {
    let mut input = serde_json::Deserializer::from_slice(payload);
    let result = de::Deserializer::deserialize_any(&mut input, Branch { node: root, row, is_root: true })
        .and_then(|()| input.end());
    result.map_err(|error| {
        row.reason.take().unwrap_or_else(|| match payload.is_empty() {
            true => Reason::new(Code::JsonInvalid, "the payload is empty"),
            false => Reason::new(Code::JsonInvalid, error.to_string()),
        })
    })
}

/// Reads one JSON text into one column: for constants and defaults.
pub fn read_into(column: &mut Column, slot: &Slot, text: &str) -> Result<(), Reason> {
    let mut filled = [false];
    let mut row = Row {
        slots: std::slice::from_ref(slot),
        columns: std::slice::from_mut(column),
        filled: &mut filled,
        rows: 0,
        reject_unknown: false,
        reason: None,
    };
    put_raw(&mut row, 0, text).map_err(|error| {
        row.reason.take().unwrap_or_else(|| Reason::new(Code::TypeMismatch, error.to_string()))
    })
}

/// A value whose text decides: String columns keep what is no string as it was written.
fn put_raw(row: &mut Row<'_>, slot: usize, raw: &str) -> Result<(), serde_json::Error> {
    if !matches!(row.slots[slot].kind, Kind::String) {
        let mut input = serde_json::Deserializer::from_str(raw);
        return de::Deserializer::deserialize_any(&mut input, Leaf { slot, row });
    }
    match raw.as_bytes().first() {
        Some(b'"') if !raw.contains('\\') => row.put_text(slot, &raw.as_bytes()[1..raw.len() - 1]),
        Some(b'"') => row.put_text(slot, serde_json::from_str::<String>(raw)?.as_bytes()),
        Some(b'n') => row.take_back(slot),
        _ => row.put_text(slot, raw.as_bytes()),
    }
    Ok(())
}

/// A value at a node: into its column, into its children, or both.
struct At<'n, 'r, 'c> {
    node: &'n mut Node,
    row: &'r mut Row<'c>,
}

impl<'de> DeserializeSeed<'de> for At<'_, '_, '_> {
    type Value = ();

    fn deserialize<D: de::Deserializer<'de>>(self, input: D) -> Result<(), D::Error> {
        let At { node, row } = self;
        match (node.slots.as_slice(), node.has_children()) {
            ([slot], false) if !matches!(row.slots[*slot].kind, Kind::String) => {
                input.deserialize_any(Leaf { slot: *slot, row })
            }
            ([], true) => input.deserialize_any(Branch { node, row, is_root: false }),
            ([], false) => IgnoredAny::deserialize(input).map(drop),
            (slots, has_children) => {
                let raw = <&RawValue>::deserialize(input)?.get();
                for slot in slots {
                    put_raw(row, *slot, raw).map_err(de::Error::custom)?;
                }
                if has_children {
                    let mut input = serde_json::Deserializer::from_str(raw);
                    de::Deserializer::deserialize_any(&mut input, Branch { node, row, is_root: false })
                        .map_err(de::Error::custom)?;
                }
                Ok(())
            }
        }
    }
}

/// A scalar for one column.
struct Leaf<'r, 'c> {
    slot: usize,
    row: &'r mut Row<'c>,
}

impl Leaf<'_, '_> {
    fn put<E: de::Error>(self, value: Scalar<'_>) -> Result<(), E> {
        self.row.put(self.slot, value).map_err(|reason| self.row.refuse(reason))
    }

    fn compound<E: de::Error>(self, what: &str) -> E {
        let reason = Reason::new(Code::TypeMismatch, format!("{what} does not fit"))
            .about(&self.row.slots[self.slot].name);
        self.row.refuse(reason)
    }
}

impl<'de> Visitor<'de> for Leaf<'_, '_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a value")
    }

    fn visit_bool<E: de::Error>(self, value: bool) -> Result<(), E> {
        self.put(Scalar::Bool(value))
    }

    fn visit_u64<E: de::Error>(self, value: u64) -> Result<(), E> {
        self.put(Scalar::Unsigned(value))
    }

    fn visit_i64<E: de::Error>(self, value: i64) -> Result<(), E> {
        self.put(Scalar::Negative(value))
    }

    fn visit_f64<E: de::Error>(self, value: f64) -> Result<(), E> {
        self.put(Scalar::Float(value))
    }

    fn visit_str<E: de::Error>(self, value: &str) -> Result<(), E> {
        self.put(Scalar::Text(value))
    }

    /// `null` is a missing field, and takes an earlier duplicate with it.
    fn visit_unit<E: de::Error>(self) -> Result<(), E> {
        self.row.take_back(self.slot);
        Ok(())
    }

    fn visit_map<A: MapAccess<'de>>(self, _: A) -> Result<(), A::Error> {
        Err(self.compound("an object"))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, _: A) -> Result<(), A::Error> {
        Err(self.compound("a list"))
    }
}

/// An object or a list on the way to columns. Anything else there means that they are missing.
struct Branch<'n, 'r, 'c> {
    node: &'n mut Node,
    row: &'r mut Row<'c>,
    is_root: bool,
}

impl Branch<'_, '_, '_> {
    fn scalar<E: de::Error>(self, what: &str) -> Result<(), E> {
        if self.is_root {
            return Err(self
                .row
                .refuse(Reason::new(Code::NotAnObject, format!("the payload is {what}, not an object"))));
        }
        Ok(())
    }
}

impl<'de> Visitor<'de> for Branch<'_, '_, '_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a value")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<(), A::Error> {
        let Branch { node, row, .. } = self;
        let Node { fields, order, .. } = node;
        let mut position = 0;
        while let Some(key) = map.next_key_seed(Key {
            fields,
            expected: order.get(position).copied(),
            keep: row.reject_unknown,
        })? {
            match key {
                Known::Field(field) => {
                    if position < order.len() {
                        order[position] = field;
                    } else if order.len() < fields.len() {
                        order.push(field);
                    }
                    position += 1;
                    map.next_value_seed(At { node: &mut fields[field].1, row })?;
                }
                Known::Nothing => drop(map.next_value::<IgnoredAny>()?),
                Known::Refused(name) => {
                    let reason =
                        Reason::new(Code::UnknownField, format!("no column takes the field {name:?}"));
                    return Err(row.refuse(reason));
                }
            }
        }
        Ok(())
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<(), A::Error> {
        if self.is_root {
            // A list that is broken off is invalid JSON first of all.
            while list.next_element::<IgnoredAny>()?.is_some() {}
            return self.scalar("a list");
        }
        let Branch { node, row, .. } = self;
        let mut index = 0;
        loop {
            let item = match node.items.iter_mut().find(|(i, _)| *i == index) {
                Some((_, node)) => list.next_element_seed(At { node, row })?,
                None => list.next_element::<IgnoredAny>()?.map(drop),
            };
            if item.is_none() {
                return Ok(());
            }
            index += 1;
        }
    }

    fn visit_bool<E: de::Error>(self, _: bool) -> Result<(), E> {
        self.scalar("a boolean")
    }

    fn visit_u64<E: de::Error>(self, _: u64) -> Result<(), E> {
        self.scalar("a number")
    }

    fn visit_i64<E: de::Error>(self, _: i64) -> Result<(), E> {
        self.scalar("a number")
    }

    fn visit_f64<E: de::Error>(self, _: f64) -> Result<(), E> {
        self.scalar("a number")
    }

    fn visit_str<E: de::Error>(self, _: &str) -> Result<(), E> {
        self.scalar("a string")
    }

    fn visit_unit<E: de::Error>(self) -> Result<(), E> {
        self.scalar("null")
    }
}

/// Finds a key among the fields that are wanted.
struct Key<'n> {
    fields: &'n [(String, Node)],
    expected: Option<usize>,
    /// Whether the name of an unknown field is worth a copy.
    keep: bool,
}

enum Known {
    Field(usize),
    Nothing,
    Refused(String),
}

impl<'de> DeserializeSeed<'de> for Key<'_> {
    type Value = Known;

    fn deserialize<D: de::Deserializer<'de>>(self, input: D) -> Result<Known, D::Error> {
        input.deserialize_str(self)
    }
}

impl Visitor<'_> for Key<'_> {
    type Value = Known;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a key")
    }

    fn visit_str<E: de::Error>(self, key: &str) -> Result<Known, E> {
        if let Some(expected) = self.expected
            && self.fields[expected].0 == key
        {
            return Ok(Known::Field(expected));
        }
        Ok(match self.fields.iter().position(|(name, _)| name == key) {
            Some(field) => Known::Field(field),
            None if self.keep => Known::Refused(key.into()),
            None => Known::Nothing,
        })
    }
}
