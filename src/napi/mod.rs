//! The binding: it converts and calls, nothing else.
//!
//! Configuration and metrics cross as JSON texts, dead letters with their payloads as Buffers. Slow
//! calls run on a thread of their own and answer by a promise, which always resolves: to `{"ok": …}` or
//! `{"error": …}`. `lib/native.js` turns the latter into a `MillraceError`.

mod check;
mod credentials;
mod dry_run;
mod replay;
mod samples;
mod spool;
mod tap;
mod transform;
mod version;

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Weak};
use std::time::Duration;

use credentials::NativeCredentials;
use napi::bindgen_prelude::{Buffer, FnArgs, Function, Object, Uint8Array};
use napi::threadsafe_function::{ThreadsafeFunction, ThreadsafeFunctionCallMode};
use napi::{Env, Status};
use napi_derive::napi;
use serde::Serialize;
use serde_json::json;
use tap::{NativeSample, NativeTap};
use transform::NativeTransformCall;

use crate::check::generate_types::{describe as describe_tables, tables as taken_tables};
use crate::config::Config;
use crate::core::error::{Error, Result};
use crate::pipeline::growth::create_tables;
use crate::pipeline::{Pipeline, Reply};
use crate::telemetry::events::{Delivered, Event, Listener, Warning};
use crate::telemetry::prometheus;

/// Events that may wait for the JavaScript thread. A thread that is blocked for longer misses some; the
/// number is reported to it.
const QUEUE: usize = 1024;

/// The kind of an event, its content as JSON, and the payloads of dead letters.
type Arguments = FnArgs<(String, String, Vec<Buffer>)>;
/// Weak: events alone do not keep the process alive. `lib/pipeline.js` decides whether a pipeline does.
type Callback = ThreadsafeFunction<Event, (), Arguments, Status, false, true, QUEUE>;

#[napi]
pub struct NativePipeline {
    pipeline: Arc<Pipeline>,
    /// Under which threads of modules find it.
    id: u32,
}

#[napi]
impl NativePipeline {
    /// Throws an error whose message is JSON: `{ code, message, path, cause }`.
    #[napi(constructor)]
    pub fn new(
        env: &Env,
        config: String,
        credentials: &NativeCredentials,
        on_event: Function<'_, FnArgs<(String, String, Vec<Buffer>)>, ()>,
    ) -> napi::Result<NativePipeline> {
        let config = Config::parse(&config).map_err(|error| throw(&error))?;
        credentials.serve(&config);
        let pipeline = Arc::new(Pipeline::new(config, listener(&on_event)?));
        end_with_environment(env, &pipeline, Pipeline::abort)?;
        let id = transform::add_modules(pipeline.config(), pipeline.hosts());
        Ok(NativePipeline { pipeline, id })
    }

    /// The number that a `NativeTransformWorker` names.
    #[napi(getter)]
    pub fn id(&self) -> u32 {
        self.id
    }

    /// Has a function called with each batch of a route.
    #[napi]
    pub fn on_transform(
        &self,
        route: u32,
        callback: Function<'_, FnArgs<(NativeTransformCall,)>, ()>,
    ) -> napi::Result<()> {
        transform::set_function(self.pipeline.hosts(), route, &callback)
    }

    /// Has a function called with samples of what is inserted by a route, at most each `everyMs`.
    #[napi]
    pub fn tap(
        &self,
        route: u32,
        every_ms: f64,
        callback: Function<'_, FnArgs<(NativeSample,)>, ()>,
    ) -> napi::Result<NativeTap> {
        tap::open(&self.pipeline, route, every_ms, &callback)
    }

