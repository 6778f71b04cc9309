//! Reads and writes of a connection.

use std::future::poll_fn;
use std::pin::Pin;
use std::task::Poll;
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, ReadBuf};

use crate::mqtt::connection::read_buffer::ReadBuffer;

/// How long the broker may take to read our last packets.
pub const CLOSE_TIMEOUT: Duration = Duration::from_secs(1);

/// Writes `last_packets`, and reads until the broker has closed its side or [`CLOSE_TIMEOUT`] has passed.
pub async fn close_gracefully<S: AsyncRead + AsyncWrite + Unpin>(mut stream: S, last_packets: &[u8]) {
    let closed = async {
        if stream.write_all(last_packets).await.is_ok() && stream.shutdown().await.is_ok() {
            let mut sink = vec![0; 64 << 10];
            while let Ok(1..) = stream.read(&mut sink).await {}
        }
    };
    let _ = tokio::time::timeout(CLOSE_TIMEOUT, closed).await;
}

pub enum Transfer {
    Written(usize),
    /// `drained`: the read did not fill its space, so the socket is empty.
    Read {
        bytes: usize,
        drained: bool,
    },
}

/// Writes some of `outgoing` or reads into `read_buffer`, whichever is possible first. Dropping the future loses nothing.
pub async fn transfer<S: AsyncRead + AsyncWrite + Unpin>(
    stream: &mut S,
    outgoing: &[u8],
    read_buffer: &mut ReadBuffer,
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
            let space = read_buffer.space();
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
