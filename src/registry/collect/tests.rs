//! Garbage collection beside those who give names.

use super::*;
use crate::registry::RegistrySettings;
use crate::registry::manifest::{OCI_INDEX, OCI_MANIFEST};
use crate::registry::names::{Reference, Tag};
use proptest::prelude::*;
use serde_json::{Value, json};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::SystemTime;

/// A registry whose things are young for an hour, and age by the test's hand alone.
fn disk() -> (tempfile::TempDir, Arc<Disk>) {
    // In memory: each name is synced to the disk.
    let folder = tempfile::tempdir_in("/dev/shm").unwrap();
    let settings = RegistrySettings { reserve_bytes: 0, ..RegistrySettings::new(folder.path().join("registry")) };
    (folder, Arc::new(Disk::open(settings).unwrap()))
}

fn name() -> Repository {
    Repository::parse("a").unwrap()
}

fn descriptor(kind: &str, digest: &Digest) -> Value {
    json!({"mediaType": kind, "digest": digest.to_string(), "size": 1})
}

/// A blob, as a push leaves it.
fn blob(disk: &Disk, content: &str) -> Digest {
    let digest = Digest::of(content.as_bytes());
    let _naming = disk.name();
    disk.write_content(&digest, content.as_bytes()).unwrap();
    disk.link(&name(), &digest).unwrap();
    digest
}

fn put(disk: &Disk, tag: Option<&str>, content: &Value) -> Result<Digest, RegistryError> {
    let text = content.to_string();
    let reference = match tag {
        Some(tag) => Reference::Tag(Tag::parse(tag).unwrap()),
        None => Reference::Digest(Digest::of(text.as_bytes())),
    };
    disk.put_manifest(&name(), &reference, None, text.as_bytes()).map(|put| put.digest)
}

/// An image of one layer, without a tag.
fn image(disk: &Disk, layer: &str) -> Result<Digest, RegistryError> {
    let (config, layer) = (blob(disk, "{}"), blob(disk, layer));
    let layers = [descriptor("application/vnd.oci.image.layer.v1.tar", &layer)];
    let config = descriptor("application/vnd.oci.image.config.v1+json", &config);
    put(disk, None, &json!({"schemaVersion": 2, "mediaType": OCI_MANIFEST, "config": config, "layers": layers}))
}

fn index(children: &[Digest], nonce: usize) -> Value {
    let manifests: Vec<Value> = children.iter().map(|child| descriptor(OCI_MANIFEST, child)).collect();
    json!({"schemaVersion": 2, "mediaType": OCI_INDEX, "manifests": manifests, "annotations": {"n": nonce.to_string()}})
}

/// Everything that is there was last asked for yesterday.
fn age(folder: &Path) {
    for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
        let path = entry.path();
        if path.is_dir() {
            age(&path);
        } else if let Ok(file) = File::open(&path) {
            let _ = file.set_modified(SystemTime::now() - Duration::from_secs(86_400));
        }
    }
}

/// What of a manifest is missing.
fn missing(disk: &Disk, digest: &Digest) -> Vec<Digest> {
    let Some(manifest) = disk.read_manifest(&name(), digest).unwrap() else { return vec![digest.clone()] };
    let has = |blob: &Digest| disk.blob_path(blob).exists() && disk.link_path(&name(), blob).exists();
    let children = manifest.children().flat_map(|child| missing(disk, &child));
    manifest.blobs().filter(|blob| !has(blob)).chain(children).collect()
}

#[test]
fn nobody_who_gives_names_waits_for_the_walk() {
    let (folder, disk) = disk();
    let lost = image(&disk, "lost").unwrap();
    age(folder.path());
    // While somebody holds the lock of names all is looked through,
    let naming = disk.name();
    let garbage = disk.mark(&HashSet::new()).unwrap();
    assert_eq!((garbage.manifests.len(), garbage.links.len(), garbage.blobs.len()), (1, 2, 3));
    drop(naming);
    // and what is named before it is taken away stays whole, though it was garbage.
    let named = put(&disk, Some("all"), &index(std::slice::from_ref(&lost), 0)).unwrap();
    assert_eq!(disk.sweep(&garbage).unwrap().0, Collected::default());
    assert_eq!(missing(&disk, &named), []);
}

#[test]
fn a_pull_between_both_looks_gets_a_whole_image() {
    let (folder, disk) = disk();
    let lost = image(&disk, "lost").unwrap();
    age(folder.path());
    let garbage = disk.mark(&HashSet::new()).unwrap();
    assert!(disk.find_manifest(&name(), &Reference::Digest(lost.clone())).unwrap().is_some());
    disk.sweep(&garbage).unwrap();
    assert_eq!(missing(&disk, &lost), []);
    // Nobody asks any more: it goes, once it is old.
    assert_eq!(disk.sweep(&disk.mark(&HashSet::new()).unwrap()).unwrap().0, Collected::default());
    age(folder.path());
    let collected = disk.sweep(&disk.mark(&HashSet::new()).unwrap()).unwrap().0;
    assert_eq!((collected.manifests, collected.blobs), (1, 3));
    assert!(!disk.repository(&name()).exists());
}

