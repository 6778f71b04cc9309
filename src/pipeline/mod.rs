//! A pipeline: its threads and channels, from start to stop.
//!
//! ```text
//!  connection threads                 worker threads
//!  mqtt → ingest ──batches──▶         sink ──completion──▶ acknowledgements, ledger
//!            └──dead letters──▶ store ◀──dead letters──┘
//! ```
//!
//! With a spool its thread stands between the two, and acknowledges. All methods may be called from any thread and block
//! until they are done; the binding calls the slow ones on threads of their own.

mod drain;
pub mod growth;
mod links;
mod lookups;
mod remembered;
mod reporter;
mod route_changes;
mod shard_check;
#[cfg(test)]
mod simulation;
pub mod stages;
mod topic_tables;

use std::sync::{Arc, Condvar, Mutex};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use crossbeam_channel::Sender;
use tokio::sync::mpsc;

use crate::clickhouse::token::Tokens;
use crate::config::Config;
use crate::core::ack_history::AckHistory;
use crate::core::backoff::random_bits;
use crate::core::error::{Error, Result};
use crate::core::lock::{lock, wait};
use crate::core::thread::{run_on, runtime};
use crate::ingest::route_set::{LiveRoutes, RouteSet};
use crate::ingest::router::Router;
pub use crate::ingest::row_intake::Reply;
use crate::ingest::row_intake::{RowCall, RowIntake};
use crate::ingest::table_plan::TablePlans;
use crate::ingest::topic_tables::TableRequests;
use crate::mqtt::connection::Connection;
use crate::mqtt::session::Session;
use crate::mqtt::{AckSender, Command};
use crate::pipeline::links::Links;
use crate::pipeline::lookups::warn_of_unset_lookups;
use crate::pipeline::route_changes::RouteChanger;
use crate::pipeline::stages::{OutputStages, Prepared, StageInputs};
use crate::spool::{self, Control};
use crate::telemetry::context::PipelineContext;
use crate::telemetry::events::{Event, Listener, Warning};
use crate::telemetry::metrics::{Metrics, Rates};
use crate::telemetry::prometheus::{Family, families};
use crate::telemetry::state::State;
use crate::transform::TransformHosts;
use crate::transform::sample::{OpenTap, SampledBatch};

pub struct Pipeline {
    context: Arc<PipelineContext>,
    state: Mutex<State>,
    state_changed: Condvar,
    threads: Mutex<Option<Threads>>,
    /// To the threads that take commands; replaced at each start.
    links: Mutex<Links>,
    hosts: TransformHosts,
    /// Held during a change of the routes.
    changing: Mutex<()>,
    /// `None`: it does not run, or a change is under way.
    changer: Mutex<Option<RouteChanger>>,
    rates: Arc<Mutex<Rates>>,
}

struct Threads {
    connections: Vec<JoinHandle<()>>,
    stages: OutputStages,
    reporter: JoinHandle<()>,
    /// Dropped to end the reporter.
    reporting: Sender<()>,
}

/// The channels of the thread that takes the rows of a program.
struct RowChannels {
    commands: mpsc::UnboundedSender<Command>,
    commands_rx: mpsc::UnboundedReceiver<Command>,
    calls: mpsc::UnboundedSender<RowCall>,
    calls_rx: mpsc::UnboundedReceiver<RowCall>,
}

impl Pipeline {
    pub fn new(config: Config, listener: Listener) -> Pipeline {
        Pipeline {
            context: Arc::new(PipelineContext::new(config, listener)),
            state: Mutex::new(State::Idle),
            state_changed: Condvar::new(),
            threads: Mutex::new(None),
            links: Mutex::default(),
            hosts: TransformHosts::default(),
            changing: Mutex::default(),
            changer: Mutex::default(),
            rates: Arc::default(),
        }
    }

    pub fn config(&self) -> &Config {
        &self.context.config
    }

