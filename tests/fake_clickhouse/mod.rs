//! A ClickHouse server inside a test: it speaks HTTP, stores rows, and answers as a server does or as a
//! script says.
//!
//! - It knows tables by their name, whatever the database. It answers the engine's queries on
//!   `system.columns` and `system.tables`, and stores the rows of Native blocks of simple types; a
//!   request that it does not know is a panic with a message.
//! - An INSERT is stored completely or not at all. A table with a window recognises the token of an
//!   INSERT together with the number of its block, as ClickHouse does; with
//!   `use_strict_insert_block_limits=1` all blocks of an INSERT are one.
//! - A view gets the rows after the table has them, and remembers blocks for itself.
//! - [`Server::script`] says how the next INSERTs are answered, one each; later ones are answered as by
//!   a server.

mod http;
mod native;

use std::collections::{BTreeMap, HashSet, VecDeque};
use std::sync::{Arc, Condvar, Mutex, MutexGuard};
use std::time::Duration;

use serde_json::{Value, json};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::sync::Notify;

use http::{Request, Response};

/// A row: column → value as text; NULL is `NULL`.
pub type Row = BTreeMap<String, String>;
type Refuses = Arc<dyn Fn(&Row) -> bool + Send + Sync>;

/// How long a test waits for what must happen.
const LONG: Duration = Duration::from_secs(30);

