//! Recorded market data in files, one module a format; [`open`] tells them apart.

mod clock;
mod columns;
mod csv;
mod lines;
pub mod recording;
#[cfg(test)]
mod show;
mod unpack;

pub use columns::{ColumnError, ColumnMapping, Field};
