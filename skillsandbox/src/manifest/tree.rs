//! YAML as a tree whose every value knows its place.
//!
//! Sizes are checked as the scanner goes, so that a hostile file is refused before it is held in
//! memory. Anchors, aliases, tags and merge keys are refused: a reviewer sees what is granted
//! where it is written, and nothing expands.

use std::collections::HashMap;

use saphyr_parser::{Event, Marker, Parser, ScalarStyle, Span, StrInput};

use super::error::{Position, Problems, Refusal};
use super::limits::{NESTING_MAX, NODES_MAX};
use super::scalar::{Kind, Scalar};
use super::text::{is_deceptive, quoted};

/// A value and where it starts.
#[derive(Debug)]
pub(super) struct Node {
    pub(super) value: Value,
    pub(super) position: Position,
}

/// What a node holds.
#[derive(Debug)]
pub(super) enum Value {
    Scalar(Scalar),
    Sequence(Vec<Node>),
    /// Each key once, in the order of the file.
    Mapping(Vec<(Key, Node)>),
    /// Its problem is already listed; readers pass over it in silence.
    Refused,
}

/// The key of a mapping's entry.
#[derive(Debug)]
pub(super) struct Key {
    pub(super) text: String,
    pub(super) position: Position,
}

/// Reads the one document of `text`. `None` when it cannot be read to its end; then, and for
/// everything refused on the way, `problems` says why.
pub(super) fn read(text: &str, problems: &mut Problems) -> Option<Node> {
    let mut builder = Builder {
        parser: Parser::new_from_str(text),
        end: end_of(text),
        problems,
        nodes: 0,
    };
    match builder.document() {
        Ok(root) => Some(root),
        Err(Fatal { position, refusal }) => {
            problems.add(position, refusal);
            None
        }
    }
}

/// A problem behind which nothing can be read.
struct Fatal {
    position: Option<Position>,
    refusal: Refusal,
}

impl Fatal {
    fn at(position: Position, message: impl Into<String>, remedy: impl Into<String>) -> Self {
        Self {
            position: Some(position),
            refusal: Refusal::new(message, remedy),
        }
    }
}

struct Builder<'text, 'problems> {
    parser: Parser<'text, StrInput<'text>>,
    end: Position,
    problems: &'problems mut Problems,
    nodes: usize,
}

