//! Columns from maps of the program's: a key stands in a column, in the payload alone, or in the topic, in payloads of every shape.

use std::time::SystemTime;

use millrace::clickhouse::schema::TableColumn;
use millrace::clickhouse::{Column, ColumnType};
use millrace::config::Config;
use millrace::core::error::Error;
use millrace::core::memory_budget::MemoryBudget;
use millrace::core::mqtt_property::Properties;
use millrace::core::reason::Reason;
use millrace::core::topic_filter::Captures;
use millrace::decode::{Decoder, Message};
use serde_json::{Value, json};

struct Route {
    config: Config,
    decoder: Decoder,
    columns: Vec<Column>,
}

const ENTRIES: &str = r#"{"a":{"tenant":"acme","limit":7,"since":"2026-11-30T12:00:00Z"},"b":{"tenant":"über\n"},"7":{"limit":300}}"#;

impl Route {
    /// A route with these options, for a table of these columns.
    fn new(route: Value, table: &[(&str, &str)]) -> Route {
        let mut options = json!({ "topic": "t/{id}/{kind}", "table": "t" });
        options.as_object_mut().unwrap().extend(route.as_object().unwrap().clone());
        let config = json!({ "mqtt": { "url": "mqtt://x" }, "clickhouse": { "url": "http://x" }, "routes": [options] });
        let config = Config::parse(&config.to_string()).unwrap();
        let table: Vec<TableColumn> = table
            .iter()
            .map(|(name, type_name)| TableColumn {
                name: (*name).into(),
                column_type: ColumnType::parse(type_name, "UTC").unwrap(),
                default: None,
                is_ephemeral: false,
                is_added: false,
            })
            .collect();
        let decoder = Decoder::new("routes[0]", &config.routes[0], &table).unwrap();
        let columns = decoder.columns();
        let mut route = Route { config, decoder, columns };
        route.set(ENTRIES).unwrap();
        route
    }

    fn set(&mut self, entries: &str) -> Result<(), Error> {
        let memory = std::sync::Arc::new(MemoryBudget::new(1 << 20));
        self.config.lookups.set("devices", "map", entries, &memory).map(drop)
    }

    fn append(&mut self, topic: &str, payload: &str) -> Result<usize, Reason> {
        let mut captures = Captures::default();
        assert!(self.config.routes[0].topic.matches(topic, &mut captures));
        let message = Message {
            topic,
            captures: &captures,
            payload: payload.as_bytes(),
            qos: 1,
            retain: false,
            received_at: SystemTime::UNIX_EPOCH,
            client_id: "b",
            properties: Properties::NONE,
        };
        self.decoder.append(&message, &mut self.columns)
    }

    /// The texts of a column of a block.
    fn texts(&self, at: usize) -> Vec<Option<String>> {
        let mut columns = self.columns.clone();
        columns.drain(self.decoder.inputs());
        texts(&columns[at])
    }
}

fn texts(column: &Column) -> Vec<Option<String>> {
    match column {
        Column::Nullable { nulls, values } => {
            texts(values).into_iter().zip(nulls).map(|(text, null)| text.filter(|_| *null == 0)).collect()
        }
        Column::Strings { data, .. } => {
            let mut rest = data.as_slice();
            let mut all = Vec::new();
            while let Some((length, text)) = rest.split_first() {
                let (text, behind) = text.split_at(*length as usize);
                all.push(Some(String::from_utf8_lossy(text).into_owned()));
                rest = behind;
            }
            all
        }
        Column::Fixed { width, data, .. } => {
            let number =
                |bytes: &[u8]| bytes.iter().rev().fold(0_i64, |number, byte| number << 8 | i64::from(*byte));
            data.chunks(*width).map(|bytes| Some(number(bytes).to_string())).collect()
        }
        other => panic!("{other:?}"),
    }
}

fn some(texts: &[&str]) -> Vec<Option<String>> {
    texts.iter().map(|text| Some((*text).to_string())).collect()
}

fn tenant(key: Value) -> Value {
    json!({ "lookup": "devices", "key": key, "field": "tenant", "default": "-" })
}

