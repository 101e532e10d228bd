//! The uploader's `get`, `ls` and `uploads`: objects come back as they were, or not at all.

use std::collections::HashMap;
use std::time::Duration;

use serde_json::Value;
use shared::MIB;
use store::fault::{Fault, get};
use tests::{Program, Stack, cut, multipart_etag, random_bytes, until};

use crate::uploader::{Machine, PART, piped};

#[tokio::test]
async fn what_was_put_comes_back_byte_for_byte_and_is_verified() {
    let stack = Stack::with_downloads().await;
    let machine = Machine::with_broker(&stack.broker.base());
    for (name, size, part_size) in [
        ("empty", 0, "8MiB"),
        ("small ü &+%", 1, "8MiB"),
        ("one part", PART, "8MiB"),
        ("several", 4 * PART + 3, "6MiB"),
    ] {
        let bytes = random_bytes(size);
        machine.file("source", &bytes);
        let put = machine
            .run(&[
                "put",
                "--part-size",
                part_size,
                "--name",
                &format!("folder/{name}"),
                "source",
            ])
            .await;
        assert_eq!(put.code, Some(0), "{put:?}");

        let run = machine.run(&["--json", "get", &format!("folder/{name}")]).await;

        assert_eq!(run.code, Some(0), "{run:?}");
        let last: Value = serde_json::from_str(run.stdout.lines().next_back().unwrap()).unwrap();
        assert_eq!(
            (&last["event"], &last["verified"]),
            (&"fetched".into(), &true.into()),
            "{run:?}"
        );
        assert!(
            std::fs::read(machine.path().join(name)).unwrap() == bytes,
            "{name} differs"
        );
    }
    let left: Vec<_> = std::fs::read_dir(machine.path())
        .unwrap()
        .map(|entry| entry.unwrap().file_name())
        .filter(|name| name != ".local")
        .collect();
    assert_eq!(left.len(), 5, "drafts stay behind: {left:?}");
}

#[tokio::test]
async fn a_file_that_is_there_is_not_overwritten_unless_that_is_said() {
    let stack = Stack::with_downloads().await;
    let machine = Machine::with_broker(&stack.broker.base());
    stack.bucket.put("a", b"new", &HashMap::new()).await;
    machine.file("a", b"old");

    let refused = machine.run(&["get", "a"]).await;
    assert_eq!(refused.code, Some(1), "{refused:?}");
    assert!(refused.stderr.contains("--overwrite"), "{refused:?}");
    assert_eq!(std::fs::read(machine.path().join("a")).unwrap(), b"old");

    let run = machine.run(&["get", "--overwrite", "a"]).await;
    assert_eq!(run.code, Some(0), "{run:?}");
    assert_eq!(std::fs::read(machine.path().join("a")).unwrap(), b"new");
}

#[tokio::test]
async fn ranges_that_do_not_arrive_are_asked_for_again() {
    let stack = Stack::with_downloads().await;
    let machine = Machine::with_broker(&stack.broker.base());
    let bytes = random_bytes(20 * MIB);
    stack.bucket.put("a", &bytes, &HashMap::new()).await;
    for fault in [
        Fault::CutConnection,
        Fault::InternalError,
        Fault::SlowDown { retry_after: None },
    ] {
        stack.store.faulty().inject(fault, get());
    }

    let run = machine.run(&["get", "a"]).await;

    assert_eq!(run.code, Some(0), "{run:?}");
    assert_eq!(stack.store.faulty().attempts(get()), 3 + 3);
    assert!(std::fs::read(machine.path().join("a")).unwrap() == bytes);
}

