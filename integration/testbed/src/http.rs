//! Just enough HTTP/1.0 for Docker's and Consul's APIs: one request a connection, the body ends with it.

use serde_json::Value;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::Duration;

/// No answer of a local daemon takes longer, unless it hangs.
const PATIENCE: Duration = Duration::from_secs(30);

/// An answer whose body is still to be read.
pub(crate) struct Response<S> {
    pub(crate) status: u16,
    headers: Vec<String>,
    body: BufReader<S>,
}

/// Connects to a unix socket, from the namespaces of the calling thread.
pub(crate) fn unix(path: &Path) -> Result<UnixStream, String> {
    let stream = UnixStream::connect(path).map_err(|e| format!("{}: {e}", path.display()))?;
    stream.set_read_timeout(Some(PATIENCE)).map_err(|e| e.to_string())?;
    Ok(stream)
}

/// Connects to an address, from the namespaces of the calling thread.
pub(crate) fn tcp(to: SocketAddr) -> Result<TcpStream, String> {
    let stream = TcpStream::connect_timeout(&to, PATIENCE).map_err(|e| format!("{to}: {e}"))?;
    stream.set_read_timeout(Some(PATIENCE)).map_err(|e| e.to_string())?;
    Ok(stream)
}

/// Sends one request and reads the answer's head.
pub(crate) fn request<S: Read + Write>(
    mut stream: S,
    method: &str,
    path: &str,
    content_type: &str,
    body: &[u8],
) -> Result<Response<S>, String> {
    let length = body.len();
    let head = format!(
        "{method} {path} HTTP/1.0\r\nHost: testbed\r\nContent-Type: {content_type}\r\nContent-Length: {length}\r\n\r\n"
    );
    let lost = |e: std::io::Error| format!("{method} {path}: {e}");
    stream.write_all(head.as_bytes()).and_then(|()| stream.write_all(body)).map_err(lost)?;
    let mut reader = BufReader::new(stream);
    let mut line = String::new();
    reader.read_line(&mut line).map_err(lost)?;
    let status = line.split(' ').nth(1).and_then(|word| word.parse().ok());
    let status = status.ok_or_else(|| format!("{method} {path}: `{}` is no HTTP", line.trim_end()))?;
    let mut headers = Vec::new();
    while !line.trim_end().is_empty() {
        line.clear();
        reader.read_line(&mut line).map_err(lost)?;
        headers.push(line.trim_end().to_owned());
    }
    Ok(Response { status, headers, body: reader })
}

/// Sends one request with a JSON body, `Null` for none, and reads the answer as JSON (as a string if it is none).
pub(crate) fn json<S: Read + Write>(
    stream: S,
    method: &str,
    path: &str,
    body: &Value,
) -> Result<Value, String> {
    let bytes = if body.is_null() { Vec::new() } else { body.to_string().into_bytes() };
    let response = request(stream, method, path, "application/json", &bytes)?;
    let status = response.status;
    let text = response.text()?;
    if (200..400).contains(&status) {
        Ok(serde_json::from_str(&text).unwrap_or(Value::String(text)))
    } else {
        Err(format!("{method} {path}: {status} {}", text.trim_end()))
    }
}

impl<S: Read> Response<S> {
    /// A header's value.
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        let pairs = self.headers.iter().filter_map(|line| line.split_once(':'));
        let mut values = pairs.filter(|(found, _)| found.eq_ignore_ascii_case(name));
        values.next().map(|(_, value)| value.trim())
    }

    /// The body up to the connection's end.
    pub(crate) fn bytes(mut self) -> Result<Vec<u8>, String> {
        let mut bytes = Vec::new();
        self.body.read_to_end(&mut bytes).map_err(|e| e.to_string())?;
        Ok(bytes)
    }

    /// The body as text.
    pub(crate) fn text(self) -> Result<String, String> {
        self.bytes().map(|bytes| String::from_utf8_lossy(&bytes).into_owned())
    }

    /// The body as a stream.
    pub(crate) fn stream(self) -> BufReader<S> {
        self.body
    }
}
