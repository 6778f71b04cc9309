//! Native blocks in compressed frames, read back without any of the code that writes them.

use super::Row;

/// Names and types of the columns, and the rows of each block.
pub fn blocks(body: &[u8]) -> (Vec<(String, String)>, Vec<Vec<Row>>) {
    plain(&unpacked(body))
}

/// The same of blocks without frames.
pub fn plain(content: &[u8]) -> (Vec<(String, String)>, Vec<Vec<Row>>) {
    let mut rest = Reader(content);
    let (mut heads, mut blocks) = (Vec::new(), Vec::new());
    while !rest.0.is_empty() {
        let (columns, rows) = (rest.varint(), rest.varint());
        heads.clear();
        let mut block = vec![Row::new(); rows];
        for _ in 0..columns {
            let (name, type_name) = (rest.text(), rest.text());
            for (row, value) in block.iter_mut().zip(rest.column(&type_name, rows)) {
                row.insert(name.clone(), value);
            }
            heads.push((name, type_name));
        }
        blocks.push(block);
    }
    (heads, blocks)
}

/// A frame: 16 bytes of checksum, the method, both lengths, the data.
fn unpacked(mut frames: &[u8]) -> Vec<u8> {
    let mut content = Vec::new();
    while !frames.is_empty() {
        let len = |at: usize| u32::from_le_bytes(frames[at..at + 4].try_into().unwrap()) as usize;
        let (end, unpacked) = (16 + len(17), len(21));
        let data = &frames[25..end];
        match frames[16] {
            0x02 => content.extend(data),
            0x82 => content.extend(lz4_flex::block::decompress(data, unpacked).unwrap()),
            0x90 => content.extend(zstd::stream::decode_all(data).unwrap()),
            method => panic!("no such method {method:x}"),
        }
        frames = &frames[end..];
    }
    content
}

struct Reader<'a>(&'a [u8]);

impl Reader<'_> {
    fn take(&mut self, len: usize) -> &[u8] {
        let (head, tail) = self.0.split_at(len);
        self.0 = tail;
        head
    }

    fn varint(&mut self) -> usize {
        let (mut value, mut shift) = (0, 0);
        loop {
            let byte = self.take(1)[0];
            value |= ((byte & 0x7f) as usize) << shift;
            shift += 7;
            if byte < 0x80 {
                return value;
            }
        }
    }

    fn text(&mut self) -> String {
        let len = self.varint();
        String::from_utf8_lossy(self.take(len)).into_owned()
    }

    fn column(&mut self, type_name: &str, rows: usize) -> Vec<String> {
        if let Some(inner) = type_name.strip_prefix("Nullable(") {
            let nulls = self.take(rows).to_vec();
            let values = self.column(inner.strip_suffix(')').unwrap(), rows);
            let value = |(null, value): (u8, String)| if null == 1 { "NULL".into() } else { value };
            return nulls.into_iter().zip(values).map(value).collect();
        }
        (0..rows).map(|_| self.value(type_name)).collect()
    }

    fn value(&mut self, type_name: &str) -> String {
        macro_rules! number {
            ($type:ty) => {
                <$type>::from_le_bytes(self.take(size_of::<$type>()).try_into().unwrap()).to_string()
            };
        }
        match type_name.split('(').next().unwrap() {
            "String" => self.text(),
            "UInt8" => number!(u8),
            "UInt16" => number!(u16),
            "UInt32" | "DateTime" => number!(u32),
            "UInt64" => number!(u64),
            "Int32" => number!(i32),
            "Int64" | "DateTime64" => number!(i64),
            "Float64" => number!(f64),
            "Bool" => (self.take(1)[0] == 1).to_string(),
            other => panic!("{other} cannot be read here"),
        }
    }
}