#[test]
fn a_key_is_found_wherever_it_stands() {
    let payload = r#"{"dev":"a","deep":{"dev":"b"},"list":["x","b"],"any":{"k":{"dev":"a"}},"v":1}"#;
    for (key, table, expected) in [
        // In a column of texts, with and without NULL, or read alone.
        (json!("dev"), &[("tenant", "String"), ("dev", "String")][..], "acme"),
        (json!("dev"), &[("dev", "Nullable(String)"), ("tenant", "LowCardinality(String)")], "acme"),
        (json!("dev"), &[("dev", "LowCardinality(String)"), ("tenant", "String")], "acme"),
        (json!("dev"), &[("tenant", "String"), ("v", "UInt8")], "acme"),
        (json!("dev"), &[("tenant", "String")], "acme"),
        (json!("deep.dev"), &[("tenant", "String"), ("v", "UInt8")], "über\n"),
        (json!("list[1]"), &[("tenant", "String")], "über\n"),
        (json!("list[-1]"), &[("v", "UInt8"), ("tenant", "String")], "über\n"),
        (json!("any.*.dev"), &[("tenant", "String")], "acme"),
        (json!({ "path": "dev" }), &[("tenant", "Nullable(String)")], "acme"),
        // By name it is the topic that has it, as for a column of that name.
        (json!("id"), &[("tenant", "String")], "über\n"),
        (json!({ "topic": "id" }), &[("tenant", "String")], "über\n"),
        (json!({ "meta": "clientId" }), &[("tenant", "String")], "über\n"),
        // Nothing there, or nothing for it.
        (json!({ "path": "id" }), &[("tenant", "String")], "-"),
        (json!({ "topic": "kind" }), &[("tenant", "String")], "-"),
        (json!({ "meta": "topic" }), &[("tenant", "String")], "-"),
        (json!({ "userProperty": "dev" }), &[("tenant", "String")], "-"),
        (json!("deep"), &[("tenant", "String")], "-"),
        (json!("nowhere.dev"), &[("tenant", "String"), ("v", "UInt8")], "-"),
    ] {
        let mut route = Route::new(json!({ "columns": { "tenant": tenant(key.clone()) } }), table);
        let at = table.iter().position(|(name, _)| *name == "tenant").unwrap();
        for _ in 0..2 {
            route.append("t/b/gps", payload).unwrap();
        }
        assert_eq!(route.texts(at), some(&[expected, expected]), "{key} {table:?}");
    }
}

#[test]
fn each_row_has_the_value_of_its_own_key() {
    let payload =
        r#"{"dev":"b","rows":[{"dev":"a","v":1},{"v":2},{"dev":"nobody","v":3},{"dev":"a","v":4}]}"#;
    for table in [
        &[("v", "UInt8"), ("tenant", "String")][..],
        &[("v", "UInt8"), ("tenant", "String"), ("dev", "String")],
    ] {
        for rows in ["rows", "rows[*]"] {
            let columns = json!({ "tenant": tenant(json!("dev")) });
            let mut route = Route::new(json!({ "rows": rows, "columns": columns }), table);
            assert_eq!(route.append("t/1/x", payload), Ok(4));
            assert_eq!(route.texts(1), some(&["acme", "über\n", "-", "acme"]), "{table:?} {rows}");
        }
    }
}

#[test]
fn formats_and_documents_behind_each_other_have_keys_too() {
    let columns = json!({ "tenant": tenant(json!("dev")) });
    let format = json!({ "type": "csv", "columns": ["dev", "v"] });
    let mut route =
        Route::new(json!({ "format": format, "columns": columns }), &[("v", "UInt8"), ("tenant", "String")]);
    assert_eq!(route.append("t/1/x", "a,1\nb,2\n7,3\n"), Ok(3));
    assert_eq!(route.texts(1), some(&["acme", "über\n", "-"]));
    let mut route = Route::new(json!({ "columns": columns }), &[("v", "UInt8"), ("tenant", "String")]);
    assert_eq!(
        route.append("t/1/x", "{\"v\":1,\"dev\":\"a\"}{\"v\":2,\"dev\":\"a\",\"dev\":\"b\"}\n{\"v\":3}"),
        Ok(3)
    );
    assert_eq!(route.texts(1), some(&["acme", "über\n", "-"]));
}

