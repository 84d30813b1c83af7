//! `doctor`: what is missing on this machine, and how to mend it. It changes nothing.

use crate::base::secret::ExposeSecret as _;
use crate::base::{disk, env, paths};
use crate::cli::args::{DoctorArgs, Global};
use crate::cli::exit::{Exit, Failure, ROOTLESS};
use crate::cli::session;
use crate::cli::ui::{Format, Printer};
use crate::client::Client;
use crate::engine::place::Surroundings;
use crate::engine::{self, Engine};
use crate::image;
use crate::manifest::{self, DEFAULT_PYTHON};
use crate::runtime::RuntimeError;
use crate::runtime::docker::{Users, engine_info, users};
use crate::runtime::folders;
use crate::server::place;
use crate::server::settings::ServerFile;
use crate::store::postgres::{self, Options, Source};
use serde::Serialize;
use std::net::SocketAddr;
use std::path::Path;

/// Free bytes below which a build or a Postgres soon fails, and below which it may.
const LITTLE_BYTES: u64 = 1 << 30;
const TIGHT_BYTES: u64 = 5 << 30;
/// Where a server answers when it is not told (`server start`).
const CONTROL_PORT: u16 = 4120;
const AGENTS_PORT: u16 = 4121;

/// How a thing is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
enum Verdict {
    Ok,
    Warn,
    Fail,
}

/// One thing that was looked at.
#[derive(Debug, Serialize)]
struct Check {
    name: &'static str,
    verdict: Verdict,
    message: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    hint: Option<String>,
}

impl Check {
    fn ok(name: &'static str, message: impl Into<String>) -> Self {
        Self { name, verdict: Verdict::Ok, message: message.into(), hint: None }
    }

    fn warn(name: &'static str, message: impl Into<String>, hint: impl Into<String>) -> Self {
        Self { name, verdict: Verdict::Warn, message: message.into(), hint: Some(hint.into()) }
    }

    fn fail(name: &'static str, message: impl Into<String>, hint: impl Into<String>) -> Self {
        Self { name, verdict: Verdict::Fail, message: message.into(), hint: Some(hint.into()) }
    }
}

/// Exit 0 when nothing is missing, 1 when something is; a warning is no lack.
pub async fn run(args: &DoctorArgs, global: &Global, printer: &Printer) -> Result<Exit, Failure> {
    let data_dir = args.data_dir.clone().unwrap_or_else(paths::data_dir);
    let data_dir = std::path::absolute(&data_dir).unwrap_or(data_dir);
    let running = place::running(&data_dir);
    let client = session::client(global);
    // The login's own server: perhaps with another data folder, or another user's.
    let who = match &client {
        Ok(client) => client.whoami().await.map_err(Failure::from).ok(),
        Err(_) => None,
    };
    let here = client.as_ref().ok().filter(|client| client.is_here()).zip(who.as_ref());
    let ours = running.as_ref().map(|file| (file.url.clone(), file.agents_url.clone()));
    let ours = ours.or_else(|| here.map(|(client, who)| (client.server().to_owned(), who.server.agents_url.clone())));
    // Here is where projects are built and deployed from: a server's needs are another machine's.
    let is_elsewhere = running.is_none() && client.as_ref().is_ok_and(|client| !client.is_here());
    let (docker, mut engine) = docker(!is_elsewhere).await;
    // What a server builds needs none here.
    let builds_there = docker.is_none() && running.is_none() && who.as_ref().is_some_and(|who| who.server.builds);
    if builds_there {
        engine = Check::ok(engine.name, format!("{}; the server builds", engine.message));
    }
    let mut checks = vec![engine];
    if !builds_there {
        checks.push(base_image(docker.as_ref(), args).await);
    }
    checks.extend(kept_images(docker.as_ref()).await);
    match &client {
        Ok(client) if is_elsewhere => {
            let said =
                format!("that of this login is at {}; what one would need here was not looked at", client.server());
            checks.push(Check::ok("server", said));
        }
        _ => {
            checks.push(database(&data_dir).await);
            checks.push(data_folder(&data_dir));
            checks.push(run_folder());
            checks.push(disk_space(&data_dir));
            checks.push(port("control port", CONTROL_PORT, ours.as_ref().map(|(url, _)| url.as_str())));
            checks.push(port("agents port", AGENTS_PORT, ours.as_ref().map(|(_, url)| url.as_str())));
            checks.push(server(running.as_ref(), ours.as_ref().map(|(url, _)| url.as_str()), &data_dir));
        }
    }
    checks.extend(health(client.as_ref().ok()).await);
    checks.push(login(client).await);
    let failed = checks.iter().any(|check| check.verdict == Verdict::Fail);
    match printer.format() {
        Format::Json => printer.json(&serde_json::json!({ "ok": !failed, "checks": checks })),
        Format::Line | Format::Table => checks.iter().for_each(|check| show(check, printer)),
    }
    Ok(if failed { Exit::Failed } else { Exit::Done })
}

