//! One object of the configuration while it is being read: gives its options by name and kind, remembers which
//! were asked for, and at the end refuses the rest, naming the option that was probably meant.

use serde_json::{Map, Value};

use crate::core::error::{Error, Result};

pub struct Options<'a> {
    path: String,
    map: &'a Map<String, Value>,
    known: Vec<&'static str>,
}

impl<'a> Options<'a> {
    pub fn root(value: &'a Value) -> Result<Self> {
        Options::at("", value)
    }

    pub fn at(path: &str, value: &'a Value) -> Result<Self> {
        let Some(map) = value.as_object() else {
            let message =
                if path.is_empty() { "the configuration must be an object" } else { "must be an object" };
            return Err(Error::config(path, message));
        };
        Ok(Options { path: path.into(), map, known: Vec::new() })
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

    pub fn value(&mut self, name: &'static str) -> Option<&'a Value> {
        self.known.push(name);
        self.map.get(name)
    }

    pub fn string(&mut self, name: &'static str) -> Result<Option<String>> {
        match self.value(name) {
            None => Ok(None),
            Some(Value::String(s)) if s.contains('\0') => {
                Err(self.wrong(name, "must not contain a NUL character"))
            }
            Some(Value::String(s)) => Ok(Some(s.clone())),
            Some(other) => Err(self.wrong(name, format!("must be a string, not {}", kind(other)))),
        }
    }

    /// A required string, or a list of at least one; each with its path.
    pub fn strings(&mut self, name: &'static str) -> Result<Vec<(String, String)>> {
        let path = self.path_of(name);
        let message = "must be a string or a list of strings";
        match self.value(name) {
            None => Err(self.wrong(name, "is required")),
            Some(Value::String(s)) => Ok(vec![(path, s.clone())]),
            Some(Value::Array(list)) if list.is_empty() => Err(self.wrong(name, "must not be an empty list")),
            Some(Value::Array(list)) => list
                .iter()
                .enumerate()
                .map(|(i, item)| match item {
                    Value::String(s) => Ok((format!("{path}[{i}]"), s.clone())),
                    other => Err(Error::config(
                        format!("{path}[{i}]"),
                        format!("must be a string, not {}", kind(other)),
                    )),
                })
                .collect(),
            Some(other) => Err(self.wrong(name, format!("{message}, not {}", kind(other)))),
        }
    }

    pub fn integer(&mut self, name: &'static str, min: u64, max: u64) -> Result<Option<u64>> {
        let Some(value) = self.value(name) else { return Ok(None) };
        // JavaScript has one kind of number: 5e3 and 5000.0 are integers there.
        let number = value.as_u64().or_else(|| {
            value
                .as_f64()
                .filter(|f| f.fract() == 0.0 && *f >= 0.0 && *f <= 9_007_199_254_740_991.0)
                .map(|f| f as u64)
        });
        match number {
            Some(n) if (min..=max).contains(&n) => Ok(Some(n)),
            _ => {
                let got = match value {
                    Value::Number(n) => n.to_string(),
                    other => kind(other).into(),
                };
                Err(self.wrong(name, format!("must be an integer from {min} to {max}, not {got}")))
            }
        }
    }

    /// A number from 0 to 1.
    pub fn fraction(&mut self, name: &'static str) -> Result<Option<f64>> {
        let Some(value) = self.value(name) else { return Ok(None) };
        match value.as_f64() {
            Some(number) if (0.0..=1.0).contains(&number) => Ok(Some(number)),
            _ => Err(self.wrong(name, format!("must be a number from 0 to 1, not {value}"))),
        }
    }

    pub fn boolean(&mut self, name: &'static str) -> Result<Option<bool>> {
        match self.value(name) {
            None => Ok(None),
            Some(Value::Bool(b)) => Ok(Some(*b)),
            Some(other) => Err(self.wrong(name, format!("must be true or false, not {}", kind(other)))),
        }
    }

    pub fn choice(&mut self, name: &'static str, choices: &[&'static str]) -> Result<Option<&'static str>> {
        let Some(value) = self.value(name) else { return Ok(None) };
        match value.as_str().and_then(|s| choices.iter().find(|c| **c == s)) {
            Some(choice) => Ok(Some(choice)),
            None => {
                let choices = choices.iter().map(|c| format!("'{c}'")).collect::<Vec<_>>().join(", ");
                Err(self.wrong(name, format!("must be one of {choices}, not {value}")))
            }
        }
    }

    pub fn section(&mut self, name: &'static str) -> Result<Option<Options<'a>>> {
        match self.value(name) {
            None => Ok(None),
            Some(value) => Options::at(&self.path_of(name), value).map(Some),
        }
    }

    pub fn required(&mut self, name: &'static str) -> Result<Options<'a>> {
        self.section(name)?.ok_or_else(|| self.wrong(name, "is required"))
    }

    pub fn list(&mut self, name: &'static str) -> Result<Option<Vec<Options<'a>>>> {
        let path = self.path_of(name);
        match self.value(name) {
            None => Ok(None),
            Some(Value::Array(items)) => items
                .iter()
                .enumerate()
                .map(|(i, v)| Options::at(&format!("{path}[{i}]"), v))
                .collect::<Result<_>>()
                .map(Some),
            Some(other) => Err(self.wrong(name, format!("must be a list, not {}", kind(other)))),
        }
    }

    /// All entries, for objects whose names are the user's own.
    pub fn rest(&mut self) -> Vec<(String, &'a Value)> {
        self.map.iter().map(|(name, value)| (name.clone(), value)).collect()
    }

    /// Refuses the first option that nobody asked for.
    pub fn finish(self) -> Result<()> {
        let Some(unknown) = self.map.keys().find(|k| !self.known.contains(&k.as_str())) else {
            return Ok(());
        };
        let nearest = self.known.iter().map(|k| (distance(k, unknown), k)).min();
        let hint = match nearest {
            Some((d, name)) if d <= 1 + unknown.len() / 4 => format!("; did you mean {name}?"),
            _ => String::new(),
        };
        Err(self.wrong(unknown, format!("is not an option{hint}")))
    }
}

fn kind(value: &Value) -> &'static str {
    match value {
        Value::Null => "null",
        Value::Bool(_) => "a boolean",
        Value::Number(_) => "a number",
        Value::String(_) => "a string",
        Value::Array(_) => "a list",
        Value::Object(_) => "an object",
    }
}

/// Levenshtein distance without regard to case.
fn distance(a: &str, b: &str) -> usize {
    let (a, b) = (a.to_lowercase(), b.to_lowercase());
    let mut row: Vec<usize> = (0..=b.chars().count()).collect();
    for (i, x) in a.chars().enumerate() {
        let mut diagonal = i;
        row[0] = i + 1;
        for (j, y) in b.chars().enumerate() {
            let substituted = diagonal + usize::from(x != y);
            diagonal = row[j + 1];
            row[j + 1] = substituted.min(diagonal + 1).min(row[j] + 1);
        }
    }
    row[b.chars().count()]
}
