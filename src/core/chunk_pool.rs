//! Memory for messages, in chunks of three sizes.
//!
//! Batches grow while ClickHouse is busy, and shrink again. One growing buffer per batch would keep what a busy minute
//! needed: the allocator holds on to memory between other allocations, and a larger buffer does not fit into the place of
//! a smaller one. Chunks fit everywhere, nothing is copied when a batch grows, and as mappings of their own they go back
//! to the system when nobody uses them.

use std::sync::{Arc, Mutex, MutexGuard};

use memmap2::MmapMut;

use crate::core::free_list::FreeList;
use crate::core::lock::lock;
use crate::core::memory_budget::{MemoryBudget, Pool, PooledBytes};

/// Chunk sizes for a batch's 1st, 2nd and later chunks: quiet routes stay at 16 KiB, busy ones use few mappings (Linux
/// allows a process 65,530).
const SIZES: [usize; 3] = [16 << 10, 64 << 10, 256 << 10];
/// The pool keeps at most this number of chunks of each size for the next batches, as far as the
/// ceiling allows.
const MAX_KEPT: usize = 128;

/// The unused chunks of a pipeline.
#[derive(Debug)]
pub struct ChunkPool {
    free: Mutex<[FreeList<Free>; SIZES.len()]>,
    budget: Arc<MemoryBudget>,
}

type Free = (Chunk, PooledBytes);

/// A mapping, filled from its beginning.
#[derive(Debug)]
pub struct Chunk {
    memory: MmapMut,
    len: usize,
    /// Earlier batches filled this number of bytes, which are resident.
    touched: usize,
}

impl Default for ChunkPool {
    /// Without a ceiling.
    fn default() -> Self {
        ChunkPool::within(Arc::default())
    }
}

impl Pool for ChunkPool {
    fn empty(&self) {
        *self.lock() = SIZES.map(|_| FreeList::new(MAX_KEPT));
    }
}

impl ChunkPool {
    /// The budget's pool of chunks.
    pub fn of(budget: &Arc<MemoryBudget>) -> Arc<ChunkPool> {
        let pool = Arc::new(ChunkPool::within(budget.clone()));
        let weak = Arc::downgrade(&pool);
        budget.add_pool(weak);
        pool
    }

    fn within(budget: Arc<MemoryBudget>) -> ChunkPool {
        ChunkPool { free: Mutex::new(SIZES.map(|_| FreeList::new(MAX_KEPT))), budget }
    }

    /// An empty chunk with capacity for `bytes`, for a batch that has `chunks` already.
    pub fn acquire(&self, bytes: usize, chunks: usize) -> Chunk {
        let fits = |size: &usize| SIZES[*size] >= bytes;
        match (chunks.min(SIZES.len() - 1)..SIZES.len()).find(fits) {
            Some(size) => {
                self.lock()[size].take().map_or_else(|| Chunk::new(SIZES[size]), |(chunk, _)| chunk)
            }
            None => Chunk::new(bytes),
        }
    }

    /// Takes back the chunks of a batch.
    pub fn release(&self, mut chunks: Vec<Chunk>) {
        for chunk in &mut chunks {
            (chunk.touched, chunk.len) = (chunk.memory_bytes(), 0);
        }
        for (list, size) in self.lock().iter_mut().zip(SIZES) {
            let fitting = chunks.extract_if(.., |chunk| chunk.memory.len() == size);
            list.put(fitting.filter_map(|chunk| {
                let pooled = self.budget.pool(chunk.touched)?;
                Some((chunk, pooled))
            }));
        }
    }

    fn lock(&self) -> MutexGuard<'_, [FreeList<Free>; SIZES.len()]> {
        lock(&self.free)
    }
}

impl Chunk {
    fn new(bytes: usize) -> Chunk {
        // Where a vector would end the process for want of memory, this panics, and the pipeline says so.
        let memory = MmapMut::map_anon(bytes).expect("the system has memory");
        Chunk { memory, len: 0, touched: 0 }
    }

    #[inline]
    pub fn remaining(&self) -> usize {
        self.memory.len() - self.len
    }

    /// The chunk must have capacity for all parts.
    #[inline]
    pub fn append<const N: usize>(&mut self, parts: [&[u8]; N]) {
        let mut at = self.len;
        for part in parts {
            self.memory[at..at + part.len()].copy_from_slice(part);
            at += part.len();
        }
        self.len = at;
    }

    /// The bytes of memory that it takes: what was never filled is none.
    pub fn memory_bytes(&self) -> usize {
        self.touched.max(self.len)
    }

    pub fn bytes(&self) -> &[u8] {
        &self.memory[..self.len]
    }

    pub fn bytes_mut(&mut self) -> &mut [u8] {
        &mut self.memory[..self.len]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn chunks_are_used_again_and_empty() {
        let pool = ChunkPool::default();
        let mut chunk = pool.acquire(10, 0);
        assert_eq!(chunk.remaining(), SIZES[0]);
        chunk.append([b"abc".as_slice(), b"", b"d"]);
        assert_eq!((chunk.bytes(), chunk.remaining()), (b"abcd".as_slice(), SIZES[0] - 4));
        let place = chunk.memory.as_ptr();
        pool.release(vec![pool.acquire(10, 1), chunk, pool.acquire(10, 2)]);
        let chunk = pool.acquire(10, 0);
        assert_eq!((chunk.memory.as_ptr(), chunk.bytes()), (place, b"".as_slice()));
    }

    #[test]
    fn the_ceiling_bounds_what_is_kept() {
        let budget = Arc::new(MemoryBudget::new(8 * 2 * SIZES[0]));
        let pool = ChunkPool::of(&budget);
        let mut chunks: Vec<_> = (0..5).map(|_| pool.acquire(1, 0)).collect();
        let full = vec![1; SIZES[0]];
        chunks.iter_mut().for_each(|chunk| chunk.append([&full[..]]));
        assert_eq!(chunks[0].memory_bytes(), SIZES[0]);
        pool.release(chunks);
        let used =
            || (0..5).map(|_| pool.acquire(1, 0)).filter(|chunk| chunk.touched > 0).collect::<Vec<_>>();
        let kept = used();
        assert_eq!(kept.len(), 2, "a share of the ceiling");
        pool.release(kept);
        pool.empty();
        assert!(used().is_empty());
    }

    #[test]
    fn chunks_grow_with_a_batch_and_with_a_message() {
        let pool = ChunkPool::default();
        assert_eq!(
            [0, 1, 2, 100].map(|has| pool.acquire(1, has).remaining()),
            [SIZES[0], SIZES[1], SIZES[2], SIZES[2]]
        );
        assert_eq!(pool.acquire(SIZES[1] + 1, 0).remaining(), SIZES[2]);
        let large = pool.acquire(SIZES[2] + 1, 0);
        assert!(large.remaining() > SIZES[2]);
        pool.release(vec![large]);
        assert_eq!(pool.acquire(1, 2).remaining(), SIZES[2]);
    }
}
