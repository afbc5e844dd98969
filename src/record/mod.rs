//! Recordings as they are made: a tape with its checkpoints, in files of its own thread.

mod export;
mod output;
mod recorder;
mod recording;
mod summary;

pub use export::{CsvExport, Export, JsonExport, Rows, TapeExport};
pub use output::Output;
pub use recorder::Recorder;
pub use recording::{Failure, Recording, RecordingStatus, Written};
pub use summary::{FAULTS_KEPT, Rates, Silence, Summary, SymbolSummary};
