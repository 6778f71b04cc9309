//! Batches of more partitions than one INSERT may have: the messages of a partition are in one part.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Value, json};

use super::fake_clickhouse::{Answer, Gate, Insert, Listening};
use super::harness::{Running, assert_rows, clickhouse};
use super::spool_parts::{assert_same_boundaries, names};

/// The table `t` of the column `text` as partitions.
fn partitioned(limit: usize) -> Listening {
    let clickhouse = clickhouse();
    clickhouse.partition("t", "text", limit);
    clickhouse
}

/// Each number in the partition that it leaves as a rest.
fn send(running: &mut Running, seqs: std::ops::Range<u32>, partitions: u32) {
    for seq in seqs {
        running.send(&json!({ "seq": seq, "text": format!("p{}", seq % partitions) }).to_string());
    }
}

/// How many partitions an INSERT has.
fn partitions(insert: &Insert) -> usize {
    insert.blocks.iter().flatten().map(|row| &row["text"]).collect::<BTreeSet<_>>().len()
}

#[test]
fn partitions_that_alternate_are_as_few_parts_as_there_must_be() {
    for spooled in [false, true] {
        let dir = tempfile::tempdir().unwrap();
        let spool = if spooled { json!({ "spool": { "dir": dir.path() } }) } else { json!({}) };
        let mut running = Running::at(partitioned(100), spool);
        send(&mut running, 0..1_008, 252);
        let ended = running.finish();
        assert_rows(&ended.clickhouse, 0..1_008);
        assert_eq!((ended.inserted, ended.dead_lettered), (1_008, 0));
        let inserts = ended.clickhouse.inserts();
        let parts: Vec<_> = inserts.iter().filter(|insert| partitions(insert) <= 100).collect();
        assert_eq!(parts.iter().map(|part| partitions(part)).collect::<Vec<_>>(), [100, 100, 52]);
        let tokens: BTreeSet<_> = parts.iter().map(|part| part.token.as_str()).collect();
        assert_eq!(tokens.len(), 3, "each part has a token of its own");
        assert!(tokens.iter().all(|token| token.starts_with(&format!("{}-", inserts[0].token))));
        // As it lies in the spool, and as it is decoded again.
        assert_eq!(inserts.len() - parts.len(), if spooled { 2 } else { 1 });
        assert_eq!((ended.reported.count("BATCH_SPLIT"), ended.clickhouse.partition_queries()), (1, 1));
        assert!(names(&dir).is_empty());
    }
}

#[test]
fn the_limit_is_remembered_for_the_next_batches_and_asked_again() {
    let mut running = Running::at(partitioned(4), json!({}));
    let batch = |running: &mut Running, at: u32, partitions: u32| {
        let before = running.clickhouse.inserts().len();
        send(running, at * 12..at * 12 + 12, partitions);
        running.seal();
        running.wait_for_acknowledgements(at as usize * 12 + 12);
        running.clickhouse.inserts()[before..].to_vec()
    };
    let is_refused = |insert: &Insert| partitions(insert) > 4;
    assert_eq!(batch(&mut running, 0, 6).iter().filter(|insert| is_refused(insert)).count(), 1);
    for at in 1..17 {
        let inserts = batch(&mut running, at, if at % 2 == 0 { 6 } else { 3 });
        assert!(!inserts.iter().any(is_refused), "batch {at} is not tried as one");
        assert_eq!(inserts.len(), if at % 2 == 0 { 2 } else { 1 }, "batch {at}");
    }
    running.clickhouse.partition("t", "text", 6);
    let (asked, last) = (running.clickhouse.partition_queries(), batch(&mut running, 17, 6));
    assert_eq!(last.len(), 1, "a limit that has grown is seen");
    batch(&mut running, 18, 6);
    assert_eq!(running.clickhouse.partition_queries(), asked, "nobody asks while there is no limit");
    let ended = running.finish();
    assert_rows(&ended.clickhouse, 0..19 * 12);
}

#[test]
fn a_batch_of_which_nobody_says_the_partitions_is_halved() {
    let answers = [
        Answer::Exception(497, "Not enough privileges"),
        Answer::Status(502, "<html>Bad Gateway"),
        Answer::Status(200, "too short"),
        Answer::Cut,
        // All rows are said to be of one partition.
        Answer::Normal,
    ];
    for answer in answers {
        let mut running = Running::at(partitioned(2), json!({}));
        running.clickhouse.misjudge_partitions(answer);
        send(&mut running, 0..16, 4);
        let ended = running.finish();
        assert_rows(&ended.clickhouse, 0..16);
        assert_eq!((ended.inserted, ended.dead_lettered), (16, 0));
        let most = ended.clickhouse.inserts().iter().filter(|insert| partitions(insert) <= 2).count();
        assert_eq!(most, 8, "pairs");
    }
}