fn show(check: &Check, printer: &Printer) {
    let mark = match check.verdict {
        Verdict::Ok => "ok  ",
        Verdict::Warn => "warn",
        Verdict::Fail => "fail",
    };
    printer.line(format!("{mark}  {}: {}", check.name, check.message));
    if let Some(hint) = &check.hint {
        printer.line(format!("      {hint}"));
    }
}

/// What of rapidclaw's images is kept, and why.
async fn kept_images(docker: Option<&Engine>) -> Option<Check> {
    let kept = image::tidy::kept(docker?).await.ok().filter(|kept| !kept.is_empty())?;
    Some(Check::ok("kept images", kept.join("; ")))
}

/// The engine, which a server here has to run replicas on.
async fn docker(for_server: bool) -> (Option<Engine>, Check) {
    const NAME: &str = "Docker Engine";
    let docker = match engine::connect().await {
        Ok(docker) => docker,
        Err(error) => {
            let hint = error.hint();
            return (None, Check::fail(NAME, error.to_string(), hint));
        }
    };
    let asked = async { Ok::<_, RuntimeError>((engine_info(&docker).await?, users(&docker).await?)) };
    let check = match asked.await {
        Ok((info, users)) => {
            let place = Surroundings::here().place().ok();
            let named = place.as_ref().and_then(|place| place.named_by.as_deref());
            let named = named.map(|by| format!(" (the one of {by})")).unwrap_or_default();
            let kind = match users {
                Users::Machine => "",
                Users::Remapped => ", with users of its own (userns-remap), which replicas do not get",
                Users::Rootless => ", without root",
            };
            let message = format!("{} on {}, and this user may use it{named}{kind}", info.version, info.architecture);
            if users == Users::Rootless && for_server {
                Check::fail(NAME, message, ROOTLESS)
            } else {
                Check::ok(NAME, message)
            }
        }
        Err(error) => Check::fail(NAME, error.to_string(), "look at the engine's own log (`journalctl -u docker`)"),
    };
    (Some(docker), check)
}

/// The image that a build of the project here stands on.
async fn base_image(docker: Option<&Engine>, args: &DoctorArgs) -> Check {
    const NAME: &str = "base image";
    let loaded = manifest::load(&args.manifest.manifest).ok();
    let image = match (&args.base_image, &loaded) {
        (given, Some(loaded)) => image::base::name(&loaded.manifest, given.as_deref()),
        (Some(given), None) => given.clone(),
        (None, None) => format!("python:{DEFAULT_PYTHON}-slim"),
    };
    let Some(docker) = docker else {
        return Check::warn(NAME, format!("{image}: not looked for"), "mend Docker Engine first");
    };
    match engine::has_image(docker, &image).await {
        Ok(true) => Check::ok(NAME, format!("{image} is in the engine")),
        Ok(false) => Check::warn(
            NAME,
            format!("{image} is not in the engine: the first build fetches it"),
            format!("fetch it now: `docker pull {image}`, or name one that is there with {}", env::BASE_IMAGE),
        ),
        Err(error) => Check::fail(NAME, error.to_string(), error.hint()),
    }
}

