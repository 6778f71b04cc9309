//! Deduplication tokens, by which ClickHouse recognises two INSERTs as the same one.
//!
//! A token is made once, before the first attempt. Within the table's window ClickHouse does not insert twice what comes
//! under the same token, whatever the rows are: so a token must never be used for other rows.

use crate::core::lock::lock;
use std::collections::HashMap;
use std::fmt::Display;
use std::sync::Mutex;

use cityhash_rs::cityhash_102_128;

#[derive(Debug)]
pub enum Tokens {
    /// Under a prefix that no other life of any process has: what is inserted later is never taken for the same.
    Random(String),
    /// From the bytes: the same rows get the same tokens each time. Counts how often a block was there before, by the
    /// hashes of its statement and its bytes: a block that comes twice in one life is two INSERTs.
    Content(Mutex<HashMap<(u128, u128), u64>>),
}

impl Tokens {
    /// Whether they are not to be the same in another life.
    pub fn are_random(&self) -> bool {
        matches!(self, Tokens::Random(_))
    }

    pub fn content() -> Tokens {
        Tokens::Content(Mutex::default())
    }

    /// `id` is unique within this life; `block` makes the bytes, where they are asked for.
    pub fn token(&self, id: impl Display, sql: &str, block: impl FnOnce() -> Vec<u8>) -> String {
        match self {
            Tokens::Random(prefix) => format!("{prefix}-{id}"),
            Tokens::Content(seen) => {
                // 128 bits: the chance that two of a billion blocks share them is 1 in 10^20.
                let hash = cityhash_102_128(&block());
                let mut seen = lock(seen);
                let times = seen.entry((cityhash_102_128(sql.as_bytes()), hash)).or_default();
                let token = format!("replay-{hash:032x}-{times}");
                *times += 1;
                token
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn random_tokens_follow_the_id() {
        let tokens = Tokens::Random("fleet-1f".into());
        assert_eq!(tokens.token(7, "INSERT", || unreachable!()), "fleet-1f-7");
    }

    #[test]
    fn tokens_of_content_are_the_same_in_every_life() {
        let lives = [Tokens::content(), Tokens::content()];
        let [first, second] = lives.map(|tokens| {
            [("INSERT a", &b"1"[..]), ("INSERT a", b"1"), ("INSERT a", b"2"), ("INSERT b", b"1")]
                .map(|(sql, block)| tokens.token(0, sql, || block.to_vec()))
        });
        assert_eq!(first, second);
        let [once, twice, other, elsewhere] = first;
        assert_ne!(once, twice, "the same block again is another INSERT");
        assert_ne!(once, other);
        assert_eq!(once, elsewhere, "each table has a window of its own");
        // A later version must recognise the tokens of an earlier one.
        assert_eq!(once, "replay-5840c089918d794381c996ec7a1eb223-0");
    }
}
