//! The I/O and the time around a [`Session`]: one thread, one socket, one loop.
//!
//! - One read takes what the socket has, up to 256 KiB; all its messages are decoded and batched before the next.
//! - After a read that brought more than a message or two it rests, so that the next read again carries many.
//! - Acknowledgements of a whole batch leave in one write.
//! - Under back-pressure it stops reading and goes on pinging.
//! - A lost connection is replaced, with back-off; the session decides what that means for what is in hand.

mod inflight_window;
pub(super) mod read_buffer;
mod read_pacing;
mod reconnect;

use std::future::{Future, poll_fn};
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::task::Poll;
use std::time::{Duration, Instant};

use crossbeam_channel::Sender;
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt, ReadBuf};
use tokio::sync::mpsc;

use crate::config::{AckAfter, BrokerUrl};
use crate::core::clock::ReceiveTime;
use crate::core::error::{Error, Result};
use crate::mqtt::connection::inflight_window::Window;
use crate::mqtt::connection::read_buffer::Inbox;
use crate::mqtt::connection::read_pacing::Rest;
use crate::mqtt::connection::reconnect::{Loss, Reconnection};
use crate::mqtt::session::{Event, Session, SessionError};
use crate::mqtt::transport::{self, CONNECT_TIMEOUT};
use crate::mqtt::{Command, MessageSink};
use crate::telemetry::context::PipelineContext;
use crate::telemetry::events::Warning;
use crate::telemetry::metrics::{ConnectionCounters, add};

pub struct Connection<S: MessageSink> {
    context: Arc<PipelineContext>,
    session: Session,
    sink: S,
    commands: mpsc::UnboundedReceiver<Command>,
    inbox: Inbox,
    window: Window,
    paused: bool,
    drain: Option<Drain>,
    closing: bool,
    /// Every subscription is granted.
    is_up: bool,
    /// The broker of the last connection.
    broker: Option<BrokerUrl>,
    /// Told once: the first subscription is granted, or cannot be.
    ready: Option<Sender<Result<()>>>,
}

/// A drain under way. With a session that outlives us the broker keeps what is not delivered yet, and its
/// subscription must stay so that it goes on collecting. Otherwise we unsubscribe and take what is still to come.
struct Drain {
    done: Option<Sender<()>>,
    quiet_at: Instant,
}

/// How long nothing must come after UNSUBACK before we believe that nothing more will.
const QUIET: Duration = Duration::from_millis(100);
/// How long we wait for the broker to have read our last words.
pub(crate) const LINGER: Duration = Duration::from_secs(1);

enum End {
    /// We were told to.
    Closed,
    Lost(Error, Loss),
}

impl<S: MessageSink> Connection<S> {
    pub fn new(
        context: Arc<PipelineContext>,
        session: Session,
        sink: S,
        commands: mpsc::UnboundedReceiver<Command>,
        ready: Sender<Result<()>>,
    ) -> Connection<S> {
        let mqtt = &context.config.mqtt;
        let window = match mqtt.ack_after {
            AckAfter::Spool => Window::for_commits(context.config.seal_delay(), mqtt.coalesce),
            _ => Window::default(),
        };
        Connection {
            context,
            session,
            sink,
            commands,
            inbox: Inbox::default(),
            window,
            paused: false,
            drain: None,
            closing: false,
            is_up: false,
            broker: None,
            ready: Some(ready),
        }
    }

