//! Rows of a program: `pipeline.insert()`, on a thread of its own.
//!
//! A call is to this thread what a message is to a connection: its rows go into the open batch of its table, under a sequence
//! number, and the batch's completion says by that number when they are confirmed, or synced in the spool. Rows that cannot be
//! inserted are refused at once, with all of their call. While memory is full no call is taken.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use crossbeam_channel::Sender;
use tokio::sync::mpsc::UnboundedReceiver;

use crate::core::clock::ReceiveTime;
use crate::core::error::{Error, Result};
use crate::core::reason::Reason;
use crate::ingest::router::Router;
use crate::mqtt::{Command, MessageSink};
use crate::telemetry::context::PipelineContext;

/// Delay before batches that found the queue full are tried again.
const RETRY: Duration = Duration::from_millis(20);

/// Rows for one table, as `lib/row-encoder.js` writes them.
pub struct RowCall {
    pub table: String,
    pub rows: Vec<u8>,
    pub reply: Reply,
}

/// Answers a call once; with the error that the pipeline stopped, if it is dropped.
pub struct Reply(Option<Box<dyn FnOnce(Result<()>) + Send>>);

impl Reply {
    pub fn new(reply: impl FnOnce(Result<()>) + Send + 'static) -> Reply {
        Reply(Some(Box::new(reply)))
    }

    pub fn send(mut self, result: Result<()>) {
        if let Some(reply) = self.0.take() {
            reply(result);
        }
    }
}

impl Drop for Reply {
    fn drop(&mut self) {
        if let Some(reply) = self.0.take() {
            reply(Err(Error::RowsUnconfirmed));
        }
    }
}

pub struct RowIntake {
    context: Arc<PipelineContext>,
    router: Router,
    commands: UnboundedReceiver<Command>,
    calls: UnboundedReceiver<RowCall>,
    /// Calls whose rows are under way, by their sequence number.
    pending: HashMap<u64, Reply>,
    next: u64,
    /// Answered when all rows are with the sinks.
    draining: Option<Sender<()>>,
}

impl RowIntake {
    pub fn new(
        context: Arc<PipelineContext>,
        router: Router,
        commands: UnboundedReceiver<Command>,
        calls: UnboundedReceiver<RowCall>,
    ) -> RowIntake {
        RowIntake { context, router, commands, calls, pending: HashMap::new(), next: 0, draining: None }
    }

    /// Until the pipeline closes, or all is cancelled. Calls that are left then fail with that error.
    pub async fn run(mut self) {
        let context = self.context.clone();
        loop {
            let now = Instant::now();
            self.router.seal_due(now);
            self.drain();
            let is_full = context.memory.is_full();
            let takes_calls = !is_full && !self.router.is_batch_full();
            let deadline = match self.router.is_sealing() {
                true => Some(now + RETRY),
                false => self.router.deadline(now),
            };
            tokio::select! {
                biased;
                () = context.cancelled() => return,
                command = self.commands.recv() => match command {
                    Some(Command::Close) | None => return,
                    Some(command) => self.on_command(command),
                },
                Some(call) = self.calls.recv(), if takes_calls => self.take(call),
                () = context.memory.wait_for_capacity(), if is_full => {}
                () = sleep_until(deadline), if deadline.is_some() => {}
            }
        }
    }

    fn on_command(&mut self, command: Command) {
        match command {
            Command::Settled(acks) => {
                for sequence in acks.runs().iter().flat_map(|(first, count)| *first..*first + *count) {
                    if let Some(reply) = self.pending.remove(&sequence) {
                        reply.send(Ok(()));
                    }
                }
            }
            Command::Refused { sequence, reason } => {
                if let Some(reply) = self.pending.remove(&sequence) {
                    reply.send(Err(Error::RowsRefused { row: None, reason }));
                }
            }
            Command::Flush(done) => {
                while !self.context.memory.is_full()
                    && let Ok(call) = self.calls.try_recv()
                {
                    self.take(call);
                }
                self.router.seal_all();
                let _ = done.send(self.context.ledger.watermark());
            }
            Command::Drain(done) => self.draining = Some(done),
            // Rows of a program do not come from the broker.
            Command::Pause
            | Command::Resume
            | Command::Leave
            | Command::Disconnect
            | Command::Close
            | Command::Routes(..) => {}
        }
    }

    /// Seals the open batches once no more calls come.
    fn drain(&mut self) {
        if self.draining.is_none() {
            return;
        }
        while !self.context.memory.is_full()
            && !self.router.is_batch_full()
            && let Ok(call) = self.calls.try_recv()
        {
            self.take(call);
        }
        self.router.seal_all();
        if self.calls.is_empty()
            && !self.router.has_open_batch()
            && let Some(done) = self.draining.take()
        {
            let _ = done.send(());
        }
    }

    fn take(&mut self, call: RowCall) {
        let RowCall { table, rows, reply } = call;
        let sequence = self.next;
        self.next += 1;
        let taken = self.router.insert_rows(&table, &rows, sequence, ReceiveTime::read());
        self.router.commit_read_stats();
        match taken {
            Ok(0) => reply.send(Ok(())),
            Ok(_) => drop(self.pending.insert(sequence, reply)),
            Err(error) => reply.send(Err(error)),
        }
    }
}

/// Why rows of a call are refused, beside that.
pub fn refused(row: usize, reason: Reason) -> Error {
    Error::RowsRefused { row: Some(row), reason }
}

async fn sleep_until(deadline: Option<Instant>) {
    if let Some(deadline) = deadline {
        tokio::time::sleep_until(deadline.into()).await;
    }
}