#[test]
fn an_upload_that_is_written_to_stays() {
    let (folder, disk) = disk();
    let [busy, left] = [1, 2].map(|id| disk.upload_path(&name(), Uuid::from_u128(id)));
    for path in [&busy, &left] {
        disk::write(path, b"half", false).unwrap();
    }
    let open = File::open(&busy).unwrap();
    open.try_lock().unwrap();
    age(folder.path());
    File::open(&left).unwrap().set_modified(SystemTime::now() - Duration::from_secs(86_400)).unwrap();
    let (collected, ended) = disk.sweep(&disk.mark(&HashSet::new()).unwrap()).unwrap();
    assert_eq!((collected.uploads, ended), (1, HashSet::from([Uuid::from_u128(2)])));
    assert!(busy.exists() && !left.exists());
}

#[test]
fn pushes_pulls_and_collections_at_once_leave_whole_images() {
    let (folder, disk) = disk();
    let is_over = AtomicBool::new(false);
    let named = thread::scope(|scope| {
        let clearing = scope.spawn(|| {
            let mut count = 0;
            while !is_over.load(Ordering::Relaxed) {
                age(folder.path());
                disk.sweep(&disk.mark(&HashSet::new()).unwrap()).unwrap();
                count += 1;
            }
            count
        });
        // Images that are pushed, forgotten, and named again by an index while they may be on their way out.
        let pushing = [0, 1, 2].map(|pusher: usize| {
            let disk = &disk;
            scope.spawn(move || {
                let mut named = Vec::new();
                for number in 0..60 {
                    let layer = format!("layer {pusher} {}", number % 7);
                    let Ok(child) = image(disk, &layer) else { continue };
                    thread::yield_now();
                    let tag = format!("t{pusher}-{number}");
                    match put(disk, Some(&tag), &index(&[child], pusher * 1_000 + number)) {
                        Ok(index) => named.push(index),
                        // Gone meanwhile: said, and not accepted.
                        Err(RegistryError::ManifestBlobUnknown(_)) => {}
                        Err(other) => panic!("{other}"),
                    }
                }
                named
            })
        });
        let named: Vec<Digest> = pushing.into_iter().flat_map(|one| one.join().unwrap()).collect();
        is_over.store(true, Ordering::Relaxed);
        assert!(clearing.join().unwrap() > 1);
        named
    });
    assert!(!named.is_empty());
    for digest in named {
        assert_eq!(missing(&disk, &digest), [], "{digest}");
    }
}

#[derive(Debug, Clone)]
enum Step {
    Push(u8),
    Name(u8, u8),
    Untag(u8),
    Pull(u8),
    Age,
    Mark,
    Sweep,
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let step = prop_oneof![
        (0..4_u8).prop_map(Step::Push),
        (0..4_u8, 0..3_u8).prop_map(|(image, tag)| Step::Name(image, tag)),
        (0..3_u8).prop_map(Step::Untag),
        (0..4_u8).prop_map(Step::Pull),
        Just(Step::Age),
        Just(Step::Mark),
        Just(Step::Sweep),
    ];
    proptest::collection::vec(step, 1..30)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]
    /// Whatever comes between the two looks: what a tag names is whole, and what was asked for since things aged is.
    #[test]
    fn no_named_image_is_ever_lost_and_no_young_one(steps in steps()) {
        let (folder, disk) = disk();
        let mut pending: Option<Garbage> = None;
        let mut young: HashSet<Digest> = HashSet::new();
        let mut known: Vec<Option<Digest>> = vec![None; 4];
        for step in steps {
            match step {
                Step::Push(number) => {
                    let digest = image(&disk, &format!("layer {number}")).unwrap();
                    young.insert(digest.clone());
                    known[usize::from(number)] = Some(digest);
                }
                Step::Name(number, tag) => if let Some(child) = known[usize::from(number)].clone()
                    && let Ok(digest) = put(&disk, Some(&format!("t{tag}")), &index(std::slice::from_ref(&child), 0)) {
                    young.extend([child, digest]);
                },
                Step::Untag(tag) => {
                    let tag = Tag::parse(&format!("t{tag}")).unwrap();
                    let _ = disk.delete_manifest(&name(), &Reference::Tag(tag));
                }
                Step::Pull(number) => if let Some(digest) = known[usize::from(number)].clone()
                    && disk.find_manifest(&name(), &Reference::Digest(digest.clone())).unwrap().is_some() {
                    young.insert(digest);
                },
                Step::Age => {
                    age(folder.path());
                    young.clear();
                }
                Step::Mark => pending = Some(disk.mark(&HashSet::new()).unwrap()),
                Step::Sweep => if let Some(garbage) = pending.take() {
                    disk.sweep(&garbage).unwrap();
                },
            }
            for digest in disk.tagged(&name()).unwrap().iter().chain(&young) {
                prop_assert_eq!(missing(&disk, digest), vec![]);
            }
        }
        // And in the end nothing stays that nothing names.
        for tag in disk.tags_of(&name()).unwrap() {
            disk.delete_manifest(&name(), &Reference::Tag(Tag::parse(&tag).unwrap())).unwrap();
        }
        age(folder.path());
        disk.sweep(&disk.mark(&HashSet::new()).unwrap()).unwrap();
        prop_assert!(disk::names(&disk.blobs()).unwrap().iter().all(|start| disk::digests(&disk.blobs().join(start)).unwrap().is_empty()));
    }
}
