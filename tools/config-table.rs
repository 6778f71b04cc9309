//! Prints the table of options and the codes as JSON, for `npm run generate` (scripts/generate.mjs).

use std::io::{self, Write};

use millrace::core::codes;
use serde_json::json;

fn main() -> io::Result<()> {
    let mut out = io::stdout().lock();
    let roots = &millrace::config::schema::ROOTS;
    serde_json::to_writer(&mut out, &json!({ "roots": roots, "codes": codes::all() }))?;
    writeln!(out)
}
