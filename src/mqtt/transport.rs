//! The way to the broker: TCP. TLS and WebSocket will be further streams here; `connection` takes any.

use std::io;
use std::time::Duration;

use socket2::{SockRef, TcpKeepalive};
use tokio::net::TcpStream;

use crate::config::BrokerUrl;

/// How long connecting, and then the broker's answers to CONNECT and SUBSCRIBE, may take.
pub const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);

pub async fn connect(url: &BrokerUrl) -> io::Result<TcpStream> {
    let connecting = TcpStream::connect((url.host.as_str(), url.port));
    let stream = tokio::time::timeout(CONNECT_TIMEOUT, connecting)
        .await
        .map_err(|_| io::Error::new(io::ErrorKind::TimedOut, "no answer within 5 s"))??;
    // Acknowledgements leave as one write each time: waiting for more would only delay them.
    stream.set_nodelay(true)?;
    SockRef::from(&stream).set_tcp_keepalive(&TcpKeepalive::new().with_time(Duration::from_secs(60)))?;
    Ok(stream)
}
