//! Who the private Postgres runs as.
//!
//! Postgres refuses to run as root. Root gives it to an unprivileged account, by preference the one that owns the
//! cluster already; anyone else runs it as themselves. It must never make or change accounts. Read next:
//! `../cluster.rs`.

use std::{
    fs, io,
    os::unix::{
        fs::{MetadataExt as _, PermissionsExt as _, chown},
        process::CommandExt as _,
    },
    path::Path,
    process::Command,
};

use super::Error;

/// Accounts that root may use, in this order.
const NAMES: [&str; 2] = ["postgres", "nobody"];

/// A user and its group.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Account {
    uid: u32,
    gid: u32,
}

impl Account {
    /// The account for the cluster in `data` (which may not exist yet); none means: stay who we are.
    pub(super) fn choose(data: &Path) -> Result<Option<Self>, Error> {
        let owner = fs::metadata(data).ok().map(|m| Self { uid: m.uid(), gid: m.gid() });
        let us = rustix::process::geteuid();
        if !us.is_root() {
            return match owner {
                Some(owner) if owner.uid != us.as_raw() => {
                    Err(Error::Foreign { folder: data.to_owned(), uid: owner.uid })
                }
                _ => Ok(None),
            };
        }
        if let Some(owner) = owner.filter(|owner| owner.uid != 0) {
            return Ok(Some(owner));
        }
        let passwd = fs::read_to_string("/etc/passwd").map_err(Error::io("read", "/etc/passwd"))?;
        let found = NAMES.iter().find_map(|name| find(&passwd, name));
        found.map(Some).ok_or_else(|| Error::NoAccount { names: NAMES.join(", ") })
    }

    /// The command runs as this account.
    pub(super) fn take(self, command: &mut Command) {
        command.uid(self.uid).gid(self.gid);
    }

    /// Gives it the folder or file.
    pub(super) fn give(self, path: &Path) -> io::Result<()> {
        chown(path, Some(self.uid), Some(self.gid))
    }

    /// The uppermost folder on the way to `path` that this account cannot pass, by its permission bits.
    pub(super) fn barred(self, path: &Path) -> Option<&Path> {
        let mut folders: Vec<&Path> = path.ancestors().skip(1).collect();
        folders.reverse();
        folders
            .into_iter()
            .find(|folder| fs::metadata(folder).is_ok_and(|m| !self.passes(m.uid(), m.gid(), m.mode())))
    }

    fn passes(self, uid: u32, gid: u32, mode: u32) -> bool {
        let bit = if uid == self.uid {
            0o100
        } else if gid == self.gid {
            0o010
        } else {
            0o001
        };
        mode & bit != 0
    }
}

/// A folder that only its owner can read, and the account owns.
pub(super) fn folder(path: &Path, account: Option<Account>) -> Result<(), Error> {
    match fs::create_dir(path) {
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
        made => made.map_err(Error::io("make", path))?,
    }
    fs::set_permissions(path, fs::Permissions::from_mode(0o700))
        .map_err(Error::io("close to others", path))?;
    give(path, account)
}

/// Gives the path to the account, if there is one.
pub(super) fn give(path: &Path, account: Option<Account>) -> Result<(), Error> {
    account.map_or(Ok(()), |account| account.give(path)).map_err(Error::io("give away", path))
}

fn find(passwd: &str, name: &str) -> Option<Account> {
    passwd.lines().find_map(|line| {
        let mut fields = line.split(':');
        (fields.next()? == name).then_some(())?;
        let uid = fields.nth(1)?.parse().ok()?;
        let gid = fields.next()?.parse().ok()?;
        Some(Account { uid, gid })
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_account_is_found_by_its_whole_name() {
        let passwd =
            "postgresql:x:1:2::/:/bin/sh\nbroken\npostgres:x:103:106::/:/x\nroot:x:0:0::/root:/bin/sh\n";
        assert_eq!(find(passwd, "postgres"), Some(Account { uid: 103, gid: 106 }));
        assert_eq!(find(passwd, "nobody"), None);
        assert_eq!(find(passwd, "broken"), None);
    }

    #[test]
    fn the_folder_in_the_way_is_named() {
        let folder = tempfile::tempdir().unwrap();
        let closed = folder.path().join("closed");
        let path = closed.join("data").join("postgres");
        fs::create_dir_all(&path).unwrap();
        let stranger = Account { uid: u32::MAX - 7, gid: u32::MAX - 7 };
        fs::set_permissions(folder.path(), fs::Permissions::from_mode(0o755)).unwrap();
        fs::set_permissions(&closed, fs::Permissions::from_mode(0o700)).unwrap();
        assert_eq!(stranger.barred(&path), Some(closed.as_path()));
        fs::set_permissions(&closed, fs::Permissions::from_mode(0o711)).unwrap();
        assert_eq!(stranger.barred(&path), None);
    }
}
