//! Transforms, played by a function of the test in the place of JavaScript.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use serde_json::{Value, json};

use super::engine::{TransformCall, TransformHost, TransformHosts, Verdict};
use super::fake_clickhouse::Listening;
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
fn what_it_writes_is_inserted() {
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
    assert_eq!(ended.told.letters, [(rows(&[40, 42]), "REJECTED_BY_TRANSFORM", "42 is wrong".to_string())]);
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
            .told
            .letters
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
    assert!(ended.told.letters.iter().all(|(_, code, _)| *code == "TRANSFORM_FAILED"));
}

#[test]
fn what_is_under_way_when_all_is_cancelled_is_not_acknowledged() {
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
    assert!(ended.told.letters[0].0.contains("\"seq\":4"));
}
