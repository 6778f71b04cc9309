//! A firehose into nothing: what the engine takes for a message when neither a socket nor ClickHouse is there, on one
//! thread. The same stages as in a pipeline, one more from line to line: packets are framed, decoded into batches, encoded
//! as blocks, compressed, and thrown away. Then all of it at QoS 1, with the acknowledgements of what was inserted, all of it
//! beside a second thread, and what metrics take.
//!
//! `cargo bench --profile quick --bench firehose`, with a number of rows for other batches than those of 5,000.

#![allow(clippy::print_stdout, reason = "a benchmark prints its figures")]

use std::hint::black_box;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use crossbeam_channel::{Receiver, bounded, unbounded};
use millrace::clickhouse::schema::Table;
use millrace::clickhouse::schema::TableColumn;
use millrace::clickhouse::{BlockEncoder, ColumnType, native};
use millrace::config::{Compression, Config};
use millrace::core::clock::ReceiveTime;
use millrace::ingest::batch::Batch;
use millrace::ingest::router::Router;
use millrace::ingest::table_plan::TablePlans;
use millrace::mqtt::session::{Event, Session};
use millrace::mqtt::{AckSender, Command, MessageSink};
use millrace::telemetry::context::PipelineContext;
use millrace::telemetry::metrics::Rates;
use millrace::telemetry::prometheus;
use tokio::sync::mpsc::UnboundedReceiver;

/// More than the caches hold, as with messages that come from a socket, and all different.
const MESSAGES: usize = 50_000;
/// The most bytes of one read of the socket.
const READ: usize = 256 * 1024;
const ROUNDS: Duration = Duration::from_secs(3);

#[derive(Clone, Copy, PartialEq)]
enum Stage {
    Frame,
    Decode,
    Encode,
    /// In place of the last.
    Pack,
    /// The stream is at QoS 1.
    Acknowledge,
}

fn main() {
    let rows = std::env::args().skip(1).find_map(|argument| argument.parse().ok()).unwrap_or(5000);
    let stream = stream(0);
    println!("{} bytes a message, batches of {rows} rows\n", stream.len() / MESSAGES);
    println!("{:>9} {:>12}", "ns", "messages/s");
    for (stage, name) in [
        (Stage::Frame, "framed"),
        (Stage::Decode, "+ decoded into batches"),
        (Stage::Encode, "+ encoded as Native blocks"),
        (Stage::Pack, "+ compressed with LZ4, as INSERTs carry them"),
    ] {
        report(measure(stage, rows, &stream).best, name);
    }
    report(measure(Stage::Acknowledge, rows, &self::stream(1)).best, "the same at QoS 1, and acknowledged");
    report(measure(Stage::Pack, rows, &stream).median, "the same in the median round");
    report(measure_beside(rows, &stream).median, "the same while another thread does the same");
    let nanos = measure_metrics(rows, &stream);
    println!("{nanos:>9.2} {:>12}  what metrics take beside these", "");
}

fn report(nanos: f64, name: &str) {
    println!("{nanos:>9.0} {:>12.0}  {name}", 1e9 / nanos);
}

/// Nanoseconds per message.
struct Measured {
    /// In the best of many rounds: what the code takes when nothing disturbs it.
    best: f64,
    /// The figure in relation to the machine.
    median: f64,
}

fn measure(stage: Stage, rows: usize, stream: &[u8]) -> Measured {
    let mut engine = Engine::new(rows);
    let mut rounds = Vec::new();
    let begun = Instant::now();
    while begun.elapsed() < ROUNDS {
        let round = Instant::now();
        engine.round(stage, stream);
        rounds.push(round.elapsed().as_nanos() as f64 / MESSAGES as f64);
    }
    rounds.sort_by(f64::total_cmp);
    Measured { best: rounds[0], median: rounds[rounds.len() / 2] }
}

/// The share of a machine that one thread gets while another one works: less, where both run on one
/// core of the host.
fn measure_beside(rows: usize, stream: &[u8]) -> Measured {
    let is_measured = AtomicBool::new(false);
    thread::scope(|scope| {
        scope.spawn(|| {
            let mut engine = Engine::new(rows);
            while !is_measured.load(Ordering::Relaxed) {
                engine.round(Stage::Pack, stream);
            }
        });
        let measured = measure(Stage::Pack, rows, stream);
        is_measured.store(true, Ordering::Relaxed);
        measured
    })
}

/// Nanoseconds per message in the best of many rounds for metrics: what is recorded of each batch, and of all messages together
/// one event and one text for Prometheus. The counters of read messages are in the stages already.
fn measure_metrics(rows: usize, stream: &[u8]) -> f64 {
    let engine = &mut Engine::new(rows);
    engine.round(Stage::Decode, stream);
    let PipelineContext { metrics, ledger, memory, .. } = &*engine.context;
    let mut best = Duration::MAX;
    let begun = Instant::now();
    while begun.elapsed() < ROUNDS {
        let round = Instant::now();
        for _ in 0..MESSAGES.div_ceil(rows) {
            metrics.insert_latency.record(round.elapsed(), 1);
            metrics.count_insert("positions", rows as u64, 1);
            // The parts of a batch that came by one read each.
            for _ in 0..=rows * stream.len() / MESSAGES / READ {
                metrics.end_to_end_latency.record(round.elapsed(), rows as u64);
            }
        }
        let snapshot = metrics.snapshot("running", Rates::default(), ledger, memory);
        black_box(serde_json::to_string(&snapshot).expect("numbers and strings"));
        black_box(prometheus::text(&prometheus::families("bench", "node", &snapshot, metrics)));
        best = best.min(round.elapsed());
    }
    best.as_nanos() as f64 / MESSAGES as f64
}

