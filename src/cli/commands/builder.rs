//! Who builds a deploy's image: this machine's Docker Engine, or the server.

use super::build::For;
use super::project::Checked;
use super::{build, there};
use crate::api::control::{EngineInfo, Whoami};
use crate::cli::args::{BuildOptions, BuildPlace, DeployArgs, Global};
use crate::cli::exit::{Exit, Failure};
use crate::cli::ui::Printer;
use crate::client::Client;
use crate::engine::{self, Engine};
use crate::image::Built;
use crate::runtime::docker::engine_info;

/// Who builds.
pub enum Builder {
    /// This machine's engine.
    Here {
        /// It.
        docker: Engine,
        /// Whether it is the server's as well: then no image is moved.
        is_servers: bool,
    },
    /// The server, with its own.
    Server,
}

/// What is built, and for whom it is shown.
#[derive(Clone, Copy)]
pub struct Work<'a> {
    /// Of the server.
    pub client: &'a Client,
    /// The project.
    pub checked: &'a Checked,
    /// How.
    pub options: &'a BuildOptions,
    /// For all commands.
    pub global: &'a Global,
    /// Shows it.
    pub printer: &'a Printer,
}

impl Builder {
    /// The one that is asked for; else this machine's engine, where it answers and is for the server's processor.
    pub async fn choose(args: &DeployArgs, who: &Whoami, printer: &Printer) -> Result<Self, Failure> {
        match args.place {
            Some(BuildPlace::Server) if args.registry.is_some() => Err(Failure::said(
                Exit::Usage,
                "--registry takes an image that is built here, and --build server builds there",
            )
            .hint("leave one of the two out")),
            Some(BuildPlace::Server) if !who.server.builds => Err(there::cannot()),
            Some(BuildPlace::Server) => Ok(Self::Server),
            // What goes into another registry has to be here.
            None if args.registry.is_none() && who.server.builds => Self::whichever(who, printer).await,
            None | Some(BuildPlace::Local) => match engine::connect().await {
                Ok(docker) => Self::here(docker, who).await,
                Err(error) if who.server.builds && args.registry.is_none() => {
                    Err(Failure::from(error).hint("or have the server build: --build server"))
                }
                Err(error) => Err(error.into()),
            },
        }
    }

    async fn whichever(who: &Whoami, printer: &Printer) -> Result<Self, Failure> {
        let docker = match engine::connect().await {
            Ok(docker) => docker,
            Err(error) => {
                printer.note(format!("{error}: the server builds"));
                return Ok(Self::Server);
            }
        };
        let here = info(&docker).await?;
        match &who.server.engine {
            Some(there) if !there.architecture.is_empty() && there.architecture != here.architecture => {
                printer.note(format!(
                    "this machine's Docker Engine is for linux/{}, the server's for linux/{}: the server builds",
                    here.architecture, there.architecture
                ));
                Ok(Self::Server)
            }
            _ => Self::here(docker, who).await,
        }
    }

    async fn here(docker: Engine, who: &Whoami) -> Result<Self, Failure> {
        let here = info(&docker).await?;
        match &who.server.engine {
            Some(there) => Ok(Self::Here { docker, is_servers: !here.id.is_empty() && there.id == here.id }),
            None => Err(Failure::said(Exit::Unreachable, "the server's Docker Engine does not answer")
                .hint("look at the server's log")),
        }
    }

    /// This machine's engine, where it builds.
    pub fn docker(&self) -> Option<&Engine> {
        match self {
            Self::Here { docker, .. } => Some(docker),
            Self::Server => None,
        }
    }

    /// Whether the image is made where it runs.
    pub fn is_servers(&self) -> bool {
        matches!(self, Self::Server | Self::Here { is_servers: true, .. })
    }

    /// The image; none is made where the one that is deployed comes from the same.
    pub async fn build(&self, work: Work<'_>, whose: For) -> Result<Built, Failure> {
        let Work { client, checked, options, global, printer } = work;
        match self {
            Self::Here { docker, .. } => build::build(docker, checked, options, whose, global, printer).await,
            Self::Server => there::build(client, checked, options, global, printer).await,
        }
    }

    /// The digest that its image would have among its labels; empty where that cannot be told before it is built.
    pub async fn inputs_digest(&self, work: Work<'_>) -> Result<String, Failure> {
        let Work { client, checked, options, printer, .. } = work;
        match self {
            Self::Here { docker, .. } => build::inputs_digest(docker, checked, options, printer).await,
            Self::Server => {
                let sending = there::prepare(checked, options).await?;
                let found = sending.check(client, &checked.loaded.manifest.name).await?;
                Ok(found.inputs_digest.unwrap_or_default())
            }
        }
    }
}

async fn info(docker: &Engine) -> Result<EngineInfo, Failure> {
    engine_info(docker).await.map_err(|error| Failure::new(Exit::Unreachable, error))
}
