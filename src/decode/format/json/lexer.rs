//! JSON (RFC 8259), token by token, over the bytes of one payload.
//!
//! A [`Reader`] is a place in the payload. The reader asks for the token it expects; [`Reader::skip`]
//! passes over a value and checks it as strictly as if it had been wanted. Nothing is allocated but for
//! strings with escapes.

use std::borrow::Cow;

use crate::clickhouse::Column;
use crate::config::Unit;
use crate::core::reason::{Code, Reason};
use crate::decode::format::json::scan::plain_run;
use crate::decode::number::{Number, TerminatedBytes};
use crate::decode::value::{self, FastKind};
use crate::decode::value_reader::{Result, Shape, Token, ValueReader};

/// Objects and lists within each other; also what ClickHouse and most libraries stop at or before.
const MAX_DEPTH: usize = 128;

const BYTE_ORDER_MARK: &[u8] = b"\xef\xbb\xbf";

#[derive(Debug, Clone)]
pub struct Reader<'a> {
    bytes: &'a [u8],
    at: usize,
    depth: usize,
}

impl<'a> Reader<'a> {
    /// At the beginning of a payload, behind a byte order mark if there is one.
    pub fn new(bytes: &'a [u8]) -> Reader<'a> {
        let at = if bytes.starts_with(BYTE_ORDER_MARK) { BYTE_ORDER_MARK.len() } else { 0 };
        Reader { bytes, at, depth: 0 }
    }

    /// Within the outermost object.
    pub fn inside(bytes: &'a [u8], at: usize) -> Reader<'a> {
        Reader { bytes, at, depth: 1 }
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

    /// Whether another document follows the one that was read. NUL at the end is what C programs leave there.
    pub fn next_document(&mut self) -> Result<bool> {
        let end = self.at;
        self.skip_space();
        let is_on_another_line = self.bytes[end..self.at].contains(&b'\n');
        match self.bytes.get(self.at) {
            None => Ok(false),
            Some(b'{' | b'[') => Ok(true),
            Some(0)
                if self.bytes[self.at..]
                    .iter()
                    .all(|byte| matches!(byte, 0 | b' ' | b'\t' | b'\n' | b'\r')) =>
            {
                self.at = self.bytes.len();
                Ok(false)
            }
            Some(_) if is_on_another_line => Ok(true),
            Some(_) => Err(self.invalid("something follows the value")),
        }
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
        if self.depth > MAX_DEPTH {
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
    pub fn raw(&mut self) -> Result<&'a [u8]> {
        self.peek()?;
        let start = self.at;
        self.skip()?;
        Ok(&self.bytes[start..self.at])
    }

    /// Reads a string; only where [`Reader::peek`] said that one begins.
    #[inline]
    pub fn text(&mut self) -> Result<Cow<'a, str>> {
        let start = self.at + 1;
        let (end, is_ascii) = plain_run(self.bytes, start);
        if self.bytes.get(end) != Some(&b'"') {
            let bytes = self.bytes_with_escapes(start, end)?;
            return String::from_utf8(bytes).map(Cow::Owned).map_err(|_| self.invalid("it is not UTF-8"));
        }
        self.at = end + 1;
        let bytes = &self.bytes[start..end];
        if is_ascii {
            // SAFETY: ASCII is UTF-8.
            return Ok(Cow::Borrowed(unsafe { std::str::from_utf8_unchecked(bytes) }));
        }
        std::str::from_utf8(bytes).map(Cow::Borrowed).map_err(|_| self.invalid("it is not UTF-8"))
    }

    /// The same for who takes bytes that are not UTF-8 as well.
    pub fn text_bytes(&mut self) -> Result<Cow<'a, [u8]>> {
        let start = self.at + 1;
        let (end, _) = plain_run(self.bytes, start);
        if self.bytes.get(end) != Some(&b'"') {
            return self.bytes_with_escapes(start, end).map(Cow::Owned);
        }
        self.at = end + 1;
        Ok(Cow::Borrowed(&self.bytes[start..end]))
    }

    #[cold]
    fn bytes_with_escapes(&mut self, start: usize, mut end: usize) -> Result<Vec<u8>> {
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
        Ok(bytes)
    }

    /// One escape sequence, which is a complete character.
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

    /// The payload, if a number in it can be read without a check for the end at each digit.
    #[inline(always)]
    pub fn terminated(&self) -> Option<TerminatedBytes<'a>> {
        TerminatedBytes::new(self.bytes)
    }

    /// Goes to where a value ends that was looked at.
    #[inline(always)]
    pub fn seek(&mut self, end: usize) {
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

impl<'a> ValueReader<'a> for Reader<'a> {
    fn position(&self) -> usize {
        self.at
    }

    fn at(&self, position: usize) -> Reader<'a> {
        Reader { at: position, ..*self }
    }

    #[inline(always)]
    fn shape(&mut self) -> Result<Shape> {
        Ok(match self.peek()? {
            b'"' => Shape::Text,
            b'-' | b'0'..=b'9' => Shape::Number,
            b'{' => Shape::Object,
            b'[' => Shape::List,
            b't' | b'f' => Shape::Bool,
            b'n' => Shape::Null,
            _ => return Err(self.invalid("a value was expected")),
        })
    }

    #[inline]
    fn token(&mut self) -> Result<Token<'a>> {
        Reader::token(self)
    }

    fn enter(&mut self) -> Result<()> {
        Reader::enter(self)
    }

    #[inline]
    fn next_member(&mut self, is_first: bool) -> Result<bool> {
        Reader::next_member(self, is_first)
    }

    fn key(&mut self) -> Result<Cow<'a, str>> {
        Reader::key(self)
    }

    #[inline]
    fn next_item(&mut self, is_first: bool) -> Result<bool> {
        Reader::next_item(self, is_first)
    }

    fn skip(&mut self) -> Result<()> {
        Reader::skip(self)
    }

    fn written(&mut self) -> Result<Cow<'a, [u8]>> {
        match self.peek()? {
            b'"' => self.text_bytes(),
            _ => self.raw().map(Cow::Borrowed),
        }
    }

    #[inline(always)]
    fn read_fast(&mut self, kind: FastKind, unit: Unit, column: &mut Column) -> bool {
        let Some(bytes) = self.terminated() else { return false };
        if self.peek().is_err() {
            return false;
        }
        let end = value::read_fast(bytes, self.at, kind, unit, column);
        self.at = end.unwrap_or(self.at);
        end.is_some()
    }
}

#[cfg(test)]
#[path = "lexer_tests.rs"]
mod tests;
