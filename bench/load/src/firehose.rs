//! A broker for one subscriber that is faster than brokers are, so that the subscriber sets the limit.
//!
//! The messages are encoded beforehand, side by side: `Round` has one of each driver, and a write carries as many of them
//! as are due straight from there. Only their times and numbers are made anew, in place, each time they leave. A thread
//! beside it reads what the subscriber says; `broker` knows the answers, and they leave between two writes. At QoS 1 it
//! counts acknowledgements, in whatever order, and how long each took, and no more messages are in flight than the window holds.

use crate::broker::{self, Request};
use crate::fleet::Fleet;
use crate::mqtt::Qos;
use crate::mqtt::{self, Version};
use crate::options::Options;
use crate::pace::{Pacer, SLICE};
use crate::{REPORT, Result, report, wait_for_newline};
use std::io::{self, ErrorKind, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::mpsc::{self, Receiver, RecvTimeoutError, Sender};
use std::thread;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use crate::latency::Latency;

/// Ten digits, up to the last number there can be: then a number is written over another in place.
const FIRST: u64 = 1_000_000_000;
const DIGITS: usize = 10;

/// The most messages of a round: with them it stays in the cache beside the subscriber's own data.
const ROUND: usize = 10_000;

/// How often what waits looks whether it shall stop.
const GLANCE: Duration = Duration::from_millis(50);
/// How often a full window is looked at.
const MOMENT: Duration = Duration::from_micros(100);

pub fn run(address: &str, options: &Options, stop: &AtomicBool) -> Result<()> {
    let listener = TcpListener::bind(address).map_err(|error| format!("{address}: {error}"))?;
    let port = listener.local_addr()?.port();
    report(format_args!("{{\"event\":\"ready\",\"port\":{port}}}"))?;
    let Some(mut subscriber) = Subscriber::accept(&listener, stop)? else { return Ok(()) };
    report(format_args!("{{\"event\":\"subscribed\"}}"))?;
    if options.wait && !subscriber.wait_for_newline(stop)? {
        return Ok(());
    }
    send(&mut subscriber, options, stop)?;
    subscriber.attend(|| stop.load(Ordering::Relaxed))
}

/// Sends until the time is over, all messages are sent, or `stop` is set.
fn send(subscriber: &mut Subscriber, options: &Options, stop: &AtomicBool) -> Result<()> {
    let mut round = Round::new(options, subscriber.version);
    let mut pacer = Pacer::new(options.rate);
    let duration = options.duration.unwrap_or(Duration::MAX);
    let messages = options.messages.unwrap_or(u64::MAX);
    let window = if options.qos == Qos::AtLeastOnce { options.window.into() } else { u64::MAX };
    let mut reported = (Duration::ZERO, 0);
    let started = Instant::now();
    let mut sent = 0;
    loop {
        let elapsed = started.elapsed();
        let room = window - (sent - subscriber.acknowledged(sent, options.qos));
        let mut due = pacer.due(elapsed.min(duration)).min(messages - sent).min(room);
        pacer.sent(due);
        sent += due;
        if due == 0 && room == 0 {
            subscriber.write(&[], stop)?;
            thread::sleep(MOMENT);
        }
        while due > 0 {
            let range = round.next(due)?;
            due -= range.len() as u64;
            if options.qos == Qos::AtLeastOnce {
                subscriber.latency.sent(round.last_id, range.len());
            }
            subscriber.write(round.bytes(range), stop)?;
        }
        if elapsed >= duration || sent == messages || stop.load(Ordering::Relaxed) {
            break;
        }
        if elapsed >= reported.0 + REPORT {
            let rate = (sent - reported.1) as f64 / (elapsed - reported.0).as_secs_f64();
            report(format_args!("{{\"event\":\"progress\",\"sent\":{sent},\"rate\":{rate:.0}}}"))?;
            reported = (elapsed, sent);
        }
        if options.rate > 0 {
            thread::sleep(SLICE.saturating_sub(started.elapsed() - elapsed));
        }
    }
    let acknowledged = subscriber.acknowledged.clone();
    let is_owed = |count: u64| options.qos == Qos::AtLeastOnce && count < sent;
    subscriber.attend(|| !is_owed(acknowledged.load(Ordering::Relaxed)) || stop.load(Ordering::Relaxed))?;
    let seconds = started.elapsed().as_secs_f64();
    let rate = sent as f64 / seconds.max(f64::MIN_POSITIVE);
    let latency = subscriber.latency.report();
    report(format_args!(
        "{{\"event\":\"done\",\"sent\":{sent},\"seconds\":{seconds:.3},\"rate\":{rate:.0}{latency}}}"
    ))
}

/// Messages side by side as the wire carries them.
struct Round {
    bytes: Vec<u8>,
    /// At QoS 1, where the packet id of each is.
    ids: Vec<usize>,
    last_id: u16,
    /// Where each begins; behind the last stands the end.
    begins: Vec<usize>,
    at: usize,
    number: u64,
}

impl Round {
    fn new(options: &Options, version: Version) -> Self {
        let count = options.drivers.min(ROUND);
        let interval = options.drivers as f32 / options.rate.max(1) as f32;
        let mut fleet = Fleet::new(options.drivers, interval, true);
        let (mut bytes, mut begins, mut ids) = (Vec::new(), vec![0], Vec::new());
        let packet_id = (options.qos == Qos::AtLeastOnce).then_some(1);
        let (mut topic, mut payload) = (Vec::new(), Vec::new());
        for number in 0..count {
            let driver = number * options.drivers / count;
            fleet.report(driver, now_ms(), FIRST, &mut topic, &mut payload);
            mqtt::publish(&mut bytes, version, packet_id, &topic, &payload);
            begins.push(bytes.len());
            if packet_id.is_some() {
                let properties = usize::from(version == Version::V5);
                ids.push(bytes.len() - payload.len() - properties - 2);
            }
        }
        Self { bytes, ids, last_id: 0, begins, at: 0, number: FIRST }
    }

    /// Makes the next messages ready, at most `most` of them and at least one.
    fn next(&mut self, most: u64) -> Result<Range<usize>> {
        const BEHIND_TIME: usize = ",\"seq\":".len() + DIGITS + "}".len();
        let first = self.at;
        let last = (self.begins.len() - 1).min(first + most as usize);
        let now = now_ms();
        let mut digits = itoa::Buffer::new();
        let mut time = itoa::Buffer::new();
        let time = time.format(now).as_bytes();
        for end in &self.begins[first + 1..=last] {
            let end = *end;
            let number = digits.format(self.number).as_bytes();
            if number.len() != DIGITS {
                return Err("the numbers are used up".into());
            }
            self.bytes[end - 1 - DIGITS..end - 1].copy_from_slice(number);
            let end = end - BEHIND_TIME;
            self.bytes[end - time.len()..end].copy_from_slice(time);
            self.number += 1;
        }
        for at in self.ids.iter().take(last).skip(first) {
            self.last_id = self.last_id.checked_add(1).unwrap_or(1);
            self.bytes[*at..at + 2].copy_from_slice(&self.last_id.to_be_bytes());
        }
        self.at = if last == self.begins.len() - 1 { 0 } else { last };
        Ok(first..last)
    }

    fn bytes(&self, messages: Range<usize>) -> &[u8] {
        &self.bytes[self.begins[messages.start]..self.begins[messages.end]]
    }
}

/// Milliseconds since 1970: thirteen digits from 2001 to 2286.
fn now_ms() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(1_000_000_000_000, |since| since.as_millis() as u64)
}

