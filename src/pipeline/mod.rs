//! A pipeline: its threads and channels, from start to stop.
//!
//! ```text
//!  connection threads          worker threads
//!  mqtt → intake ──batches──▶  sink ──settled──▶ acknowledge, books
//!            └──letters──▶ writer ◀──letters──┘
//! ```
//!
//! With a spool its thread stands between the two, and acknowledges. All methods may be called from any thread and block
//! until they are done; the binding calls the slow ones on threads of their own.

pub mod stages;

use std::sync::atomic::Ordering;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use crossbeam_channel::{Receiver, RecvTimeoutError, Sender};
use tokio::sync::mpsc;

use crate::clickhouse::token::Tokens;
use crate::config::Config;
use crate::core::ack_history::Acknowledged;
use crate::core::backoff::random_bits;
use crate::core::error::{Error, Result};
use crate::core::thread::{run_on, runtime, spawn, thread};
use crate::ingest::context::Shared;
use crate::ingest::router::Intake;
use crate::ingest::table_plan::Plans;
use crate::mqtt::connection::{Command, Connection};
use crate::mqtt::session::Session;
use crate::mqtt::{is_ambiguous, subscriptions};
use crate::pipeline::stages::{Downstream, Outlets, Prepared, prepare};
use crate::spool::{self, Call};
use crate::telemetry::events::{Event, Listener};
use crate::telemetry::metrics::{Metrics, Rates};
use crate::telemetry::prometheus::{Family, families};
use crate::telemetry::state::State;

pub struct Pipeline {
    shared: Arc<Shared>,
    state: Mutex<State>,
    turned: Condvar,
    threads: Mutex<Option<Threads>>,
    rates: Arc<Mutex<Rates>>,
}

struct Threads {
    connections: Vec<JoinHandle<()>>,
    downstream: Downstream,
    reporter: JoinHandle<()>,
    /// Dropped to end the reporter.
    reporting: Sender<()>,
}

impl Pipeline {
    pub fn new(config: Config, listener: Listener) -> Pipeline {
        Pipeline {
            shared: Arc::new(Shared::new(config, listener)),
            state: Mutex::new(State::Idle),
            turned: Condvar::new(),
            threads: Mutex::new(None),
            rates: Arc::default(),
        }
    }

    pub fn state(&self) -> State {
        *lock(&self.state)
    }

    /// Changes the state if it is one of `from`, and tells so.
    fn turn(&self, operation: &'static str, from: &[State], to: State) -> Result<()> {
        let mut state = lock(&self.state);
        let previous = *state;
        if !from.contains(&previous) {
            return Err(Error::InvalidState { operation, state: previous.as_str() });
        }
        *state = to;
        if previous != to {
            // Told under the lock, so that the events keep the order of the changes.
            self.shared.emit(Event::State { state: to.as_str(), previous: previous.as_str() });
            self.turned.notify_all();
        }
        Ok(())
    }

    /// The part of [`Pipeline::start`] that takes no time: from here on it is starting.
    pub fn begin_start(&self) -> Result<()> {
        self.turn("start", &[State::Idle], State::Starting)?;
        self.shared.revive();
        Ok(())
    }

    /// Looks at the tables, connects, and returns when every subscription is granted. After an error nothing is left
    /// running, and it may be begun again.
    pub fn start(self: &Arc<Self>) -> Result<()> {
        match self.launch() {
            Ok(threads) => {
                if self.shared.is_cancelled() {
                    threads.join();
                    self.turn("start", &[State::Starting], State::Idle)?;
                    return Err(aborted());
                }
                *lock(&self.threads) = Some(threads);
                self.turn("start", &[State::Starting], State::Running)
            }
            Err(error) => {
                self.turn("start", &[State::Starting], State::Idle)?;
                Err(error)
            }
        }
    }

    /// Ends a `start()` that is under way: it fails.
    pub fn cancel_start(&self) {
        if self.state() == State::Starting {
            self.shared.cancel();
        }
    }

