//! Gives TLS and WebSocket, which have buffers of their own, the two properties of TCP that `connection` relies on:
//!
//! - A read that does not fill its space has emptied the stream: it goes on, record by record or frame by frame, until
//!   nothing more comes.
//! - Bytes count as written when they are with the operating system: when the buffers are empty again.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Instant;

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;

use crate::core::tls;
use crate::mqtt::transport::activity::TransportStream;

pub struct FlushedStream<S> {
    stream: S,
    /// This many of the offered bytes are with `stream` and may not be flushed.
    unflushed: Option<usize>,
    /// The error of `stream` behind the bytes that the last read took; the next read returns it.
    failed: Option<io::Error>,
}

impl<S: AsyncRead + AsyncWrite + Unpin> FlushedStream<S> {
    pub fn boxed(stream: S) -> Box<FlushedStream<S>> {
        Box::new(FlushedStream { stream, unflushed: None, failed: None })
    }

    /// A caller that finds this pending offers the same bytes again, perhaps with more behind them.
    fn poll_write(&mut self, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let written = match self.unflushed {
            Some(written) => written,
            None => *self.unflushed.insert(ready!(Pin::new(&mut self.stream).poll_write(cx, bytes))?),
        };
        ready!(Pin::new(&mut self.stream).poll_flush(cx))?;
        self.unflushed = None;
        // A caller that gave up the bytes on their way offers other ones.
        Poll::Ready(Ok(written.min(bytes.len())))
    }

    /// A broker that refuses us sends the reason and closes; the write may fail before the reason was read.
    fn read_close_reason(&mut self, cx: &mut Context<'_>, error: io::Error) -> io::Error {
        let mut buffer = [0; 1024];
        loop {
            let mut buffer = ReadBuf::new(&mut buffer);
            match Pin::new(&mut *self).poll_read(cx, &mut buffer) {
                Poll::Ready(Ok(())) if !buffer.filled().is_empty() => {}
                Poll::Ready(Err(reason)) => return reason,
                _ => return with_tls_reason(error),
            }
        }
    }
}

impl<S: TransportStream> TransportStream for FlushedStream<S> {
    fn last_read(&self) -> Option<Instant> {
        self.stream.last_read()
    }

    fn socket(&self) -> Option<&TcpStream> {
        self.stream.socket()
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> AsyncRead for FlushedStream<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        if let Some(error) = self.failed.take() {
            return Poll::Ready(Err(error));
        }
        let begin = buffer.filled().len();
        while buffer.remaining() > 0 {
            let before = buffer.filled().len();
            match Pin::new(&mut self.stream).poll_read(cx, buffer) {
                Poll::Ready(Ok(())) if buffer.filled().len() > before => {}
                Poll::Ready(Err(error)) if before > begin => {
                    self.failed = Some(with_tls_reason(error));
                    break;
                }
                // The next read finds the end again.
                _ if before > begin => break,
                other => return other.map_err(with_tls_reason),
            }
        }
        Poll::Ready(Ok(()))
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> AsyncWrite for FlushedStream<S> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let written = ready!(FlushedStream::poll_write(&mut self, cx, bytes));
        Poll::Ready(written.map_err(|error| self.read_close_reason(cx, error)))
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}

/// The error with its reason in words, if it is one of TLS.
pub fn with_tls_reason(error: io::Error) -> io::Error {
    match tls::explain(&error) {
        Some(reason) => io::Error::new(error.kind(), reason),
        None => error,
    }
}

#[cfg(test)]
mod tests {
    use std::collections::VecDeque;
    use std::task::Waker;

    use super::*;

    /// Returns a chunk per read, and buffers what is written until it is flushed.
    #[derive(Default)]
    struct Chunks {
        incoming: VecDeque<&'static [u8]>,
        ended: bool,
        failed: Option<io::Error>,
        buffered: Vec<u8>,
        sent: Vec<u8>,
        is_blocked: bool,
    }

    impl AsyncRead for Chunks {
        fn poll_read(
            mut self: Pin<&mut Self>,
            _: &mut Context<'_>,
            buffer: &mut ReadBuf<'_>,
        ) -> Poll<io::Result<()>> {
            match self.incoming.pop_front() {
                Some(chunk) => buffer.put_slice(chunk),
                None if self.ended => {}
                None if self.failed.is_some() => return Poll::Ready(Err(self.failed.take().unwrap())),
                None => return Poll::Pending,
            }
            Poll::Ready(Ok(()))
        }
    }

    impl AsyncWrite for Chunks {
        fn poll_write(
            mut self: Pin<&mut Self>,
            _: &mut Context<'_>,
            bytes: &[u8],
        ) -> Poll<io::Result<usize>> {
            let some = &bytes[..bytes.len().min(4)];
            self.buffered.extend(some);
            Poll::Ready(Ok(some.len()))
        }

        fn poll_flush(mut self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
            if self.is_blocked {
                return Poll::Pending;
            }
            let buffered = std::mem::take(&mut self.buffered);
            self.sent.extend(buffered);
            Poll::Ready(Ok(()))
        }

        fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
            Poll::Ready(Ok(()))
        }
    }

    fn read(stream: &mut FlushedStream<Chunks>, space_bytes: usize) -> Poll<Vec<u8>> {
        let mut space = vec![0; space_bytes];
        let mut buffer = ReadBuf::new(&mut space);
        let poll = Pin::new(stream).poll_read(&mut Context::from_waker(Waker::noop()), &mut buffer);
        poll.map(|result| match result {
            Ok(()) => buffer.filled().to_vec(),
            Err(_) => b"an error".to_vec(),
        })
    }

    #[test]
    fn a_read_takes_all_that_is_there() {
        let incoming = VecDeque::from([&b"one"[..], b"two", b"three"]);
        let mut stream = FlushedStream::boxed(Chunks { incoming, ..Chunks::default() });
        assert_eq!(read(&mut stream, 6), Poll::Ready(b"onetwo".to_vec()));
        assert_eq!(read(&mut stream, 100), Poll::Ready(b"three".to_vec()));
        assert_eq!(read(&mut stream, 100), Poll::Pending);
        stream.stream.incoming.push_back(b"four");
        stream.stream.failed = Some(io::ErrorKind::ConnectionReset.into());
        assert_eq!(read(&mut stream, 100), Poll::Ready(b"four".to_vec()));
        assert_eq!(
            read(&mut stream, 100),
            Poll::Ready(b"an error".to_vec()),
            "it comes behind what was before it"
        );
        stream.stream.ended = true;
        assert_eq!(read(&mut stream, 100), Poll::Ready(Vec::new()));
    }

    #[test]
    fn bytes_are_written_when_they_have_left() {
        let mut stream = FlushedStream::boxed(Chunks { is_blocked: true, ..Chunks::default() });
        let mut cx = Context::from_waker(Waker::noop());
        assert!(stream.poll_write(&mut cx, b"acknowledged").is_pending());
        assert!(stream.poll_write(&mut cx, b"acknowledged, and more").is_pending());
        stream.stream.is_blocked = false;
        assert!(matches!(stream.poll_write(&mut cx, b"acknowledged, and more"), Poll::Ready(Ok(4))));
        assert!(matches!(stream.poll_write(&mut cx, b"owledged"), Poll::Ready(Ok(4))));
        assert_eq!(stream.stream.sent, b"acknowle", "each byte once");
    }
}