struct Subscriber {
    stream: TcpStream,
    version: Version,
    answers: Receiver<Vec<u8>>,
    /// How many messages it has acknowledged.
    acknowledged: Arc<AtomicU64>,
    latency: Arc<Latency>,
}

impl Subscriber {
    /// Waits until a client has connected and subscribed; nothing when it shall stop before.
    fn accept(listener: &TcpListener, stop: &AtomicBool) -> Result<Option<Self>> {
        listener.set_nonblocking(true)?;
        let stream = loop {
            match listener.accept() {
                Ok((stream, _)) => break stream,
                Err(error) if error.kind() == ErrorKind::WouldBlock => {}
                Err(error) => return Err(error.into()),
            }
            if stop.load(Ordering::Relaxed) {
                return Ok(None);
            }
            thread::sleep(SLICE);
        };
        stream.set_nonblocking(false)?;
        stream.set_nodelay(true)?;
        stream.set_write_timeout(Some(GLANCE))?;
        let (to_answers, answers) = mpsc::channel();
        let (to_subscribed, subscribed) = mpsc::channel();
        let reader = stream.try_clone()?;
        let acknowledged = Arc::<AtomicU64>::default();
        let count = acknowledged.clone();
        let latency = Arc::new(Latency::new());
        let measured = latency.clone();
        thread::spawn(move || listen(reader, &to_answers, &to_subscribed, &count, &measured));

        let mut subscriber = Self { stream, version: Version::V4, answers, acknowledged, latency };
        let mut version = None;
        subscriber.attend(|| {
            version = subscribed.try_recv().ok();
            version.is_some() || stop.load(Ordering::Relaxed)
        })?;
        Ok(version.map(|version| Self { version, ..subscriber }))
    }

    /// Its pings want answers while we wait; `false` when there is nothing to send after all.
    fn wait_for_newline(&mut self, stop: &AtomicBool) -> Result<bool> {
        let is_over = AtomicBool::new(false);
        thread::scope(|scope| {
            let newline = scope.spawn(|| {
                let newline = wait_for_newline(stop);
                is_over.store(true, Ordering::Relaxed);
                newline
            });
            self.attend(|| is_over.load(Ordering::Relaxed))?;
            newline.join().map_err(|_| "waiting for a newline failed".into())
        })
    }

    /// Passes answers on until `is_over` or the subscriber is gone.
    fn attend(&mut self, mut is_over: impl FnMut() -> bool) -> Result<()> {
        while !is_over() {
            match self.answers.recv_timeout(GLANCE) {
                Ok(answer) => self.stream.write_all(&answer)?,
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => return Ok(()),
            }
        }
        Ok(())
    }

