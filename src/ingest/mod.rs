//! From a message to a sealed batch: the stage that each connection runs on its own thread.
//!
//! [`router`] finds the route of a message and appends its rows to the open [`batch`], for the table as [`table_plan`] knows
//! it. [`raw_messages`] keeps the messages of a batch as they came, so that rows can be decoded again ([`encoded_rows`]);
//! [`column_pool`] reuses columns. [`context`] is what all threads of a pipeline share.

pub mod batch;
pub mod column_pool;
pub mod context;
pub mod encoded_rows;
pub mod raw_messages;
pub mod router;
pub mod table_plan;