#[tokio::test]
async fn an_object_that_is_replaced_meanwhile_is_exit_4_and_leaves_no_file() {
    let stack = Stack::with_downloads().await;
    let machine = Machine::with_broker(&stack.broker.base());
    stack.bucket.put("a", &random_bytes(20 * MIB), &HashMap::new()).await;
    let store = stack.store.faulty();
    store.inject(Fault::Delay(Duration::from_secs(1)), get());

    let downloading = machine.run(&["get", "--concurrency", "1", "a"]);
    let replacing = async {
        until(|| store.attempts(get()) == 1).await;
        stack.bucket.put("a", &random_bytes(20 * MIB), &HashMap::new()).await;
    };
    let (run, ()) = tokio::join!(downloading, replacing);

    assert_eq!(run.code, Some(4), "{run:?}");
    assert!(run.stderr.contains("was replaced or deleted"), "{run:?}");
    assert_eq!(std::fs::read_dir(machine.path()).unwrap().count(), 0);
}

#[tokio::test]
async fn what_cannot_be_had_is_said_and_leaves_no_file() {
    let stack = Stack::with_downloads().await;
    let machine = Machine::with_broker(&stack.broker.base());
    stack.bucket.put("a", b"content", &HashMap::new()).await;
    for (arguments, code, said) in [
        (&["get", "b"][..], 1, "no_such_object"),
        (&["get", "a", "nowhere/a"], 1, "check that the directory is there"),
        (&["get", "folder/"], 2, "`uploader ls folder/` lists what is in it"),
    ] {
        let run = machine.run(arguments).await;
        assert_eq!(run.code, Some(code), "{run:?}");
        assert!(run.stderr.contains(said), "{run:?}");
    }
    assert_eq!(std::fs::read_dir(machine.path()).unwrap().count(), 0);

    let closed = Stack::start().await;
    let machine = Machine::with_broker(&closed.broker.base());
    for arguments in [&["get", "a"][..], &["ls"]] {
        let run = machine.run(arguments).await;
        assert_eq!(run.code, Some(3), "{run:?}");
        assert!(run.stderr.contains("ask whoever runs the broker"), "{run:?}");
    }
}

#[tokio::test]
async fn listings_are_lines_for_people_and_json_lines_for_machines() {
    let stack = Stack::with_downloads().await;
    let machine = Machine::with_broker(&stack.broker.base());
    for key in ["a", "b/1", "b/2", "b/c/3"] {
        stack.bucket.put(key, b"content", &HashMap::new()).await;
    }
    let open = stack.api.create("left open", 7).await;

    let folders = machine.run(&["ls"]).await;
    let shown: Vec<_> = folders
        .stdout
        .lines()
        .map(|line| line.rsplit("  ").next().unwrap())
        .collect();
    assert_eq!(shown, ["b/", "a"], "{folders:?}");
    let all = machine.run(&["--json", "ls", "--recursive", "b/"]).await;
    let keys: Vec<Value> = all
        .stdout
        .lines()
        .map(|line| serde_json::from_str::<Value>(line).unwrap()["key"].clone())
        .collect();
    assert_eq!(keys, ["b/1", "b/2", "b/c/3"]);
    let uploads = machine.run(&["uploads"]).await;
    assert!(
        uploads.stdout.contains(open.upload_id.as_str()) && uploads.stdout.ends_with("left open\n"),
        "{uploads:?}"
    );
    assert!(uploads.stdout.contains("  7 B  until "), "{uploads:?}");
    stack.api.delete(&format!("/v1/uploads/{}", open.upload_id)).await;
    for (arguments, said) in [
        (&["ls", "none"][..], "no objects whose keys begin with none"),
        (&["uploads"], "no upload is open"),
    ] {
        let run = machine.run(arguments).await;
        assert_eq!((run.code, run.stdout.as_str()), (Some(0), ""), "{run:?}");
        assert!(run.stderr.contains(said), "{run:?}");
        let json = machine.run(&[&["--json"], arguments].concat()).await;
        assert_eq!(json.stdout + &json.stderr, "", "nothing is no entry");
    }
}

