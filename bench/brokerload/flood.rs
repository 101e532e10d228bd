//! What a broker should hold out against: the same bytes again and again on many connections, or byte by byte.

use std::collections::BTreeMap;
use std::error::Error;
use std::io::{Read as _, Write as _};
use std::time::{Duration, Instant};

use serde_json::json;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout_at};

use crate::http::{Failure, read_answer};

/// How often each was seen: a status, `no answer` where the connection was closed, `no connection`.
type Answers = BTreeMap<String, u64>;

/// Sends what standard input says, and reports what came back.
pub(crate) async fn flood(address: &str, drip: bool, until: Instant, connections: u64) -> Result<(), Box<dyn Error>> {
    let mut sent = String::new();
    std::io::stdin().read_to_string(&mut sent)?;
    let began = Instant::now();
    let mut flooding = JoinSet::new();
    for number in 0..connections {
        let (address, from) = (address.to_owned(), format!("198.51.100.{}", number % 256));
        let sent = sent.replace("{address}", &from);
        flooding.spawn(async move {
            let mut answers = Answers::new();
            // What is left half done at the end is not counted.
            _ = timeout_at(until.into(), again_and_again(&address, &sent, drip, &mut answers)).await;
            answers
        });
    }
    let mut answers = Answers::new();
    while let Some(found) = flooding.join_next().await {
        for (what, times) in found? {
            *answers.entry(what).or_default() += times;
        }
    }
    let count: u64 = answers.values().sum();
    #[expect(clippy::cast_precision_loss, reason = "three digits are shown")]
    let per_second = count as f64 / began.elapsed().as_secs_f64();
    let line = json!({"what": "flood", "count": count, "per_second": per_second, "answers": answers});
    writeln!(std::io::stdout(), "{line}")?;
    Ok(())
}

async fn again_and_again(address: &str, sent: &str, drip: bool, answers: &mut Answers) {
    let mut note = |what: &str| *answers.entry(what.to_owned()).or_default() += 1;
    loop {
        let Ok(mut stream) = TcpStream::connect(address).await else {
            note("no connection");
            sleep(Duration::from_millis(100)).await;
            continue;
        };
        _ = stream.set_nodelay(true);
        if drip {
            note(&dripped(&mut stream, sent).await);
            continue;
        }
        // The connection is used for as long as the other end keeps it.
        let mut buffer = Vec::new();
        loop {
            if stream.write_all(sent.as_bytes()).await.is_err() {
                note("no answer");
                break;
            }
            let Ok((status, _)) = read_answer(&mut stream, &mut buffer).await else {
                note("no answer");
                break;
            };
            note(&status.to_string());
        }
    }
}

/// Begins, and goes on byte by byte until there is an answer or an end.
async fn dripped(stream: &mut TcpStream, sent: &str) -> String {
    let (mut read, mut write) = stream.split();
    let mut answer = [0; 4096];
    let dripping = async {
        write.write_all(sent.as_bytes()).await?;
        loop {
            sleep(Duration::from_secs(1)).await;
            write.write_all(b"x").await?;
        }
        #[expect(unreachable_code, reason = "tells the type")]
        Ok::<(), Failure>(())
    };
    tokio::select! {
        count = read.read(&mut answer) => {
            let told = answer.get(..count.unwrap_or(0)).unwrap_or_default();
            let told = String::from_utf8_lossy(told);
            told.split(' ').nth(1).unwrap_or("no answer").to_owned()
        }
        _ = dripping => "no answer".to_owned(),
    }
}
