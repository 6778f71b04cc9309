//! From a message to a sealed batch: the stage that each connection runs on its own thread.
//!
//! [`router`] finds the route of a message, of those in the [`route_set`], and appends its rows to the open [`batch`] of the route
//! ([`route_state`]), for
//! the table as [`table_plan`] knows it. A [`completion`] settles the messages of a batch, or of a [`dead_letter_batch`].
//! [`raw_messages`] keeps the messages of a batch as they came, so that rows can be decoded again ([`encoded_rows`]);
//! rows that a transform changed are [`kept_rows`]; messages that a spool keeps as dead letters are
//! [`rejected_messages`]; a message of several routes is one of `shared_messages`;
//! [`row_filter`] drops rows for those before them, [`gatherer`] makes one row of several messages;
//! [`column_pool`] reuses columns, `column_warnings` reports what decoders find out about them.
//! [`topic_tables`] has the tables that messages choose by their topics;
//! [`row_intake`] takes the rows of a program in place of messages; [`taps`] show it what is inserted,
//! [`unknown_fields`] what no column takes.

pub mod batch;
pub mod column_pool;
mod column_warnings;
pub mod completion;
pub mod dead_letter_batch;
pub mod encoded_rows;
pub mod gatherer;
pub mod kept_rows;
pub mod raw_messages;
pub mod rejected_messages;
pub mod route_set;
pub mod route_state;
pub mod router;
pub mod row_filter;
pub mod row_intake;
pub mod shards;
mod shared_messages;
pub mod table_plan;
pub mod taps;
pub mod topic_tables;
pub mod unknown_fields;
