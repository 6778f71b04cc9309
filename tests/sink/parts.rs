//! Batches that one INSERT cannot take.

use serde_json::json;

use super::fake_clickhouse::Answer;
use super::harness::{Running, assert_rows};

const PARTITIONS: Answer =
    Answer::Exception(252, "Too many partitions for single INSERT block (more than 100)");

fn each_limit() -> [Answer; 3] {
    [
        PARTITIONS,
        Answer::Status(413, "<html>Request Entity Too Large"),
        Answer::Exception(241, "Memory limit"),
    ]
}

#[test]
fn a_batch_that_is_too_large_is_inserted_in_parts() {
    for answer in each_limit() {
        for spooled in [false, true] {
            let dir = tempfile::tempdir().unwrap();
            let spool = if spooled { json!({ "spool": { "dir": dir.path() } }) } else { json!({}) };
            let mut running = Running::start(spool);
            running.clickhouse.limit(3, answer.clone());
            running.send_numbers(0..10);
            let ended = running.finish();
            assert_rows(&ended.clickhouse, 0..10);
            assert_eq!((ended.inserted, ended.dead_lettered), (10, 0));
            assert_eq!(ended.reported.count("BATCH_SPLIT"), 1);
            let inserts = ended.clickhouse.inserts();
            let stored: Vec<_> = inserts.iter().filter(|insert| insert.blocks[0].len() <= 3).collect();
            let batch = &inserts[0].token;
            assert!(stored.iter().all(|insert| insert.token.starts_with(&format!("{batch}-"))));
            let mut tokens: Vec<_> = stored.iter().map(|insert| &insert.token).collect();
            tokens.dedup();
            assert_eq!(tokens.len(), stored.len(), "each part has a token of its own");
        }
    }
}

#[test]
fn a_size_that_succeeded_is_remembered_for_the_next_batches_and_grows_again() {
    let mut running = Running::start(json!({}));
    running.clickhouse.limit(4, PARTITIONS);
    running.send_numbers(0..8);
    running.seal();
    running.wait_for_acknowledgements(8);
    let before = running.clickhouse.inserts().len();
    running.send_numbers(8..16);
    running.seal();
    running.wait_for_acknowledgements(16);
    let next = &running.clickhouse.inserts()[before..];
    assert!(next[0].blocks[0].len() < 8, "it is not tried undivided: {}", next[0].blocks[0].len());
    running.clickhouse.limit(1000, PARTITIONS);
    for batch in 2..12 {
        running.send_numbers(batch * 8..batch * 8 + 8);
        running.seal();
        running.wait_for_acknowledgements(batch as usize * 8 + 8);
    }
    let last = running.clickhouse.inserts().pop().unwrap();
    assert_eq!(last.blocks[0].len(), 8, "in the end a batch is inserted undivided again");
    let ended = running.finish();
    assert_rows(&ended.clickhouse, 0..96);
}

/// A message that a proxy passes on in no size ends as a dead letter, with the words of who refused it.
#[test]
fn a_message_too_large_alone_becomes_a_dead_letter() {
    let mut running = Running::start(json!({}));
    running.clickhouse.limit(0, Answer::Status(413, "too large for us"));
    running.send_numbers(0..2);
    let ended = running.finish();
    assert_eq!((ended.inserted, ended.dead_lettered), (0, 2));
    let (_, code, message) = &ended.reported.dead_letters[0];
    assert_eq!(*code, "REJECTED_BY_CLICKHOUSE");
    assert!(message.contains("413 Payload Too Large: too large for us"), "{message}");
}

/// Bad rows in a batch that is inserted in parts.
#[test]
fn bad_rows_are_found_within_the_parts() {
    let mut running = Running::start(json!({}));
    running.clickhouse.limit(3, PARTITIONS);
    running.clickhouse.refuse("t", |row| row["seq"] == "5");
    running.send_numbers(0..10);
    let ended = running.finish();
    assert_eq!((ended.inserted, ended.dead_lettered), (9, 1));
    assert_eq!(ended.clickhouse.values("t", "seq").len(), 9);
    assert!(ended.reported.dead_letters[0].0.contains("\"seq\":5"));
}

/// An attempt whose outcome is unknown may be in: the rows must not be sent under other tokens.
#[test]
fn a_batch_that_may_be_in_is_not_divided() {
    let mut running = Running::start(json!({}));
    running.clickhouse.script([Answer::StoredAndCut]);
    running.clickhouse.limit(3, Answer::Exception(241, "Memory limit"));
    running.send_numbers(0..6);
    running.seal();
    running.clickhouse.wait_for_inserts(8);
    let inserts = running.clickhouse.inserts();
    assert!(inserts.iter().all(|insert| insert.token == inserts[0].token));
    running.clickhouse.limit(1000, PARTITIONS);
    let ended = running.finish();
    assert_rows(&ended.clickhouse, 0..6);
}
