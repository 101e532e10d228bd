//! As much of HTTP/1.1 (RFC 9112) as S3 clients use: heads parsed, bodies counted and dropped.

use std::collections::HashMap;
use std::fmt::Write as _;
use std::io::{self, ErrorKind, Read, Write};

use percent_encoding::percent_decode_str;

/// Bytes taken from the socket at a time, and the most that a head may have.
const BUFFER_LEN: usize = 256 * 1024;

/// The head of a request.
pub(crate) struct Request {
    pub(crate) method: String,
    /// Decoded: clients encode one key in more than one way.
    pub(crate) path: String,
    query: Vec<(String, String)>,
    headers: HashMap<String, String>,
}

impl Request {
    fn parse(head: &str) -> Option<Self> {
        let mut lines = head.split("\r\n");
        let mut words = lines.next()?.split(' ');
        let (method, target) = (words.next()?, words.next()?);
        let (path, query) = target.split_once('?').unwrap_or((target, ""));
        let query = query
            .split('&')
            .map(|pair| pair.split_once('=').unwrap_or((pair, "")))
            .map(|(name, value)| (name.to_owned(), decoded(value)))
            .collect();
        let headers = lines
            .filter_map(|line| line.split_once(':'))
            .map(|(name, value)| (name.to_ascii_lowercase(), value.trim().to_owned()))
            .collect();
        Some(Self {
            method: method.to_owned(),
            path: decoded(path),
            query,
            headers,
        })
    }

    /// The value of a header, by its lower-case name.
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name).map(String::as_str)
    }

    /// Every `x-amz-meta-` header.
    pub(crate) fn metadata(&self) -> Vec<(String, String)> {
        self.headers
            .iter()
            .filter(|(name, _)| name.starts_with("x-amz-meta-"))
            .map(|(name, value)| (name.clone(), value.clone()))
            .collect()
    }

    /// The value of a query parameter, decoded, empty where it has none.
    pub(crate) fn query(&self, name: &str) -> Option<&str> {
        self.query
            .iter()
            .find(|(key, _)| key == name)
            .map(|(_, value)| value.as_str())
    }

    /// How long the body is (RFC 9112 section 6.3); nothing where its chunks tell.
    fn body_length(&self) -> io::Result<Option<u64>> {
        let coding = self.header("transfer-encoding");
        if coding.is_some_and(|coding| coding.eq_ignore_ascii_case("chunked")) {
            return Ok(None);
        }
        let length = self.header("content-length").unwrap_or("0").parse();
        length
            .map(Some)
            .map_err(|_| malformed("Content-Length is not a number"))
    }
}

fn decoded(text: &str) -> String {
    percent_decode_str(text).decode_utf8_lossy().into_owned()
}

/// What to send back.
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) headers: Vec<(String, String)>,
    pub(crate) body: String,
    /// Stated instead of the body's own length: an answer to HEAD.
    pub(crate) content_length: Option<u64>,
}

impl Answer {
    /// An answer without body.
    pub(crate) fn empty(status: u16) -> Self {
        Self::xml(status, String::new())
    }

    /// A document.
    pub(crate) fn xml(status: u16, body: String) -> Self {
        Self {
            status,
            headers: Vec::new(),
            body,
            content_length: None,
        }
    }

    /// The same with one header more.
    pub(crate) fn with(mut self, name: &str, value: impl Into<String>) -> Self {
        self.headers.push((name.to_owned(), value.into()));
        self
    }
}

/// One client's connection and what has been read from it but not yet used.
pub(crate) struct Connection<S> {
    stream: S,
    buffer: Box<[u8]>,
    start: usize,
    end: usize,
}

impl<S: Read + Write> Connection<S> {
    pub(crate) fn new(stream: S) -> Self {
        Self {
            stream,
            buffer: vec![0; BUFFER_LEN].into_boxed_slice(),
            start: 0,
            end: 0,
        }
    }

    fn unread(&self) -> &[u8] {
        self.buffer.get(self.start..self.end).unwrap_or_default()
    }

    /// Reads more behind what is unread; 0 when the client has closed.
    fn fill(&mut self) -> io::Result<usize> {
        if self.start == self.end {
            (self.start, self.end) = (0, 0);
        } else if self.end == self.buffer.len() {
            self.buffer.copy_within(self.start..self.end, 0);
            (self.start, self.end) = (0, self.end - self.start);
        }
        let room = self.buffer.get_mut(self.end..).unwrap_or_default();
        if room.is_empty() {
            return Err(malformed("a line longer than 256 KiB"));
        }
        let read = self.stream.read(room)?;
        self.end += read;
        Ok(read)
    }

