//! Parses the command line and dispatches, nothing else.
#![forbid(unsafe_code)]
#![warn(clippy::pedantic)]

use clap::{CommandFactory, FromArgMatches, Parser, Subcommand};
use std::io::IsTerminal;
use std::process::ExitCode;
use tickcast::cli;
use tracing_subscriber::filter::{LevelFilter, Targets};
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::SubscriberInitExt;

/// Live market-data push: simulate, replay or publish a market, and watch it move.
///
/// Without a subcommand: `tickcast serve`.
#[derive(Parser)]
#[command(version, args_conflicts_with_subcommands = true, max_term_width = 100)]
struct Cli {
    #[command(subcommand)]
    command: Option<Command>,
    #[command(flatten)]
    serve: cli::serve::Args,
}

#[derive(Subcommand)]
enum Command {
    Serve(cli::serve::Args),
    Watch(cli::watch::Args),
    Publish(cli::publish::Args),
    Record(cli::record::Args),
    Inspect(cli::inspect::Args),
    Convert(cli::convert::Args),
    Bench(cli::bench::Args),
    Scenario(cli::scenario::Args),
    Completions(cli::shell::CompletionsArgs),
    Man(cli::shell::ManArgs),
    /// The other side of `bench`'s floor
    #[command(hide = true)]
    Floor,
}

fn main() -> ExitCode {
    let matches = Cli::command().get_matches();
    let args = Cli::from_arg_matches(&matches).unwrap_or_else(|error| error.exit());
    let filter = std::env::var("TICKCAST_LOG").ok().and_then(|filter| filter.parse().ok());
    let log = tracing_subscriber::fmt::layer()
        .with_writer(std::io::stderr)
        .with_ansi(std::io::stderr().is_terminal())
        .with_target(false)
        // It would tell of a log that cannot be written where that cannot be written either, and panic.
        .log_internal_errors(false);
    tracing_subscriber::registry()
        .with(filter.unwrap_or(Targets::new().with_default(LevelFilter::INFO)))
        .with(log)
        .init();
    let runtime = match tokio::runtime::Runtime::new() {
        Ok(runtime) => runtime,
        Err(error) => {
            cli::say(format_args!("tickcast: cannot start: {error}"));
            return ExitCode::FAILURE;
        }
    };
    let result = runtime.block_on(async {
        match args.command.unwrap_or(Command::Serve(args.serve)) {
            Command::Serve(args) => cli::serve::run(args).await,
            Command::Watch(args) => cli::watch::run(args).await,
            Command::Publish(args) => cli::publish::run(args).await,
            Command::Record(args) => cli::record::run(args).await,
            Command::Inspect(args) => cli::inspect::run(args).await,
            Command::Convert(args) => cli::convert::run(args).await,
            Command::Bench(args) => cli::bench::run(args).await,
            Command::Scenario(args) => cli::scenario::run(&args),
            Command::Completions(args) => cli::shell::completions(&args, Cli::command()),
            Command::Man(args) => cli::shell::man(&args, Cli::command()),
            Command::Floor => tokio::task::spawn_blocking(cli::bench::floor).await?,
        }
    });
    // Whatever still blocks a thread, such as standard input, ends with the process.
    runtime.shutdown_background();
    result.unwrap_or_else(|error| {
        cli::say(format_args!("tickcast: {error:#}"));
        ExitCode::FAILURE
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn help_fits_a_terminal_of_80_columns() {
        let mut command = Cli::command().term_width(80);
        command.build();
        for command in std::iter::once(&command).chain(command.get_subcommands()) {
            let mut command = command.clone().term_width(80);
            // Examples that had to be broken would be no examples.
            let examples = command.get_after_help().map(ToString::to_string).unwrap_or_default();
            let help = [command.render_long_help(), command.render_help()].map(|help| help.to_string());
            for line in help.iter().chain([&examples]).flat_map(|text| text.lines()) {
                assert!(line.chars().count() <= 80, "{}: {line}", command.get_name());
            }
        }
    }

    #[test]
    fn the_command_line_is_sound() {
        Cli::command().debug_assert();
    }
}
