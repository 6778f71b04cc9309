//! Lines of values: RFC 4180 with any delimiter, or `name=value` pairs. Each line is an object.

use std::borrow::Cow;

use crate::config::Csv;
use crate::core::reason::{Code, Reason};
use crate::decode::format::Documents;
use crate::decode::format::bytes::invalid_at;
use crate::decode::format::text::bare;
use crate::decode::tape::Value;
use crate::decode::value_reader::Result;

const NAME: &str = "CSV";

pub fn read<'a>(payload: &'a [u8], csv: &Csv) -> Result<Documents<'a>> {
    let text = std::str::from_utf8(payload)
        .map_err(|error| invalid_at(NAME, "it is not UTF-8", error.valid_up_to()))?;
    let position = |rest: &str| rest.as_ptr() as usize - payload.as_ptr() as usize;
    let mut documents = Documents::default();
    let mut names: Vec<Cow<'a, str>> = csv.columns.iter().map(|name| Cow::Owned(name.clone())).collect();
    let mut is_header = csv.has_header && csv.pairs.is_none();
    let mut rest = bare(text);
    let mut line = 0;
    while !rest.is_empty() {
        line += 1;
        let begin = position(rest);
        let (values, behind) = split(rest, &csv.delimiter, |what| invalid(what, line, begin))?;
        rest = behind;
        if let [only] = values.as_slice()
            && only.is_empty()
        {
            continue;
        }
        if std::mem::take(&mut is_header) {
            // Names that are given go before those of the payload.
            if names.is_empty() {
                names = values.into_iter().map(|name| Cow::Owned(name.trim().to_string())).collect();
            }
            continue;
        }
        let at = documents.tape.begin_object()?;
        match &csv.pairs {
            Some(between) => {
                for pair in values.iter().filter(|pair| !pair.trim().is_empty()) {
                    let (name, value) = pair
                        .split_once(between.as_str())
                        .ok_or_else(|| invalid(&format!("{pair:?} has no {between:?}"), line, begin))?;
                    documents.tape.push(Value::Text(Cow::Owned(name.trim().to_string())))?;
                    documents.tape.push(value_of(Cow::Owned(value.trim().to_string()), csv))?;
                }
            }
            None => {
                if values.len() > names.len() {
                    let message =
                        format!("it has {} values, and there are {} names", values.len(), names.len());
                    return Err(invalid(&message, line, begin));
                }
                for (name, value) in names.iter().zip(values) {
                    documents.tape.push(Value::Text(name.clone()))?;
                    documents.tape.push(value_of(value, csv))?;
                }
            }
        }
        documents.tape.end(at);
        documents.roots.push(at);
    }
    if documents.roots.is_empty() && is_header {
        return Err(Box::new(Reason::new(Code::PayloadInvalid, "no CSV: the payload is empty")));
    }
    Ok(documents)
}

fn value_of<'a>(value: Cow<'a, str>, csv: &Csv) -> Value<'a> {
    let is_decimal = csv.has_decimal_comma
        && value.matches(',').count() == 1
        && value.bytes().all(|byte| byte.is_ascii_digit() || b"+-,eE".contains(&byte));
    Value::Text(if is_decimal { Cow::Owned(value.replace(',', ".")) } else { value })
}

/// The values of the first line, and what follows it. A value in quotes may hold the delimiter, quotes twice, and line ends.
fn split<'a>(
    text: &'a str,
    delimiter: &str,
    invalid: impl Fn(&str) -> Box<Reason>,
) -> Result<(Vec<Cow<'a, str>>, &'a str)> {
    let mut values = Vec::new();
    let mut rest = text;
    loop {
        let value;
        if let Some(mut quoted) = rest.strip_prefix('"') {
            let mut unquoted = String::new();
            loop {
                let end = quoted.find('"').ok_or_else(|| invalid("a value in quotes does not end"))?;
                unquoted += &quoted[..end];
                quoted = &quoted[end + 1..];
                match quoted.strip_prefix('"') {
                    Some(behind) => {
                        unquoted.push('"');
                        quoted = behind;
                    }
                    None => break,
                }
            }
            value = Cow::Owned(unquoted);
            rest = quoted;
        } else {
            let end_of_line = rest.find('\n').unwrap_or(rest.len());
            let end = rest[..end_of_line].find(delimiter).unwrap_or(end_of_line);
            let plain = &rest[..end];
            value = Cow::Borrowed(if end == end_of_line { plain.trim_end_matches('\r') } else { plain });
            rest = &rest[end..];
        }
        values.push(value);
        if let Some(behind) = rest.strip_prefix(delimiter) {
            rest = behind;
            continue;
        }
        let behind = rest.strip_prefix('\r').unwrap_or(rest);
        if behind.is_empty() {
            return Ok((values, ""));
        }
        match behind.strip_prefix('\n') {
            Some(behind) => return Ok((values, behind)),
            None => return Err(invalid("something follows a value in quotes")),
        }
    }
}

#[cold]
fn invalid(what: &str, line: usize, begin: usize) -> Box<Reason> {
    invalid_at(NAME, &format!("{what}, in line {line}"), begin)
}
