//! ClickHouse's end: its servers, the tables of the routes, what they want of a message, and what we may do to them.

mod named;

use std::sync::Arc;
use std::time::Instant;

use serde::{Deserialize, Serialize};
use tokio::time::timeout;

use crate::check::advice;
use crate::check::columns::ColumnReport;
use crate::check::rules;
use crate::check::tls_probe::{self, TlsInfo};
use crate::check::{Level, Report};
use crate::clickhouse::client;
use crate::clickhouse::dedup::InsertTarget;
use crate::clickhouse::error_class::ACCESS_DENIED;
use crate::clickhouse::insert_request::{Insert, ViewMode};
use crate::clickhouse::schema::{SchemaClient, Table};
use crate::clickhouse::{BlockEncoder, CompressionHints, quote};
use crate::config::{ClickHouse, Config, Route};
use crate::core::backoff::random_bits;
use crate::core::error::Error;
use crate::dead_letter::store;
use crate::decode::Decoder;
use crate::ingest::table_plan::{TablePlan, check_rules};
use crate::pipeline::stages::no_answer;

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Server {
    url: String,
    reachable: bool,
    version: Option<String>,
    /// As whom it knows us.
    user: Option<String>,
    tls: Option<TlsInfo>,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct RouteReport {
    topic: String,
    table: String,
    engine: Option<String>,
    columns: Vec<ColumnReport>,
    /// The rules by which the route gathers and drops rows, as text.
    rules: Vec<String>,
    /// Whether ClickHouse took an INSERT of no rows; `None` if none could be made.
    insert: Option<bool>,
    /// How long that took.
    insert_ms: Option<f64>,
    /// Deduplication of the table, and of the tables that its materialized views fill.
    deduplication: Vec<Deduplication>,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Deduplication {
    table: String,
    engine: String,
    /// The view that fills it.
    view: Option<String>,
    /// Whether it recognises an INSERT that is made again.
    on: bool,
    /// How many INSERTs it remembers; `None` where that is not ours to judge.
    window: Option<u64>,
}

#[derive(Deserialize)]
struct Who {
    version: String,
    user: String,
}

#[derive(Deserialize)]
struct Answer {
    result: u8,
}

#[derive(Deserialize)]
struct Name {
    name: String,
}

const SLOW: &str = "is it busy, or the network slow? clickhouse.requestTimeoutMs says how long it may take";

/// The tables of a configuration, as far as they can be filled.
pub struct CheckedTables {
    /// By the places in `routes`.
    pub decoders: Vec<Option<Decoder>>,
    /// By the places of all routes.
    pub plans: Vec<Option<Arc<TablePlan>>>,
    /// `None`: no server answered.
    pub schema: Option<SchemaClient>,
}

/// Checks all tables.
pub async fn check(config: &Config, report: &mut Report) -> CheckedTables {
    let mut tables = CheckedTables {
        decoders: config.routes.iter().map(|_| None).collect(),
        plans: config.all_routes().map(|_| None).collect(),
        schema: None,
    };
    let Some((schema, user)) = servers(&config.clickhouse, report).await else { return tables };
    let checker = TableChecker { schema, user, config: &config.clickhouse };
    let within = config.clickhouse.request_timeout;
    for (i, route) in config.routes.iter().enumerate() {
        report.routes.push(RouteReport::of(route));
        let path = route.path.clone();
        let checked = match &route.table_choice {
            None => timeout(within, checker.route(&path, route, report)).await,
            Some(choice) => timeout(within, checker.named_tables(choice, route, report)).await,
        };
        let Ok(fitted) = checked else {
            report.fail(&no_answer(&config.clickhouse), "clickhouse.url", SLOW);
            return tables;
        };
        (tables.decoders[i], tables.plans[i]) = fitted.unzip();
    }
    for (i, route) in config.row_routes.iter().enumerate() {
        // A report of its own would be of no route: what is found stays.
        report.routes.push(RouteReport::of(route));
        let checked = timeout(within, checker.route(&route.path, route, report)).await;
        report.routes.pop();
        let Ok(fitted) = checked else {
            report.fail(&no_answer(&config.clickhouse), "clickhouse.url", SLOW);
            return tables;
        };
        tables.plans[config.routes.len() + i] = fitted.map(|(_, plan)| plan);
    }
    if let Some(table) = &config.dead_letters.table
        && timeout(within, checker.dead_letters(table, report)).await.is_err()
    {
        report.fail(&no_answer(&config.clickhouse), "clickhouse.url", SLOW);
    }
    tables.schema = Some(checker.schema);
    tables
}

/// Asks each server who it is; the first that answers is asked all the rest.
async fn servers(config: &ClickHouse, report: &mut Report) -> Option<(SchemaClient, String)> {
    let all = match client::servers(config) {
        Ok(all) => all,
        Err(error) => {
            report.fail(&error, "clickhouse.tls", "");
            return None;
        }
    };
    if let Err(error) = config.ask_password().await {
        report.fail(&error, "clickhouse.password", advice::for_error(&error));
        return None;
    }
    let mut first = None;
    let mut errors = Vec::new();
    for (i, server) in all.iter().enumerate() {
        let url = &server.url;
        let ask = async {
            let schema = SchemaClient::connect(std::slice::from_ref(server), &config.database).await?;
            let who: Vec<Who> =
                schema.rows("SELECT version() AS version, currentUser() AS user", &[]).await?;
            Ok::<_, Error>((schema, who.into_iter().next()))
        };
        let asked = timeout(config.connect_timeout, ask).await;
        let mut server = Server {
            url: url.clone(),
            reachable: false,
            version: None,
            user: None,
            tls: encryption(config, url).await,
        };
        match asked.unwrap_or_else(|_| Err(no_answer(config))) {
            Ok((schema, who)) => {
                let (version, user) = who.map(|who| (who.version, who.user)).unzip();
                first = first.or_else(|| Some((schema, user.clone().unwrap_or_default())));
                server = Server { reachable: true, version, user, ..server };
            }
            Err(error) => errors.push((option("clickhouse.url", i, config.urls.len()), error)),
        }
        report.clickhouse.push(server);
    }
    // With several, the others do the work meanwhile.
    let level = if first.is_some() { Level::Warning } else { Level::Error };
    for (path, error) in errors {
        report.add_finding(level, error.code(), path, error.to_string(), advice::for_error(&error));
    }
    first
}

async fn encryption(config: &ClickHouse, url: &str) -> Option<TlsInfo> {
    let url: http::Uri = url.parse().ok()?;
    if url.scheme_str() != Some("https") {
        return None;
    }
    let host = url.host()?.trim_start_matches('[').trim_end_matches(']');
    tls_probe::probe(host, url.port_u16().unwrap_or(443), &config.tls, config.connect_timeout).await
}

/// The path of an option that may be one value or a list.
pub fn option(name: &str, i: usize, count: usize) -> String {
    if count > 1 { format!("{name}[{i}]") } else { name.into() }
}

struct TableChecker<'a> {
    schema: SchemaClient,
    user: String,
    config: &'a ClickHouse,
}

impl TableChecker<'_> {
    /// Checks the table of a route; its report is the last one.
    async fn route(
        &self,
        path: &str,
        route: &Route,
        report: &mut Report,
    ) -> Option<(Decoder, Arc<TablePlan>)> {
        let table = match self.schema.table(path, route).await {
            Ok(table) => table,
            Err(error) => {
                self.no_table(path, &route.table, &error, report).await;
                return None;
            }
        };
        if let Err(error) = table.check_keeps_rows(path, route) {
            report.fail(&error, &format!("{path}.table"), advice::for_error(&error));
        }
        let (decoder, route) = fitted(path, route, &table, report);
        if let Some(Err(error)) = decoder.as_ref().map(|decoder| check_rules(&route, decoder)) {
            report.fail(&error, path, advice::for_error(&error));
        }
        let plan = TablePlan::new(0, &route, table.clone(), &Arc::default()).ok().map(Arc::new);
        let Ok(columns) = self.schema.columns(&route.table).await else { return decoder.zip(plan) };
        for name in route.unused_names(|name| table.has_column(name)) {
            report.add_finding(
                Level::Warning,
                "TOPIC_NAME_UNUSED",
                format!("{path}.topic"),
                format!("{{{name}}} fills nothing: {} has no column {name}", route.table),
                format!("add the column, or say which one it fills: columns: {{ <column>: {{ topic: '{name}' }} }}"),
            );
        }
        let described =
            columns.into_iter().map(|column| ColumnReport::of(column, &route, decoder.as_ref())).collect();
        let deduplication = self.deduplication(path, &route.table, report).await;
        self.views(path, &route.table, report).await;
        let inserted = match &decoder {
            Some(decoder) => Some(self.insert(path, &route, &table, decoder, report).await),
            None => None,
        };
        if let Some(seen) = report.routes.last_mut() {
            seen.engine = deduplication.first().map(|own| own.engine.clone());
            seen.columns = described;
            seen.deduplication = deduplication;
            (seen.insert, seen.insert_ms) = inserted.unzip();
        }
        decoder.zip(plan)
    }

    /// Why a table could not be checked.
    async fn no_table(&self, path: &str, table: &str, error: &Error, report: &mut Report) {
        let (database, name) = self.schema.split(table);
        let advice = match error {
            Error::TableNotFound { .. } => self.suggest_table(database, name).await,
            Error::ClickHouseRejected { exception: Some(ACCESS_DENIED), .. } => {
                let message = format!("{} may not ask what a pipeline asks at its start: {error}", self.user);
                let advice = format!(
                    "GRANT SELECT ON system.tables TO {0}; GRANT SELECT ON system.columns TO {0}",
                    quote(&self.user)
                );
                return report.add_finding(
                    Level::Error,
                    "GRANT_MISSING",
                    "clickhouse.username",
                    message,
                    advice,
                );
            }
            error => advice::for_error(error).into(),
        };
        report.fail(error, &format!("{path}.table"), advice);
    }

    /// A table with a similar name, for a table that does not exist.
    async fn suggest_table(&self, database: &str, name: &str) -> String {
        let yes = async |sql: &str| match self.schema.rows::<Answer>(sql, &[]).await {
            Ok(answers) => Some(answers.first().is_some_and(|answer| answer.result == 1)),
            // It is not for us to know.
            Err(_) => None,
        };
        let whole = format!("{}.{}", quote(database), quote(name));
        if yes(&format!("EXISTS DATABASE {}", quote(database))).await == Some(false) {
            return format!(
                "there is no database {database}: correct clickhouse.database or the table's name"
            );
        }
        if yes(&format!("EXISTS TABLE {whole}")).await.is_none() {
            return format!(
                "create it; if it is there, {0} may not see it: GRANT INSERT ON {whole} TO {1}",
                self.user,
                quote(&self.user)
            );
        }
        let alike = "SELECT name FROM system.tables WHERE database = ? AND editDistanceUTF8(lower(name), lower(?)) <= 3 \
                     ORDER BY editDistanceUTF8(lower(name), lower(?)) LIMIT 1";
        let meant: Vec<Name> = self.schema.rows(alike, &[database, name, name]).await.unwrap_or_default();
        match meant.first() {
            Some(Name { name: meant }) => format!("did you mean {meant}? Otherwise create it"),
            None => "create it; proposeTable() of millrace proposes one for sample payloads".into(),
        }
    }

    /// Whether an INSERT into the table, and into those behind its views, is recognised when it is made again.
    async fn deduplication(&self, path: &str, table: &str, report: &mut Report) -> Vec<Deduplication> {
        let reached = match self.schema.reached(table).await {
            Ok(reached) => reached,
            Err(error) => {
                report.fail(&error, &format!("{path}.table"), advice::for_error(&error));
                return Vec::new();
            }
        };
        for doubtful in reached.iter().filter(|reached| reached.lacks_window()) {
            let path = format!("{path}.table");
            report.add_finding(
                Level::Warning,
                "DEDUPLICATION_OFF",
                path,
                doubtful.doubt(),
                doubtful.remedy(),
            );
        }
        reached.iter().map(Deduplication::of).collect()
    }

    /// Whether the views behind a table get the rights that they need.
    async fn views(&self, path: &str, table: &str, report: &mut Report) {
        let rights = match self.schema.view_rights(table, &self.user).await {
            Ok(rights) => rights,
            Err(error) => return report.fail(&error, &format!("{path}.table"), advice::for_error(&error)),
        };
        for right in rights {
            let (level, code, path) = match right.is_missing {
                true => (Level::Error, "GRANT_MISSING", "clickhouse.username".into()),
                false => (Level::Warning, "VIEW_RIGHTS_UNKNOWN", format!("{path}.table")),
            };
            let message = right.explain(table);
            report.add_finding(level, code, path, message, right.statement);
        }
    }

    /// An INSERT of no rows, with all that one of rows would have: whether it was taken, and in how many milliseconds.
    async fn insert(
        &self,
        path: &str,
        route: &Route,
        table: &Table,
        decoder: &Decoder,
        report: &mut Report,
    ) -> (bool, f64) {
        let block = BlockEncoder::new(self.config.compression).encode(
            decoder.heads(),
            &decoder.block_columns(),
            &CompressionHints::default(),
        );
        let (sql, token) = (table.insert_sql(decoder.heads()), format!("check-{:016x}", random_bits()));
        let insert = Insert {
            sql: &sql,
            frames: std::slice::from_ref(&block.frames),
            rows: 0,
            block_bytes: block.block_bytes,
            token: &token,
            views: ViewMode::Normal,
        };
        let began = Instant::now();
        let attempt = insert.attempt(&self.schema.server, self.config, true).await;
        let took = began.elapsed().as_secs_f64() * 1000.0;
        let Err(failure) = attempt else { return (true, took) };
        let (database, name) = self.schema.split(&route.table);
        match &failure.error {
            error @ Error::ClickHouseRejected { exception: Some(ACCESS_DENIED), .. } => report.add_finding(
                Level::Error,
                "GRANT_MISSING",
                "clickhouse.username",
                format!("{} may not insert into {database}.{name}: {error}", self.user),
                format!("GRANT INSERT ON {}.{} TO {}", quote(database), quote(name), quote(&self.user)),
            ),
            error @ Error::ClickHouseRejected { exception: Some(advice::UNKNOWN_SETTING), .. } => {
                report.fail(error, "clickhouse.settings", advice::for_error(error));
            }
            error => report.fail(error, &format!("{path}.table"), advice::for_error(error)),
        }
        (false, took)
    }

    /// The table of dead letters, which `start()` creates if it is not there.
    async fn dead_letters(&self, table: &str, report: &mut Report) {
        const PATH: &str = "deadLetters.table";
        let mut rights = vec!["INSERT"];
        match self.schema.check(PATH, table, store::column_names()).await {
            Ok(()) => {
                self.deduplication("deadLetters", table, report).await;
            }
            Err(Error::TableNotFound { .. }) => {
                rights.push("CREATE TABLE");
                let message = format!("{table} is not there yet: start() creates it");
                report.add_finding(Level::Note, "TABLE_CREATED_AT_START", PATH, message, "");
            }
            Err(error) => {
                report.fail(
                    &error,
                    PATH,
                    "drop the table or name another: start() creates what is not there",
                );
            }
        }
        let (database, name) = self.schema.split(table);
        let whole = format!("{}.{}", quote(database), quote(name));
        let mut rights: Vec<_> = rights.into_iter().map(|right| (right, whole.as_str())).collect();
        if rights.iter().any(|(right, _)| *right == "CREATE TABLE") {
            rights.push(("TABLE ENGINE", "MergeTree"));
        }
        for (right, whole) in rights {
            let sql = format!("CHECK GRANT {right} ON {whole}");
            // Older servers do not know the question.
            let Ok(answers) = self.schema.rows::<Answer>(&sql, &[]).await else { continue };
            if answers.first().is_some_and(|answer| answer.result == 0) {
                report.add_finding(
                    Level::Error,
                    "GRANT_MISSING",
                    PATH,
                    format!("{} lacks {right} on {database}.{name}, which dead letters need", self.user),
                    format!("GRANT {right} ON {whole} TO {}", quote(&self.user)),
                );
            }
        }
    }
}

