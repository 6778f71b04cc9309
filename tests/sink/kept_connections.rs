//! Connections that are kept open and that a balancer ends: that costs nothing, and causes no warning.

use serde_json::json;

use super::fake_clickhouse::Answer;
use super::harness::{Running, assert_rows};

/// A pipeline whose connection has carried one INSERT.
fn kept(spool: Option<&tempfile::TempDir>) -> Running {
    let mut changes = json!({ "mqtt": { "clientId": "client", "ackAfter": "insert" } });
    if let Some(dir) = spool {
        changes["spool"] = json!({ "dir": dir.path() });
    }
    let mut running = Running::start(changes);
    running.send_numbers(0..2);
    running.seal();
    running.wait_for_acknowledgements(2);
    running
}

#[test]
fn a_kept_connection_that_ends_is_replaced_without_a_warning() {
    for answer in [Answer::Cut, Answer::StoredAndCut] {
        for is_spooled in [false, true] {
            let dir = tempfile::tempdir().unwrap();
            let mut running = kept(is_spooled.then_some(&dir));
            running.clickhouse.script([answer.clone()]);
            running.send_numbers(2..4);
            let ended = running.finish();
            assert_rows(&ended.clickhouse, 0..4);
            let inserts = ended.clickhouse.inserts();
            assert_eq!((inserts.len(), ended.retried), (3, 1));
            assert_eq!((&inserts[1].token, inserts[1].body == inserts[2].body), (&inserts[2].token, true));
            assert!(ended.reported.warnings.is_empty(), "{:?}", ended.reported.warnings);
        }
    }
}

#[test]
fn a_failure_over_a_new_connection_too_is_a_warning() {
    let mut running = kept(None);
    running.clickhouse.script([Answer::Cut, Answer::Cut]);
    running.send_numbers(2..4);
    let ended = running.finish();
    assert_rows(&ended.clickhouse, 0..4);
    assert_eq!(ended.reported.codes(), ["CLICKHOUSE_RETRYING", "CLICKHOUSE_RECOVERED"]);
    assert_eq!(ended.retried, 2);
}

/// A server that ends a connection which it had never answered over is worth one.
#[test]
fn a_new_connection_that_ends_is_a_warning() {
    let mut running = Running::start(json!({}));
    running.clickhouse.script([Answer::Cut]);
    running.send_numbers(0..2);
    let ended = running.finish();
    assert_rows(&ended.clickhouse, 0..2);
    assert_eq!(ended.reported.codes(), ["CLICKHOUSE_RETRYING", "CLICKHOUSE_RECOVERED"]);
}
