//! Values into JSON and Dynamic columns, each with a type that loses nothing of it.
//!
//! ClickHouse would infer these types from all rows of an INSERT together, and a text could become a time, or an integer a float,
//! for what stood in another row. So the type is decided here, for each value alone:
//!
//! - a text is a `String`, a boolean a `Bool`; an integer an `Int64`, or a `UInt64`, or a `String` beyond 64 bits; a number with
//!   a point or an exponent is a `Float64`, or a `String` beyond its range;
//! - a list is an `Array` of the one type of its items, of `Float64` where integers among floats lose nothing by it, else of
//!   `Dynamic`; one without items is an `Array(Nullable(String))`, as in ClickHouse;
//! - an object in a list is a `JSON`, and so is one in a Dynamic column.

use std::borrow::Cow;

use crate::clickhouse::Column;
use crate::clickhouse::dynamic::{Base, DynamicType, put_bytes, put_nothing};
use crate::clickhouse::json_type::{JsonLayout, Limits};
use crate::core::reason::{Code, Reason};
use crate::core::varint;
use crate::decode::number::Number;
use crate::decode::value::{self, DecodeContext, does_not_fit, each_item};
use crate::decode::value_reader::{Result, Shape, Token, ValueReader};

/// Appends an object to a JSON column.
pub fn put_document<'a, R: ValueReader<'a>>(
    reader: &mut R,
    layout: &JsonLayout,
    column: &mut Column,
    context: &mut DecodeContext,
) -> Result<()> {
    let mut row = Vec::new();
    write_document(reader, layout, &mut row, context)?;
    column.push_string(&row);
    Ok(())
}

/// Appends a value that is not `null` to a Dynamic column.
pub fn put_value<'a, R: ValueReader<'a>>(reader: &mut R, column: &mut Column) -> Result<()> {
    let mut row = Vec::new();
    write_value(reader, Limits::default(), &mut row)?;
    column.push_string(&row);
    Ok(())
}

/// Appends a text to a Dynamic column.
pub fn put_text(text: &str, column: &mut Column) {
    let mut row = Vec::new();
    DynamicType::scalar(Base::String).put(Limits::default(), &mut row);
    put_bytes(&mut row, text.as_bytes());
    column.push_string(&row);
}

/// A document under construction.
struct Document<'l> {
    layout: &'l JsonLayout,
    typed: Vec<u8>,
    typed_count: usize,
    values: Vec<u8>,
    count: usize,
    /// All paths, to find one that is there twice.
    paths: Vec<String>,
}

fn write_document<'a, R: ValueReader<'a>>(
    reader: &mut R,
    layout: &JsonLayout,
    out: &mut Vec<u8>,
    context: &mut DecodeContext,
) -> Result<()> {
    let shape = reader.shape()?;
    if shape != Shape::Object {
        return Err(does_not_fit(shape));
    }
    let mut document = Document {
        layout,
        typed: Vec::new(),
        typed_count: 0,
        values: Vec::new(),
        count: 0,
        paths: Vec::new(),
    };
    write_members(reader, None, &mut document, context)?;
    document.paths.sort_unstable();
    if let Some(pair) = document.paths.windows(2).find(|pair| pair[0] == pair[1]) {
        return Err(twice(&pair[0]));
    }
    if !layout.typed().is_empty() {
        varint::write(out, document.typed_count as u64);
        out.extend_from_slice(&document.typed);
    }
    varint::write(out, document.count as u64);
    out.extend_from_slice(&document.values);
    Ok(())
}

fn write_members<'a, R: ValueReader<'a>>(
    reader: &mut R,
    around: Option<&str>,
    document: &mut Document<'_>,
    context: &mut DecodeContext,
) -> Result<()> {
    reader.enter()?;
    let mut is_first = true;
    while reader.next_member(is_first)? {
        is_first = false;
        let key = reader.key()?;
        let path = around.map_or_else(|| key.to_string(), |around| format!("{around}.{key}"));
        if let Some(place) = document.layout.typed_place(&path) {
            let column_type = &document.layout.typed()[place].1;
            let mut column = Column::new(column_type, column_type.nullable);
            let read = value::read(reader, column_type, &mut column, context);
            if read.map_err(|reason| at_path(reason, &path))? {
                let mut row = Vec::new();
                column.encode_values(&mut row);
                varint::write(&mut document.typed, place as u64);
                put_bytes(&mut document.typed, &row);
                document.typed_count += 1;
            }
        } else if document.layout.skips(&path) {
            reader.skip()?;
            continue;
        } else {
            match reader.shape()? {
                Shape::Object => {
                    write_members(reader, Some(&path), document, context)?;
                    continue;
                }
                Shape::Null => drop(reader.token()?),
                _ => {
                    put_bytes(&mut document.values, path.as_bytes());
                    write_value(reader, document.layout.limits, &mut document.values)?;
                    document.count += 1;
                }
            }
        }
        document.paths.push(path);
    }
    Ok(())
}