    /// Emits an event behind all that were emitted before.
    pub fn emitter(&self) -> impl FnOnce(Event) + Send + 'static {
        let context = self.context.clone();
        move |event| context.emit(event)
    }

    /// The hosts that make the calls of transforms.
    pub fn hosts(&self) -> &TransformHosts {
        &self.hosts
    }

    fn links(&self) -> Links {
        lock(&self.links).clone()
    }

    pub fn state(&self) -> State {
        *lock(&self.state)
    }

    /// Changes the state if it is one of `from`, and emits an event.
    fn transition(&self, operation: &'static str, from: &[State], to: State) -> Result<()> {
        let mut state = lock(&self.state);
        let previous = *state;
        if !from.contains(&previous) {
            return Err(Error::InvalidState { operation, state: previous.as_str() });
        }
        *state = to;
        if previous != to {
            // Emitted under the lock, so that the events keep the order of the changes.
            self.context.emit(Event::State { state: to.as_str(), previous: previous.as_str() });
            self.state_changed.notify_all();
        }
        Ok(())
    }

    /// The part of [`Pipeline::start`] that takes no time: from here on it is starting.
    pub fn begin_start(&self) -> Result<()> {
        self.transition("start", &[State::Idle], State::Starting)?;
        self.context.reset();
        Ok(())
    }

    /// Looks at the tables, connects, and returns when every subscription is granted. After an error nothing is left
    /// running, and it may be begun again.
    pub fn start(self: &Arc<Self>) -> Result<()> {
        match self.start_stages() {
            Ok(threads) => {
                if self.context.is_cancelled() {
                    drop(lock(&self.changer).take());
                    threads.join();
                    self.transition("start", &[State::Starting], State::Idle)?;
                    return Err(aborted());
                }
                *lock(&self.threads) = Some(threads);
                self.transition("start", &[State::Starting], State::Running)
            }
            Err(error) => {
                self.transition("start", &[State::Starting], State::Idle)?;
                Err(error)
            }
        }
    }

    /// Ends a `start()` that is under way: it fails.
    pub fn cancel_start(&self) {
        if self.state() == State::Starting {
            self.context.cancel();
        }
    }

    fn start_stages(self: &Arc<Self>) -> Result<Threads> {
        let context = &self.context;
        open_tls(context)?;
        warn_of_unset_lookups(context);
        let spool = spool::open(context)?;
        let Prepared { plans, store } = run_on(runtime()?, async {
            tokio::select! {
                biased;
                () = context.cancelled() => Err(aborted()),
                prepared = remembered::prepare(context) => prepared,
            }
        })?;

        let (senders, commands): (Vec<_>, Vec<_>) =
            (0..context.config.mqtt.connections).map(|_| mpsc::unbounded_channel()).unzip();
        let tokens = Tokens::Random(format!("{}-{:016x}", context.config.name, random_bits()));
        let acknowledged = (0..context.config.mqtt.connections)
            .map(|at| spool.as_ref()?.acknowledged(at, &context.config.mqtt.client_id_of(at)?))
            .collect();
        let (stages, inputs) =
            OutputStages::start(context, plans.clone(), store, tokens, spool, &self.hosts)?;
        let rows = self.row_channels();
        let mut links = Links { rows: None, connections: senders.clone(), spool: inputs.spool.clone() };
        if let Some(RowChannels { commands, calls, .. }) = &rows {
            links.rows = Some(calls.clone());
            links.connections.push(commands.clone());
        }
        *lock(&self.links) = links;
        let commands = senders.into_iter().map(AckSender::new).zip(commands).collect();
        let (reporting, until) = crossbeam_channel::bounded(0);
        let reporter = self.spawn_reporter(until)?;
        let mut threads = Threads { connections: Vec::new(), stages, reporter, reporting };
        if let Some(rows) = rows {
            threads.connections.push(self.start_rows(rows, &plans, &inputs)?);
        }
        let StageInputs { batches, sink, dead_letters, tables, .. } = inputs;
        let live = LiveRoutes::new(RouteSet::initial(&context.config, batches.clone().into()));
        let changer = RouteChanger { live, plans, senders: batches, sink, dead_letters };
        match self.connect(&changer, tables, commands, acknowledged, &mut threads.connections) {
            Ok(()) => {
                *lock(&self.changer) = Some(changer);
                Ok(threads)
            }
            Err(error) => {
                context.cancel();
                drop(changer);
                threads.join();
                Err(error)
            }
        }
    }

    /// Rows for a declared table, as `lib/row-encoder.js` writes them. `reply` is answered when they
    /// are confirmed, or synced in the spool, or with the error.
    pub fn insert(&self, table: String, rows: Vec<u8>, reply: Reply) {
        let state = self.state();
        if !matches!(state, State::Running | State::Paused) {
            return reply.send(Err(Error::InvalidState { operation: "insert", state: state.as_str() }));
        }
        let Some(calls) = self.links().rows else {
            return reply.send(Err(Error::TableNotDeclared { table }));
        };
        // A thread that has ended drops the call, which answers it.
        let _ = calls.send(RowCall { table, rows, reply });
    }

    fn row_channels(&self) -> Option<RowChannels> {
        if self.context.config.tables.is_empty() {
            return None;
        }
        let (commands, commands_rx) = mpsc::unbounded_channel();
        let (calls, calls_rx) = mpsc::unbounded_channel();
        Some(RowChannels { commands, commands_rx, calls, calls_rx })
    }

    /// Starts the thread that takes the rows of a program; in the spool its rows are those of a connection behind all others.
    fn start_rows(
        &self,
        rows: RowChannels,
        plans: &Arc<TablePlans>,
        inputs: &StageInputs,
    ) -> Result<JoinHandle<()>> {
        let context = self.context.clone();
        let RowChannels { commands, commands_rx, calls_rx, .. } = rows;
        let (batches, dead_letters) = (inputs.batches.clone(), inputs.dead_letters.clone());
        let connection = context.config.mqtt.connections;
        let acks = AckSender::new(commands);
        let router = Router::new(context.clone(), connection, acks, plans.clone(), batches, dead_letters);
        let intake = RowIntake::new(context.clone(), router, commands_rx, calls_rx);
        context.spawn("rows", async move || intake.run().await)
    }

    /// Starts the connections, and returns when every subscription of each is granted.
    fn connect(
        &self,
        changer: &RouteChanger,
        tables: Option<TableRequests>,
        commands: Vec<(AckSender, mpsc::UnboundedReceiver<Command>)>,
        acknowledged: Vec<Option<AckHistory>>,
        threads: &mut Vec<JoinHandle<()>>,
    ) -> Result<()> {
        let context = &self.context;
        let mqtt = &context.config.mqtt;
        let RouteChanger { live, plans, senders, dead_letters, .. } = changer;
        let (ready_sender, ready) = crossbeam_channel::bounded(mqtt.connections);
        let filters = live.current().filters.clone();
        for (at, ((acks, commands), acknowledged)) in commands.into_iter().zip(acknowledged).enumerate() {
            let client_id =
                mqtt.client_id_of(at).unwrap_or_else(|| format!("millrace{:015x}", random_bits() >> 4));
            let mut session = Session::new(mqtt, client_id, filters.clone(), Instant::now());
            if let Some(acknowledged) = acknowledged {
                session.restore_ack_history(acknowledged);
            }
            let (batches, dead_letters) = (senders.clone(), dead_letters.clone());
            let router = Router::new(context.clone(), at, acks, plans.clone(), batches, dead_letters)
                .following(live.clone())
                .asking(tables.clone());
            let connection =
                Connection::new(context.clone(), session, router, commands, ready_sender.clone());
            threads.push(context.spawn("mqtt", async move || connection.run().await)?);
        }
        drop(ready_sender);
        for _ in 0..mqtt.connections {
            // The threads hold the senders: if none is left, they have ended.
            ready.recv().unwrap_or_else(|_| Err(aborted()))?;
        }
        Ok(())
    }

    /// Returns when all that was received before the call is in ClickHouse or in the dead letters.
    pub fn flush(&self) -> Result<()> {
        let state = self.state();
        if !matches!(state, State::Running | State::Paused) {
            return Err(Error::InvalidState { operation: "flush", state: state.as_str() });
        }
        let hurry = Arc::new(());
        self.links().control(Control::FlushNow(Arc::downgrade(&hurry)));
        // Messages received until now are in groups that are open now, and those that connections find in their sockets in groups
        // below what they answer: later groups are not waited for.
        let mut watermark = self.context.ledger.watermark();
        let (done, flushed) = crossbeam_channel::unbounded();
        self.links().command(|| Command::Flush(done.clone()));
        drop(done);
        while let Ok(found) = flushed.recv() {
            watermark = watermark.max(found);
        }
        if self.context.wait_below(watermark, None) {
            Ok(())
        } else {
            Err(Error::InvalidState { operation: "flush", state: self.state().as_str() })
        }
    }

    /// Has a listener take samples of what is inserted by a route, until the result is dropped.
    pub fn tap(
        &self,
        route: usize,
        every: Duration,
        listener: impl Fn(SampledBatch) + Send + Sync + 'static,
    ) -> OpenTap {
        OpenTap::new(&self.hosts.taps, (route, self.config().route(route)), every, listener)
    }

    /// Stops taking messages; the broker keeps them.
    pub fn pause(&self) -> Result<()> {
        self.transition("pause", &[State::Running, State::Paused], State::Paused)?;
        self.links().command(|| Command::Pause);
        Ok(())
    }

    pub fn resume(&self) -> Result<()> {
        self.transition("resume", &[State::Paused, State::Running], State::Running)?;
        self.links().command(|| Command::Resume);
        Ok(())
    }

    /// Takes no further messages, inserts and acknowledges what is in hand, disconnects, and ends all threads. With a spool it does
    /// not wait for a ClickHouse that takes nothing: what is left there is for the next start, and counts as pending.
    /// `STOP_TIMEOUT`: it took longer; what was left was not acknowledged. Stopped it is in either case.
    pub fn stop(&self, timeout: Duration, leaves: bool) -> Result<Metrics> {
        self.end_start();
        match self.begin_stop() {
            Ok(()) => {}
            Err(_) if self.state() == State::Stopped => return Ok(self.metrics()),
            Err(error) => return Err(error),
        }
        let deadline = Instant::now() + timeout;
        let threads = lock(&self.threads).take();
        if let Some(threads) = threads {
            self.drain(threads, deadline, leaves);
        }
        let metrics = Metrics { state: State::Stopped.as_str(), ..self.metrics() };
        self.transition("stop", &[State::Stopping], State::Stopped)?;
        self.drained(metrics)
    }

    /// The part of [`Pipeline::stop`] that takes no time, where no start is under way: from here on it is stopping.
    pub fn begin_stop(&self) -> Result<()> {
        self.transition(
            "stop",
            &[State::Idle, State::Running, State::Paused, State::Stopping],
            State::Stopping,
        )
    }

    /// Makes a start that is under way fail, and waits until it has.
    fn end_start(&self) {
        self.cancel_start();
        let mut state = lock(&self.state);
        while *state == State::Starting {
            state = wait(&self.state_changed, state);
        }
    }

    /// A warning was given that did not come from here.
    pub fn count_warning(&self, code: &str) {
        self.context.metrics.count_warning(code);
    }

    pub fn metrics(&self) -> Metrics {
        let PipelineContext { metrics, ledger, memory, .. } = &*self.context;
        metrics.snapshot(self.state().as_str(), *lock(&self.rates), ledger, memory)
    }

    /// The same for other collectors; `runtime` is what we run in.
    pub fn families(&self, runtime: &str) -> Vec<Family> {
        families(&self.context.config.name, runtime, &self.metrics(), &self.context.metrics)
    }

    /// Ends everything at once; nothing more is acknowledged. For a runtime that goes away under us.
    pub fn abort(&self) {
        self.context.cancel();
        drop(lock(&self.changer).take());
        self.links().command(|| Command::Close);
        if let Some(threads) = lock(&self.threads).take() {
            threads.join();
        }
        *lock(&self.state) = State::Stopped;
        self.state_changed.notify_all();
    }
}

