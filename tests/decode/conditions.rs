//! `routes[].where`: which messages and rows are left out before a column is read, in every format.

use millrace::core::reason::Code;
use serde_json::{Value, json};

use crate::documents::{floats, hex, route, table, texts};
use crate::rows::{Rows, encoded};

/// The result of a payload: rows, nothing at all, or a dead letter.
#[derive(Debug, PartialEq)]
enum Outcome {
    Rows(usize),
    Excluded,
    DeadLetter(Code),
}
use Outcome::*;

const COLUMNS: [(&str, &str); 1] = [("v", "Nullable(Float64)")];

fn outcome(options: Value, payload: &[u8]) -> Outcome {
    let mut rows = Rows::of(&route(options), table(&COLUMNS));
    match rows.append(payload) {
        Ok(0) if rows.has_excluded() => Excluded,
        Ok(count) => Rows(count),
        Err(reason) => DeadLetter(reason.code),
    }
}

fn with(condition: &Value) -> Value {
    json!({ "topic": "drivers/{driver}/{what#}", "where": condition })
}

fn holds(condition: Value, payload: &str) -> bool {
    match outcome(with(&condition), payload.as_bytes()) {
        Rows(1) => true,
        Excluded => false,
        other => panic!("{condition} of {payload}: {other:?}"),
    }
}