#[test]
fn a_number_is_a_key_as_it_is_written() {
    let source = json!({ "lookup": "devices", "key": "dev", "field": "limit" });
    for table in [
        &[("limit", "UInt16")][..],
        &[("limit", "UInt16"), ("dev", "UInt32")],
        &[("limit", "UInt16"), ("dev", "String")],
    ] {
        let mut route = Route::new(json!({ "columns": { "limit": source } }), table);
        route.append("t/1/x", r#"{"dev":7}"#).unwrap();
        route.append("t/1/x", r#"{"dev":"7"}"#).unwrap();
        assert_eq!(route.texts(0), some(&["300", "300"]), "{table:?}");
    }
}

#[test]
fn values_follow_the_rules_for_fields_of_a_payload() {
    let source = |field: &str| json!({ "lookup": "devices", "key": "dev", "field": field });
    let columns = json!({ "limit": source("limit"), "since": source("since") });
    let table = [("limit", "UInt8"), ("since", "DateTime"), ("dev", "String")];
    let mut route = Route::new(json!({ "columns": columns }), &table);
    assert_eq!(route.append("t/1/x", r#"{"dev":"a"}"#), Ok(1));
    assert_eq!((route.texts(0), route.texts(1)), (some(&["7"]), some(&["1796040000"])));
    // Required, and 300 does not fit a UInt8.
    let reason = route.append("t/1/x", r#"{"dev":"b"}"#).unwrap_err();
    assert_eq!(reason.code.as_str(), "FIELD_MISSING");
    assert_eq!(&*reason.message, "column limit: is required, and the lookup devices has nothing for it");
    let reason = route.append("t/1/x", r#"{"dev":7}"#).unwrap_err();
    assert_eq!(reason.code.as_str(), "OUT_OF_RANGE");
    assert!(
        reason.message.starts_with("column limit: the lookup devices has a value that does not fit: 300"),
        "{reason:?}"
    );
    let reason = route.append("t/1/x", r#"{}"#).unwrap_err();
    assert_eq!(reason.code.as_str(), "FIELD_MISSING");
    // Nothing is left of them.
    assert_eq!(
        (route.texts(0), route.texts(1), route.texts(2)),
        (some(&["7"]), some(&["1796040000"]), some(&["a"]))
    );
    assert_eq!(route.config.lookups.get("devices").unwrap().misses(), 0);
    route.append("t/1/x", r#"{"dev":"nobody"}"#).unwrap_err();
    assert_eq!(route.config.lookups.get("devices").unwrap().misses(), 1);
}

#[test]
fn a_missing_value_is_null_or_zero_as_for_fields() {
    let source = json!({ "lookup": "devices", "key": "dev", "field": "limit" });
    let mut route = Route::new(json!({ "columns": { "limit": source } }), &[("limit", "Nullable(UInt16)")]);
    route.append("t/1/x", r#"{"dev":"nobody"}"#).unwrap();
    route.append("t/1/x", r#"{"dev":"a"}"#).unwrap();
    assert_eq!(route.texts(0), [None, Some("7".into())]);
    let options = json!({ "columns": { "limit": source }, "missingFields": "zero" });
    let mut route = Route::new(options, &[("limit", "UInt16")]);
    route.append("t/1/x", r#"{"dev":"nobody"}"#).unwrap();
    assert_eq!(route.texts(0), some(&["0"]));
}

#[test]
fn a_message_is_decoded_with_the_newest_map() {
    let mut route = Route::new(
        json!({ "columns": { "tenant": tenant(json!("dev")) } }),
        &[("tenant", "String"), ("dev", "String")],
    );
    route.append("t/1/x", r#"{"dev":"a"}"#).unwrap();
    route.set(r#"{"a":{"tenant":"other"}}"#).unwrap();
    route.append("t/1/x", r#"{"dev":"a"}"#).unwrap();
    route.set(r#"{"a":1}"#).unwrap();
    route.append("t/1/x", r#"{"dev":"a"}"#).unwrap();
    // One that is refused changes nothing.
    route.set("[]").unwrap_err();
    route.append("t/1/x", r#"{"dev":"a"}"#).unwrap();
    assert_eq!(route.texts(0), some(&["acme", "other", "-", "-"]));
}

#[test]
fn the_field_of_a_key_is_known() {
    for table in [&[("tenant", "String")][..], &[("tenant", "String"), ("dev", "String")]] {
        let options = json!({ "columns": { "tenant": tenant(json!("dev")) }, "unknownFields": "reject" });
        let mut route = Route::new(options, table);
        assert_eq!(route.append("t/1/x", r#"{"dev":"a"}"#), Ok(1));
        assert_eq!(
            route.append("t/1/x", r#"{"dev":"a","other":1}"#).unwrap_err().code.as_str(),
            "UNKNOWN_FIELD"
        );
    }
}
