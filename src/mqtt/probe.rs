//! Probe connection for `check`: a clean session, no shared group, no acknowledgements.
//!
//! It has a client id of its own and subscribes to the plain filters, so that it receives copies and takes no message from a
//! pipeline. The broker discards the session with the connection.

use std::ops::ControlFlow;
use std::time::{Duration, Instant};

use tokio::io::{AsyncReadExt, AsyncWriteExt};

use crate::config::{BrokerUrl, Mqtt, ProtocolVersion};
use crate::core::error::{Error, Result};
use crate::mqtt::connection::read_buffer::ReadBuffer;
use crate::mqtt::session::{Event, Session, SessionError};
use crate::mqtt::transport::{self, CONNECT_TIMEOUT, Stream, TransportStream};
use crate::mqtt::{ConnAck, Filters};

/// How long the broker may take to read DISCONNECT.
const CLOSE_TIMEOUT: Duration = Duration::from_secs(1);

pub struct Probe {
    url: BrokerUrl,
    stream: Stream,
    session: Session,
    buffer: ReadBuffer,
    /// The packet that ends the connection.
    disconnect: &'static [u8],
}

/// The same in both versions.
const DISCONNECT: &[u8] = &[0xe0, 0];
/// With a session expiry of 0, so that the broker discards a persistent session: MQTT 5, 3.14.2.2.2.
const DISCONNECT_AND_EXPIRE: &[u8] = &[0xe0, 7, 0, 5, 0x11, 0, 0, 0, 0];

impl Probe {
    /// Connects with the credentials of `config`; its session and its shared group are not used.
    pub async fn begin(
        url: &BrokerUrl,
        config: &Mqtt,
        client_id: String,
        filters: impl Into<Filters>,
    ) -> Result<Probe> {
        let clean = Mqtt { client_id: None, ..config.clone() };
        Probe::open(url, &clean, client_id, filters, DISCONNECT).await
    }

    /// Asks for a persistent session where `config` does and the protocol is MQTT 5: CONNACK then
    /// states how long the broker would keep it. The caller ends it before it subscribes; if the
    /// connection breaks, the broker keeps an empty session.
    pub async fn begin_persistent(
        url: &BrokerUrl,
        config: &Mqtt,
        client_id: String,
        filters: impl Into<Filters>,
    ) -> Result<Probe> {
        match config.version {
            Some(ProtocolVersion::V5) | None if config.is_persistent() => {
                Probe::open(url, config, client_id, filters, DISCONNECT_AND_EXPIRE).await
            }
            _ => Probe::begin(url, config, client_id, filters).await,
        }
    }

    async fn open(
        url: &BrokerUrl,
        config: &Mqtt,
        client_id: String,
        filters: impl Into<Filters>,
        disconnect: &'static [u8],
    ) -> Result<Probe> {
        let login = config.login().await?;
        let stream = transport::connect(url, config)
            .await
            .map_err(|error| Error::MqttUnreachable { url: url.to_string(), message: error.to_string() })?;
        let mut session = Session::new(config, client_id, filters, Instant::now());
        session.set_login(login);
        session.connect(Instant::now());
        Ok(Probe { url: url.clone(), stream, session, buffer: ReadBuffer::default(), disconnect })
    }

    /// The CONNACK, once it has come.
    pub fn broker(&self) -> Option<&ConnAck> {
        self.session.broker()
    }

    /// Passes each event to `on` until that breaks or the time is over, and returns whether it broke. The broker's answers to
    /// CONNECT and SUBSCRIBE must come within the time that a pipeline gives them.
    pub async fn listen(
        &mut self,
        until: Instant,
        mut on: impl FnMut(Event<'_>) -> ControlFlow<()>,
    ) -> Result<bool> {
        let outcome = self.run_connected(until, &mut on).await;
        let is_unanswered = self.session.was_unanswered();
        outcome.map_err(|error| match is_unanswered {
            true => error.closed_unanswered(&self.url).at(&self.url),
            false => error.at(&self.url),
        })
    }

    async fn run_connected(
        &mut self,
        until: Instant,
        on: &mut impl FnMut(Event<'_>) -> ControlFlow<()>,
    ) -> Result<bool, SessionError> {
        let granted_by = Instant::now() + CONNECT_TIMEOUT;
        let lost = |error: std::io::Error| SessionError::Disconnected(error.to_string());
        loop {
            let now = Instant::now();
            while let Some((bytes, event)) = self.session.receive(self.buffer.unread(), now)? {
                let flow = on(event);
                self.buffer.consume(bytes);
                if flow.is_break() {
                    return Ok(true);
                }
            }
            if self.session.is_opening() && now >= granted_by {
                return Err(self.session.unanswered());
            }
            if now >= until {
                return Ok(false);
            }
            if let Some(at) = self.stream.last_read() {
                self.session.note_received(at);
            }
            self.session.tick(now, true)?;
            let outgoing = self.session.outgoing().len();
            if outgoing > 0 {
                self.stream.write_all(self.session.outgoing()).await.map_err(lost)?;
                self.stream.flush().await.map_err(lost)?;
                self.session.sent(outgoing, now);
            }
            let opening = Some(granted_by).filter(|_| self.session.is_opening());
            let wake = [Some(until), self.session.deadline(), opening].into_iter().flatten().min();
            let wake = tokio::time::Instant::from_std(wake.unwrap_or(until));
            match tokio::time::timeout_at(wake, self.stream.read(self.buffer.space())).await {
                Ok(Ok(0)) => return Err(SessionError::Disconnected("the connection was closed".into())),
                Ok(Ok(bytes)) => self.buffer.filled(bytes),
                Ok(Err(error)) => return Err(lost(error)),
                Err(_) => {}
            }
        }
    }

    /// Disconnects. Bytes that were not written yet are dropped.
    pub async fn end(mut self) {
        let close = async {
            // The connection may be closed already; nothing depends on it.
            let _ = self.stream.write_all(self.disconnect).await;
            let _ = self.stream.shutdown().await;
        };
        let _ = tokio::time::timeout(CLOSE_TIMEOUT, close).await;
    }
}
