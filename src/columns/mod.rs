//! Typed column builders, and the Native block they become.
//!
//! `decode` appends one value per column and row; `batch` owns the columns until they are sealed; `sink` and `spool` make of
//! them what an INSERT carries, with a [`Packer`]. What a column holds is already what the wire carries: encoding is copying.

pub mod block;
mod column;
pub mod frame;
mod packed;
mod type_name;
mod types;

pub use column::Column;
pub use packed::{Packed, Packer, Resistance};
pub use types::{ColumnType, Element, EnumNames, Kind, Zone, quote};
