//! One value of any shape into one column of any type.
//!
//! Lists fill Arrays and Tuples, objects fill Maps, named Tuples and JSON, and everything fills a
//! String as it is written. `variant` decides which type of a Variant takes a value, `dynamic` which
//! values JSON and Dynamic columns keep.

use crate::clickhouse::{Column, ColumnType, Element, Kind};
use crate::config::Unit;
use crate::core::reason::{Code, Reason};
use crate::decode::coerce::{self, Scalar};
use crate::decode::format::json::{boolean, plain_text};
use crate::decode::number::{IntegerText, Number, SmallDecimal, TerminatedBytes};
use crate::decode::value_reader::{Result, Shape, Token, ValueReader};
use crate::decode::{dynamic, time, variant};

/// How a column takes its values, and a buffer.
#[derive(Debug, Default, Clone)]
pub struct DecodeContext {
    pub unit: Unit,
    /// Whether what is missing or `null` within a value is the type's zero.
    pub zero_missing: bool,
    pub reject_unknown: bool,
    /// How much of a value may be lost: nothing within a Variant, which has other types for it.
    pub strictness: Strictness,
    /// Set when a time had more digits than the column keeps.
    pub was_truncated: bool,
    /// A stack of positions and marks.
    pub scratch: Vec<usize>,
}

impl DecodeContext {
    #[inline(always)]
    fn fast_kind(&self, column_type: &ColumnType) -> FastKind {
        match self.strictness {
            Strictness::Plain => FastKind::of(&column_type.kind),
            Strictness::Lossless | Strictness::Exact => FastKind::No,
        }
    }
}

/// How exactly a value must be one of the column's type.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub enum Strictness {
    /// As a column of its own takes it.
    #[default]
    Plain,
    /// Nothing of it may be lost.
    Lossless,
    /// It must be unmistakably of this type, in full.
    Exact,
}

/// Reads a value into `column`; `false` and nothing appended if it is `null`, which is the same as missing.
#[inline(always)]
pub fn read<'a, R: ValueReader<'a>>(
    reader: &mut R,
    column_type: &ColumnType,
    column: &mut Column,
    context: &mut DecodeContext,
) -> Result<bool> {
    match reader.read_fast(context.fast_kind(column_type), context.unit, column) {
        true => Ok(true),
        false => read_other(reader, column_type, column, context),
    }
}

/// The most common values of telemetry: short numbers, plain texts and booleans, in columns that take
/// them as they are.
#[derive(Debug, Clone, Copy)]
pub enum FastKind {
    No,
    Text,
    Bool,
    Float64,
    Float32,
    Int { bytes: u8, min: i64, max: i64 },
    Ticks { scale: u32 },
}

impl FastKind {
    #[inline(always)]
    pub fn of(kind: &Kind) -> FastKind {
        match kind {
            Kind::Float64 => FastKind::Float64,
            Kind::Float32 => FastKind::Float32,
            Kind::Int { bytes: bytes @ 1..=8, signed } => {
                let bits = 8 * *bytes as u32;
                let max = if *signed || bits == 64 { i64::MAX >> (64 - bits) } else { (1 << bits) - 1 };
                FastKind::Int { bytes: *bytes as u8, min: if *signed { -max - 1 } else { 0 }, max }
            }
            Kind::DateTime64 { scale, .. } => FastKind::Ticks { scale: *scale },
            Kind::String => FastKind::Text,
            Kind::Bool => FastKind::Bool,
            _ => FastKind::No,
        }
    }
}

