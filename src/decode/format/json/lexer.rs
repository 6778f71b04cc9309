//! JSON (RFC 8259), token by token, over the bytes of one payload.
//!
//! A [`Reader`] is a place in the payload. Whoever reads asks for what it expects; [`Reader::skip`] passes over a value
//! and checks it as strictly as if it had been wanted. Nothing is allocated but for strings with escapes.

use std::borrow::Cow;

use crate::core::reason::{Code, Reason};
use crate::core::swar::{all, zeros};
use crate::decode::number::{Guarded, Number};

/// Boxed, so that what succeeds stays small.
pub type Result<T> = std::result::Result<T, Box<Reason>>;

/// Objects and lists within each other; also what ClickHouse and most libraries stop at or before.
const DEEPEST: usize = 128;

#[derive(Debug, Clone)]
pub struct Reader<'a> {
    bytes: &'a [u8],
    at: usize,
    depth: usize,
}

#[derive(Debug)]
pub enum Token<'a> {
    Null,
    Bool(bool),
    Number(Number<'a>),
    Text(Cow<'a, str>),
    /// Not entered yet.
    List,
    /// Not entered yet.
    Object,
}

impl<'a> Reader<'a> {
    pub fn new(bytes: &'a [u8]) -> Reader<'a> {
        Reader { bytes, at: 0, depth: 0 }
    }

    /// Within the outermost object.
    pub fn inside(bytes: &'a [u8], at: usize) -> Reader<'a> {
        Reader { bytes, at, depth: 1 }
    }

    /// Where it stands, in bytes from the beginning.
    pub fn position(&self) -> usize {
        self.at
    }

    /// A reader of the same payload that stands elsewhere: where a value begins that was passed over before.
    pub fn back_at(&self, position: usize) -> Reader<'a> {
        Reader { at: position, ..*self }
    }

    /// The first byte of what comes next.
    #[inline(always)]
    pub fn peek(&mut self) -> Result<u8> {
        match self.bytes.get(self.at) {
            Some(byte) if *byte > b' ' => Ok(*byte),
            _ => self.peek_behind_space(),
        }
    }

    #[inline(never)]
    fn peek_behind_space(&mut self) -> Result<u8> {
        self.skip_space();
        self.bytes.get(self.at).copied().ok_or_else(|| self.invalid("it ends too early"))
    }

    fn skip_space(&mut self) {
        while let Some(b' ' | b'\t' | b'\n' | b'\r') = self.bytes.get(self.at) {
            self.at += 1;
        }
    }

    /// Whether another document follows the one that was read, on a line of its own.
    pub fn next_document(&mut self) -> Result<bool> {
        let end = self.at;
        self.skip_space();
        if self.at == self.bytes.len() {
            return Ok(false);
        }
        if self.bytes[end..self.at].contains(&b'\n') {
            return Ok(true);
        }
        Err(self.invalid("something follows the value"))
    }

    /// Reads a scalar; stops ahead of a list or an object.
    #[inline]
    pub fn token(&mut self) -> Result<Token<'a>> {
        match self.peek()? {
            b'"' => self.text().map(Token::Text),
            b'-' | b'0'..=b'9' => self.number().map(Token::Number),
            b'{' => Ok(Token::Object),
            b'[' => Ok(Token::List),
            b't' | b'f' => self.flag().map(Token::Bool),
            b'n' => self.null().map(|()| Token::Null),
            _ => Err(self.invalid("a value was expected")),
        }
    }

    /// Reads a boolean; only where [`Reader::peek`] said that one begins.
    pub fn flag(&mut self) -> Result<bool> {
        let flag = self.bytes.get(self.at) == Some(&b't');
        self.literal(if flag { b"true" } else { b"false" }).map(|()| flag)
    }

    pub fn null(&mut self) -> Result<()> {
        self.literal(b"null")
    }

    #[inline]
    fn literal(&mut self, word: &[u8]) -> Result<()> {
        if !self.bytes[self.at..].starts_with(word) {
            return Err(self.invalid("a value was expected"));
        }
        self.at += word.len();
        Ok(())
    }

    /// Enters the object that [`Token::Object`] announced; its members come from [`Reader::next_member`].
    pub fn enter(&mut self) -> Result<()> {
        self.at += 1;
        self.depth += 1;
        if self.depth > DEEPEST {
            return Err(self.invalid("it is nested more than 128 deep"));
        }
        Ok(())
    }

    /// Goes to the next key, or out of the object.
    #[inline]
    pub fn next_member(&mut self, is_first: bool) -> Result<bool> {
        let inside = self.next(b'}', is_first)?;
        if inside && self.peek()? != b'"' {
            return Err(self.invalid("a key was expected"));
        }
        Ok(inside)
    }

    /// Goes to the next item, or out of the list.
    #[inline]
    pub fn next_item(&mut self, is_first: bool) -> Result<bool> {
        self.next(b']', is_first)
    }

    #[inline]
    fn next(&mut self, end: u8, is_first: bool) -> Result<bool> {
        let byte = self.peek()?;
        if byte == end {
            self.at += 1;
            self.depth -= 1;
            return Ok(false);
        }
        if !is_first {
            if byte != b',' {
                return Err(self.invalid("a comma was expected"));
            }
            self.at += 1;
        }
        Ok(true)
    }

    /// Passes over a key, and the colon behind it, if it is one that `find` knows; gives what that says of it.
    #[inline(always)]
    pub fn known_key<T>(&mut self, find: impl Fn(&[u8]) -> Option<T>) -> Result<Option<T>> {
        let start = self.at + 1;
        let (end, _) = plain_run(self.bytes, start);
        if self.bytes.get(end) != Some(&b'"') {
            return self.known_key_with_escapes(find);
        }
        let found = find(&self.bytes[start..end]);
        if found.is_some() {
            self.at = end + 1;
            self.colon()?;
        }
        Ok(found)
    }

    #[cold]
    fn known_key_with_escapes<T>(&mut self, find: impl Fn(&[u8]) -> Option<T>) -> Result<Option<T>> {
        let mut ahead = self.clone();
        let found = find(ahead.key()?.as_bytes());
        if found.is_some() {
            *self = ahead;
        }
        Ok(found)
    }

    /// Reads a key and the colon behind it.
    pub fn key(&mut self) -> Result<Cow<'a, str>> {
        let key = self.text()?;
        self.colon()?;
        Ok(key)
    }

    #[inline]
    fn colon(&mut self) -> Result<()> {
        if self.peek()? != b':' {
            return Err(self.invalid("a colon was expected"));
        }
        self.at += 1;
        Ok(())
    }

    /// Passes over a value.
    pub fn skip(&mut self) -> Result<()> {
        match self.peek()? {
            b'"' => self.skip_string(),
            b'-' | b'0'..=b'9' => self.number().map(drop),
            b'{' => {
                self.enter()?;
                let mut is_first = true;
                while self.next_member(is_first)? {
                    is_first = false;
                    self.skip_string()?;
                    self.colon()?;
                    self.skip()?;
                }
                Ok(())
            }
            b'[' => {
                self.enter()?;
                let mut is_first = true;
                while self.next_item(is_first)? {
                    is_first = false;
                    self.skip()?;
                }
                Ok(())
            }
            _ => self.token().map(drop),
        }
    }

    /// Passes over a value and gives it as it is written.
    pub fn raw(&mut self) -> Result<&'a str> {
        self.peek()?;
        let start = self.at;
        self.skip()?;
        std::str::from_utf8(&self.bytes[start..self.at]).map_err(|_| self.invalid("it is not UTF-8"))
    }

    /// Reads a string; only where [`Reader::peek`] said that one begins.
    #[inline]
    pub fn text(&mut self) -> Result<Cow<'a, str>> {
        let start = self.at + 1;
        let (end, is_ascii) = plain_run(self.bytes, start);
        if self.bytes.get(end) != Some(&b'"') {
            return self.text_with_escapes(start, end);
        }
        self.at = end + 1;
        let bytes = &self.bytes[start..end];
        if is_ascii {
            // SAFETY: ASCII is UTF-8.
            return Ok(Cow::Borrowed(unsafe { std::str::from_utf8_unchecked(bytes) }));
        }
        std::str::from_utf8(bytes).map(Cow::Borrowed).map_err(|_| self.invalid("it is not UTF-8"))
    }

    #[cold]
    fn text_with_escapes(&mut self, start: usize, mut end: usize) -> Result<Cow<'a, str>> {
        let mut bytes = self.bytes[start..end].to_vec();
        loop {
            self.at = end;
            match self.bytes.get(end) {
                Some(b'"') => break,
                Some(b'\\') => {
                    let c = self.escape()?;
                    bytes.extend_from_slice(c.encode_utf8(&mut [0; 4]).as_bytes());
                }
                Some(_) => return Err(self.invalid("a control character stands in a string")),
                None => return Err(self.invalid("a string does not end")),
            }
            let run = self.at;
            (end, _) = plain_run(self.bytes, run);
            bytes.extend_from_slice(&self.bytes[run..end]);
        }
        self.at = end + 1;
        String::from_utf8(bytes).map(Cow::Owned).map_err(|_| self.invalid("it is not UTF-8"))
    }

    /// One escape sequence, of a whole character.
    fn escape(&mut self) -> Result<char> {
        let kind = self.bytes.get(self.at + 1).copied();
        self.at += 2;
        Ok(match kind {
            Some(c @ (b'"' | b'\\' | b'/')) => c as char,
            Some(b'b') => '\x08',
            Some(b'f') => '\x0c',
            Some(b'n') => '\n',
            Some(b'r') => '\r',
            Some(b't') => '\t',
            Some(b'u') => {
                let first = self.hex()?;
                // A character beyond 16 bits is written as two halves: RFC 8259, 7.
                let code = match first {
                    0xd800..0xdc00 if self.bytes[self.at..].starts_with(b"\\u") => {
                        self.at += 2;
                        let second = self.hex()?;
                        if !(0xdc00..0xe000).contains(&second) {
                            return Err(self.invalid("half of a surrogate pair stands alone"));
                        }
                        0x10000 + ((first - 0xd800) << 10) + (second - 0xdc00)
                    }
                    code => code,
                };
                char::from_u32(code).ok_or_else(|| self.invalid("half of a surrogate pair stands alone"))?
            }
            _ => return Err(self.invalid("an escape is unknown")),
        })
    }

    fn hex(&mut self) -> Result<u32> {
        let digits = self.bytes.get(self.at..self.at + 4).unwrap_or_default();
        let code = digits.iter().try_fold(0, |code, digit| Some(code << 4 | (*digit as char).to_digit(16)?));
        self.at += digits.len();
        code.filter(|_| digits.len() == 4)
            .ok_or_else(|| self.invalid("an escape is not four hexadecimal digits"))
    }

    fn skip_string(&mut self) -> Result<()> {
        self.at += 1;
        loop {
            (self.at, _) = plain_run(self.bytes, self.at);
            match self.bytes.get(self.at) {
                Some(b'"') => {
                    self.at += 1;
                    return Ok(());
                }
                Some(b'\\') if self.bytes.get(self.at + 1) == Some(&b'u') => {
                    self.at += 2;
                    self.hex()?;
                }
                Some(b'\\') => drop(self.escape()?),
                Some(_) => return Err(self.invalid("a control character stands in a string")),
                None => return Err(self.invalid("a string does not end")),
            }
        }
    }

    /// Leaves an object that ends right here.
    #[inline(always)]
    pub fn leave(&mut self) -> bool {
        let ends = self.bytes.get(self.at) == Some(&b'}');
        self.at += ends as usize;
        self.depth -= ends as usize;
        ends
    }

    /// The whole payload, if it may be looked at without looking for its end at each digit.
    #[inline(always)]
    pub fn guarded(&self) -> Option<Guarded<'a>> {
        Guarded::new(self.bytes)
    }

    /// Goes to where a value ends that was looked at.
    #[inline(always)]
    pub fn pass(&mut self, end: usize) {
        self.at = end;
    }

    /// Reads a number; only where [`Reader::peek`] said that one begins.
    #[inline]
    pub fn number(&mut self) -> Result<Number<'a>> {
        let (number, end) = Number::scan(self.bytes, self.at);
        self.at = end;
        number.ok_or_else(|| self.invalid("a number is not one"))
    }

    #[cold]
    pub fn invalid(&self, what: &str) -> Box<Reason> {
        let message = match self.bytes.is_empty() {
            true => "the payload is empty".into(),
            false => format!("{what}, at byte {}", self.at.min(self.bytes.len())),
        };
        Box::new(Reason::new(Code::JsonInvalid, message))
    }
}

