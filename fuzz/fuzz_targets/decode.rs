//! Any bytes through the decoder: no panic, no hang, rows completely or not at all, and no more memory
//! than a small multiple of the payload.
//!
//! The first byte chooses the route. The rest is one payload after another, separated by 0xff, which is in no JSON; of a binary
//! format it is one payload.

#![no_main]

#[path = "../../tests/decode/rows.rs"]
mod rows;

use std::alloc::{GlobalAlloc, Layout, System};
use std::sync::LazyLock;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};

use libfuzzer_sys::fuzz_target;
use rows::{Rows, mapped, plain, table};
use serde_json::{Value, json};

/// The system's allocator, with the most that was in use since it was last asked.
struct Counting;

static USED: AtomicUsize = AtomicUsize::new(0);
static MOST: AtomicUsize = AtomicUsize::new(0);

// SAFETY: all is left to the system's allocator.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        MOST.fetch_max(USED.fetch_add(layout.size(), Relaxed) + layout.size(), Relaxed);
        // SAFETY: as the caller promised.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        USED.fetch_sub(layout.size(), Relaxed);
        // SAFETY: as the caller promised.
        unsafe { System.dealloc(pointer, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

/// Memory that a message may take beyond a multiple of its payload: the buffers of each column have a
/// minimum, and a message that repeats its fields in many rows may take this much.
const LEAST: usize = 256 << 10;
const LEAST_WITH_ROWS: usize = 8 << 20;
/// `{},` in a list is a row of 38 columns, which takes about 300 bytes, and `0,` can be a value of 32; buffers double when
/// they grow, and are copied then.
const MULTIPLE: usize = 200;

/// The first rows of each route, and the memory that its messages may take.
static ROUTES: LazyLock<[(Rows, usize); 12]> = LazyLock::new(routes);

/// The number of routes that read JSON or text, where 0xff ends a payload.
const TEXTS: usize = 8;

fn routes() -> [(Rows, usize); 12] {
    let rows = json!({
        "topic": "drivers/+/position", "table": "t", "missingFields": "zero", "rows": "list",
        "columns": { "u8": "@.a", "text": "$.text", "doc": "@" },
    });
    let strict = json!({
        "topic": "drivers/+/position", "table": "t", "missingFields": "zero", "unknownFields": "reject",
    });
    let route = |route: Value, least| (Rows::of(&route, table()), least);
    let with = |more: Value| {
        let mut route = json!({ "topic": "drivers/+/position", "table": "t", "missingFields": "zero" });
        route.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        route
    };
    let tape = with(json!({ "nan": "null", "columns": { "text": { "path": "text", "parse": "json" }, "u8": "text.a" } }));
    let inner = with(json!({ "rows": "list[*].list[*]", "nan": "value", "unknownFields": "reject" }));
    [
        route(plain(), LEAST),
        route(mapped(), LEAST),
        route(strict, LEAST),
        route(rows, LEAST_WITH_ROWS),
        route(tape, LEAST),
        route(inner, LEAST_WITH_ROWS),
        route(with(json!({ "format": "csv" })), LEAST_WITH_ROWS),
        route(with(json!({ "format": "text", "columns": { "text": "$" } })), LEAST),
        route(with(json!({ "format": "msgpack" })), LEAST_WITH_ROWS),
        route(with(json!({ "format": "cbor" })), LEAST_WITH_ROWS),
        route(with(json!({ "format": "sparkplug" })), LEAST_WITH_ROWS),
        // The unpacked bytes count as its payload.
        route(with(json!({ "compression": "auto", "maxPayloadBytes": 4096 })), LEAST_WITH_ROWS),
    ]
}

fuzz_target!(|input: &[u8]| {
    let Some((choice, payloads)) = input.split_first() else { return };
    let choice = *choice as usize % ROUTES.len();
    let (rows, least) = &ROUTES[choice];
    let mut rows = rows.clone();
    for payload in payloads.split(|byte| choice < TEXTS && *byte == 0xff) {
        let (before, count) = (rows.bytes(), rows.columns[0].rows());
        let used = USED.load(Relaxed);
        MOST.store(used, Relaxed);
        let appended = rows.decode(payload);
        let took = MOST.load(Relaxed) - used;
        assert!(took <= *least + MULTIPLE * payload.len(), "{took} bytes for {} of payload", payload.len());
        rows.check(&before, count, &appended);
    }
});
