//! What may be typed, and what may not.

use clap::{CommandFactory as _, Parser as _, error::ErrorKind};

use super::Cli;

fn parse(line: &str) -> Result<Cli, clap::Error> {
    Cli::try_parse_from(line.split_whitespace())
}

#[test]
fn the_command_line_is_well_formed() {
    Cli::command().debug_assert();
}

#[test]
fn what_the_help_shows_as_an_example_can_be_typed() {
    let mut examples = 0;
    each(&Cli::command(), &mut |command| {
        let help = command.get_after_help().map(ToString::to_string).unwrap_or_default();
        let lines = help.split("\\\n").map(str::trim).collect::<Vec<_>>().join(" ");
        for line in lines.lines().map(str::trim) {
            let Some(line) = line.strip_prefix("amends ") else { continue };
            let line = line.split("   ").next().unwrap();
            let words = words(&format!("amends {line}"));
            Cli::try_parse_from(&words).unwrap_or_else(|error| panic!("{line}\n{error}"));
            examples += 1;
        }
    });
    assert!(examples >= 25, "{examples}");
}

#[test]
fn every_command_that_a_person_types_has_an_example() {
    each(&Cli::command(), &mut |command| {
        let is_leaf = command.get_subcommands().next().is_none();
        assert!(!is_leaf || command.get_after_help().is_some(), "{} has no example", command.get_name());
    });
}

fn each(command: &clap::Command, see: &mut impl FnMut(&clap::Command)) {
    see(command);
    command.get_subcommands().for_each(|command| each(command, see));
}

/// As a shell splits it: words in quotes stay together.
fn words(line: &str) -> Vec<String> {
    let mut words = Vec::new();
    for (at, part) in line.split('\'').enumerate() {
        if at % 2 == 1 {
            words.push(part.to_owned());
        } else {
            words.extend(part.split_whitespace().map(str::to_owned));
        }
    }
    words
}

#[test]
fn wrong_words_are_usage_errors() {
    for (line, kind) in [
        ("amends", ErrorKind::DisplayHelpOnMissingArgumentOrSubcommand),
        ("amends order create", ErrorKind::MissingRequiredArgument),
        (
            "amends order create P1 --customer c --merchant m --currency XYZ --card t",
            ErrorKind::ValueValidation,
        ),
        (
            "amends order create P1:x --customer c --merchant m --currency EUR --card t",
            ErrorKind::ValueValidation,
        ),
        ("amends order list --status finished", ErrorKind::ValueValidation),
        ("amends saga retry saga_1", ErrorKind::MissingRequiredArgument),
        ("amends saga resolve s --step x --outcome maybe --reason r --evidence e", ErrorKind::InvalidValue),
        ("amends review decide ord_1 --reason r", ErrorKind::MissingRequiredArgument),
        ("amends review decide ord_1 --approve --decline --reason r", ErrorKind::ArgumentConflict),
        ("amends balance", ErrorKind::MissingRequiredArgument),
        ("amends balance a list", ErrorKind::ArgumentConflict),
        ("amends stock restock P1 many", ErrorKind::ValueValidation),
        ("amends price set P1 19.99 XYZ --title t", ErrorKind::ValueValidation),
    ] {
        let error = parse(line).expect_err(line);
        assert_eq!(error.kind(), kind, "{line}\n{error}");
        assert_eq!(error.exit_code(), 2, "{line}");
    }
}

#[test]
fn server_and_json_may_stand_before_and_after_the_verb() {
    for line in [
        "amends stock list --json --server http://h:1",
        "amends stock --server http://h:1 --json list",
        "amends balance list --json",
        "amends balance merchant:m_1:EUR --json",
    ] {
        parse(line).unwrap_or_else(|error| panic!("{line}\n{error}"));
    }
}
