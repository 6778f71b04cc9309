//! The way ClickHouse writes types: `Name` or `Name(argument, …)`, as `system.columns` gives them.
//!
//! Source: <https://clickhouse.com/docs/sql-reference/data-types>. Only what the arguments mean is left to [`super::types`].

/// A type's own name and its arguments, each as written.
#[derive(Debug, PartialEq, Eq)]
pub struct TypeName<'a> {
    pub name: &'a str,
    pub arguments: Vec<&'a str>,
}

impl<'a> TypeName<'a> {
    /// `None`: the parentheses or quotes do not close.
    pub fn parse(text: &'a str) -> Option<TypeName<'a>> {
        let text = text.trim();
        let Some(open) = text.find('(') else {
            return Some(TypeName { name: text, arguments: Vec::new() });
        };
        let inner = text[open + 1..].strip_suffix(')')?;
        Some(TypeName { name: &text[..open], arguments: split(inner)? })
    }
}

/// Splits at the commas that are in no quotes and no parentheses.
fn split(text: &str) -> Option<Vec<&str>> {
    let mut parts = Vec::new();
    let (mut depth, mut start) = (0usize, 0);
    let mut rest = text.char_indices();
    while let Some((at, c)) = rest.next() {
        match c {
            '(' => depth += 1,
            ')' => depth = depth.checked_sub(1)?,
            ',' if depth == 0 => {
                parts.push(text[start..at].trim());
                start = at + 1;
            }
            '\'' | '`' | '"' => loop {
                match rest.next()?.1 {
                    '\\' => drop(rest.next()?),
                    end if end == c => break,
                    _ => {}
                }
            },
            _ => {}
        }
    }
    if depth > 0 {
        return None;
    }
    let last = text[start..].trim();
    if !last.is_empty() {
        parts.push(last);
    }
    Some(parts)
}

/// An element of a Tuple or Nested: `name Type`, or a type alone.
pub fn element(text: &str) -> Option<(Option<String>, &str)> {
    if text.starts_with(['`', '"']) {
        let (name, rest) = quoted(text)?;
        return Some((Some(name), rest.trim()));
    }
    let end = text.find(|c: char| !c.is_alphanumeric() && c != '_').unwrap_or(text.len());
    match text[end..].strip_prefix(' ') {
        Some(rest) => Some((Some(text[..end].into()), rest.trim())),
        None => Some((None, text)),
    }
}

/// The text in the quotes at the beginning, and the text after them.
pub fn quoted(text: &str) -> Option<(String, &str)> {
    let mut rest = text.chars();
    let quote = rest.next().filter(|c| "'`\"".contains(*c))?;
    let mut content = String::new();
    loop {
        match rest.next()? {
            '\\' => content.push(match rest.next()? {
                'n' => '\n',
                't' => '\t',
                'r' => '\r',
                '0' => '\0',
                'b' => '\x08',
                'f' => '\x0c',
                'a' => '\x07',
                'v' => '\x0b',
                'e' => '\x1b',
                other => other,
            }),
            c if c == quote => return Some((content, rest.as_str())),
            c => content.push(c),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn arguments_are_split_outside_of_quotes_and_parentheses() {
        let parsed = TypeName::parse("Enum8('a,b' = 1, 'it\\'s (' = -2)").unwrap();
        assert_eq!((parsed.name, parsed.arguments), ("Enum8", vec!["'a,b' = 1", "'it\\'s (' = -2"]));
        let parsed = TypeName::parse("Tuple(a Array(UInt8), `b c` Map(String, Int8))").unwrap();
        assert_eq!(parsed.arguments, ["a Array(UInt8)", "`b c` Map(String, Int8)"]);
        assert_eq!(TypeName::parse("String").unwrap().arguments, [""; 0]);
        for broken in ["Array(UInt8", "Tuple(a) b)", "Enum8('a = 1)", "Array((UInt8)"] {
            assert_eq!(TypeName::parse(broken), None, "{broken}");
        }
    }

    #[test]
    fn elements_may_have_names() {
        assert_eq!(element("lat Float64"), Some((Some("lat".into()), "Float64")));
        assert_eq!(element("`a\\`b` Array(UInt8)"), Some((Some("a`b".into()), "Array(UInt8)")));
        assert_eq!(element("DateTime64(3, 'UTC')"), Some((None, "DateTime64(3, 'UTC')")));
        assert_eq!(quoted("'it\\'s' = 3"), Some(("it's".into(), " = 3")));
    }
}
