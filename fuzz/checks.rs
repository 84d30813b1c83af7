//! What holds whatever a stranger, a project or a replica sends: one function a fuzz target. `tests/it/fuzz.rs`
//! tries them with seeds that were changed by chance, the same at each run; `scripts/fuzz.sh` lets libFuzzer look
//! further.

use rapidclaw::api::builds::REQUEST_FILE;
use rapidclaw::base::secret::{ExposeSecret as _, sha256_digest};
use rapidclaw::egress::host::{Authority, Host};
use rapidclaw::egress::{client_hello, head};
use rapidclaw::image::context::Root;
use rapidclaw::image::plan::recipe::Bounds;
use rapidclaw::image::requirement_set::Requirements;
use rapidclaw::image::sent::{self, SentError};
use rapidclaw::image::{pyproject, spec, steps};
use rapidclaw::manifest::{
    self, AllowedHost, Manifest, dotenv, is_name, python, render, requirement_line, requires, to_name, units, workspace,
};
use rapidclaw::run::chat::ChatShape;
use rapidclaw::runner::codec::{self, Content};
use rapidclaw::runner::protocol::{Hello, Link};
use rapidclaw::runner::session::{Arrived, Session};
use rapidclaw::store::postgres::startup;
use std::path::Path;

/// Dotenv files: names that a process can have, values without NUL.
pub fn environment(text: &str) {
    match dotenv::parse(text) {
        Ok(values) => {
            for (name, value) in &values {
                assert!(!name.is_empty() && !name.contains(['=', '\0']), "{name:?}");
                assert!(!value.expose_secret().contains('\0'), "{name:?}");
            }
        }
        // A carriage return alone ends a line, too.
        Err((line, _)) => assert!(line >= 1 && line <= text.split(['\n', '\r']).count()),
    }
}

/// Frames of replicas: whatever a compromised one sends, it is a frame or an error.
pub fn frames(bytes: &[u8]) {
    let content = codec::read(bytes);
    let _ = format!("{content:?}");
    // The same as messages of a session: whatever their numbers and chunks, it is a frame or an offence.
    let session = Session::begin(&Hello { session: Some("s".into()), ..Hello::default() });
    for part in bytes.chunks(64) {
        let Ok(Arrived::Frame(frame)) = session.arrived(&part.to_vec().into()) else { continue };
        match codec::read(&frame) {
            Content::Link(Link::Chunk(chunk)) => drop(session.chunk(&chunk)),
            Content::Link(Link::Ack(ack)) => session.acknowledged(ack),
            _ => {}
        }
    }
    if let Ok(schema) = serde_json::from_slice(bytes) {
        let _ = ChatShape::of(&schema, None);
    }
}

/// The manifest: whatever the text, it is judged without a panic, and what is said of it points into it.
pub fn manifests(text: &str) {
    match manifest::parse(text, "langgraph.json", "folder") {
        Ok(loaded) => {
            assert!(!loaded.manifest.graphs.is_empty());
            assert!(manifest::is_name(&loaded.manifest.name), "{:?}", loaded.manifest.name);
            assert!(loaded.warnings.iter().all(|fault| !fault.is_error()));
            let _ = loaded.manifest.not_enforced();
            // A server reads what the CLI sends: the same manifest again.
            let again = Manifest::from_json(&loaded.manifest.raw, &loaded.manifest.name);
            let again = again.unwrap_or_else(|faults| panic!("{}", render(&faults)));
            assert_eq!(again.section, loaded.manifest.section);
            assert_eq!(again.graphs, loaded.manifest.graphs);
            assert_eq!(again.dependencies, loaded.manifest.dependencies);
        }
        Err(faults) => {
            assert!(faults.iter().any(manifest::Diagnostic::is_error));
            let lines = text.lines().count().max(1) + 1;
            for fault in &faults {
                assert!((1..=lines).contains(&fault.line) && fault.column >= 1 && fault.length >= 1, "{fault:?}");
            }
            let _ = render(&faults);
        }
    }
}

/// Names, hosts and numbers as people write them.
pub fn names(text: &str) {
    if let Some(name) = to_name(text) {
        assert!(is_name(&name), "{name:?}");
    }
    if let Ok(host) = text.parse::<AllowedHost>() {
        let again: AllowedHost = host.to_string().parse().expect("what is shown is read again");
        assert_eq!(again, host);
    }
    let _ = Host::parse(text);
    if let Ok(authority) = Authority::parse(text) {
        assert_eq!(Authority::parse(&authority.to_string()).ok().as_ref(), Some(&authority));
    }
    if let Some(duration) = units::parse_duration(text) {
        let _ = units::show_duration(duration);
    }
    let _ = units::parse_size(text);
}

