//! CBOR. See `reader` for what must hold.

#![no_main]

mod reader;

use std::sync::LazyLock;

use libfuzzer_sys::fuzz_target;
use reader::{LEAST_WITH_ROWS, Route, binary, route};
use serde_json::json;

static ROUTES: LazyLock<Vec<Route>> = LazyLock::new(|| {
    vec![
        route(json!({ "format": "cbor" }), LEAST_WITH_ROWS),
        route(json!({ "format": "cbor", "rows": "list[*]", "nan": "null" }), LEAST_WITH_ROWS),
    ]
});

fuzz_target!(|input: &[u8]| binary(&ROUTES, input));
