//! Rows that a route drops for those before them: `dedupe` and `deadband`.
//!
//! The rows of a message are looked at as they stand in the columns of the open batch. Where none is left the message is dropped;
//! where some are, the others are taken out when the batch is sealed, and the batch keeps its rows: decoded again, the messages
//! would bring back what was dropped.

use std::ops::Range;
use std::sync::Arc;
use std::time::Instant;

use crate::clickhouse::{Column, Kind};
use crate::config::{Deadband, Dedupe, Quantity, Route};
use crate::core::error::{Error, Result};
use crate::core::memory_budget::MemoryBudget;
use crate::core::recent_keys::Decision;
use crate::core::varint;
use crate::decode::{ColumnBinding, Decoder};

pub struct RowFilter {
    dedupe: Option<(Dedupe, Vec<usize>)>,
    deadband: Option<Comparison>,
    /// Where the values of the next row stand in the columns that are looked at.
    cursors: Vec<Cursor>,
    key: Vec<u8>,
    /// The rows of the last message that are dropped.
    dropped: Vec<Range<usize>>,
}

struct Comparison {
    deadband: Deadband,
    column: usize,
    by: Vec<usize>,
    /// `delta` in the unit of what the column holds.
    delta: f64,
}

/// The value of a row in a column.
struct Cursor {
    column: usize,
    /// Where it begins, of a column of texts.
    at: usize,
}

impl RowFilter {
    /// `None`: the route drops no rows. Errors name the option.
    pub fn of(route: &Route, decoder: &Decoder) -> Result<Option<Box<RowFilter>>> {
        if !route.drops_repeats() {
            return Ok(None);
        }
        let mut looked_at: Vec<usize> = Vec::new();
        let mut find = |option: &str, name: &str, check: &dyn Fn(&ColumnBinding) -> Option<&'static str>| {
            let path = || format!("{}.{option}", route.path);
            let Some(at) = decoder.bindings().iter().position(|binding| binding.name() == name) else {
                return Err(Error::ColumnNotFound {
                    path: path(),
                    column: name.into(),
                    table: route.table.clone(),
                });
            };
            let binding = &decoder.bindings()[at];
            if let Some(advice) = check(binding) {
                return Err(Error::ColumnUnsupported {
                    path: path(),
                    column: name.into(),
                    column_type: binding.column_type().inner_name.clone(),
                    advice: advice.into(),
                });
            }
            if !looked_at.contains(&at) {
                looked_at.push(at);
            }
            Ok(at)
        };
        let mut key = |option: &str, by: &[String]| -> Result<Vec<usize>> {
            by.iter().enumerate().map(|(i, name)| find(&format!("{option}.by[{i}]"), name, &no_key)).collect()
        };
        let dedupe = match &route.dedupe {
            Some(dedupe) => Some((dedupe.clone(), key("dedupe", &dedupe.by)?)),
            None => None,
        };
        let deadband = match &route.deadband {
            Some(deadband) => {
                let by = key("deadband", &deadband.by)?;
                let column = find("deadband.column", &deadband.column, &no_number)?;
                let delta = deadband.delta * unit(decoder.bindings()[column].column_type().kind.clone());
                Some(Comparison { deadband: deadband.clone(), column, by, delta })
            }
            None => None,
        };
        let cursors = looked_at.into_iter().map(|column| Cursor { column, at: 0 }).collect();
        Ok(Some(Box::new(RowFilter { dedupe, deadband, cursors, key: Vec::new(), dropped: Vec::new() })))
    }

    /// Decides on the last `rows` rows, which a message has brought; gives how many are kept. Where it is none they are gone from
    /// the columns; where it is not all, [`RowFilter::dropped`] has the others.
    pub fn apply(
        &mut self,
        decoder: &Decoder,
        columns: &mut [Column],
        rows: usize,
        now: Instant,
        memory: &Arc<MemoryBudget>,
    ) -> usize {
        let first = decoder.rows_before();
        self.dropped.clear();
        for cursor in &mut self.cursors {
            cursor.at = decoder.bytes_before(cursor.column);
        }
        for row in first..first + rows {
            if !self.keeps(decoder, columns, row, now, memory) {
                push_row(&mut self.dropped, row);
            }
            for cursor in &mut self.cursors {
                cursor.at = behind(&columns[cursor.column], cursor.at);
            }
        }
        let dropped: usize = self.dropped.iter().map(Range::len).sum();
        if dropped == rows {
            decoder.take_back(columns);
        }
        rows - dropped
    }

    /// The rows that the last message had to leave, by their places in the batch.
    pub fn dropped(&self) -> &[Range<usize>] {
        &self.dropped
    }

    fn keeps(
        &mut self,
        decoder: &Decoder,
        columns: &[Column],
        row: usize,
        now: Instant,
        memory: &Arc<MemoryBudget>,
    ) -> bool {
        let RowFilter { dedupe, deadband, cursors, key, .. } = self;
        if let Some((dedupe, by)) = dedupe
            && write_key(key, by, columns, row, cursors)
        {
            let decide = |known: Option<()>| match known {
                Some(()) => Decision::Drop,
                None => Decision::Keep(()),
            };
            if !dedupe.keys.decide(key, now, Some(dedupe.window), memory, decide) {
                return false;
            }
        }
        let Some(Comparison { deadband, column, by, delta }) = deadband else { return true };
        if !write_key(key, by, columns, row, cursors) {
            return true;
        }
        let kind = &decoder.bindings()[*column].column_type().kind;
        let value = bytes(&columns[*column], row, 0).and_then(|bytes| quantity(kind, bytes));
        deadband.keys.decide(key, now, deadband.every, memory, |known| match (known, value) {
            (_, None) => Decision::Forget,
            (Some(known), Some(value)) if distance(known, value) <= *delta => Decision::Drop,
            (_, Some(value)) => Decision::Keep(value),
        })
    }
}

