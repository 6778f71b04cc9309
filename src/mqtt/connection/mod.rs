//! The I/O and the time around a [`Session`]: one thread, one socket, one loop.
//!
//! - One read takes all that the socket has, up to 256 KiB; its messages are decoded and batched before the next read.
//! - After a read the thread pauses, if that has the next read bring many messages.
//! - All acknowledgements of a batch are one write.
//! - Under back-pressure the connection stops reading and goes on pinging.
//! - After a disconnect it reconnects, with back-off; the session recognises what the broker delivers again.

mod change;
mod connected;
mod inflight_window;
mod known_brokers;
mod parking;
pub(super) mod read_buffer;
mod read_pacing;
mod reconnect;
mod resting;
mod transfer;

pub use inflight_window::MIN_SILENCE;
#[cfg(test)]
pub(crate) use transfer::CLOSE_TIMEOUT;

use std::future::Future;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use crossbeam_channel::Sender;
use tokio::sync::mpsc;

use crate::config::{AckAfter, BrokerUrl, ProtocolVersion};
use crate::core::error::{Error, Result};
use crate::core::memory_budget::MemoryReservation;
use crate::mqtt::connection::change::RouteChange;
use crate::mqtt::connection::inflight_window::InflightWindowDetector;
use crate::mqtt::connection::parking::Parking;
use crate::mqtt::connection::read_buffer::ReadBuffer;
use crate::mqtt::connection::read_pacing::{Gathered, ReadPacer};
use crate::mqtt::connection::reconnect::{DisconnectCause, Reconnection};
use crate::mqtt::connection::resting::PendingFlushes;
use crate::mqtt::connection::transfer::close_gracefully;
use crate::mqtt::session::{Session, SessionError, fewer_filters};
use crate::mqtt::transport;
use crate::mqtt::{Command, MessageSink};
use crate::telemetry::context::PipelineContext;
use crate::telemetry::events::Warning;
use crate::telemetry::faults::OpenFault;
use crate::telemetry::metrics::ConnectionCounters;

pub struct Connection<S: MessageSink> {
    context: Arc<PipelineContext>,
    session: Session,
    sink: S,
    commands: mpsc::UnboundedReceiver<Command>,
    read_buffer: ReadBuffer,
    window: InflightWindowDetector,
    paused: bool,
    drain: Option<Drain>,
    change: Option<RouteChange>,
    /// The session and the subscription end with the drain.
    leaves: bool,
    disconnects: bool,
    closing: bool,
    /// Whether the loop read once more after the broker was found silent.
    has_yielded: bool,
    /// Every subscription is granted.
    is_up: bool,
    /// The place in `mqtt.url` of the current connection.
    url_at: usize,
    /// The version that each URL was found to speak, or is configured to.
    versions: Vec<Option<ProtocolVersion>>,
    fallback_reported: bool,
    /// Whether the last connection ended between SUBSCRIBE and its answer.
    was_subscribing: bool,
    overlap_reported: bool,
    split_reported: bool,
    /// Whether the broker closed the connection when it was asked for MQTT 5, if it was.
    refused_v5_silently: Option<bool>,
    /// When the silence of a shared group becomes a warning, if no message comes before.
    shared_silent_at: Option<Instant>,
    /// The broker of the last connection.
    broker: Option<BrokerUrl>,
    /// Receives once whether the first subscription was granted.
    ready: Option<Sender<Result<()>>>,
    /// Messages were left in the read buffer for want of memory.
    has_left_messages: bool,
    pacer: ReadPacer,
    gathered: Gathered,
    /// When the rest ends that is under way.
    resting_until: Option<Instant>,
    parking: Parking,
    flushes: PendingFlushes,
    /// A batch that is sealed is acknowledged soon after, and costs no INSERT.
    acknowledges_commits: bool,
    /// Why it is not connected, after it was.
    fault: OpenFault,
    /// The growth of the read buffer, and the session's topics.
    memory: MemoryReservation,
}

