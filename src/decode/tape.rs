//! A payload as a list of its values in the order in which they stand: what all formats but JSON are read into, and JSON too
//! where a route wants more of it than a walk from the beginning to the end gives.
//!
//! ```text
//! {"a":[1,"x"],"b":null}   Object, Text a, List, Number 1, Text x, Text b, Null
//! ```
//!
//! A list and an object say where they end, so that each value is found without reading those before it.

use std::borrow::Cow;
use std::cell::Cell;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;

use crate::core::reason::{Code, Reason};
use crate::decode::coerce::float_text;
use crate::decode::number::{IntegerText, Number};
use crate::decode::time::Instant;
use crate::decode::value_reader::{Result, Shape, Token, ValueReader};

/// The most values of a payload, so that a small one does not become gigabytes.
const MAX_VALUES: usize = 1 << 22;

thread_local! {
    /// Bytes of a tape that is begun on this thread. Its messages are all of one pipeline.
    static BYTES_OF_THREAD: Cell<usize> = const { Cell::new(usize::MAX) };
}

/// Tapes that this thread begins from now on take at most `bytes` each.
pub fn limit_bytes(bytes: usize) {
    BYTES_OF_THREAD.set(bytes);
}
/// Lists and objects within each other; as in JSON.
pub const MAX_DEPTH: usize = 128;