#[tokio::test]
async fn what_one_may_do_is_told_in_sizes_and_times_that_people_read() {
    for (stack, may) in [
        (Stack::start().await, "not allowed"),
        (Stack::with_downloads().await, "allowed"),
    ] {
        let machine = Machine::with_broker(&stack.broker.base());
        let run = machine.run(&["whoami"]).await;
        assert_eq!(run.code, Some(0), "{run:?}");
        for said in [
            "up to 5.00 TiB",
            &format!("listing and downloading are {may}"),
            "up to 10000, of 5.00 MiB to 5.00 GiB",
        ] {
            assert!(run.stdout.contains(said), "{run:?}");
        }
    }
    let stack = Stack::start().await;
    let machine = Machine::with_broker(&stack.broker.base());
    let open = stack.api.create("left open", 20 << 20).await;
    let run = machine.run(&["status", open.upload_id.as_str()]).await;
    for said in ["20.00 MiB", "3 parts of 8.00 MiB", "0 parts, 0 B"] {
        assert!(run.stdout.contains(said), "{run:?}");
    }
}

#[tokio::test]
async fn only_a_regular_file_is_replaced_and_its_permissions_stay() {
    use std::os::unix::fs::PermissionsExt as _;
    let stack = Stack::with_downloads().await;
    let machine = Machine::with_broker(&stack.broker.base());
    stack.bucket.put("a", b"new", &HashMap::new()).await;
    let private = machine.file("private", b"old");
    std::fs::set_permissions(&private, std::fs::Permissions::from_mode(0o600)).unwrap();
    std::os::unix::fs::symlink("private", machine.path().join("link")).unwrap();

    let run = machine.run(&["get", "--overwrite", "a", "link"]).await;
    assert_eq!(run.code, Some(1), "{run:?}");
    assert!(run.stderr.contains("no regular file"), "{run:?}");
    assert_eq!(std::fs::read(&private).unwrap(), b"old");

    let run = machine.run(&["get", "--overwrite", "a", "private"]).await;
    assert_eq!(run.code, Some(0), "{run:?}");
    assert_eq!(std::fs::read(&private).unwrap(), b"new");
    assert_eq!(std::fs::metadata(&private).unwrap().permissions().mode() & 0o777, 0o600);
}

#[tokio::test]
async fn a_download_that_finds_no_room_is_told_as_that_and_leaves_no_file() {
    let stack = Stack::with_downloads().await;
    let machine = Machine::with_broker(&stack.broker.base());
    machine.file("source", &random_bytes(PART));
    assert_eq!(machine.run(&["put", "--name", "a", "source"]).await.code, Some(0));

    // No file may become larger than a few blocks: what a disk says that is full, without one.
    let script = r#"trap '' XFSZ; ulimit -f 8; exec "$0" "$@""#;
    let arguments = ["-c", script, env!("CARGO_BIN_EXE_uploader-under-test"), "get", "a"];
    let run = Program::at("/bin/sh")
        .run(machine.path(), arguments, &machine.environment)
        .await;

    assert_eq!(run.code, Some(1), "{run:?}");
    assert!(run.stderr.contains("a: could not be written"), "{}", run.stderr);
    let left: Vec<_> = std::fs::read_dir(machine.path())
        .unwrap()
        .map(|entry| entry.unwrap().file_name())
        .collect();
    assert_eq!(left, ["source"]);
}

#[tokio::test]
async fn a_stream_whose_parts_may_grow_comes_back_and_is_verified() {
    let stack = Stack::with_downloads().await;
    let machine = Machine::with_broker(&stack.broker.base());
    let bytes = random_bytes(17 * MIB);
    let put = piped(&machine, &["put", "--name", "dump", "-"], bytes.clone()).await;
    assert_eq!(put.code, Some(0), "{put:?}");
    let object = stack.bucket.get("dump").await.unwrap();
    assert_eq!(object.etag, multipart_etag(cut(&bytes, 16 * MIB)));

    let run = machine.run(&["--json", "get", "dump"]).await;

    assert_eq!(run.code, Some(0), "{run:?}");
    assert!(run.stdout.contains(r#""verified":true"#), "{}", run.stdout);
    assert!(std::fs::read(machine.path().join("dump")).unwrap() == bytes);
}
