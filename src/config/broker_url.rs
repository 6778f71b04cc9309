//! Where a broker listens, and by which transport.

use std::fmt;

use http::uri::PathAndQuery;

use crate::core::error::{Error, Result};
use crate::core::secret::{masked_path, masked_url};

#[derive(Clone, PartialEq, Eq)]
pub struct BrokerUrl {
    pub transport: Transport,
    pub host: String,
    pub port: u16,
    /// The path that a WebSocket requests; `/` for the others.
    pub path: PathAndQuery,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Transport {
    Tcp,
    Tls,
    WebSocket,
    WebSocketOverTls,
}

impl Transport {
    fn of(scheme: &str) -> Option<Transport> {
        Some(match scheme {
            "mqtt" => Transport::Tcp,
            "mqtts" => Transport::Tls,
            "ws" => Transport::WebSocket,
            "wss" => Transport::WebSocketOverTls,
            _ => return None,
        })
    }

    fn scheme(self) -> &'static str {
        match self {
            Transport::Tcp => "mqtt",
            Transport::Tls => "mqtts",
            Transport::WebSocket => "ws",
            Transport::WebSocketOverTls => "wss",
        }
    }

    fn port(self) -> u16 {
        match self {
            Transport::Tcp => 1883,
            Transport::Tls => 8883,
            Transport::WebSocket => 80,
            Transport::WebSocketOverTls => 443,
        }
    }

    pub fn is_encrypted(self) -> bool {
        matches!(self, Transport::Tls | Transport::WebSocketOverTls)
    }

    fn is_web_socket(self) -> bool {
        matches!(self, Transport::WebSocket | Transport::WebSocketOverTls)
    }
}

impl BrokerUrl {
    /// `at` is the option that has the URL.
    pub fn parse(at: &str, url: &str) -> Result<BrokerUrl> {
        let wrong = |message: &str| Error::config(at, format!("{message}, not {:?}", masked_url(url)));
        let Some((scheme, rest)) = url.split_once("://") else {
            return Err(wrong("must be like mqtt://host:1883"));
        };
        let transport = Transport::of(scheme)
            .ok_or_else(|| wrong("must begin with mqtt://, mqtts://, ws:// or wss://"))?;
        let (authority, path) = rest.split_at(rest.find(['/', '?', '#']).unwrap_or(rest.len()));
        if authority.contains('@') {
            return Err(wrong("must not hold a password: use username and password"));
        }
        let path = match path {
            "" | "/" => PathAndQuery::from_static("/"),
            _ if !transport.is_web_socket() => return Err(wrong("must end after the port")),
            _ if path.contains('#') => return Err(wrong("must not have a '#'")),
            // Without a path, a query stands behind that of the root.
            path => {
                PathAndQuery::try_from(if path.starts_with('?') { format!("/{path}") } else { path.into() })
                    .map_err(|_| wrong("must have a path as in HTTP"))?
            }
        };
        let (host, port) = match authority.strip_prefix('[') {
            Some(v6) => {
                let (host, after) = v6.split_once(']').ok_or_else(|| wrong("must close its '['"))?;
                (host, after.strip_prefix(':'))
            }
            None => match authority.rsplit_once(':') {
                Some((host, port)) => (host, Some(port)),
                None => (authority, None),
            },
        };
        let port = match port {
            Some(port) => port
                .parse()
                .ok()
                .filter(|&port| port > 0)
                .ok_or_else(|| wrong("must have a port from 1 to 65535"))?,
            None => transport.port(),
        };
        if host.is_empty() {
            return Err(wrong("must name a host"));
        }
        Ok(BrokerUrl { transport, host: host.into(), port, path })
    }
}

/// Without the query: what signs a request often stands there.
impl fmt::Display for BrokerUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let scheme = self.transport.scheme();
        if self.host.contains(':') {
            write!(f, "{scheme}://[{}]:{}", self.host, self.port)?;
        } else {
            write!(f, "{scheme}://{}:{}", self.host, self.port)?;
        }
        match self.path.path() {
            "/" => Ok(()),
            path => f.write_str(masked_path(path)),
        }
    }
}

impl fmt::Debug for BrokerUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_url_is_read_and_written() {
        for (given, written) in [
            ("mqtt://one", "mqtt://one:1883"),
            ("mqtts://one/", "mqtts://one:8883"),
            ("ws://one", "ws://one:80"),
            ("wss://[::1]/mqtt", "wss://[::1]:443/mqtt"),
            ("ws://one:8083/a/b?token=secret", "ws://one:8083/a/b"),
        ] {
            assert_eq!(BrokerUrl::parse("url", given).unwrap().to_string(), written);
        }
        assert_eq!(BrokerUrl::parse("url", "ws://one?a=b").unwrap().path, "/?a=b");
        for wrong in
            ["one", "http://one", "mqtt://one/a", "mqtts://one?a", "ws://one/#a", "ws://one/a b", "wss:///a"]
        {
            assert!(BrokerUrl::parse("url", wrong).is_err(), "{wrong}");
        }
    }
}
