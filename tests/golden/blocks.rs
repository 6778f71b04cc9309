//! Native blocks of JSON payloads, and the bodies that an INSERT carries them in.

use std::fmt::Write;
use std::time::{Duration, SystemTime};

use serde_json::{Value, json};

use super::engine::{
    BlockEncoder, Captures, Column, ColumnType, Compression, CompressionHints, Config, Decoder, Message,
    Properties, Table, TableColumn, block, frame,
};
use super::expected::{assert_golden, digest, hex};

/// One column of every kind of type, each filled from the field of its name. Columns that begin with
/// `computed` have a DEFAULT.
const EVERY_TYPE: [(&str, &str); 47] = [
    ("u8", "UInt8"),
    ("u16", "UInt16"),
    ("u32", "UInt32"),
    ("u64", "UInt64"),
    ("u128", "UInt128"),
    ("u256", "UInt256"),
    ("i8", "Int8"),
    ("i16", "Int16"),
    ("i32", "Int32"),
    ("i64", "Int64"),
    ("i128", "Int128"),
    ("i256", "Int256"),
    ("f32", "Float32"),
    ("f64", "Float64"),
    ("half", "BFloat16"),
    ("flag", "Bool"),
    ("text", "String"),
    ("word", "LowCardinality(String)"),
    ("fixed", "FixedString(8)"),
    ("maybe", "Nullable(Int32)"),
    ("maybe_word", "LowCardinality(Nullable(String))"),
    ("at", "DateTime"),
    ("local", "DateTime('America/New_York')"),
    ("exact", "DateTime64(6)"),
    ("exactest", "Nullable(DateTime64(9, 'Europe/Berlin'))"),
    ("day", "Date"),
    ("far", "Date32"),
    ("clock", "Time64(3)"),
    ("clock_s", "Time"),
    ("id", "UUID"),
    ("ip4", "Nullable(IPv4)"),
    ("ip6", "IPv6"),
    ("state", "Enum8('off' = 0, 'on' = 1, 'broken' = -1)"),
    ("kind", "Enum16('car' = 1, 'truck' = 1000)"),
    ("money", "Decimal(9, 2)"),
    ("more", "Decimal(38, 10)"),
    ("most", "Decimal(76, 3)"),
    ("list", "Array(Nullable(Int32))"),
    ("lists", "Array(Array(String))"),
    ("pairs", "Map(LowCardinality(String), Array(Float64))"),
    ("pair", "Tuple(a UInt8, b Nullable(String))"),
    ("point", "Point"),
    ("any", "Variant(Array(Float64), String, UInt64)"),
    ("dynamic", "Dynamic"),
    ("doc", "JSON"),
    ("computed", "UInt32"),
    ("computed_list", "Array(String)"),
];