impl Drop for Pipeline {
    fn drop(&mut self) {
        self.abort();
    }
}

impl Threads {
    /// Waits for all of them, in the order in which the stages end; `between` is called when the connections have
    /// said goodbye.
    fn finish(self, between: impl FnOnce()) {
        // The thread itself caught and reported a panic.
        for thread in self.connections {
            let _ = thread.join();
        }
        between();
        self.stages.join();
        drop(self.reporting);
        // The reporter may be the one that drops the pipeline: it cannot wait for itself.
        if self.reporter.thread().id() != std::thread::current().id() {
            let _ = self.reporter.join();
        }
    }

    fn join(self) {
        self.finish(|| {});
    }
}

/// Reads the certificates for the broker before anything else is done; those for ClickHouse are read with its clients.
fn open_tls(context: &PipelineContext) -> Result<()> {
    let mqtt = &context.config.mqtt;
    if mqtt.is_encrypted() {
        mqtt.tls.client()?;
        if mqtt.tls.insecure {
            context.warn(Warning::new(
                "TLS_INSECURE",
                "mqtt.tls.insecure takes any certificate: whoever is on the way to the broker can read and change \
                 everything, the password included",
            ));
        }
    }
    Ok(())
}

fn aborted() -> Error {
    Error::Aborted
}
