//! The rules by which a route chooses tables, adds columns, gathers and drops rows, as a report says them.

use crate::config::{Deadband, Dedupe, Pivot, Route};

pub fn of(route: &Route) -> Vec<String> {
    let dedupe = route.dedupe.as_ref().map(|Dedupe { by, window, .. }| {
        format!("dedupe: a row is dropped if one with its {} came within {window:?} before it", by.join(", "))
    });
    let deadband = route.deadband.as_ref().map(|Deadband { column, delta, by, every, .. }| {
        let of_key =
            if by.is_empty() { String::new() } else { format!(" of rows with the same {}", by.join(", ")) };
        let every = every.map_or_else(String::new, |every| format!(", or {every:?} have passed"));
        format!("deadband: a row is dropped until {column}{of_key} changes by more than {delta}{every}")
    });
    let growth = route.growth.as_ref().map(|growth| {
        format!(
            "schema: a field that no column takes becomes a column after {} sampled messages, {} columns at most",
            growth.after_messages, growth.max_columns
        )
    });
    let pivot = route.pivot.as_ref().map(|Pivot { key, window, .. }| {
        let key = key.join(", ");
        format!("pivot: messages with the same {key} become one row, when all columns are there or after {window:?}")
    });
    let tables = route.table_choice.as_ref().map(|choice| {
        format!("tables: a message chooses one of {}, {} at most", choice.allowed().join(", "), choice.max)
    });
    tables.into_iter().chain(growth).chain(pivot).chain(dedupe).chain(deadband).collect()
}

#[cfg(test)]
mod tests {
    use crate::config::Config;

    #[test]
    fn rules_are_sentences_with_their_columns() {
        let config = r#"{
            "mqtt": { "url": "mqtt://x" },
            "clickhouse": { "url": "http://x" },
            "routes": [{
                "topic": "t", "table": "t",
                "dedupe": { "by": ["id", "seq"], "windowMs": 1500 },
                "deadband": { "column": "v", "delta": 0.5, "by": "id", "everyMs": 60000 }
            }]
        }"#;
        let rules = super::of(&Config::parse(config).unwrap().routes[0]);
        assert_eq!(
            rules,
            [
                "dedupe: a row is dropped if one with its id, seq came within 1.5s before it",
                "deadband: a row is dropped until v of rows with the same id changes by more than 0.5, or 60s have passed",
            ]
        );
    }
}
