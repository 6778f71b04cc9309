//! The members of an object that stand as they stood in the last one: telemetry repeats the order of its keys.
//!
//! What is read here is read in the same way elsewhere, only slower: wherever a member is not what is usual, the walk takes
//! over at its comma, and comes back for the next.

use super::filled::Filled;
use super::number::Guarded;
use super::reader::{Key, Reader, plain_text};
use super::value::{self, Quick};
use super::walk::Row;
use crate::columns::Column;
use crate::config::Unit;

/// How one member is read.
#[derive(Debug, Clone)]
pub struct Step {
    key: Key,
    quick: Quick,
    unit: Unit,
    /// `None`: no column wants the value.
    slot: Option<usize>,
}

impl Step {
    /// The member `name`, of which at most one slot wants the value.
    pub fn new(name: &str, quick: Quick, unit: Unit, slot: Option<usize>) -> Step {
        Step { key: Key::new(name), quick, unit, slot }
    }
}

/// Reads as many members as are what the steps say, and gives their number.
#[inline]
pub fn read(steps: &[Step], is_first: bool, reader: &mut Reader<'_>, row: &mut Row<'_>) -> usize {
    let Some(bytes) = reader.guarded().filter(|_| row.places.is_none()) else { return 0 };
    let at = reader.position();
    // With what stands before it, the first member is like all others.
    let (at, separator) = if is_first { (at.wrapping_sub(1), b'{') } else { (at, b',') };
    let (count, end) = members(steps, bytes, at, separator, row.columns, row.filled);
    if count > 0 {
        reader.pass(end);
    }
    count
}

/// Reads members from the separator at `at` on: their number, and where the last one ends.
#[inline(never)]
pub fn members(
    steps: &[Step],
    bytes: Guarded<'_>,
    mut at: usize,
    mut separator: u8,
    columns: &mut [Column],
    filled: &mut Filled,
) -> (usize, usize) {
    let mut count = 0;
    let mut fresh = filled.more();
    for Step { key, quick, unit, slot } in steps {
        let Some(value) = key.value_behind(separator, bytes.bytes(), at) else { break };
        let end = match slot {
            Some(slot) => {
                fresh.add(*slot, || value::read_quickly(bytes, value, *quick, *unit, columns.get_mut(*slot)?))
            }
            None => plain_text(bytes.bytes(), value).map(|(_, end)| end),
        };
        let Some(end) = end else { break };
        at = end;
        separator = b',';
        count += 1;
    }
    fresh.done();
    (count, at)
}
