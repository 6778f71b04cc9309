//! The members of an object that stand as they stood in the last one: telemetry repeats the order of its keys.
//!
//! The walk reads the same, only slower: at the comma of an unexpected member the walk takes over, and
//! returns here for the next one.

use crate::clickhouse::Column;
use crate::config::Unit;
use crate::decode::fill::FillTracker;
use crate::decode::format::json::key::Key;
use crate::decode::format::json::lexer::Reader;
use crate::decode::format::json::plain_text;
use crate::decode::number::TerminatedBytes;
use crate::decode::path_tree::Row;
use crate::decode::value::{self, FastKind};
use crate::decode::value_reader::ValueReader;

/// How one member is read.
#[derive(Debug, Clone)]
pub struct ExpectedMember {
    key: Key,
    take: MemberAction,
}

/// The action for its value.
#[derive(Debug, Clone)]
pub enum MemberAction {
    /// It goes into the column of one binding.
    Fill { binding: usize, fast_kind: FastKind, unit: Unit },
    /// No column wants it.
    Pass,
    /// It is for the walk.
    Leave,
}

impl ExpectedMember {
    pub fn new(name: &str, take: MemberAction) -> ExpectedMember {
        ExpectedMember { key: Key::new(name), take }
    }

    /// The binding that it fills.
    pub fn binding(&self) -> Option<usize> {
        match self.take {
            MemberAction::Fill { binding, .. } => Some(binding),
            MemberAction::Pass | MemberAction::Leave => None,
        }
    }
}

/// The members of an object in the order in which they stood in the last one.
#[derive(Debug, Default, Clone)]
pub struct KeyOrder {
    key_order: Vec<ExpectedMember>,
    /// How often it has changed.
    changes: u64,
}

impl KeyOrder {
    pub fn new(key_order: Vec<ExpectedMember>) -> KeyOrder {
        KeyOrder { key_order, changes: 0 }
    }

    pub fn as_slice(&self) -> &[ExpectedMember] {
        &self.key_order
    }

    pub fn swap(&mut self, a: usize, b: usize) {
        self.key_order.swap(a, b);
        self.changes += (a != b) as u64;
    }

    pub fn changes(&self) -> u64 {
        self.changes
    }
}

/// How far the members are what the key_order say.
pub struct FastPathRun {
    /// The number of members read.
    pub members: usize,
    /// The next one has its key where it was expected, and its value is for the walk.
    pub is_key: bool,
    /// Where the last value ends; with `is_key`, where the next one begins.
    pub end: usize,
}

/// Reads members for as long as their keys follow `key_order`.
#[inline]
pub fn read(
    key_order: &[ExpectedMember],
    is_first: bool,
    reader: &mut Reader<'_>,
    row: &mut Row<'_>,
) -> FastPathRun {
    let at = reader.position();
    let Some(bytes) = reader.terminated().filter(|_| row.places.is_none()) else {
        return FastPathRun { members: 0, is_key: false, end: at };
    };
    // With what stands before it, the first member is like all others.
    let (begin, separator) = if is_first { (at.wrapping_sub(1), b'{') } else { (at, b',') };
    let mut marks = row.filled.more();
    let run = members(key_order, bytes, begin, separator, row.columns, &mut marks);
    marks.done();
    if run.members > 0 || run.is_key {
        reader.seek(run.end);
    }
    run
}

/// Reads members from the separator at `end` on.
#[inline(never)]
pub fn members(
    key_order: &[ExpectedMember],
    bytes: TerminatedBytes<'_>,
    mut end: usize,
    mut separator: u8,
    columns: &mut [Column],
    marks: &mut impl FillTracker,
) -> FastPathRun {
    let mut members = 0;
    let mut is_key = false;
    for ExpectedMember { key, take } in key_order {
        let Some(value) = key.value_behind(separator, bytes.bytes(), end) else { break };
        let read = match take {
            MemberAction::Fill { binding, fast_kind, unit } => marks.fill(*binding, || {
                value::read_fast(bytes, value, *fast_kind, *unit, columns.get_mut(*binding)?)
            }),
            MemberAction::Pass => plain_text(bytes.bytes(), value).map(|(_, end)| end),
            MemberAction::Leave => None,
        };
        let Some(read) = read else {
            is_key = true;
            end = value;
            break;
        };
        end = read;
        separator = b',';
        members += 1;
    }
    FastPathRun { members, is_key, end }
}
