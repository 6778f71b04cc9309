//! One object of the configuration while it is being read: gives its options by name, checks each by its row of the
//! table of options, and at the end refuses the rest, naming the option that was probably meant.

use std::sync::LazyLock;
use std::time::Duration;

use serde_json::{Map, Value};
use strsim::levenshtein;

use crate::config::option::{DefaultValue, Kind, Object, Row, Unit};
use crate::config::schema::PIPELINE;
use crate::config::taken::{Taken, given, phrase, shape};
use crate::core::error::{Error, Result};

pub struct ObjectReader<'a> {
    path: String,
    map: &'a Map<String, Value>,
    object: &'static Object,
}

impl<'a> ObjectReader<'a> {
    pub fn root(value: &'a Value, object: &'static Object) -> Result<Self> {
        ObjectReader::at("", value, object)
    }

    pub fn at(path: &str, value: &'a Value, object: &'static Object) -> Result<Self> {
        let Some(map) = value.as_object() else {
            let message =
                if path.is_empty() { "the configuration must be an object" } else { "must be an object" };
            return Err(Error::config(path, message));
        };
        Ok(ObjectReader { path: path.into(), map, object })
    }

    /// The reader of a section that was left out: every option has its default.
    pub fn empty(object: &'static Object) -> ObjectReader<'static> {
        static NOTHING: LazyLock<Map<String, Value>> = LazyLock::new(Map::new);
        ObjectReader { path: String::new(), map: &NOTHING, object }
    }

    /// The one of these objects that a value is, as [`Kind::Union`] has it, with the name of its first option. Where only
    /// one object could be meant, its reader says what is wrong.
    pub fn variant(path: &str, value: &'a Value, kinds: &[Kind]) -> Result<Option<(&'static str, Self)>> {
        let reader = ObjectReader::at(path, value, &UNNAMED)?;
        let objects = || kinds.iter().filter_map(Kind::as_object);
        let first = objects().filter_map(Object::first).find(|row| reader.has(row.name));
        let meant: Vec<&'static Object> = match first {
            Some(first) => {
                objects().filter(|o| o.first().is_some_and(|row| row.name == first.name)).collect()
            }
            None => objects().collect(),
        };
        let word = first.and_then(|row| reader.value(row.name));
        let has_word =
            |object: &&Object| object.first().zip(word).is_some_and(|(row, word)| !row.kind.lacks(word));
        let object = match meant[..] {
            [object] => Some(object),
            _ => meant.iter().copied().find(has_word),
        };
        Ok(object.map(|object| {
            let first = object.first().map_or("", |row| row.name);
            (first, ObjectReader { object, ..reader })
        }))
    }

    pub fn path(&self) -> &str {
        &self.path
    }

    pub fn path_of(&self, name: &str) -> String {
        let plain = name.chars().all(|c| c.is_alphanumeric() || c == '_' || c == '$') && !name.is_empty();
        match (self.path.is_empty(), plain) {
            (true, _) => name.into(),
            (false, true) => format!("{}.{name}", self.path),
            (false, false) => format!("{}[{name:?}]", self.path),
        }
    }

    pub fn wrong(&self, name: &str, message: impl AsRef<str>) -> Error {
        Error::config(self.path_of(name), message.as_ref())
    }

    pub fn has(&self, name: &str) -> bool {
        self.map.contains_key(name)
    }

