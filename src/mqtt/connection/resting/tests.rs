use std::sync::Arc;

use tokio::io::AsyncWriteExt;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::mpsc;

use super::*;
use crate::config::Config;
use crate::core::ack_set::AckSet;
use crate::core::clock::ReceiveTime;
use crate::mqtt::connection::read_pacing::Gathered;
use crate::mqtt::message_sink::Outgoing;
use crate::mqtt::session::Session;
use crate::mqtt::{Fault, Publish, filters};
use crate::telemetry::context::PipelineContext;

const LONG: Duration = Duration::from_secs(3600);

/// Notes when it was to seal.
#[derive(Default)]
struct Sink {
    sealed_at: Vec<Instant>,
    sealed_all: u32,
}

impl MessageSink for Sink {
    fn connection(&self) -> usize {
        0
    }
    fn begin_session(&mut self, _: u64, _: bool) {}
    fn accept(&mut self, _: &Publish<'_>, _: Option<u64>, _: ReceiveTime, _: &str) {}
    fn count_duplicate(&mut self) {}
    fn accept_invalid(&mut self, _: &[u8], _: &[u8], _: &Fault, _: Option<u64>, _: ReceiveTime) {}
    fn accept_too_large(&mut self, _: &[u8], _: usize, _: Option<u64>, _: ReceiveTime) {}
    fn commit_read_stats(&mut self) {}
    fn count_memory(&mut self) {}
    fn take_ready_acks(&mut self) -> AckSet {
        AckSet::default()
    }
    fn seal_due(&mut self, now: Instant) {
        self.sealed_at.push(now);
    }
    fn seal_batches(&mut self) {
        self.seal_all();
    }

    fn seal_all(&mut self) {
        self.sealed_all += 1;
    }
    fn is_batch_full(&self) -> bool {
        false
    }
    fn deadline(&self, _: Instant) -> Option<Instant> {
        None
    }
    fn has_open_batch(&self) -> bool {
        false
    }
    fn is_sealing(&self) -> bool {
        false
    }
    fn adopt_routes(&mut self) -> bool {
        true
    }
    fn settle_routes(&mut self) {}
    fn take_outgoing(&mut self, _: ReceiveTime) -> Vec<Outgoing> {
        Vec::new()
    }
}

fn connection() -> (Connection<Sink>, mpsc::UnboundedSender<Command>, Arc<PipelineContext>) {
    let config = r#"{
        "mqtt": { "url": "mqtt://x" }, "clickhouse": { "url": "http://x" },
        "routes": [{ "topic": "t", "table": "t" }]
    }"#;
    let context = Arc::new(PipelineContext::new(Config::parse(config).unwrap(), Box::new(|_| {})));
    let session = Session::new(&context.config.mqtt, "c".into(), filters(&context.config), clock());
    let (commander, commands) = mpsc::unbounded_channel();
    let (ready, _) = crossbeam_channel::bounded(1);
    let connection = Connection::new(context.clone(), session, Sink::default(), commands, ready);
    (connection, commander, context)
}

/// Each of these calls would take an hour.
#[tokio::test(flavor = "current_thread")]
async fn a_command_and_a_stop_do_not_wait_for_a_rest() {
    let (mut connection, commander, context) = connection();
    for command in [Command::Pause, Command::Resume, Command::Drain(crossbeam_channel::bounded(1).0)] {
        connection.resting_until = Some(clock() + LONG);
        commander.send(command).unwrap();
        connection.rest(None, clock());
        assert!(connection.resting_until.is_some_and(|until| until <= clock()));
    }
    connection.resting_until = Some(clock() + LONG);
    let thread = std::thread::spawn(move || {
        context.cancel();
        commander
    });
    connection.rest(None, clock());
    assert!(connection.resting_until.is_some_and(|until| until <= clock()));
    drop(thread.join().unwrap());
}

#[tokio::test(flavor = "current_thread")]
async fn acknowledgements_leave_amid_a_rest() {
    let (mut connection, commander, _context) = connection();
    let until = clock() + LONG;
    connection.resting_until = Some(until);
    commander.send(Command::Settled(AckSet::default())).unwrap();
    connection.rest(None, clock());
    assert_eq!(connection.resting_until, Some(until), "the rest goes on behind them");
}

#[tokio::test(flavor = "current_thread")]
async fn a_ping_that_is_due_does_not_wait_for_a_rest() {
    let (mut connection, _commander, _context) = connection();
    let until = clock() + LONG;
    connection.resting_until = Some(until);
    // A ping is due.
    connection.rest(Some(clock() + Duration::from_millis(1)), clock());
    assert_eq!(connection.resting_until, Some(until));
}

#[tokio::test(flavor = "current_thread")]
async fn no_batch_becomes_due_during_a_rest() {
    let (mut connection, _commander, _context) = connection();
    for _ in 0..20 {
        connection.gathered = Gathered { messages: 100, bytes: 10_000, fill: Some(0.0) };
        connection.begin_rest();
        let (until, sealed) = (connection.resting_until.unwrap(), *connection.sink.sealed_at.last().unwrap());
        assert!(sealed > until, "also the time that the oldest message waited in the socket counts");
    }
    let rest = connection.resting_until.unwrap() - clock();
    assert!(rest > Duration::from_millis(25), "{rest:?}");
}

#[tokio::test(flavor = "current_thread")]
async fn a_flush_first_reads_what_has_arrived() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let stream = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
    let (mut broker, _) = listener.accept().await.unwrap();
    let (mut connection, commander, context) = connection();
    broker.write_all(&[0x30]).await.unwrap();
    while !socket::has_incoming(&stream) {
        std::thread::yield_now();
    }
    let (done, answered) = crossbeam_channel::bounded(1);
    connection.resting_until = Some(clock() + LONG);
    commander.send(Command::Flush(done)).unwrap();
    connection.rest(None, clock());
    assert!(!connection.is_resting(&stream, true, clock()));
    connection.answer_flushes(Some(&stream), true);
    assert!(answered.is_empty() && connection.sink.sealed_all == 0, "a byte can be read");
    assert!(connection.flush_deadline(clock()).is_some());
    let mut byte = [0];
    stream.readable().await.unwrap();
    stream.try_read(&mut byte).unwrap();
    connection.answer_flushes(Some(&stream), true);
    assert_eq!(answered.recv().unwrap(), context.ledger.watermark());
    assert_eq!((connection.sink.sealed_all, connection.flush_deadline(clock())), (1, None));
}
