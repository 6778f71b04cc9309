//! Batches into ClickHouse, one INSERT at a time, on a thread of its own.
//!
//! What can succeed later is tried again for ever, under the same token and with the same bytes. Only where the table has
//! changed meanwhile are the messages decoded again: the same rows under the same token. Of a batch that ClickHouse
//! refuses because of its data the good rows go in and the bad ones become dead letters. When all of that is known, the
//! batch is settled: acknowledged, booked, and its memory given back.

use std::ops::Range;
use std::slice;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use clickhouse::Client;
use crossbeam_channel::{Receiver, Sender};

use super::answer::{Failure, Verdict};
use super::delivery::{Attempts, SLOW};
use super::halving::{Answer, Budget, Refused, halve};
use super::part::Part;
use super::request::{Insert, Views};
use super::tables::Inspector;
use super::tokens::Tokens;
use crate::backoff::Backoff;
use crate::batch::Batch;
use crate::config::Route;
use crate::dead_letters::{Code, DeadLetter, Letters, Reason};
use crate::metrics::add;
use crate::plans::{self, Plan, Plans};
use crate::shared::Shared;

pub struct Worker {
    pub shared: Arc<Shared>,
    pub plans: Arc<Plans>,
    pub servers: Servers,
    pub batches: Receiver<Batch>,
    pub letters: Sender<Letters>,
    pub tokens: Arc<Tokens>,
}

/// Messages that do not become rows, by their place in the batch; all others do.
type Unfit = Vec<(usize, Reason)>;

/// The end of an INSERT.
enum Put {
    /// All are in but these.
    In(Unfit),
    Refused(Refusal),
}

struct Refusal {
    reason: Arc<str>,
    by_view: bool,
}

/// The servers and which of them to ask next. They share the load in turn; one that cannot be reached is passed over
/// for a while.
pub struct Servers {
    all: Vec<(Client, String, Option<Instant>)>,
    at: usize,
}

impl Servers {
    /// `first` spreads the workers over the servers.
    pub fn new(clients: Vec<Client>, urls: &[String], first: usize) -> Servers {
        let all: Vec<_> =
            clients.into_iter().zip(urls).map(|(client, url)| (client, url.clone(), None)).collect();
        Servers { at: first % all.len().max(1), all }
    }

    pub fn current(&self) -> (&Client, &str) {
        let (client, url, _) = &self.all[self.at];
        (client, url)
    }

    /// The current one cannot be reached. Moves on to one that is not known to be away; `false` if there is none.
    pub fn lose(&mut self, now: Instant) -> bool {
        self.all[self.at].2 = Some(now + AWAY);
        self.advance(now)
    }

    /// Moves on to the next one that is not known to be away.
    pub fn advance(&mut self, now: Instant) -> bool {
        for step in 1..=self.all.len() {
            let at = (self.at + step) % self.all.len();
            if self.all[at].2.is_none_or(|until| until <= now) {
                self.at = at;
                return true;
            }
        }
        false
    }

    fn found(&mut self) {
        self.all[self.at].2 = None;
    }
}

/// How long a server that could not be reached is passed over while another one can.
const AWAY: Duration = Duration::from_secs(10);

impl Worker {
    /// Until the connections are gone and their batches are in, or all is cancelled.
    pub async fn run(mut self) {
        while let Ok(batch) = self.batches.recv() {
            if self.shared.is_cancelled() {
                return;
            }
            self.insert(batch).await;
        }
    }

    async fn insert(&mut self, mut batch: Batch) {
        let shared = self.shared.clone();
        add(&shared.metrics.inserts_in_flight, 1);
        let end = self.bring_in(&mut batch).await;
        shared.metrics.inserts_in_flight.fetch_sub(1, Ordering::Relaxed);
        match end {
            Some(unfit) if unfit.is_empty() => self.confirmed(batch),
            Some(unfit) => self.dead_letter(batch, unfit),
            None => shared.memory.subtract(batch.counted_bytes),
        }
    }

