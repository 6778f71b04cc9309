//! When ClickHouse refuses a batch, its good rows are inserted, each once, and the bad ones become dead
//! letters.

use std::collections::HashSet;

use serde_json::json;

use super::fake_clickhouse::{Answer, Row};
use super::harness::{Running, assert_rows};

fn is_in(numbers: &'static [u32]) -> impl Fn(&Row) -> bool + Send + Sync {
    move |row| numbers.contains(&row["seq"].parse().unwrap())
}

fn except(count: u32, bad: &[u32]) -> Vec<u32> {
    (0..count).filter(|seq| !bad.contains(seq)).collect()
}

/// `seq` of the dead letters.
fn dead_letters(running: &super::harness::Ended) -> Vec<u32> {
    let seq = |payload: &str| serde_json::from_str::<serde_json::Value>(payload).unwrap()["seq"].as_u64();
    running.reported.dead_letters.iter().map(|(payload, ..)| seq(payload).unwrap() as u32).collect()
}

#[test]
fn bad_rows_are_found_and_the_others_are_inserted() {
    const BAD: [u32; 3] = [0, 57, 99];
    let mut running = Running::start(json!({}));
    running.clickhouse.refuse("t", is_in(&BAD));
    running.send_numbers(0..100);
    let ended = running.finish();
    assert_rows(&ended.clickhouse, except(100, &BAD));
    assert_eq!(dead_letters(&ended), BAD);
    assert_eq!((ended.inserted, ended.dead_lettered), (97, 3));
    assert!(ended.reported.dead_letters.iter().all(|(_, code, _)| *code == "REJECTED_BY_CLICKHOUSE"));
    assert_eq!(ended.reported.codes(), ["CLICKHOUSE_REFUSED", "DEAD_LETTERS_UNSTORED"]);
    // Parts are INSERTs of their own: other rows must have other tokens.
    let inserts = ended.clickhouse.inserts();
    let tokens: HashSet<&str> = inserts.iter().map(|insert| &*insert.token).collect();
    assert_eq!(tokens.len(), inserts.len());
}

#[test]
fn a_batch_that_is_bad_throughout_is_given_up_together() {
    let mut running = Running::start(json!({}));
    running.clickhouse.refuse("t", |_| true);
    running.send_numbers(0..1000);
    let ended = running.finish();
    assert_eq!((ended.inserted, ended.dead_lettered), (0, 1000));
    assert!(ended.clickhouse.inserts().len() < 50, "{}", ended.clickhouse.inserts().len());
    assert!(ended.reported.dead_letters[500].2.contains("was not tried alone and may be good"));
}

#[test]
fn a_failure_meanwhile_neither_doubles_nor_loses() {
    const BAD: [u32; 1] = [13];
    let mut running = Running::start(json!({}));
    running.clickhouse.refuse("t", is_in(&BAD));
    running.clickhouse.script([
        Answer::Normal,
        // The first half has the bad one; the second is stored and not confirmed.
        Answer::Cut,
        Answer::Normal,
        Answer::StoredAndCut,
        Answer::Exception(252, "Too many parts"),
    ]);
    running.send_numbers(0..32);
    let ended = running.finish();
    assert_rows(&ended.clickhouse, except(32, &BAD));
    // A batch that may be in is refused three times before it is halved.
    assert_eq!((dead_letters(&ended), ended.retried), (BAD.to_vec(), 6));
}

/// The table has the rows before its views fail, and keeps them: under another token they would be there twice.
#[test]
fn a_view_that_refuses_a_row_has_the_others_once() {
    const BAD: [u32; 2] = [3, 40];
    let mut running = Running::start(json!({}));
    running.clickhouse.view("t", is_in(&BAD));
    running.send_numbers(0..64);
    let ended = running.finish();
    assert_rows(&ended.clickhouse, 0..64);
    let seen: Vec<String> = except(64, &BAD).iter().map(u32::to_string).collect();
    assert_eq!(ended.clickhouse.view_values("t", "seq"), seen);
    assert_eq!((dead_letters(&ended), ended.inserted), (BAD.to_vec(), 62));
    assert!(ended.reported.dead_letters[0].2.ends_with("; the table itself may have stored it"));
    // All under the first token.
    let inserts = ended.clickhouse.inserts();
    assert!(inserts.iter().all(|insert| insert.token == inserts[0].token));
}

#[test]
fn a_table_and_a_view_may_both_refuse() {
    let mut running = Running::start(json!({}));
    running.clickhouse.refuse("t", is_in(&[5]));
    running.clickhouse.view("t", is_in(&[6, 20]));
    running.send_numbers(0..32);
    let ended = running.finish();
    assert_rows(&ended.clickhouse, except(32, &[5]));
    assert_eq!(dead_letters(&ended), [5, 6, 20]);
    let seen: Vec<String> = except(32, &[5, 6, 20]).iter().map(u32::to_string).collect();
    assert_eq!(ended.clickhouse.view_values("t", "seq"), seen);
}

#[test]
fn a_cancel_meanwhile_acknowledges_nothing() {
    let mut running = Running::start(json!({}));
    running.clickhouse.refuse("t", is_in(&[1]));
    let gate = super::fake_clickhouse::Gate::default();
    running.clickhouse.script([Answer::Normal, Answer::Held(gate)]);
    running.send_numbers(0..8);
    running.seal();
    running.clickhouse.wait_for_inserts(2);
    let ended = running.cancel();
    assert_eq!((ended.acknowledged, ended.inserted, ended.dead_lettered, ended.pending), (0, 0, 0, 8));
}
