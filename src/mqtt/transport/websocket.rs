//! A WebSocket as a stream of bytes: MQTT gives the bounds of frames no meaning (MQTT 5, 6.0.0-2).
//!
//! A write is one binary frame. Pings are answered by tungstenite, with the next read or write.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Instant;

use bytes::{Buf, Bytes};
use futures_util::{Sink, Stream};
use http::header::{HeaderValue, SEC_WEBSOCKET_PROTOCOL};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio_tungstenite::tungstenite::client::IntoClientRequest;
use tokio_tungstenite::tungstenite::protocol::WebSocketConfig;
use tokio_tungstenite::tungstenite::protocol::frame::coding::CloseCode;
use tokio_tungstenite::tungstenite::{Error, Message};
use tokio_tungstenite::{WebSocketStream, client_async_with_config};

use crate::config::BrokerUrl;
use crate::mqtt::transport::activity::TransportStream;

pub struct WebSocket<S> {
    stream: WebSocketStream<S>,
    /// The unread bytes of the last frame.
    frame: Bytes,
}

/// The largest packet that MQTT can announce, 2.1.4. The session handles packets over `maxPacketBytes`: a smaller limit here
/// would end the connection instead, after each reconnect again.
const MAX_FRAME: usize = 268_435_455 + 5;

impl<S: AsyncRead + AsyncWrite + Unpin> WebSocket<S> {
    pub async fn open(socket: S, url: &BrokerUrl) -> io::Result<WebSocket<S>> {
        let host = if url.host.contains(':') { format!("[{}]", url.host) } else { url.host.clone() };
        let mut request = format!("ws://{host}:{}{}", url.port, url.path)
            .into_client_request()
            .map_err(|error| io::Error::other(error.to_string()))?;
        // MQTT 5, 6.0.0-3.
        request.headers_mut().insert(SEC_WEBSOCKET_PROTOCOL, HeaderValue::from_static("mqtt"));
        let config =
            WebSocketConfig::default().max_frame_size(Some(MAX_FRAME)).max_message_size(Some(MAX_FRAME));
        match client_async_with_config(request, socket, Some(config)).await {
            Ok((stream, _)) => Ok(WebSocket { stream, frame: Bytes::new() }),
            Err(Error::Io(error)) => Err(error),
            Err(Error::Http(answer)) => {
                Err(io::Error::other(format!("it answers {} and opens no WebSocket", answer.status())))
            }
            Err(error) => Err(io::Error::other(format!("it opens no WebSocket: {error}"))),
        }
    }
}

impl<S: TransportStream> TransportStream for WebSocket<S> {
    fn last_read(&self) -> Option<Instant> {
        self.stream.get_ref().last_read()
    }

    fn socket(&self) -> Option<&TcpStream> {
        self.stream.get_ref().socket()
    }
}

fn io_error(error: Error) -> io::Error {
    match error {
        Error::Io(error) => error,
        error => io::Error::other(error),
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> AsyncRead for WebSocket<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        while self.frame.is_empty() {
            match ready!(Pin::new(&mut self.stream).poll_next(cx)) {
                Some(Ok(Message::Binary(frame))) => self.frame = frame,
                // MQTT 5, 6.0.0-1.
                Some(Ok(Message::Text(_))) => {
                    return Poll::Ready(Err(io::Error::other("a frame of text is no MQTT")));
                }
                Some(Ok(Message::Ping(_) | Message::Pong(_) | Message::Frame(_))) => {}
                Some(Ok(Message::Close(Some(close)))) if close.code != CloseCode::Normal => {
                    let reason = format!("the WebSocket was closed: {} {}", close.code, close.reason);
                    return Poll::Ready(Err(io::Error::other(reason)));
                }
                Some(Ok(Message::Close(_))) | None => return Poll::Ready(Ok(())),
                Some(Err(error)) => return Poll::Ready(Err(io_error(error))),
            }
        }
        let bytes = self.frame.len().min(buffer.remaining());
        buffer.put_slice(&self.frame[..bytes]);
        self.frame.advance(bytes);
        Poll::Ready(Ok(()))
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> AsyncWrite for WebSocket<S> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        ready!(Pin::new(&mut self.stream).poll_ready(cx)).map_err(io_error)?;
        let frame = Message::Binary(Bytes::copy_from_slice(bytes));
        Pin::new(&mut self.stream).start_send(frame).map_err(io_error)?;
        Poll::Ready(Ok(bytes.len()))
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx).map_err(io_error)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_close(cx).map_err(io_error)
    }
}
