//! One batch on its way through a transform.

use std::sync::Arc;

use crossbeam_channel::Sender;

use crate::clickhouse::Column;
use crate::core::reason::{Code, Reason};
use crate::decode::RowDecoder;
use crate::ingest::batch::Batch;
use crate::ingest::raw_messages::{Message, MessageIndex};
use crate::transform::columns::{BatchColumns, ColumnLayout};
use crate::transform::stage::EmitTable;

/// A call of a host with a batch. It ends with [`TransformCall::finish`] or [`TransformCall::fail`]; one that is dropped is lost.
pub struct TransformCall {
    open: Option<OpenCall>,
    id: u64,
    /// Takes its end, under its id.
    ended: Sender<(u64, Ended)>,
    /// Dropped with the call: the host counts its calls by it.
    held: Option<Arc<()>>,
}

struct OpenCall {
    batch: Box<Batch>,
    layout: Arc<ColumnLayout>,
    overrides: Vec<(usize, usize, Column)>,
    /// Something was written into its columns.
    is_changed: bool,
    /// Made when a message is asked for.
    index: Option<MessageIndex>,
    emit_tables: Arc<Vec<EmitTable>>,
    emitted: Vec<Emitted>,
}

/// Rows for another table.
pub struct Emitted {
    /// The place of the table among those of the route.
    pub table: usize,
    pub decoder: RowDecoder,
    pub columns: Vec<Column>,
    /// As they came, one after the other.
    pub rows: Vec<Vec<u8>>,
}

/// The result of a row.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    Keep,
    Drop,
    Reject,
}

/// How a call ended.
pub enum Ended {
    Finished(Box<Finished>),
    Failed {
        batch: Box<Batch>,
        message: String,
        /// Where it was thrown.
        stack: String,
    },
    /// No answer will come.
    Lost {
        batch: Box<Batch>,
        /// Its columns may be half written.
        is_changed: bool,
    },
}

pub struct Finished {
    pub batch: Box<Batch>,
    pub layout: Arc<ColumnLayout>,
    /// The result of each row; empty if all are kept.
    pub verdicts: Vec<Verdict>,
    /// By row, why it was rejected.
    pub reasons: Vec<(usize, String)>,
    pub emitted: Vec<Emitted>,
}

impl TransformCall {
    pub fn new(
        id: u64,
        batch: Box<Batch>,
        layout: Arc<ColumnLayout>,
        emit_tables: Arc<Vec<EmitTable>>,
        ended: Sender<(u64, Ended)>,
    ) -> TransformCall {
        let open = OpenCall {
            batch,
            layout,
            overrides: Vec::new(),
            is_changed: false,
            index: None,
            emit_tables,
            emitted: Vec::new(),
        };
        TransformCall { open: Some(open), id, ended, held: None }
    }

    /// Keeps this until the end of the call.
    pub fn hold(&mut self, held: Arc<()>) {
        self.held = Some(held);
    }

    fn open(&mut self) -> &mut OpenCall {
        self.open.as_mut().expect("what ends a call takes it")
    }

    pub fn rows(&self) -> usize {
        self.open.as_ref().map_or(0, |open| open.batch.rows())
    }

    pub fn layout(&mut self) -> &ColumnLayout {
        &self.open().layout
    }

    pub fn columns(&mut self) -> BatchColumns<'_> {
        let OpenCall { batch, layout, overrides, is_changed, .. } = self.open();
        BatchColumns { layout, columns: &mut batch.columns, overrides, is_changed }
    }

    /// The message that a row is of.
    pub fn message(&mut self, row: usize) -> Option<Message<'_>> {
        let OpenCall { batch, index, .. } = self.open();
        let message = match &batch.message_rows {
            Some(rows) => rows.message_of(row),
            None => row,
        };
        let index = index.get_or_insert_with(|| batch.messages.index());
        batch.messages.get(index, message)
    }

    /// Takes a row for another table: an object as CBOR.
    pub fn emit(&mut self, table: &str, row: &[u8]) -> Result<(), Reason> {
        let OpenCall { emit_tables, emitted, .. } = self.open();
        let Some(place) = emit_tables.iter().position(|emit| emit.table == table) else {
            return Err(Reason::new(
                Code::UnknownField,
                format!("{table:?} is not one of the route's emits"),
            ));
        };
        let at = match emitted.iter().position(|emitted| emitted.table == place) {
            Some(at) => at,
            None => {
                let decoder = emit_tables[place]
                    .decoder()
                    .map_err(|error| Reason::new(Code::UnknownField, error.to_string()))?;
                let columns = decoder.columns();
                emitted.push(Emitted { table: place, decoder, columns, rows: Vec::new() });
                emitted.len() - 1
            }
        };
        let Emitted { decoder, columns, rows, .. } = &mut emitted[at];
        decoder.append(row, columns).map_err(|error| error.reason)?;
        rows.push(row.to_vec());
        Ok(())
    }

    /// Ends the call. An error says why what was written cannot be inserted: then the call has failed.
    pub fn finish(mut self, verdicts: Vec<Verdict>, reasons: Vec<(usize, String)>) -> Result<(), Reason> {
        let rows = self.rows();
        let mut columns = self.columns();
        columns.apply_overrides();
        let fault = columns.fault().or_else(|| {
            let is_whole = verdicts.is_empty() || verdicts.len() == rows;
            (!is_whole).then(|| Reason::new(Code::OutOfRange, "there is not one verdict per row"))
        });
        if let Some(reason) = fault {
            self.fail(reason.message.to_string(), String::new());
            return Err(reason);
        }
        if let Some(OpenCall { batch, layout, emitted, .. }) = self.open.take() {
            let finished = Finished { batch, layout, verdicts, reasons, emitted };
            // The stage waits for it; it is only gone if all was cancelled.
            let _ = self.ended.send((self.id, Ended::Finished(Box::new(finished))));
        }
        Ok(())
    }

    /// Ends the call: nothing it did counts.
    pub fn fail(mut self, message: String, stack: String) {
        if let Some(OpenCall { batch, .. }) = self.open.take() {
            let _ = self.ended.send((self.id, Ended::Failed { batch, message, stack }));
        }
    }
}

impl Drop for TransformCall {
    fn drop(&mut self) {
        if let Some(OpenCall { batch, is_changed, .. }) = self.open.take() {
            let _ = self.ended.send((self.id, Ended::Lost { batch, is_changed }));
        }
    }
}
