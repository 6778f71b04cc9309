//! Faults that last, with the warning that said so last and since when.
//!
//! The stage that meets a fault holds an [`OpenFault`]. It opens with a warning and closes with the thing that ends the
//! fault: a confirmed INSERT, a connection, a commit; or with the work that met it, when that is given up. So the list is
//! never older than the fault, and no reader of warnings has to guess when one has ended.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::SystemTime;

use serde::{Serialize, Serializer};
use serde_json::{Map, Value};

use crate::core::lock::lock;
use crate::telemetry::events::Warning;
use crate::telemetry::trace::millis;

/// The faults that are open.
#[derive(Debug, Default)]
pub struct Faults(Mutex<State>);

#[derive(Debug, Default)]
struct State {
    next: u64,
    open: BTreeMap<u64, Fault>,
}

/// A fault as it was last reported.
#[derive(Debug, Clone)]
pub struct Fault {
    pub code: &'static str,
    message: String,
    fields: Map<String, Value>,
    /// In milliseconds since 1970.
    pub since: u64,
    /// How often it was reported.
    pub failures: u32,
}

/// Faults that a snapshot has at most: those of many tables at once have one cause.
const MAX_SHOWN: usize = 1000;

impl Faults {
    /// One for each code, table, route, directory and client: several INSERTs into a table fail together. The latest report
    /// counts, and the earliest time.
    pub fn snapshot(&self) -> Vec<Fault> {
        let mut merged: BTreeMap<(&str, String), Fault> = BTreeMap::new();
        for fault in self.state().open.values() {
            match merged.entry((fault.code, fault.subject())) {
                std::collections::btree_map::Entry::Vacant(entry) => _ = entry.insert(fault.clone()),
                std::collections::btree_map::Entry::Occupied(mut entry) => {
                    let before = entry.get();
                    let since = before.since.min(fault.since);
                    let failures = before.failures.saturating_add(fault.failures);
                    entry.insert(Fault { since, failures, ..fault.clone() });
                }
            }
        }
        merged.into_values().take(MAX_SHOWN).collect()
    }

    fn state(&self) -> MutexGuard<'_, State> {
        lock(&self.0)
    }
}

impl Fault {
    /// The table that it is about, as the configuration names it.
    pub fn table(&self) -> Option<&str> {
        self.fields.get("table")?.as_str()
    }

    /// Whether INSERTs into [`Fault::table`] fail because of it.
    pub fn stops_inserts(&self) -> bool {
        matches!(self.code, "CLICKHOUSE_RETRYING" | "INSERT_UNCONFIRMED")
    }

    fn subject(&self) -> String {
        // A table is one subject, whichever route fills it.
        let names = if self.fields.contains_key("table") && self.stops_inserts() {
            &["table"][..]
        } else {
            &["table", "route", "dir", "clientId"]
        };
        names
            .iter()
            .map(|name| self.fields.get(*name).map(Value::to_string).unwrap_or_default() + "\n")
            .collect()
    }
}

/// One object: those of its warning, `since` and `failures`.
impl Serialize for Fault {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut all = Map::new();
        all.insert("code".into(), self.code.into());
        all.insert("message".into(), self.message.as_str().into());
        all.extend(self.fields.clone());
        all.insert("since".into(), self.since.into());
        all.insert("failures".into(), self.failures.into());
        all.serialize(serializer)
    }
}

/// A fault of its holder, which is open from its first report until it is closed or dropped.
#[derive(Debug)]
pub struct OpenFault {
    faults: Arc<Faults>,
    id: Option<u64>,
}

impl OpenFault {
    /// None yet.
    pub fn none(faults: &Arc<Faults>) -> OpenFault {
        OpenFault { faults: faults.clone(), id: None }
    }

    /// It is there, or still there, as this warning says.
    pub fn report(&mut self, warning: &Warning) {
        let mut state = self.faults.state();
        let id = *self.id.get_or_insert_with(|| {
            state.next += 1;
            state.next
        });
        let before = state.open.get(&id);
        let fault = Fault {
            code: warning.code,
            message: warning.message.clone(),
            fields: warning.fields().clone(),
            since: before.map_or_else(|| millis(SystemTime::now()) as u64, |before| before.since),
            failures: before.map_or(0, |before| before.failures).saturating_add(1),
        };
        state.open.insert(id, fault);
    }

    /// It has ended; gives how often it was reported.
    pub fn close(&mut self) -> u32 {
        let Some(id) = self.id.take() else { return 0 };
        self.faults.state().open.remove(&id).map_or(0, |fault| fault.failures)
    }
}

impl Drop for OpenFault {
    fn drop(&mut self) {
        self.close();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn failing(table: &str, reason: &str) -> Warning {
        Warning::new("CLICKHOUSE_RETRYING", format!("{table}: {reason}")).table(table).reason(reason)
    }

    #[test]
    fn a_fault_is_there_from_its_first_report_until_it_is_closed() {
        let faults = Arc::new(Faults::default());
        let mut fault = OpenFault::none(&faults);
        assert_eq!((faults.snapshot().len(), fault.close()), (0, 0));
        fault.report(&failing("t", "no answer"));
        let since = faults.snapshot()[0].since;
        fault.report(&failing("t", "no such table"));
        let all = faults.snapshot();
        assert_eq!(
            serde_json::to_value(&all).unwrap(),
            serde_json::json!([{
                "code": "CLICKHOUSE_RETRYING", "message": "t: no such table", "table": "t",
                "reason": "no such table", "since": since, "failures": 2,
            }])
        );
        assert_eq!((fault.close(), faults.snapshot().len()), (2, 0));
    }

    #[test]
    fn a_table_has_one_fault_until_the_last_insert_has_ended() {
        let faults = Arc::new(Faults::default());
        let mut all = ["t", "t", "u"].map(|table| {
            let mut fault = OpenFault::none(&faults);
            fault.report(&failing(table, "x"));
            fault
        });
        let tables =
            || faults.snapshot().iter().filter_map(|f| f.table().map(String::from)).collect::<Vec<_>>();
        assert_eq!(tables(), ["t", "u"]);
        all[0].close();
        assert_eq!(tables(), ["t", "u"]);
        drop(all);
        assert_eq!(tables(), [""; 0]);
    }
}
