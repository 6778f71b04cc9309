//! ClickHouse's types for the code that fills columns: the values, their width, and the name that a
//! block declares.

use std::collections::HashMap;
use std::sync::Arc;

use jiff::tz::{Offset, TimeZone};

use crate::clickhouse::aggregate::Aggregate;
use crate::clickhouse::json_type::{JsonLayout, path_name};
use crate::clickhouse::type_name::{TypeName, element, quoted};

/// The kind of one value, without the wrappers around it.
#[derive(Debug, Clone)]
pub enum Kind {
    Bool,
    /// `bytes` is 1, 2, 4, 8, 16 or 32.
    Int {
        bytes: usize,
        signed: bool,
    },
    Float32,
    Float64,
    BFloat16,
    /// An integer of `bytes` that counts 10^-`scale`.
    Decimal {
        bytes: usize,
        precision: u32,
        scale: u32,
    },
    String,
    FixedString(usize),
    Uuid,
    Ipv4,
    Ipv6,
    Date,
    Date32,
    DateTime {
        zone: Zone,
    },
    /// `scale` decimal digits of a second, 0 to 9.
    DateTime64 {
        scale: u32,
        zone: Zone,
    },
    /// A time of day, or longer; with `scale` digits of a second if it is a Time64.
    Time {
        scale: Option<u32>,
    },
    Enum8(EnumNames),
    Enum16(EnumNames),
    Json(Arc<JsonLayout>),
    /// `max_types` of them have a column of their own in ClickHouse.
    Dynamic {
        max_types: usize,
    },
    /// A vector of floats of `bits` bits each.
    QBit {
        bits: usize,
        dimension: usize,
    },
    Array(Box<ColumnType>),
    Tuple(Vec<Element>),
    Map(Box<[ColumnType; 2]>),
    /// In ClickHouse's order, which numbers them.
    Variant(Vec<ColumnType>),
}

/// An element of a Tuple. From a list it takes the value at its place, from an object the one of its name.
#[derive(Debug, Clone)]
pub struct Element {
    pub name: Option<String>,
    pub column_type: ColumnType,
}

impl Kind {
    /// The bytes of one value on the wire; `None` where it varies.
    pub fn width(&self) -> Option<usize> {
        match self {
            Kind::Bool | Kind::Enum8(_) => Some(1),
            Kind::Int { bytes, .. } | Kind::Decimal { bytes, .. } | Kind::FixedString(bytes) => Some(*bytes),
            Kind::BFloat16 | Kind::Date | Kind::Enum16(_) => Some(2),
            Kind::Float32 | Kind::DateTime { .. } | Kind::Date32 | Kind::Ipv4 => Some(4),
            Kind::Time { scale: None } => Some(4),
            Kind::Float64 | Kind::DateTime64 { .. } | Kind::Time { scale: Some(_) } => Some(8),
            Kind::Uuid | Kind::Ipv6 => Some(16),
            Kind::String | Kind::Json(_) | Kind::Dynamic { .. } | Kind::QBit { .. } => None,
            Kind::Array(_) | Kind::Tuple(_) | Kind::Map(_) | Kind::Variant(_) => None,
        }
    }

    /// The type's zero as the wire carries it: 0, 1970, the smallest value of an enum. Only for what has a width.
    pub fn zero(&self) -> Vec<u8> {
        match self {
            Kind::Enum8(names) => vec![names.first() as u8],
            Kind::Enum16(names) => names.first().to_le_bytes().to_vec(),
            other => vec![0; other.width().unwrap_or(0)],
        }
    }

    /// Whether ClickHouse knows `Nullable` of it: a type with parts cannot be NULL itself.
    pub fn can_be_null(&self) -> bool {
        !matches!(
            self,
            Kind::Array(_)
                | Kind::Tuple(_)
                | Kind::Map(_)
                | Kind::Variant(_)
                | Kind::Dynamic { .. }
                | Kind::QBit { .. }
        )
    }

    /// Whether it holds NULL without being Nullable.
    pub fn holds_null(&self) -> bool {
        matches!(self, Kind::Variant(_) | Kind::Dynamic { .. })
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
        if let Some(offset) = name.strip_prefix("Fixed/UTC").and_then(fixed_offset) {
            return Ok(Zone::Named(TimeZone::fixed(offset)));
        }
        TimeZone::get(name)
            .map(Zone::Named)
            .map_err(|_| format!("whose time zone {name:?} is not known here"))
    }
}

