//! The thread of the spool, between an router and a worker that the tests play.

use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use crossbeam_channel::{Receiver, Sender, bounded, unbounded};
use millrace::clickhouse::ColumnType;
use millrace::clickhouse::schema::Table;
use millrace::clickhouse::schema::TableColumn;
use millrace::config::Config;
use millrace::core::clock::ReceiveTime;
use millrace::core::memory_budget::MemoryReservation;
use millrace::core::mqtt_property::Properties;
use millrace::ingest::batch::Batch;
use millrace::ingest::router::Router;
use millrace::ingest::table_plan::TablePlans;
use millrace::mqtt::{AckSender, Command, MessageSink, Publish};
use millrace::spool::{Channels, Control, InsertJob, InsertLimits, Log, Opened, Options, SpoolThread};
use millrace::telemetry::context::PipelineContext;
use millrace::telemetry::events::Event;
use tokio::sync::mpsc;

use crate::simulated::{Faults, Simulated};

const BROKEN: Faults = Faults { one_in: Some(1), room: None };
type Listener = dyn Fn(Event) + Send + Sync;
/// Far longer than anything here takes.
const LONG: Duration = Duration::from_secs(20);

struct Running {
    context: Arc<PipelineContext>,
    router: Router,
    commands: mpsc::UnboundedReceiver<Command>,
    jobs: Receiver<InsertJob>,
    controls: Sender<Control>,
    warnings: Arc<Mutex<Vec<&'static str>>>,
    thread: JoinHandle<()>,
    sent: u64,
}

/// `delay` is `batch.maxDelayMs`.
fn start(disk: &Simulated, life: u64, delay: Duration) -> Running {
    start_with(disk, life, delay, 256 << 20, 1)
}

/// `memory` is `memory.maxBytes`, and `in_flight` `clickhouse.maxInFlight`.
fn start_with(disk: &Simulated, life: u64, delay: Duration, memory: u64, in_flight: u64) -> Running {
    let warnings: Arc<Mutex<Vec<&'static str>>> = Arc::default();
    let told = warnings.clone();
    let listener = move |event| {
        if let Event::Warning(warning) = event {
            told.lock().unwrap().push(warning.code);
        }
    };
    let context = context(memory, in_flight, Box::new(listener));
    let plans = plans(&context);
    let (ack_sender, commands) = AckSender::channel();
    let (log, recovered) = Log::open(disk.clone(), log_options(life, delay), Instant::now()).unwrap();
    let (batch_sender, batches) = bounded::<Box<Batch>>(8);
    let (controls, controls_receiver) = unbounded();
    let (job_sender, jobs) = unbounded();
    let canceller = controls.clone();
    context.on_cancel(move || drop(canceller.send(Control::Cancel)));
    let channels = Channels { batches, controls: controls_receiver, jobs: job_sender };
    let spool = SpoolThread::new(context.clone(), Opened { log, recovered }, channels);
    let router = Router::new(context.clone(), 0, ack_sender, plans, batch_sender, unbounded().0);
    let thread = std::thread::spawn(|| spool.run());
    Running { context, router, commands, jobs, controls, warnings, thread, sent: 0 }
}

/// A pipeline of two routes, from `t` to the table `t` and from `u` to `u`.
pub fn context(memory: u64, in_flight: u64, listener: Box<Listener>) -> Arc<PipelineContext> {
    let config = serde_json::json!({
        "mqtt": { "url": "mqtt://nowhere", "maxPacketBytes": 1024 },
        "clickhouse": { "url": "http://nowhere", "maxInFlight": in_flight },
        "routes": [{ "topic": "t", "table": "t" }, { "topic": "u", "table": "u" }],
        "spool": { "dir": "simulated" },
        "memory": { "maxBytes": memory },
    });
    Arc::new(PipelineContext::new(Config::parse(&config.to_string()).unwrap(), listener))
}

pub fn plans(context: &PipelineContext) -> Arc<TablePlans> {
    let column_type = ColumnType::parse("UInt32", "UTC").unwrap();
    let table = Table::assumed(vec![TableColumn {
        name: "seq".into(),
        column_type,
        default: None,
        is_ephemeral: false,
        is_added: false,
    }]);
    let tables = vec![table.clone(), table];
    Arc::new(TablePlans::new(&context.config.routes, tables, Instant::now()).unwrap())
}

/// `delay` is `batch.maxDelayMs`.
pub fn log_options(life: u64, delay: Duration) -> Options {
    Options {
        name: "test".into(),
        open_id: life,
        max_bytes: 1 << 20,
        segment_bytes: 64 << 10,
        keep_bytes: 0,
        insert: InsertLimits { rows: 1000, rows_behind: 1000, bytes: 1 << 20, decoded_bytes: 1 << 30, delay },
    }
}

