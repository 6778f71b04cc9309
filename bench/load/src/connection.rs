//! One connection to the broker: a non-blocking socket, the bytes that wait to be written, and at QoS 1 the window
//! of messages that the broker has not acknowledged.
//!
//! `push` encodes a message into the buffer and `flush` writes the buffer, so that one system call carries all
//! messages of a slice. Nothing here waits but `open` and `close`.

use crate::mqtt::{self, Incoming, Login, Qos, Version};
use crate::options::Options;
use std::error::Error;
use std::io::{self, ErrorKind, Read, Write};
use std::net::{Shutdown, TcpStream, ToSocketAddrs};
use std::time::Duration;

type Result<T> = std::result::Result<T, Box<dyn Error>>;

/// How long the broker may take to answer CONNECT, and at the end to read what lies in the socket's buffer.
const ANSWER: Duration = Duration::from_secs(30);

pub struct Connection {
    stream: TcpStream,
    version: Version,
    qos: Qos,
    out: Vec<u8>,
    written: usize,
    received: Vec<u8>,
    window: usize,
    /// By packet id: whether it waits for its PUBACK.
    in_flight: Vec<bool>,
    unacknowledged: usize,
    last_packet_id: u16,
    acknowledged: u64,
}

impl Connection {
    /// Connects, logs in and waits for the broker's consent.
    pub fn open(options: &Options, number: usize) -> Result<Self> {
        let client_id = format!("load-{}-{number}", std::process::id());
        let (username, password) = (options.username.as_deref(), options.password.as_deref());
        let mut out = Vec::new();
        mqtt::connect(&mut out, options.version, &Login { client_id: &client_id, username, password });

        let mut stream = dial(&options.address)?;
        stream.set_nodelay(true)?;
        stream.set_read_timeout(Some(ANSWER))?;
        stream.write_all(&out)?;
        let mut received = Vec::new();
        let (answer, length) = loop {
            let mut chunk = [0; 1024];
            match stream.read(&mut chunk) {
                Ok(0) => return Err("the broker closed the connection instead of accepting it".into()),
                Ok(count) => received.extend_from_slice(&chunk[..count]),
                Err(error) if is_blocked(&error) => return Err("the broker did not answer CONNECT".into()),
                Err(error) => return Err(error.into()),
            }
            if let Some(packet) = mqtt::next(&received, options.version)? {
                break packet;
            }
        };
        received.drain(..length);
        let window = match answer {
            Incoming::ConnAck { code: 0, maximum_qos, .. } if options.qos > maximum_qos => {
                return Err("the broker does not take QoS 1".into());
            }
            Incoming::ConnAck { code: 0, receive_maximum, .. } => options.window.min(receive_maximum),
            Incoming::ConnAck { code, .. } => {
                return Err(format!("the broker refused the connection with code {code}").into());
            }
            _ => return Err("the broker answered CONNECT with something else".into()),
        };
        stream.set_nonblocking(true)?;
        out.clear();
        Ok(Self {
            stream,
            version: options.version,
            qos: options.qos,
            out,
            written: 0,
            received,
            window: usize::from(window),
            in_flight: vec![false; usize::from(u16::MAX) + 1],
            unacknowledged: 0,
            last_packet_id: 0,
            acknowledged: 0,
        })
    }

    pub fn acknowledged(&self) -> u64 {
        self.acknowledged
    }

    /// How many messages may be pushed now: none while earlier bytes wait for the socket, so that a slow broker
    /// slows the generator instead of filling its memory.
    pub fn room(&self) -> u64 {
        match self.qos {
            _ if !self.out.is_empty() => 0,
            Qos::AtMostOnce => u64::MAX,
            Qos::AtLeastOnce => (self.window - self.unacknowledged) as u64,
        }
    }

    /// Encodes a message; at QoS 1 the caller has looked at `room`.
    pub fn push(&mut self, topic: &[u8], payload: &[u8]) {
        let packet_id = match self.qos {
            Qos::AtMostOnce => None,
            Qos::AtLeastOnce => Some(self.take_packet_id()),
        };
        mqtt::publish(&mut self.out, self.version, packet_id, topic, payload);
    }

