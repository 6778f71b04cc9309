//! The codes of warnings. `docs/metrics.md` says what each means.

/// All of them, for the family `millrace_warnings_total`, sorted.
pub const WARNING_CODES: [&str; 41] = [
    "BATCH_SPLIT",
    "CLICKHOUSE_RECOVERED",
    "CLICKHOUSE_REFUSED",
    "CLICKHOUSE_RETRYING",
    "CLICKHOUSE_SILENT",
    "COLUMN_ADDED",
    "DEAD_LETTERS_REFUSED",
    "DEAD_LETTERS_RETRYING",
    "DEAD_LETTERS_UNSTORED",
    "DEDUPLICATION_OFF",
    "EVENTS_DROPPED",
    "FILTERS_OVERLAP",
    "INSERT_UNCONFIRMED",
    "INSERT_UNVERIFIED",
    "LETTER_MALFORMED",
    "MQTT_FALLBACK",
    "MQTT_RECONNECTING",
    "PATH_THROUGH_SCALAR",
    "QOS_LOWERED",
    "REPLAY_INTERRUPTED",
    "RETAINED_SKIPPED",
    "RETRY_EXPIRED",
    "ROWS_RESTORED",
    "SESSION_SHORTENED",
    "SESSION_TAKEN_OVER",
    "SHARED_GROUP_SILENT",
    "SPOOL_CORRUPT",
    "SPOOL_FOREIGN_FILES",
    "SPOOL_FULL",
    "SPOOL_IO",
    "SPOOL_RECOVERED",
    "SPOOL_TORN",
    "STOP_TIMEOUT",
    "TABLE_CHANGED",
    "TIME_PRECISION_CUT",
    "TLS_INSECURE",
    "TRANSFORM_FAILED",
    "TRANSFORM_SLOW",
    "TRANSFORM_WORKER_ENDED",
    "VIEW_RIGHTS_UNKNOWN",
    "WINDOW_NARROW",
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_codes_are_sorted_and_each_is_documented() {
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
