//! Settles messages: one object travels with them, from the open batch to the confirmed INSERT or the stored
//! dead letters.
//!
//! It holds the acknowledgements, the group in the ledger, the memory and, with a spool, the INSERT that the messages
//! belong to. Settling does all four, in an order that matters:
//!
//! 1. The memory is released before the connection is notified: the connection may wait for it.
//! 2. The connection is notified before the ledger changes: a stop that waits for the ledger closes
//!    connections afterwards.
//! 3. The spool is notified last.
//!
//! A completion that is dropped unsettled is abandoned: its memory is released and nothing is acknowledged, so the broker
//! sends the messages again, or the next start finds them in the spool.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

use crossbeam_channel::Sender;

use crate::core::ack_set::AckSet;
use crate::core::memory_budget::MemoryReservation;
use crate::ingest::shared_messages::{SharedAcks, SharedCounts, countable};
use crate::mqtt::AckSender;
use crate::telemetry::context::PipelineContext;
use crate::telemetry::ledger::{PendingGroupId, Settled};

pub struct Completion {
    context: Arc<PipelineContext>,
    group: PendingGroupId,
    /// A number that no other completion of this life has.
    id: u64,
    /// `None`: found in the spool at start, where nothing is left to acknowledge.
    acks: Option<PendingAcks>,
    memory: MemoryReservation,
    insert: Option<SpooledInsert>,
    /// Its messages were counted when they came. Rows that a transform emitted were not.
    is_counted: bool,
    /// Numbers of its messages, and of those in its forks, that count with the completion that had them
    /// first.
    copies: Vec<Arc<AtomicU64>>,
    /// The messages that it has with others: the first of them is `own` if others have what it had first.
    counts: Vec<SharedCounts>,
    own: Vec<SharedCounts>,
    own_acks: Option<SharedAcks>,
}

/// Acknowledgements that one connection waits for.
#[derive(Debug)]
pub struct PendingAcks {
    sender: AckSender,
    acks: AckSet,
    /// Messages that other completions have as well.
    shared: Vec<SharedAcks>,
}

impl PendingAcks {
    pub fn is_empty(&self) -> bool {
        self.acks.is_empty() && self.shared.iter().all(|shared| shared.with(|acks, _| acks.is_empty()))
    }

    /// Sent also when there is nothing to acknowledge: the connection may wait for the sinks or for memory.
    pub fn send(mut self) {
        self.shared.into_iter().filter_map(SharedAcks::release).for_each(|acks| self.acks.append(acks));
        self.sender.send(self.acks);
    }
}

/// The INSERT of the spool that messages belong to.
#[derive(Debug, Clone)]
pub struct SpooledInsert {
    pub id: u64,
    /// Receives the id once every message of the INSERT is settled.
    pub settled: Sender<u64>,
}

impl Completion {
    /// Opens a group in the ledger for messages of one connection, the first of which came at `now`.
    pub fn open(context: &Arc<PipelineContext>, sender: &AckSender, now: Instant) -> Completion {
        let acks = PendingAcks { sender: sender.clone(), acks: AckSet::default(), shared: Vec::new() };
        Completion { acks: Some(acks), ..Completion::recovered(context, now) }
    }

    /// The same for messages that an earlier process acknowledged and left in the spool.
    pub fn recovered(context: &Arc<PipelineContext>, now: Instant) -> Completion {
        let group = context.ledger.open(now);
        Completion {
            group,
            id: group,
            acks: None,
            memory: MemoryReservation::new(&context.memory),
            insert: None,
            is_counted: true,
            copies: Vec::new(),
            counts: Vec::new(),
            own: Vec::new(),
            own_acks: None,
            context: context.clone(),
        }
    }

    pub fn id(&self) -> u64 {
        self.id
    }

    /// Acknowledges the message with this sequence number when all are settled.
    #[inline]
    pub fn acknowledge(&mut self, sequence: u64) {
        if let Some(pending) = &mut self.acks {
            pending.acks.add(sequence);
        }
    }

    /// The handle by which other completions get a message that this one had first.
    pub fn first(&mut self) -> FirstHolder {
        if self.own.is_empty() {
            self.own.push(SharedCounts::new(Vec::new()));
        }
        let acks = self.acks.as_mut().map(|pending| {
            self.own_acks
                .get_or_insert_with(|| {
                    let shared = SharedAcks::new(AckSet::default());
                    pending.shared.push(shared.clone());
                    shared
                })
                .clone()
        });
        FirstHolder { acks, counts: self.own[0].clone() }
    }

