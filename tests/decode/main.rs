//! Payloads into columns: from any payload, a row is appended completely or not at all, and the way a
//! document is written does not change its rows.

mod conditions;
mod documents;
mod inputs;
mod lookups;
mod program_rows;
mod protobuf;
mod rows;
mod scalar_paths;

use millrace::clickhouse::ColumnType;
use millrace::clickhouse::schema::TableColumn;
use millrace::core::reason::{Code, Reason};
use proptest::prelude::*;
use rows::{COLUMNS, Rows, encoded, mapped, plain, table};
use serde::de::IgnoredAny;
use serde_json::{Value, json};

/// The fields of an object, each with its JSON text.
type Fields = Vec<(String, String)>;

fn object(fields: &[(String, String)]) -> String {
    let fields: Vec<String> = fields.iter().map(|(name, value)| format!("{}:{value}", json!(name))).collect();
    format!("{{{}}}", fields.join(","))
}

fn quoted(text: impl AsRef<str>) -> String {
    json!(text.as_ref()).to_string()
}

/// A value that fits a column of this type, or its absence.
fn fitting(type_name: &'static str) -> BoxedStrategy<String> {
    fn number<T: Arbitrary + ToString + 'static>() -> BoxedStrategy<String> {
        let plain = || any::<T>().prop_map(|n| n.to_string());
        prop_oneof![3 => plain(), 1 => plain().prop_map(quoted)].boxed()
    }
    let texts = |texts: &'static [&'static str]| prop::sample::select(texts).prop_map(str::to_string).boxed();
    let value = match type_name {
        "UInt8" => number::<u8>(),
        "UInt16" => number::<u16>(),
        "UInt32" => number::<u32>(),
        "UInt64" => number::<u64>(),
        "Int8" => number::<i8>(),
        "Int16" => number::<i16>(),
        "Int32" | "Nullable(Int32)" => number::<i32>(),
        "Int64" => number::<i64>(),
        "Float32" => any::<f32>().prop_map(|n| json!(n).to_string()).boxed(),
        "Float64" => any::<f64>().prop_map(|n| json!(n).to_string()).boxed(),
        "Bool" => texts(&["true", "false", "0", "1", r#""true""#]),
        "Date" => texts(&["0", "1730000000", r#""1970-01-01""#, r#""2024-10-27T03:33:20Z""#]),
        "UUID" => any::<u128>().prop_map(|n| quoted(format!("{n:032x}"))).boxed(),
        "BFloat16" => any::<f32>().prop_map(|n| json!(n).to_string()).boxed(),
        "Int256" => any::<i128>().prop_map(|n| format!("{n}0000")).boxed(),
        "Decimal(18, 4)" => any::<i32>().prop_map(|n| format!("{n}e-4")).boxed(),
        "FixedString(8)" => "[a-z]{0,8}".prop_map(quoted).boxed(),
        "Nullable(IPv4)" => {
            any::<u32>().prop_map(|n| quoted(std::net::Ipv4Addr::from(n).to_string())).boxed()
        }
        "Time64(3)" => texts(&["0", "1.5", r#""12:34:56.789""#, r#""-00:00:01""#]),
        "Date32" => texts(&["0", r#""1900-01-01""#, r#""2299-12-31""#]),
        "Array(Nullable(Int32))" => texts(&["[]", "[1]", "[ 1 , null , -3 ]"]),
        "Array(String)" => texts(&["[]", r#"["a",1,{"b":2}]"#]),
        "Map(LowCardinality(String), Array(Float64))" => texts(&["{}", r#"{"a":[1,2.5],"":[]}"#]),
        "Tuple(a UInt8, b Nullable(String))" => texts(&[r#"{"b":"x","a":1}"#, "[1,null]", r#"{"a":2}"#]),
        "Point" => texts(&["[1.5,-2]"]),
        "Variant(Array(Float64), String, UInt64)" => texts(&["1", "1.5", "[1]", r#""x""#, r#"["x"]"#, "{}"]),
        "JSON" => texts(&["{}", r#"{"a":{"b":[1,null]},"c":"\u00e9"}"#]),
        _ if type_name.contains("String") => any::<String>().prop_map(quoted).boxed(),
        _ if type_name.contains("DateTime") => texts(&[
            "1730000000",
            "1730000000123",
            "1730000000.5",
            r#""2024-10-27 03:33:20.25""#,
            r#""1970-01-02""#,
        ]),
        _ if type_name.starts_with("Enum8") => texts(&[r#""off""#, r#""broken""#, "1"]),
        _ if type_name.starts_with("Enum16") => texts(&[r#""car""#, "1000"]),
        other => panic!("no values for {other}"),
    };
    prop_oneof![9 => value, 1 => Just("null".to_string())].boxed()
}

/// One field for each column, in the order of the table.
fn fitting_fields() -> impl Strategy<Value = Fields> {
    COLUMNS.map(|(name, type_name)| (Just(name.to_string()), fitting(type_name))).to_vec()
}

/// Any JSON, as text; some of it beyond what any number or character holds.
fn any_json() -> BoxedStrategy<String> {
    const ODD: [&str; 14] = [
        "null",
        "true",
        "false",
        "0",
        "-0",
        "-0.0",
        "1e3",
        "1e400",
        "18446744073709551616",
        "-9223372036854775809",
        "1e-400",
        r#""\ud800""#,
        r#""\u0000""#,
        r#""""#,
    ];
    let scalar = prop_oneof![
        3 => prop::sample::select(&ODD[..]).prop_map(str::to_string),
        1 => any::<i64>().prop_map(|n| n.to_string()),
        1 => any::<f64>().prop_map(|n| json!(n).to_string()),
        1 => any::<String>().prop_map(quoted),
        1 => "[0-9T:.+Z -]{0,30}".prop_map(quoted),
    ];
    scalar
        .prop_recursive(4, 32, 5, |inner| {
            prop_oneof![
                prop::collection::vec(inner.clone(), 0..5)
                    .prop_map(|items| format!("[{}]", items.join(", "))),
                prop::collection::vec((any_name(), inner), 0..5).prop_map(|fields| object(&fields)),
            ]
        })
        .boxed()
}

fn any_name() -> impl Strategy<Value = String> {
    let names = COLUMNS.iter().map(|(name, _)| *name);
    let names: Vec<&str> = names.chain(["position", "lat", "axes", "deep", "a.b", "ts", ""]).collect();
    prop_oneof![4 => prop::sample::select(names).prop_map(str::to_string), 1 => any::<String>()]
}

/// From random bytes to documents that are nearly right.
fn any_payload() -> impl Strategy<Value = Vec<u8>> {
    let document = prop_oneof![
        2 => fitting_fields().prop_map(|fields| object(&fields)),
        2 => (fitting_fields(), any::<prop::sample::Index>(), any_json()).prop_map(|(mut fields, at, value)| {
            at.get_mut(&mut fields).1 = value;
            object(&fields)
        }),
        2 => prop::collection::vec((any_name(), any_json()), 0..8).prop_map(|fields| object(&fields)),
        1 => (any_json(), any_json(), any_json()).prop_map(|(position, axes, ts)| {
            format!(r#"{{"position":{{"lat":{position}}},"axes":[1,{{"deep":{{"a.b":{axes}}}}},3],"ts":{ts}}}"#)
        }),
        1 => any_json(),
    ];
    let damaged =
        (document.clone(), any::<prop::sample::Index>(), any::<u8>()).prop_map(|(document, at, byte)| {
            let mut bytes = document.into_bytes();
            let at = at.index(bytes.len());
            match byte % 2 {
                0 => bytes.truncate(at),
                _ => bytes[at] = byte,
            }
            bytes
        });
    prop_oneof![
        4 => document.prop_map(String::into_bytes),
        2 => damaged,
        1 => prop::collection::vec(any::<u8>(), 0..40),
    ]
}

fn no_files(cases: u32) -> ProptestConfig {
    ProptestConfig { cases, failure_persistence: None, ..ProptestConfig::default() }
}

/// Both documents, after a first one has set the order in which keys are expected, give the same columns.
fn check_same(route: &Value, first: &str, one: &str, other: &str) {
    let [mut left, mut right] = [Rows::new(route), Rows::new(route)];
    left.append(first.as_bytes()).unwrap();
    right.append(first.as_bytes()).unwrap();
    assert_eq!(left.append(one.as_bytes()), Ok(1), "{one}");
    assert_eq!(right.append(other.as_bytes()), Ok(1), "{other}");
    assert_eq!(left.bytes(), right.bytes());
}

proptest! {
    #![proptest_config(no_files(512))]

    #[test]
    fn any_payload_becomes_a_complete_row_or_nothing(payloads in prop::collection::vec(any_payload(), 1..8)) {
        for route in [plain(), mapped()] {
            let mut rows = Rows::new(&route);
            for payload in &payloads {
                let appended = rows.append(payload);
                if serde_json::from_slice::<IgnoredAny>(payload).is_err() {
                    prop_assert!(appended.is_err(), "what is no JSON becomes no row");
                }
            }
        }
    }

    #[test]
    fn documents_that_fit_become_rows(documents in prop::collection::vec(fitting_fields(), 1..8)) {
        let mut rows = Rows::new(&plain());
        for fields in &documents {
            prop_assert_eq!(rows.append(object(fields).as_bytes()), Ok(1));
        }
    }

    #[test]
    fn keys_may_come_in_any_order(
        (fields, shuffled) in fitting_fields()
            .prop_flat_map(|fields| (Just(fields.clone()), Just(fields).prop_shuffle())),
        usual: bool,
    ) {
        let [one, other] = [object(&fields), object(&shuffled)];
        check_same(&plain(), if usual { &one } else { &other }, &one, &other);
    }

    #[test]
    fn spaces_between_members_make_no_difference(fields in fitting_fields(), usual: bool) {
        let compact = object(&fields);
        // As JSON.stringify writes it, as Python's json does, and as people do.
        for [open, comma, colon, close] in [["{", ",", ": ", "}"], ["{", ", ", ": ", "}"], ["{\n", " ,\n  ", " :\t", "\n}\n"]] {
            let members: Vec<String> =
                fields.iter().map(|(name, value)| format!("{}{colon}{value}", json!(name))).collect();
            let spaced = format!("{open}{}{close}", members.join(comma));
            check_same(&plain(), if usual { &compact } else { &spaced }, &compact, &spaced);
        }
    }

    #[test]
    fn the_last_of_duplicate_keys_wins(
        before in fitting_fields(),
        fields in fitting_fields(),
        chosen in prop::sample::subsequence((0..COLUMNS.len()).collect::<Vec<_>>(), 1..COLUMNS.len()),
        interleaved: bool,
    ) {
        let mut doubled = Fields::new();
        if interleaved {
            for (at, field) in fields.iter().enumerate() {
                doubled.extend(chosen.contains(&at).then(|| before[at].clone()));
                doubled.push(field.clone());
            }
        } else {
            doubled.extend(chosen.iter().map(|at| before[*at].clone()));
            doubled.extend(fields.clone());
        }
        check_same(&plain(), &object(&fields), &object(&fields), &object(&doubled));
    }

    #[test]
    fn unknown_fields_make_no_difference(
        fields in fitting_fields(),
        unknown in prop::collection::vec((any::<prop::sample::Index>(), any::<String>(), any_json()), 1..6),
        usual: bool,
    ) {
        let mut more = fields.clone();
        for (at, name, value) in unknown {
            more.insert(at.index(more.len() + 1), (format!("unknown {name}"), value));
        }
        let [one, other] = [object(&fields), object(&more)];
        check_same(&plain(), if usual { &one } else { &other }, &one, &other);

        let mut route = plain();
        route["unknownFields"] = json!("reject");
        let mut strict = Rows::new(&route);
        prop_assert_eq!(strict.append(one.as_bytes()), Ok(1));
        let refused = strict.append(other.as_bytes()).map_err(|reason| reason.code);
        prop_assert_eq!(refused, Err(Code::UnknownField));
    }

    #[test]
    fn the_fast_path_reads_as_the_walk_does(
        shapes: [(u64, u8); 3],
        payloads in prop::collection::vec((fitting_fields(), 0..3usize), 1..16),
        mut route in prop::sample::select(vec![plain(), mapped()]),
        missing in prop::sample::select(vec!["zero", "reject"]),
    ) {
        route["missingFields"] = json!(missing);
        // Without columns whose flags ask for their default: the fast path ends differently for these.
        let table: Vec<_> = table().into_iter().filter(|column| !column.is_flagged()).collect();
        let [mut fast, mut slow] = [(); 2].map(|()| Rows::of(&route, table.clone()));
        for (fields, shape) in payloads {
            let (chosen, order) = shapes[shape];
            // The fields that the fast path reads: all, the first few, or some here and there; now and
            // then in another order.
            let is_primary_copy = |at: usize| match order % 3 {
                0 => true,
                1 => at < chosen as usize % 12,
                _ => chosen >> at & 1 == 0,
            };
            let fields = fields.into_iter().take(12).enumerate();
            let mut fields: Fields = fields.filter_map(|(at, field)| is_primary_copy(at).then_some(field)).collect();
            if chosen % 5 == 0 {
                fields.reverse();
            }
            let payload = object(&fields);
            // The fast path does not take a payload that begins with a space.
            prop_assert_eq!(fast.append(payload.as_bytes()), slow.append(format!(" {payload}").as_bytes()), "{}", payload);
            prop_assert_eq!(fast.bytes(), slow.bytes());
        }
    }

    #[test]
    fn an_integer_fits_or_is_refused(
        value in prop_oneof![any::<i128>(), (-70000..70000i128), any::<i64>().prop_map(i128::from)],
    ) {
        for (name, type_name) in &COLUMNS[..8] {
            let bits: u32 = name[1..].parse().unwrap();
            let (min, max) = match &name[..1] {
                "u" => (0, (1i128 << bits) - 1),
                _ => (-(1i128 << (bits - 1)), (1i128 << (bits - 1)) - 1),
            };
            let (fits, data) = alone(type_name, json!({}), &format!(r#"{{"c":{value}}}"#));
            let expected = value.to_le_bytes()[..bits as usize / 8].to_vec();
            let expected = if (min..=max).contains(&value) { (true, expected) } else { (false, vec![]) };
            prop_assert_eq!((fits.is_ok(), data), expected);
        }
    }

    #[test]
    fn a_time_that_is_taken_is_the_one_that_was_meant(
        value in prop_oneof![
            any::<f64>().prop_map(|n| json!(n).to_string()),
            any::<i64>().prop_map(|n| n.to_string()),
            (1.0..10.0f64, 0..32i32).prop_map(|(n, power)| format!("{:.0}", n * 10f64.powi(power))),
            (0..1u64 << 36, 60..70u32).prop_map(|(n, power)| (n as u128 + (1 << power)).to_string()),
        ],
        (unit, per_second) in prop::sample::select(vec![("s", 1.0), ("ms", 1e3), ("us", 1e6), ("ns", 1e9)]),
    ) {
        for (type_name, ticks) in [("DateTime", 1.0), ("DateTime64(3)", 1e3), ("Date", 1.0 / 86400.0)] {
            let (taken, data) = alone(type_name, json!({ "unit": unit }), &format!(r#"{{"c":{value}}}"#));
            if taken.is_ok() {
                let mut bytes = [0; 8];
                bytes[..data.len()].copy_from_slice(&data);
                let meant = value.parse::<f64>().unwrap() / per_second * ticks;
                let got = i64::from_le_bytes(bytes) as f64;
                let is_near = (meant - got).abs() <= 1.0 + meant.abs() * 1e-9;
                prop_assert!(is_near, "{} {} gave {}", value, unit, got);
            }
        }
    }
}

/// One document into a table of one column `c`.
fn alone(type_name: &str, source: Value, document: &str) -> (Result<usize, Reason>, Vec<u8>) {
    let mut source = source;
    source["path"] = json!("c");
    let route = json!({ "topic": "#", "table": "t", "columns": { "c": source } });
    let column_type = ColumnType::parse(type_name, "UTC").unwrap();
    let mut rows = Rows::of(
        &route,
        vec![TableColumn {
            name: "c".into(),
            column_type,
            default: None,
            is_ephemeral: false,
            is_added: false,
        }],
    );
    let taken = rows.append(document.as_bytes());
    (taken, encoded(&rows.columns[0]))
}

#[test]
fn a_number_beyond_all_time_is_out_of_range() {
    // 2^64 seconds, and as many in nanoseconds: neither is 1970.
    for (unit, value) in [("s", "18446744073709551616"), ("auto", "18446744073709551616000000000")] {
        for type_name in ["DateTime", "DateTime64(3)", "Date"] {
            let (taken, _) = alone(type_name, json!({ "unit": unit }), &format!(r#"{{"c":{value}}}"#));
            assert!(taken.is_err(), "{type_name}, {unit}: {value}");
        }
    }
}

#[test]
fn a_list_of_rows_is_found_wherever_it_stands() {
    let route = json!({
        "topic": "#",
        "table": "t",
        "rows": "$.readings",
        "columns": { "id": "$.id", "value": "@.value" },
    });
    let column = |name: &str, type_name: &str| TableColumn {
        name: name.into(),
        column_type: ColumnType::parse(type_name, "UTC").unwrap(),
        default: None,
        is_ephemeral: false,
        is_added: false,
    };
    let mut rows = Rows::of(&route, vec![column("id", "UInt8"), column("value", "UInt8")]);
    for document in [
        r#"{"id":1,"readings":[{"value":2},{"value":3}]}"#,
        r#"{"readings":[{"value":4}],"id":5}"#,
        r#"{ "id": 6, "readings": [ { "value": 7 } ] }"#,
    ] {
        rows.append(document.as_bytes()).unwrap();
    }
    assert_eq!(encoded(&rows.columns[0]), [1, 1, 5, 6]);
    assert_eq!(encoded(&rows.columns[1]), [2, 3, 4, 7]);
}

#[test]
fn a_mapping_takes_each_value_from_its_place() {
    let mut rows = Rows::new(&mapped());
    let document =
        r#"{"ts":1730000000123,"axes":[-1,{"deep":{"a.b":5}},3],"position":{"lat":25.5, "x":[1]}}"#;
    rows.append(document.as_bytes()).unwrap();
    let data = |name: &str| encoded(&rows.columns[COLUMNS.iter().position(|(n, _)| *n == name).unwrap()]);
    assert_eq!(data("u8"), [7]);
    assert_eq!(data("f64"), 25.5f64.to_le_bytes());
    assert_eq!(data("f32"), 25.5f32.to_le_bytes());
    assert_eq!(data("text"), b"\x15{\"lat\":25.5, \"x\":[1]}");
    assert_eq!(data("i8"), [255]);
    assert_eq!(data("i16"), [3, 0]);
    assert_eq!(data("maybe"), [0, 5, 0, 0, 0]);
    assert_eq!(data("word"), b"\x09driver-42");
    assert_eq!(data("exact"), 1_730_000_000_123_456i64.to_le_bytes());
    assert_eq!(data("u16"), [1, 0]);
    assert_eq!(data("maybe_word"), [1, 0]);
    assert_eq!(data("at"), 1_730_000_000u32.to_le_bytes());
    assert_eq!(data("day"), 20023u16.to_le_bytes());
    assert_eq!(data("kind"), 1000u16.to_le_bytes());
}

#[test]
fn each_kind_of_fault_has_its_code() {
    let mut route = plain();
    route.as_object_mut().unwrap().remove("missingFields");
    let mut rows =
        Rows::of(&route, table().into_iter().filter(|c| ["u8", "id", "text"].contains(&&*c.name)).collect());
    let id = r#""id":"00000000000000000000000000000000","text":"""#;
    for (payload, code) in [
        (String::new(), Code::JsonInvalid),
        (format!(r#"{{"u8":1,{id}"#), Code::JsonInvalid),
        (format!(r#"{{"u8":1,{id}}} x"#), Code::JsonInvalid),
        ("[".into(), Code::JsonInvalid),
        ("[1]".into(), Code::NotAnObject),
        ("7".into(), Code::NotAnObject),
        ("null".into(), Code::NotAnObject),
        ("{}".into(), Code::FieldMissing),
        (format!(r#"{{"u8":null,{id}}}"#), Code::FieldMissing),
        (format!(r#"{{"u8":1,"u8":null,{id}}}"#), Code::FieldMissing),
        (format!(r#"{{"u8":256,{id}}}"#), Code::OutOfRange),
        (format!(r#"{{"u8":1.5,{id}}}"#), Code::TypeMismatch),
        (format!(r#"{{"u8":{{}},{id}}}"#), Code::TypeMismatch),
        (format!(r#"{{"u8":[1],{id}}}"#), Code::TypeMismatch),
        (r#"{"u8":1,"id":"1234","text":""}"#.into(), Code::TypeMismatch),
    ] {
        assert_eq!(rows.append(payload.as_bytes()).map_err(|reason| reason.code), Err(code), "{payload}");
    }
    assert_eq!(rows.append(format!(r#"{{"u8":1,{id}}}"#).as_bytes()), Ok(1));
    assert_eq!(rows.append(b"[]"), Ok(0), "a list of no rows");
}

#[test]
fn keys_are_found_however_they_are_written() {
    // Some begin alike, some are as long as each other, and some are longer than what is compared at once.
    let long = "a name of far more than thirty-two bytes, ";
    let names = ["a", "ab", "abc", "abcd", "temperature", "temperament", "é", "a.b", "\"", "\\", ""];
    let names = names.map(String::from).into_iter().chain([format!("{long}one"), format!("{long}two")]);
    let names: Vec<String> = names.collect();
    let columns = names.iter().map(|name| TableColumn {
        name: name.clone(),
        column_type: ColumnType::parse("UInt8", "UTC").unwrap(),
        default: None,
        is_ephemeral: false,
        is_added: false,
    });
    let mut rows = Rows::of(&json!({ "topic": "#", "table": "t" }), columns.collect());
    let escaped = |name: &str| {
        let units: Vec<String> = name.encode_utf16().map(|unit| format!("\\u{unit:04x}")).collect();
        format!("\"{}\"", units.concat())
    };
    let plain = |name: &str| json!(name).to_string();
    let separators = [(",", ":"), (", ", ": "), (" ,\n\t", " : "), (",  ", ":")];
    let mut expected: Vec<Vec<u8>> = vec![Vec::new(); names.len()];
    for round in 0..40 {
        let is_escaped = round % 2 == 1;
        let quote = |name: &str| if is_escaped { escaped(name) } else { plain(name) };
        let (comma, colon) = separators[round / 2 % 4];
        let members: Vec<String> = (0..names.len())
            .map(|i| (i + round) % names.len())
            .map(|i| format!("{}{colon}{}", quote(&names[i]), (i * 7 + round) % 256))
            .collect();
        let document = format!("{{{}}}", members.join(comma));
        rows.append(document.as_bytes()).unwrap_or_else(|reason| panic!("{document}: {reason:?}"));
        expected.iter_mut().enumerate().for_each(|(i, values)| values.push(((i * 7 + round) % 256) as u8));
        assert_eq!(rows.bytes(), expected, "{document}");
    }
}
