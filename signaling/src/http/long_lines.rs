//! Handles request lines and `Authorization` fields of joins that are too long for the HTTP library. The library's
//! buffer is kept small, and its URIs end at 65,534 bytes. A token with 64 KiB each of metadata and attributes has
//! 175,000 characters, and a join request may hold as much once more. Such a long line is removed from the byte stream
//! before the library sees it, and restored in the request that it belongs to.
//!
//! No token has been checked at that point. So only joins may have long lines, and the memory that all connections
//! together use for them is limited ([`LineBudget`]).

use std::io;
use std::mem::{self, MaybeUninit};
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll};

use axum::body::{Body, Bytes};
use axum::http::{HeaderValue, Request, Response, StatusCode, header};
use axum::response::IntoResponse;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// Lines up to this length, in bytes, stay in the stream. So does a longer line that ends in the same read in which it
/// exceeds this length.
const SHORT: usize = 16 * 1024;
/// Maximum size of the long lines of one request, in bytes. 64 KiB each of metadata and attributes, in the token and
/// once more in the join request, are 342 KiB in base64; the rest is for an offer.
pub(super) const MAX_LONG_BYTES: usize = 384 * 1024;
/// Maximum size of the long lines of all requests together, in bytes. It suffices for 85 requests of maximum size, or
/// 380 tokens with metadata of 64 KiB.
const BUDGET_BYTES: usize = 32 * 1024 * 1024;
/// Maximum number of slashes at the start of the path of a join. Clients append a path that begins with a slash to a
/// server address that ends with one.
const MAX_SLASHES: usize = 8;
const AUTHORIZATION: &[u8] = b"authorization:";
/// Placeholder for the removed part of a line. It has no meaning in a request from which nothing was removed.
const MARK: &str = "anytime-moved";
/// Value of `Retry-After` when the budget is used up, in seconds.
const RETRY_AFTER_S: &str = "2";

/// Memory budget for long lines of all connections of a process. Clones share the budget.
#[derive(Debug, Clone)]
pub struct LineBudget(Arc<Semaphore>);

impl Default for LineBudget {
    fn default() -> Self {
        Self::new(BUDGET_BYTES)
    }
}

impl LineBudget {
    pub(super) fn new(bytes: usize) -> Self {
        Self(Arc::new(Semaphore::new(bytes)))
    }

    fn take(&self, bytes: usize) -> Option<OwnedSemaphorePermit> {
        Arc::clone(&self.0).try_acquire_many_owned(u32::try_from(bytes).ok()?).ok()
    }

    #[cfg(test)]
    pub(super) fn left(&self) -> usize {
        self.0.available_permits()
    }
}

/// Query of a request whose line was too long, as a request extension.
#[derive(Debug, Clone)]
pub(super) struct LongQuery(Arc<String>);

/// Query of a request: the long query if there is one, else the query of the URI.
pub(super) fn query_of<'a>(in_uri: Option<&'a str>, long: Option<&'a LongQuery>) -> &'a str {
    long.map(|long| long.0.as_str()).or(in_uri).unwrap_or_default()
}

/// Reason why a request with a long line is refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Refusal {
    /// The long lines exceed [`MAX_LONG_BYTES`].
    TooLong,
    /// The budget is used up at the moment.
    Busy,
}

impl Refusal {
    /// Short fixed word for the label of a counter.
    pub(super) fn code(self) -> &'static str {
        match self {
            Self::TooLong => "too_long",
            Self::Busy => "long_busy",
        }
    }

    pub(super) fn into_response(self) -> Response<Body> {
        // Web pages must be able to read the response: they ask `validate` why a join failed.
        let any_origin = (header::ACCESS_CONTROL_ALLOW_ORIGIN, "*");
        match self {
            Self::TooLong => {
                let text = format!("the token and the join request are longer than {MAX_LONG_BYTES} bytes\n");
                let status = StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE;
                (status, [any_origin, (header::CONNECTION, "close")], text).into_response()
            }
            Self::Busy => {
                let text = "too many long join requests at the moment\n";
                let status = StatusCode::SERVICE_UNAVAILABLE;
                (status, [any_origin, (header::RETRY_AFTER, RETRY_AFTER_S)], text).into_response()
            }
        }
    }
}