    /// How many of the messages that were sent are not in flight any more.
    fn acknowledged(&self, sent: u64, qos: Qos) -> u64 {
        if qos == Qos::AtLeastOnce { self.acknowledged.load(Ordering::Relaxed) } else { sent }
    }

    /// Writes complete packets, and before them the answers that wait.
    fn write(&mut self, packets: &[u8], stop: &AtomicBool) -> Result<()> {
        let answers: Vec<u8> = self.answers.try_iter().flatten().collect();
        for mut bytes in [&answers[..], packets] {
            while !bytes.is_empty() {
                match self.stream.write(bytes) {
                    Ok(count) => bytes = &bytes[count..],
                    // A subscriber that reads slowly; it may take all the time it wants.
                    Err(error) if is_timeout(&error) && !stop.load(Ordering::Relaxed) => {}
                    Err(error) if is_timeout(&error) => return Err("stopped amid a packet".into()),
                    Err(error) => return Err(format!("the subscriber is gone: {error}").into()),
                }
            }
        }
        Ok(())
    }
}

/// Reads what the subscriber says until it goes. `subscribed` is called for each subscription, with the
/// version spoken.
fn listen(
    mut stream: TcpStream,
    answers: &Sender<Vec<u8>>,
    subscribed: &Sender<Version>,
    acknowledged: &AtomicU64,
    latency: &Latency,
) {
    let mut version = Version::V4;
    let mut received = Vec::new();
    let mut chunk = [0; 65_536];
    while let Ok(count @ 1..) = stream.read(&mut chunk) {
        received.extend_from_slice(&chunk[..count]);
        let mut answer = Vec::new();
        let mut has_subscribed = false;
        let (mut read, mut acknowledgements) = (0, 0);
        while let Ok(Some((request, length))) = broker::answer(&received[read..], version, &mut answer) {
            read += length;
            match request {
                Request::Connect(its) => version = its,
                Request::Subscribe => has_subscribed = true,
                Request::Acknowledge(id) => {
                    acknowledgements += 1;
                    latency.acknowledged(id);
                }
                Request::Leave => return,
                Request::Other => {}
            }
        }
        received.drain(..read);
        acknowledged.fetch_add(acknowledgements, Ordering::Relaxed);
        // The receiver is gone when the program is about to end.
        let is_gone = !answer.is_empty() && answers.send(answer).is_err();
        if is_gone || has_subscribed && subscribed.send(version).is_err() {
            return;
        }
    }
}

fn is_timeout(error: &io::Error) -> bool {
    matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut | ErrorKind::Interrupted)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn options(drivers: usize) -> Options {
        let arguments =
            ["--firehose", "127.0.0.1:0", "--drivers", &drivers.to_string(), "--connections", "1"];
        Options::parse(lexopt::Parser::from_args(arguments)).unwrap().unwrap()
    }

    #[test]
    fn every_message_has_its_own_number_and_the_time_of_its_leaving() {
        let mut round = Round::new(&options(3), Version::V4);
        let before = now_ms();
        for (most, expected) in [(2, 0..2), (9, 2..3), (1, 0..1), (9, 1..3)] {
            let first = round.number;
            let range = round.next(most).unwrap();
            assert_eq!(range, expected);
            let text = String::from_utf8_lossy(round.bytes(range.clone())).into_owned();
            let ends: Vec<_> =
                text.split("\"ts\":").skip(1).map(|rest| rest.split_once('}').unwrap().0).collect();
            assert_eq!(ends.len(), range.len());
            for (at, end) in (first..).zip(ends) {
                let (time, number) = end.split_once(",\"seq\":").unwrap();
                assert!((before..=now_ms()).contains(&time.parse().unwrap()));
                assert_eq!(number, at.to_string());
            }
        }
    }

    #[test]
    fn at_qos_1_every_message_has_the_next_packet_id() {
        for version in [Version::V4, Version::V5] {
            let mut round = Round::new(&Options { qos: Qos::AtLeastOnce, ..options(3) }, version);
            round.last_id = u16::MAX - 1;
            for id in [u16::MAX, 1, 2, 3] {
                let range = round.next(1).unwrap();
                let bytes = round.bytes(range);
                // The packets are shorter than 128 or than 16,384 bytes: one byte or two say so.
                let topic = if bytes[1] < 128 { 2 } else { 3 };
                let len = u16::from_be_bytes([bytes[topic], bytes[topic + 1]]) as usize;
                assert_eq!(bytes[0], 0x32);
                assert_eq!(bytes[topic + 2 + len..][..2], id.to_be_bytes());
            }
        }
    }

    #[test]
    fn a_round_is_spread_over_all_drivers() {
        let round = Round::new(&options(1_000_000), Version::V5);
        assert_eq!(round.begins.len(), ROUND + 1);
        let last = String::from_utf8_lossy(round.bytes(ROUND - 1..ROUND)).into_owned();
        assert!(last.contains("drivers/driver-999900/position\0{"), "{last}");
    }
}
