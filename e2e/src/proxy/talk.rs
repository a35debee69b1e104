//! As much of two protocols as the proxy has to know. It sees what was written at once, which begins with a message or a
//! frame: good enough to lose an answer on purpose, and what it was asked to do and could not is counted by its caller.

/// How the orchestrator's commits look on the wire: the transaction's word, and its one-statement group commit, which is
/// prepared once and then named by a Bind; there the parameters tell it from a read.
const COMMITS: &[&[u8]] =
    &[b"COMMIT\0", b"PivotPassed", b"StepDone", b"TurnedRound", b"Finished", b"CommandSent"];

/// What an HTTP/2 client says first.
const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

const DATA: u8 = 0;
const HEADERS: u8 = 1;

/// Whether a Postgres client commits.
pub(super) fn commits(said: &[u8]) -> bool {
    COMMITS.iter().any(|mark| said.windows(mark.len()).any(|part| part == *mark))
}

/// Whether an HTTP/2 client begins a call.
pub(super) fn asks(said: &[u8]) -> bool {
    has_frame(said.strip_prefix(PREFACE).unwrap_or(said), HEADERS)
}

/// Whether an HTTP/2 server says what came of a call; that it will say something (HEADERS) may come before the effect.
pub(super) fn answers(said: &[u8]) -> bool {
    has_frame(said, DATA)
}

fn has_frame(mut said: &[u8], kind: u8) -> bool {
    while let [a, b, c, this, _, _, _, _, _, rest @ ..] = said {
        let length = usize::from(*a) << 16 | usize::from(*b) << 8 | usize::from(*c);
        if *this == kind && length > 0 {
            return true;
        }
        let Some(next) = rest.get(length..) else { return false };
        said = next;
    }
    false
}

#[cfg(test)]
mod tests {
    use super::*;

    fn frame(kind: u8, body: &[u8]) -> Vec<u8> {
        let mut frame = vec![0, 0, u8::try_from(body.len()).unwrap(), kind, 0, 0, 0, 0, 1];
        frame.extend(body);
        frame
    }

    #[test]
    fn calls_and_answers_are_told_from_the_chatter_around_them() {
        let (settings, ping, window) = (frame(4, &[0; 6]), frame(6, &[0; 8]), frame(8, &[0; 4]));
        let (head, data) = (frame(HEADERS, b"x"), frame(DATA, b"y"));
        assert!(!asks(&[PREFACE, &settings, &ping].concat()));
        assert!(asks(&[PREFACE, &settings, &head, &data].concat()));
        assert!(asks(&[window.clone(), head.clone()].concat()));
        assert!(!answers(&[settings, ping, head].concat()));
        assert!(answers(&[window, data].concat()));
        assert!(!answers(&frame(DATA, &[])));
    }

    #[test]
    fn a_commit_is_told_from_a_read() {
        assert!(commits(b"Q\0\0\0\x0bCOMMIT\0"));
        assert!(commits(b"B...{\"PivotPassed\":{}}..."));
        assert!(!commits(b"Q\0\0\0\x0bselect 1\0"));
    }
}