/// Reads a value that stands at `at` and needs no second look, and says where it ends. `None`: it is another one, and nothing
/// has happened.
#[inline(always)]
pub fn read_fast(
    bytes: TerminatedBytes<'_>,
    at: usize,
    fast_kind: FastKind,
    unit: Unit,
    column: &mut Column,
) -> Option<usize> {
    if let FastKind::Text = fast_kind {
        let (text, end) = plain_text(bytes.bytes(), at)?;
        column.push_string(text);
        return Some(end);
    }
    if let FastKind::Bool = fast_kind {
        let (flag, end) = boolean(bytes.bytes(), at)?;
        column.push_fixed([flag as u8]);
        return Some(end);
    }
    if let FastKind::No = fast_kind {
        return None;
    }
    let (number, end) = SmallDecimal::scan(bytes, at)?;
    match fast_kind {
        FastKind::Float64 => column.push_fixed(number.exact_f64()?.to_le_bytes()),
        FastKind::Float32 => column.push_fixed(number.exact_f32()?.to_le_bytes()),
        FastKind::Int { bytes, min, max } => {
            let integer = number.integer().filter(|integer| (min..=max).contains(integer))?;
            match bytes {
                8 => column.push_fixed(integer.to_le_bytes()),
                4 => column.push_fixed((integer as u32).to_le_bytes()),
                2 => column.push_fixed((integer as u16).to_le_bytes()),
                _ => column.push_fixed([integer as u8]),
            }
        }
        FastKind::Ticks { scale } => {
            column.push_fixed(time::ticks(number.count()?, unit, scale)?.to_le_bytes());
        }
        FastKind::No | FastKind::Text | FastKind::Bool => return None,
    }
    Some(end)
}

/// The less common kinds.
#[inline(never)]
pub fn read_other<'a, R: ValueReader<'a>>(
    reader: &mut R,
    column_type: &ColumnType,
    column: &mut Column,
    context: &mut DecodeContext,
) -> Result<bool> {
    let shape = reader.shape()?;
    match &column_type.kind {
        _ if shape == Shape::Null => return reader.token().map(|_| false),
        Kind::Bool if shape == Shape::Bool => {
            if let Token::Bool(flag) = reader.token()? {
                column.push_fixed([flag as u8]);
            }
            return Ok(true);
        }
        Kind::String => {
            column.push_string(&reader.written()?);
            return Ok(true);
        }
        Kind::Json(_)
        | Kind::Dynamic { .. }
        | Kind::QBit { .. }
        | Kind::Array(_)
        | Kind::Tuple(_)
        | Kind::Map(_)
        | Kind::Variant(_) => {
            compound(reader, shape, column_type, column, context)?;
            return Ok(true);
        }
        _ => {}
    }
    with_scalar(reader.token()?, |value| coerce::put(column, &column_type.kind, value, context))
        .map(|()| true)
}

/// Does something with a value that has no parts; one that has some does not fit.
#[inline(always)]
pub fn with_scalar<T>(token: Token<'_>, f: impl FnOnce(Scalar<'_>) -> Result<T>) -> Result<T> {
    match token {
        Token::Number(number) => f(Scalar::Number(number)),
        Token::Text(text) => f(Scalar::Text(&text)),
        Token::Bool(flag) => f(Scalar::Bool(flag)),
        Token::Integer(integer) => {
            let digits = IntegerText::new(integer);
            f(Scalar::Number(Number::from_text(digits.as_str()).unwrap_or_default()))
        }
        Token::Float(float) => f(Scalar::Float(float)),
        Token::Bytes(bytes) => f(Scalar::Bytes(&bytes)),
        Token::Time(at) => f(Scalar::Time(at)),
        Token::Null => Err(does_not_fit(Shape::Null)),
        Token::List => Err(does_not_fit(Shape::List)),
        Token::Object => Err(does_not_fit(Shape::Object)),
    }
}

/// A value within another one: what is missing there has to be something nevertheless.
pub fn read_part<'a, R: ValueReader<'a>>(
    reader: Option<&mut R>,
    column_type: &ColumnType,
    column: &mut Column,
    context: &mut DecodeContext,
) -> Result<()> {
    match reader {
        None => put_missing(Code::FieldMissing, column_type, column, context),
        Some(reader) => match read(reader, column_type, column, context)? {
            true => Ok(()),
            false => put_missing(Code::TypeMismatch, column_type, column, context),
        },
    }
}

/// Fills in for a part that is missing, or `null`; `code` says which of these in the reason, where nothing can.
fn put_missing(
    code: Code,
    column_type: &ColumnType,
    column: &mut Column,
    context: &DecodeContext,
) -> Result<()> {
    if column_type.nullable || column_type.kind.holds_null() {
        column.push_null();
    } else if context.zero_missing && context.strictness == Strictness::Plain {
        column.push_zero();
    } else {
        let name = &column_type.inner_name;
        let message = match code {
            Code::FieldMissing => format!("a {name} is required and missing"),
            _ => format!("null is no {name}"),
        };
        return Err(Box::new(Reason::new(code, message)));
    }
    Ok(())
}

