//! Answers to queries: errors name the status of HTTP, and no answer is read without a limit.

use super::engine::{ClickHouseServer, Config, SchemaClient};
use super::fake_clickhouse::{Answer, QueryAnswer};
use super::harness::{Running, clickhouse, config};
use serde_json::json;

/// The text of the error, or the number of columns, after a query for the columns of the table `t` got this answer.
fn asked(answer: QueryAnswer) -> String {
    let clickhouse = clickhouse();
    let config: Config = config(&clickhouse.url, &json!({}));
    let servers: Vec<ClickHouseServer> = super::engine::servers(&config.clickhouse).unwrap();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let schema = SchemaClient::connect(&servers, "d").await.unwrap();
        clickhouse.script_queries([answer]);
        schema
            .columns("t")
            .await
            .map_or_else(|error| error.to_string(), |columns| format!("{} columns", columns.len()))
    })
}

#[test]
fn an_error_names_the_status() {
    let text = asked(QueryAnswer::Exception(60, "Table d.t does not exist"));
    assert!(
        text.starts_with("ClickHouse refused with HTTP 500: Code: 60. DB::Exception: Table d.t does not"),
        "{text}"
    );
    for (status, body, expected) in [
        (429, "<html>\nSlow down", "it answered 429 Too Many Requests: <html> Slow down"),
        (302, "", "it answered 302 Found"),
        (200, "<html>Please log in", "no JSON came back: "),
    ] {
        let text = asked(QueryAnswer::Status(status, body));
        assert!(text.starts_with("ClickHouse at http://") && text.contains(expected), "{text}");
    }
}

#[test]
fn an_exception_after_the_first_rows_is_one() {
    for is_tagged in [true, false] {
        let text = asked(QueryAnswer::LateException(159, "Timeout exceeded", is_tagged));
        let expected =
            "ClickHouse refused with HTTP 200: Code: 159. DB::Exception: Timeout exceeded. (TEST) (version";
        assert!(text.starts_with(expected) && !text.contains("__exception__"), "{text}");
    }
}

#[test]
fn an_answer_is_read_to_a_limit() {
    assert_eq!(asked(QueryAnswer::Rows(1_533)), "21 columns");
    for bytes in [(16 << 20) + 1, 40 << 20] {
        let text = asked(QueryAnswer::Rows(bytes));
        assert!(text.contains("its answer to a query is longer than 16777216 bytes"), "{text}");
    }
}

/// Warnings, traces and dead letters quote the same text.
#[test]
fn a_refused_insert_names_the_status() {
    let mut running = Running::start(json!({}));
    running
        .clickhouse
        .script([Answer::Exception(202, "Too many queries"), Answer::LateException(203, "No free")]);
    running.clickhouse.refuse("t", |row| row["seq"] == "1");
    running.send_numbers(0..2);
    let ended = running.finish();
    for (code, text) in &ended.reported.warnings {
        assert!(!text.contains("Code: ") || text.contains("ClickHouse refused with HTTP "), "{code}: {text}");
    }
    assert!(ended.reported.warnings.iter().any(|(_, text)| text.contains("with HTTP 500: Code: 202")));
    for (_, _, message) in &ended.reported.dead_letters {
        assert!(message.contains("with HTTP 500: Code: "), "{message}");
    }
    assert!(!ended.reported.dead_letters.is_empty());
}
