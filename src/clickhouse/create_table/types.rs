//! Types as people write them, into the names that `system.columns` gives.
//!
//! Source: `system.data_type_families` and `system.columns` of ClickHouse 26.7.

use super::Fault;
use super::parser::Parser;
use super::tokens::TokenKind;

/// Other names of types, in any case. `SIGNED` and `UNSIGNED` may stand behind the parentheses of the integers among them.
const ALIASES: [(&str, &str); 41] = [
    ("BIGINT", "Int64"),
    ("BINARY", "FixedString"),
    ("BIT", "UInt64"),
    ("BLOB", "String"),
    ("BOOLEAN", "Bool"),
    ("BYTE", "Int8"),
    ("BYTEA", "String"),
    ("CHAR", "String"),
    ("CHARACTER", "String"),
    ("CLOB", "String"),
    ("DEC", "Decimal"),
    ("DOUBLE", "Float64"),
    ("FIXED", "Decimal"),
    ("FLOAT", "Float32"),
    ("INET4", "IPv4"),
    ("INET6", "IPv6"),
    ("INT", "Int32"),
    ("INT1", "Int8"),
    ("INTEGER", "Int32"),
    ("LONGBLOB", "String"),
    ("LONGTEXT", "String"),
    ("MEDIUMBLOB", "String"),
    ("MEDIUMINT", "Int32"),
    ("MEDIUMTEXT", "String"),
    ("NATIONAL", "String"),
    ("NCHAR", "String"),
    ("NUMERIC", "Decimal"),
    ("NVARCHAR", "String"),
    ("REAL", "Float32"),
    ("SET", "UInt64"),
    ("SIGNED", "Int64"),
    ("SINGLE", "Float32"),
    ("SMALLINT", "Int16"),
    ("TEXT", "String"),
    ("TIMESTAMP", "DateTime"),
    ("TINYBLOB", "String"),
    ("TINYINT", "Int8"),
    ("TINYTEXT", "String"),
    ("VARBINARY", "String"),
    ("VARCHAR", "String"),
    ("YEAR", "UInt16"),
];

/// Types whose own names may be written in any case.
const ANY_CASE: [&str; 13] = [
    "Bool",
    "Date",
    "Date32",
    "DateTime",
    "DateTime32",
    "DateTime64",
    "Decimal",
    "Decimal32",
    "Decimal64",
    "Decimal128",
    "Decimal256",
    "Enum",
    "JSON",
];
/// The same, and added later.
const TIMES: [&str; 2] = ["Time", "Time64"];

/// Types that are written in this way alone.
const EXACT: [&str; 40] = [
    "AggregateFunction",
    "Array",
    "BFloat16",
    "Dynamic",
    "Enum16",
    "Enum8",
    "FixedString",
    "Float32",
    "Float64",
    "Geometry",
    "IPv4",
    "IPv6",
    "Int128",
    "Int16",
    "Int256",
    "Int32",
    "Int64",
    "Int8",
    "LineString",
    "LowCardinality",
    "Map",
    "MultiLineString",
    "MultiPolygon",
    "Nested",
    "Nothing",
    "Nullable",
    "Point",
    "Polygon",
    "QBit",
    "Ring",
    "SimpleAggregateFunction",
    "String",
    "Tuple",
    "UInt128",
    "UInt16",
    "UInt256",
    "UInt32",
    "UInt64",
    "UInt8",
    "UUID",
];

/// The words that may follow the first one of a type's name, such as `CHAR VARYING`.
const SECOND_WORDS: [&str; 8] =
    ["PRECISION", "VARYING", "LARGE", "OBJECT", "CHAR", "CHARACTER", "SIGNED", "UNSIGNED"];

/// The digits that a Decimal of a fixed size has.
const DECIMALS: [(&str, &str); 4] =
    [("Decimal32", "9"), ("Decimal64", "18"), ("Decimal128", "38"), ("Decimal256", "76")];

/// Types whose arguments are types.
const OF_TYPES: [&str; 5] = ["Array", "Map", "Nullable", "LowCardinality", "Variant"];

