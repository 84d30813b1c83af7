//! An image from another one and one more layer, without a builder: the layer, the config and a
//! manifest are made here and loaded as an archive that holds nothing else. Layers that an engine has
//! it looks up by their chain ids; their files may be absent (moby `image/tarexport/load.go`).
//!
//! An engine with containerd's image store wants whole archives and knows images by other ids: it is
//! not asked.

use crate::base::secret::hex;
use crate::image::archive::{self, ArchiveError, Entry, Seen};
use crate::image::hashing::Hashing;
use bollard::models::{ImageHistoryResponseItem, ImageInspect};
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};
use std::collections::{BTreeMap, HashMap};
use std::io::{Read, Seek as _, Write};
use std::sync::Arc;
use tempfile::SpooledTempFile;

/// A layer of more bytes is kept in a file.
const IN_MEMORY_BYTES: usize = 16 << 20;

/// What is new in an image.
#[derive(Debug, Clone)]
pub struct Addition {
    /// The files of the new layer.
    pub entries: Vec<Entry>,
    /// What they held when the digest was made.
    pub seen: Arc<Seen>,
    /// The working directory.
    pub workdir: String,
    /// Labels beside those that stay.
    pub labels: HashMap<String, String>,
    /// The label that does not stay.
    pub without_label: &'static str,
    /// The tag.
    pub tag: String,
    /// When it was made, by RFC 3339.
    pub created: String,
}

/// The new image, ready to be loaded.
#[derive(Debug)]
pub struct Appended {
    /// The digest of its config, which is the engine's id of it.
    pub image_id: String,
    config: Vec<u8>,
    manifest: Vec<u8>,
    layer: SpooledTempFile,
    layer_bytes: u64,
}

impl Appended {
    /// Makes the layer and the config. Blocks: it reads the files.
    pub fn make(
        image: &ImageInspect,
        history: &[ImageHistoryResponseItem],
        addition: &Addition,
    ) -> Result<Self, ArchiveError> {
        let mut output = Hashing::new(SpooledTempFile::new(IN_MEMORY_BYTES));
        archive::write(&addition.entries, &addition.seen, &mut output)?;
        let (mut layer, diff_id, layer_bytes) = output.finish().map_err(ArchiveError::Output)?;
        layer.rewind().map_err(ArchiveError::Output)?;
        let config = config(image, history, addition, &diff_id).to_string().into_bytes();
        let digest = hex(&Sha256::digest(&config));
        let known = image.root_fs.iter().flat_map(|root| root.layers.iter().flatten()).map(|id| absent(id));
        let layers: Vec<String> = known.chain([LAYER.to_owned()]).collect();
        let manifest = json!([{"Config": format!("{digest}.json"), "RepoTags": [addition.tag], "Layers": layers}]);
        let manifest = manifest.to_string().into_bytes();
        Ok(Self { image_id: format!("sha256:{digest}"), config, manifest, layer, layer_bytes })
    }

    /// The config's bytes.
    pub fn config(&self) -> &[u8] {
        &self.config
    }

    /// Writes the archive.
    pub fn write(self, output: impl Write) -> Result<(), ArchiveError> {
        let digest = self.image_id.trim_start_matches("sha256:").to_owned();
        let mut tar = tar::Builder::new(output);
        let mut add = |name: &str, bytes: u64, content: &mut dyn Read| {
            let mut header = archive::header(tar::EntryType::Regular, 0o644);
            header.set_size(bytes);
            tar.append_data(&mut header, name, content).map_err(ArchiveError::Output)
        };
        let mut layer = self.layer;
        add(LAYER, self.layer_bytes, &mut layer)?;
        add(&format!("{digest}.json"), self.config.len() as u64, &mut self.config.as_slice())?;
        add("manifest.json", self.manifest.len() as u64, &mut self.manifest.as_slice())?;
        tar.into_inner().and_then(|mut output| output.flush()).map_err(ArchiveError::Output)
    }
}

const LAYER: &str = "layer.tar";

/// The name of a file that is not in the archive.
fn absent(layer: &str) -> String {
    format!("{}/layer.tar", layer.trim_start_matches("sha256:"))
}

/// The image's config (moby image-spec v1.2), by which the engine names it.
fn config(image: &ImageInspect, history: &[ImageHistoryResponseItem], addition: &Addition, diff_id: &str) -> Value {
    let mut run = json!(image.config.clone().unwrap_or_default());
    let labels = image.config.iter().flat_map(|config| config.labels.iter().flatten());
    let labels = labels.filter(|(name, _)| *name != addition.without_label).chain(&addition.labels);
    run["Labels"] = json!(labels.collect::<BTreeMap<_, _>>());
    run["WorkingDir"] = json!(addition.workdir);
    let mut diff_ids: Vec<&str> =
        image.root_fs.iter().flat_map(|root| root.layers.iter().flatten()).map(String::as_str).collect();
    diff_ids.push(diff_id);
    let mut config = json!({
        "architecture": image.architecture, "os": image.os, "created": addition.created, "config": run,
        "rootfs": {"type": "layers", "diff_ids": diff_ids},
    });
    if let Some(variant) = image.variant.as_ref().filter(|variant| !variant.is_empty()) {
        config["variant"] = json!(variant);
    }
    if let Some(history) = told(history, diff_ids.len() - 1) {
        let own = json!({"created": addition.created, "created_by": "rapidclaw: the code"});
        config["history"] = history.into_iter().chain([own]).collect();
    }
    config
}

