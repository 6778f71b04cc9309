//! Transforms, played by a function of the test in the place of JavaScript.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use serde_json::{Value, json};

use super::engine::{TransformCall, TransformHost, TransformHosts, Verdict};
use super::fake_clickhouse::{Answer, Gate, Listening, Row};
use super::harness::{Running, clickhouse};

/// Runs a function for each call, on the thread of the stage.
struct Host<F>(F);

impl<F: Fn(TransformCall) + Send + Sync> TransformHost for Host<F> {
    fn threads(&self) -> usize {
        1
    }

    fn call(&self, call: TransformCall) {
        (self.0)(call);
    }
}

fn hosts(work: impl Fn(TransformCall) + Send + Sync + 'static) -> TransformHosts {
    let hosts = TransformHosts::default();
    hosts.set(0, Arc::new(Host(work)));
    hosts
}

fn route(changes: Value) -> Value {
    let mut route = json!({ "topic": "t/#", "table": "t", "transform": { "function": true } });
    for (name, value) in changes.as_object().unwrap() {
        route[name] = value.clone();
    }
    json!({ "routes": [route] })
}

fn start(
    clickhouse: Listening,
    changes: Value,
    work: impl Fn(TransformCall) + Send + Sync + 'static,
) -> Running {
    Running::with_hosts(clickhouse, changes, hosts(work))
}

/// `seq` of all rows, as the transform sees them.
fn numbers(call: &mut TransformCall) -> Vec<u32> {
    let mut values = vec![0; 4 * call.rows()];
    call.columns().read(0, &mut values, None).unwrap();
    values.as_chunks::<4>().0.iter().map(|value| u32::from_le_bytes(*value)).collect()
}

fn write_numbers(call: &mut TransformCall, numbers: &[u32]) {
    let values: Vec<u8> = numbers.iter().flat_map(|number| number.to_le_bytes()).collect();
    call.columns().write(0, &values, None).unwrap();
}

#[test]
fn values_that_it_writes_are_inserted() {
    let mut running = start(clickhouse(), route(json!({})), |mut call| {
        let doubled: Vec<u32> = numbers(&mut call).iter().map(|number| 2 * number).collect();
        write_numbers(&mut call, &doubled);
        let (bytes, ends): (Vec<u8>, Vec<u32>) =
            (b"abc".repeat(call.rows()), (1..=call.rows() as u32).map(|row| 3 * row).collect());
        call.columns().write_texts(1, &bytes, &ends, None).unwrap();
        call.finish(Vec::new(), Vec::new()).unwrap();
    });
    running.send_numbers(0..5);
    running.seal();
    let ended = running.finish();
    assert_eq!(ended.clickhouse.values("t", "seq"), ["0", "2", "4", "6", "8"]);
    assert_eq!(ended.clickhouse.values("t", "text"), ["abc"; 5]);
}

#[test]
fn rows_are_dropped_and_messages_rejected() {
    let mut running = start(clickhouse(), route(json!({ "rows": "$[*]" })), |mut call| {
        let numbers = numbers(&mut call);
        let verdict = |number: &u32| match number % 10 {
            1 => Verdict::Drop,
            2 => Verdict::Reject,
            _ => Verdict::Keep,
        };
        let verdicts: Vec<_> = numbers.iter().map(verdict).collect();
        let rejected = verdicts.iter().enumerate().filter(|(_, verdict)| **verdict == Verdict::Reject);
        let reasons = rejected.map(|(row, _)| (row, format!("{} is wrong", numbers[row]))).collect();
        call.finish(verdicts, reasons).unwrap();
    });
    let rows = |numbers: &[u32]| {
        Value::from_iter(numbers.iter().map(|seq| json!({ "seq": seq, "text": "x" }))).to_string()
    };
    // Kept; one row of two; none of two; rejected with its good row; empty.
    for numbers in [&[10, 20][..], &[11, 30], &[21, 31], &[40, 42], &[]] {
        running.send(&rows(numbers));
    }
    running.seal();
    let ended = running.finish();
    assert_eq!(ended.clickhouse.values("t", "seq"), ["10", "20", "30"]);
    assert_eq!((ended.inserted, ended.dropped, ended.dead_lettered), (3, 1, 1));
    assert_eq!(
        ended.reported.dead_letters,
        [(rows(&[40, 42]), "REJECTED_BY_TRANSFORM", "42 is wrong".to_string())]
    );
}

