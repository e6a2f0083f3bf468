//! Request lines that are longer than the HTTP library takes. Its addresses end at 65,534 bytes; the token in the query of
//! a join may hold 64 KiB of metadata alone, which base64 makes a third longer. The query of such a line is moved into a
//! header field before the library sees it.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};

use axum::http::HeaderMap;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

/// The header field that carries a long query. Who sends it says no more than a query does.
const FIELD: &str = "anytime-query";
/// Longer targets have their query moved.
const LONG: usize = 32 * 1024;
const METHOD: &[u8] = b"GET /";

/// The query of a request, wherever it stands.
pub(super) fn of_request<'a>(query: Option<&'a str>, headers: &'a HeaderMap) -> &'a str {
    let moved = || headers.get(FIELD).and_then(|value| value.to_str().ok());
    query.or_else(moved).unwrap_or_default()
}

/// Wraps a connection, whose reader gets no long request line.
pub(super) struct LongQuery<IO> {
    io: IO,
    limit: usize,
    state: State,
}

enum State {
    /// A request may begin; what there is of its line.
    Line(Vec<u8>),
    /// What was kept goes on to the reader, from that place.
    Kept(Vec<u8>, usize),
    /// Within a request.
    Inside,
    /// No HTTP any more.
    Upgraded,
}

impl<IO> LongQuery<IO> {
    /// A request line of more than `limit` bytes is left as it is.
    pub(super) fn new(io: IO, limit: usize) -> Self {
        Self { io, limit, state: State::Line(Vec::new()) }
    }

    /// The server writes: what is read after that begins a request, unless the connection is for something else now.
    fn note_written(&mut self, bytes: &[u8]) {
        if matches!(self.state, State::Inside) {
            let upgraded = bytes.starts_with(b"HTTP/1.1 101 ");
            self.state = if upgraded { State::Upgraded } else { State::Line(Vec::new()) };
        }
    }
}

impl<IO: AsyncRead + Unpin> AsyncRead for LongQuery<IO> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let Self { io, limit, state } = &mut *self;
        loop {
            match state {
                State::Line(line) => {
                    let mut chunk = [0; 4096];
                    let mut read = ReadBuf::new(&mut chunk);
                    match Pin::new(&mut *io).poll_read(cx, &mut read) {
                        Poll::Ready(Ok(())) => {}
                        other => return other,
                    }
                    line.extend_from_slice(read.filled());
                    let ended = read.filled().is_empty();
                    if ended || line.len() > *limit || !is_begun(line) || line.contains(&b'\n') {
                        *state = State::Kept(moved(std::mem::take(line)), 0);
                    }
                }
                State::Kept(kept, place) => {
                    let rest = kept.get(*place..).unwrap_or_default();
                    let part = rest.get(..buf.remaining()).unwrap_or(rest);
                    buf.put_slice(part);
                    *place = place.saturating_add(part.len());
                    let all = *place >= kept.len();
                    let nothing = part.is_empty();
                    if all {
                        *state = State::Inside;
                    }
                    // Nothing is what a reader gets at the end of a connection.
                    if !nothing || buf.remaining() == 0 {
                        return Poll::Ready(Ok(()));
                    }
                }
                State::Inside | State::Upgraded => return Pin::new(&mut *io).poll_read(cx, buf),
            }
        }
    }
}

impl<IO: AsyncWrite + Unpin> AsyncWrite for LongQuery<IO> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        self.note_written(buf);
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
        self.note_written(bufs.first().map(|first| &**first).unwrap_or_default());
        Pin::new(&mut self.io).poll_write_vectored(cx, bufs)
    }

    fn is_write_vectored(&self) -> bool {
        self.io.is_write_vectored()
    }
}

/// Whether it may be the beginning of a request line that could be long.
fn is_begun(line: &[u8]) -> bool {
    line.iter().zip(METHOD).all(|(is, expected)| is == expected)
}

/// What begins with a whole request line; with its query in a header field if it is long.
fn moved(text: Vec<u8>) -> Vec<u8> {
    rewritten(&text).unwrap_or(text)
}

fn rewritten(text: &[u8]) -> Option<Vec<u8>> {
    let end = text.iter().position(|&byte| byte == b'\n').filter(|end| *end > LONG)?;
    let (line, rest) = text.split_at_checked(end)?;
    let mut words = line.strip_suffix(b"\r").unwrap_or(line).splitn(3, |&byte| byte == b' ');
    let (method, target, version) = (words.next()?, words.next()?, words.next()?);
    let question = target.iter().position(|&byte| byte == b'?')?;
    let (path, query) = target.split_at_checked(question)?;
    let parts =
        [method, b" ", path, b" ", version, b"\r\n", FIELD.as_bytes(), b": ", query.get(1..)?, b"\r", rest];
    Some(parts.concat())
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    /// What the reader gets of what is sent, in pieces of that size.
    async fn through(sent: &[u8], piece: usize) -> Vec<u8> {
        let (mut far, near) = tokio::io::duplex(piece);
        let mut reader = LongQuery::new(near, 1024 * 1024);
        let send = async {
            far.write_all(sent).await.unwrap();
            drop(far);
        };
        let mut got = Vec::new();
        let receive = reader.read_to_end(&mut got);
        let ((), received) = tokio::join!(send, receive);
        received.unwrap();
        got
    }

    #[tokio::test]
    async fn a_long_query_is_moved_and_all_else_is_as_it_was() {
        let long = format!("a={}", "x".repeat(100_000));
        let rest = "Host: x\r\n\r\nwhat follows";
        let same = [
            format!("GET /rtc?a=b HTTP/1.1\r\n{rest}"),
            format!("GET /{long} HTTP/1.1\r\n{rest}"),
            format!("POST /rtc?{long} HTTP/1.1\r\n{rest}"),
            format!("GET /rtc?{long}"),
            format!("GET /{}", "y".repeat(1_100_000)),
            "GET".to_owned(),
            "no HTTP".to_owned(),
            String::new(),
        ];
        for piece in [1000, 200_000] {
            for text in &same {
                assert!(through(text.as_bytes(), piece).await == text.as_bytes(), "{:.40}", text);
            }
            let got = through(format!("GET /rtc?{long} HTTP/1.1\r\n{rest}").as_bytes(), piece).await;
            assert!(got == format!("GET /rtc HTTP/1.1\r\nanytime-query: {long}\r\n{rest}").as_bytes());
        }
    }

    #[tokio::test]
    async fn each_request_of_a_connection_is_looked_at_and_nothing_after_an_upgrade() {
        let (mut far, near) = tokio::io::duplex(1024 * 1024);
        let mut server = LongQuery::new(near, 1024 * 1024);
        let request = format!("GET /rtc?{} HTTP/1.1\r\n\r\n", "x".repeat(100_000));
        let mut buffer = vec![0; 200_000];
        for (answer, is_moved) in
            [("HTTP/1.1 200 OK\r\n", true), ("HTTP/1.1 101 Switching\r\n", true), ("", false)]
        {
            far.write_all(request.as_bytes()).await.unwrap();
            let mut got = 0;
            while !buffer[..got].ends_with(b"\r\n\r\n") {
                got += server.read(&mut buffer[got..]).await.unwrap();
            }
            assert_eq!(buffer.starts_with(b"GET /rtc HTTP/1.1\r\n"), is_moved);
            server.write_all(answer.as_bytes()).await.unwrap();
        }
    }
}