/// `+05:30:00`
fn fixed_offset(text: &str) -> Option<Offset> {
    let (is_negative, digits) = match text.split_at_checked(1)? {
        ("+", digits) => (false, digits),
        ("-", digits) => (true, digits),
        _ => return None,
    };
    let mut parts = digits.split(':').map(|part| part.parse::<i32>().ok());
    let seconds = parts.next()?? * 3600 + parts.next()?? * 60 + parts.next().unwrap_or(Some(0))?;
    Offset::from_seconds(if is_negative { -seconds } else { seconds }).ok()
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

    pub fn name(&self, number: i16) -> Option<&str> {
        self.by_name.iter().find(|(_, n)| **n == number).map(|(name, _)| name.as_str())
    }

    /// The smallest: what ClickHouse takes for the type's zero.
    fn first(&self) -> i16 {
        self.by_name.values().copied().min().unwrap_or(0)
    }

    /// All names, in the order of their numbers.
    pub fn names(&self) -> Vec<String> {
        let mut all: Vec<_> = self.by_name.iter().map(|(name, number)| (*number, name)).collect();
        all.sort_unstable();
        all.into_iter().map(|(_, name)| name.clone()).collect()
    }

    pub fn has_number(&self, number: i16) -> bool {
        self.by_name.values().any(|n| *n == number)
    }
}

/// A type as far as filling it goes.
#[derive(Debug, Clone)]
pub struct ColumnType {
    pub kind: Kind,
    pub nullable: bool,
    /// The name under which a block carries it, without `Nullable`. ClickHouse converts what is not quite the type
    /// of the table (a String into a LowCardinality(String)) by itself.
    pub inner_name: String,
    /// Whether that name leaves out the wrappers around the types of a JSON's paths.
    is_unwrapped: bool,
    /// For a column of states: the type is that of the values which the INSERT aggregates.
    pub aggregate: Option<Arc<Aggregate>>,
}

impl ColumnType {
    /// String.
    pub fn text() -> ColumnType {
        ColumnType {
            kind: Kind::String,
            nullable: false,
            inner_name: "String".into(),
            is_unwrapped: false,
            aggregate: None,
        }
    }

    /// Parses the type of a table's column: one of values, as [`ColumnType::parse`] reads it, or of states of an aggregate function.
    pub fn parse_column(text: &str, server_zone: &str) -> Result<ColumnType, String> {
        let Some(aggregate) = Aggregate::parse(text) else { return ColumnType::parse(text, server_zone) };
        let values = ColumnType::parse(&aggregate.value_type(), server_zone)?;
        Ok(ColumnType { aggregate: Some(Arc::new(aggregate)), ..values })
    }

