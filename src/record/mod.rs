//! Recordings as they are made: a tape with its checkpoints, in files of its own thread.

mod export;
mod output;
#[cfg(feature = "parquet")]
mod parquet;
mod recorder;
mod recording;
mod summary;

pub use export::{CsvExport, Export, JsonExport, Rows, TapeExport};
pub use output::Output;
#[cfg(feature = "parquet")]
pub use parquet::ParquetExport;
pub use recorder::Recorder;
pub use recording::{Failure, Recording, RecordingStatus, Written};
pub use summary::{FAULTS_KEPT, Rates, Silence, Summary, SymbolSummary};
