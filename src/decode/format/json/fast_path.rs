//! The members of an object that stand as they stood in the last one: telemetry repeats the order of its keys.
//!
//! What is read here is read in the same way elsewhere, only slower: wherever a member is not what is usual, the walk takes
//! over at its comma, and comes back for the next.

use crate::clickhouse::Column;
use crate::config::Unit;
use crate::decode::fill::Mark;
use crate::decode::format::json::lexer::{Key, Reader, plain_text};
use crate::decode::number::Guarded;
use crate::decode::path_tree::Row;
use crate::decode::value::{self, Quick};

/// How one member is read.
#[derive(Debug, Clone)]
pub struct Step {
    key: Key,
    take: Take,
}

/// What becomes of its value.
#[derive(Debug, Clone)]
pub enum Take {
    /// It goes into the column of one slot.
    Fill { slot: usize, quick: Quick, unit: Unit },
    /// No column wants it.
    Pass,
    /// It is for the walk.
    Leave,
}

impl Step {
    pub fn new(name: &str, take: Take) -> Step {
        Step { key: Key::new(name), take }
    }

    /// The slot that it fills.
    pub fn slot(&self) -> Option<usize> {
        match self.take {
            Take::Fill { slot, .. } => Some(slot),
            Take::Pass | Take::Leave => None,
        }
    }
}

/// The members of an object in the order in which they stood in the last one.
#[derive(Debug, Default, Clone)]
pub struct Steps {
    steps: Vec<Step>,
    /// How often it has changed.
    changes: u64,
}

impl Steps {
    pub fn new(steps: Vec<Step>) -> Steps {
        Steps { steps, changes: 0 }
    }

    pub fn as_slice(&self) -> &[Step] {
        &self.steps
    }

    pub fn swap(&mut self, a: usize, b: usize) {
        self.steps.swap(a, b);
        self.changes += (a != b) as u64;
    }

    pub fn changes(&self) -> u64 {
        self.changes
    }
}

/// How far the members are what the steps say.
pub struct Run {
    /// So many of them are read.
    pub members: usize,
    /// The next one has its key where it was expected, and its value is for the walk.
    pub is_key: bool,
    /// Where the last value ends; with `is_key`, where the next one begins.
    pub end: usize,
}

/// Reads as many members as are what the steps say.
#[inline]
pub fn read(steps: &[Step], is_first: bool, reader: &mut Reader<'_>, row: &mut Row<'_>) -> Run {
    let at = reader.position();
    let Some(bytes) = reader.guarded().filter(|_| row.places.is_none()) else {
        return Run { members: 0, is_key: false, end: at };
    };
    // With what stands before it, the first member is like all others.
    let (begin, separator) = if is_first { (at.wrapping_sub(1), b'{') } else { (at, b',') };
    let mut marks = row.filled.more();
    let run = members(steps, bytes, begin, separator, row.columns, &mut marks);
    marks.done();
    if run.members > 0 || run.is_key {
        reader.pass(run.end);
    }
    run
}

/// Reads members from the separator at `end` on.
#[inline(never)]
pub fn members(
    steps: &[Step],
    bytes: Guarded<'_>,
    mut end: usize,
    mut separator: u8,
    columns: &mut [Column],
    marks: &mut impl Mark,
) -> Run {
    let mut members = 0;
    let mut is_key = false;
    for Step { key, take } in steps {
        let Some(value) = key.value_behind(separator, bytes.bytes(), end) else { break };
        let read = match take {
            Take::Fill { slot, quick, unit } => marks
                .fill(*slot, || value::read_quickly(bytes, value, *quick, *unit, columns.get_mut(*slot)?)),
            Take::Pass => plain_text(bytes.bytes(), value).map(|(_, end)| end),
            Take::Leave => None,
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
    Run { members, is_key, end }
}
