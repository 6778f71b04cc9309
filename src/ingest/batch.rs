//! Rows on their way into one INSERT.
//!
//! A batch keeps, beside its columns, the messages they came from: should the table change, they are decoded again, and
//! should ClickHouse refuse rows, the dead letters hold the bytes as they arrived. Its [`Completion`] settles it.

use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Instant;

use crossbeam_channel::Sender;

use crate::clickhouse::Column;
use crate::core::ack_history::AckHistory;
use crate::core::reason::Reason;
use crate::core::shard::Shard;
use crate::ingest::column_pool::capacity;
use crate::ingest::completion::Completion;
use crate::ingest::kept_rows::{KeptRows, MessageRows};
use crate::ingest::raw_messages::RawMessages;
use crate::ingest::rejected_messages::RejectedMessages;
use crate::ingest::table_plan::TablePlan;
use crate::mqtt::AckSender;
use crate::telemetry::trace::Trace;

#[derive(Debug)]
pub struct Batch {
    pub completion: Completion,
    pub route: usize,
    /// The number of the connection that its messages came from.
    pub connection: usize,
    /// The client id of the connection when the batch was opened.
    pub client_id: String,
    /// The shard that its rows go to. `None`: they were not divided by shard, or there are no shards.
    pub shard: Option<Shard>,
    /// The plan that the columns were made for.
    pub plan: Arc<TablePlan>,
    pub columns: Vec<Column>,
    /// Bytes that the columns took before the first row: they come from a pool.
    pub reused_bytes: usize,
    pub messages: RawMessages,
    /// Packet ids and checksums of its messages, where a spool keeps them.
    pub receipts: AckHistory,
    pub opened_at: Instant,
    /// Held until a worker takes the batch.
    pub queue_permit: Option<QueuePermit>,
    /// Set if the batch is sampled.
    pub trace: Option<Box<Trace>>,
    /// The rows of each message, where a transform changes them: they are not decoded again.
    pub message_rows: Option<MessageRows>,
    /// Further messages, which become dead letters. Only where there is a spool, and where other routes or a transform made rows
    /// of them too.
    pub rejected: Option<Box<RejectedMessages>>,
    /// Columns that no block has, without rows, and their place among those of the pool.
    pub inputs: Option<(usize, Vec<Column>)>,
    /// Batches that are in the spool together with this one or not at all: rows that a transform emitted.
    pub companions: Vec<Box<Batch>>,
    /// Calls of a program, one for each message, which fail if ClickHouse refuses their rows.
    pub calls: Option<Box<RowCalls>>,
    /// Such rows, once a block was made of the columns.
    pub kept: Option<Box<KeptRows>>,
}

impl Batch {
    pub fn rows(&self) -> usize {
        self.columns.first().map_or(0, Column::rows)
    }

    /// Bytes of the columns: what `batch.maxBytes` limits.
    pub fn column_bytes(&self) -> usize {
        self.columns.iter().map(Column::bytes).sum()
    }

    /// Bytes of columns and messages.
    pub fn bytes(&self) -> usize {
        let rows = self.message_rows.as_ref().map_or(0, MessageRows::bytes);
        self.column_bytes() + self.messages.bytes() + rows + self.kept_bytes() + self.rejected_bytes()
    }

    /// Bytes of the messages that become dead letters.
    pub fn rejected_bytes(&self) -> usize {
        self.rejected.as_ref().map_or(0, |rejected| rejected.messages.bytes())
    }

    /// Bytes of rows that are kept beside their block.
    pub fn kept_bytes(&self) -> usize {
        self.kept.as_ref().map_or(0, |kept| kept.bytes())
    }

    /// The most memory that it will take until it is sent: columns and messages as they are now, and beside them the block that
    /// is made of the columns. With a spool also a copy of the messages.
    pub fn memory_bytes(&self, is_spooled: bool) -> usize {
        let block = self.column_bytes();
        let rows = self.message_rows.as_ref().map_or(0, MessageRows::bytes) + self.kept_bytes();
        // Rows that a transform changed are a part of the copy.
        let changed = if self.message_rows.is_some() { block } else { 0 };
        let copies = if is_spooled { self.messages.bytes() + changed + self.rejected_bytes() } else { 0 };
        let columns = block.max(self.reused_bytes) + rows;
        let rejected = self.rejected.as_ref().map_or(0, |rejected| rejected.memory_bytes());
        columns + self.messages.memory_bytes() + rejected + block + copies + size_of::<Batch>()
    }

    /// Records what the batch holds in its trace, if it is sampled.
    pub fn describe_trace(&mut self, rows: usize) {
        let Batch { trace: Some(trace), messages, .. } = self else { return };
        let first = messages.receive_times().first().map(|(at, _)| *at);
        trace.describe(first, messages.len(), rows, messages.iter().map(|message| message.properties));
    }

    /// Whether there is something to store of it.
    pub fn is_empty(&self) -> bool {
        self.rows() == 0 && self.rejected.is_none()
    }

