//! The read buffer of a connection: large enough that one read brings many messages.

/// Every read has at least this much space.
const MIN_READ_SPACE: usize = 128 << 10;
const DEFAULT_CAPACITY: usize = 2 * MIN_READ_SPACE;
/// An unread rest of fewer bytes always moves to the front: copying it costs nothing.
const MAX_MOVED_BYTES: usize = 4 << 10;

#[derive(Debug)]
pub struct ReadBuffer {
    bytes: Vec<u8>,
    start: usize,
    end: usize,
}

impl Default for ReadBuffer {
    fn default() -> Self {
        ReadBuffer { bytes: vec![0; DEFAULT_CAPACITY], start: 0, end: 0 }
    }
}

impl ReadBuffer {
    /// The bytes that were read and not consumed.
    pub fn unread(&self) -> &[u8] {
        &self.bytes[self.start..self.end]
    }

    pub fn consume(&mut self, bytes: usize) {
        self.start += bytes;
        debug_assert!(self.start <= self.end);
        if self.start == self.end {
            self.clear();
        }
    }

    pub fn clear(&mut self) {
        self.start = 0;
        self.end = 0;
        if self.bytes.len() > DEFAULT_CAPACITY {
            // It grew for a packet larger than its default capacity.
            self.bytes.truncate(DEFAULT_CAPACITY);
            self.bytes.shrink_to_fit();
        }
    }

    /// Bytes beyond its default capacity.
    pub fn grown_bytes(&self) -> usize {
        self.bytes.capacity().saturating_sub(DEFAULT_CAPACITY)
    }

    /// Space for a read. An incomplete packet moves to the front, so that small reads use the same memory again; a large
    /// packet makes the buffer grow.
    pub fn space(&mut self) -> &mut [u8] {
        if self.end - self.start < MAX_MOVED_BYTES || self.bytes.len() - self.end < MIN_READ_SPACE {
            self.bytes.copy_within(self.start..self.end, 0);
            self.end -= self.start;
            self.start = 0;
            if self.bytes.len() - self.end < MIN_READ_SPACE {
                // By half: a packet may be an eighth of the memory.
                let more = (self.bytes.len() / 2).max(MIN_READ_SPACE);
                self.bytes.reserve_exact(more);
                self.bytes.resize(self.bytes.len() + more, 0);
            }
        }
        &mut self.bytes[self.end..]
    }

    /// A read filled this many bytes of [`ReadBuffer::space`].
    pub fn filled(&mut self, bytes: usize) {
        self.end += bytes;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_come_out_unchanged_while_it_grows_and_shrinks() {
        let source: Vec<u8> = (0..3_000_000u32).map(|i| (i % 251) as u8).collect();
        let mut buffer = ReadBuffer::default();
        let (mut written, mut read) = (0, 0);
        while read < source.len() {
            let space = buffer.space();
            assert!(space.len() >= MIN_READ_SPACE);
            let n = space.len().min(source.len() - written).min(100_000);
            space[..n].copy_from_slice(&source[written..written + n]);
            buffer.filled(n);
            written += n;
            // Hold everything back for a while, then take it in chunks of odd sizes.
            if written > 1_000_000 {
                let n = buffer.unread().len().min(777_777);
                assert_eq!(buffer.unread()[..n], source[read..read + n]);
                buffer.consume(n);
                read += n;
            }
        }
        assert_eq!(buffer.bytes.len(), DEFAULT_CAPACITY);
        assert_eq!(buffer.grown_bytes(), 0);
    }

    /// A packet may be an eighth of the memory.
    #[test]
    fn it_grows_by_half_and_counts_what_it_takes() {
        let mut buffer = ReadBuffer::default();
        for _ in 0..40 {
            let bytes = buffer.space().len().min(100_000);
            buffer.filled(bytes);
        }
        let unread = buffer.unread().len();
        let grown = buffer.grown_bytes();
        assert!(unread > 3_500_000 && grown + DEFAULT_CAPACITY >= unread, "{grown} for {unread}");
        assert!(grown <= unread * 3 / 2 + MIN_READ_SPACE, "{grown} for {unread}");
        buffer.consume(unread);
        assert_eq!(buffer.grown_bytes(), 0);
    }
}
