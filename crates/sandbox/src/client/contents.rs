//! Contents with holes, and who writes them unseen: from version 3 of the protocol on.

use std::ops::Range;
use std::path::Path;

use moat_guest::{MAX_MAPPED, RawBytes, Reply, Request};

use super::check::{Check, is_on};
use super::{Exchange, GuestClient, QUICK, SLOW, convert};
use crate::{FileData, Guest as _, GuestError, MappedFiles, Root};

/// The version with which these requests came. An older guest takes an unknown one for a breach of
/// the protocol.
const SINCE: u32 = 3;

impl GuestClient {
    pub(super) async fn data(
        &self,
        root: Root,
        path: &Path,
        range: Range<u64>,
        length: u32,
    ) -> Result<FileData, GuestError> {
        let wanted = range.end.saturating_sub(range.start);
        let offset = range.start;
        if self.version < SINCE {
            let length = u32::try_from(wanted).unwrap_or(length).min(length);
            let bytes = self.read_at(root, path, offset, length).await?;
            return Ok(FileData { hole: 0, bytes });
        }
        let (root, path) = (convert::root(root), RawBytes::from_path(path));
        let request = Request::ReadData { root, path, offset, until: range.end, length };
        let answer = self.ask(request, &[], QUICK).await?;
        let Reply::Data { hole } = answer.reply else {
            return Err(Exchange::mismatch("a read").into());
        };
        let bytes = answer.payload;
        let within = hole.saturating_add(bytes.len() as u64) <= wanted;
        if is_on(Check::ReadLength) && (bytes.len() > length as usize || !within) {
            return Err(convert::broken("it sent more of a file than was asked for"));
        }
        Ok(FileData { hole, bytes })
    }

    pub(super) async fn mapped_files(&self) -> Result<MappedFiles, GuestError> {
        if self.version < SINCE {
            return Ok(MappedFiles { others: true, ..MappedFiles::default() });
        }
        match self.ask(Request::Mapped, &[], SLOW).await?.reply {
            Reply::Mapped { inodes, others }
                if inodes.len() <= MAX_MAPPED || !is_on(Check::Mapped) =>
            {
                Ok(MappedFiles { inodes: inodes.into_iter().collect(), others })
            }
            _ => Err(Exchange::mismatch("a look at mapped files").into()),
        }
    }
}