/// Takes a type off, and gives its name as ClickHouse has it. A Nested is `Nested(…)`.
pub fn type_name(parser: &mut Parser<'_>) -> Result<String, Fault> {
    let at = parser.peek().start;
    let TokenKind::Word(word) = parser.peek().kind.clone() else { return Err(parser.unexpected("a type")) };
    parser.next();
    let mut family = family(&word);
    if let Some(exact) = EXACT.iter().find(|exact| exact.eq_ignore_ascii_case(&family) && **exact != family) {
        return Err(Fault::new(at, format!("{word} is no type: it is written {exact}")));
    }
    let mut is_text_of_several = false;
    if family != word || word.eq_ignore_ascii_case(&family) {
        while let Some(next) = second_word(parser, &word) {
            if next == "UNSIGNED" && family.starts_with("Int") {
                family = format!("U{family}");
            }
            is_text_of_several |= matches!(next, "VARYING" | "LARGE" | "OBJECT");
        }
    }
    // BINARY VARYING and BINARY LARGE OBJECT have no fixed length.
    if family == "FixedString" && is_text_of_several {
        family = "String".into();
    }
    let is_alias = family != word;
    let has_arguments = parser.peek().is('(');
    let name = match family.as_str() {
        "String" | "Int8" | "Int16" | "Int32" | "Int64" | "UInt8" | "UInt16" | "UInt32" | "UInt64"
        | "Float32" | "Float64"
            if is_alias =>
        {
            // VARCHAR(255), INT(11): the numbers mean nothing.
            if has_arguments {
                parser.skip_parentheses()?;
            }
            match second_word(parser, &word) {
                Some("UNSIGNED") if family.starts_with("Int") => format!("U{family}"),
                _ => family,
            }
        }
        "Enum" | "Enum8" | "Enum16" => enumeration(parser, &family, at)?,
        "Decimal" => match &arguments(parser, raw)?[..] {
            [] => "Decimal(10, 0)".into(),
            [precision] => format!("Decimal({precision}, 0)"),
            all => format!("Decimal({})", all.join(", ")),
        },
        "DateTime32" => with_arguments("DateTime", &arguments(parser, raw)?),
        "DateTime64" | "Time64" if !has_arguments => format!("{family}(3)"),
        "Tuple" | "Nested" if has_arguments => with_parentheses(&family, &arguments(parser, element)?),
        "Variant" => {
            let mut types = arguments(parser, type_name)?;
            types.sort();
            types.dedup();
            with_arguments(&family, &types)
        }
        "SimpleAggregateFunction" | "AggregateFunction" => {
            let mut is_first = true;
            let argument = |parser: &mut Parser<'_>| match std::mem::take(&mut is_first) {
                true => raw(parser),
                false => type_name(parser),
            };
            with_arguments(&family, &arguments(parser, argument)?)
        }
        "JSON" => with_arguments("JSON", &arguments(parser, json_argument)?),
        other => match DECIMALS.iter().find(|(name, _)| *name == other) {
            Some((_, precision)) => {
                let scale = arguments(parser, raw)?;
                format!("Decimal({precision}, {})", scale.first().map_or("0", String::as_str))
            }
            None if OF_TYPES.contains(&other) => with_arguments(other, &arguments(parser, type_name)?),
            None => with_arguments(other, &arguments(parser, raw)?),
        },
    };
    Ok(name)
}

/// The name of a type that ClickHouse has, for a name of any case where it allows that.
fn family(word: &str) -> String {
    let is_it = |name: &&str| name.eq_ignore_ascii_case(word);
    let own = ANY_CASE.iter().chain(&TIMES).find(|name| is_it(name)).copied();
    let alias = || ALIASES.iter().find(|(name, _)| is_it(name)).map(|(_, family)| *family);
    own.or_else(alias).unwrap_or(word).into()
}

