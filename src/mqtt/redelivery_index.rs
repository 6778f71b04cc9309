//! Finds out whether a redelivery is a message that was acknowledged before, by an [`AckHistory`].
//!
//! A match of content alone, or of packet id and content, may also be a later message that is equal: to drop that would lose
//! it. So a match only counts where the history shows that no later message can look the same:
//!
//! - **By packet id.** A broker that counts packet ids up uses one again after 65,535 messages, long after the history has
//!   forgotten it. Where the ids of the newest records ascend and differ, and are more than the broker had in flight at any
//!   time, one of these records is recognised by id and content, if the history has the content once.
//! - **By packet id, without DUP.** Where a broker counts from a random id on each connection (aedes), a new message has the
//!   next id. Any other id with the content of its record, if the history has that once, is a redelivery.
//! - **By content.** Some brokers number anew on each connection (RabbitMQ, aedes). Where the newest [`MIN_CONTENTS`] records
//!   or more all have different contents, a record in the newer half of these is recognised by its content; with DUP any
//!   record, if all contents of the history differ.

use std::collections::HashMap;

use crate::core::ack_history::{AckHistory, AckRecord};

/// Enough different ids in any case: the window of a broker is smaller by default.
const MAX_MIN_IDS: u64 = 1_000;
/// This many records with different contents show that the publishers do not repeat themselves.
const MIN_CONTENTS: u64 = 1_000;

/// An index over a history, which is extended whenever it is asked. It costs nothing while no broker delivers again.
#[derive(Debug, Default)]
pub struct RedeliveryIndex {
    /// The records in front of this position are indexed.
    end: u64,
    /// The position of the newest record of each packet id.
    ids: HashMap<u16, u64>,
    /// The position of the newest record of each content, and the number of records.
    contents: HashMap<u64, (u64, u32)>,
    /// From here on all packet ids are different.
    ids_differ_from: u64,
    /// From here on all contents are different.
    contents_differ_from: u64,
}

/// Other facts about a session.
#[derive(Debug, Clone, Copy)]
pub struct Evidence {
    /// The position behind the newest record.
    pub end: u64,
    /// From this position on the broker has given packet ids in ascending order.
    pub ids_ascend_from: u64,
    /// The most messages that the broker had in flight.
    pub max_in_flight: usize,
    /// The message has DUP: without it a packet id says nothing.
    pub duplicate: bool,
    /// The broker counts from a random id on each connection, and this id does not follow on the last new one.
    pub is_of_another_run: bool,
}

/// Whether `id` is the next one behind `before`.
pub fn follows(before: u16, id: u16) -> bool {
    id == before.wrapping_add(1).max(1)
}

