//! When a table deletes its rows, out of the text that `system.tables` has of its engine.
//!
//! Source: <https://clickhouse.com/docs/engines/table-engines/mergetree-family/mergetree#table_engine-mergetree-ttl>.

use crate::clickhouse::create_table::tokens::{Token, TokenKind, tokens};

/// Rows for which the condition holds are deleted when the time has passed.
#[derive(Debug, PartialEq, Eq)]
pub struct RowTtl {
    /// An expression that gives a time.
    pub time: String,
    pub condition: Option<String>,
}

impl RowTtl {
    /// An expression that is true for rows that are past it.
    pub fn is_past(&self) -> String {
        let condition = self.condition.as_ref().map(|condition| format!(" AND ({condition})"));
        format!("({}) <= now(){}", self.time, condition.unwrap_or_default())
    }
}

/// Words that end an expression of a TTL.
const ACTIONS: [&str; 6] = ["DELETE", "TO", "RECOMPRESS", "GROUP", "WHERE", "SET"];

/// The TTLs that delete rows, of an engine such as `MergeTree ORDER BY a TTL at + toIntervalDay(1) SETTINGS …`. TTLs that move,
/// recompress or aggregate rows are left out.
pub fn row_ttls(engine: &str) -> Vec<RowTtl> {
    let Ok(all) = tokens(engine) else { return Vec::new() };
    let outer = outermost(&all);
    let Some(begin) = outer.iter().position(|token| token.is_word("TTL")) else { return Vec::new() };
    let rules = &outer[begin + 1..];
    let end =
        rules.iter().position(|token| token.is_word("SETTINGS") || token.is_end()).unwrap_or(rules.len());
    let rules = rules[..end].split(|token| token.is(','));
    rules.filter_map(|rule| row_ttl(engine, rule)).collect()
}

fn row_ttl(engine: &str, rule: &[&Token]) -> Option<RowTtl> {
    let is_action = |token: &&Token| ACTIONS.iter().any(|action| token.is_word(action));
    let at = rule.iter().position(is_action).unwrap_or(rule.len());
    let (time, action) = rule.split_at(at);
    let keeps = ["TO", "RECOMPRESS", "GROUP", "SET"];
    if action.iter().any(|token| keeps.iter().any(|word| token.is_word(word))) {
        return None;
    }
    let after = action.iter().position(|token| token.is_word("WHERE"));
    let condition = after.and_then(|at| text(engine, &action[at + 1..]));
    Some(RowTtl { time: text(engine, time)?, condition })
}

/// The text of tokens, from the first to what follows the last: parentheses between them are not among them.
fn text(engine: &str, part: &[&Token]) -> Option<String> {
    let (first, last) = (part.first()?, part.last()?);
    Some(engine.get(first.start..last.end)?.into())
}

/// The tokens that are in no parentheses, and the parentheses that close.
fn outermost(all: &[Token]) -> Vec<&Token> {
    let mut depth = 0usize;
    let mut outer = Vec::new();
    for token in all {
        if token.is(')') {
            depth = depth.saturating_sub(1);
        }
        if depth == 0 {
            outer.push(token);
        }
        if token.kind == TokenKind::Sign('(') {
            depth += 1;
        }
    }
    outer
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_rules_that_delete_rows_are_found() {
        let found = |engine: &str| -> Vec<String> { row_ttls(engine).iter().map(RowTtl::is_past).collect() };
        let none: [&str; 0] = [];
        assert_eq!(found("MergeTree ORDER BY (a, ttl) SETTINGS index_granularity = 8192"), none);
        assert_eq!(found("Null"), none);
        assert_eq!(
            found(
                "MergeTree PARTITION BY toDate(at) ORDER BY a TTL toDateTime(at) + toIntervalDay(30) SETTINGS x = 1"
            ),
            ["(toDateTime(at) + toIntervalDay(30)) <= now()"]
        );
        let several = "MergeTree ORDER BY a TTL at + toIntervalDay(1) TO VOLUME 'cold', at + toIntervalDay(3) DELETE WHERE \
                       kind IN ('a', 'b'), at + toIntervalDay(2) RECOMPRESS CODEC(ZSTD(3)), at + (1 + 2) DELETE";
        assert_eq!(
            found(several),
            ["(at + toIntervalDay(3)) <= now() AND (kind IN ('a', 'b'))", "(at + (1 + 2)) <= now()"]
        );
    }
}
