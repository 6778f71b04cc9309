//! One value of an option, read by the kinds that its row of the table allows.

use serde_json::{Number, Value};

use crate::config::object_reader::ObjectReader;
use crate::config::option::{Empty, Kind};
use crate::core::error::{Error, Result};

/// The value of an option, as the kind read it that takes it.
pub enum Taken<'a> {
    Text(String),
    Integer(u64),
    Number(&'a Number),
    Flag(bool),
    Word(&'static str),
    /// With the name of its first option, which selects one of several objects.
    Object(&'static str, ObjectReader<'a>),
}

impl<'a> Taken<'a> {
    /// By the first of the kinds that takes the value, which is at `path`; `None` if none does.
    pub fn of(path: &str, value: &'a Value, kinds: &[Kind]) -> Result<Option<Taken<'a>>> {
        if value.is_object()
            && let Some((form, object)) = ObjectReader::variant(path, value, kinds)?
        {
            return Ok(Some(Taken::Object(form, object)));
        }
        for kind in kinds {
            let taken = match kind {
                Kind::Text { empty, max_bytes, .. } => {
                    text(path, value, *empty, *max_bytes)?.map(Taken::Text)
                }
                Kind::Pem | Kind::File => text(path, value, Empty::Unreadable, None)?.map(Taken::Text),
                Kind::Integer { min, max, .. } => integer(value, *min, *max).map(Taken::Integer),
                Kind::Number { min, max } => match value {
                    Value::Number(n) => Some(n)
                        .filter(|n| n.as_f64().is_some_and(|n| (*min..=*max).contains(&n)))
                        .map(Taken::Number),
                    _ => None,
                },
                Kind::Choice { words } => words.iter().copied().find(|word| value == word).map(Taken::Word),
                Kind::Flag => value.as_bool().map(Taken::Flag),
                // Objects are above. The others have readers of their own, or never come from JavaScript.
                _ => None,
            };
            if taken.is_some() {
                return Ok(taken);
            }
        }
        Ok(None)
    }
}

fn text(path: &str, value: &Value, empty: Empty, max_bytes: Option<usize>) -> Result<Option<String>> {
    let Some(text) = value.as_str() else { return Ok(None) };
    if text.contains('\0') {
        return Err(Error::config(path, "must not contain a NUL character"));
    }
    if let (Empty::Refused(advice), true) = (empty, text.is_empty()) {
        return Err(Error::config(path, format!("must not be empty{advice}")));
    }
    if let Some(most) = max_bytes.filter(|most| text.len() > *most) {
        return Err(Error::config(path, format!("must not have more than {most} bytes")));
    }
    Ok(Some(text.into()))
}

/// JavaScript has one kind of number: 5e3 and 5000.0 are integers there.
fn integer(value: &Value, min: u64, max: u64) -> Option<u64> {
    let number = value.as_u64().or_else(|| {
        value
            .as_f64()
            .filter(|f| f.fract() == 0.0 && *f >= 0.0 && *f <= 9_007_199_254_740_991.0)
            .map(|f| f as u64)
    });
    number.filter(|number| (min..=max).contains(number))
}

/// The values that a kind takes, for error messages.
pub fn phrase(kind: &Kind) -> String {
    match kind {
        Kind::Text { .. } | Kind::Pem | Kind::File => "a string".into(),
        Kind::Integer { min, max, .. } => format!("an integer from {min} to {max}"),
        Kind::Number { min, max } if min.is_infinite() && max.is_infinite() => "a number".into(),
        Kind::Number { min, max } => format!("a number from {min} to {max}"),
        Kind::Flag => "true or false".into(),
        Kind::Choice { words: [word] } => format!("'{word}'"),
        Kind::Choice { words } => {
            let words: Vec<String> = words.iter().map(|word| format!("'{word}'")).collect();
            format!("one of {}", words.join(", "))
        }
        Kind::Any => "any JSON value".into(),
        Kind::Object { object } => format!("{{ {} }}", object.names().join(", ")),
        Kind::List { .. } => "a list".into(),
        Kind::OneOrMore { item } => format!("{}, or a list", phrase(item)),
        Kind::Record { .. } => "an object".into(),
        Kind::Union { of } => of.iter().map(phrase).collect::<Vec<_>>().join(" or "),
        Kind::Named { of, .. } => phrase(of),
        Kind::Again { .. } => "an object".into(),
        Kind::Code { phrase, .. } => (*phrase).into(),
    }
}

/// Describes the given value: the value itself where the kinds are about values, else its type.
pub fn given(value: &Value, kinds: &[Kind]) -> String {
    match (kinds, value) {
        ([Kind::Choice { .. } | Kind::Number { .. }] | [_, _, ..], _) => value.to_string(),
        ([Kind::Integer { .. }], Value::Number(number)) => number.to_string(),
        _ => shape(value).into(),
    }
}

pub fn shape(value: &Value) -> &'static str {
    match value {
        Value::Null => "null",
        Value::Bool(_) => "a boolean",
        Value::Number(_) => "a number",
        Value::String(_) => "a string",
        Value::Array(_) => "a list",
        Value::Object(_) => "an object",
    }
}