/// First bytes of strangers: TLS client hellos, CONNECT requests, Postgres startup packets.
pub fn network(bytes: &[u8]) {
    // A name that is read does not change when more bytes come.
    let whole = client_hello::inspect(bytes);
    let half = client_hello::inspect(&bytes[..bytes.len() / 2]);
    let _ = (format!("{whole:?}"), format!("{half:?}"));
    if let Ok(Some(connect)) = head::parse(bytes) {
        assert!(connect.length <= bytes.len());
    }
    if let Ok(Some(length)) = startup::length(bytes) {
        assert!(length <= startup::MAX_BYTES);
        if let Some(packet) = bytes.get(..length) {
            let _ = startup::parse(packet);
        }
    }
    let _ = startup::parse(bytes);
}

/// What a command line sends to be built: a request, then contents. `input` has them one after the other, with a line
/// `---` between them and the name as the first line of each content; whatever they are, nothing lies outside of the
/// folder, all of it is named by its digest, and what is taken is whole. Whether it was taken.
pub fn builds(input: &[u8]) -> bool {
    const BETWEEN: &[u8] = b"\n---\n";
    let mut is_taken = false;
    let mut archive = Vec::new();
    let mut rest = Some(input);
    let mut name = REQUEST_FILE.as_bytes();
    while let Some(part) = rest {
        let end = part.windows(BETWEEN.len()).position(|found| found == BETWEEN);
        let content = &part[..end.unwrap_or(part.len())];
        add_file(&mut archive, name, content);
        let next = end.map(|end| &part[end + BETWEEN.len()..]);
        rest = next.map(|next| {
            let line = next.iter().position(|byte| *byte == b'\n').unwrap_or(next.len());
            name = &next[..line];
            next.get(line + 1..).unwrap_or_default()
        });
    }
    archive.extend([0; 1_024]);
    for sent in [archive.as_slice(), input] {
        let folder = tempfile::tempdir().expect("a folder");
        let place = folder.path().join("here");
        std::fs::create_dir(&place).expect("a folder");
        let mut packed = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::none());
        std::io::Write::write_all(&mut packed, sent).expect("memory takes it");
        let packed = packed.finish().expect("memory takes it");
        let bounds = Bounds { files: 8, bytes: 1 << 16 };
        let taken = sent::read(packed.as_slice(), &place, bounds, |_, _| Ok::<(), SentError>(()));
        assert_eq!(std::fs::read_dir(folder.path()).expect("it is there").count(), 1, "something lies outside");
        if taken.is_ok() {
            is_taken = true;
            for file in std::fs::read_dir(&place).expect("it is there") {
                let file = file.expect("it is there");
                let content = std::fs::read(file.path()).expect("it can be read");
                assert_eq!(format!("sha256:{}", file.file_name().to_string_lossy()), sha256_digest(&content));
            }
        }
    }
    is_taken
}

/// Adds a file to a tar, whatever its name.
fn add_file(archive: &mut Vec<u8>, name: &[u8], content: &[u8]) {
    let mut header = tar::Header::new_ustar();
    let length = name.len().min(100);
    header.as_mut_bytes()[..length].copy_from_slice(&name[..length]);
    header.set_size(content.len() as u64);
    header.set_cksum();
    archive.extend(header.as_bytes());
    archive.extend(content);
    archive.resize(archive.len().next_multiple_of(512), 0);
}

/// What of a project is read without running it: Python modules, requirements files, pyproject.toml, pip.conf.
pub fn projects(text: &str) {
    let bound = python::bindings(text);
    assert!(bound.names.iter().all(|name| !name.is_empty() && text.contains(name.as_str())));
    if let Some(line) = bound.broken {
        assert!(line >= 1 && line <= text.matches('\n').count() + 1);
    }
    for line in text.lines() {
        let _ = requirement_line::classify(line);
        assert!(line.contains(pyproject::requirement_name(line)));
        let _ = workspace::normalized_name(line);
        if let Some(python) = requires::lowest(line) {
            assert_eq!(requires::admits(line, python), Some(true), "{line:?}");
        }
    }
    let _ = steps::secret_arguments(text);
    let Ok(table) = toml::from_str::<toml::Table>(text) else { return };
    let _ = pyproject::search_path(Path::new("/none"), false, Some(&table));
    let _ = pyproject::dynamic_files(&table);
    let _ = requires::python_of(&table);
    assert!(pyproject::renamed(Path::new("/none"), &table).is_empty());
    let Some(project) = workspace::project(&table) else { return };
    let root = Root { name: "app".into(), path: "/none".into(), target: "/deps/app".into(), flat: false, copied: true };
    let _ = spec::of_project(&mut Requirements::default(), &root, &table, project);
    // What is written of a pyproject.toml is one.
    assert!(toml::from_str::<toml::Table>(&spec::for_lock(&table)).is_ok());
}
