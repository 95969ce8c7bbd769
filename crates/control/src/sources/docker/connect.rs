//! A connection to Docker's daemon, and patience with its answers.

use std::{future::Future, time::Duration};

use bollard::{API_DEFAULT_VERSION, Docker, errors::Error as DockerError};
use tokio::time::timeout;

use super::DockerConfig;
use crate::sources::SourceError;

/// Docker answers in milliseconds; a daemon that is this slow hangs.
const ANSWER_SECONDS: u64 = 10;

/// Connects, and agrees on the API's version.
///
/// # Errors
/// When the daemon does not answer.
pub(crate) async fn connect(config: &DockerConfig) -> Result<Docker, SourceError> {
    let socket = config.socket.to_string_lossy();
    let docker = Docker::connect_with_unix(&socket, ANSWER_SECONDS, API_DEFAULT_VERSION)?;
    Ok(with_version(answer(docker.negotiate_version()).await?))
}

/// Makes the negotiated version a part of each request. bollard 0.21 asks without one over a unix socket, and then a
/// newer daemon answers in ways that bollard doesn't know.
fn with_version(docker: Docker) -> Docker {
    let version = docker.client_version();
    docker.with_request_modifier(move |mut request| {
        let uri = request.uri();
        let path = uri.path_and_query().map_or("/", |path| path.as_str());
        let whole = uri.to_string();
        if let Some(host) = whole.strip_suffix(path).filter(|_| !path.starts_with("/v1."))
            && let Ok(versioned) = format!("{host}/v{version}{path}").parse()
        {
            *request.uri_mut() = versioned;
        }
        request
    })
}

/// An answer, if it comes in time.
///
/// # Errors
/// Docker's, or that it did not answer.
pub(crate) async fn answer<T>(
    request: impl Future<Output = Result<T, DockerError>>,
) -> Result<T, SourceError> {
    match timeout(Duration::from_secs(ANSWER_SECONDS), request).await {
        Err(_) | Ok(Err(DockerError::RequestTimeoutError)) => Err(SourceError::Timeout(ANSWER_SECONDS)),
        Ok(answer) => Ok(answer?),
    }
}

/// Whether Docker knows of no such thing.
pub(crate) fn is_missing(error: &SourceError) -> bool {
    matches!(error, SourceError::Docker(DockerError::DockerResponseServerError { status_code: 404, .. }))
}
