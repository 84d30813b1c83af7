use super::*;
use clap::CommandFactory as _;

fn parse(line: &str) -> Result<Command, clap::Error> {
    Cli::try_parse_from(line.split(' ')).map(|cli| cli.command)
}

#[test]
fn all_commands_are_well_formed() {
    Cli::command().debug_assert();
}

#[test]
fn lists_want_an_agent_and_single_ones_are_subcommands() {
    assert!(matches!(parse("rapidclaw runs a --status error"), Ok(Command::Runs(args)) if args.command.is_none()));
    let shown = parse("rapidclaw runs show 0190a1b2-0000-7000-8000-000000000001");
    assert!(matches!(shown, Ok(Command::Runs(RunsArgs { command: Some(RunsCommand::Show { .. }), agent: None, .. }))));
    assert!(parse("rapidclaw runs").is_err() && parse("rapidclaw runs a --status broken").is_err());
    let shown = parse("rapidclaw threads show a customer-7");
    assert!(
        matches!(shown, Ok(Command::Threads(ThreadsArgs { command: Some(ThreadsCommand::Show { thread, .. }), .. })) if thread == "customer-7")
    );
    assert!(parse("rapidclaw threads").is_err());
}

#[test]
fn replicas_are_a_number_or_the_manifests() {
    let replicas = |text: &str| match parse(&format!("rapidclaw scale a {text}")) {
        Ok(Command::Scale(args)) => Some(args.replicas),
        _ => None,
    };
    assert_eq!(
        (replicas("0"), replicas("7"), replicas("auto")),
        (Some(Replicas::Count(0)), Some(Replicas::Count(7)), Some(Replicas::Auto))
    );
    assert_eq!((replicas("-1"), replicas("many")), (None, None));
}

#[test]
fn a_value_that_was_typed_is_taken_and_repeated_by_nobody() {
    for line in ["rapidclaw secrets set a KEY sk-hidden", "rapidclaw secrets set a KEY --sk-hidden"] {
        let parsed = parse(line);
        assert!(
            matches!(&parsed, Ok(Command::Secrets(SecretsArgs { command: SecretsCommand::Set { value, .. } })) if value.len() == 1),
            "{parsed:?}"
        );
    }
    let error = parse("rapidclaw secrets list a sk-hidden").unwrap_err();
    assert_eq!(error.kind(), clap::error::ErrorKind::UnknownArgument);
}
