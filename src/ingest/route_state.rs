//! One route on one connection: its decoder and the batch that is open.

use std::ops::Range;
use std::sync::Arc;
use std::time::{Instant, SystemTime};

use crate::clickhouse::Column;
use crate::config::{Limits, MAX_BLOCK_ROWS, Route};
use crate::core::ack_history::{AckHistory, AckRecord};
use crate::core::clock::ReceiveTime;
use crate::core::memory_budget::MemoryBudget;
use crate::decode::{self, Decoder};
use crate::ingest::batch::{Batch, QueueDepth};
use crate::ingest::column_pool::capacity;
use crate::ingest::completion::Completion;
use crate::ingest::gatherer::Gatherer;
use crate::ingest::kept_rows::MessageRows;
use crate::ingest::raw_messages::RawMessages;
use crate::ingest::row_filter::{self, RowFilter};
use crate::ingest::table_plan::TablePlan;
use crate::ingest::topic_tables::RouteTables;
use crate::ingest::unknown_fields::UnknownFields;
use crate::telemetry::context::PipelineContext;
use crate::telemetry::trace::{Trace, millis};

/// A batch is full when the next message could bring it to [`MAX_BLOCK_ROWS`].
pub const MAX_ROWS: usize = MAX_BLOCK_ROWS - decode::MAX_ROWS;

/// Rows that a new batch reserves columns for.
const MAX_RESERVED: usize = 8192;

pub struct RouteState {
    /// Its place among all routes.
    pub place: usize,
    /// The place of the route to whose batches its own go.
    pub sends_as: usize,
    pub route: Route,
    /// Whether the open batch keeps the MQTT properties of its messages.
    pub keeps_properties: bool,
    /// The plan that decoder and columns are made for.
    pub plan: Arc<TablePlan>,
    pub decoder: Decoder,
    pub batch: Option<Box<Batch>>,
    /// Counts the open batch and those that wait for a worker.
    queued: QueueDepth,
    /// The batch is to be sealed whatever its size and age, as soon as the sinks have capacity.
    pub seal_pending: bool,
    /// Where rows are dropped for those before them.
    pub filter: Option<Box<RowFilter>>,
    /// Where messages choose their table.
    pub tables: Option<Box<RouteTables>>,
    /// Where messages are gathered into rows.
    pub gatherer: Option<Box<Gatherer>>,
    /// Receipts of the rows that were gathered into the open batch.
    pub receipts: Vec<(u64, AckRecord)>,
    /// The rows of the open batch that the filter dropped.
    dropped_rows: Vec<Range<usize>>,
    /// Where the table gets columns for them.
    pub unknown_fields: Option<Box<UnknownFields>>,
}

impl AsRef<Route> for RouteState {
    fn as_ref(&self) -> &Route {
        &self.route
    }
}

impl RouteState {
    pub fn new(place: usize, route: Route, plan: Arc<TablePlan>) -> RouteState {
        let mut decoder = plan.decoder(&route);
        RouteState {
            sends_as: place,
            tables: route.table_choice.as_ref().map(|_| Box::default()),
            gatherer: Gatherer::of(&route, &mut decoder),
            place,
            keeps_properties: false,
            batch: None,
            queued: QueueDepth::default(),
            seal_pending: false,
            filter: filter(&route, &decoder),
            receipts: Vec::new(),
            dropped_rows: Vec::new(),
            unknown_fields: UnknownFields::of(&route, &plan),
            route,
            plan,
            decoder,
        }
    }

    /// Opens a batch for messages of a connection.
    #[cold]
    pub fn open(
        &mut self,
        context: &PipelineContext,
        completion: Completion,
        origin: Origin<'_>,
        now: ReceiveTime,
    ) {
        let Origin { route, connection, client_id, session } = origin;
        let rows = context.config.batch.rows.min(MAX_RESERVED);
        let trace = Trace::sample(context.config.trace_sample_ratio);
        self.keeps_properties =
            trace.is_some() || self.route.transform.is_some() || self.route.reads_user_properties();
        let reused = self.plan.column_pool.acquire();
        self.batch = Some(Box::new(Batch {
            reused_bytes: reused.as_deref().map_or(0, capacity),
            completion,
            route,
            connection,
            client_id: client_id.into(),
            plan: self.plan.clone(),
            columns: reused.unwrap_or_else(|| self.new_columns(rows)),
            messages: match self.route.transform {
                Some(_) => RawMessages::with_places(context.chunk_pool.clone(), rows),
                None => RawMessages::new(context.chunk_pool.clone()),
            },
            receipts: AckHistory::of_session(session),
            opened_at: now.instant,
            queue_permit: Some(self.queued.enter()),
            trace,
            companions: Vec::new(),
            shard: None,
            rejected: None,
            inputs: None,
            calls: None,
            message_rows: self.counts_rows().then(MessageRows::default),
            kept: None,
        }));
    }