    /// Connects again and again until it is told to close. Before the first subscription, though, a round of all
    /// URLs that fails is the answer to `start()`.
    pub async fn run(mut self) {
        let urls = self.context.config.mqtt.urls.clone();
        let mut reconnection = Reconnection::new(self.context.config.mqtt.reconnect);
        let mut at = 0;
        loop {
            let began = clock();
            let End::Lost(error, loss) = self.connect(&urls[at]).await else { return };
            let was_up = self.put_away();
            if let Some(ready) = &self.ready {
                if at + 1 == urls.len() {
                    let _ = ready.send(Err(error));
                    return;
                }
                at += 1;
                continue;
            }
            at = (at + 1) % urls.len();
            // After a loss the URLs are tried from the first again; between rounds we wait.
            let wait = if was_up {
                at = 0;
                reconnection.lost(began.elapsed(), loss)
            } else if at == 0 {
                reconnection.failed()
            } else {
                Duration::ZERO
            };
            self.warn_of_loss(&error, loss, was_up && reconnection.is_contested(), wait);
            if self.meanwhile(tokio::time::sleep(wait)).await.is_err() {
                return;
            }
        }
    }

    fn warn_of_loss(&self, error: &Error, loss: Loss, is_contested: bool, wait: Duration) {
        let (client_id, retry_in, wait) = (self.session.client_id(), wait, wait.as_millis());
        let (code, message) = match loss {
            Loss::TakenOver => (
                "SESSION_TAKEN_OVER",
                format!(
                    "another client has connected with the client id {client_id:?} and has the session now: an id is for \
                     one client at a time; connecting again in {wait} ms"
                ),
            ),
            // A random id is nobody else's.
            Loss::Closed if is_contested && self.context.config.mqtt.client_id.is_some() => (
                "SESSION_TAKEN_OVER",
                format!(
                    "{error}, again and again soon after it let us in: perhaps another client uses the client id \
                     {client_id:?} too; connecting again in {wait} ms"
                ),
            ),
            _ => ("MQTT_RECONNECTING", format!("{error}; connecting again in {wait} ms")),
        };
        self.context.warn(Warning::new(code, message).client_id(client_id).error(error).retry_in(retry_in));
    }

    /// Puts away what a lost connection left; says whether it had been up.
    fn put_away(&mut self) -> bool {
        self.inbox.clear();
        self.count_unacknowledged(0);
        let was_up = std::mem::take(&mut self.is_up);
        if was_up {
            self.counters().connected.store(0, Ordering::Relaxed);
        }
        was_up
    }

    fn counters(&self) -> &ConnectionCounters {
        &self.context.metrics.connections[self.sink.connection()]
    }

    fn count_unacknowledged(&self, now: u64) {
        self.counters().unacknowledged.store(now, Ordering::Relaxed);
    }

    async fn connect(&mut self, url: &BrokerUrl) -> End {
        let context = self.context.clone();
        let mut stream = match self.meanwhile(transport::connect(url, &context.config.mqtt)).await {
            Err(closed) => return closed,
            Ok(Err(error)) => {
                let error = Error::MqttUnreachable { url: url.to_string(), message: error.to_string() };
                return End::Lost(error, Loss::GivenUp);
            }
            Ok(Ok(stream)) => stream,
        };
        if self.broker.replace(url.clone()).is_some_and(|last| last != *url) {
            self.session.change_broker();
        }
        let conversed = self.converse(&mut stream).await;
        if let Err(error) = &conversed {
            self.session.abort(error);
            if matches!(error, SessionError::Illegal { .. }) {
                let last_words = self.session.outgoing().to_vec();
                if let Err(closed) = self.meanwhile(farewell(stream, &last_words)).await {
                    return closed;
                }
            }
        }
        match conversed {
            Ok(()) => End::Closed,
            Err(error) => {
                let loss = match error {
                    SessionError::TakenOver => Loss::TakenOver,
                    SessionError::Disconnected(_) => Loss::Closed,
                    _ => Loss::GivenUp,
                };
                End::Lost(error.at(url), loss)
            }
        }
    }

