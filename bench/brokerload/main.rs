//! Asks a broker as fast as it answers, and an actix server that only says hello for comparison: rates and latencies.
//!
//! ```text
//! brokerload serve-hello                        serves, and says where on its first line
//! brokerload hello URL SECONDS CONNECTIONS      GET /
//! brokerload uploads URL SECONDS CONNECTIONS    create, sign 8 parts, put one byte, complete; the PUT is not counted
//! brokerload sign URL SECONDS CONNECTIONS       sign 8 parts of an upload that is open
//! brokerload fill URL COUNT CONNECTIONS         creates that many uploads and leaves them open
//! brokerload polite URL SECONDS CONNECTIONS     as sign, but one window in 40 ms on each connection
//! brokerload flood URL SECONDS CONNECTIONS      sends what is on standard input, again and again
//! brokerload drip URL SECONDS CONNECTIONS       the same once, and then a byte a second
//! ```
//!
//! Each connection says that it comes from an address of its own: 192.0.2.N in `X-Forwarded-For`; in place of `{address}` in
//! what floods and drips send, 198.51.100.N. `BROKERLOAD_TOKEN` is the token of all but those.
//!
//! One line of JSON on standard output for each kind of request. It speaks HTTP/1.1 over kept connections and parses as little
//! as it can, since it shares the machine with what it measures.

mod flood;
mod http;

use std::error::Error;
use std::io::Write as _;
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use actix_web::{App, HttpServer, web};
use serde_json::{Value, json};
use tokio::task::JoinSet;

use crate::http::{Connection, Failure, PART, PART_MD5};

/// Parts signed at once.
const WINDOW: u64 = 8;
/// From one window to the next of a client that is in no hurry.
const PAUSE: Duration = Duration::from_millis(40);

fn main() -> ExitCode {
    let arguments: Vec<_> = std::env::args().skip(1).collect();
    let arguments: Vec<_> = arguments.iter().map(String::as_str).collect();
    let done = match *arguments.as_slice() {
        ["serve-hello"] => serve_hello(),
        [kind, url, amount, connections] => ask(kind, url, amount, connections),
        _ => Err("see the head of bench/brokerload/main.rs for what it takes".into()),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            _ = writeln!(std::io::stderr(), "brokerload: {error}");
            ExitCode::FAILURE
        }
    }
}

/// With as many workers as the broker has.
fn serve_hello() -> Result<(), Box<dyn Error>> {
    let workers = std::thread::available_parallelism().map_or(2, usize::from).clamp(2, 16);
    actix_web::rt::System::new().block_on(async {
        let hello = || App::new().route("/", web::get().to(|| async { "hello, world" }));
        let server = HttpServer::new(hello).workers(workers).bind(("127.0.0.1", 0))?;
        let address = server.addrs().first().copied().ok_or("no address")?;
        let mut out = std::io::stdout();
        writeln!(out, "http://{address}")?;
        out.flush()?;
        server.run().await?;
        Ok(())
    })
}

fn ask(kind: &str, url: &str, amount: &str, connections: &str) -> Result<(), Box<dyn Error>> {
    let address = url
        .strip_prefix("http://")
        .ok_or("the URL has to begin with http://")?
        .to_owned();
    let (amount, connections): (u64, u64) = (amount.parse()?, connections.parse()?);
    let until = Instant::now() + Duration::from_secs(amount);
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    if matches!(kind, "flood" | "drip") {
        return runtime.block_on(flood::flood(&address, kind == "drip", until, connections));
    }
    runtime.block_on(async {
        let left = Arc::new(AtomicU64::new(amount));
        let mut asking = JoinSet::new();
        let began = Instant::now();
        for number in 0..connections {
            let (address, kind, left) = (address.clone(), kind.to_owned(), Arc::clone(&left));
            asking.spawn(async move {
                let client = Client {
                    connection: Connection::open(&address).await?.from(number),
                    number,
                };
                match kind.as_str() {
                    "hello" => client.hello(until).await,
                    "uploads" => client.uploads(until).await,
                    "sign" => client.sign(until, Duration::ZERO).await,
                    "polite" => client.sign(until, PAUSE).await,
                    "fill" => client.fill(&left).await,
                    other => Err(format!("there is nothing called {other}").into()),
                }
            });
        }
        let mut times: Vec<(&'static str, Vec<Duration>)> = Vec::new();
        while let Some(asked) = asking.join_next().await {
            for (what, mut taken) in asked?.map_err(|error| error.to_string())? {
                match times.iter_mut().find(|(known, _)| *known == what) {
                    Some((_, all)) => all.append(&mut taken),
                    None => times.push((what, taken)),
                }
            }
        }
        let seconds = began.elapsed().as_secs_f64();
        for (what, taken) in &mut times {
            taken.sort();
            report(what, taken, seconds)?;
        }
        Ok(())
    })
}

#[expect(clippy::cast_precision_loss, reason = "three digits are shown")]
fn report(what: &str, sorted: &[Duration], seconds: f64) -> Result<(), Box<dyn Error>> {
    let at = |part: f64| {
        #[expect(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "a place in the list"
        )]
        let place = (sorted.len() as f64 * part) as usize;
        sorted
            .get(place.min(sorted.len().saturating_sub(1)))
            .copied()
            .unwrap_or_default()
    };
    let line = json!({
        "what": what, "count": sorted.len(), "per_second": sorted.len() as f64 / seconds,
        "p50_ms": at(0.5).as_secs_f64() * 1e3, "p99_ms": at(0.99).as_secs_f64() * 1e3,
    });
    writeln!(std::io::stdout(), "{line}")?;
    Ok(())
}

