//! Any bytes through a decoder: no panic, no hang, rows completely or not at all, and no more memory than a small multiple
//! of the payload. Each target has the routes of one reader.

#![allow(dead_code, reason = "each target uses some of it")]

#[path = "../../../tests/decode/rows.rs"]
pub mod rows;

use std::alloc::{GlobalAlloc, Layout, System};
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};

use rows::{Rows, table};
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

/// Memory that a message may take beyond a multiple of its payload: the buffers of each column have a minimum, and a message
/// that repeats its fields in many rows may take this much.
pub const LEAST: usize = 256 << 10;
pub const LEAST_WITH_ROWS: usize = 8 << 20;
/// `{},` in a list is a row of 38 columns, which takes about 300 bytes, and `0,` can be a value of 32; buffers double when
/// they grow, and are copied then.
const MULTIPLE: usize = 200;

/// A decoder, and the memory that a message may take beyond a multiple of its payload.
pub type Route = (Rows, usize);

/// A route for the topic `drivers/driver-42/position` with these options.
pub fn route(options: Value, least: usize) -> Route {
    route_on("drivers/driver-42/position", "drivers/+/position", options, least)
}

pub fn route_on(topic: &str, filter: &str, options: Value, least: usize) -> Route {
    let mut route = json!({ "topic": filter, "table": "t", "missingFields": "zero" });
    route.as_object_mut().unwrap().extend(options.as_object().unwrap().clone());
    (Rows::on(topic, &route, table()), least)
}

/// The first byte chooses the route; the rest is its payload.
pub fn binary(routes: &[Route], input: &[u8]) {
    let Some((choice, payload)) = input.split_first() else { return };
    let (rows, least) = &routes[*choice as usize % routes.len()];
    decode(&mut rows.clone(), *least, payload);
}

/// The first byte chooses the route. The rest is one payload after another, separated by 0xff, which is in no text.
pub fn texts(routes: &[Route], input: &[u8]) {
    let Some((choice, payloads)) = input.split_first() else { return };
    let (rows, least) = &routes[*choice as usize % routes.len()];
    let mut rows = rows.clone();
    for payload in payloads.split(|byte| *byte == 0xff) {
        decode(&mut rows, *least, payload);
    }
}

fn decode(rows: &mut Rows, least: usize, payload: &[u8]) {
    decode_on("drivers/driver-42/position", rows, least, payload);
}

pub fn decode_on(topic: &str, rows: &mut Rows, least: usize, payload: &[u8]) {
    let (before, count) = (rows.bytes(), rows.columns[0].rows());
    let used = USED.load(Relaxed);
    MOST.store(used, Relaxed);
    let appended = rows.decode_as(topic, payload);
    let took = MOST.load(Relaxed) - used;
    assert!(took <= least + MULTIPLE * payload.len(), "{took} bytes for {} of payload", payload.len());
    rows.check(&before, count, &appended);
}
