//! Where a replay reads dead letters, as it was given: checked like the configuration, and no I/O either.

use std::path::PathBuf;

use crate::config::object_reader::ObjectReader;
use crate::config::schema::ANY_REPLAY_SOURCE;
use crate::core::error::{Error, Result};

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ReplaySource {
    /// All `*.jsonl` of a directory.
    Dir(PathBuf),
    File(PathBuf),
    /// `condition` is a part of a WHERE clause.
    Table {
        name: String,
        condition: Option<String>,
    },
    /// The caller supplies the dead letters.
    Supplied,
}

impl ReplaySource {
    /// Reads the JSON text from JavaScript. Every error is `CONFIG_INVALID` with the option's path.
    pub fn parse(text: &str) -> Result<ReplaySource> {
        let value: serde_json::Value = serde_json::from_str(text)
            .map_err(|error| Error::config("source", format!("is not valid JSON: {error}")))?;
        let o = ObjectReader::at("source", &value, &ANY_REPLAY_SOURCE)?;
        let (dir, file, table) = (o.text("dir")?, o.text("file")?, o.text("table")?);
        let condition = o.text("where")?;
        for (name, text) in [("dir", &dir), ("file", &file), ("table", &table), ("where", &condition)] {
            if text.as_ref().is_some_and(|text| text.trim().is_empty()) {
                return Err(o.wrong(name, "must not be empty"));
            }
        }
        if condition.is_some() && table.is_none() {
            return Err(o.wrong("where", "needs a table"));
        }
        o.finish()?;
        match (dir, file, table) {
            (Some(dir), None, None) => Ok(ReplaySource::Dir(dir.into())),
            (None, Some(file), None) => Ok(ReplaySource::File(file.into())),
            (None, None, Some(name)) => Ok(ReplaySource::Table { name, condition }),
            _ => Err(Error::config(
                "source",
                "must be one of { dir }, { file } and { table, where? }, or an iterable of dead letters",
            )),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_source_is_one_place() {
        let parse = ReplaySource::parse;
        assert_eq!(parse(r#"{"dir":"a"}"#).unwrap(), ReplaySource::Dir("a".into()));
        assert_eq!(parse(r#"{"file":"a"}"#).unwrap(), ReplaySource::File("a".into()));
        assert_eq!(
            parse(r#"{"table":"a.b","where":"route = 0"}"#).unwrap(),
            ReplaySource::Table { name: "a.b".into(), condition: Some("route = 0".into()) }
        );
        for (text, path) in [
            ("{}", "source"),
            ("[]", "source"),
            (r#"{"dir":"a","file":"b"}"#, "source"),
            (r#"{"dir":"a","where":"1"}"#, "source.where"),
            (r#"{"dir":""}"#, "source.dir"),
            (r#"{"table":1}"#, "source.table"),
            (r#"{"dri":"a"}"#, "source.dri"),
        ] {
            assert_eq!(parse(text).unwrap_err().path(), Some(path), "{text}");
        }
    }
}