    /// Whether it is to be known which rows are of which message.
    fn counts_rows(&self) -> bool {
        self.route.transform.is_some()
            || !self.route.shard_key.is_empty()
            || self.filter.is_some()
            || self.gatherer.is_some()
    }

    /// Columns that need not grow: smaller memory that they would leave behind is not used again.
    fn new_columns(&self, rows: usize) -> Vec<Column> {
        let mut columns = self.decoder.columns();
        columns.iter_mut().for_each(|column| column.reserve(rows));
        columns
    }

    /// How many batches of the route no worker has taken yet.
    fn waiting(&self) -> usize {
        self.queued.get() - usize::from(self.batch.is_some())
    }

    /// Whether the batch waits in the router for now: as many of the route wait for workers as they can take, and it may
    /// grow. Fewer and larger INSERTs are what a busy ClickHouse needs.
    pub fn is_better_grown(&self, max_waiting: usize, limits: &Limits) -> bool {
        self.waiting() >= max_waiting && self.batch.as_deref().is_some_and(|batch| may_grow(batch, limits))
    }

    /// Takes the batch that is to be sealed. It may be without rows: opened for a message that became a dead letter, or for
    /// messages that hold an empty list.
    pub fn take_sealed(&mut self) -> Option<Box<Batch>> {
        let mut batch = self.batch.take()?;
        self.seal_pending = false;
        // Packet ids show more about a broker in the order in which it gave them.
        self.receipts.sort_by_key(|(sequence, _)| *sequence);
        self.receipts.drain(..).for_each(|(_, receipt)| batch.receipts.push(receipt));
        if !self.dropped_rows.is_empty() {
            let kept = row_filter::kept(&self.dropped_rows, batch.rows());
            batch.columns.iter_mut().for_each(|column| column.keep_rows(&kept));
            self.dropped_rows.clear();
        }
        if let Some(trace) = &mut batch.trace {
            trace.sealed = millis(SystemTime::now());
        }
        Some(batch)
    }

    /// The broker has another session: what it sends again is not recognised by these.
    pub fn forget_receipts(&mut self) {
        self.receipts.clear();
        if let Some(gatherer) = &mut self.gatherer {
            gatherer.forget_receipts();
        }
    }

    /// Drops rows of the message that was decoded last, which brought `rows`; gives how many are left.
    #[cold]
    pub fn filter_rows(&mut self, rows: usize, now: Instant, memory: &Arc<MemoryBudget>) -> usize {
        let (Some(filter), Some(batch)) = (&mut self.filter, &mut self.batch) else { return rows };
        let left = filter.apply(&self.decoder, &mut batch.columns, rows, now, memory);
        if left > 0 {
            self.dropped_rows.extend_from_slice(filter.dropped());
        }
        left
    }

    /// Decodes for another plan from now on.
    #[cold]
    pub fn switch_plan(&mut self, plan: Arc<TablePlan>) {
        self.decoder = plan.decoder(&self.route);
        self.filter = filter(&self.route, &self.decoder);
        self.gatherer = Gatherer::of(&self.route, &mut self.decoder);
        self.unknown_fields = UnknownFields::of(&self.route, &plan);
        self.plan = plan;
    }
}

/// The plan was made with the same, so that it cannot fail.
fn filter(route: &Route, decoder: &Decoder) -> Option<Box<RowFilter>> {
    RowFilter::of(route, decoder).ok().flatten()
}

/// Where the messages of a batch come from.
#[derive(Clone, Copy)]
pub struct Origin<'a> {
    /// The place in `routes`.
    pub route: usize,
    /// The number of the connection.
    pub connection: usize,
    pub client_id: &'a str,
    /// The session that the broker keeps for it.
    pub session: u64,
}

/// Whether a batch has reached a limit of `batch`.
pub fn is_large(batch: &Batch, limits: &Limits) -> bool {
    batch.rows() >= limits.rows.min(MAX_ROWS) || has_many_bytes(batch, limits)
}

/// Whether more rows fit into the INSERT of a batch, however many `batch` allows it.
pub fn may_grow(batch: &Batch, limits: &Limits) -> bool {
    batch.rows() < MAX_ROWS && !has_many_bytes(batch, limits)
}

fn has_many_bytes(batch: &Batch, limits: &Limits) -> bool {
    let columns = batch.column_bytes();
    columns >= limits.bytes || columns + batch.messages.bytes() + batch.rejected_bytes() >= limits.total_bytes
}