    /// Has a message together with the completion that had it first.
    pub fn share(&mut self, first: &FirstHolder) {
        match self.copies.first() {
            Some(copies) => _ = copies.fetch_add(1, Ordering::Relaxed),
            None => self.copies.push(Arc::new(AtomicU64::new(1))),
        }
        let has = |counts: &&SharedCounts| counts.is_same(&first.counts);
        if self.own.iter().chain(&self.counts).rev().any(|counts| has(&counts)) {
            return;
        }
        self.counts.push(first.counts.hold());
        if let (Some(pending), Some(acks)) = (&mut self.acks, &first.acks) {
            pending.shared.push(acks.hold());
        }
    }

    /// This number of its messages counts with another completion that has them.
    pub fn counts_elsewhere(&mut self, messages: u64) {
        if messages > 0 {
            self.copies.push(Arc::new(AtomicU64::new(messages)));
        }
    }

    /// Counts `bytes` towards the memory budget, in place of what was counted before.
    pub fn reserve(&mut self, bytes: usize) {
        self.memory.resize(bytes);
    }

    pub fn reserved(&self) -> usize {
        self.memory.bytes()
    }

    /// Takes the acknowledgements away, to be sent sooner than the messages are settled.
    pub fn take_acks(&mut self) -> Option<PendingAcks> {
        let pending = self.acks.as_mut()?;
        let (acks, shared) = (std::mem::take(&mut pending.acks), std::mem::take(&mut pending.shared));
        Some(PendingAcks { sender: pending.sender.clone(), acks, shared })
    }

    /// Takes the memory away: an event still holds what was settled.
    pub fn take_memory(&mut self) -> MemoryReservation {
        let empty = MemoryReservation::new(&self.context.memory);
        std::mem::replace(&mut self.memory, empty)
    }

    /// Whether the messages lie in the spool.
    pub fn is_spooled(&self) -> bool {
        self.insert.is_some()
    }

    /// The spool is notified when all is settled.
    pub fn belongs_to(&mut self, insert: SpooledInsert) {
        self.insert = Some(insert);
    }

    /// Whether somebody waits for an acknowledgement of it.
    pub fn has_acks(&self) -> bool {
        self.acks.as_ref().is_some_and(|pending| !pending.is_empty())
    }

    /// Whether whoever waits for the messages of `other` may wait for these as well: [`Completion::join`].
    pub fn is_before(&self, other: &Completion) -> bool {
        self.group <= other.group
    }

    /// Settles the messages of `other` together with these. They come from the same connection.
    pub fn join(&mut self, other: Completion) {
        let Completion { group, acks, copies, counts, own, .. } = other;
        self.copies.extend(copies);
        self.counts.extend(counts);
        self.own.extend(own);
        match (&mut self.acks, acks) {
            (Some(pending), Some(more)) => {
                pending.acks.append(more.acks);
                pending.shared.extend(more.shared);
            }
            (pending, more) => *pending = pending.take().or(more),
        }
        // This group is older: a thread that waits for the other one waits for this one too.
        self.context.ledger.transfer(group);
    }

    /// Another completion for a part of the messages, or for rows that were made of them: nothing is acknowledged before
    /// both are settled.
    pub fn fork(&mut self) -> Completion {
        let acks = self.acks.as_mut().map(|pending| {
            let all = std::mem::take(&mut pending.acks);
            match pending.shared.first() {
                Some(shared) => shared.with(|acks, _| acks.append(all)),
                None => pending.shared.push(SharedAcks::new(all)),
            }
            let shared = pending.shared.iter().map(SharedAcks::hold).collect();
            PendingAcks { sender: pending.sender.clone(), acks: AckSet::default(), shared }
        });
        let counts = self.own.iter().chain(&self.counts).map(SharedCounts::hold).collect();
        Completion {
            group: self.group,
            id: self.context.ledger.fork(self.group),
            acks,
            memory: MemoryReservation::new(&self.context.memory),
            insert: None,
            is_counted: self.is_counted,
            copies: self.copies.clone(),
            counts,
            own: Vec::new(),
            own_acks: None,
            context: self.context.clone(),
        }
    }

    /// It is of rows that no message counts for: they are not in the ledger.
    pub fn is_of_rows(&mut self) {
        self.is_counted = false;
    }

    /// Has the connection look again whether a batch can be sealed now.
    pub fn wake(&self) {
        if let Some(pending) = &self.acks {
            pending.sender.send(AckSet::default());
        }
    }

