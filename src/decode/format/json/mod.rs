//! JSON: a [`lexer`] over the bytes, and a [`fast_path`] for members that stand as they did in the last message.

pub mod fast_path;
mod key;
pub mod lexer;
mod scan;
pub mod tape;

pub use scan::{boolean, plain_text};
