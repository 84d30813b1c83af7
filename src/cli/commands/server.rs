//! `server run|start|stop|status`.

use super::backup;
use crate::base::secret::SecretString;
use crate::base::{env, paths, telemetry};
use crate::cli::args::{DataDirArg, ReachOptions, RestartArgs, ServerCommand, ServerOptions};
use crate::cli::exit::{Exit, Failure};
use crate::cli::ui::{Format, Printer};
use crate::client::Client;
use crate::server::place;
use crate::server::settings::{self, ServerFile};
use crate::server::{ServerSettings, TlsFiles, run as run_server};
use crate::store::postgres;
use serde_json::json;
use std::fs::File;
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

/// How long a start may take: the first makes a Postgres.
const START: Duration = Duration::from_secs(120);
/// How long a stop may take.
const STOP: Duration = Duration::from_secs(90);
/// How long the server that is asked how it is may take.
const ASK: Duration = Duration::from_secs(5);
const LOOK_EVERY: Duration = Duration::from_millis(50);
/// The log of a server in the background is begun anew when it is larger, the old one kept once.
const LOG_BYTES: u64 = 32 << 20;

/// Does what is asked.
pub async fn run(command: ServerCommand, printer: &Printer) -> Result<Exit, Failure> {
    match command {
        ServerCommand::Run(options) => foreground(*options, printer).await,
        ServerCommand::Start(options) => background(&options, printer).await,
        ServerCommand::Restart(args) => restart(&folder(&args.data_dir), &changes(&args), printer).await,
        ServerCommand::Stop(place) => stop(&folder(&place), printer).await,
        ServerCommand::Status(place) => Ok(status(&folder(&place), printer).await),
        ServerCommand::Backup(args) => backup::back_up(&folder(&args.data_dir), &args.file, printer).await,
        ServerCommand::Restore(args) => backup::restore(&args, &folder(&args.data_dir), printer).await,
    }
}

fn folder(place: &DataDirArg) -> PathBuf {
    let given = place.data_dir.clone().filter(|given| !given.as_os_str().is_empty()).unwrap_or_else(paths::data_dir);
    std::path::absolute(&given).unwrap_or(given)
}

async fn foreground(options: ServerOptions, printer: &Printer) -> Result<Exit, Failure> {
    if options.detached {
        // A terminal that closes takes its session's processes along: this one has its own.
        let _ = rustix::process::setsid();
    }
    telemetry::init(env::var(env::LOG).as_deref(), options.log_json);
    let arguments = arguments(&options);
    let settings = ServerSettings {
        data_dir: folder(&options.data_dir),
        listen: options.listen,
        agents_listen: options.agents_listen,
        tls: tls(&options.reach),
        public_url: options.reach.public_url,
        agents_public_url: options.reach.agents_public_url,
        insecure: options.reach.insecure,
        database_url: options.database_url,
        postgres_image: options.postgres_image,
        providers: options.providers,
        resolve: options.resolve,
        keep_images: options.keep_images,
        build_jobs: options.build_jobs,
        takeover: options.takeover,
        arguments,
    };
    run_server(settings, |file| {
        printer.line(format!("control API {}  agents {}", file.url, file.agents_url));
    })
    .await?;
    Ok(Exit::Done)
}

async fn background(options: &ServerOptions, printer: &Printer) -> Result<Exit, Failure> {
    let data_dir = folder(&options.data_dir);
    if let Some(running) = place::running(&data_dir) {
        match printer.format() {
            Format::Json => printer.json(&running),
            Format::Line | Format::Table => {
                printer.line(format!("already runs: {} (pid {})", running.url, running.pid));
            }
        }
        let ignored = ignored(&arguments(options), &running.arguments, is_typed);
        if !ignored.is_empty() {
            printer.warn(format!(
                "{} changes nothing of a server that runs: `rapidclaw server restart` takes it",
                ignored.join(" ")
            ));
        }
        return Ok(Exit::Done);
    }
    let began = Instant::now();
    if options.database_url.is_none() {
        let progress = printer.progress();
        progress.passing("looking for Postgres");
        let managed = postgres::Options { image: options.postgres_image.clone(), ..postgres::Options::new(&data_dir) };
        // What is wrong with it the server says itself.
        let _ = postgres::fetch(&managed).await;
    }
    let arguments = arguments(options);
    let running = start(&data_dir, &arguments, printer).await?;
    match printer.format() {
        Format::Json => printer.json(&running),
        Format::Line | Format::Table => printer.line(format!(
            "server started in {:.1}s: control API {}, agents {} (pid {})",
            began.elapsed().as_secs_f64(),
            running.url,
            running.agents_url,
            running.pid
        )),
    }
    Ok(Exit::Done)
}

