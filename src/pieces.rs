//! Memory for messages, in pieces of one size.
//!
//! Batches grow while ClickHouse is busy, and shrink again. With a buffer for each that grows with it, what a busy minute
//! needed would stay: the allocator keeps what is freed between other things, and a larger buffer does not fit into the
//! place of a smaller one. Pieces fit everywhere, nothing is copied when a batch grows, and as mappings of their own they
//! go back to the system when they lie still.

use std::sync::{Mutex, MutexGuard, PoisonError};

use memmap2::MmapMut;

use crate::spares::Shelf;

/// Some thousand messages, so that few mappings are needed: Linux allows a process 65,530.
const PIECE: usize = 256 << 10;
/// What is kept for the next batches.
const MOST: usize = 128;

/// Those that are not in use, for all batches of a pipeline.
#[derive(Debug)]
pub struct Pieces(Mutex<Shelf<Piece>>);

/// It is filled from its beginning.
#[derive(Debug)]
pub struct Piece {
    memory: MmapMut,
    len: usize,
}

impl Default for Pieces {
    fn default() -> Self {
        Pieces(Mutex::new(Shelf::new(MOST)))
    }
}

impl Pieces {
    /// An empty one with at least so much room.
    pub fn take(&self, bytes: usize) -> Piece {
        let spare = if bytes <= PIECE { self.lock().take() } else { None };
        spare.unwrap_or_else(|| Piece::new(bytes.max(PIECE)))
    }

    /// Those of a batch come back.
    pub fn give(&self, pieces: Vec<Piece>) {
        let ordinary = pieces.into_iter().filter(|piece| piece.memory.len() == PIECE);
        self.lock().give(ordinary.map(|piece| Piece { len: 0, ..piece }));
    }

    fn lock(&self) -> MutexGuard<'_, Shelf<Piece>> {
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
        let mut piece = pieces.take(10);
        assert_eq!(piece.room(), PIECE);
        piece.append([b"abc".as_slice(), b"", b"d"]);
        assert_eq!((piece.bytes(), piece.room()), (b"abcd".as_slice(), PIECE - 4));
        let place = piece.memory.as_ptr();
        pieces.give(vec![piece]);
        let piece = pieces.take(PIECE);
        assert_eq!((piece.memory.as_ptr(), piece.bytes()), (place, b"".as_slice()));
    }

    #[test]
    fn what_is_larger_than_a_piece_has_one_of_its_own() {
        let pieces = Pieces::default();
        let large = pieces.take(PIECE + 1);
        assert!(large.room() > PIECE);
        pieces.give(vec![large]);
        assert_eq!(pieces.take(1).room(), PIECE);
    }
}
