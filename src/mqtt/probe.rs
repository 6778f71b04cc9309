//! A connection to look at a broker by: it takes nothing from anybody.
//!
//! Its session is a clean one, of a client id that the caller chooses, and it subscribes to the plain filters, outside of any
//! shared group: what it hears are copies. Nothing is acknowledged; a broker forgets all of it with the connection.

use std::ops::ControlFlow;
use std::time::{Duration, Instant};

use tokio::io::{AsyncReadExt, AsyncWriteExt};

use crate::config::{BrokerUrl, Mqtt, ProtocolVersion};
use crate::core::error::{Error, Result};
use crate::mqtt::ConnAck;
use crate::mqtt::connection::read_buffer::Inbox;
use crate::mqtt::session::{Event, Session, SessionError};
use crate::mqtt::transport::{self, CONNECT_TIMEOUT, Stream};

/// How long the broker may take to read our goodbye.
const FAREWELL: Duration = Duration::from_secs(1);

pub struct Visit {
    url: BrokerUrl,
    stream: Stream,
    session: Session,
    inbox: Inbox,
    /// What ends it.
    disconnect: &'static [u8],
}

/// The same in both versions.
const DISCONNECT: &[u8] = &[0xe0, 0];
/// With a session expiry of 0, which ends a session that was to be kept: MQTT 5, 3.14.2.2.2.
const DISCONNECT_FOR_GOOD: &[u8] = &[0xe0, 7, 0, 5, 0x11, 0, 0, 0, 0];

impl Visit {
    /// Connects. `config` says as whom; its session and its shared group do not count.
    pub async fn begin(
        url: &BrokerUrl,
        config: &Mqtt,
        client_id: String,
        filters: Vec<String>,
    ) -> Result<Visit> {
        let clean = Mqtt { client_id: None, ..config.clone() };
        Visit::open(url, &clean, client_id, filters, DISCONNECT).await
    }

    /// Asks for a session as `config` wants one, where that is MQTT 5: CONNACK then says for how long the broker would keep
    /// it. To be ended before it subscribes to anything; should it break, what the broker keeps is empty.
    pub async fn begin_lasting(
        url: &BrokerUrl,
        config: &Mqtt,
        client_id: String,
        filters: Vec<String>,
    ) -> Result<Visit> {
        match config.version {
            ProtocolVersion::V5 if config.is_persistent() => {
                Visit::open(url, config, client_id, filters, DISCONNECT_FOR_GOOD).await
            }
            _ => Visit::begin(url, config, client_id, filters).await,
        }
    }

    async fn open(
        url: &BrokerUrl,
        config: &Mqtt,
        client_id: String,
        filters: Vec<String>,
        disconnect: &'static [u8],
    ) -> Result<Visit> {
        let stream = transport::connect(url, config)
            .await
            .map_err(|error| Error::MqttUnreachable { url: url.to_string(), message: error.to_string() })?;
        let mut session = Session::new(config, client_id, filters, Instant::now());
        session.connect(Instant::now());
        Ok(Visit { url: url.clone(), stream, session, inbox: Inbox::default(), disconnect })
    }

    /// What the broker said of itself, once it has let us in.
    pub fn broker(&self) -> Option<&ConnAck> {
        self.session.broker()
    }

    /// Gives `on` what comes, until it breaks or the time is over: whether it broke. The broker's answers to CONNECT and
    /// SUBSCRIBE are waited for no longer than a pipeline does.
    pub async fn listen(
        &mut self,
        until: Instant,
        mut on: impl FnMut(Event<'_>) -> ControlFlow<()>,
    ) -> Result<bool> {
        let heard = self.converse(until, &mut on).await;
        heard.map_err(|error| error.at(&self.url))
    }

    async fn converse(
        &mut self,
        until: Instant,
        on: &mut impl FnMut(Event<'_>) -> ControlFlow<()>,
    ) -> Result<bool, SessionError> {
        let granted_by = Instant::now() + CONNECT_TIMEOUT;
        let lost = |error: std::io::Error| SessionError::Disconnected(error.to_string());
        loop {
            let now = Instant::now();
            while let Some((bytes, event)) = self.session.receive(self.inbox.unread(), now)? {
                let flow = on(event);
                self.inbox.consume(bytes);
                if flow.is_break() {
                    return Ok(true);
                }
            }
            if self.session.is_opening() && now >= granted_by {
                return Err(SessionError::Silent);
            }
            if now >= until {
                return Ok(false);
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
            match tokio::time::timeout_at(wake, self.stream.read(self.inbox.space())).await {
                Ok(Ok(0)) => return Err(SessionError::Disconnected("the connection was closed".into())),
                Ok(Ok(bytes)) => self.inbox.filled(bytes),
                Ok(Err(error)) => return Err(lost(error)),
                Err(_) => {}
            }
        }
    }

    /// Disconnects. What was not written yet is left unsaid.
    pub async fn end(mut self) {
        let goodbye = async {
            // It may have gone already; nothing depends on it.
            let _ = self.stream.write_all(self.disconnect).await;
            let _ = self.stream.shutdown().await;
        };
        let _ = tokio::time::timeout(FAREWELL, goodbye).await;
    }
}