/// What a server is started again with. No secret is among them.
fn arguments(options: &ServerOptions) -> Vec<String> {
    let mut arguments =
        vec![format!("--listen={}", options.listen), format!("--agents-listen={}", options.agents_listen)];
    arguments.extend(reach_arguments(&options.reach));
    arguments.push(format!("--keep-images={}", options.keep_images));
    arguments.extend(options.build_jobs.map(|jobs| format!("--build-jobs={jobs}")));
    arguments.extend(options.log_json.then(|| "--log-json".to_owned()));
    arguments.extend(options.postgres_image.as_ref().map(|image| format!("--postgres-image={image}")));
    // As they were typed: what they mean is for the server to say again.
    arguments.extend(typed("--provider"));
    arguments.extend(typed("--resolve"));
    arguments
}

fn reach_arguments(reach: &ReachOptions) -> Vec<String> {
    let urls = [("--public-url", &reach.public_url), ("--agents-public-url", &reach.agents_public_url)];
    let urls = urls.into_iter().filter_map(|(name, url)| Some(format!("{name}={}", url.as_ref()?.as_str())));
    let files = tls(reach).into_iter().flat_map(|TlsFiles { cert, key }| {
        [format!("--tls-cert={}", cert.display()), format!("--tls-key={}", key.display())]
    });
    urls.chain(files).chain(reach.insecure.then(|| "--insecure".to_owned())).collect()
}

/// What `server restart` was given, as arguments of a server.
fn changes(args: &RestartArgs) -> Vec<String> {
    let mut given = Vec::new();
    let addresses = [("--listen", args.listen), ("--agents-listen", args.agents_listen)];
    given.extend(addresses.iter().filter_map(|(name, address)| Some(format!("{name}={}", (*address)?))));
    given.extend(reach_arguments(&args.reach));
    given.extend(args.keep_images.map(|number| format!("--keep-images={number}")));
    given.extend(args.build_jobs.map(|jobs| format!("--build-jobs={jobs}")));
    given.extend(args.log_json.then(|| "--log-json".to_owned()));
    // As they were typed: what they mean is for the server to say again.
    given.extend(typed("--provider"));
    given.extend(typed("--resolve"));
    given
}

fn option_of(argument: &str) -> &str {
    argument.split_once('=').map_or(argument, |(name, _)| name)
}

/// The arguments of before, but for those that are given anew.
fn changed(before: &[String], given: &[String]) -> Vec<String> {
    let stays = |argument: &&String| given.iter().all(|new| option_of(new) != option_of(argument));
    before.iter().filter(stays).chain(given).cloned().collect()
}

/// Those of the arguments of a start that were typed and that the server which runs does not have.
fn ignored(asked: &[String], running: &[String], typed: impl Fn(&str) -> bool) -> Vec<String> {
    let is_ignored = |argument: &&String| typed(option_of(argument)) && !running.contains(argument);
    asked.iter().filter(is_ignored).cloned().collect()
}

/// Whether an option is on this command line.
fn is_typed(option: &str) -> bool {
    std::env::args().any(|argument| option_of(&argument) == option)
}

/// The files by names that hold wherever the server is started again.
fn tls(reach: &ReachOptions) -> Option<TlsFiles> {
    let whole = |path: &PathBuf| std::path::absolute(path).unwrap_or_else(|_| path.clone());
    Some(TlsFiles { cert: whole(reach.tls_cert.as_ref()?), key: whole(reach.tls_key.as_ref()?) })
}

