//! Prints the table of options as JSON, for `npm run generate` (scripts/generate.mjs).

use std::io::{self, Write};

fn main() -> io::Result<()> {
    let mut out = io::stdout().lock();
    serde_json::to_writer(&mut out, &millrace::config::schema::ROOTS)?;
    writeln!(out)
}
