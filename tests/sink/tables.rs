//! Tables beside one another: what one of them does not take holds up no other.

use serde_json::{Value, json};

use super::harness::{Running, assert_rows, clickhouse};

fn two_tables() -> Value {
    json!({ "routes": [{ "topic": "t/#", "table": "t" }, { "topic": "u/#", "table": "u" }] })
}

/// One INSERT at a time, and a table that is gone: its rows wait, those of the other are inserted and
/// acknowledged.
#[test]
fn a_table_that_takes_nothing_holds_up_no_other() {
    for spooled in [false, true] {
        let dir = tempfile::tempdir().unwrap();
        let mut config = two_tables();
        if spooled {
            config["spool"] = json!({ "dir": dir.path() });
        }
        let server = clickhouse();
        server.create("u", &["seq UInt32", "text String"]);
        let mut running = Running::at(server, config);
        running.clickhouse.drop_table("u");
        for seq in 0..3 {
            running.send_to("u/x", &json!({ "seq": seq, "text": format!("text {seq}") }).to_string());
            running.seal();
        }
        running.wait_for_warning("CLICKHOUSE_RETRYING");
        for seq in 0..5 {
            running.send_numbers(seq..seq + 1);
            running.seal();
            running.flush_spool();
            running.wait_for_rows("t", seq as usize + 1);
        }
        if !spooled {
            running.wait_for_acknowledgements(5);
        }
        running.clickhouse.create("u", &["seq UInt32", "text String"]);
        let ended = running.finish();
        assert_rows(&ended.clickhouse, 0..5);
        let rows = ended.clickhouse.rows("u");
        let order: Vec<_> = rows.iter().map(|row| row["seq"].as_str()).collect();
        assert_eq!(order, ["0", "1", "2"], "in the order of their messages");
    }
}

/// Grants, quotas, a table that may not be written: mistakes that an operator has to fix.
#[test]
fn a_mistake_of_an_operator_holds_up_no_other_table() {
    for code in [8, 53, 60, 81, 115, 164, 201, 242, 243, 452, 497] {
        for spooled in [false, true] {
            let dir = tempfile::tempdir().unwrap();
            let mut config = two_tables();
            if spooled {
                config["spool"] = json!({ "dir": dir.path() });
            }
            let server = clickhouse();
            server.create("u", &["seq UInt32", "text String"]);
            let mut running = Running::at(server, config);
            running.clickhouse.fail_table("u", Some((code, "Somebody has to mend it")));
            running.send_to("u/x", &json!({ "seq": 0, "text": "x" }).to_string());
            running.seal();
            running.wait_for_warning("CLICKHOUSE_RETRYING");
            running.send_numbers(0..2);
            running.seal();
            running.flush_spool();
            running.wait_for_rows("t", 2);
            assert_eq!(running.context.ledger.counts().dead_lettered, 0);
            running.clickhouse.fail_table("u", None);
            let ended = running.finish();
            assert_rows(&ended.clickhouse, 0..2);
            assert_eq!((ended.clickhouse.values("u", "seq"), ended.dead_lettered), (vec!["0".into()], 0));
        }
    }
}

/// While an INSERT of a table waits, the table is asked by that one alone.
#[test]
fn a_table_that_takes_nothing_is_asked_by_one_insert() {
    let server = clickhouse();
    server.create("u", &["seq UInt32", "text String"]);
    let mut running = Running::at(server, two_tables());
    running.clickhouse.drop_table("u");
    for seq in 0..4 {
        running.send_to("u/x", &json!({ "seq": seq, "text": "x" }).to_string());
        running.seal();
    }
    running.send_numbers(0..1);
    running.seal();
    running.wait_for_rows("t", 1);
    let inserts = running.clickhouse.inserts();
    let mut tokens: Vec<_> =
        inserts.iter().filter(|insert| insert.table() == "u").map(|insert| insert.token.clone()).collect();
    tokens.dedup();
    assert!(tokens.len() <= 1, "{tokens:?}");
    running.clickhouse.create("u", &["seq UInt32", "text String"]);
    let ended = running.finish();
    assert_eq!(ended.clickhouse.values("u", "seq"), ["0", "1", "2", "3"]);
}
