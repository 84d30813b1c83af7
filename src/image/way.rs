//! The way out of a build's steps, where they may not reach all that the engine's machine reaches: they live in the
//! network of a container that has nothing but its loopback, and on that a relay to an egress proxy.
//!
//! The container ends with its standard input, which ends with the connection that holds it: a build that is dropped,
//! or a server that is killed, leaves none.

use crate::image::error::BuildError;
use bollard::Docker;
use bollard::container::AttachContainerResults;
use bollard::models::{ContainerCreateBody, HostConfig, Mount, MountType};
use bollard::query_parameters::{AttachContainerOptionsBuilder, CreateContainerOptions, StartContainerOptions};
use futures_util::StreamExt as _;
use std::collections::HashMap;
use std::path::Path;
use std::time::Duration;

/// The relay, for whichever Python the base image has.
const RELAY: &str = include_str!("relay.py");
/// Where the relay listens.
const PROXY: &str = "http://127.0.0.1:3128";
/// What it says when it does.
const READY: &str = "ready";
/// Where it finds the proxy's socket.
const FOLDER: &str = "/way";
/// The socket's name in its folder.
pub const SOCKET: &str = "s";
/// How long it may take to listen.
const PATIENCE: Duration = Duration::from_secs(60);
/// Bytes of memory, and processes.
const MEMORY: i64 = 256 << 20;
const PIDS: i64 = 64;
/// Nobody's, and no replica's.
const USER: &str = "10002:10002";
/// What it is: for those who look at the engine.
const LABEL: &str = "rapidclaw.build";

/// A way that is open, until it is dropped.
pub struct Way {
    container: String,
    /// Its standard input and output: it ends with them.
    _held: AttachContainerResults,
}

impl Way {
    /// Opens it to the proxy whose socket lies in `folder`, with a container of the base image.
    pub async fn open(docker: &Docker, base_image: &str, folder: &Path, agent: &str) -> Result<Self, BuildError> {
        let failed = |source| BuildError::engine("opening the way to the package indexes", source);
        let image = docker.inspect_image(base_image).await.map_err(failed)?;
        // The engine would follow these itself, on its own machine's network (ADD of an address).
        if image.config.as_ref().and_then(|config| config.on_build.as_ref()).is_some_and(|steps| !steps.is_empty()) {
            return Err(step(base_image, "it has ONBUILD instructions, which the server does not follow"));
        }
        let opening = async {
            let container = docker.create_container(None::<CreateContainerOptions>, body(base_image, folder, agent));
            let container = container.await.map_err(failed)?.id;
            // Attached before the start, so that nothing is missed; the engine removes the container at its end.
            let options =
                AttachContainerOptionsBuilder::new().stdin(true).stdout(true).stderr(true).stream(true).build();
            let mut held = docker.attach_container(&container, Some(options)).await.map_err(failed)?;
            docker.start_container(&container, None::<StartContainerOptions>).await.map_err(failed)?;
            let mut said = String::new();
            while let Some(part) = held.output.next().await {
                said += &part.map_err(failed)?.to_string();
                if said.lines().any(|line| line == READY) {
                    return Ok(Self { container, _held: held });
                }
            }
            Err(step(base_image, &said))
        };
        let opened = tokio::time::timeout(PATIENCE, opening).await;
        opened.unwrap_or_else(|_| Err(step(base_image, &format!("nothing within {} s", PATIENCE.as_secs()))))
    }

    /// The network of the steps, as the engine takes it.
    pub fn network(&self) -> String {
        format!("container:{}", self.container)
    }

    /// The arguments of the build by which its steps find the way.
    pub fn arguments() -> impl Iterator<Item = (String, String)> {
        let ways = ["HTTP_PROXY", "http_proxy", "HTTPS_PROXY", "https_proxy"].map(|name| (name, PROXY));
        let none = ["NO_PROXY", "no_proxy"].map(|name| (name, "127.0.0.1,localhost"));
        ways.into_iter().chain(none).map(|(name, value)| (name.to_owned(), value.to_owned()))
    }
}

fn step(base_image: &str, said: &str) -> BuildError {
    let step = format!("opening the way to the package indexes, with the Python of {base_image}");
    let last_lines = said.lines().map(str::to_owned).collect();
    BuildError::Step { step, message: "the relay does not answer".to_owned(), last_lines }
}

fn body(base_image: &str, folder: &Path, agent: &str) -> ContainerCreateBody {
    let host = HostConfig {
        network_mode: Some("none".to_owned()),
        auto_remove: Some(true),
        readonly_rootfs: Some(true),
        cap_drop: Some(vec!["ALL".to_owned()]),
        security_opt: Some(vec!["no-new-privileges:true".to_owned()]),
        memory: Some(MEMORY),
        memory_swap: Some(MEMORY),
        pids_limit: Some(PIDS),
        mounts: Some(vec![Mount {
            target: Some(FOLDER.to_owned()),
            source: Some(folder.display().to_string()),
            typ: Some(MountType::BIND),
            read_only: Some(true),
            ..Mount::default()
        }]),
        ..HostConfig::default()
    };
    ContainerCreateBody {
        image: Some(base_image.to_owned()),
        entrypoint: Some(["python3", "-I", "-S", "-c", RELAY].map(str::to_owned).to_vec()),
        cmd: Some(Vec::new()),
        user: Some(USER.to_owned()),
        attach_stdin: Some(true),
        attach_stdout: Some(true),
        open_stdin: Some(true),
        stdin_once: Some(true),
        labels: Some(HashMap::from([(LABEL.to_owned(), agent.to_owned())])),
        host_config: Some(host),
        ..ContainerCreateBody::default()
    }
}
