//! Messages that several routes take: acknowledged once, when what all of them made is settled, and counted once.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Value, json};

use super::fake_clickhouse::{Answer, Gate, Listening};
use super::harness::{Ended, Running, checksum};

/// `t/#` goes on to `u/#`'s neighbours: the first route has everything, the second one what is large, the third the rest.
fn routes() -> Value {
    json!([
        { "topic": "t/#", "table": "t", "continue": true },
        { "topic": "t/+", "table": "large", "where": { "path": "seq", "ge": 100 }, "continue": true },
        { "topic": "t/x", "table": "texts" },
    ])
}

fn clickhouse() -> Listening {
    let clickhouse = super::harness::clickhouse();
    clickhouse.create("large", &["seq UInt32"]);
    clickhouse.create("texts", &["seq UInt32", "text String"]);
    clickhouse
}

fn start(changes: Value) -> Running {
    let mut all = json!({ "routes": routes() });
    all.as_object_mut().unwrap().extend(changes.as_object().unwrap().clone());
    Running::at(clickhouse(), all)
}

fn send(running: &mut Running, numbers: impl IntoIterator<Item = u32>) {
    for seq in numbers {
        running.send(&json!({ "seq": seq, "text": format!("text {seq}") }).to_string());
    }
}

fn counts(ended: &Ended) -> (u64, u64, u64, u64) {
    (ended.inserted, ended.dead_lettered, ended.dropped, ended.pending)
}

/// The numbers in a table, in ascending order.
fn numbers(ended: &Ended, table: &str) -> Vec<u32> {
    let mut numbers: Vec<u32> =
        ended.clickhouse.values(table, "seq").iter().map(|seq| seq.parse().unwrap()).collect();
    numbers.sort_unstable();
    numbers
}

