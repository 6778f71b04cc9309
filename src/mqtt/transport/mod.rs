//! Streams to the broker: TCP, TLS, and a WebSocket over either.
//!
//! `connection` reads and writes a [`Stream`]. TLS and WebSocket have buffers of their own; [`FlushedStream`] makes them behave as
//! TCP does.

mod activity;
mod flushed;
pub mod socket;
mod websocket;

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use rustls::pki_types::ServerName;
use socket2::{SockRef, TcpKeepalive};
use tokio::io::{AsyncRead, AsyncWrite, BufReader, ReadBuf};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use crate::config::{BrokerUrl, Mqtt, Transport};
use crate::core::tls::Tls;
use activity::Observed;
pub use activity::TransportStream;
use flushed::{FlushedStream, with_tls_reason};
use websocket::WebSocket;

/// How long connecting, and then the broker's answers to CONNECT and SUBSCRIBE, may take.
pub const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);

/// The longest idle time before TCP keep-alive probes. Linux allows nine hours.
const MAX_KEEPALIVE_TIME: Duration = Duration::from_secs(3600);

/// Rustls alone would read 4 KiB at a time.
const TLS_READ_BYTES: usize = 128 << 10;

type Encrypted = TlsStream<BufReader<Observed<TcpStream>>>;

/// An enum and no trait object, because every read passes through it.
pub enum Stream {
    Tcp(TcpStream),
    Tls(Box<FlushedStream<Encrypted>>),
    WebSocket(Box<FlushedStream<WebSocket<Observed<TcpStream>>>>),
    WebSocketOverTls(Box<FlushedStream<WebSocket<Encrypted>>>),
}

pub async fn connect(url: &BrokerUrl, config: &Mqtt) -> io::Result<Stream> {
    tokio::time::timeout(CONNECT_TIMEOUT, open(url, config))
        .await
        .map_err(|_| io::Error::new(io::ErrorKind::TimedOut, "no answer within 5 s"))?
        .map_err(with_tls_reason)
}

async fn open(url: &BrokerUrl, config: &Mqtt) -> io::Result<Stream> {
    let socket = tcp(url, config.keep_alive).await?;
    Ok(match url.transport {
        Transport::Tcp => Stream::Tcp(socket),
        Transport::Tls => Stream::Tls(FlushedStream::boxed(encrypt(socket, url, &config.tls).await?)),
        Transport::WebSocket => {
            Stream::WebSocket(FlushedStream::boxed(WebSocket::open(Observed::new(socket), url).await?))
        }
        Transport::WebSocketOverTls => {
            let socket = encrypt(socket, url, &config.tls).await?;
            Stream::WebSocketOverTls(FlushedStream::boxed(WebSocket::open(socket, url).await?))
        }
    })
}

/// `keep_alive` is the keep-alive interval of MQTT.
async fn tcp(url: &BrokerUrl, keep_alive: Duration) -> io::Result<TcpStream> {
    let stream = TcpStream::connect((url.host.as_str(), url.port)).await?;
    // All acknowledgements that are due are one write: Nagle's algorithm would only delay them.
    stream.set_nodelay(true)?;
    detect_dead_peer(&stream, keep_alive)?;
    Ok(stream)
}

/// While back-pressure keeps us from reading, only TCP notices that the broker is gone.
fn detect_dead_peer(stream: &TcpStream, keep_alive: Duration) -> io::Result<()> {
    let socket = SockRef::from(stream);
    let probes = TcpKeepalive::new()
        .with_time(keep_alive.min(MAX_KEEPALIVE_TIME))
        .with_interval(Duration::from_secs(10));
    socket.set_tcp_keepalive(&probes)?;
    // Without this, Linux retransmits unacknowledged pings for a quarter of an hour.
    #[cfg(target_os = "linux")]
    socket.set_tcp_user_timeout(Some(keep_alive * 3 / 2))?;
    Ok(())
}

async fn encrypt(socket: TcpStream, url: &BrokerUrl, tls: &Tls) -> io::Result<Encrypted> {
    let name = match &tls.server_name {
        Some(name) => name.clone(),
        None => ServerName::try_from(url.host.clone()).map_err(io::Error::other)?,
    };
    let client = tls.client().map_err(|error| io::Error::other(error.to_string()))?;
    let connecting = TlsConnector::from(client)
        .connect(name, BufReader::with_capacity(TLS_READ_BYTES, Observed::new(socket)));
    connecting.await.map_err(|error| match error.kind() {
        io::ErrorKind::UnexpectedEof | io::ErrorKind::ConnectionReset | io::ErrorKind::BrokenPipe => {
            io::Error::new(
                error.kind(),
                "it closed the connection during the TLS handshake; perhaps it is not encrypted here, which mqtt:// or ws:// \
                 is for",
            )
        }
        _ => error,
    })
}

/// Calls the same method on each kind of stream.
macro_rules! each {
    ($stream:expr, $inner:ident => $call:expr) => {
        match $stream.get_mut() {
            Stream::Tcp($inner) => $call,
            Stream::Tls($inner) => $call,
            Stream::WebSocket($inner) => $call,
            Stream::WebSocketOverTls($inner) => $call,
        }
    };
}

impl TransportStream for Stream {
    fn last_read(&self) -> Option<Instant> {
        match self {
            Stream::Tcp(inner) => inner.last_read(),
            Stream::Tls(inner) => inner.last_read(),
            Stream::WebSocket(inner) => inner.last_read(),
            Stream::WebSocketOverTls(inner) => inner.last_read(),
        }
    }

    fn socket(&self) -> Option<&TcpStream> {
        match self {
            Stream::Tcp(inner) => inner.socket(),
            Stream::Tls(inner) => inner.socket(),
            Stream::WebSocket(inner) => inner.socket(),
            Stream::WebSocketOverTls(inner) => inner.socket(),
        }
    }
}

impl AsyncRead for Stream {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        each!(self, inner => Pin::new(inner).poll_read(cx, buffer))
    }
}

impl AsyncWrite for Stream {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        each!(self, inner => Pin::new(inner).poll_write(cx, bytes))
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        each!(self, inner => Pin::new(inner).poll_flush(cx))
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        each!(self, inner => Pin::new(inner).poll_shutdown(cx))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(flavor = "current_thread")]
    async fn sockets_do_not_delay_and_notice_the_death_of_the_other_end() {
        let broker = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = BrokerUrl::parse("mqtt.url", &format!("mqtt://{}", broker.local_addr().unwrap())).unwrap();
        let stream = tcp(&url, Duration::from_secs(20)).await.unwrap();
        assert!(stream.nodelay().unwrap());
        let socket = SockRef::from(&stream);
        assert!(socket.keepalive().unwrap());
        assert_eq!(socket.tcp_keepalive_time().unwrap(), Duration::from_secs(20));
        #[cfg(target_os = "linux")]
        assert_eq!(socket.tcp_user_timeout().unwrap(), Some(Duration::from_secs(30)));
    }
}
