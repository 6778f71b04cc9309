//! The INSERTs themselves, as golden bytes: statement and settings of each kind. See `tests/golden/main.rs` for how these are
//! written anew, and when that is allowed.

use std::fmt::Write;

use serde_json::json;

use super::expected::assert_golden;
use super::fake_clickhouse::{Answer, Gate, Insert};
use super::harness::{Running, clickhouse};

fn print(what: &str, insert: &Insert) -> String {
    let mut out = format!("{what}\n{}\n", insert.sql);
    for (name, value) in &insert.settings {
        // The random number of each life stands between the name and the number.
        let value = match insert.token.starts_with("sink-") && name == "insert_deduplication_token" {
            true => value
                .split('-')
                .map(|part| if part.len() == 16 { "<life>" } else { part })
                .collect::<Vec<_>>()
                .join("-"),
            false => value.clone(),
        };
        writeln!(out, "  {name} = {value}").unwrap();
    }
    out + "\n"
}

#[test]
fn each_kind_of_insert() {
    let mut out = String::new();
    let settings =
        json!({ "clickhouse": { "settings": { "max_threads": 2 } }, "deadLetters": { "table": "letters" } });

    let mut running = Running::start(settings.clone());
    running.clickhouse.view("t", |row| row["seq"] == "1");
    running.send_numbers(0..2);
    running.send("{");
    let ended = running.finish();
    let inserts = ended.clickhouse.inserts();
    let of = |table: &'static str| inserts.iter().filter(move |insert| insert.table() == table);
    out += &print("rows", of("t").next().unwrap());
    out += &print("rows that views do not get", of("t").nth(1).unwrap());
    out += &print("rows that are tried on views", of("t").nth(2).unwrap());
    out += &print("dead letters", of("letters").next().unwrap());

    let mut running = Running::start(settings);
    running.clickhouse.refuse("t", |row| row["seq"] == "1");
    running.send_numbers(0..2);
    let ended = running.finish();
    out += &print("half of a batch", &ended.clickhouse.inserts()[1]);

    let server = clickhouse();
    server.create("t", &["seq UInt32 DEFAULT 7", "text Nullable(String) DEFAULT 'x'"]);
    let mut running = Running::at(server, json!({}));
    running.send("{}");
    out += &print("a table with DEFAULTs", &running.finish().clickhouse.inserts()[0]);

    let dir = tempfile::tempdir().unwrap();
    let gate = Gate::default();
    let mut running = Running::start(json!({
        "spool": { "dir": dir.path() }, "mqtt": { "clientId": "client" }, "batch": { "maxDelayMs": 1 },
    }));
    running.clickhouse.script([Answer::Held(gate.clone())]);
    for seq in 0..4 {
        running.send_numbers(seq..seq + 1);
        running.seal();
        running.wait_for_acknowledgements(seq as usize + 1);
    }
    running.clickhouse.wait_for_inserts(1);
    gate.open();
    let inserts = running.finish().clickhouse.inserts();
    let records = inserts.iter().find(|insert| insert.blocks.len() > 1).unwrap();
    // The time at which the first INSERT is due decides which record comes first.
    let number = records.token.rsplit('-').next().unwrap();
    let printed = print("several records of the spool", records);
    out += &printed.replace(&format!("<life>-{number}\n"), "<life>-<record>\n");
    assert_golden("inserts.txt", &out);
}