async fn database(data_dir: &Path) -> Check {
    const NAME: &str = "Postgres";
    let looked = match env::var(env::DATABASE_URL).map(crate::base::secret::SecretString::from) {
        Some(url) => {
            postgres::connect(url.expose_secret()).await.map(|_| format!("that of {} answers", env::DATABASE_URL))
        }
        None => match postgres::examine(&Options::new(data_dir)).await {
            Ok(Source::Machine(major)) => Ok(format!("{major} is on this machine")),
            Ok(Source::Image(image, true)) => {
                Ok(format!("{image} is in the engine (this machine has no programs of it)"))
            }
            Ok(Source::Image(image, false)) => {
                let said = format!("none on this machine; {image} is not in the engine: the first start fetches it");
                let hint = format!("fetch it now: `docker pull {image}`, or `apt-get install postgresql`");
                return Check::warn(NAME, said, hint);
            }
            Err(error) => Err(error),
        },
    };
    match looked {
        Ok(message) => Check::ok(NAME, message),
        Err(error) => {
            let hint = error.hint().unwrap_or_else(|| format!("or give a database of yours: {}", env::DATABASE_URL));
            Check::fail(NAME, error.to_string(), hint)
        }
    }
}

/// There and ours to write to, or to be made. That Postgres' user may enter it is looked at with Postgres.
fn data_folder(data_dir: &Path) -> Check {
    use rustix::fs::{Access, access};
    const NAME: &str = "data folder";
    let shown = data_dir.display();
    let there = data_dir.ancestors().find(|folder| folder.exists()).unwrap_or(Path::new("/"));
    let hint = "name another with --data-dir or RAPIDCLAW_DATA_DIR";
    if !there.is_dir() {
        return Check::fail(NAME, format!("{} is no folder", there.display()), hint);
    }
    match access(there, Access::WRITE_OK | Access::EXEC_OK) {
        Ok(()) if there == data_dir => Check::ok(NAME, format!("{shown} can be written to")),
        Ok(()) => Check::ok(NAME, format!("{shown} can be made")),
        Err(error) => Check::fail(NAME, format!("{} cannot be written to: {error}", there.display()), hint),
    }
}

fn run_folder() -> Check {
    const NAME: &str = "run folder";
    let folder = folders::base_dir();
    let shown = folder.display();
    if paths::in_memory(&folder) {
        return Check::ok(NAME, format!("{shown} is in memory"));
    }
    Check::warn(
        NAME,
        format!("{shown} is on a disk: replicas' secrets would be written to it"),
        format!("set {} to a folder on a tmpfs", env::RUN_DIR),
    )
}

fn disk_space(data_dir: &Path) -> Check {
    const NAME: &str = "disk space";
    let Some(free) = disk::free_bytes(data_dir) else {
        return Check::warn(NAME, "could not be asked for", format!("see `df -h {}`", data_dir.display()));
    };
    let message = format!("{} free for {}", disk::size(free), data_dir.display());
    let hint = "make room: `docker image prune` and `docker builder prune` remove what no container needs";
    match free {
        ..LITTLE_BYTES => Check::fail(NAME, message, hint),
        LITTLE_BYTES..TIGHT_BYTES => Check::warn(NAME, message, hint),
        TIGHT_BYTES.. => Check::ok(NAME, message),
    }
}

/// A port is fine when nobody has it, or our server.
fn port(name: &'static str, port: u16, ours: Option<&str>) -> Check {
    let address = SocketAddr::from(([127, 0, 0, 1], port));
    if ours.is_some_and(|url| url.ends_with(&format!(":{port}"))) {
        return Check::ok(name, format!("{address} is our server's"));
    }
    match (std::net::TcpListener::bind(address), ours) {
        (Ok(_), None) => Check::ok(name, format!("{address} is free")),
        (_, Some(url)) => Check::ok(name, format!("our server answers at {url}")),
        (Err(error), None) => Check::fail(
            name,
            format!("{address} cannot be had: {error}"),
            format!(
                "another program has it: find it with `ss -ltnp 'sport = :{port}'`, or choose another port: `rapidclaw server start --help`"
            ),
        ),
    }
}

