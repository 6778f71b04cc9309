//! A block in the frames of an INSERT, made without the block ever being whole: the columns are compressed piece by piece,
//! each while it is in the cache.
//!
//! LZ4 tries in vain to make some columns smaller, such as coordinates. Which these are shows by itself:
//! see [`Resistance`].

use std::mem;
use std::sync::atomic::{AtomicU8, Ordering};

use bytes::{Bytes, BytesMut};

use crate::clickhouse::compression::{Compressor, Effort};
use crate::clickhouse::native::Out;
use crate::clickhouse::{Column, native};
use crate::config::Compression;

/// What an INSERT carries.
#[derive(Debug, Clone)]
pub struct Packed {
    pub frames: Bytes,
    /// Before compression.
    pub block_bytes: usize,
}

/// What compression did for the columns of a table: for which it brings next to nothing, and in how many blocks it is tried
/// on them again. Without columns it is tried on all of them.
#[derive(Debug, Default)]
pub struct Resistance(Vec<AtomicU8>);

/// A column that loses less than this part of its bytes is left as it is.
const WORTH: usize = 8;
/// After so many blocks it is tried again.
const AGAIN: u8 = 32;

impl Resistance {
    pub fn of(columns: usize) -> Resistance {
        Resistance((0..columns).map(|_| AtomicU8::new(0)).collect())
    }

    /// Begins another block.
    fn begin(&self) {
        for left in &self.0 {
            // Two workers at once may count one block for two: it is tried again all the same.
            left.store(left.load(Ordering::Relaxed).saturating_sub(1), Ordering::Relaxed);
        }
    }

    fn effort(&self, column: usize) -> Effort {
        match self.0.get(column).map(|left| left.load(Ordering::Relaxed)) {
            None | Some(0) => Effort::Full,
            Some(_) => Effort::Least,
        }
    }

    fn learn(&self, column: usize, before: usize, after: usize) {
        if let Some(left) = self.0.get(column)
            && after > before - before / WORTH
        {
            left.store(AGAIN, Ordering::Relaxed);
        }
    }
}

/// Makes them, and keeps the memory that this takes.
pub struct Packer {
    compressor: Compressor,
    /// What a frame is made of at most.
    most: usize,
    /// What is not in a frame yet.
    open: Vec<u8>,
    /// What frames were in that are done.
    spare: BytesMut,
}

/// Below 64 KiB LZ4 does with a table of half the size, and it looks back no further anyway.
const MOST: usize = 65_528;
/// ZSTD looks back as far as it is allowed to.
const MOST_ZSTD: usize = 4 * MOST;
/// Where a column ends a frame ends too, unless it is smaller than this.
const LEAST: usize = 16 << 10;

impl Packer {
    pub fn new(compression: Compression) -> Packer {
        let most = if compression == Compression::Zstd { MOST_ZSTD } else { MOST };
        Packer {
            // Of a library that asks for memory, which never comes back without.
            compressor: Compressor::new(compression, most).expect("there is memory for a compressor"),
            most,
            open: Vec::with_capacity(most),
            spare: BytesMut::new(),
        }
    }

    /// `heads` gives each column's name and type as the block declares them.
    pub fn pack(
        &mut self,
        heads: &[(String, String)],
        columns: &[Column],
        resistance: &Resistance,
    ) -> Packed {
        resistance.begin();
        let mut frames = mem::take(&mut self.spare);
        // What compression saves is never touched, and so it is no memory.
        frames.reserve(columns.iter().map(Column::bytes).sum::<usize>());
        let mut packing = Packing { packer: self, resistance, column: 0, frames, block_bytes: 0 };
        native::encode(&mut packing, heads, columns);
        if !packing.packer.open.is_empty() {
            packing.close();
        }
        Packed { frames: packing.frames.freeze(), block_bytes: packing.block_bytes }
    }

    /// Takes back what an INSERT carried that is done: its memory serves for the next one. Unless that was far more than is
    /// wanted now.
    pub fn reuse(&mut self, packed: Packed) {
        let wanted = packed.block_bytes;
        if let Ok(mut frames) = packed.frames.try_into_mut()
            && frames.capacity() <= 4 * wanted
        {
            frames.clear();
            self.spare = frames;
        }
    }
}

/// One block under way.
struct Packing<'a> {
    packer: &'a mut Packer,
    resistance: &'a Resistance,
    column: usize,
    frames: BytesMut,
    block_bytes: usize,
}

