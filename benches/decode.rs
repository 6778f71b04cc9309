//! Nanoseconds per message for decoding, against `serde_json` into a typed struct and into a `Value`.
//!
//! `cargo bench --profile quick --bench decode`

#![allow(clippy::print_stdout, reason = "a benchmark prints its figures")]

use std::hint::black_box;
use std::time::{Duration, Instant as Clock};

use millrace::columns::ColumnType;
use millrace::config::Config;
use millrace::decode::{Decoder, Instant, Message, TableColumn};
use millrace::mqtt::Properties;
use millrace::mqtt::topic::Captures;
use serde::Deserialize;

/// The message the project is measured on.
#[derive(Deserialize)]
#[allow(dead_code, reason = "only its decoding is measured")]
struct Position<'a> {
    driver_id: &'a str,
    lat: f64,
    lng: f64,
    speed: f32,
    heading: u16,
    ts: i64,
}

const COLUMNS: [(&str, &str); 6] = [
    ("driver_id", "String"),
    ("lat", "Float64"),
    ("lng", "Float64"),
    ("speed", "Float32"),
    ("heading", "UInt16"),
    ("ts", "DateTime64(3)"),
];

fn main() {
    let usual = messages(["driver_id", "lat", "lng", "speed", "heading", "ts"]);
    let shuffled = messages(["ts", "heading", "driver_id", "speed", "lng", "lat"]);
    let mixed: Vec<_> = usual.iter().zip(&shuffled).flat_map(|(a, b)| [a.clone(), b.clone()]).collect();
    let bytes = usual.iter().map(String::len).sum::<usize>() / usual.len();
    println!("a position of {bytes} bytes, nanoseconds a message:");
    report("columns, keys in the usual order", &usual, decode);
    report("columns, keys in another order each time", &mixed, decode);
    report("serde_json into a struct", &usual, |messages| {
        for message in messages {
            black_box(serde_json::from_str::<Position>(message).unwrap());
        }
    });
    report("serde_json into a Value", &usual, |messages| {
        for message in messages {
            black_box(serde_json::from_str::<serde_json::Value>(message).unwrap());
        }
    });
}

fn messages(order: [&str; 6]) -> Vec<String> {
    (0..5000)
        .map(|i| {
            let fields = order.map(|name| {
                let value = match name {
                    "driver_id" => format!("\"driver-{}\"", i % 997),
                    "lat" => format!("{:.5}", 25.0 + i as f64 / 7000.0),
                    "lng" => format!("{:.5}", -80.0 - i as f64 / 7000.0),
                    "speed" => format!("{:.1}", (i % 300) as f64 / 10.0),
                    "heading" => (i % 360).to_string(),
                    _ => (1_730_000_000_000u64 + i).to_string(),
                };
                format!("\"{name}\":{value}")
            });
            format!("{{{}}}", fields.join(","))
        })
        .collect()
}

fn decode(messages: &[String]) {
    let config =
        r#"{"mqtt":{"url":"mqtt://x"},"clickhouse":{"url":"http://x"},"routes":[{"topic":"t","table":"t"}]}"#;
    let table = COLUMNS.map(|(name, column_type)| TableColumn {
        name: name.into(),
        column_type: ColumnType::parse(column_type, "UTC").unwrap(),
        default: None,
    });
    let mut decoder = Decoder::new("routes[0]", &Config::parse(config).unwrap().routes[0], &table).unwrap();
    let mut columns = decoder.columns();
    let captures = Captures::default();
    for message in messages {
        let message = Message {
            topic: "t",
            captures: &captures,
            payload: message.as_bytes(),
            qos: 0,
            retain: false,
            received_at: Instant { seconds: 0, nanos: 0 },
            client_id: "",
            properties: Properties::NONE,
        };
        decoder.append(&message, &mut columns).unwrap();
    }
    black_box(columns);
}

/// The best of many rounds: what the code takes when nothing disturbs it.
fn report(name: &str, messages: &[String], round: impl Fn(&[String])) {
    let mut best = Duration::MAX;
    let began = Clock::now();
    while began.elapsed() < Duration::from_secs(1) {
        let start = Clock::now();
        round(messages);
        best = best.min(start.elapsed());
    }
    println!("{:>8.0}  {name}", best.as_nanos() as f64 / messages.len() as f64);
}
