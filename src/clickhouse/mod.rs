//! ClickHouse's side: types, typed column builders, the Native block, the INSERT request and its
//! answers, schemas.
//!
//! `decode` appends one value per column and row; `ingest::batch` owns the columns until they are sealed;
//! `sink` and `spool` encode them for an INSERT with a [`BlockEncoder`]. A column holds the bytes of
//! the wire format already: encoding is copying.

pub mod aggregate;
mod block_encoder;
mod city_hash;
pub mod client;
mod column;
mod column_block;
pub mod column_json;
mod column_rewind;
mod column_rows;
mod column_type;
pub mod compression;
pub mod create_table;
pub mod dedup;
mod documents;
pub mod dynamic;
mod dynamic_json;
pub mod error_class;
mod insert_answer;
pub mod insert_request;
pub mod json_type;
pub mod native;
pub mod partitions;
pub mod query;
pub mod retry;
pub mod schema;
pub mod servers;
pub mod shard_key;
pub mod token;
pub mod ttl;
mod type_name;
mod verification;
pub mod view_rights;

pub use block_encoder::{BlockEncoder, CompressedBlock, CompressionHints};
pub use column::Column;
pub use column_type::{ColumnType, Element, EnumNames, Kind, Zone, quote};
