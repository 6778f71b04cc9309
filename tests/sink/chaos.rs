//! Everything at once, from a seed: answers of every kind in any order, bad rows, a table that changes, several workers, with a
//! spool and without. However it goes, each row is there once or its message is a dead letter, and all is settled.
//!
//! `SEED=<seed> cargo test --test sink chaos` repeats a life, as far as threads allow.

use std::sync::Arc;

use serde_json::json;

use super::fake_clickhouse::Answer;
use super::harness::{Running, assert_rows};

/// SplitMix64.
struct Random(u64);

impl Random {
    fn below(&mut self, bound: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let z = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (z ^ (z >> 31)) % bound
    }
}

fn answer(random: &mut Random) -> Answer {
    match random.below(10) {
        0 => Answer::Exception(252, "Too many parts"),
        1 => Answer::Exception(60, "Table does not exist"),
        2 => Answer::LateException(241, "Memory limit exceeded"),
        3 => Answer::Status(502, "<html>Bad Gateway</html>"),
        4 => Answer::Cut,
        5 => Answer::StoredAndCut,
        6 => Answer::LostInACrash,
        7 => Answer::StoredInACrash,
        _ => Answer::Normal,
    }
}

fn life(seed: u64) {
    let mut random = Random(seed);
    let dir = tempfile::tempdir().unwrap();
    let compression = ["none", "lz4", "zstd"][random.below(3) as usize];
    let mut changes = json!({
        "clickhouse": { "maxInFlight": 1 + random.below(3), "compression": compression },
        "batch": { "maxRows": 5 + random.below(100), "maxDelayMs": 1 },
    });
    if random.below(2) == 0 {
        changes["spool"] = json!({ "dir": dir.path() });
        changes["mqtt"] = json!({ "clientId": "client" });
    }
    if random.below(2) == 0 {
        changes["deadLetters"] = json!({ "table": "letters" });
    }
    const COUNT: u32 = 300;
    let bad: Arc<[u32]> = (0..random.below(3)).map(|_| random.below(COUNT.into()) as u32).collect();
    let mut running = Running::start(changes);
    let refused = bad.clone();
    running.clickhouse.refuse("t", move |row| refused.contains(&row["seq"].parse().unwrap()));
    running.clickhouse.script((0..random.below(60)).map(|_| answer(&mut random)).collect::<Vec<_>>());
    let changes_at = random.below(2 * u64::from(COUNT)) as u32;
    for seq in 0..COUNT {
        running.send_numbers(seq..seq + 1);
        if seq == changes_at {
            running.clickhouse.alter("t", &["seq UInt64", "text String", "more UInt8 DEFAULT 1"]);
        }
        if random.below(20) == 0 {
            running.seal();
        }
    }
    let ended = running.finish();
    assert_rows(&ended.clickhouse, (0..COUNT).filter(|seq| !bad.contains(seq)));
    let mut dead_letters: Vec<u32> = bad.to_vec();
    dead_letters.sort_unstable();
    dead_letters.dedup();
    let mut reported: Vec<u32> = (ended.reported.dead_letters.iter())
        .map(|(payload, ..)| {
            serde_json::from_str::<serde_json::Value>(payload).unwrap()["seq"].as_u64().unwrap() as u32
        })
        .collect();
    reported.sort_unstable();
    assert_eq!(reported, dead_letters);
    assert_eq!(
        (ended.inserted, ended.dead_lettered),
        (u64::from(COUNT) - dead_letters.len() as u64, dead_letters.len() as u64)
    );
}

#[test]
fn each_row_is_inserted_once_or_a_dead_letter() {
    match std::env::var("SEED").ok().and_then(|seed| seed.parse().ok()) {
        Some(seed) => life(seed),
        None => lives(0..30),
    }
}

#[test]
#[ignore = "takes minutes: npm run test:full"]
fn in_thousands_of_lives_each_row_is_inserted_once_or_a_dead_letter() {
    lives(30..3_030);
}

fn lives(seeds: std::ops::Range<u64>) {
    for seed in seeds {
        if let Err(panic) = std::panic::catch_unwind(|| life(seed)) {
            let text = panic.downcast_ref::<String>().map(String::as_str);
            let text = text.or(panic.downcast_ref::<&str>().copied()).unwrap_or("a panic without words");
            panic!("SEED={seed} repeats it: {text}");
        }
    }
}
