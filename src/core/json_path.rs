//! Paths into a payload: `lat`, `position.lat`, `axes[0]`, `axes[-1]`, `['a.b'].c`, `$.ts`, `@`, `*.lat`, `devices[*]`.

use std::fmt;

use serde::{Serialize, Serializer};

#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Path {
    pub root: Root,
    pub segments: Vec<Segment>,
}

/// Where a path begins: it matters to a route with `rows`, where a row is made of an element of the document.
/// `$` and `@` are those of JSONPath (RFC 9535).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub enum Root {
    /// In the element, and where that has nothing, in the document.
    Either,
    /// `$`
    Document,
    /// `@`
    Element,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(untagged)]
pub enum Segment {
    Field(String),
    Item(usize),
    /// `[-1]` is the last item: -1.
    FromEnd(i64),
    /// `*`: any one key of an object.
    #[serde(serialize_with = "star")]
    AnyField,
    /// `[*]`: each item of a list.
    #[serde(serialize_with = "each")]
    EachItem,
}

fn star<S: Serializer>(serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_str("*")
}

fn each<S: Serializer>(serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_str("[*]")
}

/// As it is written in a configuration.
impl fmt::Display for Path {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut text = match self.root {
            Root::Either => String::new(),
            Root::Document => "$".into(),
            Root::Element => "@".into(),
        };
        for segment in &self.segments {
            match segment {
                Segment::Item(index) => text += &format!("[{index}]"),
                Segment::FromEnd(index) => text += &format!("[{index}]"),
                Segment::EachItem => text += "[*]",
                Segment::AnyField if text.is_empty() => text.push('*'),
                Segment::AnyField => text += ".*",
                Segment::Field(name)
                    if name.is_empty()
                        || name == "*"
                        || name.contains(['.', '[', ']', '$', '@'])
                        || is_calculation(name) =>
                {
                    text += &format!("['{name}']");
                }
                Segment::Field(name) => {
                    if !text.is_empty() {
                        text.push('.');
                    }
                    text += name;
                }
            }
        }
        f.write_str(&text)
    }
}

impl Path {
    /// The path of one field, whatever its name holds.
    pub fn field(name: &str) -> Path {
        Path { root: Root::Either, segments: vec![Segment::Field(name.into())] }
    }

    /// Whether more than one place can be meant.
    pub fn has_wildcard(&self) -> bool {
        self.segments.iter().any(|segment| matches!(segment, Segment::AnyField | Segment::EachItem))
    }

    /// Whether the walk over a document finds it while it passes: it needs neither the end of a list nor a choice.
    pub fn is_simple(&self) -> bool {
        self.segments.iter().all(|segment| matches!(segment, Segment::Field(_) | Segment::Item(_)))
    }

    pub fn parse(text: &str) -> Result<Path, String> {
        let mut segments = Vec::new();
        let (root, mut rest) = match text.split_at_checked(1) {
            Some(("$", rest)) if rest.is_empty() || rest.starts_with(['.', '[']) => (Root::Document, rest),
            Some(("@", rest)) if rest.is_empty() || rest.starts_with(['.', '[']) => (Root::Element, rest),
            _ => (Root::Either, text),
        };
        if root != Root::Either && rest.is_empty() {
            return Ok(Path { root, segments });
        }
        if root != Root::Either
            && let Some(after) = rest.strip_prefix('.')
        {
            rest = after;
        }
        // A name follows the beginning or a dot; a bracket follows the beginning or a segment.
        let mut wants_name = true;
        loop {
            if let Some(after) = rest.strip_prefix("['") {
                let (name, after) = after.split_once("']").ok_or("a ['name'] is not closed")?;
                segments.push(Segment::Field(name.into()));
                rest = after;
            } else if let Some(after) = rest.strip_prefix('[') {
                let (index, after) = after.split_once(']').ok_or("an [index] is not closed")?;
                segments.push(match (index, index.parse::<i64>()) {
                    ("*", _) => Segment::EachItem,
                    (_, Ok(number @ ..0)) => Segment::FromEnd(number),
                    (_, Ok(number)) => Segment::Item(number as usize),
                    _ if is_calculation(index) => return Err(calculation(text)),
                    _ => return Err(format!("[{index}] is neither an index nor a quoted name")),
                });
                rest = after;
            } else if wants_name {
                let end = rest.find(['.', '[', ']']).unwrap_or(rest.len());
                if end == 0 {
                    return Err("a name is empty".into());
                }
                segments.push(match &rest[..end] {
                    "*" => Segment::AnyField,
                    name if is_calculation(name) => return Err(calculation(text)),
                    name => Segment::Field(name.into()),
                });
                rest = &rest[end..];
            } else {
                return Err(match is_calculation(rest) {
                    true => calculation(text),
                    false => format!("{rest:?} does not belong there"),
                });
            }
            match rest.strip_prefix('.') {
                Some(after) => {
                    rest = after;
                    wants_name = true;
                    if rest.starts_with('[') {
                        return Err("a name is empty".into());
                    }
                }
                None if rest.is_empty() => return Ok(Path { root, segments }),
                None => wants_name = false,
            }
        }
    }
}

