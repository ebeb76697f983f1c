//! What columns alone decide: rows that cannot be what is asked for are never made records.

use std::{collections::BTreeSet, sync::Arc};

use arrow_array::{
    Array, ArrayRef, BooleanArray, DictionaryArray, RecordBatch, StringArray,
    TimestampNanosecondArray, UInt32Array, types::Int32Type,
};
use arrow_schema::ArrowError;
use globset::GlobMatcher;
use parquet::{
    arrow::{
        ProjectionMask,
        arrow_reader::{ArrowPredicate, ArrowPredicateFn},
    },
    schema::types::SchemaDescriptor,
};

use crate::audit::query::{Filter, Process, REPEAT, RuleIs};

/// The columns with ids of threads and processes.
pub(super) const IDS: [&str; 2] = ["tgid", "pid"];

/// A condition on a text.
type Holds = Box<dyn FnMut(&str) -> bool + Send>;

/// A condition on columns. A row without a value does not meet it.
pub(super) enum Condition {
    /// At the first or later, and before the last.
    Time(i64, i64),
    /// One of these columns has a text like this.
    Text(&'static [&'static str], Holds),
    /// One of these columns has this number.
    Number(&'static [&'static str], u64),
}

/// The conditions that must hold where a filter does, of rows in its time or not. The cheap ones, and those that most rows
/// fail, first.
pub(super) fn conditions(
    filter: &Filter,
    runs: Option<BTreeSet<String>>,
    is_within: bool,
) -> Vec<Condition> {
    let mut conditions = Vec::new();
    let text = |column, holds: Holds| Condition::Text(column, holds);
    if let Some(runs) = runs {
        conditions.push(text(&["run"], Box::new(move |run| runs.contains(run))));
    }
    if let Some(verdict) = filter.verdict.clone() {
        conditions.push(text(&["verdict"], Box::new(move |text| text == verdict)));
    }
    if !is_within && (filter.since.is_some() || filter.until.is_some()) {
        let (first, last) = filter.window();
        conditions.push(Condition::Time(first, last));
    }
    match &filter.process {
        Some(Process::Id(id)) => conditions.push(Condition::Number(&IDS, *id)),
        Some(Process::Program(glob)) => {
            let like = like(std::slice::from_ref(glob));
            conditions.push(text(&["executable", "comm"], like));
        }
        None => {}
    }
    if !filter.kinds.is_empty() {
        let kinds = filter.kinds.clone();
        // What was done once more can be of any.
        let is_one = move |kind: &str| kind == REPEAT || kinds.iter().any(|wanted| wanted == kind);
        conditions.push(text(&["kind"], Box::new(is_one)));
    }
    if !filter.names.is_empty() {
        conditions.push(text(&["name"], like(&filter.names)));
    }
    match &filter.rule {
        Some(RuleIs::Number(number)) => conditions.push(Condition::Number(&["rule"], *number)),
        Some(RuleIs::Text(glob)) => {
            conditions.push(text(&["rule_text"], like(std::slice::from_ref(glob))));
        }
        None => {}
    }
    if !filter.paths.is_empty() {
        conditions.push(text(&["path"], like(&filter.paths)));
    }
    conditions
}

/// Whether a text is like one of these. Most begin otherwise, and are not looked at any further.
fn like(globs: &[GlobMatcher]) -> Holds {
    let globs: Vec<_> = globs
        .iter()
        .map(|glob| (beginning(glob).to_owned(), glob.clone()))
        .collect();
    Box::new(move |text| {
        let is_like = |(beginning, glob): &(String, GlobMatcher)| {
            text.starts_with(beginning) && glob.is_match(text)
        };
        globs.iter().any(is_like)
    })
}

/// What everything that is like this begins with: the pattern up to the first character with a meaning.
fn beginning(glob: &GlobMatcher) -> &str {
    let pattern = glob.glob().glob();
    pattern
        .split(['*', '?', '[', '{', '\\'])
        .next()
        .unwrap_or_default()
}