    /// `messages` are dropped, as the configuration asks, while others of the same completion are not settled yet.
    pub fn dropped_in_part(&mut self, messages: u64) {
        self.count(Settled { dropped: messages, ..Settled::default() });
    }

    /// `messages` are inserted while others of the same completion are not settled yet.
    pub fn inserted_in_part(&mut self, messages: u64) {
        self.count(Settled { inserted: messages, ..Settled::default() });
    }

    /// `messages` can no longer be read from the spool, others can.
    pub fn unreadable_in_part(&mut self, messages: u64) {
        self.count(Settled { dead_lettered: messages, ..Settled::default() });
    }

    /// Counts messages while the group stays open.
    fn count(&mut self, settled: Settled) {
        if let Some(settled) = self.counted(settled) {
            self.context.ledger.settle(settled);
        }
    }

    /// The part of `settled` that counts now: copies never do, and what others have as well does when they have settled it.
    fn counted(&mut self, settled: Settled) -> Option<Settled> {
        let settled = match self.is_counted {
            true => self.copies.iter().fold(settled, |settled, copies| without(settled, copies)),
            false => Settled::default(),
        };
        // It holds these itself.
        let is_shared = |shared: &&SharedCounts| shared.with(|_, open| open > 1);
        countable(settled, self.own.iter().filter(is_shared).cloned().collect())
    }

    /// The rows of all messages are in ClickHouse.
    pub fn inserted(self, messages: u64) {
        self.settle(Settled { inserted: messages, ..Settled::default() });
    }

    /// All messages are stored as dead letters.
    pub fn rejected(self, messages: u64) {
        self.settle(Settled { dead_lettered: messages, ..Settled::default() });
    }

    /// The configuration asked to drop all messages.
    pub fn dropped(self, messages: u64) {
        self.settle(Settled { dropped: messages, ..Settled::default() });
    }

    pub fn settle(mut self, settled: Settled) {
        let counted = self.counted(settled);
        let Completion { context, group, acks, memory, insert, counts, own, .. } = self;
        drop(memory);
        if let Some(acks) = acks {
            acks.send();
        }
        // Messages that waited for this completion count with it.
        let mut now = counted.unwrap_or_default();
        for deferred in own.into_iter().chain(counts).filter_map(SharedCounts::release).flatten() {
            now = now + countable(deferred.settled, deferred.waits_for).unwrap_or_default();
        }
        context.ledger.close(group, now);
        if let Some(SpooledInsert { id, settled }) = insert {
            // The spool's thread waits for all of them; it is only gone if it panicked.
            let _ = settled.send(id);
        }
    }
}

/// The completion that had a message first, as the others that have it need it.
#[derive(Debug, Clone)]
pub struct FirstHolder {
    /// `None`: there is nothing to acknowledge.
    acks: Option<SharedAcks>,
    counts: SharedCounts,
}

impl FirstHolder {
    /// Acknowledges the message with this sequence number when all that have it have settled it.
    pub fn acknowledge(&self, sequence: u64) {
        if let Some(acks) = &self.acks {
            acks.with(|acks, _| acks.add(sequence));
        }
    }
}

/// Without messages that count elsewhere: as many of `copies` as there are left, inserted ones first.
fn without(settled: Settled, copies: &AtomicU64) -> Settled {
    let less = |count: u64| {
        let take = |left: u64| Some(left - left.min(count));
        // The closure always gives a value.
        let left =
            copies.fetch_update(Ordering::Relaxed, Ordering::Relaxed, take).unwrap_or_else(|left| left);
        count - left.min(count)
    };
    Settled {
        inserted: less(settled.inserted),
        dropped: less(settled.dropped),
        dead_lettered: less(settled.dead_lettered),
    }
}

impl std::fmt::Debug for Completion {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Completion { group, acks, memory, insert, .. } = self;
        f.debug_struct("Completion")
            .field("group", group)
            .field("acks", acks)
            .field("memory", memory)
            .field("insert", insert)
            .finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Config;
    use tokio::sync::mpsc::error::TryRecvError;