/// A drain under way. With a persistent session the broker keeps undelivered messages, and the subscription must stay so that
/// it collects more. Otherwise we unsubscribe and take the messages that are still on their way.
struct Drain {
    done: Option<Sender<()>>,
    idle_at: Instant,
}

/// After UNSUBACK and this long without a message, no more messages are expected.
const DRAIN_IDLE: Duration = Duration::from_millis(100);

enum ConnectionEnd {
    /// We closed it, by a command.
    Closed,
    /// Before the broker had answered CONNECT.
    Refused(SessionError),
    Lost(Error, DisconnectCause),
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
        let acknowledges_commits = mqtt.ack_after == AckAfter::Spool;
        let window = match acknowledges_commits {
            true => InflightWindowDetector::for_commits(context.config.seal_delay()),
            false => InflightWindowDetector::default(),
        };
        let versions = vec![mqtt.version; mqtt.urls.len()];
        let memory = MemoryReservation::new(&context.memory);
        let pacer = ReadPacer::new(context.config.max_rest());
        Connection {
            fault: context.no_fault(),
            context,
            session,
            sink,
            commands,
            read_buffer: ReadBuffer::default(),
            window,
            paused: false,
            drain: None,
            change: None,
            leaves: false,
            disconnects: false,
            closing: false,
            has_yielded: false,
            is_up: false,
            url_at: 0,
            versions,
            fallback_reported: false,
            was_subscribing: false,
            overlap_reported: false,
            split_reported: false,
            refused_v5_silently: None,
            shared_silent_at: None,
            broker: None,
            ready: Some(ready),
            has_left_messages: false,
            pacer,
            gathered: Gathered::default(),
            resting_until: None,
            parking: Parking::new(),
            flushes: PendingFlushes::default(),
            acknowledges_commits,
            memory,
        }
    }

    /// Connects and reconnects until [`Command::Close`]. Before the first subscription, a round of all URLs that fails is the
    /// answer to `start()`.
    pub async fn run(mut self) {
        self.parking = Parking::new();
        let urls = self.context.config.mqtt.urls.len();
        let mut reconnection = Reconnection::new(self.context.config.mqtt.reconnect);
        let mut at = 0;
        loop {
            let began = clock();
            let ConnectionEnd::Lost(error, cause) = self.connect(at).await else {
                // Disconnected, while what it has brought is still being settled.
                let _ = self.run_disconnected(std::future::pending::<()>()).await;
                return;
            };
            let was_up = self.reset();
            self.break_off_change(&error);
            if let Some(ready) = &self.ready {
                if at + 1 == urls {
                    let _ = ready.send(Err(error));
                    return;
                }
                at += 1;
                continue;
            }
            at = (at + 1) % urls;
            // After a disconnect the URLs are tried from the first again; between rounds we wait.
            let wait = if was_up {
                at = 0;
                reconnection.lost(began.elapsed(), cause)
            } else if at == 0 {
                reconnection.failed()
            } else {
                Duration::ZERO
            };
            self.warn_of_disconnect(&error, cause, was_up && reconnection.is_contested(), wait);
            if self.run_disconnected(tokio::time::sleep(wait)).await.is_err() {
                return;
            }
        }
    }

    fn warn_of_disconnect(
        &mut self,
        error: &Error,
        cause: DisconnectCause,
        is_contested: bool,
        wait: Duration,
    ) {
        let (client_id, retry_in, wait) = (self.session.client_id().to_owned(), wait, wait.as_millis());
        let (code, message) = match cause {
            DisconnectCause::TakenOver => (
                "SESSION_TAKEN_OVER",
                format!(
                    "another client has connected with the client id {client_id:?} and has the session now: an id is for \
                     one client at a time; connecting again in {wait} ms"
                ),
            ),
            // No other client uses a random id.
            DisconnectCause::Closed if is_contested && self.context.config.mqtt.client_id.is_some() => (
                "SESSION_TAKEN_OVER",
                format!(
                    "{error}, again and again soon after it let us in: perhaps another client uses the client id \
                     {client_id:?} too; connecting again in {wait} ms"
                ),
            ),
            _ => match error {
                Error::MqttRefused { code: Some(code), .. } => {
                    ("MQTT_REFUSED", format!("{error} (code {code}); connecting again in {wait} ms"))
                }
                Error::CredentialsFailed { .. } => {
                    ("CREDENTIALS_FAILED", format!("{error}; connecting again in {wait} ms"))
                }
                _ => ("MQTT_RECONNECTING", format!("{error}; connecting again in {wait} ms")),
            },
        };
        let warning = Warning::new(code, message).client_id(&client_id).error(error).retry_in(retry_in);
        self.context.warn_of_fault(&mut self.fault, warning);
    }

    /// Clears the state of a lost connection. Returns whether it had been up.
    fn reset(&mut self) -> bool {
        self.read_buffer.clear();
        self.has_left_messages = false;
        self.memory.resize(0);
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

    /// Connects to the URL at this place, and with MQTT 3.1.1 at once if the broker has no MQTT 5.
    async fn connect(&mut self, at: usize) -> ConnectionEnd {
        self.url_at = at;
        self.session.set_version(self.versions[at].unwrap_or(ProtocolVersion::V5));
        let end = self.attempt_as_configured().await;
        let ConnectionEnd::Refused(error) = end else { return end };
        let is_auto = self.context.config.mqtt.version.is_none();
        if is_auto && self.session.version() == ProtocolVersion::V5 && self.may_fall_back(&error) {
            self.reset();
            self.session.set_version(ProtocolVersion::V4);
            self.refused_v5_silently = Some(matches!(error, SessionError::Disconnected(_)));
            let end = self.attempt_as_configured().await;
            let ConnectionEnd::Refused(error) = end else { return end };
            return self.lost(error);
        }
        if is_auto && error == SessionError::VersionRefused {
            // The broker was replaced by one that has MQTT 5 only.
            self.versions[at] = None;
        }
        self.lost(error)
    }

    /// A broker that was found to speak MQTT 5 must say so before it is taken for one that does not: its silence has other
    /// reasons.
    fn may_fall_back(&self, error: &SessionError) -> bool {
        *error == SessionError::VersionRefused || self.versions[self.url_at].is_none()
    }

    /// Connects, unless the broker is known to have no shared subscriptions and is asked for them.
    async fn attempt_as_configured(&mut self) -> ConnectionEnd {
        match self.missing_shared_group().await {
            Some(end) => end,
            None => self.attempt_subscribed().await,
        }
    }

    fn url(&self) -> &BrokerUrl {
        &self.context.config.mqtt.urls[self.url_at]
    }

    /// Connects. A broker that closes the connection on a SUBSCRIBE refuses it so: it is at once asked with fewer filters in one
    /// packet, and in place of a filter that covers several for these one by one.
    async fn attempt_subscribed(&mut self) -> ConnectionEnd {
        let before = self.session.filters_per_subscribe();
        let mut end = self.attempt().await;
        while self.is_subscribe_refused(&end)
            && let Some(fewer) = fewer_filters(self.session.filters_together())
        {
            self.reset();
            self.session.set_filters_per_subscribe(fewer);
            end = self.attempt().await;
        }
        if self.is_subscribe_refused(&end) && self.session.has_covers() {
            end = self.attempt_without_covers().await;
        }
        if !self.is_up {
            // It was something else, or will be seen again.
            self.session.set_filters_per_subscribe(before);
        }
        end
    }

    fn is_subscribe_refused(&self, end: &ConnectionEnd) -> bool {
        self.was_subscribing && matches!(end, ConnectionEnd::Lost(_, DisconnectCause::Closed))
    }

    async fn attempt_without_covers(&mut self) -> ConnectionEnd {
        self.reset();
        self.session.refuse_covers(true);
        let end = self.attempt().await;
        if !self.is_up {
            // It was something else.
            self.session.refuse_covers(false);
        }
        end
    }

    async fn attempt(&mut self) -> ConnectionEnd {
        let context = self.context.clone();
        let url = &context.config.mqtt.urls[self.url_at];
        self.was_subscribing = false;
        // Before the socket is opened: a broker waits for CONNECT a few seconds only.
        match self.run_disconnected(context.config.mqtt.login()).await {
            Err(closed) => return closed,
            Ok(Err(error)) => return ConnectionEnd::Lost(error, DisconnectCause::GivenUp),
            Ok(Ok(login)) => self.session.set_login(login),
        }
        let mut stream = match self.run_disconnected(transport::connect(url, &context.config.mqtt)).await {
            Err(closed) => return closed,
            Ok(Err(error)) => {
                let error = Error::MqttUnreachable { url: url.to_string(), message: error.to_string() };
                return ConnectionEnd::Lost(error, DisconnectCause::GivenUp);
            }
            Ok(Ok(stream)) => stream,
        };
        if self.broker.replace(url.clone()).is_some_and(|last| last != *url) {
            self.session.change_broker();
        }
        let Err(error) = self.run_connected(&mut stream).await else { return ConnectionEnd::Closed };
        let is_unanswered = self.session.is_connecting();
        self.was_subscribing = self.session.is_opening() && !is_unanswered;
        self.session.abort(&error);
        if matches!(error, SessionError::ProtocolViolation { .. }) {
            let last_packets = self.session.outgoing().to_vec();
            if let Err(closed) = self.run_disconnected(close_gracefully(stream, &last_packets)).await {
                return closed;
            }
        }
        match error {
            SessionError::Refused { .. } | SessionError::TakenOver => self.lost(error),
            error if is_unanswered => ConnectionEnd::Refused(error),
            error => self.lost(error),
        }
    }

    /// The end of a connection by this error. A broker that does not answer a fixed version may not speak it.
    fn lost(&self, error: SessionError) -> ConnectionEnd {
        let cause = match error {
            SessionError::TakenOver => DisconnectCause::TakenOver,
            SessionError::Disconnected(_) => DisconnectCause::Closed,
            _ => DisconnectCause::GivenUp,
        };
        let error = match (self.context.config.mqtt.version, error) {
            (Some(version), error) if self.session.was_unanswered() => {
                let other =
                    if version == ProtocolVersion::V5 { ProtocolVersion::V4 } else { ProtocolVersion::V5 };
                let is_timeout = error == SessionError::NoConnAck;
                let reason = match &error {
                    SessionError::VersionRefused => "it does not speak".into(),
                    SessionError::NoConnAck => format!("{error}; perhaps it does not speak"),
                    error => format!("{error} before it answered CONNECT; perhaps it does not speak"),
                };
                let (name, other) = (version.name(), other.number());
                let reason = format!(
                    "{reason} {name}, which mqtt.protocolVersion {} asks for: 'auto' or {other} may help",
                    version.number()
                );
                SessionError::Unanswered { reason, is_timeout }
            }
            (None, error) if self.session.was_unanswered() => error.closed_unanswered(self.url()),
            (_, error) => error,
        };
        ConnectionEnd::Lost(error.at(self.url()), cause)
    }

    /// Handles commands and seals batches while `work` goes on without a connection. An error ends the thread.
    async fn run_disconnected<T>(&mut self, work: impl Future<Output = T>) -> Result<T, ConnectionEnd> {
        let mut work = std::pin::pin!(work);
        let context = self.context.clone();
        loop {
            let now = clock();
            self.continue_change(now);
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
                return Err(ConnectionEnd::Closed);
            }
            tokio::select! {
                biased;
                () = context.cancelled() => return Err(ConnectionEnd::Closed),
                command = self.commands.recv() => {
                    self.command(command);
                    self.answer_flushes(None::<&transport::Stream>, false);
                }
                result = &mut work, if self.drain.is_none() => return Ok(result),
                () = sleep_until(self.sink.deadline(now)) => {}
            }
        }
    }
}

impl<S: MessageSink> Drop for Connection<S> {
    fn drop(&mut self) {
        self.reset();
    }
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