/// Columns are made for their types.
const SHAPE_INVARIANT: &str = "a column has the shape of its type";

#[inline(never)]
fn compound<'a, R: ValueReader<'a>>(
    reader: &mut R,
    shape: Shape,
    column_type: &ColumnType,
    column: &mut Column,
    context: &mut DecodeContext,
) -> Result<()> {
    if let Column::Nullable { nulls, values } = column {
        compound(reader, shape, column_type, values, context)?;
        nulls.push(0);
        return Ok(());
    }
    match (&column_type.kind, column) {
        (Kind::Json(layout), column) => dynamic::put_document(reader, layout, column, context),
        (Kind::Dynamic { .. }, column) => dynamic::put_value(reader, column),
        (Kind::Array(item_type), Column::Array { ends, items }) => {
            let fast_kind = context.fast_kind(item_type);
            each_item(reader, shape, |reader, _| {
                let is_read = reader.read_fast(fast_kind, context.unit, items)
                    || read_other(reader, item_type, items, context)?;
                if is_read { Ok(()) } else { put_missing(Code::TypeMismatch, item_type, items, context) }
            })?;
            ends.extend_from_slice(&(items.rows() as u64).to_le_bytes());
            Ok(())
        }
        (Kind::Map(sides), Column::Array { ends, items }) => {
            let Column::Tuple { parts, rows } = &mut **items else { unreachable!("{SHAPE_INVARIANT}") };
            map(reader, shape, sides, parts, rows, context)?;
            ends.extend_from_slice(&(*rows as u64).to_le_bytes());
            Ok(())
        }
        (Kind::Tuple(elements), Column::Tuple { parts, rows }) => {
            // GeoJSON has altitudes: RFC 7946, 3.1.1.
            let may_be_longer = column_type.inner_name == "Point" && context.strictness == Strictness::Plain;
            tuple(reader, shape, elements, may_be_longer, parts, context)?;
            *rows += 1;
            Ok(())
        }
        (Kind::QBit { bits, dimension }, Column::Tuple { parts, rows }) => {
            vector(reader, shape, *bits, *dimension, parts)?;
            *rows += 1;
            Ok(())
        }
        (Kind::Variant(types), Column::Variant { discriminators, parts }) => {
            variant::read(reader, types, discriminators, parts, context)
        }
        _ => unreachable!("{SHAPE_INVARIANT}"),
    }
}

fn map<'a, R: ValueReader<'a>>(
    reader: &mut R,
    shape: Shape,
    sides: &[ColumnType; 2],
    parts: &mut [Column],
    rows: &mut usize,
    context: &mut DecodeContext,
) -> Result<()> {
    if shape != Shape::Object {
        return Err(does_not_fit(shape));
    }
    let [keys, values] = parts else { unreachable!("{SHAPE_INVARIANT}") };
    let [key_type, value_type] = sides;
    reader.enter()?;
    let mut is_first = true;
    while reader.next_member(is_first)? {
        is_first = false;
        let key = reader.key()?;
        match key_type.kind {
            Kind::Dynamic { .. } => dynamic::put_text(&key, keys),
            _ => coerce::put(keys, &key_type.kind, Scalar::Text(&key), context)?,
        }
        read_part(Some(reader), value_type, values, context)?;
        *rows += 1;
    }
    Ok(())
}

fn tuple<'a, R: ValueReader<'a>>(
    reader: &mut R,
    shape: Shape,
    elements: &[Element],
    may_be_longer: bool,
    parts: &mut [Column],
    context: &mut DecodeContext,
) -> Result<()> {
    match shape {
        Shape::List => {
            let count = each_item(reader, shape, |reader, at| match elements.get(at) {
                Some(element) => read_part(Some(reader), &element.column_type, &mut parts[at], context),
                None if may_be_longer => reader.skip(),
                None => Err(wrong_length(elements.len())),
            })?;
            if count < elements.len() {
                return Err(wrong_length(elements.len()));
            }
        }
        Shape::Object if elements.iter().all(|element| element.name.is_some()) => {
            let names = |at: usize| elements.get(at).and_then(|element| element.name.as_deref());
            members(reader, elements.len(), names, context, |reader, at, context| {
                let Element { name, column_type } = &elements[at];
                read_part(reader, column_type, &mut parts[at], context)
                    .map_err(|reason| within(reason, name.as_deref().unwrap_or_default()))
            })?;
        }
        other => return Err(does_not_fit(other)),
    }
    Ok(())
}

