//! The way to the broker: TCP. TLS and WebSocket will be further streams here; `connection` takes any.

use std::io;
use std::time::Duration;

use socket2::{SockRef, TcpKeepalive};
use tokio::net::TcpStream;

use crate::config::BrokerUrl;

/// How long connecting, and then the broker's answers to CONNECT and SUBSCRIBE, may take.
pub const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);

/// Linux takes no more than nine hours.
const LONGEST_IDLE: Duration = Duration::from_secs(3600);

/// `keep_alive` is MQTT's.
pub async fn connect(url: &BrokerUrl, keep_alive: Duration) -> io::Result<TcpStream> {
    let connecting = TcpStream::connect((url.host.as_str(), url.port));
    let stream = tokio::time::timeout(CONNECT_TIMEOUT, connecting)
        .await
        .map_err(|_| io::Error::new(io::ErrorKind::TimedOut, "no answer within 5 s"))??;
    // Acknowledgements leave as one write each time: waiting for more would only delay them.
    stream.set_nodelay(true)?;
    notice_death(&stream, keep_alive)?;
    Ok(stream)
}

/// While we do not read, for want of room, only TCP can tell that nobody is there any more.
fn notice_death(stream: &TcpStream, keep_alive: Duration) -> io::Result<()> {
    let socket = SockRef::from(stream);
    let probes =
        TcpKeepalive::new().with_time(keep_alive.min(LONGEST_IDLE)).with_interval(Duration::from_secs(10));
    socket.set_tcp_keepalive(&probes)?;
    // Our pings count as well: without this, Linux sends them again for a quarter of an hour.
    #[cfg(target_os = "linux")]
    socket.set_tcp_user_timeout(Some(keep_alive * 3 / 2))?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(flavor = "current_thread")]
    async fn sockets_do_not_delay_and_notice_the_death_of_the_other_end() {
        let broker = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = BrokerUrl { host: "127.0.0.1".into(), port: broker.local_addr().unwrap().port() };
        let stream = connect(&url, Duration::from_secs(20)).await.unwrap();
        assert!(stream.nodelay().unwrap());
        let socket = SockRef::from(&stream);
        assert!(socket.keepalive().unwrap());
        assert_eq!(socket.tcp_keepalive_time().unwrap(), Duration::from_secs(20));
        #[cfg(target_os = "linux")]
        assert_eq!(socket.tcp_user_timeout().unwrap(), Some(Duration::from_secs(30)));
    }
}
