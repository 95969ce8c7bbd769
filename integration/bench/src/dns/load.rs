//! Questions over UDP from many addresses, by one thread: each a whole IP packet (raw(7)), so that one socket asks for all. Answers come
//! to one socket as well, whose address is any.

use std::{
    io::{IoSlice, IoSliceMut},
    net::{Ipv4Addr, SocketAddrV4},
    os::fd::{AsRawFd as _, OwnedFd},
    time::{Duration, Instant},
};

use anyhow::{Result, ensure};
use nix::{
    errno::Errno,
    sys::socket::{MsgFlags, MultiHeaders, SockaddrIn, recvmmsg, sendmmsg},
};
use rustix::net::{AddressFamily, SocketType, bind, getsockname, ipproto, socket, sockopt};

use super::message::Question;

/// Packets in one call.
const BATCH: usize = 64;
/// The longest question with its heads, and the longest answer.
const LONGEST: usize = 512;
/// A question that is not answered for so long is lost.
const PATIENCE: Duration = Duration::from_millis(500);
const HEADS: usize = 28;
/// The number of a question is its slot's in the lower bits, and how often that was used in the others.
const SLOT_BITS: u16 = 10;

/// What is asked, and how.
#[derive(Debug)]
pub struct Load {
    pub questions: Vec<Question>,
    /// Questions that are open at a time, at the most.
    pub window: usize,
    /// Questions a second; as many as are answered if there is none.
    pub pace: Option<f64>,
    pub time: Duration,
}

/// What came of it.
#[derive(Debug, Default)]
pub struct Measured {
    pub answered: u64,
    pub lost: u64,
    pub seconds: f64,
    /// In microseconds.
    pub p50: f64,
    pub p99: f64,
}

/// A question that is open.
#[derive(Debug, Clone, Copy)]
struct Slot {
    id: u16,
    question: usize,
    sent: Option<Instant>,
}

impl Measured {
    /// From the times of all answers, in nanoseconds.
    pub fn new(mut times: Vec<u32>, lost: u64, taken: Duration) -> Self {
        times.sort_unstable();
        let at = |percent: usize| {
            times.get(times.len() * percent / 100).map_or(f64::NAN, |ns| f64::from(*ns) / 1e3)
        };
        Self { answered: times.len() as u64, lost, seconds: taken.as_secs_f64(), p50: at(50), p99: at(99) }
    }
}

struct Asking<'a> {
    load: &'a Load,
    to: SocketAddrV4,
    raw: OwnedFd,
    answers: OwnedFd,
    port: u16,
    slots: Vec<Slot>,
    free: Vec<usize>,
    next: usize,
    times: Vec<u32>,
    lost: u64,
}

impl Load {
    /// Asks for as long as it says.
    ///
    /// # Errors
    /// When an answer is wrong.
    pub fn ask(&self, to: SocketAddrV4) -> Result<Measured> {
        ensure!(self.window <= 1 << SLOT_BITS, "the window is too large");
        let raw = socket(AddressFamily::INET, SocketType::RAW, Some(ipproto::RAW))?;
        let answers = socket(AddressFamily::INET, SocketType::DGRAM, None)?;
        sockopt::set_socket_recv_buffer_size_force(&answers, 8 << 20)?;
        sockopt::set_socket_send_buffer_size_force(&raw, 8 << 20)?;
        bind(&answers, &SocketAddrV4::new(Ipv4Addr::UNSPECIFIED, 0))?;
        let port = SocketAddrV4::try_from(getsockname(&answers)?)?.port();
        #[expect(clippy::cast_possible_truncation, reason = "a window is small")]
        let slot = |nth| Slot { id: nth as u16, question: 0, sent: None };
        let asking = Asking {
            load: self,
            to,
            raw,
            answers,
            port,
            slots: (0..self.window).map(slot).collect(),
            free: (0..self.window).collect(),
            next: 0,
            times: Vec::with_capacity(1 << 20),
            lost: 0,
        };
        asking.run()
    }
}

