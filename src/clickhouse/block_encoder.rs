//! Encodes a block into the compressed frames of an INSERT. The block is never complete in memory:
//! columns are compressed 64 KiB at a time, while they are in the cache.
//!
//! LZ4 cannot make some columns smaller, such as coordinates. [`CompressionHints`] finds these columns.

use std::mem;
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};

use bytes::Bytes;

use crate::clickhouse::compression::{Compressor, Effort};
use crate::clickhouse::native::BlockSink;
use crate::clickhouse::{Column, native};
use crate::config::Compression;
use crate::core::memory_budget::{MemoryBudget, PooledBytes};

/// The body of an INSERT.
#[derive(Debug, Clone)]
pub struct CompressedBlock {
    pub frames: Bytes,
    /// Before compression.
    pub block_bytes: usize,
    /// The capacity of the frames.
    pub memory_bytes: usize,
}

/// For each column of a table, the number of blocks that leave it uncompressed because compression
/// saved too little. Without columns all of them are compressed.
#[derive(Debug, Default)]
pub struct CompressionHints(Vec<AtomicU8>);

/// A column that loses less than this part of its bytes is left as it is.
const MIN_GAIN: usize = 8;
/// A column is compressed again after this number of blocks.
const RETRY_AFTER_BLOCKS: u8 = 32;

impl CompressionHints {
    pub fn of(columns: usize) -> CompressionHints {
        CompressionHints((0..columns).map(|_| AtomicU8::new(0)).collect())
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
            Some(_) => Effort::StoreOnly,
        }
    }

    fn learn(&self, column: usize, before: usize, after: usize) {
        if let Some(left) = self.0.get(column)
            && after > before - before / MIN_GAIN
        {
            left.store(RETRY_AFTER_BLOCKS, Ordering::Relaxed);
        }
    }
}

/// Makes blocks, and keeps the memory that this takes.
pub struct BlockEncoder {
    compressor: Compressor,
    /// A frame has at most this many bytes of input.
    max_frame: usize,
    /// Bytes that are not in a frame yet.
    pending: Vec<u8>,
    /// The buffer of frames that were sent.
    reusable: Option<(Vec<u8>, PooledBytes)>,
    budget: Arc<MemoryBudget>,
}

/// Below 64 KiB LZ4 does with a table of half the size, and it looks back no further anyway.
const MAX_FRAME: usize = 65_528;
/// ZSTD looks back as far as it is allowed to.
const MAX_FRAME_ZSTD: usize = 4 * MAX_FRAME;
/// Where a column ends a frame ends too, unless it is smaller than this.
const MIN_FRAME: usize = 16 << 10;
/// Memory is kept for the next block where it is at most this part of what a batch may take.
const SPARE_SHARE: usize = 8;
/// At most this part of a block's bytes may be unused capacity behind them.
const MAX_SLACK: usize = 8;

impl BlockEncoder {
    /// Without a ceiling.
    pub fn new(compression: Compression) -> BlockEncoder {
        BlockEncoder::within(&Arc::default(), compression)
    }

    /// The buffer it keeps for the next block is charged to the budget.
    pub fn within(budget: &Arc<MemoryBudget>, compression: Compression) -> BlockEncoder {
        let max_frame = if compression == Compression::Zstd { MAX_FRAME_ZSTD } else { MAX_FRAME };
        BlockEncoder {
            // zstd fails only without memory, and then the allocation has aborted the process before.
            compressor: Compressor::new(compression, max_frame).expect("there is memory for a compressor"),
            max_frame,
            pending: Vec::with_capacity(max_frame),
            reusable: None,
            budget: budget.clone(),
        }
    }

    /// `heads` gives each column's name and type as the block declares them.
    pub fn encode(
        &mut self,
        heads: &[(String, String)],
        columns: &[Column],
        hints: &CompressionHints,
    ) -> CompressedBlock {
        hints.begin();
        let mut frames = self.reusable.take().map_or_else(Vec::new, |(frames, _)| frames);
        // Capacity that compression saves is never touched, so it takes no memory.
        frames.reserve(columns.iter().map(Column::bytes).sum::<usize>());
        let mut block = OpenBlock { encoder: self, hints, column: 0, frames, block_bytes: 0 };
        native::encode(&mut block, heads, columns);
        if !block.encoder.pending.is_empty() {
            block.close();
        }
        let OpenBlock { mut frames, block_bytes, .. } = block;
        // A block may wait for hours, or lie in the spool's memory: then what it does not fill is given back. Where it is nearly
        // full it is left as it is, to be filled again.
        if frames.capacity() - frames.len() > frames.len() / MAX_SLACK {
            frames.shrink_to_fit();
        }
        let memory_bytes = frames.capacity();
        CompressedBlock { frames: frames.into(), block_bytes, memory_bytes }
    }

    /// Takes back what an INSERT carried that is done: its memory serves for the next one, unless it is much.
    pub fn reuse(&mut self, compressed: CompressedBlock) {
        if !compressed.frames.is_unique() {
            return;
        }
        let mut frames = Vec::from(compressed.frames);
        if frames.capacity() <= self.budget.share() / SPARE_SHARE
            && let Some(pooled) = self.budget.pool(frames.capacity())
        {
            frames.clear();
            self.reusable = Some((frames, pooled));
        }
    }
}

