//! Any content of a spool directory through recovery: see `tests/spool/arbitrary.rs`.

#![no_main]

#[path = "../../tests/spool/arbitrary.rs"]
mod arbitrary;
#[path = "../../tests/spool/records.rs"]
mod records;
#[path = "../../tests/spool/random.rs"]
mod random;
#[path = "../../tests/spool/simulated.rs"]
mod simulated;

libfuzzer_sys::fuzz_target!(|input: &[u8]| arbitrary::check(input));