/// Seals a batch of one message of QoS 1.
pub fn publish_to(router: &mut Router, topic: &[u8], payload: &[u8], sequence: u64) {
    let properties = Properties::NONE;
    let publish = Publish {
        topic,
        payload,
        qos: 1,
        retain: false,
        duplicate: false,
        packet_id: 1,
        fingerprint: 0,
        properties,
    };
    router.accept(&publish, Some(sequence), ReceiveTime::read(), "c");
    router.seal_all();
}

impl Running {
    /// A record of one message of QoS 1.
    fn send(&mut self) {
        let payload = format!(r#"{{"seq":{}}}"#, self.sent);
        self.send_to(b"t", payload.as_bytes());
    }

    fn send_to(&mut self, topic: &[u8], payload: &[u8]) {
        publish_to(&mut self.router, topic, payload, self.sent);
        self.sent += 1;
    }

    /// Lets the thread look around.
    fn wake(&self) {
        self.controls.send(Control::Commit(bounded(0).0)).unwrap();
    }

    /// Waits for `count` acknowledgements.
    fn acknowledged(&mut self, count: usize) {
        for _ in 0..count {
            let acks = loop {
                match self.commands.blocking_recv().unwrap() {
                    Command::Settled(acks) if !acks.is_empty() => break acks,
                    _ => {}
                }
            };
            drop(acks);
        }
    }

    fn next_job(&self) -> InsertJob {
        self.jobs.recv_timeout(LONG).unwrap()
    }

    /// A worker's work on an INSERT that ClickHouse has taken.
    fn settle(&self, job: InsertJob) {
        let InsertJob { insert, completion, permit, .. } = job;
        completion.inserted(insert.records.iter().map(|record| u64::from(record.messages)).sum());
        drop(permit);
    }

    fn warned(&self, codes: &[&str]) {
        let until = Instant::now() + LONG;
        while self.warnings.lock().unwrap().as_slice() != codes {
            assert!(Instant::now() < until, "{:?} are not {codes:?}", self.warnings.lock().unwrap());
            std::thread::sleep(Duration::from_millis(1));
        }
    }

    /// Channels as a stop does.
    fn end(self) -> Arc<PipelineContext> {
        let Running { context, router, thread, jobs, .. } = self;
        drop((router, jobs));
        thread.join().unwrap();
        context
    }
}

#[test]
fn nothing_is_acknowledged_before_it_is_synced() {
    let disk = Simulated::new(1);
    for faults in [BROKEN, Faults { one_in: None, room: Some(10) }] {
        let mut running = start(&disk, 1, LONG);
        running.warned(&[]);
        disk.set_faults(faults);
        running.send();
        running.warned(&["SPOOL_IO"]);
        running.send();
        assert!(running.commands.try_recv().is_err());

        disk.set_faults(Faults::default());
        running.acknowledged(2);
        running.warned(&["SPOOL_IO", "SPOOL_RECOVERED"]);
        running.end();
        disk.crash();
        let recovered = Log::open(disk.clone(), options_of_a_look(), Instant::now()).unwrap().1;
        assert!(recovered.messages >= 2);
    }
}

fn options_of_a_look() -> Options {
    super::records::options(9)
}

#[test]
fn an_insert_waits_for_its_time_or_for_somebody_in_a_hurry() {
    let disk = Simulated::new(1);
    let mut running = start(&disk, 1, LONG);
    running.send();
    running.send();
    running.acknowledged(2);
    assert!(running.jobs.is_empty());
    let hurry = Arc::new(());
    running.controls.send(Control::FlushNow(Arc::downgrade(&hurry))).unwrap();
    let job = running.next_job();
    assert_eq!(job.insert.records.len(), 2);
    running.settle(job);
    let context = running.end();
    let counts = context.ledger.counts();
    assert_eq!((counts.received, counts.inserted, counts.pending), (2, 2, 0));
    assert_eq!(context.memory.used(), 0);
}

#[test]
fn a_worker_has_one_insert_and_the_next_one_grows_meanwhile() {
    let disk = Simulated::new(1);
    let mut running = start(&disk, 1, Duration::ZERO);
    running.send();
    let first = running.next_job();
    for _ in 0..5 {
        running.send();
    }
    running.acknowledged(6);
    assert!(running.jobs.is_empty());
    running.settle(first);
    let mut records = 0;
    while records < 5 {
        let job = running.next_job();
        records += job.insert.records.len();
        running.settle(job);
    }
    assert_eq!(running.end().ledger.counts().inserted, 6);
}

#[test]
fn a_commit_that_is_called_for_has_been_acknowledged() {
    let disk = Simulated::new(1);
    let mut running = start(&disk, 1, LONG);
    for _ in 0..5 {
        running.send();
    }
    let (done, committed) = bounded(0);
    running.controls.send(Control::Commit(done)).unwrap();
    assert!(committed.recv_timeout(LONG).is_err_and(|error| error.is_disconnected()));
    let settled = std::iter::from_fn(|| running.commands.try_recv().ok());
    assert_eq!(settled.filter(|command| matches!(command, Command::Settled(_))).count(), 5);
    running.end();
}

#[test]
fn messages_of_an_earlier_life_are_in_the_ledger_until_they_are_settled() {
    let disk = Simulated::new(1);
    let mut first = start(&disk, 1, LONG);
    for _ in 0..3 {
        first.send();
    }
    first.acknowledged(3);
    let context = first.end();
    assert_eq!(context.metrics.spool.as_ref().unwrap().left.load(std::sync::atomic::Ordering::Relaxed), 3);

    let second = start(&disk, 2, LONG);
    let counts = second.context.ledger.counts();
    assert_eq!((counts.received, counts.pending), (3, 3));
    let job = second.next_job();
    assert_eq!(job.insert.records.len(), 3);
    second.settle(job);
    let context = second.end();
    assert_eq!(context.ledger.counts().inserted, 3);
    assert!(context.ledger.wait_below(u64::MAX, Some(Instant::now())));
}

#[test]
fn an_unreadable_record_is_no_longer_pending() {
    let disk = Simulated::new(1);
    let mut running = start(&disk, 1, LONG);
    let flip_last = || {
        let (name, bytes) = disk.contents().pop_first().unwrap();
        disk.change(&name, |bytes| *bytes.last_mut().unwrap() ^= 1);
        bytes.len()
    };
    running.send();
    running.send();
    running.acknowledged(2);
    let before = flip_last();
    let hurry = Arc::new(());
    running.controls.send(Control::FlushNow(Arc::downgrade(&hurry))).unwrap();
    let job = running.next_job();
    assert_eq!(job.insert.records.len(), 1);
    running.warned(&["SPOOL_CORRUPT"]);
    let counts = running.context.ledger.counts();
    assert_eq!((counts.dead_lettered, counts.pending), (1, 1));

    // One of which nothing is left, while the stream is busy with the other.
    running.send();
    running.acknowledged(1);
    assert!(flip_last() > before);
    running.settle(job);
    running.warned(&["SPOOL_CORRUPT", "SPOOL_CORRUPT"]);
    assert!(running.context.ledger.wait_below(u64::MAX, Some(Instant::now() + LONG)));
    let context = running.end();
    let counts = context.ledger.counts();
    assert_eq!((counts.received, counts.inserted, counts.dead_lettered, counts.pending), (3, 1, 2, 0));
    assert_eq!(context.memory.used(), 0);
}

#[test]
fn a_message_that_was_not_acknowledged_is_not_found_again() {
    let disk = Simulated::new(1);
    let mut running = start(&disk, 1, LONG);
    running.send();
    running.acknowledged(1);
    disk.set_faults(BROKEN);
    running.send();
    running.warned(&["SPOOL_IO"]);
    disk.set_faults(Faults { one_in: None, room: Some(disk.used()) });
    running.context.cancel();
    let thread = running.thread;
    drop((running.router, running.jobs));
    thread.join().unwrap();
    disk.set_faults(Faults::default());
    let recovered = Log::open(disk, options_of_a_look(), Instant::now()).unwrap().1;
    assert_eq!(recovered.messages, 1);
}

/// Records of which the messages are large: an INSERT of them is all in memory.
fn large(seq: usize) -> Vec<u8> {
    format!(r#"{{"seq":{seq},"text":"{}"}}"#, "x".repeat(100_000)).into_bytes()
}

#[test]
fn one_insert_goes_out_and_others_as_far_as_memory_has_room() {
    let disk = Simulated::new(1);
    // A share is 128 KiB, and a record takes 100 KB of it.
    let mut running = start_with(&disk, 1, Duration::ZERO, 1 << 20, 4);
    let context = running.context.clone();
    let mut others = MemoryReservation::new(&context.memory);
    others.resize(2 << 20);
    running.send_to(b"t", &large(1));
    running.send_to(b"u", &large(2));
    running.acknowledged(2);
    // Beyond the ceiling one INSERT goes out, so that the spool is emptied whatever else is there.
    let first = running.next_job();
    assert!(running.jobs.recv_timeout(Duration::from_millis(50)).is_err());
    assert!(
        context.memory.used() > (2 << 20) + 120_000,
        "it counts, and a share for what is to be read back"
    );
    others.resize(0);
    running.wake();
    let second = running.next_job();
    assert!(context.memory.used() > 200_000);
    running.settle(first);
    running.settle(second);
    let context = running.end();
    assert_eq!(context.memory.used(), 0);
}
