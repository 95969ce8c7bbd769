//! Servers that say who they are, and then repeat what they are told.

use std::{
    io::{self, Read as _, Write as _},
    net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream},
    thread,
};

use crate::net::{DEADLINE, Namespace};

/// A server; it stops listening when it is dropped.
pub struct Server {
    listener: TcpListener,
    pub address: SocketAddr,
}

impl Server {
    /// Each of its connections begins with `name`.
    pub fn new(net: &Namespace, ip: Ipv4Addr, name: u8) -> Self {
        Self::of(net.listen(ip), name)
    }

    /// The same with a listener that there is.
    pub fn of(listener: TcpListener, name: u8) -> Self {
        let address = listener.local_addr().unwrap();
        let accepting = listener.try_clone().unwrap();
        thread::spawn(move || {
            while let Ok((connection, _)) = accepting.accept() {
                thread::spawn(move || serve(connection, name));
            }
        });
        Self { listener, address }
    }

    pub fn port(&self) -> u16 {
        self.address.port()
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = rustix::net::shutdown(&self.listener, rustix::net::Shutdown::Both);
    }
}

fn serve(mut connection: TcpStream, name: u8) {
    let _ = connection.write_all(&[name]);
    if let Ok(mut back) = connection.try_clone() {
        let _ = io::copy(&mut connection, &mut back);
    }
}

/// A connection whose server has said who it is.
pub struct Connection {
    stream: TcpStream,
    pub server: u8,
}

impl Connection {
    pub fn open(net: &Namespace, address: &str) -> io::Result<Self> {
        let mut stream = net.dial(address)?;
        stream.set_read_timeout(Some(DEADLINE))?;
        let mut server = [0];
        stream.read_exact(&mut server)?;
        Ok(Self { stream, server: server[0] })
    }

    /// Says something and waits for its echo.
    pub fn exchange(&mut self) -> io::Result<()> {
        self.stream.write_all(b"x")?;
        let mut echo = [0];
        self.stream.read_exact(&mut echo)?;
        assert_eq!(&echo, b"x");
        Ok(())
    }
}

/// Who answers there.
pub fn ask(net: &Namespace, address: &str) -> io::Result<u8> {
    Connection::open(net, address).map(|connection| connection.server)
}
