//! How long is waited between attempts, on a clock that is held: it moves only when everything waits for it, so an hour takes
//! no time. Client and server are joined in memory, since the clock would not wait for sockets.

use std::future::Future;
use std::io;
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll};
use std::time::Duration;

use hyper_util::client::legacy::connect::{Connected, Connection};
use hyper_util::rt::TokioIo;
use serde_json::{Value, json};
use tokio::io::{AsyncRead, AsyncWrite, DuplexStream, ReadBuf};
use tokio::sync::mpsc;
use tokio::time::{Instant, sleep};

use super::engine::{
    AckSender, ClickHouseServer, Command, MessageSink, PipelineContext, Properties, Publish, ReceiveTime,
    Router, SchemaClient, Servers, Source, TablePlans, Tokens, Worker, WorkerParts,
};
use super::fake_clickhouse::{Answer, Server};
use super::harness::{Reported, assert_rows, config};

/// A server that a client reaches without a socket.
#[derive(Clone, Default)]
struct InMemory {
    server: Server,
    is_away: Arc<AtomicBool>,
    /// How often a connection was asked for while it was away.
    refused: Arc<AtomicU32>,
}

struct Pipe(DuplexStream);

impl tower_service::Service<http::Uri> for InMemory {
    type Response = TokioIo<Pipe>;
    type Error = io::Error;
    type Future = Pin<Box<dyn Future<Output = io::Result<TokioIo<Pipe>>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, _: http::Uri) -> Self::Future {
        let this = self.clone();
        Box::pin(async move {
            if this.is_away.load(Ordering::Relaxed) {
                this.refused.fetch_add(1, Ordering::Relaxed);
                return Err(io::ErrorKind::ConnectionRefused.into());
            }
            let (client, server) = tokio::io::duplex(64 << 10);
            tokio::spawn(this.server.serve(server));
            Ok(TokioIo::new(Pipe(client)))
        })
    }
}

impl Connection for Pipe {
    fn connected(&self) -> Connected {
        Connected::new()
    }
}

impl AsyncRead for Pipe {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_read(cx, buf)
    }
}

impl AsyncWrite for Pipe {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.0).poll_write(cx, buf)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_shutdown(cx)
    }
}

/// A worker with its batches before it, and the server that it inserts into.
struct Held {
    end: InMemory,
    context: Arc<PipelineContext>,
    reported: Arc<Mutex<Reported>>,
    worker: Worker,
    router: Router,
    commands: mpsc::UnboundedReceiver<Command>,
    sent: u64,
}

impl Held {
    async fn new(changes: Value) -> Held {
        let end = InMemory::default();
        end.server.create("t", &["seq UInt32", "text String"]);
        let reported: Arc<Mutex<Reported>> = Arc::default();
        let listener = reported.clone();
        let mut config = config("http://in.memory", &changes);
        // Batches wait for the one worker there is.
        config.clickhouse.max_in_flight = 16;
        // As long as they are without a configuration.
        config.clickhouse.retry.min = Duration::from_millis(100);
        config.clickhouse.retry.max = Duration::from_secs(30);
        let listener = move |event| listener.lock().unwrap().record(event);
        let context = Arc::new(PipelineContext::new(config, Box::new(listener)));
        let servers = vec![
            ClickHouseServer::over(end.clone(), "http://in.memory", &context.config.clickhouse).unwrap(),
        ];
        let schema = SchemaClient::connect(&servers, "d").await.unwrap();
        let route = &context.config.routes[0];
        let table = schema.table("routes[0]", route).await.unwrap();
        let now = std::time::Instant::now();
        let plans = Arc::new(TablePlans::new(&context.config.routes, vec![table], now).unwrap());
        let (batch_sender, batches) = crossbeam_channel::bounded(16);
        let (dead_letters, _) = crossbeam_channel::unbounded();
        let (acks, commands) = AckSender::channel();
        let parts = WorkerParts {
            context: context.clone(),
            plans: plans.clone(),
            source: Source::Ingest(batches),
            dead_letters: dead_letters.clone(),
            tokens: Arc::new(Tokens::Random("held".into())),
            waiting: Arc::default(),
            taps: Arc::default(),
        };
        let worker = Worker::new(parts, Servers::new(servers, 0));
        let router = Router::new(context.clone(), 0, acks, plans, batch_sender, dead_letters);
        Held { end, context, reported, worker, router, commands, sent: 0 }
    }

    /// A batch of one message.
    fn send(&mut self) {
        let payload = json!({ "seq": self.sent, "text": "x" }).to_string();
        let publish = Publish {
            topic: b"t/x",
            payload: payload.as_bytes(),
            qos: 1,
            retain: false,
            duplicate: false,
            packet_id: 1,
            fingerprint: 0,
            properties: Properties::NONE,
        };
        self.router.accept(&publish, Some(self.sent), ReceiveTime::read(), "client");
        self.router.seal_all();
        self.sent += 1;
    }

    /// Runs the worker until all that was sent is settled, or all is cancelled.
    async fn run(self) -> Ended {
        let Held { end, context, reported, worker, router, mut commands, .. } = self;
        drop(router);
        worker.run().await;
        let mut acknowledged = 0;
        while let Ok(command) = commands.try_recv() {
            acknowledged +=
                command.settled().map_or(0, |acks| acks.runs().iter().map(|(_, count)| count).sum());
        }
        assert_eq!(context.memory.used(), 0);
        let reported = reported.lock().unwrap().clone();
        Ended { end, context, reported, acknowledged }
    }
}

