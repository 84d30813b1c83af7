//! What is in a manifest: pure. The bytes are kept as they came; what is read here is what they refer to.

use super::names::Digest;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use std::collections::BTreeMap;

/// The largest manifest that is taken, in bytes: the specification's least.
pub const MAX_MANIFEST: usize = 4 << 20;

/// An OCI image.
pub const OCI_MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";
/// An OCI index.
pub const OCI_INDEX: &str = "application/vnd.oci.image.index.v1+json";
/// A Docker image.
pub const DOCKER_MANIFEST: &str = "application/vnd.docker.distribution.manifest.v2+json";
/// A Docker manifest list.
pub const DOCKER_LIST: &str = "application/vnd.docker.distribution.manifest.list.v2+json";

/// Configs that name the uncompressed digests of an image's layers.
const IMAGE_CONFIGS: [&str; 2] =
    ["application/vnd.oci.image.config.v1+json", "application/vnd.docker.container.image.v1+json"];

/// Content by its digest.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Descriptor {
    /// What it is.
    pub media_type: String,
    /// `sha256:…`
    pub digest: String,
    /// Bytes.
    pub size: u64,
    /// Where else it is: content that no registry need have.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub urls: Vec<String>,
    /// What kind of artifact a manifest is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub artifact_type: Option<String>,
    /// What is said of it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub annotations: Option<BTreeMap<String, String>>,
}

impl Descriptor {
    /// Content of some type.
    pub fn new(media_type: &str, digest: &Digest, size: u64) -> Self {
        Self {
            media_type: media_type.to_owned(),
            digest: digest.to_string(),
            size,
            urls: Vec::new(),
            artifact_type: None,
            annotations: None,
        }
    }
}

/// A manifest or an index, read.
#[derive(Debug, Clone, PartialEq)]
pub struct Manifest {
    /// What it was sent as.
    pub media_type: String,
    /// Of an image; an index has none.
    pub config: Option<Descriptor>,
    /// Of an image, bottom first.
    pub layers: Vec<Descriptor>,
    /// Of an index.
    pub manifests: Vec<Descriptor>,
    /// What it is about.
    pub subject: Option<Descriptor>,
    artifact_type: Option<String>,
    annotations: Option<BTreeMap<String, String>>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Document {
    schema_version: u32,
    media_type: Option<String>,
    config: Option<Descriptor>,
    layers: Option<Vec<Descriptor>>,
    manifests: Option<Vec<Descriptor>>,
    subject: Option<Descriptor>,
    artifact_type: Option<String>,
    annotations: Option<BTreeMap<String, String>>,
}

impl Manifest {
    /// Reads a manifest that was sent as `content_type`. The error is a sentence.
    pub fn read(content_type: Option<&str>, bytes: &[u8]) -> Result<Self, String> {
        let document: Document =
            serde_json::from_slice(bytes).map_err(|error| format!("it is no manifest of schema 2: {error}"))?;
        if document.schema_version != 2 {
            return Err(format!("schemaVersion {} is not taken, only 2", document.schema_version));
        }
        let sent = content_type.map(|text| text.split(';').next().unwrap_or_default().trim());
        let media_type = match (sent.filter(|text| !text.is_empty()), document.media_type) {
            (Some(sent), Some(own)) if sent != own => {
                return Err(format!("it was sent as {sent} and says of itself that it is {own}"));
            }
            (Some(media_type), _) => media_type.to_owned(),
            (None, Some(media_type)) => media_type,
            (None, None) => return Err("it has neither a Content-Type nor a mediaType".to_owned()),
        };
        let is_index = match media_type.as_str() {
            OCI_MANIFEST | DOCKER_MANIFEST => false,
            OCI_INDEX | DOCKER_LIST => true,
            other => {
                return Err(format!("{other} is not kept here, only images and indexes of OCI and Docker schema 2"));
            }
        };
        if is_index && (document.config.is_some() || document.layers.is_some()) {
            return Err("an index has neither config nor layers".to_owned());
        }
        if !is_index && (document.config.is_none() || document.layers.is_none() || document.manifests.is_some()) {
            return Err("an image has a config and layers, and no manifests".to_owned());
        }
        if is_index && document.manifests.is_none() {
            return Err("an index has manifests".to_owned());
        }
        let manifest = Self {
            media_type,
            config: document.config,
            layers: document.layers.unwrap_or_default(),
            manifests: document.manifests.unwrap_or_default(),
            subject: document.subject,
            artifact_type: document.artifact_type,
            annotations: document.annotations,
        };
        let all = manifest.config.iter().chain(&manifest.layers).chain(&manifest.manifests).chain(&manifest.subject);
        match all.map(|one| &one.digest).find(|digest| Digest::parse(digest).is_none()) {
            Some(wrong) => Err(format!("{wrong:?} is no sha256 digest")),
            None => Ok(manifest),
        }
    }

