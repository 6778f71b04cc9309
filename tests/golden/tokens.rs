//! Deduplication tokens. One that changed would double the rows of an INSERT that an earlier version has begun.

use super::engine::Tokens;
use super::expected::assert_golden;

#[test]
fn tokens_of_a_pipeline_and_of_a_replay() {
    let mut lines = Vec::new();
    let random = Tokens::Random(format!("fleet-{:016x}", 0x1f));
    for id in ["0", "41", "letters-7"] {
        lines.push(format!(
            "pipeline, {id}: {}",
            random.token(id, "INSERT INTO t FORMAT Native", || unreachable!())
        ));
    }
    let content = Tokens::content();
    for (sql, block) in [
        ("INSERT INTO a FORMAT Native", &b"one"[..]),
        ("INSERT INTO a FORMAT Native", b"two"),
        ("INSERT INTO a FORMAT Native", b"one"),
        ("INSERT INTO b FORMAT Native", b"one"),
        ("INSERT INTO b FORMAT Native", b"one"),
        ("INSERT INTO b FORMAT Native", b""),
        ("INSERT INTO b FORMAT Native", &[0xa5; 1000]),
    ] {
        let what = if block.len() > 10 { "1000 bytes".into() } else { String::from_utf8_lossy(block) };
        lines.push(format!("replay, {sql}, {what}: {}", content.token(0, sql, || block.to_vec())));
    }
    assert_golden("tokens.txt", &(lines.join("\n") + "\n"));
}