    /// Brings a batch to its end. `None`: cancelled.
    async fn bring_in(&mut self, batch: &mut Batch) -> Option<Unfit> {
        let all = 0..batch.messages.len();
        // The block takes the place of the columns it is copied from.
        let columns = std::mem::take(&mut batch.columns);
        let part = Part::new(batch.plan.clone(), &columns, Vec::new());
        let token = self.tokens.token(batch.group, &part.plan.sql, &part.block);
        drop(columns);
        match self.put(batch, Some(part), slice::from_ref(&all), &token, Views::Filled).await? {
            Put::In(misfits) => {
                self.servers.advance(Instant::now());
                self.plans.relieve(batch.route);
                Some(misfits)
            }
            Put::Refused(refusal) => self.tell_apart(batch, all, &token, refusal).await,
        }
    }

    /// Inserts the chosen messages, again and again until ClickHouse has them or refuses them. `part` is what they are
    /// already. `None`: cancelled.
    async fn put(
        &mut self,
        batch: &mut Batch,
        mut part: Option<Part>,
        chosen: &[Range<usize>],
        token: &str,
        views: Views,
    ) -> Option<Put> {
        let shared = self.shared.clone();
        let route = &shared.config.routes[batch.route];
        let mut attempts = Attempts::new(&shared, &route.table);
        loop {
            let plan = self.plan(batch.route).await?;
            let part = match &mut part {
                Some(part) if part.plan.generation == plan.generation => part,
                stale => {
                    *stale = None;
                    stale.insert(Part::decode(batch, chosen, plan.clone(), route))
                }
            };
            self.recount(batch, part.block.len());
            if part.rows == 0 {
                return Some(Put::In(std::mem::take(&mut part.misfits)));
            }
            let insert = Insert { sql: &plan.sql, block: part.block.clone(), token, views };
            let Err(failure) = attempts.make(&self.servers, &insert).await? else {
                self.servers.found();
                if views == Views::Filled {
                    self.count_inserted(route, part);
                }
                return Some(Put::In(std::mem::take(&mut part.misfits)));
            };
            if matches!(failure.verdict, Verdict::Refused | Verdict::RefusedByView | Verdict::RetrySlowly) {
                // It may be the table that is different, not the rows that are bad.
                self.look(batch.route).await;
                if self.plans.current(batch.route).map_or(true, |now| now.generation != plan.generation) {
                    add(&shared.metrics.inserts_retried, 1);
                    continue;
                }
            }
            match failure {
                Failure { error, verdict: verdict @ (Verdict::Refused | Verdict::RefusedByView) } => {
                    add(&shared.metrics.inserts_failed, 1);
                    let by_view = verdict == Verdict::RefusedByView;
                    return Some(Put::Refused(Refusal { reason: error.to_string().into(), by_view }));
                }
                failure => attempts.wait(&mut self.servers, &failure).await?,
            }
        }
    }

    /// The plan for the table as it is now; waits while there is none. `None`: cancelled.
    async fn plan(&mut self, at: usize) -> Option<Arc<Plan>> {
        let shared = self.shared.clone();
        let limits = shared.config.clickhouse.retry;
        let mut backoff = Backoff::new(limits);
        loop {
            if self.plans.is_due(at, Instant::now()) {
                self.look(at).await;
            }
            let fault = match self.plans.current(at) {
                Ok(plan) => return Some(plan),
                Err(fault) => fault,
            };
            let wait = backoff.failed().max(SLOW.min(limits.max));
            add(&shared.metrics.inserts_retried, 1);
            let table = &shared.config.routes[at].table;
            let message = format!("{table}: {fault}; looking at it again in {} ms", wait.as_millis());
            shared.warn("CLICKHOUSE_RETRYING", message);
            tokio::select! {
                biased;
                () = shared.cancelled() => return None,
                () = tokio::time::sleep(wait) => {}
            }
        }
    }

    /// Looks whether the table of a route has changed. A look that fails changes nothing.
    async fn look(&self, at: usize) {
        let config = &self.shared.config;
        let route = &config.routes[at];
        let plan = self.plans.latest(at);
        let (client, url) = self.servers.current();
        let inspector = Inspector::again(client, url, &config.clickhouse.database, &plan.table);
        let path = plans::path(at);
        let look = inspector.changed_table(&path, route, &plan.table);
        let looked = tokio::select! {
            biased;
            () = self.shared.cancelled() => return,
            looked = tokio::time::timeout(config.clickhouse.connect_timeout, look) => looked,
        };
        let Ok(looked) = looked else { return };
        if let Some(message) = self.plans.learn(at, route, looked) {
            self.shared.warn("TABLE_CHANGED", message);
        }
    }

