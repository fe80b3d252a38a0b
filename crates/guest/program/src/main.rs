//! The first process of a sandbox: it runs commands, serves files, and ends everything when it
//! ends.
//!
//! One thread and one event loop ([`server`]) over descriptors that never block. Connections of
//! the harness ([`connection`]) bring requests; [`process`] runs commands and keeps their output
//! until it is acknowledged; [`files`] resolves paths beneath the roots; [`freeze`] stops commands
//! so that a scan sees one moment; [`limits`] holds commands to what they may use. What takes long is
//! a [`job`] that is done in steps. Where no launcher prepared anything, [`container`] does, and
//! [`bridge`] is how a harness that does not share a file system with it gets to its socket.
//!
//! The harness is not feared here, commands are: they must not reach, trace, wedge or exhaust this
//! process. So it is not dumpable, holds bounded buffers only, opens nothing that blocks, and
//! makes files with the commands' own rights. All `unsafe` is in [`sys`].

mod bridge;
mod connection;
mod container;
mod files;
mod folder_job;
mod freeze;
mod job;
mod left_out;
mod limits;
mod mapped;
mod network;
mod oom;
mod poll;
mod process;
mod server;
mod spawn;
mod sys;
mod tree;
mod users;

use std::path::Path;
use std::process::ExitCode;

fn main() -> ExitCode {
    let mut arguments = std::env::args().skip(1);
    let done = match (arguments.next().as_deref(), arguments.next()) {
        (Some(moat_guest::FOLDER_JOB), Some(job)) => {
            folder_job::run(&job).map(|()| ExitCode::SUCCESS)
        }
        (Some(moat_guest::CONTAINER), Some(config)) => {
            container::start(Path::new(&config)).map(server::Server::run)
        }
        (Some(moat_guest::BRIDGE), Some(socket)) => {
            bridge::to_guest(Path::new(&socket)).map(|()| ExitCode::SUCCESS)
        }
        (Some(moat_guest::BRIDGE_PORT), Some(port)) => {
            bridge::to_port(&port).map(|()| ExitCode::SUCCESS)
        }
        _ => server::Server::start().map(server::Server::run),
    };
    match done {
        Ok(code) => code,
        Err(reason) => {
            use std::io::Write as _;
            let _ = writeln!(std::io::stderr(), "moat-guest: {reason}");
            ExitCode::FAILURE
        }
    }
}