#[derive(Debug, Clone, PartialEq)]
pub enum Value<'a> {
    Null,
    Bool(bool),
    /// In digits, as JSON has them.
    Number(Cow<'a, str>),
    /// An integer of 64 bits, with or without a sign.
    Integer(i64),
    Unsigned(u64),
    Float(f64),
    Text(Cow<'a, str>),
    Bytes(Cow<'a, [u8]>),
    Time(Instant),
    /// A name that stands for a number, as in an enum.
    Named {
        name: Box<str>,
        number: i32,
    },
    /// With the place behind its last item, and how it is written if that is JSON.
    List {
        end: u32,
        written: Option<&'a [u8]>,
    },
    /// With the place behind its last member: a key, which is a Text, and a value each.
    Object {
        end: u32,
        written: Option<&'a [u8]>,
    },
}

/// The values of a payload.
#[derive(Debug, Clone)]
pub struct Tape<'a> {
    values: Vec<Value<'a>>,
    max: usize,
    /// Bytes of the texts that are not in the payload, such as a name that each row repeats.
    owned: usize,
    max_bytes: usize,
}

impl Default for Tape<'_> {
    fn default() -> Self {
        let max_bytes = BYTES_OF_THREAD.get();
        let max = (max_bytes / size_of::<Value<'_>>()).min(MAX_VALUES);
        Tape { values: Vec::new(), max, owned: 0, max_bytes }
    }
}

impl<'a> Tape<'a> {
    /// With one value.
    pub fn of(value: Value<'a>) -> Result<Tape<'a>> {
        let mut tape = Tape::default();
        tape.push(value)?;
        Ok(tape)
    }

    pub fn push(&mut self, value: Value<'a>) -> Result<()> {
        self.owned = self.owned.saturating_add(value.owned_bytes());
        self.make_room(1)?;
        self.values.push(value);
        Ok(())
    }

    /// The values of another payload, behind those that are there.
    pub fn append(&mut self, other: Tape<'a>) -> Result<()> {
        self.owned = self.owned.saturating_add(other.owned);
        self.make_room(other.values.len())?;
        let at = self.values.len();
        self.values.extend(other.values.into_iter().map(|value| value.moved_by(at)));
        Ok(())
    }

    fn make_room(&self, more: usize) -> Result<()> {
        let len = self.values.len() + more;
        if len > self.max {
            return Err(too_large(format!("it has more than {} values", self.max)));
        }
        if self.owned > self.max_bytes - len * size_of::<Value<'_>>() {
            return Err(too_large(format!("its values take more than {} bytes", self.max_bytes)));
        }
        Ok(())
    }

    /// Begins a list, which [`Tape::end`] ends; gives its place.
    pub fn begin_list(&mut self) -> Result<usize> {
        self.push(Value::List { end: 0, written: None })?;
        Ok(self.values.len() - 1)
    }

    pub fn begin_object(&mut self) -> Result<usize> {
        self.push(Value::Object { end: 0, written: None })?;
        Ok(self.values.len() - 1)
    }

    pub fn end(&mut self, at: usize) {
        self.end_written(at, None);
    }

    pub fn end_written(&mut self, at: usize, how: Option<&'a [u8]>) {
        let len = self.values.len() as u32;
        if let Some(Value::List { end, written } | Value::Object { end, written }) = self.values.get_mut(at) {
            (*end, *written) = (len, how);
        }
    }

    pub fn len(&self) -> usize {
        self.values.len()
    }

    pub fn clear(&mut self) {
        self.values.clear();
        self.owned = 0;
    }

    pub fn value(&self, at: usize) -> &Value<'a> {
        self.values.get(at).unwrap_or(&Value::Null)
    }

    /// The place behind a value.
    pub fn behind(&self, at: usize) -> usize {
        match self.value(at) {
            Value::List { end, .. } | Value::Object { end, .. } => *end as usize,
            _ => at + 1,
        }
    }

    /// The places of the items of a list; of anything else there are none.
    pub fn items(&self, at: usize) -> impl Iterator<Item = usize> + '_ {
        let is_list = matches!(self.value(at), Value::List { .. });
        let end = if is_list { self.behind(at) } else { 0 };
        let mut next = at + 1;
        std::iter::from_fn(move || {
            let item = next;
            (item < end).then(|| {
                next = self.behind(item);
                item
            })
        })
    }

    /// The places of the keys of an object, each of which is ahead of its value.
    pub fn keys(&self, at: usize) -> impl Iterator<Item = usize> + '_ {
        let is_object = matches!(self.value(at), Value::Object { .. });
        let end = if is_object { self.behind(at) } else { 0 };
        let mut next = at + 1;
        std::iter::from_fn(move || {
            let key = next;
            (key < end).then(|| {
                next = self.behind(key + 1);
                key
            })
        })
    }

    pub fn text(&self, at: usize) -> Option<&str> {
        match self.value(at) {
            Value::Text(text) => Some(text),
            _ => None,
        }
    }

    /// The place of the value of a member. The last of several members with one name counts.
    pub fn member(&self, at: usize, name: &str) -> Option<usize> {
        self.keys(at).filter(|key| self.text(*key) == Some(name)).last().map(|key| key + 1)
    }

    pub fn reader(&self, at: usize) -> TapeReader<'_> {
        TapeReader { tape: self, at, ends: Vec::new() }
    }

    /// Puts the values of another payload in the place of one without parts.
    pub fn replace(&mut self, at: usize, other: Tape<'a>) {
        let more = (other.values.len() - 1) as u32;
        self.owned = self.owned.saturating_add(other.owned);
        let inner: Vec<_> = other.values.into_iter().map(|value| value.moved_by(at)).collect();
        for value in &mut self.values {
            if let Value::List { end, written } | Value::Object { end, written } = value
                && *end as usize > at
            {
                *end += more;
                *written = None;
            }
        }
        self.values.splice(at..=at, inner);
    }

    /// The same with nothing borrowed.
    pub fn into_owned(self) -> Tape<'static> {
        let Tape { values, max, owned, max_bytes } = self;
        Tape { values: values.into_iter().map(Value::into_owned).collect(), max, owned, max_bytes }
    }
}

#[cold]
fn too_large(message: String) -> Box<Reason> {
    Box::new(Reason::new(Code::PayloadTooLarge, message))
}

