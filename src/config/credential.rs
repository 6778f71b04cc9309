//! Options that hold a user name or a password: a text, `{ file }`, or a function of the program.

use serde_json::{Value, json};

use crate::config::object_reader::ObjectReader;
use crate::config::taken::{Taken, shape};
use crate::core::credential::Credential;
use crate::core::error::Result;

/// `path` is the option from the root. No error shows the value.
pub fn credential(o: &ObjectReader<'_>, name: &str, path: &'static str) -> Result<Option<Credential>> {
    let Some(value) = o.value(name) else { return Ok(None) };
    // JavaScript keeps the function, and says that there is one.
    if *value == json!({ "function": true }) {
        return Ok(Some(Credential::function(path)));
    }
    if !matches!(value, Value::String(_) | Value::Object(_)) {
        let message = format!("must be a string, {{ file }} or a function, not {}", shape(value));
        return Err(o.wrong(name, message));
    }
    match o.take(name)? {
        Some(Taken::Object(_, file)) => {
            let name = file.required_text("file")?;
            file.finish()?;
            Ok(Some(Credential::file(path, name)))
        }
        Some(Taken::Text(text)) => Ok(Some(Credential::text(path, text))),
        _ => Ok(None),
    }
}
