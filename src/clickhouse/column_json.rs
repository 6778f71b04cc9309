//! Values of a column as JSON. A transform reads types that are not plain numbers in this form, and so
//! does a column that changes its type.
//!
//! | type | JSON |
//! | --- | --- |
//! | integers of 64 bits and more, Decimal | their digits, as a text; in a Variant, an integer that a double holds exactly is a number |
//! | NaN and infinities | the texts `nan`, `inf`, `-inf` |
//! | Date, DateTime, DateTime64 | `2026-11-30`, `2026-11-30T12:00:00Z`, with all digits that the type has |
//! | Time | `12:00:00`, with all digits that the type has |
//! | String, FixedString | a text; bytes that are not UTF-8 are replaced |
//! | Map, Tuple with names, JSON | an object |

use serde_json::{Map, Number, Value};

use crate::clickhouse::column_type::{ColumnType, Kind};
use crate::clickhouse::{Column, dynamic_json};

/// Reads the values of a column one after the other.
pub struct JsonCursor<'a> {
    column: &'a Column,
    column_type: &'a ColumnType,
    row: usize,
    /// Where the next value begins, for values that have a length each.
    at: usize,
    parts: Vec<JsonCursor<'a>>,
}

impl<'a> JsonCursor<'a> {
    /// `column` was made for this type.
    pub fn new(column: &'a Column, column_type: &'a ColumnType) -> JsonCursor<'a> {
        let parts = match (column, &column_type.kind) {
            (Column::Nullable { values, .. }, _) => vec![JsonCursor::new(values, column_type)],
            (Column::Array { items, .. }, Kind::Array(inner)) => vec![JsonCursor::new(items, inner)],
            (Column::Array { items, .. }, Kind::Map(sides)) => match &**items {
                Column::Tuple { parts, .. } => {
                    parts.iter().zip(sides.iter()).map(|(part, side)| JsonCursor::new(part, side)).collect()
                }
                _ => Vec::new(),
            },
            (Column::Tuple { parts, .. }, Kind::Tuple(elements)) => {
                let typed = parts.iter().zip(elements);
                typed.map(|(part, element)| JsonCursor::new(part, &element.column_type)).collect()
            }
            (Column::Variant { parts, .. }, Kind::Variant(types)) => {
                parts.iter().zip(types).map(|(part, inner)| JsonCursor::new(part, inner)).collect()
            }
            _ => Vec::new(),
        };
        JsonCursor { column, column_type, row: 0, at: 0, parts }
    }

    /// The next value. To be called once for each row at most.
    pub fn read(&mut self) -> Value {
        let row = self.row;
        self.row += 1;
        match (self.column, &self.column_type.kind) {
            (Column::Nullable { nulls, .. }, _) => {
                let value = self.parts[0].read();
                if nulls[row] == 1 { Value::Null } else { value }
            }
            (Column::Fixed { width, data, .. }, kind) => fixed(&data[row * width..(row + 1) * width], kind),
            (Column::Strings { data, .. }, _) => {
                Value::String(String::from_utf8_lossy(self.text(data)).into_owned())
            }
            (Column::Json { data, layout, .. }, _) => dynamic_json::document(&mut self.text(data), layout),
            (Column::Dynamic { data, .. }, _) => dynamic_json::value(&mut self.text(data)),
            (Column::Array { ends, .. }, kind) => {
                let ends = ends.as_chunks::<8>().0;
                let end = |row: usize| u64::from_le_bytes(ends[row]);
                let count = end(row) - row.checked_sub(1).map_or(0, end);
                match (kind, &mut self.parts[..]) {
                    (Kind::Map(_), [keys, values]) => {
                        let entries = (0..count).map(|_| (key(keys.read()), values.read()));
                        Value::Object(entries.collect())
                    }
                    (_, [items]) => (0..count).map(|_| items.read()).collect(),
                    _ => Value::Null,
                }
            }
            (Column::Tuple { parts, .. }, Kind::QBit { bits, dimension }) => {
                vector(parts, row, *bits, *dimension)
            }
            (Column::Tuple { .. }, Kind::Tuple(elements)) => {
                let values = self.parts.iter_mut().map(JsonCursor::read);
                let names: Option<Vec<_>> = elements.iter().map(|element| element.name.clone()).collect();
                match names {
                    Some(names) if !names.is_empty() => {
                        Value::Object(names.into_iter().zip(values).collect())
                    }
                    _ => values.collect(),
                }
            }
            (Column::Variant { discriminators, .. }, _) => {
                self.parts.get_mut(discriminators[row] as usize).map_or(Value::Null, JsonCursor::read_variant)
            }
            _ => Value::Null,
        }
    }

    /// The next value of a Variant, in which a text of digits could be a String.
    fn read_variant(&mut self) -> Value {
        const EXACT: u64 = 1 << 53;
        match (self.read(), &self.column_type.kind) {
            (Value::String(digits), Kind::Int { .. }) => match digits.parse::<i64>() {
                Ok(number) if number.unsigned_abs() < EXACT => Value::from(number),
                _ => Value::String(digits),
            },
            (value, _) => value,
        }
    }

    /// The value behind its length.
    fn text(&mut self, data: &'a [u8]) -> &'a [u8] {
        let mut rest = &data[self.at..];
        let text = crate::clickhouse::dynamic::take_bytes(&mut rest);
        self.at = data.len() - rest.len();
        text
    }
}

