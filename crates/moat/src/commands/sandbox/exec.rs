//! `exec`: a command in a sandbox that stays.

use super::network::Shared;
use super::{Place, process};
use crate::cli::SandboxExecArgs;
use crate::exit::Exit;

pub(super) async fn exec(place: &Place, args: SandboxExecArgs) -> anyhow::Result<Exit> {
    let found = place.find(&args.sandbox).await?;
    let command = process::command(args.command, args.dir, args.env, args.user);
    let mut network = Shared::of(place, &found, &args.network).await?;
    let ended = process::run(&*found.sandbox.guest(), &command, args.json).await;
    network.tell();
    ended
}
