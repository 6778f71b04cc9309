//! A batch releases its acknowledgements, its memory and its place in the ledger once, when its end is
//! known and not before.

use serde_json::json;

use super::expected::assert_golden;
use super::fake_clickhouse::{Answer, Gate};
use super::harness::{Running, assert_rows, clickhouse};

#[test]
fn nothing_is_settled_before_clickhouse_has_answered() {
    let gate = Gate::default();
    let mut running = Running::start(json!({}));
    running.clickhouse.script([Answer::Held(gate.clone())]);
    running.send_numbers(0..5);
    running.seal();
    running.clickhouse.wait_for_inserts(1);
    assert!(running.acknowledged().is_empty());
    assert!(running.context.memory.used() > 0);
    assert_eq!(running.context.ledger.counts().pending, 5);
    gate.open();
    running.wait_for_acknowledgements(5);
    let ended = running.finish();
    assert_eq!((ended.inserted, ended.retried), (5, 0));
    assert_rows(&ended.clickhouse, 0..5);
}

#[test]
fn a_batch_that_is_in_is_acknowledged_before_an_earlier_one_that_is_not() {
    let gate = Gate::default();
    let mut running = Running::start(json!({ "clickhouse": { "maxInFlight": 2 } }));
    running.clickhouse.script([Answer::Held(gate.clone())]);
    running.send_numbers(0..2);
    running.seal();
    running.clickhouse.wait_for_inserts(1);
    running.send_numbers(2..5);
    running.seal();
    running.wait_for_acknowledgements(3);
    assert_eq!(running.acknowledged().iter().copied().collect::<Vec<_>>(), [2, 3, 4]);
    gate.open();
    assert_rows(&running.finish().clickhouse, 0..5);
}

/// A rejected message is acknowledged when its dead letter is kept, and the rest of its batch with it.
#[test]
fn a_batch_with_dead_letters_is_settled_when_they_are_stored() {
    let gate = Gate::default();
    let mut running = Running::start(json!({ "deadLetters": { "table": "letters" } }));
    running.clickhouse.refuse("t", |row| row["seq"] == "1");
    // The batch, two halves, the two of the first half, then the dead letters.
    let first = [Answer::Normal, Answer::Normal, Answer::Normal, Answer::Normal, Answer::Normal];
    running.clickhouse.script(first.into_iter().chain([Answer::Held(gate.clone())]));
    running.send_numbers(0..4);
    running.seal();
    loop {
        running.clickhouse.wait_for_inserts(1);
        if running.clickhouse.inserts().iter().any(|insert| insert.table() == "letters") {
            break;
        }
        std::thread::yield_now();
    }
    assert!(running.acknowledged().is_empty());
    assert_rows(&running.clickhouse, [0, 2, 3]);
    assert_eq!(running.context.ledger.counts().pending, 1);
    gate.open();
    let ended = running.finish();
    assert_eq!((ended.inserted, ended.dead_lettered), (3, 1));
    assert_eq!(ended.clickhouse.values("letters", "error_code"), ["REJECTED_BY_CLICKHOUSE"]);
}

