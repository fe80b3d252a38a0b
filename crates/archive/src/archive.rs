use std::io::{self, BufReader, Read, Seek, SeekFrom};

use moat_guest::{TarError, TarKind, TarMember, TarReader};

use crate::decode::Decoder;
use crate::error::ArchiveError;
use crate::member::{Kind, Member};
use crate::rules::{Rules, Trust};
use crate::survey::{Found, FoundKind, Survey};
use crate::zip::{self, ZipEntry};

/// Output that is not held against the ratio: small things compress well.
const RATIO_FREE: u64 = 16 << 20;
const BUFFER: usize = 64 << 10;

/// An archive whose every member was checked.
#[derive(Debug)]
pub struct Archive<S> {
    source: S,
    rules: Rules,
    members: Vec<Member>,
    form: Form,
}

#[derive(Debug)]
enum Form {
    Tar,
    Zip(Vec<ZipEntry>),
}

/// Why the contents of a checked archive could not be handed on.
#[derive(Debug, thiserror::Error)]
pub enum ReadError<E> {
    /// It is not as it was when it was checked, or could not be read.
    #[error(transparent)]
    Archive(ArchiveError),
    /// Whoever takes the contents did not want to go on.
    #[error("{0}")]
    Taker(E),
}

impl<S: Read + Seek> Archive<S> {
    /// Reads an archive to its end and checks all of it.
    ///
    /// # Errors
    /// [`ArchiveError`] names the first member that is refused.
    pub fn open(mut source: S, rules: &Rules) -> Result<Self, ArchiveError> {
        let size = source.seek(SeekFrom::End(0)).map_err(ArchiveError::Read)?;
        if rules.is_import() && size > rules.limits.input_bytes {
            return Err(ArchiveError::TooLarge { size, limit: rules.limits.input_bytes });
        }
        let mut survey = Survey::new(*rules);
        let form = if zip::is_zip(&mut source)? {
            let entries = zip::directory(&mut source, size)?;
            let takes_links = rules.trust != Trust::Import { allow_links: false };
            for entry in &entries {
                let target = match entry.is_link() && takes_links {
                    true => entry.target(&mut source)?,
                    false => Vec::new(),
                };
                survey.add(&entry.found(&target))?;
            }
            Form::Zip(entries)
        } else {
            survey_tar(&mut source, rules, size, &mut survey)?;
            Form::Tar
        };
        let members = survey.finish()?;
        let mut archive = Self { source, rules: *rules, members, form };
        if matches!(archive.form, Form::Zip(_)) {
            // Only now: what is refused by its name is not decompressed.
            archive.check_contents(size)?;
        }
        Ok(archive)
    }

    pub(crate) fn trust(&self) -> Trust {
        self.rules.trust
    }

    /// Every member, in the archive's order; of a folder that is there twice, the first.
    pub fn members(&self) -> &[Member] {
        &self.members
    }

    /// Hands out the content of every file, in the archive's order. What `take` does not read is
    /// passed over.
    ///
    /// # Errors
    /// If `take` fails, or the archive is no longer what was checked.
    pub fn read<E>(
        &mut self,
        mut take: impl FnMut(&Member, &mut dyn Read) -> Result<(), E>,
    ) -> Result<(), ReadError<E>> {
        let Self { source, rules, members, form } = self;
        match form {
            Form::Tar => read_tar(source, rules, members, &mut take),
            Form::Zip(entries) => {
                for member in files(members) {
                    let Some(entry) = usize::try_from(member.ordinal)
                        .ok()
                        .and_then(|ordinal| entries.get(ordinal))
                    else {
                        continue;
                    };
                    let mut content = entry.content(source).map_err(ReadError::Archive)?;
                    take(member, &mut content).map_err(ReadError::Taker)?;
                    content.finish().map_err(ReadError::Archive)?;
                }
                Ok(())
            }
        }
    }

    fn check_contents(&mut self, size: u64) -> Result<(), ArchiveError> {
        let total: u64 = files(&self.members).fold(0, |sum, member| match member.kind {
            Kind::File { size } => sum.saturating_add(size),
            _ => sum,
        });
        // Each content is read no further than its entry says, so this bounds all of them.
        if self.rules.is_import() && total > most_bytes(size, &self.rules) {
            return Err(ArchiveError::Ratio { ratio: self.rules.limits.ratio });
        }
        if let Form::Zip(entries) = &self.form {
            // Of folders and links nothing is read below.
            for entry in entries {
                entry.check_own(&mut self.source)?;
            }
        }
        let done = self.read(|_, _| Ok::<_, std::convert::Infallible>(()));
        match done {
            Ok(()) => Ok(()),
            Err(ReadError::Archive(error)) => Err(error),
            Err(ReadError::Taker(never)) => match never {},
        }
    }
}

fn files(members: &[Member]) -> impl Iterator<Item = &Member> {
    members.iter().filter(|member| matches!(member.kind, Kind::File { .. }))
}

