use super::*;
use crate::audit::{query::Filter, segment::RunPart};

/// Everything of a run in segments, as it was written out.
fn sealed(store: &Store, run: &str) -> String {
    let mut out = Vec::new();
    for name in store.segments().unwrap() {
        let segment = store.segment(&name).unwrap();
        let is_it = |part: &RunPart| part.about.run == run;
        let search = segment
            .search(&Filter::default(), &is_it, usize::MAX)
            .unwrap();
        let Some(search) = search else { continue };
        for piece in 0..search.pieces() {
            let each = search.each(piece, |found| {
                assert_eq!(segment.runs()[found.part].about.run, run);
                out.extend_from_slice(found.line);
                out.push(b'\n');
                Ok(())
            });
            each.unwrap();
        }
    }
    String::from_utf8(out).unwrap()
}

fn seal(folder: &Path) -> Sealed {
    let sealed = Writer::open(folder).unwrap().seal(|_| ()).unwrap();
    sealed.expect("nobody else seals it")
}

#[test]
fn segments_give_back_the_very_records_that_were_written_out() {
    let scratch = Scratch::new("sealed");
    let folder = scratch.path("audit");
    let written = ["run-1", "run-2"].map(|run| record(&folder, run));
    let report = seal(&folder);
    assert_eq!(
        (report.runs, report.segments, report.left.len()),
        (2, 1, 0),
        "{report:?}"
    );
    let store = Store::open(&folder).unwrap();
    assert!(store.runs().unwrap().0.is_empty(), "the logs are gone");
    for (run, written) in ["run-1", "run-2"].into_iter().zip(written) {
        assert_eq!(sealed(&store, run), String::from_utf8(written).unwrap());
    }
    let report = verify(&store, None).unwrap();
    assert_eq!(report.troubles, []);
    assert_eq!(
        (report.runs, report.sealed, report.segments, report.lost),
        (2, 2, 1, 2)
    );
    assert_eq!(seal(&folder), Sealed::default(), "nothing is left to do");
}

#[test]
fn what_is_written_or_was_changed_stays_a_log() {
    let scratch = Scratch::new("unsealed");
    let folder = scratch.path("audit");
    record(&folder, "run-1");
    record(&folder, "run-2");
    let _written = log(&folder, "run-4");
    let changed = folder.join("runs/run-1.log");
    let mut bytes = fs::read(&changed).unwrap();
    *bytes.last_mut().unwrap() ^= 1;
    fs::write(&changed, bytes).unwrap();
    let report = seal(&folder);
    assert_eq!(report.runs, 1);
    let [(run, why)] = report.left.as_slice() else {
        panic!("{report:?}");
    };
    assert_eq!(run, "run-1");
    assert!(why.contains("is not what was written"), "{why}");
    let store = Store::open(&folder).unwrap();
    assert_eq!(store.runs().unwrap().0, ["run-1", "run-4"]);
}

#[test]
fn what_a_killed_recorder_left_is_ended_where_it_is_and_sealed() {
    let scratch = Scratch::new("ended");
    let folder = scratch.path("audit");
    let written = record(&folder, "run-1");
    // As if it had been killed within a frame, before it said that it ended.
    let (log_file, ledger) = (folder.join("runs/run-1.log"), folder.join("ledger"));
    let whole = fs::read(&log_file).unwrap();
    fs::write(&log_file, [&whole[..], b"SSL1 and no more"].concat()).unwrap();
    let lines = fs::read_to_string(&ledger).unwrap();
    let began = lines.split_inclusive('\n').next().unwrap();
    fs::write(&ledger, began).unwrap();
    // Another was killed before it had written anything.
    drop(log(&folder, "run-2"));
    fs::write(folder.join("runs/run-2.log"), "").unwrap();
    assert_eq!(seal(&folder).runs, 1);
    let store = Store::open(&folder).unwrap();
    assert_eq!(sealed(&store, "run-1"), String::from_utf8(written).unwrap());
    assert!(store.runs().unwrap().0.is_empty());
    let report = verify(&store, None).unwrap();
    assert_eq!(report.troubles, []);
    assert_eq!((report.killed, report.sealed, report.removed), (1, 1, 1));

    // What is said to be whole is held to it.
    let ended = fs::read_to_string(&ledger).unwrap();
    let ended: Vec<_> = ended.split_inclusive('\n').take(4).collect();
    assert!(ended[2].contains("\"what\":\"killed\""), "{ended:?}");
    fs::write(&ledger, ended.concat()).unwrap();
    fs::remove_dir_all(folder.join("segments")).unwrap();
    Writer::open(&folder).unwrap();
    fs::write(&log_file, &whole).unwrap();
    assert_eq!(verify(&store, None).unwrap().troubles, []);
    let frame = whole.windows(4).rposition(|four| four == b"SSL1").unwrap();
    fs::write(&log_file, &whole[..frame]).unwrap();
    let troubles = verify(&store, None).unwrap().troubles;
    assert!(
        troubles[0].what.contains("whole frames, and had"),
        "{troubles:?}"
    );
}

