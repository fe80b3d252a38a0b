//! `view_image` and `apply_patch`.

use std::path::Path;

use moat_core::CallReport;
use moat_sandbox::{FileKind, GuestError, Root};
use serde_json::Value;

use super::{CallEnd, SandboxCall, path};
use crate::compute::{CallContext, ComputeError};
use crate::image::{self, ImageError};

/// Bytes that are read from the sandbox at once.
const PIECE: u32 = 1 << 20;

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
        Ok(output) => CallEnd::Done { output, report: CallReport::default() },
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
    let unreadable =
        |reason: String| ImageError::Unreadable { path: shown.to_owned(), reason };
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
