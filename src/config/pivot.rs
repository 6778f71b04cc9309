//! `routes[].pivot`: messages of one key become one row.

use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::time::Duration;

use crate::config::object_reader::ObjectReader;
use crate::config::repeats::columns;
use crate::config::route::Route;
use crate::core::error::Result;
use crate::core::topic_filter::TopicFilter;

#[derive(Debug, Clone)]
pub struct Pivot {
    /// The columns whose values together say which messages belong together.
    pub key: Vec<String>,
    /// How long a row waits for values, from its first message on.
    pub window: Duration,
    /// The place, among the names of the topic, of the one that says which field the payload is. `None`: the payload has fields.
    pub name: Option<usize>,
    /// Whether a value replaces one that came before it, and does not end the row.
    pub replaces: bool,
    pub counters: Arc<PivotCounters>,
}

/// Counts of all connections.
#[derive(Debug, Default)]
pub struct PivotCounters {
    /// Rows that are open.
    pub open: AtomicU64,
    /// Rows that went into batches.
    pub rows: AtomicU64,
    /// Rows that had all columns.
    pub complete: AtomicU64,
}

/// Options of a route that cannot stand beside `pivot`, and why.
const EXCLUDED: [(&str, &str); 7] = [
    ("rows", "a message is a part of a row"),
    ("transform", "messages of one row are inserted, or become dead letters, together"),
    ("continue", "its messages are acknowledged with their row"),
    ("dedupe", "it looks at the rows of a message"),
    ("deadband", "it looks at the rows of a message"),
    ("sparkplug", "a message of Sparkplug B has rows of its own"),
    ("addColumns", "columns are added for the fields of rows"),
];

pub fn pivot(route: &ObjectReader<'_>, topic: &TopicFilter) -> Result<Option<Pivot>> {
    let Some(o) = route.section("pivot")? else { return Ok(None) };
    let name = match o.text("name")? {
        None => None,
        Some(name) => match topic.names().position(|level| level == name) {
            None => return Err(o.wrong("name", format!("the route's topic has no {{{name}}}"))),
            place => place,
        },
    };
    let pivot = Pivot {
        key: columns(&o, "key")?,
        window: o.duration_or_default("windowMs")?,
        name,
        replaces: o.word_or_default("repeated")? == "last",
        counters: Arc::default(),
    };
    o.finish()?;
    for (option, reason) in EXCLUDED {
        let is_set = match option {
            "continue" => route.flag_or_default(option)?,
            option => route.has(option),
        };
        if is_set {
            return Err(route.wrong("pivot", format!("excludes {option} of the route: {reason}")));
        }
    }
    if route.word_or_default("schema")? != "fixed" {
        return Err(route.wrong("pivot", "excludes schema: 'add-columns' of the route"));
    }
    let format = route.value("format").map_or("json", |format| format.as_str().unwrap_or(""));
    let is_one_value = matches!(format, "json" | "text" | "msgpack" | "cbor")
        || route.value("format").is_some_and(|format| format.get("schema").is_some());
    if !is_one_value {
        return Err(route.wrong("pivot", "is for formats whose payload is one value or one object"));
    }
    if format == "text" && name.is_none() {
        let message = "needs name beside format: 'text': the {name} of the topic that says which column the text is for";
        return Err(route.wrong("pivot", message));
    }
    Ok(Some(pivot))
}

/// A route that must have its messages for itself, and an earlier one with `continue` that takes some of the same.
pub fn shared_alone(routes: &[&Route]) -> Option<(usize, usize)> {
    let alone = (0..routes.len()).filter(|at| routes[*at].is_alone());
    alone.into_iter().find_map(|at| {
        let shares = |earlier: &&Route| earlier.continues && earlier.topic.overlaps(&routes[at].topic);
        Some((at, routes[..at].iter().position(shares)?))
    })
}

/// Why that cannot be; `earlier` is the other route.
pub fn shared_with(earlier: &str) -> String {
    format!("shares messages with {earlier}, which has continue, and must have them for itself")
}