/// An object that is an item of a list or the value of a Dynamic.
fn write_inner_document<'a, R: ValueReader<'a>>(
    reader: &mut R,
    limits: Limits,
    out: &mut Vec<u8>,
) -> Result<()> {
    // It has no typed paths, and so nothing of how a column wants its values matters to it.
    write_document(reader, &JsonLayout::untyped(limits), out, &mut DecodeContext::default())
}

/// A value that is not `null`, behind its type.
fn write_value<'a, R: ValueReader<'a>>(reader: &mut R, limits: Limits, out: &mut Vec<u8>) -> Result<()> {
    match reader.shape()? {
        Shape::Object => {
            DynamicType::scalar(Base::Json).put(limits, out);
            write_inner_document(reader, limits, out)
        }
        Shape::List => {
            let mut items = Items::default();
            items.count(&mut reader.clone())?;
            let dynamic_type = items.list_type();
            dynamic_type.put(limits, out);
            write_list(reader, dynamic_type, limits, out)
        }
        _ => {
            let scalar = Scalar::of(reader.token()?)?;
            DynamicType::scalar(scalar.base()).put(limits, out);
            scalar.write(scalar.base(), out);
            Ok(())
        }
    }
}

fn write_list<'a, R: ValueReader<'a>>(
    reader: &mut R,
    list_type: DynamicType,
    limits: Limits,
    out: &mut Vec<u8>,
) -> Result<()> {
    let item_type = DynamicType { depth: list_type.depth - 1, ..list_type };
    let mut items = Vec::new();
    let count = each_item(reader, Shape::List, |reader, _| match item_type {
        DynamicType { depth: 1.., .. } => write_list(reader, item_type, limits, &mut items),
        DynamicType { base: Base::Json, .. } => write_inner_document(reader, limits.nested(), &mut items),
        DynamicType { base: Base::Dynamic, .. } => match reader.shape()? {
            Shape::Null => reader.token().map(|_| put_nothing(&mut items)),
            _ => write_value(reader, Limits::default(), &mut items),
        },
        DynamicType { base, .. } => {
            match reader.token()? {
                Token::Null => items.push(1),
                token => {
                    items.push(0);
                    Scalar::of(token)?.write(base, &mut items);
                }
            }
            Ok(())
        }
    })?;
    varint::write(out, count as u64);
    out.extend_from_slice(&items);
    Ok(())
}

/// A value without parts.
enum Scalar<'a> {
    Bool(bool),
    /// An integer of 64 bits, with or without a sign.
    Integer(i128),
    Float(f64),
    Text(Cow<'a, [u8]>),
}

