//! A stream with buffers of its own, TLS or a WebSocket, that keeps what `connection` knows of TCP:
//!
//! - A read that does not fill its space has taken all that was there. It goes on, record by record or frame by frame,
//!   until nothing more comes.
//! - What was written has left for the system: bytes count as written when the buffers are empty again.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use crate::core::tls;

pub struct Whole<S> {
    stream: S,
    /// So many of the bytes that we were given are with `stream` and may not have left.
    leaving: Option<usize>,
    /// What ended `stream` behind the bytes that the last read took.
    failed: Option<io::Error>,
}

impl<S: AsyncRead + AsyncWrite + Unpin> Whole<S> {
    pub fn boxed(stream: S) -> Box<Whole<S>> {
        Box::new(Whole { stream, leaving: None, failed: None })
    }

    /// A caller that finds this pending offers the same bytes again, perhaps with more behind them.
    fn poll_write(&mut self, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let written = match self.leaving {
            Some(written) => written,
            None => *self.leaving.insert(ready!(Pin::new(&mut self.stream).poll_write(cx, bytes))?),
        };
        ready!(Pin::new(&mut self.stream).poll_flush(cx))?;
        self.leaving = None;
        // Whoever has given up what was on its way offers other bytes.
        Poll::Ready(Ok(written.min(bytes.len())))
    }

    /// A broker that refuses us says why and hangs up; a write may find the one before a read has found the other.
    fn last_word(&mut self, cx: &mut Context<'_>, error: io::Error) -> io::Error {
        let mut buffer = [0; 1024];
        loop {
            let mut buffer = ReadBuf::new(&mut buffer);
            match Pin::new(&mut *self).poll_read(cx, &mut buffer) {
                Poll::Ready(Ok(())) if !buffer.filled().is_empty() => {}
                Poll::Ready(Err(reason)) => return reason,
                _ => return explained(error),
            }
        }
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> AsyncRead for Whole<S> {
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
                    self.failed = Some(explained(error));
                    break;
                }
                // An end comes again with the next read.
                _ if before > begin => break,
                other => return other.map_err(explained),
            }
        }
        Poll::Ready(Ok(()))
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> AsyncWrite for Whole<S> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let written = ready!(Whole::poll_write(&mut self, cx, bytes));
        Poll::Ready(written.map_err(|error| self.last_word(cx, error)))
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}

/// In words for whoever runs it, if it is of TLS.
pub fn explained(error: io::Error) -> io::Error {
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

    /// Gives out a piece at a time, and keeps what is written until it is told to let go.
    #[derive(Default)]
    struct Pieces {
        incoming: VecDeque<&'static [u8]>,
        ended: bool,
        failed: Option<io::Error>,
        held: Vec<u8>,
        left: Vec<u8>,
        is_stuck: bool,
    }

    impl AsyncRead for Pieces {
        fn poll_read(
            mut self: Pin<&mut Self>,
            _: &mut Context<'_>,
            buffer: &mut ReadBuf<'_>,
        ) -> Poll<io::Result<()>> {
            match self.incoming.pop_front() {
                Some(piece) => buffer.put_slice(piece),
                None if self.ended => {}
                None if self.failed.is_some() => return Poll::Ready(Err(self.failed.take().unwrap())),
                None => return Poll::Pending,
            }
            Poll::Ready(Ok(()))
        }
    }

    impl AsyncWrite for Pieces {
        fn poll_write(
            mut self: Pin<&mut Self>,
            _: &mut Context<'_>,
            bytes: &[u8],
        ) -> Poll<io::Result<usize>> {
            let some = &bytes[..bytes.len().min(4)];
            self.held.extend(some);
            Poll::Ready(Ok(some.len()))
        }

        fn poll_flush(mut self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
            if self.is_stuck {
                return Poll::Pending;
            }
            let held = std::mem::take(&mut self.held);
            self.left.extend(held);
            Poll::Ready(Ok(()))
        }

        fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
            Poll::Ready(Ok(()))
        }
    }

    fn read(whole: &mut Whole<Pieces>, room: usize) -> Poll<Vec<u8>> {
        let mut space = vec![0; room];
        let mut buffer = ReadBuf::new(&mut space);
        let poll = Pin::new(whole).poll_read(&mut Context::from_waker(Waker::noop()), &mut buffer);
        poll.map(|result| match result {
            Ok(()) => buffer.filled().to_vec(),
            Err(_) => b"an error".to_vec(),
        })
    }

    #[test]
    fn a_read_takes_all_that_is_there() {
        let incoming = VecDeque::from([&b"one"[..], b"two", b"three"]);
        let mut whole = Whole::boxed(Pieces { incoming, ..Pieces::default() });
        assert_eq!(read(&mut whole, 6), Poll::Ready(b"onetwo".to_vec()));
        assert_eq!(read(&mut whole, 100), Poll::Ready(b"three".to_vec()));
        assert_eq!(read(&mut whole, 100), Poll::Pending);
        whole.stream.incoming.push_back(b"four");
        whole.stream.failed = Some(io::ErrorKind::ConnectionReset.into());
        assert_eq!(read(&mut whole, 100), Poll::Ready(b"four".to_vec()));
        assert_eq!(
            read(&mut whole, 100),
            Poll::Ready(b"an error".to_vec()),
            "it comes behind what was before it"
        );
        whole.stream.ended = true;
        assert_eq!(read(&mut whole, 100), Poll::Ready(Vec::new()));
    }

    #[test]
    fn bytes_are_written_when_they_have_left() {
        let mut whole = Whole::boxed(Pieces { is_stuck: true, ..Pieces::default() });
        let mut cx = Context::from_waker(Waker::noop());
        assert!(whole.poll_write(&mut cx, b"acknowledged").is_pending());
        assert!(whole.poll_write(&mut cx, b"acknowledged, and more").is_pending());
        whole.stream.is_stuck = false;
        assert!(matches!(whole.poll_write(&mut cx, b"acknowledged, and more"), Poll::Ready(Ok(4))));
        assert!(matches!(whole.poll_write(&mut cx, b"owledged"), Poll::Ready(Ok(4))));
        assert_eq!(whole.stream.left, b"acknowle", "each byte once");
    }
}
