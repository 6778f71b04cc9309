//! INSERTs of the spool that are made in parts, by processes that end between two of them: the next
//! process sends the same parts under the same tokens, also where the undivided INSERT would succeed by
//! then.

use std::collections::BTreeMap;

use serde_json::{Value, json};

use super::fake_clickhouse::{Answer, Gate, Insert};
use super::harness::{Ended, Running, assert_rows, clickhouse};

const PARTITIONS: Answer =
    Answer::Exception(252, "Too many partitions for single INSERT block (more than 100)");

fn spooled(dir: &tempfile::TempDir) -> Value {
    json!({ "spool": { "dir": dir.path() }, "mqtt": { "clientId": "client" } })
}

/// One record of `messages` messages, in a process that ends while INSERT number `held` is under way.
/// Its rows may be stored or not.
fn first_life(dir: &tempfile::TempDir, messages: u32, limit: usize, held: usize, is_stored: bool) -> Ended {
    let clickhouse = clickhouse();
    clickhouse.limit(limit, PARTITIONS);
    let mut script = vec![Answer::Limited; held - 1];
    if is_stored {
        script.push(Answer::StoredAndCut);
    }
    script.push(Answer::Held(Gate::default()));
    clickhouse.script(script);
    let mut running = Running::at(clickhouse, spooled(dir));
    running.send_numbers(0..messages);
    running.seal();
    running.wait_for_acknowledgements(messages as usize);
    running.flush_spool();
    running.clickhouse.wait_for_inserts(held + usize::from(is_stored));
    running.cancel()
}

/// The rows of each token are always the same.
pub fn assert_same_boundaries(inserts: &[Insert]) {
    let mut rows: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
    for insert in inserts {
        let seqs: Vec<&str> = insert.blocks.iter().flatten().map(|row| row["seq"].as_str()).collect();
        let known = rows.entry(&insert.token).or_insert_with(|| seqs.clone());
        assert_eq!(*known, seqs, "{}", insert.token);
    }
}

pub fn names(dir: &tempfile::TempDir) -> Vec<String> {
    let files = std::fs::read_dir(dir.path()).unwrap();
    let names = files.map(|file| file.unwrap().file_name().into_string().unwrap());
    names.filter(|name| name.starts_with("cuts-")).collect()
}

/// However many of the parts were in: each row is there once, and nothing was sent under a new token.
#[test]
fn a_life_that_ends_between_two_parts_doubles_nothing() {
    for (messages, limit) in [(10, 3), (7, 1), (16, 8)] {
        for held in 2..9 {
            for is_stored in [false, true] {
                let dir = tempfile::tempdir().unwrap();
                // Beyond its parts there is nothing to hold.
                if held > 2 * messages as usize / limit {
                    continue;
                }
                let first = first_life(&dir, messages, limit, held, is_stored);
                let sent = first.clickhouse.inserts();
                let is_divided = sent.iter().any(|insert| insert.token != sent[0].token);
                assert_eq!(names(&dir).len(), usize::from(is_divided), "{} INSERTs", sent.len());
                // The limit is gone: the undivided INSERT would succeed.
                first.clickhouse.limit(1_000, PARTITIONS);
                let ended = Running::at(first.clickhouse, spooled(&dir)).finish_spooled();
                assert_rows(&ended.clickhouse, 0..messages);
                assert_eq!((ended.inserted, ended.pending), (u64::from(messages), 0));
                assert_same_boundaries(&ended.clickhouse.inserts());
                assert!(names(&dir).is_empty(), "what is done needs no parts");
            }
        }
    }
}

/// Bad rows within parts, and parts that are divided again in the second life.
#[test]
fn parts_of_parts_are_kept_too() {
    let dir = tempfile::tempdir().unwrap();
    // It ends while the first half is under way, which is too large as well.
    let first = first_life(&dir, 12, 2, 3, false);
    first.clickhouse.refuse("t", |row| row["seq"] == "8");
    first.clickhouse.script(vec![
        Answer::Limited,
        Answer::Limited,
        Answer::Limited,
        Answer::Limited,
        Answer::Held(Gate::default()),
    ]);
    let before = first.clickhouse.inserts().len();
    let second = Running::at(first.clickhouse, spooled(&dir));
    second.clickhouse.wait_for_inserts(before + 5);
    let second = second.cancel();
    second.clickhouse.limit(1_000, PARTITIONS);
    let ended = Running::at(second.clickhouse, spooled(&dir)).finish_spooled();
    assert_rows(&ended.clickhouse, (0..12).filter(|seq| *seq != 8));
    assert_eq!((ended.inserted, ended.dead_lettered), (11, 1));
    assert_same_boundaries(&ended.clickhouse.inserts());
}

/// A division that cannot be noted is not made: the next process would not know it.
#[test]
fn parts_that_cannot_be_noted_are_not_sent() {
    let dir = tempfile::tempdir().unwrap();
    let clickhouse = clickhouse();
    clickhouse.limit(3, PARTITIONS);
    let mut running = Running::at(clickhouse, spooled(&dir));
    // A directory in the place of the file.
    let name = dir.path().join("cuts-0000000000-0000000001.v2");
    std::fs::create_dir(&name).unwrap();
    running.send_numbers(0..6);
    running.seal();
    running.flush_spool();
    running.wait_for_warning("SPOOL_IO");
    assert_eq!(running.clickhouse.rows("t").len(), 0);
    assert!(
        running
            .reported()
            .warnings
            .iter()
            .any(|(_, text)| text.contains("waits until its parts can be noted"))
    );
    std::fs::remove_dir(&name).unwrap();
    let ended = running.finish();
    assert_rows(&ended.clickhouse, 0..6);
}

/// A body that was cut on its way is refused like bad rows. The halves that are then tried are noted too: the next life does
/// not send the undivided INSERT again, which would succeed by then.
#[test]
fn a_life_that_ends_while_bad_rows_are_sought_doubles_nothing() {
    const CUT: Answer = Answer::Exception(33, "Cannot read all data");
    // The right half is divided without being tried, where the left one was inserted.
    for script in [vec![CUT], vec![CUT, CUT], vec![CUT, CUT, CUT]] {
        for taken in 0..4 {
            for is_stored in [false, true] {
                let dir = tempfile::tempdir().unwrap();
                let mut running = Running::at(clickhouse(), spooled(&dir));
                let mut script = script.clone();
                script.extend(vec![Answer::Normal; taken]);
                if is_stored {
                    script.push(Answer::StoredAndCut);
                }
                script.push(Answer::Held(Gate::default()));
                let held = script.len();
                running.clickhouse.script(script);
                running.send_numbers(0..100);
                running.seal();
                running.wait_for_acknowledgements(100);
                running.flush_spool();
                running.clickhouse.wait_for_inserts(held);
                let first = running.cancel();
                assert_eq!(names(&dir).len(), 1);
                let ended = Running::at(first.clickhouse, spooled(&dir)).finish_spooled();
                assert_rows(&ended.clickhouse, 0..100);
                assert_eq!((ended.inserted, ended.dead_lettered, ended.pending), (100, 0, 0));
                assert_same_boundaries(&ended.clickhouse.inserts());
                assert!(names(&dir).is_empty(), "what is done needs no parts");
            }
        }
    }
}
