//! What the table of each route is like now, and what follows from that for its blocks.
//!
//! A plan is made at start and again whenever the table has changed: connections open their next batch with the newest
//! one, and workers decode again what was made for an older one. Workers look at a table before an INSERT if nobody has
//! for a second, and whenever ClickHouse's answer may mean that it changed. A table that cannot be filled any more, such
//! as one without a column that the configuration names, is a fault: its rows wait until somebody has mended it.

use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use crate::clickhouse::Resistance;
use crate::clickhouse::schema::Table;
use crate::config::Route;
use crate::core::error::{Error, Result};
use crate::decode::Decoder;
use crate::ingest::column_pool::Spares;

/// How a route fills its table.
#[derive(Debug)]
pub struct Plan {
    /// Grows with each change of the table.
    pub generation: u64,
    pub table: Table,
    /// The INSERT statement.
    pub sql: String,
    /// The names and types that blocks declare.
    pub heads: Vec<(String, String)>,
    pub resistance: Resistance,
    /// For batches of these columns.
    pub spares: Spares,
    at: usize,
}

impl Plan {
    fn new(generation: u64, at: usize, route: &Route, table: Table) -> Result<Plan> {
        let decoder = Decoder::new(&path(at), route, &table.columns)?;
        let (sql, heads) = (table.insert_sql(decoder.heads()), decoder.heads().to_vec());
        let resistance = Resistance::of(heads.len());
        Ok(Plan { generation, table, sql, heads, resistance, spares: Spares::default(), at })
    }

    pub fn decoder(&self, route: &Route) -> Decoder {
        Decoder::new(&path(self.at), route, &self.table.columns)
            .expect("the plan was made with a decoder of the same route and columns")
    }
}

/// The plans of all routes.
#[derive(Debug)]
pub struct Plans(Vec<Place>);

#[derive(Debug)]
struct Place {
    /// That of the plan, to be compared without the lock.
    generation: AtomicU64,
    state: Mutex<State>,
    /// How often in a row ClickHouse refused so many rows that they could not all be told apart.
    exhausted: AtomicU32,
}

#[derive(Debug)]
struct State {
    /// The last one that could be made.
    plan: Arc<Plan>,
    /// Why none can be made for the table as it is now.
    fault: Option<Arc<str>>,
    looked_at: Instant,
}

/// How old what we know of a table may be before an INSERT.
const FRESH: Duration = Duration::from_secs(1);
/// Beyond it nothing is left to halve of what is tried to tell rows apart.
const MOST_EXHAUSTED: u32 = 6;

impl Plans {
    /// `tables` are those of the routes, in their order.
    pub fn new(routes: &[Route], tables: Vec<Table>, now: Instant) -> Result<Plans> {
        let places = routes.iter().zip(tables).enumerate().map(|(at, (route, table))| {
            let plan = Arc::new(Plan::new(0, at, route, table)?);
            Ok(Place {
                generation: AtomicU64::new(0),
                state: Mutex::new(State { plan, fault: None, looked_at: now }),
                exhausted: AtomicU32::new(0),
            })
        });
        places.collect::<Result<_>>().map(Plans)
    }

    /// The generation of [`Plans::latest`].
    pub fn generation(&self, route: usize) -> u64 {
        self.0[route].generation.load(Ordering::Acquire)
    }

    /// The newest plan that could be made.
    pub fn latest(&self, route: usize) -> Arc<Plan> {
        self.state(route).plan.clone()
    }

    /// The plan for the table as it is now, or why there is none.
    pub fn current(&self, route: usize) -> Result<Arc<Plan>, Arc<str>> {
        let state = self.state(route);
        state.fault.clone().map_or_else(|| Ok(state.plan.clone()), Err)
    }

    /// Whether it is time to look at the table; then it is the caller's to do so, and nobody else's.
    pub fn is_due(&self, route: usize, now: Instant) -> bool {
        let mut state = self.state(route);
        let is_due = now.saturating_duration_since(state.looked_at) >= FRESH;
        if is_due {
            state.looked_at = now;
        }
        is_due
    }

    /// Takes in what a look at the table brought: a changed table, none, or an error. Returns what is to be told.
    pub fn learn(&self, at: usize, route: &Route, looked: Result<Option<Table>>) -> Option<String> {
        let mut state = self.state(at);
        let state = &mut *state;
        let name = &route.table;
        let planned = match looked {
            Ok(Some(table)) if table.is_like(&state.plan.table) => Ok(None),
            Ok(Some(table)) => Plan::new(state.plan.generation + 1, at, route, table).map(Some),
            Ok(None) => Ok(None),
            // Nothing was learnt.
            Err(Error::ClickHouseUnreachable { .. } | Error::ClickHouseRejected { .. }) => return None,
            Err(error) => Err(error),
        };
        match planned {
            Ok(Some(plan)) => {
                state.fault = None;
                let message = format!("{name} has changed: {}", plan.table.changes_since(&state.plan.table));
                state.plan = Arc::new(plan);
                self.0[at].generation.store(state.plan.generation, Ordering::Release);
                Some(message)
            }
            Ok(None) => state.fault.take().map(|_| format!("{name} is again as it was")),
            Err(error) => {
                let fault: Arc<str> = error.to_string().into();
                let is_news = state.fault.as_ref() != Some(&fault);
                state.fault = Some(fault.clone());
                is_news.then(|| format!("{name} has changed and cannot be filled: {fault}; its rows wait"))
            }
        }
    }

    /// How often in a row the rows of a batch could not all be told apart.
    pub fn exhausted(&self, route: usize) -> u32 {
        self.0[route].exhausted.load(Ordering::Relaxed)
    }

    pub fn exhaust(&self, route: usize) {
        self.update_exhausted(route, |count| (count + 1).min(MOST_EXHAUSTED));
    }

    pub fn relieve(&self, route: usize) {
        self.update_exhausted(route, |count| count.saturating_sub(1));
    }

    fn update_exhausted(&self, route: usize, change: impl Fn(u32) -> u32) {
        let exhausted = &self.0[route].exhausted;
        // The closure always gives a value.
        let _ = exhausted.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |count| Some(change(count)));
    }

    fn state(&self, route: usize) -> MutexGuard<'_, State> {
        // A plan is put in place as a whole: a panic elsewhere cannot leave half of one.
        self.0[route].state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The path of a route in the configuration.
pub fn path(route: usize) -> String {
    format!("routes[{route}]")
}
