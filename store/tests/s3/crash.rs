//! The store's process killed at any moment: what was answered is there, what was not is old or new, never in between.

use std::io::{BufRead as _, BufReader, Write as _};
use std::net::TcpStream;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use store::Credentials;
use time::OffsetDateTime;

use crate::bytes;
use crate::client::{Client, read_answer};

/// How often a run kills it, unless `STORE_KILLS` says otherwise.
const KILLS: u64 = 8;

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

/// From nothing to `longest`, never the same.
fn any_moment(longest: Duration) -> Duration {
    let mut random = [0; 4];
    getrandom::fill(&mut random).unwrap();
    longest.mul_f64(f64::from(u32::from_le_bytes(random)) / f64::from(u32::MAX))
}

/// An upload of one part of the key `joined`, and what completes it.
struct Joined {
    id: String,
    etag: String,
    list: String,
}

impl Joined {
    fn create(client: &Client, body: &[u8]) -> Self {
        let id = client.create("joined");
        let etag = client.part("joined", &id, 3, body).etag();
        let part = format!("<Part><PartNumber>3</PartNumber><ETag>{etag}</ETag></Part>");
        let list = format!("<CompleteMultipartUpload>{part}</CompleteMultipartUpload>");
        Self { id, etag, list }
    }

    /// A PUT of `body` and the Complete, both on their way.
    fn begin(&self, client: &Client, body: &[u8]) -> [TcpStream; 2] {
        let query = [("uploadId", &*self.id)];
        let put = begin(client, "PUT", "put", &[], body);
        [put, begin(client, "POST", "joined", &query, self.list.as_bytes())]
    }
}

fn statuses(mut under_way: [TcpStream; 2]) -> [u16; 2] {
    under_way.each_mut().map(|stream| read_answer(stream).status)
}

/// What became of a request on its way at a kill.
#[derive(Debug, Default)]
struct Outcomes {
    /// It was answered.
    answered: u64,
    /// It was not, and yet it was done.
    done: u64,
    /// Nothing of it is to be seen.
    not_done: u64,
}

impl Outcomes {
    fn count(&mut self, status: u16, done: bool) {
        match (status, done) {
            (200, _) => self.answered += 1,
            (_, true) => self.done += 1,
            (_, false) => self.not_done += 1,
        }
    }
}

#[test]
#[allow(clippy::print_stderr)] // Where the kills fell differs from machine to machine.
fn a_store_killed_at_any_moment_has_every_object_old_or_new() {
    let kills = std::env::var("STORE_KILLS").map_or(KILLS, |kills| kills.parse().unwrap());
    let dir = tempfile::tempdir().unwrap();
    let body = |number| bytes(60_000, number);
    let (mut process, mut client) = Process::start(dir.path());
    // Not killed: as long as that takes is how long kills have to fall into.
    let unharmed = Joined::create(&client, b"joined");
    let since = Instant::now();
    assert_eq!(statuses(unharmed.begin(&client, &body(0))), [200, 200]);
    let longest = since.elapsed();
    let (mut puts, mut completes) = (Outcomes::default(), Outcomes::default());
    let mut there = 0;
    for number in 1..=kills {
        let joined = bytes(70_000, number);
        let upload = Joined::create(&client, &joined);
        let under_way = upload.begin(&client, &body(number));
        // Not to wait for anything: it is the moment that differs from kill to kill.
        let moment = any_moment(longest);
        thread::sleep(moment);
        drop(process);
        let [put, complete] = statuses(under_way);
        (process, client) = Process::start(dir.path());

        let found = client.get("put");
        if put == 200 || found.body == body(number) {
            there = number;
        }
        assert!(
            found.body == body(there),
            "kill {number} after {moment:?}: the object is neither old nor new"
        );
        puts.count(put, there == number);
        let open = client.list_parts("joined", &upload.id, "0").status == 200;
        let found = client.get("joined");
        completes.count(complete, !open);
        // An upload that is open has not changed the object, one that is not has.
        assert!(
            !(open && complete == 200) && (found.body == joined) != open,
            "kill {number} after {moment:?}: answered {complete}, the upload open: {open}"
        );
        // Whatever became of it: completing is possible, or was done.
        let again = client.complete("joined", &upload.id, &[(3, &upload.etag)]);
        assert_eq!(again.status, 200, "kill {number} after {moment:?}: {}", again.text());
        assert!(client.get("joined").body == joined, "kill {number} after {moment:?}");
    }
    drop(process);
    eprintln!("PUT: {puts:?}, Complete: {completes:?}");
}
