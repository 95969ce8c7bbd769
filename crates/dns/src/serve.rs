//! The ways in: UDP and TCP, on one address.

mod batch;
mod socket;
mod tcp;
mod udp;

use std::{io, net::SocketAddrV4, sync::Arc, time::Duration};

use tokio::{sync::watch, task::JoinHandle};

use crate::desk::Desk;
pub(crate) use socket::probe;
use udp::UdpServer;

/// How long UDP must have been quiet, once nothing new is led to us, to be sure that nothing is under way: a packet gets from the
/// choice of its socket to that socket's queue in microseconds, unless the processor is taken away in between.
const QUIET: Duration = Duration::from_millis(50);

/// Both ways in, open.
#[derive(Debug)]
pub(crate) struct Serving {
    udp: UdpServer,
    tcp: JoinHandle<()>,
    stop: watch::Sender<bool>,
}

impl Serving {
    /// Opens both; `shared` with another dns that does the same.
    ///
    /// # Errors
    /// The system's.
    pub(crate) fn start(desk: &Arc<Desk>, address: SocketAddrV4, shared: bool) -> io::Result<Self> {
        // TCP first: whoever is told over UDP to come by TCP finds it open.
        let listener = socket::listening(address, shared)?;
        let socket = socket::datagram(address, shared)?;
        let (stop, stopping) = watch::channel(false);
        let tcp =
            tokio::spawn(tcp::serve(desk.clone(), tokio::net::TcpListener::from_std(listener)?, stopping));
        Ok(Self { udp: UdpServer::start(desk.clone(), socket)?, tcp, stop })
    }

    /// Ends with how the thread that answers UDP ended, which it does only when it is broken or told to.
    pub(crate) async fn died(&mut self) -> String {
        self.udp.ended().await
    }

    /// Lets no more in, and answers what is in: new packets go to the other dns that shares the address, if there is one; of
    /// those that were queued here none is lost. Ends when all are answered.
    pub(crate) async fn drain(mut self, desk: &Desk) {
        socket::turn_away(self.udp.socket());
        self.stop.send_replace(true);
        self.udp.drain(QUIET);
        self.udp.ended().await;
        // A panic there has been told by its hook.
        let _ = self.tcp.await;
        desk.forwarder.idle().await;
    }
}
