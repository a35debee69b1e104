//! Letters in mailboxes: a file for each day, which any mail program opens, for machines without a mail server.
//!
//! Files are mbox (RFC 4155) with quoted `From ` lines. Letters that are under way together are written together and
//! flushed once, since a flush costs more than a thousand letters, and takes it from the databases on the same disk. A
//! letter that a crash cut in the middle, or that was not known to be written, stands there again, with the same
//! Message-ID.

use std::{
    collections::BTreeMap,
    fs::{self, OpenOptions},
    io::{self, Read as _, Seek as _, SeekFrom, Write as _},
    path::{Path, PathBuf},
    sync::{Mutex, PoisonError},
    time::Duration,
};

use async_trait::async_trait;
use chrono::{DateTime, Utc};
use lettre::message::Mailbox;
use tokio::sync::oneshot;

use super::{Sink, Unsent, mail};
use crate::store::Due;

/// Letters that come within this time are written together.
const LINGER: Duration = Duration::from_millis(100);

/// So many at once cost no more than one.
const WINDOW: usize = 1024;

/// A folder of mailboxes. It is made when the first letter is written.
pub(crate) struct Folder {
    folder: PathBuf,
    from: Mailbox,
    waiting: Mutex<Vec<Waiting>>,
    writing: tokio::sync::Mutex<()>,
}

struct Waiting {
    day: String,
    entry: Vec<u8>,
    told: oneshot::Sender<Result<(), String>>,
}

impl Folder {
    pub(crate) fn new(folder: PathBuf, from: Mailbox) -> Self {
        Self { folder, from, waiting: Mutex::default(), writing: tokio::sync::Mutex::default() }
    }

    fn waiting(&self) -> std::sync::MutexGuard<'_, Vec<Waiting>> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Writes all that wait, if nobody else has meanwhile.
    async fn write_all(&self) {
        let _turn = self.writing.lock().await;
        if self.waiting().is_empty() {
            return;
        }
        // Nobody is in a hurry for a letter.
        tokio::time::sleep(LINGER).await;
        let waiting = std::mem::take(&mut *self.waiting());
        let mut days: BTreeMap<String, (Vec<u8>, Vec<oneshot::Sender<_>>)> = BTreeMap::new();
        for Waiting { day, entry, told } in waiting {
            let (entries, all) = days.entry(day).or_default();
            entries.extend(entry);
            all.push(told);
        }
        for (day, (entries, all)) in days {
            let (folder, file) = (self.folder.clone(), self.folder.join(format!("{day}.mbox")));
            let written = tokio::task::spawn_blocking(move || append(&folder, &file, &entries)).await;
            // A full disk or a folder that may not be written is nothing the letter could help.
            let away = |error: io::Error| format!("{}: {error}", self.folder.display());
            let written = written.unwrap_or_else(|_| Err(io::ErrorKind::Interrupted.into())).map_err(away);
            for told in all {
                let _ = told.send(written.clone());
            }
        }
    }
}

#[async_trait]
impl Sink for Folder {
    fn name(&self) -> &'static str {
        "folder"
    }

    fn window(&self) -> usize {
        WINDOW
    }

    async fn send(&self, due: &Due) -> Result<(), Unsent> {
        let bytes = mail(due, &self.from)?.formatted();
        let now = chassis::clock::now();
        let entry = entry(self.from.email.as_ref(), now, &bytes);
        let (told, done) = oneshot::channel();
        self.waiting().push(Waiting { day: now.format("%Y-%m-%d").to_string(), entry, told });
        self.write_all().await;
        let gone = || Err("whoever wrote it was stopped".to_owned());
        done.await.unwrap_or_else(|_| gone()).map_err(Unsent::Away)
    }
}

/// One letter as it stands in a mailbox: a line that says from whom and when, the letter, an empty line.
fn entry(from: &str, now: DateTime<Utc>, letter: &[u8]) -> Vec<u8> {
    let mut entry = format!("From {from} {}\n", now.format("%a %b %e %H:%M:%S %Y")).into_bytes();
    for line in letter.split_inclusive(|byte| *byte == b'\n') {
        let line = line.strip_suffix(b"\n").map_or(line, |line| line.strip_suffix(b"\r").unwrap_or(line));
        let quoted = line.iter().position(|byte| *byte != b'>').unwrap_or(0);
        if line[quoted..].starts_with(b"From ") {
            entry.push(b'>');
        }
        entry.extend_from_slice(line);
        entry.push(b'\n');
    }
    entry.push(b'\n');
    entry
}

fn append(folder: &Path, file: &Path, entries: &[u8]) -> io::Result<()> {
    fs::create_dir_all(folder)?;
    let mut file = OpenOptions::new().create(true).append(true).read(true).open(file)?;
    if is_cut(&mut file)? {
        file.write_all(b"\n\n")?;
    }
    file.write_all(entries)?;
    file.sync_data()
}

/// Whether its last letter does not end: whoever wrote it died.
fn is_cut(file: &mut fs::File) -> io::Result<bool> {
    if file.metadata()?.len() < 2 {
        return Ok(file.metadata()?.len() > 0);
    }
    let mut end = [0; 2];
    file.seek(SeekFrom::End(-2))?;
    file.read_exact(&mut end)?;
    Ok(end != *b"\n\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_that_looks_like_the_beginning_of_a_letter_is_quoted() {
        let at = DateTime::from_timestamp(1_795_000_000, 0).unwrap();
        let letter = b"Subject: x\r\n\r\nFrom here on\r\n>From there\r\n> as it is\r\nFromage";
        let entry = String::from_utf8(entry("a@b.example", at, letter)).unwrap();
        let expected = "From a@b.example Wed Nov 18 11:06:40 2026\nSubject: x\n\n>From here on\n>>From there\n> as it is\nFromage\n\n";
        assert_eq!(entry, expected);
    }

    #[test]
    fn what_a_crash_cut_is_ended_before_the_next_letter_begins() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("day.mbox");
        append(folder.path(), &file, b"From a\nfirst\n\n").unwrap();
        let whole = fs::read(&file).unwrap();
        fs::write(&file, [&whole[..], b"From b\nsec"].concat()).unwrap();
        append(folder.path(), &file, b"From b\nsecond\n\n").unwrap();
        let text = fs::read_to_string(&file).unwrap();
        assert_eq!(text, "From a\nfirst\n\nFrom b\nsec\n\nFrom b\nsecond\n\n");
    }
}
