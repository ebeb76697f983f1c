//! The measured sections of BENCHMARKS.md, which nobody types.

use std::fs;

use anyhow::{Context, Result};

use crate::paths;

/// Puts `text` in the place of the section of this name, between its two markers.
pub(super) fn put(section: &str, text: &str) -> Result<()> {
    let path = paths::project().join("BENCHMARKS.md");
    let page =
        fs::read_to_string(&path).with_context(|| format!("could not read {}", path.display()))?;
    let page = replaced(&page, section, text)
        .with_context(|| format!("{} has no markers for {section}", path.display()))?;
    fs::write(&path, page).with_context(|| format!("could not write {}", path.display()))
}

fn replaced(page: &str, section: &str, text: &str) -> Option<String> {
    let (start, end) = (
        format!("<!-- measured: {section} -->\n"),
        format!("<!-- end: {section} -->"),
    );
    let (before, rest) = page.split_once(&start)?;
    let (_, after) = rest.split_once(&end)?;
    Some(format!("{before}{start}\n{}\n\n{end}{after}", text.trim()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_is_between_the_markers_changes() {
        let page = "a\n<!-- measured: x -->\nold\n<!-- end: x -->\nb\n";
        let once = replaced(page, "x", "new\n").expect("the section is there");
        assert_eq!(
            once,
            "a\n<!-- measured: x -->\n\nnew\n\n<!-- end: x -->\nb\n"
        );
        assert_eq!(replaced(&once, "x", "new"), Some(once.clone()));
        assert_eq!(replaced(page, "y", "new"), None);
    }
}
