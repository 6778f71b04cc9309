//! One attempt at one INSERT.

use std::time::Duration;

use bytes::Bytes;
use clickhouse::Client;
use clickhouse::insert_formatted::InsertFormatted;

use crate::clickhouse::error_class::{Failure, classify};
use crate::config;

/// What an INSERT carries, fixed before its first attempt and the same in each of them.
pub struct Insert<'a> {
    pub sql: &'a str,
    /// The body: compressed Native blocks, one after the other. More than one come from the spool.
    pub frames: &'a [Bytes],
    /// Bytes of the body before compression.
    pub block_bytes: usize,
    /// Tells ClickHouse that two attempts are the same INSERT.
    pub token: &'a str,
    pub views: ViewMode,
}

/// What the materialized views behind the table do with an INSERT.
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
    /// uses up the token there. That ClickHouse computes the rows before it skips them is tested, not documented.
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
    pub async fn attempt(
        &self,
        client: &Client,
        url: &str,
        config: &config::ClickHouse,
    ) -> Result<(), Failure> {
        self.send(client, config).await.map_err(|error| classify(url, error))
    }

    async fn send(&self, client: &Client, config: &config::ClickHouse) -> clickhouse::error::Result<()> {
        let insert = client.insert_formatted_with(self.sql);
        let mut insert = insert.with_timeouts(Some(config.request_timeout), Some(config.request_timeout));
        for (name, value) in SETTINGS {
            insert = insert.with_setting(name, value);
        }
        insert = insert.with_setting("database", &config.database);
        for (name, value) in &config.settings {
            insert = insert.with_setting(name, value);
        }
        for (name, value) in self.views.settings() {
            insert = insert.with_setting(*name, *value);
        }
        if self.frames.len() > 1 {
            for (name, value) in SQUASHED {
                insert = insert.with_setting(name, value);
            }
        }
        insert = insert.with_setting("insert_deduplication_token", self.token);

        let sent = send_frames(&mut insert, self.frames).await;
        // A server that refuses early closes the request under our hands: only the answer says why.
        let ended = tokio::time::timeout(config.request_timeout + GRACE, insert.end()).await;
        match (sent, ended) {
            (Ok(()), Ok(ended)) => ended,
            (Err(_), Ok(Err(answer @ clickhouse::error::Error::BadResponse(_)))) => Err(answer),
            (Err(error), _) => Err(error),
            (Ok(()), Err(_)) => Err(clickhouse::error::Error::TimedOut),
        }
    }
}

async fn send_frames(insert: &mut InsertFormatted, frames: &[Bytes]) -> clickhouse::error::Result<()> {
    for block in frames {
        insert.send(block.clone()).await?;
    }
    Ok(())
}

/// Blocks that follow one another are one block when ClickHouse looks at the token. Without it a token is only recognised if
/// as many blocks come with it as before, and what is decoded again is a single one. DryRun with ClickHouse 26.7; older
/// servers do not know the first.
const SQUASHED: [(&str, &str); 4] = [
    ("use_strict_insert_block_limits", "1"),
    ("min_insert_block_size_rows", "1048449"),
    ("min_insert_block_size_bytes", "0"),
    ("max_insert_block_size_bytes", "0"),
];

/// The crate's own timeout should come first.
const GRACE: Duration = Duration::from_secs(1);

/// What the body and our promises depend on, whatever the profile of the user says. The user's own `settings` come after these.
const SETTINGS: [(&str, &str); 9] = [
    // The body is in frames.
    ("decompress", "1"),
    // On by default since ClickHouse 26.3; an asynchronous INSERT is confirmed before it is in.
    ("async_insert", "0"),
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
    ("max_insert_block_size", "1048449"),
];
