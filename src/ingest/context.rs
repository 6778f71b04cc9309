//! What all threads of one pipeline share: the configuration, the books, and the way to tell the owner something.

use std::sync::{Arc, Mutex, PoisonError};

use crossbeam_channel::Sender;
use tokio::sync::{mpsc, watch};

use crate::config::Config;
use crate::core::ack_set::Owed;
use crate::core::chunk_pool::Pieces;
use crate::core::memory_budget::Memory;
use crate::mqtt::connection::Command;
use crate::spool::Call;
use crate::telemetry::events::{Event, Listener};
use crate::telemetry::ledger::Ledger;
use crate::telemetry::metrics::{Recorder, SpoolGauges};

pub struct Shared {
    pub config: Config,
    pub ledger: Ledger,
    pub memory: Arc<Memory>,
    /// For the messages of all batches.
    pub pieces: Arc<Pieces>,
    pub metrics: Recorder,
    listener: Listener,
    cancelled: watch::Sender<bool>,
    connections: Mutex<Vec<mpsc::UnboundedSender<Command>>>,
    spool: Mutex<Option<Sender<Call>>>,
}

impl Shared {
    pub fn new(config: Config, listener: Listener) -> Shared {
        let tables = config.routes.iter().map(|route| route.table.clone());
        let mut metrics = Recorder::new(tables, config.mqtt.connections);
        metrics.spool = config.spool.as_ref().map(|spool| SpoolGauges::new(spool.max_bytes));
        Shared {
            metrics,
            memory: Arc::new(Memory::new(config.memory_max_bytes)),
            pieces: Arc::default(),
            ledger: Ledger::default(),
            cancelled: watch::Sender::new(false),
            connections: Mutex::default(),
            spool: Mutex::default(),
            config,
            listener,
        }
    }

    pub fn emit(&self, event: Event) {
        (self.listener)(event);
    }

    pub fn warn(&self, code: &'static str, message: impl Into<String>) {
        self.emit(Event::Warning { code, message: message.into() });
    }

    /// Where connections take commands, by their number. Set before any batch can be settled.
    pub fn set_connections(&self, senders: Vec<mpsc::UnboundedSender<Command>>) {
        *self.connections.lock().unwrap_or_else(PoisonError::into_inner) = senders;
    }

    /// Tells all connections the same.
    pub fn command(&self, command: impl Fn() -> Command) {
        for commands in self.connections.lock().unwrap_or_else(PoisonError::into_inner).iter() {
            // One that has ended has nothing to do any more.
            let _ = commands.send(command());
        }
    }

    /// Tells a connection that what it is owed for may be acknowledged. Sent for every batch, also when nothing is
    /// owed: the connection may be waiting for room.
    pub fn settle(&self, connection: usize, owed: Owed) {
        if let Some(commands) =
            self.connections.lock().unwrap_or_else(PoisonError::into_inner).get(connection)
        {
            let _ = commands.send(Command::Settled(owed));
        }
    }

    /// Where the spool takes calls.
    pub fn set_spool(&self, calls: Sender<Call>) {
        *self.spool.lock().unwrap_or_else(PoisonError::into_inner) = Some(calls);
    }

    /// Calls the spool, if there is one.
    pub fn call_spool(&self, call: Call) {
        if let Some(calls) = &*self.spool.lock().unwrap_or_else(PoisonError::into_inner) {
            // One that has ended has nothing to do any more.
            let _ = calls.send(call);
        }
    }

    /// Makes every thread end as soon as it can, whatever is left.
    pub fn cancel(&self) {
        self.cancelled.send_replace(true);
        self.ledger.abandon();
        self.call_spool(Call::Cancel);
    }

    /// Before a start: forgets what an earlier one that failed left behind. All its threads have ended.
    pub fn revive(&self) {
        self.cancelled.send_replace(false);
        self.ledger.revive();
        self.memory.clear();
    }

    pub fn is_cancelled(&self) -> bool {
        *self.cancelled.borrow()
    }

    /// Ends when the pipeline is cancelled.
    pub async fn cancelled(&self) {
        let mut cancelled = self.cancelled.subscribe();
        // The sender lives in `self`: it cannot be gone.
        let _ = cancelled.wait_for(|cancelled| *cancelled).await;
    }
}
