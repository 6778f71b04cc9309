//! Checks all options that a user gave and turns them into a [`Config`] before anything opens.
//!
//! JavaScript passes one JSON text. [`Config::parse`] walks it with [`object_reader::ObjectReader`],
//! which checks each option by its row of the table in [`schema`] and refuses what the table does not
//! have; no I/O happens here.

mod backoff;
mod batch;
mod broker_url;
mod ceiling;
mod check;
mod clickhouse;
mod column_source;
mod condition;
mod credential;
mod dead_letters;
mod growth;
mod lookup;
mod mqtt;
mod object_reader;
pub mod option;
mod pivot;
mod repeats;
mod replay;
mod route;
pub mod schema;
mod shards;
mod sparkplug;
mod spool;
mod table_choice;
mod taken;
mod timing;
mod tls;
mod transform;

use std::sync::Arc;
use std::time::Duration;

use crate::core::append_only::AppendOnly;
pub use crate::core::backoff::Limits as Backoff;
use crate::core::credential::Credential;
use crate::core::error::{Error, Result};
use crate::core::lookups::Lookups;
use crate::core::topic_tables::{table_number, table_place};
pub use batch::{Limits, MAX_BLOCK_ROWS};
pub use broker_url::{BrokerUrl, Transport};
use ceiling::Ceiling;
pub use check::{CheckOptions, SampleLimits};
pub use clickhouse::{ClickHouse, Compression};
pub use column_source::{ColumnSource, Meta, Parse, Reading, Unit};
pub use condition::{Check, Condition, Constant, Operand, Relation};
pub use dead_letters::DeadLetters;
pub use growth::Growth;
pub use lookup::{LookupKey, LookupSource};
pub use mqtt::{AckAfter, Login, Mqtt, ProtocolVersion};
use object_reader::ObjectReader;
pub use pivot::{Pivot, PivotCounters, shared_alone};
pub use repeats::{Deadband, Dedupe, Quantity};
pub use replay::ReplaySource;
pub use route::{Csv, Format, Nan, PayloadCompression, Protobuf, ROWS_TOPIC, Route};
pub use shards::ShardColumn;
pub use spool::Spool;
pub use table_choice::TableChoice;
pub use transform::{Input, Transform, TransformCode};

#[derive(Debug, Clone)]
pub struct Config {
    pub name: String,
    pub mqtt: Mqtt,
    pub clickhouse: ClickHouse,
    pub routes: Vec<Route>,
    /// Routes for the rows that a program inserts, one for each table; their positions follow those of
    /// `routes`.
    pub row_routes: Vec<Route>,
    /// Routes that were added while the pipeline runs; their places follow those of `row_routes`. Clones share them.
    pub added: Arc<AppendOnly<AddedRoute>>,
    /// Tables that messages have chosen by their topics, by their numbers. Clones share them.
    pub topic_tables: Arc<AppendOnly<Route>>,
    /// Tables that a program may insert rows into.
    pub tables: Vec<String>,
    /// The maps that columns are filled from.
    pub lookups: Lookups,
    pub batch: Limits,
    /// `None`: batches go to ClickHouse at once.
    pub spool: Option<Spool>,
    pub dead_letters: DeadLetters,
    /// All buffers together, in bytes.
    pub memory_max_bytes: usize,
    /// `None`: no metrics event.
    pub metrics_interval: Option<Duration>,
    pub start_timeout: Duration,
    /// How many of the batches are traced, from 0 to 1.
    pub trace_sample_ratio: f64,
}

/// A route that was added while the pipeline runs.
#[derive(Debug)]
pub struct AddedRoute {
    pub route: Route,
    /// See [`Config::stream_name`].
    stream_name: String,
}

/// A topic, and a number behind it where others are alike.
fn numbered(topic: &str, alike: usize) -> String {
    match alike {
        0 => topic.into(),
        // No topic has a NUL.
        alike => format!("{topic}\0{alike}"),
    }
}

impl Config {
    /// The route at a place: one of `routes`, behind them of `row_routes`, and behind these of `added`. A place keeps its route,
    /// also when it takes no more messages.
    pub fn route(&self, at: usize) -> &Route {
        self.find_route(at).expect("a place is given to a route that is there")
    }

    pub fn find_route(&self, at: usize) -> Option<&Route> {
        if let Some(table) = table_number(at) {
            return self.topic_tables.get(table);
        }
        let (routes, rows) = (self.routes.len(), self.row_routes.len());
        self.routes
            .get(at)
            .or_else(|| self.row_routes.get(at.checked_sub(routes)?))
            .or_else(|| Some(&self.added.get(at.checked_sub(routes + rows)?)?.route))
    }

