//! Dead letters as lines of a file, with every code.

use std::time::{Duration, SystemTime};

use super::engine::{Code, DeadLetter, Reason, line};
use super::expected::assert_golden;

#[test]
fn lines_of_a_file() {
    let mut out = Vec::new();
    let at = |millis| SystemTime::UNIX_EPOCH + Duration::from_millis(millis);
    for (number, code) in Code::ALL.into_iter().enumerate() {
        let dead_letter = DeadLetter {
            received_at: at(1_730_000_000_000 + 7 * number as u64),
            route: (code != Code::NoRoute).then_some(number),
            topic: format!("drivers/{number}/é").into(),
            payload: format!("{{\"seq\":{number},\n\"text\":\"\\u00e9\"}}").into(),
            reason: Reason::new(code, "why \"so\"\n").about("seq"),
        };
        line::write(&mut out, &dead_letter).unwrap();
    }
    let bytes = DeadLetter {
        received_at: at(0),
        route: None,
        topic: b"a/\xff".to_vec(),
        payload: (0..=255).collect(),
        reason: Reason::new(Code::NoRoute, "the topic is not UTF-8"),
    };
    line::write(&mut out, &bytes).unwrap();
    assert_golden("dead-letters.jsonl", std::str::from_utf8(&out).unwrap());
}