fn key(value: Value) -> String {
    match value {
        Value::String(text) => text,
        other => other.to_string(),
    }
}

fn fixed(bytes: &[u8], kind: &Kind) -> Value {
    match kind {
        Kind::Bool => Value::Bool(bytes[0] != 0),
        Kind::Int { bytes: width @ (1 | 2 | 4), signed } => Value::from(small(bytes, *width, *signed)),
        Kind::Int { signed, .. } => Value::String(digits(bytes, *signed)),
        Kind::Float32 => float(f64::from(f32::from_bits(small(bytes, 4, false) as u32)), |value| {
            // The shortest text that is this float again.
            (value as f32).to_string().parse().unwrap_or(value)
        }),
        Kind::Float64 => float(f64::from_bits(unsigned(bytes) as u64), |value| value),
        Kind::BFloat16 => float(f64::from(f32::from_bits((unsigned(bytes) as u32) << 16)), |value| value),
        Kind::Decimal { scale, .. } => Value::String(decimal(&digits(bytes, true), *scale as usize)),
        Kind::FixedString(_) => Value::String(String::from_utf8_lossy(bytes).into_owned()),
        Kind::Uuid => Value::String(uuid(bytes)),
        Kind::Ipv4 => Value::String(std::net::Ipv4Addr::from(unsigned(bytes) as u32).to_string()),
        Kind::Ipv6 => {
            let octets: [u8; 16] = bytes.try_into().unwrap_or_default();
            Value::String(std::net::Ipv6Addr::from(octets).to_string())
        }
        Kind::Date => Value::String(date(unsigned(bytes) as i64)),
        Kind::Date32 => Value::String(date(small(bytes, 4, true))),
        Kind::DateTime { .. } => Value::String(time_point(unsigned(bytes) as i64, 0)),
        Kind::DateTime64 { scale, .. } => Value::String(time_point(small(bytes, 8, true), *scale)),
        Kind::Time { scale } => {
            Value::String(time_of_day(small(bytes, bytes.len(), true), scale.unwrap_or(0)))
        }
        Kind::Enum8(names) | Kind::Enum16(names) => {
            let number = small(bytes, bytes.len(), true) as i16;
            names.name(number).map_or(Value::from(number), Value::from)
        }
        _ => Value::Null,
    }
}

fn unsigned(bytes: &[u8]) -> u128 {
    bytes.iter().rev().fold(0, |value, byte| value << 8 | u128::from(*byte))
}

fn small(bytes: &[u8], width: usize, signed: bool) -> i64 {
    let shift = 64 - 8 * width;
    let value = (unsigned(bytes) as u64) << shift;
    if signed { value as i64 >> shift } else { (value >> shift) as i64 }
}

/// An integer of any width, little-endian, in decimal digits.
fn digits(bytes: &[u8], signed: bool) -> String {
    let is_negative = signed && bytes.last().is_some_and(|byte| byte & 0x80 != 0);
    let mut rest = bytes.to_vec();
    if is_negative {
        let mut carry = true;
        for byte in &mut rest {
            (*byte, carry) = (!*byte).overflowing_add(u8::from(carry));
        }
    }
    let mut text = Vec::new();
    while rest.iter().any(|byte| *byte != 0) {
        let mut remainder = 0u16;
        for byte in rest.iter_mut().rev() {
            let value = remainder << 8 | u16::from(*byte);
            *byte = (value / 10) as u8;
            remainder = value % 10;
        }
        text.push(b'0' + remainder as u8);
    }
    if text.is_empty() {
        return "0".into();
    }
    if is_negative {
        text.push(b'-');
    }
    text.iter().rev().map(|digit| char::from(*digit)).collect()
}

/// Puts the point before the last `scale` digits.
fn decimal(digits: &str, scale: usize) -> String {
    if scale == 0 {
        return digits.into();
    }
    let (sign, digits) = match digits.strip_prefix('-') {
        Some(digits) => ("-", digits),
        None => ("", digits),
    };
    let digits = format!("{digits:0>width$}", width = scale + 1);
    let (whole, fraction) = digits.split_at(digits.len() - scale);
    format!("{sign}{whole}.{fraction}")
}

fn float(value: f64, shortest: impl Fn(f64) -> f64) -> Value {
    match Number::from_f64(shortest(value)) {
        Some(number) => Value::Number(number),
        None if value.is_nan() => "nan".into(),
        None if value > 0.0 => "inf".into(),
        None => "-inf".into(),
    }
}

