//! JSON through a tape: paths of every form, rows of rows, lists side by side, and what a source does to its value. See
//! `reader` for what must hold.

#![no_main]

mod reader;

use std::sync::LazyLock;

use libfuzzer_sys::fuzz_target;
use reader::{LEAST, LEAST_WITH_ROWS, Route, route, texts};
use serde_json::json;

static ROUTES: LazyLock<Vec<Route>> = LazyLock::new(|| {
    vec![
        route(
            json!({ "nan": "null", "columns": { "text": { "path": "text", "parse": "json" }, "u8": "text.a" } }),
            LEAST,
        ),
        route(
            json!({ "rows": "list[*].list[*]", "nan": "value", "unknownFields": "reject" }),
            LEAST_WITH_ROWS,
        ),
        route(
            json!({ "rows": "list.*", "columns": { "text": { "key": "@" }, "f64": "@", "i8": ["a", "b[-1]", "c.*"] } }),
            LEAST_WITH_ROWS,
        ),
        route(
            json!({ "rows": { "zip": { "a": "list.a", "b": "list.b" } }, "columns": { "u8": "a", "text": "b" } }),
            LEAST_WITH_ROWS,
        ),
        route(
            json!({ "columns": { "word": { "key": "$.*" }, "f64": "*.lat", "i32": "list[-1]", "point": "any" } }),
            LEAST,
        ),
        route(
            json!({
                "nulls": ["", "N/A"],
                "columns": {
                    "f64": { "path": "f64", "parse": "number", "scale": 3.6, "offset": -1 },
                    "text": { "path": "text", "parse": "base64" },
                    "fixed": { "path": "text", "parse": "hex" },
                    "flag": { "path": "flag", "map": { "ON": true, "OFF": false, "*": 1 } },
                },
            }),
            LEAST,
        ),
    ]
});

fuzz_target!(|input: &[u8]| texts(&ROUTES, input));