fn server(running: Option<&ServerFile>, ours: Option<&str>, data_dir: &Path) -> Check {
    const NAME: &str = "server";
    let here = env!("CARGO_PKG_VERSION");
    match running {
        None => match ours {
            Some(url) => {
                Check::ok(NAME, format!("the one of this login answers at {url}; none runs on {}", data_dir.display()))
            }
            None => Check::warn(NAME, "none runs on this machine", "start it: `rapidclaw server start`"),
        },
        Some(file) if file.version != here => Check::warn(
            NAME,
            format!("it is rapidclaw {}, and this is {here}", file.version),
            "start it again with this version: `rapidclaw server restart`",
        ),
        Some(file) => Check::ok(NAME, format!("rapidclaw {} answers at {} (pid {})", file.version, file.url, file.pid)),
    }
}

/// How the server says that it is, where one answers.
async fn health(client: Option<&Client>) -> Option<Check> {
    const NAME: &str = "server health";
    let health = client?.server_health().await.ok()?;
    let problems = health.problems();
    Some(if problems.is_empty() {
        Check::ok(NAME, "nothing is wrong with it")
    } else {
        Check::warn(NAME, problems.join("; "), "see `df -h` on the server's machine, and the server's log")
    })
}

async fn login(client: Result<Client, Failure>) -> Check {
    const NAME: &str = "login";
    let hint_of = |failure: &Failure| {
        failure.hints.first().cloned().unwrap_or_else(|| "log in again: `rapidclaw login`".to_owned())
    };
    let client = match client {
        Ok(client) => client,
        // Without a login one can still validate and build; a login that opens nothing is a fault.
        Err(none) if none.exit == Exit::NotAllowed => return Check::warn(NAME, none.error.to_string(), hint_of(&none)),
        Err(failure) => return Check::fail(NAME, failure.error.to_string(), hint_of(&failure)),
    };
    let (server, here) = (client.server(), env!("CARGO_PKG_VERSION"));
    match client.whoami().await.map_err(Failure::from) {
        Ok(who) if who.server.version != here => Check::warn(
            NAME,
            format!("{} on {server}, which is rapidclaw {}; this is {here}", who.name, who.server.version),
            format!("use rapidclaw {} with it", who.server.version),
        ),
        Ok(who) => Check::ok(NAME, format!("{} ({}) on {server}", who.name, who.role)),
        Err(failure) => Check::fail(NAME, failure.error.to_string(), hint_of(&failure)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_port_is_free_or_ours_or_a_strangers() {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let taken = listener.local_addr().unwrap().port();
        assert_eq!(port("p", taken, None).verdict, Verdict::Fail);
        assert_eq!(port("p", taken, Some(&format!("http://127.0.0.1:{taken}"))).verdict, Verdict::Ok);
        drop(listener);
        assert_eq!(port("p", taken, None).verdict, Verdict::Ok);
    }

    #[test]
    fn a_folder_is_there_or_can_be_made_or_cannot() {
        let folder = tempfile::tempdir().unwrap();
        assert_eq!(data_folder(folder.path()).verdict, Verdict::Ok);
        assert_eq!(data_folder(&folder.path().join("a/b")).verdict, Verdict::Ok);
        std::fs::write(folder.path().join("file"), "").unwrap();
        assert_eq!(data_folder(&folder.path().join("file/b")).verdict, Verdict::Fail);
    }

    #[test]
    fn a_server_of_another_version_is_named() {
        let file = ServerFile {
            pid: 1,
            url: String::new(),
            agents_url: String::new(),
            version: "0.0.0".into(),
            arguments: vec![],
        };
        let folder = Path::new("/d");
        assert_eq!(server(Some(&file), None, folder).verdict, Verdict::Warn);
        assert_eq!(server(None, None, folder).verdict, Verdict::Warn);
        let of_login = server(None, Some("http://127.0.0.1:4120"), folder);
        assert_eq!(of_login.message, "the one of this login answers at http://127.0.0.1:4120; none runs on /d");
    }
}
