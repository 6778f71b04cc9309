//! A connection between a model broker and a model sink, on a clock that is held: an hour without ClickHouse, and a fast
//! stream through a narrow window.
//!
//! The broker disconnects a client that sends nothing for one and a half keep-alive intervals, answers
//! pings behind whatever it has sent before, and at QoS 1 wants every message acknowledged, in order.
//! The sink takes nothing until the outage is over, and in the hour of the first test the broker has
//! more for us than the memory ceiling allows.

use std::collections::{BTreeSet, VecDeque};
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use crossbeam_channel::Receiver;
use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream, duplex};
use tokio::sync::mpsc;
use tokio::time::{Instant, sleep};

use crate::clickhouse::schema::Table;
use crate::config::Config;
use crate::ingest::batch::Batch;
use crate::ingest::router::Router;
use crate::ingest::table_plan::TablePlans;
use crate::mqtt::connection::{CLOSE_TIMEOUT, Connection};
use crate::mqtt::session::Session;
use crate::mqtt::{AckSender, Command, filters};
use crate::telemetry::context::PipelineContext;
use crate::telemetry::events::Event;

const HOUR: Duration = Duration::from_secs(3600);
const KEEP_ALIVE: Duration = Duration::from_secs(30);
const CEILING: usize = 1 << 20;
/// One read may overshoot the ceiling: `read_buffer::DEFAULT_CAPACITY`, decoded and as it came.
const ONE_READ: usize = 512 << 10;

/// The course of a simulation.
#[derive(Clone, Copy)]
struct Play {
    qos: u8,
    /// How many messages may wait for their acknowledgement.
    window: usize,
    total: u32,
    per_second: u32,
    outage: Duration,
    /// How long the broker sends what it kept before it grants the subscription.
    backlog: Duration,
    /// How often the models look around.
    step: Duration,
}

fn config(qos: u8, more: &str) -> Config {
    Config::parse(&format!(
        r#"{{
            "mqtt": {{
                "url": "mqtt://x", "clientId": "c", "protocolVersion": 4, "qos": {qos}, "coalesceMs": 0,
                "maxPacketBytes": 1024, "keepAliveSeconds": {}{more}
            }},
            "clickhouse": {{ "url": "http://x" }},
            "memory": {{ "maxBytes": {CEILING} }},
            "routes": [{{ "topic": "t", "table": "t" }}]
        }}"#,
        KEEP_ALIVE.as_secs()
    ))
    .unwrap()
}

/// A connection, what its router sealed, and the way to command it.
type Played = (Connection<Router>, Receiver<Box<Batch>>, mpsc::UnboundedSender<Command>);

fn connection(context: &Arc<PipelineContext>) -> Played {
    let config = &context.config;
    let table = Table::of(&[("seq", "UInt32", None), ("text", "String", None)]);
    let plans = Arc::new(TablePlans::new(&config.routes, vec![table], Instant::now().into_std()).unwrap());
    let (batch_sender, batches) = crossbeam_channel::bounded(1024);
    let (dead_letters, _) = crossbeam_channel::unbounded();
    let session = Session::new(&config.mqtt, "c".into(), filters(config), Instant::now().into_std());
    let (commander, commands) = mpsc::unbounded_channel();
    let acks = AckSender::new(commander.clone());
    let router = Router::new(context.clone(), 0, acks, plans, batch_sender, dead_letters);
    let (ready, _) = crossbeam_channel::bounded(1);
    (Connection::new(context.clone(), session, router, commands, ready), batches, commander)
}

/// The broker's side of the connection.
struct Broker {
    play: Play,
    stream: DuplexStream,
    unread: Vec<u8>,
    outgoing: Vec<u8>,
    is_subscribed: bool,
    /// SUBACK, and when it is sent.
    grant: Option<([u8; 5], Instant)>,
    /// How many messages were put into `outgoing`.
    sent: u32,
    /// The packet ids that wait for their acknowledgement.
    in_flight: VecDeque<u16>,
    pings: u32,
    heard_at: Instant,
}

impl Broker {
    fn new(play: Play, stream: DuplexStream) -> Broker {
        Broker {
            play,
            stream,
            unread: Vec::new(),
            outgoing: Vec::new(),
            is_subscribed: false,
            grant: None,
            sent: 0,
            in_flight: VecDeque::new(),
            pings: 0,
            heard_at: Instant::now(),
        }
    }

