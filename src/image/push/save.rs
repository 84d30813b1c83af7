//! An image as an engine writes it (`docker save`): Docker's own form, and since Engine 25 OCI's with Docker's
//! `manifest.json` in it.

use super::error::{PushError, disk, engine};
use super::pack::{self, Packed};
use bollard::Docker;
use futures_util::StreamExt as _;
use serde::Deserialize;
use std::collections::HashMap;
use std::fs::File;
use std::io::{self, Read as _, Seek as _, SeekFrom};
use std::path::{Component, Path};
use tokio::io::AsyncWriteExt as _;

/// The largest config or list that is read.
const MOST: u64 = 8 << 20;
/// The most links from one file of an archive to the next.
const LINKS: usize = 8;

/// Has the engine write an image into a file.
pub async fn save(docker: &Docker, image: &str, path: &Path) -> Result<(), PushError> {
    let doing = "taking the image out of the engine";
    let folder = path.parent().unwrap_or(path);
    let file = tokio::fs::File::create(path).await.map_err(disk(folder))?;
    let mut file = tokio::io::BufWriter::with_capacity(1 << 20, file);
    let mut parts = std::pin::pin!(docker.export_image(image));
    while let Some(part) = parts.next().await {
        file.write_all(&part.map_err(engine(doing))?).await.map_err(disk(folder))?;
    }
    file.flush().await.map_err(disk(folder))
}

/// Where in an archive a file is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Part {
    begin: u64,
    bytes: u64,
}

impl Part {
    /// Packs it as a layer. Blocks.
    pub fn pack(self, archive: &Path, to: &Path) -> io::Result<Packed> {
        pack::pack(self.open(archive)?, to)
    }

    fn open(self, archive: &Path) -> io::Result<impl io::Read + use<>> {
        let mut file = File::open(archive)?;
        file.seek(SeekFrom::Start(self.begin))?;
        Ok(io::BufReader::with_capacity(256 << 10, file.take(self.bytes)))
    }

    fn read(self, archive: &Path) -> io::Result<Vec<u8>> {
        let mut content = Vec::new();
        self.open(archive)?.take(MOST).read_to_end(&mut content)?;
        Ok(content)
    }
}

/// What is in an archive.
#[derive(Debug)]
pub struct Saved {
    /// The config's bytes.
    pub config: Vec<u8>,
    /// Lowest first.
    pub layers: Vec<Part>,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Listed {
    config: String,
    layers: Vec<String>,
}

enum Entry {
    File(Part),
    Link(String),
}

impl Saved {
    /// Reads what an archive of one image lists. Blocks. The inner error is a sentence.
    pub fn read(path: &Path) -> io::Result<Result<Self, String>> {
        let mut archive = tar::Archive::new(File::open(path)?);
        let mut entries = HashMap::new();
        for entry in archive.entries_with_seek()? {
            let entry = entry?;
            let name = plain(&entry.path()?);
            let kind = entry.header().entry_type();
            if kind.is_file() {
                let part = Part { begin: entry.raw_file_position(), bytes: entry.size() };
                entries.insert(name, Entry::File(part));
            } else if let Some(target) = entry.link_name()? {
                // A symbolic link is named from its folder on, a hard one from the top.
                let from =
                    if kind.is_symlink() { Path::new(&name).parent().unwrap_or(Path::new("")) } else { Path::new("") };
                entries.insert(name.clone(), Entry::Link(plain(&from.join(target))));
            }
        }
        let find = |name: &str| {
            let mut name = name.to_owned();
            for _ in 0..LINKS {
                match entries.get(&name) {
                    Some(Entry::File(part)) => return Ok(*part),
                    Some(Entry::Link(target)) => name.clone_from(target),
                    None => break,
                }
            }
            Err(format!("{name} is not in it"))
        };
        let list = match find("manifest.json") {
            Ok(part) => part.read(path)?,
            Err(said) => return Ok(Err(said)),
        };
        let Ok([listed]) = serde_json::from_slice::<[Listed; 1]>(&list) else {
            return Ok(Err("its manifest.json names no image, or several".to_owned()));
        };
        let layers = listed.layers.iter().map(|layer| find(layer)).collect::<Result<_, _>>();
        let (layers, config) = match (layers, find(&listed.config)) {
            (Ok(layers), Ok(config)) => (layers, config),
            (Err(said), _) | (_, Err(said)) => return Ok(Err(said)),
        };
        Ok(Ok(Self { config: config.read(path)?, layers }))
    }
}

/// A path without `.` and `..`.
fn plain(path: &Path) -> String {
    let mut parts: Vec<String> = Vec::new();
    for part in path.components() {
        match part {
            Component::Normal(part) => parts.push(part.to_string_lossy().into_owned()),
            Component::ParentDir => drop(parts.pop()),
            _ => {}
        }
    }
    parts.join("/")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn archive(entries: &[(&str, &str)], links: &[(&str, &str)]) -> tempfile::NamedTempFile {
        let file = tempfile::NamedTempFile::new().unwrap();
        let mut tar = tar::Builder::new(file.reopen().unwrap());
        for (name, content) in entries {
            let mut header = tar::Header::new_ustar();
            header.set_size(content.len() as u64);
            tar.append_data(&mut header, name, content.as_bytes()).unwrap();
        }
        for (name, target) in links {
            let mut header = tar::Header::new_ustar();
            header.set_entry_type(tar::EntryType::Symlink);
            header.set_size(0);
            tar.append_link(&mut header, name, target).unwrap();
        }
        tar.finish().unwrap();
        file
    }

    #[test]
    fn layers_are_found_in_their_order_and_through_links() {
        let list = r#"[{"Config":"c.json","RepoTags":null,"Layers":["2/layer.tar","1/layer.tar"]}]"#;
        let file = archive(
            &[("1/layer.tar", "first"), ("c.json", "{}"), ("manifest.json", list)],
            &[("2/layer.tar", "../1/layer.tar")],
        );
        let saved = Saved::read(file.path()).unwrap().unwrap();
        assert_eq!(saved.config, b"{}");
        assert_eq!(saved.layers[0], saved.layers[1]);
        assert_eq!(saved.layers[0].read(file.path()).unwrap(), b"first");
    }

    #[test]
    fn what_is_no_image_is_said() {
        let said = |entries: &[(&str, &str)], links: &[(&str, &str)]| {
            Saved::read(archive(entries, links).path()).unwrap().unwrap_err()
        };
        assert_eq!(said(&[], &[]), "manifest.json is not in it");
        assert!(said(&[("manifest.json", "[]")], &[]).contains("names no image"));
        let list = r#"[{"Config":"c.json","Layers":["x"]}]"#;
        assert_eq!(said(&[("manifest.json", list), ("c.json", "")], &[("x", "x")]), "x is not in it");
    }
}