    /// Goes on with commands and batches while there is no connection. An error means to end.
    async fn meanwhile<T>(&mut self, work: impl Future<Output = T>) -> Result<T, End> {
        let mut work = std::pin::pin!(work);
        let context = self.context.clone();
        loop {
            let now = clock();
            match &mut self.drain {
                None => self.sink.seal_due(now),
                // Without a connection nothing more can come.
                Some(drain) => {
                    self.sink.seal_all();
                    if !self.sink.has_open_batch()
                        && let Some(done) = drain.done.take()
                    {
                        let _ = done.send(());
                    }
                }
            }
            if self.closing {
                return Err(End::Closed);
            }
            tokio::select! {
                biased;
                () = context.cancelled() => return Err(End::Closed),
                command = self.commands.recv() => self.command(command),
                result = &mut work, if self.drain.is_none() => return Ok(result),
                () = sleep_until(self.sink.deadline(now)) => {}
            }
        }
    }

    /// Serves one connection until it ends: `Ok` if we ended it.
    pub(crate) async fn converse<T: AsyncRead + AsyncWrite + Unpin>(
        &mut self,
        mut stream: T,
    ) -> Result<(), SessionError> {
        let context = self.context.clone();
        let began = clock();
        let mut has_looked = false;
        let mut rest = Rest::new(context.config.mqtt.coalesce, context.config.seal_delay());
        self.session.connect(began);
        loop {
            let now = clock();
            let is_full = context.memory.is_full();
            let reading = self.is_reading();
            match self.session.tick(now, reading) {
                Ok(()) => has_looked = false,
                // What came while this thread was held up lies in the socket: look once before giving up.
                Err(_) if !has_looked => {
                    has_looked = true;
                    tokio::task::yield_now().await;
                }
                Err(silent) => return Err(silent),
            }
            self.seal(now);
            if self.session.acknowledge() > 0 {
                self.window.acknowledged();
            }
            self.count_unacknowledged(self.session.unacknowledged() as u64);
            self.drained(now);
            if self.closing {
                return self.close(stream).await;
            }
            if !self.is_up && now >= began + CONNECT_TIMEOUT {
                return Err(SessionError::Silent);
            }
            let deadline = [
                self.session.deadline(),
                self.sink.deadline(now),
                self.still_at(),
                self.drain.as_ref().map(|drain| drain.quiet_at).filter(|at| *at > now),
                Some(began + CONNECT_TIMEOUT).filter(|_| !self.is_up),
            ]
            .into_iter()
            .flatten()
            .min();

            let transfer = tokio::select! {
                biased;
                () = context.cancelled() => return Ok(()),
                command = self.commands.recv() => {
                    self.command(command);
                    continue;
                }
                transfer = transfer(&mut stream, self.session.outgoing(), &mut self.inbox, reading) => transfer,
                () = context.memory.wait_for_capacity(), if is_full && !self.paused => continue,
                () = sleep_until(deadline) => continue,
            };
            match transfer {
                Err(error) => return Err(SessionError::Disconnected(error.to_string())),
                Ok(Transfer::Written(bytes)) => {
                    add(&self.counters().writes, 1);
                    self.session.sent(bytes, now);
                }
                Ok(Transfer::Read { bytes: 0, .. }) => {
                    return Err(SessionError::Disconnected("the connection was closed".into()));
                }
                Ok(Transfer::Read { bytes, drained }) => {
                    self.inbox.filled(bytes);
                    let messages = self.take_messages()?;
                    if drained && self.session.outgoing().is_empty() {
                        let pause = rest.after(messages, bytes, clock());
                        if !pause.is_zero() {
                            // What comes due meanwhile need not wait for the end of it.
                            self.sink.seal_due(clock() + pause);
                            // This thread has nothing else to do, and a timer of the runtime would be woken by each
                            // segment that arrives: the very wake-ups that the rest is there to save.
                            std::thread::sleep(pause);
                        }
                    }
                }
            }
        }
    }

    fn is_reading(&self) -> bool {
        // CONNACK and SUBACK are always read.
        let wanted = match &self.drain {
            Some(_) => !self.context.config.mqtt.is_persistent(),
            None => !self.paused,
        };
        self.session.is_opening()
            || (wanted
                && !self.session.is_congested()
                && !self.sink.is_batch_full()
                && !self.context.memory.is_full())
    }

