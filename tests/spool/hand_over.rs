//! The hand-over of INSERTs between a connection, the thread of the spool and workers, under shuttle: the thread is that of
//! production, with a clock and waits of the model. shuttle runs one thread at a time, changes between them at each step, and
//! fails where all of them wait: a wake-up that is lost ends so. Time passes only when shuttle runs the clock; it may do so between
//! any two steps of the thread, so that an INSERT becomes due at each of them.
//!
//! The check of the directory, which wakes the thread twice a second, does not exist here: nothing may depend on it.
//!
//! `cargo test --test spool hand_over -- --ignored` runs 50,000 orders; `SEED=<seed>` repeats one that failed.

use std::sync::Arc;
use std::time::{Duration, Instant};

use crossbeam_channel::{Receiver, bounded, unbounded};
use millrace::ingest::batch::Batch;
use millrace::ingest::router::Router;
use millrace::mqtt::AckSender;
use millrace::spool::{Channels, InsertJob, Log, Opened, Sources, SpoolThread, Waits, Woken};
use shuttle::rand::Rng;
use shuttle::sync::{Condvar, Mutex};

use crate::simulated::Simulated;
use crate::thread::{context, log_options, plans, publish_to};

/// `batch.maxDelayMs`.
const DELAY: Duration = Duration::from_millis(10);
/// The steps in which time passes by itself.
const STEP: Duration = Duration::from_millis(6);

#[test]
fn no_insert_waits_for_a_wake_up_that_was_lost() {
    explore(500, Faults::default());
}

#[test]
#[ignore = "takes minutes: npm run test:full"]
fn no_insert_waits_for_a_wake_up_that_was_lost_in_many_orders() {
    explore(50_000, Faults::default());
}

/// The model itself: where a notice of a worker wakes nobody, shuttle finds the order in which all wait.
#[test]
#[should_panic(expected = "deadlock")]
fn a_lost_wake_up_is_found() {
    explore(1_500, Faults { is_deaf: true });
}

#[derive(Debug, Clone, Copy, Default)]
struct Faults {
    /// A worker that is done wakes nobody.
    is_deaf: bool,
}

fn explore(orders: usize, faults: Faults) {
    let mut config = shuttle::Config::new();
    // Frames of a debug build are large.
    config.stack_size = 2 << 20;
    config.failure_persistence = shuttle::FailurePersistence::None;
    let run = move || run(faults);
    match std::env::var("SEED").ok().and_then(|seed| seed.parse().ok()) {
        Some(seed) => {
            let scheduler = shuttle::scheduler::RandomScheduler::new_from_seed(seed, 1);
            shuttle::Runner::new(scheduler, config).run(run);
        }
        None => {
            // Half of the orders with few changes between threads, in which rare orders come sooner.
            let scheduler = shuttle::scheduler::PctScheduler::new(3, orders / 2);
            shuttle::Runner::new(scheduler, config.clone()).run(run);
            let scheduler = shuttle::scheduler::RandomScheduler::new(orders - orders / 2);
            shuttle::Runner::new(scheduler, config).run(run);
        }
    }
}

/// The state that the threads of the model share.
#[derive(Clone)]
struct Shared(Arc<(Mutex<State>, Condvar)>);

struct State {
    now: Instant,
    /// Until when the thread waits, while it does.
    waits_until: Option<Option<Instant>>,
    /// Workers that have a job.
    busy: usize,
    is_over: bool,
}

impl Shared {
    fn new() -> Shared {
        let state = State { now: Instant::now(), waits_until: None, busy: 0, is_over: false };
        Shared(Arc::new((Mutex::new(state), Condvar::new())))
    }

    /// Waits until `get` gives something. It is asked again whenever another thread did something.
    fn wait_for<T>(&self, mut get: impl FnMut(&mut State) -> Option<T>) -> T {
        let (state, changed) = &*self.0;
        let mut state = state.lock().unwrap();
        loop {
            if let Some(got) = get(&mut state) {
                return got;
            }
            state = changed.wait(state).unwrap();
        }
    }

    /// Lets all that wait look again.
    fn notify(&self) {
        let (state, changed) = &*self.0;
        drop(state.lock().unwrap());
        changed.notify_all();
    }

    fn end(&self) {
        self.0.0.lock().unwrap().is_over = true;
        self.notify();
    }
}

impl Waits for Shared {
    fn now(&self) -> Instant {
        self.0.0.lock().unwrap().now
    }