    /// Takes what comes up to `mark`, and the mark; nothing when the client closed before it.
    fn take_until(&mut self, mark: &[u8]) -> io::Result<Option<String>> {
        let mut searched = 0;
        loop {
            let unread = self.unread();
            let found = unread
                .get(searched..)
                .and_then(|rest| rest.windows(mark.len()).position(|window| window == mark));
            if let Some(at) = found {
                let text = unread.get(..searched + at).unwrap_or_default();
                let text = String::from_utf8_lossy(text).into_owned();
                self.start += searched + at + mark.len();
                return Ok(Some(text));
            }
            searched = unread.len().saturating_sub(mark.len() - 1);
            if self.fill()? == 0 {
                return Ok(None);
            }
        }
    }

    /// The next request's head; nothing when the client has closed.
    pub(crate) fn next_request(&mut self) -> io::Result<Option<Request>> {
        let Some(head) = self.take_until(b"\r\n\r\n")? else {
            return Ok(None);
        };
        let request = Request::parse(&head).ok_or_else(|| malformed("not a request line"))?;
        Ok(Some(request))
    }

    /// Waits for the body's first byte; false where there is no body.
    pub(crate) fn await_body(&mut self, request: &Request) -> io::Result<bool> {
        if request.header("expect").is_some() {
            self.stream.write_all(b"HTTP/1.1 100 Continue\r\n\r\n")?;
        }
        if request.body_length()? == Some(0) {
            return Ok(false);
        }
        if self.unread().is_empty() && self.fill()? == 0 {
            return Err(ErrorKind::UnexpectedEof.into());
        }
        Ok(true)
    }

    /// Reads the body and drops it; how many bytes it had.
    pub(crate) fn discard_body(&mut self, request: &Request) -> io::Result<u64> {
        let Some(length) = request.body_length()? else {
            return self.discard_chunks();
        };
        self.discard(length)?;
        Ok(length)
    }

    fn discard(&mut self, mut length: u64) -> io::Result<()> {
        loop {
            let unread = self.end - self.start;
            match usize::try_from(length) {
                Ok(wanted) if wanted <= unread => {
                    self.start += wanted;
                    return Ok(());
                }
                Ok(_) | Err(_) => {
                    length -= unread as u64;
                    self.start = self.end;
                }
            }
            if self.fill()? == 0 {
                return Err(ErrorKind::UnexpectedEof.into());
            }
        }
    }

    /// RFC 9112 section 7.1, without trailers kept.
    fn discard_chunks(&mut self) -> io::Result<u64> {
        let mut total = 0;
        loop {
            let line = self.line()?;
            let digits = line.split(';').next().unwrap_or_default().trim();
            let length = u64::from_str_radix(digits, 16).map_err(|_| malformed("a chunk without a size"))?;
            if length == 0 {
                while !self.line()?.is_empty() {}
                return Ok(total);
            }
            self.discard(length)?;
            total += length;
            self.line()?;
        }
    }

    fn line(&mut self) -> io::Result<String> {
        self.take_until(b"\r\n")?.ok_or_else(|| ErrorKind::UnexpectedEof.into())
    }

    /// Sends the answer in one write.
    pub(crate) fn answer(&mut self, request: &Request, answer: &Answer) -> io::Result<()> {
        let length = answer.content_length.unwrap_or(answer.body.len() as u64);
        let mut text = format!("HTTP/1.1 {} -\r\nServer: nullsink\r\n", answer.status);
        for (name, value) in &answer.headers {
            _ = write!(text, "{name}: {value}\r\n"); // into a String: cannot fail
        }
        if answer.status != 204 {
            _ = write!(text, "Content-Type: application/xml\r\nContent-Length: {length}\r\n");
        }
        text.push_str("\r\n");
        if request.method != "HEAD" {
            text.push_str(&answer.body);
        }
        self.stream.write_all(text.as_bytes())?;
        self.stream.flush() // over TLS, what is written is only then sent for certain
    }
}

fn malformed(what: &'static str) -> io::Error {
    io::Error::new(ErrorKind::InvalidData, what)
}
