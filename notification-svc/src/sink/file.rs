//! Letters as files: one `.eml` each, for machines without a mail server.
//!
//! A file appears whole or not at all: it is written under another name and renamed.

use std::{io, path::PathBuf};

use async_trait::async_trait;
use lettre::message::Mailbox;
use tokio::{
    fs::{self, File},
    io::AsyncWriteExt as _,
};

use super::{Sink, Unsent, mail};
use crate::store::Due;

/// A folder of letters. It is made when the first one is written.
pub(crate) struct Folder {
    folder: PathBuf,
    from: Mailbox,
}

impl Folder {
    pub(crate) const fn new(folder: PathBuf, from: Mailbox) -> Self {
        Self { folder, from }
    }

    async fn write(&self, due: &Due, bytes: &[u8]) -> io::Result<()> {
        fs::create_dir_all(&self.folder).await?;
        // By time, so that a folder is read in order; the same at every attempt, so that a repeat replaces the file.
        let name = format!("{}-{}", due.create_time.format("%Y%m%dT%H%M%S%.6fZ"), due.delivery_id);
        // Two attempts that overlap (a claim that lapsed) must not write into one file.
        let partial = self.folder.join(format!(".{name}.{}.partial", due.attempt));
        let written = async {
            let mut file = File::create(&partial).await?;
            file.write_all(bytes).await?;
            file.sync_all().await?;
            fs::rename(&partial, self.folder.join(format!("{name}.eml"))).await
        };
        let written = written.await;
        if written.is_err() {
            let _ = fs::remove_file(&partial).await;
        }
        written
    }
}

#[async_trait]
impl Sink for Folder {
    fn name(&self) -> &'static str {
        "folder"
    }

    async fn send(&self, due: &Due) -> Result<(), Unsent> {
        let bytes = mail(due, &self.from)?.formatted();
        // A full disk or a folder that may not be written is nothing the letter could help.
        let away = |error| Unsent::Away(format!("{}: {error}", self.folder.display()));
        self.write(due, &bytes).await.map_err(away)
    }
}