/// Starts the next server, which takes over; the old one ends when what it took has ended.
async fn restart(data_dir: &Path, given: &[String], printer: &Printer) -> Result<Exit, Failure> {
    let Some(running) = place::running(data_dir) else {
        return Err(
            Failure::said(Exit::Failed, "no server runs on this machine").hint("start it: `rapidclaw server start`")
        );
    };
    let began = Instant::now();
    let mut arguments = changed(&running.arguments, given);
    arguments.push("--takeover".to_owned());
    let next = start(data_dir, &arguments, printer).await?;
    match printer.format() {
        Format::Json => printer.json(&next),
        Format::Line | Format::Table => printer.line(format!(
            "server restarted in {:.1}s: rapidclaw {} (pid {}) in place of {} (pid {})",
            began.elapsed().as_secs_f64(),
            next.version,
            next.pid,
            running.version,
            running.pid
        )),
    }
    if next.url != running.url {
        printer.note(format!(
            "the control API is called {} now, and no longer {}: `rapidclaw login` again where that was used",
            next.url, running.url
        ));
    }
    if next.agents_url != running.agents_url {
        printer.note(format!("agents are called below {} now, and no longer {}", next.agents_url, running.agents_url));
    }
    Ok(Exit::Done)
}

/// Every value that an option was given on this command line.
fn typed(option: &str) -> Vec<String> {
    let mut values = Vec::new();
    let mut arguments = std::env::args();
    while let Some(argument) = arguments.next() {
        if argument == option {
            values.extend(arguments.next().map(|value| format!("{option}={value}")));
        } else if argument.starts_with(&format!("{option}=")) {
            values.push(argument);
        }
    }
    values
}

/// Starts a server with all defaults (`login` does).
pub async fn start_plain(data_dir: &Path, printer: &Printer) -> Result<ServerFile, Failure> {
    start(data_dir, &[], printer).await
}

async fn start(data_dir: &Path, arguments: &[String], printer: &Printer) -> Result<ServerFile, Failure> {
    let failed = |error: std::io::Error| {
        Failure::new(Exit::Failed, error)
            .hint(format!("is {} a folder that you may write to? name another with --data-dir", data_dir.display()))
    };
    paths::ensure_own_dir(data_dir, 0o711).map_err(failed)?;
    let log_path = data_dir.join("server.log");
    if std::fs::metadata(&log_path).is_ok_and(|meta| meta.len() > LOG_BYTES) {
        let _ = std::fs::rename(&log_path, data_dir.join("server.log.1"));
    }
    let log = File::options().create(true).append(true).open(&log_path).map_err(failed)?;
    let begin = log.metadata().map(|meta| meta.len()).unwrap_or_default();
    let program = std::env::current_exe().map_err(failed)?;
    let mut child = Command::new(program)
        .args(["server", "run", "--detached", "--data-dir"])
        .arg(data_dir)
        .args(arguments)
        // What it says is its log's, not this command's.
        .env_remove(env::OUTPUT_FILE)
        .env_remove(env::GITHUB_ACTIONS)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(log)
        .process_group(0)
        .spawn()
        .map_err(failed)?;
    let progress = printer.progress();
    progress.passing("starting the server");
    let deadline = Instant::now() + START;
    loop {
        if let Some(running) = place::running(data_dir).filter(|running| running.pid == child.id()) {
            return Ok(running);
        }
        if let Ok(Some(status)) = child.try_wait() {
            return Err(said_by_child(&log_path, begin, status.code()));
        }
        if Instant::now() > deadline {
            let _ = child.kill();
            let _ = child.wait();
            return Err(Failure::said(Exit::Failed, format!("the server did not answer within {} s", START.as_secs()))
                .hint(format!("its log: {}", log_path.display())));
        }
        tokio::time::sleep(LOOK_EVERY).await;
    }
}