#[test]
fn bad_rows_are_found_within_parts_that_do_not_stand_side_by_side() {
    let mut running = Running::at(partitioned(2), json!({}));
    running.clickhouse.refuse("t", |row| row["seq"] == "6" || row["seq"] == "13");
    send(&mut running, 0..20, 5);
    let ended = running.finish();
    assert_rows(&ended.clickhouse, (0..20).filter(|seq| *seq != 6 && *seq != 13));
    assert_eq!((ended.inserted, ended.dead_lettered), (18, 2));
    let mut payloads: Vec<Value> = ended
        .reported
        .dead_letters
        .iter()
        .map(|dead_letter| serde_json::from_str(&dead_letter.0).unwrap())
        .collect();
    payloads.sort_by_key(|payload| payload["seq"].as_u64());
    assert_eq!((&payloads[0]["seq"], &payloads[1]["seq"]), (&json!(6), &json!(13)));
}

/// A limit that is lower at the second part: it is divided again by partition.
#[test]
fn a_part_is_divided_again_where_the_limit_has_become_lower() {
    let gate = Gate::default();
    let mut running = Running::at(partitioned(4), json!({}));
    running.clickhouse.script([Answer::Normal, Answer::Held(gate.clone())]);
    send(&mut running, 0..32, 8);
    running.seal();
    running.clickhouse.wait_for_inserts(2);
    running.clickhouse.partition("t", "text", 2);
    gate.open();
    let ended = running.finish();
    assert_rows(&ended.clickhouse, 0..32);
    let stored: Vec<usize> =
        ended.clickhouse.inserts().iter().map(partitions).filter(|partitions| *partitions <= 2).collect();
    assert_eq!(stored, [2, 2, 2, 2]);
}

/// The next life sends the same parts under the same tokens, also where it would divide otherwise, or not at all.
#[test]
fn a_life_that_ends_between_two_parts_doubles_nothing() {
    let config =
        |dir: &tempfile::TempDir| json!({ "spool": { "dir": dir.path() }, "mqtt": { "clientId": "client" } });
    for held in 3..6 {
        for is_stored in [false, true] {
            for next_limit in [3, 1_000] {
                let dir = tempfile::tempdir().unwrap();
                let mut running = Running::at(partitioned(3), config(&dir));
                let mut script = vec![Answer::Normal; held - 1];
                if is_stored {
                    script.push(Answer::StoredAndCut);
                }
                script.push(Answer::Held(Gate::default()));
                running.clickhouse.script(script);
                send(&mut running, 0..40, 8);
                running.seal();
                running.wait_for_acknowledgements(40);
                running.flush_spool();
                running.clickhouse.wait_for_inserts(held + usize::from(is_stored));
                let first = running.cancel();
                assert_eq!(names(&dir).len(), 1);
                first.clickhouse.partition("t", "text", next_limit);
                first.clickhouse.misjudge_partitions(Answer::Cut);
                let ended = Running::at(first.clickhouse, config(&dir)).finish_spooled();
                assert_rows(&ended.clickhouse, 0..40);
                assert_eq!((ended.inserted, ended.pending), (40, 0));
                assert_same_boundaries(&ended.clickhouse.inserts());
                assert!(names(&dir).is_empty(), "what is done needs no parts");
            }
        }
    }
}

/// The table of a view is partitioned otherwise: the table itself may have the rows, so they stay under their token.
#[test]
fn a_limit_of_a_view_divides_nothing() {
    let mut running = Running::start(json!({}));
    const TEXT: &str =
        "Too many partitions for single INSERT block (more than 100): while pushing to view d.v (d.w)";
    running.clickhouse.script(vec![Answer::Exception(252, TEXT); 3]);
    send(&mut running, 0..8, 8);
    let ended = running.finish();
    assert_rows(&ended.clickhouse, 0..8);
    let tokens: BTreeMap<String, usize> =
        ended.clickhouse.inserts().iter().fold(BTreeMap::new(), |mut tokens, insert| {
            *tokens.entry(insert.token.clone()).or_default() += 1;
            tokens
        });
    assert_eq!(tokens.values().copied().collect::<Vec<_>>(), [4]);
    assert_eq!(ended.reported.count("BATCH_SPLIT"), 0);
}
