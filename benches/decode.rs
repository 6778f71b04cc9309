//! Nanoseconds per message for decoding into columns, against `serde_json` into a typed struct and into a `Value`.
//!
//! `cargo bench --profile quick --bench decode`, with the name of a shape for that one alone.

#![allow(clippy::print_stdout, reason = "a benchmark prints its figures")]

use std::collections::HashMap;
use std::hint::black_box;
use std::time::{Duration, Instant as Clock, SystemTime};

use millrace::clickhouse::schema::TableColumn;
use millrace::clickhouse::{Column, ColumnType};
use millrace::config::Config;
use millrace::core::mqtt_property::Properties;
use millrace::core::topic_filter::Captures;
use millrace::decode::{Decoder, Message};
use serde::Deserialize;
use serde::de::DeserializeOwned;

/// The message the project is measured on.
#[derive(Deserialize)]
#[allow(dead_code, reason = "only its decoding is measured")]
struct Position {
    driver_id: String,
    lat: f64,
    lng: f64,
    speed: f32,
    heading: u16,
    ts: i64,
}

#[derive(Deserialize)]
#[allow(dead_code, reason = "only its decoding is measured")]
struct Machine {
    machine: String,
    line: String,
    state: String,
    running: bool,
    alarm: bool,
    cycle: u64,
    parts: u32,
    rejects: u16,
    temperature: f32,
    pressure: f32,
    vibration: f32,
    humidity: f32,
    power: f64,
    energy: f64,
    voltage: f32,
    current: f32,
    operator: Option<String>,
    program: u16,
    tool: u8,
    at: String,
}

#[derive(Deserialize)]
#[allow(dead_code, reason = "only its decoding is measured")]
struct Meter {
    device: Device,
    at: i64,
    phases: Vec<f32>,
    registers: HashMap<String, f64>,
    tags: Vec<String>,
}

#[derive(Deserialize)]
#[allow(dead_code, reason = "only its decoding is measured")]
struct Device {
    id: String,
    firmware: String,
    location: Location,
}

#[derive(Deserialize)]
#[allow(dead_code, reason = "only its decoding is measured")]
struct Location {
    lat: f64,
    lng: f64,
}

#[derive(Deserialize)]
#[allow(dead_code, reason = "only its decoding is measured")]
struct Trace {
    id: String,
    ts: i64,
    samples: Vec<f32>,
    note: String,
}

fn main() {
    let only: Vec<String> = std::env::args().skip(1).filter(|argument| !argument.starts_with('-')).collect();
    let wanted = |name: &str| only.is_empty() || only.iter().any(|o| o == name);
    println!("{:>9} {:>9}", "ns", "MB/s");

    if wanted("gps") {
        let columns = [
            ("driver_id", "String", ""),
            ("lat", "Float64", ""),
            ("lng", "Float64", ""),
            ("speed", "Float32", ""),
            ("heading", "UInt16", ""),
            ("ts", "DateTime64(3)", ""),
        ];
        shape::<Position>("gps: a position of 6 fields", &columns, &positions());
    }
    if wanted("mixed") {
        let columns = [
            ("machine", "LowCardinality(String)", ""),
            ("line", "LowCardinality(String)", ""),
            ("state", "Enum8('idle' = 0, 'running' = 1, 'broken' = 2)", ""),
            ("running", "Bool", ""),
            ("alarm", "Bool", ""),
            ("cycle", "UInt64", ""),
            ("parts", "UInt32", ""),
            ("rejects", "UInt16", ""),
            ("temperature", "Float32", ""),
            ("pressure", "Float32", ""),
            ("vibration", "Float32", ""),
            ("humidity", "Float32", ""),
            ("power", "Float64", ""),
            ("energy", "Float64", ""),
            ("voltage", "Float32", ""),
            ("current", "Float32", ""),
            ("operator", "Nullable(String)", ""),
            ("program", "UInt16", ""),
            ("tool", "UInt8", ""),
            ("at", "DateTime64(3)", ""),
        ];
        shape::<Machine>("mixed: 20 fields of many types", &columns, &machines());
    }
    if wanted("nested") {
        let columns = [
            ("device", "String", "device.id"),
            ("firmware", "LowCardinality(String)", "device.firmware"),
            ("lat", "Float64", "device.location.lat"),
            ("lng", "Float64", "device.location.lng"),
            ("at", "DateTime64(3)", ""),
            ("phases", "Array(Float32)", ""),
            ("registers", "Map(String, Float64)", ""),
            ("tags", "Array(LowCardinality(String))", ""),
        ];
        shape::<Meter>("nested: objects, lists and a map", &columns, &meters());
    }
    if wanted("large") {
        let columns = [
            ("id", "String", ""),
            ("ts", "DateTime64(3)", ""),
            ("samples", "Array(Float32)", ""),
            ("note", "String", ""),
        ];
        shape::<Trace>("large: 2 KB, mostly numbers in a list", &columns, &traces());
    }
    if wanted("lookup") {
        lookups(&positions());
    }
}

