//! Selects the type of a Variant for a value.
//!
//! - Never one that would lose something of it: a text is a text unless it is unmistakably of another type, in full.
//! - The types are tried from the narrowest on, first for values that are exactly of theirs, then for values that only change
//!   their form: a day for a time, a number for the nearest float.

use crate::clickhouse::{Column, ColumnType, Kind};
use crate::decode::coerce;
use crate::decode::value::{self, DecodeContext, Strictness, does_not_fit, each_item};
use crate::decode::value_reader::{Result, Shape, Token, ValueReader};

pub fn read<'a, R: ValueReader<'a>>(
    reader: &mut R,
    types: &[ColumnType],
    discriminators: &mut Vec<u8>,
    parts: &mut [Column],
    context: &mut DecodeContext,
) -> Result<()> {
    let shape = reader.shape()?;
    let start = reader.clone();
    let outer = context.strictness;
    for strictness in [Strictness::Exact, Strictness::Lossless] {
        // Within a Variant within a Variant.
        if outer == Strictness::Exact && strictness == Strictness::Lossless {
            break;
        }
        let mut tried = None;
        loop {
            let ranks = types.iter().enumerate().filter_map(|(at, t)| Some((rank(t, start.clone())?, at)));
            let Some(next) = ranks.filter(|candidate| Some(*candidate) > tried).min() else { break };
            tried = Some(next);
            let at = next.1;
            let base = context.scratch.len();
            parts[at].mark(&mut context.scratch);
            let was_truncated = std::mem::take(&mut context.was_truncated);
            context.strictness = strictness;
            let fitted = value::read(reader, &types[at], &mut parts[at], context);
            context.strictness = outer;
            let is_cut = std::mem::replace(&mut context.was_truncated, was_truncated);
            if let (Ok(true), false) = (fitted, is_cut) {
                context.scratch.truncate(base);
                discriminators.push(at as u8);
                return Ok(());
            }
            // A type that failed may have left positions of its own above the marks.
            parts[at].rewind(&mut &context.scratch[base..]);
            context.scratch.truncate(base);
            *reader = start.clone();
        }
    }
    Err(does_not_fit(shape))
}

/// In which turn a type of a Variant is tried for the value here; never, if it cannot fit.
fn rank<'a, R: ValueReader<'a>>(column_type: &ColumnType, mut reader: R) -> Option<usize> {
    let shape = reader.shape().ok()?;
    let rank = match (shape, &column_type.kind) {
        (Shape::Null, _) if column_type.nullable => 0,
        (Shape::Text, Kind::Uuid | Kind::Ipv4 | Kind::Ipv6 | Kind::Enum8(_) | Kind::Enum16(_)) => 0,
        (Shape::Text, Kind::Date | Kind::Date32) => 1,
        (Shape::Text, Kind::DateTime { .. } | Kind::DateTime64 { .. } | Kind::Time { .. }) => 2,
        (Shape::Text | Shape::Bytes, Kind::FixedString(_)) => 3,
        (Shape::Bytes, Kind::Uuid | Kind::Ipv4 | Kind::Ipv6) => 500,
        (Shape::Time, Kind::DateTime { .. } | Kind::DateTime64 { .. }) => 0,
        (Shape::Bool, Kind::Bool) => 0,
        (Shape::Object, Kind::Tuple(_)) => 0,
        (Shape::Object, Kind::Map(_)) => 1,
        (Shape::Object, Kind::Json(_)) => 2,
        (Shape::List, Kind::Tuple(_)) => 0,
        // As good as it is for the item that fits it least.
        (Shape::List, Kind::Array(item_type)) => {
            let mut worst = Some(1);
            each_item(&mut reader, shape, |reader, _| {
                let item = rank(item_type, reader.clone());
                worst = worst.zip(item).map(|(worst, item)| worst.max(item));
                reader.skip()
            })
            .ok()?;
            worst?
        }
        // 1 is an integer, 1.0 and 1e0 are floats, where there is a choice.
        (Shape::Number, Kind::Int { bytes, signed }) => {
            (if is_plain(&mut reader) { 0 } else { 100 }) + bytes * 2 + !signed as usize
        }
        (Shape::Number, Kind::Decimal { .. }) => 80,
        (Shape::Number, Kind::Float64) => 90,
        (Shape::Number, Kind::Float32) => 91,
        (Shape::Number, Kind::BFloat16) => 92,
        (Shape::Number, Kind::DateTime { .. } | Kind::DateTime64 { .. }) => 300,
        (Shape::Null, _) => return None,
        (_, Kind::String) => 400,
        (_, Kind::Variant(_)) => 401,
        (_, Kind::Dynamic { .. }) => 402,
        _ => return None,
    };
    Some(rank)
}

/// Whether a number is written as an integer; one of a binary format is, if it is one.
fn is_plain<'a, R: ValueReader<'a>>(reader: &mut R) -> bool {
    match reader.token() {
        Ok(Token::Number(number)) => number.is_plain(),
        Ok(Token::Integer(_)) => true,
        Ok(Token::Float(float)) => coerce::is_integral(float),
        _ => false,
    }
}
