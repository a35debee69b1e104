//! Where Postgres' own programs are on this machine.
//!
//! It only looks, and never installs anything. A cluster can only be served by the major version that made it, so the
//! version is part of the search. Read next: `../cluster.rs`.

use std::{
    cmp::Reverse,
    fs,
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use super::Error;

/// The oldest Postgres that the migrations and the services are written for.
pub(super) const OLDEST: u32 = 15;

/// Where packages put one folder per version.
const PARENTS: [&str; 3] = ["/usr/lib/postgresql", "/opt/homebrew/opt", "/usr/local/opt"];

/// A folder with `initdb`, `pg_ctl` and `postgres`, all of one version.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Binaries {
    folder: PathBuf,
    major: u32,
}

impl Binaries {
    /// The given folder; or `pg_config`'s, then the packages' folders, newest first. `major` is the version of a cluster
    /// that is there already.
    pub(super) fn find(given: Option<&Path>, major: Option<u32>) -> Result<Self, Error> {
        let fits = |found: u32| major.map_or(found >= OLDEST, |major| found == major);
        if let Some(folder) = given {
            let found = Self::at(folder).ok_or_else(|| Error::NotBinaries { folder: folder.to_owned() })?;
            return if fits(found.major) {
                Ok(found)
            } else {
                Err(Error::WrongVersion { found: found.major, wanted: wanted(major) })
            };
        }
        let mut packaged: Vec<Self> = packaged().iter().filter_map(|folder| Self::at(folder)).collect();
        packaged.sort_by_key(|binaries| Reverse(binaries.major));
        let mut all = configured().as_deref().and_then(Self::at).into_iter().chain(packaged);
        all.find(|binaries| fits(binaries.major)).ok_or_else(|| Error::NoBinaries { wanted: wanted(major) })
    }

    fn at(folder: &Path) -> Option<Self> {
        let output = Command::new(folder.join("postgres"))
            .arg("--version")
            .stdin(Stdio::null())
            .stderr(Stdio::null())
            .output()
            .ok()?;
        let major = major_of(&String::from_utf8(output.stdout).ok()?)?;
        let is_whole = ["initdb", "pg_ctl"].iter().all(|name| folder.join(name).exists());
        is_whole.then(|| Self { folder: folder.to_owned(), major })
    }

    /// One of the programs.
    pub(super) fn program(&self, name: &str) -> PathBuf {
        self.folder.join(name)
    }
}

/// `postgres (PostgreSQL) 15.18 (Debian …)`, `… 17beta1` → 15, 17.
fn major_of(version: &str) -> Option<u32> {
    let number = version.strip_prefix("postgres (PostgreSQL) ")?;
    number.split(|c: char| !c.is_ascii_digit()).next()?.parse().ok()
}

fn wanted(major: Option<u32>) -> String {
    major.map_or_else(
        || format!("Postgres {OLDEST} or newer"),
        |major| format!("Postgres {major} (which made this data folder)"),
    )
}

fn configured() -> Option<PathBuf> {
    let output =
        Command::new("pg_config").arg("--bindir").stdin(Stdio::null()).stderr(Stdio::null()).output();
    let text = String::from_utf8(output.ok()?.stdout).ok()?;
    (!text.trim().is_empty()).then(|| PathBuf::from(text.trim()))
}

fn packaged() -> Vec<PathBuf> {
    let entries = PARENTS.iter().flat_map(|parent| fs::read_dir(parent).into_iter().flatten().flatten());
    entries.map(|entry| entry.path().join("bin")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_major_version_is_read_from_every_kind_of_release() {
        for (text, major) in [
            ("postgres (PostgreSQL) 15.18 (Debian 15.18-0+deb12u1)\n", Some(15)),
            ("postgres (PostgreSQL) 17beta1\n", Some(17)),
            ("postgres (PostgreSQL) 9.6.24\n", Some(9)),
            ("mysqld 8.0\n", None),
            ("", None),
        ] {
            assert_eq!(major_of(text), major, "{text}");
        }
    }

    #[test]
    fn a_folder_without_the_programs_is_refused_by_name() {
        let folder = tempfile::tempdir().unwrap();
        let error = Binaries::find(Some(folder.path()), None).unwrap_err();
        assert!(error.to_string().contains(&folder.path().display().to_string()), "{error}");
    }
}
