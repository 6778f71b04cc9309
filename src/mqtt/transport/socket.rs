//! Questions to the socket that its stream does not answer.

use std::mem::MaybeUninit;

use socket2::SockRef;
use tokio::net::TcpStream;

/// Whether bytes, or the end of the stream, can be read at once. The runtime knows only how it was when it waited last.
pub fn has_incoming(socket: &TcpStream) -> bool {
    let mut byte = [MaybeUninit::uninit()];
    match SockRef::from(socket).peek(&mut byte) {
        Ok(_) => true,
        // An error is there to be read.
        Err(error) => error.kind() != std::io::ErrorKind::WouldBlock,
    }
}

/// Which part of the buffer for what was not read is in use. Small segments take several times their bytes, which only Linux
/// counts (`SO_MEMINFO`, since 4.12).
#[cfg(all(target_os = "linux", any(target_arch = "x86_64", target_arch = "aarch64")))]
pub fn fill(socket: &TcpStream) -> Option<f32> {
    use std::os::fd::AsRawFd;

    /// asm-generic/socket.h.
    const SO_MEMINFO: libc::c_int = 55;
    /// `SK_MEMINFO_VARS` of linux/sock_diag.h: the bytes in use are the first, the size is the second.
    const FIELDS: usize = 9;
    let mut fields = [0u32; FIELDS];
    let mut bytes = size_of_val(&fields) as libc::socklen_t;
    // SAFETY: the buffer is as long as `bytes` says, and any bytes are integers.
    let result = unsafe {
        let (level, name) = (libc::SOL_SOCKET, SO_MEMINFO);
        libc::getsockopt(socket.as_raw_fd(), level, name, fields.as_mut_ptr().cast(), &mut bytes)
    };
    let [used, size, ..] = fields;
    (result == 0 && size > 0).then(|| used as f32 / size as f32)
}

#[cfg(not(all(target_os = "linux", any(target_arch = "x86_64", target_arch = "aarch64"))))]
pub fn fill(_: &TcpStream) -> Option<f32> {
    None
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::io::AsyncWriteExt;

    #[tokio::test(flavor = "current_thread")]
    async fn it_knows_what_lies_in_a_socket() {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let socket = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
        let (mut broker, _) = listener.accept().await.unwrap();
        assert!(!has_incoming(&socket));
        let before = fill(&socket);
        broker.write_all(&[0; 10_000]).await.unwrap();
        // No runtime waits meanwhile.
        while !has_incoming(&socket) {
            std::thread::yield_now();
        }
        if let Some(before) = before {
            assert_eq!(before, 0.0);
            assert!(fill(&socket).is_some_and(|fill| fill > 0.0 && fill < 1.0), "{:?}", fill(&socket));
        }
    }
}
