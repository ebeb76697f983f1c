use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};

use super::*;
use crate::audit::testing::Scratch;

fn write(path: &Path, content: &str) -> Result<(), SafeFileError> {
    Place::open(path)?.write(None, |out| out.write_all(content.as_bytes()))
}

#[test]
fn a_file_is_written_for_its_owner_alone_and_replaces_the_last_one() {
    let scratch = Scratch::new("plain");
    let path = scratch.path("trace.json");
    write(&path, "one, and longer").unwrap();
    write(&path, "two").unwrap();
    assert_eq!(std::fs::read_to_string(&path).unwrap(), "two");
    let mode = std::fs::metadata(&path).unwrap().permissions().mode();
    assert_eq!(mode & 0o7777, 0o600);
    assert_eq!(scratch.names(), vec![OsString::from("trace.json")]);
}

#[test]
fn a_planted_link_is_refused_and_what_it_points_to_stays() {
    let scratch = Scratch::new("link");
    std::fs::write(scratch.path("victim"), "precious").unwrap();
    let path = scratch.path("trace.json");
    write(&path, "before").unwrap();
    std::fs::remove_file(&path).unwrap();
    symlink(scratch.path("victim"), &path).unwrap();
    assert!(matches!(
        write(&path, "after").unwrap_err(),
        SafeFileError::NotAFile { .. }
    ));
    symlink(scratch.path("new"), scratch.path("dangling")).unwrap();
    assert!(write(&scratch.path("dangling"), "after").is_err());
    assert!(!scratch.path("new").exists());
    assert_eq!(
        std::fs::read_to_string(scratch.path("victim")).unwrap(),
        "precious"
    );
    assert_eq!(scratch.names().len(), 3);
}

#[test]
fn a_hard_link_is_replaced_and_its_other_name_stays() {
    let scratch = Scratch::new("hard");
    std::fs::write(scratch.path("victim"), "precious").unwrap();
    std::fs::hard_link(scratch.path("victim"), scratch.path("trace.json")).unwrap();
    write(&scratch.path("trace.json"), "ours").unwrap();
    assert_eq!(
        std::fs::read_to_string(scratch.path("victim")).unwrap(),
        "precious"
    );
}

#[test]
fn a_folder_or_a_pipe_in_its_place_is_refused() {
    let scratch = Scratch::new("special");
    std::fs::create_dir(scratch.path("folder")).unwrap();
    fs::mkfifoat(CWD, scratch.path("pipe"), Mode::RUSR).unwrap();
    for name in ["folder", "pipe"] {
        assert!(matches!(
            write(&scratch.path(name), "x").unwrap_err(),
            SafeFileError::NotAFile { .. }
        ));
    }
}

#[test]
fn a_folder_that_is_a_link_is_refused_with_and_without_openat2() {
    let scratch = Scratch::new("folder");
    std::fs::create_dir(scratch.path("real")).unwrap();
    std::fs::create_dir(scratch.path("real/deeper")).unwrap();
    symlink(scratch.path("real"), scratch.path("link")).unwrap();
    write(&scratch.path("real/deeper/trace.json"), "x").unwrap();
    let error = write(&scratch.path("link/deeper/trace.json"), "x").unwrap_err();
    assert!(
        matches!(error, SafeFileError::LinkedFolder { .. }),
        "{error}"
    );
    assert!(open_step_by_step(&scratch.path("real/deeper")).is_ok());
    for linked in ["link", "link/deeper"] {
        assert_eq!(
            open_step_by_step(&scratch.path(linked)).unwrap_err(),
            Errno::LOOP
        );
    }
    assert_eq!(
        open_step_by_step(&scratch.path("none")).unwrap_err(),
        Errno::NOENT
    );
}

#[test]
fn a_folder_exchanged_after_it_was_opened_does_not_lead_elsewhere() {
    let scratch = Scratch::new("swap");
    std::fs::create_dir(scratch.path("work")).unwrap();
    std::fs::create_dir(scratch.path("victim")).unwrap();
    let place = Place::open(&scratch.path("work/trace.json")).unwrap();
    std::fs::rename(scratch.path("work"), scratch.path("moved")).unwrap();
    symlink(scratch.path("victim"), scratch.path("work")).unwrap();
    place.write(None, |out| out.write_all(b"x")).unwrap();
    assert!(scratch.path("moved/trace.json").exists());
    assert!(!scratch.path("victim/trace.json").exists());
}

#[test]
fn a_temporary_file_that_is_exchanged_is_noticed_and_what_took_its_place_removed() {
    let scratch = Scratch::new("forged");
    let place = Place::open(&scratch.path("trace.json")).unwrap();
    let error = place
        .write(None, |_| {
            let temporary = scratch.names().pop().unwrap();
            std::fs::write(scratch.path("forged"), "all is well")?;
            std::fs::rename(scratch.path("forged"), scratch.folder().join(temporary))
        })
        .unwrap_err();
    assert!(matches!(error, SafeFileError::Exchanged { .. }), "{error}");
    assert!(scratch.names().is_empty());
}

#[test]
fn a_failed_write_leaves_the_last_file_and_nothing_else() {
    let scratch = Scratch::new("failed");
    let path = scratch.path("trace.json");
    write(&path, "one").unwrap();
    let place = Place::open(&path).unwrap();
    let failed = place.write(None, |_| Err(io::Error::other("disk full")));
    assert!(failed.is_err());
    assert_eq!(std::fs::read_to_string(&path).unwrap(), "one");
    assert_eq!(scratch.names().len(), 1);
}

#[test]
fn a_growing_file_is_never_one_that_was_there() {
    let scratch = Scratch::new("new");
    let place = Place::open(&scratch.path("events.jsonl")).unwrap();
    assert!(place.create_new(None).is_ok());
    assert!(place.create_new(None).is_err());
    let place = Place::open(&scratch.path("link")).unwrap();
    symlink("/dev/null", scratch.path("link")).unwrap();
    assert!(place.create_new(None).is_err());
    assert!(Place::open(&scratch.path("link")).is_err());
}

#[test]
fn a_file_is_given_to_the_operator_when_root_writes_it() {
    assert!(
        rustix::process::geteuid().is_root(),
        "this test needs root, to give a file away"
    );
    let scratch = Scratch::new("owner");
    let path = scratch.path("trace.json");
    let owner = Owner {
        uid: 12_345,
        gid: 54_321,
    };
    let place = Place::open(&path).unwrap();
    place.write(Some(owner), |_| Ok(())).unwrap();
    let found = std::fs::metadata(&path).unwrap();
    assert_eq!((found.uid(), found.gid()), (12_345, 54_321));
}

#[test]
fn a_path_without_a_name_is_refused() {
    for path in ["", "..", "/", "/tmp/.."] {
        assert!(matches!(
            Place::open(Path::new(path)).unwrap_err(),
            SafeFileError::NoName { .. }
        ));
    }
}