    fn launch(self: &Arc<Self>) -> Result<Threads> {
        let shared = &self.shared;
        if is_ambiguous(&shared.config) {
            shared.warn(
                "FILTERS_OVERLAP",
                "topics of the routes overlap in part: with MQTT 3.1.1 a broker may deliver a message for each of them, \
                 which doubles its rows; with MQTT 5 the copies are recognised",
            );
        }
        open_tls(shared)?;
        let spool = spool::open(shared)?;
        let Prepared { plans, store } = run_on(runtime()?, async {
            tokio::select! {
                biased;
                () = shared.cancelled() => Err(aborted()),
                prepared = prepare(shared) => prepared,
            }
        })?;

        let (senders, commands): (Vec<_>, Vec<_>) =
            (0..shared.config.mqtt.connections).map(|_| mpsc::unbounded_channel()).unzip();
        shared.set_connections(senders);
        let tokens = Tokens::Drawn(format!("{}-{:016x}", shared.config.name, random_bits()));
        let acknowledged = (0..shared.config.mqtt.connections)
            .map(|at| spool.as_ref()?.acknowledged(at, &shared.config.mqtt.client_id_of(at)?))
            .collect();
        let (downstream, outlets) = Downstream::start(shared, plans.clone(), store, tokens, spool)?;
        let (reporting, until) = crossbeam_channel::bounded(0);
        let reporter = self.spawn_reporter(until)?;
        let mut threads = Threads { connections: Vec::new(), downstream, reporter, reporting };
        match self.connect(plans, outlets, commands, acknowledged, &mut threads.connections) {
            Ok(()) => Ok(threads),
            Err(error) => {
                shared.cancel();
                threads.join();
                Err(error)
            }
        }
    }

    /// Starts the connections, and returns when every subscription of each is granted.
    fn connect(
        &self,
        plans: Arc<Plans>,
        outlets: Outlets,
        commands: Vec<mpsc::UnboundedReceiver<Command>>,
        acknowledged: Vec<Option<Acknowledged>>,
        threads: &mut Vec<JoinHandle<()>>,
    ) -> Result<()> {
        let shared = &self.shared;
        let mqtt = &shared.config.mqtt;
        let Outlets { batches, letters } = outlets;
        let (ready_sender, ready) = crossbeam_channel::bounded(mqtt.connections);
        let filters: Vec<_> =
            subscriptions(&shared.config).into_iter().map(|subscription| subscription.filter).collect();
        for (at, (commands, acknowledged)) in commands.into_iter().zip(acknowledged).enumerate() {
            let client_id =
                mqtt.client_id_of(at).unwrap_or_else(|| format!("millrace{:015x}", random_bits() >> 4));
            let mut session = Session::new(mqtt, client_id, filters.clone(), Instant::now());
            if let Some(acknowledged) = acknowledged {
                session.remember(acknowledged);
            }
            let intake = Intake::new(shared.clone(), at, plans.clone(), batches.clone(), letters.clone());
            let connection = Connection::new(shared.clone(), session, intake, commands, ready_sender.clone());
            threads.push(spawn(shared, "mqtt", async move || connection.run().await)?);
        }
        drop(ready_sender);
        for _ in 0..mqtt.connections {
            // The threads hold the senders: if none is left, they have ended.
            ready.recv().unwrap_or_else(|_| Err(aborted()))?;
        }
        Ok(())
    }

    fn spawn_reporter(self: &Arc<Self>, until: Receiver<()>) -> Result<JoinHandle<()>> {
        let (shared, rates) = (self.shared.clone(), self.rates.clone());
        // Weak: a pipeline that is dropped ends its threads, this one among them.
        let pipeline = Arc::downgrade(self);
        thread("metrics", move || {
            let interval = shared.config.metrics_interval.unwrap_or(Duration::from_secs(1));
            let mut last = (Instant::now(), shared.ledger.counts().received, 0);
            while let Err(RecvTimeoutError::Timeout) = until.recv_timeout(interval) {
                let Some(pipeline) = pipeline.upgrade() else { return };
                let now = Instant::now();
                let metrics = pipeline.metrics();
                let seconds = (now - last.0).as_secs_f64();
                let rate = |now: u64, before: u64| (now - before) as f64 / seconds;
                *lock(&rates) = Rates {
                    messages_per_second: rate(metrics.messages.received, last.1),
                    rows_per_second: rate(metrics.rows.inserted, last.2),
                };
                last = (now, metrics.messages.received, metrics.rows.inserted);
                if shared.config.metrics_interval.is_some() {
                    shared.emit(Event::Metrics(Box::new(Metrics { rates: *lock(&rates), ..metrics })));
                }
            }
        })
    }

    /// Returns when all that was received before the call is in ClickHouse or in the dead letters.
    pub fn flush(&self) -> Result<()> {
        let state = self.state();
        if !matches!(state, State::Running | State::Paused) {
            return Err(Error::InvalidState { operation: "flush", state: state.as_str() });
        }
        let hurry = Arc::new(());
        self.shared.call_spool(Call::Hurry(Arc::downgrade(&hurry)));
        // What was received until now is in groups that are open now: later ones are not waited for.
        let watermark = self.shared.ledger.watermark();
        let (done, flushed) = crossbeam_channel::unbounded();
        self.shared.command(|| Command::Flush(done.clone()));
        drop(done);
        while flushed.recv().is_ok() {}
        if self.shared.ledger.wait_below(watermark, None) {
            Ok(())
        } else {
            Err(Error::InvalidState { operation: "flush", state: self.state().as_str() })
        }
    }