impl Condition {
    /// As the reader takes it.
    pub(super) fn predicate(self, schema: &SchemaDescriptor) -> Box<dyn ArrowPredicate> {
        match self {
            Self::Time(first, last) => predicate(schema, &["time"], move |column| {
                let times = column.as_any().downcast_ref::<TimestampNanosecondArray>();
                times.map(|times| BooleanArray::from_unary(times, |at| first <= at && at < last))
            }),
            Self::Number(columns, number) => predicate(schema, columns, move |column| {
                let numbers = column.as_any().downcast_ref::<UInt32Array>();
                let is_it = |at: u32| u64::from(at) == number;
                numbers.map(|numbers| BooleanArray::from_unary(numbers, is_it))
            }),
            Self::Text(columns, mut holds) => {
                let mut seen: Vec<(ArrayRef, Vec<bool>)> = Vec::new();
                predicate(schema, columns, move |column| {
                    let column = column
                        .as_any()
                        .downcast_ref::<DictionaryArray<Int32Type>>()?;
                    let texts = column.values();
                    // Batches of a group share the texts.
                    if !seen.iter().any(|(known, _)| Arc::ptr_eq(known, texts)) {
                        seen.truncate(columns.len());
                        let each = texts.as_any().downcast_ref::<StringArray>()?.iter();
                        let each = each.map(|text| text.is_some_and(&mut holds)).collect();
                        seen.insert(0, (Arc::clone(texts), each));
                    }
                    let (_, which) = seen.iter().find(|(known, _)| Arc::ptr_eq(known, texts))?;
                    let holds = |key: i32| {
                        let key = usize::try_from(key).ok();
                        key.and_then(|key| which.get(key)).copied().unwrap_or(false)
                    };
                    Some(BooleanArray::from_unary(column.keys(), holds))
                })
            }
        }
    }
}

/// Rows for which one of these columns holds.
fn predicate(
    schema: &SchemaDescriptor,
    columns: &[&'static str],
    mut holds: impl FnMut(&ArrayRef) -> Option<BooleanArray> + Send + 'static,
) -> Box<dyn ArrowPredicate> {
    let mask = ProjectionMask::columns(schema, columns.iter().copied());
    Box::new(ArrowPredicateFn::new(mask, move |batch: RecordBatch| {
        let mut all: Option<BooleanArray> = None;
        for column in batch.columns() {
            let one = holds(column).ok_or_else(|| {
                ArrowError::SchemaError("a column is of a type that it should not be of".to_owned())
            })?;
            // What is said of a row without a value means nothing.
            let one = match one.nulls() {
                None => one,
                Some(nulls) => BooleanArray::new(one.values() & nulls.inner(), None),
            };
            all = Some(match all {
                None => one,
                Some(before) => BooleanArray::new(before.values() | one.values(), None),
            });
        }
        all.ok_or_else(|| ArrowError::SchemaError("a column is missing".to_owned()))
    }))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::audit::query::{glob, path_glob};

    fn joined(parts: &'static [&'static str], most: usize) -> impl Strategy<Value = String> {
        prop::collection::vec(prop::sample::select(parts), 0..most).prop_map(|parts| parts.concat())
    }

    proptest! {
        #[test]
        fn what_is_compared_less_is_found_all_the_same(
            pattern in joined(&["a", "b.c", "/", "..", "*", "**", "?", "{a,b}", "[!b]", "\\*"], 5),
            texts in prop::collection::vec(joined(&["a", "b", ".c", "/", "..", "*"], 5), 40),
        ) {
            for glob in [path_glob(&pattern), glob(&pattern)].into_iter().flatten() {
                let mut like = like(std::slice::from_ref(&glob));
                for text in &texts {
                    prop_assert_eq!(like(text), glob.is_match(text), "{:?} {:?}", &pattern, text);
                }
            }
        }
    }
}
