//! The table of each route as it is now, and what follows from it for the route's blocks.
//!
//! A plan is made at start and again whenever the table has changed: connections open their next batch with the newest
//! one, and workers decode again what was made for an older one. Workers check a table before an INSERT
//! if the last check is older than 1 s, and whenever ClickHouse's answer may mean that it changed. A
//! table that can no longer be filled, such as one without a column that the configuration names, is a
//! fault: its rows wait until an operator has fixed it.

use std::ops::Range;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::{Duration, Instant};

use crate::clickhouse::schema::remembered::RememberedTables;
use crate::clickhouse::schema::{RepairSql, Table, TableColumn};
use crate::clickhouse::{Column, CompressionHints};
use crate::config::{Config, Route};
use crate::core::append_only::AppendOnly;
use crate::core::error::{Error, Result};
use crate::core::lock::lock;
use crate::core::memory_budget::MemoryBudget;
use crate::core::topic_tables::table_number;
use crate::decode::Decoder;
use crate::ingest::column_pool::ColumnPool;
use crate::ingest::gatherer;
use crate::ingest::row_filter::RowFilter;

/// How a route fills its table.
#[derive(Debug)]
pub struct TablePlan {
    /// Grows with each change of the table.
    pub generation: u64,
    pub table: Table,
    /// The INSERT statement.
    pub sql: String,
    /// The statement that inserts what the table has lost, where it can lose anything.
    pub repair: Option<RepairSql>,
    /// The columns of a batch that no block has.
    pub inputs: Range<usize>,
    /// The names and types that blocks declare.
    pub column_headers: Vec<(String, String)>,
    pub resistance: CompressionHints,
    /// For batches of these columns.
    pub column_pool: Arc<ColumnPool>,
}

impl TablePlan {
    pub fn new(
        generation: u64,
        route: &Route,
        table: Table,
        memory: &Arc<MemoryBudget>,
    ) -> Result<TablePlan> {
        let decoder = decoder(route, &table)?;
        check_rules(route, &decoder)?;
        let (sql, column_headers) = (table.insert_sql(decoder.heads()), decoder.heads().to_vec());
        let repair = table.repair_sql(decoder.heads());
        let resistance = CompressionHints::of(column_headers.len());
        Ok(TablePlan {
            generation,
            table,
            sql,
            repair,
            inputs: decoder.inputs(),
            column_headers,
            resistance,
            column_pool: ColumnPool::of(memory),
        })
    }

    /// Empty columns of a block.
    pub fn block_columns(&self, route: &Route) -> Vec<Column> {
        self.decoder(route).block_columns()
    }

    /// The columns that have a column of flags, by their place in a block, and its name.
    pub fn flagged_columns(&self) -> impl Iterator<Item = (usize, String)> {
        let named =
            |(at, column): (usize, &TableColumn)| Some((at, column.missing_flag(&self.table.columns)?));
        self.table.columns.iter().enumerate().filter_map(named)
    }

    pub fn decoder(&self, route: &Route) -> Decoder {
        decoder(route, &self.table).expect("the plan was made with a decoder of the same route and columns")
    }
}

fn decoder(route: &Route, table: &Table) -> Result<Decoder> {
    match route.table_choice {
        // The table is not known yet, nor are its columns.
        Some(_) => Decoder::new(&route.path, &Route::of_rows(&route.table), &[]),
        None => Decoder::new(&route.path, route, &table.columns),
    }
}

/// The plans of all routes.
#[derive(Debug)]
pub struct TablePlans {
    routes: AppendOnly<RoutePlanState>,
    /// The same of tables that messages have chosen, by their numbers.
    topic_tables: AppendOnly<RoutePlanState>,
    /// The budget that pools of columns have a part of.
    memory: Arc<MemoryBudget>,
}

#[derive(Debug)]
struct RoutePlanState {
    /// The generation of the plan, for comparison without the lock.
    generation: AtomicU64,
    state: Mutex<State>,
    /// How often in a row ClickHouse refused too many rows to isolate them all.
    exhausted: AtomicU32,
    /// The most messages that one INSERT takes, as far as is known.
    part_limit: AtomicUsize,
    /// Whether a table of the engine Null has no view.
    is_discarding: AtomicBool,
    /// Partitions that a block may have, as ClickHouse said last.
    partition_limit: AtomicUsize,
    /// For how many more batches that is believed.
    partition_batches: AtomicU32,
}

#[derive(Debug)]
struct State {
    /// The last one that could be made.
    plan: Arc<TablePlan>,
    /// Why none can be made for the table as it is now.
    fault: Option<Arc<str>>,
    checked_at: Instant,
}

/// How old what we know of a table may be before an INSERT.
const MAX_AGE: Duration = Duration::from_secs(1);
/// Beyond it the number of attempts at isolating rows cannot be halved again.
const MAX_EXHAUSTED: u32 = 6;

