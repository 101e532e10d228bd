//! The store's process killed at any moment: what was answered is there, what was not is old or new, never in between.

use std::io::{BufRead as _, BufReader, Write as _};
use std::net::TcpStream;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::Duration;

use store::Credentials;
use time::OffsetDateTime;

use crate::bytes;
use crate::client::{Client, read_answer};

/// How often a run kills it, unless `STORE_KILLS` says otherwise.
const KILLS: u64 = 8;
/// A request takes less, so that some kills are after the answer.
const LONGEST: Duration = Duration::from_millis(15);

/// The store as a program of its own.
struct Process(Child);

impl Process {
    fn start(dir: &Path) -> (Self, Client) {
        let mut child = Command::new(env!("CARGO_BIN_EXE_store"))
            .arg("serve")
            .arg(dir)
            .args(["--listen", "127.0.0.1:0", "--bucket", store::DevStore::BUCKET])
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let lines = BufReader::new(child.stdout.take().unwrap()).lines();
        let told: Vec<_> = lines.take(4).map(|line| line.unwrap()).collect();
        let value = |line: &String| line.split_once('=').unwrap().1.to_owned();
        let [endpoint, region, access_key_id, secret_access_key] = &told[..] else {
            panic!("the store did not start: {told:?}");
        };
        let client = Client {
            address: value(endpoint).strip_prefix("http://").unwrap().parse().unwrap(),
            credentials: Credentials {
                access_key_id: value(access_key_id),
                secret_access_key: value(secret_access_key),
            },
            now: OffsetDateTime::now_utc(),
            expires: 300,
            region: value(region),
        };
        (Self(child), client)
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// A request on its way, answered or not.
fn begin(client: &Client, method: &str, key: &str, query: &[(&str, &str)], body: &[u8]) -> TcpStream {
    let target = client.v4(method, key, query, &[]);
    let mut head = client.head(method, &target, &[]);
    head.push_str(&format!("Content-Length: {}\r\nConnection: close\r\n\r\n", body.len()));
    let mut stream = client.connect();
    stream.write_all(head.as_bytes()).unwrap();
    stream.write_all(body).unwrap();
    stream
}

/// From nothing to the longest, never the same.
fn any_moment() -> Duration {
    let mut random = [0; 4];
    getrandom::fill(&mut random).unwrap();
    LONGEST.mul_f64(f64::from(u32::from_le_bytes(random)) / f64::from(u32::MAX))
}

#[test]
fn a_store_killed_at_any_moment_has_every_object_old_or_new() {
    let kills = std::env::var("STORE_KILLS").map_or(KILLS, |kills| kills.parse().unwrap());
    let dir = tempfile::tempdir().unwrap();
    let body = |number| bytes(60_000, number);
    let (mut process, mut client) = Process::start(dir.path());
    assert_eq!(client.put("put", &body(0)).status, 200);
    let mut there = 0;
    for number in 1..=kills {
        let joined = bytes(70_000, number);
        let id = client.create("joined");
        let etag = client.part("joined", &id, 3, &joined).etag();
        let list = format!(
            "<CompleteMultipartUpload><Part><PartNumber>3</PartNumber><ETag>{etag}</ETag></Part></CompleteMultipartUpload>"
        );
        let mut put = begin(&client, "PUT", "put", &[], &body(number));
        let mut complete = begin(&client, "POST", "joined", &[("uploadId", &id)], list.as_bytes());
        // Not to wait for anything: it is the moment that differs from kill to kill.
        let moment = any_moment();
        thread::sleep(moment);
        drop(process);
        let (put, complete) = (read_answer(&mut put).status, read_answer(&mut complete).status);
        (process, client) = Process::start(dir.path());

        let found = client.get("put");
        if put == 200 || found.body == body(number) {
            there = number;
        }
        assert!(
            found.body == body(there),
            "kill {number} after {moment:?}: the object is neither old nor new"
        );
        let found = client.get("joined");
        if complete == 200 {
            assert!(
                found.body == joined,
                "kill {number} after {moment:?}: what was answered is gone"
            );
        }
        // Whatever became of it: completing is possible, or was done.
        let again = client.complete("joined", &id, &[(3, &etag)]);
        assert_eq!(again.status, 200, "kill {number} after {moment:?}: {}", again.text());
        assert!(client.get("joined").body == joined, "kill {number} after {moment:?}");
    }
    drop(process);
}