/// How an INSERT is answered.
#[derive(Clone)]
pub enum Answer {
    /// As by a server.
    Normal,
    /// The same, but by the limit that is set.
    Limited,
    /// `Code: N. DB::Exception: …`; nothing is stored.
    Exception(u32, &'static str),
    /// The same after `200 OK` and the first bytes of an answer.
    LateException(u32, &'static str),
    /// An answer that is not ClickHouse's.
    Status(u16, &'static str),
    /// The connection ends before an answer; nothing is stored.
    Cut,
    /// Everything is stored, and the connection ends before the answer; what is refused is answered.
    StoredAndCut,
    /// The server ends: it has noted the token and not stored the rows, as a MergeTree does it. It starts again at once.
    LostInACrash,
    /// The same, but the rows are stored.
    StoredInACrash,
    /// Waits until [`Gate::open`], then answers as a server.
    Held(Gate),
    /// No answer ever comes; nothing is stored.
    Silence,
}

/// A scripted answer to a query.
#[derive(Clone)]
pub enum QueryAnswer {
    Exception(u32, &'static str),
    Status(u16, &'static str),
    /// The first bytes, this many, of an endless list of rows.
    Rows(usize),
    /// Rows, and then an exception; `true`: with a tag, as servers from 25.11 on write it.
    LateException(u32, &'static str, bool),
}

/// Holds an answer back.
#[derive(Clone, Default)]
pub struct Gate(Arc<Notify>);

impl Gate {
    pub fn open(&self) {
        self.0.notify_one();
    }
}

/// An INSERT as it came.
#[derive(Debug, Clone)]
pub struct Insert {
    pub sql: String,
    pub settings: BTreeMap<String, String>,
    pub token: String,
    /// The rows of each block.
    pub blocks: Vec<Vec<Row>>,
    pub body: Vec<u8>,
    /// On the clock of the server's runtime.
    pub at: tokio::time::Instant,
}

impl Insert {
    pub fn table(&self) -> &str {
        let name = self.sql.strip_prefix("INSERT INTO ").unwrap().split(" (").next().unwrap();
        name.rsplit('.').next().unwrap().trim_matches('`')
    }
}

struct Table {
    /// Name, type, and the DEFAULT's expression.
    columns: Vec<(String, String, Option<String>)>,
    /// How many blocks it remembers: none, or all.
    remembers: bool,
    target: Target,
    view: Option<Target>,
    /// The column that is the partition key, and how many partitions a block may have.
    partitions: Option<(String, usize)>,
}

/// A target of rows.
#[derive(Default)]
struct Target {
    rows: Vec<Row>,
    blocks: HashSet<(String, usize)>,
    refuses: Option<Refuses>,
}

#[derive(Default)]
struct State {
    tables: BTreeMap<String, Table>,
    script: VecDeque<Answer>,
    inserts: Vec<Insert>,
    /// INSERTs of no rows, which ask whether statement and settings are right.
    probes: Vec<Insert>,
    /// The exception that every INSERT gets, also one of no rows.
    failing: Option<(u32, &'static str)>,
    /// The same of one table.
    failing_tables: BTreeMap<String, (u32, &'static str)>,
    /// An INSERT of more rows gets this status, or this exception.
    limit: Option<(usize, Answer)>,
    /// The exception that a setting gives which this server does not know.
    unknown_setting: Option<&'static str>,
    /// When it was started last. `None`: long ago.
    started_at: Option<std::time::Instant>,
    /// The exception of an INSERT that reads the table.
    unreadable: Option<(u32, &'static str)>,
    /// How the next queries are answered, one each.
    query_script: VecDeque<QueryAnswer>,
    partition_queries: usize,
    misjudged: Option<Answer>,
    /// After how many bytes the next answers with rows of a table are cut.
    cuts: VecDeque<usize>,
}

#[derive(Clone, Default)]
pub struct Server(Arc<Shared>);

#[derive(Default)]
struct Shared {
    state: Mutex<State>,
    changed: Condvar,
}

impl Server {
    fn state(&self) -> MutexGuard<'_, State> {
        self.0.state.lock().unwrap()
    }

    /// Makes a table, or another one of the same name. A column is `name Type` or `name Type DEFAULT expression`.
    pub fn create(&self, name: &str, columns: &[&str]) {
        let columns = columns.iter().map(|column| {
            let (name, rest) = column.split_once(' ').unwrap();
            let (column_type, default) = rest.split_once(" DEFAULT ").unzip();
            (name.into(), column_type.unwrap_or(rest).into(), default.map(Into::into))
        });
        let table = Table {
            columns: columns.collect(),
            remembers: true,
            target: Target::default(),
            view: None,
            partitions: None,
        };
        self.state().tables.insert(name.into(), table);
    }

    /// ALTER: other columns, the same rows.
    pub fn alter(&self, name: &str, columns: &[&str]) {
        let before = self.state().tables.remove(name).unwrap();
        self.create(name, columns);
        let mut state = self.state();
        let now = state.tables.get_mut(name).unwrap();
        (now.target, now.view, now.remembers) = (before.target, before.view, before.remembers);
    }

    /// The table is partitioned by a column, and a block of more partitions is refused with code 252.
    pub fn partition(&self, name: &str, column: &str, limit: usize) {
        self.state().tables.get_mut(name).unwrap().partitions = Some((column.into(), limit));
    }

    /// The next queries are answered so.
    pub fn script_queries(&self, answers: impl IntoIterator<Item = QueryAnswer>) {
        self.state().query_script.extend(answers);
    }

    /// Queries for the partitions of rows get this answer; `Answer::Normal`: all rows are of one partition.
    pub fn misjudge_partitions(&self, answer: Answer) {
        self.state().misjudged = Some(answer);
    }

    /// How often somebody asked for the partitions of rows.
    pub fn partition_queries(&self) -> usize {
        self.state().partition_queries
    }

    pub fn drop_table(&self, name: &str) {
        self.state().tables.remove(name);
    }

    /// A constraint: an INSERT with such a row is refused with code 469.
    pub fn refuse(&self, name: &str, refuses: impl Fn(&Row) -> bool + Send + Sync + 'static) {
        self.state().tables.get_mut(name).unwrap().target.refuses = Some(Arc::new(refuses));
    }

    /// A materialized view behind a table, which fails with code 395 for such a row.
    pub fn view(&self, name: &str, refuses: impl Fn(&Row) -> bool + Send + Sync + 'static) {
        let view = Target { refuses: Some(Arc::new(refuses)), ..Target::default() };
        self.state().tables.get_mut(name).unwrap().view = Some(view);
    }

    /// No user may read the tables.
    pub fn forbid_reading(&self, exception: (u32, &'static str)) {
        self.state().unreadable = Some(exception);
    }

    /// It is ended and started again.
    pub fn restart(&self) {
        self.state().started_at = Some(std::time::Instant::now());
    }

    /// INSERTs that carry this setting are refused with code 115.
    pub fn forget_setting(&self, name: &'static str) {
        self.state().unknown_setting = Some(name);
    }

    /// The next SELECT of rows is cut after `bytes` of its answer.
    pub fn cut_read(&self, bytes: usize) {
        self.state().cuts.push_back(bytes);
    }

    /// A table that recognises no INSERT.
    pub fn forget_tokens(&self, name: &str) {
        self.state().tables.get_mut(name).unwrap().remembers = false;
    }

    /// Every INSERT is refused so, whatever its rows are, until `None` is said.
    pub fn fail_all(&self, exception: Option<(u32, &'static str)>) {
        self.state().failing = exception;
    }

    /// The same of INSERTs into one table.
    pub fn fail_table(&self, table: &str, exception: Option<(u32, &'static str)>) {
        let mut state = self.state();
        match exception {
            Some(exception) => drop(state.failing_tables.insert(table.into(), exception)),
            None => drop(state.failing_tables.remove(table)),
        }
    }

    /// INSERTs of more than `rows` rows are answered so.
    pub fn limit(&self, rows: usize, answer: Answer) {
        self.state().limit = Some((rows, answer));
    }

    pub fn script(&self, answers: impl IntoIterator<Item = Answer>) {
        self.state().script.extend(answers);
    }

    pub fn rows(&self, table: &str) -> Vec<Row> {
        self.state().tables[table].target.rows.clone()
    }

    /// One column of the rows of a table, sorted.
    pub fn values(&self, table: &str, column: &str) -> Vec<String> {
        sorted(&self.rows(table), column)
    }

    /// The same of the view behind it.
    pub fn view_values(&self, table: &str, column: &str) -> Vec<String> {
        sorted(&self.state().tables[table].view.as_ref().unwrap().rows, column)
    }

    /// All INSERTs so far, also those that were refused or cut.
    pub fn inserts(&self) -> Vec<Insert> {
        self.state().inserts.clone()
    }

    /// Waits until `count` INSERTs of no rows have come.
    pub fn wait_for_probes(&self, count: usize) {
        self.wait(|state| state.probes.len() >= count);
    }

    /// Waits until `count` INSERTs have come.
    pub fn wait_for_inserts(&self, count: usize) {
        self.wait(|state| state.inserts.len() >= count);
    }

    fn wait(&self, is_reached: impl Fn(&State) -> bool) {
        let waited = self.0.changed.wait_timeout_while(self.state(), LONG, |state| !is_reached(state));
        let (state, timeout) = waited.unwrap();
        assert!(!timeout.timed_out(), "{} INSERTs", state.inserts.len());
    }

    /// Answers the requests of one connection until it ends.
    pub async fn serve(self, mut stream: impl AsyncRead + AsyncWrite + Unpin) {
        let mut buffer = Vec::new();
        while let Some(request) = http::read(&mut stream, &mut buffer).await {
            let response = match request.params.get("query") {
                Some(sql) if sql.starts_with("INSERT") => self.insert(sql.clone(), request).await,
                Some(sql) => self.partitions_of(sql, &request),
                None => Some(self.query(&request)),
            };
            // A connection that is dropped is cut.
            let Some(response) = response else { return };
            if http::write(&mut stream, &response).await.is_err() {
                return;
            }
        }
    }

    async fn insert(&self, sql: String, mut request: Request) -> Option<Response> {
        request.params.remove("query");
        let token = request.params.get("insert_deduplication_token").cloned().unwrap_or_default();
        let (heads, blocks) = native::blocks(&request.body);
        let at = tokio::time::Instant::now();
        let insert = Insert { sql, settings: request.params, token, blocks, body: request.body, at };
        let answer = {
            let mut state = self.state();
            let rows: usize = insert.blocks.iter().map(Vec::len).sum();
            let scripted = if rows == 0 {
                state.probes.push(insert.clone());
                None
            } else {
                state.inserts.push(insert.clone());
                state.script.pop_front()
            };
            let over = state.limit.clone().filter(|(limit, _)| rows > *limit).map(|(_, answer)| answer);
            let failing = state.failing.or_else(|| state.failing_tables.get(insert.table()).copied());
            let failing = failing.map(|(code, text)| Answer::Exception(code, text));
            let scripted = scripted.filter(|answer| !matches!(answer, Answer::Limited));
            failing.or(scripted).or(over).unwrap_or(Answer::Normal)
        };
        self.0.changed.notify_all();
        match answer {
            Answer::Normal | Answer::Limited => {}
            Answer::Exception(code, text) => return Some(Response::exception(code, text)),
            Answer::LateException(code, text) => return Some(Response::late_exception(code, text)),
            Answer::Status(status, text) => return Some(Response::new(status, text)),
            Answer::Cut => return None,
            Answer::LostInACrash => {
                let mut state = self.state();
                state.started_at = Some(std::time::Instant::now());
                if let Some(table) = state.tables.get_mut(insert.table()) {
                    table
                        .target
                        .blocks
                        .extend((0..insert.blocks.len()).map(|block| (insert.token.clone(), block)));
                }
                return None;
            }
            Answer::StoredInACrash => {
                let mut state = self.state();
                state.started_at = Some(std::time::Instant::now());
                // A refused INSERT is not stored in a crash either.
                let _ = state.store(&insert, &heads);
                return None;
            }
            Answer::StoredAndCut => {
                if self.state().store(&insert, &heads).is_ok() {
                    return None;
                }
            }
            Answer::Held(gate) => gate.0.notified().await,
            Answer::Silence => std::future::pending().await,
        }
        let stored = self.state().store(&insert, &heads);
        Some(match stored {
            Ok(rows) => Response::summary(rows),
            Err((code, text)) => Response::exception(code, &text),
        })
    }

    /// A number for each row of the block in a form: rows with equal numbers are of one partition. `None`: no answer.
    fn partitions_of(&self, sql: &str, request: &Request) -> Option<Response> {
        assert!(request.params.contains_key("sent_structure"), "nothing answers {sql}");
        let mut state = self.state();
        state.partition_queries += 1;
        let body = &request.body;
        let begin = body.windows(4).position(|bytes| bytes == b"\r\n\r\n").unwrap() + 4;
        let end = body.windows(6).rposition(|bytes| bytes == b"\r\n--mi").unwrap();
        let (_, blocks) = native::plain(&body[begin..end]);
        let column = sql.split("'RowBinary', ").nth(1).unwrap().split(')').next().unwrap();
        let number = |row: &Row| row[column].bytes().fold(7_u64, |hash, byte| hash * 31 + u64::from(byte));
        let mut numbers: Vec<u64> = blocks.iter().flatten().map(number).collect();
        match &state.misjudged {
            None => {}
            Some(Answer::Exception(code, text)) => return Some(Response::exception(*code, text)),
            Some(Answer::Status(status, text)) => return Some(Response::new(*status, text)),
            Some(Answer::Cut) => return None,
            // All of one partition.
            Some(_) => numbers.iter_mut().for_each(|number| *number = 1),
        }
        Some(Response::bytes(numbers.iter().flat_map(|number| number.to_le_bytes()).collect(), None))
    }

    fn query(&self, request: &Request) -> Response {
        let sql = String::from_utf8(request.body.clone()).unwrap();
        let mut state = self.state();
        match state.query_script.pop_front() {
            None => {}
            Some(QueryAnswer::Exception(code, text)) => return Response::exception(code, text),
            Some(QueryAnswer::Status(status, text)) => return Response::new(status, text),
            Some(QueryAnswer::Rows(bytes)) => {
                let row = b"{\"name\":\"seq\",\"type\":\"UInt32\",\"default_kind\":\"\",\"default_expression\":\"\"}\n";
                return Response::bytes(row.iter().copied().cycle().take(bytes).collect(), None);
            }
            Some(QueryAnswer::LateException(code, text, true)) => {
                return Response::late_exception(code, text);
            }
            Some(QueryAnswer::LateException(code, text, false)) => {
                return Response::untagged_exception(code, text);
            }
        }
        let mut names = sql.split(" = '").skip(1).map(|rest| rest.split('\'').next().unwrap());
        let rows: Vec<Value> = if sql.starts_with("SELECT timezone()") {
            vec![json!({ "zone": "UTC" })]
        } else if sql.contains("uptime()") {
            let uptime = state.started_at.map_or(1 << 30, |at| at.elapsed().as_secs());
            vec![json!({ "seconds": uptime })]
        } else if sql.contains("FROM system.columns") {
            state.columns(names.nth(1).unwrap())
        } else if sql.contains("FROM system.tables") {
            state.table(names.last().unwrap())
        } else if sql.starts_with("SELECT toUnixTimestamp64Milli") {
            let cut_at = state.cuts.pop_front();
            return Response::bytes(state.dead_letters(&sql), cut_at);
        } else if let Some(rest) = sql.strip_prefix("CREATE TABLE IF NOT EXISTS ") {
            let (name, rest) = rest.split_once(" (").unwrap();
            let columns = rest.split(") ENGINE").next().unwrap();
            drop(state);
            self.create(name.trim_matches('`'), &split_columns(columns));
            Vec::new()
        } else {
            panic!("nothing answers {sql}")
        };
        let text: String = rows.iter().map(|row| format!("{row}\n")).collect();
        Response::new(200, &text)
    }
}

/// At the commas that stand in no parentheses.
fn split_columns(list: &str) -> Vec<&str> {
    let (mut columns, mut depth, mut start) = (Vec::new(), 0, 0);
    for (at, byte) in list.bytes().enumerate() {
        match byte {
            b'(' => depth += 1,
            b')' => depth -= 1,
            b',' if depth == 0 => {
                columns.push(list[start..at].trim());
                start = at + 1;
            }
            _ => {}
        }
    }
    columns.push(list[start..].trim());
    columns
}

fn sorted(rows: &[Row], column: &str) -> Vec<String> {
    let mut values: Vec<String> = rows.iter().map(|row| row[column].clone()).collect();
    values.sort_by_key(|value| (value.len(), value.clone()));
    values
}

impl State {
    fn columns(&self, table: &str) -> Vec<Value> {
        let Some(table) = self.tables.get(table) else { return Vec::new() };
        let row = |(name, column_type, default): &(String, String, Option<String>)| {
            json!({
                "name": name, "type": column_type, "comment": "", "default_expression": default.as_deref().unwrap_or(""),
                "default_kind": if default.is_some() { "DEFAULT" } else { "" },
            })
        };
        table.columns.iter().map(row).collect()
    }

    fn table(&self, name: &str) -> Vec<Value> {
        if let Some(of) = name.strip_prefix("view_of_") {
            return vec![json!({
                "engine": "MaterializedView", "engine_full": "", "as_select": "", "create_table_query": "", "dependencies_database": [], "dependencies_table": [],
                "target_database": "d", "target_table": format!("target_of_{of}"),
            })];
        }
        let table = self.tables.get(name.strip_prefix("target_of_").unwrap_or(name));
        let Some(table) = table else { return Vec::new() };
        let window = if table.remembers { 1000 } else { 0 };
        let has_view = table.view.is_some() && !name.starts_with("target_of_");
        let views: Vec<String> = has_view.then(|| format!("view_of_{name}")).into_iter().collect();
        vec![json!({
            "engine": "MergeTree",
            "engine_full": format!("MergeTree ORDER BY tuple() SETTINGS non_replicated_deduplication_window = {window}"),
            "dependencies_database": vec!["d"; views.len()], "dependencies_table": views, "plain_window": "0",
            "replicated_window": "1000", "partition_key": table.partitions.as_ref().map_or("", |(column, _)| column),
        })]
    }

    /// Dead letters as RowBinary, in order of receipt.
    fn dead_letters(&self, sql: &str) -> Vec<u8> {
        let name = sql.split("FROM `").nth(1).unwrap().split('`').next().unwrap();
        let from = sql.split("fromUnixTimestamp64Milli(").nth(1).map(|rest| rest.split(')').next().unwrap());
        let from: i64 = from.map_or(i64::MIN, |from| from.parse().unwrap());
        let received_at = |row: &Row| row["received_at"].parse::<i64>().unwrap();
        let mut rows = self.tables[name].target.rows.clone();
        rows.retain(|row| received_at(row) >= from);
        rows.sort_by_key(|row| (received_at(row), row["payload"].clone()));
        let mut out = Vec::new();
        for row in rows {
            out.extend(received_at(&row).to_le_bytes());
            out.extend(row["route"].parse::<i32>().unwrap().to_le_bytes());
            for column in ["topic", "payload", "error_code", "error"] {
                let text = row[column].as_bytes();
                // A length of two bytes, whatever it is.
                out.extend([text.len() as u8 | 0x80, (text.len() >> 7) as u8]);
                out.extend(text);
            }
        }
        out
    }

    /// Stores an INSERT as a server does; returns the number of rows written.
    fn store(&mut self, insert: &Insert, heads: &[(String, String)]) -> Result<usize, (u32, String)> {
        if let Some(setting) = self.unknown_setting
            && insert.settings.contains_key(setting)
        {
            return Err((
                115,
                format!("Setting {setting} is neither a builtin setting nor started with a prefix"),
            ));
        }
        let name = insert.table();
        let Some(table) = self.tables.get_mut(name) else {
            return Err((60, format!("Table d.{name} does not exist")));
        };
        for (column, sent) in heads {
            match table.columns.iter().find(|(name, ..)| name == column) {
                None => return Err((16, format!("No such column {column} in table d.{name}"))),
                // A DEFAULT is asked for by NULL; LowCardinality does not change the type.
                Some((_, held, default))
                    if *held != *sent && *held != format!("LowCardinality({sent})") && default.is_none() =>
                {
                    return Err((53, format!("Cannot convert: {sent} to {held} of {column}")));
                }
                Some(_) => {}
            }
        }
        let is = |setting, value: &str| insert.settings.get(setting).is_some_and(|is| is == value);
        let blocks: Vec<Vec<Row>> = match is("use_strict_insert_block_limits", "1") {
            true => vec![insert.blocks.concat()],
            false => insert.blocks.clone(),
        };
        let blocks: Vec<Vec<Row>> = match insert.sql.contains(" NOT IN (SELECT ") {
            false => blocks,
            true => {
                if let Some((code, text)) = self.unreadable {
                    return Err((code, text.into()));
                }
                // As the statement compares: by the columns without a DEFAULT.
                let plain: Vec<&String> = table
                    .columns
                    .iter()
                    .filter(|column| column.2.is_none())
                    .map(|column| &column.0)
                    .collect();
                let is_like =
                    |one: &Row, other: &Row| plain.iter().all(|name| one.get(*name) == other.get(*name));
                let is_lacking = |row: &Row| !table.target.rows.iter().any(|held| is_like(held, row));
                blocks.into_iter().map(|block| block.into_iter().filter(is_lacking).collect()).collect()
            }
        };
        if let Some((column, limit)) = &table.partitions {
            let most =
                blocks.iter().map(|block| block.iter().map(|row| &row[column]).collect::<HashSet<_>>().len());
            if most.max().unwrap_or(0) > *limit {
                let text =
                    format!("Too many partitions for single INSERT block (more than {limit}). The limit is");
                return Err((252, text));
            }
        }
        let refused = |refuses: &Option<Refuses>| {
            let refuses = refuses.as_ref()?;
            blocks.iter().flatten().find(|row| refuses(row)).map(|row| format!("{row:?}"))
        };
        if let Some(row) = refused(&table.target.refuses) {
            return Err((469, format!("Constraint `c` for table d.{name} is violated: {row}")));
        }
        table.target.put(&blocks, &insert.token, table.remembers);
        if let Some(view) = &mut table.view {
            if let Some(row) = refused(&view.refuses)
                && !is("materialized_views_ignore_errors", "1")
            {
                return Err((395, format!("{row}: while pushing to view d.view_of_{name}")));
            }
            // The result of the view is skipped.
            if !insert.settings.contains_key("offset") {
                view.put(&blocks, &insert.token, table.remembers);
            }
        }
        Ok(blocks.iter().map(Vec::len).sum())
    }
}

impl Target {
    fn put(&mut self, blocks: &[Vec<Row>], token: &str, remembers: bool) {
        for (number, block) in blocks.iter().enumerate() {
            if !remembers || self.blocks.insert((token.into(), number)) {
                self.rows.extend(block.iter().cloned());
            }
        }
    }
}

/// A server on a port of its own, on a thread of its own; it ends with this.
pub struct Listening {
    pub server: Server,
    pub url: String,
    end: Option<(Arc<Notify>, std::thread::JoinHandle<()>)>,
}

impl Listening {
    pub fn start() -> Listening {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        listener.set_nonblocking(true).unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let (server, end) = (Server::default(), Arc::new(Notify::new()));
        let (serving, until) = (server.clone(), end.clone());
        let thread = std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
            runtime.block_on(async {
                let listener = tokio::net::TcpListener::from_std(listener).unwrap();
                loop {
                    tokio::select! {
                        () = until.notified() => return,
                        accepted = listener.accept() => {
                            let stream = accepted.unwrap().0;
                            stream.set_nodelay(true).unwrap();
                            tokio::spawn(serving.clone().serve(stream));
                        }
                    }
                }
            });
        });
        Listening { server, url, end: Some((end, thread)) }
    }
}

impl Drop for Listening {
    fn drop(&mut self) {
        if let Some((end, thread)) = self.end.take() {
            end.notify_one();
            let ended = thread.join();
            assert!(ended.is_ok() || std::thread::panicking());
        }
    }
}

impl std::ops::Deref for Listening {
    type Target = Server;

    fn deref(&self) -> &Server {
        &self.server
    }
}