    /// Takes all complete packets off the read buffer; how many messages there were.
    fn take_messages(&mut self) -> Result<usize, SessionError> {
        let now = ReceiveTime::read();
        self.sink.begin_session(self.session.broker_session());
        let mut messages = 0;
        let mut taken = Ok(());
        loop {
            let (bytes, event) = match self.session.receive(self.inbox.unread(), now.instant) {
                Ok(Some(packet)) => packet,
                Ok(None) => break,
                Err(error) => {
                    taken = Err(error);
                    break;
                }
            };
            match event {
                Event::Message { publish, sequence, client_id } => {
                    messages += 1;
                    self.sink.accept(&publish, sequence, now, client_id);
                }
                Event::Again => self.sink.count_duplicate(),
                Event::TooLarge { topic, packet_bytes, sequence, .. } => {
                    self.sink.accept_too_large(topic, packet_bytes, sequence, now);
                }
                Event::Subscribed { lowered } => self.subscribed(&lowered),
                Event::ShortSession { seconds } => {
                    let message =
                        format!("the broker keeps the session for {seconds} s only while we are away");
                    self.context.warn(Warning::new("SESSION_SHORTENED", message).session_expiry(seconds));
                }
                Event::Unsubscribed | Event::Nothing => {}
            }
            self.inbox.consume(bytes);
        }
        self.window.arrived(messages, now.instant);
        if messages > 0
            && let Some(drain) = &mut self.drain
        {
            drain.quiet_at = now.instant + QUIET;
        }
        self.sink.commit_read_stats();
        self.session.settle(&self.sink.take_ready_acks());
        taken.map(|()| messages)
    }

    fn subscribed(&mut self, lowered: &[String]) {
        if !std::mem::replace(&mut self.is_up, true) {
            self.counters().connected.store(1, Ordering::Relaxed);
        }
        match self.ready.take() {
            Some(ready) => drop(ready.send(Ok(()))),
            None => add(&self.counters().reconnects, 1),
        }
        if !lowered.is_empty() {
            let message = format!("the broker granted a lower QoS than asked for: {}", lowered.join(", "));
            self.context.warn(Warning::new("QOS_LOWERED", message).filters(lowered));
        }
    }

    /// Seals what is due: by age, because the broker waits for us, for want of memory, or because we are draining.
    fn seal(&mut self, now: Instant) {
        // At the memory ceiling nothing more can come until something has left.
        let must_leave = self.drain.is_some() || self.context.memory.is_full();
        let is_still = self.still_at().is_some_and(|at| now >= at);
        if is_still && let Some(narrow) = self.window.stalled(self.session.unacknowledged(), now) {
            let (messages, per_second) = (narrow.messages, narrow.messages_per_second);
            let message = format!(
                "the broker keeps at most {} unacknowledged messages in flight, which allows about {:.0} messages a \
                     second in batches as small: raise max_inflight_messages (mosquitto), mqtt.max_inflight (EMQX) or \
                     what your broker calls it",
                messages, per_second
            );
            self.context.warn(Warning::new("WINDOW_NARROW", message).window(messages, per_second));
        }
        if must_leave || is_still {
            self.sink.seal_all();
        } else {
            self.sink.seal_due(now);
        }
    }

    /// When silence means that the broker waits for acknowledgements, if it does for any.
    fn still_at(&self) -> Option<Instant> {
        let owes = self.session.unacknowledged() > 0 && self.sink.has_open_batch() && !self.sink.is_sealing();
        if owes && self.is_reading() { self.window.still_at(self.session.unacknowledged()) } else { None }
    }