impl<'text> Builder<'text, '_> {
    fn next(&mut self) -> Result<(Event<'text>, Position), Fatal> {
        match self.parser.next_event() {
            Some(Ok((event, Span { start, .. }))) => {
                let position = self.inside(position_of(start));
                Ok((event, position))
            }
            Some(Err(error)) => Err(Fatal::at(
                self.inside(position_of(*error.marker())),
                format!("this cannot be read as YAML: {}", error.info()),
                "check the indentation, quotes and brackets here and on the line above",
            )),
            None => Ok((Event::StreamEnd, FIRST)),
        }
    }

    /// The parser takes a last line without an end for one with it, and names the line behind.
    fn inside(&self, position: Position) -> Position {
        if position.line > self.end.line {
            self.end
        } else {
            position
        }
    }

    fn document(&mut self) -> Result<Node, Fatal> {
        loop {
            match self.next()? {
                (Event::DocumentStart(_), _) => break,
                (Event::StreamEnd, _) => {
                    return Err(Fatal::at(
                        FIRST,
                        "the manifest is empty",
                        "write `skill`, `permissions` and `entrypoint`",
                    ));
                }
                _ => {}
            }
        }
        let (event, position) = self.next()?;
        let root = self.node(event, position, 0)?;
        loop {
            match self.next()? {
                (Event::StreamEnd, _) => return Ok(root),
                (Event::DocumentStart(_), position) => {
                    return Err(Fatal::at(
                        position,
                        "a second document starts here",
                        "keep one manifest per file and remove the `---`",
                    ));
                }
                _ => {}
            }
        }
    }

    fn node(&mut self, event: Event<'_>, position: Position, depth: usize) -> Result<Node, Fatal> {
        self.count(position, depth)?;
        let (value, anchor, is_tagged) = match event {
            Event::Scalar(text, style, anchor, tag) => {
                let scalar = Scalar {
                    text: text.into_owned(),
                    is_plain: style == ScalarStyle::Plain,
                };
                (Value::Scalar(scalar), anchor, tag.is_some())
            }
            Event::SequenceStart(anchor, tag) => (self.sequence(depth)?, anchor, tag.is_some()),
            Event::MappingStart(anchor, tag) => (self.mapping(depth)?, anchor, tag.is_some()),
            Event::Alias(_) => {
                self.problems.add(
                    Some(position),
                    Refusal::new("aliases (`*name`) are not read", "write the value out here"),
                );
                (Value::Refused, 0, false)
            }
            _ => {
                return Err(Fatal::at(
                    position,
                    "a value is missing",
                    "write one, or remove its key",
                ));
            }
        };
        let is_refused = self.refuse_anchor_and_tag(position, anchor, is_tagged)
            || self.refuse_deceptive_text(position, &value);
        let value = if is_refused { Value::Refused } else { value };
        Ok(Node { value, position })
    }

    fn sequence(&mut self, depth: usize) -> Result<Value, Fatal> {
        let mut items = Vec::new();
        loop {
            match self.next()? {
                (Event::SequenceEnd, _) => return Ok(Value::Sequence(items)),
                (event, position) => items.push(self.node(event, position, depth + 1)?),
            }
        }
    }

    fn mapping(&mut self, depth: usize) -> Result<Value, Fatal> {
        let mut entries = Vec::new();
        let mut lines = HashMap::new();
        loop {
            let key = match self.next()? {
                (Event::MappingEnd, _) => return Ok(Value::Mapping(entries)),
                (event, position) => self.node(event, position, depth + 1)?,
            };
            let (event, position) = self.next()?;
            let value = self.node(event, position, depth + 1)?;
            if let Some(key) = self.key(key) {
                if let Some(line) = lines.insert(key.text.clone(), key.position.line) {
                    self.problems.add(
                        Some(key.position),
                        Refusal::new(
                            format!("key {} is already on line {line}", quoted(&key.text)),
                            "keep one of the two",
                        ),
                    );
                } else {
                    entries.push((key, value));
                }
            }
        }
    }

    fn key(&mut self, node: Node) -> Option<Key> {
        let refusal = match node.value {
            Value::Refused => return None,
            Value::Scalar(scalar) if scalar.is_plain && scalar.text == "<<" => {
                Refusal::new("merge keys (`<<`) are not read", "write the keys out here")
            }
            Value::Scalar(scalar) if !matches!(scalar.kind(), Kind::Absent | Kind::Null) => {
                return Some(Key {
                    text: scalar.text,
                    position: node.position,
                });
            }
            _ => Refusal::new("a key must be a name", "write `name: value`"),
        };
        self.problems.add(Some(node.position), refusal);
        None
    }

    /// Keeps the tree small. Keys count as values do.
    fn count(&mut self, position: Position, depth: usize) -> Result<(), Fatal> {
        self.nodes += 1;
        if depth > NESTING_MAX {
            return Err(Fatal::at(
                position,
                format!("lists and maps are nested more than {NESTING_MAX} deep"),
                "the manifest needs 6 levels at most: remove the brackets or indentation here",
            ));
        }
        if self.nodes > NODES_MAX {
            return Err(Fatal::at(
                position,
                format!("the manifest holds more than {NODES_MAX} values"),
                "grant folders and networks rather than every file and address in them",
            ));
        }
        Ok(())
    }

    fn refuse_anchor_and_tag(&mut self, at: Position, anchor: usize, is_tagged: bool) -> bool {
        if anchor > 0 {
            self.problems.add(
                Some(at),
                Refusal::new(
                    "anchors (`&name`) are not read",
                    "write the value out wherever it is needed",
                ),
            );
        }
        if is_tagged {
            self.problems.add(
                Some(at),
                Refusal::new(
                    "tags (`!name`) are not read",
                    "remove the tag and keep the value",
                ),
            );
        }
        anchor > 0 || is_tagged
    }

    /// Quotes can spell characters (`"\0"`) that the file itself may not hold. Newlines and tabs
    /// are left to the readers, as a description may hold them.
    fn refuse_deceptive_text(&mut self, at: Position, value: &Value) -> bool {
        let Value::Scalar(scalar) = value else {
            return false;
        };
        let found = scalar
            .text
            .chars()
            .find(|&character| is_deceptive(character) && !matches!(character, '\n' | '\t'));
        if let Some(character) = found {
            self.problems.add(Some(at), deceptive(character));
        }
        found.is_some()
    }
}

/// The refusal of a control character or an invisible one.
pub(super) fn deceptive(character: char) -> Refusal {
    Refusal::new(
        format!(
            "the text holds the invisible character U+{:04X}",
            u32::from(character)
        ),
        "remove it",
    )
}

/// Where every file starts.
pub(super) const FIRST: Position = Position { line: 1, column: 1 };

/// The position behind the last character. Lines end as in YAML 1.2, 5.4.
fn end_of(text: &str) -> Position {
    let narrow = |number: usize| u32::try_from(number).unwrap_or(u32::MAX);
    let paired = text.matches("\r\n").count();
    let breaks = text.matches(['\n', '\r']).count() - paired;
    let last = text.rsplit(['\n', '\r']).next().unwrap_or_default();
    Position {
        line: FIRST.line + narrow(breaks),
        column: FIRST.column + narrow(last.chars().count()),
    }
}

fn position_of(marker: Marker) -> Position {
    // The file's size limit keeps both far below 2^32.
    let narrow = |number: usize| u32::try_from(number).unwrap_or(u32::MAX);
    Position {
        line: narrow(marker.line()),
        column: narrow(marker.col()).saturating_add(1),
    }
}