    #[napi(getter)]
    pub fn state(&self) -> &'static str {
        self.pipeline.state().as_str()
    }

    #[napi(ts_return_type = "Promise<string>")]
    pub fn start<'env>(&self, env: &'env Env) -> napi::Result<Object<'env>> {
        let begun = self.pipeline.begin_start();
        self.run(env, move |pipeline| begun.and_then(|()| pipeline.start()))
    }

    #[napi]
    pub fn cancel_start(&self) {
        self.pipeline.cancel_start();
    }

    #[napi(ts_return_type = "Promise<string>")]
    pub fn flush<'env>(&self, env: &'env Env) -> napi::Result<Object<'env>> {
        self.run(env, |pipeline| pipeline.flush())
    }

    #[napi(ts_return_type = "Promise<string>")]
    pub fn stop<'env>(&self, env: &'env Env, timeout_ms: f64, leaves: bool) -> napi::Result<Object<'env>> {
        // `lib/pipeline.js` has checked that it is a number of milliseconds.
        let timeout = Duration::from_millis(timeout_ms as u64);
        // While it is starting this is not possible yet; `stop` sees to that.
        let _ = self.pipeline.begin_stop();
        self.run(env, move |pipeline| pipeline.stop(timeout, leaves))
    }

    /// Rows for a declared table, as `lib/row-encoder.js` writes them; resolves when they are confirmed or synced.
    #[napi(ts_return_type = "Promise<string>")]
    pub fn insert<'env>(
        &self,
        env: &'env Env,
        table: String,
        rows: Uint8Array,
    ) -> napi::Result<Object<'env>> {
        let (deferred, promise) = env.create_deferred()?;
        // Copied on this thread: the memory is JavaScript's, and used again.
        let reply = Reply::new(move |result| {
            let text = answer(result);
            deferred.resolve(move |_| Ok(text));
        });
        self.pipeline.insert(table, rows.to_vec(), reply);
        Ok(promise)
    }

    /// Adds a column to the table of a route; resolves to `added`, `exists` or `full`.
    #[napi(ts_return_type = "Promise<string>")]
    pub fn add_column<'env>(
        &self,
        env: &'env Env,
        route: u32,
        name: String,
        definition: String,
    ) -> napi::Result<Object<'env>> {
        self.run(env, move |pipeline| pipeline.add_column(route as usize, &name, &definition))
    }

    /// Has the table of a route get no more columns.
    #[napi]
    pub fn end_growth(&self, route: u32) {
        self.pipeline.end_growth(route as usize);
    }

    /// Sets the map of a lookup, as JSON.
    #[napi]
    pub fn set_lookup(&self, name: String, entries: String) -> String {
        answer(self.pipeline.set_lookup(&name, &entries))
    }

    /// The place that the next route gets.
    #[napi]
    pub fn next_place(&self) -> u32 {
        self.pipeline.next_place() as u32
    }

    /// Throws if the options of a route, `{ route }` as JSON, are wrong.
    #[napi]
    pub fn check_route(&self, route: String) -> napi::Result<()> {
        self.pipeline.config().parse_route(&route).map(|_| ()).map_err(|error| throw(&error))
    }

    /// Has threads of modules find the route at a place.
    #[napi]
    pub fn add_module(&self, place: u32) {
        transform::add_module(self.id, self.pipeline.hosts(), place);
    }

    /// Adds a route, `{ route }` as JSON, or replaces the one at a place; resolves to its own place.
    #[napi(ts_return_type = "Promise<string>")]
    pub fn set_route<'env>(
        &self,
        env: &'env Env,
        route: String,
        replaced: Option<u32>,
    ) -> napi::Result<Object<'env>> {
        let operation = if replaced.is_some() { "updateRoute" } else { "addRoute" };
        let replaced = replaced.map(|place| place as usize);
        self.run(env, move |pipeline| pipeline.set_route(operation, &route, replaced))
    }

    #[napi(ts_return_type = "Promise<string>")]
    pub fn remove_route<'env>(&self, env: &'env Env, place: u32) -> napi::Result<Object<'env>> {
        self.run(env, move |pipeline| pipeline.remove_route(place as usize))
    }

    #[napi]
    pub fn pause(&self) -> String {
        answer(self.pipeline.pause())
    }

    #[napi]
    pub fn resume(&self) -> String {
        answer(self.pipeline.resume())
    }

    #[napi]
    pub fn metrics(&self) -> String {
        text(&self.pipeline.metrics())
    }

    /// Counts a warning that JavaScript reports.
    #[napi]
    pub fn count_warning(&self, code: String) {
        self.pipeline.count_warning(&code);
    }

    #[napi]
    pub fn prometheus(&self, runtime: String) -> String {
        prometheus::text(&self.pipeline.families(&runtime))
    }

    /// The metrics of `prometheus`, for other collectors.
    #[napi]
    pub fn families(&self, runtime: String) -> String {
        text(&self.pipeline.families(&runtime))
    }

    /// Resolves to what the table of each route looks like.
    #[napi(ts_return_type = "Promise<string>")]
    pub fn describe<'env>(
        env: &'env Env,
        config: String,
        credentials: &NativeCredentials,
    ) -> napi::Result<Object<'env>> {
        let config = Config::parse(&config).map_err(|error| throw(&error))?;
        credentials.serve(&config);
        promise(env, move || describe_tables(&config))
    }

    /// Makes tables in the ClickHouse of a configuration.
    #[napi(ts_return_type = "Promise<string>")]
    pub fn create_tables<'env>(
        env: &'env Env,
        config: String,
        credentials: &NativeCredentials,
        statements: Vec<String>,
    ) -> napi::Result<Object<'env>> {
        let config = Config::parse(&config).map_err(|error| throw(&error))?;
        credentials.serve(&config);
        promise(env, move || create_tables(&config, &statements))
    }

    /// Resolves to the columns of all tables of the configuration's databases.
    #[napi(ts_return_type = "Promise<string>")]
    pub fn tables<'env>(
        env: &'env Env,
        config: String,
        credentials: &NativeCredentials,
    ) -> napi::Result<Object<'env>> {
        let config = Config::parse(&config).map_err(|error| throw(&error))?;
        credentials.serve(&config);
        promise(env, move || taken_tables(&config))
    }

    fn run<'env, T: Serialize>(
        &self,
        env: &'env Env,
        work: impl FnOnce(&Arc<Pipeline>) -> Result<T> + Send + 'static,
    ) -> napi::Result<Object<'env>> {
        let pipeline = self.pipeline.clone();
        let emit = pipeline.emitter();
        promise_after(env, emit, move || work(&pipeline))
    }
}

