//! HAProxy's PROXY protocol, version 2: who called, told to the instance ahead of the data.
//! <https://www.haproxy.org/download/3.0/doc/proxy-protocol.txt>, section 2.2.

use std::net::SocketAddrV4;

/// What every header of version 2 begins with.
const SIGNATURE: [u8; 12] = *b"\r\n\r\n\0\r\nQUIT\n";
/// Version 2, command PROXY.
const VERSION_AND_COMMAND: u8 = 0x21;
/// AF_INET, SOCK_STREAM.
const TCP_OVER_IPV4: u8 = 0x11;
/// Two addresses and two ports.
const ADDRESSES_LENGTH: u8 = 12;
/// The whole header.
pub(crate) const HEADER_LENGTH: usize = 28;

/// The header for a connection from `client` to `dialled`.
pub(crate) fn header(client: SocketAddrV4, dialled: SocketAddrV4) -> [u8; HEADER_LENGTH] {
    let mut header = [0; HEADER_LENGTH];
    header[..12].copy_from_slice(&SIGNATURE);
    header[12..16].copy_from_slice(&[VERSION_AND_COMMAND, TCP_OVER_IPV4, 0, ADDRESSES_LENGTH]);
    header[16..20].copy_from_slice(&client.ip().octets());
    header[20..24].copy_from_slice(&dialled.ip().octets());
    header[24..26].copy_from_slice(&client.port().to_be_bytes());
    header[26..28].copy_from_slice(&dialled.port().to_be_bytes());
    header
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_header_is_as_specified() {
        let header = header("172.17.0.5:40000".parse().unwrap(), "247.1.2.3:80".parse().unwrap());
        assert_eq!(
            header,
            *b"\x0D\x0A\x0D\x0A\x00\x0D\x0A\x51\x55\x49\x54\x0A\x21\x11\x00\x0C\xAC\x11\x00\x05\xF7\x01\x02\x03\x9C\x40\x00\x50"
        );
    }
}
