//! HTTP endpoints: the call page, joining a session, the token endpoint, health and metrics.

mod bearer;
mod error;
pub mod gate;
pub mod join;
mod long_lines;
pub mod metrics;
mod page;
mod rtc;
pub mod serve;
mod stall;
pub mod tokens;

use std::time::Duration;

use axum::Router;
use axum::extract::{DefaultBodyLimit, Request, State};
use axum::http::{Method, StatusCode};
use axum::middleware::{self, Next};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use tower_http::cors::{AllowHeaders, Any, CorsLayer};

pub use error::ApiError;

use crate::app::AppState;

/// Maximum size of a request's body, in bytes.
const MAX_BODY_BYTES: usize = 1024 * 1024;
/// Maximum time from the end of a request's header to its response. It includes receiving the body, so that a client
/// that sends the body slowly cannot hold the connection.
const MAX_REQUEST_TIME: Duration = Duration::from_secs(15);

/// Router of the main listeners.
pub fn router(state: AppState) -> Router {
    Router::new()
        .route("/", get(page::index))
        .route("/rtc", get(rtc::join))
        .route("/rtc/v1", get(rtc::join))
        .route("/rtc/validate", get(rtc::validate))
        .route("/rtc/v1/validate", get(rtc::validate))
        .route("/v1/token", post(tokens::create))
        .route("/healthz", get(health))
        .fallback(get(page::asset))
        .layer(DefaultBodyLimit::max(MAX_BODY_BYTES))
        .layer(middleware::from_fn(in_time))
        .layer(cors())
        .with_state(state)
}

/// Allows any origin, because access is decided by tokens, never by the origin of a page.
fn cors() -> CorsLayer {
    CorsLayer::new()
        .allow_origin(Any)
        .allow_methods([
            Method::OPTIONS,
            Method::HEAD,
            Method::GET,
            Method::POST,
            Method::PATCH,
            Method::DELETE,
        ])
        // A wildcard would not include `Authorization`.
        .allow_headers(AllowHeaders::mirror_request())
        .max_age(Duration::from_secs(24 * 60 * 60))
}

async fn health(State(app): State<AppState>) -> Response {
    if app.is_stopping() {
        return (StatusCode::SERVICE_UNAVAILABLE, "stopping\n").into_response();
    }
    "ok\n".into_response()
}

async fn in_time(request: Request, next: Next) -> Response {
    match tokio::time::timeout(MAX_REQUEST_TIME, next.run(request)).await {
        Ok(response) => response,
        Err(_) => {
            let mut response =
                ApiError::new(408, "too_slow", "the request was not complete in time").into_response();
            let close = axum::http::HeaderValue::from_static("close");
            response.headers_mut().insert(axum::http::header::CONNECTION, close);
            response
        }
    }
}