/// Calls `abort` when the environment is torn down. A worker thread that is terminated takes its environment with it; ours
/// must be gone before.
fn end_with_environment<T: Send + Sync + 'static>(
    env: &Env,
    target: &Arc<T>,
    abort: fn(&T),
) -> napi::Result<()> {
    let weak: Weak<T> = Arc::downgrade(target);
    env.add_env_cleanup_hook(weak, move |weak| {
        if let Some(target) = weak.upgrade() {
            abort(&target);
        }
    })?;
    Ok(())
}

/// Runs `work` on a thread of its own; the promise resolves to its answer.
fn promise<'env, T: Serialize>(
    env: &'env Env,
    work: impl FnOnce() -> Result<T> + Send + 'static,
) -> napi::Result<Object<'env>> {
    promise_after(env, drop, work)
}

/// As `promise`, but the promise resolves after the events that `work` has emitted have been delivered: `emit` puts an
/// event behind them.
fn promise_after<'env, T: Serialize>(
    env: &'env Env,
    emit: impl FnOnce(Event) + Send + 'static,
    work: impl FnOnce() -> Result<T> + Send + 'static,
) -> napi::Result<Object<'env>> {
    let (deferred, promise) = env.create_deferred()?;
    std::thread::Builder::new()
        .name("mill-call".into())
        .spawn(move || {
            let result = std::panic::catch_unwind(std::panic::AssertUnwindSafe(work));
            let text = answer(result.unwrap_or_else(|_| {
                Err(Error::Internal { thread: "call".into(), message: "it panicked".into() })
            }));
            emit(Event::Delivered(Delivered::new(move || deferred.resolve(move |_| Ok(text)))));
        })
        .map_err(|error| napi::Error::from_reason(error.to_string()))?;
    Ok(promise)
}

