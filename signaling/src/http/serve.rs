//! Sockets with limits: who sends no request, sends it a byte at a time, does not read the answer or comes too often is
//! let go on time, and nobody else notices.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::http::{Request, Uri};
use hyper::server::conn::http1;
use hyper::service::{Service, service_fn};
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Semaphore, watch};
use tokio::time::{sleep, timeout};

use super::gate::{Gate, Ticket};
pub use super::long_lines::LineBudget;
use super::long_lines::ShortLines;
use super::metrics::HttpMetrics;
use super::stall::StallGuard;

/// Request line and header fields together, but for the long lines of joins ([`LineBudget`]).
const MAX_HEADER_BYTES: usize = 64 * 1024;
const MAX_HEADER_FIELDS: usize = 100;
/// A peer that takes nothing of its answer for this long is given up.
const WRITE_PATIENCE: Duration = Duration::from_secs(20);
/// A connection that is no session ends after this time, idle or not; its client opens another.
const MAX_LIFE: Duration = Duration::from_secs(300);
/// For the request under way when a connection is to end.
const LAST_REQUEST: Duration = Duration::from_secs(10);
/// Connections beyond the limits that are told so at once; more than that are just closed.
const MAX_REFUSALS: usize = 64;
const REFUSAL_TIME: Duration = Duration::from_secs(1);

/// How a listener treats its connections.
#[derive(Clone)]
pub struct SocketLimits {
    /// Counts them.
    pub gate: Arc<Gate>,
    /// From the opening of a connection, or the last answer on it, to the end of a request's header.
    pub header: Duration,
    /// Room for the long lines of joins, of all listeners together.
    pub long_lines: LineBudget,
    /// Where it is counted what was let go, and why.
    pub metrics: Arc<HttpMetrics>,
}

/// What handlers are told of the connection that a request came on.
#[derive(Debug, Clone)]
pub struct Connection {
    /// The peer's address.
    pub remote: IpAddr,
    /// Its place. Whoever outlives the connection (a WebSocket) keeps a clone.
    pub ticket: Arc<Ticket>,
}

/// Serves `router` on `listener` until `stop` turns true, then lets requests under way finish.
pub async fn serve(
    listener: TcpListener,
    router: Router,
    limits: SocketLimits,
    mut stop: watch::Receiver<bool>,
) {
    let refusals = Arc::new(Semaphore::new(MAX_REFUSALS));
    let mut connections = tokio::task::JoinSet::new();
    loop {
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            Some(_ended) = connections.join_next() => continue,
            _ = stop.wait_for(|stop| *stop) => break,
        };
        let (stream, remote) = match accepted {
            Ok(accepted) => accepted,
            Err(error) => {
                limits.metrics.refused("accept");
                tracing::warn!(%error, "a connection could not be accepted");
                // Out of descriptors, most likely: they come back as connections end.
                sleep(Duration::from_millis(100)).await;
                continue;
            }
        };
        match limits.gate.enter(remote.ip()) {
            Ok(ticket) => {
                let (router, limits, stop) = (router.clone(), limits.clone(), stop.clone());
                connections.spawn(serve_stream(stream, remote, ticket, router, limits, stop));
            }
            Err(refusal) => {
                limits.metrics.refused(refusal.code());
                if let Ok(place) = Arc::clone(&refusals).try_acquire_owned() {
                    connections.spawn(async move {
                        // Whether the peer hears it or not, the socket is let go.
                        drop(timeout(REFUSAL_TIME, refuse(stream)).await);
                        drop(place);
                    });
                }
            }
        }
    }
    drop(listener);
    while connections.join_next().await.is_some() {}
}

async fn serve_stream(
    stream: TcpStream,
    remote: SocketAddr,
    ticket: Ticket,
    router: Router,
    limits: SocketLimits,
    stop: watch::Receiver<bool>,
) {
    if let Err(error) = stream.set_nodelay(true) {
        tracing::debug!(%error, "TCP_NODELAY not set");
    }
    let connection = Connection { remote: remote.ip().to_canonical(), ticket: Arc::new(ticket) };
    serve_connection(stream, connection, router, &limits, stop).await;
}