/// ClickHouse keeps the two halves of a UUID one after the other, each little-endian.
fn uuid(bytes: &[u8]) -> String {
    let half = |bytes: &[u8]| unsigned(bytes) as u64;
    let value = u128::from(half(&bytes[..8])) << 64 | u128::from(half(&bytes[8..16]));
    let hex = format!("{value:032x}");
    format!("{}-{}-{}-{}-{}", &hex[..8], &hex[8..12], &hex[12..16], &hex[16..20], &hex[20..])
}

fn date(days: i64) -> String {
    let epoch = jiff::civil::date(1970, 1, 1);
    // A day of ClickHouse's types is between 1900 and 2299.
    epoch.checked_add(jiff::Span::new().days(days)).map_or_else(|_| days.to_string(), |date| date.to_string())
}

fn time_point(ticks: i64, scale: u32) -> String {
    let unit = 10i64.pow(scale);
    let (seconds, fraction) = (ticks.div_euclid(unit), ticks.rem_euclid(unit));
    let Ok(second) = jiff::Timestamp::from_second(seconds) else { return ticks.to_string() };
    let text = second.to_string();
    let text = text.trim_end_matches('Z');
    match scale {
        0 => format!("{text}Z"),
        scale => format!("{text}.{fraction:0width$}Z", width = scale as usize),
    }
}

fn time_of_day(ticks: i64, scale: u32) -> String {
    let unit = 10u64.pow(scale);
    let sign = if ticks < 0 { "-" } else { "" };
    let (seconds, fraction) = (ticks.unsigned_abs() / unit, ticks.unsigned_abs() % unit);
    let text = format!("{sign}{:02}:{:02}:{:02}", seconds / 3600, seconds / 60 % 60, seconds % 60);
    match scale {
        0 => text,
        scale => format!("{text}.{fraction:0width$}", width = scale as usize),
    }
}

/// A QBit has a column for each bit of its floats: see `decode::value`.
fn vector(planes: &[Column], row: usize, bits: usize, dimension: usize) -> Value {
    let item = |place: usize| {
        let value = planes.iter().fold(0u64, |value, plane| {
            let Column::Fixed { width, data, .. } = plane else { return value };
            let byte = data[row * width + width - 1 - place / 8];
            value << 1 | u64::from(byte >> (place % 8) & 1)
        });
        match bits {
            16 => float(f64::from(f32::from_bits((value as u32) << 16)), |value| value),
            32 => float(f64::from(f32::from_bits(value as u32)), |value| value),
            _ => float(f64::from_bits(value), |value| value),
        }
    };
    (0..dimension).map(item).collect()
}

/// Puts a value at a path with dots into an object.
pub fn put_at_path(object: &mut Map<String, Value>, path: &str, value: Value) {
    match path.split_once('.') {
        Some((first, rest)) => {
            let inner = object.entry(first).or_insert_with(|| Value::Object(Map::new()));
            if !inner.is_object() {
                *inner = Value::Object(Map::new());
            }
            if let Value::Object(inner) = inner {
                put_at_path(inner, rest, value);
            }
        }
        None => _ = object.insert(path.into(), value),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn digits_of_any_width() {
        assert_eq!(digits(&i128::MIN.to_le_bytes(), true), i128::MIN.to_string());
        assert_eq!(digits(&u128::MAX.to_le_bytes(), false), u128::MAX.to_string());
        assert_eq!(digits(&(-1i64).to_le_bytes(), true), "-1");
        assert_eq!(digits(&[0; 32], true), "0");
        let two_to_255 = "57896044618658097711785492504343953926634992332820282019728792003956564819968";
        let mut bytes = [0; 32];
        bytes[31] = 0x80;
        assert_eq!(digits(&bytes, false), two_to_255);
        assert_eq!(digits(&bytes, true), format!("-{two_to_255}"));
    }

    #[test]
    fn decimals_have_their_point() {
        let text = |value: i32, scale| {
            let kind = Kind::Decimal { bytes: 4, precision: 9, scale };
            fixed(&value.to_le_bytes(), &kind)
        };
        assert_eq!(text(12345, 2), json!("123.45"));
        assert_eq!(text(-5, 3), json!("-0.005"));
        assert_eq!(text(7, 0), json!("7"));
    }

    #[test]
    fn points_in_time_have_all_digits_of_their_type() {
        assert_eq!(date(0), "1970-01-01");
        assert_eq!(date(-25567), "1900-01-01");
        assert_eq!(time_point(1_796_000_000, 0), "2026-11-30T00:53:20Z");
        assert_eq!(time_point(-1, 3), "1969-12-31T23:59:59.999Z");
        assert_eq!(time_of_day(-3_723_004, 3), "-01:02:03.004");
    }

    #[test]
    fn a_path_with_dots_is_an_object_in_an_object() {
        let mut object = Map::new();
        put_at_path(&mut object, "a.b", json!(1));
        put_at_path(&mut object, "a.c", json!(2));
        put_at_path(&mut object, "d", json!(3));
        assert_eq!(Value::Object(object), json!({ "a": { "b": 1, "c": 2 }, "d": 3 }));
    }
}
