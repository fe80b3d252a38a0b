//! `exec`: a command in a sandbox that stays.

use super::network::Shared;
use super::{Place, process};
use crate::cli::SandboxExecArgs;
use crate::exit::Exit;

pub(super) async fn exec(place: &Place, args: SandboxExecArgs) -> anyhow::Result<Exit> {
    let found = place.find(&args.sandbox).await?;
    let command = process::command(args.command, args.dir, args.env, args.user);
    let mut network = Shared::of(place, &found, &args.network, Some(command.key)).await?;
    let guest = found.sandbox.guest();
    let end_left = || network.end_left(&*guest);
    let ended = process::run(&*guest, &command, args.json, end_left).await;
    network.tell();
    ended
}
