//! A key as it mostly stands in a document, found again by one comparison.

/// `"name":`
#[derive(Debug, Clone)]
pub struct Key {
    quoted: Box<[u8]>,
    /// Its first 16 bytes, and which of them are its own: none if it is longer.
    start: u128,
    own: u128,
}

impl Key {
    pub fn new(name: &str) -> Key {
        let quoted = format!("{}:", serde_json::Value::from(name)).into_bytes();
        // One that is longer begins with nothing.
        let mut start = [0xff; 16];
        let mut own = [0; 16];
        if quoted.len() <= 16 {
            start = [0; 16];
            start[..quoted.len()].copy_from_slice(&quoted);
            own[..quoted.len()].fill(0xff);
        }
        Key { quoted: quoted.into(), start: u128::from_le_bytes(start), own: u128::from_le_bytes(own) }
    }

    /// Where the value begins, if at `at` the separator and then the key stand; a space may follow the separator and the colon,
    /// as many libraries write it.
    #[inline(always)]
    pub fn value_behind(&self, separator: u8, bytes: &[u8], at: usize) -> Option<usize> {
        let key = match bytes.get(at..) {
            Some([first, b' ', ..]) if *first == separator => at + 2,
            Some([first, ..]) if *first == separator => at + 1,
            _ => return None,
        };
        if start_of(bytes, key)? & self.own != self.start {
            return if self.own == 0 { self.value_behind_slowly(bytes, key) } else { None };
        }
        let value = key + self.quoted.len();
        Some(value + (bytes.get(value) == Some(&b' ')) as usize)
    }

    #[inline(never)]
    fn value_behind_slowly(&self, bytes: &[u8], key: usize) -> Option<usize> {
        let value = key + self.quoted.len();
        let is_it = bytes.get(key..)?.starts_with(&self.quoted);
        is_it.then(|| value + (bytes.get(value) == Some(&b' ')) as usize)
    }
}

/// The 16 bytes from `at` on, zeros behind the end.
#[inline(always)]
fn start_of(bytes: &[u8], at: usize) -> Option<u128> {
    match bytes.get(at..)?.first_chunk() {
        Some(chunk) => Some(u128::from_le_bytes(*chunk)),
        None => start_near_end(bytes, at),
    }
}

#[inline(never)]
fn start_near_end(bytes: &[u8], at: usize) -> Option<u128> {
    let rest = bytes.get(at..)?;
    let mut start = [0; 16];
    start[..rest.len()].copy_from_slice(rest);
    Some(u128::from_le_bytes(start))
}