    /// Stops taking messages; the broker keeps them.
    pub fn pause(&self) -> Result<()> {
        self.turn("pause", &[State::Running, State::Paused], State::Paused)?;
        self.shared.command(|| Command::Pause);
        Ok(())
    }

    pub fn resume(&self) -> Result<()> {
        self.turn("resume", &[State::Paused, State::Running], State::Running)?;
        self.shared.command(|| Command::Resume);
        Ok(())
    }

    /// Takes no further messages, inserts and acknowledges what is in hand, disconnects, and ends all threads.
    /// `STOP_TIMEOUT`: it took longer; what was left was not acknowledged. Stopped it is in either case.
    pub fn stop(&self, timeout: Duration) -> Result<Metrics> {
        self.end_start();
        match self.begin_stop() {
            Ok(()) => {}
            Err(_) if self.state() == State::Stopped => return Ok(self.metrics()),
            Err(error) => return Err(error),
        }
        let deadline = Instant::now() + timeout;
        let threads = lock(&self.threads).take();
        let mut drained = true;
        if let Some(threads) = threads {
            let hurry = Arc::new(());
            self.shared.call_spool(Call::Hurry(Arc::downgrade(&hurry)));
            let (done, ready) = crossbeam_channel::unbounded();
            self.shared.command(|| Command::Drain(done.clone()));
            drop(done);
            loop {
                match ready.recv_deadline(deadline) {
                    Ok(()) => {}
                    Err(RecvTimeoutError::Disconnected) => break,
                    Err(RecvTimeoutError::Timeout) => {
                        drained = false;
                        break;
                    }
                }
            }
            drained = drained && self.commit_spool(deadline);
            drained = drained && self.shared.ledger.wait_below(u64::MAX, Some(deadline));
            self.shared.command(|| Command::Close);
            threads.finish(|| {
                if !drained {
                    self.shared.cancel();
                }
            });
        }
        let metrics = Metrics { state: State::Stopped.as_str(), ..self.metrics() };
        self.turn("stop", &[State::Stopping], State::Stopped)?;
        if metrics.messages.pending > 0 {
            let spooled = self.shared.metrics.spool.as_ref().map(|spool| spool.left.load(Ordering::Relaxed));
            return Err(Error::StopTimeout { pending: metrics.messages.pending, spooled });
        }
        Ok(metrics)
    }

    /// Waits until all that was sealed is committed, so that whoever closes the connections then has acknowledged it: what is
    /// found in the spool at the next start must not come again from the broker. `false`: the deadline passed first.
    fn commit_spool(&self, deadline: Instant) -> bool {
        let (done, committed) = crossbeam_channel::bounded(0);
        self.shared.call_spool(Call::Commit(done));
        committed.recv_deadline(deadline) != Err(RecvTimeoutError::Timeout)
    }

    /// The part of [`Pipeline::stop`] that takes no time, where no start is under way: from here on it is stopping.
    pub fn begin_stop(&self) -> Result<()> {
        self.turn("stop", &[State::Idle, State::Running, State::Paused, State::Stopping], State::Stopping)
    }

    /// Makes a start that is under way fail, and waits until it has.
    fn end_start(&self) {
        self.cancel_start();
        let mut state = lock(&self.state);
        while *state == State::Starting {
            state = self.turned.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
    }

    pub fn metrics(&self) -> Metrics {
        let Shared { metrics, ledger, memory, .. } = &*self.shared;
        metrics.snapshot(self.state().as_str(), *lock(&self.rates), ledger, memory)
    }

    /// The same for other collectors; `runtime` is what we run in.
    pub fn families(&self, runtime: &str) -> Vec<Family> {
        families(&self.shared.config.name, runtime, &self.metrics(), &self.shared.metrics)
    }

    /// Ends everything at once; nothing more is acknowledged. For a runtime that goes away under us.
    pub fn abort(&self) {
        self.shared.cancel();
        self.shared.command(|| Command::Close);
        if let Some(threads) = lock(&self.threads).take() {
            threads.join();
        }
        *lock(&self.state) = State::Stopped;
        self.turned.notify_all();
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
        // A panic was caught and told by the thread itself.
        for thread in self.connections {
            let _ = thread.join();
        }
        between();
        self.downstream.join();
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
fn open_tls(shared: &Shared) -> Result<()> {
    let mqtt = &shared.config.mqtt;
    if mqtt.is_encrypted() {
        mqtt.tls.client()?;
        if mqtt.tls.insecure {
            shared.warn(
                "TLS_INSECURE",
                "mqtt.tls.insecure takes any certificate: whoever is on the way to the broker can read and change \
                 everything, the password included",
            );
        }
    }
    Ok(())
}

fn aborted() -> Error {
    Error::InvalidState { operation: "start", state: State::Stopping.as_str() }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
