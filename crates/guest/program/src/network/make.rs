//! Making the network of a container: addresses of its loopback that lead to nobody but who holds
//! the sockets that are bound to them.

use std::net::{Ipv4Addr, SocketAddrV4, TcpListener, UdpSocket};
use std::os::fd::{IntoRawFd as _, RawFd};

use moat_guest::{ContainerNetwork, ContainerSocket};
use rustix::io::Errno;
use rustix::net::{
    AddressFamily, RecvFlags, SendFlags, SocketFlags, SocketType, recv, send, socket_with,
};

use crate::container;

/// The loopback device's number, which is 1 in every network namespace.
const LOOPBACK: u32 = 1;

/// Of `linux/rtnetlink.h` and `linux/netlink.h`.
const RTM_NEWADDR: u16 = 20;
const NLM_F_REQUEST: u16 = 1;
const NLM_F_ACK: u16 = 4;
const NLM_F_CREATE: u16 = 0x400;
const NLMSG_ERROR: u16 = 2;
const IFA_ADDRESS: u16 = 1;
const IFA_LOCAL: u16 = 2;

/// Adds the address and binds the sockets; answers their descriptors, in the order of the sockets.
pub(crate) fn make(wanted: &ContainerNetwork) -> Result<Vec<RawFd>, String> {
    let ContainerNetwork { address, prefix, sockets, ssh_agent } = wanted;
    add_address(*address, *prefix)
        .map_err(|error| format!("cannot make {address}/{prefix} local: {error}"))?;
    let mut descriptors = Vec::new();
    for socket in sockets {
        let ContainerSocket { address, port, .. } = socket;
        let bound = bind(socket);
        descriptors
            .push(bound.map_err(|error| format!("cannot listen at {address}:{port}: {error}"))?);
    }
    if let Some(path) = ssh_agent {
        let listener = container::listen(&path.to_path(), 0o666);
        let listener = listener
            .map_err(|error| format!("cannot listen for users of the SSH agent: {error}"))?;
        descriptors.push(listener.into_raw_fd());
    }
    Ok(descriptors)
}

fn bind(socket: &ContainerSocket) -> std::io::Result<RawFd> {
    let address = SocketAddrV4::new(socket.address, socket.port);
    Ok(if socket.stream {
        TcpListener::bind(address)?.into_raw_fd()
    } else {
        UdpSocket::bind(address)?.into_raw_fd()
    })
}

/// Gives the loopback device an address. On this device the kernel makes all of the address's
/// network local, as it does for 127.0.0.0/8.
fn add_address(address: Ipv4Addr, prefix: u8) -> rustix::io::Result<()> {
    // Without a protocol it is the one of routes, whose number is zero.
    let socket = socket_with(AddressFamily::NETLINK, SocketType::RAW, SocketFlags::CLOEXEC, None)?;
    send(&socket, &request(address, prefix), SendFlags::empty())?;
    let mut answer = [0; 256];
    let (_, length) = recv(&socket, &mut answer[..], RecvFlags::empty())?;
    match parse_answer(answer.get(..length).unwrap_or_default()) {
        Some(0) => Ok(()),
        Some(error) => Err(Errno::from_raw_os_error(error.saturating_neg())),
        None => Err(Errno::PROTO),
    }
}

/// The message, in the order of the kernel's structures.
fn request(address: Ipv4Addr, prefix: u8) -> Vec<u8> {
    let mut body = Vec::new();
    // `ifaddrmsg`: family, prefix, flags, scope, device.
    body.extend_from_slice(&[AddressFamily::INET.as_raw() as u8, prefix, 0, 0]);
    body.extend_from_slice(&LOOPBACK.to_ne_bytes());
    for attribute in [IFA_LOCAL, IFA_ADDRESS] {
        body.extend_from_slice(&8_u16.to_ne_bytes());
        body.extend_from_slice(&attribute.to_ne_bytes());
        body.extend_from_slice(&address.octets());
    }
    let mut message = Vec::new();
    message.extend_from_slice(&(16 + body.len() as u32).to_ne_bytes());
    message.extend_from_slice(&RTM_NEWADDR.to_ne_bytes());
    message.extend_from_slice(&(NLM_F_REQUEST | NLM_F_ACK | NLM_F_CREATE).to_ne_bytes());
    // Sequence and port.
    message.extend_from_slice(&1_u32.to_ne_bytes());
    message.extend_from_slice(&0_u32.to_ne_bytes());
    message.extend_from_slice(&body);
    message
}

/// The number in the kernel's acknowledgement: 0, or an error's, negated.
fn parse_answer(answer: &[u8]) -> Option<i32> {
    let kind = u16::from_ne_bytes(answer.get(4..6)?.try_into().ok()?);
    let error = i32::from_ne_bytes(answer.get(16..20)?.try_into().ok()?);
    (kind == NLMSG_ERROR).then_some(error)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_request_is_as_the_kernel_reads_it() {
        let message = request(Ipv4Addr::new(198, 18, 0, 1), 15);
        assert_eq!(message.len(), 16 + 8 + 16);
        assert_eq!(message.get(..4), Some(&40_u32.to_ne_bytes()[..]));
        assert_eq!(message.get(16..18), Some(&[2, 15][..]));
        assert_eq!(message.get(28..32), Some(&[198, 18, 0, 1][..]));
        assert_eq!(parse_answer(&message), None);
    }
}
