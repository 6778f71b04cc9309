//! A load generator: simulated drivers publish their positions over MQTT at a steady rate.
//!
//! One thread does everything, because broker, ClickHouse and the service under test share the machine with it:
//! each millisecond `pace` says how many messages are due, `fleet` writes them, `connection` sends each socket its
//! share with one system call. The numbers actually sent go to standard output, one JSON object a line.
//! `firehose` is the other way to run it: as a broker, for what is faster than brokers are.
#![expect(clippy::print_stderr, reason = "a command-line program: its errors go to standard error")]

mod broker;
mod connection;
mod firehose;
mod fleet;
mod latency;
mod mqtt;
mod options;
mod pace;

use connection::Connection;
use fleet::Fleet;
use options::Options;
use pace::{Pacer, SLICE};
use std::error::Error;
use std::io::{self, Write};
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{self, RecvTimeoutError};
use std::thread;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

type Result<T> = std::result::Result<T, Box<dyn Error>>;

/// How long the broker may take to read, and at QoS 1 acknowledge, what is left at the end.
const SETTLE: Duration = Duration::from_secs(30);

const REPORT: Duration = Duration::from_secs(1);

fn main() -> ExitCode {
    let failed = match Options::parse(lexopt::Parser::from_env()) {
        Ok(Some(options)) => run(&options).err().map(|error| (error, ExitCode::FAILURE)),
        Ok(None) => writeln!(io::stdout(), "{}", options::HELP).err().map(|e| (e.into(), ExitCode::FAILURE)),
        Err(error) => Some((error.into(), ExitCode::from(2))),
    };
    let Some((error, code)) = failed else { return ExitCode::SUCCESS };
    eprintln!("load: {error}");
    code
}

fn run(options: &Options) -> Result<()> {
    let stop = Arc::new(AtomicBool::new(false));
    for signal in [signal_hook::consts::SIGTERM, signal_hook::consts::SIGINT] {
        signal_hook::flag::register(signal, Arc::clone(&stop))?;
    }
    if let Some(address) = &options.firehose {
        return firehose::run(address, options, &stop);
    }
    let connections = (0..options.connections).map(|number| Connection::open(options, number));
    let connections: Vec<_> =
        connections.collect::<Result<_>>().map_err(|error| format!("{}: {error}", options.address))?;
    report(format_args!("{{\"event\":\"ready\",\"connections\":{}}}", connections.len()))?;
    if options.wait && !wait_for_newline(&stop) {
        return Ok(());
    }
    let mut load = Load::new(options, connections);
    load.send(options, &stop)?;
    load.finish()
}

/// A connection and the driver whose turn it is on it: lane `c` of `n` carries the drivers `c`, `c + n`, …
struct Lane {
    connection: Connection,
    driver: usize,
}

struct Load {
    lanes: Vec<Lane>,
    drivers: usize,
    fleet: Fleet,
    topic: Vec<u8>,
    payload: Vec<u8>,
    /// It includes the messages that `--withhold` counts without sending.
    sent: u64,
    withhold: Option<u64>,
    started: Instant,
}

impl Load {
    fn new(options: &Options, connections: Vec<Connection>) -> Self {
        let interval = options.drivers as f32 / options.rate.max(1) as f32;
        Self {
            lanes: (0..).zip(connections).map(|(driver, connection)| Lane { connection, driver }).collect(),
            drivers: options.drivers,
            fleet: Fleet::new(options.drivers, interval, options.numbered),
            topic: Vec::new(),
            payload: Vec::new(),
            sent: 0,
            withhold: options.withhold,
            started: Instant::now(),
        }
    }

