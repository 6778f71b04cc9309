//! One bare value: `21.5`, `ON`, `unavailable`.

use std::borrow::Cow;

use crate::decode::tape::{Tape, Value};
use crate::decode::value_reader::Result;

/// The payload as one text without white space and NUL around it; bytes, if it is not UTF-8.
pub fn read(payload: &[u8]) -> Result<Tape<'_>> {
    let mut tape = Tape::default();
    tape.push(match std::str::from_utf8(payload) {
        Ok(text) => Value::Text(Cow::Borrowed(bare(text))),
        Err(_) => Value::Bytes(Cow::Borrowed(payload)),
    })?;
    Ok(tape)
}

/// Without a byte order mark, white space and NUL around it.
pub fn bare(text: &str) -> &str {
    text.trim_start_matches('\u{feff}').trim_matches(|c: char| c.is_ascii_whitespace() || c == '\0')
}
