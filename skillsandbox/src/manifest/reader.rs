//! Typed readers over the tree. Each gives `None` when the value is refused, after listing why,
//! so that one pass finds every problem.

use std::ops::RangeInclusive;
use std::str::FromStr;

use super::error::{Position, Problems, Refusal};
use super::scalar::{Kind, Scalar};
use super::spanned::Spanned;
use super::text::quoted;
use super::tree::{Key, Node, Value};

/// Likeness from which an unknown key is taken for a misspelt known one.
const LIKENESS_MIN: f64 = 0.6;

/// A value and the name of its place, such as `permissions.network.egress[0]`.
pub(super) struct Field<'tree> {
    name: String,
    node: &'tree Node,
}

impl<'tree> Field<'tree> {
    pub(super) fn root(node: &'tree Node) -> Self {
        Self {
            name: String::new(),
            node,
        }
    }

    /// Lists a problem with this value. Always `None`, to be returned at once.
    pub(super) fn refuse<T>(
        &self,
        problems: &mut Problems,
        message: impl AsRef<str>,
        remedy: impl Into<String>,
    ) -> Option<T> {
        let message = format!("{} {}", self.name_or_manifest(), message.as_ref());
        problems.add(Some(self.node.position), Refusal::new(message, remedy));
        None
    }

    pub(super) fn spanned<T>(&self, value: T) -> Spanned<T> {
        Spanned {
            value,
            line: self.node.position.line,
        }
    }

