//! How the times of a sample were understood: of each column of a time type one example, as the payload has it and as the row
//! has it. The texts come from a second decoder, in whose table these columns are texts.

use jiff::{SignedDuration, Timestamp, civil};
use serde::Serialize;

use crate::clickhouse::schema::TableColumn;
use crate::clickhouse::{Column, ColumnType, Kind};
use crate::config::{ColumnSource, Parse, Reading, Route};
use crate::decode::{Decoder, Message, ValueSource};

const MAX_TEXT: usize = 100;

#[derive(Debug, Clone, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct TimeExample {
    column: String,
    /// As it stands in the payload.
    text: String,
    /// In UTC; a day, or a time of day, for columns of these types.
    time: String,
}

/// Finds an example for each time column of a route.
pub struct TimeExamples {
    texts: Decoder,
    wanted: Vec<Wanted>,
}

/// A column without an example yet.
struct Wanted {
    /// Its place among the columns of the route's decoder, and among the texts.
    places: (usize, usize),
    name: String,
    kind: Kind,
}

impl TimeExamples {
    /// `None`: no column of a time type is filled from the payload.
    pub fn of(path: &str, route: &Route, decoder: &Decoder) -> Option<TimeExamples> {
        let is_wanted = |kind: &Kind, source: &ValueSource| {
            let is_time = matches!(
                kind,
                Kind::Date
                    | Kind::Date32
                    | Kind::DateTime { .. }
                    | Kind::DateTime64 { .. }
                    | Kind::Time { .. }
            );
            is_time && matches!(source, ValueSource::Payload { .. })
        };
        let inputs = decoder.inputs();
        let bindings = decoder.bindings().iter().enumerate().filter(|(place, _)| !inputs.contains(place));
        let wanted: Vec<Wanted> = bindings
            .filter(|(_, binding)| is_wanted(&binding.column_type().kind, binding.source()))
            .enumerate()
            .map(|(text, (place, binding))| Wanted {
                places: (place, text),
                name: binding.name().into(),
                kind: binding.column_type().kind.clone(),
            })
            .collect();
        let names: Vec<&str> = wanted.iter().map(|column| column.name.as_str()).collect();
        let table = text_columns(&names)?;
        let texts = Decoder::new(path, &text_route(route, &names), &table).ok()?;
        Some(TimeExamples { texts, wanted })
    }

    /// The examples that a message adds, whose rows are in `columns` from `first` on.
    pub fn of_message(
        &mut self,
        message: &Message<'_>,
        columns: &[Column],
        first: usize,
    ) -> Vec<TimeExample> {
        let mut examples = Vec::new();
        if self.wanted.is_empty() {
            return examples;
        }
        let mut texts = self.texts.columns();
        let Ok(rows) = self.texts.append(message, &mut texts) else { return examples };
        self.wanted.retain(|Wanted { places: (place, text), name, kind }| {
            let example = (0..rows).find_map(|row| {
                let text = string_at(&texts[*text], row)?;
                let time = shown(kind, value_at(columns.get(*place)?, first + row)?)?;
                let text = String::from_utf8_lossy(text).chars().take(MAX_TEXT).collect();
                Some(TimeExample { column: name.clone(), text, time })
            });
            let is_open = example.is_none();
            examples.extend(example);
            is_open
        });
        examples
    }
}

/// Columns of texts; `None` if there are no names.
pub(super) fn text_columns(names: &[&str]) -> Option<Vec<TableColumn>> {
    let text_type = ColumnType::parse("Nullable(String)", "UTC").ok()?;
    let column = |name: &&str| TableColumn {
        name: (*name).into(),
        column_type: text_type.clone(),
        default: None,
        is_ephemeral: false,
        is_added: false,
    };
    (!names.is_empty()).then(|| names.iter().map(column).collect())
}

/// The route, with these columns alone, each as it stands in the payload.
pub(super) fn text_route(route: &Route, wanted: &[&str]) -> Route {
    let mut route = route.clone();
    route.transform = None;
    route.reject_unknown_fields = false;
    route.columns.retain(|(name, _)| wanted.contains(&name.as_str()));
    for (_, source) in &mut route.columns {
        if let ColumnSource::Path { default, reading, .. } = source {
            *default = None;
            *reading = Reading {
                other_paths: std::mem::take(&mut reading.other_paths),
                parse: reading.parse.filter(|parse| *parse == Parse::Json),
                ..Reading::default()
            };
        }
    }
    route
}

/// The bytes of a value of fixed width; `None`: it is NULL, or there is none.
fn value_at(column: &Column, row: usize) -> Option<&[u8]> {
    match column {
        Column::Nullable { nulls, values } if nulls.get(row) == Some(&0) => value_at(values, row),
        Column::Fixed { width, data, .. } => data.get(row * width..(row + 1) * width),
        _ => None,
    }
}