type Times = Vec<(&'static str, Vec<Duration>)>;

struct Client {
    connection: Connection,
    number: u64,
}

impl Client {
    async fn hello(mut self, until: Instant) -> Result<Times, Failure> {
        let mut taken = Vec::new();
        while Instant::now() < until {
            let began = Instant::now();
            self.connection.ask("GET", "/", None, 200).await?;
            taken.push(began.elapsed());
        }
        Ok(vec![("hello", taken)])
    }

    /// The id of a new upload of unknown size, in parts of 5 MiB: as many can be signed as one likes, and one is enough.
    async fn create(&mut self, name: &str) -> Result<String, Failure> {
        let body = json!({"name": name, "part_size": 5 << 20}).to_string();
        let answer = self.connection.ask("POST", "/v1/uploads", Some(&body), 201).await?;
        let answer: Value = serde_json::from_slice(answer)?;
        Ok(answer
            .get("upload_id")
            .and_then(Value::as_str)
            .ok_or("no upload_id")?
            .to_owned())
    }

    /// The first URL of a window of signed parts.
    async fn window(&mut self, id: &str, first: u64) -> Result<&[u8], Failure> {
        let parts: Vec<_> = (first..first + WINDOW)
            .map(|number| json!({"number": number, "md5": PART_MD5}))
            .collect();
        let body = json!({ "parts": parts }).to_string();
        self.connection
            .ask("POST", &format!("/v1/uploads/{id}/parts"), Some(&body), 200)
            .await
    }

    async fn uploads(mut self, until: Instant) -> Result<Times, Failure> {
        let (mut created, mut signed, mut completed) = (Vec::new(), Vec::new(), Vec::new());
        let mut round = 0_u64;
        while Instant::now() < until {
            round += 1;
            let name = format!("bench/{}-{round}", self.number);
            let began = Instant::now();
            let id = self.create(&name).await?;
            created.push(began.elapsed());
            let began = Instant::now();
            let answer: Value = serde_json::from_slice(self.window(&id, 1).await?)?;
            signed.push(began.elapsed());
            let url = answer.pointer("/parts/0/url").and_then(Value::as_str).ok_or("no url")?;
            put_part(url).await?;
            let began = Instant::now();
            let path = format!("/v1/uploads/{id}/complete");
            self.connection.ask("POST", &path, Some(r#"{"size":1}"#), 200).await?;
            completed.push(began.elapsed());
        }
        Ok(vec![("create", created), ("sign", signed), ("complete", completed)])
    }

    async fn sign(mut self, until: Instant, pause: Duration) -> Result<Times, Failure> {
        let id = self.create(&format!("bench/sign-{}", self.number)).await?;
        let (mut taken, mut round) = (Vec::new(), 0);
        while Instant::now() < until {
            // Windows go through the file, as an uploader's do, and begin again at its end.
            let first = 1 + round * WINDOW % 9_992;
            round += 1;
            let began = Instant::now();
            self.window(&id, first).await?;
            taken.push(began.elapsed());
            tokio::time::sleep(pause.saturating_sub(began.elapsed())).await;
        }
        Ok(vec![("sign", taken)])
    }

    async fn fill(mut self, left: &AtomicU64) -> Result<Times, Failure> {
        let (mut taken, mut round) = (Vec::new(), 0_u64);
        while left
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, |left| left.checked_sub(1))
            .is_ok()
        {
            round += 1;
            let began = Instant::now();
            self.create(&format!("bench/open-{}-{round}", self.number)).await?;
            taken.push(began.elapsed());
        }
        Ok(vec![("create", taken)])
    }
}

/// Sends the one part on a connection of its own.
async fn put_part(url: &str) -> Result<(), Failure> {
    let (address, path) = url
        .strip_prefix("http://")
        .and_then(|rest| rest.split_once('/'))
        .ok_or("no http URL")?;
    let mut connection = Connection::open(address).await?;
    connection.ask("PUT", &format!("/{path}"), Some(PART), 200).await?;
    Ok(())
}