/// The child has said what is wrong, in the same form as we would: it is handed on, with its exit code.
fn said_by_child(log: &Path, begin: u64, code: Option<i32>) -> Failure {
    let text = std::fs::read(log).unwrap_or_default();
    let text = String::from_utf8_lossy(&text[usize::try_from(begin).unwrap_or(0).min(text.len())..]).into_owned();
    let exit = match code {
        Some(2) => Exit::Usage,
        Some(3) => Exit::Invalid,
        Some(4) => Exit::NotAllowed,
        Some(5) => Exit::Unreachable,
        _ => Exit::Failed,
    };
    let mut lines = text.lines().map(str::trim_end).skip_while(|line| !line.starts_with("error: "));
    let message = lines.next().and_then(|line| line.strip_prefix("error: ")).unwrap_or("the server ended at once");
    let mut failure = Failure::said(exit, message.to_owned());
    for line in lines {
        if let Some(cause) = line.strip_prefix("caused by: ") {
            failure.error = anyhow::Error::msg(cause.to_owned()).context(failure.error.to_string());
        } else if let Some(hint) = line.strip_prefix("hint: ") {
            failure.hints.push(hint.to_owned());
        }
    }
    failure.hint(format!("its log: {}", log.display()))
}

async fn stop(data_dir: &Path, printer: &Printer) -> Result<Exit, Failure> {
    let running = place::running(data_dir);
    // One that has been replaced still answers what it took: it goes first, while all that it needs is there.
    let leaving = place::leaving(data_dir);
    let holder = place::holder(data_dir).or_else(|| running.as_ref().map(|running| running.pid));
    if holder.is_none() && leaving.is_empty() {
        if place::is_locked(data_dir) {
            return Err(Failure::said(
                Exit::Failed,
                "a server has the data folder, and does not say which process it is",
            )
            .hint("it may be starting or stopping: try again, or look at `ps -C rapidclaw`"));
        }
        match printer.format() {
            Format::Json => printer.json(&json!({ "stopped": false })),
            Format::Line | Format::Table => printer.line("no server runs on this machine"),
        }
        return Ok(Exit::Done);
    }
    let progress = printer.progress();
    progress.passing("stopping the server");
    let deadline = Instant::now() + STOP;
    let still_stops = |pid: u32| {
        Failure::said(Exit::TimedOut, format!("the server (pid {pid}) still stops"))
            .hint(format!("its log: {}", data_dir.join("server.log").display()))
    };
    for &pid in &leaving {
        terminate(pid)?;
        while place::leaving(data_dir).contains(&pid) {
            if Instant::now() > deadline {
                return Err(still_stops(pid));
            }
            tokio::time::sleep(LOOK_EVERY).await;
        }
    }
    if let Some(pid) = holder {
        terminate(pid)?;
        while place::is_locked(data_dir) {
            if Instant::now() > deadline {
                return Err(still_stops(pid));
            }
            tokio::time::sleep(LOOK_EVERY).await;
        }
    }
    drop(progress);
    let pid = holder.or_else(|| leaving.first().copied());
    match printer.format() {
        Format::Json => printer.json(&json!({ "stopped": true, "pid": pid })),
        Format::Line | Format::Table => printer.line("server stopped; all data stay"),
    }
    Ok(Exit::Done)
}

/// Asks a server's process to stop.
fn terminate(pid: u32) -> Result<(), Failure> {
    let asked = i32::try_from(pid).ok().and_then(rustix::process::Pid::from_raw);
    match asked.map(|pid| rustix::process::kill_process(pid, rustix::process::Signal::TERM)) {
        // It has just gone.
        Some(Ok(()) | Err(rustix::io::Errno::SRCH)) => Ok(()),
        Some(Err(rustix::io::Errno::PERM)) => {
            Err(Failure::said(Exit::NotAllowed, format!("the server (pid {pid}) is another user's"))
                .hint("stop it as the user who runs it"))
        }
        _ => Err(Failure::said(Exit::Failed, format!("the server (pid {pid}) cannot be asked to stop"))),
    }
}