/// A key as it mostly stands in a document: `"name":`. It is found again by one comparison.
#[derive(Debug, Clone)]
pub struct Key {
    quoted: Box<[u8]>,
    /// Its first 16 bytes, and which of them are its own: none if it is longer.
    start: u128,
    own: u128,
}

impl Key {
    pub fn new(name: &str) -> Key {
        let quoted = format!("{}:", serde_json::Value::from(name)).into_bytes();
        // One that is longer begins with nothing.
        let mut start = [0xff; 16];
        let mut own = [0; 16];
        if quoted.len() <= 16 {
            start = [0; 16];
            start[..quoted.len()].copy_from_slice(&quoted);
            own[..quoted.len()].fill(0xff);
        }
        Key { quoted: quoted.into(), start: u128::from_le_bytes(start), own: u128::from_le_bytes(own) }
    }

    /// Where the value begins, if at `at` the separator and then the key stand; a space may follow the separator and the colon,
    /// as many libraries write it.
    #[inline(always)]
    pub fn value_behind(&self, separator: u8, bytes: &[u8], at: usize) -> Option<usize> {
        let key = match bytes.get(at..) {
            Some([first, b' ', ..]) if *first == separator => at + 2,
            Some([first, ..]) if *first == separator => at + 1,
            _ => return None,
        };
        if start_of(bytes, key)? & self.own != self.start {
            return if self.own == 0 { self.value_behind_slowly(bytes, key) } else { None };
        }
        let value = key + self.quoted.len();
        Some(value + (bytes.get(value) == Some(&b' ')) as usize)
    }

