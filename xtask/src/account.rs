//! Who a service runs as.
//!
//! Root gives its services to an unprivileged account (Postgres refuses to run as root at all); anyone else runs them
//! as themselves. It must never make or change accounts. Read next: `service.rs`.

use std::fs;
use std::os::unix::fs::{PermissionsExt, chown};
use std::path::Path;

use anyhow::{Context, Result};

#[derive(Clone, Copy)]
pub(crate) struct Account {
    pub(crate) uid: u32,
    pub(crate) gid: u32,
}

pub(crate) fn we_are_root() -> bool {
    rustix::process::geteuid().is_root()
}

/// The first of `names` that exists, for root; `None` (stay who we are) for anyone else.
pub(crate) fn for_service(names: &[&str]) -> Result<Option<Account>> {
    if !we_are_root() {
        return Ok(None);
    }
    let passwd = fs::read_to_string("/etc/passwd").context("cannot read /etc/passwd")?;
    let found = names.iter().find_map(|name| find(&passwd, name));
    let found = found.with_context(|| {
        format!("root needs an unprivileged account for this service: none of {} exists", names.join(", "))
    })?;
    Ok(Some(found))
}

/// A new folder that only the account can read.
pub(crate) fn folder(path: &Path, account: Option<Account>) -> Result<()> {
    fs::create_dir(path).with_context(|| format!("cannot make {}", path.display()))?;
    fs::set_permissions(path, fs::Permissions::from_mode(0o700))
        .with_context(|| format!("cannot close {} to others", path.display()))?;
    give(path, account)
}

pub(crate) fn give(path: &Path, account: Option<Account>) -> Result<()> {
    let Some(Account { uid, gid }) = account else { return Ok(()) };
    chown(path, Some(uid), Some(gid)).with_context(|| format!("cannot give {} to uid {uid}", path.display()))
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
    use super::find;

    #[test]
    fn an_account_is_found_by_its_whole_name() {
        let passwd =
            "rooty:x:1:2::/:/bin/sh\nroot:x:0:0:root:/root:/bin/bash\nbroken\nredis:x:103:106::/:/x\n";
        assert_eq!(find(passwd, "redis").map(|account| (account.uid, account.gid)), Some((103, 106)));
        assert_eq!(find(passwd, "root").map(|account| account.uid), Some(0));
        assert!(find(passwd, "nobody").is_none());
        assert!(find(passwd, "broken").is_none());
    }
}
