//! Writes on, and knows the digest and the length of what was written.

use crate::base::secret::hex;
use sha2::{Digest as _, Sha256};
use std::io::{self, Write};

/// A writer that hashes what passes.
pub(super) struct Hashing<W> {
    inner: W,
    sum: Sha256,
    bytes: u64,
}

impl<W: Write> Hashing<W> {
    pub fn new(inner: W) -> Self {
        Self { inner, sum: Sha256::new(), bytes: 0 }
    }

    /// What it was written to, flushed, the digest (`sha256:…`), and the bytes.
    pub fn finish(mut self) -> io::Result<(W, String, u64)> {
        self.inner.flush()?;
        Ok((self.inner, format!("sha256:{}", hex(&self.sum.finalize())), self.bytes))
    }
}

impl<W: Write> Write for Hashing<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let written = self.inner.write(bytes)?;
        self.sum.update(&bytes[..written]);
        self.bytes += written as u64;
        Ok(written)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.inner.flush()
    }
}
