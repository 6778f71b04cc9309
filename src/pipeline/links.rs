//! The channels to the threads of a running pipeline that take commands.

use crossbeam_channel::Sender;
use tokio::sync::mpsc;

use crate::ingest::row_intake::RowCall;
use crate::mqtt::Command;
use crate::spool::Control;

#[derive(Clone, Default)]
pub struct Links {
    /// Where rows of a program go. `None`: no table is declared.
    pub rows: Option<mpsc::UnboundedSender<RowCall>>,
    /// One for each connection, by its number, and one for the rows of a program.
    pub connections: Vec<mpsc::UnboundedSender<Command>>,
    /// `None`: there is no spool.
    pub spool: Option<Sender<Control>>,
}

impl Links {
    /// Sends all connections the same command.
    pub fn command(&self, command: impl Fn() -> Command) {
        for connection in &self.connections {
            // A connection that has ended has nothing to do any more.
            let _ = connection.send(command());
        }
    }

    /// Asks something of the spool, if there is one.
    pub fn control(&self, control: Control) {
        if let Some(spool) = &self.spool {
            // A spool that has ended has nothing to do any more.
            let _ = spool.send(control);
        }
    }
}