/// Whether a name that is not quoted has a blank, an operator or a bracket: an expression was probably meant. A hyphen may
/// be part of a name.
fn is_calculation(name: &str) -> bool {
    name.contains(|c: char| c.is_whitespace() || "+*/%^=<>!&|?,;(){}`\\".contains(c))
}

fn calculation(text: &str) -> String {
    let quoted = text.replace('\'', "");
    format!(
        "a path names a value and does not calculate: {{ path, scale, offset }} changes its unit, and a transform calculates \
         anything else; a field that has such a name is quoted, as ['{quoted}']"
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_expression_is_refused() {
        for text in [
            "speed * 3.6",
            "speed*3.6",
            "a + b",
            "round(speed)",
            "a.b / 2",
            "a ?? b",
            "speed > 3",
            "a[0] * 2",
            "{a}",
            "a[b * 2]",
        ] {
            let message = Path::parse(text).unwrap_err();
            assert!(message.contains("scale") && message.contains("transform"), "{text}: {message}");
        }
        for (text, name) in [("['speed * 3.6']", "speed * 3.6"), ("['km/h']", "km/h"), ("lat-lng", "lat-lng")]
        {
            let path = Path::parse(text).unwrap();
            assert_eq!(path.segments, [Segment::Field(name.into())]);
            assert_eq!(Path::parse(&path.to_string()), Ok(path));
        }
    }

    #[test]
    fn paths_are_names_and_indices() {
        let field = |name: &str| Segment::Field(name.into());
        for (text, expected) in [
            ("lat", vec![field("lat")]),
            ("position.lat", vec![field("position"), field("lat")]),
            ("axes[0]", vec![field("axes"), Segment::Item(0)]),
            ("a[1][2].b", vec![field("a"), Segment::Item(1), Segment::Item(2), field("b")]),
            ("['a.b'].c", vec![field("a.b"), field("c")]),
            ("x['y']['z.z']", vec![field("x"), field("y"), field("z.z")]),
            ("a[-1].b", vec![field("a"), Segment::FromEnd(-1), field("b")]),
            ("*.lat", vec![Segment::AnyField, field("lat")]),
            ("a.*", vec![field("a"), Segment::AnyField]),
            ("a[*].b[*]", vec![field("a"), Segment::EachItem, field("b"), Segment::EachItem]),
            ("a['*']", vec![field("a"), field("*")]),
        ] {
            let path = Path { root: Root::Either, segments: expected };
            assert_eq!(Path::parse(&path.to_string()), Ok(path.clone()));
            assert_eq!(Path::parse(text), Ok(path), "{text}");
        }
        for (text, root, segments) in [
            ("$", Root::Document, vec![]),
            ("@", Root::Element, vec![]),
            ("$.ts", Root::Document, vec![field("ts")]),
            ("@[0]", Root::Element, vec![Segment::Item(0)]),
            ("$ts", Root::Either, vec![field("$ts")]),
            ("['$']", Root::Either, vec![field("$")]),
        ] {
            let path = Path { root, segments };
            assert_eq!(Path::parse(&path.to_string()), Ok(path.clone()));
            assert_eq!(Path::parse(text), Ok(path), "{text}");
        }
        for text in ["", ".", "a.", ".a", "a..b", "a[", "a[x]", "['a", "a]b", "a.[0]", "a[0]b", "$.", "@."] {
            assert!(Path::parse(text).is_err(), "{text}");
        }
    }
}