#[test]
fn a_transform_that_fails_harms_nobody() {
    let calls = Arc::new(AtomicUsize::new(0));
    let counted = calls.clone();
    let mut running = start(clickhouse(), route(json!({})), move |mut call| {
        if counted.fetch_add(1, Ordering::Relaxed) == 0 {
            write_numbers(&mut call, &[9, 9]);
            return call.fail("no such zone".into(), "at zoneOf".into());
        }
        call.finish(Vec::new(), Vec::new()).unwrap();
    });
    running.send_numbers(0..2);
    running.seal();
    running.wait_for_warning("TRANSFORM_FAILED");
    running.send_numbers(2..4);
    running.seal();
    let ended = running.finish();
    assert_eq!(ended.clickhouse.values("t", "seq"), ["2", "3"]);
    assert_eq!((ended.inserted, ended.dead_lettered), (2, 2));
    assert!(
        ended
            .reported
            .dead_letters
            .iter()
            .all(|(_, code, message)| *code == "TRANSFORM_FAILED" && message == "no such zone")
    );
}

#[test]
fn a_call_that_is_lost_is_made_again_and_fails_the_third_time() {
    for losses in [2, 3] {
        let left = AtomicUsize::new(losses);
        let mut running = start(clickhouse(), route(json!({})), move |call| {
            if left.load(Ordering::Relaxed) == 0 {
                return call.finish(Vec::new(), Vec::new()).unwrap();
            }
            left.fetch_sub(1, Ordering::Relaxed);
        });
        running.send_numbers(0..2);
        running.seal();
        let ended = running.finish();
        assert_eq!((ended.inserted, ended.dead_lettered), if losses == 2 { (2, 0) } else { (0, 2) });
    }
}

#[test]
fn a_call_that_is_lost_half_written_fails() {
    let mut running = start(clickhouse(), route(json!({})), |mut call| write_numbers(&mut call, &[7, 8]));
    running.send_numbers(0..2);
    running.seal();
    let ended = running.finish();
    assert_eq!((ended.inserted, ended.dead_lettered), (0, 2));
    assert!(ended.reported.dead_letters.iter().all(|(_, code, _)| *code == "TRANSFORM_FAILED"));
}

#[test]
fn a_batch_under_way_when_all_is_cancelled_is_not_acknowledged() {
    let calls: Arc<Mutex<Vec<TransformCall>>> = Arc::default();
    let held = calls.clone();
    let mut running = start(clickhouse(), route(json!({})), move |call| held.lock().unwrap().push(call));
    running.send_numbers(0..2);
    running.seal();
    while calls.lock().unwrap().is_empty() {
        std::thread::yield_now();
    }
    running.context.cancel();
    calls.lock().unwrap().clear();
    let ended = running.cancel();
    assert_eq!((ended.acknowledged, ended.pending), (0, 2));
}

#[test]
fn a_row_that_clickhouse_refuses_is_found_among_changed_rows() {
    let server = clickhouse();
    server.refuse("t", |row| row["seq"] == "14");
    let mut running = start(server, route(json!({})), |mut call| {
        let changed: Vec<u32> = numbers(&mut call).iter().map(|number| number + 10).collect();
        write_numbers(&mut call, &changed);
        call.finish(Vec::new(), Vec::new()).unwrap();
    });
    running.send_numbers(0..8);
    running.seal();
    let ended = running.finish();
    assert_eq!(ended.clickhouse.values("t", "seq"), ["10", "11", "12", "13", "15", "16", "17"]);
    assert_eq!((ended.inserted, ended.dead_lettered), (7, 1));
    assert!(ended.reported.dead_letters[0].0.contains("\"seq\":4"));
}

/// `{ "seq": number }` as CBOR.
fn row(number: u32) -> Vec<u8> {
    [&[0xa1, 0x63][..], b"seq", &[0x1a], &number.to_be_bytes()].concat()
}

/// A row for `alerts` of each tenth number; ones are dropped, twos rejected.
fn alert(mut call: TransformCall) {
    let numbers = numbers(&mut call);
    for number in numbers.iter().filter(|number| *number % 10 == 0) {
        call.emit("alerts", &row(*number)).unwrap();
    }
    let verdict = |number: &u32| match number % 10 {
        1 => Verdict::Drop,
        2 => Verdict::Reject,
        _ => Verdict::Keep,
    };
    call.finish(numbers.iter().map(verdict).collect(), Vec::new()).unwrap();
}

fn with_alerts() -> Listening {
    let server = clickhouse();
    server.create("alerts", &["seq UInt32", "note String DEFAULT 'none'"]);
    server
}

