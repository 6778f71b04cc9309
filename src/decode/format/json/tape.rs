//! JSON onto a tape, for routes that want more of it than a walk gives. The lexer decides whether a
//! payload is JSON; only `NaN` and the infinities can be allowed here.

use std::borrow::Cow;

use crate::config::Nan;
use crate::decode::format::Documents;
use crate::decode::format::json::lexer::Reader;
use crate::decode::tape::{Tape, Value};
use crate::decode::value_reader::{Result, Token, ValueReader};

pub fn read(payload: &[u8], nan: Nan) -> Result<Documents<'_>> {
    let mut reader = Reader::new(payload);
    let mut documents = Documents::default();
    loop {
        documents.roots.push(documents.tape.len());
        value(&mut reader, payload, nan, &mut documents.tape)?;
        if !reader.next_document()? {
            return Ok(documents);
        }
    }
}

/// The only document of a text.
pub fn read_one(text: &[u8], nan: Nan) -> Result<Tape<'_>> {
    let mut reader = Reader::new(text);
    let mut tape = Tape::default();
    value(&mut reader, text, nan, &mut tape)?;
    if reader.next_document()? {
        return Err(reader.invalid("something follows the value"));
    }
    Ok(tape)
}

fn value<'a>(reader: &mut Reader<'a>, payload: &'a [u8], nan: Nan, tape: &mut Tape<'a>) -> Result<()> {
    reader.peek()?;
    let start = reader.position();
    if nan != Nan::Reject
        && let Some((float, len)) = not_a_number(&payload[start..])
    {
        reader.seek(start + len);
        return tape.push(if nan == Nan::Value { Value::Float(float) } else { Value::Null });
    }
    let token = match reader.peek()? {
        b'"' => {
            let text = reader.text_bytes()?;
            return tape.push(match text {
                Cow::Borrowed(bytes) => match std::str::from_utf8(bytes) {
                    Ok(text) => Value::Text(Cow::Borrowed(text)),
                    Err(_) => Value::Bytes(Cow::Borrowed(bytes)),
                },
                Cow::Owned(bytes) => match String::from_utf8(bytes) {
                    Ok(text) => Value::Text(Cow::Owned(text)),
                    Err(error) => Value::Bytes(Cow::Owned(error.into_bytes())),
                },
            });
        }
        _ => Reader::token(reader)?,
    };
    let value = match token {
        Token::Bool(flag) => Value::Bool(flag),
        Token::Number(number) => Value::Number(Cow::Borrowed(number.text())),
        Token::List => {
            let at = tape.begin_list()?;
            reader.enter()?;
            let mut is_first = true;
            while reader.next_item(is_first)? {
                is_first = false;
                self::value(reader, payload, nan, tape)?;
            }
            tape.end_written(at, Some(&payload[start..reader.position()]));
            return Ok(());
        }
        Token::Object => {
            let at = tape.begin_object()?;
            reader.enter()?;
            let mut is_first = true;
            while reader.next_member(is_first)? {
                is_first = false;
                let key = reader.key()?;
                tape.push(Value::Text(key))?;
                self::value(reader, payload, nan, tape)?;
            }
            tape.end_written(at, Some(&payload[start..reader.position()]));
            return Ok(());
        }
        _ => Value::Null,
    };
    tape.push(value)
}

/// `NaN` and the infinities as languages write them, and how long they are.
fn not_a_number(bytes: &[u8]) -> Option<(f64, usize)> {
    const WORDS: [(&str, f64); 8] = [
        ("NaN", f64::NAN),
        ("nan", f64::NAN),
        ("Infinity", f64::INFINITY),
        ("-Infinity", f64::NEG_INFINITY),
        ("inf", f64::INFINITY),
        ("-inf", f64::NEG_INFINITY),
        ("Inf", f64::INFINITY),
        ("-Inf", f64::NEG_INFINITY),
    ];
    let (word, float) = WORDS.iter().find(|(word, _)| bytes.starts_with(word.as_bytes()))?;
    let ends = bytes.get(word.len()).is_none_or(|byte| !byte.is_ascii_alphanumeric());
    ends.then_some((*float, word.len()))
}
