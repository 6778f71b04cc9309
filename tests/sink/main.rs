//! From a sealed batch to its end: INSERTs, retries, refused rows, tables that change, dead letters, the spool's INSERTs and
//! replays, against a ClickHouse server inside the test. No test here waits for anything but events: retries are a millisecond
//! apart or on a clock that is held.

#[path = "../fake_clickhouse/mod.rs"]
mod fake_clickhouse;

#[path = "../golden/expected.rs"]
#[allow(dead_code)]
mod expected;

mod answers;
mod bisect;
mod chaos;
mod confirmation;
mod engine;
mod expiry;
mod harness;
mod held_clock;
mod joined;
mod joined_transforms;
mod kept_connections;
mod partitions;
mod parts;
mod queries;
mod replay;
mod requests;
mod restarts;
mod settling;
mod spool_inserts;
mod spool_parts;
mod table_changes;
mod tables;
mod transform;
