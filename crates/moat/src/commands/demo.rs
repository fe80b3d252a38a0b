//! `demo`: the main job, on an embedded default.
use crate::cli::{DemoArgs, Global};
use crate::exit::Exit;
pub(crate) async fn demo(_: &Global, _: &DemoArgs) -> anyhow::Result<Exit> {
    Ok(Exit::Success)
}
