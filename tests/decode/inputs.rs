//! Fields that only a transform reads: what a source says of a value holds for them as for columns.

use std::time::SystemTime;

use millrace::clickhouse::schema::TableColumn;
use millrace::clickhouse::{Column, ColumnType};
use millrace::config::Config;
use millrace::core::mqtt_property::Properties;
use millrace::core::topic_filter::Captures;
use millrace::decode::{Decoder, Message};
use serde_json::{Value, json};

/// The floats of an input, from one payload.
fn input(route: Value, source: Value, payload: &str) -> Vec<f64> {
    let mut options =
        json!({ "topic": "t", "table": "t", "transform": { "function": true }, "inputs": { "x": source } });
    options.as_object_mut().unwrap().extend(route.as_object().unwrap().clone());
    let config =
        json!({ "mqtt": { "url": "mqtt://x" }, "clickhouse": { "url": "http://x" }, "routes": [options] });
    let config = Config::parse(&config.to_string()).unwrap();
    let table = [TableColumn {
        name: "v".into(),
        column_type: ColumnType::parse("UInt8", "UTC").unwrap(),
        default: None,
        is_ephemeral: false,
        is_added: false,
    }];
    let mut decoder = Decoder::new("routes[0]", &config.routes[0], &table).unwrap();
    let mut columns = decoder.columns();
    let message = Message {
        topic: "t",
        captures: &Captures::default(),
        payload: payload.as_bytes(),
        qos: 1,
        retain: false,
        received_at: SystemTime::UNIX_EPOCH,
        client_id: "c",
        properties: Properties::NONE,
    };
    decoder.append(&message, &mut columns).unwrap();
    let Column::Fixed { data, .. } = &columns[decoder.inputs().start] else { panic!("{columns:?}") };
    data.as_chunks::<8>().0.iter().map(|bytes| f64::from_le_bytes(*bytes)).collect()
}

#[test]
fn an_input_is_read_as_its_source_says() {
    let payload = r#"{"v":1,"gps":{"acc":"2,5 m"},"other":4,"list":[1,8]}"#;
    for (source, expected) in [
        (json!({ "path": "gps.acc", "parse": "number", "type": "Float64" }), 2.5),
        (json!({ "path": "other", "scale": 0.5, "offset": 1, "type": "Float64" }), 3.0),
        (json!({ "path": ["nowhere", "other"], "type": "Float64" }), 4.0),
        (json!({ "path": "other", "map": { "4": 7 }, "type": "Float64" }), 7.0),
        (json!({ "path": "list[-1]", "type": "Float64" }), 8.0),
    ] {
        assert_eq!(input(json!({}), source.clone(), payload), [expected], "{source}");
    }
    // A path of two steps is not the list of a Nested, whatever reads the payload.
    for route in [json!({}), json!({ "nulls": "-" }), json!({ "rows": "rows[*]" })] {
        let payload = r#"{"rows":[{"v":1,"gps":{"acc":6}}],"v":1,"gps":{"acc":6}}"#;
        let source = json!({ "path": "gps.acc", "type": "Float64" });
        assert_eq!(input(route.clone(), source, payload), [6.0], "{route}");
    }
}
