//! One JSON value of any shape into one column of any type.
//!
//! Lists fill Arrays and Tuples, objects fill Maps, named Tuples and JSON, everything fills a String as it is written, and a
//! Variant takes the first of its types that the value fits.

use crate::clickhouse::{Column, ColumnType, Element, Kind};
use crate::config::Unit;
use crate::core::reason::{Code, Reason};
use crate::decode::coerce::{self, Scalar};
use crate::decode::format::json::lexer::{Reader, Result, Token, plain_text};
use crate::decode::number::{Guarded, Number, Short};
use crate::decode::time;

/// How a column wants its values, and room to work in.
#[derive(Debug, Default, Clone)]
pub struct Manner {
    pub unit: Unit,
    /// Whether what is missing or `null` within a value is the type's zero.
    pub zero_missing: bool,
    pub reject_unknown: bool,
    /// Set when a time had more digits than the column keeps.
    pub was_cut: bool,
    /// A stack of positions and marks.
    pub scratch: Vec<usize>,
}

/// Reads a value into `column`; `false` and nothing appended if it is `null`, which is the same as missing.
#[inline(always)]
pub fn read(
    reader: &mut Reader<'_>,
    column_type: &ColumnType,
    column: &mut Column,
    manner: &mut Manner,
) -> Result<bool> {
    reader.peek()?;
    let quick = Quick::of(&column_type.kind);
    if let Some(bytes) = reader.guarded()
        && let Some(end) = read_quickly(bytes, reader.position(), quick, manner.unit, column)
    {
        reader.pass(end);
        return Ok(true);
    }
    read_other(reader, column_type, column, manner)
}

/// What most telemetry is made of: short numbers and plain texts, in columns that take them as they are.
#[derive(Debug, Clone, Copy)]
pub enum Quick {
    No,
    Text,
    Float64,
    Float32,
    Int { bytes: u8, least: i64, most: i64 },
    Ticks { scale: u32 },
}

impl Quick {
    #[inline(always)]
    pub fn of(kind: &Kind) -> Quick {
        match kind {
            Kind::Float64 => Quick::Float64,
            Kind::Float32 => Quick::Float32,
            Kind::Int { bytes: bytes @ 1..=8, signed } => {
                let bits = 8 * *bytes as u32;
                let most = if *signed || bits == 64 { i64::MAX >> (64 - bits) } else { (1 << bits) - 1 };
                Quick::Int { bytes: *bytes as u8, least: if *signed { -most - 1 } else { 0 }, most }
            }
            Kind::DateTime64 { scale, .. } => Quick::Ticks { scale: *scale },
            Kind::String => Quick::Text,
            _ => Quick::No,
        }
    }
}

/// Reads a value that stands at `at` and needs no second look, and says where it ends. `None`: it is another one, and nothing
/// has happened.
#[inline(always)]
pub fn read_quickly(
    bytes: Guarded<'_>,
    at: usize,
    quick: Quick,
    unit: Unit,
    column: &mut Column,
) -> Option<usize> {
    if let Quick::Text = quick {
        let (text, end) = plain_text(bytes.bytes(), at)?;
        column.push_string(text);
        return Some(end);
    }
    if let Quick::No = quick {
        return None;
    }
    let (number, end) = Short::scan(bytes, at)?;
    match quick {
        Quick::Float64 => column.push_fixed(number.exact_f64()?.to_le_bytes()),
        Quick::Float32 => column.push_fixed(number.exact_f32()?.to_le_bytes()),
        Quick::Int { bytes, least, most } => {
            let integer = number.integer().filter(|integer| (least..=most).contains(integer))?;
            match bytes {
                8 => column.push_fixed(integer.to_le_bytes()),
                4 => column.push_fixed((integer as u32).to_le_bytes()),
                2 => column.push_fixed((integer as u16).to_le_bytes()),
                _ => column.push_fixed([integer as u8]),
            }
        }
        Quick::Ticks { scale } => {
            column.push_fixed(time::ticks(number.count()?, unit, scale)?.to_le_bytes());
        }
        Quick::No | Quick::Text => return None,
    }
    Some(end)
}

