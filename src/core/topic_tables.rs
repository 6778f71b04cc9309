//! The tables that messages of one route have chosen by their topics, as all connections know them.
//!
//! A name that is new is looked up once, while its messages wait; it counts from then on, whether there is such a table or not.

use std::collections::HashMap;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use crate::core::lock::lock;
use crate::core::reason::Reason;

/// How long the answer for a table that cannot be filled stands.
const RETRY: Duration = Duration::from_secs(10);

/// Places of tables by topic: the place of their route in front of it.
const BASE: usize = 1 << 24;

/// The place of the table number `table` of a route; no route of a configuration has such a place.
pub fn table_place(route: usize, table: usize) -> usize {
    (route + 1) * BASE + table
}

/// The number of the table at a place; `None`: it is the place of a route.
pub fn table_number(place: usize) -> Option<usize> {
    (place >= BASE).then_some(place % BASE)
}

/// The place of the route that a place belongs to: its own, or that of the route whose messages chose the table.
pub fn route_place(place: usize) -> usize {
    if place >= BASE { place / BASE - 1 } else { place }
}

/// Shared by the connections of a pipeline.
#[derive(Debug, Clone, Default)]
pub struct TopicTables(Arc<Mutex<HashMap<String, TableState>>>);

#[derive(Debug, Clone, PartialEq)]
pub enum TableState {
    /// It is being looked at.
    Asked,
    /// It is there, and its rows have this place.
    Ready(usize),
    /// It cannot be filled, as was found then.
    Failed(Reason, Instant),
}

/// The answer for a name.
#[derive(Debug, Clone, PartialEq)]
pub enum Asked {
    /// It is new, or is to be looked at again: somebody must.
    New,
    Known(TableState),
    /// There are as many tables as there may be.
    Full,
}

impl TopicTables {
    /// Asks for a table. One that is new counts from now on, unless there are `max`.
    pub fn ask(&self, name: &str, max: usize, now: Instant) -> Asked {
        let mut tables = lock(&self.0);
        match tables.get_mut(name) {
            Some(state @ TableState::Failed(..)) if is_over(state, now) => {
                *state = TableState::Asked;
                Asked::New
            }
            Some(state) => Asked::Known(state.clone()),
            None => {
                if tables.len() >= max {
                    // Names that led to nothing do not keep others out for ever.
                    tables.retain(|_, state| !is_over(state, now));
                }
                if tables.len() >= max {
                    return Asked::Full;
                }
                tables.insert(name.into(), TableState::Asked);
                Asked::New
            }
        }
    }

    pub fn state(&self, name: &str) -> Option<TableState> {
        lock(&self.0).get(name).cloned()
    }

    pub fn set(&self, name: &str, state: TableState) {
        lock(&self.0).insert(name.into(), state);
    }
}

fn is_over(state: &TableState, now: Instant) -> bool {
    matches!(state, TableState::Failed(_, at) if now.saturating_duration_since(*at) >= RETRY)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::core::reason::Code;

    #[test]
    fn places_name_a_route_and_a_table() {
        let place = table_place(3, 7);
        assert_eq!((table_number(place), route_place(place)), (Some(7), 3));
        assert_eq!((table_number(3), route_place(3)), (None, 3));
    }

    #[test]
    fn tables_are_limited_and_those_that_fail_are_asked_for_again() {
        let (tables, now) = (TopicTables::default(), Instant::now());
        assert_eq!(tables.ask("a", 2, now), Asked::New);
        assert_eq!(tables.ask("a", 2, now), Asked::Known(TableState::Asked));
        tables.set("a", TableState::Ready(9));
        let failed = TableState::Failed(Reason::new(Code::TableUnusable, "no"), now);
        assert_eq!(tables.ask("b", 2, now), Asked::New);
        tables.set("b", failed.clone());
        assert_eq!(tables.ask("b", 2, now), Asked::Known(failed));
        assert_eq!(tables.ask("c", 2, now), Asked::Full);
        assert_eq!(tables.ask("b", 2, now + RETRY), Asked::New);
        tables.set("b", TableState::Failed(Reason::new(Code::TableUnusable, "no"), now));
        assert_eq!(tables.ask("c", 2, now + RETRY), Asked::New);
        assert_eq!(tables.ask("a", 2, now + RETRY), Asked::Known(TableState::Ready(9)));
        assert_eq!(tables.ask("d", 2, now + RETRY), Asked::Full);
    }
}
