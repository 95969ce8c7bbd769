//! Loopback addresses, endpoints and clients.

use std::{
    io,
    net::{Ipv4Addr, SocketAddr, SocketAddrV4},
    sync::atomic::{AtomicU8, Ordering},
    time::Duration,
};

use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpListener, TcpSocket, TcpStream},
    task::JoinHandle,
    time::timeout,
};

/// Longer than anything here should take, on a loaded machine too.
pub(crate) const PATIENCE: Duration = Duration::from_secs(30);

/// Waits for what must come.
pub(crate) async fn soon<T>(what: impl Future<Output = T>) -> T {
    timeout(PATIENCE, what).await.expect("this should have happened by now")
}

/// Addresses that no other test uses.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Net(u8);

impl Net {
    pub(crate) fn new() -> Self {
        static NEXT: AtomicU8 = AtomicU8::new(1);
        Self(NEXT.fetch_add(1, Ordering::Relaxed))
    }

    pub(crate) fn ip(self, last: u8) -> Ipv4Addr {
        Ipv4Addr::new(127, 100, self.0, last)
    }

    /// The client that is granted everything.
    pub(crate) fn client(self) -> Ipv4Addr {
        self.ip(2)
    }

    /// An address on which nobody listens.
    pub(crate) fn free(self) -> SocketAddrV4 {
        let listener = std::net::TcpListener::bind((self.ip(1), 0)).unwrap();
        v4(listener.local_addr().unwrap())
    }

    pub(crate) async fn listen(self) -> (TcpListener, SocketAddrV4) {
        let listener = TcpListener::bind((self.ip(10), 0)).await.unwrap();
        let address = v4(listener.local_addr().unwrap());
        (listener, address)
    }

    /// An endpoint that says who it is and hangs up.
    pub(crate) async fn named_endpoint(self, name: u8) -> Endpoint {
        self.endpoint(move |mut stream| async move {
            let _ = stream.write_all(&[name]).await;
        })
        .await
    }

    /// An endpoint that sends back what it gets.
    pub(crate) async fn echo_endpoint(self) -> Endpoint {
        self.endpoint(|mut stream| async move {
            let (mut read, mut write) = stream.split();
            let _ = tokio::io::copy(&mut read, &mut write).await;
            let _ = write.shutdown().await;
        })
        .await
    }

    async fn endpoint<F: Future<Output = ()> + Send + 'static>(
        self,
        serve: impl Fn(TcpStream) -> F + Send + 'static,
    ) -> Endpoint {
        let (listener, address) = self.listen().await;
        let task = tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                tokio::spawn(serve(stream));
            }
        });
        Endpoint { address, task }
    }

    pub(crate) async fn dial(self, to: SocketAddrV4) -> io::Result<TcpStream> {
        dial_from(self.client(), to).await
    }
}

/// An endpoint that serves until this is dropped.
#[derive(Debug)]
pub(crate) struct Endpoint {
    pub(crate) address: SocketAddrV4,
    task: JoinHandle<()>,
}

impl Drop for Endpoint {
    fn drop(&mut self) {
        self.task.abort();
    }
}

pub(crate) async fn dial_from(from: Ipv4Addr, to: SocketAddrV4) -> io::Result<TcpStream> {
    let socket = TcpSocket::new_v4()?;
    socket.bind((from, 0).into())?;
    soon(socket.connect(to.into())).await
}

/// Everything that comes, and how it ended.
pub(crate) async fn read_all(stream: &mut TcpStream) -> (Vec<u8>, io::Result<()>) {
    let mut bytes = Vec::new();
    let ended = soon(stream.read_to_end(&mut bytes)).await.map(|_| ());
    (bytes, ended)
}

/// Connects, and must be reset: so soon, perhaps, that connect() itself says it.
pub(crate) async fn expect_refusal(from: Ipv4Addr, to: SocketAddrV4) {
    match dial_from(from, to).await {
        Ok(mut stream) => expect_reset(&mut stream).await,
        Err(error) => assert_eq!(error.kind(), io::ErrorKind::ConnectionReset),
    }
}

/// Waits for the end, which must be a reset.
pub(crate) async fn expect_reset(stream: &mut TcpStream) {
    let (bytes, ended) = read_all(stream).await;
    let error = ended.expect_err("a reset, not an end");
    assert_eq!(error.kind(), io::ErrorKind::ConnectionReset, "after {bytes:?}");
}

/// What the peer sends back for `bytes`.
pub(crate) async fn echoed(stream: &mut TcpStream, bytes: &[u8]) -> io::Result<Vec<u8>> {
    let mut answer = vec![0; bytes.len()];
    soon(stream.write_all(bytes)).await?;
    soon(stream.read_exact(&mut answer)).await?;
    Ok(answer)
}

/// Closes so that the peer sees a reset.
pub(crate) fn slam(stream: TcpStream) {
    rustix::net::sockopt::set_socket_linger(&stream, Some(Duration::ZERO)).unwrap();
}

pub(crate) fn v4(address: SocketAddr) -> SocketAddrV4 {
    match address {
        SocketAddr::V4(address) => address,
        SocketAddr::V6(_) => unreachable!("everything here is IPv4"),
    }
}
