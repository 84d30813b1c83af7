//! `tokens create|list|revoke`.

use crate::api::access::Scope;
use crate::api::tokens::{ADMIN, TokenRequest, TokenState, TokenView};
use crate::cli::args::{Global, TokensCommand};
use crate::cli::exit::{Exit, Failure};
use crate::cli::session;
use crate::cli::ui::ask::ask;
use crate::cli::ui::{Format, Printer, table, words};
use crate::client::Client;
use serde_json::json;

/// A token's value is shown once, when it is created.
pub async fn run(command: TokensCommand, global: &Global, printer: &Printer) -> Result<Exit, Failure> {
    let client = session::client(global)?;
    match command {
        TokensCommand::Create { name, role, agents, expires } => {
            let scope = (!agents.is_empty()).then_some(Scope { agents });
            let expires_in = expires.map(|expires| expires.as_secs());
            create(&client, &TokenRequest { name, role, scope, expires_in }, printer).await?;
            Ok(Exit::Done)
        }
        TokensCommand::List => {
            list(&client.tokens().await?, printer);
            Ok(Exit::Done)
        }
        TokensCommand::Revoke { token } => revoke(&client, &token, global, printer).await,
    }
}

async fn create(client: &Client, request: &TokenRequest, printer: &Printer) -> Result<(), Failure> {
    let made = client.create_token(request).await?;
    printer.mask(&made.token);
    match printer.format() {
        Format::Json => printer.json(&made),
        Format::Line | Format::Table => printer.line(&made.token),
    }
    let until = made.expires_at.as_ref().map_or_else(String::new, |at| format!(", until {at}"));
    printer.note(format!(
        "token {} ({}, {}){until}; it is shown this once",
        made.name,
        made.role,
        reach(made.scope.as_ref())
    ));
    Ok(())
}

/// What a token is limited to.
fn reach(scope: Option<&Scope>) -> String {
    scope.map_or_else(|| "all agents".to_owned(), |scope| scope.agents.join(","))
}

fn list(tokens: &[TokenView], printer: &Printer) {
    let row = |token: &TokenView| {
        let or_none = |text: &Option<String>| text.clone().unwrap_or_else(|| "-".to_owned());
        let scope = token.scope.as_ref().map_or_else(|| "-".to_owned(), |scope| scope.agents.join(","));
        let (expires, used) = (or_none(&token.expires_at), or_none(&token.last_used_at));
        let state = token.state.as_str().to_owned();
        [token.name.clone(), token.role.clone(), scope, token.created_at.clone(), expires, used, state]
    };
    match printer.format() {
        Format::Json => printer.json_list("tokens", &tokens),
        Format::Line => tokens.iter().for_each(|token| printer.line(words(row(token)))),
        Format::Table => printer
            .line(table(["NAME", "ROLE", "SCOPE", "CREATED", "EXPIRES", "LAST USED", "STATE"], tokens.iter().map(row))),
    }
}

async fn revoke(client: &Client, given: &str, global: &Global, printer: &Printer) -> Result<Exit, Failure> {
    let tokens = client.tokens().await?;
    let found = tokens.into_iter().filter(|token| token.state != TokenState::Revoked);
    // Of one name at most one works; those that have expired bear it as well.
    let found: Vec<TokenView> = found.filter(|token| token.name == given || token.id.to_string() == given).collect();
    if found.is_empty() {
        return Err(Failure::said(Exit::Failed, format!("there is no token {given:?} that works"))
            .code("no-such-token")
            .hint("`rapidclaw tokens list` lists them"));
    }
    let own = client.whoami().await?.name;
    // The administrator's is never revoked: the server says why.
    if own != ADMIN && found.iter().any(|token| token.name == own && token.state == TokenState::Active) && !global.yes {
        let what = format!("{own} is the token that you are logged in with");
        if !printer.is_interactive() {
            return Err(
                Failure::said(Exit::Usage, what).hint(format!("revoke it: `rapidclaw tokens revoke {given} --yes`"))
            );
        }
        let question = format!("{what}; revoke it?");
        if !ask(move || dialoguer::Confirm::new().with_prompt(question).default(false).interact()).await? {
            return Err(Failure::said(Exit::Failed, "nothing was revoked"));
        }
    }
    for token in &found {
        client.revoke_token(token.id).await?;
    }
    let Some(token) = found.last() else { return Ok(Exit::Done) };
    match printer.format() {
        Format::Json => printer.json(&json!({ "name": token.name, "id": token.id, "revoked": true })),
        Format::Line | Format::Table => printer.line(format!("revoked token {}", token.name)),
    }
    Ok(Exit::Done)
}
