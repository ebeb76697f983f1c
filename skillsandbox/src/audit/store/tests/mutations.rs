use std::path::PathBuf;

use proptest::{prelude::*, sample::Index};

use super::*;

/// Something that happens to a store.
#[derive(Clone, Debug)]
enum Mutation {
    Flip(Index, Index, u8),
    Cut(Index, Index),
    Remove(Index, Index, Index),
    Repeat(Index, Index, Index),
    Gone(Index),
    Swap,
    Forget(Index),
    Move(Index, Index),
}

fn mutation() -> impl Strategy<Value = Mutation> {
    let index = || any::<Index>();
    prop_oneof![
        (index(), index(), 0..8u8).prop_map(|(file, at, bit)| Mutation::Flip(file, at, bit)),
        (index(), index()).prop_map(|(file, at)| Mutation::Cut(file, at)),
        (index(), index(), index()).prop_map(|(file, from, to)| Mutation::Remove(file, from, to)),
        (index(), index(), index()).prop_map(|(file, from, to)| Mutation::Repeat(file, from, to)),
        index().prop_map(Mutation::Gone),
        Just(Mutation::Swap),
        index().prop_map(Mutation::Forget),
        (index(), index()).prop_map(|(from, to)| Mutation::Move(from, to)),
    ]
}

impl Mutation {
    /// Whether it changed anything.
    fn happen(&self, folder: &Path, files: &[String]) -> bool {
        let path = |file: &Index| folder.join(file.get(files));
        let changed = |path: PathBuf, change: &dyn Fn(&mut Vec<u8>)| {
            let before = fs::read(&path).unwrap();
            let mut after = before.clone();
            change(&mut after);
            fs::write(path, &after).unwrap();
            before != after
        };
        let range = |from: &Index, to: &Index, length| {
            let (from, to) = (from.index(length), to.index(length));
            from.min(to)..from.max(to) + 1
        };
        let lines = |change: &dyn Fn(&mut Vec<Vec<u8>>)| {
            changed(folder.join("ledger"), &|bytes| {
                let split = bytes.split_inclusive(|byte| *byte == b'\n');
                let mut lines: Vec<_> = split.map(<[u8]>::to_vec).collect();
                change(&mut lines);
                *bytes = lines.concat();
            })
        };
        match self {
            Self::Flip(file, at, bit) => changed(path(file), &|bytes| {
                let at = at.index(bytes.len());
                bytes[at] ^= 1 << bit;
            }),
            Self::Cut(file, at) => {
                changed(path(file), &|bytes| bytes.truncate(at.index(bytes.len())))
            }
            Self::Remove(file, from, to) => changed(path(file), &|bytes| {
                bytes.drain(range(from, to, bytes.len()));
            }),
            Self::Repeat(file, from, to) => changed(path(file), &|bytes| {
                let range = range(from, to, bytes.len());
                let part = bytes[range.clone()].to_vec();
                bytes.splice(range.end..range.end, part);
            }),
            Self::Gone(file) => fs::remove_file(path(file)).is_ok(),
            Self::Swap => {
                let [first, second] = [0, 1].map(|at| folder.join(&files[at]));
                let [one, two] = [&first, &second].map(|file| fs::read(file).unwrap());
                fs::write(first, two).unwrap();
                fs::write(second, one).unwrap();
                true
            }
            Self::Forget(line) => lines(&|lines| {
                lines.remove(line.index(lines.len()));
            }),
            Self::Move(from, to) => lines(&|lines| {
                let line = lines.remove(from.index(lines.len()));
                lines.insert(to.index(lines.len() + 1), line);
            }),
        }
    }
}

/// Mutates a store, made of these files, so often, and sees whether it is seen.
fn mutate(whole: &Path, copy: &Path, files: &[String], times: u32) {
    let mut config = ProptestConfig::with_cases(times);
    config.failure_persistence = None;
    proptest!(config, |(mutation in mutation())| {
        for file in files.iter().map(String::as_str).chain(["key.pub"]) {
            let place = copy.join(file);
            fs::create_dir_all(place.parent().unwrap()).unwrap();
            fs::copy(whole.join(file), place).unwrap();
        }
        let changed = mutation.happen(copy, files);
        let seen = match verify(&Store::open(copy).unwrap(), None) {
            Ok(report) => !report.troubles.is_empty(),
            Err(_) => true,
        };
        prop_assert_eq!(seen, changed, "{:?}", mutation);
    });
}

#[test]
fn of_a_thousand_mutations_none_is_unseen() {
    let scratch = Scratch::new("mutations");
    let whole = scratch.path("whole");
    for run in ["run-1", "run-2"] {
        record(&whole, run);
    }
    let files = ["runs/run-1.log", "runs/run-2.log", "ledger"].map(str::to_owned);
    mutate(&whole, &scratch.path("copy"), &files, 1000);
}

#[test]
fn of_a_thousand_mutations_of_what_is_sealed_none_is_unseen() {
    let scratch = Scratch::new("sealed-mutations");
    let whole = scratch.path("whole");
    for run in ["run-1", "run-2"] {
        record(&whole, run);
        let sealed = Writer::open(&whole).unwrap().seal(|_| ()).unwrap().unwrap();
        assert_eq!(sealed.runs, 1);
    }
    record(&whole, "run-3");
    let segments = Store::open(&whole).unwrap().segments().unwrap();
    let mut files: Vec<_> = segments
        .iter()
        .map(|name| format!("segments/{name}"))
        .collect();
    assert_eq!(files.len(), 2);
    files.extend(["runs/run-3.log", "ledger"].map(str::to_owned));
    mutate(&whole, &scratch.path("copy"), &files, 1000);
}
