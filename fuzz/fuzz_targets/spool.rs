//! The directory of a spool. See `tests/spool/mutations.rs` for what must hold.

#![no_main]

#[path = "../../tests/spool/mutations.rs"]
mod mutations;
#[path = "../../tests/spool/random.rs"]
mod random;
#[path = "../../tests/spool/records.rs"]
mod records;
#[path = "../../tests/spool/simulated.rs"]
#[allow(dead_code, reason = "the tests of the spool use more of it")]
mod simulated;

use libfuzzer_sys::fuzz_target;

fuzz_target!(|input: &[u8]| mutations::check(input));
