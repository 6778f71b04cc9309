//! A table with a column of every kind, and a decoder for it that is checked after each message.

use std::time::{Duration, SystemTime};

use millrace::clickhouse::schema::TableColumn;
use millrace::clickhouse::{Column, ColumnType, Kind};
use millrace::config::Config;
use millrace::core::mqtt_property::Properties;
use millrace::core::reason::Reason;
use millrace::core::topic_filter::{Captures, TopicFilter};
use millrace::decode::{Decoder, Message};
use serde_json::{Value, json};

/// One column of every kind of type.
pub const COLUMNS: [(&str, &str); 38] = [
    ("u8", "UInt8"),
    ("u16", "UInt16"),
    ("u32", "UInt32"),
    ("u64", "UInt64"),
    ("i8", "Int8"),
    ("i16", "Int16"),
    ("i32", "Int32"),
    ("i64", "Int64"),
    ("f32", "Float32"),
    ("f64", "Float64"),
    ("flag", "Bool"),
    ("text", "String"),
    ("word", "LowCardinality(String)"),
    ("maybe", "Nullable(Int32)"),
    ("maybe_word", "LowCardinality(Nullable(String))"),
    ("at", "DateTime"),
    ("local", "DateTime('America/New_York')"),
    ("exact", "DateTime64(6)"),
    ("exactest", "Nullable(DateTime64(9, 'Europe/Berlin'))"),
    ("day", "Date"),
    ("id", "UUID"),
    ("state", "Enum8('off' = 0, 'on' = 1, 'broken' = -1)"),
    ("kind", "Enum16('car' = 1, 'truck' = 1000)"),
    ("computed", "UInt32"),
    ("huge", "Int256"),
    ("money", "Decimal(18, 4)"),
    ("half", "BFloat16"),
    ("fixed", "FixedString(8)"),
    ("ip", "Nullable(IPv4)"),
    ("clock", "Time64(3)"),
    ("far", "Date32"),
    ("list", "Array(Nullable(Int32))"),
    ("pairs", "Map(LowCardinality(String), Array(Float64))"),
    ("pair", "Tuple(a UInt8, b Nullable(String))"),
    ("point", "Point"),
    ("any", "Variant(Array(Float64), String, UInt64)"),
    ("doc", "JSON"),
    ("computed_list", "Array(String)"),
];

const TOPIC: &str = "drivers/driver-42/position";

/// Every column takes the field of its name.
pub fn plain() -> Value {
    json!({ "topic": "drivers/+/position", "table": "t", "missingFields": "zero" })
}

/// Columns are filled from everywhere, several from one place and some from a place within it.
pub fn mapped() -> Value {
    json!({
        "topic": "drivers/{driver}/position",
        "table": "t",
        "missingFields": "zero",
        "columns": {
            "u8": { "path": "position.floor", "default": 7 },
            "f64": "position.lat",
            "f32": "position.lat",
            "text": "position",
            "i8": "axes[0]",
            "i16": "axes[2]",
            "maybe": "axes[1].deep['a.b']",
            "word": { "topic": "driver" },
            "exact": { "meta": "receivedAt" },
            "u16": { "meta": "qos" },
            "maybe_word": { "userProperty": "colour" },
            "at": { "path": "ts", "unit": "ms" },
            "day": "ts",
            "kind": { "value": "truck" },
        },
    })
}

pub fn table() -> Vec<TableColumn> {
    let column = |(name, type_name): (&str, &str)| TableColumn {
        name: name.into(),
        column_type: ColumnType::parse(type_name, "UTC").unwrap(),
        default: name.starts_with("computed").then(|| "u8 + 1".into()),
        is_ephemeral: false,
        is_added: false,
    };
    COLUMNS.map(column).into()
}

fn decoder(route: &Value, table: &[TableColumn]) -> Decoder {
    let config = json!({
        "mqtt": { "url": "mqtt://broker" },
        "clickhouse": { "url": "http://clickhouse" },
        "routes": [route],
    });
    let config = Config::parse(&config.to_string()).unwrap();
    Decoder::new("routes[0]", &config.routes[0], table).unwrap()
}

/// A decoder with the columns it fills; checks after each message what must always hold.
#[derive(Clone)]
pub struct Rows {
    table: Vec<TableColumn>,
    pub decoder: Decoder,
    pub columns: Vec<Column>,
    captures: Captures,
}

impl Rows {
    pub fn new(route: &Value) -> Rows {
        Rows::of(route, table())
    }

    pub fn of(route: &Value, table: Vec<TableColumn>) -> Rows {
        Rows::on(TOPIC, route, table)
    }

    /// For messages of one topic.
    pub fn on(topic: &str, route: &Value, table: Vec<TableColumn>) -> Rows {
        let decoder = decoder(route, &table);
        let columns = decoder.columns();
        let mut rows = Rows { table, columns, decoder, captures: Captures::default() };
        rows.capture(topic, route);
        rows
    }