    /// All of them, in the order of their places.
    pub fn all_routes(&self) -> impl Iterator<Item = &Route> {
        let added = self.added.iter().map(|added| &added.route);
        self.routes.iter().chain(&self.row_routes).chain(added)
    }

    /// How many places there are.
    pub fn places(&self) -> usize {
        self.routes.len() + self.row_routes.len() + self.added.len()
    }

    /// Gives a route its place. `alike` is how many routes fill the same table from the same topic and come before it.
    pub fn add_route(&self, route: Route, alike: usize) -> usize {
        let stream_name = numbered(route.topic.as_str(), alike);
        self.routes.len() + self.row_routes.len() + self.added.push(AddedRoute { route, stream_name })
    }

    /// The place of a table that messages of this topic have chosen.
    pub fn topic_table(&self, topic: &str, table: &str) -> Option<usize> {
        let is_it = |route: &Route| route.table == table && route.topic.as_str() == topic;
        let number = self.topic_tables.iter().position(is_it)?;
        let chosen = self
            .routes
            .iter()
            .position(|route| route.table_choice.is_some() && route.topic.as_str() == topic);
        Some(table_place(chosen.unwrap_or(0), number))
    }

    /// Whether a route is for rows, and not for messages.
    pub fn is_of_rows(&self, at: usize) -> bool {
        self.route(at).format == Format::Rows
    }

    /// The highest QoS that a route asks for.
    pub fn highest_qos(&self) -> u8 {
        let all = self.routes.iter().map(|route| route.qos.unwrap_or(self.mqtt.qos));
        all.max().unwrap_or(self.mqtt.qos)
    }

    /// The name of a route in the spool: its topic, and a number where an earlier route fills the same
    /// table from it.
    pub fn stream_name(&self, at: usize) -> String {
        let initial = self.routes.len() + self.row_routes.len();
        if let Some(added) = at.checked_sub(initial).and_then(|at| self.added.get(at)) {
            return added.stream_name.clone();
        }
        let route = self.route(at);
        if table_number(at).is_some() {
            return route.topic.as_str().into();
        }
        numbered(
            route.topic.as_str(),
            self.all_routes().take(at).filter(|other| other.is_alike(route)).count(),
        )
    }

    /// The user names and passwords that may come from a file or a function.
    pub fn credentials(&self) -> impl Iterator<Item = &Credential> {
        [&self.mqtt.username, &self.mqtt.password, &self.clickhouse.password].into_iter().flatten()
    }

    /// The place of the route for rows that a program gives for a table.
    pub fn row_route(&self, table: &str) -> Option<usize> {
        let routes = self.routes.len();
        let declared = self.row_routes.iter().position(|route| route.table == table);
        let added = || {
            let is_it = |added: &AddedRoute| added.route.format == Format::Rows && added.route.table == table;
            Some(self.row_routes.len() + self.added.iter().position(is_it)?)
        };
        Some(routes + declared.or_else(added)?)
    }

    /// Reads a route that is added while the pipeline runs, from the JSON text of it. Every error is `CONFIG_INVALID` with the
    /// option's path, which begins with `route`.
    pub fn parse_route(&self, text: &str) -> Result<Route> {
        let value: serde_json::Value = serde_json::from_str(text)
            .map_err(|e| Error::config("route", format!("the route is not valid JSON: {e}")))?;
        let value = value.get("route").unwrap_or(&serde_json::Value::Null);
        let reader = ObjectReader::at("route", value, &schema::ROUTE)?;
        let mut route = route::route(reader, Ceiling { bytes: self.memory_max_bytes as u64 }, &self.lookups)?;
        if self.mqtt.dots_become_slashes
            && let Some(topic) = route.topic.with_slashes_for_dots()
        {
            route.topic = topic;
        }
        Ok(self.with_shard_key(route))
    }

    /// The route with the columns that say to which shard its rows go.
    pub fn with_shard_key(&self, mut route: Route) -> Route {
        if let Some(shards) = &self.clickhouse.shards {
            shards.give_key(&self.clickhouse.database, &mut route);
        }
        route
    }

