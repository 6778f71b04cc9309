//! One attempt at one INSERT.

use std::sync::Arc;
use std::time::Duration;

use clickhouse::Client;
use clickhouse::insert_formatted::InsertFormatted;

use crate::clickhouse::Packed;
use crate::clickhouse::error_class::{Failure, classify};
use crate::config;
use crate::spool::Record;

/// What an INSERT carries, fixed before its first attempt and the same in each of them.
pub struct Insert<'a> {
    pub sql: &'a str,
    pub body: Body<'a>,
    /// Tells ClickHouse that two attempts are the same INSERT.
    pub token: &'a str,
    pub views: Views,
}

#[derive(Clone, Copy)]
pub enum Body<'a> {
    /// One Native block.
    Block(&'a Packed),
    /// Native blocks as they lie in the spool.
    Stored(&'a [Arc<Record>]),
}

impl Body<'_> {
    /// Before compression.
    pub fn bytes(&self) -> usize {
        match self {
            Body::Block(block) => block.block_bytes,
            Body::Stored(records) => records.iter().map(|record| record.block_bytes as usize).sum(),
        }
    }
}

/// What the materialized views behind the table do with an INSERT.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Views {
    /// They are filled.
    Filled,
    /// They get nothing, and what they would refuse is of no interest: the rows are in the table afterwards.
    Empty,
    /// They compute everything and store nothing: the answer says whether they would take the rows.
    Tried,
}

impl Views {
    /// A view that skips more rows than there are has an empty result, and an empty result neither reaches its table nor
    /// uses up the token there. That ClickHouse computes the rows before it skips them is tested, not documented.
    fn settings(self) -> &'static [(&'static str, &'static str)] {
        const SKIP: (&str, &str) = ("offset", "1000000000000");
        match self {
            Views::Filled => &[],
            Views::Empty => &[SKIP, ("materialized_views_ignore_errors", "1")],
            Views::Tried => &[SKIP],
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
        if let Body::Stored([_, _, ..]) = self.body {
            for (name, value) in SQUASHED {
                insert = insert.with_setting(name, value);
            }
        }
        insert = insert.with_setting("insert_deduplication_token", self.token);

        let sent = match self.body {
            Body::Block(block) => insert.send(block.frames.clone()).await,
            Body::Stored(records) => send_stored(&mut insert, records).await,
        };
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

async fn send_stored(insert: &mut InsertFormatted, records: &[Arc<Record>]) -> clickhouse::error::Result<()> {
    for record in records {
        insert.send(record.block.clone()).await?;
    }
    Ok(())
}

/// Blocks that follow one another are one block when ClickHouse looks at the token. Without it a token is only recognised if
/// as many blocks come with it as before, and what is decoded again is a single one. Tried with ClickHouse 26.7; older
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