    /// The blobs that must be there with it. What has addresses of its own need not be.
    pub fn blobs(&self) -> impl Iterator<Item = Digest> + '_ {
        let own = self.config.iter().chain(&self.layers).filter(|one| one.urls.is_empty());
        own.filter_map(|one| Digest::parse(&one.digest))
    }

    /// The manifests that must be there with it.
    pub fn children(&self) -> impl Iterator<Item = Digest> + '_ {
        self.manifests.iter().filter_map(|one| Digest::parse(&one.digest))
    }

    /// What it is about.
    pub fn subject(&self) -> Option<Digest> {
        self.subject.as_ref().and_then(|subject| Digest::parse(&subject.digest))
    }

    /// The config, where it is that of an image that can be run.
    pub fn image_config(&self) -> Option<Digest> {
        let config = self.config.as_ref().filter(|config| IMAGE_CONFIGS.contains(&config.media_type.as_str()))?;
        Digest::parse(&config.digest)
    }

    /// How it stands in a list of referrers.
    pub fn referrer(&self, digest: &Digest, size: u64) -> Descriptor {
        let of_config = self.config.as_ref().map(|config| config.media_type.clone());
        Descriptor {
            artifact_type: self.artifact_type.clone().or(of_config),
            annotations: self.annotations.clone(),
            ..Descriptor::new(&self.media_type, digest, size)
        }
    }
}

/// The uncompressed digests of an image's layers, by its config; bottom first.
pub fn diff_ids(config: &[u8]) -> Option<Vec<Digest>> {
    let config: Value = serde_json::from_slice(config).ok()?;
    let ids = config.get("rootfs")?.get("diff_ids")?.as_array()?;
    ids.iter().map(|id| Digest::parse(id.as_str()?)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn descriptor(text: &str) -> Value {
        json!({"mediaType": "x/y", "digest": Digest::of(text.as_bytes()).to_string(), "size": text.len()})
    }

    #[test]
    fn images_and_indexes_are_read() {
        let mut far = descriptor("far");
        far["urls"] = json!(["https://far.example/layer"]);
        let image = json!({"schemaVersion": 2, "config": descriptor("config"), "layers": [descriptor("layer"), far],
            "subject": descriptor("subject"), "annotations": {"a": "b"}});
        let read =
            Manifest::read(Some(&format!("{OCI_MANIFEST}; charset=utf-8")), image.to_string().as_bytes()).unwrap();
        assert_eq!(read.blobs().collect::<Vec<_>>(), [Digest::of(b"config"), Digest::of(b"layer")]);
        assert_eq!(read.subject(), Some(Digest::of(b"subject")));
        let referrer = read.referrer(&Digest::of(b""), 7);
        assert_eq!((referrer.artifact_type.as_deref(), referrer.size), (Some("x/y"), 7));
        let index = json!({"schemaVersion": 2, "mediaType": DOCKER_LIST, "manifests": [descriptor("child")]});
        let read = Manifest::read(None, index.to_string().as_bytes()).unwrap();
        assert_eq!(read.children().collect::<Vec<_>>(), [Digest::of(b"child")]);
    }

    #[test]
    fn what_is_none_is_refused_with_a_sentence() {
        let image = json!({"schemaVersion": 2, "config": descriptor("c"), "layers": []});
        let index = json!({"schemaVersion": 2, "manifests": []});
        let mut wrong = image.clone();
        wrong["config"]["digest"] = json!("../../etc/passwd");
        let mut other = image.clone();
        other["mediaType"] = json!(DOCKER_MANIFEST);
        for (content_type, document, said) in [
            (None, image.clone(), "neither a Content-Type"),
            (Some(OCI_INDEX), image.clone(), "an index has neither"),
            (Some(OCI_MANIFEST), index, "an image has"),
            (Some("text/plain"), image.clone(), "is not kept here"),
            (Some(OCI_MANIFEST), wrong, "no sha256 digest"),
            (Some(OCI_MANIFEST), other, "says of itself"),
            (Some(OCI_MANIFEST), json!({"schemaVersion": 1}), "schemaVersion 1"),
            (Some(OCI_MANIFEST), json!([]), "no manifest"),
        ] {
            let refused = Manifest::read(content_type, document.to_string().as_bytes()).unwrap_err();
            assert!(refused.contains(said), "{refused}");
        }
    }
}