/// Takes off a further word of the name of a type that is written in SQL's way.
fn second_word(parser: &mut Parser<'_>, first: &str) -> Option<&'static str> {
    if !ALIASES.iter().any(|(name, _)| name.eq_ignore_ascii_case(first)) {
        return None;
    }
    let word = SECOND_WORDS.iter().find(|word| parser.peek().is_word(word))?;
    parser.next();
    Some(word)
}

fn with_arguments(name: &str, arguments: &[String]) -> String {
    if arguments.is_empty() { name.into() } else { with_parentheses(name, arguments) }
}

fn with_parentheses(name: &str, arguments: &[String]) -> String {
    format!("{name}({})", arguments.join(", "))
}

/// The arguments in parentheses, if there are any.
fn arguments(
    parser: &mut Parser<'_>,
    mut argument: impl FnMut(&mut Parser<'_>) -> Result<String, Fault>,
) -> Result<Vec<String>, Fault> {
    let mut all = Vec::new();
    if !parser.take('(') {
        return Ok(all);
    }
    parser.enter()?;
    while !parser.take(')') {
        if !all.is_empty() {
            parser.expect(',')?;
        }
        all.push(argument(parser)?);
    }
    parser.leave();
    Ok(all)
}

/// An argument other than a type: a number, a text, the name of a function with its parameters.
fn raw(parser: &mut Parser<'_>) -> Result<String, Fault> {
    let mut depth = 0usize;
    let mut text = String::new();
    loop {
        let token = parser.peek();
        match &token.kind {
            TokenKind::End => return Err(parser.unexpected("a )")),
            TokenKind::Sign(')' | ',') if depth == 0 => break,
            TokenKind::Sign('(') => depth += 1,
            TokenKind::Sign(')') => depth -= 1,
            TokenKind::Text(content) => {
                text.push_str(&quote(content, '\''));
                parser.next();
                continue;
            }
            _ => {}
        }
        text.push_str(token.name(parser.text));
        parser.next();
    }
    if text.is_empty() { Err(parser.unexpected("an argument of the type")) } else { Ok(text) }
}

/// An element of a Tuple or a Nested: `name Type`, or a type alone.
fn element(parser: &mut Parser<'_>) -> Result<String, Fault> {
    let name = match (&parser.peek().kind, &parser.peek_second().kind) {
        (TokenKind::Name(name), _) => Some(name.clone()),
        (TokenKind::Word(word), TokenKind::Word(second))
            if !SECOND_WORDS.contains(&second.to_ascii_uppercase().as_str()) =>
        {
            Some(word.clone())
        }
        _ => None,
    };
    if name.is_some() {
        parser.next();
    }
    let own = type_name(parser)?;
    Ok(match name {
        Some(name) => format!("{} {own}", name_text(&name)),
        None => own,
    })
}

/// A name as ClickHouse writes it: in backticks where it needs them.
fn name_text(name: &str) -> String {
    let is_plain = name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_')
        && !name.starts_with(|c: char| c.is_ascii_digit());
    if is_plain { name.into() } else { quote(name, '`') }
}

/// Puts a text into quotes, with backslashes before what would end it.
fn quote(text: &str, quote: char) -> String {
    let mut quoted = String::from(quote);
    for c in text.chars() {
        match c {
            '\n' => quoted.push_str("\\n"),
            '\t' => quoted.push_str("\\t"),
            '\\' => quoted.push_str("\\\\"),
            c if c == quote => quoted.extend(['\\', c]),
            c => quoted.push(c),
        }
    }
    quoted.push(quote);
    quoted
}

/// `max_dynamic_paths=8`, `SKIP a.b`, `SKIP REGEXP 'a.*'`, or a path with its type.
fn json_argument(parser: &mut Parser<'_>) -> Result<String, Fault> {
    if parser.peek_second().is('=') {
        return raw(parser);
    }
    if parser.peek().is_word("SKIP") {
        parser.next();
        if parser.peek().is_word("REGEXP") {
            parser.next();
            return Ok(format!("SKIP REGEXP {}", raw(parser)?));
        }
        return Ok(format!("SKIP {}", json_path(parser)?));
    }
    let path = json_path(parser)?;
    Ok(format!("{path} {}", type_name(parser)?))
}

fn json_path(parser: &mut Parser<'_>) -> Result<String, Fault> {
    let mut path = parser.name("a path")?;
    while parser.take('.') {
        path = format!("{path}.{}", parser.name("a part of the path")?);
    }
    Ok(name_text(&path))
}

/// `'name' = 1` or `'name'` alone, which has the number behind the one before it.
fn enumeration(parser: &mut Parser<'_>, family: &str, at: usize) -> Result<String, Fault> {
    let mut next = 1i64;
    let mut is_wide = false;
    let own = |parser: &mut Parser<'_>| {
        let TokenKind::Text(name) = parser.peek().kind.clone() else {
            return Err(parser.unexpected("a name of the enum in single quotes"));
        };
        parser.next();
        if parser.take('=') {
            let is_negative = parser.take('-');
            let number = parser.peek().clone();
            let value: Option<i64> = number.name(parser.text).parse().ok();
            let value = value.ok_or_else(|| parser.unexpected("the number of the name"))?;
            parser.next();
            next = if is_negative { -value } else { value };
        }
        is_wide |= i8::try_from(next).is_err();
        let text = format!("{} = {next}", quote(&name, '\''));
        next += 1;
        Ok(text)
    };
    let all = arguments(parser, own)?;
    if all.is_empty() {
        return Err(Fault::new(at, "an enum has at least one name"));
    }
    let family = match family {
        "Enum" if is_wide => "Enum16",
        "Enum" => "Enum8",
        other => other,
    };
    Ok(with_parentheses(family, &all))
}