    /// Answers a drain once nothing more will come and everything is with the sinks.
    fn drained(&mut self, now: Instant) {
        let is_persistent = self.context.config.mqtt.is_persistent();
        let Some(drain) = &mut self.drain else { return };
        let quiet = is_persistent
            || self.session.is_opening()
            || (self.session.is_unsubscribed()
                && now >= drain.quiet_at
                && self.session.unacknowledged() == 0);
        if quiet
            && !self.sink.has_open_batch()
            && let Some(done) = drain.done.take()
        {
            let _ = done.send(());
        }
    }

    fn command(&mut self, command: Option<Command>) {
        match command {
            Some(Command::Settled(acks)) => self.session.settle(&acks),
            Some(Command::Flush(done)) => {
                self.sink.seal_all();
                let _ = done.send(());
            }
            Some(Command::Pause) => self.paused = true,
            Some(Command::Resume) => self.paused = false,
            Some(Command::Drain(done)) => {
                if self.session.is_subscribed() && !self.context.config.mqtt.is_persistent() {
                    self.session.unsubscribe();
                }
                self.drain = Some(Drain { done: Some(done), quiet_at: clock() + QUIET });
            }
            // The pipeline is gone: as good as being told.
            Some(Command::Close) | None => self.closing = true,
        }
    }

    /// Writes what is left and DISCONNECT, and waits until the broker has closed its side: closing a socket on which
    /// messages are still arriving would destroy the acknowledgements that are on their way.
    async fn close<T: AsyncRead + AsyncWrite + Unpin>(&mut self, stream: T) -> Result<(), SessionError> {
        self.session.acknowledge();
        self.session.disconnect();
        let context = self.context.clone();
        tokio::select! {
            () = farewell(stream, self.session.outgoing()) => {}
            () = context.cancelled() => {}
        }
        Ok(())
    }
}

impl<S: MessageSink> Drop for Connection<S> {
    fn drop(&mut self) {
        self.put_away();
    }
}

/// Writes our last words, and reads until the broker has closed its side or [`LINGER`] has passed.
async fn farewell<S: AsyncRead + AsyncWrite + Unpin>(mut stream: S, last_words: &[u8]) {
    let said = async {
        if stream.write_all(last_words).await.is_ok() && stream.shutdown().await.is_ok() {
            let mut sink = vec![0; 64 << 10];
            while let Ok(1..) = tokio::io::AsyncReadExt::read(&mut stream, &mut sink).await {}
        }
    };
    let _ = tokio::time::timeout(LINGER, said).await;
}

enum Transfer {
    Written(usize),
    /// `drained`: the read did not fill its space, so the socket had no more.
    Read {
        bytes: usize,
        drained: bool,
    },
}

/// Writes some of `outgoing` or reads into `inbox`, whichever can be done first. Dropping it loses nothing.
async fn transfer<S: AsyncRead + AsyncWrite + Unpin>(
    stream: &mut S,
    outgoing: &[u8],
    inbox: &mut Inbox,
    reading: bool,
) -> std::io::Result<Transfer> {
    poll_fn(|cx| {
        if !outgoing.is_empty()
            && let Poll::Ready(written) = Pin::new(&mut *stream).poll_write(cx, outgoing)
        {
            return Poll::Ready(match written {
                Ok(0) => Err(std::io::ErrorKind::WriteZero.into()),
                other => other.map(Transfer::Written),
            });
        }
        if reading {
            let space = inbox.space();
            let room = space.len();
            let mut buffer = ReadBuf::new(space);
            if let Poll::Ready(read) = Pin::new(&mut *stream).poll_read(cx, &mut buffer) {
                let bytes = buffer.filled().len();
                return Poll::Ready(read.map(|()| Transfer::Read { bytes, drained: bytes < room }));
            }
        }
        Poll::Pending
    })
    .await
}

/// By the runtime's clock, which a test can hold.
fn clock() -> Instant {
    tokio::time::Instant::now().into_std()
}

/// Without a deadline: never.
async fn sleep_until(deadline: Option<Instant>) {
    match deadline {
        Some(at) => tokio::time::sleep_until(at.into()).await,
        None => std::future::pending().await,
    }
}