#[test]
fn a_sealing_that_was_interrupted_is_finished_or_undone_by_the_next() {
    let scratch = Scratch::new("interrupted");
    let folder = scratch.path("audit");
    let written = record(&folder, "run-1");
    let (log, ledger) = (folder.join("runs/run-1.log"), folder.join("ledger"));
    let before = [fs::read(&log).unwrap(), fs::read(&ledger).unwrap()];
    seal(&folder);
    let store = Store::open(&folder).unwrap();
    let name = store.segments().unwrap().remove(0);
    let segment = folder.join("segments").join(&name);

    // It was interrupted before it had said so in the ledger.
    fs::write(&log, &before[0]).unwrap();
    fs::write(&ledger, &before[1]).unwrap();
    fs::copy(&segment, segment.with_extension("parquet.new")).unwrap();
    let troubles = verify(&store, None).unwrap().troubles;
    assert!(
        troubles
            .iter()
            .all(|one| one.what == "is not in the ledger"),
        "{troubles:?}"
    );
    assert_eq!(seal(&folder).runs, 1);
    assert_eq!(store.segment_files().unwrap(), [name]);
    let written = String::from_utf8(written).unwrap();
    assert_eq!(sealed(&store, "run-1"), written);

    // The ledger is an older one, and the log is gone: this is where the records are.
    let ledger_after = fs::read(&ledger).unwrap();
    let others = ["date=2026-01-01/notes", "README"].map(|name| folder.join("segments").join(name));
    for other in &others {
        fs::write(other, "").unwrap();
    }
    fs::write(&ledger, &before[1]).unwrap();
    seal(&folder);
    assert_eq!(store.segment_files().unwrap().len(), 3);
    assert_eq!(
        sealed(&store, "run-1").lines().count(),
        written.lines().count()
    );
    assert!(!verify(&store, None).unwrap().troubles.is_empty());
    fs::write(&ledger, ledger_after).unwrap();
    for other in others {
        fs::remove_file(other).unwrap();
    }

    // It was interrupted after that, and before the log was gone.
    fs::write(&log, &before[0]).unwrap();
    assert_eq!(verify(&store, None).unwrap().troubles, []);
    assert_eq!(seal(&folder), Sealed::default());
    assert!(store.runs().unwrap().0.is_empty());
    assert_eq!(verify(&store, None).unwrap().troubles, []);
}

#[test]
fn two_do_not_seal_at_once() {
    let scratch = Scratch::new("twice");
    let folder = scratch.path("audit");
    record(&folder, "run-1");
    record(&folder, "run-2");
    let writer = Writer::open(&folder).unwrap();
    let mut other = None;
    let sealed = writer.seal(|_| other = Some(Writer::open(&folder).unwrap().seal(|_| ())));
    assert_eq!(sealed.unwrap().unwrap().runs, 2);
    assert!(matches!(other, Some(Ok(None))), "{other:?}");
}

#[test]
fn a_segment_that_is_taken_away_on_purpose_is_not_missed() {
    let scratch = Scratch::new("pruned-segments");
    let folder = scratch.path("audit");
    for run in ["run-1", "run-2"] {
        record(&folder, run);
        seal(&folder);
    }
    let store = Store::open(&folder).unwrap();
    let [first, second] = store.segments().unwrap().try_into().unwrap();
    let length = fs::metadata(folder.join("segments").join(&second))
        .unwrap()
        .len();
    let keep = Keep {
        bytes: Some(length),
        younger_than: None,
    };
    let pruned = Writer::open(&folder).unwrap().prune(keep, false).unwrap();
    let files: Vec<_> = pruned.into_iter().map(|one| one.file).collect();
    assert_eq!(files, [Kept::Segment(first.clone())]);
    assert_eq!(store.segments().unwrap(), std::slice::from_ref(&second));
    assert_eq!(verify(&store, None).unwrap().troubles, []);
    assert_eq!(seal(&folder), Sealed::default());
    // What goes without a word is missed.
    fs::remove_file(folder.join("segments").join(&second)).unwrap();
    let troubles = verify(&store, None).unwrap().troubles;
    assert_eq!(
        troubles[0].file,
        format!("segments/{second}"),
        "{troubles:?}"
    );
}