impl Packing<'_> {
    fn close(&mut self) {
        let open = mem::take(&mut self.packer.open);
        self.append(&open);
        self.packer.open = open;
        self.packer.open.clear();
    }

    fn append(&mut self, piece: &[u8]) {
        let effort = self.resistance.effort(self.column);
        let packed = self.packer.compressor.append(piece, effort, &mut self.frames);
        let packed = packed.expect("a piece is small, and has all the room it can need");
        if effort == Effort::Full {
            self.resistance.learn(self.column, piece.len(), packed);
        }
    }
}

impl Out for Packing<'_> {
    fn put(&mut self, mut bytes: &[u8]) {
        self.block_bytes += bytes.len();
        while self.packer.open.len() + bytes.len() >= self.packer.most {
            let (head, rest) = bytes.split_at(self.packer.most - self.packer.open.len());
            if self.packer.open.is_empty() {
                self.append(head);
            } else {
                self.packer.open.extend_from_slice(head);
                self.close();
            }
            bytes = rest;
        }
        self.packer.open.extend_from_slice(bytes);
    }

    fn end_column(&mut self) {
        if self.packer.open.len() >= LEAST {
            self.close();
        }
        self.column += 1;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clickhouse::{ColumnType, compression};

    /// What each of the frames holds, and whether it is smaller than that.
    fn unpacked(mut frames: &[u8]) -> Vec<(Vec<u8>, bool)> {
        let mut pieces = Vec::new();
        while !frames.is_empty() {
            let len = 16 + u32::from_le_bytes(frames[17..21].try_into().unwrap()) as usize;
            let (frame, rest) = frames.split_at(len);
            let piece = compression::decompress(frame).unwrap();
            let is_smaller = frame.len() < piece.len();
            pieces.push((piece, is_smaller));
            frames = rest;
        }
        pieces
    }

    fn fixture(rows: usize) -> ([(String, String); 3], [Column; 3]) {
        let heads = [("a", "UInt64"), ("b", "String"), ("c", "UInt64")];
        let mut columns = heads.map(|(_, name)| Column::new(&ColumnType::parse(name, "UTC").unwrap(), false));
        for row in 0..rows as u64 {
            columns[0].push_fixed(row.wrapping_mul(0x9E37_79B9_7F4A_7C15).rotate_left(23).to_le_bytes());
            columns[1].push_string(b"text");
            columns[2].push_fixed(row.to_le_bytes());
        }
        (heads.map(|(name, column_type)| (name.to_string(), column_type.to_string())), columns)
    }

    #[test]
    fn a_block_comes_out_as_it_is_whatever_its_size() {
        for compression in [Compression::None, Compression::Lz4, Compression::Zstd] {
            let mut packer = Packer::new(compression);
            let resistance = Resistance::of(3);
            // Below a piece, around one, and many.
            for rows in [0, 1, 8_000, 8_190, 8_191, 8_192, 100_000] {
                let (heads, columns) = fixture(rows);
                let block = native::whole(&heads, &columns);
                let packed = packer.pack(&heads, &columns, &resistance);
                assert_eq!(packed.block_bytes, block.len());
                let pieces: Vec<_> = unpacked(&packed.frames).into_iter().map(|(piece, _)| piece).collect();
                assert!(pieces.concat() == block, "{compression:?}, {rows} rows");
            }
        }
    }

    #[test]
    fn memory_serves_again_unless_it_is_far_more_than_is_wanted() {
        let (mut packer, resistance) = (Packer::new(Compression::Lz4), Resistance::of(3));
        let mut pack = |rows, is_spare: bool| {
            let (heads, columns) = fixture(rows);
            let packed = packer.pack(&heads, &columns, &resistance);
            let held = (!is_spare).then(|| packed.frames.clone());
            packer.reuse(packed);
            drop(held);
            packer.spare.capacity()
        };
        let large = pack(100_000, true);
        assert!(large > 500_000);
        assert_eq!(pack(90_000, true), large);
        assert_eq!(pack(90_000, false), 0, "while somebody else has it");
        assert_eq!(pack(100_000, true), large);
        assert!(pack(100, true) < large);
    }

    #[test]
    fn what_cannot_be_made_smaller_is_left_as_it_is_for_a_while() {
        let (mut packer, resistance) = (Packer::new(Compression::Lz4), Resistance::of(3));
        let (heads, mut columns) = fixture(5000);
        let mut pack = |columns: &[Column]| {
            let packed = packer.pack(&heads, columns, &resistance);
            unpacked(&packed.frames).into_iter().map(|(_, is_smaller)| is_smaller).collect::<Vec<_>>()
        };
        for _ in 0..2 {
            assert_eq!(pack(&columns), [false, true, true]);
        }
        columns[0] = columns[2].clone();
        for _ in 0..AGAIN - 2 {
            assert_eq!(pack(&columns), [false, true, true]);
        }
        assert_eq!(pack(&columns), [true; 3]);
    }
}