/// Whether a broker that counts up gives `id` after `before`.
#[inline]
pub fn ascends(before: u16, id: u16) -> bool {
    id > before || (before > 0xf000 && id < 0x1000)
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Match {
    /// The broker delivers this acknowledged message again.
    Sure,
    /// It may do so; but another message may look the same.
    Ambiguous,
}

impl RedeliveryIndex {
    /// Looks for the message in `history`.
    pub fn find(&mut self, history: &AckHistory, record: AckRecord, evidence: Evidence) -> Option<Match> {
        let Evidence { end, ids_ascend_from, max_in_flight, duplicate, is_of_another_run } = evidence;
        self.extend(history, end);
        let (at, count) = *self.contents.get(&record.fingerprint)?;
        if at < end - history.iter().len() as u64 {
            return None;
        }
        let has_id = (duplicate || is_of_another_run) && self.ids.get(&record.packet_id) == Some(&at);
        if is_of_another_run && has_id && count == 1 {
            return Some(Match::Sure);
        }
        // Twice the window may be in flight by our count: acknowledgements that are on their way are not by theirs.
        let min_ids = MAX_MIN_IDS.min(4 * max_in_flight as u64 + 16);
        let ids = end.saturating_sub(self.ids_differ_from.max(ids_ascend_from));
        let by_id = has_id && count == 1 && ids >= min_ids && at >= end - ids;
        let contents = end - self.contents_differ_from;
        let never_repeat = duplicate && contents == history.iter().len() as u64;
        let by_content = contents >= MIN_CONTENTS && (never_repeat || at >= end - contents / 2);
        match (by_id || by_content, has_id) {
            (true, _) => Some(Match::Sure),
            (false, true) => Some(Match::Ambiguous),
            (false, false) => None,
        }
    }

    /// Whether no content has come twice in all of the history.
    pub fn contents_differ(&mut self, history: &AckHistory, end: u64) -> bool {
        self.extend(history, end);
        let len = history.iter().len() as u64;
        len >= MIN_CONTENTS && self.contents_differ_from == end - len
    }

    fn extend(&mut self, history: &AckHistory, end: u64) {
        let len = history.iter().len();
        let first = end - len as u64;
        if self.end < first || self.contents.len() > 2 * len.max(MAX_MIN_IDS as usize) {
            *self = RedeliveryIndex { end: first, ..Self::default() };
        }
        self.ids_differ_from = self.ids_differ_from.max(first);
        self.contents_differ_from = self.contents_differ_from.max(first);
        for (at, record) in (self.end..).zip(history.iter_from((self.end - first) as usize)) {
            if let Some(before) = self.ids.insert(record.packet_id, at) {
                self.ids_differ_from = self.ids_differ_from.max(before + 1);
            }
            let content = self.contents.entry(record.fingerprint).or_insert((at, 0));
            if content.1 > 0 {
                self.contents_differ_from = self.contents_differ_from.max(content.0 + 1);
            }
            *content = (at, content.1 + 1);
        }
        self.end = end;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const WINDOW: usize = 1_000;

    struct Case {
        history: AckHistory,
        end: u64,
        index: RedeliveryIndex,
    }

    impl Case {
        fn new(records: impl IntoIterator<Item = (u32, u32)>) -> Case {
            let mut case = Case { history: AckHistory::default(), end: 0, index: RedeliveryIndex::default() };
            case.push(records);
            case
        }

        fn push(&mut self, records: impl IntoIterator<Item = (u32, u32)>) {
            for (packet_id, fingerprint) in records {
                self.history.push(record(packet_id, fingerprint));
                self.end += 1;
            }
        }

        fn find(&mut self, packet_id: u32, fingerprint: u32) -> Option<Match> {
            let evidence = evidence(self.end, 0, WINDOW);
            self.index.find(&self.history, record(packet_id, fingerprint), evidence)
        }
    }

    fn evidence(end: u64, ids_ascend_from: u64, max_in_flight: usize) -> Evidence {
        Evidence { end, ids_ascend_from, max_in_flight, duplicate: true, is_of_another_run: false }
    }

    fn record(packet_id: u32, content: u32) -> AckRecord {
        AckRecord { packet_id: packet_id as u16, qos: 1, fingerprint: u64::from(content) }
    }

    /// Contents of which every second one stood in front of it once before, so that content alone shows nothing.
    fn repeating(i: u32) -> u32 {
        if i % 20 < 2 { i / 20 } else { 1_000_000 + i }
    }

    #[test]
    fn ids_that_count_up_are_recognised() {
        let mut case = Case::new((1..=1000).map(|i| (i, repeating(i))));
        assert_eq!(case.find(999, repeating(999)), Some(Match::Sure));
        assert_eq!(case.find(502, repeating(502)), Some(Match::Sure));
        assert_eq!(case.find(3, repeating(3)), Some(Match::Sure), "however late");
        assert_eq!(case.find(999, 7_777_777), None, "other content");
        assert_eq!(case.find(998, repeating(999)), None, "another id");
        let mut case = Case::new((1..1000).map(|i| (i, repeating(i))));
        assert_eq!(case.find(999, repeating(999)), Some(Match::Ambiguous), "too few to know");
        let mut case = Case::new((1..=70_000).map(|i| (i % 65_535 + 1, repeating(i))));
        assert_eq!(case.find(69_999 % 65_535 + 1, repeating(69_999)), Some(Match::Sure));
        assert_eq!(case.find(3, repeating(2)), None, "forgotten");
    }

    #[test]
    fn a_small_window_needs_fewer_ids() {
        let mut case = Case::new((1..=60).map(|i| (i, repeating(i))));
        let evidence = evidence(case.end, 0, 10);
        let narrow = case.index.find(&case.history, record(59, repeating(59)), evidence);
        assert_eq!(narrow, Some(Match::Sure));
        assert_eq!(case.find(59, repeating(59)), Some(Match::Ambiguous));
    }

    #[test]
    fn ids_that_come_again_soon_are_not_recognised() {
        let mut case = Case::new((0..5000).map(|i| (i % 999, repeating(i))));
        assert_eq!(case.find(4999 % 999, repeating(4999)), Some(Match::Ambiguous));
        // Records in front of the last repetition of an id show nothing.
        let mut case = Case::new((1..=1500).map(|i| (i, repeating(i))));
        case.push([(1500, 1_111_111)]);
        assert_eq!(case.find(1499, repeating(1499)), Some(Match::Ambiguous));
    }

    #[test]
    fn ids_that_begin_anew_are_not_recognised() {
        assert!(ascends(1, 2) && ascends(65_535, 1) && !ascends(2_000, 1) && !ascends(7, 7));
        let mut case = Case::new((1..=2000).map(|i| (i, repeating(i))));
        let evidence = evidence(case.end, 1_500, WINDOW);
        let found = case.index.find(&case.history, record(1999, repeating(1999)), evidence);
        assert_eq!(found, Some(Match::Ambiguous));
    }

    #[test]
    fn content_that_came_twice_is_not_recognised() {
        let mut case = Case::new((1..=2000).map(|i| (i, if i == 3 || i == 1998 { 0 } else { repeating(i) })));
        assert_eq!(case.find(1998, 0), Some(Match::Ambiguous));
        assert_eq!(case.find(1997, repeating(1997)), Some(Match::Sure));
    }

    #[test]
    fn an_id_of_another_run_is_recognised_without_dup() {
        let mut case = Case::new((1..=100).map(|i| (40_000 + i, repeating(i))));
        let mut find = |packet_id, fingerprint| {
            let evidence =
                Evidence { duplicate: false, is_of_another_run: true, ..evidence(case.end, 0, WINDOW) };
            case.index.find(&case.history, record(packet_id, fingerprint), evidence)
        };
        assert_eq!(find(40_099, repeating(99)), Some(Match::Sure));
        assert_eq!(find(40_098, repeating(99)), None, "another id");
        assert_eq!(find(40_021, repeating(21)), Some(Match::Ambiguous), "content that came twice");
    }

    #[test]
    fn contents_that_never_repeat_are_recognised_under_other_ids() {
        let mut case = Case::new((1..=1200).map(|i| (i, i)));
        assert_eq!(case.find(1, 1200), Some(Match::Sure));
        assert_eq!(case.find(1, 601), Some(Match::Sure));
        assert_eq!(case.find(2, 600), Some(Match::Sure), "none has ever repeated");
        case.push([(1201, 1200)]);
        assert_eq!(case.find(1, 1200), None, "it has repeated");
        case.push((1202..=2400).map(|i| (i, i)));
        assert_eq!(case.find(1, 2300), Some(Match::Sure), "it has not for a while");
        assert_eq!(case.find(2, 1300), None, "of the older half");
        let mut case = Case::new((1..=999).map(|i| (i, i)));
        assert_eq!(case.find(1, 999), None, "too few to know");
    }

    #[test]
    fn an_index_that_is_extended_knows_what_a_new_one_does() {
        let mut case = Case::new(std::iter::empty());
        for i in 1..=100_000u32 {
            case.push([(i % 65_535 + 1, repeating(i))]);
            if i % 977 == 0 {
                for back in [0, 1, 500, 900] {
                    let i = i.saturating_sub(back).max(1);
                    let mut fresh = RedeliveryIndex::default();
                    let wanted = record(i % 65_535 + 1, repeating(i));
                    let evidence = evidence(case.end, 0, WINDOW);
                    let expected = fresh.find(&case.history, wanted, evidence);
                    assert_eq!(case.find(i % 65_535 + 1, repeating(i)), expected);
                }
            }
        }
    }
}
