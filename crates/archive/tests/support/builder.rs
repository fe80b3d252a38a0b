//! Archives, byte by byte: no library would write most of these.
#![allow(dead_code, reason = "each test uses a part of it")]

use std::io::Write as _;

#[derive(Clone, Debug)]
pub(crate) struct Made {
    name: String,
    flag: u8,
    link: String,
    content: Vec<u8>,
}

impl Made {
    pub(crate) fn new(name: &str, flag: u8, link: &str, content: &[u8]) -> Self {
        Self { name: name.into(), flag, link: link.into(), content: content.into() }
    }

    pub(crate) fn file(name: &str, content: &[u8]) -> Self {
        Self::new(name, b'0', "", content)
    }

    pub(crate) fn folder(name: &str) -> Self {
        Self::new(name, b'5', "", b"")
    }

    pub(crate) fn link(name: &str, target: &str) -> Self {
        Self::new(name, b'2', target, b"")
    }

    pub(crate) fn hardlink(name: &str, target: &str) -> Self {
        Self::new(name, b'1', target, b"")
    }
}

/// What stands before a member and changes what its header says.
pub(crate) fn pax(records: &[(&str, &str)]) -> Made {
    let mut content = String::new();
    for (key, value) in records {
        let rest = format!(" {key}={value}\n");
        let mut length = rest.len() + 1;
        while format!("{length}{rest}").len() != length {
            length += 1;
        }
        content += &format!("{length}{rest}");
    }
    Made::new("pax", b'x', "", content.as_bytes())
}

/// The same archive with some bytes of its first header changed, and its sum right again.
pub(crate) fn sealed_block(archive: &[u8], place: usize, bytes: &[u8]) -> Vec<u8> {
    let mut archive = archive.to_vec();
    archive[place..place + bytes.len()].copy_from_slice(bytes);
    archive[148..156].fill(b' ');
    let sum: u32 = archive[..512].iter().map(|byte| u32::from(*byte)).sum();
    archive[148..155].copy_from_slice(format!("{sum:06o}\0").as_bytes());
    archive
}

pub(crate) fn tar(members: &[Made]) -> Vec<u8> {
    let mut bytes = Vec::new();
    for member in members {
        let mut header = [0_u8; 512];
        header[..member.name.len()].copy_from_slice(member.name.as_bytes());
        header[100..107].copy_from_slice(b"0000644");
        header[108..115].copy_from_slice(b"0000000");
        header[116..123].copy_from_slice(b"0000000");
        header[124..135].copy_from_slice(format!("{:011o}", member.content.len()).as_bytes());
        header[136..147].copy_from_slice(b"00000000000");
        header[156] = member.flag;
        header[157..157 + member.link.len()].copy_from_slice(member.link.as_bytes());
        header[257..263].copy_from_slice(b"ustar\0");
        header[263..265].copy_from_slice(b"00");
        header[148..156].fill(b' ');
        let sum: u32 = header.iter().map(|byte| u32::from(*byte)).sum();
        header[148..155].copy_from_slice(format!("{sum:06o}\0").as_bytes());
        bytes.extend(header);
        bytes.extend(&member.content);
        bytes.resize(bytes.len().next_multiple_of(512), 0);
    }
    bytes.resize(bytes.len() + 1024, 0);
    bytes
}

pub(crate) fn gzip(plain: &[u8]) -> Vec<u8> {
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::default());
    encoder.write_all(plain).unwrap();
    encoder.finish().unwrap()
}

pub(crate) fn zstd(plain: &[u8]) -> Vec<u8> {
    ruzstd::encoding::compress_to_vec(plain, ruzstd::encoding::CompressionLevel::Fastest)
}

pub(crate) fn zip(members: &[Made]) -> Vec<u8> {
    zip_with(members, &[], &[])
}

/// With extra fields in the members' own headers, and in the directory.
pub(crate) fn zip_with(members: &[Made], own: &[u8], listed: &[u8]) -> Vec<u8> {
    let (mut bytes, mut directory) = (Vec::new(), Vec::new());
    for member in members {
        let mut deflated =
            flate2::write::DeflateEncoder::new(Vec::new(), flate2::Compression::default());
        deflated.write_all(&member.content).unwrap();
        let stored = deflated.finish().unwrap();
        let mut crc = flate2::Crc::new();
        crc.update(&member.content);
        let name =
            if member.flag == b'5' { format!("{}/", member.name) } else { member.name.clone() };
        let mut common = Vec::new();
        common.extend(20_u16.to_le_bytes());
        common.extend(0_u16.to_le_bytes());
        common.extend(8_u16.to_le_bytes());
        common.extend([0; 4]);
        common.extend(crc.sum().to_le_bytes());
        common.extend((stored.len() as u32).to_le_bytes());
        common.extend((member.content.len() as u32).to_le_bytes());
        common.extend((name.len() as u16).to_le_bytes());
        let place = bytes.len() as u32;
        bytes.extend(b"PK\x03\x04");
        bytes.extend(&common);
        bytes.extend((own.len() as u16).to_le_bytes());
        bytes.extend(name.as_bytes());
        bytes.extend(own);
        bytes.extend(&stored);
        directory.extend(b"PK\x01\x02");
        directory.extend([20, 3]);
        directory.extend(&common);
        directory.extend((listed.len() as u16).to_le_bytes());
        directory.extend([0; 6]);
        directory.extend((0o644_u32 << 16).to_le_bytes());
        directory.extend(place.to_le_bytes());
        directory.extend(name.as_bytes());
        directory.extend(listed);
    }
    let (place, count) = (bytes.len() as u32, members.len() as u16);
    bytes.extend(&directory);
    bytes.extend(b"PK\x05\x06");
    bytes.extend([0; 4]);
    bytes.extend(count.to_le_bytes());
    bytes.extend(count.to_le_bytes());
    bytes.extend((directory.len() as u32).to_le_bytes());
    bytes.extend(place.to_le_bytes());
    bytes.extend([0; 2]);
    bytes
}