/// One block under way.
struct OpenBlock<'a> {
    encoder: &'a mut BlockEncoder,
    hints: &'a CompressionHints,
    column: usize,
    frames: Vec<u8>,
    block_bytes: usize,
}

impl OpenBlock<'_> {
    fn close(&mut self) {
        let pending = mem::take(&mut self.encoder.pending);
        self.append(&pending);
        self.encoder.pending = pending;
        self.encoder.pending.clear();
    }

    fn append(&mut self, chunk: &[u8]) {
        let effort = self.hints.effort(self.column);
        let compressed = self.encoder.compressor.append(chunk, effort, &mut self.frames);
        let compressed = compressed.expect("a chunk is small, and has all the capacity it can need");
        if effort == Effort::Full {
            self.hints.learn(self.column, chunk.len(), compressed);
        }
    }
}

impl BlockSink for OpenBlock<'_> {
    fn put(&mut self, mut bytes: &[u8]) {
        self.block_bytes += bytes.len();
        while self.encoder.pending.len() + bytes.len() >= self.encoder.max_frame {
            let (head, rest) = bytes.split_at(self.encoder.max_frame - self.encoder.pending.len());
            if self.encoder.pending.is_empty() {
                self.append(head);
            } else {
                self.encoder.pending.extend_from_slice(head);
                self.close();
            }
            bytes = rest;
        }
        self.encoder.pending.extend_from_slice(bytes);
    }

    fn end_column(&mut self) {
        if self.encoder.pending.len() >= MIN_FRAME {
            self.close();
        }
        self.column += 1;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clickhouse::{ColumnType, compression};

    /// The data of each frame, and whether the frame is smaller than its data.
    fn unpacked(mut frames: &[u8]) -> Vec<(Vec<u8>, bool)> {
        let mut chunks = Vec::new();
        while !frames.is_empty() {
            let len = 16 + u32::from_le_bytes(frames[17..21].try_into().unwrap()) as usize;
            let (frame, rest) = frames.split_at(len);
            let chunk = compression::decompress(frame).unwrap();
            let is_smaller = frame.len() < chunk.len();
            chunks.push((chunk, is_smaller));
            frames = rest;
        }
        chunks
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
            let mut encoder = BlockEncoder::new(compression);
            let hints = CompressionHints::of(3);
            // Fewer rows than one frame holds, about one frame, and many frames.
            for rows in [0, 1, 8_000, 8_190, 8_191, 8_192, 100_000] {
                let (heads, columns) = fixture(rows);
                let block = native::encode_to_vec(&heads, &columns);
                let compressed = encoder.encode(&heads, &columns, &hints);
                assert_eq!(compressed.block_bytes, block.len());
                let chunks: Vec<_> =
                    unpacked(&compressed.frames).into_iter().map(|(chunk, _)| chunk).collect();
                assert!(chunks.concat() == block, "{compression:?}, {rows} rows");
            }
        }
    }

    #[test]
    fn memory_serves_again_unless_it_is_much() {
        let budget = Arc::new(MemoryBudget::new(8 * 8 * 1_500_000));
        let (mut encoder, hints) = (BlockEncoder::within(&budget, Compression::Lz4), CompressionHints::of(3));
        let mut encode = |rows, is_spare: bool| {
            let (heads, columns) = fixture(rows);
            let compressed = encoder.encode(&heads, &columns, &hints);
            let held = (!is_spare).then(|| compressed.frames.clone());
            encoder.reuse(compressed);
            drop(held);
            encoder.reusable.as_ref().map_or(0, |(reusable, _)| reusable.capacity())
        };
        let large = encode(90_000, true);
        assert!(large > 500_000);
        assert_eq!(encode(90_000, false), 0, "while somebody else has it");
        // The hints change a few bytes.
        assert!(encode(90_000, true).abs_diff(large) < 1000);
        assert!(encode(100, true) < large);
        assert_eq!(encode(300_000, true), 0, "more than its part of the ceiling");
    }

    #[test]
    fn a_block_takes_little_more_than_its_bytes() {
        let mut encoder = BlockEncoder::new(Compression::Lz4);
        let (heads, mut columns) = fixture(100_000);
        // Nearly nothing is left of these.
        columns[0] = columns[2].clone();
        for _ in 0..3 {
            let compressed = encoder.encode(&heads, &columns, &CompressionHints::of(3));
            let (len, memory) = (compressed.frames.len(), compressed.memory_bytes);
            assert!(2 * len < compressed.block_bytes, "{len} of {} bytes", compressed.block_bytes);
            assert!((len..=len + len / 8).contains(&memory), "{memory} bytes for {len}");
            encoder.reuse(compressed);
        }
    }

    #[test]
    fn an_incompressible_column_is_stored_uncompressed_for_a_while() {
        let (mut encoder, hints) = (BlockEncoder::new(Compression::Lz4), CompressionHints::of(3));
        let (heads, mut columns) = fixture(5000);
        let mut encode = |columns: &[Column]| {
            let compressed = encoder.encode(&heads, columns, &hints);
            unpacked(&compressed.frames).into_iter().map(|(_, is_smaller)| is_smaller).collect::<Vec<_>>()
        };
        for _ in 0..2 {
            assert_eq!(encode(&columns), [false, true, true]);
        }
        columns[0] = columns[2].clone();
        for _ in 0..RETRY_AFTER_BLOCKS - 2 {
            assert_eq!(encode(&columns), [false, true, true]);
        }
        assert_eq!(encode(&columns), [true; 3]);
    }
}
