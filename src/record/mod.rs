//! Making recordings: a tape with its checkpoints, in files, on a thread of its own. The format is
//! `crate::recording`'s.

mod export;
mod file;
mod output;
mod parquet;
mod recorder;
mod running;
mod summary;

pub use export::{CsvExport, Export, JsonExport, Rows, TapeExport};
pub use output::Output;
pub use parquet::ParquetExport;
pub use recorder::Recorder;
pub use running::{Failure, Recording, RecordingStatus, Written};
pub use summary::{FAULTS_KEPT, Rates, Silence, Summary, SymbolSummary};