/// Rows that stand side by side are one range.
fn push_row(ranges: &mut Vec<Range<usize>>, row: usize) {
    match ranges.last_mut() {
        Some(range) if range.end == row => range.end += 1,
        _ => ranges.push(row..row + 1),
    }
}

/// The rows between those that are dropped, of `rows`.
pub fn kept(dropped: &[Range<usize>], rows: usize) -> Vec<Range<usize>> {
    let (mut kept, mut at) = (Vec::with_capacity(dropped.len() + 1), 0);
    for range in dropped {
        kept.push(at..range.start);
        at = range.end;
    }
    kept.push(at..rows);
    kept.retain(|range| !range.is_empty());
    kept
}

/// Why a column cannot be in a key: advice that completes "column c has the type T, …".
pub fn no_key(binding: &ColumnBinding) -> Option<&'static str> {
    match binding.column_type().kind {
        Kind::Json(_)
        | Kind::Dynamic { .. }
        | Kind::QBit { .. }
        | Kind::Array(_)
        | Kind::Tuple(_)
        | Kind::Map(_)
        | Kind::Variant(_) => Some(
            "which cannot be in a key: use a text, a number, a date, a time, an enum, an address or a UUID",
        ),
        _ => binding
            .column_type()
            .aggregate
            .is_some()
            .then_some("of which ClickHouse makes a state: use a plain column"),
    }
}

fn no_number(binding: &ColumnBinding) -> Option<&'static str> {
    let advice = "whose values have no difference: use an integer of up to 128 bits, a float or a Decimal of up to 38 digits";
    match binding.column_type().kind {
        Kind::Int { bytes, .. } | Kind::Decimal { bytes, .. } if bytes <= 16 => None,
        Kind::Float32 | Kind::Float64 => None,
        _ => Some(advice),
    }
}

/// How many of what the column holds are one of its unit.
fn unit(kind: Kind) -> f64 {
    if let Kind::Decimal { scale, .. } = kind { 10f64.powi(scale as i32) } else { 1.0 }
}

/// Writes the values of a row that are its key, each behind its length. `false`: one is NULL.
fn write_key(key: &mut Vec<u8>, by: &[usize], columns: &[Column], row: usize, cursors: &[Cursor]) -> bool {
    key.clear();
    for column in by {
        let at = cursors.iter().find(|cursor| cursor.column == *column).map_or(0, |cursor| cursor.at);
        let Some(value) = bytes(&columns[*column], row, at) else { return false };
        key.extend_from_slice(&(value.len() as u64).to_le_bytes());
        key.extend_from_slice(value);
    }
    true
}