    /// Brings in what is good of a batch that was refused.
    async fn tell_apart(
        &mut self,
        batch: &mut Batch,
        all: Range<usize>,
        token: &str,
        refusal: Refusal,
    ) -> Option<Unfit> {
        let plans = self.plans.clone();
        let budget = Budget::new(all.len(), plans.exhausted(batch.route));
        let mut unfit = Vec::new();
        let refused = if refusal.by_view {
            self.tell_apart_behind(batch, all, token, refusal.reason, &budget, &mut unfit).await?
        } else {
            let first = refusal.reason;
            let mut behind = Vec::new();
            let mut refused = halve(all, first, &budget, async |half| {
                // The whole was refused, so the halves are INSERTs of their own.
                let token = format!("{token}-{}-{}", half.start, half.len());
                match self.put(batch, None, slice::from_ref(&half), &token, Views::Filled).await? {
                    Put::In(misfits) => {
                        unfit.extend(misfits);
                        Some(Answer::Taken)
                    }
                    Put::Refused(Refusal { reason, by_view: false }) => Some(Answer::Refused(reason)),
                    Put::Refused(Refusal { reason, by_view: true }) => {
                        let refused =
                            self.tell_apart_behind(batch, half, &token, reason, &budget, &mut unfit).await?;
                        behind.extend(refused);
                        Some(Answer::Settled)
                    }
                }
            })
            .await?;
            refused.extend(behind);
            refused
        };
        self.warn_refused(batch, &refused);
        if refused.iter().any(Refused::is_given_up) {
            plans.exhaust(batch.route);
        } else {
            plans.relieve(batch.route);
        }
        for Refused { messages, reason } in refused {
            let reason = Reason::new(Code::RejectedByClickHouse, reason);
            unfit.extend(messages.map(|at| (at, reason.clone())));
        }
        unfit.sort_by_key(|(at, _)| *at);
        Some(unfit)
    }

    /// The same where a materialized view refused what the table itself may have stored, and other views too. Nothing may
    /// be sent there under another token, or it would be there twice. So the table is made to have all of it, the views
    /// are asked about halves without storing anything, and what they would take is sent under the first token: the
    /// table recognises it, and each view stores it if it has not already.
    async fn tell_apart_behind(
        &mut self,
        batch: &mut Batch,
        all: Range<usize>,
        token: &str,
        reason: Arc<str>,
        budget: &Budget,
        unfit: &mut Unfit,
    ) -> Option<Vec<Refused>> {
        let given_up =
            |reason: &str| Some(vec![Refused { messages: all.clone(), reason: kept(reason).into() }]);
        if all.len() == 1 || !self.plans.latest(batch.route).table.divides || !budget.spend() {
            return given_up(&reason);
        }
        if let Put::Refused(refusal) =
            self.put(batch, None, slice::from_ref(&all), token, Views::Empty).await?
        {
            return given_up(&refusal.reason);
        }
        let mut refused = halve(all.clone(), reason, budget, async |half| {
            match self.put(batch, None, slice::from_ref(&half), token, Views::Tried).await? {
                Put::In(_) => Some(Answer::Taken),
                Put::Refused(refusal) => Some(Answer::Refused(refusal.reason)),
            }
        })
        .await?;
        let good = between(&all, &refused);
        if !good.is_empty() {
            match self.put(batch, None, &good, token, Views::Filled).await? {
                Put::In(misfits) => unfit.extend(misfits),
                Put::Refused(Refusal { reason, .. }) => {
                    refused.extend(
                        good.into_iter().map(|messages| Refused { messages, reason: reason.clone() }),
                    );
                }
            }
        }
        for refused in &mut refused {
            refused.reason = kept(&refused.reason).into();
        }
        Some(refused)
    }

