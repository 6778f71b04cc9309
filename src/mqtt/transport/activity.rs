//! When bytes came last, below TLS and WebSocket.
//!
//! A large frame may take longer than the keep-alive interval, and the session sees none of it before its end. Its bytes are
//! a sign of life nevertheless.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Instant;

use tokio::io::{AsyncRead, AsyncWrite, BufReader, ReadBuf};
use tokio::net::TcpStream;
use tokio_rustls::client::TlsStream;

/// A stream that knows when bytes came.
pub trait TransportStream: AsyncRead + AsyncWrite + Unpin {
    /// When bytes came last; `None` where the reader sees every byte itself.
    fn last_read(&self) -> Option<Instant> {
        None
    }

    /// The socket below; `None` in tests without one.
    fn socket(&self) -> Option<&TcpStream>;
}

impl<T: TransportStream + ?Sized> TransportStream for &mut T {
    fn last_read(&self) -> Option<Instant> {
        (**self).last_read()
    }

    fn socket(&self) -> Option<&TcpStream> {
        (**self).socket()
    }
}

impl TransportStream for TcpStream {
    fn socket(&self) -> Option<&TcpStream> {
        Some(self)
    }
}

#[cfg(test)]
impl TransportStream for tokio::io::DuplexStream {
    fn socket(&self) -> Option<&TcpStream> {
        None
    }
}

impl<S: TransportStream> TransportStream for BufReader<S> {
    fn last_read(&self) -> Option<Instant> {
        self.get_ref().last_read()
    }

    fn socket(&self) -> Option<&TcpStream> {
        self.get_ref().socket()
    }
}

impl<S: TransportStream> TransportStream for TlsStream<S> {
    fn last_read(&self) -> Option<Instant> {
        self.get_ref().0.last_read()
    }

    fn socket(&self) -> Option<&TcpStream> {
        self.get_ref().0.socket()
    }
}

/// Notes the time of each read.
pub struct Observed<S> {
    stream: S,
    last_read: Option<Instant>,
}

impl<S> Observed<S> {
    pub fn new(stream: S) -> Observed<S> {
        Observed { stream, last_read: None }
    }
}

impl<S: TransportStream> TransportStream for Observed<S> {
    fn last_read(&self) -> Option<Instant> {
        self.last_read
    }

    fn socket(&self) -> Option<&TcpStream> {
        self.stream.socket()
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Observed<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buffer.filled().len();
        let poll = Pin::new(&mut self.stream).poll_read(cx, buffer);
        if buffer.filled().len() > before {
            self.last_read = Some(tokio::time::Instant::now().into_std());
        }
        poll
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Observed<S> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(cx, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::mqtt::transport::flushed::FlushedStream;
    use crate::mqtt::transport::websocket::WebSocket;
    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    #[tokio::test(start_paused = true)]
    async fn a_frame_that_is_not_complete_is_a_sign_of_life() {
        let (client, mut server) = tokio::io::duplex(1 << 20);
        let url = crate::config::BrokerUrl::parse("mqtt.url", "ws://localhost/mqtt").unwrap();
        let opening = WebSocket::open(Observed::new(client), &url);
        let answering = async {
            let mut request = vec![0; 4096];
            let len = server.read(&mut request).await.unwrap();
            let request = String::from_utf8_lossy(&request[..len]).to_string();
            let key = request.lines().find_map(|line| line.strip_prefix("Sec-WebSocket-Key: ")).unwrap();
            let accept = tokio_tungstenite::tungstenite::handshake::derive_accept_key(key.as_bytes());
            let answer = format!(
                "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
                 Sec-WebSocket-Accept: {accept}\r\nSec-WebSocket-Protocol: mqtt\r\n\r\n"
            );
            server.write_all(answer.as_bytes()).await.unwrap();
        };
        let (opened, ()) = tokio::join!(opening, answering);
        let mut stream = FlushedStream::boxed(opened.unwrap());
        let opened_at = stream.last_read();
        tokio::time::advance(std::time::Duration::from_secs(1)).await;
        // The head of a binary frame of 1,000 bytes, and the first of them.
        server.write_all(&[0x82, 126, 3, 232, 1, 2, 3]).await.unwrap();
        let mut space = [0; 100];
        let read = tokio::time::timeout(std::time::Duration::from_millis(1), stream.read(&mut space)).await;
        assert!(read.is_err(), "no byte of the frame is there for the session");
        assert!(stream.last_read() > opened_at);
    }
}