    /// The window is at most 65535, and ids are taken only inside it: one of 1 to 65535 is always free.
    fn take_packet_id(&mut self) -> u16 {
        loop {
            self.last_packet_id = self.last_packet_id.checked_add(1).unwrap_or(1);
            let in_flight = &mut self.in_flight[usize::from(self.last_packet_id)];
            if !*in_flight {
                *in_flight = true;
                self.unacknowledged += 1;
                return self.last_packet_id;
            }
        }
    }

    /// Writes what the socket takes; `true` when nothing is left.
    pub fn flush(&mut self) -> Result<bool> {
        while self.written < self.out.len() {
            match self.stream.write(&self.out[self.written..]) {
                Ok(count) => self.written += count,
                Err(error) if is_blocked(&error) => return Ok(false),
                Err(error) => return Err(lost(&error)),
            }
        }
        self.out.clear();
        self.written = 0;
        Ok(true)
    }

    /// Takes in what the broker has sent, without waiting.
    pub fn read(&mut self) -> Result<()> {
        let mut chunk = [0; 16 * 1024];
        loop {
            match self.stream.read(&mut chunk) {
                Ok(0) => return Err("the broker closed the connection".into()),
                Ok(count) => self.received.extend_from_slice(&chunk[..count]),
                Err(error) if is_blocked(&error) => return Ok(()),
                Err(error) => return Err(lost(&error)),
            }
            self.acknowledge()?;
        }
    }

    fn acknowledge(&mut self) -> Result<()> {
        let mut at = 0;
        while let Some((packet, length)) = mqtt::next(&self.received[at..], self.version)? {
            at += length;
            match packet {
                Incoming::PubAck { packet_id, code } if code < 0x80 => {
                    if !std::mem::take(&mut self.in_flight[usize::from(packet_id)]) {
                        return Err(
                            format!("the broker acknowledged {packet_id}, which is not in flight").into()
                        );
                    }
                    self.unacknowledged -= 1;
                    self.acknowledged += 1;
                }
                Incoming::PubAck { code, .. } => {
                    return Err(format!("the broker refused a message with code {code:#04x}").into());
                }
                Incoming::Disconnect { code } => {
                    return Err(format!("the broker ended the connection with code {code:#04x}").into());
                }
                Incoming::ConnAck { .. } => return Err("the broker sent a second CONNACK".into()),
            }
        }
        self.received.drain(..at);
        Ok(())
    }

    /// Whether all that was pushed is written, and at QoS 1 acknowledged.
    pub fn settle(&mut self) -> Result<bool> {
        if self.qos == Qos::AtLeastOnce {
            self.read()?;
        }
        Ok(self.flush()? && self.unacknowledged == 0)
    }

    /// Says goodbye and waits until the broker has closed its side: then it has read every byte, and none is lost
    /// in a socket buffer of ours.
    pub fn close(mut self) -> Result<()> {
        self.stream.set_nonblocking(false)?;
        self.stream.set_read_timeout(Some(ANSWER))?;
        self.stream.set_write_timeout(Some(ANSWER))?;
        self.stream.write_all(&mqtt::DISCONNECT)?;
        self.stream.shutdown(Shutdown::Write)?;
        let mut rest = [0; 1024];
        loop {
            match self.stream.read(&mut rest) {
                Ok(0) => return Ok(()),
                Ok(_) => {}
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                // Some brokers reset the connection at DISCONNECT; they have read it all the same.
                Err(error) if error.kind() == ErrorKind::ConnectionReset => return Ok(()),
                Err(error) if is_blocked(&error) => {
                    return Err("the broker did not end the connection".into());
                }
                Err(error) => return Err(error.into()),
            }
        }
    }
}

fn dial(address: &str) -> Result<TcpStream> {
    let mut last = None;
    for address in address.to_socket_addrs()? {
        match TcpStream::connect_timeout(&address, ANSWER) {
            Ok(stream) => return Ok(stream),
            Err(error) => last = Some(error),
        }
    }
    Err(last.unwrap_or_else(|| io::Error::other("the name has no address")).into())
}

fn lost(error: &io::Error) -> Box<dyn Error> {
    format!("the connection to the broker is lost: {error}").into()
}

fn is_blocked(error: &io::Error) -> bool {
    matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut | ErrorKind::Interrupted)
}