#[test]
fn a_field_is_compared_by_its_type() {
    let cases: [(Value, &[&str], &[&str]); 22] = [
        (
            json!({ "eq": 5 }),
            &["5", "5.0", "50e-1"],
            &["4", "5.1", "\"5\"", "true", "[5]", "{\"x\":5}", "null"],
        ),
        (json!({ "eq": "5" }), &["\"5\"", "\"\\u0035\""], &["5", "\"5.0\"", "\"05\"", "null"]),
        (json!({ "eq": true }), &["true"], &["false", "1", "\"true\"", "null"]),
        (json!({ "ne": 5 }), &["4", "\"5\"", "true", "[5]", "{}", "null"], &["5", "5.0"]),
        (json!({ "ne": "" }), &["\"a\"", "0", "null"], &["\"\""]),
        (json!({ "lt": 5 }), &["4.999", "-1e300"], &["5", "6", "\"4\"", "false", "null", "[]"]),
        (json!({ "le": 5 }), &["5", "5.0", "4"], &["5.000001", "\"5\"", "null"]),
        (json!({ "gt": 5 }), &["5.000001", "1e400"], &["5", "4", "null"]),
        (json!({ "ge": 5 }), &["5", "6"], &["4.999", "null"]),
        (json!({ "gt": "b" }), &["\"ba\"", "\"é\""], &["\"b\"", "\"a\"", "\"B\"", "7", "null"]),
        (json!({ "ge": "2026-01-01" }), &["\"2026-01-01\"", "\"2026-11-30T00:00:00Z\""], &["\"2025-12-31\""]),
        (json!({ "ge": 1, "lt": 3 }), &["1", "2.5"], &["0", "3", "null"]),
        (
            json!({ "in": [1, "a", true] }),
            &["1", "\"a\"", "true", "1.0"],
            &["2", "\"1\"", "false", "null", "[1]"],
        ),
        (json!({ "exists": true }), &["0", "\"\"", "false", "[]", "{}"], &["null"]),
        (json!({ "exists": false }), &["null"], &["0", "[]"]),
        (json!({ "exists": true, "ne": 0 }), &["1", "\"0\""], &["0", "null"]),
        // Integers are not taken for the floats near them.
        (
            json!({ "eq": 9007199254740993i64 }),
            &["9007199254740993"],
            &["9007199254740992", "9007199254740994"],
        ),
        (json!({ "gt": 9007199254740992i64 }), &["9007199254740993"], &["9007199254740992"]),
        (json!({ "eq": u64::MAX }), &["18446744073709551615"], &["18446744073709551614", "-1"]),
        (json!({ "lt": 1e300 }), &["18446744073709551616", "0"], &["1e301"]),
        (json!({ "eq": 0.1 }), &["0.1", "0.10", "1e-1"], &["0.1000001", "0"]),
        (json!({ "eq": 0 }), &["0", "-0", "0.0", "-0.0"], &["1", "null", "\"\"", "false"]),
    ];
    for (comparison, passing, failing) in cases {
        let mut condition = json!({ "path": "f" });
        condition.as_object_mut().unwrap().extend(comparison.as_object().unwrap().clone());
        for (values, expected) in [(passing, true), (failing, false)] {
            for value in values {
                let payload = format!(r#"{{"v":1,"f":{value}}}"#);
                assert_eq!(holds(condition.clone(), &payload), expected, "{condition} of {value}");
            }
        }
        // A missing field is the same as null.
        let missing = holds(condition.clone(), r#"{"v":1}"#);
        assert_eq!(missing, holds(condition.clone(), r#"{"v":1,"f":null}"#), "{condition}");
    }
}

#[test]
fn conditions_are_joined() {
    let (a, b) = (json!({ "path": "a", "eq": 1 }), json!({ "path": "b", "eq": 1 }));
    for (condition, expected) in [
        (json!({ "and": [a, b] }), [false, false, false, true]),
        (json!({ "or": [a, b] }), [false, true, true, true]),
        (json!({ "not": a }), [true, false, true, false]),
        (json!({ "not": { "and": [a, { "not": b }] } }), [true, false, true, true]),
        (json!({ "or": [{ "and": [a, b] }, { "not": { "or": [a, b] } }] }), [true, false, false, true]),
    ] {
        let got = [(0, 0), (1, 0), (0, 1), (1, 1)]
            .map(|(a, b)| holds(condition.clone(), &format!(r#"{{"a":{a},"b":{b}}}"#)));
        assert_eq!(got, expected, "{condition}");
    }
}

#[test]
fn paths_are_those_of_columns() {
    let payload = r#"{"v":1,"a":{"b":[1,2,{"c":"x"}]},"d.e":7,"k1":{"x":1},"k2":{"z":9},"a2":null}"#;
    for (path, value) in [
        (json!("a.b[0]"), json!(1)),
        (json!("a.b[-2]"), json!(2)),
        (json!("a.b[2].c"), json!("x")),
        (json!("$.a.b[-1].c"), json!("x")),
        (json!("@.v"), json!(1)),
        (json!("['d.e']"), json!(7)),
        (json!("*.z"), json!(9)),
        (json!(["nothing", "a2", "v"]), json!(1)),
    ] {
        assert!(holds(json!({ "path": path, "eq": value }), payload), "{path}");
        assert!(!holds(json!({ "path": path, "eq": "other" }), payload), "{path}");
    }
    for path in ["a.b[3]", "a.b[-4]", "v.x", "a.b.c", "a[0]", "*.nothing"] {
        assert!(holds(json!({ "path": path, "exists": false }), payload), "{path}");
    }
    // The last of several members with one name counts, as for columns.
    assert!(holds(json!({ "path": "f", "eq": 2 }), r#"{"f":1,"f":2}"#));
}

#[test]
fn a_level_of_the_topic_is_a_text_and_its_digits_a_number() {
    let rows = |condition: Value, topic: &str| {
        let mut rows = Rows::on(topic, &route(with(&condition)), table(&COLUMNS));
        rows.decode_as(topic, br#"{"v":1}"#).unwrap() == 1
    };
    assert!(rows(json!({ "topic": "driver", "eq": "driver-42" }), "drivers/driver-42/position"));
    assert!(!rows(json!({ "topic": "driver", "ne": "driver-42" }), "drivers/driver-42/position"));
    assert!(rows(json!({ "topic": "driver", "in": ["a", 42] }), "drivers/42/position"));
    assert!(rows(json!({ "topic": "driver", "eq": "42" }), "drivers/42/position"));
    assert!(rows(json!({ "topic": "driver", "ge": 7 }), "drivers/42/position"));
    assert!(!rows(json!({ "topic": "driver", "ge": "7" }), "drivers/42/position"));
    assert!(!rows(json!({ "topic": "driver", "ge": 7 }), "drivers/x42/position"));
    assert!(rows(json!({ "topic": "what", "eq": "a/b" }), "drivers/42/a/b"));
    assert!(rows(json!({ "topic": "driver", "exists": true }), "drivers/42/position"));
}

#[test]
fn an_unreadable_payload_is_a_dead_letter_under_any_condition() {
    let condition = with(&json!({ "path": "f", "eq": 1 }));
    for payload in [r#"{"f":2"#, r#"{"f":2}x"#, r#"{"f":2,}"#, r#"{"f":2,"g":tru}"#, "", r#"{"g":"\x"}"#] {
        assert_eq!(
            outcome(condition.clone(), payload.as_bytes()),
            DeadLetter(Code::JsonInvalid),
            "{payload}"
        );
    }
    assert_eq!(outcome(condition.clone(), b"5"), DeadLetter(Code::NotAnObject));
    // A value that does not fit a column matters only in messages that the condition takes.
    assert_eq!(outcome(condition.clone(), br#"{"f":1,"v":"x"}"#), DeadLetter(Code::TypeMismatch));
    assert_eq!(outcome(condition, br#"{"f":2,"v":"x"}"#), Excluded);
    // A condition on the topic is decided before the payload is read.
    let by_topic = json!({ "and": [{ "path": "f", "eq": 1 }, { "topic": "driver", "eq": "other" }] });
    assert_eq!(outcome(with(&by_topic), b"{"), Excluded);
    let by_topic = json!({ "or": [{ "path": "f", "eq": 1 }, { "topic": "driver", "eq": "other" }] });
    assert_eq!(outcome(with(&by_topic), b"{"), DeadLetter(Code::JsonInvalid));
}

#[test]
fn a_text_that_is_not_utf_8_is_equal_to_none() {
    let condition = with(&json!({ "path": "f", "eq": "a" }));
    assert_eq!(outcome(condition, b"{\"f\":\"\xff\"}"), Excluded);
    let condition = with(&json!({ "path": "f", "exists": true }));
    assert_eq!(outcome(condition, b"{\"f\":\"\xff\"}"), Rows(1));
}

#[test]
fn each_of_several_documents_is_judged() {
    let condition = with(&json!({ "path": "f", "eq": 1 }));
    assert_eq!(outcome(condition.clone(), b"{\"f\":1}\n{\"f\":2}\n{\"f\":1}"), Rows(2));
    assert_eq!(outcome(condition.clone(), br#"[{"f":2},{"f":1}]"#), Rows(1));
    assert_eq!(outcome(condition.clone(), b"{\"f\":2}\n{\"f\":3}"), Excluded);
    assert_eq!(outcome(condition.clone(), b"[]"), Rows(0));
    assert_eq!(outcome(condition, b"{\"f\":2}\n{\"f\""), DeadLetter(Code::JsonInvalid));
}

#[test]
fn each_row_of_a_list_is_judged() {
    let options = |rows: Value, condition: Value| json!({ "rows": rows, "where": condition });
    let payload = br#"{"kind":"report","f":9,"list":[{"f":1,"v":1},{"v":2},{"f":3,"v":3}]}"#;
    for (condition, expected) in [
        (json!({ "path": "f", "ge": 2 }), Rows(2)),
        (json!({ "path": "@.f", "ge": 2 }), Rows(1)),
        (json!({ "path": "$.f", "ge": 2 }), Rows(3)),
        (json!({ "path": "$.f", "lt": 2 }), Excluded),
        (json!({ "path": "@.f", "gt": 3 }), Excluded),
        (
            json!({ "and": [{ "path": "$.kind", "eq": "report" }, { "path": "@.f", "exists": false }] }),
            Rows(1),
        ),
    ] {
        assert_eq!(outcome(options(json!("list"), condition.clone()), payload), expected, "{condition}");
        assert_eq!(outcome(options(json!("list[*]"), condition.clone()), payload), expected, "{condition}");
    }
    // A message of another kind has no list.
    let kind = json!({ "path": "kind", "eq": "report" });
    assert_eq!(outcome(options(json!("list"), kind.clone()), br#"{"kind":"state"}"#), Excluded);
    assert_eq!(
        outcome(options(json!("list"), kind.clone()), br#"{"kind":"report"}"#),
        DeadLetter(Code::FieldMissing)
    );
    let zip = json!({ "zip": { "v": "vs", "f": "fs" } });
    let payload = br#"{"kind":"report","vs":[1,2,3],"fs":[1,5,6]}"#;
    assert_eq!(outcome(options(zip.clone(), json!({ "path": "f", "ge": 5 })), payload), Rows(2));
    assert_eq!(outcome(options(zip.clone(), json!({ "path": "$.kind", "eq": "x" })), payload), Excluded);
    assert_eq!(outcome(options(zip, kind), br#"{"kind":"state"}"#), Excluded);
}

#[test]
fn the_rows_that_are_left_are_filled_as_ever() {
    let options = json!({ "where": { "path": "f", "ne": 2 }, "unknownFields": "reject" });
    let mut rows = Rows::of(&route(options), table(&[("v", "Float64"), ("t", "String")]));
    for payload in [
        r#"{"v":1,"t":"a","f":1}"#,
        r#"{"v":2,"t":"b","f":2}"#,
        r#"{"v":"x","u":0,"f":2}"#,
        r#"[{"v":3,"t":"c"},{"f":2},{"v":4,"t":"d","f":0}]"#,
    ] {
        rows.append(payload.as_bytes()).unwrap();
    }
    assert_eq!(encoded(&rows.columns[0]), floats(&[1.0, 3.0, 4.0]));
    assert_eq!(encoded(&rows.columns[1]), texts(&["a", "c", "d"]));
    // The condition's field is known, others are not.
    assert_eq!(rows.append(br#"{"v":1,"t":"a","f":1,"u":0}"#).unwrap_err().code, Code::UnknownField);
    assert!(!rows.has_excluded());
}

#[test]
fn texts_that_are_a_missing_value_are_missing() {
    let options = json!({ "where": { "path": "f", "exists": true }, "nulls": ["N/A"] });
    assert_eq!(outcome(options.clone(), br#"{"f":"N/A"}"#), Excluded);
    assert_eq!(outcome(options, br#"{"f":"N/B"}"#), Rows(1));
}

#[test]
fn every_format_is_judged() {
    let csv = json!({ "type": "csv", "columns": ["f", "v"] });
    let gzip: Vec<u8> = hex("1f8b0800000000000203ab564a53b232ac0500bf703be407000000");
    let cases: [(Value, Value, Vec<u8>, Outcome); 24] = [
        (json!({ "format": "cbor" }), json!({ "eq": 1 }), hex("a1616601"), Rows(1)),
        (json!({ "format": "cbor" }), json!({ "eq": 1 }), hex("a16166fb3ff0000000000000"), Rows(1)),
        (json!({ "format": "cbor" }), json!({ "gt": 1 }), hex("a1616601"), Excluded),
        (json!({ "format": "cbor" }), json!({ "eq": "1" }), hex("a161664131"), Excluded),
        (json!({ "format": "cbor" }), json!({ "ne": 1 }), hex("a16166fb7ff8000000000000"), Rows(1)),
        (json!({ "format": "cbor" }), json!({ "ge": 1 }), hex("a16166fb7ff8000000000000"), Excluded),
        (json!({ "format": "cbor" }), json!({ "ge": "1970-01-01T00:01:00Z" }), hex("a16166c1183c"), Rows(1)),
        (json!({ "format": "cbor" }), json!({ "gt": "1970-01-01T00:01:00Z" }), hex("a16166c1183c"), Excluded),
        (json!({ "format": "cbor" }), json!({ "eq": 1 }), hex("a16166"), DeadLetter(Code::PayloadInvalid)),
        (json!({ "format": "msgpack" }), json!({ "in": [1, 2] }), hex("81a16602"), Rows(1)),
        (json!({ "format": "msgpack" }), json!({ "in": [1, 2] }), hex("81a16603"), Excluded),
        (json!({ "format": "msgpack" }), json!({ "exists": true }), hex("81a166c0"), Excluded),
        (
            json!({ "format": "msgpack" }),
            json!({ "exists": true }),
            hex("81a1"),
            DeadLetter(Code::PayloadInvalid),
        ),
        (json!({ "format": csv }), json!({ "ge": 5 }), b"7,1\n3,2\n5,3".to_vec(), Rows(2)),
        (json!({ "format": csv }), json!({ "eq": "07" }), b"07,1\n7,2".to_vec(), Rows(1)),
        (json!({ "format": csv }), json!({ "eq": 7 }), b"07,1\n7,2\nx,3".to_vec(), Rows(2)),
        (json!({ "format": csv }), json!({ "gt": 9 }), b"7,1".to_vec(), Excluded),
        (json!({ "compression": "gzip" }), json!({ "eq": 1 }), gzip.clone(), Rows(1)),
        (json!({ "compression": "gzip" }), json!({ "eq": 2 }), gzip, Excluded),
        (
            json!({ "compression": "gzip" }),
            json!({ "eq": 2 }),
            b"x".to_vec(),
            DeadLetter(Code::PayloadInvalid),
        ),
        (json!({ "nan": "value" }), json!({ "gt": 1 }), br#"{"f":NaN}"#.to_vec(), Excluded),
        (json!({ "nan": "value" }), json!({ "gt": 1 }), br#"{"f":Infinity}"#.to_vec(), Rows(1)),
        (json!({ "nan": "null" }), json!({ "exists": false }), br#"{"f":NaN}"#.to_vec(), Rows(1)),
        (json!({}), json!({ "eq": 1 }), br#"{"f":NaN}"#.to_vec(), DeadLetter(Code::JsonInvalid)),
    ];
    for (mut options, comparison, payload, expected) in cases {
        let mut condition = json!({ "path": "f" });
        condition.as_object_mut().unwrap().extend(comparison.as_object().unwrap().clone());
        options["where"] = condition;
        assert_eq!(outcome(options.clone(), &payload), expected, "{options}");
    }
    let text = |comparison: Value| {
        let mut condition = json!({ "path": "$" });
        condition.as_object_mut().unwrap().extend(comparison.as_object().unwrap().clone());
        json!({ "format": "text", "columns": { "v": "$" }, "where": condition })
    };
    assert_eq!(outcome(text(json!({ "gt": 20 })), b"21.5"), Rows(1));
    assert_eq!(outcome(text(json!({ "gt": 20 })), b"19"), Excluded);
    assert_eq!(outcome(text(json!({ "ne": "unavailable" })), b"unavailable"), Excluded);
    // A text that is JSON is looked into, where the route reads it so.
    let parsed = json!({
        "columns": { "v": { "path": "data.v", "parse": "number" }, },
        "where": { "path": "data.f", "eq": 1 },
    });
    assert_eq!(outcome(parsed, br#"{"data":{"f":1,"v":"2 km"}}"#), Rows(1));
}

#[test]
fn excluded_rows_do_not_count_towards_the_most_that_a_message_may_have() {
    let options = json!({ "rows": "list", "where": { "path": "@.f", "eq": 1 } });
    let list = vec![r#"{"f":0}"#; 150_000].join(",");
    let payload = format!(r#"{{"list":[{{"f":1}},{list}]}}"#);
    assert_eq!(outcome(options, payload.as_bytes()), Rows(1));
}
