//! INSERTs from the spool: sent as they were written, under the token that was decided then, in this life or in a later one.

use std::collections::BTreeSet;

use serde_json::{Value, json};

use super::expected;
use super::fake_clickhouse::{Answer, Gate, Listening};
use super::harness::{Ended, Running, assert_rows, clickhouse};

/// A spool in a directory, which acknowledges what it has.
fn spooled(dir: &tempfile::TempDir) -> Value {
    json!({ "spool": { "dir": dir.path() }, "mqtt": { "clientId": "client" }, "batch": { "maxDelayMs": 1 } })
}

/// As many records as numbers: each is committed alone.
fn send_records(running: &mut Running, numbers: std::ops::Range<u32>) {
    for seq in numbers {
        let before = running.acknowledged().len();
        running.send_numbers(seq..seq + 1);
        running.seal();
        running.wait_for_acknowledgements(before + 1);
    }
}

/// A life that ends with records in the spool: ClickHouse does not answer.
fn unanswered(clickhouse: Listening, dir: &tempfile::TempDir, numbers: std::ops::Range<u32>) -> Ended {
    clickhouse.script([Answer::Held(Gate::default())]);
    let mut running = Running::at(clickhouse, spooled(dir));
    send_records(&mut running, numbers);
    running.clickhouse.wait_for_inserts(1);
    running.cancel()
}

#[test]
fn records_are_acknowledged_when_they_are_on_disk_and_inserted_later() {
    let dir = tempfile::tempdir().unwrap();
    let gate = Gate::default();
    let mut running = Running::start(spooled(&dir));
    running.clickhouse.script([Answer::Held(gate.clone())]);
    send_records(&mut running, 0..4);
    running.clickhouse.wait_for_inserts(1);
    assert_eq!(running.context.ledger.counts().pending, 4);
    gate.open();
    let ended = running.finish();
    assert_rows(&ended.clickhouse, 0..4);
    // The records that came while the first INSERT was out are one INSERT, and one block to ClickHouse.
    let inserts = ended.clickhouse.inserts();
    let last = inserts.last().unwrap();
    assert!(last.blocks.len() > 1, "{} INSERTs", inserts.len());
    assert_eq!(last.settings["use_strict_insert_block_limits"], "1");
    assert!(last.token.starts_with("sink-"), "{}", last.token);
}

#[test]
fn an_insert_that_one_life_began_the_next_ends_under_the_same_token() {
    let dir = tempfile::tempdir().unwrap();
    let first = unanswered(clickhouse(), &dir, 0..3);
    assert_eq!((first.acknowledged, first.inserted), (3, 0));
    let before = first.clickhouse.inserts();

    // It was stored, but the answer was lost.
    first.clickhouse.script([Answer::StoredAndCut]);
    let ended = Running::at(first.clickhouse, spooled(&dir)).finish_spooled();
    assert_rows(&ended.clickhouse, 0..3);
    let inserts = ended.clickhouse.inserts();
    let again = &inserts[before.len()];
    assert_eq!((&again.token, again.body == before[0].body), (&before[0].token, true));
    assert_eq!((ended.inserted, ended.pending), (3, 0));

    // Nothing is left for a third.
    let ended = Running::at(ended.clickhouse, spooled(&dir)).finish_spooled();
    assert_eq!(ended.inserted, 0);
    assert_eq!(ended.clickhouse.inserts().len(), inserts.len());
}

#[test]
fn records_of_a_table_that_has_changed_are_decoded_again() {
    let dir = tempfile::tempdir().unwrap();
    let first = unanswered(clickhouse(), &dir, 0..1);
    let token = first.clickhouse.inserts()[0].token.clone();
    first.clickhouse.alter("t", &["seq Int64", "text String", "more UInt8 DEFAULT 1"]);
    let ended = Running::at(first.clickhouse, spooled(&dir)).finish_spooled();
    assert_rows(&ended.clickhouse, 0..1);
    let inserts = ended.clickhouse.inserts();
    assert_eq!((&inserts[1].token, inserts[1].sql.contains("more")), (&token, true));
}

/// Types alone show when ClickHouse refuses the block.
#[test]
fn records_of_a_column_of_another_type_are_decoded_again() {
    let dir = tempfile::tempdir().unwrap();
    let first = unanswered(clickhouse(), &dir, 0..1);
    first.clickhouse.alter("t", &["seq Int64", "text String"]);
    let ended = Running::at(first.clickhouse, spooled(&dir)).finish_spooled();
    assert_rows(&ended.clickhouse, 0..1);
    let tokens: Vec<String> = ended.clickhouse.inserts().into_iter().map(|insert| insert.token).collect();
    assert!(tokens.iter().all(|token| *token == tokens[0]), "{tokens:?}");
}

