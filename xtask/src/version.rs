//! Debian's order of versions.

use std::cmp::Ordering;
use std::iter;

/// Orders two versions as dpkg does: numbers by value, letters before other signs, and `~` before
/// even the end.
pub(crate) fn compare(left: &str, right: &str) -> Ordering {
    let (mut left, mut right) = (left, right);
    while !(left.is_empty() && right.is_empty()) {
        let (left_text, left_number, left_rest) = first_part(left);
        let (right_text, right_number, right_rest) = first_part(right);
        let order = weights(left_text)
            .cmp(weights(right_text))
            .then_with(|| left_number.cmp(&right_number));
        if order.is_ne() {
            return order;
        }
        (left, right) = (left_rest, right_rest);
    }
    Ordering::Equal
}

/// The text up to the first number, that number, and what follows it.
fn first_part(version: &str) -> (&str, u64, &str) {
    let digits = version
        .find(|c: char| c.is_ascii_digit())
        .unwrap_or(version.len());
    let (text, rest) = version.split_at(digits);
    let end = rest
        .find(|c: char| !c.is_ascii_digit())
        .unwrap_or(rest.len());
    let (number, rest) = rest.split_at(end);
    (text, number.parse().unwrap_or(0), rest)
}

/// What each sign weighs; the end of the text weighs more than `~` and less than all else.
fn weights(text: &str) -> impl Iterator<Item = i64> {
    let weight = |sign: char| match sign {
        '~' => -1,
        sign if sign.is_ascii_alphabetic() => i64::from(u32::from(sign)),
        sign => i64::from(u32::from(sign)) + 256,
    };
    text.chars().map(weight).chain(iter::once(0))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn orders_as_dpkg_does() {
        let ascending = [
            "1.0~rc1",
            "1.0",
            "1.0a",
            "1.0+dfsg1-1",
            "1.0+dfsg1-2~bpo13+1",
            "1.0+dfsg1-2",
            "1.0.1",
            "1.2",
            "1.10",
        ];
        for pair in ascending.windows(2) {
            assert_eq!(compare(pair[0], pair[1]), Ordering::Less, "{pair:?}");
            assert_eq!(compare(pair[1], pair[0]), Ordering::Greater, "{pair:?}");
        }
        assert_eq!(compare("6.1.0-50", "6.1.0-50"), Ordering::Equal);
    }

    #[test]
    fn a_kernel_abi_is_a_number() {
        assert_eq!(
            compare("6.1.0-9-cloud-amd64", "6.1.0-50-cloud-amd64"),
            Ordering::Less
        );
        assert_eq!(compare("6.12.94+deb13", "6.12.107+deb13"), Ordering::Less);
    }
}
