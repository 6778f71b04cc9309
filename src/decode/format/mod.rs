//! Payload formats: each reads the bytes of a payload value by value.

pub mod json;
