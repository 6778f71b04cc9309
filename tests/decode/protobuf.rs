//! Protocol Buffers and Sparkplug B, with messages that are encoded here by hand.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use millrace::core::reason::Code;
use serde_json::{Value, json};

use crate::documents::{floats, route, table, texts};
use crate::rows::{Rows, encoded};

fn varint(mut value: u64) -> Vec<u8> {
    let mut out = Vec::new();
    while value >= 0x80 {
        out.push(value as u8 | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
    out
}

fn number(field: u64, value: u64) -> Vec<u8> {
    [varint(field << 3), varint(value)].concat()
}

fn bytes(field: u64, content: impl AsRef<[u8]>) -> Vec<u8> {
    let content = content.as_ref();
    [varint(field << 3 | 2), varint(content.len() as u64), content.to_vec()].concat()
}

fn fixed_32(field: u64, bits: u32) -> Vec<u8> {
    [varint(field << 3 | 5), bits.to_le_bytes().to_vec()].concat()
}

fn fixed_64(field: u64, bits: u64) -> Vec<u8> {
    [varint(field << 3 | 1), bits.to_le_bytes().to_vec()].concat()
}

/// A FieldDescriptorProto: `label` is 1 for one and 3 for many.
fn field(name: &str, at: u64, label: u64, kind: u64, type_name: &str, more: &[u8]) -> Vec<u8> {
    let type_name = if type_name.is_empty() { Vec::new() } else { bytes(6, type_name) };
    let parts = [bytes(1, name), number(3, at), number(4, label), number(5, kind), type_name, more.to_vec()];
    bytes(2, parts.concat())
}

/// ```proto
/// syntax = "proto3";
/// package p;
/// enum State { IDLE = 0; BUSY = 1; }
/// message Reading { double value = 1; int64 at_ms = 2; }
/// message Device {
///   string id = 1; uint64 big = 2; sint32 change = 3; State state = 4; repeated int32 codes = 5; repeated Reading readings = 6;
///   map<string, double> registers = 7; google.protobuf.Timestamp seen = 8; optional int32 maybe = 9; bytes raw = 10;
///   float ratio = 11; oneof which { string left = 12; string right = 13; }
/// }
/// ```
fn schema() -> Vec<u8> {
    schema_with([".p.State", ".p.Reading", ".p.Device.RegistersEntry"], &bytes(10, "atMs"))
}

/// The same, with the types of `state`, `readings` and `registers` by these names, and this name of `at_ms` in JSON.
fn schema_with([state_type, reading_type, entry_type]: [&str; 3], json_name: &[u8]) -> Vec<u8> {
    let state = [
        bytes(1, "State"),
        bytes(2, [bytes(1, "IDLE"), number(2, 0)].concat()),
        bytes(2, [bytes(1, "BUSY"), number(2, 1)].concat()),
    ];
    let reading =
        [bytes(1, "Reading"), field("value", 1, 1, 1, "", &[]), field("at_ms", 2, 1, 3, "", json_name)];
    let entry = [
        bytes(1, "RegistersEntry"),
        field("key", 1, 1, 9, "", &[]),
        field("value", 2, 1, 1, "", &[]),
        bytes(7, number(7, 1)),
    ];
    let device = [
        bytes(1, "Device"),
        field("id", 1, 1, 9, "", &[]),
        field("big", 2, 1, 4, "", &[]),
        field("change", 3, 1, 17, "", &[]),
        field("state", 4, 1, 14, state_type, &[]),
        field("codes", 5, 3, 5, "", &[]),
        field("readings", 6, 3, 11, reading_type, &[]),
        field("registers", 7, 3, 11, entry_type, &[]),
        field("seen", 8, 1, 11, ".google.protobuf.Timestamp", &[]),
        field("maybe", 9, 1, 5, "", &[number(9, 0), number(17, 1)].concat()),
        field("raw", 10, 1, 12, "", &[]),
        field("ratio", 11, 1, 2, "", &[]),
        field("left", 12, 1, 9, "", &number(9, 1)),
        field("right", 13, 1, 9, "", &number(9, 1)),
        bytes(3, entry.concat()),
    ];
    let file = [
        bytes(1, "p.proto"),
        bytes(2, "p"),
        bytes(4, device.concat()),
        bytes(4, reading.concat()),
        bytes(5, state.concat()),
        bytes(12, "proto3"),
    ];
    let timestamp =
        [bytes(1, "Timestamp"), field("seconds", 1, 1, 3, "", &[]), field("nanos", 2, 1, 5, "", &[])];
    let google = [
        bytes(1, "google/protobuf/timestamp.proto"),
        bytes(2, "google.protobuf"),
        bytes(4, timestamp.concat()),
        bytes(12, "proto3"),
    ];
    [bytes(1, google.concat()), bytes(1, file.concat())].concat()
}

fn protobuf(message: &str, options: Value) -> Value {
    protobuf_of(&schema(), message, options)
}

fn protobuf_of(schema: &[u8], message: &str, options: Value) -> Value {
    let schema = format!("data:;base64,{}", STANDARD.encode(schema));
    let mut route = json!({ "format": { "type": "protobuf", "schema": schema, "message": message } });
    route.as_object_mut().unwrap().extend(options.as_object().unwrap().clone());
    route
}

const DEVICE: [(&str, &str); 12] = [
    ("id", "String"),
    ("big", "UInt64"),
    ("change", "Int32"),
    ("state", "String"),
    ("codes", "Array(Int32)"),
    ("registers", "Map(String, Float64)"),
    ("seen", "Nullable(DateTime64(3, 'UTC'))"),
    ("maybe", "Nullable(Int32)"),
    ("raw", "String"),
    ("ratio", "Float64"),
    ("left", "Nullable(String)"),
    ("right", "Nullable(String)"),
];

fn device(options: Value, columns: &[(&str, &str)], payload: &[u8]) -> Result<Vec<Vec<u8>>, Code> {
    let mut rows = Rows::of(&route(protobuf("p.Device", options)), table(columns));
    rows.append(payload).map_err(|reason| reason.code)?;
    Ok(rows.columns.iter().map(encoded).collect())
}

#[test]
fn names_of_types_are_found_from_the_inside_out() {
    let reading = [fixed_64(1, 21.5f64.to_bits()), number(2, 7)].concat();
    let register = [bytes(1, "a"), fixed_64(2, 1.5f64.to_bits())].concat();
    let payload = [number(4, 1), bytes(6, reading), bytes(7, register)].concat();
    let rows = |names: [&str; 3]| {
        let options = protobuf_of(&schema_with(names, &[]), "p.Device", json!({}));
        let mut rows = Rows::of(&route(options), table(&[("state", "String")]));
        rows.append(&payload).unwrap();
        let mut row: Vec<Vec<u8>> = rows.columns.iter().map(encoded).collect();
        let options = protobuf_of(&schema_with(names, &[]), "p.Device", json!({ "rows": "readings" }));
        let mut rows =
            Rows::of(&route(options), table(&[("value", "Float64"), ("registers", "Map(String, Float64)")]));
        rows.append(&payload).unwrap();
        row.extend(rows.columns.iter().map(encoded));
        row
    };
    let count = 1u64.to_le_bytes().to_vec();
    let expected = vec![texts(&["BUSY"]), floats(&[21.5]), [count, texts(&["a"]), floats(&[1.5])].concat()];
    for names in [
        [".p.State", ".p.Reading", ".p.Device.RegistersEntry"],
        ["State", "Reading", "RegistersEntry"],
        ["p.State", "p.Reading", "Device.RegistersEntry"],
    ] {
        assert_eq!(rows(names), expected, "{names:?}");
    }
}

#[test]
fn names_in_json_are_known_where_the_schema_leaves_them_out() {
    let reading = [fixed_64(1, 21.5f64.to_bits()), number(2, 7)].concat();
    let names = [".p.State", ".p.Reading", ".p.Device.RegistersEntry"];
    for json_name in [bytes(10, "atMs"), Vec::new()] {
        let schema = schema_with(names, &json_name);
        let decoded = |options: Value, columns: &[(&str, &str)]| {
            let mut rows = Rows::of(&route(protobuf_of(&schema, "p.Device", options)), table(columns));
            rows.append(&bytes(6, &reading)).unwrap();
            rows.columns.iter().map(encoded).collect::<Vec<_>>()
        };
        let (count, seven) = (1u64.to_le_bytes().to_vec(), 7i64.to_le_bytes().to_vec());
        let options = json!({ "columns": { "at": "readings[0].atMs" } });
        assert_eq!(decoded(options, &[("at", "Int64")]), std::slice::from_ref(&seven));
        let options = json!({ "columns": { "r": "readings" } });
        let columns = [("r.atMs", "Array(Int64)"), ("r.value", "Array(Float64)")];
        let expected = [[count.clone(), seven].concat(), [count, floats(&[21.5])].concat()];
        assert_eq!(decoded(options, &columns), expected);
    }
}

#[test]
fn every_kind_of_field_is_read() {
    let seen = [number(1, 1_730_000_000), number(2, 123_000_000)].concat();
    let register = [bytes(1, "a"), fixed_64(2, 1.5f64.to_bits())].concat();
    let payload = [
        bytes(1, "d1"),
        number(2, u64::MAX),
        number(3, 9),
        number(4, 1),
        bytes(5, [varint(1), varint(-2i64 as u64)].concat()),
        number(5, 3),
        bytes(7, register),
        bytes(8, seen),
        number(9, 0),
        bytes(10, [0, 255]),
        fixed_32(11, 0.1f32.to_bits()),
        bytes(13, "r"),
        // A field that the schema does not know.
        bytes(99, "?"),
    ]
    .concat();
    let count = |n: u64| n.to_le_bytes().to_vec();
    let numbers =
        |numbers: &[i32]| numbers.iter().flat_map(|number| number.to_le_bytes()).collect::<Vec<_>>();
    let expected = vec![
        texts(&["d1"]),
        vec![255; 8],
        (-5i32).to_le_bytes().to_vec(),
        texts(&["BUSY"]),
        [count(3), numbers(&[1, -2, 3])].concat(),
        [count(1), texts(&["a"]), floats(&[1.5])].concat(),
        [vec![0], 1_730_000_000_123i64.to_le_bytes().to_vec()].concat(),
        vec![0, 0, 0, 0, 0],
        vec![2, 0, 255],
        floats(&[0.1]),
        vec![1, 0],
        [vec![0], texts(&["r"])].concat(),
    ];
    assert_eq!(device(json!({}), &DEVICE, &payload), Ok(expected));
    // Nothing but zeros: only what has presence is missing.
    let zeros = vec![
        vec![0],
        vec![0; 8],
        vec![0; 4],
        texts(&["IDLE"]),
        vec![0; 8],
        vec![0; 8],
        [vec![1], vec![0; 8]].concat(),
        vec![1, 0, 0, 0, 0],
        vec![0],
        vec![0; 8],
        vec![1, 0],
        vec![1, 0],
    ];
    assert_eq!(device(json!({}), &DEVICE, b""), Ok(zeros));
}

#[test]
fn enums_fill_names_and_numbers() {
    for (type_name, value, expected) in [
        ("UInt8", 1, Ok(vec![1])),
        ("Enum8('IDLE' = 5, 'BUSY' = 6)", 1, Ok(vec![6])),
        ("Enum8('a' = 0, 'b' = 1)", 1, Ok(vec![1])),
        ("LowCardinality(String)", 7, Ok(texts(&["7"]))),
        ("UInt8", 7, Ok(vec![7])),
        ("Bool", 1, Err(Code::TypeMismatch)),
    ] {
        let got = device(json!({}), &[("state", type_name)], &number(4, value));
        assert_eq!(got, expected.map(|bytes| vec![bytes]), "{type_name} {value}");
    }
}

#[test]
fn rows_and_json_names_work_as_in_json() {
    let reading = |value: f64, at: u64| bytes(6, [fixed_64(1, value.to_bits()), number(2, at)].concat());
    let payload = [bytes(1, "d"), reading(1.5, 10), reading(2.5, 20)].concat();
    let columns = [("id", "String"), ("value", "Float64"), ("at", "Int64")];
    let options = json!({ "rows": "readings", "columns": { "at": "atMs" } });
    let times = [10i64, 20].iter().flat_map(|at| at.to_le_bytes()).collect();
    assert_eq!(device(options, &columns, &payload), Ok(vec![texts(&["d", "d"]), floats(&[1.5, 2.5]), times]));
}

#[test]
fn fields_that_the_schema_has_not_are_ignored_or_refused() {
    let payload = [bytes(1, "d"), number(99, 5), bytes(6, [fixed_64(1, 0), number(77, 1)].concat())].concat();
    let columns = [("id", "String")];
    assert_eq!(device(json!({}), &columns, &payload), Ok(vec![texts(&["d"])]));
    let reject = json!({ "unknownFields": "reject", "columns": { "all": "readings" } });
    let columns = [("id", "String"), ("all", "String")];
    assert_eq!(device(reject.clone(), &columns, &payload), Err(Code::UnknownField));
    let known = [bytes(1, "d"), bytes(6, fixed_64(1, 0))].concat();
    let others = "big change state codes registers raw ratio";
    let known_columns: Vec<_> =
        columns.into_iter().chain(others.split(' ').map(|name| (name, "String"))).collect();
    assert!(device(reject.clone(), &known_columns, &known).is_ok());
    assert_eq!(device(reject, &known_columns, &[known, number(99, 5)].concat()), Err(Code::UnknownField));
}

#[test]
fn a_payload_that_is_not_a_message_is_a_dead_letter() {
    for payload in [
        vec![0x0a],
        vec![0x0a, 5, b'a'],
        vec![0x08],
        vec![0x07, 1],
        vec![0x00, 1],
        number(1, 5),
        [vec![0x10], vec![0xff; 11]].concat(),
        bytes(5, [0xff]),
        bytes(8, &bytes(1, "x")[..1]),
    ] {
        assert_eq!(device(json!({}), &DEVICE, &payload), Err(Code::PayloadInvalid), "{payload:?}");
    }
}

const METRICS: [(&str, &str); 12] = [
    ("group", "String"),
    ("node", "String"),
    ("device", "Nullable(String)"),
    ("type", "String"),
    ("name", "String"),
    ("timestamp", "DateTime64(3, 'UTC')"),
    ("value", "Variant(Bool, Float64, Int64, String, UInt64)"),
    ("int_value", "Nullable(Int64)"),
    ("float_value", "Nullable(Float64)"),
    ("bool_value", "Nullable(Bool)"),
    ("string_value", "Nullable(String)"),
    ("is_null", "Bool"),
];

fn metric(parts: &[Vec<u8>]) -> Vec<u8> {
    bytes(2, parts.concat())
}

fn rows() -> Rows {
    Rows::of(&route(json!({ "format": "sparkplug" })), table(&METRICS))
}

fn column(rows: &Rows, name: &str) -> Vec<u8> {
    encoded(&rows.columns[METRICS.iter().position(|(column, _)| *column == name).unwrap()])
}

#[test]
fn metrics_are_rows_with_the_names_and_types_of_their_birth() {
    let mut rows = rows();
    let birth = [
        number(1, 1_000),
        metric(&[bytes(1, "t"), number(2, 1), number(4, 3), number(10, 4_294_967_291)]),
        metric(&[bytes(1, "small"), number(2, 2), number(4, 1), number(10, 251)]),
        metric(&[bytes(1, "on"), number(2, 3), number(3, 2_000), number(4, 11), number(14, 1)]),
    ];
    assert_eq!(rows.decode_as("spBv1.0/g/NBIRTH/n", &birth.concat()), Ok(3));
    let data = [
        number(1, 3_000),
        number(3, 1),
        metric(&[number(2, 1), number(10, 4_294_967_290)]),
        metric(&[number(2, 2), number(7, 1)]),
        metric(&[bytes(1, "free"), fixed_64(13, 1.5f64.to_bits())]),
        metric(&[bytes(1, "text"), bytes(15, "x")]),
    ];
    assert_eq!(rows.decode_as("spBv1.0/g/DDATA/n/d", &data.concat()), Ok(4));
    assert_eq!(column(&rows, "name"), texts(&["t", "small", "on", "t", "small", "free", "text"]));
    assert_eq!(
        column(&rows, "type"),
        texts(&["NBIRTH", "NBIRTH", "NBIRTH", "DDATA", "DDATA", "DDATA", "DDATA"])
    );
    assert_eq!(column(&rows, "is_null"), [0, 0, 0, 0, 1, 0, 0]);
    let times = column(&rows, "timestamp");
    let times: Vec<i64> = times.chunks(8).map(|time| i64::from_le_bytes(time.try_into().unwrap())).collect();
    assert_eq!(times, [1_000, 1_000, 2_000, 3_000, 3_000, 3_000, 3_000]);
    let integers = column(&rows, "int_value");
    assert_eq!(integers[..7], [0, 0, 1, 0, 1, 1, 1]);
    let integers: Vec<i64> =
        integers[7..].chunks(8).map(|v| i64::from_le_bytes(v.try_into().unwrap())).collect();
    assert_eq!((integers[0], integers[1], integers[3]), (-5, -5, -6));
    assert_eq!(column(&rows, "float_value")[..7], [1, 1, 1, 1, 1, 0, 1]);
    assert_eq!(column(&rows, "bool_value")[..7], [1, 1, 0, 1, 1, 1, 1]);
    assert_eq!(column(&rows, "string_value")[..7], [1, 1, 1, 1, 1, 1, 0]);

    // An alias of another node, and one that a new birth has not named.
    for topic in ["spBv1.0/g/NDATA/other", "spBv1.0/other/NDATA/n"] {
        let got = rows.decode_as(topic, &metric(&[number(2, 1), number(10, 1)]));
        assert_eq!(got.unwrap_err().code, Code::AliasUnknown);
    }
    let again = metric(&[bytes(1, "t"), number(2, 9), number(4, 3), number(10, 1)]);
    assert_eq!(rows.decode_as("spBv1.0/g/NBIRTH/n", &again), Ok(1));
    let gone = rows.decode_as("spBv1.0/g/NDATA/n", &metric(&[number(2, 1), number(10, 1)]));
    assert_eq!(gone.unwrap_err().code, Code::AliasUnknown);
    assert_eq!(rows.decode_as("elsewhere/g/NDATA/n", &again).unwrap_err().code, Code::PayloadInvalid);
}

#[test]
fn each_of_many_metrics_takes_as_long_as_the_first() {
    // Where each costs as many steps as there are metrics, this takes thousands of times as many.
    let mut rows = rows();
    let metrics = metric(&[bytes(1, "a")]).repeat(25_000);
    assert_eq!(rows.decode_as("spBv1.0/g/NDATA/n", &metrics), Ok(25_000));
    // The same within a template, whose members have names.
    let members = bytes(2, bytes(1, "a")).repeat(300_000);
    let template = metric(&[bytes(1, "t"), bytes(18, members)]);
    assert_eq!(rows.decode_as("spBv1.0/g/NDATA/n", &template), Ok(1));
}

#[test]
fn a_name_that_each_metric_repeats_takes_its_memory_each_time() {
    let mut rows = rows();
    let birth = metric(&[bytes(1, "n".repeat(60_000)), number(2, 1), number(4, 3)]);
    assert_eq!(rows.decode_as("spBv1.0/g/NBIRTH/n", &birth), Ok(1));
    let data = metric(&[number(2, 1)]).repeat(10_000);
    let reason = rows.decode_as("spBv1.0/g/NDATA/n", &data).unwrap_err();
    assert_eq!(reason.code, Code::PayloadTooLarge);
    assert!(reason.message.starts_with("its values take more than"), "{}", reason.message);
}

#[test]
fn an_excluded_birth_is_read_nevertheless() {
    let options = json!({
        "topic": "spBv1.0/{group}/{type}/{node#}",
        "format": "sparkplug",
        "where": { "and": [{ "topic": "type", "eq": "NDATA" }, { "path": "name", "ne": "small" }] },
    });
    let mut rows = Rows::on("spBv1.0/g/NBIRTH/n", &route(options.clone()), table(&METRICS));
    let birth = [
        number(1, 1_000),
        metric(&[bytes(1, "t"), number(2, 1), number(4, 3), number(10, 5)]),
        metric(&[bytes(1, "small"), number(2, 2), number(4, 1), number(10, 6)]),
    ];
    assert_eq!(rows.decode_as("spBv1.0/g/NBIRTH/n", &birth.concat()), Ok(0));
    assert!(rows.has_excluded());
    rows.capture("spBv1.0/g/NDATA/n", &route(options));
    let data =
        [number(1, 2_000), metric(&[number(2, 2), number(10, 7)]), metric(&[number(2, 1), number(10, 8)])];
    assert_eq!(rows.decode_as("spBv1.0/g/NDATA/n", &data.concat()), Ok(1));
    assert_eq!(column(&rows, "name"), texts(&["t"]));
}

#[test]
fn fields_of_protobuf_are_judged_by_either_name() {
    let judged = |condition: Value| {
        let payload = [bytes(1, "a"), number(2, 7)].concat();
        device(json!({ "where": condition }), &[("id", "String")], &payload).map(|columns| columns[0].clone())
    };
    assert_eq!(judged(json!({ "path": "id", "eq": "a" })), Ok(texts(&["a"])));
    assert_eq!(judged(json!({ "path": "big", "gt": 7 })), Ok(texts(&[])));
    let reading = |value: f64, at: u64| bytes(6, [fixed_64(1, value.to_bits()), number(2, at)].concat());
    let payload = [bytes(1, "d"), reading(1.5, 10), reading(2.5, 20)].concat();
    for name in ["at_ms", "atMs"] {
        let options = json!({ "rows": "readings", "where": { "path": name, "gt": 10 } });
        let got = device(options, &[("id", "String"), ("value", "Float64")], &payload);
        assert_eq!(got, Ok(vec![texts(&["d"]), floats(&[2.5])]), "{name}");
    }
}

#[test]
fn a_death_is_dated_when_it_arrived_and_compressed_payloads_are_unpacked() {
    let mut rows = rows();
    let death =
        [number(1, 5_000), metric(&[bytes(1, "bdSeq"), number(3, 5_000), number(4, 4), number(11, 0)])];
    assert_eq!(rows.decode_as("spBv1.0/g/NDEATH/n", &death.concat()), Ok(1));
    let arrived = 1_730_000_000_123i64.to_le_bytes();
    assert_eq!(column(&rows, "timestamp"), arrived);
    let inner =
        [number(1, 7_000), metric(&[bytes(1, "t"), number(4, 10), fixed_64(13, 2.5f64.to_bits())])].concat();
    let packed = {
        use std::io::Write;
        let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::default());
        encoder.write_all(&inner).unwrap();
        encoder.finish().unwrap()
    };
    let payload = [bytes(4, "SPBV1.0_COMPRESSED"), bytes(5, packed)].concat();
    assert_eq!(rows.decode_as("spBv1.0/g/DDATA/n/d", &payload), Ok(1));
    assert_eq!(column(&rows, "timestamp")[8..], 7_000i64.to_le_bytes());
}

#[test]
fn a_data_set_with_times_is_rows() {
    let cell = |content: Vec<u8>| bytes(1, content);
    let data_set = |times: &str| {
        let row = |at: u64, speed: f64, state: &str| {
            bytes(
                4,
                [cell(number(2, at)), cell(fixed_64(4, speed.to_bits())), cell(bytes(6, state))].concat(),
            )
        };
        let names = [bytes(2, times), bytes(2, "speed"), bytes(2, "state")].concat();
        let types = [number(3, 4), number(3, 10), number(3, 12)].concat();
        [number(1, 3), names, types, row(1_500, 1.5, "on"), row(2_500, -2.0, "off")].concat()
    };
    let columns = [
        ("name", "String"),
        ("timestamp", "DateTime64(3, 'UTC')"),
        ("speed", "Nullable(Float64)"),
        ("state", "Nullable(String)"),
        ("value", "Nullable(String)"),
    ];
    let options =
        json!({ "format": "sparkplug", "columns": { "speed": "value.speed", "state": "value.state" } });
    let decoded = |content: Vec<u8>| {
        let mut rows = Rows::of(&route(options.clone()), table(&columns));
        let payload =
            [number(1, 9_000), metric(&[bytes(1, "history"), number(4, 16), bytes(17, content)])].concat();
        let count = rows.decode_as("spBv1.0/g/NDATA/n", &payload);
        (count, rows.columns.iter().map(encoded).collect::<Vec<_>>())
    };
    let millis = |times: &[i64]| times.iter().flat_map(|at| at.to_le_bytes()).collect::<Vec<u8>>();
    let (count, columns) = decoded(data_set("timestamps"));
    assert_eq!(count, Ok(2));
    assert_eq!(columns[0], texts(&["history", "history"]));
    assert_eq!(columns[1], millis(&[1_500, 2_500]));
    assert_eq!(columns[2], [vec![0, 0], floats(&[1.5, -2.0])].concat());
    assert_eq!(columns[3], [vec![0, 0], texts(&["on", "off"])].concat());
    let (count, columns) = decoded(data_set("at"));
    assert_eq!(count, Ok(1));
    assert_eq!(columns[1], millis(&[9_000]));
    let list = r#"[{"at":1500,"speed":1.5,"state":"on"},{"at":2500,"speed":-2,"state":"off"}]"#;
    assert_eq!(columns[4], [vec![0], texts(&[list])].concat());
    let without_time = [bytes(2, "timestamps"), bytes(4, cell(Vec::new()))].concat();
    assert_eq!(decoded(without_time).0.unwrap_err().code, Code::PayloadInvalid);
}

#[test]
fn a_broken_message_says_where_in_the_payload() {
    let reason = |options: Value, payload: &[u8]| {
        let mut rows = Rows::of(&options, table(&[("n", "Nullable(UInt32)")]));
        let reason = rows.append(payload).unwrap_err();
        assert_eq!(reason.code, Code::PayloadInvalid);
        reason.message.to_string()
    };
    let mut metrics = Rows::of(&route(json!({ "format": "sparkplug" })), table(&[("name", "String")]));
    // The second metric has a name that is said to be longer than the metric.
    let payload = [metric(&[bytes(1, "t")]), metric(&[vec![0x0a, 9, b'x']])].concat();
    let broken = metrics.decode_as("spBv1.0/g/NDATA/n", &payload).unwrap_err();
    assert!(broken.message.ends_with("it is shorter than it announces, at byte 9"), "{}", broken.message);
    let payload = [bytes(1, "a"), bytes(6, number(1, 5))].concat();
    let message = reason(route(protobuf("p.Device", json!({}))), &payload);
    assert!(message.ends_with("the field value has the wire type of another, at byte 6"), "{message}");
    let csv =
        |payload: &[u8]| reason(route(json!({ "format": { "type": "csv", "columns": ["n"] } })), payload);
    assert!(csv(b"1\n2,3\n").ends_with("in line 2, at byte 2"), "{}", csv(b"1\n2,3\n"));
    assert!(csv(b"1\n\xff\n").ends_with("it is not UTF-8, at byte 2"));
    let gzip = |payload: &[u8]| reason(route(json!({ "compression": "gzip" })), payload);
    assert!(gzip(b"{}").contains(", at byte "), "{}", gzip(b"{}"));
}
