//! `view_image` and `apply_patch`.

use std::path::Path;

use moat_core::CallReport;
use moat_sandbox::{CommitOutcome, FileKind, GuestError, Root};

use super::{CallEnd, SandboxCall, path};
use crate::compute::{CallContext, ComputeError};
use crate::image::{self, ImageError};
use crate::patch::{self, GuestFiles, Plan, PlanError};

/// Bytes that are read from the sandbox at once.
const PIECE: u32 = 1 << 20;

/// Reads the patch, works out what it changes and commits that as one step. Taken up again after a
/// crash, the guest's outcome of the commit counts; without one nothing was written.
pub(super) async fn apply_patch(
    context: &CallContext,
    call: &SandboxCall,
) -> Result<CallEnd, ComputeError> {
    let files = GuestFiles(&*context.guest);
    let operations = match patch::parse(&call.run.arguments) {
        Ok(operations) => operations,
        Err(error) => return Ok(CallEnd::refused(error.reply())),
    };
    if call.run.begun && context.guest.committed(call.run.key).await? == Some(CommitOutcome::Done) {
        remove_deleted_links(context, &operations).await?;
        return Ok(applied(patch::success_text(&operations, Path::new("")), Vec::new()));
    }
    let plan = match patch::plan(&operations, Path::new(""), &files).await {
        Ok(plan) => plan,
        Err(PlanError::Rejected(error)) => return Ok(CallEnd::refused(error.reply())),
        Err(PlanError::Source(error)) => return Err(error.into()),
    };
    commit(context, call, plan).await
}

async fn commit(
    context: &CallContext,
    call: &SandboxCall,
    plan: Plan,
) -> Result<CallEnd, ComputeError> {
    let changed = plan.changed_paths();
    let committed = context.guest.commit(call.run.key, &plan.changes).await;
    if matches!(committed, Ok(CommitOutcome::Done)) {
        for link in &plan.unlinked {
            remove_if_there(context, link).await?;
        }
    }
    match committed {
        Ok(CommitOutcome::Done) => Ok(applied(plan.output, changed)),
        Ok(CommitOutcome::Conflict(path)) => Ok(CallEnd::refused(format!(
            "apply_patch failed: `{}` changed while the patch was being applied; nothing was \
             written. Read it again and make a new patch.",
            path.display()
        ))),
        Err(error @ (GuestError::Os { .. } | GuestError::Outside(_))) => {
            Ok(CallEnd::refused(format!("apply_patch failed: {error}")))
        }
        Err(error) => Err(error.into()),
    }
}

/// A link that a patch deletes is no content, so the commit does not cover it. It goes after the
/// commit, and again when the attempt is taken up behind it.
async fn remove_deleted_links(
    context: &CallContext,
    operations: &[patch::Operation],
) -> Result<(), ComputeError> {
    for operation in operations.iter().filter(|o| matches!(o.action, patch::Action::Delete)) {
        let Some((Root::Workspace, below)) = path::locate(&operation.path) else { continue };
        let stat = context.guest.stat(Root::Workspace, &below).await?;
        if stat.is_some_and(|stat| matches!(stat.kind, FileKind::Symlink(_))) {
            remove_if_there(context, &below).await?;
        }
    }
    Ok(())
}

async fn remove_if_there(context: &CallContext, link: &Path) -> Result<(), ComputeError> {
    if context.guest.stat(Root::Workspace, link).await?.is_some() {
        context.guest.remove(Root::Workspace, link).await?;
    }
    Ok(())
}

fn applied(output: String, changed: Vec<String>) -> CallEnd {
    CallEnd::text(output, CallReport { exit_code: Some(0), changed, ..CallReport::default() })
}

pub(super) async fn view_image(
    context: &CallContext,
    call: &SandboxCall,
) -> Result<CallEnd, ComputeError> {
    let path = match image::parse_arguments(&call.run.arguments) {
        Ok(path) => path,
        Err(invalid) => return Ok(CallEnd::refused(invalid.to_string())),
    };
    let shown = match read_image(context, &path).await? {
        Ok(content) => image::image_output(&path, &content),
        Err(error) => Err(error),
    };
    Ok(match shown {
        Ok(output) => CallEnd::Done { output, report: Box::default() },
        Err(error) => CallEnd::refused(error.to_string()),
    })
}

async fn read_image(
    context: &CallContext,
    shown: &str,
) -> Result<Result<Vec<u8>, ImageError>, ComputeError> {
    let Some((root, below)) = path::locate(shown) else {
        return Ok(Err(ImageError::NotFound(shown.to_owned())));
    };
    let unreadable = |reason: String| ImageError::Unreadable { path: shown.to_owned(), reason };
    match context.guest.stat(root, &below).await {
        Ok(None) => return Ok(Err(ImageError::NotFound(shown.to_owned()))),
        Ok(Some(stat)) => match stat.kind {
            FileKind::Dir | FileKind::Other => {
                return Ok(Err(unreadable("it is not a regular file".to_owned())));
            }
            FileKind::File => {
                if let Err(error) = image::check_size(shown, stat.size) {
                    return Ok(Err(error));
                }
            }
            FileKind::Symlink(_) => {}
        },
        Err(error @ (GuestError::Os { .. } | GuestError::Outside(_))) => {
            return Ok(Err(unreadable(error.to_string())));
        }
        Err(error) => return Err(error.into()),
    }
    match read_whole(context, root, &below, image::MAX_IMAGE_BYTES + 1).await {
        Ok(content) => Ok(Ok(content)),
        Err(error @ (GuestError::Os { .. } | GuestError::Outside(_))) => {
            Ok(Err(unreadable(error.to_string())))
        }
        Err(error) => Err(error.into()),
    }
}

/// Reads a file of the sandbox, up to a limit of bytes.
pub(super) async fn read_whole(
    context: &CallContext,
    root: Root,
    path: &Path,
    limit: u64,
) -> Result<Vec<u8>, GuestError> {
    let mut content = Vec::new();
    while (content.len() as u64) < limit {
        let piece = context.guest.read_at(root, path, content.len() as u64, PIECE).await?;
        if piece.is_empty() {
            break;
        }
        content.extend(piece);
    }
    Ok(content)
}