/// The cost of a column from a map of 10,000 entries, added to a position of 6 fields: in each round both decoders take the same messages,
/// one after the other, and the difference of the best rounds is the lookup's.
fn lookups(messages: &[Fields]) {
    let entries: serde_json::Map<String, serde_json::Value> = (0..10_000)
        .map(|i| {
            (
                format!("driver-{i}"),
                serde_json::json!({ "tenant": format!("tenant {}", i % 50), "class": i % 9 }),
            )
        })
        .collect();
    let columns = [
        ("driver_id", "String", ""),
        ("lat", "Float64", ""),
        ("lng", "Float64", ""),
        ("speed", "Float32", ""),
        ("heading", "UInt16", ""),
        ("ts", "DateTime64(3)", ""),
    ];
    let messages: Vec<String> = messages.iter().map(text).collect();
    println!("lookup: a column from a map of {} entries, beside the same without it", entries.len());
    for (name, type_name, field, first) in [
        ("a text, by a key that is a column", "String", "tenant", 0),
        ("a number, by a key that is a column", "UInt8", "class", 0),
        ("a text, by a key that is no column", "String", "tenant", 1),
    ] {
        let without = &columns[first..];
        let with = [&[("of_lookup", type_name, "")], without].concat();
        let source =
            serde_json::json!({ "of_lookup": { "lookup": "drivers", "key": "driver_id", "field": field } });
        let lookups = serde_json::json!({ "drivers": { "entries": entries } });
        let mut plain = decoding(without);
        let mut enriched = decoding_with(&with, source, lookups);
        let mut best = [Duration::MAX; 2];
        let began = Clock::now();
        // A fixed number of rounds, for counts of instructions.
        let rounds: Option<usize> = std::env::var("ROUNDS").ok().and_then(|rounds| rounds.parse().ok());
        let mut round_number = 0;
        while rounds.map_or(began.elapsed() < Duration::from_secs(3), |rounds| round_number < rounds) {
            round_number += 1;
            for (best, round) in best.iter_mut().zip([&mut plain as &mut dyn FnMut(&[String]), &mut enriched])
            {
                let start = Clock::now();
                round(&messages);
                *best = (*best).min(start.elapsed());
            }
        }
        let nanos = |time: Duration| time.as_nanos() as f64 / messages.len() as f64;
        println!(
            "{:>9.1} {:>9}  {name}: {:.0} ns in place of {:.0}",
            nanos(best[1]) - nanos(best[0]),
            "",
            nanos(best[1]),
            nanos(best[0])
        );
    }
}