impl Asking<'_> {
    fn run(mut self) -> Result<Measured> {
        let mut out = vec![[0_u8; LONGEST]; BATCH];
        let mut lengths = [0; BATCH];
        let mut within = vec![[0_u8; LONGEST]; BATCH];
        let mut asked = 0.0;
        let began = Instant::now();
        let mut looked = began;
        loop {
            let now = Instant::now();
            let over = now.duration_since(began) >= self.load.time;
            let due = match self.load.pace {
                _ if over => 0,
                #[expect(
                    clippy::cast_possible_truncation,
                    clippy::cast_sign_loss,
                    reason = "rounded down, never below 0"
                )]
                Some(pace) => (now.duration_since(began).as_secs_f64() * pace - asked).max(0.0) as usize,
                None => BATCH,
            };
            let count = due.min(BATCH).min(self.free.len());
            for nth in 0..count {
                lengths[nth] = self.fill(&mut out[nth], now);
            }
            self.send(&out[..count], &lengths)?;
            #[expect(clippy::cast_precision_loss, reason = "a batch is small")]
            {
                asked += count as f64;
            }
            self.receive(&mut within)?;
            if now.duration_since(looked) > PATIENCE / 4 {
                looked = now;
                self.give_up(now);
            }
            if over && self.free.len() == self.slots.len() {
                return Ok(Measured::new(self.times, self.lost, began.elapsed()));
            }
        }
    }

    /// Puts the next question into a packet, and says how long that is.
    fn fill(&mut self, packet: &mut [u8; LONGEST], now: Instant) -> usize {
        let question = &self.load.questions[self.next];
        let slot = self.free.pop().unwrap_or_default();
        let id = self.slots[slot].id.wrapping_add(1 << SLOT_BITS);
        self.slots[slot] = Slot { id, question: self.next, sent: Some(now) };
        self.next = (self.next + 1) % self.load.questions.len();
        let length = HEADS + question.packet.len();
        // The kernel fills in the length, the number and the sum; a UDP sum of zero is none.
        packet[..HEADS].copy_from_slice(&[
            0x45, 0, 0, 0, 0, 0, 0x40, 0, 64, 17, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0,
        ]);
        packet[12..16].copy_from_slice(&question.source.octets());
        packet[16..20].copy_from_slice(&self.to.ip().octets());
        packet[20..22].copy_from_slice(&self.port.to_be_bytes());
        packet[22..24].copy_from_slice(&self.to.port().to_be_bytes());
        #[expect(clippy::cast_possible_truncation, reason = "a question is short")]
        packet[24..26].copy_from_slice(&((length - 20) as u16).to_be_bytes());
        packet[HEADS..length].copy_from_slice(&question.packet);
        packet[HEADS..HEADS + 2].copy_from_slice(&id.to_be_bytes());
        length
    }

    fn send(&self, packets: &[[u8; LONGEST]], lengths: &[usize]) -> Result<()> {
        let to = Some(SockaddrIn::from(SocketAddrV4::new(*self.to.ip(), 0)));
        let mut sent = 0;
        while sent < packets.len() {
            let mut heads = MultiHeaders::preallocate(packets.len() - sent, None);
            let pieces: Vec<[IoSlice<'_>; 1]> =
                (sent..packets.len()).map(|nth| [IoSlice::new(&packets[nth][..lengths[nth]])]).collect();
            let addresses = vec![to; pieces.len()];
            sent +=
                sendmmsg(self.raw.as_raw_fd(), &mut heads, pieces.iter(), addresses, [], MsgFlags::empty())?
                    .count();
        }
        Ok(())
    }

    fn receive(&mut self, buffers: &mut [[u8; LONGEST]]) -> Result<()> {
        let mut heads = MultiHeaders::<SockaddrIn>::preallocate(buffers.len(), None);
        let mut lengths = [0; BATCH];
        let mut pieces: Vec<[IoSliceMut<'_>; 1]> =
            buffers.iter_mut().map(|buffer| [IoSliceMut::new(buffer)]).collect();
        let received = match recvmmsg(
            self.answers.as_raw_fd(),
            &mut heads,
            pieces.iter_mut(),
            MsgFlags::MSG_DONTWAIT,
            None,
        ) {
            Ok(received) => {
                received.zip(&mut lengths).map(|(message, length)| *length = message.bytes).count()
            }
            Err(Errno::EAGAIN) => return Ok(()),
            Err(errno) => return Err(errno.into()),
        };
        let now = Instant::now();
        for (buffer, &length) in buffers.iter().zip(&lengths).take(received) {
            let id = u16::from_be_bytes([buffer[0], buffer[1]]);
            let nth = usize::from(id & ((1 << SLOT_BITS) - 1));
            let Some(slot) = self.slots.get_mut(nth).filter(|slot| slot.id == id) else { continue };
            let Some(sent) = slot.sent.take() else { continue };
            let question = &self.load.questions[slot.question];
            ensure!(question.is_answered_by(&buffer[..length]), "a wrong answer: {:02x?}", &buffer[..length]);
            self.times.push(now.duration_since(sent).as_nanos().try_into().unwrap_or(u32::MAX));
            self.free.push(nth);
        }
        Ok(())
    }

    fn give_up(&mut self, now: Instant) {
        for (nth, slot) in self.slots.iter_mut().enumerate() {
            if slot.sent.is_some_and(|sent| now.duration_since(sent) > PATIENCE) {
                slot.sent = None;
                self.lost += 1;
                self.free.push(nth);
            }
        }
    }
}
