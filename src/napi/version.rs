//! The version of the addon. `binding.js` compares it with the package's: a package manager that
//! updates one of the two packages and not the other leaves a pair that was never tested together.

use napi_derive::napi;

/// The version of the crate, such as `0.1.0`.
#[napi]
// In a test build nothing registers it.
#[cfg_attr(test, allow(dead_code))]
pub fn version() -> &'static str {
    env!("CARGO_PKG_VERSION")
}
