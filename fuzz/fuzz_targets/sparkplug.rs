//! Sparkplug B: messages of an edge node one after the other, each with a byte for its topic and two for its length. See
//! `reader` for what must hold.

#![no_main]

mod reader;

use std::sync::LazyLock;

use libfuzzer_sys::fuzz_target;
use reader::{LEAST_WITH_ROWS, Route, decode_on, route_on};
use serde_json::json;

const TOPICS: [&str; 6] = [
    "spBv1.0/g/NBIRTH/n",
    "spBv1.0/g/DBIRTH/n/d",
    "spBv1.0/g/NDATA/n",
    "spBv1.0/g/DDATA/n/d",
    "spBv1.0/g/NDEATH/n",
    "spBv1.0/g/NDATA",
];

static ROUTE: LazyLock<Route> = LazyLock::new(|| {
    let columns = json!({ "any": "value", "text": "name", "u8": "seq", "maybe": "int_value", "f64": "float_value",
        "flag": "is_null", "word": "type", "exact": "timestamp" });
    route_on(TOPICS[0], "spBv1.0/#", json!({ "format": "sparkplug", "columns": columns }), LEAST_WITH_ROWS)
});

fuzz_target!(|input: &[u8]| {
    let (rows, least) = &*ROUTE;
    let mut rows = rows.clone();
    // Clones share what BIRTH messages say. This one makes the node forget that of the last input.
    decode_on(TOPICS[0], &mut rows, *least, &[]);
    let mut rest = input;
    while let [topic, high, low, more @ ..] = rest {
        let (payload, behind) = more.split_at(more.len().min(usize::from(*high) << 8 | usize::from(*low)));
        decode_on(TOPICS[*topic as usize % TOPICS.len()], &mut rows, *least, payload);
        rest = behind;
    }
});
