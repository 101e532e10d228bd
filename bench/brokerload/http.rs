//! One kept HTTP/1.1 connection: a request, its answer's body.

use std::error::Error;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

pub(crate) type Failure = Box<dyn Error + Send + Sync>;

/// The one byte of a part that is sent, and its MD5 in base64.
pub(crate) const PART: &str = "x";
pub(crate) const PART_MD5: &str = "ndTkYSaMgDT1yFZOFVxnpg==";

/// No answer is larger.
const LARGEST: usize = 16 << 20;

pub(crate) struct Connection {
    stream: TcpStream,
    host: String,
    buffer: Vec<u8>,
    /// Further header lines of every request.
    headers: String,
}

impl Connection {
    pub(crate) async fn open(address: &str) -> Result<Self, Failure> {
        let stream = TcpStream::connect(address).await?;
        stream.set_nodelay(true)?;
        Ok(Self {
            stream,
            host: address.to_owned(),
            buffer: Vec::new(),
            headers: String::new(),
        })
    }

    /// The same, as the caller of this number.
    pub(crate) fn from(mut self, number: u64) -> Self {
        let token = std::env::var("BROKERLOAD_TOKEN").map(|token| format!("authorization: Bearer {token}\r\n"));
        let address = format!("x-forwarded-for: 192.0.2.{}\r\n", number % 256);
        self.headers = address + &token.unwrap_or_default();
        self
    }

    /// The body of the answer, which has to have this status and say how long it is.
    pub(crate) async fn ask(
        &mut self,
        method: &str,
        path: &str,
        body: Option<&str>,
        status: u16,
    ) -> Result<&[u8], Failure> {
        let host = &self.host;
        let rest = match body {
            None => "\r\n".to_owned(),
            Some(body) => {
                let length = body.len();
                let more = match method {
                    "PUT" => format!("content-md5: {PART_MD5}"),
                    _ => "content-type: application/json".to_owned(),
                };
                format!("{more}\r\ncontent-length: {length}\r\n\r\n{body}")
            }
        };
        let headers = &self.headers;
        let request = format!("{method} {path} HTTP/1.1\r\nhost: {host}\r\n{headers}{rest}");
        self.stream.write_all(request.as_bytes()).await?;
        let (told, answer) = read_answer(&mut self.stream, &mut self.buffer).await?;
        if told != status {
            return Err(format!("{method} {path}: {told} {}", String::from_utf8_lossy(answer)).into());
        }
        Ok(answer)
    }
}

/// Status and body of the next answer, which has to say how long it is.
pub(crate) async fn read_answer<'a>(
    stream: &mut TcpStream,
    buffer: &'a mut Vec<u8>,
) -> Result<(u16, &'a [u8]), Failure> {
    buffer.clear();
    let head = loop {
        if stream.read_buf(buffer).await? == 0 {
            return Err("the server closed the connection".into());
        }
        if let Some(end) = buffer.windows(4).position(|window| window == b"\r\n\r\n") {
            break end + 4;
        }
    };
    let text = std::str::from_utf8(buffer.get(..head).unwrap_or_default())?;
    let told: u16 = text.split(' ').nth(1).unwrap_or_default().parse()?;
    let length = text.lines().find_map(|line| {
        let (name, value) = line.split_once(':')?;
        name.eq_ignore_ascii_case("content-length")
            .then(|| value.trim().parse::<usize>().ok())?
    });
    let length = length
        .filter(|length| *length <= LARGEST)
        .ok_or("an answer without a length")?;
    while buffer.len() < head + length {
        if stream.read_buf(buffer).await? == 0 {
            return Err("the server closed the connection".into());
        }
    }
    let answer = buffer.get(head..head + length).unwrap_or_default();
    Ok((told, answer))
}
