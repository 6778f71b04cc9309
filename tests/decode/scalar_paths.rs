//! Paths that lead through a text, a number or a boolean: one warning for each column, where it has no
//! value from elsewhere.

use serde_json::{Value, json};

use crate::documents::{route, table};
use crate::rows::Rows;

/// The warnings of each payload, as `column: path`.
fn warned(options: Value, columns: &[(&str, &str)], payloads: &[&[u8]]) -> Vec<Vec<String>> {
    let mut rows = Rows::of(&route(options), table(columns));
    let mut warned = Vec::new();
    for payload in payloads {
        let _ = rows.append(payload);
        assert!(rows.decoder.take_truncated_times().is_empty());
        assert_eq!(rows.decoder.has_findings(), !warned_of(&mut rows.clone()).is_empty());
        warned.push(warned_of(&mut rows));
    }
    warned
}

fn warned_of(rows: &mut Rows) -> Vec<String> {
    let paths = rows.decoder.take_scalar_paths();
    paths.into_iter().map(|(column, path)| format!("{column}: {path}")).collect()
}

const POSITION: [(&str, &str); 2] = [("lat", "Nullable(Float64)"), ("lon", "Nullable(Float64)")];

fn position() -> Value {
    json!({ "lat": "position.lat", "lon": "position.at.lon" })
}

const NOTHING: Vec<String> = Vec::new();

#[test]
fn a_path_through_a_scalar_warns_once() {
    let both = vec!["lat: position.lat".to_string(), "lon: position.at.lon".to_string()];
    for scalar in ["\"52.5,13.4\"", "7", "-1.5", "true", "false"] {
        let payload = format!(r#"{{"position":{scalar}}}"#).into_bytes();
        let got = warned(json!({ "columns": position() }), &POSITION, &[b"{}", &payload, &payload]);
        assert_eq!(got, [NOTHING, both.clone(), NOTHING], "{scalar}");
    }
    let payloads: [&[u8]; 2] = [br#"{"position":{"lat":1,"at":2}}"#, br#"{"position":1}"#];
    let got = warned(json!({ "columns": position() }), &POSITION, &payloads);
    assert_eq!(got, [vec![both[1].clone()], vec![both[0].clone()]]);
}

#[test]
fn a_value_that_is_present_or_merely_missing_does_not_warn() {
    for payload in [
        r#"{"position":{"lat":1,"at":{"lon":2}}}"#,
        r#"{"position":null}"#,
        r#"{"position":{"at":null}}"#,
        r#"{"position":[]}"#,
        r#"{"position":{}}"#,
        r#"{"other":1}"#,
        r#"{"position":"x","position":{"lat":1,"at":{"lon":2}}}"#,
    ] {
        let got = warned(json!({ "columns": position() }), &POSITION, &[payload.as_bytes()]);
        assert_eq!(got, [NOTHING], "{payload}");
    }
    // The document itself may be anything.
    let columns = [("whole", "String"), ("lat", "Nullable(Float64)")];
    let options = json!({ "columns": { "whole": "$" } });
    assert_eq!(warned(options.clone(), &columns, &[b"7"]), [NOTHING]);
    let options = json!({ "columns": { "whole": "$", "lat": "lat" }, "format": "text" });
    assert_eq!(warned(options, &columns, &[b"on"]), [NOTHING]);
}

#[test]
fn a_value_from_elsewhere_does_not_warn() {
    let columns = [("v", "Nullable(Float64)")];
    // The first of several paths that leads to a value counts.
    let options = json!({ "columns": { "v": ["a.b", "c"] } });
    let payloads: [&[u8]; 2] = [br#"{"a":1,"c":2}"#, br#"{"a":1}"#];
    assert_eq!(warned(options, &columns, &payloads), [NOTHING, vec!["v: a.b".into()]]);
    // The document around a row has it.
    let options = json!({ "rows": "list", "columns": { "v": "a.b" } });
    let payloads: [&[u8]; 2] = [br#"{"a":{"b":1},"list":[{"a":5}]}"#, br#"{"list":[{"a":5}]}"#];
    assert_eq!(warned(options.clone(), &columns, &payloads), [NOTHING, vec!["v: a.b".into()]]);
    let options = json!({ "rows": "list[*]", "nulls": "x", "columns": { "v": "a.b" } });
    assert_eq!(warned(options, &columns, &payloads), [NOTHING, vec!["v: a.b".into()]]);
}

#[test]
fn a_message_that_is_refused_warns_too() {
    let columns = [("lat", "Float64")];
    let options = json!({ "columns": { "lat": "position.lat" } });
    let payloads: [&[u8]; 3] = [br#"{"position":"x"#, br#"{"position":"x"}"#, br#"{"position":"x"}"#];
    assert_eq!(warned(options, &columns, &payloads), [NOTHING, vec!["lat: position.lat".into()], NOTHING]);
}

#[test]
fn every_format_warns() {
    // {"position": "x"} in MessagePack and CBOR.
    let msgpack = b"\x81\xa8position\xa1x";
    let cbor = b"\xa1\x68position\x61x";
    for (format, payload) in [("msgpack", &msgpack[..]), ("cbor", &cbor[..]), ("csv", b"position\nx")] {
        let got = warned(json!({ "format": format, "columns": position() }), &POSITION, &[payload, payload]);
        assert_eq!(got, [vec!["lat: position.lat", "lon: position.at.lon"], vec![]], "{format}");
    }
}