#[test]
fn an_undecodable_message_does_not_hold_up_its_neighbours() {
    let mut running = Running::start(json!({}));
    running.send_numbers(0..1);
    running.send("{");
    running.send(r#"{"seq":-1,"text":""}"#);
    running.send_to("nowhere", "{}");
    running.send_numbers(1..2);
    let ended = running.finish();
    assert_rows(&ended.clickhouse, 0..2);
    let codes: Vec<&str> = ended.reported.dead_letters.iter().map(|(_, code, _)| *code).collect();
    assert_eq!(codes, ["JSON_INVALID", "OUT_OF_RANGE", "NO_ROUTE"]);
    assert_eq!((ended.inserted, ended.dead_lettered), (2, 3));
}

/// A message with an empty list has no row: there is nothing to insert, and it is settled all the same.
#[test]
fn messages_without_rows_are_settled_without_an_insert() {
    let mut running = Running::start(json!({}));
    running.send("[]");
    running.send("[]");
    let ended = running.finish();
    assert_eq!((ended.inserted, ended.acknowledged), (2, 2));
    assert!(ended.clickhouse.inserts().is_empty());
}

#[test]
fn a_cancel_ends_all_and_acknowledges_nothing() {
    let gate = Gate::default();
    let mut running = Running::start(json!({}));
    running.clickhouse.script([Answer::Held(gate)]);
    running.send_numbers(0..3);
    running.seal();
    running.clickhouse.wait_for_inserts(1);
    let ended = running.cancel();
    assert_eq!((ended.acknowledged, ended.inserted, ended.pending), (0, 0, 3));
}

#[test]
fn dead_letters_that_cannot_be_stored_now_are_stored_later() {
    let mut running = Running::start(json!({ "deadLetters": { "table": "letters" } }));
    running.clickhouse.script([Answer::Cut, Answer::StoredAndCut, Answer::Exception(60, "no such table")]);
    running.send("{");
    let ended = running.finish();
    let inserts = ended.clickhouse.inserts();
    assert_eq!(inserts.len(), 4);
    assert!(inserts.iter().all(|insert| insert.token == inserts[0].token && insert.body == inserts[0].body));
    assert_eq!(ended.clickhouse.values("letters", "payload"), ["{"]);
    assert_eq!(ended.dead_lettered, 1);
}

/// Nothing is left to try: the event is all there is of them.
#[test]
fn dead_letters_that_are_refused_are_reported_and_settled() {
    let mut running = Running::start(json!({ "deadLetters": { "table": "letters" } }));
    running.clickhouse.refuse("letters", |_| true);
    running.send("{");
    let ended = running.finish();
    assert_eq!((ended.dead_lettered, ended.reported.count("DEAD_LETTERS_REFUSED")), (1, 1));
    assert_eq!(ended.reported.field("DEAD_LETTERS_REFUSED", "messages"), 1);
    assert_eq!(ended.reported.dead_letters.len(), 1);
    assert!(ended.clickhouse.rows("letters").is_empty());
}

/// As on a disk that is full, or not mounted.
#[test]
fn dead_letters_for_a_missing_directory_wait_for_it() {
    let dir = tempfile::tempdir().unwrap();
    let dead_letters = dir.path().join("letters");
    let mut running = Running::start(json!({ "deadLetters": { "dir": dead_letters } }));
    std::fs::remove_dir(&dead_letters).unwrap();
    running.send("{");
    running.wait_for_warning("DEAD_LETTERS_RETRYING");
    assert!(running.acknowledged().is_empty());
    std::fs::create_dir(&dead_letters).unwrap();
    assert_eq!(running.finish().dead_lettered, 1);
    let file = std::fs::read_dir(&dead_letters).unwrap().next().unwrap().unwrap().path();
    assert!(std::fs::read_to_string(file).unwrap().contains(r#""payload":"{","code":"JSON_INVALID""#));
}

#[test]
fn tables_that_recognise_no_insert_cause_a_warning_at_start() {
    let server = clickhouse();
    server.view("t", |_| false);
    server.forget_tokens("t");
    let reported = Running::at(server, json!({})).finish().reported;
    assert_eq!(reported.codes(), ["DEDUPLICATION_OFF", "DEDUPLICATION_OFF"]);
    assert!(reported.warnings[0].1.starts_with("`d`.`t` does not recognise an INSERT that is made again"));
    assert!(reported.warnings[1].1.contains("`d`.`target_of_t`, which the view `d`.`view_of_t` fills,"));
}

/// The trace of a sampled batch, as golden bytes but for the times.
#[test]
fn a_trace_has_each_insert_and_how_often_it_was_attempted() {
    let server = clickhouse();
    let url = server.url.clone();
    let mut running = Running::at(server, json!({ "tracing": { "sampleRatio": 1 } }));
    running.clickhouse.refuse("t", |row| row["seq"] == "1");
    running.clickhouse.script([Answer::Cut, Answer::Exception(252, "Too many parts")]);
    running.send_numbers(0..3);
    let reported = running.finish().reported;
    let [trace] = &mut reported.traces.clone()[..] else { panic!("{:?}", reported.traces) };
    let still = |object: &mut serde_json::Value| {
        for name in ["began", "sealed", "ended"] {
            if let Some(time) = object.get_mut(name) {
                assert!(time.as_f64().unwrap() > 1e12, "{name}: {time} is no time");
                *time = 0.into();
            }
        }
    };
    still(trace);
    trace["inserts"].as_array_mut().unwrap().iter_mut().for_each(still);
    let text = serde_json::to_string_pretty(trace).unwrap().replace(&url, "<url>") + "\n";
    assert_golden("trace.json", &text);
}
