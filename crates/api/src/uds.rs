//! tonic on unix sockets: who may listen, who may speak.

use std::{
    fs,
    io::{self, ErrorKind},
    os::unix::{
        fs::{FileTypeExt as _, PermissionsExt as _},
        net::UnixStream as StdUnixStream,
    },
    path::{Path, PathBuf},
    time::Duration,
};

use hyper_util::rt::TokioIo;
use thiserror::Error;
use tokio::net::{UnixListener, UnixStream};
use tonic::{
    Request, Status,
    transport::{Channel, Endpoint, server::UdsConnectInfo},
};
use tower::service_fn;

/// Group members may talk to the socket; what they may ask is checked call by call.
const SOCKET_MODE: u32 = 0o660;
/// A process that does not take our connection for so long is as good as away.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(2);

/// How often an open stream is checked, and how long the answer may take: a stopped process does not close its socket.
const PING_INTERVAL: Duration = Duration::from_secs(10);
const PING_TIMEOUT: Duration = Duration::from_secs(5);

/// A socket that could not be bound, or a peer that is not who it should be.
#[derive(Debug, Error)]
pub enum SocketError {
    /// Somebody answers there.
    #[error("{path}: a live process listens there already: stop it, or choose another --run-dir")]
    Taken {
        /// The socket.
        path: PathBuf,
    },
    /// Something else has the name.
    #[error("{path}: what is there is no socket: remove it, or choose another --run-dir")]
    NoSocket {
        /// The path.
        path: PathBuf,
    },
    /// The system said no.
    #[error("{path}: {source}: check that the directory exists and that this process may write in it")]
    Bind {
        /// The socket.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
}

/// Binds the socket of this process. One that a dead process left is replaced, a live one is left alone.
///
/// # Errors
/// [`SocketError`], which says what to check.
pub fn bind(path: &Path) -> Result<UnixListener, SocketError> {
    let failed = |source| SocketError::Bind { path: path.to_owned(), source };
    // A connect to a file is refused just as one to a dead process's socket.
    if fs::symlink_metadata(path).is_ok_and(|found| !found.file_type().is_socket()) {
        return Err(SocketError::NoSocket { path: path.to_owned() });
    }
    match StdUnixStream::connect(path) {
        Ok(_) => return Err(SocketError::Taken { path: path.to_owned() }),
        Err(error) if error.kind() == ErrorKind::ConnectionRefused => {
            fs::remove_file(path).map_err(failed)?;
        }
        Err(error) if error.kind() == ErrorKind::NotFound => {}
        Err(error) => return Err(failed(error)),
    }
    let listener = UnixListener::bind(path).map_err(failed)?;
    fs::set_permissions(path, fs::Permissions::from_mode(SOCKET_MODE)).map_err(failed)?;
    Ok(listener)
}

/// Connects to a process of the suite. With `uid`, only if the process there runs as it: anybody of the socket
/// directory's group could have bound the name while the real owner was away.
///
/// # Errors
/// tonic's, whose source says what went wrong.
pub async fn connect(path: &Path, uid: Option<u32>) -> Result<Channel, tonic::transport::Error> {
    let path = path.to_owned();
    let connector = service_fn(move |_| {
        let path = path.clone();
        async move {
            let stream = UnixStream::connect(&path).await?;
            let actual = stream.peer_cred()?.uid();
            match uid {
                Some(expected) if expected != actual => Err(io::Error::new(
                    ErrorKind::PermissionDenied,
                    format!("{}: its owner has uid {actual}, not {expected}", path.display()),
                )),
                _ => Ok(TokioIo::new(stream)),
            }
        }
    });
    // The URI is required by the API and goes nowhere: the connector decides.
    Endpoint::from_static("http://steppe.invalid")
        .connect_timeout(CONNECT_TIMEOUT)
        .http2_keep_alive_interval(PING_INTERVAL)
        .keep_alive_timeout(PING_TIMEOUT)
        .connect_with_connector(connector)
        .await
}

/// Refuses whoever does not run as `uid` (SO_PEERCRED, unix(7)).
///
/// # Errors
/// `PERMISSION_DENIED`, naming both uids.
#[allow(clippy::result_large_err, reason = "tonic's own error type")]
pub fn require_uid<T>(request: &Request<T>, uid: u32) -> Result<(), Status> {
    let peer = request.extensions().get::<UdsConnectInfo>().and_then(|info| info.peer_cred);
    match peer {
        Some(peer) if peer.uid() == uid => Ok(()),
        Some(peer) => Err(Status::permission_denied(format!(
            "only uid {uid} (control) may call this, and the caller has uid {}",
            peer.uid()
        ))),
        None => Err(Status::permission_denied("the caller's uid is not known")),
    }
}