    pub fn value(&self, name: &str) -> Option<&'a Value> {
        self.map.get(name)
    }

    /// The value of an option by its row, for options of several kinds. `None`: it was left out.
    pub fn take(&self, name: &str) -> Result<Option<Taken<'a>>> {
        let row = self.row(name)?;
        let Some(value) = self.value(name) else { return Ok(None) };
        let kinds = row.kind.alternatives();
        if let Some(taken) = Taken::of(&self.path_of(name), value, kinds)? {
            return Ok(Some(taken));
        }
        let wanted = kinds.iter().map(phrase).collect::<Vec<_>>().join(" or ");
        Err(self.wrong(name, format!("must be {wanted}, not {}", given(value, kinds))))
    }

    pub fn text(&self, name: &str) -> Result<Option<String>> {
        match self.take(name)? {
            None => Ok(None),
            Some(Taken::Text(text)) => Ok(Some(text)),
            Some(_) => Err(self.fault(name, "is not a text")),
        }
    }

    pub fn text_or_default(&self, name: &str) -> Result<String> {
        let row = self.row(name)?;
        match (self.text(name)?, row.default) {
            (Some(text), _) => Ok(text),
            (None, DefaultValue::Text(text)) => Ok(text.into()),
            (None, _) => Err(self.absent(row)),
        }
    }

    pub fn required_text(&self, name: &str) -> Result<String> {
        let row = self.row(name)?;
        self.text(name)?.ok_or_else(|| self.absent(row))
    }

    /// A list of at least one text, each with its path; of [`Kind::OneOrMore`] also a single text.
    pub fn texts(&self, name: &str) -> Result<Vec<(String, String)>> {
        let row = self.row(name)?;
        let path = self.path_of(name);
        let may_be_one = matches!(row.kind, Kind::OneOrMore { .. });
        match self.value(name) {
            None if matches!(row.default, DefaultValue::Absent) => Ok(Vec::new()),
            None => Err(self.absent(row)),
            Some(Value::String(s)) if may_be_one => Ok(vec![(path, s.clone())]),
            Some(Value::Array(list)) if list.is_empty() => Err(self.wrong(name, "must not be an empty list")),
            Some(Value::Array(list)) => list
                .iter()
                .enumerate()
                .map(|(i, item)| match item {
                    Value::String(s) => Ok((format!("{path}[{i}]"), s.clone())),
                    other => Err(Error::config(
                        format!("{path}[{i}]"),
                        format!("must be a string, not {}", shape(other)),
                    )),
                })
                .collect(),
            Some(other) => {
                let wanted = if may_be_one { "a string or a list of strings" } else { "a list of strings" };
                Err(self.wrong(name, format!("must be {wanted}, not {}", shape(other))))
            }
        }
    }

    pub fn integer(&self, name: &str) -> Result<Option<u64>> {
        match self.take(name)? {
            None => Ok(None),
            Some(Taken::Integer(number)) => Ok(Some(number)),
            Some(_) => Err(self.fault(name, "is not an integer")),
        }
    }

    /// An integer; `None` if the option is left out or has a word instead.
    pub fn integer_unless_word(&self, name: &str) -> Result<Option<u64>> {
        match self.take(name)? {
            None | Some(Taken::Word(_)) => Ok(None),
            Some(Taken::Integer(number)) => Ok(Some(number)),
            Some(_) => Err(self.fault(name, "is not an integer or a word")),
        }
    }

    pub fn integer_or_default(&self, name: &str) -> Result<u64> {
        let row = self.row(name)?;
        match (self.integer(name)?, row.default) {
            (Some(number), _) | (None, DefaultValue::Integer(number)) => Ok(number),
            (None, _) => Err(self.absent(row)),
        }
    }

    /// An integer with a unit of time.
    pub fn duration_or_default(&self, name: &str) -> Result<Duration> {
        let number = self.integer_or_default(name)?;
        match self.row(name)?.unit {
            Some(Unit::Milliseconds) => Ok(Duration::from_millis(number)),
            Some(Unit::Seconds) => Ok(Duration::from_secs(number)),
            _ => Err(self.fault(name, "counts no time")),
        }
    }

    pub fn number_or_default(&self, name: &str) -> Result<f64> {
        let number = match self.take(name)? {
            Some(Taken::Number(number)) => number.as_f64(),
            Some(_) => None,
            None => match self.row(name)?.default {
                DefaultValue::Number(number) => Some(number),
                _ => None,
            },
        };
        number.ok_or_else(|| self.fault(name, "is not a number, or has no default"))
    }

    pub fn required_number(&self, name: &str) -> Result<f64> {
        let row = self.row(name)?;
        match self.take(name)? {
            None => Err(self.absent(row)),
            Some(Taken::Number(number)) => {
                number.as_f64().ok_or_else(|| self.fault(name, "is not a number of 64 bits"))
            }
            Some(_) => Err(self.fault(name, "is not a number")),
        }
    }

    pub fn flag_or_default(&self, name: &str) -> Result<bool> {
        let row = self.row(name)?;
        match (self.take(name)?, row.default) {
            (Some(Taken::Flag(flag)), _) | (None, DefaultValue::Flag(flag)) => Ok(flag),
            (Some(_), _) => Err(self.fault(name, "is not a flag")),
            (None, _) => Err(self.absent(row)),
        }
    }

    /// One of the words of a choice.
    pub fn word(&self, name: &str) -> Result<Option<&'static str>> {
        match self.take(name)? {
            None => Ok(None),
            Some(Taken::Word(word)) => Ok(Some(word)),
            Some(_) => Err(self.fault(name, "is not a choice")),
        }
    }

    pub fn word_or_default(&self, name: &str) -> Result<&'static str> {
        let row = self.row(name)?;
        match (self.word(name)?, row.default) {
            (Some(word), _) | (None, DefaultValue::Text(word)) => Ok(word),
            (None, _) => Err(self.absent(row)),
        }
    }

    pub fn section(&self, name: &str) -> Result<Option<ObjectReader<'a>>> {
        let Some(object) = self.row(name)?.kind.as_object() else {
            return Err(self.fault(name, "is no object"));
        };
        self.value(name).map(|value| ObjectReader::at(&self.path_of(name), value, object)).transpose()
    }

    pub fn required_section(&self, name: &str) -> Result<ObjectReader<'a>> {
        let row = self.row(name)?;
        self.section(name)?.ok_or_else(|| self.absent(row))
    }

    /// A list of objects, which may be empty.
    pub fn sections(&self, name: &str) -> Result<Vec<ObjectReader<'a>>> {
        let row = self.row(name)?;
        let Kind::List { item: Kind::Object { object } } = row.kind else {
            return Err(self.fault(name, "is no list of objects"));
        };
        let path = self.path_of(name);
        match self.value(name) {
            None if matches!(row.default, DefaultValue::Absent) => Ok(Vec::new()),
            None => Err(self.absent(row)),
            Some(Value::Array(items)) => items
                .iter()
                .enumerate()
                .map(|(i, item)| ObjectReader::at(&format!("{path}[{i}]"), item, object))
                .collect(),
            Some(other) => Err(self.wrong(name, format!("must be a list, not {}", shape(other)))),
        }
    }

    /// The entries of an object whose names are the user's own: path, name and value.
    pub fn record(&self, name: &str) -> Result<Vec<(String, &'a str, &'a Value)>> {
        let Kind::Record { refused, .. } = self.row(name)?.kind else {
            return Err(self.fault(name, "is no record"));
        };
        let Some(value) = self.value(name) else { return Ok(Vec::new()) };
        let path = self.path_of(name);
        let record = ObjectReader::at(&path, value, &UNNAMED)?;
        let entries = record.map.iter().map(|(name, value)| {
            let path = record.path_of(name);
            if refused.contains(&name.as_str()) {
                return Err(Error::config(path, "is set by millrace itself: its promises depend on it"));
            }
            Ok((path, name.as_str(), value))
        });
        entries.collect()
    }

    /// Refuses the first option that the table does not have.
    pub fn finish(self) -> Result<()> {
        let known = self.object.names();
        let Some(unknown) = self.map.keys().find(|name| !known.contains(&name.as_str())) else {
            return Ok(());
        };
        let written = unknown.to_lowercase();
        let nearest = known.iter().map(|name| (levenshtein(&name.to_lowercase(), &written), name)).min();
        let hint = match nearest {
            Some((d, name)) if d <= 1 + unknown.len() / 4 => format!("; did you mean {name}?"),
            _ => elsewhere(unknown).map_or_else(String::new, |meant| format!("; did you mean {meant}?")),
        };
        Err(self.wrong(unknown, format!("is not an option{hint}")))
    }

    fn row(&self, name: &str) -> Result<&'static Row> {
        self.object.row(name).ok_or_else(|| self.fault(name, "has no row in the table of options"))
    }

    /// The error of an option that is not there.
    fn absent(&self, row: &Row) -> Error {
        match row.default {
            DefaultValue::Required(advice) => self.wrong(row.name, format!("is required{advice}")),
            _ => self.fault(row.name, "has no default in the table of options"),
        }
    }

    /// The table and its reader disagree. A test that reads the object at all finds it.
    fn fault(&self, name: &str, message: &str) -> Error {
        Error::Internal { thread: "config".into(), message: format!("{} {message}", self.path_of(name)) }
    }
}

/// The table of a record: none of its names is known beforehand.
static UNNAMED: Object = Object { name: None, about: "", includes: &[], rows: &[], rules: "{}" };

/// The options of this name in other objects of the configuration, such as `mqtt.url or clickhouse.url`.
fn elsewhere(name: &str) -> Option<String> {
    let mut places = Vec::new();
    places_of(name, &PIPELINE, "", &mut places);
    (1..=3).contains(&places.len()).then(|| places.join(" or "))
}

fn places_of(name: &str, object: &'static Object, prefix: &str, places: &mut Vec<String>) {
    object.includes.iter().for_each(|object| places_of(name, object, prefix, places));
    for row in object.rows {
        let path = format!("{prefix}{}", row.name);
        // Options of records would be asked for by names that are the user's own.
        if row.name.eq_ignore_ascii_case(name) && !matches!(row.kind, Kind::Code { .. }) {
            places.push(path.clone());
        }
        match row.kind {
            Kind::Object { object } => places_of(name, object, &format!("{path}."), places),
            Kind::List { item: Kind::Object { object } } => {
                places_of(name, object, &format!("{path}[]."), places);
            }
            _ => {}
        }
    }
}

#[cfg(test)]
mod tests;