/// Rows at the edges of the types, in the middle, and with next to nothing in them.
fn rows_of_every_type() -> Vec<String> {
    // With members in the order of the columns, and white space.
    let usual = r#" { "u8": 8, "u16": 1600, "u32": 3200000, "u64": 6400000000, "u128": "12800000000000000000000",
        "u256": 2560000000000000000000000, "i8": -8, "i16": -1600, "i32": -3200000, "i64": -6400000000,
        "i128": -12800000000000000000000, "i256": "-2560000000000000000000000", "f32": 1.5, "f64": -0.1, "half": 3.14,
        "flag": true, "text": "gr\u00fc\u00dfe\n\"\\", "word": "blue", "fixed": "abc", "maybe": 42, "maybe_word": "often",
        "at": 1730000000, "local": "2024-10-27 03:33:20", "exact": 1730000000.123456,
        "exactest": "2024-10-27T03:33:20.123456789+02:00", "day": "2024-10-27", "far": "1912-06-23",
        "clock": "12:34:56.789", "clock_s": -61, "id": "61f0c404-5cb3-11e7-907b-a6006ad3dba0", "ip4": "192.0.2.1",
        "ip6": "2001:db8::1", "state": "broken", "kind": 1000, "money": "-12.34", "more": 0.0000000001,
        "most": "12345678901234567890.5", "list": [1, null, -3], "lists": [["a"], [], ["b", "c"]],
        "pairs": { "x": [1, 2.5], "": [] }, "pair": { "b": "x", "a": 1 }, "point": [1.5, -2], "any": [1, 2.5],
        "dynamic": "2024-10-27", "doc": { "a": { "b": [1, null] }, "c": "é" }, "computed": 7, "computed_list": ["x"] } "#;
    let most = json!({
        "u8": u8::MAX, "u16": u16::MAX, "u32": u32::MAX, "u64": u64::MAX, "i8": i8::MAX, "i16": i16::MAX, "i32": i32::MAX,
        "i64": i64::MAX, "f32": f32::MAX, "f64": f64::MAX, "half": 1e30, "flag": 1, "text": "x".repeat(200), "word": "red",
        "u128": u128::MAX.to_string(), "i128": i128::MAX.to_string(), "at": u32::MAX, "day": "2149-06-06",
        "far": "2299-12-31", "state": "on", "kind": "car", "money": 9_999_999.99, "any": "text", "dynamic": 1,
        "doc": {}, "fixed": "12345678", "ip6": "::ffff:192.0.2.1", "clock": 86_399.999, "id": "ffffffff-ffff-ffff-ffff-ffffffffffff",
    });
    let least = json!({
        "i8": i8::MIN, "i16": i16::MIN, "i32": i32::MIN, "i64": i64::MIN, "f32": -0.0, "f64": 5e-324, "flag": "false",
        "i128": i128::MIN.to_string(), "exact": "1969-12-31 23:59:59.5", "clock": "-00:00:01", "list": [], "lists": [],
        "any": 7, "dynamic": [1, 2], "money": -0.01, "far": "1900-01-01", "maybe": null, "ip4": null,
    });
    vec![usual.to_string(), "{}".into(), most.to_string(), least.to_string()]
}

struct Made {
    sql: String,
    heads: Vec<(String, String)>,
    columns: Vec<Column>,
}

/// Decodes payloads for a table as a route does.
fn decode(route: &Value, table: &[(&str, &str)], topic: &str, payloads: &[String]) -> Made {
    let config = json!({
        "mqtt": { "url": "mqtt://broker" },
        "clickhouse": { "url": "http://clickhouse" },
        "routes": [route],
    });
    let config = Config::parse(&config.to_string()).unwrap();
    let column = |(name, type_name): &(&str, &str)| TableColumn {
        name: name.to_string(),
        column_type: ColumnType::parse(type_name, "UTC").unwrap(),
        default: name.starts_with("computed").then(|| "u8 + 1".into()),
        is_ephemeral: false,
        is_added: false,
    };
    let table: Vec<TableColumn> = table.iter().map(column).collect();
    let mut decoder = Decoder::new("routes[0]", &config.routes[0], &table).unwrap();
    let mut columns = decoder.columns();
    let mut captures = Captures::default();
    assert!(config.routes[0].topic.matches(topic, &mut captures));
    // The user property colour=green, as MQTT 5 writes it.
    let properties = b"\x26\x00\x06colour\x00\x05green";
    for payload in payloads {
        let message = Message {
            topic,
            captures: &captures,
            payload: payload.as_bytes(),
            qos: 1,
            retain: true,
            received_at: SystemTime::UNIX_EPOCH + Duration::new(1_730_000_000, 123_456_789),
            client_id: "fleet-1",
            properties: Properties::checked(properties),
        };
        decoder.append(&message, &mut columns).unwrap_or_else(|reason| panic!("{payload}: {reason:?}"));
    }
    let heads = decoder.heads().to_vec();
    Made { sql: Table::assumed(table).insert_sql(&heads), heads, columns }
}