    /// Until the client has disconnected.
    async fn serve(mut self) -> Broker {
        let Play { window, total, per_second, step, .. } = self.play;
        let began = Instant::now();
        let mut input = [0; 4096];
        loop {
            let due = (began.elapsed().as_secs_f64() * f64::from(per_second)) as u32;
            if let Some((suback, at)) = self.grant
                && at.elapsed() >= self.play.backlog
            {
                self.outgoing.extend(suback);
                self.grant = None;
            }
            while self.is_subscribed
                && self.sent < due.min(total)
                && self.in_flight.len() < window
                && self.outgoing.len() < 64 << 10
            {
                self.publish();
            }
            let Broker { stream, outgoing, .. } = &mut self;
            let (mut reader, mut writer) = tokio::io::split(stream);
            tokio::select! {
                biased;
                read = reader.read(&mut input) => match read.unwrap() {
                    0 => return self,
                    bytes => self.receive(&input[..bytes]),
                },
                written = writer.write(outgoing), if !outgoing.is_empty() => {
                    outgoing.drain(..written.unwrap());
                }
                () = sleep(step) => {}
            }
            assert!(self.heard_at.elapsed() <= KEEP_ALIVE * 3 / 2, "the broker has given us up");
        }
    }

    fn publish(&mut self) {
        let payload = format!(r#"{{"seq":{},"text":"{}"}}"#, self.sent, "x".repeat(500));
        let qos = self.play.qos;
        let body = 3 + if qos > 0 { 2 } else { 0 } + payload.len();
        self.outgoing.extend([0x30 | qos << 1, body as u8 | 0x80, (body >> 7) as u8, 0, 1, b't']);
        if qos > 0 {
            let packet_id = (self.sent % 65535 + 1) as u16;
            self.outgoing.extend(packet_id.to_be_bytes());
            self.in_flight.push_back(packet_id);
        }
        self.outgoing.extend(payload.as_bytes());
        self.sent += 1;
    }

    fn receive(&mut self, bytes: &[u8]) {
        self.heard_at = Instant::now();
        self.unread.extend(bytes);
        // All that we say here is shorter than 128 bytes.
        while let [kind, len, ..] = self.unread[..]
            && self.unread.len() >= 2 + len as usize
        {
            let packet: Vec<u8> = self.unread.drain(..2 + len as usize).collect();
            match kind >> 4 {
                1 => self.outgoing.extend([0x20, 2, 0, 0]),
                8 => {
                    self.grant = Some(([0x90, 3, packet[2], packet[3], self.play.qos], Instant::now()));
                    self.is_subscribed = true;
                }
                4 => {
                    let packet_id = u16::from_be_bytes([packet[2], packet[3]]);
                    assert_eq!(self.in_flight.pop_front(), Some(packet_id), "in the order of receipt");
                }
                12 => {
                    self.pings += 1;
                    self.outgoing.extend([0xd0, 0]);
                }
                14 => {}
                other => panic!("a packet of type {other}"),
            }
        }
    }
}

/// Takes batches once the outage is over, until all messages are in; the most memory that was held meanwhile.
async fn sink(
    context: &PipelineContext,
    batches: Receiver<Box<Batch>>,
    commander: mpsc::UnboundedSender<Command>,
    play: Play,
) -> usize {
    let began = Instant::now();
    let mut inserted = BTreeSet::new();
    let mut most = 0;
    while inserted.len() < play.total as usize {
        sleep(play.step).await;
        most = most.max(context.memory.used());
        if began.elapsed() < play.outage {
            assert_eq!(context.ledger.counts().inserted, 0);
            continue;
        }
        while let Ok(batch) = batches.try_recv() {
            for message in batch.messages.iter() {
                let row: serde_json::Value = serde_json::from_slice(message.payload).unwrap();
                assert!(inserted.insert(row["seq"].as_u64()), "{} came twice", row["seq"]);
            }
            let messages = batch.messages.len() as u64;
            batch.completion.inserted(messages);
        }
    }
    commander.send(Command::Close).unwrap();
    most
}

/// Plays it to the end, where every message is in once and acknowledged: the broker as it is then, the most memory that was
/// held, how often we wrote, and how long it took.
async fn played(play: Play) -> (Broker, usize, u64, Duration) {
    let began = Instant::now();
    let context = Arc::new(PipelineContext::new(config(play.qos, ""), Box::new(|_| {})));
    let (mut connection, batches, commander) = connection(&context);
    let (ours, theirs) = duplex(64 << 10);
    let broker = Broker::new(play, theirs).serve();
    let (ended, broker, most) =
        tokio::join!(connection.run_connected(ours), broker, sink(&context, batches, commander, play));
    assert_eq!(ended, Ok(()));
    assert_eq!(broker.sent, play.total);
    assert_eq!(broker.in_flight, [0u16; 0], "every message is acknowledged");
    let counts = context.ledger.counts();
    let total = u64::from(play.total);
    assert_eq!((counts.received, counts.inserted, counts.pending), (total, total, 0));
    (broker, most, context.metrics.connections[0].writes.load(Ordering::Relaxed), began.elapsed())
}

#[tokio::test(start_paused = true)]
async fn an_hour_without_clickhouse() {
    for qos in [0, 1] {
        let per_second = 20;
        let total = per_second * HOUR.as_secs() as u32;
        let step = Duration::from_millis(100);
        let (broker, most, ..) = played(Play {
            qos,
            window: 65535,
            total,
            per_second,
            outage: HOUR,
            backlog: Duration::ZERO,
            step,
        })
        .await;
        assert!(broker.pings >= 2 * 3600 / KEEP_ALIVE.as_secs() as u32 - 10, "{} pings", broker.pings);
        assert!((CEILING..CEILING + ONE_READ).contains(&most), "{most} bytes were held");
    }
}

#[tokio::test(start_paused = true)]
async fn acknowledgements_of_a_fast_stream_leave_many_at_a_time() {
    // INSERTs that take 5 ms, and a broker that keeps to its window.
    let (outage, step) = (Duration::ZERO, Duration::from_millis(5));
    let (total, per_second) = (300_000, 60_000);
    let (_, _, writes, took) =
        played(Play { qos: 1, window: 1000, total, per_second, outage, backlog: Duration::ZERO, step }).await;
    assert!(writes < u64::from(total) / 20, "{writes} writes");
    let sent_in = Duration::from_secs(5);
    assert!(
        took < sent_in + CLOSE_TIMEOUT + Duration::from_millis(200),
        "{took:?}: the window sets the pace"
    );
}

/// A broker that keeps a session sends what it kept before it grants the subscription.
#[tokio::test(start_paused = true)]
async fn a_backlog_before_the_subscription_does_not_count_as_silence() {
    let (outage, step, backlog) = (Duration::ZERO, Duration::from_millis(5), Duration::from_secs(20));
    let play = Play { qos: 1, window: 1000, total: 30_000, per_second: 1_000, outage, backlog, step };
    let (_, _, _, took) = played(play).await;
    assert!(took >= backlog);
}

/// The warnings of a connection to a broker that grants the filter of a shared group and sends these messages, within a minute.
async fn warned_with_shared_group(total: u32) -> Vec<&'static str> {
    let warnings = Arc::new(Mutex::new(Vec::new()));
    let listener = {
        let warnings = warnings.clone();
        move |event| {
            if let Event::Warning(warning) = event {
                warnings.lock().unwrap().push(warning.code);
            }
        }
    };
    let config = config(1, r#", "sharedGroup": "g""#);
    let context = Arc::new(PipelineContext::new(config, Box::new(listener)));
    let (mut connection, _batches, commander) = connection(&context);
    let (ours, theirs) = duplex(64 << 10);
    let (outage, step) = (Duration::ZERO, Duration::from_millis(100));
    let play = Play { qos: 1, window: 10, total, per_second: 1, outage, backlog: Duration::ZERO, step };
    let close = async {
        sleep(Duration::from_secs(60)).await;
        commander.send(Command::Close).unwrap();
    };
    let (ended, ..) = tokio::join!(connection.run_connected(ours), Broker::new(play, theirs).serve(), close);
    assert_eq!(ended, Ok(()));
    warnings.lock().unwrap().clone()
}

/// MQTT 3.1.1 does not say whether the broker took the filter for an ordinary one.
#[tokio::test(start_paused = true)]
async fn a_shared_group_without_a_message_in_ten_seconds_is_warned_of_once() {
    assert_eq!(warned_with_shared_group(0).await, ["SHARED_GROUP_SILENT"]);
    assert_eq!(warned_with_shared_group(1).await, [""; 0]);
}