struct Ended {
    end: InMemory,
    context: Arc<PipelineContext>,
    reported: Reported,
    acknowledged: u64,
}

impl Ended {
    /// The times between the attempts.
    fn waits(&self) -> Vec<Duration> {
        let times: Vec<Instant> = self.end.server.inserts().iter().map(|insert| insert.at).collect();
        times.windows(2).map(|pair| pair[1] - pair[0]).collect()
    }
}

/// Waits that begin at 100 ms and double up to 30 s, each between half of that and all of it, but not
/// below `least`. The clock counts full milliseconds.
fn assert_backoff(waits: &[Duration], least: Duration) {
    let millisecond = Duration::from_millis(1);
    for (failures, wait) in waits.iter().enumerate() {
        let step = Duration::from_millis(100 << failures.min(20)).min(Duration::from_secs(30));
        let (from, to) = ((step / 2).max(least), step.max(least));
        assert!((from..=to + 2 * millisecond).contains(wait), "{wait:?} after {failures} failures");
    }
}

#[tokio::test(start_paused = true)]
async fn an_hour_of_failures_is_waited_for() {
    let mut held = Held::new(json!({})).await;
    held.send();
    held.end.server.script(vec![Answer::Exception(252, "Too many parts"); 200]);
    let began = Instant::now();
    let ended = held.run().await;
    assert!(began.elapsed() > Duration::from_secs(3600), "{:?}", began.elapsed());
    assert_eq!((ended.waits().len(), ended.acknowledged), (200, 1));
    assert_backoff(&ended.waits(), Duration::ZERO);
    assert_rows(&ended.end.server, 0..1);
    assert_eq!(
        (ended.reported.count("CLICKHOUSE_RETRYING"), ended.reported.count("CLICKHOUSE_RECOVERED")),
        (200, 1)
    );
}

/// An operator's mistake is retried at most once a second.
#[tokio::test(start_paused = true)]
async fn mistakes_of_an_operator_are_retried_slowly() {
    for code in [60, 81, 115, 164, 192, 201, 242, 243, 497, 516] {
        let mut held = Held::new(json!({})).await;
        held.send();
        held.end.server.script(vec![Answer::Exception(code, "Somebody has to mend it"); 20]);
        let ended = held.run().await;
        assert_eq!((ended.waits().len(), ended.acknowledged), (20, 1));
        assert_backoff(&ended.waits(), Duration::from_secs(1));
    }
}

#[tokio::test(start_paused = true)]
async fn each_insert_begins_with_the_shortest_wait() {
    let mut held = Held::new(json!({})).await;
    let script = [vec![Answer::Cut; 6], vec![Answer::Normal], vec![Answer::Cut; 3]].concat();
    held.end.server.script(script);
    held.send();
    held.send();
    let ended = held.run().await;
    let waits = ended.waits();
    assert_backoff(&waits[..6], Duration::ZERO);
    // There is no wait between the first INSERT and the next.
    assert_eq!(waits[6], Duration::ZERO);
    assert_backoff(&waits[7..], Duration::ZERO);
    assert_rows(&ended.end.server, 0..2);
}

/// `requestTimeoutMs`: the rows may be in, so the same INSERT is made again.
#[tokio::test(start_paused = true)]
async fn a_server_that_does_not_answer_is_given_up_after_its_time() {
    let mut held = Held::new(json!({ "clickhouse": { "requestTimeoutMs": 5000 } })).await;
    held.send();
    held.end.server.script([Answer::Silence]);
    let ended = held.run().await;
    let [wait] = ended.waits()[..] else { panic!("{:?}", ended.waits()) };
    assert!((Duration::from_millis(5_000)..Duration::from_millis(6_200)).contains(&wait), "{wait:?}");
    let inserts = ended.end.server.inserts();
    assert_eq!((&inserts[0].token, inserts[0].body == inserts[1].body), (&inserts[1].token, true));
    assert_rows(&ended.end.server, 0..1);
}

#[tokio::test(start_paused = true)]
async fn a_server_that_is_away_for_an_hour_is_found_again() {
    let mut held = Held::new(json!({})).await;
    // The connection that was made at start ends with the server.
    held.end.server.script([Answer::Cut]);
    held.end.is_away.store(true, Ordering::Relaxed);
    held.send();
    let is_away = held.end.is_away.clone();
    let (ended, ()) = tokio::join!(held.run(), async {
        sleep(Duration::from_secs(3600)).await;
        is_away.store(false, Ordering::Relaxed);
    });
    assert_eq!(ended.acknowledged, 1);
    assert_rows(&ended.end.server, 0..1);
    // At most every 15 s, at least every 30 s, but for the first of them.
    let refused = ended.end.refused.load(Ordering::Relaxed);
    assert!((120..260).contains(&refused), "{refused} attempts in an hour");
}

#[tokio::test(start_paused = true)]
async fn a_cancel_ends_a_wait() {
    let mut held = Held::new(json!({})).await;
    held.send();
    held.send();
    held.end.server.script(vec![Answer::Exception(252, "Too many parts"); 1000]);
    let context = held.context.clone();
    let began = Instant::now();
    let (ended, ()) = tokio::join!(held.run(), async {
        sleep(Duration::from_secs(600)).await;
        context.cancel();
    });
    assert_eq!(began.elapsed(), Duration::from_secs(600), "it does not wait for the end of the wait");
    assert_eq!((ended.acknowledged, ended.context.ledger.counts().pending), (0, 2));
}