impl Value<'_> {
    /// Bytes beyond those of the value itself and of the payload.
    fn owned_bytes(&self) -> usize {
        match self {
            Value::Number(Cow::Owned(text)) | Value::Text(Cow::Owned(text)) => text.len(),
            Value::Bytes(Cow::Owned(bytes)) => bytes.len(),
            Value::Named { name, .. } => name.len(),
            _ => 0,
        }
    }

    /// The same on a tape that has `more` values ahead of it.
    fn moved_by(mut self, more: usize) -> Self {
        if let Value::List { end, .. } | Value::Object { end, .. } = &mut self {
            *end += more as u32;
        }
        self
    }

    /// The same with nothing borrowed.
    pub fn into_owned(self) -> Value<'static> {
        match self {
            Value::Null => Value::Null,
            Value::Bool(flag) => Value::Bool(flag),
            Value::Number(text) => Value::Number(Cow::Owned(text.into_owned())),
            Value::Integer(integer) => Value::Integer(integer),
            Value::Unsigned(integer) => Value::Unsigned(integer),
            Value::Float(float) => Value::Float(float),
            Value::Text(text) => Value::Text(Cow::Owned(text.into_owned())),
            Value::Bytes(bytes) => Value::Bytes(Cow::Owned(bytes.into_owned())),
            Value::Time(at) => Value::Time(at),
            Value::Named { name, number } => Value::Named { name, number },
            Value::List { end, .. } => Value::List { end, written: None },
            Value::Object { end, .. } => Value::Object { end, written: None },
        }
    }
}

/// A place on a tape.
#[derive(Debug, Clone)]
pub struct TapeReader<'t> {
    tape: &'t Tape<'t>,
    at: usize,
    /// Where the lists and objects end that were entered.
    ends: Vec<usize>,
}

impl<'t> TapeReader<'t> {
    fn next(&mut self) -> bool {
        let is_inside = self.ends.last().is_some_and(|end| self.at < *end);
        if !is_inside {
            self.ends.pop();
        }
        is_inside
    }
}

impl<'t> ValueReader<'t> for TapeReader<'t> {
    fn position(&self) -> usize {
        self.at
    }

    fn at(&self, position: usize) -> TapeReader<'t> {
        TapeReader { tape: self.tape, at: position, ends: Vec::new() }
    }

    fn shape(&mut self) -> Result<Shape> {
        Ok(match self.tape.value(self.at) {
            Value::Null => Shape::Null,
            Value::Bool(_) => Shape::Bool,
            Value::Number(_) | Value::Integer(_) | Value::Unsigned(_) | Value::Float(_) => Shape::Number,
            Value::Text(_) | Value::Named { .. } => Shape::Text,
            Value::Bytes(_) => Shape::Bytes,
            Value::Time(_) => Shape::Time,
            Value::List { .. } => Shape::List,
            Value::Object { .. } => Shape::Object,
        })
    }

    fn token(&mut self) -> Result<Token<'t>> {
        let tape = self.tape;
        let token = match tape.value(self.at) {
            Value::Null => Token::Null,
            Value::Bool(flag) => Token::Bool(*flag),
            Value::Number(text) => Token::Number(Number::scan(text.as_bytes(), 0).0.unwrap_or_default()),
            Value::Integer(integer) => Token::Integer(i128::from(*integer)),
            Value::Unsigned(integer) => Token::Integer(i128::from(*integer)),
            Value::Float(float) => Token::Float(*float),
            Value::Text(text) => Token::Text(Cow::Borrowed(text)),
            Value::Bytes(bytes) => Token::Bytes(Cow::Borrowed(bytes)),
            Value::Time(at) => Token::Time(*at),
            Value::Named { name, .. } => Token::Text(Cow::Borrowed(name)),
            Value::List { .. } => return Ok(Token::List),
            Value::Object { .. } => return Ok(Token::Object),
        };
        self.at += 1;
        Ok(token)
    }

    fn enter(&mut self) -> Result<()> {
        self.ends.push(self.tape.behind(self.at));
        self.at += 1;
        Ok(())
    }

    fn next_member(&mut self, _is_first: bool) -> Result<bool> {
        Ok(self.next())
    }

    fn key(&mut self) -> Result<Cow<'t, str>> {
        let tape = self.tape;
        let key = tape.text(self.at).unwrap_or_default();
        self.at += 1;
        Ok(Cow::Borrowed(key))
    }

    fn next_item(&mut self, _is_first: bool) -> Result<bool> {
        Ok(self.next())
    }

    fn skip(&mut self) -> Result<()> {
        self.at = self.tape.behind(self.at);
        Ok(())
    }

    fn written(&mut self) -> Result<Cow<'t, [u8]>> {
        let tape = self.tape;
        let at = self.at;
        self.skip()?;
        Ok(match tape.value(at) {
            Value::Text(text) => Cow::Borrowed(text.as_bytes()),
            Value::Bytes(bytes) => Cow::Borrowed(bytes),
            Value::Number(text) => Cow::Borrowed(text.as_bytes()),
            Value::Named { name, .. } => Cow::Borrowed(name.as_bytes()),
            Value::List { written: Some(written), .. } | Value::Object { written: Some(written), .. } => {
                Cow::Borrowed(written)
            }
            Value::Time(at) => Cow::Owned(at.to_rfc3339().into_bytes()),
            _ => {
                let mut json = String::new();
                write_json(tape, at, &mut json);
                Cow::Owned(json.into_bytes())
            }
        })
    }
}