    /// Reads the JSON text from JavaScript. Every error is `CONFIG_INVALID` with the option's path.
    pub fn parse(text: &str) -> Result<Config> {
        let value: serde_json::Value = serde_json::from_str(text)
            .map_err(|e| Error::config("", format!("the configuration is not valid JSON: {e}")))?;
        let root = ObjectReader::root(&value, &schema::PIPELINE)?;

        let name = name(&root)?;
        let memory = Ceiling::read(&root)?;
        let spool = root.section("spool")?.map(|spool| spool::spool(spool, memory)).transpose()?;
        // In the order of the documentation: the first error is reported.
        let mqtt = mqtt::mqtt(root.required_section("mqtt")?, spool.is_some(), memory)?;
        let clickhouse = clickhouse::clickhouse(root.required_section("clickhouse")?)?;
        let lookups = Lookups::default();
        let mut routes = routes(&root, memory, &lookups)?;
        lookup::lookups(&root, &lookups, memory)?;
        if mqtt.dots_become_slashes {
            for route in &mut routes {
                route.topic = route.topic.with_slashes_for_dots().unwrap_or_else(|| route.topic.clone());
            }
        }
        let tables = tables(&root)?;
        let mut row_routes = row_routes(&tables, &routes);
        if let Some(shards) = &clickhouse.shards {
            shards.assign(&clickhouse.database, routes.iter_mut().chain(&mut row_routes))?;
        }
        let config = Config {
            row_routes,
            added: Arc::default(),
            topic_tables: Arc::default(),
            tables,
            lookups,
            name,
            mqtt,
            clickhouse,
            routes,
            batch: batch::batch(root.section("batch")?, memory)?,
            spool,
            dead_letters: dead_letters::dead_letters(root.section("deadLetters")?)?,
            memory_max_bytes: memory.bytes as usize,
            trace_sample_ratio: trace_sample_ratio(&root)?,
            start_timeout: root.duration_or_default("startTimeoutMs")?,
            metrics_interval: Some(root.duration_or_default("metricsIntervalMs")?).filter(|i| !i.is_zero()),
        };
        root.finish()?;
        Ok(config)
    }
}

fn name(root: &ObjectReader<'_>) -> Result<String> {
    let name = root.text_or_default("name")?;
    if name.is_empty() || !name.chars().all(|c| c.is_ascii_alphanumeric() || "._-".contains(c)) {
        return Err(
            root.wrong("name", "must be letters, digits, '.', '_' or '-': it goes into metrics and tokens")
        );
    }
    Ok(name)
}

fn routes(root: &ObjectReader<'_>, memory: Ceiling, lookups: &Lookups) -> Result<Vec<Route>> {
    let sections = root.sections("routes")?.into_iter();
    let routes =
        sections.map(|section| route::route(section, memory, lookups)).collect::<Result<Vec<_>>>()?;
    if routes.is_empty() {
        return Err(root.wrong("routes", "must name at least one route"));
    }
    let all: Vec<&Route> = routes.iter().collect();
    if let Some((alone, earlier)) = shared_alone(&all) {
        let message = pivot::shared_with(&format!("routes[{earlier}]"));
        return Err(Error::config(format!("routes[{alone}].{}", all[alone].alone_option()), message));
    }
    Ok(routes)
}

fn tables(root: &ObjectReader<'_>) -> Result<Vec<String>> {
    let mut tables = Vec::new();
    for (path, table) in root.texts("tables")? {
        if table.is_empty() {
            return Err(Error::config(path, "must not be empty"));
        }
        if tables.contains(&table) {
            return Err(Error::config(path, format!("names {table} a second time")));
        }
        tables.push(table);
    }
    Ok(tables)
}

/// One for each table that a program, or a transform, may put rows into.
fn row_routes(tables: &[String], routes: &[Route]) -> Vec<Route> {
    let declared = tables.iter().enumerate();
    let mut row_routes: Vec<Route> = declared
        .map(|(at, table)| Route { path: format!("tables[{at}]"), ..Route::of_rows(table) })
        .collect();
    for (at, route) in routes.iter().enumerate() {
        let emits = route.transform.iter().flat_map(|transform| &transform.emits);
        for (place, table) in emits.enumerate() {
            if row_routes.iter().all(|route| route.table != *table) {
                row_routes
                    .push(Route { path: format!("routes[{at}].emits[{place}]"), ..Route::of_rows(table) });
            }
        }
    }
    row_routes
}

fn trace_sample_ratio(root: &ObjectReader<'_>) -> Result<f64> {
    let Some(tracing) = root.section("tracing")? else { return Ok(0.0) };
    let ratio = tracing.number_or_default("sampleRatio")?;
    tracing.finish()?;
    Ok(ratio)
}
