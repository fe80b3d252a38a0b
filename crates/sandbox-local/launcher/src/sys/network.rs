//! The network namespace's own address, and sockets in it.

use core::ffi::{CStr, c_int, c_void};
use core::mem::{size_of, zeroed};

use super::{Errno, check, chmod, close, move_high};

/// Connections that wait until somebody takes them.
const BACKLOG: c_int = 128;

/// In a fresh network namespace the loopback device is the first.
const LOOPBACK_INDEX: u32 = 1;

const IFA_ADDRESS: u16 = 1;
const IFA_LOCAL: u16 = 2;
const NLMSG_ERROR: u16 = 2;

/// A request to the kernel for an address, as `rtnetlink(7)` lays it out.
#[repr(C)]
struct NewAddress {
    length: u32,
    kind: u16,
    flags: u16,
    sequence: u32,
    port: u32,
    family: u8,
    prefix: u8,
    address_flags: u8,
    scope: u8,
    device: u32,
    local: Attribute,
    address: Attribute,
}

#[repr(C)]
struct Attribute {
    length: u16,
    kind: u16,
    /// In network order.
    value: [u8; 4],
}

/// An acknowledgement; the request follows it.
#[repr(C)]
#[derive(Default)]
struct Answer {
    length: u32,
    kind: u16,
    flags: u16,
    sequence: u32,
    port: u32,
    error: i32,
    request: [u32; 16],
}

impl Attribute {
    fn new(kind: u16, value: [u8; 4]) -> Self {
        Self { length: size_of::<Self>() as u16, kind, value }
    }
}

/// Gives the loopback device an address. On this device the kernel makes all of the address's
/// network local, as it does for 127.0.0.0/8.
pub(crate) fn add_loopback_address(address: u32, prefix: u32) -> Result<(), Errno> {
    let prefix = u8::try_from(prefix).map_err(|_| Errno::MALFORMED)?;
    let request = NewAddress {
        length: size_of::<NewAddress>() as u32,
        kind: libc::RTM_NEWADDR,
        flags: (libc::NLM_F_REQUEST | libc::NLM_F_ACK | libc::NLM_F_CREATE) as u16,
        sequence: 1,
        port: 0,
        family: libc::AF_INET as u8,
        prefix,
        address_flags: 0,
        scope: 0,
        device: LOOPBACK_INDEX,
        local: Attribute::new(IFA_LOCAL, address.to_be_bytes()),
        address: Attribute::new(IFA_ADDRESS, address.to_be_bytes()),
    };
    let kind = libc::SOCK_RAW | libc::SOCK_CLOEXEC;
    // SAFETY: takes numbers only.
    let socket = check(unsafe { libc::socket(libc::AF_NETLINK, kind, libc::NETLINK_ROUTE) })?;
    let answered = ask(socket, &request);
    close(socket);
    answered
}

/// Sends the request and reads the kernel's acknowledgement, which is there when `send` returns.
fn ask(socket: c_int, request: &NewAddress) -> Result<(), Errno> {
    let start: *const c_void = (&raw const *request).cast();
    // SAFETY: the structure is live, of the given length, and without padding.
    let sent = unsafe { libc::send(socket, start, size_of::<NewAddress>(), 0) };
    if sent != size_of::<NewAddress>() as isize {
        return Err(Errno::last());
    }
    let mut answer = Answer::default();
    let room = size_of::<Answer>();
    let start: *mut c_void = (&raw mut answer).cast();
    // SAFETY: the structure is live, of the given length, and any bytes make one.
    let length = unsafe { libc::recv(socket, start, room, libc::MSG_DONTWAIT) };
    match answer.error {
        _ if length < 20 || answer.kind != NLMSG_ERROR => Err(Errno::MALFORMED),
        0 => Ok(()),
        error => Err(Errno(-error)),
    }
}

/// A socket that is bound to this address and port; one of a stream listens. It does not block.
pub(crate) fn internet_socket(stream: bool, address: u32, port: u16) -> Result<c_int, Errno> {
    let kind = if stream { libc::SOCK_STREAM } else { libc::SOCK_DGRAM };
    let socket = open_socket(libc::AF_INET, kind)?;
    // SAFETY: an all-zero address is a valid one.
    let mut place: libc::sockaddr_in = unsafe { zeroed() };
    place.sin_family = libc::AF_INET as _;
    place.sin_port = port.to_be();
    place.sin_addr.s_addr = address.to_be();
    let length = size_of::<libc::sockaddr_in>() as libc::socklen_t;
    // SAFETY: the address is live and of the given length.
    check(unsafe { libc::bind(socket, (&raw const place).cast(), length) })?;
    if stream {
        listen(socket)?;
    }
    Ok(socket)
}

/// A socket that listens at a path, for everyone who reaches the path. It does not block.
pub(crate) fn unix_socket(path: &CStr) -> Result<c_int, Errno> {
    let socket = open_socket(libc::AF_UNIX, libc::SOCK_STREAM)?;
    // SAFETY: an all-zero address is a valid one.
    let mut place: libc::sockaddr_un = unsafe { zeroed() };
    place.sun_family = libc::AF_UNIX as _;
    let bytes = path.to_bytes();
    if bytes.len() >= place.sun_path.len() {
        return Err(Errno(libc::ENAMETOOLONG));
    }
    for (to, byte) in place.sun_path.iter_mut().zip(bytes) {
        *to = *byte as _;
    }
    let length = size_of::<libc::sockaddr_un>() as libc::socklen_t;
    // SAFETY: the address is live and of the given length.
    check(unsafe { libc::bind(socket, (&raw const place).cast(), length) })?;
    chmod(path, 0o666)?;
    listen(socket)?;
    Ok(socket)
}

/// Out of the way of the numbers that the guest is given.
fn open_socket(family: c_int, kind: c_int) -> Result<c_int, Errno> {
    let kind = kind | libc::SOCK_CLOEXEC | libc::SOCK_NONBLOCK;
    // SAFETY: takes numbers only.
    move_high(check(unsafe { libc::socket(family, kind, 0) })?)
}

fn listen(socket: c_int) -> Result<(), Errno> {
    // SAFETY: takes numbers only.
    check(unsafe { libc::listen(socket, BACKLOG) }).map(|_| ())
}