    fn context() -> Arc<PipelineContext> {
        let config = r#"{
            "mqtt": { "url": "mqtt://x" },
            "clickhouse": { "url": "http://x" },
            "routes": [{ "topic": "t", "table": "t" }]
        }"#;
        Arc::new(PipelineContext::new(Config::parse(config).unwrap(), Box::new(|_| {})))
    }

    fn acks(sequences: &[u64]) -> AckSet {
        let mut acks = AckSet::default();
        sequences.iter().for_each(|sequence| acks.add(*sequence));
        acks
    }

    #[test]
    fn settling_acknowledges_counts_and_releases() {
        let context = context();
        let (sender, mut commands) = AckSender::channel();
        context.ledger.receive(3, 0);
        let mut completion = Completion::open(&context, &sender, Instant::now());
        [1, 2, 3].into_iter().for_each(|sequence| completion.acknowledge(sequence));
        completion.reserve(100);
        assert_eq!(context.memory.used(), 100);
        completion.settle(Settled { inserted: 1, dead_lettered: 1, dropped: 1 });
        assert_eq!(commands.try_recv().unwrap().settled(), Some(acks(&[1, 2, 3])));
        let counts = context.ledger.counts();
        assert_eq!((counts.inserted, counts.dead_lettered, counts.dropped, counts.pending), (1, 1, 1, 0));
        assert_eq!(context.memory.used(), 0);
        assert!(context.ledger.wait_below(context.ledger.watermark(), Some(Instant::now())));
    }

    #[test]
    fn an_abandoned_completion_acknowledges_nothing_and_releases_its_memory() {
        let context = context();
        let (sender, mut commands) = AckSender::channel();
        let (settled_sender, settled) = crossbeam_channel::unbounded();
        context.ledger.receive(1, 0);
        let mut completion = Completion::open(&context, &sender, Instant::now());
        completion.acknowledge(1);
        completion.reserve(100);
        completion.belongs_to(SpooledInsert { id: 7, settled: settled_sender });
        drop(completion);
        assert_eq!(commands.try_recv().unwrap_err(), TryRecvError::Empty);
        assert!(settled.try_recv().is_err());
        assert_eq!((context.memory.used(), context.ledger.counts().pending), (0, 1));
        assert!(!context.ledger.wait_below(context.ledger.watermark(), Some(Instant::now())));
    }

    #[test]
    fn forked_completions_acknowledge_together() {
        let context = context();
        let (sender, mut commands) = AckSender::channel();
        let now = Instant::now();
        context.ledger.receive(3, 0);
        let mut first = Completion::open(&context, &sender, now);
        [1, 2, 3].into_iter().for_each(|sequence| first.acknowledge(sequence));
        let second = first.fork();
        let mut third = first.fork();
        first.dropped_in_part(1);
        first.inserted(1);
        assert_eq!(commands.try_recv().unwrap().settled(), Some(acks(&[])));
        // As the spool does when a record is synced.
        third.take_acks().unwrap().send();
        third.inserted(0);
        for _ in 0..2 {
            assert_eq!(commands.try_recv().unwrap().settled(), Some(acks(&[])));
        }
        second.rejected(1);
        assert_eq!(commands.try_recv().unwrap().settled(), Some(acks(&[1, 2, 3])));
        let counts = context.ledger.counts();
        assert_eq!((counts.inserted, counts.dead_lettered, counts.dropped, counts.pending), (1, 1, 1, 0));
    }

    #[test]
    fn an_abandoned_fork_withholds_the_acknowledgements() {
        let context = context();
        let (sender, mut commands) = AckSender::channel();
        let mut first = Completion::open(&context, &sender, Instant::now());
        first.acknowledge(1);
        let second = first.fork();
        drop(second);
        first.inserted(1);
        assert_eq!(commands.try_recv().unwrap().settled(), Some(acks(&[])));
        assert_eq!(commands.try_recv().unwrap_err(), TryRecvError::Empty);
    }

    #[test]
    fn joined_completions_settle_as_one() {
        let context = context();
        let (sender, mut commands) = AckSender::channel();
        let (settled_sender, settled) = crossbeam_channel::unbounded();
        context.ledger.receive(2, 0);
        let mut first = Completion::open(&context, &sender, Instant::now());
        let mut second = Completion::open(&context, &sender, Instant::now());
        first.acknowledge(1);
        second.acknowledge(2);
        second.reserve(10);
        first.join(second);
        assert_eq!(context.memory.used(), 0, "the spool counts its records itself");
        first.belongs_to(SpooledInsert { id: 7, settled: settled_sender });
        let waiting = first.take_acks().unwrap();
        waiting.send();
        assert_eq!(commands.try_recv().unwrap().settled(), Some(acks(&[1, 2])));
        first.inserted(2);
        assert_eq!(commands.try_recv().unwrap().settled(), Some(AckSet::default()));
        assert_eq!(settled.try_recv(), Ok(7));
        assert_eq!(context.ledger.counts().pending, 0);
    }
}
