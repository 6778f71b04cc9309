//! Memory for messages, in pieces of a few sizes.
//!
//! Batches grow while ClickHouse is busy, and shrink again. With a buffer for each that grows with it, what a busy minute
//! needed would stay: the allocator keeps what is freed between other things, and a larger buffer does not fit into the
//! place of a smaller one. Pieces fit everywhere, nothing is copied when a batch grows, and as mappings of their own they
//! go back to the system when they lie still.

use std::sync::{Mutex, MutexGuard, PoisonError};

use memmap2::MmapMut;

use crate::core::free_list::Shelf;

/// Of the first, the second, and all other pieces of a batch: that of a route with little to do holds little, and large
/// ones have few mappings, of which Linux allows a process 65,530.
const SIZES: [usize; 3] = [16 << 10, 64 << 10, 256 << 10];
/// What is kept of each size for the next batches.
const MOST: usize = 128;

/// Those that are not in use, for all batches of a pipeline.
#[derive(Debug)]
pub struct Pieces(Mutex<[Shelf<Piece>; SIZES.len()]>);

/// It is filled from its beginning.
#[derive(Debug)]
pub struct Piece {
    memory: MmapMut,
    len: usize,
}

impl Default for Pieces {
    fn default() -> Self {
        Pieces(Mutex::new(SIZES.map(|_| Shelf::new(MOST))))
    }
}

impl Pieces {
    /// An empty one with at least so much room, for a batch that has so many.
    pub fn take(&self, bytes: usize, has: usize) -> Piece {
        let fits = |size: &usize| SIZES[*size] >= bytes;
        match (has.min(SIZES.len() - 1)..SIZES.len()).find(fits) {
            Some(size) => self.lock()[size].take().unwrap_or_else(|| Piece::new(SIZES[size])),
            None => Piece::new(bytes),
        }
    }

    /// Those of a batch come back.
    pub fn give(&self, mut pieces: Vec<Piece>) {
        pieces.iter_mut().for_each(|piece| piece.len = 0);
        for (shelf, size) in self.lock().iter_mut().zip(SIZES) {
            shelf.give(pieces.extract_if(.., |piece| piece.memory.len() == size));
        }
    }

    fn lock(&self) -> MutexGuard<'_, [Shelf<Piece>; SIZES.len()]> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Piece {
    fn new(bytes: usize) -> Piece {
        // Where a vector would end the process for want of memory, this panics, and the pipeline says so.
        let memory = MmapMut::map_anon(bytes).expect("the system has memory");
        Piece { memory, len: 0 }
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
    fn pieces_are_used_again_and_empty() {
        let pieces = Pieces::default();
        let mut piece = pieces.take(10, 0);
        assert_eq!(piece.room(), SIZES[0]);
        piece.append([b"abc".as_slice(), b"", b"d"]);
        assert_eq!((piece.bytes(), piece.room()), (b"abcd".as_slice(), SIZES[0] - 4));
        let place = piece.memory.as_ptr();
        pieces.give(vec![pieces.take(10, 1), piece, pieces.take(10, 2)]);
        let piece = pieces.take(10, 0);
        assert_eq!((piece.memory.as_ptr(), piece.bytes()), (place, b"".as_slice()));
    }

    #[test]
    fn pieces_grow_with_a_batch_and_with_a_message() {
        let pieces = Pieces::default();
        assert_eq!(
            [0, 1, 2, 100].map(|has| pieces.take(1, has).room()),
            [SIZES[0], SIZES[1], SIZES[2], SIZES[2]]
        );
        assert_eq!(pieces.take(SIZES[1] + 1, 0).room(), SIZES[2]);
        let large = pieces.take(SIZES[2] + 1, 0);
        assert!(large.room() > SIZES[2]);
        pieces.give(vec![large]);
        assert_eq!(pieces.take(1, 2).room(), SIZES[2]);
    }
}
