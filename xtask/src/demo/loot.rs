//! What of the attacker's log is worth seeing, safe to show.

use super::evidence::Arrival;

/// The mark of every secret of the made-up victim.
pub(super) const MARK: &str = "DEMO-FAKE";

/// What is worth seeing of what arrived: the secrets, else the beginning.
pub(super) fn loot(arrival: &Arrival) -> String {
    let lines = arrival.data.lines();
    let secrets: Vec<_> = lines
        .filter(|line| line.contains(MARK))
        .map(printable)
        .collect();
    match (secrets.is_empty(), arrival.protocol.as_str()) {
        (false, _) => secrets.join("\n"),
        (true, "udp") => format!(
            "in a DNS query, as hexadecimal digits: {}…",
            spelled(&arrival.data)
        ),
        (true, _) => printable(arrival.data.lines().next().unwrap_or_default()),
    }
}

/// What the labels of a DNS query spell in hexadecimal digits: RFC 1035, section 4.1.2.
fn spelled(query: &str) -> String {
    let mut bytes = query.chars().map(|byte| byte as usize).skip(12);
    let mut digits = String::new();
    while let Some(length @ 1..) = bytes.next() {
        let label = bytes
            .by_ref()
            .take(length)
            .filter_map(|byte| u8::try_from(byte).ok());
        let label: String = label.map(char::from).collect();
        if label.chars().all(|digit| digit.is_ascii_hexdigit()) {
            digits.push_str(&label);
        }
    }
    let pairs = digits.as_bytes().chunks_exact(2);
    let bytes = pairs.filter_map(|pair| u8::from_str_radix(str::from_utf8(pair).ok()?, 16).ok());
    printable(&bytes.map(char::from).collect::<String>()).replace('\n', " ")
}

/// The text without what a terminal would obey.
pub(super) fn printable(text: &str) -> String {
    text.chars()
        .map(|letter| match letter {
            '\n' | ' '..='~' => letter,
            _ => '.',
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_labels_of_a_query_spell_the_loot() {
        let query = format!("{}\u{4}4142\u{2}43\u{4}evil\0", "x".repeat(12));
        assert_eq!(spelled(&query), "ABC");
    }
}
