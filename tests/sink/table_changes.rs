//! Tables that change while rows are on their way: they are decoded again for the table as it is now, under the token of the
//! first attempt; what the table cannot take any more waits, or becomes a dead letter.

use serde_json::json;

use super::fake_clickhouse::{Answer, Gate};
use super::harness::{Running, assert_rows, clickhouse};

#[test]
fn rows_are_decoded_again_for_a_column_of_another_type() {
    let mut running = Running::start(json!({}));
    let gate = Gate::default();
    running.clickhouse.script([Answer::Held(gate.clone())]);
    running.send_numbers(0..3);
    running.seal();
    running.clickhouse.wait_for_inserts(1);
    running.clickhouse.alter("t", &["seq Int64", "text String", "more String DEFAULT 'x'"]);
    gate.open();
    let ended = running.finish();
    assert_rows(&ended.clickhouse, 0..3);
    let inserts = ended.clickhouse.inserts();
    assert_eq!((inserts.len(), &inserts[0].token), (2, &inserts[1].token));
    assert!(inserts[1].sql.contains("`more`"), "{}", inserts[1].sql);
    assert_eq!((ended.reported.codes(), ended.retried), (vec!["TABLE_CHANGED"], 1));
    let changes = &ended.reported.warnings[0].1;
    assert!(changes.contains("seq was UInt32 and is Int64; more is new"), "{changes}");
}

#[test]
fn a_message_that_no_longer_fits_becomes_a_dead_letter() {
    let mut running = Running::start(json!({}));
    let gate = Gate::default();
    running.clickhouse.script([Answer::Held(gate.clone())]);
    running.send_numbers(254..258);
    running.seal();
    running.clickhouse.wait_for_inserts(1);
    running.clickhouse.alter("t", &["seq UInt8", "text String"]);
    gate.open();
    let ended = running.finish();
    assert_rows(&ended.clickhouse, 254..256);
    assert_eq!((ended.inserted, ended.dead_lettered), (2, 2));
    let reported: Vec<_> =
        ended.reported.dead_letters.iter().map(|(_, code, message)| (*code, &**message)).collect();
    assert_eq!(reported[0], ("OUT_OF_RANGE", "column seq: 256 is out of range for UInt8"));
}

/// All of them fit no more: there is nothing to insert.
#[test]
fn a_batch_of_which_nothing_fits_is_settled() {
    let mut running = Running::start(json!({}));
    let gate = Gate::default();
    running.clickhouse.script([Answer::Held(gate.clone())]);
    running.send_numbers(300..302);
    running.seal();
    running.clickhouse.wait_for_inserts(1);
    running.clickhouse.alter("t", &["seq UInt8", "text String"]);
    gate.open();
    let ended = running.finish();
    assert_eq!((ended.inserted, ended.dead_lettered, ended.clickhouse.inserts().len()), (0, 2, 1));
}

#[test]
fn rows_of_a_table_that_is_gone_wait_for_it() {
    let mut running = Running::start(json!({}));
    running.clickhouse.drop_table("t");
    running.send_numbers(0..2);
    running.seal();
    running.wait_for_warning("TABLE_CHANGED");
    running.wait_for_warning("CLICKHOUSE_RETRYING");
    assert!(running.acknowledged().is_empty());
    running.clickhouse.create("t", &["seq UInt32", "text String"]);
    // It is checked again when the last check is a second old; until then the fault stands.
    let ended = running.finish();
    assert_rows(&ended.clickhouse, 0..2);
    assert_eq!(ended.reported.count("TABLE_CHANGED"), 2, "{:?}", ended.reported.last());
}

/// New batches are made for the table as it is, from the next one on.
#[test]
fn later_batches_are_made_for_the_new_table() {
    let mut running = Running::start(json!({}));
    running.clickhouse.alter("t", &["seq UInt64", "text String"]);
    running.send_numbers(0..1);
    running.seal();
    running.wait_for_acknowledgements(1);
    running.send_numbers(1..2);
    let ended = running.finish();
    assert_rows(&ended.clickhouse, 0..2);
    assert_eq!(ended.clickhouse.inserts().len(), 3, "one that was refused, and one for each batch");
}

/// A message that is refused by the decoder may fit the table as it is now.
#[test]
fn a_message_that_did_not_fit_before_is_decoded_for_the_new_table() {
    let clickhouse = clickhouse();
    clickhouse.create("t", &["seq UInt8", "text String"]);
    let mut running = Running::at(clickhouse, json!({}));
    running.clickhouse.alter("t", &["seq UInt32", "text String"]);
    running.send_numbers(0..1);
    running.seal();
    running.wait_for_acknowledgements(1);
    running.send_numbers(1000..1001);
    let ended = running.finish();
    assert_rows(&ended.clickhouse, [0, 1000]);
    assert!(ended.reported.dead_letters.is_empty());
}
