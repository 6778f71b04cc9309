//! Rows on their way into one INSERT.
//!
//! A batch keeps, beside its columns, the messages they came from: should the table change, they are decoded again, and
//! should ClickHouse refuse rows, the dead letters hold the bytes as they arrived. It also carries the acknowledgements
//! it owes and when its messages came.

use std::sync::Arc;
use std::time::Instant;

use crate::clickhouse::Column;
use crate::core::ack_history::Acknowledged;
use crate::core::ack_set::Owed;
use crate::ingest::raw_messages::Messages;
use crate::ingest::table_plan::Plan;
use crate::spool::Ticket;
use crate::telemetry::ledger::Group;
use crate::telemetry::trace::Trace;

#[derive(Debug)]
pub struct Batch {
    pub group: Group,
    pub route: usize,
    /// The connection to which acknowledgements are owed.
    pub connection: usize,
    /// Under which the connection was known when the batch was opened.
    pub client_id: String,
    /// What the columns were made for.
    pub plan: Arc<Plan>,
    pub columns: Vec<Column>,
    pub messages: Messages,
    pub owed: Owed,
    /// Of its messages, where a spool keeps them.
    pub receipts: Acknowledged,
    pub opened_at: Instant,
    /// What of [`Batch::bytes`] the memory ceiling knows of.
    pub counted_bytes: usize,
    /// Of the spool's INSERT whose messages these are.
    pub ticket: Option<Ticket>,
    /// Counts it among the batches of its lane that are open or wait, until a worker takes it.
    pub place: Option<Arc<()>>,
    /// If it is sampled.
    pub trace: Option<Box<Trace>>,
}

impl Batch {
    pub fn rows(&self) -> usize {
        self.columns.first().map_or(0, Column::rows)
    }

    /// Bytes of the columns: what `batch.maxBytes` limits.
    pub fn column_bytes(&self) -> usize {
        self.columns.iter().map(Column::bytes).sum()
    }

    /// All it holds: what the memory ceiling counts.
    pub fn bytes(&self) -> usize {
        self.column_bytes() + self.messages.bytes()
    }
}
