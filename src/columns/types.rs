//! ClickHouse type names, as `system.columns` gives them, and what of them can be filled from JSON.

use std::collections::HashMap;

use clickhouse::native::DataTypeNode;
use jiff::tz::TimeZone;

/// What one value of a column is, without the wrappers around it.
#[derive(Debug, Clone)]
pub enum Kind {
    Bool,
    /// `bytes` is 1, 2, 4 or 8.
    Int {
        bytes: usize,
        signed: bool,
    },
    Float32,
    Float64,
    String,
    Uuid,
    Date,
    DateTime {
        zone: Zone,
    },
    /// `scale` decimal digits of a second, 0 to 9.
    DateTime64 {
        scale: u32,
        zone: Zone,
    },
    Enum8(EnumNames),
    Enum16(EnumNames),
}

impl Kind {
    /// The bytes of one value on the wire; `None` where it varies.
    pub fn width(&self) -> Option<usize> {
        match self {
            Kind::Bool | Kind::Enum8(_) => Some(1),
            Kind::Int { bytes, .. } => Some(*bytes),
            Kind::Date | Kind::Enum16(_) => Some(2),
            Kind::Float32 | Kind::DateTime { .. } => Some(4),
            Kind::Float64 | Kind::DateTime64 { .. } => Some(8),
            Kind::Uuid => Some(16),
            Kind::String => None,
        }
    }

    /// The type's zero as the wire carries it: 0, the empty string, 1970, the smallest value of an enum.
    pub fn zero(&self) -> Vec<u8> {
        match self {
            Kind::Enum8(names) => vec![names.first() as u8],
            Kind::Enum16(names) => names.first().to_le_bytes().to_vec(),
            // An empty string is a length of zero: one byte.
            other => vec![0; other.width().unwrap_or(1)],
        }
    }
}

/// The time zone in which a column's texts without an offset are meant.
#[derive(Debug, Clone)]
pub enum Zone {
    Utc,
    Named(TimeZone),
}

impl Zone {
    fn new(name: &str) -> Result<Zone, String> {
        if matches!(name, "UTC" | "Etc/UTC" | "GMT" | "Etc/GMT" | "Zulu" | "UCT") {
            return Ok(Zone::Utc);
        }
        TimeZone::get(name)
            .map(Zone::Named)
            .map_err(|_| format!("whose time zone {name:?} is not known here"))
    }
}

/// The names of an enum and their numbers, in both directions.
#[derive(Debug, Clone)]
pub struct EnumNames {
    by_name: HashMap<String, i16>,
}

impl EnumNames {
    pub fn number(&self, name: &str) -> Option<i16> {
        self.by_name.get(name).copied()
    }

    /// The smallest: what ClickHouse takes for the type's zero.
    fn first(&self) -> i16 {
        self.by_name.values().copied().min().unwrap_or(0)
    }

    pub fn has_number(&self, number: i16) -> bool {
        self.by_name.values().any(|n| *n == number)
    }
}

/// A column's type as far as filling it goes.
#[derive(Debug, Clone)]
pub struct ColumnType {
    pub kind: Kind,
    pub nullable: bool,
    /// The name of the type without `Nullable` and `LowCardinality`: what the block says it carries. ClickHouse
    /// casts a plain column into the LowCardinality one of the table by itself.
    pub inner_name: String,
}