/// Parts that were removed from the request that is being read.
#[derive(Debug, Default)]
struct Taken {
    query: Option<Vec<u8>>,
    authorization: Option<Vec<u8>>,
    /// Part of the budget for both, and for the line that is being read.
    held: Option<OwnedSemaphorePermit>,
    /// Size of the long lines of this request so far, in bytes.
    length: usize,
    refusal: Option<Refusal>,
}

/// Removed parts of the current request of one connection; shared by the reader and the handler.
#[derive(Debug, Clone, Default)]
pub(super) struct LongLines(Arc<Mutex<Taken>>);

/// Part of the budget that is held until a request has been answered.
pub(super) struct Held {
    _room: Option<OwnedSemaphorePermit>,
}

impl LongLines {
    /// Restores the removed parts of `request`.
    ///
    /// # Errors
    /// The request must be refused.
    pub(super) fn restore<B>(&self, request: &mut Request<B>) -> Result<Held, Refusal> {
        let without_query = request.uri().query() == Some(MARK);
        let tokens = || request.headers().get_all(header::AUTHORIZATION).iter();
        let without_token = tokens().any(|token| token == MARK);
        // If there is more than one token, nothing is restored, and the request is refused as usual.
        let is_only = tokens().count() == 1;
        if !without_query && !without_token {
            return Ok(Held { _room: None });
        }
        let taken = mem::take(&mut *self.taken());
        if let Some(refusal) = taken.refusal {
            return Err(refusal);
        }
        if let Some(query) = taken.query.filter(|_| without_query) {
            // A query that is not UTF-8 holds no valid token, so it is treated as empty.
            let query = String::from_utf8(query).unwrap_or_default();
            request.extensions_mut().insert(LongQuery(Arc::new(query)));
        }
        let value = taken.authorization.map(|value| HeaderValue::from_maybe_shared(Bytes::from(value)));
        if let Some(Ok(value)) = value.filter(|_| without_token && is_only) {
            request.headers_mut().insert(header::AUTHORIZATION, value);
        }
        Ok(Held { _room: taken.held })
    }

    fn taken(&self) -> MutexGuard<'_, Taken> {
        // The same task reads and answers a connection, so this lock is never contended.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Wrapper of a connection that removes the long lines of joins from the bytes that are read.
pub(super) struct ShortLines<IO> {
    io: IO,
    lines: Lines,
    /// Bytes to pass to the reader, and the number of them already passed.
    kept: (Vec<u8>, usize),
}

impl<IO> ShortLines<IO> {
    pub(super) fn new(io: IO, budget: LineBudget) -> (Self, LongLines) {
        let taken = LongLines::default();
        let lines = Lines { state: State::start(), budget, taken: taken.clone() };
        (Self { io, lines, kept: (Vec::new(), 0) }, taken)
    }

    /// Passes buffered bytes to the reader. Returns whether there were any.
    fn give(&mut self, buf: &mut ReadBuf<'_>) -> bool {
        let (kept, place) = &mut self.kept;
        let rest = kept.get(*place..).unwrap_or_default();
        let part = rest.get(..buf.remaining()).unwrap_or(rest);
        if part.is_empty() {
            return false;
        }
        buf.put_slice(part);
        *place = place.saturating_add(part.len());
        if *place >= kept.len() {
            self.kept = (Vec::new(), 0);
        }
        true
    }
}

impl<IO: AsyncRead + Unpin> AsyncRead for ShortLines<IO> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = &mut *self;
        loop {
            if this.give(buf) || buf.remaining() == 0 {
                return Poll::Ready(Ok(()));
            }
            if matches!(this.lines.state, State::Inside | State::Upgraded) {
                return Pin::new(&mut this.io).poll_read(cx, buf);
            }
            let mut chunk = [MaybeUninit::uninit(); 4096];
            let mut read = ReadBuf::uninit(&mut chunk);
            match Pin::new(&mut this.io).poll_read(cx, &mut read) {
                Poll::Ready(Ok(())) => {}
                other => return other,
            }
            let out = &mut this.kept.0;
            if read.filled().is_empty() {
                this.lines.end(out);
                if out.is_empty() {
                    return Poll::Ready(Ok(()));
                }
            } else {
                this.lines.read(read.filled(), out);
            }
        }
    }
}

