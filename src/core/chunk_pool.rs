//! Memory for messages, in chunks of three sizes.
//!
//! Batches grow while ClickHouse is busy, and shrink again. One growing buffer per batch would keep what a busy minute
//! needed: the allocator holds on to memory between other allocations, and a larger buffer does not fit into the place of
//! a smaller one. Chunks fit everywhere, nothing is copied when a batch grows, and as mappings of their own they go back
//! to the system when nobody uses them.

use std::sync::{Mutex, MutexGuard, PoisonError};

use memmap2::MmapMut;

use crate::core::free_list::FreeList;

/// Chunk sizes for a batch's 1st, 2nd and later chunks: quiet routes stay at 16 KiB, busy ones use few mappings (Linux
/// allows a process 65,530).
const SIZES: [usize; 3] = [16 << 10, 64 << 10, 256 << 10];
/// The pool keeps so many chunks of each size for the next batches.
const MAX_KEPT: usize = 128;

/// The unused chunks of a pipeline.
#[derive(Debug)]
pub struct ChunkPool(Mutex<[FreeList<Chunk>; SIZES.len()]>);

/// A mapping, filled from its beginning.
#[derive(Debug)]
pub struct Chunk {
    memory: MmapMut,
    len: usize,
}

impl Default for ChunkPool {
    fn default() -> Self {
        ChunkPool(Mutex::new(SIZES.map(|_| FreeList::new(MAX_KEPT))))
    }
}

impl ChunkPool {
    /// An empty chunk with room for `bytes`, for a batch that has `chunks` already.
    pub fn acquire(&self, bytes: usize, chunks: usize) -> Chunk {
        let fits = |size: &usize| SIZES[*size] >= bytes;
        match (chunks.min(SIZES.len() - 1)..SIZES.len()).find(fits) {
            Some(size) => self.lock()[size].take().unwrap_or_else(|| Chunk::new(SIZES[size])),
            None => Chunk::new(bytes),
        }
    }

    /// Takes back the chunks of a batch.
    pub fn release(&self, mut chunks: Vec<Chunk>) {
        chunks.iter_mut().for_each(|chunk| chunk.len = 0);
        for (list, size) in self.lock().iter_mut().zip(SIZES) {
            list.put(chunks.extract_if(.., |chunk| chunk.memory.len() == size));
        }
    }

    fn lock(&self) -> MutexGuard<'_, [FreeList<Chunk>; SIZES.len()]> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Chunk {
    fn new(bytes: usize) -> Chunk {
        // Where a vector would end the process for want of memory, this panics, and the pipeline says so.
        let memory = MmapMut::map_anon(bytes).expect("the system has memory");
        Chunk { memory, len: 0 }
    }

    #[inline]
    pub fn room(&self) -> usize {
        self.memory.len() - self.len
    }

    /// There must be room for all parts.
    #[inline]
    pub fn append<const N: usize>(&mut self, parts: [&[u8]; N]) {
        let mut at = self.len;
        for part in parts {
            self.memory[at..at + part.len()].copy_from_slice(part);
            at += part.len();
        }
        self.len = at;
    }

    pub fn bytes(&self) -> &[u8] {
        &self.memory[..self.len]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn chunks_are_used_again_and_empty() {
        let pool = ChunkPool::default();
        let mut chunk = pool.acquire(10, 0);
        assert_eq!(chunk.room(), SIZES[0]);
        chunk.append([b"abc".as_slice(), b"", b"d"]);
        assert_eq!((chunk.bytes(), chunk.room()), (b"abcd".as_slice(), SIZES[0] - 4));
        let place = chunk.memory.as_ptr();
        pool.release(vec![pool.acquire(10, 1), chunk, pool.acquire(10, 2)]);
        let chunk = pool.acquire(10, 0);
        assert_eq!((chunk.memory.as_ptr(), chunk.bytes()), (place, b"".as_slice()));
    }

    #[test]
    fn chunks_grow_with_a_batch_and_with_a_message() {
        let pool = ChunkPool::default();
        assert_eq!(
            [0, 1, 2, 100].map(|has| pool.acquire(1, has).room()),
            [SIZES[0], SIZES[1], SIZES[2], SIZES[2]]
        );
        assert_eq!(pool.acquire(SIZES[1] + 1, 0).room(), SIZES[2]);
        let large = pool.acquire(SIZES[2] + 1, 0);
        assert!(large.room() > SIZES[2]);
        pool.release(vec![large]);
        assert_eq!(pool.acquire(1, 2).room(), SIZES[2]);
    }
}