#[test]
fn bad_rows_of_the_spool_become_dead_letters_under_the_token_of_their_insert() {
    let dir = tempfile::tempdir().unwrap();
    let mut changes = spooled(&dir);
    changes["deadLetters"] = json!({ "table": "letters" });
    let mut running = Running::start(changes);
    running.clickhouse.refuse("t", |row| row["seq"] == "2");
    running.send_numbers(0..8);
    let ended = running.finish();
    assert_rows(&ended.clickhouse, (0..8).filter(|seq| *seq != 2));
    assert_eq!((ended.inserted, ended.dead_lettered), (7, 1));
    let inserts = ended.clickhouse.inserts();
    let dead_letters = inserts.iter().find(|insert| insert.table() == "letters").unwrap();
    assert_eq!(dead_letters.token, format!("{}-letters", inserts[0].token));
}

/// The configuration has no route for them any more: they go where they were meant to go, as they are.
#[test]
fn records_without_a_route_are_sent_or_become_dead_letters_together() {
    for is_refused in [false, true] {
        let dir = tempfile::tempdir().unwrap();
        let first = unanswered(clickhouse(), &dir, 0..2);
        first.clickhouse.create("other", &["seq UInt32"]);
        if is_refused {
            first.clickhouse.refuse("t", |row| row["seq"] == "0");
        }
        let mut changes = spooled(&dir);
        changes["routes"] = json!([{ "topic": "other", "table": "other" }]);
        let ended = Running::at(first.clickhouse, changes).finish_spooled();
        assert_eq!(ended.pending, 0);
        if is_refused {
            assert!(ended.dead_lettered > 0);
            assert!(ended.reported.dead_letters[0].2.contains("no route is left to tell its messages apart"));
        } else {
            assert_rows(&ended.clickhouse, 0..2);
        }
    }
}

/// Without the setting that makes one block of all, the records are decoded again as one.
#[test]
fn an_older_server_gets_one_block() {
    let dir = tempfile::tempdir().unwrap();
    let gate = Gate::default();
    let mut running = Running::start(spooled(&dir));
    running.clickhouse.forget_setting("use_strict_insert_block_limits");
    running.clickhouse.script([Answer::Held(gate.clone())]);
    send_records(&mut running, 0..4);
    running.clickhouse.wait_for_inserts(1);
    gate.open();
    let ended = running.finish();
    assert_rows(&ended.clickhouse, 0..4);
    let inserts = ended.clickhouse.inserts();
    let refused = inserts.iter().position(|insert| insert.blocks.len() > 1).unwrap();
    assert_eq!(inserts[refused + 1].token, inserts[refused].token);
    // It is not tried again with the next.
    assert!(inserts[refused + 1..].iter().all(|insert| insert.blocks.len() == 1));
}

/// The commit takes longer than the INSERT is still to wait, and nothing comes behind it.
#[test]
fn an_insert_that_becomes_due_during_a_commit_is_made() {
    for _ in 0..20 {
        let dir = tempfile::tempdir().unwrap();
        let mut running = Running::start(spooled(&dir));
        send_records(&mut running, 0..1);
        running.clickhouse.wait_for_inserts(1);
        running.finish();
    }
}

/// `ackAfter: insert`: the broker keeps what is in the spool.
#[test]
fn acknowledgements_wait_for_the_insert_where_that_is_asked_for() {
    let dir = tempfile::tempdir().unwrap();
    let gate = Gate::default();
    let mut changes = spooled(&dir);
    changes["mqtt"]["ackAfter"] = json!("insert");
    let mut running = Running::start(changes);
    running.clickhouse.script([Answer::Held(gate.clone())]);
    running.send_numbers(0..2);
    running.seal();
    running.clickhouse.wait_for_inserts(1);
    assert!(running.acknowledged().is_empty());
    gate.open();
    running.wait_for_acknowledgements(2);
    assert_rows(&running.finish().clickhouse, 0..2);
}

/// The spool of `tests/golden/`: the bodies and tokens are those that its INSERTs have there.
#[test]
fn a_spool_of_an_earlier_version_is_sent_as_it_lies() {
    let dir = tempfile::tempdir().unwrap();
    for entry in std::fs::read_dir(expected::directory().join("spool-f83bdce")).unwrap() {
        let entry = entry.unwrap();
        std::fs::copy(entry.path(), dir.path().join(entry.file_name())).unwrap();
    }
    let server = clickhouse();
    server.create("second", &["seq UInt32", "text String"]);
    // Tables that were not read from a server have no name.
    server.create("", &["driver String", "seq UInt32", "lat Nullable(Float64)", "text String"]);
    let ended = Running::at(server, spooled(&dir)).finish_spooled();
    assert_eq!((ended.inserted, ended.pending, ended.retried), (14, 0, 0));
    let sent = ended.clickhouse.inserts().into_iter();
    let sent: BTreeSet<String> = sent
        .map(|insert| format!("token {}, body {}", insert.token, expected::digest(&insert.body)))
        .collect();
    let held =
        include_str!("../golden/expected/spool.txt").lines().filter(|line| line.starts_with("INSERT "));
    let held: BTreeSet<String> = held
        .filter_map(|line| Some(line.split_once(", ")?.1.to_string()))
        .filter(|line| line.contains("body"))
        .collect();
    assert_eq!(sent, held);
    assert_eq!(held.len(), 5);
}