#[test]
fn emitted_rows_go_into_their_table_and_count_as_no_messages() {
    let mut running = start(with_alerts(), route(json!({ "emits": ["alerts"] })), alert);
    running.send_numbers(0..30);
    running.seal();
    let ended = running.finish();
    assert_eq!(ended.clickhouse.values("alerts", "seq"), ["0", "10", "20"]);
    assert_eq!((ended.inserted, ended.dropped, ended.dead_lettered), (24, 3, 3));
}

/// As rows that a broker waits for no acknowledgement of, a few emitted rows of each batch are one INSERT, sent when somebody waits
/// for them.
#[test]
fn emitted_rows_of_several_batches_are_one_insert() {
    let mut config = route(json!({ "emits": ["alerts"] }));
    config["mqtt"] = json!({ "ackAfter": "receive" });
    config["batch"] = json!({ "maxDelayMs": 3_600_000 });
    let mut running = start(with_alerts(), config, alert);
    for batch in 0..4 {
        running.send_numbers(10 * batch..10 * batch + 10);
        running.seal();
        running.wait_for_rows("t", 8 * (batch as usize + 1));
    }
    assert_eq!(running.clickhouse.values("alerts", "seq"), [""; 0]);
    let ended = running.finish_spooled();
    assert_eq!(ended.clickhouse.values("alerts", "seq"), ["0", "10", "20", "30"]);
    let inserts = ended.clickhouse.inserts();
    assert_eq!(inserts.iter().filter(|insert| insert.table() == "alerts").count(), 1);
    assert_eq!((ended.inserted, ended.dropped, ended.dead_lettered, ended.pending), (32, 4, 4, 0));
}

/// Where acknowledgements wait for emitted rows, the rows wait for nothing: the broker may have a small window.
#[test]
fn emitted_rows_that_acknowledgements_wait_for_are_sent_at_once() {
    let mut config = route(json!({ "emits": ["alerts"] }));
    config["batch"] = json!({ "maxDelayMs": 3_600_000 });
    let mut running = start(with_alerts(), config, alert);
    for batch in 0..3 {
        running.send_numbers(10 * batch..10 * batch + 10);
        running.seal();
        running.wait_for_rows("alerts", batch as usize + 1);
        running.wait_for_acknowledgements(10 * (batch as usize + 1));
    }
    let ended = running.finish();
    assert_eq!((ended.inserted, ended.dropped, ended.dead_lettered), (24, 3, 3));
}

/// While a worker is busy, what comes out of the transform waits as one batch; the transform itself gets small ones.
#[test]
fn batches_join_behind_the_transform_while_clickhouse_is_busy() {
    let server = clickhouse();
    let gate = Gate::default();
    server.script([Answer::Held(gate.clone())]);
    let calls = Arc::new(Mutex::new(Vec::new()));
    let seen = calls.clone();
    let mut config = route(json!({}));
    config["batch"] = json!({ "maxRows": 5 });
    let mut running = start(server, config, move |mut call| {
        seen.lock().unwrap().push(call.rows());
        let verdict = |seq: u32| if seq % 5 == 4 { Verdict::Drop } else { Verdict::Keep };
        let verdicts = numbers(&mut call).into_iter().map(verdict).collect();
        call.finish(verdicts, Vec::new()).unwrap();
    });
    running.send_numbers(0..5);
    running.clickhouse.wait_for_inserts(1);
    for batch in 1..20 {
        running.send_numbers(5 * batch..5 * batch + 5);
        running.wait_until(|| calls.lock().unwrap().len() > batch as usize);
    }
    gate.open();
    let ended = running.finish();
    assert_eq!(calls.lock().unwrap()[..], [5; 20], "no call is larger than the batch");
    let rows: Vec<usize> =
        ended.clickhouse.inserts().iter().map(|insert| insert.blocks.iter().map(Vec::len).sum()).collect();
    // One is held, one waits for the worker, and all others are one.
    assert_eq!(rows, [4, 4, 72]);
    assert_eq!((ended.inserted, ended.dropped), (80, 20));
}

