//! What an address below `/v2/` names. Names of repositories hold slashes, so it is read from its end.

use super::names::{Digest, Reference, Repository};
use uuid::Uuid;

/// What is asked for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Target {
    /// `_catalog`
    Catalog,
    /// `NAME/tags/list`
    Tags(Repository),
    /// `NAME/manifests/REFERENCE`
    Manifest(Repository, Reference),
    /// `NAME/blobs/DIGEST`
    Blob(Repository, Digest),
    /// `NAME/blobs/uploads/`
    Uploads(Repository),
    /// `NAME/blobs/uploads/ID`
    Upload(Repository, Uuid),
    /// `NAME/referrers/DIGEST`
    Referrers(Repository, Digest),
}

/// Why an address names nothing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NoTarget {
    /// There is no such route.
    Route,
    /// The repository's name is none.
    Name,
    /// The digest is none.
    Digest,
    /// The reference is neither a tag nor a digest.
    Reference,
    /// The id of the upload is none of ours.
    Upload,
}

impl Target {
    /// Reads what stands behind `/v2/`, percent signs decoded.
    pub fn parse(path: &str) -> Result<Self, NoTarget> {
        if path == "_catalog" {
            return Ok(Self::Catalog);
        }
        let uploads = path.strip_suffix('/').unwrap_or(path);
        if let Some(name) = uploads.strip_suffix("/blobs/uploads") {
            return Ok(Self::Uploads(repository(name)?));
        }
        if let Some(name) = path.strip_suffix("/tags/list") {
            return Ok(Self::Tags(repository(name)?));
        }
        let (rest, last) = path.rsplit_once('/').ok_or(NoTarget::Route)?;
        let (name, kind) = rest.rsplit_once('/').ok_or(NoTarget::Route)?;
        let digest = || Digest::parse(last).ok_or(NoTarget::Digest);
        match kind {
            "manifests" => {
                let name = repository(name)?;
                // What has a colon was meant as a digest.
                let wrong = if last.contains(':') { NoTarget::Digest } else { NoTarget::Reference };
                Ok(Self::Manifest(name, Reference::parse(last).ok_or(wrong)?))
            }
            "blobs" => Ok(Self::Blob(repository(name)?, digest()?)),
            "referrers" => Ok(Self::Referrers(repository(name)?, digest()?)),
            "uploads" => {
                let name = name.strip_suffix("/blobs").ok_or(NoTarget::Route)?;
                let name = repository(name)?;
                Ok(Self::Upload(name, Uuid::try_parse(last).map_err(|_| NoTarget::Upload)?))
            }
            _ => Err(NoTarget::Route),
        }
    }
}

fn repository(name: &str) -> Result<Repository, NoTarget> {
    Repository::parse(name).ok_or(NoTarget::Name)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn addresses_are_read_from_their_end() {
        let name = |text: &str| Repository::parse(text).unwrap();
        let digest = Digest::of(b"x");
        let id = Uuid::now_v7();
        let reference = |text: &str| Reference::parse(text).unwrap();
        for (path, target) in [
            ("_catalog".to_owned(), Target::Catalog),
            ("a/b/tags/list".to_owned(), Target::Tags(name("a/b"))),
            ("manifests/manifests/latest".to_owned(), Target::Manifest(name("manifests"), reference("latest"))),
            (format!("a/manifests/{digest}"), Target::Manifest(name("a"), Reference::Digest(digest.clone()))),
            (format!("blobs/uploads/blobs/{digest}"), Target::Blob(name("blobs/uploads"), digest.clone())),
            ("a/blobs/uploads/".to_owned(), Target::Uploads(name("a"))),
            ("a/blobs/uploads".to_owned(), Target::Uploads(name("a"))),
            (format!("a/blobs/uploads/{id}"), Target::Upload(name("a"), id)),
            (format!("a/referrers/{digest}"), Target::Referrers(name("a"), digest.clone())),
        ] {
            assert_eq!(Target::parse(&path), Ok(target), "{path}");
        }
        for (path, why) in [
            ("", NoTarget::Route),
            ("a", NoTarget::Route),
            ("a/manifest/x", NoTarget::Route),
            ("A/manifests/x", NoTarget::Name),
            ("../../etc/manifests/x", NoTarget::Name),
            ("a/manifests/..", NoTarget::Reference),
            ("a/manifests/sha256:12", NoTarget::Digest),
            ("a/blobs/sha256:12", NoTarget::Digest),
            ("a/blobs/uploads/../../x", NoTarget::Route),
            ("a/blobs/uploads/1", NoTarget::Upload),
        ] {
            assert_eq!(Target::parse(path), Err(why), "{path}");
        }
    }

    proptest! {
        #[test]
        fn nothing_panics(path in "[a-b_/.:]{0,30}|.{0,60}") {
            let _ = Target::parse(&path);
        }
    }
}