fn most_bytes(stored: u64, rules: &Rules) -> u64 {
    stored.saturating_mul(rules.limits.ratio).max(RATIO_FREE)
}

type Tar<'a, S> = TarReader<Bounded<Decoder<BufReader<&'a mut S>>>>;

/// Reads on from the beginning, and no further than the ratio allows.
fn tar<'a, S: Read + Seek>(source: &'a mut S, rules: &Rules) -> Result<Tar<'a, S>, ArchiveError> {
    let size = source.seek(SeekFrom::End(0)).map_err(ArchiveError::Read)?;
    source.seek(SeekFrom::Start(0)).map_err(ArchiveError::Read)?;
    let decoder =
        Decoder::new(BufReader::with_capacity(BUFFER, source)).map_err(ArchiveError::Read)?;
    let is_bounded = rules.is_import() && decoder.is_compressed();
    let left = if is_bounded { most_bytes(size, rules) } else { u64::MAX };
    Ok(TarReader::new(Bounded { source: decoder, left, too_large: false }))
}

fn survey_tar<S: Read + Seek>(
    source: &mut S,
    rules: &Rules,
    size: u64,
    survey: &mut Survey,
) -> Result<(), ArchiveError> {
    if size == 0 {
        return Err(ArchiveError::corrupt(b"", "it is empty"));
    }
    let mut reader = tar(source, rules)?;
    let outcome = loop {
        match reader.next_member() {
            Ok(Some(member)) => survey.add(&found(&member))?,
            Ok(None) => break Ok(()),
            Err(error) => break Err(error),
        }
    };
    let mut rest = reader.into_source();
    // To the end of the compressed stream, whose check sum stands there.
    let drained = outcome
        .map_err(Fault::Tar)
        .and_then(|()| io::copy(&mut rest, &mut io::sink()).map_err(Fault::Stream));
    match drained {
        _ if rest.too_large => Err(ArchiveError::Ratio { ratio: rules.limits.ratio }),
        Ok(_) => Ok(()),
        Err(Fault::Tar(error)) => Err(tar_error(error)),
        Err(Fault::Stream(error)) => Err(stream_error(error)),
    }
}

enum Fault {
    Tar(TarError),
    Stream(io::Error),
}

fn read_tar<S: Read + Seek, E>(
    source: &mut S,
    rules: &Rules,
    members: &[Member],
    take: &mut impl FnMut(&Member, &mut dyn Read) -> Result<(), E>,
) -> Result<(), ReadError<E>> {
    let mut reader = tar(source, rules).map_err(ReadError::Archive)?;
    let mut ordinal = 0;
    let changed = || {
        let reason = "it changed while it was being read";
        ReadError::Archive(ArchiveError::corrupt(b"", reason))
    };
    for member in files(members) {
        let found = loop {
            let next =
                reader.next_member().map_err(|error| ReadError::Archive(tar_error(error)))?;
            let next = next.ok_or_else(changed)?;
            ordinal += 1;
            if ordinal > member.ordinal {
                break next;
            }
        };
        let same_path = crate::member::path_of(&found.path).is_ok_and(|path| path == member.path);
        if !same_path || member.kind != (Kind::File { size: found.size }) {
            return Err(changed());
        }
        take(member, &mut reader.content()).map_err(ReadError::Taker)?;
    }
    Ok(())
}

fn found(member: &TarMember) -> Found<'_> {
    let (seconds, nanoseconds) = member.mtime;
    Found {
        name: &member.path,
        kind: match member.kind {
            TarKind::File => FoundKind::File(member.size),
            TarKind::Folder => FoundKind::Folder,
            TarKind::Symlink => FoundKind::Symlink(&member.link),
            TarKind::Hardlink => FoundKind::Hardlink(&member.link),
            TarKind::Pipe | TarKind::Device => FoundKind::Special,
        },
        mode: member.mode,
        mtime_ns: seconds.saturating_mul(1_000_000_000).saturating_add(nanoseconds.into()),
    }
}

fn tar_error(error: TarError) -> ArchiveError {
    match error {
        TarError::Read(error) => stream_error(error),
        TarError::Refused { member, reason } => ArchiveError::corrupt(&member, reason),
    }
}

/// What a decompressor says about bytes that make no sense is no failure of the disk.
fn stream_error(error: io::Error) -> ArchiveError {
    match error.raw_os_error() {
        Some(_) => ArchiveError::Read(error),
        None => ArchiveError::corrupt(b"", error.to_string()),
    }
}

/// A stream that ends with an error after so many bytes.
struct Bounded<R> {
    source: R,
    left: u64,
    too_large: bool,
}

impl<R: Read> Read for Bounded<R> {
    fn read(&mut self, bytes: &mut [u8]) -> io::Result<usize> {
        let count = self.source.read(bytes)?;
        let Some(left) = self.left.checked_sub(count as u64) else {
            self.too_large = true;
            return Err(io::Error::other("it is larger than allowed"));
        };
        self.left = left;
        Ok(count)
    }
}