    /// Parses a type name. Times without a zone are in `server_zone`. The error is advice that
    /// completes "column c has the type T, …".
    pub fn parse(text: &str, server_zone: &str) -> Result<ColumnType, String> {
        let TypeName { name, arguments } = TypeName::parse(text).ok_or(UNREADABLE)?;
        let inner = |at: usize| ColumnType::parse(arguments.get(at).ok_or(UNREADABLE)?, server_zone);
        let zone = |at: usize| match arguments.get(at) {
            Some(text) => Zone::new(&quoted(text).ok_or(UNREADABLE)?.0),
            None => Zone::new(server_zone),
        };
        let other = |name: &str| ColumnType::parse(name, server_zone).map(|other| other.kind);
        let number =
            |at: usize| arguments.get(at).and_then(|text| text.parse::<u32>().ok()).ok_or(UNREADABLE);
        let kind = match name {
            "Nullable" => return Ok(ColumnType { nullable: true, ..inner(0)? }),
            "LowCardinality" => return inner(0),
            // The values of the state are those of the last argument: sum(UInt64) keeps a UInt64.
            "SimpleAggregateFunction" => return inner(arguments.len().saturating_sub(1)),
            "AggregateFunction" => {
                return Err(
                    "which holds aggregation states within another type: fill it through a materialized view"
                        .into(),
                );
            }
            "Point" => other("Tuple(Float64, Float64)")?,
            "Ring" | "LineString" => other("Array(Point)")?,
            "Polygon" | "MultiLineString" => other("Array(Ring)")?,
            "MultiPolygon" => other("Array(Polygon)")?,
            "Geometry" => other(GEOMETRY)?,
            "Dynamic" => Kind::Dynamic { max_types: dynamic_types(&arguments)? },
            "QBit" => qbit(&arguments)?,
            "Nested" => {
                let tuple = format!("Tuple({})", arguments.join(", "));
                Kind::Array(Box::new(ColumnType::parse(&tuple, server_zone)?))
            }
            "Bool" => Kind::Bool,
            "Float32" => Kind::Float32,
            "Float64" => Kind::Float64,
            "BFloat16" => Kind::BFloat16,
            "Decimal" => decimal(number(0)?, number(1)?)?,
            "String" => Kind::String,
            "FixedString" => Kind::FixedString(number(0)? as usize),
            "UUID" => Kind::Uuid,
            "IPv4" => Kind::Ipv4,
            "IPv6" => Kind::Ipv6,
            "Date" => Kind::Date,
            "Date32" => Kind::Date32,
            "DateTime" => Kind::DateTime { zone: zone(0)? },
            "DateTime64" => Kind::DateTime64 { scale: fraction(number(0)?)?, zone: zone(1)? },
            "Time" => Kind::Time { scale: None },
            "Time64" if arguments.is_empty() => Kind::Time { scale: Some(3) },
            "Time64" => Kind::Time { scale: Some(fraction(number(0)?)?) },
            "Enum8" => Kind::Enum8(enumeration(&arguments)?),
            "Enum16" => Kind::Enum16(enumeration(&arguments)?),
            "JSON" => Kind::Json(Arc::new(JsonLayout::parse(&arguments, server_zone)?)),
            "Array" => Kind::Array(Box::new(inner(0)?)),
            "Tuple" => Kind::Tuple(elements(&arguments, server_zone)?),
            "Map" => Kind::Map(Box::new([inner(0)?, inner(1)?])),
            // Nothing within a Variant is converted.
            "Variant" if text.contains("LowCardinality(") || text.contains("SimpleAggregateFunction(") => {
                return Err(
                    "whose LowCardinality or SimpleAggregateFunction within a Variant cannot be sent: \
                            use the plain type there"
                        .into(),
                );
            }
            "Variant" => Kind::Variant((0..arguments.len()).map(inner).collect::<Result<_, _>>()?),
            _ if is_interval(name) => Kind::Int { bytes: 8, signed: true },
            _ => integer(name).ok_or_else(|| {
                "which cannot be filled from JSON: leave the column out by giving it a DEFAULT, or fill it \
                 through a materialized view"
                    .to_string()
            })?,
        };
        let inner_name = match name {
            "Point" | "Ring" | "LineString" | "Polygon" | "MultiLineString" | "MultiPolygon" | "Geometry" => {
                name.into()
            }
            _ => wire_name(text.trim(), &kind),
        };
        let is_unwrapped = matches!(kind, Kind::Json(_)) && inner_name != text.trim();
        Ok(ColumnType { kind, nullable: false, inner_name, is_unwrapped, aggregate: None })
    }

    /// Whether ClickHouse has to convert the values of a block: a plain type of a JSON's path into a
    /// LowCardinality.
    pub fn is_converted(&self) -> bool {
        match &self.kind {
            Kind::Json(_) => self.is_unwrapped,
            Kind::Array(items) => items.is_converted(),
            Kind::Map(sides) => sides.iter().any(ColumnType::is_converted),
            Kind::Tuple(elements) => elements.iter().any(|element| element.column_type.is_converted()),
            Kind::Variant(types) => types.iter().any(ColumnType::is_converted),
            _ => false,
        }
    }

    /// The name under which a block carries it.
    pub fn wire_name(&self) -> String {
        if self.nullable { format!("Nullable({})", self.inner_name) } else { self.inner_name.clone() }
    }
}

const UNREADABLE: &str = "which is not understood";

const GEOMETRY: &str = "Variant(LineString, MultiLineString, MultiPolygon, Point, Polygon, Ring)";

/// The name of a type whose parts may be sent under other names than the table has for them.
fn wire_name(text: &str, kind: &Kind) -> String {
    let list = |types: &mut dyn Iterator<Item = String>| types.collect::<Vec<_>>().join(", ");
    match kind {
        Kind::Array(items) => format!("Array({})", items.wire_name()),
        Kind::Map(sides) => format!("Map({})", list(&mut sides.iter().map(ColumnType::wire_name))),
        Kind::Variant(parts) => format!("Variant({})", list(&mut parts.iter().map(ColumnType::wire_name))),
        Kind::Tuple(elements) => {
            let elements = &mut elements.iter().map(|element| match &element.name {
                Some(name) => format!("{} {}", quote(name), element.column_type.wire_name()),
                None => element.column_type.wire_name(),
            });
            format!("Tuple({})", list(elements))
        }
        // The types of its paths, but for the wrappers that a block does not have.
        Kind::Json(_) if has_wrapper(text) => {
            let arguments = TypeName::parse(text).map(|parsed| parsed.arguments).unwrap_or_default();
            format!("JSON({})", list(&mut arguments.iter().map(|argument| plain_path(argument))))
        }
        _ => text.into(),
    }
}

