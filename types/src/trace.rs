//! The text by which a trace goes on: W3C's `traceparent`.

/// Version, trace, span, flags, with a dash between each.
const PARTS: [usize; 4] = [2, 32, 16, 2];
/// Their length altogether.
const LENGTH: usize = 55;

/// The `traceparent` in a text that came from outside, or nothing: whoever writes it down or sends it on must not have to
/// ask what else may be in it. What a later version says after the four parts is left out.
#[must_use]
pub fn traceparent(text: &str) -> &str {
    let Some(head) = text.get(..LENGTH) else { return "" };
    let is_over = text.len() == LENGTH || (text.as_bytes()[LENGTH] == b'-' && !head.starts_with("00"));
    let parts: Vec<&str> = head.split('-').collect();
    let is_hex = |part: &&str| part.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'));
    let fits = parts.iter().map(|part| part.len()).eq(PARTS) && parts.iter().all(is_hex);
    if is_over && fits && !head.starts_with("ff") { head } else { "" }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_traceparent_is_kept() {
        let good = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";
        assert_eq!(traceparent(good), good);
        let newer = "01-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";
        assert_eq!(traceparent(&format!("{newer}-what-comes-later\0")), newer);
        for bad in [
            "",
            "\0",
            &good[..54],
            &format!("{good}-more"),
            &format!("{newer}x"),
            &good.to_uppercase(),
            &good.replace("00-", "ff-"),
            &good.replace('-', "0"),
            &"é".repeat(40),
        ] {
            assert_eq!(traceparent(bad), "", "{bad:?}");
        }
    }
}
