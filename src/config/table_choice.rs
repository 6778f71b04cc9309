//! `routes[].table` with names of the topic, and `routes[].tables`: messages choose their table.

use crate::config::object_reader::ObjectReader;
use crate::core::error::{Error, Result};
use crate::core::topic_filter::TopicFilter;
use crate::core::topic_tables::TopicTables;

/// How a message of a route chooses its table.
#[derive(Debug, Clone)]
pub struct TableChoice {
    parts: Vec<Part>,
    /// Names of tables, in which `*` stands for characters of plain names: A to Z, a to z, 0 to 9, `_` and `-`.
    allow: Vec<String>,
    /// The most tables that are filled.
    pub max: usize,
    pub known: TopicTables,
}

#[derive(Debug, Clone)]
enum Part {
    Text(String),
    /// A name of the topic, by its place.
    Level(usize),
}

impl TableChoice {
    /// Writes the table of a message into `table`; `level` gives the levels of its topic by their places. `false`: it may not be
    /// filled.
    pub fn choose<'t>(&self, level: impl Fn(usize) -> &'t str, table: &mut String) -> bool {
        table.clear();
        let mut is_plain = true;
        for part in &self.parts {
            let text = match part {
                Part::Text(text) => text,
                Part::Level(place) => {
                    let level = level(*place);
                    is_plain &= is_plain_name(level);
                    level
                }
            };
            table.push_str(text);
        }
        self.allow.iter().any(|allowed| match allowed.contains('*') {
            false => allowed == table,
            // Another database or a name that needs quotes must have been meant.
            true => is_plain && matches(allowed, table),
        })
    }

    /// The tables that are allowed by their names.
    pub fn named(&self) -> impl Iterator<Item = &str> {
        self.allow.iter().filter(|allowed| !allowed.contains('*')).map(String::as_str)
    }

    pub fn allowed(&self) -> &[String] {
        &self.allow
    }

    /// Whether the name of the table has this name of the topic, by its place.
    pub fn reads(&self, name: usize) -> bool {
        self.parts.iter().any(|part| matches!(part, Part::Level(place) if *place == name))
    }
}

fn is_plain_name(text: &str) -> bool {
    !text.is_empty() && text.chars().all(|c| c.is_ascii_alphanumeric() || c == '_' || c == '-')
}

/// Whether a text is as a pattern in which `*` stands for characters of plain names.
fn matches(pattern: &str, text: &str) -> bool {
    match pattern.split_once('*') {
        None => pattern == text,
        Some((before, rest)) => {
            let Some(left) = text.strip_prefix(before) else { return false };
            let plain = left.chars().take_while(|c| is_plain_name(c.encode_utf8(&mut [0; 4]))).count();
            (0..=plain).any(|at| matches(rest, &left[at..]))
        }
    }
}

/// `None`: the table of the route is always the same.
pub fn table_choice(
    route: &ObjectReader<'_>,
    table: &str,
    topic: &TopicFilter,
) -> Result<Option<TableChoice>> {
    let parts = parts(route, table, topic)?;
    if route.value("tables").is_some_and(serde_json::Value::is_array) {
        let message = "must be an object, { allow }; a list of tables for pipeline.insert() is the option tables beside routes";
        return Err(route.wrong("tables", message));
    }
    let section = route.section("tables")?;
    let (parts, section) = match (parts, section) {
        (None, None) => return Ok(None),
        (None, Some(_)) => {
            let message = "is for a table with a {name} of the topic, such as table: 'telemetry_{plant}'";
            return Err(route.wrong("tables", message));
        }
        (Some(_), None) => {
            let message = "is required: which tables messages may choose, such as { allow: ['telemetry_*'] }";
            return Err(route.wrong("tables", message));
        }
        (Some(parts), Some(section)) => (parts, section),
    };
    let allow = section.texts("allow")?;
    for (path, name) in &allow {
        if name.is_empty() || name.contains(['{', '}']) {
            return Err(Error::config(
                path,
                "must be the name of a table, in which * stands for any of A to Z, a to z, 0 to 9, _ and -",
            ));
        }
    }
    let choice = TableChoice {
        parts,
        allow: allow.into_iter().map(|(_, name)| name).collect(),
        max: section.integer_or_default("max")? as usize,
        known: TopicTables::default(),
    };
    section.finish()?;
    for option in ["transform", "continue"] {
        let is_set = if option == "continue" { route.flag_or_default(option)? } else { route.has(option) };
        if is_set {
            return Err(
                route.wrong("table", format!("with a name of the topic excludes {option} of the route"))
            );
        }
    }
    if route.word_or_default("schema")? != "fixed" {
        return Err(
            route.wrong("table", "with a name of the topic excludes schema: 'add-columns' of the route")
        );
    }
    Ok(Some(choice))
}

fn parts(route: &ObjectReader<'_>, table: &str, topic: &TopicFilter) -> Result<Option<Vec<Part>>> {
    let mut parts = Vec::new();
    let mut rest = table;
    while let Some((text, behind)) = rest.split_once('{') {
        let Some((name, behind)) = behind.split_once('}') else {
            return Err(route.wrong("table", "has a { without a }"));
        };
        let Some(place) = topic.names().position(|level| level == name) else {
            return Err(route.wrong("table", format!("the route's topic has no {{{name}}}")));
        };
        parts.extend([Part::Text(text.into()), Part::Level(place)]);
        rest = behind;
    }
    if parts.is_empty() {
        return Ok(None);
    }
    parts.push(Part::Text(rest.into()));
    Ok(Some(parts))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn choice(allow: &[&str]) -> TableChoice {
        TableChoice {
            parts: vec![Part::Text("t_".into()), Part::Level(0)],
            allow: allow.iter().map(|allowed| allowed.to_string()).collect(),
            max: 1,
            known: TopicTables::default(),
        }
    }

    #[test]
    fn a_table_is_allowed_by_its_name_or_by_a_pattern() {
        let chosen =
            |allow: &[&str], level: &'static str| choice(allow).choose(|_| level, &mut String::new());
        assert!(chosen(&["t_a", "t_b"], "b") && !chosen(&["t_a", "t_b"], "c"));
        assert!(chosen(&["t_*"], "North-1") && chosen(&["*"], "x") && chosen(&["t_*_*"], "a_b"));
        assert!(!chosen(&["t_*_*"], "ab") && !chosen(&["u_*"], "a") && !chosen(&["t_*x"], "xy"));
        for level in ["", "a.b", "a b", "a`b", "a/b", "ä", "a'"] {
            assert!(!chosen(&["*", "t_*"], level), "{level}");
        }
        assert!(chosen(&["t_a.b"], "a.b"), "it was named");
        let mut table = String::from("before");
        assert!(choice(&["t_*"]).choose(|_| "x", &mut table));
        assert_eq!(table, "t_x");
    }
}
