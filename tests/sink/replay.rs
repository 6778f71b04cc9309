//! Replays of dead letters: rows that fit now are inserted under tokens of their content, so that
//! another replay doubles nothing; the others are dead letters again.

use std::sync::{Arc, Mutex};
use std::time::{Duration, SystemTime};

use serde_json::{Value, json};

use super::engine::{Replay, ReplaySource, Report, StoredDeadLetter, Supplied};
use super::fake_clickhouse::{Answer, Gate, Listening};
use super::harness::{Reported, Running, assert_rows, clickhouse, config};

fn dead_letter(payload: &str) -> Supplied {
    Ok(StoredDeadLetter {
        route: None,
        received_at: SystemTime::UNIX_EPOCH + Duration::from_secs(1_730_000_000),
        topic: b"t/x".to_vec(),
        payload: payload.into(),
        lost: None,
    })
}

fn dead_letters(numbers: std::ops::Range<u32>) -> Vec<Supplied> {
    numbers.map(|seq| dead_letter(&json!({ "seq": seq, "text": "x" }).to_string())).collect()
}

fn replay(
    clickhouse: &Listening,
    changes: &Value,
    source: ReplaySource,
) -> (Arc<Replay>, Arc<Mutex<Reported>>) {
    let reported: Arc<Mutex<Reported>> = Arc::default();
    let listener = reported.clone();
    let config = config(&clickhouse.url, changes);
    let replay = Replay::new(config, source, Box::new(move |event| listener.lock().unwrap().record(event)));
    (Arc::new(replay), reported)
}

/// Replays dead letters that the caller supplies.
fn fed(clickhouse: &Listening, dead_letters: Vec<Supplied>) -> (Report, Reported) {
    let (replay, reported) = replay(clickhouse, &json!({}), ReplaySource::Supplied);
    let running = replay.clone();
    let thread = std::thread::spawn(move || running.run());
    assert!(replay.supply(dead_letters));
    replay.end();
    let report = thread.join().unwrap().unwrap();
    let reported = reported.lock().unwrap().clone();
    (report, reported)
}

#[test]
fn dead_letters_that_fit_now_are_inserted_and_the_others_are_dead_letters_again() {
    let clickhouse = clickhouse();
    let mut all = dead_letters(0..5);
    all.insert(2, dead_letter("{"));
    all.push(Err("letters[6].topic: is required".into()));
    let (report, reported) = fed(&clickhouse, all);
    assert_rows(&clickhouse, 0..5);
    let counts = (report.read, report.inserted, report.dead_lettered, report.malformed, report.rows);
    assert_eq!(counts, (6, 5, 1, 1, 5));
    assert_eq!(report.malformed_records[0].line, 7);
    assert_eq!(
        reported.dead_letters.iter().map(|(payload, code, _)| (&**payload, *code)).collect::<Vec<_>>(),
        [("{", "JSON_INVALID")]
    );
}

#[test]
fn the_same_dead_letters_again_double_nothing() {
    let clickhouse = clickhouse();
    // The second replay finds that the answer of the first was lost.
    clickhouse.script([Answer::StoredAndCut]);
    for _ in 0..2 {
        let (report, _) = fed(&clickhouse, dead_letters(0..50));
        assert_eq!(report.inserted, 50);
    }
    assert_rows(&clickhouse, 0..50);
    let inserts = clickhouse.inserts();
    assert_eq!(inserts.len(), 3);
    assert!(inserts.iter().all(|insert| insert.token == inserts[0].token));
    assert!(inserts[0].token.starts_with("replay-"));
}

#[test]
fn rows_that_clickhouse_refuses_are_dead_letters_again() {
    let clickhouse = clickhouse();
    clickhouse.refuse("t", |row| row["seq"] == "7");
    for _ in 0..2 {
        let (report, reported) = fed(&clickhouse, dead_letters(0..16));
        assert_eq!((report.inserted, report.dead_lettered), (15, 1));
        assert_eq!(reported.dead_letters[0].1, "REJECTED_BY_CLICKHOUSE");
    }
    assert_rows(&clickhouse, (0..16).filter(|seq| *seq != 7));
}

/// Sealed by rows, never by time: the blocks of another replay are the same.
#[test]
fn dead_letters_of_a_directory_make_the_same_blocks_each_time() {
    let dir = tempfile::tempdir().unwrap();
    let line = |seq: u32| {
        let payload = json!({ "seq": seq, "text": "x" }).to_string();
        json!({ "receivedAt": "2024-10-27T03:33:20.000Z", "route": 0, "topic": "t/x", "payload": payload, "code": "x" })
            .to_string()
            + "\n"
    };
    std::fs::write(dir.path().join("a.jsonl"), (0..25).map(line).collect::<String>()).unwrap();
    std::fs::write(dir.path().join("b.jsonl"), format!("no letter\n{}", line(25))).unwrap();
    let clickhouse = clickhouse();
    for _ in 0..2 {
        let changes = json!({ "batch": { "maxRows": 10 } });
        let (replay, reported) = replay(&clickhouse, &changes, ReplaySource::Dir(dir.path().into()));
        let report = replay.run().unwrap();
        assert_eq!((report.read, report.inserted, report.malformed), (26, 26, 1));
        assert_eq!(reported.lock().unwrap().count("LETTER_MALFORMED"), 1);
    }
    assert_rows(&clickhouse, 0..26);
    let tokens: Vec<String> = clickhouse.inserts().into_iter().map(|insert| insert.token).collect();
    let (first, second) = tokens.split_at(tokens.len() / 2);
    assert_eq!(first, second);
    assert!(first.len() >= 4, "{} INSERTs", first.len());
}

#[test]
fn a_cancel_ends_it_with_an_error() {
    let clickhouse = clickhouse();
    clickhouse.script([Answer::Held(Gate::default())]);
    let (replay, _) = replay(&clickhouse, &json!({}), ReplaySource::Supplied);
    let running = replay.clone();
    let thread = std::thread::spawn(move || running.run());
    assert!(replay.supply(dead_letters(0..3)));
    replay.end();
    clickhouse.wait_for_inserts(1);
    replay.cancel();
    assert_eq!(thread.join().unwrap().unwrap_err().code(), "INVALID_STATE");
    assert_eq!(replay.report().inserted, 0);
}

/// The answer breaks off twice, once in the middle of a dead letter: it is read on from there.
#[test]
fn dead_letters_of_a_table_are_read_once_each_however_often_the_answer_breaks_off() {
    let mut running = Running::at(clickhouse(), json!({ "deadLetters": { "table": "letters" } }));
    running.clickhouse.refuse("t", |_| true);
    running.send_numbers(0..40);
    let ended = running.finish();
    assert_eq!(ended.dead_lettered, 40);
    let server = ended.clickhouse;
    let before = server.inserts().len();
    server.refuse("t", |_| false);
    server.cut_read(1500);
    server.cut_read(700);
    let changes = json!({ "deadLetters": { "table": "letters" } });
    let source = ReplaySource::Table { name: "letters".into(), condition: None };
    let (replay, reported) = replay(&server, &changes, source);
    let report = replay.run().unwrap();
    assert_eq!((report.read, report.inserted), (40, 40));
    assert_rows(&server, 0..40);
    assert_eq!(reported.lock().unwrap().count("REPLAY_INTERRUPTED"), 2);
    assert!(server.inserts()[before..].iter().all(|insert| insert.table() == "t"), "they are kept already");
}