    #[inline(never)]
    fn value_behind_slowly(&self, bytes: &[u8], key: usize) -> Option<usize> {
        let value = key + self.quoted.len();
        let is_it = bytes.get(key..)?.starts_with(&self.quoted);
        is_it.then(|| value + (bytes.get(value) == Some(&b' ')) as usize)
    }
}

/// The 16 bytes from `at` on, zeros behind the end.
#[inline(always)]
fn start_of(bytes: &[u8], at: usize) -> Option<u128> {
    match bytes.get(at..)?.first_chunk() {
        Some(chunk) => Some(u128::from_le_bytes(*chunk)),
        None => start_near_end(bytes, at),
    }
}

#[inline(never)]
fn start_near_end(bytes: &[u8], at: usize) -> Option<u128> {
    let rest = bytes.get(at..)?;
    let mut start = [0; 16];
    start[..rest.len()].copy_from_slice(rest);
    Some(u128::from_le_bytes(start))
}

/// A string that begins at `at` and is ASCII without escapes, and where it ends.
#[inline(always)]
pub fn plain_text(bytes: &[u8], at: usize) -> Option<(&[u8], usize)> {
    if bytes.get(at) != Some(&b'"') {
        return None;
    }
    let (end, is_ascii) = plain_run(bytes, at + 1);
    if !is_ascii || bytes.get(end) != Some(&b'"') {
        return None;
    }
    Some((bytes.get(at + 1..end)?, end + 1))
}