async fn status(data_dir: &Path, printer: &Printer) -> Exit {
    let running = place::running(data_dir);
    let problems = match &running {
        Some(running) => problems(data_dir, running).await,
        None => Vec::new(),
    };
    match (&running, printer.format()) {
        (running, Format::Json) => {
            printer.json(&json!({ "running": running.is_some(), "server": running, "problems": problems }));
        }
        (Some(one), _) => printer.line(format!(
            "server runs: control API {}, agents {} (pid {}, rapidclaw {})",
            one.url, one.agents_url, one.pid, one.version
        )),
        (None, _) => printer.line("no server runs on this machine"),
    }
    for problem in &problems {
        printer.note(problem);
    }
    if running.is_some() { Exit::Done } else { Exit::Failed }
}

/// What the server says is wrong with it, to whoever may read the administrator's token.
async fn problems(data_dir: &Path, running: &ServerFile) -> Vec<String> {
    let token = std::fs::read_to_string(settings::admin_token_file(data_dir)).unwrap_or_default();
    let token = SecretString::from(token.trim().to_owned());
    let Ok(client) = Client::new(&running.url, token, None) else { return Vec::new() };
    let asked = tokio::time::timeout(ASK, client.server_health()).await;
    asked.ok().and_then(Result::ok).map(|health| health.problems()).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::{Args as _, FromArgMatches as _};
    use std::collections::BTreeSet;

    #[test]
    fn a_server_is_started_again_with_every_option_that_it_has() {
        // Given each option with a value,
        let command = ServerOptions::augment_args(clap::Command::new("server"));
        // but for what start and restart add, and what is repeated as it was typed.
        let apart = ["data-dir", "detached", "takeover", "provider", "resolve"];
        let mut wanted = BTreeSet::new();
        let mut line = vec!["server".to_owned()];
        for option in command.get_arguments() {
            let name = option.get_long().unwrap();
            if apart.contains(&name) {
                continue;
            }
            wanted.insert(format!("--{name}"));
            let value = match name {
                "listen" | "agents-listen" => "127.0.0.1:1",
                "public-url" | "agents-public-url" => "https://a.example",
                _ => "7",
            };
            line.push(format!("--{name}"));
            line.extend(option.get_action().takes_values().then(|| value.to_owned()));
        }
        // What a restart takes is a server's.
        let known: Vec<_> = command.get_arguments().filter_map(|option| option.get_long()).collect();
        let restart = RestartArgs::augment_args(clap::Command::new("restart"));
        assert!(restart.get_arguments().all(|option| known.contains(&option.get_long().unwrap())));
        let options = ServerOptions::from_arg_matches(&command.clone().get_matches_from(line)).unwrap();
        // then none is forgotten.
        let given = arguments(&options);
        let given = given.iter().map(|one| one.split('=').next().unwrap_or_default().to_owned());
        assert_eq!(given.collect::<BTreeSet<_>>(), wanted);
    }

    #[test]
    fn what_is_given_anew_takes_the_place_of_what_was() {
        let all = |words: &[&str]| -> Vec<String> { words.iter().map(|word| (*word).to_owned()).collect() };
        let before =
            all(&["--listen=127.0.0.1:1", "--provider=openai=http://a", "--provider=anthropic=http://b", "--insecure"]);
        let given = all(&["--provider=openai=http://c", "--public-url=https://h"]);
        let wanted =
            all(&["--listen=127.0.0.1:1", "--insecure", "--provider=openai=http://c", "--public-url=https://h"]);
        assert_eq!(changed(&before, &given), wanted);
        assert_eq!(changed(&before, &[]), before);
        // A start beside a server that runs: what was typed and is otherwise there is told.
        let asked = all(&["--listen=127.0.0.1:1", "--agents-listen=127.0.0.1:9", "--keep-images=10"]);
        let typed = |name: &str| name != "--keep-images";
        assert_eq!(ignored(&asked, &before, typed), ["--agents-listen=127.0.0.1:9"]);
    }
}
