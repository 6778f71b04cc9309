//! Rows from JSON, walked over from the beginning to the end.

use crate::clickhouse::Column;
use crate::core::reason::{Code, Reason};
use crate::decode::checkpoint::Rows;
use crate::decode::condition::Document;
use crate::decode::format::json::lexer::Reader;
use crate::decode::path_tree::{self, Row};
use crate::decode::value_reader::{Result, ValueReader};
use crate::decode::{Decoder, Message, Scratch};

impl Decoder {
    #[inline(never)]
    pub(super) fn fill(&mut self, message: &Message<'_>, columns: &mut [Column]) -> Result<usize> {
        let mut rows = Rows { count: 0, limit: None, max_bytes: self.max_row_bytes };
        if !self.reads_json {
            self.row(None, None, message, columns, &mut rows)?;
            return Ok(rows.count);
        }
        self.documents(Reader::new(message.payload), message, columns, &mut rows)
    }

    /// The documents from where the reader stands.
    pub(super) fn documents(
        &mut self,
        mut reader: Reader<'_>,
        message: &Message<'_>,
        columns: &mut [Column],
        rows: &mut Rows,
    ) -> Result<usize> {
        loop {
            let document = self.document_root.as_ref().unwrap_or(&self.root);
            match reader.peek()? {
                b'[' if !document.takes_lists() => {
                    reader.enter()?;
                    let mut is_first = true;
                    while reader.next_item(is_first)? {
                        is_first = false;
                        self.document(&mut reader, message, columns, rows)?;
                    }
                }
                _ => self.document(&mut reader, message, columns, rows)?,
            }
            if !reader.next_document()? {
                return Ok(rows.count);
            }
        }
    }

    /// The rows of one document.
    fn document(
        &mut self,
        reader: &mut Reader<'_>,
        message: &Message<'_>,
        columns: &mut [Column],
        rows: &mut Rows,
    ) -> Result<()> {
        let first = reader.peek()?;
        let document = self.document_root.as_ref().unwrap_or(&self.root);
        if first != b'{' && !document.takes_all() && !(first == b'[' && document.takes_lists()) {
            // A payload that is not JSON is reported as such before anything else.
            reader.skip()?;
            let message = "the payload is not an object, nor a list of objects";
            return Err(Box::new(Reason::new(Code::NotAnObject, message)));
        }
        if let Some(filter) = &self.filter
            && filter.holds(message, &mut Document(reader.clone()))? == Some(false)
        {
            self.row.has_excluded = true;
            return reader.skip();
        }
        let Some(document_root) = &mut self.document_root else {
            return self.row(Some(reader), None, message, columns, rows);
        };
        let Scratch { filled, places, serial, context, cut, start, scalars, .. } = &mut self.row;
        places.fill(None);
        *serial += 1;
        let mut outer = Row {
            bindings: &self.bindings,
            columns,
            filled,
            start,
            places: Some(places),
            serial: *serial,
            context,
            cut,
            scalars,
        };
        path_tree::read(document_root, reader, &mut outer)?;
        let missing = |code, what: &str| Box::new(Reason::new(code, format!("rows: {what}")));
        let Some(list) = self.row.places[self.bindings.len()] else {
            return Err(missing(Code::FieldMissing, "the list is missing"));
        };
        let mut items = reader.at(list);
        if items.peek()? != b'[' {
            return Err(missing(Code::TypeMismatch, "what stands there is not a list"));
        }
        items.enter()?;
        let mut is_first = true;
        while items.next_item(is_first)? {
            is_first = false;
            let outside = reader.clone();
            self.row(Some(&mut items), Some(&outside), message, columns, rows)?;
        }
        Ok(())
    }

    /// One row: from the value here, the document around it, and values from outside the payload.
    fn row(
        &mut self,
        reader: Option<&mut Reader<'_>>,
        outside: Option<&Reader<'_>>,
        message: &Message<'_>,
        columns: &mut [Column],
        rows: &mut Rows,
    ) -> Result<()> {
        self.begin_row(columns, message.payload, rows)?;
        let Scratch { filled, places, start, serial, context, cut, scalars, .. } = &mut self.row;
        if let Some(reader) = reader {
            let mut row = Row {
                bindings: &self.bindings,
                columns,
                filled,
                start,
                places: None,
                serial: *serial,
                context,
                cut,
                scalars,
            };
            path_tree::read(&mut self.root, reader, &mut row)?;
            if let Some(outside) = outside {
                for (binding, place) in places.iter().take(self.bindings.len()).enumerate() {
                    if let (false, Some(place)) = (row.filled.has(binding), place) {
                        row.fill(binding, &mut outside.at(*place))?;
                    }
                }
            }
        }
        self.finish(message, columns)
    }
}
