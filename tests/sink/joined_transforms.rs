//! Messages that several routes take, of which some have a transform, in a spool: whatever becomes of a message is on disk
//! together, or nothing of it is.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::sync::Arc;

use serde_json::{Value, json};

use super::engine::{TransformCall, TransformHost, TransformHosts, Verdict};
use super::fake_clickhouse::{Answer, Listening};
use super::harness::{Ended, Running, checksum};

/// Runs a function for each call, on the thread of the stage.
struct Host(fn(TransformCall));

impl TransformHost for Host {
    fn threads(&self) -> usize {
        1
    }

    fn call(&self, call: TransformCall) {
        (self.0)(call);
    }
}

/// `t` has a transform that drops, rejects and emits, and emits of what it rejects. `small` takes no number beyond 255. `texts` has
/// a transform that fails for all rows of a batch.
fn config(dir: &Path) -> Value {
    json!({
        "mqtt": { "clientId": "client" },
        "routes": [
            { "topic": "t/#", "table": "t", "continue": true, "transform": { "function": true }, "emits": ["alerts"] },
            { "topic": "t/+", "table": "small", "continue": true },
            { "topic": "t/x", "table": "texts", "transform": { "function": true } },
        ],
        "deadLetters": { "table": "letters" },
        "spool": { "dir": dir, "commitMs": 1 },
    })
}

const IS_SMALL: fn(u32) -> bool = |seq| seq < 256;
const IS_KEPT: fn(u32) -> bool = |seq| !matches!(seq % 10, 2 | 3);
const IS_EMITTED: fn(u32) -> bool = |seq| matches!(seq % 10, 0 | 2 | 3);
const IS_REJECTED: fn(u32) -> bool = |seq| seq % 10 == 3;
/// The last route rejects every message of a batch with such a number.
const FAILS: fn(u32) -> bool = |seq| seq % 100 == 44;

fn clickhouse() -> Listening {
    let clickhouse = super::harness::clickhouse();
    clickhouse.create("small", &["seq UInt8"]);
    clickhouse.create("texts", &["seq UInt32", "text String"]);
    clickhouse.create("alerts", &["seq UInt32"]);
    let dead_letters = [
        "route Int32",
        "topic String",
        "payload String",
        "error_code LowCardinality(String)",
        "error String",
    ];
    clickhouse.create("letters", &[&["received_at DateTime64(3, 'UTC')"], &dead_letters[..]].concat());
    clickhouse
}

fn numbers(call: &mut TransformCall) -> Vec<u32> {
    let mut values = vec![0; 4 * call.rows()];
    call.columns().read(0, &mut values, None).unwrap();
    values.as_chunks::<4>().0.iter().map(|value| u32::from_le_bytes(*value)).collect()
}

fn sort(mut call: TransformCall) {
    let numbers = numbers(&mut call);
    for seq in numbers.iter().filter(|seq| IS_EMITTED(**seq)) {
        let row = [&b"\xa1\x63seq\x1a"[..], &seq.to_be_bytes()].concat();
        call.emit("alerts", &row).unwrap();
    }
    let verdict = |seq: &u32| match seq % 10 {
        2 => Verdict::Drop,
        3 => Verdict::Reject,
        _ => Verdict::Keep,
    };
    let reasons = (0..numbers.len()).map(|row| (row, format!("not {}", numbers[row]))).collect();
    call.finish(numbers.iter().map(verdict).collect(), reasons).unwrap();
}

fn fail(mut call: TransformCall) {
    match numbers(&mut call).iter().any(|seq| FAILS(*seq)) {
        true => call.fail("it fails".into(), String::new()),
        false => call.finish(Vec::new(), Vec::new()).unwrap(),
    }
}

fn start(clickhouse: Listening, dir: &Path, hosts: [fn(TransformCall); 2]) -> Running {
    let all = TransformHosts::default();
    all.set(0, Arc::new(Host(hosts[0])));
    all.set(2, Arc::new(Host(hosts[1])));
    Running::with_hosts(clickhouse, config(dir), all)
}

fn payload(seq: u32) -> String {
    json!({ "seq": seq, "text": format!("text {seq}") }).to_string()
}

fn values(ended: &Ended, table: &str) -> Vec<u32> {
    let mut values: Vec<u32> =
        ended.clickhouse.values(table, "seq").iter().map(|seq| seq.parse().unwrap()).collect();
    values.sort_unstable();
    values
}

