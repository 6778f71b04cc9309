//! Golden bytes: what a user, a disk or a ClickHouse server sees, held byte for byte while the code inside is moved and renamed.
//!
//! The expected bytes lie beside this file: texts in `expected/`, a spool in `spool-f83bdce/`, which the code at commit f83bdce
//! wrote. A test fails when one byte differs from what the code gives today, and says where.
//!
//! **To write them anew:** `MILLRACE_GOLDEN=write cargo test --test golden`, then read every line of `git diff`.
//!
//! **When that is allowed:** when a change of the format is the purpose of the commit, which then says so to users in
//! CHANGELOG.md, or when a new case is added, which leaves the lines of all others as they are. The bytes of LZ4 and ZSTD
//! bodies also change with a new version of the compressing libraries, and nothing else may change with it. The spool
//! directory is written only where there is none: a new layout gets a directory of its own beside it, and the old one must
//! still be read.

mod blocks;
mod dead_letters;
mod engine;
mod expected;
mod metrics;
mod spool;
mod tokens;