    /// Text, on one line.
    pub(super) fn line_of_text(&self, problems: &mut Problems) -> Option<&'tree str> {
        let text = self.text(problems)?;
        if let Some(character) = text.chars().find(|&character| character.is_control()) {
            let message = format!("must be one line, and holds U+{:04X}", u32::from(character));
            return self.refuse(problems, message, "remove the character");
        }
        Some(text)
    }

    /// Text, with newlines and tabs.
    pub(super) fn text(&self, problems: &mut Problems) -> Option<&'tree str> {
        let Value::Scalar(scalar) = &self.node.value else {
            return self.wrong_type(problems, "text", "write text");
        };
        match scalar.kind() {
            Kind::Text => Some(&scalar.text),
            Kind::Absent => self.wrong_type(problems, "text", "write text, or remove the key"),
            _ => self.wrong_type(
                problems,
                "text",
                format!("write it in quotes: \"{}\"", scalar.text),
            ),
        }
    }

    /// A value that is written as text, such as a path.
    pub(super) fn parsed<T: FromStr<Err = Refusal>>(&self, problems: &mut Problems) -> Option<T> {
        let text = self.line_of_text(problems)?;
        self.parse_as(text, text, problems)
    }

    /// Like [`Field::parsed`], for values that may also be a bare number, such as a port.
    pub(super) fn parsed_or_integer<T: FromStr<Err = Refusal>>(
        &self,
        problems: &mut Problems,
    ) -> Option<T> {
        if let Some((scalar, Kind::Integer(number))) = self.scalar() {
            return self.parse_as(&number.to_string(), &scalar.text, problems);
        }
        self.parsed(problems)
    }

    fn parse_as<T: FromStr<Err = Refusal>>(
        &self,
        text: &str,
        written: &str,
        problems: &mut Problems,
    ) -> Option<T> {
        match text.parse() {
            Ok(value) => Some(value),
            Err(Refusal { message, remedy }) => self.refuse(
                problems,
                format!("is {}: {message}", quoted(written)),
                remedy,
            ),
        }
    }

    /// A whole number in `range`, given in `unit`.
    pub(super) fn integer(
        &self,
        range: &RangeInclusive<u64>,
        unit: &str,
        problems: &mut Problems,
    ) -> Option<u64> {
        let remedy = format!(
            "write a whole number from {} to {} ({unit})",
            range.start(),
            range.end()
        );
        let Some((scalar, Kind::Integer(number))) = self.scalar() else {
            return self.wrong_type(problems, "a whole number", remedy);
        };
        match u64::try_from(number) {
            Ok(number) if range.contains(&number) => Some(number),
            _ => self.refuse(
                problems,
                format!("is {}, which is out of range", quoted(&scalar.text)),
                remedy,
            ),
        }
    }

    pub(super) fn boolean(&self, problems: &mut Problems) -> Option<bool> {
        match self.scalar() {
            Some((_, Kind::Boolean(value))) => Some(value),
            _ => self.wrong_type(problems, "true or false", "write `true` or `false`"),
        }
    }

    /// One of a fixed set of words.
    pub(super) fn choice<T: Copy>(
        &self,
        choices: &[(&str, T)],
        problems: &mut Problems,
    ) -> Option<T> {
        let text = self.line_of_text(problems)?;
        let known = choices.iter().find(|(word, _)| *word == text);
        if let Some((_, choice)) = known {
            return Some(*choice);
        }
        let words: Vec<_> = choices.iter().map(|(word, _)| *word).collect();
        self.refuse(
            problems,
            format!("is {}, which is unknown", quoted(text)),
            format!("write {}", alternatives(&words)),
        )
    }

    /// A list of at most `max` values. A key with nothing behind it is an empty list.
    pub(super) fn list<T>(
        &self,
        max: usize,
        problems: &mut Problems,
        mut read: impl FnMut(&Field<'tree>, &mut Problems) -> Option<T>,
    ) -> Option<Vec<T>> {
        let items = match &self.node.value {
            Value::Sequence(items) => items.as_slice(),
            _ if self.is_absent() => &[],
            _ => {
                return self.wrong_type(
                    problems,
                    "a list",
                    "write a list: `[first, second]`, or `- ` before each entry",
                );
            }
        };
        if items.len() > max {
            return self.refuse(
                problems,
                format!("has {} entries, more than {max}", items.len()),
                "join or remove some of them",
            );
        }
        let mut values = Vec::with_capacity(items.len());
        for (index, node) in items.iter().enumerate() {
            let item = Field {
                name: format!("{}[{index}]", self.name),
                node,
            };
            values.push(read(&item, problems));
        }
        values.into_iter().collect()
    }

    /// A map with the keys of `known`; every other key is a problem. A key with nothing behind it
    /// is an empty map.
    pub(super) fn map(
        &self,
        known: &'static [&'static str],
        problems: &mut Problems,
    ) -> Option<Map<'_, 'tree>> {
        let entries = self.entries(problems)?;
        let unknown = entries
            .iter()
            .filter(|(key, _)| !known.contains(&key.text.as_str()));
        let misspelt = unknown
            .filter_map(|(key, _)| self.unknown_key(key, known, problems))
            .collect();
        Some(Map {
            field: self,
            entries,
            misspelt,
        })
    }

    /// The entries of a map with free keys: each key, its place and its value.
    pub(super) fn free_map(
        &self,
        problems: &mut Problems,
    ) -> Option<Vec<(&'tree str, Position, Field<'tree>)>> {
        let entries = self.entries(problems)?.iter();
        Some(
            entries
                .map(|(key, node)| (key.text.as_str(), key.position, self.child(&key.text, node)))
                .collect(),
        )
    }

    fn entries(&self, problems: &mut Problems) -> Option<&'tree [(Key, Node)]> {
        match &self.node.value {
            Value::Mapping(entries) => Some(entries),
            _ if self.is_absent() => Some(&[]),
            _ => self.wrong_type(problems, "a map", "write keys and values: `name: value`"),
        }
    }

    /// Lists an unknown key, and gives the known one that was probably meant.
    fn unknown_key(
        &self,
        key: &Key,
        known: &[&'static str],
        problems: &mut Problems,
    ) -> Option<&'static str> {
        let nearest = known
            .iter()
            .map(|name| (strsim::jaro_winkler(&key.text, name), name))
            .filter(|(likeness, _)| *likeness >= LIKENESS_MIN)
            .max_by(|(left, _), (right, _)| left.total_cmp(right))
            .map(|(_, name)| *name);
        let remedy = match nearest {
            Some(name) => format!("did you mean `{name}`?"),
            None => format!("the keys here are {}", alternatives(known)),
        };
        let message = format!(
            "unknown key {} in {}",
            quoted(&key.text),
            self.name_or_manifest()
        );
        problems.add(Some(key.position), Refusal::new(message, remedy));
        nearest
    }

    fn child(&self, key: &str, node: &'tree Node) -> Field<'tree> {
        let name = if self.name.is_empty() {
            key.to_owned()
        } else {
            format!("{}.{key}", self.name)
        };
        Field { name, node }
    }

    fn scalar(&self) -> Option<(&'tree Scalar, Kind)> {
        match &self.node.value {
            Value::Scalar(scalar) => Some((scalar, scalar.kind())),
            _ => None,
        }
    }

    fn is_absent(&self) -> bool {
        matches!(self.scalar(), Some((_, Kind::Absent)))
    }

    fn name_or_manifest(&self) -> &str {
        if self.name.is_empty() {
            "the manifest"
        } else {
            &self.name
        }
    }

    fn wrong_type<T>(
        &self,
        problems: &mut Problems,
        wanted: &str,
        remedy: impl Into<String>,
    ) -> Option<T> {
        let found = match &self.node.value {
            Value::Refused => return None,
            Value::Sequence(_) => "a list".to_owned(),
            Value::Mapping(_) => "a map".to_owned(),
            Value::Scalar(scalar) => match scalar.kind() {
                Kind::Absent => "empty".to_owned(),
                Kind::Null => "null".to_owned(),
                Kind::Boolean(_) => format!("the boolean {}", quoted(&scalar.text)),
                Kind::Integer(_) | Kind::Float => format!("the number {}", quoted(&scalar.text)),
                Kind::Text => format!("the text {}", quoted(&scalar.text)),
            },
        };
        self.refuse(problems, format!("is {found}, not {wanted}"), remedy)
    }
}