impl<'a> Scalar<'a> {
    fn of(token: Token<'a>) -> Result<Scalar<'a>> {
        Ok(match token {
            Token::Bool(flag) => Scalar::Bool(flag),
            Token::Integer(integer) => Scalar::Integer(integer),
            Token::Float(float) => Scalar::Float(float),
            Token::Number(number) => Scalar::number(number),
            Token::Text(Cow::Borrowed(text)) => Scalar::Text(Cow::Borrowed(text.as_bytes())),
            Token::Text(Cow::Owned(text)) => Scalar::Text(Cow::Owned(text.into_bytes())),
            Token::Bytes(bytes) => Scalar::Text(bytes),
            Token::Time(at) => Scalar::Text(Cow::Owned(at.to_rfc3339().into_bytes())),
            Token::Null => return Err(does_not_fit(Shape::Null)),
            Token::List => return Err(does_not_fit(Shape::List)),
            Token::Object => return Err(does_not_fit(Shape::Object)),
        })
    }

    fn number(number: Number<'a>) -> Scalar<'a> {
        let as_written = Scalar::Text(Cow::Borrowed(number.text().as_bytes()));
        if !number.is_plain() {
            let float = number.to_f64();
            return if float.is_finite() { Scalar::Float(float) } else { as_written };
        }
        number.integer_64().map_or(as_written, Scalar::Integer)
    }

    fn base(&self) -> Base {
        match self {
            Scalar::Bool(_) => Base::Bool,
            Scalar::Integer(integer) if *integer > i64::MAX.into() => Base::UInt64,
            Scalar::Integer(_) => Base::Int64,
            Scalar::Float(_) => Base::Float64,
            Scalar::Text(_) => Base::String,
        }
    }

    /// As a value of a type that has been found to take it.
    fn write(&self, base: Base, out: &mut Vec<u8>) {
        match (self, base) {
            (Scalar::Bool(flag), _) => out.push(*flag as u8),
            (Scalar::Integer(integer), Base::Float64) => {
                out.extend_from_slice(&(*integer as f64).to_le_bytes());
            }
            (Scalar::Integer(integer), _) => out.extend_from_slice(&(*integer as u64).to_le_bytes()),
            (Scalar::Float(float), _) => out.extend_from_slice(&float.to_le_bytes()),
            (Scalar::Text(text), _) => put_bytes(out, text),
        }
    }
}

/// The type of the items of a list, including those of the lists in it.
#[derive(Default)]
struct Items {
    has_null: bool,
    has_bool: bool,
    has_text: bool,
    has_object: bool,
    has_float: bool,
    has_integer: bool,
    has_negative: bool,
    /// Beyond a signed integer of 64 bits.
    has_large: bool,
    /// Beyond the integers that a float holds.
    has_inexact: bool,
    lists: Option<Box<Items>>,
}

/// Up to it a Float64 holds every integer.
const MAX_EXACT: i128 = 1 << 53;

impl Items {
    fn count<'a, R: ValueReader<'a>>(&mut self, reader: &mut R) -> Result<()> {
        each_item(reader, Shape::List, |reader, _| {
            match reader.shape()? {
                Shape::List => return self.lists.get_or_insert_default().count(reader),
                Shape::Object => {
                    self.has_object = true;
                    return reader.skip();
                }
                Shape::Null => {
                    self.has_null = true;
                    return reader.skip();
                }
                _ => {}
            }
            match Scalar::of(reader.token()?)? {
                Scalar::Bool(_) => self.has_bool = true,
                Scalar::Text(_) => self.has_text = true,
                Scalar::Float(_) => self.has_float = true,
                Scalar::Integer(integer) => {
                    self.has_integer = true;
                    self.has_negative |= integer < 0;
                    self.has_large |= integer > i64::MAX.into();
                    self.has_inexact |= integer.abs() > MAX_EXACT;
                }
            }
            Ok(())
        })
        .map(drop)
    }

    fn list_type(&self) -> DynamicType {
        let kinds = [
            self.has_bool,
            self.has_text,
            self.has_object,
            self.has_integer || self.has_float,
            self.lists.is_some(),
        ];
        match kinds.iter().filter(|kind| **kind).count() {
            0 => return DynamicType::list(Base::String),
            1 => {}
            _ => return DynamicType::list(Base::Dynamic),
        }
        if let Some(lists) = &self.lists {
            let inner = lists.list_type();
            return match inner.base {
                Base::Dynamic => DynamicType::list(Base::Dynamic),
                _ if self.has_null => DynamicType::list(Base::Dynamic),
                base => DynamicType { depth: inner.depth + 1, base },
            };
        }
        DynamicType::list(if self.has_bool {
            Base::Bool
        } else if self.has_text {
            Base::String
        } else if self.has_object {
            if self.has_null { Base::Dynamic } else { Base::Json }
        } else if self.has_float {
            if self.has_inexact { Base::Dynamic } else { Base::Float64 }
        } else if self.has_large {
            if self.has_negative { Base::Dynamic } else { Base::UInt64 }
        } else {
            Base::Int64
        })
    }
}

#[cold]
fn twice(key: &str) -> Box<Reason> {
    let message = format!("the path {key:?} is there twice, which a JSON column does not take");
    Box::new(Reason::new(Code::TypeMismatch, message))
}

/// Names the path that a reason is about; not where the payload itself is broken.
#[cold]
fn at_path(reason: Box<Reason>, path: &str) -> Box<Reason> {
    match reason.is_broken_payload() {
        true => reason,
        false => Box::new(Reason { message: format!("{path}: {}", reason.message).into(), ..*reason }),
    }
}
