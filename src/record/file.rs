use super::running::{Failure, told};
use super::{Output, Recorder};
use crate::recording::RecordingHeader;
use crate::tape::Batch;
use std::fs::{File, Metadata};
use std::io::{self, BufWriter};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// One file of a recording, from its header to its index.
pub(super) struct RecordingFile {
    recorder: Recorder<BufWriter<Arc<File>>>,
    /// The same file, to check and cut it: its path may name another one by now.
    file: Arc<File>,
    path: PathBuf,
    /// Whether it was made for this recording.
    is_new: bool,
}

/// A file as it was created.
pub(super) struct Created {
    pub file: File,
    pub path: PathBuf,
    /// Whether the path did not exist before.
    pub is_new: bool,
}

const BUFFER: usize = 256 * 1024;

impl RecordingFile {
    /// Creates it with its header. A file that cannot hold even that is removed.
    ///
    /// # Errors
    /// [`Failure`] if it cannot be created or written.
    pub fn create(output: &Output, path: PathBuf, header: &RecordingHeader) -> Result<Self, Failure> {
        let created = output.create(&path).map_err(|error| Failure { path, reason: told(&error) })?;
        Self::begin(created, header)
    }

    /// Writes the header.
    ///
    /// # Errors
    /// As [`Self::create`].
    pub fn begin(created: Created, header: &RecordingHeader) -> Result<Self, Failure> {
        let Created { file, path, is_new } = created;
        let file = Arc::new(file);
        let recorder = Recorder::new(BufWriter::with_capacity(BUFFER, Arc::clone(&file)), header)
            // Flushed, so that the file can be opened however early a crash comes.
            .and_then(|mut recorder| recorder.close_frame().map(|()| recorder));
        match recorder {
            Ok(recorder) => Ok(Self { recorder, file, path, is_new }),
            Err(error) => {
                if is_new {
                    remove(&file, &path);
                }
                Err(Failure { path, reason: told(&error) })
            }
        }
    }

    /// # Errors
    /// As [`Recorder::append`].
    pub fn append(&mut self, batch: &Batch) -> io::Result<()> {
        self.recorder.append(batch)
    }

    /// # Errors
    /// As [`Recorder::close_frame`].
    pub fn close_frame(&mut self) -> io::Result<()> {
        self.recorder.close_frame()
    }

    pub fn recorder(&self) -> &Recorder<BufWriter<Arc<File>>> {
        &self.recorder
    }

    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Checks that the file is still there: one that was removed accepts every write, but nobody can read it.
    ///
    /// # Errors
    /// What has happened to it.
    pub fn check(&self) -> io::Result<()> {
        let metadata = self.file.metadata()?;
        if !metadata.is_file() {
            return Ok(());
        }
        if metadata.nlink() == 0 {
            return Err(io::Error::other("the file was removed"));
        }
        if metadata.len() < self.recorder.whole_bytes() {
            return Err(io::Error::other("somebody has cut the file"));
        }
        Ok(())
    }

    /// Writes what is still pending, and the index; returns the file's size in bytes.
    ///
    /// # Errors
    /// [`Failure`] if not all could be written: as [`Self::give_up`].
    pub fn finish(mut self) -> Result<u64, Failure> {
        // The last frame first: if there is no space for the index, all events are there.
        let whole = self.recorder.close_frame().and_then(|()| self.check());
        if let Err(error) = whole {
            return Err(self.give_up(&error));
        }
        let Self { recorder, file, path, .. } = self;
        let whole = recorder.whole_bytes();
        finish(recorder, &file).map_err(|error| {
            cut(&file, whole);
            Failure { path, reason: told(&error) }
        })
    }

    /// Cuts the file to its complete frames, as far as the disk permits; removes it if it has no batch.
    pub fn give_up(self, error: &io::Error) -> Failure {
        let Self { recorder, file, path, is_new } = self;
        let (whole, batches) = (recorder.whole_bytes(), recorder.whole_batches());
        // Its buffer goes to the file first, if it can.
        drop(recorder);
        cut(&file, whole);
        if is_new && batches == 0 {
            remove(&file, &path);
        }
        Failure { path, reason: told(error) }
    }

    /// Removes its name: its content is of no use, or repeated by the next file.
    pub fn make_room(&self) {
        remove(&self.file, &self.path);
    }
}

fn finish(recorder: Recorder<BufWriter<Arc<File>>>, file: &File) -> io::Result<u64> {
    let whole = recorder.whole_bytes();
    recorder.finish()?.into_inner().map_err(io::IntoInnerError::into_error)?;
    let metadata = file.metadata()?;
    if !metadata.is_file() {
        // A pipe or a device cannot be synced.
        return Ok(whole);
    }
    file.sync_all()?;
    Ok(metadata.len())
}

fn cut(file: &File, whole: u64) {
    if file.metadata().is_ok_and(|metadata| metadata.is_file() && metadata.len() > whole) {
        let _ = file.set_len(whole);
    }
}

/// Removes `path` if it names `file`, and no pipe or device.
fn remove(file: &File, path: &Path) {
    let id = |metadata: Metadata| (metadata.is_file(), metadata.dev(), metadata.ino());
    if let (Ok(ours), Ok(there)) = (file.metadata().map(id), std::fs::metadata(path).map(id))
        && ours.0
        && ours == there
    {
        // If it stays, the next one gets a number.
        let _ = std::fs::remove_file(path);
    }
}
