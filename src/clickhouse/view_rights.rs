//! The rights that materialized views behind a table ask of the user who inserts.
//!
//! A view that was created with `SQL SECURITY DEFINER` or `NONE` reads its source as another user, or as nobody. Any other
//! reads it as the user who inserts, who needs SELECT on the columns that the view uses: see
//! <https://clickhouse.com/docs/sql-reference/statements/create/view#sql_security>. An INSERT of no rows does not run a
//! view, so that only the first row shows what is missing.

use std::collections::BTreeSet;

use serde::Deserialize;

use crate::clickhouse::error_class::ACCESS_DENIED;
use crate::clickhouse::quote;
use crate::clickhouse::schema::SchemaClient;
use crate::core::error::{Error, Result};

/// A view behind a table that may fail its INSERTs.
#[derive(Debug)]
pub struct ViewRight {
    /// `database.name` of the view.
    pub view: String,
    /// The statement that gives what it needs.
    pub statement: String,
    /// Whether it is known that this is missing. Otherwise the user may not see the view, which may need nothing.
    pub is_missing: bool,
}

impl ViewRight {
    pub fn explain(&self, table: &str) -> String {
        let ViewRight { view, statement, is_missing } = self;
        match is_missing {
            true => format!(
                "the view {view} behind {table} reads as the user who inserts, and lacks a right, so that every INSERT would \
                 fail; run: {statement}"
            ),
            false => format!(
                "the view {view} behind {table} cannot be seen: unless it was created with SQL SECURITY DEFINER, INSERTs \
                 fail; run: {statement}"
            ),
        }
    }
}

#[derive(Deserialize)]
struct Dependencies {
    dependencies_database: Vec<String>,
    dependencies_table: Vec<String>,
}

#[derive(Deserialize)]
struct View {
    as_select: String,
    create_table_query: String,
    #[serde(default)]
    target_database: String,
    #[serde(default)]
    target_table: String,
}

#[derive(Deserialize)]
struct Answer {
    result: u8,
}

impl SchemaClient {
    /// The views that an INSERT into `table` by `user` runs, and that need a right which the user has not, or may not have.
    pub async fn view_rights(&self, table: &str, user: &str) -> Result<Vec<ViewRight>> {
        let (database, name) = self.split(table);
        let (mut found, mut seen) = (Vec::new(), BTreeSet::new());
        let mut next = vec![(database.to_owned(), name.to_owned())];
        while let Some((database, name)) = next.pop() {
            // Views may lead back to where they came from.
            if !seen.insert((database.clone(), name.clone())) {
                continue;
            }
            let sql = "SELECT dependencies_database, dependencies_table FROM system.tables \
                       WHERE database = ? AND name = ?";
            let rows: Vec<Dependencies> = self.rows(sql, &[&database, &name]).await?;
            let Some(row) = rows.into_iter().next() else { continue };
            let source = format!("{}.{}", quote(&database), quote(&name));
            for (database, name) in row.dependencies_database.iter().zip(&row.dependencies_table) {
                let sql = "SELECT as_select, create_table_query, COLUMNS('^target_(database|table)$') \
                           FROM system.tables WHERE database = ? AND name = ?";
                let views: Vec<View> = self.rows(sql, &[database, name]).await?;
                let missing = match views.into_iter().next() {
                    Some(view) => {
                        let missing =
                            self.missing_right(&view, user).await.map(|statement| (statement, true));
                        if !view.target_table.is_empty() {
                            next.push((view.target_database, view.target_table));
                        }
                        missing
                    }
                    None if self.may_read(&source).await => None,
                    None => Some((format!("GRANT SELECT ON {source} TO {}", quote(user)), false)),
                };
                if let Some((statement, is_missing)) = missing {
                    found.push(ViewRight { view: format!("{database}.{name}"), statement, is_missing });
                }
            }
        }
        Ok(found)
    }

    /// The statement without which a view fails; `None`: it does not.
    async fn missing_right(&self, view: &View, user: &str) -> Option<String> {
        let head = view.create_table_query.split(" AS SELECT").next().unwrap_or_default();
        let is_of_another = ["SQL SECURITY DEFINER", "SQL SECURITY NONE"].iter().any(|it| head.contains(it));
        if is_of_another || view.as_select.is_empty() {
            return None;
        }
        // It asks for the same rights as the view, and reads nothing.
        let error = self.execute(&format!("SELECT * FROM ({}) LIMIT 0", view.as_select)).await.err()?;
        grant_statement(&error, user)
    }

    /// Whether the user may read all columns of a table. Older servers do not know the question: they are believed to say yes.
    async fn may_read(&self, table: &str) -> bool {
        let answers: Result<Vec<Answer>> = self.rows(&format!("CHECK GRANT SELECT ON {table}"), &[]).await;
        answers.map_or(true, |answers| answers.first().is_none_or(|answer| answer.result == 1))
    }
}

/// The statement that gives the right which ClickHouse names in a refusal.
pub fn grant_statement(error: &Error, user: &str) -> Option<String> {
    let Error::ClickHouseRejected { exception: Some(ACCESS_DENIED), message, .. } = error else {
        return None;
    };
    let (_, rest) = message.split_once("necessary to have the grant ")?;
    let end =
        [". (", ": while", ". ", "\n"].iter().filter_map(|end| rest.find(end)).min().unwrap_or(rest.len());
    Some(format!("GRANT {} TO {}", rest[..end].trim(), quote(user)))
}

/// The same error; where a right is missing it ends with the statement that gives it.
pub fn with_grant(error: Error, user: &str) -> Error {
    let Some(statement) = grant_statement(&error, user) else { return error };
    match error {
        Error::ClickHouseRejected { exception, name, message, status } => {
            let message = format!("{message}; run: {statement}");
            Error::ClickHouseRejected { exception, name, message, status }
        }
        error => error,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_refusal_names_the_statement_to_run() {
        let denied = |message: &str| Error::ClickHouseRejected {
            status: 403,
            exception: Some(ACCESS_DENIED),
            name: None,
            message: message.into(),
        };
        let view = denied(
            "Code: 497. DB::Exception: fleet: Not enough privileges. To execute this query, it's necessary to have the \
             grant SELECT(a, b) ON fleet.positions: while pushing to view fleet.v. (ACCESS_DENIED) (version 26.7)",
        );
        let engine = denied(
            "Code: 497. DB::Exception: a: Not enough privileges. To execute this query, it's necessary to have the grant \
             TABLE ENGINE ON MergeTree. (ACCESS_DENIED) (version 26.7)",
        );
        let statement = |error| grant_statement(error, "fleet");
        assert_eq!(statement(&view).as_deref(), Some("GRANT SELECT(a, b) ON fleet.positions TO `fleet`"));
        assert_eq!(statement(&engine).as_deref(), Some("GRANT TABLE ENGINE ON MergeTree TO `fleet`"));
        assert_eq!(statement(&denied("Code: 497")), None);
        assert!(
            with_grant(engine, "a").to_string().ends_with("; run: GRANT TABLE ENGINE ON MergeTree TO `a`")
        );
    }
}
