//! The sharding key of rows: `cityHash64` of columns, as ClickHouse computes it for a `Distributed` table.
//!
//! - An integer of up to 64 bits, a float, a date, a DateTime, an enum or an IPv4 is mixed by `intHash64`; its bytes are taken as an
//!   unsigned number.
//! - All else is hashed as the bytes that the Native format carries: texts, wider integers, decimals, DateTime64, UUID and IPv6.
//! - The hashes of several columns are combined from left to right.
//!
//! Read from `FunctionsHashing.h` of ClickHouse, and compared with a real `Distributed` table.

use crate::clickhouse::city_hash::{city_hash_64, combine};
use crate::clickhouse::{Column, ColumnType, Kind};
use crate::core::varint;

const UNSUITED: &str =
    "which cannot be in a sharding key: use a text, a number, a date, an enum, an address or a UUID";

/// Why a column cannot be in a sharding key: advice that completes "column c has the type T, …".
pub fn refusal(column_type: &ColumnType, has_default: bool) -> Option<&'static str> {
    if column_type.nullable {
        return Some("which may be NULL: the key of a Distributed table cannot be either");
    }
    if has_default {
        return Some("with a DEFAULT, which ClickHouse computes after the shard is chosen");
    }
    if column_type.aggregate.is_some() {
        return Some(UNSUITED);
    }
    match column_type.kind {
        Kind::Json(_)
        | Kind::Dynamic { .. }
        | Kind::QBit { .. }
        | Kind::Array(_)
        | Kind::Tuple(_)
        | Kind::Map(_)
        | Kind::Variant(_)
        | Kind::BFloat16
        | Kind::Time { .. } => Some(
            "which cannot be in a sharding key: use a text, a number, a date, an enum, an address or a UUID",
        ),
        _ => None,
    }
}

/// Whether `intHash64` mixes values of this kind.
fn is_mixed(kind: &Kind) -> bool {
    match kind {
        Kind::Int { bytes, .. } => *bytes <= 8,
        Kind::Bool
        | Kind::Float32
        | Kind::Float64
        | Kind::Date
        | Kind::Date32
        | Kind::DateTime { .. }
        | Kind::Enum8(_)
        | Kind::Enum16(_)
        | Kind::Ipv4 => true,
        _ => false,
    }
}

/// `cityHash64(…)` of each row. The columns are of types that [`refusal`] takes.
pub fn hashes(key: &[(&Kind, &Column)]) -> Vec<u64> {
    let mut hashes = Vec::new();
    for (place, (kind, column)) in key.iter().enumerate() {
        let mut row = 0;
        each(kind, column, |hash| {
            match place {
                0 => hashes.push(hash),
                _ => hashes[row] = combine(hashes[row], hash),
            }
            row += 1;
        });
    }
    hashes
}

/// The hash of each value of a column.
fn each(kind: &Kind, column: &Column, mut f: impl FnMut(u64)) {
    match column {
        Column::Fixed { width, data, .. } if is_mixed(kind) => data.chunks_exact(*width).for_each(|value| {
            let mut bytes = [0; 8];
            bytes[..value.len()].copy_from_slice(value);
            f(mix(u64::from_le_bytes(bytes)));
        }),
        Column::Fixed { width, data, .. } => {
            data.chunks_exact(*width).for_each(|value| f(city_hash_64(value)));
        }
        Column::Strings { data, .. } => {
            let mut rest = &data[..];
            while let Ok(len) = varint::read::<10>(&mut rest) {
                let Some((value, more)) = rest.split_at_checked(len as usize) else { break };
                f(city_hash_64(value));
                rest = more;
            }
        }
        other => debug_assert!(false, "{other:?} is in no key"),
    }
}

/// `intHash64`.
fn mix(value: u64) -> u64 {
    let mut x = value ^ 0x4cf2_d2ba_ae6d_a887;
    x ^= x >> 33;
    x = x.wrapping_mul(0xff51_afd7_ed55_8ccd);
    x ^= x >> 33;
    x = x.wrapping_mul(0xc4ce_b9fe_1a85_ec53);
    x ^ (x >> 33)
}
