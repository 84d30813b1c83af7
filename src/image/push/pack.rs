//! Layers as registries keep them: packed, always to the same bytes. All of it blocks.

use crate::api::images::LayerBlob;
use crate::base::secret::hex;
use crate::image::hashing::Hashing;
use flate2::Compression;
use flate2::write::GzEncoder;
use sha2::{Digest as _, Sha256};
use std::fs::File;
use std::io::{self, BufWriter, Read, Write};
use std::path::{Path, PathBuf};

/// The media types of layers.
pub const DOCKER_GZIP: &str = "application/vnd.docker.image.rootfs.diff.tar.gzip";
pub const OCI_ZSTD: &str = "application/vnd.oci.image.layer.v1.tar+zstd";

/// Quick, as layers wait for it; a second more saves less of the wire than it costs.
const LEVEL: u32 = 3;
/// What compressed content begins with (RFC 1952, RFC 8878).
const GZIP: &[u8] = &[0x1f, 0x8b];
const ZSTD: &[u8] = &[0x28, 0xb5, 0x2f, 0xfd];

/// A layer in a file.
#[derive(Debug, Clone)]
pub struct Packed {
    /// Digest of what it holds; empty where it came packed.
    pub diff_id: String,
    /// Digest of the file.
    pub digest: String,
    /// Bytes of the file.
    pub size: u64,
    /// How it is packed.
    pub media_type: &'static str,
    /// Whether it was packed when it came.
    pub as_it_came: bool,
    /// The file.
    pub path: PathBuf,
}

impl Packed {
    /// As a manifest names it.
    pub fn blob(&self) -> LayerBlob {
        LayerBlob { media_type: self.media_type.to_owned(), digest: self.digest.clone(), size: self.size }
    }
}

/// Takes what a layer holds and writes it packed, with both digests on the way.
pub struct Packer {
    gzip: GzEncoder<Hashing<BufWriter<File>>>,
    content: Sha256,
    path: PathBuf,
}

impl Packer {
    pub fn new(path: &Path) -> io::Result<Self> {
        let output = Hashing::new(BufWriter::new(File::create(path)?));
        // The header names no time and no file.
        let gzip = GzEncoder::new(output, Compression::new(LEVEL));
        Ok(Self { gzip, content: Sha256::new(), path: path.to_owned() })
    }

    pub fn finish(self) -> io::Result<Packed> {
        let (_, digest, size) = self.gzip.finish()?.finish()?;
        let diff_id = format!("sha256:{}", hex(&self.content.finalize()));
        Ok(Packed { diff_id, digest, size, media_type: DOCKER_GZIP, as_it_came: false, path: self.path })
    }
}

impl Write for Packer {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let written = self.gzip.write(bytes)?;
        self.content.update(&bytes[..written]);
        Ok(written)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Packs a layer, unless it is packed already.
pub fn pack(mut layer: impl Read, path: &Path) -> io::Result<Packed> {
    let mut begin = Vec::new();
    layer.by_ref().take(ZSTD.len() as u64).read_to_end(&mut begin)?;
    let media_type = match begin.as_slice() {
        begin if begin.starts_with(GZIP) => Some(DOCKER_GZIP),
        begin if begin == ZSTD => Some(OCI_ZSTD),
        _ => None,
    };
    let mut all = begin.as_slice().chain(layer);
    let Some(media_type) = media_type else {
        let mut packer = Packer::new(path)?;
        io::copy(&mut all, &mut packer)?;
        return packer.finish();
    };
    let mut output = Hashing::new(BufWriter::new(File::create(path)?));
    io::copy(&mut all, &mut output)?;
    let (_, digest, size) = output.finish()?;
    Ok(Packed { diff_id: String::new(), digest, size, media_type, as_it_came: true, path: path.to_owned() })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::secret::sha256_digest;

    #[test]
    fn the_same_layer_is_packed_to_the_same_bytes_and_unpacks_to_itself() {
        let folder = tempfile::tempdir().unwrap();
        let content = b"content ".repeat(10_000);
        let one = pack(content.as_slice(), &folder.path().join("one")).unwrap();
        let two = pack(content.as_slice(), &folder.path().join("two")).unwrap();
        assert_eq!((&one.digest, one.size), (&two.digest, two.size));
        assert_eq!(one.diff_id, sha256_digest(&content));
        let packed = std::fs::read(&one.path).unwrap();
        assert_eq!((one.digest.clone(), one.size), (sha256_digest(&packed), packed.len() as u64));
        let mut unpacked = Vec::new();
        flate2::read::GzDecoder::new(packed.as_slice()).read_to_end(&mut unpacked).unwrap();
        assert_eq!(unpacked, content);
        // What is packed stays as it is.
        let again = pack(packed.as_slice(), &folder.path().join("again")).unwrap();
        assert_eq!((again.digest, again.as_it_came), (one.digest, true));
        assert_eq!(pack([].as_slice(), &folder.path().join("empty")).unwrap().diff_id, sha256_digest(b""));
    }
}
