//! The answers that confirm an INSERT, and those that condemn a row.

use std::time::Duration;

use serde_json::json;

use super::engine::{PipelineContext, prepare, run_on, runtime};
use super::fake_clickhouse::Answer;
use super::harness::{Running, assert_rows, clickhouse, config};

/// A login page, an empty answer of a proxy, and an exception in the body of a 200: none of them is ClickHouse's word.
#[test]
fn an_answer_that_is_not_clickhouses_confirms_nothing() {
    for page in ["<html>Please log in</html>", "", "Code: 241. DB::Exception: Memory limit exceeded"] {
        let mut running = Running::start(json!({}));
        running.clickhouse.script([Answer::Status(200, page)]);
        running.send_numbers(0..3);
        let ended = running.finish();
        assert_rows(&ended.clickhouse, 0..3);
        let inserts = ended.clickhouse.inserts();
        assert_eq!(inserts.len(), 2);
        assert_eq!((&inserts[0].token, &inserts[0].body), (&inserts[1].token, &inserts[1].body));
        assert_eq!(ended.reported.codes(), ["INSERT_UNCONFIRMED", "CLICKHOUSE_RECOVERED"]);
        let text = &ended.reported.warnings[0].1;
        assert!(text.contains("it answered 200 OK without any header of ClickHouse's"), "{text}");
        assert!(text.contains(page), "{text}");
    }
}

/// An exception of the class that rows can cause, which every INSERT gets: a setting, the network, the statement.
#[test]
fn rows_are_not_condemned_for_what_fails_without_them() {
    for spooled in [false, true] {
        let dir = tempfile::tempdir().unwrap();
        let spool = if spooled { json!({ "spool": { "dir": dir.path() } }) } else { json!({}) };
        let mut running = Running::start(spool);
        running.clickhouse.fail_all(Some((27, "Cannot parse input: expected a number before: '30s'")));
        running.send_numbers(0..5);
        running.seal();
        // One at start, then again and again.
        running.clickhouse.wait_for_probes(4);
        assert_eq!(running.reported().dead_letters, []);
        running.wait_for_warning("CLICKHOUSE_RETRYING");
        running.clickhouse.fail_all(None);
        let ended = running.finish();
        assert_rows(&ended.clickhouse, 0..5);
        assert_eq!((ended.inserted, ended.dead_lettered), (5, 0));
        assert_eq!(ended.reported.count("CLICKHOUSE_REFUSED"), 0);
    }
}

#[test]
fn start_refuses_what_makes_every_insert_fail() {
    for (code, text) in [(452, "Setting async_insert should not be changed"), (27, "Cannot parse '30s'")] {
        let clickhouse = clickhouse();
        clickhouse.fail_all(Some((code, text)));
        let config = config(&clickhouse.url, &json!({}));
        let context = PipelineContext::new(config, Box::new(|_| {}));
        let Err(error) = run_on(runtime().unwrap(), prepare(&context, Duration::from_secs(60))) else {
            panic!("it starts")
        };
        assert_eq!(error.code(), "CLICKHOUSE_REJECTED");
        assert!(error.to_string().contains(text), "{error}");
    }
    // A fault that may be over when the first batch comes does not fail a start.
    let running = clickhouse();
    running.fail_all(Some((252, "Too many parts")));
    let context = PipelineContext::new(config(&running.url, &json!({})), Box::new(|_| {}));
    assert!(run_on(runtime().unwrap(), prepare(&context, Duration::from_secs(60))).is_ok());
}

#[test]
fn a_column_that_is_added_while_running_stops_nothing() {
    let mut running = Running::start(json!({}));
    running.send_numbers(0..2);
    running.seal();
    running.wait_for_acknowledgements(2);
    running.clickhouse.alter("t", &["seq UInt32", "text String", "w String"]);
    // A statement of before: ClickHouse fills the column. A look at the table finds it sooner or later.
    running.clickhouse.script([Answer::Exception(53, "Type mismatch")]);
    running.send_numbers(2..4);
    running.seal();
    running.wait_for_warning("COLUMN_ADDED");
    running.send_numbers(4..6);
    running.send(&json!({ "seq": 6, "text": "text 6", "w": "given" }).to_string());
    let ended = running.finish();
    assert_eq!((ended.inserted, ended.dead_lettered), (7, 0));
    assert_eq!(ended.reported.codes(), ["TABLE_CHANGED", "COLUMN_ADDED"]);
    let rows = ended.clickhouse.rows("t");
    let given = |seq: &str| rows.iter().find(|row| row["seq"] == seq).unwrap().get("w").cloned();
    assert_eq!(given("5"), Some(String::new()));
    assert_eq!(given("6"), Some("given".into()), "a message that has the field fills it");
}
