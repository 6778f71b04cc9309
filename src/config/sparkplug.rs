//! `routes[].sparkplug`: the conduct towards edge nodes.

use serde_json::Value;

use crate::config::object_reader::ObjectReader;
use crate::core::error::Result;

/// Whether the edge nodes of a route are asked for their BIRTH messages.
pub fn asks_rebirth(route: &ObjectReader<'_>) -> Result<bool> {
    let Some(o) = route.section("sparkplug")? else { return Ok(false) };
    let asks = o.flag_or_default("rebirth")?;
    o.finish()?;
    match route.value("format").and_then(Value::as_str) {
        Some("sparkplug") => Ok(asks),
        _ => Err(route.wrong("sparkplug", "is for a route with format: 'sparkplug'")),
    }
}