impl ColumnType {
    /// Parses a type name. `server_zone` is where times without a zone live. The error is advice that completes
    /// "column c has the type T, …".
    pub fn parse(name: &str, server_zone: &str) -> Result<ColumnType, String> {
        if inner_name(name).starts_with("AggregateFunction(") {
            return Err("which holds aggregation states: fill it through a materialized view".into());
        }
        let node = DataTypeNode::new(name).map_err(|_| UNSUPPORTED.to_string())?;
        let (node, nullable) = unwrap(node);
        let kind = match node {
            DataTypeNode::Bool => Kind::Bool,
            DataTypeNode::UInt8 => Kind::Int { bytes: 1, signed: false },
            DataTypeNode::UInt16 => Kind::Int { bytes: 2, signed: false },
            DataTypeNode::UInt32 => Kind::Int { bytes: 4, signed: false },
            DataTypeNode::UInt64 => Kind::Int { bytes: 8, signed: false },
            DataTypeNode::Int8 => Kind::Int { bytes: 1, signed: true },
            DataTypeNode::Int16 => Kind::Int { bytes: 2, signed: true },
            DataTypeNode::Int32 => Kind::Int { bytes: 4, signed: true },
            DataTypeNode::Int64 => Kind::Int { bytes: 8, signed: true },
            DataTypeNode::Float32 => Kind::Float32,
            DataTypeNode::Float64 => Kind::Float64,
            DataTypeNode::String => Kind::String,
            DataTypeNode::UUID => Kind::Uuid,
            DataTypeNode::Date => Kind::Date,
            DataTypeNode::DateTime(zone) => {
                Kind::DateTime { zone: Zone::new(zone.as_deref().unwrap_or(server_zone))? }
            }
            DataTypeNode::DateTime64(_, zone) => Kind::DateTime64 {
                scale: scale(name).ok_or(UNSUPPORTED)?,
                zone: Zone::new(zone.as_deref().unwrap_or(server_zone))?,
            },
            DataTypeNode::Enum(_, names) => {
                let by_name = names.into_iter().map(|(number, name)| (name, number)).collect();
                let names = EnumNames { by_name };
                if name.contains("Enum16(") { Kind::Enum16(names) } else { Kind::Enum8(names) }
            }
            _ => return Err(UNSUPPORTED.into()),
        };
        Ok(ColumnType { kind, nullable, inner_name: inner_name(name).into() })
    }
}

const UNSUPPORTED: &str = "which cannot be filled yet: leave the column out by giving it a DEFAULT in a table of its own, or map it elsewhere";

/// Takes `Nullable` and `LowCardinality` off.
fn unwrap(node: DataTypeNode) -> (DataTypeNode, bool) {
    match node {
        DataTypeNode::Nullable(inner) => (unwrap(*inner).0, true),
        DataTypeNode::LowCardinality(inner) => unwrap(*inner),
        other => (other, false),
    }
}

fn inner_name(name: &str) -> &str {
    let name = name.trim();
    for wrapper in ["Nullable(", "LowCardinality("] {
        if let Some(inner) = name.strip_prefix(wrapper).and_then(|rest| rest.strip_suffix(')')) {
            return inner_name(inner);
        }
    }
    name
}

/// The precision is read from the name: the crate keeps its own enum of it to itself.
fn scale(name: &str) -> Option<u32> {
    let rest = inner_name(name).strip_prefix("DateTime64(")?;
    let digits: String = rest.chars().take_while(char::is_ascii_digit).collect();
    digits.parse().ok().filter(|scale| *scale <= 9)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn wrappers_come_off() {
        for name in
            ["String", "LowCardinality(String)", "Nullable(String)", "LowCardinality(Nullable(String))"]
        {
            let parsed = ColumnType::parse(name, "UTC").unwrap();
            assert!(matches!(parsed.kind, Kind::String), "{name}");
            assert_eq!(parsed.nullable, name.contains("Nullable"), "{name}");
            assert_eq!(parsed.inner_name, "String");
        }
    }

    #[test]
    fn times_know_their_scale_and_zone() {
        let parsed = ColumnType::parse("Nullable(DateTime64(6, 'Europe/Berlin'))", "UTC").unwrap();
        assert!(matches!(parsed.kind, Kind::DateTime64 { scale: 6, zone: Zone::Named(_) }));
        assert_eq!(parsed.inner_name, "DateTime64(6, 'Europe/Berlin')");
        assert!(matches!(
            ColumnType::parse("DateTime", "UTC").unwrap().kind,
            Kind::DateTime { zone: Zone::Utc }
        ));
        assert!(ColumnType::parse("DateTime('Mars/Olympus')", "UTC").unwrap_err().contains("Mars/Olympus"));
    }

    #[test]
    fn enums_keep_their_width() {
        let parsed = ColumnType::parse("Enum8('a' = 1, 'b' = -3)", "UTC").unwrap();
        let Kind::Enum8(names) = parsed.kind else { panic!("not an Enum8") };
        assert_eq!(names.number("b"), Some(-3));
        assert!(matches!(ColumnType::parse("Enum16('a' = 1)", "UTC").unwrap().kind, Kind::Enum16(_)));
    }

    #[test]
    fn what_cannot_be_filled_is_told() {
        assert!(ColumnType::parse("Array(String)", "UTC").is_err());
        assert!(
            ColumnType::parse("AggregateFunction(sum, UInt64)", "UTC")
                .unwrap_err()
                .contains("materialized view")
        );
        assert!(ColumnType::parse("NoSuchType", "UTC").is_err());
    }
}