/// A value as JSON: bytes in base64, times as RFC 3339 has them, floats that JSON does not know as texts.
pub fn write_json(tape: &Tape<'_>, at: usize, out: &mut String) {
    let quote = |text: &str, out: &mut String| out.push_str(&serde_json::Value::from(text).to_string());
    match tape.value(at) {
        Value::Null => out.push_str("null"),
        Value::Bool(flag) => out.push_str(if *flag { "true" } else { "false" }),
        Value::Number(text) => out.push_str(text),
        Value::Integer(integer) => out.push_str(IntegerText::new((*integer).into()).as_str()),
        Value::Unsigned(integer) => out.push_str(IntegerText::new((*integer).into()).as_str()),
        Value::Float(float) if float.is_finite() => out.push_str(&float_text(*float)),
        Value::Float(float) => quote(&float_text(*float), out),
        Value::Text(text) => quote(text, out),
        Value::Named { name, .. } => quote(name, out),
        Value::Bytes(bytes) => quote(&STANDARD.encode(bytes), out),
        Value::Time(at) => quote(&at.to_rfc3339(), out),
        Value::List { .. } => {
            out.push('[');
            for (place, item) in tape.items(at).enumerate() {
                if place > 0 {
                    out.push(',');
                }
                write_json(tape, item, out);
            }
            out.push(']');
        }
        Value::Object { .. } => {
            out.push('{');
            for (place, key) in tape.keys(at).enumerate() {
                if place > 0 {
                    out.push(',');
                }
                write_json(tape, key, out);
                out.push(':');
                write_json(tape, key + 1, out);
            }
            out.push('}');
        }
    }
}

impl<'a> Tape<'a> {
    /// The one value of it as a key of an object: a text, or a number in digits.
    pub fn into_key(mut self) -> Option<Value<'a>> {
        if self.values.len() != 1 {
            return None;
        }
        Some(match self.values.pop()? {
            Value::Text(text) => Value::Text(text),
            Value::Number(text) => Value::Text(text),
            Value::Integer(integer) => Value::Text(Cow::Owned(integer.to_string())),
            Value::Unsigned(integer) => Value::Text(Cow::Owned(integer.to_string())),
            Value::Bool(flag) => Value::Text(Cow::Borrowed(if flag { "true" } else { "false" })),
            Value::Float(float) => Value::Text(Cow::Owned(float_text(float))),
            _ => return None,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_payload_has_as_many_values_as_memory_allows() {
        limit_bytes(1000 * size_of::<Value<'_>>());
        let mut tape = Tape::default();
        for _ in 0..1000 {
            tape.push(Value::Null).unwrap();
        }
        let reason = tape.push(Value::Null).unwrap_err();
        assert_eq!((reason.code, &*reason.message), (Code::PayloadTooLarge, "it has more than 1000 values"));
        limit_bytes(usize::MAX);
        assert_eq!(Tape::default().max, MAX_VALUES);
        // A text of its own takes its bytes as well; one of the payload takes none.
        limit_bytes(1000);
        let payload = "a".repeat(2000);
        let mut tape = Tape::default();
        tape.push(Value::Text(Cow::Borrowed(&payload))).unwrap();
        let name = || Value::Text(Cow::Owned("a".repeat(400)));
        tape.push(name()).unwrap();
        tape.append(Tape::of(name()).unwrap()).unwrap();
        let reason = tape.push(name()).unwrap_err();
        assert_eq!(
            (reason.code, &*reason.message),
            (Code::PayloadTooLarge, "its values take more than 1000 bytes")
        );
        limit_bytes(usize::MAX);
        assert_eq!(size_of::<Value<'_>>(), 32, "docs/configuration.md says so");
    }
}