impl<IO: AsyncWrite + Unpin> AsyncWrite for ShortLines<IO> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        self.lines.note_written(buf);
        Pin::new(&mut self.io).poll_write(cx, buf)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_shutdown(cx)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        self.lines.note_written(bufs.first().map(|first| &**first).unwrap_or_default());
        Pin::new(&mut self.io).poll_write_vectored(cx, bufs)
    }

    fn is_write_vectored(&self) -> bool {
        self.io.is_write_vectored()
    }
}

/// Scanner for the lines of requests.
struct Lines {
    state: State,
    budget: LineBudget,
    taken: LongLines,
}

enum State {
    /// Within a request line or a header field; `text` is its beginning so far.
    Line { text: Vec<u8>, is_first: bool },
    /// Within a line that is being removed; the part before `text` was already passed on.
    Long { text: Vec<u8>, part: Part },
    /// Within a request of which no further line is removed.
    Inside,
    /// The connection was upgraded and carries no more HTTP.
    Upgraded,
}

#[derive(Clone, Copy)]
enum Part {
    Query,
    Authorization,
}

impl State {
    fn start() -> Self {
        Self::Line { text: Vec::new(), is_first: true }
    }

    fn next_line() -> Self {
        Self::Line { text: Vec::new(), is_first: false }
    }
}

impl Lines {
    /// Scans bytes that were read. Appends those that are passed on to `out`.
    fn read(&mut self, mut bytes: &[u8], out: &mut Vec<u8>) {
        while !bytes.is_empty() {
            // Each byte is searched for a newline only once.
            let newline = bytes.iter().position(|&byte| byte == b'\n');
            let length = newline.map_or(bytes.len(), |place| place.saturating_add(1));
            let (part, rest) = bytes.split_at_checked(length).unwrap_or((bytes, &[]));
            match mem::replace(&mut self.state, State::Inside) {
                State::Line { mut text, is_first } => {
                    text.extend_from_slice(part);
                    self.state = self.line(text, is_first, newline.is_some(), out);
                }
                State::Long { text, part: kind } => {
                    self.state = self.long(text, kind, part, newline.is_some(), out);
                }
                other => {
                    self.state = other;
                    out.extend_from_slice(bytes);
                    return;
                }
            }
            bytes = rest;
        }
    }

    /// Handles the end of the connection: the incomplete line, if any, is passed on.
    fn end(&mut self, out: &mut Vec<u8>) {
        if let State::Line { text, .. } = mem::replace(&mut self.state, State::Inside) {
            *out = text;
        }
    }

    /// Handles bytes that the server writes. After a response, the next bytes read begin a new request, unless the
    /// connection was upgraded.
    fn note_written(&mut self, bytes: &[u8]) {
        // A 100 response only asks for the body of the current request.
        let goes_on = bytes.starts_with(b"HTTP/1.1 100 ");
        if matches!(self.state, State::Inside) && !goes_on {
            let upgraded = bytes.starts_with(b"HTTP/1.1 101 ");
            self.state = if upgraded { State::Upgraded } else { State::start() };
        }
    }

    fn line(&mut self, text: Vec<u8>, is_first: bool, ended: bool, out: &mut Vec<u8>) -> State {
        let may_matter = if is_first { may_be_join(&text) } else { !is_blank(&text) };
        if may_matter && !ended && text.len() <= SHORT {
            return State::Line { text, is_first };
        }
        if may_matter
            && !ended
            && let Some((kind, begun, rest)) = long_part(&text, is_first)
        {
            out.extend_from_slice(begun);
            return self.long(Vec::new(), kind, rest, false, out);
        }
        out.extend_from_slice(&text);
        if may_matter && ended { State::next_line() } else { State::Inside }
    }

