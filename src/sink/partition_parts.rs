//! Messages by the partitions of their rows, and parts of them that have few partitions each.

use std::collections::HashMap;
use std::ops::Range;

use crate::spool::Part;

/// Each message of a part, in order, and the partitions of its rows.
pub(super) struct PartitionedMessages(Vec<(usize, Vec<u64>)>);

impl PartitionedMessages {
    /// `counts` says how many rows each message of the part has, and `partitions` has a number for each row. `None`: they do
    /// not agree.
    pub fn new(part: &[Range<usize>], counts: &[u32], partitions: &[u64]) -> Option<PartitionedMessages> {
        let mut left = partitions;
        let mut messages = Vec::with_capacity(counts.len());
        for (at, &rows) in part.iter().cloned().flatten().zip(counts) {
            let (own, rest) = left.split_at_checked(rows as usize)?;
            left = rest;
            let mut own = own.to_vec();
            own.sort_unstable();
            own.dedup();
            messages.push((at, own));
        }
        left.is_empty().then_some(PartitionedMessages(messages))
    }
}

/// Parts of at most `limit` partitions each, in the order in which the partitions come first. A message that alone has more
/// is a part of its own.
pub(super) fn pack(messages: PartitionedMessages, limit: usize) -> Vec<Part> {
    let mut part_of: HashMap<u64, usize> = HashMap::new();
    let mut parts: Vec<(Vec<usize>, usize)> = Vec::new();
    for (at, partitions) in messages.0 {
        // The part that has one of its partitions already, if the others fit there too; else the last part.
        let known = partitions.iter().find_map(|partition| part_of.get(partition).copied());
        let places = [known, parts.len().checked_sub(1)];
        let fitting = places.into_iter().flatten().find(|part| {
            let new = partitions.iter().filter(|partition| part_of.get(partition) != Some(part)).count();
            parts[*part].1 + new <= limit
        });
        let part = fitting.unwrap_or_else(|| {
            parts.push((Vec::new(), 0));
            parts.len() - 1
        });
        for partition in partitions {
            if part_of.get(&partition) != Some(&part) {
                // It may be in an earlier part too, for a message of several partitions.
                part_of.entry(partition).or_insert(part);
                parts[part].1 += 1;
            }
        }
        parts[part].0.push(at);
    }
    parts.into_iter().map(|(places, _)| runs(&places)).collect()
}

/// Places in order as ranges.
fn runs(places: &[usize]) -> Part {
    let mut runs = Part::new();
    for &at in places {
        match runs.last_mut() {
            Some(run) if run.end == at => run.end += 1,
            _ => runs.push(at..at + 1),
        }
    }
    runs
}

#[cfg(test)]
#[expect(clippy::single_range_in_vec_init, reason = "parts of one run")]
mod tests {
    use std::collections::HashSet;

    use proptest::prelude::*;

    use super::*;

    fn of(partitions: impl IntoIterator<Item = u64>) -> PartitionedMessages {
        PartitionedMessages(partitions.into_iter().map(|partition| vec![partition]).enumerate().collect())
    }

    #[test]
    fn partitions_that_alternate_are_as_few_parts_as_those_that_do_not() {
        assert_eq!(pack(of((0..5_000).map(|at| at % 252)), 100).len(), 3);
        assert_eq!(pack(of((0..5_000).map(|at| at / 20)), 100).len(), 3);
        assert_eq!(pack(of([7, 8, 7, 9, 8]), 2), [vec![0..3, 4..5], vec![3..4]]);
        assert_eq!(pack(of([7, 7, 7]), 1), [vec![0..3]]);
    }

    #[test]
    fn a_message_of_more_partitions_than_a_part_may_have_is_alone() {
        let messages = vec![(0, vec![1]), (1, vec![2, 3, 4]), (2, vec![1]), (3, Vec::new())];
        assert_eq!(pack(PartitionedMessages(messages), 2), [vec![0..1, 2..3], vec![1..2], vec![3..4]]);
    }

    #[test]
    fn rows_are_those_of_their_messages() {
        let messages = PartitionedMessages::new(&[0..2, 5..6], &[1, 0, 2], &[7, 9, 8]).unwrap();
        assert_eq!(messages.0, [(0, vec![7]), (1, Vec::new()), (5, vec![8, 9])]);
        assert!(PartitionedMessages::new(&[0..2], &[1, 1], &[7]).is_none());
        assert!(PartitionedMessages::new(&[0..2], &[1, 1], &[7, 8, 9]).is_none());
    }

    proptest! {
        #[test]
        fn each_message_is_in_one_part_and_no_part_has_too_many_partitions(
            messages in proptest::collection::vec(proptest::collection::btree_set(0u64..40, 0..3), 1..200),
            limit in 2usize..20,
        ) {
            let messages: Vec<(usize, Vec<u64>)> =
                messages.into_iter().map(|own| own.into_iter().collect()).enumerate().collect();
            let parts = pack(PartitionedMessages(messages.clone()), limit);
            let mut all: Vec<usize> = parts.iter().flatten().cloned().flatten().collect();
            all.sort_unstable();
            prop_assert_eq!(all, (0..messages.len()).collect::<Vec<_>>());
            for part in &parts {
                let own: HashSet<u64> =
                    part.iter().cloned().flatten().flat_map(|at| messages[at].1.clone()).collect();
                prop_assert!(own.len() <= limit);
                prop_assert!(part.is_sorted_by(|one, next| one.end < next.start));
            }
        }
    }
}
