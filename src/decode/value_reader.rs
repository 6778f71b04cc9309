//! The interface of every payload format to the mapping, which reads values one by one.
//!
//! A [`ValueReader`] stands in front of a value. The code that fills a column asks which [`Shape`]
//! comes, and reads or skips it. `value` and `coerce` convert the values of all formats in the same
//! way; their code is compiled once per reader, so that JSON pays nothing for the others.

use std::borrow::Cow;

use crate::clickhouse::Column;
use crate::config::Unit;
use crate::core::reason::Reason;
use crate::decode::number::Number;
use crate::decode::time::Instant;
use crate::decode::value::FastKind;

/// Boxed, so that what succeeds stays small.
pub type Result<T> = std::result::Result<T, Box<Reason>>;

/// The shape of a value, before it is read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Shape {
    Null,
    Bool,
    Number,
    Text,
    /// Bytes that are not text: a format other than JSON has them.
    Bytes,
    /// A point in time: a format other than JSON has it.
    Time,
    List,
    Object,
}

impl Shape {
    /// As a reason names it.
    pub fn name(self) -> &'static str {
        match self {
            Shape::Null => "null",
            Shape::Bool => "a boolean",
            Shape::Number => "a number",
            Shape::Text => "a string",
            Shape::Bytes => "bytes",
            Shape::Time => "a time",
            Shape::List => "a list",
            Shape::Object => "an object",
        }
    }
}

/// A value that has been read.
#[derive(Debug)]
pub enum Token<'a> {
    Null,
    Bool(bool),
    /// A number as it is written in digits.
    Number(Number<'a>),
    /// An integer of a binary format: of 64 bits, with or without a sign.
    Integer(i128),
    /// A float of a binary format.
    Float(f64),
    Text(Cow<'a, str>),
    Bytes(Cow<'a, [u8]>),
    Time(Instant),
    /// Not entered yet.
    List,
    /// Not entered yet.
    Object,
}

/// A place in a payload. Copies of it stand on their own.
pub trait ValueReader<'a>: Clone {
    /// Where it stands.
    fn position(&self) -> usize;

    /// A reader of the same payload in front of a value that was passed over before.
    fn at(&self, position: usize) -> Self;

    /// The shape of the next value.
    fn shape(&mut self) -> Result<Shape>;

    /// Reads a scalar; stops ahead of a list or an object.
    fn token(&mut self) -> Result<Token<'a>>;

    /// Enters the list or object that comes next.
    fn enter(&mut self) -> Result<()>;

    /// Goes to the next key, or out of the object.
    fn next_member(&mut self, is_first: bool) -> Result<bool>;

    /// Reads a key, and stands in front of its value.
    fn key(&mut self) -> Result<Cow<'a, str>>;

    /// Goes to the next item, or out of the list.
    fn next_item(&mut self, is_first: bool) -> Result<bool>;

    /// Passes over a value.
    fn skip(&mut self) -> Result<()>;

    /// Reads a value as a `String` column keeps it: the bytes of a text, and what is none as JSON.
    fn written(&mut self) -> Result<Cow<'a, [u8]>>;

    /// Reads a value that needs no second look into its column. `false`: it is another one, and nothing has happened.
    #[inline(always)]
    fn read_fast(&mut self, _kind: FastKind, _unit: Unit, _column: &mut Column) -> bool {
        false
    }
}
