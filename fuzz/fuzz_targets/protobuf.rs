//! Protocol Buffers: any message of a type with a field of each kind, and any bytes as the descriptors of types. See `reader`
//! for what must hold.

#![no_main]

mod reader;

use std::sync::LazyLock;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use libfuzzer_sys::fuzz_target;
use millrace::config::Config;
use millrace::decode::Decoder;
use reader::{LEAST_WITH_ROWS, Route, binary, route, rows};
use serde_json::{Value, json};

/// `message All`, compiled: fields of all kinds under the names of columns, with itself within itself.
static DESCRIPTORS: LazyLock<Vec<u8>> = LazyLock::new(descriptors);

static ROUTES: LazyLock<Vec<Route>> = LazyLock::new(|| {
    vec![
        route(options(&DESCRIPTORS), LEAST_WITH_ROWS),
        route(
            {
                let mut options = options(&DESCRIPTORS);
                options["rows"] = json!("rows[*]");
                options
            },
            LEAST_WITH_ROWS,
        ),
    ]
});

fn options(descriptors: &[u8]) -> Value {
    let schema = format!("data:;base64,{}", STANDARD.encode(descriptors));
    json!({ "format": { "type": "protobuf", "schema": schema, "message": "p.All" } })
}

fn varint(mut value: usize) -> Vec<u8> {
    let mut out = Vec::new();
    while value >= 0x80 {
        out.push(value as u8 | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
    out
}

fn bytes(field: usize, content: &[u8]) -> Vec<u8> {
    [varint(field << 3 | 2), varint(content.len()), content.to_vec()].concat()
}

fn number(field: usize, value: usize) -> Vec<u8> {
    [varint(field << 3), varint(value)].concat()
}

fn descriptors() -> Vec<u8> {
    // Name, label (1 for one, 3 for many), kind and type as descriptor.proto numbers them.
    let fields = [
        ("f64", 1, 1, ""),
        ("f32", 1, 2, ""),
        ("i64", 1, 3, ""),
        ("u64", 1, 4, ""),
        ("i32", 1, 5, ""),
        ("exact", 1, 6, ""),
        ("u32", 1, 7, ""),
        ("flag", 1, 8, ""),
        ("text", 1, 9, ""),
        ("doc", 1, 11, ".p.All"),
        ("fixed", 1, 12, ""),
        ("u16", 1, 13, ""),
        ("word", 1, 14, ".p.State"),
        ("i16", 1, 15, ""),
        ("huge", 1, 16, ""),
        ("i8", 1, 17, ""),
        ("money", 1, 18, ""),
        ("list", 3, 5, ""),
        ("rows", 3, 11, ".p.All"),
        ("pairs", 3, 11, ".p.All.PairsEntry"),
        ("at", 1, 11, ".google.protobuf.Timestamp"),
    ];
    let field = |at: usize, (name, label, kind, of): (&str, usize, usize, &str)| {
        let of = if of.is_empty() { Vec::new() } else { bytes(6, of.as_bytes()) };
        bytes(2, &[bytes(1, name.as_bytes()), number(3, at), number(4, label), number(5, kind), of].concat())
    };
    let all = fields.iter().enumerate().flat_map(|(at, of)| field(at + 1, *of));
    let entry = [
        bytes(1, b"PairsEntry"),
        field(1, ("key", 1, 9, "")),
        field(2, ("value", 1, 1, "")),
        bytes(7, &number(7, 1)),
    ];
    let all = [bytes(1, b"All"), all.collect(), bytes(3, &entry.concat())].concat();
    let value = |name: &[u8], number_of: usize| bytes(2, &[bytes(1, name), number(2, number_of)].concat());
    let state = [bytes(1, b"State"), value(b"OFF", 0), value(b"ON", 1)].concat();
    let file = [bytes(1, b"p.proto"), bytes(2, b"p"), bytes(4, &all), bytes(5, &state), bytes(12, b"proto3")];
    let time = [bytes(1, b"Timestamp"), field(1, ("seconds", 1, 3, "")), field(2, ("nanos", 1, 5, ""))];
    let google = [
        bytes(1, b"google/protobuf/timestamp.proto"),
        bytes(2, b"google.protobuf"),
        bytes(4, &time.concat()),
        bytes(12, b"proto3"),
    ];
    [bytes(1, &google.concat()), bytes(1, &file.concat())].concat()
}

/// A start with these descriptors either goes on or is refused.
fn start(descriptors: &[u8]) {
    let mut route = json!({ "topic": "t", "table": "t" });
    route.as_object_mut().unwrap().extend(options(descriptors).as_object().unwrap().clone());
    let config = json!({
        "mqtt": { "url": "mqtt://broker" },
        "clickhouse": { "url": "http://clickhouse" },
        "routes": [route],
    });
    if let Ok(config) = Config::parse(&config.to_string()) {
        let _ = Decoder::new("routes[0]", &config.routes[0], &rows::table());
    }
}

fuzz_target!(|input: &[u8]| {
    match input.split_first() {
        Some((2, changes)) => {
            // Two bytes for a place and one for what stands there.
            let mut descriptors = DESCRIPTORS.clone();
            for change in changes.chunks_exact(3) {
                let at = usize::from(u16::from_be_bytes([change[0], change[1]])) % descriptors.len();
                descriptors[at] = change[2];
            }
            start(&descriptors);
        }
        Some((3, descriptors)) => start(descriptors),
        _ => binary(&ROUTES, input),
    }
});