/// A map whose keys are known.
pub(super) struct Map<'field, 'tree> {
    field: &'field Field<'tree>,
    entries: &'tree [(Key, Node)],
    misspelt: Vec<&'static str>,
}

impl<'tree> Map<'_, 'tree> {
    /// Whether an unknown key probably means `key`: then its lack needs no problem of its own.
    pub(super) fn misspells(&self, key: &str) -> bool {
        self.misspelt.contains(&key)
    }

    pub(super) fn get(&self, key: &str) -> Option<Field<'tree>> {
        let (key, node) = self.entries.iter().find(|(name, _)| name.text == key)?;
        Some(self.field.child(&key.text, node))
    }

    /// The value of a key that must be there.
    pub(super) fn required<T>(
        &self,
        key: &str,
        problems: &mut Problems,
        read: impl FnOnce(&Field<'tree>, &mut Problems) -> Option<T>,
    ) -> Option<T> {
        match self.get(key) {
            Some(field) => read(&field, problems),
            None if self.misspells(key) => None,
            None => self.field.refuse(
                problems,
                format!("lacks the key `{key}`"),
                format!("add `{key}:`"),
            ),
        }
    }

    /// The value of a key, or `default` when the key is not there.
    pub(super) fn or<T>(
        &self,
        key: &str,
        default: T,
        problems: &mut Problems,
        read: impl FnOnce(&Field<'tree>, &mut Problems) -> Option<T>,
    ) -> Option<T> {
        match self.get(key) {
            Some(field) => read(&field, problems),
            None => Some(default),
        }
    }
}

/// `` `a`, `b` or `c` ``.
fn alternatives(words: &[&str]) -> String {
    let quoted: Vec<_> = words.iter().map(|word| format!("`{word}`")).collect();
    match quoted.split_last() {
        Some((last, [])) => last.clone(),
        Some((last, others)) => format!("{} or {last}", others.join(", ")),
        None => String::new(),
    }
}
