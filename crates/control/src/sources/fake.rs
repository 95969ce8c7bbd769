//! A small HTTP server for tests that answers as it is told, faults included.

use std::{collections::VecDeque, io, net::SocketAddr, path::Path};

use tokio::{
    io::{AsyncBufReadExt, AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, BufReader},
    net::{TcpListener, UnixListener},
    sync::mpsc,
    task::AbortHandle,
};
use tokio_stream::{
    Stream, StreamExt,
    wrappers::{TcpListenerStream, UnixListenerStream},
};

/// What comes back to a request.
pub(super) enum Reply {
    /// A whole answer, with these lines in its head.
    Whole { status: u16, head: Vec<String>, body: String },
    /// An answer that claims to be this long, but breaks off.
    Broken { claimed: usize, body: String },
    /// So many mebibytes.
    Huge(usize),
    /// Nothing, until the client gives up.
    Never,
    /// What is sent to the channel, as it comes.
    Stream(mpsc::UnboundedReceiver<String>),
}

impl Reply {
    /// An answer of 200 with these lines in its head.
    pub(super) fn ok<const N: usize>(head: [&str; N], body: &str) -> Self {
        Self::Whole { status: 200, head: head.map(str::to_owned).into(), body: body.to_owned() }
    }

    pub(super) fn status(status: u16, body: &str) -> Self {
        Self::Whole { status, head: Vec::new(), body: body.to_owned() }
    }
}

/// What is answered to the requests of one kind, in turn; after that, nothing.
pub(super) struct Script {
    parts: Vec<(String, VecDeque<Reply>)>,
    always: Vec<(String, fn() -> Reply)>,
}

impl Script {
    /// Kinds are told apart by how their targets begin; the first that fits counts.
    pub(super) fn new<const N: usize>(parts: [(&str, Vec<Reply>); N]) -> Self {
        let parts = parts.into_iter().map(|(path, replies)| (path.to_owned(), replies.into()));
        Self { parts: parts.collect(), always: Vec::new() }
    }

    /// The same answer each time, where no other fits.
    pub(super) fn always(mut self, path: &str, reply: fn() -> Reply) -> Self {
        self.always.push((path.to_owned(), reply));
        self
    }

    pub(super) fn answer(&mut self, target: &str) -> Reply {
        let part = self.parts.iter_mut().find(|(path, _)| target.starts_with(path));
        if let Some((_, replies)) = part {
            return replies.pop_front().unwrap_or(Reply::Never);
        }
        let always = self.always.iter().find(|(path, _)| target.starts_with(path));
        always.map_or(Reply::Never, |(_, reply)| reply())
    }
}

/// A running server.
pub(super) struct Fake {
    task: AbortHandle,
    /// The requests' targets, as they come; an empty one tells that a client gave up on [`Reply::Never`].
    pub(super) requests: mpsc::UnboundedReceiver<String>,
}

impl Drop for Fake {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Fake {
    pub(super) async fn tcp(answers: impl FnMut(&str) -> Reply + Send + 'static) -> (Self, SocketAddr) {
        let listener = TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
        let address = listener.local_addr().unwrap();
        (Self::start(TcpListenerStream::new(listener), answers), address)
    }

    pub(super) fn unix(path: &Path, answers: impl FnMut(&str) -> Reply + Send + 'static) -> Self {
        let listener = UnixListener::bind(path).unwrap();
        Self::start(UnixListenerStream::new(listener), answers)
    }

    fn start<S: AsyncRead + AsyncWrite + Send + Unpin + 'static>(
        mut clients: impl Stream<Item = io::Result<S>> + Send + Unpin + 'static,
        mut answers: impl FnMut(&str) -> Reply + Send + 'static,
    ) -> Self {
        let (told, requests) = mpsc::unbounded_channel();
        let task = tokio::spawn(async move {
            let (heard, mut asked) = mpsc::unbounded_channel();
            loop {
                tokio::select! {
                    Some(client) = clients.next() => {
                        let (client, heard) = (BufReader::new(client.unwrap()), heard.clone());
                        tokio::spawn(async move { heard.send(hear(client).await) });
                    }
                    Some((client, target)) = asked.recv() => {
                        let reply = answers(&target);
                        let _ = told.send(target);
                        tokio::spawn(send(client, reply, told.clone()));
                    }
                }
            }
        });
        Self { task: task.abort_handle(), requests }
    }
}

/// Reads a request and gives its target.
async fn hear<S: AsyncRead + AsyncWrite + Unpin>(mut client: BufReader<S>) -> (BufReader<S>, String) {
    let mut target = None;
    loop {
        let mut line = String::new();
        if client.read_line(&mut line).await.unwrap_or(0) <= 2 {
            return (client, target.unwrap_or_default());
        }
        target = target.or_else(|| line.split(' ').nth(1).map(str::to_owned));
    }
}

async fn send<S: AsyncRead + AsyncWrite + Unpin>(
    mut to: BufReader<S>,
    reply: Reply,
    told: mpsc::UnboundedSender<String>,
) {
    let head = |status: u16, lines: &[String], length: usize| {
        let lines: String = lines.iter().map(|line| format!("{line}\r\n")).collect();
        format!("HTTP/1.1 {status} Said\r\nConnection: close\r\nContent-Length: {length}\r\n{lines}\r\n")
    };
    // The client may go away at any time.
    let _ = match reply {
        Reply::Whole { status, head: lines, body } => {
            to.write_all((head(status, &lines, body.len()) + &body).as_bytes()).await
        }
        Reply::Broken { claimed, body } => to.write_all((head(200, &[], claimed) + &body).as_bytes()).await,
        Reply::Huge(mib) => {
            let mut sent = to.write_all(head(200, &[], mib << 20).as_bytes()).await;
            let block = vec![b' '; 1 << 20];
            for _ in 0..mib {
                if sent.is_ok() {
                    sent = to.write_all(&block).await;
                }
            }
            sent
        }
        Reply::Never => {
            let _ = to.read(&mut [0]).await;
            let _ = told.send(String::new());
            return;
        }
        Reply::Stream(mut lines) => {
            let mut sent = to.write_all(b"HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n").await;
            while let (Ok(()), Some(line)) = (&sent, lines.recv().await) {
                sent = to.write_all(line.as_bytes()).await;
            }
            sent
        }
    };
    let _ = to.shutdown().await;
}
