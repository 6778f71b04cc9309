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
    let mut keeps = |ms, id: &str, v: &str| rows.keeps(ms, &format!(r#"{{"id":"{id}","seq":1,"v":{v}}}"#));
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
        ("price", "0.25", ["170141183460469231731687303715884.05", "170141183460469231731687303715884.30"]),
        ("seq", "1", ["18446744073709551615", "18446744073709551614"]),
        ("n", "254", ["-128", "126"]),
        ("v", "0", ["1e300", "1e300"]),
        ("wide", "1", ["170141183460469231731687303715884105727", "170141183460469231731687303715884105728"]),
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
        (r#""deadband": { "column": "id", "delta": 1 }"#, "COLUMN_UNSUPPORTED", "routes[0].deadband.column"),
        (r#""deadband": { "column": "gone", "delta": 1 }"#, "COLUMN_NOT_FOUND", "routes[0].deadband.column"),
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
