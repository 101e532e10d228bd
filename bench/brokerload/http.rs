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
}

impl Connection {
    pub(crate) async fn open(address: &str) -> Result<Self, Failure> {
        let stream = TcpStream::connect(address).await?;
        stream.set_nodelay(true)?;
        Ok(Self {
            stream,
            host: address.to_owned(),
            buffer: Vec::new(),
        })
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
        let request = format!("{method} {path} HTTP/1.1\r\nhost: {host}\r\n{rest}");
        self.stream.write_all(request.as_bytes()).await?;
        self.buffer.clear();
        let head = loop {
            if self.stream.read_buf(&mut self.buffer).await? == 0 {
                return Err("the server closed the connection".into());
            }
            if let Some(end) = self.buffer.windows(4).position(|window| window == b"\r\n\r\n") {
                break end + 4;
            }
        };
        let text = std::str::from_utf8(self.buffer.get(..head).unwrap_or_default())?;
        let told: u16 = text.split(' ').nth(1).unwrap_or_default().parse()?;
        let length = text.lines().find_map(|line| {
            let (name, value) = line.split_once(':')?;
            name.eq_ignore_ascii_case("content-length")
                .then(|| value.trim().parse::<usize>().ok())?
        });
        let length = length
            .filter(|length| *length <= LARGEST)
            .ok_or("an answer without a length")?;
        while self.buffer.len() < head + length {
            if self.stream.read_buf(&mut self.buffer).await? == 0 {
                return Err("the server closed the connection".into());
            }
        }
        let answer = self.buffer.get(head..head + length).unwrap_or_default();
        if told != status {
            return Err(format!("{method} {path}: {told} {}", String::from_utf8_lossy(answer)).into());
        }
        Ok(answer)
    }
}
