//! The read buffer of a connection: large enough that one read carries many messages.

/// The least room a read is given.
const READ: usize = 128 << 10;
const USUAL: usize = 2 * READ;
/// So few bytes are moved in no time.
const FEW: usize = 4 << 10;

#[derive(Debug)]
pub struct Inbox {
    buffer: Vec<u8>,
    start: usize,
    end: usize,
}

impl Default for Inbox {
    fn default() -> Self {
        Inbox { buffer: vec![0; USUAL], start: 0, end: 0 }
    }
}

impl Inbox {
    /// What was read and not consumed.
    pub fn unread(&self) -> &[u8] {
        &self.buffer[self.start..self.end]
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
        if self.buffer.len() > USUAL {
            // It grew for a packet larger than itself.
            self.buffer.truncate(USUAL);
            self.buffer.shrink_to_fit();
        }
    }

    /// Room for a read: the rest of an incomplete packet moves to the front, and a large one makes it grow. So small reads
    /// use the same memory again and again.
    pub fn space(&mut self) -> &mut [u8] {
        if self.end - self.start < FEW || self.buffer.len() - self.end < READ {
            self.buffer.copy_within(self.start..self.end, 0);
            self.end -= self.start;
            self.start = 0;
            if self.buffer.len() - self.end < READ {
                let len = self.buffer.len() + self.buffer.len().max(READ);
                self.buffer.resize(len, 0);
            }
        }
        &mut self.buffer[self.end..]
    }

    /// So many bytes were read into [`Inbox::space`].
    pub fn filled(&mut self, bytes: usize) {
        self.end += bytes;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_come_out_as_they_went_in_while_it_grows_and_shrinks() {
        let source: Vec<u8> = (0..3_000_000u32).map(|i| (i % 251) as u8).collect();
        let mut inbox = Inbox::default();
        let (mut written, mut read) = (0, 0);
        while read < source.len() {
            let space = inbox.space();
            assert!(space.len() >= READ);
            let n = space.len().min(source.len() - written).min(100_000);
            space[..n].copy_from_slice(&source[written..written + n]);
            inbox.filled(n);
            written += n;
            // Hold everything back for a while, then take it in odd pieces.
            if written > 1_000_000 {
                let n = inbox.unread().len().min(777_777);
                assert_eq!(inbox.unread()[..n], source[read..read + n]);
                inbox.consume(n);
                read += n;
            }
        }
        assert_eq!(inbox.buffer.len(), USUAL);
    }
}
