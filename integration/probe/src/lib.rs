//! What the probe and the testbed share: how one connection attempt ends, and its line of text; frames and DNS messages.
#![forbid(unsafe_code)]

pub mod frame;
pub mod message;

use std::fmt;
use std::io::{self, ErrorKind, Read};
use std::net::{SocketAddr, TcpStream};
use std::str::FromStr;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

/// Wall-clock time in nanoseconds since 1970: comparable between the test and its containers,
/// which share one kernel.
pub fn now_ns() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_nanos()).unwrap_or(u64::MAX)
}

/// How one connection attempt ended.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Outcome {
    /// Connected, and the server told its name.
    Ok(String),
    /// ECONNREFUSED: a reset answered the SYN.
    Refused,
    /// ECONNRESET: the connection was open and was cut.
    Reset,
    /// EHOSTUNREACH or ENETUNREACH: an ICMP error, or no route.
    Unreachable,
    /// EACCES: a `prohibit` route or a local policy.
    Prohibited,
    /// No answer in time.
    Timeout,
    /// The server closed before it told its name.
    Eof,
    /// There is no such name.
    NoName,
    /// Anything else, in the system's words.
    Error(String),
}

impl Outcome {
    /// The outcome that a failed system call stands for (connect(2), read(2), write(2)).
    pub fn of(error: &io::Error) -> Self {
        match error.kind() {
            ErrorKind::ConnectionRefused => Self::Refused,
            ErrorKind::ConnectionReset | ErrorKind::BrokenPipe => Self::Reset,
            ErrorKind::HostUnreachable | ErrorKind::NetworkUnreachable => Self::Unreachable,
            ErrorKind::PermissionDenied => Self::Prohibited,
            ErrorKind::TimedOut | ErrorKind::WouldBlock => Self::Timeout,
            ErrorKind::UnexpectedEof => Self::Eof,
            _ => Self::Error(error.to_string()),
        }
    }

    /// Whether a server answered.
    pub fn is_ok(&self) -> bool {
        matches!(self, Self::Ok(_))
    }

    /// The name of the server that answered.
    pub fn name(&self) -> Option<&str> {
        match self {
            Self::Ok(name) => Some(name),
            _ => None,
        }
    }
}

impl fmt::Display for Outcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Ok(name) => write!(f, "ok {name}"),
            Self::Refused => f.write_str("refused"),
            Self::Reset => f.write_str("reset"),
            Self::Unreachable => f.write_str("unreachable"),
            Self::Prohibited => f.write_str("prohibited"),
            Self::Timeout => f.write_str("timeout"),
            Self::Eof => f.write_str("eof"),
            Self::NoName => f.write_str("noname"),
            Self::Error(text) => write!(f, "error {text}"),
        }
    }
}

impl FromStr for Outcome {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let (word, rest) = text.split_once(' ').unwrap_or((text, ""));
        Ok(match word {
            "ok" => Self::Ok(rest.to_owned()),
            "refused" => Self::Refused,
            "reset" => Self::Reset,
            "unreachable" => Self::Unreachable,
            "prohibited" => Self::Prohibited,
            "timeout" => Self::Timeout,
            "eof" => Self::Eof,
            "noname" => Self::NoName,
            "error" => Self::Error(rest.to_owned()),
            _ => return Err(format!("`{text}` is no outcome of the probe")),
        })
    }
}

/// One connection attempt: when it began and ended (see [`now_ns`]), and how.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Attempt {
    /// Just before connect(2).
    pub start_ns: u64,
    /// Once the outcome was known.
    pub end_ns: u64,
    /// What came of it.
    pub outcome: Outcome,
}

impl Attempt {
    /// Connects to `to`, reads the server's name and closes, all within `timeout`.
    pub fn make(to: SocketAddr, timeout: Duration) -> Self {
        let start_ns = now_ns();
        let outcome = greet(to, timeout).map_or_else(|e| Outcome::of(&e), |(_, name)| Outcome::Ok(name));
        Self { start_ns, end_ns: now_ns(), outcome }
    }

    /// How long it took.
    pub fn took(&self) -> Duration {
        Duration::from_nanos(self.end_ns.saturating_sub(self.start_ns))
    }
}

impl fmt::Display for Attempt {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {} {}", self.start_ns, self.end_ns, self.outcome)
    }
}

impl FromStr for Attempt {
    type Err = String;

    fn from_str(line: &str) -> Result<Self, Self::Err> {
        let mut words = line.splitn(3, ' ');
        let mut word = || words.next().ok_or_else(|| format!("`{line}` is no line of `probe connect`"));
        let number = |w: &str| w.parse().map_err(|_| format!("`{w}` in `{line}` is no time in nanoseconds"));
        Ok(Self { start_ns: number(word()?)?, end_ns: number(word()?)?, outcome: word()?.parse()? })
    }
}

/// Connects to a probe's `serve` and reads its name; both together may take `timeout`.
///
/// # Errors
/// Those of connect(2) and read(2); `UnexpectedEof` when the server closed without a name.
pub fn greet(to: SocketAddr, timeout: Duration) -> io::Result<(TcpStream, String)> {
    let began = Instant::now();
    let stream = TcpStream::connect_timeout(&to, timeout)?;
    read_name(stream, timeout.saturating_sub(began.elapsed()))
}

/// Reads the name that a probe's `serve` tells first, within `timeout`.
///
/// # Errors
/// As [`greet`].
pub fn read_name(mut stream: TcpStream, timeout: Duration) -> io::Result<(TcpStream, String)> {
    let until = Instant::now() + timeout;
    stream.set_nodelay(true)?;
    let mut name = Vec::new();
    let mut byte = [0];
    loop {
        let left = until.saturating_duration_since(Instant::now());
        // A zero time-out would mean "for ever".
        stream.set_read_timeout(Some(left.max(Duration::from_millis(1))))?;
        match stream.read(&mut byte)? {
            0 => return Err(ErrorKind::UnexpectedEof.into()),
            _ if byte[0] == b'\n' => break,
            _ => name.push(byte[0]),
        }
    }
    stream.set_read_timeout(None)?;
    Ok((stream, String::from_utf8_lossy(&name).into_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_attempt_reads_back_what_it_wrote() {
        for outcome in [
            Outcome::Ok("web 1".into()),
            Outcome::Refused,
            Outcome::Reset,
            Outcome::Unreachable,
            Outcome::Prohibited,
            Outcome::Timeout,
            Outcome::Eof,
            Outcome::NoName,
            Outcome::Error("no such device (os error 19)".into()),
        ] {
            let attempt = Attempt { start_ns: 5, end_ns: 7, outcome };
            assert_eq!(attempt.to_string().parse(), Ok(attempt));
        }
        assert!("5 7 maybe".parse::<Attempt>().is_err());
        assert!("5 x ok".parse::<Attempt>().is_err());
        assert!("5".parse::<Attempt>().is_err());
    }
}