/// What is met less often.
#[inline(never)]
pub fn read_other(
    reader: &mut Reader<'_>,
    column_type: &ColumnType,
    column: &mut Column,
    manner: &mut Manner,
) -> Result<bool> {
    let text;
    let first = reader.peek()?;
    let value = match &column_type.kind {
        _ if first == b'n' => return reader.null().map(|()| false),
        Kind::Bool if matches!(first, b't' | b'f') => {
            column.push_fixed([reader.flag()? as u8]);
            return Ok(true);
        }
        Kind::String => {
            match first {
                b'"' => column.push_string(reader.text()?.as_bytes()),
                _ => column.push_string(reader.raw()?.as_bytes()),
            }
            return Ok(true);
        }
        Kind::Json | Kind::Array(_) | Kind::Tuple(_) | Kind::Map(_) | Kind::Variant(_) => {
            compound(reader, column_type, column, manner)?;
            return Ok(true);
        }
        _ => match reader.token()? {
            Token::Number(number) => Scalar::Number(number),
            Token::Text(found) => {
                text = found;
                Scalar::Text(&text)
            }
            Token::Bool(flag) => Scalar::Bool(flag),
            Token::Null => return Ok(false),
            Token::List => return Err(does_not_fit("a list")),
            Token::Object => return Err(does_not_fit("an object")),
        },
    };
    coerce::put(column, &column_type.kind, manner.unit, value, &mut manner.was_cut)?;
    Ok(true)
}

/// A value within another one: what is missing there has to be something nevertheless.
pub fn read_part(
    reader: Option<&mut Reader<'_>>,
    column_type: &ColumnType,
    column: &mut Column,
    manner: &mut Manner,
) -> Result<()> {
    let is_missing = match reader {
        None => Code::FieldMissing,
        Some(reader) => match read(reader, column_type, column, manner)? {
            true => return Ok(()),
            false => Code::TypeMismatch,
        },
    };
    if column_type.nullable || matches!(column_type.kind, Kind::Variant(_)) {
        column.push_null();
    } else if manner.zero_missing {
        column.push_zero();
    } else {
        let name = &column_type.inner_name;
        let message = match is_missing {
            Code::FieldMissing => format!("a {name} is required and missing"),
            _ => format!("null is no {name}"),
        };
        return Err(Box::new(Reason::new(is_missing, message)));
    }
    Ok(())
}

/// Columns are made for their types.
const MADE_FOR_IT: &str = "a column has the shape of its type";

#[inline(never)]
fn compound(
    reader: &mut Reader<'_>,
    column_type: &ColumnType,
    column: &mut Column,
    manner: &mut Manner,
) -> Result<()> {
    if let Column::Nullable { nulls, values } = column {
        compound(reader, column_type, values, manner)?;
        nulls.push(0);
        return Ok(());
    }
    let first = reader.peek()?;
    match (&column_type.kind, column) {
        (Kind::Json, column) => {
            if first != b'{' {
                return Err(does_not_fit(shape(first)));
            }
            check_document(&mut reader.clone())?;
            column.push_string(reader.raw()?.as_bytes());
            Ok(())
        }
        (Kind::Array(item_type), column @ Column::Array { .. }) => {
            let Column::Array { items, .. } = column else { unreachable!("{MADE_FOR_IT}") };
            each_item(reader, first, |reader, _| read_part(Some(reader), item_type, items, manner))?;
            column.push_end();
            Ok(())
        }
        (Kind::Map(sides), column @ Column::Array { .. }) => {
            if first != b'{' {
                return Err(does_not_fit(shape(first)));
            }
            let Column::Array { items, .. } = column else { unreachable!("{MADE_FOR_IT}") };
            let Column::Tuple { parts, rows } = &mut **items else { unreachable!("{MADE_FOR_IT}") };
            let [keys, values] = parts.as_mut_slice() else { unreachable!("{MADE_FOR_IT}") };
            let [key_type, value_type] = &**sides;
            reader.enter()?;
            let mut is_first = true;
            while reader.next_member(is_first)? {
                is_first = false;
                let key = reader.key()?;
                coerce::put(keys, &key_type.kind, manner.unit, Scalar::Text(&key), &mut manner.was_cut)?;
                read_part(Some(reader), value_type, values, manner)?;
                *rows += 1;
            }
            column.push_end();
            Ok(())
        }
        (Kind::Tuple(elements), Column::Tuple { parts, rows }) => {
            match first {
                b'[' => {
                    let count = each_item(reader, first, |reader, at| match elements.get(at) {
                        Some(element) => {
                            read_part(Some(reader), &element.column_type, &mut parts[at], manner)
                        }
                        None => Err(wrong_length(elements.len())),
                    })?;
                    if count < elements.len() {
                        return Err(wrong_length(elements.len()));
                    }
                }
                b'{' if elements.iter().all(|element| element.name.is_some()) => {
                    let names = |at: usize| elements.get(at).and_then(|element| element.name.as_deref());
                    members(reader, elements.len(), names, manner, |reader, at, manner| {
                        let Element { name, column_type } = &elements[at];
                        read_part(reader, column_type, &mut parts[at], manner)
                            .map_err(|reason| within(reason, name.as_deref().unwrap_or_default()))
                    })?;
                }
                other => return Err(does_not_fit(shape(other))),
            }
            *rows += 1;
            Ok(())
        }
        (Kind::Variant(types), Column::Variant { which, parts }) => {
            variant(reader, types, which, parts, manner)
        }
        _ => unreachable!("{MADE_FOR_IT}"),
    }
}

