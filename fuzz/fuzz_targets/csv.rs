//! CSV with a header, with names, and of pairs; and a text alone. See `reader` for what must hold.

#![no_main]

mod reader;

use std::sync::LazyLock;

use libfuzzer_sys::fuzz_target;
use reader::{LEAST, LEAST_WITH_ROWS, Route, route, texts};
use serde_json::json;

static ROUTES: LazyLock<Vec<Route>> = LazyLock::new(|| {
    vec![
        route(json!({ "format": "csv" }), LEAST_WITH_ROWS),
        route(
            json!({ "format": { "type": "csv", "columns": ["u8", "f64", "text", "at"], "delimiter": ";", "decimal": "," } }),
            LEAST_WITH_ROWS,
        ),
        route(json!({ "format": { "type": "csv", "pairs": "=", "delimiter": ";" } }), LEAST_WITH_ROWS),
        route(
            json!({ "format": "text", "columns": { "text": "$", "f64": { "path": "$", "nulls": ["nan"] }, "exact": "$" } }),
            LEAST,
        ),
    ]
});

fuzz_target!(|input: &[u8]| texts(&ROUTES, input));
