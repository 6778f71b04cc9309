//! Compares bytes with a file of `expected/`, and prints bytes so that a person can read them.

use std::fmt::Write;
use std::path::{Path, PathBuf};

/// The directory of these tests.
pub fn directory() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden")
}

/// Whether to write the expected files anew.
pub fn is_writing() -> bool {
    std::env::var_os("MILLRACE_GOLDEN").is_some_and(|mode| mode == "write")
}

/// Fails unless `actual` is the content of the file, byte for byte. With `MILLRACE_GOLDEN=write` the file becomes `actual`.
pub fn assert_golden(name: &str, actual: &str) {
    let path = directory().join("expected").join(name);
    if is_writing() {
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(&path, actual).unwrap();
        return;
    }
    let expected =
        std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    if expected == actual {
        return;
    }
    let (mut before, mut now) = (expected.split('\n'), actual.split('\n'));
    let mut line = 1;
    loop {
        match (before.next(), now.next()) {
            (Some(before), Some(now)) if before == now => line += 1,
            (before, now) => panic!(
                "{name} differs in line {line}; see the header of tests/golden/main.rs\n  expected {before:?}\n  actual   {now:?}"
            ),
        }
    }
}

/// Bytes as hexadecimal digits and characters, 16 in a line.
pub fn hex(bytes: &[u8]) -> String {
    let mut out = String::new();
    for (at, line) in bytes.chunks(16).enumerate() {
        let digits: Vec<String> = line.iter().map(|byte| format!("{byte:02x}")).collect();
        let characters: String =
            line.iter().map(|b| if b.is_ascii_graphic() || *b == b' ' { *b as char } else { '.' }).collect();
        writeln!(out, "{:08x}  {:47}  |{characters}|", 16 * at, digits.join(" ")).unwrap();
    }
    out
}

/// Length and checksum, in place of a body that is too long to be read.
pub fn digest(bytes: &[u8]) -> String {
    format!("{} bytes, crc32c {:08x}", bytes.len(), crc32c::crc32c(bytes))
}