/// Refuses what ClickHouse would refuse a whole INSERT for: half characters, numbers beyond its types, and paths that are
/// there twice, be it as `a.b` or as an object within another.
fn check_document(reader: &mut Reader<'_>) -> Result<()> {
    let mut paths = Vec::new();
    collect_paths(reader, "", &mut paths)?;
    paths.sort_unstable();
    match paths.windows(2).find(|pair| pair[0] == pair[1]) {
        Some(pair) => Err(twice(&pair[0])),
        None => Ok(()),
    }
}

fn collect_paths(reader: &mut Reader<'_>, path: &str, paths: &mut Vec<String>) -> Result<()> {
    match reader.token()? {
        Token::Object => {
            reader.enter()?;
            let mut is_first = true;
            while reader.next_member(is_first)? {
                is_first = false;
                let key = reader.key()?;
                let below = if path.is_empty() { key.into_owned() } else { format!("{path}.{key}") };
                collect_paths(reader, &below, paths)?;
            }
            return Ok(());
        }
        // Objects in a list are documents of their own.
        Token::List => drop(each_item(reader, b'[', |reader, _| check_document(reader))?),
        Token::Number(number) => check_number(&number)?,
        Token::Null | Token::Bool(_) | Token::Text(_) => {}
    }
    if !path.is_empty() {
        paths.push(path.into());
    }
    Ok(())
}

fn check_number(number: &Number<'_>) -> Result<()> {
    let integer = if number.is_plain() { number.scaled(0).ok() } else { None };
    let fits = match integer {
        Some(integer) => integer.to_bytes(8, number.is_negative(), number.is_negative()).is_some(),
        None => !number.is_plain() && number.to_f64().is_finite(),
    };
    if fits { Ok(()) } else { Err(beyond(number.text())) }
}

/// Reads the items of a list; gives their number.
fn each_item<'a>(
    reader: &mut Reader<'a>,
    first: u8,
    mut read: impl FnMut(&mut Reader<'a>, usize) -> Result<()>,
) -> Result<usize> {
    if first != b'[' {
        return Err(does_not_fit(shape(first)));
    }
    reader.enter()?;
    let mut count = 0;
    while reader.next_item(count == 0)? {
        read(reader, count)?;
        count += 1;
    }
    Ok(count)
}

/// Finds the members of an object by name, and reads them in the order of the names: `None` for one that is not there. Of
/// duplicates the last counts.
pub fn members<'a, 'n>(
    reader: &mut Reader<'a>,
    count: usize,
    name: impl Fn(usize) -> Option<&'n str>,
    manner: &mut Manner,
    mut read: impl FnMut(Option<&mut Reader<'a>>, usize, &mut Manner) -> Result<()>,
) -> Result<()> {
    const NOWHERE: usize = usize::MAX;
    let base = manner.scratch.len();
    manner.scratch.resize(base + count, NOWHERE);
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
                manner.scratch[base + at] = reader.position();
                expected = at + 1;
            }
            None if manner.reject_unknown => return Err(unknown_field(&key)),
            None => {}
        }
        reader.skip()?;
    }
    for at in 0..count {
        let mut there = match manner.scratch[base + at] {
            NOWHERE => None,
            position => Some(reader.back_at(position)),
        };
        read(there.as_mut(), at, manner)?;
    }
    manner.scratch.truncate(base);
    Ok(())
}

