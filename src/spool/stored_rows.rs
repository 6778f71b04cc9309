//! Rows that a transform changed, in a record: they are read back from it where they cannot be sent as they lie there.
//!
//! The block has them already. Beside it stands, little-endian, what the block does not say:
//!
//! ```text
//! u32          number of messages that follow; 0: each message has one row.  Then each:  u32 where its rows end
//! u32          number of columns that follow; 0: they are read from the block.  Then each:
//!   u32 + bytes  name
//!   u32 + bytes  type
//!   u32 + bytes  values, as `Column::encode_values` writes them
//! ```
//!
//! The columns follow where the block has a JSON or a Dynamic, which it carries in another form than they are kept in.

use bytes::{Buf, Bytes};

use crate::clickhouse::{Column, ColumnType, compression, native};
use crate::ingest::kept_rows::{KeptRows, MessageRows};

pub fn encode(rows: &MessageRows, headers: &[(String, String)], columns: &[Column]) -> Vec<u8> {
    let mut out = Vec::new();
    let count = |out: &mut Vec<u8>, count: usize| out.extend((count as u32).to_le_bytes());
    let ends = rows.ends();
    count(&mut out, ends.len());
    ends.iter().for_each(|end| out.extend(end.to_le_bytes()));
    if !columns.iter().any(Column::has_dynamic_values) {
        count(&mut out, 0);
        return out;
    }
    count(&mut out, columns.len());
    for ((name, type_name), column) in headers.iter().zip(columns) {
        for text in [name, type_name] {
            count(&mut out, text.len());
            out.extend(text.as_bytes());
        }
        let mut values = Vec::new();
        column.encode_kept(&mut values);
        count(&mut out, values.len());
        out.extend(values);
    }
    out
}

/// `frames` is the block of the record, which has `messages` messages and `rows` rows. `None`:
/// [`encode`] did not write this.
pub fn decode(mut stored: Bytes, frames: &[u8], messages: usize, rows: usize) -> Option<KeptRows> {
    let stored = &mut stored;
    let ends =
        (0..stored.try_get_u32_le().ok()?).map(|_| stored.try_get_u32_le().ok()).collect::<Option<_>>()?;
    let message_rows = MessageRows::stored(messages, ends)?;
    let columns = stored.try_get_u32_le().ok()?;
    if columns == 0 {
        let (headers, columns) = native::read(&compression::decompress_all(frames)?)?;
        return Some(KeptRows { headers, columns, message_rows });
    }
    let mut kept = KeptRows { headers: Vec::new(), columns: Vec::new(), message_rows };
    for _ in 0..columns {
        let (name, type_name) = (text(stored)?, text(stored)?);
        let column_type = ColumnType::parse(&type_name, "UTC").ok()?;
        let mut column = Column::new(&column_type, column_type.nullable);
        column.take_rows(rows, &mut &bytes(stored)?[..]);
        kept.headers.push((name, type_name));
        kept.columns.push(column);
    }
    stored.is_empty().then_some(kept)
}

fn bytes(stored: &mut Bytes) -> Option<Bytes> {
    let len = stored.try_get_u32_le().ok()? as usize;
    (len <= stored.len()).then(|| stored.split_to(len))
}

fn text(stored: &mut Bytes) -> Option<String> {
    String::from_utf8(bytes(stored)?.into()).ok()
}