#[test]
fn a_row_that_cannot_be_emitted_says_why() {
    let mut running = start(with_alerts(), route(json!({ "emits": ["alerts"] })), |mut call| {
        let refused = |call: &mut TransformCall, table: &str, row: &[u8]| {
            let reason = call.emit(table, row).unwrap_err();
            (reason.code.as_str(), reason.column.as_deref().map(String::from))
        };
        assert_eq!(refused(&mut call, "t", &row(1)), ("UNKNOWN_FIELD", None));
        let seq = || Some("seq".to_string());
        assert_eq!(refused(&mut call, "alerts", b"\xa1\x63seq\x61x"), ("TYPE_MISMATCH", seq()));
        assert_eq!(refused(&mut call, "alerts", b"\xa1\x63seq\x20"), ("OUT_OF_RANGE", seq()));
        assert_eq!(refused(&mut call, "alerts", b"\xa0"), ("FIELD_MISSING", seq()));
        assert_eq!(refused(&mut call, "alerts", b"\xa1\x61q\x01"), ("UNKNOWN_FIELD", Some("q".into())));
        call.emit("alerts", &row(7)).unwrap();
        call.finish(Vec::new(), Vec::new()).unwrap();
    });
    running.send_numbers(0..1);
    running.seal();
    assert_eq!(running.finish().clickhouse.values("alerts", "seq"), ["7"]);
}

#[test]
fn emitted_rows_that_clickhouse_refuses_are_dead_letters_of_no_message() {
    let server = with_alerts();
    server.refuse("alerts", |row| row["seq"] == "10");
    let mut running = start(server, route(json!({ "emits": ["alerts"] })), alert);
    running.send_numbers(10..15);
    running.send_numbers(20..21);
    running.seal();
    let ended = running.finish();
    assert_eq!(ended.clickhouse.values("alerts", "seq"), ["20"]);
    assert_eq!((ended.inserted, ended.dropped, ended.dead_lettered), (4, 1, 1));
    assert_eq!(ended.reported.dead_letters.len(), 2);
}

fn spooled(dir: &tempfile::TempDir, changes: Value) -> Value {
    let mut config = route(changes);
    config["spool"] = json!({ "dir": dir.path() });
    config["mqtt"] = json!({ "clientId": "client" });
    config["batch"] = json!({ "maxDelayMs": 1 });
    config
}

#[test]
fn a_spool_has_what_came_out_of_the_transform_and_never_runs_it_again() {
    let dir = tempfile::tempdir().unwrap();
    let server = with_alerts();
    server.refuse("t", |row| row["seq"] == "1004");
    server.script([Answer::Held(Gate::default())]);
    let config = || spooled(&dir, json!({ "emits": ["alerts"] }));
    let mut running = start(server, config(), |mut call| {
        let changed: Vec<u32> = numbers(&mut call).iter().map(|number| number + 1000).collect();
        write_numbers(&mut call, &changed);
        alert(call);
    });
    running.send_numbers(0..8);
    running.seal();
    // All but the rejected one are on disk, and that one is stored.
    running.wait_for_acknowledgements(8);
    running.clickhouse.wait_for_inserts(1);
    let first = running.cancel();
    assert_eq!(first.inserted, 0);
    let before = first.clickhouse.inserts();

    // The next life has to find a row that is refused among rows that only the block has.
    let running = start(first.clickhouse, config(), |_| panic!("the transform runs again"));
    let ended = running.finish_spooled();
    assert_eq!(ended.clickhouse.values("t", "seq"), ["1000", "1003", "1005", "1006", "1007"]);
    assert_eq!(ended.clickhouse.values("alerts", "seq"), ["1000"]);
    // The emitted row counts as no message in this life either.
    assert_eq!((ended.inserted, ended.dead_lettered), (5, 1));
    assert!(ended.reported.dead_letters[0].0.contains("\"seq\":4"), "{:?}", ended.reported.dead_letters);
    let tokens: Vec<_> = ended.clickhouse.inserts().iter().map(|insert| insert.token.clone()).collect();
    assert!(tokens[before.len()..].contains(&before[0].token));
}

#[test]
fn changed_rows_of_the_spool_fit_a_table_that_has_changed() {
    let dir = tempfile::tempdir().unwrap();
    let server = clickhouse();
    server.script([Answer::Held(Gate::default())]);
    let mut running = start(server, spooled(&dir, json!({})), |mut call| {
        let changed: Vec<u32> = numbers(&mut call).iter().map(|number| number + 1000).collect();
        write_numbers(&mut call, &changed);
        call.finish(Vec::new(), Vec::new()).unwrap();
    });
    running.send_numbers(0..3);
    running.seal();
    running.wait_for_acknowledgements(3);
    running.clickhouse.wait_for_inserts(1);
    let first = running.cancel();
    first.clickhouse.alter("t", &["seq String", "text String", "more UInt8 DEFAULT 1"]);
    let ended =
        start(first.clickhouse, spooled(&dir, json!({})), |_| panic!("it runs again")).finish_spooled();
    assert_eq!(ended.clickhouse.values("t", "seq"), ["1000", "1001", "1002"]);
}