    /// Handles further bytes of a line that is being removed.
    fn long(&mut self, mut text: Vec<u8>, kind: Part, more: &[u8], ended: bool, out: &mut Vec<u8>) -> State {
        let mut taken = self.taken.taken();
        taken.length = taken.length.saturating_add(more.len());
        if taken.length > MAX_LONG_BYTES {
            *taken = Taken { refusal: Some(Refusal::TooLong), ..Taken::default() };
            // The reader sees the request's header end here.
            out.extend_from_slice(&kind.replaced(b"HTTP/1.1\r\n"));
            out.extend_from_slice(b"\r\n");
            return State::Inside;
        }
        if taken.refusal.is_none() {
            match self.budget.take(more.len()) {
                Some(room) => {
                    match &mut taken.held {
                        Some(held) => held.merge(room),
                        none => *none = Some(room),
                    }
                    text.extend_from_slice(more);
                }
                None => {
                    text = Vec::new();
                    let length = taken.length;
                    *taken = Taken { length, refusal: Some(Refusal::Busy), ..Taken::default() };
                }
            }
        }
        if !ended {
            return State::Long { text, part: kind };
        }
        let version = kind.keep(text, &mut taken);
        out.extend_from_slice(&kind.replaced(&version));
        State::next_line()
    }
}

impl Part {
    /// Stores a removed part whose line has ended. Returns the text that follows the query in the request line.
    fn keep(self, mut text: Vec<u8>, taken: &mut Taken) -> Vec<u8> {
        if taken.refusal.is_some() {
            return b"HTTP/1.1\r\n".to_vec();
        }
        match self {
            Self::Query => {
                let space = text.iter().position(|&byte| byte == b' ').unwrap_or(text.len());
                let mut version = text.split_off(space);
                // No HTTP version is this long. The library refuses the cut text as an invalid one.
                version.truncate(32);
                taken.query = Some(text);
                version.get(1..).unwrap_or(b"\r\n").to_vec()
            }
            Self::Authorization => {
                taken.authorization = Some(text.trim_ascii().to_vec());
                Vec::new()
            }
        }
    }

    /// Replacement for a removed part, up to the end of its line.
    fn replaced(self, version: &[u8]) -> Vec<u8> {
        match self {
            Self::Query => [MARK.as_bytes(), b" ", version].concat(),
            Self::Authorization => [MARK.as_bytes(), b"\r\n"].concat(),
        }
    }
}

/// Whether `line`, the beginning of a request line, may be that of a join.
fn may_be_join(line: &[u8]) -> bool {
    let begins = |text: &[u8], with: &[u8]| text.iter().zip(with).all(|(is, expected)| is == expected);
    let path = line.get(4..).unwrap_or_default();
    let slashes = path.iter().take(MAX_SLASHES).take_while(|&&byte| byte == b'/').count();
    let name = path.get(slashes..).unwrap_or_default();
    begins(line, b"GET /") && begins(name, b"rtc") && name.get(3).is_none_or(|byte| b"/? ".contains(byte))
}

fn is_blank(line: &[u8]) -> bool {
    matches!(line, b"\n" | b"\r\n")
}

/// Splits the beginning of a long line into the text before the removable part and the part so far. `None` if the line
/// has no removable part.
fn long_part(text: &[u8], is_first: bool) -> Option<(Part, &[u8], &[u8])> {
    let (kind, place) = if is_first {
        let question = text.iter().position(|&byte| byte == b'?')?;
        (Part::Query, question.saturating_add(1))
    } else {
        let name = text.get(..AUTHORIZATION.len())?;
        (Part::Authorization, name.eq_ignore_ascii_case(AUTHORIZATION).then_some(name.len())?)
    };
    let (begun, rest) = text.split_at_checked(place)?;
    Some((kind, begun, rest))
}

#[cfg(test)]
mod tests;