/// The first type that the value fits, from the narrowest on.
fn variant(
    reader: &mut Reader<'_>,
    types: &[ColumnType],
    which: &mut Vec<u8>,
    parts: &mut [Column],
    manner: &mut Manner,
) -> Result<()> {
    let first = reader.peek()?;
    let start = reader.clone();
    let mut tried = None;
    loop {
        let ranks = types.iter().enumerate().filter_map(|(at, t)| Some((rank(t, start.clone())?, at)));
        let Some(next) = ranks.filter(|candidate| Some(*candidate) > tried).min() else {
            return Err(does_not_fit(shape(first)));
        };
        tried = Some(next);
        let at = next.1;
        let base = manner.scratch.len();
        parts[at].mark(&mut manner.scratch);
        let fitted = read(reader, &types[at], &mut parts[at], manner);
        if let Ok(true) = fitted {
            manner.scratch.truncate(base);
            which.push(at as u8);
            return Ok(());
        }
        // What failed inside may have left positions of its own above the marks.
        parts[at].rewind(&mut &manner.scratch[base..]);
        manner.scratch.truncate(base);
        *reader = start.clone();
    }
}

/// In which turn a type of a Variant is tried for the value here; never, if it cannot fit.
fn rank(column_type: &ColumnType, mut reader: Reader<'_>) -> Option<usize> {
    let rank = match (reader.peek().ok()?, &column_type.kind) {
        (b'n', _) if column_type.nullable => 0,
        (b'"', Kind::Uuid | Kind::Ipv4 | Kind::Ipv6 | Kind::Enum8(_) | Kind::Enum16(_)) => 0,
        (b'"', Kind::Date | Kind::Date32) => 1,
        (b'"', Kind::DateTime { .. } | Kind::DateTime64 { .. } | Kind::Time { .. }) => 2,
        (b'"', Kind::FixedString(_)) => 3,
        (b't' | b'f', Kind::Bool) => 0,
        (b'{', Kind::Tuple(_)) => 0,
        (b'{', Kind::Map(_)) => 1,
        (b'{', Kind::Json) => 2,
        (b'[', Kind::Tuple(_)) => 0,
        // As good as it is for the item that fits it least.
        (first @ b'[', Kind::Array(item_type)) => {
            let mut least = Some(1);
            each_item(&mut reader, first, |reader, _| {
                least = least.zip(rank(item_type, reader.clone())).map(|(least, item)| least.max(item));
                reader.skip()
            })
            .ok()?;
            least?
        }
        // 1 is an integer, 1.0 and 1e0 are floats, where there is a choice.
        (b'-' | b'0'..=b'9', Kind::Int { bytes, signed }) => {
            let is_plain = matches!(reader.token(), Ok(Token::Number(number)) if number.is_plain());
            (if is_plain { 0 } else { 100 }) + bytes * 2 + !signed as usize
        }
        (b'-' | b'0'..=b'9', Kind::Decimal { .. }) => 80,
        (b'-' | b'0'..=b'9', Kind::Float64) => 90,
        (b'-' | b'0'..=b'9', Kind::Float32) => 91,
        (b'-' | b'0'..=b'9', Kind::BFloat16) => 92,
        (b'-' | b'0'..=b'9', Kind::DateTime { .. } | Kind::DateTime64 { .. }) => 300,
        (b'"' | b't' | b'f' | b'{' | b'[' | b'-' | b'0'..=b'9', Kind::String) => 400,
        (_, Kind::Variant(_)) => 401,
        _ => return None,
    };
    Some(rank)
}

#[cold]
pub fn unknown_field(name: &str) -> Box<Reason> {
    Box::new(Reason::new(Code::UnknownField, format!("no column takes the field {name:?}")))
}

#[cold]
fn beyond(number: &str) -> Box<Reason> {
    let number = number.get(..64).unwrap_or(number);
    Box::new(Reason::new(Code::OutOfRange, format!("{number} is beyond what a JSON column holds")))
}

#[cold]
fn twice(key: &str) -> Box<Reason> {
    Box::new(Reason::new(
        Code::TypeMismatch,
        format!("the path {key:?} is there twice, which a JSON column does not take"),
    ))
}

#[cold]
fn wrong_length(expected: usize) -> Box<Reason> {
    Box::new(Reason::new(Code::TypeMismatch, format!("a list does not have {expected} items")))
}

#[cold]
fn does_not_fit(what: &str) -> Box<Reason> {
    Box::new(Reason::new(Code::TypeMismatch, format!("{what} does not fit")))
}

#[cold]
fn within(reason: Box<Reason>, name: &str) -> Box<Reason> {
    match reason.code {
        Code::JsonInvalid => reason,
        _ => Box::new(Reason { message: format!("{name}: {}", reason.message).into(), ..*reason }),
    }
}

/// What a value is that begins so.
fn shape(first: u8) -> &'static str {
    match first {
        b'{' => "an object",
        b'[' => "a list",
        b'"' => "a string",
        b't' | b'f' => "a boolean",
        b'n' => "null",
        _ => "a number",
    }
}