/// Payloads and codes of dead letters, and how often each is there.
fn stored_dead_letters(ended: &Ended) -> BTreeMap<(String, String), usize> {
    let mut dead_letters = BTreeMap::new();
    for row in ended.clickhouse.rows("letters") {
        *dead_letters.entry((row["payload"].clone(), row["error_code"].clone())).or_default() += 1;
    }
    dead_letters
}

#[test]
fn a_log_that_is_cut_anywhere_has_all_that_became_of_a_message_or_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let mut running = start(clickhouse(), dir.path(), [sort, fail]);
    running.clickhouse.script((0..10_000).map(|_| Answer::Cut));
    // The third batch fails in the last route. The fifth is dropped by the first, and the sixth is all dead letters there.
    let batches: [&[u32]; 6] =
        [&[0, 1, 2, 3], &[300, 21, 322, 23], &[340, 41, 42, 43, 44], &[50, 51], &[62, 72], &[83, 93]];
    for (batch, sent) in batches.iter().enumerate() {
        sent.iter().for_each(|seq| running.send(&payload(*seq)));
        running.seal();
        running.wait_for_acknowledgements(batches[..=batch].iter().map(|batch| batch.len()).sum());
    }
    running.cancel();
    let segment = std::fs::read_dir(dir.path())
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .find(|path| path.file_name().unwrap().to_string_lossy().starts_with("segment-"))
        .unwrap();
    let bytes = std::fs::read(&segment).unwrap();
    let mut seen = BTreeSet::new();
    for cut in (0..bytes.len()).step_by(211).chain([bytes.len()]) {
        let copy = tempfile::tempdir().unwrap();
        std::fs::write(copy.path().join(segment.file_name().unwrap()), &bytes[..cut]).unwrap();
        let again =
            start(clickhouse(), copy.path(), [|_| panic!("it runs again"), |_| panic!("it runs again")]);
        let known: BTreeSet<u64> = again.known_fingerprints().into_iter().collect();
        let ended = again.finish_spooled();
        let fingerprint = |seq: &u32| checksum(&payload(*seq));
        let there: Vec<&[u32]> =
            batches.into_iter().filter(|batch| known.contains(&fingerprint(&batch[0]))).collect();
        let all: Vec<u32> = there.concat();
        assert_eq!(known, all.iter().map(fingerprint).collect(), "whole batches: cut at {cut}");
        let having = |has: &dyn Fn(u32) -> bool| {
            let mut having: Vec<u32> = all.iter().copied().filter(|seq| has(*seq)).collect();
            having.sort_unstable();
            having
        };
        let failed: BTreeSet<u32> = there
            .iter()
            .filter(|batch| batch.iter().any(|seq| FAILS(*seq)))
            .flat_map(|batch| batch.to_vec())
            .collect();
        assert_eq!(values(&ended, "t"), having(&IS_KEPT), "cut at {cut}");
        assert_eq!(values(&ended, "alerts"), having(&IS_EMITTED), "cut at {cut}");
        assert_eq!(values(&ended, "small"), having(&IS_SMALL), "cut at {cut}");
        assert_eq!(values(&ended, "texts"), having(&|seq| !failed.contains(&seq)), "cut at {cut}");
        let letters_of = |numbers: Vec<u32>, code: &str| {
            numbers.into_iter().map(|seq| ((payload(seq), code.to_string()), 1)).collect::<Vec<_>>()
        };
        let expected = [
            letters_of(having(&IS_REJECTED), "REJECTED_BY_TRANSFORM"),
            letters_of(having(&|seq| !IS_SMALL(seq)), "OUT_OF_RANGE"),
            letters_of(having(&|seq| failed.contains(&seq)), "TRANSFORM_FAILED"),
        ];
        assert_eq!(stored_dead_letters(&ended), expected.concat().into_iter().collect(), "cut at {cut}");
        seen.insert(there.len());
    }
    assert_eq!(seen, (0..=batches.len()).collect(), "each entry was the last one once");
}

/// Without a crash the counts are those of messages, and each is acknowledged once.
#[test]
fn a_message_of_two_transforms_counts_once() {
    let dir = tempfile::tempdir().unwrap();
    let mut running = start(clickhouse(), dir.path(), [sort, fail]);
    for seq in [0, 1, 2, 3, 300, 303] {
        running.send(&payload(seq));
    }
    running.seal();
    running.wait_for_acknowledgements(6);
    let ended = running.finish_spooled();
    assert_eq!(values(&ended, "texts"), [0, 1, 2, 3, 300, 303]);
    assert_eq!(stored_dead_letters(&ended).len(), 4);
    assert_eq!(ended.inserted + ended.dead_lettered + ended.dropped, 6);
    assert_eq!(ended.pending, 0);
}
