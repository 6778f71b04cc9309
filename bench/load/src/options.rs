//! The command line: `load --help` prints `HELP`, which is the reference.

use crate::mqtt::{Qos, Version};
use lexopt::{Parser, ValueExt};
use std::str::FromStr;
use std::time::Duration;

pub const HELP: &str = "\
Simulated drivers that publish their positions over MQTT at a steady rate.

  --url <mqtt://host:port>  the broker                                  [mqtt://127.0.0.1:1883]
  --firehose <host:port>    be the broker: push to the one that subscribes there; port 0 is any
                            free one
  --username, --password    credentials, where the broker asks for them
  --mqtt <4|5>              protocol version: 4 is MQTT 3.1.1            [4]
  --qos <0|1>                                                            [0]
  --window <n>              QoS 1: unacknowledged messages a connection  [1000]
                            of a firehose, in flight to the subscriber
  --drivers <n>             ids driver-0 to driver-<n-1>                 [5000]
  --connections <n>         the drivers are spread over them             [4]
  --rate <n>                messages per second, all together; 0 is as
                            fast as the broker takes them                [10000]
  --seconds <n>             stop after so long                           [until stopped]
  --messages <n>            stop after so many                           [until stopped]
  --withhold <n>            count every n-th message without sending it: what tells of losses can
                            be tried with it
  --numbered                adds \"seq\":0, 1, 2, … to the messages
  --wait                    send only after a newline on standard input

Standard output has one JSON object a line: {\"event\":\"ready\"} once all connections stand, then each second
{\"event\":\"progress\",\"sent\":…,\"acknowledged\":…,\"rate\":…}, and {\"event\":\"done\",…} when every message was
written, at QoS 1 acknowledged, and the broker has closed its connections. SIGTERM and SIGINT end it the same way.

A firehose says {\"event\":\"ready\",\"port\":…} when it listens and {\"event\":\"subscribed\"} when somebody is there. Its
messages are encoded beforehand and always numbered, from 1000000000 on; at QoS 1 `done` comes when all of them are
acknowledged. Afterwards it stays until its subscriber goes.
";

#[derive(Debug, PartialEq)]
pub struct Options {
    /// host:port
    pub address: String,
    /// host:port to listen on, as a broker.
    pub firehose: Option<String>,
    pub username: Option<String>,
    pub password: Option<String>,
    pub version: Version,
    pub qos: Qos,
    pub window: u16,
    pub drivers: usize,
    pub connections: usize,
    pub rate: u64,
    pub duration: Option<Duration>,
    pub messages: Option<u64>,
    pub withhold: Option<u64>,
    pub numbered: bool,
    pub wait: bool,
}

impl Options {
    /// Reads the arguments; nothing when help was asked for.
    pub fn parse(mut parser: Parser) -> Result<Option<Self>, lexopt::Error> {
        use lexopt::Arg::{Long, Short};

        let mut options = Self {
            address: "127.0.0.1:1883".into(),
            firehose: None,
            username: None,
            password: None,
            version: Version::V4,
            qos: Qos::AtMostOnce,
            window: 1000,
            drivers: 5000,
            connections: 4,
            rate: 10_000,
            duration: None,
            messages: None,
            withhold: None,
            numbered: false,
            wait: false,
        };
        while let Some(argument) = parser.next()? {
            match argument {
                Long("url") => options.address = address(&parser.value()?.string()?)?,
                Long("firehose") => options.firehose = Some(parser.value()?.string()?),
                Long("username") => options.username = Some(parser.value()?.string()?),
                Long("password") => options.password = Some(parser.value()?.string()?),
                Long("mqtt") => {
                    options.version = match number(&mut parser, 4..=5)? {
                        4 => Version::V4,
                        _ => Version::V5,
                    }
                }
                Long("qos") => {
                    options.qos = match number(&mut parser, 0..=1)? {
                        0 => Qos::AtMostOnce,
                        _ => Qos::AtLeastOnce,
                    }
                }
                Long("window") => options.window = number(&mut parser, 1..=u16::MAX)?,
                Long("drivers") => options.drivers = number(&mut parser, 1..=100_000_000)?,
                Long("connections") => options.connections = number(&mut parser, 1..=1000)?,
                Long("rate") => options.rate = number(&mut parser, 0..=1_000_000_000)?,
                Long("seconds") => {
                    let seconds = number(&mut parser, 0.0..=1e9)?;
                    options.duration = Some(Duration::from_secs_f64(seconds));
                }
                Long("messages") => options.messages = Some(number(&mut parser, 1..=u64::MAX)?),
                Long("withhold") => options.withhold = Some(number(&mut parser, 2..=u64::MAX)?),
                Long("numbered") => options.numbered = true,
                Long("wait") => options.wait = true,
                Long("help") | Short('h') => return Ok(None),
                other => return Err(other.unexpected()),
            }
        }
        if options.connections > options.drivers {
            return Err("--connections: there are fewer drivers than connections".into());
        }
        Ok(Some(options))
    }
}

fn number<T>(parser: &mut Parser, allowed: std::ops::RangeInclusive<T>) -> Result<T, lexopt::Error>
where
    T: FromStr<Err: std::error::Error + Send + Sync + 'static> + PartialOrd + std::fmt::Display,
{
    let value: T = parser.value()?.parse()?;
    if allowed.contains(&value) {
        return Ok(value);
    }
    Err(format!("{value} is not between {} and {}", allowed.start(), allowed.end()).into())
}

/// `mqtt://host:port/` → `host:port`.
fn address(url: &str) -> Result<String, lexopt::Error> {
    let rest = url.strip_prefix("mqtt://").ok_or("--url: only mqtt://host:port is spoken")?;
    let authority = rest.trim_end_matches('/');
    // The colons of an IPv6 address stand in brackets.
    let has_port = authority.rsplit_once(':').is_some_and(|(_, port)| port.parse::<u16>().is_ok());
    Ok(if has_port { authority.into() } else { format!("{authority}:1883") })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(arguments: &str) -> Result<Option<Options>, lexopt::Error> {
        Options::parse(Parser::from_args(arguments.split_whitespace()))
    }

    #[test]
    fn options_are_read() {
        let options =
            parse("--url mqtt://broker:1884 --mqtt 5 --qos 1 --seconds 0.5 --rate 60000 --numbered");
        let options = options.unwrap().unwrap();
        assert_eq!(options.address, "broker:1884");
        assert_eq!((options.version, options.qos, options.rate), (Version::V5, Qos::AtLeastOnce, 60_000));
        assert_eq!(options.duration, Some(Duration::from_millis(500)));
        assert!(options.numbered && !options.wait);
        assert_eq!(parse("--help").unwrap(), None);
    }

    #[test]
    fn urls_may_leave_the_port_out() {
        assert_eq!(address("mqtt://localhost").unwrap(), "localhost:1883");
        assert_eq!(address("mqtt://[::1]/").unwrap(), "[::1]:1883");
        assert_eq!(address("mqtt://[::1]:1884").unwrap(), "[::1]:1884");
        assert!(address("mqtts://localhost").is_err());
    }

    #[test]
    fn wrong_values_are_refused() {
        for arguments in
            ["--qos 2", "--rate -1", "--drivers 0", "--drivers 3", "--mqtt 3", "--speed 1", "--window"]
        {
            assert!(parse(arguments).is_err(), "{arguments}");
        }
    }
}