#[test]
fn each_route_makes_its_own_rows_of_a_message_that_counts_once() {
    for spool in [false, true] {
        let dir = tempfile::tempdir().unwrap();
        let changes = if spool { json!({ "spool": { "dir": dir.path() } }) } else { json!({}) };
        let mut running = start(changes);
        send(&mut running, [1, 100, 2, 200]);
        running.send_to("t/y/z", r#"{"seq":3,"text":""}"#);
        running.send_to("t/y", r#"{"seq":300,"text":""}"#);
        let ended = running.finish();
        assert_eq!(numbers(&ended, "t"), [1, 2, 3, 100, 200, 300]);
        assert_eq!(numbers(&ended, "large"), [100, 200, 300]);
        assert_eq!(numbers(&ended, "texts"), [1, 2, 100, 200]);
        assert_eq!((counts(&ended), ended.acknowledged), ((6, 0, 0, 0), 6), "spool: {spool}");
    }
}

/// In whatever order the INSERTs end, and whichever of them is the last.
#[test]
fn a_message_is_acknowledged_when_the_last_of_its_routes_has_it() {
    for held in 0..3 {
        let gate = Gate::default();
        let mut running = start(json!({ "clickhouse": { "maxInFlight": 4 } }));
        let mut answers: Vec<Answer> = (0..3).map(|_| Answer::Normal).collect();
        answers[held] = Answer::Held(gate.clone());
        running.clickhouse.script(answers);
        send(&mut running, [100, 1]);
        running.send_to("t/y/z", r#"{"seq":7,"text":""}"#);
        running.seal();
        running.clickhouse.wait_for_inserts(3);
        running.wait_until(|| {
            running.context.metrics.inserts_in_flight.load(std::sync::atomic::Ordering::Relaxed) == 1
        });
        // The scheduler chooses which table is held; 100 is in all three, 1 in two, 7 in the first
        // alone.
        assert!(!running.acknowledged().contains(&0));
        let pending = running.context.ledger.counts().pending;
        assert!(pending >= 1, "{pending}");
        assert_eq!(running.context.ledger.counts().received, 3);
        gate.open();
        running.wait_for_acknowledgements(3);
        let ended = running.finish();
        assert_eq!(counts(&ended), (3, 0, 0, 0));
    }
}

#[test]
fn a_batch_that_is_sealed_and_settled_first_acknowledges_nothing_that_a_later_route_has() {
    let gate = Gate::default();
    // The batch of the first route is full with each message.
    let mut running = Running::at(
        clickhouse(),
        json!({
            "routes": [
                { "topic": "t/#", "table": "t", "continue": true },
                { "topic": "t/x", "table": "texts" },
            ],
            "batch": { "maxRows": 1 },
            // The answers of the script go to the batches in their order.
            "clickhouse": { "maxInFlight": 1 },
        }),
    );
    running.clickhouse.script([Answer::Normal, Answer::Held(gate.clone())]);
    send(&mut running, [1]);
    running.wait_for_rows("t", 1);
    running.clickhouse.wait_for_inserts(2);
    assert!(running.acknowledged().is_empty());
    assert_eq!(running.context.ledger.counts().pending, 1);
    gate.open();
    running.wait_for_acknowledgements(1);
    assert_eq!(counts(&running.finish()), (1, 0, 0, 0));
}

#[test]
fn a_dead_letter_of_one_route_leaves_the_rows_of_the_others() {
    for spool in [false, true] {
        let dir = tempfile::tempdir().unwrap();
        let mut changes = json!({
            "routes": [
                { "topic": "t/#", "table": "t", "continue": true, "columns": { "text": "missing" } },
                { "topic": "t/x", "table": "texts" },
            ],
        });
        if spool {
            changes["spool"] = json!({ "dir": dir.path() });
        }
        let mut running = Running::at(clickhouse(), changes);
        send(&mut running, [1, 2]);
        running.send(r#"{"seq":3,"text":"c","missing":"m"}"#);
        running.send("no JSON");
        let ended = running.finish();
        assert_eq!((numbers(&ended, "t"), numbers(&ended, "texts")), (vec![3], vec![1, 2, 3]));
        // Each dead letter is reported with its route; the message counts with the first of its routes.
        let dead_letters: Vec<_> = ended.reported.dead_letters.iter().map(|(_, code, _)| *code).collect();
        assert_eq!(dead_letters, ["FIELD_MISSING", "FIELD_MISSING", "JSON_INVALID", "JSON_INVALID"]);
        assert_eq!((counts(&ended), ended.acknowledged), ((1, 3, 0, 0), 4), "spool: {spool}");
    }
}

#[test]
fn rows_that_clickhouse_refuses_in_one_table_go_into_the_other() {
    let mut running = start(json!({ "clickhouse": { "maxInFlight": 2 } }));
    running.clickhouse.refuse("texts", |row| row["seq"] == "2");
    running.clickhouse.refuse("t", |row| row["seq"] == "3");
    send(&mut running, [1, 2, 3, 4]);
    let ended = running.finish();
    assert_eq!((numbers(&ended, "t"), numbers(&ended, "texts")), (vec![1, 2, 4], vec![1, 3, 4]));
    assert_eq!(ended.reported.dead_letters.len(), 2);
    assert_eq!((ended.inserted + ended.dead_lettered, ended.pending, ended.acknowledged), (4, 0, 4));
}

#[test]
fn a_message_that_every_route_excludes_is_dropped_and_one_that_a_route_takes_is_not() {
    let mut running = Running::at(
        clickhouse(),
        json!({ "routes": [
            { "topic": "t/#", "table": "t", "continue": true, "where": { "path": "seq", "lt": 10 } },
            { "topic": "t/#", "table": "texts", "where": { "path": "seq", "gt": 20 } },
        ] }),
    );
    send(&mut running, [1, 15, 25, 16]);
    let ended = running.finish();
    assert_eq!((numbers(&ended, "t"), numbers(&ended, "texts")), (vec![1], vec![25]));
    assert_eq!((counts(&ended), ended.acknowledged), ((2, 0, 2, 0), 4));
}

#[test]
fn one_route_after_the_other_may_fill_the_same_table() {
    for spool in [false, true] {
        let dir = tempfile::tempdir().unwrap();
        let mut changes = json!({ "routes": [
            { "topic": "t/#", "table": "t", "continue": true },
            { "topic": "t/#", "table": "t", "columns": { "text": { "value": "again" } } },
        ] });
        if spool {
            changes["spool"] = json!({ "dir": dir.path() });
        }
        let mut running = Running::at(clickhouse(), changes);
        // They are decoded again, each for its own route.
        running.clickhouse.refuse("t", |row| row["seq"] == "2");
        send(&mut running, [1, 2, 3]);
        let ended = running.finish();
        let mut rows: BTreeMap<String, Vec<String>> = BTreeMap::new();
        for row in ended.clickhouse.rows("t") {
            rows.entry(row["seq"].clone()).or_default().push(row["text"].clone());
        }
        rows.values_mut().for_each(|texts| texts.sort_unstable());
        let expected = |seq: &str| (seq.to_string(), vec!["again".to_string(), format!("text {seq}")]);
        assert_eq!(rows, BTreeMap::from([expected("1"), expected("3")]), "spool: {spool}");
        assert_eq!((ended.inserted + ended.dead_lettered, ended.pending, ended.acknowledged), (3, 0, 3));
    }
}

#[test]
fn a_table_that_changes_meanwhile_gets_its_rows() {
    let mut running = start(json!({}));
    send(&mut running, [1]);
    running.clickhouse.create("texts", &["seq UInt32", "text String", "extra Nullable(String)"]);
    send(&mut running, [2]);
    running.seal();
    send(&mut running, [3, 300]);
    let ended = running.finish();
    assert_eq!((numbers(&ended, "t"), numbers(&ended, "texts")), (vec![1, 2, 3, 300], vec![1, 2, 3, 300]));
    assert_eq!(counts(&ended), (4, 0, 0, 0));
}

/// Wherever a killed process cuts the log, all rows of a message are there or none, and its receipt
/// identifies those that are there.
#[test]
fn a_log_that_is_cut_anywhere_has_all_rows_of_a_message_or_none_and_knows_those_it_has() {
    let dir = tempfile::tempdir().unwrap();
    let changes = |dir: &std::path::Path| {
        json!({
            "mqtt": { "clientId": "client" },
            "routes": routes(),
            "spool": { "dir": dir, "commitMs": 1 },
        })
    };
    let mut running = Running::at(clickhouse(), changes(dir.path()));
    running.clickhouse.script((0..10_000).map(|_| Answer::Cut));
    for batch in 0..6u32 {
        send(&mut running, (0..4).map(|place| batch * 10 + place + if place % 2 == 0 { 100 } else { 0 }));
        running.seal();
        running.wait_for_acknowledgements((batch as usize + 1) * 4);
    }
    running.cancel();
    let segment = std::fs::read_dir(dir.path())
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .find(|path| path.file_name().unwrap().to_string_lossy().starts_with("segment-"))
        .unwrap();
    let bytes = std::fs::read(&segment).unwrap();
    let mut seen = BTreeSet::new();
    for cut in (0..bytes.len()).step_by(97) {
        let copy = tempfile::tempdir().unwrap();
        std::fs::write(copy.path().join(segment.file_name().unwrap()), &bytes[..cut]).unwrap();
        let again = Running::at(clickhouse(), changes(copy.path()));
        let known = again.known_fingerprints();
        let ended = again.finish_spooled();
        let (all, large, texts) = (numbers(&ended, "t"), numbers(&ended, "large"), numbers(&ended, "texts"));
        assert_eq!(all, texts, "cut at {cut}");
        assert_eq!(all.iter().copied().filter(|seq| *seq >= 100).collect::<Vec<_>>(), large, "cut at {cut}");
        assert_eq!(all.len() % 4, 0, "a message is there with its batch");
        let fingerprint =
            |seq: &u32| checksum(&json!({ "seq": seq, "text": format!("text {seq}") }).to_string());
        let expected: BTreeSet<u64> = all.iter().map(fingerprint).collect();
        assert_eq!(known.len(), expected.len());
        assert_eq!(BTreeSet::from_iter(known), expected, "what is there is known: cut at {cut}");
        seen.insert(all.len());
    }
    assert!(seen.len() > 3, "cuts in different entries: {seen:?}");
}