struct Engine {
    context: Arc<PipelineContext>,
    session: Session,
    router: Router,
    batches: Receiver<Box<Batch>>,
    commands: UnboundedReceiver<Command>,
    packer: BlockEncoder,
}

impl Engine {
    fn new(rows: usize) -> Engine {
        let config = serde_json::json!({
            "mqtt": { "url": "mqtt://nowhere", "qos": 1 },
            "clickhouse": { "url": "http://nowhere" },
            "routes": [{ "topic": "drivers/{driver_id}/position", "table": "positions" }],
            "batch": { "maxRows": rows },
        });
        let config = Config::parse(&config.to_string()).expect("a valid configuration");
        let columns = [
            ("driver_id", "String"),
            ("lat", "Float64"),
            ("lng", "Float64"),
            ("speed", "Float32"),
            ("heading", "UInt16"),
            ("ts", "DateTime64(3, 'UTC')"),
        ];
        let columns = columns.map(|(name, column_type)| TableColumn {
            name: name.into(),
            column_type: ColumnType::parse(column_type, "UTC").expect("a type of ClickHouse"),
            default: None,
            is_ephemeral: false,
            is_added: false,
        });
        let now = Instant::now();
        let plans = TablePlans::new(&config.routes, vec![Table::assumed(columns.into())], now);
        let plans = Arc::new(plans.expect("the route fits the table"));
        let mut session = Session::new(&config.mqtt, "bench".into(), vec!["drivers/+/position".into()], now);
        let context = Arc::new(PipelineContext::new(config, Box::new(|_| {})));
        let (to_batches, batches) = bounded(1024);
        let (ack_sender, commands) = AckSender::channel();
        let router = Router::new(context.clone(), 0, ack_sender, plans, to_batches, unbounded().0);

        session.connect(now);
        for answer in [&b"\x20\x03\x00\x00\x00"[..], b"\x90\x04\x00\x01\x00\x01"] {
            session.receive(answer, now).expect("the answers of a broker");
        }
        assert!(session.is_subscribed());
        Engine { context, session, router, batches, commands, packer: BlockEncoder::new(Compression::Lz4) }
    }

    /// Takes the stream, in reads of `READ` bytes.
    fn round(&mut self, stage: Stage, stream: &[u8]) {
        let mut at = 0;
        while at < stream.len() {
            let now = ReceiveTime::read();
            let read = &stream[at..stream.len().min(at + READ)];
            let mut taken = 0;
            while let Some((bytes, event)) =
                self.session.receive(&read[taken..], now.instant).expect("well-formed packets")
            {
                taken += bytes;
                let Event::Message { publish, sequence, .. } = event else { continue };
                if stage == Stage::Frame {
                    black_box((publish.topic, publish.payload));
                } else {
                    self.router.accept(&publish, sequence, now, "bench");
                }
            }
            at += taken;
            self.router.commit_read_stats();
            while let Ok(batch) = self.batches.try_recv() {
                self.put(stage, batch);
            }
            self.acknowledge(now.instant);
        }
    }

    /// A connection's work once batches are settled, but for the write to the socket.
    fn acknowledge(&mut self, now: Instant) {
        while let Ok(command) = self.commands.try_recv() {
            if let Command::Settled(acks) = command {
                self.session.settle(&acks);
            }
        }
        self.session.acknowledge();
        self.session.sent(black_box(self.session.outgoing()).len(), now);
    }

    /// A worker's work on a batch, but for the INSERT.
    fn put(&mut self, stage: Stage, batch: Box<Batch>) {
        let heads = &batch.plan.column_headers;
        match stage {
            Stage::Frame | Stage::Decode => {}
            Stage::Encode => drop(black_box(native::encode_to_vec(heads, &batch.columns))),
            Stage::Pack | Stage::Acknowledge => {
                drop(black_box(self.packer.encode(heads, &batch.columns, &batch.plan.resistance)))
            }
        }
        let messages = batch.messages.len() as u64;
        batch.completion.inserted(messages);
        batch.plan.column_pool.release(batch.columns);
    }
}

/// PUBLISH packets of MQTT 5 at QoS 0 or 1, side by side.
fn stream(qos: u8) -> Vec<u8> {
    let mut out = Vec::new();
    for i in 0..MESSAGES {
        let topic = format!("drivers/driver-{}/position", i % 4999);
        // Digits like those of real positions: LZ4 must not find more in them than there is.
        let scattered = (i as u64).wrapping_mul(0x9E37_79B9_7F4A_7C15) >> 40;
        let payload = format!(
            r#"{{"driver_id":"driver-{}","lat":{:.6},"lng":{:.6},"speed":{:.1},"heading":{},"ts":{}}}"#,
            i % 4999,
            25.5 + scattered as f64 / 3e7,
            -80.5 + (scattered % 7_777_777) as f64 / 3e7,
            (scattered % 333) as f64 / 10.0,
            scattered % 360,
            1_730_000_000_000_u64 + i as u64 / 60,
        );
        let packet_id_bytes = 2 * usize::from(qos);
        let length = 2 + topic.len() + packet_id_bytes + 1 + payload.len();
        assert!((128..16_384).contains(&length), "two bytes of remaining length");
        out.extend([0x30 | (qos << 1), length as u8 | 0x80, (length >> 7) as u8, 0, topic.len() as u8]);
        out.extend(topic.bytes());
        out.extend(&(i as u16 + 1).to_be_bytes()[..packet_id_bytes]);
        out.push(0);
        out.extend(payload.bytes());
    }
    out
}