/// The value of a row; `at` is where it begins among texts. `None`: NULL.
pub fn bytes(column: &Column, row: usize, at: usize) -> Option<&[u8]> {
    match column {
        Column::Fixed { width, data, .. } => data.get(row * width..(row + 1) * width),
        Column::Strings { data, .. } => text(data, at),
        Column::Nullable { nulls, values } => match nulls.get(row) {
            Some(0) => bytes(values, row, at),
            _ => None,
        },
        _ => None,
    }
}

fn text(data: &[u8], at: usize) -> Option<&[u8]> {
    let mut rest = data.get(at..)?;
    let len = varint::read::<10>(&mut rest).ok()?;
    rest.get(..len as usize)
}

/// Where the next value begins.
fn behind(column: &Column, at: usize) -> usize {
    match column {
        Column::Strings { data, .. } => {
            text(data, at).map_or(at, |text| text.as_ptr() as usize + text.len() - data.as_ptr() as usize)
        }
        Column::Nullable { values, .. } => behind(values, at),
        _ => at,
    }
}

/// `None`: NaN.
fn quantity(kind: &Kind, bytes: &[u8]) -> Option<Quantity> {
    match (kind, bytes.len()) {
        (Kind::Float32, 4) => float(f32::from_le_bytes(bytes.try_into().ok()?).into()),
        (Kind::Float64, 8) => float(f64::from_le_bytes(bytes.try_into().ok()?)),
        (Kind::Int { signed, .. }, 1..=16) => Some(Quantity::Integer(integer(bytes, *signed))),
        (Kind::Decimal { .. }, 1..=16) => Some(Quantity::Integer(integer(bytes, true))),
        _ => None,
    }
}

fn float(value: f64) -> Option<Quantity> {
    (!value.is_nan()).then_some(Quantity::Float(value))
}

/// A little-endian number of up to 128 bits. Unsigned ones of 128 bits are moved by half of their range, and keep their differences.
fn integer(bytes: &[u8], signed: bool) -> i128 {
    let is_negative = signed && bytes.last().is_some_and(|last| last & 0x80 != 0);
    let mut all = [if is_negative { 0xff } else { 0 }; 16];
    all[..bytes.len()].copy_from_slice(bytes);
    if !signed && bytes.len() == 16 {
        all[15] ^= 0x80;
    }
    i128::from_le_bytes(all)
}

