//! Standard streams of a program that was executed in the container on their way to the guest, or
//! to a port of the container: for a harness that shares no file system with it.
//!
//! A process of its own, which knows no frames and keeps nothing. It ends with either side. What it
//! says begins with a line: `0`, or the number of the error with which the connection failed.

use std::fs::File;
use std::io::{self, Read as _, Write as _};
use std::net::{Ipv4Addr, Ipv6Addr, Shutdown, SocketAddr, TcpStream};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::Duration;

/// How long a connection within the container may take.
const LIMIT: Duration = Duration::from_secs(5);

/// Bytes that are read at once.
const PIECE: usize = 64 << 10;

/// Copies bytes between the standard streams and the guest's socket.
pub(crate) fn to_guest(socket: &Path) -> Result<(), String> {
    let stream = UnixStream::connect(socket);
    tell(stream.as_ref().err()).map_err(failed)?;
    let Ok(stream) = stream else { return Ok(()) };
    let ours = stream.try_clone().map_err(failed)?;
    let end = stream.try_clone().map_err(failed)?;
    copy(ours.into(), stream.into(), move || drop(end.shutdown(Shutdown::Write)))
}

/// Copies bytes between the standard streams and a port.
pub(crate) fn to_port(port: &str) -> Result<(), String> {
    let port = port.parse::<u16>().map_err(|_| format!("`{port}` is no port"))?;
    let connect = |address: SocketAddr| TcpStream::connect_timeout(&address, LIMIT);
    let stream = connect((Ipv4Addr::LOCALHOST, port).into())
        // What went wrong first is what is told.
        .or_else(|error| connect((Ipv6Addr::LOCALHOST, port).into()).map_err(|_| error));
    tell(stream.as_ref().err()).map_err(failed)?;
    let Ok(stream) = stream else { return Ok(()) };
    let ours = stream.try_clone().map_err(failed)?;
    let end = stream.try_clone().map_err(failed)?;
    copy(ours.into(), stream.into(), move || drop(end.shutdown(Shutdown::Write)))
}

/// Copies both ways until what is inside ends.
fn copy(to: OwnedFd, from: OwnedFd, end: impl FnOnce() + Send + 'static) -> Result<(), String> {
    let mut input = own(io::stdin()).map_err(failed)?;
    let mut output = own(io::stdout()).map_err(failed)?;
    let (mut to, mut from) = (File::from(to), File::from(from));
    // Ends with the process.
    std::thread::spawn(move || {
        let _ = pass_on(&mut input, &mut to);
        end();
    });
    pass_on(&mut from, &mut output).map_err(failed)
}

/// Copies what comes, as soon as it comes: `io::copy` has the kernel move whole gigabytes at once
/// between pipes and sockets, and that does not come back while there is more to wait for.
fn pass_on(from: &mut File, to: &mut File) -> io::Result<()> {
    let mut buffer = vec![0; PIECE];
    loop {
        match from.read(&mut buffer) {
            Ok(0) => return Ok(()),
            Ok(count) => to.write_all(buffer.get(..count).unwrap_or_default())?,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
}

/// Begins with a line that nothing but a bridge says: whether there is a connection.
fn tell(error: Option<&io::Error>) -> io::Result<()> {
    let said = error.map_or(0, |error| error.raw_os_error().unwrap_or(libc::ETIMEDOUT));
    own(io::stdout())?.write_all(format!("{said}\n").as_bytes())
}

fn failed(error: io::Error) -> String {
    format!("cannot be a bridge: {error}")
}

/// A standard stream without a buffer of the runtime's.
fn own(stream: impl AsFd) -> io::Result<File> {
    Ok(stream.as_fd().try_clone_to_owned()?.into())
}