    fn wait(&self, sources: &Sources<'_>, alarm: Option<Instant>, _: Instant) -> Woken {
        // Workers may have got jobs since.
        self.notify();
        self.wait_for(|state| {
            let woken =
                ready(sources).or_else(|| alarm.is_some_and(|at| at <= state.now).then_some(Woken::Alarm));
            let waits_until = woken.is_none().then_some(alarm);
            if std::mem::replace(&mut state.waits_until, waits_until) != waits_until && waits_until.is_some()
            {
                // The clock may go on.
                self.0.1.notify_all();
            }
            woken
        })
    }
}

/// The next thing that has come, if there is one.
fn ready(sources: &Sources<'_>) -> Option<Woken> {
    fn taken<T>(source: &Receiver<T>, woken: impl FnOnce(T) -> Woken) -> Option<Woken> {
        match source.try_recv() {
            Ok(item) => Some(woken(item)),
            Err(crossbeam_channel::TryRecvError::Empty) => None,
            Err(crossbeam_channel::TryRecvError::Disconnected) => Some(Woken::Ended),
        }
    }
    taken(sources.settled, Woken::Settled)
        .or_else(|| taken(sources.freed, |()| Woken::Freed))
        .or_else(|| taken(sources.controls, Woken::Control))
        .or_else(|| taken(sources.batches, Woken::Batch))
}

fn run(faults: Faults) {
    let shared = Shared::new();
    let in_flight = 1 + u64::from(flip());
    let messages = 3;
    let context = context(256 << 20, in_flight, Box::new(|_| ()));
    let now = shared.now();
    let plans = plans(&context);
    let (acks, commands) = AckSender::channel();
    let (log, recovered) = Log::open(Simulated::new(1), log_options(1, DELAY), now).unwrap();
    let (batch_sender, batches) = bounded::<Box<Batch>>(8);
    let (controls, control_receiver) = unbounded();
    let (job_sender, jobs) = unbounded();
    let channels = Channels { batches, controls: control_receiver, jobs: job_sender };
    let opened = Opened { log, recovered };
    let spool = SpoolThread::waiting_by(shared.clone(), context.clone(), opened, channels);
    let mut router = Router::new(context.clone(), 0, acks, plans, batch_sender, unbounded().0);

    let thread = shuttle::thread::spawn(move || spool.run());
    let workers: Vec<_> = (0..in_flight)
        .map(|_| {
            let (shared, jobs) = (shared.clone(), jobs.clone());
            shuttle::thread::spawn(move || work(&shared, &jobs, faults))
        })
        .collect();
    let clock = shuttle::thread::spawn({
        let shared = shared.clone();
        move || tick(&shared)
    });

    for number in 0..messages {
        let payload = format!(r#"{{"seq":{number}}}"#);
        publish_to(&mut router, [&b"t"[..], b"u"][number as usize % 2], payload.as_bytes(), number);
        shared.notify();
        shuttle::thread::yield_now();
    }
    // The thread's end blocks until workers are done, and shuttle knows nothing of that.
    let is_done = |state: &State| context.ledger.counts().inserted == messages && state.busy == 0;
    shared.wait_for(|state| is_done(state).then_some(()));
    drop((router, controls, commands));
    shared.notify();
    thread.join().unwrap();
    shared.end();
    workers.into_iter().for_each(|worker| worker.join().unwrap());
    clock.join().unwrap();
}

/// Either, as shuttle chooses.
fn flip() -> bool {
    shuttle::rand::thread_rng().gen_bool(0.5)
}

/// Inserts jobs. An INSERT that has to wait gives its place up before it is settled.
fn work(shared: &Shared, jobs: &Receiver<InsertJob>, faults: Faults) {
    let next = || {
        shared.wait_for(|state| match jobs.try_recv() {
            Ok(job) => {
                state.busy += 1;
                Some(Some(job))
            }
            Err(_) => state.is_over.then_some(None),
        })
    };
    while let Some(job) = next() {
        let InsertJob { insert, completion, permit, .. } = job;
        let mut permit = Some(permit);
        shuttle::thread::yield_now();
        if flip() {
            permit = None;
            shared.notify();
        }
        completion.inserted(insert.records.iter().map(|record| u64::from(record.messages)).sum());
        if !faults.is_deaf {
            shared.notify();
        }
        drop(permit);
        shared.0.0.lock().unwrap().busy -= 1;
        if !faults.is_deaf {
            shared.notify();
        }
    }
}

/// Time passes: a few steps whatever the thread does, and from then on when it waits for a time.
fn tick(shared: &Shared) {
    for _ in 0..4 {
        shared.0.0.lock().unwrap().now += STEP;
        shared.notify();
        shuttle::thread::yield_now();
    }
    loop {
        let is_over = shared.wait_for(|state| match state.waits_until {
            _ if state.is_over => Some(true),
            Some(Some(at)) if at > state.now => {
                state.now = at;
                Some(false)
            }
            _ => None,
        });
        if is_over {
            return;
        }
        shared.notify();
    }
}
