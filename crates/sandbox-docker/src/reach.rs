//! The ways to a guest.

use std::io;
use std::time::Duration;

use bollard::exec::{CreateExecOptions, StartExecOptions, StartExecResults};
use moat_core::Epoch;
use moat_sandbox::{ByteStream, GuestClient, GuestError, SandboxError};
use moat_sockets::GuardedStream;
use tokio::io::AsyncReadExt as _;

use crate::container::{self, GUEST, SOCKET};
use crate::engine::Engine;
use crate::error::DockerError;
use crate::folder::State;
use crate::stream::Attached;

/// Bytes of the first line of a bridge, or of what an engine says instead.
const MAX_LINE: usize = 400;

/// How long a bridge may take to begin: the engine starts a process for it.
const TO_BEGIN: Duration = Duration::from_secs(20);

/// Connects to the guest of a sandbox.
pub(crate) async fn connect(
    engine: &Engine,
    state: &State,
    id: &str,
    bridged: bool,
    epoch: Epoch,
) -> Result<GuestClient, SandboxError> {
    if bridged {
        let mut bridge = execute(engine, id, &[GUEST, moat_guest::BRIDGE, SOCKET]).await?;
        match begin(&mut bridge).await? {
            0 => {}
            errno => return Err(lost(&io::Error::from_raw_os_error(errno))),
        }
        return Ok(GuestClient::connect(bridge, epoch).await?);
    }
    let stream = state.connect(id).await.map_err(|error| lost(&error))?;
    Ok(GuestClient::connect(GuardedStream::new(stream), epoch).await?)
}

/// A stream to a port of a sandbox, through a bridge.
pub(crate) async fn connect_inside(
    engine: &Engine,
    id: &str,
    port: u16,
) -> Result<Box<dyn ByteStream>, SandboxError> {
    let text = port.to_string();
    let mut stream = execute(engine, id, &[GUEST, moat_guest::BRIDGE_PORT, &text]).await?;
    match begin(&mut stream).await? {
        0 => Ok(Box::new(stream)),
        errno => Err(GuestError::Os {
            operation: "connect to".to_owned(),
            path: format!("127.0.0.1:{port}"),
            errno,
            message: io::Error::from_raw_os_error(errno).to_string(),
        }
        .into()),
    }
}

/// Reads the line with which a bridge begins: 0, or the number of an error. What an engine says
/// instead, because it could start none, is no such line.
async fn begin(stream: &mut Attached) -> Result<i32, SandboxError> {
    let line = async {
        let mut line = Vec::new();
        while line.len() < MAX_LINE {
            match stream.read_u8().await {
                Ok(b'\n') => break,
                Ok(byte) => line.push(byte),
                Err(error) if line.is_empty() => return Err(error),
                Err(_) => break,
            }
        }
        let line = String::from_utf8_lossy(&line).into_owned();
        line.parse::<i32>().map_err(|_| io::Error::other(line))
    };
    let line = tokio::time::timeout(TO_BEGIN, line).await;
    line.unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into())).map_err(|error| lost(&error))
}

/// Has the engine run the guest's program once more in the container.
async fn execute(engine: &Engine, id: &str, command: &[&str]) -> Result<Attached, SandboxError> {
    let failed = |error: &_| -> SandboxError {
        match engine.error("start a bridge in the container", error) {
            // The container is not there, or does not run: whoever asks finds out which.
            DockerError::Refused { status: 404 | 409, reason, .. } => {
                GuestError::Disconnected(reason).into()
            }
            other => other.into(),
        }
    };
    let docker = engine.docker().await?;
    let options = CreateExecOptions {
        attach_stdin: Some(true),
        attach_stdout: Some(true),
        attach_stderr: Some(true),
        user: Some("0:0"),
        working_dir: Some("/"),
        cmd: Some(command.to_vec()),
        ..CreateExecOptions::default()
    };
    let made = docker.create_exec(&container::name(id), options).await;
    let made = made.map_err(|error| failed(&error))?;
    let options =
        StartExecOptions { output_capacity: Some(256 << 10), ..StartExecOptions::default() };
    match docker.start_exec(&made.id, Some(options)).await.map_err(|error| failed(&error))? {
        StartExecResults::Attached { output, input } => Ok(Attached::new(output, input)),
        StartExecResults::Detached => {
            Err(DockerError::here("start a bridge in the container", "it let go of it").into())
        }
    }
}

fn lost(error: &io::Error) -> SandboxError {
    GuestError::Disconnected(format!("its socket: {error}")).into()
}