/// Serves one connection, whatever carries it.
pub async fn serve_connection<IO>(
    io: IO,
    connection: Connection,
    router: Router,
    limits: &SocketLimits,
    mut stop: watch::Receiver<bool>,
) where
    IO: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let inner = TowerToHyperService::new(router);
    let io = StallGuard::new(io, WRITE_PATIENCE);
    let (io, long_lines) = ShortLines::new(io, limits.long_lines.clone());
    let metrics = Arc::clone(&limits.metrics);
    let service = service_fn(move |request: Request<hyper::body::Incoming>| {
        let mut request = request.map(Body::new);
        let restored = long_lines.restore(&mut request);
        collapse_leading_slashes(request.uri_mut());
        request.extensions_mut().insert(connection.clone());
        let answer = restored.map(|held| (held, inner.call(request)));
        let metrics = Arc::clone(&metrics);
        async move {
            match answer {
                Ok((_held, answer)) => answer.await,
                Err(refusal) => {
                    metrics.join(refusal.code());
                    Ok(refusal.into_response())
                }
            }
        }
    });
    let mut builder = http1::Builder::new();
    builder
        .timer(TokioTimer::new())
        .header_read_timeout(limits.header)
        .max_buf_size(MAX_HEADER_BYTES)
        .max_headers(MAX_HEADER_FIELDS);
    let mut http = std::pin::pin!(builder.serve_connection(TokioIo::new(io), service).with_upgrades());
    let ended = tokio::select! {
        ended = http.as_mut() => Some(ended),
        () = sleep(MAX_LIFE) => None,
        _ = stop.wait_for(|stop| *stop) => None,
    };
    let ended = match ended {
        Some(ended) => ended,
        None => {
            http.as_mut().graceful_shutdown();
            // One that does not come to its end by then is dropped where it stands.
            timeout(LAST_REQUEST, http).await.unwrap_or(Ok(()))
        }
    };
    if let Err(error) = ended {
        let reason = if error.is_timeout() {
            "header_timeout"
        } else if error.is_parse() {
            "malformed"
        } else {
            "broken"
        };
        limits.metrics.closed(reason);
        tracing::debug!(%error, reason, "connection ended");
    }
}

/// Clients join their server's address and a path, each with a slash.
fn collapse_leading_slashes(uri: &mut Uri) {
    let Some(path) = uri.path_and_query().map(axum::http::uri::PathAndQuery::as_str) else { return };
    let trimmed = path.trim_start_matches('/');
    if path.len().saturating_sub(trimmed.len()) < 2 {
        return;
    }
    let mut parts = uri.clone().into_parts();
    parts.path_and_query = format!("/{trimmed}").parse().ok();
    if let Ok(collapsed) = Uri::from_parts(parts) {
        *uri = collapsed;
    }
}

async fn refuse<IO: AsyncRead + AsyncWrite + Unpin>(mut io: IO) -> std::io::Result<()> {
    const TEXT: &str = "too many connections\n";
    let head = "HTTP/1.1 503 Service Unavailable\r\nConnection: close\r\nRetry-After: 5\r\n\
                Access-Control-Allow-Origin: *\r\nContent-Type: text/plain\r\n";
    let answer = format!("{head}Content-Length: {}\r\n\r\n{TEXT}", TEXT.len());
    io.write_all(answer.as_bytes()).await?;
    io.shutdown().await?;
    // Closing with unread bytes would reset the connection before the peer has read the answer.
    let mut sink = [0; 1024];
    while io.read(&mut sink).await? > 0 {}
    Ok(())
}

/// Binds `port` on each of the addresses. A machine without IPv6 is no error unless nothing could be bound; with
/// port 0 all get the port that the first one was given.
///
/// # Errors
/// The first address that cannot be bound.
pub async fn bind(addresses: &[IpAddr], port: u16) -> std::io::Result<Vec<TcpListener>> {
    let mut listeners = Vec::new();
    let mut port = port;
    let mut wildcard_v4 = false;
    for address in addresses {
        let target = SocketAddr::new(*address, port);
        match TcpListener::bind(target).await {
            Ok(listener) => {
                port = listener.local_addr()?.port();
                wildcard_v4 |= *address == IpAddr::V4(std::net::Ipv4Addr::UNSPECIFIED);
                listeners.push(listener);
            }
            // On a dual-stack system the IPv6 wildcard would take the IPv4 one as well.
            Err(error) if address.is_ipv6() && !listeners.is_empty() && is_absent(&error, wildcard_v4) => {
                tracing::debug!(%target, %error, "not listening on this address");
            }
            Err(error) => {
                return Err(std::io::Error::new(error.kind(), format!("cannot listen on {target}: {error}")));
            }
        }
    }
    Ok(listeners)
}

fn is_absent(error: &std::io::Error, wildcard_v4: bool) -> bool {
    use std::io::ErrorKind::{AddrInUse, AddrNotAvailable, Unsupported};
    matches!(error.kind(), AddrNotAvailable | Unsupported)
        || error.raw_os_error() == Some(97) // EAFNOSUPPORT
        || (wildcard_v4 && error.kind() == AddrInUse)
}

#[cfg(test)]
mod tests;
