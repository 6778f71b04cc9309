//! Changes a value as the [`Reading`] of its column says, before it is checked against the column: texts that mean NULL, words in
//! place of others, a text that is a number or bytes, another unit.

use std::borrow::Cow;

use base64::Engine;
use base64::engine::general_purpose::{STANDARD, STANDARD_NO_PAD, URL_SAFE_NO_PAD};

use crate::config::{Nan, Parse, Reading};
use crate::core::reason::{Code, Reason};
use crate::decode::coerce::float_text;
use crate::decode::format::json;
use crate::decode::number::{IntegerText, Number};
use crate::decode::tape::{Tape, Value};
use crate::decode::value_reader::Result;

/// The result of reading a value.
pub enum ReadValue {
    Same,
    Missing,
    Other(Tape<'static>),
}

pub fn read_value(tape: &Tape<'_>, at: usize, reading: &Reading, nulls: &[String]) -> Result<ReadValue> {
    let mut value = Cow::Borrowed(tape.value(at));
    if let Value::Text(text) = &*value
        && nulls.iter().chain(&reading.nulls).any(|null| null == text)
    {
        return Ok(ReadValue::Missing);
    }
    if let (Some(parse), Value::Text(text)) = (reading.parse, &*value)
        && let Some(parsed) = parsed(text, parse)?
    {
        value = Cow::Owned(parsed);
    }
    if let Some(to) = mapped(&value, &reading.map) {
        if to.is_null() {
            return Ok(ReadValue::Missing);
        }
        let text = to.to_string();
        let other = json::tape::read_one(text.as_bytes(), Nan::Reject)?;
        if reading.scale.is_none() && reading.offset.is_none() {
            return Ok(ReadValue::Other(other.into_owned()));
        }
        value = Cow::Owned(other.value(0).clone().into_owned());
    }
    if (reading.scale.is_some() || reading.offset.is_some())
        && let Some(number) = written(&value).filter(|text| Number::from_text(text).is_some())
    {
        let scaled = scaled(&number, reading.scale.as_deref().unwrap_or("1"), reading.offset.as_deref());
        value = Cow::Owned(Value::Number(Cow::Owned(scaled)));
    }
    match value {
        Cow::Borrowed(_) => Ok(ReadValue::Same),
        Cow::Owned(value) => {
            let mut other = Tape::default();
            other.push(value.into_owned())?;
            Ok(ReadValue::Other(other))
        }
    }
}

/// A text as what it holds; none for JSON, which is read when the document is.
fn parsed<'a>(text: &str, parse: Parse) -> Result<Option<Value<'a>>> {
    let invalid = |what: &str| {
        let shown: String = text.chars().take(64).collect();
        Box::new(Reason::new(Code::TypeMismatch, format!("{shown:?} is no {what}")))
    };
    let bytes = match parse {
        Parse::Json => return Ok(None),
        Parse::Base64 => {
            let read = STANDARD.decode(text).or_else(|_| STANDARD_NO_PAD.decode(text));
            read.or_else(|_| URL_SAFE_NO_PAD.decode(text.trim_end_matches('=')))
                .map_err(|_| invalid("base64"))?
        }
        Parse::Hex => hex(text).ok_or_else(|| invalid("hexadecimal number of bytes"))?,
        Parse::Number => {
            let number = number_in(text).ok_or_else(|| invalid("number"))?;
            return Ok(Some(Value::Number(Cow::Owned(number))));
        }
    };
    Ok(Some(Value::Bytes(Cow::Owned(bytes))))
}

fn hex(text: &str) -> Option<Vec<u8>> {
    let digits = text.strip_prefix("0x").unwrap_or(text).as_bytes();
    let (pairs, rest) = digits.as_chunks::<2>();
    let digit = |byte: u8| (byte as char).to_digit(16);
    let byte = |[high, low]: &[u8; 2]| Some((digit(*high)? << 4 | digit(*low)?) as u8);
    if rest.is_empty() { pairs.iter().map(byte).collect() } else { None }
}

/// The number at the beginning of a text, with a point or a comma, in digits as JSON has them. The text
/// behind the number is a unit: `21,5 °C`.
fn number_in(text: &str) -> Option<String> {
    let text = text.trim();
    let end = text.find(|c: char| !c.is_ascii_digit() && !"+-.,eE".contains(c)).unwrap_or(text.len());
    // A unit may begin with an e.
    let number = text[..end].trim_end_matches(['e', 'E']).replace(',', ".");
    let unit = text[end..].trim_start();
    let number = Number::from_text(&number)?;
    let is_unit = !unit.starts_with(|c: char| c.is_ascii_digit());
    is_unit.then(|| plain(&decimal(number.text())?)).flatten()
}

fn mapped<'m>(value: &Value<'_>, map: &'m [(String, serde_json::Value)]) -> Option<&'m serde_json::Value> {
    if map.is_empty() {
        return None;
    }
    let text = written(value)?;
    let find = |wanted: &str| map.iter().find(|(name, _)| name == wanted).map(|(_, to)| to);
    find(&text).or_else(|| find("*"))
}

/// A value without parts as a text.
fn written<'a>(value: &'a Value<'_>) -> Option<Cow<'a, str>> {
    Some(match value {
        Value::Text(text) | Value::Number(text) => Cow::Borrowed(text),
        Value::Named { name, .. } => Cow::Borrowed(name),
        Value::Bool(flag) => Cow::Borrowed(if *flag { "true" } else { "false" }),
        Value::Integer(integer) => Cow::Owned(IntegerText::new((*integer).into()).as_str().into()),
        Value::Unsigned(integer) => Cow::Owned(IntegerText::new((*integer).into()).as_str().into()),
        Value::Float(float) => Cow::Owned(float_text(*float)),
        _ => return None,
    })
}

/// `mantissa * 10^exponent`
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Decimal {
    mantissa: i128,
    exponent: i32,
}

/// `number * scale + offset`, exact where that has at most 38 digits.
fn scaled(number: &str, scale: &str, offset: Option<&str>) -> String {
    let exact = || {
        let (number, scale, offset) = (decimal(number)?, decimal(scale)?, decimal(offset.unwrap_or("0"))?);
        let product = Decimal {
            mantissa: number.mantissa.checked_mul(scale.mantissa)?,
            exponent: number.exponent.checked_add(scale.exponent)?,
        };
        plain(&sum(product, offset)?)
    };
    exact().unwrap_or_else(|| {
        let float = |text: &str| Number::from_text(text).map_or(0.0, Number::to_f64);
        let float = float(number) * float(scale) + offset.map_or(0.0, float);
        // A number beyond all floats is beyond all columns of numbers as well.
        if float.is_finite() { float_text(float) } else { "1e400".into() }
    })
}

fn decimal(text: &str) -> Option<Decimal> {
    let number = Number::from_text(text)?;
    let (digits, exponent) = number.digits();
    let mantissa = digits
        .iter()
        .try_fold(0i128, |mantissa, digit| mantissa.checked_mul(10)?.checked_add(i128::from(digit - b'0')))?;
    Some(Decimal { mantissa: if number.is_negative() { -mantissa } else { mantissa }, exponent })
}

fn sum(one: Decimal, other: Decimal) -> Option<Decimal> {
    if other.mantissa == 0 {
        return Some(one);
    }
    if one.mantissa == 0 {
        return Some(other);
    }
    let exponent = one.exponent.min(other.exponent);
    let aligned = |decimal: Decimal| {
        let power = 10i128.checked_pow(u32::try_from(decimal.exponent - exponent).ok()?)?;
        decimal.mantissa.checked_mul(power)
    };
    Some(Decimal { mantissa: aligned(one)?.checked_add(aligned(other)?)?, exponent })
}

/// In digits as JSON has them, without an exponent. `None`: that would be long.
fn plain(decimal: &Decimal) -> Option<String> {
    let Decimal { mut mantissa, mut exponent } = *decimal;
    while mantissa != 0 && mantissa % 10 == 0 {
        mantissa /= 10;
        exponent += 1;
    }
    if mantissa == 0 {
        return Some("0".into());
    }
    let digits = mantissa.unsigned_abs().to_string();
    let text = match exponent {
        0..=40 => digits + &"0".repeat(exponent as usize),
        -60..0 => {
            let decimals = exponent.unsigned_abs() as usize;
            let padded = "0".repeat((decimals + 1).saturating_sub(digits.len())) + &digits;
            let point = padded.len() - decimals;
            format!("{}.{}", &padded[..point], &padded[point..])
        }
        _ => format!("{digits}e{exponent}"),
    };
    Some(if mantissa < 0 { format!("-{text}") } else { text })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn decimals_stay_what_they_are() {
        for (number, scale, offset, expected) in [
            ("1.1", "3.6", None, "3.96"),
            ("10", "0.1", None, "1"),
            ("25.3", "1.8", Some("32"), "77.54"),
            ("-5", "1", Some("-0.5"), "-5.5"),
            ("0.29", "100", None, "29"),
            ("1e3", "1", None, "1000"),
            ("0", "5", Some("7"), "7"),
            ("123456789012345678", "0.001", None, "123456789012345.678"),
        ] {
            assert_eq!(scaled(number, scale, offset), expected, "{number} * {scale} + {offset:?}");
        }
        assert_eq!(scaled("1e30", "1e30", None), "1e60");
    }

    #[test]
    fn a_number_is_found_before_its_unit() {
        for (text, expected) in [
            ("21,5 °C", Some("21.5")),
            ("21.5", Some("21.5")),
            ("-3 dBm", Some("-3")),
            ("5e3W", Some("5000")),
            ("7 eV", Some("7")),
            ("7eV", Some("7")),
            (" 12 ", Some("12")),
            ("1.234,5", None),
            ("12 34", None),
            ("", None),
            ("°C", None),
        ] {
            assert_eq!(number_in(text).as_deref(), expected, "{text}");
        }
    }

    #[test]
    fn texts_may_be_bytes() {
        assert_eq!(hex("0aFF"), Some(vec![10, 255]));
        assert_eq!((hex("0"), hex("zz"), hex("")), (None, None, Some(vec![])));
    }
}
