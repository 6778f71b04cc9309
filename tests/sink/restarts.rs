//! ClickHouse that is restarted between two attempts, and confirms a token whose rows it has lost.

use serde_json::{Value, json};

use super::fake_clickhouse::{Answer, Gate, Insert};
use super::harness::{Ended, Running, assert_rows, clickhouse};

fn changes(spool: Option<&tempfile::TempDir>) -> Value {
    match spool {
        Some(dir) => json!({ "spool": { "dir": dir.path() }, "mqtt": { "clientId": "client" } }),
        None => json!({}),
    }
}

fn is_repair(insert: &Insert) -> bool {
    insert.token.contains("-again")
}

fn repairs(ended: &Ended) -> usize {
    ended.clickhouse.inserts().iter().filter(|insert| is_repair(insert)).count()
}

#[test]
fn rows_that_a_crash_lost_are_inserted_again() {
    for is_spooled in [false, true] {
        let dir = tempfile::tempdir().unwrap();
        let mut running = Running::start(changes(is_spooled.then_some(&dir)));
        running.clickhouse.script([Answer::LostInACrash]);
        running.send_numbers(0..5);
        let ended = running.finish();
        assert_rows(&ended.clickhouse, 0..5);
        assert_eq!((ended.inserted, ended.dead_lettered, repairs(&ended)), (5, 0, 1));
        assert_eq!(ended.reported.count("ROWS_RESTORED"), 1);
        assert_eq!(ended.reported.field("ROWS_RESTORED", "rows"), 5);
        let inserts = ended.clickhouse.inserts();
        assert_eq!(inserts[0].token, inserts[1].token);
        assert_eq!(inserts[2].token, format!("{}-again", inserts[0].token));
        assert!(inserts[2].body == inserts[0].body);
    }
}

#[test]
fn rows_that_are_there_are_not_doubled() {
    for is_spooled in [false, true] {
        let dir = tempfile::tempdir().unwrap();
        let mut running = Running::start(changes(is_spooled.then_some(&dir)));
        running.clickhouse.script([Answer::StoredInACrash]);
        running.send_numbers(0..5);
        let ended = running.finish();
        assert_rows(&ended.clickhouse, 0..5);
        assert_eq!((ended.inserted, repairs(&ended), ended.reported.count("ROWS_RESTORED")), (5, 1, 0));
    }
}

/// Only an attempt of which the outcome is unknown, and a server that has been started since, cost anything.
#[test]
fn nothing_is_looked_at_without_a_reason() {
    // A lost answer of a server that goes on.
    let mut running = Running::start(json!({}));
    running.clickhouse.script([Answer::StoredAndCut, Answer::Cut, Answer::Exception(252, "Too many parts")]);
    running.send_numbers(0..5);
    let ended = running.finish();
    assert_rows(&ended.clickhouse, 0..5);
    assert_eq!(repairs(&ended), 0);

    // A restart, and an attempt of which ClickHouse said no.
    let mut running = Running::start(json!({}));
    running.clickhouse.script([Answer::Exception(252, "Too many parts")]);
    running.clickhouse.restart();
    running.send_numbers(0..5);
    let ended = running.finish();
    assert_rows(&ended.clickhouse, 0..5);
    assert_eq!(repairs(&ended), 0);

    // A table that recognises no token has really inserted what it confirms.
    let clickhouse = clickhouse();
    clickhouse.forget_tokens("t");
    let mut running = Running::at(clickhouse, json!({}));
    running.clickhouse.script([Answer::LostInACrash]);
    running.send_numbers(0..5);
    let ended = running.finish();
    assert_rows(&ended.clickhouse, 0..5);
    assert_eq!(repairs(&ended), 0);
}

