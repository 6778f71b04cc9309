//! A pipeline without its broker: messages go into the router of a connection that the test plays, and come out as INSERTs,
//! acknowledgements and events.

use std::collections::BTreeSet;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use tokio::sync::mpsc;

use super::engine::{
    AckSender, Command, Config, Event, MessageSink, OutputStages, PipelineContext, Properties, Publish,
    ReceiveTime, Router, StageInputs, Tokens, TransformHosts, fingerprint, prepare, run_on, runtime, spool,
};
use super::fake_clickhouse::{Listening, Server};

/// The fingerprint of a message of these tests.
pub fn checksum(payload: &str) -> u64 {
    fingerprint(b"", payload.as_bytes())
}

const LONG: Duration = Duration::from_secs(30);

/// The events of a pipeline.
#[derive(Debug, Default, Clone)]
pub struct Reported {
    /// Payload, code and message.
    pub dead_letters: Vec<(String, &'static str, String)>,
    pub warnings: Vec<(&'static str, String)>,
    /// The same warnings as JavaScript gets them.
    pub as_json: Vec<Value>,
    /// Traces of sampled batches, as JSON.
    pub traces: Vec<Value>,
}

impl Reported {
    pub fn codes(&self) -> Vec<&'static str> {
        self.warnings.iter().map(|(code, _)| *code).collect()
    }

    /// The last of it, for a test that fails.
    pub fn last(&self) -> &[(&'static str, String)] {
        &self.warnings[self.warnings.len().saturating_sub(3)..]
    }

    /// A field of the first warning with this code.
    pub fn field(&self, code: &str, name: &str) -> Value {
        self.as_json
            .iter()
            .find(|warning| warning["code"] == code)
            .map_or(Value::Null, |warning| warning[name].clone())
    }

    pub fn count(&self, code: &str) -> usize {
        self.codes().iter().filter(|reported| **reported == code).count()
    }
}

pub struct Running {
    pub clickhouse: Listening,
    pub context: Arc<PipelineContext>,
    router: Option<Router>,
    commands: mpsc::UnboundedReceiver<Command>,
    stages: Option<OutputStages>,
    spool: Option<crossbeam_channel::Sender<spool::Control>>,
    reported: Arc<Mutex<Reported>>,
    sent: u64,
    acknowledged: BTreeSet<u64>,
    /// Numbers of the messages that the spool knew at the beginning.
    known: Vec<u64>,
}

/// The state at the end.
pub struct Ended {
    pub clickhouse: Listening,
    pub reported: Reported,
    pub inserted: u64,
    pub dead_lettered: u64,
    pub dropped: u64,
    pub pending: u64,
    /// Attempts that were made again.
    pub retried: u64,
    /// Messages that were acknowledged.
    pub acknowledged: usize,
}

/// The default configuration of these tests, with `changes` in it: one route to the table `t`, one
/// INSERT at a time, retries a millisecond apart.
pub fn config(url: &str, changes: &Value) -> Config {
    let mut config = json!({
        "name": "sink",
        "mqtt": { "url": "mqtt://nowhere" },
        "clickhouse": {
            "url": url,
            "database": "d",
            "maxInFlight": 1,
            "retry": { "minMs": 1, "maxMs": 2 },
        },
        "routes": [{ "topic": "t/#", "table": "t" }],
    });
    merge(&mut config, changes);
    Config::parse(&config.to_string()).unwrap()
}

fn merge(into: &mut Value, changes: &Value) {
    match (into, changes) {
        (Value::Object(into), Value::Object(changes)) => {
            for (name, change) in changes {
                merge(into.entry(name).or_insert(Value::Null), change);
            }
        }
        (into, changes) => *into = changes.clone(),
    }
}

/// A server with the table `t (seq UInt32, text String)`.
pub fn clickhouse() -> Listening {
    let clickhouse = Listening::start();
    clickhouse.create("t", &["seq UInt32", "text String"]);
    clickhouse
}

impl Running {
    pub fn start(changes: Value) -> Running {
        Running::at(clickhouse(), changes)
    }

    /// The same at a server that is there already.
    pub fn at(clickhouse: Listening, changes: Value) -> Running {
        Running::with_hosts(clickhouse, changes, TransformHosts::default())
    }

    /// The same with transforms.
    pub fn with_hosts(clickhouse: Listening, changes: Value, hosts: TransformHosts) -> Running {
        let config = config(&clickhouse.url, &changes);
        let reported: Arc<Mutex<Reported>> = Arc::default();
        let listener = reported.clone();
        let listener = move |event| listener.lock().unwrap().record(event);
        let context = Arc::new(PipelineContext::new(config, Box::new(listener)));
        let opened = spool::open(&context).unwrap();
        let known = opened.as_ref().and_then(|opened| opened.acknowledged(0, "client"));
        let known = known.map(|known| known.iter().map(|record| record.fingerprint).collect());
        let prepared = run_on(runtime().unwrap(), prepare(&context, Duration::from_secs(60))).unwrap();
        let (acks, commands) = AckSender::channel();
        let tokens = Tokens::Random("sink-life".into());
        let plans = prepared.plans.clone();
        let (stages, inputs) =
            OutputStages::start(&context, plans.clone(), prepared.store, tokens, opened, &hosts).unwrap();
        let StageInputs { batches, sink, dead_letters, spool, .. } = inputs;
        // It would keep the sinks from ending.
        drop(sink);
        let router = Router::new(context.clone(), 0, acks, plans, batches, dead_letters);
        Running {
            clickhouse,
            context,
            router: Some(router),
            commands,
            stages: Some(stages),
            spool,
            reported,
            sent: 0,
            acknowledged: BTreeSet::new(),
            known: known.unwrap_or_default(),
        }
    }

    /// One message of QoS 1 to `t/x`.
    pub fn send(&mut self, payload: &str) {
        self.send_to("t/x", payload);
    }

    pub fn send_to(&mut self, topic: &str, payload: &str) {
        let publish = Publish {
            topic: topic.as_bytes(),
            payload: payload.as_bytes(),
            qos: 1,
            retain: false,
            duplicate: false,
            packet_id: (self.sent % 65_535) as u16 + 1,
            fingerprint: checksum(payload),
            properties: Properties::NONE,
        };
        let router = self.router.as_mut().unwrap();
        router.accept(&publish, Some(self.sent), ReceiveTime::read(), "client");
        router.commit_read_stats();
        let at_once = router.take_ready_acks();
        self.sent += 1;
        self.note(Command::Settled(at_once));
    }

    /// Messages with `seq` from `range`.
    pub fn send_numbers(&mut self, range: std::ops::Range<u32>) {
        for seq in range {
            self.send(&json!({ "seq": seq, "text": format!("text {seq}") }).to_string());
        }
    }

    /// Whether the connection would read nothing more. As a connection does after each read, this first
    /// seals batches that found the queue full.
    pub fn is_batch_full(&mut self) -> bool {
        let router = self.router.as_mut().unwrap();
        router.seal_due(Instant::now());
        router.is_batch_full()
    }

    /// The checksums of the messages that would be recognised if the broker sent them again.
    pub fn known_fingerprints(&self) -> Vec<u64> {
        self.known.clone()
    }

    pub fn sent(&self) -> u64 {
        self.sent
    }

    pub fn wait_until(&self, condition: impl Fn() -> bool) {
        let until = Instant::now() + LONG;
        while !condition() {
            assert!(Instant::now() < until, "{:?}", self.reported().last());
            std::thread::sleep(Duration::from_millis(1));
        }
    }

    /// Ends the open batches: what was sent so far is INSERTs of its own.
    pub fn seal(&mut self) {
        self.router.as_mut().unwrap().seal_all();
    }

    pub fn reported(&self) -> Reported {
        self.reported.lock().unwrap().clone()
    }

    /// Waits for a warning with this code.
    pub fn wait_for_warning(&self, code: &str) {
        let until = Instant::now() + LONG;
        while self.reported().count(code) == 0 {
            assert!(Instant::now() < until, "no {code}, {:?}", self.reported().last());
            std::thread::sleep(Duration::from_millis(1));
        }
    }

    /// Makes INSERTs of all that the spool has, if there is one.
    pub fn flush_spool(&self) {
        if let Some(spool) = &self.spool {
            let flush = Arc::new(());
            spool.send(spool::Control::FlushNow(Arc::downgrade(&flush))).unwrap();
            std::mem::forget(flush);
        }
    }

    /// Waits until a table has `count` rows.
    pub fn wait_for_rows(&self, table: &str, count: usize) {
        let until = Instant::now() + LONG;
        while self.clickhouse.rows(table).len() < count {
            assert!(Instant::now() < until, "no {count} rows, {:?}", self.reported().last());
            std::thread::sleep(Duration::from_millis(1));
        }
    }

    /// The messages that are acknowledged by now, by their order.
    pub fn acknowledged(&mut self) -> &BTreeSet<u64> {
        while let Ok(command) = self.commands.try_recv() {
            self.note(command);
        }
        &self.acknowledged
    }

    /// Waits until `count` are acknowledged.
    pub fn wait_for_acknowledgements(&mut self, count: usize) {
        let until = Instant::now() + LONG;
        while self.acknowledged().len() < count {
            assert!(
                Instant::now() < until,
                "{:?} of {count}, {:?}",
                self.acknowledged,
                self.reported().last()
            );
            std::thread::sleep(Duration::from_millis(1));
        }
    }

    fn note(&mut self, command: Command) {
        let Some(acks) = command.settled() else { return };
        for sequence in acks.runs().iter().flat_map(|(first, count)| *first..*first + *count) {
            assert!(self.acknowledged.insert(sequence), "{sequence} is acknowledged twice");
        }
    }

    /// Ends as a stop does, when all that was sent is settled. Every message must then be settled in
    /// the ledger, acknowledged once, and no memory may be held.
    pub fn finish(mut self) -> Ended {
        self.drain();
        let ended = self.join();
        assert_eq!(
            (ended.pending, ended.acknowledged as u64),
            (0, ended.inserted + ended.dead_lettered + ended.dropped)
        );
        ended
    }

    /// The same for a life that has what an earlier one left in the spool: that was acknowledged then.
    pub fn finish_spooled(mut self) -> Ended {
        self.drain();
        self.join()
    }

    fn drain(&mut self) {
        // While the sinks are busy a batch stays open: a connection seals it when one is settled.
        let until = Instant::now() + LONG;
        while self.router.as_ref().unwrap().has_open_batch() {
            assert!(Instant::now() < until, "a batch stays open, {:?}", self.reported().last());
            self.seal();
            std::thread::sleep(Duration::from_millis(1));
        }
        let flush = Arc::new(());
        if let Some(spool) = &self.spool {
            spool.send(spool::Control::FlushNow(Arc::downgrade(&flush))).unwrap();
        }
        assert!(
            self.context.wait_below(u64::MAX, Some(Instant::now() + LONG)),
            "{:?}, {:?}",
            self.context.ledger.counts(),
            self.reported().last()
        );
    }

    /// Ends at once, whatever is left.
    pub fn cancel(self) -> Ended {
        self.context.cancel();
        self.join()
    }

    fn join(mut self) -> Ended {
        drop((self.router.take(), self.spool.take()));
        self.stages.take().unwrap().join();
        self.acknowledged();
        let (counts, metrics) = (self.context.ledger.counts(), &self.context.metrics);
        assert_eq!(self.context.memory.used(), 0, "all memory is given back");
        assert_eq!(metrics.inserts_in_flight.load(Ordering::Relaxed), 0);
        Ended {
            reported: self.reported(),
            inserted: counts.inserted,
            dead_lettered: counts.dead_lettered,
            dropped: counts.dropped,
            pending: counts.pending,
            retried: metrics.inserts_retried.load(Ordering::Relaxed),
            acknowledged: self.acknowledged.len(),
            clickhouse: self.clickhouse,
        }
    }
}

impl Reported {
    pub fn record(&mut self, event: Event) {
        match event {
            Event::Warning(warning) => {
                self.as_json.push(serde_json::to_value(&*warning).unwrap());
                self.warnings.push((warning.code, warning.message));
            }
            Event::DeadLetters(dead_letters, _held) => {
                self.dead_letters.extend(dead_letters.into_iter().map(|dead_letter| {
                    let payload = String::from_utf8_lossy(&dead_letter.payload).into_owned();
                    (payload, dead_letter.reason.code.as_str(), dead_letter.reason.message.to_string())
                }))
            }
            Event::Trace(trace) => self.traces.push(serde_json::to_value(trace).unwrap()),
            Event::Error(error) => panic!("{error}"),
            _ => {}
        }
    }
}

/// `seq` of the rows of `t`, which must be these numbers, each once.
pub fn assert_rows(clickhouse: &Server, expected: impl IntoIterator<Item = u32>) {
    let expected: Vec<String> = expected.into_iter().map(|seq| seq.to_string()).collect();
    assert_eq!(clickhouse.values("t", "seq"), expected);
}