type Fields = Vec<(&'static str, String)>;

fn positions() -> Vec<Fields> {
    let position = |i: usize| {
        vec![
            ("driver_id", format!("\"driver-{}\"", i % 997)),
            ("lat", format!("{:.5}", 25.0 + i as f64 / 7000.0)),
            ("lng", format!("{:.5}", -80.0 - i as f64 / 7000.0)),
            ("speed", format!("{:.1}", (i % 300) as f64 / 10.0)),
            ("heading", (i % 360).to_string()),
            ("ts", (1_730_000_000_000 + i).to_string()),
        ]
    };
    (0..5000).map(position).collect()
}

fn machines() -> Vec<Fields> {
    let machine = |i: usize| {
        let tenths = |range: usize| format!("{:.1}", (i * 7 % range) as f64 / 10.0);
        vec![
            ("machine", format!("\"press-{:02}\"", i % 40)),
            ("line", format!("\"hall {}\"", i % 4)),
            ("state", ["\"idle\"", "\"running\"", "\"broken\""][i % 3].into()),
            ("running", (i % 3 == 1).to_string()),
            ("alarm", "false".into()),
            ("cycle", (9_000_000_000 + i).to_string()),
            ("parts", (i * 3).to_string()),
            ("rejects", (i % 9).to_string()),
            ("temperature", tenths(1200)),
            ("pressure", tenths(90)),
            ("vibration", format!("{:.3}", (i % 1000) as f64 / 1000.0)),
            ("humidity", tenths(1000)),
            ("power", format!("{:.2}", (i % 5000) as f64 * 1.37)),
            ("energy", format!("{:.3}", i as f64 * 12.34567)),
            ("voltage", tenths(4000)),
            ("current", tenths(600)),
            ("operator", if i.is_multiple_of(5) { "null".into() } else { format!("\"op {}\"", i % 12) }),
            ("program", (i % 700).to_string()),
            ("tool", (i % 60).to_string()),
            ("at", format!("\"2024-10-27T03:{:02}:{:02}.{:03}Z\"", i / 60 % 60, i % 60, i % 1000)),
        ]
    };
    (0..5000).map(machine).collect()
}

fn meters() -> Vec<Fields> {
    let meter = |i: usize| {
        let location = format!(r#"{{"lat":{:.4},"lng":{:.4}}}"#, i as f64 / 300.0, -(i as f64) / 200.0);
        vec![
            ("device", format!(r#"{{"id":"meter-{i}","firmware":"2.4.{}","location":{location}}}"#, i % 3)),
            ("at", (1_730_000_000_000 + i).to_string()),
            ("phases", format!("[{:.1},{:.1},{:.1}]", 229.0 + i as f64 / 9e3, 230.5, 231.0)),
            ("registers", format!(r#"{{"1.8.0":{}.25,"2.8.0":{}.5,"3.8.0":0.125}}"#, i * 3, i)),
            ("tags", r#"["residential","three-phase"]"#.into()),
        ]
    };
    (0..5000).map(meter).collect()
}

fn traces() -> Vec<Fields> {
    let trace = |i: usize| {
        let samples: Vec<String> = (0..280).map(|s| format!("{:.3}", (i + s) as f64 / 37.0)).collect();
        vec![
            ("id", format!("\"trace-{i}\"")),
            ("ts", (1_730_000_000_000 + i).to_string()),
            ("samples", format!("[{}]", samples.join(","))),
            ("note", "\"the quick brown fox jumps over the lazy dog; \\\"twice\\\"\"".into()),
        ]
    };
    (0..500).map(trace).collect()
}

fn text(fields: &Fields) -> String {
    let fields: Vec<String> = fields.iter().map(|(name, value)| format!("\"{name}\":{value}")).collect();
    format!("{{{}}}", fields.join(","))
}

fn shape<Typed: DeserializeOwned>(name: &str, columns: &[(&str, &str, &str)], messages: &[Fields]) {
    let usual: Vec<String> = messages.iter().map(text).collect();
    let turned: Vec<String> = messages
        .iter()
        .enumerate()
        .map(|(i, fields)| {
            let mut fields = fields.clone();
            let len = fields.len();
            fields.rotate_left(i * 5 % len);
            if i % 2 == 0 {
                fields.reverse();
            }
            text(&fields)
        })
        .collect();
    let bytes = usual.iter().map(String::len).sum::<usize>() / usual.len();
    println!("{name}, {bytes} bytes");
    report("columns, keys in the usual order", &usual, &mut decoding(columns));
    report("columns, keys in another order each time", &turned, &mut decoding(columns));
    report("serde_json into a struct", &usual, &mut |messages| {
        for message in messages {
            black_box(serde_json::from_str::<Typed>(message).unwrap());
        }
    });
    report("serde_json into a struct, other orders", &turned, &mut |messages| {
        for message in messages {
            black_box(serde_json::from_str::<Typed>(message).unwrap());
        }
    });
    report("serde_json into a Value", &usual, &mut |messages| {
        for message in messages {
            black_box(serde_json::from_str::<serde_json::Value>(message).unwrap());
        }
    });
}

/// A connection's work on the messages of one batch after the other.
fn decoding(columns: &[(&str, &str, &str)]) -> impl FnMut(&[String]) {
    decoding_with(columns, serde_json::json!({}), serde_json::json!({}))
}

/// The same with sources of columns, and with lookups.
fn decoding_with(
    columns: &[(&str, &str, &str)],
    sources: serde_json::Value,
    lookups: serde_json::Value,
) -> impl FnMut(&[String]) {
    let mapped: serde_json::Map<String, serde_json::Value> = columns
        .iter()
        .filter(|(_, _, path)| !path.is_empty())
        .map(|(name, _, path)| (name.to_string(), (*path).into()))
        .chain(sources.as_object().cloned().unwrap_or_default())
        .collect();
    let config = serde_json::json!({
        "mqtt": { "url": "mqtt://x" },
        "clickhouse": { "url": "http://x" },
        "routes": [{ "topic": "t", "table": "t", "columns": mapped }],
        "lookups": lookups,
    });
    let table: Vec<TableColumn> = columns
        .iter()
        .map(|(name, column_type, _)| TableColumn {
            name: (*name).into(),
            column_type: ColumnType::parse(column_type, "UTC").unwrap(),
            default: None,
            is_ephemeral: false,
            is_added: false,
        })
        .collect();
    let config = Config::parse(&config.to_string()).unwrap();
    let mut decoder = Decoder::new("routes[0]", &config.routes[0], &table).unwrap();
    let mut columns = decoder.columns();
    let captures = Captures::default();
    move |messages| {
        for message in messages {
            let message = Message {
                topic: "t",
                captures: &captures,
                payload: message.as_bytes(),
                qos: 0,
                retain: false,
                received_at: SystemTime::UNIX_EPOCH,
                client_id: "",
                properties: Properties::NONE,
            };
            decoder.append(&message, &mut columns).unwrap();
        }
        black_box(&columns);
        columns.iter_mut().for_each(Column::clear);
    }
}

/// The best of many rounds: what the code takes when nothing disturbs it.
fn report(name: &str, messages: &[String], round: &mut dyn FnMut(&[String])) {
    let mut best = Duration::MAX;
    let began = Clock::now();
    while began.elapsed() < Duration::from_secs(1) {
        let start = Clock::now();
        round(messages);
        best = best.min(start.elapsed());
    }
    let bytes: usize = messages.iter().map(String::len).sum();
    let nanos = best.as_nanos() as f64;
    println!("{:>9.0} {:>9.0}  {name}", nanos / messages.len() as f64, bytes as f64 / nanos * 1000.0);
}