pub(super) fn string_at(column: &Column, row: usize) -> Option<&[u8]> {
    let Column::Nullable { nulls, values } = column else { return None };
    let Column::Strings { data, .. } = &**values else { return None };
    let mut rest = data.as_slice();
    for _ in 0..row {
        rest = next_string(rest)?.1;
    }
    (nulls.get(row) == Some(&0)).then(|| next_string(rest).map(|(text, _)| text))?
}

/// A string is behind its length, a varint.
fn next_string(data: &[u8]) -> Option<(&[u8], &[u8])> {
    let (mut length, mut at) = (0_usize, 0);
    loop {
        let byte = *data.get(at)?;
        length |= usize::from(byte & 0x7f) << (7 * at);
        at += 1;
        if byte & 0x80 == 0 {
            return data.get(at..)?.split_at_checked(length);
        }
    }
}

fn shown(kind: &Kind, bytes: &[u8]) -> Option<String> {
    let number = match *bytes {
        [a, b] => i64::from(u16::from_le_bytes([a, b])),
        [a, b, c, d] if matches!(kind, Kind::DateTime { .. }) => i64::from(u32::from_le_bytes([a, b, c, d])),
        [a, b, c, d] => i64::from(i32::from_le_bytes([a, b, c, d])),
        _ => i64::from_le_bytes(bytes.try_into().ok()?),
    };
    let nanos = |scale: u32| i128::from(number) * 10_i128.pow(9 - scale.min(9));
    match kind {
        Kind::Date | Kind::Date32 => {
            let day =
                civil::date(1970, 1, 1).checked_add(SignedDuration::from_hours(number.checked_mul(24)?));
            Some(day.ok()?.to_string())
        }
        Kind::DateTime { .. } => Some(Timestamp::from_second(number).ok()?.to_string()),
        Kind::DateTime64 { scale, .. } => Some(Timestamp::from_nanosecond(nanos(*scale)).ok()?.to_string()),
        Kind::Time { scale } => {
            let nanos = nanos(scale.unwrap_or(0));
            let (sign, rest) = (if nanos < 0 { "-" } else { "" }, nanos.unsigned_abs());
            let seconds = rest / 1_000_000_000;
            let fraction = match rest % 1_000_000_000 {
                0 => String::new(),
                fraction => format!(".{fraction:09}").trim_end_matches('0').into(),
            };
            Some(format!("{sign}{}:{:02}:{:02}{fraction}", seconds / 3600, seconds / 60 % 60, seconds % 60))
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shown_as(type_name: &str, bytes: &[u8]) -> String {
        shown(&ColumnType::parse(type_name, "UTC").unwrap().kind, bytes).unwrap()
    }

    #[test]
    fn each_type_shows_its_times() {
        assert_eq!(shown_as("Date", &20_787_u16.to_le_bytes()), "2026-11-30");
        assert_eq!(shown_as("Date32", &(-1_i32).to_le_bytes()), "1969-12-31");
        assert_eq!(shown_as("DateTime", &1_796_040_000_u32.to_le_bytes()), "2026-11-30T12:00:00Z");
        assert_eq!(shown_as("DateTime", &u32::MAX.to_le_bytes()), "2106-02-07T06:28:15Z");
        assert_eq!(
            shown_as("DateTime64(3)", &1_796_040_000_123_i64.to_le_bytes()),
            "2026-11-30T12:00:00.123Z"
        );
        assert_eq!(shown_as("DateTime64(9)", &(-1_i64).to_le_bytes()), "1969-12-31T23:59:59.999999999Z");
        assert_eq!(shown_as("Time", &(-3_661_i32).to_le_bytes()), "-1:01:01");
        assert_eq!(shown_as("Time64(3)", &45_296_789_i64.to_le_bytes()), "12:34:56.789");
    }

    #[test]
    fn strings_are_found_behind_others() {
        let mut column = Column::new(&ColumnType::parse("Nullable(String)", "UTC").unwrap(), true);
        let long = "x".repeat(300);
        let push = |column: &mut Column, text: &str| {
            if let Column::Nullable { nulls, values } = column {
                nulls.push(0);
                values.push_string(text.as_bytes());
            }
        };
        push(&mut column, &long);
        column.push_null();
        push(&mut column, "last");
        assert_eq!(string_at(&column, 0), Some(long.as_bytes()));
        assert_eq!(string_at(&column, 1), None);
        assert_eq!(string_at(&column, 2), Some(&b"last"[..]));
        assert_eq!(string_at(&column, 3), None);
    }
}
