//! `clickhouse.retry.maxAgeMs`: what has failed for too long becomes dead letters, with ClickHouse's last words.

use serde_json::{Value, json};

use super::fake_clickhouse::{Answer, Gate};
use super::harness::{Ended, Running, assert_rows, clickhouse};

/// Expires with its first failure.
fn soon(spool: Option<&tempfile::TempDir>) -> Value {
    let mut changes = json!({ "clickhouse": { "retry": { "maxAgeMs": 1 } }, "batch": { "maxDelayMs": 2 } });
    if let Some(dir) = spool {
        changes["spool"] = json!({ "dir": dir.path() });
        changes["mqtt"] = json!({ "clientId": "client" });
    }
    changes
}

fn assert_expired(ended: &Ended, count: usize, words: &str) {
    assert_eq!((ended.dead_lettered, ended.reported.dead_letters.len()), (count as u64, count));
    for (_, code, message) in &ended.reported.dead_letters {
        assert_eq!(*code, "RETRY_EXPIRED");
        assert!(message.contains("clickhouse.retry.maxAgeMs: "), "{message}");
        assert!(message.contains(words), "{message}");
    }
    assert!(ended.reported.count("RETRY_EXPIRED") > 0);
}

/// A busy server, an operator's mistake, a setting that fails with the code of bad rows, and lack of
/// memory.
#[test]
fn a_batch_that_fails_for_too_long_becomes_dead_letters() {
    for (code, words) in [
        (252, "Too many parts"),
        (159, "Timeout exceeded"),
        (497, "Not enough privileges"),
        (201, "Quota exceeded"),
        (27, "Cannot parse '30s'"),
        (241, "Memory limit exceeded"),
        (53, "Type mismatch"),
    ] {
        for is_spooled in [false, true] {
            let dir = tempfile::tempdir().unwrap();
            let mut running = Running::start(soon(is_spooled.then_some(&dir)));
            running.clickhouse.fail_all(Some((code, words)));
            running.send_numbers(0..3);
            running.seal();
            running.wait_for_warning("RETRY_EXPIRED");
            while running.context.ledger.counts().dead_lettered < 3 {
                std::thread::sleep(std::time::Duration::from_millis(1));
            }
            running.clickhouse.fail_all(None);
            running.send_numbers(3..5);
            let ended = running.finish();
            assert_rows(&ended.clickhouse, 3..5);
            assert_eq!(ended.inserted, 2);
            assert_expired(&ended, 3, words);
            let reported = &ended.reported.dead_letters[0].2;
            assert!(!reported.contains("may have its rows"), "ClickHouse said no: {reported}");
        }
    }
}

#[test]
fn a_table_that_is_gone_for_too_long() {
    for is_spooled in [false, true] {
        let dir = tempfile::tempdir().unwrap();
        let mut running = Running::start(soon(is_spooled.then_some(&dir)));
        running.send_numbers(0..1);
        running.seal();
        running.flush_spool();
        running.wait_for_rows("t", 1);
        running.clickhouse.drop_table("t");
        running.clickhouse.fail_all(Some((60, "Table d.t does not exist")));
        running.send_numbers(1..4);
        let ended = running.finish();
        assert_expired(&ended, 3, "t");
    }
}

/// An INSERT without an answer may be in, and the dead letter says so.
#[test]
fn a_dead_letter_says_where_its_row_may_be_in() {
    for is_spooled in [false, true] {
        let dir = tempfile::tempdir().unwrap();
        let mut running = Running::start(soon(is_spooled.then_some(&dir)));
        running.clickhouse.script([vec![Answer::StoredAndCut], vec![Answer::Cut; 100]].concat());
        running.send_numbers(0..2);
        let ended = running.finish();
        assert_rows(&ended.clickhouse, 0..2);
        assert_expired(&ended, 2, "the table may have its rows all the same");
    }
}

/// The age counts from the receipt, whichever process received it.
#[test]
fn messages_too_long_in_the_spool_expire_in_a_later_life() {
    let dir = tempfile::tempdir().unwrap();
    let clickhouse = clickhouse();
    clickhouse.script([Answer::Held(Gate::default())]);
    let mut running = Running::at(clickhouse, soon(Some(&dir)));
    running.send_numbers(0..3);
    running.seal();
    running.wait_for_acknowledgements(3);
    running.clickhouse.wait_for_inserts(1);
    let first = running.cancel();
    first.clickhouse.script(vec![Answer::Exception(252, "Too many parts"); 100]);
    let ended = Running::at(first.clickhouse, soon(Some(&dir))).finish_spooled();
    assert_expired(&ended, 3, "Too many parts");
    assert_eq!(ended.pending, 0);
    // Nothing is left for a third life.
    let ended = Running::at(ended.clickhouse, soon(Some(&dir))).finish_spooled();
    assert_eq!((ended.inserted, ended.dead_lettered), (0, 0));
}

/// A batch that fails within its time is retried, and one that succeeds at once is never too old.
#[test]
fn a_young_batch_is_retried_and_an_old_one_is_tried_once() {
    let mut running = Running::start(json!({ "clickhouse": { "retry": { "maxAgeMs": 3_600_000 } } }));
    running.clickhouse.script(vec![Answer::Exception(252, "Too many parts"); 20]);
    running.send_numbers(0..3);
    let ended = running.finish();
    assert_rows(&ended.clickhouse, 0..3);
    assert_eq!((ended.retried, ended.dead_lettered), (20, 0));

    let dir = tempfile::tempdir().unwrap();
    let clickhouse = clickhouse();
    clickhouse.script([Answer::Held(Gate::default())]);
    let mut running = Running::at(clickhouse, soon(Some(&dir)));
    running.send_numbers(0..3);
    running.seal();
    running.wait_for_acknowledgements(3);
    running.clickhouse.wait_for_inserts(1);
    let first = running.cancel();
    let ended = Running::at(first.clickhouse, soon(Some(&dir))).finish_spooled();
    assert_rows(&ended.clickhouse, 0..3);
    assert_eq!((ended.inserted, ended.dead_lettered), (3, 0));
}

/// Parts of a batch that one INSERT cannot take: some are inserted, the others expire.
#[test]
fn parts_expire_one_by_one() {
    let mut running = Running::start(soon(None));
    running.clickhouse.limit(2, Answer::Status(413, "too large"));
    let parts = vec![Answer::Status(413, "too large"), Answer::Normal];
    running.clickhouse.script([parts, vec![Answer::Exception(252, "Too many parts"); 100]].concat());
    running.send_numbers(0..4);
    let ended = running.finish();
    assert_rows(&ended.clickhouse, 0..2);
    assert_eq!((ended.inserted, ended.dead_lettered), (2, 2));
    assert_expired(&ended, 2, "Too many parts");
}
