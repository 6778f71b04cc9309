//! The servers of `clickhouse.url`, and which of them to ask next.

use std::time::{Duration, Instant};

use crate::clickhouse::client::Server;

/// The servers and which of them to ask next. They share the load in turn; one that cannot be reached is passed over
/// for a while.
#[derive(Clone)]
pub struct Servers {
    /// Each with the time until which it is passed over.
    all: Vec<(Server, Option<Instant>)>,
    at: usize,
}

impl Servers {
    /// `first` spreads the workers over the servers.
    pub fn new(servers: Vec<Server>, first: usize) -> Servers {
        let all: Vec<_> = servers.into_iter().map(|server| (server, None)).collect();
        Servers { at: first % all.len().max(1), all }
    }

    /// Each server alone.
    pub fn each(&self) -> Vec<Servers> {
        self.all.iter().map(|(server, _)| Servers::new(vec![server.clone()], 0)).collect()
    }

    pub fn current(&self) -> &Server {
        &self.all[self.at].0
    }

    /// The current one cannot be reached. Moves on to one that is not known to be away; `false` if there is none.
    pub fn lose(&mut self, now: Instant) -> bool {
        self.all[self.at].1 = Some(now + UNREACHABLE_COOLDOWN);
        self.advance(now)
    }

    /// Moves on to the next one that is not known to be away.
    pub fn advance(&mut self, now: Instant) -> bool {
        for step in 1..=self.all.len() {
            let at = (self.at + step) % self.all.len();
            if self.all[at].1.is_none_or(|until| until <= now) {
                self.at = at;
                return true;
            }
        }
        false
    }

    pub fn found(&mut self) {
        self.all[self.at].1 = None;
    }
}

/// How long a server that could not be reached is passed over while another one can.
const UNREACHABLE_COOLDOWN: Duration = Duration::from_secs(10);