    pub fn append(&mut self, payload: &[u8]) -> Result<usize, Reason> {
        let before = self.bytes();
        let rows = self.columns[0].rows();
        let appended = self.decode(payload);
        self.check(&before, rows, &appended);
        appended
    }

    pub fn decode(&mut self, payload: &[u8]) -> Result<usize, Reason> {
        self.decode_as(TOPIC, payload)
    }

    /// The next messages come on this topic.
    pub fn capture(&mut self, topic: &str, route: &Value) {
        let filter = TopicFilter::parse(route["topic"].as_str().unwrap()).unwrap();
        assert!(filter.matches(topic, &mut self.captures));
    }

    pub fn has_excluded(&self) -> bool {
        self.decoder.has_excluded()
    }

    /// A payload that came on another topic.
    pub fn decode_as(&mut self, topic: &str, payload: &[u8]) -> Result<usize, Reason> {
        let message = Message {
            topic,
            captures: &self.captures,
            payload,
            qos: 1,
            retain: false,
            received_at: SystemTime::UNIX_EPOCH + Duration::new(1_730_000_000, 123_456_789),
            client_id: "fleet-1",
            properties: Properties::NONE,
        };
        self.decoder.append(&message, &mut self.columns)
    }

    /// Checks the columns after a message; before it they had these bytes and `rows` rows.
    pub fn check(&self, before: &[Vec<u8>], rows: usize, appended: &Result<usize, Reason>) {
        let Ok(count) = appended else {
            assert_eq!(self.bytes(), before, "a refused message leaves nothing behind");
            return;
        };
        for (column, described) in self.columns.iter().zip(&self.table) {
            let TableColumn { name, column_type, default, .. } = described;
            assert_eq!(column.rows(), rows + count, "{name}");
            // How a block has these by path and type is tried on ClickHouse itself.
            if matches!(column_type.kind, Kind::Json(_)) {
                continue;
            }
            let nullable = column_type.nullable || (default.is_some() && column_type.kind.can_be_null());
            let encoded = encoded(column);
            let mut rest = encoded.as_slice();
            take_prefix(column_type, &mut rest);
            take_values(column_type, nullable, rows + count, &mut rest);
            assert!(rest.is_empty(), "{name} has {} bytes too many", rest.len());
        }
    }

    pub fn bytes(&self) -> Vec<Vec<u8>> {
        self.columns.iter().map(encoded).collect()
    }
}

pub fn encoded(column: &Column) -> Vec<u8> {
    let mut out = Vec::new();
    column.encode(&mut out);
    out
}

fn take<'a>(rest: &mut &'a [u8], count: usize) -> &'a [u8] {
    let (head, tail) = rest.split_at(count);
    *rest = tail;
    head
}

/// Reads what precedes the values of a column, as ClickHouse reads it.
fn take_prefix(column_type: &ColumnType, rest: &mut &[u8]) {
    match &column_type.kind {
        Kind::Array(items) => take_prefix(items, rest),
        Kind::Map(sides) => sides.iter().for_each(|side| take_prefix(side, rest)),
        Kind::Tuple(elements) => elements.iter().for_each(|e| take_prefix(&e.column_type, rest)),
        Kind::Variant(types) => {
            assert_eq!(take(rest, 8), 0u64.to_le_bytes());
            types.iter().for_each(|t| take_prefix(t, rest));
        }
        _ => {}
    }
}

/// Reads `rows` values of a column, as ClickHouse reads them.
fn take_values(column_type: &ColumnType, nullable: bool, rows: usize, rest: &mut &[u8]) {
    if nullable {
        assert!(take(rest, rows).iter().all(|null| *null <= 1));
    }
    let part = |t: &ColumnType, rows, rest: &mut &[u8]| take_values(t, t.nullable, rows, rest);
    let ends = |rest: &mut &[u8]| {
        let ends = take(rest, rows * 8).chunks(8).map(|end| u64::from_le_bytes(end.try_into().unwrap()));
        let ends: Vec<u64> = ends.collect();
        assert!(ends.is_sorted());
        ends.last().copied().unwrap_or(0) as usize
    };
    match &column_type.kind {
        Kind::String => {
            for _ in 0..rows {
                let end = rest.iter().position(|byte| byte & 0x80 == 0).unwrap() + 1;
                let len = take(rest, end).iter().rev().fold(0, |len, byte| len << 7 | (byte & 0x7f) as usize);
                take(rest, len);
            }
        }
        Kind::Array(items) => {
            let count = ends(rest);
            part(items, count, rest);
        }
        Kind::Map(sides) => {
            let count = ends(rest);
            sides.iter().for_each(|side| part(side, count, rest));
        }
        Kind::Tuple(elements) => elements.iter().for_each(|e| part(&e.column_type, rows, rest)),
        Kind::Variant(types) => {
            let which = take(rest, rows);
            for (at, t) in types.iter().enumerate() {
                part(t, which.iter().filter(|w| **w as usize == at).count(), rest);
            }
        }
        fixed => drop(take(rest, rows * fixed.width().unwrap())),
    }
}