/// Calls `on_event` with each event.
fn listener(on_event: &Function<'_, Arguments, ()>) -> napi::Result<Listener> {
    let callback: Callback = on_event
        .build_threadsafe_function::<Event>()
        .weak::<true>()
        .callee_handled::<false>()
        .max_queue_size::<QUEUE>()
        .build_callback(|context| Ok(arguments(context.value)))?;
    let refused = AtomicU64::new(0);
    Ok(Box::new(move |event| deliver(&callback, &refused, event)))
}

/// Hands an event to JavaScript without waiting for it.
fn deliver(callback: &Callback, refused: &AtomicU64, event: Event) {
    let missed = refused.swap(0, Ordering::Relaxed);
    if missed > 0 {
        let message = format!("{missed} events were dropped: the JavaScript thread was blocked");
        let warning = Warning::new("EVENTS_DROPPED", message).events(missed);
        let warning = Event::Warning(Box::new(warning));
        if callback.call(warning, ThreadsafeFunctionCallMode::NonBlocking) != Status::Ok {
            refused.fetch_add(missed, Ordering::Relaxed);
        }
    }
    if callback.call(event, ThreadsafeFunctionCallMode::NonBlocking) == Status::QueueFull {
        refused.fetch_add(1, Ordering::Relaxed);
    }
}

fn arguments(event: Event) -> Arguments {
    let mut payloads = Vec::new();
    let (kind, content) = match event {
        Event::Metrics(metrics) => ("metrics", text(&metrics)),
        Event::State { state, previous } => ("state", text(&[state, previous])),
        Event::Warning(warning) => ("warning", text(&warning)),
        Event::Trace(trace) => ("trace", text(&trace)),
        Event::UnknownFields { route, rows } => {
            ("unknownFields", json!({ "route": route, "rows": rows }).to_string())
        }
        Event::Error(error) => ("error", describe(&error).to_string()),
        Event::Delivered(_) => ("delivered", "null".into()),
        Event::DeadLetters(dead_letters, _held) => {
            let count = dead_letters.len();
            // Topics that are not UTF-8 follow the payloads.
            let mut topics: Vec<Buffer> = Vec::new();
            let content = dead_letters.into_iter().map(|dead_letter| {
                let since = dead_letter.received_at.duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
                let mut content = json!({
                    "receivedAt": since.as_millis() as u64,
                    "route": dead_letter.route_number(),
                    "topic": String::from_utf8_lossy(&dead_letter.topic),
                    "code": dead_letter.reason.code.as_str(),
                    "message": &*dead_letter.reason.message,
                });
                if std::str::from_utf8(&dead_letter.topic).is_err() {
                    content["topicBytes"] = (count + topics.len()).into();
                    topics.push(dead_letter.topic.into());
                }
                payloads.push(dead_letter.payload.into());
                content
            });
            let content = serde_json::Value::from_iter(content).to_string();
            payloads.append(&mut topics);
            ("deadLetters", content)
        }
    };
    (kind.into(), content, payloads).into()
}

fn answer<T: Serialize>(result: Result<T>) -> String {
    match result {
        Ok(value) => format!("{{\"ok\":{}}}", text(&value)),
        Err(error) => json!({ "error": describe(&error) }).to_string(),
    }
}

/// Our own types of numbers and strings always have a JSON text.
fn text(value: &impl Serialize) -> String {
    serde_json::to_string(value).unwrap_or_default()
}

fn throw(error: &Error) -> napi::Error {
    napi::Error::from_reason(describe(error).to_string())
}

fn describe(error: &Error) -> serde_json::Value {
    json!({
        "code": error.code(),
        "message": error.to_string(),
        "path": error.path(),
        "row": error.row(),
        "column": error.column(),
        "cause": error.cause(),
    })
}