/// Batches for which a limit of partitions is believed: the next one after them is sent undivided, and shows whether the
/// limit still holds.
const PARTITION_MEMORY: u32 = 16;
/// A limit that has grown beyond it is none.
const MAX_PART_LIMIT: usize = 1 << 20;

impl RoutePlanState {
    fn new(plan: Arc<TablePlan>, now: Instant) -> RoutePlanState {
        RoutePlanState {
            generation: AtomicU64::new(0),
            state: Mutex::new(State { plan, fault: None, checked_at: now }),
            exhausted: AtomicU32::new(0),
            part_limit: AtomicUsize::new(usize::MAX),
            is_discarding: AtomicBool::new(false),
            partition_limit: AtomicUsize::new(0),
            partition_batches: AtomicU32::new(0),
        }
    }
}

impl TablePlans {
    /// `tables` are those of the routes, in their order.
    pub fn new<'a>(
        routes: impl IntoIterator<Item = &'a Route>,
        tables: Vec<Table>,
        now: Instant,
    ) -> Result<TablePlans> {
        TablePlans::within(&Arc::default(), routes, tables, now)
    }

    /// The same, with pools of columns below the ceiling of `memory`.
    pub fn within<'a>(
        memory: &Arc<MemoryBudget>,
        routes: impl IntoIterator<Item = &'a Route>,
        tables: Vec<Table>,
        now: Instant,
    ) -> Result<TablePlans> {
        let plans = TablePlans {
            routes: AppendOnly::default(),
            topic_tables: AppendOnly::default(),
            memory: memory.clone(),
        };
        for (route, table) in routes.into_iter().zip(tables) {
            plans.add(plans.plan(route, table)?, now);
        }
        Ok(plans)
    }

    /// The first plan of a route.
    pub fn plan(&self, route: &Route, table: Table) -> Result<Arc<TablePlan>> {
        TablePlan::new(0, route, table, &self.memory).map(Arc::new)
    }

    /// Gives the next place its plan.
    pub fn add(&self, plan: Arc<TablePlan>, now: Instant) {
        self.routes.push(RoutePlanState::new(plan, now));
    }

    /// The same for the next table that messages have chosen.
    pub fn add_topic_table(&self, plan: Arc<TablePlan>, now: Instant) {
        self.topic_tables.push(RoutePlanState::new(plan, now));
    }

    fn place(&self, route: usize) -> &RoutePlanState {
        let found = match table_number(route) {
            Some(table) => self.topic_tables.get(table),
            None => self.routes.get(route),
        };
        found.expect("each route has a plan before it takes a message")
    }

    /// Writes the tables beside the spool, if there is one, for a start without ClickHouse. Where that fails, as on a disk that is
    /// full, what was written before stays.
    pub fn remember(&self, config: &Config) {
        let Some(spool) = &config.spool else { return };
        let tables = (0..self.routes.len()).map(|at| self.latest(at).table.facts()).collect();
        let _ = RememberedTables::new(tables, config.dead_letters.table.clone()).write(&spool.dir);
    }

    /// The generation of [`TablePlans::latest`].
    pub fn generation(&self, route: usize) -> u64 {
        self.place(route).generation.load(Ordering::Acquire)
    }

    /// The newest plan that could be made.
    pub fn latest(&self, route: usize) -> Arc<TablePlan> {
        self.state(route).plan.clone()
    }

    /// The plan for the table as it is now, or why there is none.
    pub fn current(&self, route: usize) -> Result<Arc<TablePlan>, Arc<str>> {
        let state = self.state(route);
        state.fault.clone().map_or_else(|| Ok(state.plan.clone()), Err)
    }

    /// Whether it is time to look at the table; then it is the caller's to do so, and nobody else's.
    pub fn is_due(&self, route: usize, now: Instant) -> bool {
        let mut state = self.state(route);
        let is_due = now.saturating_duration_since(state.checked_at) >= MAX_AGE;
        if is_due {
            state.checked_at = now;
        }
        is_due
    }

    /// Takes in what a look at the table brought: a changed table, none, or an error. Returns what changed, where that is news.
    pub fn apply_schema(
        &self,
        at: usize,
        route: &Route,
        schema: Result<Option<Table>>,
    ) -> Option<SchemaChange> {
        let mut state = self.state(at);
        let state = &mut *state;
        let name = &route.table;
        let planned = match schema {
            Ok(Some(table)) if table.is_like(&state.plan.table) => Ok(None),
            Ok(Some(table)) => {
                TablePlan::new(state.plan.generation + 1, route, table, &self.memory).map(Some)
            }
            Ok(None) => Ok(None),
            // Nothing was learnt.
            Err(
                Error::ClickHouseUnreachable { .. }
                | Error::ClickHouseAnswer { .. }
                | Error::ClickHouseRejected { .. },
            ) => return None,
            Err(error) => Err(error),
        };
        match planned {
            Ok(Some(plan)) => {
                state.fault = None;
                let message = format!("{name} has changed: {}", plan.table.changes_since(&state.plan.table));
                let added = plan.table.added_since(&state.plan.table).map(String::from).collect();
                state.plan = Arc::new(plan);
                self.place(at).generation.store(state.plan.generation, Ordering::Release);
                Some(SchemaChange { message, added })
            }
            Ok(None) => state.fault.take().map(|_| SchemaChange::new(format!("{name} is again as it was"))),
            Err(error) => {
                let fault: Arc<str> = error.to_string().into();
                let is_news = state.fault.as_ref() != Some(&fault);
                state.fault = Some(fault.clone());
                is_news.then(|| {
                    SchemaChange::new(format!(
                        "{name} has changed and cannot be filled: {fault}; its rows wait"
                    ))
                })
            }
        }
    }

    /// Notes whether the table of a route discards its rows; whether this is a new loss.
    pub fn set_discarding(&self, route: usize, is_discarding: bool) -> bool {
        !self.place(route).is_discarding.swap(is_discarding, Ordering::Relaxed) && is_discarding
    }

    /// How many messages to send as one INSERT at most: `usize::MAX` while none was too large.
    pub fn part_limit(&self, route: usize) -> usize {
        self.place(route).part_limit.load(Ordering::Relaxed)
    }

    /// An INSERT of more messages than these was too large.
    pub fn record_part_limit(&self, route: usize, messages: usize) {
        let limit = &self.place(route).part_limit;
        // All parts were inserted: the next ones may be an eighth larger.
        limit.store(messages.saturating_add(messages / 8 + 1), Ordering::Relaxed);
    }

    /// An undivided batch was inserted: the limit grows, so that an obsolete limit is forgotten.
    pub fn record_part_ok(&self, route: usize) {
        let limit = &self.place(route).part_limit;
        let before = limit.load(Ordering::Relaxed);
        if before != usize::MAX {
            let grown = if before > MAX_PART_LIMIT { usize::MAX } else { before + before / 8 + 1 };
            limit.store(grown, Ordering::Relaxed);
        }
    }

    /// How many partitions a block of the next batch may have; `None`: no block was refused for its partitions within the last
    /// batches. A call counts as one batch.
    pub fn partition_limit(&self, route: usize) -> Option<usize> {
        let RoutePlanState { partition_limit, partition_batches, .. } = self.place(route);
        let counted =
            partition_batches.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |left| left.checked_sub(1));
        counted.is_ok().then(|| partition_limit.load(Ordering::Relaxed))
    }

    /// ClickHouse has refused a block for having more partitions than these.
    pub fn record_partition_limit(&self, route: usize, partitions: usize) {
        let route = self.place(route);
        route.partition_limit.store(partitions, Ordering::Relaxed);
        route.partition_batches.store(PARTITION_MEMORY, Ordering::Relaxed);
    }

    /// How often in a row the rows of a batch could not all be isolated.
    pub fn bisects_exhausted(&self, route: usize) -> u32 {
        self.place(route).exhausted.load(Ordering::Relaxed)
    }

    pub fn record_bisect_exhausted(&self, route: usize) {
        self.update_exhausted(route, |count| (count + 1).min(MAX_EXHAUSTED));
    }

    pub fn record_bisect_ok(&self, route: usize) {
        self.update_exhausted(route, |count| count.saturating_sub(1));
    }

    fn update_exhausted(&self, route: usize, change: impl Fn(u32) -> u32) {
        let exhausted = &self.place(route).exhausted;
        // The closure always gives a value.
        let _ = exhausted.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |count| Some(change(count)));
    }

    fn state(&self, route: usize) -> MutexGuard<'_, State> {
        // A plan is replaced in one assignment: a panic elsewhere cannot leave half of one.
        lock(&self.place(route).state)
    }
}

/// Whether the table has the columns by which the route drops and gathers rows. Errors name the option.
pub fn check_rules(route: &Route, decoder: &Decoder) -> Result<()> {
    if route.table_choice.is_some() {
        // The table is not known yet.
        return Ok(());
    }
    RowFilter::of(route, decoder)?;
    gatherer::check(route, decoder)
}

/// News of a table.
pub struct SchemaChange {
    /// For messages that people read.
    pub message: String,
    /// Columns that no option maps and that are new.
    pub added: Vec<String>,
}

impl SchemaChange {
    fn new(message: String) -> SchemaChange {
        SchemaChange { message, added: Vec::new() }
    }
}
