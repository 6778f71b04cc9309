//! The stable codes of errors and warnings, for the types of index.d.ts. [`Code::ALL`] has the codes of dead letters.

use serde::Serialize;

use crate::core::reason::Code;

/// By the name of their type in index.d.ts.
#[derive(Debug, Serialize)]
#[serde(rename_all = "PascalCase")]
pub struct Codes {
    pub error_code: &'static [&'static str],
    pub dead_letter_code: Vec<&'static str>,
    pub warning_code: &'static [&'static str],
}

pub fn all() -> Codes {
    Codes {
        error_code: &ERRORS,
        dead_letter_code: Code::ALL.iter().map(|code| code.as_str()).collect(),
        warning_code: &WARNING_CODES,
    }
}

/// Codes of a `MillraceError`. One about rows of a program has the code of a dead letter.
static ERRORS: [&str; 30] = [
    "ABORTED",
    "BINDING_NOT_FOUND",
    "BINDING_REFUSED",
    "CLICKHOUSE_REJECTED",
    "CLICKHOUSE_UNREACHABLE",
    "COLUMN_NOT_FOUND",
    "COLUMN_UNSUPPORTED",
    "CONFIG_INVALID",
    "CREDENTIALS_FAILED",
    "INTERNAL",
    "INVALID_STATE",
    "LOOKUP_TOO_LARGE",
    "MQTT_REFUSED",
    "MQTT_UNREACHABLE",
    "ROUTE_EXISTS",
    "ROUTE_NOT_FOUND",
    "ROWS_UNCONFIRMED",
    "SCHEMA_INVALID",
    "SHARDS_CHANGED",
    "SHARDS_DIFFER",
    "SOURCE_UNREADABLE",
    "SPOOL_CORRUPT",
    "SPOOL_IO",
    "SPOOL_LOCKED",
    "STOP_TIMEOUT",
    "SUBSCRIPTION_REFUSED",
    "TABLE_DISCARDS",
    "TABLE_NOT_DECLARED",
    "TABLE_NOT_FOUND",
    "TRANSFORM_INVALID",
];

/// Codes of warnings, sorted; `docs/metrics.md` explains each.
pub const WARNING_CODES: [&str; 58] = [
    "BATCH_SPLIT",
    "CLICKHOUSE_RECOVERED",
    "CLICKHOUSE_REFUSED",
    "CLICKHOUSE_RETRYING",
    "CLICKHOUSE_SILENT",
    "COLUMN_ADDED",
    "CREDENTIALS_FAILED",
    "DEAD_LETTERS_REFUSED",
    "DEAD_LETTERS_RETRYING",
    "DEAD_LETTERS_UNSTORED",
    "DEDUPLICATION_OFF",
    "EVENTS_DROPPED",
    "FILTERS_OVERLAP",
    "INSERT_UNCONFIRMED",
    "INSERT_UNVERIFIED",
    "LETTER_MALFORMED",
    "LOOKUP_FIELD_UNKNOWN",
    "LOOKUP_UNSET",
    "MQTT_FALLBACK",
    "MQTT_RECONNECTING",
    "MQTT_REFUSED",
    "PATH_NEVER_FOUND",
    "PATH_THROUGH_SCALAR",
    "QOS_LOWERED",
    "REPLAY_INTERRUPTED",
    "RETAINED_SKIPPED",
    "RETRY_EXPIRED",
    "ROWS_RESTORED",
    "SCHEMA_EXTENDED",
    "SCHEMA_FULL",
    "SCHEMA_REFUSED",
    "SCHEMA_REMEMBERED",
    "SESSION_SHORTENED",
    "SESSION_TAKEN_OVER",
    "SHARD_UNREACHABLE",
    "SHARED_GROUP_SILENT",
    "SPARKPLUG_REBIRTH",
    "SPOOL_CORRUPT",
    "SPOOL_FOREIGN_FILES",
    "SPOOL_FULL",
    "SPOOL_IO",
    "SPOOL_RECOVERED",
    "SPOOL_TORN",
    "START_WAITING",
    "STOP_TIMEOUT",
    "SUBSCRIBE_SPLIT",
    "SUBSCRIPTION_LEFT_OVER",
    "TABLE_CHANGED",
    "TABLE_DISCARDS",
    "TIME_PRECISION_CUT",
    "TLS_INSECURE",
    "TOPIC_NAME_UNUSED",
    "TOPIC_REWRITTEN",
    "TRANSFORM_FAILED",
    "TRANSFORM_SLOW",
    "TRANSFORM_WORKER_ENDED",
    "VIEW_RIGHTS_UNKNOWN",
    "WINDOW_NARROW",
];

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;
    use std::path::Path;

    /// The texts of all source files below a folder.
    fn sources(folder: &Path, texts: &mut Vec<String>) {
        for entry in std::fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            let is_table = path.ends_with("core/codes.rs");
            match path.is_dir() {
                true => sources(&path, texts),
                false if !is_table => texts.extend(std::fs::read_to_string(&path)),
                false => {}
            }
        }
    }

    /// The words in capitals between quotation marks that follow `before`, perhaps on the next line.
    fn codes_after<'t>(text: &'t str, before: &str) -> Vec<&'t str> {
        let code = |rest: &'t str| {
            let rest = rest.trim_start().strip_prefix(['"', '\''])?;
            rest.split(['"', '\''])
                .next()
                .filter(|word| word.chars().all(|c| c.is_ascii_uppercase() || c == '_'))
        };
        text.split(before).skip(1).filter_map(code).collect()
    }

    #[test]
    fn every_code_is_in_the_table_and_every_code_of_the_table_is_used() {
        let root = Path::new(env!("CARGO_MANIFEST_DIR"));
        let mut texts = Vec::new();
        sources(&root.join("src"), &mut texts);
        sources(&root.join("lib"), &mut texts);
        texts.push(std::fs::read_to_string(root.join("binding.js")).unwrap());
        let warned = texts.iter().flat_map(|text| codes_after(text, "Warning::new("));
        let unknown: BTreeSet<_> = warned.filter(|code| !WARNING_CODES.contains(code)).collect();
        assert!(unknown.is_empty(), "warnings that src/core/codes.rs does not have: {unknown:?}");
        let error_source = texts.iter().find(|text| text.contains("pub enum Error {")).unwrap();
        let thrown = codes_after(error_source, "=> ");
        let unknown: BTreeSet<_> = thrown.into_iter().filter(|code| !ERRORS.contains(code)).collect();
        assert!(unknown.is_empty(), "errors that src/core/codes.rs does not have: {unknown:?}");
        let is_used = |code: &&&str| texts.iter().any(|text| text.contains(**code));
        let unused: Vec<_> = ERRORS.iter().chain(&WARNING_CODES).filter(|code| !is_used(code)).collect();
        assert!(unused.is_empty(), "codes that nothing uses: {unused:?}");
    }

    #[test]
    fn the_codes_of_warnings_are_sorted_and_each_is_documented() {
        assert!(WARNING_CODES.is_sorted());
        let text = include_str!("../../docs/metrics.md");
        let (_, section) = text.split_once("\n## Warnings\n").expect("a section \"Warnings\"");
        let section = section.split_once("\n## ").map_or(section, |(section, _)| section);
        let rows = section.lines().filter_map(|line| line.strip_prefix("| `")?.split_once('`'));
        let mut documented: Vec<&str> = rows.map(|(code, _)| code).collect();
        // It is an error that a program without `stop()` gets as a warning.
        documented.push("STOP_TIMEOUT");
        documented.sort_unstable();
        assert_eq!(documented, WARNING_CODES);
    }
}