fn distance(one: Quantity, other: Quantity) -> f64 {
    match (one, other) {
        (Quantity::Integer(one), Quantity::Integer(other)) => one.abs_diff(other) as f64,
        // Infinities that are the same have no difference by their numbers.
        (Quantity::Float(one), Quantity::Float(other)) if one == other => 0.0,
        (Quantity::Float(one), Quantity::Float(other)) => (one - other).abs(),
        // The type of the column has changed.
        _ => f64::INFINITY,
    }
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, SystemTime};

    use super::*;
    use crate::clickhouse::schema::Table;
    use crate::config::Config;
    use crate::core::mqtt_property::Properties;
    use crate::core::topic_filter::Captures;
    use crate::decode::Message;

    struct Rows {
        filter: Box<RowFilter>,
        decoder: Decoder,
        columns: Vec<Column>,
        start: Instant,
        memory: Arc<MemoryBudget>,
    }

    fn route(rules: &str) -> Route {
        let config = format!(
            r#"{{ "mqtt": {{ "url": "mqtt://x" }}, "clickhouse": {{ "url": "http://x" }},
                 "routes": [{{ "topic": "t", "table": "t", {rules} }}] }}"#
        );
        Config::parse(&config).unwrap().routes.remove(0)
    }

    const COLUMNS: [(&str, &str, Option<&str>); 8] = [
        ("id", "String", Some("'none'")),
        ("seq", "UInt64", None),
        ("v", "Nullable(Float64)", None),
        ("price", "Decimal(38, 2)", Some("0")),
        ("n", "Int8", Some("0")),
        ("wide", "UInt128", Some("0")),
        ("name", "LowCardinality(Nullable(String))", None),
        ("tags", "Array(String)", Some("[]")),
    ];

    fn rows(rules: &str) -> Rows {
        let (route, table) = (route(rules), Table::of(&COLUMNS));
        let decoder = Decoder::new(&route.path, &route, &table.columns).unwrap();
        let filter = RowFilter::of(&route, &decoder).unwrap().unwrap();
        let columns = decoder.columns();
        Rows { filter, decoder, columns, start: Instant::now(), memory: Arc::default() }
    }

    impl Rows {
        /// The rows of a message that are kept, and those that are dropped.
        fn take(&mut self, ms: u64, payload: &str) -> (usize, Vec<Range<usize>>) {
            let captures = Captures::default();
            let message = Message {
                topic: "t",
                captures: &captures,
                payload: payload.as_bytes(),
                qos: 0,
                retain: false,
                received_at: SystemTime::now(),
                client_id: "",
                properties: Properties::NONE,
            };
            let before = self.columns[0].rows();
            let rows = self.decoder.append(&message, &mut self.columns).unwrap();
            let at = self.start + Duration::from_millis(ms);
            let kept = self.filter.apply(&self.decoder, &mut self.columns, rows, at, &self.memory);
            assert_eq!(self.columns[0].rows(), before + if kept == 0 { 0 } else { rows });
            (kept, self.filter.dropped().to_vec())
        }

        fn keeps(&mut self, ms: u64, payload: &str) -> bool {
            self.take(ms, payload).0 == 1
        }
    }

    #[test]
    fn rows_with_a_key_that_was_there_are_dropped() {
        let mut rows = rows(r#""dedupe": { "by": ["id", "seq", "name"], "windowMs": 1000 }"#);
        assert!(rows.keeps(0, r#"{"id":"a","seq":1,"name":"x"}"#));
        assert!(rows.keeps(0, r#"{"id":"a","seq":2,"name":"x"}"#));
        assert!(rows.keeps(0, r#"{"id":"","seq":1,"name":"ax"}"#));
        assert!(!rows.keeps(999, r#"{"seq":1,"name":"x","id":"a","v":5,"tags":["t"]}"#));
        // NULL equals nothing: where a value is missing, and where ClickHouse computes it.
        assert!(rows.keeps(0, r#"{"id":"a","seq":1}"#) && rows.keeps(0, r#"{"id":"a","seq":1}"#));
        assert!(rows.keeps(0, r#"{"seq":1,"name":"x"}"#) && rows.keeps(0, r#"{"seq":1,"name":"x"}"#));
        assert!(rows.keeps(1000, r#"{"id":"a","seq":1,"name":"x"}"#));
    }

    #[test]
    fn rows_of_a_message_are_dropped_one_by_one() {
        let mut rows = rows(r#""dedupe": { "by": ["id", "name"] }"#);
        let row = |id: &str| format!(r#"{{"id":"{id}","seq":1,"name":"{}"}}"#, id.repeat(3));
        let list = |ids: [&str; 4]| format!("[{}]", ids.map(row).join(","));
        assert_eq!(rows.take(0, &row("a")), (1, vec![]));
        assert_eq!(rows.take(0, &list(["a", "b", "", "b"])), (2, vec![1..2, 4..5]));
        assert_eq!(rows.take(0, &list(["b", "a", "a", ""])), (0, vec![5..9; 1]));
        assert_eq!(rows.take(0, &list(["a", "b", "c", "d"])), (2, vec![5..7; 1]));
        assert_eq!(kept(&[1..2, 4..7], 9), [0..1, 2..4, 7..9]);
        assert_eq!(kept(&[0..3; 1], 3), []);
        let all = kept(&[1..2, 4..7], 9);
        rows.columns.iter_mut().for_each(|column| column.keep_rows(&all));
        let Column::Nullable { values, .. } = &rows.columns[0] else { panic!("a DEFAULT") };
        let Column::Strings { data, .. } = &**values else { panic!("texts") };
        assert_eq!(data, b"\x01a\x01b\x00\x01c\x01d");
    }

    #[test]
    fn values_are_compared_with_the_last_one_that_was_kept() {
        let mut rows = rows(r#""deadband": { "column": "v", "delta": 0.5, "by": ["id"], "everyMs": 1000 }"#);
        let mut keeps =
            |ms, id: &str, v: &str| rows.keeps(ms, &format!(r#"{{"id":"{id}","seq":1,"v":{v}}}"#));
        assert!(keeps(0, "a", "1") && keeps(0, "b", "1.25"));
        assert!(!keeps(1, "a", "1.5") && !keeps(2, "a", "0.5"), "a change by delta is none");
        assert!(!keeps(3, "b", "1.75") && keeps(3, "b", "1.76"));
        assert!(keeps(4, "a", "1.51") && !keeps(5, "a", "1.25"), "it is compared with 1.51");
        assert!(keeps(6, "a", "null") && keeps(7, "a", "1.51") && !keeps(8, "a", "1.6"));
        assert!(!keeps(1002, "b", "1.76") && keeps(1003, "b", "1.76"), "after everyMs");
        let counts = rows.filter.deadband.as_ref().unwrap().deadband.keys.counts();
        assert_eq!((counts.dropped, counts.evicted), (6, 0));
    }

    #[test]
    fn numbers_of_every_type_are_compared_as_they_are() {
        let cases = [
            (
                "price",
                "0.25",
                ["170141183460469231731687303715884.05", "170141183460469231731687303715884.30"],
            ),
            ("seq", "1", ["18446744073709551615", "18446744073709551614"]),
            ("n", "254", ["-128", "126"]),
            ("v", "0", ["1e300", "1e300"]),
            (
                "wide",
                "1",
                ["170141183460469231731687303715884105727", "170141183460469231731687303715884105728"],
            ),
        ];
        for (column, delta, [one, near]) in cases {
            let mut rows = rows(&format!(r#""deadband": {{ "column": "{column}", "delta": {delta} }}"#));
            let of = |value: &str| match column {
                "seq" => format!(r#"{{"seq":{value}}}"#),
                _ => format!(r#"{{"seq":1,"{column}":{value}}}"#),
            };
            assert!(
                rows.keeps(0, &of(one)) && !rows.keeps(0, &of(near)) && rows.keeps(0, &of(&far(near))),
                "{column}"
            );
        }
    }

    /// A number that is further away from the first of its case.
    fn far(near: &str) -> String {
        match near {
            "126" => "127".into(),
            "1e300" => "-1e300".into(),
            "170141183460469231731687303715884105728" => "170141183460469231731687303715884105730".into(),
            "18446744073709551614" => "18446744073709551613".into(),
            _ => near.replace(".30", ".31"),
        }
    }

    #[test]
    fn columns_that_cannot_be_compared_are_named() {
        let error = |rules: &str| {
            let (route, table) = (route(rules), Table::of(&COLUMNS));
            let decoder = Decoder::new(&route.path, &route, &table.columns).unwrap();
            let error = RowFilter::of(&route, &decoder).err().unwrap();
            (error.code(), error.path().unwrap().to_string())
        };
        let cases = [
            (r#""dedupe": { "by": ["id", "gone"] }"#, "COLUMN_NOT_FOUND", "routes[0].dedupe.by[1]"),
            (r#""dedupe": { "by": "tags" }"#, "COLUMN_UNSUPPORTED", "routes[0].dedupe.by[0]"),
            (
                r#""deadband": { "column": "id", "delta": 1 }"#,
                "COLUMN_UNSUPPORTED",
                "routes[0].deadband.column",
            ),
            (
                r#""deadband": { "column": "gone", "delta": 1 }"#,
                "COLUMN_NOT_FOUND",
                "routes[0].deadband.column",
            ),
            (
                r#""deadband": { "column": "v", "delta": 1, "by": ["tags"] }"#,
                "COLUMN_UNSUPPORTED",
                "routes[0].deadband.by[0]",
            ),
        ];
        for (rules, code, path) in cases {
            assert_eq!(error(rules), (code, path.to_string()));
        }
    }
}
