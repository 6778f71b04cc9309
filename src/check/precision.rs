//! Columns that do not keep all digits of the values of a sample: floats of 32 bits, and integers in floats. A Decimal refuses
//! what it does not keep.
//!
//! The digits come from a second decoder, in whose table these columns are texts. Times are not among them: a decoder notes
//! itself where it cuts one.

use crate::check::times::{string_at, text_columns, text_route};
use crate::check::{Level, Report};
use crate::clickhouse::Kind;
use crate::config::{ColumnSource, Route};
use crate::decode::{Decoder, Message, ValueSource};

const MAX_TEXT: usize = 40;

/// The columns of a route that are looked at.
pub struct Precision {
    texts: Decoder,
    columns: Vec<Watched>,
}

struct Watched {
    name: String,
    kind: Kind,
    type_name: String,
    values: usize,
    /// How many of them lose digits.
    cut: usize,
    /// The first of them, and what is kept of it.
    example: Option<(String, String)>,
}

impl Precision {
    /// `None`: no column of such a type takes a value of the payload as it is.
    pub fn of(path: &str, route: &Route, decoder: &Decoder) -> Option<Precision> {
        let inputs = decoder.inputs();
        let bindings = decoder.bindings().iter().enumerate().filter(|(place, _)| !inputs.contains(place));
        let columns: Vec<Watched> = bindings
            .map(|(_, binding)| binding)
            .filter(|binding| {
                let kind = &binding.column_type().kind;
                let is_number = matches!(kind, Kind::Float32 | Kind::Float64);
                let is_payload = matches!(binding.source(), ValueSource::Payload { .. });
                is_number && is_payload && is_unchanged(route.source_of(binding.name()))
            })
            .map(|binding| Watched {
                name: binding.name().into(),
                kind: binding.column_type().kind.clone(),
                type_name: binding.column_type().inner_name.clone(),
                values: 0,
                cut: 0,
                example: None,
            })
            .collect();
        let names: Vec<&str> = columns.iter().map(|column| column.name.as_str()).collect();
        let table = text_columns(&names)?;
        let texts = Decoder::new(path, &text_route(route, &names), &table).ok()?;
        Some(Precision { texts, columns })
    }

    pub fn note(&mut self, message: &Message<'_>) {
        let mut texts = self.texts.columns();
        let Ok(rows) = self.texts.append(message, &mut texts) else { return };
        for (column, texts) in self.columns.iter_mut().zip(&texts) {
            for row in 0..rows {
                let Some(text) = string_at(texts, row).and_then(|text| std::str::from_utf8(text).ok()) else {
                    continue;
                };
                column.values += 1;
                if let Some(kept) = kept_of(&column.kind, text) {
                    column.cut += 1;
                    column.example.get_or_insert_with(|| (text.chars().take(MAX_TEXT).collect(), kept));
                }
            }
        }
    }

    /// `path` is the route's.
    pub fn report(self, path: &str, report: &mut Report) {
        for Watched { name, type_name, values, cut, example, .. } in self.columns {
            let Some((text, kept)) = example else { continue };
            report.add_finding(
                Level::Warning,
                "VALUE_PRECISION_CUT",
                format!("{path}.columns.{name}"),
                format!(
                    "{cut} of {values} values for the column {name} lose digits in {type_name}: of {text} it keeps {kept}"
                ),
                "give it a type with more digits, such as Float64, a Decimal or an Int64, unless these digits mean nothing",
            );
        }
    }
}

/// Whether a value is stored as the payload has it.
fn is_unchanged(source: Option<&ColumnSource>) -> bool {
    match source {
        None => true,
        Some(ColumnSource::Path { reading, .. }) => {
            reading.scale.is_none() && reading.offset.is_none() && reading.map.is_empty() && !reading.is_key
        }
        Some(_) => false,
    }
}

/// The digits that a column keeps of a number, if these are not all.
fn kept_of(kind: &Kind, text: &str) -> Option<String> {
    let value: f64 = text.trim().parse().ok()?;
    if !value.is_finite() {
        return None;
    }
    match kind {
        Kind::Float32 => {
            let kept = value as f32;
            let shortest = kept.to_string();
            // A float of 32 bits may have been written with all digits of its 64 bits.
            let is_same = f64::from(kept) == value || shortest.parse() == Ok(value);
            (!is_same && kept.is_finite()).then_some(shortest)
        }
        Kind::Float64 => {
            let exact: i128 = text.trim().parse().ok()?;
            (value as i128 != exact).then(|| format!("{value:.0}"))
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clickhouse::ColumnType;

    #[test]
    fn digits_that_a_type_does_not_keep_are_seen() {
        let kept =
            |type_name: &str, text: &str| kept_of(&ColumnType::parse(type_name, "UTC").unwrap().kind, text);
        for (type_name, text) in [
            ("Float32", "21.5"),
            ("Float32", "52.52001"),
            ("Float32", "0.1"),
            ("Float32", "21.299999237060547"),
            ("Float32", "16777216"),
            ("Float32", "1e300"),
            ("Float32", "x"),
            ("Float64", "52.520008123"),
            ("Float64", "9007199254740992"),
        ] {
            assert_eq!(kept(type_name, text), None, "{type_name} {text}");
        }
        assert_eq!(kept("Float32", "52.520008123").as_deref(), Some("52.520008"));
        assert_eq!(kept("Float32", "16777217").as_deref(), Some("16777216"));
        assert_eq!(kept("Float64", "9007199254740993").as_deref(), Some("9007199254740992"));
    }
}