/// The decoder, and the route as far as its columns can be filled; each column that cannot is reported.
fn fitted(path: &str, route: &Route, table: &Table, report: &mut Report) -> (Option<Decoder>, Route) {
    let mut route = route.clone();
    loop {
        let error = match Decoder::new(path, &route, &table.columns) {
            Ok(decoder) => return (Some(decoder), route),
            Err(error) => error,
        };
        report.fail(&error, path, advice::for_error(&error));
        let at =
            error.path().unwrap_or_default().strip_prefix(&format!("{path}.columns.")).unwrap_or_default();
        let is_it =
            |name: &str| at == name || at.strip_prefix(name).is_some_and(|rest| rest.starts_with('.'));
        let before = route.columns.len();
        route.columns.retain(|(name, _)| !is_it(name));
        if route.columns.len() == before {
            return (None, route);
        }
    }
}

impl RouteReport {
    fn of(route: &Route) -> RouteReport {
        RouteReport {
            topic: route.topic.as_str().into(),
            table: route.table.clone(),
            engine: None,
            columns: Vec::new(),
            rules: rules::of(route),
            insert: None,
            insert_ms: None,
            deduplication: Vec::new(),
        }
    }

    pub fn insert_ms(&self) -> Option<f64> {
        self.insert_ms
    }
}

impl Deduplication {
    fn of(reached: &InsertTarget) -> Deduplication {
        Deduplication {
            table: reached.table(),
            engine: reached.engine.clone(),
            view: reached.view(),
            on: !reached.lacks_window(),
            window: reached.window,
        }
    }
}