    /// Makes one of batches that are in the spool together or not at all. Batches with nothing to store are settled:
    /// their messages were dropped, or hold an empty list. Messages are recognised by what is in the spool of them, so their
    /// receipts go to one that stays.
    pub fn together(batches: Vec<Box<Batch>>) -> Option<Box<Batch>> {
        let (empty, mut rest): (Vec<_>, Vec<_>) = batches.into_iter().partition(|batch| batch.is_empty());
        for batch in empty {
            if let Some(first) = rest.first_mut() {
                first.receipts.append(&batch.receipts);
            }
            batch.complete();
        }
        if rest.is_empty() {
            return None;
        }
        let mut first = rest.remove(0);
        first.companions = rest;
        Some(first)
    }

    /// Undoes [`Batch::together`].
    pub fn apart(mut self: Box<Batch>) -> Vec<Box<Batch>> {
        let companions = std::mem::take(&mut self.companions);
        std::iter::once(self).chain(companions).collect()
    }

    /// Whether [`Batch::join`] is possible.
    pub fn can_join(&self, later: &Batch) -> bool {
        self.plan.generation == later.plan.generation
            && self.client_id == later.client_id
            && self.completion.is_before(&later.completion)
    }

    /// Takes the rows of a later batch of the same route and connection: they are settled together.
    pub fn join(&mut self, mut later: Batch) {
        let columns = std::mem::take(&mut later.columns);
        self.columns.iter_mut().zip(&columns).for_each(|(column, more)| column.append(more));
        later.release_columns(columns);
        self.messages.append(later.messages);
        self.receipts.append(&later.receipts);
        if let (Some(rows), Some(more)) = (&mut self.message_rows, &later.message_rows) {
            rows.append(more);
        }
        match (&mut self.trace, later.trace) {
            (Some(trace), Some(more)) => trace.join(*more),
            (trace, more) => *trace = trace.take().or(more),
        }
        self.reused_bytes = capacity(&self.columns);
        self.completion.join(later.completion);
        self.reserve(false);
    }

    /// Takes the columns out that no block has, if a transform has not done so.
    pub fn without_inputs(&mut self) {
        if self.inputs.is_none() {
            self.take_inputs(self.plan.inputs.clone());
        }
    }

    /// Takes the columns out that no block has.
    pub fn take_inputs(&mut self, places: Range<usize>) {
        let at = places.start;
        let mut inputs: Vec<Column> = self.columns.drain(places).collect();
        inputs.iter_mut().for_each(Column::clear);
        if !inputs.is_empty() {
            self.inputs = Some((at, inputs));
        }
    }

    /// Settles a batch without rows: messages that hold an empty list count as inserted.
    pub fn complete(mut self) {
        let columns = std::mem::take(&mut self.columns);
        self.release_columns(columns);
        self.completion.inserted(self.messages.len() as u64);
    }

    /// Gives its columns to later batches of its plan.
    pub fn release_columns(&mut self, mut columns: Vec<Column>) {
        if let Some((at, inputs)) = self.inputs.take() {
            columns.splice(at..at, inputs);
        }
        self.plan.column_pool.release(columns);
    }

    /// Counts what the batch holds now towards the memory budget.
    pub fn reserve(&mut self, is_spooled: bool) {
        self.completion.reserve(self.memory_bytes(is_spooled));
    }
}

/// Calls of [`row_intake`](crate::ingest::row_intake).
#[derive(Debug)]
pub struct RowCalls {
    pub sender: AckSender,
    pub sequences: Vec<u64>,
}

impl RowCalls {
    /// ClickHouse refused the rows of the call at this place.
    pub fn refuse(&self, place: usize, reason: &Reason) {
        if let Some(sequence) = self.sequences.get(place) {
            self.sender.refuse(*sequence, reason.clone());
        }
    }
}

/// Where sealed batches go, by the place of their route: to the sinks, or to the transform of the route first.
#[derive(Clone)]
pub enum RouteSenders {
    /// All to the same place.
    One(Sender<Box<Batch>>),
    ByRoute(Arc<[Sender<Box<Batch>>]>),
}

impl RouteSenders {
    pub fn of(&self, route: usize) -> &Sender<Box<Batch>> {
        match self {
            RouteSenders::One(sender) => sender,
            RouteSenders::ByRoute(senders) => &senders[route],
        }
    }
}

impl From<Vec<Sender<Box<Batch>>>> for RouteSenders {
    fn from(senders: Vec<Sender<Box<Batch>>>) -> RouteSenders {
        RouteSenders::ByRoute(senders.into())
    }
}

impl From<Sender<Box<Batch>>> for RouteSenders {
    fn from(sender: Sender<Box<Batch>>) -> RouteSenders {
        RouteSenders::One(sender)
    }
}

/// How many batches of a route are open or wait for a worker.
#[derive(Debug, Default, Clone)]
pub struct QueueDepth(Arc<AtomicUsize>);

/// One batch of a [`QueueDepth`], until it is dropped.
#[derive(Debug)]
pub struct QueuePermit(QueueDepth);

impl QueueDepth {
    pub fn enter(&self) -> QueuePermit {
        self.0.fetch_add(1, Ordering::Relaxed);
        QueuePermit(self.clone())
    }

    pub fn get(&self) -> usize {
        self.0.load(Ordering::Relaxed)
    }
}

impl Drop for QueuePermit {
    fn drop(&mut self) {
        self.0.0.fetch_sub(1, Ordering::Relaxed);
    }
}
