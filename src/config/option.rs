//! How the table of options (`schema`) describes an option: its kind, its default and what is said of it.
//!
//! The reader refuses by it what a user gave wrong, and `npm run generate` writes millrace.schema.json, the types in
//! index.d.ts and the tables of docs/configuration.md from it. It is serialised for that program alone.

use std::slice;

use serde::Serialize;
use serde_json::Value;

/// One option. Sentences are Markdown, in which only `code` is marked up.
#[derive(Debug, Clone, Copy, Serialize)]
pub struct Row {
    pub name: &'static str,
    pub kind: Kind,
    pub default: DefaultValue,
    /// The unit of its number.
    pub unit: Option<Unit>,
    /// Its meaning, wherever it is documented.
    pub sentence: &'static str,
    /// Text for docs/configuration.md alone, below the table.
    pub note: &'static str,
    /// For editors of configuration files.
    pub example: Option<&'static str>,
}

/// An object with these options and no others.
#[derive(Debug, Serialize)]
pub struct Object {
    /// The interface of index.d.ts. `None`: it is written where it is used.
    pub name: Option<&'static str>,
    pub about: &'static str,
    /// Objects whose options it has as well.
    pub includes: &'static [&'static Object],
    pub rows: &'static [Row],
    /// Keywords of JSON Schema for what options ask of each other, as the text of a JSON object. The reader's own
    /// checks are in the file that reads the object.
    pub rules: &'static str,
}

#[derive(Debug, Clone, Copy, Serialize)]
#[serde(tag = "kind", rename_all = "camelCase")]
pub enum Kind {
    /// A text. `pattern` is for editors: its reader says what is wrong with a text in words.
    Text {
        empty: Empty,
        max_bytes: Option<usize>,
        pattern: Option<&'static str>,
    },
    /// A certificate or key in PEM, or the path of a file. A program may give a Buffer.
    Pem,
    /// The path of a file. A program may give what it holds as a Buffer.
    File,
    /// From `min` to `max`. `is_listed`: documents name each value, since they are few.
    Integer {
        min: u64,
        max: u64,
        is_listed: bool,
    },
    /// From `min` to `max`; an infinite one is not a limit.
    Number {
        min: f64,
        max: f64,
    },
    Flag,
    /// One of a few words.
    Choice {
        words: &'static [&'static str],
    },
    /// Any JSON value.
    Any,
    Object {
        object: &'static Object,
    },
    /// At least one.
    List {
        item: &'static Kind,
    },
    /// One, or a list of at least one.
    OneOrMore {
        item: &'static Kind,
    },
    /// An object whose names are the user's own, except those that are `refused`.
    Record {
        value: &'static Kind,
        refused: &'static [&'static str],
    },
    /// The first that takes the value. The object whose first option is given is chosen; where that is
    /// a choice, as `type` in `{ type: 'csv' }`, the one that has its word.
    Union {
        of: &'static [Kind],
    },
    /// A kind with a type of its own in index.d.ts.
    Named {
        name: &'static str,
        about: &'static str,
        of: &'static Kind,
    },
    /// A [`Kind::Named`] within itself.
    Again {
        name: &'static str,
    },
    /// A function or an instance of a class, which only a program can give: it is in no file, and JavaScript keeps it
    /// from the engine. `phrase` is what it is in words, such as "a function".
    Code {
        typescript: &'static str,
        phrase: &'static str,
    },
}

/// Whether a text may be empty.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub enum Empty {
    Allowed,
    /// The message after "must not be empty", such as ": leave it out for none".
    Refused(&'static str),
    /// Refused by the file that reads the option, with a message of its own.
    Unreadable,
}

/// The value of an option that is left out.
#[derive(Debug, Clone, Copy, Serialize)]
#[serde(rename_all = "camelCase")]
pub enum DefaultValue {
    /// The message after "is required", such as ": a list of { topic, table }".
    Required(&'static str),
    /// Nothing.
    Absent,
    Integer(u64),
    Number(f64),
    Text(&'static str),
    Flag(bool),
    /// It depends on something else: in words.
    Described(&'static str),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub enum Unit {
    Milliseconds,
    Seconds,
    Bytes,
}

impl Object {
    pub fn row(&self, name: &str) -> Option<&'static Row> {
        let own = self.rows.iter().find(|row| row.name == name);
        own.or_else(|| self.includes.iter().find_map(|object| object.row(name)))
    }

    /// The first option, which selects an object of a union.
    pub fn first(&self) -> Option<&'static Row> {
        self.includes.iter().find_map(|object| object.first()).or(self.rows.first())
    }

    /// The names of the options that can be in a file.
    pub fn names(&self) -> Vec<&'static str> {
        let included = self.includes.iter().flat_map(|object| object.names());
        let own = self.rows.iter().filter(|row| !matches!(row.kind, Kind::Code { .. })).map(|row| row.name);
        included.chain(own).collect()
    }
}

impl Kind {
    /// The kinds of a union; else itself.
    pub fn alternatives(&'static self) -> &'static [Kind] {
        match self {
            Kind::Union { of } => of,
            Kind::Named { of, .. } => of.alternatives(),
            kind => slice::from_ref(kind),
        }
    }

    pub fn as_object(&self) -> Option<&'static Object> {
        match self {
            Kind::Object { object } => Some(object),
            _ => None,
        }
    }

    /// Whether this is a choice that has not got this word.
    pub fn lacks(&self, word: &Value) -> bool {
        matches!(self, Kind::Choice { words } if !words.iter().any(|one| word == one))
    }
}

/// A row of the table.
pub const fn row(name: &'static str, kind: Kind, default: DefaultValue, sentence: &'static str) -> Row {
    Row { name, kind, default, unit: None, sentence, note: "", example: None }
}

impl Row {
    pub const fn unit(self, unit: Unit) -> Row {
        Row { unit: Some(unit), ..self }
    }

    pub const fn note(self, note: &'static str) -> Row {
        Row { note, ..self }
    }

    pub const fn example(self, example: &'static str) -> Row {
        Row { example: Some(example), ..self }
    }
}

pub const REQUIRED: DefaultValue = DefaultValue::Required("");

/// Any text, also an empty one.
pub const TEXT: Kind = Kind::Text { empty: Empty::Allowed, max_bytes: None, pattern: None };

/// A text whose reader refuses an empty one.
pub const READ_TEXT: Kind = Kind::Text { empty: Empty::Unreadable, max_bytes: None, pattern: None };

/// A text that is not empty; `advice` is what the error says after "must not be empty".
pub const fn filled_text(advice: &'static str) -> Kind {
    Kind::Text { empty: Empty::Refused(advice), max_bytes: None, pattern: None }
}

/// A text that looks like this.
pub const fn pattern(pattern: &'static str) -> Kind {
    Kind::Text { empty: Empty::Allowed, max_bytes: None, pattern: Some(pattern) }
}

/// Any number.
pub const NUMBER: Kind = Kind::Number { min: f64::NEG_INFINITY, max: f64::INFINITY };

pub const fn integer(min: u64, max: u64) -> Kind {
    Kind::Integer { min, max, is_listed: false }
}

/// An integer of which documents name each value.
pub const fn level(min: u64, max: u64) -> Kind {
    Kind::Integer { min, max, is_listed: true }
}

pub const fn choice(words: &'static [&'static str]) -> Kind {
    Kind::Choice { words }
}

pub const fn object(object: &'static Object) -> Kind {
    Kind::Object { object }
}
