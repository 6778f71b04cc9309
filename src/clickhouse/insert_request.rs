//! One attempt at one INSERT.

use std::pin::pin;

use bytes::Bytes;

use crate::clickhouse::client::{RequestBody, RequestLogin, Server};
use crate::clickhouse::error_class::Failure;
use crate::clickhouse::insert_answer::{InsertAnswer, RequestError};
use crate::config;

/// An INSERT. It is fixed before its first attempt and the same in each of them.
pub struct Insert<'a> {
    pub sql: &'a str,
    /// The body: compressed Native blocks, one after the other. More than one come from the spool.
    pub frames: &'a [Bytes],
    pub rows: u64,
    /// Bytes of the body before compression.
    pub block_bytes: usize,
    /// ClickHouse recognises two attempts at one INSERT by it.
    pub token: &'a str,
    pub views: ViewMode,
}

/// How the materialized views behind the table take part in an INSERT.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ViewMode {
    /// They are filled.
    Normal,
    /// They get nothing, and what they would refuse is of no interest: the rows are in the table afterwards.
    Suppress,
    /// They compute everything and store nothing: the answer says whether they would take the rows.
    DryRun,
}

impl ViewMode {
    /// A view that skips more rows than there are has an empty result, and an empty result neither reaches its table nor
    /// uses up the token there. ClickHouse computes the rows before it skips them: this is tested, not
    /// documented.
    fn settings(self) -> &'static [(&'static str, &'static str)] {
        const SKIP: (&str, &str) = ("offset", "1000000000000");
        match self {
            ViewMode::Normal => &[],
            ViewMode::Suppress => &[SKIP, ("materialized_views_ignore_errors", "1")],
            ViewMode::DryRun => &[SKIP],
        }
    }
}

impl Insert<'_> {
    /// Sends the INSERT once; gives [`InsertAnswer::written_rows`]. It is confirmed by what ClickHouse alone says: see [`InsertAnswer`].
    /// `is_fresh`: over a new connection.
    pub async fn attempt(
        &self,
        server: &Server,
        config: &config::ClickHouse,
        is_fresh: bool,
    ) -> Result<Option<u64>, Failure> {
        let answer =
            self.answer(server, config, is_fresh).await.map_err(|error| error.failure(&server.url))?;
        answer.confirms(&server.url, self.rows).map(|()| answer.written_rows())
    }

    /// A password that is refused and has changed meanwhile makes no failure: it is sent again with the new one.
    async fn answer(
        &self,
        server: &Server,
        config: &config::ClickHouse,
        is_fresh: bool,
    ) -> Result<InsertAnswer, RequestError> {
        let login = server.http.login().await.map_err(RequestError::Credentials)?;
        let answer = self.send(server, &login, config, is_fresh).await?;
        if !answer.refuses_login() {
            return Ok(answer);
        }
        match server.http.login_after(&login).await.map_err(RequestError::Credentials)? {
            Some(login) => self.send(server, &login, config, is_fresh).await,
            None => Ok(answer),
        }
    }

    async fn send(
        &self,
        server: &Server,
        login: &RequestLogin,
        config: &config::ClickHouse,
        is_fresh: bool,
    ) -> Result<InsertAnswer, RequestError> {
        let (body, taken) = RequestBody::new(self.frames);
        let query = self.query(config);
        let mut response = pin!(async {
            let response = server.http.post(&query, login, body, is_fresh).await?;
            InsertAnswer::read(response).await
        });
        // One time limit for the network to take the body, another one for ClickHouse to insert it.
        let upload = async {
            tokio::select! {
                biased;
                answer = &mut response => Some(answer),
                _ = taken => None,
            }
        };
        match tokio::time::timeout(config.request_timeout, upload).await {
            Err(_) => Err(RequestError::TimedOut),
            Ok(Some(answer)) => answer,
            Ok(None) => tokio::time::timeout(config.request_timeout, response)
                .await
                .unwrap_or(Err(RequestError::TimedOut)),
        }
    }

    /// Statement and settings. The last value of a setting counts, so the user's own come after ours.
    fn query(&self, config: &config::ClickHouse) -> String {
        let mut settings: Vec<(&str, &str)> = vec![("query", self.sql)];
        settings.extend(SETTINGS);
        settings.push(("database", &config.database));
        settings.extend(config.settings.iter().map(|(name, value)| (name.as_str(), value.as_str())));
        settings.extend(self.views.settings());
        if self.frames.len() > 1 {
            settings.extend(SQUASHED);
        }
        settings.push(("insert_deduplication_token", self.token));
        let mut query = url::form_urlencoded::Serializer::new(String::new());
        for (at, (name, value)) in settings.iter().enumerate() {
            if !settings[at + 1..].iter().any(|(later, _)| later == name) {
                query.append_pair(name, value);
            }
        }
        query.finish()
    }
}

/// [`config::MAX_BLOCK_ROWS`], as a setting.
const MAX_BLOCK_ROWS: &str = "1048449";

/// Blocks that follow one another are one block when ClickHouse looks at the token. Without it a token is only recognised if
/// as many blocks come with it as before, and what is decoded again is a single one. Tried with ClickHouse 26.7; older
/// servers do not know the first.
const SQUASHED: [(&str, &str); 4] = [
    ("use_strict_insert_block_limits", "1"),
    ("min_insert_block_size_rows", MAX_BLOCK_ROWS),
    ("min_insert_block_size_bytes", "0"),
    ("max_insert_block_size_bytes", "0"),
];

/// Settings that the body and the guarantees depend on, whatever the profile of the user says. The
/// user's own `settings` come after these.
const SETTINGS: [(&str, &str); 10] = [
    // The body is in frames.
    ("decompress", "1"),
    // On by default since ClickHouse 26.3; an asynchronous INSERT is confirmed before it is in.
    ("async_insert", "0"),
    // With `break` an INSERT over `max_execution_time` is answered like one that is in, and its rows are dropped.
    ("timeout_overflow_mode", "throw"),
    ("insert_deduplicate", "1"),
    // A retry whose first attempt failed in a materialized view must reach the view.
    ("deduplicate_blocks_in_dependent_materialized_views", "1"),
    // NULL in a column with a DEFAULT means "compute it for this row": the one is for blocks, the other where
    // `tables` fills through a SELECT.
    ("input_format_null_as_default", "1"),
    ("insert_null_as_default", "1"),
    // A column whose type has changed is an error, and its rows are decoded again: ClickHouse would wrap numbers around.
    // A String block into a LowCardinality(String) column needs no conversion in this sense.
    ("input_format_native_allow_types_conversion", "0"),
    // A Distributed table confirms what is on its shards, not what it means to send there. This is the name that
    // older servers know too.
    ("insert_distributed_sync", "1"),
    // A block is one INSERT and one part: nothing may cut it.
    ("max_insert_block_size", MAX_BLOCK_ROWS),
];

#[cfg(test)]
mod tests {
    #[test]
    fn the_setting_is_the_limit_of_a_block() {
        assert_eq!(super::MAX_BLOCK_ROWS, crate::config::MAX_BLOCK_ROWS.to_string());
    }
}
