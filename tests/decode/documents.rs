//! Formats other than JSON, and what a walk over JSON cannot give: each payload into a table, as the text of its columns.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use millrace::clickhouse::ColumnType;
use millrace::clickhouse::schema::TableColumn;
use millrace::core::reason::Code;
use proptest::prelude::*;
use serde_json::{Value, json};

use crate::rows::{Rows, encoded};

pub fn table(columns: &[(&str, &str)]) -> Vec<TableColumn> {
    let column = |(name, type_name): &(&str, &str)| TableColumn {
        name: name.to_string(),
        column_type: ColumnType::parse(type_name, "UTC").unwrap(),
        default: None,
        is_ephemeral: false,
        is_added: false,
    };
    columns.iter().map(column).collect()
}

pub fn route(options: Value) -> Value {
    let mut route = json!({ "topic": "#", "table": "t" });
    route.as_object_mut().unwrap().extend(options.as_object().unwrap().clone());
    route
}

/// The bytes of each column after a payload, or the code of its dead letter.
fn decoded(options: Value, columns: &[(&str, &str)], payload: &[u8]) -> Result<Vec<Vec<u8>>, Code> {
    let mut rows = Rows::of(&route(options), table(columns));
    rows.append(payload).map_err(|reason| reason.code)?;
    Ok(rows.columns.iter().map(encoded).collect())
}

pub fn floats(values: &[f64]) -> Vec<u8> {
    values.iter().flat_map(|value| value.to_le_bytes()).collect()
}

pub fn texts(values: &[&str]) -> Vec<u8> {
    values.iter().flat_map(|value| [&[value.len() as u8], value.as_bytes()].concat()).collect()
}

const GW: [(&str, &str); 3] = [("gw", "String"), ("dev", "String"), ("v", "Float64")];

