use std::time::Duration;

use super::*;

fn pair() -> (Connection, Connection) {
    let (one, other) = UnixStream::pair().unwrap();
    (Connection(one), Connection(other))
}

fn soon(connection: &Connection) -> Result<(Vec<u8>, Vec<OwnedFd>), ServiceError> {
    connection.hear(Some(Instant::now() + Duration::from_millis(200)))
}

fn asked() -> Asked {
    Asked {
        version: VERSION,
        run: AskedRun {
            manifest: "skill: {}".to_owned(),
            manifest_file: "skill.yaml".to_owned(),
            skill_dir: "/".into(),
            ..AskedRun::default()
        },
    }
}

#[test]
fn a_message_comes_whole_and_with_its_descriptors() {
    let (one, other) = pair();
    let null = std::fs::File::open("/dev/null").unwrap();
    one.say(&asked(), &[null.as_fd()]).unwrap();
    one.say(&Answer::Accepted {}, &[]).unwrap();
    let (message, descriptors) = soon(&other).unwrap();
    assert_eq!(Asked::parse(&message).unwrap(), asked());
    assert_eq!(descriptors.len(), 1);
    let (message, descriptors) = soon(&other).unwrap();
    assert_eq!(message, br#"{"accepted":{}}"#);
    assert!(descriptors.is_empty());
}

#[test]
fn what_is_cut_late_or_too_long_is_an_error() {
    let (one, other) = pair();
    assert!(matches!(soon(&other), Err(ServiceError::Late)));
    (&one.0).write_all(&[0, 0, 0, 9, b'{']).unwrap();
    assert!(matches!(soon(&other), Err(ServiceError::Late)));
    let (one, other) = pair();
    (&one.0).write_all(&[0, 0, 0, 9, b'{']).unwrap();
    drop(one);
    assert!(matches!(soon(&other), Err(ServiceError::Closed)));
    let (one, other) = pair();
    (&one.0).write_all(&[0, 0x10, 0, 1]).unwrap();
    let heard = soon(&other);
    assert!(matches!(
        heard,
        Err(ServiceError::TooLong { bytes: 0x10_0001 })
    ));
}

#[test]
fn who_dribbles_is_late_all_the_same() {
    let (one, other) = pair();
    let dribble = std::thread::spawn(move || {
        // Until the other side is gone.
        while (&one.0).write_all(b"\0\x01\0\0").is_ok() {
            std::thread::sleep(Duration::from_millis(20));
        }
    });
    assert!(matches!(soon(&other), Err(ServiceError::Late)));
    drop(other);
    dribble.join().unwrap();
}

#[test]
fn a_request_is_understood_as_a_whole_or_not_at_all() {
    let parse = |text: &str| Asked::parse(text.as_bytes()).unwrap_err().to_string();
    assert!(parse("").contains("no message"));
    assert!(parse(&"[".repeat(100_000)).contains("no message"));
    assert!(parse(r#"{"run":{}}"#).contains("version no "));
    assert!(parse(r#"{"version":2,"walk":{}}"#).contains("version 2 "));
    assert!(
        parse(r#"{"version":1,"run":{"manifest":"","manifest_file":"a","skill_dir":"/","user":"root"}}"#)
            .contains("unknown field")
    );
    let wrong = |change: fn(&mut AskedRun)| {
        let mut asked = asked();
        change(&mut asked.run);
        parse(&serde_json::to_string(&asked).unwrap())
    };
    assert!(wrong(|run| run.manifest_file = "a\nb".to_owned()).contains("manifest_file"));
    assert!(wrong(|run| run.skill_dir = "skill".into()).contains("skill_dir"));
    assert!(wrong(|run| run.command = Some(Vec::new())).contains("command"));
    assert!(wrong(|run| run.arguments = vec!["a\0".to_owned()]).contains("argument"));
    assert!(
        wrong(|run| drop(run.environment.insert("A=B".to_owned(), String::new())))
            .contains("environment")
    );
}
