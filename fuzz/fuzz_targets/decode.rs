//! JSON: the lexer, members in the expected order, the walk over a document, and lists of rows. See `reader` for what must
//! hold.

#![no_main]

mod reader;

use std::sync::LazyLock;

use libfuzzer_sys::fuzz_target;
use reader::{LEAST, LEAST_WITH_ROWS, Route, route, rows, texts};
use serde_json::json;

static ROUTES: LazyLock<Vec<Route>> = LazyLock::new(|| {
    vec![
        route(rows::plain(), LEAST),
        route(rows::mapped(), LEAST),
        route(json!({ "unknownFields": "reject" }), LEAST),
        route(
            json!({ "rows": "list", "columns": { "u8": "@.a", "text": "$.text", "doc": "@" } }),
            LEAST_WITH_ROWS,
        ),
    ]
});

fuzz_target!(|input: &[u8]| texts(&ROUTES, input));
