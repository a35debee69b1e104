//! What the program does with real files, processes and databases. One module per behaviour.
#![expect(clippy::unwrap_used, reason = "a test that cannot set its stage has nothing to say")]

mod alone;
mod audit;
mod auditor;
mod cluster;
mod commands;
mod program;
mod provision;
mod stack;
mod up;

/// How many letters lie in the mailboxes of this folder.
fn letters_in(folder: &std::path::Path) -> usize {
    let Ok(mailboxes) = std::fs::read_dir(folder) else { return 0 };
    let texts = mailboxes.map(|mailbox| std::fs::read_to_string(mailbox.unwrap().path()).unwrap());
    texts.map(|text| text.lines().filter(|line| line.starts_with("From ")).count()).sum()
}