    /// Sends until the time is over, all messages are sent, or `stop` is set.
    fn send(&mut self, options: &Options, stop: &AtomicBool) -> Result<()> {
        let duration = options.duration.unwrap_or(Duration::MAX);
        let messages = options.messages.unwrap_or(u64::MAX);
        let mut pacer = Pacer::new(options.rate);
        let mut reported = (Duration::ZERO, 0);
        self.started = Instant::now();
        while !stop.load(Ordering::Relaxed) {
            let elapsed = self.started.elapsed();
            let due = pacer.due(elapsed.min(duration)).min(messages - self.sent);
            let sent = self.slice(due)?;
            pacer.sent(sent);
            if elapsed >= duration || self.sent == messages {
                break;
            }
            if elapsed >= reported.0 + REPORT {
                self.progress(elapsed - reported.0, self.sent - reported.1)?;
                reported = (elapsed, self.sent);
            }
            // Flat out, only sockets that take nothing more are a reason to rest.
            if options.rate > 0 || sent == 0 {
                thread::sleep(SLICE.saturating_sub(self.started.elapsed() - elapsed));
            }
        }
        Ok(())
    }

    /// Sends up to `due` messages, spread over the connections, and says how many.
    fn slice(&mut self, due: u64) -> Result<u64> {
        let now_ms = SystemTime::now().duration_since(UNIX_EPOCH)?.as_millis() as u64;
        let before = self.sent;
        let lanes = self.lanes.len();
        for (number, Lane { connection, driver }) in self.lanes.iter_mut().enumerate() {
            connection.settle()?;
            let left = due - (self.sent - before);
            let share = left.div_ceil((lanes - number) as u64).min(connection.room());
            for _ in 0..share {
                self.fleet.report(*driver, now_ms, self.sent, &mut self.topic, &mut self.payload);
                self.sent += 1;
                if !self.withhold.is_some_and(|n| self.sent.is_multiple_of(n)) {
                    connection.push(&self.topic, &self.payload);
                }
                *driver = if *driver + lanes < self.drivers { *driver + lanes } else { number };
            }
            connection.flush()?;
        }
        Ok(self.sent - before)
    }

    /// Waits until the broker has everything, and ends the connections.
    fn finish(mut self) -> Result<()> {
        let stopped = Instant::now();
        let seconds = (stopped - self.started).as_secs_f64();
        loop {
            let mut settled = true;
            for lane in &mut self.lanes {
                settled &= lane.connection.settle()?;
            }
            if settled {
                break;
            }
            if stopped.elapsed() > SETTLE {
                return Err("the broker did not take the last messages".into());
            }
            thread::sleep(SLICE);
        }
        let (sent, acknowledged) = (self.sent, self.acknowledged());
        for lane in self.lanes {
            lane.connection.close()?;
        }
        report(format_args!(
            "{{\"event\":\"done\",\"sent\":{sent},\"acknowledged\":{acknowledged},\"seconds\":{seconds:.3},\
             \"rate\":{:.0}}}",
            sent as f64 / seconds.max(f64::MIN_POSITIVE)
        ))
    }

    fn progress(&self, elapsed: Duration, sent: u64) -> Result<()> {
        report(format_args!(
            "{{\"event\":\"progress\",\"sent\":{},\"acknowledged\":{},\"rate\":{:.0}}}",
            self.sent,
            self.acknowledged(),
            sent as f64 / elapsed.as_secs_f64()
        ))
    }

    fn acknowledged(&self) -> u64 {
        self.lanes.iter().map(|lane| lane.connection.acknowledged()).sum()
    }
}

/// `false` when standard input ends or `stop` is set instead.
fn wait_for_newline(stop: &AtomicBool) -> bool {
    // On a thread of its own, since a signal does not end a read of standard input.
    let (newline, arrived) = mpsc::channel();
    thread::spawn(move || {
        newline.send(io::stdin().read_line(&mut String::new()).is_ok_and(|count| count > 0))
    });
    loop {
        match arrived.recv_timeout(Duration::from_millis(10)) {
            Ok(is_newline) => return is_newline,
            Err(RecvTimeoutError::Timeout) if !stop.load(Ordering::Relaxed) => {}
            Err(_) => return false,
        }
    }
}

/// One line on standard output; when its reader is gone, that is an error, and the program ends.
fn report(line: std::fmt::Arguments<'_>) -> Result<()> {
    let mut out = io::stdout().lock();
    let written = writeln!(out, "{line}").and_then(|()| out.flush());
    written.map_err(|error| format!("standard output: {error}").into())
}