#[test]
fn any_key_and_its_name_are_found() {
    let options = json!({ "columns": { "event": { "key": "$.*" }, "lat": "*.lat" } });
    let columns = [("event", "String"), ("lat", "Float64")];
    for name in ["VP", "DEP"] {
        let payload = format!(r#"{{"{name}":{{"lat":60.1}}}}"#);
        let expected = vec![texts(&[name]), floats(&[60.1])];
        assert_eq!(decoded(options.clone(), &columns, payload.as_bytes()), Ok(expected));
    }
    assert_eq!(decoded(options, &columns, b"{}"), Err(Code::FieldMissing));
}

#[test]
fn the_last_item_and_the_first_of_several_paths_are_found() {
    let options = json!({ "columns": { "last": "v[-1]", "lat": ["lat", "latitude", "gps.lat"] } });
    let columns = [("last", "Float64"), ("lat", "Float64")];
    for (payload, last, lat) in [
        (r#"{"v":[1,2,3],"lat":1}"#, 3.0, 1.0),
        (r#"{"v":[4],"lat":null,"latitude":2}"#, 4.0, 2.0),
        (r#"{"v":[4,5],"gps":{"lat":3}}"#, 5.0, 3.0),
    ] {
        let expected = vec![floats(&[last]), floats(&[lat])];
        assert_eq!(decoded(options.clone(), &columns, payload.as_bytes()), Ok(expected), "{payload}");
    }
    assert_eq!(decoded(options, &columns, br#"{"v":[],"lat":1}"#), Err(Code::FieldMissing));
}

#[test]
fn rows_may_lie_within_rows() {
    let payload = br#"{"gw":"g1","devices":[{"dev":"a","readings":[{"v":1},{"v":2}]},{"dev":"b","readings":[{"v":3}]},{"dev":"c"}]}"#;
    let expected = vec![texts(&["g1", "g1", "g1"]), texts(&["a", "a", "b"]), floats(&[1.0, 2.0, 3.0])];
    for rows in ["devices[*].readings[*]", "devices[*].readings", "$.devices[*].readings[*]"] {
        let got = decoded(json!({ "rows": rows, "unknownFields": "reject" }), &GW, payload);
        assert_eq!(got, Ok(expected.clone()), "{rows}");
    }
    let missing = decoded(json!({ "rows": "devices[*].readings[*]" }), &GW, br#"{"gw":"g1"}"#);
    assert_eq!(missing, Err(Code::FieldMissing));
    let unknown = br#"{"gw":"g1","devices":[{"dev":"a","readings":[{"v":1,"w":2}]}]}"#;
    let options = json!({ "rows": "devices[*].readings[*]", "unknownFields": "reject" });
    assert_eq!(decoded(options, &GW, unknown), Err(Code::UnknownField));
}

#[test]
fn members_may_be_rows() {
    let options = json!({ "rows": "sensors.*", "columns": { "dev": { "key": "@" }, "v": "@" } });
    let payload = br#"{"gw":"g","sensors":{"t":21.5,"h":40}}"#;
    let expected = vec![texts(&["g", "g"]), texts(&["t", "h"]), floats(&[21.5, 40.0])];
    assert_eq!(decoded(options, &GW, payload), Ok(expected));
}

#[test]
fn lists_may_lie_side_by_side() {
    let options = json!({ "rows": { "zip": { "at": "series.at", "v": "series.v" } } });
    let columns = [("at", "DateTime64(3, 'UTC')"), ("v", "Float64"), ("gw", "String")];
    let payload = br#"{"gw":"g","series":{"at":[1760000000000,1760000060000],"v":[1.5,2.5]}}"#;
    let times = [1_760_000_000_000i64, 1_760_000_060_000].iter().flat_map(|at| at.to_le_bytes()).collect();
    let expected = vec![times, floats(&[1.5, 2.5]), texts(&["g", "g"])];
    assert_eq!(decoded(options.clone(), &columns, payload), Ok(expected));
    for (payload, code) in [
        (r#"{"gw":"g","series":{"at":[1],"v":[1,2]}}"#, Code::TypeMismatch),
        (r#"{"gw":"g","series":{"at":[1]}}"#, Code::FieldMissing),
        (r#"{"gw":"g","series":{"at":[1],"v":2}}"#, Code::TypeMismatch),
    ] {
        assert_eq!(decoded(options.clone(), &columns, payload.as_bytes()), Err(code), "{payload}");
    }
}

#[test]
fn a_nested_is_filled_from_a_list_elsewhere() {
    let columns = [("n", "UInt8"), ("who.name", "Array(String)"), ("who.kind", "Array(String)")];
    let options = json!({ "columns": { "who": "unit.who" } });
    let end = 2u64.to_le_bytes().to_vec();
    let expected =
        vec![vec![1], [end.clone(), texts(&["a", "b"])].concat(), [end, texts(&["k", "l"])].concat()];
    let listed = br#"{"n":1,"unit":{"who":[{"name":"a","kind":"k"},{"name":"b","kind":"l"}]}}"#;
    let lists = br#"{"n":1,"unit":{"who":{"name":["a","b"],"kind":["k","l"]}}}"#;
    for payload in [&listed[..], lists] {
        assert_eq!(decoded(options.clone(), &columns, payload), Ok(expected.clone()));
        // The same from a tape.
        let on_tape = json!({ "columns": { "who": "unit.who" }, "nan": "null" });
        assert_eq!(decoded(on_tape, &columns, payload), Ok(expected.clone()));
    }
}

#[test]
fn values_may_mean_nothing_or_something_else() {
    let columns = [("v", "Nullable(Float64)")];
    let null = vec![vec![1, 0, 0, 0, 0, 0, 0, 0, 0]];
    let value = |value: f64| vec![[vec![0], floats(&[value])].concat()];
    let source = |options: Value| {
        let mut source = json!({ "path": "v" });
        source.as_object_mut().unwrap().extend(options.as_object().unwrap().clone());
        json!({ "columns": { "v": source } })
    };
    for (options, payload, expected) in [
        (source(json!({ "nulls": ["N/A", ""] })), r#"{"v":"N/A"}"#, Ok(null.clone())),
        (source(json!({ "nulls": ["N/A", ""] })), r#"{"v":"5"}"#, Ok(value(5.0))),
        (json!({ "nulls": "unknown" }), r#"{"v":"unknown"}"#, Ok(null.clone())),
        (source(json!({ "map": { "low": 1, "high": 2.5, "*": null } })), r#"{"v":"high"}"#, Ok(value(2.5))),
        (source(json!({ "map": { "low": 1, "high": 2.5, "*": null } })), r#"{"v":"odd"}"#, Ok(null.clone())),
        (source(json!({ "map": { "7": 8 } })), r#"{"v":7}"#, Ok(value(8.0))),
        (source(json!({ "scale": 3.6 })), r#"{"v":1.1}"#, Ok(value(3.96))),
        (source(json!({ "scale": 1.8, "offset": 32 })), r#"{"v":"25.3"}"#, Ok(value(77.54))),
        (source(json!({ "parse": "number" })), r#"{"v":"21,5 °C"}"#, Ok(value(21.5))),
        (source(json!({ "parse": "number" })), r#"{"v":"much"}"#, Err(Code::TypeMismatch)),
        (json!({ "nan": "null" }), r#"{"v":NaN}"#, Ok(null.clone())),
        (json!({ "nan": "value" }), r#"{"v":-Infinity}"#, Ok(value(f64::NEG_INFINITY))),
        (json!({}), r#"{"v":NaN}"#, Err(Code::JsonInvalid)),
        (json!({ "nan": "null" }), r#"{"v":NaNa}"#, Err(Code::JsonInvalid)),
    ] {
        assert_eq!(decoded(options.clone(), &columns, payload.as_bytes()), expected, "{options} {payload}");
    }
}

#[test]
fn a_text_may_be_json_or_bytes() {
    let inner = json!({ "columns": { "body": { "path": "payload", "parse": "json" }, "t": "payload.t" } });
    let columns = [("n", "UInt8"), ("t", "Nullable(Float64)"), ("body", "String")];
    let payload = br#"{"n":1,"payload":"{\"t\":1.5}","more":[1,{"a":2}]}"#;
    let expected = vec![vec![1], [vec![0], floats(&[1.5])].concat(), texts(&[r#"{"t":1.5}"#])];
    assert_eq!(decoded(inner.clone(), &columns, payload), Ok(expected));
    assert_eq!(decoded(inner, &columns, br#"{"n":1,"payload":"{"}"#), Err(Code::JsonInvalid));
    for (parse, text) in [("base64", "AP8="), ("base64", "AP8"), ("hex", "00ff"), ("hex", "0x00FF")] {
        let options = json!({ "columns": { "b": { "path": "b", "parse": parse } } });
        let payload = format!(r#"{{"b":"{text}"}}"#);
        let expected = vec![vec![2, 0, 255]];
        assert_eq!(decoded(options, &[("b", "String")], payload.as_bytes()), Ok(expected), "{text}");
    }
    let options = json!({ "columns": { "b": { "path": "b", "parse": "hex" } } });
    assert_eq!(decoded(options, &[("b", "String")], br#"{"b":"0g"}"#), Err(Code::TypeMismatch));
}

#[test]
fn a_text_payload_is_one_value() {
    let options = |column: Value| json!({ "format": "text", "columns": { "v": column } });
    let number = [("v", "Float64")];
    assert_eq!(decoded(options(json!("$")), &number, b"21.5"), Ok(vec![floats(&[21.5])]));
    assert_eq!(decoded(options(json!("$")), &number, b" 21.5\r\n\0"), Ok(vec![floats(&[21.5])]));
    assert_eq!(decoded(options(json!("$")), &number, b"unavailable"), Err(Code::TypeMismatch));
    assert_eq!(decoded(options(json!("$")), &[("v", "Bool")], b"ON"), Ok(vec![vec![1]]));
    assert_eq!(decoded(options(json!("$")), &[("v", "String")], b"21.50"), Ok(vec![texts(&["21.50"])]));
    assert_eq!(decoded(options(json!("$")), &[("v", "String")], &[0xff]), Ok(vec![vec![1, 0xff]]));
    assert_eq!(
        decoded(options(json!("$")), &[("v", "Date")], b"20261130"),
        Ok(vec![20_787u16.to_le_bytes().to_vec()])
    );
    let nulls = options(json!({ "path": "$", "nulls": ["unavailable", "nan"] }));
    let got = decoded(nulls, &[("v", "Nullable(Float64)")], b"unavailable");
    assert_eq!(got, Ok(vec![vec![1, 0, 0, 0, 0, 0, 0, 0, 0]]));
    let open = [("v", "Variant(Float64, String)")];
    let float = [vec![0; 9], floats(&[21.5])].concat();
    assert_eq!(decoded(options(json!("$")), &open, b"21.5"), Ok(vec![float]));
}

#[test]
fn lines_of_values_are_rows() {
    let columns = [("t", "Float64"), ("h", "String")];
    let csv = |options: Value| {
        let mut format = json!({ "type": "csv" });
        format.as_object_mut().unwrap().extend(options.as_object().unwrap().clone());
        json!({ "format": format })
    };
    let expected = Ok(vec![floats(&[21.5, 22.5]), texts(&["a", "b,\"c"])]);
    for (options, payload) in [
        (csv(json!({ "columns": ["t", "h"] })), "21.5,a\r\n22.5,\"b,\"\"c\"\n"),
        (csv(json!({ "header": true })), "h,t\na,21.5\n\n\"b,\"\"c\",22.5"),
        (json!({ "format": "csv" }), "t,h\n21.5,a\n22.5,\"b,\"\"c\""),
        (csv(json!({ "columns": ["t", "h"], "delimiter": ";", "decimal": "," })), "21,5;a\n22,5;b,\"c\n"),
        (csv(json!({ "pairs": "=", "delimiter": ";" })), "t=21.5;h=a;\nh=b,\"c; t = 22.5"),
    ] {
        assert_eq!(decoded(options.clone(), &columns, payload.as_bytes()), expected, "{options}");
    }
    for payload in ["21.5,a,more", "21.5,\"a", "21.5,\"a\"b"] {
        let options = csv(json!({ "columns": ["t", "h"] }));
        assert_eq!(decoded(options, &columns, payload.as_bytes()), Err(Code::PayloadInvalid), "{payload}");
    }
    assert_eq!(decoded(csv(json!({ "columns": ["t", "h"] })), &columns, b"21.5"), Err(Code::FieldMissing));
}

pub fn hex(text: &str) -> Vec<u8> {
    let digits: Vec<u8> = text.chars().filter_map(|c| c.to_digit(16)).map(|digit| digit as u8).collect();
    digits.chunks(2).map(|pair| pair[0] << 4 | pair[1]).collect()
}

#[test]
fn messagepack_fills_every_type() {
    for (payload, type_name, expected) in [
        // {"v": …}
        ("81a176 05", "UInt8", vec![5]),
        ("81a176 fb", "Int8", vec![251]),
        ("81a176 cd0100", "UInt16", vec![0, 1]),
        ("81a176 cfffffffffffffffff", "UInt64", vec![255; 8]),
        ("81a176 d38000000000000000", "Int64", vec![0, 0, 0, 0, 0, 0, 0, 128]),
        // 2^32 as JavaScript writes it: a float.
        ("81a176 cb41f0000000000000", "UInt64", vec![0, 0, 0, 0, 1, 0, 0, 0]),
        ("81a176 01", "Float64", floats(&[1.0])),
        ("81a176 ca3fc00000", "Float64", floats(&[1.5])),
        ("81a176 c3", "Bool", vec![1]),
        ("81a176 a26869", "String", texts(&["hi"])),
        ("81a176 c40200ff", "String", vec![2, 0, 255]),
        ("81a176 c40200ff", "FixedString(2)", vec![0, 255]),
        ("81a176 920102", "Array(UInt8)", vec![2, 0, 0, 0, 0, 0, 0, 0, 1, 2]),
        (
            "81a176 820a01a16202",
            "Map(String, UInt8)",
            [vec![2, 0, 0, 0, 0, 0, 0, 0], texts(&["10", "b"]), vec![1, 2]].concat(),
        ),
        ("81a176 8101a161", "String", texts(&[r#"{"1":"a"}"#])),
        ("81a176 c0", "Nullable(UInt8)", vec![1, 0]),
        ("81a176 d40000", "Nullable(UInt8)", vec![1, 0]),
        ("de0001a176 05", "UInt8", vec![5]),
        // Times of 4, 8 and 12 bytes, and of msgpack-lite.
        ("81a176 d6ff671db440", "DateTime", 0x671d_b440u32.to_le_bytes().to_vec()),
        (
            "81a176 d7ff1dcd6500671db440",
            "DateTime64(3)",
            (0x671d_b440i64 * 1000 + 125).to_le_bytes().to_vec(),
        ),
        ("81a176 c70cff00000000ffffffffffffffff", "DateTime64(3)", (-1000i64).to_le_bytes().to_vec()),
        ("81a176 c7080d 42792cc091400000", "DateTime64(0)", 1_730_000_000i64.to_le_bytes().to_vec()),
        ("81a176 c7090dcb 42792cc091400000", "DateTime64(0)", 1_730_000_000i64.to_le_bytes().to_vec()),
        // The same as the shortest number: clocks that were never set.
        ("81a176 d40d00", "DateTime64(3)", 0i64.to_le_bytes().to_vec()),
        ("81a176 d40dff", "DateTime64(3)", (-1i64).to_le_bytes().to_vec()),
        ("81a176 c7050dce05265c00", "DateTime64(3)", 86_400_000i64.to_le_bytes().to_vec()),
    ] {
        let got = decoded(json!({ "format": "msgpack" }), &[("v", type_name)], &hex(payload));
        assert_eq!(got, Ok(vec![expected]), "{payload} {type_name}");
    }
}

#[test]
fn cbor_fills_every_type() {
    let big = "c249010000000000000000";
    for (payload, type_name, expected) in [
        // {"v": …}
        ("a16176 05", "UInt8", vec![5]),
        ("a16176 24", "Int8", vec![251]),
        ("a16176 1bffffffffffffffff", "UInt64", vec![255; 8]),
        ("a16176 3b7fffffffffffffff", "Int64", vec![0, 0, 0, 0, 0, 0, 0, 128]),
        ("a16176 f93e00", "Float64", floats(&[1.5])),
        ("a16176 f97c00", "Float64", floats(&[f64::INFINITY])),
        ("a16176 fa3fc00000", "Float64", floats(&[1.5])),
        ("a16176 fb41f0000000000000", "UInt64", vec![0, 0, 0, 0, 1, 0, 0, 0]),
        ("a16176 f5", "Bool", vec![1]),
        ("a16176 f6", "Nullable(UInt8)", vec![1, 0]),
        ("a16176 f7", "Nullable(UInt8)", vec![1, 0]),
        ("a16176 7f6168 6169ff", "String", texts(&["hi"])),
        ("a16176 4200ff", "String", vec![2, 0, 255]),
        ("bf6176 9f0102ffff", "Array(UInt8)", vec![2, 0, 0, 0, 0, 0, 0, 0, 1, 2]),
        ("d9d9f7 a16176 05", "UInt8", vec![5]),
        ("a16176 c482 21 196ab3", "Decimal(9, 2)", 27_315i32.to_le_bytes().to_vec()),
        (
            "a16176 c074 323032342d31302d32375430333a33333a32305a",
            "DateTime",
            1_730_000_000u32.to_le_bytes().to_vec(),
        ),
        ("a16176 c11a671db440", "DateTime", 0x671d_b440u32.to_le_bytes().to_vec()),
        ("a16176 c1fb41d9c76d2007df3b", "DateTime64(3)", 1_730_000_000_123i64.to_le_bytes().to_vec()),
        // A Map, and typed arrays: float32 little-endian, sint16 big-endian, float16.
        (
            "a16176 d90103 a1616b05",
            "Map(String, UInt8)",
            [vec![1, 0, 0, 0, 0, 0, 0, 0], texts(&["k"]), vec![5]].concat(),
        ),
        (
            "a16176 d855 48 0000c03f000020c0",
            "Array(Float64)",
            [vec![2, 0, 0, 0, 0, 0, 0, 0], floats(&[1.5, -2.5])].concat(),
        ),
        ("a16176 d849 44 fffe0100", "Array(Int16)", vec![2, 0, 0, 0, 0, 0, 0, 0, 254, 255, 0, 1]),
        ("a16176 d850 42 3e00", "Array(Float64)", [vec![1, 0, 0, 0, 0, 0, 0, 0], floats(&[1.5])].concat()),
        ("a16176 d8255000112233445566778899aabbccddeeff", "UUID", hex("7766554433221100ffeeddccbbaa9988")),
    ] {
        let got = decoded(json!({ "format": "cbor" }), &[("v", type_name)], &hex(payload));
        assert_eq!(got, Ok(vec![expected]), "{payload} {type_name}");
    }
    let odd = decoded(json!({ "format": "cbor" }), &[("v", "Array(Float64)")], &hex("a16176 d855 43 000000"));
    assert_eq!(odd, Err(Code::PayloadInvalid));
    let mut expected = vec![0; 16];
    expected[8] = 1;
    let got = decoded(json!({ "format": "cbor" }), &[("v", "UInt128")], &hex(&format!("a16176 {big}")));
    assert_eq!(got, Ok(vec![expected]));
    let got = decoded(json!({ "format": "cbor" }), &[("v", "Int128")], &hex("a16176 c349010000000000000000"));
    assert_eq!(got, Ok(vec![(-(1i128 << 64) - 1).to_le_bytes().to_vec()]));
}

#[test]
fn a_broken_document_is_a_dead_letter() {
    let columns = [("v", "UInt8")];
    let deep = |open: &str| open.repeat(100_000);
    for (format, payload) in [
        ("msgpack", String::new()),
        ("msgpack", "81a176".into()),
        ("msgpack", "81a17605 00".into()),
        ("msgpack", "81a176 c1".into()),
        ("msgpack", "df ffffffff".into()),
        ("msgpack", "81a176 dbffffffff".into()),
        ("msgpack", "81a176 d40505".into()),
        ("msgpack", "81a176 d57264a0".into()),
        ("msgpack", deep("91")),
        ("cbor", String::new()),
        ("cbor", "a16176".into()),
        ("cbor", "a1617605 00".into()),
        ("cbor", "bf6176 05".into()),
        ("cbor", "a16176 5bffffffffffffffff".into()),
        ("cbor", "a16176 9bffffffffffffffff".into()),
        ("cbor", "a16176 61ff".into()),
        ("cbor", "a16176 c005".into()),
        ("cbor", "a16176 d9ffff05".into()),
        ("cbor", "a16176 d9dfff05".into()),
        ("cbor", "a16176 1c".into()),
        ("cbor", "ff".into()),
        ("cbor", deep("81")),
        ("cbor", deep("c1")),
    ] {
        let mut rows = Rows::of(&route(json!({ "format": format })), table(&columns));
        let reason = rows.append(&hex(&payload)).unwrap_err();
        let shown = &payload[..payload.len().min(40)];
        assert_eq!(reason.code, Code::PayloadInvalid, "{format} {shown}");
        let message = &reason.message;
        assert!(payload.is_empty() || message.contains(", at byte "), "{format} {shown}: {message}");
    }
    assert_eq!(decoded(json!({ "format": "cbor" }), &columns, &hex("05")), Err(Code::NotAnObject));
}

#[test]
fn compressed_payloads_are_unpacked_up_to_a_limit() {
    let columns = [("n", "UInt8")];
    let gzip = STANDARD.decode("H4sIAAAAAAAAA6tWylOyMqwFAH47S9QHAAAA").unwrap();
    let zstd = zstd::encode_all(&br#"{"n":1}"#[..], 3).unwrap();
    let zlib = hex("789cab56ca53b232ac0500086b0216");
    for (compression, payload) in [
        ("gzip", &gzip),
        ("auto", &gzip),
        ("zlib", &zlib),
        ("auto", &zlib),
        ("zstd", &zstd),
        ("auto", &zstd),
        ("auto", &br#"{"n":1}"#.to_vec()),
    ] {
        let got = decoded(json!({ "compression": compression }), &columns, payload);
        assert_eq!(got, Ok(vec![vec![1]]), "{compression}");
    }
    let bomb = zstd::encode_all(&vec![b' '; 1 << 24][..], 3).unwrap();
    assert!(bomb.len() < 4096);
    let options = json!({ "compression": "zstd", "maxPayloadBytes": 65536 });
    assert_eq!(decoded(options, &columns, &bomb), Err(Code::PayloadTooLarge));
    assert_eq!(decoded(json!({ "compression": "gzip" }), &columns, b"{}"), Err(Code::PayloadInvalid));
    assert_eq!(decoded(json!({ "compression": "gzip" }), &columns, &gzip[..20]), Err(Code::PayloadInvalid));
    assert_eq!(decoded(json!({ "compression": "zlib" }), &columns, &zlib[..4]), Err(Code::PayloadInvalid));
}

#[test]
fn a_json_error_says_what_the_payload_looks_like() {
    let gzip = STANDARD.decode("H4sIAAAAAAAAA6tWylOyMqwFAH47S9QHAAAA").unwrap();
    for (payload, advice) in [
        (gzip, "compression: 'gzip'"),
        (zstd::encode_all(&b"{}"[..], 3).unwrap(), "compression: 'zstd'"),
        (hex("81a17605"), "format: 'msgpack'"),
        (hex("a1617605"), "format: 'cbor'"),
        (b"\xff\xfe{\0}\0".to_vec(), "UTF-16"),
        (b"{\0}\0".to_vec(), "UTF-16"),
        // Fields of Protocol Buffers: a text and a number; and a metric of Sparkplug.
        (hex("0a0568656c6c6f 1005"), "type: 'protobuf'"),
        (hex("08e807120b0a0174200350fbffffff0f"), "'sparkplug'"),
    ] {
        let mut rows = Rows::of(&route(json!({})), table(&[("v", "UInt8")]));
        let reason = rows.append(&payload).unwrap_err();
        assert_eq!(reason.code, Code::JsonInvalid);
        assert!(reason.message.contains(advice), "{}", reason.message);
    }
    let mut rows = Rows::of(&route(json!({})), table(&[("v", "UInt8")]));
    for text in ["\n hello", "nonsense", "\x0a\x02{"] {
        assert!(!rows.append(text.as_bytes()).unwrap_err().message.contains("; it "), "{text:?}");
    }
}

#[test]
fn documents_may_follow_one_another() {
    let columns = [("v", "UInt8")];
    for payload in [
        "{\"v\":1}{\"v\":2}",
        "{\"v\":1} {\"v\":2}\0\0",
        "\u{feff}{\"v\":1}\n{\"v\":2}\n",
        "[{\"v\":1}][{\"v\":2}]",
    ] {
        assert_eq!(decoded(json!({}), &columns, payload.as_bytes()), Ok(vec![vec![1, 2]]), "{payload}");
        assert_eq!(
            decoded(json!({ "nan": "null" }), &columns, payload.as_bytes()),
            Ok(vec![vec![1, 2]]),
            "{payload}"
        );
    }
    for payload in ["{\"v\":1} 2", "{\"v\":1}x", "{\"v\":1}\0x", "{\"v\":1}}"] {
        assert_eq!(decoded(json!({}), &columns, payload.as_bytes()), Err(Code::JsonInvalid), "{payload}");
    }
    let bytes = b"{\"v\":\"a\xffb\"}";
    assert_eq!(decoded(json!({}), &[("v", "String")], bytes), Ok(vec![b"\x03a\xffb".to_vec()]));
    assert_eq!(
        decoded(json!({ "nan": "null" }), &[("v", "String")], bytes),
        Ok(vec![b"\x03a\xffb".to_vec()])
    );
}

/// A payload of each binary format and compression that fits, to be damaged.
fn fitting() -> Vec<(Value, Vec<u8>)> {
    let gzip = STANDARD.decode("H4sIAAAAAAAAA6tWylOyMqwFAH47S9QHAAAA").unwrap();
    let document = br#"{"u8":1,"list":[1,null],"pairs":{"a":[1.5]},"doc":{"a":[1,"x",{"b":2}]},"any":[1.5]}"#;
    vec![
        (
            json!({ "format": "msgpack" }),
            hex(
                "85a275380 1a46c6973749201c0a57061697273 81a16191ca3fc00000a3646f6381a16193 01a17881a16202a3616e7991cb3ff8000000000000",
            ),
        ),
        (
            json!({ "format": "cbor" }),
            hex(
                "a5627538 01 646c697374 8201f6 657061697273 a1616181f93e00 63646f63 a1616183016178a1616202 63616e79 81f93e00",
            ),
        ),
        (json!({ "format": "csv" }), b"u8,text\n1,\"a\"\n2,b\n".to_vec()),
        (json!({ "format": "text", "columns": { "text": "$" } }), b"21.5".to_vec()),
        (json!({ "format": "sparkplug" }), hex("08e80712090a0174200350fbffffff0f")),
        (json!({ "compression": "auto" }), gzip),
        (json!({ "compression": "zstd" }), zstd::encode_all(&document[..], 3).unwrap()),
        (
            json!({ "nan": "value", "rows": "list[*]", "columns": { "text": ["*.a", "list[-1]"] } }),
            document.to_vec(),
        ),
        (
            json!({ "nan": "null", "columns": { "text": { "path": "text", "parse": "json" }, "u8": "text.a" } }),
            br#"{"text":"{\"a\":1}"}"#.to_vec(),
        ),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 256, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn any_bytes_become_complete_rows_or_nothing_in_every_format(
        at in any::<prop::sample::Index>(),
        damages in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>(), 0..4u8), 0..6),
        noise in prop::collection::vec(any::<u8>(), 0..60),
        is_noise: bool,
    ) {
        let all = fitting();
        let (options, mut payload) = all[at.index(all.len())].clone();
        if is_noise {
            payload = noise;
        }
        for (place, byte, how) in damages {
            if payload.is_empty() {
                break;
            }
            let place = place.index(payload.len());
            match how {
                0 => payload[place] = byte,
                1 => payload.insert(place, byte),
                2 => drop(payload.remove(place)),
                _ => payload.truncate(place),
            }
        }
        let mut options = options;
        options["missingFields"] = json!("zero");
        let mut rows = Rows::of(&route(options), crate::rows::table());
        // Its assertions must hold for any payload.
        let _ = rows.append(&payload);
        let _ = rows.append(&payload);
    }
}