fn has_wrapper(text: &str) -> bool {
    text.contains("LowCardinality(") || text.contains("SimpleAggregateFunction(")
}

/// An argument of a JSON type, with the type that a block carries.
fn plain_path(argument: &str) -> String {
    let type_name = path_name(argument).map_or("", |(_, type_name)| type_name.trim());
    match ColumnType::parse(type_name, "UTC") {
        Ok(column_type) if has_wrapper(argument) => {
            argument[..argument.len() - type_name.len()].to_string() + &column_type.wire_name()
        }
        _ => argument.into(),
    }
}

/// An identifier in backticks: <https://clickhouse.com/docs/sql-reference/syntax#identifiers>.
pub fn quote(name: &str) -> String {
    format!("`{}`", name.replace('\\', "\\\\").replace('`', "\\`"))
}

fn integer(name: &str) -> Option<Kind> {
    let (signed, bits) = match name.strip_prefix("UInt") {
        Some(bits) => (false, bits),
        None => (true, name.strip_prefix("Int")?),
    };
    let bytes = match bits {
        "8" => 1,
        "16" => 2,
        "32" => 4,
        "64" => 8,
        "128" => 16,
        "256" => 32,
        _ => return None,
    };
    Some(Kind::Int { bytes, signed })
}

/// Days, hours and so on: a number of them.
/// Source: <https://clickhouse.com/docs/sql-reference/data-types/special-data-types/interval>.
fn is_interval(name: &str) -> bool {
    const UNITS: [&str; 11] = [
        "Nanosecond",
        "Microsecond",
        "Millisecond",
        "Second",
        "Minute",
        "Hour",
        "Day",
        "Week",
        "Month",
        "Quarter",
        "Year",
    ];
    name.strip_prefix("Interval").is_some_and(|unit| UNITS.contains(&unit))
}

/// Precisions: <https://clickhouse.com/docs/sql-reference/data-types/decimal>.
fn decimal(precision: u32, scale: u32) -> Result<Kind, String> {
    let bytes = match precision {
        1..=9 => 4,
        10..=18 => 8,
        19..=38 => 16,
        39..=76 => 32,
        _ => return Err(UNREADABLE.into()),
    };
    if scale > precision {
        return Err(UNREADABLE.into());
    }
    Ok(Kind::Decimal { bytes, precision, scale })
}

/// `max_types=8`, or nothing.
fn dynamic_types(arguments: &[&str]) -> Result<usize, String> {
    let Some(argument) = arguments.first() else { return Ok(32) };
    let value = argument.split_once('=').and_then(|(_, value)| value.trim().parse().ok());
    value.ok_or(UNREADABLE.into())
}

/// `QBit(Float32, 3)`
fn qbit(arguments: &[&str]) -> Result<Kind, String> {
    let [element, dimension, ..] = arguments else { return Err(UNREADABLE.into()) };
    let bits = match *element {
        "BFloat16" => 16,
        "Float32" => 32,
        "Float64" => 64,
        _ => return Err(UNREADABLE.into()),
    };
    Ok(Kind::QBit { bits, dimension: dimension.parse().map_err(|_| UNREADABLE)? })
}

fn fraction(scale: u32) -> Result<u32, String> {
    if scale <= 9 { Ok(scale) } else { Err(UNREADABLE.into()) }
}

fn enumeration(arguments: &[&str]) -> Result<EnumNames, String> {
    let entry = |text: &&str| {
        let (name, rest) = quoted(text)?;
        Some((name, rest.trim().strip_prefix('=')?.trim().parse().ok()?))
    };
    let by_name = arguments.iter().map(entry).collect::<Option<_>>().ok_or(UNREADABLE)?;
    Ok(EnumNames { by_name })
}

fn elements(arguments: &[&str], server_zone: &str) -> Result<Vec<Element>, String> {
    arguments
        .iter()
        .map(|text| {
            let (name, column_type) = element(text).ok_or(UNREADABLE)?;
            Ok(Element { name, column_type: ColumnType::parse(column_type, server_zone)? })
        })
        .collect()
}

#[cfg(test)]
mod tests;