impl Made {
    /// Statement, block and bodies. The bodies are described by their frames: method, bytes before and
    /// after, checksum.
    fn print(&self, shows_block: bool) -> String {
        let block = block::encode_to_vec(&self.heads, &self.columns);
        let mut out = format!("{}\n\n", self.sql);
        writeln!(
            out,
            "block of {} columns and {} rows: {}",
            self.columns.len(),
            self.columns[0].rows(),
            digest(&block)
        )
        .unwrap();
        if shows_block {
            out += &hex(&block);
        }
        for (name, compression) in
            [("none", Compression::None), ("lz4", Compression::Lz4), ("zstd", Compression::Zstd)]
        {
            let mut packer = BlockEncoder::new(compression);
            let packed = packer.encode(&self.heads, &self.columns, &CompressionHints::of(self.columns.len()));
            assert_eq!(packed.block_bytes, block.len());
            writeln!(out, "\nbody, {name}: {}", digest(&packed.frames)).unwrap();
            let mut rest = &packed.frames[..];
            let mut content = Vec::new();
            while !rest.is_empty() {
                let len = 16 + u32::from_le_bytes(rest[17..21].try_into().unwrap()) as usize;
                let (frame, tail) = rest.split_at(len);
                let piece = frame::decompress(frame).unwrap();
                writeln!(
                    out,
                    "  frame, method {:02x}, of {} bytes: {}",
                    frame[16],
                    piece.len(),
                    digest(frame)
                )
                .unwrap();
                content.extend(piece);
                rest = tail;
            }
            assert!(content == block, "what a server unpacks is the block");
        }
        out
    }
}

#[test]
fn every_type() {
    let route = json!({ "topic": "drivers/+/position", "table": "t", "missingFields": "zero" });
    let made = decode(&route, &EVERY_TYPE, "drivers/7/position", &rows_of_every_type());
    assert_golden("block-every-type.txt", &made.print(true));
}

#[test]
fn every_source_of_a_column() {
    let route = json!({
        "topic": "drivers/{driver}/position",
        "table": "t",
        "missingFields": "zero",
        "rows": "list",
        "columns": {
            "driver": { "topic": "driver" },
            "colour": { "userProperty": "colour" },
            "came": { "meta": "receivedAt" },
            "topic": { "meta": "topic" },
            "qos": { "meta": "qos" },
            "retained": { "meta": "retain" },
            "client": { "meta": "clientId" },
            "raw": { "meta": "payload" },
            "always": { "value": "truck" },
            "floor": { "path": "position.floor", "default": 7 },
            "lat": "position.lat",
            "first": "axes[0]",
            "at": { "path": "$.sent", "unit": "ms" },
        },
    });
    let table = [
        ("driver", "String"),
        ("colour", "LowCardinality(Nullable(String))"),
        ("came", "DateTime64(9)"),
        ("topic", "String"),
        ("qos", "UInt8"),
        ("retained", "Bool"),
        ("client", "String"),
        ("raw", "String"),
        ("always", "Enum8('car' = 1, 'truck' = 2)"),
        ("floor", "Int8"),
        ("lat", "Float64"),
        ("first", "Int32"),
        ("at", "DateTime64(3)"),
        ("computed", "UInt32"),
    ];
    let payloads = [
        json!({ "sent": 1_730_000_000_123_u64, "list": [
            { "position": { "floor": -1, "lat": 52.5 }, "axes": [3, 2, 1] },
            { "position": { "lat": -0.25 }, "axes": [] },
        ] }),
        json!({ "list": [], "sent": 0 }),
        json!({ "list": [{}], "sent": 1 }),
    ];
    let made = decode(&route, &table, "drivers/seven/position", &payloads.map(|payload| payload.to_string()));
    assert_golden("block-every-source.txt", &made.print(true));
}

/// Beyond one frame, with a column that LZ4 does not make smaller.
#[test]
fn many_rows() {
    let route = json!({ "topic": "t", "table": "t" });
    let table = [("seq", "UInt64"), ("noise", "UInt64"), ("text", "String"), ("maybe", "Nullable(Float64)")];
    let payloads: Vec<String> = (0..20_000_u64)
        .map(|seq| {
            let noise = seq.wrapping_mul(0x9E37_79B9_7F4A_7C15).rotate_left(23);
            let maybe = seq.is_multiple_of(3).then_some(seq as f64 / 8.0);
            json!({ "seq": seq, "noise": noise, "text": format!("driver-{}", seq % 100), "maybe": maybe })
                .to_string()
        })
        .collect();
    assert_golden("block-many-rows.txt", &decode(&route, &table, "t", &payloads).print(false));
}