/// The look itself can fail, and be lost in a crash.
#[test]
fn the_look_is_tried_again_until_it_succeeds() {
    let mut running = Running::start(json!({}));
    running.clickhouse.script([
        Answer::LostInACrash,
        Answer::Normal,
        Answer::Cut,
        Answer::Status(502, "Bad Gateway"),
        Answer::Exception(202, "Too many simultaneous queries"),
    ]);
    running.send_numbers(0..5);
    let ended = running.finish();
    assert_rows(&ended.clickhouse, 0..5);
    assert_eq!((repairs(&ended), ended.reported.count("ROWS_RESTORED")), (4, 1));
    // The INSERT that restores the rows can leave a token behind without them as well.
    let mut running = Running::start(json!({}));
    running.clickhouse.script([Answer::LostInACrash, Answer::Normal, Answer::LostInACrash]);
    running.send_numbers(0..5);
    let ended = running.finish();
    assert_rows(&ended.clickhouse, 0..5);
    assert!(repairs(&ended) >= 2);
}

/// Without the right to read the table the rows cannot be verified: a warning says so, and the stream
/// goes on.
#[test]
fn rows_that_cannot_be_verified_cause_a_warning() {
    let mut running = Running::start(json!({}));
    running.clickhouse.forbid_reading((497, "Not enough privileges"));
    running.clickhouse.script([Answer::StoredInACrash]);
    running.send_numbers(0..5);
    let ended = running.finish();
    assert_rows(&ended.clickhouse, 0..5);
    assert_eq!((ended.inserted, repairs(&ended), ended.reported.count("INSERT_UNVERIFIED")), (5, 1, 1));
    // Parts that are too large to be looked at are not waited for without end.
    let mut running = Running::start(json!({}));
    running.clickhouse.script([Answer::StoredInACrash, Answer::Normal]);
    running.clickhouse.script(vec![Answer::Exception(202, "Too many simultaneous queries"); 20]);
    running.clickhouse.script(vec![Answer::Exception(241, "Memory limit exceeded"); 5]);
    running.send_numbers(0..5);
    let ended = running.finish();
    assert_rows(&ended.clickhouse, 0..5);
    assert_eq!((ended.inserted, repairs(&ended), ended.reported.count("INSERT_UNVERIFIED")), (5, 25, 1));
}

/// An attempt of an earlier process counts as one of which the outcome is unknown.
#[test]
fn rows_that_an_earlier_process_sent_are_verified() {
    for answer in [Answer::LostInACrash, Answer::StoredInACrash] {
        let dir = tempfile::tempdir().unwrap();
        let clickhouse = clickhouse();
        // The process is killed while the next attempt is under way.
        clickhouse.script([answer, Answer::Held(Gate::default())]);
        let mut running = Running::at(clickhouse, changes(Some(&dir)));
        running.send_numbers(0..5);
        running.seal();
        running.wait_for_acknowledgements(5);
        running.flush_spool();
        running.clickhouse.wait_for_inserts(2);
        let first = running.cancel();
        let ended = Running::at(first.clickhouse, changes(Some(&dir))).finish_spooled();
        assert_rows(&ended.clickhouse, 0..5);
        assert_eq!((ended.inserted, repairs(&ended)), (5, 1));
    }
}

/// A body that is cut on its way is refused like bad rows. Where the rows may be in, they are not sent under other tokens for that.
#[test]
fn one_refusal_is_not_believed_of_what_may_be_in() {
    for is_spooled in [false, true] {
        for refusal in [Answer::Exception(33, "Cannot read all data"), Answer::Status(413, "too large")] {
            let dir = tempfile::tempdir().unwrap();
            let mut running = Running::start(changes(is_spooled.then_some(&dir)));
            running.clickhouse.script([
                Answer::StoredAndCut,
                refusal.clone(),
                Answer::Exception(252, "Too many parts"),
                refusal.clone(),
                refusal,
            ]);
            running.send_numbers(0..5);
            let ended = running.finish();
            assert_rows(&ended.clickhouse, 0..5);
            assert_eq!((ended.inserted, ended.dead_lettered), (5, 0));
            let inserts = ended.clickhouse.inserts();
            assert!(inserts.iter().all(|insert| insert.token == inserts[0].token));
        }
    }
}
