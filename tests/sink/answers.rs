//! Each answer of ClickHouse and its consequence: the same INSERT again, another server, or dead
//! letters.

use serde_json::json;

use super::fake_clickhouse::{Answer, Insert};
use super::harness::{Running, assert_rows, clickhouse};

/// Asserts that these are attempts at one INSERT: the same bytes under the same token.
fn assert_same(attempts: &[Insert]) {
    for attempt in attempts {
        assert_eq!((&attempt.token, &attempt.sql), (&attempts[0].token, &attempts[0].sql));
        assert!(attempt.body == attempts[0].body, "the bytes of an attempt differ");
    }
}

#[test]
fn a_temporary_failure_is_retried_until_it_succeeds() {
    let mut running = Running::start(json!({}));
    running.clickhouse.script([
        Answer::Exception(252, "Too many parts"),
        Answer::Exception(241, "Memory limit exceeded"),
        Answer::Status(502, "<html>Bad Gateway</html>"),
        Answer::Status(503, ""),
        Answer::Cut,
        Answer::StoredAndCut,
        Answer::Exception(424_242, "Something new"),
    ]);
    running.send_numbers(0..3);
    let ended = running.finish();
    let inserts = ended.clickhouse.inserts();
    assert_eq!(inserts.len(), 8);
    assert_same(&inserts);
    assert_rows(&ended.clickhouse, 0..3);
    assert_eq!((ended.inserted, ended.retried), (3, 7));
    // The connection that was cut first had been answered over: that is tried at once over a new one.
    assert_eq!(
        (ended.reported.count("CLICKHOUSE_RETRYING"), ended.reported.count("CLICKHOUSE_RECOVERED")),
        (6, 1)
    );
}

/// The code decides, and nothing else: what the rows are at fault for becomes dead letters, the rest waits.
#[test]
fn each_code_is_the_rows_fault_or_it_is_not() {
    const OF_ROWS: [u32; 8] = [6, 33, 69, 117, 349, 407, 469, 691];
    const OF_OTHERS: [u32; 14] = [8, 16, 53, 60, 81, 115, 159, 164, 202, 209, 243, 252, 497, 516];
    let mut running = Running::start(json!({}));
    let codes: Vec<u32> = OF_ROWS.into_iter().chain(OF_OTHERS).collect();
    for (seq, code) in codes.iter().enumerate() {
        running.clickhouse.script([Answer::Exception(*code, "why")]);
        running.send_numbers(seq as u32..seq as u32 + 1);
        running.seal();
        running.wait_for_acknowledgements(seq + 1);
    }
    let ended = running.finish();
    assert_rows(&ended.clickhouse, OF_ROWS.len() as u32..codes.len() as u32);
    assert_eq!((ended.inserted, ended.dead_lettered), (OF_OTHERS.len() as u64, OF_ROWS.len() as u64));
    for ((_, code, message), refused) in ended.reported.dead_letters.iter().zip(OF_ROWS) {
        assert_eq!(*code, "REJECTED_BY_CLICKHOUSE");
        assert!(message.contains(&format!("Code: {refused}. DB::Exception: why")), "{message}");
    }
}

#[test]
fn an_exception_behind_200_ok_is_one() {
    let mut running = Running::start(json!({}));
    running.clickhouse.script([Answer::LateException(241, "Memory limit exceeded")]);
    running.send_numbers(0..2);
    let ended = running.finish();
    assert_eq!((ended.inserted, ended.retried, ended.clickhouse.inserts().len()), (2, 1, 2));
    assert_rows(&ended.clickhouse, 0..2);
}

#[test]
fn each_insert_has_a_token_of_its_own() {
    let mut running = Running::start(json!({}));
    for seq in 0..3 {
        // The same rows again are other INSERTs.
        running.send_numbers(0..1);
        running.seal();
        running.wait_for_acknowledgements(seq + 1);
    }
    let ended = running.finish();
    let mut tokens: Vec<String> = ended.clickhouse.inserts().into_iter().map(|insert| insert.token).collect();
    tokens.dedup();
    assert_eq!(tokens.len(), 3);
    assert_rows(&ended.clickhouse, [0, 0, 0]);
}

#[test]
fn a_server_that_is_not_there_is_passed_over() {
    let nowhere = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}", nowhere.local_addr().unwrap());
    drop(nowhere);
    let clickhouse = clickhouse();
    let urls = json!({ "clickhouse": { "url": [url, clickhouse.url] } });
    let mut running = Running::at(clickhouse, urls);
    running.send_numbers(0..2);
    let ended = running.finish();
    assert_rows(&ended.clickhouse, 0..2);
    assert_eq!((ended.retried, ended.clickhouse.inserts().len()), (1, 1));
    assert!(ended.reported.warnings[0].1.contains("trying again in 0 ms"), "{:?}", ended.reported.warnings);
}

/// Another server may not know of the token: it is asked only after three answers that say nothing.
#[test]
fn a_server_that_may_have_the_rows_is_asked_again_first() {
    let (first, second) = (clickhouse(), clickhouse());
    let busy = Answer::Exception(202, "Too many simultaneous queries");
    first.script([Answer::Cut, busy.clone(), busy]);
    let urls = json!({ "clickhouse": { "url": [first.url, second.url] } });
    let mut running = Running::at(second, urls);
    running.send_numbers(0..2);
    let ended = running.finish();
    let (asked_first, asked_second) = (first.inserts(), ended.clickhouse.inserts());
    assert_eq!((asked_first.len(), asked_second.len()), (3, 1));
    assert_same(&[asked_first, asked_second].concat());
    assert_rows(&ended.clickhouse, 0..2);
}
