//! Parameters of a JSON or Dynamic type: typed paths, skipped paths and limits.
//!
//! Source: <https://clickhouse.com/docs/sql-reference/data-types/newjson>.

use regex_lite::Regex;

use crate::clickhouse::ColumnType;
use crate::clickhouse::type_name::quoted;

/// The arguments of a `JSON(…)`.
#[derive(Debug, Clone)]
pub struct JsonLayout {
    /// Paths with a type of their own, in the order of their names, which is also that of a block.
    typed: Vec<(String, ColumnType)>,
    skipped: Vec<String>,
    skipped_patterns: Vec<Regex>,
    pub limits: Limits,
}

/// How many paths of a JSON, and how many types of a Dynamic, have columns of their own.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    pub paths: usize,
    pub types: usize,
}

impl Default for Limits {
    fn default() -> Limits {
        Limits { paths: 1024, types: 32 }
    }
}

impl Limits {
    /// The limits of the objects in a list within such a JSON. Source: ClickHouse,
    /// `DataTypeObject::getTypeOfNestedObjects`.
    pub fn nested(self) -> Limits {
        Limits { paths: self.paths / 4, types: self.types / 2 }
    }

    /// The name of a JSON type with them and nothing else.
    pub fn json_name(self) -> String {
        match self == Limits::default() {
            true => "JSON".into(),
            false => format!("JSON(max_dynamic_types={}, max_dynamic_paths={})", self.types, self.paths),
        }
    }
}

impl JsonLayout {
    pub fn untyped(limits: Limits) -> JsonLayout {
        JsonLayout { typed: Vec::new(), skipped: Vec::new(), skipped_patterns: Vec::new(), limits }
    }

    pub fn parse(arguments: &[&str], server_zone: &str) -> Result<JsonLayout, String> {
        let mut layout = JsonLayout::untyped(Limits::default());
        let unreadable = || "which is not understood".to_string();
        for argument in arguments {
            if let Some((name, value)) = argument.split_once('=')
                && let (name @ ("max_dynamic_paths" | "max_dynamic_types"), Ok(value)) =
                    (name.trim(), value.trim().parse())
            {
                match name {
                    "max_dynamic_paths" => layout.limits.paths = value,
                    _ => layout.limits.types = value,
                }
            } else if let Some(pattern) = argument.strip_prefix("SKIP REGEXP ") {
                let (pattern, _) = quoted(pattern.trim()).ok_or_else(unreadable)?;
                let pattern = Regex::new(&pattern)
                    .map_err(|_| format!("whose SKIP REGEXP {pattern:?} is not understood here"))?;
                layout.skipped_patterns.push(pattern);
            } else if let Some(path) = argument.strip_prefix("SKIP ") {
                layout.skipped.push(path_name(path.trim()).ok_or_else(unreadable)?.0);
            } else {
                let (path, type_name) = path_name(argument).ok_or_else(unreadable)?;
                layout.typed.push((path, ColumnType::parse(type_name.trim(), server_zone)?));
            }
        }
        layout.typed.sort_by(|(one, _), (other, _)| one.cmp(other));
        Ok(layout)
    }

    pub fn typed(&self) -> &[(String, ColumnType)] {
        &self.typed
    }

    /// The place of a path among those with a type.
    pub fn typed_place(&self, path: &str) -> Option<usize> {
        self.typed.binary_search_by(|(typed, _)| typed.as_str().cmp(path)).ok()
    }

    /// Whether ClickHouse skips the value at a path.
    pub fn skips(&self, path: &str) -> bool {
        let is_below = |skipped: &String| {
            path.strip_prefix(skipped.as_str()).is_some_and(|rest| rest.is_empty() || rest.starts_with('.'))
        };
        self.skipped.iter().any(is_below)
            || self.skipped_patterns.iter().any(|pattern| pattern.is_match(path))
    }
}

/// A path and what follows it: `a.b UInt8`, `` `a b` UInt8 ``.
pub fn path_name(text: &str) -> Option<(String, &str)> {
    if text.starts_with(['`', '"']) {
        return quoted(text);
    }
    Some(match text.split_once(' ') {
        Some((path, rest)) => (path.replace('`', ""), rest),
        None => (text.replace('`', ""), ""),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn arguments_are_typed_paths_skipped_paths_and_limits() {
        let arguments =
            ["max_dynamic_paths=8", "z UInt8", "`a b.c` Array(String)", "SKIP x.y", "SKIP REGEXP 'k.c'"];
        let layout = JsonLayout::parse(&arguments, "UTC").unwrap();
        assert_eq!(layout.limits, Limits { paths: 8, types: 32 });
        assert_eq!((layout.typed_place("a b.c"), layout.typed_place("z")), (Some(0), Some(1)));
        assert_eq!(layout.typed_place("a"), None);
        for (path, is_skipped) in
            [("x", false), ("x.y", true), ("x.y.z", true), ("x.yz", false), ("ak.cd", true), ("kc", false)]
        {
            assert_eq!(layout.skips(path), is_skipped, "{path}");
        }
        assert_eq!(layout.limits.nested().json_name(), "JSON(max_dynamic_types=16, max_dynamic_paths=2)");
        assert!(JsonLayout::parse(&["a NoSuchType"], "UTC").is_err());
    }
}
