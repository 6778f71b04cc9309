//! Where a path leads on a tape.

use crate::core::json_path::{Path, Segment};
use crate::core::reason::{Code, Reason};
use crate::decode::tape::{Tape, Value};
use crate::decode::value_reader::Result;

/// A value, and the key under which a path found it if its last step was any key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Place {
    pub value: usize,
    pub key: Option<usize>,
}

/// The value that `segments` lead to from `at`. `null` is there, and the caller's to judge.
pub fn find(tape: &Tape<'_>, at: usize, segments: &[Segment]) -> Option<Place> {
    let Some((first, rest)) = segments.split_first() else { return Some(Place { value: at, key: None }) };
    match first {
        Segment::Field(name) => find(tape, tape.member(at, name)?, rest),
        Segment::Item(index) => find(tape, tape.items(at).nth(*index)?, rest),
        Segment::FromEnd(index) => {
            let count = tape.items(at).count();
            let place =
                usize::try_from(index.unsigned_abs()).ok().and_then(|back| count.checked_sub(back))?;
            find(tape, tape.items(at).nth(place)?, rest)
        }
        // The first key below which the rest is there.
        Segment::AnyField => tape.keys(at).find_map(|key| {
            let found = find(tape, key + 1, rest)?;
            Some(if rest.is_empty() { Place { key: Some(key), ..found } } else { found })
        }),
        // Columns have no such paths.
        Segment::EachItem => None,
    }
}

/// The values that one row is made of.
#[derive(Debug, Clone, Default)]
pub struct RowPlace {
    pub item: usize,
    /// The key of a member that is a row.
    pub key: Option<usize>,
    /// The items around it, from the outside in.
    pub around: Vec<usize>,
}

/// The rows at `segments`: of a list its items, of `*` the members. `None`: there is no value, or it is
/// not a list.
pub fn rows(tape: &Tape<'_>, at: usize, segments: &[Segment]) -> Option<Vec<RowPlace>> {
    let mut found = Vec::new();
    collect(tape, RowPlace { item: at, ..RowPlace::default() }, at, segments, &mut found)?;
    Some(found)
}

/// `at` is below the item of `row`.
fn collect(
    tape: &Tape<'_>,
    row: RowPlace,
    at: usize,
    segments: &[Segment],
    found: &mut Vec<RowPlace>,
) -> Option<()> {
    let is_row = found.len();
    let below = |item: usize, key: Option<usize>| {
        let mut around = row.around.clone();
        // The document itself is looked at in any case.
        around.push(row.item);
        RowPlace { item, key, around }
    };
    let is_list = matches!(tape.value(at), Value::List { .. });
    let mut each = |rest: &[Segment]| {
        if !is_list {
            return None;
        }
        for item in tape.items(at) {
            let row = below(item, None);
            match rest {
                [] => found.push(row),
                // An item without the inner list has no rows.
                _ => drop(collect(tape, row, item, rest, found)),
            }
        }
        Some(())
    };
    match segments.split_first() {
        None => each(&[]),
        Some((Segment::EachItem, rest)) => each(rest),
        // A list on the way stands for each of its items.
        Some((Segment::Field(_) | Segment::AnyField, _)) if is_list => each(segments),
        Some((Segment::AnyField, rest)) => {
            let keys: Vec<usize> = tape.keys(at).collect();
            if keys.is_empty() && !matches!(tape.value(at), Value::Object { .. }) {
                return None;
            }
            for key in keys {
                let row = below(key + 1, Some(key));
                match rest {
                    [] => found.push(row),
                    _ => drop(collect(tape, row, key + 1, rest, found)),
                }
            }
            Some(())
        }
        Some((_, rest)) => {
            let place = find(tape, at, &segments[..1])?;
            debug_assert_eq!(found.len(), is_row);
            collect(tape, row, place.value, rest, found)
        }
    }
}

/// The items of lists that lie side by side; all lists have the same number of items.
pub fn side_by_side(tape: &Tape<'_>, root: usize, zip: &[(String, Path)]) -> Result<Vec<Vec<usize>>> {
    let mut lists: Vec<Vec<usize>> = Vec::with_capacity(zip.len());
    for (name, path) in zip {
        let place = find(tape, root, &path.segments).map(|place| place.value);
        match place {
            Some(at) if matches!(tape.value(at), Value::List { .. }) => lists.push(tape.items(at).collect()),
            place => return Err(no_list(place.is_some(), name)),
        }
        let count = lists[0].len();
        if let Some(other) = lists.last().filter(|list| list.len() != count) {
            let message = format!("rows: {name} has {} items, and {} has {count}", other.len(), zip[0].0);
            return Err(Box::new(Reason::new(Code::TypeMismatch, message)));
        }
    }
    Ok(lists)
}

#[cold]
pub fn no_list(is_there: bool, what: &str) -> Box<Reason> {
    Box::new(match is_there {
        true => Reason::new(Code::TypeMismatch, "rows: what stands there is not a list"),
        false => Reason::new(Code::FieldMissing, format!("rows: {what} is missing")),
    })
}
