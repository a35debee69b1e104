//! The data folder: one process at a time, an id and a key that stay with it.
//!
//! The lock is the kernel's (it goes with the process, however that ends); what stands in the file is only for people.
//! Read next: `cluster.rs`, which lives in the folder.

use std::{
    fs::{self, File, OpenOptions, TryLockError},
    io::{self, Write as _},
    os::unix::fs::OpenOptionsExt as _,
    path::{Path, PathBuf},
};

use chassis::keyring::Keyring;

use uuid::Uuid;

/// A data folder that is ours until this value is dropped.
#[derive(Debug)]
pub struct DataDir {
    path: PathBuf,
    _lock: File,
}

/// Why the folder cannot be ours.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Another process has it.
    #[error(
        "{} is in use by another amends ({holder}): stop that one, or choose another folder with --data-dir",
        path.display()
    )]
    Taken {
        /// Which folder.
        path: PathBuf,
        /// What the other one wrote about itself.
        holder: String,
    },
    /// A file or folder said no.
    #[error("cannot use {} (--data-dir)", path.display())]
    Io {
        /// Which.
        path: PathBuf,
        /// Why not.
        #[source]
        source: io::Error,
    },
    /// The id is not one.
    #[error("{} does not hold a UUID: delete it, and the orchestrator waits once for its old leases to lapse", path.display())]
    BadInstance {
        /// The file.
        path: PathBuf,
    },
}

impl DataDir {
    /// Makes the folder if it is not there and takes it.
    ///
    /// # Errors
    /// When another process has it, or it cannot be written.
    pub fn lock(path: &Path) -> Result<Self, Error> {
        let io = |path: &Path| {
            let path = path.to_owned();
            move |source| Error::Io { path, source }
        };
        fs::create_dir_all(path).map_err(io(path))?;
        let path = fs::canonicalize(path).map_err(io(path))?;
        let file = path.join("lock");
        // Not truncated before it is ours: the text in it is the holder's.
        let mut lock = OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .open(&file)
            .map_err(io(&file))?;
        match lock.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => {
                let holder = fs::read_to_string(&file).unwrap_or_default();
                let holder = if holder.trim().is_empty() { "just starting" } else { holder.trim() };
                return Err(Error::Taken { path, holder: holder.to_owned() });
            }
            Err(TryLockError::Error(source)) => return Err(Error::Io { path: file, source }),
        }
        let written = lock.set_len(0).and_then(|()| writeln!(lock, "process {}", std::process::id()));
        written.map_err(io(&file))?;
        Ok(Self { path, _lock: lock })
    }

    /// Its absolute path.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The id of the orchestrator that lives here, drawn at the first start.
    ///
    /// # Errors
    /// When the file cannot be read, written or understood.
    pub fn instance(&self) -> Result<Uuid, Error> {
        let file = self.path.join("instance-id");
        let io = |source| Error::Io { path: file.clone(), source };
        match fs::read_to_string(&file) {
            Ok(text) => text.trim().parse().map_err(|_| Error::BadInstance { path: file }),
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                let instance = chassis::clock::new_uuid();
                // Whole or not at all: a crash in between must not leave half an id.
                let new = self.path.join("instance-id.new");
                fs::write(&new, format!("{instance}\n")).map_err(io)?;
                fs::rename(&new, &file).map_err(io)?;
                Ok(instance)
            }
            Err(error) => Err(io(error)),
        }
    }

    /// The key that payment tokens are encrypted with here, drawn at the first start, and its file. Whoever loses it cannot
    /// send the charges that were under way.
    ///
    /// # Errors
    /// When the file cannot be read or written.
    pub fn token_key(&self) -> Result<(String, PathBuf), Error> {
        let file = self.path.join("token.key");
        let io = |source| Error::Io { path: file.clone(), source };
        match fs::read_to_string(&file) {
            Ok(text) => Ok((text, file)),
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                let text = Keyring::draw("folder").map_err(io)?;
                // Whole or not at all, and nobody else's from the beginning.
                let new = self.path.join("token.key.new");
                let _ = fs::remove_file(&new);
                let mut written =
                    OpenOptions::new().write(true).create_new(true).mode(0o600).open(&new).map_err(io)?;
                writeln!(written, "{text}").and_then(|()| written.sync_all()).map_err(io)?;
                fs::rename(&new, &file).map_err(io)?;
                Ok((text, file))
            }
            Err(error) => Err(io(error)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_folder_has_one_owner_at_a_time_and_says_who() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("data");
        let first = DataDir::lock(&path).unwrap();
        let error = DataDir::lock(&path).unwrap_err().to_string();
        assert!(error.contains(&format!("process {}", std::process::id())), "{error}");
        assert!(error.contains("--data-dir"), "{error}");
        drop(first);
        DataDir::lock(&path).unwrap();
    }

    #[test]
    fn the_instance_stays_with_the_folder() {
        let folder = tempfile::tempdir().unwrap();
        let data = DataDir::lock(folder.path()).unwrap();
        let instance = data.instance().unwrap();
        assert_eq!(data.instance().unwrap(), instance);
        fs::write(folder.path().join("instance-id"), "half").unwrap();
        assert!(matches!(data.instance(), Err(Error::BadInstance { .. })));
    }
}