/// Which of 16 bytes need attention in a string, and which are not ASCII: a bit for each.
#[cfg(target_arch = "x86_64")]
#[inline(always)]
fn look(block: &[u8; 16]) -> (u32, u32) {
    use std::arch::x86_64::*;
    // SAFETY: every x86-64 has SSE2, and a load of 16 bytes need not be aligned.
    unsafe {
        let block = _mm_loadu_si128(block.as_ptr().cast());
        let is = |byte: u8| _mm_cmpeq_epi8(block, _mm_set1_epi8(byte as i8));
        let is_control = _mm_cmpeq_epi8(_mm_min_epu8(block, _mm_set1_epi8(0x1f)), block);
        let stops = _mm_or_si128(_mm_or_si128(is(b'"'), is(b'\\')), is_control);
        (_mm_movemask_epi8(stops) as u32, _mm_movemask_epi8(block) as u32)
    }
}

/// Where a run of characters ends that need no attention in a string: at a quote, a backslash, a control character, or
/// the end. Also whether all of them are ASCII.
#[inline]
fn plain_run(bytes: &[u8], start: usize) -> (usize, bool) {
    let mut at = start;
    let mut seen = 0;
    #[cfg(target_arch = "x86_64")]
    while let Some(block) = bytes.get(at..).and_then(|rest| rest.first_chunk::<16>()) {
        let (stops, highs) = look(block);
        if stops != 0 {
            let run = stops.trailing_zeros();
            // Only what stands before it counts.
            return (at + run as usize, seen == 0 && highs & ((1 << run) - 1) == 0);
        }
        seen |= highs as u64;
        at += 16;
    }
    while let Some(word) = bytes.get(at..).and_then(|rest| rest.first_chunk::<8>()) {
        let word = u64::from_le_bytes(*word);
        // The lowest high bit that is set marks the first such byte; those above it may be wrong.
        let below_space = word.wrapping_sub(all(0x20)) & !word & all(0x80);
        let stop = zeros(word ^ all(b'"')) | zeros(word ^ all(b'\\')) | below_space;
        if stop != 0 {
            let run = stop.trailing_zeros() / 8;
            // Only what stands before it counts.
            seen |= word & all(0x80) & ((1u64 << (run * 8)) - 1);
            return (at + run as usize, seen == 0);
        }
        seen |= word & all(0x80);
        at += 8;
    }
    while let Some(byte) = bytes.get(at) {
        if matches!(byte, b'"' | b'\\' | 0..0x20) {
            break;
        }
        seen |= (*byte as u64) & 0x80;
        at += 1;
    }
    (at, seen == 0)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(json: &str) -> Option<String> {
        let mut reader = Reader::new(json.as_bytes());
        match reader.token() {
            Ok(Token::Text(text)) if reader.at == json.len() => Some(text.into()),
            _ => None,
        }
    }

    #[test]
    fn strings_are_read() {
        for (json, expected) in [
            (r#""""#, ""),
            (r#""abc""#, "abc"),
            (r#""abcdefghijklmnop""#, "abcdefghijklmnop"),
            (r#""a\"\\\/\b\f\n\r\tz""#, "a\"\\/\u{8}\u{c}\n\r\tz"),
            (r#""\u00e9\ud83d\ude9a \u0000""#, "é🚚 \0"),
            (r#""ünïcödé 🚚 and more""#, "ünïcödé 🚚 and more"),
        ] {
            assert_eq!(text(json).as_deref(), Some(expected), "{json}");
        }
        for json in [
            r#"""#,
            r#""abc"#,
            r#""\x""#,
            r#""\u12""#,
            r#""\ud800""#,
            r#""\ud800\u0041""#,
            r#""\udc00""#,
            "\"\n\"",
        ] {
            assert_eq!(text(json), None, "{json}");
        }
        assert!(Reader::new(b"\"\xff\"").token().is_err());
        assert!(Reader::new(b"\"plain then \xc3\"").token().is_err());
    }

    #[test]
    fn runs_end_where_attention_is_needed() {
        for len in 0..40 {
            for stop in [b'"', b'\\', 0, 0x1f, b'\n'] {
                for (fill, is_ascii) in
                    [(b'a', true), (b' ', true), (0x7f, true), (0xc3, false), (0xff, false)]
                {
                    let mut bytes = vec![fill; len];
                    bytes.push(stop);
                    bytes.extend_from_slice(b"\xff\xff\xff\xff\xff\xff\xff\xff\"\"");
                    assert_eq!(plain_run(&bytes, 0), (len, is_ascii || len == 0), "{bytes:?}");
                }
            }
        }
    }

    #[test]
    fn what_is_passed_over_is_checked() {
        let skip = |json: &str| {
            let mut reader = Reader::new(json.as_bytes());
            reader.skip().is_ok() && !reader.next_document().unwrap_or(true)
        };
        for json in ["{}", "[]", r#"{"a":[1,2,{"b":null}],"c":"\ud800"}"#, " [ 1 , true ] ", "-0.5e-3", "0"] {
            assert!(skip(json), "{json}");
        }
        for json in [
            "",
            "{",
            "[1",
            "[1,]",
            "{,}",
            r#"{"a"}"#,
            r#"{"a":}"#,
            r#"{"a":1,}"#,
            "{a:1}",
            "01",
            "1.",
            ".5",
            "+1",
            "-",
            "1e",
            "nul",
            "tru",
            "[1 2]",
            "{} {}",
            "NaN",
            "'a'",
            "\u{feff}{}",
        ] {
            assert!(!skip(json), "{json}");
        }
        let nested = |depth: usize| "[".repeat(depth) + &"]".repeat(depth);
        assert!(skip(&nested(128)) && !skip(&nested(129)));
    }
}