/// The history as a config holds it. The engine does not say which steps made no layer; where their
/// instructions do not tell either there is none, as a wrong one makes an image that some readers refuse.
fn told(history: &[ImageHistoryResponseItem], layers: usize) -> Option<Vec<Value>> {
    if history.iter().filter(|step| !is_empty(step)).count() != layers {
        return None;
    }
    let one = |step: &ImageHistoryResponseItem| {
        let created = jiff::Timestamp::from_second(step.created).unwrap_or_default().to_string();
        let mut told = json!({"created": created, "created_by": step.created_by});
        if is_empty(step) {
            told["empty_layer"] = json!(true);
        }
        told
    };
    Some(history.iter().rev().map(one).collect())
}

/// Whether a step changed the config alone.
fn is_empty(step: &ImageHistoryResponseItem) -> bool {
    const CONFIG: [&str; 13] = [
        "ARG",
        "CMD",
        "ENTRYPOINT",
        "ENV",
        "EXPOSE",
        "HEALTHCHECK",
        "LABEL",
        "MAINTAINER",
        "ONBUILD",
        "SHELL",
        "STOPSIGNAL",
        "USER",
        "VOLUME",
    ];
    let instruction = step.created_by.trim_start_matches("/bin/sh -c #(nop)").split_whitespace().next();
    step.size == 0 && instruction.is_some_and(|word| CONFIG.contains(&word))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::image::archive::Content;
    use bollard::models::{DriverData, ImageConfig, ImageInspectRootFs};

    fn image() -> ImageInspect {
        ImageInspect {
            architecture: Some("amd64".into()),
            os: Some("linux".into()),
            config: Some(ImageConfig {
                user: Some("10001".into()),
                labels: Some(HashMap::from([("a".into(), "1".into()), ("gone".into(), "1".into())])),
                exposed_ports: Some(vec!["80/tcp".into()]),
                ..ImageConfig::default()
            }),
            graph_driver: Some(DriverData { name: "overlay2".into(), data: HashMap::new() }),
            root_fs: Some(ImageInspectRootFs {
                typ: "layers".into(),
                layers: Some(vec!["sha256:11".into(), "sha256:22".into()]),
            }),
            ..ImageInspect::default()
        }
    }

    fn addition() -> Addition {
        Addition {
            entries: vec![
                Entry { path: "deps/app".into(), content: Content::Folder, executable: false },
                Entry::text("deps/app/agent.py", "x"),
            ],
            seen: Arc::default(),
            workdir: "/deps/app".into(),
            labels: HashMap::from([("b".into(), "2".into())]),
            without_label: "gone",
            tag: "rapidclaw/x:1".into(),
            created: "2026-01-01T00:00:00Z".into(),
        }
    }

    fn step(created_by: &str, size: i64) -> ImageHistoryResponseItem {
        ImageHistoryResponseItem { created_by: created_by.into(), size, ..ImageHistoryResponseItem::default() }
    }

    fn files(archive: &[u8]) -> Vec<(String, Vec<u8>)> {
        let mut archive = tar::Archive::new(archive);
        let entries = archive.entries().unwrap().map(|entry| {
            let mut entry = entry.unwrap();
            let mut bytes = Vec::new();
            entry.read_to_end(&mut bytes).unwrap();
            (entry.path().unwrap().display().to_string(), bytes)
        });
        entries.collect()
    }

    #[test]
    fn the_archive_holds_the_new_layer_alone_and_a_config_that_names_all() {
        let history = [step("CMD", 0), step("RUN", 7), step("ADD", 9)];
        let appended = Appended::make(&image(), &history, &addition()).unwrap();
        let id = appended.image_id.clone();
        let mut bytes = Vec::new();
        appended.write(&mut bytes).unwrap();
        let found = files(&bytes);
        let digest = id.trim_start_matches("sha256:");
        assert_eq!(
            found.iter().map(|(name, _)| name.clone()).collect::<Vec<_>>(),
            [LAYER.to_owned(), format!("{digest}.json"), "manifest.json".to_owned()]
        );
        let layer: Vec<String> = files(&found[0].1).into_iter().map(|(name, _)| name).collect();
        assert_eq!(layer, ["deps/", "deps/app/", "deps/app/agent.py"]);
        assert_eq!(hex(&Sha256::digest(&found[1].1)), digest);
        let diff_id = format!("sha256:{}", hex(&Sha256::digest(&found[0].1)));
        let config: Value = serde_json::from_slice(&found[1].1).unwrap();
        assert_eq!(config["rootfs"]["diff_ids"], json!(["sha256:11", "sha256:22", diff_id]));
        assert_eq!(
            config["config"],
            json!({"User": "10001", "ExposedPorts": {"80/tcp": {}}, "Labels": {"a": "1", "b": "2"},
                   "WorkingDir": "/deps/app"})
        );
        let told: Vec<_> = config["history"].as_array().unwrap().iter().map(|step| &step["created_by"]).collect();
        assert_eq!(told, ["ADD", "RUN", "CMD", "rapidclaw: the code"]);
        assert_eq!(config["history"][2]["empty_layer"], true);
        let manifest: Value = serde_json::from_slice(&found[2].1).unwrap();
        assert_eq!(manifest[0]["Layers"], json!(["11/layer.tar", "22/layer.tar", LAYER]));
        assert_eq!(manifest[0]["RepoTags"], json!(["rapidclaw/x:1"]));
    }

    #[test]
    fn a_history_that_does_not_fit_the_layers_is_left_out() {
        let history = [step("WORKDIR /x", 0), step("/bin/sh -c #(nop)  ENV A=1", 0), step("", 9)];
        assert!(told(&history, 1).is_none());
        let told = told(&history, 2).unwrap();
        assert_eq!(told.iter().map(|step| step["empty_layer"] == true).collect::<Vec<_>>(), [false, true, false]);
    }
}