/// A vector of floats: one column for each of their bits, from the highest on, with a bit for each float.
/// Source: ClickHouse, `SerializationQBit`.
fn vector<'a, R: ValueReader<'a>>(
    reader: &mut R,
    shape: Shape,
    bits: usize,
    dimension: usize,
    parts: &mut [Column],
) -> Result<()> {
    let mut floats = Vec::with_capacity(dimension);
    each_item(reader, shape, |reader, _| {
        let float = with_scalar(reader.token()?, |value| coerce::float_bits(value, bits))?;
        floats.push(float);
        Ok(())
    })?;
    if floats.len() != dimension {
        return Err(wrong_length(dimension));
    }
    for (at, part) in parts.iter_mut().enumerate() {
        let mut plane = vec![0u8; dimension.div_ceil(8)];
        let last = plane.len() - 1;
        for (place, float) in floats.iter().enumerate() {
            plane[last - place / 8] |= ((float >> (bits - 1 - at) & 1) as u8) << (place % 8);
        }
        part.push_wide(&plane);
    }
    Ok(())
}

/// Reads the items of a list; gives their number.
pub fn each_item<'a, R: ValueReader<'a>>(
    reader: &mut R,
    shape: Shape,
    mut read: impl FnMut(&mut R, usize) -> Result<()>,
) -> Result<usize> {
    if shape != Shape::List {
        return Err(does_not_fit(shape));
    }
    reader.enter()?;
    let mut count = 0;
    while reader.next_item(count == 0)? {
        read(reader, count)?;
        count += 1;
    }
    Ok(count)
}

/// Finds the members of an object by name, and reads them in the order of the names: `None` for one
/// that is not there. The last of several members with one name counts.
pub fn members<'a, 'n, R: ValueReader<'a>>(
    reader: &mut R,
    count: usize,
    name: impl Fn(usize) -> Option<&'n str>,
    context: &mut DecodeContext,
    mut read: impl FnMut(Option<&mut R>, usize, &mut DecodeContext) -> Result<()>,
) -> Result<()> {
    const NOWHERE: usize = usize::MAX;
    let base = context.scratch.len();
    context.scratch.resize(base + count, NOWHERE);
    reader.enter()?;
    let mut is_first = true;
    // Where the next member is looked for first: they mostly come in order.
    let mut expected = 0;
    while reader.next_member(is_first)? {
        is_first = false;
        let key = reader.key()?;
        let found = match name(expected) == Some(&*key) {
            true => Some(expected),
            false => (0..count).find(|at| name(*at) == Some(&*key)),
        };
        match found {
            Some(at) => {
                context.scratch[base + at] = reader.position();
                expected = at + 1;
            }
            None if context.reject_unknown || context.strictness != Strictness::Plain => {
                return Err(unknown_field(&key));
            }
            None => {}
        }
        reader.skip()?;
    }
    for at in 0..count {
        let mut there = match context.scratch[base + at] {
            NOWHERE => None,
            position => Some(reader.at(position)),
        };
        read(there.as_mut(), at, context)?;
    }
    context.scratch.truncate(base);
    Ok(())
}

#[cold]
pub fn unknown_field(name: &str) -> Box<Reason> {
    let reason = Reason::new(Code::UnknownField, format!("no column takes the field {name:?}"));
    Box::new(Reason { column: Some(name.into()), ..reason })
}

#[cold]
fn wrong_length(expected: usize) -> Box<Reason> {
    Box::new(Reason::new(Code::TypeMismatch, format!("a list does not have {expected} items")))
}

#[cold]
pub fn does_not_fit(shape: Shape) -> Box<Reason> {
    Box::new(Reason::new(Code::TypeMismatch, format!("{} does not fit", shape.name())))
}

/// Names the element that a reason is about; not where the payload itself is broken.
#[cold]
fn within(reason: Box<Reason>, name: &str) -> Box<Reason> {
    match reason.is_broken_payload() {
        true => reason,
        false => Box::new(Reason { message: format!("{name}: {}", reason.message).into(), ..*reason }),
    }
}
