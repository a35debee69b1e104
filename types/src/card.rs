//! Card numbers: no part of Amends wants one, so every door and the auditor know one when they see it.

/// Whether a text holds something that is very likely a card number: 13 to 19 digits in one piece, or in the groups of a
/// card's face, that begin like an issuer's and whose check digit is right. Digits within words, ids and larger numbers are
/// none.
#[must_use]
pub fn holds_card_number(text: &[u8]) -> bool {
    let mut at = 0;
    while at < text.len() {
        if !text[at].is_ascii_digit() {
            at += 1;
            continue;
        }
        let run = Run::at(text, at);
        let is_apart = at == 0 || !text[at - 1].is_ascii_alphanumeric();
        if is_apart && run.is_whole && run.is_card() {
            return true;
        }
        at = run.end;
    }
    false
}

/// Digits with single blanks, dashes or dots between them, as far as they go.
struct Run {
    digits: Vec<u8>,
    groups: Vec<usize>,
    end: usize,
    /// Not followed by a letter.
    is_whole: bool,
}

impl Run {
    fn at(text: &[u8], start: usize) -> Self {
        let (mut digits, mut groups, mut end) = (Vec::with_capacity(20), vec![0], start);
        let digit = |at: usize| text.get(at).filter(|c| c.is_ascii_digit()).map(|c| c - b'0');
        loop {
            if let Some(found) = digit(end) {
                // More would be no card; what is longer need not be kept.
                if digits.len() < 20 {
                    digits.push(found);
                }
                if let Some(group) = groups.last_mut() {
                    *group += 1;
                }
                end += 1;
            } else if text.get(end).is_some_and(|c| b" -.".contains(c)) && digit(end + 1).is_some() {
                groups.push(0);
                end += 1;
            } else {
                let is_whole = text.get(end).is_none_or(|c| !c.is_ascii_alphabetic());
                return Self { digits, groups, end, is_whole };
            }
        }
    }

    fn is_card(&self) -> bool {
        let on_a_face: [&[usize]; 5] =
            [&[4, 4, 4, 4], &[4, 6, 5], &[4, 6, 4], &[4, 4, 4, 4, 3], &[4, 4, 4, 1]];
        let is_grouped_so = self.groups.len() == 1 || on_a_face.contains(&self.groups.as_slice());
        is_grouped_so && is_of_an_issuer(&self.digits) && luhn(&self.digits)
    }
}

fn is_of_an_issuer(digits: &[u8]) -> bool {
    if !(13..=19).contains(&digits.len()) {
        return false;
    }
    let start = digits.iter().take(4).fold(0_u32, |number, digit| number * 10 + u32::from(*digit));
    match digits.len() {
        13 => start / 1000 == 4,
        14 => matches!(start, 3000..=3059 | 3600..=3699 | 3800..=3999),
        15 => matches!(start, 3400..=3499 | 3700..=3799),
        16 => matches!(
            start,
            4000..=4999 | 5100..=5599 | 2221..=2720 | 6011 | 6200..=6299 | 6440..=6599 | 3528..=3589
        ),
        19 => start / 1000 == 4 || start / 100 == 62,
        _ => start / 100 == 62,
    }
}

fn luhn(digits: &[u8]) -> bool {
    let sum: u32 = digits
        .iter()
        .rev()
        .enumerate()
        .map(|(place, digit)| match (place % 2, u32::from(*digit)) {
            (0, digit) => digit,
            (_, digit) if digit > 4 => digit * 2 - 9,
            (_, digit) => digit * 2,
        })
        .sum();
    sum.is_multiple_of(10)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(text: &str) -> bool {
        holds_card_number(text.as_bytes())
    }

    #[test]
    fn cards_are_known_alone_and_in_a_text() {
        for card in [
            "4242424242424242",
            "4222222222222",
            "5555555555554444",
            "2223003122003222",
            "378282246310005",
            "6011111111111117",
            "3530111333300000",
            "30569309025904",
            "6200000000000000000",
            "4111 1111 1111 1111",
            "4111-1111-1111-1111",
            "3782 822463 10005",
            "4111.1111.1111.1111",
        ] {
            assert!(found(card), "{card}");
            assert!(found(&format!("tok_{card}")), "{card}");
            assert!(found(&format!("{{\"note\":\"{card}\"}}")), "{card}");
            assert!(found(&format!("a 1 b {card}, c")), "{card}");
        }
    }

    #[test]
    fn ids_times_and_numbers_are_none() {
        for other in [
            "4242424242424241",
            "1796122345678",
            "1700000000000000000",
            "x4242424242424242",
            "4242424242424242a",
            "42424242424242424242424242",
            "019a4242-4242-7242-8242-424242424242",
            "4111-1111-1111-1111-1111-1111",
            "41 11 11 11 11 11 11 11",
            "ord_01h2xcejqtf2nbrexx3vqjhp41",
            "00f067aa0ba902b7",
            "",
        ] {
            assert!(!found(other), "{other}");
        }
    }
}
