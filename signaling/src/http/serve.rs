//! HTTP connections with limits. A client that sends no request, sends it too slowly, does not read the response or
//! opens too many connections is disconnected in time, without effect on other clients.

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

/// Maximum size of the request line and header fields together, in bytes, without the long lines of joins
/// ([`LineBudget`]).
const MAX_HEADER_BYTES: usize = 64 * 1024;
const MAX_HEADER_FIELDS: usize = 100;
/// A connection whose client reads nothing of the response for this time is closed.
const WRITE_PATIENCE: Duration = Duration::from_secs(20);
/// Maximum lifetime of a connection that is not a session, whether idle or not. Its client opens another.
const MAX_LIFE: Duration = Duration::from_secs(300);
/// Time for the pending request to finish when a connection is shut down.
const LAST_REQUEST: Duration = Duration::from_secs(10);
/// Maximum number of excess connections that are sent a 503 response at the same time. Further ones are closed without
/// a response.
const MAX_REFUSALS: usize = 64;
const REFUSAL_TIME: Duration = Duration::from_secs(1);

/// Limits for the connections of a listener.
#[derive(Clone)]
pub struct SocketLimits {
    /// Counts the connections and limits their number.
    pub gate: Arc<Gate>,
    /// Maximum time from the opening of a connection, or the last response on it, to the end of the next request's
    /// header.
    pub header: Duration,
    /// Memory budget for the long lines of joins, shared by all listeners.
    pub long_lines: LineBudget,
    /// Counters of refused and failed connections, by reason.
    pub metrics: Arc<HttpMetrics>,
}

/// Connection of a request, as a request extension for handlers.
#[derive(Debug, Clone)]
pub struct Connection {
    /// Address of the client.
    pub remote: IpAddr,
    /// Place of the connection in the [`Gate`]. A WebSocket, which outlives the HTTP connection, holds a clone.
    pub ticket: Arc<Ticket>,
}

/// Serves `router` on `listener` until `stop` becomes true, then lets pending requests finish.
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
                // Most likely the process is out of file descriptors. Some become free as connections end.
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
                        // The socket is closed whether or not the client has read the response.
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

/// Serves one connection over any byte stream.
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
            // A connection that does not finish in this time is dropped.
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

/// Replaces several slashes at the start of the path by one. Clients append a path that begins with a slash to a server
/// address that ends with one.
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
    // Closing with unread bytes would reset the connection before the client has read the response.
    let mut sink = [0; 1024];
    while io.read(&mut sink).await? > 0 {}
    Ok(())
}

/// Binds `port` on each address. A missing IPv6 is not an error if another address was bound before. With port 0, all
/// listeners get the port that the system chose for the first.
///
/// # Errors
/// An address cannot be bound; the error names the first such address.
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
            // On a dual-stack system the IPv6 wildcard includes IPv4, so it may conflict with the IPv4 wildcard.
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