    fn warn_refused(&self, batch: &Batch, refused: &[Refused]) {
        let Some(first) = refused.first() else { return };
        let count = |refused: &mut dyn Iterator<Item = &Refused>| {
            refused.map(|refused| refused.messages.len()).sum::<usize>()
        };
        let bad = count(&mut refused.iter());
        let given_up = count(&mut refused.iter().filter(|refused| refused.is_given_up()));
        let mut message = format!(
            "ClickHouse refused {bad} of {} messages for {}: {}",
            batch.messages.len(),
            self.shared.config.routes[batch.route].table,
            first.reason
        );
        if given_up > 0 {
            message += &format!("; {given_up} of them were not told apart");
        }
        self.shared.warn("CLICKHOUSE_REFUSED", message);
    }

    fn count_inserted(&self, route: &Route, part: &Part) {
        let metrics = &self.shared.metrics;
        add(&metrics.inserts_succeeded, 1);
        add(&metrics.rows_inserted, part.rows as u64);
        add(&metrics.bytes_inserted, part.block.len() as u64);
        if let Some(table) = metrics.table(&route.table) {
            add(&table.rows, part.rows as u64);
            add(&table.inserts, 1);
        }
    }

    /// Counts a batch anew: its messages, and the block that they are now.
    fn recount(&self, batch: &mut Batch, block_bytes: usize) {
        let bytes = batch.messages.bytes() + block_bytes;
        self.shared.memory.add(bytes);
        self.shared.memory.subtract(std::mem::replace(&mut batch.counted_bytes, bytes));
    }

    /// All messages are in.
    fn confirmed(&self, batch: Batch) {
        let now = Instant::now();
        for (at, count) in batch.messages.arrivals() {
            self.record_latency(now, at.instant, *count);
        }
        // Freed before the connection is told: it may be waiting for the room.
        self.shared.memory.subtract(batch.counted_bytes);
        // Told before the books are closed: whoever waits for them then closes a connection that knows all.
        self.shared.settle(batch.connection, batch.owed);
        self.shared.ledger.close(batch.group, batch.messages.len() as u64, 0);
    }

    /// All messages are in but these, which become dead letters. With them go the acknowledgements of the whole batch:
    /// they leave when the letters are kept.
    fn dead_letter(&self, batch: Batch, unfit: Unfit) {
        let now = Instant::now();
        let mut letters = Letters::new(batch.group, batch.connection);
        let mut unfit = unfit.into_iter().peekable();
        for (at, message) in batch.messages.iter().enumerate() {
            match unfit.next_if(|(unfit, _)| *unfit == at) {
                None => self.record_latency(now, message.received.instant, 1),
                Some((_, reason)) => letters.push(DeadLetter {
                    received_at: message.received.system,
                    route: Some(batch.route),
                    topic: message.topic.into(),
                    payload: message.payload.into(),
                    reason,
                }),
            }
        }
        letters.owed = batch.owed;
        self.shared.memory.add(letters.bytes);
        self.shared.memory.subtract(batch.counted_bytes);
        self.shared.ledger.insert((batch.messages.len() - letters.letters.len()) as u64);
        // The writer ends after all workers.
        let _ = self.letters.send(letters);
    }

    fn record_latency(&self, now: Instant, received: Instant, count: u32) {
        let latency = now.saturating_duration_since(received);
        self.shared.metrics.end_to_end_latency.record(latency, count as u64);
    }
}

/// The reason of a view, for a dead letter.
fn kept(reason: &str) -> String {
    format!("{reason}; the table itself may have stored it")
}

/// What of `all` is not refused; `refused` is in order.
fn between(all: &Range<usize>, refused: &[Refused]) -> Vec<Range<usize>> {
    let mut good = Vec::new();
    let mut at = all.start;
    for Refused { messages, .. } in refused {
        good.push(at..messages.start);
        at = messages.end;
    }
    good.push(at..all.end);
    good.retain(|range| !range.is_empty());
    good
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_not_refused_is_between() {
        let good = |refused: &[(usize, usize)]| -> Vec<(usize, usize)> {
            let refused =
                refused.iter().map(|&(start, end)| Refused { messages: start..end, reason: "".into() });
            let good = between(&(2..9), &refused.collect::<Vec<_>>());
            good.into_iter().map(|range| (range.start, range.end)).collect()
        };
        assert_eq!(good(&[(2, 3), (5, 7)]), [(3, 5), (7, 9)]);
        assert_eq!(good(&[(4, 9)]), [(2, 4)]);
        assert_eq!(good(&[]), [(2, 9)]);
        assert_eq!(good(&[(2, 9)]), []);
    }
}