#[test]
fn a_batch_of_which_all_rows_are_dropped_is_in_the_spool_by_what_it_emitted() {
    let dir = tempfile::tempdir().unwrap();
    let server = with_alerts();
    server.script([Answer::Held(Gate::default())]);
    let mut running = start(server, spooled(&dir, json!({ "emits": ["alerts"] })), |mut call| {
        call.emit("alerts", &row(1)).unwrap();
        call.emit("alerts", &row(2)).unwrap();
        let verdicts = vec![Verdict::Drop; call.rows()];
        call.finish(verdicts, Vec::new()).unwrap();
    });
    running.send_numbers(0..4);
    running.seal();
    running.wait_for_acknowledgements(4);
    running.clickhouse.wait_for_inserts(1);
    let first = running.cancel();
    let hosts = |_: TransformCall| panic!("it runs again");
    let ended =
        start(first.clickhouse, spooled(&dir, json!({ "emits": ["alerts"] })), hosts).finish_spooled();
    assert_eq!(ended.clickhouse.values("alerts", "seq"), ["1", "2"]);
}

#[test]
fn inputs_are_read_and_not_inserted_and_computed_columns_need_no_field() {
    let server = clickhouse();
    server.create("f", &["seq UInt32", "double Nullable(UInt32)", "half Float64 DEFAULT 7"]);
    let changes = json!({
        "table": "f",
        "columns": { "double": { "computed": true }, "half": { "computed": true } },
        "inputs": { "text": { "type": "String" }, "factor": { "path": "a.factor", "type": "UInt8", "default": 2 } },
    });
    let mut running = start(server, route(changes), |mut call| {
        let names: Vec<_> =
            call.layout().columns.iter().map(|column| (column.name.clone(), column.input)).collect();
        let expected = [("seq", false), ("double", false), ("half", false), ("factor", true), ("text", true)];
        assert_eq!(names, expected.map(|(name, input)| (name.to_string(), input)));
        let rows = call.rows();
        let seq = numbers(&mut call);
        let mut factors = vec![0; rows];
        call.columns().read(3, &mut factors, None).unwrap();
        let (mut double, mut nulls) = (vec![0; 4 * rows], vec![0; rows]);
        call.columns().read(1, &mut double, Some(&mut nulls)).unwrap();
        assert!(nulls.iter().all(|null| *null == 1));
        // The first row is not filled.
        for row in 1..rows {
            let value = seq[row] * u32::from(factors[row]);
            double[4 * row..4 * row + 4].copy_from_slice(&value.to_le_bytes());
        }
        call.columns().write(1, &double, Some(&nulls)).unwrap();
        call.columns().set_value(2, 2, Some(&[0xf9, 0x3e, 0x00])).unwrap();
        call.finish(Vec::new(), Vec::new()).unwrap();
    });
    for (seq, factor) in [(5, 2), (0, 3), (7, 3)] {
        running.send(&json!({ "seq": seq, "text": "x", "a": { "factor": factor } }).to_string());
    }
    running.seal();
    let ended = running.finish();
    let row = |row: &Row| (row["seq"].clone(), row["double"].clone(), row["half"].clone());
    let rows: Vec<_> = ended.clickhouse.rows("f").iter().map(row).collect();
    // NULL has ClickHouse compute the default.
    let expected = [("5", "NULL", "NULL"), ("0", "0", "NULL"), ("7", "21", "1.5")];
    assert_eq!(rows, expected.map(|(seq, double, half)| (seq.into(), double.into(), half.into())));
}

#[test]
fn a_slow_transform_leaves_messages_with_the_broker() {
    let calls: Arc<Mutex<Vec<TransformCall>>> = Arc::default();
    let held = calls.clone();
    let mut changes = route(json!({}));
    changes["batch"] = json!({ "maxRows": 2 });
    let mut running = start(clickhouse(), changes, move |call| held.lock().unwrap().push(call));
    // One batch in the call, two that wait, and the open one.
    while !running.is_batch_full() {
        running.send_numbers(0..1);
    }
    let sent = running.sent();
    assert!(sent <= 2 * 4 + 1, "{sent} messages");
    running.wait_until(|| !calls.lock().unwrap().is_empty());
    let taken = calls.clone();
    let worker = std::thread::spawn(move || {
        let mut rows = 0;
        while rows < sent {
            if let Some(call) = taken.lock().unwrap().pop() {
                rows += call.rows() as u64;
                call.finish(Vec::new(), Vec::new()).unwrap();
            }
            std::thread::yield_now();
        }
    });
    let ended = running.finish();
    worker.join().unwrap();
    assert_eq!(ended.inserted, sent);
}
